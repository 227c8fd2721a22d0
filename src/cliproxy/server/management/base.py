"""What a row of the Management API is made of: operations, what they are asked and what they answer."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar
from urllib.parse import parse_qs

import msgspec
from msgspec import Struct, field

from cliproxy.canon.errors import InvalidRequest, PreconditionFailed, TooLarge
from cliproxy.gateway.exchange import Exchange
from cliproxy.gateway.plane import Plane
from cliproxy.wire.http import Headers, header
from cliproxy.wire.secrets import reveal_hook

Schema = Mapping[str, object]
"""A JSON Schema 2020-12, as OpenAPI 3.1 uses it."""

CONFIG_BODY_BYTES = 1024 * 1024

_T = TypeVar("_T")
_ENCODER = msgspec.json.Encoder(enc_hook=reveal_hook)


class Asked:
    """One management request that may be answered: its caller has shown a key. `segment` is the part of the path that
    a row's `{name}` stands for, percent-decoded; "" for rows without one."""

    __slots__ = ("_exchange", "query", "segment")

    def __init__(self, exchange: Exchange, segment: str) -> None:
        self.query: Mapping[str, list[str]] = parse_qs(exchange.query.decode("latin-1"), keep_blank_values=True)
        self.segment = segment
        self._exchange = exchange

    def first(self, name: str) -> str | None:
        """The first value of a query parameter; None when it is not there."""
        values = self.query.get(name)
        return values[0] if values else None

    def header(self, name: bytes) -> str:
        """`name` in lower case; "" when the header is not there."""
        return header(self._exchange.headers, name).decode("latin-1")

    async def body(self, limit: int = CONFIG_BODY_BYTES) -> bytes:
        """Raises TooLarge when the body is longer than `limit` bytes."""
        try:
            return await self._exchange.read(limit)
        except TooLarge as error:
            raise TooLarge("request body too large") from error

    async def json(self, decoder: msgspec.json.Decoder[_T]) -> _T:
        """The body as JSON of one shape. Raises InvalidRequest("invalid body") or TooLarge."""
        body = await self.body()
        try:
            return decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidRequest("invalid body") from error

    def expect(self, now: Answer) -> None:
        """Honour `If-Match` against what a GET would answer now. Raises PreconditionFailed."""
        wanted = self.header(b"if-match")
        if wanted and wanted.strip() != "*":
            tags = [tag.strip().removeprefix("W/") for tag in wanted.split(",")]
            if now.etag not in tags:
                raise PreconditionFailed


class Answer(Struct, frozen=True):
    status: int
    content: bytes
    headers: Headers = ((b"content-type", b"application/json"),)

    @property
    def etag(self) -> str:
        return f'"{hashlib.blake2b(self.content, digest_size=12).hexdigest()}"'


def told(value: object, status: int = 200) -> Answer:
    """A JSON answer; secrets in it are shown."""
    return Answer(status, _ENCODER.encode(value))


OK = told({"status": "ok"})
DONE: Mapping[int, Schema] = {200: {"type": "object", "properties": {"status": {"const": "ok"}}}}
"""How `OK` is described."""
STALE: Mapping[int, str] = {412: "It has changed since the `ETag` in `If-Match`."}
"""The refusal of every operation that calls `Asked.expect`."""

Handle = Callable[[Plane, Asked], Awaitable[Answer]]


class Parameter(Struct, frozen=True, kw_only=True):
    """One query parameter, for people and for the OpenAPI document."""

    name: str
    what: str
    schema: Schema = field(default_factory=lambda: {"type": "string"})
    is_required: bool = False


class Operation(Struct, frozen=True, eq=False, kw_only=True):
    """`bodies` are JSON schemas by media type; `answers` the schema of each success, by status; `refusals` say when
    each other status comes. 401, 403 and 500 need no mention where they are the general ones. `is_open`: needs no
    management key, because what it is asked holds a secret of its own."""

    handle: Handle
    summary: str
    parameters: tuple[Parameter, ...] = ()
    bodies: Mapping[str, Schema] = {}
    answers: Mapping[int, Schema] = {}
    refusals: Mapping[int, str] = {}
    is_open: bool = False


class Row(Struct, frozen=True, eq=False, kw_only=True):
    """One path below `/v0/management`. Its last segment may be a `{name}`. `tag` groups rows for people."""

    path: str
    tag: str
    operations: Mapping[str, Operation]
