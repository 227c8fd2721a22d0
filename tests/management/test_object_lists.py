"""Cases 118 to 149: lists of upstream entries."""

import json
from collections.abc import Callable, Iterator

import pytest
from managed import OK, Managed, refused
from unchanging import INVALID, NOT_FOUND, refuses

from cliproxy.config.document import read
from cliproxy.config.schema import GeminiKey, OpenAICompatibility
from cliproxy.server.management.entries import schema_of

Manage = Callable[..., Managed]

START = "port: 0\nauth-dir: AUTH_DIR\nremote-management: {secret-key: mk}\n"
CA = {"api-key": "ca", "base-url": "https://a.example"}
CB = {"api-key": "cb", "base-url": ""}
OR = {
    "name": "or",
    "base-url": "https://o.example/v1",
    "api-keys": ["s"],
    "models": [{"name": "m", "alias": "a"}],
}
EVERYTHING = {
    "api-key": "full",
    "base-url": "https://f.example",
    "proxy-url": "socks5://u:p@127.0.0.1:1080",
    "headers": {"X-Team": "blue", "X-Secret": "s3cret"},
    "prefix": "team",
    "priority": -2,
    "weight": 5,
    "models": [{"name": "m1", "alias": "a1"}, {"name": "m2", "alias": "", "max-context-length": 1000}],
    "excluded-models": ["old-*", "Other"],
    "disabled": True,
}


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Managed]:
    """One gateway for the tests that change nothing."""
    managed = Managed(tmp_path_factory.mktemp("entries"))
    yield managed
    managed.stop()


@pytest.fixture
def compatible(managed: Managed) -> Managed:
    assert managed.put("/openai-compatibility", [OR]).told == OK
    return managed


def _shown(managed: Managed, path: str = "/claude-api-key") -> object:
    shown = managed.get(path).json
    assert isinstance(shown, dict)
    assert list(shown) == [path[1:]]
    return shown[path[1:]]


# -- shown ------------------------------------------------------------------------------------------------------------


def test_118_an_entry_shows_its_key_and_its_address(still: Managed) -> None:
    assert still.get("/claude-api-key").told == (200, {"claude-api-key": [CA, CB]})


def test_119_lists_without_entries_are_empty_and_never_null(still: Managed) -> None:
    assert still.get("/codex-api-key").told == (200, {"codex-api-key": []})
    assert still.get("/openai-compatibility").told == (200, {"openai-compatibility": []})


# -- replaced ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "shown"),
    [
        pytest.param(
            "/codex-api-key",
            [{"api-key": "x"}, {"api-key": "y", "base-url": "https://c.example"}],
            [{"api-key": "x", "base-url": ""}, {"api-key": "y", "base-url": "https://c.example"}],
            id="120",
        ),
        pytest.param("/claude-api-key", {"items": [{"api-key": "i"}]}, [{"api-key": "i", "base-url": ""}], id="121"),
        pytest.param("/claude-api-key", [], [], id="122"),
        pytest.param("/claude-api-key", {"items": []}, [], id="122-items"),
        pytest.param("/claude-api-key", [{"api-key": "x", "foo": 1}], [{"api-key": "x", "base-url": ""}], id="124"),
        pytest.param("/claude-api-key", [CA, CA], [CA], id="125"),
        pytest.param(
            "/claude-api-key",
            [CA, {**CA, "base-url": "https://b.example"}],
            [CA, {**CA, "base-url": "https://b.example"}],
            id="125-other-address",
        ),
        pytest.param("/openai-compatibility", [OR], [OR], id="143"),
        pytest.param(
            "/openai-compatibility",
            [{"name": "or", "base-url": "https://o.example/v1"}],
            [{"name": "or", "base-url": "https://o.example/v1", "api-keys": [], "models": []}],
            id="144",
        ),
        pytest.param(
            "/openai-compatibility",
            [{"name": "or", "base-url": None, "api-keys": None, "models": None}],
            [{"name": "or", "base-url": "", "api-keys": [], "models": []}],
            id="144-null",
        ),
        pytest.param(
            "/openai-compatibility",
            [{"name": " or ", "base-url": " https://o.example ", "api-keys": [" s ", "", "s"]}],
            [{"name": "or", "base-url": "https://o.example", "api-keys": ["s"], "models": []}],
            id="spaces",
        ),
        pytest.param("/openai-compatibility", [OR, OR], [OR], id="equal-upstreams"),
        pytest.param("/claude-api-key", [CB, CA], [CB, CA], id="reordered"),
        pytest.param("/claude-api-key", [EVERYTHING], [EVERYTHING], id="every-member"),
        pytest.param("/gemini-api-key", [EVERYTHING], [EVERYTHING], id="every-member-of-gemini"),
        pytest.param(
            "/claude-api-key",
            [{**CA, "auth-style": "both"}],
            [{**CA, "auth-style": "both"}],
            id="auth-style",
        ),
        pytest.param(
            "/openai-compatibility",
            [{**OR, "api-key-entries": [{"api-key": "e", "proxy-url": "direct"}, {"api-key": "f"}], "weight": 0}],
            [{**OR, "api-key-entries": [{"api-key": "e", "proxy-url": "direct"}, {"api-key": "f"}], "weight": 0}],
            id="key-entries",
        ),
        pytest.param(
            "/claude-api-key",
            [{**CA, "weight": 1, "priority": 0, "headers": {}, "disabled": False, "excluded-models": []}],
            [CA],
            id="only-defaults",
        ),
    ],
)
def test_put_replaces_the_list(managed: Managed, path: str, body: object, shown: object) -> None:
    assert managed.put(path, body).told == OK
    assert _shown(managed, path) == shown

    before = managed.file
    assert managed.put(path, shown).told == OK
    assert managed.file == before
    assert managed.get("/config").json[path[1:]] == shown  # type: ignore[index]


@pytest.mark.parametrize(
    ("path", "raw"),
    [
        pytest.param(path, raw, id=id_)
        for id_, path, raw in (
            ("123-null", "/claude-api-key", b"null"),
            ("123-text", "/claude-api-key", b'["x"]'),
            ("123-number", "/claude-api-key", b'[{"api-key":5}]'),
            ("123-nothing", "/claude-api-key", b"[{}]"),
            ("123-underscore", "/claude-api-key", b'[{"api_key":"x"}]'),
            ("123-null-entry", "/claude-api-key", b"[null]"),
            ("123-blank", "/codex-api-key", b'[{"api-key":" "}]'),
            ("123-null-key", "/codex-api-key", b'[{"api-key":null}]'),
            ("123-one-of-two", "/codex-api-key", b'[{"api-key":"a"},{"api-key":true}]'),
            ("123-address", "/codex-api-key", b'[{"api-key":"a","base-url":1}]'),
            ("123-object", "/claude-api-key", b"{}"),
            ("123-empty", "/claude-api-key", b""),
            ("123-trailing", "/claude-api-key", b"[]]"),
            ("123-gemini", "/gemini-api-key", b'["x"]'),
            ("145", "/openai-compatibility", b'[{"name":"x","api-keys":"s"}]'),
            ("145-no-name", "/openai-compatibility", b'[{"base-url":"u"}]'),
            ("145-model", "/openai-compatibility", b'[{"name":"x","models":["m"]}]'),
            ("145-nameless-model", "/openai-compatibility", b'[{"name":"x","models":[{"alias":"a"}]}]'),
            ("145-key", "/openai-compatibility", b'[{"name":"x","api-keys":[1]}]'),
            ("deep", "/openai-compatibility", b'[{"name":"x","models":' + b"[" * 400 + b"]" * 400 + b"}]"),
        )
    ],
)
def test_put_takes_entries_and_nothing_else(still: Managed, path: str, raw: bytes) -> None:
    refuses(still, "PUT", path, raw=raw)


@pytest.mark.parametrize("url", ["a.example", "ftp://a.example", "http://", "https://u:p@a.example", "https://a/?q=1"])
@pytest.mark.parametrize("path", ["/claude-api-key", "/openai-compatibility"])
def test_an_address_must_be_one(still: Managed, path: str, url: str) -> None:
    entry = {"api-key": "x", "name": "x", "base-url": url}

    refuses(still, "PUT", path, [entry], refused(400, "invalid base-url"))
    if path == "/claude-api-key":
        refuses(still, "PATCH", path, {"index": 0, "value": {"base-url": url}}, refused(400, "invalid base-url"))


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("proxy-url", "ftp://x"),
        ("proxy-url", 1),
        ("headers", {"bad name": "x"}),
        ("headers", {"x": 1}),
        ("headers", {"x": "a\nb"}),
        ("headers", ["x"]),
        ("prefix", "a/b"),
        ("priority", 1.5),
        ("priority", 2**70),
        ("weight", -1),
        ("weight", True),
        ("models", [{"name": ""}]),
        ("models", [{"name": "m", "max-context-length": -1}]),
        ("excluded-models", "m"),
        ("disabled", "true"),
        ("disabled", 1),
        ("auth-style", "basic"),
    ],
)
def test_a_bad_member_is_refused_and_named(still: Managed, member: str, value: object) -> None:
    before = still.file

    for reply in (
        still.put("/claude-api-key", [{**CA, member: value}]),
        still.patch("/claude-api-key", {"match": "ca", "value": {member: value}}),
    ):
        assert reply.status == 400
        assert member in str(reply.json)

    assert still.file == before
    assert _shown(still) == [CA, CB]


def test_a_refusal_does_not_repeat_what_was_sent(still: Managed) -> None:
    reply = still.put("/claude-api-key", [{**CA, "auth-style": "my-secret", "headers": {"x": "my-secret\n"}}])

    assert reply.status == 400
    assert "my-secret" not in str(reply.json)


def test_two_upstreams_must_not_share_a_name(compatible: Managed) -> None:
    other = {**OR, "base-url": "https://p.example"}
    refuses(
        compatible,
        "PUT",
        "/openai-compatibility",
        [OR, other],
        refused(400, "two different entries have the same `name`"),
    )
    before = compatible.file

    reply = compatible.put("/openai-compatibility", [OR, {**other, "name": "OR"}])

    assert reply.status == 400
    assert "$.openai-compatibility[1].name" in str(reply.json)
    assert compatible.file == before


def test_every_member_of_the_schema_can_be_sent_and_is_shown() -> None:
    """What the tests above send is all there is, but for the names of the other kinds."""
    properties = schema_of(GeminiKey)["properties"]
    assert isinstance(properties, dict)
    assert set(properties) == set(EVERYTHING)
    compatible = schema_of(OpenAICompatibility)["properties"]
    assert isinstance(compatible, dict)
    assert set(compatible) == set(EVERYTHING) - {"api-key"} | {"name", "api-keys", "api-key-entries"}


def test_put_leaves_comments_and_unknown_members_with_their_entry(managed: Managed) -> None:
    assert managed.put("/claude-api-key", [CB, {"api-key": "cc"}, CA]).told == OK

    assert _shown(managed) == [CB, {"api-key": "cc", "base-url": ""}, CA]
    assert (
        '  - api-key: "cb"\n'
        '  - api-key: "cc"\n'
        '  - api-key: "ca" # ca note\n'
        '    base-url: "https://a.example"\n'
        "    custom: 1\n"
    ) in managed.file


def test_an_entry_that_moves_to_another_address_is_still_itself(managed: Managed) -> None:
    assert managed.put("/claude-api-key", [{**CA, "base-url": "https://new.example"}, CB]).told == OK

    assert managed.file.count('  - api-key: "ca" # ca note\n    base-url: "https://new.example"\n    custom: 1\n') == 1


def test_put_takes_out_the_members_that_an_entry_no_longer_has(managed: Managed) -> None:
    managed.put("/claude-api-key", [{**CA, "prefix": "p", "weight": 3}, CB])

    assert managed.put("/claude-api-key", [CA, CB]).told == OK

    assert _shown(managed) == [CA, CB]
    assert "prefix" not in managed.file
    assert "weight" not in managed.file
    assert "custom: 1" in managed.file


MODELS = (
    START
    + """\
openai-compatibility:
  - name: or # the upstream
    base-url: "https://o.example/v1"
    models: # what it has
      - name: m1 # first
        fork: true
      # before m2
      - name: m2 # second
"""
)


def test_models_keep_their_comments_and_unknown_members(manage: Manage) -> None:
    managed = manage(MODELS)
    before = managed.file

    models = [{"name": "m2", "alias": "two"}, {"name": "m3", "alias": ""}]
    assert managed.patch("/openai-compatibility", {"index": 0, "value": {"models": models}}).told == OK

    assert managed.file == before.replace("      - name: m1 # first\n        fork: true\n", "").replace(
        "      - name: m2 # second\n", "      - name: m2 # second\n        alias: two\n      - name: m3\n"
    )
    assert managed.get("/openai-compatibility").json["openai-compatibility"][0]["models"] == models  # type: ignore[index]


# -- one changed ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        pytest.param(
            {"index": 1, "value": {"api-key": "cb2", "base-url": "https://b.example"}},
            [CA, {"api-key": "cb2", "base-url": "https://b.example"}],
            id="126",
        ),
        pytest.param(
            {"match": "ca", "value": {"api-key": "ca", "base-url": ""}},
            [{"api-key": "ca", "base-url": ""}, CB],
            id="127",
        ),
        pytest.param(
            {"match": "ca", "value": {"base-url": "https://n.example"}},
            [{"api-key": "ca", "base-url": "https://n.example"}, CB],
            id="128",
        ),
        pytest.param(
            {"index": 9, "match": "cb", "value": {"api-key": "q"}}, [CA, {"api-key": "q", "base-url": ""}], id="131"
        ),
        pytest.param({"index": 0, "value": {}}, [CA, CB], id="133"),
        pytest.param({"index": 0, "value": {"disabled": True}}, [{**CA, "disabled": True}, CB], id="panel"),
        pytest.param(
            {"index": 1, "match": "ca", "value": {"prefix": "p"}}, [CA, {**CB, "prefix": "p"}], id="index-wins"
        ),
        pytest.param({"match": " cb ", "value": {"base-url": None, "x": 1}}, [CA, CB], id="null-is-the-default"),
        pytest.param({"match": "ca", "value": {"base-url": None}}, [{**CA, "base-url": ""}, CB], id="null-clears"),
        pytest.param(
            {"index": None, "match": "cb", "value": {"weight": 0}}, [CA, {**CB, "weight": 0}], id="null-index"
        ),
    ],
)
def test_patch_changes_one(managed: Managed, body: object, shown: object) -> None:
    assert managed.patch("/claude-api-key", body).told == OK

    assert _shown(managed) == shown
    assert "custom: 1" in managed.file


def test_126_the_other_entries_stay_as_they_are(managed: Managed) -> None:
    before = managed.file

    managed.patch("/claude-api-key", {"index": 1, "value": {"api-key": "cb2", "base-url": "https://b.example"}})

    expected = before.replace('  - api-key: "cb"\n', '  - api-key: "cb2"\n    base-url: https://b.example\n')
    assert managed.file.replace('"https://b.example"', "https://b.example") == expected


def test_133_a_change_of_nothing_writes_nothing(managed: Managed) -> None:
    before = managed.file

    assert managed.patch("/claude-api-key", {"index": 0, "value": {}}).told == OK
    assert managed.patch("/claude-api-key", {"index": 0, "value": CA}).told == OK

    assert managed.file == before


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        pytest.param(raw, told, id=id_)
        for id_, raw, told in (
            ("129", b'{"match":"none","value":{"api-key":"q"}}', NOT_FOUND),
            ("130", b'{"index":9,"value":{"api-key":"q"}}', NOT_FOUND),
            ("130-negative", b'{"index":-1,"value":{"api-key":"q"}}', NOT_FOUND),
            ("130-neither", b'{"value":{"api-key":"q"}}', NOT_FOUND),
            ("130-nothing", b"{}", INVALID),
            ("132-no-value", b'{"index":0}', INVALID),
            ("132-null", b'{"index":0,"value":null}', INVALID),
            ("132-number", b'{"match":5,"value":{}}', INVALID),
            ("132-list", b'{"index":0,"value":[]}', INVALID),
            ("132-float", b'{"index":0.0,"value":{}}', INVALID),
            ("134", b'{"index":0,"value":{"api-key":""}}', INVALID),
            ("134-blank", b'{"index":0,"value":{"api-key":"  "}}', INVALID),
            ("134-null", b'{"index":0,"value":{"api-key":null}}', INVALID),
            ("134-before-the-search", b'{"index":9,"value":{"api-key":""}}', INVALID),
            ("135", b'{"match":"","value":{"api-key":"q"}}', NOT_FOUND),
            ("trailing", b'{"index":0,"value":{}}x', INVALID),
        )
    ],
)
def test_patch_refuses(still: Managed, raw: bytes, told: tuple[int, object]) -> None:
    refuses(still, "PATCH", "/claude-api-key", told=told, raw=raw)


def test_an_entry_cannot_be_made_the_double_of_another(managed: Managed, compatible: Managed) -> None:
    both = refused(409, "another entry has this `api-key` and `base-url`; change or remove that one")
    refuses(managed, "PATCH", "/claude-api-key", {"match": "cb", "value": CA}, both)

    compatible.put("/openai-compatibility", [OR, {"name": "two"}])
    one = refused(409, "another entry has this `name`; change or remove that one")
    refuses(compatible, "PATCH", "/openai-compatibility", {"name": "two", "value": {"name": "or"}}, one)


def test_of_entries_with_one_key_the_first_is_changed(manage: Manage) -> None:
    managed = manage(START + "codex-api-key: [{api-key: d, base-url: https://1.example}, {api-key: d}]\n")

    assert managed.patch("/codex-api-key", {"match": "d", "value": {"prefix": "p"}}).told == OK

    assert _shown(managed, "/codex-api-key") == [
        {"api-key": "d", "base-url": "https://1.example", "prefix": "p"},
        {"api-key": "d", "base-url": ""},
    ]


def test_146_an_upstream_is_found_by_its_name(compatible: Managed) -> None:
    entry = {"name": "or", "base-url": "https://p.example", "api-keys": [], "models": []}

    assert compatible.patch("/openai-compatibility", {"name": "or", "value": entry}).told == OK

    assert _shown(compatible, "/openai-compatibility") == [entry]


def test_147_an_upstream_can_be_renamed(compatible: Managed) -> None:
    assert compatible.patch("/openai-compatibility", {"index": 0, "value": {"name": "or2"}}).told == OK

    assert _shown(compatible, "/openai-compatibility") == [{**OR, "name": "or2"}]


def test_148_an_upstream_that_is_not_there_cannot_be_changed(compatible: Managed) -> None:
    refuses(compatible, "PATCH", "/openai-compatibility", {"name": "zz", "value": {"name": "q"}}, NOT_FOUND)
    refuses(compatible, "PATCH", "/openai-compatibility", {"name": "or"}, INVALID)
    refuses(compatible, "PATCH", "/openai-compatibility", {"match": "or", "value": {"name": "q"}}, NOT_FOUND)


# -- one removed ------------------------------------------------------------------------------------------------------


def test_136_comment_and_unknown_members_go_with_their_entry(managed: Managed) -> None:
    before = managed.file

    assert managed.delete("/claude-api-key?api-key=ca").told == OK

    gone = '  - api-key: "ca" # ca note\n    base-url: "https://a.example"\n    custom: 1\n'
    assert managed.file == before.replace(gone, "")
    assert _shown(managed) == [CB]


@pytest.mark.parametrize(
    "query",
    [
        pytest.param("?index=0", id="137"),
        "?api-key=ca&base-url=https%3A%2F%2Fa.example",
        "?api-key=%20ca%20",
        "?api-key=&index=0",
        "?api-key=ca&index=1",
    ],
)
def test_delete_removes_one(managed: Managed, query: str) -> None:
    assert managed.delete(f"/claude-api-key{query}").told == OK

    assert _shown(managed) == [CB]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        pytest.param("?api-key=none", NOT_FOUND, id="138"),
        pytest.param("?index=5", NOT_FOUND, id="139"),
        pytest.param("?index=-1", NOT_FOUND, id="139-negative"),
        pytest.param("", refused(400, "missing api-key or index"), id="140"),
        pytest.param("?api-key=", refused(400, "missing api-key or index"), id="140-empty"),
        pytest.param("?index=0x", refused(400, "missing api-key or index"), id="140-text"),
        pytest.param("?base-url=https://a.example", refused(400, "missing api-key or index"), id="140-address"),
        pytest.param("?api-key=none&index=0", NOT_FOUND, id="142"),
        pytest.param("?api-key=ca&base-url=https://other.example", NOT_FOUND, id="other-address"),
        pytest.param("?name=ca", refused(400, "missing api-key or index"), id="name"),
    ],
)
def test_delete_refuses(still: Managed, query: str, told: tuple[int, object]) -> None:
    refuses(still, "DELETE", f"/claude-api-key{query}", told=told)


def test_141_entries_with_one_key_are_told_apart_by_their_address(managed: Managed) -> None:
    one, two, bare = ({"api-key": "d", "base-url": url} for url in ("https://1.example", "https://2.example", ""))
    managed.put("/claude-api-key", [one, two, bare])

    told = refused(400, "multiple items match api-key; base-url is required")
    refuses(managed, "DELETE", "/claude-api-key?api-key=d", told=told)

    assert managed.delete("/claude-api-key?api-key=d&base-url=https://1.example").told == OK
    assert _shown(managed) == [two, bare]
    assert managed.delete("/claude-api-key?api-key=d&base-url=").told == OK
    assert _shown(managed) == [two]


def test_a_key_that_stands_twice_at_one_address_goes_altogether(manage: Manage) -> None:
    managed = manage(START + "codex-api-key: [{api-key: d}, {api-key: e}, {api-key: d, prefix: p}]\n")

    assert managed.delete("/codex-api-key?api-key=d").told == OK

    assert _shown(managed, "/codex-api-key") == [{"api-key": "e", "base-url": ""}]


def test_149_an_upstream_is_removed_by_its_name(compatible: Managed) -> None:
    refuses(compatible, "DELETE", "/openai-compatibility?name=zz", told=NOT_FOUND)
    refuses(compatible, "DELETE", "/openai-compatibility?index=7", told=NOT_FOUND)
    refuses(compatible, "DELETE", "/openai-compatibility", told=refused(400, "missing name or index"))

    assert compatible.delete("/openai-compatibility?name=or").told == OK

    assert _shown(compatible, "/openai-compatibility") == []


# -- Gemini keys: two lists of the file as one ------------------------------------------------------------------------

GEMINI = "/gemini-api-key"
MIXED = (
    START
    + """\
gemini-api-key:
  - api-key: obj # o
    base-url: "https://g.example"
    custom: 1
  - {api-key: bare}
generative-language-api-key:
  - plain # p
  - "other"
"""
)
OBJ = {"api-key": "obj", "base-url": "https://g.example"}


def _bare(*keys: str) -> list[dict[str, str]]:
    return [{"api-key": key, "base-url": ""} for key in keys]


def _in_file(managed: Managed) -> tuple[list[str], list[str]]:
    """The keys of the list of objects, and of the list of texts."""
    config = read(managed.file).config
    return (
        [entry.api_key.reveal() for entry in config.gemini_api_key],
        [key.reveal() for key in config.generative_language_api_key],
    )


def test_gemini_keys_of_both_lists_are_shown_as_objects(manage: Manage) -> None:
    assert _shown(manage(MIXED), GEMINI) == [OBJ, *_bare("bare", "plain", "other")]


def test_putting_the_shown_keys_back_writes_nothing(manage: Manage) -> None:
    managed = manage(MIXED)
    before = managed.file

    assert managed.put(GEMINI, _shown(managed, GEMINI)).told == OK

    assert managed.file == before


def test_put_leaves_each_key_in_its_list_and_adds_new_ones_to_the_objects(manage: Manage) -> None:
    managed = manage(MIXED)

    assert managed.put(GEMINI, [*_bare("other", "new", "plain"), OBJ]).told == OK

    assert _in_file(managed) == (["new", "obj"], ["other", "plain"])
    assert _shown(managed, GEMINI) == [*_bare("new"), OBJ, *_bare("other", "plain")]
    assert "custom: 1" in managed.file
    assert "# p" in managed.file


def test_a_text_that_gains_a_member_becomes_an_object(manage: Manage) -> None:
    managed = manage(MIXED)

    assert managed.patch(GEMINI, {"match": "plain", "value": {"prefix": "p"}}).told == OK

    assert _in_file(managed) == (["obj", "bare", "plain"], ["other"])
    assert _shown(managed, GEMINI) == [OBJ, *_bare("bare"), {**_bare("plain")[0], "prefix": "p"}, *_bare("other")]


def test_a_text_that_is_put_with_an_address_becomes_an_object(manage: Manage) -> None:
    managed = manage(MIXED)
    entry = {"api-key": "plain", "base-url": "https://p.example"}

    assert managed.put(GEMINI, [OBJ, entry, *_bare("bare", "other")]).told == OK

    assert _in_file(managed) == (["obj", "plain", "bare"], ["other"])
    assert _shown(managed, GEMINI) == [OBJ, entry, *_bare("bare", "other")]


def test_a_text_that_gains_nothing_stays_a_text(manage: Manage) -> None:
    managed = manage(MIXED)
    before = managed.file

    assert managed.patch(GEMINI, {"index": 3, "value": {"api-key": "new", "weight": 1}}).told == OK

    assert managed.file == before.replace('"other"', '"new"')


def test_an_object_that_loses_its_members_stays_an_object(manage: Manage) -> None:
    managed = manage(MIXED)

    assert managed.patch(GEMINI, {"index": 0, "value": {"base-url": ""}}).told == OK

    assert _in_file(managed) == (["obj", "bare"], ["plain", "other"])
    assert _shown(managed, GEMINI) == _bare("obj", "bare", "plain", "other")


@pytest.mark.parametrize(
    ("query", "objects", "texts"),
    [
        ("?api-key=plain", ["obj", "bare"], ["other"]),
        ("?index=3", ["obj", "bare"], ["plain"]),
        ("?index=1", ["obj"], ["plain", "other"]),
        ("?api-key=obj", ["bare"], ["plain", "other"]),
    ],
)
def test_gemini_keys_are_removed_from_either_list(
    manage: Manage, query: str, objects: list[str], texts: list[str]
) -> None:
    managed = manage(MIXED)

    assert managed.delete(GEMINI + query).told == OK

    assert _in_file(managed) == (objects, texts)


def test_a_key_that_stands_in_both_lists_is_put_once(manage: Manage) -> None:
    managed = manage(START + "gemini-api-key: [{api-key: d}]\ngenerative-language-api-key: [d, e]\n")
    assert _shown(managed, GEMINI) == _bare("d", "d", "e")

    assert managed.put(GEMINI, _shown(managed, GEMINI)).told == OK

    assert _in_file(managed) == (["d"], ["e"])


def test_a_key_whose_last_member_is_a_text_cannot_double_an_object(manage: Manage) -> None:
    managed = manage(START + "gemini-api-key: [{api-key: d}]\ngenerative-language-api-key: [e]\n")

    told = refused(409, "another entry has this `api-key` and `base-url`; change or remove that one")

    refuses(managed, "PATCH", GEMINI, {"match": "e", "value": {"api-key": "d"}}, told)


@pytest.mark.parametrize("text", [START, START + "gemini-api-key:\ngenerative-language-api-key:\n"])
def test_the_first_key_of_each_path_goes_to_its_own_list(manage: Manage, text: str) -> None:
    managed = manage(text)

    managed.put(GEMINI, _bare("one"))
    managed.patch("/generative-language-api-key", {"old": "", "new": "two"})

    assert _in_file(managed) == (["one"], ["two"])
    assert _shown(managed, GEMINI) == _bare("one", "two")


# -- round trip -------------------------------------------------------------------------------------------------------


def test_whatever_texts_look_like_they_are_read_back_as_themselves(managed: Managed) -> None:
    odd = ["123", "true", "null", "~", "a: b", "a #b", "'", '"', "\\", "!t", "*a", "{x}", "[y]", "1e3", "é", "😀", "<<"]
    entry = {
        "name": "null",
        "base-url": "https://o.example/#".removesuffix("#"),
        "headers": {"x-1": "true", "x-2": "a: b #c", "x-3": "'\"\\"},
        "prefix": "123",
        "models": [{"name": text, "alias": text[::-1]} for text in odd],
        "excluded-models": odd,
        "api-keys": [text for text in odd if text.isascii() and " " not in text],
    }

    assert managed.put("/openai-compatibility", [entry]).told == OK

    assert _shown(managed, "/openai-compatibility") == [entry]
    assert managed.get("/config").json["openai-compatibility"] == json.loads(json.dumps([entry]))  # type: ignore[index]
