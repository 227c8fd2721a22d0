"""Processes under measurement (Linux): start them on one CPU, read what they used, end them by their id.

CPU time is the first number of `/proc/<pid>/task/<tid>/schedstat`, nanoseconds on the CPU, summed over the threads of
the whole process tree. It is exact, but a thread that has ended takes its number with it; `Spent` therefore says how
many did, and carries the coarse count of `/proc/<pid>/stat` (10 ms ticks), which includes them.
Source: Linux Documentation/scheduler/sched-stats.rst and proc(5), checked 2026-11-24.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_TICK_US = 1e6 / os.sysconf("SC_CLK_TCK")
_STOP_SECONDS = 10.0


class CandidateDiedError(Exception):
    """A process ended or did not answer; the text carries the last lines of its log."""


@dataclass(frozen=True)
class Usage:
    """CPU time so far: nanoseconds by (pid, tid), ticks by pid."""

    threads: Mapping[tuple[int, int], int]
    ticks: Mapping[int, int]


@dataclass(frozen=True)
class Spent:
    """CPU microseconds between two usages, exact and in ticks, and the threads whose exact time is lost."""

    us: float
    ticks_us: float
    ended_threads: int


@dataclass(frozen=True)
class Memory:
    """Bytes of the process tree: resident, and proportional (shared pages divided among their users)."""

    rss_bytes: int
    pss_bytes: int


class Process:
    """A started program with its log. Use as a context manager: leaving it ends the whole tree."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        cpu: int | None,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as output, pinned(cpu):
            self.started = time.monotonic()
            self._popen = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=cwd, env=environment,
                start_new_session=True,
            )  # fmt: skip

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def pids(self) -> list[int]:
        """The process and its descendants, parents first."""
        return _tree(self._popen.pid)

    def check_alive(self) -> None:
        """Raise `CandidateDiedError` if the process has ended."""
        status = self._popen.poll()
        if status is not None:
            raise CandidateDiedError(f"`{self.name}` ended with status {status}\n{self.log_tail()}")

    def log_tail(self, lines: int = 15) -> str:
        text = self.log.read_text(errors="replace").splitlines()[-lines:]
        return "\n".join(f"    | {line}" for line in text) or "    | (its log is empty)"

    def usage(self) -> Usage:
        pids = self.pids()
        return Usage(
            {key: time_ns for pid in pids for key, time_ns in _thread_times(pid)}, {pid: _ticks(pid) for pid in pids}
        )

    def memory(self) -> Memory:
        sizes = [_memory(pid) for pid in self.pids()]
        return Memory(sum(size.rss_bytes for size in sizes), sum(size.pss_bytes for size in sizes))

    def stop(self) -> None:
        """Ask the tree to end, children last, and kill what is left after ten seconds."""
        pids = self.pids()
        for pid in pids:
            _signal(pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(_STOP_SECONDS)
        for pid in {*pids, *self.pids()}:
            if _group(pid) == self._popen.pid:
                _signal(pid, signal.SIGKILL)
        self._popen.wait()


def spent(before: Usage, after: Usage) -> Spent:
    """What was used between two looks at one process tree."""
    exact = sum(time_ns - before.threads.get(key, 0) for key, time_ns in after.threads.items())
    ticks = sum(count - before.ticks.get(pid, 0) for pid, count in after.ticks.items())
    return Spent(exact / 1000, ticks * _TICK_US, len(before.threads.keys() - after.threads.keys()))


@contextmanager
def pinned(cpu: int | None) -> Iterator[None]:
    """Start processes on one CPU: they inherit ours, which is why this must not wrap anything else."""
    if cpu is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def stolen_seconds(cpu: int | None) -> float:
    """Seconds that the hypervisor has given to others while a CPU (None: all of them) had work to do."""
    name = "cpu" if cpu is None else f"cpu{cpu}"
    for line in (_PROC / "stat").read_text().splitlines():
        fields = line.split()
        if fields[0] == name:
            return int(fields[8]) * _TICK_US / 1e6
    return 0.0


def _tree(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        fields = _stat(int(entry.name)) if entry.name.isdigit() else None
        if fields:
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found.extend(children.get(pid, ()))
    return found


def _stat(pid: int) -> list[str] | None:
    """The fields of `/proc/<pid>/stat` from the third (state) on, or None for a process that has ended."""
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _ticks(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[11]) + int(fields[12]) if fields else 0


def _group(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[2]) if fields else 0


def _thread_times(pid: int) -> Iterator[tuple[tuple[int, int], int]]:
    try:
        threads = list((_PROC / str(pid) / "task").iterdir())
    except OSError:
        return
    for thread in threads:
        try:
            yield (pid, int(thread.name)), int((thread / "schedstat").read_text().split()[0])
        except OSError:
            continue


def _memory(pid: int) -> Memory:
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return Memory(0, 0)
    sizes = {line.split()[0]: int(line.split()[1]) * 1024 for line in lines[1:]}
    return Memory(sizes.get("Rss:", 0), sizes.get("Pss:", 0))


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
