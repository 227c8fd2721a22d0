"""Following the folder of credential files, on real files."""

import asyncio
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from cliproxy.gateway.folder import Change, Folder, Reading, Stamp
from cliproxy.providers.accounts import AccountFile, Trouble


class Shelf:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reads = 0
        self.is_readable = True

    def stamps(self) -> Mapping[str, Stamp]:
        if not self.is_readable:
            raise PermissionError(13, "Permission denied")
        found = {}
        for path in sorted(self.folder.glob("*.json")):
            stat = path.stat()
            found[path.name] = (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino)
        return found

    def read(self, name: str) -> bytes:
        self.reads += 1
        return (self.folder / name).read_bytes()


def reading(name: str, content: bytes) -> Reading:
    try:
        members = json.loads(content)
    except ValueError:
        return Trouble("The file is no JSON.")
    return AccountFile(name=name, kind="fake", email=members["email"])


class Scene:
    def __init__(self, folder: Path) -> None:
        self.path = folder
        self.shelf = Shelf(folder)
        self.now = 0.0
        self.epoch_ns = time.time_ns()
        self.folder = Folder(self.shelf, reading, lambda: self.now, lambda: self.epoch_ns)
        self.accounts: dict[str, str] = {}
        self.changes: list[Change] = []

    def write(self, name: str, email: str) -> None:
        (self.path / name).write_text(json.dumps({"email": email}))

    def look(self, later: float = 1.0) -> list[Change]:
        """What one look tells, `later` seconds after the last."""
        self.now += later
        before = len(self.changes)
        asyncio.run(self.folder.look(self._publish))
        return self.changes[before:]

    async def _publish(self, change: Change) -> None:
        self.changes.append(change)
        self.accounts = {name: email for name, email in self.accounts.items() if name not in change.withdrawn}
        self.accounts |= {name: file.email for name, file in change.adopted.items()}


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_new_files_are_adopted(scene: Scene) -> None:
    scene.write("a.json", "a@x")
    scene.write("b.json", "b@x")

    scene.look()

    assert scene.accounts == {"a.json": "a@x", "b.json": "b@x"}


def test_nothing_new_is_no_change_and_old_files_are_not_read_again(scene: Scene) -> None:
    scene.write("a.json", "a@x")
    scene.look()
    scene.epoch_ns += 10_000_000_000
    reads = scene.shelf.reads

    assert scene.look() == []
    assert scene.shelf.reads == reads


def test_the_same_bytes_again_are_no_change(scene: Scene) -> None:
    scene.write("a.json", "a@x")
    scene.look()
    scene.write("a.json", "a@x")

    assert scene.look() == []


def test_an_edit_within_one_tick_of_the_clock_is_noticed(scene: Scene) -> None:
    """Same size, same inode, and a time stamp that was set back to the old one."""
    scene.write("a.json", "a@x")
    stamp = (scene.path / "a.json").stat()
    scene.look()
    scene.write("a.json", "b@x")
    os.utime(scene.path / "a.json", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))

    scene.look()

    assert scene.accounts == {"a.json": "b@x"}


def test_a_file_that_is_gone_is_withdrawn(scene: Scene) -> None:
    scene.write("a.json", "a@x")
    scene.look()
    (scene.path / "a.json").unlink()

    scene.look()

    assert scene.accounts == {}


def test_a_renamed_file_is_one_account(scene: Scene) -> None:
    scene.write("a.json", "a@x")
    scene.look()
    (scene.path / "a.json").rename(scene.path / "b.json")

    scene.look()

    assert scene.accounts == {"b.json": "a@x"}


def test_a_file_replaced_by_rename_is_read_anew(scene: Scene) -> None:
    scene.write("a.json", "a@x")
    scene.look()
    scene.write("new", "b@x")
    (scene.path / "new").rename(scene.path / "a.json")

    scene.look()

    assert scene.accounts == {"a.json": "b@x"}


def test_a_broken_file_is_withdrawn_when_it_stays_broken(scene: Scene) -> None:
    scene.write("a.json", "a@x")
    scene.write("b.json", "b@x")
    scene.look()
    (scene.path / "a.json").write_text('{"email": "a@')

    scene.look(0.1)
    assert scene.accounts == {"a.json": "a@x", "b.json": "b@x"}

    scene.look(1.0)
    assert scene.accounts == {"b.json": "b@x"}
    assert scene.folder.problems == {"a.json": Trouble("The file is no JSON.")}


def test_a_file_that_is_being_written_never_loses_its_account(scene: Scene) -> None:
    scene.write("a.json", "a@x")
    scene.look()
    (scene.path / "a.json").write_text('{"email": "a@')
    scene.look(0.1)
    scene.write("a.json", "b@x")

    scene.look(0.1)

    assert scene.accounts == {"a.json": "b@x"}
    assert not any(change.withdrawn for change in scene.changes)


def test_a_mended_file_serves_again(scene: Scene) -> None:
    (scene.path / "a.json").write_text("{")
    scene.look()
    scene.look()
    assert scene.folder.problems
    scene.write("a.json", "a@x")

    scene.look()

    assert scene.accounts == {"a.json": "a@x"}
    assert scene.folder.problems == {}


def test_an_emptied_file_is_waited_for(scene: Scene) -> None:
    scene.write("a.json", "a@x")
    scene.look()
    (scene.path / "a.json").write_text("")

    scene.look()
    scene.look()

    assert scene.accounts == {"a.json": "a@x"}


def test_a_file_with_a_mistake_is_told_once(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    (scene.path / "a.json").write_text("{")

    for _ in range(5):
        scene.look()

    assert [record.message for record in caplog.records] == [
        "a.json in the folder of accounts is not used: The file is no JSON."
    ]


def test_a_folder_that_cannot_be_read_changes_nothing(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.write("a.json", "a@x")
    scene.look()
    scene.shelf.is_readable = False

    assert scene.look() == scene.look() == []
    assert scene.accounts == {"a.json": "a@x"}
    assert len(caplog.records) == 1

    scene.shelf.is_readable = True
    scene.write("b.json", "b@x")
    scene.look()
    assert scene.accounts == {"a.json": "a@x", "b.json": "b@x"}


def test_ten_thousand_files_come_in_portions_within_seconds(scene: Scene) -> None:
    for number in range(10_000):
        scene.write(f"{number:05}.json", f"{number}@x")
    started = time.perf_counter()

    scene.look()

    assert len(scene.accounts) == 10_000
    assert len(scene.changes) > 2
    assert len(scene.changes[0].adopted) == 500
    assert time.perf_counter() - started < 10


def test_a_file_keeps_its_mark_until_its_content_or_its_time_changes(scene: Scene) -> None:
    scene.write("a.json", "a@x")
    scene.look()
    path, first = scene.path / "a.json", scene.folder.mark("a.json")
    path.chmod(0o600)
    scene.look()
    same = scene.folder.mark("a.json")
    os.utime(path, ns=(0, 1))
    scene.look()
    later = scene.folder.mark("a.json")
    scene.write("a.json", "b@x")
    os.utime(path, ns=(0, 1))
    scene.look()

    assert same == first != ""
    assert len({first, later, scene.folder.mark("a.json")}) == 3
    assert scene.folder.mark("b.json") == ""
