"""Ready-made answers for rules: each vendor's own way to say limited, exhausted, overloaded, unauthorized.

The second half is what only accounts meet: refused plans, persons and clients, and logins that fail.

Sources: https://ai.google.dev/gemini-api/docs/rate-limits, https://docs.claude.com/en/api/rate-limits,
https://platform.openai.com/docs/guides/rate-limits, checked 2026-10-20.
"""

import time
from datetime import UTC, datetime
from typing import Literal

import msgspec

from cliproxy.simulator import anthropic, codex_backend, gemini, openai_edge, tokens
from cliproxy.simulator.accounts import Kind
from cliproxy.simulator.code_assist import SERVICE
from cliproxy.simulator.exchange import HTML_BODY, Json, Refused, VendorName, read_json, sse, write_json
from cliproxy.simulator.rules import Answer

_GOOGLE_TYPE = "type.googleapis.com/google.rpc."
_CLAIMS = {"5h": "five_hour", "7d": "seven_day"}
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
        case "gemini" | "code-assist":
            body = gemini.error_body(status, says)
        case "openai-chat" | "openai-responses" | "qwen":
            body = openai_edge.error_body(status, says)
        case "codex" if status == 401:
            body = codex_backend.token_body("token_expired", says, status)
        case "codex" if status == 429 or status >= 500:
            body = openai_edge.error_body(status, says)
        case "codex":
            body = codex_backend.detail_body(says)
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
        case "code-assist":
            details = [
                _error_info("RATE_LIMIT_EXCEEDED", {"model": "gemini-2.5-pro"}),
                _retry_info(f"{retry_after:g}s"),
            ]
            return _answer(429, gemini.error_body(429, f"Please retry in {retry_after:g}s.", details))
        case "codex":
            says = f"Rate limit reached for this model. Please try again in {retry_after:g}s."
            return _answer(429, openai_edge.error_body(429, says))
        case "openai-chat" | "openai-responses" | "qwen":
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
        case "code-assist":
            times: dict[str, Json] = {
                "model": "gemini-2.5-pro",
                "quotaResetDelay": f"{resets_in:g}s",
                "quotaResetTimeStamp": _rfc3339(_epoch(now) + resets_in),
            }
            says = "You have exhausted your capacity on this model."
            return _answer(429, gemini.error_body(429, says, [_error_info("QUOTA_EXHAUSTED", times)]))
        case "qwen":
            says = "Free allocated quota exceeded."
            return _answer(429, openai_edge.error_body(429, says, kind="insufficient_quota"))
        case "openai-chat":
            says = "You exceeded your current quota, please check your plan and billing details."
            error: Json = {"message": says, "type": "insufficient_quota", "param": None, "code": "insufficient_quota"}
            return _answer(429, {"error": error})
        case "openai-responses" | "codex":
            limit: Json = {
                "type": "usage_limit_reached",
                "message": "The usage limit has been reached",
                "plan_type": "plus",
                "resets_at": round(_epoch(now) + resets_in),
                "resets_in_seconds": round(resets_in),
            }
            headers = dict(codex_backend.limit_headers("plus", _epoch(now), 100)) if vendor == "codex" else {}
            return _answer(429, {"error": limit}, headers)


def window_rejected(window: str = "5h", resets_in: float = 3600.0, now: float | None = None) -> Answer:
    """Claude: a window of the plan is used up: `5h`, `7d`, or the week of some models, as `7d_opus`."""
    reset = f"{round(_epoch(now) + resets_in)}"
    prefix = "anthropic-ratelimit-unified"
    headers = {
        f"{prefix}-status": "rejected",
        f"{prefix}-reset": reset,
        f"{prefix}-5h-status": "allowed",
        f"{prefix}-5h-reset": f"{round(_epoch(now) + 3600)}",
        f"{prefix}-{window}-status": "rejected",
        f"{prefix}-{window}-reset": reset,
        f"{prefix}-representative-claim": _CLAIMS.get(window[:2], "five_hour") + window[2:],
        "retry-after": f"{round(resets_in)}",
    }
    return _answer(429, anthropic.error_body(429, "You have reached your usage limit.", "req_scripted"), headers)


def purse_empty(vendor: Literal["anthropic", "openai-chat", "openai-responses"]) -> Answer:
    """Nothing more until somebody pays."""
    if vendor == "anthropic":
        says = "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing."
        return _answer(400, anthropic.error_body(400, says, "req_scripted"))
    return quota_exhausted("openai-chat")


def model_not_in_plan(vendor: VendorName, model: str = "gpt-5.4") -> Answer:
    """The account is fine, but never gets this model."""
    match vendor:
        case "gemini" | "code-assist":
            return _answer(429, _google_quota("PerDay", "30s", "0"))
        case "codex":
            says = f"The '{model}' model is not supported when using Codex with a ChatGPT account."
            return _answer(400, codex_backend.detail_body(says))
        case "anthropic":
            return _answer(404, anthropic.error_body(404, f"model: {model}", "req_scripted"))
        case "openai-chat" | "openai-responses" | "qwen":
            says = f"The model `{model}` does not exist or you do not have access to it."
            error: Json = {"message": says, "type": "invalid_request_error", "param": None, "code": "model_not_found"}
            return _answer(404, {"error": error})


def inside_stream(vendor: VendorName, answer: Answer) -> Answer:
    """The same refusal as an event inside of a stream that began well, with the headers of one."""
    told = read_json(answer.content())
    error = told.get("error") if isinstance(told, dict) else None
    match vendor:
        case "anthropic":
            frame = sse({"type": "error", "error": error}, "error")
        case "openai-responses" | "codex":
            response: Json = {"id": "resp_scripted", "object": "response", "status": "failed", "error": error}
            frame = sse({"type": "response.failed", "sequence_number": 1, "response": response}, "response.failed")
        case "openai-chat" | "qwen" | "gemini" | "code-assist":
            frame = sse({"error": error})
    headers = {name: value for name, value in answer.headers.items() if name != "retry-after"}
    return Answer(headers=headers, content_type="text/event-stream", body=frame.decode())


def limits_told(vendor: VendorName, left: float, resets_in: float = 3600.0, now: float | None = None) -> dict[str, str]:
    """The headers of an answer that went well, for `Rule.headers`: `left` is the share that remains, 0 to 1. Google tells
    nothing of the kind."""
    at = _epoch(now) + resets_in
    remaining = f"{round(left * 1000)}"
    match vendor:
        case "anthropic":
            prefix = "anthropic-ratelimit"
            return {
                f"{prefix}-requests-limit": "1000",
                f"{prefix}-requests-remaining": remaining,
                f"{prefix}-requests-reset": _rfc3339(at),
                f"{prefix}-unified-status": "allowed",
                f"{prefix}-unified-5h-status": "allowed" if left > 0.1 else "allowed_warning",
                f"{prefix}-unified-5h-utilization": f"{1 - left:.4g}",
                f"{prefix}-unified-5h-reset": f"{round(at)}",
            }
        case "codex":
            return {
                "x-codex-primary-used-percent": f"{100 * (1 - left):.4g}",
                "x-codex-primary-window-minutes": "300",
                "x-codex-primary-reset-after-seconds": f"{round(resets_in)}",
                "x-codex-primary-reset-at": f"{round(at)}",
            }
        case "openai-chat" | "openai-responses" | "qwen":
            return {
                "x-ratelimit-limit-requests": "1000",
                "x-ratelimit-remaining-requests": remaining,
                "x-ratelimit-reset-requests": f"{resets_in:g}s",
            }
        case "gemini" | "code-assist":
            return {}


# --- what only accounts meet ---

CodeAssistReason = Literal[
    "VALIDATION_REQUIRED",
    "TOS_VIOLATION",
    "SERVICE_DISABLED",
    "SECURITY_POLICY_VIOLATED",
    "MODEL_CAPACITY_EXHAUSTED",
    "INSUFFICIENT_G1_CREDITS_BALANCE",
]
# reason: (status, message, metadata). The addresses lead nowhere.
_CODE_ASSIST: dict[CodeAssistReason, tuple[int, str, dict[str, Json]]] = {
    "VALIDATION_REQUIRED": (
        403,
        "Verify your account to continue.",
        {"validation_link": "https://accounts.example/verify"},
    ),
    "TOS_VIOLATION": (
        403,
        "This service has been disabled in this account for violation of Terms of Service.",
        {"appeal_url": "https://appeals.example/start"},
    ),
    "SERVICE_DISABLED": (
        403,
        "Gemini for Google Cloud API has not been used in this project before or it is disabled.",
        {"activationUrl": "https://console.example/enable", "service": "cloudaicompanion.googleapis.com"},
    ),
    "SECURITY_POLICY_VIOLATED": (403, "Request is prohibited by organization's policy.", {}),
    "MODEL_CAPACITY_EXHAUSTED": (
        429,
        "No capacity available for model gemini-2.5-pro on the server",
        {"model": "gemini-2.5-pro"},
    ),
    "INSUFFICIENT_G1_CREDITS_BALANCE": (429, "Insufficient credits.", {}),
}


def code_assist_refused(reason: CodeAssistReason) -> Answer:
    """Google's refusals that name a reason; see `on_stream` for the streaming method."""
    status, says, metadata = _CODE_ASSIST[reason]
    details = [_error_info(reason, metadata)]
    link = next((value for name, value in metadata.items() if name.lower().endswith(("link", "url"))), None)
    if link is not None:
        links: list[Json] = [{"description": "More", "url": link}]
        details.append({"@type": _GOOGLE_TYPE + "Help", "links": links})
    return _answer(status, gemini.error_body(status, says, details))


def on_stream(answer: Answer) -> Answer:
    """The same refusal as Code Assist's streaming method writes it: in an array."""
    return msgspec.structs.replace(answer, body=f"[{answer.body}]")


def usage_not_included() -> Answer:
    """Codex is no part of this person's plan."""
    says = "To use Codex with your ChatGPT plan, upgrade to Plus."
    error: Json = {"type": "usage_not_included", "message": says, "plan_type": "free"}
    return _answer(429, {"error": error})


def at_capacity() -> Answer:
    """Codex: nobody gets this model for now."""
    says = "Selected model is at capacity. Please try a different model."
    return _answer(400, openai_edge.error_body(400, says, kind="model_at_capacity"))


def browser_challenge() -> Answer:
    """A page that wants a browser, from the network before ChatGPT: no fault of the account."""
    page = "<!DOCTYPE html><html><head><title>Just a moment...</title></head><body></body></html>"
    headers = {"cf-mitigated": "challenge", "server": "cloudflare"}
    return Answer(status=403, headers=headers, content_type=HTML_BODY, body=page)


def client_refused() -> Answer:
    """Claude's older way to say that an account is for Claude Code; the newer one is what the surface itself says."""
    says = "This credential is only authorized for use with Claude Code and cannot be used for other API requests."
    return _answer(400, anthropic.error_body(400, says, "req_scripted"))


def organization_disabled() -> Answer:
    """Claude has closed the account, and says so with the status of a bad request."""
    return _answer(400, anthropic.error_body(400, "This organization has been disabled.", "req_scripted"))


def login_failure(kind: Kind, error: str = "invalid_grant", status: int = 400, message: str = "") -> Answer:
    """A refusal by the token endpoint of that vendor, such as `invalid_grant` or `temporarily_unavailable`."""
    refused = Refused(message or "Scripted refusal.", status=status, kind=error)
    reply = (tokens.refuse_as_openai if kind == "codex" else tokens.refuse)(refused, "")
    return Answer(status=status, body=reply.frames[0].decode())


def _error_info(reason: str, metadata: dict[str, Json]) -> Json:
    return {"@type": _GOOGLE_TYPE + "ErrorInfo", "reason": reason, "domain": SERVICE, "metadata": metadata}


def _retry_info(delay: str) -> Json:
    return {"@type": _GOOGLE_TYPE + "RetryInfo", "retryDelay": delay}


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
        details.append(_retry_info(delay))
        says += f"\nPlease retry in {delay}."
    return gemini.error_body(429, says, details)


def _answer(status: int, body: dict[str, Json], headers: dict[str, str] | None = None) -> Answer:
    return Answer(status=status, headers=headers or {}, body=write_json(body).decode())


def _epoch(now: float | None) -> float:
    return time.time() if now is None else now


def _rfc3339(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
