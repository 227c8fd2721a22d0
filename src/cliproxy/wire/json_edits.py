"""JSON objects that are edited as text: only what changes is touched, everything else keeps its bytes.

Credential files are written by several programs. Members that we do not know, their order, the spelling of numbers and
the layout are somebody's; an edit therefore replaces, adds or cuts out single members, and never writes an object anew.

`check` comes first. It is stricter than a parser has to be: what two programs could read differently (a name that
stands twice, a number beyond a double, half a surrogate pair, nesting that exhausts a stack) is refused, so that the
file that one program accepts is the file that another one sees.
"""

from __future__ import annotations

import math
import re

import msgspec
from msgspec import Raw, Struct

from cliproxy.wire.json import describe, encode, mended

MOST_LEVELS = 100
"""How deep an object may be nested. Credentials are two or three levels deep."""

Path = tuple[str, ...]
"""Names from the outermost object inwards; never empty."""

_OBJECT = msgspec.json.Decoder(dict[str, Raw])
_TEXT = msgspec.json.Decoder(str)
_SPACE = b" \t\r\n"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# Possessive, since a text of megabytes must not fill the matcher's stack; long white space is matched as one, since a
# search that fails at each of millions of places would hold up everything else.
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_GAP = rb"|[ \t\r\n]{16,}+"
_TOKEN = re.compile(_STRING + rb"|[{}\[\]:]|-?[0-9][-+.0-9eE]*+" + _GAP, re.DOTALL)
_MARK = re.compile(_STRING + rb"|[{}\[\],]|:[ \t\r\n]*+" + _GAP, re.DOTALL)


class BadJson(ValueError):
    """Not the JSON object that it should be. The text says why and repeats nothing of it."""


class _Member(Struct, frozen=True, gc=False):
    """Where a member stands: its name, the end of its name, its value, the end of its value."""

    name: str
    start: int
    name_end: int
    value: int
    end: int


def check(data: bytes) -> None:
    """Raises BadJson unless `data` is one JSON object that every program reads alike."""
    if data.startswith(_BYTE_ORDER_MARK):
        raise BadJson("it begins with a byte order mark; save it as UTF-8 without one")
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise BadJson("it is not UTF-8") from error
    if not data.strip(_SPACE):
        raise BadJson("it is empty")
    if (b"\\ud" in data or b"\\uD" in data) and mended(data) != data:
        raise BadJson("a text in it holds half of a surrogate pair")
    try:
        _OBJECT.decode(data)
    except msgspec.ValidationError as error:
        raise BadJson("it is not a JSON object") from error
    except msgspec.DecodeError as error:
        raise BadJson(describe(error)) from error
    except RecursionError as error:
        raise BadJson("it is nested too deeply") from error
    _check_tokens(data)


def replace(data: bytes, path: Path, value: object) -> bytes:
    """`data`, which has passed `check`, with `value` at `path`; objects on the way there are made where they miss.

    Raises BadJson when something on the way is no object.
    """
    return _replaced(data, data.index(b"{"), path, encode(value))


def remove(data: bytes, path: Path) -> bytes:
    """`data`, which has passed `check`, without the member at `path`; `data` itself when there is none."""
    opening = data.index(b"{")
    for name in path[:-1]:
        member = _find(_members(data, opening), name)
        if member is None or data[member.value] != 0x7B:
            return data
        opening = member.value
    members = _members(data, opening)
    member = _find(members, path[-1])
    if member is None:
        return data
    at = members.index(member)
    if at > 0:
        return data[: members[at - 1].end] + data[member.end :]
    return data[: member.start] + data[members[1].start if len(members) > 1 else member.end :]


def _check_tokens(data: bytes) -> None:
    """What a parser lets pass; `data` is JSON already."""
    names: list[set[bytes] | None] = []
    text = b""
    for match in _TOKEN.finditer(data):
        token = match[0]
        if token[0] == 0x22:
            text = token
        elif token == b":":
            known = names[-1]
            name = text[1:-1] if b"\\" not in text else _TEXT.decode(text).encode()
            if known is None or name in known:
                raise BadJson("a name stands twice in one object")
            known.add(name)
        elif token in b"{[":
            names.append(set() if token == b"{" else None)
            if len(names) > MOST_LEVELS:
                raise BadJson("it is nested too deeply")
        elif token in b"}]":
            names.pop()
        elif not token.isspace() and math.isinf(float(token)):
            raise BadJson("a number in it is out of range")


def _replaced(data: bytes, opening: int, path: Path, value: bytes) -> bytes:
    members = _members(data, opening)
    member = _find(members, path[0])
    if member is None:
        for name in reversed(path[1:]):
            value = b"{" + encode(name) + b":" + value + b"}"
        return _added(data, opening, members, path[0], value)
    if len(path) == 1:
        return data[: member.value] + value + data[member.end :]
    if data[member.value] != 0x7B:
        raise BadJson(f"`{path[0]}` is no object, so nothing can be set in it")
    return _replaced(data, member.value, path[1:], value)


def _added(data: bytes, opening: int, members: list[_Member], name: str, value: bytes) -> bytes:
    """A member more, at the end, laid out as those before it are."""
    if not members:
        at, before, colon = opening + 1, b"", b":"
    else:
        first, last = members[0], members[-1]
        at, colon = last.end, data[first.name_end : first.value]
        before = data[first.end : members[1].start] if len(members) > 1 else b"," + data[opening + 1 : first.start]
    return data[:at] + before + encode(name) + colon + value + data[at:]


def _find(members: list[_Member], name: str) -> _Member | None:
    return next((member for member in members if member.name == name), None)


def _members(data: bytes, opening: int) -> list[_Member]:
    """The members of the object whose brace stands at `opening`, in their order."""
    found: list[_Member] = []
    depth, name, value = 0, (0, 0), 0
    for match in _MARK.finditer(data, opening):
        mark = data[match.start()]
        if mark in b"{[":
            depth += 1
        elif depth > 1:
            depth -= mark in b"}]"
        elif mark == 0x3A:
            value = match.end()
        elif mark == 0x22 and not value:
            name = match.span()
        elif mark in b",}":
            if value:
                end = _before_space(data, match.start())
                found.append(_Member(_text(data[name[0] : name[1]]), *name, value, end))
            if mark == 0x7D:
                break
            value = 0
    return found


def _before_space(data: bytes, at: int) -> int:
    while data[at - 1] in _SPACE:
        at -= 1
    return at


def _text(token: bytes) -> str:
    return _TEXT.decode(token) if b"\\" in token else token[1:-1].decode()
