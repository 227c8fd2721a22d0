"""From an opened call to a finished answer: the loop over accounts, and the stream once an account has spoken.

Invariants:

* Until the first content reaches the caller every failure may be answered by another account; handshake frames are
  held back for that. After it, a failure ends the stream with one error frame of the caller's dialect: never a second
  answer, never a clean end.
* A caller who leaves cancels the task; the upstream's connection is cut on the way out, in every state.
* Each lease is settled once, unless the caller left.
"""

import asyncio
import logging
from typing import NoReturn

from cliproxy.canon.errors import ModelNotFound, Problem, UpstreamFault
from cliproxy.dialects.base import Echo
from cliproxy.gateway.attempts import Attempts
from cliproxy.gateway.bridge import (
    Flow,
    PassingFlow,
    TranslatingFlow,
    events_of_stream,
    passed_whole,
    translated_whole,
)
from cliproxy.gateway.calls import Call, Prepared
from cliproxy.gateway.exchange import Exchange
from cliproxy.gateway.runtime import Runtime
from cliproxy.gateway.snapshot import Snapshot
from cliproxy.providers.base import Ask, Upstream, verdict_of
from cliproxy.routing.pool import Lease
from cliproxy.routing.verdict import Verdict
from cliproxy.transport.base import UpstreamAnswer
from cliproxy.wire.http import Headers, header

_log = logging.getLogger(__name__)

MAX_ANSWER_BYTES = 256 * 1024 * 1024
_MAX_ERROR_BYTES = 1024 * 1024
_JSON: Headers = ((b"content-type", b"application/json"),)
_UNBUFFERED: Headers = ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))
_TOLD = frozenset({b"retry-after", b"retry-after-ms", b"request-id", b"x-should-retry", b"openai-processing-ms"})
_TOLD_PREFIXES = (b"x-ratelimit-", b"anthropic-ratelimit-", b"x-codex-")


class _Failure(Exception):
    """An attempt failed; the verdict says what that means."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.fault)
        self.verdict = verdict


async def relay(runtime: Runtime, snapshot: Snapshot, call: Call, exchange: Exchange) -> None:
    """Serve `call` from the first account that can. Raises GatewayError while nothing but keep-alives was sent."""
    target = snapshot.resolve(call.model)
    if target is None:
        raise ModelNotFound(f"No account serves the model `{call.model}`; see the list of models.", param="model")
    call.thinking = target.thinking
    route, pool = target.route, runtime.pool
    attempts = Attempts(snapshot.config, runtime.monotonic())
    keepalive = Keepalive(snapshot.config.streaming.keepalive_seconds, exchange, call) if call.is_stream else None
    try:
        while True:
            lease = pool.acquire(route, runtime.monotonic(), attempts.tried)
            if lease is None:
                pause = attempts.start_over(runtime.random.random())
                if pause is None:
                    raise attempts.final(pool, route, runtime.monotonic())
                await asyncio.sleep(pause)
                continue
            attempt = _Attempt(runtime, snapshot, call, exchange, lease, keepalive)
            try:
                await attempt.run()
                return
            except _Failure as failure:
                now = runtime.monotonic()
                pool.release(lease, now, failure.verdict)
                _note(call, lease, failure.verdict)
                if not attempts.failed(lease, failure.verdict, now):
                    raise attempts.final(pool, route, now) from failure
    finally:
        if keepalive is not None:
            keepalive.stop()


def _note(call: Call, lease: Lease, verdict: Verdict) -> None:
    account, problem = lease.candidate.account, verdict.problem
    _log.info("%s %s: %s answered %d (%s)", call.request_id, call.model, account.label, problem.status, verdict.fault)


class _Attempt:
    """One try with one account."""

    __slots__ = ("call", "exchange", "keepalive", "lease", "prepared", "runtime", "snapshot", "upstream")

    def __init__(
        self,
        runtime: Runtime,
        snapshot: Snapshot,
        call: Call,
        exchange: Exchange,
        lease: Lease,
        keepalive: "Keepalive | None",
    ) -> None:
        self.runtime = runtime
        self.snapshot = snapshot
        self.call = call
        self.exchange = exchange
        self.lease = lease
        self.keepalive = keepalive
        self.upstream: Upstream = snapshot.upstreams[lease.candidate.account.id]
        self.prepared: Prepared = call.prepare(self.upstream, lease.candidate.model, snapshot)

    async def run(self) -> None:
        """Raises _Failure while another account may still answer."""
        answer = await self._ask()
        try:
            if not 200 <= answer.status < 300:
                await self._refused(answer)
            if self.call.is_stream:
                await self._stream(answer)
            else:
                await self._whole(answer)
        finally:
            answer.close()

    async def _ask(self) -> UpstreamAnswer:
        call, prepared = self.call, self.prepared
        ask = Ask(
            self.lease.candidate.model,
            prepared.body,
            call.headers,
            call.operation,
            call.is_stream,
            prepared.is_native,
        )
        request = self.upstream.provider.request(self.upstream, ask)
        try:
            return await self.runtime.transport.send(request, self.snapshot.deadlines)
        except UpstreamFault as error:
            raise self._failure(error.problem) from error

    async def _refused(self, answer: UpstreamAnswer) -> NoReturn:
        try:
            body = await answer.read(_MAX_ERROR_BYTES)
        except UpstreamFault:
            body = b""
        now_at = self.runtime.epoch()
        verdict = self.upstream.provider.judge(self.upstream, answer.status, answer.headers, body, now_at)
        raise _Failure(verdict)

    def _failure(self, problem: Problem, headers: Headers = ()) -> _Failure:
        return _Failure(verdict_of(problem, headers, self.runtime.epoch()))

    def _succeeded(self) -> None:
        self.runtime.pool.release(self.lease, self.runtime.monotonic())

    def _told_headers(self, answer: UpstreamAnswer) -> Headers:
        """What the upstream said of limits, for callers that understand its words."""
        if not self.prepared.is_native:
            return ()
        return tuple(pair for pair in answer.headers if pair[0] in _TOLD or pair[0].startswith(_TOLD_PREFIXES))

    @property
    def _renamed(self) -> str:
        """The caller's name for the model where the upstream's differs."""
        return self.call.model if self.call.model != self.lease.candidate.model else ""

    # -- whole answers

    async def _whole(self, answer: UpstreamAnswer) -> None:
        try:
            body = self._answered(answer, await answer.read(MAX_ANSWER_BYTES))
        except UpstreamFault as error:
            raise self._failure(error.problem, answer.headers) from error
        self._succeeded()
        await self.exchange.reply(200, _JSON + self._told_headers(answer), body)

    def _answered(self, answer: UpstreamAnswer, body: bytes) -> bytes:
        """The caller's body. Raises UpstreamFault when the upstream's is no complete answer."""
        call, upstream = self.call, self.upstream
        is_stream = header(answer.headers, b"content-type").startswith(b"text/event-stream")
        if self.prepared.is_native and not is_stream:
            return passed_whole(call.dialect, body, self._renamed)
        dialect = upstream.dialect
        events = events_of_stream(dialect.reader(), body) if is_stream else dialect.read_answer(body)
        return translated_whole(events, self.prepared.names, call.dialect, self._echo())

    def _echo(self) -> Echo:
        return self.call.echo(self.call.request_id.removeprefix("req_"), self.runtime.epoch())

    # -- streams

    async def _stream(self, answer: UpstreamAnswer) -> None:
        flow = self._flow(answer)
        held, is_over = await self._until_content(answer, flow)
        answered = self._succeeded
        if is_over and flow.problem is not None:
            answered = self._broke_off
        answered()
        headers = ((b"content-type", self.call.dialect.stream_type), *_UNBUFFERED, *self._told_headers(answer))
        exchange, keepalive = self.exchange, self.keepalive
        assert keepalive is not None
        keepalive.flow = flow
        if exchange.is_started:
            await exchange.send(held)
        else:
            await exchange.start(200, headers, held)
        if not is_over:
            await self._pump(answer, flow, keepalive)
        keepalive.stop()
        await exchange.finish()

    def _flow(self, answer: UpstreamAnswer) -> Flow:
        call = self.call
        is_events = header(answer.headers, b"content-type").startswith(b"text/event-stream")
        if self.prepared.is_native and is_events:
            return PassingFlow(call.dialect, self._renamed)
        return TranslatingFlow(self.upstream.dialect.reader(), call.dialect.writer(self._echo()), self.prepared.names)

    async def _until_content(self, answer: UpstreamAnswer, flow: Flow) -> tuple[bytes, bool]:
        """The bytes up to and with the first content, and whether the stream is already over."""
        held: list[bytes] = []
        try:
            while not flow.has_content:
                piece = await answer.piece()
                held.append(flow.feed(piece) if piece else flow.close())
                if flow.problem is not None and not flow.has_content:
                    raise self._failure(flow.problem, answer.headers)
                if not piece:
                    return b"".join(held), True
        except UpstreamFault as error:
            raise self._failure(error.problem, answer.headers) from error
        return held[0] if len(held) == 1 else b"".join(held), False

    async def _pump(self, answer: UpstreamAnswer, flow: Flow, keepalive: "Keepalive") -> None:
        """The rest of the stream. From here on nothing is tried again."""
        piece, feed, send = answer.piece, flow.feed, self.exchange.send
        try:
            while data := await piece():
                if out := feed(data):
                    keepalive.touch()
                    await send(out)
            out = flow.close()
        except UpstreamFault as error:
            out = flow.fail(error.problem)
            self._broke_off()
        if out:
            await send(out)

    def _broke_off(self) -> None:
        _log.info("%s %s: %s broke off its answer", self.call.request_id, self.call.model, self.upstream.account.label)


class Keepalive:
    """Says something meaningless to a caller when the upstream is silent for `seconds`; 0 = never.

    One timer per stream, re-armed lazily. If the silence comes before the answer has begun, it begins here: from then
    on failures are told inside the stream.
    """

    __slots__ = ("_call", "_exchange", "_last", "_loop", "_seconds", "_timer", "flow")

    def __init__(self, seconds: float, exchange: Exchange, call: Call) -> None:
        self.flow: Flow | None = None
        self._exchange = exchange
        self._call = call
        self._loop = asyncio.get_running_loop()
        self._seconds = seconds
        self._last = self._loop.time()
        self._timer = self._loop.call_later(seconds, self._tick) if seconds else None

    def touch(self) -> None:
        self._last = self._loop.time()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        due = self._last + self._seconds
        now = self._loop.time()
        if now + 0.001 >= due:
            data = self._call.dialect.keepalive if self.flow is None else self.flow.keepalive()
            headers = ((b"content-type", self._call.dialect.stream_type), *_UNBUFFERED)
            self._exchange.nudge(200, headers, data)
            self._last = now
            due = now + self._seconds
        self._timer = self._loop.call_at(due, self._tick)
