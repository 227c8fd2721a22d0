"""What each provider's answers mean: one row a signal. `now_at` is a number."""

import json
from datetime import UTC, datetime

import pytest

from cliproxy.canon.errors import Problem
from cliproxy.config.schema import ClaudeKey, CodexKey, Config, GeminiKey, OpenAICompatibility
from cliproxy.providers import claude, codex, gemini, openai_compat
from cliproxy.providers.base import Proxies, verdict_of, without_secret
from cliproxy.wire.secrets import Secret

NOW = 1_900_000_000.0  # 2030-03-17 17:46:40 UTC, 10:46:40 in California
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


def google(status: str = "RESOURCE_EXHAUSTED", message: str = "m", **details: object) -> dict[str, object]:
    rows = [{"@type": f"type.googleapis.com/google.rpc.{name}", **value} for name, value in details.items()]
    return {"error": {"code": 429, "message": message, "status": status, "details": rows}}


def anthropic(kind: str, message: str = "m") -> dict[str, object]:
    return {"type": "error", "error": {"type": kind, "message": message}}


def openai(code: str = "", message: str = "m", **more: object) -> dict[str, object]:
    return {"error": {"message": message, "type": "t", "code": code or None, **more}}


PER_DAY = {"QuotaFailure": {"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}}
PER_MINUTE = {"QuotaFailure": {"violations": [{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel"}]}}

# provider, status, headers, body -> fault, scope, wait
TABLE = [
    *((name, 400, {}, {"error": {"message": "bad"}}, "caller", "none", None) for name in ALL),
    *((name, 413, {}, "", "caller", "none", None) for name in ALL),
    *((name, 422, {}, "", "caller", "none", None) for name in ALL),
    *((name, 501, {}, "", "caller", "none", None) for name in ALL),
    *((name, 401, {}, "", "auth", "account", None) for name in ALL),
    *((name, 402, {}, "", "billing", "account", None) for name in ALL),
    *((name, 403, {}, "", "auth", "account", None) for name in ALL),
    *((name, 403, {"cf-mitigated": "challenge"}, "<html>", "auth", "account", 10.0) for name in ALL),
    *((name, 404, {}, {"error": {"message": "model m not found"}}, "missing", "model", None) for name in ALL),
    *((name, 404, {}, {"error": {"message": "no such file"}}, "missing", "none", None) for name in ALL),
    *((name, 408, {}, "", "overload", "none", None) for name in ALL),
    *((name, 409, {}, "", "overload", "none", None) for name in ALL),
    *((name, 429, {}, "", "quota", "model", None) for name in ALL),
    *((name, 429, {"retry-after": "7"}, "", "quota", "model", 7.0) for name in ALL),
    *((name, 429, {"retry-after-ms": "1500", "retry-after": "9"}, "", "quota", "model", 1.5) for name in ALL),
    *((name, 429, {"retry-after": "Sun, 17 Mar 2030 17:47:40 GMT"}, "", "quota", "model", 60.0) for name in ALL),
    *((name, 429, {"retry-after": "nan"}, "", "quota", "model", None) for name in ALL),
    *((name, 429, {"retry-after": "inf"}, "", "quota", "model", None) for name in ALL),
    *((name, 429, {"retry-after": "soon"}, "", "quota", "model", None) for name in ALL),
    *((name, 500, {}, "", "overload", "none", None) for name in ALL),
    *(
        (name, 500, {}, {"error": {"type": "invalid_request_error", "message": "x"}}, "retried", "none", None)
        for name in ALL
    ),
    *((name, 502, {}, "<html>", "broken", "none", None) for name in ALL),
    *((name, 503, {"retry-after": "5"}, "", "overload", "none", None) for name in ALL),
    *((name, 504, {}, "", "network", "none", None) for name in ALL),
    *((name, 520, {}, "", "broken", "none", None) for name in ALL),
    *((name, 529, {}, "", "overload", "none", None) for name in ALL),
    *((name, 302, {}, "", "broken", "none", None) for name in ALL),
    (
        "claude",
        400,
        {},
        anthropic("invalid_request_error", "Your credit balance is too low"),
        "billing",
        "account",
        None,
    ),
    ("claude", 529, {}, anthropic("overloaded_error"), "overload", "none", None),
    ("claude", 413, {}, anthropic("request_too_large"), "caller", "none", None),
    ("claude", 422, {}, anthropic("api_error"), "caller", "none", None),
    (
        "claude",
        429,
        {"anthropic-ratelimit-tokens-remaining": "0", "anthropic-ratelimit-tokens-reset": "2030-03-17T17:47:00Z"},
        anthropic("rate_limit_error"),
        "quota",
        "account",
        20.0,
    ),
    (
        "claude",
        429,
        {"anthropic-ratelimit-tokens-remaining": "5", "anthropic-ratelimit-tokens-reset": "2030-03-17T17:47:00Z"},
        anthropic("rate_limit_error"),
        "quota",
        "model",
        None,
    ),
    (
        "claude",
        429,
        {"anthropic-ratelimit-unified-5h-status": "rejected", "anthropic-ratelimit-unified-5h-reset": "1900000300"},
        anthropic("rate_limit_error"),
        "quota",
        "account",
        300.0,
    ),
    (
        "claude",
        429,
        {"anthropic-ratelimit-unified-status": "rejected", "anthropic-ratelimit-unified-reset": "1900000100"},
        anthropic("rate_limit_error"),
        "quota",
        "account",
        100.0,
    ),
    ("gemini", 400, {}, google("INVALID_ARGUMENT", ErrorInfo={"reason": "API_KEY_INVALID"}), "auth", "account", None),
    ("gemini", 403, {}, google("PERMISSION_DENIED", ErrorInfo={"reason": "SERVICE_DISABLED"}), "auth", "account", None),
    ("gemini", 429, {}, google(RetryInfo={"retryDelay": "34.07s"}, **PER_MINUTE), "quota", "model", 34.07),
    ("gemini", 429, {}, google(RetryInfo={"retryDelay": "12s"}, **PER_DAY), "exhausted", "model", 12.0),
    ("gemini", 429, {}, google(**PER_DAY), "exhausted", "model", 47600.0),
    ("gemini", 429, {}, google(message="limit: 0"), "exhausted", "model", None),
    ("gemini", 429, {}, google(message="Please retry in 300ms."), "quota", "model", 0.3),
    ("codex", 429, {}, openai("usage_limit_reached", resets_in_seconds=77), "exhausted", "account", 77.0),
    ("codex", 429, {}, openai("usage_limit_reached", resets_at=1_900_000_050), "exhausted", "account", 50.0),
    ("codex", 429, {}, openai("usage_not_included"), "exhausted", "account", None),
    ("codex", 429, {}, openai("rate_limit_exceeded", "Please try again in 1.2s."), "quota", "model", 1.2),
    ("codex", 400, {}, openai("context_length_exceeded"), "caller", "none", None),
    ("codex", 503, {}, openai("server_is_overloaded"), "overload", "none", None),
    ("compat", 429, {}, openai("insufficient_quota"), "exhausted", "account", None),
    (
        "compat",
        429,
        {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"},
        openai("rate_limit_exceeded"),
        "quota",
        "model",
        360.0,
    ),
    (
        "compat",
        429,
        {
            "x-ratelimit-remaining-requests": "0",
            "x-ratelimit-reset-requests": "1s",
            "x-ratelimit-remaining-tokens": "0",
            "x-ratelimit-reset-tokens": "250ms",
        },
        openai("rate_limit_exceeded"),
        "quota",
        "model",
        1.0,
    ),
    ("compat", 429, {"x-ratelimit-reset-requests": "1s"}, openai(), "quota", "model", None),
    ("compat", 400, {}, {"message": "plain"}, "caller", "none", None),
]


@pytest.mark.parametrize(("name", "status", "headers", "body", "fault", "scope", "wait"), TABLE)
def test_the_table_of_signals(name, status, headers, body, fault, scope, wait):
    upstream = UPSTREAMS[name]
    lines = tuple((key.encode(), value.encode()) for key, value in headers.items())
    raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()

    verdict = upstream.provider.judge(upstream, status, lines, raw, NOW)

    if fault == "retried":
        assert verdict.fault in ("broken", "overload")
    else:
        assert verdict.fault == fault
    assert verdict.scope == scope
    assert verdict.wait == (None if wait is None else pytest.approx(wait))
    assert verdict.problem.status >= 400


def test_an_outage_keeps_its_wait_for_the_caller():
    upstream = UPSTREAMS["compat"]

    verdict = upstream.provider.judge(upstream, 503, ((b"retry-after", b"5"),), b"", NOW)

    assert verdict.problem.retry_after == 5
    assert verdict.wait is None


@pytest.mark.parametrize(
    ("now_at", "wait"),
    [
        ("2030-01-08T16:00:00", 16 * 3600),  # standard time: 8 in the morning there
        ("2030-03-10T09:59:00", 22 * 3600 + 60),  # the last minute of it
        ("2030-03-17T17:46:40", 13 * 3600 + 800),  # daylight time
        ("2030-11-02T14:00:00", 17 * 3600),  # the day before it ends
        ("2030-07-01T06:59:59", 1),
    ],
)
def test_a_days_quota_is_full_again_at_midnight_in_california(now_at, wait):
    upstream = UPSTREAMS["gemini"]
    moment = datetime.fromisoformat(now_at).replace(tzinfo=UTC).timestamp()

    verdict = upstream.provider.judge(upstream, 429, (), json.dumps(google(**PER_DAY)).encode(), moment)

    assert verdict.wait == wait


def test_a_key_is_taken_out_of_what_an_upstream_says():
    problem = Problem("internal", 500, "key-1234567890 broke", native=b'{"m":"key-1234567890"}')

    cleaned = without_secret(problem, KEY)

    assert cleaned.message == "[key] broke"
    assert cleaned.native == b'{"m":"[key]"}'
    assert without_secret(problem, Secret("key")) is problem


def test_a_connection_failure_is_the_networks_fault():
    verdict = verdict_of(Problem("unreachable", 502, "no"), (), NOW)

    assert (verdict.fault, verdict.scope) == ("network", "none")


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
