"""The clock that goes on in sleep."""

import sys
import time

import pytest

from cliproxy.stores.clock import sleepless


def test_it_never_goes_back_and_keeps_pace() -> None:
    clock = sleepless()
    reference = time.monotonic()

    times = [clock() for _ in range(1000)]

    assert times == sorted(times)
    assert times[-1] - times[0] <= time.monotonic() - reference


@pytest.mark.skipif(sys.platform != "linux", reason="the clock of Linux")
def test_on_linux_it_counts_since_the_start_of_the_machine() -> None:
    before = time.clock_gettime(time.CLOCK_BOOTTIME)

    now = sleepless()()

    assert before <= now <= time.clock_gettime(time.CLOCK_BOOTTIME)
