"""Weeks in the life of a gateway, a thousand times: whatever happens, the promises of `invariants` hold.

A failure names its seed; `-k seed-0123` repeats that one, and `SIMULATION_SEEDS=100000` tries more. Each promise is also shown to be broken by a gateway with the
matching defect, so none of the checks is blind.
"""

import gc
import os
from collections.abc import Iterator

import pytest
from msgspec import structs

from cliproxy.canon.errors import GatewayError, UpstreamRefused
from cliproxy.config.schema import QuotaExceeded
from cliproxy.gateway.relay import relay
from cliproxy.gateway.runtime import Runtime
from cliproxy.gateway.snapshot import Snapshot
from cliproxy.routing.pool import Pool
from cliproxy.routing.verdict import FOREVER, POLICIES
from simulation.callers import Request
from simulation.virtual import run
from simulation.world import Scale, Served, World, serve

SEEDS = int(os.environ.get("SIMULATION_SEEDS", "1000"))
DEEP = Scale(accounts=(300, 300), requests=5000, days=42.0)
_MOST_SEEDS_OF_A_DEFECT = 60


def play(seed: int, scale: Scale | None = None, pool: type[Pool] = Pool, served: Served = serve) -> World:
    """A world, lived to its end."""
    worlds: list[World] = []

    async def live() -> None:
        world = World(seed, scale or Scale(), pool, served)
        worlds.append(world)
        await world.live()

    run(live)
    return worlds[0]


def check(world: World) -> None:
    breaches = world.invariants.breaches
    assert not breaches, "\n".join(
        [*breaches.values(), f"again with: -k {'deep' if world.scale == DEEP else 'seed'}-{world.seed:04}"]
    )


@pytest.fixture(autouse=True)
def _rubbish_is_collected_later() -> Iterator[None]:
    """A world is one large knot of references: collecting it bit by bit takes a third of the time."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("seed", range(SEEDS), ids=lambda seed: f"seed-{seed:04}")
def test_the_promises_hold(seed):
    check(play(seed))


@pytest.mark.parametrize("seed", range(3), ids=lambda seed: f"deep-{seed:04}")
def test_the_promises_hold_with_hundreds_of_accounts_for_six_weeks(seed):
    check(play(seed, DEEP))


@pytest.mark.parametrize("seed", range(5))
def test_the_same_seed_is_the_same_world(seed):
    one, other = play(seed), play(seed)

    assert len(one.log) > 20
    assert one.log == other.log


# -- the checks are not blind


class Forgetful(Pool):
    """Does not keep an account for the one request that probes it."""

    def acquire(self, *args, **options):
        lease = super().acquire(*args, **options)
        if lease is not None:
            for rest in self.rests.of(lease.candidate.account.id).values():
                rest.probing_until = 0.0
        return lease


class Stubborn(Pool):
    """Gives a request the account that has just failed it."""

    def acquire(self, route, now, tried=frozenset(), session=None, among=None):
        return super().acquire(route, now, frozenset(), session, among)


class Deaf(Pool):
    """Does not hear how long a vendor says that it will take."""

    def settle(self, lease, now, verdict=None):
        super().settle(lease, now, verdict and structs.replace(verdict, wait=None, source="guess"))


class Restless(Pool):
    """Asks accounts that rest."""

    def standing(self, candidate, now):
        return 0, 0.0


class Unforgiving(Pool):
    """Never comes back to an account whose vendor did not say when."""

    def settle(self, lease, now, verdict=None):
        super().settle(lease, now, verdict)
        if verdict is not None and verdict.wait is None and not POLICIES[verdict.fault].is_soft:
            for rest in self.rests.of(lease.candidate.account.id).values():
                rest.until = FOREVER


class Timid(Pool):
    """Takes a vendor's failures for an account's fault, and lets it rest."""

    def standing(self, candidate, now):
        grade, until = super().standing(candidate, now)
        return (3, until) if grade == 2 else (grade, until)


class Fond(Pool):
    """Has a favourite."""

    @property
    def strategy(self):
        return "fill-first"

    @strategy.setter
    def strategy(self, strategy): ...


class Resentful(Pool):
    """Passes over whoever once failed."""

    def acquire(self, route, now, tried=frozenset(), session=None, among=None):
        failed = {one.account.id for one in route.candidates if self.rests.of(one.account.id)}
        return super().acquire(route, now, tried | failed, session, among)


class Absent(Pool):
    """Forgets that a request is over."""

    def release(self, lease, now):
        lease.is_released = True


async def endless(runtime: Runtime, snapshot: Snapshot, request: Request) -> None:
    """Never stops trying."""
    config = structs.replace(snapshot.config, request_retry=60, max_retry_credentials=0, max_retry_interval=100.0)
    await relay(runtime, structs.replace(snapshot, config=config), request.call, request.exchange)


async def faint(runtime: Runtime, snapshot: Snapshot, request: Request) -> None:
    """Gives up where others are left."""
    config = structs.replace(snapshot.config, quota_exceeded=QuotaExceeded(switch_project=False))
    await relay(runtime, structs.replace(snapshot, config=config), request.call, request.exchange)


async def twice(runtime: Runtime, snapshot: Snapshot, request: Request) -> None:
    """Ends its answers twice."""
    await relay(runtime, snapshot, request.call, request.exchange)
    await request.exchange.finish()


async def chatty(runtime: Runtime, snapshot: Snapshot, request: Request) -> None:
    """Goes on after a failure as if nothing had been."""
    await relay(runtime, snapshot, request.call, request.exchange)
    request.exchange.out.append(request.manner.dialect.write_stream_error(GatewayError().problem))


async def hasty(runtime: Runtime, snapshot: Snapshot, request: Request) -> None:
    """Sends callers back too early."""
    try:
        await relay(runtime, snapshot, request.call, request.exchange)
    except GatewayError as error:
        problem = error.problem
        wait = None if problem.retry_after is None else problem.retry_after / 2
        raise UpstreamRefused(problem=structs.replace(problem, retry_after=wait)) from error


async def silent(runtime: Runtime, snapshot: Snapshot, request: Request) -> None:
    """Loses what went wrong."""
    try:
        await relay(runtime, snapshot, request.call, request.exchange)
    except GatewayError:
        return


DEFECTS: dict[str, tuple[type[Pool], Served, str]] = {
    "a probe is not kept": (Forgetful, serve, "one call probes a rest"),
    "who failed is asked again": (Stubborn, serve, "no account twice without a pause"),
    "a stated wait is not heard": (Deaf, serve, "a stated limit is kept to"),
    "who rests is asked": (Restless, serve, "no call to a resting account"),
    "a guess is for ever": (Unforgiving, serve, "a rest ends in time"),
    "a rest never ends": (Unforgiving, serve, "nothing is for ever"),
    "a vendor's failure rests hard": (Timid, serve, "no needless refusal"),
    "one account gets all": (Fond, serve, "fair shares"),
    "others get nothing": (Fond, serve, "whoever is ready has a turn"),
    "who failed is passed over": (Resentful, serve, "the best comes first"),
    "a load is never taken off": (Absent, serve, "loads return to zero"),
    "attempts go on": (Pool, endless, "bounded retries"),
    "attempts repeat": (Pool, endless, "bounded attempts"),
    "accounts go on": (Pool, endless, "bounded accounts"),
    "waits go on": (Pool, endless, "bounded waits"),
    "giving up early": (Pool, faint, "no needless refusal"),
    "two ends": (Pool, twice, "one whole answer"),
    "words after the end": (Pool, chatty, "one whole answer"),
    "an early Retry-After": (Pool, hasty, "an honest Retry-After"),
    "no answer": (Pool, silent, "one whole answer"),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_is_found(defect):
    pool, served, promise = DEFECTS[defect]

    found = (play(seed, None, pool, served).invariants.breaches for seed in range(_MOST_SEEDS_OF_A_DEFECT))

    assert any(promise in breaches for breaches in found)
