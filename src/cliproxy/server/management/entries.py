"""Upstream entries of the configuration as values: read from JSON, shown in JSON, written to the file.

All of it follows from the Structs of the schema, so a new member needs nothing here. A member at its default is neither
shown nor written, but for those in `ALWAYS_SHOWN`, on which clients rely.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import TypeVar

from msgspec import NODEFAULT, Struct, ValidationError, convert, inspect, structs

from cliproxy.canon.errors import InvalidRequest
from cliproxy.config import rules
from cliproxy.config.editing import Plain
from cliproxy.config.schema import ClaudeKey, CodexKey, GeminiKey, Model, OpenAICompatibility, UpstreamEntry
from cliproxy.server.management.base import Schema
from cliproxy.wire.json import describe
from cliproxy.wire.secrets import Secret, dec_hook

ALWAYS_SHOWN: Mapping[type[Struct], frozenset[str]] = {
    GeminiKey: frozenset({"api-key", "base-url"}),
    ClaudeKey: frozenset({"api-key", "base-url"}),
    CodexKey: frozenset({"api-key", "base-url"}),
    OpenAICompatibility: frozenset({"name", "base-url", "api-keys", "models"}),
    Model: frozenset({"name", "alias"}),
}
_NONE_BUT_SET: Mapping[type[Struct], frozenset[str]] = {}
_NO_NAMES: frozenset[str] = frozenset()
_DEPTH = 2
"""How deep lists and objects are nested in the members of an entry."""

_E = TypeVar("_E", bound=UpstreamEntry)


class _Member(Struct, frozen=True):
    """`name` in JSON and in the file, `field` in the Struct. `default` is NODEFAULT for what every entry must have."""

    name: str
    field: str
    type: object
    default: object

    @property
    def is_required(self) -> bool:
        return self.default is NODEFAULT

    def of(self, entry: Struct) -> object:
        return getattr(entry, self.field)


@cache
def _members(kind: type[Struct]) -> tuple[_Member, ...]:
    """What every entry has comes first, in answers as in files."""
    members = [_Member(field.encode_name, field.name, field.type, _default(field)) for field in structs.fields(kind)]
    return tuple(sorted(members, key=lambda member: not member.is_required))


def _default(field: structs.FieldInfo) -> object:
    return field.default if field.default_factory is NODEFAULT else field.default_factory()


# -- read from JSON ---------------------------------------------------------------------------------------------------


def read_members(kind: type[Struct], body: Mapping[str, object]) -> Mapping[str, object]:
    """The members that `body` gives, checked one by one; null stands for the default and comes out as None.

    Texts are trimmed, lists of texts lose what is empty or repeated, unknown members are ignored. Raises InvalidRequest
    for a wrong type, an empty identity, or a `base-url` that is none. Other rules are left to `document.read`.
    """
    given = {member.name: _trimmed(body[member.name]) for member in _members(kind) if member.name in body}
    for member in _members(kind):
        if member.name in given:
            _check(kind, member, given[member.name])
    return given


def _check(kind: type[Struct], member: _Member, value: object) -> None:
    if value is None and not member.is_required:
        return
    try:
        read = convert(value, member.type, dec_hook=dec_hook)
    except ValidationError as error:
        # The oldest members have a text that clients know.
        is_old = member.name in ALWAYS_SHOWN.get(kind, _NO_NAMES)
        raise InvalidRequest("invalid body" if is_old else f"invalid `{member.name}`: {describe(error)}") from error
    if member.is_required and not read:
        raise InvalidRequest("invalid body")
    if member.name == "base-url" and isinstance(read, str) and rules.base_url(read):
        raise InvalidRequest("invalid base-url")


def read_entry(kind: type[_E], body: Mapping[str, object]) -> _E:
    """A whole entry. Raises InvalidRequest as `read_members` does, and when there is nothing to call it by."""
    if any(member.is_required and member.name not in body for member in _members(kind)):
        raise InvalidRequest("invalid body")
    return _made(kind, read_members(kind, body))


def changed(entry: _E, members: Mapping[str, object]) -> _E:
    """The entry with members that `read_members` gave in the place of its own."""
    return _made(type(entry), {**_plain_members(entry, _NONE_BUT_SET), **members})


def _made(kind: type[_E], members: Mapping[str, object]) -> _E:
    return convert({name: value for name, value in members.items() if value is not None}, kind, dec_hook=dec_hook)


def _trimmed(value: object, depth: int = _DEPTH) -> object:
    match value:
        case str():
            return value.strip()
        case list() if depth:
            items = [_trimmed(item, depth - 1) for item in convert(value, list[object])]
            texts = [item for item in items if isinstance(item, str)]
            return [*dict.fromkeys(filter(None, texts))] if len(texts) == len(items) else items
        case dict() if depth:
            inner = convert(value, dict[str, object])
            return {name: _trimmed(item, depth - 1) for name, item in inner.items() if item is not None}
        case _:
            return value


# -- shown and written ------------------------------------------------------------------------------------------------


def shown(entry: Struct) -> Mapping[str, Plain]:
    """As answers show it, secrets included."""
    return _plain_members(entry, ALWAYS_SHOWN)


def written(value: object) -> Plain:
    """As the file holds it: a mapping for an entry, a text for a key."""
    return _plain(value, _NONE_BUT_SET)


def changes(was: Struct, entry: Struct, *, lists_apart: bool) -> Mapping[str, Plain]:
    """What must be set in the file to make one entry of the other; None removes. `lists_apart`: without what
    `changed_lists` tells."""
    inner = {name for name, _, _ in changed_lists(was, entry)} if lists_apart else _NO_NAMES
    return {
        member.name: None if value == member.default else written(value)
        for member in _members(type(entry))
        if (value := member.of(entry)) != member.of(was) and member.name not in inner
    }


def changed_lists(was: Struct, entry: Struct) -> Iterator[tuple[str, Sequence[object], Sequence[object]]]:
    """Name, old and new elements of each list that has some before and after."""
    for member in _members(type(entry)):
        old, new = member.of(was), member.of(entry)
        if isinstance(old, tuple) and isinstance(new, tuple) and old and new and old != new:
            yield member.name, old, new


def _plain(value: object, always: Mapping[type[Struct], frozenset[str]]) -> Plain:
    match value:
        case Struct():
            return _plain_members(value, always)
        case Secret():
            return value.reveal()
        case tuple():
            return [_plain(item, always) for item in convert(value, tuple[object, ...])]
        case Mapping():
            return {name: _plain(item, always) for name, item in convert(value, dict[str, object]).items()}
        case bool() | int() | float() | str():
            return value
        case _:
            return None


def _plain_members(entry: Struct, always: Mapping[type[Struct], frozenset[str]]) -> Mapping[str, Plain]:
    names = always.get(type(entry), _NO_NAMES)
    return {
        member.name: _plain(value, always)
        for member in _members(type(entry))
        if (value := member.of(entry)) != member.default or member.name in names
    }


# -- described --------------------------------------------------------------------------------------------------------


def schema_of(kind: type[Struct]) -> Schema:
    """The JSON schema of an entry, with the members that it must have."""
    return _schema(inspect.type_info(kind))


def _schema(wanted: inspect.Type) -> Schema:
    match wanted:
        case inspect.Metadata():
            return _schema(wanted.type)
        case inspect.UnionType():
            return _schema(wanted.types[0])
        case inspect.StructType():
            properties = {field.encode_name: _schema(field.type) for field in wanted.fields}
            required = [field.encode_name for field in wanted.fields if field.required]
            return {"type": "object", "properties": properties, "required": required}
        case inspect.VarTupleType():
            return {"type": "array", "items": _schema(wanted.item_type)}
        case inspect.DictType():
            return {"type": "object", "additionalProperties": _schema(wanted.value_type)}
        case inspect.LiteralType():
            return {"enum": list(wanted.values)}
        case inspect.BoolType():
            return {"type": "boolean"}
        case inspect.IntType():
            return {"type": "integer", "minimum": wanted.ge, "maximum": wanted.le}
        case _:
            return {"type": "string"}
