"""The budget of one request: how often to try, whom not to ask again, and which failure to tell in the end.

`request-retry` counts extra attempts after overload and network faults, distinct accounts first, then those same ones
again after a pause; moving on after a refused key or an exhausted quota is free. `max-retry-credentials` bounds the
distinct accounts, `max-retry-interval` each pause, and a deadline the whole.
"""

import math

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
from cliproxy.routing.verdict import POLICIES, Fault, Verdict

_OVERALL_SECONDS = 120.0
_FIRST_PAUSE_SECONDS = 0.5
_MOST_DOUBLINGS = 4

# Which of several failures tells the caller most: the higher the more.
_TELLING: dict[Fault, int] = {
    "caller": 9,
    "quota": 8,
    "exhausted": 7,
    "overload": 6,
    "broken": 5,
    "network": 4,
    "identity": 3,
    "missing": 2,
    "billing": 1,
    "auth": 0,
}
_QUOTA: frozenset[Fault] = frozenset({"quota", "exhausted"})


class Attempts:
    """`tried` are the accounts that must not be asked now."""

    def __init__(self, config: Config, route: Route, now: float) -> None:
        self.tried: set[str] = set()
        self._config = config
        self._route = route
        self._deadline = now + _OVERALL_SECONDS
        self._asked: set[str] = set()
        self._again: dict[str, float | None] = {}
        self._retries = 0
        self._worst: Verdict | None = None

    def failed(self, lease: Lease, verdict: Verdict, now: float) -> bool:
        """Take note of a failed attempt; whether another may be made."""
        account, provider = lease.candidate.account.id, lease.candidate.account.provider
        self.tried.add(account)
        self._asked.add(account)
        if self._worst is None or _TELLING[verdict.fault] >= _TELLING[self._worst.fault]:
            self._worst = verdict
        policy = POLICIES[verdict.fault]
        if not policy.moves_on or now >= self._deadline:
            return False
        if verdict.fault in _QUOTA and not self._config.quota_exceeded.switch_project:
            return False
        if policy.speaks_for_all:
            alike = {one.account.id for one in self._route.candidates if one.account.provider == provider}
            self.tried |= alike
            self._again = {name: wait for name, wait in self._again.items() if name not in alike}
        if policy.spends_retry:
            self._again[account] = verdict.problem.retry_after
            self._retries += 1
            if self._retries > self._config.request_retry:
                return False
        limit = self._config.max_retry_credentials
        if limit and len(self._asked) >= limit:
            self.tried.update(one.account.id for one in self._route.candidates if one.account.id not in self._asked)
        return True

    def start_over(self, chance: float, now: float) -> float | None:
        """Nobody is left: seconds to pause before asking again, None when that is pointless or would take too long.

        Only accounts that failed by overload or on the way are asked again. `chance` is a random number between 0
        and 1. What an upstream states as its own wait is kept to.
        """
        again, self._again = self._again, {}
        if not again:
            return None
        guess = _FIRST_PAUSE_SECONDS * 2 ** min(max(self._retries - 1, 0), _MOST_DOUBLINGS) * (0.5 + chance / 2)
        longest = self._config.max_retry_interval
        waits = {account: min(guess, longest) if stated is None else stated for account, stated in again.items()}
        pause = min(waits.values())
        if pause > longest or now + pause >= self._deadline:
            return None
        self.tried.difference_update(account for account, wait in waits.items() if wait <= pause)
        return pause

    def final(self, pool: Pool, now: float) -> GatewayError:
        """What to tell the caller."""
        if self._worst is None:
            return _resting(pool, self._route, now)
        if self._worst.fault in _QUOTA and self._config.quota_exceeded.switch_project:
            return UpstreamRefused(
                problem=structs.replace(self._worst.problem, retry_after=_recovery(pool, self._route, now))
            )
        return UpstreamRefused(problem=_told(self._worst))


def _told(verdict: Verdict) -> Problem:
    """An upstream's failure as the caller should see it: its refusal of our key is not one of the caller's key."""
    problem = verdict.problem
    if verdict.fault in ("auth", "billing"):
        text = f"The upstream refused the gateway's account for this model (HTTP {problem.status})."
        problem = structs.replace(problem.seen_as(502, "bad_gateway", text), code="", param="", retry_after=None)
    return problem


def _resting(pool: Pool, route: Route, now: float) -> GatewayError:
    """Nobody could even be asked: all accounts rest."""
    causes = pool.causes(route, now)
    if not causes:
        return NoAccount(f"No usable account is configured for `{route.model}`.")
    wait = _recovery(pool, route, now)
    if not _QUOTA.isdisjoint(causes):
        return RateLimited(f"All accounts for `{route.model}` are out of quota.", retry_after=wait)
    if set(causes) == {"missing"}:
        return ModelNotFound(f"No account has the model `{route.model}`.", param="model")
    reasons = {"auth": "their keys are refused", "billing": "they must be paid first", "missing": "they lack the model"}
    told = ", ".join(reasons.get(cause, "they are overloaded or cannot be reached") for cause in causes)
    return NoAccount(f"All accounts for `{route.model}` are out of service: {told}.", retry_after=wait)


def _recovery(pool: Pool, route: Route, now: float) -> float | None:
    """Whole seconds until the first account may be asked again, rounded up: who comes earlier is refused again."""
    wait = pool.earliest(route, now)
    return None if wait is None else float(math.ceil(wait))
