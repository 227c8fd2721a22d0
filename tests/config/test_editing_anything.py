"""Random edits of random files: what they mean, and what they leave alone.

`Author` writes files in which every line knows where it belongs, so that a test can say which may be touched.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from cliproxy.config.editing import Add, Draft, Keep

Where = tuple[object, ...]
"""A path; with "-" behind it, what stands between the members and belongs to none of them."""
Line = tuple[str, Where | None]


class Author:
    """Writes one document. `lines` has each line with the place it belongs to; None is nobody's."""

    def __init__(self, random: Random, *, shares: bool = False) -> None:
        self._random = random
        self._shares = shares
        self._count = 0
        self._anchors: list[str] = []
        self.has_keep = False

    def document(self) -> list[Line]:
        lines: list[Line] = [("# preface", None), ("", None)] if self._chance(0.3) else []
        if self._chance(0.1):
            lines = [("%YAML 1.2", None), ("---", None), *lines]
        lines += self._mapping(0, (), 3, many=True)
        if self._chance(0.2):
            lines += [("", None), ("# footer", None)]
        if self._chance(0.1):
            lines += [("...", None)]
        return lines

    def _chance(self, probability: float) -> bool:
        return self._random.random() < probability

    def _next(self) -> int:
        self._count += 1
        return self._count

    def _mapping(self, column: int, path: Where, depth: int, *, many: bool = False) -> list[Line]:
        lines: list[Line] = []
        merges = self._shares and depth < 3 and self._chance(0.15) and [a for a in self._anchors if a.startswith("m")]
        for index in range(self._random.randint(1, 6 if many else 3)):
            key = f"{'key ' if self._chance(0.1) else 'key-'}{self._next()}"
            shown = f'"{key}"' if self._chance(0.1) else key
            here = (*path, key)
            lines += self._above(column, here, path, is_first=not index)
            lines += self._entry(f"{' ' * column}{shown}{'  ' if self._chance(0.05) else ''}:", column, here, depth)
        if merges:
            lines.append((f"{' ' * column}<<: *{self._random.choice(merges)}", (*path, "<<")))
        return lines

    def _list(self, column: int, path: Where, depth: int) -> list[Line]:
        lines: list[Line] = []
        for index in range(self._random.randint(1, 4)):
            here = (*path, index)
            lines += self._above(column, here, path, is_first=not index)
            dash = " " * column + "-" + ("  " if self._chance(0.1) else "")
            if depth > 0 and self._chance(0.4):
                inner = self._mapping(len(dash) + 1, here, depth - 1)
                first = next(
                    i for i, (text, _) in enumerate(inner) if text.strip() and not text.lstrip().startswith("#")
                )
                if first == 0:
                    text, where = inner[0]
                    lines += [(f"{dash} {text.lstrip()}", where), *inner[1:]]
                else:
                    lines += [(dash, here), *inner]
            else:
                lines += self._entry(dash, column, here, 0)
        return lines

    def _above(self, column: int, here: Where, parent: Where, *, is_first: bool) -> list[Line]:
        lines: list[Line] = []
        if self._chance(0.1) and not (is_first and not parent):
            lines += [(f"{' ' * column}# stray {self._next()}", (*parent, "-")), ("", None)]
        elif self._chance(0.15) and not is_first:
            lines.append(("" if self._chance(0.8) else "  ", None))
        if self._chance(0.2):
            indent = " " * (column if self._chance(0.7) else self._random.randint(0, column))
            lines += [(f"{indent}# above {self._next()}", here) for _ in range(self._random.randint(1, 2))]
        return lines

    def _entry(self, start: str, column: int, here: Where, depth: int) -> list[Line]:
        note = f"{' ' * self._random.randint(1, 4)}# note {self._next()} 😀\tx" if self._chance(0.3) else ""
        gap = "  " if self._chance(0.1) else " "
        is_key = start.endswith(":")
        kind = self._random.random()
        anchor = ""
        if self._shares and self._chance(0.2):
            if self._anchors and self._chance(0.6):
                return [(f"{start}{gap}*{self._random.choice(self._anchors)}{note}", here)]
            anchor = f"x{self._next()}"
        if is_key and depth > 0 and kind < 0.45:
            below: list[Line]
            if kind < 0.25:
                anchor = anchor and "m" + anchor
                below = self._mapping(column + self._random.choice((2, 2, 2, 4, 3)), here, depth - 1)
            else:
                below = self._list(column + self._random.choice((2, 2, 0, 4)), here, depth - 1)
            opening = [(f"{start}{f' &{anchor}' if anchor else ''}{note}", here)]
            self._anchors += [anchor] if anchor else []
            return opening + below + self._below(column, here)
        property_ = f"&{anchor} " if anchor else ""
        self._anchors += [anchor] if anchor else []
        if kind > 0.9:
            style = self._random.choice(("|", ">", "|-", ">-", "|+"))
            self.has_keep = self.has_keep or "+" in style
            inner = " " * (column + 2)
            text = [(f"{inner}text {self._next()} # no comment", here), (f"{inner}more: {self._next()}", here)]
            return [(f"{start}{gap}{property_}{style}{note}", here), *text]
        if kind > 0.86:
            flow = self._long_flow(column)
            return [(f"{start}{gap}{property_}{flow[0]}", here), *((line, here) for line in flow[1:])]
        value = self._scalar() if kind < 0.8 else self._flow(2)
        tail = f"{gap}{property_}{value}".rstrip() if value or property_ else ""
        return [(f"{start}{tail}{note}", here), *self._below(column, here)]

    def _below(self, column: int, here: Where) -> list[Line]:
        return [(f"{' ' * (column + 2)}# below {self._next()}", here)] if self._chance(0.05) else []

    def _scalar(self) -> str:
        number = self._next()
        return self._random.choice(
            (f"word{number}", f"two words {number}", f'"double {number}"', f"'single {number}'", str(number), "true",
             "", "~", f"https://h{number}.example/?a=b#c", f"1.{number}", '"q\\t\\"x"', "'it''s'", f"é😀{number}")
        )  # fmt: skip

    def _flow(self, depth: int) -> str:
        pad = self._random.choice(("", "", " "))
        count = self._random.randint(0, 3)
        if self._chance(0.5):
            items = [self._flow_item(depth) for _ in range(count)]
            return f"[{pad}{', '.join(items)}{pad}]"
        pairs = [f"k{self._next()}: {self._flow_item(depth)}" for _ in range(count)]
        return "{" + pad + ", ".join(pairs) + pad + "}"

    def _flow_item(self, depth: int) -> str:
        if depth and self._chance(0.2):
            return self._flow(depth - 1)
        number = self._next()
        return self._random.choice((f"w{number}", f'"d {number}"', f"'s {number}'", str(number), "false"))

    def _long_flow(self, column: int) -> list[str]:
        indent = " " * (column + 2)
        lines = ["[" + (" # opening" if self._chance(0.3) else "")]
        count = self._random.randint(1, 3)
        for index in range(count):
            if self._chance(0.3):
                lines.append(f"{indent}# above {self._next()}")
            comma = "," if index < count - 1 or self._chance(0.3) else ""
            note = f" # note {self._next()}" if self._chance(0.3) else ""
            lines.append(f"{indent}{self._flow_item(1)}{comma}{note}")
        return [*lines, f"{' ' * (column + 1)}]"]


EXAMPLES = int(os.environ.get("EDITING_EXAMPLES", "120"))
VALUES = ["plain", "yes", "1.0", "- x", "a: b", "a #b", "", " x ", "*x", "null", "😀", "two\nlines", True, False, 7, 0.5,
          "x" * 200, "a, b]", {"a": 1, "b": ["x", {"c": "no"}]}, [], {}, ["p", "q"], "~/x", "127.0.0.1", "$2b$10$a.b/c"]  # fmt: skip
TEXTS = [value for value in VALUES if isinstance(value, str)]

seeds = st.integers(min_value=0, max_value=2**64)
anything = settings(max_examples=EXAMPLES, deadline=None)


def load(text: str) -> object:
    yaml = YAML(typ="safe", pure=True)
    yaml.composer.warn_double_anchors = False
    return yaml.load(text) or {}


def written(random: Random, *, shares: bool = False) -> tuple[str, list[Line]]:
    lines = Author(random, shares=shares).document()
    break_ = random.choice(["\n", "\n", "\r\n"])
    ends_in_a_block = "more: " in lines[-1][0]  # whose last line break is part of its value
    text = break_.join(line for line, _ in lines) + ("" if random.random() < 0.2 and not ends_in_a_block else break_)
    return ("\ufeff" if random.random() < 0.1 else "") + text, lines


def places(value: object, path: tuple = ()) -> list[tuple]:
    found = [path] if path else []
    if isinstance(value, dict):
        return found + [place for key, item in value.items() for place in places(item, (*path, key))]
    if isinstance(value, list):
        return found + [place for index, item in enumerate(value) for place in places(item, (*path, index))]
    return found


def at(value, path):
    for step in path:
        value = value[step]
    return value


def put(root, path, value):
    root = copy.deepcopy(unshared(root))
    at(root, path[:-1])[path[-1]] = value
    return root


def unshared(value):
    """A tree without the objects that aliases share."""
    if isinstance(value, dict):
        return {key: unshared(item) for key, item in value.items()}
    return [unshared(item) for item in value] if isinstance(value, list) else value


def assert_lines_stay(old: list[Line], new: str, path: tuple) -> None:
    """What belongs neither to the place nor to what is around it is there as it was, in its order."""
    remaining = iter(line.lstrip(" -") for line in new.removeprefix("\ufeff").splitlines())
    for line, where in old:
        if where is None or where == path[: len(where)] or where[: len(path)] == path:
            continue
        assert line.lstrip(" -") in remaining, f"{line!r} is gone"


def comments_of(lines: Iterable[Line]) -> list[str]:
    """Each is unique, but for those at an opening bracket, which belong to no element."""
    texts = [text for text, _ in lines if "# " in text and "no comment" not in text and "# opening" not in text]
    return [text[text.rindex("# ") :] for text in texts]


def is_within(where: Where | None, path: tuple) -> bool:
    return where is not None and where[: len(path)] == path


@anything
@given(seeds)
def test_a_value_that_is_set_changes_nothing_else(seed):
    random = Random(seed)
    text, lines = written(random)
    before = load(text)
    path = random.choice(places(before))
    value = random.choice(VALUES)
    draft = Draft(text)

    draft.set(path, value)

    assert load(draft.text) == put(before, path, value)
    assert_lines_stay(lines, draft.text, path)
    again = Draft(draft.text)
    again.set(path, value)
    assert again.text == draft.text


@anything
@given(seeds)
def test_a_plain_value_that_is_set_changes_one_line(seed):
    random = Random(seed)
    text, _ = written(random)
    before = load(text)
    path = random.choice(places(before))
    draft = Draft(text)
    value = random.choice(TEXTS)
    old = at(before, path)
    if isinstance(old, dict | list) or (isinstance(old, str) and "\n" in old) or "text" in str(old):
        return

    draft.set(path, value)

    olds, news = text.split("\n"), draft.text.split("\n")
    assert len(olds) == len(news)
    assert sum(a != b for a, b in zip(olds, news, strict=True)) <= 1


@anything
@given(seeds)
def test_a_key_that_is_added_only_adds_lines(seed):
    random = Random(seed)
    text, lines = written(random)
    before = load(text)
    parents = [(), *(place for place in places(before) if isinstance(at(before, place), dict) and at(before, place))]
    parent = random.choice(parents)
    value = random.choice(VALUES)
    path = (*parent, "new-key")
    draft = Draft(text)

    draft.set(path, value)

    assert load(draft.text) == put(before, path, value)
    assert_lines_stay(lines, draft.text, path)
    if isinstance(value, str) and "{" not in text:
        assert len(draft.text.splitlines()) == len(text.splitlines()) + 1
    draft.remove(path)
    assert load(draft.text) == before
    assert_lines_stay(lines, draft.text, path)


@anything
@given(seeds)
def test_what_is_removed_takes_its_comments_and_nothing_else(seed):
    random = Random(seed)
    text, lines = written(random)
    before = load(text)
    path = random.choice(places(before))
    after = copy.deepcopy(before)
    del at(after, path[:-1])[path[-1]]
    draft = Draft(text)

    draft.remove(path)

    assert load(draft.text) == after
    assert_lines_stay(lines, draft.text, path)
    gone = comments_of(line for line in lines if is_within(line[1], path))
    left = [line[max(line.rfind("# "), 0) :] for line in draft.text.splitlines()]
    assert [comment for comment in gone if comment in left] == []


@anything
@given(seeds, st.booleans())
def test_a_list_is_rearranged_with_what_belongs_to_its_elements(seed, shares):
    random = Random(seed)
    text, lines = written(random, shares=shares)
    before = unshared(load(text))
    lists = [place for place in places(before) if isinstance(at(before, place), list)]
    if not lists:
        return
    path = random.choice(lists)
    plan = Plan(random, at(before, path))
    draft = Draft(text)

    draft.rearrange(path, plan.items)

    assert load(draft.text) == put(before, path, plan.wanted)
    if not shares:
        untouched = [line for line in lines if line[1] and any(is_within(line[1], (*path, i)) for i in plan.untouched)]
        outside = [line for line in lines if not is_within(line[1], path)]
        assert_lines_stay(outside, draft.text, path)
        assert [comment for comment in comments_of(untouched) if comment not in draft.text] == []
    if not shares and plan.kept == sorted(plan.kept):
        assert_lines_stay(untouched, draft.text, (*path, "elsewhere"))
    same = Draft(draft.text)
    same.rearrange(path, [Keep(index) for index in range(len(plan.wanted))])
    assert same.text == draft.text


class Plan:
    """How a list shall be rearranged, and what comes of it."""

    def __init__(self, random: Random, old: list) -> None:
        self.kept = random.sample(range(len(old)), random.randint(0, len(old)))
        if random.random() < 0.6:
            self.kept.sort()
        self.untouched = set(self.kept)
        self.items: list[Keep | Add] = []
        self.wanted: list[object] = []
        for index in self.kept:
            if random.random() < 0.2:
                value = random.choice(VALUES)
                self.items.append(Add(value))
                self.wanted.append(value)
            keep, element = self._keep(random, index, old[index])
            self.items.append(keep)
            self.wanted.append(element)

    def _keep(self, random: Random, index: int, element: object) -> tuple[Keep, object]:
        if isinstance(element, dict) and element and random.random() < 0.4:
            self.untouched.discard(index)
            name, value = random.choice([*element, "new"]), random.choice([*TEXTS, None, 5])
            members = {**element, name: value}
            if value is None:
                del members[name]
            return Keep(index, members={name: value}), members
        if isinstance(element, str) and random.random() < 0.3:
            self.untouched.discard(index)
            text = random.choice(TEXTS)
            return Keep(index, value=text), text
        return Keep(index), element


@anything
@given(seeds)
def test_an_edit_of_what_is_shared_changes_one_place(seed):
    random = Random(seed)
    text, _ = written(random, shares=True)
    before = unshared(load(text))
    path = random.choice(places(before))
    draft = Draft(text)

    if random.random() < 0.5:
        value = random.choice(VALUES)
        draft.set(path, value)
        after = put(before, path, value)
    else:
        draft.remove(path)
        after = copy.deepcopy(before)
        del at(after, path[:-1])[path[-1]]

    assert load(draft.text) == after
