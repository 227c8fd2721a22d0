"""JSON Schema between vendors: what each of them accepts, in and out as JSON text.

Sources: https://ai.google.dev/api/caching#FunctionDeclaration (`parametersJsonSchema`),
https://platform.openai.com/docs/guides/structured-outputs#supported-schemas,
https://docs.claude.com/en/docs/build-with-claude/structured-outputs, all checked 2026-11-24.

Schemas are walked by position: inside `properties` and its kin the keys are names, and `enum`, `default`, `const` and
examples are data. A property called `type` or `default` is therefore safe. Whatever a vendor refuses becomes words in
the description where a model can still read it, or goes. Nothing here raises: tools come from strangers' servers, and
one malformed schema must not cost the caller the whole request. Numbers keep their spelling, members their order.
"""

from collections.abc import Callable, Iterable
from typing import Literal, TypeAlias
from urllib.parse import unquote

import msgspec
from msgspec import Raw

from cliproxy.wire.json import encode, mended

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | Raw | None"
Node: TypeAlias = dict[str, Json]

NO_ARGUMENTS = '{"type":"object","properties":{}}'

# Inlining can grow exponentially; past these marks a reference becomes a stub and a subtree a leaf.
_MAX_EXPANDED_NODES = 2000
_MAX_DEPTH = 64
_MAX_HINT_LENGTH = 200

_POSITIONS: dict[str, Literal["schema", "schemas", "named"]] = {
    "items": "schema",
    "additionalItems": "schema",
    "unevaluatedItems": "schema",
    "contains": "schema",
    "additionalProperties": "schema",
    "unevaluatedProperties": "schema",
    "propertyNames": "schema",
    "not": "schema",
    "if": "schema",
    "then": "schema",
    "else": "schema",
    "allOf": "schemas",
    "anyOf": "schemas",
    "oneOf": "schemas",
    "prefixItems": "schemas",
    "properties": "named",
    "patternProperties": "named",
    "dependentSchemas": "named",
    "$defs": "named",
    "definitions": "named",
    "defs": "named",
}
_VALUES: dict[str, tuple[type, ...]] = {
    **{key: {"schema": (dict, bool), "schemas": (list,), "named": (dict,)}[kind] for key, kind in _POSITIONS.items()},
    "items": (dict, bool, list),
    **dict.fromkeys(("description", "title", "format", "pattern", "$ref"), (str,)),
    **dict.fromkeys(("enum", "required", "propertyOrdering"), (list,)),
    **dict.fromkeys(("minimum", "maximum", "multipleOf"), (int, float, Raw)),
    **dict.fromkeys(("minItems", "maxItems"), (int, str)),
}
"""What a keyword's value must be; 64-bit integers come as text from Google."""
_KEYWORDS = frozenset(_POSITIONS) | {"type", "enum", "const", "description", "title", "format", "default", "$ref"}

# Spellings that hand-written tools use, besides JSON Schema's own in any case.
_TYPES = {name: name for name in ("object", "array", "string", "number", "integer", "boolean", "null")} | {
    "str": "string",
    "text": "string",
    "int": "integer",
    "long": "integer",
    "float": "number",
    "double": "number",
    "bool": "boolean",
    "dict": "object",
    "map": "object",
    "list": "array",
    "tuple": "array",
    "none": "null",
}
_KEYWORDS_OF_TYPE: dict[str, tuple[str, ...]] = {
    "object": ("properties", "required", "additionalProperties", "propertyOrdering"),
    "array": ("items", "prefixItems", "minItems", "maxItems"),
    "string": ("format",),
    "number": ("minimum", "maximum", "format"),
    "integer": ("minimum", "maximum", "format"),
    "boolean": (),
}
_OF_SOME_TYPE = frozenset(keyword for row in _KEYWORDS_OF_TYPE.values() for keyword in row)

_GEMINI_FORMATS = {
    "number": frozenset({"float", "double"}),
    "integer": frozenset({"int32", "int64"}),
    "string": frozenset({"enum", "date-time"}),
}
_GEMINI_HINTED = (
    "minLength",
    "maxLength",
    "pattern",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "not",
    "default",
    "example",
    "examples",
)
_GEMINI_ONLY = frozenset({"nullable", "propertyOrdering", "example", "$schema"})

_OPENAI_STRICT_LIMITS = (5000, 10)
"""Properties in all, levels of nesting."""
_OPENAI_STRICT_REFUSED = frozenset(
    {
        "allOf",
        "oneOf",
        "not",
        "if",
        "then",
        "else",
        "default",
        "patternProperties",
        "propertyNames",
        "unevaluatedProperties",
        "unevaluatedItems",
        "dependentRequired",
        "dependentSchemas",
        "dependencies",
        "contains",
        "uniqueItems",
        "minProperties",
        "maxProperties",
        "nullable",
    }
)

_ANTHROPIC_FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
)
_ANTHROPIC_KEPT = frozenset(
    {"type", "properties", "required", "items", "enum", "const", "anyOf", "allOf", "title", "description"}
    | {"$defs", "definitions", "$ref", "additionalProperties", "minItems", "format"}
)


# --- Targets ----------------------------------------------------------------------------------------------------------


def for_gemini(schema: str) -> str:
    """A tool's `parametersJsonSchema`: an object at the root, references inlined. Cleaning twice changes nothing."""
    return _changed(schema, lambda root: _mapped(_object_root(_inlined(root)), _gemini_node))


def for_gemini_output(schema: str) -> str:
    """A `responseJsonSchema`: as `for_gemini`, but the root may be of any type."""
    return _changed(schema, lambda root: _mapped(_inlined(root), _gemini_node))


def for_openai(schema: str) -> str:
    """A function's or an output's schema for OpenAI: an object with `properties` at the root."""
    return _changed(schema, lambda root: _object_root(_mapped(root, _portable_node)))


def for_anthropic(schema: str) -> str:
    """A tool's `input_schema`: an object at the root, without unions there."""
    return _changed(schema, lambda root: _object_root(_mapped(root, _portable_node)))


def for_anthropic_output(schema: str) -> str:
    """An `output_config.format.schema`: the supported subset, the rest told in descriptions."""
    return _changed(schema, lambda root: _mapped(root, lambda node: _anthropic_output_node(_portable_node(node))))


def from_gemini(schema: str) -> str:
    """JSON Schema of a Gemini `parameters` or `responseSchema` (an OpenAPI dialect with upper-case types)."""
    return _changed(schema, lambda root: _mapped(root, _from_gemini_node))


def is_strict_ready(schema: str) -> bool:
    """Whether OpenAI would take `schema` with `strict: true` as it is."""
    root = _parsed(schema)
    if root is None or _types(root) != ["object"] or "anyOf" in root:
        return False
    properties, levels = _OPENAI_STRICT_LIMITS
    try:
        return _strict_properties(root, levels) <= properties
    except _NotStrict:
        return False


def takes_nothing(schema: str) -> bool:
    """Whether `schema` is that of a tool without arguments; so is one that cannot be read."""
    root = _parsed(schema) or {}
    is_open = root.get("additionalProperties", False) is not False
    plain = {"type", "properties", "required", "additionalProperties", "title", "description", "$schema"}
    return not (root.get("properties") or is_open or root.keys() - plain)


def _changed(schema: str, change: Callable[[Node], Node]) -> str:
    root = _parsed(schema)
    if root is None:
        return NO_ARGUMENTS
    try:
        return encode(change(root)).decode()
    except RecursionError:
        return NO_ARGUMENTS


def _raw_number(literal: str) -> Raw:
    return Raw(literal.encode())


_tree: "msgspec.json.Decoder[Json]" = msgspec.json.Decoder(float_hook=_raw_number)


def _parsed(schema: str) -> Node | None:
    """The root node; None when there is no JSON object, `{}` for a bare `true`."""
    try:
        tree = _tree.decode(mended(schema.encode("utf-8", "replace")))
    except (msgspec.MsgspecError, RecursionError):
        return None
    return tree if isinstance(tree, dict) else None


# --- Walking ----------------------------------------------------------------------------------------------------------


def _mapped(node: Node, change: Callable[[Node], Node], depth: int = 0) -> Node:
    """A repaired copy of `node` with `change` done to every schema in it, children first."""

    def visit(child: Json) -> Json:
        return _mapped(child, change, depth + 1) if isinstance(child, dict) else child

    return change(_with_children(_repaired(node), visit)) if depth <= _MAX_DEPTH else node


def _with_children(node: Node, visit: Callable[[Json], Json]) -> Node:
    out = dict(node)
    for key, value in node.items():
        position = _POSITIONS.get(key)
        if position == "named" and isinstance(value, dict):
            out[key] = {name: visit(child) for name, child in value.items()}
        elif position in ("schema", "schemas") and isinstance(value, list):
            out[key] = [visit(child) for child in value]
        elif position == "schema" and isinstance(value, dict):
            out[key] = visit(value)
    return out


def _repaired(node: Node) -> Node:
    """`node` in the shape that the standard gives it.

    Seen in the wild: `{"city": {"type": "string"}}` for an object with a city, `required: true` on a property,
    `properties: null`, booleans for properties, texts for lists.
    """
    if _is_bare_map(node):
        node = {"type": "object", "properties": node}
    out = {key: value for key, value in node.items() if key not in _VALUES or _is_one_of(value, _VALUES[key])}
    if isinstance(node.get("properties"), dict | None) and "properties" in node:
        children = {name: {} if child is True else child for name, child in _object(node["properties"]).items()}
        out["properties"] = {name: child for name, child in children.items() if isinstance(child, dict)}
        flagged = [
            name for name, child in children.items() if isinstance(child, dict) and child.get("required") is True
        ]
        if flagged:
            out["required"] = [*_strings(out.get("required")), *flagged]
    if "required" in out:
        out["required"] = [*_unique(_strings(out["required"]))]
    for key in ("allOf", "anyOf", "oneOf", "prefixItems"):
        if key in out:
            out[key] = list[Json](_schemas(out[key]))
    return {key: value for key, value in out.items() if value != [] or key not in _POSITIONS or key == "items"}


def _is_one_of(value: Json, kinds: tuple[type, ...]) -> bool:
    """`isinstance`, but a boolean is no number."""
    return isinstance(value, kinds) and (not isinstance(value, bool) or bool in kinds)


def _is_bare_map(node: Node) -> bool:
    if not node or not node.keys().isdisjoint(_KEYWORDS) or any(name.startswith(("x-", "$")) for name in node):
        return False
    return all(isinstance(child, dict) and not child.keys().isdisjoint(_KEYWORDS) for child in node.values())


def _merged(node: Node, other: Node) -> Node:
    """Both schemas at once, as in `allOf`: names unite, and where they contradict, `node` is right."""
    out = dict(node)
    for key, theirs in other.items():
        ours = out.get(key)
        if key not in out:
            out[key] = theirs
        elif key == "required":
            out[key] = [*_unique([*_strings(ours), *_strings(theirs)])]
        elif key == "allOf" and isinstance(ours, list) and isinstance(theirs, list):
            out[key] = [*ours, *theirs]
        elif _POSITIONS.get(key) == "named" and isinstance(ours, dict) and isinstance(theirs, dict):
            out[key] = _named_merged(ours, theirs)
        elif key == "items" and isinstance(ours, dict) and isinstance(theirs, dict):
            out[key] = _merged(ours, theirs)
    return out


def _named_merged(ours: Node, theirs: Node) -> Node:
    out = dict(ours)
    for name, child in theirs.items():
        mine = out.get(name)
        out[name] = _merged(mine, child) if isinstance(mine, dict) and isinstance(child, dict) else out.get(name, child)
    return out


# --- References -------------------------------------------------------------------------------------------------------


class _References:
    """Resolves local references within one document, a bounded number of times."""

    def __init__(self, root: Node) -> None:
        self.root = root
        self.left = _MAX_EXPANDED_NODES

    def resolved(self, node: Node, active: frozenset[str]) -> tuple[Node, frozenset[str]]:
        """`node` with its reference replaced by the target; `active` grows by what was followed.

        What stands beside `$ref` wins over the target. A reference that closes a circle, leads nowhere or comes after
        the budget is spent becomes a stub that names it.
        """
        while isinstance(reference := node.get("$ref"), str):
            beside = {key: value for key, value in node.items() if key != "$ref"}
            target = self._target(reference)
            if target is None or reference in active or self.left <= 0:
                return _merged(beside, _stub(reference, target)), active
            self.left -= 1
            active |= {reference}
            node = _merged(beside, _repaired(target))
        return node, active

    def _target(self, reference: str) -> Node | None:
        if not reference.startswith("#"):
            return None
        here: Json = self.root
        for step in unquote(reference[1:]).split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if isinstance(here, dict):
                here = here.get(name)
            elif (
                isinstance(here, list) and name.isascii() and name.isdigit() and len(name) < 6 and int(name) < len(here)
            ):
                here = here[int(name)]
            else:
                return None
        return here if isinstance(here, dict) else None


def _stub(reference: str, target: Node | None) -> Node:
    name = reference.rsplit("/", 1)[-1].lstrip("#") or "root"
    types = _types(target or {})
    description = (target or {}).get("description")
    words = [description] if isinstance(description, str) and description else []
    return {"type": types[0] if types else "object", "description": " ".join([*words, f"See: {name}"])}


def _inlined(root: Node) -> Node:
    """The document without references, `allOf`, conditions and single-branch unions."""
    return _expanded(root, _References(root), frozenset(), 0)


def _expanded(value: Node, references: _References, active: frozenset[str], depth: int) -> Node:
    if active:
        references.left -= 1
    node, followed = references.resolved(_repaired(value), active)
    node = {key: child for key, child in node.items() if key not in ("$defs", "definitions", "defs")}
    if depth >= _MAX_DEPTH:
        types = [name for name in _types(node) if name != "null"]
        return {key: child for key, child in node.items() if key not in _POSITIONS} | (
            {"type": types[0]} if types else {}
        )

    def visit(child: Json) -> Json:
        return _expanded(child, references, followed, depth + 1) if isinstance(child, dict) else child

    return _united(_with_children(node, visit))


def _united(node: Node) -> Node:
    """`node` with everything that must hold at once in one place, and null as a flag instead of a branch."""
    out = {key: value for key, value in node.items() if key not in ("allOf", "anyOf", "oneOf", "if", "then", "else")}
    for branch in _schemas(node.get("allOf")):
        out = _merged(out, branch)
    for condition in ("then", "else"):
        if isinstance(branch := node.get(condition), dict):
            out = _merged(out, {"properties": _object(branch.get("properties"))} if "properties" in branch else {})
    branches = [*_schemas(node.get("anyOf")), *_schemas(node.get("oneOf"))]
    solid = [branch for branch in branches if not _is_null(branch)]
    if len(solid) < len(branches):
        out["nullable"] = True
    if len(solid) == 1:
        return _merged(out, solid[0])
    if solid:
        out["anyOf"] = list[Json](solid)
    return out


def _object_root(root: Node) -> Node:
    """`root` as a plain object: its reference followed, the branches of its unions united."""
    node = _flat(root, _References(root), frozenset())
    node["type"] = "object"
    if not isinstance(node.get("properties"), dict):
        node["properties"] = {}
    return {
        key: value for key, value in node.items() if key not in ("items", "prefixItems", "enum", "const", "nullable")
    }


def _flat(value: Node, references: _References, active: frozenset[str]) -> Node:
    references.left -= 1
    node, active = references.resolved(_repaired(value), active)
    unions = ("allOf", "anyOf", "oneOf")
    out = {key: child for key, child in node.items() if key not in unions}
    if references.left <= 0 or len(active) > _MAX_DEPTH:
        return out
    for branch in _schemas(node.get("allOf")):
        out = _merged(out, _flat(branch, references, active))
    for key in ("anyOf", "oneOf"):
        branches = [_flat(branch, references, active) for branch in _schemas(node.get(key)) if not _is_null(branch)]
        if not branches:
            continue
        always = [
            name
            for name in _strings(branches[0].get("required"))
            if all(name in _strings(branch.get("required")) for branch in branches)
        ]
        for branch in branches:
            out = _merged(out, {key: child for key, child in branch.items() if key != "required"})
        if always:
            out = _merged(out, {"required": list[Json](always)})
    return out


# --- Gemini -----------------------------------------------------------------------------------------------------------


def _gemini_node(node: Node) -> Node:
    """One node in the keywords that Gemini lists; its children are such nodes already."""
    values = _enum(node)
    node = _tuples_apart(_bounded({key: value for key, value in node.items() if key not in ("const", "enum")}))
    hints = [f"{key}: {_words(node[key])}" for key in _GEMINI_HINTED if key in node]
    declared = _types(node)
    is_nullable = node.get("nullable") is True or "null" in declared or None in values
    kinds, allowed, hint = _allowed(values, [name for name in declared if name != "null"])
    hints += hint
    branches = _schemas(node.get("anyOf"))
    if branches and not all(branches):
        branches = []  # a branch that allows anything makes the whole union say nothing
    if len(kinds) > 1:
        if not branches:
            branches = [_branch(kind, node, allowed) for kind in kinds]
            node = {key: value for key, value in node.items() if key not in _OF_SOME_TYPE}
        kinds, allowed = [], []
    kind = kinds[0] if kinds else _inferred(node, has_union=bool(branches))
    out = _described(_gemini_members(node, kind, hints), hints)
    if kind:
        out["type"] = [kind, "null"] if is_nullable else kind
    if kind == "array" and "items" not in out and "prefixItems" not in out:
        out["items"] = {}
    if allowed:
        out["enum"] = allowed
    if branches:
        out["anyOf"] = list[Json](_with_null(branches) if is_nullable and not kind else branches)
    return out


def _gemini_members(node: Node, kind: str, hints: list[str]) -> Node:
    """The members that can stay as they are, in their order; places for `type` and `anyOf` are held."""
    out: Node = {}
    names = _object(node.get("properties")).keys()
    for key, value in node.items():
        match key, value:
            case ("type", _) if kind:
                out[key] = kind
            case ("title" | "description" | "minimum" | "maximum" | "properties" | "additionalProperties", _):
                out[key] = value
            case ("items", dict()) | ("minItems" | "maxItems", int()) | ("prefixItems", [_, *_]):
                out[key] = value
            case ("required" | "propertyOrdering", _):
                if known := [name for name in _strings(value) if name in names]:
                    out[key] = list[Json](known)
            case ("format", str()) if value in _GEMINI_FORMATS.get(kind, ()):
                out[key] = value
            case ("format", _):
                hints.append(f"format: {value}")
            case _:
                pass
    return out


def _enum(node: Node) -> list[Json]:
    listed = node.get("enum")
    values = listed if isinstance(listed, list) else []
    if "const" in node and not values:
        values = [node["const"]]
    seen: dict[bytes, Json] = {}
    for value in values:
        seen.setdefault(encode(value), value)
    return list(seen.values())


def _allowed(values: list[Json], declared: list[str]) -> tuple[list[str], list[Json], list[str]]:
    """The types that `values` leave of the declared ones, the values that Gemini can list, and words for the others.

    It lists texts and numbers; an empty text is refused.
    """
    listed: list[Json] = [value for value in values if value not in (None, "")]
    kinds = list(_unique(_kind(value) for value in listed))
    if not kinds:
        return declared, [], []
    if not {"boolean", "object", "array"}.isdisjoint(kinds):
        return declared or kinds, [], [f"one of: {_words(values)}"]
    fitting = [kind for kind in declared if any(_fits(other, kind) for other in kinds)]
    kinds = fitting or (["number"] if set(kinds) == {"integer", "number"} else kinds)
    return kinds, [value for value in listed if any(_fits(_kind(value), kind) for kind in kinds)], []


def _kind(value: Json) -> str:
    match value:
        case bool():
            return "boolean"
        case str():
            return "string"
        case int():
            return "integer"
        case float() | Raw():
            return "number"
        case dict():
            return "object"
        case list():
            return "array"
        case None:
            return "null"


def _fits(kind: str, declared: str) -> bool:
    return kind == declared or (kind, declared) == ("integer", "number")


def _branch(kind: str, node: Node, allowed: list[Json]) -> Node:
    """What `node` says about values of one type, for a union by type."""
    out: Node = {"type": kind} | {key: node[key] for key in _KEYWORDS_OF_TYPE[kind] if key in node}
    if listed := [value for value in allowed if _fits(_kind(value), kind)]:
        out["enum"] = listed
    return _gemini_node(out)


def _with_null(branches: list[Node]) -> list[Node]:
    """The union and null; the first typed branch takes it, since a branch for null alone is not understood everywhere."""
    for number, branch in enumerate(branches):
        match branch.get("type"):
            case str() as kind:
                return [*branches[:number], {**branch, "type": [kind, "null"]}, *branches[number + 1 :]]
            case list():
                return branches
            case _:
                continue
    return [*branches, {"type": "null"}]


def _inferred(node: Node, *, has_union: bool) -> str:
    if "properties" in node:
        return "object"
    if "items" in node or "prefixItems" in node:
        return "array"
    return "" if has_union or not isinstance(node.get("additionalProperties"), dict) else "object"


def _bounded(node: Node) -> Node:
    """Exclusive bounds of whole numbers as inclusive ones."""
    if _types(node) != ["integer"]:
        return node
    for exclusive, inclusive, step in (("exclusiveMinimum", "minimum", 1), ("exclusiveMaximum", "maximum", -1)):
        bound = node.get(exclusive)
        if isinstance(bound, int) and not isinstance(bound, bool) and inclusive not in node:
            node = {key: value for key, value in node.items() if key != exclusive} | {inclusive: bound + step}
    return node


def _tuples_apart(node: Node) -> Node:
    """Tuples as `prefixItems`; maps by pattern as maps, which loses the pattern and keeps the values."""
    items, patterns = node.get("items"), _schemas(list(_object(node.get("patternProperties")).values()))
    if isinstance(items, list):
        node = {key: value for key, value in node.items() if key != "items"}
        node["prefixItems"] = list[Json](_schemas(items))
    elif isinstance(items, bool):
        node = {key: value for key, value in node.items() if key != "items"}
    if patterns and not isinstance(node.get("additionalProperties"), dict):
        node = {**node, "additionalProperties": patterns[0]}
    return node


# --- The others -------------------------------------------------------------------------------------------------------


def _portable_node(node: Node) -> Node:
    """Lower-case types, null as a type, nothing that only Gemini knows."""
    out = {key: value for key, value in node.items() if key not in _GEMINI_ONLY}
    types = _types(node)
    is_nullable = node.get("nullable") is True
    if is_nullable and types and "null" not in types:
        types = [*types, "null"]
    if types:
        out["type"] = list[Json](types) if len(types) > 1 else types[0]
    else:
        out.pop("type", None)
    branches, values = node.get("anyOf"), node.get("enum")
    if is_nullable and isinstance(branches, list) and not any(_is_null(branch) for branch in _schemas(branches)):
        out["anyOf"] = [*branches, {"type": "null"}]
    if is_nullable and isinstance(values, list) and None not in values:
        out["enum"] = [*values, None]
    return out


def _from_gemini_node(node: Node) -> Node:
    out: Node = {}
    for key, value in node.items():
        match key, value:
            case ("ref", str()):
                out["$ref"] = value.replace("#/defs/", "#/$defs/")
            case ("defs", dict()):
                out["$defs"] = value
            case ("example", _):
                out["examples"] = [value]
            case ("format", "enum"):
                pass
            case ("minItems" | "maxItems" | "minLength" | "maxLength" | "minProperties" | "maxProperties", str()):
                out[key] = _number(value)  # 64-bit integers travel as text in Google's JSON
            case ("properties", dict()):
                first = [name for name in _strings(node.get("propertyOrdering")) if name in value]
                out[key] = {name: value[name] for name in _unique([*first, *value])}
            case ("enum", list()) if "integer" in _types(node):
                out[key] = [_number(entry) for entry in value]
            case _:
                out[key] = value
    return _portable_node(out)


def _anthropic_output_node(node: Node) -> Node:
    if "$ref" in node:
        return {key: value for key, value in node.items() if key in ("$ref", "$defs", "definitions")}
    if "oneOf" in node and "anyOf" not in node:
        node = {"anyOf" if key == "oneOf" else key: value for key, value in node.items()}
    types = _types(node)
    if len(types) > 1 and "anyOf" not in node and "enum" not in node:
        split = [_anthropic_output_node(_only(kind, node)) for kind in types]
        node = {key: value for key, value in node.items() if key != "type" and key not in _OF_SOME_TYPE}
        node["anyOf"] = list[Json](split)
        types = []
    if "object" in types:
        names = _object(node.get("properties"))
        required = [name for name in _strings(node.get("required")) if name in names]
        node = {key: value for key, value in node.items() if key != "required"}
        node["properties"] = names
        if required:
            node["required"] = list[Json](required)
    out = {key: value for key, value in node.items() if _is_anthropic_output(key, value)}
    if "object" in types:
        out["additionalProperties"] = False
    hints = [
        f"{key}: {_words(value)}"
        for key, value in node.items()
        if key not in out and not isinstance(value, bool | None) and not key.startswith(("$", "x-"))
    ]
    return _described(out, hints)


def _only(kind: str, node: Node) -> Node:
    return {"type": kind} | {key: node[key] for key in _KEYWORDS_OF_TYPE.get(kind, ()) if key in node}


def _is_anthropic_output(key: str, value: Json) -> bool:
    match key:
        case "additionalProperties":
            return value is False
        case "items":
            return isinstance(value, dict)
        case "minItems":
            return value in (0, 1)
        case "format":
            return value in _ANTHROPIC_FORMATS
        case "enum":
            return (
                isinstance(value, list) and bool(value) and not any(isinstance(entry, dict | list) for entry in value)
            )
        case "const":
            return not isinstance(value, dict | list)
        case _:
            return key in _ANTHROPIC_KEPT


class _NotStrict(Exception):
    """The schema breaks a rule of OpenAI's strict mode."""


def _strict_properties(node: Node, levels: int) -> int:
    """How many properties there are below `node`. Raises _NotStrict when a rule is broken."""
    properties = _object(node.get("properties"))
    types = _types(node)
    if (
        levels < 0
        or not _OPENAI_STRICT_REFUSED.isdisjoint(node)
        or ("$ref" in node and node.keys() - {"$ref", "$defs", "definitions"})
    ):
        raise _NotStrict
    if not types and node.keys().isdisjoint({"anyOf", "$ref", "enum", "const"}):
        raise _NotStrict
    if "object" in types and (
        node.get("additionalProperties") is not False or set(_strings(node.get("required"))) != properties.keys()
    ):
        raise _NotStrict
    if "array" in types and not isinstance(node.get("items"), dict):
        raise _NotStrict
    count = len(properties)
    for key in ("properties", "$defs", "definitions"):
        deeper = levels - 1 if key == "properties" else levels
        for child in _object(node.get(key)).values():
            count += _strict_child(child, deeper)
    for child in [*_list(node.get("anyOf")), *_list(node.get("prefixItems"))]:
        count += _strict_child(child, levels)
    return count + (_strict_child(node["items"], levels - 1) if "items" in node else 0)


def _strict_child(child: Json, levels: int) -> int:
    if not isinstance(child, dict):
        raise _NotStrict
    return _strict_properties(child, levels)


# --- Values -----------------------------------------------------------------------------------------------------------


def _types(node: Node) -> list[str]:
    """The declared types in JSON Schema's spelling; what is no type is left out."""
    declared = node.get("type")
    names = declared if isinstance(declared, list) else [declared]
    return list(_unique(_TYPES[name.lower()] for name in names if isinstance(name, str) and name.lower() in _TYPES))


def _is_null(node: Node) -> bool:
    return _types(node) == ["null"] or node.get("enum") == [None] or ("const" in node and node["const"] is None)


def _described(node: Node, hints: list[str]) -> Node:
    if not hints:
        return node
    description = node.get("description")
    words = f"{description} " if isinstance(description, str) and description else ""
    return node | {"description": f"{words}({', '.join(hints)})"}


def _words(value: Json) -> str:
    text = value if isinstance(value, str) else encode(value).decode()
    return text if len(text) <= _MAX_HINT_LENGTH else f"{text[:_MAX_HINT_LENGTH]}..."


def _number(value: Json) -> Json:
    """The number that a text spells; anything else as it is."""
    if (
        isinstance(value, str)
        and value.removeprefix("-").isascii()
        and value.removeprefix("-").isdigit()
        and len(value) < 20
    ):
        return int(value)
    return value


def _object(value: Json) -> Node:
    return value if isinstance(value, dict) else {}


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _schemas(value: Json) -> list[Node]:
    """The schemas in a list; `true` among them allows anything, `false` nothing."""
    return [{} if entry is True else entry for entry in _list(value) if entry is True or isinstance(entry, dict)]


def _strings(value: Json) -> list[str]:
    return [entry for entry in _list(value) if isinstance(entry, str)]


def _unique(names: Iterable[str]) -> Iterable[str]:
    return dict.fromkeys(names)
