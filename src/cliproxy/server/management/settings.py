"""Settings of one value each: `GET` shows one, `PUT` and `PATCH` take `{"value": ...}`."""

from __future__ import annotations

from msgspec import Struct
from msgspec.json import Decoder

from cliproxy.config.editing import Draft
from cliproxy.config.schema import Config
from cliproxy.gateway.plane import Plane
from cliproxy.server.management.base import OK, Answer, Asked, Operation, Row, told


class _Bool(Struct):
    value: bool


_BOOL = Decoder(_Bool, strict=True)


async def _show_debug(plane: Plane, _: Asked) -> Answer:
    return told({"debug": plane.desk.config.debug})


async def _set_debug(plane: Plane, asked: Asked) -> Answer:
    body = await asked.json(_BOOL)

    def edit(draft: Draft, config: Config) -> None:
        asked.expect(told({"debug": config.debug}))
        if config.debug != body.value:
            draft.set(("debug",), body.value)

    await plane.desk.change(edit)
    return OK


ROWS = (
    Row(
        path="/debug",
        tag="Settings",
        operations={
            "GET": Operation(handle=_show_debug, summary="Whether debug lines are logged"),
            "PUT": Operation(handle=_set_debug, summary="Switch debug lines on or off"),
            "PATCH": Operation(handle=_set_debug, summary="Switch debug lines on or off"),
        },
    ),
)
