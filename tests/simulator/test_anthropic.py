"""The Messages surface, judged by the official SDK, and by what it must refuse."""

import base64

import anthropic
import pytest

from cliproxy.simulator import Simulator

MODEL = "claude-haiku-4-5-20251001"
TOOL = {"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
THINKING = {"type": "enabled", "budget_tokens": 1024}


def ask(text):
    return [{"role": "user", "content": text}]


def test_text_is_echoed_with_usage(sim: Simulator, anthropic_client: anthropic.Anthropic):
    answer = anthropic_client.messages.create(model=MODEL, max_tokens=64, messages=ask("hello there"))

    assert answer.content[0].text == "echo: hello there"
    assert answer.stop_reason == "end_turn"
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (2, 3)
    assert answer._request_id.startswith("req_")


def test_a_stream_folds_to_the_whole_answer(sim: Simulator, anthropic_client: anthropic.Anthropic):
    request = {
        "model": MODEL,
        "max_tokens": 2048,
        "messages": ask('look\nthen call weather {"city": "Oslo"}\ncall weather {"city": "Bergen"}'),
        "tools": [TOOL],
        "thinking": THINKING,
    }

    whole = anthropic_client.messages.create(**request)
    with anthropic_client.messages.stream(**request) as stream:
        folded = stream.get_final_message()

    assert [block.type for block in whole.content] == ["thinking", "text", "tool_use", "tool_use"]
    assert [block.type for block in folded.content] == [block.type for block in whole.content]
    assert folded.content[0].signature == whole.content[0].signature
    assert [block.input for block in folded.content[2:]] == [{"city": "Oslo"}, {"city": "Bergen"}]
    assert [block.input for block in whole.content[2:]] == [{"city": "Oslo"}, {"city": "Bergen"}]
    assert folded.stop_reason == whole.stop_reason == "tool_use"
    assert folded.usage.output_tokens == whole.usage.output_tokens


def test_a_tool_loop_with_thinking_goes_round(sim: Simulator, anthropic_client: anthropic.Anthropic):
    request = {"model": MODEL, "max_tokens": 2048, "tools": [TOOL], "thinking": THINKING}
    first = anthropic_client.messages.create(messages=ask("call weather {}"), **request)
    result = {"type": "tool_result", "tool_use_id": first.content[-1].id, "content": "rain"}

    second = anthropic_client.messages.create(
        messages=[
            *ask("call weather {}"),
            {"role": "assistant", "content": first.content},
            {"role": "user", "content": [result]},
        ],
        **request,
    )

    assert second.content[-1].text == "tool weather said: rain"
    assert second.content[0].thinking == "thinking about: call weather {}"


def test_omitted_thinking_keeps_its_signature(sim: Simulator, anthropic_client: anthropic.Anthropic):
    request = {"model": "claude-opus-4-6", "max_tokens": 64, "thinking": {"type": "adaptive", "display": "omitted"}}
    first = anthropic_client.messages.create(messages=ask("hi"), **request)

    second = anthropic_client.messages.create(
        messages=[*ask("hi"), {"role": "assistant", "content": first.content}, *ask("again")], **request
    )

    assert (first.content[0].thinking, second.content[1].text) == ("", "echo: again")


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "weather"}], ids=["any", "named"])
def test_a_forced_choice_calls_with_no_arguments(sim: Simulator, anthropic_client: anthropic.Anthropic, choice):
    answer = anthropic_client.messages.create(
        model=MODEL, max_tokens=64, messages=ask("hi"), tools=[TOOL], tool_choice=choice
    )

    assert (answer.content[0].name, answer.content[0].input) == ("weather", {})


def test_counting_gives_the_input_usage(sim: Simulator, anthropic_client: anthropic.Anthropic):
    request = {"model": MODEL, "messages": ask("one two three"), "system": "Be kind.", "tools": [TOOL]}

    counted = anthropic_client.messages.count_tokens(**request)
    answer = anthropic_client.messages.create(max_tokens=64, **request)

    assert counted.input_tokens == answer.usage.input_tokens == 6


def test_a_schema_gets_a_minimal_instance(sim: Simulator, anthropic_client: anthropic.Anthropic):
    schema = {
        "type": "object",
        "properties": {"title": {"type": "string"}},
        "required": ["title"],
        "additionalProperties": False,
    }

    answer = anthropic_client.messages.create(
        model=MODEL,
        max_tokens=64,
        messages=ask("hi"),
        output_config={"format": {"type": "json_schema", "schema": schema}},
    )

    assert answer.content[0].text == '{"title":"echo: hi"}'


def test_length_and_stop_end_the_text(sim: Simulator, anthropic_client: anthropic.Anthropic):
    cut = anthropic_client.messages.create(model=MODEL, max_tokens=3, messages=ask("a b c d"))
    stopped = anthropic_client.messages.create(
        model=MODEL, max_tokens=64, messages=ask("a STOP b"), stop_sequences=["STOP"]
    )

    assert (cut.content[0].text, cut.stop_reason) == ("echo: a b", "max_tokens")
    assert (stopped.content[0].text, stopped.stop_reason, stopped.stop_sequence) == (
        "echo: a ",
        "stop_sequence",
        "STOP",
    )


def test_media_and_system_text_are_told(sim: Simulator, anthropic_client: anthropic.Anthropic, png: bytes):
    source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(png).decode()}
    parts = [{"type": "image", "source": source}, {"type": "text", "text": "look"}]

    picture = anthropic_client.messages.create(
        model=MODEL, max_tokens=64, messages=[{"role": "user", "content": parts}]
    )
    system = anthropic_client.messages.create(
        model=MODEL, max_tokens=64, system=[{"type": "text", "text": "Be kind."}], messages=ask("show system")
    )

    assert picture.content[0].text == f"echo: look [image/png {len(png)} bytes]"
    assert system.content[0].text == "Be kind."


def test_a_foreign_key_is_refused(sim: Simulator, anthropic_client: anthropic.Anthropic):
    with pytest.raises(anthropic.AuthenticationError) as caught:
        anthropic_client.with_options(api_key="sk-ant-real").messages.create(
            model=MODEL, max_tokens=64, messages=ask("hi")
        )

    assert caught.value.body["error"]["type"] == "authentication_error"
    assert "sk-ant-real" not in caught.value.body["error"]["message"]


def test_the_models_are_listed(sim: Simulator, anthropic_client: anthropic.Anthropic):
    assert MODEL in [model.id for model in anthropic_client.models.list()]


USE = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "rain"}
TEXT = {"type": "text", "text": "x"}
MARKED = {**TEXT, "cache_control": {"type": "ephemeral"}}


def turns(*contents):
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[at % 2], "content": content} for at, content in enumerate(contents)]}


REFUSED = {
    "missing max_tokens": ({"max_tokens": None}, "max_tokens"),
    "unknown parameter": ({"n": 2}, "n: Extra inputs are not permitted"),
    "unknown key in a block": (turns([{**TEXT, "index": 0}]), "messages.0.content.0.index: Extra inputs"),
    "beta field without the beta": ({"context_management": {"edits": []}}, "Extra inputs are not permitted"),
    "no messages": ({"messages": []}, "messages"),
    "assistant first": ({"messages": [{"role": "assistant", "content": "x"}]}, 'must use the "user" role'),
    "system role": ({"messages": [{"role": "system", "content": "x"}, *ask("y")]}, "messages.0.role"),
    "tool role": ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
    "empty text": (turns([{"type": "text", "text": ""}]), "text content blocks must be non-empty"),
    "blank text": (turns("  "), "must contain non-whitespace text"),
    "empty content": (turns("x", [], "y"), "messages.1: all messages must have non-empty content"),
    "trailing whitespace": (turns("x", "y "), "cannot end with trailing whitespace"),
    "unanswered call": (turns("x", [USE], "y"), "without `tool_result` blocks immediately after: toolu_1"),
    "call at the end": (turns("x", [USE]), "without `tool_result` blocks"),
    "result behind text": (turns("x", [USE], [TEXT, RESULT]), "without `tool_result` blocks"),
    "orphan result": (turns("x", "y", [RESULT]), "unexpected `tool_use_id`"),
    "result given twice": (turns("x", [USE], [RESULT, RESULT]), "must have a single result"),
    "repeated id": (turns("x", [USE, USE], [RESULT]), "`tool_use` ids must be unique"),
    "id charset": (turns("x", [{**USE, "id": "a.b"}], [RESULT]), "messages.1.content.0.id"),
    "arguments as text": (turns("x", [{**USE, "input": "{}"}], [RESULT]), "messages.1.content.0.input"),
    "image type": (
        turns([{"type": "image", "source": {"type": "base64", "media_type": "image/jpg", "data": "aGk="}}]),
        "messages.0.content.0.source.media_type",
    ),
    "thinking from the user": (turns([{"type": "thinking", "thinking": "x", "signature": "y"}]), "not permitted"),
    "five cache marks": (turns([MARKED] * 5), "A maximum of 4 blocks with cache_control may be provided. Found 5."),
    "tool name": ({"tools": [{**TOOL, "name": "a.b"}]}, "tools.0.custom.name"),
    "tool without schema": ({"tools": [{"name": "f"}]}, "tools.0.custom.input_schema: Field required"),
    "schema without type": ({"tools": [{"name": "f", "input_schema": {}}]}, "input_schema.type: Field required"),
    "schema union": ({"tools": [{"name": "f", "input_schema": {"type": "object", "anyOf": []}}]}, "top level"),
    "duplicate tool": ({"tools": [TOOL, TOOL]}, "Tool names must be unique"),
    "choice without tools": ({"tool_choice": {"type": "auto"}}, "while providing tools"),
    "choice of the other dialect": ({"tools": [TOOL], "tool_choice": "auto"}, "tool_choice"),
    "small budget": ({"thinking": {"type": "enabled", "budget_tokens": 100}}, "thinking.budget_tokens"),
    "budget over the limit": ({"thinking": THINKING, "max_tokens": 1024}, "greater than `thinking.budget_tokens`"),
    "thinking and temperature": ({"thinking": THINKING, "temperature": 0.5}, "`temperature` may only be set to 1"),
    "thinking and forced choice": (
        {"thinking": THINKING, "tools": [TOOL], "tool_choice": {"type": "any"}},
        "Thinking may not be enabled when tool_choice forces tool use",
    ),
    "tool turn without its thinking": (
        {"thinking": THINKING, "tools": [TOOL], **turns("x", [USE], [RESULT])},
        "Expected `thinking` or `redacted_thinking`, but found `tool_use`",
    ),
    "foreign signature": (
        turns("x", [{"type": "thinking", "thinking": "y", "signature": "EqAB"}, TEXT], "z"),
        "Invalid `signature` in `thinking` block",
    ),
    "adaptive on an old model": ({"thinking": {"type": "adaptive"}}, "adaptive thinking is not supported"),
    "output schema keyword": (
        {"output_config": {"format": {"type": "json_schema", "schema": {"type": "integer", "minimum": 1}}}},
        "property 'minimum' is not supported",
    ),
}


@pytest.mark.parametrize(("body", "says"), REFUSED.values(), ids=REFUSED)
def test_it_refuses(sim: Simulator, anthropic_client: anthropic.Anthropic, body, says):
    request = {"model": MODEL, "max_tokens": 2048, "messages": ask("hi"), **body}

    with pytest.raises(anthropic.BadRequestError) as caught:
        anthropic_client.post("/v1/messages", body=request, cast_to=object)

    assert says in caught.value.body["error"]["message"]
    assert caught.value.body["error"]["type"] == "invalid_request_error"
    assert caught.value.body["request_id"] == caught.value.response.headers["request-id"]
