"""Time as a number, for what waits: it passes when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator


class FakeTime:
    """`monotonic` and `pause` are for what is tested; `advance` must be called on the loop that waits."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._waiting: list[tuple[float, asyncio.Future[None]]] = []

    def monotonic(self) -> float:
        return self._now

    async def pause(self, seconds: float) -> None:
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (self._now + seconds, over)
        self._waiting.append(entry)
        try:
            await over
        finally:
            self._waiting.remove(entry)

    def advance(self, seconds: float) -> None:
        self._now += seconds
        for over in self._due():
            over.set_result(None)

    def waits(self) -> list[float]:
        """How many seconds each of those that wait still has to."""
        return sorted(at - self._now for at, over in self._waiting if not over.done())

    def _due(self) -> Iterator[asyncio.Future[None]]:
        return (over for at, over in list(self._waiting) if at <= self._now and not over.done())
