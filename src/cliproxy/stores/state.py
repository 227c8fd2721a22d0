"""What is known of accounts, beyond this process: one SQLite file.

It holds rests, what vendors told last of allowances, and for accounts from files which file that was. All of it can be
learned anew for the price of a refused request, so the file never stops the gateway and never holds it up: one that
cannot be used is done without, which is told once; one that is broken is put aside, and a new one takes its place.

Several processes may share the file. Each row is the last writer's. Commits are in the write-ahead log and not synced
one by one: a power failure costs the last seconds, an end of the process costs nothing that was committed.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import astuple

from cliproxy.routing.health import Kept
from cliproxy.routing.limits import Limit
from cliproxy.stores.file_lock import is_locked
from cliproxy.stores.folders import make_private

_log = logging.getLogger("cliproxy")

_PATIENCE = 0.25
"""Seconds to wait for another process that writes; what was not written waits for the next time."""
_MOST_UNSAVED = 100_000
_ASIDE = ".damaged"
_BROKEN = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})

_K = TypeVar("_K")
_V = TypeVar("_V")
_S = TypeVar("_S", bound=Struct)

# -- SQL --------------------------------------------------------------------------------------------------------------

Step = tuple[str, ...]
"""Statements that lead from one version of the schema to the next."""

STEPS: tuple[Step, ...] = (
    (
        """
        CREATE TABLE rests (
            account TEXT, model TEXT, cause TEXT, source TEXT, status INTEGER, evidence TEXT,
            started_at REAL, until_at REAL, count INTEGER, probes INTEGER,
            PRIMARY KEY (account, model)
        ) WITHOUT ROWID
        """,
        "CREATE TABLE limits (account TEXT PRIMARY KEY, told_at REAL, limits TEXT) WITHOUT ROWID",
        "CREATE TABLE marks (account TEXT PRIMARY KEY, file TEXT, mark TEXT) WITHOUT ROWID",
    ),
)
"""Only ever appended to: `PRAGMA user_version` is how many of them a file has behind it."""

_SETTINGS = ("PRAGMA synchronous = NORMAL", "PRAGMA trusted_schema = OFF")
_LOG_AHEAD = "PRAGMA journal_mode = WAL"
_CHECK = "PRAGMA quick_check(1)"
_VERSION = "PRAGMA user_version"
_INTO_FILE = "PRAGMA wal_checkpoint(PASSIVE)"

_REST = "account, model, cause, source, status, evidence, started_at, until_at, count, probes"
_RESTS = f"SELECT {_REST} FROM rests"
_LIMITS = "SELECT account, told_at, limits FROM limits"
_MARKS = "SELECT account, file, mark FROM marks"

_PUT_REST = f"INSERT OR REPLACE INTO rests ({_REST}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_PUT_LIMITS = "INSERT OR REPLACE INTO limits (account, told_at, limits) VALUES (?, ?, ?)"
_PUT_MARK = "INSERT OR REPLACE INTO marks (account, file, mark) VALUES (?, ?, ?)"

_DROP_REST = "DELETE FROM rests WHERE account = ? AND model = ?"
_DROP_LIMITS = "DELETE FROM limits WHERE account = ?"
_DROP_MARK = "DELETE FROM marks WHERE account = ?"

# -- what is kept -----------------------------------------------------------------------------------------------------

Limits = Mapping[str, tuple[Limit, ...]]


class KeptLimits(Struct, frozen=True):
    """What an account's vendor told last, at `told_at` epoch seconds: by model, "" for all of the account."""

    account: str
    told_at: float
    limits: Limits


class KeptMark(Struct, frozen=True):
    """The credential file that an account came from, and what tells it from any other of that name."""

    account: str
    file: str
    mark: str


class Saved(Struct, frozen=True):
    rests: tuple[Kept, ...] = ()
    limits: tuple[KeptLimits, ...] = ()
    marks: tuple[KeptMark, ...] = ()


class Changes(Struct, frozen=True):
    """What is to be written; None removes. Rests by account and model, the others by account."""

    rests: Mapping[tuple[str, str], Kept | None] = {}
    limits: Mapping[str, KeptLimits | None] = {}
    marks: Mapping[str, KeptMark | None] = {}

    def __bool__(self) -> bool:
        return bool(self.rests or self.limits or self.marks)

    def then(self, later: Changes) -> Changes:
        """Both in one."""
        return Changes(
            _newest(self.rests, later.rests), _newest(self.limits, later.limits), _newest(self.marks, later.marks)
        )


NOTHING = Saved()
_NONE = Changes()
_LIMITS_DECODER = msgspec.json.Decoder(dict[str, tuple[Limit, ...]])

# -- the store --------------------------------------------------------------------------------------------------------


class StateStore:
    """The file at `path`, which is asked for when the file is opened. Calls wait for the disk and raise nothing: not for
    an event loop. Of several threads, one works at a time."""

    def __init__(self, path: Callable[[], Path], steps: tuple[Step, ...] = STEPS) -> None:
        self._path = path
        self._steps = steps
        self._lock = threading.Lock()
        self._file: _File | None = None
        self._unsaved = _NONE
        self._is_emptied = False
        self._is_given_up = False
        self._told: set[str] = set()

    @property
    def has_unsaved(self) -> bool:
        """Whether something could not be written yet; the next `save` tries again."""
        return bool(self._unsaved)

    def load(self) -> Saved:
        """All that is kept; nothing when the file cannot be used. Rows that say nothing to this version are left out.

        A file that is not there is not made: who never has anything to keep gets no file.
        """
        saved = NOTHING

        def read(connection: sqlite3.Connection) -> None:
            nonlocal saved
            saved = _read(connection)

        with self._lock:
            if os.path.lexists(self._path()):
                self._attempt(read)
                self._is_emptied = False
        return saved

    def save(self, changes: Changes) -> bool:
        """Write `changes`, and what earlier calls could not write. False: what was written before is gone, since the file
        was broken or removed; so everything should be saved anew."""
        with self._lock:
            if self._is_given_up:
                return True
            unsaved = self._unsaved = self._unsaved.then(changes)
            if self._file is not None and not self._file.is_in_place():
                self._shut()
                self._is_emptied = True
            if self._attempt(lambda connection: _write(connection, unsaved)):
                self._unsaved = _NONE
            is_emptied, self._is_emptied = self._is_emptied, False
            return not is_emptied

    def close(self) -> None:
        """What was saved is in the file itself, and on the disk, when this returns."""
        with self._lock:
            if self._file is not None:
                with contextlib.suppress(sqlite3.Error):
                    self._file.connection.execute(_INTO_FILE)
            self._shut()

    def _attempt(self, work: Callable[[sqlite3.Connection], None]) -> bool:
        """Whether `work` was done. A broken file is put aside, and its place taken by a new one, once."""
        for may_mend in (True, False):
            try:
                if self._file is None:
                    self._file = _opened(self._path(), self._steps)
                work(self._file.connection)
                return True
            except _Newer:
                self._is_given_up, self._unsaved = True, _NONE
                self._complain("the database is one of a newer version of this program")
                return False
            except (sqlite3.Error, OSError) as error:
                if not _is_busy(error):
                    self._shut()
                if not (may_mend and _is_broken(error) and self._has_put_aside()):
                    self._complain(_reason(error))
                    return False
        return False

    def _has_put_aside(self) -> bool:
        path = self._path()
        try:
            is_ours = _put_aside(path)
        except OSError as error:
            self._complain(_reason(error))
            return False
        self._is_emptied = True
        if is_ours:
            _log.warning(
                "`%s` was damaged and is now `%s%s`; accounts' health starts anew.", path.name, path.name, _ASIDE
            )
        return True

    def _shut(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(sqlite3.Error):
                file.connection.close()

    def _complain(self, reason: str) -> None:
        """Once for each reason: it may come again every second."""
        if reason not in self._told:
            self._told.add(reason)
            _log.warning("Accounts' health is not kept beyond this process while this lasts: %s.", reason)


# -- opening ----------------------------------------------------------------------------------------------------------


class _Newer(Exception):
    """A later version of this program has changed the schema."""


class _Damaged(sqlite3.DatabaseError):
    """The file is a database, but not a sound one."""


class _File(Struct):
    """An open database, and which file that is."""

    connection: sqlite3.Connection
    path: Path
    found: os.stat_result

    def is_in_place(self) -> bool:
        """Whether the path still leads to it: SQLite would go on writing to a file that was removed."""
        try:
            return os.path.samestat(self.found, self.path.stat())
        except OSError:
            return False


def _opened(path: Path, steps: tuple[Step, ...]) -> _File:
    """Raises _Newer, OSError or sqlite3.Error."""
    make_private(path.parent)
    with contextlib.suppress(FileExistsError):  # SQLite gives the mode of this file to those that it puts beside it
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    found = path.stat()
    connection = _connected(path)
    try:
        with contextlib.suppress(sqlite3.OperationalError):  # some drives cannot; it works without, a little slower
            connection.execute(_LOG_AHEAD)
        _migrate(connection, steps)
    except (sqlite3.Error, _Newer):
        connection.close()
        raise
    return _File(connection, path, found)


def _connected(path: Path) -> sqlite3.Connection:
    """A connection to a database that is there and sound."""
    connection = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
    try:
        for setting in _SETTINGS:
            connection.execute(setting)
        if _first(connection, _CHECK) != "ok":
            raise _Damaged("the database is damaged")
    except sqlite3.Error:
        connection.close()
        raise
    connection.text_factory = _text_of
    return connection


def _migrate(connection: sqlite3.Connection, steps: tuple[Step, ...]) -> None:
    """Bring the schema up to date, as a whole or not at all. Nothing is written when it is."""
    if _first(connection, _VERSION) == len(steps):
        return
    with _transaction(connection):
        version = _first(connection, _VERSION)  # another process may just have done it
        if not isinstance(version, int) or version > len(steps):
            raise _Newer
        for step in steps[version:]:
            for statement in step:
                connection.execute(statement)
        connection.execute(f"{_VERSION} = {len(steps)}")


def _put_aside(path: Path) -> bool:
    """Give a broken file another name, with its log; whether it was us who did. Raises OSError.

    The lock on the folder, and the second look, are for processes that find the same file broken: the later one must
    not put aside what the earlier one has made anew.
    """
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if is_locked(descriptor) is None:
            raise BlockingIOError(errno.EAGAIN, "another process keeps the folder locked")
        try:
            _connected(path).close()
        except sqlite3.Error as error:
            if _is_broken(error):
                _beside(path, "-shm").unlink(missing_ok=True)
                for suffix in ("-wal", ""):
                    with contextlib.suppress(FileNotFoundError):
                        _beside(path, suffix).replace(_beside(path, f"{_ASIDE}{suffix}"))
                return True
    finally:
        os.close(descriptor)
    return False


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _is_broken(error: Exception) -> bool:
    return isinstance(error, _Damaged) or _code(error) in _BROKEN


def _is_busy(error: Exception) -> bool:
    return _code(error) in _BUSY


def _code(error: Exception) -> int:
    """SQLite's primary result code; 0 for an error that has none."""
    code: object = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF if isinstance(code, int) else 0


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return (error.strerror or "the file cannot be opened").lower()
    return str(error) or "the database failed"


# -- reading and writing ----------------------------------------------------------------------------------------------


def _read(connection: sqlite3.Connection) -> Saved:
    limits: list[KeptLimits] = []
    for account, told_at, text in _rows(connection, _LIMITS):
        with contextlib.suppress(msgspec.ValidationError, msgspec.DecodeError):
            told = _LIMITS_DECODER.decode(text if isinstance(text, str) else "")
            limits.append(msgspec.convert({"account": account, "told_at": told_at, "limits": told}, KeptLimits))
    rests = tuple(_converted(_rows(connection, _RESTS), Kept))
    return Saved(rests, tuple(limits), tuple(_converted(_rows(connection, _MARKS), KeptMark)))


def _converted(rows: Iterable[tuple[object, ...]], into: type[_S]) -> Iterator[_S]:
    """The columns are the fields. A row with a word that this version does not know is left out."""
    fields = into.__struct_fields__
    for row in rows:
        with contextlib.suppress(msgspec.ValidationError):
            yield msgspec.convert(dict(zip(fields, row, strict=True)), into)


def _write(connection: sqlite3.Connection, changes: Changes) -> None:
    rests, limits, marks = changes.rests, changes.limits, changes.marks
    with _transaction(connection):
        connection.executemany(_PUT_REST, (_plain(astuple(rest)) for rest in rests.values() if rest is not None))
        connection.executemany(_DROP_REST, (_plain(key) for key, rest in rests.items() if rest is None))
        connection.executemany(
            _PUT_LIMITS,
            (
                _plain((one.account, one.told_at, msgspec.json.encode(one.limits).decode()))
                for one in limits.values()
                if one is not None
            ),
        )
        connection.executemany(_DROP_LIMITS, (_plain((key,)) for key, one in limits.items() if one is None))
        connection.executemany(_PUT_MARK, (_plain(astuple(mark)) for mark in marks.values() if mark is not None))
        connection.executemany(_DROP_MARK, (_plain((key,)) for key, mark in marks.items() if mark is None))


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Generator[None]:
    """All or nothing. The lock is taken first: one that is taken in between cannot be waited for."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):  # some errors roll back by themselves
                connection.execute("ROLLBACK")


def _rows(connection: sqlite3.Connection, query: str) -> Iterable[tuple[object, ...]]:
    return connection.execute(query)


def _first(connection: sqlite3.Connection, query: str) -> object:
    for row in _rows(connection, query):
        return row[0]
    return None


def _plain(row: Iterable[object]) -> tuple[object, ...]:
    """What SQLite takes: half a surrogate pair, which vendors and callers may have sent, is no text to it."""
    return tuple(
        value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value for value in row
    )


def _text_of(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _newest(before: Mapping[_K, _V], later: Mapping[_K, _V]) -> Mapping[_K, _V]:
    """Both, the later one wins. Bounded: a disk that takes nothing for days must not cost memory without an end."""
    if not before:
        return later
    both = {**before, **later}
    for key in list(both)[: max(0, len(both) - _MOST_UNSAVED)]:
        del both[key]
    return both
