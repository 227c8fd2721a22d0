"""The accounts that somebody logged in with: from their files to what requests are served from.

`Folder` sees what changes, `Vault` holds the tokens, the runtime compiles the accounts. Here they meet: tokens are there
before an account serves, and stay until it no longer does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import msgspec
from msgspec import Struct

from cliproxy.gateway.folder import Change, Folder, Reading, Shelf
from cliproxy.gateway.runtime import Runtime
from cliproxy.gateway.vault import Renewals, Vault
from cliproxy.providers.accounts import AccountFile, Members, Trouble
from cliproxy.routing.verdict import POLICIES, Fault

_DECODER = msgspec.json.Decoder(dict[str, object])
_NO_OBJECT = Trouble("It is no JSON object.")
_MENDED: frozenset[Fault] = frozenset(fault for fault, policy in POLICIES.items() if policy.ends_with_new_file)
"""What a new login, or a change of the file, may have mended."""

ReadFile = Callable[[str, Members], Reading]


class Standing(Struct, frozen=True):
    """How it stands with one credential file. `account` None: it serves nothing, `problem` says why. `accounts` are the
    ids of those that requests are served from."""

    account: AccountFile | None
    accounts: tuple[str, ...]
    problem: str
    renewals: Renewals


class Accounts:
    """`read_file` tells what a credential file's name and members mean."""

    def __init__(
        self, runtime: Runtime, shelf: Shelf, vault: Vault, read_file: ReadFile, epoch_ns: Callable[[], int]
    ) -> None:
        self.vault = vault
        self.recall: Callable[[str], bool] = lambda _: False
        """Hears the name of each file that was read, before its accounts serve; whether what an earlier process knew of
        them was taken over."""
        self._runtime = runtime
        self._read_file = read_file
        self._folder = Folder(shelf, self._read, runtime.monotonic, epoch_ns)
        self._looking = asyncio.Lock()

    @property
    def count(self) -> int:
        """How many serve."""
        return sum(len(accounts) for accounts in self._runtime.snapshot.of_files.values())

    async def follow(self) -> None:
        """Keep the accounts as their files are. Runs until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self._folder.pause)

    async def look(self) -> None:
        """Look now: what has been written before this call is in effect when it returns. Only a file that cannot be
        used keeps its old account for a moment, since it may be in the middle of being written."""
        async with self._looking:
            await self._folder.look(self._publish)

    @property
    def problems(self) -> Mapping[str, Trouble]:
        """Files that are no accounts, by name."""
        return self._folder.problems.copy()

    def mark(self, name: str) -> str:
        """See `Folder.mark`."""
        return self._folder.mark(name)

    def standing(self, name: str) -> Standing:
        trouble = self._folder.problems.get(name)
        renewals = self.vault.renewals(name)
        upstreams = self._runtime.snapshot.of_files.get(name, ())
        accounts = tuple(upstream.account.id for upstream in upstreams)
        return Standing(
            self._runtime.files.get(name), accounts, trouble.problem if trouble else renewals.problem, renewals
        )

    async def _publish(self, change: Change) -> None:
        runtime = self._runtime
        gone = [upstream for name in change.withdrawn for upstream in runtime.snapshot.of_files.get(name, ())]
        changed = change.adopted.keys() & runtime.files.keys()
        for file in change.adopted.values():
            self.vault.adopt(file)
        recalled = {name for name in change.adopted if self.recall(name)}
        await runtime.adopt_files(change.adopted, change.withdrawn)
        for name in change.withdrawn:
            self.vault.drop(name)
        for upstream in gone:
            runtime.pool.wake(upstream.account.id)
            runtime.allowances.forget(upstream.account.id)
        for name in change.adopted.keys() - recalled:
            for upstream in runtime.snapshot.of_files.get(name, ()):
                runtime.pool.wake(upstream.account.id, _MENDED if name in changed else None)

    def _read(self, name: str, content: bytes) -> Reading:
        try:
            members = _DECODER.decode(content)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return _NO_OBJECT
        return self._read_file(name, members)
