"""The configuration file on a real disk, edited in all the ways people and programs edit files."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cliproxy.config.issues import ConfigError, Issue
from cliproxy.stores.config_file import ConfigFile, Overtaken, Version, Watch, write_new

DEADLINE = 1.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text("port: 1000\n")
    return path


class Watched:
    """A file under watch, with a clock that we turn: polls follow each other in quarters of a second."""

    def __init__(self, path: Path) -> None:
        self.file = ConfigFile(path)
        self.file.load()
        self.ports: list[int] = []
        self.errors: list[str] = []
        self.refuses = False
        self.is_busy = False
        self._watch = Watch(self.file, self._on_change, self._on_error)
        self._now = 0.0
        self.wait(0.5)

    def wait(self, seconds: float = DEADLINE) -> None:
        async def polls() -> None:
            until = self._now + seconds
            while self._now < until:
                self._now += 0.25
                await self._watch.poll(self._now)

        asyncio.run(polls())

    async def _on_change(self, version: Version) -> None:
        if self.refuses:
            raise ConfigError([Issue("config.yaml", "$.host", 1, 1, "refused")])
        if self.is_busy:
            return
        self.ports.append(version.loaded.config.port)
        self.file.adopted = version.digest

    async def _on_error(self, error: ConfigError) -> None:
        self.errors.append(str(error))


def replace(path: Path, text: str) -> None:
    beside = path.with_name("edited")
    beside.write_text(text)
    beside.replace(path)


# -- loading ----------------------------------------------------------------------------------------------------------


def test_load_gives_the_configuration_with_messages_in_the_name_of_the_file(path):
    path.write_text("port: 9\nfoo: 1\n")

    loaded = ConfigFile(path).load()

    assert loaded.config.port == 9
    assert str(loaded.warnings[0]).startswith("config.yaml:2: $.foo: ")


def test_load_tells_a_broken_file_from_a_missing_one(tmp_path):
    (tmp_path / "broken.yaml").write_text("port: x")

    with pytest.raises(ConfigError):
        ConfigFile(tmp_path / "broken.yaml").load()
    with pytest.raises(FileNotFoundError):
        ConfigFile(tmp_path / "missing.yaml").load()


def test_a_file_in_another_encoding_is_refused_with_its_line(path):
    path.write_bytes(b"port: 1\nhost: \xff\n")

    with pytest.raises(ConfigError, match=r"config\.yaml:2: \$: not UTF-8"):
        ConfigFile(path).load()


# -- watching ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def watched(path: Path) -> Watched:
    return Watched(path)


def test_an_edit_in_place_is_told_once(path, watched):
    path.write_text("port: 2000\n")
    watched.wait()
    watched.wait(5)

    assert watched.ports == [2000]


def test_a_replaced_file_is_told_each_time(path, watched):
    for port in (2000, 3000):
        replace(path, f"port: {port}\n")
        watched.wait()

    assert watched.ports == [2000, 3000]


def test_of_two_edits_between_two_looks_the_last_one_counts(path, watched):
    path.write_text("port: 2000\n")
    path.write_text("port: 3000\n")
    watched.wait()

    assert watched.ports == [3000]


def test_a_broken_content_in_between_is_not_mentioned(path, watched):
    path.write_text("port: [20")
    watched.wait(0.5)
    path.write_text("port: 2000\n")
    watched.wait()

    assert (watched.ports, watched.errors) == ([2000], [])


def test_a_content_that_stays_broken_is_reported_once_and_its_repair_is_told(path, watched):
    path.write_text("port: x\n")
    watched.wait()
    assert watched.errors == ["config.yaml:1: $.port: expected a whole number, got text"]

    path.touch()
    watched.wait(5)
    path.write_text("port: 2000\n")
    watched.wait()

    assert (watched.ports, len(watched.errors)) == ([2000], 1)


def test_each_broken_content_is_reported_once_however_often_it_returns(path, watched):
    for text in ("port: x\n", "port: y y\n", "port: x\n", "port: y y\n"):
        path.write_text(text)
        watched.wait()

    assert len(watched.errors) == 2


def test_going_back_to_the_content_in_use_after_an_error_is_told(path, watched):
    path.write_text("port: x\n")
    watched.wait()
    path.write_text("port: 1000\n")
    watched.wait()

    assert (watched.ports, len(watched.errors)) == ([1000], 1)


def test_an_edit_of_the_same_size_within_one_tick_of_the_file_system_is_told(path, watched):
    path.write_text("port: 2000\n")
    stamp = path.stat()
    watched.wait()

    path.write_text("port: 3000\n")
    os.utime(path, ns=(stamp.st_mtime_ns, stamp.st_mtime_ns))
    watched.wait()

    assert watched.ports == [2000, 3000]


def test_a_coarse_clock_hides_no_edit_within_two_seconds(path):
    class Coarse(type(path)):
        """On a file system whose stamps never move."""

        def stat(self, *, follow_symlinks=True):
            return os.stat_result((0o100600, 1, 1, 1, 0, 0, 11, 0, 0, 0))

    watched = Watched(Coarse(path))
    path.write_text("port: 2000\n")
    watched.wait(1)

    assert watched.ports == [2000]


def test_a_deleted_file_is_reported_and_told_when_it_is_back(path, watched):
    path.unlink()
    watched.wait()
    assert ["the file is missing" in error for error in watched.errors] == [True]

    path.write_text("port: 2000\n")
    watched.wait()

    assert (watched.ports, len(watched.errors)) == ([2000], 1)


def test_a_file_that_is_away_for_a_moment_is_not_mentioned(path, watched):
    path.unlink()
    watched.wait(0.25)
    path.write_text("port: 1000\n")
    watched.wait()

    assert (watched.ports, watched.errors) == ([], [])


@pytest.mark.parametrize("text", ["", "\n\n", "  \n"])
def test_an_emptied_file_is_never_adopted(path, watched, text):
    path.write_text(text)
    watched.wait()

    assert watched.ports == []
    assert ["the file is empty" in error for error in watched.errors] == [True]


def test_a_file_written_slowly_is_adopted_when_it_is_whole(path, watched):
    with path.open("w") as file:
        for line in ("port: 2000\n", "debug: true\n", "request-log: true\n", "host: 127.0.0.1\n"):
            file.write(line)
            file.flush()
            watched.wait(0.25)
    assert watched.ports == []

    watched.wait()

    assert watched.ports == [2000]


def test_touching_or_rewriting_the_same_content_tells_nothing(path, watched):
    path.touch()
    watched.wait()
    replace(path, "port: 1000\n")
    watched.wait()

    assert (watched.ports, watched.errors) == ([], [])


def test_what_we_saved_ourselves_is_not_told(path, watched):
    watched.file.save("port: 2000\n")
    watched.wait()
    assert watched.ports == []

    path.write_text("port: 3000\n")
    watched.wait()

    assert watched.ports == [3000]


def test_a_link_that_is_switched_to_another_file_is_followed(tmp_path, path):
    second, link, beside = tmp_path / "b", tmp_path / "link.yaml", tmp_path / "new"
    second.write_text("port: 2000\n")
    link.symlink_to(path)
    watched = Watched(link)

    beside.symlink_to(second)
    beside.replace(link)
    watched.wait()

    assert watched.ports == [2000]


def test_a_configuration_that_its_receiver_refuses_is_an_error(path, watched):
    watched.refuses = True
    path.write_text("port: 2000\n")
    watched.wait()
    assert watched.errors == ["config.yaml:1: $.host: refused"]

    watched.refuses = False
    path.write_text("port: 1000\n")
    watched.wait()

    assert (watched.ports, len(watched.errors)) == ([1000], 1)


def test_what_its_receiver_has_not_put_in_use_is_told_again(path, watched):
    watched.is_busy = True
    path.write_text("port: 2000\n")
    watched.wait()
    assert watched.ports == []

    watched.is_busy = False
    watched.wait()
    watched.wait(5)

    assert (watched.ports, watched.errors) == ([2000], [])


def test_on_a_real_clock_an_edit_is_told_within_a_second_and_the_first_of_two_is_not(path):
    told: list[int] = []

    async def story() -> float:
        heard = asyncio.Event()

        async def on_change(version: Version) -> None:
            told.append(version.loaded.config.port)
            file.adopted = version.digest
            heard.set()

        async def on_error(error: ConfigError) -> None:
            raise error

        file = ConfigFile(path)
        file.load()
        watcher = asyncio.create_task(file.watch(on_change, on_error))
        await asyncio.sleep(0.1)
        path.write_text("port: 2000\n")
        await asyncio.sleep(0.05)
        path.write_text("port: 3000\n")
        started = time.monotonic()
        await asyncio.wait_for(heard.wait(), 5)
        watcher.cancel()
        return time.monotonic() - started

    assert asyncio.run(story()) < DEADLINE
    assert told == [3000]


# -- saving -----------------------------------------------------------------------------------------------------------


def test_save_replaces_the_content_and_keeps_the_mode(path):
    path.chmod(0o640)

    ConfigFile(path).save("port: 2\n")

    assert path.read_text() == "port: 2\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [entry.name for entry in path.parent.iterdir()] == ["config.yaml"]


def test_save_writes_through_a_link(tmp_path, path):
    link = tmp_path / "link.yaml"
    link.symlink_to(path)

    ConfigFile(link).save("port: 2\n")

    assert link.is_symlink()
    assert path.read_text() == "port: 2\n"


def test_save_does_not_create_a_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        ConfigFile(tmp_path / "gone.yaml").save("port: 2\n")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.EBUSY, errno.EXDEV, errno.EACCES, errno.EPERM])
def test_save_rewrites_in_place_where_nothing_can_be_renamed(path, code):
    class Mounted(type(path)):
        def replace(self, target):
            raise OSError(code, os.strerror(code))

        def with_name(self, name):
            return Mounted(super().with_name(name))

        def resolve(self, strict=False):
            return self

    inode = path.stat().st_ino

    ConfigFile(Mounted(path)).save("port: 2\n")

    assert (path.read_text(), path.stat().st_ino) == ("port: 2\n", inode)
    assert [entry.name for entry in path.parent.iterdir()] == ["config.yaml"]


def test_a_failed_save_leaves_the_file_and_what_we_know_of_it(path):
    class Full(type(path)):
        def replace(self, target):
            raise OSError(errno.ENOSPC, "no space")

        def with_name(self, name):
            return Full(super().with_name(name))

        def resolve(self, strict=False):
            return self

    file = ConfigFile(Full(path))
    file.load()

    with pytest.raises(OSError, match="no space"):
        file.save("port: 2\n")

    assert path.read_text() == "port: 1000\n"
    assert [entry.name for entry in path.parent.iterdir()] == ["config.yaml"]


def test_what_is_read_is_what_stands_there_now_to_the_byte(path):
    content = "\ufeff# ü\r\nport: 1\r\n".encode()
    path.write_bytes(content)

    read = ConfigFile(path).read()

    assert read.text.encode() == content
    assert not read.is_blank


@pytest.mark.parametrize("text", ["", "\n \t\r\n", "\ufeff\n"])
def test_a_file_without_a_word_is_blank(path, text):
    path.write_text(text)

    assert ConfigFile(path).read().is_blank


def test_save_leaves_alone_what_nobody_may_write(path):
    path.chmod(0o444)

    with pytest.raises(PermissionError):
        ConfigFile(path).save("port: 2\n")

    assert path.read_text() == "port: 1000\n"
    assert [entry.name for entry in path.parent.iterdir()] == ["config.yaml"]


def test_save_does_not_overwrite_what_came_after_the_reading(path):
    file = ConfigFile(path)
    file.load()
    known = file.read().digest
    path.write_text("port: 1001\n")

    with pytest.raises(Overtaken):
        file.save("port: 2\n", known)

    assert path.read_text() == "port: 1001\n"
    assert file.adopted == known
    assert [entry.name for entry in path.parent.iterdir()] == ["config.yaml"]


# -- the lock ---------------------------------------------------------------------------------------------------------


def test_the_lock_is_held_by_one_at_a_time(path):
    first = ConfigFile(path).lock()

    with pytest.raises(BlockingIOError):
        ConfigFile(path).lock(0.05)

    first.release()
    ConfigFile(path).lock(0.05).release()


def test_who_waited_for_the_lock_of_a_replaced_file_gets_that_of_the_new_one(path):
    first, second = ConfigFile(path).lock(), ConfigFile(path)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(second.lock, 5.0)
        replace(path, "port: 2000\n")
        first.release()
        held = waiting.result(5)

    with pytest.raises(BlockingIOError):
        ConfigFile(path).lock(0.05)
    held.release()


def test_a_link_and_what_it_leads_to_have_one_lock(tmp_path, path):
    link = tmp_path / "link.yaml"
    link.symlink_to(path)

    held = ConfigFile(link).lock()

    with pytest.raises(BlockingIOError):
        ConfigFile(path).lock(0.05)
    held.release()


def test_there_is_no_lock_on_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        ConfigFile(tmp_path / "gone.yaml").lock()

    assert list(tmp_path.iterdir()) == []


def test_links_in_a_circle_lead_to_no_file(tmp_path):
    link = tmp_path / "link.yaml"
    link.symlink_to(link)

    with pytest.raises(OSError, match="symbolic links"):
        ConfigFile(link).lock()
    with pytest.raises(OSError, match="symbolic links"):
        ConfigFile(link).save("port: 2\n")


def test_what_a_killed_writer_has_left_is_removed_under_the_lock(path):
    left, kept = path.with_name(".config.yaml.0123abcd.tmp"), path.with_name(".other.yaml.0123abcd.tmp")
    left.touch()
    kept.touch()

    ConfigFile(path).lock().release()

    assert (left.exists(), kept.exists()) == (False, True)


# -- the first file ---------------------------------------------------------------------------------------------------


def test_a_new_file_and_its_folders_belong_to_the_owner_alone(tmp_path):
    path = tmp_path / "a" / "b" / "config.yaml"

    write_new(path, "port: 1\n")

    assert path.read_text() == "port: 1\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in (path.parent, path.parent.parent)} == {0o700}
    assert [entry.name for entry in path.parent.iterdir()] == ["config.yaml"]


def test_a_new_file_never_replaces_one_that_is_there(path):
    with pytest.raises(FileExistsError):
        write_new(path, "port: 2\n")

    assert path.read_text() == "port: 1000\n"
    assert [entry.name for entry in path.parent.iterdir()] == ["config.yaml"]


def test_a_new_file_does_not_follow_a_dangling_link(tmp_path):
    link = tmp_path / "config.yaml"
    link.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(FileExistsError):
        write_new(link, "port: 2\n")

    assert not (tmp_path / "elsewhere").exists()
