"""Bytes that are on the disk when the call returns: what stores replace files with."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def write_synced(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Create a file that must not be there yet. Raises OSError, and leaves nothing then.

    The mode is set before the first byte, so that a secret is never readable by more than the final file.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
    except OSError:
        path.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Make a new name durable. Some network drives refuse to sync a folder; then their own promise has to do."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
