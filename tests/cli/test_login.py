"""`login` as people meet it: on a terminal of its own, before the simulated vendors, with a person who answers there."""

import fcntl
import http.client
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from cliproxy.simulator import Simulator
from cliproxy.simulator.failures import login_failure
from cliproxy.simulator.rules import Rule

SOON = 15.0
ADA = "ada@example.com"
ADDRESS = re.compile(r"^  (https?://\S+)\r?$", re.MULTILINE)
ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
# A session of its own has no terminal yet; whoever opens one takes it.
# Whatever started us may ignore or block Ctrl-C, as shells do in the background; what we start would inherit that.
LAUNCH = (
    "import fcntl, os, signal, sys, termios;"
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    "signal.signal(signal.SIGINT, signal.SIG_DFL);"
    "signal.pthread_sigmask(signal.SIG_SETMASK, ());"
    "os.execv(sys.executable, [sys.executable, '-m', 'cliproxy', *sys.argv[1:]])"
)


class Terminal:
    """The program on a pseudo-terminal."""

    def __init__(self, arguments: tuple[str, ...], folder: Path, environment: dict[str, str], size: tuple[int, int]):
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
        self._slave = slave
        self._raw = b""
        self.process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, *arguments],
            cwd=folder,
            env=environment,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )

    @property
    def shown(self) -> str:
        return ESCAPES.sub("", self._raw.decode(errors="replace"))

    def says(self, text: str) -> str:
        """Wait until `text` was shown; all that was."""
        until = time.monotonic() + SOON
        while text not in self.shown:
            assert time.monotonic() < until, f"not said: {text!r}, but {self.shown}"
            assert self._read(until - time.monotonic()), f"ended without {text!r}: {self.shown}"
        return self.shown

    @property
    def address(self) -> str:
        """What the person is to open."""
        self.says("Waiting for you")
        found = ADDRESS.search(self.shown)
        assert found is not None, self.shown
        return found[1]

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def ends(self) -> int:
        """Wait for the end; the exit code."""
        until = time.monotonic() + SOON
        while self.process.poll() is None:
            assert time.monotonic() < until, f"still running: {self.shown}"
            self._read(0.05)
        while self._read(0.0):
            pass
        return self.process.returncode

    @property
    def echoes(self) -> bool:
        """Whether the terminal shows what is typed."""
        return bool(termios.tcgetattr(self._slave)[3] & termios.ECHO)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._slave)
        os.close(self._master)

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], max(seconds, 0.0))
        if ready:
            self._raw += os.read(self._master, 65536)
        return bool(ready)


Log = Callable[..., Terminal]


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def accounts(tmp_path: Path) -> Path:
    return tmp_path / "accounts"


@pytest.fixture
def config(tmp_path: Path, accounts: Path, vendors: Simulator, port: int) -> Path:
    """A configuration for the simulated vendors, all of whose callbacks come to one port."""
    vendors.accounts.codex_ports = frozenset({port})
    vendors.accounts.interval, vendors.accounts.polls = 1.0, 0
    text = vendors.endpoints()
    for vendor in ("gemini-cli", "claude", "codex"):
        text = text.replace(f"  {vendor}:\n", f"  {vendor}:\n    callback-port: {port}\n")
    path = tmp_path / "config.yaml"
    path.write_text(f"auth-dir: {accounts}\n{text}")
    return path


@pytest.fixture
def log(config: Path, tmp_path: Path) -> Iterator[Log]:
    """Starts the program on terminals, and ends what the test has left running."""
    started: list[Terminal] = []
    home = tmp_path / "home"
    home.mkdir()
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    kept |= {"HOME": str(home), "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", "PYTHONWARNINGS": "error"}

    def begin(vendor: str, *arguments: str, size: tuple[int, int] = (50, 200), **environment: str) -> Terminal:
        """`vendor` may be a flag of the Go program."""
        command = (vendor,) if vendor.startswith("-") else ("login", vendor)
        terminal = Terminal((*command, "--config", str(config), *arguments), tmp_path, kept | environment, size)
        started.append(terminal)
        return terminal

    yield begin
    for terminal in started:
        terminal.close()


def come_back(location: str) -> tuple[int, str]:
    """What a browser is shown that is sent to `location`."""
    parts = urlsplit(location)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=SOON)
    try:
        connection.request("GET", f"{parts.path}?{parts.query}")
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def tokens_in(folder: Path) -> list[str]:
    """Every token that lies in a folder of accounts."""
    found: list[str] = []
    for path in folder.glob("*.json"):
        members = json.loads(path.read_text())
        for place in (members, members.get("token") or {}):
            found += [value for name, value in place.items() if name.endswith("_token") and value]
    return found


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        (["claude"], f"claude-{ADA}.json"),
        (["codex", "--no-browser"], f"codex-{ADA}.json"),
        (["gemini"], None),
        (["-claude-login"], f"claude-{ADA}.json"),
        (["--codex-login", "--no-browser"], f"codex-{ADA}.json"),
        (["--login", "--project_id", "project-1"], f"{ADA}-project-1.json"),
    ],
)
def test_somebody_logs_in_and_the_account_is_there(
    log: Log, vendors: Simulator, accounts: Path, asked: list[str], name: str | None
) -> None:
    if name is not None and "project" in name:
        vendors.accounts.issue("gemini", ADA, project="project-1")
    terminal = log(*asked)

    status, page = come_back(vendors.approve(terminal.address, email=ADA))

    assert (status, ADA in page) == (200, True)
    assert terminal.ends() == 0
    assert f"Logged in: {ADA}" in terminal.shown
    (path,) = accounts.glob("*.json")
    assert path.name == (name or path.name)
    assert path.stat().st_mode & 0o777 == 0o600
    assert str(path) in terminal.shown
    assert "API key" in terminal.shown
    tokens = tokens_in(accounts)
    assert tokens
    assert not [token for token in tokens if token in terminal.shown]


@pytest.mark.parametrize("asked", [["qwen"], ["-qwen-login", "-no-browser"]], ids=" ".join)
def test_a_device_login_waits_for_its_person(log: Log, vendors: Simulator, accounts: Path, asked: list[str]) -> None:
    terminal = log(*asked)

    (device,) = [terminal.address] and list(vendors.accounts.devices.values())
    vendors.approve(terminal.address)

    assert terminal.ends() == 0
    assert device.user_code in terminal.shown
    assert len(list(accounts.glob("qwen-*.json"))) == 1


def test_the_vendors_terms_stand_before_the_address(log: Log) -> None:
    shown = log("claude").says("Waiting for you")

    assert 0 < shown.index("API key") < shown.index("http")
    assert "USER@THIS-MACHINE" in shown


def test_whoever_says_no_is_told_so(log: Log, vendors: Simulator, accounts: Path) -> None:
    terminal = log("claude")

    status, page = come_back(vendors.approve(terminal.address, deny=True))

    assert (status, "access_denied" in page) == (400, True)
    assert terminal.ends() == 1
    assert "The login has failed. access_denied" in terminal.shown
    assert not accounts.exists()


def test_what_the_vendor_says_is_shown(log: Log, vendors: Simulator) -> None:
    vendors.script(Rule(path="/oauth/token", answer=login_failure("claude", message="The moon is in the wrong phase.")))
    terminal = log("claude")

    status, page = come_back(vendors.approve(terminal.address))

    assert (status, "The moon is in the wrong phase." in page) == (502, True)
    assert terminal.ends() == 1
    assert "The moon is in the wrong phase." in terminal.shown


@pytest.mark.parametrize("cut", ["whole", "code"])
def test_an_address_can_be_pasted(log: Log, vendors: Simulator, accounts: Path, cut: str) -> None:
    terminal = log("claude", "--no-browser")
    location = vendors.approve(terminal.address, email=ADA)
    code = location.partition("code=")[2].partition("&")[0]

    terminal.type("http://nowhere.example/\n")
    terminal.says("holds")
    terminal.type("http://localhost/callback?code=c&state=another\n")
    terminal.says("belongs to another login")
    terminal.type(location if cut == "whole" else code)
    terminal.says("press Enter")
    terminal.type("\n")

    assert terminal.ends() == 0
    assert (accounts / f"claude-{ADA}.json").exists()
    assert code not in terminal.shown


def test_without_the_port_the_address_is_pasted(log: Log, vendors: Simulator, accounts: Path, port: int) -> None:
    with socket.create_server(("127.0.0.1", port)):
        terminal = log("claude")
        assert f"port {port}" in terminal.says("Waiting for you")
        terminal.type(vendors.approve(terminal.address, email=ADA) + "\n")

        assert terminal.ends() == 0
    assert (accounts / f"claude-{ADA}.json").exists()


def test_a_vendor_that_takes_any_port_comes_back_to_another_one(log: Log, vendors: Simulator, port: int) -> None:
    with socket.create_server(("127.0.0.1", port)):
        terminal = log("gemini")
        location = vendors.approve(terminal.address, email=ADA)

        assert urlsplit(location).port not in (None, port)
        assert come_back(location)[0] == 200
        assert terminal.ends() == 0


def test_nothing_is_waited_for_when_nothing_can_come(config: Path, tmp_path: Path, port: int) -> None:
    with socket.create_server(("127.0.0.1", port)):
        ended = subprocess.run(
            [sys.executable, "-m", "cliproxy", "login", "claude", "--config", str(config)],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SOON,
            check=False,
        )

    assert ended.returncode == 1
    assert f"another program has port {port}" in ended.stderr.replace("\n", " ")


def test_an_address_can_be_piped(config: Path, tmp_path: Path, vendors: Simulator, accounts: Path, port: int) -> None:
    command = [sys.executable, "-m", "cliproxy", "login", "claude", "--config", str(config)]
    environment = {name: value for name, value in os.environ.items() if name not in ("BROWSER", "DISPLAY")}
    with (
        socket.create_server(("127.0.0.1", port)),
        subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process,
    ):
        assert process.stdout is not None
        address = next(line.strip() for line in process.stdout if line.startswith("  http"))
        said, _ = process.communicate(vendors.approve(address, email=ADA), timeout=SOON)

    assert process.returncode == 0
    assert f"Logged in: {ADA}" in said
    assert "\x1b" not in said
    assert (accounts / f"claude-{ADA}.json").exists()


def test_ctrl_c_ends_it_and_leaves_the_terminal_as_it_was(log: Log, accounts: Path) -> None:
    terminal = log("claude")
    terminal.says("Waiting for you")
    assert not terminal.echoes

    terminal.type("\x03")

    assert terminal.ends() == 130
    assert "nothing was saved" in terminal.shown
    assert "Traceback" not in terminal.shown
    assert terminal.echoes
    assert not accounts.exists()


def test_a_terminated_login_leaves_the_terminal_as_it_was(log: Log) -> None:
    terminal = log("claude")
    terminal.says("Waiting for you")

    terminal.process.send_signal(signal.SIGTERM)

    assert terminal.ends() == 143
    assert terminal.echoes


def test_a_login_that_nobody_answers_ends_by_itself(log: Log, vendors: Simulator) -> None:
    terminal = log("claude", "--timeout", "0.5")

    assert terminal.ends() == 1
    assert "Timeout waiting for OAuth callback" in terminal.shown
    assert vendors.requests == []


def test_a_login_while_another_one_waits(log: Log, vendors: Simulator, accounts: Path) -> None:
    first = log("claude")
    address = first.address
    second = log("claude")

    second.type(vendors.approve(second.address, email="bob@example.com") + "\n")
    assert second.ends() == 0
    come_back(vendors.approve(address, email=ADA))
    assert first.ends() == 0

    assert {path.name for path in accounts.iterdir()} == {f"claude-{ADA}.json", "claude-bob@example.com.json"}


def test_a_browser_is_opened_where_there_is_one(log: Log, tmp_path: Path) -> None:
    opened = tmp_path / "opened"
    script = tmp_path / "browser"
    script.write_text(f'#!/bin/sh\necho "$1" > {opened}.part\nmv {opened}.part {opened}\n')
    script.chmod(0o755)

    terminal = log("claude", BROWSER=f"{script} %s")
    terminal.says("Your browser opens it")

    until = time.monotonic() + SOON
    while not opened.exists() and time.monotonic() < until:
        select.select([], [], [], 0.02)
    assert opened.read_text().strip() == terminal.address


def test_no_browser_is_opened_when_that_is_not_wanted(log: Log) -> None:
    shown = log("claude", "--no-browser", BROWSER="/bin/false").says("Waiting for you")

    assert "Your browser" not in shown


def test_the_address_is_a_qr_code_where_it_fits(log: Log) -> None:
    assert "▀" in log("qwen", size=(60, 200)).says("Waiting for you")


@pytest.mark.parametrize(
    "options", [{"size": (15, 30)}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
def test_no_qr_code_is_shown_where_it_would_not_fit(log: Log, options: dict[str, object]) -> None:
    terminal = log("qwen", **options)

    assert "▀" not in terminal.says("Waiting for you")


def test_what_is_missing_is_said_before_anything_else(log: Log, config: Path, vendors: Simulator) -> None:
    config.write_text(re.sub(r" *client-secret: .*", "", config.read_text()))

    terminal = log("gemini")

    assert terminal.ends() == 1
    shown = " ".join(terminal.shown.split())
    assert "endpoints.gemini-cli.client-secret" in shown
    assert "CLIPROXY_GEMINI_CLIENT_SECRET" in shown
    assert "@google/gemini-cli" in shown
    assert vendors.requests == []


@pytest.mark.parametrize("place", ["environment", "package", "file"])
def test_googles_secret_is_found_elsewhere_too(
    log: Log, config: Path, vendors: Simulator, accounts: Path, tmp_path: Path, place: str
) -> None:
    text = config.read_text()
    found = re.search(r"client-secret: (\S+)", text)
    assert found is not None
    config.write_text(text.replace(found[0], ""))
    environment = {}
    match place:
        case "environment":
            environment = {"CLIPROXY_GEMINI_CLIENT_SECRET": found[1]}
        case "package":
            bundle = tmp_path / "node_modules/@google/gemini-cli/bundle"
            bundle.mkdir(parents=True)
            client = "681255809395-oo8ft2oprdrnp9e3aqf6av3hmdib135j.apps.googleusercontent.com"
            (bundle / "chunk-AB12.js").write_text(
                f'var OAUTH_CLIENT_ID = "{client}";\nvar OAUTH_CLIENT_SECRET = "{found[1]}";\n'
            )
        case _:
            accounts.mkdir()
            (accounts / "other.json").write_text(json.dumps(vendors.accounts.issue("gemini", "bob@example.com")))
    terminal = log("gemini", **environment)

    status, _ = come_back(vendors.approve(terminal.address, email=ADA))

    assert status == 200
    assert terminal.ends() == 0


@pytest.mark.parametrize(
    ("asked", "code", "text"),
    [
        (["nobody"], 2, "Usage:"),
        (["claude", "--project-id", "p"], 2, "has no project"),
        (["gemini", "--project-id", "12345"], 1, "number of a project"),
    ],
)
def test_what_cannot_be_meant_is_refused(log: Log, asked: list[str], code: int, text: str) -> None:
    terminal = log(*asked)

    assert terminal.ends() == code
    assert text in " ".join(terminal.shown.split())


def test_a_file_that_is_not_there_is_told(log: Log, config: Path) -> None:
    config.unlink()

    terminal = log("claude")

    assert terminal.ends() == 1
    assert "Cannot read" in terminal.shown


def test_a_vendor_that_cannot_be_reached_offers_no_login(log: Log, vendors: Simulator) -> None:
    vendors.script(Rule(path="/device/code", cut_after=0))

    terminal = log("qwen")

    assert terminal.ends() == 1
    assert "Qwen offers no login now" in terminal.shown
