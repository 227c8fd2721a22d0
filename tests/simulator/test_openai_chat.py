"""The Chat surface, judged by the official SDK, and by what it must refuse."""

import base64

import openai
import pytest

from cliproxy.simulator import Simulator

MODEL = "gpt-5"
TOOL = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}


def ask(text):
    return [{"role": "user", "content": text}]


def test_text_is_echoed_with_usage(sim: Simulator, openai_client: openai.OpenAI):
    answer = openai_client.chat.completions.create(model=MODEL, messages=ask("hello there"))

    assert answer.choices[0].message.content == "echo: hello there"
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (2, 3, 5)


def test_the_same_request_gets_the_same_answer(sim: Simulator, openai_client: openai.OpenAI):
    first, second = (openai_client.chat.completions.create(model=MODEL, messages=ask("hello")) for _ in range(2))

    assert first == second


def test_a_stream_folds_to_the_whole_answer(sim: Simulator, openai_client: openai.OpenAI):
    request = {
        "model": MODEL,
        "messages": ask('look\nthen call weather {"city": "Oslo",  "days": 1.50}\ncall weather {"city": "Bergen"}'),
        "tools": [TOOL],
        "reasoning_effort": "low",
    }

    whole = openai_client.chat.completions.create(**request).choices[0]
    with openai_client.chat.completions.stream(**request) as stream:
        folded = stream.get_final_completion().choices[0]

    assert folded.finish_reason == whole.finish_reason == "tool_calls"
    assert folded.message.content == whole.message.content == "echo: look"
    assert folded.message.reasoning_content == whole.message.reasoning_content
    assert [call.function.arguments for call in whole.message.tool_calls] == [
        '{"city": "Oslo",  "days": 1.50}',
        '{"city": "Bergen"}',
    ]
    assert [call.function.arguments for call in folded.message.tool_calls] == [
        call.function.arguments for call in whole.message.tool_calls
    ]


def test_a_tool_result_is_told_by_name(sim: Simulator, openai_client: openai.OpenAI):
    messages = [
        *ask("weather?"),
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
    ]

    answer = openai_client.chat.completions.create(model=MODEL, messages=messages, tools=[TOOL])

    assert answer.choices[0].message.content == "tool weather said: rain"


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "weather"}}], ids=["any", "named"]
)
def test_a_forced_choice_calls_with_no_arguments(sim: Simulator, openai_client: openai.OpenAI, choice):
    answer = openai_client.chat.completions.create(model=MODEL, messages=ask("hi"), tools=[TOOL], tool_choice=choice)

    (call,) = answer.choices[0].message.tool_calls
    assert (call.function.name, call.function.arguments) == ("weather", "{}")


def test_usage_ends_the_stream_only_when_asked(sim: Simulator, openai_client: openai.OpenAI):
    asked = list(
        openai_client.chat.completions.create(
            model=MODEL, messages=ask("hi"), stream=True, stream_options={"include_usage": True}
        )
    )
    unasked = list(openai_client.chat.completions.create(model=MODEL, messages=ask("hi"), stream=True))

    assert asked[-1].choices == []
    assert asked[-1].usage.total_tokens == 3
    assert all(chunk.choices for chunk in unasked)


def test_a_schema_gets_a_minimal_instance(sim: Simulator, openai_client: openai.OpenAI):
    schema = {
        "type": "object",
        "properties": {
            "title": {"type": "string"},
            "count": {"type": "integer", "minimum": 3},
            "kind": {"enum": ["a", "b"]},
        },
        "required": ["title", "count", "kind"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "thing", "schema": schema, "strict": True}}

    answer = openai_client.chat.completions.create(model=MODEL, messages=ask("hi"), response_format=wanted)

    assert answer.choices[0].message.content == '{"title":"echo: hi","count":3,"kind":"a"}'


def test_length_and_stop_end_the_text(sim: Simulator, openai_client: openai.OpenAI):
    cut = openai_client.chat.completions.create(model=MODEL, messages=ask("a b c d"), max_completion_tokens=3)
    stopped = openai_client.chat.completions.create(model=MODEL, messages=ask("a STOP b"), stop="STOP")

    assert (cut.choices[0].message.content, cut.choices[0].finish_reason) == ("echo: a b", "length")
    assert (stopped.choices[0].message.content, stopped.choices[0].finish_reason) == ("echo: a ", "stop")


def test_media_and_system_text_are_told(sim: Simulator, openai_client: openai.OpenAI, png: bytes):
    url = "data:image/png;base64," + base64.b64encode(png).decode()
    parts = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": url}}]
    remote = [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}, {"type": "text", "text": "see"}]

    here = openai_client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": parts}])
    there = openai_client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": remote}])
    system = openai_client.chat.completions.create(
        model=MODEL, messages=[{"role": "system", "content": "Be kind."}, *ask("show system")]
    )

    assert here.choices[0].message.content == f"echo: look [image/png {len(png)} bytes]"
    assert there.choices[0].message.content == "echo: see [image URL]"
    assert system.choices[0].message.content == "Be kind."


def test_a_custom_tool_is_called_with_free_text(sim: Simulator, openai_client: openai.OpenAI):
    tool = {"type": "custom", "custom": {"name": "patch"}}

    answer = openai_client.chat.completions.create(
        model=MODEL, messages=ask("call patch <<*** Begin\n+x>>"), tools=[tool]
    )

    assert answer.choices[0].message.tool_calls[0].custom.input == "*** Begin\n+x"


def test_a_foreign_key_is_refused(sim: Simulator, openai_client: openai.OpenAI):
    with pytest.raises(openai.AuthenticationError) as caught:
        openai_client.with_options(api_key="sk-real").chat.completions.create(model=MODEL, messages=ask("hi"))

    assert caught.value.code == "invalid_api_key"
    assert "sk-real" not in str(caught.value)


def test_the_models_are_listed(sim: Simulator, openai_client: openai.OpenAI):
    assert MODEL in [model.id for model in openai_client.models.list()]


ANSWER = {"role": "tool", "tool_call_id": "call_1", "content": "rain"}
CALLING = {"role": "assistant", "tool_calls": [CALL]}
REFUSED = {
    "unknown parameter": ({"thinking": {}}, "Unknown parameter: 'thinking'"),
    "unknown key in a message": (
        {"messages": [{"role": "user", "content": "hi", "cache_control": {}}]},
        "messages[0].cache_control",
    ),
    "missing content": ({"messages": [{"role": "user"}]}, "Missing required parameter: 'messages[0].content'"),
    "wrong type": ({"temperature": "hot"}, "Invalid type for 'temperature'"),
    "no messages": ({"messages": []}, "messages"),
    "empty tools": ({"tools": []}, "tools"),
    "choice without tools": ({"tool_choice": "auto"}, "only allowed when 'tools' are specified"),
    "parallel without tools": ({"parallel_tool_calls": True}, "only allowed when 'tools' are specified"),
    "flat tool": ({"tools": [{"type": "function", "name": "f"}]}, "tools[0]"),
    "bad tool name": ({"tools": [{"type": "function", "function": {"name": "a.b"}}]}, "tools[0].function.name"),
    "duplicate tool": ({"tools": [TOOL, TOOL]}, "duplicate"),
    "unknown choice": (
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}},
        "not found in 'tools'",
    ),
    "no object schema": (
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "string"}}}]},
        "Invalid schema for function 'f'",
    ),
    "unmet strict": (
        {"tools": [{"type": "function", "function": {**TOOL["function"], "strict": True}}]},
        "'additionalProperties' is required",
    ),
    "five stops": ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
    "stream options without stream": ({"stream_options": {"include_usage": True}}, "stream_options"),
    "max_tokens on a reasoning model": ({"max_tokens": 5}, "max_completion_tokens"),
    "json without the word": ({"response_format": {"type": "json_object"}}, "must contain the word 'json'"),
    "call without result": ({"messages": [*ask("x"), CALLING, *ask("y")]}, "did not have response messages: call_1"),
    "call at the end": ({"messages": [*ask("x"), CALLING]}, "did not have response messages: call_1"),
    "result without call": ({"messages": [*ask("x"), ANSWER]}, "must be a response to a preceeding message"),
    "result given twice": ({"messages": [*ask("x"), CALLING, ANSWER, ANSWER]}, "must be a response to a preceeding"),
    "text between call and result": (
        {"messages": [*ask("x"), CALLING, *ask("y"), ANSWER]},
        "did not have response messages",
    ),
    "overlong id": (
        {"messages": [*ask("x"), {"role": "assistant", "tool_calls": [{**CALL, "id": "c" * 65}]}]},
        "messages[1].tool_calls[0].id",
    ),
    "broken image": (
        {
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}]}
            ]
        },
        "messages[0].content[0].image_url.url",
    ),
}


@pytest.mark.parametrize(("body", "says"), REFUSED.values(), ids=REFUSED)
def test_it_refuses(sim: Simulator, openai_client: openai.OpenAI, body, says):
    request = {"model": MODEL, "messages": ask("hi"), **body}

    with pytest.raises(openai.BadRequestError) as caught:
        openai_client.post("/chat/completions", body=request, cast_to=object)

    assert says in caught.value.body["message"]
    assert caught.value.body["type"] == "invalid_request_error"
