"""Settings of one value each: GET shows one, PUT and PATCH take `{"value": ...}`.

A setting is a line of `SETTINGS`: its place in the file is its path, and the last part of that its name in answers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import get_args

from msgspec import Struct
from msgspec.json import Decoder

from cliproxy.canon.errors import InvalidRequest
from cliproxy.config import rules
from cliproxy.config.editing import Draft
from cliproxy.config.schema import STRATEGY_ALIASES, Config, Count, Strategy
from cliproxy.gateway.plane import Plane
from cliproxy.server.management.base import DONE, OK, STALE, Answer, Asked, Operation, Row, Schema, told

Value = bool | int | float | str


# -- kinds of values: what may be sent, and what is stored ------------------------------------------------------------


class _SwitchBody(Struct):
    value: bool


class _CountBody(Struct):
    value: Count


class _TextBody(Struct):
    value: str


_SWITCH = Decoder(_SwitchBody)
_COUNT = Decoder(_CountBody)
_TEXT = Decoder(_TextBody)
_STRATEGIES: tuple[str, ...] = get_args(Strategy)


class Kind(Struct, frozen=True):
    """`read` gives the value that a request brings, as it is stored. It raises InvalidRequest."""

    read: Callable[[Asked], Awaitable[Value]]
    schema: Schema
    refusal: str = "The body is not as described."


async def _read_switch(asked: Asked) -> bool:
    return (await asked.json(_SWITCH)).value


async def _read_count(asked: Asked) -> int:
    return (await asked.json(_COUNT)).value


async def _read_proxy_url(asked: Asked) -> str:
    address = (await asked.json(_TEXT)).value.strip()
    if rules.proxy_url(address):
        raise InvalidRequest("invalid proxy url")
    return address


async def _read_strategy(asked: Asked) -> str:
    name = (await asked.json(_TEXT)).value.strip().lower()
    strategy = STRATEGY_ALIASES.get(name, name)
    if strategy not in _STRATEGIES:
        raise InvalidRequest("invalid strategy")
    return strategy


SWITCH = Kind(_read_switch, {"type": "boolean"})
COUNT = Kind(_read_count, {"type": "integer", "minimum": 0, "maximum": 2**63 - 1})
PROXY_URL = Kind(
    _read_proxy_url,
    {"type": "string", "description": "http, https, socks5 or socks5h URL; `direct` or `none`; empty for the default"},
    "The body is not as described, or `invalid proxy url`.",
)
STRATEGY = Kind(
    _read_strategy,
    {"type": "string", "description": "`round-robin` (`rr`), `fill-first` (`ff`) or `weighted` (`wrr`)"},
    "The body is not as described, or `invalid strategy`.",
)


# -- the settings -----------------------------------------------------------------------------------------------------


class Setting(Struct, frozen=True, kw_only=True, eq=False):
    """`what` completes "Show ..." and "Set ...". `cleared` is what DELETE sets; None: there is no DELETE. `schema` is
    of what is shown, where that is not the one of `kind`."""

    key: tuple[str, ...]
    what: str
    kind: Kind
    read: Callable[[Config], Value]
    cleared: Value | None = None
    schema: Schema | None = None

    def show(self, config: Config) -> Mapping[str, Value]:
        return {self.key[-1]: self.read(config)}

    @property
    def members(self) -> Mapping[str, Schema]:
        """How what is shown is described."""
        return {self.key[-1]: self.schema or self.kind.schema}


def _interval(config: Config) -> float:
    """Whole seconds are told as what they are; the file may hold `500ms`."""
    seconds = config.max_retry_interval
    return int(seconds) if seconds.is_integer() else seconds


SETTINGS: tuple[Setting, ...] = (
    Setting(key=("debug",), what="whether debug lines are logged", kind=SWITCH, read=lambda config: config.debug),
    Setting(
        key=("request-log",),
        what="whether requests are logged in full",
        kind=SWITCH,
        read=lambda config: config.request_log,
    ),
    Setting(
        key=("logging-to-file",),
        what="whether the log goes to files",
        kind=SWITCH,
        read=lambda config: config.logging_to_file,
    ),
    Setting(
        key=("allow-localhost-unauthenticated",),
        what="whether programs on this machine need no API key",
        kind=SWITCH,
        read=lambda config: config.allow_localhost_unauthenticated,
    ),
    Setting(
        key=("proxy-url",),
        what="the proxy through which upstreams are reached",
        kind=PROXY_URL,
        read=lambda config: config.proxy_url.reveal(),
        cleared="",
    ),
    Setting(
        key=("request-retry",),
        what="how often a failed request is tried again",
        kind=COUNT,
        read=lambda config: config.request_retry,
    ),
    Setting(
        key=("max-retry-credentials",),
        what="how many accounts one request may try; 0 for all",
        kind=COUNT,
        read=lambda config: config.max_retry_credentials,
    ),
    Setting(
        key=("max-retry-interval",),
        what="how many seconds one request may wait for an account",
        kind=COUNT,
        read=_interval,
        schema={"type": "number", "minimum": 0},
    ),
    Setting(
        key=("quota-exceeded", "switch-project"),
        what="whether another project is tried when one is out of quota",
        kind=SWITCH,
        read=lambda config: config.quota_exceeded.switch_project,
    ),
    Setting(
        key=("quota-exceeded", "switch-preview-model"),
        what="whether a preview model is tried when a model is out of quota",
        kind=SWITCH,
        read=lambda config: config.quota_exceeded.switch_preview_model,
    ),
    Setting(
        key=("routing", "strategy"),
        what="how requests are spread over accounts",
        kind=STRATEGY,
        read=lambda config: config.routing.strategy,
        schema={"enum": list(_STRATEGIES)},
    ),
    Setting(
        key=("routing", "session-affinity"),
        what="whether a conversation stays with its account",
        kind=SWITCH,
        read=lambda config: config.routing.session_affinity,
    ),
)


# -- rows -------------------------------------------------------------------------------------------------------------


def row_of(setting: Setting) -> Row:
    async def show(plane: Plane, _: Asked) -> Answer:
        return told(setting.show(plane.desk.config))

    async def store(plane: Plane, asked: Asked) -> Answer:
        return await _store(plane, asked, setting, await setting.kind.read(asked))

    kind = setting.kind
    write = Operation(
        handle=store,
        summary=f"Set {setting.what}",
        bodies={"application/json": {"type": "object", "required": ["value"], "properties": {"value": kind.schema}}},
        answers=DONE,
        refusals={400: kind.refusal, **STALE},
    )
    operations = {
        "GET": Operation(
            handle=show,
            summary=f"Show {setting.what}",
            answers={200: {"type": "object", "required": [*setting.members], "properties": setting.members}},
        ),
        "PUT": write,
        "PATCH": write,
    }
    if setting.cleared is not None:
        operations["DELETE"] = _clear(setting, setting.cleared)
    return Row(path="/" + "/".join(setting.key), tag="Settings", operations=operations)


def _clear(setting: Setting, cleared: Value) -> Operation:
    async def clear(plane: Plane, asked: Asked) -> Answer:
        return await _store(plane, asked, setting, cleared)

    return Operation(handle=clear, summary=f"Clear {setting.what}", answers=DONE, refusals=STALE)


async def _store(plane: Plane, asked: Asked, setting: Setting, value: Value) -> Answer:
    def edit(draft: Draft, config: Config) -> None:
        asked.expect(told(setting.show(config)))
        if setting.read(config) != value:
            draft.set(setting.key, value)

    await plane.desk.change(edit)
    return OK


ROWS: tuple[Row, ...] = tuple(map(row_of, SETTINGS))
