"""One connection of our HTTP/1.1 client, and the answers that it brings: one read one wake-up, no copy that can be avoided.

A connection serves one exchange after the other; each has its own `Answer`::

    connection   idle -> busy (an answer holds it) -> idle | gone
    answer       asked -> open (head known) -> complete | failed,  closed in any of these

* An answer owns what belongs to one exchange: head, unread body, failure. It lets go of its connection when it is
  closed, so that closing twice, or late, cannot touch whoever has the connection then.
* A connection goes back to the pool only if its answer is complete, nothing came after it, the upstream keeps it open,
  and our request has left the house entirely: an early answer to half a request leaves bytes that nobody may follow.
* One timer per connection watches both the head and the gaps between pieces; it is re-armed lazily, so that a running
  stream costs no timer operations.
* Reading pauses when the reader falls behind by `_HIGH_WATER_BYTES`; meanwhile the upstream is not blamed for silence.
* A body without length or chunks ends with the connection; any other body that ends so is broken.
"""

import asyncio
from typing import Protocol, cast

import httptools

from cliproxy.canon.errors import BrokenAnswer, GatewayError, Unreachable, UpstreamTimeout
from cliproxy.transport.base import Deadlines
from cliproxy.transport.decoding import Decoder, decoder_for
from cliproxy.transport.dial import absolute_form
from cliproxy.wire.http import Headers, HttpRequest, Origin

_HIGH_WATER_BYTES = 256 * 1024
_ONE_WRITE_BYTES = 64 * 1024

# Bytes in a row that bring neither a finished head nor body: heads, interim answers, chunk extensions, trailers.
# Counted as they come, since the parser shows a header only once it is whole.
_MAX_OVERHEAD_BYTES = 256 * 1024


class Stale(Exception):
    """The connection died before it brought anything of an answer."""


class Home(Protocol):
    """Where connections wait between exchanges."""

    def keep(self, connection: "Connection") -> None: ...

    def forget(self, connection: "Connection") -> None: ...


class Answer:
    """See `UpstreamAnswer`. The connection fills it; what is not in that protocol is between these two."""

    __slots__ = (
        "_connection",
        "_decoder",
        "_loop",
        "_waiter",
        "body",
        "buffered_bytes",
        "error",
        "has_begun",
        "headers",
        "is_complete",
        "is_open",
        "is_paused",
        "lines",
        "status",
    )

    def __init__(self, connection: "Connection", loop: asyncio.AbstractEventLoop) -> None:
        self.status = 0
        self.headers: Headers = ()
        self.lines: list[tuple[bytes, bytes]] = []
        self.body: list[bytes] = []
        self.buffered_bytes = 0
        self.error: GatewayError | None = None
        self.has_begun = False
        self.is_open = False
        self.is_complete = False
        self.is_paused = False
        self._connection: Connection | None = connection
        self._decoder: Decoder | None = None
        self._loop = loop
        self._waiter: asyncio.Future[None] | None = None

    async def opened(self) -> None:
        """Returns when the head is here. Raises what happened instead, Stale when nothing came at all."""
        while not self.is_open:
            if self.error is not None:
                if self.has_begun or isinstance(self.error, UpstreamTimeout):
                    raise self.error
                raise Stale from self.error
            await self._wait()
        self._decoder = _decoder(self.headers)

    async def piece(self) -> bytes:
        decoder = self._decoder
        while True:
            if decoder is not None and (data := decoder.read()):
                return data
            if self.body:
                data = self._taken()
                if decoder is None:
                    return data
                decoder.feed(data)
            elif self.is_complete:
                if decoder is not None:
                    decoder.finish()
                return b""
            elif self.error is not None:
                raise self.error
            else:
                await self._wait()

    async def read(self, limit: int) -> bytes:
        pieces: list[bytes] = []
        size = 0
        while piece := await self.piece():
            size += len(piece)
            if size > limit:
                raise BrokenAnswer(f"The upstream's answer is larger than {limit} bytes.")
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        connection.release(self)
        if not self.is_complete:
            self.fail(BrokenAnswer("The answer was closed before it was complete."))

    def fail(self, error: GatewayError) -> None:
        """The first failure counts, and none after the end."""
        if self.error is None and not self.is_complete:
            self.error = error
        self.wake()

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        await self._waiter

    def _taken(self) -> bytes:
        body, self.body = self.body, []
        self.buffered_bytes = 0
        if self.is_paused and self._connection is not None:
            self._connection.resume(self)
        return body[0] if len(body) == 1 else b"".join(body)


class Connection(asyncio.Protocol):
    """One connection to one origin, dialled or about to be."""

    __slots__ = (
        "_answer",
        "_deadline",
        "_head_prefix",
        "_home",
        "_idle_seconds",
        "_keeps_alive",
        "_loop",
        "_overhead_bytes",
        "_parser",
        "_target_prefix",
        "_timer",
        "_timer_at",
        "_transport",
        "idle_since",
        "origin",
    )

    def __init__(self, home: Home, origin: Origin) -> None:
        self.origin = origin
        self.idle_since = 0.0
        self._home = home
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._answer: Answer | None = None
        self._keeps_alive = False
        self._overhead_bytes = 0
        self._idle_seconds = 0.0
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._target_prefix, credentials = absolute_form(origin)
        self._head_prefix = b"host: %b\r\naccept-encoding: identity\r\n%b" % (origin.authority.encode(), credentials)

    @property
    def is_alive(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def exchange(self, request: HttpRequest, deadlines: Deadlines) -> Answer:
        """The answer, once its head is here; whoever gets it closes it. The connection must be idle or fresh.

        Raises Stale, UpstreamTimeout or BrokenAnswer, and has cut the connection then.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            raise Stale
        answer = self._answer = Answer(self, self._loop)
        self._overhead_bytes = 0
        self._keeps_alive = False
        self._idle_seconds = deadlines.idle
        self._write(transport, request)
        self._expect(deadlines.head)
        try:
            await answer.opened()
        except BaseException:
            answer.close()
            raise
        if not answer.is_complete:
            self._expect(deadlines.idle)
        return answer

    def release(self, answer: Answer) -> None:
        """`answer` is done with us."""
        self._answer = None
        self._deadline = 0.0
        transport = self._transport
        if transport is None:
            return
        is_over = answer.is_complete and self._keeps_alive and not transport.is_closing()
        if not is_over or transport.get_write_buffer_size():
            self.discard()
            return
        if answer.is_paused:
            transport.resume_reading()
        self._home.keep(self)

    def resume(self, answer: Answer) -> None:
        """`answer` has caught up. Its silence counts from here: until now we did not listen."""
        answer.is_paused = False
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.resume_reading()
        if not answer.is_complete:
            self._expect(self._idle_seconds)

    def discard(self) -> None:
        """Cut the connection, whatever it is doing."""
        self._disarm()
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()

    def _write(self, transport: asyncio.Transport, request: HttpRequest) -> None:
        body = request.body
        head = b"%b %b%b HTTP/1.1\r\n%b%bcontent-length: %d\r\n\r\n" % (
            request.method,
            self._target_prefix,
            request.target,
            self._head_prefix,
            request.head,
            len(body),
        )
        if len(body) < _ONE_WRITE_BYTES:
            transport.write(head + body)
        else:
            transport.write(head)
            transport.write(body)

    # -- deadlines

    def _expect(self, seconds: float) -> None:
        """Something must arrive within `seconds`; 0 = whenever it likes."""
        if not seconds:
            self._deadline = 0.0
            return
        self._deadline = self._loop.time() + seconds
        if self._timer is None or self._timer_at > self._deadline + 0.05:
            self._arm(self._deadline)

    def _arm(self, at: float) -> None:
        self._disarm()
        self._timer_at = at
        self._timer = self._loop.call_at(at, self._tick)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        """Time may be up. uvloop runs timers before sockets: after a long pause of ours, first see what has come."""
        self._timer = None
        if not self._deadline:
            return
        if self._loop.time() + 0.001 < self._deadline:
            self._arm(self._deadline)
        else:
            self._timer = self._loop.call_later(0.005, self._give_up, self._deadline)

    def _give_up(self, deadline: float) -> None:
        self._timer = None
        answer = self._answer
        if answer is None or not self._deadline:
            return
        if answer.is_paused:
            self._expect(self._idle_seconds)
        elif self._deadline != deadline:
            self._arm(self._deadline)
        else:
            what = "sent nothing more" if answer.is_open else "did not answer"
            answer.fail(UpstreamTimeout(f"{self.origin.host} {what} in time."))
            self.discard()

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None or answer.is_complete or answer.error is not None:
            self.discard()
            return
        answer.has_begun = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._break(answer, "does not speak HTTP as it should")
            return
        if answer.body or answer.is_complete:
            self._overhead_bytes = 0
        else:
            self._overhead_bytes += len(data)
            if self._overhead_bytes > _MAX_OVERHEAD_BYTES:
                self._break(answer, "sends framing without a body" if answer.is_open else "sent too large a head")
                return
        if not answer.is_open:
            return
        if answer.is_complete:
            self._deadline = 0.0
        else:
            if self._idle_seconds:
                self._deadline = self._loop.time() + self._idle_seconds
            answer.buffered_bytes += len(data)
            if answer.buffered_bytes > _HIGH_WATER_BYTES and not answer.is_paused and self._transport is not None:
                answer.is_paused = True
                self._transport.pause_reading()
        answer.wake()

    def eof_received(self) -> None:
        """Nothing more will come, so nobody waits for what we have not sent yet, nor for a farewell in TLS."""
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self._transport = None
        del self._parser  # it holds our methods: a cycle that only the collector would find
        answer = self._answer
        if answer is None:
            self._home.forget(self)
        elif exc is None and answer.error is None and answer.is_open and not _is_framed(answer.headers):
            answer.is_complete = True
            answer.wake()
        elif answer.has_begun:
            answer.fail(BrokenAnswer(f"{self.origin.host} broke off its answer."))
        else:
            answer.fail(Unreachable(f"{self.origin.host} closed the connection without an answer."))

    def _break(self, answer: Answer, what: str) -> None:
        answer.fail(BrokenAnswer(f"{self.origin.host} {what}."))
        self.discard()

    # -- httptools callbacks

    def on_message_begin(self) -> None:
        if self._answer is None or self._answer.is_complete:
            raise ValueError("an answer that nobody asked for")

    def on_header(self, name: bytes, value: bytes) -> None:
        if (answer := self._answer) is not None and not answer.is_open:
            answer.lines.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        answer, status = self._answer, self._parser.get_status_code()
        if answer is None or 100 <= status < 200:
            return
        answer.status = status
        answer.headers = tuple(answer.lines)
        answer.is_open = True

    def on_body(self, body: bytes) -> None:
        if (answer := self._answer) is not None:
            answer.body.append(body)

    def on_message_complete(self) -> None:
        if (answer := self._answer) is None:
            return
        if answer.is_open:
            answer.is_complete = True
            self._keeps_alive = self._parser.should_keep_alive()
        else:
            answer.lines.clear()


def _decoder(headers: Headers) -> Decoder | None:
    """Codings of the content and of the transfer are undone alike; together they would be two, and refused."""
    codings = [value for name, value in headers if name == b"content-encoding" or name == b"transfer-encoding"]
    return decoder_for(codings) if codings else None


def _is_framed(headers: Headers) -> bool:
    """Whether the body says itself where it ends. `chunked` counts only as the last coding (RFC 9112, 6.3)."""
    codings = b",".join(value for name, value in headers if name == b"transfer-encoding")
    if codings:
        return codings.lower().rstrip().endswith(b"chunked")
    return any(name == b"content-length" for name, _ in headers)
