"""What one request took while it was served: whom it asked, what they said, what it waited for, and what it cost.

`Tally` is filled as the request goes and read when it is over, by the counting of usage and by whoever asks why. It is
on the fast path: what is noted are references to what is there anyway.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from msgspec import Raw, Struct, structs

from cliproxy.canon.errors import Problem
from cliproxy.canon.losses import Loss
from cliproxy.canon.usage import Usage
from cliproxy.dialects.base import Dialect
from cliproxy.routing.catalog import Outline
from cliproxy.routing.pool import Lease
from cliproxy.routing.rests import Absence
from cliproxy.routing.verdict import Verdict

LEFT = 499
"""The status of a request whose caller left before it was answered, or that a stop of the gateway cut off: no HTTP
status, but a widely known number."""


_MOST_MESSAGE = 500


class Counted(Protocol):
    """What knows how many tokens an answer has, as far as it has come."""

    def usage(self) -> Usage | None: ...


class Whole(Struct, frozen=True, gc=False):
    """The counts of an answer that came whole."""

    told: Usage | None

    def usage(self) -> Usage | None:
        return self.told


class Unread(Struct, frozen=True):
    """An answer that came whole, whose counts nobody has looked at yet."""

    dialect: Dialect
    members: Mapping[str, Raw]

    def usage(self) -> Usage | None:
        return self.dialect.read_usage(self.members)


class Try(Struct, eq=False, gc=False):
    """One account that was asked. Times are monotonic seconds: `began` when it was chosen, `sent` when it was asked,
    `spoke` when the first content came, or the refusal; 0 = not so far. `is_answered`: it answered well, at least up to
    its first content; `verdict` says what was wrong, None while nothing is."""

    lease: Lease
    began: float
    sent: float = 0.0
    spoke: float = 0.0
    is_answered: bool = False
    verdict: Verdict | None = None
    losses: tuple[Loss, ...] = ()


class Absent(Struct, frozen=True, gc=False):
    """Who was passed over when the request looked for an account of `model` at `at`, as far as anybody had looked."""

    model: str
    at: float
    absences: tuple[Absence, ...]


class Tally(Struct, eq=False, gc=False):
    """`asked` is the caller's name for the model, `began` monotonic seconds. `routes` are the models that were tried, the
    one that was asked for first: the others are fallbacks. `waits` are pauses in seconds. `answer` is the one under way,
    `status` what the caller is told; until that is known it is that of a bug. `problem` is what broke the answer off, or
    what was told in its place.

    Thousands are kept, so the collector of cycles is spared them: nothing here may point back to a tally.
    """

    dialect: str
    asked: str
    is_stream: bool = False
    began: float = 0.0
    routes: tuple[Outline, ...] = ()
    absent: Absent | None = None
    tries: tuple[Try, ...] = ()
    waits: tuple[float, ...] = ()
    answer: Counted | None = None
    status: int = 500
    problem: Problem | None = None

    def attempt(self, lease: Lease, now: float) -> Try:
        """Another account is asked; what the one before told no longer counts."""
        self.answer = None
        attempt = Try(lease, now)
        self.tries += (attempt,)
        return attempt

    def put_away(self) -> None:
        """Let go of what is large: the answer, and the vendors' own words."""
        self.answer = None
        if self.problem is not None:
            self.problem = _brief(self.problem)
        for attempt in self.tries:
            if (verdict := attempt.verdict) is not None:
                attempt.verdict = structs.replace(verdict, problem=_brief(verdict.problem))


def _brief(problem: Problem) -> Problem:
    return structs.replace(problem, native=b"", message=problem.message[:_MOST_MESSAGE])
