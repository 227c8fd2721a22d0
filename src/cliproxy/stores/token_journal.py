"""Tokens that a vendor has just given and that are not yet in their file.

Refresh tokens rotate: with the vendor's answer the old one is dead, and whoever loses the new one must log in again. So
they are written here first, which is one small new file, before anything else happens; a start after a crash finds
them and puts them where they belong. What is left of a file that is gone, or that got other tokens meanwhile, is
dropped: an operator's file always wins.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from cliproxy.stores.durable import sync_folder, write_synced
from cliproxy.stores.folders import make_private

_SUFFIX = ".tokens"


class Entry(Struct, frozen=True):
    """`replaces` is a digest of the refresh token that was spent; `members` are what the file gets."""

    name: str
    replaces: str
    members: Mapping[str, object]


_DECODER = msgspec.json.Decoder(Entry)


class TokenJournal:
    """One folder, 0700, with one file for each refresh that is under way. The folder may change from call to call."""

    def __init__(self, folder: Callable[[], Path]) -> None:
        self._folder = folder

    def write(self, entry: Entry) -> None:
        """On disk when this returns. Raises OSError."""
        path = self._path(entry.name)
        make_private(path.parent)
        temporary = path.with_suffix(".tmp")
        temporary.unlink(missing_ok=True)  # of a process that was ended here
        write_synced(temporary, msgspec.json.encode(entry))
        temporary.replace(path)
        sync_folder(path.parent)

    def forget(self, name: str) -> None:
        with contextlib.suppress(OSError):
            self._path(name).unlink(missing_ok=True)

    def find(self, name: str) -> Entry | None:
        return _read(self._path(name))

    def names(self) -> list[str]:
        """Of the files whose tokens a process that ended too early has left here."""
        try:
            paths = sorted(self._folder().glob(f"*{_SUFFIX}"))
        except OSError:
            return []
        return [entry.name for path in paths if (entry := _read(path)) is not None]

    def _path(self, name: str) -> Path:
        """A digest, since a file's name may be as long as names can be."""
        return self._folder() / f"{hashlib.sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}{_SUFFIX}"


def _read(path: Path) -> Entry | None:
    """None when there is none, or none that can be read: a file that was cut short stays, and harms nobody."""
    try:
        return _DECODER.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
