"""`login`: log in to a vendor from a terminal, with or without a running gateway.

The same logins as in the gateway, in a loop of their own. The file that comes of it lands in the folder of accounts,
where a running gateway finds it. Where no browser can come back to this machine, or another program has the port that
it would come back to, the address that it ends at is pasted.

Exit codes: 0 logged in; 1 the login failed, was refused or took too long; 2 wrong usage; 130 interrupted, 143
terminated, and nothing was saved.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import secrets
import signal
import textwrap
import threading
import time
import webbrowser
from pathlib import Path

import click
from msgspec import structs

from cliproxy.canon.errors import GatewayError
from cliproxy.cli.files import config_option, default_path, is_there, unreadable
from cliproxy.cli.qr import qr_code
from cliproxy.cli.terminal import Screen, Typed
from cliproxy.config.issues import ConfigError
from cliproxy.config.schema import Config
from cliproxy.gateway.client_secrets import SecretSearch
from cliproxy.gateway.logins import WAIT_SECONDS, Begun, Clock, LoginDesk, LoginStatus, Means
from cliproxy.oauth.base import Misconfigured
from cliproxy.oauth.callback import read_callback
from cliproxy.oauth.pkce import same
from cliproxy.providers.accounts import CodeLogin, DeviceLogin, Login, new_handshake
from cliproxy.providers.environment import proxies_of
from cliproxy.providers.logins.google_client import ENVIRONMENT_VARIABLE
from cliproxy.providers.logins.registry import LOGINS, login_named
from cliproxy.server.callbacks import listen
from cliproxy.stores.auth_files import AuthFiles
from cliproxy.stores.config_file import ConfigFile
from cliproxy.stores.folders import auth_folder
from cliproxy.stores.installed_programs import gemini_cli_sources
from cliproxy.transport.pool import Pool
from cliproxy.wire.secrets import Secret

_WIDTH = 88
_TERMINATED = 128 + signal.SIGTERM


@click.command()
@click.argument("vendor", type=click.Choice([login.channel for login in LOGINS]))
@config_option
@click.option("--no-browser", is_flag=True, help="Show the address to open in place of opening it.")
@click.option("--project-id", "--project_id", default="", help="Gemini: the Google Cloud project, or `ALL`.")
@click.option("--timeout", type=click.FloatRange(0.1), default=WAIT_SECONDS, hidden=True, help="Seconds to wait.")
def login(*, vendor: str, config: Path | None, no_browser: bool, project_id: str, timeout: float) -> int:
    """Log in to a vendor with a subscription.

    The account is saved as a file in the folder of accounts, and a running gateway uses it at once. Vendors have terms
    for such logins, which are shown first; an API key in the configuration has none of their limits.

    Exits 0 when logged in, 1 when that failed or took too long, 130 when interrupted.
    """
    chosen = login_named(vendor)
    assert chosen is not None
    if project_id and chosen.channel != "gemini":
        raise click.UsageError(f"`--project-id` is for Gemini; a login to {vendor} has no project.")
    logging.getLogger("cliproxy").addHandler(logging.NullHandler())  # what it has to say is said here
    attempt = _Attempt(chosen, _configuration(config), project_id, timeout)
    return asyncio.run(attempt.run(opens_browser=not no_browser))


def _configuration(path: Path | None) -> Config:
    """The one that a gateway would have here; the default one where there is no file."""
    if path is None and not is_there(path := default_path()):
        return Config()
    try:
        return ConfigFile(path).load().config
    except ConfigError as error:
        raise click.ClickException(f"The configuration cannot be used.\n{error}") from error
    except OSError as error:
        raise click.ClickException(unreadable(path, error)) from error


class _Attempt:
    """One login, from the vendor's terms to the file."""

    def __init__(self, login: Login, config: Config, project: str, timeout: float) -> None:
        self._login = login
        self._config = config
        self._project = project
        self._screen = Screen()
        self._transport = Pool()
        self._files = AuthFiles(lambda: auth_folder(config), time.time)
        environment = Secret(os.environ.get(ENVIRONMENT_VARIABLE, "").strip())
        self._secrets = SecretSearch(
            environment, self._files, lambda: gemini_cli_sources(os.environ, Path.cwd()), lambda: config
        )
        self._means = Means(
            config=lambda: config,
            proxies=proxies_of(os.environ),
            transport=self._transport,
            files=self._files,
            listen=listen,
            clock=Clock(time.monotonic, time.time),
            secrets=self._secrets,
        )
        self._desk = LoginDesk(self._means, timeout)

    async def run(self, *, opens_browser: bool) -> int:
        """The exit code. Raises ClickException when the login does not succeed."""
        if not isinstance(self._login, DeviceLogin):
            await self._check(self._login)
        task, is_terminated = asyncio.current_task(), False
        assert task is not None

        def terminate() -> None:
            nonlocal is_terminated
            is_terminated = True
            task.cancel()

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)
        try:
            status = await self._logged_in(opens_browser=opens_browser)
        except asyncio.CancelledError:
            click.echo("Cancelled; nothing was saved.", err=True)
            if is_terminated:
                return _TERMINATED
            raise
        finally:
            await self._desk.close()
            self._transport.close()
        self._tell(status)
        return 0

    async def _check(self, login: CodeLogin) -> None:
        """What must be there is asked for before a person goes through the vendor's pages: a login says what it lacks
        before its first request."""
        means = self._means
        found = await asyncio.to_thread(self._secrets) if login.wants_client_secret else None
        if found is None:
            return
        _, port = login.callback(self._config)
        handshake = new_handshake(login, port, secrets.token_bytes)
        exchange = login.complete(self._config, means.proxies, handshake, "", self._project, time.time(), found)
        try:
            next(exchange)
        except Misconfigured as error:
            raise click.ClickException(_wrapped(str(error))) from error
        finally:
            exchange.close()

    async def _logged_in(self, *, opens_browser: bool) -> LoginStatus:
        login, say = self._login, self._screen.say
        say(f"Logging in to {login.channel.capitalize()}")
        say()
        say(_wrapped(login.notice))
        say()
        try:
            begun = await self._desk.begin(login, self._project, may_paste=True)
        except GatewayError as error:
            reason = f"{login.channel.capitalize()} offers no login now: {error.problem.message}"
            raise click.ClickException(reason) from error
        self._introduce(begun, opens_browser=opens_browser)
        status = await self._wait(begun)
        if status.phase != "done":
            raise click.ClickException(_wrapped(f"The login has failed. {status.detail or status.problem}"))
        return status

    def _introduce(self, begun: Begun, *, opens_browser: bool) -> None:
        """What the person has to do, by all the ways that there are."""
        say = self._screen.say
        has_display = _has_display()
        code = f", where the code {begun.user_code} is wanted" if begun.user_code else ""
        say(f"Open this address{code} and say yes there:")
        say()
        say(f"  {begun.url}")
        say()
        if drawn := self._drawn(begun.url):
            say(drawn)
            say()
        if opens_browser and has_display:
            _open(begun.url)
            say("Your browser opens it now.")
        if not begun.port:
            return
        if not begun.is_heard:
            say(
                _wrapped(
                    f"Another program has port {begun.port}, where the browser comes back to. Say yes all the same. When "
                    "the browser cannot show the page that it ends at, copy that page's address, paste it here, and press "
                    "Enter."
                )
            )
            return
        if not (opens_browser and has_display) or "SSH_CONNECTION" in os.environ:
            say("If the browser is on another machine, run this there first:")
            say(f"  ssh -L {begun.port}:127.0.0.1:{begun.port} USER@THIS-MACHINE")
        say(_wrapped("If it cannot come back, paste the address that it ends at here, and press Enter."))

    async def _wait(self, begun: Begun) -> LoginStatus:
        """How it ended."""
        screen, desk = self._screen, self._desk
        ended = asyncio.create_task(desk.over(begun.state))
        with Typed(lambda line: self._paste(begun, line)) as typed:

            def status() -> str:
                if typed.length:
                    return f"{typed.length} characters pasted, press Enter"
                now = desk.status(begun.state)
                is_back = now is not None and now.phase == "exchanging"
                return "Setting up the account" if is_back else "Waiting for you to say yes"

            shown = asyncio.create_task(screen.watch(status))
            silence = asyncio.create_task(typed.ended.wait())
            try:
                await asyncio.wait({ended} if begun.is_heard else {ended, silence}, return_when=asyncio.FIRST_COMPLETED)
                if not ended.done() and self._is_pending(begun):
                    raise click.ClickException(
                        f"Nothing can be pasted any more, and another program has port {begun.port}. End that program, "
                        "then try again."
                    )
                return await ended
            finally:
                for task in (shown, silence, ended):
                    task.cancel()
                await asyncio.gather(shown, silence, ended, return_exceptions=True)

    def _is_pending(self, begun: Begun) -> bool:
        status = self._desk.status(begun.state)
        return status is not None and status.phase == "pending"

    def _paste(self, begun: Begun, line: str) -> None:
        if isinstance(self._login, DeviceLogin):
            self._screen.say("Nothing has to be pasted here: say yes at the address above.")
            return
        try:
            callback = read_callback(line)
        except ValueError as error:
            self._screen.say(str(error))
            return
        if callback.state and not same(callback.state, begun.state):
            self._screen.say("That address belongs to another login; paste the one that this login ended at.")
            return
        callback = structs.replace(callback, state=begun.state)
        try:
            self._desk.accept(self._login.channel, callback)
        except GatewayError as error:
            self._screen.say(f"That came too late: {error.problem.message}.")

    def _drawn(self, url: str) -> str:
        """A QR code, where it can be shown as a whole."""
        if not (self._screen.is_terminal and self._screen.has_unicode):
            return ""
        columns, lines = self._screen.size
        return qr_code(url, columns, lines)

    def _tell(self, status: LoginStatus) -> None:
        folder = auth_folder(self._config)
        self._screen.say(f"Logged in: {status.account}" if status.account else "Logged in.")
        for name in status.names:
            self._screen.say(f"Saved as {folder / name}; a running gateway uses it at once.")


def _has_display() -> bool:
    """Whether a browser could show itself here."""
    if os.environ.get("BROWSER"):
        return True
    if platform.system() in ("Darwin", "Windows"):
        return "SSH_CONNECTION" not in os.environ
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _open(url: str) -> None:
    """In a thread that nobody waits for: some browsers run until they are closed."""
    threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False)
