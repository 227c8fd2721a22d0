"""The program as people start it: a process of its own, with a home and a working folder of its own."""

import http.client
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SOON = 10.0
_SERVED_AT = re.compile(r"^  at    http://.*?:(\d+)", re.MULTILINE)

Run = Callable[..., subprocess.CompletedProcess[str]]


class Program:
    """`python -m cliproxy ARGUMENTS` while it runs; stdout and stderr go to files, so that it never blocks on them."""

    def __init__(self, arguments: tuple[str, ...], home: Path, folder: Path, environment: dict[str, str]) -> None:
        self._out, self._err = folder / "stdout", folder / "stderr"
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cliproxy", *arguments],
                cwd=folder,
                env=_environment(home) | environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    @property
    def stdout(self) -> str:
        return self._out.read_text()

    @property
    def stderr(self) -> str:
        return self._err.read_text()

    def says(self, text: str) -> str:
        """Wait until the program has printed `text`; all that it has printed."""
        until = time.monotonic() + SOON
        while text not in (said := self.stdout + self.stderr):
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {said}"
            assert time.monotonic() < until, f"not said: {text!r}, but {said}"
            time.sleep(0.01)
        return said

    @property
    def port(self) -> int:
        """Of `serve`; waits until it serves."""
        found = _SERVED_AT.search(self.says("Stop with Ctrl-C"))
        assert found is not None
        return int(found[1])

    def get(self, path: str, key: str = "") -> int:
        """The status that a GET is answered with."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path, headers={"authorization": f"Bearer {key}"} if key else {})
            return connection.getresponse().status
        finally:
            connection.close()

    def end(self, by: signal.Signals = signal.SIGTERM, seconds: float = SOON) -> int:
        """Send a signal; the exit code."""
        self.process.send_signal(by)
        return self.process.wait(seconds)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The working folder."""
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture
def begin(home: Path, folder: Path) -> Iterator[Callable[..., Program]]:
    """Starts programs, and ends what the test has left running."""
    started: list[Program] = []

    def start(*arguments: str, **environment: str) -> Program:
        program = Program(arguments, home, folder, environment)
        started.append(program)
        return program

    yield start
    for program in started:
        program.process.kill()
        program.process.wait()


@pytest.fixture
def run(home: Path, folder: Path) -> Run:
    """Runs the program to its end."""

    def go(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "cliproxy", *arguments],
            cwd=folder,
            env=_environment(home),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    return go


def _environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CLIPROXY_", "MANAGEMENT_"))}
    return kept | {"HOME": str(home)}
