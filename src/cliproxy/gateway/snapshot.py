"""One configuration, compiled: everything a request reads, immutable, swapped as a whole."""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct, structs

from cliproxy.canon.fit import Capability
from cliproxy.canon.models import ModelEntry
from cliproxy.canon.request import Thinking
from cliproxy.canon.thinking import split_effort, split_suffix
from cliproxy.config.schema import CatalogRow, Config
from cliproxy.gateway.keys import KeyRing
from cliproxy.providers.base import Provider, Proxies, Upstream
from cliproxy.providers.models import ROWS, capability_of, rows_of
from cliproxy.routing.accounts import Account, Served
from cliproxy.routing.catalog import Catalog, Route
from cliproxy.transport.base import Deadlines


class Target(Struct, frozen=True):
    """Where a name leads. `thinking` is the control that stood in the name, None when there was none."""

    route: Route
    thinking: Thinking | None = None


class Snapshot(Struct, frozen=True, eq=False):
    config: Config
    keys: KeyRing
    upstreams: Mapping[str, Upstream]
    catalog: Catalog
    rows: Mapping[str, ModelEntry]
    deadlines: Deadlines
    strategy: Literal["round-robin", "fill-first", "weighted"]

    def resolve(self, asked: str) -> Target | None:
        """Where `asked` leads: a listed name first, then with its thinking suffix or effort taken off, then by
        family; None when nobody serves it."""
        name = asked.strip().removeprefix("models/")
        routes = self.catalog.routes
        if (route := routes.get(name)) is not None:
            return Target(route)
        base, thinking = split_suffix(name)
        if thinking is None:
            base, thinking = split_effort(name)
            if thinking is not None and base not in routes and (name in self.rows or base not in self.rows):
                base, thinking = name, None
        route = self.catalog.find(base)
        return None if route is None else Target(route, thinking)

    def capability(self, model: str) -> Capability:
        row, known = self.rows.get(model), capability_of(model)
        if row is None:
            return known
        return structs.replace(
            known, context=row.context or known.context, max_output=row.max_output or known.max_output
        )


def compile_snapshot(
    config: Config,
    providers: tuple[Provider, ...],
    proxies: Proxies,
    listings: Mapping[str, tuple[str, ...]],
) -> Snapshot:
    """`listings` are the models that upstreams themselves listed, by account id."""
    upstreams: dict[str, Upstream] = {}
    for provider in providers:
        for upstream in provider.upstreams(config, proxies):
            account = _distinct(upstream.account, upstreams)
            account = _stocked(account, provider, listings.get(account.id))
            upstreams[account.id] = structs.replace(upstream, account=account)
    timeouts = config.timeouts
    return Snapshot(
        config=config,
        keys=KeyRing(config),
        upstreams=upstreams,
        catalog=Catalog([upstream.account for upstream in upstreams.values()]),
        rows={row.id: row for row in (*ROWS, *map(_row, config.models.catalog))},
        deadlines=Deadlines(timeouts.connect, timeouts.first_event, timeouts.idle),
        strategy=config.routing.strategy,
    )


def _distinct(account: Account, upstreams: Mapping[str, Upstream]) -> Account:
    """One key may stand in several entries, with other models or another prefix: each is an account of its own."""
    number, distinct = 1, account
    while distinct.id in upstreams:
        number += 1
        distinct = structs.replace(account, id=f"{account.id}-{number}")
    return distinct


def _stocked(account: Account, provider: Provider, listing: tuple[str, ...] | None) -> Account:
    """`account` with the models it serves: its own list, else the upstream's, else our table of its owner's."""
    if account.serves:
        return account
    names = listing or tuple(row.id for row in rows_of(provider.owner))
    return structs.replace(account, serves=tuple(Served(name, name) for name in names))


def _row(row: CatalogRow) -> ModelEntry:
    return ModelEntry(row.id, row.family, row.id, 0, row.context, row.output)
