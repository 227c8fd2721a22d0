"""Random conversations, broken in every way that clients break them, and the strict rule they must come out by."""

import re
from itertools import pairwise

from hypothesis import strategies as st

from cliproxy.canon.fit import Fit
from cliproxy.canon.parts import Image, Media, Part, Reasoning, Refusal, Signature, Text, ToolCall, ToolResult, Turn

NARROW = Fit("narrow", "anthropic", id_charset="A-Za-z0-9_-", id_length=24)
WIDE = Fit("wide", "openai")

IDS = st.sampled_from(("", "a", "b", "a.b", "a:b", "a_2", "  a ", "x" * 70 + "1", "x" * 70 + "2"))
NAMES = st.sampled_from(("f", "g", "bad name"))
TEXTS = st.builds(Text, st.sampled_from(("", "hello", "so")))
CONTENTS = st.sampled_from(((), (Text("done"),), (Text("see"), Image(Media(url="https://a.example/p.png")))))
CALLS = st.builds(ToolCall, IDS, NAMES, st.sampled_from(("{}", '{"a":1}')))
RESULTS = st.builds(ToolResult, IDS, CONTENTS, st.sampled_from(("", "f", "g")), st.booleans())
THOUGHTS = st.builds(Reasoning, st.just(("hm",)), st.just(False), st.sampled_from((None, Signature("s", "anthropic"))))

_assistant = st.lists(TEXTS | CALLS | THOUGHTS | st.builds(Refusal, st.just("no")), max_size=4)
_user = st.lists(TEXTS | RESULTS, max_size=4)
_turns = st.one_of(
    st.builds(Turn, st.just("assistant"), _assistant.map(tuple)),
    st.builds(Turn, st.just("user"), _user.map(tuple)),
    st.builds(Turn, st.sampled_from(("system", "developer")), st.lists(TEXTS, max_size=2).map(tuple)),
)
BROKEN = st.lists(_turns, max_size=8).map(tuple)


@st.composite
def sound_rounds(draw: st.DrawFn) -> tuple[Turn, ...]:
    """A question, an answer with calls, their results: complete, though ids may repeat from round to round."""
    calls = draw(
        st.lists(CALLS.filter(lambda call: call.id.strip()), max_size=3, unique_by=lambda call: call.id.strip())
    )
    answer = (Text("let me see"), *calls)
    results = tuple(ToolResult(call.id, (Text("done"),)) for call in draw(st.permutations(calls)))
    turns = (Turn("user", (Text("q"),)), Turn("assistant", answer))
    return (*turns, Turn("user", results)) if results else turns


SOUND = st.lists(sound_rounds(), max_size=3).map(lambda rounds: tuple(turn for round_ in rounds for turn in round_))


def assert_paired(turns: tuple[Turn, ...], fit: Fit) -> None:
    """Every call answered in the next turn, results first and in order, ids unique and legal, no result besides."""
    legal = re.compile(f"[{fit.id_charset}]{{1,{fit.id_length}}}")
    seen: set[str] = set()
    for turn, following in pairwise((*turns, Turn("user", ()))):
        ids = [part.id for part in turn.parts if isinstance(part, ToolCall)]
        assert all(legal.fullmatch(call_id) for call_id in ids)
        assert len(set(ids)) == len(ids)
        assert not seen.intersection(ids)
        seen.update(ids)
        head = [part.call_id if isinstance(part, ToolResult) else None for part in following.parts]
        assert head[: len(ids)] == ids
        assert not any(head[len(ids) :])
        assert not ids or following.role == "user"
    assert not any(isinstance(part, ToolResult) for part in (turns[0].parts if turns else ()))


def told(turns: tuple[Turn, ...]) -> list[Part]:
    return [part for turn in turns for part in turn.parts]
