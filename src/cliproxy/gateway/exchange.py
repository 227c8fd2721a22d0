"""The seam to whoever called: one HTTP exchange, whatever server carries it."""

from typing import Protocol

from cliproxy.gateway.recording import Recorder
from cliproxy.wire.http import Headers


class Exchange(Protocol):
    """One request to be answered exactly once, by `reply` or by `start`, `send`..., `finish`.

    When the caller leaves, the task that serves the exchange is cancelled; nothing need be asked for. `path` is
    decoded; `query` is raw; header names are lower case. `peer` is the socket peer's address, without port. `extra`
    headers go out with whatever answer is given.
    """

    method: str
    path: str
    query: bytes
    headers: Headers
    peer: str
    request_id: str
    extra: Headers

    @property
    def is_started(self) -> bool: ...

    @property
    def recorder(self) -> Recorder | None:
        """Where this exchange puts down what passes it; None while that is not wanted."""
        ...

    async def read(self, limit: int | None = None) -> bytes:
        """The whole body, decompressed; at most `limit` bytes, or as many as the configuration allows.

        Raises TooLarge, InvalidRequest or SlowRequest.
        """
        ...

    async def reply(self, status: int, headers: Headers, body: bytes) -> None:
        """A whole answer."""
        ...

    async def start(self, status: int, headers: Headers, data: bytes = b"") -> None:
        """The head of an answer of unknown length, and its first bytes."""
        ...

    async def send(self, data: bytes) -> None:
        """More of the body; returns when the caller can take more."""
        ...

    def nudge(self, status: int, headers: Headers, data: bytes) -> bool:
        """From a timer: start the answer if that has not happened and write `data`; False, and nothing is done, while
        earlier bytes are still waiting."""
        ...

    async def finish(self) -> None: ...


class OpenExchange(Exchange, Protocol):
    """An exchange at the edge: `extra` headers go out with whatever answer is given.

    `id_name` is the header in which the caller's SDK looks for the request's id, besides `x-request-id`; b"" for none.
    """

    extra: Headers
    id_name: bytes

    @property
    def is_gone(self) -> bool:
        """Whether the caller has left; else a cancelled task means that the gateway stops."""
        ...
