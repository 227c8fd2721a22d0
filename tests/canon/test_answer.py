"""Answers and their events: `fold` and `unfold` are each other's inverse."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cliproxy.canon.answer import Answer, fold, unfold
from cliproxy.canon.errors import BrokenAnswer, Problem, UpstreamRefused
from cliproxy.canon.events import (
    ArgsDelta,
    Failed,
    Finish,
    PartEnd,
    PartStart,
    Ping,
    ReasoningDelta,
    Start,
    TextDelta,
    UsageSeen,
)
from cliproxy.canon.parts import Image, Media, Opaque, Reasoning, Refusal, Signature, Text, ToolCall
from cliproxy.canon.usage import Usage

_texts = st.text(min_size=1, max_size=5)
_signatures = st.none() | st.builds(Signature, _texts, st.sampled_from(("google", "anthropic")))
_counts = st.none() | st.integers(0, 9)
PARTS = st.one_of(
    st.builds(Text, _texts, st.none(), _signatures),
    st.builds(Refusal, _texts),
    st.builds(
        Reasoning, st.lists(_texts, max_size=3).map(tuple), st.booleans(), _signatures, st.sampled_from(("", "r"))
    ),
    st.builds(ToolCall, _texts, _texts, st.just("{}"), st.just(False), _texts, _texts, _signatures),
    st.builds(ToolCall, _texts, _texts, _texts, st.just(True)),
    st.just(Image(Media("image/png", data="AAAA"))),
    st.just(Opaque("gemini", "thing", "{}")),
)
ANSWERS = st.builds(
    Answer,
    st.lists(PARTS, max_size=5).map(tuple),
    st.builds(Finish, st.sampled_from(("stop", "length")), _texts, _texts, _texts),
    _texts,
    _texts,
    st.integers(0, 9),
    st.none() | st.builds(Usage, _counts, _counts, _counts, _counts, _counts),
)


@settings(max_examples=100, deadline=None)
@given(ANSWERS)
def test_folding_what_was_unfolded_gives_the_answer_back(answer) -> None:
    assert fold(unfold(answer)) == answer


@settings(max_examples=60, deadline=None)
@given(ANSWERS)
def test_what_is_unfolded_keeps_the_grammar_of_events(answer) -> None:
    events = unfold(answer)

    assert isinstance(events[0], Start)
    assert isinstance(events[-1], Finish)
    starts = [event.part for event in events if isinstance(event, PartStart)]
    assert starts == [event.part for event in events if isinstance(event, PartEnd)] == list(range(len(answer.parts)))
    assert all(event.text for event in events if isinstance(event, TextDelta | ArgsDelta | ReasoningDelta))


def test_parts_that_were_told_in_turns_are_put_together() -> None:
    events = [
        Start("id", "m", 1),
        PartStart(0, "call", "a", "f"),
        PartStart(1, "reasoning"),
        ReasoningDelta(1, "x", 0),
        ArgsDelta(0, "{"),
        ReasoningDelta(1, "z", 1),
        Ping(),
        ReasoningDelta(1, "y", 0),
        ArgsDelta(0, "}"),
        PartEnd(1),
        PartEnd(0),
        Finish("tool_calls"),
    ]

    assert fold(events).parts == (ToolCall("a", "f", "{}"), Reasoning(("xy", "z")))


def test_a_call_without_arguments_has_an_empty_object_and_a_free_text_one_an_empty_text() -> None:
    events = [Start(), PartStart(0, "call", "a", "f"), PartStart(1, "call", "b", "g", is_custom=True), Finish("stop")]

    assert [part.arguments for part in fold(events).parts] == ["{}", ""]


def test_later_counts_replace_earlier_ones_and_placeholders_do_not() -> None:
    reports = (Usage(5, None, None, 1), Usage(0, 3, None, 7), Usage())

    assert fold([Start(), *map(UsageSeen, reports), Finish("stop")]).usage == Usage(5, 3, None, 7)
    assert Usage(5, output_total=7).total == 12


def test_an_answer_that_just_ends_is_broken() -> None:
    with pytest.raises(BrokenAnswer):
        fold([Start(), PartStart(0, "text"), TextDelta(0, "a"), PartEnd(0)])


def test_a_failed_answer_raises_the_upstreams_problem() -> None:
    problem = Problem("quota", 429, "no more")

    with pytest.raises(UpstreamRefused) as caught:
        fold([Start(), Failed(problem)])

    assert caught.value.problem is problem
