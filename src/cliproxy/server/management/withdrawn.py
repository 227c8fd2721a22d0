"""Addresses that panels and scripts of other versions know, where we have nothing to change: each says why, and what to
do instead.

Three kinds of rows. `Fixed` is a setting that has only one value here: it is shown, and setting it to that value is no
error. `Empty` is a list that is always empty: it is shown, and what would add to it is refused. `Gone` is refused
altogether, with 410: that is neither a slip of the pen (404) nor a success that does nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct
from msgspec.json import Decoder

from cliproxy.canon import errors
from cliproxy.canon.errors import InvalidRequest
from cliproxy.gateway.plane import Plane
from cliproxy.server.management.base import DONE, OK, Answer, Asked, Handle, Operation, Row, Schema, told
from cliproxy.stores.request_logs import Bounds

TAG = "Not offered"


class Fixed(Struct, frozen=True, eq=False):
    """`why` says what another value would need, or why there is no other."""

    name: str
    value: bool | int
    why: str


class Empty(Struct, frozen=True, eq=False):
    """`shown` is what GET answers; `writes` are the methods that are refused."""

    path: str
    shown: Mapping[str, object]
    why: str
    writes: tuple[str, ...] = ("PUT", "PATCH", "DELETE")


class Gone(Struct, frozen=True, eq=False):
    path: str
    methods: tuple[str, ...]
    why: str


_LISTED = ("GET", "PUT", "PATCH", "DELETE")
_SCALAR = ("GET", "PUT", "PATCH")
_CLEARED = ("GET", "PUT", "PATCH", "DELETE")

_NO_ACCOUNTS = "this release serves API keys only; leave models out with `excluded-models` of the key's own entry"
_NO_ALIASES = "this release serves API keys only; name models otherwise with `models` of the key's own entry"
_NO_RULES = "what an upstream's error means is decided by a table for each provider, not by rules"
_NO_VERTEX = "Vertex AI is not served; Gemini models are served with keys of `/gemini-api-key`"
_NO_XAI = "add it as an entry of `/openai-compatibility` with the base URL `https://api.x.ai/v1`"
_NO_INTERACTIONS = "Google's Interactions API is not served; Gemini models are served with keys of `/gemini-api-key`"
_NO_PLUGINS = "this gateway loads no plugins"
_NO_PROXYING = (
    "this would let whoever holds the management key send any request through the gateway, with its accounts' "
    "credentials; ask the upstream directly, or see `/api-key-usage`"
)
_NO_AMP = "Amp is not served by this gateway"
_NO_MAPPINGS = "there are no mappings for Amp to be ranked or forced; name models with `models` of each entry"
_NO_SUCH_LOGIN = "this gateway has no accounts of that vendor; use its API key as an entry of `/openai-compatibility`"
_NO_WEB_SESSION = "sessions of web pages are not used; Gemini models are served with keys of `/gemini-api-key`"

_LOGS = Bounds()
_MIB = 1024 * 1024

FIXED: tuple[Fixed, ...] = (
    Fixed("error-logs-max-files", _LOGS.errors, "the newest ones are kept; take others away before they go"),
    Fixed(
        "logs-max-total-size-mb",
        _LOGS.folder_bytes // _MIB,
        "the oldest records of requests go first; what should stay longer is to be copied elsewhere",
    ),
    Fixed("usage-statistics-enabled", True, "usage is always counted: in memory, at no cost worth a switch"),
    Fixed("ws-auth", True, "every address that serves models asks for a key, and WebSocket is not served"),
    Fixed(
        "force-model-prefix", False, "models of an entry with a `prefix` are served with and without it; use an alias"
    ),
)

EMPTY: tuple[Empty, ...] = (
    Empty("/oauth-excluded-models", {"oauth-excluded-models": {}}, _NO_ACCOUNTS),
    Empty("/oauth-model-alias", {"oauth-model-alias": {}}, _NO_ALIASES),
    Empty("/oauth-model-mappings", {"oauth-model-mappings": {}}, _NO_ALIASES),
    Empty("/oauth-request-scoped-errors", {"oauth-request-scoped-errors": {}}, _NO_RULES),
    Empty("/vertex-api-key", {"vertex-api-key": []}, _NO_VERTEX),
    Empty("/xai-api-key", {"xai-api-key": []}, _NO_XAI),
    Empty("/interactions-api-key", {"interactions-api-key": []}, _NO_INTERACTIONS),
    Empty("/plugins", {"plugins": []}, _NO_PLUGINS, ("POST",)),
    Empty("/plugin-store", {"plugins": []}, _NO_PLUGINS, ("POST",)),
)

GONE: tuple[Gone, ...] = (
    Gone("/plugins/{id}", ("GET", "POST", "PUT", "PATCH", "DELETE"), _NO_PLUGINS),
    Gone("/plugin-store/{id}", ("GET", "POST", "PUT", "PATCH", "DELETE"), _NO_PLUGINS),
    Gone("/api-call", ("POST",), _NO_PROXYING),
    Gone("/vertex/import", ("POST",), _NO_VERTEX),
    Gone("/antigravity-auth-url", ("GET",), "Antigravity is not served; Google's models are served with API keys"),
    Gone("/kimi-auth-url", ("GET",), _NO_SUCH_LOGIN),
    Gone("/xai-auth-url", ("GET",), _NO_SUCH_LOGIN),
    Gone("/iflow-auth-url", ("GET", "POST"), _NO_SUCH_LOGIN),
    Gone("/gemini-web-token", ("POST",), _NO_WEB_SESSION),
    Gone("/ampcode", ("GET",), _NO_AMP),
    Gone("/ampcode/upstream-url", _CLEARED, _NO_AMP),
    Gone("/ampcode/upstream-api-key", _CLEARED, _NO_AMP),
    Gone("/ampcode/restrict-management-to-localhost", _SCALAR, _NO_AMP),
    Gone("/ampcode/force-model-mappings", _SCALAR, _NO_AMP),
    Gone("/ampcode/model-mappings", _LISTED, _NO_AMP),
    Gone("/ampcode/upstream-api-keys", _LISTED, _NO_AMP),
    Gone("/force-gpt-5-codex", _SCALAR, "models are never exchanged for others unasked; use an alias of an entry"),
    Gone("/prioritize-model-mappings", _SCALAR, _NO_MAPPINGS),
    Gone("/force-model-mappings", _SCALAR, _NO_MAPPINGS),
    Gone("/keep-alive", ("GET",), "the gateway runs until it is stopped; see `/healthz` for whether it does"),
)


# -- what they answer -------------------------------------------------------------------------------------------------


class _Body(Struct):
    value: bool | int


_BODY = Decoder(_Body)


def _fixed(setting: Fixed) -> Row:
    async def store(_: Plane, asked: Asked) -> Answer:
        value = (await asked.json(_BODY)).value
        if type(value) is not type(setting.value):
            raise InvalidRequest("invalid body")
        if value != setting.value:
            raise InvalidRequest(f"`{setting.name}` cannot be changed: {setting.why}")
        return OK

    value: Schema = {"const": setting.value}
    write = Operation(
        handle=store,
        summary=f"Accept the one value that `{setting.name}` has",
        bodies={"application/json": {"type": "object", "required": ["value"], "properties": {"value": value}}},
        answers=DONE,
        refusals={400: f"Another value: {setting.why}."},
    )
    show = Operation(
        handle=_shown({setting.name: setting.value}),
        summary=f"Show the one value that `{setting.name}` has: {setting.why}",
        answers={200: _object(setting.name, value)},
    )
    return Row(path=f"/{setting.name}", tag=TAG, operations={"GET": show, "PUT": write, "PATCH": write})


def _empty(listed: Empty) -> Row:
    name, value = next(iter(listed.shown.items()))
    show = Operation(
        handle=_shown(listed.shown),
        summary=f"Show that there are none: {listed.why}",
        answers={200: _object(name, {"const": value})},
    )
    refuse = _refused(listed.path, listed.why)
    return Row(path=listed.path, tag=TAG, operations={"GET": show, **dict.fromkeys(listed.writes, refuse)})


def _gone(gone: Gone) -> Row:
    return Row(path=gone.path, tag=TAG, operations=dict.fromkeys(gone.methods, _refused(gone.path, gone.why)))


def _refused(path: str, why: str) -> Operation:
    text = f"{why[0].upper()}{why[1:]}."

    async def refuse(_: Plane, __: Asked) -> Answer:
        raise errors.Gone(f"`{path}` is not offered: {why}")

    return Operation(handle=refuse, summary="Refuse, and say why", refusals={410: text})


def _shown(value: Mapping[str, object]) -> Handle:
    async def show(_: Plane, __: Asked) -> Answer:
        return told(value)

    return show


def _object(name: str, value: Schema) -> Schema:
    return {"type": "object", "required": [name], "properties": {name: value}}


ROWS: tuple[Row, ...] = (*map(_fixed, FIXED), *map(_empty, EMPTY), *map(_gone, GONE))
