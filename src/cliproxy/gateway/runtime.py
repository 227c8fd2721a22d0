"""What a running gateway holds: the current snapshot, the pool, the transport and a clock.

The snapshot is swapped as a whole; a request reads it once and uses that one to the end. The pool outlives snapshots.
"""

import asyncio
import itertools
import random
from collections.abc import Callable, Mapping, Set
from typing import Protocol

from cliproxy.config.schema import Config
from cliproxy.gateway.affinity import Bindings
from cliproxy.gateway.allowances import Allowances
from cliproxy.gateway.decisions import Decisions
from cliproxy.gateway.logins import Logins, NoLogins
from cliproxy.gateway.snapshot import NO_FILES, NO_KINDS, Snapshot, compile_snapshot
from cliproxy.gateway.tally import Tally
from cliproxy.gateway.usage import UsageLedger
from cliproxy.providers.accounts import AccountFile, AccountProvider
from cliproxy.providers.base import KeyProvider, Proxies
from cliproxy.routing.pool import Pool
from cliproxy.stores.request_logs import RequestLogs
from cliproxy.transport.base import Transport
from cliproxy.wire.secrets import Secret


class Tokens(Protocol):
    """The credentials of accounts that come from files, by the file's name."""

    async def token(self, name: str) -> Secret:
        """The one in force. Raises GatewayError when there is none, and none can be had."""
        ...

    async def instead_of(self, name: str, refused: Secret) -> Secret | None:
        """Another one than the `refused`; None when there is no other. Raises GatewayError when there will be none."""
        ...


class Runtime:
    """`monotonic` and `epoch` give seconds; `boot` makes the ids of this process differ from any other's.

    `request_logs` is where records of requests go; None: nowhere. `followers` hear of each configuration once it is
    current; they must not block, nor raise.
    """

    def __init__(
        self,
        config: Config,
        providers: tuple[KeyProvider, ...],
        transport: Transport,
        *,
        monotonic: Callable[[], float],
        epoch: Callable[[], float],
        boot: str,
        proxies: Proxies | None = None,
        kinds: Mapping[str, AccountProvider] = NO_KINDS,
    ) -> None:
        self.transport = transport
        self.monotonic = monotonic
        self.epoch = epoch
        self.random = random.Random(boot)
        self.providers = providers
        self.proxies = proxies or Proxies()
        self.kinds = kinds
        self.listings: dict[str, tuple[str, ...]] = {}
        self.files: Mapping[str, AccountFile] = NO_FILES
        self.tokens: Tokens | None = None
        self.logins: Logins = NoLogins()
        self.is_draining = False
        self.request_logs: RequestLogs | None = None
        self.followers: list[Callable[[Config], None]] = []
        self.ledger = UsageLedger(f"req_{boot}")
        self._boot = boot
        self._numbers = itertools.count(1)
        self.snapshot: Snapshot = compile_snapshot(config, self.providers, self.proxies, self.listings)
        self.pool = Pool(config.routing.strategy, self.random.random, self._woke)
        self.allowances = Allowances(self.pool, monotonic, epoch)
        self.bindings = Bindings(self.pool, monotonic)
        self._waiting: dict[asyncio.Future[None], None] = {}
        self._follow_routing(config)

    @property
    def usage(self) -> UsageLedger:
        """The ledger with everything counted that is over. For the event loop's thread only."""
        self.ledger.settle()
        return self.ledger

    @property
    def decisions(self) -> Decisions:
        """Why requests went as they did, up to the last one. For the event loop's thread only."""
        return self.usage.decisions

    def publish(self, config: Config) -> None:
        """Make `config` the current one. Raises ValueError when it cannot be compiled; then nothing changes."""
        self.adopt(self.prepare(config))

    def prepare(self, config: Config) -> Snapshot:
        """What `config` comes to, for `adopt`; nothing changes. May run in another thread. Raises ValueError."""
        return compile_snapshot(
            config,
            self.providers,
            self.proxies,
            self.listings,
            self.snapshot,
            files=self.files,
            kinds=self.kinds,
        )

    def adopt(self, snapshot: Snapshot) -> None:
        """Make a prepared snapshot the current one. What was learned since it was prepared is not lost."""
        if snapshot.listings is not self.listings or snapshot.files is not self.files:
            snapshot = self.prepare(snapshot.config)
        self._follow_routing(snapshot.config)
        self.snapshot = snapshot
        for follow in self.followers:
            follow(snapshot.config)

    def learn(self, listings: Mapping[str, tuple[str, ...]]) -> None:
        """Take note of the models that upstreams listed, by account id; lists of accounts that are gone are dropped."""
        known = {account: names for account, names in self.listings.items() if account in self.snapshot.upstreams}
        known |= {account: names for account, names in listings.items() if account in self.snapshot.upstreams}
        if known != self.listings:
            self.listings = known
            self.publish(self.snapshot.config)

    async def adopt_files(self, adopted: Mapping[str, AccountFile], withdrawn: Set[str]) -> None:
        """Take note of accounts that somebody logged in with, by the name of their file; in effect when this returns.

        Compiling thousands of them takes a while, and happens in a thread; what is published meanwhile is kept.
        """
        kept = {name: file for name, file in self.files.items() if name not in withdrawn}
        self.files = kept | dict(adopted)
        while True:
            config = self.snapshot.config
            snapshot = await asyncio.to_thread(self.prepare, config)
            if self.snapshot.config is config and snapshot.listings is self.listings:
                self.adopt(snapshot)
                return

    def note(self, tally: Tally, request_id: str) -> None:
        """A request is over."""
        self.ledger.note(tally, request_id, self.epoch(), self.monotonic() - tally.began)

    async def until_woken(self, seconds: float) -> None:
        """Returns when an account may be back early, at the latest after so many seconds."""
        woken = asyncio.get_running_loop().create_future()
        self._waiting[woken] = None
        try:
            async with asyncio.timeout(seconds):
                await woken
        except TimeoutError:
            pass
        finally:
            self._waiting.pop(woken, None)

    def _woke(self) -> None:
        if self._waiting:
            waiting, self._waiting = self._waiting, {}
            for woken in waiting:
                if not woken.done():
                    woken.set_result(None)

    def _follow_routing(self, config: Config) -> None:
        pool, routing = self.pool, config.routing
        pool.strategy = routing.strategy
        pool.session_seconds = routing.session_affinity_ttl
        pool.watermark = routing.quota_watermark / 100

    def next_id(self) -> str:
        """A request id, unique among all processes."""
        return f"req_{self._boot}{next(self._numbers):08x}"
