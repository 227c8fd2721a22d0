"""The tokens of accounts that come from files: read when first needed, renewed before they end, saved before they are
used.

One account is in one of these states:

    idle --(a request, or the time to renew comes)--> renewing --> idle
                                                         |-------> idle, with a pause before the next try
                                                         `-------> dead, until its file changes

* At most one renewal runs for an account; everybody who needs it waits for that one.
* A request whose token was refused says which one that was. If another is in force by then, it is given that one, and
  nothing is renewed: the refusal is about the past.
* A renewal starts by reading the file: another process, or a person, may have put newer tokens there.
* What a vendor gave is written to the journal, then to the file, then used. A renewal begins with what the journal still
  has for its file, which a disk that was full, or an end in between, may have left there. The file gets it only if it still holds the
  refresh token that was spent; else somebody has replaced it, and theirs stays.
* A token whose end is known and past is renewed before it is used. Until then a failed renewal does no harm: the token
  in hand serves on, and the next try comes after a pause that grows.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from msgspec import Struct, structs

from cliproxy.canon.errors import GatewayError, Problem, UpstreamRefused
from cliproxy.gateway.exchanges import perform
from cliproxy.gateway.runtime import Runtime
from cliproxy.oauth.base import GrantRevoked, Misconfigured, OAuthError, Tokens
from cliproxy.providers.accounts import AccountFile, ClientSecrets, Grants, Members, Trouble
from cliproxy.stores.token_journal import Entry, TokenJournal
from cliproxy.wire.secrets import Secret

_log = logging.getLogger("cliproxy")

_MARGIN = 5.0
"""Seconds before its stated end from which a token is not used any more: clocks differ, requests travel."""
_FIRST_PAUSE = 30.0
_LONGEST_PAUSE = 600.0
_LOOK_SECONDS = 1.0
_AT_ONCE = 16
_UNSAVED = "Its new tokens could not be written to its file."


class Credentials(Protocol):
    """The credential files. Both raise OSError, or ValueError when the file is no JSON object."""

    def load(self, name: str) -> Members:
        """What stands in the file now."""
        ...

    def change(self, name: str, edit: Callable[[Members], Mapping[str, object] | None]) -> None:
        """Set the members that `edit` returns for what stands there now, None for nothing; all others stay."""
        ...


class Renewals(Struct, gc=False):
    """How it went with an account's renewals; times are epoch seconds, 0 for never. `problem` is a sentence."""

    last_at: float = 0.0
    next_at: float = 0.0
    failures: int = 0
    problem: str = ""
    is_dead: bool = False


_NONE = Tokens(access=Secret())


class _Cell:
    __slots__ = ("file", "is_read", "renewals", "task", "tokens")

    def __init__(self, file: AccountFile) -> None:
        self.file = file
        self.tokens = _NONE
        self.is_read = False
        self.renewals = Renewals()
        self.task: asyncio.Task[None] | None = None


class Vault:
    """`secrets` are client secrets from outside of the configuration; `search` looks for more, and is called in a thread
    when one is missing: it reads other files."""

    def __init__(
        self,
        runtime: Runtime,
        files: Credentials,
        journal: TokenJournal,
        secrets: ClientSecrets,
        search: Callable[[], ClientSecrets],
    ) -> None:
        self._runtime = runtime
        self._files = files
        self._journal = journal
        self._secrets = secrets
        self._search = search
        self._kinds = runtime.kinds
        self._cells: dict[str, _Cell] = {}
        self._due: list[tuple[float, str]] = []
        self._running: set[asyncio.Task[None]] = set()

    # -- what there is

    def adopt(self, file: AccountFile) -> None:
        """A file has appeared or changed: its tokens are read anew, and what was wrong with it is forgotten."""
        before = self._cells.get(file.name)
        cell = self._cells[file.name] = _Cell(file)
        if before is not None:
            cell.task = before.task
            cell.renewals.last_at = before.renewals.last_at
        self._plan(cell, self._due_at(file))

    def drop(self, name: str) -> None:
        """A file is gone, or can no longer be used."""
        self._cells.pop(name, None)

    def renewals(self, name: str) -> Renewals:
        cell = self._cells.get(name)
        return Renewals() if cell is None else cell.renewals

    # -- what requests need

    async def token(self, name: str) -> Secret:
        """The token in force. Raises GatewayError when there is none, and none can be had."""
        cell = self._ready(name)
        if cell.file.is_renewable and (self._is_over(cell) or _is_unsure(cell)):
            await self._renewed(cell)
            cell = self._ready(name)
        if self._is_over(cell):
            raise _unusable(cell)
        return cell.tokens.access

    async def instead_of(self, name: str, refused: Secret) -> Secret | None:
        """Another token than the `refused` one; None when there is no other. Raises GatewayError when there will be none
        before a new login."""
        cell = self._ready(name)
        if cell.tokens.access == refused and cell.file.is_renewable:
            await self._renewed(cell)
            cell = self._ready(name)
            if cell.renewals.is_dead and cell.tokens.access == refused:
                raise _unusable(cell)
        token = cell.tokens.access
        return token if token and token != refused else None

    # -- renewing

    async def keep_fresh(self) -> None:
        """Renew ahead of time, some at once. Runs until cancelled."""
        await self.recover()
        while True:
            now = self._runtime.epoch()
            while self._due and self._due[0][0] <= now and len(self._running) < _AT_ONCE:
                at, name = heapq.heappop(self._due)
                cell = self._cells.get(name)
                if cell is not None and cell.renewals.next_at == at and cell.task is None:
                    self._begin(cell)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _renewed(self, cell: _Cell) -> None:
        """Wait for the renewal that runs, or run one; how it ended stands in the cell."""
        if cell.task is None:
            if cell.renewals.is_dead or (cell.renewals.failures and self._runtime.epoch() < cell.renewals.next_at):
                return
            self._begin(cell)
        if cell.task is not None:
            await asyncio.shield(cell.task)

    def _begin(self, cell: _Cell) -> None:
        """The task belongs to the vault: a request that leaves must not take the renewal with it."""
        cell.task = asyncio.create_task(self._renew(cell), name=f"renew {cell.file.name}")
        self._running.add(cell.task)
        cell.task.add_done_callback(self._running.discard)

    async def _renew(self, cell: _Cell) -> None:
        try:
            await self._exchange(cell)
        except GrantRevoked as error:
            self._failed(cell, error, is_dead=True)
        except (OAuthError, OSError, ValueError) as error:
            self._failed(cell, error, is_dead=False)
        finally:
            cell.task = None
            current = self._cells.get(cell.file.name)
            if current is not None and current is not cell:
                current.task = None

    async def _exchange(self, cell: _Cell) -> None:
        file, provider, runtime = cell.file, self._kinds[cell.file.kind], self._runtime
        await asyncio.to_thread(self._recover_one, file.name)
        known = cell.tokens if cell.is_read else None
        members = await asyncio.to_thread(self._files.load, file.name)
        tokens = provider.grants.read_tokens(members)
        if known is not None and tokens.access != known.access and tokens.access:
            self._take(cell, tokens, provider.grants.read_file(file.name, members))
            return
        given = await self._given(file, tokens, provider.grants)
        now_at = runtime.epoch()
        fresh = provider.grants.write_tokens(given, members, now_at)
        is_saved = await asyncio.to_thread(self._save, Entry(file.name, _digest(tokens), fresh), provider.grants)
        refresh = given.refresh if given.refresh else tokens.refresh
        cell.tokens = Tokens(access=given.access, refresh=refresh, id_token=given.id_token, lifetime=given.lifetime)
        cell.is_read = True
        ends_at = now_at + given.lifetime if given.lifetime else 0.0
        cell.file = structs.replace(file, expires_at=ends_at, refreshed_at=now_at)
        cell.renewals = Renewals(last_at=now_at, problem="" if is_saved else _UNSAVED)
        self._plan(cell, self._due_at(cell.file))
        _log.info("%s: renewed, good for %s.", file.name, _told(given.lifetime))

    def _take(self, cell: _Cell, tokens: Tokens, reading: AccountFile | Trouble) -> None:
        """Somebody else was faster: theirs are used."""
        cell.tokens = tokens
        if isinstance(reading, AccountFile):
            cell.file = reading
            self._plan(cell, self._due_at(reading))

    async def _given(self, file: AccountFile, tokens: Tokens, grants: Grants) -> Tokens:
        """What the vendor gives for the refresh token."""
        runtime = self._runtime
        config, proxies = runtime.snapshot.config, runtime.proxies
        try:
            return await perform(grants.refresh(file, tokens, config, proxies, self._secrets), runtime.transport)
        except Misconfigured:
            self._secrets = await asyncio.to_thread(self._search)
        return await perform(grants.refresh(file, tokens, config, proxies, self._secrets), runtime.transport)

    def _save(self, entry: Entry, grants: Grants) -> bool:
        """In a thread. The journal first: with the answer the old refresh token may be dead.

        A disk that takes nothing must not waste what the vendor gave: it is used all the same, and put into the file
        before the next renewal.
        """
        try:
            self._journal.write(entry)
        except OSError:
            _log.exception(
                "%s: its new tokens cannot be written down; they are lost when this process ends.", entry.name
            )
        try:
            self._put(entry, grants)
        except OSError:
            _log.exception("%s: its new tokens cannot be written to its file yet.", entry.name)
            return False
        self._journal.forget(entry.name)
        return True

    def _put(self, entry: Entry, grants: Grants) -> None:
        def edit(members: Members) -> Mapping[str, object] | None:
            return entry.members if _digest(grants.read_tokens(members)) == entry.replaces else None

        self._files.change(entry.name, edit)

    async def recover(self) -> None:
        """Finish what a process that was ended in between had begun."""
        for name in await asyncio.to_thread(self._journal.names):
            try:
                await asyncio.to_thread(self._recover_one, name)
            except (OAuthError, OSError, ValueError):
                _log.warning("%s: tokens left by an earlier process cannot be put back.", name)

    def _recover_one(self, name: str) -> None:
        """In a thread. Raises OSError, ValueError or OAuthError when the file cannot be read or written."""
        entry = self._journal.find(name)
        if entry is None:
            return
        try:
            kind = str(self._files.load(name).get("type") or "").strip().lower()
        except FileNotFoundError:
            self._journal.forget(name)
            return
        if (provider := self._kinds.get(kind)) is not None:
            self._put(entry, provider.grants)
            _log.info("%s: tokens that had been written down were put into the file.", name)
        self._journal.forget(name)

    def _failed(self, cell: _Cell, error: Exception, *, is_dead: bool) -> None:
        renewals = cell.renewals
        renewals.failures += 1
        renewals.problem = str(error) if isinstance(error, OAuthError) else "Its file cannot be read or written."
        renewals.is_dead = is_dead
        if is_dead:
            renewals.next_at = 0.0
            _log.error("%s: %s", cell.file.name, renewals.problem)
            return
        pause = min(_FIRST_PAUSE * 2 ** min(renewals.failures - 1, 16), _LONGEST_PAUSE)
        if isinstance(error, OAuthError) and error.retry_after is not None:
            pause = max(pause, error.retry_after)
        pause *= 1.0 + self._runtime.random.random() / 4
        self._plan(cell, self._runtime.epoch() + pause)
        _log.warning("%s: not renewed, trying again in %s. %s", cell.file.name, _told(pause), renewals.problem)

    # -- times

    def _due_at(self, file: AccountFile) -> float:
        """When to renew: ahead of the end, but never earlier than half of the lifetime, each account a little apart
        from the others. 0: never ahead of time."""
        if not file.is_renewable or file.is_disabled or not file.expires_at:
            return 0.0
        lead = self._kinds[file.kind].lead if file.kind in self._kinds else 0.0
        if file.refreshed_at and file.expires_at > file.refreshed_at:
            lead = min(lead, (file.expires_at - file.refreshed_at) / 2)
        spread = int.from_bytes(hashlib.sha256(file.name.encode()).digest()[:2], "big") / 65536
        return max(file.expires_at - lead * (1.0 - spread / 10), 1.0)

    def _plan(self, cell: _Cell, at: float) -> None:
        cell.renewals.next_at = at
        if at:
            heapq.heappush(self._due, (at, cell.file.name))

    def _is_over(self, cell: _Cell) -> bool:
        """Whether the token's end is known and has come, or there is none in the first place."""
        if not cell.tokens.access:
            return True
        ends_at = cell.file.expires_at
        return bool(ends_at) and self._runtime.epoch() >= ends_at - _MARGIN

    # -- cells

    def _ready(self, name: str) -> _Cell:
        """The cell of a file, read. Raises UpstreamRefused."""
        cell = self._cells.get(name)
        if cell is None:
            raise UpstreamRefused(problem=Problem("unauthenticated", 401, "The account's file is gone."))
        if not cell.is_read:
            self._read(cell)
        return cell

    def _read(self, cell: _Cell) -> None:
        """A small file, read once: in place, since a thread would cost more."""
        try:
            cell.tokens = self._kinds[cell.file.kind].grants.read_tokens(self._files.load(cell.file.name))
            cell.is_read = True
        except (OAuthError, OSError, ValueError) as error:
            cell.renewals.problem = str(error) if isinstance(error, OAuthError) else "Its file cannot be read."
            raise _unusable(cell) from error


def _unusable(cell: _Cell) -> GatewayError:
    """A login that is over is told by the vendors' word for it."""
    message = cell.renewals.problem or "The account has no valid token."
    code = "invalid_grant" if cell.renewals.is_dead else ""
    return UpstreamRefused(problem=Problem("unauthenticated", 401, message, code=code))


def _is_unsure(cell: _Cell) -> bool:
    """Whether nobody knows when the token ends, and it was not renewed yet: then that comes before its first use."""
    return not cell.file.expires_at and not cell.renewals.last_at and not cell.renewals.failures


def _digest(tokens: Tokens) -> str:
    return tokens.refresh.digest().hex()


def _told(seconds: float) -> str:
    if not seconds:
        return "a time that the vendor did not tell"
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
