"""Editing a configuration text so that everything that is not edited stays as it was written."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

from msgspec import Struct
from ruamel.yaml import YAML

Plain = None | bool | int | float | str | Sequence["Plain"] | Mapping[str, "Plain"]
Path = tuple[str | int, ...]
"""Keys and list positions from the root: `("claude-api-key", 1, "base-url")`."""


class Keep(Struct, frozen=True):
    """An element of the old list, with its comments. `members` are set in it, a None removes one; `value` replaces a
    plain element."""

    index: int
    members: Mapping[str, Plain] = {}
    value: str | None = None


class Add(Struct, frozen=True):
    """A new element."""

    value: Plain


class Draft:
    """A configuration text being edited. Raises ConfigError when the text is no YAML."""

    def __init__(self, text: str, name: str = "config.yaml") -> None:
        self._yaml = YAML()
        self._yaml.preserve_quotes = True
        self._yaml.width = 100000
        self._root = self._yaml.load(text) or {}
        self._text = text

    @property
    def text(self) -> str:
        return self._text

    def set(self, path: Path, value: Plain) -> None:
        """Write one value; keys that are not there are added."""
        node = self._root
        for part in path[:-1]:
            node = node.setdefault(part, {}) if isinstance(part, str) else node[part]
        node[path[-1]] = value
        self._dump()

    def remove(self, path: Path) -> None:
        """Take one value out, with its comment; nothing happens when it is not there."""
        node = self._root
        for part in path[:-1]:
            node = node[part]
        del node[path[-1]]
        self._dump()

    def rearrange(self, path: Path, items: Sequence[Keep | Add]) -> None:
        """Make the list at `path` consist of these elements, in this order."""
        node = self._root
        for part in path[:-1]:
            node = node.setdefault(part, {})
        old = node.get(path[-1]) or []
        new = []
        for item in items:
            if isinstance(item, Add):
                new.append(item.value)
                continue
            kept = old[item.index]
            if item.value is not None:
                kept = item.value
            for name, value in item.members.items():
                if value is None:
                    kept.pop(name, None)
                else:
                    kept[name] = value
            new.append(kept)
        node[path[-1]] = new
        self._dump()

    def _dump(self) -> None:
        out = io.StringIO()
        self._yaml.dump(self._root, out)
        self._text = out.getvalue()
