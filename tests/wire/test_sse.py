import time
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cliproxy.canon.errors import BrokenAnswer
from cliproxy.wire.sse import Frame, FrameReader, WholeFrames, data_frame, named_frame

MB = 1024 * 1024

# Streams made of what matters: all line ends, fields, half of them broken, and what must not be taken for line ends.
pieces = st.sampled_from(
    [
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b"\r\n\r\n",
        b"\r\r",
        b"data:",
        b"data: ",
        b"data",
        b"event: x",
        b"event:",
        b": note",
        b"id: 1",
        b"retry: 5",
        b"{}",
        b" ",
        b":",
        b"\xef\xbb\xbf",
        "\u2028\x85\x0b\x0c".encode(),
        b"\x00",
        b"a: b",
    ]
)
streams = st.lists(pieces, max_size=30).map(b"".join)
cuts = st.lists(st.integers(0, 200), max_size=12)


def cut(data: bytes, at: list[int]) -> list[bytes]:
    return [data[start:end] for start, end in pairwise([0, *sorted(at), max(len(data), *at, 0)])]


def read(parts: list[bytes]) -> list[Frame]:
    reader = FrameReader()
    frames = [frame for part in parts for frame in reader.feed(part)]
    return frames + reader.close()


def by_the_book(stream: bytes) -> list[Frame]:
    """The standard's algorithm, line by line, but for the last frame, which needs no blank line here."""
    lines = stream.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    frames: list[Frame] = []
    name, data = b"", list[bytes]()
    for line in [*lines, b""]:
        if not line:
            if b"\n".join(data):
                frames.append(Frame(name, b"\n".join(data)))
            name, data = b"", []
            continue
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value
    return frames


# -- FrameReader


@settings(deadline=None)
@given(stream=streams)
@example(stream=b"data: a\r\r\ndata: b\n\r\ndata: c\r\n\ndata: d\n\rdata: e")
def test_frames_are_what_the_standard_says(stream: bytes) -> None:
    assert read([stream]) == by_the_book(stream)


@settings(deadline=None)
@given(stream=streams, at=cuts)
def test_every_cut_of_a_stream_gives_the_same_frames(stream: bytes, at: list[int]) -> None:
    whole = read([stream])

    assert read(cut(stream, at)) == whole
    assert read([bytes((byte,)) for byte in stream]) == whole


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_lines_end_in_three_ways(end: bytes) -> None:
    stream = end.join([b": hello", b"event: ping", b"data: a", b"data: b", b"", b"data:c", b"", b""])

    assert read([stream]) == [Frame(b"ping", b"a\nb"), Frame(b"", b"c")]


@pytest.mark.parametrize(
    ("stream", "frames"),
    [
        (b"", []),
        (b"\n\n\n", []),
        (b": comment\n\n", []),
        (b"event: nothing\n\n", []),
        (b"data\n\n", []),
        (b"data:\n\n", []),
        (b"data:\ndata\n\n", [Frame(b"", b"\n")]),
        (b"data:  two spaces\n\n", [Frame(b"", b" two spaces")]),
        (b"data: a:b\n\n", [Frame(b"", b"a:b")]),
        (b"datum: x\ndata: y\nid: 7\nretry: 1\n\n", [Frame(b"", b"y")]),
        (b"event: a\nevent: b\ndata: x\n\n", [Frame(b"b", b"x")]),
        (b"data: x\nevent: late\n\ndata: y\n\n", [Frame(b"late", b"x"), Frame(b"", b"y")]),
        (b"\xef\xbb\xbfdata: x\n\n", [Frame(b"", b"x")]),
        (b"\xef\xbb\xbf\xef\xbb\xbfdata: x\n\n", []),
        (b"data: x\n\n\xef\xbb\xbfdata: y\n\n", [Frame(b"", b"x")]),
        (b"\n\n\ndata: x\n\n\n\ndata: y\n\n", [Frame(b"", b"x"), Frame(b"", b"y")]),
        ("data: \u2028\u2029\x85\x0b\x0c\x1c\n\n".encode(), [Frame(b"", "\u2028\u2029\x85\x0b\x0c\x1c".encode())]),
        (b"data: \x00\xff\n\n", [Frame(b"", b"\x00\xff")]),
    ],
)
def test_corners_of_the_format(stream: bytes, frames: list[Frame]) -> None:
    assert read([stream]) == frames


def test_frames_are_dispatched_as_soon_as_they_are_complete() -> None:
    reader = FrameReader()

    assert reader.feed(b"data: a\n") == []
    assert reader.feed(b"\ndata: b") == [Frame(b"", b"a")]
    assert reader.pending == b"data: b"
    assert reader.feed(b"\r\n\r\n") == [Frame(b"", b"b")]
    assert reader.pending == b""


@pytest.mark.parametrize("last", [b"data: [DONE]", b"data: [DONE]\n", b"data: [DONE]\r\n", b"data: [DONE]\r\r"])
def test_a_last_frame_without_its_blank_line_is_dispatched_at_the_end(last: bytes) -> None:
    reader = FrameReader()
    frames = reader.feed(b"data: a\n\n" + last)

    assert frames + reader.close() == [Frame(b"", b"a"), Frame(b"", b"[DONE]")]
    assert reader.close() == []


@pytest.mark.parametrize("reader", [FrameReader, WholeFrames])
def test_a_frame_without_end_is_refused(reader: type[FrameReader] | type[WholeFrames]) -> None:
    frames = reader(1000)
    frames.feed(b"data: " + b"x" * 990)

    with pytest.raises(BrokenAnswer, match="one event larger than 1000 bytes"):
        frames.feed(b"xxxxx")


@pytest.mark.parametrize("reader", [FrameReader, WholeFrames])
def test_the_limit_is_for_one_frame_and_not_for_a_stream(reader: type[FrameReader] | type[WholeFrames]) -> None:
    frames = reader(1000)

    assert all(frames.feed(part) for _ in range(100) for part in [b"data: x\n\ndata: " + b"y" * 50])


@pytest.mark.parametrize("reader", [FrameReader, WholeFrames])
def test_time_grows_with_the_length_of_a_frame_and_not_with_its_square(
    reader: type[FrameReader] | type[WholeFrames],
) -> None:
    piece = b"x" * 1024
    began = time.process_time()
    frames = reader()
    frames.feed(b"data: ")
    for _ in range(16 * 1024):
        frames.feed(piece)

    assert len(frames.feed(b"\n\n")) in (1, 16 * MB + 8)
    assert time.process_time() - began < 5.0


# -- WholeFrames


@settings(deadline=None)
@given(stream=streams, at=cuts)
@example(stream=b"data: a\n\r\ndata: b\r\r\ndata: c\r\n\n", at=[9])
def test_whole_frames_lose_and_invent_nothing(stream: bytes, at: list[int]) -> None:
    frames = WholeFrames()
    out = [frames.feed(part) for part in cut(stream, at)]

    assert b"".join(out) + frames.rest == stream
    for part in out:
        assert not part or part.endswith((b"\n\n", b"\n\r\n", b"\r\r"))


@settings(deadline=None)
@given(stream=streams.map(lambda stream: stream.replace(b"\xef\xbb\xbf", b"")), at=cuts)
def test_whole_frames_can_be_read_one_by_one(stream: bytes, at: list[int]) -> None:
    frames = WholeFrames()
    parts = [*(frames.feed(part) for part in cut(stream, at)), frames.rest]

    assert [frame for part in parts for frame in read([part])] == read([b"".join(parts)])


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n", b"\r\n\n"])
def test_whole_frames_are_passed_on_as_soon_as_they_are_complete(end: bytes) -> None:
    frames = WholeFrames()

    assert frames.feed(b"data: a") == b""
    assert b"".join(frames.feed(bytes((byte,))) for byte in end) == b"data: a" + end
    assert frames.feed(b"data: b" + end + b"data: c") == b"data: b" + end
    assert frames.rest == b"data: c"


# -- writing


@settings(deadline=None)
@given(name=st.text("abc_.", min_size=1), data=st.text('{}" \u2028x', min_size=1))
def test_what_is_written_is_read(name: str, data: str) -> None:
    stream = data_frame(data.encode()) + named_frame(name.encode(), data.encode())

    assert read([stream]) == [Frame(b"", data.encode()), Frame(name.encode(), data.encode())]
