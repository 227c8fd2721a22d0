"""Reading: what the file may say, and where a message points when it says something else."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cliproxy.config.document import read
from cliproxy.config.issues import ConfigError
from cliproxy.config.schema import Config
from cliproxy.wire.secrets import Secret

KEY = "sk-ant-api03-verysecret"


def errors(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text)
    return [f"{issue.line}:{issue.column} {issue.path}: {issue.message}" for issue in caught.value.issues]


def complaints(text: str) -> list[str]:
    return [f"{issue.line} {issue.path}: {issue.message}" for issue in read(text).warnings]


# -- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "\n", "# only a comment\n", "---\n", "~", "{}", "\ufeff", "--- {}\n...\n"])
def test_a_file_with_nothing_in_it_has_all_defaults(text):
    assert read(text).config == Config()


def test_a_byte_order_mark_is_skipped():
    assert read("\ufeffport: 9\n").config.port == 9


def test_windows_line_ends_are_read():
    loaded = read("port: 9\r\ndebug: true\r\nfoo: 1\r\n")

    assert (loaded.config.port, loaded.config.debug) == (9, True)
    assert loaded.warnings[0].line == 3


@pytest.mark.parametrize("key", ["12345", "0x1F", "0o17", "1e5", "1_000", "007", "true", "2020-01-01", "1.50", ".inf"])
def test_a_key_that_looks_like_something_else_is_its_source_text(key):
    assert read(f"api-keys:\n  - {key}\n").config.api_keys == (Secret(key),)


def test_quotes_and_white_space_around_a_key_are_not_part_of_it():
    assert read('api-keys: [ "a", \'b\' , "  c  "]').config.api_keys == (Secret("a"), Secret("b"), Secret("c"))


def test_null_is_the_default_for_a_value_and_empty_for_a_list():
    config = read("port:\nproxy-url: ~\nrouting:\napi-keys:\nclaude-api-key: null\ncors-origins:\n").config

    assert config == Config()


@pytest.mark.parametrize(
    ("text", "value"), [("yes", True), ("On", True), ("TRUE", True), ("no", False), ("off", False)]
)
def test_a_boolean_may_be_spelt_as_in_the_go_program(text, value):
    assert read(f"debug: {text}").config.debug is value


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5", 5), ("0.5", 0.5), ("1h", 3600), ('"90s"', 90), ("500ms", 0.5), ("1e2", 100), ('"7s"', 7)],
)
def test_a_duration_is_a_number_or_a_text(text, seconds):
    assert read(f"timeouts: {{idle: {text}}}").config.timeouts.idle == seconds


@pytest.mark.parametrize(
    ("text", "strategy"), [("wrr", "weighted"), ('""', "round-robin"), ("FF", "fill-first"), ("weighted", "weighted")]
)
def test_the_strategy_may_be_spelt_as_in_the_go_program(text, strategy):
    assert read(f"routing: {{strategy: {text}}}").config.routing.strategy == strategy


def test_anchors_aliases_and_merges_are_resolved_and_the_nearer_value_wins():
    config = read(
        """
claude-api-key:
  - &first {api-key: a, base-url: "https://one.example", priority: 1}
  - <<: *first
    api-key: b
  - {<<: [{priority: 7}, *first], api-key: c}
codex-api-key:
  - *first
"""
    ).config

    assert [(entry.api_key.reveal(), entry.base_url, entry.priority) for entry in config.claude_api_key] == [
        ("a", "https://one.example", 1),
        ("b", "https://one.example", 1),
        ("c", "https://one.example", 7),
    ]
    assert config.codex_api_key[0].api_key == Secret("a")


def test_an_anchor_may_be_used_twice_without_a_warning_on_the_terminal():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read("api-keys: [&a x, *a, &a y, *a]").config.api_keys[3] == Secret("y")


def test_headers_keep_their_order_and_hide_their_values():
    (entry,) = read(f"gemini-api-key: [{{api-key: k, headers: {{x-b: {KEY}, x-a: 5, x-c: }}}}]").config.gemini_api_key

    assert list(entry.headers) == ["x-b", "x-a", "x-c"]
    assert entry.headers["x-a"] == Secret("5")
    assert KEY not in repr(entry)


def test_a_negative_retry_count_is_zero_with_a_warning():
    loaded = read("request-retry: -2")

    assert loaded.config.request_retry == 0
    assert [str(issue) for issue in loaded.warnings] == ["config.yaml:1: $.request-retry: is below 0; 0 is used"]


# -- errors -----------------------------------------------------------------------------------------------------------

WRONG = [
    ("port: 70000", "1:7 $.port: out of range; write a number from 0 to 65535"),
    ("port: -1", "1:7 $.port: out of range; write a number from 0 to 65535"),
    ("\nrequest-retry: abc", "2:16 $.request-retry: expected a whole number, got text"),
    ('port: "8317"', "1:7 $.port: expected a whole number, got text; remove the quotes"),
    ("port: 8.5", "1:7 $.port: expected a whole number, got a number"),
    ("max-retry-credentials: -1", "1:24 $.max-retry-credentials: out of range; write 0 or more"),
    ("debug: 1", "1:8 $.debug: expected true or false, got a number"),
    ('debug: "true"', "1:8 $.debug: expected true or false, got text; remove the quotes"),
    ("debug: [true]", "1:8 $.debug: expected true or false, got a list"),
    ("api-keys: k", "1:11 $.api-keys: expected a list (lines that start with `- `), got text"),
    ("api-keys:\n  - a\n  - ''", "3:5 $.api-keys[1]: is empty; write a value or remove the entry"),
    ("api-keys:\n  -\n  - b", "2:4 $.api-keys[0]: is empty; write a value or remove the line"),
    ("routing: fill-first", "1:10 $.routing: expected keys with values, got text"),
    ("- port: 1", "1:1 $: expected keys with values, got a list"),
    ("just text", "1:1 $: expected keys with values, got text"),
    ("claude-api-key:\n  - base-url: https://a.example", "2:5 $.claude-api-key[0]: `api-key` is missing"),
    ("claude-api-key:\n  - api-key:", "2:13 $.claude-api-key[0].api-key: is empty; write a value or remove the line"),
    ("claude-api-key:\n  - sk-1", "2:5 $.claude-api-key[0]: expected keys with values, got text"),
    ("claude-api-key: [{api-key: k, auth-style: beare}]", "1:43 $.claude-api-key[0].auth-style: expected one of "
     "`bearer`, `both`, `x-api-key`; did you mean `bearer`?"),
    ("codex-api-key: [{api-key: k, weight: 1000001}]", "1:38 $.codex-api-key[0].weight: out of range; write a number from 0 to 1000000"),
    ("api-keys: [!env HOME]", "1:12 $.api-keys[0]: carries a YAML tag (`!...`) that is not supported; write the plain value"),
    ("trusted-proxies: [10.0.0.1/8]", "1:19 $.trusted-proxies[0]: not a network; write `10.0.0.0/8`, `fd00::/8` or a "
     "single address (no host bits behind the prefix)"),
    ("models: {fallbacks: {a: b}}", "1:25 $.models.fallbacks.a: expected a list (lines that start with `- `), got text"),
    ("timeouts: {idle: -1}", "1:18 $.timeouts.idle: expected a duration: seconds, 0 or more, or a text such as `90s`, `5m`, `1h30m`"),
    ("timeouts: {idle: .nan}", "1:18 $.timeouts.idle: expected a duration: seconds, 0 or more, or a text such as `90s`, `5m`, `1h30m`"),
    ("host: 0.0.0.0", "1:7 $.host: other machines can reach this host and there are no `api-keys`; add one, listen on "
     "`127.0.0.1`, or set `allow-unauthenticated: true`"),
    ("port: 1\nport: 2", "2:1 $.port: duplicate key; line 1 has it already, remove one of them"),
    ("x:\n  - {a: 1, a: 2}", "2:12 $.x[0].a: duplicate key; line 2 has it already, remove one of them"),
    ("a: &x [*x]", "1:4 $.a[0]: an anchor must not contain itself"),
    ("<<: 5", "1:5 $.<<: `<<` takes a mapping, or a list of mappings, to merge"),
    ("[a]: 1", "1:1 $: a key must be a word, not a list or a mapping"),
    ("port:\n\t- 1", "2:1 $: not YAML: a tab where only spaces may stand; indent with spaces"),
    ("a: 1\n--- b", "2:1 $: not YAML: expected a single document in the stream but found another document"),
    ("a: 1\nb: \x01", "2:4 $: not YAML: a character that YAML does not allow; save the file as UTF-8 text"),
    ("[" * 1500, "1:1 $: nested too deeply; a configuration has a few levels"),
    ('a: "\\UFFFFFFFF"', "1:1 $: not YAML; the text cannot be read"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_a_wrong_file_is_refused_with_its_place(text, message):
    assert errors(text) == [message]


def test_all_problems_are_reported_at_once_in_the_order_of_the_file():
    found = errors(
        """
port: x
openai-compatibility:
  - name: a
    base-url: nonsense
  - name: A
    base-url: https://a.example
    models: [{alias: q}]
host: ""
"""
    )

    assert [issue.partition(": ")[0] for issue in found] == [
        "2:7 $.port",
        "5:15 $.openai-compatibility[0].base-url",
        "6:11 $.openai-compatibility[1].name",
        "8:14 $.openai-compatibility[1].models[0]",
        "9:7 $.host",
    ]


def test_the_text_of_the_error_is_one_line_an_issue():
    with pytest.raises(ConfigError) as caught:
        read("port: x\ndebug: 5", name="my.yaml")

    assert str(caught.value).splitlines() == [
        "my.yaml:1: $.port: expected a whole number, got text",
        "my.yaml:2: $.debug: expected true or false, got a number",
    ]


def test_a_key_may_be_used_again_in_another_mapping():
    assert complaints("claude-api-key: [{api-key: a}, {api-key: b}]") == []


def test_an_open_listener_may_be_allowed():
    assert read("host: 0.0.0.0\nallow-unauthenticated: true").config.host == "0.0.0.0"
    assert read("host: 0.0.0.0\napi-keys: [a]").config.host == "0.0.0.0"


def test_a_management_key_that_bcrypt_cannot_hold_is_refused():
    assert "72 bytes" in errors(f"remote-management: {{secret-key: {'x' * 73}}}")[0]


# -- warnings ---------------------------------------------------------------------------------------------------------

DOUBTFUL = [
    ("a: 1\nhots: 1.2.3.4", "2 $.hots: unknown key, has no effect; did you mean `host`?"),
    ("a: 1\nauth_dir: x", "2 $.auth_dir: unknown key, has no effect; did you mean `auth-dir`?"),
    ("a: 1\nRequest-Retry: 1", "2 $.Request-Retry: unknown key, has no effect; did you mean `request-retry`?"),
    ("a: 1\nrouting: {stratgy: x}", "2 $.routing.stratgy: unknown key, has no effect; did you mean `strategy`?"),
    ("a: 1\ntls: {enable: true}", "2 $.tls: known to the Go program, has no effect here"),
    ("a: 1\nclaude-api-key: [{api-key: k, cloak: {}}]", "2 $.claude-api-key[0].cloak: known to the Go program, has no effect here"),
    ("a: 1\ncodex-api-key: [{api-key: k, models: [{name: n, fork: true}]}]",
     "2 $.codex-api-key[0].models[0].fork: known to the Go program, has no effect here"),
    ("a: 1\nopenai-compatibility:\n - name: x", "3 $.openai-compatibility[0]: `base-url` is missing; the entry stays inactive until it has one"),
    ("a: 1\nremote-management: {secret-key: a}\nremote-management-key: b",
     "3 $.remote-management-key: differs from `remote-management.secret-key`; this one is used, remove the other"),
    ("a: 1\nremote-management: {allow-remote: true}\nallow-remote-management: false",
     "3 $.allow-remote-management: differs from `remote-management.allow-remote`; this one is used, remove the other"),
    ("a: 1\nremote-management: {secret-key: $2a$oops}",
     "2 $.remote-management.secret-key: looks like a bcrypt hash but is not one; no key will match, write the plain key to have it hashed"),
    ("a: 1\nclaude-api-key: [{api-key: k},\n {api-key: k}]", "3 $.claude-api-key[1].api-key: entry 0 has the same key and address; this one is ignored"),
    ("a: 1\napi-keys: [your-api-key-1]", "2 $.api-keys[0]: stands in a published example, so everyone knows it; write a random key"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), DOUBTFUL)
def test_a_doubtful_file_is_used_and_warned_about(text, message):
    assert complaints(text) == ["1 $.a: unknown key, has no effect", message]


def test_a_whole_hash_and_the_same_key_in_both_spellings_raise_no_warning():
    whole = "$2b$10$" + "a" * 53

    assert complaints(f"remote-management: {{secret-key: {whole}}}\nremote-management-key: {whole}") == []


# -- secrets ----------------------------------------------------------------------------------------------------------

LEAKS = [
    f"port: {KEY}",
    f"{KEY}: 1\nport: x",
    f"api-keys: {KEY}",
    f"api-keys: {{{KEY}: 1}}",
    f"api-keys: [{{{KEY}: 1}}]",
    f"claude-api-key: [{KEY}]",
    f"claude-api-key: [{{api-key: '{KEY} x'}}]",
    f"claude-api-key: [{{api-key: k, {KEY}: 1, weight: x}}]",
    f"claude-api-key: [{{api-key: k, headers: {{'{KEY} x': a}}}}]",
    f"claude-api-key: [{{api-key: k, base-url: 'https://u:{KEY}@h'}}]",
    f"proxy-url: socks4://me:{KEY}@h",
    f"proxy-url: socks5://me:{KEY}@h:99999",
    f"routing: {{strategy: {KEY}}}",
    f"timeouts: {{idle: {KEY}}}",
    f"api-keys: [*{KEY}]",
    f"api-keys: [!{KEY} x]",
    f"api-keys: [!{KEY}!x y]",
    f"api-keys:\n\t- {KEY}",
    f"api-keys: [{KEY}",
    f"api-keys: '{KEY}",
    f"api-keys: {{a: {KEY}: b}}",
    f"{KEY}: 1\n{KEY}: 2",
    f"%{KEY} x\n%YAML 9.9\n---\n",
    f"%TAG {KEY} y\n---\na",
    f'a: "\\x{KEY}"',
    f"a: |{KEY}",
    f"a: &{KEY} [*{KEY}]",
    f"remote-management: {{secret-key: {KEY * 4}}}",
]


@pytest.mark.parametrize("text", LEAKS)
def test_no_error_shows_a_secret(text):
    with pytest.raises(ConfigError) as caught:
        read(text)

    shown = f"{caught.value} {caught.value!r} {caught.value.issues!r} {caught.value.__cause__!r}"
    assert "secret" not in shown.replace("secret-key", "")
    assert "api03" not in shown


def test_no_warning_and_no_repr_shows_a_secret():
    loaded = read(
        f"""
api-keys: [{KEY}]
remote-management: {{secret-key: {KEY}}}
remote-management-key: {KEY}x
proxy-url: socks5://u:{KEY}@h
generative-language-api-key: [{KEY}]
gemini-api-key: [{{api-key: {KEY}, proxy-url: 'http://u:{KEY}@h', headers: {{authorization: {KEY}}}}}]
claude-api-key: [{{api-key: {KEY}}}, {{api-key: {KEY}}}]
codex-api-key: [{{api-key: {KEY}}}]
openai-compatibility: [{{name: x, api-keys: [{KEY}], api-key-entries: [{{api-key: {KEY}}}]}}]
endpoints: {{gemini-cli: {{client-secret: {KEY}}}}}
{KEY}: 1
"""
    )

    assert len(loaded.warnings) == 4
    assert KEY not in repr(loaded) + str(loaded.config) + "".join(map(str, loaded.warnings))


# -- anything ---------------------------------------------------------------------------------------------------------

WORDS = st.sampled_from(
    ["port", "api-keys", "routing", "claude-api-key", "models", "headers", "name", "api-key", "<<", "endpoints", "qwen",
     ":", ": ", "- ", "\n", "\n  ", "\n    ", "[", "]", "{", "}", ",", "&a ", "*a", "!x ", "!!int ", "? ", "|", ">", "'",
     '"', "#", "%", "\t", "~", "1", "-1", "1e9999", "0x", "yes", ".inf", "\\", "\ufeff", "---", "...", "é", "\x00"]
)  # fmt: skip
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
KEYS = st.sampled_from(sorted(field.replace("_", "-") for field in Config.__struct_fields__)) | st.sampled_from(
    ["api-key", "name", "base-url", "weight", "models", "fallbacks", "headers", "strategy", "gemini-cli", "<<"]
)
TREES = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3))


def read_anything(text: str) -> None:
    """A configuration, or an error with places in it; nothing else may come of any text."""
    issues = ()
    try:
        assert isinstance(read(text).config, Config)
    except ConfigError as error:
        issues = error.issues
        is_explained = bool(issues)
    else:
        is_explained = True
    assert is_explained
    assert all(issue.line >= 1 and issue.column >= 1 for issue in issues)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(WORDS, max_size=25).map("".join) | st.text(max_size=60))
def test_any_text_is_read_or_refused(text):
    read_anything(text)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(KEYS, TREES, max_size=6))
def test_any_tree_under_our_keys_is_read_or_refused(tree):
    read_anything(flow(tree))


def test_an_alias_bomb_is_harmless():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]

    assert len(complaints("\n".join(lines))) == 30


def flow(value: object) -> str:
    """A tree as YAML flow, with plain scalars where that is possible."""
    match value:
        case dict():
            return "{" + ", ".join(f"{key}: {flow(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(flow, value)) + "]"
        case str():
            return "'" + value.replace("'", "''") + "'"
        case None:
            return "~"
        case _:
            return str(value).lower()
