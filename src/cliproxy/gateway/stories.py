"""What became of one request, as values: a line for lists, and all about it.

The shapes are those of the Management API. Everything in them is told from what the request left, and bounded.
"""

from __future__ import annotations

from msgspec import Struct

from cliproxy.canon.errors import Kind, Problem
from cliproxy.gateway.decisions import Decision
from cliproxy.gateway.explaining import Clock, plain, rfc3339
from cliproxy.gateway.retelling import (
    CHOSEN,
    PROBLEMS,
    AttemptOutcome,
    Outcome,
    asked_sentence,
    clock_of,
    gap_before,
    meaning_of,
    outcome_of,
    outcome_of_attempt,
    passed_over,
    passed_sentence,
    sentence_of,
    sentences_of,
    status_of,
)
from cliproxy.gateway.tally import Tally
from cliproxy.routing.catalog import Outline
from cliproxy.routing.pool import Why
from cliproxy.routing.rests import Absence
from cliproxy.routing.verdict import FOREVER, Fault, Scope, Source

_LONGEST_CODE = 80


class Line(Struct, frozen=True, kw_only=True):
    """One request in a list. `model` is the caller's name, `served_model` the vendor's; `account` is the id and `label`
    the name of the account that was asked last."""

    id: str
    number: int
    at: str
    model: str
    served_model: str | None
    dialect: str
    stream: bool
    status: int
    outcome: Outcome
    account: str | None
    label: str | None
    attempts: int
    duration_ms: int
    sentence: str


class TierShown(Struct, frozen=True):
    priority: int
    count: int


class RouteShown(Struct, frozen=True):
    model: str
    count: int
    tiers: list[TierShown]


class Passed(Struct, frozen=True, kw_only=True):
    """`model` None: all of the account."""

    account: str
    label: str
    model: str | None
    cause: Fault
    scope: Scope
    until: str | None
    is_soft: bool
    text: str


class LossShown(Struct, frozen=True):
    path: str
    action: str
    reason: str


class AttemptShown(Struct, frozen=True, kw_only=True):
    """One account that was asked. `status` is None where no vendor answered; `waited_ms` is what passed between the
    attempt before and this one; `first_content_ms` from asking to the first content, or to the refusal."""

    account: str
    label: str
    provider: str
    model: str
    began: str
    waited_ms: int
    first_content_ms: int | None
    outcome: AttemptOutcome
    status: int | None
    fault: Fault | None
    scope: Scope | None
    wait: float | None
    source: Source | None
    evidence: str
    why: Why
    chosen: str
    is_probe: bool
    has_session: bool
    losses: list[LossShown]
    text: str
    means: str


class Timings(Struct, frozen=True, kw_only=True):
    """Milliseconds. `upstream`: the last attempt, from asking to the first content; `retries`: what came before it, its
    pauses included; `gateway`: the rest up to the first content; `waits`: pauses."""

    gateway_ms: int
    upstream_ms: int
    retries_ms: int
    waits_ms: int
    total_ms: int


class ProblemShown(Struct, frozen=True, kw_only=True):
    kind: Kind
    status: int
    code: str
    retry_after: float | None
    text: str


class Story(Struct, frozen=True, kw_only=True):
    """All about one request. `passed_over` are those that were not asked, as far as anybody had looked; `waits` are
    pauses in seconds."""

    id: str
    number: int
    at: str
    model: str
    served_model: str | None
    dialect: str
    stream: bool
    status: int
    outcome: Outcome
    duration_ms: int
    summary: str
    candidates: RouteShown | None
    fallbacks: list[RouteShown]
    passed_over: list[Passed]
    attempts: list[AttemptShown]
    waits: list[float]
    timings: Timings
    problem: ProblemShown | None


def line_of(decision: Decision) -> Line:
    tally = decision.tally
    last = tally.tries[-1] if tally.tries else None
    account = None if last is None else last.lease.candidate.account
    return Line(
        id=decision.request_id,
        number=decision.number,
        at=rfc3339(decision.ended_at - decision.seconds),
        model=plain(tally.asked),
        served_model=_served_model(tally),
        dialect=tally.dialect,
        stream=tally.is_stream,
        status=tally.status,
        outcome=outcome_of(tally),
        account=None if account is None else account.id,
        label=None if account is None else plain(account.label),
        attempts=len(tally.tries),
        duration_ms=_ms(decision.seconds),
        sentence=sentence_of(decision),
    )


def story_of(decision: Decision) -> Story:
    tally = decision.tally
    clock = clock_of(decision)
    routes = [_route(route) for route in tally.routes]
    return Story(
        id=decision.request_id,
        number=decision.number,
        at=rfc3339(decision.ended_at - decision.seconds),
        model=plain(tally.asked),
        served_model=_served_model(tally),
        dialect=tally.dialect,
        stream=tally.is_stream,
        status=tally.status,
        outcome=outcome_of(tally),
        duration_ms=_ms(decision.seconds),
        summary=" ".join(sentences_of(decision)),
        candidates=routes[0] if routes else None,
        fallbacks=routes[1:],
        passed_over=[_passed(absence, clock) for absence in passed_over(tally)],
        attempts=[_attempt(decision, clock, index) for index in range(len(tally.tries))],
        waits=[round(seconds, 3) for seconds in tally.waits],
        timings=_timings(decision),
        problem=None if tally.problem is None else _problem(tally.problem),
    )


def _served_model(tally: Tally) -> str | None:
    last = tally.tries[-1] if tally.tries else None
    return plain(last.lease.candidate.model) if last is not None and last.is_answered else None


def _route(route: Outline) -> RouteShown:
    tiers = [TierShown(priority, count) for priority, count in route.tiers]
    return RouteShown(plain(route.model), sum(tier.count for tier in tiers), tiers)


def _passed(absence: Absence, clock: Clock) -> Passed:
    account = absence.candidate.account
    return Passed(
        account=account.id,
        label=plain(account.label),
        model=plain(absence.model) or None,
        cause=absence.cause,
        scope="model" if absence.model else "account",
        until=None if absence.until == FOREVER else rfc3339(clock.at(absence.until)),
        is_soft=absence.is_soft,
        text=passed_sentence(absence, clock),
    )


def _attempt(decision: Decision, clock: Clock, index: int) -> AttemptShown:
    tries = decision.tally.tries
    attempt, verdict = tries[index], tries[index].verdict
    lease = attempt.lease
    account = lease.candidate.account
    return AttemptShown(
        account=account.id,
        label=plain(account.label),
        provider=account.provider,
        model=plain(lease.candidate.model),
        began=rfc3339(clock.at(attempt.began)),
        waited_ms=_ms(gap_before(decision.tally, index)),
        first_content_ms=_ms(attempt.spoke - attempt.sent) if attempt.spoke and attempt.sent else None,
        outcome=outcome_of_attempt(attempt),
        status=status_of(attempt),
        fault=None if verdict is None else verdict.fault,
        scope=None if verdict is None else verdict.scope,
        wait=None if verdict is None or verdict.wait in (None, FOREVER) else verdict.wait,
        source=None if verdict is None or verdict.scope == "none" else verdict.source,
        evidence="" if verdict is None else plain(verdict.evidence),
        why=lease.why,
        chosen=CHOSEN[lease.why],
        is_probe=lease.is_probe,
        has_session=lease.session is not None,
        losses=[LossShown(loss.path, loss.action, loss.reason) for loss in attempt.losses],
        text=asked_sentence(decision, index),
        means=meaning_of(attempt),
    )


def _timings(decision: Decision) -> Timings:
    tally, tries = decision.tally, decision.tally.tries
    end = tally.began + decision.seconds
    upstream = retries = 0.0
    until = end
    if tries:
        last = tries[-1]
        until = last.spoke or end
        upstream = until - last.sent if last.sent else 0.0
        retries = last.began - tries[0].began
    ours = until - tally.began - upstream - retries
    return Timings(
        gateway_ms=_ms(ours),
        upstream_ms=_ms(upstream),
        retries_ms=_ms(retries),
        waits_ms=_ms(sum(tally.waits)),
        total_ms=_ms(decision.seconds),
    )


def _ms(seconds: float) -> int:
    return max(round(seconds * 1000), 0)


def _problem(problem: Problem) -> ProblemShown:
    return ProblemShown(
        kind=problem.kind,
        status=problem.status,
        code=plain(problem.code, _LONGEST_CODE),
        retry_after=None if problem.retry_after == FOREVER else problem.retry_after,
        text=PROBLEMS[problem.kind],
    )
