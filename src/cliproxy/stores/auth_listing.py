"""What a credential file says of itself, for lists of them. Tokens are not part of it."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Literal

import msgspec
from msgspec import Struct

from cliproxy.wire.json_edits import BadJson, check

Status = Literal["active", "disabled", "error", "unknown"]

# The last second that a calendar of four-digit years knows.
_LAST_SECOND = 253402300799


class AuthFile(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One file as the Management API lists it; its JSON has the member names of that API, empty ones left out.

    `modtime` is RFC 3339 in UTC. `type` is what the file says, "unknown" when it says nothing usable. `auth_index` is
    opaque, and stays as long as the name does. `expired` and `last_refresh` are the file's own texts. `status` is
    "error" for a file that cannot be used at all; `status_message` then says why. `success` and `failed`
    count what its accounts were asked since the start; `renewed` and `next_renewal` are when this process got new tokens
    for it, and will; `unavailable`: only a new login helps.
    """

    name: str
    id: str
    auth_index: str
    size: int
    modtime: str
    type: str
    provider: str
    source: Literal["file"]
    label: str
    disabled: bool
    status: Status
    status_message: str = ""
    email: str = ""
    project_id: str = ""
    account_type: str = ""
    note: str = ""
    prefix: str = ""
    proxy_url: str = ""
    expired: str = ""
    last_refresh: str = ""
    priority: int | None = None
    weight: int | None = None
    request_retry: int | None = None
    websockets: bool | None = None
    success: int | None = None
    failed: int | None = None
    unavailable: bool = False
    renewed: str = ""
    next_renewal: str = ""


class _Said(Struct, frozen=True):
    """The members that a list shows, whatever stands in them."""

    type: object = None
    email: object = None
    project_id: object = None
    disabled: object = None
    note: object = None
    prefix: object = None
    proxy_url: object = None
    expired: object = None
    last_refresh: object = None
    priority: object = None
    weight: object = None
    request_retry: object = None
    websockets: object = None
    access_token: object = None
    refresh_token: object = None
    token: object = None


_SAID = msgspec.json.Decoder(_Said)


def describe(name: str, size: int, modified_at: float, content: bytes | str) -> AuthFile:
    """`content` is what stands in the file, or a sentence about why that cannot be had."""
    problem = content if isinstance(content, str) else ""
    said = _Said()
    if isinstance(content, bytes):
        try:
            check(content)
            said = _SAID.decode(content)
        except BadJson as error:
            problem = str(error)
    kind = _text(said.type) or "unknown"
    email, project_id = _text(said.email), _text(said.project_id)
    is_disabled = said.disabled is True
    return AuthFile(
        name=name,
        id=name,
        auth_index=index_of(name),
        size=size,
        modtime=rfc3339(modified_at),
        type=kind,
        provider=kind,
        source="file",
        label=email or project_id or name[: -len(".json")],
        disabled=is_disabled,
        status=_status(kind, problem, is_disabled=is_disabled),
        status_message=problem,
        email=email,
        project_id=project_id,
        account_type="oauth" if said.access_token or said.refresh_token or said.token else "",
        note=_text(said.note),
        prefix=_text(said.prefix),
        proxy_url=_text(said.proxy_url),
        expired=_text(said.expired),
        last_refresh=_text(said.last_refresh),
        priority=_number(said.priority),
        weight=_number(said.weight),
        request_retry=_number(said.request_retry),
        websockets=said.websockets if isinstance(said.websockets, bool) else None,
    )


def index_of(name: str) -> str:
    """The `auth_index` of the file of that name."""
    return hashlib.blake2b(name.encode(), digest_size=8).hexdigest()


def _status(kind: str, problem: str, *, is_disabled: bool) -> Status:
    if problem:
        return "error"
    if is_disabled:
        return "disabled"
    return "unknown" if kind == "unknown" else "active"


def rfc3339(at: float) -> str:
    at = min(max(at, 0.0), _LAST_SECOND)
    return f"{datetime.fromtimestamp(int(at), UTC).replace(tzinfo=None).isoformat()}Z"


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
