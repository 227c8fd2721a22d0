"""The pool, with time as a number."""

import collections

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cliproxy.canon.errors import Problem
from cliproxy.routing.accounts import Account, Served
from cliproxy.routing.catalog import Catalog
from cliproxy.routing.pool import Lease, Pool
from cliproxy.routing.verdict import POLICIES, Fault, Verdict

PROBLEM = Problem("rate_limit", 429, "slow down")
DAY = 24 * 3600.0


def account(name: str, *, priority: int = 0, weight: int = 1, models: tuple[str, ...] = ("m", "n")) -> Account:
    return Account(name, "p", name, priority, weight, serves=tuple(Served(model, model) for model in models))


def route(*accounts: Account, model: str = "m"):
    found = Catalog(accounts).find(model)
    assert found is not None
    return found


def verdict(fault: Fault = "quota", wait: float | None = None, scope: str = "model") -> Verdict:
    return Verdict(fault, PROBLEM, scope, wait)


def picks(pool: Pool, where, count: int, now: float = 0.0, tried=frozenset()) -> list[str | None]:
    leases = [pool.acquire(where, now, tried) for _ in range(count)]
    return [lease.candidate.account.id if lease else None for lease in leases]


ABC = (account("a"), account("b"), account("c"))


def test_accounts_take_turns():
    assert picks(Pool(), route(*ABC), 7) == ["a", "b", "c", "a", "b", "c", "a"]


def test_each_model_has_its_own_rotation():
    pool = Pool()
    picks(pool, route(*ABC), 1)

    assert picks(pool, route(*ABC, model="n"), 1) == ["a"]


def test_rotation_survives_a_reload():
    pool = Pool()
    picks(pool, route(*ABC), 2)

    assert picks(pool, route(account("z"), *ABC), 2) == ["c", "z"]


def test_a_neighbour_of_a_resting_account_gets_no_double_load():
    pool, where = Pool(), route(*ABC, account("d"))
    pool.release(Lease(where.tiers[0].candidates[1]), 0, verdict(wait=100))

    assert collections.Counter(picks(pool, where, 30, now=1)) == {"a": 10, "c": 10, "d": 10}


def test_tiers_rotate_on_their_own():
    pool = Pool()
    where = route(account("a", priority=1), account("b", priority=1), account("c"))

    firsts = []
    for _ in range(4):
        first, second, last = (pool.acquire(where, 0, tried) for tried in (set(), {"a", "b"}, {"a", "b", "c"}))
        firsts.append(first.candidate.account.id)
        assert second.candidate.account.id == "c"
        assert last is None

    assert firsts == ["a", "b", "a", "b"]


def test_fill_first_stays_until_it_cannot():
    pool, where = Pool("fill-first"), route(*ABC)

    assert picks(pool, where, 3) == ["a", "a", "a"]
    assert picks(pool, where, 1, tried={"a"}) == ["b"]


def test_weights_share_smoothly():
    pool, where = Pool("weighted"), route(account("a", weight=3), account("b"), account("z", weight=0))

    assert picks(pool, where, 8) == ["a", "a", "b", "a", "a", "a", "b", "a"]


def test_a_stated_rest_ends_when_it_was_said_to():
    pool, where = Pool(), route(account("a"))
    pool.release(pool.acquire(where, 0), 10, verdict(wait=5))

    assert pool.acquire(where, 14.9) is None
    assert pool.earliest(where, 12) == 3
    assert pool.acquire(where, 15) is not None


def test_a_stated_rest_is_capped_at_a_day():
    pool, where = Pool(), route(account("a"))
    pool.release(pool.acquire(where, 0), 0, verdict(wait=1e9))

    assert pool.earliest(where, 0) == DAY


def test_guesses_double_and_a_success_forgets():
    pool, where = Pool(), route(account("a"))
    now, waits = 0.0, []
    for _ in range(14):
        pool.release(pool.acquire(where, now), now, verdict())
        waits.append(pool.earliest(where, now))
        now += waits[-1]

    pool.release(pool.acquire(where, now), now)
    pool.release(pool.acquire(where, now), now, verdict())

    assert waits[:4] == [1, 2, 4, 8]
    assert max(waits) == POLICIES["quota"].longest_rest
    assert pool.earliest(where, now) == 1


def test_faults_of_parallel_requests_count_as_one():
    pool, where = Pool(), route(account("a"))
    leases = [pool.acquire(where, 0) for _ in range(10)]
    for lease in leases:
        pool.release(lease, 0.5, verdict())

    assert pool.earliest(where, 0.5) == 1


def test_an_older_success_does_not_end_a_newer_rest():
    pool, where = Pool(), route(account("a"))
    old, new = pool.acquire(where, 0), pool.acquire(where, 1)
    pool.release(new, 2, verdict(wait=60))

    pool.release(old, 3)

    assert pool.acquire(where, 3) is None


def test_a_stated_time_replaces_a_guess_and_no_guess_replaces_it():
    pool, where = Pool(), route(account("a"))
    lease = pool.acquire(where, 0)
    pool.release(lease, 0, verdict("auth"))
    pool.release(lease, 0, verdict("auth", wait=5))
    assert pool.earliest(where, 0) == 5

    pool.release(lease, 0, verdict("auth"))
    assert pool.earliest(where, 0) == 5


def test_scopes_keep_to_themselves():
    pool = Pool()
    m, n = route(account("a")), route(account("a"), model="n")
    pool.release(pool.acquire(m, 0), 0, verdict(wait=9))
    assert pool.acquire(n, 0) is not None

    pool.release(pool.acquire(n, 0), 0, verdict(wait=9, scope="account"))
    assert pool.acquire(n, 0) is None


def test_overload_and_network_never_rest_an_account():
    pool, where = Pool(), route(account("a"))
    for fault in ("overload", "network", "broken", "caller"):
        pool.release(pool.acquire(where, 0), 0, verdict(fault))

    assert pool.acquire(where, 0) is not None


def test_made_up_names_do_not_fill_the_memory():
    pool = Pool()
    vendor = Account("a", "p", "a", families=("claude-",))
    other = Account("b", "p", "b", families=("claude-",))
    catalog = Catalog([vendor, other])
    for number in range(40_000):
        where = catalog.find(f"claude-{number}")
        pool.release(pool.acquire(where, float(number)), float(number), verdict("missing"))

    assert len(pool._last) <= 16_384
    assert len(pool._rests) <= 2 * 8192
    assert len(catalog._memo) <= 4097


def test_an_account_that_is_woken_is_asked_again_and_the_others_rest_on():
    pool, where = Pool(), route(*ABC)
    for scope in ("model", "account", "model"):
        lease = pool.acquire(where, 0.0)
        assert lease is not None
        pool.release(lease, 0.0, verdict("quota", 60.0, scope))

    assert pool.wake("a") == {"m"}
    assert pool.wake("b") == {""}
    assert pool.wake("b") == pool.wake("nobody") == frozenset()
    assert set(picks(pool, where, 4)) == {"a", "b"}


NAMES = ("a", "b", "c", "d")


class PoolMachine(RuleBasedStateMachine):
    """Against a model that knows, for each account and model, until when it rests at the latest and at the least."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = Pool()
        self.now = 0.0
        self.leases: list[Lease] = []
        self.until: dict[tuple[str, str], float] = {}
        self.routes = {model: route(*(account(name) for name in NAMES), model=model) for model in ("m", "n")}
        self.counts: dict[str, collections.Counter[str]] = {}

    def rests(self, name: str, model: str) -> bool:
        return max(self.until.get((name, ""), 0), self.until.get((name, model), 0)) > self.now

    @rule(model=st.sampled_from("mn"), tried=st.sets(st.sampled_from(NAMES), max_size=3))
    def acquire(self, model, tried):
        lease = self.pool.acquire(self.routes[model], self.now, tried)
        free = [name for name in NAMES if name not in tried and not self.rests(name, model)]
        if lease is None:
            assert not free
            return
        assert lease.candidate.account.id in free
        self.leases.append(lease)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def succeed(self, data):
        lease = self.leases.pop(data.draw(st.integers(0, len(self.leases) - 1)))
        self.pool.release(lease, self.now)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def leave(self, data):
        self.pool.forgo(self.leases.pop(data.draw(st.integers(0, len(self.leases) - 1))))

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), wait=st.floats(0, 2 * DAY), scope=st.sampled_from(["none", "model", "account"]))
    def fail(self, data, wait, scope):
        lease = self.leases.pop(data.draw(st.integers(0, len(self.leases) - 1)))
        self.pool.release(lease, self.now, verdict("quota", wait, scope))
        if scope != "none":
            key = (lease.candidate.account.id, "" if scope == "account" else lease.candidate.model)
            self.until[key] = max(self.until.get(key, 0), self.now + min(wait, DAY))

    @rule(seconds=st.floats(0, DAY))
    def wait(self, seconds):
        self.now += seconds

    @rule(model=st.sampled_from("mn"))
    def turns_are_fair(self, model):
        free = [name for name in NAMES if not self.rests(name, model)]
        seen = collections.Counter(picks(self.pool, self.routes[model], 3 * len(free), self.now))
        assert seen == dict.fromkeys(free, 3)

    @invariant()
    def every_rest_ends_within_a_day(self):
        assert all(rest.until <= self.now + DAY for rest in self.pool._rests.values())
        for where in self.routes.values():
            earliest = self.pool.earliest(where, self.now)
            assert (earliest is None) is not any(self.rests(name, where.model) for name in NAMES)

    @invariant()
    def nothing_leaks(self):
        assert len(self.pool._rests) <= len(NAMES) * 3
        assert len(self.pool._last) <= 2

    def teardown(self):
        self.now += DAY
        for where in self.routes.values():
            assert set(picks(self.pool, where, 4, self.now)) == set(NAMES)


PoolMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestPool = PoolMachine.TestCase
