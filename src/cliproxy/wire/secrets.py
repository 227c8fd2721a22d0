"""Texts that must not be seen: keys, tokens, passwords, and the addresses that carry them."""

from __future__ import annotations

import hashlib
import hmac
import re

_USERINFO = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*://)?[^/?#]*@")


class Secret:
    """A text that shows itself to nobody but the caller of `reveal`.

    False when empty. Equality takes the same time wherever the texts differ; the hash is of the digest, so a
    secret may be a dictionary key. Not copied into JSON by accident: msgspec refuses it without `reveal_hook`.
    """

    __slots__ = ("_text",)

    _text: str

    def __init__(self, text: str = "") -> None:
        object.__setattr__(self, "_text", text)

    def reveal(self) -> str:
        return self._text

    def digest(self) -> bytes:
        """The SHA-256 of the UTF-8 text, 32 bytes: what tables of keys are keyed by."""
        return hashlib.sha256(self._text.encode("utf-8", "surrogatepass")).digest()

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.digest(), other.digest())

    def __hash__(self) -> int:
        return hash(self.digest())

    def __repr__(self) -> str:
        return "Secret('***')" if self._text else "Secret('')"

    def __str__(self) -> str:
        return repr(self)

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"`Secret` is immutable; `{name}` cannot be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"`Secret` is immutable; `{name}` cannot be deleted")

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        return (Secret, (self._text,))


def dec_hook(wanted: type, value: object) -> Secret:
    """For `msgspec.convert` and decoders: text becomes a `Secret`. TypeError for anything else."""
    if wanted is not Secret:
        raise TypeError(f"`{wanted.__name__}` is not supported")
    if not isinstance(value, str):
        raise TypeError("expected text")
    return Secret(value)


def reveal_hook(value: object) -> str:
    """For encoders whose output is meant to show secrets: the management API's answers to its key holder."""
    if isinstance(value, Secret):
        return value.reveal()
    raise TypeError(f"`{type(value).__name__}` is not supported")


def mask_hook(value: object) -> str:
    """For encoders whose output may be seen by anyone: support bundles, logs."""
    if isinstance(value, Secret):
        return "***" if value else ""
    raise TypeError(f"`{type(value).__name__}` is not supported")


def mask_userinfo(address: str) -> str:
    """The address with `user:password@` replaced by `***@`; everything else as it was."""
    return _USERINFO.sub(r"\1***@", address)
