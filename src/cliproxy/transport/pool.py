"""Our HTTP/1.1 client: keep-alive connections on httptools, one read one wake-up, no copy that can be avoided.

A connection is in one of these states::

    idle -> waiting (request written, no head yet) -> reading (head known) -> idle | closed

* Idle connections wait in a LIFO per origin. A request whose idle connection turns out dead before the first byte of
  an answer is sent again on a fresh one, once: servers close idle connections at any moment.
* One timer per connection watches both the head and the gaps between pieces; it is re-armed lazily, so that a running
  stream costs no timer operations.
* Reading pauses when the reader falls behind by `_HIGH_WATER_BYTES`.
* A body without length or chunks ends with the connection; any other body that ends so is broken.
"""

import asyncio
import ssl
from typing import cast
from urllib.parse import urlsplit

import httptools

from cliproxy.canon.errors import BrokenAnswer, GatewayError, Unreachable, UpstreamTimeout
from cliproxy.transport.base import Deadlines
from cliproxy.transport.decoding import Decoder, decoder_for
from cliproxy.transport.dial import Dialer, authorization
from cliproxy.wire.http import Headers, HttpRequest, Origin

_HIGH_WATER_BYTES = 256 * 1024
_ONE_WRITE_BYTES = 64 * 1024
_MAX_HEAD_BYTES = 256 * 1024
_MAX_IDLE_PER_ORIGIN = 512


class _Stale(Exception):
    """A reused connection died before it answered."""


class Pool:
    """The transport. One per event loop."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._dialer = Dialer(tls or ssl.create_default_context())
        self._idle: dict[Origin, list[Connection]] = {}

    async def send(self, request: HttpRequest, deadlines: Deadlines) -> "Connection":
        """The answer, once its head is there. See `Transport.send`."""
        origin = request.origin
        if (connection := self._reusable(origin)) is not None:
            try:
                return await connection.exchange(request, deadlines)
            except _Stale:
                pass
        connection = await self._dialer.dial(origin, lambda: Connection(self, origin), deadlines.connect)
        try:
            return await connection.exchange(request, deadlines)
        except _Stale as error:
            raise Unreachable(f"{origin.host} closed the connection without an answer.") from error

    def close(self) -> None:
        idle, self._idle = self._idle, {}
        for connections in idle.values():
            for connection in connections:
                connection.discard()

    def _reusable(self, origin: Origin) -> "Connection | None":
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if connection.is_alive:
                return connection
        return None

    def keep(self, connection: "Connection") -> None:
        idle = self._idle.setdefault(connection.origin, [])
        if len(idle) < _MAX_IDLE_PER_ORIGIN:
            idle.append(connection)
        else:
            connection.discard()

    def forget(self, connection: "Connection") -> None:
        idle = self._idle.get(connection.origin)
        if idle and connection in idle:
            idle.remove(connection)


class Connection(asyncio.Protocol):
    """One connection to one origin, and the answer that it is carrying at the moment."""

    __slots__ = (
        "_body",
        "_body_bytes",
        "_deadline",
        "_decoder",
        "_done",
        "_error",
        "_head_bytes",
        "_head_prefix",
        "_headers",
        "_idle_seconds",
        "_in_body",
        "_is_answering",
        "_is_busy",
        "_is_framed",
        "_is_informational",
        "_is_paused",
        "_is_proxied",
        "_keeps_alive",
        "_loop",
        "_parser",
        "_pool",
        "_timer",
        "_timer_at",
        "_transport",
        "_waiter",
        "headers",
        "origin",
        "status",
    )

    def __init__(self, pool: Pool, origin: Origin) -> None:
        self.origin = origin
        self.status = 0
        self.headers: Headers = ()
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._error: GatewayError | None = None
        self._is_busy = False
        self._is_paused = False
        self._is_proxied = origin.scheme == "http" and origin.proxy.startswith(("http://", "https://"))
        credentials = authorization(urlsplit(origin.proxy)) if self._is_proxied else b""
        self._head_prefix = b"host: %b\r\naccept-encoding: identity\r\n%b" % (origin.authority.encode(), credentials)
        self._reset()

    def _reset(self) -> None:
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._decoder: Decoder | None = None
        self._deadline = 0.0
        self._idle_seconds = 0.0
        self._in_body = False
        self._is_answering = False
        self._is_framed = False
        self._is_informational = False
        self._done = False
        self._keeps_alive = False

    # -- the exchange

    @property
    def is_alive(self) -> bool:
        return self._error is None and self._transport is not None and not self._transport.is_closing()

    async def exchange(self, request: HttpRequest, deadlines: Deadlines) -> "Connection":
        self._reset()
        self._is_busy = True
        self._write(request)
        self._idle_seconds = deadlines.idle
        self._expect(deadlines.head)
        try:
            while not self._in_body:
                if self._error is not None:
                    raise self._error if self._is_answering or self._is_timeout() else _Stale from self._error
                await self._wait()
            self._decoder = decoder_for(self._encoding())
        except BaseException:
            self.close()
            raise
        self._expect(self._idle_seconds)
        return self

    async def piece(self) -> bytes:
        while True:
            if self._body:
                data = self._take()
                if self._decoder is not None:
                    data = self._decoder.decode(data)
                if data:
                    return data
                continue
            if self._done:
                if self._decoder is not None:
                    decoder, self._decoder = self._decoder, None
                    decoder.finish()
                return b""
            if self._error is not None:
                raise self._error
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
        if not self._is_busy:
            return
        self._is_busy = False
        self._deadline = 0.0
        if self._done and self._keeps_alive and self.is_alive and not self._body:
            self._pool.keep(self)
        else:
            self.discard()

    def discard(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()

    def _write(self, request: HttpRequest) -> None:
        transport = self._transport
        if transport is None:
            return
        target = request.target
        if self._is_proxied:
            target = b"http://" + self.origin.authority.encode() + target
        body = request.body
        head = b"%b %b HTTP/1.1\r\n%b%bcontent-length: %d\r\n\r\n" % (
            request.method,
            target,
            self._head_prefix,
            request.head,
            len(body),
        )
        if len(body) < _ONE_WRITE_BYTES:
            transport.write(head + body)
        else:
            transport.write(head)
            transport.write(body)

    def _take(self) -> bytes:
        body = self._body
        self._body = []
        self._body_bytes = 0
        if self._is_paused and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()
        return body[0] if len(body) == 1 else b"".join(body)

    def _encoding(self) -> bytes:
        for name, value in self.headers:
            if name == b"content-encoding":
                return value
        return b""

    # -- waiting

    async def _wait(self) -> None:
        waiter = self._waiter = self._loop.create_future()
        try:
            await waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _expect(self, seconds: float) -> None:
        """Something must arrive within `seconds`; 0 = whenever it likes."""
        if not seconds:
            self._deadline = 0.0
            return
        self._deadline = self._loop.time() + seconds
        if self._timer is None or self._timer_at > self._deadline + 0.05:
            self._arm(self._deadline)

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_at(at, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if not self._deadline:
            return
        if self._loop.time() + 0.001 < self._deadline:
            self._arm(self._deadline)
        elif self._is_paused:
            self._expect(self._idle_seconds)
        else:
            what = "sent nothing more" if self._in_body else "did not answer"
            self._fail(UpstreamTimeout(f"{self.origin.host} {what} in time."))
            self.discard()

    def _is_timeout(self) -> bool:
        return isinstance(self._error, UpstreamTimeout)

    def _fail(self, error: GatewayError) -> None:
        if self._error is None:
            self._error = error
        self._wake()

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._done or not self._is_busy:
            self.discard()
            return
        self._is_answering = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail(BrokenAnswer(f"{self.origin.host} does not speak HTTP as it should."))
            self.discard()
            return
        if not self._in_body:
            return
        if self._idle_seconds:
            self._deadline = self._loop.time() + self._idle_seconds
        if self._body_bytes > _HIGH_WATER_BYTES and not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()
        if self._body or self._done:
            self._wake()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._in_body and not self._is_framed and exc is None:
            self._done = True
            self._wake()
        elif not self._done:
            what = "broke off its answer" if self._is_answering else "closed the connection without an answer"
            kind = BrokenAnswer if self._is_answering else Unreachable
            self._fail(kind(f"{self.origin.host} {what}."))
        elif self._error is None:
            self._error = Unreachable()
        if not self._is_busy:
            self._pool.forget(self)

    # -- httptools callbacks

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"content-length" or name == b"transfer-encoding":
            self._is_framed = True
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > _MAX_HEAD_BYTES:
            raise ValueError("head too large")
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        self._is_informational = 100 <= status < 200
        if self._is_informational:
            return
        self.status = status
        self.headers = tuple(self._headers)
        self._in_body = True
        self._wake()

    def on_body(self, body: bytes) -> None:
        self._body.append(body)
        self._body_bytes += len(body)

    def on_message_complete(self) -> None:
        if self._is_informational:
            self._is_informational = False
            self._headers = []
            self._is_framed = False
            return
        self._done = True
        self._keeps_alive = self._parser.should_keep_alive()
