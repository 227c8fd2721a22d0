"""Server-sent events: bytes to frames, and frames to bytes.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html, checked 2026-11-24.

The reader works on bytes and splits lines at CRLF, LF and lone CR only; U+2028 and its kin inside JSON are content.
It is lenient where upstreams are careless: a missing last blank line still dispatches (`close`), a space after the
colon is optional, one BOM is skipped, comments and unknown fields are ignored. Lines may be very long, since inline
images make them so; only `max_frame_bytes` bounds a frame.
"""

import re

from msgspec import Struct

from cliproxy.canon.errors import BrokenAnswer

MAX_FRAME_BYTES = 256 * 1024 * 1024

# A blank line. The lone CR at the very end of the bytes is left alone until its successor is known.
_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r(?=[^\n]))")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_FRAME_ENDS = (b"\n\n", b"\n\r\n", b"\r\r")
_BOM = b"\xef\xbb\xbf"


class Frame(Struct, frozen=True, gc=False):
    """One dispatched event. `name` is b"" when the event had no `event:` line."""

    name: bytes
    data: bytes


class FrameReader:
    """Cuts a byte stream, fed in any pieces, into frames. Work is linear in the bytes fed."""

    __slots__ = ("_is_first", "_limit", "_pieces", "_size", "_tail")

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._limit = max_frame_bytes
        self._is_first = True
        self._hold(b"")

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes. Raises BrokenAnswer when one frame grows beyond the limit."""
        if not self._pieces:
            if data.endswith(b"\n\n") and b"\r" not in data:
                return self._frames(data.split(b"\n\n"))
            if data.endswith(b"\r\n\r\n") and data.count(b"\r\n") == data.count(b"\n") == data.count(b"\r"):
                return self._frames(data.split(b"\r\n\r\n"))
        if _BLANK_LINE.search(self._tail + data) is None:
            return self._wait(data)
        *blocks, rest = _BLANK_LINE.split(b"".join((*self._pieces, data)))
        self._hold(rest)
        return self._frames(blocks)

    def close(self) -> list[Frame]:
        """What was pending when the stream ended, even without its blank line."""
        block = self.pending
        self._hold(b"")
        return self._frames([block])

    @property
    def pending(self) -> bytes:
        """The bytes of the frame that has begun and not ended."""
        return b"".join(self._pieces)

    def _wait(self, data: bytes) -> list[Frame]:
        self._pieces.append(data)
        self._size += len(data)
        self._tail = (self._tail + data)[-3:]
        if self._size > self._limit:
            raise BrokenAnswer(f"The upstream sent one event larger than {self._limit} bytes.")
        return []

    def _hold(self, rest: bytes) -> None:
        self._pieces = [rest] if rest else []
        self._size = len(rest)
        self._tail = rest[-3:]

    def _frames(self, blocks: list[bytes]) -> list[Frame]:
        if self._is_first:
            self._is_first = False
            blocks[0] = blocks[0].removeprefix(_BOM)
        return [frame for block in blocks if block and (frame := _frame_of(block)) is not None]


class WholeFrames:
    """Passes a byte stream on in whole frames: what has begun and not ended waits in `rest`."""

    __slots__ = ("_limit", "_pieces", "_size", "_tail")

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._limit = max_frame_bytes
        self._hold(b"")

    def feed(self, data: bytes) -> bytes:
        """The bytes up to the last blank line, unchanged; b"" while there is none.

        Raises BrokenAnswer when one frame grows beyond the limit.
        """
        if not self._pieces and data.endswith(b"\n\n"):
            return data
        probe = self._tail + data
        end = max(at + len(mark) if (at := probe.rfind(mark)) >= 0 else 0 for mark in _FRAME_ENDS)
        self._pieces.append(data)
        if not end:
            self._size += len(data)
            self._tail = probe[-2:]
            if self._size > self._limit:
                raise BrokenAnswer(f"The upstream sent one event larger than {self._limit} bytes.")
            return b""
        whole = b"".join(self._pieces)
        cut = len(whole) - (len(probe) - end)
        self._hold(whole[cut:])
        return whole[:cut]

    @property
    def rest(self) -> bytes:
        return b"".join(self._pieces)

    def _hold(self, rest: bytes) -> None:
        self._pieces = [rest] if rest else []
        self._size = len(rest)
        self._tail = rest[-2:]


def _frame_of(block: bytes) -> Frame | None:
    """The frame in `block`, or None when it dispatches nothing. The common forms are taken first: a line of data, with
    or without the event's name before it."""
    name, last = b"", block
    if block.startswith(b"event:"):
        first, _, last = block.partition(b"\n")
        name = first[6:].removeprefix(b" ").removesuffix(b"\r")
    if last.startswith(b"data:") and b"\n" not in last and b"\r" not in last and b"\r" not in name:
        data = last[6:] if last[5:6] == b" " else last[5:]
        return Frame(name, data) if data else None
    name = b""
    lines: list[bytes] = []
    for line in _LINE_END.split(block):
        field, _, value = line.partition(b":")
        if field == b"data":
            lines.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ")
    data = b"\n".join(lines)
    return Frame(name, data) if data else None


def data_frame(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"


def named_frame(name: bytes, data: bytes) -> bytes:
    return b"event: " + name + b"\ndata: " + data + b"\n\n"
