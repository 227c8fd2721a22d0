"""What panels ask besides the configuration: the version, the models we know, logins under way, and an end of rests."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec import Struct
from msgspec.json import Decoder

from cliproxy import __version__
from cliproxy.canon.errors import CallerFault, InvalidRequest, NotFound, Unsupported
from cliproxy.canon.models import ModelEntry
from cliproxy.gateway.logins import Callback
from cliproxy.gateway.plane import Plane
from cliproxy.server.management.base import OK, Answer, Asked, Operation, Parameter, Row, Schema, told

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
    return told({"channel": channel, "models": [_model(row) for row in rows if row.owner == owner]})


def _model(row: ModelEntry) -> dict[str, object]:
    shown: dict[str, object] = {
        "id": row.id,
        "object": "model",
        "created": row.created,
        "owned_by": row.owner,
        "display_name": row.display_name,
    }
    if row.context:
        shown["context_length"] = row.context
    if row.max_output:
        shown["max_completion_tokens"] = row.max_output
    return shown


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


# -- logins -----------------------------------------------------------------------------------------------------------

_PROVIDERS: Mapping[str, str] = {
    "anthropic": "claude",
    "claude": "claude",
    "codex": "codex",
    "openai": "codex",
    "gemini": "gemini-cli",
    "gemini-cli": "gemini-cli",
    "google": "gemini-cli",
}
_STATE = re.compile(r"(?!.*\.\.)[A-Za-z0-9_.-]{1,128}")


class _Returned(Struct):
    """The address that a browser ended at, or what stood in it."""

    provider: str | None = None
    redirect_url: str | None = None
    code: str | None = None
    state: str | None = None
    error: str | None = None


_RETURNED = Decoder(_Returned)


async def _status(plane: Plane, asked: Asked) -> Answer:
    state = (asked.first("state") or "").strip()
    if not state:
        return OK
    if not _STATE.fullmatch(state):
        return _failed("invalid state", 400)
    status = plane.logins.status(state)
    if status is None:
        return _failed("unknown or expired state", 200)
    if status.problem:
        return _failed(status.problem, 200)
    return told({"status": "wait"}) if status.is_pending else OK


async def _finish_pasted(plane: Plane, asked: Asked) -> Answer:
    try:
        returned = _RETURNED.decode(await asked.body())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _failed("invalid body", 400)
    return await _finish(plane, returned)


async def _finish_redirected(plane: Plane, asked: Asked) -> Answer:
    return await _finish(plane, _Returned(**{name: asked.first(name) for name in _Returned.__struct_fields__}))


async def _finish(plane: Plane, returned: _Returned) -> Answer:
    try:
        await plane.logins.finish(_callback(returned))
    except CallerFault as error:
        return _failed(error.problem.message, error.problem.status)
    return OK


def _callback(returned: _Returned) -> Callback:
    """What stands in the body wins over what stands in the address. Raises InvalidRequest."""
    pasted = _query_of((returned.redirect_url or "").strip())
    state, code, error = (
        (given or "").strip() or pasted.get(name, [""])[0].strip()
        for name, given in (("state", returned.state), ("code", returned.code), ("error", returned.error))
    )
    if not state:
        raise InvalidRequest("state is required")
    if not _STATE.fullmatch(state):
        raise InvalidRequest("invalid state")
    if not code and not error:
        raise InvalidRequest("code or error is required")
    if (provider := _PROVIDERS.get((returned.provider or "").strip().lower())) is None:
        raise InvalidRequest("unsupported provider")
    return Callback(provider, state, code, error)


def _query_of(address: str) -> Mapping[str, list[str]]:
    if not address:
        return {}
    try:
        parts = urlsplit(address)
    except ValueError as error:
        raise InvalidRequest("invalid redirect_url") from error
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise InvalidRequest("invalid redirect_url")
    return parse_qs(parts.query)


async def _cancel(plane: Plane, asked: Asked) -> Answer:
    state = (asked.first("state") or "").strip()
    if not state:
        raise InvalidRequest("missing state")
    if not _STATE.fullmatch(state):
        raise InvalidRequest("invalid state")
    return told({"status": "ok", "cancelled": plane.logins.cancel(state)})


def _failed(text: str, status: int) -> Answer:
    return told({"status": "error", "error": text}, status)


async def _begin(_: Plane, __: Asked) -> Answer:
    raise Unsupported(
        "logins by browser come with a later release; until then add an API key of the vendor: see `/claude-api-key`, "
        "`/codex-api-key`, `/gemini-api-key` and `/openai-compatibility`"
    )


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
_STATUS_SCHEMA: Schema = {
    "type": "object",
    "required": ["status"],
    "properties": {"status": {"enum": ["ok", "wait", "error"]}, "error": _TEXT},
}
_RETURNED_SCHEMA: Schema = {
    "type": "object",
    "required": ["provider"],
    "properties": dict.fromkeys(_Returned.__struct_fields__, _TEXT),
    "description": "`redirect_url`, or `state` with `code` or `error`",
}
_STATE_PARAMETER = Parameter(name="state", what="the handle of the login", is_required=True)
_RETURNED_REFUSALS: Mapping[int, str] = {
    400: "Something is missing, malformed, or does not fit the login.",
    404: "`unknown or expired state`.",
    409: "The login has ended already.",
}


def _login(name: str, what: str) -> Row:
    operation = Operation(
        handle=_begin,
        summary=f"Begin a login with {what}",
        refusals={501: "This release has no logins by browser: use API keys."},
    )
    return Row(path=f"/{name}-auth-url", tag="Logins", operations={"GET": operation})


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
    _login("anthropic", "Anthropic"),
    _login("codex", "OpenAI"),
    _login("gemini-cli", "Google"),
    _login("qwen", "Qwen"),
    Row(
        path="/get-auth-status",
        tag="Logins",
        operations={
            "GET": Operation(
                handle=_status,
                summary="Show how a login stands",
                parameters=(Parameter(name="state", what="the handle of the login; `ok` without one"),),
                answers={200: _STATUS_SCHEMA},
                refusals={400: "`invalid state`."},
            )
        },
    ),
    Row(
        path="/oauth-callback",
        tag="Logins",
        operations={
            "GET": Operation(
                handle=_finish_redirected,
                summary="Finish a login: where the vendor sends the browser. Needs no key, the state is the secret",
                parameters=tuple(
                    Parameter(name=name, what=what)
                    for name, what in (
                        ("provider", "`anthropic`, `codex` or `gemini`"),
                        ("state", "the handle of the login"),
                        ("code", "what the vendor gave"),
                        ("error", "why the vendor gave none"),
                        ("redirect_url", "the whole address, in place of the three above"),
                    )
                ),
                answers={200: _STATUS_SCHEMA},
                refusals=_RETURNED_REFUSALS,
                is_open=True,
            ),
            "POST": Operation(
                handle=_finish_pasted,
                summary="Finish a login from the address that the browser ended at",
                bodies={"application/json": _RETURNED_SCHEMA},
                answers={200: _STATUS_SCHEMA},
                refusals=_RETURNED_REFUSALS,
            ),
        },
    ),
    Row(
        path="/oauth-session",
        tag="Logins",
        operations={
            "DELETE": Operation(
                handle=_cancel,
                summary="Cancel a login",
                parameters=(_STATE_PARAMETER,),
                answers={
                    200: {
                        "type": "object",
                        "required": ["status", "cancelled"],
                        "properties": {"status": {"const": "ok"}, "cancelled": {"type": "boolean"}},
                    }
                },
                refusals={400: "`missing state` or `invalid state`."},
            )
        },
    ),
)
