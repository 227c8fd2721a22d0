"""Logins without a network: what becomes of one, in whatever order things happen."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from cliproxy.canon.errors import Conflict, Internal, RateLimited
from cliproxy.config.schema import Config
from cliproxy.gateway.logins import MOST_RUNNING, Begun, Clock, LoginDesk, LoginStatus, Means
from cliproxy.oauth.callback import Callback
from cliproxy.providers.accounts import ClientSecrets, Login
from cliproxy.providers.base import Proxies
from cliproxy.providers.logins.registry import login_named
from cliproxy.stores.auth_files import AuthFiles
from cliproxy.transport.base import Deadlines
from cliproxy.wire.http import Headers, HttpRequest
from cliproxy.wire.secrets import Secret
from fake_time import FakeTime

GRANTED = {
    "access_token": "sk-access",
    "refresh_token": "sk-refresh",
    "expires_in": 3600,
    "account": {"email_address": "ada@example.com"},
}


class Answer:
    headers: Headers = ()

    def __init__(self, status: int, body: object) -> None:
        self.status = status
        self._body = json.dumps(body).encode()

    async def piece(self) -> bytes:
        return b""

    async def read(self, limit: int) -> bytes:
        return self._body

    def close(self) -> None: ...


class Vendor:
    """A transport behind which every request is granted, once `gate` is open."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.sent: list[dict[str, str]] = []
        self.bug: Exception | None = None

    async def send(self, request: HttpRequest, deadlines: Deadlines) -> Answer:
        self.sent.append(json.loads(request.body))
        await self.gate.wait()
        if self.bug is not None:
            raise self.bug
        return Answer(200, GRANTED)

    def close(self) -> None: ...


class Listener:
    def __init__(self, port: int) -> None:
        self.port = port
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True


class Room:
    """A desk, and everything around it."""

    def __init__(self, folder: Path) -> None:
        self.time = FakeTime()
        self.vendor = Vendor()
        self.files = AuthFiles(lambda: folder, lambda: 1_800_000_000.0)
        self.folder = folder
        self.listeners: list[Listener] = []
        self.taken: set[int] = set()
        self.saved: list[tuple[str, ...]] = []
        self.desk = LoginDesk(
            Means(
                config=Config,
                proxies=Proxies(),
                transport=self.vendor,
                files=self.files,
                listen=self._listen,
                clock=Clock(self.time.monotonic, lambda: 1_800_000_000.0, self.time.pause),
                secrets=lambda: ClientSecrets(environment=Secret("google-secret")),
                on_saved=self._on_saved,
            )
        )

    async def begin(self, name: str = "claude", **options: bool) -> Begun:
        return await self.desk.begin(login(name), **options)

    def come_back(self, begun: Begun, code: str = "the-code") -> None:
        self.desk.accept("claude", Callback(Secret(code), begun.state))

    def status(self, begun: Begun) -> LoginStatus:
        status = self.desk.status(begun.state)
        assert status is not None
        return status

    async def _listen(self, logins: object, login: object, host: str, port: int) -> Listener:
        await asyncio.sleep(0)
        if port in self.taken:
            raise OSError("taken")
        self.listeners.append(Listener(port or 40_000))
        return self.listeners[-1]

    async def _on_saved(self, names: tuple[str, ...]) -> None:
        await asyncio.sleep(0)
        self.saved.append(names)


async def until(holds: Callable[[], bool]) -> None:
    """Let everybody go on until something is so."""
    while not holds():  # noqa: ASYNC110 - what is waited for sets no event
        await asyncio.sleep(0)


def login(name: str) -> Login:
    found = login_named(name)
    assert found is not None
    return found


Story = Callable[[Room], Awaitable[None]]


@pytest.fixture
def tell(tmp_path: Path) -> Callable[[Story], Room]:
    """Plays a story in a room, and closes it."""

    def play(story: Story) -> Room:
        async def whole() -> Room:
            room = Room(tmp_path / "accounts")
            try:
                async with asyncio.timeout(10):
                    await story(room)
            finally:
                await room.desk.close()
            return room

        return asyncio.run(whole())

    return play


def test_the_account_can_be_used_before_the_login_has_ended(tell):
    async def story(room: Room) -> None:
        begun = await room.begin()
        room.come_back(begun)
        status = await room.desk.over(begun.state)
        assert (status.phase, status.account) == ("done", "ada@example.com")
        assert room.saved == [status.names] == [("claude-ada@example.com.json",)]

    tell(story)


def test_each_login_has_a_verifier_of_its_own(tell):
    async def story(room: Room) -> None:
        both = [await room.begin(), await room.begin()]
        for begun in reversed(both):
            room.come_back(begun, f"code of {begun.state}")
        for begun in both:
            assert (await room.desk.over(begun.state)).phase == "done"

    sent = tell(story).vendor.sent

    assert all(body["code"] == f"code of {body['state']}" for body in sent)
    assert len({body["code_verifier"] for body in sent}) == 2


def test_logins_that_wait_share_a_listener(tell):
    async def story(room: Room) -> None:
        begun = await asyncio.gather(*(room.begin() for _ in range(5)))
        assert len(room.listeners) == 1
        for one in begun:
            assert room.desk.cancel(one.state)
        await until(lambda: room.time.waits() == [5.0])
        room.time.advance(5)
        await until(lambda: room.listeners[0].is_closed)
        await room.begin()

    assert [listener.is_closed for listener in tell(story).listeners] == [True, True]


def test_a_cancelled_login_saves_nothing_though_the_vendor_has_answered(tell):
    async def story(room: Room) -> None:
        room.vendor.gate.clear()
        begun = await room.begin()
        room.come_back(begun)
        await until(lambda: bool(room.vendor.sent))
        room.vendor.gate.set()
        assert room.desk.cancel(begun.state)
        assert (await room.desk.over(begun.state)).phase == "cancelled"

    room = tell(story)

    assert not room.folder.exists()
    assert room.saved == []


def test_a_login_whose_file_is_being_written_can_no_longer_be_cancelled(tell):
    async def story(room: Room) -> None:
        begun = await room.begin()
        room.come_back(begun)
        await until(room.folder.exists)
        assert not room.desk.cancel(begun.state)
        assert (await room.desk.over(begun.state)).phase == "done"

    tell(story)


def test_a_second_callback_finds_the_login_busy(tell):
    async def story(room: Room) -> None:
        room.vendor.gate.clear()
        begun = await room.begin()
        room.come_back(begun)
        with pytest.raises(Conflict, match="oauth flow is not pending"):
            room.come_back(begun)

    assert len(tell(story).vendor.sent) <= 1


def test_a_bug_ends_that_login_only(tell, caplog):
    async def story(room: Room) -> None:
        other = await room.begin()
        begun = await room.begin()
        room.vendor.bug = ZeroDivisionError("a bug")
        room.come_back(begun)
        with caplog.at_level(logging.CRITICAL):
            await until(lambda: room.status(begun).is_over)
        assert room.status(begun).problem == "Authentication failed"
        room.vendor.bug = None
        room.come_back(other)
        assert (await room.desk.over(other.state)).phase == "done"

    tell(story)


def test_a_taken_port_registers_no_login(tell):
    async def story(room: Room) -> None:
        room.taken = {54545}
        for _ in range(MOST_RUNNING + 1):
            with pytest.raises(Internal, match="failed to start callback server"):
                await room.begin()

    tell(story)


def test_who_can_paste_needs_no_port(tell):
    async def story(room: Room) -> None:
        room.taken = {54545, 8085}
        claude = await room.begin(may_paste=True)
        assert (claude.port, claude.is_heard) == (54545, False)
        gemini = await room.begin("gemini", may_paste=True)
        assert (gemini.port, gemini.is_heard) == (40_000, True)
        assert "localhost%3A40000" in gemini.url
        room.come_back(claude)
        assert (await room.desk.over(claude.state)).phase == "done"

    tell(story)


def test_none_is_pushed_out_when_too_many_wait(tell):
    async def story(room: Room) -> None:
        first = await room.begin()
        begun = await asyncio.gather(*(room.begin() for _ in range(MOST_RUNNING + 5)), return_exceptions=True)
        assert sum(isinstance(one, RateLimited) for one in begun) == 6
        assert room.status(first).phase == "pending"
        room.desk.cancel(first.state)
        await room.desk.over(first.state)
        await room.begin()

    tell(story)


def test_a_closed_desk_has_no_login_that_runs(tell):
    async def story(room: Room) -> None:
        room.vendor.gate.clear()
        begun = [await room.begin(), await room.begin()]
        room.come_back(begun[0])
        await room.desk.close()
        assert [room.status(one).phase for one in begun] == ["cancelled", "cancelled"]
        assert [listener.is_closed for listener in room.listeners] == [True]

    assert not tell(story).folder.exists()


def test_the_log_names_the_account_and_nothing_secret(tell, caplog):
    begun: list[Begun] = []

    async def story(room: Room) -> None:
        begun.append(await room.begin())
        room.come_back(begun[0])
        await room.desk.over(begun[0].state)

    with caplog.at_level(logging.DEBUG):
        sent = tell(story).vendor.sent[0]

    assert "claude-ada@example.com.json" in caplog.text
    for secret in (begun[0].state, "the-code", sent["code_verifier"], "sk-access", "sk-refresh"):
        assert secret not in caplog.text
