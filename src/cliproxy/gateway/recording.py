"""What a request and its upstream attempts put down in a file, when that is asked for.

Nothing here runs otherwise: an exchange that is recorded brings its `Recorder`, through which the relay then reaches
upstreams. Headers and addresses are written without secrets, and so are bodies where a key is long enough to be known
again and comes in one piece. Bodies are written as they are understood: without content encodings.
"""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import datetime
from typing import Protocol

from cliproxy import __version__
from cliproxy.canon.errors import Problem, UpstreamFault
from cliproxy.stores.request_logs import RequestLogs, Sheet
from cliproxy.transport.base import Deadlines, Transport, UpstreamAnswer
from cliproxy.wire.http import Headers, HttpRequest
from cliproxy.wire.masking import masked_lines, masked_target, secrets_of, without
from cliproxy.wire.secrets import mask_userinfo


class Arrived(Protocol):
    """What a record begins with; see `gateway.exchange.Exchange`."""

    method: str
    path: str
    query: bytes
    headers: Headers
    request_id: str


def record_of(logs: RequestLogs | None, arrived: Arrived, at: float) -> Recorder | None:
    """A record of what has arrived (`at` is epoch seconds); None when there is no place for one."""
    sheet = None if logs is None else logs.begin(arrived.path, at, arrived.request_id)
    return None if sheet is None else Recorder(sheet, arrived, at)


def record_of_failure(logs: RequestLogs | None, arrived: Arrived, at: float, body: bytes) -> Recorder | None:
    """Likewise for a request that nobody recorded, and that turned out to fail."""
    sheet = None if logs is None else logs.begin_error(arrived.path, at, arrived.request_id)
    if sheet is None:
        return None
    recorder = Recorder(sheet, arrived, at)
    recorder.brought(body)
    return recorder


class Recorder:
    """The record of one request, in the order of its sections."""

    __slots__ = ("_attempts", "_is_answered", "_is_complete", "_secrets", "_sheet")

    def __init__(self, sheet: Sheet, arrived: Arrived, at: float) -> None:
        query = arrived.query.decode("latin-1")
        self._sheet = sheet
        self._secrets = secrets_of(arrived.headers, query)
        self._attempts = 0
        self._is_answered = False
        self._is_complete = False
        self._section(
            "REQUEST INFO",
            f"Version: {__version__}\n"
            f"URL: {masked_target(arrived.path, query)}\n"
            f"Method: {arrived.method}\n"
            f"Timestamp: {datetime.fromtimestamp(at).astimezone().isoformat()}\n"
            f"Request-ID: {arrived.request_id}",
        )
        self._section("HEADERS", masked_lines(arrived.headers))
        self._sheet.asked.title("REQUEST BODY")

    def over(self, transport: Transport) -> Transport:
        """`transport`, with all that passes it in the record."""
        return _RecordedTransport(transport, self)

    # -- the caller's side

    def brought(self, body: bytes) -> None:
        self._sheet.asked.put(without(body, self._secrets))

    def answers(self, status: int, headers: Headers) -> None:
        """Only the first head counts."""
        if self._is_answered:
            return
        self._is_answered = True
        answered = self._sheet.answered
        answered.title("RESPONSE")
        answered.put(without(f"Status: {status}\n{masked_lines(headers)}\n".encode(), self._secrets))

    def said(self, data: bytes) -> None:
        answered = self._sheet.answered
        if not self._is_answered:
            self._is_answered = True
            answered.title("RESPONSE")
            answered.put(b"... what came before the failure is not recorded ...\n")
        answered.put(without(data, self._secrets))

    def broke_off(self, problem: Problem) -> None:
        """The upstream failed after the answer had begun."""
        self.said(f"... the upstream broke off (HTTP {problem.status}, {problem.kind}): {problem.message} ...".encode())

    def completed(self) -> None:
        self._is_complete = True

    def end(self) -> None:
        """To be called once, whatever became of the request."""
        answered = self._sheet.answered
        if not self._is_complete:
            if not self._is_answered:
                answered.title("RESPONSE")
            answered.put(b"\n... not complete: the caller left, or the gateway stopped ...")
        answered.put(b"\n")
        self._sheet.end()

    # -- the upstream's side

    def asks(self, request: HttpRequest) -> None:
        self._attempts += 1
        headers = _headers_of(request.head)
        path, _, query = request.target.decode("latin-1").partition("?")
        self._secrets = tuple({*self._secrets, *secrets_of(headers, query)})
        origin = request.origin
        via = f"Proxy: {mask_userinfo(origin.proxy)}\n" if origin.proxy else ""
        self._section(
            "API REQUEST",
            f"Attempt: {self._attempts}\n"
            f"URL: {origin.scheme}://{origin.authority}{masked_target(path, query)}\n"
            f"Method: {request.method.decode()}\n"
            f"{via}{masked_lines(headers)}\n",
        )
        self._sheet.asked.put(without(request.body, self._secrets))

    def upstream_answers(self, status: int, headers: Headers) -> None:
        is_error = not 200 <= status < 300
        name, label = ("API ERROR RESPONSE", "HTTP Status") if is_error else ("API RESPONSE", "Status")
        self._section(name, f"{label}: {status}\n{masked_lines(headers)}\n")

    def upstream_said(self, data: bytes) -> None:
        self._sheet.asked.put(without(data, self._secrets))

    def upstream_failed(self, error: UpstreamFault, *, has_answered: bool) -> None:
        text = f"Failed: {error.problem.message}\n"
        if has_answered:
            self._sheet.asked.put(without(f"\n... {text}".encode(), self._secrets))
        else:
            self._section("API ERROR RESPONSE", text)

    def _section(self, name: str, text: str) -> None:
        self._sheet.asked.title(name)
        self._sheet.asked.put(without(text.encode(), self._secrets))


class _RecordedTransport:
    """See `Transport`."""

    __slots__ = ("_inner", "_recorder")

    def __init__(self, inner: Transport, recorder: Recorder) -> None:
        self._inner = inner
        self._recorder = recorder

    async def send(self, request: HttpRequest, deadlines: Deadlines) -> UpstreamAnswer:
        self._recorder.asks(request)
        try:
            answer = await self._inner.send(request, deadlines)
        except UpstreamFault as error:
            self._recorder.upstream_failed(error, has_answered=False)
            raise
        self._recorder.upstream_answers(answer.status, answer.headers)
        return _RecordedAnswer(answer, self._recorder)

    def close(self) -> None:
        self._inner.close()


class _RecordedAnswer:
    """See `UpstreamAnswer`."""

    __slots__ = ("_inner", "_recorder", "headers", "status")

    def __init__(self, inner: UpstreamAnswer, recorder: Recorder) -> None:
        self._inner = inner
        self._recorder = recorder
        self.status = inner.status
        self.headers = inner.headers

    async def piece(self) -> bytes:
        return self._put_down(await self._tried(self._inner.piece()))

    async def read(self, limit: int) -> bytes:
        return self._put_down(await self._tried(self._inner.read(limit)))

    def close(self) -> None:
        self._inner.close()

    def _put_down(self, data: bytes) -> bytes:
        self._recorder.upstream_said(data)
        return data

    async def _tried(self, reading: Awaitable[bytes]) -> bytes:
        try:
            return await reading
        except UpstreamFault as error:
            self._recorder.upstream_failed(error, has_answered=True)
            raise


def _headers_of(head: bytes) -> Headers:
    """Complete header lines taken apart."""
    pairs = [line.partition(b":") for line in head.split(b"\r\n") if line]
    return tuple((name.strip(), value.strip()) for name, _, value in pairs)
