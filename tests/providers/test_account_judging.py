"""What vendors' refusals mean for accounts that come from files: one row a signal. `now_at` is a number."""

import json

import pytest

from cliproxy.config.schema import Config
from cliproxy.providers.accounts import AccountFile
from cliproxy.providers.base import Proxies
from cliproxy.providers.registry import KINDS
from cliproxy.simulator import failures
from cliproxy.simulator.codex_backend import detail_body, limit_headers, token_body
from cliproxy.simulator.rules import Answer

NOW = 1_900_000_000.0
UPSTREAMS = {
    kind: next(
        iter(
            KINDS[kind].account_upstreams(
                AccountFile(name="f.json", kind=kind, project_id="secret-project"), Config(), Proxies()
            )
        )
    )
    for kind in ("claude", "codex", "gemini", "qwen")
}


def said(status: int, body: object, **headers: str) -> Answer:
    text = body if isinstance(body, str) else json.dumps(body)
    return Answer(status=status, body=text, headers={name.replace("_", "-"): value for name, value in headers.items()})


def google(status: int, word: str, message: str = "m", **details: object) -> Answer:
    rows = [{"@type": f"type.googleapis.com/google.rpc.{name}", **value} for name, value in details.items()]  # type: ignore[dict-item]
    return said(status, {"error": {"code": status, "message": message, "status": word, "details": rows}})


def anthropic(message: str) -> Answer:
    return said(400, {"type": "error", "error": {"type": "invalid_request_error", "message": message}})


def judged(kind: str, answer: Answer):
    upstream = UPSTREAMS[kind]
    headers = tuple((name.encode(), value.encode()) for name, value in answer.headers.items())
    return upstream.provider.judge(upstream, answer.status, headers, answer.content(), NOW)


NOT_IN_PLAN = detail_body("The 'gpt-5.4' model is not supported when using Codex with a ChatGPT account.")
PER_MINUTE = {"QuotaFailure": {"violations": [{"quotaId": "RequestsPerMinutePerUser"}]}}
DAILY = {"QuotaFailure": {"violations": [{"quotaId": "DailyRequestsPerUser"}]}}
STAMPED = {"ErrorInfo": {"reason": "QUOTA_EXHAUSTED", "metadata": {"quotaResetTimeStamp": "2030-03-17T17:56:40Z"}}}
FAR = {"ErrorInfo": {"reason": "RATE_LIMIT_EXCEEDED"}, "RetryInfo": {"retryDelay": "900s"}}
FULL = dict(limit_headers("plus", NOW, 100))

# kind, answer -> fault, scope, wait
TABLE = [
    ("claude", anthropic("Error"), "identity", "none", None),
    ("claude", failures.client_refused(), "identity", "none", None),
    ("claude", anthropic("messages: Error in the second one"), "caller", "none", None),
    ("claude", failures.failure("anthropic", 401), "auth", "account", None),
    ("claude", failures.failure("anthropic", 529), "overload", "none", None),
    ("claude", failures.quota_exhausted("anthropic", 300, NOW), "quota", "account", 300.0),
    ("codex", said(400, detail_body("Stream must be set to true")), "caller", "none", None),
    ("codex", said(400, {"detail": {"code": "unsupported", "message": "no"}}), "caller", "none", None),
    ("codex", said(400, NOT_IN_PLAN), "missing", "model", None),
    ("codex", said(401, token_body("token_expired", "expired", 401)), "auth", "account", None),
    ("codex", said(401, token_body("token_revoked", "revoked", 401)), "auth", "account", None),
    ("codex", said(403, detail_body("This token is not good for that workspace")), "auth", "account", None),
    ("codex", failures.browser_challenge(), "auth", "account", 10.0),
    ("codex", failures.quota_exhausted("codex", 77, NOW), "exhausted", "account", 77.0),
    ("codex", said(429, {"error": {"type": "usage_limit_reached", "message": "m", "resets_at": 1_900_000_050}}), "exhausted", "account", 50.0),
    ("codex", said(429, {"error": {"type": "usage_limit_reached", "message": "m"}}, **FULL), "exhausted", "account", 18_000.0),
    ("codex", said(429, "", **FULL), "quota", "account", 18_000.0),
    ("codex", said(429, "", **dict(limit_headers("plus", NOW, 99))), "quota", "model", None),
    (
        "codex",
        said(429, "", x_codex_secondary_used_percent="100", x_codex_secondary_reset_at="1900000060"),
        "quota",
        "account",
        60.0,
    ),
    ("codex", failures.usage_not_included(), "exhausted", "account", None),
    ("codex", failures.rate_limited("codex", 1.2), "quota", "model", 1.2),
    ("codex", failures.at_capacity(), "quota", "model", None),
    ("codex", failures.failure("codex", 503), "overload", "none", None),
    ("gemini", failures.code_assist_refused("VALIDATION_REQUIRED"), "auth", "account", None),
    ("gemini", failures.code_assist_refused("TOS_VIOLATION"), "auth", "account", 365 * 86_400.0),
    ("gemini", failures.on_stream(failures.code_assist_refused("TOS_VIOLATION")), "auth", "account", 365 * 86_400.0),
    ("gemini", failures.code_assist_refused("SERVICE_DISABLED"), "auth", "account", None),
    ("gemini", failures.code_assist_refused("MODEL_CAPACITY_EXHAUSTED"), "overload", "none", None),
    ("gemini", failures.code_assist_refused("INSUFFICIENT_G1_CREDITS_BALANCE"), "billing", "account", None),
    ("gemini", failures.quota_exhausted("code-assist", 600, NOW), "exhausted", "model", 600.0),
    ("gemini", failures.on_stream(failures.rate_limited("code-assist", 34)), "quota", "model", 34.0),
    ("gemini", google(429, "RESOURCE_EXHAUSTED", **FAR), "quota", "model", 900.0),
    ("gemini", google(429, "RESOURCE_EXHAUSTED", **STAMPED), "exhausted", "model", 600.0),
    ("gemini", google(503, "UNAVAILABLE", **STAMPED), "exhausted", "model", 600.0),
    ("gemini", google(429, "RESOURCE_EXHAUSTED", **PER_MINUTE), "quota", "model", 60.0),
    ("gemini", google(429, "RESOURCE_EXHAUSTED", **DAILY), "exhausted", "model", None),
    ("gemini", google(404, "NOT_FOUND", "Requested entity was not found."), "missing", "model", None),
    ("gemini", google(400, "INVALID_ARGUMENT"), "caller", "none", None),
    ("gemini", failures.failure("code-assist", 401), "auth", "account", None),
    ("qwen", failures.quota_exhausted("qwen"), "exhausted", "account", None),
    ("qwen", said(403, {"error": {"message": "Free allocated quota exceeded."}}), "exhausted", "account", None),
    ("qwen", said(429, {"error": {"code": "quota_exceeded", "message": "x"}}), "exhausted", "account", None),
    ("qwen", said(403, {"error": {"message": "Access denied."}}), "auth", "account", None),
    ("qwen", failures.rate_limited("qwen", 2), "quota", "model", 2.0),
    ("qwen", failures.failure("qwen", 401), "auth", "account", None),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "answer", "fault", "scope", "wait"), TABLE)
def test_the_table_of_signals(kind, answer, fault, scope, wait):
    verdict = judged(kind, answer)

    assert (verdict.fault, verdict.scope) == (fault, scope)
    assert verdict.wait == (None if wait is None else pytest.approx(wait))


def test_a_refused_caller_hears_what_would_help():
    problem = judged("claude", anthropic("Error")).problem

    assert problem.status == 400
    assert "`claude-api-key`" in problem.message
    assert problem.native == b""


@pytest.mark.parametrize(
    ("reason", "link"),
    [
        ("VALIDATION_REQUIRED", "https://accounts.example/verify"),
        ("SERVICE_DISABLED", "https://console.example/enable"),
        ("TOS_VIOLATION", "https://appeals.example/start"),
    ],
)
def test_a_refusal_shows_the_vendors_link(reason, link):
    assert judged("gemini", failures.code_assist_refused(reason)).problem.message.endswith(f"See {link}")


def test_links_of_another_scheme_are_not_shown():
    info = {"reason": "VALIDATION_REQUIRED", "metadata": {"validation_link": "javascript:alert(1)"}}

    assert judged("gemini", google(403, "PERMISSION_DENIED", "no", ErrorInfo=info)).problem.message == "no"


def test_callers_do_not_learn_of_projects():
    problem = judged("gemini", google(403, "PERMISSION_DENIED", "Denied on secret-project.")).problem

    assert problem.message == "Denied on [project]."
    assert b"secret-project" not in problem.native


def test_a_model_at_capacity_is_a_limit_to_callers():
    assert judged("codex", failures.at_capacity()).problem.status == 429


@pytest.mark.parametrize("body", ["", "<html>", "[]", "[[]]", "{", '{"error":1}', '{"error":{"details":[{"metadata":{"a":{}}}]}}', "\xff"])  # fmt: skip
@pytest.mark.parametrize("kind", UPSTREAMS)
@pytest.mark.parametrize("status", [400, 403, 429, 500])
def test_any_body_is_judged(kind, status, body):
    assert judged(kind, said(status, body)).problem.status >= 400
