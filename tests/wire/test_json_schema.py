"""Schemas of many hands through every vendor's door: the corpus, and what must hold for any schema at all."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cliproxy.wire import json_schema

_CORPUS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "golden" / "schemas" / "corpus.json").read_text("utf-8")
)
_TARGETS = {
    "gemini": json_schema.for_gemini,
    "gemini_output": json_schema.for_gemini_output,
    "openai": json_schema.for_openai,
    "anthropic": json_schema.for_anthropic,
    "anthropic_output": json_schema.for_anthropic_output,
}
_SAME_AS = {"gemini_output": "gemini", "anthropic": "openai"}
_GEMINI_KEYWORDS = {
    *("type", "format", "title", "description", "enum", "items", "prefixItems", "minItems", "maxItems"),
    *("minimum", "maximum", "anyOf", "properties", "additionalProperties", "required", "propertyOrdering"),
}


@pytest.mark.parametrize("target", _TARGETS)
@pytest.mark.parametrize("case", _CORPUS, ids=lambda case: case["name"])
def test_corpus(case: dict[str, Any], target: str) -> None:
    expected = case[target] if target in case else case[_SAME_AS[target]]

    assert _TARGETS[target](case["schema"]) == expected


@pytest.mark.parametrize("case", _CORPUS, ids=lambda case: case["name"])
def test_corpus_says_what_is_strict_and_what_takes_nothing(case: dict[str, Any]) -> None:
    assert json_schema.is_strict_ready(case["schema"]) == case["is_strict_ready"]
    assert json_schema.takes_nothing(case["schema"]) == case["takes_nothing"]


@pytest.mark.parametrize(
    ("openapi", "expected"),
    [
        ('{"type":"STRING","nullable":true}', '{"type":["string","null"]}'),
        ('{"type":"INTEGER","enum":["1","x"]}', '{"type":"integer","enum":[1,"x"]}'),
        ('{"type":"STRING","format":"enum","enum":["1"]}', '{"type":"string","enum":["1"]}'),
        (
            '{"type":"ARRAY","minItems":"2","items":{"type":"NUMBER"}}',
            '{"type":"array","minItems":2,"items":{"type":"number"}}',
        ),
        ('{"type":"STRING","example":"a"}', '{"type":"string","examples":["a"]}'),
        (
            '{"type":"OBJECT","properties":{"b":{"type":"STRING"},"a":{"type":"STRING"}},"propertyOrdering":["a"]}',
            '{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"string"}}}',
        ),
        (
            '{"ref":"#/defs/A","defs":{"A":{"type":"OBJECT"}}}',
            '{"$ref":"#/$defs/A","$defs":{"A":{"type":"object"}}}',
        ),
        (
            '{"anyOf":[{"type":"STRING"},{"type":"NUMBER"}],"nullable":true}',
            '{"anyOf":[{"type":"string"},{"type":"number"},{"type":"null"}]}',
        ),
        ('{"type":"TYPE_UNSPECIFIED"}', "{}"),
        (
            '{"type":"OBJECT","properties":{"type":{"type":"STRING","enum":["OBJECT"]},"nullable":{"type":"BOOLEAN"}}}',
            '{"type":"object","properties":{"type":{"type":"string","enum":["OBJECT"]},"nullable":{"type":"boolean"}}}',
        ),
    ],
)
def test_openapi_becomes_json_schema(openapi: str, expected: str) -> None:
    assert json_schema.from_gemini(openapi) == expected


@pytest.mark.parametrize(
    ("reason", "schema"),
    [
        (
            "a property is optional",
            '{"type":"object","properties":{"a":{"type":"string"}},"required":[],"additionalProperties":false}',
        ),
        ("more properties may come", '{"type":"object","properties":{},"required":[]}'),
        (
            "a default",
            '{"type":"object","properties":{"a":{"type":"string","default":"x"}},"required":["a"],"additionalProperties":false}',
        ),
        ("no type", '{"type":"object","properties":{"a":{}},"required":["a"],"additionalProperties":false}'),
        (
            "oneOf",
            '{"type":"object","properties":{"a":{"oneOf":[{"type":"string"}]}},"required":["a"],"additionalProperties":false}',
        ),
        (
            "siblings of a reference",
            '{"type":"object","properties":{"a":{"$ref":"#","title":"x"}},"required":["a"],"additionalProperties":false}',
        ),
        ("a union at the root", '{"anyOf":[{"type":"object","properties":{},"additionalProperties":false}]}'),
    ],
)
def test_not_strict_ready(reason: str, schema: str) -> None:
    assert not json_schema.is_strict_ready(schema), reason


def test_recursion_through_definitions_is_strict_ready() -> None:
    schema = (
        '{"type":"object","properties":{"n":{"anyOf":[{"$ref":"#/$defs/N"},{"type":"null"}]}},"required":["n"],'
        '"additionalProperties":false,"$defs":{"N":{"type":"object","properties":{"n":{"$ref":"#/$defs/N"}},'
        '"required":["n"],"additionalProperties":false}}}'
    )

    assert json_schema.is_strict_ready(schema)


def test_inlining_that_would_explode_ends_in_stubs() -> None:
    names = [f"T{number}" for number in range(30)]
    definitions = {
        name: {"type": "object", "properties": {side: {"$ref": f"#/$defs/{after}"} for side in "lr"}}
        for name, after in zip(names, [*names[1:], "T29"], strict=True)
    }
    schema = json.dumps({"type": "object", "properties": {"t": {"$ref": "#/$defs/T0"}}, "$defs": definitions})

    cleaned = json_schema.for_gemini(schema)

    assert len(cleaned) < 400_000
    assert "See: T" in cleaned


def test_root_union_that_would_explode_ends() -> None:
    definitions = {f"T{n}": {"allOf": [{"$ref": f"#/$defs/T{n + 1}"}] * 9} for n in range(20)}
    schema = json.dumps({"$ref": "#/$defs/T0", "$defs": definitions})

    assert json_schema.for_anthropic(schema)
    assert json_schema.for_openai(schema)


@pytest.mark.parametrize("target", _TARGETS)
@pytest.mark.parametrize("depth", [70, 200, 3000])
def test_deep_nesting_never_raises(depth: int, target: str) -> None:
    schema = '{"type":"object","properties":{"a":' * depth + '{"type":"string"}' + "}}" * depth

    assert _TARGETS[target](schema).startswith('{"type":"object"')


def test_work_is_linear_in_the_properties() -> None:
    def seconds(count: int) -> float:
        properties = {f"p{number}": {"type": ["string", "null"], "minLength": 1} for number in range(count)}
        schema = json.dumps({"type": "object", "properties": properties, "required": list(properties)})
        started = time.perf_counter()
        json_schema.for_gemini(schema)
        return time.perf_counter() - started

    small, large = min(seconds(1000) for _ in range(3)), min(seconds(4000) for _ in range(3))

    assert large < small * 12


_NAMES = st.sampled_from(["a", "type", "properties", "$ref", "items", "x-y"])
_LEAVES = st.sampled_from([None, True, False, 0, 1.5, "", "a", [], {}, [None, "a", 1], "string", "OBJECT"])
_KEYWORDS = st.sampled_from(
    [
        *("type", "enum", "const", "description", "format", "required", "minimum", "exclusiveMinimum", "minItems"),
        *("nullable", "default", "pattern", "title", "uniqueItems", "additionalProperties", "propertyOrdering"),
    ]
)
_TYPES = st.sampled_from(
    ["string", "integer", "object", "array", "null", "boolean", ["string", "null"], ["string", "integer"]]
)
_REFERENCES = st.sampled_from(["#", "#/properties/a", "#/$defs/a", "#/items", "x"])


def _grown(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    named = st.dictionaries(_NAMES, children, max_size=3)
    listed = st.lists(children, max_size=3)
    return st.fixed_dictionaries(
        {},
        optional={
            "type": _TYPES,
            "description": st.just("d"),
            "properties": named,
            "required": st.lists(_NAMES, max_size=3),
            "items": st.one_of(children, listed),
            "anyOf": listed,
            "oneOf": listed,
            "allOf": listed,
            "additionalProperties": st.one_of(st.booleans(), children),
            "patternProperties": named,
            "not": children,
            "then": children,
            "$defs": named,
            "$ref": _REFERENCES,
            "enum": st.lists(st.sampled_from(["a", "", 1, 2.5, None, True, {}]), max_size=4),
        },
    )


_SCHEMAS = st.recursive(
    st.one_of(st.dictionaries(_KEYWORDS, _LEAVES, max_size=4), st.booleans()),
    lambda children: st.one_of(_grown(children), st.dictionaries(_NAMES, children, max_size=2)),
    max_leaves=12,
)


@settings(max_examples=80, deadline=None)
@given(schema=_SCHEMAS)
def test_cleaning_twice_changes_nothing_and_leaves_only_known_keywords(schema: Any) -> None:
    for clean in (json_schema.for_gemini, json_schema.for_gemini_output):
        once = clean(json.dumps(schema))

        assert clean(once) == once
        _assert_gemini(json.loads(once))


@settings(max_examples=50, deadline=None)
@given(schema=_SCHEMAS)
def test_every_target_takes_anything(schema: Any) -> None:
    text = json.dumps(schema)

    for clean in (*_TARGETS.values(), json_schema.from_gemini):
        assert isinstance(json.loads(clean(text)), dict)
    for clean in (json_schema.for_gemini, json_schema.for_openai, json_schema.for_anthropic):
        root = json.loads(clean(text))
        assert root["type"] == "object"
        assert isinstance(root["properties"], dict)
        assert root.keys().isdisjoint({"anyOf", "oneOf", "allOf"})
    json_schema.is_strict_ready(text)


def _assert_gemini(node: Any) -> None:
    assert isinstance(node, dict)
    assert node.keys() <= _GEMINI_KEYWORDS
    for kind in node["type"] if isinstance(node.get("type"), list) else [node.get("type", "object")]:
        assert kind in {"object", "array", "string", "number", "integer", "boolean", "null"}
    assert set(node.get("required", [])) <= node.get("properties", {}).keys()
    assert node.get("enum", ["x"]), "an empty enum allows nothing"
    children = [*node.get("properties", {}).values(), *node.get("anyOf", []), *node.get("prefixItems", [])]
    children += [node[key] for key in ("items", "additionalProperties") if isinstance(node.get(key), dict)]
    for child in children:
        _assert_gemini(child)
