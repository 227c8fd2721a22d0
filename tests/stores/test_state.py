"""The database of accounts' health: it keeps what it was given, and whatever is wrong with it, it stops nobody."""

import logging
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cliproxy.routing.health import Kept
from cliproxy.routing.limits import Limit
from cliproxy.routing.verdict import Fault, Source
from cliproxy.stores.state import NOTHING, STEPS, Changes, KeptLimits, KeptMark, Saved, StateStore

TIMES = st.floats(min_value=-1e12, max_value=1e12)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
RESTS = st.builds(
    Kept,
    account=NAMES,
    model=NAMES,
    cause=st.sampled_from(get_args(Fault)),
    source=st.sampled_from(get_args(Source)),
    status=st.integers(100, 599),
    evidence=NAMES,
    started_at=TIMES,
    until_at=st.none() | TIMES,
    count=st.integers(0, 10**9),
    probes=st.integers(0, 10**9),
)
ONE_LIMIT = st.builds(Limit, name=NAMES, left=st.none() | st.floats(0, 1), remaining=st.none() | st.floats(0, 1e9))
LIMITS = st.builds(
    KeptLimits, NAMES, TIMES, st.dictionaries(NAMES, st.lists(ONE_LIMIT, max_size=3).map(tuple), max_size=3)
)
MARKS = st.builds(KeptMark, NAMES, NAMES, NAMES)
CHANGES = st.builds(
    lambda rests, limits, marks, gone: Changes(
        {(one.account, one.model): one for one in rests} | {(one.account, one.model): None for one in gone},
        {one.account: one for one in limits},
        {one.account: one for one in marks},
    ),
    st.lists(RESTS, max_size=6),
    st.lists(LIMITS, max_size=4),
    st.lists(MARKS, max_size=4),
    st.lists(RESTS, max_size=2),
)


def rest(account: str = "a", model: str = "m", **more: object) -> Kept:
    return Kept(account, model, "quota", "header", 429, "retry-after: 60", 1000.0, 1060.0, **more)  # type: ignore[arg-type]


def changed(*rests: Kept) -> Changes:
    return Changes({(one.account, one.model): one for one in rests})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "state.db"


@pytest.fixture
def open_store(path: Path) -> Callable[[], StateStore]:
    """Each call is another process's."""
    return lambda: StateStore(lambda: path)


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.WARNING, "cliproxy")
    return lambda: [record.getMessage() for record in caplog.records]


def reopened(path: Path) -> Saved:
    store = StateStore(lambda: path)
    saved = store.load()
    store.close()
    return saved


@settings(max_examples=40, deadline=None)
@given(changes=st.lists(CHANGES, min_size=1, max_size=4))
def test_what_was_saved_is_loaded_and_what_was_removed_is_not(
    changes: list[Changes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("state") / "state.db"
    store = StateStore(lambda: path)
    rests, limits, marks = {}, {}, {}
    for change in changes:
        assert store.save(change)
        rests |= change.rests
        limits |= change.limits
        marks |= change.marks
    store.close()

    saved = reopened(path)

    assert {(one.account, one.model): one for one in saved.rests} == {k: v for k, v in rests.items() if v is not None}
    assert {one.account: one for one in saved.limits} == limits
    assert {one.account: one for one in saved.marks} == marks


def test_limits_and_marks_can_be_removed(open_store: Callable[[], StateStore]) -> None:
    store = open_store()
    store.save(Changes({}, {"a": KeptLimits("a", 1.0, {})}, {"a": KeptMark("a", "a.json", "1")}))
    store.save(Changes({}, {"a": None}, {"a": None}))
    store.close()

    assert open_store().load() == NOTHING


def test_text_that_is_none_to_a_database_is_kept_as_well_as_can_be(open_store: Callable[[], StateStore]) -> None:
    store = open_store()

    store.save(changed(rest(model="half \ud800"), rest(account="b")))

    assert not store.has_unsaved
    assert {one.model for one in store.load().rests} == {"half \\ud800", "m"}
    store.close()


def test_everything_is_for_the_owner_alone(path: Path, open_store: Callable[[], StateStore]) -> None:
    store = open_store()
    store.save(changed(rest()))

    modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in path.parent.iterdir()}

    assert modes == {"state.db": 0o600, "state.db-wal": 0o600, "state.db-shm": 0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    store.close()


def test_after_closing_one_file_holds_it_all(path: Path, open_store: Callable[[], StateStore]) -> None:
    store = open_store()
    store.save(changed(rest()))
    store.close()

    assert [entry.name for entry in path.parent.iterdir()] == ["state.db"]
    assert reopened(path).rests == (rest(),)


def test_a_missing_file_is_nothing_known_and_is_not_made(
    path: Path, open_store: Callable[[], StateStore], warnings
) -> None:
    store = open_store()

    assert store.load() == NOTHING
    store.close()
    assert warnings() == []
    assert not path.parent.exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"no database at all" * 1000,
        lambda data: data[: len(data) // 2],
        lambda data: data[:50],
        lambda data: data[:100] + b"\xff" * (len(data) - 100),
        lambda data: data[:4096] + bytes(len(data) - 4096),
    ],
    ids=["other", "truncated", "beheaded", "overwritten", "zeroed"],
)
def test_a_broken_file_is_put_aside_with_one_warning(
    path: Path, open_store: Callable[[], StateStore], warnings, damage: Callable[[bytes], bytes]
) -> None:
    before = open_store()
    before.save(changed(*(rest(f"account {number}") for number in range(500))))
    before.close()
    data = damage(path.read_bytes())
    path.write_bytes(data)

    store = open_store()

    assert store.load() == NOTHING
    assert store.save(changed(rest()))
    store.close()
    assert reopened(path).rests == (rest(),)
    assert (path.parent / "state.db.damaged").read_bytes() == data
    assert warnings() == ["`state.db` was damaged and is now `state.db.damaged`; accounts' health starts anew."]


def test_several_that_find_the_same_broken_file_put_it_aside_once(
    path: Path, open_store: Callable[[], StateStore], warnings
) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database at all" * 1000)
    stores = [open_store() for _ in range(4)]
    threads = [
        threading.Thread(target=one.save, args=(changed(rest(str(number))),)) for number, one in enumerate(stores)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    for one in stores:
        while one.has_unsaved:
            one.save(Changes())
        one.close()

    assert {one.account for one in reopened(path).rests} == {"0", "1", "2", "3"}
    assert sum("damaged" in text for text in warnings()) == 1


def test_a_file_that_breaks_while_it_is_open_is_made_anew(path: Path, open_store: Callable[[], StateStore]) -> None:
    store = open_store()
    store.save(changed(*(rest(f"account {number}") for number in range(500))))
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    other.close()
    path.write_bytes(b"x" * path.stat().st_size)

    assert store.save(changed(rest("account 300"))) is False
    assert store.save(changed(rest("again"))) is True
    store.close()
    assert {one.account for one in reopened(path).rests} == {"account 300", "again"}


def test_a_file_that_is_removed_while_it_is_open_is_made_anew(path: Path, open_store: Callable[[], StateStore]) -> None:
    store = open_store()
    store.save(changed(rest("before")))
    for entry in path.parent.iterdir():
        entry.unlink()
    path.parent.rmdir()

    assert store.save(changed(rest("after"))) is False
    store.close()
    assert [one.account for one in reopened(path).rests] == ["after"]


def test_a_newer_version_is_left_alone(path: Path, warnings) -> None:
    newer = StateStore(lambda: path, (*STEPS, ("ALTER TABLE rests ADD COLUMN mood TEXT",)))
    newer.save(Changes())
    newer.close()
    data = path.read_bytes()
    store = StateStore(lambda: path)

    assert store.load() == NOTHING
    assert store.save(changed(rest()))
    assert not store.has_unsaved
    store.close()
    assert path.read_bytes() == data
    assert len(warnings()) == 1
    assert "newer version" in warnings()[0]


def test_an_older_version_is_brought_up_to_date_with_its_rows(path: Path) -> None:
    before = StateStore(lambda: path)
    before.save(changed(rest()))
    before.close()
    steps = (*STEPS, ("CREATE TABLE moods (account TEXT PRIMARY KEY)", "INSERT INTO moods SELECT account FROM rests"))

    store = StateStore(lambda: path, steps)

    assert store.load().rests == (rest(),)
    store.close()
    with sqlite3.connect(path) as found:
        assert found.execute("SELECT account FROM moods").fetchall() == [("a",)]
        assert found.execute("PRAGMA user_version").fetchone() == (2,)
    found.close()


def test_a_step_that_fails_leaves_the_older_version(path: Path, warnings) -> None:
    before = StateStore(lambda: path)
    before.save(changed(rest()))
    before.close()

    store = StateStore(lambda: path, (*STEPS, ("CREATE TABLE moods (account TEXT)", "DELETE FROM nowhere")))

    assert store.load() == NOTHING
    store.close()
    assert len(warnings()) == 1
    assert reopened(path).rests == (rest(),)


def test_rows_with_words_of_another_version_are_left_out(path: Path, open_store: Callable[[], StateStore]) -> None:
    store = open_store()
    store.save(changed(rest("good"), rest("odd"), rest("void")))
    store.save(Changes({}, {"a": KeptLimits("a", 1.0, {}), "b": KeptLimits("b", 1.0, {})}))
    store.close()
    with sqlite3.connect(path) as other:
        other.execute("UPDATE rests SET cause = 'boredom' WHERE account = 'odd'")
        other.execute("UPDATE rests SET started_at = NULL WHERE account = 'void'")
        other.execute("UPDATE limits SET limits = 'no JSON' WHERE account = 'a'")
    other.close()

    saved = reopened(path)

    assert [one.account for one in saved.rests] == ["good"]
    assert [one.account for one in saved.limits] == ["b"]


@pytest.mark.parametrize("place", ["a file in the way", "a folder in the way"])
def test_a_place_that_takes_no_file_is_told_once_and_stops_nobody(tmp_path: Path, warnings, place: str) -> None:
    path = tmp_path / "state" / "state.db"
    if place == "a file in the way":
        path.parent.write_text("")
    else:
        path.mkdir(parents=True)
    store = StateStore(lambda: path)

    assert store.load() == NOTHING
    for _ in range(3):
        assert store.save(changed(rest()))

    assert store.has_unsaved
    store.close()
    assert len(warnings()) == 1
    assert str(tmp_path) not in warnings()[0]


def test_what_could_not_be_written_is_written_when_the_place_can_be_used(tmp_path: Path) -> None:
    path = tmp_path / "state" / "state.db"
    path.parent.write_text("")
    store = StateStore(lambda: path)
    store.save(changed(rest("first")))
    store.save(changed(rest("second")))
    path.parent.unlink()

    store.save(Changes({("first", "m"): None}))

    assert not store.has_unsaved
    store.close()
    assert [one.account for one in reopened(path).rests] == ["second"]


READ_ONLY = """
import os, sys
from pathlib import Path
from cliproxy.stores.state import Changes, StateStore
path = Path(sys.argv[1])
if os.geteuid() == 0:
    os.setgid(65534); os.setuid(65534)
store = StateStore(lambda: path)
saved = store.load()
assert [one.account for one in saved.rests] == ["a"], saved
store.save(Changes({("a", "m"): None}))
assert store.has_unsaved
store.close()
"""


def test_a_file_that_is_read_only_is_read(tmp_path: Path) -> None:
    """By somebody whom it does not belong to, where we are somebody who may do everything."""
    path = tmp_path / "state.db"
    store = StateStore(lambda: path)
    store.save(changed(rest()))
    store.close()
    path.chmod(0o444)
    folders = [folder for folder in path.parents if os.geteuid() == 0 and not folder.stat().st_mode & 0o001]
    modes = [folder.stat().st_mode for folder in folders]
    for folder in folders:
        folder.chmod(0o755)
    if os.geteuid() == 0:
        tmp_path.chmod(0o777)  # the log beside it can be written

    try:
        done = subprocess.run([sys.executable, "-c", READ_ONLY, path], capture_output=True, text=True, timeout=30)
    finally:
        for folder, mode in zip(folders, modes, strict=True):
            folder.chmod(mode)

    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert done.stderr.count("not kept") == 1, done.stderr
    assert [one.account for one in reopened(path).rests] == ["a"]


FULL = """
import resource, sys
from pathlib import Path
from cliproxy.routing.health import Kept
from cliproxy.stores.state import Changes, StateStore
store = StateStore(lambda: Path(sys.argv[1]))
def save(*accounts):
    store.save(Changes({(a, ""): Kept(a, "", "quota", "guess", 429, "", 1.0, 2.0) for a in accounts}))
save("first")
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
save(*(f"{number:0500}" for number in range(500)))
assert store.has_unsaved
save("second")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
save("third")
assert not store.has_unsaved
store.close()
"""


def test_a_disk_that_is_full_costs_nothing_but_time(path: Path) -> None:
    """A limit on the size of files stands for the disk."""
    done = subprocess.run([sys.executable, "-c", FULL, path], capture_output=True, text=True, timeout=30)

    assert done.returncode == 0, done.stderr
    assert done.stderr.count("not kept") == 1, done.stderr
    assert {"first", "second", "third"} < {one.account for one in reopened(path).rests}
    assert len(reopened(path).rests) == 503


def test_a_database_that_another_process_locks_is_not_waited_for_long(path: Path, warnings) -> None:
    store = StateStore(lambda: path)
    store.save(changed(rest("before")))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    store.save(changed(rest("meanwhile")))

    assert store.has_unsaved
    assert [one.account for one in reopened(path).rests] == ["before"]
    other.execute("COMMIT")
    other.close()
    store.save(Changes())
    assert not store.has_unsaved
    store.close()
    assert len(warnings()) == 1
    assert {one.account for one in reopened(path).rests} == {"before", "meanwhile"}


def test_two_that_write_lose_nothing_and_the_later_one_wins(path: Path) -> None:
    def write(name: str) -> None:
        store = StateStore(lambda: path)
        for number in range(50):
            store.save(changed(rest(f"{name} {number}"), rest("shared", probes=number)))
        while store.has_unsaved:
            store.save(Changes())
        store.close()

    threads = [threading.Thread(target=write, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    saved = {one.account: one for one in reopened(path).rests}
    assert len(saved) == 101
    assert saved["shared"].probes == 49
