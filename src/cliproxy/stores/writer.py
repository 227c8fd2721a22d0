"""A thread that writes, so that a disk that is slow, full or gone never holds up an answer.

Work waits in a backlog that is bounded by bytes. What does not fit is refused at once, and whoever offered it says in
the file what is missing. Jobs run one at a time, in the order of their coming.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable

_log = logging.getLogger(__name__)

Job = Callable[[], None]
"""A piece of writing. May raise OSError, which is warned about, once a minute at most."""

# What a job that waits costs besides its bytes.
_JOB_BYTES = 256
_TICK_SECONDS = 1.0
_WARNING_SECONDS = 60.0


class Writer:
    """`what` is what the thread writes, for warnings. The thread starts with the first job.

    `tick` runs about once a second while jobs come, and says whether it wants to be called again without any.
    """

    def __init__(self, what: str, most_bytes: int, tick: Callable[[], bool] = lambda: False) -> None:
        self._what = what
        self._most_bytes = most_bytes
        self._tick = tick
        self._jobs: queue.SimpleQueue[tuple[Job, int] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waiting_bytes = 0
        self._thread: threading.Thread | None = None
        self._warned_at = -_WARNING_SECONDS

    @property
    def is_full(self) -> bool:
        return self._waiting_bytes >= self._most_bytes

    def offer(self, job: Job, size: int = 0, *, is_due: bool = False) -> bool:
        """Have `job`, which holds `size` bytes, done; False when it does not fit. One that `is_due` is always taken."""
        size += _JOB_BYTES
        with self._lock:
            waiting = self._waiting_bytes
            if waiting and waiting + size > self._most_bytes and not is_due:
                return False
            self._waiting_bytes = waiting + size
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=f"writing {self._what}", daemon=True)
                self._thread.start()
        self._jobs.put((job, size))
        return True

    def settle(self, seconds: float) -> bool:
        """Wait until all that was offered is written, `seconds` at most; whether it is. Blocks."""
        if self._thread is None:
            return True
        done = threading.Event()
        self.offer(done.set, is_due=True)
        return done.wait(seconds)

    def close(self, seconds: float) -> None:
        """End the thread when all is written; after `seconds` it is left to itself. Blocks."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._jobs.put(None)
            thread.join(seconds)

    def _work(self) -> None:
        """Ticks come between jobs as well: a busy thread must not keep what it gathered to itself."""
        wants_tick, ticked = False, time.monotonic()
        while True:
            try:
                item = self._jobs.get(timeout=_TICK_SECONDS if wants_tick else None)
            except queue.Empty:
                item = (_nothing, 0)
            if item is None:
                self._run(self._tick)
                return
            job, size = item
            self._run(job)
            with self._lock:
                self._waiting_bytes -= size
            wants_tick = True
            if time.monotonic() - ticked >= _TICK_SECONDS:
                ticked = time.monotonic()
                wants_tick = self._run(self._tick)

    def _run(self, work: Callable[[], object]) -> bool:
        try:
            return bool(work())
        except OSError as error:
            self._warn(error)
            return True

    def _warn(self, error: OSError) -> None:
        now = time.monotonic()
        if now - self._warned_at >= _WARNING_SECONDS:
            self._warned_at = now
            _log.warning("Cannot write %s: %s. The gateway goes on without.", self._what, error.strerror or error)


def _nothing() -> None: ...
