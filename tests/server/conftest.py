"""What the edge's tests share: bare-socket callers, and a log that stays quiet whatever callers do."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from callers import Caller

from cliproxy.simulator import Simulator
from cliproxy.simulator.rules import Rule

Dial = Callable[..., Caller]


@pytest.fixture
def dial() -> Iterator[Dial]:
    """Opens connections to a gateway and closes them after the test."""
    with contextlib.ExitStack() as stack:

        def open_one(serving: Any, **options: Any) -> Caller:
            caller = Caller(serving.port, **options)
            stack.callback(caller.close)
            return caller

        yield open_one


@pytest.fixture
def caller(shared: Any, dial: Dial) -> Caller:
    """A connection to the shared gateway."""
    return dial(shared)


@pytest.fixture
def slowly(vendors: Simulator) -> Callable[..., None]:
    """Makes the vendors take `seconds` to begin each answer."""

    def script(*, seconds: float) -> None:
        vendors.script(Rule(delay=seconds))

    return script


@pytest.fixture(autouse=True)
def _quiet_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever callers do, the log has no traceback and no error."""
    yield
    loud = [record for record in caplog.get_records("call") if record.levelno >= logging.ERROR or record.exc_info]
    assert [record.getMessage() for record in loud] == []
