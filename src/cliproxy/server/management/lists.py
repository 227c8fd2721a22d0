"""Lists of texts: GET shows one, PUT replaces it, PATCH changes or adds one element, DELETE removes.

A row is one `TextList`. Gemini keys are a list of texts here and a list of objects in `entry_lists`; a text then
stands for every entry with that key, and writing one never drops what an entry has besides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

from msgspec import Struct, structs
from msgspec.json import Decoder

from cliproxy.canon.errors import InvalidRequest, NotFound
from cliproxy.config.schema import Config, GeminiKey
from cliproxy.gateway.plane import Plane
from cliproxy.server.management import shelves
from cliproxy.server.management.base import DONE, STALE, Answer, Asked, Operation, Parameter, Row, Schema, told
from cliproxy.server.management.shelves import Element, Shelf, change
from cliproxy.wire.secrets import Secret

_T = TypeVar("_T")

_INDEX = re.compile(r"-?[0-9]+", re.ASCII)
_NO_SUCH = "item not found"
_TOO_MANY_DIGITS = 10
INDEX = Parameter(name="index", what="Its position, from 0.", schema={"type": "integer", "minimum": 0})


class TextList(Struct, Generic[_T], frozen=True, kw_only=True, eq=False):
    """`text` is what an element is called by; `new` makes one; `renamed` is one under another text."""

    name: str
    what: str
    shelf: Shelf[_T]
    text: Callable[[_T], str]
    new: Callable[[str], _T]
    renamed: Callable[[_T, str], _T]

    def show(self, config: Config) -> Mapping[str, list[str]]:
        return {self.name: [self.text(value) for value in self.shelf.values(config)]}


API_KEYS: TextList[Secret] = TextList(
    name="api-keys",
    what="the keys with which clients may call",
    shelf=shelves.API_KEYS,
    text=Secret.reveal,
    new=Secret,
    renamed=lambda _, text: Secret(text),
)
GEMINI_KEYS: TextList[GeminiKey] = TextList(
    name="generative-language-api-key",
    what="the Gemini API keys, without what else is said about them",
    shelf=shelves.GEMINI_TEXTS,
    text=lambda entry: entry.api_key.reveal(),
    new=lambda text: GeminiKey(api_key=Secret(text)),
    renamed=lambda entry, text: structs.replace(entry, api_key=Secret(text)),
)


# -- what may be sent -------------------------------------------------------------------------------------------------


class _Items(Struct):
    items: tuple[str, ...]


class _Patch(Struct):
    """Both ways may be given; `index` wins where it can."""

    index: int | None = None
    value: str | None = None
    old: str | None = None
    new: str | None = None


_REPLACEMENT = Decoder(tuple[str, ...] | _Items)
_PATCH = Decoder(_Patch)


def position(text: str | None, count: int) -> int | None:
    """Where `?index=` points; None when it points outside of `count` elements or is no number."""
    if not is_index(text) or len(text or "") > _TOO_MANY_DIGITS:
        return None
    index = int(text or "")
    return index if 0 <= index < count else None


def is_index(text: str | None) -> bool:
    return text is not None and _INDEX.fullmatch(text) is not None


# -- edits: a sequence of elements to another -------------------------------------------------------------------------


def _replaced(of: TextList[_T], elements: Sequence[Element[_T]], texts: Sequence[str]) -> list[Element[_T]]:
    standing: dict[str, list[Element[_T]]] = {}
    for element in elements:
        alike = standing.setdefault(of.text(element.value), [])
        if all(other.value != element.value for other in alike):
            alike.append(element)
    wanted = dict.fromkeys(text.strip() for text in texts if text.strip())
    return [element for text in wanted for element in standing.get(text) or [of.shelf.new(of.new(text))]]


def _patched(of: TextList[_T], elements: Sequence[Element[_T]], patch: _Patch) -> list[Element[_T]]:
    if patch.index is not None and patch.value is not None and 0 <= patch.index < len(elements):
        return _renamed(of, elements, patch.index, patch.value.strip())
    if patch.old is None or patch.new is None:
        raise NotFound(_NO_SUCH)
    old, new = patch.old.strip(), patch.new.strip()
    texts = [of.text(element.value) for element in elements]
    if old and old in texts:
        return _renamed(of, elements, texts.index(old), new)
    return [*elements] if new in texts else [*elements, of.shelf.new(of.new(new))]


def _renamed(of: TextList[_T], elements: Sequence[Element[_T]], index: int, text: str) -> list[Element[_T]]:
    """With its later duplicates dropped, or itself when it comes to be one."""
    value = of.renamed(elements[index].value, text)
    renamed = [*elements]
    renamed[index] = elements[index].with_value(value)
    first = next(position for position, element in enumerate(renamed) if element.value == value)
    return [element for position, element in enumerate(renamed) if position <= first or element.value != value]


def _without(of: TextList[_T], elements: Sequence[Element[_T]], asked: Asked) -> list[Element[_T]]:
    index, text = asked.first("index"), (asked.first("value") or "").strip()
    if (place := position(index, len(elements))) is not None:
        return [element for at, element in enumerate(elements) if at != place]
    if not text:
        raise NotFound(_NO_SUCH) if is_index(index) else InvalidRequest("missing index or value")
    left = [element for element in elements if of.text(element.value) != text]
    if len(left) == len(elements):
        raise NotFound(_NO_SUCH)
    return left


# -- rows -------------------------------------------------------------------------------------------------------------


def row_of(of: TextList[_T]) -> Row:
    async def show(plane: Plane, _: Asked) -> Answer:
        return told(of.show(plane.desk.config))

    async def replace(plane: Plane, asked: Asked) -> Answer:
        body = await asked.json(_REPLACEMENT)
        texts = body.items if isinstance(body, _Items) else body
        return await change(plane, asked, of.show, of.shelf, lambda elements: _replaced(of, elements, texts))

    async def patch(plane: Plane, asked: Asked) -> Answer:
        body = await asked.json(_PATCH)
        if None in (body.index, body.value) and None in (body.old, body.new):
            raise InvalidRequest("missing fields")
        if any(text is not None and not text.strip() for text in (body.value, body.new)):
            raise InvalidRequest("invalid body")
        return await change(plane, asked, of.show, of.shelf, lambda elements: _patched(of, elements, body))

    async def remove(plane: Plane, asked: Asked) -> Answer:
        return await change(plane, asked, of.show, of.shelf, lambda elements: _without(of, elements, asked))

    return Row(
        path=f"/{of.name}",
        tag="Lists",
        operations={
            "GET": Operation(handle=show, summary=f"Show {of.what}", answers={200: _shown_as(of)}),
            "PUT": Operation(
                handle=replace,
                summary=f"Replace {of.what}",
                bodies={"application/json": _REPLACING},
                answers=DONE,
                refusals={400: "The body is not as described, or a text cannot be such a key.", **STALE},
            ),
            "PATCH": Operation(
                handle=patch,
                summary=f"Change one of {of.what}, by its position or its old text; an unknown `old` adds `new`",
                bodies={"application/json": _PATCHING},
                answers=DONE,
                refusals={400: "The body is not as described, or `missing fields`.", 404: NOT_THERE, **STALE},
            ),
            "DELETE": Operation(
                handle=remove,
                summary=f"Remove one of {of.what}",
                parameters=(INDEX, Parameter(name="value", what="Its text, where `index` points nowhere.")),
                answers=DONE,
                refusals={400: "`missing index or value`", 404: NOT_THERE, **STALE},
            ),
        },
    )


NOT_THERE = "`item not found`"
_TEXT: Schema = {"type": "string"}
_TEXTS: Schema = {"type": "array", "items": _TEXT}
_REPLACING: Schema = {
    "oneOf": [_TEXTS, {"type": "object", "required": ["items"], "properties": {"items": _TEXTS}}],
    "description": "trimmed; what is empty or repeated is left out",
}
_PATCHING: Schema = {
    "oneOf": [
        {
            "type": "object",
            "required": ["index", "value"],
            "properties": {"index": {"type": "integer"}, "value": _TEXT},
        },
        {"type": "object", "required": ["old", "new"], "properties": {"old": _TEXT, "new": _TEXT}},
    ],
    "description": "`index` wins where it can",
}


def members_of(of: TextList[_T]) -> Mapping[str, Schema]:
    """How what is shown is described."""
    return {of.name: _TEXTS}


def _shown_as(of: TextList[_T]) -> Schema:
    return {"type": "object", "required": [of.name], "properties": members_of(of)}


ROWS: tuple[Row, ...] = (row_of(API_KEYS), row_of(GEMINI_KEYS))
