"""The budget of one request: how often to try, whom not to ask again, and which failure to tell in the end.

`request-retry` counts extra attempts after overload and network faults, distinct accounts first; moving on after a
refused key or an exhausted quota is free. `max-retry-credentials` and an overall deadline bound both.
"""

from msgspec import structs

from cliproxy.canon.errors import (
    GatewayError,
    ModelNotFound,
    NoAccount,
    RateLimited,
    UpstreamRefused,
)
from cliproxy.config.schema import Config
from cliproxy.routing.catalog import Route
from cliproxy.routing.pool import Lease, Pool
from cliproxy.routing.verdict import POLICIES, Fault, Verdict

_OVERALL_SECONDS = 120.0
_FIRST_PAUSE_SECONDS = 0.5

# Which of several failures tells the caller most: the higher the more.
_TELLING: dict[Fault, int] = {
    "caller": 7,
    "quota": 6,
    "overload": 5,
    "broken": 4,
    "network": 3,
    "missing": 2,
    "billing": 1,
    "auth": 0,
}


class Attempts:
    def __init__(self, config: Config, now: float) -> None:
        self.tried: set[str] = set()
        self._config = config
        self._deadline = now + _OVERALL_SECONDS
        self._asked: set[str] = set()
        self._retries = 0
        self._worst: Verdict | None = None

    def failed(self, lease: Lease, verdict: Verdict, now: float) -> bool:
        """Take note of a failed attempt; whether another may be made."""
        account = lease.candidate.account.id
        self.tried.add(account)
        self._asked.add(account)
        if self._worst is None or _TELLING[verdict.fault] >= _TELLING[self._worst.fault]:
            self._worst = verdict
        policy = POLICIES[verdict.fault]
        if not policy.moves_on or now >= self._deadline:
            return False
        if verdict.fault == "quota" and not self._config.quota_exceeded.switch_project:
            return False
        limit = self._config.max_retry_credentials
        if limit and len(self._asked) >= limit:
            return False
        self._retries += policy.spends_retry
        return self._retries <= self._config.request_retry or not policy.spends_retry

    def start_over(self, chance: float) -> float | None:
        """Every account was tried: seconds to pause before asking one of them again, None when that is pointless.

        Only faults that spend retries are worth asking again. `chance` is a random number between 0 and 1.
        """
        worst = self._worst
        if worst is None or not POLICIES[worst.fault].spends_retry or self._retries > self._config.request_retry:
            return None
        self.tried.clear()
        return _FIRST_PAUSE_SECONDS * 2 ** min(self._retries - 1, 4) * (0.5 + chance / 2)

    def final(self, pool: Pool, route: Route, now: float) -> GatewayError:
        """What to tell the caller."""
        if self._worst is not None:
            return _told(self._worst)
        return _resting(pool, route, now)


def _told(verdict: Verdict) -> GatewayError:
    """An upstream's failure as the caller should see it: its refusal of our key is not one of the caller's key."""
    problem = verdict.problem
    if verdict.fault in ("auth", "billing"):
        text = f"The upstream refused the gateway's account for this model (HTTP {problem.status})."
        problem = structs.replace(problem.seen_as(502, "bad_gateway", text), code="")
    return UpstreamRefused(problem=problem)


def _resting(pool: Pool, route: Route, now: float) -> GatewayError:
    """Nobody could even be asked: all accounts rest."""
    wait = pool.earliest(route, now)
    causes = pool.causes(route, now)
    if not causes:
        return NoAccount(f"No usable account is configured for `{route.model}`.")
    if "quota" in causes:
        return RateLimited(f"All accounts for `{route.model}` are out of quota.", retry_after=wait)
    if set(causes) == {"missing"}:
        return ModelNotFound(f"No account has the model `{route.model}`.", param="model")
    reasons = {"auth": "their keys are refused", "billing": "they must be paid first", "missing": "they lack the model"}
    told = ", ".join(reasons[cause] for cause in causes if cause in reasons)
    return NoAccount(f"All accounts for `{route.model}` are out of service: {told}.", retry_after=wait)
