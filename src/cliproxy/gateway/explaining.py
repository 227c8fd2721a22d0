"""How it stands with an account, in words: its state, its cool-downs and what is left of its allowances.

All of it follows from tables, so that a new fault needs a row here and nothing else. What vendors and callers chose to
call something is quoted, bounded, and shown without what a terminal would obey.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal

from msgspec import Struct

from cliproxy.gateway.allowances import Told
from cliproxy.gateway.usage import LONGEST_NAME
from cliproxy.routing.health import Rest
from cliproxy.routing.verdict import FOREVER, Fault, Source

State = Literal["ready", "low", "shaky", "partly-resting", "resting", "suspended", "disabled", "error"]
STATES: Mapping[State, str] = {
    "ready": "is asked in its turn",
    "low": "has little of its allowance left, so it is asked after the others",
    "shaky": "its vendor fails at the moment, so it is asked when nobody else is left",
    "partly-resting": "rests for some of its models",
    "resting": "rests, as a whole or for each of its models",
    "suspended": "its vendor has closed the account, or its login",
    "disabled": "was switched off by the operator",
    "error": "its file is no account, or its login is dead",
}


class Words(Struct, frozen=True):
    """`short` fits after a colon; `means` is a sentence."""

    short: str
    means: str


FAULTS: Mapping[Fault, Words] = {
    "caller": Words(
        "the request itself is at fault",
        "Nothing is wrong with the account, and no other is asked: all would say the same.",
    ),
    "auth": Words(
        "its credential is refused",
        "The vendor does not take the account's key or login. A new login or another key helps; until then it is tried"
        " now and then.",
    ),
    "forbidden": Words(
        "this is not allowed to it",
        "The vendor knows the account, but does not allow it what was asked. Its plan, its rights or its project decide"
        " that.",
    ),
    "challenge": Words(
        "the network in front of its vendor turned us away",
        "It was not the vendor who answered but the network in front of it, which wanted a browser. Another address or"
        " proxy may help.",
    ),
    "suspended": Words(
        "its vendor has closed the account or its login",
        "Only the person whose account it is can change that: by a new login, or with the vendor.",
    ),
    "billing": Words(
        "it has nothing left to pay with",
        "The account's balance is used up, or what was asked is no part of its plan. The vendor's billing page says"
        " more.",
    ),
    "quota": Words("out of quota", "The allowance of the moment is used up; others may be asked meanwhile."),
    "exhausted": Words(
        "the quota of its plan or of the day is used up",
        "It takes hours or days until that is full again; others may be asked meanwhile.",
    ),
    "missing": Words("it does not have this model", "The vendor does not offer the model to this account."),
    "identity": Words(
        "accounts of its kind do not serve such callers",
        "Nothing is wrong with the account. Other accounts of the same provider are not asked, since they would say the"
        " same.",
    ),
    "overload": Words(
        "its vendor is overloaded",
        "That says little about the account: others may be asked, then it once more.",
    ),
    "network": Words(
        "its vendor could not be reached or did not answer",
        "That says little about the account: others may be asked, then it once more.",
    ),
    "broken": Words(
        "its vendor failed",
        "The answer was broken, or the vendor had an error of its own. That says little about the account: others may"
        " be asked, then it once more.",
    ),
}

SOURCES: Mapping[Source, str] = {
    "header": "its vendor said so in the headers of its answer",
    "body": "its vendor said so in its answer",
    "guess": "its vendor did not say for how long, so this is our guess",
}

_LONGEST_QUOTE = 200
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400
_LAST_SECOND = 253402300799.0
_MOST_NAMED = 3


# -- phrases ----------------------------------------------------------------------------------------------------------


class Clock(Struct, frozen=True):
    """One moment on both clocks: `now` is monotonic, `now_at` epoch seconds."""

    now: float
    now_at: float

    def at(self, moment: float) -> float:
        """Epoch seconds of a monotonic moment."""
        return self.now_at + moment - self.now


def plain(text: str, most: int = LONGEST_NAME) -> str:
    """A text that others chose: bounded, on one line, with nothing in it that a terminal would obey."""
    text = _UNPRINTABLE.sub("?", text)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def quoted(name: str) -> str:
    """A name in a sentence."""
    return f"`{plain(name).replace('`', chr(39))}`"


def rfc3339(at: float) -> str:
    """Milliseconds included, since waits may be shorter than a second."""
    moment = datetime.fromtimestamp(min(max(at, 0.0), _LAST_SECOND), UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def clock_time(at: float, now_at: float) -> str:
    """`14:02:11 UTC`, with the date where that is not today's."""
    moment, today = (datetime.fromtimestamp(min(max(one, 0.0), _LAST_SECOND), UTC) for one in (at, now_at))
    text = f"{moment:%H:%M:%S} UTC"
    return text if moment.date() == today.date() else f"{moment:%Y-%m-%d} {text}"


def duration(seconds: float) -> str:
    """`12 ms`, `0.2 s`, `41 s`, `3 min 5 s`, `2 h 10 min`, `6 d 3 h`: two units at most."""
    seconds = max(seconds, 0.0)
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    whole = round(seconds)
    for unit, name, lower, lower_name in (
        (_DAY, "d", _HOUR, "h"),
        (_HOUR, "h", _MINUTE, "min"),
        (_MINUTE, "min", 1, "s"),
    ):
        if whole >= unit:
            rest = whole % unit // lower
            return f"{whole // unit} {name}" + (f" {rest} {lower_name}" if rest else "")
    return f"{whole} s"


def number_of(count: int, one: str, many: str = "") -> str:
    """`1 account`, `2 accounts`."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def joined(parts: Sequence[str], last: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {last} {parts[-1]}"


# -- accounts ---------------------------------------------------------------------------------------------------------


class Facts(Struct, frozen=True):
    """What there is to know about one account. `models` are the vendor's names of those that it lists, `rests` those of
    the pool, `low_until` is monotonic seconds. `problem` is a sentence about its file or login; `is_useless`: because of
    it the account cannot serve."""

    models: Collection[str] = ()
    rests: Mapping[str, Rest] = {}
    low_until: float = 0.0
    load: int = 0
    is_disabled: bool = False
    is_file: bool = False
    problem: str = ""
    is_useless: bool = False


class Cooldown(Struct, frozen=True, kw_only=True):
    """One rest as it is shown. `model` None is the whole account. `until` None: until somebody changes the account."""

    model: str | None
    cause: Fault
    source: Source
    status: int
    evidence: str
    started: str
    until: str | None
    resets_in: float | None
    probes: int
    is_probing: bool
    is_soft: bool
    count: int
    text: str


class Allowance(Struct, frozen=True, kw_only=True):
    """One limit as its vendor told it at `told_at`."""

    name: str
    model: str | None
    total: float | None
    remaining: float | None
    left_percent: float | None
    resets_at: str | None
    told_at: str


class Health(Struct, frozen=True, kw_only=True):
    """`until` and `resets_in` are when the state may change by itself, None where it does not."""

    state: State
    text: str
    until: str | None
    resets_in: float | None
    cooldowns: list[Cooldown]


def is_on(rest: Rest, now: float) -> bool:
    """Whether a rest still holds requests back, or puts its account last."""
    return rest.until > rest.started and _end(rest) > now


def state_of(facts: Facts, now: float) -> State:
    """Costs next to nothing where nothing rests."""
    if facts.is_disabled:
        return "disabled"
    if facts.is_useless:
        return "error"
    on = {model: rest for model, rest in facts.rests.items() if is_on(rest, now)} if facts.rests else {}
    hard = {model for model, rest in on.items() if not rest.is_soft}
    if (whole := on.get("")) is not None and whole.cause == "suspended":
        return "suspended"
    if "" in hard or (facts.models and hard.issuperset(facts.models)):
        return "resting"
    if hard:
        return "partly-resting"
    if on:
        return "shaky"
    return "low" if facts.low_until > now else "ready"


def health_of(facts: Facts, clock: Clock, told: Told | None = None) -> Health:
    """`told` are the account's limits."""
    now = clock.now
    state = state_of(facts, now)
    on = {model: rest for model, rest in sorted(facts.rests.items()) if is_on(rest, now)}
    until = _until(state, facts, on)
    is_dated = until is not None and until != FOREVER
    return Health(
        state=state,
        text=" ".join(filter(None, (_state_text(state, facts, on, clock, told), _remarks(state, facts)))),
        until=rfc3339(clock.at(until)) if until is not None and is_dated else None,
        resets_in=_seconds(until - now) if until is not None and is_dated else None,
        cooldowns=[cooldown_of(model, rest, clock, is_file=facts.is_file) for model, rest in on.items()],
    )


def cooldown_of(model: str, rest: Rest, clock: Clock, *, is_file: bool) -> Cooldown:
    is_endless = rest.until == FOREVER
    return Cooldown(
        model=plain(model) or None,
        cause=rest.cause,
        source=rest.source,
        status=rest.status,
        evidence=plain(rest.evidence, _LONGEST_QUOTE),
        started=rfc3339(clock.at(rest.started)),
        until=None if is_endless else rfc3339(clock.at(rest.until)),
        resets_in=None if is_endless else _seconds(rest.until - clock.now),
        probes=rest.probes,
        is_probing=rest.probing_until > clock.now,
        is_soft=rest.is_soft,
        count=rest.count,
        text=rest_text(model, rest, clock, is_file=is_file),
    )


def rest_text(model: str, rest: Rest, clock: Clock, *, is_file: bool) -> str:
    """What rests, until when, why, and who says so; one or two sentences."""
    subject = quoted(model) if model else "The whole account"
    verb = "is asked only when no other is left" if rest.is_soft else "rests"
    if rest.until <= clock.now:
        return (
            f"{subject} rested: {because(rest)}. That time is over, and one request is trying whether it serves again."
        )
    if rest.until == FOREVER:
        return f"{subject} {verb} {_endless(is_file=is_file)}: {because(rest)}."
    when = f"until {clock_time(clock.at(rest.until), clock.now_at)}, {duration(rest.until - clock.now)} from now"
    row = f" It is fault number {rest.count} in a row." if rest.source == "guess" and rest.count > 1 else ""
    return f"{subject} {verb} {when}: {because(rest)}; {SOURCES[rest.source]}.{row}"


def because(rest: Rest) -> str:
    """`out of quota (HTTP 429)`."""
    evidence = plain(rest.evidence, _LONGEST_QUOTE)
    return f"{FAULTS[rest.cause].short} ({evidence})" if evidence else FAULTS[rest.cause].short


def allowances_of(told: Told | None) -> list[Allowance]:
    if told is None:
        return []
    told_at = rfc3339(told.at)
    return [
        Allowance(
            name=plain(limit.name),
            model=plain(model) or None,
            total=limit.total,
            remaining=limit.remaining,
            left_percent=None if limit.left is None else round(limit.left * 100, 1),
            resets_at=None if limit.resets_in is None else rfc3339(told.at + limit.resets_in),
            told_at=told_at,
        )
        for model, limits in told.limits.items()
        for limit in limits
    ]


def _end(rest: Rest) -> float:
    return max(rest.until, rest.probing_until)


def _seconds(seconds: float) -> float:
    return round(max(seconds, 0.0), 1)


def _until(state: State, facts: Facts, on: Mapping[str, Rest]) -> float | None:
    """Monotonic seconds; None for states that have no end of their own."""
    match state:
        case "low":
            return facts.low_until
        case "shaky":
            return max(map(_end, on.values()))
        case "resting" if (whole := on.get("")) is not None and not whole.is_soft:
            return _end(whole)
        case "resting" | "partly-resting":
            return min(_end(rest) for rest in on.values() if not rest.is_soft)
        case _:
            return None


def _state_text(state: State, facts: Facts, on: Mapping[str, Rest], clock: Clock, told: Told | None) -> str:
    hard = {model: rest for model, rest in on.items() if not rest.is_soft}
    match state:
        case "disabled":
            return "Switched off by the operator."
        case "error":
            return facts.problem or "It cannot be used."
        case "ready":
            return "Ready to be asked in its turn."
        case "low":
            when = clock_time(clock.at(facts.low_until), clock.now_at)
            return f"{_lowest(told)}, so until {when} it is asked after those that have more."
        case "suspended":
            return rest_text("", on[""], clock, is_file=facts.is_file)
        case "resting":
            if (whole := hard.get("")) is not None:
                return rest_text("", whole, clock, is_file=facts.is_file)
            return _models_text(hard, f"All of its {len(facts.models)} models rest", clock, facts)
        case "partly-resting":
            return _models_text(hard, f"{number_of(len(hard), 'model rests', 'models rest')} on it", clock, facts)
        case "shaky" if (whole := on.get("")) is not None:
            return rest_text("", whole, clock, is_file=facts.is_file)
        case "shaky":
            text = "are asked of it only when no other account is left"
            return _models_text(on, f"{number_of(len(on), 'model', 'models')} {text}", clock, facts)


def _models_text(on: Mapping[str, Rest], many: str, clock: Clock, facts: Facts) -> str:
    """One rest tells all of itself; of several, the causes and the first return are told."""
    if len(on) == 1:
        ((model, rest),) = on.items()
        return rest_text(model, rest, clock, is_file=facts.is_file)
    first = min(map(_end, on.values()))
    named = [quoted(model) if model else "the account as a whole" for model in list(on)[:_MOST_NAMED]]
    if len(on) > _MOST_NAMED:
        named = [*named[:-1], f"{len(on) - _MOST_NAMED + 1} more"]
    causes = joined(list(dict.fromkeys(FAULTS[rest.cause].short for rest in on.values())))
    if first == FOREVER:
        return f"{many} {_endless(is_file=facts.is_file)} ({joined(named)}): {causes}."
    when = f"{clock_time(clock.at(first), clock.now_at)}, {duration(first - clock.now)} from now"
    return f"{many} ({joined(named)}): {causes}. The first of them is over at {when}."


def _endless(*, is_file: bool) -> str:
    if is_file:
        return "until somebody logs in anew, changes its file or resets it"
    return "until its key is replaced or somebody resets it"


def _lowest(told: Told | None) -> str:
    """Which of the allowances has the least left."""
    pairs = [(model, limit) for model, limits in told.limits.items() for limit in limits] if told is not None else []
    known = [(limit.left, limit.name, model) for model, limit in pairs if limit.left is not None]
    if not known:
        return "Little of its allowance is left"
    left, name, model = min(known)
    of_model = f" for {quoted(model)}" if model else ""
    return f"{round(left * 100, 1):g} % of its allowance {quoted(name)}{of_model} is left"


def _remarks(state: State, facts: Facts) -> str:
    remarks: list[str] = []
    if facts.problem and state != "error":
        remarks.append(f"Of its file or login: {facts.problem}")
    if facts.load:
        remarks.append(f"{number_of(facts.load, 'request is', 'requests are')} under way.")
    return " ".join(remarks)
