"""Our HTTP/1.1 client: keep-alive connections, one `Pool` per event loop.

* Idle connections wait in a LIFO per origin. A request whose idle connection turns out dead before the first byte of
  an answer is sent again on a fresh one, once: servers close idle connections at any moment.
* Nobody waits longer than `_MAX_IDLE_SECONDS`: home routers and cloud gateways forget silent connections without a
  word, and a request on such a one would wait for an answer that cannot come.
"""

import asyncio
import ssl

from cliproxy.canon.errors import Unreachable
from cliproxy.transport.base import Deadlines
from cliproxy.transport.connection import Answer, Connection, Stale
from cliproxy.transport.dial import Dialer
from cliproxy.wire.http import HttpRequest, Origin

_MAX_IDLE_PER_ORIGIN = 512
_MAX_IDLE_SECONDS = 90.0


class Pool:
    """The transport. One per event loop. `tls` verifies upstreams; tests give one that trusts their own authority."""

    def __init__(self, tls: ssl.SSLContext | None = None, *, max_idle_seconds: float = _MAX_IDLE_SECONDS) -> None:
        self._dialer = Dialer(tls or _default_tls())
        self._idle: dict[Origin, list[Connection]] = {}
        self._max_idle_seconds = max_idle_seconds
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._is_closed = False

    async def send(self, request: HttpRequest, deadlines: Deadlines) -> Answer:
        """The answer, once its head is there. See `Transport.send`."""
        origin = request.origin
        if (connection := self._reusable(origin)) is not None:
            try:
                return await connection.exchange(request, deadlines)
            except Stale:
                pass
        connection = await self._dialer.dial(origin, lambda: Connection(self, origin), deadlines.connect)
        try:
            return await connection.exchange(request, deadlines)
        except Stale as error:
            raise Unreachable(f"{origin.host} closed the connection without an answer.") from error

    def close(self) -> None:
        self._is_closed = True
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
            self._sweep_timer = None
        idle, self._idle = self._idle, {}
        for connections in idle.values():
            for connection in connections:
                connection.discard()

    def keep(self, connection: Connection) -> None:
        """Called by a connection whose answer is over and which can serve another."""
        idle = self._idle.setdefault(connection.origin, [])
        if self._is_closed or len(idle) >= _MAX_IDLE_PER_ORIGIN:
            connection.discard()
            return
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        idle.append(connection)
        if self._sweep_timer is None:
            self._sweep_timer = loop.call_later(self._max_idle_seconds, self._sweep)

    def forget(self, connection: Connection) -> None:
        """Called by a connection that was lost while it waited."""
        idle = self._idle.get(connection.origin)
        if idle and connection in idle:
            idle.remove(connection)

    def _reusable(self, origin: Origin) -> Connection | None:
        idle = self._idle.get(origin)
        if not idle:
            return None
        oldest = asyncio.get_running_loop().time() - self._max_idle_seconds
        while idle:
            connection = idle.pop()
            if connection.is_alive and connection.idle_since > oldest:
                return connection
            connection.discard()
        return None

    def _sweep(self) -> None:
        """Cut what has waited too long and was not asked for; runs while anything waits."""
        loop = asyncio.get_running_loop()
        oldest = loop.time() - self._max_idle_seconds
        waiting: dict[Origin, list[Connection]] = {}
        for origin, connections in self._idle.items():
            for connection in connections:
                if connection.idle_since > oldest:
                    waiting.setdefault(origin, []).append(connection)
                else:
                    connection.discard()
        self._idle = waiting
        self._sweep_timer = loop.call_later(self._max_idle_seconds, self._sweep) if waiting else None


def _default_tls() -> ssl.SSLContext:
    tls = ssl.create_default_context()
    tls.set_alpn_protocols(["http/1.1"])
    return tls
