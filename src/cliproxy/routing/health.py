"""How it stands with accounts: rests, and what is kept of them from one process to the next."""

from msgspec import Struct

from cliproxy.routing.verdict import POLICIES, Fault, Source


class Rest(Struct):
    """A cool-down of one account for one model, or as a whole. `started` and `until` are monotonic seconds.

    `count` is the number of faults in a row that led here, those of requests that were under way together counted as
    one; `probes` how often it was tried whether the rest may end early or has ended. `status` is the HTTP status that
    was answered, `source` who said how long, `evidence` the sign in the vendor's words.
    A rest that is over stays as the memory of its row: `until` is in the past.
    `probing_until` is the time up to which the one request that tries has the account to itself; 0 = nobody tries.
    """

    cause: Fault
    source: Source
    status: int
    evidence: str
    started: float
    until: float
    count: int = 1
    probes: int = 0
    probing_until: float = 0.0

    @property
    def is_soft(self) -> bool:
        return POLICIES[self.cause].is_soft


class Kept(Struct, frozen=True):
    """A rest as it is kept beyond this process: with epoch seconds. `model` is the upstream's name, "" for all of the
    account. `until_at` None: until somebody changes the account."""

    account: str
    model: str
    cause: Fault
    source: Source
    status: int
    evidence: str
    started_at: float
    until_at: float | None
    count: int = 1
    probes: int = 0
