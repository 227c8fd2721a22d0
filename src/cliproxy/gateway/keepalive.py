"""Signs of life for callers whose upstream is silent."""

import asyncio

from cliproxy.gateway.bridge import Flow
from cliproxy.gateway.calls import Call
from cliproxy.gateway.exchange import Exchange
from cliproxy.wire.http import Headers

UNBUFFERED: Headers = ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))
"""What keeps proxies from holding back a stream."""


class Keepalive:
    """Says something meaningless to a caller when the upstream is silent for `seconds`; 0 = never.

    One timer per stream, re-armed lazily. If the silence comes before the answer has begun, it begins here: from then
    on failures are told inside the stream. Frames that were held back go out at the same time, and count as content.
    """

    __slots__ = ("_call", "_exchange", "_held", "_last", "_loop", "_seconds", "_timer", "_waiting", "flow")

    def __init__(self, seconds: float, exchange: Exchange, call: Call) -> None:
        self.flow: Flow | None = None
        self._held: list[bytes] = []
        self._waiting: Flow | None = None
        self._exchange = exchange
        self._call = call
        self._loop = asyncio.get_running_loop()
        self._seconds = seconds
        self._last = self._loop.time()
        self._timer = self._loop.call_later(seconds, self._tick) if seconds else None

    def touch(self) -> None:
        self._last = self._loop.time()

    def hold(self, flow: Flow) -> list[bytes]:
        """Where to keep the frames of `flow` until it has content."""
        self._waiting = flow
        self._held = []
        return self._held

    def let_go(self) -> None:
        self._waiting = None

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        due = self._last + self._seconds
        now = self._loop.time()
        if now + 0.001 >= due:
            self._speak()
            self._last = now
            due = now + self._seconds
        self._timer = self._loop.call_at(due, self._tick)

    def _speak(self) -> None:
        """Send frames that were held back too long, else something meaningless."""
        flow = self._waiting
        held = b"" if flow is None else b"".join(self._held)
        quiet = self._call.dialect.keepalive if self.flow is None else self.flow.keepalive()
        headers = ((b"content-type", self._call.dialect.stream_type), *UNBUFFERED)
        if self._exchange.nudge(200, headers, held or quiet) and flow is not None and held:
            flow.has_content = True
            self._held.clear()
