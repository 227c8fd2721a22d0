"""Why requests went as they did: what each of the newest took on its way, for whoever asks.

They are noted with the counting of usage, a few dozen at once, and put into words only when somebody looks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from msgspec import Struct

from cliproxy.gateway.tally import Tally

_KEPT = 2_000


class Decision(Struct, frozen=True, gc=False):
    """One request that is over. `ended_at` is epoch seconds, `seconds` how long it took. `number` counts them."""

    number: int
    request_id: str
    ended_at: float
    seconds: float
    tally: Tally


class Decisions:
    def __init__(self) -> None:
        self._kept: deque[Decision] = deque(maxlen=_KEPT)
        self._count = 0

    def note(self, tally: Tally, request_id: str, ended_at: float, seconds: float) -> None:
        self._count += 1
        self._kept.append(Decision(self._count, request_id, ended_at, seconds, tally))

    def newest(self) -> Iterator[Decision]:
        """Newest first."""
        return reversed(self._kept)

    def find(self, request_id: str) -> Decision | None:
        return next((decision for decision in reversed(self._kept) if decision.request_id == request_id), None)
