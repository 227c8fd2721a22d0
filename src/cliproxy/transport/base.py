"""The seam to the network: a request goes out, an answer comes back in pieces."""

from typing import Protocol

from msgspec import Struct

from cliproxy.wire.http import Headers, HttpRequest


class Deadlines(Struct, frozen=True):
    """Seconds, 0 = none: to connect (proxy and TLS included), to the answer's head, between two pieces of a body."""

    connect: float = 10.0
    head: float = 0.0
    idle: float = 300.0


class UpstreamAnswer(Protocol):
    """An answer whose head has arrived. Exactly one task reads it; `close` must be called, in any state."""

    status: int
    headers: Headers

    async def piece(self) -> bytes:
        """The next bytes of the body, b"" when it is complete.

        Raises BrokenAnswer when the body breaks off, UpstreamTimeout when it stalls.
        """
        ...

    async def read(self, limit: int) -> bytes:
        """The rest of the body. Raises BrokenAnswer beyond `limit` bytes."""
        ...

    def close(self) -> None:
        """Give the connection back if the body has come entirely, else cut it: the upstream stops at once.

        Closing again does nothing, also when the connection serves another by then.
        """
        ...


class Transport(Protocol):
    async def send(self, request: HttpRequest, deadlines: Deadlines) -> UpstreamAnswer:
        """Raises Unreachable, UpstreamTimeout or BrokenAnswer; cancelling cuts the connection."""
        ...

    def close(self) -> None:
        """Drop idle connections, and those of answers under way once these are closed."""
        ...
