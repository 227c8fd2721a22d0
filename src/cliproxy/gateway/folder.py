"""Following the folder of credential files: every file that appears, changes or goes, and the accounts that follow.

The folder is polled, for the reasons that `stores/config_file.py` gives. A look costs one `stat` a file and runs in a
thread; the more files, the rarer, so that it never takes more than a few hundredths of a core. What decides is the
content: a file that was touched or rewritten with the same bytes is no news.

* A file that cannot be used is given a moment: it may be in the middle of being written. Then its account is withdrawn
  and its problem is told, once.
* An empty file is waited for; the account that it held stays in use meanwhile.
* A folder that cannot be read changes nothing.
* A file that was renamed is one that is gone and one that is new; nothing is left of the old name.
* Many files at once are adopted in growing portions, so that the first serve while the last are still read.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Protocol

from msgspec import Struct

from cliproxy.providers.accounts import AccountFile, Trouble

_log = logging.getLogger("cliproxy")

_SHORTEST_LOOK = 0.25
_SECONDS_PER_FILE = 0.0005
_SUSPICION_NS = 2_000_000_000
"""A file changed less than so long ago is read at every look: time stamps can be too coarse to tell two edits apart."""
_PATIENCE = 0.5
_FIRST_PORTION = 500

Stamp = tuple[int, int, int, int]
"""`mtime_ns`, `ctime_ns`, size and inode."""


Reading = AccountFile | Trouble
Read = Callable[[str, bytes], Reading]
"""What a file's name and content say."""


class Shelf(Protocol):
    """The folder."""

    def stamps(self) -> Mapping[str, Stamp]:
        """All credential files by name. A folder that is not there has none. Raises OSError."""
        ...

    def read(self, name: str) -> bytes:
        """Raises OSError."""
        ...


class Change(Struct, frozen=True):
    """What is different from the last time."""

    adopted: Mapping[str, AccountFile]
    withdrawn: frozenset[str]
    problems: Mapping[str, Trouble]
    """All files that are no accounts, as of now."""


class _Seen(Struct, gc=False):
    """`stamp` is a hash of the file's stamp, which is enough to see that it is another one, and a tenth of its size."""

    stamp: int
    mtime_ns: int
    digest: bytes
    reading: Reading | None = None
    since: float = 0.0


class Folder:
    """What has been seen of the folder. `monotonic` gives seconds, `epoch_ns` nanoseconds."""

    def __init__(self, shelf: Shelf, read: Read, monotonic: Callable[[], float], epoch_ns: Callable[[], int]) -> None:
        self._shelf = shelf
        self._read = read
        self._monotonic = monotonic
        self._epoch_ns = epoch_ns
        self._seen: dict[str, _Seen] = {}
        self._published: dict[str, AccountFile] = {}
        self._told: set[tuple[str, str]] = set()
        self._is_blind = False
        self.problems: dict[str, Trouble] = {}

    @property
    def pause(self) -> float:
        """Seconds until the next look is due."""
        return max(_SHORTEST_LOOK, len(self._seen) * _SECONDS_PER_FILE)

    def mark(self, name: str) -> str:
        """What tells the file, as it was seen last, from every other that ever had its name, also from one that was made
        anew with the same content; "" for one that was not seen. It outlives the process, and tells no secret.

        Inode and `ctime` have no part in it: they change when a folder is mounted, copied or given to another owner.
        """
        seen = self._seen.get(name)
        return "" if seen is None else f"{seen.mtime_ns:x}-{seen.digest.hex()}"

    async def look(self, publish: Callable[[Change], Awaitable[None]]) -> None:
        """One look; returns when everything that was found is in effect."""
        portions = self._portions()
        while (change := await asyncio.to_thread(next, portions, None)) is not None:
            if change.adopted or change.withdrawn:
                await publish(change)

    def _portions(self) -> Iterator[Change]:
        try:
            stamps = self._shelf.stamps()
        except OSError as error:
            if not self._is_blind:
                _log.warning("The folder of accounts cannot be read (%s); they stay as they are.", error.strerror)
            self._is_blind = True
            return
        self._is_blind = False
        gone = self._seen.keys() - stamps.keys()
        for name in gone:
            del self._seen[name]
            self.problems.pop(name, None)
        withdrawn = {name for name in gone if self._published.pop(name, None) is not None}
        adopted: dict[str, AccountFile] = {}
        portion = _FIRST_PORTION
        for name, stamp in sorted(stamps.items()):
            reading = self._news(name, stamp)
            if reading is None:
                continue
            if isinstance(reading, AccountFile):
                self.problems.pop(name, None)
                adopted[name] = self._published[name] = reading
            else:
                self._complain(name, reading)
                if self._published.pop(name, None) is not None:
                    withdrawn.add(name)
            if len(adopted) >= portion:
                yield Change(adopted, frozenset(withdrawn), dict(self.problems))
                adopted, withdrawn, portion = {}, set[str](), portion * 4
        yield Change(adopted, frozenset(withdrawn), dict(self.problems))

    def _news(self, name: str, stamp: Stamp) -> Reading | None:
        """What a file says that it did not say before; None when there is no news, or not yet."""
        seen = self._seen.get(name)
        if seen is not None and seen.stamp == hash(stamp) and not self._is_suspicious(stamp, seen):
            return None
        try:
            content = self._shelf.read(name)
        except FileNotFoundError:
            return None
        except OSError:
            return self._settled(name, stamp, b"", Trouble("The file cannot be read."))
        if not content.strip():
            return self._settled(name, stamp, b"", Trouble("The file is empty.")) if seen is None else None
        digest = hashlib.blake2b(content, digest_size=16).digest()
        if seen is not None and seen.digest == digest:
            seen.stamp, seen.mtime_ns = hash(stamp), stamp[0]
            return self._settled(name, stamp, digest, seen.reading) if seen.reading is not None else None
        return self._settled(name, stamp, digest, self._read(name, content))

    def _is_suspicious(self, stamp: Stamp, seen: _Seen) -> bool:
        return seen.reading is not None or self._epoch_ns() - stamp[0] < _SUSPICION_NS

    def _settled(self, name: str, stamp: Stamp, digest: bytes, reading: Reading) -> Reading | None:
        """`reading` at once if it is an account, else when it has stayed for a while. A reading that was dealt with
        is not kept: it would cost memory for nothing."""
        seen = self._seen.get(name)
        if isinstance(reading, AccountFile):
            self._seen[name] = _Seen(hash(stamp), stamp[0], digest)
            return reading
        now = self._monotonic()
        if seen is None or seen.digest != digest or seen.reading is None:
            self._seen[name] = _Seen(hash(stamp), stamp[0], digest, reading, now)
            return None
        if now - seen.since < _PATIENCE:
            return None
        seen.reading = None
        return reading

    def _complain(self, name: str, trouble: Trouble) -> None:
        self.problems[name] = trouble
        if (name, trouble.problem) not in self._told:
            if len(self._told) > 10_000:
                self._told.clear()
            self._told.add((name, trouble.problem))
            level = logging.DEBUG if trouble.is_foreign else logging.WARNING
            _log.log(level, "%s in the folder of accounts is not used: %s", name, trouble.problem)
