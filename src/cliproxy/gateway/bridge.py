"""Between an upstream's answer and a caller: bytes pass through, or are read and written.

This is the one place where two dialects meet, and it knows neither by name. `flow` decides once per answer how its
stream travels; the relay then only feeds bytes.
"""

import re
from collections.abc import Callable
from typing import Protocol

from cliproxy.canon.answer import fold
from cliproxy.canon.errors import BrokenAnswer, GatewayError, Problem
from cliproxy.canon.events import Event, Failed, PartStart, Ping, Start, UsageSeen
from cliproxy.canon.naming import NameRestorer, ToolNames
from cliproxy.canon.usage import Usage
from cliproxy.dialects.base import Dialect, Echo, StreamReader, StreamWriter
from cliproxy.gateway.tally import Counted, Unread, Whole
from cliproxy.wire import json
from cliproxy.wire.sse import FrameReader, WholeFrames

_DATA_LINE = re.compile(rb"^((?:\xef\xbb\xbf)?data: ?)([^\r\n]+)", re.MULTILINE)
_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n)){2}")
_NOTHING = (b"null", b"false", b"{}", b"[]", b'""')
_SHORT_BYTES = 256
_UNREAD_BYTES = 64 * 1024
"""The largest answer that may be kept a little for its counts to be read later."""
_BROKE_OFF = Problem("bad_gateway", 502, "The upstream's answer broke off before it was complete.")


class Flow(Protocol):
    """One stream on its way. `has_content` turns true once something was said that a second attempt must not repeat;
    `problem` is what the upstream reported inside its stream: its frame ends the stream, nothing follows it."""

    has_content: bool
    problem: Problem | None

    def feed(self, data: bytes) -> bytes:
        """The bytes for the caller that `data` leads to. Raises BrokenAnswer."""
        ...

    def close(self) -> bytes:
        """The upstream's body ended. An answer that is not complete gets `problem`, and its error frame."""
        ...

    def fail(self, problem: Problem) -> bytes:
        """The connection to the upstream broke: the frame that tells the caller of `problem`, or what is left to say
        of an answer that was complete all the same. Sets `problem` in the first case only."""
        ...

    def keepalive(self) -> bytes: ...

    def usage(self) -> Usage | None:
        """What the upstream has told so far; every later report is merged into the earlier ones."""
        ...


class PassingFlow:
    """Same dialect on both sides: whole frames pass untouched, but for the model's name where the caller knows another.

    A dialect that is not framed gets the frames' data as the elements of its array.
    """

    def __init__(self, dialect: Dialect, model: str = "") -> None:
        self.has_content = False
        self.problem: Problem | None = None
        self._dialect = dialect
        self._tap = dialect.tap()
        self._frames = WholeFrames()
        self._rename = _renamer(dialect, model) if model else None
        self._array = None if dialect.is_framed else _Array()

    def feed(self, data: bytes) -> bytes:
        if self.problem is not None:
            return b""
        data = self._frames.feed(data)
        return self._passed(data) if data else data

    def close(self) -> bytes:
        return self._ended(_BROKE_OFF)

    def fail(self, problem: Problem) -> bytes:
        return self._ended(problem)

    def keepalive(self) -> bytes:
        return self._dialect.keepalive

    def usage(self) -> Usage | None:
        return self._tap.usage()

    def _ended(self, problem: Problem) -> bytes:
        """The last frame may lack its blank line; half a frame is nothing that a caller could read."""
        if self.problem is not None:
            return b""
        rest = self._frames.rest
        out = self._passed(rest + b"\n\n") if _is_whole(rest) else b""
        if self.problem is not None:
            return out
        if self._tap.is_over:
            return out if self._array is None else out + self._array.end()
        self.problem = problem
        return out + self._failure(problem)

    def _failure(self, problem: Problem) -> bytes:
        if self._array is None:
            return self._dialect.write_stream_error(problem)
        return self._array.element(self._dialect.write_error(problem, "")) + self._array.end()

    def _passed(self, frames: bytes) -> bytes:
        tap = self._tap
        tap.look(frames)
        if tap.problem is not None:
            self.problem = tap.problem
            frames = self._up_to_problem(frames)
        if not self.has_content:
            self.has_content = tap.has_content or (tap.is_over and self.problem is None)
        if self._rename is not None:
            frames = self._rename(frames)
        if self._array is None:
            return frames
        return self._array.elements(frames) + (self._array.end() if self.problem is not None else b"")

    def _up_to_problem(self, frames: bytes) -> bytes:
        """`frames` without what follows the one that reports the problem: no terminator after a failure."""
        start = 0
        for match in _BLANK_LINE.finditer(frames):
            tap = self._dialect.tap()
            tap.look(frames[start : match.end()])
            if tap.problem is not None:
                return frames[: match.end()]
            start = match.end()
        return frames


class TranslatingFlow:
    """Read by one dialect, written by another."""

    def __init__(self, reader: StreamReader, writer: StreamWriter, names: ToolNames) -> None:
        self.has_content = False
        self.problem: Problem | None = None
        self._reader = reader
        self._writer = writer
        self._restore = NameRestorer(names).push if names else None
        self._usage: Usage | None = None

    def feed(self, data: bytes) -> bytes:
        return self._write(self._reader.feed(data))

    def close(self) -> bytes:
        return self._write(self._reader.close())

    def fail(self, problem: Problem) -> bytes:
        events = self._reader.close()
        if events and isinstance(events[-1], Failed):
            events[-1] = Failed(problem)
        return self._write(events)

    def keepalive(self) -> bytes:
        return self._writer.keepalive()

    def usage(self) -> Usage | None:
        return self._usage

    def _write(self, events: list[Event]) -> bytes:
        if not events:
            return b""
        if not self.has_content:
            self.has_content = any(not isinstance(event, _HANDSHAKE) for event in events)
        for event in events:
            if type(event) is UsageSeen:
                self._usage = event.usage if self._usage is None else self._usage.merged(event.usage)
        last = events[-1]
        if isinstance(last, Failed):
            self.problem = last.problem
            if not self.has_content:
                return b""
        return self._writer.push(events if self._restore is None else self._restore(events))


# A part that has begun and said nothing is no content yet: another account may begin it anew.
_HANDSHAKE = (Start, Ping, UsageSeen, PartStart, Failed)


def _is_whole(rest: bytes) -> bool:
    """Whether what stands after the last blank line is a frame that only lacks its own."""
    reader = FrameReader()
    frames = (*reader.feed(rest), *reader.close())
    return bool(frames) and all(frame.data == b"[DONE]" or json.is_json(frame.data) for frame in frames)


class _Array:
    """One JSON array, written element by element."""

    def __init__(self) -> None:
        self._is_open = False

    def elements(self, frames: bytes) -> bytes:
        return b"".join(self.element(frame.data) for frame in FrameReader().feed(frames))

    def element(self, data: bytes) -> bytes:
        opening = b",\n" if self._is_open else b"["
        self._is_open = True
        return opening + data

    def end(self) -> bytes:
        return b"]" if self._is_open else b"[]"


def passed_whole(dialect: Dialect, body: bytes, model: str) -> tuple[bytes, Counted]:
    """A whole answer of the caller's own dialect, with the caller's name for the model where `model` gives one, and
    its counts.

    Raises BrokenAnswer when `body` is not one JSON object, or the upstream's problem when it is an error.
    """
    try:
        members = json.members(body)
    except GatewayError as error:
        raise BrokenAnswer("The upstream's answer is not one complete JSON object.") from error
    problem = members.get("error")
    if problem is not None and bytes(problem) not in _NOTHING:
        raise BrokenAnswer(problem=dialect.read_error(0, body))
    if len(body) < _SHORT_BYTES:
        _refuse_failure(dialect, body)
    if model:
        name = json.encode(model)
        for path in dialect.model_paths:
            body = json.replaced(body, path, name)
    if len(body) > _UNREAD_BYTES:
        return body, Whole(dialect.read_usage(members))
    return body, Unread(dialect, members)


def _refuse_failure(dialect: Dialect, body: bytes) -> None:
    """A JSON object as short as `{"detail": "..."}` is read, lest somebody's error pass for an answer."""
    last = dialect.read_answer(body)[-1:]
    if last and isinstance(last[0], Failed):
        raise BrokenAnswer(problem=last[0].problem)


def translated_whole(events: list[Event], names: ToolNames, client: Dialect, echo: Echo) -> tuple[bytes, Counted]:
    """A whole answer for the caller, and its counts. Raises UpstreamRefused or BrokenAnswer when the events end
    badly."""
    if names:
        events = NameRestorer(names).push(events)
    answer = fold(events)
    return client.write_answer(answer, echo), Whole(answer.usage)


def events_of_stream(reader: StreamReader, body: bytes) -> list[Event]:
    """An event stream that came where a whole answer was asked for."""
    return [*reader.feed(body), *reader.close()]


def _renamer(dialect: Dialect, model: str) -> Callable[[bytes], bytes]:
    """A function that gives whole frames the caller's name for the model."""
    name = json.encode(model)
    keys = tuple({b'"' + path[-1].encode() + b'"' for path in dialect.model_paths})

    def rename_line(match: re.Match[bytes]) -> bytes:
        data = match[2]
        if not any(key in data for key in keys):
            return match[0]
        try:
            for path in dialect.model_paths:
                data = json.replaced(data, path, name)
        except RecursionError as error:
            raise BrokenAnswer("The upstream's answer is nested too deeply.") from error
        return match[1] + data

    return lambda frames: _DATA_LINE.sub(rename_line, frames)
