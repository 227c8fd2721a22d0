"""The composition root: the only place that names concrete classes, reads the environment and owns a clock."""

import asyncio
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.request import getproxies_environment

import uvicorn

from cliproxy.config.document import Loaded
from cliproxy.config.issues import ConfigError
from cliproxy.config.schema import Config
from cliproxy.gateway.runtime import Runtime
from cliproxy.gateway.watching import keep_listings
from cliproxy.providers.base import Proxies
from cliproxy.providers.registry import PROVIDERS
from cliproxy.server.asgi import AsgiApp
from cliproxy.server.fast import FastProtocol, reap
from cliproxy.stores.config_file import ConfigFile
from cliproxy.transport.pool import Pool as Transport

_log = logging.getLogger("cliproxy")

_KEEP_ALIVE_SECONDS = 120


class StartRefused(Exception):
    """The gateway must not start like this; the text says why and what to do."""


class Gateway:
    """One gateway process: a runtime, its listener and its background work.

    `run` serves until `stop` or a signal. `environment` decides about proxies and the edge (`CLIPROXY_EDGE=asgi`).
    """

    def __init__(self, config: Config, file: ConfigFile | None, environment: Mapping[str, str]) -> None:
        self._file = file
        self._environment = environment
        self._config = config
        self._server: _Server | None = None
        self._socket = _listen(config)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that are really listened on; the port differs from the configured one when that is 0."""
        name = self._socket.getsockname()
        return str(name[0]), int(name[1])

    async def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        transport = Transport()
        runtime = Runtime(
            self._config,
            PROVIDERS,
            transport,
            monotonic=time.monotonic,
            epoch=time.time,
            boot=secrets.token_hex(4),
            proxies=_proxies(self._environment),
        )
        server = self._server = _Server(_uvicorn_config(runtime, self._environment), runtime, on_ready)
        work = [asyncio.create_task(keep_listings(runtime)), asyncio.create_task(reap(server.server_state))]
        if self._file is not None:
            work.append(asyncio.create_task(_follow(self._file, runtime)))
        try:
            await server.serve(sockets=[self._socket])
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)
            transport.close()

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
        await super().shutdown(sockets)


def refusal_of(config: Config) -> str:
    """Why a gateway must not serve `config`, "" when it may."""
    if config.host in ("127.0.0.1", "localhost", "::1") or config.api_keys or config.allow_unauthenticated:
        return ""
    return (
        f"`host: {config.host}` is reachable from other machines, but there are no `api-keys`. "
        "Add one, or set `allow-unauthenticated: true` if everybody who can reach this port may spend your quota."
    )


def load(path: Path) -> tuple[Loaded, ConfigFile]:
    """Raises ConfigError or OSError."""
    file = ConfigFile(path)
    return file.load(), file


async def _follow(file: ConfigFile, runtime: Runtime) -> None:
    """Publish every good version of the file; keep the last good one while the file is broken."""

    async def on_change(loaded: Loaded) -> None:
        for warning in loaded.warnings:
            _log.warning("%s", warning)
        if refusal := refusal_of(loaded.config):
            _log.error("The edited configuration is not used: %s", refusal)
            return
        runtime.publish(loaded.config)
        set_level(loaded.config)
        _log.info("The configuration was reloaded.")

    async def on_error(error: ConfigError | OSError) -> None:
        _log.error("The configuration is broken; the last good one stays in force.\n%s", error)

    await file.watch(on_change, on_error)


def set_level(config: Config) -> None:
    logging.getLogger("cliproxy").setLevel(logging.DEBUG if config.debug else logging.INFO)


def _listen(config: Config) -> socket.socket:
    """A bound socket, so that a busy port is told before anything else happens."""
    if refusal := refusal_of(config):
        raise StartRefused(refusal)
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((config.host, config.port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        reason = error.strerror or str(error)
        raise StartRefused(f"Cannot listen on {config.host}:{config.port}: {reason}.") from error
    listener.setblocking(False)
    return listener


def _uvicorn_config(runtime: Runtime, environment: Mapping[str, str]) -> uvicorn.Config:
    class Protocol(FastProtocol):
        pass

    Protocol.runtime = runtime
    is_fast = environment.get("CLIPROXY_EDGE", "") != "asgi"
    config = runtime.snapshot.config
    return uvicorn.Config(
        AsgiApp(runtime),  # pyright: ignore[reportArgumentType]
        http=Protocol if is_fast else "httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=round(config.timeouts.drain) or None,
    )


def _proxies(environment: Mapping[str, str]) -> Proxies:
    found = getproxies_environment() if environment is os.environ else {}
    every = found.get("all", "")
    exempt = tuple(part for part in found.get("no", "").split(",") if part.strip())
    return Proxies(found.get("http", every), found.get("https", every), exempt)
