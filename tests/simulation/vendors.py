"""What vendors say, as bytes: answers whole and streamed, errors inside of streams, refusals, and what they tell of limits.

Each style is one vendor's way with one kind of credential. Shapes are those that vendors document; `mark` is the content,
by which an answer is known again wherever its bytes end up.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from math import ceil

from cliproxy.wire.http import Headers

HOUR = 3600.0
DAY = 86_400.0
_END_OF_SUMMER = 1_793_523_600.0
"""1 November 2026, two o'clock in California."""
_JSON = (b"content-type", b"application/json")
_EVENTS = (b"content-type", b"text/event-stream")


@dataclass(frozen=True, slots=True)
class Words:
    """A complete answer in one dialect. `streamed` is cut so that the first piece has no content, the second has it."""

    whole: str
    streamed: tuple[str, str, str]
    failed: str

    def body(self, mark: str) -> bytes:
        return self.whole.replace("MARK", mark).encode()

    def pieces(self, mark: str) -> tuple[bytes, bytes, bytes]:
        first, content, rest = self.streamed
        return first.encode(), content.replace("MARK", mark).encode(), rest.replace("MARK", mark).encode()


def _event(name: str, data: str) -> str:
    return f"event: {name}\ndata: {data}\n\n"


ANTHROPIC = Words(
    '{"id":"m","type":"message","role":"assistant","model":"real","content":[{"type":"text","text":"MARK"}],'
    '"stop_reason":"end_turn","usage":{"input_tokens":3,"output_tokens":4}}',
    (
        _event(
            "message_start",
            '{"type":"message_start","message":{"id":"m","type":"message","role":"assistant","model":"real",'
            '"content":[],"usage":{"input_tokens":3,"output_tokens":1}}}',
        ),
        _event(
            "content_block_start",
            '{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}',
        )
        + _event(
            "content_block_delta",
            '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"MARK"}}',
        ),
        _event("content_block_stop", '{"type":"content_block_stop","index":0}')
        + _event(
            "message_delta",
            '{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":4}}',
        )
        + _event("message_stop", '{"type":"message_stop"}'),
    ),
    _event("error", '{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}'),
)
_CHUNK = '{"id":"c","object":"chat.completion.chunk","created":1,"model":"real","choices":[{"index":0,"delta":%s,"finish_reason":%s}]%s}'
_COUNTS = '"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}'
CHAT = Words(
    '{"id":"c","object":"chat.completion","created":1,"model":"real","choices":[{"index":0,"message":{"role":"assistant",'
    '"content":"MARK"},"finish_reason":"stop"}],' + _COUNTS + "}",
    (
        "data: " + _CHUNK % ('{"role":"assistant"}', "null", "") + "\n\n",
        "data: " + _CHUNK % ('{"content":"MARK"}', "null", "") + "\n\n",
        "data: " + _CHUNK % ("{}", '"stop"', "," + _COUNTS) + "\n\ndata: [DONE]\n\n",
    ),
    'data: {"error":{"message":"The server is overloaded","type":"server_error","param":null,"code":null}}\n\n',
)
_MESSAGE = '{"type":"message","id":"i","role":"assistant","status":"completed","content":[{"type":"output_text","text":"MARK","annotations":[]}]}'
_RESPONSE = '{"id":"r","object":"response","created_at":1,"model":"real","status":"%s","output":[%s]%s}'
_TOKENS = ',"usage":{"input_tokens":3,"output_tokens":4,"total_tokens":7}'
RESPONSES = Words(
    _RESPONSE % ("completed", _MESSAGE, _TOKENS),
    (
        _event(
            "response.created",
            '{"type":"response.created","response":%s,"sequence_number":0}' % (_RESPONSE % ("in_progress", "", "")),
        ),
        _event(
            "response.output_item.added",
            '{"type":"response.output_item.added","output_index":0,"item":{"type":"message","id":"i","role":"assistant",'
            '"status":"in_progress","content":[]},"sequence_number":1}',
        )
        + _event(
            "response.output_text.delta",
            '{"type":"response.output_text.delta","item_id":"i","output_index":0,"content_index":0,"delta":"MARK",'
            '"sequence_number":2}',
        ),
        _event(
            "response.output_item.done",
            '{"type":"response.output_item.done","output_index":0,"sequence_number":3,"item":' + _MESSAGE + "}",
        )
        + _event(
            "response.completed",
            '{"type":"response.completed","response":%s,"sequence_number":4}'
            % (_RESPONSE % ("completed", _MESSAGE, _TOKENS)),
        ),
    ),
    _event(
        "response.failed",
        '{"type":"response.failed","response":{"id":"r","object":"response","created_at":1,"model":"real",'
        '"status":"failed","error":{"code":"server_error","message":"The server had an error"},"output":[]},'
        '"sequence_number":5}',
    ),
)
_CANDIDATE = '{"candidates":[{"content":{"role":"model","parts":[{"text":"%s"}]}%s}]%s,"modelVersion":"real"}'
_METADATA = ',"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":4,"totalTokenCount":7}'
GEMINI = Words(
    _CANDIDATE % ("MARK", ',"finishReason":"STOP"', _METADATA),
    (
        ": hello\n\n",
        "data: " + _CANDIDATE % ("MARK", "", "") + "\n\n",
        "data: " + _CANDIDATE % (".", ',"finishReason":"STOP"', _METADATA) + "\n\n",
    ),
    'data: {"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}}\n\n',
)


@dataclass(frozen=True, slots=True)
class Told:
    """A refusal: its head and body, the faults that it may honestly be taken for, and the moment until which the vendor
    says that it will last (monotonic seconds); None when it does not say."""

    status: int
    headers: Headers
    body: bytes
    faults: frozenset[str]
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Style:
    """`ways` are the quotas that such accounts have: name, seconds, whether each model has its own. `full` says that one
    is used up: name, `now`, the true epoch, when it is full again."""

    name: str
    words: Words
    ways: tuple[tuple[str, float, bool], ...]
    full: Callable[[str, float, float, float], Told]
    left: Callable[[Iterable[tuple[str, int, int, float]], float, float], Headers]
    troubles: dict[str, tuple[int, str, frozenset[str]]]
    is_login: bool = False


def date(at: float) -> tuple[bytes, bytes]:
    return b"date", format_datetime(datetime.fromtimestamp(int(at), UTC), usegmt=True).encode()


def _moment(at: float) -> bytes:
    return datetime.fromtimestamp(ceil(at), UTC).isoformat().replace("+00:00", "Z").encode()


def _number(value: float) -> bytes:
    return str(ceil(value)).encode()


_QUOTA = frozenset({"quota", "exhausted"})


def bare(style: Style, at: float) -> Told:
    """Out of quota, and no word of when that ends."""
    bodies = {
        ANTHROPIC: b'{"type":"error","error":{"type":"rate_limit_error","message":"Too many requests"}}',
        GEMINI: b'{"error":{"code":429,"message":"Resource has been exhausted","status":"RESOURCE_EXHAUSTED"}}',
    }
    body = bodies.get(
        style.words, b'{"error":{"message":"Rate limit reached","type":"requests","code":"rate_limit_exceeded"}}'
    )
    return Told(429, (_JSON, date(at)), body, _QUOTA)


# -- how each says that something is used up


def _claude_key_full(name: str, now: float, at: float, until: float) -> Told:
    seconds = ceil(until - now)
    headers = (
        _JSON,
        date(at),
        (b"retry-after", str(seconds).encode()),
        (b"anthropic-ratelimit-requests-limit", b"50"),
        (b"anthropic-ratelimit-requests-remaining", b"0"),
        (b"anthropic-ratelimit-requests-reset", _moment(at + seconds)),
    )
    body = b'{"type":"error","error":{"type":"rate_limit_error","message":"This request would exceed your rate limit"}}'
    return Told(429, headers, body, _QUOTA, until)


def _claude_key_left(windows: Iterable[tuple[str, int, int, float]], now: float, at: float) -> Headers:
    return tuple(
        pair
        for _, limit, used, until in windows
        for pair in (
            (b"anthropic-ratelimit-requests-limit", b"%d" % limit),
            (b"anthropic-ratelimit-requests-remaining", b"%d" % (limit - used)),
            (b"anthropic-ratelimit-requests-reset", _moment(at + until - now)),
        )
    )


def _claude_plan_full(name: str, now: float, at: float, until: float) -> Told:
    reset = _number(at + until - now)
    headers = (
        _JSON,
        date(at),
        (b"retry-after", _number(until - now)),
        (b"anthropic-ratelimit-unified-status", b"rejected"),
        (b"anthropic-ratelimit-unified-reset", reset),
        (b"anthropic-ratelimit-unified-%b-status" % name.encode(), b"rejected"),
        (b"anthropic-ratelimit-unified-%b-reset" % name.encode(), reset),
    )
    body = b'{"type":"error","error":{"type":"rate_limit_error","message":"This request would exceed your account\'s rate limit"}}'
    return Told(429, headers, body, _QUOTA, until)


def _claude_plan_left(windows: Iterable[tuple[str, int, int, float]], now: float, at: float) -> Headers:
    told: list[tuple[bytes, bytes]] = [(b"anthropic-ratelimit-unified-status", b"allowed")]
    for name, limit, used, until in windows:
        which = b"anthropic-ratelimit-unified-" + name.encode()
        told += [
            (which + b"-status", b"allowed"),
            (which + b"-reset", _number(at + until - now)),
            (which + b"-utilization", b"%.2f" % (used / limit)),
        ]
    return tuple(told)


def _openai_full(name: str, now: float, at: float, until: float) -> Told:
    wait = until - now
    headers = (
        _JSON,
        date(at),
        (b"x-ratelimit-limit-requests", b"500"),
        (b"x-ratelimit-remaining-requests", b"0"),
        (b"x-ratelimit-reset-requests", b"%dh%dm%.3fs" % (wait // 3600, wait % 3600 // 60, wait % 60)),
    )
    body = b'{"error":{"message":"Rate limit reached for requests","type":"requests","param":null,"code":"rate_limit_exceeded"}}'
    return Told(429, headers, body, _QUOTA, until)


def _openai_left(windows: Iterable[tuple[str, int, int, float]], now: float, at: float) -> Headers:
    return tuple(
        pair
        for _, limit, used, until in windows
        for pair in (
            (b"x-ratelimit-limit-requests", b"%d" % limit),
            (b"x-ratelimit-remaining-requests", b"%d" % (limit - used)),
            (b"x-ratelimit-reset-requests", b"%.3fs" % (until - now)),
        )
    )


def _codex_plan_full(name: str, now: float, at: float, until: float) -> Told:
    body = (
        b'{"error":{"type":"usage_limit_reached","message":"The usage limit has been reached","plan_type":"plus",'
        b'"resets_at":%d}}' % ceil(at + until - now)
    )
    return Told(429, (_JSON, date(at)), body, _QUOTA, until)


def _codex_plan_left(windows: Iterable[tuple[str, int, int, float]], now: float, at: float) -> Headers:
    told: list[tuple[bytes, bytes]] = []
    for name, limit, used, until in windows:
        which = b"x-codex-primary" if name == "5h" else b"x-codex-secondary"
        told += [
            (which + b"-used-percent", b"%.1f" % (100 * used / limit)),
            (which + b"-window-minutes", b"300" if name == "5h" else b"10080"),
            (which + b"-reset-after-seconds", _number(until - now)),
        ]
    return tuple(told)


def _gemini_full(name: str, now: float, at: float, until: float) -> Told:
    quota = f"GenerateRequestsPer{name}PerProjectPerModel-FreeTier"
    failure = {
        "@type": "type.googleapis.com/google.rpc.QuotaFailure",
        "violations": [{"quotaId": quota, "quotaValue": "15"}],
    }
    delay = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{until - now:.3f}s"}
    details = [failure] if name == "Day" else [failure, delay]
    error = {
        "code": 429,
        "message": "You exceeded your current quota.",
        "status": "RESOURCE_EXHAUSTED",
        "details": details,
    }
    return Told(429, (_JSON, date(at)), json.dumps({"error": error}).encode(), _QUOTA, until)


def _compatible_full(name: str, now: float, at: float, until: float) -> Told:
    headers = (_JSON, date(at), (b"retry-after", _number(until - now)))
    return Told(429, headers, b'{"error":{"message":"slow down"}}', _QUOTA, until)


def _nothing_left(windows: Iterable[tuple[str, int, int, float]], now: float, at: float) -> Headers:
    return ()


def midnight_pacific(now: float, at: float) -> float:
    """When the day ends in California; `now` is `at` epoch seconds. It is 7 hours behind in summer, else 8."""
    end = _next(7, at)
    return now - at + (end if end < _END_OF_SUMMER else _next(8, max(at, _END_OF_SUMMER)))


def _next(hour: int, at: float) -> float:
    """The next time at which it is `hour` o'clock, UTC."""
    return at + DAY - (at - hour * HOUR) % DAY


# -- troubles: status, body, what it may be taken for

_AUTH, _FORBIDDEN, _BILLING, _MISSING, _SUSPENDED = (
    frozenset({name}) for name in ("auth", "forbidden", "billing", "missing", "suspended")
)


def _anthropic_error(kind: str, message: str) -> str:
    return json.dumps({"type": "error", "error": {"type": kind, "message": message}})


def _openai_error(code: str, message: str) -> str:
    return json.dumps({"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}})


def _google_error(code: int, status: str, message: str, reason: str = "") -> str:
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}] if reason else []
    return json.dumps({"error": {"code": code, "message": message, "status": status, "details": details}})


_ANTHROPIC_TROUBLES = {
    "auth": (401, _anthropic_error("authentication_error", "invalid x-api-key"), _AUTH),
    "forbidden": (403, _anthropic_error("permission_error", "Your API key does not have permission"), _FORBIDDEN),
    "billing": (
        400,
        _anthropic_error("invalid_request_error", "Your credit balance is too low to access the Anthropic API."),
        _BILLING,
    ),
    "missing": (404, _anthropic_error("not_found_error", "model: MODEL"), _MISSING),
}
_CLAUDE_PLAN_TROUBLES = _ANTHROPIC_TROUBLES | {
    "suspended": (400, _anthropic_error("invalid_request_error", "This organization has been disabled."), _SUSPENDED)
}
_OPENAI_TROUBLES = {
    "auth": (401, _openai_error("invalid_api_key", "Incorrect API key provided"), _AUTH),
    "forbidden": (403, _openai_error("country_not_supported", "Country not supported"), _FORBIDDEN),
    "billing": (
        429,
        _openai_error("insufficient_quota", "You exceeded your current quota, check your plan."),
        _BILLING,
    ),
    "missing": (404, _openai_error("model_not_found", "The model `MODEL` does not exist"), _MISSING),
}
_CODEX_PLAN_TROUBLES = _OPENAI_TROUBLES | {
    "suspended": (401, _openai_error("account_deactivated", "Your account has been deactivated."), _SUSPENDED)
}
_GOOGLE_TROUBLES = {
    "auth": (400, _google_error(400, "INVALID_ARGUMENT", "API key not valid.", "API_KEY_INVALID"), _AUTH),
    "forbidden": (403, _google_error(403, "PERMISSION_DENIED", "Permission denied"), _FORBIDDEN),
    "billing": (403, _google_error(403, "PERMISSION_DENIED", "Billing is disabled", "BILLING_DISABLED"), _BILLING),
    "missing": (404, _google_error(404, "NOT_FOUND", "models/MODEL is not found for API version v1beta"), _MISSING),
}
_COMPATIBLE_TROUBLES = _OPENAI_TROUBLES | {"billing": (402, '{"error":{"message":"Payment required"}}', _BILLING)}

STYLES = (
    Style(
        "claude", ANTHROPIC, (("requests", 60.0, False),), _claude_key_full, _claude_key_left, _ANTHROPIC_TROUBLES,
    ),
    Style(
        "claude-plan", ANTHROPIC, (("5h", 5 * 3600.0, False), ("7d", 7 * DAY, False)), _claude_plan_full, _claude_plan_left,
        _CLAUDE_PLAN_TROUBLES, is_login=True,
    ),
    Style(
        "codex", RESPONSES, (("requests", 60.0, True),), _openai_full, _openai_left, _OPENAI_TROUBLES,
    ),
    Style(
        "codex-plan", RESPONSES, (("5h", 5 * 3600.0, False), ("7d", 7 * DAY, False)), _codex_plan_full, _codex_plan_left,
        _CODEX_PLAN_TROUBLES, is_login=True,
    ),
    Style(
        "gemini", GEMINI, (("Minute", 60.0, True), ("Day", 0.0, True)), _gemini_full, _nothing_left,
        _GOOGLE_TROUBLES,
    ),
    Style(
        "compatible", CHAT, (("minute", 60.0, True), ("day", DAY, True)), _compatible_full,
        _nothing_left, _COMPATIBLE_TROUBLES,
    ),
)  # fmt: skip


def trouble(style: Style, name: str, model: str, at: float) -> Told:
    status, body, faults = style.troubles[name]
    return Told(status, (_JSON, date(at)), body.replace("MODEL", model).encode(), faults)


SOFT = frozenset({"overload", "network", "broken"})
_OUTAGES = {500: b'{"error":{"message":"internal"}}', 502: b"<html>Bad gateway</html>", 503: b"", 529: b"{}"}


def outage(status: int, at: float) -> Told:
    return Told(status, (date(at),), _OUTAGES[status], SOFT)


def challenge(at: float) -> Told:
    return Told(
        403, (date(at), (b"cf-mitigated", b"challenge")), b"<html>Just a moment...</html>", frozenset({"challenge"})
    )


def served(is_stream: bool, told: Headers, at: float) -> Headers:
    return (_EVENTS if is_stream else _JSON, date(at), *told)
