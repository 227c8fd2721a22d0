"""Request bodies as they may come: compressed, and with a bound on what they unfold to."""

import asyncio
import io
import zlib
from collections.abc import Callable

import zstandard

from cliproxy.canon.errors import InvalidRequest, TooLarge

# What takes longer to unfold than this, a few milliseconds, does so beside the event loop.
_AT_ONCE_BYTES = 1024 * 1024


def too_large(limit: int) -> TooLarge:
    return TooLarge(f"The request body is larger than {limit} bytes (`limits.max-body-bytes`).")


async def unfolded(body: bytes, encoding: bytes, limit: int) -> bytes:
    """`body` without its content encoding (gzip, deflate, zstd; one at a time).

    Raises TooLarge when it unfolds to more than `limit` bytes, InvalidRequest when it is corrupt or its encoding
    unknown.
    """
    name = encoding.strip().lower()
    if not name or name == b"identity":
        return body
    plain = _unfold(body, name, min(limit, _AT_ONCE_BYTES))
    if len(plain) > _AT_ONCE_BYTES and limit > _AT_ONCE_BYTES:
        plain = await asyncio.to_thread(_unfold, body, name, limit)
    if len(plain) > limit:
        raise too_large(limit)
    return plain


def _unfold(body: bytes, name: bytes, limit: int) -> bytes:
    """At most one byte more than `limit`."""
    unfold = _CODINGS.get(name)
    if unfold is None:
        shown = name.decode("latin-1")[:20]
        raise InvalidRequest(f"`content-encoding: {shown}` is not supported; gzip, deflate and zstd are.")
    try:
        return unfold(body, limit + 1)
    except (zlib.error, zstandard.ZstdError) as error:
        raise InvalidRequest(f"The request body is not valid {name.decode()}.") from error


def _from_gzip(body: bytes, most: int) -> bytes:
    return _inflated(body, most, 31)


def _from_deflate(body: bytes, most: int) -> bytes:
    """With zlib's frame, as HTTP defines it, or without, as many programs write it."""
    is_framed = len(body) > 1 and body[0] & 15 == 8 and int.from_bytes(body[:2], "big") % 31 == 0
    return _inflated(body, most, 15 if is_framed else -15)


def _inflated(body: bytes, most: int, window: int) -> bytes:
    inflate = zlib.decompressobj(window)
    plain = inflate.decompress(body, most)
    if len(plain) < most and not inflate.eof:
        raise InvalidRequest("The compressed request body is incomplete.")
    if inflate.unused_data:
        raise InvalidRequest("More follows after the end of the compressed request body.")
    return plain


def _from_zstd(body: bytes, most: int) -> bytes:
    """A body that breaks off gives what it has; whoever reads the JSON in it will see."""
    return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(body), read_across_frames=True).read(most)


_CODINGS: dict[bytes, Callable[[bytes, int], bytes]] = {
    b"gzip": _from_gzip,
    b"x-gzip": _from_gzip,
    b"deflate": _from_deflate,
    b"zstd": _from_zstd,
}
