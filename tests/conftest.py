"""What all tests share: the simulated vendors, and gateways before them, on real sockets."""

import os
from collections.abc import Iterator

import pytest

from cliproxy.simulator import Simulator
from serving import EDGES, STANDARD, Serving, Start, all_ended

SLOW_ROOMS = frozenset({"cli", "flows", "management", "server", "simulation", "simulator", "transport"})


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of these folders open sockets, start programs or live through simulated weeks; `make unit` leaves them out."""
    for item in items:
        if item.path.relative_to(config.rootpath / "tests").parts[0] in SLOW_ROOMS:
            item.add_marker("flow")


@pytest.fixture(scope="session")
def shared_vendors() -> Iterator[Simulator]:
    """Simulated vendors for tests that script nothing."""
    with Simulator() as simulator:
        yield simulator


@pytest.fixture(scope="session", params=EDGES)
def shared(request: pytest.FixtureRequest, shared_vendors: Simulator) -> Iterator[Serving]:
    """The standard gateway, once per edge, for tests that change nothing."""
    serving = Serving(STANDARD.format(vendors=shared_vendors.url), edge=request.param)
    yield serving
    serving.stop()


@pytest.fixture
def vendors() -> Iterator[Simulator]:
    """Simulated vendors of one test, to be scripted."""
    with Simulator() as simulator:
        yield simulator


@pytest.fixture(params=EDGES)
def edge(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts gateways for one test and stops them after it."""
    started: list[Serving] = []

    def begin(text: str, **options: object) -> Serving:
        serving = Serving(text, **options)  # type: ignore[arg-type]
        started.append(serving)
        return serving

    yield begin
    for serving in started:
        serving.let_go()


@pytest.fixture(autouse=True, scope="session")
def _no_gateway_outlives_the_session() -> Iterator[None]:
    yield
    all_ended()


@pytest.fixture(autouse=True, scope="session")
def _no_environment_proxies() -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            del os.environ[name]
