"""`/v1internal`: the real Gemini CLI at this gateway, with raw HTTP on both edges, before upstreams of other dialects."""

import json

import pytest
from callers import Caller
from doors import CONFIG

pytestmark = pytest.mark.flow

CONTENTS = [{"role": "user", "parts": [{"text": "hello there"}]}]
MODELS = ("sim-chat", "gpt-5", "claude-opus-4-7", "gemini-2.5-flash")
ROOT = "/v1internal"


@pytest.fixture
def caller(shared, dial) -> Caller:
    return dial(shared)


def envelope(model: str, **request: object) -> dict[str, object]:
    inner = {"contents": CONTENTS, "session_id": "s", **request}
    return {"model": model, "project": "cli-proxy-api", "user_prompt_id": "u", "request": inner}


def text_of(chunks: list[dict]) -> str:
    parts = [part for chunk in chunks for part in chunk["response"]["candidates"][0]["content"]["parts"]]
    return "".join(part.get("text", "") for part in parts)


# -- answers


@pytest.mark.parametrize("model", MODELS)
def test_any_account_answers_the_cli(caller, model):
    answer = caller.ask("POST", f"{ROOT}:generateContent", body=envelope(model))

    assert answer.status == 200
    assert answer.header("content-type") == "application/json"
    assert text_of([answer.json]) == "echo: hello there"
    assert answer.json["response"]["modelVersion"] == model


@pytest.mark.parametrize("model", MODELS)
def test_any_account_streams_to_the_cli(caller, model):
    answer = caller.ask("POST", f"{ROOT}:streamGenerateContent?alt=sse", body=envelope(model))

    assert answer.status == 200
    assert answer.header("content-type").startswith("text/event-stream")
    chunks = [json.loads(frame.removeprefix("data: ")) for frame in answer.frames]
    assert text_of(chunks) == "echo: hello there"
    assert chunks[-1]["response"]["candidates"][0]["finishReason"] == "STOP"
    assert chunks[-1]["response"]["usageMetadata"]["promptTokenCount"] > 0


@pytest.mark.parametrize("model", MODELS)
def test_without_events_a_stream_is_one_array(caller, model):
    answer = caller.ask("POST", f"{ROOT}:streamGenerateContent", body=envelope(model))

    assert answer.header("content-type").startswith("application/json")
    assert text_of(answer.json) == "echo: hello there"


@pytest.mark.parametrize("model", MODELS)
def test_tools_work_through_the_envelope(caller, model):
    declaration = {"name": "weather", "description": "d", "parametersJsonSchema": {"type": "object", "properties": {"city": {"type": "string"}}}}  # fmt: skip
    contents = [{"role": "user", "parts": [{"text": 'call weather {"city": "Bern"}'}]}]
    tools = [{"functionDeclarations": [declaration]}]

    asked = caller.ask("POST", f"{ROOT}:generateContent", body=envelope(model, contents=contents, tools=tools))
    said = asked.json["response"]["candidates"][0]["content"]
    (call,) = [part["functionCall"] for part in said["parts"] if "functionCall" in part]
    result = {"functionResponse": {"id": call["id"], "name": call["name"], "response": {"output": "cold"}}}
    contents += [said, {"role": "user", "parts": [result]}]
    told = caller.ask("POST", f"{ROOT}:generateContent", body=envelope(model, contents=contents, tools=tools))

    assert call["args"] == {"city": "Bern"}
    assert text_of([told.json]) == "tool weather said: cold"


@pytest.mark.parametrize("model", MODELS)
def test_tokens_are_counted(caller, model):
    body = {"request": {"model": f"models/{model}", "contents": CONTENTS}}

    answer = caller.ask("POST", f"{ROOT}:countTokens", body=body)

    assert answer.status == 200
    assert answer.json["totalTokens"] > 0


# -- what the CLI asks besides


def test_the_cli_is_set_up_without_a_login(caller):
    loaded = caller.ask("POST", f"{ROOT}:loadCodeAssist", body={"metadata": {"pluginType": "GEMINI"}}).json
    onboarded = caller.ask("POST", f"{ROOT}:onboardUser", body={"tierId": "standard-tier"}).json
    polled = caller.ask("GET", f"{ROOT}/{onboarded['name']}").json

    assert loaded["currentTier"]["id"] == "standard-tier"
    assert loaded["allowedTiers"][0]["id"] == "standard-tier"
    assert onboarded["done"] is polled["done"] is True
    projects = [told["response"]["cloudaicompanionProject"]["id"] for told in (onboarded, polled)]
    assert {loaded["cloudaicompanionProject"], *projects} == {"cli-proxy-api"}
    assert polled["name"] == onboarded["name"]


@pytest.mark.parametrize(
    ("method", "target", "told"),
    [
        ("POST", "retrieveUserQuota", {"buckets": []}),
        ("POST", "listExperiments", {"experimentIds": [], "flags": []}),
        ("POST", "fetchAdminControls", {"adminControlsApplicable": False}),
        ("POST", "recordCodeAssistMetrics", {}),
        ("POST", "somethingNew", {}),
    ],
)
def test_what_is_asked_besides_is_answered_harmlessly(caller, method, target, told):
    answer = caller.ask(method, f"{ROOT}:{target}", body={"project": "cli-proxy-api"})

    assert (answer.status, answer.json) == (200, told)
    assert answer.header("content-type") == "application/json"


def test_settings_are_told_and_not_kept(caller):
    asked = {"freeTierDataCollectionOptin": True}

    told = caller.ask("POST", f"{ROOT}:setCodeAssistGlobalUserSetting", body=asked).json

    assert told["freeTierDataCollectionOptin"] is False
    assert caller.ask("GET", f"{ROOT}:getCodeAssistGlobalUserSetting").json == told


def test_a_connection_serves_the_whole_conversation_of_the_cli(caller):
    for method in ("loadCodeAssist", "retrieveUserQuota", "listExperiments"):
        assert caller.ask("POST", f"{ROOT}:{method}", body={"x": "y" * 10_000}).status == 200
    assert caller.ask("POST", f"{ROOT}:generateContent", body=envelope("gpt-5")).status == 200


# -- refusals


@pytest.mark.parametrize(
    ("method", "target", "body", "status"),
    [
        ("POST", f"{ROOT}:generateContent", envelope("nobody"), 404),
        ("POST", f"{ROOT}:streamGenerateContent?alt=sse", envelope("nobody"), 404),
        ("POST", f"{ROOT}:streamGenerateContent", envelope("nobody"), 404),
        ("POST", f"{ROOT}:generateContent", {"model": "gpt-5"}, 400),
        ("POST", f"{ROOT}:generateContent", {"request": {"contents": CONTENTS}}, 400),
        ("POST", f"{ROOT}:generateContent", b"{", 400),
        ("POST", f"{ROOT}:generateContent", b"", 400),
        ("POST", f"{ROOT}:countTokens", {"contents": CONTENTS}, 400),
        ("POST", f"{ROOT}:countTokens", {"request": {"contents": CONTENTS}}, 400),
        ("POST", f"{ROOT}:generateCode", {}, 501),
        ("POST", f"{ROOT}:", {}, 404),
        ("POST", f"{ROOT}:x/y", {}, 404),
        ("POST", f"{ROOT}/", {}, 404),
        ("POST", f"{ROOT}x", {}, 404),
        ("GET", f"{ROOT}:generateContent", None, 405),
        ("DELETE", f"{ROOT}:loadCodeAssist", None, 405),
    ],
)
def test_refusals_have_googles_shape(caller, method, target, body, status):
    answer = caller.ask(method, target, body=body)

    assert answer.status == status
    assert answer.json["error"]["code"] == status
    assert answer.json["error"]["status"]
    assert answer.json["error"]["message"]


@pytest.mark.parametrize("target", [f"{ROOT}:generateContent", f"{ROOT}:loadCodeAssist", f"{ROOT}:somethingNew"])
def test_all_of_it_needs_a_key(caller, target):
    missing = caller.ask("POST", target, body=envelope("gpt-5"), key=False)
    wrong = caller.ask("POST", target, "authorization: Bearer ya29.theirs", body=envelope("gpt-5"), key=False)

    assert missing.status == wrong.status == 401
    assert missing.json["error"]["status"] == wrong.json["error"]["status"] == "UNAUTHENTICATED"


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["host: 127.0.0.1"], 200),
        (["host: localhost:8317", "authorization: Bearer ya29.theirs"], 200),
        (["host: rebound.example"], 403),
        (["host: 127.0.0.1", "x-forwarded-for: 203.0.113.9"], 401),
        (["host: 127.0.0.1", "origin: https://page.example"], 403),
    ],
)
@pytest.mark.parametrize("target", [f"{ROOT}:generateContent", f"{ROOT}:loadCodeAssist"])
def test_a_local_program_needs_none_where_that_is_allowed(start, edge, shared_vendors, dial, lines, status, target):
    config = CONFIG.format(vendors=shared_vendors.url) + "allow-localhost-unauthenticated: true\n"
    caller = dial(start(config, edge=edge))

    answer = caller.ask("POST", target, *lines, body=envelope("gpt-5"), key=False)

    assert answer.status == status
