"""What was asked and what it cost, since the start: sums, the newest requests, and counters of each upstream key.

The shapes are those that panels know. Where the table of callers' keys stood, `apis` has the dialects that callers
spoke: it names nobody and shows no key. What an upstream did not tell is null, and `untold_requests` says how often.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Annotated

import msgspec
from msgspec import Meta, Struct, field
from msgspec.json import Decoder

from cliproxy.canon.errors import InvalidRequest
from cliproxy.config.schema import Config
from cliproxy.gateway.plane import Plane
from cliproxy.gateway.usage import LONGEST_NAME, RECENT_SECONDS, AccountTally, Record, Tokens, UsageLedger
from cliproxy.providers.base import Upstream
from cliproxy.server.management.base import Answer, Asked, Operation, Parameter, Row, Schema, told

_IMPORT_BYTES = 10 * 1024 * 1024
_VERSION = 1
_FIRST_DAY = date(1970, 1, 1).toordinal()
_LATEST_AT = datetime(2100, 1, 1, tzinfo=UTC).timestamp()


# -- sums -------------------------------------------------------------------------------------------------------------


async def _show(plane: Plane, _: Asked) -> Answer:
    ledger = plane.runtime.usage
    return told({"usage": _sums(ledger), "failed_requests": ledger.failed})


async def _export(plane: Plane, _: Asked) -> Answer:
    runtime = plane.runtime
    return told({"version": _VERSION, "exported_at": _moment(runtime.epoch()), "usage": _sums(runtime.usage)})


def _sums(ledger: UsageLedger) -> dict[str, object]:
    days, hours = sorted(ledger.days.items()), [(f"{hour:02}", spent) for hour, spent in enumerate(ledger.hours)]
    return {
        "total_requests": ledger.requests,
        "success_count": ledger.success,
        "failure_count": ledger.failed,
        "left_requests": ledger.left,
        "untold_requests": ledger.untold,
        "total_tokens": ledger.tokens,
        "requests_by_day": {_day(number): spent.requests for number, spent in days},
        "requests_by_hour": {hour: spent.requests for hour, spent in hours if spent.requests},
        "tokens_by_day": {_day(number): spent.tokens for number, spent in days},
        "tokens_by_hour": {hour: spent.tokens for hour, spent in hours if spent.requests},
        "apis": _by_dialect(ledger),
    }


def _by_dialect(ledger: UsageLedger) -> dict[str, _Api]:
    apis: dict[str, _Api] = {}
    for (dialect, model), spent, records in ledger.by_name():
        api = apis.setdefault(dialect, _Api())
        api.total_requests += spent.requests
        api.total_tokens += spent.tokens
        api.models[model] = _Model(spent.requests, spent.tokens, [_detail(record) for record in records])
    return apis


def _detail(record: Record) -> _Detail:
    return _Detail(
        timestamp=_moment(record.at),
        latency_ms=record.latency_ms,
        source=record.label,
        auth_index=record.account,
        tokens=record.tokens,
        failed=record.is_failed,
        request_id=record.request_id,
    )


def _day(number: int) -> str:
    return date.fromordinal(_FIRST_DAY + number).isoformat()


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# -- sums of another process ------------------------------------------------------------------------------------------


class _Detail(Struct):
    timestamp: str
    latency_ms: Annotated[int, Meta(ge=0, le=2**53)] = 0
    source: str = ""
    auth_index: str = ""
    tokens: Tokens | None = None
    failed: bool = False
    request_id: str = ""


class _Model(Struct):
    total_requests: int = 0
    total_tokens: int = 0
    details: list[_Detail] | None = None


class _Api(Struct):
    total_requests: int = 0
    total_tokens: int = 0
    models: dict[str, _Model] = field(default_factory=dict[str, _Model])


class _Sums(Struct):
    apis: dict[str, _Api] = field(default_factory=dict[str, _Api])


class _Export(Struct):
    version: int = 0
    usage: _Sums = field(default_factory=_Sums)


_EXPORT = Decoder(_Export)
_MOMENT = Decoder(datetime)


async def _import(plane: Plane, asked: Asked) -> Answer:
    body = await asked.body(_IMPORT_BYTES)
    try:
        export = _EXPORT.decode(body)
        records = list(_records(export.usage)) if export.version == _VERSION else []
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest("invalid json") from error
    if export.version != _VERSION:
        raise InvalidRequest("unsupported version")
    ledger = plane.runtime.usage
    added, skipped = ledger.merge(records)
    return told(
        {
            "added": added,
            "skipped": skipped,
            "total_requests": ledger.requests,
            "failed_requests": ledger.failed,
        }
    )


def _records(sums: _Sums) -> Iterator[Record]:
    """Raises DecodeError for a time that is none."""
    for dialect, api in sums.apis.items():
        for model, listed in api.models.items():
            for detail in listed.details or ():
                yield _record(dialect[:LONGEST_NAME], model[:LONGEST_NAME], detail)


def _record(dialect: str, model: str, detail: _Detail) -> Record:
    return Record(
        request_id=detail.request_id[:LONGEST_NAME],
        at=_at(detail.timestamp),
        dialect=dialect,
        asked=model,
        model=model,
        account=detail.auth_index[:LONGEST_NAME],
        label=detail.source[:LONGEST_NAME],
        is_failed=detail.failed,
        latency_ms=detail.latency_ms,
        tokens=detail.tokens or Tokens(),
    )


def _at(moment: str) -> float:
    """Epoch seconds of a time that may have up to nine places of fractions; without a zone it is UTC."""
    read = _MOMENT.decode(msgspec.json.encode(moment))
    at = (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
    if not 0 <= at < _LATEST_AT:
        raise msgspec.ValidationError("a time that cannot be")
    return at


# -- single records, each once ----------------------------------------------------------------------------------------


async def _drain(plane: Plane, asked: Asked) -> Answer:
    text = asked.first("count")
    count = 1 if text is None else int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    if count < 1:
        raise InvalidRequest("count must be a positive integer")
    return told([_queued(record) for record in plane.runtime.usage.drain(count)])


def _queued(record: Record) -> dict[str, object]:
    return {
        "request_id": record.request_id,
        "timestamp": _moment(record.at),
        "endpoint": record.dialect,
        "provider": record.provider,
        "model": record.model,
        "alias": record.asked,
        "source": record.label,
        "auth_index": record.account,
        "status": record.status,
        "failed": record.is_failed,
        "attempts": record.attempts,
        "latency_ms": record.latency_ms,
        "tokens": record.tokens,
    }


# -- counters of each upstream key ------------------------------------------------------------------------------------


async def _show_keys(plane: Plane, _: Asked) -> Answer:
    """Keys are shown as `/config` shows them: whoever may read this may read that."""
    snapshot, tallies = plane.runtime.snapshot, plane.runtime.usage.accounts
    bases = _bases(snapshot.config)
    shown: dict[str, dict[str, object]] = {}
    for account, upstream in snapshot.upstreams.items():
        if upstream.source:
            continue
        key = upstream.secret.reveal()
        name = f"{_base_of(upstream, bases.get(key, []))}|{key}"
        shown.setdefault(upstream.account.provider, {})[name] = _counters(tallies.get(account) or AccountTally())
    return told(shown)


def _counters(tally: AccountTally) -> dict[str, object]:
    recent = [
        {"time": _moment(slot.number * RECENT_SECONDS), "success": slot.success, "failed": slot.failed}
        for slot in tally.recent
    ]
    return {"success": tally.success, "failed": tally.failed, "recent_requests": recent}


def _bases(config: Config) -> Mapping[str, list[str]]:
    """The base URLs that stand beside each key, as the file writes them: that is how panels find their entries."""
    found: dict[str, list[str]] = {}
    for entry in (*config.gemini_keys, *config.claude_api_key, *config.codex_api_key):
        found.setdefault(entry.api_key.reveal(), []).append(entry.base_url)
    for entry in config.openai_compatibility:
        for key in entry.keys:
            found.setdefault(key.api_key.reveal(), []).append(entry.base_url)
    return found


def _base_of(upstream: Upstream, written: list[str]) -> str:
    """Which of them leads to `upstream`; "" where the file leaves it to the default."""
    origin = upstream.address.origin
    for base in written:
        if base and origin.host in base and upstream.address.prefix.startswith(_path_of(base)):
            return base
    return ""


def _path_of(base: str) -> str:
    return "/".join(["", *base.rstrip("/").split("/")[3:]]).rstrip("/")


# -- rows -------------------------------------------------------------------------------------------------------------

_COUNTS: Schema = {"type": "object", "additionalProperties": {"type": "integer"}}
_INTEGER: Schema = {"type": "integer"}
_TEXT: Schema = {"type": "string"}
_TOKENS: Schema = {
    "type": "object",
    "properties": {name: {"type": ["integer", "null"]} for name in Tokens.__struct_fields__},
}
_DETAIL_SCHEMA: Schema = {
    "type": "object",
    "required": ["timestamp", "failed"],
    "properties": {
        "timestamp": _TEXT,
        "latency_ms": _INTEGER,
        "source": _TEXT,
        "auth_index": _TEXT,
        "tokens": _TOKENS,
        "failed": {"type": "boolean"},
        "request_id": _TEXT,
    },
}
_MODEL_SCHEMA: Schema = {
    "type": "object",
    "properties": {
        "total_requests": _INTEGER,
        "total_tokens": _INTEGER,
        "details": {"type": "array", "items": _DETAIL_SCHEMA},
    },
}
_API_SCHEMA: Schema = {
    "type": "object",
    "properties": {
        "total_requests": _INTEGER,
        "total_tokens": _INTEGER,
        "models": {"type": "object", "additionalProperties": _MODEL_SCHEMA},
    },
}
_SUMS_SCHEMA: Schema = {
    "type": "object",
    "required": ["total_requests", "success_count", "failure_count", "total_tokens", "apis"],
    "properties": {
        "total_requests": _INTEGER,
        "success_count": _INTEGER,
        "failure_count": _INTEGER,
        "left_requests": _INTEGER,
        "untold_requests": _INTEGER,
        "total_tokens": _INTEGER,
        "requests_by_day": _COUNTS,
        "requests_by_hour": _COUNTS,
        "tokens_by_day": _COUNTS,
        "tokens_by_hour": _COUNTS,
        "apis": {"type": "object", "additionalProperties": _API_SCHEMA},
    },
}
_EXPORT_SCHEMA: Schema = {
    "type": "object",
    "required": ["version", "usage"],
    "properties": {"version": {"const": _VERSION}, "exported_at": _TEXT, "usage": _SUMS_SCHEMA},
}
_IMPORT_SCHEMA: Schema = {
    "type": "object",
    "required": ["version"],
    "properties": {
        "version": {"const": _VERSION},
        "usage": {"type": "object", "properties": {"apis": {"type": "object", "additionalProperties": _API_SCHEMA}}},
    },
    "description": "what an export gave; only its `details` are counted, since sums do not tell what they hold",
}
_MERGED_SCHEMA: Schema = {
    "type": "object",
    "required": ["added", "skipped", "total_requests", "failed_requests"],
    "properties": {
        "added": _INTEGER,
        "skipped": _INTEGER,
        "total_requests": _INTEGER,
        "failed_requests": _INTEGER,
    },
}
_QUEUED_SCHEMA: Schema = {
    "type": "object",
    "required": ["request_id", "timestamp", "model", "failed", "tokens"],
    "properties": {
        "request_id": _TEXT,
        "timestamp": _TEXT,
        "endpoint": _TEXT,
        "provider": _TEXT,
        "model": _TEXT,
        "alias": _TEXT,
        "source": _TEXT,
        "auth_index": _TEXT,
        "status": _INTEGER,
        "failed": {"type": "boolean"},
        "attempts": _INTEGER,
        "latency_ms": _INTEGER,
        "tokens": _TOKENS,
    },
}
_COUNTERS_SCHEMA: Schema = {
    "type": "object",
    "properties": {
        "success": _INTEGER,
        "failed": _INTEGER,
        "recent_requests": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"time": _TEXT, "success": _INTEGER, "failed": _INTEGER},
            },
        },
    },
}

ROWS: tuple[Row, ...] = (
    Row(
        path="/usage",
        tag="Usage",
        operations={
            "GET": Operation(
                handle=_show,
                summary="Show requests and tokens since the start: sums by day and hour (UTC), by the caller's dialect"
                " and by model, and the newest 1,000 requests",
                answers={
                    200: {
                        "type": "object",
                        "required": ["usage", "failed_requests"],
                        "properties": {"usage": _SUMS_SCHEMA, "failed_requests": _INTEGER},
                    }
                },
            )
        },
    ),
    Row(
        path="/usage/export",
        tag="Usage",
        operations={
            "GET": Operation(
                handle=_export,
                summary="Show the same in the form that can be imported",
                answers={200: _EXPORT_SCHEMA},
            )
        },
    ),
    Row(
        path="/usage/import",
        tag="Usage",
        operations={
            "POST": Operation(
                handle=_import,
                summary="Add the requests that an export lists, each once",
                bodies={"application/json": _IMPORT_SCHEMA},
                answers={200: _MERGED_SCHEMA},
                refusals={
                    400: "`invalid json`, or `unsupported version`.",
                    413: "The body is longer than 10 MiB.",
                },
            )
        },
    ),
    Row(
        path="/usage-queue",
        tag="Usage",
        operations={
            "GET": Operation(
                handle=_drain,
                summary="Take the oldest finished requests off the queue; each is given once, and the newest 5,000"
                " wait to be taken",
                parameters=(
                    Parameter(
                        name="count", what="how many at most; 1 by default", schema={"type": "integer", "minimum": 1}
                    ),
                ),
                answers={200: {"type": "array", "items": _QUEUED_SCHEMA}},
                refusals={400: "`count must be a positive integer`."},
            )
        },
    ),
    Row(
        path="/api-key-usage",
        tag="Usage",
        operations={
            "GET": Operation(
                handle=_show_keys,
                summary="Show how often each upstream key answered well or failed, in all and by ten minutes, by"
                " provider and `BASE-URL|KEY`",
                answers={
                    200: {
                        "type": "object",
                        "additionalProperties": {"type": "object", "additionalProperties": _COUNTERS_SCHEMA},
                    }
                },
            )
        },
    ),
)
