"""The composition root: the only place that names concrete classes, reads the environment and owns a clock."""

import asyncio
import gc
import logging
import math
import os
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from secrets import token_hex
from types import FrameType

import uvicorn
from msgspec import Struct, structs

from cliproxy.config import rules
from cliproxy.config.schema import Config
from cliproxy.gateway.accounts import Accounts
from cliproxy.gateway.client_secrets import SecretSearch
from cliproxy.gateway.desk import ConfigDesk, Terms
from cliproxy.gateway.gate import Gate
from cliproxy.gateway.keeping import begin_keeping
from cliproxy.gateway.logins import Clock, LoginDesk, Means
from cliproxy.gateway.plane import Logs, Plane
from cliproxy.gateway.runtime import Runtime
from cliproxy.gateway.vault import Vault
from cliproxy.gateway.watching import keep_listings
from cliproxy.providers.environment import proxies_of
from cliproxy.providers.logins.google_client import ENVIRONMENT_VARIABLE as _GEMINI_SECRET
from cliproxy.providers.logins.registry import read_file
from cliproxy.providers.registry import KINDS, PROVIDERS
from cliproxy.server.asgi import AsgiApp
from cliproxy.server.callbacks import listen
from cliproxy.server.fast import protocol_of, reap
from cliproxy.stores.app_log import AppLog
from cliproxy.stores.auth_files import AuthFiles
from cliproxy.stores.clock import sleepless
from cliproxy.stores.config_file import ConfigFile
from cliproxy.stores.folders import auth_folder, state_folder
from cliproxy.stores.installed_programs import gemini_cli_sources
from cliproxy.stores.log_folder import log_folder
from cliproxy.stores.request_logs import RequestLogs
from cliproxy.stores.state import StateStore
from cliproxy.stores.token_journal import TokenJournal
from cliproxy.transport.pool import Pool as Transport
from cliproxy.wire.secrets import Secret

_log = logging.getLogger("cliproxy")

_KEEP_ALIVE_SECONDS = 120
_BACKLOG = 2048

# Settings stand in the file, so that there is one place to look; the environment is for secrets, and for the one
# switch that must work when the edge itself is in doubt.
_ENVIRONMENT = frozenset({"CLIPROXY_EDGE", _GEMINI_SECRET})


class StartRefused(Exception):
    """The gateway must not start like this; the text says why and what to do."""


class Listen(Struct, frozen=True):
    """What the command line says about the listener: it wins over the file, None leaves it to the file."""

    host: str | None = None
    port: int | None = None

    def over(self, config: Config) -> Config:
        host = config.host if self.host is None else self.host
        port = config.port if self.port is None else self.port
        return structs.replace(config, host=host, port=port)


class Gateway:
    """One gateway process: a runtime, its listener and its background work.

    `run` serves until `stop` or a signal. `config` is what `open_config` has read from `file`; without a file there is
    no Management API. `environment` decides about proxies and the edge (`CLIPROXY_EDGE=asgi`), and may hold a second
    management key (`MANAGEMENT_PASSWORD`). `is_alone`: the process is for this gateway and nothing else.
    Raises StartRefused when the configuration must not be served, or the address cannot be listened on.
    """

    def __init__(
        self,
        config: Config,
        file: ConfigFile | None,
        environment: Mapping[str, str],
        listen: Listen | None = None,
        *,
        is_alone: bool = False,
    ) -> None:
        self._file = file
        self._is_alone = is_alone
        self._environment = environment
        self._listen = listen or Listen()
        self._written = config
        self._config = self._listen.over(config)
        self._server: _Server | None = None
        self._runtime: Runtime | None = None
        self._socket = _listening(self._config)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that are really listened on; the port differs from the configured one when that is 0."""
        name = self._socket.getsockname()
        return str(name[0]), int(name[1])

    @property
    def has_password(self) -> bool:
        """Whether the environment holds a management key."""
        return bool(_password(self._environment))

    @property
    def stock(self) -> tuple[int, int]:
        """How many accounts there are and how many models they serve, by name; (0, 0) before `run`."""
        if self._runtime is None:
            return 0, 0
        snapshot = self._runtime.snapshot
        return len(snapshot.upstreams), len(snapshot.catalog.routes)

    async def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        transport = Transport()
        runtime = self._runtime = Runtime(
            self._config,
            PROVIDERS,
            transport,
            monotonic=sleepless(),
            epoch=time.time,
            boot=token_hex(4),
            proxies=proxies_of(self._environment),
            kinds=KINDS,
        )
        plane: Plane | None = None
        if self._file is not None:
            logs = _logs(self._file, self._config, runtime)
            auth_files = AuthFiles(lambda: auth_folder(runtime.snapshot.config), time.time)
            desk = ConfigDesk(runtime, self._file, self._written, self._terms())
            gate = Gate(_password(self._environment), time.monotonic)
            secrets = self._secrets(runtime, auth_files)
            accounts = self._accounts(runtime, auth_files, secrets)
            logins = runtime.logins = _logins(runtime, auth_files, accounts, secrets)
            plane = Plane(runtime, desk, gate, logs, auth_files, accounts, logins)
        server = self._server = _Server(_uvicorn_config(runtime, plane, self._environment), runtime, on_ready)
        work = [_begin("listings", keep_listings(runtime)), _begin("reaper", reap(server.server_state))]
        if self._file is not None and plane is not None:
            store = StateStore(lambda: state_folder(runtime.snapshot.config) / "state.db")
            keeping = await begin_keeping(runtime, plane.accounts, store)  # before the first account can be asked
            work.append(_begin("health", keeping.keep()))
            work.append(_begin("reload", self._file.watch(plane.desk.adopt, plane.desk.complain)))
            work.append(_begin("accounts", _followed(plane.accounts, is_alone=self._is_alone)))
            work.append(_begin("renewals", plane.accounts.vault.keep_fresh()))
        try:
            await server.serve(sockets=[self._socket])
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)
            if plane is not None:
                await plane.logins.close()
                await plane.desk.close()
            transport.close()
            if plane is not None:
                plane.logs.requests.close()
                plane.logs.app.close()

    def _accounts(self, runtime: Runtime, files: AuthFiles, secrets: SecretSearch) -> Accounts:
        journal = TokenJournal(lambda: state_folder(runtime.snapshot.config) / "tokens")
        vault = runtime.tokens = Vault(runtime, files, journal, secrets.told, secrets)
        return Accounts(runtime, files, vault, read_file, time.time_ns)

    def _secrets(self, runtime: Runtime, files: AuthFiles) -> SecretSearch:
        return SecretSearch(
            Secret(self._environment.get(_GEMINI_SECRET, "").strip()),
            files,
            lambda: gemini_cli_sources(self._environment, Path.cwd()),
            lambda: runtime.snapshot.config,
        )

    def _terms(self) -> Terms:
        """Whether callers need a key is judged by the listener that there is, not by a `host` that only the next start
        will use."""
        started, told = self._config, ""

        def follow(config: Config) -> None:
            nonlocal told
            set_level(config)
            fixed = _differing(started, config)
            if fixed and fixed != told:
                _log.warning("%s in the file is not what this process started with: that needs a restart.", fixed)
            told = fixed

        return Terms(
            over=self._listen.over,
            refusal=lambda config: refusal_of(structs.replace(config, host=started.host)),
            follow=follow,
        )

    def stop(self) -> None:
        """Begin a graceful stop: answers under way may finish within `timeouts.drain`."""
        if self._server is not None:
            self._server.should_exit = True


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, runtime: Runtime, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._runtime = runtime
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._runtime.is_draining = True
        drain = self._runtime.snapshot.config.timeouts.drain
        self.config.timeout_graceful_shutdown = math.ceil(drain) or None
        if count := len(self.server_state.tasks):
            limit = f"at most {drain:g} s" if drain else "as long as it takes"
            _log.info("Stopping when %d running requests have ended, %s; a second signal ends at once.", count, limit)
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, and what follows is a clean exit: uvicorn would raise the signal once more then.

        The second one ends the process here and now. Files are safe: they are replaced as a whole or not at all.
        """
        if self.should_exit:
            os._exit(128 + signal.Signals(sig))
        self.should_exit = True


def refusal_of(config: Config) -> str:
    """Why a gateway must not serve `config`, "" when it may."""
    if rules.is_loopback(config.host) or config.api_keys or config.allow_unauthenticated:
        return ""
    return (
        f"`{config.host or '0.0.0.0'}` is reachable from other machines, but there are no `api-keys`. "
        "Add one, or set `allow-unauthenticated: true` if everybody who can reach this port may spend your quota."
    )


def set_level(config: Config) -> None:
    _log.setLevel(logging.DEBUG if config.debug else logging.INFO)


def ignored_variables(environment: Mapping[str, str]) -> list[str]:
    """Names in the environment that look like settings of ours but are none."""
    return sorted(name for name in environment if name.startswith("CLIPROXY_") and name not in _ENVIRONMENT)


def _differing(started: Config, now: Config) -> str:
    """The keys that a running gateway cannot follow and that have changed, as text."""
    changed = {
        "host": started.host != now.host,
        "port": started.port != now.port,
        "state-dir": state_folder(started) != state_folder(now),
    }
    return " and ".join(f"`{name}`" for name, is_so in changed.items() if is_so)


async def _followed(accounts: Accounts, *, is_alone: bool) -> None:
    """Follow the folder of accounts. What is there at the start stays for long: the garbage collector need not look at
    it again and again, which with thousands of accounts would hold up everything for a twentieth of a second."""
    await accounts.look()
    if count := accounts.count:
        _log.info("%d %s read from credential files.", count, "account was" if count == 1 else "accounts were")
    if is_alone:
        gc.freeze()
    await accounts.follow()


def _logins(runtime: Runtime, files: AuthFiles, accounts: Accounts, secrets: SecretSearch) -> LoginDesk:
    async def on_saved(_: tuple[str, ...]) -> None:
        await accounts.look()

    return LoginDesk(
        Means(
            config=lambda: runtime.snapshot.config,
            proxies=runtime.proxies,
            transport=runtime.transport,
            files=files,
            listen=listen,
            clock=Clock(time.monotonic, time.time),
            secrets=secrets,
            on_saved=on_saved,
        )
    )


def _begin(name: str, work: Coroutine[None, None, None]) -> "asyncio.Task[None]":
    """Work that runs as long as the gateway; should it end by a bug, the log says so and what no longer happens."""

    def ended(task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.critical("Background work has ended: %s. Restart the gateway.", name, exc_info=error)

    task = asyncio.create_task(work, name=name)
    task.add_done_callback(ended)
    return task


def _logs(file: ConfigFile, config: Config, runtime: Runtime) -> Logs:
    """Where this process logs to besides the terminal; both follow each configuration that becomes current."""
    folder = log_folder(file.path, state_folder(config))
    logs = Logs(AppLog(folder), RequestLogs(folder))

    def follow(config: Config) -> None:
        logs.app.apply(is_to_file=config.logging_to_file)

    runtime.request_logs = logs.requests
    runtime.followers.append(follow)
    follow(config)
    return logs


def _listening(config: Config) -> socket.socket:
    """A bound socket, so that a busy port is told before anything else happens."""
    if refusal := refusal_of(config):
        raise StartRefused(refusal)
    host = config.host.strip("[]")
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, config.port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        reason = error.strerror or str(error)
        raise StartRefused(
            f"Cannot listen on {config.host or '0.0.0.0'}:{config.port}: {reason}. "
            "Another address can be given with `--host` and `--port`, or in the file."
        ) from error
    listener.setblocking(False)
    return listener


def _uvicorn_config(runtime: Runtime, plane: Plane | None, environment: Mapping[str, str]) -> uvicorn.Config:
    is_fast = environment.get("CLIPROXY_EDGE", "") != "asgi"
    return uvicorn.Config(
        AsgiApp(runtime, plane),  # pyright: ignore[reportArgumentType]
        http=protocol_of(runtime, is_fast=is_fast),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,  # `trusted-proxies` decides who may speak for others, and the gate needs the real peer
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
    )


def _password(environment: Mapping[str, str]) -> Secret:
    return Secret(environment.get("MANAGEMENT_PASSWORD", "").strip())
