"""The fast path: hot routes answered inside uvicorn's own HTTP protocol, without ASGI's dictionaries and queues.

uvicorn keeps the life cycle, signals, keep-alive timers, TLS and the ASGI application for every other address. This
file touches internals of its httptools protocol, hence the pinned minor version; one suite runs over both adapters,
and `CLIPROXY_EDGE=asgi` switches this one off.

Per connection, on top of uvicorn's states: a request is *fast* from the end of its head to the end of its answer.
Pipelined requests behind a fast one go the ASGI way, which queues them. `deadline` is when the rest of a head or body
must have come; the reaper closes connections beyond theirs. Heads are bounded while they arrive.
"""

import asyncio
from typing import Any, cast
from urllib.parse import unquote

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from cliproxy.gateway.runtime import Runtime
from cliproxy.server.bodies import too_large, unfolded
from cliproxy.server.reply import serve
from cliproxy.wire.http import Headers, header

HEAD_SECONDS = 30.0
BODY_GAP_SECONDS = 30.0
_HOT = (b"/v1/chat/completions", b"/v1/messages", b"/v1/responses", b"/v1beta/models/", b"/v1/models/")
_ERROR_BODY = b'{"error":{"message":"%b","type":"invalid_request_error","param":null,"code":null}}'


class _NoEvent:
    """Stands in for the event that uvicorn sets on a cycle; nobody waits for ours."""

    def set(self) -> None: ...


class FastExchange:
    """See `gateway.exchange.Exchange`. The first block of attributes is what uvicorn expects of its own cycles."""

    __slots__ = (
        "_is_chunked",
        "_keeps_http10",
        "_protocol",
        "_size",
        "body",
        "disconnected",
        "extra",
        "headers",
        "is_started",
        "is_too_large",
        "keep_alive",
        "method",
        "path",
        "peer",
        "pieces",
        "query",
        "request_id",
        "response_complete",
        "task",
    )

    message_event = _NoEvent()
    more_body = False

    def __init__(self, protocol: "FastProtocol", path: str, query: bytes) -> None:
        self.response_complete = False
        self.disconnected = False
        self.keep_alive = True
        self.body = b""
        self._protocol = protocol
        self.method = "POST"
        self.path = path
        self.query = query
        self.headers: Headers = tuple(protocol.headers)
        self.peer = protocol.client[0] if protocol.client else ""
        self.request_id = protocol.runtime.next_id()
        self.extra: Headers = ()
        self.is_started = False
        self.is_too_large = False
        self.pieces: list[bytes] = []
        self.task: asyncio.Task[None] | None = None
        self._size = 0
        self._is_chunked = True

    def take(self, piece: bytes, limit: int) -> None:
        self._size += len(piece)
        if self._size > limit:
            self.is_too_large = True
            self.pieces.clear()
        else:
            self.pieces.append(piece)

    async def read(self) -> bytes:
        limit = self._protocol.body_limit
        if self.is_too_large:
            raise too_large(limit)
        pieces = self.pieces
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self.pieces = []
        return unfolded(body, header(self.headers, b"content-encoding"), limit)

    async def reply(self, status: int, headers: Headers, body: bytes) -> None:
        self.is_started = True
        lines = (*headers, *self.extra)
        if status != 204:
            lines = (*lines, (b"content-length", b"%d" % len(body)))
        self._protocol.transport.write(self._head(status, lines) + body)
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

    def nudge(self, status: int, headers: Headers, data: bytes) -> None:
        protocol = self._protocol
        if protocol.flow.write_paused or self.response_complete:
            return
        if not self.is_started:
            self._open(status, headers, data)
        else:
            protocol.transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)

    def shutdown(self) -> None:
        self.keep_alive = False

    def _open(self, status: int, headers: Headers, data: bytes) -> None:
        self.is_started = True
        lines = (*headers, *self.extra)
        if self._protocol.parser is not None and self._protocol.parser.get_http_version() == "1.0":
            self._is_chunked = self.keep_alive = False
        else:
            lines = (*lines, (b"transfer-encoding", b"chunked"))
        if data and self._is_chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
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
    """One connection. `runtime` is set on a subclass, since uvicorn constructs protocols itself."""

    runtime: Runtime

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],  # pyright: ignore[reportExplicitAny]
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.deadline = 0.0
        self.body_limit = 0
        self._head_bytes = 0
        self._in_head = True
        self._fast: FastExchange | None = None

    # -- uvicorn's seams

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # pyright: ignore[reportArgumentType]
        self.deadline = self.loop.time() + HEAD_SECONDS

    def connection_lost(self, exc: Exception | None) -> None:
        fast = self._fast
        if fast is not None and fast.task is not None and not fast.response_complete:
            fast.task.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > self.runtime.snapshot.config.limits.max_header_bytes:
            self._refuse(431, b"The request's headers are larger than limits.max-header-bytes.")

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, msg.encode())

    def _unsupported_upgrade_warning(self) -> None:
        """Upgrades are answered by the routes; nothing to warn of."""

    # -- httptools callbacks

    def on_message_begin(self) -> None:
        self._in_head = True
        self._head_bytes = 0
        self.deadline = self.loop.time() + HEAD_SECONDS
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        limits = self.runtime.snapshot.config.limits
        self.body_limit = limits.max_body_bytes
        size = sum(len(name) + len(value) for name, value in self.headers)
        if size > limits.max_header_bytes:
            self._refuse(431, b"The request's headers are larger than limits.max-header-bytes.")
            return
        parser = self.parser
        if parser is not None and self._is_free() and self.url.startswith(_HOT) and parser.get_method() == b"POST":
            self._begin()
        else:
            self._fast = None
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self.deadline = self.loop.time() + BODY_GAP_SECONDS
        fast = self._fast
        if fast is None:
            super().on_body(body)
            return
        fast.take(body, self.body_limit)
        if fast.is_too_large and fast.task is None:
            fast.keep_alive = False
            self._run(fast)

    def on_message_complete(self) -> None:
        self.deadline = 0.0
        fast = self._fast
        if fast is None:
            super().on_message_complete()
        elif fast.task is None and not fast.response_complete:
            self._run(fast)

    # -- ours

    def _is_free(self) -> bool:
        """Whether no earlier request of this connection is still being answered."""
        cycle = cast("FastExchange | None", self.cycle)
        return cycle is None or cycle.response_complete

    def answered(self, exchange: FastExchange) -> None:
        """`exchange` is complete: close or go on as uvicorn would."""
        if not exchange.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def expire(self) -> None:
        """The rest of a request did not come in time."""
        self.deadline = 0.0
        self._refuse(408, b"The request did not arrive in time.")

    def _begin(self) -> None:
        path, _, query = self.url.partition(b"?")
        text = path.decode("latin-1")
        fast = self._fast = FastExchange(self, unquote(text) if "%" in text else text, query)
        parser = self.parser
        fast.keep_alive = parser is not None and parser.get_http_version() != "1.0" and parser.should_keep_alive()
        self.cycle = fast  # pyright: ignore[reportAttributeAccessIssue]
        if self.expect_100_continue:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _run(self, fast: FastExchange) -> None:
        task = fast.task = self.loop.create_task(serve(self.runtime, fast))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def _refuse(self, status: int, message: bytes) -> None:
        """For requests that never became exchanges. JSON, since every caller here expects JSON."""
        if self.transport.is_closing():
            return
        body = _ERROR_BODY % message
        head = b"%bcontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
        self.transport.write(head % (STATUS_LINE[status], len(body)) + body)
        self.transport.close()


async def reap(server_state: ServerState) -> None:
    """Once a second close connections whose request does not arrive. Runs until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(1.0)
        now = loop.time()
        for connection in list(server_state.connections):
            if isinstance(connection, FastProtocol) and 0 < connection.deadline < now:
                connection.expire()
