"""The Management API described for programs, generated from its rows: OpenAPI 3.1.

Source: https://spec.openapis.org/oas/v3.1.1.html, checked 2026-11-24.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from cliproxy import __version__
from cliproxy.gateway.plane import Plane
from cliproxy.server.management.base import Answer, Asked, Operation, Parameter, Row, Schema, told

BASE = "/v0/management"
_SEGMENT = re.compile(r"\{(\w+)\}")
_WRITES = frozenset({"PUT", "PATCH", "POST", "DELETE"})

ERROR: Schema = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string", "description": "What is wrong, in words."}},
}
"""A refusal. Some rows add members; none leaves `error` out."""

_GENERAL: Mapping[int, str] = {
    401: "The management key is missing or wrong.",
    403: "The caller may not manage from where it is, or has guessed too often.",
    500: "A file cannot be read or written; nothing has changed.",
}
_SECURITY: Sequence[Mapping[str, Sequence[str]]] = [{"bearer": []}, {"key": []}]
_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "The management key."},
    "key": {"type": "apiKey", "in": "header", "name": "X-Management-Key", "description": "The same key."},
}
_ETAG = {"ETag": {"description": "For `If-Match` on a write.", "schema": {"type": "string"}}}
_IF_MATCH: Mapping[str, object] = {
    "name": "If-Match",
    "in": "header",
    "description": "An `ETag` of this path: the write happens only if nothing has changed since. Without it the last"
    " writer wins.",
    "schema": {"type": "string"},
}


def row_of(rows: Iterable[Row]) -> Row:
    """The row that shows `rows`, and itself."""
    shown: list[Row] = [*rows]

    async def show(_: Plane, __: Asked) -> Answer:
        return told(document(shown))

    row = Row(
        path="/openapi.json",
        tag="About",
        operations={
            "GET": Operation(
                handle=show,
                summary="This description, for programs",
                answers={200: {"type": "object", "required": ["openapi", "paths"]}},
            )
        },
    )
    shown.append(row)
    return row


def document(rows: Iterable[Row]) -> Mapping[str, object]:
    """The whole API as one OpenAPI document."""
    paths = {row.path: {method.lower(): _operation(row, method) for method in row.operations} for row in rows}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "CLI Proxy API: management",
            "version": __version__,
            "description": "Everything that can be configured while the gateway runs. A write is on disk, and in"
            " effect for the next request, when it is answered.",
        },
        "servers": [{"url": BASE}],
        "security": _SECURITY,
        "paths": paths,
        "components": {"schemas": {"Error": ERROR}, "securitySchemes": _SCHEMES},
    }


def _operation(row: Row, method: str) -> dict[str, object]:
    operation = row.operations[method]
    described: dict[str, object] = {
        "operationId": _identifier(method, row.path),
        "tags": [row.tag],
        "summary": operation.summary,
        "responses": {str(status): answer for status, answer in sorted(_responses(method, operation).items())},
    }
    if parameters := _parameters(row, method, operation):
        described["parameters"] = parameters
    if operation.bodies:
        content = {media: {"schema": schema} for media, schema in operation.bodies.items()}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _identifier(method: str, path: str) -> str:
    words = re.findall(r"[A-Za-z0-9]+", path)
    return method.lower() + "".join(word[:1].upper() + word[1:] for word in words)


def _parameters(row: Row, method: str, operation: Operation) -> list[Mapping[str, object]]:
    segments: list[Mapping[str, object]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _SEGMENT.findall(row.path)
    ]
    queries = [_query(parameter) for parameter in operation.parameters]
    return [*segments, *queries, *([_IF_MATCH] if 412 in operation.refusals and method in _WRITES else [])]


def _query(parameter: Parameter) -> Mapping[str, object]:
    return {
        "name": parameter.name,
        "in": "query",
        "required": parameter.is_required,
        "description": parameter.what,
        "schema": parameter.schema,
    }


def _responses(method: str, operation: Operation) -> dict[int, dict[str, object]]:
    responses: dict[int, dict[str, object]] = {status: _refusal(text) for status, text in _GENERAL.items()}
    responses |= {status: _refusal(text) for status, text in operation.refusals.items()}
    for status, schema in operation.answers.items():
        responses[status] = _success(method, schema)
    return responses


def _refusal(text: str) -> dict[str, object]:
    return {
        "description": text,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }


def _success(method: str, schema: Schema) -> dict[str, object]:
    """A schema may name its media type, for what is no JSON."""
    media = str(schema.get("contentMediaType", "application/json"))
    told: dict[str, object] = {"description": "Done.", "content": {media: {"schema": schema}}}
    if method == "GET":
        told |= {"description": "As asked.", "headers": _ETAG}
    return told
