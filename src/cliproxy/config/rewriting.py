"""The long way to edit a text: ruamel reads the document, and writes it as a whole.

It keeps comments, order and quotes, mostly, but moves comments and indentation. It is for shapes that splicing does not
know (a pair without braces in a list, an anchor that would come to stand behind its alias).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, MutableMapping, MutableSequence, Sequence

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from cliproxy.config.rendering import Plain
from cliproxy.config.splicing import Keep, Path, Piecewise

Written = None | bool | int | float | str | MutableSequence["Written"] | MutableMapping[str, "Written"]

# ruamel 0.19 ends in plain Python errors on some inputs, and an edit without a place in one of the last three.
_ERRORS = (
    YAMLError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    RecursionError,
    LookupError,
    TypeError,
    ValueError,
)


def rewritten(text: str, rewrite: Callable[[Written], None]) -> str | None:
    """The text after `rewrite` has changed its document, or None when it cannot be done. Nothing is proved."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 1_000_000
    out = io.StringIO()
    try:
        root: Written = yaml.load(text)  # pyright: ignore[reportUnknownMemberType]  (ruamel leaves the stream untyped)
        root = {} if root is None else root
        rewrite(root)
        yaml.dump(root, out)  # pyright: ignore[reportUnknownMemberType]  (likewise)
    except _ERRORS:
        return None
    return out.getvalue()


def set_in(root: Written, path: Path, value: Plain) -> None:
    _put(_reached(root, path[:-1]), path[-1], _writable(value))


def remove_in(root: Written, path: Path) -> None:
    parent = _reached(root, path[:-1])
    match parent, path[-1]:
        case MutableSequence(), int() as index:
            del parent[index]
        case MutableMapping(), str() as name:
            del parent[name]
        case _:
            raise LookupError(path[-1])


def rearrange_in(root: Written, path: Path, items: Piecewise) -> None:
    parent = _reached(root, path[:-1])
    old = _got(parent, path[-1])
    elements = list(old) if isinstance(old, MutableSequence) else []
    new: list[Written] = []
    for item in items:
        if isinstance(item, Keep):
            new.append(_kept(elements[item.index], item))
        else:
            new.append(_writable(item.value))
    _put(parent, path[-1], new)


def _kept(element: Written, item: Keep) -> Written:
    if item.value is not None:
        return _writable(item.value)
    for name, value in item.members.items():
        if not isinstance(element, MutableMapping):
            raise LookupError(name)
        if value is None:
            element.pop(name, None)
        else:
            element[name] = _writable(value)
    return element


def _reached(node: Written, path: Path) -> Written:
    for step in path:
        below = _got(node, step)
        if below is None:
            _put(node, step, {})
            below = _got(node, step)
        node = below
    return node


def _got(node: Written, step: str | int) -> Written:
    match node, step:
        case MutableSequence(), int():
            return node[step]
        case MutableMapping(), str():
            return node.get(step)
        case _:
            raise LookupError(step)


def _put(node: Written, step: str | int, value: Written) -> None:
    match node, step:
        case MutableSequence(), int():
            node[step] = value
        case MutableMapping(), str():
            node[step] = value
        case _:
            raise LookupError(step)


def _writable(value: Plain) -> Written:
    """Texts in quotes, so that no parser takes them for anything else."""
    if isinstance(value, str):
        return DoubleQuotedScalarString(value)
    if isinstance(value, Mapping):
        return {key: _writable(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_writable(item) for item in value]
    return value
