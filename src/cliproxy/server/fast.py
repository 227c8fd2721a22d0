"""The connections of both edges, bounded in size and time, and the fast path on them.

uvicorn keeps the life cycle, signals, keep-alive timers, TLS and the ASGI application. Hot routes are answered inside
its HTTP protocol, without ASGI's dictionaries and queues; `CLIPROXY_EDGE=asgi` leaves none hot. This file touches
internals of the httptools protocol, hence the pinned minor version; one suite runs over both edges.

One connection, on top of uvicorn's states:

    arriving   (idle) -> head -> body -> (idle) ...      answering   `_running`, behind it uvicorn's pipeline

* `_fast` takes the body that is arriving; None while uvicorn's cycle takes it. `_running` is the request being
  answered. Pipelined requests behind it go the ASGI way, which queues them, hot ones too.
* `deadline` is when the rest of a head, or more of a body, must have come; `reap` expires connections beyond theirs.
  It does not run while we do not read, nor against a caller who waits for an earlier answer.
* What is no request (malformed, too large, too late) is refused in the dialect of its address, as far as that is
  known. Then the connection is deaf: what still comes is thrown away until the caller closes or `linger_seconds` are
  over, since closing with unread bytes would reset the connection and the caller might never see why.
* A refusal never cuts into an answer: while one is under way the connection falls deaf and closes after it.
* An answer may come before its request is whole (too large, no key); the rest of the body is thrown away.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, cast
from urllib.parse import unquote

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn import Config
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from cliproxy.canon.errors import GatewayError, InvalidRequest, Problem, SlowRequest, TooLarge
from cliproxy.gateway.runtime import Runtime
from cliproxy.server.bodies import too_large, unfolded
from cliproxy.server.reply import head_lines, may_enter, refuse, serve
from cliproxy.wire.http import Headers, header

HOT = (
    b"/v1/chat/completions",
    b"/v1/messages",
    b"/v1/responses",
    b"/v1/completions",
    b"/v1beta/models/",
    b"/v1/models/",
    b"/v1internal:",
)

# Bodies that say they are larger than this are taken only from callers who may enter; others cost us no memory.
_SMALL_BODY_BYTES = 256 * 1024

# So many pipelined requests may wait before we stop reading.
_QUEUED_REQUESTS = 8

_BODY_NAMES = frozenset({b"content-length", b"transfer-encoding"})
_OFFER_NAMES = frozenset({b"connection", b"upgrade", b"http2-settings"})


class _NoEvent:
    """Stands in for the event that uvicorn sets on a cycle; nobody waits for ours."""

    def set(self) -> None: ...


class FastExchange:
    """See `gateway.exchange.Exchange`. The first block of attributes is what uvicorn expects of its own cycles."""

    __slots__ = (
        "_is_chunked",
        "_protocol",
        "_size",
        "body",
        "disconnected",
        "extra",
        "headers",
        "id_name",
        "is_looked_at",
        "is_started",
        "is_too_large",
        "keep_alive",
        "method",
        "more_body",
        "path",
        "peer",
        "pieces",
        "query",
        "request_id",
        "response_complete",
        "task",
    )

    message_event = _NoEvent()
    recorder = None

    def __init__(self, protocol: "FastProtocol", method: str = "POST") -> None:
        path, _, query = protocol.url.partition(b"?")
        text = path.decode("latin-1")
        parser = protocol.parser
        is_old = parser.get_http_version() != "1.1"
        self.response_complete = False
        self.disconnected = False
        self.more_body = True
        self.keep_alive = not is_old and parser.should_keep_alive()
        self.body = b""
        self._protocol = protocol
        self.method = method
        self.path = unquote(text) if "%" in text else text
        self.query = query
        self.headers: Headers = tuple(protocol.headers)
        self.peer = protocol.client[0] if protocol.client else ""
        self.request_id = protocol.runtime.next_id()
        self.extra: Headers = ()
        self.id_name = b""
        self.is_started = False
        self.is_too_large = False
        self.is_looked_at = False
        self.pieces: list[bytes] = []
        self.task: asyncio.Task[None] | None = None
        self._size = 0
        self._is_chunked = not is_old

    @property
    def response_started(self) -> bool:
        return self.is_started

    def take(self, piece: bytes, limit: int) -> None:
        self._size += len(piece)
        if self._size > limit:
            self.is_too_large = True
            self.pieces.clear()
        else:
            self.pieces.append(piece)

    async def read(self, limit: int | None = None) -> bytes:
        most = self._protocol.body_limit
        limit = most if limit is None else min(limit, most)
        if self.is_too_large:
            raise too_large(limit)
        if self.more_body:
            raise InvalidRequest("The request was refused before its body had arrived; send it again.")
        pieces = self.pieces
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self.pieces = []
        return await unfolded(body, header(self.headers, b"content-encoding"), limit)

    async def reply(self, status: int, headers: Headers, body: bytes) -> None:
        self.is_started = True
        lines = head_lines(self, headers)
        if status != 204:
            lines = (*lines, (b"content-length", b"%d" % len(body)))
        head = self._head(status, lines)
        self._protocol.transport.write(head if self.method == "HEAD" else head + body)
        self._complete()

    async def start(self, status: int, headers: Headers, data: bytes = b"") -> None:
        self._open(status, headers, data)
        if self._protocol.flow.write_paused:
            await self._protocol.flow.drain()

    async def send(self, data: bytes) -> None:
        if not data:
            return
        protocol = self._protocol
        if self._is_chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        protocol.transport.write(data)
        if protocol.flow.write_paused:
            await protocol.flow.drain()

    async def finish(self) -> None:
        if self._is_chunked:
            self._protocol.transport.write(b"0\r\n\r\n")
        self._complete()

    @property
    def is_gone(self) -> bool:
        return self.disconnected or self._protocol.transport.is_closing()

    def nudge(self, status: int, headers: Headers, data: bytes) -> bool:
        protocol = self._protocol
        if protocol.flow.write_paused or self.response_complete or not data:
            return False
        if not self.is_started:
            self._open(status, headers, data)
        else:
            protocol.transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)
        return True

    def ended(self, task: "asyncio.Task[None]") -> None:
        """The task that serves this exchange is over; an answer that is not complete never will be."""
        protocol = self._protocol
        protocol.tasks.discard(task)
        if not self.response_complete:
            protocol.transport.abort()

    def _open(self, status: int, headers: Headers, data: bytes) -> None:
        self.is_started = True
        lines = head_lines(self, headers)
        if self._is_chunked:
            lines = (*lines, (b"transfer-encoding", b"chunked"))
            if data:
                data = b"%x\r\n%b\r\n" % (len(data), data)
        else:
            self.keep_alive = False
        self._protocol.transport.write(self._head(status, lines) + data)

    def _head(self, status: int, lines: Headers) -> bytes:
        closing = b"" if self.keep_alive else b"connection: close\r\n"
        return b"%b%b%b\r\n" % (
            STATUS_LINE[status],
            b"".join([b"%b: %b\r\n" % line for line in lines]),
            closing,
        )

    def _complete(self) -> None:
        self.response_complete = True
        self._protocol.answered(self)


class FastProtocol(HttpToolsProtocol):
    """One connection. `protocol_of` makes the subclass that uvicorn, which constructs protocols itself, is given."""

    runtime: Runtime
    parser: HttpRequestParser
    hot: tuple[bytes, ...] = HOT
    """Prefixes of the addresses that are answered here."""
    head_seconds = 30.0
    """From the first byte of a head, or from the connection, to the end of the head."""
    body_gap_seconds = 30.0
    """Between two pieces of a body."""
    linger_seconds = 2.0
    """From a refusal to the end of its connection."""
    reap_seconds = 1.0
    """Between two looks at the deadlines of all connections."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],  # pyright: ignore[reportExplicitAny]
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.url = b""
        self.headers = []
        self.deadline = 0.0
        self.body_limit = 0
        self._in_head = False
        self._is_deaf = False
        self._overhead_bytes = 0
        self._fast: FastExchange | None = None
        self._running: FastExchange | RequestResponseCycle | None = None

    # -- uvicorn's seams

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # pyright: ignore[reportArgumentType]
        self.deadline = self.loop.time() + self.head_seconds

    def connection_lost(self, exc: Exception | None) -> None:
        running = self._running
        if running is not None and not running.response_complete:
            _abandon(running)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        self._overhead_bytes += len(data)
        self._unset_keepalive_if_required()
        while data:
            try:
                self.parser.feed_data(data)
                break
            except HttpParserError:
                self._refuse(InvalidRequest("This is not valid HTTP."))
                break
            except HttpParserUpgrade as offer:
                data = self._declined(data[offer.args[0] :])
        fast = self._fast
        if fast is not None and fast.task is None and not fast.is_looked_at:
            self._look_at(fast)
        if self._overhead_bytes > self.runtime.snapshot.config.limits.max_header_bytes:
            self._refuse(self._oversize() if self._in_head else InvalidRequest("The request brings no body."))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    # -- httptools callbacks

    def on_message_begin(self) -> None:
        self._in_head = True
        self.deadline = self.loop.time() + self.head_seconds
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # and not among the trailers, which nobody asked for
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        limits = self.runtime.snapshot.config.limits
        size = len(self.url) + sum([len(name) + len(value) for name, value in self.headers])
        if size > limits.max_header_bytes:
            self._refuse(self._oversize())
            raise ValueError("the parser must stop here")
        if self.parser.should_upgrade() and self._offers_with_body():
            return
        self._in_head = False
        self._overhead_bytes = 0
        self.body_limit = limits.max_body_bytes
        if self.url.startswith(self.hot) and self.parser.get_method() == b"POST" and self._is_free():
            fast = self._fast = self._running = FastExchange(self)
            self.cycle = fast  # pyright: ignore[reportAttributeAccessIssue]
        else:
            self._fast = None
            super().on_headers_complete()
            if len(self.pipeline) <= _QUEUED_REQUESTS:
                self.flow.resume_reading()  # which uvicorn stops: a caller who leaves would go unnoticed

    def on_body(self, body: bytes) -> None:
        self._overhead_bytes = 0
        self.deadline = self.loop.time() + self.body_gap_seconds
        fast = self._fast
        if fast is None:
            super().on_body(body)
        elif fast.task is None:
            fast.take(body, self.body_limit)
            if fast.is_too_large:
                self._run(fast, serve(self.runtime, fast))

    def on_message_complete(self) -> None:
        if self._in_head:
            return
        self._overhead_bytes = 0
        self.deadline = 0.0
        fast = self._fast
        if fast is None:
            super().on_message_complete()
            return
        fast.more_body = False
        if fast.task is None:
            self._run(fast, serve(self.runtime, fast))

    # -- ours

    def answered(self, exchange: FastExchange) -> None:
        """`exchange` is complete: close or go on as uvicorn would."""
        if not exchange.keep_alive:
            self._hang_up(exchange)
        self.on_response_complete()

    def expire(self) -> None:
        """`deadline` has passed; called by `reap`."""
        if self._is_deaf:
            self.transport.abort()
            return
        running = self._running
        is_answering = running is not None and not running.response_complete
        if self.flow.read_paused or (is_answering and not self._awaits_body()):
            self.deadline = self.loop.time() + self.head_seconds
        elif is_answering or self._in_head:
            self._refuse(SlowRequest())
        else:
            self.transport.close()

    def _is_free(self) -> bool:
        """Whether no earlier request of this connection is still being answered."""
        running = self._running
        return (running is None or running.response_complete) and not self.pipeline

    def _awaits_body(self) -> bool:
        """Whether the request being answered is the one that is arriving, and its answer has not begun."""
        running = self._running
        return (
            running is not None
            and running is cast("object", self.cycle)
            and running.more_body
            and not running.response_started
        )

    def _offers_with_body(self) -> bool:
        """Whether this is an offer to change protocols whose request has a body, such as the JDK's of HTTP/2."""
        names = {name for name, _ in self.headers}
        return self.parser.get_method() != b"CONNECT" and not names.isdisjoint(_BODY_NAMES)

    def _declined(self, rest: bytes) -> bytes:
        """What to read after an offer to change protocols, so as to go on with HTTP/1.1.

        httptools takes the end of the head for the end of the request then. If there is a body, a new parser gets the
        head once more without the offer, and what follows.
        """
        if not self._in_head:
            return rest
        head = b"%b %b HTTP/1.1\r\n" % (self.parser.get_method(), self.url)
        kept = [b"%b: %b\r\n" % pair for pair in self.headers if pair[0] not in _OFFER_NAMES]
        self.parser = HttpRequestParser(self)
        return head + b"".join(kept) + b"\r\n" + rest

    def _look_at(self, fast: FastExchange) -> None:
        """A request that did not come at once: refuse it now if it will be refused anyway, else encourage it."""
        fast.is_looked_at = True
        length = header(fast.headers, b"content-length")
        is_small = bool(length) and int(length) <= min(_SMALL_BODY_BYTES, self.body_limit)
        if is_small and not self.expect_100_continue:
            return
        fast.is_too_large = int(length or b"0") > self.body_limit
        if fast.is_too_large or not may_enter(self.runtime, fast):
            self._run(fast, serve(self.runtime, fast))
        elif self.expect_100_continue:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _run(self, fast: FastExchange, work: Coroutine[Any, Any, None]) -> None:  # pyright: ignore[reportExplicitAny]
        task = fast.task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(fast.ended)

    def _oversize(self) -> GatewayError:
        is_address = not self.headers or len(self.url) > sum([len(name) + len(value) for name, value in self.headers])
        status, what = (414, "address is") if is_address else (431, "headers are")
        text = f"The request's {what} larger than this gateway accepts (`limits.max-header-bytes`)."
        return TooLarge(problem=Problem("too_large", status, text))

    def _refuse(self, error: GatewayError) -> None:
        """Answer what never became a whole request, and listen no more."""
        if self._is_deaf or self.transport.is_closing():
            return
        self._is_deaf = True
        self.deadline = 0.0
        running = self._running
        if running is not None and not running.response_complete:
            if not self._awaits_body():
                self._close_after_answers(running)
                return
            _abandon(running)
        fast = self._fast = self._running = FastExchange(self, self._method())
        fast.keep_alive = False
        self.cycle = fast  # pyright: ignore[reportAttributeAccessIssue]
        self._run(fast, refuse(self.runtime, fast, error))

    def _method(self) -> str:
        method = self.parser.get_method() if not self._in_head or self.headers else b"POST"
        return method.decode("latin-1")

    def _close_after_answers(self, running: FastExchange | RequestResponseCycle) -> None:
        """Answer the requests that are whole, then close."""
        queue = self.pipeline
        if queue and queue[0][0].more_body:
            queue.popleft()
        last = queue[0][0] if queue else running
        last.keep_alive = False

    def _hang_up(self, exchange: FastExchange) -> None:
        transport = self.transport
        if not (self._is_deaf or exchange.more_body) or not transport.can_write_eof():
            transport.close()
            return
        self._is_deaf = True
        self.deadline = self.loop.time() + self.linger_seconds
        transport.write_eof()


def protocol_of(runtime: Runtime, *, is_fast: bool) -> type[FastProtocol]:
    """The class that uvicorn makes connections of. Unless `is_fast`, the ASGI application answers everything."""

    class Bound(FastProtocol):
        hot = HOT if is_fast else ()

    Bound.runtime = runtime
    return Bound


async def reap(server_state: ServerState) -> None:
    """Close connections whose request does not arrive. Runs until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(FastProtocol.reap_seconds)
        now = loop.time()
        for connection in list(server_state.connections):
            if isinstance(connection, FastProtocol) and 0 < connection.deadline < now:
                connection.expire()


def _abandon(running: FastExchange | RequestResponseCycle) -> None:
    """Nobody waits for this answer any more."""
    running.disconnected = True
    if not isinstance(running, FastExchange):
        running.message_event.set()
    elif running.task is not None:
        running.task.cancel()
