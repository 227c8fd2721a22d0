"""What became of the newest requests, and why: a list of lines, and all about one of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import get_args

from cliproxy.canon.errors import InvalidRequest, NotFound
from cliproxy.gateway.decisions import Decision, Decisions
from cliproxy.gateway.plane import Plane
from cliproxy.gateway.retelling import Outcome, sentences_of
from cliproxy.gateway.stories import Line, line_of, story_of
from cliproxy.gateway.tally import Tally
from cliproxy.server.management.accounts import object_of, page_size
from cliproxy.server.management.base import Answer, Asked, Operation, Parameter, Row, Schema, told
from cliproxy.wire.http import Headers

_USUAL, _MOST = 50, 500
_PLAIN: Headers = ((b"content-type", b"text/plain; charset=utf-8"),)
_GONE = "there is no such request: only the newest 2,000 since the start are kept"


async def _list(plane: Plane, asked: Asked) -> Answer:
    """What is over changes no more, so it is put into words in a thread: that takes some hundredths of a second where all
    that is kept has to be looked through."""
    limit = page_size(asked, _USUAL, _MOST)
    decisions = plane.runtime.decisions
    wanted, before = _Wanted(asked), _before(decisions, asked.first("after") or "")
    kept = [one for one in decisions.newest() if before is None or one.number < before]
    return await asyncio.to_thread(_page, kept, wanted, limit)


def _page(kept: list[Decision], wanted: _Wanted, limit: int) -> Answer:
    lines: list[Line] = []
    for decision in kept:
        if (line := wanted.line(decision)) is not None:
            if len(lines) == limit:
                return told({"requests": lines, "next": lines[-1].number})
            lines.append(line)
    return told({"requests": lines, "next": None})


def _before(decisions: Decisions, after: str) -> int | None:
    """The number of the last line seen, of which an id may stand for."""
    after = after.strip()
    if not after:
        return None
    if after.isascii() and after.isdigit():
        return int(after[:20])
    if (decision := decisions.find(after)) is None:
        raise NotFound(_GONE)
    return decision.number


class _Wanted:
    """The filters of a list."""

    def __init__(self, asked: Asked) -> None:
        self._account = asked.first("account") or ""
        self._model = asked.first("model") or ""
        self._status = _status(asked.first("status") or "")
        self._is_failed = (asked.first("failed") or "").lower() in ("true", "1")
        self._text = (asked.first("text") or "").strip().lower()

    def line(self, decision: Decision) -> Line | None:
        """The line of a request that is wanted; None for others. Most are told apart before anything is worded."""
        tally = decision.tally
        if self._is_failed and tally.status < 400:
            return None
        if self._status is not None and tally.status != self._status:
            return None
        if self._model and self._model not in _models(tally):
            return None
        if self._account and self._account not in _accounts(tally):
            return None
        line = line_of(decision)
        return line if not self._text or self._text in _haystack(tally, line) else None


def _status(text: str) -> int | None:
    text = text.strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) == 3):
        raise InvalidRequest("invalid status: must be a number of three digits")
    return int(text)


def _models(tally: Tally) -> Iterator[str]:
    yield tally.asked
    for attempt in tally.tries:
        yield attempt.lease.candidate.model


def _accounts(tally: Tally) -> Iterator[str]:
    """Ids and labels of all that were asked."""
    for attempt in tally.tries:
        account = attempt.lease.candidate.account
        yield account.id
        yield account.label


def _haystack(tally: Tally, line: Line) -> str:
    return "\n".join((line.id, line.dialect, line.sentence, *_models(tally), *_accounts(tally))).lower()


async def _one(plane: Plane, asked: Asked) -> Answer:
    decision = plane.runtime.decisions.find(asked.segment)
    if decision is None:
        raise NotFound(_GONE)
    if asked.first("format") == "text" or asked.header(b"accept").strip().lower().startswith("text/plain"):
        return Answer(200, ("\n".join(sentences_of(decision)) + "\n").encode(), _PLAIN)
    return told(story_of(decision))


# -- the table --------------------------------------------------------------------------------------------------------

_TEXT: Schema = {"type": "string"}
_MAY_TEXT: Schema = {"type": ["string", "null"]}
_MAY_NUMBER: Schema = {"type": ["number", "null"]}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_MAY_COUNT: Schema = {"type": ["integer", "null"]}
_FLAG: Schema = {"type": "boolean"}
_OUTCOME: Schema = {"enum": list(get_args(Outcome))}
_OF_BOTH: dict[str, Schema] = {
    "id": _TEXT,
    "number": _COUNT,
    "at": _TEXT,
    "model": _TEXT,
    "served_model": _MAY_TEXT,
    "dialect": _TEXT,
    "stream": _FLAG,
    "status": _COUNT,
    "outcome": _OUTCOME,
    "duration_ms": _COUNT,
}
_LINE = object_of({**_OF_BOTH, "account": _MAY_TEXT, "label": _MAY_TEXT, "attempts": _COUNT, "sentence": _TEXT})
_ROUTE = object_of(
    {
        "model": _TEXT,
        "count": _COUNT,
        "tiers": {"type": "array", "items": object_of({"priority": {"type": "integer"}, "count": _COUNT})},
    }
)
_PASSED = object_of(
    {
        "account": _TEXT,
        "label": _TEXT,
        "model": _MAY_TEXT,
        "cause": _TEXT,
        "scope": _TEXT,
        "until": _MAY_TEXT,
        "is_soft": _FLAG,
        "text": _TEXT,
    }
)
_ATTEMPT = object_of(
    {
        "account": _TEXT,
        "label": _TEXT,
        "provider": _TEXT,
        "model": _TEXT,
        "began": _TEXT,
        "waited_ms": _COUNT,
        "first_content_ms": _MAY_COUNT,
        "outcome": {"enum": ["answered", "failed", "unfinished", "not-asked"]},
        "status": _MAY_COUNT,
        "fault": _MAY_TEXT,
        "scope": _MAY_TEXT,
        "wait": _MAY_NUMBER,
        "source": _MAY_TEXT,
        "evidence": _TEXT,
        "why": _TEXT,
        "chosen": _TEXT,
        "is_probe": _FLAG,
        "has_session": _FLAG,
        "losses": {"type": "array", "items": object_of({"path": _TEXT, "action": _TEXT, "reason": _TEXT})},
        "text": _TEXT,
        "means": _TEXT,
    }
)
_STORY = object_of(
    {
        **_OF_BOTH,
        "summary": _TEXT,
        "candidates": {"anyOf": [_ROUTE, {"type": "null"}]},
        "fallbacks": {"type": "array", "items": _ROUTE},
        "passed_over": {"type": "array", "items": _PASSED},
        "attempts": {"type": "array", "items": _ATTEMPT},
        "waits": {"type": "array", "items": {"type": "number"}},
        "timings": object_of(
            dict.fromkeys(("gateway_ms", "upstream_ms", "retries_ms", "waits_ms", "total_ms"), _COUNT)
        ),
        "problem": {
            "anyOf": [
                object_of({"kind": _TEXT, "status": _COUNT, "code": _TEXT, "retry_after": _MAY_NUMBER, "text": _TEXT}),
                {"type": "null"},
            ]
        },
    }
)

ROWS: tuple[Row, ...] = (
    Row(
        path="/requests",
        tag="Requests",
        operations={
            "GET": Operation(
                handle=_list,
                summary="Show what became of the newest requests, newest first; nothing of prompts or answers is kept",
                parameters=(
                    Parameter(
                        name="limit",
                        what=f"how many at most: {_USUAL} when it is not there, {_MOST} at most",
                        schema={"type": "integer", "minimum": 1},
                    ),
                    Parameter(
                        name="after", what="the `number` or id of the last one seen: older ones follow; see `next`"
                    ),
                    Parameter(name="account", what="only those for which this account was asked: its id or label"),
                    Parameter(name="model", what="only those of this model, as it was asked for or as it was served"),
                    Parameter(name="status", what="only those whose caller was told this", schema={"type": "integer"}),
                    Parameter(name="failed", what="`true` for those only that failed", schema=_FLAG),
                    Parameter(
                        name="text",
                        what="only those with this text in id, models, accounts or sentence, whatever its letter case",
                    ),
                ),
                answers={200: object_of({"requests": {"type": "array", "items": _LINE}, "next": _MAY_COUNT})},
                refusals={
                    400: "`invalid limit: ...` or `invalid status: ...`",
                    404: "The request that `after` names is not kept.",
                },
            )
        },
    ),
    Row(
        path="/requests/{id}",
        tag="Requests",
        operations={
            "GET": Operation(
                handle=_one,
                summary="Explain one request by its `x-request-id`: who could serve it, who was passed over and why, who"
                " was asked and what came of it. `summary` has it in a few sentences; with `Accept: text/plain` they are"
                " all",
                parameters=(Parameter(name="format", what="`text` for the sentences alone"),),
                answers={200: _STORY},
                refusals={404: f"`{_GONE}`"},
            )
        },
    ),
)
