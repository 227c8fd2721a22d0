"""Rules, failures, recording and addresses for what accounts use; Qwen's chat, which is the Chat surface elsewhere."""

import json

import openai
import pytest

from cliproxy.config.document import read
from cliproxy.simulator import Simulator, failures
from cliproxy.simulator.accounts import CLIENT_IDS, GOOGLE_CLIENT_SECRET
from cliproxy.simulator.rules import Rule

CODEX = "/backend-api/codex/responses"
ASK = {
    "model": "gpt-5",
    "instructions": "",
    "input": [{"role": "user", "content": "a b c"}],
    "stream": True,
    "store": False,
}
CHAT = {"model": "qwen3-coder-plus", "messages": [{"role": "user", "content": "hi"}]}


def test_qwen_chats_where_its_tokens_say(sim: Simulator):
    members = sim.accounts.issue("qwen", "ada@example.com")
    base = members["resource_url"] + "/v1"

    with openai.OpenAI(api_key=members["access_token"], base_url=base, max_retries=0) as client:
        answer = client.chat.completions.create(**CHAT)
        with pytest.raises(openai.BadRequestError, match="not supported"):
            client.chat.completions.create(**{**CHAT, "model": "gpt-5"})
    with (
        openai.OpenAI(api_key="guessed", base_url=base, max_retries=0) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.chat.completions.create(**CHAT)

    assert answer.choices[0].message.content == "echo: hi"


def test_a_rule_follows_an_account_through_all_its_tokens(sim: Simulator, call):
    ada = sim.accounts.issue("codex", "ada@example.com")
    bob = sim.accounts.issue("codex", "bob@example.com")
    sim.script(Rule(account="ada@example.com", path=CODEX, answer=failures.quota_exhausted("codex", 60, now=0)))
    fields = {"grant_type": "refresh_token", "client_id": CLIENT_IDS["codex"], "refresh_token": ada["refresh_token"]}

    renewed = call("POST", "/oauth/token", form=fields).json["access_token"]
    tokens = (ada["access_token"], renewed, bob["access_token"])
    answers = [call("POST", CODEX, ASK, token=token) for token in tokens]

    assert [answer.status for answer in answers] == [429, 429, 200]
    assert answers[0].json["error"]["resets_at"] == 60
    assert answers[0].headers["x-codex-primary-used-percent"] == "100"
    assert [seen.account for seen in sim.requests] == ["ada@example.com"] * 3 + ["bob@example.com"]


def test_a_refresh_can_be_refused_for_one_account(sim: Simulator, call):
    sim.script(Rule(account="ada@example.com", path="/v1/oauth/token", answer=failures.login_failure("claude")))

    def status(email):
        refresh = sim.accounts.issue("claude", email)["refresh_token"]
        body = {"grant_type": "refresh_token", "client_id": CLIENT_IDS["claude"], "refresh_token": refresh}
        return call("POST", "/v1/oauth/token", body).status

    assert status("ada@example.com") == 400
    assert status("bob@example.com") == 200


@pytest.mark.parametrize(("code", "expected"), [(None, "server_is_overloaded"), ("slow_down", "slow_down")])
def test_codex_is_overloaded_inside_a_good_answer(sim: Simulator, call, token_of, code, expected):
    sim.script(Rule(path=CODEX, error_after=2, error_status=503, error_code=code))

    answer = call("POST", CODEX, ASK, token=token_of("codex"))

    assert answer.status == 200
    types = [event["type"] for event in answer.events]
    assert types == ["response.created", "response.in_progress", "response.failed"]
    assert answer.events[-1]["response"]["error"]["code"] == expected


def test_the_terminal_event_can_leave_the_output_out(sim: Simulator, call, token_of):
    whole = call("POST", CODEX, ASK, token=token_of("codex")).events
    sim.script(Rule(path=CODEX, sse=("no-output",)))

    bare = call("POST", CODEX, ASK, token=token_of("codex")).events

    assert whole[-1]["response"]["output"]
    assert bare[-1]["response"] == whole[-1]["response"] | {"output": []}
    assert bare[:-1] == whole[:-1]


def test_code_assist_breaks_inside_a_stream(sim: Simulator, call, token_of):
    project = sim.accounts.find("gemini", "ada@example.com").companion
    body = {"model": "gemini-2.5-flash", "project": project, "request": {"contents": [{"parts": [{"text": "a b"}]}]}}
    sim.script(Rule(path="streamGenerateContent", error_after=1, error_status=503))

    events = call("POST", "/v1internal:streamGenerateContent?alt=sse", body, token=token_of("gemini")).events
    array = call("POST", "/v1internal:streamGenerateContent", body, token=token_of("gemini")).json

    assert events[-1]["error"]["status"] == array[-1]["error"]["status"] == "UNAVAILABLE"
    assert sim.requests[-1].model == "gemini-2.5-flash"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503])
@pytest.mark.parametrize("vendor", ["codex", "code-assist", "qwen"])
def test_every_account_surface_has_a_body_for_every_failure(vendor, status):
    answer = failures.failure(vendor, status, "because")

    assert answer.status == status
    body = json.loads(answer.body)
    assert "because" in (body.get("detail"), body.get("error", {}).get("message"))


def details(answer):
    return json.loads(answer.body)["error"]["details"]


def test_google_says_when_to_come_back_in_three_ways():
    limited, exhausted = failures.rate_limited("code-assist", 34.5), failures.quota_exhausted("code-assist", 60, now=0)

    assert details(limited)[0]["reason"] == "RATE_LIMIT_EXCEEDED"
    assert details(limited)[1]["retryDelay"] == "34.5s"
    assert details(exhausted)[0]["reason"] == "QUOTA_EXHAUSTED"
    assert details(exhausted)[0]["metadata"]["quotaResetDelay"] == "60s"
    assert details(exhausted)[0]["metadata"]["quotaResetTimeStamp"] == "1970-01-01T00:01:00Z"


@pytest.mark.parametrize(
    ("reason", "status", "link"),
    [
        ("VALIDATION_REQUIRED", 403, True),
        ("TOS_VIOLATION", 403, True),
        ("SERVICE_DISABLED", 403, True),
        ("SECURITY_POLICY_VIOLATED", 403, False),
        ("MODEL_CAPACITY_EXHAUSTED", 429, False),
        ("INSUFFICIENT_G1_CREDITS_BALANCE", 429, False),
    ],
)
def test_google_names_its_reasons(reason, status, link):
    answer = failures.code_assist_refused(reason)

    assert answer.status == status
    assert details(answer)[0]["reason"] == reason
    assert details(answer)[0]["domain"] == "cloudcode-pa.googleapis.com"
    assert any("links" in detail for detail in details(answer)) is link
    assert json.loads(failures.on_stream(answer).body)[0] == json.loads(answer.body)


def test_the_other_refusals_that_accounts_meet():
    def error(answer):
        return json.loads(answer.body)["error"]

    assert error(failures.usage_not_included())["type"] == "usage_not_included"
    assert "at capacity" in error(failures.at_capacity())["message"]
    assert "try again in 1.2s" in error(failures.rate_limited("codex", 1.2))["message"]
    assert "only authorized for use with Claude Code" in error(failures.client_refused())["message"]
    assert error(failures.quota_exhausted("qwen"))["code"] == "insufficient_quota"
    assert error(failures.login_failure("codex", "refresh_token_expired", 401))["code"] == "refresh_token_expired"
    assert error(failures.login_failure("gemini", "temporarily_unavailable", 503)) == "temporarily_unavailable"
    assert failures.browser_challenge().headers["cf-mitigated"] == "challenge"


def test_a_configuration_finds_everything_here(sim: Simulator, call):
    loaded = read(sim.endpoints())
    endpoints = loaded.config.endpoints

    assert not loaded.warnings
    pages = (endpoints.gemini_cli.authorize_url, endpoints.claude.authorize_url, endpoints.codex.authorize_url)
    assert [b"<html" in call("GET", page).body for page in pages] == [True] * 3
    tokens = (
        endpoints.gemini_cli.token_url,
        endpoints.claude.token_url,
        endpoints.codex.token_url,
        endpoints.qwen.token_url,
        endpoints.qwen.device_url,
    )
    assert [call("POST", url, {}).status for url in tokens] == [400] * 5
    assert call("GET", endpoints.gemini_cli.userinfo_url).status == 401
    assert endpoints.gemini_cli.client_secret.reveal() == GOOGLE_CLIENT_SECRET
    assert call("POST", endpoints.codex.base_url + "/responses", ASK).status == 401
    ours = (endpoints.gemini_cli, endpoints.claude, endpoints.codex, endpoints.qwen)
    assert [row.client_id for row in ours] == [CLIENT_IDS[kind] for kind in ("gemini", "claude", "codex", "qwen")]


def test_files_can_be_asked_for_from_another_process(sim: Simulator, call):
    made = call("POST", "/_sim/accounts", {"kind": "codex", "email": "ada@example.com", "lifetime": 60})
    wrong = call("POST", "/_sim/accounts", {"kind": "codex"})

    assert sim.accounts.check("codex", made.json["access_token"])[0].email == "ada@example.com"
    assert (wrong.status, "email" in wrong.json["error"]) == (400, True)
    assert sim.requests == []


def test_a_reset_forgets_everybody(sim: Simulator, call):
    token = sim.accounts.issue("codex", "ada@example.com")["access_token"]
    sim.accounts.lifetime = 1
    sim.reset()

    assert call("POST", CODEX, ASK, token=token).status == 401
    assert sim.accounts.lifetime is None
