"""Taking apart what anchors, aliases and merge keys share, before an edit that shall reach one place only.

`separated` gives the splices of one step, after which the document means what it meant. Repeated until there is none,
every node on the way to the edit belongs to nothing else, and nothing that is about to go is needed elsewhere.

An alias that has to stand on its own becomes a copy, written in brackets. When several aliases lose their anchor, the
first becomes the anchor of the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal

from msgspec import Struct

from cliproxy.config.layout import Splice, Unspliceable, sources
from cliproxy.config.nodes import AliasNode, Anchored, ListNode, MappingNode, Node
from cliproxy.config.page import Page
from cliproxy.config.rendering import is_misread, key_text, may_be_plain, scalar_text
from cliproxy.config.splicing import Path, mapping_splices
from cliproxy.config.tree import Branch, Items, Pairs, Scalar

_MAX_COPY = 100_000
_WORD = re.compile(r"[A-Za-z0-9_.:+~/-]*")


class Touch(Struct, frozen=True):
    """What an edit will do at a path: write a value there, remove what is there, or change something inside of it."""

    path: Path
    does: Literal["write", "remove", "enter"]


def separated(page: Page, touches: Iterable[Touch]) -> list[Splice]:
    """One step; none when nothing is shared. Raises Unspliceable."""
    if page.root is None or (not page.aliases and "<<" not in page.text):
        return []
    for touch in touches:
        splices = _separated_at(page, page.root, touch)
        if splices:
            return splices
    return []


def _separated_at(page: Page, node: Node, touch: Touch) -> list[Splice]:
    for position, step in enumerate(touch.path):
        if isinstance(node, AliasNode):
            return [Splice(node.start, node.end, _copy(page.branch(node)))]
        splices = _freed(page, node, [alias for alias in page.aliases if alias.target is node])
        if splices:
            return splices
        if isinstance(node, ListNode) and isinstance(step, int) and step < len(node.items):
            node = node.items[step]
        elif isinstance(node, MappingNode) and isinstance(step, str):
            own = sources(node.pairs)
            if step not in own:
                return _unmerged(page, node, step, touch, is_last=position == len(touch.path) - 1)
            node = node.pairs[own[step]][1]
        else:
            return []
    if touch.does != "enter":
        return _rescued(page, node)
    if isinstance(node, AliasNode):
        return [Splice(node.start, node.end, _copy(page.branch(node)))]
    return _freed(page, node, [alias for alias in page.aliases if alias.target is node])


def _unmerged(page: Page, node: MappingNode, name: str, touch: Touch, *, is_last: bool) -> list[Splice]:
    """A member that comes from `<<` becomes one of our own, where writing one beside it does not do."""
    branch = page.branch(node)
    merged = {key.text: value for key, value in branch.pairs} if isinstance(branch, Pairs) else {}
    if name not in merged or (is_last and touch.does == "write"):
        return []
    everything = range(len(node.pairs))
    if not is_last or touch.does == "enter":
        return mapping_splices(page, node, everything, [[_pair(name, merged[name])]])
    own = sources(node.pairs)
    kept = [index for index in everything if index in own.values()]
    added = [[_pair(key, value)] for key, value in merged.items() if key not in own]
    return mapping_splices(page, node, kept, added)


def _rescued(page: Page, node: Node) -> list[Splice]:
    """What is anchored in a node that goes away, and needed elsewhere."""
    if isinstance(node, AliasNode):
        return []
    heirs: dict[int, list[AliasNode]] = {}
    for alias in page.aliases:
        is_inside = node.start <= alias.start and alias.end <= node.end
        if not is_inside and node.start <= alias.target.start and alias.target.end <= node.end:
            heirs.setdefault(alias.target.start, []).append(alias)
    for aliases in heirs.values():
        return _freed(page, aliases[0].target, aliases)
    return []


def _freed(page: Page, target: Anchored, heirs: Sequence[AliasNode]) -> list[Splice]:
    """The aliases no longer depend on this node."""
    if not heirs:
        return []
    first, *others = heirs
    copy = _copy(page.branch(target))
    if not others:
        return [Splice(first.start, first.end, copy)]
    heir = Splice(first.start, first.end, f"&{target.anchor} {copy}")
    if len(heirs) < sum(alias.target is target for alias in page.aliases):
        return [heir]  # the old anchor is still needed, by what will go together with it
    name = re.escape(target.anchor or "")
    found = re.compile(rf"[ \t]*&{name}(?=[\r\n])|&{name}[ \t]*").search(page.text, max(target.start - 1, 0))
    if found is None:
        raise Unspliceable
    return [Splice(found.start(), found.end(), ""), heir]


def _pair(name: str, value: Branch) -> str:
    return f"{key_text(name)}: {_copy(value)}"


def _copy(branch: Branch) -> str:
    return "".join(_copied(branch, [_MAX_COPY]))


def _copied(branch: Branch, budget: list[int]) -> Iterable[str]:
    """Pieces of text; an alias bomb would be endless, so there is a budget."""
    match branch:
        case Scalar():
            text = _copied_scalar(branch)
            budget[0] -= len(text) + 2
            if budget[0] < 0:
                raise Unspliceable
            yield text
        case Items():
            yield "["
            for index, item in enumerate(branch.items):
                yield ", " if index else ""
                yield from _copied(item, budget)
            yield "]"
        case Pairs():
            yield "{"
            for index, (key, value) in enumerate(branch.pairs):
                yield ", " if index else ""
                yield f"{key_text(key.text)}: "
                yield from _copied(value, budget)
            yield "}"


def _copied_scalar(scalar: Scalar) -> str:
    """As it was written where that is possible: whatever a plain word means, it goes on meaning."""
    if scalar.kind == "unknown tag":
        raise Unspliceable
    if scalar.kind == "null":
        return "null"
    if not scalar.is_plain:
        return scalar_text(scalar.text, quote='"', is_flow=True)
    if may_be_plain(scalar.text, is_flow=True) or (is_misread(scalar.text) and _WORD.fullmatch(scalar.text)):
        return scalar.text
    return scalar_text(scalar.text, quote='"', is_flow=True)
