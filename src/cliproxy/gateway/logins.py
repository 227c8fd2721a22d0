"""Logins under way: from the address that a person opens to the file that comes of it.

    pending --(a callback)--> exchanging --> done
       |                          |--------> failed       kept for 30 minutes, so that whoever asks learns why
       |--------------------------|--------> cancelled    likewise
       `--(5 minutes)--> failed

A device login stays `pending` while the vendor is asked whether somebody has answered; no callback belongs to it.

* A login is found by its state, which only its owner knows: the table is keyed by digests under a secret of this
  process, so that looking one up tells nothing by the time it takes.
* All logins of a vendor that wait share one listener, which hears whose callback it is by the state. It listens before
  the address is told, and is let go some seconds after the last of them has ended: browsers ask twice.
* A login that was cancelled saves nothing. From the moment that its file is being written it can no longer be cancelled.
* Every login runs in a task of its own. Whatever fails ends that login only, and is told by its status: in `problem` by
  the words that programs know, in `detail` for people.

Nothing here puts a code, a token, a verifier or a state into the log.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import contextmanager
from functools import partial
from secrets import token_bytes
from typing import Literal, Protocol

from msgspec import Struct

from cliproxy.canon.errors import (
    BrokenAnswer,
    Conflict,
    Internal,
    InvalidRequest,
    NotFound,
    RateLimited,
    Unsupported,
)
from cliproxy.config.schema import Config
from cliproxy.gateway.exchanges import Sleep, perform
from cliproxy.gateway.new_files import keep
from cliproxy.oauth.answers import harmless
from cliproxy.oauth.base import Exchange, Expired, OAuthError
from cliproxy.oauth.callback import Callback
from cliproxy.oauth.pkce import RandomBytes, new_state
from cliproxy.providers.accounts import (
    ClientSecrets,
    CodeLogin,
    DeviceLogin,
    DevicePrompt,
    Handshake,
    Login,
    NewFile,
    new_handshake,
)
from cliproxy.providers.base import Proxies
from cliproxy.stores.auth_files import AuthFiles
from cliproxy.transport.base import Deadlines, Transport, UpstreamAnswer
from cliproxy.wire.http import HttpRequest
from cliproxy.wire.secrets import Secret

_log = logging.getLogger("cliproxy")

WAIT_SECONDS = 300.0
PAGE_SECONDS = 10.0
LINGER_SECONDS = 5.0
DONE_SECONDS = 60.0
FAILED_SECONDS = 1800.0
MOST_RUNNING = 100
_MOST_KNOWN = 1000

# What programs that speak to the Management API know.
_NO_CALLBACK = "Timeout waiting for OAuth callback"
_VENDOR_ERROR = "Bad request"
_NO_TOKENS = "Failed to exchange authorization code for tokens"
_NO_IDENTITY = "Failed to fetch user info"
_NOT_SAVED = "Failed to save authentication tokens"
_FAILED = "Authentication failed"
_TOO_LATE = "OAuth flow timed out"
_CANCELLED = "Authentication cancelled"

_NO_LISTENER = "failed to start callback server"
_NO_ADDRESS = "failed to generate authorization url"

Phase = Literal["pending", "exchanging", "done", "failed", "cancelled"]


class LoginStatus(Struct, frozen=True):
    """How a login stands. `problem` says in the words that programs know why it ended badly, `detail` in words for
    people, some of them the vendor's; both are "" otherwise. `account` is who logged in, `names` are the files."""

    phase: Phase
    problem: str = ""
    detail: str = ""
    account: str = ""
    names: tuple[str, ...] = ()

    @property
    def is_over(self) -> bool:
        return self.phase not in ("pending", "exchanging")


class Begun(Struct, frozen=True):
    """A login that waits for its person, who is to open `url`. `state` is its handle.

    `port` is where the browser will come back to, 0 for a device login, which has `user_code` and `expires_in`
    (seconds) instead. `is_heard` False: another program has that port, and the address must be pasted.
    """

    url: str
    state: str
    port: int = 0
    is_heard: bool = True
    user_code: str = ""
    expires_in: float = 0.0


class Logins(Protocol):
    """Every method takes a state of any form, known or not."""

    async def begin(self, login: Login, project: str = "") -> Begun:
        """Raises RateLimited when too many are under way, Internal when the callback's port is taken, BrokenAnswer when
        the vendor offers no login now, Unsupported when there are no logins here."""
        ...

    def status(self, state: str) -> LoginStatus | None:
        """None for a state that is unknown, or was too long ago."""
        ...

    def accept(self, channel: str, callback: Callback) -> None:
        """Go on with the login that waits for `callback`. Raises NotFound, InvalidRequest or Conflict."""
        ...

    async def returned(self, channel: str, callback: Callback) -> LoginStatus | None:
        """The same for a browser that waits for a page: how the login stands when it has ended, or after 10 seconds.
        None when there is no such login; to come again, as browsers do, is no mistake."""
        ...

    def cancel(self, state: str) -> bool:
        """Whether there was a login to cancel; it saves nothing any more."""
        ...


class NoLogins:
    """Logins of a gateway that offers none."""

    async def begin(self, login: Login, project: str = "") -> Begun:
        raise Unsupported("this gateway has no folder for accounts, so nobody can log in")

    def status(self, state: str) -> LoginStatus | None:
        return None

    def accept(self, channel: str, callback: Callback) -> None:
        raise NotFound("unknown or expired state")

    async def returned(self, channel: str, callback: Callback) -> LoginStatus | None:
        return None

    def cancel(self, state: str) -> bool:
        return False


class Listener(Protocol):
    """What waits for the browsers of one vendor."""

    port: int

    def close(self) -> None: ...


Listen = Callable[["Logins", CodeLogin, str, int], Awaitable[Listener]]
"""Listens on a host and a port for callbacks of one vendor, and hands them to the logins. Raises OSError."""


class Clock(Struct, frozen=True):
    """`monotonic` and `epoch` give seconds; `pause` waits for some."""

    monotonic: Callable[[], float]
    epoch: Callable[[], float]
    pause: Sleep = asyncio.sleep


async def _nobody(_: tuple[str, ...]) -> None: ...


class Means(Struct, frozen=True, eq=False):
    """What logins work with. `config` gives the current configuration.

    `secrets` looks for client secrets outside of it, and may take its time: it is called in a thread. `on_saved` hears
    the names of new files, and returns when their accounts can be used.
    """

    config: Callable[[], Config]
    proxies: Proxies
    transport: Transport
    files: AuthFiles
    listen: Listen
    clock: Clock
    secrets: Callable[[], ClientSecrets] = ClientSecrets
    on_saved: Callable[[tuple[str, ...]], Awaitable[None]] = _nobody
    random_bytes: RandomBytes = token_bytes


class _Shared:
    """A listener and how many logins it hears for; `turns` counts those it ever heard for."""

    __slots__ = ("listener", "turns", "users")

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.users = 0
        self.turns = 0


class _Flow:
    """One login. `returned` is the callback, once it has come; None for a device login, which has none. `ended` is when
    it did."""

    __slots__ = ("ended", "is_saving", "login", "returned", "status", "task")

    def __init__(self, login: Login, returned: asyncio.Future[Callback] | None) -> None:
        self.login = login
        self.returned = returned
        self.ended = math.inf
        self.status = LoginStatus("pending")
        self.is_saving = False
        self.task: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether it waits for a callback."""
        return self.status.phase == "pending" and self.returned is not None

    def fail(self, problem: str, detail: str = "") -> None:
        self.status = LoginStatus("failed", problem, detail)
        said = f"{problem}. {detail}" if detail and detail not in problem else problem
        _log.warning("A login (%s) has failed: %s", self.login.channel, said)


class LoginDesk:
    """All logins of this process. `patience` is how many seconds a person has to come back from the vendor."""

    def __init__(self, means: Means, patience: float = WAIT_SECONDS) -> None:
        self._means = means
        self._patience = patience
        self._key = token_bytes(32)
        self._flows: dict[bytes, _Flow] = {}
        self._shared: dict[tuple[str, str, int], _Shared] = {}
        self._opening = asyncio.Lock()
        self._beginning = 0
        self._tasks: set[asyncio.Task[None]] = set()

    # -- beginning

    async def begin(self, login: Login, project: str = "", *, may_paste: bool = False) -> Begun:
        """`may_paste`: begin also when the callback's port is taken: on another one if the vendor takes any, else
        without a listener."""
        with self._place():
            if isinstance(login, DeviceLogin):
                return await self._begin_device(login)
            return await self._begin_code(login, project, may_paste=may_paste)

    @contextmanager
    def _place(self) -> Generator[None]:
        """Room for one more. None is pushed out for it: somebody is in the middle of that one."""
        self._forget_old()
        running = sum(not flow.status.is_over for flow in self._flows.values())
        if running + self._beginning >= MOST_RUNNING:
            raise RateLimited(f"{MOST_RUNNING} logins are under way; finish or cancel one, or wait", retry_after=60.0)
        self._beginning += 1
        try:
            yield
        finally:
            self._beginning -= 1

    async def _begin_code(self, login: CodeLogin, project: str, *, may_paste: bool) -> Begun:
        config = self._means.config()
        host, port = login.callback(config)
        shared = await self._heard(login, host, port, may_paste=may_paste)
        if shared is not None:
            port = shared.listener.port
        handshake = new_handshake(login, port, self._means.random_bytes)
        flow = _Flow(login, asyncio.get_running_loop().create_future())
        self._start(handshake.state, flow, self._follow_code(flow, login, handshake, project), shared)
        return Begun(login.authorize_url(config, handshake), handshake.state, port, is_heard=shared is not None)

    async def _begin_device(self, login: DeviceLogin) -> Begun:
        means = self._means
        exchange = login.begin(means.config(), means.proxies, means.random_bytes)
        try:
            prompt = await perform(exchange, means.transport, means.clock.pause)
        except OAuthError as error:
            _log.warning("A login (%s) cannot begin: %s", login.channel, _words(error))
            raise BrokenAnswer(_NO_ADDRESS) from error
        state = new_state(means.random_bytes)
        flow = _Flow(login, None)
        self._start(state, flow, self._follow_device(flow, login, prompt), None)
        return Begun(prompt.url, state, user_code=prompt.user_code, expires_in=prompt.expires_in)

    def _start(self, state: str, flow: _Flow, work: Coroutine[None, None, None], shared: _Shared | None) -> None:
        self._flows[self._digest(state)] = flow
        flow.task = self._keep(asyncio.create_task(work, name=f"login {flow.login.channel}"))
        flow.task.add_done_callback(partial(self._ended, flow, shared))
        _log.info("A login (%s) has begun.", flow.login.channel)

    # -- what becomes of it

    async def _follow_code(self, flow: _Flow, login: CodeLogin, handshake: Handshake, project: str) -> None:
        assert flow.returned is not None
        if not await self._within(self._patience, flow.returned):
            flow.fail(_NO_CALLBACK)
            return
        callback = flow.returned.result()
        if callback.error:
            hidden = (Secret(handshake.state), handshake.verifier, callback.code)
            told = [harmless(text, hidden) for text in (callback.error, callback.description) if text]
            flow.fail(_VENDOR_ERROR, ": ".join(told))
            return
        means = self._means
        found = await asyncio.to_thread(means.secrets) if login.wants_client_secret else ClientSecrets()
        code = callback.code.reveal()
        now_at = means.clock.epoch()
        exchange = login.complete(means.config(), means.proxies, handshake, code, project, now_at, found)
        await self._finish(flow, exchange)

    async def _follow_device(self, flow: _Flow, login: DeviceLogin, prompt: DevicePrompt) -> None:
        means = self._means
        await self._finish(flow, login.complete(means.config(), means.proxies, prompt, means.clock.epoch()))

    async def _finish(self, flow: _Flow, exchange: Exchange[tuple[NewFile, ...]]) -> None:
        watched = _Watched(self._means.transport)
        try:
            files = await perform(exchange, watched, self._means.clock.pause)
        except OAuthError as error:
            flow.fail(_problem(flow, error, watched), _words(error))
            return
        flow.is_saving = True
        try:
            names = await asyncio.to_thread(lambda: tuple(keep(self._means.files, new) for new in files))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            flow.fail(_NOT_SAVED, f"The file of the account could not be written: {reason or type(error).__name__}.")
            return
        await self._means.on_saved(names)
        account = ", ".join(dict.fromkeys(str(new.members.get("email") or "") for new in files))
        flow.status = LoginStatus("done", account=account, names=names)
        _log.info("A login (%s) has ended well: %s.", flow.login.channel, ", ".join(names))

    def _ended(self, flow: _Flow, shared: _Shared | None, task: asyncio.Task[None]) -> None:
        flow.ended = self._means.clock.monotonic()
        if not task.cancelled() and (bug := task.exception()) is not None:
            _log.error("A login (%s) has ended by a bug.", flow.login.channel, exc_info=bug)
            flow.status = LoginStatus("failed", _FAILED, "The gateway has a bug; its log has the details.")
        elif not flow.status.is_over:
            flow.status = LoginStatus("cancelled", _CANCELLED)
        if shared is not None:
            self._release(shared)

    # -- callbacks, status, cancelling

    def status(self, state: str) -> LoginStatus | None:
        flow = self._find(state)
        return None if flow is None else flow.status

    def accept(self, channel: str, callback: Callback) -> None:
        flow = self._find(callback.state)
        if flow is None:
            raise NotFound("unknown or expired state")
        if flow.login.channel != channel:
            raise InvalidRequest("provider does not match state")
        if flow.status.phase == "done":
            raise Conflict("oauth flow is already completed")
        if flow.status.phase == "failed":
            raise Conflict(flow.status.problem)
        if not flow.is_open:
            raise Conflict("oauth flow is not pending")
        self._hand_over(flow, callback)

    async def returned(self, channel: str, callback: Callback) -> LoginStatus | None:
        flow = self._find(callback.state)
        if flow is None or flow.task is None or flow.login.channel != channel:
            return None
        if flow.is_open:
            self._hand_over(flow, callback)
        await self._within(PAGE_SECONDS, flow.task)
        return flow.status

    def cancel(self, state: str) -> bool:
        flow = self._find(state)
        if flow is None or flow.task is None or flow.status.is_over or flow.is_saving:
            return False
        flow.status = LoginStatus("cancelled", _CANCELLED)
        flow.task.cancel()
        _log.info("A login (%s) was cancelled.", flow.login.channel)
        return True

    async def over(self, state: str) -> LoginStatus:
        """How a login has ended, when it has. Raises KeyError for a state that is not known."""
        flow = self._flows[self._digest(state)]
        if flow.task is not None:
            await asyncio.wait({flow.task})
        return flow.status

    async def close(self) -> None:
        """End all logins, and stop listening."""
        while tasks := list(self._tasks):  # a login that ends leaves one to its listener
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for shared in self._shared.values():
            shared.listener.close()
        self._shared.clear()

    def _hand_over(self, flow: _Flow, callback: Callback) -> None:
        assert flow.returned is not None
        flow.status = LoginStatus("exchanging")
        flow.returned.set_result(callback)

    def _find(self, state: str) -> _Flow | None:
        flow = self._flows.get(self._digest(state))
        return None if flow is None or self._is_old(flow) else flow

    def _is_old(self, flow: _Flow) -> bool:
        kept = DONE_SECONDS if flow.status.phase == "done" else FAILED_SECONDS
        return self._means.clock.monotonic() - flow.ended >= kept

    def _forget_old(self) -> None:
        over = [digest for digest, flow in self._flows.items() if flow.status.is_over]
        surplus = max(0, len(over) - _MOST_KNOWN)
        for number, digest in enumerate(over):
            if number < surplus or self._is_old(self._flows[digest]):
                del self._flows[digest]

    def _digest(self, state: str) -> bytes:
        return hashlib.blake2b(state.encode("utf-8", "surrogatepass"), key=self._key, digest_size=32).digest()

    # -- listeners

    async def _heard(self, login: CodeLogin, host: str, port: int, *, may_paste: bool) -> _Shared | None:
        """The listener for a login; None when it has to do without. Raises Internal."""
        ports = (port, 0) if may_paste and login.takes_any_port else (port,)
        for wanted in ports:
            try:
                return await self._acquire(login, host, wanted)
            except OSError as error:
                reason = error.strerror or str(error)
                _log.warning("No callback of %s can be heard on port %d: %s.", login.channel, wanted, reason)
        if may_paste:
            return None
        raise Internal(_NO_LISTENER)

    async def _acquire(self, login: CodeLogin, host: str, port: int) -> _Shared:
        key = (login.channel, host, port)
        async with self._opening:
            shared = self._shared.get(key)
            if shared is None:
                shared = self._shared[key] = _Shared(await self._means.listen(self, login, host, port))
            shared.users += 1
            shared.turns += 1
        return shared

    def _release(self, shared: _Shared) -> None:
        shared.users -= 1
        if not shared.users:
            self._keep(asyncio.create_task(self._linger(shared)))

    async def _linger(self, shared: _Shared) -> None:
        turns = shared.turns
        await self._means.clock.pause(LINGER_SECONDS)
        if shared.turns == turns:
            self._shared = {key: one for key, one in self._shared.items() if one is not shared}
            shared.listener.close()

    # -- time and tasks

    async def _within(self, seconds: float, what: asyncio.Future[Callback] | asyncio.Task[None]) -> bool:
        """Whether `what` is done within `seconds`."""
        timer = asyncio.ensure_future(self._means.clock.pause(seconds))
        try:
            await asyncio.wait({what, timer}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
        return what.done()

    def _keep(self, task: asyncio.Task[None]) -> asyncio.Task[None]:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


class _Watched:
    """A transport that knows how far a login has come: `sent` counts its requests, `later` those after the first that
    succeeded."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._is_granted = False
        self.sent = 0
        self.later = 0

    async def send(self, request: HttpRequest, deadlines: Deadlines) -> UpstreamAnswer:
        self.sent += 1
        self.later += self._is_granted
        answer = await self._transport.send(request, deadlines)
        self._is_granted = self._is_granted or 200 <= answer.status < 300
        return answer

    def close(self) -> None: ...


def _problem(flow: _Flow, error: OAuthError, watched: _Watched) -> str:
    """Why a login failed, in the words that programs know. After the tokens comes the question who it is, and then what
    is one vendor's own; for that, and for what is missing before anything is sent, there are no such words."""
    if flow.returned is None:
        return _TOO_LATE if isinstance(error, Expired) else _FAILED
    if watched.later == 1:
        return _NO_IDENTITY
    if watched.later or not watched.sent:
        return f"{_FAILED}: {_words(error)}"
    return _NO_TOKENS


def _words(error: OAuthError) -> str:
    return f"{error} {error.told}".strip()
