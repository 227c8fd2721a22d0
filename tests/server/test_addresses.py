"""What is served where: lists of models in three shapes, errors in the caller's dialect, and the addresses of old."""

import anthropic
import openai
import pytest
from callers import Caller
from doors import CHAT, CONFIG, DOORS, GEMINI, MESSAGES, RESPONSES, is_error
from google import genai
from google.genai.types import HttpOptions

pytestmark = pytest.mark.flow

SLASHED = """\
  - {{name: routed, base-url: "{vendors}/v1", api-keys: [sk-sim-chat], models: [
      {{name: sim-chat, alias: "vendor/kimi-k2:free"}}, {{name: sim-large, alias: "a/b/c:d:e"}}]}}
"""
NAMES = ("vendor/kimi-k2:free", "a/b/c:d:e")
GOOGLE = "x-goog-api-key: test-key"
ANTHROPIC = "anthropic-version: 2023-06-01"


@pytest.fixture
def routed(start, edge, shared_vendors, dial) -> Caller:
    """A gateway whose models have slashes and colons in their names."""
    return dial(start((CONFIG + SLASHED).format(vendors=shared_vendors.url), edge=edge))


# -- lists of models


def test_the_sdk_of_openai_lists_and_gets_models(shared):
    client = openai.OpenAI(base_url=f"{shared.url}/v1", api_key="test-key")

    models = {model.id: model for model in client.models.list()}

    assert {"sim-chat", "gpt-5", "claude-opus-4-7", "gemini-2.5-flash"} <= set(models)
    assert all(model.object == "model" and model.owned_by and model.created for model in models.values())
    assert client.models.retrieve("claude-opus-4-7").id == "claude-opus-4-7"
    with pytest.raises(openai.NotFoundError, match="nobody"):
        client.models.retrieve("nobody")


def test_the_sdk_of_anthropic_lists_and_gets_models(shared):
    client = anthropic.Anthropic(base_url=shared.url, api_key="test-key")

    models = {model.id: model for model in client.models.list(limit=2)}

    assert {"sim-chat", "gpt-5", "claude-opus-4-7", "gemini-2.5-flash"} <= set(models)
    assert all(model.type == "model" and model.display_name and model.created_at for model in models.values())
    assert client.models.retrieve("sim-chat").id == "sim-chat"
    with pytest.raises(anthropic.NotFoundError, match="nobody"):
        client.models.retrieve("nobody")


@pytest.mark.parametrize("version", ["v1", "v1beta", None])
def test_the_sdk_of_google_lists_and_gets_models(shared, version):
    client = genai.Client(api_key="test-key", http_options=HttpOptions(base_url=shared.url, api_version=version))

    models = {model.name: model for model in client.models.list(config={"page_size": 2})}

    assert {f"models/{name}" for name in ("sim-chat", "gpt-5", "claude-opus-4-7", "gemini-2.5-flash")} <= set(models)
    assert all("generateContent" in (model.supported_actions or []) for model in models.values())
    assert client.models.get(model="gpt-5").name == "models/gpt-5"
    with pytest.raises(genai.errors.ClientError, match="nobody"):
        client.models.get(model="nobody")


def test_lists_of_models_never_change_their_order(caller):
    for target, lines in (("/v1/models", ()), ("/v1/models", (ANTHROPIC,)), ("/v1beta/models", ())):
        first = caller.ask("GET", target, *lines).body

        assert all(caller.ask("GET", target, *lines).body == first for _ in range(5))


@pytest.mark.parametrize(
    "query", ["limit=1", "after_id=gpt-5&before_id=x", "pageSize=1&pageToken=x", "client_version=1"]
)
def test_questions_for_pages_do_no_harm(caller, query):
    for target, lines in (("/v1/models", ()), ("/v1/models", (ANTHROPIC,)), ("/v1beta/models", ())):
        whole = caller.ask("GET", target, *lines)

        assert caller.ask("GET", f"{target}?{query}", *lines).json == whole.json


def test_whom_a_list_is_for_is_told_by_the_request(caller):
    def keys(*lines: str, target: str = "/v1/models") -> set[str]:
        return set(caller.ask("GET", target, *lines, key=not any("test-key" in line for line in lines)).json)

    assert keys() == {"object", "data"}
    assert keys("authorization: Bearer test-key", "x-api-key: x") == {"object", "data"}
    assert keys(ANTHROPIC) == {"data", "has_more", "first_id", "last_id"}
    assert keys("x-api-key: test-key") == {"data", "has_more", "first_id", "last_id"}
    assert keys("user-agent: claude-cli/2.1.330 (external, cli)") == {"data", "has_more", "first_id", "last_id"}
    assert keys(GOOGLE) == {"models"}
    assert keys("user-agent: google-genai-sdk/3.4.0 gl-python/3.11") == {"models"}
    assert keys(target="/v1beta/models") == {"models"}
    assert keys(target="/v1/models?key=test-key") == {"object", "data"}


@pytest.mark.parametrize("name", NAMES)
def test_models_with_slashes_and_colons_are_shown(routed, name):
    for path in (name, name.replace("/", "%2F").replace(":", "%3A")):
        assert routed.ask("GET", f"/v1/models/{path}").json["id"] == name
        assert routed.ask("GET", f"/v1/models/{path}", ANTHROPIC).json["id"] == name
        assert routed.ask("GET", f"/v1/models/{path}", GOOGLE).json["name"] == f"models/{name}"
        assert routed.ask("GET", f"/v1beta/models/{path}").json["name"] == f"models/{name}"


@pytest.mark.parametrize("name", NAMES)
def test_models_with_slashes_and_colons_are_served(routed, name):
    for root in ("/v1beta/models", "/v1/models", "/v1beta1/models"):
        for path in (name, name.replace("/", "%2F").replace(":", "%3A")):
            answer = routed.ask("POST", f"{root}/{path}:generateContent", body=GEMINI.body)
            stream = routed.ask("POST", f"{root}/{path}:streamGenerateContent?alt=sse", body=GEMINI.body)

            assert answer.json["candidates"][0]["content"]["parts"][0]["text"] == "echo: hello there"
            assert answer.json["modelVersion"] == name
            assert stream.frames[0].startswith("data: ")
    assert routed.ask("POST", CHAT.target, body={**CHAT.body, "model": name}).json["model"] == name


def test_the_sdk_of_google_calls_v1(shared):
    client = genai.Client(api_key="test-key", http_options=HttpOptions(base_url=shared.url))

    answer = client.models.generate_content(model="claude-opus-4-7", contents="hello there")

    assert answer.text == "echo: hello there"


def test_streams_without_alt_sse_are_one_json_array(caller):
    for query in ("", "?alt=json", "?$alt=json"):
        answer = caller.ask("POST", f"/v1beta/models/gemini-2.5-flash:streamGenerateContent{query}", body=GEMINI.body)

        assert answer.header("content-type").startswith("application/json")
        text = "".join(piece["candidates"][0]["content"]["parts"][0]["text"] for piece in answer.json)
        assert text == "echo: hello there"


# -- what is not there


@pytest.mark.parametrize(
    ("method", "target", "status", "dialect"),
    [
        ("GET", "/nothing", 404, "openai-chat"),
        ("POST", "/nothing", 404, "openai-chat"),
        ("GET", "/v1", 404, "openai-chat"),
        ("GET", "/v1/", 404, "openai-chat"),
        ("POST", "/v1/embeddings", 404, "openai-chat"),
        ("GET", "/v1/chat/completions", 405, "openai-chat"),
        ("PUT", "/v1/chat/completions", 405, "openai-chat"),
        ("DELETE", "/v1/models", 405, "openai-chat"),
        ("DELETE", "/v1/models/gpt-5", 405, "openai-chat"),
        ("POST", "/v1/models/gpt-5", 405, "openai-chat"),
        ("GET", "/v1/completions", 405, "openai-chat"),
        ("GET", "/v1/responses", 405, "openai-responses"),
        ("GET", "/v1/responses/resp_1", 404, "openai-responses"),
        ("DELETE", "/v1/responses/resp_1", 404, "openai-responses"),
        ("POST", "/v1/responses/resp_1/cancel", 404, "openai-responses"),
        ("GET", "/v1/messages", 405, "anthropic"),
        ("GET", "/v1/messages/count_tokens", 405, "anthropic"),
        ("POST", "/v1/messages/batches", 404, "anthropic"),
        ("GET", "/v1beta", 404, "gemini"),
        ("GET", "/v1beta/files", 404, "gemini"),
        ("POST", "/v1beta/models", 405, "gemini"),
        ("POST", "/v1beta/models/gemini-2.5-flash", 405, "gemini"),
        ("GET", "/v1beta/models/gemini-2.5-flash:generateContent", 405, "gemini"),
        ("POST", "/v1beta/models/gemini-2.5-flash:frobnicate", 404, "gemini"),
        ("POST", "/v1beta/models/gemini-2.5-flash:", 404, "gemini"),
        ("POST", "/v1beta/models/:generateContent", 405, "gemini"),
        ("POST", "/v1/models/gemini-2.5-flash:frobnicate", 404, "gemini"),
        ("POST", "/v1beta/models/gemini-2.5-flash:embedContent", 501, "gemini"),
        ("POST", "/v1beta/models/gemini-2.5-flash:batchGenerateContent", 501, "gemini"),
        ("POST", "/v1/models/gemini-2.5-flash:embedContent", 501, "gemini"),
        ("POST", "/v1beta/models/gemini-2.5-flash:batchEmbedContents", 501, "gemini"),
        ("POST", "/v1internal/nothing", 404, "gemini"),
        ("POST", "/healthz", 405, "openai-chat"),
        ("POST", "/", 405, "openai-chat"),
    ],
)
def test_what_is_not_served_is_told_in_the_dialect_of_the_address(caller, method, target, status, dialect):
    answer = caller.ask(method, target, body={} if method == "POST" else None)

    assert answer.status == status
    assert answer.header("content-type") == "application/json"
    assert is_error(dialect, answer.json, status)
    assert bool(answer.header("allow")) == (status == 405)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("target", ["/", "/healthz", "/readyz"])
def test_signs_of_life_need_no_key(caller, method, target):
    answer = caller.ask(method, target, key=False)

    assert answer.status == 200
    assert int(answer.header("content-length")) > 0
    assert answer.header("x-request-id")


def test_head_requests_are_answered_without_a_body_everywhere(caller):
    for target, status in (("/v1/models", 200), ("/nothing", 404), (CHAT.target, 405), (MESSAGES.target, 405)):
        assert caller.ask("HEAD", target).status == status
    assert caller.ask("GET", "/healthz").json == {"status": "ok"}


def test_the_root_tells_what_is_served(caller):
    told = caller.ask("GET", "/", key=False).json

    assert told["version"]
    assert "POST /v1/chat/completions" in told["endpoints"]


# -- ids


def test_every_answer_has_an_id_of_its_own(caller):
    seen: list[str] = []
    for door in DOORS:
        for body, key in ((door.body, True), (b"{", True), (door.body, False)):
            seen.append(caller.ask("POST", door.target, body=body, key=key).header("x-request-id"))
    for method, target in (("GET", "/"), ("HEAD", "/healthz"), ("GET", "/nothing"), ("OPTIONS", "/v1/messages")):
        seen.append(caller.ask(method, target).header("x-request-id"))

    assert all(request_id.startswith("req_") for request_id in seen)
    assert len(set(seen)) == len(seen)


def test_callers_of_anthropic_find_the_id_where_their_sdk_looks(caller):
    translated = caller.ask("POST", MESSAGES.target, body={**MESSAGES.body, "model": "gpt-5"})
    refused = caller.ask("POST", MESSAGES.target, body=b"{")
    unknown = caller.ask("POST", "/v1/messages/batches", body={})
    listed = caller.ask("GET", "/v1/models", ANTHROPIC)
    keyless = caller.ask("POST", MESSAGES.target, body=MESSAGES.body, key=False)

    for answer in (translated, refused, unknown, listed, keyless):
        assert answer.header("request-id") == answer.header("x-request-id") != ""
    assert refused.json["request_id"] == refused.header("request-id")


def test_the_id_of_the_upstream_goes_before_ours(caller):
    whole = caller.ask("POST", MESSAGES.target, body=MESSAGES.body)
    stream = caller.ask("POST", MESSAGES.target, body={**MESSAGES.body, "stream": True})

    for answer in (whole, stream):
        assert answer.header("request-id")
        assert answer.header("request-id") != answer.header("x-request-id")


def test_other_dialects_have_one_id(caller):
    for door in (CHAT, RESPONSES, GEMINI):
        assert caller.ask("POST", door.target, body=door.body).header("request-id") == ""
