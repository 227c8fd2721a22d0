"""The error object of Google's APIs, both ways: `{"error": {"code", "message", "status", "details"}}`.

What counts is in `details`: `RetryInfo` says how long to wait, `QuotaFailure` which quota ran out, `ErrorInfo` why.
Bodies also come in an array of one (streams without events), and proxies add shapes of their own; the reader takes any
body and never raises.

Source: https://cloud.google.com/apis/design/errors and google/rpc/error_details.proto, checked 2026-11-24.
"""

import contextlib
import re

import msgspec
from msgspec import Raw, Struct

from cliproxy.canon.errors import Kind, Problem, kind_of_status
from cliproxy.wire.json import encode, is_json, mended


class Quota(Struct, frozen=True, rename="camel"):
    """A quota that ran out, by its id; `quota_value` is what it allows in all, mostly as text."""

    quota_id: str = ""
    quota_value: str | int | float = ""


class _Link(Struct):
    url: str = ""


class _Detail(Struct, rename="camel"):
    retry_delay: str = ""
    reason: str = ""
    metadata: dict[str, object] | None = None
    violations: list[Quota] | None = None
    links: list[_Link] | None = None


class _Error(Struct):
    code: int | None = None
    message: str = ""
    status: str = ""
    details: list[Raw] | None = None


class _ErrorBody(Struct):
    error: _Error


class Told(Struct, frozen=True):
    """What an error says besides its kind: `metadata` by name, `links` for people, and the `quotas` that ran out."""

    reason: str
    metadata: dict[str, str]
    links: tuple[str, ...]
    quotas: tuple[Quota, ...]


class _LooseError(Struct):
    error: Raw = Raw(b"")
    message: str = ""
    detail: str = ""


_detail = msgspec.json.Decoder(_Detail, strict=False)
_error_body = msgspec.json.Decoder(_ErrorBody, strict=False)
_loose_error = msgspec.json.Decoder(_LooseError)
_array = msgspec.json.Decoder(list[Raw])
_string = msgspec.json.Decoder(str)

_STATUS_WORDS: dict[Kind, tuple[int, str]] = {
    "invalid_request": (400, "INVALID_ARGUMENT"),
    "invalid_json": (400, "INVALID_ARGUMENT"),
    "missing_parameter": (400, "INVALID_ARGUMENT"),
    "context_too_long": (400, "INVALID_ARGUMENT"),
    "unauthenticated": (401, "UNAUTHENTICATED"),
    "billing": (403, "PERMISSION_DENIED"),
    "permission": (403, "PERMISSION_DENIED"),
    "not_found": (404, "NOT_FOUND"),
    "model_not_found": (404, "NOT_FOUND"),
    "method_not_allowed": (405, "UNIMPLEMENTED"),
    "request_timeout": (408, "DEADLINE_EXCEEDED"),
    "conflict": (409, "ABORTED"),
    "too_large": (413, "INVALID_ARGUMENT"),
    "upgrade_required": (426, "UNIMPLEMENTED"),
    "rate_limit": (429, "RESOURCE_EXHAUSTED"),
    "quota": (429, "RESOURCE_EXHAUSTED"),
    "internal": (500, "INTERNAL"),
    "unsupported": (501, "UNIMPLEMENTED"),
    "bad_gateway": (502, "UNAVAILABLE"),
    "unreachable": (502, "UNAVAILABLE"),
    "overloaded": (503, "UNAVAILABLE"),
    "no_account": (503, "UNAVAILABLE"),
    "gateway_timeout": (504, "DEADLINE_EXCEEDED"),
}

_REASONS: dict[str, Kind] = {
    "API_KEY_INVALID": "unauthenticated",
    "API_KEY_EXPIRED": "unauthenticated",
    "ACCESS_TOKEN_EXPIRED": "unauthenticated",
    "BILLING_DISABLED": "billing",
    "SERVICE_DISABLED": "permission",
    "RATE_LIMIT_EXCEEDED": "rate_limit",
    "QUOTA_EXHAUSTED": "quota",
    "INSUFFICIENT_G1_CREDITS_BALANCE": "billing",
    "MODEL_CAPACITY_EXHAUSTED": "overloaded",
    "MODEL_CAPACITY_EXCEEDED": "overloaded",
}
"""What `ErrorInfo.reason` says more exactly than the HTTP status: a bad key, for one, comes as a 400."""

_TOO_LONG = re.compile(
    r"token count.{0,80}exceeds|exceeds the maximum number of (?:input )?tokens|context window", re.I
)
_WAIT = re.compile(r"(?:retry in|reset(?:s)? after|retry after|\bafter)\s+((?:\d+(?:\.\d+)?(?:h|ms|m|s))+)", re.I)
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DAILY = re.compile("PerDay|Daily")
_KEY = re.compile(r"AIza[0-9A-Za-z_-]{20,}")
_TAG = re.compile(r"<(script|style).*?</\1>|<[^>]+>", re.I | re.S)
_MAX_MESSAGE_LENGTH = 500


def read_problem(status: int, body: bytes, dialect: str) -> Problem:
    """Any body as a problem of `dialect`. `status` 0 means that it came inside a 200 and the body knows better."""
    error = _error_of(body)
    code = error.code if error.code and 400 <= error.code < 600 else 502
    status = status if status >= 400 else code
    details = _details(error)
    told = _told(details)
    reason = told.reason
    kind = _REASONS.get(reason) or kind_of_status(status)
    if kind == "rate_limit" and (
        "limit: 0" in error.message or any(_DAILY.search(quota.quota_id) for quota in told.quotas)
    ):
        kind = "quota"
    elif kind == "invalid_request" and _TOO_LONG.search(error.message):
        kind = "context_too_long"
    return Problem(
        kind,
        status,
        _KEY.sub("[key]", error.message) or f"The upstream answered with status {status} and no message.",
        code=reason or error.status,
        retry_after=_wait(error.message, details),
        dialect=dialect,
        native=body,
    )


def read_told(body: bytes) -> Told:
    """Never raises; a body of another shape tells nothing."""
    return _told(_details(_error_of(body)))


def write_body(problem: Problem, dialect: str) -> bytes:
    """The whole body of an error answer; a vendor's own goes back to callers of its dialect as it came."""
    if is_native(problem, dialect):
        return problem.native
    status, word = _STATUS_WORDS[problem.kind]
    details: list[dict[str, str]] = []
    if problem.retry_after is not None:
        delay = f"{problem.retry_after:.3f}".rstrip("0").rstrip(".")
        details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{delay}s"})
    return encode({"error": {"code": status, "message": problem.message, "status": word, "details": details}})


def is_native(problem: Problem, dialect: str) -> bool:
    """Whether the problem carries a body that callers of this dialect understand: an error object with its code."""
    return problem.dialect == dialect and is_json(problem.native) and _error_of(problem.native).code is not None


def status_of(problem: Problem, dialect: str) -> int:
    return problem.status if is_native(problem, dialect) else _STATUS_WORDS[problem.kind][0]


def _details(error: _Error) -> list[_Detail]:
    """Those that have the shape that they should have: a strange one must not hide the others."""
    found: list[_Detail] = []
    for raw in error.details or ():
        with contextlib.suppress(msgspec.MsgspecError, RecursionError):
            found.append(_detail.decode(raw))
    return found


def _told(details: list[_Detail]) -> Told:
    return Told(
        next((detail.reason for detail in details if detail.reason), ""),
        _metadata(details),
        tuple(link.url for detail in details for link in detail.links or ()),
        tuple(quota for detail in details for quota in detail.violations or ()),
    )


def _metadata(details: list[_Detail]) -> dict[str, str]:
    return {
        name: value for detail in details for name, value in (detail.metadata or {}).items() if isinstance(value, str)
    }


def _error_of(body: bytes) -> _Error:
    text = body.decode(errors="replace").encode()
    if b"\\u" in text:
        text = mended(text)
    try:
        first = _array.decode(text)[0] if text.lstrip().startswith(b"[") else Raw(text)
    except (msgspec.MsgspecError, RecursionError, IndexError):
        first = Raw(text)
    try:
        return _error_body.decode(first).error
    except (msgspec.MsgspecError, RecursionError):
        return _Error(message=_loose_message(bytes(first)))


def _loose_message(body: bytes) -> str:
    """The words in a body of some other shape: a proxy's page, a bare message, nothing."""
    try:
        loose = _loose_error.decode(body)
        inner = bytes(loose.error)
        said = _string.decode(inner) if inner.startswith(b'"') else loose.message or loose.detail
        if not said and inner.startswith(b"{"):
            said = _loose_error.decode(inner).message
        if said:
            return said
    except (msgspec.MsgspecError, RecursionError):
        pass
    words = " ".join(_TAG.sub(" ", body.decode(errors="replace")).split())
    return words[:_MAX_MESSAGE_LENGTH]


def _wait(message: str, details: list[_Detail]) -> float | None:
    """Seconds that the vendor asks us to wait: `RetryInfo` first, then the quota's own reset, then the words."""
    told = [detail.retry_delay for detail in details if detail.retry_delay]
    told += [delay for detail in details if (delay := _metadata([detail]).get("quotaResetDelay"))]
    told += _WAIT.findall(message)
    spans = _SPAN.findall(told[0]) if told else []
    return sum(float(count) * _SECONDS[unit.lower()] for count, unit in spans) if spans else None
