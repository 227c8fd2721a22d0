"""A JSON array that arrives in pieces, as Google streams it to callers who do not ask for events."""

import re

_MARK = re.compile(rb'["\\{}\[\]]')


class ObjectCutter:
    """Cuts the objects out of a JSON array that arrives in pieces; a lone object is an array of one.

    Strings are skipped by state, not by pattern, so that a string over many pieces is looked at once.
    """

    __slots__ = ("_base", "_depth", "_is_in_string", "_pieces", "_skip")

    def __init__(self, *, is_array: bool) -> None:
        self._base = 1 if is_array else 0
        self._depth = 0
        self._is_in_string = False
        self._skip = 0
        self._pieces: list[bytes] = []

    @property
    def pending(self) -> bytes:
        return b"".join(self._pieces)

    def feed(self, data: bytes) -> list[bytes]:
        objects: list[bytes] = []
        start, skip = 0, self._skip
        for match in _MARK.finditer(data):
            at, mark = match.start(), match[0]
            if at < skip:
                continue
            if mark == b"\\":
                skip = at + 2
            elif mark == b'"':
                self._is_in_string = not self._is_in_string
            elif self._is_in_string:
                continue
            elif mark in b"{[":
                start = at if self._depth == self._base else start
                self._depth += 1
            else:
                self._depth -= 1
                if self._depth == self._base:
                    objects.append(self.pending + data[start : at + 1])
                    self._pieces = []
        self._skip = max(0, skip - len(data))
        if self._depth > self._base:
            self._pieces.append(data[start:])
        return objects
