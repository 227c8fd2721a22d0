"""Those who ask: what they send in each dialect, and an exchange that knows how an answer must end there."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cliproxy.canon.errors import GatewayError
from cliproxy.dialects import anthropic, gemini, openai_chat, openai_responses
from cliproxy.dialects.base import Dialect
from cliproxy.gateway.calls import Call
from cliproxy.gateway.snapshot import Snapshot
from cliproxy.routing.catalog import Route
from cliproxy.routing.pool import Lease
from cliproxy.wire.http import Headers

_MARK = re.compile(rb"mark-(\d+)-")


@dataclass(frozen=True, slots=True)
class Manner:
    """`end` and `error` are what a stream ends with, well or not. `repeats`: the end of a stream has all of its content
    once more, or the last of it."""

    dialect: Dialect
    body: bytes
    end: re.Pattern[bytes]
    error: re.Pattern[bytes]
    repeats: bool = False

    def call(self, model: str, text: str, headers: Headers, request_id: str, *, is_stream: bool) -> Call:
        body = self.body % (model.encode(), text.encode(), b"true" if is_stream else b"false")
        in_address = self.dialect is gemini.DIALECT
        return Call(self.dialect, body, headers, request_id, model=model if in_address else "", is_stream=is_stream)


MANNERS = (
    Manner(
        anthropic.DIALECT,
        b'{"model":"%b","max_tokens":9,"messages":[{"role":"user","content":"%b"}],"stream":%b}',
        re.compile(rb"event: message_stop"),
        re.compile(rb"event: error"),
    ),
    Manner(
        openai_chat.DIALECT,
        b'{"model":"%b","messages":[{"role":"user","content":"%b"}],"stream":%b}',
        re.compile(rb"data: \[DONE\]"),
        re.compile(rb'data: \{"error"'),
    ),
    Manner(
        openai_responses.DIALECT,
        b'{"model":"%b","input":"%b","stream":%b}',
        re.compile(rb"event: response\.(?:completed|incomplete)"),
        re.compile(rb"event: (?:response\.failed|error)"),
        repeats=True,
    ),
    Manner(
        gemini.DIALECT,
        b'{"labels":{"model":"%b"},"contents":[{"role":"user","parts":[{"text":"%b"}]}],"x-stream":%b}',
        re.compile(rb'"finishReason"'),
        re.compile(rb'data: \{"error"'),
        repeats=True,
    ),
)


class Exchange:
    """See `gateway.exchange.Exchange`. `faults` are what was done to it that must not be."""

    method, path, query, headers, peer, request_id, recorder = "POST", "/", b"", (), "", "", None

    def __init__(self) -> None:
        self.extra: Headers = ()
        self.is_started = False
        self.status = 0
        self.out: list[bytes] = []
        self.ends = 0
        self.faults: list[str] = []

    async def read(self, limit: int | None = None) -> bytes:
        return b""

    async def reply(self, status: int, headers: Headers, body: bytes) -> None:
        await self.start(status, headers, body)
        await self.finish()

    async def start(self, status: int, headers: Headers, data: bytes = b"") -> None:
        if self.is_started:
            self.faults.append("a second answer began")
        self.is_started, self.status = True, status
        await self.send(data)

    async def send(self, data: bytes) -> None:
        if not self.is_started or self.ends:
            self.faults.append("something was sent before the beginning or after the end")
        self.out.append(data)

    def nudge(self, status: int, headers: Headers, data: bytes) -> bool:
        if self.ends:
            self.faults.append("a keep-alive came after the end")
        self.is_started, self.status = True, self.status or status
        self.out.append(data)
        return True

    async def finish(self) -> None:
        self.ends += 1


class Request:
    """One request on its way, and what is known of it. `began` is when the current route was tried first, and `first_try`
    where its tries begin; `tells` of the tries have been looked at."""

    __slots__ = (
        "began",
        "call",
        "error",
        "exchange",
        "first_try",
        "is_over",
        "lease",
        "left",
        "manner",
        "number",
        "refused_at",
        "route_number",
        "snapshot",
        "tells",
    )  # fmt: skip

    def __init__(self, number: int, manner: Manner, call: Call, snapshot: Snapshot, began: float) -> None:
        self.number = number
        self.manner = manner
        self.call = call
        self.exchange = Exchange()
        self.snapshot = snapshot
        self.began = began
        self.error: GatewayError | None = None
        self.left = False
        self.is_over = False
        self.lease: Lease | None = None
        self.first_try = 0
        self.route_number = 1
        self.tells = 0
        self.refused_at: int | None = None
        """After how many events the same caller was told to come back now; None: it was not."""

    @property
    def route(self) -> Route:
        """The model that is tried, or was last."""
        route = self.snapshot.catalog.find(self.call.tally.routes[-1].model)
        assert route is not None
        return route

    async def tell(self, error: GatewayError) -> None:
        """What the edge does with a failure that the relay raises."""
        exchange, problem, dialect = self.exchange, error.problem, self.call.dialect
        self.error = error
        if exchange.is_started:
            await exchange.send(dialect.write_stream_error(problem))
            await exchange.finish()
        else:
            await exchange.reply(dialect.status_of(problem), (), dialect.write_error(problem, "req"))

    def wrong(self) -> str:
        """What is wrong with the answer; "" when nothing is."""
        exchange = self.exchange
        if exchange.faults:
            return exchange.faults[0]
        if self.left:
            return ""
        if exchange.ends != 1:
            return f"it was ended {exchange.ends} times"
        sent = b"".join(exchange.out)
        marks = _MARK.findall(sent)
        if len(set(marks)) > 1:
            return f"it mixes the answers {sorted(set(marks))}"
        if self.error is not None and not exchange.is_started:
            return "a failure was not told"
        if not self.call.is_stream:
            return "" if bool(marks) != (self.error is not None) else "a whole answer and a failure, or neither"
        return self._wrong_stream(sent, marks)

    def _wrong_stream(self, sent: bytes, marks: list[bytes]) -> str:
        if self.exchange.status != 200:
            return "" if not marks else "content under a status of failure"
        good, bad = list(self.manner.end.finditer(sent)), list(self.manner.error.finditer(sent))
        if len(good) + len(bad) != 1:
            return f"it has {len(good)} good ends and {len(bad)} errors"
        last = (good or bad)[0].start()
        if _MARK.search(sent, last) and (bad or not self.manner.repeats):
            return "content after the end"
        return "" if marks or bad else "a good end without content"
