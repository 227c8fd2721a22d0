"""One account is asked: its answer becomes the caller's, whole or as a stream, or a `Failure` that says what it means.

Invariants:

* Nothing reaches the caller before the first content: handshake frames are held back, but never longer than a keep-alive
  is due, since clients' idle timers count events. After either, a failure ends the stream with one error frame of the
  caller's dialect: never a second answer, never a clean end.
* The upstream's connection is cut on the way out, in every state, unless its answer was read to the end.
"""

import asyncio
import logging
import re
from typing import NoReturn

from cliproxy.canon.errors import Problem, UpstreamFault, UpstreamTimeout
from cliproxy.canon.losses import Loss
from cliproxy.dialects.base import Echo
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
from cliproxy.gateway.keepalive import UNBUFFERED, Keepalive
from cliproxy.gateway.recording import record_of_failure
from cliproxy.gateway.runtime import Runtime
from cliproxy.gateway.snapshot import Snapshot
from cliproxy.gateway.tally import Counted, Tally
from cliproxy.providers.base import Ask, Refusal, Upstream, told_without, verdict_of, without_secret
from cliproxy.routing.pool import Lease
from cliproxy.routing.verdict import Verdict
from cliproxy.transport.base import UpstreamAnswer
from cliproxy.wire.http import Headers, header
from cliproxy.wire.secrets import Secret

_log = logging.getLogger(__name__)

_MAX_ANSWER_BYTES = 256 * 1024 * 1024
_MAX_ERROR_BYTES = 1024 * 1024
_MAX_HELD_BYTES = 1024 * 1024
_JSON: Headers = ((b"content-type", b"application/json"),)
_MOST_LOSSES, _MOST_LOSSES_BYTES = 50, 2048
_UNFIT = re.compile(r"[^\x20-\x7e]")
_WAITS = frozenset({b"retry-after", b"retry-after-ms"})
_TOLD = _WAITS | {b"request-id", b"x-should-retry", b"openai-processing-ms"}
_TOLD_PREFIXES = (b"x-ratelimit-", b"anthropic-ratelimit-", b"x-codex-")


class Failure(Exception):
    """An attempt failed; the verdict says what that means. `headers` are the upstream's."""

    def __init__(self, verdict: Verdict, headers: Headers = ()) -> None:
        super().__init__(verdict.fault)
        self.verdict = verdict
        self.headers = headers


class Attempt:
    """One try with one account."""

    __slots__ = (
        "attempt",
        "call",
        "exchange",
        "keepalive",
        "lease",
        "prepared",
        "runtime",
        "secret",
        "snapshot",
        "upstream",
    )

    def __init__(
        self,
        runtime: Runtime,
        snapshot: Snapshot,
        call: Call,
        exchange: Exchange,
        lease: Lease,
        keepalive: Keepalive | None,
        now: float,
    ) -> None:
        self.runtime = runtime
        self.snapshot = snapshot
        self.call = call
        self.exchange = exchange
        self.lease = lease
        self.keepalive = keepalive
        self.upstream: Upstream = snapshot.upstreams[lease.candidate.account.id]
        self.secret = self.upstream.secret
        self.prepared: Prepared | None = None
        self.attempt = call.tally.attempt(lease, now)

    async def run(self) -> None:
        """Raises Failure while another account may still answer, CallerFault when the request itself is wrong."""
        prepared = self.prepared = self.call.prepare(self.upstream, self.lease.candidate.model, self.snapshot)
        self.attempt.losses = prepared.losses
        started = self.attempt.sent = self.runtime.monotonic()
        answer = await self._ask(prepared) if not self.upstream.source else await self._ask_with_token(prepared)
        try:
            if not 200 <= answer.status < 300:
                await self._refused(answer)
            if self.keepalive is None:
                await self._whole(answer, prepared)
            else:
                await self._stream(answer, prepared, self.keepalive, started)
        finally:
            answer.close()

    def settle(self, verdict: Verdict | None) -> None:
        """What the upstream said decides about the account; None is a success."""
        attempt, now = self.attempt, self.runtime.monotonic()
        attempt.spoke, attempt.verdict, attempt.is_answered = now, verdict, verdict is None
        self.runtime.pool.settle(self.lease, now, verdict)

    def told_limits(self, headers: Headers) -> Headers:
        """What a refusal said of limits, for callers that understand its words. `retry-after` is ours to tell."""
        if self.prepared is None or not self.prepared.is_native:
            return ()
        return tuple(pair for pair in _told(headers) if pair[0] not in _WAITS)

    async def _ask_with_token(self, prepared: Prepared) -> UpstreamAnswer:
        """Ask with the account's token in force. One that is refused is replaced, and the account asked once more: that
        is no retry, since nothing was wrong with the request, nor with the account."""
        self.secret = await self._token()
        answer = await self._ask(prepared)
        if answer.status != 401:
            return answer
        another: Secret | None = None
        try:
            another = await self._token(refused=self.secret)
        finally:
            if another != self.secret:  # also when there is none, or the caller has left
                answer.close()
        if another == self.secret:
            return answer
        self.secret = another
        return await self._ask(prepared)

    async def _token(self, refused: Secret | None = None) -> Secret:
        """The token in force, or another than the `refused` one; that one again when there is no other."""
        tokens, source = self.runtime.tokens, self.upstream.source
        if tokens is None:
            raise self._failure(Problem("unauthenticated", 401, "The account's token is not at hand."))
        try:
            if refused is None:
                return await tokens.token(source)
            return await tokens.instead_of(source, refused) or refused
        except UpstreamFault as error:
            raise self._failure(error.problem) from error

    async def _ask(self, prepared: Prepared) -> UpstreamAnswer:
        call = self.call
        ask = Ask(
            self.lease.candidate.model,
            prepared.body,
            call.headers,
            call.operation,
            call.is_stream,
            prepared.is_native,
            self.secret,
        )
        request = self.upstream.provider.request(self.upstream, ask)
        transport = self.runtime.transport
        if call.recorder is not None:
            transport = call.recorder.over(transport)
        try:
            return await transport.send(request, self.snapshot.deadlines)
        except UpstreamFault as error:
            raise self._failure(error.problem) from error

    async def _refused(self, answer: UpstreamAnswer) -> NoReturn:
        try:
            body = await answer.read(_MAX_ERROR_BYTES)
        except UpstreamFault:
            body = b""
        problem = self.upstream.dialect.read_error(answer.status, body)
        raise self._judged(Refusal(problem, answer.headers, body))

    def _judged(self, refusal: Refusal) -> Failure:
        """What the vendor's refusal means; its words about allowances are noted."""
        upstream, runtime = self.upstream, self.runtime
        verdict = upstream.provider.judge(upstream, refusal, runtime.epoch())
        runtime.allowances.refused(upstream, self.lease.candidate.model, refusal.headers, refusal.body)
        return Failure(told_without(verdict, self.secret), refusal.headers)

    def _broken(self, problem: Problem, headers: Headers) -> Failure:
        """An answer that began as a success is none: by the vendor's own word inside of it, or as we find it."""
        if problem.native:
            return self._judged(Refusal(problem, headers, problem.native))
        return self._failure(problem, headers)

    def _failure(self, problem: Problem, headers: Headers = ()) -> Failure:
        problem = without_secret(problem, self.secret)
        return Failure(verdict_of(problem, headers, self.runtime.epoch()), headers)

    @property
    def _renamed(self) -> str:
        """The caller's name for the model where the upstream's differs."""
        return self.call.model if self.call.model != self.lease.candidate.model else ""

    # -- whole answers

    async def _whole(self, answer: UpstreamAnswer, prepared: Prepared) -> None:
        try:
            body, counted = self._answered(answer, prepared, await answer.read(_MAX_ANSWER_BYTES))
        except UpstreamFault as error:
            raise self._broken(error.problem, answer.headers) from error
        told = self._answers(answer, prepared)
        tally = self.call.tally
        tally.answer = counted
        await self.exchange.reply(200, (*_JSON, *told, timing(tally, self.attempt.spoke)), body)
        tally.status = 200

    def _answers(self, answer: UpstreamAnswer, prepared: Prepared) -> Headers:
        """The account has answered well, as far as one can tell by now. What the caller hears of its limits, and of what
        translation lost."""
        self.settle(None)
        upstream = self.upstream
        told = _told(answer.headers)
        if told and upstream.provider.limit_prefixes:
            self.runtime.allowances.answered(upstream, self.lease.candidate.model, answer.headers)
        told = told if prepared.is_native else ()
        if prepared.losses and self.snapshot.config.show_losses:
            return (*told, _losses(prepared.losses))
        return told

    def _answered(self, answer: UpstreamAnswer, prepared: Prepared, body: bytes) -> tuple[bytes, Counted]:
        """The caller's body, and its counts. Raises UpstreamFault when the upstream's is no complete answer."""
        call, upstream = self.call, self.upstream
        is_stream = _is_event_stream(answer.headers)
        if prepared.is_native and not is_stream:
            return passed_whole(call.dialect, body, self._renamed)
        dialect = upstream.dialect
        events = events_of_stream(dialect.reader(), body) if is_stream else dialect.read_answer(body)
        return translated_whole(events, prepared.names, call.dialect, self._echo())

    def _echo(self) -> Echo:
        return self.call.echo(self.call.request_id.removeprefix("req_"), self.runtime.epoch())

    # -- streams

    async def _stream(self, answer: UpstreamAnswer, prepared: Prepared, keepalive: Keepalive, started: float) -> None:
        tally = self.call.tally
        flow = tally.answer = self._flow(answer, prepared)
        limit = self.snapshot.config.timeouts.first_event
        if limit:
            left = max(limit - (self.runtime.monotonic() - started), 0.0)
            held, is_over = await self._soon(answer, flow, keepalive, left)
        else:
            held, is_over = await self._until_content(answer, flow, keepalive)
        told = self._answers(answer, prepared)
        exchange = self.exchange
        keepalive.flow = flow
        keepalive.touch()
        if exchange.is_started:
            await exchange.send(held)
        else:
            spent = timing(tally, self.attempt.spoke)
            headers = ((b"content-type", self.call.dialect.stream_type), *UNBUFFERED, *told, spent)
            await exchange.start(200, headers, held)
        if not is_over:
            await self._pump(answer, flow, keepalive)
        if flow.problem is not None:
            self._broke_off(flow.problem)
        keepalive.stop()
        await exchange.finish()
        tally.status = 200 if flow.problem is None else flow.problem.status
        tally.problem = flow.problem

    def _flow(self, answer: UpstreamAnswer, prepared: Prepared) -> Flow:
        call = self.call
        if prepared.is_native and _is_event_stream(answer.headers):
            return PassingFlow(call.dialect, self._renamed)
        return TranslatingFlow(self.upstream.dialect.reader(), call.dialect.writer(self._echo()), prepared.names)

    async def _soon(
        self, answer: UpstreamAnswer, flow: Flow, keepalive: Keepalive, seconds: float
    ) -> tuple[bytes, bool]:
        try:
            async with asyncio.timeout(seconds):
                return await self._until_content(answer, flow, keepalive)
        except TimeoutError as error:
            problem = UpstreamTimeout("The upstream did not begin its answer in time.").problem
            if not flow.has_content:
                raise self._failure(problem) from error
            return flow.fail(problem), True

    async def _until_content(self, answer: UpstreamAnswer, flow: Flow, keepalive: Keepalive) -> tuple[bytes, bool]:
        """The bytes up to and with the first content, and whether the stream is already over."""
        held = keepalive.hold(flow)
        size = 0
        try:
            while not flow.has_content:
                piece = await answer.piece()
                out = flow.feed(piece) if piece else flow.close()
                if (problem := flow.problem) is not None and not flow.has_content:
                    raise self._broken(problem, answer.headers)
                held.append(out)
                size += len(out)
                if not piece:
                    return b"".join(held), True
                if size > _MAX_HELD_BYTES:
                    flow.has_content = True
        except UpstreamFault as error:
            if not flow.has_content:
                raise self._failure(error.problem, answer.headers) from error
            return flow.fail(without_secret(error.problem, self.secret)), True
        finally:
            keepalive.let_go()
        return held[0] if len(held) == 1 else b"".join(held), flow.problem is not None

    async def _pump(self, answer: UpstreamAnswer, flow: Flow, keepalive: Keepalive) -> None:
        """The rest of the stream, up to its end or to the upstream's own failure. Nothing is tried again from here."""
        piece, feed, send = answer.piece, flow.feed, self.exchange.send
        try:
            while data := await piece():
                if out := feed(data):
                    keepalive.touch()
                    await send(out)
                    if flow.problem is not None:
                        return
            out = flow.close()
        except UpstreamFault as error:
            out = flow.fail(without_secret(error.problem, self.secret))
        if out:
            await send(out)

    def _broke_off(self, problem: Problem) -> None:
        call, runtime = self.call, self.runtime
        label = self.upstream.account.label
        _log.info("%s %s: %s broke off its answer (%s)", call.request_id, call.model, label, problem.kind)
        if call.recorder is not None:
            return
        if recorder := record_of_failure(runtime.request_logs, self.exchange, runtime.epoch(), call.body):
            recorder.broke_off(without_secret(problem, self.secret))
            recorder.completed()
            recorder.end()


def timing(tally: Tally, now: float) -> tuple[bytes, bytes]:
    """`Server-Timing`: milliseconds that the last upstream took up to its first content, that failed attempts and
    pauses took before it, and that we took ourselves."""
    last = tally.tries[-1]
    sent = last.sent or now
    upstream, lost = (last.spoke or now) - sent, last.began - tally.tries[0].began
    ours = now - tally.began - upstream - lost
    text = b"gateway;dur=%.1f, upstream;dur=%.1f" % (ours * 1000, upstream * 1000)
    return b"server-timing", text if lost <= 0 else text + b", retries;dur=%.1f" % (lost * 1000)


def _told(headers: Headers) -> Headers:
    """What an upstream says of limits, for callers that understand its words."""
    return tuple(pair for pair in headers if pair[0] in _TOLD or pair[0].startswith(_TOLD_PREFIXES))


def _losses(losses: tuple[Loss, ...]) -> tuple[bytes, bytes]:
    """`sampling.top_k=dropped, tools.web_search=emulated`. Paths may hold names that callers chose."""
    told = ", ".join(f"{loss.path}={loss.action}" for loss in losses[:_MOST_LOSSES])
    return b"x-cliproxy-losses", _UNFIT.sub("?", told)[:_MOST_LOSSES_BYTES].encode()


def _is_event_stream(headers: Headers) -> bool:
    return header(headers, b"content-type")[:17].lower() == b"text/event-stream"
