"""Whose turn it is: the accounts of one tier of one route, in the order in which they are to be asked.

One structure serves all strategies. Each account has a `turn`, a number that grows by its stride whenever it is asked;
the lowest turn is next, of equal turns the account that was configured first.

* round-robin: the stride is 1, so turns are rounds: nobody is asked twice before all others were asked once
* weighted: the stride is inverse to the weight
* fill-first: the stride is 0, so the first stays the first

Accounts stand in one of four queues by their grade: `READY`; `LOW` on allowance, used when nobody is ready; `SHAKY`, whose
vendor fails at the moment, used when nobody else is left; and away, out of service until a known time. They are moved
when they are looked at: a fault costs nothing here until the account's turn comes, an account that is away costs nothing
until its time comes, and whoever may come back early stands in the pool's log, which each tier reads up to its end.
So choosing costs the same with ten accounts as with a hundred thousand, but for the logarithm of a heap.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from heapq import heapify, heappop, heappush, heapreplace
from typing import Literal, Protocol

from cliproxy.routing.catalog import Candidate, Tier

Strategy = Literal["round-robin", "fill-first", "weighted"]
Grade = Literal[0, 1, 2, 3]
READY: Grade = 0
LOW: Grade = 1
SHAKY: Grade = 2
AWAY: Grade = 3
SERVING: tuple[Grade, Grade, Grade] = (READY, LOW, SHAKY)

# A key is the turn and below it the place; comparing single numbers is what makes heaps fast.
_PLACE_BITS = 20
MOST_PLACES = 1 << _PLACE_BITS
_PLACE = MOST_PLACES - 1
_WEIGHT_ONE = 1 << 20
_SLACK = 64


class Judge(Protocol):
    """What the pool knows of accounts."""

    def standing(self, candidate: Candidate, now: float) -> tuple[Grade, float]:
        """The grade, and until when it holds (monotonic seconds; 0 for READY)."""
        ...

    def load(self, account: str) -> int:
        """How many requests are under way."""
        ...


class Turns:
    def __init__(self, tier: Tier, strategy: Strategy, before: Turns | None = None) -> None:
        """`before` is the tier of the same priority as it was: who is new to it comes in at the turn last taken."""
        self.tier = tier
        self.turn = turn = 0 if before is None else before.turn
        known = {} if before is None else dict(before.turns())
        self._strides = [_stride(candidate, strategy) for candidate in tier.candidates]
        self._is_shared = strategy != "fill-first"
        self._turns = [known.get(candidate.account.id, turn) for candidate in tier.candidates]
        self._grades = bytearray(len(tier.candidates))
        takes_part = [strategy != "weighted" or candidate.account.weight > 0 for candidate in tier.candidates]
        ready = [_key(self._turns[place], place) for place, takes in enumerate(takes_part) if takes]
        heapify(ready)
        self._queues: tuple[list[int], list[int], list[int]] = (ready, [], [])
        self._away: list[tuple[float, int]] = []
        self._worse: list[tuple[float, int]] = []
        self.read = 0
        """How much of the pool's log is known here."""

    def take(self, grade: Grade, judge: Judge, now: float, tried: Set[str], *, is_calm: bool) -> Candidate | None:
        """The next of that grade, its turn taken; None when there is none. `is_calm`: no account of the whole pool
        rests or is low, so that nobody needs to be judged."""
        queue, candidates = self._queues[grade], self.tier.candidates
        grades, turns = self._grades, self._turns
        aside: list[int] = []
        chosen: Candidate | None = None
        while queue:
            key = queue[0]
            place = key & _PLACE
            if grades[place] != grade or key >> _PLACE_BITS != turns[place]:
                heappop(queue)
                continue
            candidate = candidates[place]
            if not is_calm:
                actual, until = judge.standing(candidate, now)
                if actual != grade:
                    heappop(queue)
                    if actual < grade and candidate.account.id not in tried:  # better than anybody had seen
                        turns[place] = max(turns[place], self.turn) + self._strides[place]
                        chosen = candidate
                    self._put(place, actual, until)
                    if chosen is not None:
                        break
                    continue
            if tried and candidate.account.id in tried:
                aside.append(heappop(queue))
                continue
            chosen = self._served(queue, grade, place, judge, now, tried, is_calm=is_calm)
            break
        for key in aside:
            heappush(queue, key)
        return chosen

    def catch_up(self, now: float, woken: Iterable[str] | None) -> None:
        """Bring back whose time has come, and those of `woken`; None brings everybody back, to be looked at anew."""
        for timed in (self._away, self._worse):
            while timed and timed[0][0] <= now:
                self._recall(heappop(timed)[1])
        if woken is None:
            for place in range(len(self._grades)):
                self._recall(place)
            return
        places = self.tier.places
        for account in woken:
            place = places.get(account)
            if place is not None:
                self._recall(place)

    def serves(self, judge: Judge, now: float) -> bool:
        """Whether anybody may be asked, whoever was tried before."""
        for grade in SERVING:
            queue = self._queues[grade]
            while queue:
                place = queue[0] & _PLACE
                if self._grades[place] == grade and queue[0] >> _PLACE_BITS == self._turns[place]:
                    actual, until = judge.standing(self.tier.candidates[place], now)
                    if actual != AWAY:
                        return True
                    self._put(place, actual, until)
                heappop(queue)
        return False

    def earliest(self, judge: Judge, now: float) -> tuple[float, Candidate] | None:
        """Who of those that are away comes back first, and when; infinity when nobody ever will."""
        away = self._away
        while away:
            until, place = away[0]
            candidate = self.tier.candidates[place]
            grade, end = judge.standing(candidate, now)
            if self._grades[place] != AWAY:
                heappop(away)
            elif grade == AWAY and end > until:  # its rest grew since it went
                heapreplace(away, (end, place))
            else:
                return until, candidate
        return None

    def absent(self, most: int) -> Iterator[Candidate]:
        """Up to `most` of those that are not ready, each once."""
        places = dict.fromkeys(place for _, place in (*self._away[:most], *self._worse[:most]))
        return (self.tier.candidates[place] for place in places if self._grades[place])

    @property
    def is_whole(self) -> bool:
        """Whether nobody has left the ready."""
        return not self._away and not self._worse

    def turns(self) -> Iterator[tuple[str, int]]:
        places = zip(self.tier.candidates, self._turns, self._grades, strict=True)
        return ((one.account.id, max(turn, self.turn) if grade else turn) for one, turn, grade in places)

    def _served(
        self, queue: list[int], grade: Grade, place: int, judge: Judge, now: float, tried: Set[str], *, is_calm: bool
    ) -> Candidate:
        turns, candidates = self._turns, self.tier.candidates
        self.turn = max(self.turn, turns[place])
        if not self._is_shared:
            return candidates[place]
        if judge.load(candidates[place].account.id):
            other = self._less_loaded(queue, grade, place, judge, now, tried, is_calm=is_calm)
            if other is not None:
                turns[other] += self._strides[other]
                heappush(queue, _key(turns[other], other))
                return candidates[other]
        turns[place] += self._strides[place]
        heapreplace(queue, _key(turns[place], place))
        return candidates[place]

    def _less_loaded(
        self, queue: list[int], grade: Grade, place: int, judge: Judge, now: float, tried: Set[str], *, is_calm: bool
    ) -> int | None:
        """One of the two behind the first whose turn is the same and who has less to do."""
        turns, candidates = self._turns, self.tier.candidates
        best, least, turn = None, judge.load(candidates[place].account.id), turns[place]
        for key in queue[1:3]:
            other = key & _PLACE
            if key >> _PLACE_BITS != turn or turns[other] != turn or self._grades[other] != grade:
                continue
            account = candidates[other].account.id
            load = judge.load(account)
            if load >= least or account in tried:
                continue
            if is_calm or judge.standing(candidates[other], now)[0] == grade:
                best, least = other, load
        return best

    def _put(self, place: int, grade: Grade, until: float) -> None:
        self._grades[place] = grade
        if grade != AWAY:
            heappush(self._queues[grade], _key(self._turns[place], place))
        if grade != READY:
            timed = self._away if grade == AWAY else self._worse
            heappush(timed, (until, place))
            if len(timed) > 2 * len(self._grades) + _SLACK:
                self._tidy(timed)

    def _tidy(self, timed: list[tuple[float, int]]) -> None:
        """Drop what nobody waits for: of those that went, came back early and went again."""
        latest: dict[int, float] = {}
        for until, place in timed:
            if self._grades[place]:
                latest[place] = max(until, latest.get(place, 0.0))
        timed[:] = [(until, place) for place, until in latest.items()]
        heapify(timed)

    def _recall(self, place: int) -> None:
        if self._grades[place]:
            self._turns[place] = max(self._turns[place], self.turn)
            self._put(place, READY, 0.0)


def _key(turn: int, place: int) -> int:
    return turn << _PLACE_BITS | place


def _stride(candidate: Candidate, strategy: Strategy) -> int:
    if strategy == "round-robin":
        return 1
    return _WEIGHT_ONE // min(max(candidate.account.weight, 1), _WEIGHT_ONE) if strategy == "weighted" else 0
