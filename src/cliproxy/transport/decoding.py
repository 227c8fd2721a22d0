"""Bodies that come compressed although nobody asked.

Sources: RFC 9110, 8.4.1 (codings), RFC 1952 (gzip: members may follow one another), RFC 8878 and 9659 (zstd: frames may
follow one another, windows stay below 8 MB), checked 2026-11-24. A few bytes can stand for gigabytes, so decoders hand
out pieces of bounded size: whoever reads decides when it is too much.
"""

import zlib
from collections.abc import Callable, Sequence
from typing import Protocol

import zstandard

from cliproxy.canon.errors import BrokenAnswer

_PIECE_BYTES = 256 * 1024
_MAX_WINDOW_BYTES = 8 * 1024 * 1024

# zstandard offers no bound on its output; at its worst ratio, 30 000 : 1, this much becomes 15 MB.
_ZSTD_BITE_BYTES = 512


class Decoder(Protocol):
    def feed(self, data: bytes) -> None:
        """More compressed bytes. To be called only after `read` gave b""."""
        ...

    def read(self) -> bytes:
        """The next bytes, b"" when more must be fed. Raises BrokenAnswer when the data is corrupt."""
        ...

    def finish(self) -> None:
        """Raises BrokenAnswer when the compressed data was incomplete. No data at all is an empty body."""
        ...


class _Zlib:
    """`gzip` or `deflate`. The latter comes with or without zlib's wrapper, as its first byte tells."""

    def __init__(self, wbits: int) -> None:
        self._wbits = wbits
        self._inflate = zlib.decompressobj(wbits)
        self._rest = b""
        self._has_begun = False

    def feed(self, data: bytes) -> None:
        if not self._has_begun and self._wbits == zlib.MAX_WBITS and data[0] & 0x0F != zlib.DEFLATED:
            self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        self._has_begun = True
        self._rest = data

    def read(self) -> bytes:
        while True:
            if self._inflate.eof and self._rest:
                self._inflate = zlib.decompressobj(self._wbits)
            try:
                out = self._inflate.decompress(self._rest, _PIECE_BYTES)
            except zlib.error as error:
                raise BrokenAnswer("The upstream's compressed body is corrupt.") from error
            self._rest = self._inflate.unconsumed_tail or self._inflate.unused_data
            if out or not self._rest:
                return out

    def finish(self) -> None:
        if self._has_begun and not self._inflate.eof:
            raise BrokenAnswer("The upstream's compressed body broke off.")


class _Zstandard:
    def __init__(self) -> None:
        self._context = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
        self._inflate = self._context.decompressobj()
        self._rest = b""
        self._has_begun = False

    def feed(self, data: bytes) -> None:
        self._has_begun = True
        self._rest = data

    def read(self) -> bytes:
        pieces: list[bytes] = []
        size = start = 0
        try:
            while start < len(self._rest) and size < _PIECE_BYTES:
                if self._inflate.eof:
                    self._inflate = self._context.decompressobj()
                bite = self._rest[start : start + _ZSTD_BITE_BYTES]
                pieces.append(self._inflate.decompress(bite))
                size += len(pieces[-1])
                start += len(bite) - len(self._inflate.unused_data)
        except zstandard.ZstdError as error:
            raise BrokenAnswer("The upstream's compressed body is corrupt.") from error
        self._rest = self._rest[start:]
        return b"".join(pieces)

    def finish(self) -> None:
        if self._has_begun and not self._inflate.eof:
            raise BrokenAnswer("The upstream's compressed body broke off.")


_DECODERS: dict[bytes, Callable[[], Decoder]] = {
    b"gzip": lambda: _Zlib(zlib.MAX_WBITS | 16),
    b"x-gzip": lambda: _Zlib(zlib.MAX_WBITS | 16),
    b"deflate": lambda: _Zlib(zlib.MAX_WBITS),
    b"zstd": _Zstandard,
}
_PLAIN = frozenset({b"", b"identity", b"chunked"})


def decoder_for(codings: Sequence[bytes]) -> Decoder | None:
    """A fresh decoder for the values of `content-encoding` and `transfer-encoding` headers; None for plain bytes.

    Raises BrokenAnswer for codings that we cannot undo, and for more than one.
    """
    names = [name for value in codings for part in value.split(b",") if (name := part.strip().lower()) not in _PLAIN]
    if not names:
        return None
    if len(names) > 1 or names[0] not in _DECODERS:
        text = b", ".join(names).decode("latin-1")[:40]
        raise BrokenAnswer(f"The upstream compressed its answer as {text}, which nobody asked for.")
    return _DECODERS[names[0]]()
