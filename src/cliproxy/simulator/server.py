"""Serving the simulated vendors: in a thread for tests and the demo, or as the process's own work for the CLI."""

import asyncio
import http.client
import socket
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType, TracebackType
from urllib.parse import urlencode, urlsplit

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from cliproxy.simulator.accounts import GOOGLE_CLIENT_SECRET, Accounts
from cliproxy.simulator.app import Recorded, Script, Simulation
from cliproxy.simulator.exchange import FORM_BODY
from cliproxy.simulator.pages import ANYBODY
from cliproxy.simulator.rules import Rule

_START_SECONDS = 10.0
_STOP_SECONDS = 0.5
_POLL_SECONDS = 0.005
_ANSWER_SECONDS = 10.0
# The rows of `app.py`, as the configuration calls them. Qwen's `base-url` is missing: its tokens tell it.
_ENDPOINTS = """\
endpoints:
  gemini:
    base-url: "{url}"
  gemini-cli:
    base-url: "{url}"
    authorize-url: "{url}/o/oauth2/v2/auth"
    token-url: "{url}/token"
    userinfo-url: "{url}/oauth2/v2/userinfo"
    client-secret: {secret}
  claude:
    base-url: "{url}"
    authorize-url: "{url}/cai/oauth/authorize"
    token-url: "{url}/v1/oauth/token"
  codex:
    base-url: "{url}/backend-api/codex"
    api-base-url: "{url}/v1"
    authorize-url: "{url}/oauth/authorize"
    token-url: "{url}/oauth/token"
  qwen:
    device-url: "{url}/api/v1/oauth2/device/code"
    token-url: "{url}/api/v1/oauth2/token"
"""


class Simulator:
    """The simulated vendors on loopback, in a thread with an event loop of its own.

    `with Simulator() as sim:` serves until the block ends; open streams are dropped then. Port 0 takes a free one.
    Everything may be called from any thread. `accounts` are the people who have logged in, and the settings of the
    vendors' login services.
    """

    def __init__(self, port: int = 0, scripts: Sequence[Rule] = ()) -> None:
        self._script = Script()
        self._script.add(*scripts)
        self._socket = _listen(port)
        self._port = int(self._socket.getsockname()[1])
        self.accounts = Accounts(self.url)
        self._thread = threading.Thread(target=self._work, name="simulated-vendors", daemon=True)
        self._started = threading.Event()
        self._server: _Server | None = None

    def __enter__(self) -> "Simulator":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        """Base URL without a trailing slash and without `/v1`."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def requests(self) -> list[Recorded]:
        """All requests so far, in the order in which they were read."""
        return self._script.requests()

    def script(self, *rules: Rule) -> None:
        """Add rules behind those in force."""
        self._script.add(*rules)

    def endpoints(self) -> str:
        """The `endpoints:` block of a configuration that finds all vendors here."""
        return endpoints(self.url)

    def approve(self, url: str, *, email: str = ANYBODY, deny: bool = False) -> str:
        """Answer a consent page as a person would, without a browser; where the vendor sends the browser then.

        That is "" for a device login, whose page leads nowhere. Raises ValueError with the vendor's page when `url`
        is no consent page, or a wrong one.
        """
        parts = urlsplit(url)
        body = urlencode({"email": email, "answer": "deny" if deny else "approve"})
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_ANSWER_SECONDS)
        try:
            connection.request("POST", f"{parts.path}?{parts.query}", body, {"content-type": FORM_BODY})
            answer = connection.getresponse()
            page = answer.read().decode()
        finally:
            connection.close()
        if answer.status not in (200, 303):
            raise ValueError(f"HTTP {answer.status}: {page}")
        return answer.headers.get("location", "")

    def reset(self) -> None:
        """Forget rules, requests and accounts; put the settings of `accounts` back."""
        self._script.clear()
        self.accounts.reset()

    def settled(self, timeout: float = 2.0) -> list[Recorded]:
        """The requests, once each was completed, cut or left by its caller; raises `TimeoutError` when one was not."""
        until = time.monotonic() + timeout
        while not all(seen.is_settled for seen in self.requests):
            if time.monotonic() > until:
                raise TimeoutError(f"requests still open after {timeout} s")
            time.sleep(_POLL_SECONDS)
        return self.requests

    def start(self) -> None:
        """Raises `RuntimeError` when the thread does not come up; its own traceback tells why."""
        self._thread.start()
        if not self._started.wait(_START_SECONDS):
            raise RuntimeError("the simulated vendors did not start")

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
        self._thread.join()
        self._socket.close()

    def _work(self) -> None:
        config = _config(Simulation(self._script, self.accounts))
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            self._server = _Server(config, runner.get_loop(), self._started.set)
            runner.run(self._server.serve(sockets=[self._socket]))


def endpoints(url: str) -> str:
    """The `endpoints:` block of a configuration for the simulated vendors at `url`, in YAML."""
    return _ENDPOINTS.format(url=url, secret=GOOGLE_CLIENT_SECRET)


async def serve(port: int, scripts: Sequence[Rule] = ()) -> None:
    """Serve on loopback until interrupted; for the CLI and the demo."""
    script = Script()
    script.add(*scripts)
    simulation = Simulation(script, Accounts(f"http://127.0.0.1:{port}"))
    server = _Server(_config(simulation), asyncio.get_running_loop())
    await server.serve(sockets=[_listen(port)])


def run(port: int, scripts: Sequence[Rule] = ()) -> None:
    """`serve` with an event loop of its own; returns after SIGINT or SIGTERM."""
    asyncio.run(serve(port, scripts))


class _Protocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, which also lets the application close the connection in the middle of an answer."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope.setdefault("state", {})["cut"] = self.transport.close


class _Server(uvicorn.Server):
    """uvicorn's server, but it stops at once: nobody waits for simulated streams to end."""

    def __init__(
        self, config: uvicorn.Config, loop: asyncio.AbstractEventLoop, on_start: Callable[[], None] | None = None
    ) -> None:
        super().__init__(config)
        self._loop = loop
        self._on_start = on_start
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Safe from any thread."""
        self._loop.call_soon_threadsafe(self._stopping.set)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self.stop()

    async def main_loop(self) -> None:
        if self._on_start is not None:
            self._on_start()
        await self._stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        tasks = set(self.server_state.tasks)
        if tasks:
            await asyncio.wait(tasks, timeout=_STOP_SECONDS)
        for task in tasks:
            task.cancel()


def _config(app: Simulation) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        date_header=False,
        server_header=False,
        timeout_keep_alive=60,
    )


def _listen(port: int) -> socket.socket:
    """A listening socket at once, so that callers may connect before the thread runs."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(2048)
    return listener
