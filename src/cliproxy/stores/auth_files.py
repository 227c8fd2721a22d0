"""The folder of credential files: listing, reading, and changes that lose nothing.

What counts as a credential file: an entry of the folder itself whose name ends in `.json`, in whatever letter case, and
that is a regular file. Links are none: one would make any file that the gateway can read readable to others. Names that
could not be told safely in a header, a path or a log (`checked`) are none either, so that whatever is listed can be
asked for.

Every change happens under two locks: one of this process, and one of the folder for other processes. The second is
`flock` on the folder itself rather than on a lock file: it lies on what it protects, wherever each process has its
state, and leaves nothing behind in a folder that people look into. Where folders cannot be locked (some network
drives) the first has to do. Programs that know nothing of the lock are not held up by it; `rewrite` therefore looks
again right before it replaces a file, and begins anew when somebody else was faster.

A new content is written beside the file, under a name that begins with a dot and does not end in `.json`, synced, and
renamed over it: whoever is killed when, the file is the old one or the new one. What a killed process left there is
removed by the next one that holds the lock.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
import threading
import time
import unicodedata
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from cliproxy.stores.auth_listing import AuthFile, describe
from cliproxy.stores.durable import write_synced
from cliproxy.stores.file_lock import is_locked
from cliproxy.stores.folders import make_private
from cliproxy.wire import json, json_edits

MOST_BYTES = 10 * 1024 * 1024
"""The largest credential file. Real ones have a few thousand bytes."""

Members = Mapping[str, object]
Look = Callable[[bytes | None], None]
"""Sees what stands in a file right before it is replaced or removed, None for no file; raises to prevent that."""

_SUFFIX = ".json"
_NAME_BYTES = 255
_PLAIN = re.compile(r"[A-Za-z0-9._@+-]{1,255}")
# U+FFFD is what undecodable bytes have become: which name was meant cannot be known.
_UNSAFE = re.compile('["\\\\\ufffd]')
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
_TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.tmp")
_ATTEMPTS = 20
_LOCK_PAUSE = 0.01

# Two writes within one tick of the file system's clock look alike, and a listing may have come in between.
_TICK_SECONDS = 0.1

# A file that is itself a mount point cannot be renamed over, only rewritten.
_RENAME_IS_IMPOSSIBLE = frozenset({errno.EBUSY, errno.EXDEV})
_NOT_OURS = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.ENAMETOOLONG})

_DECODER = msgspec.json.Decoder(dict[str, object])

_Signature = tuple[int, int, int, int]


class BadName(ValueError):
    """No credential file can be called so."""

    def __init__(self, message: str = "invalid name") -> None:
        super().__init__(message)


class OverSize(OSError):
    """Larger than `MOST_BYTES`."""

    def __init__(self) -> None:
        super().__init__(errno.EFBIG, "file too large")


class _Sight(Struct, frozen=True, gc=False):
    """What was seen of a file. It holds until the signature changes, if it `is_settled`."""

    signature: _Signature
    is_settled: bool
    file: AuthFile
    order: tuple[str, str]


class AuthFiles:
    """The credential files of one folder, which may change from call to call. `epoch` gives the time in seconds;
    `patience` is how many seconds another process may hold the folder before a change is given up.

    For many threads. Calls wait for the disk, and those that change something for other writers: not for an event
    loop. They raise BadName; BadJson when a content is not the object that it must be; and OSError: OverSize,
    FileNotFoundError when there is no such credential file, or what else kept them from it.
    """

    def __init__(self, folder: Callable[[], Path], epoch: Callable[[], float], patience: float = 10.0) -> None:
        self._folder = folder
        self._epoch = epoch
        self._patience = patience
        self._writing = threading.Lock()
        self._seen: tuple[Path, dict[str, _Sight]] = (Path(), {})
        self._swept: Path | None = None

    # -- reading

    def listed(self) -> list[AuthFile]:
        """Every credential file, ordered by name without regard to letter case; [] when there is no folder.

        Files are read again only when they have changed.
        """
        folder = self._folder()
        known = self._seen[1] if self._seen[0] == folder else {}
        sights: dict[str, _Sight] = {}
        for name, found in _entries(folder):
            sight = known.get(name)
            if sight is None or not sight.is_settled or sight.signature != _signature(found):
                sight = self._look_at(folder, name)
            if sight is not None:
                sights[name] = sight
        self._seen = (folder, sights)
        return [sight.file for sight in sorted(sights.values(), key=lambda sight: sight.order)]

    def stamps(self) -> Mapping[str, _Signature]:
        """Every credential file with what changes when it does: `mtime_ns`, `ctime_ns`, size and inode."""
        return {name: _signature(found) for name, found in _entries(self._folder())}

    def read(self, name: str) -> bytes:
        """Exactly what stands in the file."""
        return _read(self._folder() / checked(name))[0]

    def load(self, name: str) -> Members:
        """What stands in the file, as an object."""
        return _members(self.read(name))

    # -- changing

    def save(self, name: str, content: bytes, look: Look = lambda _: None) -> None:
        """Create or replace a file; it is readable by its owner only. The folder is made if it misses."""
        checked(name)
        _check(content)
        with self._locked(is_made=True) as folder:
            path = folder / name
            look(_current(path))
            _replace(path, _write_beside(path, content), content)

    def remove(self, name: str, look: Look = lambda _: None) -> None:
        checked(name)
        with self._locked() as folder:
            _unlink(folder / name, look)

    def remove_each(self, names: Iterable[str]) -> dict[str, OSError | BadName | None]:
        """What became of each of `names`: None for removed, else what was in the way."""
        outcomes: dict[str, OSError | BadName | None] = dict.fromkeys(names)
        try:
            with self._locked() as folder:
                for name in outcomes:
                    try:
                        _unlink(folder / checked(name))
                    except (OSError, BadName) as error:
                        outcomes[name] = error
        except FileNotFoundError as error:
            return dict.fromkeys(outcomes, error)
        return outcomes

    def remove_all(self) -> int:
        """How many files were removed. Those that cannot be are skipped."""
        outcomes = self.remove_each([name for name, _ in _entries(self._folder())])
        return sum(outcome is None for outcome in outcomes.values())

    def rewrite(self, name: str, edit: Callable[[bytes], bytes]) -> bytes:
        """Replace a file by what `edit` makes of its content, and return that. Nothing is written when it is the same.

        Nobody else's change comes in between: this is compare and set, and `edit` compares. It may be called again
        when another program has changed the file meanwhile, and what it raises passes through.
        """
        checked(name)
        with self._locked() as folder:
            path = folder / name
            for _ in range(_ATTEMPTS):
                before, found = _read(path)
                json_edits.check(before)
                after = edit(before)
                if after == before:
                    return after
                _check(after)
                temporary = _write_beside(path, after)
                if _signature_at(path) == _signature(found):
                    _replace(path, temporary, after)
                    return after
                temporary.unlink(missing_ok=True)
        raise BlockingIOError(errno.EAGAIN, "another program keeps changing it")

    def change(self, name: str, edit: Callable[[Members], Mapping[str, object] | None]) -> None:
        """`rewrite` for who thinks in members: those that `edit` returns are set, all others stay; None for nothing."""

        def edit_text(text: bytes) -> bytes:
            before = _members(text)
            for member, value in (edit(before) or {}).items():
                if member not in before or json.encode(before[member]) != json.encode(value):
                    text = json_edits.replace(text, (member,), value)
            return text

        self.rewrite(name, edit_text)

    # -- inside

    def _look_at(self, folder: Path, name: str) -> _Sight | None:
        """None for a file that has just gone."""
        path = os.path.join(folder, name)  # a Path costs as much as reading the file
        now = self._epoch()
        try:
            content, found = _read(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            problem = "it is too large for a credential" if isinstance(error, OverSize) else "it cannot be read"
            try:
                content, found = problem, os.lstat(path)
            except OSError:
                return None
        return _Sight(
            signature=_signature(found),
            is_settled=found.st_ctime + _TICK_SECONDS < now,
            file=describe(name, found.st_size, found.st_mtime, content),
            order=(name.casefold(), name),
        )

    @contextlib.contextmanager
    def _locked(self, *, is_made: bool = False) -> Generator[Path]:
        """The folder, for one writer at a time. What was done to it is durable when the lock is released."""
        folder = self._folder()
        with self._writing:
            if is_made:
                make_private(folder)
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                is_alone = _lock(descriptor, self._patience)
                if is_alone and self._swept != folder:
                    _sweep(folder)
                    self._swept = folder
                yield folder
                with contextlib.suppress(OSError):  # some network drives cannot sync a folder
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)


def checked(name: str) -> str:
    """`name`, if a credential file may be called so. Raises BadName."""
    if not name or "/" in name or not _is_safe(name):
        raise BadName
    if not name.lower().endswith(_SUFFIX):
        raise BadName("name must end with .json")
    return name


def _is_safe(name: str) -> bool:
    """Safe to be told in a header, in JSON and in a log, and short enough for file systems."""
    if name.strip(".") == "" or name.lower() == _SUFFIX or name != name.strip(" "):
        return False
    if _PLAIN.fullmatch(name):
        return True
    if _UNSAFE.search(name) or any(unicodedata.category(character) in _UNSAFE_CATEGORIES for character in name):
        return False
    return len(name.encode()) <= _NAME_BYTES


def _is_ours(name: str) -> bool:
    return name[-len(_SUFFIX) :].lower() == _SUFFIX and "/" not in name and _is_safe(name)


def _entries(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if _is_ours(entry.name) and entry.is_file(follow_symlinks=False):
                    with contextlib.suppress(FileNotFoundError):
                        yield entry.name, entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return


def _read(path: str | Path) -> tuple[bytes, os.stat_result]:
    """Without following a link, and without waiting for who would write into a pipe."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in _NOT_OURS:
            raise _missing() from error
        raise
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise _missing()
        if found.st_size > MOST_BYTES:
            raise OverSize
        content = b""
        while piece := os.read(descriptor, max(found.st_size - len(content), 0) + 1):
            content += piece
            if len(content) > MOST_BYTES:
                raise OverSize
    finally:
        os.close(descriptor)
    return content, found


def _current(path: Path) -> bytes | None:
    """What a write would replace; a file that cannot be read can still be replaced. Raises BadName when what stands
    there is no file."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise BadName
        return _read(path)[0]
    except FileNotFoundError:
        return None
    except (PermissionError, OverSize):
        return b""


def _unlink(path: Path, look: Look = lambda _: None) -> None:
    """Also a file that cannot be read. Raises FileNotFoundError when what stands there is no file."""
    try:
        content = _current(path)
    except BadName as error:
        raise _missing() from error
    if content is None:
        raise _missing()
    look(content)
    path.unlink()


def _check(content: bytes) -> None:
    if len(content) > MOST_BYTES:
        raise OverSize
    json_edits.check(content)


def _members(content: bytes) -> Members:
    json_edits.check(content)
    return _DECODER.decode(content)


def _missing() -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, "file not found")


def _write_beside(path: Path, content: bytes) -> Path:
    """A temporary file in the same folder, with all of `content` on the disk."""
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    write_synced(temporary, content)
    _keep_owner(temporary, path)
    return temporary


def _keep_owner(temporary: Path, path: Path) -> None:
    """A gateway that runs as root must not take a file away from whom it belongs to."""
    with contextlib.suppress(OSError):
        found = path.lstat()
        if (found.st_uid, found.st_gid) != (os.geteuid(), os.getegid()):
            os.chown(temporary, found.st_uid, found.st_gid, follow_symlinks=False)


def _replace(path: Path, temporary: Path, content: bytes) -> None:
    try:
        temporary.replace(path)
    except OSError as error:
        if error.errno not in _RENAME_IS_IMPOSSIBLE:
            raise
        _overwrite(path, content)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _overwrite(path: Path, content: bytes) -> None:
    """In place: the last resort, since a crash in between leaves a part of the file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)
        file.write(content)
        file.truncate()
        file.flush()
        os.fsync(descriptor)


def _lock(descriptor: int, patience: float) -> bool:
    """Whether no other process of ours can be writing; it is waited for. Raises BlockingIOError after that."""
    for _ in range(max(1, round(patience / _LOCK_PAUSE))):
        if (is_alone := is_locked(descriptor)) is not None:
            return is_alone
        time.sleep(_LOCK_PAUSE)
    raise BlockingIOError(errno.EAGAIN, "another process keeps the folder locked")


def _sweep(folder: Path) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            if _TEMPORARY.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    (folder / entry.name).unlink()


def _signature_at(path: Path) -> _Signature | None:
    try:
        return _signature(path.lstat())
    except FileNotFoundError:
        return None


def _signature(found: os.stat_result) -> _Signature:
    """Changes with every kind of edit, but for two within one tick of the file system's clock."""
    return (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)
