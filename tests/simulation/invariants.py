"""What must hold whatever happens: each promise is one named check, made at the moment when it could be broken.

The checks look from outside: at what vendors are asked, what callers get, and how the pool says that accounts stand.
`breaches` are the promises that were broken, each told once, with the seed and the moment; the run goes on.
"""

from __future__ import annotations

from dataclasses import dataclass

from cliproxy.canon.errors import GatewayError
from cliproxy.gateway.runtime import Runtime
from cliproxy.gateway.tally import Try
from cliproxy.routing.catalog import Candidate, Tier
from cliproxy.routing.health import Rest
from cliproxy.routing.pool import Lease
from cliproxy.routing.turns import AWAY, LOW, READY, SHAKY, Grade
from cliproxy.routing.verdict import FOREVER, POLICIES
from simulation.callers import Request
from simulation.vendors import SOFT, Told

OVERALL = 120.0
PROBE = 10.0
_SHORTEST_PAUSE = 0.25
_ROUNDED = 3.1
"""Vendors cut dates to seconds and write whole ones, and a second of jitter comes on top."""
_QUOTA = frozenset({"quota", "exhausted"})
_EPSILON = 1e-3


@dataclass(slots=True)
class _Passed:
    """How often an account that was ready was passed over in its tier, since it last served or was not ready."""

    count: int = 0
    retries: int = 0


class Invariants:
    """`events` counts how often anybody was asked, or a vendor refused. `told` are refusals under way, `latest_end` is
    until when rests may last at most, by account and model (monotonic seconds). `is_even`: nothing has happened so far
    that gives accounts other shares than the strategy says."""

    def __init__(self, seed: int, runtime: Runtime) -> None:
        self.seed = seed
        self.runtime = runtime
        self.breaches: dict[str, str] = {}
        self.told: dict[Lease, Told] = {}
        self.events = 0
        self.latest_end: dict[tuple[str, str], float] = {}
        self.is_even = True
        self._retries = 0
        self._under_way: dict[str, list[tuple[Lease, float]]] = {}
        self._touched: dict[str, int] = {}
        self._woken_at: dict[str, float] = {}
        self._stated: dict[tuple[str, str], tuple[float, float]] = {}
        self._passed: dict[tuple[str, str], _Passed] = {}
        self._shares: dict[tuple[str, int], dict[str, int]] = {}

    def breach(self, name: str, words: str) -> None:
        if name not in self.breaches:
            self.breaches[name] = f"seed {self.seed}, at {self.runtime.monotonic():.3f} s: {name}: {words}"

    def reconfigured(self) -> None:
        """Ranks, shares and strategy may be others from here on."""
        self.is_even = False
        self._passed.clear()

    # -- an account is asked

    def asked(self, request: Request, lease: Lease) -> None:
        """`lease` is about to be asked, for the first time."""
        now = self.runtime.monotonic()
        self.judged(request)
        self._rests_are_kept(lease, now)
        self._effort_is_bounded(request, lease, now)
        self._best_comes_first(request, lease, now)
        account = lease.candidate.account.id
        self._touch(account)
        self._under_way.setdefault(account, []).append((lease, now))

    def _rests_are_kept(self, lease: Lease, now: float) -> None:
        account, model = lease.candidate.account, lease.candidate.model
        under_way = [pair for pair in self._under_way.get(account.id, ()) if not pair[0].is_settled]
        self._under_way[account.id] = under_way
        for key in (model, ""):
            rest = self.runtime.pool.rests.of(account.id).get(key)
            stated, heard = self._stated.get((account.id, key), (0.0, 0.0))
            if stated > now + _EPSILON:
                words = f"{account.label} said at {heard:.3f} that it is used up until {stated:.3f}"
                self.breach("a stated limit is kept to", words)
            if not _is_hard(rest):
                continue
            if rest.until > now:
                self.breach("no call to a resting account", f"{account.label} rests until {rest.until:.3f}")
            for other, at in under_way:
                is_of_rest = not key or other.candidate.model == model
                if is_of_rest and rest.until <= at and now - at < PROBE - _EPSILON:
                    self.breach(
                        "one call probes a rest", f"{account.label} is asked by two at once, {now - at:.3f} s apart"
                    )

    def _effort_is_bounded(self, request: Request, lease: Lease, now: float) -> None:
        config, tally = request.snapshot.config, request.call.tally
        if len(tally.routes) != request.route_number:
            request.route_number, request.first_try, request.began = len(tally.routes), len(tally.tries) - 1, now
        tries = tally.tries[request.first_try :]
        accounts = {one.lease.candidate.account.id for one in tries}
        spent = _spent(tries)
        if now - request.began >= OVERALL:
            self.breach("bounded time", f"another account is asked after {now - request.began:.1f} s")
        if config.max_retry_credentials and len(accounts) > config.max_retry_credentials:
            self.breach("bounded accounts", f"{len(accounts)} were asked of {config.max_retry_credentials}")
        if len(tries) - len(accounts) > config.request_retry:
            self.breach(
                "bounded attempts",
                f"{len(tries)} attempts with {len(accounts)} accounts, {config.request_retry} retries",
            )
        if spent > config.request_retry:
            self.breach("bounded retries", f"{spent} retries were spent of {config.request_retry}")
        before = [one for one in tries[:-1] if one.lease.candidate.account.id == lease.candidate.account.id]
        if before and (last := before[-1]).verdict is not None:
            pause, least = now - last.spoke, min(_SHORTEST_PAUSE, config.max_retry_interval) - _EPSILON
            if last.verdict.scope == "none" or (_spends(last) and pause < least):
                self.breach("no account twice without a pause", f"{pause:.3f} s after {last.verdict.fault}")

    def _best_comes_first(self, request: Request, lease: Lease, now: float) -> None:
        route = request.route
        tries = request.call.tally.tries[request.first_try :]
        limit = request.snapshot.config.max_retry_credentials
        if len(tries) > 1:
            self.is_even = False
            self._retries += 1
        self._passed.pop((route.model, lease.candidate.account.id), None)
        if lease.why == "session":
            return
        tried = {one.lease.candidate.account.id for one in tries}
        if limit and len(tried) >= limit and len(tries) > 1:
            return  # only those that were asked already may be asked
        grade = {"turn": READY, "low": LOW, "shaky": SHAKY}[lease.why]
        mine = lease.candidate.account.priority
        strategy = self.runtime.snapshot.config.routing.strategy
        for tier in route.tiers:
            is_my_tier = tier.priority == mine
            for candidate in tier.candidates:
                if candidate.account.id in tried or (strategy == "weighted" and not candidate.account.weight):
                    continue
                other = self._grade(candidate, now)
                if other != READY:
                    self.is_even = False
                if other < grade or (other == grade and tier.priority > mine):
                    self.breach(
                        "the best comes first",
                        f"{lease.candidate.account.label} serves ({lease.why}) though {candidate.account.label} is {other}",
                    )
                elif is_my_tier and strategy == "round-robin" and lease.why == "turn":
                    self._count_passed(route.model, candidate, tier, is_ready=other == READY, is_first=len(tries) == 1)
            if is_my_tier and self.is_even and lease.why == "turn" and strategy != "fill-first":
                self._count_share(route.model, tier, lease.candidate, is_weighted=strategy == "weighted")

    def _away_until(self, candidate: Candidate, now: float) -> float:
        """Until when nobody may ask an account, by its rests; 0 when it may be asked."""
        rests = self.runtime.pool.rests.of(candidate.account.id)
        ends = (
            max(rest.until, rest.probing_until) for key in (candidate.model, "") if _is_hard(rest := rests.get(key))
        )
        end = max(ends, default=0.0)
        return end if end > now else 0.0

    def _grade(self, candidate: Candidate, now: float) -> Grade:
        if self._away_until(candidate, now):
            return AWAY
        for key in (candidate.model, ""):
            rest = self.runtime.pool.rests.of(candidate.account.id).get(key)
            if rest is not None and rest.until > rest.started and max(rest.until, rest.probing_until) > now:
                return SHAKY
        return self.runtime.pool.standing(candidate, now)[0]

    def _count_passed(self, model: str, candidate: Candidate, tier: Tier, *, is_ready: bool, is_first: bool) -> None:
        key = (model, candidate.account.id)
        if not is_ready:
            self._passed.pop(key, None)
            return
        passed = self._passed.get(key)
        if passed is None:
            passed = self._passed[key] = _Passed(0, self._retries)
        passed.count += is_first
        if passed.count > 2 * (len(tier.candidates) + self._retries - passed.retries):
            self.breach(
                "whoever is ready has a turn", f"{candidate.account.label} was passed over {passed.count} times"
            )

    def _count_share(self, model: str, tier: Tier, chosen: Candidate, *, is_weighted: bool) -> None:
        """From an even beginning no account is ever more than one turn ahead of another's share."""
        shares = self._shares.setdefault((model, tier.priority), {})
        mine = shares[chosen.account.id] = shares.get(chosen.account.id, 0) + 1
        for other in tier.candidates:
            weight = chosen.account.weight / other.account.weight if is_weighted and other.account.weight else 1.0
            if is_weighted and not other.account.weight:
                continue
            if other is not chosen and mine > shares.get(other.account.id, 0) * weight + 1 + _EPSILON:
                self.breach(
                    "fair shares",
                    f"{chosen.account.label} served {mine} times, {other.account.label} {shares.get(other.account.id, 0)}",
                )

    # -- what was said is understood

    def judged(self, request: Request) -> None:
        """Look at the refusals that came since the last look."""
        tries = request.call.tally.tries
        while request.tells < len(tries) and (tries[request.tells].spoke or request.is_over):
            attempt = tries[request.tells]
            request.tells += 1
            told = self.told.pop(attempt.lease, None)
            if attempt.verdict is not None:
                self._is_understood(attempt, told)
            elif attempt.is_answered:
                self._is_proved(attempt.lease)

    def heard(self, lease: Lease, told: Told) -> None:
        """A vendor is about to refuse."""
        self.told[lease] = told
        self._touch(lease.candidate.account.id)

    def _touch(self, account: str) -> None:
        self.events += 1
        self._touched[account] = self.events

    def woken(self, account: str) -> None:
        """Somebody says that it is well again."""
        self._woken_at[account] = self.runtime.monotonic()
        for known in (self._stated, self.latest_end):
            for key in [key for key in known if key[0] == account]:
                del known[key]

    def _is_proved(self, lease: Lease) -> None:
        """A success says that a limit is over that was stated before the request was sent."""
        for key in ("", lease.candidate.model):
            _, heard = self._stated.get((lease.candidate.account.id, key), (0.0, FOREVER))
            if heard <= lease.at:
                del self._stated[lease.candidate.account.id, key]

    def _is_understood(self, attempt: Try, told: Told | None) -> None:
        verdict, account = attempt.verdict, attempt.lease.candidate.account
        assert verdict is not None
        faults = SOFT if told is None else told.faults
        if verdict.fault not in faults:
            self.breach("honest verdicts", f"{account.label} was judged {verdict.fault}, not one of {sorted(faults)}")
        policy = POLICIES[verdict.fault]
        if verdict.scope == "none" or policy.is_soft:
            return
        stated = None if told is None else told.until
        key = (account.id, "" if verdict.scope == "account" else attempt.lease.candidate.model)
        if stated is not None and attempt.spoke > self._woken_at.get(account.id, -1.0):
            self._stated[key] = max(self._stated.get(key, (0.0, 0.0)), (stated, attempt.spoke))
        end = attempt.spoke + policy.longest_rest + _EPSILON if stated is None else stated + _ROUNDED
        end = self.latest_end[key] = max(end, self.latest_end.get(key, 0.0))
        rest = self.runtime.pool.rests.of(account.id).get(key[1])
        if _is_hard(rest) and rest.until > end:
            self.breach("a rest ends in time", f"{account.label} rests until {rest.until:.1f}, {end:.1f} at the latest")
        is_fresh = attempt.spoke == self.runtime.monotonic()
        if is_fresh and stated is not None and (rest is None or rest.until < stated - 0.01):
            until = "not at all" if rest is None else f"until {rest.until:.1f}"
            self.breach("a stated limit is kept to", f"{account.label} rests {until}, {stated:.1f} was stated")

    # -- a request is over

    def over(self, request: Request) -> None:
        """At the very moment when the relay has ended."""
        request.is_over = True
        self.judged(request)
        if wrong := request.wrong():
            self.breach("one whole answer", f"request {request.number}: {wrong}")
        if any(not one.lease.is_released for one in request.call.tally.tries):
            self.breach("every lease ends", f"request {request.number}")
        self._waits_are_bounded(request)
        if request.error is not None:
            self._refusal_is_needed(request, request.error)

    def _waits_are_bounded(self, request: Request) -> None:
        config, tally = request.snapshot.config, request.call.tally
        pauses = sum(_spends(one) for one in tally.tries)
        most = config.max_retry_interval * (pauses + config.quota_exceeded.switch_project)
        if sum(tally.waits) > most + 0.01 * (len(tally.waits) + 1):
            self.breach("bounded waits", f"request {request.number} waited {tally.waits}, {most:.1f} s at most")

    def _refusal_is_needed(self, request: Request, error: GatewayError) -> None:
        now, tally, config = self.runtime.monotonic(), request.call.tally, request.snapshot.config
        tries = tally.tries[request.first_try :]
        if len(tally.routes) != 1:
            return
        tried = {one.lease.candidate.account.id for one in tries}
        strategy = self.runtime.snapshot.config.routing.strategy
        candidates = [one for one in request.route.candidates if strategy != "weighted" or one.account.weight]
        away = [until for one in candidates if (until := self._away_until(one, now))]
        serving = [one for one in candidates if not self._away_until(one, now)]
        unasked = next((one.account.label for one in serving if one.account.id not in tried), "")
        if unasked and not self._had_reason(request, tries, now):
            words = f"request {request.number} was told {error.problem.status} though {unasked} may serve"
            self.breach("no needless refusal", words)
        is_of_quota = error.problem.status == 429 and error.problem.kind in ("rate_limit", "quota")
        first = now if serving else min(away, default=FOREVER)
        if not is_of_quota or not config.quota_exceeded.switch_project or first == FOREVER:
            return
        wait = error.problem.retry_after
        if wait is None or not first - now - _EPSILON <= wait <= first - now + 1 + _EPSILON:
            words = f"request {request.number}: {wait}, the first is back in {first - now:.3f}"
            self.breach("an honest Retry-After", words)
        if request.refused_at is not None and not tries:
            self._has_come_in_vain(request, request.refused_at)

    def _has_come_in_vain(self, request: Request, refused_at: int) -> None:
        """Who came when it was told may be refused again if somebody else has asked since, or a vendor has spoken."""
        for candidate in request.route.candidates:
            account = candidate.account.id
            if self._touched.get(account, 0) > refused_at:
                return
        self.breach("who comes back in time is served", f"request {request.number} was refused again, nobody was asked")

    def _had_reason(self, request: Request, tries: tuple[Try, ...], now: float) -> bool:
        config = request.snapshot.config
        if now - request.began >= OVERALL or _spent(tries) > config.request_retry:
            return True
        if (
            config.max_retry_credentials
            and len({one.lease.candidate.account.id for one in tries}) >= config.max_retry_credentials
        ):
            return True
        last = tries[-1].verdict if tries else None
        if last is None:
            return bool(tries)
        return not POLICIES[last.fault].moves_on or (last.fault in _QUOTA and not config.quota_exceeded.switch_project)

    # -- all is over

    def quiet(self, requests: int, accounts: int) -> None:
        """When nobody asks any more: nothing is left under way, and what is remembered is bounded.

        The sizes are the pool's own affair, hence the look behind its door.
        """
        pool = self.runtime.pool
        loads, rests, sessions, lines = pool._loads, pool.rests.by_account, pool._sessions, pool._lines
        if loads:
            self.breach("loads return to zero", f"{len(loads)} accounts are still busy")
        count = sum(map(len, rests.values()))
        if count != len(pool.rests) or any(not of_account for of_account in rests.values()):
            self.breach("rests are counted", f"{count}, not {len(pool.rests)}")
        if count > 4 * accounts or len(sessions) > requests:
            self.breach("memory is bounded", f"{count} rests, {len(sessions)} sessions")
        for line in lines.values():
            for turns in line.tiers:
                size = len(turns.tier.candidates)
                queued = max(len(turns._away), len(turns._worse), *map(len, turns._queues))
                if queued > 4 * size + 128:
                    self.breach("rings are bounded", f"{queued} entries for {size} accounts")


def _is_hard(rest: Rest | None) -> bool:
    return rest is not None and rest.until > rest.started and not rest.is_soft


def _spends(attempt: Try) -> bool:
    return attempt.verdict is not None and POLICIES[attempt.verdict.fault].spends_retry


def _spent(tries: tuple[Try, ...]) -> int:
    """Retries: one for each soft failure, and one for each account that was waited for while it rested."""
    spent = 0
    rested: set[str] = set()
    for attempt in tries:
        account = attempt.lease.candidate.account.id
        spent += account in rested
        rested.discard(account)
        if _spends(attempt):
            spent += 1
        else:
            rested.add(account)
    return spent
