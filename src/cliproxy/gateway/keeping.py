"""Accounts' health from one process to the next: written while the gateway runs, taken over when it starts.

Once a second, what has changed of rests is written in a thread; limits, which change with every answer, twice a minute.
The end of the gateway writes the last.

**At the start** everything is read before the first request. Rests of accounts from the configuration are taken over at
once, those of accounts from files when their file is read, right before it serves. With them lies a mark of the file: a
file that has another one was changed or made anew while nobody looked, and its accounts start clean. That a renewal of
ours changed it, and we were killed before the new mark was written, looks the same; it costs a refused request.

**Clocks**: rests are kept in epoch seconds, which may have jumped meanwhile. No rest becomes longer than it was. One that
begins in the future by today's clock begins now. When the clock is set while we run, all rests are written anew.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Mapping
from typing import Protocol

from msgspec import Struct, structs

from cliproxy.gateway.accounts import Accounts
from cliproxy.gateway.allowances import Told
from cliproxy.gateway.logins import Clock
from cliproxy.gateway.runtime import Runtime
from cliproxy.routing.health import Kept
from cliproxy.stores.state import Changes, KeptLimits, KeptMark, Saved, StateStore

_EVERY_SECONDS = 1.0
_LIMITS_SECONDS = 30.0
_PATIENCE = 2.0
_JUMP_SECONDS = 1.0
_MEMORY_SECONDS = 3600.0
"""How long a rest that is over still counts as the previous one of a row."""
_DAY = 86400.0
_LONGEST_SECONDS = 30 * _DAY
"""After so long a rest without an end is no longer taken over, so that rows of accounts that are gone go as well."""
_LIMITS_MEMORY_SECONDS = 8 * _DAY
"""A little longer than the longest window that vendors tell of."""

_NO_RESTS: Mapping[tuple[str, str], Kept | None] = {}
_NO_LIMITS: Mapping[str, KeptLimits | None] = {}
_NO_MARKS: Mapping[str, KeptMark | None] = {}


class Rests(Protocol):
    """The pool\'s. Rests are known by account and model."""

    def take_changed(self) -> set[tuple[str, str]]: ...

    def kept(self, key: tuple[str, str], now: float, now_at: float) -> Kept | None: ...

    def restore(self, kept: Kept, now: float, now_at: float) -> None: ...


class Allowances(Protocol):
    """Limits, by account."""

    def take_changed(self) -> Mapping[str, Told]: ...

    def restore(self, account: str, told: Told) -> None: ...


class Origins(Protocol):
    """Where accounts come from."""

    def file_of(self, account: str) -> str | None:
        """The credential file that an account serves from, "" for one from the configuration; None for no account."""
        ...

    def mark(self, name: str) -> str:
        """What tells the credential file `name` from every other that ever had its name."""
        ...


class _Waiting(Struct):
    """What is known of the accounts of one file, until the file is read."""

    marks: set[str]
    rests: list[Kept]
    limits: list[KeptLimits]


class Keeping:
    """`load` once, then `keep`. All but the store's calls happens on the event loop. `patience` is how many seconds the
    disk has at the start and at the end: it must hold up neither."""

    def __init__(
        self,
        store: StateStore,
        rests: Rests,
        allowances: Allowances,
        origins: Origins,
        clock: Clock,
        patience: float = _PATIENCE,
    ) -> None:
        self._store = store
        self._rests = rests
        self._allowances = allowances
        self._origins = origins
        self._clock = clock
        self._patience = patience
        self._offset = clock.epoch() - clock.monotonic()
        self._limits_at = clock.monotonic()
        self._waiting: dict[str, _Waiting] = {}
        self._kept: set[tuple[str, str]] = set()
        """The rests that we have written."""
        self._accounts: dict[str, set[str]] = {}
        """The accounts of files that we have written marks for, by file."""
        self._next = Changes()
        self._is_whole_due = False

    async def load(self) -> None:
        """Read what an earlier process knew, and take over what is known to be still true."""
        reading = asyncio.get_running_loop().run_in_executor(None, self._store.load)
        await asyncio.wait((reading,), timeout=self._patience)
        if reading.done():
            self._take(reading.result())

    def recall(self, file: str) -> bool:
        """A credential file was read, and its accounts will serve next: whether it is known and was not changed, so that
        what is known of its accounts was taken over."""
        for account in self._accounts.get(file, ()):
            self._remember(marks={account: self._mark(account, file)})
        waiting = self._waiting.pop(file, None)
        if waiting is None:
            return False
        if waiting.marks != {self._origins.mark(file)}:
            self._remember(
                rests={(rest.account, rest.model): None for rest in waiting.rests},
                limits={one.account: None for one in waiting.limits},
            )
            return False
        self._accounts[file] = {one.account for one in (*waiting.rests, *waiting.limits)}
        self._restore(waiting.rests, waiting.limits)
        return True

    async def keep(self) -> None:
        """Write what changes. Runs until cancelled, and then writes the last."""
        try:
            while True:
                await self._clock.pause(_EVERY_SECONDS)
                changes = self._collected(with_limits=self._clock.monotonic() - self._limits_at >= _LIMITS_SECONDS)
                if (changes or self._store.has_unsaved) and not await asyncio.to_thread(self._store.save, changes):
                    self._is_whole_due = True
        finally:
            ending = asyncio.get_running_loop().run_in_executor(None, self._end, self._collected(with_limits=True))
            await asyncio.wait((ending,), timeout=self._patience)

    def _end(self, changes: Changes) -> None:
        self._store.save(changes)
        self._store.close()

    def _take(self, saved: Saved) -> None:
        now_at = self._clock.epoch()
        files = {mark.account: mark for mark in saved.marks}
        rests = {(rest.account, rest.model): righted(rest, now_at) for rest in saved.rests}
        limits = {one.account: _righted(one, now_at) for one in saved.limits}
        known = [rest for rest in rests.values() if rest is not None]
        told = [one for one in limits.values() if one is not None]
        self._remember(
            rests={key: rest for key, rest in rests.items() if rest is None},
            limits={account: one for account, one in limits.items() if one is None},
            marks=dict.fromkeys(files.keys() - {one.account for one in (*known, *told)}),
        )
        for one in (*known, *told):
            if (mark := files.get(one.account)) is not None:
                waiting = self._waiting.setdefault(mark.file, _Waiting(set(), [], []))
                waiting.marks.add(mark.mark)
                if isinstance(one, Kept):
                    waiting.rests.append(one)
                else:
                    waiting.limits.append(one)
        self._restore(
            [rest for rest in known if self._is_configured(rest.account)],
            [one for one in told if self._is_configured(one.account)],
        )

    def _restore(self, rests: Iterable[Kept], limits: Iterable[KeptLimits]) -> None:
        now, now_at = self._clock.monotonic(), self._clock.epoch()
        for rest in rests:
            if (right := righted(rest, now_at)) is not None:
                self._rests.restore(right, now, now_at)
        for one in limits:
            self._allowances.restore(one.account, Told(one.told_at, one.limits))

    def _is_configured(self, account: str) -> bool:
        """Whether it stands in the configuration. What is known of one that does not, stays as long as it is good for
        anything: it may come back, or be another process's."""
        return self._origins.file_of(account) == ""

    def _collected(self, *, with_limits: bool) -> Changes:
        """All that is to be written."""
        now, now_at = self._clock.monotonic(), self._clock.epoch()
        keys = self._rests.take_changed()
        if self._is_whole_due or abs(now_at - now - self._offset) > _JUMP_SECONDS:
            keys |= self._kept
            self._is_whole_due, self._offset = False, now_at - now
        rests: dict[tuple[str, str], Kept | None] = {}
        limits: dict[str, KeptLimits | None] = {}
        for key in keys:
            rests[key] = self._rests.kept(key, now, now_at)
            if rests[key] is None:
                self._kept.discard(key)
            else:
                self._kept.add(key)
        if with_limits:
            self._limits_at = now
            limits = {
                account: KeptLimits(account, told.at, told.limits)
                for account, told in self._allowances.take_changed().items()
            }
        self._remember(rests, limits, self._marks({account for account, _ in rests} | limits.keys()))
        changes, self._next = self._next, Changes()
        return changes

    def _marks(self, accounts: Iterable[str]) -> dict[str, KeptMark | None]:
        marks: dict[str, KeptMark | None] = {}
        for account in accounts:
            if file := self._origins.file_of(account):
                marks[account] = self._mark(account, file)
                self._accounts.setdefault(file, set()).add(account)
        return marks

    def _mark(self, account: str, file: str) -> KeptMark:
        return KeptMark(account, file, self._origins.mark(file))

    def _remember(
        self,
        rests: Mapping[tuple[str, str], Kept | None] = _NO_RESTS,
        limits: Mapping[str, KeptLimits | None] = _NO_LIMITS,
        marks: Mapping[str, KeptMark | None] = _NO_MARKS,
    ) -> None:
        """Write these with the next changes."""
        self._next = self._next.then(Changes(rests, limits, marks))


async def begin_keeping(runtime: Runtime, accounts: Accounts, store: StateStore) -> Keeping:
    """Take over what an earlier process knew: to be awaited before requests, and before the accounts' files are read.
    The caller runs `keep` from here on."""
    clock = Clock(runtime.monotonic, runtime.epoch)
    keeping = Keeping(store, runtime.pool.rests, runtime.allowances, _Origins(runtime, accounts), clock)
    await keeping.load()
    accounts.recall = keeping.recall
    return keeping


def righted(rest: Kept, now_at: float) -> Kept | None:
    """A rest as it stands by the clock of now; None when it is good for nothing any more."""
    started_at = min(rest.started_at, now_at)
    if not math.isfinite(started_at):
        return None
    if rest.until_at is None:
        return structs.replace(rest, started_at=started_at) if now_at - started_at <= _LONGEST_SECONDS else None
    until_at = min(rest.until_at, rest.until_at - rest.started_at + started_at)
    if not math.isfinite(until_at) or until_at + _MEMORY_SECONDS <= now_at:
        return None
    return structs.replace(rest, started_at=started_at, until_at=until_at)


def _righted(limits: KeptLimits, now_at: float) -> KeptLimits | None:
    told_at = min(limits.told_at, now_at)
    return structs.replace(limits, told_at=told_at) if now_at - told_at <= _LIMITS_MEMORY_SECONDS else None


class _Origins:
    def __init__(self, runtime: Runtime, accounts: Accounts) -> None:
        self._runtime = runtime
        self.mark = accounts.mark

    def file_of(self, account: str) -> str | None:
        upstream = self._runtime.snapshot.upstreams.get(account)
        return None if upstream is None else upstream.source
