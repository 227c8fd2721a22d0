"""Every call answered, every answer called: histories made whole for vendors that insist on it.

After `pair`, an assistant turn with calls is followed at once by a user turn that begins with one result per call, in
the order of the calls. Clients trim and edit their histories, so every fault is the normal case:

* results that come later, in several turns or twice are gathered (the last content of a repeated result counts);
* a call without a result in mid-conversation gets one that says so; at the very end the call is left out;
* a result without a call becomes plain text, so that its content is not lost;
* an id that serves two calls is told apart by its occurrence; results go to the nearest call before them.
"""

import hashlib

from msgspec import structs

from cliproxy.canon.fit import Fit
from cliproxy.canon.losses import Loss
from cliproxy.canon.naming import legal
from cliproxy.canon.parts import Part, Text, ToolCall, ToolResult, Turn

_NO_RESULT = "No result was recorded for this call."


def pair(turns: tuple[Turn, ...], fit: Fit) -> tuple[tuple[Turn, ...], tuple[Loss, ...]]:
    """`turns` in paired order, with ids that `fit` allows, and what had to be repaired."""
    if not any(isinstance(part, ToolCall | ToolResult) for turn in turns for part in turn.parts):
        return turns, ()
    pairing = _Pairing(fit)
    for index, turn in enumerate(turns):
        pairing.take(index, turn)
    return pairing.finish()


class _Open:
    """The calls of one assistant turn and the results found for them so far."""

    def __init__(self, position: int) -> None:
        self.position = position
        self.calls: dict[str, ToolCall] = {}
        self.results: dict[str, ToolResult] = {}


class _Pairing:
    def __init__(self, fit: Fit) -> None:
        self.fit = fit
        self.turns: list[Turn] = []
        self.losses: list[Loss] = []
        self.open: _Open | None = None
        self.seen: dict[str, int] = {}
        self.used: set[str] = set()

    def take(self, index: int, turn: Turn) -> None:
        calls = [part for part in turn.parts if isinstance(part, ToolCall)]
        results = [part for part in turn.parts if isinstance(part, ToolResult)]
        if not calls and not results:
            self.turns.append(turn)
            return
        if results:
            turn = structs.replace(turn, parts=self._settled(results, turn.parts))
        if calls:
            self._close(is_last=False)
            turn = self._opened(index, turn)
        if turn.parts:
            self.turns.append(turn)

    def finish(self) -> tuple[tuple[Turn, ...], tuple[Loss, ...]]:
        self._close(is_last=True)
        return tuple(self.turns), tuple(self.losses)

    def _opened(self, index: int, turn: Turn) -> Turn:
        """`turn` with legal, unique call ids; its calls now wait for results."""
        self.open = _Open(len(self.turns))
        parts: list[Part] = []
        for place, part in enumerate(turn.parts):
            if isinstance(part, ToolCall):
                key = part.id or f"#{place}"
                part = structs.replace(part, id=self._id_for(part, index, place))
                self.open.calls[key] = part
            parts.append(part)
        return structs.replace(turn, parts=tuple(parts))

    def _id_for(self, call: ToolCall, index: int, place: int) -> str:
        raw = call.id.strip()
        if not raw:
            raw = "call_" + hashlib.sha256(f"{index}.{place}.{call.name}".encode()).hexdigest()[:24]
        wire = legal(raw, self.fit.id_charset, self.fit.id_length)
        if wire in self.used:
            self.seen[raw] = self.seen.get(raw, 1) + 1
            wire = legal(f"{raw}_{self.seen[raw]}", self.fit.id_charset, self.fit.id_length)
        self.used.add(wire)
        return wire

    def _settled(self, results: list[ToolResult], parts: tuple[Part, ...]) -> tuple[Part, ...]:
        """The parts that stay in the turn: everything but results that found their call."""
        homeless: list[Part] = []
        for result in results:
            key = self._key_of(result)
            if self.open is not None and key is not None:
                self.open.results[key] = result
            else:
                self.losses.append(Loss("turns.tool_result", "a result without a call became text", "emulated"))
                homeless += _as_text(result)
        rest = [part for part in parts if not isinstance(part, ToolResult)]
        return (*homeless, *rest)

    def _key_of(self, result: ToolResult) -> str | None:
        """Which of the open calls `result` answers: by id; without an id, the first unanswered of its name."""
        if self.open is None:
            return None
        if result.call_id:
            return result.call_id if result.call_id in self.open.calls else None
        for key, call in self.open.calls.items():
            if key not in self.open.results and (not result.name or result.name == call.name):
                return key
        return None

    def _close(self, *, is_last: bool) -> None:
        """Put the results of the open calls right behind them."""
        opened, self.open = self.open, None
        if opened is None:
            return
        if is_last and not opened.results and opened.position == len(self.turns) - 1:
            self._drop_calls(opened.position)
            return
        results: list[Part] = []
        for key, call in opened.calls.items():
            result = opened.results.get(key)
            if result is None:
                self.losses.append(Loss("turns.tool_call", "a call without a result got one that says so", "emulated"))
                result = ToolResult(call.id, (Text(_NO_RESULT),), is_error=True)
            results.append(structs.replace(result, call_id=call.id, name=call.name, is_custom=call.is_custom))
        self._insert(opened.position + 1, tuple(results))

    def _insert(self, position: int, results: tuple[Part, ...]) -> None:
        following = self.turns[position] if position < len(self.turns) else None
        if following is not None and following.role == "user":
            self.turns[position] = structs.replace(following, parts=results + following.parts)
        else:
            self.turns.insert(position, Turn("user", results))

    def _drop_calls(self, position: int) -> None:
        turn = self.turns[position]
        kept = tuple(part for part in turn.parts if not isinstance(part, ToolCall))
        self.losses.append(Loss("turns.tool_call", "a call at the very end has no result yet and was left out"))
        if kept:
            self.turns[position] = structs.replace(turn, parts=kept)
        else:
            del self.turns[position]


def _as_text(result: ToolResult) -> list[Part]:
    """The content of an orphan: its text under a heading, and its media as they are."""
    texts = "\n".join(part.text for part in result.content if isinstance(part, Text))
    label = result.name or result.call_id or "a tool"
    others: list[Part] = [part for part in result.content if not isinstance(part, Text)]
    return [Text(f"[result of {label}]: {texts}"), *others]
