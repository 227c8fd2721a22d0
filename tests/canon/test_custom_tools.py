"""Free-text tools told as functions: wrapped once, unwrapped once, whole or streamed."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cliproxy.canon.answer import Answer, fold, unfold
from cliproxy.canon.custom_tools import emulate, unwrapped, wrapped
from cliproxy.canon.events import ArgsDelta, Finish, PartEnd, PartStart, Start
from cliproxy.canon.losses import Loss
from cliproxy.canon.naming import NameRestorer, ToolNames, ToolRef
from cliproxy.canon.parts import Text, ToolCall, ToolResult, Turn
from cliproxy.canon.request import Request, Tool

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NAMES = ToolNames({"exec": ToolRef("exec", is_custom=True)}, ("exec",))


@settings(max_examples=100, deadline=None)
@given(TEXTS)
def test_unwrapping_gives_back_what_was_wrapped(text: str) -> None:
    assert unwrapped(wrapped(text)) == text
    assert json.loads(wrapped(text)) == {"input": text}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ('{"input":"a","more":1}', "a"),
        ('"a \\"b\\""', 'a "b"'),
        ('{"patch":"a"}', '{"patch":"a"}'),
        ('{"input":3}', '{"input":3}'),
        ("*** Begin Patch", "*** Begin Patch"),
        ('{"input":"{\\"input\\":\\"once\\"}"}', '{"input":"once"}'),
        ("", ""),
        (" {} ", ""),
    ],
)
def test_a_model_that_does_not_keep_to_the_field_is_taken_at_its_word(arguments: str, text: str) -> None:
    assert unwrapped(arguments) == text


@pytest.mark.parametrize(("cut", "text"), [('{"input":"ls -', "ls -"), ('{"input":"a\\', ""), ('{"inp', ""), ("", "")])
def test_of_arguments_that_were_cut_short_comes_what_they_held(cut: str, text: str) -> None:
    assert unwrapped(cut, is_complete=False) == text


def test_tools_calls_and_results_are_told_as_functions() -> None:
    tool = Tool("exec", "custom", "Runs.", format='{"type":"grammar","syntax":"lark","definition":"start: \\"x\\""}')
    turns = (
        Turn("assistant", (Text("a"), ToolCall("c", "exec", 'say "hi"', is_custom=True, item_id="ctc_1"))),
        Turn("user", (ToolResult("c", (Text("hi"),), is_custom=True),)),
    )

    request, losses = emulate(Request("m", tools=(tool, Tool("f")), turns=turns))

    assert losses == (Loss("tools.exec", "free-text tool told as a function", "emulated"),)
    assert (request.tools[0].kind, request.tools[0].format, request.tools[1]) == ("function", "", Tool("f"))
    field = {"type": "string", "description": 'Must follow this lark grammar:\nstart: "x"'}
    assert json.loads(request.tools[0].schema) == {
        "type": "object",
        "properties": {"input": field},
        "required": ["input"],
        "additionalProperties": False,
    }
    assert request.turns[0].parts[1] == ToolCall("c", "exec", '{"input":"say \\"hi\\""}')
    assert not request.turns[1].parts[0].is_custom
    assert emulate(request) == (request, ())


@pytest.mark.parametrize(
    ("format_", "words"),
    [
        ("", None),
        ('{"type":"text"}', None),
        ('{"type":"grammar","grammar":{"syntax":"regex","definition":"a+"}}', "Must follow this regex grammar:\na+"),
        ('["odd"]', 'Must follow this format: ["odd"]'),
    ],
)
def test_a_grammar_is_told_in_the_description_of_the_field(format_: str, words: str | None) -> None:
    request, _ = emulate(Request("m", tools=(Tool("t", "custom", format=format_),)))

    assert json.loads(request.tools[0].schema)["properties"]["input"].get("description") == words


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.integers(1, 7))
def test_streamed_and_whole_answers_unwrap_alike(text: str, size: int) -> None:
    arguments = wrapped(text)
    pieces = [ArgsDelta(0, arguments[start : start + size]) for start in range(0, len(arguments), size)]
    streamed, restore = [], NameRestorer(NAMES)
    for event in [Start(), PartStart(0, "call", "c", "exec"), *pieces, PartEnd(0), Finish("tool_calls")]:
        streamed += restore.push([event])

    whole = NameRestorer(NAMES).push(unfold(Answer((ToolCall("c", "exec", arguments),), Finish("tool_calls"))))

    assert fold(streamed).parts == fold(whole).parts == (ToolCall("c", "exec", text, is_custom=True),)
