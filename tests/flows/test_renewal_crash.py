"""A process that is killed while it renews tokens: the next one goes on, and nobody has to log in again."""

import json
import multiprocessing
import random
import signal
from pathlib import Path

import pytest
import renewing

from cliproxy.simulator import Simulator

TRIES = 100
FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(["renewing"])


def _process(folder: Path, vendors: Simulator) -> multiprocessing.context.ForkServerProcess:
    process = FORKED.Process(target=renewing.renew, args=(str(folder), vendors.endpoints(), "a.json"))
    process.start()
    return process


@pytest.mark.parametrize("kind", ["codex"])
def test_killed_renewals_lose_no_token(tmp_path: Path, vendors: Simulator, kind: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(vendors.accounts.issue(kind, "ada@x.org")))  # type: ignore[arg-type]
    whole = _process(tmp_path, vendors)
    whole.join(10)
    assert whole.exitcode == 0
    chance = random.Random(7)
    killed = 0

    for _ in range(TRIES):
        process = _process(tmp_path, vendors)
        process.join(chance.uniform(0.0, 0.06))
        if process.is_alive() and process.pid is not None:
            process.kill()
            process.join(10)
            killed += process.exitcode == -signal.SIGKILL
        json.loads(path.read_text())

    last = _process(tmp_path, vendors)
    last.join(10)
    assert last.exitcode == 0
    assert killed > TRIES / 4
