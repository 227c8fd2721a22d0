"""Records of requests on a real disk, on one that is slow, and on one that fails."""

import errno
import logging
import os
import re
import stat
import threading
import time
from pathlib import Path

import pytest

from cliproxy.stores.log_folder import append, is_private_name, log_folder
from cliproxy.stores.request_logs import Bounds, RequestLogs, is_request_id, slug

AT = 1_795_532_357.5


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "logs"


class Disk:
    """An `Append` that can be made to wait, or to fail."""

    def __init__(self) -> None:
        self.is_open = threading.Event()
        self.is_open.set()
        self.is_asked = threading.Event()
        self.error: OSError | None = None

    def __call__(self, path: Path, data: bytes) -> int:
        self.is_asked.set()
        assert self.is_open.wait(20)
        if self.error is not None:
            raise self.error
        return append(path, data)


def record(logs: RequestLogs, number: int = 1, *, asked: bytes = b"body", answered: bytes = b"answer") -> None:
    sheet = logs.begin("/v1/models", AT, f"req_{number:08x}")
    assert sheet is not None
    sheet.asked.title("REQUEST BODY")
    sheet.asked.put(asked)
    sheet.answered.title("RESPONSE")
    sheet.answered.put(answered)
    sheet.end()


def only_text(folder: Path) -> str:
    (path,) = folder.iterdir()
    return path.read_text()


# -- one file


def test_a_record_is_one_file_that_only_its_owner_can_read(folder):
    logs = RequestLogs(folder)

    record(logs)

    assert logs.settle()
    (path,) = folder.iterdir()
    assert path.name.startswith("v1-models-20")
    assert path.name.endswith("-req_00000001.log")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [stat.S_IMODE(made.stat().st_mode) for made in (folder, folder.parent)] == [0o700, 0o700]


@pytest.mark.parametrize("size", [10, 100_000])
def test_the_answer_stands_behind_all_that_was_asked_though_both_came_at_once(folder, size):
    logs = RequestLogs(folder)
    sheet = logs.begin("/", AT, "req_1")

    for name, letter in (("A", b"a"), ("B", b"b")):
        sheet.asked.title(name)
        if name == "A":
            sheet.answered.title("RESPONSE")
        sheet.asked.put(letter * size)
        sheet.answered.put(b"r" * size)
    sheet.end()

    assert logs.settle()
    text = only_text(folder)
    assert text == f"=== A ===\n{'a' * size}\n\n=== B ===\n{'b' * size}\n\n=== RESPONSE ===\n{'r' * size * 2}"


def test_what_a_running_request_put_down_is_on_disk_within_seconds(folder):
    logs = RequestLogs(folder)
    sheet = logs.begin("/", AT, "req_1")

    sheet.asked.title("REQUEST BODY")
    sheet.asked.put(b"hello")

    end = time.monotonic() + 5
    while not (folder.is_dir() and any(folder.iterdir())) and time.monotonic() < end:
        time.sleep(0.02)
    assert only_text(folder) == "=== REQUEST BODY ===\nhello"
    sheet.end()
    logs.close()


def test_a_section_is_cut_at_its_bound_and_says_how_much_is_missing(folder):
    logs = RequestLogs(folder, bounds=Bounds(section_bytes=10))

    record(logs, asked=b"x" * 30, answered=b"y" * 10)

    assert logs.settle()
    assert only_text(folder) == (
        "=== REQUEST BODY ===\nxxxxxxxxxx\n... 20 bytes not recorded: the section is too long ...\n"
        "\n\n=== RESPONSE ===\nyyyyyyyyyy"
    )


def test_many_sections_together_are_bounded_too(folder):
    logs = RequestLogs(folder, bounds=Bounds(section_bytes=10, file_bytes=15))
    sheet = logs.begin("/", AT, "req_1")

    for name in "ABC":
        sheet.asked.title(name)
        sheet.asked.put(b"x" * 10)
    sheet.end()

    assert logs.settle()
    text = only_text(folder)
    assert text.count("x") == 15
    assert "... 5 bytes not recorded" in text
    assert "=== C ===\n\n... 10 bytes not recorded" in text


# -- a disk that is slow


def test_a_slow_disk_delays_nobody_and_the_gap_is_noted(folder):
    disk = Disk()
    logs = RequestLogs(folder, bounds=Bounds(backlog_bytes=100_000), add=disk)
    disk.is_open.clear()
    sheet = logs.begin("/v1/messages", AT, "req_1")
    sheet.answered.title("RESPONSE")

    longest = 0.0
    for _ in range(5000):
        before = time.perf_counter()
        sheet.answered.put(b"x" * 1000)
        longest = max(longest, time.perf_counter() - before)
    disk.is_open.set()
    assert logs.settle()
    sheet.answered.put(b"the end")
    sheet.end()

    assert logs.settle()
    text = only_text(folder)
    kept = text.count("x")
    assert longest < 0.5
    assert 50_000 < kept < 250_000
    gaps = re.findall(r"\n\.\.\. (\d+) bytes not recorded: the disk was too slow \.\.\.\n", text)
    assert sum(map(int, gaps)) == 5_000_000 - kept
    assert text.endswith(" too slow ...\nthe end")


def test_a_gap_at_the_end_is_noted_as_well(folder):
    disk = Disk()
    logs = RequestLogs(folder, bounds=Bounds(backlog_bytes=30_000), add=disk)
    disk.is_open.clear()
    sheet = logs.begin("/", AT, "req_1")
    sheet.asked.title("A")

    for _ in range(100):
        sheet.asked.put(b"x" * 10_000)
    sheet.end()
    disk.is_open.set()

    assert logs.settle()
    text = only_text(folder)
    assert f"... {1_000_000 - text.count('x')} bytes not recorded: the disk was too slow" in text


def test_while_the_disk_hangs_further_requests_go_without_a_record(folder, caplog):
    disk = Disk()
    logs = RequestLogs(folder, bounds=Bounds(backlog_bytes=50_000), add=disk)
    disk.is_open.clear()
    sheet = logs.begin("/", AT, "req_1")
    sheet.asked.title("A")
    sheet.asked.put(b"x" * 20_000)
    assert disk.is_asked.wait(5)
    while (filler := logs.begin("/", AT, "req_2")) is not None:
        filler.end()

    with caplog.at_level(logging.WARNING):
        assert [logs.begin("/", AT + second, "req_3") for second in range(1, 90)] == [None] * 89
    disk.is_open.set()
    assert logs.settle()

    assert logs.begin("/", AT, "req_4") is not None
    assert sum("without a record" in line for line in caplog.messages) <= 2


# -- a disk that fails


def test_a_full_disk_costs_records_and_is_told_once_a_minute(folder, caplog):
    disk = Disk()
    logs = RequestLogs(folder, add=disk)
    disk.error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))

    with caplog.at_level(logging.WARNING):
        for number in range(20):
            record(logs, number)
        assert logs.settle()

    warnings = [line for line in caplog.messages if "records of requests" in line]
    assert warnings == ["Cannot write records of requests: No space left on device. The gateway goes on without."]
    disk.error = None
    record(logs, 99)
    assert logs.settle()
    assert [path.name[-16:] for path in folder.iterdir()] == ["req_00000063.log"]


def test_what_a_disk_refused_is_noted_once_it_takes_more(folder):
    disk = Disk()
    logs = RequestLogs(folder, add=disk)
    disk.error = OSError(errno.EIO, "no")
    sheet = logs.begin("/", AT, "req_1")
    sheet.asked.title("A")
    sheet.asked.put(b"x" * 20_000)
    assert logs.settle()

    disk.error = None
    sheet.asked.put(b"more")
    sheet.end()

    assert logs.settle()
    assert only_text(folder).startswith("\n... 20010 bytes not recorded: they could not be written ...\nmore")


def test_what_a_disk_refused_of_the_answer_is_noted_too(folder):
    disk = Disk()
    logs = RequestLogs(folder, add=disk)
    disk.error = OSError(errno.EIO, "no")
    sheet = logs.begin("/", AT, "req_1")
    sheet.answered.title("RESPONSE")
    sheet.answered.put(b"x" * 20_000)
    assert logs.settle()

    disk.error = None
    sheet.answered.put(b"more")
    sheet.end()

    assert logs.settle()
    assert only_text(folder) == "\n... 20019 bytes not recorded: they could not be written ...\nmore"


def test_a_folder_that_vanishes_comes_back(folder):
    logs = RequestLogs(folder)
    record(logs, 1)
    assert logs.settle()
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()

    record(logs, 2)

    assert logs.settle()
    assert len(list(folder.iterdir())) == 1


def test_nothing_is_written_through_a_link(folder, tmp_path):
    logs = RequestLogs(folder)
    folder.mkdir(parents=True)
    victim = tmp_path / "victim"
    victim.write_text("mine")
    record(logs, 1)
    assert logs.settle()
    (path,) = folder.iterdir()
    path.unlink()
    path.symlink_to(victim)

    record(logs, 1)

    assert logs.settle()
    assert victim.read_text() == "mine"
    assert logs.record("req_00000001") is None


# -- the folder


def test_the_oldest_records_go_when_there_are_too_many(folder):
    logs = RequestLogs(folder, bounds=Bounds(folder_files=10))

    for number in range(25):
        record(logs, number)
        assert logs.settle()
        (path,) = folder.glob(f"*req_{number:08x}.log")
        os.utime(path, (AT + number, AT + number))

    left = sorted(path.name[-16:-4] for path in folder.iterdir())
    assert len(left) <= 10
    assert left == [f"req_{number:08x}" for number in range(25 - len(left), 25)]


def test_the_oldest_records_go_when_they_are_too_large(folder):
    logs = RequestLogs(folder, bounds=Bounds(folder_bytes=100_000))

    for number in range(30):
        record(logs, number, asked=b"x" * 10_000)
    assert logs.settle()

    assert 60_000 < sum(path.stat().st_size for path in folder.iterdir()) < 110_000


def test_files_that_are_no_records_are_left_alone(folder):
    folder.mkdir(parents=True)
    for name in ("main.log", "main-2026-11-24T100000.log", "notes.txt"):
        (folder / name).write_text("x")
        os.utime(folder / name, (1, 1))
    logs = RequestLogs(folder, bounds=Bounds(folder_files=1))

    for number in range(5):
        record(logs, number)
    assert logs.settle()

    assert {"main.log", "main-2026-11-24T100000.log", "notes.txt"} < {path.name for path in folder.iterdir()}


def test_answers_of_a_killed_process_are_removed_in_time(folder):
    folder.mkdir(parents=True)
    old, new = folder / ".a-1.log.part", folder / ".b-1.log.part"
    for path in (old, new):
        path.write_text("x")
    os.utime(old, (1, 1))
    logs = RequestLogs(folder, bounds=Bounds(folder_files=1))

    record(logs, 1)
    record(logs, 2)
    assert logs.settle()

    assert (old.exists(), new.exists()) == (False, True)


def test_a_record_is_found_by_the_id_of_its_request(folder):
    logs = RequestLogs(folder)
    record(logs, 1)
    record(logs, 2, asked=b"second")
    assert logs.settle()

    name, content = logs.record("req_00000002")

    assert name.endswith("-req_00000002.log")
    assert b"second" in content
    assert logs.record("req_0000000") is None
    assert logs.record("00000002") is None


# -- failures


def fail(logs: RequestLogs, number: int, at: float) -> None:
    sheet = logs.begin_error("/v1/messages", at, f"req_{number:08x}")
    if sheet is not None:
        sheet.asked.title("REQUEST INFO")
        sheet.end()


def test_the_newest_failures_are_kept(folder):
    logs = RequestLogs(folder, bounds=Bounds(errors=3))
    record(logs, 1)

    for number in range(8):
        fail(logs, number, AT + number)
        assert logs.settle()

    names = [found.name for found in logs.errors()]
    assert sorted(name[-16:-4] for name in names) == ["req_00000005", "req_00000006", "req_00000007"]
    assert len(list(folder.iterdir())) == 4


def test_a_flood_of_failures_is_not_written_down(folder):
    logs = RequestLogs(folder, bounds=Bounds(errors=3))

    sheets = [logs.begin_error("/", AT, f"req_{number}") for number in range(100)]

    assert sum(sheet is not None for sheet in sheets) == 3
    assert logs.begin_error("/", AT + 1, "req_200") is not None


def test_only_records_of_failures_are_shown_as_such(folder, tmp_path):
    logs = RequestLogs(folder)
    record(logs, 1)
    fail(logs, 2, AT)
    assert logs.settle()
    (error,) = logs.errors()
    (other,) = [path.name for path in folder.iterdir() if path.name != error.name]
    (folder / "error-of-mine.log").symlink_to(tmp_path / "x")

    assert b"REQUEST INFO" in logs.error(error.name)
    assert error.size_bytes == (folder / error.name).stat().st_size
    for name in (other, "error-of-mine.log", "error-../x.log", "../" + error.name, "main.log", ""):
        assert logs.error(name) is None


# -- names


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/", "root"),
        ("/v1/models", "v1-models"),
        ("/v1beta/models/gemini-3:streamGenerateContent", "v1beta-models-gemini-3-streamGenerateContent"),
        ('/a<b>c"d|e?f*g h\ti', "a-b-c-d-e-f-g-h-i"),
        ("//a///b--c//", "a-b-c"),
        ("/../../etc/passwd", "etc-passwd"),
        ("/ü/\n", "root"),
        ("/error-x", "path-error-x"),
        ("/main", "path-main"),
        ("/" + "a" * 500, "a" * 100),
    ],
)
def test_a_path_becomes_a_harmless_name(path, name):
    assert slug(path) == name


@pytest.mark.parametrize("text", ["", "a/b", "..", "a-b", "a.b", "x" * 65, "ü"])
def test_what_is_no_request_id_is_not_looked_for(text):
    assert not is_request_id(text)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "a\0"])
def test_a_name_that_leads_elsewhere_is_not_private(name):
    assert not is_private_name(name)


def test_the_folder_is_beside_the_configuration_file(tmp_path):
    assert log_folder(tmp_path / "config.yaml", tmp_path / "state") == tmp_path / "logs"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_the_folder_is_in_the_state_folder_when_the_other_cannot_be_written(tmp_path):
    (tmp_path / "etc").mkdir(mode=0o500)

    assert log_folder(tmp_path / "etc" / "config.yaml", tmp_path / "state") == tmp_path / "state" / "logs"


def test_the_folder_is_in_the_state_folder_when_there_is_no_other(tmp_path):
    assert log_folder(tmp_path / "gone" / "config.yaml", tmp_path / "state") == tmp_path / "state" / "logs"
