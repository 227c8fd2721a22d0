"""The ASGI adapter: serves exchanges under any ASGI server.

Source: https://asgi.readthedocs.io/en/latest/specs/www.html, checked 2026-11-24.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import cast

from cliproxy.canon.errors import InvalidRequest
from cliproxy.gateway.runtime import Runtime
from cliproxy.server.bodies import too_large, unfolded
from cliproxy.server.reply import serve
from cliproxy.wire.http import Headers, header

Scope = MutableMapping[str, object]
Message = MutableMapping[str, object]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class AsgiApp:
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        exchange = AsgiExchange(scope, receive, send, self._runtime)
        try:
            await serve(self._runtime, exchange)
        except asyncio.CancelledError:
            if not exchange.is_gone:
                raise
        finally:
            exchange.release()


class AsgiExchange:
    """See `gateway.exchange.Exchange`. After the body was read a task waits for the caller to leave."""

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
        self.extra: Headers = ()
        self._limit = runtime.snapshot.config.limits.max_body_bytes
        self._receive = receive
        self._send = send
        self._writing = asyncio.Lock()
        self._helpers: set[asyncio.Task[None]] = set()

    async def read(self) -> bytes:
        pieces: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.is_gone = True
                raise asyncio.CancelledError
            piece = cast("bytes", message.get("body", b""))
            size += len(piece)
            if size > self._limit:
                raise too_large(self._limit)
            pieces.append(piece)
            if not message.get("more_body"):
                break
        self._watch(asyncio.current_task())
        return unfolded(b"".join(pieces), header(self.headers, b"content-encoding"), self._limit)

    async def reply(self, status: int, headers: Headers, body: bytes) -> None:
        length = (b"content-length", str(len(body)).encode())
        async with self._writing:
            await self._head(status, (*headers, length) if status != 204 else headers)
            shown = b"" if self.method == "HEAD" else body
            await self._send({"type": "http.response.body", "body": shown, "more_body": False})

    async def start(self, status: int, headers: Headers, data: bytes = b"") -> None:
        async with self._writing:
            if not self.is_started:
                await self._head(status, headers)
            await self._body(data)

    async def send(self, data: bytes) -> None:
        async with self._writing:
            await self._body(data)

    async def finish(self) -> None:
        async with self._writing:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    def nudge(self, status: int, headers: Headers, data: bytes) -> None:
        if not self._writing.locked():
            self._keep(asyncio.create_task(self.start(status, headers, data)))

    def release(self) -> None:
        for helper in self._helpers:
            helper.cancel()

    async def _head(self, status: int, headers: Headers) -> None:
        if self.is_started:
            raise InvalidRequest("The answer has already begun.")
        self.is_started = True
        await self._send({"type": "http.response.start", "status": status, "headers": [*headers, *self.extra]})

    async def _body(self, data: bytes) -> None:
        if data:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})

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
