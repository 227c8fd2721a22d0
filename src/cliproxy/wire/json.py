"""JSON at the edges: strict reading, one encoder, raw subtrees, positions.

Subtrees that we only carry stay the bytes that came (`msgspec.Raw`): re-encoding would change `1.10` and collapse
duplicate keys. Text that we do write goes through `encode`, which escapes what old stream readers take for line ends.
The parser refuses lone surrogates: callers get a 400; answers of upstreams are mended first (`mended`).
"""

import re
from typing import TypeVar

import msgspec
from msgspec import Raw

from cliproxy.canon.errors import BrokenAnswer, InvalidJson, InvalidRequest

T = TypeVar("T")

_encoder = msgspec.json.Encoder()
_members = msgspec.json.Decoder(dict[str, Raw])
_raw = msgspec.json.Decoder(Raw)
_text = msgspec.json.Decoder(str)
_LONE_SURROGATE = re.compile(
    rb"(?<!\\)((?:\\\\)*)(?:(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)
_KEY = re.compile(rb'[\s,]*("(?:[^"\\]|\\.)*")\s*:\s*', re.DOTALL)
_LINE_SEPARATORS = re.compile(rb"\xe2\x80[\xa8\xa9]|\xc2\x85")
_QUOTED = re.compile(r"""( value| unknown field) ['"`].*['"`](?= - at `|$)""", re.DOTALL)
_ESCAPED_SEPARATORS = {b"\xe2\x80\xa8": rb"\u2028", b"\xe2\x80\xa9": rb"\u2029", b"\xc2\x85": rb"\u0085"}


def encode(value: object) -> bytes:
    """JSON bytes of `value`, safe inside one line of an event stream."""
    out = _encoder.encode(value)
    if not out.isascii() and (b"\xe2\x80" in out or b"\xc2\x85" in out):
        return _LINE_SEPARATORS.sub(lambda match: _ESCAPED_SEPARATORS[match[0]], out)
    return out


def compact(raw: bytes | str) -> str:
    """The JSON text `raw` without insignificant white space; numbers and strings keep their own spelling."""
    data = raw.encode() if isinstance(raw, str) else raw
    return msgspec.json.format(data, indent=-1).decode()


def members(data: bytes | Raw) -> dict[str, Raw]:
    """The members of a JSON object, values raw. Raises InvalidJson when `data` is no JSON object."""
    try:
        return _members.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidJson(describe(error)) from error


def decode_as(decoder: "msgspec.json.Decoder[T]", data: bytes | Raw) -> T:
    """Typed decoding with the caller's error: what is wrong and where (`messages[0].role`)."""
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        text, mark, path = str(error).rpartition(" - at `$")
        if not mark:
            text, path = path, ""
        field = path.rstrip("`").lstrip(".")
        raise InvalidRequest(f"{text} at `{field}`" if field else text, param=field) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidJson(describe(error)) from error


def decode_leniently(decoder: "msgspec.json.Decoder[T]", data: bytes) -> T:
    """Typed decoding of an upstream's words; lone surrogates are mended. Raises BrokenAnswer."""
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    except RecursionError as error:
        raise BrokenAnswer("The upstream's answer is nested too deeply.") from error
    try:
        return decoder.decode(mended(data))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BrokenAnswer(f"The upstream's answer cannot be read: {describe(error)}.") from error


def is_object(data: bytes | str) -> bool:
    """Whether `data` is one complete JSON object."""
    try:
        _members.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def is_json(data: bytes | str) -> bool:
    """Whether `data` is one complete JSON value."""
    try:
        _raw.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def mended(data: bytes) -> bytes:
    """`data` with every lone surrogate escape replaced by that of U+FFFD; for answers, never for requests."""
    return _LONE_SURROGATE.sub(lambda match: match[1] + (match[2] or rb"\ufffd"), data)


def describe(error: Exception) -> str:
    """The parser's complaint in the words that callers see; never repeats the caller's data."""
    if isinstance(error, RecursionError):
        return "The JSON is nested too deeply."
    if isinstance(error, UnicodeDecodeError):
        return "The body is not valid UTF-8."
    return _QUOTED.sub(r"\1", str(error))


def replaced(data: bytes, path: tuple[str, ...], value: bytes) -> bytes:
    """`data` with the value at `path` (keys of nested objects) replaced; every other byte stays.

    Returns `data` itself when there is nothing at `path`. The value is found by walking members by their lengths, so
    work does not depend on what the other values hold.
    """
    span = find(data, path)
    if span is None:
        return data
    start, end = span
    return data[:start] + value + data[end:]


def find(data: bytes, path: tuple[str, ...]) -> tuple[int, int] | None:
    """Where the value at `path` stands in `data`: (start, end). The last of duplicate keys counts, as in readers."""
    start, end = 0, len(data)
    for name in path:
        span = _member_span(data, start, end, name)
        if span is None:
            return None
        start, end = span
    return start, end


def _member_span(data: bytes, start: int, end: int, name: str) -> tuple[int, int] | None:
    opening = data.find(b"{", start, end)
    if opening < 0 or data[start:opening].strip():
        return None
    try:
        values = _members.decode(data[start:end])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if name not in values:
        return None
    position = opening + 1
    found: tuple[int, int] | None = None
    for key, raw in values.items():
        match = _KEY.match(data, position, end)
        if match is None:
            return found
        value = bytes(raw)
        position = match.end()
        if _text.decode(match[1]) != key or data[position : position + len(value)] != value:
            return _member_span_slowly(data, opening, end, name)
        if key == name:
            found = (position, position + len(value))
        position += len(value)
    if data[position:end].strip() == b"}":
        return found
    return _member_span_slowly(data, opening, end, name)


_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\]:,]', re.DOTALL)


def _member_span_slowly(data: bytes, opening: int, end: int, name: str) -> tuple[int, int] | None:
    """The same by a token walk, for objects with duplicate keys."""
    depth, is_key, wanted = 0, True, False
    found: tuple[int, int] | None = None
    value_start = 0
    for match in _TOKEN.finditer(data, opening, end):
        token = match[0]
        if token in b"{[":
            depth += 1
        elif depth == 1 and (token in b",}" or token == b"]"):
            if wanted:
                raw = data[value_start : match.start()]
                left = len(raw) - len(raw.lstrip())
                found = (value_start + left, value_start + len(raw.rstrip()))
            is_key, wanted = True, False
            depth -= token != b","
        elif token in b"}]":
            depth -= 1
        elif depth == 1 and token == b":":
            is_key, value_start = False, match.end()
        elif depth == 1 and is_key:
            wanted = _text.decode(token) == name
    return found
