"""What a login makes up for itself: the verifier and its challenge, and the state that ties the answer to the question.

Randomness comes in as a function, so that a test knows what was drawn. Source: RFC 7636, checked 2026-11-24.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Callable

from cliproxy.wire.secrets import Secret

RandomBytes = Callable[[int], bytes]
"""So many bytes from a source that nobody can guess."""

CHALLENGE_METHOD = "S256"

_VERIFIER_BYTES = 96
_STATE_BYTES = 16
_STATE = re.compile(r"[A-Za-z0-9._-]{1,128}")


def new_verifier(random_bytes: RandomBytes, size: int = _VERIFIER_BYTES) -> Secret:
    """96 bytes give 128 characters, the most that RFC 7636 allows; 32 bytes give 43, the fewest."""
    return Secret(_base64url(random_bytes(size)))


def challenge(verifier: Secret) -> str:
    return _base64url(hashlib.sha256(verifier.reveal().encode()).digest())


def new_state(random_bytes: RandomBytes) -> str:
    """32 hexadecimal digits."""
    return random_bytes(_STATE_BYTES).hex()


def is_state(text: str) -> bool:
    """Whether `text` could be a state at all, ours or another program's; it is safe to look up and to log if so."""
    return bool(_STATE.fullmatch(text)) and ".." not in text


def same(one: str, other: str) -> bool:
    """Equality that takes the same time wherever the texts differ."""
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))


def _base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
