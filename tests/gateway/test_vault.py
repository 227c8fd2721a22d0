"""Tokens: renewed once, ahead of time, saved before use, and never over what somebody else wrote."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from cliproxy.canon.errors import GatewayError, Unreachable
from cliproxy.config.schema import Config
from cliproxy.gateway.vault import Vault
from cliproxy.oauth.base import Answered, Exchange, GrantRevoked, Misconfigured, Tokens, Unavailable
from cliproxy.providers.accounts import AccountFile, ClientSecrets, Members
from cliproxy.stores.token_journal import Entry, TokenJournal
from cliproxy.wire.http import Address, HttpRequest
from cliproxy.wire.secrets import Secret

NOW = 1_800_000_000.0
HOUR = 3600.0


class Files:
    """Credential files in memory."""

    def __init__(self) -> None:
        self.members: dict[str, dict[str, object]] = {}
        self.breaks_on_change = False

    def load(self, name: str) -> Members:
        if name not in self.members:
            raise FileNotFoundError(name)
        return dict(self.members[name])

    def change(self, name: str, edit: Callable[[Members], Mapping[str, object] | None]) -> None:
        if self.breaks_on_change:
            raise OSError(28, "No space left on device")
        changed = edit(self.load(name))
        if changed is not None:
            self.members[name].update(changed)


class Vendor:
    """A provider whose vendor answers what the test says; each renewal asks once over the transport."""

    kinds = frozenset({"fake"})
    lead = 4 * HOUR

    @property
    def grants(self) -> "Vendor":
        return self

    def read_file(self, name: str, members: Members) -> AccountFile:
        return AccountFile(name=name, kind="fake", is_renewable=True, expires_at=float(str(members.get("ends", 0))))

    def read_tokens(self, members: Members) -> Tokens:
        access = members.get("access_token")
        if not isinstance(access, str):
            raise Misconfigured("The file has no access token.")
        return Tokens(access=Secret(access), refresh=Secret(str(members.get("refresh_token", ""))))

    def write_tokens(self, tokens: Tokens, members: Members, now_at: float) -> Mapping[str, object]:
        return {
            "access_token": tokens.access.reveal(),
            "refresh_token": tokens.refresh.reveal(),
            "ends": now_at + tokens.lifetime,
        }

    def refresh(
        self, file: AccountFile, tokens: Tokens, config: Config, proxies: object, secrets: ClientSecrets
    ) -> Exchange[Tokens]:
        if tokens.refresh == Secret("needs-secret") and not secrets.installed:
            raise Misconfigured("A client secret is missing.")
        origin = Address.of("http://127.0.0.1:1").origin
        answered = yield HttpRequest(b"POST", origin, b"/token", b"", tokens.refresh.reveal().encode())
        assert isinstance(answered, Answered)
        if answered.status == 400:
            raise GrantRevoked
        if answered.status != 200:
            raise Unavailable("The vendor is out of order.", retry_after=float(answered.status))
        access, _, refresh = answered.body.decode().partition(" ")
        return Tokens(access=Secret(access), refresh=Secret(refresh), lifetime=8 * HOUR)


@dataclass
class Network:
    """What the vendor answers, by status and body; requests wait while `gate` is closed."""

    answers: Callable[[bytes], tuple[int, bytes]]
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[bytes] = field(default_factory=list)
    is_down: bool = False

    async def send(self, request: HttpRequest, deadlines: object) -> SimpleNamespace:
        self.asked.append(request.body)
        await self.gate.wait()
        if self.is_down:
            raise Unreachable
        status, body = self.answers(request.body)

        async def read(limit: int) -> bytes:
            return body

        return SimpleNamespace(status=status, headers=(), read=read, close=lambda: None)


async def until(holds: Callable[[], object]) -> None:
    for _ in range(500):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came true")


class Scene:
    def __init__(self, folder: Path) -> None:
        self.now = NOW
        self.files = Files()
        self.count = 0
        self.network = Network(self._rotated)
        self.network.gate.set()
        self.journal = TokenJournal(lambda: folder / "journal")
        self.runtime = SimpleNamespace(
            transport=self.network,
            epoch=lambda: self.now,
            monotonic=lambda: self.now,
            random=SimpleNamespace(random=lambda: 0.0),
            snapshot=SimpleNamespace(config=Config()),
            proxies=None,
            kinds={"fake": Vendor()},
        )
        self.searches = 0
        self.vault = Vault(self.runtime, self.files, self.journal, ClientSecrets(), self._search)  # type: ignore[arg-type]

    def _search(self) -> ClientSecrets:
        self.searches += 1
        return ClientSecrets(installed=Secret("found"))

    def _rotated(self, _: bytes) -> tuple[int, bytes]:
        self.count += 1
        return 200, f"a{self.count} r{self.count}".encode()

    def add(self, name: str = "a.json", *, expires_in: float = HOUR, **more: object) -> AccountFile:
        self.files.members[name] = {"type": "fake", "access_token": "a0", "refresh_token": "r0", "mine": [1, 2]}
        expires_at = self.now + expires_in if expires_in else 0.0
        file = AccountFile(name=name, kind="fake", is_renewable=True, expires_at=expires_at, **more)  # type: ignore[arg-type]
        self.vault.adopt(file)
        return file


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_a_token_that_is_good_is_used_as_it_is(scene: Scene) -> None:
    scene.add()

    assert asyncio.run(scene.vault.token("a.json")).reveal() == "a0"
    assert scene.network.asked == []


def test_a_token_that_is_over_is_renewed_before_it_is_used(scene: Scene) -> None:
    scene.add(expires_in=-1)

    assert asyncio.run(scene.vault.token("a.json")).reveal() == "a1"
    assert scene.network.asked == [b"r0"]
    assert scene.files.members["a.json"]["refresh_token"] == "r1"
    assert scene.files.members["a.json"]["mine"] == [1, 2]


def test_client_secrets_are_looked_for_only_when_one_is_missing(scene: Scene) -> None:
    scene.add("a.json", expires_in=-1)
    scene.add("b.json", expires_in=-1)
    scene.files.members["b.json"]["refresh_token"] = "needs-secret"

    asyncio.run(scene.vault.token("a.json"))
    assert scene.searches == 0

    assert asyncio.run(scene.vault.token("b.json")).reveal() == "a2"
    assert scene.searches == 1
    assert scene.network.asked == [b"r0", b"needs-secret"]


def test_a_token_of_unknown_age_is_renewed_before_its_first_use_only(scene: Scene) -> None:
    scene.add(expires_in=0)

    async def twice() -> list[str]:
        return [(await scene.vault.token("a.json")).reveal() for _ in range(2)]

    assert asyncio.run(twice()) == ["a1", "a1"]
    assert len(scene.network.asked) == 1


def test_many_requests_cause_one_renewal(scene: Scene) -> None:
    scene.add(expires_in=-1)
    scene.network.gate.clear()

    async def many() -> set[str]:
        asked = [asyncio.create_task(scene.vault.token("a.json")) for _ in range(20)]
        await asyncio.sleep(0)
        scene.network.gate.set()
        return {token.reveal() for token in await asyncio.gather(*asked)}

    assert asyncio.run(many()) == {"a1"}
    assert len(scene.network.asked) == 1


def test_a_request_that_leaves_does_not_take_the_renewal_with_it(scene: Scene) -> None:
    scene.add(expires_in=-1)
    scene.network.gate.clear()

    async def leave() -> str:
        first = asyncio.create_task(scene.vault.token("a.json"))
        second = asyncio.create_task(scene.vault.token("a.json"))
        await asyncio.sleep(0.01)
        first.cancel()
        scene.network.gate.set()
        return (await second).reveal()

    assert asyncio.run(leave()) == "a1"


def test_a_refused_token_that_was_replaced_meanwhile_needs_no_renewal(scene: Scene) -> None:
    scene.add()

    async def refused() -> tuple[Secret | None, Secret | None]:
        old = await scene.vault.token("a.json")
        first = await scene.vault.instead_of("a.json", old)
        return first, await scene.vault.instead_of("a.json", old)

    first, second = asyncio.run(refused())

    assert first == second == Secret("a1")
    assert len(scene.network.asked) == 1


def test_newer_tokens_in_the_file_are_taken_without_asking(scene: Scene) -> None:
    scene.add()

    async def refused() -> Secret | None:
        old = await scene.vault.token("a.json")
        scene.files.members["a.json"] |= {"access_token": "theirs", "refresh_token": "theirs-r"}
        return await scene.vault.instead_of("a.json", old)

    assert asyncio.run(refused()) == Secret("theirs")
    assert scene.network.asked == []


def test_newer_tokens_in_the_file_are_good_for_as_long_as_the_file_says(scene: Scene) -> None:
    scene.add(expires_in=10 * HOUR)
    theirs = {"access_token": "theirs", "refresh_token": "theirs-r", "ends": NOW + 24 * HOUR}

    async def later() -> Secret:
        await scene.vault.token("a.json")
        scene.now += 11 * HOUR
        scene.files.members["a.json"] |= theirs
        return await scene.vault.token("a.json")

    assert asyncio.run(later()) == Secret("theirs")
    assert scene.network.asked == []


def test_a_file_that_was_replaced_during_a_renewal_keeps_what_was_written(scene: Scene) -> None:
    scene.add(expires_in=-1)
    scene.network.gate.clear()

    async def replace() -> None:
        asked = asyncio.create_task(scene.vault.token("a.json"))
        await asyncio.sleep(0.02)
        scene.files.members["a.json"] = {"type": "fake", "access_token": "new", "refresh_token": "new-r"}
        scene.network.gate.set()
        await asked

    asyncio.run(replace())

    assert scene.files.members["a.json"] == {"type": "fake", "access_token": "new", "refresh_token": "new-r"}


def test_a_revoked_grant_ends_the_account_until_its_file_changes(scene: Scene) -> None:
    file = scene.add(expires_in=-1)
    scene.network.answers = lambda _: (400, b"")

    async def fails() -> None:
        with pytest.raises(GatewayError, match="log in again"):
            await scene.vault.token("a.json")

    asyncio.run(fails())
    asyncio.run(fails())
    assert len(scene.network.asked) == 1
    assert scene.vault.renewals("a.json").is_dead

    scene.network.answers = lambda _: (200, b"fresh r")
    scene.vault.adopt(file)

    assert asyncio.run(scene.vault.token("a.json")).reveal() == "fresh"


def test_a_vendor_that_is_down_is_not_asked_again_at_once(scene: Scene) -> None:
    scene.add(expires_in=-1)
    scene.network.is_down = True

    async def fails() -> None:
        with pytest.raises(GatewayError, match="could not be asked"):
            await scene.vault.token("a.json")

    for _ in range(3):
        asyncio.run(fails())
    assert len(scene.network.asked) == 1

    scene.now += 31
    scene.network.is_down = False

    assert asyncio.run(scene.vault.token("a.json")).reveal() == "a1"


def test_pauses_grow_and_the_vendors_own_wait_counts(scene: Scene) -> None:
    scene.add(expires_in=-1)
    pauses = []
    for status in (503, 503, 20):
        scene.network.answers = lambda _, status=status: (status, b"")
        with pytest.raises(GatewayError):
            asyncio.run(scene.vault.token("a.json"))
        pauses.append(scene.vault.renewals("a.json").next_at - scene.now)
        scene.now += pauses[-1] + 1

    assert pauses == [503.0, 503.0, 120.0]


def test_a_token_in_hand_serves_on_while_renewals_fail(scene: Scene) -> None:
    scene.add(expires_in=HOUR)
    scene.network.is_down = True

    async def serves() -> str:
        keeping = asyncio.create_task(scene.vault.keep_fresh())
        await until(lambda: scene.vault.renewals("a.json").failures)
        keeping.cancel()
        return (await scene.vault.token("a.json")).reveal()

    scene.files.members["a.json"]["at"] = 0
    scene.vault.adopt(AccountFile(name="a.json", kind="fake", is_renewable=True, expires_at=scene.now + HOUR))

    assert asyncio.run(serves()) == "a0"


def test_tokens_are_renewed_ahead_of_their_end(scene: Scene) -> None:
    scene.add(expires_in=HOUR)

    async def wait() -> None:
        keeping = asyncio.create_task(scene.vault.keep_fresh())
        await until(lambda: scene.vault.renewals("a.json").last_at)
        keeping.cancel()

    asyncio.run(wait())

    assert scene.files.members["a.json"]["access_token"] == "a1"
    assert scene.vault.renewals("a.json").next_at == pytest.approx(NOW + 4 * HOUR, abs=0.5 * HOUR)


def test_a_fresh_token_is_never_due_before_half_of_its_life(scene: Scene) -> None:
    scene.add(expires_in=HOUR, refreshed_at=NOW)

    assert scene.vault.renewals("a.json").next_at >= NOW + HOUR / 2


def test_a_disabled_account_is_left_alone(scene: Scene) -> None:
    scene.add(expires_in=HOUR, is_disabled=True)

    assert scene.vault.renewals("a.json").next_at == 0


def test_accounts_of_one_age_are_not_all_due_at_once(scene: Scene) -> None:
    for number in range(20):
        scene.add(f"{number}.json", expires_in=10 * HOUR)

    assert len({scene.vault.renewals(f"{number}.json").next_at for number in range(20)}) > 10


def test_tokens_that_could_not_be_saved_are_used_and_saved_later(scene: Scene) -> None:
    scene.add(expires_in=-1)
    scene.files.breaks_on_change = True

    assert asyncio.run(scene.vault.token("a.json")).reveal() == "a1"
    assert scene.files.members["a.json"]["refresh_token"] == "r0"
    assert scene.journal.names() == ["a.json"]

    scene.files.breaks_on_change = False

    assert asyncio.run(scene.vault.instead_of("a.json", Secret("a1"))) == Secret("a2")
    assert scene.network.asked == [b"r0", b"r1"]
    assert scene.files.members["a.json"]["refresh_token"] == "r2"
    assert scene.journal.names() == []


@pytest.mark.parametrize(
    ("spent", "expected"), [("r0", "a9"), ("another", "a0")], ids=["put back", "the file has changed since"]
)
def test_what_an_earlier_process_left_is_put_where_it_belongs(scene: Scene, spent: str, expected: str) -> None:
    scene.add(expires_in=10 * HOUR)
    members = {"access_token": "a9", "refresh_token": "r9"}
    scene.journal.write(Entry("a.json", Secret(spent).digest().hex(), members))

    async def recover() -> None:
        keeping = asyncio.create_task(scene.vault.keep_fresh())
        await until(lambda: not scene.journal.names())
        keeping.cancel()

    asyncio.run(recover())

    assert scene.files.members["a.json"]["access_token"] == expected


def test_tokens_in_the_journal_are_not_forgotten_when_the_file_is_edited(scene: Scene) -> None:
    file = scene.add(expires_in=-1)
    scene.files.breaks_on_change = True
    asyncio.run(scene.vault.token("a.json"))
    scene.files.breaks_on_change = False
    scene.files.members["a.json"]["note"] = "by hand"

    scene.vault.adopt(file)

    assert asyncio.run(scene.vault.token("a.json")).reveal() == "a1"
    assert scene.network.asked == [b"r0"]
    assert scene.files.members["a.json"]["refresh_token"] == "r1"
    assert scene.files.members["a.json"]["note"] == "by hand"


def test_nothing_shows_a_token(scene: Scene) -> None:
    scene.add()
    asyncio.run(scene.vault.token("a.json"))

    assert "a0" not in repr(scene.vault.renewals("a.json"))
    assert "r0" not in repr(Vendor().read_tokens(scene.files.members["a.json"]))
