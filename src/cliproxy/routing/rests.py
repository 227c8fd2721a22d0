"""Rests: when accounts began to rest, why, until when, and how a rest ends.

Each belongs to one model of an account, or to all of it. A rest that is over stays as the memory of its row, so that the
next guess is a longer one; a request that finds it over tries alone (`claim`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set

from msgspec import Struct

from cliproxy.routing.catalog import Candidate
from cliproxy.routing.health import Kept, Rest
from cliproxy.routing.turns import AWAY, READY, SHAKY, Grade
from cliproxy.routing.verdict import FOREVER, POLICIES, Fault, Policy, Source, Verdict

_PROBE_SECONDS = 10.0
"""How long one request has an account to itself whose rest is over; then the next may try."""
_MEMORY_SECONDS = 3600.0
_SOFT_MEMORY_SECONDS = 60.0
"""How long a rest that is over still counts as the previous one of a row."""
_MOST_DOUBLINGS = 16
_JITTER = 0.3
_MOST_STATED_JITTER = 1.0
_MOST_RESTS = 65_536

_NO_RESTS: Mapping[str, Rest] = {}


class Absence(Struct, frozen=True, gc=False):
    """Why an account was passed over. `model` "" is all of the account; `until` is monotonic seconds, and the end of a try
    where a request tries at the moment whether the rest is over (`is_tried`)."""

    candidate: Candidate
    model: str
    cause: Fault
    until: float
    source: Source
    is_soft: bool = False
    is_tried: bool = False


class Rests:
    """`by_account` has them by account and model, "" for all of the account. `on_end` hears of accounts that may be back early. `chance` gives
    numbers between 0 and 1."""

    def __init__(self, chance: Callable[[], float], on_end: Callable[[str], None]) -> None:
        self._chance = chance
        self._on_end = on_end
        self.by_account: dict[str, dict[str, Rest]] = {}
        self._count = 0
        self._prune_at = 1024
        self._changed: set[tuple[str, str]] = set()

    def __bool__(self) -> bool:
        return bool(self.by_account)

    def __len__(self) -> int:
        return self._count

    def of(self, account: str) -> Mapping[str, Rest]:
        """Its rests by model; those that are over too, as long as they are remembered."""
        return self.by_account.get(account, _NO_RESTS)

    def standing(self, candidate: Candidate, now: float) -> tuple[Grade, float]:
        """READY, SHAKY or AWAY, and until when (0 for READY)."""
        rests = self.by_account.get(candidate.account.id)
        if not rests:
            return READY, 0.0
        grade, until = READY, 0.0
        for key in ("", candidate.model):
            rest = rests.get(key)
            if rest is None or rest.until <= rest.started:
                continue
            end = max(rest.until, rest.probing_until)
            mine = SHAKY if rest.is_soft else AWAY
            if end > now and mine >= grade:
                grade, until = mine, end if mine > grade else max(until, end)
        return grade, until

    def absence(self, candidate: Candidate, now: float) -> Absence | None:
        """The rest that keeps a candidate from being asked, or from being asked in its turn."""
        worst: Absence | None = None
        for key, rest in self.of(candidate.account.id).items():
            if key in ("", candidate.model) and rest.until > rest.started:
                end = max(rest.until, rest.probing_until)
                if end > now and (worst is None or (not rest.is_soft, end) > (not worst.is_soft, worst.until)):
                    is_tried = rest.probing_until > now
                    worst = Absence(candidate, key, rest.cause, end, rest.source, rest.is_soft, is_tried)
        return worst

    # -- what requests say

    def begin(self, account: str, key: str, asked_at: float, now: float, verdict: Verdict) -> None:
        """A request that was sent at `asked_at` failed."""
        policy = POLICIES[verdict.fault]
        before = self.by_account.get(account, {}).get(key)
        if before is not None and policy.is_soft and not before.is_soft and before.until > before.started:
            return  # a vendor that fails says nothing of a quota: that one is still to be tried, by one request
        if before is not None and asked_at < before.started and (policy.is_soft or not before.is_soft):
            self._lengthen(account, key, before, now, verdict)
            return
        count = 1
        if before is not None and _is_of_a_row(before, verdict.fault, now):
            count += before.count
        seconds = self._seconds(policy, count, verdict.wait)
        rest = Rest(
            verdict.fault,
            "guess" if verdict.wait is None else verdict.source,
            verdict.problem.status,
            verdict.evidence,
            now,
            now + seconds,
            count,
            0 if before is None else before.probes,
        )
        self._keep(account, key, rest, now)
        if before is not None and max(before.until, before.probing_until) > rest.until:
            self._on_end(account)

    def prove(self, candidate: Candidate, asked_at: float) -> None:
        """A request that was sent at `asked_at` went well: what had begun before is over."""
        account = candidate.account.id
        rests = self.of(account)
        proved = [key for key in (candidate.model, "") if (rest := rests.get(key)) and rest.started <= asked_at]
        self._forget(account, proved)

    def claim(self, candidate: Candidate, now: float) -> float:
        """The request that finds a rest over tries alone, up to the moment that is returned; 0 when there is nothing to
        try."""
        until = 0.0
        rests = self.of(candidate.account.id)
        for key in (candidate.model, ""):
            rest = rests.get(key)
            if rest is not None and rest.started < rest.until <= now and rest.probing_until <= now:
                rest.probing_until = until = now + _PROBE_SECONDS
                rest.probes += 1
        return until

    def unclaim(self, candidate: Candidate, claimed_until: float, now: float) -> None:
        """Whoever tried has said nothing: the next may."""
        rests = self.of(candidate.account.id)
        for key in (candidate.model, ""):
            rest = rests.get(key)
            if rest is not None and rest.probing_until == claimed_until:
                rest.probing_until = 0.0
                if rest.until <= now:
                    self._on_end(candidate.account.id)

    def end(self, account: str, causes: Set[Fault] | None = None) -> frozenset[str]:
        """End rests of one account at once: all, or those of some causes. The models that it rested for."""
        ended = [model for model, rest in self.of(account).items() if causes is None or rest.cause in causes]
        self._forget(account, ended)
        return frozenset(ended)

    # -- from one process to the next

    def take_changed(self) -> set[tuple[str, str]]:
        """The keys (account, model) of rests that changed or went since the last call."""
        changed, self._changed = self._changed, set()
        return changed

    def kept(self, key: tuple[str, str], now: float, now_at: float) -> Kept | None:
        """A rest in epoch seconds, to be kept beyond this process; None when there is none worth it."""
        account, model = key
        rest = self.of(account).get(model)
        if rest is None or rest.until <= rest.started:
            return None
        until_at = None if rest.until == FOREVER else now_at + rest.until - now
        started_at = now_at + rest.started - now
        return Kept(
            account, model, rest.cause, rest.source, rest.status, rest.evidence, started_at, until_at, rest.count,
            rest.probes,
        )  # fmt: skip

    def restore(self, kept: Kept, now: float, now_at: float) -> None:
        """Take a rest over from an earlier process."""
        until = FOREVER if kept.until_at is None else now + kept.until_at - now_at
        started = min(now + kept.started_at - now_at, until - 1e-6)
        rest = Rest(kept.cause, kept.source, kept.status, kept.evidence, started, until, kept.count, kept.probes)
        self._keep(kept.account, kept.model, rest, now)

    # -- keeping count

    def _seconds(self, policy: Policy, count: int, stated: float | None) -> float:
        """How long the `count`th rest of a row lasts. Who was told the same moment does not come back at the same one."""
        if stated is None:
            doublings = min(count - 1 - policy.is_soft, _MOST_DOUBLINGS)
            guess = policy.first_rest * 2**doublings if doublings >= 0 else 0.0
            return min(guess * (1 + _JITTER * (self._chance() - 0.5)), policy.longest_rest)
        seconds = min(stated, policy.longest_rest) if policy.is_soft else stated
        return seconds if seconds == FOREVER else seconds + self._chance() * min(_MOST_STATED_JITTER, seconds / 50)

    def _lengthen(self, account: str, key: str, rest: Rest, now: float, verdict: Verdict) -> None:
        """A fault of a request that was under way when the rest began: no news, but for a time that a guess lacks, or
        that is later."""
        if verdict.wait is None or POLICIES[verdict.fault].is_soft or rest.is_soft:
            return
        until = now + verdict.wait
        if rest.source == "guess" or until > rest.until:
            rest.cause, rest.source, rest.until = verdict.fault, verdict.source, until
            rest.status, rest.evidence = verdict.problem.status, verdict.evidence
            self._changed.add((account, key))
            self._on_end(account)

    def _keep(self, account: str, key: str, rest: Rest, now: float) -> None:
        rests = self.by_account.setdefault(account, {})
        self._count += key not in rests
        rests[key] = rest
        self._changed.add((account, key))
        if self._count > self._prune_at:
            self._prune(now)

    def _forget(self, account: str, keys: Iterable[str]) -> None:
        rests = self.by_account.get(account)
        if rests is None or not keys:
            return
        for key in keys:
            if rests.pop(key, None) is not None:
                self._count -= 1
                self._changed.add((account, key))
        if not rests:
            del self.by_account[account]
        self._on_end(account)

    def _prune(self, now: float) -> None:
        """Drop what was over long ago; beyond the bound also the oldest. Amortized: the next look is at twice as many."""
        for account, rests in list(self.by_account.items()):
            for key, rest in list(rests.items()):
                if rest.until + _MEMORY_SECONDS <= now:
                    self._drop(account, key)
        for account in list(self.by_account):
            if self._count <= _MOST_RESTS:
                break
            for key in list(self.by_account[account]):
                self._drop(account, key)
            self._on_end(account)
        self._prune_at = max(1024, min(2 * self._count, _MOST_RESTS + 1024))

    def _drop(self, account: str, key: str) -> None:
        rests = self.by_account[account]
        del rests[key]
        self._count -= 1
        self._changed.add((account, key))
        if not rests:
            del self.by_account[account]


_SOFT_FAULTS: frozenset[Fault] = frozenset(fault for fault, policy in POLICIES.items() if policy.is_soft)


def _is_of_a_row(before: Rest, fault: Fault, now: float) -> bool:
    """Whether a fault is the next one after `before`: of the same kind, and not long after."""
    if fault in _SOFT_FAULTS:
        return before.cause in _SOFT_FAULTS and before.until + _SOFT_MEMORY_SECONDS > now
    return before.cause == fault and before.until + _MEMORY_SECONDS > now
