"""Cases 52 to 59: the configuration as one JSON object."""

from collections.abc import Callable, Iterator, Mapping

import pytest
from managed import OK, Managed

from cliproxy.server.management.settings import SETTINGS

Manage = Callable[..., Managed]

START = "port: 0\nauth-dir: AUTH_DIR\nremote-management: {secret-key: mk}\n"
ALWAYS = {
    "debug",
    "proxy-url",
    "api-keys",
    "quota-exceeded",
    "generative-language-api-key",
    "request-log",
    "request-retry",
    "claude-api-key",
    "codex-api-key",
    "openai-compatibility",
    "allow-localhost-unauthenticated",
}
EXTENSIONS = {"gemini-api-key", "logging-to-file", "max-retry-interval", "max-retry-credentials", "routing"}


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Managed]:
    """One gateway for the tests that change nothing."""
    managed = Managed(tmp_path_factory.mktemp("config"))
    yield managed
    managed.stop()


def _config(managed: Managed) -> Mapping[str, object]:
    reply = managed.get("/config")
    assert reply.status == 200
    assert isinstance(reply.json, dict)
    return reply.json


def test_052_it_has_every_setting_and_nothing_of_the_listener_or_the_management_key(still: Managed) -> None:
    assert set(_config(still)) == ALWAYS | EXTENSIONS


def test_053_keys_are_shown_in_full(still: Managed) -> None:
    assert _config(still)["api-keys"] == ["k1", "k2", "k3"]


def test_054_lists_without_elements_are_empty_and_never_null(still: Managed) -> None:
    assert _config(still)["codex-api-key"] == []
    assert _config(still)["openai-compatibility"] == []


def test_055_an_entry_shows_what_we_know_of_it(still: Managed) -> None:
    assert _config(still)["claude-api-key"] == [
        {"api-key": "ca", "base-url": "https://a.example"},
        {"api-key": "cb", "base-url": ""},
    ]


def test_056_the_management_key_is_nowhere_in_it(still: Managed) -> None:
    text = still.get("/config").content.decode()

    assert "mk" not in text
    assert "$2" not in text


def test_057_a_section_is_shown_whole(still: Managed) -> None:
    assert _config(still)["quota-exceeded"] == {"switch-project": True, "switch-preview-model": True}
    assert _config(still)["routing"] == {"strategy": "round-robin", "session-affinity": True}


def test_058_a_file_of_nothing_shows_all_defaults(manage: Manage) -> None:
    assert _config(manage(START)) == {
        "debug": False,
        "proxy-url": "",
        "api-keys": [],
        "quota-exceeded": {"switch-project": True, "switch-preview-model": True},
        "generative-language-api-key": [],
        "gemini-api-key": [],
        "request-log": False,
        "logging-to-file": False,
        "request-retry": 3,
        "max-retry-credentials": 0,
        "max-retry-interval": 30,
        "routing": {"strategy": "round-robin", "session-affinity": True},
        "claude-api-key": [],
        "codex-api-key": [],
        "openai-compatibility": [],
        "allow-localhost-unauthenticated": False,
    }


def test_059_nobody_may_keep_it(still: Managed) -> None:
    assert "no-store" in still.get("/config").headers["cache-control"]


def test_it_shows_what_each_row_shows(managed: Managed) -> None:
    managed.put("/quota-exceeded/switch-project", {"value": False})
    managed.put("/request-retry", {"value": 7})
    managed.put("/claude-api-key", [{"api-key": "x", "headers": {"a": "b"}}])

    config = _config(managed)

    for setting in SETTINGS:
        shown: object = config
        for part in setting.key:
            assert isinstance(shown, dict)
            shown = shown[part]
        assert managed.get("/" + "/".join(setting.key)).json == {setting.key[-1]: shown}
    for name in ("api-keys", "generative-language-api-key", "gemini-api-key", "claude-api-key", "codex-api-key"):
        assert managed.get(f"/{name}").json == {name: config[name]}


def test_it_changes_with_each_write_and_so_does_its_tag(managed: Managed) -> None:
    before = managed.get("/config").headers["etag"]
    assert managed.get("/config").headers["etag"] == before

    assert managed.put("/debug", {"value": True}).told == OK

    assert _config(managed)["debug"] is True
    assert managed.get("/config").headers["etag"] != before


@pytest.mark.parametrize("method", ["PUT", "PATCH", "POST", "DELETE"])
def test_it_is_for_reading_only(still: Managed, method: str) -> None:
    before = still.file

    assert still.ask(method, "/config", {"debug": True}).status == 405

    assert still.file == before
