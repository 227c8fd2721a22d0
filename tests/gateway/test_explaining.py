"""How it stands with accounts, and what became of requests, in sentences."""

import itertools
import re
from pathlib import Path
from typing import get_args

import pytest

from cliproxy.canon.errors import Kind, Problem
from cliproxy.canon.losses import Loss
from cliproxy.gateway.allowances import Told
from cliproxy.gateway.decisions import Decision
from cliproxy.gateway.explaining import (
    FAULTS,
    SOURCES,
    STATES,
    Clock,
    Facts,
    State,
    allowances_of,
    clock_time,
    duration,
    health_of,
    plain,
    quoted,
    state_of,
)
from cliproxy.gateway.retelling import CHOSEN, PROBLEMS, meaning_of, outcome_of, sentences_of
from cliproxy.gateway.stories import line_of, story_of
from cliproxy.gateway.tally import LEFT, Absent, Tally, Try
from cliproxy.routing.accounts import Account
from cliproxy.routing.catalog import Candidate, Outline
from cliproxy.routing.health import Rest
from cliproxy.routing.limits import Limit
from cliproxy.routing.pool import Lease, Why
from cliproxy.routing.rests import Absence
from cliproxy.routing.verdict import FOREVER, POLICIES, Fault, Scope, Source, Verdict

NOON = 1_795_521_600.0
"""2026-11-24 12:00:00 UTC."""
CLOCK = Clock(now=1_000.0, now_at=NOON)
MODEL = "claude-sonnet-4-5"
SCOPES: tuple[Scope, ...] = get_args(Scope)
WHYS: tuple[Why, ...] = get_args(Why)
ACCOUNTS = {name: Account(f"claude-{name}", "claude", f"{name}.json") for name in "abcdefgh"}


def _is_prose(text: str) -> bool:
    """Whether it reads as sentences do, whatever they say."""
    return (
        bool(re.match(r"[A-Z`0-9]", text))
        and text.endswith(".")
        and not re.search(r"  |None|inf\b|nan|[{}]|\.\.(?!\.)|,\.|:\.|\(\)| [.,;:)]|,,", text)
        and text.count("(") == text.count(")")
        and text.count("`") % 2 == 0
    )


# -- phrases


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (-1, "0 ms"),
        (0.04, "40 ms"),
        (0.0996, "0.1 s"),
        (0.2, "0.2 s"),
        (5, "5 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (41, "41 s"),
        (59.6, "1 min"),
        (185, "3 min 5 s"),
        (3_600, "1 h"),
        (7_800, "2 h 10 min"),
        (3 * 86_400 + 3_600, "3 d 1 h"),
    ],
)
def test_a_duration_has_two_units_at_most(seconds: float, told: str) -> None:
    assert duration(seconds) == told


def test_a_time_of_another_day_comes_with_its_date() -> None:
    assert clock_time(NOON + 7_331, NOON) == "14:02:11 UTC"
    assert clock_time(NOON + 86_400, NOON) == "2026-11-25 12:00:00 UTC"
    assert clock_time(1e300, NOON).startswith("9999-12-31")


def test_what_callers_call_a_model_is_bounded_and_harmless() -> None:
    assert len(plain("x" * 10_000)) == 160
    assert quoted("a`b\x1b[31m\r\n\u202ec") == "`a'b?[31m???c`"
    assert plain("\ud800").encode() == b"?"


# -- accounts


def _rest(cause: Fault = "quota", seconds: float = 41, *, source: Source = "header", **more: object) -> Rest:
    evidence = str(more.get("evidence", "`rate_limit_error`"))
    count, probing = int(str(more.get("count", 1))), float(str(more.get("probing_until", 0.0)))
    return Rest(cause, source, 429, evidence, 990.0, 1_000 + seconds, count, 2, probing)


def _facts(*models: str, problem: str = "", **rests: Rest) -> Facts:
    return Facts(models, {name.strip("_"): rest for name, rest in rests.items()}, problem=problem, is_file=True)


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        (_facts("a", "b"), "ready"),
        (Facts(low_until=1_001), "low"),
        (Facts(low_until=1_000), "ready"),
        (_facts("a", "b", a=_rest()), "partly-resting"),
        (_facts("a", "b", other=_rest()), "partly-resting"),
        (_facts("a", "b", a=_rest(), b=_rest()), "resting"),
        (_facts("a", "b", _=_rest()), "resting"),
        (_facts("a", "b", a=_rest("overload")), "shaky"),
        (_facts("a", "b", a=_rest("overload"), b=_rest()), "partly-resting"),
        (_facts("a", "b", _=_rest("network")), "shaky"),
        (_facts("a", "b", _=_rest("suspended", FOREVER)), "suspended"),
        (_facts("a", "b", a=_rest("missing", FOREVER)), "partly-resting"),
        (_facts("a", "b", _=_rest(seconds=-1)), "ready"),
        (_facts("a", "b", _=_rest(seconds=-1, probing_until=1_005)), "resting"),
        (_facts("a", _=_rest("overload", -10)), "ready"),
        (Facts(is_disabled=True, is_useless=True, rests={"": _rest()}), "disabled"),
        (Facts(is_useless=True, problem="It is empty.", rests={"": _rest()}), "error"),
        (Facts(problem="It was not renewed."), "ready"),
    ],
)
def test_the_state_is_the_worst_that_is_so(facts: Facts, state: State) -> None:
    assert state_of(facts, 1_000) == state
    assert health_of(facts, CLOCK).state == state


def test_a_first_fault_that_rests_nothing_is_no_cooldown() -> None:
    first = Rest("overload", "guess", 529, "", 1_000.0, 1_000.0)

    health = health_of(Facts(rests={"": first}), Clock(1_000.0, NOON))

    assert (health.state, health.cooldowns) == ("ready", [])


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        (_facts("a"), "Ready to be asked in its turn."),
        (Facts(load=1), "Ready to be asked in its turn. 1 request is under way."),
        (Facts(is_disabled=True, load=2), "Switched off by the operator. 2 requests are under way."),
        (Facts(is_useless=True, problem="The file is empty."), "The file is empty."),
        (
            _facts("a", problem="Its tokens could not be renewed."),
            "Ready to be asked in its turn. Of its file or login: Its tokens could not be renewed.",
        ),
        (
            _facts("a", _=_rest()),
            "The whole account rests until 12:00:41 UTC, 41 s from now: out of quota (`rate_limit_error`); its vendor"
            " said so in the headers of its answer.",
        ),
        (
            _facts("a", "b", a=_rest("missing", 600, source="guess", count=3, evidence="HTTP 404")),
            "`a` rests until 12:10:00 UTC, 10 min from now: it does not have this model (HTTP 404); its vendor did not"
            " say for how long, so this is our guess. It is fault number 3 in a row.",
        ),
        (
            _facts("a", "b", a=_rest(), b=_rest("exhausted", 7_200)),
            "All of its 2 models rest (`a` and `b`): out of quota and the quota of its plan or of the day is used up. The first of them is over"
            " at 12:00:41 UTC, 41 s from now.",
        ),
        (
            _facts("a", "b", "c", a=_rest(), b=_rest()),
            "2 models rest on it (`a` and `b`): out of quota. The first of them is over at 12:00:41 UTC, 41 s from now.",
        ),
        (
            _facts("e", a=_rest(), b=_rest(), c=_rest(), d=_rest()),
            "4 models rest on it (`a`, `b` and 2 more): out of quota. The first of them is over at 12:00:41 UTC, 41 s"
            " from now.",
        ),
        (
            _facts("a", _=_rest("overload", 5, source="guess", count=2, evidence="`overloaded_error`")),
            "The whole account is asked only when no other is left until 12:00:05 UTC, 5 s from now: its vendor is"
            " overloaded (`overloaded_error`); its vendor did not say for how long, so this is our guess. It is fault"
            " number 2 in a row.",
        ),
        (
            _facts("a", _=_rest("suspended", FOREVER, evidence="`invalid_grant`")),
            "The whole account rests until somebody logs in anew, changes its file or resets it: its vendor has closed"
            " the account or its login (`invalid_grant`).",
        ),
        (
            Facts(rests={"": _rest("suspended", FOREVER, evidence="")}),
            "The whole account rests until its key is replaced or somebody resets it: its vendor has closed the account"
            " or its login.",
        ),
        (
            _facts("a", _=_rest(seconds=-1, probing_until=1_005)),
            "The whole account rested: out of quota (`rate_limit_error`). That time is over, and one request is trying"
            " whether it serves again.",
        ),
        (
            Facts(low_until=1_060),
            "Little of its allowance is left, so until 12:01:00 UTC it is asked after those that have more.",
        ),
    ],
)
def test_a_state_says_why_and_until_when(facts: Facts, text: str) -> None:
    assert health_of(facts, CLOCK).text == text


def test_low_allowance_is_told_with_the_one_that_has_the_least_left() -> None:
    told = Told(NOON, {"": (Limit("5h", left=0.2), Limit("7d", left=0.031)), "a": (Limit("tokens"),)})

    text = health_of(Facts(low_until=1_060), CLOCK, told).text

    assert text == "3.1 % of its allowance `7d` is left, so until 12:01:00 UTC it is asked after those that have more."


def test_a_cooldown_has_all_that_is_known_of_it() -> None:
    (cooldown,) = health_of(_facts("a", "b", a=_rest(evidence="`retry-after: 41`", count=3)), CLOCK).cooldowns

    assert (cooldown.model, cooldown.cause, cooldown.source, cooldown.status) == ("a", "quota", "header", 429)
    assert (cooldown.evidence, cooldown.probes, cooldown.count) == ("`retry-after: 41`", 2, 3)
    assert (cooldown.started, cooldown.until) == ("2026-11-24T11:59:50.000Z", "2026-11-24T12:00:41.000Z")
    assert (cooldown.resets_in, cooldown.is_probing, cooldown.is_soft) == (41.0, False, False)


@pytest.mark.parametrize(
    ("facts", "seconds"),
    [
        (_facts("a", _=_rest(), a=_rest(seconds=600)), 41.0),
        (_facts("a", "b", a=_rest(seconds=600), b=_rest()), 41.0),
        (_facts("a", "b", a=_rest(seconds=600), b=_rest("missing", FOREVER)), 600.0),
        (_facts("a", _=_rest("suspended", FOREVER)), None),
        (_facts("a", _=_rest("suspended", 60)), None),
        (_facts("a", _=_rest("overload", 5)), 5.0),
        (Facts(low_until=1_060), 60.0),
        (Facts(low_until=FOREVER), None),
        (Facts(), None),
    ],
)
def test_a_state_that_ends_by_itself_says_when(facts: Facts, seconds: float | None) -> None:
    health = health_of(facts, CLOCK)

    assert health.resets_in == seconds
    assert (health.until is None) == (seconds is None)


def test_limits_are_shown_as_they_were_told() -> None:
    told = Told(NOON, {"": (Limit("5h", left=0.25, resets_in=60),), "a": (Limit("requests", "model", 50, 0),)})

    whole, of_model = allowances_of(told)

    assert (whole.model, whole.left_percent, whole.resets_at) == (None, 25.0, "2026-11-24T12:01:00.000Z")
    assert (of_model.model, of_model.total, of_model.remaining, of_model.left_percent) == ("a", 50, 0, None)
    assert (of_model.resets_at, of_model.told_at) == (None, "2026-11-24T12:00:00.000Z")
    assert allowances_of(None) == []


@pytest.mark.parametrize("cause", get_args(Fault))
def test_every_cause_reads_well_in_every_place(cause: Fault) -> None:
    for source, seconds, evidence, count, is_file in itertools.product(
        get_args(Source), (0.2, 41, 86_400 * 3, FOREVER), ("", "HTTP 429"), (1, 3), (False, True)
    ):
        rest = _rest(cause, seconds, source=source, evidence=evidence, count=count)
        for rests in ({"": rest}, {"a": rest}, {"a": rest, "b": rest}, {"a": rest, "": rest}):
            health = health_of(Facts(("a", "b"), rests, is_file=is_file), CLOCK)
            assert _is_prose(health.text), health.text
            assert all(_is_prose(cooldown.text) for cooldown in health.cooldowns)


# -- requests


def _route(*tiers: str, model: str = MODEL) -> Outline:
    return Outline(model, tuple((-number, len(names)) for number, names in enumerate(tiers)))


def _verdict(fault: Fault = "quota", scope: Scope = "model", wait: float | None = 41.0, status: int = 429) -> Verdict:
    problem = Problem("rate_limit", status, "the vendor quotes the prompt here", dialect="anthropic")
    return Verdict(fault, problem, scope, wait, "guess" if wait is None else "header", "`rate_limit_error`")


class Request:
    """A request that is told step by step; each takes 0.2 s, unless it says otherwise."""

    def __init__(self, *routes: Outline, dialect: str = "anthropic", asked: str = MODEL, stream: bool = False) -> None:
        self.tally = Tally(dialect, asked, is_stream=stream)
        self.tally.began = self.now = 500.0
        self.tally.routes = routes or (_route("ab"),)

    def tries(self, name: str, why: Why = "turn", *, probe: bool = False, sent: bool = True) -> Try:
        candidate = Candidate(ACCOUNTS[name], MODEL)
        lease = Lease(candidate, self.now, why, probing_until=self.now + 10 if probe else 0.0)
        attempt = self.tally.attempt(lease, self.now)
        attempt.sent = self.now if sent else 0.0
        return attempt

    def fails(self, name: str, verdict: Verdict, why: Why = "turn", *, probe: bool = False) -> "Request":
        attempt = self.tries(name, why, probe=probe)
        self.now += 0.2
        attempt.spoke, attempt.verdict = self.now, verdict
        return self

    def answers(self, name: str, why: Why = "turn", seconds: float = 0.8, *, probe: bool = False) -> "Request":
        attempt = self.tries(name, why, probe=probe)
        self.now += seconds
        attempt.spoke, attempt.is_answered = self.now, True
        self.tally.status = 200
        return self

    def waits(self, seconds: float) -> "Request":
        self.now += seconds
        self.tally.waits += (seconds,)
        return self

    def passes(self, *absences: tuple[str, Fault, float]) -> "Request":
        shown = [
            Absence(Candidate(ACCOUNTS[name], MODEL), "", cause, until, "header", POLICIES[cause].is_soft)
            for name, cause, until in absences
        ]
        self.tally.absent = Absent(MODEL, self.now, tuple(shown))
        return self

    def told(self, kind: Kind, status: int, retry_after: float | None = None) -> "Request":
        self.tally.status = status
        self.tally.problem = Problem(kind, status, "a message that may quote the prompt", retry_after=retry_after)
        return self

    def left(self) -> "Request":
        self.tally.status = LEFT
        return self

    def over(self, seconds: float = 0.0) -> Decision:
        """`NOON` is when it began."""
        self.now += seconds
        took = self.now - self.tally.began
        return Decision(7, "req_x1", NOON + took, took, self.tally)


def test_a_request_that_moved_on_is_told_as_a_story() -> None:
    request = Request(_route("abc")).passes(("b", "quota", 500.0 + 7_331))

    told = sentences_of(request.fails("a", _verdict()).answers("c").over())

    assert told == [
        "`claude-sonnet-4-5` was asked for by an Anthropic client.",
        "3 accounts serve it; `b.json` was passed over: out of quota, resting until 14:02:11 UTC (its vendor"
        " said so in the headers of its answer).",
        "`a.json` was asked in its turn and refused with 429 after 0.2 s: out of quota for 41 s (its vendor said so in"
        " the headers of its answer).",
        "`c.json` was asked next and answered after 0.8 s.",
    ]


def test_who_was_passed_over_and_then_asked_all_the_same_was_not_passed_over() -> None:
    request = Request().passes(("a", "quota", 510.0), ("b", "quota", 530.0)).waits(10).answers("a", probe=True)

    story = story_of(request.over())

    assert [passed.account for passed in story.passed_over] == ["claude-b"]
    assert story.attempts[0].text == (
        "After a wait of 10 s `a.json` was asked in its turn, to try whether its rest was over, and answered after 0.8 s."
    )


def test_many_that_were_passed_over_are_counted() -> None:
    request = Request(_route("abcdefgh")).passes(
        ("b", "quota", 540.0), ("c", "quota", 540.0), ("d", "auth", 540.0), ("e", "suspended", FOREVER)
    )

    assert sentences_of(request.answers("a").over())[1] == (
        "8 accounts serve it; at least 4 were passed over (out of quota: 2, its credential is refused: 1, its vendor has"
        " closed the account or its login: 1)."
    )


def test_many_attempts_are_two_sentences_and_their_sum() -> None:
    request = Request(_route("abcdefgh"))
    for name in "abcdef":
        request.fails(name, _verdict("overload" if name == "f" else "quota"))

    told = sentences_of(request.answers("g").over())

    assert len(told) == 5
    assert told[3:] == [
        "Then 5 accounts were asked in vain (out of quota: 4, its vendor is overloaded: 1).",
        "`g.json` was asked next and answered after 0.8 s.",
    ]


@pytest.mark.parametrize("ending", ["broke-off", "left", "failed"])
def test_who_answered_was_not_asked_in_vain(ending: str) -> None:
    request = Request(_route("abcd"))
    for name in "abc":
        request.fails(name, _verdict())
    request.answers("d")
    match ending:
        case "broke-off":
            request.told("bad_gateway", 502)
        case "left":
            request.left()
        case _:
            request.tally.status = 500

    told = sentences_of(request.over())

    assert len(told) == 5
    assert told[2:4] == [
        "First 3 accounts were asked in vain (out of quota).",
        "`d.json` was asked next and answered after 0.8 s.",
    ]


def test_the_same_account_asked_twice_is_asked_again() -> None:
    overloaded = _verdict("overload", wait=None, status=529)
    request = Request(_route("a")).fails("a", overloaded).waits(0.5).fails("a", overloaded).told("overloaded", 529)

    assert sentences_of(request.over())[2:] == [
        "`a.json` was asked in its turn and refused with 529 after 0.2 s: its vendor is overloaded (`rate_limit_error`).",
        "After a wait of 0.5 s `a.json` was asked again and refused with 529 after 0.2 s: its vendor is overloaded"
        " (`rate_limit_error`).",
        "The caller was told, after 0.9 s: the upstream is overloaded (529).",
    ]


def test_a_failure_that_no_vendor_answered_has_no_status() -> None:
    verdict = Verdict("network", Problem("unreachable", 502, ""), "model", None, "guess", "no connection")
    story = story_of(Request().fails("a", verdict).told("unreachable", 502).over())

    assert story.attempts[0].status is None
    assert story.attempts[0].text == (
        "`a.json` was tried in its turn and failed after 0.2 s: its vendor could not be reached or did not answer (no"
        " connection)."
    )


def test_nobody_knows_the_model() -> None:
    request = Request(asked="gpt-9", dialect="openai-chat")
    request.tally.routes = ()

    told = sentences_of(request.told("model_not_found", 404).over())

    assert told == [
        "`gpt-9` was asked for by an OpenAI Chat client.",
        "The caller was told, after 0 ms: nobody serves this model (404).",
    ]


def test_all_rest() -> None:
    request = Request().passes(("a", "quota", 541.0), ("b", "exhausted", 541.0 + 3_600))

    told = sentences_of(request.waits(30).told("rate_limit", 429, 11.0).over())

    assert told[1:] == [
        "2 accounts serve it; `a.json` was passed over: out of quota, resting until 12:00:41 UTC (its vendor said so in"
        " the headers of its answer); `b.json` was passed over: the quota of its plan or of the day is used up, resting"
        " until 13:00:41 UTC (its vendor said so in the headers of its answer).",
        "The caller was told, after 30 s: out of quota for now (429), and to come back in 11 s.",
    ]


def test_fallbacks_are_named() -> None:
    routes = _route("a"), _route("b", model="haiku"), _route("c", model="mini")

    told = sentences_of(Request(*routes).fails("a", _verdict()).answers("b").over())

    assert (
        told[1] == "1 account serves it; since none could at that moment, `haiku` and `mini` were tried in its place."
    )


def test_an_answer_that_broke_off() -> None:
    request = Request(stream=True).answers("a").told("overloaded", 529)

    assert sentences_of(request.over(2))[-1] == (
        "The answer broke off after it had begun, 2.8 s after the request came: the upstream is overloaded (529)."
    )
    assert outcome_of(request.tally) == "broke-off"


def test_callers_leave_at_any_time() -> None:
    early, waiting, later = Request().left(), Request(), Request().answers("a").left()
    waiting.tries("a")

    assert sentences_of(early.over(2))[-1] == (
        "The caller left, or the gateway was stopped, before any account was asked (2 s in all)."
    )
    assert sentences_of(waiting.left().over(2))[2:] == [
        "`a.json` was asked in its turn and had not answered when the caller left.",
        "The caller left, or the gateway was stopped, before there was an answer (2 s in all).",
    ]
    assert "before the answer was complete" in sentences_of(later.over(2))[-1]
    assert "before another account was asked" in sentences_of(Request().fails("a", _verdict()).left().over())[-1]


def test_a_bug_is_called_one() -> None:
    assert sentences_of(Request().over(0.3))[-1] == (
        "The gateway failed on it after 0.3 s, which is a bug: its log has the details under `req_x1`."
    )


def test_a_request_that_cannot_be_written_for_a_vendor() -> None:
    request = Request()
    request.tries("a", sent=False)

    assert sentences_of(request.told("invalid_request", 400).over())[2:] == [
        "`a.json` was chosen in its turn but was never asked, since the request could not be put into its vendor's"
        " words.",
        "The caller was told, after 0 ms: the request is not valid (400).",
    ]


ENDINGS = ("served", "broke-off", "left", "refused", "failed")


@pytest.mark.parametrize("fault", get_args(Fault))
def test_every_combination_reads_well(fault: Fault) -> None:
    for scope, wait, why, ending, probe in itertools.product(
        SCOPES, (None, 0.2, 41.0, FOREVER), WHYS, ENDINGS, (False, True)
    ):
        request = Request(_route("ab", "c")).passes(("c", fault, 600.0), ("d", fault, FOREVER))
        request.fails("a", _verdict(fault, scope, wait), why, probe=probe)
        match ending:
            case "served":
                request.answers("b", why, probe=probe)
            case "broke-off":
                request.answers("b", why, probe=probe).told("bad_gateway", 502)
            case "left":
                request.fails("b", _verdict(fault, scope, wait), why, probe=probe).left()
            case "refused":
                request.fails("b", _verdict(fault, scope, wait), why, probe=probe).told("rate_limit", 429, wait)
            case _:
                request.tries("b", why, probe=probe)
        decision = request.over(0.1)
        story, line = story_of(decision), line_of(decision)
        assert story.outcome == line.outcome == ending
        told = sentences_of(decision)
        assert 2 <= len(told) <= 5
        assert all(map(_is_prose, (*told, line.sentence))), told
        assert all(_is_prose(one.text) and _is_prose(one.means) for one in story.attempts)
        assert all(_is_prose(one.text) for one in story.passed_over)
        assert "prompt" not in repr(story)


@pytest.mark.parametrize("kind", get_args(Kind))
def test_every_refusal_has_words(kind: Kind) -> None:
    request = Request().told(kind, 400, 5.0)

    assert PROBLEMS[kind] in sentences_of(request.over())[-1]
    assert _is_prose(line_of(request.over()).sentence)


def test_no_word_is_missing() -> None:
    assert set(FAULTS) == set(POLICIES) == set(get_args(Fault))
    assert set(SOURCES) == set(get_args(Source))
    assert set(STATES) == set(get_args(State))
    assert set(CHOSEN) == set(WHYS)
    assert all(_is_prose(words.means) for words in FAULTS.values())


@pytest.mark.parametrize(
    ("verdict", "text"),
    [
        (_verdict("caller", "none", None), "Nothing rests because of it."),
        (_verdict(), "For `claude-sonnet-4-5` the account rests for 41 s: its vendor said so in the headers"),
        (_verdict("auth", "account", None), "The whole account rests for a guessed time, 1 min at first and up to 1 h"),
        (
            _verdict("suspended", "account", None),
            "The whole account rests until somebody changes or resets it.",
        ),
        (
            _verdict("overload", "model", None),
            "From the second failure in a row on, the account is asked last for `claude-sonnet-4-5`, for 5 s",
        ),
        (
            _verdict("overload", "account", None),
            "From the second failure in a row on, the account is asked last, for 5 s",
        ),
        (
            _verdict("overload", "account", 600),
            "for 1 min, which is as long as such a word is believed: its vendor said so",
        ),
    ],
)
def test_what_an_attempt_means_for_its_account(verdict: Verdict, text: str) -> None:
    attempt = Request().fails("a", verdict).tally.tries[0]

    assert text in meaning_of(attempt)
    assert meaning_of(attempt).startswith(FAULTS[verdict.fault].means)


def test_all_about_a_request_is_there_as_values() -> None:
    request = Request(_route("ab", "c")).passes(("c", "overload", 530.0)).fails("a", _verdict(), "session").waits(2)
    request.answers("b", "low")
    request.tally.tries[1].losses = (Loss("sampling.seed", "not known there"),)

    story = story_of(request.over(1))
    first, second = story.attempts

    assert story.candidates is not None
    assert [(tier.priority, tier.count) for tier in story.candidates.tiers] == [(0, 2), (-1, 1)]
    assert (story.status, story.served_model, story.duration_ms) == (200, MODEL, 4_000)
    assert (first.outcome, first.status, first.fault, first.wait, first.source) == (
        "failed",
        429,
        "quota",
        41.0,
        "header",
    )
    assert (second.outcome, second.status, second.waited_ms, second.first_content_ms) == ("answered", 200, 2_000, 800)
    assert [(loss.path, loss.action) for loss in second.losses] == [("sampling.seed", "dropped")]
    assert (story.passed_over[0].is_soft, story.waits, story.problem) == (True, [2], None)
    timings = story.timings
    assert (timings.gateway_ms, timings.upstream_ms, timings.retries_ms, timings.total_ms) == (0, 800, 2_200, 4_000)


def test_names_of_models_are_bounded_everywhere() -> None:
    asked = "x" * 100_000
    request = Request(_route("a", model=asked), asked=asked)
    request.tally.attempt(Lease(Candidate(ACCOUNTS["a"], asked), 500.0), 500.0)

    assert len(repr(story_of(request.left().over()))) < 5_000
    assert len(repr(line_of(request.over()))) < 1_000


# -- the page for operators

PAGE = (Path(__file__).parents[2] / "docs" / "health.md").read_text()


def _rows(heading: str) -> dict[str, list[str]]:
    """The rows of the table below a heading, by the word in their first cell."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:3] == "| `"
    ]
    return {row[0].strip("`"): row[1:] for row in cells}


def _guess(seconds: float) -> str:
    return "for good" if seconds == FOREVER else duration(seconds) if seconds else "none"


def test_the_page_has_all_states_and_causes() -> None:
    assert list(_rows("States")) == list(STATES)
    assert list(_rows("What rests, and for how long")) == list(POLICIES)


@pytest.mark.parametrize("cause", list(POLICIES))
def test_the_page_says_how_long_each_cause_rests(cause: Fault) -> None:
    policy = POLICIES[cause]
    first = _guess(policy.first_rest) + (", from the second fault on" if policy.is_soft else "")

    _, told_first, told_longest, told_mended = _rows("What rests, and for how long")[cause]

    assert (told_first, told_longest) == (first, _guess(policy.longest_rest))
    assert (told_mended == "yes") == policy.ends_with_new_file
