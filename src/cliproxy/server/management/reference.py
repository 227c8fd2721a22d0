"""The Management API described for people, rendered from its rows: `docs/management-api.md`.

`python -m cliproxy.server.management.reference` prints it; `make docs` writes it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping

from msgspec import convert

from cliproxy.server.management.base import Operation, Parameter, Row, Schema
from cliproxy.server.management.table import BASE, ROWS

_INTRODUCTION = f"""\
<!-- Generated from the table of rows; `make docs` writes it anew. -->
# The Management API

Everything that can be configured while the gateway runs, at `{BASE}` on its own port. A write is on disk, and in effect
for the next request, when it is answered; comments and order in the file stay. The same for programs: OpenAPI 3.1 at
`{BASE}/openapi.json`.

**Access.** Send the management key as `Authorization: Bearer KEY` or `X-Management-Key: KEY`. It is
`remote-management.secret-key` in the file, or the environment's `MANAGEMENT_PASSWORD`; without either there is no
Management API (404). From other machines it answers only with `remote-management.allow-remote: true`. Five wrong keys
from one remote address lock it out for 30 minutes.

**Refusals** are `{{"error": "what is wrong"}}` and change nothing. 401: no or a wrong key. 403: not from here. 404: no such
address, or no such item. 405: not with this method. 412: changed since you read it. 413: too large. 500: a file could
not be read or written.

**Two writers.** Every GET carries an `ETag`. Send it back as `If-Match` with a write, and the write happens only if
nothing has changed since. Without it the last writer wins.

**Try it**

```sh
curl -H "Authorization: Bearer $KEY" http://127.0.0.1:8317{BASE}/config
curl -H "Authorization: Bearer $KEY" -X PUT -d '{{"value": true}}' http://127.0.0.1:8317{BASE}/debug
```
"""


_LARGE = 4
"""Members that an object inside of another may have to be shown there."""


def rendered(rows: Iterable[Row]) -> str:
    """The whole page, as Markdown."""
    by_tag: dict[str, list[Row]] = {}
    for row in rows:
        by_tag.setdefault(row.tag, []).append(row)
    parts = [_INTRODUCTION]
    for tag, tagged in by_tag.items():
        parts.append(f"## {tag}\n")
        parts += [_row(row) for row in tagged]
    return "\n".join(parts)


def _row(row: Row) -> str:
    return f"### `{row.path}`\n\n" + "\n".join(
        line for operations in _alike(row) for line in _operation(operations, row.operations[operations[0]])
    )


def _alike(row: Row) -> list[list[str]]:
    """Methods that do the same are told together."""
    groups: dict[int, list[str]] = {}
    for method, operation in row.operations.items():
        groups.setdefault(id(operation), []).append(method)
    return list(groups.values())


def _operation(methods: list[str], operation: Operation) -> Iterator[str]:
    yield f"**{', '.join(methods)}** {operation.summary}.\n"
    for parameter in operation.parameters:
        yield _parameter(parameter)
    for media, schema in operation.bodies.items():
        yield f"- Body: {_shown(media, schema)}"
    for status, schema in operation.answers.items():
        yield f"- {status}: {_shown('application/json', schema)}"
    for status, text in operation.refusals.items():
        yield f"- {status}: {text}"
    yield ""


def _parameter(parameter: Parameter) -> str:
    needed = ", required" if parameter.is_required else ""
    return f"- `?{parameter.name}=`{needed}: {parameter.what}"


def _shown(media: str, schema: Schema) -> str:
    media = str(schema.get("contentMediaType", media))
    shape = "" if "contentMediaType" in schema else f" `{_shape(schema)}`"
    text = str(schema.get("description", ""))
    return f"{media if media != 'application/json' else 'JSON'}{shape}{f' ({text})' if text else ''}"


def _shape(schema: Schema, depth: int = 0) -> str:
    """A schema as an example would look: `{"value": boolean}`. Large objects inside of others are left out: they are
    shown where they are the subject."""
    if "const" in schema:
        return json.dumps(schema["const"])
    for joined in ("oneOf", "anyOf"):
        if joined in schema:
            return " | ".join(_shape(choice, depth) for choice in convert(schema[joined], list[dict[str, object]]))
    if "enum" in schema:
        return " | ".join(map(json.dumps, convert(schema["enum"], list[object])))
    if "properties" in schema:
        members = convert(schema["properties"], dict[str, dict[str, object]])
        if depth and len(members) > _LARGE:
            return "{...}"
        shown = (f"{json.dumps(name)}: {_shape(member, depth + 1)}" for name, member in members.items())
        return "{" + ", ".join(shown) + "}"
    if "items" in schema:
        return f"[{_shape(convert(schema['items'], dict[str, object]), depth)}, ...]"
    if isinstance(schema.get("additionalProperties"), Mapping):
        return f"{{name: {_shape(convert(schema['additionalProperties'], dict[str, object]), depth)}, ...}}"
    kind = schema.get("type", "any")
    return kind if isinstance(kind, str) else " or ".join(convert(kind, list[str]))


if __name__ == "__main__":
    sys.stdout.write(rendered(ROWS))
