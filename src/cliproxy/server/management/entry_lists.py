"""Lists of upstream entries: GET shows one, PUT replaces it, PATCH changes members of one entry, DELETE removes.

A row is one `EntryList`. What an entry can say is in the schema; `entries` reads and shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

from msgspec import Struct
from msgspec.json import Decoder

from cliproxy.canon.errors import Conflict, InvalidRequest, NotFound
from cliproxy.config.editing import Plain
from cliproxy.config.schema import ClaudeKey, CodexKey, Config, GeminiKey, OpenAICompatibility, UpstreamEntry
from cliproxy.gateway.plane import Plane
from cliproxy.server.management import shelves
from cliproxy.server.management.base import DONE, STALE, Answer, Asked, Operation, Parameter, Row, Schema, told
from cliproxy.server.management.entries import changed, read_entry, read_members, schema_of, shown
from cliproxy.server.management.lists import INDEX, NOT_THERE, is_index, position
from cliproxy.server.management.shelves import Element, Shelf, change, paired

_E = TypeVar("_E", bound=UpstreamEntry)

_NO_SUCH = "item not found"


class EntryList(Struct, Generic[_E], frozen=True, kw_only=True, eq=False):
    """`called` is the member by which people name an entry: `name_of` gives it, PATCH takes it as `match`, DELETE as
    `?called=`. With `needs_address` two entries may share it when their `base-url` differs."""

    name: str
    what: str
    kind: type[_E]
    shelf: Shelf[_E]
    called: str
    match: str
    name_of: Callable[[_E], str]
    needs_address: bool = True

    def show(self, config: Config) -> Mapping[str, Sequence[Mapping[str, Plain]]]:
        return {self.name: [shown(entry) for entry in self.shelf.values(config)]}

    def identity(self, entry: _E) -> tuple[str, str]:
        return self.name_of(entry), entry.base_url if self.needs_address else ""


CLAUDE_KEYS: EntryList[ClaudeKey] = EntryList(
    name="claude-api-key",
    what="Claude API keys",
    kind=ClaudeKey,
    shelf=shelves.CLAUDE,
    called="api-key",
    match="match",
    name_of=lambda entry: entry.api_key.reveal(),
)
CODEX_KEYS: EntryList[CodexKey] = EntryList(
    name="codex-api-key",
    what="OpenAI API keys for Codex",
    kind=CodexKey,
    shelf=shelves.CODEX,
    called="api-key",
    match="match",
    name_of=lambda entry: entry.api_key.reveal(),
)
GEMINI_KEYS: EntryList[GeminiKey] = EntryList(
    name="gemini-api-key",
    what="Gemini API keys",
    kind=GeminiKey,
    shelf=shelves.GEMINI_OBJECTS,
    called="api-key",
    match="match",
    name_of=lambda entry: entry.api_key.reveal(),
)
COMPATIBLE: EntryList[OpenAICompatibility] = EntryList(
    name="openai-compatibility",
    what="OpenAI-compatible upstreams",
    kind=OpenAICompatibility,
    shelf=shelves.COMPATIBLE,
    called="name",
    match="name",
    name_of=lambda entry: entry.name,
    needs_address=False,
)


# -- what may be sent -------------------------------------------------------------------------------------------------

_Body = dict[str, object]


class _Items(Struct):
    items: list[_Body]


class _Patch(Struct):
    """An `index` that points somewhere wins over `match` or `name`, whichever the list goes by."""

    value: _Body
    index: int | None = None
    match: str | None = None
    name: str | None = None


_REPLACEMENT = Decoder(list[_Body] | _Items)
_PATCH = Decoder(_Patch)


# -- edits: a sequence of elements to another -------------------------------------------------------------------------


def _replaced(of: EntryList[_E], elements: Sequence[Element[_E]], entries: Sequence[_E]) -> list[Element[_E]]:
    """An entry continues the one of the same identity, else the one of the same name: its address may be new."""
    standing = [element.value for element in elements]
    return [
        of.shelf.new(entry) if index is None else elements[index].with_value(entry)
        for entry, index in zip(entries, paired(standing, entries, of.identity, of.name_of), strict=True)
    ]


def _distinct(of: EntryList[_E], entries: Sequence[_E]) -> list[_E]:
    """The first of each identity. Raises InvalidRequest for two upstreams of one name that are not the same."""
    first: dict[tuple[str, str], _E] = {}
    for entry in entries:
        if first.setdefault(of.identity(entry), entry) != entry and not of.needs_address:
            raise InvalidRequest(f"two different entries have the same `{of.called}`")
    return [*first.values()]


def _patched(
    of: EntryList[_E], elements: Sequence[Element[_E]], index: int, members: Mapping[str, object]
) -> list[Element[_E]]:
    was = elements[index].value
    entry = changed(was, members)
    if of.identity(entry) != of.identity(was):
        _refuse_double(of, elements, entry)
    return [*elements[:index], elements[index].with_value(entry), *elements[index + 1 :]]


def _target(of: EntryList[_E], elements: Sequence[Element[_E]], patch: _Patch) -> int:
    if patch.index is not None and 0 <= patch.index < len(elements):
        return patch.index
    wanted = ((patch.name if of.match == "name" else patch.match) or "").strip()
    for index, element in enumerate(elements):
        if wanted and of.name_of(element.value) == wanted:
            return index
    raise NotFound(_NO_SUCH)


def _refuse_double(of: EntryList[_E], elements: Sequence[Element[_E]], entry: _E) -> None:
    """Only one of two equal ones would be used. Which members of the other to give up is not ours to say."""
    if any(of.identity(element.value) == of.identity(entry) for element in elements):
        both = f"`{of.called}` and `base-url`" if of.needs_address else f"`{of.called}`"
        raise Conflict(f"another entry has this {both}; change or remove that one")


def _without(of: EntryList[_E], elements: Sequence[Element[_E]], asked: Asked) -> list[Element[_E]]:
    index, name = asked.first("index"), (asked.first(of.called) or "").strip()
    if name:
        gone = _named(of, elements, name, asked.first("base-url") if of.needs_address else None)
        return [element for element in elements if of.identity(element.value) != gone]
    if (place := position(index, len(elements))) is not None:
        return [element for at, element in enumerate(elements) if at != place]
    raise NotFound(_NO_SUCH) if is_index(index) else InvalidRequest(f"missing {of.called} or index")


def _named(of: EntryList[_E], elements: Sequence[Element[_E]], name: str, address: str | None) -> tuple[str, str]:
    """The one identity that is meant."""
    identities = {of.identity(element.value) for element in elements if of.name_of(element.value) == name}
    if address is not None:
        identities &= {(name, address.strip())}
    if not identities:
        raise NotFound(_NO_SUCH)
    if len(identities) > 1:
        raise InvalidRequest(f"multiple items match {of.called}; base-url is required")
    return identities.pop()


# -- rows -------------------------------------------------------------------------------------------------------------


def row_of(of: EntryList[_E]) -> Row:
    async def show(plane: Plane, _: Asked) -> Answer:
        return told(of.show(plane.desk.config))

    async def replace(plane: Plane, asked: Asked) -> Answer:
        body = await asked.json(_REPLACEMENT)
        items = body.items if isinstance(body, _Items) else body
        entries = _distinct(of, [read_entry(of.kind, item) for item in items])
        return await change(plane, asked, of.show, of.shelf, lambda elements: _replaced(of, elements, entries))

    async def patch(plane: Plane, asked: Asked) -> Answer:
        body = await asked.json(_PATCH)
        members = read_members(of.kind, body.value)
        return await change(
            plane,
            asked,
            of.show,
            of.shelf,
            lambda elements: _patched(of, elements, _target(of, elements, body), members),
        )

    async def remove(plane: Plane, asked: Asked) -> Answer:
        return await change(plane, asked, of.show, of.shelf, lambda elements: _without(of, elements, asked))

    return Row(
        path=f"/{of.name}",
        tag="Upstream keys",
        operations={
            "GET": Operation(handle=show, summary=f"Show the {of.what}", answers={200: _shown_as(of)}),
            "PUT": Operation(
                handle=replace,
                summary=f"Replace the {of.what}",
                bodies={"application/json": _replacing(of)},
                answers=DONE,
                refusals={400: _MALFORMED, **STALE},
            ),
            "PATCH": Operation(
                handle=patch,
                summary=f"Change members of one of the {of.what}, found by its position or `{of.match}`",
                bodies={"application/json": _patching(of)},
                answers=DONE,
                refusals={400: _MALFORMED, 404: NOT_THERE, 409: "Another entry is called so.", **STALE},
            ),
            "DELETE": Operation(
                handle=remove,
                summary=f"Remove one of the {of.what}",
                parameters=_removing(of),
                answers=DONE,
                refusals={
                    400: f"`missing {of.called} or index`"
                    + (f", or `multiple items match {of.called}; base-url is required`" if of.needs_address else ""),
                    404: NOT_THERE,
                    **STALE,
                },
            ),
        },
    )


_MALFORMED = "The body is not as described, `invalid base-url`, or what is wrong with which member."


def _removing(of: EntryList[_E]) -> tuple[Parameter, ...]:
    name = Parameter(name=of.called, what=f"Its `{of.called}`.")
    address = Parameter(name="base-url", what=f"Its `base-url`, where several have the `{of.called}`.")
    return (name, address, INDEX) if of.needs_address else (name, INDEX)


def members_of(of: EntryList[_E]) -> Mapping[str, Schema]:
    """How what is shown is described."""
    return {of.name: {"type": "array", "items": schema_of(of.kind)}}


def _shown_as(of: EntryList[_E]) -> Schema:
    return {"type": "object", "required": [of.name], "properties": members_of(of)}


def _replacing(of: EntryList[_E]) -> Schema:
    entries = {"type": "array", "items": schema_of(of.kind)}
    return {"oneOf": [entries, {"type": "object", "required": ["items"], "properties": {"items": entries}}]}


def _patching(of: EntryList[_E]) -> Schema:
    members = {name: schema for name, schema in schema_of(of.kind).items() if name != "required"}
    return {
        "type": "object",
        "required": ["value"],
        "properties": {"index": {"type": "integer"}, of.match: {"type": "string"}, "value": members},
        "description": "members that are not in `value` stay; null sets the default",
    }


ROWS: tuple[Row, ...] = (row_of(GEMINI_KEYS), row_of(CLAUDE_KEYS), row_of(CODEX_KEYS), row_of(COMPATIBLE))
