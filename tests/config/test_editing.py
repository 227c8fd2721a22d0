"""Edits of configuration texts, whole text before and after."""

from __future__ import annotations

import pytest
from ruamel.yaml import YAML

from cliproxy.config.document import read
from cliproxy.config.editing import Add, Draft, Keep
from cliproxy.config.issues import ConfigError

FILE = """\
# head comment
port: 8317

remote-management:
  allow-remote: false
  secret-key: "mk" # key note
auth-dir: "~/cpa-auth"
debug: false
proxy-url: ""
request-retry: 3
quota-exceeded:
  switch-project: true # qp
  switch-preview-model: true
unknown-section: {keep: [1, 2]}

api-keys: # client keys
  - "k1" # first
  # before k2
  - "k2" # second
  - k3
generative-language-api-key:
  - "gemini-key-0001"
claude-api-key:
  - api-key: "ca" # ca note
    base-url: "https://a.example"
    custom: 1
  - api-key: "cb"
codex-api-key:
openai-compatibility: []
# tail comment
"""


def put(text, path, value):
    draft = Draft(text)
    draft.set(path, value)
    return draft.text


def without(text, *path):
    draft = Draft(text)
    draft.remove(path)
    return draft.text


def arranged(text, path, *items):
    draft = Draft(text)
    draft.rearrange(path, items)
    return draft.text


def changed(old, new):
    """FILE with one piece replaced, which must be there once."""
    assert FILE.count(old) == 1
    return FILE.replace(old, new)


# -- the file that everybody has --------------------------------------------------------------------------------------

WRITES = [
    (("port",), 1, "port: 8317", "port: 1"),
    (("debug",), True, "debug: false", "debug: true"),
    (("proxy-url",), "socks5://u:p@h:1", 'proxy-url: ""', 'proxy-url: "socks5://u:p@h:1"'),
    (("request-retry",), 0, "request-retry: 3", "request-retry: 0"),
    (("quota-exceeded", "switch-project"), False, "switch-project: true # qp", "switch-project: false # qp"),
    (("remote-management", "secret-key"), "$2b$10$a/b.", '"mk" # key note', '"$2b$10$a/b." # key note'),
    (("api-keys", 2), "k9", "- k3", "- k9"),
    (("api-keys", 2), "yes", "- k3", '- "yes"'),
    (("unknown-section", "keep", 1), 3, "[1, 2]", "[1, 3]"),
    (("claude-api-key", 1, "api-key"), 'a"b', '"cb"', '"a\\"b"'),
    (("codex-api-key",), 5, "codex-api-key:", "codex-api-key: 5"),
    (("openai-compatibility",), "x", "openai-compatibility: []", "openai-compatibility: x"),
]


@pytest.mark.parametrize(("path", "value", "old", "new"), WRITES)
def test_writing_one_value_changes_one_line(path, value, old, new):
    assert put(FILE, path, value) == changed(old, new)


def test_a_new_key_is_one_line_at_the_end():
    assert put(FILE, ("allow-localhost-unauthenticated",), True) == FILE + "allow-localhost-unauthenticated: true\n"


def test_a_new_member_goes_to_the_end_of_its_mapping():
    assert put(FILE, ("quota-exceeded", "x"), 1) == changed("model: true\n", "model: true\n  x: 1\n")
    assert put(FILE, ("unknown-section", "x"), "z") == changed("[1, 2]}", "[1, 2], x: z}")


def test_missing_parents_are_made():
    assert put(FILE, ("a", "b"), 1) == FILE + "a:\n  b: 1\n"
    assert put("a: {}\n", ("a", "b", "c"), 1) == "a:\n  b:\n    c: 1\n"
    assert put("a: # note\n", ("a", "b"), 1) == "a: # note\n  b: 1\n"
    assert put("a: ~ # note\n", ("a", "b"), 1) == "a: # note\n  b: 1\n"


def test_a_changed_key_keeps_the_comments_of_all():
    assert arranged(FILE, ("api-keys",), Keep(0), Keep(1, value="k2b"), Keep(2)) == changed('"k2" #', '"k2b" #')


def test_a_key_that_replaces_another_leaves_it_out():
    old = '  - "k1" # first\n  # before k2\n  - "k2" # second\n'

    assert arranged(FILE, ("api-keys",), Keep(0, value="k2"), Keep(2)) == changed(old, '  - "k2" # first\n')


def test_a_removed_key_takes_its_comment():
    assert arranged(FILE, ("api-keys",), Keep(1), Keep(2)) == changed('  - "k1" # first\n', "")
    assert arranged(FILE, ("api-keys",), Keep(0), Keep(2)) == changed('  # before k2\n  - "k2" # second\n', "")


def test_comments_move_with_their_elements():
    assert arranged(FILE, ("api-keys",), Keep(2), Keep(1), Keep(0)) == changed(
        '  - "k1" # first\n  # before k2\n  - "k2" # second\n  - k3\n',
        '  - k3\n  # before k2\n  - "k2" # second\n  - "k1" # first\n',
    )


def test_an_emptied_list_is_valid_below_a_commented_key():
    elements = FILE[FILE.index('  - "k1"') : FILE.index("generative")]
    after = arranged(FILE, ("api-keys",))

    assert after == changed("api-keys: # client keys\n" + elements, "api-keys: [] # client keys\n")
    assert read(after).config.api_keys == ()


def test_a_removed_object_takes_what_nobody_knows_about_it():
    gone = '  - api-key: "ca" # ca note\n    base-url: "https://a.example"\n    custom: 1\n'

    assert arranged(FILE, ("claude-api-key",), Keep(1)) == changed(gone, "")


def test_a_changed_object_leaves_its_neighbour_alone():
    members = {"api-key": "cb2", "base-url": "https://b.example"}

    assert arranged(FILE, ("claude-api-key",), Keep(0), Keep(1, members=members)) == changed(
        '  - api-key: "cb"\n', '  - api-key: "cb2"\n    base-url: "https://b.example"\n'
    )


def test_a_member_that_opens_its_object_can_be_removed():
    assert arranged(FILE, ("claude-api-key",), Keep(0, members={"api-key": None}), Keep(1)) == changed(
        '  - api-key: "ca" # ca note\n    base-url', "  - base-url"
    )


def test_objects_go_into_lists_that_are_empty_or_not_there():
    lines = "  - api-key: x\n    models:\n      - name: m\n"
    value = Add({"api-key": "x", "models": [{"name": "m"}]})

    assert arranged(FILE, ("codex-api-key",), value) == changed("codex-api-key:\n", "codex-api-key:\n" + lines)
    assert arranged(FILE, ("openai-compatibility",), value) == changed(
        "openai-compatibility: []\n", "openai-compatibility:\n" + lines
    )
    assert arranged("port: 1\n", ("new",), value) == "port: 1\nnew:\n" + lines


def test_new_elements_look_like_their_neighbours():
    assert arranged("a:\n    -   'x'\n", ("a",), Keep(0), Add("y")) == "a:\n    -   'x'\n    -   'y'\n"
    assert arranged("a:\n- x\n", ("a",), Keep(0), Add("z")) == "a:\n- x\n- z\n"
    assert arranged("a:\n- x\n\n- y\n", ("a",), Keep(0), Keep(1), Add("z")) == "a:\n- x\n\n- y\n\n- z\n"
    assert arranged("a: [x]\n", ("a",), Keep(0), Add({"b": "z"})) == "a: [x, {b: z}]\n"


NOTHING_TO_DO = [
    lambda draft: draft.rearrange(("api-keys",), [Keep(0), Keep(1), Keep(2)]),
    lambda draft: draft.rearrange(("api-keys",), [Keep(0), Keep(1, value="k2"), Keep(2)]),
    lambda draft: draft.rearrange(("claude-api-key",), [Keep(0, members={"api-key": "ca", "new": None}), Keep(1)]),
    lambda draft: draft.rearrange(("codex-api-key",), []),
    lambda draft: draft.rearrange(("openai-compatibility",), []),
    lambda draft: draft.rearrange(("not-there",), []),
    lambda draft: draft.remove(("not-there",)),
    lambda draft: draft.remove(("not", "there")),
    lambda draft: draft.remove(("port", "x")),
    lambda draft: draft.remove(("api-keys", 9)),
    lambda draft: draft.set(("debug",), False),
    lambda draft: draft.set(("proxy-url",), ""),
    lambda draft: draft.set(("codex-api-key",), None),
    lambda draft: draft.set(("unknown-section",), {"keep": [1, 2]}),
]


@pytest.mark.parametrize("edit", NOTHING_TO_DO)
def test_an_edit_that_changes_nothing_changes_no_byte(edit):
    draft = Draft(FILE)

    edit(draft)

    assert draft.text == FILE


def test_a_value_said_in_other_words_stays():
    assert put("debug: yes\n", ("debug",), True) == "debug: yes\n"
    assert put("port: 0x10\n", ("port",), 16) == "port: 0x10\n"


# -- the places of values ---------------------------------------------------------------------------------------------

SETS = [
    ("a: 'x'   # c\n", ("a",), "y", "a: 'y'   # c\n"),
    ("a: 'x'\n", ("a",), "it's", "a: 'it''s'\n"),
    ("a: 'x'\n", ("a",), "two\nlines", 'a: "two\\nlines"\n'),
    ('a: "1"\n', ("a",), 1, "a: 1\n"),
    ("a:   # c\n", ("a",), "x", "a: x   # c\n"),
    ("a: | # c\n  x\n  y\nb: 1\n", ("a",), "z", "a: z # c\nb: 1\n"),
    ("a: >-\n  x\n\n  y\n\nb: 1\n", ("a",), "z", "a: z\n\nb: 1\n"),
    ("a: one\n  two # c\nb: 1\n", ("a",), "z", "a: z # c\nb: 1\n"),
    ("a: 'one\n\n  two'\nb: 1\n", ("a",), "z", "a: 'z'\nb: 1\n"),
    ("a: {b: 1, # c\n  d: 2}\n", ("a",), "z", "a: z\n"),
    ("a: # c\n  b: 1 # d\n  # e\nf: 1\n", ("a",), "z", "a: z # c\n  # e\nf: 1\n"),
    ("a:\n- b\n- c\nf: 1\n", ("a",), True, "a: true\nf: 1\n"),
    ("a: 1 # c\n", ("a",), {"b": [1, {"c": 2}]}, "a: # c\n  b:\n    - 1\n    - c: 2\n"),
    ("a: [1, 2] # c\n", ("a",), ["x"], "a: [x] # c\n"),
    ("a:\n    b: 1\nf: 1\n", ("a",), {"c": 1}, "a:\n    c: 1\nf: 1\n"),
    ("- a # c\n- b\n", (0,), {"x": 1, "z": 2}, "- x: 1\n  z: 2 # c\n- b\n"),
    ("- a: 1\n  b: 2\n- b\n", (0,), "z", "- z\n- b\n"),
    ("-\n- b\n", (0,), "z", "- z\n- b\n"),
    ("a: {b: , c}\n", ("a", "b"), 1, "a: {b: 1 , c}\n"),
    ("a: {b, c}\n", ("a", "b"), 1, "a: {b: 1, c}\n"),
    ("a: {b: x}\n", ("a", "b"), "y, z", 'a: {b: "y, z"}\n'),
    ("a: {b: x}\n", ("a", "b"), {"c": ["d"]}, "a: {b: {c: [d]}}\n"),
    ("a: { b: 1 }\n", ("a", "c"), 2, "a: { b: 1, c: 2 }\n"),
    ("a: {\n  b: 1, # c\n}\n", ("a", "d"), 2, "a: {\n  b: 1, # c\n  d: 2,\n}\n"),
    ("a: {\n  b: 1 # c\n}\n", ("a", "d"), 2, "a: {\n  b: 1, # c\n  d: 2\n}\n"),
    ("a : x\n'b'  :   y\n", ("b",), "z", "a : x\n'b'  :   z\n"),
    ("a: !!str 12\n", ("a",), 5, "a: 5\n"),
    ("? a\n: b\n", ("a",), "c", "? a\n: c\n"),
    ("- - a\n  - b\n- c\n", (0, 1), "z", "- - a\n  - z\n- c\n"),
    ("a:\n  b: 1\n\n\n# c\nd: 1\n", ("a", "e"), 2, "a:\n  b: 1\n  e: 2\n\n\n# c\nd: 1\n"),
    ("a:\n  b: 1\n  # e: 2\nd: 1\n", ("a", "e"), 2, "a:\n  b: 1\n  e: 2\n  # e: 2\nd: 1\n"),
    ("a: 1\n\n# vim: ft=yaml\n", ("b",), 2, "a: 1\nb: 2\n\n# vim: ft=yaml\n"),
    ("a: |+\n  x\n\n", ("b",), 2, "a: |+\n  x\n\nb: 2\n"),
    ("a: |\n  x", ("b",), 2, "a: |-\n  x\nb: 2"),
    ("---\na: 1\n...\n", ("b",), 2, "---\na: 1\nb: 2\n...\n"),
    ("{a: 1}\n", ("b",), 2, "{a: 1, b: 2}\n"),
    ("a: 1", ("b",), 2, "a: 1\nb: 2"),
    ("a: 1\r\n\r\n# c\r\n", ("a",), 2, "a: 2\r\n\r\n# c\r\n"),
    ("a: 1\r\n", ("b", "c"), 2, "a: 1\r\nb:\r\n  c: 2\r\n"),
    ("\ufeffa: 1\n", ("a",), 2, "\ufeffa: 2\n"),
    ("é😀: 1 # 😀\tx\nb: 'é😀'  # 😀\n", ("b",), "y", "é😀: 1 # 😀\tx\nb: 'y'  # 😀\n"),
    ("a:\t1\nb: 1\n", ("b",), 2, "a:\t1\nb: 2\n"),
    ("", ("a", "b"), 1, "a:\n  b: 1\n"),
    ("# c", ("a",), 1, "# c\na: 1"),
    ("# c\n\n", ("a",), 1, "# c\n\na: 1\n"),
    ("{}\n", ("a",), 1, "a: 1\n"),
    ("{} # c\n", ("a",), 1, "a: 1 # c\n"),
    ("null\n", ("a",), 1, "a: 1\n"),
    ("---\n# c\n...\n", ("a",), 1, "---\n# c\na: 1\n...\n"),
    ("--- {}\n", ("a",), 1, "--- {a: 1}\n"),
]


@pytest.mark.parametrize(("before", "path", "value", "after"), SETS)
def test_a_value_is_written_into_its_place(before, path, value, after):
    assert put(before, path, value) == after
    assert put(after, path, value) == after


REMOVALS = [
    ("a: 1\n# about b\n# more\nb: 2 # c\nd: 3\n", ("b",), "a: 1\nd: 3\n"),
    ("a: 1\n# section\n\nb: 2\nd: 3\n", ("b",), "a: 1\n# section\n\nd: 3\n"),
    ("a: 1\n\nb: 2\n\nd: 3\n", ("b",), "a: 1\n\nd: 3\n"),
    ("a: 1\n\nb: 2\n", ("b",), "a: 1\n"),
    ("a:\n  b: 1\n  # c: 2\nd: 3\n", ("a",), "d: 3\n"),
    ("a: # note\n  b: 1\nd: 3\n", ("a", "b"), "a: {} # note\nd: 3\n"),
    ("a: # note\n  - b\nd: 3\n", ("a", 0), "a: [] # note\nd: 3\n"),
    ("a: &x # note\n  b: 1\n", ("a", "b"), "a: &x {} # note\n"),
    ("a: 1\n", ("a",), "{}\n"),
    ("- a: 1\n  # about b\n  b: 2\n", (0, "a"), "- # about b\n  b: 2\n"),
    ("- a: 1 # c\n- b\n", (0, "a"), "- {}\n- b\n"),
    ("- - a\n  - b\n", (0, 0), "- - b\n"),
    ("a: {b: 1, c: 2, d: 3}\n", ("a", "b"), "a: {c: 2, d: 3}\n"),
    ("a: {b: 1, c: 2, d: 3}\n", ("a", "d"), "a: {b: 1, c: 2}\n"),
    ("a: { b: 1 }\n", ("a", "b"), "a: {}\n"),
    ("a: 1\nb: |+\n  x\n\nc: 1\n", ("c",), "a: 1\nb: |+\n  x\n\n"),
    ("a: 1\r\nb: 2\r\nc: 3", ("c",), "a: 1\r\nb: 2"),
]


@pytest.mark.parametrize(("before", "path", "after"), REMOVALS)
def test_what_is_removed_leaves_a_valid_text(before, path, after):
    assert without(before, *path) == after


ARRANGEMENTS = [
    ("a: [x, y, z] # c\n", [Keep(2), Keep(0)], "a: [z, x] # c\n"),
    ("a: [x, y]\n", [], "a: []\n"),
    ("a: [x, y]\n", [Add("new"), Keep(1)], "a: [new, y]\n"),
    ("a: []\n", [Add("new")], "a:\n  - new\n"),
    ("a:\n  # about x\n  - x\n  - y\n", [Keep(1)], "a:\n  - y\n"),
    ("a:\n  # all\n\n  # about x\n  - x\n  - y\n", [Keep(1)], "a:\n  # all\n\n  - y\n"),
    ("a:\n  # all\n\n  - x\n", [], "a: []\n  # all\n\n"),
    ("a:\n  - x\n    # more of x\n  - y\n", [Keep(1), Keep(0)], "a:\n  - y\n  - x\n    # more of x\n"),
    ("a:\n  - x\n\n  - y\n\n  - z\n", [Keep(0), Keep(2)], "a:\n  - x\n\n  - z\n"),
    ("a:\n  - x\n\n  # others\n\n  - y\n", [Keep(0)], "a:\n  - x\n\n  # others\n\n"),
    ("a:\n- x # 1\n- y\nb: 1\n", [Keep(1), Add("yes")], 'a:\n- y\n- "yes"\nb: 1\n'),
    (
        "a: [\n  x, # 1\n  # about y\n  y, # 2\n  z # 3\n]\n",
        [Keep(2), Keep(1), Add("new")],
        "a: [\n  z, # 3\n  # about y\n  y, # 2\n  new\n]\n",
    ),
    ("a: [\n  x, # 1\n  y # 2\n]\n", [Keep(0)], "a: [\n  x # 1\n]\n"),
    ("a: [ # c\n  x\n]\n", [], "a: [ # c\n]\n"),
    ("a:\n  - {k: 1, b: x}\n  - {k: 2}\n", [Keep(1), Keep(0, members={"b": None, "c": 3})], "a:\n  - {k: 2}\n  - {k: 1, c: 3}\n"),
    ("a:\n  - k: 1\n    l:\n      - m\n  - n", [Keep(1), Keep(0)], "a:\n  - n\n  - k: 1\n    l:\n      - m"),
    ("a:\n  -\n    # about k\n    k: 1\n  - n\n", [Keep(0, members={"k": None, "l": 2})], "a:\n  -\n    l: 2\n"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "items", "after"), ARRANGEMENTS)
def test_a_list_is_put_together_again(before, items, after):
    assert arranged(before, ("a",), *items) == after


# -- what is shared ---------------------------------------------------------------------------------------------------

SHARED = [
    ("a: &x 1\nb: *x\n", ("a",), 2, "a: &x 2\nb: 1\n"),
    ("a: &x 1\nb: *x\nc: *x\n", ("a",), 2, "a: 2\nb: &x 1\nc: *x\n"),
    ("a: &x 1\nb: *x # c\n", ("b",), 2, "a: &x 1\nb: 2 # c\n"),
    ("a: &x 1 # c\n", ("a",), "z", "a: &x z # c\n"),
    ("a: &x\n  k: 1\nb: *x\n", ("a", "k"), 2, "a: &x\n  k: 2\nb: {k: 1}\n"),
    ("a: &x\n  k: 1\nb: *x\n", ("b", "k"), 2, "a: &x\n  k: 1\nb: {k: 2}\n"),
    ("a: &x\n  k: 1\nb:\n  <<: *x\n  l: 2\n", ("b", "k"), 2, "a: &x\n  k: 1\nb:\n  <<: *x\n  l: 2\n  k: 2\n"),
    ("a: &x\n  k: {m: 1}\nb:\n  <<: *x\n", ("b", "k", "m"), 2, "a: &x\n  k: {m: 1}\nb:\n  <<: *x\n  k: {m: 2}\n"),
    ("a: &x\n  k: 1\nb:\n  <<: *x\n", ("a", "k"), 2, "a: &x\n  k: 2\nb:\n  <<: {k: 1}\n"),
]


@pytest.mark.parametrize(("before", "path", "value", "after"), SHARED)
def test_a_value_that_is_shared_changes_in_one_place(before, path, value, after):
    assert put(before, path, value) == after


def test_an_anchor_that_goes_leaves_its_value_behind():
    assert without("a: &x [1, 'p']\nb: *x\nc: *x\n", "a") == 'b: &x [1, "p"]\nc: *x\n'


def test_a_merged_member_can_be_removed():
    assert (
        without("a: &x {k: 1, l: yes}\nb:\n  <<: *x\n  m: 1\n", "b", "k")
        == "a: &x {k: 1, l: yes}\nb:\n  m: 1\n  l: yes\n"
    )


def test_a_shared_list_is_rearranged_where_it_was_asked_for():
    assert arranged("a: &x\n  - 1\nb: *x\n", ("b",), Keep(0), Add(2)) == "a: &x\n  - 1\nb: [1, 2]\n"
    assert arranged("a: [&x p, q, *x]\n", ("a",), Keep(2), Keep(0), Keep(1)) == "a: [p, &x p, q]\n"


def test_an_alias_bomb_can_be_edited():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    bomb = "\n".join([*lines, "port: 1\n"])

    assert put(bomb, ("port",), 2) == bomb.replace("port: 1", "port: 2")
    with pytest.raises(ConfigError):
        put(bomb, ("a29", 0, 0), 2)


# -- quoting ----------------------------------------------------------------------------------------------------------

MISREAD = [
    "yes", "No", "ON", "off", "y", "n", "null", "~", "true", "1.0", "1", "0x1f", "0o17", "017", "1e3", "1E+3", ".5", "1_000", ".inf",
    ".NaN", "12:30:45", "2001-01-01", "2001-01-01T10:00:00Z", "- x", "-", "---", "...", "a: b", "a:", "a #b", "#x", " x", "x ", "",
    "!x", "&x", "*x", "%x", "@x", "`x", "{", "[", "}", "a\tb", "\x07", "a\x85b", "a\u2028b", "\ufeff", "😀", "two\nlines", "<<", "=",
    "'q'", '"q"', "? x", "a\\b: \"c\"", "\x00", "\x7f", "+1", "-.inf", "0b1", "1,000", "|", ">",
]  # fmt: skip


@pytest.mark.parametrize("text", MISREAD)
@pytest.mark.parametrize("before", ["a: k\n", "a: {b: k}\n", "- k\n"])
def test_a_text_that_could_be_misread_is_quoted(text, before):
    path = {"a: k\n": ("a",), "a: {b: k}\n": ("a", "b"), "- k\n": (0,)}[before]
    after = put(before, path, text)

    start, end = before.split("k")
    assert after.startswith(start + '"')
    assert after.endswith('"' + end)
    assert after.count("\n") == 1
    for version in ((1, 1), (1, 2)):
        yaml = YAML(typ="safe", pure=True)
        yaml.version = version
        value = yaml.load(after)
        for step in path:
            value = value[step]
        assert value == text


@pytest.mark.parametrize(
    "text", ["k", "~/x", "127.0.0.1", "$2b$10$a/b.c", "sk-1_2", "https://h/x?a=b#c", "a b", "10s", "é"]
)
def test_a_text_that_nobody_misreads_stays_plain(text):
    assert put("a: k\n", ("a",), text) == f"a: {text}\n"


def test_a_long_text_stays_on_its_line():
    assert put("a: k\n", ("a",), "word " * 2000 + "end") == f"a: {'word ' * 2000}end\n"


def test_numbers_are_written_for_every_parser():
    assert put("a: 1\n", ("a",), 1e22) == "a: 1.0e+22\n"
    assert put("a: 1\n", ("a",), float("inf")) == "a: .inf\n"


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["a: [", "a: 1\na: 2\n", "a: &x [*x]", "a:\n\t- 1", "[" * 10_000, "- " * 10_000])
def test_a_text_that_is_no_yaml_cannot_be_edited(text):
    with pytest.raises(ConfigError):
        Draft(text)


@pytest.mark.parametrize(
    ("path", "value"), [(("port", "x"), 1), (("api-keys", 3), "x"), (("api-keys", "x"), 1), (("port", 0), 1)]
)
def test_an_edit_that_has_no_place_changes_nothing(path, value):
    draft = Draft(FILE)

    with pytest.raises(ConfigError):
        draft.set(path, value)

    assert draft.text == FILE


def test_a_document_cannot_be_removed():
    with pytest.raises(ConfigError):
        without(FILE)


def test_an_element_is_kept_once_and_must_be_there():
    for items in ([Keep(0), Keep(0)], [Keep(3)]):
        with pytest.raises(ConfigError):
            arranged(FILE, ("api-keys",), *items)


def test_a_shape_that_cannot_be_spliced_is_written_as_a_whole():
    assert put("a: [b: 1]\n", ("a", 0, "b"), 2) == "a: [b: 2]\n"


def test_edits_follow_upon_each_other():
    draft = Draft(FILE)

    draft.rearrange(("api-keys",), [])
    draft.rearrange(("api-keys",), [Add("new")])
    draft.set(("debug",), True)
    draft.remove(("quota-exceeded", "switch-project"))

    assert read(draft.text).config.debug is True
    assert "api-keys: # client keys\n  - new\n" in draft.text
    assert "quota-exceeded:\n  switch-preview-model: true\n" in draft.text
