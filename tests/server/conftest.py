"""What the edge's tests share: bare-socket callers, and a log that stays quiet whatever callers do."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from callers import Caller
from doors import CONFIG

from cliproxy.server.fast import FastProtocol
from cliproxy.simulator import Simulator
from cliproxy.simulator.rules import Rule
from serving import EDGES, Serving

MORE = """\
streaming: {keepalive-seconds: 0.4}
limits: {max-body-bytes: 100000, max-header-bytes: 8192}
"""

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


@pytest.fixture(autouse=True, scope="session")
def _attentive() -> Iterator[None]:
    """Gateways look at their deadlines often, so that tests of deadlines need not wait for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FastProtocol, "reap_seconds", 0.1)
        yield


@pytest.fixture(scope="session")
def _scripted_vendors() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def vendors(_scripted_vendors: Simulator) -> Simulator:
    """Vendors to be scripted. They are the same in all tests of the edge, but remember nothing of the test before."""
    _scripted_vendors.reset()
    return _scripted_vendors


@pytest.fixture(scope="session", params=EDGES)
def _serving(request: pytest.FixtureRequest, _scripted_vendors: Simulator) -> Iterator[Serving]:
    serving = Serving(CONFIG.format(vendors=_scripted_vendors.url) + MORE, edge=request.param)
    yield serving
    serving.stop()


@pytest.fixture
def serving(_serving: Serving, vendors: Simulator) -> Serving:
    """A gateway before `vendors` that keeps streams alive after 0.4 s and takes little: 100 kB, heads of 8 kB."""
    return _serving


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
