"""Accounts and how it stands with them: a list, one of them, and the operator's switch.

Ten thousand accounts are no reason to hold up requests: who they are is found out in a thread, only the entries of the
page are built, and between a few dozen of them everybody else has a turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from fnmatch import fnmatchcase
from functools import partial
from typing import Literal, TypeVar

from msgspec import Struct, structs
from msgspec.json import Decoder

from cliproxy.canon.errors import Conflict, InvalidRequest, NotFound
from cliproxy.config.editing import Draft
from cliproxy.config.schema import Config, UpstreamEntry
from cliproxy.gateway.explaining import (
    STATES,
    Allowance,
    Clock,
    Cooldown,
    Facts,
    State,
    allowances_of,
    health_of,
    rfc3339,
    state_of,
)
from cliproxy.gateway.plane import Plane
from cliproxy.routing.accounts import Account, Served
from cliproxy.routing.catalog import Candidate
from cliproxy.routing.turns import LOW
from cliproxy.server.management import shelves
from cliproxy.server.management.auth_files import worded
from cliproxy.server.management.base import Answer, Asked, Operation, Parameter, Row, Schema, told
from cliproxy.server.management.roster import Member, Place, key_of, members, problem_of
from cliproxy.server.management.shelves import Shelf
from cliproxy.stores.auth_files import BadName
from cliproxy.wire import json_edits
from cliproxy.wire.json_edits import BadJson

_USUAL, _MOST = 100, 1_000
_AT_ONCE = 50
"""So many entries are built, and ten times as many states looked at, before others have a turn."""

_E = TypeVar("_E", bound=UpstreamEntry)


class Shown(Struct, frozen=True, kw_only=True):
    id: str
    provider: str
    label: str
    source: str
    email: str | None
    plan: str | None
    note: str | None
    priority: int
    weight: int
    prefix: str | None
    models: int
    state: State
    state_text: str
    until: str | None
    resets_in: float | None
    in_flight: int
    cooldowns: list[Cooldown]
    limits: list[Allowance]
    low: bool
    low_until: str | None
    success: int
    failed: int
    last_refresh: str | None
    next_refresh: str | None
    disabled: bool
    disabled_by: Literal["operator", "vendor"] | None


class ModelShown(Struct, frozen=True, kw_only=True):
    """`model` is what callers say, `served_model` what the vendor is told."""

    model: str
    served_model: str
    state: State
    text: str
    until: str | None
    resets_in: float | None


# -- reading ----------------------------------------------------------------------------------------------------------


async def _list(plane: Plane, asked: Asked) -> Answer:
    limit = page_size(asked, _USUAL, _MOST)
    state = asked.first("state") or None
    if state is not None and state not in STATES:
        raise InvalidRequest(f"invalid state: it is none of {', '.join(STATES)}")
    found = await asyncio.to_thread(_found, plane, asked)
    if state is not None:
        found = [member async for member in _in_turn(found, 10 * _AT_ONCE) if _state(plane, member) == state]
    after = asked.first("after") or ""
    rest = [member for member in found if member.id > after] if after else found
    shown = [_shown(plane, member) async for member in _in_turn(rest[:limit], _AT_ONCE)]
    following = rest[limit - 1].id if len(rest) > limit else None
    return told({"accounts": shown, "total": len(found), "next": following})


def page_size(asked: Asked, usual: int, most: int) -> int:
    """How many are wanted; a number beyond `most` is `most`. Raises InvalidRequest."""
    text = (asked.first("limit") or "").strip()
    if not text:
        return usual
    if not (text.isascii() and text.isdigit() and (count := int(text[:20])) > 0):
        raise InvalidRequest("invalid limit: must be a positive integer")
    return min(count, most)


def _found(plane: Plane, asked: Asked) -> list[Member]:
    """All that the filters but `state` let through, ordered by id: so a page begins at the same place also when the
    account before it is gone."""
    provider, text = asked.first("provider"), (asked.first("text") or "").strip().lower()
    found: Iterable[Member] = members(plane).values()
    if provider:
        found = (member for member in found if member.provider == provider)
    if text:
        found = (member for member in found if text in member.haystack)
    return sorted(found, key=lambda member: member.id)


async def _in_turn(found: list[Member], at_once: int) -> AsyncIterator[Member]:
    for number, member in enumerate(found, 1):
        yield member
        if number % at_once == 0:
            await asyncio.sleep(0)


async def _one(plane: Plane, asked: Asked) -> Answer:
    return told(_in_full(plane, await _member(plane, asked.segment)))


async def _member(plane: Plane, name: str) -> Member:
    member = (await asyncio.to_thread(members, plane)).get(name)
    if member is None:
        raise NotFound("account not found")
    return member


def _in_full(plane: Plane, member: Member) -> dict[str, object]:
    models = [] if member.account is None else [_model(plane, member, one) for one in _served(member.account)]
    return {**structs.asdict(_shown(plane, member)), "serves": models}


def _model(plane: Plane, member: Member, served: Served) -> ModelShown:
    """How it stands with one model: rests of the whole account count, those of other models do not."""
    runtime, facts = plane.runtime, _facts(plane, member)
    clock = Clock(runtime.monotonic(), runtime.epoch())
    low_until = 0.0
    if member.account is not None and not member.is_disabled:
        grade, until = runtime.pool.standing(Candidate(member.account, served.name), clock.now)
        low_until = until if grade == LOW else 0.0
    rests = {model: rest for model, rest in facts.rests.items() if model in ("", served.name)}
    health = health_of(
        structs.replace(facts, models=(served.name,), rests=rests, low_until=low_until, load=0, problem=""), clock
    )
    return ModelShown(
        model=served.public,
        served_model=served.name,
        state=health.state,
        text=health.text,
        until=health.until,
        resets_in=health.resets_in,
    )


def _state(plane: Plane, member: Member) -> State:
    return state_of(_facts(plane, member), plane.runtime.monotonic())


def _facts(plane: Plane, member: Member) -> Facts:
    pool = plane.runtime.pool
    rests = pool.rests.of(member.id)
    problem, is_useless = problem_of(plane.accounts, member)
    return Facts(
        {served.name for served in _served(member.account)} if rests and member.account is not None else (),
        rests,
        pool.low_until(member.id),
        pool.load(member.id),
        member.is_disabled,
        member.is_file,
        problem,
        is_useless,
    )


def _served(account: Account) -> Iterator[Served]:
    """Its models without those that are excluded."""
    for served in account.serves:
        if not any(fnmatchcase(served.public, pattern) for pattern in account.excluded):
            yield served


def _shown(plane: Plane, member: Member) -> Shown:
    runtime, account, file = plane.runtime, member.account, member.file
    clock = Clock(runtime.monotonic(), runtime.epoch())
    facts, limits = _facts(plane, member), runtime.allowances.told(member.id)
    health = health_of(facts, clock, limits)
    is_low = facts.low_until > clock.now
    counted = runtime.usage.accounts.get(member.id)
    renewals = plane.accounts.vault.renewals(member.source) if member.is_file else None
    by: Literal["operator", "vendor"] | None = "vendor" if health.state == "suspended" else None
    return Shown(
        id=member.id,
        provider=member.provider,
        label=member.label,
        source=member.source,
        email=file.email or None if file else None,
        plan=file.plan or None if file else None,
        note=file.note or None if file else None,
        priority=account.priority if account else 0,
        weight=account.weight if account else 1,
        prefix=account.prefix or None if account else None,
        models=sum(1 for _ in _served(account)) if account else 0,
        state=health.state,
        state_text=health.text,
        until=health.until,
        resets_in=health.resets_in,
        in_flight=facts.load,
        cooldowns=health.cooldowns,
        limits=allowances_of(limits),
        low=is_low,
        low_until=rfc3339(clock.at(facts.low_until)) if is_low else None,
        success=counted.success if counted else 0,
        failed=counted.failed if counted else 0,
        last_refresh=rfc3339(renewals.last_at) if renewals and renewals.last_at else None,
        next_refresh=rfc3339(renewals.next_at) if renewals and renewals.next_at else None,
        disabled=member.is_disabled or by is not None,
        disabled_by="operator" if member.is_disabled else by,
    )


# -- the switch -------------------------------------------------------------------------------------------------------


class _Switch(Struct, frozen=True):
    id: str
    disabled: bool


_SWITCH = Decoder(_Switch)


async def _set(plane: Plane, asked: Asked) -> Answer:
    wanted = await asked.json(_SWITCH)
    if asked.header(b"if-match").strip() not in ("", "*"):
        raise InvalidRequest("`If-Match` is not taken here: how it stands with an account changes at any time")
    member = await _member(plane, wanted.id)
    if member.is_file:
        await _set_file(plane, member, is_disabled=wanted.disabled)
    else:
        await plane.desk.change(partial(_set_key, plane, wanted))
    known = (await asyncio.to_thread(members, plane)).values()
    now = next((one for one in known if one.label == member.label), None)  # of doubles, ids may change places
    return told({"status": "ok", "account": None if now is None else _shown(plane, now)})


async def _set_file(plane: Plane, member: Member, *, is_disabled: bool) -> None:
    if member.file is None:
        raise Conflict(f"`{member.source}` holds no account: {member.problem}")
    siblings = plane.runtime.snapshot.of_files.get(member.source, ())
    if len(siblings) > 1:
        raise Conflict(
            f"`{member.source}` holds {len(siblings)} accounts with one switch: use `PATCH /auth-files/status`"
        )

    def edit(text: bytes) -> bytes:
        after = json_edits.replace(text, ("disabled",), is_disabled)
        json_edits.check(after)
        return after

    try:
        await asyncio.to_thread(plane.auth_files.rewrite, member.source, edit)
    except FileNotFoundError as error:
        raise NotFound("account not found") from error
    except BadJson as error:
        raise Conflict(f"invalid auth file: {error}") from error
    except (OSError, BadName) as error:
        raise worded(error, "write") from error
    finally:
        await plane.accounts.look()


def _set_key(plane: Plane, wanted: _Switch, draft: Draft, config: Config) -> None:
    place = key_of(config, plane.runtime, wanted.id)
    match place:
        case None:
            raise NotFound("account not found")
        case Place("gemini-api-key", index) if index >= len(config.gemini_api_key):
            raise Conflict(
                "a plain key under `generative-language-api-key` has no `disabled`. `PATCH /gemini-api-key` with"
                f' {{"index": {index}, "value": {{"disabled": true}}}} makes an entry of it, which has one'
            )
        case Place("gemini-api-key", index):
            _switch(draft, config, shelves.GEMINI_OBJECTS, index, wanted)
        case Place("claude-api-key", index):
            _switch(draft, config, shelves.CLAUDE, index, wanted)
        case Place("codex-api-key", index):
            _switch(draft, config, shelves.CODEX, index, wanted)
        case Place(_, index):
            entry = config.openai_compatibility[index]
            if len(entry.keys) > 1:
                raise Conflict(
                    f"`openai-compatibility[{index}]` holds {len(entry.keys)} keys with one switch: take the key out of"
                    " it, or disable all of them (`PATCH /openai-compatibility`)"
                )
            _switch(draft, config, shelves.COMPATIBLE, index, wanted)


def _switch(draft: Draft, config: Config, shelf: Shelf[_E], index: int, wanted: _Switch) -> None:
    elements = shelf.elements(config)
    element = elements[index]
    elements[index] = element.with_value(structs.replace(element.value, disabled=wanted.disabled))
    shelf.put(draft, config, elements)


# -- the table --------------------------------------------------------------------------------------------------------

_TEXT: Schema = {"type": "string"}
_MAY_TEXT: Schema = {"type": ["string", "null"]}
_MAY_NUMBER: Schema = {"type": ["number", "null"]}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_FLAG: Schema = {"type": "boolean"}
_STATE: Schema = {"enum": list(STATES)}


def object_of(members: dict[str, Schema]) -> Schema:
    """An object that has all of these."""
    return {"type": "object", "required": list(members), "properties": members}


_COOLDOWN = object_of(
    {
        "model": _MAY_TEXT,
        "cause": _TEXT,
        "source": {"enum": ["header", "body", "guess"]},
        "status": {"type": "integer"},
        "evidence": _TEXT,
        "started": _TEXT,
        "until": _MAY_TEXT,
        "resets_in": _MAY_NUMBER,
        "probes": _COUNT,
        "is_probing": _FLAG,
        "is_soft": _FLAG,
        "count": _COUNT,
        "text": _TEXT,
    }
)
_LIMIT = object_of(
    {
        "name": _TEXT,
        "model": _MAY_TEXT,
        "total": _MAY_NUMBER,
        "remaining": _MAY_NUMBER,
        "left_percent": _MAY_NUMBER,
        "resets_at": _MAY_TEXT,
        "told_at": _TEXT,
    }
)
_MEMBERS: dict[str, Schema] = {
    "id": _TEXT,
    "provider": _TEXT,
    "label": _TEXT,
    "source": _TEXT,
    "email": _MAY_TEXT,
    "plan": _MAY_TEXT,
    "note": _MAY_TEXT,
    "priority": {"type": "integer"},
    "weight": _COUNT,
    "prefix": _MAY_TEXT,
    "models": _COUNT,
    "state": _STATE,
    "state_text": _TEXT,
    "until": _MAY_TEXT,
    "resets_in": _MAY_NUMBER,
    "in_flight": _COUNT,
    "cooldowns": {"type": "array", "items": _COOLDOWN},
    "limits": {"type": "array", "items": _LIMIT},
    "low": _FLAG,
    "low_until": _MAY_TEXT,
    "success": _COUNT,
    "failed": _COUNT,
    "last_refresh": _MAY_TEXT,
    "next_refresh": _MAY_TEXT,
    "disabled": _FLAG,
    "disabled_by": {"enum": ["operator", "vendor", None]},
}
_ACCOUNT = object_of(_MEMBERS)
_MODEL = object_of(
    {
        "model": _TEXT,
        "served_model": _TEXT,
        "state": _STATE,
        "text": _TEXT,
        "until": _MAY_TEXT,
        "resets_in": _MAY_NUMBER,
    }
)
_NO_ACCOUNT = "`account not found`"

ROWS: tuple[Row, ...] = (
    Row(
        path="/accounts",
        tag="Accounts",
        operations={
            "GET": Operation(
                handle=_list,
                summary="Show all accounts, keys and credential files alike, and how it stands with each: its state and"
                " why, cool-downs, and what its vendor told of its limits. States: "
                + "; ".join(f"`{state}` {what}" for state, what in STATES.items()),
                parameters=(
                    Parameter(
                        name="limit",
                        what=f"how many at most: {_USUAL} when it is not there, {_MOST} at most",
                        schema={"type": "integer", "minimum": 1},
                    ),
                    Parameter(name="after", what="the id of the last one seen, which is `next` of the page before"),
                    Parameter(name="state", what="only accounts in this state", schema=_STATE),
                    Parameter(name="provider", what="only accounts of this provider"),
                    Parameter(
                        name="text",
                        what="only those with this text in id, label, file name, e-mail, note or prefix, whatever its"
                        " letter case",
                    ),
                ),
                answers={
                    200: object_of(
                        {"accounts": {"type": "array", "items": _ACCOUNT}, "total": _COUNT, "next": _MAY_TEXT}
                    )
                },
                refusals={400: "`invalid limit: ...` or `invalid state: ...`"},
            ),
            "PATCH": Operation(
                handle=_set,
                summary="Take an account out of use, or back into it: in its file, or in its entry of the configuration",
                bodies={"application/json": object_of({"id": _TEXT, "disabled": _FLAG})},
                answers={
                    200: object_of({"status": {"const": "ok"}, "account": {"anyOf": [_ACCOUNT, {"type": "null"}]}})
                },
                refusals={
                    400: "The body is not as described, or `If-Match` was sent.",
                    404: _NO_ACCOUNT,
                    409: "It has no switch of its own: one of several keys, a plain key, one of several projects of a"
                    " file, or a file that holds no account. `error` says what to do instead.",
                },
            ),
        },
    ),
    Row(
        path="/accounts/{id}",
        tag="Accounts",
        operations={
            "GET": Operation(
                handle=_one,
                summary="Show one account, and how it stands with each of its models",
                answers={200: object_of({**_MEMBERS, "serves": {"type": "array", "items": _MODEL}})},
                refusals={404: _NO_ACCOUNT},
            )
        },
    ),
)
