"""A world made of one number: vendors with quotas and troubles, accounts, callers, an operator who changes things, and a
clock that is corrected now and then. The gateway between them is the real one; only the network and time are not.

Time is the loop's, from 0 on. Vendors live in true time; the gateway's idea of the epoch is `skew` seconds off.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import inf

from msgspec import structs

from cliproxy.canon.errors import BrokenAnswer, GatewayError, Unreachable, UpstreamTimeout
from cliproxy.config.document import read
from cliproxy.config.schema import ClaudeKey, CodexKey, Config, GeminiKey, Model, OpenAICompatibility, UpstreamEntry
from cliproxy.gateway.allowances import Allowances
from cliproxy.gateway.relay import relay
from cliproxy.gateway.runtime import Runtime
from cliproxy.gateway.snapshot import Snapshot
from cliproxy.providers.accounts import AccountFile
from cliproxy.providers.registry import KINDS, PROVIDERS
from cliproxy.routing.pool import Pool
from cliproxy.routing.turns import AWAY
from cliproxy.routing.verdict import FOREVER
from cliproxy.transport.base import Deadlines
from cliproxy.wire.http import Headers, HttpRequest
from cliproxy.wire.secrets import Secret
from simulation import vendors
from simulation.callers import MANNERS, Request
from simulation.invariants import PROBE, Invariants
from simulation.vendors import DAY, HOUR, STYLES, Style, Told

EPOCH = 1_793_000_000.0
"""26 October 2026: summer time ends in California while the world runs."""
_MODELS = ("m1", "m2", "m3")
_NAME = re.compile(rb"key-\d{5}")
_LONGEST_HANG = 600.0
"""Nothing upstream keeps a silent connection for longer."""
_OUTAGE_KINDS = (
    "status",
    "refused",
    "no connection",
    "silent",
    "cut early",
    "cut late",
    "error early",
    "error late",
    "challenge",
)


@dataclass(frozen=True)
class Scale:
    """How large a world is: the least and the most accounts, and the longest that it may take."""

    accounts: tuple[int, int] = (2, 60)
    requests: int = 80
    days: float = 21.0


@dataclass(slots=True)
class Window:
    """A quota: so many requests from the first on until `seconds` later (0: until midnight in California), for each
    model or for all."""

    name: str
    limit: int
    seconds: float
    is_of_model: bool
    used: dict[str, int] = field(default_factory=dict[str, int])
    ends: dict[str, float] = field(default_factory=dict[str, float])

    def end(self, model: str, now: float, at: float) -> float:
        """When the current one ends; it begins now when there is none."""
        key = model if self.is_of_model else ""
        if self.ends.get(key, -1.0) <= now:
            self.used[key] = 0
            self.ends[key] = now + self.seconds if self.seconds else vendors.midnight_pacific(now, at)
        return self.ends[key]

    def count(self, model: str) -> int:
        return self.used.get(model if self.is_of_model else "", 0)

    def take(self, model: str) -> None:
        key = model if self.is_of_model else ""
        self.used[key] = self.used.get(key, 0) + 1


@dataclass(frozen=True, slots=True)
class Spell:
    """`kind` holds from `begin` to `end`; of an account for `model`, "" for all."""

    begin: float
    end: float
    kind: str
    model: str = ""

    def holds(self, now: float, model: str = "") -> bool:
        return self.begin <= now < self.end and self.model in ("", model)


@dataclass(slots=True)
class Holder:
    """An account as its vendor knows it."""

    name: str
    style: Style
    models: tuple[str, ...]
    priority: int
    weight: int
    windows: list[Window]
    is_telling: bool
    spells: list[Spell] = field(default_factory=list[Spell])
    is_configured: bool = True
    generation: int = 0

    @property
    def key(self) -> str:
        """The credential. It keeps the account's name, and changes when the operator changes it."""
        return f"{self.name}-{self.generation}"

    def is_suspended(self, now: float) -> bool:
        return any(spell.kind == "suspended" and spell.holds(now) for spell in self.spells)


class _Answer:
    """Pieces with the seconds before each; an error among them is raised."""

    def __init__(self, status: int, headers: Headers, pieces: list[tuple[float, bytes | Exception]]) -> None:
        self.status = status
        self.headers = headers
        self.closings = 0
        self._pieces = iter(pieces)

    async def piece(self) -> bytes:
        pause, piece = next(self._pieces, (0.0, b""))
        if pause:
            await asyncio.sleep(pause)
        if isinstance(piece, Exception):
            raise piece
        return piece

    async def read(self, limit: int) -> bytes:
        data = b""
        while piece := await self.piece():
            data += piece
        return data

    def close(self) -> None:
        self.closings += 1


class _Tokens:
    """See `gateway.runtime.Tokens`. A refused one is sometimes replaced."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def token(self, name: str) -> Secret:
        return Secret(self._world.holders[name.removesuffix(".json")].key)

    async def instead_of(self, name: str, refused: Secret) -> Secret | None:
        holder = self._world.holders[name.removesuffix(".json")]
        if self._world.random.random() < 0.5:
            return None
        holder.generation += 1
        holder.spells = [spell for spell in holder.spells if spell.kind != "auth"]
        return Secret(holder.key)


Served = Callable[[Runtime, Snapshot, Request], Awaitable[None]]


async def serve(runtime: Runtime, snapshot: Snapshot, request: Request) -> None:
    await relay(runtime, snapshot, request.call, request.exchange)


class World:
    """`pool` and `served` are what is driven; tests of the checks put in others, with a defect."""

    def __init__(self, seed: int, scale: Scale, pool: type[Pool] = Pool, served: Served = serve) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.scale = scale
        self.log: list[str] = []
        self.skew = 0.0
        self.answers: list[_Answer] = []
        self.outages: dict[str, list[Spell]] = {style.name: [] for style in STYLES}
        self.is_healed = False
        self._served = served
        self._requests: dict[asyncio.Task[None], Request] = {}
        self._count = 0
        self._marks = 0
        self._loop = asyncio.get_running_loop()
        self.mood = self.random.choice(("mixed", "mixed", "mixed", "mixed", "outages", "quotas", "calm"))
        self.length = self.random.uniform(1.0, scale.days) * DAY
        self.holders: dict[str, Holder] = {}
        least, most = scale.accounts
        for number in range(int(least + (most - least) * self.random.random() ** 3)):
            holder = self._holder(number)
            self.holders[holder.name] = holder
        self.settings = self._settings()
        config = self._config()
        self.runtime = Runtime(
            config, PROVIDERS, self, monotonic=self._loop.time, epoch=self.epoch, boot=f"s{seed}", kinds=KINDS
        )
        runtime = self.runtime
        runtime.pool = pool(config.routing.strategy, runtime.random.random, runtime.pool._on_wake)
        runtime.allowances = Allowances(runtime.pool, self._loop.time, self.epoch)
        runtime.tokens = _Tokens(self)
        self.invariants = Invariants(seed, runtime)
        self._publish(config)
        self.invariants.is_even = True

    @property
    def now(self) -> float:
        return self._loop.time()

    def true_epoch(self) -> float:
        return EPOCH + self.now

    def epoch(self) -> float:
        return EPOCH + self.now + self.skew

    def note(self, words: str) -> None:
        self.log.append(f"{self.now:.3f} {words}")

    # -- the weeks

    async def live(self) -> None:
        """The world from its beginning to the end of the last request, and the morning after."""
        for at, act in sorted(self._plan(), key=lambda pair: pair[0]):
            if at > self.now:
                await asyncio.sleep(at - self.now)
            act()
        while self._requests:
            await asyncio.wait(list(self._requests))
        self._check_answers()
        self.invariants.quiet(self._count, len(self.holders))
        await self._recover()

    def _plan(self) -> Iterator[tuple[float, Callable[[], None]]]:
        """Bursts of requests with nights between them, and what happens around them."""
        dice = self.random
        left = self.scale.requests
        moments: list[float] = []
        while left > 0:
            begin = dice.uniform(0.0, self.length)
            size = min(left, dice.choice((1, 2, 4, 8, 16, 24)))
            left -= size
            moments.append(begin)
            pace = dice.choice((0.0, 0.3, 2.0, 10.0, 120.0))
            model = dice.choice((*_MODELS, ""))
            for number in range(size):
                asked = model or dice.choice(_MODELS)
                yield begin + number * pace * dice.uniform(0.5, 1.5), lambda asked=asked: self._ask(asked)
        if self.mood == "calm":
            return
        self._plan_troubles(moments)
        for _ in range(dice.randint(0, 4)):
            yield self._near(moments), self._jump
        for _ in range(dice.randint(0, 5)):
            yield self._near(moments), self._reconfigure
        for _ in range(dice.randint(0, 2)):
            yield self._near(moments), self._mend

    def _near(self, moments: list[float]) -> float:
        return max(self.random.choice(moments) + self.random.uniform(-30.0, 60.0), 0.0)

    def _plan_troubles(self, moments: list[float]) -> None:
        dice = self.random
        if self.mood != "quotas":
            for spells in self.outages.values():
                for _ in range(dice.choice((0, 1, 1, 2, 4))):
                    begin = self._near(moments)
                    kind = dice.choice(_OUTAGE_KINDS[:-1] if self.mood == "outages" else _OUTAGE_KINDS)
                    spells.append(Spell(begin, begin + dice.choice((5.0, 60.0, 600.0, 7200.0)), kind))
        if self.mood == "outages":
            begin, length = self._near(moments), dice.choice((60.0, 600.0))
            for spells in self.outages.values():
                spells.append(Spell(begin, begin + length, dice.choice(_OUTAGE_KINDS[:-1])))
        if self.mood != "mixed":
            return
        for holder in self.holders.values():
            for _ in range(dice.choice((0, 0, 1, 2))):
                begin = self._near(moments)
                kind = dice.choice(tuple(holder.style.troubles))
                end = inf if kind == "suspended" else begin + dice.choice((30.0, 600.0, 7200.0, DAY))
                holder.spells.append(Spell(begin, end, kind, dice.choice(_MODELS) if kind == "missing" else ""))

    # -- accounts and configuration

    def _holder(self, number: int) -> Holder:
        dice = self.random
        style = dice.choice(STYLES)
        windows: list[Window] = []
        for name, seconds, is_of_model in style.ways:
            if self.mood in ("mixed", "quotas") and dice.random() < 0.8:
                limit = dice.randint(1, 5) if seconds == 60.0 else dice.randint(2, 12)
                windows.append(Window(name, limit, seconds, is_of_model))
        models = tuple(model for model in _MODELS if dice.random() < 0.7) or (_MODELS[0],)
        priority, weight = dice.choice((0, 0, 0, 1)), dice.choice((1, 1, 2, 5))
        if dice.random() < 0.02:
            weight = 0
        return Holder(f"key-{number:05}", style, models, priority, weight, windows, dice.random() < 0.75)

    def _settings(self) -> dict[str, object]:
        dice = self.random
        return {
            "request-retry": dice.choice((0, 1, 2, 3, 3, 3)),
            "max-retry-credentials": dice.choice((0, 0, 0, 0, 1, 2, 4)),
            "max-retry-interval": dice.choice((0, 1, 5, 30, 30, 90)),
            "quota-exceeded": {"switch-project": dice.random() < 0.85},
            "routing": {
                "strategy": dice.choice(("round-robin", "round-robin", "weighted", "fill-first")),
                "session-affinity": dice.random() < 0.7,
                "quota-watermark": dice.choice((0, 5, 30)),
            },
            "timeouts": {"first-event": dice.choice((0, 0, 20, 60)), "idle": dice.choice((60, 300))},
            "models": {"fallbacks": {"m1": ["m2"]} if dice.random() < 0.15 else {}},
            "endpoints": {name: {"base-url": f"http://{name}-plan.test"} for name in ("claude", "codex")},
        }

    def _config(self, *, is_level: bool = False) -> Config:
        """The configuration as it stands in its file. `is_level`: every account has the same rank and share."""
        text = dict(self.settings)
        if is_level:
            text["routing"] = {"strategy": "round-robin", "session-affinity": False}
        sections: dict[str, list[UpstreamEntry]] = {}
        for holder in self.holders.values():
            if not holder.style.is_login and holder.is_configured:
                sections.setdefault(holder.style.name, []).append(_entry(holder, is_level=is_level))
        # Entries are not read as text: with dozens of them that would take longer than all that follows.
        entries = {_SECTIONS[name]: tuple(entries) for name, entries in sections.items()}
        return structs.replace(read(json.dumps(text)).config, **entries)

    def _files(self, *, is_level: bool = False) -> Mapping[str, AccountFile]:
        return {
            f"{holder.name}.json": AccountFile(
                name=f"{holder.name}.json",
                kind=holder.style.name.removesuffix("-plan"),
                priority=0 if is_level else holder.priority,
                weight=1 if is_level else holder.weight,
                aliases=tuple((_upstream_name(holder.style, model), model) for model in holder.models),
            )
            for holder in self.holders.values()
            if holder.style.is_login and holder.is_configured
        }

    def _publish(self, config: Config, *, is_level: bool = False) -> None:
        self.runtime.files = self._files(is_level=is_level)
        self.runtime.publish(config)
        self.invariants.reconfigured()

    def account_of(self, holder: Holder) -> str | None:
        """The id that the gateway knows it by."""
        for name, upstream in self.runtime.snapshot.upstreams.items():
            if upstream.source == f"{holder.name}.json" or upstream.secret.reveal() == holder.key:
                return name
        return None

    # -- what happens

    def _jump(self) -> None:
        """Somebody sets the clock of the gateway's machine, right or wrong."""
        self.skew = self.random.choice((0.0, self.random.uniform(-2, 2), self.random.uniform(-40_000, 40_000)))
        self.note(f"the clock is {self.skew:.0f} s off")

    def _reconfigure(self) -> None:
        dice = self.random
        what = dice.choice(("settings", "away", "back", "rank"))
        holder = self.holders[dice.choice(tuple(self.holders))]
        if what == "settings":
            self.settings = self._settings()
        elif what == "rank":
            holder.priority, holder.weight = dice.choice((0, 1)), dice.choice((1, 3))
        else:
            holder.is_configured = what == "back" or sum(one.is_configured for one in self.holders.values()) < 2
        self.note(f"{what} {holder.name}")
        self._publish(self._config())

    def _mend(self) -> None:
        """The operator sees to an account: the vendor lets it in again, and the gateway is told."""
        holder = self.holders[self.random.choice(tuple(self.holders))]
        account = self.account_of(holder)
        if account is not None:
            self.note(f"mended {holder.name}")
            holder.spells.clear()
            self.runtime.pool.wake(account)
            self.invariants.woken(account)

    def _ask(self, model: str, refused_at: int | None = None) -> None:
        dice = self.random
        self._count += 1
        number = self._count
        manner = dice.choice(MANNERS)
        headers: Headers = ((b"x-session-id", b"%d" % dice.randint(1, 4)),) if dice.random() < 0.25 else ()
        call = manner.call(model, f"text {number}", headers, f"req_{number}", is_stream=dice.random() < 0.5)
        request = Request(number, manner, call, self.runtime.snapshot, self.now)
        request.refused_at = refused_at
        task = self._loop.create_task(self._serve(request))
        self._requests[task] = request
        task.add_done_callback(self._done)
        if dice.random() < 0.07 and not self.is_healed:
            self._loop.call_later(dice.choice((0.0, 0.2, 1.0, 5.0, 40.0)), self._leave, task)

    def _leave(self, task: asyncio.Task[None]) -> None:
        if task in self._requests and not task.done():
            self._requests[task].left = True
            task.cancel()

    def _done(self, task: asyncio.Task[None]) -> None:
        request = self._requests.pop(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.invariants.breach("nothing is raised but what is meant", f"request {request.number}: {error!r}")

    async def _serve(self, request: Request) -> None:
        try:
            await self._served(self.runtime, request.snapshot, request)
        except GatewayError as error:
            request.error = error
        finally:
            if request.error is not None:
                await request.tell(request.error)
            if not request.left:
                self.invariants.over(request)
            told = "left" if request.left else request.exchange.status
            self.note(f"request {request.number} {request.call.model}: {told}")
        if request.error is not None:
            self._come_back(request, request.error)

    def _come_back(self, request: Request, error: GatewayError) -> None:
        wait = error.problem.retry_after
        if wait is None or error.problem.status != 429 or wait > DAY or self.is_healed or self.random.random() < 0.5:
            return
        if self._count < 2 * self.scale.requests:
            task = self._loop.create_task(asyncio.sleep(wait))
            self._requests[task] = request
            refused_at = self.invariants.events
            task.add_done_callback(lambda task: self._back(task, request, refused_at))

    def _back(self, task: asyncio.Task[None], request: Request, refused_at: int) -> None:
        self._requests.pop(task)
        is_same = self.runtime.snapshot is request.snapshot
        self._ask(request.call.model, refused_at if is_same else None)

    # -- the network

    async def send(self, request: HttpRequest, deadlines: Deadlines) -> _Answer:
        found = _NAME.search(request.head)
        assert found is not None
        holder = self.holders[found[0].decode()]
        task = asyncio.current_task()
        assert task is not None
        asking = self._requests[task]
        lease = asking.call.tally.tries[-1].lease
        if lease is not asking.lease:
            asking.lease = lease
            self.invariants.asked(asking, lease)
        model = lease.candidate.model
        is_stream = asking.call.is_stream or holder.style.name == "codex-plan"
        outage = next((spell.kind for spell in self.outages[holder.style.name] if spell.holds(self.now)), "")
        if self.mood in ("mixed", "outages") and not outage and not self.is_healed and self.random.random() < 0.02:
            outage = self.random.choice(_OUTAGE_KINDS[:-1])
        self.note(f"request {asking.number} asks {holder.name} for {model} {outage}")
        self.invariants.told.pop(lease, None)
        await self._connect(outage, deadlines)
        told = self._refusal(holder, model, outage)
        if told is not None:
            self.invariants.heard(lease, told)
            self.note(f"{holder.name} says {told.status} until {told.until}")
            answer = _Answer(told.status, told.headers, [(0.0, told.body)] if told.body else [])
        else:
            answer = self._success(holder, model, outage, deadlines, is_stream=is_stream)
        self.answers.append(answer)
        return answer

    def close(self) -> None: ...

    async def _connect(self, outage: str, deadlines: Deadlines) -> None:
        if outage == "no connection":
            await asyncio.sleep(deadlines.connect)
            raise Unreachable("The upstream could not be reached in time.")
        if outage == "silent":
            await asyncio.sleep(deadlines.head or _LONGEST_HANG)
            raise UpstreamTimeout("The upstream did not begin its answer in time.")
        await asyncio.sleep(self.random.choice((0.05, 0.4, 1.5)))
        if outage == "refused":
            raise Unreachable("The upstream refused the connection.")

    def _refusal(self, holder: Holder, model: str, outage: str) -> Told | None:
        now, at = self.now, self.true_epoch()
        if outage == "status":
            return vendors.outage(self.random.choice((500, 502, 503, 529)), at)
        if outage == "challenge":
            return vendors.challenge(at)
        public = model.rsplit("-", 1)[1]
        for spell in holder.spells:
            if spell.holds(now, public):
                return vendors.trouble(holder.style, spell.kind, model, at)
        ends = [(window.end(public, now, at), window) for window in holder.windows]
        full = [(end, window.name) for end, window in ends if window.count(public) >= window.limit]
        if not full:
            for window in holder.windows:
                window.take(public)
            return None
        if not holder.is_telling:
            return vendors.bare(holder.style, at)
        end, name = max(full)
        return holder.style.full(name, now, at, end)

    def _success(self, holder: Holder, model: str, outage: str, deadlines: Deadlines, *, is_stream: bool) -> _Answer:
        now, at, words = self.now, self.true_epoch(), holder.style.words
        self._marks += 1
        mark = f"mark-{self._marks}-"
        public = model.rsplit("-", 1)[1]
        windows = ((one.name, one.limit, one.count(public), one.end(public, now, at)) for one in holder.windows)
        limits = holder.style.left(windows, now, at) if holder.is_telling else ()
        headers = vendors.served(is_stream, limits, at)
        pause = self.random.choice((0.0, 0.1, 3.0))
        stall = deadlines.idle or _LONGEST_HANG
        if not is_stream:
            if outage.startswith("cut"):
                return _Answer(200, headers, [(pause, BrokenAnswer("The upstream broke off its answer."))])
            return _Answer(200, headers, [(pause, words.body(mark))])
        first, content, rest = words.pieces(mark)
        failed = words.failed.encode()
        pieces: dict[str, list[tuple[float, bytes | Exception]]] = {
            "cut early": [(pause, first), (stall, UpstreamTimeout("The upstream fell silent."))],
            "cut late": [(pause, first + content), (0.1, BrokenAnswer("The upstream broke off its answer."))],
            "error early": [(pause, first), (0.1, failed)],
            "error late": [(pause, first + content), (0.1, failed)],
        }
        return _Answer(200, headers, pieces.get(outage) or [(pause, first), (0.0, content), (pause, rest)])

    # -- the end

    def _check_answers(self) -> None:
        if any(answer.closings != 1 for answer in self.answers):
            self.invariants.breach("every answer is closed once", "a connection was left open, or closed twice")

    async def _recover(self) -> None:
        """Nothing that happened is for ever: all vendors are well again, time goes by, and everybody serves."""
        self.is_healed = True
        pool, invariants = self.runtime.pool, self.invariants
        suspended = [holder for holder in self.holders.values() if holder.is_suspended(self.now)]
        for holder in self.holders.values():
            holder.windows.clear()
            holder.spells.clear()
            holder.is_configured = True
        for spells in self.outages.values():
            spells.clear()
        self._publish(self._config(is_level=True), is_level=True)
        ends = [end for end in invariants.latest_end.values() if end != FOREVER]
        ends += [pool.low_until(name) for name in self.runtime.snapshot.upstreams]
        await asyncio.sleep(max([end - self.now for end in ends] + [HOUR]) + 2 * PROBE)
        for holder in suspended:
            account = self.account_of(holder)
            if account is not None:
                pool.wake(account, frozenset({"suspended"}))
        self._everybody_serves()
        for model in _MODELS:
            if self.runtime.snapshot.resolve(model) is not None:
                self._ask(model)
        while self._requests:
            asked = dict(self._requests)
            await asyncio.wait(list(asked))
            for request in asked.values():
                if request.exchange.status != 200 or request.error is not None:
                    invariants.breach("nothing is for ever", f"request {request.number} fails though all is well")
        invariants.quiet(self._count, len(self.holders))

    def _everybody_serves(self) -> None:
        """Each account comes to its turn for each of its models, and its success leaves nothing behind."""
        pool, now = self.runtime.pool, self.now
        for model in _MODELS:
            target = self.runtime.snapshot.resolve(model)
            if target is None:
                continue
            missing = {candidate.account.id: candidate for candidate in target.route.candidates}
            for _ in range(3 * len(missing) + 3):
                lease = pool.acquire(target.route, now)
                if lease is None:
                    break
                missing.pop(lease.candidate.account.id, None)
                pool.settle(lease, now)
                pool.release(lease, now)
            for candidate in missing.values():
                state = "rests" if pool.standing(candidate, now)[0] == AWAY else "has no turn"
                self.invariants.breach("nothing is for ever", f"{candidate.account.label} {state} for {model}")


_SECTIONS = {
    "claude": "claude_api_key",
    "codex": "codex_api_key",
    "gemini": "gemini_api_key",
    "compatible": "openai_compatibility",
}


def _entry(holder: Holder, *, is_level: bool) -> UpstreamEntry:
    key = Secret(holder.key)
    shared = {
        "base_url": f"http://{holder.style.name}.test",
        "models": tuple(Model(name=_upstream_name(holder.style, model), alias=model) for model in holder.models),
        "priority": 0 if is_level else holder.priority,
        "weight": 1 if is_level else holder.weight,
    }
    if holder.style.name == "compatible":
        return OpenAICompatibility(name=holder.name, api_keys=(key,), **shared)
    return {"claude": ClaudeKey, "codex": CodexKey, "gemini": GeminiKey}[holder.style.name](api_key=key, **shared)


def _upstream_name(style: Style, model: str) -> str:
    prefix = {"claude": "claude-x", "codex": "gpt-x", "gemini": "gemini-x"}.get(style.name.removesuffix("-plan"), "x")
    return f"{prefix}-{model}"
