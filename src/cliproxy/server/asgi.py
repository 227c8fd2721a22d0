"""The ASGI adapter: serves exchanges under any ASGI server.

Source: https://asgi.readthedocs.io/en/latest/specs/www.html, checked 2026-11-24.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import cast

from cliproxy.gateway.plane import Plane
from cliproxy.gateway.runtime import Runtime
from cliproxy.server.bodies import too_large, unfolded
from cliproxy.server.reply import head_lines, serve
from cliproxy.wire.http import Headers, header

Scope = MutableMapping[str, object]
Message = MutableMapping[str, object]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class AsgiApp:
    """`plane` None: there is no Management API."""

    def __init__(self, runtime: Runtime, plane: Plane | None = None) -> None:
        self._runtime = runtime
        self._plane = plane

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        exchange = AsgiExchange(scope, receive, send, self._runtime)
        try:
            await serve(self._runtime, exchange, self._plane)
        except asyncio.CancelledError:
            pass  # the caller left, or the server stops: nobody waits for an answer, nor for a traceback
        finally:
            exchange.release()


class AsgiExchange:
    """See `gateway.exchange.Exchange`.

    After the body was read a task waits for the caller to leave. Keep-alives come from timers and run as tasks too:
    whoever writes first writes the head, and nobody writes after the end. Callers of HTTP/1.0 know no chunks, which
    servers would write all the same: theirs is sent when it is complete.
    """

    recorder = None

    def __init__(self, scope: Scope, receive: Receive, send: Send, runtime: Runtime) -> None:
        self.method = cast("str", scope["method"])
        self.path = cast("str", scope["path"])
        self.query = cast("bytes", scope.get("query_string", b""))
        self.headers: Headers = tuple(cast("list[tuple[bytes, bytes]]", scope["headers"]))
        client = cast("tuple[str, int] | None", scope.get("client"))
        self.peer = client[0] if client else ""
        self.request_id = runtime.next_id()
        self.is_started = False
        self.is_gone = False
        self._nudged = b""
        self.extra: Headers = ()
        self.id_name = b""
        self._limit = runtime.snapshot.config.limits.max_body_bytes
        self._receive = receive
        self._send = send
        self._head: tuple[int, Headers] | None = None
        self._held: list[bytes] | None = [] if scope.get("http_version") in ("0.9", "1.0") else None
        self._is_over = False
        self._writing = asyncio.Lock()
        self._helpers: set[asyncio.Task[None]] = set()

    async def read(self, limit: int | None = None) -> bytes:
        limit = self._limit if limit is None else min(limit, self._limit)
        length = header(self.headers, b"content-length")
        if length.isdigit() and int(length) > limit:
            raise too_large(limit)
        pieces: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.is_gone = True
                raise asyncio.CancelledError
            piece = cast("bytes", message.get("body", b""))
            size += len(piece)
            if size > limit:
                raise too_large(limit)
            pieces.append(piece)
            if not message.get("more_body"):
                break
        self._watch(asyncio.current_task())
        return await unfolded(b"".join(pieces), header(self.headers, b"content-encoding"), limit)

    async def reply(self, status: int, headers: Headers, body: bytes) -> None:
        self._open(status, headers)
        await self._end(body)

    async def start(self, status: int, headers: Headers, data: bytes = b"") -> None:
        self._open(status, headers)
        await self.send(data)

    async def send(self, data: bytes) -> None:
        if self._held is None:
            await self._write(data)
        else:
            self._held.append(data)

    async def finish(self) -> None:
        if self._held is None:
            await self._write(b"", is_last=True)
        else:
            await self._end(b"".join(self._held))

    def nudge(self, status: int, headers: Headers, data: bytes) -> bool:
        if self._writing.locked() or self._is_over or not data:
            return False
        self._open(status, headers)
        if self._held is not None:
            self._held.append(data)
            return True
        self._nudged += data  # goes before whatever is written next, also when that comes before the task runs
        self._keep(asyncio.create_task(self._write(b"")))
        return True

    def release(self) -> None:
        for helper in self._helpers:
            helper.cancel()

    def _open(self, status: int, headers: Headers) -> None:
        """Decide the head, unless a keep-alive did before."""
        if not self.is_started:
            self.is_started = True
            self._head = (status, head_lines(self, headers))

    async def _end(self, body: bytes) -> None:
        """A whole answer of known length."""
        if self._head is not None and self._head[0] != 204:
            status, lines = self._head
            self._head = (status, (*lines, (b"content-length", str(len(body)).encode())))
        await self._write(b"" if self.method == "HEAD" else body, is_last=True)

    async def _write(self, data: bytes, *, is_last: bool = False) -> None:
        async with self._writing:
            if self._is_over:
                return
            self._is_over = is_last
            data, self._nudged = self._nudged + data, b""
            if self._head is not None:
                (status, lines), self._head = self._head, None
                await self._send({"type": "http.response.start", "status": status, "headers": list(lines)})
            if data or is_last:
                await self._send({"type": "http.response.body", "body": data, "more_body": not is_last})

    def _watch(self, server: "asyncio.Task[object] | None") -> None:
        async def wait() -> None:
            while (await self._receive())["type"] != "http.disconnect":
                pass
            self.is_gone = True
            if server is not None:
                server.cancel()

        self._keep(asyncio.create_task(wait()))

    def _keep(self, task: "asyncio.Task[None]") -> None:
        self._helpers.add(task)
        task.add_done_callback(self._helpers.discard)
