"""Every row of the Management API, and how a path finds its row."""

from __future__ import annotations

from cliproxy.canon.errors import MethodNotAllowed, NotFound
from cliproxy.server.management import (
    accounts,
    auth_fields,
    auth_files,
    documents,
    entry_lists,
    lists,
    logins,
    logs,
    openapi,
    panel,
    requests,
    settings,
    usage,
    withdrawn,
)
from cliproxy.server.management.base import Operation, Row

BASE = "/v0/management"

_DESCRIBED: tuple[Row, ...] = (
    *documents.ROWS,
    *settings.ROWS,
    *lists.ROWS,
    *entry_lists.ROWS,
    *auth_files.ROWS,
    *auth_fields.ROWS,
    *accounts.ROWS,
    *requests.ROWS,
    *usage.ROWS,
    *logs.ROWS,
    *panel.ROWS,
    *logins.ROWS,
    *withdrawn.ROWS,
)
ROWS: tuple[Row, ...] = (*_DESCRIBED, openapi.row_of(_DESCRIBED))

_BY_PATH = {row.path: row for row in ROWS}
_NAMED = {row.path[: row.path.rindex("/{")]: row for row in ROWS if row.path.endswith("}")}


def find(path: str) -> tuple[Row, str]:
    """The row at a path below `BASE`, and the value of its named segment. Raises NotFound."""
    path = path.rstrip("/")
    if (row := _BY_PATH.get(path)) is not None:
        return row, ""
    parent, _, segment = path.rpartition("/")
    if segment and (row := _NAMED.get(parent)) is not None:
        return row, segment
    raise NotFound("there is nothing at this address of the management API")


def operation_of(row: Row, method: str) -> Operation:
    """Raises MethodNotAllowed."""
    if (operation := row.operations.get(method)) is None:
        raise MethodNotAllowed(f"`{row.path}` takes {' or '.join(row.operations)}, not {method}")
    return operation
