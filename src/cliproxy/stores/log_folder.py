"""Where logs lie, and how a line gets there: readable by the owner only, never through somebody else's link.

The folder is `logs` beside the configuration file, which is where the Go program and its container images have it; where
that cannot be written to, `logs` in the state folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from cliproxy.stores.folders import make_private

Append = Callable[[Path, bytes], int]
"""Add bytes to the end of a file; what comes back is the file's new size. Raises OSError."""

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


def log_folder(config_file: Path, state_dir: Path) -> Path:
    """The folder that is used. It need not exist yet; nothing is created here."""
    beside = config_file.absolute().parent / "logs"
    nearest = beside if beside.is_dir() else beside.parent
    return beside if os.access(nearest, os.W_OK | os.X_OK) else state_dir / "logs"


def append(path: Path, data: bytes) -> int:
    """An `Append` to the disk. A file that is not there is created 0600, a folder 0700.

    The file is opened for each call: nothing is held open for a stream of an hour, a file or folder that somebody
    removed comes back, and rotation needs no care. That is 10 us, on a thread that has the time.
    """
    try:
        descriptor = os.open(path, _FLAGS, 0o600)
    except FileNotFoundError:
        make_private(path.parent)
        descriptor = os.open(path, _FLAGS, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def stamp(at: float) -> str:
    """A time (epoch seconds) as file names have it: local, sortable, without colons."""
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%dT%H%M%S")


def is_private_name(name: str) -> bool:
    """Whether `name` can only mean a file in the folder itself."""
    return bool(name) and name not in (".", "..") and not any(sign in name for sign in ("/", "\\", "\0"))
