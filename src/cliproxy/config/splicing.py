"""Edits as splices: which characters to replace, and by what.

Each function looks at the nodes of a page and gives splices for its text; nothing is changed here. A shape that has no
obvious splice ends in `Unspliceable`, and the caller goes another way. What is shared through aliases has been taken
apart before (see `sharing`), so that one place in the text is one place in the tree.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeGuard

from msgspec import Struct

from cliproxy.config.layout import (
    Entry,
    Piece,
    Splice,
    Unspliceable,
    begins_its_line,
    block_entries,
    column_of,
    content_start,
    is_bare,
    kept_order,
    last_value,
    line_end,
    line_start,
    orphans,
    properties_end,
    rebuilt_block,
    rebuilt_flow,
    sources,
)
from cliproxy.config.nodes import AliasNode, ListNode, MappingNode, Node, ScalarNode, skipped
from cliproxy.config.page import Page
from cliproxy.config.rendering import (
    Plain,
    block_lines,
    flow_text,
    is_block,
    item_lines,
    key_text,
    pair_lines,
    scalar_text,
)

Path = tuple[str | int, ...]
"""Keys and list positions from the root: `("claude-api-key", 1, "base-url")`."""

_HEADER = re.compile(r"[|>][-+0-9]*")
_END_MARKER = re.compile(r"^\.\.\.(?=\s|$)", re.MULTILINE)
_AT_ROOT = -2


class Keep(Struct, frozen=True):
    """An element of the old list, with its comments. `members` are set in it, a None removes one; `value` replaces a
    plain element."""

    index: int
    members: Mapping[str, Plain] = {}
    value: str | None = None


class Add(Struct, frozen=True):
    """A new element."""

    value: Plain


Piecewise = Sequence[Keep | Add]
"""A list as it shall be, told by what it is made of."""


class _Spot(Struct, frozen=True):
    """A place for a value. `column` is where the entry that holds it begins, `behind` the end of its dash, colon or (in
    brackets, when there is no colon) key."""

    node: Node | None
    column: int
    behind: int
    is_flow: bool
    is_element: bool = False


# -- the three edits --------------------------------------------------------------------------------------------------


def set_splices(page: Page, path: Path, value: Plain) -> list[Splice]:
    spot = _root(page)
    for position, step in enumerate(path):
        if isinstance(step, str) and not _has(spot.node, step):
            missing = value
            for name in reversed(path[position + 1 :]):
                missing = {str(name): missing}
            return _member_splices(page, spot, {step: missing}, ())
        spot = _below(page, spot, step)
    return _value_splices(page, spot, value)


def remove_splices(page: Page, path: Path) -> list[Splice]:
    if not path:
        raise Unspliceable
    *above, step = path
    spot = _find(page, tuple(above))
    if isinstance(step, str):
        return _member_splices(page, spot, {}, (step,))
    if not isinstance(spot.node, ListNode):
        raise Unspliceable
    return _reordered(page, spot, spot.node, kept_order(len(spot.node.items), (step,)), [])


def rearrange_splices(page: Page, path: Path, items: Sequence[Keep | Add]) -> list[Splice]:
    if not _exists(page, path):
        return set_splices(page, path, _added(items))
    spot = _find(page, path)
    node = spot.node
    if not isinstance(node, ListNode) or not node.items:
        return _value_splices(page, spot, _added(items))
    changes = [splice for item in items if isinstance(item, Keep) for splice in _kept_splices(page, spot, item)]
    quote = _quote_within(node.items[-1])
    pieces: list[Piece] = []
    for item in items:
        if isinstance(item, Keep):
            pieces.append(item.index)
        elif node.is_flow:
            pieces.append(flow_text(item.value, quote=quote))
        else:
            lines = item_lines(item.value, quote=quote, gap=_dash_gap(page, spot, node))
            pieces.append(page.indented(lines, column_of(page.text, content_start(page.text, node))))
    return _reordered(page, spot, node, pieces, changes)


def mapping_splices(page: Page, node: MappingNode, kept: Sequence[int], added: Sequence[list[str]]) -> list[Splice]:
    """The mapping with some of its pairs, and with new ones in lines of their own or, in brackets, on one line."""
    return _restructured(page, node, kept, added, [])


def closing_splices(page: Page) -> list[Splice]:
    """For a text that ends within a block (`|`) that lacks its last line break: the same meaning with one behind it."""
    node = last_value(page.root)
    if not isinstance(node, ScalarNode) or node.end < len(page.text) or page.text.endswith("\n"):
        return []
    header = _HEADER.match(page.text, content_start(page.text, node))
    if header is None:
        return []
    stripping = header[0].rstrip("+-") + "-"
    return [Splice(header.start(), header.end(), stripping), Splice(node.end, node.end, page.break_)]


# -- places -----------------------------------------------------------------------------------------------------------


def _root(page: Page) -> _Spot:
    return _Spot(page.root, _AT_ROOT, 0, is_flow=False)


def _find(page: Page, path: Path) -> _Spot:
    spot = _root(page)
    for step in path:
        spot = _below(page, spot, step)
    return spot


def _exists(page: Page, path: Path) -> bool:
    node = page.root
    for step in path:
        if isinstance(node, MappingNode) and isinstance(step, str) and _has(node, step):
            node = node.pairs[sources(node.pairs)[step]][1]
        elif isinstance(node, ListNode) and isinstance(step, int) and step < len(node.items):
            node = node.items[step]
        else:
            return False
    return True


def _has(node: Node | None, name: str) -> bool:
    return isinstance(node, MappingNode) and name in sources(node.pairs)


def _below(page: Page, spot: _Spot, step: str | int) -> _Spot:
    node, text = spot.node, page.text
    if isinstance(node, ListNode) and isinstance(step, int):
        return _element(page, spot, node, step)
    if not isinstance(node, MappingNode) or not isinstance(step, str) or is_bare(node, text):
        raise Unspliceable
    key, value = node.pairs[sources(node.pairs)[step]]
    colon = skipped(text, key.end)
    behind = colon + 1 if text.startswith(":", colon) else key.end
    column = spot.column if node.is_flow else column_of(text, content_start(text, node))
    return _Spot(value, column, behind, spot.is_flow or node.is_flow)


def _element(page: Page, spot: _Spot, node: ListNode, index: int) -> _Spot:
    text, item = page.text, node.items[index]
    if node.is_flow:
        return _Spot(item, spot.column, item.start, is_flow=True, is_element=True)
    dash = skipped(text, node.items[index - 1].end) if index else content_start(text, node)
    if text[dash : dash + 1] != "-":
        raise Unspliceable
    return _Spot(item, column_of(text, dash), dash + 1, is_flow=False, is_element=True)


# -- values -----------------------------------------------------------------------------------------------------------


def _value_splices(page: Page, spot: _Spot, value: Plain) -> list[Splice]:
    """Another value in this place."""
    node = spot.node
    if node is None:
        return _first_lines(page, value)
    if spot.column == _AT_ROOT and not _has_entries(node):
        return _root_splices(page, node, value)
    quote = _quote_of(node)
    if spot.is_flow or not is_block(value):
        return _inline_splices(page, spot, node, _inline_text(value, quote, is_flow=spot.is_flow))
    if _has_entries(node) and not _is_block_collection(node):
        return _inline_splices(page, spot, node, flow_text(value))
    lines = block_lines(value, quote=quote)
    if spot.is_element:
        return _element_splices(page, spot, node, lines)
    return _lines_splices(page, spot, node, lines)


def _inline_text(value: Plain, quote: str, *, is_flow: bool) -> str:
    if isinstance(value, str | None | bool | int | float):
        return scalar_text(value, quote=quote, is_flow=is_flow)
    return flow_text(value)


def _inline_splices(page: Page, spot: _Spot, node: Node, inline: str) -> list[Splice]:
    text = page.text
    start = _replaceable_start(text, node)
    if _is_absent(node, start):
        if spot.is_flow and not spot.is_element and text[spot.behind - 1] != ":":
            return [Splice(spot.behind, spot.behind, f": {inline}")]
        at = max(start, spot.behind) if node.start < node.end else spot.behind
        return [Splice(at, at, inline if text[at - 1] in " \t" else f" {inline}")]
    if isinstance(node, ScalarNode) and node.style in ("|", ">"):
        header = _HEADER.match(text, start)
        if header is None:
            raise Unspliceable
        return [Splice(start, header.end(), inline), Splice(line_end(text, start), _line_behind(text, node.end), "")]
    if _is_block_collection(node):
        return _instead_of_block(page, spot, node, inline)
    return [Splice(start, node.end, inline)]


def _instead_of_block(page: Page, spot: _Spot, node: ListNode | MappingNode, inline: str) -> list[Splice]:
    text = page.text
    entries = block_entries(text, node)
    if entries[0].shares or spot.column == _AT_ROOT:
        return [Splice(entries[0].head, entries[-1].end, inline + page.break_ + orphans(text, entries))]
    at = _behind_properties(text, spot, node)
    return [Splice(at, at, f" {inline}"), Splice(entries[0].head, entries[-1].end, orphans(text, entries))]


def _lines_splices(page: Page, spot: _Spot, node: Node, lines: list[str]) -> list[Splice]:
    """A block below its key."""
    text = page.text
    if _is_block_collection(node):
        entries = block_entries(text, node)
        column = column_of(text, entries[0].start)
        if column <= spot.column and not lines[0].startswith("- "):
            column = spot.column + 2  # only a list may stand at the column of its key
        return [Splice(entries[0].head, entries[-1].end, page.indented(lines, column))]
    start = _replaceable_start(text, node)
    block = page.indented(lines, spot.column + 2)
    if _is_absent(node, start):
        at = line_end(text, max(node.end, spot.behind))
        return [Splice(at, at, _on_its_own(page, at) + block)]
    before = start
    while text[before - 1] in " \t" and before > spot.behind:
        before -= 1
    if isinstance(node, ScalarNode) and node.style in ("|", ">"):
        header = _HEADER.match(text, start)
        if header is None:
            raise Unspliceable
        at = line_end(text, start)
        return [Splice(before, header.end(), ""), Splice(at, _line_behind(text, node.end), block)]
    at = line_end(text, node.end)
    return [Splice(before, node.end, ""), Splice(at, at, _on_its_own(page, at) + block)]


def _element_splices(page: Page, spot: _Spot, node: Node, lines: list[str]) -> list[Splice]:
    """A block behind its dash."""
    text = page.text
    if _is_block_collection(node):
        entries = block_entries(text, node)
        block = page.indented(lines, column_of(text, entries[0].start))
        return [Splice(entries[0].head, entries[-1].end, block.lstrip(" ") if entries[0].shares else block)]
    start = node.start  # an anchor cannot stand before a block on the line of its dash
    if start == node.end:
        return [Splice(spot.behind, spot.behind, " " + page.indented(lines, spot.column + 2).strip())]
    block = page.indented(lines, column_of(text, start)).lstrip(" ")
    if begins_its_line(text, node.end):
        return [Splice(start, _line_behind(text, node.end), block)]
    return [Splice(start, node.end, block.rstrip("\r\n"))]


def _first_lines(page: Page, value: Plain) -> list[Splice]:
    """Into a document that has nothing in it, behind its comments."""
    text = page.text
    marker = _END_MARKER.search(text, page.root.start if page.root else 0)
    at = marker.start() if marker else len(text)
    return [Splice(at, at, _on_its_own(page, at) + page.indented(block_lines(value), 0))]


def _root_splices(page: Page, node: Node, value: Plain) -> list[Splice]:
    """In the place of `{}` or `null` for a whole document."""
    start = content_start(page.text, node)
    if _is_absent(node, start):
        return _first_lines(page, value)
    line = line_start(page.text, start)
    if page.text[line:start].strip():
        return [Splice(start, node.end, flow_text(value))]
    return [Splice(line, node.end, page.indented(block_lines(value), 0).rstrip("\r\n"))]


def _replaceable_start(text: str, node: Node) -> int:
    """Where the value begins. Its anchor stays, a tag goes: it said what the old value was."""
    if isinstance(node, AliasNode):
        return node.start
    start = content_start(text, node)
    return node.start if "!" in text[node.start : start] else start


def _behind_properties(text: str, spot: _Spot, node: Node) -> int:
    if _replaceable_start(text, node) == node.start:
        return spot.behind
    return properties_end(text, node)


def _is_absent(node: Node, start: int) -> bool:
    return isinstance(node, ScalarNode) and not node.style and not node.text and start >= node.end


def _is_block_collection(node: Node) -> TypeGuard[ListNode | MappingNode]:
    return isinstance(node, ListNode | MappingNode) and not node.is_flow


def _has_entries(node: Node) -> bool:
    return bool(node.items) if isinstance(node, ListNode) else isinstance(node, MappingNode) and bool(node.pairs)


def _line_behind(text: str, end: int) -> int:
    return line_start(text, end) if begins_its_line(text, end) else line_end(text, end)


def _on_its_own(page: Page, at: int) -> str:
    """The line break that the last line lacks."""
    return page.break_ if at and page.text[at - 1] != "\n" else ""


# -- mappings ---------------------------------------------------------------------------------------------------------


def _member_splices(page: Page, spot: _Spot, values: Mapping[str, Plain], removed: Sequence[str]) -> list[Splice]:
    """These members set, those removed; a mapping that is not there yet comes into being."""
    node = spot.node
    if not isinstance(node, MappingNode) or not node.pairs:
        if isinstance(node, AliasNode | ListNode):
            raise Unspliceable
        return _value_splices(page, spot, values) if values else []
    own = sources(node.pairs)
    changes: list[Splice] = []
    added: list[list[str]] = []
    quote = _quote_within(node)
    for name, value in values.items():
        if name in own:
            place = _below(page, spot, name)
            if not page.meanings.says(place.node and page.meaning_of(place.node), value):
                changes += _value_splices(page, place, value)
        elif spot.is_flow or node.is_flow:
            added.append([f"{key_text(name)}: {flow_text(value, quote=quote)}"])
        else:
            added.append(pair_lines(name, value, quote=quote))
    kept = [index for index in range(len(node.pairs)) if index not in {own[name] for name in removed if name in own}]
    if not kept and not added and not node.is_flow:
        return _inline_splices(page, spot, node, "{}")
    return _restructured(page, node, kept, added, changes)


def _restructured(
    page: Page, node: MappingNode, kept: Sequence[int], added: Sequence[list[str]], changes: list[Splice]
) -> list[Splice]:
    text = page.text
    if len(kept) == len(node.pairs) and not added:
        return changes
    if is_bare(node, text):
        raise Unspliceable
    if node.is_flow:
        return [rebuilt_flow(text, node, [*kept, *(line for (line,) in added)], changes, page.break_)]
    column = column_of(text, content_start(text, node))
    new = [page.indented(lines, column) for lines in added]
    entries = block_entries(text, node)
    if len(kept) < len(node.pairs):
        return [rebuilt_block(text, entries, [*kept, *new], changes, page.break_)]
    at = _behind_comments(text, entries[-1]) if node is page.root else entries[-1].end
    return [*changes, Splice(at, at, _on_its_own(page, at) + "".join(new))]


def _behind_comments(text: str, entry: Entry) -> int:
    """The end of a document: comments right below its last line are not to be cut off from it."""
    at = entry.end
    while text[at : line_end(text, at)].lstrip(" \t").startswith("#"):
        at = line_end(text, at)
    return at


# -- lists ------------------------------------------------------------------------------------------------------------


def _added(items: Sequence[Keep | Add]) -> list[Plain]:
    return [item.value for item in items if isinstance(item, Add)]


def _kept_splices(page: Page, spot: _Spot, item: Keep) -> list[Splice]:
    if item.value is None and not item.members:
        return []
    place = _below(page, spot, item.index)
    if item.value is not None:
        is_said = place.node is not None and page.meanings.says(page.meaning_of(place.node), item.value)
        return [] if is_said else _value_splices(page, place, item.value)
    values = {name: value for name, value in item.members.items() if value is not None}
    return _member_splices(page, place, values, [name for name, value in item.members.items() if value is None])


def _reordered(page: Page, spot: _Spot, node: ListNode, pieces: Sequence[Piece], changes: list[Splice]) -> list[Splice]:
    if list(pieces) == list(range(len(node.items))):
        return changes
    if node.is_flow:
        return [rebuilt_flow(page.text, node, pieces, changes, page.break_)]
    if not pieces:
        return _inline_splices(page, spot, node, "[]")
    return [rebuilt_block(page.text, block_entries(page.text, node), pieces, changes, page.break_)]


def _dash_gap(page: Page, spot: _Spot, node: ListNode) -> str:
    """What the last element has between its dash and its value."""
    last = _element(page, spot, node, len(node.items) - 1)
    gap = page.text[last.behind : node.items[-1].start]
    return gap if gap and not gap.strip(" ") else " "


# -- quotes -----------------------------------------------------------------------------------------------------------


def _quote_of(node: Node) -> str:
    """How a text in the place of this node is quoted."""
    return node.style if isinstance(node, ScalarNode) and node.style in ("'", '"') else ""


def _quote_within(node: Node) -> str:
    """How a new neighbour of the texts in this node is quoted: as the last of them."""
    if isinstance(node, ScalarNode):
        return _quote_of(node)
    if isinstance(node, AliasNode):
        return ""
    inner = node.items if isinstance(node, ListNode) else [value for _, value in node.pairs]
    texts = [item for item in inner if isinstance(item, ScalarNode) and item.kind == "text"]
    return _quote_of(texts[-1]) if texts else ""
