"""Foreign signatures travel through a caller in an envelope of ours, and come back as what they were.

A caller's dialect has a field for its own vendor's signatures only. What another vendor signed is sealed into that
field: `base64(magic | family | kind | checksum | value)`. The envelope identifies itself, so nothing is ever guessed
from the look of a value, and an envelope never reaches an upstream unopened. The checksum guards against truncation,
not against forgery: a caller can only deceive the vendor about its own conversation. A damaged envelope, and one that
holds another, opens to a signature of no family, which no vendor is ever sent. Reasoning that nobody signed travels with
an envelope of that kind too: without it, it would pass for the caller's vendor's own and be refused there.
"""

import base64
import binascii
import zlib
from typing import Literal

from cliproxy.canon.parts import Family, Signature

_MAGIC = b"\x0bcliproxy\x01"
_FAMILIES: tuple[Family, ...] = ("unknown", "anthropic", "openai", "google")
_KINDS: tuple[Literal["signature", "encrypted", "redacted"], ...] = ("signature", "encrypted", "redacted")
_HEAD_BYTES = len(_MAGIC) + 2 + 4
_PREFIX = base64.b64encode(_MAGIC[:9]).decode()
_MARK = _PREFIX.encode()
DAMAGED = Signature("", "unknown")


def travels_in(body: bytes) -> bool:
    """Whether `body` may hold an envelope, which must be opened before an upstream sees it."""
    return _MARK in body


def seal(signature: Signature) -> str:
    """The envelope, standard base64 with padding."""
    value = signature.value.encode()
    labels = bytes((_FAMILIES.index(signature.family), _KINDS.index(signature.kind)))
    return base64.b64encode(_MAGIC + labels + zlib.crc32(labels + value).to_bytes(4, "big") + value).decode()


def unseal(text: str) -> Signature | None:
    """The signature in an envelope of ours; None when `text` is not one, `DAMAGED` when it is one that cannot be
    trusted."""
    if not text.startswith(_PREFIX):
        return None
    try:
        data = base64.b64decode(text, validate=True)
        value = data[_HEAD_BYTES:].decode()
    except (binascii.Error, ValueError):
        return DAMAGED
    labels, checksum = data[len(_MAGIC) : len(_MAGIC) + 2], data[len(_MAGIC) + 2 : _HEAD_BYTES]
    if not data.startswith(_MAGIC) or zlib.crc32(labels + data[_HEAD_BYTES:]).to_bytes(4, "big") != checksum:
        return DAMAGED
    family, kind = labels
    if family >= len(_FAMILIES) or kind >= len(_KINDS) or value.startswith(_PREFIX):
        return DAMAGED
    return Signature(value, _FAMILIES[family], _KINDS[kind])


UNSIGNED = seal(DAMAGED)
"""Stands where a dialect wants a signature and the model gave none: known as ours when it comes back, owned by nobody."""
