"""What panels ask besides the configuration: the version, the models we know, and an end of rests."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from msgspec import Struct
from msgspec.json import Decoder

from cliproxy import __version__
from cliproxy.canon.errors import InvalidRequest, NotFound
from cliproxy.gateway.explaining import is_on
from cliproxy.gateway.plane import Plane
from cliproxy.routing.accounts import Account
from cliproxy.server.management.base import Answer, Asked, Operation, Row, Schema, told
from cliproxy.server.management.roster import members
from cliproxy.stores.auth_listing import index_of
from cliproxy.wire import openai_models

# -- version and models -----------------------------------------------------------------------------------------------

_OWNERS: Mapping[str, str] = {
    "claude": "anthropic",
    "gemini": "google",
    "gemini-cli": "google",
    "vertex": "google",
    "aistudio": "google",
    "codex": "openai",
    "openai": "openai",
    "openai-compatibility": "openai-compatibility",
    "qwen": "qwen",
}
"""Whose models each channel has. An owner of whom we know none by name gives an empty list."""


async def _version(_: Plane, __: Asked) -> Answer:
    """Our own version: we ask nobody which is the newest."""
    return told({"latest-version": f"v{__version__}"})


async def _models(plane: Plane, asked: Asked) -> Answer:
    channel = asked.segment.strip().lower()
    if (owner := _OWNERS.get(channel)) is None:
        raise InvalidRequest("unknown channel")
    rows = plane.runtime.snapshot.rows.values()
    return told({"channel": channel, "models": [openai_models.shown(row) for row in rows if row.owner == owner]})


# -- rests ------------------------------------------------------------------------------------------------------------


class _Reset(Struct, frozen=True):
    auth_index: str | None = None
    id: str | None = None
    all: bool | None = None


_RESET = Decoder(_Reset)


async def _reset(plane: Plane, asked: Asked) -> Answer:
    wanted = await asked.json(_RESET)
    match wanted:
        case _Reset(str(index), None, None):
            return _reset_index(plane, index.strip())
        case _Reset(None, str(name), None):
            member = (await asyncio.to_thread(members, plane)).get(name.strip())
            if member is None:
                raise NotFound("account not found")
            ended, models = _woken(plane, member.id, member.account)
            return told({"status": "ok", "id": member.id, "models": models, "ended": ended})
        case _Reset(None, None, True):
            return _reset_all(plane)
        case _:
            raise InvalidRequest("invalid body")


def _reset_index(plane: Plane, index: str) -> Answer:
    """An account's id, or what lists of credential files call `auth_index`: all accounts of that file."""
    if not index:
        raise InvalidRequest("auth_index is required")
    upstreams, of_files = plane.runtime.snapshot.upstreams, plane.runtime.snapshot.of_files
    meant = [upstreams[index]] if index in upstreams else []
    if not meant:
        meant = [one for name, accounts in of_files.items() if index_of(name) == index for one in accounts]
    if not meant:
        raise NotFound("auth not found")
    woken = [_woken(plane, upstream.account.id, upstream.account) for upstream in meant]
    models = list(dict.fromkeys(model for _, models in woken for model in models))
    return told({"status": "ok", "auth_index": index, "models": models, "ended": sum(ended for ended, _ in woken)})


def _reset_all(plane: Plane) -> Answer:
    upstreams = plane.runtime.snapshot.upstreams
    woken = [_woken(plane, name, upstream.account)[0] for name, upstream in upstreams.items()]
    return told({"status": "ok", "accounts": sum(1 for ended in woken if ended), "ended": sum(woken)})


def _woken(plane: Plane, name: str, account: Account | None) -> tuple[int, list[str]]:
    """How many rests and marks of low allowance were on and are ended, and the models that the account rested for."""
    pool, now = plane.runtime.pool, plane.runtime.monotonic()
    ended = sum(is_on(rest, now) for rest in pool.rests.of(name).values()) + (pool.low_until(name) > now)
    rested = pool.wake(name)
    if "" in rested and account is not None:
        return ended, [served.name for served in account.serves]
    return ended, sorted(rested - {""})


# -- rows -------------------------------------------------------------------------------------------------------------

_TEXT: Schema = {"type": "string"}
_MODEL_SCHEMA: Schema = {
    "type": "object",
    "required": ["id"],
    "properties": {
        "id": _TEXT,
        "object": {"const": "model"},
        "created": {"type": "integer"},
        "owned_by": _TEXT,
        "display_name": _TEXT,
        "context_length": {"type": "integer"},
        "max_completion_tokens": {"type": "integer"},
    },
}

ROWS: tuple[Row, ...] = (
    Row(
        path="/latest-version",
        tag="About",
        operations={
            "GET": Operation(
                handle=_version,
                summary="Show the version that runs; no feed of releases is asked",
                answers={
                    200: {"type": "object", "required": ["latest-version"], "properties": {"latest-version": _TEXT}}
                },
            )
        },
    ),
    Row(
        path="/model-definitions/{channel}",
        tag="About",
        operations={
            "GET": Operation(
                handle=_models,
                summary=f"Show the models known by name of one channel: {', '.join(f'`{name}`' for name in _OWNERS)}",
                answers={
                    200: {
                        "type": "object",
                        "required": ["channel", "models"],
                        "properties": {"channel": _TEXT, "models": {"type": "array", "items": _MODEL_SCHEMA}},
                    }
                },
                refusals={400: "`unknown channel`."},
            )
        },
    ),
    Row(
        path="/reset-quota",
        tag="Accounts",
        operations={
            "POST": Operation(
                handle=_reset,
                summary="End all rests of an account at once, those that its vendor's suspension began too, so that it is"
                " asked again. By `auth_index` (of a credential file, or an account's id), by `id`, or `all`. `models` are"
                " those it rested for, `ended` how many rests and marks were on",
                bodies={
                    "application/json": {
                        "type": "object",
                        "properties": {"auth_index": _TEXT, "id": _TEXT, "all": {"const": True}},
                        "minProperties": 1,
                        "maxProperties": 1,
                    }
                },
                answers={
                    200: {
                        "type": "object",
                        "required": ["status", "ended"],
                        "properties": {
                            "status": {"const": "ok"},
                            "auth_index": _TEXT,
                            "id": _TEXT,
                            "models": {"type": "array", "items": _TEXT},
                            "accounts": {"type": "integer"},
                            "ended": {"type": "integer"},
                        },
                    }
                },
                refusals={400: "The body is not as described.", 404: "`auth not found`, or `account not found`."},
            )
        },
    ),
)
