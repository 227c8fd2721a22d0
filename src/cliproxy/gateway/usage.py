"""What was asked of the gateway since it started, and what it cost in tokens: one `Record` a request, and the sums.

A `Tally` has followed one request through its attempts. When the request is over it is only put aside (`UsageLedger.note`):
counting it takes five microseconds among its like, and five times that between the steps of other requests, where none
of its code is warm. So `settle` counts a few dozen at once, and before anybody looks. Sums are exact; single records are
kept only while they are among the newest. Nothing here holds a key: accounts go by their ids, and
callers by the dialect they spoke.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Annotated

from msgspec import Meta, Struct

from cliproxy.canon.usage import Usage
from cliproxy.gateway.decisions import Decisions
from cliproxy.gateway.tally import LEFT, Tally, Unread, Whole
from cliproxy.routing.verdict import Fault

OTHER = "(other)"
"""Stands for the names beyond the bound."""
_NOTED_AT_ONCE = 64
_KEPT_DETAILS = 1_000
_KEPT_IN_QUEUE = 5_000
_KEPT_IDENTITIES = 50_000
_MOST_NAMES = 4_096
_MOST_DAYS = 4_096
_MOST_ACCOUNTS = 16_384
# Callers choose names, and upstreams state counts: neither may make a record, or a sum, grow beyond reason.
LONGEST_NAME = 160
_MOST_TOKENS = 10**12

_SAY_NOTHING: frozenset[Fault] = frozenset({"caller", "identity"})
"""Faults that say nothing about the account."""

_DAY_SECONDS = 86_400
_HOUR_SECONDS = 3_600
RECENT_SECONDS = 600
_RECENT_SLOTS = 20


_Count = Annotated[int, Meta(ge=0, le=_MOST_TOKENS)] | None


class Tokens(Struct, frozen=True, gc=False):
    """None is what the upstream did not tell. `input_tokens` holds the cached ones, `output_tokens` the reasoning."""

    input_tokens: _Count = None
    output_tokens: _Count = None
    reasoning_tokens: _Count = None
    cached_tokens: _Count = None
    total_tokens: _Count = None

    @classmethod
    def of(cls, usage: Usage | None) -> Tokens:
        if usage is None or (usage.input_total is None and usage.output_total is None):
            return _UNKNOWN
        taken, given = _plausible(usage.input_total), _plausible(usage.output_total)
        return cls(taken, given, _plausible(usage.reasoning), _plausible(usage.cache_read), (taken or 0) + (given or 0))


_UNKNOWN = Tokens()


class Record(Struct, frozen=True, gc=False, kw_only=True):
    """One generate request that is over.

    `at` is the epoch second of its begin. `asked` is the caller's name for the model, `model` the upstream's. `account`
    is the id and `label` the name for people of the account that was asked last; both, and `provider`, are empty when
    none was. `status` is what the caller was told, inside the stream where that had begun; `LEFT` when it was gone, 0
    for a record that was imported.
    """

    request_id: str
    at: float
    dialect: str
    asked: str
    model: str
    provider: str = ""
    account: str = ""
    label: str = ""
    status: int = 0
    is_failed: bool = False
    attempts: int = 0
    latency_ms: int = 0
    tokens: Tokens = _UNKNOWN

    @property
    def identity(self) -> int:
        """What makes two records the same one, within this process; those of older versions have no request id."""
        if self.request_id:
            return hash(self.request_id)
        place = (self.dialect, self.model, round(self.at * 1000), self.label, self.account)
        return hash((place, self.is_failed, self.tokens.total_tokens))


class Sum(Struct, gc=False):
    requests: int = 0
    tokens: int = 0

    def add(self, tokens: int) -> None:
        self.requests += 1
        self.tokens += tokens


class Slot(Struct, gc=False):
    """How an account answered within ten minutes; `number` counts those since the epoch."""

    number: int
    success: int = 0
    failed: int = 0


class AccountTally:
    """How often an account answered well and how often it failed, in all and of late; `recent` is oldest first."""

    __slots__ = ("failed", "recent", "success")

    def __init__(self) -> None:
        self.success = 0
        self.failed = 0
        self.recent: deque[Slot] = deque(maxlen=_RECENT_SLOTS)

    def add(self, at: float, *, is_success: bool) -> None:
        number = int(at // RECENT_SECONDS)
        if not self.recent or self.recent[-1].number < number:
            self.recent.append(Slot(number))
        slot = self.recent[-1]
        if is_success:
            self.success += 1
            slot.success += 1
        else:
            self.failed += 1
            slot.failed += 1


class UsageLedger:
    """Sums since the start, by day and hour of UTC, by caller's dialect and model, and by account.

    `decisions` are the newest requests, in full. `own` is how the request ids of this process begin: its own records are never imported, also when it has let go of
    them. `left` of the failed requests are those whose callers left, `untold` of all those without a count of tokens.
    """

    def __init__(self, own: str) -> None:
        self.success = 0
        self.failed = 0
        self.left = 0
        self.untold = 0
        self.tokens = 0
        self.days: dict[int, Sum] = {}
        self.hours = tuple(Sum() for _ in range(24))
        self.models: dict[tuple[str, str], Sum] = {}
        self.accounts: dict[str, AccountTally] = {}
        self.details: deque[Record] = deque(maxlen=_KEPT_DETAILS)
        self._queue: deque[Record] = deque(maxlen=_KEPT_IN_QUEUE)
        self._noted: list[tuple[Tally, str, float, float]] = []
        self._own = own
        self.decisions = Decisions()
        self._imported: dict[int, None] = {}

    @property
    def requests(self) -> int:
        return self.success + self.failed

    def note(self, tally: Tally, request_id: str, ended_at: float, seconds: float) -> None:
        """Put a request of our own aside, to be counted with others. `ended_at` is epoch seconds. What served a stream
        is not kept with it: that may be large."""
        if (answer := tally.answer) is not None and type(answer) is not Unread:
            tally.answer = Whole(answer.usage())
        self._noted.append((tally, request_id, ended_at, seconds))
        if len(self._noted) >= _NOTED_AT_ONCE:
            self.settle()

    def settle(self) -> None:
        """Count what was put aside."""
        noted, self._noted = self._noted, []
        for tally, request_id, ended_at, seconds in noted:
            for attempt in tally.tries:
                fault = None if attempt.verdict is None else attempt.verdict.fault
                if attempt.is_answered or (fault is not None and fault not in _SAY_NOTHING):
                    account = attempt.lease.candidate.account.id
                    self.judged(account, ended_at, is_success=attempt.is_answered)
            self.add(_record(tally, request_id, ended_at - seconds, seconds))
            tally.put_away()
            self.decisions.note(tally, request_id, ended_at, seconds)

    def add(self, record: Record) -> None:
        """Count a request of our own; it can be drained once."""
        self._count(record)
        self._queue.append(record)

    def judged(self, account: str, at: float, *, is_success: bool) -> None:
        """Count what one account answered; of a request that moved on there are several. `at` is epoch seconds."""
        tally = self.accounts.get(account)
        if tally is None:
            tally = self.accounts[account] = AccountTally()
            if len(self.accounts) > _MOST_ACCOUNTS:
                del self.accounts[next(iter(self.accounts))]
        tally.add(at, is_success=is_success)

    def drain(self, count: int) -> list[Record]:
        """Up to `count` records, oldest first. Each is given once; what nobody takes gives way to newer ones."""
        queue = self._queue
        return [queue.popleft() for _ in range(min(count, len(queue)))]

    def merge(self, records: Iterable[Record]) -> tuple[int, int]:
        """Count records of another process, or of an earlier one. How many were new, and how many known."""
        known = {record.identity for record in self.details}
        added = skipped = 0
        for record in records:
            identity = record.identity
            if identity in known or identity in self._imported or record.request_id.startswith(self._own):
                skipped += 1
                continue
            added += 1
            self._imported[identity] = None
            self._count(record)
        for identity in list(self._imported)[: max(0, len(self._imported) - _KEPT_IDENTITIES)]:
            del self._imported[identity]
        return added, skipped

    def by_name(self) -> Iterator[tuple[tuple[str, str], Sum, list[Record]]]:
        """Each dialect and model with its sum, and those of its records that are kept."""
        kept: dict[tuple[str, str], list[Record]] = {}
        for record in self.details:
            kept.setdefault(self._name(record), []).append(record)
        for name, total in self.models.items():
            yield name, total, kept.get(name, [])

    def _count(self, record: Record) -> None:
        tokens = record.tokens.total_tokens
        if record.is_failed:
            self.failed += 1
            self.left += record.status == LEFT
        else:
            self.success += 1
        if tokens is None:
            self.untold += 1
            tokens = 0
        self.tokens += tokens
        at = int(record.at)
        self._day(at // _DAY_SECONDS).add(tokens)
        self.hours[at // _HOUR_SECONDS % 24].add(tokens)
        name = self._name(record)
        total = self.models.get(name)
        if total is None:
            total = self.models[name] = Sum()
        total.add(tokens)
        self.details.append(record)

    def _day(self, number: int) -> Sum:
        day = self.days.get(number)
        if day is None:
            day = self.days[number] = Sum()
            if len(self.days) > _MOST_DAYS:
                del self.days[min(self.days)]
        return day

    def _name(self, record: Record) -> tuple[str, str]:
        name = (record.dialect, record.model)
        return name if name in self.models or len(self.models) < _MOST_NAMES else (OTHER, OTHER)


def _record(tally: Tally, request_id: str, at: float, seconds: float) -> Record:
    """`at` is the epoch second of the request's begin, `seconds` how long it took."""
    asked, answer = tally.asked[:LONGEST_NAME], tally.answer
    candidate = tally.tries[-1].lease.candidate if tally.tries else None
    account = None if candidate is None else candidate.account
    return Record(
        request_id=request_id,
        at=at,
        dialect=tally.dialect,
        asked=asked,
        model=asked if candidate is None else candidate.model[:LONGEST_NAME],
        provider="" if account is None else account.provider,
        account="" if account is None else account.id,
        label="" if account is None else account.label,
        status=tally.status,
        is_failed=tally.status >= 400,
        attempts=len(tally.tries),
        latency_ms=int(seconds * 1000),
        tokens=Tokens.of(None if answer is None else answer.usage()),
    )


def _plausible(count: int | None) -> int | None:
    return None if count is None else min(max(count, 0), _MOST_TOKENS)
