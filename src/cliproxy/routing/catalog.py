"""From a model's name to the accounts that serve it.

The catalog is compiled once per configuration; a look-up is one dictionary access for listed names. Unlisted names go
to the accounts of their family, since vendors publish models faster than tables follow.
"""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from msgspec import Struct

from cliproxy.routing.accounts import Account


class Candidate(Struct, frozen=True, gc=False):
    """An account for a model, and the model's name there."""

    account: Account
    model: str


_Places = dict[tuple[str, ...], dict[str, int]]


class Tier(Struct, frozen=True):
    """Candidates of one priority, in stable order; `places` finds an account's place by its id. Models that the same
    accounts serve share it: with thousands of accounts it is what a route weighs most."""

    priority: int
    candidates: tuple[Candidate, ...]
    places: dict[str, int]

    @classmethod
    def of(cls, priority: int, candidates: Sequence[Candidate], known: "_Places") -> "Tier":
        accounts = tuple(candidate.account.id for candidate in candidates)
        places = known.get(accounts)
        if places is None:
            places = known[accounts] = {account: place for place, account in enumerate(accounts)}
        return cls(priority, tuple(candidates), places)


class Outline(Struct, frozen=True, gc=False):
    """What is left of a route for who looks back: each tier's priority and how many accounts it has."""

    model: str
    tiers: tuple[tuple[int, int], ...]


class Route(Struct, frozen=True):
    """All candidates for a public name, best tier first."""

    model: str
    tiers: tuple[Tier, ...]
    outline: Outline

    @property
    def candidates(self) -> Iterable[Candidate]:
        for tier in self.tiers:
            yield from tier.candidates


class Catalog:
    """Immutable after construction but for a memo of family look-ups, which only repeats what compiling would give."""

    def __init__(self, accounts: Sequence[Account]) -> None:
        listed: dict[str, list[Candidate]] = {}
        for account in accounts:
            for served in account.serves:
                if not account.excluded or not _is_excluded(served.public, account):
                    for name in _names(served.public, account):
                        listed.setdefault(name, []).append(Candidate(account, served.name))
        self._accounts = tuple(accounts)
        places: _Places = {}
        self._routes = {name: _route(name, candidates, places) for name, candidates in listed.items()}
        self._memo: dict[str, Route | None] = {}

    @property
    def routes(self) -> dict[str, Route]:
        """Every listed public name with its route."""
        return self._routes

    def find(self, model: str) -> Route | None:
        """The route for a listed name, else for its family; None when nobody would know it."""
        route = self._routes.get(model)
        if route is not None:
            return route
        if model not in self._memo:
            if len(self._memo) > 4096:
                self._memo.clear()
            self._memo[model] = self._by_family(model)
        return self._memo[model]

    def _by_family(self, model: str) -> Route | None:
        for wildcard in (False, True):
            found: list[Candidate] = []
            for account in self._accounts:
                name = _unprefixed(model, account)
                if _is_of_family(name, account, wildcard=wildcard) and not _is_excluded(name, account):
                    found.append(Candidate(account, name))
            if found:
                return _route(model, found, {})
        return None


def _names(public: str, account: Account) -> tuple[str, ...]:
    return (public, f"{account.prefix}/{public}") if account.prefix else (public,)


def _unprefixed(model: str, account: Account) -> str:
    return model.removeprefix(f"{account.prefix}/") if account.prefix else model


def _is_of_family(model: str, account: Account, *, wildcard: bool) -> bool:
    if wildcard:
        return "" in account.families
    return any(family and model.startswith(family) for family in account.families)


def _is_excluded(model: str, account: Account) -> bool:
    return any(fnmatchcase(model, pattern) for pattern in account.excluded)


def _route(model: str, candidates: Sequence[Candidate], places: _Places) -> Route:
    unique: dict[str, Candidate] = {}
    for candidate in candidates:
        unique.setdefault(candidate.account.id, candidate)
    priorities = sorted({candidate.account.priority for candidate in unique.values()}, reverse=True)
    tiers = (
        Tier.of(
            priority, [candidate for candidate in unique.values() if candidate.account.priority == priority], places
        )
        for priority in priorities
    )
    known = tuple(tiers)
    return Route(model, known, Outline(model, tuple((tier.priority, len(tier.candidates)) for tier in known)))
