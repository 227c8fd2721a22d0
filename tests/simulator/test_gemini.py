"""The Gemini surface, judged by the official SDK, and by what it must refuse."""

import json
import urllib.error
import urllib.request

import pytest
from google import genai
from google.genai import types

from cliproxy.simulator import Simulator

MODEL = "gemini-2.5-flash"
NEW_MODEL = "gemini-3-pro-preview"
DECLARED = {"name": "weather", "parameters_json_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
TOOLS = [{"function_declarations": [DECLARED]}]


def post(sim: Simulator, body, *, model=MODEL, method="generateContent", key="sk-sim-gemini"):
    """Status and decoded body of a plain request, as no SDK would send it."""
    request = urllib.request.Request(
        f"{sim.url}/v1beta/models/{model}:{method}",
        data=json.dumps(body).encode(),
        headers={"content-type": "application/json", "x-goog-api-key": key},
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_text_is_echoed_with_usage(sim: Simulator, gemini_client: genai.Client):
    answer = gemini_client.models.generate_content(model=MODEL, contents="hello there")

    assert answer.text == "echo: hello there"
    assert answer.candidates[0].finish_reason == types.FinishReason.STOP
    assert (answer.usage_metadata.prompt_token_count, answer.usage_metadata.candidates_token_count) == (2, 3)


def test_a_stream_adds_up_to_the_whole_answer(sim: Simulator, gemini_client: genai.Client):
    request = {
        "model": NEW_MODEL,
        "contents": 'look\nthen call weather {"city": "Oslo"}\ncall weather {"city": "Bergen"}',
        "config": {"tools": TOOLS, "thinking_config": {"include_thoughts": True}},
    }

    whole = gemini_client.models.generate_content(**request)
    chunks = list(gemini_client.models.generate_content_stream(**request))

    parts = [part for chunk in chunks for part in chunk.candidates[0].content.parts]
    assert "".join(part.text for part in parts if part.text and not part.thought) == "echo: look" == whole.text
    assert [part.function_call.args for part in parts if part.function_call] == [{"city": "Oslo"}, {"city": "Bergen"}]
    assert [call.args for call in whole.function_calls] == [{"city": "Oslo"}, {"city": "Bergen"}]
    assert [bool(part.thought_signature) for part in parts if part.function_call] == [True, False]
    assert [chunk.candidates[0].finish_reason for chunk in chunks][:-1] == [None] * (len(chunks) - 1)


def test_a_chat_with_a_tool_goes_round(sim: Simulator, gemini_client: genai.Client):
    def weather(city: str) -> str:
        """Tell the weather."""
        return f"rain in {city}"

    chat = gemini_client.chats.create(model=NEW_MODEL, config={"tools": [weather]})

    answer = chat.send_message('call weather {"city": "Oslo"}')
    again = chat.send_message("thanks")

    assert answer.text == "tool weather said: rain in Oslo"
    assert again.text == "echo: thanks"


def test_a_forced_choice_calls_with_no_arguments(sim: Simulator, gemini_client: genai.Client):
    config = {"tools": TOOLS, "tool_config": {"function_calling_config": {"mode": "ANY"}}}

    answer = gemini_client.models.generate_content(model=MODEL, contents="hi", config=config)

    assert [(call.name, call.args) for call in answer.function_calls] == [("weather", {})]


def test_counting_gives_the_input_usage(sim: Simulator, gemini_client: genai.Client):
    counted = gemini_client.models.count_tokens(model=MODEL, contents="one two three")
    answer = gemini_client.models.generate_content(model=MODEL, contents="one two three")

    assert counted.total_tokens == answer.usage_metadata.prompt_token_count == 3


@pytest.mark.parametrize("field", ["response_schema", "response_json_schema"])
def test_a_schema_gets_a_minimal_instance(sim: Simulator, gemini_client: genai.Client, field):
    schema = {"type": "OBJECT" if field == "response_schema" else "object", "properties": {"t": {"type": "string"}}}
    config = {"response_mime_type": "application/json", field: schema}

    answer = gemini_client.models.generate_content(model=MODEL, contents="hi", config=config)

    assert answer.text == '{"t":"echo: hi"}'


def test_length_and_stop_end_the_text(sim: Simulator, gemini_client: genai.Client):
    cut = gemini_client.models.generate_content(model=MODEL, contents="a b c d", config={"max_output_tokens": 3})
    stopped = gemini_client.models.generate_content(
        model=MODEL, contents="a STOP b", config={"stop_sequences": ["STOP"]}
    )

    assert (cut.text, cut.candidates[0].finish_reason) == ("echo: a b", types.FinishReason.MAX_TOKENS)
    assert stopped.text == "echo: a "


def test_media_and_system_text_are_told(sim: Simulator, gemini_client: genai.Client, png: bytes):
    parts = ["look", types.Part.from_bytes(data=png, mime_type="image/png")]

    picture = gemini_client.models.generate_content(model=MODEL, contents=parts)
    system = gemini_client.models.generate_content(
        model=MODEL, contents="show system", config={"system_instruction": "Be kind."}
    )

    assert picture.text == f"echo: look [image/png {len(png)} bytes]"
    assert system.text == "Be kind."


def test_without_alt_sse_a_stream_is_one_array(sim: Simulator):
    status, body = post(sim, {"contents": [{"parts": [{"text": "a b"}]}]}, method="streamGenerateContent")
    refused, fault = post(sim, {"nonsense": 1}, method="streamGenerateContent")

    text = "".join(chunk["candidates"][0]["content"]["parts"][0]["text"] for chunk in body)
    assert (status, text) == (200, "echo: a b")
    assert (refused, fault[0]["error"]["status"]) == (400, "INVALID_ARGUMENT")


def test_a_foreign_key_is_refused(sim: Simulator):
    status, body = post(sim, {}, key="AIza")

    assert status == 400
    assert body["error"]["details"][0]["reason"] == "API_KEY_INVALID"


def test_the_models_are_listed(sim: Simulator, gemini_client: genai.Client):
    assert f"models/{MODEL}" in [model.name for model in gemini_client.models.list()]
    assert gemini_client.models.get(model=MODEL).input_token_limit == 1_048_576


USER = {"role": "user", "parts": [{"text": "x"}]}
CALL = {"functionCall": {"name": "weather", "args": {}}}
CALLING = {"role": "model", "parts": [CALL]}
RESPONSE = {"functionResponse": {"name": "weather", "response": {"output": "rain"}}}
ANSWERING = {"role": "user", "parts": [RESPONSE]}


def declared(**fields):
    return {"tools": [{"functionDeclarations": [{"name": "f", **fields}]}]}


REFUSED = {
    "no contents": ({"contents": []}, "contents is not specified"),
    "unknown field": ({"messages": []}, 'Unknown name "messages": Cannot find field.'),
    "unknown field in a part": (
        {"contents": [{"parts": [{"text": "x", "type": "text"}]}]},
        "Unknown name \"type\" at 'contents[0].parts[0]': Cannot find field.",
    ),
    "unknown role": ({"contents": [{"role": "assistant", "parts": [{"text": "x"}]}]}, "valid role: user, model"),
    "no parts": ({"contents": [{"role": "user", "parts": []}]}, "parts must not be empty"),
    "empty part": ({"contents": [{"parts": [{}]}]}, "must have one initialized field"),
    "model first": ({"contents": [{"role": "model", "parts": [{"text": "x"}]}]}, "start with a user turn"),
    "bad base64": (
        {"contents": [{"parts": [{"inlineData": {"mimeType": "image/png", "data": "?"}}]}]},
        "contents[0].parts[0].inline_data.data' (TYPE_BYTES)",
    ),
    "missing response": ({"contents": [USER, CALLING, USER]}, "number of function response parts"),
    "orphan response": ({"contents": [USER, ANSWERING]}, "number of function response parts"),
    "response beside text": (
        {"contents": [USER, CALLING, {"role": "user", "parts": [RESPONSE, {"text": "y"}]}]},
        "only function response parts",
    ),
    "call after a model turn": (
        {"contents": [USER, {"role": "model", "parts": [{"text": "y"}]}, CALLING, ANSWERING]},
        "immediately after a user turn",
    ),
    "response as text": (
        {"contents": [USER, CALLING, {"parts": [{"functionResponse": {"name": "weather", "response": "rain"}}]}]},
        "function_response.response",
    ),
    "foreign signature": (
        {"contents": [USER, {"role": "model", "parts": [{"text": "y", "thoughtSignature": "Zm9yZWlnbg=="}]}, USER]},
        "Corrupted thought signature",
    ),
    "schema keyword": (
        declared(parameters={"type": "object", "properties": {"a": {"type": "string", "const": "x"}}}),
        "Unknown name \"const\" at 'tools[0].function_declarations[0].parameters.properties.a'",
    ),
    "schema type": (declared(parameters={"type": "object", "properties": {"a": {"type": "any"}}}), "Invalid value"),
    "number enum": (
        declared(parameters={"type": "object", "properties": {"a": {"type": "integer", "enum": [1]}}}),
        "enum",
    ),
    "two schemas": (
        declared(parameters={"type": "object"}, parametersJsonSchema={"type": "object"}),
        "only one of parameters and parameters_json_schema",
    ),
    "tool name": ({"tools": [{"functionDeclarations": [{"name": "1f"}]}]}, "Invalid function name"),
    "two kinds in one tool": (
        {"tools": [{"functionDeclarations": [{"name": "f"}], "googleSearch": {}}]},
        "one tool object for each tool type",
    ),
    "level and budget": (
        {"generationConfig": {"thinkingConfig": {"thinkingLevel": "LOW", "thinkingBudget": 1}}},
        "only set only one of thinking budget and thinking level",
    ),
    "any without functions": (
        {"toolConfig": {"functionCallingConfig": {"mode": "ANY"}}},
        "without function_declarations",
    ),
    "schema without mime type": ({"generationConfig": {"responseSchema": {"type": "OBJECT"}}}, "response_mime_type"),
}


@pytest.mark.parametrize(("body", "says"), REFUSED.values(), ids=REFUSED)
def test_it_refuses(sim: Simulator, body, says):
    status, answer = post(sim, {"contents": [USER], **body})

    assert (status, answer["error"]["code"], answer["error"]["status"]) == (400, 400, "INVALID_ARGUMENT")
    assert says in answer["error"]["message"]


@pytest.mark.parametrize(
    ("signature", "expected"), [(None, 400), ("skip_thought_signature_validator", 200)], ids=["missing", "bypass"]
)
def test_gemini_3_wants_a_signature_on_the_first_call_of_a_step(sim: Simulator, signature, expected):
    signed = CALL | ({"thoughtSignature": signature} if signature else {})
    contents = [USER, {"role": "model", "parts": [signed, CALL]}, {"role": "user", "parts": [RESPONSE, RESPONSE]}]

    status, answer = post(sim, {"contents": contents}, model=NEW_MODEL)

    assert status == expected
    assert expected == 200 or "missing a thought_signature" in answer["error"]["message"]


def test_gemini_3_forgives_a_finished_turn(sim: Simulator):
    contents = [USER, CALLING, ANSWERING, {"role": "model", "parts": [{"text": "y"}]}, USER]

    status, _ = post(sim, {"contents": contents}, model=NEW_MODEL)

    assert status == 200


def test_snake_case_is_taken_as_well(sim: Simulator):
    body = {
        "system_instruction": {"parts": [{"text": "Be kind."}]},
        "contents": [USER, {"role": "model", "parts": [{"function_call": CALL["functionCall"]}]}, ANSWERING],
        "generation_config": {"max_output_tokens": 9},
    }

    status, answer = post(sim, body)

    assert status == 200
    assert answer["candidates"][0]["content"]["parts"][0]["text"] == "tool weather said: rain"
