"""Where the elements of the configuration's lists stand in the file, and how a changed list is put back there.

A list of the API stands on a *shelf*, which is one list of the file, or two that are shown as one: Gemini keys are
objects under `gemini-api-key` and plain keys under `generative-language-api-key`. An edit is a new sequence of elements.
Each that stands in the file already knows where, so its comments and its unknown members go with it. It also stays in
its list of the file as long as that can hold it: a plain key that gains a second member moves to the objects.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

from msgspec import Struct

from cliproxy.config.editing import Add, Draft, Keep, Path
from cliproxy.config.schema import (
    ClaudeKey,
    CodexKey,
    CompatibilityKey,
    Config,
    GeminiKey,
    Model,
    OpenAICompatibility,
)
from cliproxy.gateway.plane import Plane
from cliproxy.server.management.base import OK, Answer, Asked, told
from cliproxy.server.management.entries import changed_lists, changes, written
from cliproxy.wire.secrets import Secret

_T = TypeVar("_T")

_MOST_CHARACTERS = 500_000
"""To be read for the lists inside elements: some two seconds. Who changes the models of hundreds of entries at once
gets those lists written anew, which loses the comments within."""


class Home(Struct, Generic[_T], frozen=True, eq=False):
    """One list of the file. `stored` gives what stands there for an element; `holds` says whether that tells all."""

    key: str
    read: Callable[[Config], Sequence[_T]]
    stored: Callable[[_T], object] = lambda value: value
    holds: Callable[[_T], bool] = lambda _: True


class Element(Struct, Generic[_T], frozen=True, eq=False):
    """A value as it shall be, and where it stands in the file now: at `index` of `home`. None: nowhere yet."""

    value: _T
    home: Home[_T]
    index: int | None = None

    def with_value(self, value: _T) -> Element[_T]:
        return Element(value, self.home, self.index)


class Shelf(Struct, Generic[_T], frozen=True, eq=False):
    """`homes` in the order in which they are shown; `newcomers` is the one for new elements."""

    homes: tuple[Home[_T], ...]
    newcomers: Home[_T]

    def values(self, config: Config) -> list[_T]:
        return [element.value for element in self.elements(config)]

    def elements(self, config: Config) -> list[Element[_T]]:
        return [Element(value, home, index) for home in self.homes for index, value in enumerate(home.read(config))]

    def new(self, value: _T) -> Element[_T]:
        return Element(value, self.newcomers)

    def put(self, draft: Draft, config: Config, elements: Sequence[Element[_T]]) -> None:
        """Make the lists of the file hold these elements. `config` is what the draft was read as."""
        settled = [self._settled(element) for element in elements]
        for home in self.homes:
            mine = [element for element in settled if element.home is home]
            old = [home.stored(value) for value in home.read(config)]
            new = [home.stored(element.value) for element in mine]
            _put_list(draft, (home.key,), old, new, [element.index for element in mine])

    def _settled(self, element: Element[_T]) -> Element[_T]:
        if element.home.holds(element.value):
            return element
        return Element(element.value, next(home for home in self.homes if home.holds(element.value)))


async def change(
    plane: Plane,
    asked: Asked,
    show: Callable[[Config], object],
    shelf: Shelf[_T],
    edited: Callable[[list[Element[_T]]], list[Element[_T]]],
) -> Answer:
    """Carry out one edit of a list, if it still is what `If-Match` says; `show` is what a GET answers."""

    def edit(draft: Draft, config: Config) -> None:
        asked.expect(told(show(config)))
        shelf.put(draft, config, edited(shelf.elements(config)))

    await plane.desk.change(edit)
    return OK


def paired(old: Sequence[_T], new: Sequence[_T], *keys: Callable[[_T], Hashable]) -> list[int | None]:
    """For each new value the index of the old one that it continues, or None; none is used twice.

    Two belong together when a key says the same of both, and each key is asked about those that earlier ones left.
    """
    found: list[int | None] = [None] * len(new)
    left = dict(enumerate(old))
    for key in keys:
        waiting: defaultdict[Hashable, deque[int]] = defaultdict(deque)
        for index, value in left.items():
            waiting[key(value)].append(index)
        for position, value in enumerate(new):
            if found[position] is None and (indexes := waiting.get(key(value))):
                found[position] = index = indexes.popleft()
                del left[index]
    return found


def _put_list(
    draft: Draft, path: Path, old: Sequence[object], new: Sequence[object], indexes: Sequence[int | None]
) -> None:
    """`indexes` say which old element each new one continues. Lists inside elements are treated alike, as far as time
    allows: each is an edit of its own, which reads the whole text."""
    continued = list(zip(indexes, new, strict=True))
    if len(old) == len(new) and all(
        index == position and old[position] == value for position, (index, value) in enumerate(continued)
    ):
        return
    inner = [
        (position, *changed)
        for position, (index, value) in enumerate(continued)
        if index is not None and isinstance(was := old[index], Struct) and isinstance(value, Struct)
        for changed in changed_lists(was, value)
    ]
    in_time = len(inner) * len(draft.text) <= _MOST_CHARACTERS
    draft.rearrange(
        path,
        [
            Add(written(value)) if index is None else _kept(index, old[index], value, lists_apart=in_time)
            for index, value in continued
        ],
    )
    for position, name, inner_old, inner_new in inner if in_time else ():
        inner_indexes = paired(inner_old, inner_new, _whole, _identity)
        _put_list(draft, (*path, position, name), inner_old, inner_new, inner_indexes)


def _kept(index: int, was: object, value: object, *, lists_apart: bool) -> Keep:
    if was == value:
        return Keep(index)
    if isinstance(was, Struct) and isinstance(value, Struct):
        return Keep(index, members=changes(was, value, lists_apart=lists_apart))
    return Keep(index, value=str(written(value)))


def _whole(value: object) -> Hashable:
    assert isinstance(value, Hashable)
    return value


def _identity(value: object) -> Hashable:
    match value:
        case Model():
            return value.name
        case CompatibilityKey():
            return value.api_key
        case _:
            return _whole(value)


def is_only_key(entry: GeminiKey) -> bool:
    """Whether the key is all there is to say."""
    return entry == GeminiKey(api_key=entry.api_key)


_API_KEYS: Home[Secret] = Home("api-keys", lambda config: config.api_keys)
_GEMINI_OBJECTS: Home[GeminiKey] = Home("gemini-api-key", lambda config: config.gemini_api_key)
_GEMINI_TEXTS: Home[GeminiKey] = Home(
    "generative-language-api-key",
    lambda config: [GeminiKey(api_key=key) for key in config.generative_language_api_key],
    stored=lambda entry: entry.api_key,
    holds=is_only_key,
)
_CLAUDE: Home[ClaudeKey] = Home("claude-api-key", lambda config: config.claude_api_key)
_CODEX: Home[CodexKey] = Home("codex-api-key", lambda config: config.codex_api_key)
_COMPATIBLE: Home[OpenAICompatibility] = Home("openai-compatibility", lambda config: config.openai_compatibility)

API_KEYS = Shelf((_API_KEYS,), _API_KEYS)
GEMINI_OBJECTS = Shelf((_GEMINI_OBJECTS, _GEMINI_TEXTS), _GEMINI_OBJECTS)
GEMINI_TEXTS = Shelf((_GEMINI_OBJECTS, _GEMINI_TEXTS), _GEMINI_TEXTS)
CLAUDE = Shelf((_CLAUDE,), _CLAUDE)
CODEX = Shelf((_CODEX,), _CODEX)
COMPATIBLE = Shelf((_COMPATIBLE,), _COMPATIBLE)
