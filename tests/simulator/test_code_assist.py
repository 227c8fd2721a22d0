"""Code Assist: Gemini in an envelope, and how a person is set up."""

import pytest

from cliproxy.simulator import Simulator
from cliproxy.simulator.accounts import SCOPES, Account

EMAIL = "ada@example.com"
MODEL = "gemini-2.5-flash"
METADATA = {"ideType": "IDE_UNSPECIFIED", "platform": "PLATFORM_UNSPECIFIED", "pluginType": "GEMINI"}
CONTENTS = [{"role": "user", "parts": [{"text": "hello there"}]}]
GENERATE = "/v1internal:generateContent"
STREAM = "/v1internal:streamGenerateContent"


@pytest.fixture
def project(sim: Simulator):
    return sim.accounts.find("gemini", EMAIL).companion


def ask(project, **inner):
    return {"model": MODEL, "project": project, "request": {"contents": CONTENTS, **inner}}


def text_of(response):
    return "".join(part["text"] for part in response["candidates"][0]["content"]["parts"])


def test_an_answer_comes_in_an_envelope(call, token_of, project):
    body = {**ask(project, session_id="s"), "user_prompt_id": "p", "enabled_credit_types": ["GOOGLE_ONE_AI"]}

    answer = call("POST", GENERATE, body, token=token_of("gemini"))

    assert answer.json.keys() == {"response", "traceId"}
    assert text_of(answer.json["response"]) == "echo: hello there"
    assert answer.json["response"]["modelVersion"] == MODEL


def test_a_stream_has_one_envelope_per_event(call, token_of, project):
    token = token_of("gemini")

    events = call("POST", STREAM + "?alt=sse", ask(project), token=token)
    array = call("POST", STREAM, ask(project), token=token)

    assert events.headers["content-type"].startswith("text/event-stream")
    assert "".join(text_of(event["response"]) for event in events.events) == "echo: hello there"
    assert array.json == events.events
    assert events.events[-1]["response"]["candidates"][0]["finishReason"] == "STOP"


REFUSED = {
    "inner model": ({"request": {"contents": CONTENTS, "model": MODEL}}, "Unknown name \"model\" at 'request'"),
    "unknown outer field": ({"contents": CONTENTS}, 'Unknown name "contents"'),
    "unknown deep field": (
        {"request": {"contents": CONTENTS, "generationConfig": {"speed": 1}}},
        "Unknown name \"speed\" at 'request.generation_config'",
    ),
    "no contents": ({"request": {}}, "contents is not specified"),
    "no request": ({"request": ...}, "request"),
    "no model": ({"model": ...}, "model"),
    "no project": ({"project": ...}, "project"),
}


@pytest.mark.parametrize(("changes", "says"), REFUSED.values(), ids=REFUSED)
def test_the_envelope_is_read_strictly(call, token_of, project, changes, says):
    body = {name: value for name, value in {**ask(project), **changes}.items() if value is not ...}

    answer = call("POST", GENERATE, body, token=token_of("gemini"))

    assert (answer.status, answer.json["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert says in answer.json["error"]["message"]


def test_a_stream_is_refused_in_an_array(call, token_of, project):
    for path in (STREAM, STREAM + "?alt=sse"):
        (refusal,) = call("POST", path, {**ask(project), "model": "gemini-9"}, token=token_of("gemini")).json

        assert refusal["error"]["status"] == "NOT_FOUND"


def test_withdrawn_models_are_not_found(call, token_of, project):
    body = {**ask(project), "model": "gemini-2.5-pro-preview-05-06"}

    assert call("POST", GENERATE, body, token=token_of("gemini")).status == 404


def test_a_project_belongs_to_the_account(sim: Simulator, call, token_of):
    token = token_of("gemini", project="mine")

    assert call("POST", GENERATE, ask("mine"), token=token).status == 200
    assert call("POST", GENERATE, ask("yours"), token=token).status == 403


def test_counting_takes_no_project_and_no_safety_settings(call, token_of, project):
    def count(**changes):
        body = {"request": {"model": f"models/{MODEL}", "contents": CONTENTS, **changes.pop("inner", {})}, **changes}
        return call("POST", "/v1internal:countTokens", body, token=token_of("gemini"))

    assert count().json == {"totalTokens": 2}
    assert 'Unknown name "safetySettings"' in count(inner={"safetySettings": []}).json["error"]["message"]
    assert 'Unknown name "project"' in count(project=project).json["error"]["message"]


def test_dead_tokens_are_refused(sim: Simulator, call, token_of, project):
    answers = [
        call("POST", GENERATE, ask(project), token=token)
        for token in (token_of("gemini", expired=True), "ya29.guessed", None)
    ]

    assert [answer.status for answer in answers] == [401] * 3
    reasons = [answer.json["error"]["details"][0]["reason"] for answer in answers]
    assert reasons == ["ACCESS_TOKEN_EXPIRED", "ACCESS_TOKEN_TYPE_UNSUPPORTED", "CREDENTIALS_MISSING"]


def test_a_token_without_the_clouds_scope_only_tells_who_it_is(sim: Simulator, call):
    account = sim.accounts.find("gemini", EMAIL)
    token = sim.accounts.open_grant(account, SCOPES["gemini"][1]).access

    assert call("POST", "/v1internal:loadCodeAssist", {"metadata": METADATA}, token=token).status == 403
    for version in ("v1", "v2"):
        assert call("GET", f"/oauth2/{version}/userinfo?alt=json", token=token).json["email"] == EMAIL


# --- setting up ---


def token_for(sim: Simulator, **traits):
    account = sim.accounts.add(Account(kind="gemini", email=EMAIL, **traits))
    return sim.accounts.open_grant(account, " ".join(SCOPES["gemini"])).access


def load(call, token, **fields):
    return call("POST", "/v1internal:loadCodeAssist", {"metadata": METADATA, **fields}, token=token).json


def onboard(call, token, tier, **fields):
    body = {"tierId": tier, "metadata": METADATA, **fields}
    return call("POST", "/v1internal:onboardUser", body, token=token)


def test_a_new_person_gets_the_free_tier_after_some_polls(sim: Simulator, call, project):
    sim.accounts.polls = 2
    token = token_for(sim)

    before = load(call, token)
    started = onboard(call, token, "free-tier").json
    polls = [call("GET", f"/v1internal/{started['name']}", token=token).json for _ in range(2)]
    after = load(call, token)

    assert "currentTier" not in before
    assert [(tier["id"], tier["isDefault"]) for tier in before["allowedTiers"]] == [("free-tier", True)]
    assert [started["done"], polls[0]["done"], polls[1]["done"]] == [False, False, True]
    assert polls[1]["response"]["cloudaicompanionProject"]["id"] == project
    assert (after["currentTier"]["id"], after["cloudaicompanionProject"]) == ("free-tier", project)
    assert call("POST", GENERATE, ask(project), token=token).status == 200


def test_asking_again_polls_the_same_operation(sim: Simulator, call):
    token = token_for(sim)

    first, second = (onboard(call, token, "free-tier").json for _ in range(2))

    assert first["name"] == second["name"]
    assert (first["done"], second["done"]) == (False, True)


def test_each_project_is_set_up_for_itself(sim: Simulator, call):
    token = token_for(sim, tier="standard-tier", projects=("mine", "other"))

    names = {
        onboard(call, token, "standard-tier", cloudaicompanionProject=name).json["name"] for name in ("mine", "other")
    }

    assert len(names) == 2


def test_onboarding_can_be_done_at_once(sim: Simulator, call):
    sim.accounts.polls = 0

    assert onboard(call, token_for(sim), "free-tier").json["done"]


def test_the_free_tier_takes_no_project(sim: Simulator, call):
    answer = onboard(call, token_for(sim), "free-tier", cloudaicompanionProject="mine")

    assert (answer.status, answer.json["error"]["status"]) == (400, "FAILED_PRECONDITION")


def test_a_licence_needs_a_project_of_ones_own(sim: Simulator, call):
    sim.accounts.polls = 0
    token = token_for(sim, tier="standard-tier", projects=("mine", "other"))

    offered = load(call, token)["allowedTiers"][0]
    statuses = [
        onboard(call, token, "standard-tier", **fields).status
        for fields in ({}, {"cloudaicompanionProject": "yours"}, {"cloudaicompanionProject": "mine"})
    ]

    assert offered["userDefinedCloudaicompanionProject"]
    assert statuses == [400, 403, 200]
    assert load(call, token)["cloudaicompanionProject"] == "mine"
    assert load(call, token, cloudaicompanionProject="other")["cloudaicompanionProject"] == "other"
    projects = call("GET", "/v1/projects", token=token).json["projects"]
    assert [row["projectId"] for row in projects] == ["mine", "other"]


def test_a_retired_person_is_told_why(sim: Simulator, call):
    row = {"reasonCode": "UNSUPPORTED_CLIENT", "reasonMessage": "Retired.", "tierId": "free-tier", "tierName": "Free"}
    token = token_for(sim, ineligible=(row,))

    told = load(call, token)

    assert told["ineligibleTiers"] == [row]
    assert "allowedTiers" not in told
    assert onboard(call, token, "free-tier").status == 403


def test_nobody_is_served_before_onboarding(sim: Simulator, call, project):
    assert call("POST", GENERATE, ask(project), token=token_for(sim)).status == 403


def test_an_unknown_member_or_value_of_the_metadata_is_refused(sim: Simulator, call):
    token = token_for(sim)

    for metadata in ({"ideType": "EMACS"}, {"colour": "red"}):
        assert call("POST", "/v1internal:loadCodeAssist", {"metadata": metadata}, token=token).status == 400


def test_an_unknown_operation_is_not_found(sim: Simulator, call):
    assert call("GET", "/v1internal/operations/none", token=token_for(sim)).status == 404


def test_quota_is_told_per_model(call, token_of, project):
    token = token_of("gemini")

    buckets = call("POST", "/v1internal:retrieveUserQuota", {"project": project}, token=token).json["buckets"]

    assert MODEL in [bucket["modelId"] for bucket in buckets]
    assert buckets[0]["resetTime"].endswith("T00:00:00Z")
    assert call("POST", "/v1internal:retrieveUserQuota", {"project": "yours"}, token=token).status == 403


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("GET", "getCodeAssistGlobalUserSetting"),
        ("POST", "setCodeAssistGlobalUserSetting"),
        ("POST", "listExperiments"),
        ("POST", "fetchAdminControls"),
        ("POST", "recordCodeAssistMetrics"),
    ],
)
def test_settings_and_telemetry_get_an_empty_object(call, token_of, method, name):
    body = None if method == "GET" else {"project": "p"}

    assert call(method, f"/v1internal:{name}", body, token=token_of("gemini")).json == {}
    assert call(method, f"/v1internal:{name}", body).status == 401
