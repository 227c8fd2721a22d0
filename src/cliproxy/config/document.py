"""Reading the configuration file: YAML text to a `Config`, with the place of everything that is wrong.

The schema drives the reading: for each field we know what type is wanted before we look at the text. That is why an
unquoted `12345` can be an API key, `yes` a boolean and `90s` a duration, as users of the Go program write them, and why
one pass finds all problems. A value that cannot be read is reported and stands as its default until the end.

Nothing here writes, so unknown keys stay in the file; they are warned about.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches

from msgspec import Struct, inspect

from cliproxy.config import consistency, rules
from cliproxy.config.go_keys import is_go_key
from cliproxy.config.issues import ConfigError, Issue
from cliproxy.config.schema import Config, Hint
from cliproxy.config.tree import Branch, Items, Pairs, Place, Scalar, parse, shown_key
from cliproxy.wire.secrets import Secret

_BOOLS = {"true": True, "yes": True, "on": True, "y": True, "false": False, "no": False, "off": False, "n": False}
_POSITION = re.compile(r"\[\d+\]")
_START = Place(1, 1)
_INT64_MAX = 2**63 - 1
_KIND_NAMES = {"null": "nothing", "bool": "true or false", "int": "a number", "float": "a number", "text": "text"}


class Loaded(Struct, frozen=True):
    """A usable configuration, and what its author should know about it."""

    config: Config
    warnings: tuple[Issue, ...] = ()


def read(text: str, *, name: str = "config.yaml") -> Loaded:
    """The configuration in a YAML text; an empty text has all defaults. `name` is for the messages.

    Raises ConfigError with every problem found.
    """
    return read_tree(parse(text, name), name=name)


def read_tree(root: Branch | None, *, name: str) -> Loaded:
    """The same, for who has taken the text apart already. Raises ConfigError."""
    reader = _Reader(name)
    config = reader.config(Pairs(_START, ()) if root is None or _is_null(root) else root)
    if reader.errors:
        raise ConfigError(reader.errors)
    return Loaded(config, tuple(sorted(reader.warnings, key=lambda issue: (issue.line, issue.column))))


class _Problem(Exception):
    """A value that cannot be used; the text says why, without repeating the value."""


class _Reader:
    """Collects issues while it builds; one per text."""

    def __init__(self, source: str) -> None:
        self.errors: list[Issue] = []
        self.warnings: list[Issue] = []
        self._source = source
        self._places: dict[str, Place] = {}

    def config(self, root: Branch) -> Config:
        try:
            config = self._struct(root, _FILE, "$")
        except _Problem as problem:
            self._report("$", root.place, str(problem))
            return Config()
        assert isinstance(config, Config)
        for rule in consistency.RULES:
            for finding in rule(config):
                self._report(
                    finding.path, self._nearest_place(finding.path), finding.message, is_error=finding.is_error
                )
        return config

    def _value(self, node: Branch, wanted: inspect.Type, path: str) -> object:
        match wanted:
            case inspect.StructType():
                return self._struct(node, wanted, path)
            case inspect.VarTupleType():
                return tuple(self._items(node, wanted.item_type, path))
            case inspect.DictType():
                return dict(self._pairs(node, wanted, path))
            case inspect.UnionType():
                return self._value(node, wanted.types[0], path)
            case _:
                return self._leaf(node, wanted, path)

    def _struct(self, node: Branch, wanted: inspect.StructType, path: str) -> Struct:
        if not isinstance(node, Pairs):
            raise _Problem(f"expected keys with values, got {_kind(node)}")
        fields = {field.encode_name: field for field in wanted.fields}
        values: dict[str, object] = {}
        for key, value in node.pairs:
            field = fields.get(key.text)
            if field is None:
                self._warn_unknown(key, fields, path)
            elif field.required or not _is_null(value):
                self._member(field, value, values, f"{path}.{key.text}")
        for field in wanted.fields:
            if field.required and field.name not in values:
                values[field.name] = _blank(field.type)
                if f"{path}.{field.encode_name}" not in self._places:
                    self._report(path, node.place, f"`{field.encode_name}` is missing")
        return wanted.cls(**values)

    def _member(self, field: inspect.Field, node: Branch, values: dict[str, object], path: str) -> None:
        self._places[path] = node.place
        try:
            values[field.name] = self._value(node, field.type, path)
        except _Problem as problem:
            self._report(path, node.place, str(problem))

    def _items(self, node: Branch, wanted: inspect.Type, path: str) -> Iterable[object]:
        if not isinstance(node, Items):
            raise _Problem(f"expected a list (lines that start with `- `), got {_kind(node)}")
        for index, item in enumerate(node.items):
            yield self._element(item, wanted, f"{path}[{index}]")

    def _pairs(self, node: Branch, wanted: inspect.DictType, path: str) -> Iterable[tuple[object, object]]:
        if not isinstance(node, Pairs):
            raise _Problem(f"expected names with values, got {_kind(node)}")
        for key, value in node.pairs:
            value_path = f"{path}.{shown_key(key.text)}"
            name = self._element(key, wanted.key_type, value_path)
            yield (
                name,
                _blank(wanted.value_type) if _is_null(value) else self._element(value, wanted.value_type, value_path),
            )

    def _element(self, node: Branch, wanted: inspect.Type, path: str) -> object:
        self._places[path] = node.place
        try:
            return self._value(node, wanted, path)
        except _Problem as problem:
            self._report(path, node.place, str(problem))
            return _blank(wanted)

    def _leaf(self, node: Branch, wanted: inspect.Type, path: str) -> object:
        base, hint = _unwrapped(wanted)
        leaf = _LEAVES[type(base)]
        if not isinstance(node, Scalar):
            raise _Problem(f"expected {leaf.wants}, got {_kind(node)}")
        if node.kind == "unknown tag":
            raise _Problem("carries a YAML tag (`!...`) that is not supported; write the plain value")
        if node.kind == "null":
            raise _Problem("is empty; write a value or remove the line")
        value = leaf.read(node, base, hint)
        if isinstance(value, int) and hint.floor is not None and value < hint.floor:
            self._report(path, node.place, f"is below {hint.floor}; {hint.floor} is used", is_error=False)
            return hint.floor
        return value

    def _warn_unknown(self, key: Scalar, fields: Iterable[str], path: str) -> None:
        if is_go_key(_POSITION.sub("", f"{path}.{key.text}").removeprefix("$.")):
            message = "known to the Go program, has no effect here"
            self._report(f"{path}.{key.text}", key.place, message, is_error=False)
            return
        close = get_close_matches(key.text.lower().replace("_", "-"), fields, n=1, cutoff=0.7)
        hint = f"; did you mean `{close[0]}`?" if close else ""
        self._report(f"{path}.{shown_key(key.text)}", key.place, f"unknown key, has no effect{hint}", is_error=False)

    def _report(self, path: str, place: Place, message: str, *, is_error: bool = True) -> None:
        issues = self.errors if is_error else self.warnings
        issues.append(Issue(self._source, path, place.line, place.column, message))

    def _nearest_place(self, path: str) -> Place:
        """Of the value, or of the closest one around it when the file leaves it to its default."""
        while path not in self._places and path != "$":
            path = path[: max(path.rfind("."), path.rfind("["))]
        return self._places.get(path, _START)


# -- leaves: one function a kind of value -----------------------------------------------------------------------------


def _read_bool(scalar: Scalar, _wanted: inspect.Type, _hint: Hint) -> bool:
    """`yes`, `on` and their like are text in YAML 1.2, and booleans to the Go program where one is wanted."""
    value = _BOOLS.get(scalar.text.lower()) if scalar.is_plain else None
    if value is None:
        raise _Problem(f"expected true or false, got {_kind(scalar)}{_quotes_hint(scalar)}")
    return value


def _read_int(scalar: Scalar, wanted: inspect.Type, _hint: Hint) -> int:
    number = rules.whole_number(scalar.text) if scalar.is_plain and scalar.kind == "int" else None
    if number is None:
        raise _Problem(f"expected a whole number, got {_kind(scalar)}{_quotes_hint(scalar)}")
    assert isinstance(wanted, inspect.IntType)
    if (wanted.ge is not None and number < wanted.ge) or (wanted.le is not None and number > wanted.le):
        raise _Problem(f"out of range; {_range(wanted)}")
    return number


def _read_seconds(scalar: Scalar, _wanted: inspect.Type, _hint: Hint) -> float:
    seconds = _number(scalar) if scalar.is_plain else None
    if seconds is None:
        seconds = rules.go_duration(scalar.text.strip())
    if seconds is None or not 0 <= seconds < math.inf:
        raise _Problem("expected a duration: seconds, 0 or more, or a text such as `90s`, `5m`, `1h30m`")
    return seconds


def _read_text(scalar: Scalar, _wanted: inspect.Type, hint: Hint) -> str:
    """Whatever stands there, as it stands there: a number that was meant as text is text."""
    text = scalar.text.strip()
    wrong = (hint.rule or rules.plain_text)(text)
    if wrong:
        raise _Problem(wrong)
    return text


def _read_secret(scalar: Scalar, wanted: inspect.Type, hint: Hint) -> Secret:
    return Secret(_read_text(scalar, wanted, hint))


def _read_choice(scalar: Scalar, wanted: inspect.Type, hint: Hint) -> str:
    assert isinstance(wanted, inspect.LiteralType)
    text = scalar.text.strip().lower()
    choice = hint.aliases.get(text, text)
    if choice not in wanted.values:
        names = [str(value) for value in wanted.values]
        close = get_close_matches(choice, names, n=1)
        hinted = f"; did you mean `{close[0]}`?" if close else ""
        raise _Problem(f"expected one of {', '.join(f'`{name}`' for name in names)}{hinted}")
    return choice


class _Leaf(Struct, frozen=True):
    wants: str
    blank: object
    read: Callable[[Scalar, inspect.Type, Hint], object]


_LEAVES: Mapping[type[inspect.Type], _Leaf] = {
    inspect.BoolType: _Leaf("true or false", False, _read_bool),
    inspect.IntType: _Leaf("a whole number", 0, _read_int),
    inspect.FloatType: _Leaf("a duration", 0.0, _read_seconds),
    inspect.StrType: _Leaf("text", "", _read_text),
    inspect.CustomType: _Leaf("text", Secret(), _read_secret),
    inspect.LiteralType: _Leaf("a word", "", _read_choice),
}


# -- small questions --------------------------------------------------------------------------------------------------


def _file_type() -> inspect.StructType:
    file = inspect.type_info(Config)
    assert isinstance(file, inspect.StructType)
    return file


_FILE = _file_type()
_NO_HINT = Hint()


def _unwrapped(wanted: inspect.Type) -> tuple[inspect.Type, Hint]:
    if not isinstance(wanted, inspect.Metadata):
        return wanted, _NO_HINT
    # msgspec declares `extra` as a bare `dict`, hence the ignore.
    return wanted.type, _hint_in(wanted.extra)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]


def _hint_in(extra: Mapping[str, object] | None) -> Hint:
    hint = extra.get("hint") if extra else None
    return hint if isinstance(hint, Hint) else _NO_HINT


def _blank(wanted: inspect.Type) -> object:
    """Stands in for a value that is missing or cannot be read, so that reading can go on."""
    match wanted:
        case inspect.StructType():
            return wanted.cls(**{field.name: _blank(field.type) for field in wanted.fields if field.required})
        case inspect.VarTupleType():
            return ()
        case inspect.DictType():
            return {}
        case _:
            return _LEAVES[type(_unwrapped(wanted)[0])].blank


def _is_null(node: Branch) -> bool:
    return isinstance(node, Scalar) and node.kind == "null"


def _kind(node: Branch) -> str:
    if isinstance(node, Scalar):
        return _KIND_NAMES.get(node.kind, "a tagged value") if node.is_plain else "text"
    return "a list" if isinstance(node, Items) else "keys with values"


def _quotes_hint(scalar: Scalar) -> str:
    return "" if scalar.is_plain else "; remove the quotes"


def _range(wanted: inspect.IntType) -> str:
    if wanted.le is None or wanted.le >= _INT64_MAX:
        return f"write {wanted.ge} or more" if wanted.ge is not None and wanted.ge >= 0 else "write a smaller number"
    return f"write a number from {wanted.ge} to {wanted.le}"


def _number(scalar: Scalar) -> float | None:
    if scalar.kind not in ("int", "float") or len(scalar.text) > rules.MAX_NUMBER_CHARACTERS:
        return None
    whole = rules.whole_number(scalar.text)
    if whole is not None:
        return float(whole)
    try:
        return float(scalar.text)
    except ValueError:
        return None
