"""Files in a multipart form, as browsers and curl send them.

Source: https://www.rfc-editor.org/rfc/rfc7578, checked 2026-11-24.
"""

from __future__ import annotations

import re

from msgspec import Struct
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from cliproxy.canon.errors import InvalidRequest

MOST_PARTS = 1000
_HEADERS = 16
_HEADER_BYTES = 4096


class Uploaded(Struct, frozen=True):
    """`name` is the last component of the path that the client told. `content` is None for a file that is larger than
    it may be."""

    name: str
    content: bytes | None


def is_form(content_type: str) -> bool:
    return parse_options_header(content_type)[0] == b"multipart/form-data"


def files_of(content_type: str, body: bytes, most_bytes: int) -> list[Uploaded]:
    """The parts named `file` that are files, in their order. Raises InvalidRequest for what is no such form."""
    boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
    if not boundary:
        raise _invalid("it names no boundary")
    form = _Form(most_bytes)
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": form.begin,
                "on_header_field": form.name_header,
                "on_header_value": form.value_header,
                "on_header_end": form.end_header,
                "on_headers_finished": form.decide,
                "on_part_data": form.take,
                "on_part_end": form.end,
                "on_end": form.finish,
            },
            max_header_count=_HEADERS,
            max_header_size=_HEADER_BYTES,
        )
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise _invalid(str(error)) from error
    if not form.is_complete:
        raise _invalid("it breaks off before its last boundary")
    return form.files


class _Form:
    """What the parser calls back. `_name` is None within parts that are none of ours."""

    def __init__(self, most_bytes: int) -> None:
        self.files: list[Uploaded] = []
        self.is_complete = False
        self._most_bytes = most_bytes
        self._parts = 0
        self._header = b""
        self._value = b""
        self._disposition = b""
        self._name: str | None = None
        self._pieces: list[bytes] = []
        self._size = 0

    def begin(self) -> None:
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise _invalid(f"it has more than {MOST_PARTS} parts")
        self._disposition = self._header = self._value = b""
        self._name, self._pieces, self._size = None, [], 0

    def name_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def value_header(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def decide(self) -> None:
        """A part of the right name is a file when it has a file name; browsers send an empty one for no choice."""
        _, options = parse_options_header(self._disposition)
        if options.get(b"name") == b"file" and (name := options.get(b"filename")):
            self._name = re.split(r"[/\\]", name.decode(errors="replace"))[-1].strip(" ")

    def take(self, data: bytes, start: int, end: int) -> None:
        if self._name is None:
            return
        self._size += end - start
        if self._size > self._most_bytes:
            self._pieces.clear()
        else:
            self._pieces.append(data[start:end])

    def end(self) -> None:
        if self._name is not None:
            content = None if self._size > self._most_bytes else b"".join(self._pieces)
            self.files.append(Uploaded(self._name, content))

    def finish(self) -> None:
        self.is_complete = True


def _invalid(reason: str) -> InvalidRequest:
    return InvalidRequest(f"invalid multipart form: {reason}")
