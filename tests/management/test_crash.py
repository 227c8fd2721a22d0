"""Case 200: a process that is killed in the middle of its writes, over and over."""

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import bcrypt
from managed import FIXTURE

from cliproxy.config.document import read
from cliproxy.stores.config_file import ConfigFile

WRITING = Path(__file__).with_name("writing.py")
WRITES = 200
LONGEST_RUN = 24


def test_200_a_killed_writer_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    hashed = bcrypt.hashpw(b"mk", bcrypt.gensalt(4)).decode()
    text = FIXTURE.replace("AUTH_DIR", str(tmp_path / "auth")).replace('"mk"', f'"{hashed}"')
    path.write_text(text)
    path.chmod(0o600)
    chance = random.Random(20)
    written, kills, last = 0, 0, 3

    while written < WRITES:
        confirmed = _killed_after(path, last + 1, chance.randint(1, LONGEST_RUN), chance.random() * 0.006)
        kills += 1
        written += confirmed - last

        found = read(path.read_text()).config.request_retry
        assert found in (confirmed, confirmed + 1)
        assert path.read_text() == text.replace("request-retry: 3", f"request-retry: {found}")
        assert path.stat().st_mode & 0o777 == 0o600
        assert len(list(tmp_path.glob(".config.yaml.*"))) <= 1
        last = found

    assert kills >= WRITES // LONGEST_RUN
    ConfigFile(path).lock().release()
    assert list(tmp_path.glob(".config.yaml.*")) == []


def _killed_after(path: Path, first: int, writes: int, more_seconds: float) -> int:
    """Start a writer and kill it a moment after so many writes; the last number that it says was written."""
    with subprocess.Popen([sys.executable, WRITING, "count", path, str(first)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        lines = iter(process.stdout)
        said = [int(_next(lines)) for _ in range(writes)]
        try:
            process.wait(more_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
        said += [int(line) for line in lines if line.endswith(b"\n")]
    assert said == list(range(first, first + len(said)))
    return said[-1]


def _next(lines: Iterator[bytes]) -> bytes:
    line = next(lines, b"")
    assert line, "the writer ended by itself"
    return line
