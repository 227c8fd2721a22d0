"""Records of requests: one file each, written by a thread while the request runs, bounded in every direction.

A file has two strands. *What was asked* (the request, and each exchange with an upstream) goes to the file itself.
*What was answered* runs at the same time as the upstream's answer, so it gathers beside the file, in one whose name
begins with a dot, and is added when the request is over. Both are bounded by section and as a whole, what waits for the
disk is bounded by bytes, and the folder by size and number. Whatever is left out for that, a note in its place says how
much. A disk that fails costs records, never an answer.
"""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from msgspec import Struct

from cliproxy.stores.log_folder import Append, append, is_private_name, stamp
from cliproxy.stores.writer import Writer

_log = logging.getLogger(__name__)

_MIB = 1024 * 1024

# Small pieces are gathered to this size, or for a second, before they are written.
_GATHERED_BYTES = 16 * 1024
_COPIED_BYTES = 256 * 1024
_SLUG_CHARACTERS = 100
_BETWEEN = b"\n\n"
_REFUSED = "they could not be written"
_WARNING_SECONDS = 60.0
_ABANDONED_SECONDS = 24 * 3600.0
# How far the folder is emptied once it is too full, so that this is not looked at after each request.
_LOW_WATER = 0.9

_UNSAFE = re.compile(r"[^A-Za-z0-9._]+")
_NAME = re.compile(r".+-\d{4}-\d\d-\d\dT\d{6}-[A-Za-z0-9_]+\.log")
_ID = re.compile(r"[A-Za-z0-9_]{1,64}")
_ERROR_PREFIX = "error-"
# A path that begins like one of ours must not give its file a meaning.
_TAKEN = ("error", "main")


class Bounds(Struct, frozen=True, kw_only=True):
    """`file_bytes` bounds the strand of what was asked; the answer is one section. `errors` is how many records of
    failures are kept, and how many are written in a second."""

    section_bytes: int = 16 * _MIB
    file_bytes: int = 64 * _MIB
    backlog_bytes: int = 16 * _MIB
    folder_bytes: int = 1024 * _MIB
    folder_files: int = 10_000
    errors: int = 10


class Found(Struct, frozen=True):
    """A file in the folder. `modified_at` is epoch seconds."""

    name: str
    size_bytes: int
    modified_at: float


class RequestLogs:
    """The records in one folder. `begin`, `begin_error` and what they give never block; all else does."""

    def __init__(self, folder: Path, *, bounds: Bounds | None = None, add: Append = append) -> None:
        self.folder = folder
        self.bounds = bounds or Bounds()
        self._add = add
        self._writer = Writer("records of requests", self.bounds.backlog_bytes, self._flush)
        self._open: set[_File] = set()
        self._census: tuple[int, int] | None = None
        self._error_names: list[str] | None = None
        self._burst: tuple[int, int] = (0, 0)
        self._unrecorded = 0
        self._warned_at = 0.0

    def begin(self, path: str, at: float, request_id: str) -> Sheet | None:
        """The file for a request that came at `at` (epoch seconds); None while the disk is too far behind."""
        if self._writer.is_full:
            self._unrecorded += 1
            if at - self._warned_at >= _WARNING_SECONDS:
                self._warned_at = at
                _log.warning("Requests without a record, because the disk is too slow: %d so far.", self._unrecorded)
            return None
        return self._sheet(f"{slug(path)}-{stamp(at)}-{request_id}.log")

    def begin_error(self, path: str, at: float, request_id: str) -> Sheet | None:
        """The file for a request that failed; None when there are so many that it would not be kept."""
        second, count = self._burst
        count = count + 1 if second == int(at) else 1
        if count > self.bounds.errors or self._writer.is_full:
            return None
        self._burst = int(at), count
        return self._sheet(f"{_ERROR_PREFIX}{slug(path)}-{stamp(at)}-{request_id}.log")

    def errors(self) -> list[Found]:
        """The records of failures, newest first."""
        return sorted(self._found(is_error=True), key=lambda found: (found.modified_at, found.name), reverse=True)

    def error(self, name: str) -> bytes | None:
        """The record of a failure, by the name of its file; None when there is none. Raises OSError."""
        if not name.startswith(_ERROR_PREFIX) or not is_private_name(name) or not _NAME.fullmatch(name):
            return None
        return _read(self.folder / name)

    def record(self, request_id: str) -> tuple[str, bytes] | None:
        """Name and content of the file of a request, also of one that failed. Raises OSError."""
        for found in (*self._found(), *self._found(is_error=True)):
            if found.name.endswith(f"-{request_id}.log"):
                content = _read(self.folder / found.name)
                return None if content is None else (found.name, content)
        return None

    def settle(self, seconds: float = 5.0) -> bool:
        """Wait until all that has been put down is in the files; whether it is."""
        return self._writer.settle(seconds)

    def close(self, seconds: float = 2.0) -> None:
        self._writer.close(seconds)

    # -- on the writer's thread

    def _sheet(self, name: str) -> Sheet:
        main = _File(self.folder / name, self._add)
        answer = _File(self.folder / f".{name}.part", self._add)
        self._writer.offer(partial(self._open.add, main), is_due=True)
        return Sheet(self._writer, self.bounds, main, answer, partial(self._ended, main, answer))

    def _flush(self) -> bool:
        for file in tuple(self._open):
            file.flush()
        return bool(self._open)

    def _ended(self, main: _File, answer: _File) -> None:
        self._open.discard(main)
        try:
            main.take(answer)
            main.flush()
        finally:
            answer.remove()
        if main.path.name.startswith(_ERROR_PREFIX):
            self._keep_newest_errors(main.path.name)
        else:
            self._keep_within_bounds(main.size_bytes)

    def _keep_newest_errors(self, name: str) -> None:
        names = self._error_names
        if names is None:
            names = [found.name for found in reversed(self.errors())]
        else:
            names.append(name)
        while len(names) > self.bounds.errors:
            (self.folder / names.pop(0)).unlink(missing_ok=True)
        self._error_names = names

    def _keep_within_bounds(self, size: int) -> None:
        count, total = self._census or self._counted()
        count, total = (count + 1, total + size) if self._census else (count, total)
        self._census = count, total
        if count > self.bounds.folder_files or total > self.bounds.folder_bytes:
            self._census = self._emptied()

    def _counted(self) -> tuple[int, int]:
        sizes = [found.size_bytes for found in self._found()]
        return len(sizes), sum(sizes)

    def _emptied(self) -> tuple[int, int]:
        """Remove the oldest records, those of failures left alone; what is left."""
        files = sorted(self._found(), key=lambda found: (found.modified_at, found.name), reverse=True)
        count, total = len(files), sum(found.size_bytes for found in files)
        newest = files[0].modified_at if files else 0.0
        while files and (
            count > self.bounds.folder_files * _LOW_WATER or total > self.bounds.folder_bytes * _LOW_WATER
        ):
            oldest = files.pop()
            (self.folder / oldest.name).unlink(missing_ok=True)
            count, total = count - 1, total - oldest.size_bytes
        self._remove_abandoned(newest - _ABANDONED_SECONDS)
        return count, total

    def _remove_abandoned(self, before_at: float) -> None:
        """Answers that were being gathered when a process was killed."""
        for path in self.folder.glob(".*.log.part"):
            if path.lstat().st_mtime < before_at:
                path.unlink(missing_ok=True)

    def _found(self, *, is_error: bool = False) -> Iterator[Found]:
        """The records of requests, or of failures."""
        try:
            entries = list(os.scandir(self.folder))
        except FileNotFoundError:
            return
        for entry in entries:
            if entry.name.startswith(_ERROR_PREFIX) is is_error and _NAME.fullmatch(entry.name):
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if stat.S_ISREG(status.st_mode):
                    yield Found(entry.name, status.st_size, status.st_mtime)


class Sheet:
    """The file of one request, as the request sees it: two strands to put things down in, and an end."""

    __slots__ = ("_end", "_writer", "answered", "asked")

    def __init__(self, writer: Writer, bounds: Bounds, main: _File, answer: _File, end: partial[None]) -> None:
        self._writer = writer
        self._end = end
        self.asked = Strand(writer, main, bounds.section_bytes, bounds.file_bytes)
        self.answered = Strand(writer, answer, bounds.section_bytes, bounds.section_bytes, _BETWEEN)

    def end(self) -> None:
        """Nothing more comes. To be called once."""
        self.asked.close()
        self.answered.close()
        self._writer.offer(self._end, is_due=True)


class Strand:
    """Sections, one after the other. Never blocks; what cannot be put down is counted, and noted in its place.

    A heading travels with the first bytes of its section: each job for the writer costs a change of threads.
    """

    __slots__ = ("_beyond", "_file", "_gap", "_heading", "_lead", "_left", "_section_bytes", "_total_left", "_writer")

    def __init__(self, writer: Writer, file: _File, section_bytes: int, file_bytes: int, lead: bytes = b"") -> None:
        """`lead` goes before the first section."""
        self._writer = writer
        self._file = file
        self._section_bytes = section_bytes
        self._total_left = file_bytes
        self._lead = lead
        self._heading = b""
        self._left = 0
        self._beyond = 0
        self._gap = 0

    def title(self, name: str) -> None:
        """Begin a section."""
        self.close()
        self._left = min(self._section_bytes, self._total_left)
        self._heading = b"%b=== %b ===\n" % (self._lead, name.encode())
        self._lead = _BETWEEN

    def put(self, data: bytes) -> None:
        """More of the section."""
        if len(data) > self._left:
            self._beyond += len(data) - self._left
            data = data[: self._left]
        if not data:
            return
        self._left -= len(data)
        self._total_left -= len(data)
        before = self._heading
        if self._gap:
            before += _noted(self._gap, "the disk was too slow")
        if self._offer(before + data if before else data):
            self._heading = b""
            self._gap = 0
        else:
            self._gap += len(data)

    def close(self) -> None:
        """Put down a heading that nothing followed, and say what the section lacks."""
        rest = self._heading
        if self._gap:
            rest += _noted(self._gap, "the disk was too slow")
        if self._beyond:
            rest += _noted(self._beyond, "the section is too long")
        if rest:
            self._offer(rest, is_due=True)
        self._heading = b""
        self._gap = self._beyond = 0

    def _offer(self, data: bytes, *, is_due: bool = False) -> bool:
        return self._writer.offer(partial(self._file.write, data), len(data), is_due=is_due)


def _noted(size: int, why: str) -> bytes:
    return f"\n... {size} bytes not recorded: {why} ...\n".encode()


class _File:
    """One file as the writer's thread sees it: pieces are gathered, and what the disk refuses is noted."""

    def __init__(self, path: Path, add: Append) -> None:
        self.path = path
        self.size_bytes = 0
        self._add = add
        self._gathered: list[bytes] = []
        self._gathered_bytes = 0
        self._refused = 0

    def write(self, data: bytes) -> None:
        self._gathered.append(data)
        self._gathered_bytes += len(data)
        if self._gathered_bytes >= _GATHERED_BYTES:
            self.flush()

    def flush(self) -> None:
        data = b"".join(self._gathered)
        self._gathered.clear()
        self._gathered_bytes = 0
        if data:
            self._put(data)

    def take(self, other: _File) -> None:
        """Add the content of `other`."""
        if other.size_bytes:
            other.flush()
            with other.path.open("rb") as source:
                while data := source.read(_COPIED_BYTES):
                    self.write(data)
            return
        if other._refused:
            self.write(_noted(other._refused, _REFUSED))
        for data in other._gathered:
            self.write(data)

    def remove(self) -> None:
        self._gathered.clear()
        if self.size_bytes or self._refused:
            self.path.unlink(missing_ok=True)

    def _put(self, data: bytes) -> None:
        note = _noted(self._refused, _REFUSED) if self._refused else b""
        try:
            self.size_bytes = self._add(self.path, note + data)
        except OSError:
            self._refused += len(data)
            raise
        self._refused = 0


def slug(path: str) -> str:
    """The path of a request as the beginning of a file's name; never empty, never one that means something else."""
    name = _UNSAFE.sub("-", path).strip("-.")[:_SLUG_CHARACTERS]
    if not name:
        return "root"
    return f"path-{name}" if name.lower().startswith(_TAKEN) else name


def is_request_id(text: str) -> bool:
    """Whether `text` can be the id of a request."""
    return _ID.fullmatch(text) is not None


def _read(path: Path) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        return file.read()
