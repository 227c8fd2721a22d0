"""One configuration, compiled."""

import pytest

from cliproxy.config.document import read
from cliproxy.config.schema import ClaudeKey, CodexKey, Config, Model
from cliproxy.gateway.snapshot import _OF_ACCOUNTS, _OF_FILES, Snapshot, compile_snapshot
from cliproxy.providers.accounts import AccountFile
from cliproxy.providers.base import Proxies
from cliproxy.providers.registry import KINDS, PROVIDERS
from cliproxy.wire.secrets import Secret


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


# -- what is taken over -----------------------------------------------------------------------------------------------

KEYED = "api-keys: [k1]\nclaude-api-key: [{api-key: a, models: [{name: claude-a}]}]\ncodex-api-key: [{api-key: b}]\n"


def _after(text: str, before: Snapshot) -> Snapshot:
    return compile_snapshot(read(text).config, PROVIDERS, Proxies(), before.listings, before)


@pytest.mark.parametrize(
    "more", ["debug: true\n", "port: 1\n", "routing: {strategy: fill-first}\n", "models: {fallbacks: {a: [b]}}\n", ""]
)
def test_what_touches_no_account_compiles_none_again(more):
    before = compiled(read(KEYED).config)

    after = _after(KEYED + more, before)

    assert after.upstreams is before.upstreams
    assert after.catalog is before.catalog
    assert after.keys is before.keys
    assert after.config == read(KEYED + more).config


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("api-key: a", "api-key: other"),
        ("name: claude-a", "name: claude-b"),
        ("codex-api-key", "proxy-url: http://p.example:1\ncodex-api-key"),
        ("codex-api-key", "no-proxy: [a.example]\ncodex-api-key"),
        ("codex-api-key", "endpoints: {codex: {api-base-url: http://c.example}}\ncodex-api-key"),
        ("codex-api-key", "gemini-api-key: [{api-key: g}]\ncodex-api-key"),
    ],
)
def test_what_accounts_depend_on_compiles_them_again(old, new):
    before = compiled(read(KEYED).config)

    after = _after(KEYED.replace(old, new), before)

    assert after.upstreams is not before.upstreams
    assert after.keys is before.keys


def test_new_keys_of_clients_are_compiled_without_the_accounts():
    before = compiled(read(KEYED).config)

    after = _after(KEYED.replace("[k1]", "[k1, k2]"), before)

    assert after.keys is not before.keys
    assert after.upstreams is before.upstreams


def test_another_listing_compiles_the_accounts_again():
    before = compiled(read(KEYED).config)
    (_, codex) = before.upstreams

    after = compile_snapshot(before.config, PROVIDERS, Proxies(), {codex: ("gpt-new",)}, before)

    assert "gpt-new" in after.catalog.routes
    assert after.keys is before.keys


class Spied:
    """A configuration that knows which of its fields were asked for."""

    def __init__(self, config: Config) -> None:
        self.asked: set[str] = set()
        self._config = config

    def __getattr__(self, name: str) -> object:
        if isinstance(joined := getattr(Config, name), property):
            assert joined.fget is not None
            return joined.fget(self)
        self.asked.add(name)
        return getattr(self._config, name)


def test_no_provider_reads_a_field_that_is_held_to_be_strange_to_accounts():
    text = KEYED + (
        "proxy-url: http://p.example:1\ngemini-api-key: [{api-key: g}]\ngenerative-language-api-key: [h]\n"
        "openai-compatibility: [{name: n, base-url: 'http://o.example', api-keys: [k]}]\n"
    )
    spied = Spied(read(text).config)

    found = [upstream for provider in PROVIDERS for upstream in provider.upstreams(spied, Proxies())]

    assert len(found) == 5
    assert "claude_api_key" in spied.asked
    assert spied.asked <= set(_OF_ACCOUNTS)


def test_accounts_from_files_depend_on_no_list_of_keys():
    spied = Spied(read("proxy-url: http://p.example:1\n").config)

    for kind, provider in KINDS.items():
        file = AccountFile(name=f"{kind}.json", kind=kind, email="a@b.example", project_id="p", account_id="a")
        assert list(provider.account_upstreams(file, spied, Proxies()))

    assert "endpoints" in spied.asked
    assert spied.asked <= set(_OF_FILES)


def test_another_upstream_key_leaves_accounts_from_files_as_they_are():
    files = {"a.json": AccountFile(name="a.json", kind="claude", email="a@b.example")}
    before = compile_snapshot(read(KEYED).config, PROVIDERS, Proxies(), {}, files=files, kinds=KINDS)
    config = read(KEYED.replace("api-key: a", "api-key: other")).config

    after = compile_snapshot(config, PROVIDERS, Proxies(), before.listings, before, files=files, kinds=KINDS)

    assert after.of_files["a.json"] is before.of_files["a.json"]
    assert len(after.upstreams) == 3
    assert after.upstreams.keys() != before.upstreams.keys()
