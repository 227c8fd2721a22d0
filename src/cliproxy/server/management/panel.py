"""What panels ask besides the configuration: the version, the models we know, and an end of rests."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct
from msgspec.json import Decoder

from cliproxy import __version__
from cliproxy.canon.errors import InvalidRequest, NotFound
from cliproxy.gateway.plane import Plane
from cliproxy.server.management.base import Answer, Asked, Operation, Row, Schema, told
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


class _Reset(Struct):
    auth_index: str


_RESET = Decoder(_Reset)


async def _reset(plane: Plane, asked: Asked) -> Answer:
    account = (await asked.json(_RESET)).auth_index.strip()
    if not account:
        raise InvalidRequest("auth_index is required")
    runtime = plane.runtime
    if (upstream := runtime.snapshot.upstreams.get(account)) is None:
        raise NotFound("auth not found")
    rested = runtime.pool.wake(account)
    models = [served.name for served in upstream.account.serves] if "" in rested else sorted(rested)
    return told({"status": "ok", "auth_index": account, "models": models})


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
                summary="Let an account that rests be asked again at once; `models` are those it rested for",
                bodies={
                    "application/json": {
                        "type": "object",
                        "required": ["auth_index"],
                        "properties": {"auth_index": _TEXT},
                    }
                },
                answers={
                    200: {
                        "type": "object",
                        "required": ["status", "auth_index", "models"],
                        "properties": {
                            "status": {"const": "ok"},
                            "auth_index": _TEXT,
                            "models": {"type": "array", "items": _TEXT},
                        },
                    }
                },
                refusals={400: "The body is not as described.", 404: "`auth not found`."},
            )
        },
    ),
)
