"""What a login leaves in the folder of accounts, with and without something there before."""

import json
from pathlib import Path

import pytest

from cliproxy.gateway.new_files import keep
from cliproxy.providers.accounts import NewFile
from cliproxy.stores.auth_files import AuthFiles

NEW = NewFile("claude-ada@x.json", {"type": "claude", "email": "ada@x", "access_token": "new"})
GEMINI = NewFile("ada@x-p.json", {"type": "gemini", "email": "ada@x", "token": {"access_token": "new"}})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "accounts"


@pytest.fixture
def files(folder: Path) -> AuthFiles:
    return AuthFiles(lambda: folder, lambda: 1_800_000_000.0)


def put(folder: Path, name: str, content: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(content)


def test_a_new_account_is_written_for_its_owner_alone(files, folder):
    assert keep(files, NEW) == NEW.name

    path = folder / NEW.name
    assert path.read_text() == json.dumps(NEW.members, separators=(",", ":")) + "\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700


def test_settings_and_what_nobody_knows_stay_and_credentials_do_not(files, folder):
    put(
        folder,
        NEW.name,
        '{"type":"claude","email":"ADA@x","access_token":"old","refresh_token":"dead","account_uuid":"u","disabled":true,'
        '"proxy_url":"http://p","priority":3,"weight":2,"prefix":"mine","excluded_models":["a"],"odd":1.50}',
    )

    keep(files, NEW)

    assert (folder / NEW.name).read_text() == (
        '{"type":"claude","email":"ada@x","access_token":"new","disabled":true,"proxy_url":"http://p","priority":3,'
        '"weight":2,"prefix":"mine","excluded_models":["a"],"odd":1.50}\n'
    )


def test_tokens_in_another_shape_go_too(files, folder):
    put(folder, GEMINI.name, '{"access_token":"old","expiry":"2099-01-01T00:00:00Z","email":"ada@x","note":"n"}')

    keep(files, GEMINI)

    assert json.loads((folder / GEMINI.name).read_text()) == {**GEMINI.members, "note": "n"}


@pytest.mark.parametrize(
    "theirs",
    ['{"type":"claude","email":"bob@x","access_token":"bobs"}', '{"type":"qwen","email":"ada@x","access_token":"q"}'],
)
def test_somebody_elses_file_of_that_name_is_left_alone(files, folder, theirs):
    put(folder, NEW.name, theirs)

    name = keep(files, NEW)

    assert name != NEW.name
    assert (folder / NEW.name).read_text() == theirs
    assert json.loads((folder / name).read_text()) == NEW.members
    assert keep(files, NEW) == name


def test_what_nobody_can_use_is_replaced(files, folder):
    put(folder, NEW.name, '{"type":"claude", broken')

    assert keep(files, NEW) == NEW.name
    assert json.loads((folder / NEW.name).read_text()) == NEW.members


@pytest.mark.parametrize("name", ["../claude.json", "claude.txt", ".json"])
def test_no_file_can_be_called_so(files, name):
    with pytest.raises(ValueError, match="name"):
        keep(files, NewFile(name, {}))


def test_a_link_is_not_followed(files, folder, tmp_path):
    folder.mkdir()
    (tmp_path / "elsewhere").write_text("{}")
    (folder / NEW.name).symlink_to(tmp_path / "elsewhere")

    with pytest.raises(ValueError, match="name"):
        keep(files, NEW)

    assert (tmp_path / "elsewhere").read_text() == "{}"
