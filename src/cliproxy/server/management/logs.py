"""Logs: the program's own lines, and the records that requests leave."""

from __future__ import annotations

import asyncio

from cliproxy.canon.errors import InvalidRequest, NotFound
from cliproxy.gateway.plane import Plane
from cliproxy.server.management.base import Answer, Asked, Operation, Parameter, Row, Schema, told
from cliproxy.stores.app_log import MOST_LINES, Page
from cliproxy.stores.log_folder import is_private_name
from cliproxy.stores.request_logs import is_request_id

_TAG = "Logs"
_TEXT: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_PAGE: Schema = {
    "type": "object",
    "required": ["lines", "line-count", "latest-timestamp", "next-cursor"],
    "properties": {
        "lines": {"type": "array", "items": _TEXT, "description": "Oldest first."},
        "line-count": {"type": "integer", "minimum": 0, "description": "How many `lines` there are."},
        "latest-timestamp": {
            "type": "integer",
            "description": "Epoch seconds of the newest line; without one what `after` said.",
        },
        "next-cursor": {"type": "string", "description": "For `cursor` of the next request."},
        "cursor-reset": {
            "const": True,
            "description": "The cursor led nowhere, since the log was cleared; these are the newest lines.",
        },
    },
}
_FILES: Schema = {
    "type": "object",
    "required": ["files"],
    "properties": {
        "files": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "size", "modified"],
                "properties": {"name": _TEXT, "size": _COUNT, "modified": {"type": "integer"}},
            },
        }
    },
}
_CLEARED: Schema = {
    "type": "object",
    "required": ["success", "message", "removed"],
    "properties": {"success": {"const": True}, "message": _TEXT, "removed": _COUNT},
}
_RECORD: Schema = {"type": "string", "contentMediaType": "text/plain"}
_DISABLED = "logging to file disabled"


async def _show_lines(plane: Plane, asked: Asked) -> Answer:
    limit = _limit(asked)
    after = _after(asked)
    cursor = asked.first("cursor") or ""
    _demand_files(plane)
    log = plane.logs.app
    page = await asyncio.to_thread(log.since, cursor, limit, after)
    return told(_shown(page, after))


async def _clear_lines(plane: Plane, _: Asked) -> Answer:
    _demand_files(plane)
    removed = await asyncio.to_thread(plane.logs.app.clear)
    return told({"success": True, "message": "Logs cleared successfully", "removed": removed})


async def _list_failures(plane: Plane, _: Asked) -> Answer:
    if plane.desk.config.request_log:
        return told({"files": []})
    found = await asyncio.to_thread(plane.logs.requests.errors)
    files = [{"name": file.name, "size": file.size_bytes, "modified": int(file.modified_at)} for file in found]
    return told({"files": files})


async def _show_failure(plane: Plane, asked: Asked) -> Answer:
    name = asked.segment
    if not is_private_name(name):
        raise InvalidRequest("invalid log file name")
    content = await asyncio.to_thread(plane.logs.requests.error, name)
    if content is None:
        raise NotFound("log file not found")
    return _attachment(name, content)


async def _show_record(plane: Plane, asked: Asked) -> Answer:
    request_id = asked.segment
    if not is_request_id(request_id):
        raise InvalidRequest("invalid request ID")
    found = await asyncio.to_thread(plane.logs.requests.record, request_id)
    if found is None:
        raise NotFound("log file not found for the given request ID")
    return _attachment(*found)


def _demand_files(plane: Plane) -> None:
    if not plane.desk.config.logging_to_file:
        raise InvalidRequest(_DISABLED)


def _limit(asked: Asked) -> int:
    text = (asked.first("limit") or "").strip()
    if not text:
        return MOST_LINES
    if not (text.isascii() and text.isdigit() and int(text[:20]) > 0):
        raise InvalidRequest("invalid limit: must be a positive integer")
    return min(int(text[:20]), MOST_LINES)


def _after(asked: Asked) -> int:
    """What is no time asks for all: panels send what they remember, which may be nothing."""
    text = (asked.first("after") or "").strip()
    return int(text[:20]) if text.isascii() and text.isdigit() else 0


def _shown(page: Page, after: int) -> dict[str, object]:
    shown: dict[str, object] = {
        "lines": page.lines,
        "line-count": len(page.lines),
        "latest-timestamp": page.latest_at or after,
        "next-cursor": page.cursor,
    }
    if page.is_reset:
        shown["cursor-reset"] = True
    return shown


def _attachment(name: str, content: bytes) -> Answer:
    disposition = f'attachment; filename="{name}"'
    headers = ((b"content-type", b"text/plain; charset=utf-8"), (b"content-disposition", disposition.encode()))
    return Answer(200, content, headers)


ROWS: tuple[Row, ...] = (
    Row(
        path="/logs",
        tag=_TAG,
        operations={
            "GET": Operation(
                handle=_show_lines,
                summary="Lines of the log, while it goes to files",
                parameters=(
                    Parameter(name="after", what="Only lines later than this, in epoch seconds.", schema=_COUNT),
                    Parameter(
                        name="limit",
                        what=f"At most so many lines; never more than {MOST_LINES}. Without a cursor the newest ones, "
                        "else the next ones.",
                        schema={"type": "integer", "minimum": 1},
                    ),
                    Parameter(
                        name="cursor",
                        what="Only lines that came after the answer whose `next-cursor` this was.",
                    ),
                ),
                answers={200: _PAGE},
                refusals={400: f"`{_DISABLED}`, or `invalid limit: ...`."},
            ),
            "DELETE": Operation(
                handle=_clear_lines,
                summary="Empty the log and remove its older files",
                answers={200: _CLEARED},
                refusals={400: f"`{_DISABLED}`."},
            ),
        },
    ),
    Row(
        path="/request-error-logs",
        tag=_TAG,
        operations={
            "GET": Operation(
                handle=_list_failures,
                summary="Records of the last failed requests, newest first; none while `request-log` is on",
                answers={200: _FILES},
            )
        },
    ),
    Row(
        path="/request-error-logs/{name}",
        tag=_TAG,
        operations={
            "GET": Operation(
                handle=_show_failure,
                summary="The record of one failed request",
                answers={200: _RECORD},
                refusals={400: "`invalid log file name`.", 404: "There is no such record."},
            )
        },
    ),
    Row(
        path="/request-log-by-id/{id}",
        tag=_TAG,
        operations={
            "GET": Operation(
                handle=_show_record,
                summary="The record of one request, by the id in its `x-request-id`",
                answers={200: _RECORD},
                refusals={400: "`invalid request ID`.", 404: "There is no record of that request."},
            )
        },
    ),
)
