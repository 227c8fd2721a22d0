"""A clock that goes on while the machine sleeps.

Python's `time.monotonic` stands still in sleep, on Linux and on macOS: a laptop that was closed for the night would take
its accounts' rests up in the morning where they were. Both systems have a clock that does not.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial


def sleepless() -> Callable[[], float]:
    """A monotonic clock in seconds that counts sleep, where the system has one. It is not asyncio's."""
    if sys.platform == "linux":
        clock = time.CLOCK_BOOTTIME
    elif sys.platform == "darwin":
        clock = time.CLOCK_MONOTONIC  # counts sleep there; `time.monotonic` reads another one
    else:
        return time.monotonic
    try:
        time.clock_gettime(clock)
    except OSError:  # an old kernel, or a sandbox that knows only some clocks
        return time.monotonic
    return partial(time.clock_gettime, clock)
