"""Coroutine tests run on both event loops; certificates come from `openssl`."""

import asyncio
import inspect
import shutil
from collections.abc import Callable
from typing import Any

import pytest
import uvloop
from certificates import Authority

_LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
_TEST_SECONDS = 30.0


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if inspect.iscoroutinefunction(metafunc.function):
        metafunc.fixturenames.append("loop")
        metafunc.parametrize("loop", _LOOPS)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """What the loop itself has to complain about fails the test, too."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}
    complaints: list[dict[str, Any]] = []
    with asyncio.Runner(loop_factory=_LOOPS[pyfuncitem.callspec.params["loop"]]) as runner:
        runner.get_loop().set_exception_handler(lambda _, context: complaints.append(context))
        runner.run(asyncio.wait_for(pyfuncitem.obj(**wanted), _TEST_SECONDS))
    assert complaints == []
    return True


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    if shutil.which("openssl") is None:
        pytest.skip("`openssl` is not installed: TLS is not tested")
    return Authority(tmp_path_factory.mktemp("authority"))
