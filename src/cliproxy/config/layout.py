"""How the elements of a list or a mapping lie in the text, and how they are put together again in another order.

Every entry (an element, or a key with its value) owns text beyond its own words: the comment at the end of its line,
the comment lines directly above it, and those below it that are indented deeper than it begins. What stands between two
entries and belongs to neither (blank lines, comments with a blank line below them) is a gap. Moving an entry moves what
it owns; gaps stay, but a blank gap disappears when it would stand beside another one or at an end.

Everything here gives texts and splices, and nothing is ever wrong for good: the caller proves every result by parsing it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from msgspec import Struct

from cliproxy.config.nodes import ListNode, MappingNode, Node, ScalarNode, skipped

_PROPERTY = re.compile(r"[&!][^\s,\[\]{}]*")
_VERBATIM_TAG = re.compile(r"!<[^>]*>")
_REST_OF_LINE = re.compile(r"[ \t]*(?:#[^\r\n]*)?(?:\r?\n)")


class Unspliceable(Exception):
    """Text in a shape that we do not edit by splicing."""


class Splice(Struct, frozen=True):
    """`text` shall stand in the place of `[start:end]`."""

    start: int
    end: int
    text: str


class Entry(Struct, frozen=True):
    """`start` is where its first word begins, `[head:end]` all that it owns.

    In block style these are whole lines, unless it `shares` its first line with the dash of what is around it. After
    one that `keeps_blanks` (a block with `+`) blank lines would belong to its value.
    """

    start: int
    head: int
    end: int
    shares: bool = False
    keeps_blanks: bool = False


Piece = int | str
"""An old entry by its index, or the text of a new one: lines in block style, else a value."""


def spliced(text: str, splices: Iterable[Splice], start: int = 0, end: int | None = None) -> str:
    """`text[start:end]` with the splices that lie in it; those at one place come in the order given."""
    end = len(text) if end is None else end
    parts: list[str] = []
    position = start
    for splice in sorted(splices, key=lambda splice: splice.start):
        if start <= splice.start and splice.end <= end:
            if splice.start < position:
                raise Unspliceable
            parts += (text[position : splice.start], splice.text)
            position = splice.end
    parts.append(text[position:end])
    return "".join(parts)


def spliced_part(text: str, splices: Iterable[Splice], start: int, end: int) -> str:
    """`text[start:end]` likewise. What is inserted right at `start` goes to the end of the part before."""
    return spliced(text, (splice for splice in splices if splice.start > start or splice.end > start), start, end)


def content_start(text: str, node: Node) -> int:
    """Where a node begins when its anchor and its tag are left out; for an empty one, behind them."""
    behind = properties_end(text, node)
    if behind == node.start or (isinstance(node, ScalarNode) and behind >= node.end):
        return behind
    return skipped(text, behind)


def properties_end(text: str, node: Node) -> int:
    """Behind the anchor and the tag; the beginning when it has none."""
    position = behind = node.start
    while isinstance(node, ListNode | MappingNode | ScalarNode) and (position < node.end or position == node.start):
        match = _VERBATIM_TAG.match(text, position) or _PROPERTY.match(text, position)
        if match is None:
            break
        behind = match.end()
        position = skipped(text, behind)
    return behind


def line_start(text: str, position: int) -> int:
    return text.rfind("\n", 0, position) + 1


def line_end(text: str, position: int) -> int:
    """Behind the line break."""
    found = text.find("\n", position)
    return len(text) if found < 0 else found + 1


def column_of(text: str, position: int) -> int:
    return position - line_start(text, position)


def begins_its_line(text: str, position: int) -> bool:
    return not text[line_start(text, position) : position].strip(" \t")


def is_blank(lines: str) -> bool:
    return not lines.strip()


def is_bare(node: ListNode | MappingNode, text: str) -> bool:
    """A pair in a flow list without braces of its own: `[a: 1]`."""
    return node.is_flow and text[content_start(text, node)] not in "[{"


def entry_starts(text: str, node: ListNode | MappingNode) -> list[int]:
    """Where each entry begins: a dash, a `?`, or a key."""
    if not node.is_flow:
        starts = [content_start(text, node)]
        inner = node.items if isinstance(node, ListNode) else [value for _, value in node.pairs]
        starts += [skipped(text, value.end) for value in inner[:-1]]
        if isinstance(node, ListNode) and any(text[start : start + 1] != "-" for start in starts):
            raise Unspliceable
        return starts
    if isinstance(node, ListNode):
        return [item.start for item in node.items]
    return [key.start for key, _ in node.pairs]


def value_end(text: str, key: Node, value: Node) -> int:
    """Behind the value of a pair, or its colon when there is none, or its key when there is no colon."""
    if value.start < value.end:
        return value.end
    colon = skipped(text, key.end)
    return colon + 1 if text.startswith(":", colon) else key.end


# -- block style ------------------------------------------------------------------------------------------------------


def block_entries(text: str, node: ListNode | MappingNode) -> list[Entry]:
    entries: list[Entry] = []
    starts = entry_starts(text, node)
    values = node.items if isinstance(node, ListNode) else [value for _, value in node.pairs]
    column = column_of(text, starts[0])
    bound = 0
    for start, value in zip(starts, values, strict=True):
        shares = not begins_its_line(text, start)
        if shares and entries:
            raise Unspliceable
        head = start if shares else _head(text, line_start(text, start), bound)
        bound = _owned_end(text, value.end, column)
        entries.append(Entry(start, head, bound, shares, _keeps_blanks(text, value)))
    return entries


def last_value(node: Node | None) -> Node | None:
    """The innermost value at the end of a node."""
    while isinstance(node, ListNode | MappingNode) and not node.is_flow:
        inner = node.items if isinstance(node, ListNode) else [value for _, value in node.pairs[-1:]]
        if not inner:
            break
        node = inner[-1]
    return node


def _keeps_blanks(text: str, node: Node) -> bool:
    last = last_value(node)
    if not isinstance(last, ScalarNode) or last.style not in ("|", ">"):
        return False
    return "+" in text[last.start : line_end(text, last.start)]


def _head(text: str, line: int, bound: int) -> int:
    """The first of the comment lines directly above."""
    while line > bound:
        above = line_start(text, line - 1)
        if above < bound or not text[above:line].lstrip(" \t").startswith("#"):
            break
        line = above
    return line


def _owned_end(text: str, end: int, column: int) -> int:
    """Behind the last line, and behind the comment lines below it that are indented deeper than `column`."""
    # A block of text ends where the next line begins, or in its indentation.
    owned = line_start(text, end) if begins_its_line(text, end) else line_end(text, end)
    position = owned
    while position < len(text):
        end = line_end(text, position)
        line = text[position:end]
        words = line.lstrip(" \t")
        if words.startswith("#"):
            if len(line) - len(words) <= column:
                break
            owned = end
        elif words.strip("\r\n"):
            break
        position = end
    return owned


def rebuilt_block(
    text: str, entries: Sequence[Entry], pieces: Sequence[Piece], changes: Sequence[Splice], break_: str
) -> Splice:
    """The block with these entries, in this order. New pieces come as whole lines with their indentation."""
    first = entries[0]
    gaps = ["", *(text[before.end : after.head] for before, after in pairwise(entries))]
    kept = [piece for piece in pieces if isinstance(piece, int)]
    if kept == sorted(kept):
        leading = _leading_gaps(gaps, set(kept))
    else:
        leading = dict(zip(kept, gaps, strict=False))
        leading[kept[-1]] += "".join(gap for gap in gaps[len(kept) :] if not is_blank(gap))
    everywhere = len(gaps) > 1 and all(gap and is_blank(gap) for gap in gaps[1:])
    parts: list[str] = []
    is_open = False
    for piece in pieces:
        if isinstance(piece, int):
            entry = entries[piece]
            indent = " " * column_of(text, entry.start) if entry.shares else ""
            chunk = indent + spliced_part(text, changes, entry.head, entry.end)
            gap = leading.pop(piece, "")
        else:
            chunk, gap = piece, ""
        if parts and not gap and everywhere:
            gap = gaps[1]
        if is_open and is_blank(gap):
            gap = ""
        is_open = isinstance(piece, int) and entries[piece].keeps_blanks
        parts += (gap, chunk if chunk.endswith("\n") else chunk + break_)
    parts += (gap for gap in leading.values())
    built = "".join(parts)
    end = entries[-1].end
    if is_open and pieces[-1] != len(entries) - 1:
        while end < len(text) and is_blank(text[end : line_end(text, end)]):
            end = line_end(text, end)
    if pieces[-1] == len(entries) - 1 and not text[: entries[-1].end].endswith("\n"):
        built = built.removesuffix("\n").removesuffix("\r")
    if first.shares:
        built = built.lstrip(" ")
    return Splice(first.head, end, built)


def _leading_gaps(gaps: Sequence[str], kept: set[int]) -> dict[int, str]:
    """What to write before each entry that stays, and under -1 before the end. Of two blank gaps that meet one stays;
    none stays at the beginning or the end; comments stay everywhere."""
    leading: dict[int, str] = {}
    waiting = ""
    is_first = True
    for index, gap in enumerate(gaps):
        if is_blank(gap) and (is_blank(waiting) or not gap):
            waiting = max(waiting, gap, key=len)
        else:
            waiting += gap
        if index in kept:
            leading[index] = "" if is_first and is_blank(waiting) and index else waiting
            waiting = ""
            is_first = False
    leading[-1] = "" if is_blank(waiting) else waiting
    return leading


def orphans(text: str, entries: Sequence[Entry]) -> str:
    """The comments between entries that belong to none."""
    gaps = (text[before.end : after.head] for before, after in pairwise(entries))
    return "".join(gap for gap in gaps if not is_blank(gap))


# -- flow style -------------------------------------------------------------------------------------------------------


class _Slot(Struct):
    """An entry between brackets: comment lines nobody owns, those that it owns, white space, the words, what stands
    before its comma, and what follows the comma up to the end of the line."""

    stray: str
    comments: str
    space: str
    start: int
    end: int
    before_comma: str
    rest: str


def rebuilt_flow(
    text: str, node: ListNode | MappingNode, pieces: Sequence[Piece], changes: Sequence[Splice], break_: str
) -> Splice:
    """The brackets with these entries, in this order."""
    opening, slots, tail, ends_in_comma = _slots(text, node)
    begin = content_start(text, node)
    kept = {piece for piece in pieces if isinstance(piece, int)}
    strays = "".join(slot.stray for index, slot in enumerate(slots) if index not in kept)
    if not pieces:
        inner = opening + strays + tail if "#" in opening + strays + tail else ""
        return Splice(begin, node.end, text[begin] + inner + text[node.end - 1])
    parts = [text[begin], opening, strays]
    new_rest = slots[-1].rest and break_ if slots else ""
    new_rest = new_rest if "\n" in new_rest else ""
    first_space = slots[0].space if slots else ""
    next_space = slots[1].space if len(slots) > 1 else (first_space if new_rest else " ")
    for position, piece in enumerate(pieces):
        space = first_space if position == 0 else next_space
        is_last = position == len(pieces) - 1
        comma = "," if not is_last or (ends_in_comma and slots) else ""
        if isinstance(piece, str):
            parts += (space, piece, comma, new_rest)
            continue
        slot = slots[piece]
        if (slot.comments or slot.stray) and not parts[-1].endswith("\n"):
            parts.append(break_)
        if position and piece:
            space = slot.space
        words = spliced_part(text, changes, slot.start, slot.end)
        parts += (slot.stray, slot.comments, space, words, slot.before_comma, comma, slot.rest)
    parts += (tail, text[node.end - 1])
    return Splice(begin, node.end, "".join(parts))


def _slots(text: str, node: ListNode | MappingNode) -> tuple[str, list[_Slot], str, bool]:
    """What follows the opening bracket on its line, the entries, what precedes the closing one; is there a last comma?"""
    starts = entry_starts(text, node)
    if isinstance(node, ListNode):
        ends = [item.end for item in node.items]
    else:
        ends = [value_end(text, key, value) for key, value in node.pairs]
    close = node.end - 1
    bracket = content_start(text, node) + 1
    position = _rest_end(text, bracket, close)
    opening = text[bracket:position]
    slots: list[_Slot] = []
    ends_in_comma = False
    for start, end in zip(starts, ends, strict=True):
        stray, comments, space = _split_lead(text[position:start])
        comma = skipped(text, end)
        ends_in_comma = text[comma] == ","
        if ends_in_comma:
            position = _rest_end(text, comma + 1, close)
            slots.append(_Slot(stray, comments, space, start, end, text[end:comma], text[comma + 1 : position]))
        else:
            position = _rest_end(text, end, close)
            slots.append(_Slot(stray, comments, space, start, end, "", text[end:position]))
    return opening, slots, text[position:close], ends_in_comma


def _rest_end(text: str, position: int, close: int) -> int:
    match = _REST_OF_LINE.match(text, position)
    return match.end() if match and match.end() <= close else position


def _split_lead(lead: str) -> tuple[str, str, str]:
    """Comment lines above a blank line, those directly above the entry, and the white space before it."""
    *lines, space = re.split(r"(?<=\n)", lead)
    owned = len(lines)
    while owned and lines[owned - 1].lstrip().startswith("#"):
        owned -= 1
    stray = "".join(lines[:owned])
    return ("" if is_blank(stray) else stray), "".join(lines[owned:]), space


def kept_order(count: int, removed: Iterable[int]) -> list[Piece]:
    gone = set(removed)
    return [index for index in range(count) if index not in gone]


def sources(pairs: Sequence[tuple[Node, Node]]) -> Mapping[str, int]:
    """Own keys by their text, with their index; `<<` is no key."""
    found: dict[str, int] = {}
    for index, (key, _) in enumerate(pairs):
        word = key.target if not isinstance(key, ScalarNode | ListNode | MappingNode) else key
        if isinstance(word, ScalarNode) and not (word.text == "<<" and not word.style):
            found[word.text] = index
    return found
