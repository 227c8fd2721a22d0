"""Every call answered, every answer called: histories made whole for vendors that insist on it.

After `pair`, an assistant turn with calls is followed at once by a user turn that begins with one result per call, in
the order of the calls. Clients trim and edit their histories, so every fault is the normal case:

* results that come later, in several turns or twice are gathered (the last content of a repeated result counts);
* a call without a result in mid-conversation gets one that says so; at the very end the call is left out;
* a result without a call becomes plain text, so that its content is not lost;
* an id that serves two calls is told apart by its occurrence; results go to the nearest call before them.

A call that was answered before the next turn with calls is settled: what comes after never changes it, so that the
paired history of a longer conversation begins with that of the shorter one and prompt caches hold.
"""

import hashlib

from msgspec import structs

from cliproxy.canon.fit import Fit
from cliproxy.canon.losses import Loss
from cliproxy.canon.naming import legal
from cliproxy.canon.parts import Part, Reasoning, Text, ToolCall, ToolResult, Turn

_NO_RESULT = "No result was recorded for this call."


def pair(turns: tuple[Turn, ...], fit: Fit) -> tuple[tuple[Turn, ...], tuple[Loss, ...]]:
    """`turns` in paired order, with ids that `fit` allows, and what had to be repaired."""
    if not any(isinstance(part, ToolCall | ToolResult) for turn in turns for part in turn.parts):
        return turns, ()
    pairing = _Pairing(fit)
    for index, turn in enumerate(turns):
        pairing.take(index, turn)
    return pairing.finish()


class _Asked:
    """One call and the result found for it so far. `id` is the caller's own, "" when it gave none; `round` counts the
    turns with calls."""

    __slots__ = ("call", "id", "result", "round")

    def __init__(self, own_id: str, call: ToolCall, round_: int) -> None:
        self.id = own_id
        self.call = call
        self.round = round_
        self.result: ToolResult | None = None

    def may_answer_to(self, result: ToolResult) -> bool:
        """Whether `result` may be this call's where one of the two has no id."""
        if result.call_id and self.id:
            return False
        return result.name == self.call.name if result.name or result.call_id else True


class _Pairing:
    def __init__(self, fit: Fit) -> None:
        self.fit = fit
        self.turns: list[Turn] = []
        self.losses: list[Loss] = []
        self.rounds: list[tuple[int, list[_Asked]]] = []
        """Where the turns with calls stand in `turns`, and their calls."""
        self.by_id: dict[str, list[_Asked]] = {}
        self.unanswered: dict[_Asked, None] = {}
        self.used: set[str] = set()
        self.hosts: set[int] = set()
        """Where turns stand that held results beside other words."""

    def take(self, index: int, turn: Turn) -> None:
        results = [part for part in turn.parts if isinstance(part, ToolResult)]
        if results:
            turn = structs.replace(turn, parts=self._settled(results, turn.parts))
        if any(isinstance(part, ToolCall) for part in turn.parts):
            turn = self._opened(index, turn)
        if turn.parts or not results:
            if results:
                self.hosts.add(len(self.turns))
            self.turns.append(turn)

    def finish(self) -> tuple[tuple[Turn, ...], tuple[Loss, ...]]:
        for position, asked in reversed(self.rounds):
            if position == len(self.turns) - 1 and all(one.result is None for one in asked):
                self._drop_calls(position)
            else:
                self._insert(position + 1, tuple(self._result_of(one) for one in asked))
        return tuple(self.turns), tuple(self.losses)

    def _opened(self, index: int, turn: Turn) -> Turn:
        """`turn` with legal, unique call ids; its calls now wait for results."""
        asked: list[_Asked] = []
        parts: list[Part] = []
        for place, part in enumerate(turn.parts):
            if isinstance(part, ToolCall):
                own_id, part = part.id.strip(), structs.replace(part, id=self._id_for(part, index, place))
                asked.append(one := _Asked(own_id, part, len(self.rounds)))
                self.by_id.setdefault(own_id, []).append(one)
                self.unanswered[one] = None
            parts.append(part)
        self.rounds.append((len(self.turns), asked))
        return structs.replace(turn, parts=tuple(parts))

    def _id_for(self, call: ToolCall, index: int, place: int) -> str:
        raw = call.id.strip()
        if not raw:
            raw = "call_" + hashlib.sha256(f"{index}.{place}.{call.name}".encode()).hexdigest()[:24]
        wire, occurrence = legal(raw, self.fit.id_charset, self.fit.id_length), 1
        while wire in self.used:
            occurrence += 1
            wire = legal(f"{raw}_{occurrence}", self.fit.id_charset, self.fit.id_length)
        self.used.add(wire)
        return wire

    def _settled(self, results: list[ToolResult], parts: tuple[Part, ...]) -> tuple[Part, ...]:
        """The parts that stay in the turn: everything but results that found their call."""
        homeless: list[Part] = []
        for result in results:
            asked = self._call_of(result)
            if asked is not None:
                asked.result = result
                self.unanswered.pop(asked, None)
            else:
                self.losses.append(Loss("turns.tool_result", "a result without a call became text", "emulated"))
                homeless += _as_text(result)
        rest = [part for part in parts if not isinstance(part, ToolResult)]
        return (*homeless, *rest)

    def _call_of(self, result: ToolResult) -> _Asked | None:
        """The call that `result` answers: of the nearest round that has such a call the first unanswered one, or in
        the latest round the one that it answers again."""
        fitting = self.by_id.get(result.call_id.strip()) if result.call_id else None
        if not fitting:
            fitting = [one for one in self.unanswered if one.may_answer_to(result)]
        latest = len(self.rounds) - 1
        if fitting and fitting[-1].round == latest:
            fitting = [one for one in fitting if one.round == latest]
        waiting = [one for one in fitting if one.result is None]
        if waiting:
            return next(one for one in waiting if one.round == waiting[-1].round)
        return fitting[-1] if fitting and fitting[-1].round == latest else None

    def _result_of(self, asked: _Asked) -> ToolResult:
        call, result = asked.call, asked.result
        if result is None:
            self.losses.append(Loss("turns.tool_call", "a call without a result got one that says so", "emulated"))
            result = ToolResult(call.id, (Text(_NO_RESULT),), is_error=True)
        return structs.replace(result, call_id=call.id, name=call.name, is_custom=call.is_custom)

    def _insert(self, position: int, results: tuple[Part, ...]) -> None:
        """Put results in a turn of their own, or before the words that the caller told them with."""
        if position in self.hosts and self.turns[position].role == "user":
            host = self.turns[position]
            self.turns[position] = structs.replace(host, parts=results + host.parts)
        else:
            self.turns.insert(position, Turn("user", results))

    def _drop_calls(self, position: int) -> None:
        """Leave the calls of the last turn out, and the reasoning that led to nothing else."""
        turn = self.turns[position]
        kept = tuple(part for part in turn.parts if not isinstance(part, ToolCall))
        self.losses.append(Loss("turns.tool_call", "a call at the very end has no result yet and was left out"))
        if any(not isinstance(part, Reasoning) for part in kept):
            self.turns[position] = structs.replace(turn, parts=kept)
        else:
            del self.turns[position]


def _as_text(result: ToolResult) -> list[Part]:
    """The content of an orphan: its text under a heading, and its media as they are."""
    texts = "\n".join(part.text for part in result.content if isinstance(part, Text))
    label = result.name or result.call_id or "a tool"
    others: list[Part] = [part for part in result.content if not isinstance(part, Text)]
    return [Text(f"[result of {label}]: {texts}"), *others]
