"""The Responses surface, judged by the official SDK, and by what it must refuse."""

import base64

import openai
import pytest

from cliproxy.simulator import Simulator

MODEL = "gpt-5"
TOOL = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}
CALL = {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": "rain"}
USER = {"role": "user", "content": "hi"}


def test_text_is_echoed_with_usage(sim: Simulator, openai_client: openai.OpenAI):
    answer = openai_client.responses.create(model=MODEL, input="hello there", instructions="Be kind.")

    assert (answer.output_text, answer.status) == ("echo: hello there", "completed")
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (4, 3)
    assert answer.instructions == "Be kind."


def test_a_stream_folds_to_the_whole_answer(sim: Simulator, openai_client: openai.OpenAI):
    request = {
        "model": MODEL,
        "input": 'look\nthen call weather {"city": "Oslo",  "days": 1.50}\ncall patch <<free\ntext>>',
        "tools": [TOOL, {"type": "custom", "name": "patch"}],
        "reasoning": {"effort": "low", "summary": "auto"},
        "include": ["reasoning.encrypted_content"],
    }

    whole = openai_client.responses.create(**request)
    with openai_client.responses.stream(**request) as stream:
        events = [event.type for event in stream]
        folded = stream.get_final_response()

    assert events[:2] == ["response.created", "response.in_progress"]
    assert events[-1] == "response.completed"
    assert [item.type for item in folded.output] == ["reasoning", "message", "function_call", "custom_tool_call"]
    assert [item.type for item in whole.output] == [item.type for item in folded.output]
    assert whole.output[2].arguments == folded.output[2].arguments == '{"city": "Oslo",  "days": 1.50}'
    assert whole.output[3].input == folded.output[3].input == "free\ntext"
    assert whole.output_text == folded.output_text == "echo: look"
    assert whole.output[0].encrypted_content.startswith("gAAAA")


def test_an_answer_can_be_played_back_with_its_reasoning(sim: Simulator, openai_client: openai.OpenAI):
    request = {
        "model": MODEL,
        "tools": [TOOL],
        "reasoning": {"effort": "low"},
        "include": ["reasoning.encrypted_content"],
        "store": False,
    }
    first = openai_client.responses.create(input=[{"role": "user", "content": "call weather {}"}], **request)
    call = first.output[-1]
    history = [
        {"role": "user", "content": "call weather {}"},
        *(item.model_dump(exclude_unset=True) for item in first.output),
        {"type": "function_call_output", "call_id": call.call_id, "output": "rain"},
    ]

    second = openai_client.responses.create(input=history, **request)

    assert second.output_text == "tool weather said: rain"


def test_a_schema_gets_a_minimal_instance(sim: Simulator, openai_client: openai.OpenAI):
    schema = {
        "type": "object",
        "properties": {"title": {"type": "string"}},
        "required": ["title"],
        "additionalProperties": False,
    }

    answer = openai_client.responses.create(
        model=MODEL, input="hi", text={"format": {"type": "json_schema", "name": "t", "schema": schema, "strict": True}}
    )

    assert answer.output_text == '{"title":"echo: hi"}'


def test_a_short_limit_makes_it_incomplete(sim: Simulator, openai_client: openai.OpenAI):
    words = " ".join("abcdefghijklmnopqrstuvwxyz")

    answer = openai_client.responses.create(model=MODEL, input=words, max_output_tokens=16)
    events = list(openai_client.responses.create(model=MODEL, input=words, max_output_tokens=16, stream=True))

    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert len(answer.output_text.split()) == 16
    assert events[-1].type == "response.incomplete"


def test_namespaced_tools_are_called_by_their_bare_name(sim: Simulator, openai_client: openai.OpenAI):
    space = {"type": "namespace", "name": "mcp", "description": "d", "tools": [TOOL]}

    answer = openai_client.responses.create(model=MODEL, input="call weather {}", tools=[space])

    assert (answer.output[0].name, answer.output[0].namespace) == ("weather", "mcp")


def test_media_and_system_text_are_told(sim: Simulator, openai_client: openai.OpenAI, png: bytes):
    url = "data:image/png;base64," + base64.b64encode(png).decode()
    parts = [{"type": "input_text", "text": "look"}, {"type": "input_image", "image_url": url, "detail": "auto"}]

    picture = openai_client.responses.create(model=MODEL, input=[{"role": "user", "content": parts}])
    system = openai_client.responses.create(
        model=MODEL,
        instructions="One.",
        input=[{"role": "developer", "content": "Two."}, {"role": "user", "content": "show system"}],
    )

    assert picture.output_text == f"echo: look [image/png {len(png)} bytes]"
    assert system.output_text == "One.\n\nTwo."


STRICT_TOOL = {key: value for key, value in TOOL.items() if key != "strict"}
REFUSED = {
    "unknown parameter": ({"max_tokens": 5}, "Unknown parameter: 'max_tokens'"),
    "missing input": ({"input": None}, "input"),
    "nested tool": ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools[0]"),
    "tool without parameters": ({"tools": [{"type": "function", "name": "f"}]}, "tools[0].parameters"),
    "strict by default": ({"tools": [STRICT_TOOL]}, "'additionalProperties' is required"),
    "unknown tool type": ({"tools": [{"type": "magic"}]}, "Invalid value: 'magic'"),
    "nested choice": (
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "weather"}}},
        "tool_choice",
    ),
    "unknown choice": ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "g"}}, "not found in 'tools'"),
    "input_text from the assistant": (
        {"input": [USER, {"role": "assistant", "content": [{"type": "input_text", "text": "x"}]}]},
        "Supported values are: 'output_text' and 'refusal'",
    ),
    "output_text from the user": (
        {"input": [{"role": "user", "content": [{"type": "output_text", "text": "x"}]}]},
        "Invalid value: 'output_text'",
    ),
    "tool role": ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
    "output without call": ({"input": [USER, OUTPUT]}, "No tool call found for function call output"),
    "call without output": ({"input": [USER, CALL]}, "No tool output found for function call call_1"),
    "wrong id prefix": ({"input": [USER, {**CALL, "id": "call_1"}, OUTPUT]}, "begins with 'fc'"),
    "overlong id": ({"input": [USER, {**CALL, "id": "fc_" + "1" * 64}, OUTPUT]}, "maximum length of 64"),
    "overlong call id": ({"input": [USER, {**CALL, "call_id": "c" * 65}]}, "input[1].call_id"),
    "reasoning without summary": ({"input": [USER, {"type": "reasoning", "id": "rs_1"}]}, "input[1].summary"),
    "foreign reasoning": (
        {"input": [USER, {"type": "reasoning", "summary": [], "encrypted_content": "gAAAAforeign"}]},
        "could not be verified",
    ),
    "reasoning that leads nowhere": (
        {"input": [USER, {"type": "reasoning", "id": "rs_1", "summary": []}, USER]},
        "without its required following item",
    ),
    "tiny limit": ({"max_output_tokens": 5}, "max_output_tokens"),
    "unknown previous response": ({"previous_response_id": "resp_1"}, "not found"),
    "unknown include": ({"include": ["everything"]}, "Invalid value: 'everything'"),
}


@pytest.mark.parametrize(("body", "says"), REFUSED.values(), ids=REFUSED)
def test_it_refuses(sim: Simulator, openai_client: openai.OpenAI, body, says):
    request = {"model": MODEL, "input": "hi", **body}

    with pytest.raises(openai.BadRequestError) as caught:
        openai_client.post("/responses", body=request, cast_to=object)

    assert says in caught.value.body["message"]


def test_an_unstored_item_is_not_found(sim: Simulator, openai_client: openai.OpenAI):
    items = [USER, {"type": "item_reference", "id": "msg_1"}]

    with pytest.raises(openai.NotFoundError):
        openai_client.post("/responses", body={"model": MODEL, "input": items}, cast_to=object)
