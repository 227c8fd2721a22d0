"""The parser in C and the one in Python see the same nodes in the same places."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cliproxy.config import nodes
from cliproxy.config.document import read
from cliproxy.config.issues import ConfigError
from cliproxy.config.nodes import AliasNode, ListNode, Node, ScalarNode, compose
from cliproxy.config.tree import parse

EXAMPLES = int(os.environ.get("EDITING_EXAMPLES", "200"))
WORDS = st.sampled_from(
    ["key", "a", "😀", "é", "1", "-1", "0o17", "017", "0x1f", "yes", "True", "~", "null", ".inf", "1e3", "1:30", "2001-01-01",
     "'q'", '"d\\n"', "''", '""', "two words", "x:y", "a#b", "-x", "=", "*", "?x", "\u200b", "\xa0", "{a: 1, b: , c}", "[1, [2], 😀]",
     "[\n  x, # c\n  y\n ]", "!!str 1", "!t v", "&anchor v", "*anchor", "", "|\n    text\n\n    more", ">-\n    text\n"]
)  # fmt: skip
COMMENTS = st.sampled_from(["", "", " # c", "   # 😀\t: - x"])
BREAKS = st.sampled_from(["\n", "\r\n", "\n\n", "\n# c\n", "\r\n  \r\n"])
STARTS = st.sampled_from(["", "", "# 😀\n", "---\n", "%YAML 1.1\n---\n", "%YAML 1.2\n--- # c\n"])
PREFIXES = st.sampled_from(["- ", "k1: ", "'k 2': ", "k3 : ", "? ", "  - ", "  k: ", "- - ", "- k: "])


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Often valid: lines that mostly fit each other."""
    lines = draw(st.lists(st.tuples(PREFIXES, WORDS, COMMENTS, BREAKS), min_size=1, max_size=5))
    numbered = (
        (prefix.replace("k", f"k{index}"), word, comment, break_)
        for index, (prefix, word, comment, break_) in enumerate(lines)
    )
    return draw(STARTS) + "".join(part for line in numbered for part in line)


def seen(node: Node | None) -> object:
    """Everything about a node but the place of one that is not there, which is told better by the parser in C."""
    match node:
        case None:
            return None
        case AliasNode():
            return ("alias", node.start, node.end, node.place, node.target.start)
        case ScalarNode():
            place = None if node.start == node.end else (node.start, node.end, node.place)
            return (node.text, node.kind, node.style, node.anchor, place)
        case ListNode():
            return ("list", node.start, node.place, node.is_flow, node.anchor, [seen(item) for item in node.items])
        case _:
            pairs = [(seen(key), seen(value)) for key, value in node.pairs]
            return ("mapping", node.start, node.place, node.is_flow, node.anchor, pairs)


def composed(text: str, *, careful: bool) -> object:
    """The comment at the end has a character that only the parser in Python knows, or none."""
    comment = "# \u2028\n" if careful else "# x\n"
    try:
        return seen(compose(text + comment, "c").root)
    except ConfigError as error:
        return str(error)


@settings(max_examples=EXAMPLES, deadline=None)
@given(texts())
def test_both_parsers_see_the_same(text):
    careful = composed(text, careful=True)

    if not isinstance(careful, str):  # what only the one in C accepts, such as a tab behind a value, may pass
        assert composed(text, careful=False) == careful


@pytest.mark.parametrize("mark", ["", "\u2028"])
def test_places_count_characters(mark):
    text = f"# 😀{mark}\r\n😀: é # 😀\r\nb: [😀, &x  y]\r\n"

    root = compose(text, "c").root

    assert isinstance(root, nodes.MappingNode)
    (first, _), (_, second) = root.pairs
    assert isinstance(second, ListNode)
    assert text[first.start : first.end] == "😀"
    assert [text[item.start : item.end] for item in second.items] == ["😀", "&x  y"]
    assert [(item.place.line, item.place.column) for item in second.items] == [(3, 5), (3, 8)]


@pytest.mark.parametrize("mark", ["", "# \u2028\n"])
@pytest.mark.parametrize(
    ("text", "kind"),
    [("yes", "text"), ("0o17", "int"), ("1:30", "text"), ("True", "bool"), ("~", "null"), ("1e3", "float")],
)
def test_words_are_taken_as_in_yaml_1_2(mark, text, kind):
    root = parse(mark + text, "c")

    assert root is not None
    assert root.kind == kind


def test_a_value_that_is_not_there_is_reported_behind_its_colon():
    for tail in ("", "# \u2028\n"):
        with pytest.raises(ConfigError) as caught:
            read(f"claude-api-key:\n  - api-key:  # c\n    weight: 1\n{tail}")
        assert [(issue.line, issue.column) for issue in caught.value.issues] == [(2, 13)]


@pytest.mark.parametrize(
    "text", ["[" * 10_000, "{a: " * 10_000, "- " * 10_000, "".join(f"{' ' * n}a:\n" for n in range(1500)), "? " * 5000]
)
@pytest.mark.parametrize("mark", ["", "# \u2028\n"])
def test_deep_nesting_is_refused(text, mark):
    with pytest.raises(ConfigError, match="nested too deeply"):
        parse(mark + text, "c")


def test_characters_that_are_none_are_refused():
    for text in ("a: \ud800", "a: \x00", "a: \ufffe", "\ud800: &x\udfff *x"):
        with pytest.raises(ConfigError):
            parse(text, "c")
