"""YAML text as a small tree of values that know their place.

We compose nodes and stop there. A full load would lose what we need: the text of a key that happens to look like a
number, the line of every value, both copies of a duplicate key. Composing takes 0.15 s for 2,000 lines, half of
ruamel's round-trip load, and alias bombs cost nothing because anchors stay shared.

Source: https://yaml.org/spec/1.2.2/, merge keys https://yaml.org/type/merge.html, checked 2026-03-01.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Literal, Protocol

from msgspec import Struct
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError

from cliproxy.config.issues import ConfigError, Issue

Kind = Literal["null", "bool", "int", "float", "text", "unknown tag"]

_TAG_PREFIX = "tag:yaml.org,2002:"
_KINDS: dict[str, Kind] = {
    "null": "null",
    "bool": "bool",
    "int": "int",
    "float": "float",
    "str": "text",
    "timestamp": "text",
    "value": "text",
    "merge": "text",
}
# ruamel quotes what it found. Token names and single characters help; anything longer may be a key of the user.
_QUOTED = re.compile(r"""'[^']*'|"[^"]*\"""")
_HARMLESS = re.compile(r"""['"](<[a-z ]+>|\\?.{0,2})['"]""")
# Malformed escapes and directives end in plain Python errors inside ruamel 0.19.
_RUAMEL_ERRORS = (YAMLError, ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)
_BOM = "\ufeff"


class Place(Struct, frozen=True, gc=False):
    """Counted from 1."""

    line: int
    column: int


class Scalar(Struct, frozen=True):
    """`text` as written, without quotes; `is_plain` says it had none, and `kind` is what YAML then takes it for."""

    place: Place
    text: str
    kind: Kind
    is_plain: bool


class Items(Struct, frozen=True):
    place: Place
    items: tuple[Branch, ...]


class Pairs(Struct, frozen=True):
    """Keys are unique; merge keys (`<<`) have been resolved, what stands beside them wins."""

    place: Place
    pairs: tuple[tuple[Scalar, Branch], ...]


Branch = Scalar | Items | Pairs


# -- what we use of ruamel, which carries no types of its own ---------------------------------------------------------


class _Mark(Protocol):
    line: int
    column: int


class _ScalarNode(Protocol):
    id: Literal["scalar"]
    tag: str
    start_mark: _Mark
    value: str
    style: str | None


class _SequenceNode(Protocol):
    id: Literal["sequence"]
    start_mark: _Mark
    value: Sequence[_Node]


class _MappingNode(Protocol):
    id: Literal["mapping"]
    start_mark: _Mark
    value: Sequence[tuple[_Node, _Node]]


_Node = _ScalarNode | _SequenceNode | _MappingNode


class _MarkedError(Protocol):
    context: str | None
    problem: str | None
    context_mark: _Mark | None
    problem_mark: _Mark | None


class _CharacterError(Protocol):
    position: int


# ---------------------------------------------------------------------------------------------------------------------


def parse(text: str, source: str) -> Branch | None:
    """The document's root, or None when there is nothing in it. Raises ConfigError: syntax, duplicates, loops."""
    try:
        root = _compose(text.removeprefix(_BOM))
        return None if root is None else _Grower(source).grow_root(root)
    except MarkedYAMLError as error:
        raise ConfigError([_syntax_issue(error, source)]) from None
    except ReaderError as error:
        raise ConfigError([_character_issue(error, text, source)]) from None
    except RecursionError:
        raise ConfigError([Issue(source, "$", 1, 1, "nested too deeply; a configuration has a few levels")]) from None
    except _RUAMEL_ERRORS:
        raise ConfigError([Issue(source, "$", 1, 1, "not YAML; the text cannot be read")]) from None


def shown_key(key: str) -> str:
    """A key of the file for use in a path: itself when it reads like one, else only its first characters.

    People paste API keys in the place of names; a message must not repeat them.
    """
    if len(key) <= 4 or re.fullmatch(r"[A-Za-z][A-Za-z_-]{0,39}", key):
        return key
    return key[:4].strip() + "…"


def _compose(text: str) -> _Node | None:
    yaml = YAML(typ="safe", pure=True)
    yaml.composer.warn_double_anchors = False  # legal YAML, and the warning would print the file's lines
    return yaml.compose(text)  # pyright: ignore[reportUnknownMemberType]  (ruamel leaves the stream untyped)


class _Grower:
    """Turns ruamel's nodes into branches, each node once however often it is aliased."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._grown: dict[int, Branch] = {}
        self._growing: set[int] = set()
        self._issues: list[Issue] = []

    def grow_root(self, root: _Node) -> Branch:
        branch = self._grow(root, "$")
        if self._issues:
            raise ConfigError(self._issues)
        return branch

    def _grow(self, node: _Node, path: str) -> Branch:
        known = self._grown.get(id(node))
        if known is not None:
            return known
        if id(node) in self._growing:
            self._report(_place(node.start_mark), path, "an anchor must not contain itself")
            raise ConfigError(self._issues)
        self._growing.add(id(node))
        branch = self._grow_new(node, path)
        self._growing.discard(id(node))
        self._grown[id(node)] = branch
        return branch

    def _grow_new(self, node: _Node, path: str) -> Branch:
        if node.id == "mapping":
            return Pairs(_place(node.start_mark), tuple(self._merged(node, path)))
        if node.id == "sequence":
            items = tuple(self._grow(item, f"{path}[{index}]") for index, item in enumerate(node.value))
            return Items(_place(node.start_mark), items)
        return _scalar(node)

    def _merged(self, node: _MappingNode, path: str) -> list[tuple[Scalar, Branch]]:
        own: dict[str, tuple[Scalar, Branch]] = {}
        merged: dict[str, tuple[Scalar, Branch]] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node, path)
            if key is None:
                continue
            value_path = f"{path}.{shown_key(key.text)}"
            value = self._grow(value_node, value_path)
            if _is_merge(key):
                for pair in self._merge_pairs(value, value_path):
                    merged.setdefault(pair[0].text, pair)
            elif key.text in own:
                line = own[key.text][0].place.line
                self._report(key.place, value_path, f"duplicate key; line {line} has it already, remove one of them")
            else:
                own[key.text] = (key, value)
        return [*own.values(), *(pair for text, pair in merged.items() if text not in own)]

    def _key(self, node: _Node, path: str) -> Scalar | None:
        if node.id == "scalar":
            return _scalar(node)
        self._report(_place(node.start_mark), path, "a key must be a word, not a list or a mapping")
        return None

    def _merge_pairs(self, value: Branch, path: str) -> Iterator[tuple[Scalar, Branch]]:
        for source in value.items if isinstance(value, Items) else (value,):
            if isinstance(source, Pairs):
                yield from source.pairs
            else:
                self._report(value.place, path, "`<<` takes a mapping, or a list of mappings, to merge")

    def _report(self, place: Place, path: str, message: str) -> None:
        self._issues.append(Issue(self._source, path, place.line, place.column, message))


def _scalar(node: _ScalarNode) -> Scalar:
    kind = _KINDS.get(node.tag.removeprefix(_TAG_PREFIX), "unknown tag")
    return Scalar(_place(node.start_mark), node.value, kind, is_plain=node.style is None)


def _place(mark: _Mark) -> Place:
    return Place(mark.line + 1, mark.column + 1)


def _is_merge(key: Scalar) -> bool:
    return key.is_plain and key.text == "<<"


def _syntax_issue(error: _MarkedError, source: str) -> Issue:
    mark = error.problem_mark or error.context_mark
    place = Place(1, 1) if mark is None else _place(mark)
    return Issue(source, "$", place.line, place.column, f"not YAML: {_told(error)}")


def _told(error: _MarkedError) -> str:
    if error.problem and r"'\t'" in error.problem:
        return "a tab where only spaces may stand; indent with spaces"
    told = " ".join(part for part in (error.context, error.problem) if part)
    return _QUOTED.sub(lambda match: match[0] if _HARMLESS.fullmatch(match[0]) else "'…'", told)


def _character_issue(error: _CharacterError, text: str, source: str) -> Issue:
    before = text[: error.position]
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    return Issue(
        source, "$", line, column, "not YAML: a character that YAML does not allow; save the file as UTF-8 text"
    )
