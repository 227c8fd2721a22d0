"""Values as YAML text that every parser reads alike.

The file is shared with the Go program and whatever else people use, so a text stays without quotes only if neither
YAML 1.1 nor 1.2, nor a parser that is liberal with numbers and dates, would take it for something else. Lines are never
wrapped. Text with line breaks is written in double quotes: a block would depend on what stands around it.

Source: https://yaml.org/spec/1.2.2/, https://yaml.org/type/, checked 2026-03-01.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

Plain = None | bool | int | float | str | Sequence["Plain"] | Mapping[str, "Plain"]

_MISREAD = re.compile(
    r"""
      (?: y | n | yes | no | on | off | true | false | null | ~ | << | = )
    | [-+]? \.? [0-9][0-9_]* (?: \. [0-9_]* )? (?: [ep] [-+]? [0-9_]* )?  # numbers
    | [-+]? 0 [xob] [0-9a-f_.p+-]*
    | [-+]? [0-9_]+ (?: : [0-9_]+ )+ (?: \. [0-9_]* )?  # minutes and hours in base 60
    | [0-9]{4} - [0-9]{1,2} - [0-9]{1,2} .*  # dates
    | [-+]? \. (?: inf | nan | [0-9_]* )
    | [-+0-9_.,]+
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_ADDRESS = re.compile(r"[0-9]+(?:\.[0-9]+){2,}")
# Not a word of YAML's grammar, whatever stands around it. Outside of brackets more is allowed within a text.
_PLAIN_IN_FLOW = re.compile(r"[A-Za-z0-9_$/.~+^-][A-Za-z0-9_$/.~+^@%*()=;|<>-]*(?: [A-Za-z0-9_$/.~+^@()=;]+)*")
_PLAIN_IN_BLOCK = re.compile(r"[A-Za-z0-9_$/.~+^\xa1-\ud7ff-][\x20-\x7e\xa1-\ud7ff]*")
_ENDS_A_PLAIN_TEXT = re.compile(r":(?:\s|$)|\s#|\s$")
_STARTS_AN_ENTRY = re.compile(r"-(?:\s|$|--)|\.\.\.")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\\0", "\x1b": "\\e"}
_NOT_IN_SINGLE_QUOTES = re.compile("[\x00-\x1f\x7f-\xa0\xad\u200b-\u200f\u2028-\u202f\ud800-\udfff\ufeff\ufffe\uffff]")
_ESCAPED = re.compile('["\\\\\x00-\x1f\x7f-\xa0\xad\u200b-\u200f\u2028-\u202f\ud800-\udfff\ufeff\ufffe\uffff]')


def is_misread(text: str) -> bool:
    """Whether some parser takes this text, without quotes, for something that is no text."""
    return not text or (_MISREAD.fullmatch(text) is not None and not _ADDRESS.fullmatch(text))


def may_be_plain(text: str, *, is_flow: bool) -> bool:
    """Whether this text keeps its meaning without quotes."""
    if is_misread(text) or not text.isprintable() or max(text) > "\ud7ff":
        return False
    if _STARTS_AN_ENTRY.match(text) or _ENDS_A_PLAIN_TEXT.search(text):
        return False
    return (_PLAIN_IN_FLOW if is_flow else _PLAIN_IN_BLOCK).fullmatch(text) is not None


def scalar_text(value: bool | int | float | str | None, *, quote: str = "", is_flow: bool = False) -> str:
    """A scalar on one line. `quote` is what a text gets if it can: `"`, `'`, or nothing for as few as possible."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return _number(value)
        case str():
            return _quoted(value, quote, is_flow=is_flow)


def flow_text(value: Plain, *, quote: str = "") -> str:
    """Any value on one line, in brackets where they are needed."""
    if isinstance(value, Mapping):
        pairs = (f"{key_text(key)}: {flow_text(item, quote=quote)}" for key, item in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(flow_text(item, quote=quote) for item in value) + "]"
    return scalar_text(value, quote=quote, is_flow=True)


def block_lines(value: Plain, *, quote: str = "") -> list[str]:
    """Any value as lines without line breaks; the second and further lines are indented relative to the first."""
    if isinstance(value, Mapping) and value:
        return [line for key, item in value.items() for line in pair_lines(key, item, quote=quote)]
    if isinstance(value, Sequence) and not isinstance(value, str) and value:
        return [line for item in value for line in item_lines(item, quote=quote)]
    if isinstance(value, str | None | bool | int | float):
        return [scalar_text(value, quote=quote)]
    return ["{}" if isinstance(value, Mapping) else "[]"]


def pair_lines(key: str, value: Plain, *, quote: str = "") -> list[str]:
    """A key with its value, in block style."""
    lines = block_lines(value, quote=quote)
    if is_block(value):
        return [f"{key_text(key)}:", *(f"  {line}" for line in lines)]
    return [f"{key_text(key)}: {lines[0]}"]


def item_lines(value: Plain, *, quote: str = "", gap: str = " ") -> list[str]:
    """An element of a list, in block style. `gap` stands between the dash and the value."""
    first, *others = block_lines(value, quote=quote)
    indent = " " * (1 + len(gap))
    return [f"-{gap}{first}", *(indent + line for line in others)]


def key_text(key: str) -> str:
    return scalar_text(key, is_flow=True)


def is_block(value: Plain) -> bool:
    """Whether a value takes lines of its own in block style."""
    return bool(value) and isinstance(value, Mapping | Sequence) and not isinstance(value, str)


def _quoted(text: str, quote: str, *, is_flow: bool) -> str:
    if not quote and may_be_plain(text, is_flow=is_flow):
        return text
    if quote == "'" and not _NOT_IN_SINGLE_QUOTES.search(text):
        return "'" + text.replace("'", "''") + "'"
    return '"' + _ESCAPED.sub(_escape, text) + '"'


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    return _ESCAPES.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def _number(value: float) -> str:
    """YAML 1.1 wants a point in every number that has an exponent."""
    if math.isnan(value):
        return ".nan"
    if math.isinf(value):
        return ".inf" if value > 0 else "-.inf"
    text = repr(value)
    return text if "." in text else text.replace("e", ".0e")
