"""An exchange that puts down what passes it, for as long as `request-log` is on, or once a request has failed."""

from __future__ import annotations

from cliproxy.gateway.exchange import OpenExchange
from cliproxy.gateway.recording import Recorder, record_of, record_of_failure
from cliproxy.gateway.runtime import Runtime
from cliproxy.wire.http import Headers


def recorded(runtime: Runtime, exchange: OpenExchange) -> OpenExchange:
    """`exchange` with a record of all that passes it; as it is when there is no place for one."""
    recorder = record_of(runtime.request_logs, exchange, runtime.epoch())
    return exchange if recorder is None else RecordedExchange(exchange, recorder)


def recorded_failure(runtime: Runtime, exchange: OpenExchange, body: bytes) -> OpenExchange:
    """`exchange`, whose request failed, with a record of what it brought and of the answer that it will get."""
    recorder = record_of_failure(runtime.request_logs, exchange, runtime.epoch(), body)
    return exchange if recorder is None else RecordedExchange(exchange, recorder)


class RecordedExchange:
    """See `OpenExchange`. Does what the exchange within does, and puts it down before."""

    __slots__ = (
        "_inner",
        "extra",
        "headers",
        "id_name",
        "method",
        "path",
        "peer",
        "query",
        "recorder",
        "request_id",
    )

    def __init__(self, inner: OpenExchange, recorder: Recorder) -> None:
        self._inner = inner
        self.recorder = recorder
        self.method = inner.method
        self.path = inner.path
        self.query = inner.query
        self.headers = inner.headers
        self.peer = inner.peer
        self.request_id = inner.request_id
        self.extra = inner.extra
        self.id_name = inner.id_name

    @property
    def is_started(self) -> bool:
        return self._inner.is_started

    @property
    def is_gone(self) -> bool:
        return self._inner.is_gone

    async def read(self, limit: int | None = None) -> bytes:
        body = await self._inner.read(limit)
        self.recorder.brought(body)
        return body

    async def reply(self, status: int, headers: Headers, body: bytes) -> None:
        self._put_down(status, headers, b"" if self.method == "HEAD" else body)
        self.recorder.completed()
        await self._inner.reply(status, headers, body)

    async def start(self, status: int, headers: Headers, data: bytes = b"") -> None:
        self._put_down(status, headers, data)
        await self._inner.start(status, headers, data)

    async def send(self, data: bytes) -> None:
        self.recorder.said(data)
        await self._inner.send(data)

    def nudge(self, status: int, headers: Headers, data: bytes) -> bool:
        self._hand_on()
        is_done = self._inner.nudge(status, headers, data)
        if is_done:
            self.recorder.answers(status, (*headers, *self.extra))
            self.recorder.said(data)
        return is_done

    async def finish(self) -> None:
        self.recorder.completed()
        await self._inner.finish()

    def _put_down(self, status: int, headers: Headers, data: bytes) -> None:
        self._hand_on()
        self.recorder.answers(status, (*headers, *self.extra))
        self.recorder.said(data)

    def _hand_on(self) -> None:
        self._inner.extra = self.extra
        self._inner.id_name = self.id_name
