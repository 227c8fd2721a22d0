"""One configuration, compiled: everything a request reads, immutable, swapped as a whole."""

from collections.abc import Mapping

from msgspec import Struct, structs

from cliproxy.canon.fit import Capability
from cliproxy.canon.models import ModelEntry
from cliproxy.canon.request import Thinking
from cliproxy.canon.thinking import split_effort, split_suffix
from cliproxy.config.schema import CatalogRow, Config
from cliproxy.gateway.keys import KeyRing
from cliproxy.providers.accounts import AccountFile, AccountProvider
from cliproxy.providers.base import KeyProvider, Provider, Proxies, Upstream
from cliproxy.providers.models import ROWS, capability_of, rows_of
from cliproxy.routing.accounts import Account, Served
from cliproxy.routing.catalog import Catalog, Route
from cliproxy.transport.base import Deadlines

_STRANGE_TO_ACCOUNTS = frozenset(
    {
        "host",
        "port",
        "auth_dir",
        "state_dir",
        "debug",
        "request_log",
        "show_losses",
        "logging_to_file",
        "api_keys",
        "allow_unauthenticated",
        "allow_localhost_unauthenticated",
        "trusted_proxies",
        "cors_origins",
        "remote_management",
        "allow_remote_management",
        "remote_management_key",
        "request_retry",
        "max_retry_credentials",
        "max_retry_interval",
        "quota_exceeded",
        "routing",
        "timeouts",
        "streaming",
        "limits",
        "models",
    }
)
"""Fields that no provider reads. All others count, so a new field is safe before anybody thinks of this table."""
_OF_ACCOUNTS = tuple(name for name in Config.__struct_fields__ if name not in _STRANGE_TO_ACCOUNTS)
_KEY_SECTIONS = (
    "generative_language_api_key",
    "gemini_api_key",
    "claude_api_key",
    "codex_api_key",
    "openai_compatibility",
)
_OF_FILES = tuple(name for name in _OF_ACCOUNTS if name not in _KEY_SECTIONS)
"""What accounts from files depend on."""
_OF_KEYS = ("api_keys", "allow_unauthenticated", "allow_localhost_unauthenticated")


NO_FILES: Mapping[str, AccountFile] = {}
NO_KINDS: Mapping[str, AccountProvider] = {}


class Target(Struct, frozen=True):
    """Where a name leads. `thinking` is the control that stood in the name, None when there was none."""

    route: Route
    thinking: Thinking | None = None


class Snapshot(Struct, frozen=True, eq=False):
    """`listings` and `files` are those that it was compiled with; `of_files` are the accounts of each file."""

    config: Config
    listings: Mapping[str, tuple[str, ...]]
    files: Mapping[str, AccountFile]
    of_files: Mapping[str, tuple[Upstream, ...]]
    keys: KeyRing
    upstreams: Mapping[str, Upstream]
    catalog: Catalog
    rows: Mapping[str, ModelEntry]
    deadlines: Deadlines

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
    providers: tuple[KeyProvider, ...],
    proxies: Proxies,
    listings: Mapping[str, tuple[str, ...]],
    before: Snapshot | None = None,
    *,
    files: Mapping[str, AccountFile] = NO_FILES,
    kinds: Mapping[str, AccountProvider] = NO_KINDS,
) -> Snapshot:
    """`listings` are the models that upstreams themselves listed, by account id; `files` are accounts that somebody
    logged in with, by name, and `kinds` their providers.

    What `before` has from the same part of the configuration is taken over: it was compiled for the same providers and
    proxies. Most changes touch no account, and compiling thousands of them again would take a tenth of a second.
    Raises ValueError for an address that is none.
    """
    same = before if before is not None and _are_same(config, before.config, _OF_ACCOUNTS) else None
    keyed = same if same is not None and same.listings is listings else None
    if keyed is not None and keyed.files is files:
        of_files, upstreams, catalog = keyed.of_files, keyed.upstreams, keyed.catalog
    else:
        on_files = before if before is not None and _are_same(config, before.config, _OF_FILES) else None
        of_files = _of_files(files, on_files, config, kinds, proxies)
        upstreams = _upstreams(config, providers, proxies, listings, keyed)
        upstreams |= {upstream.account.id: upstream for accounts in of_files.values() for upstream in accounts}
        catalog = _catalog(upstreams, before)
    has_keys = before is not None and _are_same(config, before.config, _OF_KEYS)
    timeouts = config.timeouts
    return Snapshot(
        config=config,
        listings=listings,
        files=files,
        of_files=of_files,
        keys=before.keys if before is not None and has_keys else KeyRing(config),
        upstreams=upstreams,
        catalog=catalog,
        rows={row.id: row for row in (*ROWS, *map(_row, config.models.catalog))},
        deadlines=Deadlines(timeouts.connect, timeouts.first_event, timeouts.idle),
    )


def _are_same(one: Config, other: Config, fields: tuple[str, ...]) -> bool:
    """Whether two configurations have the same in all of `fields`. Equality of secrets costs two digests, so identity
    is tried first: a configuration that was not read anew shares its parts."""
    for field in fields:
        mine, theirs = getattr(one, field), getattr(other, field)
        if mine is not theirs and mine != theirs:
            return False
    return True


def _upstreams(
    config: Config,
    providers: tuple[KeyProvider, ...],
    proxies: Proxies,
    listings: Mapping[str, tuple[str, ...]],
    keyed: Snapshot | None,
) -> dict[str, Upstream]:
    """The accounts that are keys in the configuration; those of `keyed` when they are still the same."""
    if keyed is not None:
        return {name: upstream for name, upstream in keyed.upstreams.items() if not upstream.source}
    upstreams: dict[str, Upstream] = {}
    for provider in providers:
        for upstream in provider.upstreams(config, proxies):
            account = _distinct(upstream.account, upstreams)
            account = _stocked(account, provider, listings.get(account.id))
            upstreams[account.id] = structs.replace(upstream, account=account)
    return upstreams


def _of_files(
    files: Mapping[str, AccountFile],
    same: Snapshot | None,
    config: Config,
    kinds: Mapping[str, AccountProvider],
    proxies: Proxies,
) -> dict[str, tuple[Upstream, ...]]:
    """The accounts of each file; one that says the same as in `same` costs nothing."""
    known: Mapping[str, tuple[Upstream, ...]] = {} if same is None else same.of_files
    known_files = NO_FILES if same is None else same.files
    return {
        name: known[name] if known_files.get(name) is file else _of_file(file, config, kinds, proxies)
        for name, file in files.items()
    }


def _of_file(
    file: AccountFile, config: Config, kinds: Mapping[str, AccountProvider], proxies: Proxies
) -> tuple[Upstream, ...]:
    provider = kinds.get(file.kind)
    if provider is None:
        return ()
    return tuple(
        structs.replace(upstream, account=_stocked(upstream.account, provider, None))
        for upstream in provider.account_upstreams(file, config, proxies)
    )


def _catalog(upstreams: Mapping[str, Upstream], before: Snapshot | None) -> Catalog:
    """The one before when all accounts are still as they were: a renewed token makes no other catalog."""
    if before is not None and before.upstreams.keys() == upstreams.keys():
        pairs = ((upstream.account, before.upstreams[name].account) for name, upstream in upstreams.items())
        if list(upstreams) == list(before.upstreams) and all(one is other or one == other for one, other in pairs):
            return before.catalog
    return Catalog([upstream.account for upstream in upstreams.values()])


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
