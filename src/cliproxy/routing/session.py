"""Which conversation a request belongs to, as far as routing needs to know."""

from msgspec import Struct


class Session(Struct, frozen=True, gc=False):
    """`key` is a digest of what names the conversation. `is_new`: it is known by its first message only and has no
    answer in it so far, so nothing earlier is to be followed, but who answers is to be remembered."""

    key: bytes
    is_new: bool = False
