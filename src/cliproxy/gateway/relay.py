"""From an opened call to a finished answer: the loop over accounts.

Until the first content reaches the caller every failure may be answered by another account, or by another model where
the configuration has one; `gateway/asking.py` is one try. A caller who leaves cancels the task. Each lease is settled by
what the upstream said, as soon as it has said something, and ended exactly once, also when the caller left: a stream may
go on for minutes between the two.
"""

import asyncio
import contextlib
import logging

from cliproxy.canon.errors import GatewayError, ModelNotFound
from cliproxy.gateway.affinity import may_follow
from cliproxy.gateway.asking import Attempt, Failure, timing
from cliproxy.gateway.attempts import OVERALL_SECONDS, Attempts
from cliproxy.gateway.calls import Call
from cliproxy.gateway.exchange import Exchange
from cliproxy.gateway.keepalive import Keepalive
from cliproxy.gateway.runtime import Runtime
from cliproxy.gateway.snapshot import Snapshot
from cliproxy.gateway.tally import LEFT, Absent
from cliproxy.routing.catalog import Route
from cliproxy.routing.pool import Lease
from cliproxy.routing.session import Session
from cliproxy.routing.verdict import Verdict

_log = logging.getLogger(__name__)

_MOST_ABSENCES = 32
"""So many of those that were passed over are noted."""
_OUT_OF_QUOTA = frozenset({"rate_limit", "quota"})


async def relay(runtime: Runtime, snapshot: Snapshot, call: Call, exchange: Exchange) -> None:
    """Serve `call` from the first account that can, and count it. Raises GatewayError while nothing but keep-alives
    was sent."""
    tally = call.tally
    tally.began = runtime.monotonic()
    try:
        await _relayed(runtime, snapshot, call, exchange)
    except GatewayError as error:
        tally.status, tally.problem = error.problem.status, error.problem
        if tally.tries:
            exchange.extra += (timing(tally, runtime.monotonic()),)
        raise
    except asyncio.CancelledError:
        tally.status = LEFT
        raise
    finally:
        runtime.note(tally, call.request_id)


async def _relayed(runtime: Runtime, snapshot: Snapshot, call: Call, exchange: Exchange) -> None:
    target = snapshot.resolve(call.model)
    if target is None:
        raise ModelNotFound(f"No account serves the model `{call.model}`; see the list of models.", param="model")
    call.thinking = target.thinking
    serve = _from_the_first if snapshot.config.models.fallbacks else _attempted
    if not call.is_stream:
        await serve(runtime, snapshot, call, exchange, target.route, None)
        return
    keepalive = Keepalive(snapshot.config.streaming.keepalive_seconds, exchange, call)
    try:
        await serve(runtime, snapshot, call, exchange, target.route, keepalive)
    finally:
        keepalive.stop()


def _fallbacks(snapshot: Snapshot, asked: Route) -> tuple[Route, ...]:
    """What may be served in place of a model that is out of quota on all of its accounts."""
    config = snapshot.config
    if not config.quota_exceeded.switch_preview_model:
        return ()
    targets = (snapshot.resolve(name) for name in config.models.fallbacks.get(asked.model, ()))
    return tuple(target.route for target in targets if target is not None)


async def _from_the_first(
    runtime: Runtime,
    snapshot: Snapshot,
    call: Call,
    exchange: Exchange,
    asked: Route,
    keepalive: Keepalive | None,
) -> None:
    """Serve from `asked`, or the first of its fallbacks that can when it is out of quota, and say which that is. When
    none can, what is told is about the model that was asked for."""
    plain, fallbacks = exchange.extra, _fallbacks(snapshot, asked)
    try:
        await _attempted(runtime, snapshot, call, exchange, asked, keepalive, may_wait=not fallbacks)
        return
    except GatewayError as error:
        if error.problem.kind not in _OUT_OF_QUOTA:
            raise
        refusal, told = error, exchange.extra
    for route in fallbacks:
        if runtime.monotonic() - call.tally.began >= OVERALL_SECONDS:
            break
        _log.info("%s %s: out of quota, `%s` is tried in its place", call.request_id, call.model, route.model)
        exchange.extra = (*plain, (b"x-cliproxy-model", route.model.encode("ascii", "replace")))
        with contextlib.suppress(GatewayError):
            await _attempted(runtime, snapshot, call, exchange, route, keepalive, may_wait=False)
            return
    exchange.extra = told
    raise refusal


async def _attempted(
    runtime: Runtime,
    snapshot: Snapshot,
    call: Call,
    exchange: Exchange,
    route: Route,
    keepalive: Keepalive | None,
    *,
    may_wait: bool = True,
) -> None:
    """`may_wait`: for accounts that rest; where there is another model to be served instead, that comes first."""
    pool, tally, now = runtime.pool, call.tally, runtime.monotonic()
    tally.routes += (route.outline,)
    session, begins = _session(runtime, snapshot, call, route)
    attempts: Attempts | None = None  # most requests are served by whom they ask first, and need no budget
    while True:
        lease = attempts.next(pool, now) if attempts else pool.acquire(route, now, session=session)
        if pool.rests and (absences := pool.absences(route, now, _MOST_ABSENCES)):
            tally.absent = Absent(route.model, now, tuple(absences))
        if lease is None:
            attempts = attempts or Attempts(snapshot.config, route, tally.began, session, may_wait=may_wait)
            pause = attempts.wait(pool, now)
            if pause is None:
                exchange.extra += attempts.told
                raise attempts.final(pool, now)
            if pause:
                await runtime.until_woken(pause)
                seconds = runtime.monotonic() - now
                now += seconds
                tally.waits += (seconds,)
                attempts.waited(seconds)
            continue
        attempt = Attempt(runtime, snapshot, call, exchange, lease, keepalive, now)
        try:
            await attempt.run()
            if begins:
                runtime.bindings.begin(call.dialect, call.body, lease, route.model)
            return
        except Failure as failure:
            now = runtime.monotonic()
            attempt.settle(failure.verdict)
            _note(call, lease, failure.verdict)
            told = attempt.told_limits(failure.headers)
            attempts = attempts or Attempts(snapshot.config, route, tally.began, session, may_wait=may_wait)
            if not attempts.failed(lease, failure.verdict, told, runtime.random.random(), now):
                exchange.extra += attempts.told
                raise attempts.final(pool, now) from failure
        finally:
            pool.release(lease, now if lease.is_settled else runtime.monotonic())


def _session(runtime: Runtime, snapshot: Snapshot, call: Call, route: Route) -> tuple[Session | None, bool]:
    """The conversation, where there is a choice between accounts; and whether it may begin here, so that only who
    answers is to be remembered."""
    tiers = route.tiers
    if not snapshot.config.routing.session_affinity or (len(tiers) == 1 and len(tiers[0].candidates) == 1):
        return None, False
    if not may_follow(call.dialect, call.headers, call.body):
        return None, True
    runtime.bindings.settle()
    return call.session, False


def _note(call: Call, lease: Lease, verdict: Verdict) -> None:
    account, problem = lease.candidate.account, verdict.problem
    _log.info("%s %s: %s answered %d (%s)", call.request_id, call.model, account.label, problem.status, verdict.fault)
