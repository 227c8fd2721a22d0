"""YAML text as nodes that know their exact characters: the ground for reading and for editing.

libyaml, in C, does the parsing, since it is twenty times faster than ruamel's own parser in Python. It gives events, and
we build the nodes from them: composing in the library would lose where an alias stands, and it recurses, which deep
nesting could turn into a crash. libyaml knows YAML 1.1 only, so whatever it refuses, and the few characters on which
the versions differ, goes to the Python parser. That one knows YAML 1.2, and its messages are the ones users see.

Source: https://yaml.org/spec/1.2.2/, checked 2026-03-01.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, Protocol

from msgspec import Struct
from ruamel.yaml import YAML
from ruamel.yaml.cyaml import CParser  # pyright: ignore[reportUnknownVariableType]  (a module in C)
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.resolver import implicit_resolvers

from cliproxy.config.issues import ConfigError, Issue

Kind = Literal["null", "bool", "int", "float", "text", "unknown tag"]

MAX_DEPTH = 100
"""Levels of nesting; a configuration has a handful, and everything that walks over nodes recurses."""

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
# What the two parsers see differently: line breaks of YAML 1.1 that are text in 1.2, a mark of byte order within the
# text, names of anchors with more than letters, digits, `-` and `_`, and the tag `!`.
_DISPUTED = re.compile(
    "[\x85\u2028\u2029\ufeff]|(?:(?<=[\\s,[{])|^)(?:[&*][A-Za-z0-9_-]*[^A-Za-z0-9_\\-\\s,\\[\\]{}]|!(?=[\\s,\\]}]|$))"
)
_BLOCK_STYLES = ("|", ">")
# ruamel quotes what it found. Token names and single characters help; anything longer may be a key of the user.
_QUOTED = re.compile(r"""'[^']*'|"[^"]*\"""")
_HARMLESS = re.compile(r"""['"](<[a-z ]+>|\\?.{0,2})['"]""")
# Malformed escapes and directives end in plain Python errors inside ruamel 0.19.
_RUAMEL_ERRORS = (YAMLError, ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)


class Place(Struct, frozen=True, gc=False):
    """Counted from 1."""

    line: int
    column: int


class ScalarNode(Struct):
    """`[start:end]` in the text, its anchor and tag included; `text` is what it means, `style` the mark it begins with:
    a quote, `|` or `>`, and nothing when it is plain."""

    start: int
    end: int
    place: Place
    text: str
    kind: Kind
    style: str
    anchor: str | None


class ListNode(Struct):
    """`end` is behind the bracket, or behind the last value in block style, comments left out."""

    start: int
    end: int
    place: Place
    items: list[Node]
    is_flow: bool
    anchor: str | None


class MappingNode(Struct):
    """Pairs as they stand there, `<<` and duplicates included."""

    start: int
    end: int
    place: Place
    pairs: list[tuple[Node, Node]]
    is_flow: bool
    anchor: str | None


class AliasNode(Struct):
    start: int
    end: int
    place: Place
    target: Anchored


Anchored = ScalarNode | ListNode | MappingNode
Node = Anchored | AliasNode


class Composed(Struct):
    """A document; `root` is None when there is none. `aliases` are in the order of the text."""

    root: Node | None
    aliases: list[AliasNode]


# -- what we use of ruamel, which carries no types of its own ---------------------------------------------------------


class _Mark(Protocol):
    index: int
    line: int
    column: int


class _Event(Protocol):
    """All kinds of events in one; each has the fields that its name suggests."""

    anchor: str | None
    tag: str | None
    implicit: tuple[bool, bool]
    value: str
    style: str | None
    flow_style: bool
    version: tuple[int, int] | None
    start_mark: _Mark
    end_mark: _Mark


class _Parser(Protocol):
    def get_event(self) -> _Event | None: ...


_PARSER: Callable[[str], _Parser] = CParser  # pyright: ignore[reportUnknownVariableType]  (likewise)


class _Pattern(Protocol):
    def match(self, string: str, /) -> object | None: ...


class _MarkedError(Protocol):
    context: str | None
    problem: str | None
    context_mark: _Mark | None
    problem_mark: _Mark | None


class _CharacterError(Protocol):
    position: int


# ---------------------------------------------------------------------------------------------------------------------


def compose(text: str, source: str) -> Composed:
    """The nodes of the one document in a text without a mark of byte order. Raises ConfigError: syntax, depth."""
    if not _DISPUTED.search(text):
        try:
            return _Composer(text, source).compose(_quick_events(text))
        except _RUAMEL_ERRORS:
            pass  # so the other one has to say what is wrong, or to know better
    try:
        return _Composer(text, source).compose(_careful_events(text))
    except MarkedYAMLError as error:
        raise ConfigError([_syntax_issue(error, source)]) from None
    except ReaderError as error:
        raise ConfigError([_character_issue(error, text, source)]) from None
    except RecursionError:
        raise ConfigError([_too_deep(source)]) from None
    except _RUAMEL_ERRORS:
        raise ConfigError([Issue(source, "$", 1, 1, "not YAML; the text cannot be read")]) from None


def _quick_events(text: str) -> Iterator[_Event]:
    parser = _PARSER(text)
    while (event := parser.get_event()) is not None:
        yield event


def _careful_events(text: str) -> Iterator[_Event]:
    return YAML(typ="safe", pure=True).parse(text)  # pyright: ignore[reportUnknownMemberType]  (untyped stream)


class _Composer:
    """Builds nodes with a stack of its own instead of recursion."""

    def __init__(self, text: str, source: str) -> None:
        self._text = text
        self._source = source
        self._version = (1, 2)
        self._anchors: dict[str, Anchored] = {}
        self._aliases: list[AliasNode] = []
        self._open: list[ListNode | MappingNode] = []
        self._keys: list[Node | None] = []
        self._root: Node | None = None

    def compose(self, events: Iterator[_Event]) -> Composed:
        documents = 0
        for event in events:
            match type(event).__name__:
                case "ScalarEvent":
                    self._put(self._scalar(event))
                case "MappingStartEvent" | "SequenceStartEvent" as name:
                    self._begin(event, is_mapping=name == "MappingStartEvent")
                case "MappingEndEvent" | "SequenceEndEvent":
                    self._finish(event)
                case "AliasEvent":
                    self._put(self._alias(event))
                case "DocumentStartEvent":
                    documents += 1
                    if documents > 1:
                        raise self._refusal(
                            event, "expected a single document in the stream but found another document"
                        )
                    self._version = event.version or (1, 2)
                case _:
                    pass
        return Composed(self._root, self._aliases)

    def _scalar(self, event: _Event) -> ScalarNode:
        start, end, tag, text = event.start_mark, event.end_mark, event.tag, event.value
        style = event.style or ""
        if tag is None or tag == "!":
            kind = _kind(text, self._version) if event.implicit[0] else "text"
        else:
            kind = _KINDS.get(tag.removeprefix(_TAG_PREFIX), "unknown tag")
        node = ScalarNode(
            start.index, end.index, Place(start.line + 1, start.column + 1), text, kind, style, event.anchor
        )
        if not text and start.index == end.index:
            self._settle_empty(node)
        elif style in _BLOCK_STYLES:
            self._settle_block(node)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _settle_empty(self, node: ScalarNode) -> None:
        """What is not there stands behind its colon. The Python parser puts it before the next word, lines below."""
        key = self._keys[-1] if self._keys else None
        if key is None:
            return
        colon = skipped(self._text, key.end)
        if self._text.startswith(":", colon):
            before = self._text[: colon + 1]
            node.start = node.end = colon + 1
            node.place = Place(before.count("\n") + 1, len(before) - before.rfind("\n"))

    def _settle_block(self, node: ScalarNode) -> None:
        """Blank lines behind a block are none of its own, unless its header has a `+`."""
        header_end = self._text.find("\n", node.start, node.end) + 1
        if header_end and "+" not in self._text[node.start : header_end]:
            words = self._text[header_end : node.end].rstrip()
            last = self._text.find("\n", header_end + len(words), node.end)
            node.end = header_end if not words else node.end if last < 0 else last + 1

    def _begin(self, event: _Event, *, is_mapping: bool) -> None:
        if len(self._open) == MAX_DEPTH:
            raise ConfigError([_too_deep(self._source)])
        start = event.start_mark
        place = Place(start.line + 1, start.column + 1)
        is_flow = bool(event.flow_style)
        node: ListNode | MappingNode
        if is_mapping:
            node = MappingNode(start.index, start.index, place, [], is_flow, event.anchor)
        else:
            node = ListNode(start.index, start.index, place, [], is_flow, event.anchor)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        self._open.append(node)
        self._keys.append(None)

    def _finish(self, event: _Event) -> None:
        node = self._open.pop()
        self._keys.pop()
        node.end = event.end_mark.index
        if not node.is_flow or self._text[node.end - 1 : node.end] not in ("]", "}"):
            # The end of a block is only noticed at the next word; and `[a: 1]` has a mapping without braces in it.
            last = node.items[-1:] if isinstance(node, ListNode) else node.pairs[-1][1:]
            node.end = last[0].end if last else node.start
        self._put(node)

    def _alias(self, event: _Event) -> AliasNode:
        target = self._anchors.get(event.anchor or "")
        if target is None:
            raise self._refusal(event, "found an alias (`*…`) for which no anchor (`&…`) stands before it")
        start = event.start_mark
        node = AliasNode(start.index, event.end_mark.index, Place(start.line + 1, start.column + 1), target)
        self._aliases.append(node)
        return node

    def _put(self, node: Node) -> None:
        if not self._open:
            self._root = node
            return
        parent = self._open[-1]
        if isinstance(parent, ListNode):
            parent.items.append(node)
            return
        key = self._keys[-1]
        if key is None:
            self._keys[-1] = node
        else:
            parent.pairs.append((key, node))
            self._keys[-1] = None

    def _refusal(self, event: _Event, message: str) -> ConfigError:
        mark = event.start_mark
        return ConfigError([Issue(self._source, "$", mark.line + 1, mark.column + 1, f"not YAML: {message}")])


_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")


def skipped(text: str, position: int) -> int:
    """Where the next word begins, behind white space and comments."""
    match = _BLANK.match(text, position)
    return match.end() if match else position


def _kind(text: str, version: tuple[int, int]) -> Kind:
    """What a plain scalar is taken for."""
    for kind, pattern in _PLAIN[version].get(text[:1], ()):
        if pattern.match(text):
            return kind
    return "text"


def _plain_kinds(version: tuple[int, int]) -> dict[str, list[tuple[Kind, _Pattern]]]:
    """By the first character, as ruamel has it."""
    rules: Sequence[tuple[list[tuple[int, int]], str, _Pattern, list[str]]] = implicit_resolvers  # pyright: ignore[reportAssignmentType]  (compiled when first used)
    found: dict[str, list[tuple[Kind, _Pattern]]] = {}
    for versions, tag, pattern, characters in rules:
        kind = _KINDS.get(tag.removeprefix(_TAG_PREFIX))
        if version in versions and kind is not None:
            for character in characters:
                found.setdefault(character, []).append((kind, pattern))
    return found


_PLAIN = {version: _plain_kinds(version) for version in ((1, 1), (1, 2))}


def _too_deep(source: str) -> Issue:
    return Issue(source, "$", 1, 1, "nested too deeply; a configuration has a few levels")


def _syntax_issue(error: _MarkedError, source: str) -> Issue:
    mark = error.problem_mark or error.context_mark
    line, column = (1, 1) if mark is None else (mark.line + 1, mark.column + 1)
    return Issue(source, "$", line, column, f"not YAML: {_told(error)}")


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
