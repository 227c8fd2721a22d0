"""Request bodies as they may come: compressed, and with a bound on what they unfold to."""

import io
import zlib

import zstandard

from cliproxy.canon.errors import InvalidRequest, TooLarge

_WBITS = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}


def too_large(limit: int) -> TooLarge:
    return TooLarge(f"The request body is larger than {limit} bytes (`limits.max-body-bytes`).")


def unfolded(body: bytes, encoding: bytes, limit: int) -> bytes:
    """`body` without its content encoding (gzip, deflate, zstd; one at a time).

    Raises TooLarge when it unfolds to more than `limit` bytes, InvalidRequest when it is corrupt or its encoding
    unknown.
    """
    name = encoding.strip().lower()
    if not name or name == b"identity":
        return body
    try:
        if name == b"zstd":
            plain = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(body)).read(limit + 1)
        elif name in _WBITS:
            inflate = zlib.decompressobj(_WBITS[name])
            plain = inflate.decompress(body, limit + 1)
            if len(plain) <= limit and not inflate.eof:
                raise InvalidRequest("The compressed request body is incomplete.")
        else:
            shown = name.decode("latin-1")[:20]
            raise InvalidRequest(f"`content-encoding: {shown}` is not supported; gzip, deflate and zstd are.")
    except (zlib.error, zstandard.ZstdError) as error:
        raise InvalidRequest(f"The request body is not valid {name.decode()}.") from error
    if len(plain) > limit:
        raise too_large(limit)
    return plain
