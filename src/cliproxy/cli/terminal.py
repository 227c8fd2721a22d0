"""A terminal that shows how long something takes already, and on which something can be pasted meanwhile.

Both would be in each other's way if the terminal showed what is typed by itself. So it does not: what is typed is
collected here, and the status line says how much there is. That also keeps codes off the screen. The terminal is put
back however the program ends, but for SIGKILL.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import termios
import time
import tty
from collections.abc import Callable
from types import TracebackType

import click

_TICK_SECONDS = 0.1
_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_PLAIN_FRAMES = "|/-\\"
_CLEAR = "\r\x1b[K"
_MOST_TYPED = 16 * 1024
_READ_BYTES = 64 * 1024

_ERASE, _KILL, _END = frozenset({"\x7f", "\x08"}), "\x15", "\x04"


class Typed:
    """Lines that are typed, pasted or piped to stdin while the block runs; each is given to `on_line`.

    `length` is how much is typed and waits for Enter. `ended` is set when nothing more can come.
    """

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._text = ""
        self._input = -1
        self._modes: list[int | list[bytes | int]] | None = None
        self.ended = asyncio.Event()

    @property
    def length(self) -> int:
        return len(self._text)

    def __enter__(self) -> Typed:
        with contextlib.suppress(OSError, ValueError):  # no stdin at all
            self._open(sys.stdin.fileno())
        if self._input < 0:
            self.ended.set()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _open(self, descriptor: int) -> None:
        is_terminal = os.isatty(descriptor)
        if is_terminal and os.tcgetpgrp(descriptor) != os.getpgrp():
            return  # in the background: whoever reads from the terminal there is stopped
        try:
            asyncio.get_running_loop().add_reader(descriptor, self._read)
        except PermissionError:
            self._take_all(descriptor)
            return
        self._input = descriptor
        if is_terminal:
            self._modes = termios.tcgetattr(descriptor)
            tty.setcbreak(descriptor)

    def _take_all(self, descriptor: int) -> None:
        """From a file, or from nothing: what is there is there at once."""
        for line in os.read(descriptor, _READ_BYTES).decode(errors="replace").splitlines():
            self._on_line(line)

    def _end(self) -> None:
        self.ended.set()
        if self._input < 0:
            return
        asyncio.get_running_loop().remove_reader(self._input)
        if self._modes is not None:
            termios.tcsetattr(self._input, termios.TCSADRAIN, self._modes)
        self._input = -1

    def _read(self) -> None:
        try:
            data = os.read(self._input, _READ_BYTES)
        except OSError:
            data = b""
        for letter in data.decode(errors="replace"):
            self._take(letter)
        if not data:
            self._take("\n")
            self._end()

    def _take(self, letter: str) -> None:
        if letter in "\r\n":
            line, self._text = self._text, ""
            if line.strip():
                self._on_line(line)
        elif letter in _ERASE:
            self._text = self._text[:-1]
        elif letter == _KILL:
            self._text = ""
        elif letter == _END:
            if not self._text:
                self._end()
        elif letter.isprintable() and len(self._text) < _MOST_TYPED:
            self._text += letter


class Screen:
    """What is said on stdout: lines, and one status line below them where stdout is a terminal."""

    def __init__(self) -> None:
        self.is_terminal = sys.stdout.isatty() and os.environ.get("TERM", "") != "dumb"
        self.has_unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
        self._status = ""

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines."""
        found = shutil.get_terminal_size()
        return found.columns, found.lines

    def say(self, text: str = "") -> None:
        self._show("")
        click.echo(text)

    async def watch(self, status: Callable[[], str]) -> None:
        """Show `status` with the time that has passed, until cancelled."""
        if not self.is_terminal:
            return
        frames = _FRAMES if self.has_unicode else _PLAIN_FRAMES
        begun, number = time.monotonic(), 0
        try:
            while True:
                minutes, seconds = divmod(int(time.monotonic() - begun), 60)
                self._show(f"{frames[number % len(frames)]} {minutes}:{seconds:02} {status()}")
                number += 1
                await asyncio.sleep(_TICK_SECONDS)
        finally:
            self._show("")

    def _show(self, status: str) -> None:
        """The status line; "" takes it away."""
        if status or self._status:
            sys.stdout.write(_CLEAR + status[: self.size[0] - 1])
            sys.stdout.flush()
        self._status = status
