"""What a running gateway holds: the current snapshot, the pool, the transport and a clock.

The snapshot is swapped as a whole; a request reads it once and uses that one to the end. The pool outlives snapshots.
"""

import itertools
import random
from collections.abc import Callable, Mapping

from cliproxy.config.schema import Config
from cliproxy.gateway.snapshot import Snapshot, compile_snapshot
from cliproxy.providers.base import Provider, Proxies
from cliproxy.routing.pool import Pool
from cliproxy.transport.base import Transport


class Runtime:
    """`monotonic` and `epoch` give seconds; `boot` makes the ids of this process differ from any other's."""

    def __init__(
        self,
        config: Config,
        providers: tuple[Provider, ...],
        transport: Transport,
        *,
        monotonic: Callable[[], float],
        epoch: Callable[[], float],
        boot: str,
        proxies: Proxies | None = None,
    ) -> None:
        self.transport = transport
        self.monotonic = monotonic
        self.epoch = epoch
        self.random = random.Random(boot)
        self.providers = providers
        self.proxies = proxies or Proxies()
        self.listings: dict[str, tuple[str, ...]] = {}
        self.is_draining = False
        self._boot = boot
        self._numbers = itertools.count(1)
        self.snapshot = self._compile(config)
        self.pool = Pool(self.snapshot.strategy)

    def publish(self, config: Config) -> None:
        """Make `config` the current one. Raises ValueError when it cannot be compiled; then nothing changes."""
        snapshot = self._compile(config)
        self.pool.strategy = snapshot.strategy
        self.snapshot: Snapshot = snapshot

    def learn(self, listings: Mapping[str, tuple[str, ...]]) -> None:
        """Take note of the models that upstreams listed, by account id; lists of accounts that are gone are dropped."""
        known = {account: names for account, names in self.listings.items() if account in self.snapshot.upstreams}
        known |= {account: names for account, names in listings.items() if account in self.snapshot.upstreams}
        if known != self.listings:
            self.listings = known
            self.publish(self.snapshot.config)

    def next_id(self) -> str:
        """A request id, unique among all processes."""
        return f"req_{self._boot}{next(self._numbers):08x}"

    def _compile(self, config: Config) -> Snapshot:
        return compile_snapshot(config, self.providers, self.proxies, self.listings)
