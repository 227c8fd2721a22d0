"""Where Google's client secret is found outside of the configuration."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cliproxy.config.schema import Config, Endpoints, GeminiCliEndpoint
from cliproxy.gateway.client_secrets import SecretSearch
from cliproxy.stores.auth_files import AuthFiles
from cliproxy.stores.installed_programs import gemini_cli_sources
from cliproxy.wire.secrets import Secret

CLIENT = GeminiCliEndpoint().client_id
SOURCE = f'var OAUTH_CLIENT_ID = "{CLIENT}"; var OAUTH_CLIENT_SECRET = "installed-secret";'


class Programs:
    """Installed programs, and how often somebody has looked at them."""

    def __init__(self, *texts: str) -> None:
        self.texts = texts
        self.looks = 0

    def __call__(self) -> Iterator[str]:
        self.looks += 1
        return iter(self.texts)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "accounts"
    folder.mkdir()
    return folder


def search(folder: Path, programs: Programs, environment: str = "", config: Config = Config()) -> SecretSearch:
    files = AuthFiles(lambda: folder, lambda: 1_800_000_000.0)
    return SecretSearch(Secret(environment), files, programs, lambda: config)


def test_an_installed_program_is_read_when_nothing_else_has_the_secret(folder):
    programs = Programs("no secret here", SOURCE)
    look = search(folder, programs)

    assert look().installed == look().installed == Secret("installed-secret")
    assert programs.looks == 1


def test_a_program_that_is_not_there_is_looked_for_again(folder):
    programs = Programs()
    look = search(folder, programs)
    assert look().installed == Secret()
    programs.texts = (SOURCE,)

    assert look().installed == Secret("installed-secret")


def test_what_the_operator_says_comes_first(folder):
    programs = Programs(SOURCE)
    configured = Config(endpoints=Endpoints(gemini_cli=GeminiCliEndpoint(client_secret=Secret("configured"))))

    assert search(folder, programs, "from-outside")().environment == Secret("from-outside")
    search(folder, programs, config=configured)()
    assert programs.looks == 0


def test_other_files_are_searched_by_client(folder):
    token = {"client_id": CLIENT, "client_secret": "file-secret"}
    (folder / "a.json").write_text(json.dumps({"type": "gemini", "token": token}))
    (folder / "b.json").write_text(json.dumps({"client_id": "other", "client_secret": "other-secret"}))
    (folder / "c.json").write_text(json.dumps({"type": "qwen", "client_id": "no", "client_secret": "no"}))
    (folder / "d.json").write_text("{broken")
    (folder / "e.json").write_text(json.dumps({"type": "gemini", "token": "no object"}))
    programs = Programs(SOURCE)

    found = search(folder, programs)()

    assert found.files == {CLIENT: Secret("file-secret"), "other": Secret("other-secret")}
    assert programs.looks == 0


# -- installed programs


def test_a_program_is_found_here_and_above(tmp_path):
    bundle = tmp_path / "node_modules/@google/gemini-cli/bundle"
    bundle.mkdir(parents=True)
    (bundle / "chunk-A.js").write_text("nothing")
    (bundle / "chunk-B.js").write_text(SOURCE)
    (bundle / "readme.md").write_text(SOURCE)
    here = tmp_path / "a/b"
    here.mkdir(parents=True)

    assert list(gemini_cli_sources({}, here)) == [SOURCE]


def test_a_program_is_found_where_its_command_leads(tmp_path):
    package = tmp_path / "prefix/lib/node_modules/@google/gemini-cli"
    core = package / "node_modules/@google/gemini-cli-core/dist/src/code_assist"
    core.mkdir(parents=True)
    (core / "oauth2.js").write_text(SOURCE)
    (package / "index.js").write_text("")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "gemini").symlink_to(package / "index.js")

    assert list(gemini_cli_sources({"PATH": f"relative:{programs}:"}, tmp_path)) == [SOURCE]


@pytest.mark.parametrize("name", ["NPM_CONFIG_PREFIX", "npm_config_prefix"])
def test_a_program_is_found_below_npms_prefix(tmp_path, name):
    place = tmp_path / "lib/node_modules/@google/gemini-cli-core/dist/src/code_assist"
    place.mkdir(parents=True)
    (place / "oauth2.js").write_text(SOURCE)

    assert list(gemini_cli_sources({name: str(tmp_path)}, tmp_path / "elsewhere")) == [SOURCE]
