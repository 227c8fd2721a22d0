"""How refusals are judged: by tables of signs, read from the top. The first row whose sign is there decides.

A sign is a function that gives the evidence when it is there, in the vendor's own words, and "" when not. Providers put
their own rows before `COMMON`, which knows what HTTP says, and what all vendors say alike. Words are looked for in an
error's code, type and reason only. Messages repeat what callers have sent, so that a caller could put an account out of
service by a phrase of his own: what is looked for in them must be how they begin, or stand outside of quotation marks.
A refusal inside of a stream that began well is judged by the same rows: its problem has the status that its words stand
for.
"""

import re
from collections.abc import Callable, Iterable

from msgspec import Struct, structs

from cliproxy.canon.errors import Kind, Problem
from cliproxy.routing.limits import Limit
from cliproxy.routing.verdict import Fault, Scope, Source, Verdict
from cliproxy.wire.http import Headers, header
from cliproxy.wire.waits import believable, retry_after


class Seen(Struct, frozen=True):
    """A refusal as signs look at it. `at` is the vendor's time in epoch seconds, `now_at` ours; `is_login`: the account
    is somebody's login, and no key. `stated` is a reset that the caller of the table has found in the headers."""

    problem: Problem
    headers: Headers
    body: bytes
    at: float
    now_at: float
    is_login: bool = False
    stated: float | None = None


Sign = Callable[[Seen], str]


class Wait(Struct, frozen=True):
    """Where a wait may stand: `read` gives its seconds, None when it does not stand there."""

    source: Source
    read: Callable[[Seen], float | None]


RETRY_AFTER = Wait("header", lambda seen: retry_after(seen.headers, seen.now_at))
GIVEN = Wait("header", lambda seen: seen.stated)
IN_BODY = Wait("body", lambda seen: seen.problem.retry_after)
STATED = (RETRY_AFTER, GIVEN, IN_BODY)


class Row(Struct, frozen=True):
    """`waits` are where a wait is looked for, in this order. `kind` and `status` are what the problem is to callers,
    where the vendor's own say something else."""

    sign: Sign
    fault: Fault
    scope: Scope = "none"
    waits: tuple[Wait, ...] = STATED
    kind: Kind | None = None
    status: int = 0


Table = tuple[Row, ...]

_LONGEST_EVIDENCE = 120
_SHORTEST_SECRET = 4
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_QUOTATION = re.compile(r"`[^`]*`|'[^']*'|\"[^\"]*\"")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]+")


# ---- signs ----------------------------------------------------------------------------------------------------------


def quoted(sign: str) -> str:
    return f"`{sign}`"


def told(problem: Problem) -> str:
    """The word that the vendor has for it, else the HTTP status; in our words where nobody else has said anything."""
    if _WORD.fullmatch(problem.code):
        return quoted(problem.code)
    if not problem.dialect and (own := _OURS.get(problem.kind)) is not None:
        return own
    return f"HTTP {problem.status}"


def anything(seen: Seen) -> str:
    return told(seen.problem)


def said(*words: str) -> Sign:
    """One of these is the error's code, type or reason."""
    return lambda seen: quoted(seen.problem.code) if seen.problem.code in words else ""


def kind(*kinds: Kind) -> Sign:
    return lambda seen: told(seen.problem) if seen.problem.kind in kinds else ""


def status(*statuses: int) -> Sign:
    return lambda seen: told(seen.problem) if seen.problem.status in statuses else ""


def opening(*phrases: str) -> Sign:
    """The message begins with one of these, which are in lower case."""

    def find(seen: Seen) -> str:
        message = seen.problem.message.lstrip().lower()
        return next((quoted(words) for words in phrases if message.startswith(words)), "")

    return find


def phrase(*phrases: str) -> Sign:
    """One of these, in lower case, is part of the message."""

    def find(seen: Seen) -> str:
        message = _unquoted(seen.problem.message)
        return next((quoted(words) for words in phrases if words in message), "")

    return find


def both(condition: Sign, sign: Sign) -> Sign:
    """`sign`, where `condition` is met."""
    return lambda seen: sign(seen) if condition(seen) else ""


def either(*signs: Sign) -> Sign:
    return lambda seen: next((evidence for sign in signs if (evidence := sign(seen))), "")


def login(seen: Seen) -> str:
    return "a login" if seen.is_login else ""


def of_model(seen: Seen) -> str:
    """The message speaks of a model: files, earlier answers and whole services may be missing or forbidden, too."""
    problem = seen.problem
    speaks = problem.kind == "model_not_found" or "model" in _unquoted(problem.message)
    return told(problem) if speaks else ""


def _unquoted(message: str) -> str:
    return _QUOTATION.sub("", message.lower())


limited = kind("rate_limit", "quota")


def used_up(limits: Callable[[Headers, float], Iterable[Limit]], evidence: str) -> tuple[Sign, Wait]:
    """That the headers name an allowance which is at nothing and say when it is full again, and the wait for that: of
    several the longest. `limits` reads them; `evidence` has `{}` for the allowance's name."""

    def last(seen: Seen) -> Limit | None:
        told = limits(seen.headers, seen.now_at)
        empty = (limit for limit in told if limit.resets_in and (limit.remaining == 0 or limit.left == 0))
        return max(empty, key=lambda limit: limit.resets_in or 0.0, default=None)

    def sign(seen: Seen) -> str:
        limit = last(seen)
        return "" if limit is None else quoted(evidence.format(limit.name))

    def wait(seen: Seen) -> float | None:
        limit = last(seen)
        return None if limit is None else limit.resets_in

    return sign, Wait("header", wait)


def _challenged(seen: Seen) -> str:
    """The network in front turned us away, not the vendor."""
    if mitigated := header(seen.headers, b"cf-mitigated"):
        return quoted("cf-mitigated: challenge" if mitigated == b"challenge" else "cf-mitigated")
    if seen.problem.status not in (403, 503):
        return ""
    page = seen.body[:_PAGE_BYTES].lstrip().lower()
    is_challenge = page.startswith((b"<!doctype", b"<html")) and any(mark in page for mark in _CHALLENGES)
    return f"HTTP {seen.problem.status} with a page that wants a browser" if is_challenge else ""


def _closed(seen: Seen) -> str:
    """A login that is over for good. Only what concerns a login ends one: our own word for it, or a vendor's to one."""
    problem = seen.problem
    ends_it = problem.code in _ENDS_A_LOGIN or problem.code.startswith("refresh_token_")
    return quoted(problem.code) if ends_it and (seen.is_login or not problem.dialect) else ""


def _server_failed(seen: Seen) -> str:
    return told(seen.problem) if seen.problem.status >= 500 else ""


_OURS: dict[Kind, str] = {
    "unreachable": "no connection",
    "gateway_timeout": "no answer in time",
    "bad_gateway": "a broken answer",
    "unauthenticated": "no valid token",
}
_PAGE_BYTES = 64 * 1024
_CHALLENGES = (
    b"just a moment",
    b"challenge-platform",
    b"cf-chl",
    b"cf_chl",
    b"cf-turnstile",
    b"attention required! | cloudflare",
)
_ENDS_A_LOGIN = frozenset({"invalid_grant", "account_deactivated"})
_REFUSED_TEXTS = (
    "context_length_exceeded",
    "string_above_max_length",
    "request_too_large",
    "invalid_prompt",
    "cyber_policy",
    "content_policy_violation",
    "content_filter",
    "invalid_encrypted_content",
    "missing_required_parameter",
    "unsupported_parameter",
    "unsupported_value",
)
"""What is unmistakably about the request, whatever the status beside it."""
EMPTY_PURSE = ("insufficient_quota", "billing_hard_limit_reached", "usage_not_included")
_NO_SUCH_MODEL = ("model_not_found", "model_not_supported", "unsupported_model", "model_decommissioned")

COMMON: Table = (
    Row(_challenged, "challenge", "account"),
    Row(_closed, "suspended", "account", waits=()),
    Row(said(*_REFUSED_TEXTS), "caller"),
    Row(kind("context_too_long", "too_large"), "caller"),
    Row(both(kind("internal"), status(400, 405, 411, 413, 414, 415, 422, 431)), "caller", kind="invalid_request"),
    Row(said(*EMPTY_PURSE), "billing", "account"),
    Row(kind("billing"), "billing", "account"),
    Row(kind("quota"), "exhausted", "account"),
    Row(kind("rate_limit"), "quota", "model"),
    Row(kind("unauthenticated"), "auth", "account"),
    Row(both(kind("permission"), of_model), "forbidden", "model"),
    Row(kind("permission"), "forbidden", "account"),
    Row(said(*_NO_SUCH_MODEL), "missing", "model", kind="model_not_found"),
    Row(both(kind("not_found", "model_not_found"), of_model), "missing", "model"),
    Row(kind("not_found", "model_not_found"), "missing"),
    Row(kind("conflict"), "overload"),
    Row(kind("request_timeout", "internal", "overloaded"), "overload", "model"),
    Row(kind("unreachable", "gateway_timeout"), "network", "model"),
    Row(kind("bad_gateway"), "broken", "model"),
    Row(kind("unsupported"), "caller"),
    Row(_server_failed, "broken", "model"),  # a server that calls its own failure an invalid request
    Row(anything, "caller"),
)
_REDIRECTED = Row(anything, "broken", "model")


# ---- verdicts -------------------------------------------------------------------------------------------------------


def judged(table: Table, seen: Seen, secret: str = "") -> Verdict:
    """The verdict of the first row whose sign is there. `secret` is never part of the evidence."""
    if seen.problem.status < 400:  # a redirect: followed by nobody, since it would carry the key elsewhere
        evidence = f"HTTP {seen.problem.status}"
        problem = seen.problem.seen_as(502, "bad_gateway", f"The upstream answered with {evidence}.")
        return _verdict(_REDIRECTED, structs.replace(seen, problem=problem), evidence)
    for row in table:
        if evidence := row.sign(seen):
            return _verdict(row, seen, presentable(evidence, secret))
    return _verdict(COMMON[-1], seen, told(seen.problem))


def _verdict(row: Row, seen: Seen, evidence: str) -> Verdict:
    wait, source = _wait(row, seen)
    problem = structs.replace(
        seen.problem,
        kind=row.kind or seen.problem.kind,
        status=row.status or seen.problem.status,
        retry_after=wait,
    )
    if row.scope == "none":
        wait, source = None, "guess"
    return Verdict(row.fault, problem, row.scope, wait, source, evidence)


def _wait(row: Row, seen: Seen) -> tuple[float | None, Source]:
    for place in row.waits:
        if (seconds := believable(place.read(seen))) is not None:
            return seconds, place.source
    return None, "guess"


def presentable(evidence: str, secret: str) -> str:
    """One short line without `secret`, whatever a vendor has put there."""
    evidence = _UNPRINTABLE.sub(" ", evidence)
    if len(secret) >= _SHORTEST_SECRET:
        evidence = evidence.replace(secret, "[key]")
    return evidence if len(evidence) <= _LONGEST_EVIDENCE else f"{evidence[: _LONGEST_EVIDENCE - 3]}..."
