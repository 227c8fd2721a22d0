"""Between an upstream's answer and a caller: bytes pass through, or are read and written.

This is the one place where two dialects meet, and it knows neither by name. `flow` decides once per answer how its
stream travels; the relay then only feeds bytes.
"""

import re
from collections.abc import Callable
from typing import Protocol

from cliproxy.canon.answer import fold
from cliproxy.canon.errors import BrokenAnswer, GatewayError, Problem
from cliproxy.canon.events import Event, Failed, Finish, Ping, Start, UsageSeen
from cliproxy.canon.naming import NameRestorer, ToolNames
from cliproxy.canon.usage import Usage
from cliproxy.dialects.base import Dialect, Echo, StreamReader, StreamWriter
from cliproxy.wire import json
from cliproxy.wire.sse import FrameReader, WholeFrames

_DATA_LINE = re.compile(rb"^(data: ?)([^\r\n]+)", re.MULTILINE)
_BROKE_OFF = Problem("bad_gateway", 502, "The upstream's answer broke off before it was complete.")


class Flow(Protocol):
    """One stream on its way. `has_content` turns true once something was said that a second attempt must not repeat;
    `problem` is what the upstream reported inside its stream."""

    has_content: bool
    problem: Problem | None

    def feed(self, data: bytes) -> bytes:
        """The bytes for the caller that `data` leads to. Raises BrokenAnswer."""
        ...

    def close(self) -> bytes:
        """The upstream's body ended. An answer that is not complete gets `problem`, and its error frame."""
        ...

    def fail(self, problem: Problem) -> bytes:
        """The frame that tells the caller of `problem`, after content."""
        ...

    def keepalive(self) -> bytes: ...

    def usage(self) -> Usage | None: ...


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
        data = self._frames.feed(data)
        return self._passed(data) if data else data

    def close(self) -> bytes:
        rest = self._frames.rest
        out = self._passed(rest + b"\n\n") if rest.strip() else b""
        if self.problem is not None:
            return out
        if self._tap.is_over:
            return out if self._array is None else out + self._array.end()
        self.problem = _BROKE_OFF
        return self.fail(_BROKE_OFF)

    def fail(self, problem: Problem) -> bytes:
        if self._array is not None:
            return self._array.element(self._dialect.write_error(problem, "")) + self._array.end()
        return self._dialect.write_stream_error(problem)

    def keepalive(self) -> bytes:
        return self._dialect.keepalive

    def usage(self) -> Usage | None:
        return self._tap.usage()

    def _passed(self, frames: bytes) -> bytes:
        tap = self._tap
        tap.look(frames)
        if not self.has_content:
            self.has_content = tap.has_content or tap.is_over
        if tap.problem is not None:
            self.problem = tap.problem
        if self._rename is not None:
            frames = self._rename(frames)
        return frames if self._array is None else self._array.elements(frames)


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
        return self._writer.push([Failed(problem)])

    def keepalive(self) -> bytes:
        return self._writer.keepalive()

    def usage(self) -> Usage | None:
        return self._usage

    def _write(self, events: list[Event]) -> bytes:
        if not events:
            return b""
        if not self.has_content:
            self.has_content = any(not isinstance(event, Start | Ping | UsageSeen | Failed) for event in events)
        last = events[-1]
        if isinstance(last, Failed):
            self.problem = last.problem
            if not self.has_content:
                return b""
        elif isinstance(last, Finish):
            for event in events:
                if isinstance(event, UsageSeen):
                    self._usage = event.usage
        return self._writer.push(events if self._restore is None else self._restore(events))


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


def passed_whole(dialect: Dialect, body: bytes, model: str) -> bytes:
    """A whole answer of the caller's own dialect, with the caller's name for the model where `model` gives one.

    Raises BrokenAnswer when `body` is not one JSON object, or the upstream's problem when it is an error.
    """
    try:
        members = json.members(body)
    except GatewayError as error:
        raise BrokenAnswer("The upstream's answer is not one complete JSON object.") from error
    problem = members.get("error")
    if problem is not None and bytes(problem) != b"null":
        raise BrokenAnswer(problem=dialect.read_error(0, body))
    if model:
        name = json.encode(model)
        for path in dialect.model_paths:
            body = json.replaced(body, path, name)
    return body


def translated_whole(events: list[Event], names: ToolNames, client: Dialect, echo: Echo) -> bytes:
    """A whole answer for the caller. Raises UpstreamRefused or BrokenAnswer when the events end badly."""
    if names:
        events = NameRestorer(names).push(events)
    return client.write_answer(fold(events), echo)


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
        for path in dialect.model_paths:
            data = json.replaced(data, path, name)
        return match[1] + data

    return lambda frames: _DATA_LINE.sub(rename_line, frames)
