"""Bodies that come compressed although nobody asked."""

import zlib
from collections.abc import Callable
from typing import Protocol

import zstandard

from cliproxy.canon.errors import BrokenAnswer


class Decoder(Protocol):
    def decode(self, data: bytes) -> bytes: ...

    def finish(self) -> None:
        """Raises BrokenAnswer when the compressed data was incomplete."""
        ...


class _Zlib:
    def __init__(self, wbits: int) -> None:
        self._inflate = zlib.decompressobj(wbits)

    def decode(self, data: bytes) -> bytes:
        try:
            return self._inflate.decompress(data)
        except zlib.error as error:
            raise BrokenAnswer("The upstream's compressed body is corrupt.") from error

    def finish(self) -> None:
        if not self._inflate.eof:
            raise BrokenAnswer("The upstream's compressed body broke off.")


class _Zstandard:
    def __init__(self) -> None:
        self._inflate = zstandard.ZstdDecompressor().decompressobj()

    def decode(self, data: bytes) -> bytes:
        try:
            return self._inflate.decompress(data)
        except zstandard.ZstdError as error:
            raise BrokenAnswer("The upstream's compressed body is corrupt.") from error

    def finish(self) -> None:
        if not self._inflate.eof:
            raise BrokenAnswer("The upstream's compressed body broke off.")


_DECODERS: dict[bytes, Callable[[], Decoder]] = {
    b"gzip": lambda: _Zlib(31),
    b"x-gzip": lambda: _Zlib(31),
    b"deflate": lambda: _Zlib(15),
    b"zstd": _Zstandard,
}


def decoder_for(encoding: bytes) -> Decoder | None:
    """A fresh decoder; None for identity. Raises BrokenAnswer for encodings that we cannot undo."""
    name = encoding.strip().lower()
    if not name or name == b"identity":
        return None
    if name not in _DECODERS:
        raise BrokenAnswer(
            f"The upstream compressed its answer as {name.decode('latin-1')[:20]}, which nobody asked for."
        )
    return _DECODERS[name]()
