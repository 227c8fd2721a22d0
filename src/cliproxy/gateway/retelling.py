"""What became of one request, in words: who was asked and in which order, who was not and why, and how it ended.

Told from what the request left (`gateway/tally.py`), and only when somebody looks. Nothing of prompts, keys or answers is
in it, nor in what vendors say of a refusal: their words may repeat the prompt, so only their code for it is shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from cliproxy.canon.errors import Kind
from cliproxy.gateway.decisions import Decision
from cliproxy.gateway.explaining import (
    FAULTS,
    SOURCES,
    Clock,
    clock_time,
    duration,
    joined,
    number_of,
    plain,
    quoted,
)
from cliproxy.gateway.tally import LEFT, Tally, Try
from cliproxy.routing.pool import Why
from cliproxy.routing.rests import Absence
from cliproxy.routing.verdict import FOREVER, POLICIES, Fault, Verdict

Outcome = Literal["served", "broke-off", "left", "refused", "failed"]
"""How a request ended: `broke-off` after its answer had begun, `left` by its caller (or cut off by a stop), `refused`
with a reason, `failed` by a bug of the gateway."""
AttemptOutcome = Literal["answered", "failed", "unfinished", "not-asked"]

CLIENTS: Mapping[str, str] = {
    "anthropic": "an Anthropic client",
    "gemini": "a Gemini client",
    "gemini-cli": "a Gemini CLI client",
    "openai-chat": "an OpenAI Chat client",
    "openai-responses": "an OpenAI Responses client",
    "openai-completions": "an OpenAI Completions client",
}
CHOSEN: Mapping[Why, str] = {
    "turn": "in its turn",
    "session": "since it served this conversation before",
    "low": "though little of its allowance was left, since nobody was ready",
    "shaky": "though its vendor had failed of late, since nobody better was left",
}
PROBLEMS: Mapping[Kind, str] = {
    "invalid_request": "the request is not valid",
    "invalid_json": "the body is not valid JSON",
    "missing_parameter": "a required member is missing",
    "context_too_long": "the conversation is too long for the model",
    "unauthenticated": "a key is missing or wrong",
    "billing": "the account has nothing left to pay with",
    "permission": "this is not allowed",
    "not_found": "there is no such thing",
    "model_not_found": "nobody serves this model",
    "method_not_allowed": "this address does not take that method",
    "request_timeout": "the request did not arrive in time",
    "conflict": "this does not fit the state of what it is about",
    "gone": "this is no longer offered",
    "precondition": "it was changed meanwhile",
    "too_large": "the request is too large",
    "upgrade_required": "this address wants another protocol",
    "rate_limit": "out of quota for now",
    "quota": "out of quota",
    "internal": "an internal error",
    "unsupported": "this is not supported",
    "bad_gateway": "the upstream failed, or refused the gateway's account",
    "unreachable": "the upstream could not be reached",
    "overloaded": "the upstream is overloaded",
    "gateway_timeout": "the upstream did not answer in time",
    "no_account": "no account could be asked",
}

_MOST_NAMED = 3
_PAUSE = 0.05
"""A shorter gap between two attempts is not worth a word."""


# -- what is asked of a record ----------------------------------------------------------------------------------------


def outcome_of(tally: Tally) -> Outcome:
    if tally.status == LEFT:
        return "left"
    if tally.problem is None:
        return "served" if tally.status < 400 else "failed"
    return "broke-off" if tally.tries and tally.tries[-1].is_answered else "refused"


def passed_over(tally: Tally) -> list[Absence]:
    """Without those that were asked all the same, before they had to rest or after."""
    if tally.absent is None:
        return []
    asked = {attempt.lease.candidate.account.id for attempt in tally.tries}
    return [absence for absence in tally.absent.absences if absence.candidate.account.id not in asked]


def clock_of(decision: Decision) -> Clock:
    return Clock(decision.tally.began + decision.seconds, decision.ended_at)


def status_of(attempt: Try) -> int | None:
    """What the vendor answered; None where what went wrong is our own finding, and nobody's answer."""
    if attempt.verdict is None:
        return 200 if attempt.is_answered else None
    return attempt.verdict.problem.status if attempt.verdict.problem.dialect else None


def outcome_of_attempt(attempt: Try) -> AttemptOutcome:
    if attempt.verdict is not None:
        return "failed"
    if attempt.is_answered:
        return "answered"
    return "unfinished" if attempt.sent else "not-asked"


def gap_before(tally: Tally, index: int) -> float:
    """Seconds from the end of the attempt before, or from the request's begin, to this one."""
    if not index:
        return tally.tries[0].began - tally.began
    before = tally.tries[index - 1]
    return tally.tries[index].began - (before.spoke or before.sent or before.began)


# -- sentences --------------------------------------------------------------------------------------------------------


def sentences_of(decision: Decision) -> list[str]:
    """Two to five sentences: what was wanted, who could serve it, who was asked, and how it ended."""
    tally = decision.tally
    ending = _ending(decision)
    sentences = [_wanted(tally), *_could_serve(decision), *_went(decision, has_ending=bool(ending))]
    return [*sentences, ending] if ending else sentences


def sentence_of(decision: Decision) -> str:
    """The whole in one sentence, for lists."""
    tally = decision.tally
    if ending := _ending(decision):
        return ending
    if not tally.tries:
        return f"It was answered after {duration(decision.seconds)}."
    last = tally.tries[-1]
    text = f"{quoted(last.lease.candidate.account.label)} answered after {duration(last.spoke - tally.began)}"
    failed: list[Fault] = [one.verdict.fault for one in tally.tries[:-1] if one.verdict is not None]
    if failed:
        text += f"; before that {number_of(len(failed), 'attempt')} failed ({_counted(failed)})"
    return f"{text}."


def asked_sentence(decision: Decision, index: int) -> str:
    """One attempt: who was asked, after which wait, why that one, and what came of it."""
    tally = decision.tally
    attempt = tally.tries[index]
    gap = gap_before(tally, index)
    wait = f"After a wait of {duration(gap)} " if tally.waits and gap >= _PAUSE else ""
    return f"{wait}{quoted(attempt.lease.candidate.account.label)} {_chosen(tally, index)} {_came(decision, attempt)}."


def passed_sentence(absence: Absence, clock: Clock) -> str:
    return f"{quoted(absence.candidate.account.label)} was {_passed_text(absence, clock)}."


def meaning_of(attempt: Try) -> str:
    """What an attempt says about the account: a sentence or three."""
    verdict = attempt.verdict
    if verdict is None:
        return "The account works." if attempt.is_answered else "It says nothing about the account."
    return f"{FAULTS[verdict.fault].means} {_rest_meant(attempt, verdict)}"


def _wanted(tally: Tally) -> str:
    client = CLIENTS.get(tally.dialect, f"a client of the dialect {quoted(tally.dialect)}")
    return f"{quoted(tally.asked)} was asked for by {client}{', as a stream' if tally.is_stream else ''}."


def _could_serve(decision: Decision) -> list[str]:
    """Nothing for a model that nobody knows: the ending says so."""
    tally = decision.tally
    if not tally.routes:
        return []
    tiers = tally.routes[0].tiers
    text = f"{number_of(sum(count for _, count in tiers), 'account serves', 'accounts serve')} it"
    if len(tiers) > 1:
        text += f", in {len(tiers)} tiers of priority"
    if passed := passed_over(tally):
        text += f"; {_all_passed(passed, clock_of(decision))}"
    if fallbacks := tally.routes[1:]:
        named = joined([quoted(route.model) for route in fallbacks[:_MOST_NAMED]])
        more = f" and {len(fallbacks) - _MOST_NAMED} more" if len(fallbacks) > _MOST_NAMED else ""
        text += f"; since none could at that moment, {named}{more} {'was' if len(fallbacks) == 1 else 'were'} tried in its place"
    return [f"{text}."]


def _went(decision: Decision, *, has_ending: bool) -> list[str]:
    """The attempts: three sentences at most, two where another one tells the end."""
    tries = decision.tally.tries
    last = len(tries) - 1
    if len(tries) <= (2 if has_ending else 3):
        return [asked_sentence(decision, index) for index in range(len(tries))]
    if not has_ending:
        return [asked_sentence(decision, 0), _in_vain("Then", tries[1:-1]), asked_sentence(decision, last)]
    if tries[last].is_answered:
        return [_in_vain("First", tries[:-1]), asked_sentence(decision, last)]
    return [asked_sentence(decision, 0), _in_vain("Then", tries[1:])]


def _all_passed(passed: Sequence[Absence], clock: Clock) -> str:
    if len(passed) <= _MOST_NAMED:
        return "; ".join(f"{quoted(one.candidate.account.label)} was {_passed_text(one, clock)}" for one in passed)
    return f"at least {len(passed)} were passed over ({_counted(one.cause for one in passed)})"


def _passed_text(absence: Absence, clock: Clock) -> str:
    """`passed over: out of quota, resting until 14:02:11 UTC (its vendor said so in its answer)`. What rests is left out: the
    request is about one model."""
    cause = FAULTS[absence.cause].short
    if absence.until == FOREVER:
        return f"passed over: {cause}, and not to be asked until somebody changes that"
    when = clock_time(clock.at(absence.until), clock.now_at)
    if absence.is_soft:
        return f"put last: {cause}, and until {when} it was to be asked only if nobody else was left"
    if absence.is_tried:
        return f"passed over: {cause}, and another request was just trying whether that was over"
    return f"passed over: {cause}, resting until {when} ({SOURCES[absence.source]})"


def _counted(causes: Iterable[Fault]) -> str:
    """`out of quota: 10, its vendor is overloaded: 2`; what is the same of all goes without a number."""
    counts = Counter(FAULTS[cause].short for cause in causes)
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{short}: {count}" for short, count in counts.most_common())


def _chosen(tally: Tally, index: int) -> str:
    lease = tally.tries[index].lease
    account = lease.candidate.account.id
    verb = _verb(tally.tries[index])
    probe = ", to try whether its rest was over," if lease.is_probe else ""
    comma = "" if lease.why == "turn" else ","
    if any(one.lease.candidate.account.id == account for one in tally.tries[:index]):
        return f"{verb} again{probe}"
    if index and lease.why == "turn":
        return f"{verb} next{probe}"
    return f"{verb} {CHOSEN[lease.why]}{probe or comma}"


def _verb(attempt: Try) -> str:
    """Where no vendor answered, it is not known that one was asked: tokens and connections fail before."""
    if attempt.verdict is not None and status_of(attempt) is None:
        return "was tried"
    return "was asked" if attempt.sent else "was chosen"


def _came(decision: Decision, attempt: Try) -> str:
    took = attempt.spoke - (attempt.sent or attempt.began)
    match outcome_of_attempt(attempt):
        case "answered":
            return f"and answered after {duration(took)}"
        case "failed" if (verdict := attempt.verdict) is not None:
            status = status_of(attempt)
            did = "failed" if status is None else f"refused with {status}"
            return f"and {did} after {duration(took)}: {_finding(verdict)}"
        case "unfinished" if decision.tally.status == LEFT:
            return "and had not answered when the caller left"
        case "unfinished":
            return "without an outcome"
        case _:
            return "but was never asked, since the request could not be put into its vendor's words"


def _finding(verdict: Verdict) -> str:
    """`out of quota for 41 s (its vendor said so in its answer)`, with the evidence where nobody said for how long."""
    text = FAULTS[verdict.fault].short
    if verdict.wait is not None and verdict.wait != FOREVER:
        return f"{text} for {duration(verdict.wait)} ({SOURCES[verdict.source]})"
    evidence = plain(verdict.evidence)
    return f"{text} ({evidence})" if evidence else text


def _in_vain(when: str, tries: Sequence[Try]) -> str:
    """Several attempts at once, none of which was answered."""
    causes: list[Fault] = [attempt.verdict.fault for attempt in tries if attempt.verdict is not None]
    accounts = len({attempt.lease.candidate.account.id for attempt in tries})
    whom = number_of(accounts, "account")
    if len(tries) > accounts:
        whom += f" in {len(tries)} attempts"
    found = f" ({_counted(causes)})" if causes else ""
    return f"{when} {whom} {'was' if accounts == 1 else 'were'} asked in vain{found}."


def _ending(decision: Decision) -> str:
    """How it ended; "" where the last attempt says it, because it was answered and all went well."""
    tally = decision.tally
    took = duration(decision.seconds)
    match outcome_of(tally):
        case "served":
            return ""
        case "left":
            return f"The caller left, or the gateway was stopped, {_left(tally)} ({took} in all)."
        case "broke-off":
            return f"The answer broke off after it had begun, {took} after the request came: {_told(tally)}."
        case "failed":
            return (
                f"The gateway failed on it after {took}, which is a bug: its log has the details under"
                f" {quoted(decision.request_id)}."
            )
        case "refused":
            return f"The caller was told, after {took}: {_told(tally)}."


def _left(tally: Tally) -> str:
    if not tally.tries:
        return "before any account was asked"
    last = tally.tries[-1]
    if last.verdict is not None:
        return "before another account was asked"
    return "before the answer was complete" if last.is_answered else "before there was an answer"


def _told(tally: Tally) -> str:
    problem = tally.problem
    if problem is None:
        return f"status {tally.status}"
    back = ""
    if problem.retry_after is not None and problem.retry_after != FOREVER:
        back = f", and to come back in {duration(problem.retry_after)}"
    return f"{PROBLEMS[problem.kind]} ({tally.status}){back}"


def _rest_meant(attempt: Try, verdict: Verdict) -> str:
    """What rests because of a verdict, and for how long. The pool may know better: of a longer rest, or
    that this one is no news."""
    policy = POLICIES[verdict.fault]
    if verdict.scope == "none" or not policy.longest_rest:
        return "Nothing rests because of it."
    is_whole = verdict.scope == "account"
    what = "The whole account" if is_whole else f"For {quoted(attempt.lease.candidate.model)} the account"
    does = "is asked last" if policy.is_soft else "rests"
    if verdict.wait is not None and verdict.wait != FOREVER:
        wait = min(verdict.wait, policy.longest_rest) if policy.is_soft else verdict.wait
        bounded = ", which is as long as such a word is believed" if wait < verdict.wait else ""
        return f"{what} {does} for {duration(wait)}{bounded}: {SOURCES[verdict.source]}."
    if FOREVER in (policy.first_rest, verdict.wait):
        return f"{what} {does} until somebody changes or resets it."
    first, longest = duration(policy.first_rest), duration(policy.longest_rest)
    if policy.is_soft:
        of_model = "" if is_whole else f" for {quoted(attempt.lease.candidate.model)}"
        return f"From the second failure in a row on, the account {does}{of_model}, for {first} at first and up to {longest}."
    return f"{what} {does} for a guessed time, {first} at first and up to {longest}: its vendor did not say."
