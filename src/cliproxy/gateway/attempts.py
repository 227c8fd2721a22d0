"""The budget of one request: how often to try, whom not to ask again, what to wait for, and what to tell in the end.

`request-retry` counts extra attempts after overload and network faults, distinct accounts first, then those same ones
again after a pause; moving on after a refused key or an exhausted quota is free. When all accounts rest and the first is
back within `max-retry-interval` seconds, it is waited for, which spends a retry too and happens for at most so long in
all. `max-retry-credentials` bounds the distinct accounts, and a deadline the whole.
"""

from __future__ import annotations

import math
from collections import Counter

from msgspec import structs

from cliproxy.canon.errors import (
    GatewayError,
    ModelNotFound,
    NoAccount,
    Problem,
    RateLimited,
    UpstreamRefused,
)
from cliproxy.config.schema import Config
from cliproxy.routing.catalog import Route
from cliproxy.routing.pool import Lease, Pool
from cliproxy.routing.session import Session
from cliproxy.routing.verdict import POLICIES, Fault, Verdict
from cliproxy.wire.http import Headers

OVERALL_SECONDS = 120.0
"""After so long nobody else is asked, whatever is left of the budget."""
_FIRST_PAUSE_SECONDS = 0.5
_MOST_DOUBLINGS = 4
_MOMENT = 0.001
"""Clocks differ by less: who looks a little later looks once."""
_MOST_TOLD = 1_000
"""So many accounts are looked at to say why they rest."""

# Which of several failures tells the caller most: the higher the more.
_TELLING: dict[Fault, int] = {
    "caller": 12,
    "quota": 11,
    "exhausted": 10,
    "overload": 9,
    "broken": 8,
    "network": 7,
    "identity": 6,
    "missing": 5,
    "billing": 4,
    "challenge": 3,
    "forbidden": 2,
    "suspended": 1,
    "auth": 0,
}
_QUOTA: frozenset[Fault] = frozenset({"quota", "exhausted"})
_OUR_ACCOUNTS: frozenset[Fault] = frozenset({"auth", "forbidden", "suspended", "billing", "challenge"})
"""Refusals of the gateway's own credential: nothing that a caller could mend, and no word about the caller's key."""
_REASONS: dict[Fault, str] = {
    "quota": "out of quota",
    "exhausted": "out of quota",
    "auth": "refused by the vendor (credential)",
    "forbidden": "refused by the vendor (permission)",
    "suspended": "suspended by the vendor",
    "billing": "to be paid first",
    "challenge": "blocked by the network in front of the vendor",
    "missing": "without this model",
}


class Attempts:
    """`began` is when the request came. `may_wait`: for accounts that rest. `told` are headers that go with what is told in
    the end."""

    def __init__(
        self, config: Config, route: Route, began: float, session: Session | None = None, *, may_wait: bool = True
    ) -> None:
        self.told: Headers = ()
        self._config = config
        self._route = route
        self._session = session
        self._deadline = began + OVERALL_SECONDS
        self._patience = config.max_retry_interval if may_wait and config.quota_exceeded.switch_project else -1.0
        self._tried: set[str] = set()
        self._asked: set[str] = set()
        self._again: dict[str, float] = {}
        self._resting: set[str] = set()
        self._back: set[str] = set()
        self._retries = 0
        self._is_bounded = False
        self._worst: Verdict | None = None

    def next(self, pool: Pool, now: float) -> Lease | None:
        """A lease on the next account that may be asked."""
        if self._back and self._retries >= self._config.request_retry:
            self._tried |= self._back
            self._back.clear()
        among = self._asked if self._is_bounded else None
        lease = pool.acquire(self._route, now, self._tried, self._session, among)
        if lease is not None and lease.candidate.account.id in self._back:
            self._back.discard(lease.candidate.account.id)
            self._retries += 1
        return lease

    def failed(self, lease: Lease, verdict: Verdict, headers: Headers, chance: float, now: float) -> bool:
        """Take note of a failed attempt; whether another may be made. `headers` are what the caller may hear of it,
        `chance` is a random number between 0 and 1."""
        account = lease.candidate.account
        self._tried.add(account.id)
        self._asked.add(account.id)
        if self._worst is None or _TELLING[verdict.fault] >= _TELLING[self._worst.fault]:
            self._worst, self.told = verdict, headers
        policy = POLICIES[verdict.fault]
        if not policy.moves_on or now >= self._deadline:
            return False
        if verdict.fault in _QUOTA and not self._config.quota_exceeded.switch_project:
            return False
        if policy.speaks_for_all:
            alike = {one.account.id for one in self._route.candidates if one.account.provider == account.provider}
            self._tried |= alike
            self._again = {name: due for name, due in self._again.items() if name not in alike}
            self._resting -= alike
        elif policy.spends_retry:
            self._retries += 1
            if self._retries > self._config.request_retry:
                return False
            if (pause := self._pause(verdict, chance)) is not None:
                self._again[account.id] = now + pause
        elif verdict.scope != "none":
            self._resting.add(account.id)
        limit = self._config.max_retry_credentials
        self._is_bounded = bool(limit) and len(self._asked) >= limit
        return True

    def wait(self, pool: Pool, now: float) -> float | None:
        """Nobody is left to be asked now: seconds after which to look again, or earlier should somebody be back; None
        when that is pointless or would take too long.

        Accounts that failed by overload or on the way are asked again after a pause, those that rest when they are back.
        """
        due = min(self._again.values(), default=math.inf)
        if due <= now:
            self._reopen({account for account, at in self._again.items() if at <= now})
            return 0.0
        seconds = due - now
        back = pool.earliest(self._route, now, self._asked if self._is_bounded else None)
        may_wait = self._retries < self._config.request_retry or not self._asked
        if back is not None and may_wait and self._patience > 0:
            if back.seconds <= self._patience:
                seconds = min(seconds, back.seconds + _MOMENT)
            elif back.is_tried:
                seconds = min(seconds, self._patience)
        if seconds == math.inf or now + seconds >= self._deadline:
            return None
        return seconds

    def waited(self, seconds: float) -> None:
        """So long it really took. Who rested in the meantime may be asked again."""
        self._patience -= seconds
        self._tried -= self._resting
        self._back |= self._resting
        self._resting.clear()

    def final(self, pool: Pool, now: float) -> GatewayError:
        """What to tell the caller."""
        if self._worst is None:
            return _resting(pool, self._route, now)
        if self._worst.fault in _QUOTA and self._config.quota_exceeded.switch_project:
            return UpstreamRefused(
                problem=structs.replace(self._worst.problem, retry_after=_recovery(pool, self._route, now))
            )
        return UpstreamRefused(problem=_told(self._worst))

    def _pause(self, verdict: Verdict, chance: float) -> float | None:
        """Before the same account is asked again. What an upstream states as its own wait is kept to; None when that is
        longer than anybody should wait."""
        stated, longest = verdict.problem.retry_after, self._config.max_retry_interval
        if stated is not None:
            return stated if stated <= longest else None
        pause = _FIRST_PAUSE_SECONDS * 2 ** min(self._retries - 1, _MOST_DOUBLINGS) * (0.5 + chance / 2)
        return min(pause, longest)

    def _reopen(self, accounts: set[str]) -> None:
        self._tried -= accounts
        for account in accounts:
            self._again.pop(account, None)


def _told(verdict: Verdict) -> Problem:
    """An upstream's failure as the caller should see it: its refusal of our key is not one of the caller's key."""
    problem = verdict.problem
    if verdict.fault in _OUR_ACCOUNTS:
        text = f"The upstream refused the gateway's account for this model (HTTP {problem.status})."
        problem = structs.replace(problem.seen_as(502, "bad_gateway", text), code="", param="", retry_after=None)
    return problem


def _resting(pool: Pool, route: Route, now: float) -> GatewayError:
    """Nobody could even be asked: all accounts rest."""
    causes: Counter[Fault] = Counter(
        absence.cause for absence in pool.absences(route, now, _MOST_TOLD) if not absence.is_soft
    )
    if not causes:
        return NoAccount(f"No usable account is configured for `{route.model}`.")
    if set(causes) == {"missing"}:
        return ModelNotFound(f"No account has the model `{route.model}`.", param="model")
    wait = _recovery(pool, route, now)
    reasons = Counter[str]()
    for cause, count in causes.items():
        reasons[_REASONS.get(cause, "out of service")] += count
    told = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    when = "" if wait is None else f" Please try again in {wait:.0f}s."
    if not _QUOTA.isdisjoint(causes):
        return RateLimited(f"All accounts for `{route.model}` are resting: {told}.{when}", retry_after=wait)
    return NoAccount(f"All accounts for `{route.model}` are out of service: {told}.{when}", retry_after=wait)


def _recovery(pool: Pool, route: Route, now: float) -> float | None:
    """Whole seconds until the first account may be asked again, rounded up: who comes earlier is refused again."""
    if pool.serves(route, now):
        return 1.0
    back = pool.earliest(route, now)
    return None if back is None else float(math.ceil(back.seconds))
