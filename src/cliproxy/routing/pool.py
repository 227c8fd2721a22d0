"""Which account serves next, and which must rest.

The pool outlives configurations: turns and rests are kept by account id, so a reload neither restarts the rotation nor
forgets a quota. It has no clock and no dice; `now` is monotonic seconds, `chance` a number between 0 and 1.

**Selection**: the account that served the conversation before, if it can; else the best tier that has an account of the
best grade, then the strategy within the tier (`routing/turns.py`). Grades: ready; low on allowance; shaky, whose vendor
fails at the moment; away, which is asked by nobody. An account that was tried in this request is not taken again.

**Rests** belong to one model of an account, or to all of it. A stated time is kept to. A guess doubles with each further
fault in a row up to its policy's longest, once for all requests that were under way together. Vendors that fail rest
from their second fault in a row on, and softly: they are used when nobody else is left, so a failing vendor never
empties the pool, and nobody is refused what might have worked.

**Ends**: when its time is over, one request tries while the others still go elsewhere. A success forgets the rest, another
fault begins the next one, a request that ends without an answer frees the place for another try. Early ends: a success
of a request that was sent after the rest began, a new login, a reset. (A slow success from before a quota ran out must
not call it refilled, whatever its headers say: they are as old as it is.)

Names of models come from callers where families are served unlisted, so every table here is bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from itertools import islice
from typing import Literal

from msgspec import Struct

from cliproxy.routing.catalog import Candidate, Route
from cliproxy.routing.limits import Limit
from cliproxy.routing.rests import Absence, Rests
from cliproxy.routing.session import Session
from cliproxy.routing.turns import AWAY, LOW, READY, SERVING, SHAKY, Grade, Strategy, Turns
from cliproxy.routing.verdict import FOREVER, Fault, Verdict

_NOBODY: frozenset[str] = frozenset()
_MEMORY_SECONDS = 3600.0
_LOW_SECONDS = 300.0
"""How long an account counts as low when nobody says when it is full again."""

_MOST_PLACES = 4_000_000
_MOST_SESSIONS = 131_072
_MOST_LOG = 16_384


Why = Literal["turn", "session", "low", "shaky"]
"""How an account was chosen: in its turn; since it served the conversation before; with little allowance left, since
nobody else is ready; though its vendor fails, since nobody else is left."""


class Lease(Struct, eq=False, gc=False):
    """The right to ask one account once. Judged at most once by `settle`, ended exactly once by `release`.

    `at` is when it was given, in monotonic seconds. `why` says how the account was chosen. `session` is the conversation's
    key and the public name of the model. `probing_until` is set when the request tries whether a rest has ended.
    """

    candidate: Candidate
    at: float = 0.0
    why: Why = "turn"
    session: tuple[bytes, str] | None = None
    probing_until: float = 0.0
    is_settled: bool = False
    is_released: bool = False

    @property
    def is_probe(self) -> bool:
        """Whether it tries if a rest is over."""
        return self.probing_until > 0


class Recovery(Struct, frozen=True, gc=False):
    """When the first account is back, in seconds. `is_tried`: a request tries at this moment whether its rest is over,
    and its end may come much earlier."""

    seconds: float
    is_tried: bool


class _Line(Struct, eq=False):
    """The tiers of one route, best first."""

    route: Route
    strategy: Strategy
    tiers: tuple[Turns, ...]
    only: Candidate | None
    """Where there is no choice, nobody takes turns."""


class Pool:
    """`watermark` is the share of an allowance below which its account is used last. `on_wake` is called when an account
    may be back early; it must not call back."""

    def __init__(
        self,
        strategy: Strategy = "round-robin",
        chance: Callable[[], float] = lambda: 0.5,
        on_wake: Callable[[], None] = lambda: None,
    ) -> None:
        self.strategy: Strategy = strategy
        self.watermark = 0.0
        self.session_seconds = _MEMORY_SECONDS
        self.rests = Rests(chance, self._wake)
        self._on_wake = on_wake
        self._lines: dict[str, _Line] = {}
        self._places = 0
        self._low: dict[str, dict[str, float]] = {}
        self._loads: dict[str, int] = {}
        self._sessions: dict[tuple[bytes, str], tuple[str, float]] = {}
        self._log: list[str] = []
        self._log_start = 0

    # -- leases

    def acquire(
        self,
        route: Route,
        now: float,
        tried: Set[str] = _NOBODY,
        session: Session | None = None,
        among: Set[str] | None = None,
    ) -> Lease | None:
        """A lease on the next account; None when there is none. `among` leaves the choice to few accounts."""
        line = self._line(route)
        if among is not None:
            return self._first(line, now, tried, among)
        if line.only is not None:
            return self._the_only(line.only, now, tried)
        bond = None
        if session is not None:
            bond = (session.key, route.model)
            if not session.is_new and (candidate := self._bound(line, bond, now, tried)) is not None:
                return self._lease(candidate, now, "session", bond)
        is_calm = not self.rests.by_account and not self._low
        end = self._log_start + len(self._log)
        for turns in line.tiers:
            if turns.read != end or not turns.is_whole:
                turns.catch_up(now, self._woken_since(turns.read))
                turns.read = end
        for grade in SERVING:
            for turns in line.tiers:
                candidate = turns.take(grade, self, now, tried, is_calm=is_calm)
                if candidate is not None:
                    return self._lease(candidate, now, _REASONS[grade], bond)
            if is_calm:
                return None
        return None

    def settle(self, lease: Lease, now: float, verdict: Verdict | None = None) -> None:
        """What the upstream said decides about the account. `verdict` None is a success."""
        lease.is_settled = True
        candidate = lease.candidate
        account = candidate.account.id
        if verdict is None:
            if lease.session is not None:
                self.bind(lease.session, account, now)
            if account in self.rests.by_account:
                self.rests.prove(candidate, lease.at)
            return
        if verdict.scope != "none":
            key = "" if verdict.scope == "account" else candidate.model
            self.rests.begin(account, key, lease.at, now, verdict)
        if lease.is_probe:
            self.rests.unclaim(candidate, lease.probing_until, now)

    def release(self, lease: Lease, now: float) -> None:
        """The request is over. One that was never settled said nothing of its account: the caller left, or the request
        could not be made for it."""
        if lease.is_released:
            return
        lease.is_released = True
        account = lease.candidate.account.id
        load = self._loads.get(account, 0)
        if load > 1:
            self._loads[account] = load - 1
        elif load:
            del self._loads[account]
        if not lease.is_settled:
            lease.is_settled = True
            if lease.is_probe:
                self.rests.unclaim(lease.candidate, lease.probing_until, now)

    # -- what is known

    def standing(self, candidate: Candidate, now: float) -> tuple[Grade, float]:
        """The grade of an account for its model, and until when it holds."""
        grade, until = self.rests.standing(candidate, now)
        if grade == READY and (low := self._low.get(candidate.account.id)):
            until = max(low.get("", 0.0), low.get(candidate.model, 0.0))
            if until > now:
                return LOW, until
        return grade, until

    def load(self, account: str) -> int:
        """How many requests are under way on it."""
        return self._loads.get(account, 0)

    def is_resting(self, candidate: Candidate, now: float) -> bool:
        """Whether it must not be asked now."""
        return bool(self.rests) and self.standing(candidate, now)[0] == AWAY

    def serves(self, route: Route, now: float) -> bool:
        """Whether another request could be served now. Afterwards `earliest` is exact."""
        line = self._line(route)
        if line.only is not None:
            return self.standing(line.only, now)[0] != AWAY
        for turns in line.tiers:
            turns.catch_up(now, self._woken_since(turns.read))
            turns.read = self._log_start + len(self._log)
        serving = [turns.serves(self, now) for turns in line.tiers]  # all of them, for the sake of `earliest`
        return any(serving)

    def earliest(self, route: Route, now: float, among: Set[str] | None = None) -> Recovery | None:
        """Which of the route's accounts comes back first, as far as anybody has looked: exact when `acquire` has just
        found none. None when none rests, or all rest until somebody changes them."""
        line = self._line(route)
        if among is None and line.only is None:
            ends = [end for turns in line.tiers if (end := turns.earliest(self, now)) is not None]
        else:
            few = _of(line, among) if line.only is None and among is not None else (line.only,)
            standings = [(self.standing(one, now), one) for one in few if one is not None]
            ends = [(until, one) for (grade, until), one in standings if grade == AWAY]
        until, candidate = min(ends, key=lambda end: end[0], default=(FOREVER, None))
        if candidate is None or until == FOREVER:
            return None
        rests = self.rests.of(candidate.account.id)
        is_tried = any(rests[key].probing_until > now for key in ("", candidate.model) if key in rests)
        return Recovery(max(until - now, 0.0), is_tried)

    def absences(self, route: Route, now: float, most: int = 64) -> list[Absence]:
        """Who is passed over, and why; at most so many. Costs nothing where everybody is ready."""
        if not self.rests:
            return []
        line = self._line(route)
        if line.only is not None:
            absent = iter((line.only,))
        else:
            absent = (candidate for turns in line.tiers for candidate in turns.absent(most))
        return [absence for candidate in islice(absent, most) if (absence := self.rests.absence(candidate, now))]

    def low_until(self, account: str) -> float:
        """Until when the account counts as low on allowance; 0 when it does not."""
        return max(self._low.get(account, {}).values(), default=0.0)

    # -- what changes it from outside

    def wake(self, account: str, causes: Set[Fault] | None = None) -> frozenset[str]:
        """End rests of one account at once: all, or those of some causes. The models that it rested for; "" stands for
        all of them."""
        if causes is None and self._low.pop(account, None) is not None:
            self._wake(account)
        return self.rests.end(account, causes)

    def mark(self, account: str, key: str, now: float, told: Iterable[Limit]) -> None:
        """Note whether an account is low: the lowest of its allowances decides, until that is full again. `key` is a model,
        or "" for all of the account; the limits were told at `now`."""
        below = [limit for limit in told if limit.left is not None and limit.left < self.watermark]
        marks = self._low.get(account)
        if not below:
            if marks is not None and marks.pop(key, None) is not None:
                if not marks:
                    del self._low[account]
                self._wake(account)
            return
        if marks is None:
            marks = self._low[account] = {}
        until = now + max(_LOW_SECONDS if one.resets_in is None else one.resets_in for one in below)
        is_earlier = until < marks.get(key, 0.0)
        marks[key] = until
        if is_earlier:
            self._wake(account)

    def bind(self, bond: tuple[bytes, str], account: str, now: float) -> None:
        """The account has answered a conversation, whose key and model `bond` is. The latest stands last, so that the first
        is the one to let go."""
        sessions = self._sessions
        sessions.pop(bond, None)
        sessions[bond] = (account, now + self.session_seconds)
        if len(sessions) > _MOST_SESSIONS:
            del sessions[next(iter(sessions))]

    # -- choosing

    def _line(self, route: Route) -> _Line:
        line = self._lines.get(route.model)
        if line is not None and line.route is route and line.strategy == self.strategy:
            return line
        before: dict[int, Turns] = {}
        if line is not None:
            self._places -= sum(len(tier.tier.candidates) for tier in line.tiers)
            if line.strategy == self.strategy:
                before = {tier.tier.priority: tier for tier in line.tiers}
        tiers = tuple(Turns(tier, self.strategy, before.get(tier.priority)) for tier in route.tiers)
        for tier in tiers:
            tier.read = self._log_start + len(self._log)
        line = self._lines[route.model] = _Line(route, self.strategy, tiers, _only(route, self.strategy))
        self._places += sum(len(tier.candidates) for tier in route.tiers)
        while self._places > _MOST_PLACES and len(self._lines) > 1:
            oldest = self._lines.pop(next(iter(self._lines)))
            self._places -= sum(len(tier.tier.candidates) for tier in oldest.tiers)
        return line

    def _bound(self, line: _Line, bond: tuple[bytes, str], now: float, tried: Set[str]) -> Candidate | None:
        """The account that served the conversation before, unless it is worse than low on allowance."""
        bound = self._sessions.get(bond)
        if bound is None or bound[1] <= now or bound[0] in tried:
            return None
        candidate = next(_of(line, (bound[0],)), None)
        if candidate is None or self.standing(candidate, now)[0] > LOW:
            return None
        return candidate

    def _first(self, line: _Line, now: float, tried: Set[str], among: Set[str]) -> Lease | None:
        graded = [(self.standing(one, now)[0], one) for one in _of(line, among) if one.account.id not in tried]
        serving = [pair for pair in graded if pair[0] != AWAY]
        if not serving:
            return None
        return self._lease(min(serving, key=lambda pair: pair[0])[1], now, "turn", None)

    def _the_only(self, candidate: Candidate, now: float, tried: Set[str]) -> Lease | None:
        if candidate.account.id in tried:
            return None
        grade = self.standing(candidate, now)[0] if self.rests.by_account or self._low else READY
        return None if grade == AWAY else self._lease(candidate, now, _REASONS[grade], None)

    def _lease(self, candidate: Candidate, now: float, why: Why, bond: tuple[bytes, str] | None) -> Lease:
        account = candidate.account.id
        self._loads[account] = self._loads.get(account, 0) + 1
        lease = Lease(candidate, now, why, bond)
        if self._low and account in self._low:
            self._lift(account, now)
        if account in self.rests.by_account:
            lease.probing_until = self.rests.claim(candidate, now)
        return lease

    # -- allowances

    def _lift(self, account: str, now: float) -> None:
        """Forget marks whose time is over."""
        marks = self._low[account]
        for key in [key for key, until in marks.items() if until <= now]:
            del marks[key]
        if not marks:
            del self._low[account]

    # -- the log of those that may be back

    def _wake(self, account: str) -> None:
        self._log.append(account)
        if len(self._log) > 2 * _MOST_LOG:
            self._log_start += _MOST_LOG
            del self._log[:_MOST_LOG]
        self._on_wake()

    def _woken_since(self, read: int) -> list[str] | None:
        """Who was woken since then; None when that is no longer known."""
        return None if read < self._log_start else self._log[read - self._log_start :]


_REASONS: Mapping[Grade, Why] = {READY: "turn", LOW: "low", SHAKY: "shaky"}


def _only(route: Route, strategy: Strategy) -> Candidate | None:
    """The candidate of a route that has one, and may give it turns."""
    if len(route.tiers) != 1 or len(route.tiers[0].candidates) != 1:
        return None
    (candidate,) = route.tiers[0].candidates
    return candidate if candidate.account.weight > 0 or strategy != "weighted" else None


def _of(line: _Line, accounts: Iterable[str]) -> Iterator[Candidate]:
    """Those of the accounts that the route has, best tier first."""
    for turns in line.tiers:
        for account in accounts:
            place = turns.tier.places.get(account)
            if place is not None:
                yield turns.tier.candidates[place]
