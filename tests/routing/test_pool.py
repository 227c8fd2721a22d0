"""The pool, with time as a number."""

import collections

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cliproxy.canon.errors import Problem
from cliproxy.routing.accounts import Account, Served
from cliproxy.routing.catalog import Catalog
from cliproxy.routing.limits import Limit
from cliproxy.routing.pool import Lease, Pool
from cliproxy.routing.session import Session
from cliproxy.routing.turns import AWAY, LOW
from cliproxy.routing.verdict import FOREVER, POLICIES, Fault, Verdict

PROBLEM = Problem("rate_limit", 429, "slow down")
HOUR = 3600.0
DAY = 24 * HOUR


def account(name: str, *, priority: int = 0, weight: int = 1, models: tuple[str, ...] = ("m", "n")) -> Account:
    return Account(name, "p", name, priority, weight, serves=tuple(Served(model, model) for model in models))


def route(*accounts: Account, model: str = "m"):
    found = Catalog(accounts).find(model)
    assert found is not None
    return found


def verdict(fault: Fault = "quota", wait: float | None = None, scope: str = "model") -> Verdict:
    return Verdict(fault, PROBLEM, scope, wait, "guess" if wait is None else "header")


def end(pool: Pool, lease: Lease, now: float, said: Verdict | None = None) -> None:
    """The upstream has said it, and the request is over."""
    pool.settle(lease, now, said)
    pool.release(lease, now)


def fail(pool: Pool, where, now: float, said: Verdict) -> Lease:
    lease = pool.acquire(where, now)
    assert lease is not None
    end(pool, lease, now, said)
    return lease


def waiting(pool: Pool, where, now: float) -> float | None:
    back = pool.earliest(where, now)
    return None if back is None else back.seconds


def picks(pool: Pool, where, count: int, now: float = 0.0, tried=frozenset()) -> list[str | None]:
    """Whom so many requests ask that are given up at once."""
    names: list[str | None] = []
    for _ in range(count):
        lease = pool.acquire(where, now, tried)
        names.append(lease.candidate.account.id if lease else None)
        if lease:
            pool.release(lease, now)
    return names


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

    assert picks(pool, route(account("z"), *ABC), 4) == ["z", "c", "z", "a"]


def test_a_neighbour_of_a_resting_account_gets_no_double_load():
    pool, where = Pool(), route(*ABC, account("d"))
    fail(pool, where, 0, verdict(wait=100))

    assert collections.Counter(picks(pool, where, 30, now=1)) == {"b": 10, "c": 10, "d": 10}


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

    assert picks(pool, where, 9) == ["a", "b", "a", "a", "a", "b", "a", "a", "a"]


def test_an_account_that_comes_back_makes_up_for_nothing():
    pool, where = Pool("weighted"), route(account("a", weight=2), account("b"))
    fail(pool, where, 0, verdict(wait=100))
    picks(pool, where, 50, now=50)

    counts = collections.Counter(picks(pool, where, 30, now=200))
    assert abs(counts["a"] - 20) <= 1


def test_of_equal_turns_the_less_loaded_is_asked():
    pool = Pool()
    m, n = route(*ABC), route(*ABC, model="n")
    busy = [pool.acquire(m, 0) for _ in range(2)]

    assert picks(pool, n, 3) == ["c", "a", "b"]
    for lease in busy:
        pool.release(lease, 0)
    assert picks(pool, n, 3) == ["a", "b", "c"]


def test_a_new_account_joins_the_round():
    pool = Pool()
    picks(pool, route(*ABC), 30)

    assert collections.Counter(picks(pool, route(*ABC, account("z")), 40)) == dict.fromkeys("abcz", 10)


# ---- rests ----------------------------------------------------------------------------------------------------------


def test_a_stated_rest_ends_when_it_was_said_to():
    pool, where = Pool(chance=lambda: 0.0), route(account("a"))
    fail(pool, where, 10, verdict(wait=5))

    assert pool.acquire(where, 14.9) is None
    assert waiting(pool, where, 12) == 3
    assert pool.acquire(where, 15) is not None


def test_a_stated_rest_may_end_a_little_later_and_never_earlier():
    for chance in (0.0, 0.5, 1.0):
        pool, where = Pool(chance=lambda chance=chance: chance), route(account("a"))
        fail(pool, where, 0, verdict(wait=100))
        pool.acquire(where, 0)

        assert 100 <= waiting(pool, where, 0) <= 101


def test_guesses_double_and_a_success_forgets():
    pool, where = Pool(), route(account("a"))
    now, waits = 0.0, []
    for _ in range(14):
        fail(pool, where, now, verdict())
        assert pool.acquire(where, now) is None
        waits.append(waiting(pool, where, now))
        now += waits[-1]

    end(pool, pool.acquire(where, now), now)
    fail(pool, where, now, verdict())

    assert waits[:4] == [1, 2, 4, 8]
    assert max(waits) == POLICIES["quota"].longest_rest
    assert pool.rests.of("a")["m"].until - now == 1


@pytest.mark.parametrize("fault", [fault for fault, policy in POLICIES.items() if policy.first_rest < FOREVER])
def test_no_guess_is_longer_than_an_hour(fault):
    pool, where, now = Pool(chance=lambda: 1.0), route(account("a")), 0.0
    for _ in range(40):
        end(pool, pool.acquire(where, now), now, verdict(fault, scope="account"))
        rest = pool.rests.of("a").get("")
        assert rest is None or rest.until - now <= HOUR
        now = max(now + 1, rest.until if rest else 0)


def test_a_fault_of_another_kind_begins_a_row_of_its_own():
    pool, where = Pool(), route(account("a"))
    now = 0.0
    for _ in range(5):
        fail(pool, where, now, verdict())
        now = pool.rests.of("a")["m"].until

    fail(pool, where, now, verdict("missing"))

    assert pool.rests.of("a")["m"].count == 1


def test_faults_of_parallel_requests_count_as_one():
    pool, where = Pool(), route(account("a"))
    leases = [pool.acquire(where, 0) for _ in range(10)]
    for lease in leases:
        end(pool, lease, 0.5, verdict())

    assert pool.rests.of("a")["m"].until == 1.5


def test_an_older_success_does_not_end_a_newer_rest():
    pool, where = Pool(), route(account("a"))
    old, new = pool.acquire(where, 0), pool.acquire(where, 1)
    end(pool, new, 2, verdict(wait=60))

    end(pool, old, 3)

    assert pool.acquire(where, 3) is None


def test_a_stated_time_replaces_a_guess_and_no_guess_replaces_it():
    pool, where = Pool(chance=lambda: 0.0), route(account("a"))
    first, second, third = (pool.acquire(where, 0) for _ in range(3))
    end(pool, first, 1, verdict("auth"))
    end(pool, second, 1, verdict("auth", wait=5))
    assert pool.rests.of("a")["m"].until == 6

    end(pool, third, 1, verdict("auth"))
    assert pool.rests.of("a")["m"].until == 6


def test_scopes_keep_to_themselves():
    pool = Pool()
    m, n = route(account("a")), route(account("a"), model="n")
    fail(pool, m, 0, verdict(wait=9))
    assert pool.acquire(n, 0) is not None

    fail(pool, n, 0, verdict(wait=9, scope="account"))
    assert pool.acquire(n, 0) is None


def test_a_suspended_account_rests_until_somebody_changes_it():
    pool, where = Pool(), route(account("a"))
    fail(pool, where, 0, verdict("suspended", scope="account"))

    assert pool.acquire(where, 1e9) is None
    assert waiting(pool, where, 1e9) is None
    assert pool.wake("a", {"suspended"}) == {""}
    assert pool.acquire(where, 1e9) is not None


# ---- probes ---------------------------------------------------------------------------------------------------------


def test_one_request_tries_whether_a_rest_is_over():
    pool, where = Pool(chance=lambda: 0.0), route(account("a"))
    fail(pool, where, 0, verdict(wait=5))

    probe = pool.acquire(where, 5)
    assert probe.is_probe
    assert pool.acquire(where, 5.1) is None

    end(pool, probe, 6)
    assert [pool.acquire(where, 6).is_probe for _ in range(3)] == [False] * 3


def test_a_probe_that_fails_begins_the_next_rest():
    pool, where = Pool(), route(account("a"))
    fail(pool, where, 0, verdict())

    probe = pool.acquire(where, 1)
    end(pool, probe, 2, verdict())

    assert pool.acquire(where, 3.9) is None
    assert pool.acquire(where, 4).is_probe


@pytest.mark.parametrize("said", [None, "caller"])
def test_a_probe_that_says_nothing_frees_its_place(said):
    pool, where = Pool(chance=lambda: 0.0), route(account("a"))
    fail(pool, where, 0, verdict(wait=5))
    probe = pool.acquire(where, 5)
    assert pool.acquire(where, 6) is None

    if said:
        pool.settle(probe, 7, verdict(said, scope="none"))
    pool.release(probe, 7)

    assert pool.acquire(where, 7).is_probe


def test_a_probe_that_hangs_is_followed_by_another():
    pool, where = Pool(chance=lambda: 0.0), route(account("a"))
    fail(pool, where, 0, verdict(wait=5))
    pool.acquire(where, 5)
    assert pool.acquire(where, 14) is None

    assert pool.acquire(where, 15).is_probe


def test_a_vendor_that_fails_a_probe_says_nothing_of_the_quota():
    pool, where = Pool(chance=lambda: 0.0), route(account("a"))
    fail(pool, where, 0, verdict(wait=5))
    end(pool, pool.acquire(where, 5), 6, verdict("overload"))

    assert pool.acquire(where, 6).is_probe
    assert pool.acquire(where, 6) is None


def test_who_waits_hears_of_every_early_end():
    calls: list[int] = []
    pool, where = Pool(chance=lambda: 0.0, on_wake=lambda: calls.append(1)), route(account("a"))
    fail(pool, where, 0, verdict(wait=5))
    assert not calls

    end(pool, pool.acquire(where, 5), 6)

    assert calls


# ---- vendors that fail ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["overload", "network", "broken"])
def test_one_failure_of_a_vendor_rests_nobody(fault):
    pool, where = Pool(), route(*ABC)
    fail(pool, where, 0, verdict(fault))

    assert picks(pool, where, 6) == ["b", "c", "a", "b", "c", "a"]


def test_a_second_one_in_a_row_lets_the_others_go_first_for_a_while():
    pool, where = Pool(), route(*ABC)
    for _ in range(2):
        end(pool, pool.acquire(where, 0, {"b", "c"}), 0, verdict("overload"))

    assert picks(pool, where, 4, now=1) == ["b", "c", "b", "c"]
    assert sorted(picks(pool, where, 3, now=6)) == ["a", "b", "c"]


def test_a_failing_vendor_never_empties_the_pool():
    pool, where = Pool(), route(account("a"), account("b"))
    for _ in range(20):
        fail(pool, where, 0, verdict("overload"))

    assert collections.Counter(picks(pool, where, 10, now=1)) == {"a": 5, "b": 5}
    assert pool.acquire(where, 1).why == "shaky"


def test_a_failing_vendor_is_asked_when_all_others_are_out_of_quota():
    pool, where = Pool(), route(account("a"), account("b"))
    for _ in range(2):
        end(pool, pool.acquire(where, 0, {"b"}), 0, verdict("overload"))
    end(pool, pool.acquire(where, 0), 0, verdict(wait=100))

    assert picks(pool, where, 2, now=1) == ["a", "a"]


def test_failures_far_apart_are_no_row():
    pool, where, now = Pool(), route(account("a")), 0.0
    for _ in range(10):
        fail(pool, where, now, verdict("overload"))
        now += 100

    assert pool.rests.of("a")["m"].count == 1


# ---- conversations --------------------------------------------------------------------------------------------------


TALK = Session(b"talk")


def test_a_conversation_stays_with_its_account():
    pool, where = Pool(), route(*ABC)
    end(pool, pool.acquire(where, 0, session=TALK), 0)
    picks(pool, where, 1)

    later = [pool.acquire(where, 1, session=TALK) for _ in range(3)]

    assert [(lease.candidate.account.id, lease.why) for lease in later] == [("a", "session")] * 3
    assert sorted(picks(pool, where, 3)) == ["b", "c", "c"]


def test_a_conversation_moves_when_its_account_cannot_and_stays_there():
    pool, where = Pool(chance=lambda: 0.0), route(*ABC)
    end(pool, pool.acquire(where, 0, session=TALK), 0)
    end(pool, pool.acquire(where, 1, session=TALK), 1, verdict(wait=10))

    moved = pool.acquire(where, 2, session=TALK)
    end(pool, moved, 2)

    assert moved.candidate.account.id == "b"
    assert pool.acquire(where, 60, session=TALK).candidate.account.id == "b"


def test_a_conversation_outranks_priority_while_its_account_is_well():
    pool = Pool(chance=lambda: 0.0)
    where = route(account("a", priority=1), account("b"))
    fail(pool, where, 0, verdict(wait=10))
    end(pool, pool.acquire(where, 1, session=TALK), 1)

    assert pool.acquire(where, 60, session=TALK).candidate.account.id == "b"
    assert pool.acquire(where, 60).candidate.account.id == "a"


def test_a_new_conversation_follows_nothing_and_is_remembered():
    pool, where = Pool(), route(*ABC)
    first = Session(b"hi", is_new=True)
    for name in "abc":
        lease = pool.acquire(where, 0, session=first)
        assert lease.candidate.account.id == name
        end(pool, lease, 0)

    assert pool.acquire(where, 1, session=Session(b"hi")).candidate.account.id == "c"


def test_conversations_are_forgotten_after_their_time_and_beyond_a_bound():
    pool, where = Pool(), route(*ABC)
    pool.session_seconds = 100
    end(pool, pool.acquire(where, 0, session=TALK), 0)
    assert pool.acquire(where, 101, session=TALK).why == "turn"

    for number in range(140_000):
        end(pool, pool.acquire(where, 0, session=Session(b"%d" % number)), 0)
    assert len(pool._sessions) <= 131_072


# ---- allowances -----------------------------------------------------------------------------------------------------


def told(left: float, resets_in: float | None = 60.0) -> tuple[Limit, ...]:
    return (Limit("5h", left=1.0), Limit("7d", left=left, resets_in=resets_in))


def watched(*accounts: Account):
    pool = Pool(chance=lambda: 0.0)
    pool.watermark = 0.05
    return pool, route(*accounts)


def test_an_account_below_the_watermark_is_used_last():
    pool, where = watched(account("a", priority=1), account("b"))
    pool.mark("a", "", 0, told(0.04))

    assert picks(pool, where, 2, now=1) == ["b", "b"]
    end(pool, pool.acquire(where, 1), 1, verdict(wait=100))
    assert [pool.acquire(where, 2).candidate.account.id, pool.acquire(where, 2).why] == ["a", "low"]


def test_a_mark_for_one_model_leaves_the_others():
    pool = Pool()
    pool.watermark = 0.05
    pool.mark("a", "m", 0, told(0.0))

    assert picks(pool, route(*ABC), 3) == ["b", "c", "b"]
    assert picks(pool, route(*ABC, model="n"), 1) == ["a"]


def test_it_is_in_line_again_when_its_allowance_is_full_or_said_to_be():
    for later, more in ((61, None), (2, told(0.5))):
        pool, where = watched(account("a", priority=1), account("b"))
        pool.mark("a", "", 0, told(0.0))
        assert picks(pool, where, 1, now=1) == ["b"]

        if more:
            pool.mark("a", "", 2, more)

        assert picks(pool, where, 1, now=later) == ["a"]


def test_a_slow_answer_with_allowance_left_ends_no_rest_that_began_after_it_was_asked_for():
    pool, where = watched(account("a"))
    slow, quick = pool.acquire(where, 0), pool.acquire(where, 0)
    end(pool, quick, 1, verdict("exhausted", 3600, "account"))

    pool.mark("a", "", 2, told(0.3))
    end(pool, slow, 2)

    assert pool.acquire(where, 2) is None


# ---- explaining and keeping -----------------------------------------------------------------------------------------


def test_who_is_passed_over_is_told_with_the_cause():
    pool, where = Pool(chance=lambda: 0.0), route(*ABC)
    fail(pool, where, 0, verdict(wait=100))
    fail(pool, where, 0, verdict("billing", scope="account"))
    picks(pool, where, 3)

    found = {absence.candidate.account.id: absence for absence in pool.absences(where, 1)}

    assert {name: (one.cause, one.model, one.until) for name, one in found.items()} == {
        "a": ("quota", "m", 100),
        "b": ("billing", "", 1800 * 0.85),
    }


def test_rests_go_from_one_process_to_the_next():
    pool, where = Pool(chance=lambda: 0.0), route(*ABC)
    for said in (verdict(wait=100), verdict("suspended", scope="account"), verdict("overload")):
        fail(pool, where, 1000, said)
    kept = [pool.rests.kept(key, 1001, 5001.0) for key in sorted(pool.rests.take_changed())]
    assert pool.rests.take_changed() == set()

    after = Pool(chance=lambda: 0.0)
    for one in kept:
        if one is not None:
            after.rests.restore(one, 7, 5007.0)

    assert [one and (one.account, one.started_at, one.until_at) for one in kept] == [
        ("a", 5000.0, 5100.0),
        ("b", 5000.0, None),
        None,
    ]
    assert picks(after, where, 2, now=8) == ["c", "c"]
    assert after.acquire(where, 7 + 93).is_probe


def test_what_was_woken_is_no_longer_kept():
    pool, where = Pool(), route(account("a"))
    fail(pool, where, 0, verdict(wait=100))
    pool.rests.take_changed()

    pool.wake("a")

    assert [pool.rests.kept(key, 0, 0) for key in pool.rests.take_changed()] == [None]


def test_made_up_names_do_not_fill_the_memory():
    pool = Pool()
    catalog = Catalog([Account(name, "p", name, families=("claude-",)) for name in "ab"])
    for number in range(40_000):
        where = catalog.find(f"claude-{number}")
        fail(pool, where, float(number), verdict("missing"))

    assert pool._places <= 4_000_000
    assert sum(map(len, pool.rests.by_account.values())) == len(pool.rests) <= 65_536 + 1024
    assert len(catalog._memo) <= 4097
    assert len(pool._log) <= 32_768


def test_an_account_that_is_woken_is_asked_again_and_the_others_rest_on():
    pool, where = Pool(), route(*ABC)
    for scope in ("model", "account", "model"):
        fail(pool, where, 0.0, verdict("quota", 60.0, scope))
    assert picks(pool, where, 1) == [None]

    assert pool.wake("a") == {"m"}
    assert pool.wake("b") == {""}
    assert pool.wake("b") == pool.wake("nobody") == frozenset()
    assert set(picks(pool, where, 4)) == {"a", "b"}


def test_waking_more_accounts_than_the_log_holds_loses_nobody():
    accounts = [account(f"a{number}") for number in range(40_000)]
    pool, where = Pool(), route(*accounts)
    for _ in accounts:
        fail(pool, where, 0, verdict(wait=1000))
    assert pool.acquire(where, 1) is None

    for one in accounts:
        pool.wake(one.id)

    assert len(set(picks(pool, where, 40_000, now=1))) == 40_000


NAMES = ("a", "b", "c", "d", "e")
STRATEGIES = ("round-robin", "weighted", "fill-first")


class PoolMachine(RuleBasedStateMachine):
    """Whom the queues give against whom looking at everybody would give; and that nobody is ever lost."""

    @initialize(strategy=st.sampled_from(STRATEGIES), chance=st.floats(0, 1))
    def begin(self, strategy, chance):
        self.pool = Pool(strategy, lambda: chance)
        self.pool.watermark = 0.1
        self.now = 0.0
        self.leases: list[Lease] = []
        self.load(set(NAMES))

    @rule(names=st.sets(st.sampled_from(NAMES), min_size=1))
    def load(self, names):
        """A reload, with other accounts."""
        accounts = [account(name, priority=ord(name) % 2, weight=1 + ord(name) % 3) for name in sorted(names)]
        self.routes = {model: route(*accounts, model=model) for model in ("m", "n")}

    @rule(
        model=st.sampled_from("mn"),
        tried=st.sets(st.sampled_from(NAMES), max_size=3),
        talk=st.none() | st.binary(max_size=1),
    )
    def acquire(self, model, tried, talk):
        where = self.routes[model]
        grades = {one: self.pool.standing(one, self.now)[0] for one in where.candidates if one.account.id not in tried}
        best = min(grades.values(), default=AWAY)
        lease = self.pool.acquire(where, self.now, tried, None if talk is None else Session(talk))
        if lease is None:
            assert best == AWAY
            earliest = waiting(self.pool, where, self.now)
            ends = [self.pool.standing(one, self.now) for one in where.candidates]
            away = [until for grade, until in ends if grade == AWAY and until < FOREVER]
            assert earliest == (min(away) - self.now if away else None)
            return
        assert grades[lease.candidate] <= (LOW if lease.why == "session" else best)
        if lease.why != "session":
            served = [one for one, grade in grades.items() if grade == best]
            assert lease.candidate.account.priority == max(one.account.priority for one in served)
        self.leases.append(lease)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def succeed(self, data):
        end(self.pool, self.leases.pop(data.draw(st.integers(0, len(self.leases) - 1))), self.now)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def leave(self, data):
        self.pool.release(self.leases.pop(data.draw(st.integers(0, len(self.leases) - 1))), self.now)

    @precondition(lambda self: self.leases)
    @rule(
        data=st.data(),
        fault=st.sampled_from(sorted(POLICIES)),
        wait=st.none() | st.floats(0, 2 * DAY),
        scope=st.sampled_from(["none", "model", "account"]),
    )
    def fail(self, data, fault, wait, scope):
        lease = self.leases.pop(data.draw(st.integers(0, len(self.leases) - 1)))
        end(self.pool, lease, self.now, verdict(fault, wait, scope))

    @rule(name=st.sampled_from(NAMES), left=st.floats(0, 1), model=st.sampled_from(["", "m", "n"]))
    def tell(self, name, left, model):
        self.pool.mark(name, model, self.now, told(left))

    @rule(name=st.sampled_from(NAMES))
    def wake(self, name):
        self.pool.wake(name)
        assert not self.pool.rests.of(name)

    @rule(seconds=st.floats(0, 20) | st.floats(0, DAY))
    def wait(self, seconds):
        self.now += seconds

    @rule(model=st.sampled_from("mn"))
    def restart(self, model):
        """Another process takes over what is kept."""
        before, self.pool = self.pool, Pool(self.pool.strategy)
        self.pool.watermark = 0.1
        for name in NAMES:
            for key in before.rests.of(name):
                if kept := before.rests.kept((name, key), self.now, 1e9):
                    self.pool.rests.restore(kept, self.now, 1e9)
        self.leases.clear()

    @invariant()
    def loads_are_those_under_way(self):
        if hasattr(self, "pool"):
            assert self.pool._loads == collections.Counter(lease.candidate.account.id for lease in self.leases)
            assert len(self.pool.rests) == sum(map(len, self.pool.rests.by_account.values()))

    def teardown(self):
        """Whatever has happened: two days on, all serve that nobody has suspended."""
        if not hasattr(self, "pool"):
            return
        for lease in self.leases:
            self.pool.release(lease, self.now)
        self.now += 3 * DAY
        for where in self.routes.values():
            wanted = {one.account.id for one in where.candidates if self.pool.standing(one, self.now)[0] != AWAY}
            tried: set[str] = set()
            while lease := self.pool.acquire(where, self.now, tried):
                tried.add(lease.candidate.account.id)
            assert tried == wanted


PoolMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestPool = PoolMachine.TestCase
