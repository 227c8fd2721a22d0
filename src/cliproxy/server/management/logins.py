"""Logins: begin one, see how it stands, finish it from a pasted address, cancel it.

Answers have the words that the Go program's panel knows; where there is more to tell, it stands in members beside them:
`detail` why it failed, `phase` that the vendor is being asked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec import Struct
from msgspec.json import Decoder

from cliproxy.canon.errors import CallerFault, InvalidRequest
from cliproxy.gateway.logins import MOST_RUNNING
from cliproxy.gateway.plane import Plane
from cliproxy.oauth.callback import Callback
from cliproxy.providers.accounts import CodeLogin, DeviceLogin, Login
from cliproxy.providers.logins.registry import login_named
from cliproxy.server.management.base import OK, Answer, Asked, Operation, Parameter, Row, Schema, told
from cliproxy.wire.secrets import Secret

_STATE = re.compile(r"(?!.*\.\.)[A-Za-z0-9_.-]{1,128}")


class _Returned(Struct):
    """The address that a browser ended at, or what stood in it."""

    provider: str | None = None
    redirect_url: str | None = None
    code: str | None = None
    state: str | None = None
    error: str | None = None


_RETURNED = Decoder(_Returned)


# -- beginning


async def _begin(login: Login, plane: Plane, asked: Asked) -> Answer:
    begun = await plane.logins.begin(login, (asked.first("project_id") or "").strip())
    answer: dict[str, object] = {"status": "ok", "url": begun.url, "state": begun.state}
    if isinstance(login, DeviceLogin):
        answer |= {"flow": "device", "user_code": begun.user_code, "expires_in": int(begun.expires_in)}
    return told(answer)


# -- how it stands


async def _status(plane: Plane, asked: Asked) -> Answer:
    state = (asked.first("state") or "").strip()
    if not state:
        return OK
    if not _STATE.fullmatch(state):
        return _failed("invalid state", 400)
    status = plane.logins.status(state)
    if status is None:
        return _failed("unknown or expired state", 200)
    match status.phase:
        case "done":
            return OK
        case "pending":
            return told({"status": "wait"})
        case "exchanging":
            return told({"status": "wait", "phase": "exchanging"})
        case _:
            detail = {"detail": status.detail} if status.detail else {}
            return told({"status": "error", "error": status.problem, **detail})


# -- finishing


async def _finish_pasted(plane: Plane, asked: Asked) -> Answer:
    try:
        returned = _RETURNED.decode(await asked.body())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _failed("invalid body", 400)
    return _finish(plane, returned)


async def _finish_redirected(plane: Plane, asked: Asked) -> Answer:
    return _finish(plane, _Returned(**{name: asked.first(name) for name in _Returned.__struct_fields__}))


def _finish(plane: Plane, returned: _Returned) -> Answer:
    try:
        login, callback = _callback(returned)
        plane.logins.accept(login.channel, callback)
    except CallerFault as error:
        return _failed(error.problem.message, error.problem.status)
    return OK


def _callback(returned: _Returned) -> tuple[CodeLogin, Callback]:
    """What stands in the body wins over what stands in the address. Raises InvalidRequest."""
    pasted = _query_of((returned.redirect_url or "").strip())

    def part(name: str, given: str | None = None) -> str:
        return (given or "").strip() or pasted.get(name, [""])[0].strip()

    code, _, behind = part("code", returned.code).partition("#")
    state = part("state", returned.state) or behind
    error = part("error", returned.error)
    if not state:
        raise InvalidRequest("state is required")
    if not _STATE.fullmatch(state):
        raise InvalidRequest("invalid state")
    if not code and not error:
        raise InvalidRequest("code or error is required")
    login = login_named(returned.provider or "")
    if login is None or isinstance(login, DeviceLogin):
        raise InvalidRequest("unsupported provider")
    return login, Callback(Secret(code), state, error, part("error_description"))


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


# -- cancelling


async def _cancel(plane: Plane, asked: Asked) -> Answer:
    state = (asked.first("state") or "").strip()
    if not state:
        raise InvalidRequest("missing state")
    if not _STATE.fullmatch(state):
        raise InvalidRequest("invalid state")
    return told({"status": "ok", "cancelled": plane.logins.cancel(state)})


def _failed(text: str, status: int) -> Answer:
    return told({"status": "error", "error": text}, status)


# -- rows -------------------------------------------------------------------------------------------------------------

_TEXT: Schema = {"type": "string"}
_BEGUN: Mapping[str, Schema] = {"status": {"const": "ok"}, "url": _TEXT, "state": _TEXT}
_DEVICE: Mapping[str, Schema] = {"flow": {"const": "device"}, "user_code": _TEXT, "expires_in": {"type": "integer"}}
_STATUS_SCHEMA: Schema = {
    "type": "object",
    "required": ["status"],
    "properties": {
        "status": {"enum": ["ok", "wait", "error"]},
        "error": _TEXT,
        "detail": _TEXT,
        "phase": {"const": "exchanging"},
    },
}
_RETURNED_SCHEMA: Schema = {
    "type": "object",
    "required": ["provider"],
    "properties": dict.fromkeys(_Returned.__struct_fields__, _TEXT),
    "description": "`redirect_url`, or `state` with `code` or `error`",
}
_STATE_PARAMETER = Parameter(name="state", what="the handle of the login", is_required=True)
_IS_WEBUI = Parameter(name="is_webui", what="taken and ignored: the vendor's port is listened on in any case")
_PROJECT = Parameter(
    name="project_id",
    what="the Google Cloud project, several with commas, or `ALL`; without it Google assigns one",
)
_RETURNED_REFUSALS: Mapping[int, str] = {
    400: "Something is missing, malformed, or does not fit the login.",
    404: "`unknown or expired state`.",
    409: "The login waits for no callback any more; the text says why.",
}


def _login(path: str, name: str, what: str, *parameters: Parameter) -> Row:
    login = login_named(name)
    assert login is not None
    members: Mapping[str, Schema] = _BEGUN
    refusals = {
        429: f"{MOST_RUNNING} logins are under way.",
        501: "This gateway keeps no accounts, so there are no logins.",
    }
    if isinstance(login, DeviceLogin):
        members = {**_BEGUN, **_DEVICE}
        refusals[502] = "`failed to generate authorization url`: the vendor gave none; the log says why."
    else:
        refusals[500] = "`failed to start callback server`: another program has the port; the log names it."
    operation = Operation(
        handle=partial(_begin, login),
        summary=f"Begin a login with {what}: somebody has to open `url`",
        parameters=(*parameters, _IS_WEBUI),
        answers={200: {"type": "object", "required": list(members), "properties": members}},
        refusals=dict(sorted(refusals.items())),
    )
    return Row(path=path, tag="Logins", operations={"GET": operation})


ROWS: tuple[Row, ...] = (
    _login("/anthropic-auth-url", "claude", "Anthropic"),
    _login("/codex-auth-url", "codex", "OpenAI"),
    _login("/gemini-cli-auth-url", "gemini", "Google", _PROJECT),
    _login("/qwen-auth-url", "qwen", "Qwen"),
    Row(
        path="/get-auth-status",
        tag="Logins",
        operations={
            "GET": Operation(
                handle=_status,
                summary="Show how a login stands: an end that was good is known for a minute, a bad one for 30",
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
