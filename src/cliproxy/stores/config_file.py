"""The configuration file on disk: reading, watching and replacing it.

Watching is polling: a `stat` every quarter second, which costs microseconds. Operating systems offer notifications,
but each kind of edit needs its own care with them: a rename moves the watch to a dead inode, a single-file bind mount
of Docker has no directory to watch, network drives send nothing. Polling covers all of them with one mechanism, and an
edit is in effect within a second.

What decides is the content, never the time stamp. Time stamps can be too coarse to tell two edits apart, so for two
seconds after a change the file is read at every poll. A new content is adopted once it has stood still for a moment:
the first half of a file being written often is a valid file, and adopting it would drop the accounts of the second
half. A content that cannot be used is reported once, and only when it stays; the last good configuration stays in use.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

from msgspec import Struct

from cliproxy.config.document import Loaded, read
from cliproxy.config.issues import ConfigError, Issue
from cliproxy.stores.durable import sync_folder, write_synced
from cliproxy.stores.file_lock import FileLock, lock
from cliproxy.stores.folders import make_private

SETTLE = 0.2
"""Seconds a new content must stand still before it is adopted."""
PATIENCE = 0.5
"""Seconds a content may be unusable before it is reported."""
SUSPICION = 2.0
"""Seconds after a change in which time stamps are not trusted; FAT stamps every two seconds."""

_ANYBODY_WRITES = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
# A rename cannot replace the target of a bind mount (EBUSY, EXDEV), nor work in a folder we may not write to.
_RENAME_IS_IMPOSSIBLE = frozenset({errno.EBUSY, errno.EXDEV, errno.EACCES, errno.EPERM, errno.EROFS})

_Signature = tuple[int, int, int, int]


class Content(Struct, frozen=True):
    """What stands in the file at one time. `digest` is what contents are compared by."""

    text: str
    digest: bytes

    @property
    def is_blank(self) -> bool:
        """Such a file is about to be written, or was emptied by accident; it is never adopted while we serve."""
        return not self.text.strip("\ufeff \t\r\n")


class Version(Struct, frozen=True):
    """A content that can be read, and what it says."""

    loaded: Loaded
    digest: bytes


OnChange = Callable[[Version], Awaitable[None]]
OnError = Callable[[ConfigError], Awaitable[None]]


class Overtaken(OSError):
    """Somebody else has changed the file since it was read."""


class ConfigFile:
    """One configuration file. `adopted` is the digest of the content in use; None before the first `load`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.adopted: bytes | None = None

    def load(self) -> Loaded:
        """Read the file and remember its content as the one in use.

        Raises ConfigError with every problem, FileNotFoundError, or the OSError that kept us from reading.
        """
        content = self.path.read_bytes()
        loaded = _parse(content, self.path.name)
        self.adopted = _digest(content)
        return loaded

    def read(self) -> Content:
        """The file as it is now, for editing. Raises ConfigError when it is not UTF-8, OSError when unreadable."""
        content = self.path.read_bytes()
        return Content(_decode(content, self.path.name), _digest(content))

    def lock(self, patience: float = 10.0) -> FileLock:
        """Keep other processes of ours from writing; see `file_lock.lock`. What a killed one left behind is removed."""
        path = self._target()
        held = lock(path, patience)
        if held.is_alone:
            _sweep(path)
        return held

    def save(self, text: str, instead_of: bytes | None = None) -> bytes:
        """Replace the content in one step, and return the digest of the new one; the watcher takes it for known. The
        caller has validated the text.

        Mode and owner stay, a symbolic link stays one. Where the file cannot be replaced (a bind mount, a read-only
        folder) it is rewritten in place. A file that is not there is not created: FileNotFoundError. One that nobody
        may write is left alone, although a rename would get around that: PermissionError. `instead_of` is the digest
        of what may be replaced; Overtaken when something else stands there.
        """
        content = text.encode()
        before, self.adopted = self.adopted, _digest(content)
        try:
            _replace(self._target(), content, instead_of)
        except OSError:
            self.adopted = before
            raise
        return self.adopted

    async def watch(self, on_change: OnChange, on_error: OnError, *, interval: float = 0.25) -> None:
        """Call back for each new content of the file, until cancelled. `interval` is seconds between two looks.

        `on_change` gets what the file held a moment ago; it should read again under its lock, since an API write may
        have come in between, and set `adopted` to the digest that is in use then. Until that is the one told, it will
        be told again. A ConfigError that it raises goes to `on_error`, which also hears of contents that stay unusable
        and of a file that stays away, once each. When an error has been reported, the next usable content is told to
        `on_change` even if it is the one in use: the error is over.
        """
        clock = asyncio.get_running_loop().time
        watch = Watch(self, on_change, on_error)
        while True:
            await asyncio.sleep(interval)
            await watch.poll(clock())

    def _target(self) -> Path:
        """The file that the path leads to, through links."""
        try:
            return self.path.resolve(strict=True)
        except RuntimeError as error:  # before Python 3.13 no OSError
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from error


class _Sight(Struct, frozen=True):
    """What stood in the file, or why it could not be read, and since when (loop time)."""

    digest: bytes
    content: bytes | OSError
    since: float

    def parse(self, name: str) -> Loaded:
        if isinstance(self.content, OSError):
            reason = "the file is missing" if isinstance(self.content, FileNotFoundError) else "cannot read the file"
            raise ConfigError([Issue(name, "$", 1, 1, f"{reason}; the last good configuration stays in use")])
        if not self.content.strip():
            raise ConfigError([Issue(name, "$", 1, 1, "the file is empty; the last good configuration stays in use")])
        return _parse(self.content, name)


class Watch:
    """What one watcher has seen of a file, and what of it needs no more attention.

    A content is seen, stands still for `SETTLE`, and is dealt with: adopted if it can be used, reported if it cannot be
    for `PATIENCE`. `_reported` holds the broken contents since the last good one, so that each is told once.
    """

    def __init__(self, file: ConfigFile, on_change: OnChange, on_error: OnError) -> None:
        self._file = file
        self._on_change = on_change
        self._on_error = on_error
        self._signature: _Signature | None = None
        self._suspicious_until = -1.0
        self._sight: _Sight | None = None
        self._dealt_with: bytes | None = None
        self._reported: set[bytes] = set()

    async def poll(self, now: float) -> None:
        """One look at the file; `now` is monotonic seconds."""
        self._look(now)
        sight = self._sight
        if sight is None or self._is_done(sight) or now - sight.since < SETTLE:
            return
        if sight.digest == self._file.adopted and not self._reported:
            self._dealt_with = sight.digest
            return
        try:
            await self._adopt(sight)
        except ConfigError as error:
            await self._complain(sight, error, now)

    def _is_done(self, sight: _Sight) -> bool:
        """Whether there is nothing more to do about what stands there. A content that was adopted once is news again
        when another one has been in use since: somebody has undone a change that came between two looks."""
        if sight.digest != self._dealt_with:
            return False
        return sight.digest == self._file.adopted or sight.digest in self._reported

    def _look(self, now: float) -> None:
        signature = _signature(self._file.path)
        if signature != self._signature or self._sight is None:
            self._signature = signature
            self._suspicious_until = now + SUSPICION
        if now <= self._suspicious_until:
            digest, content = _content(self._file.path)
            if self._sight is None or self._sight.digest != digest:
                self._sight = _Sight(digest, content, now)

    async def _adopt(self, sight: _Sight) -> None:
        # Parsing a long file takes a tenth of a second, in which streams must go on.
        loaded = await asyncio.to_thread(sight.parse, self._file.path.name)
        await self._on_change(Version(loaded, sight.digest))
        if self._file.adopted == sight.digest:
            self._dealt_with = sight.digest
            self._reported.clear()

    async def _complain(self, sight: _Sight, error: ConfigError, now: float) -> None:
        """Only when the content has stayed for a while."""
        if now - sight.since < PATIENCE:
            return
        self._dealt_with = sight.digest
        if sight.digest not in self._reported:
            self._reported.add(sight.digest)
            await self._on_error(error)


def write_new(path: Path, text: str) -> None:
    """Create the file, readable by its owner only, whole or not at all; missing folders become 0700.

    Raises FileExistsError when something stands there already, also when it came in between.
    """
    make_private(path.parent)
    temporary = _temporary_beside(path)
    try:
        write_synced(temporary, text.encode())
        _rename_to_new(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def _rename_to_new(temporary: Path, path: Path) -> None:
    """A hard link refuses to replace what is there, which a rename does not. FAT has no links, so look before."""
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        raise
    except OSError:
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        temporary.rename(path)


def _parse(content: bytes, name: str) -> Loaded:
    return read(_decode(content, name), name=name)


def _decode(content: bytes, name: str) -> str:
    """A byte order mark stays, as `Draft` wants it."""
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError([Issue(name, "$", line, 1, "not UTF-8; save the file as UTF-8 text")]) from None


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def _content(path: Path) -> tuple[bytes, bytes | OSError]:
    """A digest to compare by, and what was read, or why nothing was."""
    try:
        content = path.read_bytes()
    except OSError as error:
        return f"errno {error.errno}".encode(), error
    return _digest(content), content


def _signature(path: Path) -> _Signature | None:
    """Changes with every kind of edit, but for two within one tick of the file system's clock."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)


def _replace(path: Path, content: bytes, instead_of: bytes | None) -> None:
    found = path.stat()
    if not found.st_mode & _ANYBODY_WRITES:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    temporary = _temporary_beside(path)
    try:
        write_synced(temporary, content, stat.S_IMODE(found.st_mode))
        _keep_owner(temporary, found)
        if instead_of is not None and _digest(path.read_bytes()) != instead_of:
            raise Overtaken(errno.EAGAIN, "another program keeps changing the file")
        temporary.replace(path)
    except OSError as error:
        if error.errno not in _RENAME_IS_IMPOSSIBLE:
            raise
        _rewrite(path, content)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def _temporary_beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def _sweep(path: Path) -> None:
    """Remove what a writer that was killed has left beside the file. Whoever calls this keeps all other writers out."""
    temporary = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}\.tmp")
    with contextlib.suppress(OSError), os.scandir(path.parent) as entries:
        for entry in entries:
            if temporary.fullmatch(entry.name):
                path.with_name(entry.name).unlink(missing_ok=True)


def _keep_owner(path: Path, found: os.stat_result) -> None:
    """Only root can give a file away; everyone else keeps what they can."""
    if (os.geteuid(), os.getegid()) != (found.st_uid, found.st_gid):
        os.chown(path, found.st_uid, found.st_gid)
        path.chmod(stat.S_IMODE(found.st_mode))


def _rewrite(path: Path, content: bytes) -> None:
    """In place: the last resort, since a crash in between leaves a part of the file."""
    with path.open("r+b") as file:
        file.write(content)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())
