"""A managed gateway whose logins live in a time that the test makes pass, before simulated vendors."""

from __future__ import annotations

import asyncio
import concurrent.futures
import http.client
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import bcrypt
import uvicorn
from managed import KEY, Managed, Reply, soon

from cliproxy.gateway.accounts import Accounts
from cliproxy.gateway.client_secrets import SecretSearch
from cliproxy.gateway.desk import ConfigDesk, Terms, open_config
from cliproxy.gateway.gate import Gate
from cliproxy.gateway.logins import Clock, LoginDesk, Means
from cliproxy.gateway.plane import Logs, Plane
from cliproxy.gateway.runtime import Runtime
from cliproxy.gateway.vault import Vault
from cliproxy.providers.accounts import ClientSecrets
from cliproxy.providers.logins.registry import read_file
from cliproxy.providers.registry import KINDS, PROVIDERS
from cliproxy.server.asgi import AsgiApp
from cliproxy.server.callbacks import listen
from cliproxy.server.fast import protocol_of
from cliproxy.simulator import Simulator
from cliproxy.stores.app_log import AppLog
from cliproxy.stores.auth_files import AuthFiles
from cliproxy.stores.config_file import ConfigFile
from cliproxy.stores.folders import auth_folder
from cliproxy.stores.request_logs import RequestLogs
from cliproxy.stores.token_journal import TokenJournal
from cliproxy.transport.pool import Pool
from cliproxy.wire.secrets import Secret
from fake_time import FakeTime

START_SECONDS = 10.0
HASH = bcrypt.hashpw(KEY.encode(), bcrypt.gensalt(4)).decode()
"""As it stands in a file, and quicker to check than one that we would make."""


class _Server(uvicorn.Server):
    """uvicorn's server, but it ends at once when it is told to, and not when it next looks."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ending = asyncio.Event()

    async def main_loop(self) -> None:
        await self.ending.wait()


class _Serving:
    """The gateway in a thread; see `app.Gateway`, of which this is the part that matters to logins."""

    def __init__(self, folder: Path, text: str, clock: FakeTime, saved: Callable[[tuple[str, ...]], None]) -> None:
        self.path = folder / "config.yaml"
        self.path.write_text(text)
        self.path.chmod(0o600)
        self._file = ConfigFile(self.path)
        self._clock = clock
        self._saved = saved
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self.loop: asyncio.AbstractEventLoop | None = None
        self._server: _Server | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="gateway", daemon=True)
        self._thread.start()
        if not self._ready.wait(START_SECONDS):
            raise RuntimeError("the gateway did not start")

    async def _run(self) -> None:
        config = open_config(self._file).config
        self.loop = asyncio.get_running_loop()
        transport = Pool()
        runtime = Runtime(
            config, PROVIDERS, transport, monotonic=time.monotonic, epoch=time.time, boot="test", kinds=KINDS
        )
        files = AuthFiles(lambda: auth_folder(config), time.time)
        vault = Vault(runtime, files, TokenJournal(lambda: self.path.parent / "tokens"), ClientSecrets(), ClientSecrets)
        accounts = Accounts(runtime, files, vault, read_file, time.time_ns)
        logs = Logs(AppLog(self.path.parent / "logs"), RequestLogs(self.path.parent / "logs"))

        async def on_saved(names: tuple[str, ...]) -> None:
            self._saved(names)
            await accounts.look()

        logins = runtime.logins = LoginDesk(
            Means(
                config=lambda: runtime.snapshot.config,
                proxies=runtime.proxies,
                transport=transport,
                files=files,
                listen=listen,
                clock=Clock(self._clock.monotonic, time.time, self._clock.pause),
                secrets=SecretSearch(Secret(), files, tuple, lambda: runtime.snapshot.config),
                on_saved=on_saved,
            )
        )
        desk = ConfigDesk(runtime, self._file, config, Terms())
        plane = Plane(runtime, desk, Gate(Secret(), time.monotonic), logs, files, accounts, logins)
        server = self._server = _Server(
            uvicorn.Config(
                AsgiApp(runtime, plane),  # type: ignore[arg-type]
                http=protocol_of(runtime, is_fast=True),
                ws="none",
                lifespan="off",
                log_config=None,
            )
        )
        self._ready.set()
        try:
            await server.serve(sockets=[self._socket])
        finally:
            await logins.close()
            await desk.close()
            transport.close()
            logs.requests.close()
            logs.app.close()

    def stop(self) -> None:
        if self._server is not None and self.loop is not None:
            self.loop.call_soon_threadsafe(self._server.ending.set)
        self._thread.join(START_SECONDS)


class LoginGateway(Managed):
    """`port` is where callbacks come: all vendors' to the same one, so no test may wait for two vendors there. Without
    `vendors` nothing is simulated, and callbacks come where vendors send them."""

    def __init__(self, folder: Path, vendors: Simulator | None, *, key: bool = True, more: str = "") -> None:
        self.clock = FakeTime()
        self.saved: list[tuple[str, ...]] = []
        self.auth_dir = folder / "cpa-auth"
        self.port = free_port()
        text = f"port: 0\nauth-dir: {self.auth_dir}\napi-keys: [test-key]\n{more}"
        if key:
            text += f"remote-management: {{secret-key: {HASH}}}\n"
        if vendors is not None:
            vendors.accounts.codex_ports = frozenset({self.port})
            vendors.accounts.polls = 0
            endpoints = vendors.endpoints()
            for vendor in ("gemini-cli", "claude", "codex"):
                endpoints = endpoints.replace(f"  {vendor}:\n", f"  {vendor}:\n    callback-port: {self.port}\n")
            text += endpoints
        self.serving = _Serving(folder, text, self.clock, self.saved.append)  # type: ignore[assignment]
        self.host = "127.0.0.1"

    def begin(self, name: str, query: str = "") -> tuple[str, str]:
        """Begin a login; the address and the handle."""
        told = self.get(f"/{name}-auth-url{query}")
        assert told.status == 200, told
        return told.json["url"], told.json["state"]  # type: ignore[index]

    def status(self, state: str) -> object:
        return self.get(f"/get-auth-status?state={state}").json

    def ends(self, state: str) -> object:
        """The status of a login when it is no longer one that waits."""
        assert soon(lambda: self.status(state)["status"] != "wait", 10.0)  # type: ignore[index]
        return self.status(state)

    def come_back(self, location: str, method: str = "GET", host: str = "127.0.0.1") -> Reply:
        """What a browser is shown that is sent to `location`, at whatever of our listeners that is."""
        parts = urlsplit(location)
        return ask_at(host, parts.port or 0, method, f"{parts.path}?{parts.query}")

    def wait_out(self, seconds: float) -> None:
        """Let so much time pass, as soon as a login waits for just that."""
        assert soon(lambda: seconds in self.clock.waits(), 10.0), self.clock.waits()
        self.pass_time(seconds)

    def pass_time(self, seconds: float) -> None:
        """Let time pass for logins."""
        loop = self.serving.loop  # type: ignore[attr-defined]
        done: concurrent.futures.Future[None] = concurrent.futures.Future()

        def advance() -> None:
            self.clock.advance(seconds)
            loop.call_soon(done.set_result, None)

        loop.call_soon_threadsafe(advance)
        done.result(START_SECONDS)

    @property
    def is_listening(self) -> bool:
        """Whether callbacks can come."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def files(self) -> list[str]:
        return sorted(path.name for path in self.auth_dir.glob("*")) if self.auth_dir.exists() else []


def ask_at(host: str, port: int, method: str, target: str, body: bytes | None = None) -> Reply:
    connection = http.client.HTTPConnection(host, port, timeout=20)
    try:
        connection.request(method, target, body)
        answer = connection.getresponse()
        return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def query_of(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
