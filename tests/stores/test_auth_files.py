"""The folder of credential files on a real disk: what is one, and changes that lose nothing."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cliproxy.stores.auth_files import MOST_BYTES, AuthFiles, BadName, OverSize, checked
from cliproxy.stores.auth_listing import index_of
from cliproxy.wire import json_edits
from cliproxy.wire.json_edits import BadJson


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "auths"
    folder.mkdir()
    return folder


@pytest.fixture
def files(folder: Path) -> AuthFiles:
    return AuthFiles(lambda: folder, time.time)


def names(files: AuthFiles) -> list[str]:
    return [file.name for file in files.listed()]


def left_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


# -- what a credential file is ----------------------------------------------------------------------------------------


def test_only_regular_files_of_the_folder_itself_are_listed(folder, files, tmp_path):
    for name in ("b.json", "A.JSON", ".hidden.json", "n.txt", ".json", "x.json.tmp", ".oauth-claude-state.oauth"):
        (folder / name).write_text("{}")
    (folder / "d.json").mkdir()
    (folder / "d.json" / "inner.json").write_text("{}")
    (folder / "link.json").symlink_to(folder / "n.txt")
    os.mkfifo(folder / "pipe.json")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(folder / "s.json"))

        assert names(files) == [".hidden.json", "A.JSON", "b.json"]


@pytest.mark.parametrize("name", ["d.json", "link.json", "dangling.json", "pipe.json", "s.json", "none.json"])
def test_whatever_is_no_credential_file_can_be_neither_read_nor_changed(folder, files, tmp_path, name):
    outside = tmp_path / "outside.json"
    outside.write_text("{}")
    (folder / "d.json").mkdir()
    (folder / "link.json").symlink_to(outside)
    (folder / "dangling.json").symlink_to(tmp_path / "nowhere")
    os.mkfifo(folder / "pipe.json")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(folder / "s.json"))
        before = left_in(folder)

        for act in (files.read, files.load, files.remove, lambda name: files.rewrite(name, bytes.upper)):
            with pytest.raises(FileNotFoundError) as told:
                act(name)
            assert str(folder) not in str(told.value)

        assert (left_in(folder), outside.read_text()) == (before, "{}")


@pytest.mark.parametrize("name", ["d.json", "link.json", "pipe.json"])
def test_nothing_else_is_ever_replaced_by_a_credential_file(folder, files, tmp_path, name):
    outside = tmp_path / "outside.json"
    outside.write_text("old")
    (folder / "d.json").mkdir()
    (folder / "link.json").symlink_to(outside)
    os.mkfifo(folder / "pipe.json")

    with pytest.raises(BadName):
        files.save(name, b"{}")

    assert (folder / "link.json").is_symlink()
    assert outside.read_text() == "old"
    assert left_in(folder) == ["d.json", "link.json", "pipe.json"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("", "invalid name"),
        (".", "invalid name"),
        ("..", "invalid name"),
        (".json", "invalid name"),
        (".JSON", "invalid name"),
        ("../b.json", "invalid name"),
        ("a/b.json", "invalid name"),
        ("a\\b.json", "invalid name"),
        ('a"b.json', "invalid name"),
        ("a\0.json", "invalid name"),
        ("a\r\n.json", "invalid name"),
        ("a\x7f.json", "invalid name"),
        ("a\x85.json", "invalid name"),
        ("a\u2028.json", "invalid name"),
        ("b\udcff.json", "invalid name"),
        ("a\ufffd.json", "invalid name"),
        (" a.json", "invalid name"),
        ("a.json ", "invalid name"),
        ("x" * 251 + ".json", "invalid name"),
        ("ü" * 126 + ".json", "invalid name"),
        ("../x.txt", "invalid name"),
        ("x.txt", "name must end with .json"),
        ("json", "name must end with .json"),
        ("x.json.bak", "name must end with .json"),
    ],
)
def test_a_name_that_cannot_be_told_safely_is_refused(files, folder, name, text):
    for act in (files.read, files.remove, lambda name: files.save(name, b"{}"), lambda name: files.change(name, dict)):
        with pytest.raises(BadName, match=f"^{text}$"):
            act(name)

    assert left_in(folder) == []


@pytest.mark.parametrize(
    "name", ["a.json", "A.JSON", ".a.json", "claude-me@x.example.json", "ü 名.json", "x" * 250 + ".json"]
)
def test_any_other_name_will_do(name):
    assert checked(name) == name


def test_names_that_could_not_be_asked_for_are_not_listed(folder, files):
    (folder / 'a"b.json').write_text("{}")
    (folder / "a\nb.json").write_text("{}")
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.json")).write_text("{}")

    assert (names(files), files.remove_all()) == ([], 0)
    assert len(left_in(folder)) == 3


# -- listing ----------------------------------------------------------------------------------------------------------


def test_a_file_is_listed_with_what_it_says_and_without_its_tokens(folder, files):
    (folder / "c.json").write_text(
        json.dumps(
            {
                "type": "claude",
                "email": "me@x.example",
                "access_token": "at-secret",
                "refresh_token": "rt-secret",
                "expired": "2026-11-24T10:00:00Z",
                "priority": 3,
                "weight": True,
                "note": 5,
                "disabled": True,
                "headers": {"authorization": "header-secret"},
            }
        )
    )
    os.utime(folder / "c.json", (0, 1764000000.75))

    [file] = files.listed()

    assert (file.name, file.type, file.provider, file.label) == ("c.json", "claude", "claude", "me@x.example")
    assert (file.modtime, file.size) == ("2025-11-24T16:00:00Z", (folder / "c.json").stat().st_size)
    assert (file.disabled, file.status, file.account_type) == (True, "disabled", "oauth")
    assert (file.priority, file.weight, file.note) == (3, None, "")
    assert file.auth_index == index_of("c.json")
    assert "secret" not in repr(file)


@pytest.mark.parametrize("content", ["{}", '{"type": 5}', '{"type": null}', '{"type": ""}'])
def test_a_file_without_a_type_is_of_unknown_type(folder, files, content):
    (folder / "c.json").write_text(content)

    assert [(file.type, file.status) for file in files.listed()] == [("unknown", "unknown")]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"garbage",
        b"[]",
        b'\xef\xbb\xbf{"type":"claude"}',
        b'{"type":"claude","type":"codex"}',
        b'{"type":"claude","a":NaN}',
        b'{"type":"claude","a":1e999}',
        b'{"type":"claude","a":"\\ud800"}',
        b'{"type":"\xff"}',
        b'{"type":"claude","a":' + b"[" * 100_000,
        b" " * MOST_BYTES + b"{}",
    ],
)
def test_a_file_that_cannot_be_used_is_listed_with_the_reason(folder, files, content):
    (folder / "c.json").write_bytes(content)

    [file] = files.listed()

    assert (file.name, file.type, file.status, file.size) == ("c.json", "unknown", "error", len(content))
    assert file.status_message
    assert str(folder) not in file.status_message


def test_an_unchanged_file_is_not_read_again(folder):
    (folder / "c.json").write_text("{}")
    files = AuthFiles(lambda: folder, lambda: time.time() + 60)

    assert files.listed()[0] is files.listed()[0]


def test_a_file_that_has_just_changed_is_read_again_since_its_stamps_may_not_tell(folder):
    (folder / "c.json").write_text('{"type":"aa"}')
    files = AuthFiles(lambda: folder, lambda: (folder / "c.json").stat().st_ctime)

    assert files.listed()[0] is not files.listed()[0]


@pytest.mark.parametrize("edit", [Path.write_text, lambda path, text: replaced(path, text)])
def test_a_changed_file_is_listed_anew(folder, edit: Callable[[Path, str], object]):
    path = folder / "c.json"
    path.write_text('{"type":"aa"}')
    files = AuthFiles(lambda: folder, lambda: time.time() + 60)
    files.listed()
    time.sleep(0.02)  # a tick of the file system's clock

    edit(path, '{"type":"bb"}')

    assert [file.type for file in files.listed()] == ["bb"]


def replaced(path: Path, text: str) -> None:
    beside = path.with_name("beside")
    beside.write_text(text)
    beside.replace(path)


def test_another_folder_has_other_files(tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
        (folder / "c.json").write_text(json.dumps({"type": folder.name}))
    files = AuthFiles(lambda: folders[0], time.time)
    assert files.listed()[0].type == "a"

    folders.reverse()

    assert files.listed()[0].type == "b"


def test_a_folder_that_is_not_there_is_empty_until_something_is_saved(tmp_path):
    folder = tmp_path / "new" / "auths"
    files = AuthFiles(lambda: folder, time.time)
    assert (files.listed(), files.remove_all(), files.stamps()) == ([], 0, {})
    with pytest.raises(FileNotFoundError):
        files.remove("a.json")

    files.save("a.json", b"{}")

    assert names(files) == ["a.json"]
    assert [path.stat().st_mode & 0o777 for path in (folder.parent, folder)] == [0o700, 0o700]


def test_stamps_change_with_the_file(folder, files):
    files.save("a.json", b"{}")
    before = files.stamps()

    files.save("a.json", b"[]"[:0] + b'{"a":1}')

    assert set(before) == set(files.stamps()) == {"a.json"}
    assert before != files.stamps()


# -- saving and removing ----------------------------------------------------------------------------------------------


def test_what_is_saved_is_exactly_that_and_its_owners_alone(folder, files):
    (folder / "a.json").write_text("{}")
    (folder / "a.json").chmod(0o666)
    content = b' {"b": 1.10,\n"a":"\\u0041"}\n\n'

    files.save("a.json", content)

    assert files.read("a.json") == content == (folder / "a.json").read_bytes()
    assert (folder / "a.json").stat().st_mode & 0o777 == 0o600
    assert left_in(folder) == ["a.json"]


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"a":1,"a":2}'])
def test_what_is_no_credential_is_not_saved(folder, files, content):
    (folder / "a.json").write_text("{}")

    with pytest.raises(BadJson):
        files.save("a.json", content)

    assert (folder / "a.json").read_text() == "{}"
    assert left_in(folder) == ["a.json"]


def test_a_file_is_as_large_as_it_may_be_and_no_larger(folder, files):
    largest = b"{}" + b" " * (MOST_BYTES - 2)
    files.save("a.json", largest)
    assert files.read("a.json") == largest

    with pytest.raises(OverSize):
        files.save("a.json", largest + b" ")
    with pytest.raises(OverSize):
        files.change("a.json", lambda _: {"a": 1})

    assert left_in(folder) == ["a.json"]
    assert (folder / "a.json").stat().st_size == MOST_BYTES


def test_a_look_right_before_sees_the_file_and_can_prevent_the_change(folder, files):
    seen: list[bytes | None] = []

    def prevent(content: bytes | None) -> None:
        seen.append(content)
        raise LookupError

    for name in ("new.json", "a.json"):
        with pytest.raises(LookupError):
            files.save(name, b'{"b":1}', prevent)
        files.save("a.json", b'{"a":1}')
    with pytest.raises(LookupError):
        files.remove("a.json", prevent)

    assert seen == [None, b'{"a":1}', b'{"a":1}']
    assert (left_in(folder), files.read("a.json")) == (["a.json"], b'{"a":1}')


def test_several_are_removed_each_for_itself(folder, files):
    for name in ("a.json", "b.json", "n.txt"):
        (folder / name).write_text("{}")

    outcomes = files.remove_each(["a.json", "none.json", "n.txt", "../b.json"])

    assert outcomes.pop("a.json") is None
    assert {name: type(error) for name, error in outcomes.items()} == {
        "none.json": FileNotFoundError,
        "n.txt": BadName,
        "../b.json": BadName,
    }
    assert left_in(folder) == ["b.json", "n.txt"]


def test_all_are_removed_and_nothing_else_is(folder, files):
    for name in ("a.json", "B.JSON", "broken.json", "n.txt"):
        (folder / name).write_text("not JSON")
    (folder / "large.json").write_bytes(b" " * (MOST_BYTES + 1))
    (folder / "d.json").mkdir()
    (folder / "l.json").symlink_to("n.txt")

    assert (files.remove_all(), files.remove_all()) == (4, 0)
    assert left_in(folder) == ["d.json", "l.json", "n.txt"]


class Mounted(type(Path())):
    """A path that cannot be renamed over, as that of a file that is a mount point."""

    code = errno.EBUSY

    def replace(self, target: object) -> None:
        raise OSError(self.code, os.strerror(self.code))


class Full(Mounted):
    code = errno.ENOSPC


def test_a_file_that_is_a_mount_point_is_rewritten_in_place(folder):
    (folder / "a.json").write_text('{"a":"long enough to be cut"}')
    inode = (folder / "a.json").stat().st_ino

    AuthFiles(lambda: Mounted(folder), time.time).save("a.json", b'{"a":2}')

    assert ((folder / "a.json").read_text(), (folder / "a.json").stat().st_ino) == ('{"a":2}', inode)
    assert left_in(folder) == ["a.json"]


def test_a_failed_save_leaves_the_file_and_nothing_beside_it(folder):
    (folder / "a.json").write_text("{}")

    with pytest.raises(OSError, match="No space"):
        AuthFiles(lambda: Full(folder), time.time).save("a.json", b'{"a":2}')

    assert (left_in(folder), (folder / "a.json").read_text()) == (["a.json"], "{}")


# -- editing ----------------------------------------------------------------------------------------------------------


def test_a_change_touches_what_it_names_and_nothing_else(folder, files):
    text = '{\n  "type": "claude",\n  "size": 1.10,\n  "access_token": "old",\n  "unknown": {"a": [1e2]}\n}\n'
    (folder / "a.json").write_text(text)

    files.change("a.json", lambda members: {"access_token": f"{members['access_token']}er", "type": "claude"})

    assert (folder / "a.json").read_text() == text.replace("old", "older")


def test_a_change_tells_true_from_one(folder, files):
    (folder / "a.json").write_text('{"disabled": 1}')

    files.change("a.json", lambda _: {"disabled": True})

    assert files.load("a.json") == {"disabled": True}


@pytest.mark.parametrize("nothing", [None, {}, {"a": 1}])
def test_a_change_of_nothing_writes_nothing(folder, files, nothing):
    (folder / "a.json").write_text('{"a": 1}')
    before = files.stamps()

    files.change("a.json", lambda _: nothing)

    assert files.stamps() == before


def test_a_change_can_be_called_off(folder, files):
    (folder / "a.json").write_text('{"refresh_token": "theirs"}')

    def only_if_ours(members):
        if members["refresh_token"] != "ours":
            raise LookupError
        return {"refresh_token": "new"}

    with pytest.raises(LookupError):
        files.change("a.json", only_if_ours)

    assert (folder / "a.json").read_text() == '{"refresh_token": "theirs"}'


@pytest.mark.parametrize("content", ["", "[]", '{"a":1,"a":2}', "{"])
def test_a_file_that_is_no_object_is_not_changed(folder, files, content):
    (folder / "a.json").write_text(content)

    with pytest.raises(BadJson):
        files.change("a.json", lambda _: {"a": 1})
    with pytest.raises(BadJson):
        files.load("a.json")

    assert (folder / "a.json").read_text() == content


def test_a_change_by_a_program_that_takes_no_lock_is_built_upon(folder, files):
    path = folder / "a.json"
    path.write_text('{"ours": 0, "theirs": 0}')
    calls: list[int] = []

    def edit(members):
        calls.append(members["theirs"])
        if len(calls) == 1:
            replaced(path, '{"ours": 0, "theirs": 1}')
        return {"ours": 1}

    files.change("a.json", edit)

    assert calls == [0, 1]
    assert json.loads(path.read_text()) == {"ours": 1, "theirs": 1}
    assert left_in(folder) == ["a.json"]


def test_a_file_that_another_program_never_leaves_alone_is_given_up(folder, files):
    path = folder / "a.json"
    path.write_text('{"n": 0}')

    def edit(members):
        replaced(path, json.dumps({"n": members["n"] + 1}))
        return {"ours": 1}

    with pytest.raises(BlockingIOError):
        files.change("a.json", edit)

    assert "ours" not in json.loads(path.read_text())
    assert left_in(folder) == ["a.json"]


def test_concurrent_changes_of_one_file_lose_nothing(folder):
    """Through two stores, as two processes have: the lock within a process would not be enough."""
    stores = [AuthFiles(lambda: folder, time.time) for _ in range(2)]
    stores[0].save("a.json", b"{}")

    def count(number: int) -> None:
        for _ in range(10):
            stores[number % 2].change(
                "a.json", lambda members: {f"m{number}": int(str(members.get(f"m{number}", 0))) + 1}
            )

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(count, range(8)))

    assert stores[0].load("a.json") == {f"m{number}": 10 for number in range(8)}
    assert left_in(folder) == ["a.json"]


# -- other processes --------------------------------------------------------------------------------------------------


def test_another_process_is_waited_for(folder, files):
    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    saving = threading.Thread(target=files.save, args=("a.json", b"{}"))
    saving.start()
    try:
        saving.join(0.1)
        assert (saving.is_alive(), left_in(folder)) == (True, [])
    finally:
        os.close(descriptor)

    saving.join(5)

    assert left_in(folder) == ["a.json"]


def test_another_process_that_never_lets_go_is_not_waited_for_forever(folder):
    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        with pytest.raises(BlockingIOError):
            AuthFiles(lambda: folder, time.time, patience=0.05).save("a.json", b"{}")
    finally:
        os.close(descriptor)

    assert left_in(folder) == []


def test_what_a_killed_process_left_is_removed_by_the_next_change(folder, files):
    for name in (".0123456789abcdef.tmp", ".mine.tmp", "0123456789abcdef.tmp"):
        (folder / name).write_text("half a credent")

    files.save("a.json", b"{}")

    assert left_in(folder) == [".mine.tmp", "0123456789abcdef.tmp", "a.json"]


KILLING = """
import json, os, random, signal, sys, time
from pathlib import Path
from cliproxy.stores.auth_files import AuthFiles

folder, kills = Path(sys.argv[1]), int(sys.argv[2])
path = folder / "a.json"
chance = random.Random()
AuthFiles(lambda: folder, time.time).save("a.json", b'{"n": 0, "text": ""}')
before = 0
for _ in range(kills):
    child = os.fork()
    if not child:
        files = AuthFiles(lambda: folder, time.time)
        while True:
            files.change("a.json", lambda members: {"n": members["n"] + 1, "text": "x" * 20000 * (members["n"] % 2)})
            n = files.load("a.json")["n"]
            files.save("a.json", json.dumps({"n": n + 1, "text": "x" * 20000 * (n % 2)}).encode())
    time.sleep(chance.uniform(0.0, 0.02))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    found = json.loads(path.read_bytes())
    assert found["n"] >= before, "older than old"
    assert found["text"] == "x" * 20000 * ((found["n"] - 1) % 2) or found["n"] == 0, "half of one"
    before = found["n"]
AuthFiles(lambda: folder, time.time).save("b.json", b"{}")
print(before, sorted(os.listdir(folder)))
"""


def test_a_killed_process_leaves_the_old_file_or_the_new_one(folder):
    ended = subprocess.run(
        [sys.executable, "-c", KILLING, str(folder), "40"], capture_output=True, text=True, timeout=60, check=False
    )

    assert ended.returncode == 0, ended.stderr
    count, _, left = ended.stdout.strip().partition(" ")
    assert int(count) > 0
    assert left == "['a.json', 'b.json']"


# -- any sequence -----------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a.json", "B.JSON", "c@x.example.json", "ü.json"])
CONTENTS = st.sampled_from(
    [b"{}", b'{"type":"claude"}', b'{"type": "codex", "n": 1.10}\n', b'{"disabled":true,"type":"qwen"}']
)
BROKEN = st.sampled_from([b"", b"[]", b'{"a":1,"a":1}', b"\xff", b'{"a":' + b"[" * 5000])
VALUES = st.sampled_from([True, None, 5, "text", {"a": [1]}])


class Folder(RuleBasedStateMachine):
    """Directory and listing against a dictionary, whoever writes."""

    def __init__(self) -> None:
        super().__init__()
        self.home = tempfile.TemporaryDirectory()
        self.folder = Path(self.home.name)
        self.files = AuthFiles(lambda: self.folder, time.time)
        self.model: dict[str, bytes] = {}

    def teardown(self) -> None:
        self.home.cleanup()

    @rule(name=NAMES, content=CONTENTS)
    def save(self, name, content):
        self.files.save(name, content)
        self.model[name] = content

    @rule(name=NAMES, content=BROKEN)
    def save_what_is_broken(self, name, content):
        with pytest.raises(BadJson):
            self.files.save(name, content)

    @rule(name=NAMES, content=CONTENTS | BROKEN)
    def drop_by_hand(self, name, content):
        (self.folder / name).write_bytes(content)
        self.model[name] = content

    @rule(name=NAMES, member=st.sampled_from(["type", "n", "new"]), value=VALUES)
    def change(self, name, member, value):
        content = self.model.get(name)
        if content is None:
            with pytest.raises(FileNotFoundError):
                self.files.change(name, lambda _: {member: value})
            return
        try:
            members = dict(self.files.load(name))
        except BadJson:
            with pytest.raises(BadJson):
                self.files.change(name, lambda _: {member: value})
            return
        self.files.change(name, lambda _: {member: value})
        self.model[name] = (self.folder / name).read_bytes()
        assert json.loads(self.model[name]) == {**members, member: value}

    @rule(name=NAMES)
    def remove(self, name):
        if name in self.model:
            self.files.remove(name)
            del self.model[name]
        else:
            with pytest.raises(FileNotFoundError):
                self.files.remove(name)

    @rule()
    def remove_all(self):
        assert self.files.remove_all() == len(self.model)
        self.model.clear()

    @invariant()
    def everything_is_in_step(self):
        listed = self.files.listed()
        assert {entry.name: entry.read_bytes() for entry in self.folder.iterdir()} == self.model
        assert [file.name for file in listed] == sorted(self.model, key=lambda name: (name.casefold(), name))
        for file in listed:
            content = self.model[file.name]
            try:
                json_edits.check(content)
                said = json.loads(content)
            except BadJson:
                said = None
            assert (file.size, file.status == "error") == (len(content), said is None)
            assert file.type == (said["type"] if said and isinstance(said.get("type"), str) else "unknown")
            assert self.files.read(file.name) == content


Folder.TestCase.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
TestAnySequence = Folder.TestCase
