"""Cases 194 to 207: what is written, what cannot be, and what happens to the edits of others."""

import errno
import json
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from managed import FIXTURE, OK, Managed, soon

from cliproxy.config.document import read

Manage = Callable[..., Managed]

SCALARS = [
    ("/debug", True, "debug: false", "debug: true"),
    ("/request-retry", 7, "request-retry: 3", "request-retry: 7"),
    ("/quota-exceeded/switch-project", False, "switch-project: true # qp", "switch-project: false # qp"),
]


def _errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


def _failure(managed: Managed) -> str:
    """What a write answers that cannot be; it must not have changed anything in memory."""
    reply = managed.put("/debug", {"value": True})
    assert reply.status == 500
    assert isinstance(reply.json, dict)
    text = str(reply.json["error"])
    assert text.startswith("failed to save config: ")
    assert str(managed.path.parent) not in text
    assert managed.get("/debug").json == {"debug": False}
    return text


@pytest.mark.parametrize(("path", "value", "old", "new"), SCALARS)
def test_194_a_write_changes_one_line(managed: Managed, path: str, value: object, old: str, new: str) -> None:
    before = managed.file
    assert before.count(old) == 1

    assert managed.put(path, {"value": value}).told == OK

    assert managed.file == before.replace(old, new)


def test_195_nothing_else_is_lost(managed: Managed) -> None:
    for path, value, _, _ in SCALARS:
        assert managed.put(path, {"value": value}).told == OK

    now, started = managed.file, managed.started_with
    for comment in (
        "# head comment",
        "# key note",
        "# qp",
        "# client keys",
        "# before k2",
        "# ca note",
        "# tail comment",
    ):
        assert now.count(comment) == 1
    assert "unknown-section: {keep: [1, 2]}" in now
    assert now.count("\n\n") == started.count("\n\n")
    assert f'auth-dir: "{managed.auth_dir}"' in now


def test_195_a_home_is_left_as_it_is_written(manage: Manage) -> None:
    managed = manage('port: 0\nauth-dir: "~/.cli-proxy-api"\nremote-management: {secret-key: mk}\n')

    assert managed.put("/debug", {"value": True}).told == OK

    assert 'auth-dir: "~/.cli-proxy-api"\n' in managed.file


def test_196_a_key_that_was_not_there_is_one_line_more(managed: Managed) -> None:
    before = managed.file.splitlines()

    assert managed.put("/allow-localhost-unauthenticated", {"value": True}).told == OK

    after = managed.file.splitlines()
    assert [line for line in after if line != "allow-localhost-unauthenticated: true"] == before
    assert len(after) == len(before) + 1


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"debug: [\n", id="197-no-yaml"),
        pytest.param(b"debug: many\n", id="197-no-configuration"),
        pytest.param(b"\xff\xfe", id="197-no-text"),
        pytest.param(b"", id="197-empty"),
        pytest.param(b"host: 0.0.0.0\nport: 0\n", id="197-must-not-be-served"),
    ],
)
def test_197_a_broken_file_is_not_written_over(managed: Managed, content: bytes) -> None:
    managed.path.write_bytes(content)

    _failure(managed)

    assert managed.path.read_bytes() == content


def test_197_a_broken_file_that_was_mended_can_be_written_again(managed: Managed) -> None:
    before = managed.file
    managed.path.write_text("debug: [\n")
    _failure(managed)

    managed.path.write_text(before)

    assert managed.put("/debug", {"value": True}).told == OK
    assert managed.file == before.replace("debug: false", "debug: true")


def test_197_a_folder_in_place_of_the_file_is_told(managed: Managed) -> None:
    managed.path.unlink()
    managed.path.mkdir()

    _failure(managed)


def test_198_a_file_that_is_gone_is_not_created(managed: Managed) -> None:
    managed.path.unlink()

    assert "No such file" in _failure(managed)

    assert not managed.path.exists()
    assert list(managed.path.parent.glob(".config*")) == []


def test_199_a_file_that_cannot_be_renamed_over_is_written_in_place(manage: Manage) -> None:
    """A file that is a mount point refuses the rename; as does, here, a path that says so."""

    class Mounted(type(Path())):  # type: ignore[misc]
        def replace(self, target):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

        def with_name(self, name):
            return Mounted(super().with_name(name))

        def resolve(self, strict=False):
            return Mounted(super().resolve(strict))

    managed = manage(path_type=Mounted)
    inode, before = managed.path.stat().st_ino, managed.file

    assert managed.put("/debug", {"value": True}).told == OK

    assert managed.file == before.replace("debug: false", "debug: true")
    assert managed.path.stat().st_ino == inode
    assert managed.get("/debug").json == {"debug": True}


def test_mode_and_link_stay(managed: Managed) -> None:
    target = managed.path.with_name("real.yaml")
    managed.path.rename(target)
    target.chmod(0o640)
    managed.path.symlink_to(target)

    assert managed.put("/debug", {"value": True}).told == OK

    assert managed.path.is_symlink()
    assert target.stat().st_mode & 0o777 == 0o640
    assert "debug: true" in target.read_text()


def test_069_the_same_value_writes_nothing(managed: Managed) -> None:
    managed.put("/debug", {"value": True})
    before = managed.path.stat()

    assert managed.put("/debug", {"value": True}).told == OK

    after = managed.path.stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)


def test_what_would_be_no_valid_configuration_is_refused_and_nothing_changes(manage: Manage) -> None:
    managed = manage(FIXTURE.replace("port: 0\n", "port: 0\nhost: 0.0.0.0\n"))
    before = managed.file

    reply = managed.put("/api-keys", [])

    assert reply.status == 400
    assert "api-keys" in reply.content.decode()
    assert managed.file == before
    assert managed.get("/v1/models", headers={"Authorization": "Bearer k1"}).status == 200
    assert managed.get("/v1/models", headers={}).status == 401


# -- edits by hand ----------------------------------------------------------------------------------------------------


def test_203_a_file_that_is_written_slowly_in_place_is_adopted_whole(managed: Managed) -> None:
    text = managed.file.replace("request-retry: 3", "request-retry: 9").encode()
    seen: set[object] = set()
    is_over = threading.Event()

    def look() -> None:
        while not is_over.is_set():
            reply = managed.get("/config")
            assert isinstance(reply.json, dict), reply
            seen.add((reply.json["request-retry"], tuple(reply.json["api-keys"]), len(reply.json["claude-api-key"])))

    watching = threading.Thread(target=look)
    watching.start()
    with managed.path.open("wb") as file:
        for start in range(0, len(text), 80):
            file.write(text[start : start + 80])
            file.flush()
            time.sleep(0.02)
    took_effect = soon(lambda: managed.get("/request-retry").json == {"request-retry": 9}, 2)
    is_over.set()
    watching.join()

    assert took_effect
    assert seen == {(3, ("k1", "k2", "k3"), 2), (9, ("k1", "k2", "k3"), 2)}


def test_204_each_of_two_replacements_is_noticed(managed: Managed) -> None:
    text = managed.file
    for retries in (8, 9):
        beside = managed.path.with_name("edited")
        beside.write_text(text.replace("request-retry: 3", f"request-retry: {retries}"))
        beside.replace(managed.path)
        assert soon(lambda retries=retries: managed.get("/request-retry").json == {"request-retry": retries}, 2)


def test_205_a_broken_edit_is_an_error_once_and_its_repair_counts(
    managed: Managed, caplog: pytest.LogCaptureFixture
) -> None:
    before = managed.file
    managed.path.write_text(before.replace("request-retry: 3", "request-retry: [3"))
    assert soon(lambda: bool(_errors(caplog)))
    time.sleep(0.6)

    assert len(_errors(caplog)) == 1
    assert managed.get("/request-retry").json == {"request-retry": 3}

    managed.path.write_text(before.replace("request-retry: 3", "request-retry: 4"))
    assert soon(lambda: managed.get("/request-retry").json == {"request-retry": 4}, 2)
    assert len(_errors(caplog)) == 1


def test_206_an_edit_by_hand_and_a_write_at_the_same_time_both_survive(managed: Managed) -> None:
    before = managed.file

    managed.path.write_text(before.replace("request-retry: 3", "request-retry: 6 # by hand"))
    assert managed.put("/debug", {"value": True}).told == OK

    expected = before.replace("request-retry: 3", "request-retry: 6 # by hand").replace("debug: false", "debug: true")
    assert managed.file == expected
    assert managed.get("/request-retry").json == {"request-retry": 6}
    assert managed.get("/debug").json == {"debug": True}


def test_206_a_plain_key_written_by_hand_at_the_same_time_is_hashed(managed: Managed) -> None:
    line = next(line for line in managed.file.splitlines() if "secret-key" in line)

    managed.path.write_text(managed.file.replace(line, '  secret-key: "mk2"'))
    assert managed.put("/debug", {"value": True}).told == OK

    assert '"mk2"' not in managed.file
    assert "debug: true" in managed.file
    assert managed.get("/debug", headers={"X-Management-Key": "mk2"}).json == {"debug": True}
    assert managed.get("/debug").status == 401


def test_207_a_folder_of_accounts_below_the_home_stays_usable(manage: Manage, tmp_path: Path) -> None:
    managed = manage()

    managed.path.write_text(managed.file.replace("request-retry: 3", "request-retry: 5"))

    assert soon(lambda: managed.get("/request-retry").json == {"request-retry": 5})
    assert managed.get("/auth-files").status == 200


def test_207_another_folder_of_accounts_is_followed_as_a_whole(managed: Managed) -> None:
    other = managed.auth_dir.parent / "other" / "accounts"

    managed.path.write_text(managed.file.replace(str(managed.auth_dir), str(other)))
    assert soon(other.is_dir)
    assert soon(lambda: managed.get("/auth-files").json == {"files": []})
    (other / "claude-a.json").write_text(json.dumps({"type": "claude", "email": "a@b.example"}))
    assert "claude-a.json" in managed.get("/auth-files").content.decode()

    assert other.stat().st_mode & 0o777 == 0o700
    assert read(managed.file).config.auth_dir == str(other)


def test_an_own_write_is_not_reloaded(managed: Managed, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert managed.put("/request-retry", {"value": 5}).told == OK

    time.sleep(0.9)

    assert [record for record in caplog.records if "reloaded" in record.getMessage()] == []
    assert managed.get("/request-retry").json == {"request-retry": 5}
