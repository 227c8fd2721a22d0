"""What choosing an account costs, with ten accounts and with a hundred thousand.

    python benchmarks/pool.py            # within half a minute
    python benchmarks/pool.py --quick

One request is one `acquire`, `settle` and `release`. All sizes are measured in turns, and the least of several runs
counts: that blurs the least. The ratio is to ten accounts; the program ends with 1 when one is above 2.

* calm: everybody is ready
* troubled: every tenth account rests
* busy: 64 requests are under way at any time
* failing: every tenth request meets a limit of a second, and time goes on: accounts leave and come back all the while
* talks: each request belongs to one of 1,000 conversations
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import deque
from collections.abc import Callable

from cliproxy.canon.errors import Problem
from cliproxy.routing.accounts import Account, Served
from cliproxy.routing.catalog import Catalog, Route
from cliproxy.routing.pool import Lease, Pool
from cliproxy.routing.session import Session
from cliproxy.routing.turns import Strategy
from cliproxy.routing.verdict import Verdict

SIZES = (10, 1_000, 100_000)
STRATEGIES: tuple[Strategy, ...] = ("round-robin", "weighted", "fill-first")
MOST_RATIO = 2.0
_LIMIT = Verdict("quota", Problem("rate_limit", 429, "limit"), "model", 1.0, "header")
_LONG_LIMIT = Verdict("quota", Problem("rate_limit", 429, "limit"), "model", 1e6, "header")

Step = Callable[[], None]


def main() -> int:
    parser = argparse.ArgumentParser(description="Cost of choosing an account.")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    count, runs = (2_000, 3) if parser.parse_args().quick else (20_000, 7)
    routes = {size: _route(size) for size in SIZES}
    worst = 0.0
    print(f"{'':24}" + "".join(f"{size:>12,}" for size in SIZES) + "   accounts, microseconds per request (ratio)")
    for strategy in STRATEGIES:
        for name, prepare in SITUATIONS.items():
            steps = {size: prepare(Pool(strategy), routes[size]) for size in SIZES}
            least = dict.fromkeys(SIZES, float("inf"))
            for _ in range(runs):
                for size, step in steps.items():
                    least[size] = min(least[size], _timed(step, count))
            ratios = {size: least[size] / least[SIZES[0]] for size in SIZES}
            worst = max(worst, *ratios.values())
            told = "".join(f"{least[size] * 1e6:7.2f} ({ratios[size]:.1f})".rjust(12) for size in SIZES)
            print(f"{strategy + ', ' + name:24}{told}")
    print(f"worst ratio {worst:.2f}, at most {MOST_RATIO:g} is wanted")
    return worst > MOST_RATIO


def _timed(step: Step, count: int) -> float:
    started = time.perf_counter()
    for _ in range(count):
        step()
    return (time.perf_counter() - started) / count


def _route(size: int) -> Route:
    served = (Served("m", "m"),)
    route = Catalog(
        [Account(f"a{number}", "p", f"a{number}", weight=1 + number % 7, serves=served) for number in range(size)]
    ).find("m")
    if route is None:
        raise RuntimeError("the model is served by all")
    return route


def _lease(pool: Pool, route: Route, now: float = 0.0, session: Session | None = None) -> Lease:
    lease = pool.acquire(route, now, session=session)
    if lease is None:
        raise RuntimeError("nobody is ready")
    return lease


def _end(pool: Pool, lease: Lease, now: float = 0.0, verdict: Verdict | None = None) -> None:
    pool.settle(lease, now, verdict)
    pool.release(lease, now)


def _calm(pool: Pool, route: Route) -> Step:
    return lambda: _end(pool, _lease(pool, route))


def _troubled(pool: Pool, route: Route) -> Step:
    for _ in range(len(route.tiers[0].candidates) // 10):
        _end(pool, _lease(pool, route), verdict=_LONG_LIMIT)
    return _calm(pool, route)


def _busy(pool: Pool, route: Route) -> Step:
    under_way = deque(_lease(pool, route) for _ in range(64))

    def step() -> None:
        under_way.append(_lease(pool, route))
        _end(pool, under_way.popleft())

    return step


def _failing(pool: Pool, route: Route) -> Step:
    now, number = 0.0, 0

    def step() -> None:
        nonlocal now, number
        now, number = now + 0.2, number + 1
        _end(pool, _lease(pool, route, now), now, None if number % 10 else _LIMIT)

    return step


def _talks(pool: Pool, route: Route) -> Step:
    sessions = [Session(b"%d" % number) for number in range(1_000)]
    number = 0

    def step() -> None:
        nonlocal number
        number += 1
        _end(pool, _lease(pool, route, session=sessions[number % 1_000]))

    return step


SITUATIONS: dict[str, Callable[[Pool, Route], Step]] = {
    "calm": _calm,
    "troubled": _troubled,
    "busy": _busy,
    "failing": _failing,
    "talks": _talks,
}


if __name__ == "__main__":
    sys.exit(main())
