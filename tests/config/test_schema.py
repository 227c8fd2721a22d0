"""The defaults are the documented ones, and every key is documented."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import inspect

from cliproxy.config.document import read
from cliproxy.config.schema import CompatibilityKey, Config, Model, OpenAICompatibility, UpstreamEntry
from cliproxy.wire.secrets import Secret

ROOT = Path(__file__).parents[2]
EXAMPLE = (ROOT / "config.example.yaml").read_text()
DOCUMENT = (ROOT / "docs" / "configuration.md").read_text()

# A commented key of the example starts with a small letter, a dash or a quote; prose does not.
COMMENTED = re.compile(r"^# (?=\s*(- )?([a-z][a-z0-9.-]*:|\"))|^# (?=\s*- )", re.MULTILINE)


def key_paths(kind: inspect.Type, path: str = "") -> Iterator[tuple[str, type | None]]:
    """Every key of the file as `a.b[].c`, with the Struct that a list of entries holds."""
    match kind:
        case inspect.Metadata() | inspect.VarTupleType():
            inner = kind.type if isinstance(kind, inspect.Metadata) else kind.item_type
            yield from key_paths(inner, f"{path}[]" if isinstance(kind, inspect.VarTupleType) else path)
        case inspect.StructType():
            for field in kind.fields:
                full = f"{path}.{field.encode_name}".removeprefix(".")
                yield full, kind.cls
                yield from key_paths(field.type, full)
        case _:
            return


KEYS = dict(key_paths(inspect.type_info(Config)))


def documented_name(path: str) -> str:
    """The fields that all entries share stand once, as `[].name`."""
    for shared in (UpstreamEntry, Model):
        info = inspect.type_info(shared)
        assert isinstance(info, inspect.StructType)
        for field in info.fields:
            suffix = f"[].models[].{field.encode_name}" if shared is Model else f"[].{field.encode_name}"
            if path.endswith(suffix) and path.count("[]") == suffix.count("[]"):
                return suffix
    return path


def whole_example() -> str:
    return COMMENTED.sub("", EXAMPLE)


def test_the_walk_sees_the_whole_schema():
    assert {
        "host",
        "routing.strategy",
        "claude-api-key[].models[].alias",
        "endpoints.codex.api-base-url",
    } <= KEYS.keys()
    assert len(KEYS) > 130


@pytest.mark.parametrize("path", KEYS)
def test_every_key_has_a_row_in_the_documentation(path):
    if not any(other.startswith((f"{path}.", f"{path}[].")) for other in KEYS):
        assert f"| `{documented_name(path)}` |" in DOCUMENT


def test_every_documented_key_exists():
    documented = re.findall(r"^\| `([^`]+)` \|", DOCUMENT, re.MULTILINE)

    unknown = set(documented) - {documented_name(path) for path in KEYS} - set(KEYS)

    assert not unknown


def test_every_key_stands_in_the_example():
    names = set(re.findall(r"^[# ]*(?:- )?([a-z][a-z0-9.-]*):", EXAMPLE, re.MULTILINE))

    assert {path.rpartition(".")[2] for path in KEYS} <= names


def test_the_example_is_valid_as_it_stands():
    assert read(EXAMPLE).config == Config()
    assert read(EXAMPLE).warnings == ()


def test_the_example_is_valid_with_everything_in_it_and_shows_the_defaults():
    loaded = read(whole_example())

    assert loaded.warnings == ()
    shown, default = loaded.config, Config()
    entries = {"gemini_api_key", "claude_api_key", "codex_api_key", "openai_compatibility", "models"}
    extra = {"generative_language_api_key", "allow_remote_management", "remote_management_key"}
    for name in set(Config.__struct_fields__) - entries - extra:
        assert getattr(shown, name) == getattr(default, name), name
    assert len(shown.openai_compatibility) == len(shown.claude_api_key) == len(shown.codex_api_key) == 1
    assert shown.gemini_api_key[0].models[0].alias == "pro"


def test_documented_defaults_hold_for_an_empty_file():
    config = read("").config

    assert (config.host, config.port, config.auth_dir) == ("127.0.0.1", 8317, "~/.cli-proxy-api")
    assert (config.request_retry, config.max_retry_credentials, config.max_retry_interval) == (3, 0, 30)
    assert config.quota_exceeded.switch_project
    assert config.quota_exceeded.switch_preview_model
    assert (config.routing.strategy, config.routing.session_affinity_ttl) == ("round-robin", 3600)
    assert (config.timeouts.connect, config.timeouts.first_event) == (10, 0)
    assert (config.timeouts.idle, config.timeouts.drain) == (300, 30)
    assert (config.limits.max_body_bytes, config.limits.max_header_bytes) == (128 * 1024**2, 64 * 1024)
    assert config.cors_origins == ("*",)
    assert not config.management_key


def test_the_flat_management_spelling_wins_over_the_nested_one():
    config = read("remote-management: {secret-key: n, allow-remote: true}\nremote-management-key: f").config

    assert config.management_key == Secret("f")
    assert config.management_allows_remote


def test_a_null_flat_spelling_leaves_the_nested_one():
    config = read("remote-management: {secret-key: n}\nremote-management-key:\nallow-remote-management: ~").config

    assert config.management_key == Secret("n")
    assert not config.management_allows_remote


def test_all_gemini_keys_are_the_objects_and_the_plain_ones():
    config = read("gemini-api-key: [{api-key: a, weight: 2}]\ngenerative-language-api-key: [b]").config

    assert [(entry.api_key.reveal(), entry.weight) for entry in config.gemini_keys] == [("a", 2), ("b", 1)]


def test_the_keys_of_a_provider_are_both_spellings_each_once():
    entry = OpenAICompatibility(
        name="x",
        api_keys=(Secret("a"), Secret("b")),
        api_key_entries=(CompatibilityKey(api_key=Secret("b"), weight=4), CompatibilityKey(api_key=Secret("c"))),
    )

    assert [(key.api_key.reveal(), key.weight) for key in entry.keys] == [("b", 4), ("c", 1), ("a", 1)]


def test_a_model_without_alias_is_called_by_its_name():
    assert Model(name="n").public_name == "n"
    assert Model(name="n", alias="a").public_name == "a"
