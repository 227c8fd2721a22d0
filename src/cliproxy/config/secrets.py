"""Texts that must not be seen: keys, passwords, and the addresses that carry them."""

from __future__ import annotations

import re

from cliproxy.wire.secrets import Secret

_USERINFO = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*://)?[^/?#]*@")


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
