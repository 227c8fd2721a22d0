"""One configuration, compiled."""

import pytest

from cliproxy.config.schema import ClaudeKey, CodexKey, Config, Model
from cliproxy.config.secrets import Secret
from cliproxy.gateway.snapshot import Snapshot, compile_snapshot
from cliproxy.providers.base import Proxies
from cliproxy.providers.registry import PROVIDERS


def compiled(config: Config, listings: dict[str, tuple[str, ...]] | None = None) -> Snapshot:
    return compile_snapshot(config, PROVIDERS, Proxies(), listings or {})


def claude(key: str, *models: str, **more) -> ClaudeKey:
    return ClaudeKey(api_key=Secret(key), models=tuple(Model(name=name) for name in models), **more)


def leads_to(snapshot: Snapshot, asked: str) -> tuple[str, str, int] | None:
    target = snapshot.resolve(asked)
    if target is None:
        return None
    thinking = target.thinking
    return target.route.model, thinking.level if thinking else "", thinking.budget if thinking else 0


GPT = Config(codex_api_key=(CodexKey(api_key=Secret("k"), models=(Model(name="gpt-5"), Model(name="my-high"))),))


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("gpt-5", ("gpt-5", "", 0)),
        (" models/gpt-5 ", ("gpt-5", "", 0)),
        ("gpt-5-high", ("gpt-5", "high", 0)),
        ("gpt-5(high)", ("gpt-5", "high", 0)),
        ("gpt-5(8192)", ("gpt-5", "", 8192)),
        ("my-high", ("my-high", "", 0)),
        ("my-high(low)", ("my-high", "low", 0)),
        ("gpt-5(nonsense)", None),
        ("gpt-6-high", None),
        ("", None),
    ],
)
def test_names_lead_to_routes(asked, found):
    assert leads_to(compiled(GPT), asked) == found


def test_an_effort_is_taken_off_known_names_only():
    snapshot = compiled(Config(codex_api_key=(CodexKey(api_key=Secret("k")),)), {})
    (account,) = snapshot.upstreams
    snapshot = compiled(snapshot.config, {account: ("gpt-7",)})

    assert leads_to(snapshot, "gpt-5-high") == ("gpt-5", "high", 0)
    assert leads_to(snapshot, "gpt-unheard-of-high") == ("gpt-unheard-of-high", "", 0)


def test_an_upstreams_list_replaces_the_table_and_families_stay_open():
    config = Config(claude_api_key=(claude("k"),))
    (account,) = compiled(config).upstreams

    listed = compiled(config, {account: ("claude-new",)})
    empty = compiled(config, {account: ()})

    assert set(listed.catalog.routes) == {"claude-new"}
    assert leads_to(listed, "claude-sonnet-5") is not None
    assert "claude-sonnet-5" in empty.catalog.routes


def test_one_key_in_several_entries_is_several_accounts_with_stable_ids():
    config = Config(claude_api_key=(claude("k", "claude-a"), claude("k", "claude-b"), claude("other", "claude-c")))

    first, second = compiled(config), compiled(config)

    assert len(first.upstreams) == 3
    assert set(first.catalog.routes) == {"claude-a", "claude-b", "claude-c"}
    assert list(first.upstreams) == list(second.upstreams)
