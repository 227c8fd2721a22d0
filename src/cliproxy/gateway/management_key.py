"""The management key as it is stored: hashed with bcrypt, wherever the file holds it in plain text.

Source: https://www.usenix.org/legacy/events/usenix99/provos/provos.pdf (bcrypt), checked 2026-03-01.
"""

from __future__ import annotations

import hashlib
import secrets

import bcrypt

from cliproxy.config import rules
from cliproxy.config.document import Loaded, read_tree
from cliproxy.config.editing import Draft, Path
from cliproxy.config.schema import Config
from cliproxy.wire.secrets import Secret

COST = 10
PLACES: tuple[Path, Path] = (("remote-management-key",), ("remote-management", "secret-key"))
"""The flat spelling, which wins, and the nested one."""


class KeyHasher:
    """One plain text has one hash as long as this lives, so that reading a file again does not change the key."""

    def __init__(self) -> None:
        self._salt = secrets.token_bytes(32)
        self._known: dict[bytes, str] = {}

    def hash(self, key: Secret) -> str:
        """The hash of a plain text. A twentieth of a second or more: not for an event loop."""
        text = _bytes(key)
        digest = hashlib.blake2b(text, key=self._salt).digest()
        if digest not in self._known:
            self._known[digest] = bcrypt.hashpw(text, bcrypt.gensalt(COST)).decode()
        return self._known[digest]

    def settle(self, draft: Draft, loaded: Loaded, name: str) -> Loaded:
        """Write hashes over the plain texts in `draft`, and give what it says then; `loaded` is what it says now.
        `name` is the file's, for messages.

        Raises ConfigError when there is no way to write that into this text.
        """
        plain = plain_keys(loaded.config)
        for place, key in plain:
            draft.set(place, self.hash(key))
        return read_tree(draft.tree, name=name) if plain else loaded


def plain_keys(config: Config) -> list[tuple[Path, Secret]]:
    """Where management keys stand in plain text, also one that the flat spelling makes idle."""
    keys = (config.remote_management_key or Secret(), config.remote_management.secret_key)
    return [(place, key) for place, key in zip(PLACES, keys, strict=True) if key and not rules.is_bcrypt(key.reveal())]


def matches(presented: bytes, stored: str) -> bool:
    """Whether a key that somebody presents is the one behind a stored hash. False for what is no hash."""
    if len(presented) > rules.BCRYPT_LIMIT_BYTES or not rules.is_bcrypt(stored) or rules.is_broken_bcrypt(stored):
        return False
    try:
        return bcrypt.checkpw(presented, stored.encode())
    except ValueError:  # a cost that bcrypt does not have
        return False


def is_same_key(new: Secret, stored: Secret) -> bool:
    """Whether a key in a new document, hashed or not, is the stored one."""
    return new == stored or (bool(new) and not rules.is_bcrypt(new.reveal()) and matches(_bytes(new), stored.reveal()))


def _bytes(key: Secret) -> bytes:
    return key.reveal().encode("utf-8", "surrogatepass")
