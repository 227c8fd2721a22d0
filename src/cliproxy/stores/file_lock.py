"""A lock on one file among processes: `flock` on the file itself, which leaves nothing behind beside it.

A file that is replaced by rename is another one afterwards, while the lock lies on the old one. So whoever gets the lock
looks whether the path still leads to what was locked, and else tries again. It works on the target of a bind mount too,
where no other file could stand for it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path

_PAUSE = 0.01


class FileLock:
    """Held until `release`. `is_alone` False: the file system has no locks, and other processes are not kept out."""

    def __init__(self, descriptor: int, *, is_alone: bool) -> None:
        self._descriptor = descriptor
        self.is_alone = is_alone

    def release(self) -> None:
        os.close(self._descriptor)


def lock(path: Path, patience: float) -> FileLock:
    """The lock on the file at `path`. Waits up to `patience` seconds for other holders: not for an event loop.

    Raises OSError: FileNotFoundError, BlockingIOError when others keep it, or what else kept us from opening the file.
    """
    for _ in range(max(1, round(patience / _PAUSE))):
        descriptor = _opened(path)
        try:
            if (is_alone := is_locked(descriptor)) is not None and _is_at(descriptor, path):
                held = FileLock(descriptor, is_alone=is_alone)
                descriptor = -1
                return held
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        time.sleep(_PAUSE)
    raise BlockingIOError(errno.EAGAIN, "another program keeps the file locked")


def _opened(path: Path) -> int:
    """For writing where that may be: some network drives lock nothing else."""
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)


def is_locked(descriptor: int) -> bool | None:
    """Whether the lock could be had: None for not now, False for not on this file system."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    except OSError:
        return False
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    return os.path.samestat(os.fstat(descriptor), path.stat())
