"""What documents mean, as numbers: equal meaning, equal number.

An edit is proved by comparing two trees. Trees with aliases can be astronomically large when written out, so nothing
is ever written out: every distinct meaning gets a number, and that of a list or a mapping is found by the numbers of its
members. A tree with a value replaced is computed here too, in the same numbers, without looking at any text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from cliproxy.config.rendering import Plain, is_misread, scalar_text
from cliproxy.config.rules import whole_number
from cliproxy.config.tree import Branch, Items, Pairs, Scalar

Meaning = int
_Content = tuple[str, str] | tuple[str, tuple[Meaning, ...]] | tuple[str, frozenset[tuple[str, Meaning]]]

_TRUE = frozenset({"true", "yes", "on", "y"})
_FALSE = frozenset({"false", "no", "off", "n"})


class Meanings:
    """One numbering; numbers of different ones do not compare."""

    def __init__(self) -> None:
        self._numbers: dict[_Content, Meaning] = {}
        self._contents: list[_Content] = []
        self._pairs: dict[Meaning, dict[str, Meaning]] = {}
        self.nothing = self._number(("null", ""))

    def of(self, branch: Branch | None) -> Meaning:
        """An empty document means nothing, as `null` does."""
        return self.nothing if branch is None else self._of(branch, {})

    def of_value(self, value: Plain) -> Meaning:
        if isinstance(value, Mapping):
            return self._of_pairs({key: self.of_value(item) for key, item in value.items()})
        if isinstance(value, Sequence) and not isinstance(value, str):
            return self.of_items([self.of_value(item) for item in value])
        match value:
            case None:
                return self.nothing
            case str():
                return self._number(("text", value))
            case bool():
                return self._number(("bool", scalar_text(value)))
            case int() | float():
                return self._number((type(value).__name__, scalar_text(value)))

    def of_items(self, items: Sequence[Meaning]) -> Meaning:
        return self._number(("items", tuple(items)))

    def items_in(self, number: Meaning) -> Sequence[Meaning]:
        """The elements of a list; none of what is no list."""
        name, content = self._contents[number]
        return [item for item in content if isinstance(item, int)] if name == "items" else ()

    def pairs_in(self, number: Meaning) -> Mapping[str, Meaning]:
        """The members of a mapping; none of what is no mapping."""
        return self._pairs.get(number, {})

    def changed(
        self, root: Meaning, path: Sequence[str | int], change: Callable[[Meaning | None], Meaning | None]
    ) -> Meaning:
        """The tree with one place changed: `change` gets what is there or None, and gives what shall be there or None.

        Mappings that are missing on the way come into being, in place of nothing only. Raises LookupError when the
        way leads through anything else, or to an element that is not there.
        """
        result = self._changed(root, path, change)
        return self.nothing if result is None else result

    def _changed(
        self, here: Meaning | None, path: Sequence[str | int], change: Callable[[Meaning | None], Meaning | None]
    ) -> Meaning | None:
        if not path:
            return change(here)
        step, below = path[0], path[1:]
        if isinstance(step, int):
            items = list(self.items_in(self.nothing if here is None else here))
            if not 0 <= step < len(items):
                raise LookupError(step)
            found = self._changed(items[step], below, change)
            items[step : step + 1] = [] if found is None else [found]
            return self.of_items(items)
        if here is not None and here != self.nothing and here not in self._pairs:
            raise LookupError(step)
        pairs = {} if here is None else dict(self.pairs_in(here))
        before = pairs.get(step)
        after = self._changed(before, below, change)
        if after == before:
            return here
        if after is None:
            pairs.pop(step, None)
        else:
            pairs[step] = after
        return self._of_pairs(pairs)

    def says(self, number: Meaning | None, value: Plain) -> bool:
        """Whether this already says the value, if in other words: `yes` for true, `0x10` for 16."""
        if number is None:
            return False
        if number == self.of_value(value):
            return True
        name, text = self._contents[number]
        if not isinstance(text, str):
            return False
        if isinstance(value, bool):
            return name in ("bool", "word") and text.lower() in (_TRUE if value else _FALSE)
        return isinstance(value, int) and name == "int" and whole_number(text) == value

    def _of(self, branch: Branch, known: dict[int, Meaning]) -> Meaning:
        match branch:
            case Scalar():
                return self._number(_scalar_content(branch))
            case Items():
                number = known.get(id(branch))
                if number is None:
                    number = known[id(branch)] = self.of_items([self._of(item, known) for item in branch.items])
                return number
            case Pairs():
                number = known.get(id(branch))
                if number is None:
                    pairs = {key.text: self._of(value, known) for key, value in branch.pairs}
                    number = known[id(branch)] = self._of_pairs(pairs)
                return number

    def _of_pairs(self, pairs: dict[str, Meaning]) -> Meaning:
        number = self._number(("pairs", frozenset(pairs.items())))
        self._pairs.setdefault(number, pairs)
        return number

    def _number(self, content: _Content) -> Meaning:
        number = self._numbers.get(content)
        if number is None:
            number = self._numbers[content] = len(self._contents)
            self._contents.append(content)
        return number


def _scalar_content(scalar: Scalar) -> _Content:
    """A word that some parser takes for another thing is not the same as that word in quotes."""
    match scalar.kind:
        case "text":
            return ("word" if scalar.is_plain and is_misread(scalar.text) else "text", scalar.text)
        case "null":
            return ("null", "")
        case "bool":
            return ("bool", scalar.text.lower())
        case kind:
            return (kind, scalar.text)
