"""What a credential file says about its account, changed from outside: one member, or several at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

import msgspec
from msgspec import Raw, Struct
from msgspec.json import Decoder

from cliproxy.canon.errors import Conflict, InvalidRequest, NotFound
from cliproxy.config import rules
from cliproxy.gateway.plane import Plane
from cliproxy.server.management.auth_files import NAME, STALE_FILE, settled, worded
from cliproxy.server.management.base import DONE, OK, Answer, Asked, Operation, Row, Schema, told
from cliproxy.stores.auth_files import AuthFiles, BadName, checked
from cliproxy.stores.auth_listing import index_of
from cliproxy.wire import json_edits
from cliproxy.wire.json_edits import BadJson, Path

MOST_FIELDS = 100
MOST_LEVELS = 10
MOST_NAME_LENGTH = 200


class _Status(Struct, frozen=True):
    name: str | None = None
    auth_index: str | None = None
    disabled: bool | None = None


_STATUS = Decoder(_Status, strict=True)
_FIELDS = Decoder(dict[str, Raw])
_TEXT = Decoder(str | None)
_ANY = Decoder()
_WHICH = ("name", "auth_index")
_REMOVED_BY_NULL = frozenset({"weight", "request_retry"})
_MOST_WEIGHT = 1_000_000
_MOST = 2**63 - 1


class _Headers(Struct, frozen=True):
    headers: dict[str, object] | None = None


_FILE_HEADERS = Decoder(_Headers)

Change = tuple[Path, object]
"""What is set where; None removes, a null is `Raw`."""


async def _set_status(plane: Plane, asked: Asked) -> Answer:
    try:
        wanted = _STATUS.decode(await asked.body())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest("invalid request body") from error
    name = _account_file(wanted.name, wanted.auth_index)
    if wanted.disabled is None:
        raise InvalidRequest("disabled is required")
    await _rewrite(plane.auth_files, asked, name, [(("disabled",), wanted.disabled)])
    return told({"status": "ok", "disabled": wanted.disabled})


async def _set_fields(plane: Plane, asked: Asked) -> Answer:
    try:
        fields = _FIELDS.decode(await asked.body())
        name, index = [None if (raw := fields.pop(key, None)) is None else _TEXT.decode(raw) for key in _WHICH]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest("invalid request body") from error
    name = _account_file(name, index)
    if not fields:
        raise InvalidRequest("no fields to update")
    changes = [change for field, raw in fields.items() for change in _changes(field, raw)]
    if len(changes) > MOST_FIELDS:
        raise InvalidRequest(f"more than {MOST_FIELDS} fields to update")
    await _rewrite(plane.auth_files, asked, name, changes)
    return OK


def _account_file(name: str | None, index: str | None) -> str:
    """The file that is meant. Raises NotFound for a name that no file can have: there is none then."""
    name = (name or "").strip(" ")
    if not name:
        raise InvalidRequest("name is required")
    try:
        checked(name)
    except BadName as error:
        raise NotFound("auth file not found") from error
    if index and index != index_of(name):
        raise NotFound("auth file not found")
    return name


def _changes(field: str, raw: Raw) -> list[Change]:
    """What one member of the body asks for. A dot in its name leads into an object."""
    head, dot, rest = field.partition(".")
    path = field.split(".")
    if "" in path or len(path) > MOST_LEVELS or len(field) > MOST_NAME_LENGTH:
        raise InvalidRequest("the name of a field is empty, too long or too deep")
    value = _value(field, raw)
    if head == "headers" and (dot or value is not None):
        return _header_changes({rest: value} if dot else value)
    rule = _RULES.get(head)
    if rule is not None and dot:
        raise InvalidRequest(f"`{head}` has no members")
    if rule is not None and value is not None and (problem := rule(value)):
        raise InvalidRequest(f"`{field}`: {problem}")
    return [(tuple(path), None if value is None and field in _REMOVED_BY_NULL else raw)]


def _value(field: str, raw: Raw) -> object:
    try:
        return _ANY.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"`{field}`: not a value that can be stored") from error


def _header_changes(value: object) -> list[Change]:
    """An empty value, or null, removes the header."""
    try:
        headers = msgspec.convert(value, dict[str, str | None])
    except msgspec.ValidationError as error:
        raise InvalidRequest("`headers`: must be an object of texts") from error
    changes: list[Change] = []
    for name, text in headers.items():
        if problem := rules.header_name(name):
            raise InvalidRequest(f"a name in `headers`: {problem}")
        if problem := rules.header_value(text or ""):
            raise InvalidRequest(f"`headers.{name}`: {problem}")
        changes.append((("headers", name), text or None))
    return changes


def _text(rule: Callable[[str], str]) -> Callable[[object], str]:
    return lambda value: rule(value) if isinstance(value, str) else "must be a text"


def _whole_number(least: int, most: int) -> Callable[[object], str]:
    def rule(value: object) -> str:
        if isinstance(value, bool) or not isinstance(value, int):
            return "must be a whole number"
        return "" if least <= value <= most else f"must be between {least} and {most}"

    return rule


def _yes_or_no(value: object) -> str:
    return "" if isinstance(value, bool) else "must be true or false"


def _moment(text: str) -> str:
    """RFC 3339 with a zone, or empty."""
    try:
        is_moment = not text or datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        is_moment = False
    return "" if is_moment else "must be a time such as `2026-01-31T12:00:00Z`"


_RULES: Mapping[str, Callable[[object], str]] = {
    "prefix": _text(rules.name_prefix),
    "proxy_url": _text(rules.proxy_url),
    "note": _text(lambda _: ""),
    "expired": _text(_moment),
    "priority": _whole_number(-_MOST, _MOST),
    "weight": _whole_number(0, _MOST_WEIGHT),
    "request_retry": _whole_number(0, _MOST),
    "websockets": _yes_or_no,
    "disabled": _yes_or_no,
}
"""What is wrong with a value that is not null; fields without a rule take anything."""


async def _rewrite(files: AuthFiles, asked: Asked, name: str, changes: list[Change]) -> None:
    def edit(text: bytes) -> bytes:
        asked.expect(Answer(200, text))
        try:
            for path, value in changes:
                text = _applied(text, path, value)
            json_edits.check(text)
        except BadJson as error:
            raise InvalidRequest(str(error)) from error
        return text

    try:
        await asyncio.to_thread(files.rewrite, name, edit)
    except FileNotFoundError as error:
        raise NotFound("auth file not found") from error
    except BadJson as error:
        raise Conflict(f"invalid auth file: {error}") from error
    except (OSError, BadName) as error:
        raise worded(error, "write") from error


def _applied(text: bytes, path: Path, value: object) -> bytes:
    """A header is found whatever its letter case; where `headers` is no object, it becomes one."""
    if path[0] == "headers" and len(path) > 1:
        known = _header_names(text)
        if known is None and value is not None:
            text = json_edits.replace(text, ("headers",), {})
        wanted = path[1]
        path = ("headers", next((name for name in known or () if name.lower() == wanted.lower()), wanted))
    return json_edits.remove(text, path) if value is None else json_edits.replace(text, path, value)


def _header_names(text: bytes) -> Iterable[str] | None:
    """None where `headers` is no object."""
    try:
        return _FILE_HEADERS.decode(text).headers
    except msgspec.ValidationError:
        return None


_FIELD_SCHEMAS: Mapping[str, Schema] = {
    "name": NAME,
    "prefix": {"type": "string"},
    "proxy_url": {"type": "string"},
    "headers": {"type": "object", "additionalProperties": {"type": "string"}},
    "priority": {"type": "integer"},
    "weight": {"type": "integer"},
    "note": {"type": "string"},
    "websockets": {"type": "boolean"},
    "disabled": {"type": "boolean"},
    "request_retry": {"type": "integer"},
    "expired": {"type": "string"},
}


ROWS = (
    Row(
        path="/auth-files/status",
        tag="Auth files",
        operations={
            "PATCH": Operation(
                handle=settled(_set_status),
                summary="Take an account out of use, or back into it",
                bodies={
                    "application/json": {
                        "type": "object",
                        "required": ["name", "disabled"],
                        "properties": {
                            "name": NAME,
                            "disabled": {"type": "boolean"},
                            "auth_index": {"type": "string"},
                        },
                    }
                },
                answers={
                    200: {
                        "type": "object",
                        "properties": {"status": {"const": "ok"}, "disabled": {"type": "boolean"}},
                    }
                },
                refusals={
                    400: "`name is required`, `disabled is required`, or `invalid request body`",
                    404: "`auth file not found`",
                    409: "What stands in the file is no JSON object.",
                    412: STALE_FILE,
                },
            )
        },
    ),
    Row(
        path="/auth-files/fields",
        tag="Auth files",
        operations={
            "PATCH": Operation(
                handle=settled(_set_fields),
                summary="Set members of a credential file; all others stay as they are. A dot in a name leads into an"
                " object. `null` is stored, but takes `weight` and `request_retry` away. `headers` are merged; one with"
                " an empty value goes",
                bodies={
                    "application/json": {
                        "type": "object",
                        "required": ["name"],
                        "properties": _FIELD_SCHEMAS,
                        "additionalProperties": True,
                    }
                },
                answers=DONE,
                refusals={
                    400: "`name is required`, `no fields to update`, `invalid request body`, or what is wrong with a field",
                    404: "`auth file not found`",
                    409: "What stands in the file is no JSON object.",
                    412: STALE_FILE,
                },
            )
        },
    ),
)
