"""What OpenAI's Chat and Responses endpoints share: keys, headers, error bodies, faults in OpenAI's words, models.

Sources: https://platform.openai.com/docs/guides/error-codes, https://platform.openai.com/docs/api-reference/debugging-requests,
checked 2026-10-20.
"""

import re
from typing import TypeVar

from cliproxy.simulator.exchange import Json, Misfit, Received, Refused, Reply, bracketed, decode_base64, write_json

Shape = TypeVar("Shape")

CREATED = 1_767_225_600  # 2026-01-01: answers never read a clock
NAME = r"^[a-zA-Z0-9_-]{1,64}$"

_LIMIT_HEADERS = (
    ("openai-organization", "org-simulated"),
    ("openai-version", "2020-10-01"),
    ("openai-processing-ms", "1"),
    ("x-ratelimit-limit-requests", "10000"),
    ("x-ratelimit-remaining-requests", "9999"),
    ("x-ratelimit-reset-requests", "6ms"),
    ("x-ratelimit-limit-tokens", "2000000"),
    ("x-ratelimit-remaining-tokens", "1999000"),
    ("x-ratelimit-reset-tokens", "30ms"),
)
# status: (error.type, error.code)
ERRORS: dict[int, tuple[str, str | None]] = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("invalid_request_error", "unsupported_country_region_territory"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("requests", "rate_limit_exceeded"),
    500: ("server_error", None),
    503: ("server_error", "server_is_overloaded"),
    529: ("server_error", "server_is_overloaded"),
}
_DATA_URL = re.compile(r"data:([\w.+/-]+)(?:;[^,]*)?;base64,(.*)", re.DOTALL)
_MISFIT_CODES = {"unknown": "unknown_parameter", "missing": "missing_required_parameter", "wrong": "invalid_type"}
_MODELS = ("gpt-5", "gpt-5-mini", "gpt-5-codex", "gpt-4.1", "gpt-4o-mini", "o4-mini")


def admit(request: Received) -> None:
    if not request.bearer:
        raise Refused(
            "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
            "(i.e. Authorization: Bearer YOUR_KEY).",
            status=401,
            kind="",
        )
    if not request.bearer.startswith("sk-sim"):
        raise Refused(
            "Incorrect API key provided: ***. You can find your API key at https://platform.openai.com/account/api-keys.",
            status=401,
        )


def headers(request: Received) -> tuple[tuple[str, str], ...]:
    return (("x-request-id", request.request_id), *_LIMIT_HEADERS)


def error_body(status: int, message: str, param: str | None = None, kind: str | None = None) -> dict[str, Json]:
    """`kind` replaces the code that goes with the status; an empty one means no code."""
    type_, code = ERRORS.get(status, ERRORS[500])
    return {
        "error": {"message": message, "type": type_, "param": param, "code": code if kind is None else kind or None}
    }


def refuse(refused: Refused, request_id: str) -> Reply:
    body = error_body(refused.status, refused.message, refused.param, refused.kind)
    return Reply(status=refused.status, headers=(("x-request-id", request_id),), frames=(write_json(body),))


def misfit(fault: Misfit) -> Refused:
    place = bracketed(fault.path)
    says = {
        "unknown": f"Unknown parameter: '{place}'.",
        "missing": f"Missing required parameter: '{place}'.",
        "wrong": f"Invalid type for '{place}': {fault.says}.",
    }[fault.kind]
    return Refused(says, param=place, kind=_MISFIT_CODES[fault.kind])


def unparsable() -> Refused:
    return Refused(
        "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library "
        "correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON.)"
    )


def strict_fault(place: str, label: str, message: str, kind: str) -> Refused:
    return Refused(f"Invalid schema for {label}: {message}", param=place, kind=kind)


def models(request: Received) -> Reply:
    rows: list[Json] = [{"id": name, "object": "model", "created": CREATED, "owned_by": "system"} for name in _MODELS]
    return Reply(headers=headers(request), frames=(write_json({"object": "list", "data": rows}),))


def medium(url: str, noun: str, place: str) -> str:
    """`image/png 68 bytes` or `image URL`; refuses what is neither a base64 data URL nor, but for audio, an address."""
    if noun != "audio" and re.match(r"https?://", url):
        return f"{noun} URL"
    match = _DATA_URL.fullmatch(url)
    decoded = decode_base64(match[2]) if match else None
    if match is None or not decoded:
        raise Refused(
            f"Invalid '{place}'. Expected a base64-encoded data URL with a media type.",
            param=place,
            kind="invalid_value",
        )
    return f"{match[1]} {len(decoded)} bytes"
