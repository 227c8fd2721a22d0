"""What every dialect brings: the seams between wire and canon.

A dialect reads wire into canon and writes canon to wire, for requests, answers, streams and errors. It knows no other
dialect, no provider and no model. What it cannot say it declares as losses.
"""

from collections.abc import Iterable, Mapping
from typing import Protocol

from msgspec import Raw, Struct

from cliproxy.canon.answer import Answer
from cliproxy.canon.errors import Problem
from cliproxy.canon.events import Event
from cliproxy.canon.fit import Fit
from cliproxy.canon.losses import Loss
from cliproxy.canon.models import ModelEntry
from cliproxy.canon.request import Request
from cliproxy.canon.usage import Usage


class Written(Struct, frozen=True):
    """A request in a dialect's bytes, and what it could not carry."""

    body: bytes
    losses: tuple[Loss, ...] = ()


class Echo(Struct, frozen=True):
    """What an answer says back of its request, and what it needs besides the events.

    `model` is the name that the caller used; it replaces the upstream's everywhere. `request` is the caller's own.
    `seed` is unique per answer: ids that the upstream did not give are minted from it. `now_at` is epoch seconds.
    `input_estimate` is our own token count, for dialects whose first event tells the input tokens.
    """

    model: str
    request: Request
    seed: str
    now_at: int
    input_estimate: int = 0


class Said(Protocol):
    """One turn as it came. `role` is "user", "system" or "developer" for what callers say of themselves; every other
    one shows that the model has spoken. `content` is JSON: a text, a list of parts, null."""

    role: str | None
    content: Raw


class Opening(Struct, frozen=True):
    """How a request begins, as far as that tells its conversation from others.

    `name` is what the caller calls the conversation, and `named_in` the field where it stands; both are "" when there
    is no such name, and only then the others count. `instructions` are what stands apart from the turns; `turns`
    can be gone over once. `moving` are members of parts that callers move from turn to turn, and that say nothing.
    """

    name: str = ""
    named_in: str = ""
    instructions: Raw = Raw(b"null")
    turns: Iterable[Said] = ()
    moving: frozenset[str] = frozenset()


class StreamReader(Protocol):
    """Bytes of one upstream stream to events; keeps the grammar of `canon.events`."""

    def feed(self, data: bytes) -> list[Event]: ...

    def close(self) -> list[Event]:
        """The upstream's body ended: pending events, and `Failed` if there was no proper end. Call once."""
        ...


class StreamWriter(Protocol):
    """Events to the bytes of one caller stream. Writes nothing after `Finish` or `Failed`."""

    def push(self, events: list[Event]) -> bytes: ...

    def keepalive(self) -> bytes:
        """Bytes that are safe at this very point of the stream and mean nothing."""
        ...


class Tap(Protocol):
    """Watches a stream that passes through untouched, to know what the gateway must know of it.

    `has_content` turns true with the first frame that is more than a handshake; `is_over` when the dialect's own end
    was seen; `problem` is an error that the upstream reported inside the stream.
    """

    has_content: bool
    is_over: bool
    problem: Problem | None

    def look(self, data: bytes) -> None: ...

    def usage(self) -> Usage | None: ...


class Dialect(Protocol):
    """One wire dialect. `name` is also the folder of its golden cases."""

    name: str
    fit: Fit
    stream_type: bytes
    """Content type of a streamed answer."""
    model_paths: tuple[tuple[str, ...], ...]
    """Where answers and stream frames name the model, as keys of nested objects."""
    keepalive: bytes
    """Bytes that mean nothing and are safe at any point between frames, even before the first."""
    is_framed: bool
    """Streams are event streams; otherwise one JSON array, written piecemeal."""
    follow_signs: tuple[bytes, ...]
    """Where none of these stands in a body, it neither names its conversation nor holds an answer of the model."""
    shows_reasoning: bool
    """A caller who asks for reasoning and does not say whether to see it expects to see it."""

    def read_request(self, body: bytes, *, model: str = "", is_stream: bool | None = None) -> Request:
        """`model` and `is_stream` come from the address where the dialect puts them there.

        Raises CallerFault with `param` naming the field.
        """
        ...

    def opening(self, body: bytes) -> Opening:
        """Raises CallerFault when it cannot read so much of `body`; what is wrong elsewhere goes unseen."""
        ...

    def write_request(self, request: Request) -> Written:
        """`request` has been fitted to `fit`. The same request always gives the same bytes."""
        ...

    def read_answer(self, body: bytes) -> list[Event]:
        """Events of an answer that came whole. Raises BrokenAnswer when `body` is none; ends in `Failed` when the
        body is the vendor's error object."""
        ...

    def read_usage(self, members: Mapping[str, Raw]) -> Usage | None:
        """The counts of a whole answer, from its members; None when they are missing or cannot be read."""
        ...

    def write_answer(self, answer: Answer, echo: Echo) -> bytes: ...

    def reader(self) -> StreamReader: ...

    def writer(self, echo: Echo) -> StreamWriter: ...

    def tap(self) -> Tap: ...

    def read_error(self, status: int, body: bytes) -> Problem:
        """Never raises: any body in any shape becomes a problem that keeps the vendor's message."""
        ...

    def write_error(self, problem: Problem, request_id: str) -> bytes:
        """The whole body of an error answer."""
        ...

    def write_stream_error(self, problem: Problem) -> bytes:
        """The frame that ends a stream which has already begun."""
        ...

    def status_of(self, problem: Problem) -> int:
        """The HTTP status that callers of this dialect expect for `problem`."""
        ...

    def write_count(self, tokens: int) -> bytes:
        """The body that answers how many input tokens a request has."""
        ...

    def write_models(self, models: list[ModelEntry]) -> bytes:
        """The body of a list of models, in the given order."""
        ...

    def write_model(self, model: ModelEntry) -> bytes: ...
