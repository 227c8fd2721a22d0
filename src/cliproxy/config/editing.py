"""Editing a configuration text so that everything that is not edited stays as it was written.

An edit replaces the characters it must and no others: nodes know their span, new values are written into it, whatever
stands around them is not even looked at. That is easily got wrong, so no edit is trusted. The meaning it is to have is
computed first, on the tree; then the new text is parsed, and it must have exactly this meaning. If it has not, ruamel
edits and writes the document as a whole, which may move comments and indentation; that is proved too. If that fails as
well, the text stays as it is and the caller gets a ConfigError.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from cliproxy.config.issues import ConfigError, Issue
from cliproxy.config.layout import Splice, Unspliceable
from cliproxy.config.meanings import Meaning, Meanings
from cliproxy.config.page import Page
from cliproxy.config.rendering import Plain
from cliproxy.config.rewriting import Written, rearrange_in, remove_in, rewritten, set_in
from cliproxy.config.sharing import Touch, separated
from cliproxy.config.splicing import (
    Add,
    Keep,
    Path,
    closing_splices,
    rearrange_splices,
    remove_splices,
    set_splices,
)
from cliproxy.config.tree import Branch, shown_key

__all__ = ["Add", "Draft", "Keep", "Path", "Plain"]

_BOM = "\ufeff"
_MAX_STEPS = 1000


class _Edit(Struct, frozen=True):
    """One edit, three times: on the tree, on the text, and on the document that ruamel writes."""

    path: Path
    meaning: Callable[[Meaning | None], Meaning | None]
    touches: Sequence[Touch]
    splices: Callable[[Page], list[Splice]]
    rewrite: Callable[[Written], None]


class Draft:
    """A configuration text being edited. Raises ConfigError when the text is no YAML.

    Each edit raises ConfigError, and leaves the text alone, when its path leads through something that is neither a
    mapping nor a list, to an element that is not there, or when no way was found to write it down. Only the place that
    is named changes its meaning: what aliases share with it is taken apart.
    """

    def __init__(self, text: str, name: str = "config.yaml") -> None:
        self._bom = _BOM if text.startswith(_BOM) else ""
        self._name = name
        self._page = Page.of(text.removeprefix(_BOM), name, Meanings())

    @property
    def text(self) -> str:
        return self._bom + self._page.text

    @property
    def tree(self) -> Branch | None:
        """What the text says, as `tree.parse` gives it."""
        root = self._page.root
        return None if root is None else self._page.branch(root)

    def set(self, path: Path, value: Plain) -> None:
        """Write one value; keys that are not there are added."""
        meanings = self._page.meanings

        def meant(old: Meaning | None) -> Meaning | None:
            return old if meanings.says(old, value) else meanings.of_value(value)

        self._carry_out(
            _Edit(
                path,
                meant,
                [Touch(path, "write")],
                lambda page: set_splices(page, path, value),
                lambda root: set_in(root, path, value),
            )
        )

    def remove(self, path: Path) -> None:
        """Take one value out, with its comment; nothing happens when it is not there."""
        self._carry_out(
            _Edit(
                path,
                lambda _: None,
                [Touch(path, "remove"), Touch(path[:-1], "enter")],
                lambda page: remove_splices(page, path),
                lambda root: remove_in(root, path),
            ),
            must_exist=False,
        )

    def rearrange(self, path: Path, items: Sequence[Keep | Add]) -> None:
        """Make the list at `path` consist of these elements, in this order.

        An element may be kept once. A list that is not there is made, unless there are no elements to put into it.
        """
        self._carry_out(
            _Edit(
                path,
                lambda old: self._rearranged(old, items),
                _rearranging_touches(path, items, len(self._page.meanings.items_in(self._meaning_at(path)))),
                lambda page: rearrange_splices(page, path, items),
                lambda root: rearrange_in(root, path, items),
            )
        )

    def _meaning_at(self, path: Path) -> Meaning:
        meanings, number = self._page.meanings, self._page.meaning
        for step in path:
            if isinstance(step, str):
                number = meanings.pairs_in(number).get(step, meanings.nothing)
            else:
                items = meanings.items_in(number)
                number = items[step] if 0 <= step < len(items) else meanings.nothing
        return number

    def _rearranged(self, old: Meaning | None, items: Sequence[Keep | Add]) -> Meaning | None:
        meanings = self._page.meanings
        if not items and (old is None or old == meanings.nothing):
            return old
        elements = meanings.items_in(meanings.nothing if old is None else old)
        kept = [item.index for item in items if isinstance(item, Keep)]
        if len(set(kept)) < len(kept) or any(not 0 <= index < len(elements) for index in kept):
            raise LookupError
        return meanings.of_items(
            [
                meanings.of_value(item.value) if isinstance(item, Add) else self._kept(elements[item.index], item)
                for item in items
            ]
        )

    def _kept(self, element: Meaning, item: Keep) -> Meaning:
        meanings = self._page.meanings
        if item.value is not None:
            return element if meanings.says(element, item.value) else meanings.of_value(item.value)
        for name, value in item.members.items():
            element = meanings.changed(
                element,
                (name,),
                lambda old, value=value: (
                    None if value is None else old if meanings.says(old, value) else meanings.of_value(value)
                ),
            )
        return element

    # -- carrying out -------------------------------------------------------------------------------------------------

    def _carry_out(self, edit: _Edit, *, must_exist: bool = True) -> None:
        meanings = self._page.meanings
        try:
            wanted = meanings.changed(self._page.meaning, edit.path, edit.meaning)
        except LookupError:
            if must_exist:
                raise self._refusal(edit.path, "there is no place for this value; repair the file by hand") from None
            return
        if wanted == self._page.meaning:
            return
        page = self._spliced(edit, wanted) or self._rewritten(edit, wanted)
        if page is None:
            raise self._refusal(edit.path, "cannot be edited without harm to the rest; edit the file by hand")
        self._page = page

    def _spliced(self, edit: _Edit, wanted: Meaning) -> Page | None:
        page = self._page
        return self._spliced_on(page, edit, wanted) or self._spliced_on(self._same(page, closing_splices), edit, wanted)

    def _spliced_on(self, page: Page | None, edit: _Edit, wanted: Meaning) -> Page | None:
        for _ in range(_MAX_STEPS):
            if page is None:
                return None
            apart = self._same(page, lambda page: separated(page, edit.touches))
            if apart is page:
                after = self._edited(page, edit.splices)
                return self._with_old_end(after) if after is not None and after.meaning == wanted else None
            page = apart
        return None

    def _same(self, page: Page, splices: Callable[[Page], list[Splice]]) -> Page | None:
        """The page with splices that are not to change its meaning."""
        after = self._edited(page, splices)
        return after if after is not None and after.meaning == page.meaning else None

    def _edited(self, page: Page, splices: Callable[[Page], list[Splice]]) -> Page | None:
        try:
            found = splices(page)
            return page.with_splices(found, self._name) if found else page
        except (ConfigError, Unspliceable):
            return None

    def _with_old_end(self, page: Page) -> Page:
        """A file without a line break at its end keeps that, where the last value does not depend on it."""
        if self._page.text.endswith("\n") or not self._page.text or not page.text.endswith("\n"):
            return page
        bare = Page.of(page.text.removesuffix("\n").removesuffix("\r"), self._name, page.meanings)
        return bare if bare.meaning == page.meaning else page

    def _rewritten(self, edit: _Edit, wanted: Meaning) -> Page | None:
        text = rewritten(self._page.text, edit.rewrite)
        if text is None:
            return None
        try:
            page = Page.of(text.replace("\n", self._page.break_), self._name, self._page.meanings)
        except ConfigError:
            return None
        return page if page.meaning == wanted else None

    def _refusal(self, path: Path, message: str) -> ConfigError:
        steps = (f"[{step}]" if isinstance(step, int) else f".{shown_key(step)}" for step in path)
        return ConfigError([Issue(self._name, "$" + "".join(steps), 1, 1, message)])


def _rearranging_touches(path: Path, items: Sequence[Keep | Add], count: int) -> list[Touch]:
    touches = [Touch(path, "enter")]
    kept = {item.index: item for item in items if isinstance(item, Keep)}
    # In another order an alias could come to stand before its anchor.
    is_reordered = list(kept) != sorted(kept)
    for index in range(count):
        item = kept.get(index)
        if item is None or item.value is not None or is_reordered:
            touches.append(Touch((*path, index), "write"))
        if item is not None and item.members:
            for name, value in item.members.items():
                touches.append(Touch((*path, index, name), "remove" if value is None else "write"))
            if None in item.members.values():
                touches.append(Touch((*path, index), "enter"))
    return touches
