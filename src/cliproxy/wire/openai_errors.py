"""The error object of OpenAI's dialects, both ways: `{"error": {"message", "type", "param", "code"}}`.

Chat Completions and Responses share it, and so do most servers that call themselves compatible, each with its own
accent. The reader therefore takes any body and never raises; the writer says what official SDKs and Codex act upon:
the codes `context_length_exceeded`, `insufficient_quota`, `rate_limit_exceeded` and `server_is_overloaded`, and the
phrase "try again in Ns", from which Codex reads how long to wait.

Source: https://platform.openai.com/docs/guides/error-codes, checked 2026-11-24; the Codex CLI's `codex-api` crate
(`sse/responses.rs`), read 2026-11-24.
"""

import re
import zlib
from collections.abc import Mapping, Sequence
from typing import TypeGuard

import msgspec
from msgspec import Struct, structs

from cliproxy.canon.errors import Kind, Problem, kind_of_status
from cliproxy.wire.json import encode, mended


class _Row(Struct, frozen=True):
    status: int
    type: str
    code: str = ""


_ROWS: dict[Kind, _Row] = {
    "invalid_request": _Row(400, "invalid_request_error"),
    "invalid_json": _Row(400, "invalid_request_error", "invalid_json"),
    "missing_parameter": _Row(400, "invalid_request_error", "missing_required_parameter"),
    "context_too_long": _Row(400, "invalid_request_error", "context_length_exceeded"),
    "unauthenticated": _Row(401, "authentication_error", "invalid_api_key"),
    "billing": _Row(402, "insufficient_quota", "insufficient_quota"),
    "permission": _Row(403, "permission_error"),
    "not_found": _Row(404, "invalid_request_error", "not_found"),
    "model_not_found": _Row(404, "invalid_request_error", "model_not_found"),
    "method_not_allowed": _Row(405, "invalid_request_error", "method_not_allowed"),
    "request_timeout": _Row(408, "request_timeout", "request_timeout"),
    "conflict": _Row(409, "conflict", "conflict"),
    "too_large": _Row(413, "invalid_request_error", "request_too_large"),
    "upgrade_required": _Row(426, "invalid_request_error", "upgrade_required"),
    "rate_limit": _Row(429, "rate_limit_error", "rate_limit_exceeded"),
    "quota": _Row(429, "insufficient_quota", "insufficient_quota"),
    "internal": _Row(500, "server_error", "internal_error"),
    "unsupported": _Row(501, "invalid_request_error", "unsupported"),
    "bad_gateway": _Row(502, "server_error", "bad_gateway"),
    "unreachable": _Row(502, "server_error", "upstream_unreachable"),
    "overloaded": _Row(503, "server_error", "server_is_overloaded"),
    "gateway_timeout": _Row(504, "server_error", "timeout"),
    "no_account": _Row(503, "server_error", "no_credentials"),
}

# Words of `error.code` and, where a server leaves the code out, of `error.type`. Words that speak of no one cause
# (`invalid_request_error`, `server_error`, `api_error`) are absent: the HTTP status tells more.
_KIND_OF_WORD: dict[str, Kind] = {
    "context_length_exceeded": "context_too_long",
    "invalid_prompt": "invalid_request",
    "invalid_request": "invalid_request",
    "cyber_policy": "invalid_request",
    "invalid_encrypted_content": "invalid_request",
    "unsupported_parameter": "invalid_request",
    "unsupported_value": "invalid_request",
    "invalid_json": "invalid_json",
    "missing_required_parameter": "missing_parameter",
    "authentication": "unauthenticated",
    "authentication_error": "unauthenticated",
    "invalid_api_key": "unauthenticated",
    "token_expired": "unauthenticated",
    "token_invalidated": "unauthenticated",
    "permission": "permission",
    "permission_error": "permission",
    "not_found": "not_found",
    "not_found_error": "not_found",
    "model_not_found": "model_not_found",
    "method_not_allowed": "method_not_allowed",
    "request_timeout": "request_timeout",
    "conflict": "conflict",
    "request_too_large": "too_large",
    "rate_limit": "rate_limit",
    "rate_limit_exceeded": "rate_limit",
    "rate_limit_error": "rate_limit",
    "requests": "rate_limit",
    "tokens": "rate_limit",
    "insufficient_quota": "quota",
    "billing_hard_limit_reached": "quota",
    "usage_limit_reached": "quota",
    "usage_not_included": "quota",
    "server_is_overloaded": "overloaded",
    "slow_down": "overloaded",
    "overloaded": "overloaded",
    "overloaded_error": "overloaded",
    "timeout": "gateway_timeout",
}

_KIND_OF_PHRASE: tuple[tuple[str, Kind], ...] = (
    ("maximum context length", "context_too_long"),
    ("exceeds the context window", "context_too_long"),
    ("prompt is too long", "context_too_long"),
)
_AT_CAPACITY = re.compile(r"(?:(?:the|selected) )?model is at capacity", re.IGNORECASE)
"""How a message begins: messages repeat what callers have sent, and this one puts an account to rest."""

_OF_PLANS = ("plan_type", "resets_at", "resets_in_seconds")
_ENDLESS = 1e12
"""Seconds from which on a number is no wait; some do not even fit into a float."""
_WAIT = re.compile(r"try again in\s+((?:\d+(?:\.\d+)?\s*(?:ms|hours?|minutes?|seconds?|[hms])\s*)+)", re.IGNORECASE)
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|h|m|s)", re.IGNORECASE)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_MESSAGE_LIMIT = 4000
_INFLATED_LIMIT = 1 << 20
_value = msgspec.json.Decoder(object)


def read_error(status: int, body: bytes, dialect: str) -> Problem:
    """The problem that an error answer speaks of, whatever its body looks like.

    `status` is the HTTP status, or 0 when the error stood inside a stream; then the problem's status follows from its
    code, and an unknown code is a 502. `native` is then the error as it would stand in an answer of its own.
    """
    is_body, is_in_stream = status > 0, status == 0
    body = _inflated(body)
    value = _decoded(body)
    found = _error_in(value)
    is_error = found is not None
    if found is None:
        message = _described(status, body) if value is None else value if isinstance(value, str) else ""
        found = {"message": message}
        is_body = False
    word, type_, message = _text(found, "code"), _text(found, "type"), _message(found, status)
    if word.isdigit():
        status, word = status or int(word), ""
    if not 400 <= status < 600:
        status = 0
    kind = _kind(status, word, type_, message)
    problem = Problem(
        kind,
        status or _ROWS[kind].status,
        message,
        code=_code(word, type_),
        param=_text(found, "param"),
        retry_after=_retry_after(found, message),
        dialect=dialect,
        native=body if is_body else b"",
    )
    return structs.replace(problem, native=_as_body(problem, found)) if is_in_stream and is_error else problem


def write_error(problem: Problem, dialect: str) -> bytes:
    """The body of an error answer; an upstream's own body when it spoke the caller's dialect."""
    if problem.native and problem.dialect == dialect:
        return problem.native
    return encode({"error": error_object(problem)})


def error_object(problem: Problem) -> dict[str, object]:
    """`{"message", "type", "param", "code"}`, absent words as null."""
    return {
        "message": message_of(problem),
        "type": _ROWS[problem.kind].type,
        "param": problem.param or None,
        "code": code_of(problem) or None,
    }


def message_of(problem: Problem) -> str:
    """The message, with the waiting time that Codex looks for when there is one."""
    if problem.kind != "rate_limit" or problem.retry_after is None or _WAIT.search(problem.message):
        return problem.message
    return f"{problem.message} Please try again in {problem.retry_after:.3f}".rstrip("0").rstrip(".") + "s."


def code_of(problem: Problem) -> str:
    """The vendor's code where it says what our kind says; else the code that clients know for the kind."""
    if _KIND_OF_WORD.get(problem.code) == problem.kind:
        return problem.code
    is_foreign = bool(problem.dialect) and not problem.dialect.startswith("openai")
    return _ROWS[problem.kind].code or ("" if is_foreign else problem.code)


def status_of(problem: Problem) -> int:
    """As the upstream said, except where clients of these dialects expect otherwise."""
    row = _ROWS[problem.kind]
    is_known = 400 <= problem.status < 600 and problem.status != 529
    return row.status if problem.kind == "context_too_long" or not is_known else problem.status


def _kind(status: int, word: str, type_: str, message: str) -> Kind:
    kind = _KIND_OF_WORD.get(word) or _KIND_OF_WORD.get(type_)
    if kind is not None:
        return kind
    lowered = message.lower()
    for phrase, spoken in _KIND_OF_PHRASE:
        if phrase in lowered:
            return spoken
    if _AT_CAPACITY.match(message):
        return "rate_limit"
    return kind_of_status(status) if status >= 400 else "bad_gateway"


def _code(word: str, type_: str) -> str:
    """Some servers have a code of their own beside a type that everybody knows, or only that."""
    return type_ if type_ in _KIND_OF_WORD and word not in _KIND_OF_WORD else word


def _as_body(problem: Problem, found: Mapping[str, object]) -> bytes:
    """An error inside of a stream as the body that it would have been as an answer of its own."""
    kept = {name: found[name] for name in _OF_PLANS if isinstance(found.get(name), (int, float, str))}
    return encode({"error": {**error_object(problem), **kept}})


def _inflated(body: bytes) -> bytes:
    """Some servers compress errors without saying so in a header."""
    if not body.startswith(b"\x1f\x8b"):
        return body
    try:
        return zlib.decompressobj(wbits=31).decompress(body, _INFLATED_LIMIT)
    except zlib.error:
        return body


def _decoded(body: bytes) -> object:
    try:
        return _value.decode(mended(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _error_in(value: object, depth: int = 0) -> Mapping[str, object] | None:
    """The innermost error object: bodies come wrapped in lists, in `response`, and as JSON inside messages."""
    if _is_list(value) and value:
        return _error_in(value[0], depth + 1)
    if not _is_object(value) or depth > 4:
        return None
    fields = value
    for name in ("error", "response", "detail"):
        member = fields.get(name)
        if isinstance(member, str) and member.strip():
            return _error_in(_decoded(member.encode()), depth + 1) or {**fields, "message": member}
        if _is_list(member) and name == "detail":
            return {"message": "; ".join(_complaint(entry) for entry in member)}
        if (inner := _error_in(member, depth + 1)) is not None:
            return inner
    message = fields.get("message") or fields.get("msg")
    if isinstance(message, str) and message.lstrip().startswith(("{", "[")):
        return _error_in(_decoded(message.encode()), depth + 1) or fields
    is_error = isinstance(message, str) or "code" in fields or _text(fields, "type") in _KIND_OF_WORD
    return fields if is_error else None


def _complaint(entry: object) -> str:
    """One entry of the validation errors that FastAPI servers list under `detail`."""
    if not _is_object(entry):
        return str(entry)
    place = entry.get("loc")
    where = ".".join(str(step) for step in place) if _is_list(place) else ""
    return f"{where}: {entry.get('msg')}" if where else str(entry.get("msg"))


def _is_object(value: object) -> TypeGuard[Mapping[str, object]]:
    return isinstance(value, dict)


def _is_list(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, list)


def _text(fields: Mapping[str, object], name: str) -> str:
    value = fields.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value.strip() if isinstance(value, str) else ""


def _message(fields: Mapping[str, object], status: int) -> str:
    message = _text(fields, "message") or _text(fields, "msg") or _text(fields, "code")
    return message or f"The upstream answered {status or 'with an error'} and no reason."


def _described(status: int, body: bytes) -> str:
    """What to tell of a body that is no JSON: the title of a web page, else the text itself."""
    text = body[:_MESSAGE_LIMIT].decode("utf-8", "replace").strip()
    if not text:
        return f"The upstream answered {status or 'with an error'} without a body."
    if title := _TITLE.search(text):
        return f"The upstream answered {status} with a web page: {' '.join(title[1].split())}"
    if text.startswith("<"):
        return f"The upstream answered {status} with a web page."
    return text


def _retry_after(fields: Mapping[str, object], message: str) -> float | None:
    """Seconds. `resets_at` is left to those who have a clock."""
    stated = fields.get("resets_in_seconds")
    if isinstance(stated, (int, float)) and not isinstance(stated, bool) and 0 <= stated < _ENDLESS:
        return float(stated)
    if (match := _WAIT.search(message)) is None:
        return None
    return sum(float(number) * _SECONDS[unit.lower()] for number, unit in _SPAN.findall(match[1]))
