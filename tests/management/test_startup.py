"""Cases 1 to 16: what a start does with the file, its management key first."""

import logging
import re
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

import bcrypt
import pytest
from managed import FIXTURE, Managed, refused, soon

from cliproxy.config.issues import ConfigError

Manage = Callable[..., Managed]

KEY_LINE = re.compile(r'^  secret-key: "(\$2[aby]\$10\$[^"]{53})" # key note$', re.MULTILINE)
WRONG = refused(401, "invalid management key")


@pytest.fixture
def manage(manage: Manage) -> Manage:
    """With the key as it is written."""
    return partial(manage, is_hashed=False)


def _bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def _status(managed: Managed, key: str) -> int:
    return managed.get("/debug", headers=_bearer(key)).status


def _of_level(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == level]


def test_001_a_plain_key_is_hashed_in_its_place(managed: Managed) -> None:
    found = KEY_LINE.search(managed.file)

    assert found is not None
    assert bcrypt.checkpw(b"mk", found[1].encode())
    assert _status(managed, "mk") == 200


def test_002_every_other_line_stays(managed: Managed) -> None:
    before, after = managed.started_with.splitlines(), managed.file.splitlines()

    assert [line for line in after if "secret-key" not in line] == [line for line in before if "secret-key" not in line]
    assert len(before) == len(after)


def test_003_a_hash_is_not_hashed_again(manage: Manage, managed: Managed) -> None:
    again = manage(managed.file)

    assert again.file == managed.file
    assert _status(again, "mk") == 200


@pytest.mark.parametrize("prefix", [b"2b", b"2a"])
def test_004_a_hash_is_taken_as_it_is(manage: Manage, prefix: bytes) -> None:
    hashed = bcrypt.hashpw(b"mk", bcrypt.gensalt(4, prefix=prefix)).decode()

    managed = manage(FIXTURE.replace('"mk"', f'"{hashed}"'))

    assert managed.file == managed.started_with
    assert _status(managed, "mk") == 200


def test_004_a_hash_of_other_programs_is_taken_too(manage: Manage) -> None:
    hashed = "$2y$" + bcrypt.hashpw(b"mk", bcrypt.gensalt(4)).decode().removeprefix("$2b$")

    assert _status(manage(FIXTURE.replace('"mk"', f'"{hashed}"')), "mk") == 200


def test_005_the_flat_spelling_is_hashed_in_its_place(manage: Manage) -> None:
    managed = manage("port: 0\nremote-management-key: mk # mine\ndebug: false\n")

    assert re.fullmatch(
        r"port: 0\nremote-management-key: \"?\$2b\$10\$\S{53}\"? # mine\ndebug: false\n", managed.file
    ), managed.file
    assert _status(managed, "mk") == 200


def test_006_the_flat_spelling_wins_and_no_plain_key_stays(manage: Manage) -> None:
    managed = manage("port: 0\nremote-management-key: fk\nremote-management:\n  secret-key: mk\n")

    assert _status(managed, "fk") == 200
    assert managed.get("/debug").told == WRONG
    assert managed.file.count("$2b$10$") == 2
    assert "fk" not in managed.file.split()
    assert "mk" not in managed.file.split()


def test_008_without_a_key_there_is_no_management_api(manage: Manage) -> None:
    managed = manage("port: 0\nauth-dir: AUTH_DIR\napi-keys: [k1]\n")

    for headers in ({}, _bearer("mk"), _bearer("")):
        reply = managed.get("/config", headers=headers)
        assert reply.status == 404
        assert "x-cpa-version" not in reply.headers
    assert managed.get("/config").json == managed.get("/nope").json
    assert managed.get("/v1/models", headers=_bearer("k1")).status == 200


@pytest.mark.parametrize(
    ("written", "key"),
    [
        pytest.param("12345", "12345", id="009"),
        pytest.param("0x10", "0x10", id="009-as-it-stands-there"),
        pytest.param('"  mk  "', "mk", id="011"),
        pytest.param('"with spaces in"', "with spaces in", id="spaces"),
    ],
)
def test_a_key_is_read_as_its_text(manage: Manage, written: str, key: str) -> None:
    managed = manage(FIXTURE.replace('"mk"', written))

    assert _status(managed, key) == 200
    assert "$2b$10$" in managed.file


def test_010_a_key_that_is_too_long_refuses_the_start(manage: Manage) -> None:
    with pytest.raises(ConfigError, match="72 bytes"):
        manage(FIXTURE.replace('"mk"', f'"{"x" * 73}"'))


def test_010_a_key_of_72_bytes_is_used_whole(manage: Manage) -> None:
    managed = manage(FIXTURE.replace('"mk"', f'"{"x" * 72}"'))

    assert _status(managed, "x" * 72) == 200
    assert managed.get("/debug", headers=_bearer("x" * 71)).told == WRONG
    assert managed.get("/debug", headers=_bearer("x" * 73)).told == WRONG


def test_012_a_file_that_cannot_be_written_is_served_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    managed = Managed(tmp_path, mode=0o444, is_hashed=False)
    try:
        assert managed.file == managed.started_with
        assert _status(managed, "mk") == 200
        (warning,) = _of_level(caplog, logging.WARNING)
        assert "plain text" in warning
        assert managed.put("/debug", {"value": True}).told == refused(500, "failed to save config: Permission denied")
        assert managed.get("/debug").json == {"debug": False}
    finally:
        managed.stop()


@pytest.mark.parametrize("hashed", ["$2a$oops", "$2b$99$" + "a" * 53])
def test_013_a_malformed_hash_lets_nobody_in_and_is_an_error(
    manage: Manage, caplog: pytest.LogCaptureFixture, hashed: str
) -> None:
    managed = manage()
    managed.path.write_text(managed.started_with.replace('"mk"', f'"{hashed}"'))
    assert soon(lambda: managed.get("/debug").told == WRONG)
    if "oops" in hashed:
        assert [message for message in _of_level(caplog, logging.ERROR) if "management key" in message]
    managed = manage(FIXTURE.replace('"mk"', f'"{hashed}"'))

    assert managed.get("/debug").told == WRONG
    assert managed.get("/debug", headers=_bearer(hashed)).told == WRONG
    assert managed.file == managed.started_with


def test_014_a_missing_folder_of_accounts_is_made_for_its_owner_alone(manage: Manage) -> None:
    managed = manage(FIXTURE.replace("AUTH_DIR", "AUTH_DIR/deep/er"))

    for folder in (managed.auth_dir, managed.auth_dir / "deep", managed.auth_dir / "deep" / "er"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert managed.get("/auth-files").status == 200


def test_014_a_folder_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "cpa-auth").mkdir(mode=0o755)
    managed = Managed(tmp_path)
    managed.stop()

    assert stat.S_IMODE(managed.auth_dir.stat().st_mode) == 0o755


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        pytest.param("request-retry: 3", "request-retry: abc", "request-retry", id="015"),
        pytest.param("debug: false", "debug: false\ndebug: true", "debug", id="016"),
    ],
)
def test_a_broken_file_refuses_the_start_and_stays(tmp_path: Path, old: str, new: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Managed(tmp_path, FIXTURE.replace(old, new), is_hashed=False)

    assert '"mk"' in (tmp_path / "config.yaml").read_text()
