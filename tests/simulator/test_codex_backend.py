"""ChatGPT's Codex backend."""

import openai
import pytest

from cliproxy.simulator import Simulator
from cliproxy.simulator.accounts import Account

PATH = "/backend-api/codex/responses"
EMAIL = "ada@example.com"


def ask(**changes):
    body = {
        "model": "gpt-5",
        "instructions": "",
        "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi there"}]}],
        "stream": True,
        "store": False,
    }
    return {name: value for name, value in {**body, **changes}.items() if value is not ...}


def test_the_sdk_reads_its_stream(sim: Simulator, token_of):
    with openai.OpenAI(api_key=token_of("codex"), base_url=sim.url + "/backend-api/codex", max_retries=0) as client:
        events = list(client.responses.create(**ask()))

    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == "echo: hi there"


REFUSED = {
    "not streamed": ({"stream": False}, "Stream must be set to true"),
    "stored": ({"store": True}, "Store must be set to false"),
    "stored by default": ({"store": ...}, "Store must be set to false"),
    "no instructions": ({"instructions": ...}, "Instructions are required"),
    "null instructions": ({"instructions": None}, "Instructions are required"),
    "text input": ({"input": "hi"}, "Input must be a list"),
    "system role": ({"input": [{"role": "system", "content": "x"}]}, "System messages are not allowed"),
    "effort in the name": ({"model": "gpt-5-high"}, "'gpt-5-high' model is not supported"),
    "another tier": ({"service_tier": "flex"}, "Unsupported service_tier: flex"),
    "cache mark": (
        {
            "input": [
                {
                    "role": "user",
                    "content": [{"type": "input_text", "text": "x", "prompt_cache_breakpoint": {"mode": "explicit"}}],
                }
            ]
        },
        "Unsupported parameter: prompt_cache_breakpoint",
    ),
    **{
        name: ({name: value}, f"Unsupported parameter: {name}")
        for name, value in {
            "max_output_tokens": 100,
            "max_completion_tokens": 100,
            "temperature": 1,
            "top_p": 1,
            "truncation": "auto",
            "user": "me",
            "metadata": {},
            "context_management": [],
            "previous_response_id": "resp_1",
            "prompt_cache_options": {},
            "prompt_cache_retention": "24h",
            "safety_identifier": "me",
            "stream_options": {},
            "generate": True,
        }.items()
    },
}


@pytest.mark.parametrize(("changes", "says"), REFUSED.values(), ids=REFUSED)
def test_it_refuses_in_its_own_words(call, token_of, changes, says):
    answer = call("POST", PATH, ask(**changes), token=token_of("codex"))

    assert answer.status == 400
    assert answer.json.keys() == {"detail"}
    assert says in answer.json["detail"]


def test_what_it_lets_through_is_refused_as_the_public_api_does(call, token_of):
    tool = {"type": "function", "name": "n" * 65, "parameters": {}}
    unstored = {"type": "reasoning", "id": "rs_1", "summary": []}

    named = call("POST", PATH, ask(tools=[tool]), token=token_of("codex"))
    item = call("POST", PATH, ask(input=[*ask()["input"], unstored]), token=token_of("codex"))

    assert (named.status, named.json["error"]["param"]) == (400, "tools[0].name")
    assert (item.status, "not found" in item.json["error"]["message"]) == (404, True)


def test_priority_is_a_tier_that_it_has(call, token_of):
    assert call("POST", PATH, ask(service_tier="priority"), token=token_of("codex")).status == 200


def test_dead_tokens_are_refused(sim: Simulator, call, token_of):
    expired = token_of("codex", expired=True)
    revoked = token_of("codex", "bob@example.com")
    sim.accounts.revoke("bob@example.com")

    answers = [call("POST", PATH, ask(), token=token) for token in (expired, revoked, "guessed")]
    nobody = call("POST", PATH, ask())

    assert [answer.status for answer in answers] == [401] * 3
    codes = [answer.json["error"]["code"] for answer in answers]
    assert codes == ["token_expired", "token_revoked", "token_invalidated"]
    assert (nobody.status, nobody.json) == (401, {"detail": "Unauthorized"})


def test_a_token_for_several_workspaces_needs_one_of_them_named(sim: Simulator, call, token_of):
    account = sim.accounts.add(Account(kind="codex", email=EMAIL, workspaces=("team-1",)))
    token = token_of("codex")

    def status(**headers):
        return call("POST", PATH, ask(), token=token, headers=headers).status

    assert status() == 400
    assert status(**{"chatgpt-account-id": "team-1"}) == 200
    assert status(**{"chatgpt-account-id": account.id}) == 200
    assert status(**{"chatgpt-account-id": "elsewhere"}) == 403


def test_the_plan_decides_about_models(sim: Simulator, call, token_of):
    sim.accounts.add(Account(kind="codex", email="free@example.com", plan="free"))

    def slugs(token):
        answer = call("GET", "/backend-api/codex/models?client_version=0.100.0", token=token)
        return {row["slug"] for row in answer.json["models"]}, answer.headers

    free, _ = slugs(token_of("codex", "free@example.com"))
    plus, headers = slugs(token_of("codex"))

    assert free < plus
    assert headers["x-models-etag"]
    assert call("POST", PATH, ask(model="gpt-5.4"), token=token_of("codex", "free@example.com")).status == 400
    assert call("POST", PATH, ask(model="gpt-5.4"), token=token_of("codex")).status == 200
    assert call("GET", "/backend-api/codex/models", token=token_of("codex")).status == 400


def test_the_windows_of_the_plan_are_told(call, token_of):
    answer = call("POST", PATH, ask(), token=token_of("codex"))
    usage = call("GET", "/backend-api/wham/usage", token=token_of("codex")).json

    assert answer.headers["x-codex-plan-type"] == "plus"
    assert answer.headers["x-codex-primary-window-minutes"] == "300"
    assert usage["rate_limit"]["secondary_window"]["limit_window_seconds"] == 604_800
