"""JSON Schema as the vendors take it: what each refuses, and the smallest instance of what they accept.

Every check walks by position, so that a property called `type` is never taken for a keyword.
Sources: https://platform.openai.com/docs/guides/structured-outputs, https://ai.google.dev/api/caching#Schema,
https://docs.claude.com/en/docs/build-with-claude/structured-outputs, checked 2026-10-20.
"""

import re
from collections.abc import Iterator

import msgspec

from cliproxy.simulator.exchange import Json

Node = dict[str, Json]
Path = tuple[str, ...]


def _words(line: str) -> frozenset[str]:
    return frozenset(line.split())


# Where sub-schemas stand: directly, in a list, or under names.
_SINGLE = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames")
_LISTED = ("anyOf", "oneOf", "allOf", "prefixItems")
_NAMED = ("properties", "$defs", "definitions", "patternProperties", "defs")

_OPENAI_STRICT_REFUSED = _words(
    "allOf oneOf not if then else dependentRequired dependentSchemas patternProperties unevaluatedProperties"
)
_ANTHROPIC_OUTPUT_KEYS = _words(
    "$schema $id $ref $defs definitions type properties required additionalProperties items enum const anyOf allOf "
    "minItems format title description default"
)
_ANTHROPIC_FORMATS = _words("date-time time date duration email hostname uri ipv4 ipv6 uuid")
_GEMINI_KEYS = _words(
    "type format title description nullable enum items minItems maxItems properties required minProperties "
    "maxProperties propertyOrdering minLength maxLength pattern minimum maximum example anyOf default "
    "additionalProperties ref defs"
)
_GEMINI_TYPES = _words("STRING NUMBER INTEGER BOOLEAN ARRAY OBJECT NULL TYPE_UNSPECIFIED")
_GEMINI_FORMATS = {
    "STRING": frozenset({"enum", "date-time"}),
    "NUMBER": frozenset({"float", "double"}),
    "INTEGER": frozenset({"int32", "int64"}),
}
_FORMAT_SAMPLES = {
    "date-time": "2026-01-01T00:00:00Z",
    "date": "2026-01-01",
    "time": "00:00:00Z",
    "duration": "PT0S",
    "email": "echo@example.com",
    "hostname": "example.com",
    "uri": "https://example.com/",
    "ipv4": "127.0.0.1",
    "ipv6": "::1",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_MAX_DEPTH = 24


class SchemaFault(msgspec.Struct, frozen=True):
    """The first fault of a schema; `path` leads from its root, e.g. `("properties", "city")`."""

    path: Path
    message: str
    keyword: str | None = None


def walk(schema: Json, path: Path = ()) -> Iterator[tuple[Path, Node]]:
    """Every schema node with its path, parents first."""
    if not isinstance(schema, dict):
        return
    yield path, schema
    for key in _SINGLE:
        yield from walk(schema.get(key), (*path, key))
    for key in _LISTED:
        branches = schema.get(key)
        if isinstance(branches, list):
            for index, branch in enumerate(branches):
                yield from walk(branch, (*path, key, str(index)))
    for key in _NAMED:
        named = schema.get(key)
        if isinstance(named, dict):
            for name, child in named.items():
                yield from walk(child, (*path, key, name))


def openai_strict_fault(schema: Json) -> SchemaFault | None:
    """The first reason why OpenAI refuses this schema with `strict: true`."""
    if not isinstance(schema, dict) or schema.get("type") != "object":
        kind = schema.get("type") if isinstance(schema, dict) else None
        return SchemaFault((), f"schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{kind}\"'.")
    for path, node in walk(schema):
        message = _openai_strict_message(node)
        if message:
            return SchemaFault(path, f"In context={path!r}, {message}")
    return None


def anthropic_output_fault(schema: Json) -> SchemaFault | None:
    """The first reason why Anthropic refuses this schema in `output_config.format` or in a strict tool."""
    if not isinstance(schema, dict):
        return SchemaFault((), "Input should be a valid dictionary")
    for path, node in walk(schema):
        kind = node.get("type")
        for key in node:
            if key not in _ANTHROPIC_OUTPUT_KEYS:
                return SchemaFault(path, f"For '{kind}' type, property '{key}' is not supported")
        if kind == "object" and node.get("additionalProperties") is not False:
            return SchemaFault(path, "For 'object' type, 'additionalProperties' must be explicitly set to false")
        if node.get("minItems", 0) not in (0, 1):
            return SchemaFault(path, "For 'array' type, 'minItems' values other than 0 or 1 are not supported")
        text_format = node.get("format")
        if kind == "string" and text_format is not None and text_format not in _ANTHROPIC_FORMATS:
            return SchemaFault(path, f"For 'string' type, 'format: {text_format}' is not supported")
    return None


def gemini_schema_fault(schema: Json) -> SchemaFault | None:
    """The first reason why Google refuses this `Schema` message; a fault with `keyword` is an unknown field."""
    for path, node in walk(schema):
        for key in node:
            if key not in _GEMINI_KEYS:
                return SchemaFault(path, f'Unknown name "{key}"', key)
        kind = node.get("type")
        if kind is not None and (not isinstance(kind, str) or kind.upper() not in _GEMINI_TYPES):
            return SchemaFault((*path, "type"), f"Invalid value ({_shown(kind)})")
        message = _gemini_message(node, kind.upper() if isinstance(kind, str) else "")
        if message:
            return SchemaFault(path, message)
    return None


def takes_single_input(schema: Json) -> bool:
    """Whether a function takes one string called `input`, the shape that stands in for a custom tool."""
    if not isinstance(schema, dict):
        return False
    properties = schema.get("properties")
    if not isinstance(properties, dict) or list(properties) != ["input"]:
        return False
    child = properties["input"]
    return isinstance(child, dict) and str(child.get("type", "string")).lower() == "string"


def minimal_instance(schema: Json, text: str) -> Json:
    """The smallest value that satisfies `schema`, with `text` wherever a free string is allowed."""
    if schema in ({}, {"type": "object"}):
        return {"answer": text}
    return _instance(schema, schema if isinstance(schema, dict) else {}, text, 0)


def _openai_strict_message(node: Node) -> str | None:
    refused = sorted(_OPENAI_STRICT_REFUSED & node.keys())
    if refused:
        return f"'{refused[0]}' is not permitted."
    if "$ref" in node and len(node) > 1:
        return "$ref cannot have keywords " + repr({key for key in node if key != "$ref"}) + "."
    if "type" not in node and not node.keys() & {"$ref", "anyOf", "enum", "const"}:
        return "schema must have a 'type' key."
    kinds = node.get("type")
    if kinds == "array" and "items" not in node:
        return "array schema missing items."
    if kinds != "object" and not (isinstance(kinds, list) and "object" in kinds):
        return None
    if node.get("additionalProperties") is not False:
        return "'additionalProperties' is required to be supplied and to be false."
    properties = node.get("properties")
    names = list(properties) if isinstance(properties, dict) else []
    required = node.get("required")
    listed = required if isinstance(required, list) else []
    missing = [name for name in names if name not in listed]
    if missing or (names and not isinstance(required, list)):
        tail = f" Missing '{missing[0]}'." if missing else ""
        return f"'required' is required to be supplied and to be an array including every key in properties.{tail}"
    extra = [name for name in listed if name not in names]
    return f"'required' is required to be an array of keys in properties. Extra '{extra[0]}'." if extra else None


def _gemini_message(node: Node, kind: str) -> str | None:
    enum = node.get("enum")
    if enum is not None:
        if not isinstance(enum, list) or not all(isinstance(item, str) for item in enum):
            return "Invalid value at 'enum' (TYPE_STRING)"
        if "" in enum:
            return "enum: cannot be empty"
        if kind != "STRING":
            return "enum: only allowed for STRING type"
    text_format = node.get("format")
    if text_format is not None and kind in _GEMINI_FORMATS and text_format not in _GEMINI_FORMATS[kind]:
        return f"format: only {sorted(_GEMINI_FORMATS[kind])} are supported for {kind} type"
    if kind == "ARRAY" and "items" not in node:
        return "items: missing field."
    required = node.get("required")
    properties = node.get("properties")
    if isinstance(required, list):
        known: Node = properties if isinstance(properties, dict) else {}
        for index, name in enumerate(required):
            if not isinstance(name, str) or name not in known:
                return f"required[{index}]: property is not defined"
    return None


def _instance(schema: Json, root: Node, text: str, depth: int) -> Json:
    if not isinstance(schema, dict) or depth > _MAX_DEPTH:
        return text if schema is not False else None
    node = _resolved(schema, root)
    if "const" in node:
        return node["const"]
    enum = node.get("enum")
    if isinstance(enum, list) and enum:
        return enum[0]
    for key in ("anyOf", "oneOf"):
        branches = node.get(key)
        if isinstance(branches, list) and branches:
            return _instance(branches[0], root, text, depth + 1)
    return _typed_instance(_kind(node), node, root, text, depth)


def _typed_instance(kind: str, node: Node, root: Node, text: str, depth: int) -> Json:
    match kind:
        case "object":
            return _object(node, root, text, depth)
        case "array":
            size = node.get("minItems")
            return [_instance(node.get("items", {}), root, text, depth + 1)] * (size if isinstance(size, int) else 0)
        case "integer" | "number":
            return _number(node)
        case "boolean":
            return False
        case "null":
            return None
        case _:
            return _text(node, text)


def _object(node: Node, root: Node, text: str, depth: int) -> Json:
    properties = node.get("properties")
    required = node.get("required")
    if not isinstance(properties, dict):
        return {}
    names = required if isinstance(required, list) and required else list(properties)
    return {name: _instance(properties[name], root, text, depth + 1) for name in properties if name in names}


def _number(node: Node) -> Json:
    minimum, above = node.get("minimum"), node.get("exclusiveMinimum")
    if isinstance(above, int | float):
        return above + 1
    return minimum if isinstance(minimum, int | float) else 0


def _text(node: Node, text: str) -> str:
    sample = _FORMAT_SAMPLES.get(str(node.get("format")))
    if sample is not None:
        return sample
    longest, shortest = node.get("maxLength"), node.get("minLength")
    if isinstance(longest, int):
        text = text[:longest]
    return text.ljust(shortest, ".") if isinstance(shortest, int) else text


def _kind(node: Node) -> str:
    kind = node.get("type")
    if isinstance(kind, list):
        kind = next((item for item in kind if item != "null"), "null")
    if isinstance(kind, str):
        return kind.lower()
    return "object" if "properties" in node else "string"


def _resolved(node: Node, root: Node) -> Node:
    """Follow local references and merge `allOf`; siblings of a reference win."""
    for _ in range(_MAX_DEPTH):
        reference = node.get("$ref", node.get("ref"))
        if not isinstance(reference, str):
            break
        target = _pointed(reference, root)
        node = {**target, **{key: value for key, value in node.items() if key not in ("$ref", "ref")}}
    branches = node.get("allOf")
    if not isinstance(branches, list):
        return node
    merged: Node = {}
    properties: Node = {}
    required: list[Json] = []
    for branch in [*branches, {key: value for key, value in node.items() if key != "allOf"}]:
        if isinstance(branch, dict):
            part = _resolved(branch, root)
            merged |= part
            own, needs = part.get("properties"), part.get("required")
            properties |= own if isinstance(own, dict) else {}
            required += needs if isinstance(needs, list) else []
    if properties:
        merged |= {"properties": properties, "required": required}
    return merged


def _pointed(reference: str, root: Node) -> Node:
    target: Json = root
    for step in re.split(r"/", reference.lstrip("#").lstrip("/")) if reference != "#" else []:
        target = target.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(target, dict) else None
    return target if isinstance(target, dict) else {}


def _shown(value: Json) -> str:
    return msgspec.json.encode(value).decode()
