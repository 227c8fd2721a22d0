"""One open part at a time, for dialects that cannot interleave.

States: no part open, or one part open with later parts waiting. Events of the open part pass at once; events of the
others wait in the order of their `PartStart` and pass when the open part has ended. `Finish` and `Failed` release
whatever still waits: a part that never ended is ended as incomplete.
"""

from cliproxy.canon.events import (
    ArgsDelta,
    Event,
    Failed,
    Finish,
    MediaOut,
    OpaqueOut,
    PartEnd,
    PartStart,
    ReasoningDelta,
    Signed,
    TextDelta,
)

_PartEvent = PartStart | TextDelta | ReasoningDelta | ArgsDelta | Signed | MediaOut | OpaqueOut | PartEnd
_DELTAS = (TextDelta, ArgsDelta, ReasoningDelta)
_OF_PART = (TextDelta, ArgsDelta, ReasoningDelta, PartStart, PartEnd, Signed, MediaOut, OpaqueOut)


class Linear:
    """Reorders one answer's events. Order within a part never changes."""

    __slots__ = ("_ended", "_open", "_waiting")

    def __init__(self) -> None:
        self._open: int | None = None
        self._waiting: dict[int, list[_PartEvent]] = {}
        self._ended: set[int] = set()

    def push(self, events: list[Event]) -> list[Event]:
        """`events` as far as they can pass now. The same list when nothing had to wait."""
        if not self._waiting and self._is_plain(events):
            return events
        out: list[Event] = []
        for event in events:
            if isinstance(event, _OF_PART):
                self._take(event, out)
            else:
                if isinstance(event, Finish | Failed):
                    self._release(out)
                out.append(event)
        return out

    def _is_plain(self, events: list[Event]) -> bool:
        """Whether `events` are deltas of the open part only: the common case of a running stream."""
        part = self._open
        if part is None:
            return False
        for event in events:  # noqa: SIM110 - a generator would cost more than the look itself
            if not isinstance(event, _DELTAS) or event.part != part:
                return False
        return True

    def _take(self, event: _PartEvent, out: list[Event]) -> None:
        if self._open is None:
            self._open = event.part
        if event.part != self._open:
            self._waiting.setdefault(event.part, []).append(event)
            if isinstance(event, PartEnd):
                self._ended.add(event.part)
            return
        out.append(event)
        if isinstance(event, PartEnd):
            self._open = None
            self._advance(out)

    def _advance(self, out: list[Event]) -> None:
        """Open the next waiting part, and go on past those that have ended meanwhile."""
        while self._waiting:
            part = next(iter(self._waiting))
            out.extend(self._waiting.pop(part))
            if part not in self._ended:
                self._open = part
                return

    def _release(self, out: list[Event]) -> None:
        while self._open is not None:
            out.append(PartEnd(self._open, is_complete=False))
            self._open = None
            self._advance(out)
