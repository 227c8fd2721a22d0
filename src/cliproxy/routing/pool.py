"""Which account serves next, and which must rest.

The pool outlives configurations: rotation and rests are kept by account id, so a reload neither restarts the rotation
nor forgets a quota. It has no clock; `now` is monotonic seconds.

Selection: the best tier that has an eligible account, then the strategy within the tier. An account is eligible when
it does not rest, for the model or as a whole, and was not tried in this request. An account whose rest is over is
eligible again without ceremony; its next fault doubles a guessed rest, a success forgets all.
"""

from typing import Literal

from msgspec import Struct

from cliproxy.routing.catalog import Candidate, Route, Tier
from cliproxy.routing.verdict import POLICIES, Fault, Verdict

Strategy = Literal["round-robin", "fill-first", "weighted"]

_LONGEST_STATED_REST = 24 * 3600.0


class Rest(Struct):
    """`model` "" is the whole account. `count` is the number of faults in a row that led here."""

    until: float
    cause: Fault
    is_stated: bool
    count: int = 1


class Lease(Struct, frozen=True, eq=False):
    """The right to ask one account once; to be settled by `release`."""

    candidate: Candidate


class Pool:
    def __init__(self, strategy: Strategy = "round-robin") -> None:
        self.strategy: Strategy = strategy
        self._last: dict[str, str] = {}
        self._rests: dict[tuple[str, str], Rest] = {}
        self._credits: dict[str, dict[str, float]] = {}

    def acquire(self, route: Route, now: float, tried: frozenset[str] | set[str] = frozenset()) -> Lease | None:
        """A lease on the next eligible account; None when there is none."""
        for tier in route.tiers:
            candidate = self._next(route, tier, now, tried)
            if candidate is not None:
                return Lease(candidate)
        return None

    def release(self, lease: Lease, now: float, verdict: Verdict | None = None) -> None:
        """Settle a lease. `verdict` None is a success; a caller who left settles nothing and need not call."""
        account, model = lease.candidate.account.id, lease.candidate.model
        if verdict is None:
            if self._rests:
                self._rests.pop((account, model), None)
                self._rests.pop((account, ""), None)
            return
        if verdict.scope == "none":
            return
        policy = POLICIES[verdict.fault]
        key = (account, "" if verdict.scope == "account" else model)
        before = self._rests.get(key)
        count = before.count + 1 if before is not None and before.until <= now else before.count if before else 1
        guess = min(policy.first_rest * 2 ** (count - 1), policy.longest_rest)
        rest = guess if verdict.wait is None else min(verdict.wait, _LONGEST_STATED_REST)
        if rest > 0 and (before is None or before.until < now + rest):
            self._rests[key] = Rest(now + rest, verdict.fault, verdict.wait is not None, count)

    def earliest(self, route: Route, now: float) -> float | None:
        """Seconds until the first of the route's accounts is eligible again; None when none of them rests."""
        waits = [wait for candidate in route.candidates if (wait := self._wait(candidate, now)) > 0]
        return min(waits, default=None)

    def causes(self, route: Route, now: float) -> tuple[Fault, ...]:
        """Why the route's accounts rest, each cause once."""
        found: dict[Fault, None] = {}
        for candidate in route.candidates:
            for model in (candidate.model, ""):
                rest = self._rests.get((candidate.account.id, model))
                if rest is not None and rest.until > now:
                    found[rest.cause] = None
        return tuple(found)

    def _wait(self, candidate: Candidate, now: float) -> float:
        account = candidate.account.id
        whole, model = self._rests.get((account, "")), self._rests.get((account, candidate.model))
        return max(whole.until if whole else 0.0, model.until if model else 0.0) - now

    def _is_eligible(self, candidate: Candidate, now: float, tried: frozenset[str] | set[str]) -> bool:
        if candidate.account.id in tried:
            return False
        return not self._rests or self._wait(candidate, now) <= 0

    def _next(self, route: Route, tier: Tier, now: float, tried: frozenset[str] | set[str]) -> Candidate | None:
        if self.strategy == "weighted":
            return self._next_weighted(route, tier, now, tried)
        candidates = tier.candidates
        start = 0
        if self.strategy == "round-robin" and (last := self._last.get(route.model)) is not None:
            start = tier.places.get(last, -1) + 1
        count = len(candidates)
        for step in range(count):
            candidate = candidates[(start + step) % count]
            if self._is_eligible(candidate, now, tried):
                self._last[route.model] = candidate.account.id
                return candidate
        return None

    def _next_weighted(
        self, route: Route, tier: Tier, now: float, tried: frozenset[str] | set[str]
    ) -> Candidate | None:
        """Smooth weighted round robin: each gains its weight, the richest is chosen and pays the total."""
        credits = self._credits.setdefault(route.model, {})
        eligible = [one for one in tier.candidates if one.account.weight and self._is_eligible(one, now, tried)]
        if not eligible:
            return None
        for one in eligible:
            credits[one.account.id] = credits.get(one.account.id, 0.0) + one.account.weight
        best = max(eligible, key=lambda one: credits[one.account.id])
        credits[best.account.id] -= sum(one.account.weight for one in eligible)
        return best
