"""A managed gateway for each test."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from managed import Managed

Manage = Callable[..., Managed]


@pytest.fixture
def manage(tmp_path: Path) -> Iterator[Manage]:
    """Starts managed gateways for one test, each in a folder of its own, and stops them after it."""
    started: list[Managed] = []

    def begin(text: str | None = None, **options: object) -> Managed:
        folder = tmp_path / f"gateway-{len(started)}"
        folder.mkdir()
        started.append(Managed(folder, text, **options))  # type: ignore[arg-type]
        return started[-1]

    yield begin
    for managed in started:
        managed.let_go()


@pytest.fixture
def managed(manage: Manage) -> Managed:
    """One that was started from the fixture."""
    return manage()
