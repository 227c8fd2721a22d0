"""The program's log in files: switching, rotating, reading from the end, and cursors."""

import errno
import logging
import os
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cliproxy.stores.app_log import TERMINAL, AppLog, Bounds
from cliproxy.stores.log_folder import append

LOG = logging.getLogger("cliproxy.test_app_log")


class Disk:
    def __init__(self) -> None:
        self.is_open = threading.Event()
        self.is_open.set()
        self.error: OSError | None = None

    def __call__(self, path: Path, data: bytes) -> int:
        assert self.is_open.wait(20)
        if self.error is not None:
            raise self.error
        return append(path, data)


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def log(tmp_path: Path, disk: Disk) -> Iterator[AppLog]:
    """Switched on."""
    LOG.setLevel(logging.INFO)
    made = AppLog(tmp_path / "logs", bounds=Bounds(file_bytes=2000, total_bytes=6000, backlog_bytes=20_000), add=disk)
    made.apply(is_to_file=True)
    yield made
    disk.is_open.set()
    made.close()


def say(log: AppLog, *texts: str) -> None:
    for text in texts:
        LOG.info("%s", text)
    assert log.settle()


def texts(lines: tuple[str, ...]) -> list[str]:
    return [line.rpartition("] ")[2] for line in lines]


# -- switching


def test_lines_go_to_a_file_that_only_its_owner_can_read(log):
    say(log, "hello")

    path = log.folder / "main.log"
    assert path.read_text().endswith("] hello\n")
    assert (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(log.folder.stat().st_mode)) == (0o600, 0o700)


def test_the_file_takes_the_place_of_the_terminal_until_it_is_switched_off(log):
    seen: list[str] = []
    terminal = logging.StreamHandler(
        type("Terminal", (), {"write": lambda _, text: seen.append(text), "flush": lambda _: None})()
    )
    terminal.set_name(TERMINAL)
    log.apply(is_to_file=False)
    logging.getLogger().addHandler(terminal)
    try:
        log.apply(is_to_file=True)
        log.apply(is_to_file=True)
        say(log, "to the file")
        log.apply(is_to_file=False)
        log.apply(is_to_file=False)
        say(log, "to the terminal")
    finally:
        logging.getLogger().removeHandler(terminal)

    assert [text for text in seen if text.startswith("to ")] == ["to the terminal\n"]
    assert (log.folder / "main.log").read_text().endswith("to the file\n")


def test_a_line_has_time_request_level_and_place(log):
    say(log, "req_0a1b2c3d00000001 gpt-5: codex answered 429", "no request")

    first, second = log.newest().lines
    assert first[20:52] == "] [req_0a1b2c3d00000001] [info] "
    assert first.endswith("] gpt-5: codex answered 429")
    assert "] [--------] [info] [test_app_log.py:" in second


def test_nothing_that_is_logged_can_pass_for_a_line(log):
    say(log, "a\n[2020-01-01 00:00:00] [--------] [info] [x:1] forged\x1b[31m")

    assert log.newest().lines[1] == "    [2020-01-01 00:00:00] [--------] [info] [x:1] forged?[31m"


# -- rotating


def test_a_full_file_is_put_aside_and_the_oldest_go(log):
    for number in range(200):
        say(log, f"line {number} {'x' * 40}")

    rotated = sorted(log.folder.glob("main-*.log"))
    assert 2 <= len(rotated) <= 3
    assert all(2000 <= path.stat().st_size < 2200 for path in rotated)
    assert texts(log.newest().lines)[-1].startswith("line 199")


def test_lines_are_read_across_files_in_their_order(log):
    for number in range(40):
        say(log, f"line {number:02} {'x' * 40}")

    page = log.newest()

    assert len(list(log.folder.glob("main-*.log"))) >= 1
    assert [text[:7] for text in texts(page.lines)] == [f"line {number:02}" for number in range(40)]


# -- reading


def test_a_limit_takes_the_newest_lines(log):
    say(log, *(f"line {number}" for number in range(20)))

    assert texts(log.newest(3).lines) == ["line 17", "line 18", "line 19"]


def write(log: AppLog, *lines: str) -> None:
    log.folder.mkdir(exist_ok=True)
    with (log.folder / "main.log").open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


def at(second: int) -> int:
    return int(time.mktime((2026, 11, 24, 10, 0, second, 0, 0, -1)))


LINES = [f"[2026-11-24 10:00:{second:02}] [--------] [info] [x.py:1] line {second}" for second in range(10)]


def test_after_keeps_only_later_lines_and_what_follows_them(log):
    write(log, *LINES[:5], "    follows 4", *LINES[5:7], "    follows 6", "    too")

    assert log.newest(after=at(4)).lines == (LINES[5], LINES[6], "    follows 6", "    too")
    assert log.newest(after=at(3)).lines[:2] == (LINES[4], "    follows 4")
    assert log.newest(after=at(9)).lines == ()
    assert log.newest(after=at(3)).latest_at == at(6)


def test_a_line_that_is_being_written_waits_for_its_end(log):
    write(log, *LINES[:2])
    with (log.folder / "main.log").open("a") as file:
        file.write(LINES[2][:30])

    page = log.newest()
    with (log.folder / "main.log").open("a") as file:
        file.write(LINES[2][30:] + "\n")

    assert page.lines == (LINES[0], LINES[1])
    assert log.since(page.cursor).lines == (LINES[2],)


def test_a_long_log_is_not_read_to_its_beginning(log):
    """Proved by what stands there: a hole that takes no place on disk, of which reading 1 TB would take hours."""
    log.folder.mkdir(exist_ok=True)
    path = log.folder / "main.log"
    with path.open("wb") as file:
        file.truncate(1 << 40)
        file.seek(0, os.SEEK_END)
        file.write("".join(f"\n{line}" for line in LINES).encode() + b"\n")

    assert log.newest(3).lines == tuple(LINES[7:])
    assert log.newest(after=at(8)).lines == (LINES[9],)


# -- cursors


def test_a_cursor_leads_to_what_came_since(log):
    say(log, "one", "two")
    page = log.newest()
    say(log, "three")

    later = log.since(page.cursor)

    assert texts(later.lines) == ["three"]
    assert log.since(later.cursor).lines == ()
    assert not later.is_reset


def test_a_cursor_with_a_limit_misses_nothing(log):
    cursor = log.newest().cursor
    say(log, *(f"line {number}" for number in range(7)))

    seen: list[str] = []
    while lines := (page := log.since(cursor, 3)).lines:
        seen += texts(lines)
        cursor = page.cursor

    assert seen == [f"line {number}" for number in range(7)]


def test_a_cursor_survives_rotations(log):
    say(log, "before")
    cursor = log.newest().cursor

    for number in range(40):
        say(log, f"line {number:02} {'x' * 40}")

    assert len(list(log.folder.glob("main-*.log"))) >= 1
    page = log.since(cursor)
    assert [text[:7] for text in texts(page.lines)] == [f"line {number:02}" for number in range(40)]
    assert not page.is_reset


@pytest.mark.parametrize("cursor", ["nonsense", "1.2.3", "1", "..", "1.zz.00", "1." + "f" * 40 + ".00"])
def test_a_cursor_that_leads_nowhere_is_told(log, cursor):
    say(log, "one")

    page = log.since(cursor)

    assert (texts(page.lines), page.is_reset) == (["one"], True)


def test_a_cursor_into_a_cleared_log_is_told(log):
    say(log, "one", "two", "three")
    cursor = log.newest().cursor
    log.clear()
    say(log, "four")

    page = log.since(cursor)

    assert (texts(page.lines), page.is_reset) == (["four"], True)


def test_a_cursor_into_a_rewritten_log_is_told(log):
    say(log, "one")
    cursor = log.newest().cursor
    path = log.folder / "main.log"
    path.write_text(path.read_text().replace("one", "eno"))

    assert log.since(cursor).is_reset


def test_clearing_empties_the_file_and_removes_the_rotated_ones(log):
    for number in range(40):
        say(log, f"line {number:02} {'x' * 40}")
    rotated = len(list(log.folder.glob("main-*.log")))

    removed = log.clear()

    assert removed == rotated >= 1
    assert [(path.name, path.stat().st_size) for path in log.folder.iterdir()] == [("main.log", 0)]
    say(log, "goes on")
    assert texts(log.newest().lines) == ["goes on"]


def test_clearing_nothing_is_fine(log):
    assert log.clear() == 0


# -- a disk that is slow, or fails


def test_logging_does_not_wait_for_the_disk_and_says_what_was_dropped(log, disk):
    say(log, "first")
    disk.is_open.clear()

    before = time.perf_counter()
    for _ in range(1000):
        LOG.info("while it hangs")
    took = time.perf_counter() - before
    disk.is_open.set()
    assert log.settle()
    say(log, "last")

    lines = log.newest().lines
    kept = sum("while it hangs" in line for line in lines)
    assert took < 2
    assert 0 < kept < 1000
    assert f"    ... {1000 - kept} lines were dropped: the disk was too slow ..." in lines


def test_lines_that_cannot_be_written_go_to_the_terminal(log, disk, capsys):
    disk.error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    say(log, "one", "two")

    told = capsys.readouterr().err
    assert told.count("`main.log` cannot be written or rotated: No space left on device.") == 1
    assert told.count("] one\n") == told.count("] two\n") == 1
