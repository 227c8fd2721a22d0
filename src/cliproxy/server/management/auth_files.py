"""Credential files: list, download, upload, delete, and change what a file says about its account.

`If-Match` on a write is compared with the file itself, under the lock of the folder: its tag is the one that
`/auth-files/download` gives. A write of several files takes none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar
from urllib.parse import quote

import msgspec
from msgspec import Struct, structs
from msgspec.json import Decoder

from cliproxy.canon.errors import (
    GatewayError,
    InvalidRequest,
    NotFound,
    PreconditionFailed,
    SaveFailed,
    TooLarge,
)
from cliproxy.gateway.accounts import Accounts
from cliproxy.gateway.plane import Plane
from cliproxy.gateway.snapshot import Snapshot
from cliproxy.gateway.usage import AccountTally
from cliproxy.server.management.base import OK, Answer, Asked, Handle, Operation, Parameter, Row, Schema, told
from cliproxy.server.management.uploads import Uploaded, files_of, is_form
from cliproxy.stores.auth_files import MOST_BYTES, AuthFiles, BadName, Look, OverSize, checked
from cliproxy.stores.auth_listing import AuthFile, rfc3339
from cliproxy.wire.json_edits import BadJson

FORM_BYTES = 64 * 1024 * 1024
"""All files of one form together."""
MOST_FIELDS = 100

_ALL = frozenset({"true", "1", "*"})

_T = TypeVar("_T")


# -- listing and reading


async def _list(plane: Plane, asked: Asked) -> Answer:
    limit, offset = _count(asked, "limit"), _count(asked, "offset")
    tallies = plane.runtime.usage.accounts

    def work() -> Answer:
        files = _filtered(plane.auth_files.listed(), asked)
        begin = offset or 0
        end = len(files) if limit is None else begin + limit
        shown = [_standing(plane.accounts, tallies, file) for file in files[begin:end]]
        if limit is None and offset is None:
            return told({"files": shown})
        return told({"files": shown, "total": len(files)})

    return await _done("read", work)


def _standing(accounts: Accounts, tallies: Mapping[str, AccountTally], file: AuthFile) -> AuthFile:
    """What is known of a file's account besides what the file says."""
    standing = accounts.standing(file.name)
    renewals = standing.renewals
    if standing.account is None and not standing.problem:
        return file
    counted = [tallies.get(account) for account in standing.accounts]
    return structs.replace(
        file,
        success=sum(tally.success for tally in counted if tally is not None),
        failed=sum(tally.failed for tally in counted if tally is not None),
        status="error" if standing.problem and file.status == "active" else file.status,
        status_message=standing.problem or file.status_message,
        unavailable=renewals.is_dead,
        renewed=rfc3339(renewals.last_at) if renewals.last_at else "",
        next_renewal=rfc3339(renewals.next_at) if renewals.next_at else "",
    )


def _filtered(files: list[AuthFile], asked: Asked) -> list[AuthFile]:
    if (name := asked.first("name")) is not None:
        files = [file for file in files if file.name == name.strip(" ")]
    if (index := asked.first("auth_index")) is not None:
        files = [file for file in files if file.auth_index == index.strip(" ")]
    return files


def _count(asked: Asked, name: str) -> int | None:
    text = asked.first(name)
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InvalidRequest(f"invalid {name}")
    return int(text)


async def _download(plane: Plane, asked: Asked) -> Answer:
    name = _named(asked.first("name"))
    content = await _done("read", partial(plane.auth_files.read, name))
    headers = ((b"content-type", b"application/json"), (b"content-disposition", _disposition(name)))
    return Answer(200, content, headers)


def _disposition(name: str) -> bytes:
    """RFC 6266; the name has neither quotes nor control characters."""
    plain = name.encode("ascii", "replace").replace(b"?", b"_")
    if name.isascii():
        return b'attachment; filename="%b"' % name.encode()
    return b"attachment; filename=\"%b\"; filename*=UTF-8''%b" % (plain, quote(name, safe="").encode())


async def _models(plane: Plane, asked: Asked) -> Answer:
    name = (asked.first("name") or "").strip(" ")
    if not name:
        raise InvalidRequest("name is required")
    return told({"models": models_of(plane.runtime.snapshot, name)})


def models_of(snapshot: Snapshot, name: str) -> list[Mapping[str, str]]:
    """What the accounts of one file serve, by public name."""
    accounts = {account for account, upstream in snapshot.upstreams.items() if upstream.source == name}
    models: list[Mapping[str, str]] = []
    for public, route in sorted(snapshot.catalog.routes.items()) if accounts else ():
        candidate = next((one for one in route.candidates if one.account.id in accounts), None)
        if candidate is not None:
            row = snapshot.rows.get(candidate.model)
            owner = row.owner if row else snapshot.upstreams[candidate.account.id].provider.owner
            models.append({"id": public, "display_name": row.display_name if row else public, "owned_by": owner})
    return models


# -- uploading


async def _upload(plane: Plane, asked: Asked) -> Answer:
    if is_form(asked.header(b"content-type")):
        return await _upload_form(plane.auth_files, asked)
    name = _named(asked.first("name"))
    content = await _content(asked, MOST_BYTES)
    await _done("write", partial(plane.auth_files.save, name, content, _looking(asked)))
    return OK


async def _upload_form(files: AuthFiles, asked: Asked) -> Answer:
    body = await _content(asked, FORM_BYTES)
    uploaded = await asyncio.to_thread(files_of, asked.header(b"content-type"), body, MOST_BYTES)
    del body
    if not uploaded:
        raise InvalidRequest("no files uploaded")
    if len(uploaded) == 1:
        await _done("save", partial(_save, files, uploaded[0], _looking(asked)))
        return OK
    _refuse_condition(asked)
    return _several("uploaded", await _done("save", partial(_save_each, files, uploaded)))


def _save(files: AuthFiles, uploaded: Uploaded, look: Look) -> None:
    try:
        checked(uploaded.name)
    except BadName as error:
        raise InvalidRequest(str(error).replace("name must end with .json", "file must be .json")) from error
    if uploaded.content is None:
        raise OverSize
    files.save(uploaded.name, uploaded.content, look)


def _save_each(files: AuthFiles, uploaded: list[Uploaded]) -> list[tuple[str, GatewayError | None]]:
    """A name that comes twice is refused each time: which of its contents is meant, nobody knows."""
    names = [file.name for file in uploaded]
    outcomes: list[tuple[str, GatewayError | None]] = []
    for file in uploaded:
        problem: GatewayError | None = None
        if names.count(file.name) > 1:
            problem = InvalidRequest("several files of this form have that name")
        else:
            try:
                _save(files, file, lambda _: None)
            except GatewayError as error:
                problem = error
            except (OSError, BadName, BadJson) as error:
                problem = worded(error, "save")
        outcomes.append((file.name, problem))
    return outcomes


async def _content(asked: Asked, most_bytes: int) -> bytes:
    try:
        return await asked.body(most_bytes)
    except TooLarge as error:
        raise TooLarge("file too large") from error


# -- deleting


class _Names(Struct, frozen=True):
    names: list[str] | None = None
    name: str | None = None


_NAMES = Decoder(list[str] | _Names, strict=True)


async def _delete(plane: Plane, asked: Asked) -> Answer:
    files = plane.auth_files
    if asked.first("all") in _ALL:
        _refuse_condition(asked)
        return told({"status": "ok", "deleted": await _done("delete", files.remove_all)})
    names = list(dict.fromkeys(name.strip(" ") for name in await _names(asked)))
    if len(names) <= 1:
        name = _named(names[0] if names else None)
        await _done("delete", partial(files.remove, name, _looking(asked)))
        return OK
    _refuse_condition(asked)
    outcomes = await _done("delete", partial(files.remove_each, names))
    return _several(
        "deleted", [(name, None if error is None else worded(error, "delete")) for name, error in outcomes.items()]
    )


async def _names(asked: Asked) -> Sequence[str]:
    """From the query; from the body when the query has none."""
    if names := asked.query.get("name"):
        return names
    body = await asked.body()
    if not body.strip():
        return ()
    try:
        wanted = _NAMES.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest("invalid request body") from error
    if not isinstance(wanted, _Names):
        return wanted
    return (*(wanted.names or ()), *(() if wanted.name is None else (wanted.name,)))


def settled(handle: Handle) -> Handle:
    """`handle`, with its effect on the accounts there before the answer: they serve, or do no longer."""

    async def handled(plane: Plane, asked: Asked) -> Answer:
        try:
            return await handle(plane, asked)
        finally:
            await plane.accounts.look()

    return handled


# -- failures and outcomes


async def _done(doing: str, work: Callable[[], _T]) -> _T:
    """Off the event loop; what kept it from being done is told in this API's words."""
    try:
        return await asyncio.to_thread(work)
    except (OSError, BadName, BadJson) as error:
        raise worded(error, doing) from error


def worded(error: OSError | BadName | BadJson, doing: str) -> GatewayError:
    """Without the path that an OSError knows."""
    match error:
        case BadName():
            return InvalidRequest(str(error))
        case BadJson():
            return InvalidRequest(f"invalid auth file: {error}")
        case OverSize():
            return TooLarge("file too large")
        case FileNotFoundError():
            return NotFound("file not found")
        case OSError():
            return SaveFailed(f"failed to {doing} file: {error.strerror or type(error).__name__}")


def _named(name: str | None) -> str:
    """The name of a file in a query. Raises InvalidRequest."""
    try:
        return checked((name or "").strip(" "))
    except BadName as error:
        raise InvalidRequest(str(error)) from error


def _looking(asked: Asked) -> Look:
    def look(content: bytes | None) -> None:
        if content is not None:
            asked.expect(Answer(200, content))
        elif asked.header(b"if-match"):
            raise PreconditionFailed

    return look


def _refuse_condition(asked: Asked) -> None:
    if asked.header(b"if-match").strip() not in ("", "*"):
        raise InvalidRequest("`If-Match` is the tag of one file, and this is about several")


def _several(done: str, outcomes: list[tuple[str, GatewayError | None]]) -> Answer:
    files = [name for name, problem in outcomes if problem is None]
    failed = [{"name": name, "error": problem.problem.message} for name, problem in outcomes if problem is not None]
    if not failed:
        return told({"status": "ok", done: len(files), "files": files})
    return told({"status": "partial", done: len(files), "files": files, "failed": failed}, 207)


# -- the table

NAME: Schema = {"type": "string"}
_FILE: Schema = {
    "type": "object",
    "required": [
        "name",
        "size",
        "modtime",
        "type",
        "id",
        "auth_index",
        "provider",
        "label",
        "disabled",
        "status",
        "source",
    ],
    "properties": {
        "name": NAME,
        "size": {"type": "integer"},
        "modtime": {"type": "string", "format": "date-time"},
        "type": {"type": "string"},
        "provider": {"type": "string"},
        "id": {"type": "string"},
        "auth_index": {"type": "string"},
        "label": {"type": "string"},
        "disabled": {"type": "boolean"},
        "status": {"enum": ["active", "disabled", "error", "unknown"]},
        "status_message": {"type": "string"},
        "source": {"const": "file"},
        "email": {"type": "string"},
        "project_id": {"type": "string"},
        "account_type": {"type": "string"},
        "note": {"type": "string"},
        "prefix": {"type": "string"},
        "proxy_url": {"type": "string"},
        "expired": {"type": "string"},
        "last_refresh": {"type": "string"},
        "priority": {"type": "integer"},
        "weight": {"type": "integer"},
        "request_retry": {"type": "integer"},
        "websockets": {"type": "boolean"},
    },
}
_FAILED: Schema = {
    "type": "array",
    "items": {"type": "object", "properties": {"name": NAME, "error": {"type": "string"}}},
}
_CONTENT: Schema = {"type": "object", "description": "The credential file; its bytes are stored as they are"}
_FORM: Schema = {
    "type": "object",
    "properties": {"file": {"type": "array", "items": {"type": "string", "format": "binary"}}},
}
_WANTED_NAMES: Schema = {
    "oneOf": [
        {"type": "array", "items": NAME},
        {"type": "object", "properties": {"names": {"type": "array", "items": NAME}}},
        {"type": "object", "properties": {"name": NAME}},
    ],
    "description": "In place of `?name=`",
}
_NOT_NAMED = "`invalid name`, or `name must end with .json`"
STALE_FILE = "`If-Match` is not the `ETag` that `/auth-files/download` gives for the file."


def _outcome(done: str) -> Schema:
    return {
        "type": "object",
        "required": ["status"],
        "properties": {
            "status": {"enum": ["ok", "partial"]},
            done: {"type": "integer"},
            "files": {"type": "array", "items": NAME},
            "failed": _FAILED,
        },
    }


ROWS = (
    Row(
        path="/auth-files",
        tag="Auth files",
        operations={
            "GET": Operation(
                handle=_list,
                summary="List the credential files, without what is secret in them",
                parameters=(
                    Parameter(name="name", what="only the file of this name"),
                    Parameter(name="auth_index", what="only the file of this index"),
                    Parameter(
                        name="limit",
                        what="how many at most; the answer then has a `total`",
                        schema={"type": "integer", "minimum": 0},
                    ),
                    Parameter(
                        name="offset", what="how many to leave out first", schema={"type": "integer", "minimum": 0}
                    ),
                ),
                answers={
                    200: {
                        "type": "object",
                        "required": ["files"],
                        "properties": {"files": {"type": "array", "items": _FILE}, "total": {"type": "integer"}},
                    }
                },
                refusals={400: "`invalid limit` or `invalid offset`"},
            ),
            "POST": Operation(
                handle=settled(_upload),
                summary="Store a credential file, or replace the one of that name. Several come as parts `file` of a"
                " form; each is stored or refused by itself",
                parameters=(Parameter(name="name", what="the file's name, for a body that is no form"),),
                bodies={"application/json": _CONTENT, "multipart/form-data": _FORM},
                answers={200: _outcome("uploaded"), 207: _outcome("uploaded")},
                refusals={
                    400: f"{_NOT_NAMED}, `file must be .json`, `no files uploaded`, `invalid multipart form: ...`, or"
                    " `invalid auth file: ...` for what is no JSON object. Nothing is written.",
                    412: STALE_FILE,
                    413: "A file is larger than 10 MiB, or a form than 64 MiB.",
                },
            ),
            "DELETE": Operation(
                handle=settled(_delete),
                summary="Delete one credential file, several or all",
                parameters=(
                    Parameter(name="name", what="the file's name; may come several times"),
                    Parameter(name="all", what="`true`, `1` or `*` for every file"),
                ),
                bodies={"application/json": _WANTED_NAMES},
                answers={200: _outcome("deleted"), 207: _outcome("deleted")},
                refusals={400: f"{_NOT_NAMED}, or `invalid request body`", 404: "`file not found`", 412: STALE_FILE},
            ),
        },
    ),
    Row(
        path="/auth-files/download",
        tag="Auth files",
        operations={
            "GET": Operation(
                handle=_download,
                summary="A credential file as it is on disk",
                parameters=(Parameter(name="name", what="the file's name", is_required=True),),
                answers={200: _CONTENT},
                refusals={400: _NOT_NAMED, 404: "`file not found`", 413: "The file is larger than 10 MiB."},
            )
        },
    ),
    Row(
        path="/auth-files/models",
        tag="Auth files",
        operations={
            "GET": Operation(
                handle=_models,
                summary="The models that the account of a file serves; none for a file that is not in use",
                parameters=(Parameter(name="name", what="the file's name", is_required=True),),
                answers={
                    200: {
                        "type": "object",
                        "required": ["models"],
                        "properties": {
                            "models": {
                                "type": "array",
                                "items": {
                                    "type": "object",
                                    "required": ["id"],
                                    "properties": {
                                        "id": {"type": "string"},
                                        "display_name": {"type": "string"},
                                        "owned_by": {"type": "string"},
                                    },
                                },
                            }
                        },
                    }
                },
                refusals={400: "`name is required`"},
            )
        },
    ),
)
