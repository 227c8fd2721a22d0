"""A process that is killed while it writes down accounts' health: the next one finds all that was written, in whole."""

import logging
import multiprocessing
import random
import signal
from pathlib import Path

import pytest
import saving

from cliproxy.stores.state import Saved, StateStore

TRIES = 40
FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(["saving"])


def killed_while_saving(path: Path, seconds: float) -> int:
    """The last number that a process told before it was killed, so long after its first."""
    told, tells = FORKED.Pipe(duplex=False)
    process = FORKED.Process(target=saving.save, args=(str(path), tells))
    process.start()
    tells.close()
    assert told.poll(10)
    last = told.recv()
    process.join(seconds)
    process.kill()
    process.join(10)
    assert process.exitcode == -signal.SIGKILL
    try:
        while True:
            last = told.recv()
    except EOFError:  # also for a number of which only a part was told
        told.close()
    return last


def loaded(path: Path) -> Saved:
    store = StateStore(lambda: path)
    saved = store.load()
    store.close()
    return saved


def test_killed_writers_lose_nothing_that_they_had_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "cliproxy")
    path = tmp_path / "state.db"
    chance = random.Random(7)
    found = 0

    for number in range(TRIES):
        last = killed_while_saving(path, chance.uniform(0.0, 0.03))
        if number % 2:  # else the next writer is the one who finds what was left
            saved = loaded(path)
            found = len(saved.rests)
            assert [one.account for one in saved.rests] == [f"{number:06}" for number in range(found)]
            assert [one.mark for one in saved.marks] == [one.account for one in saved.rests]
            assert found > last

    assert found > TRIES
    assert caplog.messages == []
    assert not path.with_name("state.db.damaged").exists()
