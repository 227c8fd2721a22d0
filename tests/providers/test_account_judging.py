"""What vendors' refusals mean for accounts that come from files: one row a signal. `now_at` is a number."""

import json

import pytest

from cliproxy.config.schema import Config
from cliproxy.providers.accounts import AccountFile
from cliproxy.providers.base import Proxies, Refusal
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
    body = answer.content()
    problem = upstream.dialect.read_error(answer.status, body)
    return upstream.provider.judge(upstream, Refusal(problem, headers, body), NOW)


PER_MINUTE = {"QuotaFailure": {"violations": [{"quotaId": "RequestsPerMinutePerUser"}]}}
DAILY = {"QuotaFailure": {"violations": [{"quotaId": "DailyRequestsPerUser"}]}}
STAMPED = {"ErrorInfo": {"reason": "QUOTA_EXHAUSTED", "metadata": {"quotaResetTimeStamp": "2030-03-17T17:56:40Z"}}}
FAR = {"ErrorInfo": {"reason": "RATE_LIMIT_EXCEEDED"}, "RetryInfo": {"retryDelay": "900s"}}
FULL = dict(limit_headers("plus", NOW, 100))

BY_MODEL = {"error": {"code": "rate_limit_exceeded", "message": "m"}}
CLOSED = anthropic("This organization has been disabled.")
NOBODY = ("none", None, "guess")
A_GUESS = ("account", None, "guess")
OF_MODEL = ("model", None, "guess")
FIVE_HOURS = "`anthropic-ratelimit-unified-5h-status: rejected`"
PRIMARY = "`x-codex-primary-used-percent: 100`"

# kind, answer -> fault, scope, wait, source, evidence
TABLE = [
    ("claude", anthropic("Error"), "identity", *NOBODY, "`Error`"),
    ("claude", failures.client_refused(), "identity", *NOBODY, "`only authorized for use with claude code`"),
    ("claude", anthropic("messages: Error in the second one"), "caller", *NOBODY, "`invalid_request_error`"),
    ("claude", failures.failure("anthropic", 401), "auth", *A_GUESS, "`authentication_error`"),
    ("claude", failures.failure("anthropic", 403, "OAuth token has been revoked."), "auth", *A_GUESS, "`oauth token has been revoked`"),
    ("claude", failures.failure("anthropic", 403), "forbidden", *A_GUESS, "`permission_error`"),
    ("claude", CLOSED, "suspended", *A_GUESS, "`this organization has been disabled`"),
    ("claude", failures.organization_disabled(), "suspended", *A_GUESS, "`this organization has been disabled`"),
    ("claude", failures.purse_empty("anthropic"), "billing", *A_GUESS, "`your credit balance is too low`"),
    ("claude", failures.failure("anthropic", 529), "overload", *OF_MODEL, "`overloaded_error`"),
    ("claude", failures.quota_exhausted("anthropic", 300, NOW), "exhausted", "account", 300.0, "header", FIVE_HOURS),
    ("claude", failures.window_rejected("5h", 300, NOW), "exhausted", "account", 300.0, "header", FIVE_HOURS),
    ("claude", failures.window_rejected("7d", 600_000, NOW), "exhausted", "account", 600_000.0, "header", "`anthropic-ratelimit-unified-7d-status: rejected`"),
    ("claude", failures.window_rejected("7d_opus", 900, NOW), "exhausted", "model", 900.0, "header", "`anthropic-ratelimit-unified-7d_opus-status: rejected`"),
    ("claude", failures.model_not_in_plan("anthropic"), "missing", *OF_MODEL, "`not_found_error`"),
    ("codex", said(400, detail_body("Stream must be set to true")), "caller", *NOBODY, "HTTP 400"),
    ("codex", said(400, {"detail": {"code": "unsupported", "message": "no"}}), "caller", *NOBODY, "`unsupported`"),
    ("codex", failures.model_not_in_plan("codex"), "missing", *OF_MODEL, "`model is not supported when using Codex with a ChatGPT account`"),
    ("codex", said(401, token_body("token_expired", "expired", 401)), "auth", *A_GUESS, "`token_expired`"),
    ("codex", said(401, token_body("token_revoked", "revoked", 401)), "auth", *A_GUESS, "`token_revoked`"),
    ("codex", said(401, token_body("account_deactivated", "closed", 401)), "suspended", *A_GUESS, "`account_deactivated`"),
    *(
        ("codex", said(401, token_body(code, "log in", 401)), "suspended", *A_GUESS, f"`{code}`")
        for code in ("invalid_grant", "refresh_token_expired", "refresh_token_reused", "refresh_token_invalidated")
    ),
    ("codex", said(402, {"detail": {"code": "deactivated_workspace"}}), "billing", *A_GUESS, "`deactivated_workspace`"),
    ("codex", said(403, detail_body("This token is not good for that workspace")), "forbidden", *A_GUESS, "HTTP 403"),
    ("codex", failures.browser_challenge(), "challenge", *A_GUESS, "`cf-mitigated: challenge`"),
    ("codex", failures.quota_exhausted("codex", 77, NOW), "exhausted", "account", 77.0, "body", "`usage_limit_reached`"),
    ("codex", said(429, {"error": {"type": "usage_limit_reached", "message": "m", "resets_at": 1_900_000_050}}), "exhausted", "account", 50.0, "body", "`usage_limit_reached`"),
    ("codex", said(429, {"error": {"type": "usage_limit_reached", "message": "m"}}, **FULL), "exhausted", "account", 18_000.0, "header", "`usage_limit_reached`"),
    ("codex", said(429, "", **FULL), "exhausted", "account", 18_000.0, "header", PRIMARY),
    ("codex", said(429, "", **dict(limit_headers("plus", NOW, 99))), "quota", *OF_MODEL, "HTTP 429"),
    ("codex", said(429, BY_MODEL, **dict(FULL, retry_after="3")), "quota", "model", 3.0, "header", "`rate_limit_exceeded`"),
    (
        "codex",
        said(429, "", x_codex_secondary_used_percent="100", x_codex_secondary_reset_at="1900000060"),
        "exhausted", "account", 60.0, "header", "`x-codex-secondary-used-percent: 100`",
    ),
    ("codex", said(429, {"error": {"code": "insufficient_quota", "message": "m"}}, **dict(FULL, retry_after="60")), "billing", "account", 60.0, "header", "`insufficient_quota`"),
    ("codex", failures.usage_not_included(), "billing", *A_GUESS, "`usage_not_included`"),
    ("codex", failures.rate_limited("codex", 1.2), "quota", "model", 1.2, "body", "`rate_limit_exceeded`"),
    ("codex", failures.at_capacity(), "quota", *OF_MODEL, "`model_at_capacity`"),
    ("codex", failures.failure("codex", 503), "overload", *OF_MODEL, "`server_is_overloaded`"),
    ("gemini", failures.code_assist_refused("VALIDATION_REQUIRED"), "forbidden", *A_GUESS, "`VALIDATION_REQUIRED`"),
    ("gemini", failures.code_assist_refused("TOS_VIOLATION"), "suspended", *A_GUESS, "`TOS_VIOLATION`"),
    ("gemini", failures.on_stream(failures.code_assist_refused("TOS_VIOLATION")), "suspended", *A_GUESS, "`TOS_VIOLATION`"),
    ("gemini", failures.code_assist_refused("SERVICE_DISABLED"), "forbidden", *A_GUESS, "`SERVICE_DISABLED`"),
    ("gemini", failures.code_assist_refused("SECURITY_POLICY_VIOLATED"), "forbidden", *A_GUESS, "`SECURITY_POLICY_VIOLATED`"),
    ("gemini", failures.code_assist_refused("MODEL_CAPACITY_EXHAUSTED"), "overload", *OF_MODEL, "`MODEL_CAPACITY_EXHAUSTED`"),
    ("gemini", failures.code_assist_refused("INSUFFICIENT_G1_CREDITS_BALANCE"), "billing", *A_GUESS, "`INSUFFICIENT_G1_CREDITS_BALANCE`"),
    ("gemini", failures.quota_exhausted("code-assist", 600, NOW), "exhausted", "model", 600.0, "body", "`QUOTA_EXHAUSTED`"),
    ("gemini", failures.on_stream(failures.rate_limited("code-assist", 34)), "quota", "model", 34.0, "body", "`RATE_LIMIT_EXCEEDED`"),
    ("gemini", google(429, "RESOURCE_EXHAUSTED", **FAR), "quota", "model", 900.0, "body", "`RATE_LIMIT_EXCEEDED`"),
    ("gemini", google(429, "RESOURCE_EXHAUSTED", **STAMPED), "exhausted", "model", 600.0, "body", "`QUOTA_EXHAUSTED`"),
    ("gemini", google(499, "CANCELLED", **STAMPED), "exhausted", "model", 600.0, "body", "`QUOTA_EXHAUSTED`"),
    ("gemini", google(503, "UNAVAILABLE", **STAMPED), "exhausted", "model", 600.0, "body", "`QUOTA_EXHAUSTED`"),
    ("gemini", google(429, "RESOURCE_EXHAUSTED", **PER_MINUTE), "quota", "model", 60.0, "body", "`RequestsPerMinutePerUser`"),
    ("gemini", google(429, "RESOURCE_EXHAUSTED", **DAILY), "exhausted", *OF_MODEL, "`DailyRequestsPerUser`"),
    ("gemini", failures.model_not_in_plan("code-assist"), "missing", *OF_MODEL, "`limit: 0`"),
    ("gemini", google(404, "NOT_FOUND", "Requested entity was not found."), "missing", *OF_MODEL, "`NOT_FOUND`"),
    ("gemini", google(400, "INVALID_ARGUMENT"), "caller", *NOBODY, "`INVALID_ARGUMENT`"),
    ("gemini", failures.failure("code-assist", 401), "auth", *A_GUESS, "`UNAUTHENTICATED`"),
    ("qwen", failures.quota_exhausted("qwen"), "exhausted", *A_GUESS, "`insufficient_quota`"),
    ("qwen", said(403, {"error": {"message": "Free allocated quota exceeded."}}), "exhausted", *A_GUESS, "`free allocated quota`"),
    ("qwen", said(429, {"error": {"code": "quota_exceeded", "message": "x"}}), "exhausted", *A_GUESS, "`quota_exceeded`"),
    ("qwen", said(403, {"error": {"message": "Access denied."}}), "forbidden", *A_GUESS, "HTTP 403"),
    ("qwen", failures.rate_limited("qwen", 2), "quota", "model", 2.0, "header", "`x-ratelimit-remaining-requests: 0`"),
    ("qwen", failures.failure("qwen", 401), "auth", *A_GUESS, "`invalid_api_key`"),
    ("qwen", failures.model_not_in_plan("qwen"), "missing", *OF_MODEL, "`model_not_found`"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "answer", "fault", "scope", "wait", "source", "evidence"), TABLE)
def test_the_table_of_signals(kind, answer, fault, scope, wait, source, evidence):
    verdict = judged(kind, answer)

    assert (verdict.fault, verdict.scope, verdict.source, verdict.evidence) == (fault, scope, source, evidence)
    assert verdict.wait == (None if wait is None else pytest.approx(wait))


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("claude", anthropic(f"messages.0: Input tag '{said_by_caller}' found, expected 'text'"))
        for said_by_caller in ("This organization has been disabled.", "Your credit balance is too low", "Error")
    ]
    + [
        ("codex", said(400, detail_body(f"Invalid value: {said_by_caller}")))
        for said_by_caller in (
            "'Selected model is at capacity.'",
            "The 'x' model is not supported when using Codex with a ChatGPT account.",
            "'insufficient_quota'",
        )
    ]
    + [("gemini", google(400, "INVALID_ARGUMENT", 'Unknown name "limit: 0": quota TOS_VIOLATION'))],
)
def test_callers_cannot_put_an_account_to_rest_with_words_of_their_own(kind, answer):
    assert judged(kind, answer).fault == "caller"


def test_a_missing_thing_with_a_models_name_is_no_missing_model():
    verdict = judged("codex", said(404, {"error": {"message": "Previous response with id 'resp_model' not found."}}))

    assert (verdict.fault, verdict.scope) == ("missing", "none")


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
