"""The program's own log in files: written by a thread, rotated by size, read from its end.

`main.log` is the current file; at `Bounds.file_bytes` it becomes `main-<time>.log`, and of those the oldest go when all
together are too much. Lines look as the Go program's do, since panels take them apart:

    [2026-11-24 14:25:00] [req_1a2b3c4d00000001] [info] [relay.py:120] gpt-5: ... answered 429

What follows a line and belongs to it, such as a traceback, is indented: no text can pass for a line of its own.

A cursor names a place by the file's inode, the offset, and a digest of the bytes before it. So it stays good when the
file is renamed by a rotation, and is known to be stale when the file was emptied, replaced or removed.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from cliproxy.stores.log_folder import Append, append, stamp
from cliproxy.stores.writer import Writer

TERMINAL = "terminal"
"""Name of the handler on the root logger whose place the file takes."""

MOST_LINES = 10_000
"""How many lines one page holds at most."""

_MAIN = "main.log"
_ROTATED = re.compile(r"main-\d{4}-\d\d-\d\dT\d{6}(-\d+)?\.log")
_MOST_BYTES = 8 * 1024 * 1024
_BLOCK_BYTES = 64 * 1024
_WITNESS_BYTES = 64
_START = "start"
_TIME = "%Y-%m-%d %H:%M:%S"
_ID = re.compile(r"(req_\w+):? ")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
_COMPLAINT_SECONDS = 60.0


class Bounds(Struct, frozen=True, kw_only=True):
    """`total_bytes` bounds the rotated files together; `backlog_bytes` what waits for the disk."""

    file_bytes: int = 10 * 1000 * 1000
    total_bytes: int = 100 * 1000 * 1000
    backlog_bytes: int = 4 * 1000 * 1000


class Page(Struct, frozen=True):
    """Lines, oldest first. `latest_at` is the time of the newest, 0 when none has one."""

    lines: tuple[str, ...]
    latest_at: int
    cursor: str
    is_reset: bool = False


class AppLog:
    """The log files in one folder. `apply`, and logging itself, never wait for the disk; all else may."""

    def __init__(self, folder: Path, *, bounds: Bounds | None = None, add: Append = append) -> None:
        self.folder = folder
        self._bounds = bounds or Bounds()
        self._writer = Writer("log lines", self._bounds.backlog_bytes)
        self._files = _Files(folder, self._bounds, add)
        self._handler: logging.Handler | None = None
        self._replaced: list[logging.Handler] = []

    def apply(self, *, is_to_file: bool) -> None:
        """Send log lines to the file, or back to the terminal. Saying the same again does nothing."""
        root = logging.getLogger()
        if is_to_file and self._handler is None:
            logging.getLogger("cliproxy").info("Log lines go to %s from here on.", self.folder / _MAIN)
            self._handler = logging.StreamHandler(_Backlog(self._writer, self._files.write))
            self._handler.setFormatter(_Lines())
            self._replaced = [handler for handler in root.handlers if handler.get_name() == TERMINAL]
            for handler in self._replaced:
                root.removeHandler(handler)
            root.addHandler(self._handler)
        elif not is_to_file and self._handler is not None:
            root.removeHandler(self._handler)
            for handler in self._replaced:
                root.addHandler(handler)
            self._handler = None

    def settle(self, seconds: float = 5.0) -> bool:
        """Wait until every line is in the file; whether it is."""
        return self._writer.settle(seconds)

    def close(self, seconds: float = 2.0) -> None:
        self.apply(is_to_file=False)
        self._writer.close(seconds)

    def newest(self, limit: int = MOST_LINES, after: int = 0) -> Page:
        """The last lines: `limit` at most, and only those later than `after` (epoch seconds)."""
        with self._files.opened() as segments:
            kept, latest = _last_lines(segments, min(limit, MOST_LINES), after)
            end = _Place(segments[-1], _end_of_lines(segments[-1])).text() if segments else _START
        return Page(tuple(kept), latest, end)

    def since(self, cursor: str, limit: int = MOST_LINES, after: int = 0) -> Page:
        """The lines that came after the place that `cursor` names, the first `limit` of them. A cursor that leads
        nowhere is answered like none."""
        with self._files.opened() as segments:
            place = _Place.find(cursor, segments)
            if place is not None:
                return _next_lines(segments, place, min(limit, MOST_LINES), after)
        page = self.newest(limit, after)
        return Page(page.lines, page.latest_at, page.cursor, is_reset=bool(cursor) and cursor != _START)

    def clear(self) -> int:
        """Empty the current file and remove the rotated ones; how many those were."""
        self.settle(1.0)
        return self._files.clear()


class _Backlog:
    """The stream of the handler: finished lines go to the writer; what it has no room for is counted, and told with
    the next line."""

    def __init__(self, writer: Writer, write: Callable[[bytes], None]) -> None:
        self._writer = writer
        self._write = write
        self._dropped = 0

    def write(self, text: str) -> None:
        if self._dropped:
            text = f"    ... {self._dropped} lines were dropped: the disk was too slow ...\n{text}"
        data = text.encode("utf-8", "backslashreplace")
        if self._writer.offer(partial(self._write, data), len(data)):
            self._dropped = 0
        else:
            self._dropped += 1

    def flush(self) -> None: ...


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = _CONTROL.sub("?", super().format(record)).replace("\n", "\n    ")
        request_id = "--------"
        if found := _ID.match(text):
            request_id, text = found[1], text[found.end() :]
        when = time.strftime(_TIME, time.localtime(record.created))
        return f"[{when}] [{request_id}] [{record.levelname.lower()}] [{record.filename}:{record.lineno}] {text}"


class _Files:
    """The files on disk. The lock keeps writing, rotating, opening and clearing apart."""

    def __init__(self, folder: Path, bounds: Bounds, add: Append) -> None:
        self._folder = folder
        self._bounds = bounds
        self._add = add
        self._lock = threading.Lock()
        self._complained_at = -_COMPLAINT_SECONDS

    def write(self, data: bytes) -> None:
        """Lines that cannot be written go to the terminal after all."""
        with self._lock:
            try:
                size = self._add(self._folder / _MAIN, data)
            except OSError as error:
                self._complain(error)
                sys.stderr.write(data.decode())
                return
            try:
                if size >= self._bounds.file_bytes:
                    self._rotate()
            except OSError as error:
                self._complain(error)

    def opened(self) -> _Segments:
        """The files as they are now, oldest first."""
        with self._lock:
            segments = _Segments()
            for path in (*self._rotated(), self._folder / _MAIN):
                try:
                    segments.append(_Segment(path))
                except FileNotFoundError:
                    continue
            return segments

    def clear(self) -> int:
        with self._lock:
            rotated = self._rotated()
            for path in rotated:
                path.unlink(missing_ok=True)
            if (self._folder / _MAIN).exists():
                os.truncate(self._folder / _MAIN, 0)
            return len(rotated)

    def _rotate(self) -> None:
        base = f"main-{stamp(time.time())}"
        target, number = self._folder / f"{base}.log", 1
        while target.exists():
            number += 1
            target = self._folder / f"{base}-{number}.log"
        (self._folder / _MAIN).rename(target)
        rotated = self._rotated()
        total = sum(path.stat().st_size for path in rotated)
        while rotated and total > self._bounds.total_bytes:
            oldest = rotated.pop(0)
            total -= oldest.stat().st_size
            oldest.unlink(missing_ok=True)

    def _rotated(self) -> list[Path]:
        """Oldest first: a file is not written to after it was rotated."""
        try:
            found = [path for path in self._folder.iterdir() if _ROTATED.fullmatch(path.name)]
        except FileNotFoundError:
            return []
        return sorted(found, key=lambda path: (path.stat().st_mtime_ns, len(path.name), path.name))

    def _complain(self, error: OSError) -> None:
        now = time.monotonic()
        if now - self._complained_at >= _COMPLAINT_SECONDS:
            self._complained_at = now
            sys.stderr.write(f"`{_MAIN}` cannot be written or rotated: {error.strerror or error}.\n")


# -- reading ----------------------------------------------------------------------------------------------------------


class _Segment:
    """One file, open for reading, up to the size that it had when it was opened."""

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        self.file: BinaryIO = os.fdopen(descriptor, "rb")
        status = os.fstat(descriptor)
        self.inode = status.st_ino
        self.size = status.st_size

    def read(self, start: int, end: int) -> bytes:
        self.file.seek(start)
        return self.file.read(max(0, min(end, self.size) - start))


class _Segments(list[_Segment]):
    def __enter__(self) -> _Segments:
        return self

    def __exit__(self, *_: object) -> None:
        for segment in self:
            segment.file.close()


class _Place(Struct, frozen=True):
    segment: _Segment
    offset: int

    def text(self) -> str:
        return f"{self.segment.inode:x}.{self.offset:x}.{self._witness()}"

    @classmethod
    def find(cls, cursor: str, segments: _Segments) -> _Place | None:
        if cursor == _START:
            return cls(segments[0], 0) if segments else None
        for segment in segments:
            inode, _, rest = cursor.partition(".")
            offset = rest.partition(".")[0]
            if inode == f"{segment.inode:x}" and re.fullmatch(r"[0-9a-f]{1,12}", offset):
                place = cls(segment, int(offset, 16))
                if place.offset <= segment.size and place.text() == cursor:
                    return place
        return None

    def _witness(self) -> str:
        before = self.segment.read(max(0, self.offset - _WITNESS_BYTES), self.offset)
        return hashlib.blake2b(before, digest_size=6).hexdigest()


def _last_lines(segments: _Segments, limit: int, after: int) -> tuple[list[str], int]:
    """The newest lines in their order, and the time of the newest. Nothing is read that is not needed."""
    kept: list[str] = []
    followers: list[str] = []  # lines without a time: they share the fate of the line before them
    latest = size = 0
    for line in _backwards(segments):
        size += len(line)
        at = _time_of(line)
        if at is None:
            followers.append(_text(line))
        elif at <= after:
            followers.clear()
            break
        else:
            latest = latest or at
            kept += [*followers, _text(line)]
            followers.clear()
        if len(kept) + len(followers) >= limit or size >= _MOST_BYTES:
            break
    kept += followers
    return kept[:limit][::-1], latest


def _backwards(segments: _Segments) -> Iterator[bytes]:
    """Complete lines, the newest first, read by blocks."""
    for segment in reversed(segments):
        end, rest = _end_of_lines(segment), b""
        while end > 0:
            start = max(0, end - _BLOCK_BYTES)
            block = segment.read(start, end) + rest
            rest, *lines = block.split(b"\n")
            end = start
            yield from (line for line in reversed(lines) if line)
        if rest:
            yield rest


def _next_lines(segments: _Segments, place: _Place, limit: int, after: int) -> Page:
    lines: list[str] = []
    latest = size = 0
    is_kept = True
    for line, end in _forwards(segments, place):
        place = end
        at = _time_of(line)
        if at is not None:
            is_kept = at > after
            latest = at if is_kept else latest
        if is_kept:
            lines.append(_text(line))
            size += len(line)
        if len(lines) >= limit or size >= _MOST_BYTES:
            break
    return Page(tuple(lines), latest, place.text())


def _forwards(segments: _Segments, place: _Place) -> Iterator[tuple[bytes, _Place]]:
    """Complete lines from a place on, and where each ends."""
    for segment in segments[segments.index(place.segment) :]:
        offset = place.offset if segment is place.segment else 0
        segment.file.seek(offset)
        while offset < segment.size and (line := segment.file.readline()).endswith(b"\n"):
            offset += len(line)
            yield line[:-1], _Place(segment, offset)


def _end_of_lines(segment: _Segment) -> int:
    """Behind the last complete line: one that is just being written is left for the next time."""
    end = segment.size
    while end > 0:
        start = max(0, end - _BLOCK_BYTES)
        cut = segment.read(start, end).rfind(b"\n")
        if cut >= 0:
            return start + cut + 1
        end = start
    return 0


def _time_of(line: bytes) -> int | None:
    return _parsed(line[1:20]) if line[:1] == b"[" and line[20:21] == b"]" else None


@lru_cache(maxsize=256)
def _parsed(text: bytes) -> int | None:
    try:
        return int(time.mktime(time.strptime(text.decode(), _TIME)))
    except ValueError:
        return None


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace")
