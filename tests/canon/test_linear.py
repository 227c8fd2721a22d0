"""One open part at a time, whatever the interleaving."""

from hypothesis import given, settings
from hypothesis import strategies as st

from cliproxy.canon.errors import Problem
from cliproxy.canon.events import (
    ArgsDelta,
    Failed,
    Finish,
    PartEnd,
    PartStart,
    Ping,
    Start,
    TextDelta,
    UsageSeen,
)
from cliproxy.canon.linear import Linear
from cliproxy.canon.usage import Usage


@st.composite
def interleavings(draw: st.DrawFn):
    """Parts told in any order of turns, some never ended, cut into batches."""
    queues = []
    for part in range(draw(st.integers(0, 4))):
        deltas = [TextDelta(part, f"{part}{index}") for index in range(draw(st.integers(0, 3)))]
        queues.append([PartStart(part, "text"), *deltas, *([PartEnd(part)] if draw(st.booleans()) else [])])
    events, begun = [Start()], 0
    while any(queues):
        ready = [queue for queue in queues[: begun + 1] if queue]
        queue = draw(st.sampled_from(ready or [next(queue for queue in queues if queue)]))
        begun = max(begun, queues.index(queue) + 1)
        events.append(queue.pop(0))
        if draw(st.booleans()):
            events.append(draw(st.sampled_from((Ping(), UsageSeen(Usage(1))))))
    last = draw(st.sampled_from((Finish("stop"), Failed(Problem("overloaded", 503, "busy")))))
    cuts = sorted(draw(st.lists(st.integers(0, len(events)), max_size=4)))
    whole = [*events, last]
    return whole, [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]


@settings(max_examples=100, deadline=None)
@given(interleavings())
def test_any_interleaving_comes_out_one_part_at_a_time_and_whole(case) -> None:
    whole, batches = case
    linear = Linear()

    out = [event for batch in batches for event in linear.push(batch)]

    open_part = None
    for event in out:
        if isinstance(event, PartStart):
            assert open_part is None
            open_part = event.part
        elif isinstance(event, TextDelta):
            assert event.part == open_part
        elif isinstance(event, PartEnd):
            assert event.part == open_part
            open_part = None
    assert open_part is None
    assert out[-1] == whole[-1]
    for part in {event.part for event in whole if isinstance(event, PartStart)}:
        own = [event for event in out if getattr(event, "part", None) == part]
        told = [event for event in whole if getattr(event, "part", None) == part]
        assert own == told or own == [*told, PartEnd(part, is_complete=False)]
    others = [event for event in whole if not hasattr(event, "part")]
    assert [event for event in out if not hasattr(event, "part")] == others
    starts = [event.part for event in whole if isinstance(event, PartStart)]
    assert [event.part for event in out if isinstance(event, PartStart)] == starts


def test_deltas_of_the_open_part_pass_as_the_list_they_came_in() -> None:
    linear = Linear()
    linear.push([Start(), PartStart(0, "text")])
    batch = [TextDelta(0, "a"), TextDelta(0, "b")]

    assert linear.push(batch) is batch


def test_a_waiting_part_passes_at_once_when_the_open_one_ends() -> None:
    linear = Linear()

    held = linear.push([PartStart(0, "call"), PartStart(1, "call"), ArgsDelta(1, "{"), ArgsDelta(0, "{}")])
    freed = linear.push([PartEnd(0)])

    assert held == [PartStart(0, "call"), ArgsDelta(0, "{}")]
    assert freed == [PartEnd(0), PartStart(1, "call"), ArgsDelta(1, "{")]
    assert linear.push([ArgsDelta(1, "}")]) == [ArgsDelta(1, "}")]
