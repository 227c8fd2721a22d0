"""An event loop whose time is a number: when nothing is ready it jumps to the next timer, so that weeks take seconds.

There is no I/O and there are no threads: what waits for anything but a timer or another task waits for ever, which ends
the run with `Stuck`. The same program always runs in the same way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class Stuck(Exception):
    """Everybody waits, and no timer will ever wake anybody."""


class _Selector:
    """What the loop asks for I/O: there is none, time passes instead."""

    def __init__(self) -> None:
        self.now = 0.0

    def select(self, timeout: float | None) -> list[object]:
        if timeout is None:
            raise Stuck(f"at {self.now:.3f} s everybody waits for somebody else")
        self.now += max(timeout, 0.0)
        return []


class VirtualLoop(asyncio.BaseEventLoop):
    def __init__(self) -> None:
        super().__init__()
        self._selector = _Selector()

    def time(self) -> float:
        return self._selector.now

    def _process_events(self, event_list: list[object]) -> None: ...

    def _write_to_self(self) -> None: ...


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run `main()` to its end, from the moment 0 on."""
    loop = VirtualLoop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
