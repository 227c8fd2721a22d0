"""Which account serves next, and which must rest.

The pool outlives configurations: rotation and rests are kept by account id, so a reload neither restarts the rotation
nor forgets a quota. It has no clock; `now` is monotonic seconds.

Selection: the best tier that has an eligible account, then the strategy within the tier. An account is eligible when
it does not rest, for the model or as a whole, and was not tried in this request. An account whose rest is over is
eligible again without ceremony; its next fault doubles a guessed rest, a success forgets all rests that were over when
the successful request was sent. (A slow success from before a quota ran out must not call it refilled.)

Names of models come from callers where families are served unlisted, so every table here is bounded.
"""

from typing import Literal

from msgspec import Struct

from cliproxy.routing.catalog import Candidate, Route, Tier
from cliproxy.routing.verdict import POLICIES, Fault, Verdict

Strategy = Literal["round-robin", "fill-first", "weighted"]

_LONGEST_STATED_REST = 24 * 3600.0
_MOST_DOUBLINGS = 16
_MOST_ROTATIONS = 16_384
_MOST_RESTS = 65_536
# How long a rest that is over still counts as the previous one of a row.
_MEMORY_SECONDS = 3600.0


class Rest(Struct):
    """`count` is the number of faults in a row that led here, faults of parallel requests counted as one."""

    until: float
    cause: Fault
    is_stated: bool
    count: int = 1


class Lease(Struct, frozen=True, eq=False):
    """The right to ask one account once; to be settled exactly once, by `release` or `forgo`. `at` is monotonic."""

    candidate: Candidate
    at: float = 0.0


class Pool:
    def __init__(self, strategy: Strategy = "round-robin") -> None:
        self.strategy: Strategy = strategy
        self._last: dict[tuple[str, int], str] = {}
        self._rests: dict[tuple[str, str], Rest] = {}
        self._credits: dict[tuple[str, int], dict[str, float]] = {}
        self._prune_at = 1024

    def acquire(self, route: Route, now: float, tried: frozenset[str] | set[str] = frozenset()) -> Lease | None:
        """A lease on the next eligible account; None when there is none."""
        for tier in route.tiers:
            candidate = self._next(route, tier, now, tried)
            if candidate is not None:
                return Lease(candidate, now)
        return None

    def release(self, lease: Lease, now: float, verdict: Verdict | None = None) -> None:
        """Settle a lease by what the upstream said. `verdict` None is a success."""
        account, model = lease.candidate.account.id, lease.candidate.model
        if verdict is None:
            if self._rests:
                self._forget((account, model), lease.at)
                self._forget((account, ""), lease.at)
        elif verdict.scope != "none":
            self._rest((account, "" if verdict.scope == "account" else model), now, verdict)

    def forgo(self, lease: Lease) -> None:
        """Settle a lease whose account said nothing: the caller left, or the request could not be made for it."""

    def is_resting(self, candidate: Candidate, now: float) -> bool:
        return bool(self._rests) and self._wait(candidate, now) > 0

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

    def wake(self, account: str, cause: Fault | None = None) -> frozenset[str]:
        """End rests of one account at once: all, or those of one cause. The models that it rested for; "" stands for
        all of them."""
        rested = [
            key for key, rest in self._rests.items() if key[0] == account and (cause is None or rest.cause == cause)
        ]
        for key in rested:
            del self._rests[key]
        return frozenset(model for _, model in rested)

    # -- rests

    def _rest(self, key: tuple[str, str], now: float, verdict: Verdict) -> None:
        """A stated time replaces a guess even where it is shorter; of two of a kind the longer counts."""
        policy = POLICIES[verdict.fault]
        before = self._rests.get(key)
        is_going_on = before is not None and before.until > now
        count = 1 if before is None else before.count if is_going_on else before.count + 1
        is_stated = verdict.wait is not None
        if verdict.wait is None:
            seconds = min(policy.first_rest * 2 ** min(count - 1, _MOST_DOUBLINGS), policy.longest_rest)
        else:
            seconds = min(verdict.wait, _LONGEST_STATED_REST)
        if seconds <= 0:
            return
        if is_going_on and before is not None and (before.is_stated, before.until) >= (is_stated, now + seconds):
            return
        self._rests[key] = Rest(now + seconds, verdict.fault, is_stated, count)
        if len(self._rests) > self._prune_at:
            self._prune(now)

    def _forget(self, key: tuple[str, str], asked_at: float) -> None:
        rest = self._rests.get(key)
        if rest is not None and rest.until <= asked_at:
            del self._rests[key]

    def _prune(self, now: float) -> None:
        """Drop what was over long ago; beyond the bound also the oldest. Amortized: the next look is at twice as many."""
        self._rests = {key: rest for key, rest in self._rests.items() if rest.until + _MEMORY_SECONDS > now}
        for key in list(self._rests)[: max(0, len(self._rests) - _MOST_RESTS)]:
            del self._rests[key]
        self._prune_at = max(1024, min(2 * len(self._rests), _MOST_RESTS + 1024))

    def _wait(self, candidate: Candidate, now: float) -> float:
        account = candidate.account.id
        whole, model = self._rests.get((account, "")), self._rests.get((account, candidate.model))
        return max(whole.until if whole else 0.0, model.until if model else 0.0) - now

    # -- selection

    def _is_eligible(self, candidate: Candidate, now: float, tried: frozenset[str] | set[str]) -> bool:
        if candidate.account.id in tried:
            return False
        return not self._rests or self._wait(candidate, now) <= 0

    def _next(self, route: Route, tier: Tier, now: float, tried: frozenset[str] | set[str]) -> Candidate | None:
        if self.strategy == "weighted":
            return self._next_weighted(route, tier, now, tried)
        candidates = tier.candidates
        start, key = 0, (route.model, tier.priority)
        if self.strategy == "round-robin" and (last := self._last.get(key)) is not None:
            start = tier.places.get(last, -1) + 1
        count = len(candidates)
        for step in range(count):
            candidate = candidates[(start + step) % count]
            if self._is_eligible(candidate, now, tried):
                self._last[key] = candidate.account.id
                if len(self._last) > _MOST_ROTATIONS:
                    del self._last[next(iter(self._last))]
                return candidate
        return None

    def _next_weighted(
        self, route: Route, tier: Tier, now: float, tried: frozenset[str] | set[str]
    ) -> Candidate | None:
        """Smooth weighted round robin: each gains its weight, the richest is chosen and pays the total."""
        eligible = [one for one in tier.candidates if one.account.weight and self._is_eligible(one, now, tried)]
        if not eligible:
            return None
        credits = self._credits.setdefault((route.model, tier.priority), {})
        if len(self._credits) > _MOST_ROTATIONS:
            del self._credits[next(iter(self._credits))]
        for one in eligible:
            credits[one.account.id] = credits.get(one.account.id, 0.0) + one.account.weight
        best = max(eligible, key=lambda one: credits[one.account.id])
        credits[best.account.id] -= sum(one.account.weight for one in eligible)
        return best
