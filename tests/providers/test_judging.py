"""What each provider's answers mean: one row a signal. `now_at` is a number."""

import json
from datetime import UTC, datetime

import pytest

from cliproxy.canon.errors import Problem
from cliproxy.config.schema import ClaudeKey, CodexKey, Config, GeminiKey, OpenAICompatibility
from cliproxy.providers import claude, codex, gemini, openai_compat
from cliproxy.providers.base import Proxies, Refusal, Upstream, verdict_of, without_secret
from cliproxy.routing.verdict import Verdict
from cliproxy.wire.http import Headers
from cliproxy.wire.secrets import Secret

NOW = 1_900_000_000.0  # 2030-03-17 17:46:40 UTC, 10:46:40 in California
DAY = 86_400.0
KEY = Secret("key-1234567890")
UPSTREAMS = {
    "claude": next(iter(claude.PROVIDER.upstreams(Config(claude_api_key=(ClaudeKey(api_key=KEY),)), Proxies()))),
    "gemini": next(iter(gemini.PROVIDER.upstreams(Config(gemini_api_key=(GeminiKey(api_key=KEY),)), Proxies()))),
    "codex": next(iter(codex.PROVIDER.upstreams(Config(codex_api_key=(CodexKey(api_key=KEY),)), Proxies()))),
    "compat": next(
        iter(
            openai_compat.PROVIDER.upstreams(
                Config(openai_compatibility=(OpenAICompatibility(name="o", base_url="http://o", api_keys=(KEY,)),)),
                Proxies(),
            )
        )
    ),
}
ALL = tuple(UPSTREAMS)


def judged(upstream: Upstream, status: int, headers: Headers, body: bytes, now_at: float = NOW) -> Verdict:
    problem = upstream.dialect.read_error(status, body)
    return upstream.provider.judge(upstream, Refusal(problem, headers, body), now_at)


def google(status: str = "RESOURCE_EXHAUSTED", message: str = "m", **details: object) -> dict[str, object]:
    rows = [{"@type": f"type.googleapis.com/google.rpc.{name}", **value} for name, value in details.items()]
    return {"error": {"code": 429, "message": message, "status": status, "details": rows}}


def anthropic(kind: str, message: str = "m") -> dict[str, object]:
    return {"type": "error", "error": {"type": kind, "message": message}}


def openai(code: str = "", message: str = "m", **more: object) -> dict[str, object]:
    return {"error": {"message": message, "type": "t", "code": code or None, **more}}


PER_DAY = {"QuotaFailure": {"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}}
PER_MINUTE = {"QuotaFailure": {"violations": [{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel"}]}}
NEVER = {"QuotaFailure": {"violations": [{"quotaId": "GenerateRequestsPerDay", "quotaValue": "0"}]}}
STAMPED = {"ErrorInfo": {"reason": "QUOTA_EXHAUSTED", "metadata": {"quotaResetTimeStamp": "2030-03-17T17:56:40Z"}}}
CHALLENGE = "<!DOCTYPE html><html><head><title>Just a moment...</title></head></html>"
TOO_LONG = "This model's maximum context length is 8 tokens."
U = "anthropic-ratelimit-unified-"
AT_TEN = "Sun, 17 Mar 2030 17:46:50 GMT"  # ten seconds later than we believe


def every(status: int, headers: dict[str, str], body: object, *expected: object) -> list[tuple[object, ...]]:
    """What all vendors mean alike."""
    return [(name, status, headers, body, *expected) for name in ALL]


def unified(window: str, reset: str = "1900000300", **more: str) -> dict[str, str]:
    lines = {f"{U}{window}-status": "rejected", f"{U}{window}-reset": reset}
    return lines | {U + name.replace("_", "-"): value for name, value in more.items()}


def used_up(family: str, reset: str = "2030-03-17T17:47:00Z") -> dict[str, str]:
    return {f"anthropic-ratelimit-{family}-remaining": "0", f"anthropic-ratelimit-{family}-reset": reset}


LIMITED = anthropic("rate_limit_error")
NOBODY = ("none", None, "guess")
A_GUESS = ("account", None, "guess")
OF_MODEL = ("model", None, "guess")

# provider, status, headers, body -> fault, scope, wait, source, evidence
TABLE = [
    *every(400, {}, {"error": {"message": "bad"}}, "caller", *NOBODY, "HTTP 400"),
    *every(413, {}, "", "caller", *NOBODY, "HTTP 413"),
    *every(422, {}, "", "caller", *NOBODY, "HTTP 422"),
    *every(501, {}, "", "caller", *NOBODY, "HTTP 501"),
    *every(401, {}, "", "auth", *A_GUESS, "HTTP 401"),
    *every(402, {}, "", "billing", *A_GUESS, "HTTP 402"),
    *every(402, {"retry-after": "5"}, "", "billing", "account", 5.0, "header", "HTTP 402"),
    *every(403, {}, "", "forbidden", *A_GUESS, "HTTP 403"),
    *every(403, {}, "<html><title>Forbidden</title></html>", "forbidden", *A_GUESS, "HTTP 403"),
    *every(403, {}, {"error": {"message": "no access to this model"}}, "forbidden", *OF_MODEL, "HTTP 403"),
    *every(403, {"cf-mitigated": "challenge"}, "<html>", "challenge", *A_GUESS, "`cf-mitigated: challenge`"),
    *every(503, {}, CHALLENGE, "challenge", *A_GUESS, "HTTP 503 with a page that wants a browser"),
    *every(403, {"retry-after": "30"}, CHALLENGE, "challenge", "account", 30.0, "header", "HTTP 403 with a page that wants a browser"),
    *every(404, {}, {"error": {"message": "model m not found"}}, "missing", *OF_MODEL, "HTTP 404"),
    *every(404, {}, {"error": {"message": "no such file"}}, "missing", *NOBODY, "HTTP 404"),
    *every(408, {}, "", "overload", *OF_MODEL, "HTTP 408"),
    *every(409, {}, "", "overload", *NOBODY, "HTTP 409"),
    *every(409, {"retry-after": "5"}, "", "overload", *NOBODY, "HTTP 409"),
    *every(429, {}, "", "quota", *OF_MODEL, "HTTP 429"),
    *every(429, {"retry-after": "7"}, "", "quota", "model", 7.0, "header", "HTTP 429"),
    *every(429, {"retry-after-ms": "1500", "retry-after": "9"}, "", "quota", "model", 1.5, "header", "HTTP 429"),
    *every(429, {"retry-after": "Sun, 17 Mar 2030 17:47:40 GMT"}, "", "quota", "model", 60.0, "header", "HTTP 429"),
    *every(429, {"retry-after": "Sun, 17 Mar 2030 17:47:40 GMT", "date": AT_TEN}, "", "quota", "model", 50.0, "header", "HTTP 429"),
    *every(429, {"retry-after": "Sun, 17 Mar 2030 17:46:30 GMT"}, "", "quota", "model", 1.0, "header", "HTTP 429"),
    *every(429, {"retry-after": "Sun, 17 Mar 2030 12:00:00 GMT"}, "", "quota", *OF_MODEL, "HTTP 429"),
    *every(429, {"retry-after": "999999999999"}, "", "quota", "model", DAY, "header", "HTTP 429"),
    *every(429, {"retry-after": "Sun, 17 Mar 2080 17:47:40 GMT"}, "", "quota", "model", DAY, "header", "HTTP 429"),
    *every(429, {"retry-after-ms": "999999999999"}, "", "quota", "model", DAY, "header", "HTTP 429"),
    *(row for said in ("nan", "inf", "soon", "-5", "0", "") for row in every(429, {"retry-after": said}, "", "quota", *OF_MODEL, "HTTP 429")),
    *every(500, {}, "", "overload", *OF_MODEL, "HTTP 500"),
    *every(502, {}, "<html>", "broken", *OF_MODEL, "HTTP 502"),
    *every(503, {"retry-after": "5"}, "", "overload", "model", 5.0, "header", "HTTP 503"),
    *every(504, {}, "", "network", *OF_MODEL, "HTTP 504"),
    *every(520, {}, "", "broken", *OF_MODEL, "HTTP 520"),
    *every(529, {}, "", "overload", *OF_MODEL, "HTTP 529"),
    # what a server calls a caller's fault while it says that it failed itself
    *(("compat", 500, {}, openai("", m, type="invalid_request_error"), "overload", *OF_MODEL, "HTTP 500") for m in ("x", "no")),
    ("claude", 500, {}, anthropic("invalid_request_error"), "broken", *OF_MODEL, "`invalid_request_error`"),
    # what is the caller's whatever the status
    ("compat", 500, {}, openai("context_length_exceeded"), "caller", *NOBODY, "`context_length_exceeded`"),
    ("compat", 500, {}, openai(message=TOO_LONG), "caller", *NOBODY, "HTTP 500"),
    ("compat", 502, {}, openai("content_policy_violation"), "caller", *NOBODY, "`content_policy_violation`"),
    ("codex", 503, {}, openai("invalid_prompt"), "caller", *NOBODY, "`invalid_prompt`"),
    ("claude", 500, {}, anthropic("invalid_request_error", "prompt is too long: 9 > 8"), "caller", *NOBODY, "`invalid_request_error`"),
    ("claude", 502, {}, anthropic("request_too_large"), "caller", *NOBODY, "`request_too_large`"),
    # Anthropic
    ("claude", 400, {}, anthropic("invalid_request_error", "Your credit balance is too low"), "billing", *A_GUESS, "`your credit balance is too low`"),
    ("claude", 400, {}, anthropic("invalid_request_error", "This organization has been disabled."), "forbidden", *A_GUESS, "`this organization has been disabled`"),
    ("claude", 402, {}, anthropic("billing_error"), "billing", *A_GUESS, "`billing_error`"),
    ("claude", 403, {}, anthropic("permission_error"), "forbidden", *A_GUESS, "`permission_error`"),
    ("claude", 404, {}, anthropic("not_found_error", "model: claude-x"), "missing", *OF_MODEL, "`not_found_error`"),
    ("claude", 529, {}, anthropic("overloaded_error"), "overload", *OF_MODEL, "`overloaded_error`"),
    ("claude", 504, {}, anthropic("timeout_error"), "network", *OF_MODEL, "`timeout_error`"),
    ("claude", 413, {}, anthropic("request_too_large"), "caller", *NOBODY, "`request_too_large`"),
    ("claude", 422, {}, anthropic("api_error"), "caller", *NOBODY, "`api_error`"),
    ("claude", 429, used_up("tokens"), LIMITED, "quota", "account", 20.0, "header", "`anthropic-ratelimit-tokens-remaining: 0`"),
    ("claude", 429, used_up("tokens") | used_up("requests", "2030-03-17T17:48:20Z"), LIMITED, "quota", "account", 100.0, "header", "`anthropic-ratelimit-requests-remaining: 0`"),
    ("claude", 429, used_up("tokens") | {"date": AT_TEN}, LIMITED, "quota", "account", 10.0, "header", "`anthropic-ratelimit-tokens-remaining: 0`"),
    ("claude", 429, used_up("tokens") | {"retry-after": "3"}, LIMITED, "quota", "account", 3.0, "header", "`anthropic-ratelimit-tokens-remaining: 0`"),
    ("claude", 429, used_up("tokens") | {"anthropic-ratelimit-tokens-remaining": "5"}, LIMITED, "quota", *OF_MODEL, "`rate_limit_error`"),
    ("claude", 500, used_up("tokens"), anthropic("api_error"), "overload", *OF_MODEL, "`api_error`"),
    ("claude", 429, unified("5h"), LIMITED, "exhausted", "account", 300.0, "header", f"`{U}5h-status: rejected`"),
    ("claude", 429, unified("5h") | {"date": AT_TEN}, LIMITED, "exhausted", "account", 290.0, "header", f"`{U}5h-status: rejected`"),
    ("claude", 429, unified("5h") | unified("7d", "1900500000"), LIMITED, "exhausted", "account", 500_000.0, "header", f"`{U}7d-status: rejected`"),
    ("claude", 429, unified("7d", "1900500000") | {"retry-after": "500000"}, LIMITED, "exhausted", "account", 500_000.0, "header", f"`{U}7d-status: rejected`"),
    ("claude", 429, unified("7d", "9900000000"), LIMITED, "exhausted", "account", 32 * DAY, "header", f"`{U}7d-status: rejected`"),
    ("claude", 429, unified("5h", "1899990000"), LIMITED, "exhausted", *A_GUESS, f"`{U}5h-status: rejected`"),
    ("claude", 429, unified("7d_oi"), LIMITED, "exhausted", "model", 300.0, "header", f"`{U}7d_oi-status: rejected`"),
    ("claude", 429, unified("7d_opus", "1900900000") | unified("5h"), LIMITED, "exhausted", "account", 300.0, "header", f"`{U}5h-status: rejected`"),
    ("claude", 429, unified("overage"), LIMITED, "quota", *OF_MODEL, "`rate_limit_error`"),
    ("claude", 429, {f"{U}status": "rejected", f"{U}reset": "1900000100"}, LIMITED, "exhausted", "account", 100.0, "header", f"`{U}status: rejected`"),
    ("claude", 429, {f"{U}status": "rejected", f"{U}reset": "1900000100", f"{U}representative-claim": "seven_day"}, LIMITED, "exhausted", "account", 100.0, "header", f"`{U}status: rejected`"),
    ("claude", 429, {f"{U}status": "rejected", f"{U}reset": "1900000100", f"{U}representative-claim": "seven_day_opus"}, LIMITED, "exhausted", "model", 100.0, "header", f"`{U}status: rejected`"),
    # Google
    ("gemini", 400, {}, google("INVALID_ARGUMENT", ErrorInfo={"reason": "API_KEY_INVALID"}), "auth", *A_GUESS, "`API_KEY_INVALID`"),
    ("gemini", 403, {}, google("PERMISSION_DENIED", ErrorInfo={"reason": "SERVICE_DISABLED"}), "forbidden", *A_GUESS, "`SERVICE_DISABLED`"),
    ("gemini", 403, {}, google("PERMISSION_DENIED", ErrorInfo={"reason": "TOS_VIOLATION"}), "forbidden", *A_GUESS, "`TOS_VIOLATION`"),
    ("gemini", 403, {}, google("PERMISSION_DENIED", ErrorInfo={"reason": "BILLING_DISABLED"}), "billing", *A_GUESS, "`BILLING_DISABLED`"),
    ("gemini", 429, {}, google(RetryInfo={"retryDelay": "34.07s"}, **PER_MINUTE), "quota", "model", 34.07, "body", "`GenerateRequestsPerMinutePerProjectPerModel`"),
    ("gemini", 429, {}, google(**PER_MINUTE), "quota", "model", 60.0, "body", "`GenerateRequestsPerMinutePerProjectPerModel`"),
    ("gemini", 429, {}, google(RetryInfo={"retryDelay": "12s"}, **PER_DAY), "exhausted", "model", 12.0, "body", "`GenerateRequestsPerDayPerProjectPerModel-FreeTier`"),
    ("gemini", 429, {}, google(**PER_DAY), "exhausted", "model", 47600.0, "body", "`GenerateRequestsPerDayPerProjectPerModel-FreeTier`"),
    ("gemini", 429, {"date": AT_TEN}, google(**PER_DAY), "exhausted", "model", 47590.0, "body", "`GenerateRequestsPerDayPerProjectPerModel-FreeTier`"),
    ("gemini", 429, {}, google(**STAMPED), "exhausted", "model", 600.0, "body", "`QUOTA_EXHAUSTED`"),
    ("gemini", 429, {"date": AT_TEN}, google(**STAMPED), "exhausted", "model", 590.0, "body", "`QUOTA_EXHAUSTED`"),
    ("gemini", 429, {}, google(ErrorInfo={"reason": "x", "metadata": {"quotaResetDelay": "1h2m3s"}}), "quota", "model", 3723.0, "body", "`x`"),
    ("gemini", 429, {}, google(ErrorInfo={"metadata": {"odd": 1}}, RetryInfo={"retryDelay": "9s"}), "quota", "model", 9.0, "body", "`RESOURCE_EXHAUSTED`"),
    ("gemini", 429, {}, google(message="Quota exceeded, limit: 0"), "missing", *OF_MODEL, "`limit: 0`"),
    ("gemini", 429, {}, google(message="Quota exceeded, limit: 05"), "exhausted", *OF_MODEL, "`RESOURCE_EXHAUSTED`"),
    ("gemini", 429, {}, google(RetryInfo={"retryDelay": "12s"}, **NEVER), "missing", *OF_MODEL, "`GenerateRequestsPerDay: 0`"),
    ("gemini", 429, {}, google(message="Please retry in 300ms."), "quota", "model", 0.3, "body", "`RESOURCE_EXHAUSTED`"),
    ("gemini", 429, {}, google(message="Your quota will reset after 1h2m3s."), "quota", "model", 3723.0, "body", "`RESOURCE_EXHAUSTED`"),
    ("gemini", 429, {}, google(message="Try again after 30s"), "quota", "model", 30.0, "body", "`RESOURCE_EXHAUSTED`"),
    ("gemini", 429, {}, google(RetryInfo={"retryDelay": "9" * 400 + "s"}), "quota", *OF_MODEL, "`RESOURCE_EXHAUSTED`"),
    ("gemini", 499, {}, "", "overload", *OF_MODEL, "HTTP 499"),
    # OpenAI, and those like it
    ("codex", 429, {}, openai("usage_limit_reached", resets_in_seconds=77), "exhausted", "account", 77.0, "body", "`usage_limit_reached`"),
    ("codex", 429, {}, openai("usage_limit_reached", resets_at=1_900_000_050), "exhausted", "account", 50.0, "body", "`usage_limit_reached`"),
    ("codex", 429, {"date": AT_TEN}, openai("usage_limit_reached", resets_at=1_900_000_050), "exhausted", "account", 40.0, "body", "`usage_limit_reached`"),
    ("codex", 429, {"date": "Sun, 17 Mar 2019 17:46:50 GMT"}, openai("usage_limit_reached", resets_at=1_900_000_050), "exhausted", "account", 50.0, "body", "`usage_limit_reached`"),
    ("codex", 429, {}, openai("usage_limit_reached", resets_at=1_900_000_050_000), "exhausted", "account", 50.0, "body", "`usage_limit_reached`"),
    ("codex", 429, {"retry-after": "500000"}, openai("usage_limit_reached", resets_at=1_900_500_000), "exhausted", "account", 500_000.0, "body", "`usage_limit_reached`"),
    ("codex", 429, {}, {"error": {"type": "usage_limit_reached", "resets_at": 1_900_000_050}}, "exhausted", "account", 50.0, "body", "`usage_limit_reached`"),
    ("compat", 429, {}, {"error": {"message": "m", "resets_at": 1_900_000_050}}, "quota", "model", 50.0, "body", "HTTP 429"),
    ("codex", 429, {}, openai("usage_limit_reached"), "exhausted", *A_GUESS, "`usage_limit_reached`"),
    *((name, 429, {}, openai("usage_not_included"), "billing", *A_GUESS, "`usage_not_included`") for name in ("codex", "compat")),
    *((name, 429, {}, openai("billing_hard_limit_reached"), "billing", *A_GUESS, "`billing_hard_limit_reached`") for name in ("codex", "compat")),
    *((name, 429, {}, openai("insufficient_quota"), "billing", *A_GUESS, "`insufficient_quota`") for name in ("codex", "compat")),
    ("compat", 429, {}, openai("1113", type="insufficient_quota"), "billing", *A_GUESS, "`insufficient_quota`"),
    ("compat", 429, {"retry-after": "60"}, openai("insufficient_quota"), "billing", "account", 60.0, "header", "`insufficient_quota`"),
    ("codex", 429, {}, openai("rate_limit_exceeded", "Please try again in 1.2s."), "quota", "model", 1.2, "body", "`rate_limit_exceeded`"),
    ("codex", 400, {}, openai("context_length_exceeded"), "caller", *NOBODY, "`context_length_exceeded`"),
    ("codex", 503, {}, openai("server_is_overloaded"), "overload", *OF_MODEL, "`server_is_overloaded`"),
    ("codex", 503, {}, openai("slow_down"), "overload", *OF_MODEL, "`slow_down`"),
    ("codex", 403, {}, openai("model_not_found"), "missing", *OF_MODEL, "`model_not_found`"),
    ("compat", 400, {}, openai("model_decommissioned"), "missing", *OF_MODEL, "`model_decommissioned`"),
    ("compat", 429, {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, openai("rate_limit_exceeded"), "quota", "model", 360.0, "header", "`x-ratelimit-remaining-requests: 0`"),
    (
        "compat",
        429,
        {
            "x-ratelimit-remaining-requests": "0",
            "x-ratelimit-reset-requests": "1s",
            "x-ratelimit-remaining-tokens": "0",
            "x-ratelimit-reset-tokens": "250ms",
        },
        openai("rate_limit_exceeded"), "quota", "model", 1.0, "header", "`x-ratelimit-remaining-requests: 0`",
    ),
    ("compat", 429, {"x-ratelimit-reset-requests": "1s"}, openai(), "quota", *OF_MODEL, "HTTP 429"),
    ("compat", 400, {}, {"message": "plain"}, "caller", *NOBODY, "HTTP 400"),
    ("compat", 429, {}, openai("line\nbreak"), "quota", *OF_MODEL, "HTTP 429"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "status", "headers", "body", "fault", "scope", "wait", "source", "evidence"), TABLE)
def test_the_table_of_signals(name, status, headers, body, fault, scope, wait, source, evidence):
    lines = tuple((key.encode(), value.encode()) for key, value in headers.items())
    raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()

    verdict = judged(UPSTREAMS[name], status, lines, raw)

    assert (verdict.fault, verdict.scope, verdict.source, verdict.evidence) == (fault, scope, source, evidence)
    assert verdict.wait == (None if wait is None else pytest.approx(wait))
    assert verdict.problem.status >= 400


@pytest.mark.parametrize("name", ALL)
def test_a_redirect_is_a_broken_answer(name):
    verdict = judged(UPSTREAMS[name], 302, ((b"location", b"http://elsewhere"),), b"")

    assert (verdict.fault, verdict.scope, verdict.problem.status) == ("broken", "model", 502)


def test_an_outage_tells_its_wait_to_callers_too():
    upstream = UPSTREAMS["compat"]

    verdict = judged(upstream, 503, ((b"retry-after", b"5"),), b"")

    assert (verdict.problem.retry_after, verdict.wait) == (5, 5)


@pytest.mark.parametrize(
    ("now_at", "wait"),
    [
        ("2030-01-08T16:00:00", 16 * 3600),  # standard time: 8 in the morning there
        ("2030-03-10T09:59:00", 21 * 3600 + 60),  # the last minute of it: the day has 23 hours
        ("2030-11-03T07:30:00", 24 * 3600 + 1800),  # half past midnight of the day that has 25
        ("2030-03-17T17:46:40", 13 * 3600 + 800),  # daylight time
        ("2030-11-02T14:00:00", 17 * 3600),  # the day before it ends
        ("2030-07-01T06:59:59", 1),
    ],
)
def test_a_days_quota_is_full_again_at_midnight_in_california(now_at, wait):
    upstream = UPSTREAMS["gemini"]
    moment = datetime.fromisoformat(now_at).replace(tzinfo=UTC).timestamp()

    verdict = judged(upstream, 429, (), json.dumps(google(**PER_DAY)).encode(), moment)

    assert verdict.wait == wait


def test_a_key_is_taken_out_of_what_an_upstream_says():
    problem = Problem("internal", 500, "key-1234567890 broke", native=b'{"m":"key-1234567890"}')

    cleaned = without_secret(problem, KEY)

    assert cleaned.message == "[key] broke"
    assert cleaned.native == b'{"m":"[key]"}'
    assert without_secret(problem, Secret("key")) is problem


def test_a_connection_failure_is_the_networks_fault():
    verdict = verdict_of(Problem("unreachable", 502, "no"), (), NOW)

    assert (verdict.fault, verdict.scope, verdict.evidence) == ("network", "model", "no connection")


def test_a_login_that_is_over_is_told_by_ourselves():
    verdict = verdict_of(Problem("unauthenticated", 401, "Log in again.", code="invalid_grant"), (), NOW)

    assert (verdict.fault, verdict.scope, verdict.wait) == ("suspended", "account", None)
    assert verdict.evidence == "`invalid_grant`"


def test_a_vendor_cannot_close_a_key_with_the_word_for_logins():
    verdict = judged(UPSTREAMS["compat"], 401, (), json.dumps(openai("invalid_grant")).encode())

    assert verdict.fault == "auth"


def test_a_reset_that_was_found_elsewhere_counts_after_the_headers_word():
    limited = Problem("rate_limit", 429, "no", retry_after=3)

    assert verdict_of(limited, (), NOW, 20).wait == 20
    assert verdict_of(limited, ((b"retry-after", b"5"),), NOW, 20).wait == 5
    assert verdict_of(limited, (), NOW).source == "body"


LISTS = [
    (
        gemini.PROVIDER,
        b'{"models":[{"name":"models/a","supportedGenerationMethods":["generateContent"]},{"name":"models/e","supportedGenerationMethods":["embedContent"]}]}',
        ("a",),
    ),
    (claude.PROVIDER, b'{"data":[{"id":"c","type":"model"}],"has_more":false}', ("c",)),
    (codex.PROVIDER, b'{"data":[{"id":"gpt-x"},{"id":"whisper-1"}]}', ("gpt-x",)),
    (codex.PROVIDER, b'{"data":[{"id":"private"}]}', ("private",)),
    (openai_compat.PROVIDER, b'{"object":"list","data":[{"id":"l","x":1}]}', ("l",)),
]


@pytest.mark.parametrize(("provider", "body", "names"), LISTS)
def test_lists_of_models_are_read(provider, body, names):
    assert provider.read_listing(body) == names
