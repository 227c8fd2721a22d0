"""Cases 86 to 117: lists of texts."""

from collections.abc import Callable, Iterator

import pytest
from managed import OK, Managed, refused
from unchanging import INVALID, NOT_FOUND, refuses

from cliproxy.config.document import read

Manage = Callable[..., Managed]

START = "port: 0\nauth-dir: AUTH_DIR\nremote-management: {secret-key: mk}\n"
MISSING = refused(400, "missing index or value")
GEMINI = "/generative-language-api-key"


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Managed]:
    """One gateway for the tests that change nothing."""
    managed = Managed(tmp_path_factory.mktemp("lists"))
    yield managed
    managed.stop()


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Managed]:
    """One gateway for keys that look like something else."""
    managed = Managed(tmp_path_factory.mktemp("odd"))
    yield managed
    managed.stop()


def _keys(managed: Managed, path: str = "/api-keys") -> object:
    """What is shown; the file is read as the same."""
    shown = managed.get(path).json
    assert isinstance(shown, dict)
    config = read(managed.file).config
    keys = config.api_keys if path == "/api-keys" else [entry.api_key for entry in config.gemini_keys]
    assert shown == {path[1:]: [key.reveal() for key in keys]}
    return shown[path[1:]]


# -- shown and replaced -----------------------------------------------------------------------------------------------


def test_086_the_keys_are_shown_in_their_order(still: Managed) -> None:
    assert still.get("/api-keys").told == (200, {"api-keys": ["k1", "k2", "k3"]})


@pytest.mark.parametrize("text", [START, START + "api-keys:\n", START + "api-keys: []\n"])
def test_a_list_that_is_not_there_is_empty_and_never_null(manage: Manage, text: str) -> None:
    assert manage(text).get("/api-keys").told == (200, {"api-keys": []})


@pytest.mark.parametrize(
    ("body", "keys"),
    [
        pytest.param(["a", "b"], ["a", "b"], id="087"),
        pytest.param({"items": ["a", "b"]}, ["a", "b"], id="088"),
        pytest.param([], [], id="089"),
        pytest.param({"items": []}, [], id="090"),
        pytest.param(["a", "a", "", " c "], ["a", "c"], id="094"),
        pytest.param({"items": ["a"], "value": 1}, ["a"], id="other-members"),
        pytest.param(["k3", "k1", "new"], ["k3", "k1", "new"], id="reordered"),
    ],
)
def test_put_replaces_the_list(managed: Managed, body: object, keys: list[str]) -> None:
    assert managed.put("/api-keys", body).told == OK

    assert _keys(managed) == keys


def test_089_an_emptied_list_under_a_commented_line_is_still_yaml(managed: Managed) -> None:
    assert managed.put("/api-keys", []).told == OK
    assert managed.put("/api-keys", ["again"]).told == OK

    assert _keys(managed) == ["again"]
    assert "# client keys\n" in managed.file


def test_put_leaves_each_comment_with_its_element(managed: Managed) -> None:
    managed.put("/api-keys", ["k3", "k2"])

    lines = managed.file.splitlines()
    assert '  - "k2" # second' in lines
    assert lines.index("  # before k2") + 1 == lines.index('  - "k2" # second')
    assert "# first" not in managed.file


def test_putting_what_is_there_writes_nothing(managed: Managed) -> None:
    before = managed.file

    assert managed.put("/api-keys", ["k1", "k2", "k3"]).told == OK

    assert managed.file == before


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(raw, id=id_)
        for id_, raw in (
            ("091", b"null"),
            ("092-object", b"{}"),
            ("092-text", b'"a"'),
            ("092-number", b"[1]"),
            ("092-nested", b'[["a"]]'),
            ("092-mixed", b'{"items":["x",1]}'),
            ("092-value", b'{"value":["q"]}'),
            ("092-empty", b""),
            ("093", b"[null]"),
            ("items-null", b'{"items":null}'),
            ("trailing", b'["a"]x'),
            ("no-utf-8", b'["\xff"]'),
            ("half-a-character", b'["\\ud800"]'),
        )
    ],
)
@pytest.mark.parametrize("path", ["/api-keys", GEMINI])
def test_put_takes_a_list_of_texts_and_nothing_else(still: Managed, path: str, raw: bytes) -> None:
    refuses(still, "PUT", path, raw=raw)


@pytest.mark.parametrize(
    "key",
    ["123", "0x10", "1e3", "true", "no", "null", "~", "2026-01-01", "-", "- a", "a: b", "a #b", "#a", "'", '"', "\\",
     "!t", "*a", "&a", "{", "}", "[a]", "a,b", "?", "? a", "%", "@", "`", "|", ">", "=", "<<", ":", "é", "名", "😀",
     "a" * 3000]
)  # fmt: skip
def test_whatever_a_key_looks_like_it_is_read_back_as_itself(odd: Managed, key: str) -> None:
    assert odd.put("/api-keys", ["k1", "k2"]).told == OK

    assert odd.patch("/api-keys", {"old": "", "new": key}).told == OK
    assert odd.patch("/api-keys", {"index": 0, "value": f"{key}2"}).told == OK

    assert _keys(odd) == [f"{key}2", "k2", key]
    odd.put("/api-keys", [key])
    assert _keys(odd) == [key]


@pytest.mark.parametrize("key", ["a\nb", "a\x00b", "a\x7fb", "a\u2028b", "a\x85b"])
def test_a_key_that_no_configuration_can_hold_is_refused(still: Managed, key: str) -> None:
    before = still.file

    reply = still.patch("/api-keys", {"old": "", "new": key})

    assert reply.status == 400
    assert "$.api-keys[3]" in str(reply.json)
    assert still.file == before
    assert still.get("/api-keys").json == {"api-keys": ["k1", "k2", "k3"]}


# -- one changed ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "keys"),
    [
        pytest.param({"old": "k2", "new": "k2b"}, ["k1", "k2b", "k3"], id="095"),
        pytest.param({"index": 0, "value": "k1b"}, ["k1b", "k2", "k3"], id="096"),
        pytest.param({"old": "zz", "new": "k4"}, ["k1", "k2", "k3", "k4"], id="097"),
        pytest.param({"index": 9, "value": "x", "old": "k3", "new": "k3b"}, ["k1", "k2", "k3b"], id="099"),
        pytest.param({"index": 0, "value": "x", "old": "k3", "new": "y"}, ["x", "k2", "k3"], id="100"),
        pytest.param({"index": 0, "value": "k2"}, ["k2", "k3"], id="104"),
        pytest.param({"old": "k3", "new": "k1"}, ["k1", "k2"], id="104-later-one-changed"),
        pytest.param({"old": "", "new": "k4"}, ["k1", "k2", "k3", "k4"], id="empty-old"),
        pytest.param({"old": "zz", "new": "k2"}, ["k1", "k2", "k3"], id="added-twice"),
        pytest.param({"old": " k2 ", "new": " n "}, ["k1", "n", "k3"], id="spaces"),
        pytest.param({"index": 1, "old": "k3", "new": "n"}, ["k1", "k2", "n"], id="index-without-value"),
        pytest.param({"index": None, "value": None, "old": "k3", "new": "n"}, ["k1", "k2", "n"], id="null-is-absent"),
        pytest.param({"index": 10**30, "value": "x", "old": "k3", "new": "n"}, ["k1", "k2", "n"], id="huge"),
    ],
)
def test_patch_changes_one(managed: Managed, body: object, keys: list[str]) -> None:
    assert managed.patch("/api-keys", body).told == OK

    assert _keys(managed) == keys


def test_095_the_comments_stay_at_their_elements(managed: Managed) -> None:
    before = managed.file

    managed.patch("/api-keys", {"old": "k2", "new": "k2b"})

    assert managed.file == before.replace('  - "k2" # second\n', '  - "k2b" # second\n')


def test_of_equal_elements_the_first_is_changed(manage: Manage) -> None:
    managed = manage(START + "api-keys: [k1, k2, k3, k2]\n")

    assert managed.patch("/api-keys", {"old": "k2", "new": "x"}).told == OK

    assert _keys(managed) == ["k1", "x", "k3", "k2"]


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        pytest.param(raw, told, id=id_)
        for id_, raw, told in (
            ("098", b'{"index":9,"value":"x"}', NOT_FOUND),
            ("098-negative", b'{"index":-1,"value":"x"}', NOT_FOUND),
            ("098-huge", b'{"index":99999999999999999999999,"value":"x"}', NOT_FOUND),
            ("101-index", b'{"index":0}', refused(400, "missing fields")),
            ("101-old", b'{"old":"k1"}', refused(400, "missing fields")),
            ("101-value", b'{"value":"x"}', refused(400, "missing fields")),
            ("101-nothing", b"{}", refused(400, "missing fields")),
            ("102-text", b'{"index":"0","value":"x"}', INVALID),
            ("102-float", b'{"index":1.0,"value":"x"}', INVALID),
            ("102-list", b"[]", INVALID),
            ("102-boolean", b'{"index":true,"value":"x"}', INVALID),
            ("102-number", b'{"index":0,"value":5}', INVALID),
            ("102-empty", b"", INVALID),
            ("102-trailing", b'{"index":0,"value":"x"} 1', INVALID),
            ("103", b'{"index":0,"value":" "}', INVALID),
            ("103-empty", b'{"index":0,"value":""}', INVALID),
            ("103-new", b'{"old":"k1","new":" "}', INVALID),
        )
    ],
)
@pytest.mark.parametrize("path", ["/api-keys", GEMINI])
def test_patch_refuses(still: Managed, path: str, raw: bytes, told: tuple[int, object]) -> None:
    refuses(still, "PATCH", path, told=told, raw=raw)


# -- one removed ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "keys"),
    [
        pytest.param("?value=k1", ["k2", "k3"], id="105"),
        pytest.param("?index=0", ["k2", "k3"], id="106"),
        pytest.param("?index=9&value=k3", ["k1", "k2"], id="111"),
        pytest.param("?index=0&value=k3", ["k2", "k3"], id="112"),
        pytest.param("?index=0&value=zz", ["k2", "k3"], id="112-value-unknown"),
        pytest.param("?index=abc&value=k2", ["k1", "k3"], id="no-index"),
        pytest.param("?value=%20k2%20", ["k1", "k3"], id="spaces"),
        pytest.param("?value=&index=2", ["k1", "k2"], id="empty-value"),
    ],
)
def test_delete_removes_one(managed: Managed, query: str, keys: list[str]) -> None:
    assert managed.delete(f"/api-keys{query}").told == OK

    assert _keys(managed) == keys


def test_105_a_comment_goes_with_its_element_and_no_other(managed: Managed) -> None:
    before = managed.file

    managed.delete("/api-keys?value=k1")

    assert managed.file == before.replace('  - "k1" # first\n', "")


def test_113_the_value_is_percent_decoded(managed: Managed) -> None:
    managed.put("/api-keys", ["a&b", "c"])

    assert managed.delete("/api-keys?value=a%26b").told == OK

    assert _keys(managed) == ["c"]


def test_every_equal_element_is_removed(manage: Manage) -> None:
    managed = manage(START + "api-keys: [k1, k2, k3, k2]\n")

    assert managed.delete("/api-keys?value=k2").told == OK

    assert _keys(managed) == ["k1", "k3"]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        pytest.param("?value=zz", NOT_FOUND, id="107"),
        pytest.param("?index=9", NOT_FOUND, id="108"),
        pytest.param("?index=-1", NOT_FOUND, id="108-negative"),
        pytest.param("?index=" + "9" * 5000, NOT_FOUND, id="108-huge"),
        pytest.param("", MISSING, id="109"),
        pytest.param("?value=", MISSING, id="109-empty"),
        pytest.param("?index=abc", MISSING, id="109-text"),
        pytest.param("?index=0x", MISSING, id="110"),
        pytest.param("?index=%D9%A1", MISSING, id="110-other-digits"),
        pytest.param("?index=1.0", MISSING, id="110-float"),
        pytest.param("?index=0%0A", MISSING, id="110-line"),
        pytest.param("?index=9&value=zz", NOT_FOUND, id="neither"),
    ],
)
@pytest.mark.parametrize("path", ["/api-keys", GEMINI])
def test_delete_refuses(still: Managed, path: str, query: str, told: tuple[int, object]) -> None:
    refuses(still, "DELETE", path + query, told=told)


# -- in force ---------------------------------------------------------------------------------------------------------


def test_new_keys_open_the_door_with_the_next_request(managed: Managed) -> None:
    for key in ("n1", "n2"):
        managed.put("/api-keys", [key])

        assert managed.get("/v1/models", headers={"Authorization": f"Bearer {key}"}).status == 200
        assert managed.get("/v1/models", headers={"Authorization": "Bearer k1"}).status == 401


# -- Gemini keys as texts ---------------------------------------------------------------------------------------------

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


def test_114_gemini_keys_are_shown(still: Managed) -> None:
    assert still.get(GEMINI).told == (200, {"generative-language-api-key": ["gemini-key-0001"]})


def test_115_a_key_of_two_characters_harms_nobody(manage: Manage) -> None:
    managed = manage()

    assert managed.put(GEMINI, ["g1"]).told == OK

    assert _keys(managed, GEMINI) == ["g1"]
    assert managed.get("/v1/models", headers={"Authorization": "Bearer k1"}).status == 200
    again = manage(managed.file)
    assert _keys(again, GEMINI) == ["g1"]


def test_116_a_gemini_key_can_be_changed(managed: Managed) -> None:
    before = managed.file

    assert managed.patch(GEMINI, {"old": "gemini-key-0001", "new": "gemini-key-0002"}).told == OK

    assert _keys(managed, GEMINI) == ["gemini-key-0002"]
    assert managed.file == before.replace("gemini-key-0001", "gemini-key-0002")


def test_117_a_gemini_key_can_be_removed(managed: Managed) -> None:
    assert managed.delete(f"{GEMINI}?value=gemini-key-0001").told == OK

    assert managed.get(GEMINI).json == {"generative-language-api-key": []}
    assert _keys(managed, GEMINI) == []


def test_a_gemini_key_that_no_header_can_carry_is_refused(still: Managed) -> None:
    before = still.file

    reply = still.put(GEMINI, ["ключ"])

    assert reply.status == 400
    assert "$.generative-language-api-key[0]" in str(reply.json)
    assert still.file == before


def test_gemini_keys_of_both_lists_are_shown_objects_first(manage: Manage) -> None:
    assert _keys(manage(MIXED), GEMINI) == ["obj", "bare", "plain", "other"]


@pytest.mark.parametrize(
    ("index", "old", "new"),
    [(0, "api-key: obj # o", "api-key: new # o"), (2, "  - plain # p", "  - new # p"), (3, '"other"', '"new"')],
)
def test_a_position_counts_through_both_lists(manage: Manage, index: int, old: str, new: str) -> None:
    managed = manage(MIXED)
    before = managed.file

    assert managed.patch(GEMINI, {"index": index, "value": "new"}).told == OK

    assert managed.file == before.replace(old, new)
    assert managed.delete(f"{GEMINI}?index={index}").told == OK
    assert "new" not in str(_keys(managed, GEMINI))


def test_new_texts_go_to_the_list_of_texts_and_old_entries_stay_where_they_are(manage: Manage) -> None:
    managed = manage(MIXED)

    assert managed.put(GEMINI, ["new", "plain", "obj"]).told == OK

    assert _keys(managed, GEMINI) == ["obj", "new", "plain"]
    config = read(managed.file).config
    assert [key.reveal() for key in config.generative_language_api_key] == ["new", "plain"]
    assert [entry.base_url for entry in config.gemini_api_key] == ["https://g.example"]
    assert "custom: 1" in managed.file
    assert "# p" in managed.file


def test_putting_the_shown_texts_back_writes_nothing(manage: Manage) -> None:
    managed = manage(MIXED)
    before = managed.file

    assert managed.put(GEMINI, _keys(managed, GEMINI)).told == OK

    assert managed.file == before


def test_a_text_stands_for_every_entry_with_that_key(manage: Manage) -> None:
    managed = manage(
        START
        + "gemini-api-key: [{api-key: d, base-url: https://1.example}, {api-key: d, base-url: https://2.example}]\n"
        "generative-language-api-key: [d, d, e]\n"
    )
    assert _keys(managed, GEMINI) == ["d", "d", "d", "d", "e"]

    assert managed.put(GEMINI, ["d"]).told == OK
    assert _keys(managed, GEMINI) == ["d", "d", "d"]

    assert managed.delete(f"{GEMINI}?value=d").told == OK
    assert _keys(managed, GEMINI) == []
