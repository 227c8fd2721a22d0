"""The budget of one request, with time as a number."""

import itertools

import pytest

from cliproxy.canon.errors import Kind, ModelNotFound, NoAccount, Problem, RateLimited
from cliproxy.config.schema import Config, QuotaExceeded
from cliproxy.gateway.attempts import Attempts
from cliproxy.providers.base import verdict_of
from cliproxy.routing.accounts import Account, Served
from cliproxy.routing.catalog import Catalog
from cliproxy.routing.pool import Pool
from cliproxy.routing.verdict import Verdict

ROUTE = Catalog([Account(name, "p", name, serves=(Served("m", "m"),)) for name in "abc"]).find("m")
STATUS: dict[Kind, int] = {"rate_limit": 429, "quota": 429, "unauthenticated": 401, "overloaded": 503, "not_found": 404}


def verdict(kind: Kind, wait: float | None = None):
    return verdict_of(Problem(kind, STATUS.get(kind, 500), f"the model {kind}", retry_after=wait), (), 0.0)


class Request:
    """One request against a pool, told what each account says."""

    def __init__(self, config: Config | None = None, now: float = 0.0, route=ROUTE, pool: Pool | None = None) -> None:
        self.pool = pool or Pool(chance=lambda: 0.0)
        self.route = route
        self.attempts = Attempts(config or Config(), route, now)
        self.now = now
        self.asked: list[str] = []
        self.pauses: list[float] = []

    def run(self, says):
        """Ask until nobody may be asked; `says` is a verdict, one for each account, or what gives one. The final
        error's problem, None for a success."""
        while True:
            lease = self.attempts.next(self.pool, self.now)
            if lease is None:
                pause = self.attempts.wait(self.pool, self.now)
                if pause is None:
                    break
                if pause:
                    self.pauses.append(round(pause, 2))
                    self.now += pause
                    self.attempts.waited(pause)
                continue
            name = lease.candidate.account.id
            self.asked.append(name)
            said = says(name, self.now) if callable(says) else says[name] if isinstance(says, dict) else says
            self.pool.settle(lease, self.now, said)
            self.pool.release(lease, self.now)
            if said is None:
                return None
            if not self.attempts.failed(lease, said, (), 1.0, self.now):
                break
        return self.attempts.final(self.pool, self.now)


@pytest.mark.parametrize(("retries", "asked"), [(0, "a"), (1, "ab"), (2, "abc"), (3, "abca"), (6, "abcabca")])
def test_retries_are_extra_attempts_distinct_accounts_first(retries, asked):
    request = Request(Config(request_retry=retries))

    request.run(verdict("overloaded"))

    assert "".join(request.asked) == asked


def test_pauses_before_the_same_account_grow_and_stay_bounded():
    request = Request(Config(request_retry=30, max_retry_interval=3))
    times: dict[str, list[float]] = {name: [] for name in "abc"}

    def down(name, now):
        times[name].append(now)
        return verdict("overloaded")

    request.run(down)

    for moments in times.values():
        gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
        assert gaps[0] < gaps[-1]
        assert all(gap >= min(0.5 * 2**number, 3.0) - 0.01 for number, gap in enumerate(gaps))
    assert max(request.pauses) <= 3.0


def test_the_whole_is_bounded_by_a_deadline():
    request = Request(Config(request_retry=10_000, max_retry_interval=60))

    request.run(verdict("overloaded"))

    assert request.now < 120


def test_an_upstreams_own_wait_is_kept_to():
    request = Request(Config(request_retry=3))

    request.run(verdict("overloaded", wait=7))

    assert request.pauses == [7.0]


def test_a_wait_beyond_the_interval_ends_the_request():
    request = Request(Config(request_retry=9, max_retry_interval=5))

    final = request.run(verdict("overloaded", wait=6))

    assert request.asked == ["a", "b", "c"]
    assert final.problem.retry_after == 6


def test_only_those_whose_wait_is_over_are_asked_again():
    request = Request(Config(request_retry=3))

    request.run({"a": verdict("overloaded", wait=20), "b": verdict("overloaded"), "c": verdict("overloaded", wait=25)})

    assert request.asked == ["a", "b", "c", "b"]


def test_moving_on_from_refusals_and_limits_is_free():
    request = Request(Config(request_retry=0))

    request.run({"a": verdict("unauthenticated"), "b": verdict("rate_limit"), "c": verdict("quota")})

    assert request.asked == ["a", "b", "c"]


def test_an_account_is_asked_again_only_for_faults_that_spend_retries():
    request = Request(Config(request_retry=3))

    request.run({"a": verdict("unauthenticated"), "b": verdict("overloaded"), "c": verdict("rate_limit", wait=90)})

    assert request.asked == ["a", "b", "c", "b", "b", "b"]


def limited_until(ends: dict[str, float]):
    """Accounts that are out of quota until then, and say so."""
    return lambda name, now: verdict("rate_limit", ends[name] - now) if now < ends[name] else None


def test_the_first_to_be_back_is_waited_for():
    request = Request(Config(request_retry=1, max_retry_interval=10))

    final = request.run(limited_until({"a": 50, "b": 9, "c": 60}))

    assert final is None
    assert request.asked == ["a", "b", "c", "b"]
    assert request.pauses == [9.0]


def test_nobody_is_waited_for_beyond_the_interval():
    request = Request(Config(request_retry=1, max_retry_interval=10))

    final = request.run(limited_until({"a": 50, "b": 12, "c": 60}))

    assert request.pauses == []
    assert final.problem.status == 429
    assert final.problem.retry_after == 12


def test_waits_are_bounded_by_the_interval_in_all_and_by_retries():
    request = Request(Config(request_retry=9, max_retry_interval=10))
    request.run(lambda name, now: verdict("rate_limit", 4))
    assert request.pauses == [4.0, 4.0]

    request = Request(Config(request_retry=1, max_retry_interval=100))
    request.run(lambda name, now: verdict("rate_limit", 4))
    assert request.asked == ["a", "b", "c", "a"]


def test_a_request_that_finds_all_resting_waits_for_the_first_too():
    pool = Pool(chance=lambda: 0.0)
    Request(Config(request_retry=0), pool=pool).run(limited_until({"a": 50, "b": 9, "c": 60}))
    later = Request(Config(request_retry=0), now=5, pool=pool)

    assert later.run(limited_until({"a": 50, "b": 9, "c": 60})) is None
    assert later.asked == ["b"]
    assert later.pauses == [4.0]


@pytest.mark.parametrize("is_first", [True, False])
def test_without_switch_project_nobody_is_waited_for(is_first):
    config = Config(quota_exceeded=QuotaExceeded(switch_project=False))
    pool = Pool(chance=lambda: 0.0)
    if not is_first:
        Request(pool=pool).run(limited_until({"a": 9, "b": 9, "c": 9}))
    request = Request(config, now=5, pool=pool)

    final = request.run(limited_until({"a": 9, "b": 9, "c": 9}))

    assert request.pauses == []
    assert final.problem.status == 429


def test_where_another_model_can_be_served_nobody_is_waited_for():
    pool = Pool(chance=lambda: 0.0)
    attempts = Attempts(Config(), ROUTE, 0.0, may_wait=False)
    while lease := attempts.next(pool, 0.0):
        pool.settle(lease, 0.0, verdict("rate_limit", 5))
        attempts.failed(lease, verdict("rate_limit", 5), (), 1.0, 0.0)

    assert attempts.wait(pool, 0.0) is None


def test_limits_are_told_with_the_headers_of_the_most_telling_answer():
    pool = Pool()
    attempts = Attempts(Config(), ROUTE, 0.0)
    for said, line in ((verdict("rate_limit"), b"1"), (verdict("unauthenticated"), b"2")):
        attempts.failed(attempts.next(pool, 0.0), said, ((b"x", line),), 1.0, 0.0)

    assert attempts.told == ((b"x", b"1"),)


def test_the_callers_fault_ends_it():
    request = Request()

    final = request.run(verdict_of(Problem("invalid_request", 400, "no"), (), 0.0))

    assert request.asked == ["a"]
    assert final.problem.status == 400


def test_without_switch_project_a_limit_ends_it_with_its_own_wait():
    request = Request(Config(quota_exceeded=QuotaExceeded(switch_project=False)))

    final = request.run(verdict("rate_limit", wait=9))

    assert request.asked == ["a"]
    assert final.problem.retry_after == 9


def test_credentials_are_bounded_and_retries_stay_among_them():
    request = Request(Config(request_retry=3, max_retry_credentials=2))

    request.run(verdict("overloaded"))

    assert request.asked == ["a", "b", "a", "b"]


def test_the_most_telling_failure_is_told():
    refused, limited, down = verdict("unauthenticated"), verdict("rate_limit", wait=60), verdict("overloaded")
    says = [
        ({"a": refused, "b": limited, "c": down}, 429),
        ({"a": refused, "b": down, "c": refused}, 503),
        ({"a": refused, "b": refused, "c": verdict("not_found")}, 404),
        ({"a": refused, "b": refused, "c": refused}, 502),
    ]

    assert [Request(Config(request_retry=0)).run(said).problem.status for said, _ in says] == [
        status for _, status in says
    ]


def test_the_wait_that_is_told_is_the_earliest_recovery_rounded_up():
    request = Request()

    final = request.run({"a": verdict("rate_limit", 90), "b": verdict("rate_limit", 7.2), "c": verdict("quota", 500)})

    assert final.problem.retry_after == 8


@pytest.mark.parametrize(
    ("says", "error", "has_wait"),
    [
        (verdict("rate_limit", 30), RateLimited, True),
        (verdict("not_found"), ModelNotFound, False),
        (verdict("unauthenticated"), NoAccount, True),
        ({"a": verdict("unauthenticated"), "b": verdict("not_found"), "c": verdict("quota")}, RateLimited, True),
    ],
)
def test_when_all_rest_the_reason_is_told(says, error, has_wait):
    request = Request()
    request.run(says)
    later = Request(Config(max_retry_interval=0), pool=request.pool)

    final = later.run(says)

    assert not later.asked
    assert isinstance(final, error)
    assert (final.problem.retry_after is not None) is has_wait


def mixed_route():
    """Two accounts of a subscription, one with a key, in this order."""
    kinds = [("a", "login"), ("b", "login"), ("c", "key")]
    return Catalog([Account(name, kind, name, serves=(Served("m", "m"),)) for name, kind in kinds]).find("m")


IDENTITY = Verdict("identity", Problem("invalid_request", 400, "for its own program only"))


def test_a_refusal_of_the_caller_speaks_for_all_accounts_of_its_provider():
    request = Request(Config(request_retry=3), route=mixed_route())

    final = request.run({"a": IDENTITY, "c": verdict("unauthenticated")})

    assert request.asked == ["a", "c"]
    assert final.problem.message == "for its own program only"
    assert final.problem.status == 400


def test_it_says_nothing_about_the_health_of_an_account():
    request = Request(route=mixed_route())

    request.run({"a": IDENTITY, "c": IDENTITY})

    assert request.pool.earliest(mixed_route(), 0.0) is None


def test_accounts_that_it_speaks_for_are_not_asked_again():
    request = Request(Config(request_retry=3), route=mixed_route())

    request.run({"a": verdict("overloaded"), "b": IDENTITY, "c": verdict("unauthenticated")})

    assert request.asked == ["a", "b", "c"]


def test_what_another_provider_says_of_itself_is_told_first():
    request = Request(Config(request_retry=0), route=mixed_route())

    final = request.run({"a": IDENTITY, "c": verdict("rate_limit", wait=60)})

    assert final.problem.status == 429
