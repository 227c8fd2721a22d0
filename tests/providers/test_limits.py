"""What answers tell of allowances, refusals inside of streams, and that nothing a vendor sends leads astray."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cliproxy.canon.events import Failed
from cliproxy.config.schema import ClaudeKey, CodexKey, Config, GeminiKey, OpenAICompatibility
from cliproxy.providers.accounts import AccountFile
from cliproxy.providers.base import Proxies, Refusal, Upstream, told_without
from cliproxy.providers.registry import KINDS, PROVIDERS
from cliproxy.routing.limits import Limit
from cliproxy.routing.verdict import Verdict
from cliproxy.simulator import failures
from cliproxy.simulator.codex_backend import limit_headers
from cliproxy.simulator.exchange import VendorName
from cliproxy.simulator.rules import Answer
from cliproxy.wire.http import Headers
from cliproxy.wire.secrets import Secret
from cliproxy.wire.waits import LONGEST

NOW = 1_900_000_000.0  # 2030-03-17 17:46:40 UTC
DAY = 86_400.0
KEY = Secret("key-1234567890")
CONFIG = Config(
    claude_api_key=(ClaudeKey(api_key=KEY),),
    gemini_api_key=(GeminiKey(api_key=KEY),),
    codex_api_key=(CodexKey(api_key=KEY),),
    openai_compatibility=(OpenAICompatibility(name="o", base_url="http://o", api_keys=(KEY,)),),
)
UPSTREAMS: dict[str, Upstream] = {
    provider.name: next(iter(provider.upstreams(CONFIG, Proxies()))) for provider in PROVIDERS
} | {
    KINDS[kind].name: next(iter(KINDS[kind].account_upstreams(AccountFile(name="f", kind=kind), Config(), Proxies())))
    for kind in ("claude", "codex", "gemini", "qwen")
}
CLAUDE, CODEX = ("claude", "claude-oauth"), ("codex-oauth",)
OPENAI, GOOGLE = ("codex", "openai-compatibility", "qwen"), ("gemini", "gemini-cli")


def lines(headers: dict[str, str]) -> Headers:
    return tuple((name.encode(), value.encode("latin-1")) for name, value in headers.items())


def told(name: str, headers: dict[str, str], body: object = None) -> tuple[Limit, ...]:
    raw = b"" if body is None else json.dumps(body).encode()
    return UPSTREAMS[name].provider.limits(lines(headers), raw, NOW)


# ---- allowances -----------------------------------------------------------------------------------------------------

A = "anthropic-ratelimit-"
X = "x-codex-"
FAMILY = {f"{A}input-tokens-limit": "400", f"{A}input-tokens-remaining": "100", f"{A}input-tokens-reset": "2030-03-17T17:47:00Z"}  # fmt: skip
WINDOW = {f"{A}unified-5h-status": "allowed", f"{A}unified-5h-utilization": "0.25", f"{A}unified-5h-reset": "1900003600"}  # fmt: skip
PRIMARY = {f"{X}primary-used-percent": "75", f"{X}primary-window-minutes": "300", f"{X}primary-reset-at": "1900000060"}
REQUESTS = {"x-ratelimit-limit-requests": "200", "x-ratelimit-remaining-requests": "50", "x-ratelimit-reset-requests": "6m0s"}  # fmt: skip
PER_DAY, PER_MINUTE = "GenerateRequestsPerDayPerProjectPerModel-FreeTier", "GenerateTokensPerMinute"
LATER = {"date": "Sun, 17 Mar 2030 17:46:50 GMT"}


def quota(*ids: str, value: object = "250") -> dict[str, object]:
    violations = [{"quotaId": name, "quotaValue": value} for name in ids]
    return {"error": {"code": 429, "details": [{"violations": violations}]}}


LIMITS = [
    (CLAUDE, FAMILY, None, Limit("input-tokens", "account", 400, 100, 0.25, 20.0)),
    (CLAUDE, FAMILY | LATER, None, Limit("input-tokens", "account", 400, 100, 0.25, 10.0)),
    (CLAUDE, {f"{A}requests-remaining": "3"}, None, Limit("requests", "account", None, 3)),
    (CLAUDE, WINDOW, None, Limit("5h", "account", left=0.75, resets_in=3600.0, window=5 * 3600)),
    (CLAUDE, {f"{A}unified-7d-utilization": "1.02"}, None, Limit("7d", "account", left=0.0, window=7 * DAY)),
    (CLAUDE, {f"{A}unified-7d-status": "rejected"}, None, Limit("7d", "account", left=0.0, window=7 * DAY)),
    (CLAUDE, {f"{A}unified-7d-status": "allowed"}, None, Limit("7d", "account", window=7 * DAY)),
    (CLAUDE, {f"{A}unified-7d_opus-utilization": "0.5"}, None, Limit("7d_opus", "model", left=0.5, window=7 * DAY)),
    (CODEX, PRIMARY, None, Limit("primary", "account", left=0.25, resets_in=60.0, window=18_000)),
    (CODEX, PRIMARY | LATER, None, Limit("primary", "account", left=0.25, resets_in=50.0, window=18_000)),
    (CODEX, {f"{X}secondary-used-percent": "101"}, None, Limit("secondary", "account", left=0.0)),
    (CODEX, PRIMARY | {f"{X}primary-reset-after-seconds": "9"}, None, Limit("primary", "account", left=0.25, resets_in=9.0, window=18_000)),
    (CODEX, {f"{X}credits-balance": "12.5"}, None, Limit("credits", "account", remaining=12.5)),
    (OPENAI, REQUESTS, None, Limit("requests", "model", 200, 50, 0.25, 360.0)),
    (OPENAI, {"x-ratelimit-limit": "10", "x-ratelimit-remaining": "1", "x-ratelimit-reset": "1900000060000"}, None, Limit("requests", "model", 10, 1, 0.1, 60.0)),
    (OPENAI, {"x-ratelimit-remaining-tokens": "0"}, None, Limit("tokens", "model", None, 0)),
    (OPENAI, {"x-ratelimit-limit-tokens": "9", "x-ratelimit-remaining-tokens": "-1"}, None, Limit("tokens", "model", 9)),
    (("gemini",), {}, quota(PER_DAY), Limit(PER_DAY, "model", 250, 0, 0, 47_600.0, DAY)),
    (("gemini",), LATER, quota(PER_DAY), Limit(PER_DAY, "model", 250, 0, 0, 47_590.0, DAY)),
    (("gemini-cli",), {}, quota(PER_DAY), Limit(PER_DAY, "model", 250, 0, 0, None, DAY)),
    (GOOGLE, {}, quota(PER_MINUTE), Limit(PER_MINUTE, "model", 250, 0, 0, 60.0, 60.0)),
    (GOOGLE, {}, quota("Other", value=7), Limit("Other", "model", 7, 0, 0)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "headers", "body", "limit"), [(name, *rest) for names, *rest in LIMITS for name in names]
)
def test_an_allowance_is_read(name: str, headers: dict[str, str], body: object, limit: Limit) -> None:
    assert told(name, headers, body) == (limit,)


NOTHING = [
    (CLAUDE, {f"{A}unified-status": "allowed", f"{A}unified-reset": "1900000100", f"{A}unified-fallback-percentage": "0.5"}),
    (CLAUDE, {f"{A}unified-overage-status": "rejected", f"{A}unified-representative-claim": "five_hour"}),
    (CLAUDE, {f"{A}requests-remaining": "many", f"{A}requests-limit": "9" * 400}),
    (CODEX, {f"{X}plan-type": "plus", f"{X}credits-has-credits": "False", f"{X}bengalfox-primary-used-percent": "99"}),
    (OPENAI, {"x-ratelimit-reset-requests": "1s"}),
    (OPENAI, {"x-ratelimit-remaining-\xff": "1"}),
    (tuple(UPSTREAMS), {"content-type": "application/json"}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "headers"), [(name, headers) for names, headers in NOTHING for name in names])
def test_what_is_no_allowance_tells_of_none(name: str, headers: dict[str, str]) -> None:
    assert told(name, headers) == ()


def test_all_windows_of_a_plan_are_told() -> None:
    headers = dict(limit_headers("plus", NOW, 40))

    assert [(limit.name, limit.left) for limit in told("codex-oauth", headers)][:1] == [("primary", 0.6)]
    assert {limit.name for limit in told("codex-oauth", headers)} == {"primary", "secondary"}


def test_every_quota_that_ran_out_is_told() -> None:
    assert [limit.name for limit in told("gemini", {}, quota(PER_DAY, PER_MINUTE))] == [PER_DAY, PER_MINUTE]


@pytest.mark.parametrize(
    ("name", "vendor", "names"),
    [
        ("claude", "anthropic", {"requests", "5h"}),
        ("codex-oauth", "codex", {"primary"}),
        ("codex", "openai-responses", {"requests"}),
        ("openai-compatibility", "openai-chat", {"requests"}),
        ("qwen", "qwen", {"requests"}),
        ("gemini", "gemini", set()),
    ],
)
def test_the_simulated_vendors_tell_what_remains(name: str, vendor: VendorName, names: set[str]) -> None:
    limits = told(name, failures.limits_told(vendor, 0.05, 600, NOW))

    assert {limit.name for limit in limits} == names
    assert all(limit.left == pytest.approx(0.05) and limit.resets_in == 600 for limit in limits)


@pytest.mark.parametrize("name", UPSTREAMS)
def test_headers_of_limits_begin_as_the_provider_says(name: str) -> None:
    provider = UPSTREAMS[name].provider
    known = {**FAMILY, **WINDOW, **PRIMARY, **REQUESTS}
    mine = {header: value for header, value in known.items() if header.startswith(tuple(p.decode() for p in provider.limit_prefixes))}  # fmt: skip

    assert told(name, known) == told(name, mine)
    assert bool(mine) == (name not in GOOGLE)


# ---- inside of streams ----------------------------------------------------------------------------------------------

IN_STREAMS: list[tuple[str, VendorName, Answer]] = [
    ("claude", "anthropic", failures.failure("anthropic", 529)),
    ("claude", "anthropic", failures.failure("anthropic", 401)),
    ("claude-oauth", "anthropic", failures.window_rejected("7d", 500_000, NOW)),
    ("claude-oauth", "anthropic", failures.window_rejected("7d_opus", 900, NOW)),
    ("codex", "openai-responses", failures.quota_exhausted("openai-responses", 77, NOW)),
    ("codex", "openai-responses", failures.purse_empty("openai-responses")),
    ("codex-oauth", "codex", failures.quota_exhausted("codex", 77, NOW)),
    ("codex-oauth", "codex", Answer(status=429, body='{"error":{"type":"usage_limit_reached","message":"m","resets_at":1900000050}}')),
    ("codex-oauth", "codex", failures.usage_not_included()),
    ("codex-oauth", "codex", failures.rate_limited("codex", 1.5)),
    ("codex-oauth", "codex", failures.failure("codex", 503)),
    ("openai-compatibility", "openai-chat", failures.quota_exhausted("openai-chat")),
    ("openai-compatibility", "openai-chat", failures.failure("openai-chat", 503)),
    ("openai-compatibility", "openai-chat", Answer(status=429, body='{"error":{"code":429,"message":"busy"}}')),
    ("openai-compatibility", "openai-chat", Answer(status=400, body='{"error":{"code":"context_length_exceeded","message":"m"}}')),
    ("qwen", "qwen", failures.quota_exhausted("qwen")),
    ("gemini", "gemini", failures.quota_exhausted("gemini")),
    ("gemini", "gemini", failures.rate_limited("gemini", 34)),
    ("gemini", "gemini", failures.model_not_in_plan("gemini")),
    ("gemini", "gemini", failures.failure("gemini", 503)),
    ("gemini-cli", "code-assist", failures.code_assist_refused("TOS_VIOLATION")),
    ("gemini-cli", "code-assist", failures.quota_exhausted("code-assist", 600, NOW)),
    ("gemini-cli", "code-assist", failures.code_assist_refused("MODEL_CAPACITY_EXHAUSTED")),
]  # fmt: skip


def judged(upstream: Upstream, status: int, headers: Headers, body: bytes) -> Verdict:
    problem = upstream.dialect.read_error(status, body)
    return upstream.provider.judge(upstream, Refusal(problem, headers, body), NOW)


@pytest.mark.parametrize("way", ["tap", "reader"])
@pytest.mark.parametrize(("name", "vendor", "answer"), IN_STREAMS)
def test_a_refusal_inside_a_stream_means_what_it_means_outside(
    name: str, vendor: VendorName, answer: Answer, way: str
) -> None:
    upstream = UPSTREAMS[name]
    inside = failures.inside_stream(vendor, answer)
    if way == "tap":
        tap = upstream.dialect.tap()
        tap.look(inside.content())
        problem = tap.problem
    else:
        reader = upstream.dialect.reader()
        failed = [*reader.feed(inside.content()), *reader.close()][-1]
        problem = failed.problem if isinstance(failed, Failed) else None
    assert problem is not None
    assert problem.native

    verdict = upstream.provider.judge(upstream, Refusal(problem, lines(inside.headers), problem.native), NOW)

    outside = judged(upstream, answer.status, lines(inside.headers), answer.content())
    assert (verdict.fault, verdict.scope, verdict.wait, verdict.source) == (
        outside.fault,
        outside.scope,
        outside.wait,
        outside.source,
    )


# ---- whatever comes -------------------------------------------------------------------------------------------------

WORDS = st.sampled_from(
    ["429", "0", "-1", "nan", "1e999", "rejected", "1900000060", "2030-03-17T17:47:00Z", "9" * 30, "7s", "soon", "", "\xff", KEY.reveal(), "a\nb"]
)  # fmt: skip
NAMES = st.sampled_from(
    [
        "retry-after", "retry-after-ms", "date", "cf-mitigated", "x-ratelimit-", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests",
        f"x-ratelimit-remaining-{KEY.reveal()}", f"x-ratelimit-reset-{KEY.reveal()}", f"{A}requests-remaining", f"{A}requests-reset", A,
        f"{A}unified-5h-status", f"{A}unified-5h-reset", f"{A}unified-7d_{'x' * 12}-status", f"{A}unified-status", f"{A}unified-reset",
        f"{A}unified-5h-utilization", f"{X}primary-used-percent", f"{X}primary-reset-at", f"{X}primary-window-minutes", f"{X}credits-balance", X,
    ]
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | WORDS | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["error", "code", "type", "message", "details", "reason", "metadata", "quotaResetTimeStamp", "retryDelay", "violations", "quotaId", "quotaValue", "resets_at", "resets_in_seconds"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip
CODES = st.sampled_from(
    [
        "usage_limit_reached",
        "insufficient_quota",
        "invalid_grant",
        KEY.reveal(),
        f"limit: 0 {KEY.reveal()}",
        "rate_limit_error",
        "a\nb",
    ]
)
ERRORS = st.fixed_dictionaries(
    {"error": st.fixed_dictionaries({"message": WORDS | CODES, "code": WORDS | CODES, "type": CODES}, optional={"details": st.lists(JSON, max_size=3)})}
)  # fmt: skip
BODIES = st.binary(max_size=60) | (JSON | ERRORS).map(lambda value: json.dumps(value).encode())
STATUSES = st.sampled_from([0, 200, 302, 400, 401, 402, 403, 404, 408, 409, 413, 429, 499, 500, 502, 503, 529, 599])


@pytest.mark.parametrize("name", UPSTREAMS)
@settings(deadline=None, max_examples=60)
@given(status=STATUSES, pairs=st.lists(st.tuples(NAMES, WORDS), max_size=6), body=BODIES)
def test_nothing_that_a_vendor_sends_leads_astray(
    name: str, status: int, pairs: list[tuple[str, str]], body: bytes
) -> None:
    upstream = UPSTREAMS[name]
    headers = tuple((header.encode(), value.encode("latin-1")) for header, value in pairs)

    verdict = told_without(judged(upstream, status, headers, body), KEY)
    limits = upstream.provider.limits(headers, body, NOW)

    waits = [verdict.wait, verdict.problem.retry_after, *(limit.resets_in for limit in limits)]
    assert all(wait is None or 0 < wait <= LONGEST for wait in waits)
    assert all(limit.left is None or 0 <= limit.left <= 1 for limit in limits)
    assert all(value is None or (math.isfinite(value) and value >= 0) for limit in limits for value in (limit.total, limit.remaining, limit.window))  # fmt: skip
    assert 0 < len(verdict.evidence) <= 120
    assert verdict.evidence.isprintable()
    assert KEY.reveal() not in verdict.evidence
    assert (verdict.wait is None) == (verdict.source == "guess")
