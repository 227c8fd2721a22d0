"""Who may manage, by a clock that we turn. What needs real sockets is in `tests/management/test_access.py`."""

from __future__ import annotations

import asyncio

import bcrypt
import pytest

from cliproxy.canon.errors import Forbidden, GatewayError, NotFound, Unauthenticated
from cliproxy.config.schema import Config, RemoteManagement
from cliproxy.gateway import gate as module
from cliproxy.gateway.callers import Caller, caller_of
from cliproxy.gateway.gate import BAN_SECONDS, FORGET_SECONDS, MOST_CALLERS, Gate
from cliproxy.wire.secrets import Secret

STRANGER = "203.0.113.9"
RIGHT, WRONG = b"mk", b"wrong"


def hashed(key: bytes) -> str:
    return bcrypt.hashpw(key, bcrypt.gensalt(4)).decode()


def remote(stored: str, **more) -> Config:
    return Config(remote_management=RemoteManagement(allow_remote=True, secret_key=Secret(stored)), **more)


CONFIG = remote(hashed(RIGHT))


class Asking:
    """The head of a request: all that a gate looks at."""

    def __init__(self, peer: str, *headers: tuple[bytes, bytes]) -> None:
        self.peer = peer
        self.headers = headers


class Scene:
    def __init__(self, password: str = "") -> None:
        self.now = 1000.0
        self.pauses: list[float] = []
        self.gate = Gate(Secret(password), lambda: self.now, self._pause)

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    async def told(self, key: bytes, peer: str = STRANGER, config: Config = CONFIG) -> str:
        """How one request is met: "" when it is let in."""
        headers = ((b"authorization", b"Bearer " + key),) if key else ()
        try:
            await self.gate.admit(config, Asking(peer, *headers))
        except GatewayError as error:
            return f"{error.problem.status} {error.problem.message}"
        return ""

    def tells(self, *keys: bytes, peer: str = STRANGER, config: Config = CONFIG) -> list[str]:
        async def story() -> list[str]:
            return [await self.told(key, peer, config) for key in keys]

        return asyncio.run(story())


INVALID = "401 invalid management key"
BANNED = "403 IP banned due to too many failed attempts. Try again in {}"


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_without_any_key_there_is_nothing(scene):
    with pytest.raises(NotFound):
        asyncio.run(scene.gate.admit(Config(), Asking("127.0.0.1")))

    assert not scene.gate.exists(Config())
    assert Scene("pw").gate.exists(Config())


def test_the_fifth_failure_in_a_row_locks_out(scene):
    assert scene.tells(*[WRONG] * 5) == [INVALID] * 5

    assert scene.tells(RIGHT) == [BANNED.format("30m0s")]


def test_a_missing_key_counts_like_a_wrong_one(scene):
    assert scene.tells(b"", WRONG, b"", WRONG, b"")[-1] == "401 missing management key"

    assert scene.tells(RIGHT) == [BANNED.format("30m0s")]


@pytest.mark.parametrize(
    ("seconds", "left"), [(1.0, "29m59s"), (0.4, "30m0s"), (BAN_SECONDS - 59.0, "0m59s"), (BAN_SECONDS - 0.1, "0m1s")]
)
def test_what_is_left_of_the_ban_is_told(scene, seconds, left):
    scene.tells(*[WRONG] * 5)
    scene.now += seconds

    with pytest.raises(Forbidden) as refused:
        asyncio.run(scene.gate.admit(CONFIG, Asking(STRANGER)))

    assert f"403 {refused.value}" == BANNED.format(left)
    assert refused.value.problem.retry_after == pytest.approx(BAN_SECONDS - seconds)


def test_042_the_ban_ends_after_half_an_hour(scene):
    scene.tells(*[WRONG] * 5)

    scene.now += BAN_SECONDS

    assert scene.tells(*[WRONG] * 4, RIGHT) == [INVALID] * 4 + [""]


def test_041_a_right_key_forgives(scene):
    assert scene.tells(*([WRONG] * 4 + [RIGHT]) * 3)[4::5] == ["", "", ""]


def test_044_others_are_not_locked_out(scene):
    scene.tells(*[WRONG] * 5)

    assert scene.tells(RIGHT, peer="203.0.113.10") == [""]
    assert scene.tells(RIGHT, peer="127.0.0.1") == [""]


def test_a_subscriber_of_ipv6_is_one_caller(scene):
    for last in range(5):
        scene.tells(WRONG, peer=f"2001:db8:0:1::{last}")

    assert scene.tells(RIGHT, peer="2001:db8:0:1:ffff::1") == [BANNED.format("30m0s")]
    assert scene.tells(RIGHT, peer="2001:db8:0:2::1") == [""]
    assert scene.tells(RIGHT, peer="::ffff:203.0.113.9") == [""]


def test_a_refusal_because_of_the_place_counts_nothing(scene):
    closed = Config(remote_management=RemoteManagement(secret_key=CONFIG.management_key))
    assert scene.tells(*[WRONG] * 9, config=closed) == ["403 remote management disabled"] * 9

    assert scene.tells(RIGHT) == [""]


def test_programs_on_this_machine_wait_but_are_never_locked_out(scene):
    assert scene.tells(*[WRONG] * 9, b"", RIGHT, peer="127.0.0.1")[-1] == ""

    assert scene.pauses == [module.LOCAL_DELAY_SECONDS] * 10


def test_strangers_are_not_kept_waiting(scene):
    scene.tells(WRONG, b"")

    assert scene.pauses == []


def test_callers_that_have_long_been_silent_are_forgotten(scene):
    scene.tells(*[WRONG] * 4)
    scene.now += FORGET_SECONDS
    scene.tells(b"", peer="203.0.113.10")

    assert scene.tells(WRONG, RIGHT) == [INVALID, ""]


def test_the_table_of_callers_has_an_end(scene):
    strangers = module._Strangers(lambda: 0.0)
    for number in range(MOST_CALLERS + 500):
        strangers.count_failure(Caller(f"caller-{number}", is_local=False))

    assert len(strangers._records) == MOST_CALLERS
    assert "caller-499" not in strangers._records
    assert "caller-500" in strangers._records


# -- keys -------------------------------------------------------------------------------------------------------------


def test_a_new_hash_makes_the_old_key_wrong_at_once(scene):
    new = remote(hashed(b"mk2"))
    assert scene.tells(RIGHT) == [""]

    assert scene.tells(RIGHT, b"mk2", config=new) == [INVALID, ""]
    assert scene.tells(b"mk2") == [INVALID]


def test_without_a_stored_hash_a_key_that_was_right_is_not(scene):
    scene = Scene("pw")
    assert scene.tells(RIGHT) == [""]

    assert scene.tells(RIGHT, b"pw", config=Config()) == [INVALID, ""]


def test_many_first_uses_of_a_key_are_one_hash(scene):
    slow = remote(bcrypt.hashpw(RIGHT, bcrypt.gensalt(9)).decode())

    async def story() -> tuple[list[str], float, float]:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await scene.told(RIGHT, config=remote(bcrypt.hashpw(RIGHT, bcrypt.gensalt(9)).decode()))
        one = loop.time() - begun
        begun = loop.time()
        told = await asyncio.gather(*(scene.told(RIGHT, f"203.0.113.{n}", slow) for n in range(100)))
        return told, loop.time() - begun, one

    told, all_of_them, one = asyncio.run(story())

    assert told == [""] * 100
    assert all_of_them < one * 20


def test_of_many_guesses_at_once_five_are_checked(scene):
    async def story() -> list[str]:
        return await asyncio.gather(*(scene.told(b"guess-%d" % n) for n in range(100)))

    told = asyncio.run(story())

    assert told.count(INVALID) == 5
    assert told.count(BANNED.format("30m0s")) == 95


def test_a_guess_counts_also_when_the_caller_leaves(scene):
    async def story() -> str:
        for _ in range(5):
            leaving = asyncio.create_task(scene.told(WRONG, config=slow))
            await asyncio.sleep(0)
            checking = scene.gate._checking
            assert checking is not None
            assert not checking.done()
            leaving.cancel()
            await asyncio.wait([leaving, checking])
        return await scene.told(RIGHT, config=slow)

    slow = remote(bcrypt.hashpw(RIGHT, bcrypt.gensalt(7)).decode())

    assert asyncio.run(story()) == BANNED.format("30m0s")


@pytest.mark.parametrize("stored", ["$2a$oops", "$2b$99$" + "a" * 53, "plain"])
def test_what_is_no_hash_lets_nobody_in(scene, stored):
    assert scene.tells(stored.encode(), b"plain", config=remote(stored)) == [INVALID, INVALID]


def test_the_password_is_good_from_everywhere(scene):
    scene = Scene("pw")
    closed = Config()

    assert scene.tells(b"pw", config=closed) == [""]
    assert scene.tells(b"pw", peer="127.0.0.1", config=CONFIG) == [""]
    assert scene.tells(b"nope", config=closed) == [INVALID]


def test_all_keys_of_a_request_are_tried(scene):
    asking = Asking(STRANGER, (b"authorization", b"Basic eDp5"), (b"x-management-key", RIGHT))

    asyncio.run(scene.gate.admit(CONFIG, asking))
    with pytest.raises(Unauthenticated):
        asyncio.run(scene.gate.admit(CONFIG, Asking(STRANGER, *[(b"x-management-key", b"%d" % n) for n in range(99)])))


# -- callers ----------------------------------------------------------------------------------------------------------


TRUSTED = ("10.0.0.0/8", "127.0.0.1/32")


@pytest.mark.parametrize(
    ("peer", "forwarded", "caller"),
    [
        ("127.0.0.1", None, Caller("127.0.0.1", is_local=True)),
        ("127.9.9.9", None, Caller("127.9.9.9", is_local=True)),
        ("::1", None, Caller("::1", is_local=True)),
        ("::ffff:127.0.0.1", None, Caller("127.0.0.1", is_local=True)),
        ("203.0.113.9", None, Caller("203.0.113.9", is_local=False)),
        ("203.0.113.9", "127.0.0.1", Caller("203.0.113.9", is_local=False)),
        ("127.0.0.1", "203.0.113.9", Caller("203.0.113.9", is_local=False)),
        ("127.0.0.2", "127.0.0.1", Caller("127.0.0.2", is_local=False)),
        ("127.0.0.1", "127.0.0.1", Caller("127.0.0.1", is_local=True)),
        ("10.1.1.1", "127.0.0.1, 203.0.113.9", Caller("203.0.113.9", is_local=False)),
        ("10.1.1.1", "203.0.113.8,  203.0.113.9 , 10.2.2.2", Caller("203.0.113.9", is_local=False)),
        ("10.1.1.1", "10.3.3.3, 10.2.2.2", Caller("10.3.3.3", is_local=False)),
        ("10.1.1.1", "203.0.113.9:4711", Caller("203.0.113.9", is_local=False)),
        ("10.1.1.1", "[2001:db8::1]:4711", Caller("2001:db8::/64", is_local=False)),
        ("10.1.1.1", "127.0.0.1, unknown", Caller("unknown", is_local=False)),
        ("10.1.1.1", "", Caller("10.1.1.1", is_local=False)),
        ("", None, Caller("", is_local=False)),
    ],
)
def test_the_caller_is_who_the_last_known_proxy_names(peer, forwarded, caller):
    headers = () if forwarded is None else ((b"x-forwarded-for", forwarded.encode()),)

    assert caller_of(Asking(peer, *headers), TRUSTED) == caller


def test_a_trusted_proxy_that_names_nobody_is_not_a_local_program():
    assert not caller_of(Asking("127.0.0.1", (b"forwarded", b"for=127.0.0.1")), TRUSTED).is_local
    assert not caller_of(Asking("127.0.0.1", (b"x-forwarded-for", b" ")), TRUSTED).is_local


def test_several_lines_are_one_list():
    lines = ((b"x-forwarded-for", b"203.0.113.8"), (b"x-forwarded-for", b"203.0.113.9"))

    assert caller_of(Asking("10.1.1.1", *lines), TRUSTED).name == "203.0.113.9"
