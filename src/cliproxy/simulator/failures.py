"""Ready-made answers for rules: each vendor's own way to say limited, exhausted, overloaded, unauthorized.

Sources: https://ai.google.dev/gemini-api/docs/rate-limits, https://docs.claude.com/en/api/rate-limits,
https://platform.openai.com/docs/guides/rate-limits, checked 2026-10-20.
"""

import time
from datetime import UTC, datetime

from cliproxy.simulator import anthropic, gemini, openai_edge
from cliproxy.simulator.exchange import Json, VendorName, write_json
from cliproxy.simulator.rules import Answer

_GOOGLE_TYPE = "type.googleapis.com/google.rpc."
_MESSAGES = {
    400: "The request is not valid.",
    401: "Invalid authentication credentials",
    403: "Your credential has no permission for this resource.",
    404: "The requested model was not found.",
    429: "Rate limit reached for requests.",
    500: "Internal server error",
    503: "The server is currently overloaded. Please try again later.",
    529: "Overloaded",
}


def failure(vendor: VendorName, status: int, message: str | None = None) -> Answer:
    """The vendor's error body for this status, without any header that tells when to come back."""
    says = message or _MESSAGES.get(status, "Something went wrong.")
    match vendor:
        case "anthropic":
            body = anthropic.error_body(status, says, "req_scripted")
        case "gemini":
            body = gemini.error_body(status, says)
        case "openai-chat" | "openai-responses":
            body = openai_edge.error_body(status, says)
    return _answer(status, body)


def rate_limited(vendor: VendorName, retry_after: float = 2.0, now: float | None = None) -> Answer:
    """A 429 that passes after `retry_after` seconds, said as this vendor says it; `now` is epoch seconds."""
    wait = f"{max(1, round(retry_after))}"
    match vendor:
        case "anthropic":
            body = anthropic.error_body(
                429, "This request would exceed your organization's rate limit.", "req_scripted"
            )
            reset = _rfc3339(_epoch(now) + retry_after)
            return _answer(
                429,
                body,
                {
                    "retry-after": wait,
                    "anthropic-ratelimit-requests-limit": "50",
                    "anthropic-ratelimit-requests-remaining": "0",
                    "anthropic-ratelimit-requests-reset": reset,
                },
            )
        case "gemini":
            return _answer(429, _google_quota("PerMinute", f"{retry_after:g}s", "15"))
        case "openai-chat" | "openai-responses":
            says = (
                f"Rate limit reached for requests. Limit 3, Used 3, Requested 1. Please try again in {retry_after:g}s."
            )
            return _answer(
                429,
                openai_edge.error_body(429, says),
                {
                    "retry-after": wait,
                    "retry-after-ms": f"{round(retry_after * 1000)}",
                    "x-ratelimit-limit-requests": "3",
                    "x-ratelimit-remaining-requests": "0",
                    "x-ratelimit-reset-requests": f"{retry_after:g}s",
                },
            )


def quota_exhausted(vendor: VendorName, resets_in: float = 3600.0, now: float | None = None) -> Answer:
    """A 429 that says the plan or the day is used up; `now` is epoch seconds."""
    match vendor:
        case "anthropic":
            reset = f"{round(_epoch(now) + resets_in)}"
            headers = {
                "anthropic-ratelimit-unified-status": "rejected",
                "anthropic-ratelimit-unified-reset": reset,
                "anthropic-ratelimit-unified-5h-status": "rejected",
                "anthropic-ratelimit-unified-5h-reset": reset,
                "anthropic-ratelimit-unified-representative-claim": "five_hour",
                "retry-after": f"{round(resets_in)}",
            }
            return _answer(
                429, anthropic.error_body(429, "You have reached your usage limit.", "req_scripted"), headers
            )
        case "gemini":
            return _answer(429, _google_quota("PerDay", None, "250"))
        case "openai-chat":
            says = "You exceeded your current quota, please check your plan and billing details."
            error: Json = {"message": says, "type": "insufficient_quota", "param": None, "code": "insufficient_quota"}
            return _answer(429, {"error": error})
        case "openai-responses":
            limit: Json = {
                "type": "usage_limit_reached",
                "message": "The usage limit has been reached",
                "plan_type": "plus",
                "resets_at": round(_epoch(now) + resets_in),
                "resets_in_seconds": round(resets_in),
            }
            return _answer(429, {"error": limit})


def _google_quota(period: str, delay: str | None, limit: str) -> dict[str, Json]:
    metric = "generativelanguage.googleapis.com/generate_content_free_tier_requests"
    violation: Json = {
        "quotaMetric": metric,
        "quotaId": f"GenerateRequests{period}PerProjectPerModel-FreeTier",
        "quotaDimensions": {"location": "global", "model": "gemini-2.5-pro"},
        "quotaValue": limit,
    }
    details: list[Json] = [{"@type": _GOOGLE_TYPE + "QuotaFailure", "violations": [violation]}]
    says = f"You exceeded your current quota.\n* Quota exceeded for metric: {metric}, limit: {limit}"
    if delay is not None:
        details.append({"@type": _GOOGLE_TYPE + "RetryInfo", "retryDelay": delay})
        says += f"\nPlease retry in {delay}."
    return gemini.error_body(429, says, details)


def _answer(status: int, body: dict[str, Json], headers: dict[str, str] | None = None) -> Answer:
    return Answer(status=status, headers=headers or {}, body=write_json(body).decode())


def _epoch(now: float | None) -> float:
    return time.time() if now is None else now


def _rfc3339(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
