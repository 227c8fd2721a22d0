import json as oracle
import re
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from cliproxy.canon.errors import BrokenAnswer, InvalidJson, InvalidRequest
from cliproxy.wire import json

DEEP = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"

# -- find and replaced, against a reader of the plainest kind

names = st.sampled_from(["model", "a", "b", "", "modél", 'quo"te', "back\\slash", "{", "\u2028"])
spaces = st.text(" \n\r\t", max_size=2)
leaves = st.one_of(
    st.sampled_from(
        ['"x"', "1.10", "-0", "1e5", "true", "null", "{}", "[]", r'"}{\"\\"', '"\\u006d"', '"\u2028"', '"model"']
    )
)


@st.composite
def key_texts(draw: st.DrawFn) -> str:
    name = draw(names)
    if draw(st.booleans()):
        return '"' + "".join(f"\\u{ord(letter):04x}" for letter in name) + '"'
    return oracle.dumps(name, ensure_ascii=draw(st.booleans()))


@st.composite
def objects(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    members = draw(st.lists(st.tuples(spaces, key_texts(), spaces, spaces, values, spaces), max_size=5))
    inside = ",".join(f"{a}{key}{b}:{c}{value}{d}" for a, key, b, c, value, d in members)
    return "{" + (inside or draw(spaces)) + "}"


@st.composite
def arrays(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    return "[" + ",".join(draw(st.lists(values, max_size=3))) + draw(spaces) + "]"


texts = st.recursive(leaves, lambda values: st.one_of(objects(values), arrays(values)), max_leaves=12)
documents = st.tuples(spaces, st.one_of(objects(texts), texts), spaces).map("".join)
_WHITE = re.compile(r"[ \n\r\t]*")
_decoder = oracle.JSONDecoder()


def span(text: str, path: tuple[str, ...]) -> tuple[int, int] | None:
    """Where the value stands, in characters: members are walked one by one, and the last of equal names wins."""
    start, end = _past(text, 0), len(text.rstrip(" \n\r\t"))
    for name in path:
        if text[start] != "{":
            return None
        found, at = None, _past(text, start + 1)
        while text[at] != "}":
            key, at = _decoder.raw_decode(text, at)
            begins = _past(text, _past(text, at) + 1)
            _, ends = _decoder.raw_decode(text, begins)
            if key == name:
                found = (begins, ends)
            at = _past(text, ends)
            at = _past(text, at + 1) if text[at] == "," else at
        if found is None:
            return None
        start, end = found
    return start, end


def _past(text: str, at: int) -> int:
    match = _WHITE.match(text, at)
    assert match is not None
    return match.end()


@settings(deadline=None)
@given(text=documents, path=st.lists(names, min_size=1, max_size=3).map(tuple))
@example(text='{"a":1,"a":1}', path=("a",))
@example(text='{"a":{"b":1},"b":2,"a":{"b":3,"b":4}}', path=("a", "b"))
@example(text='{"\\u0061" : 1 }', path=("a",))
def test_a_value_is_found_where_a_plain_reader_finds_it(text: str, path: tuple[str, ...]) -> None:
    data = text.encode()
    wanted = span(text, path)
    found = json.find(data, path)

    assert (found is None) == (wanted is None)
    if found is not None and wanted is not None:
        assert data[found[0] : found[1]] == text[wanted[0] : wanted[1]].encode()
        assert len(data[: found[0]].decode()) == wanted[0]


@settings(deadline=None)
@given(text=documents, path=st.lists(names, min_size=1, max_size=3).map(tuple))
def test_every_byte_beside_a_replaced_value_stays(text: str, path: tuple[str, ...]) -> None:
    data = text.encode()
    wanted = span(text, path)
    out = json.replaced(data, path, b'"new"')

    if wanted is None:
        assert out is data
    else:
        assert out.decode() == text[: wanted[0]] + '"new"' + text[wanted[1] :]


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ('{"model":"x"}', ("model",), '"x"'),
        (' \n{ "model" :\t"x" , "b":1} ', ("model",), '"x"'),
        ('{"a":"model","model":1.10}', ("model",), "1.10"),
        ('{"a":{"model":1},"model":2}', ("model",), "2"),
        ('{"a":{"model":1}}', ("a", "model"), "1"),
        ('{"a":{"model":1}}', ("a",), '{"model":1}'),
        ('{"a":"\\",\\"model\\":5","model":[{}, {"model":1}]}', ("model",), '[{}, {"model":1}]'),
        ('{"m\\u006fdel":1}', ("model",), "1"),
        ('{"model":1,"model":2,"x":3}', ("model",), "2"),
        ('{"x":{"a":1},"x":{"b":2}}', ("x", "a"), None),
        ('{"model":1,"mo\\u0064el":2}', ("model",), "2"),
        ('{"x":1}', ("model",), None),
        ('{"x":1}', ("x", "model"), None),
        ('{"x":"{"}', ("x", "model"), None),
        ('[{"model":1}]', ("model",), None),
        ("{}", ("model",), None),
        ("", ("model",), None),
        ('{"model":1', ("model",), None),
        ('{"model":1}}', ("model",), None),
        ('{"model":1} {', ("model",), None),
        ('{"model":"\\ud800"}', ("x",), None),
    ],
)
def test_values_are_found_by_their_place(text: str, path: tuple[str, ...], value: str | None) -> None:
    found = json.find(text.encode(), path)

    assert (None if found is None else text.encode()[found[0] : found[1]].decode()) == value


def test_the_empty_path_is_the_whole() -> None:
    assert json.replaced(b'{"a":1}', (), b"2") == b"2"


@pytest.mark.parametrize("data", [DEEP, b'{"a":\xff}', b'{"\xff":1,"a":2}'])
def test_what_cannot_be_read_is_left_alone(data: bytes) -> None:
    assert json.replaced(data, ("model",), b"1") is data


# -- mended

tokens = st.sampled_from(
    [
        "x",
        "é",
        "\\\\",
        '\\"',
        "\\n",
        "\\/",
        "\\ud83d\\ude00",
        "\\uD83D\\uDE00",
        "\\ud800",
        "\\udfff",
        "\\uDBFF",
        "\\u0041",
        "ud800",
        "\\ufffd",
        "\\ue000",
        "\\ud7ff",
    ]
)
_ESCAPE = re.compile(r"\\(?:u(....)|.)|.", re.DOTALL)


def mended_slowly(text: str) -> str:
    out: list[str] = []
    units = list(_ESCAPE.finditer(text))
    at = 0
    while at < len(units):
        code = int(units[at][1] or "0", 16)
        after = int(units[at + 1][1] or "0", 16) if at + 1 < len(units) else 0
        if 0xD800 <= code < 0xDC00 <= after < 0xE000:
            out.append(units[at][0] + units[at + 1][0])
            at += 2
            continue
        out.append("\\ufffd" if 0xD800 <= code < 0xE000 else units[at][0])
        at += 1
    return "".join(out)


@settings(deadline=None)
@given(parts=st.lists(tokens, max_size=12))
@example(parts=["\\ud800", "\\ud83d\\ude00", "\\udfff"])
@example(parts=["\\\\", "\\ud800", "\\\\", "ud800"])
def test_lone_surrogates_and_nothing_else_are_mended(parts: list[str]) -> None:
    text = '"' + "".join(parts) + '"'
    out = json.mended(text.encode())

    assert out.decode() == mended_slowly(text)
    msgspec.json.decode(out)


def test_what_needs_no_mending_stays_the_same_bytes() -> None:
    data = '{"a":"\\ud83d\\ude00 \\\\ud800 é"}'.encode()

    assert json.mended(data) == data


def test_an_upstreams_lone_surrogates_are_read_and_a_callers_are_not() -> None:
    decoder = msgspec.json.Decoder(dict[str, str])

    assert json.decode_leniently(decoder, b'{"a":"x\\ud800"}') == {"a": "x\ufffd"}
    with pytest.raises(InvalidJson):
        json.decode_as(decoder, b'{"a":"x\\ud800"}')


# -- writing


@settings(deadline=None)
@given(text=st.text(st.sampled_from('ab\u2028\u2029\x85\x0b\r\n"\\é\u2027\U0001f600')))
def test_encoded_text_is_one_line_for_every_reader(text: str) -> None:
    out = json.encode({"a": text, text: [text]})

    assert oracle.loads(out) == {"a": text, text: [text]}
    assert len(out.decode().splitlines()) == 1


def test_raw_parts_are_encoded_as_they_came() -> None:
    assert json.encode({"a": msgspec.Raw(b'{"x": 1.10, "x": 2}')}) == b'{"a":{"x": 1.10, "x": 2}}'


@settings(deadline=None)
@given(text=documents)
def test_compact_text_means_the_same_and_keeps_spellings(text: str) -> None:
    out = json.compact(text)

    assert oracle.loads(out) == oracle.loads(text)
    assert re.findall(r'"(?:[^"\\]|\\.)*"|[0-9.e-]+', out) == re.findall(r'"(?:[^"\\]|\\.)*"|[0-9.e-]+', text)
    assert json.compact(text.encode()) == out


# -- complaints


class Inner(Struct, tag="inner", forbid_unknown_fields=True):
    kind: Literal["a", "b"] = "a"
    count: int = 0


class Other(Struct, tag="other"):
    pass


_decode = msgspec.json.Decoder(dict[str, Inner | Other])
SECRET = "s3cret - at `$.x` value 'y'"

COMPLAINTS: dict[str, bytes] = {
    "enum": oracle.dumps({"f": {"type": "inner", "kind": SECRET}}).encode(),
    "tag": oracle.dumps({"f": {"type": SECRET}}).encode(),
    "unknown field": oracle.dumps({"f": {"type": "inner", SECRET: 1}}).encode(),
    "type": oracle.dumps({"f": {"type": "inner", "count": SECRET}}).encode(),
    "trailing": b"{} " + SECRET.encode(),
    "not json": SECRET.encode(),
    "escape": b'{"s3cret":"\\q"}',
    "not utf-8": b'{"s3cret\xff":{}}',
    "deep": b'{"s3cret":' + b"[" * 100_000,
}


@pytest.mark.parametrize("case", COMPLAINTS)
def test_complaints_never_repeat_what_was_sent(case: str) -> None:
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError, RecursionError)) as caught:
        _decode.decode(COMPLAINTS[case])

    said = json.describe(caught.value)
    assert "s3cret" not in said
    assert said


@pytest.mark.parametrize("case", COMPLAINTS)
def test_an_upstreams_answer_that_cannot_be_read_is_broken_and_not_repeated(case: str) -> None:
    with pytest.raises(BrokenAnswer) as caught:
        json.decode_leniently(_decode, COMPLAINTS[case])

    assert "s3cret" not in str(caught.value)


def test_a_field_of_the_wrong_kind_is_named_by_its_place() -> None:
    with pytest.raises(InvalidRequest, match=re.escape("Expected `int`, got `str` at `[...].count`")) as caught:
        json.decode_as(_decode, b'{"f":{"type":"inner","count":"x"}}')

    assert caught.value.problem.param == "[...].count"


@pytest.mark.parametrize(("data", "field"), [(COMPLAINTS["enum"], "[...].kind"), (b"[]", ""), (b"{}x", None)])
def test_what_is_wrong_decides_the_error(data: bytes, field: str | None) -> None:
    with pytest.raises(InvalidJson if field is None else InvalidRequest) as caught:
        json.decode_as(_decode, data)

    assert caught.value.problem.param == (field or "")


@pytest.mark.parametrize("data", [b"", b"[1]", b"{", b'{"a":}', b"\xff", DEEP, b'{"a":1}}'])
def test_members_are_those_of_an_object_or_the_json_is_invalid(data: bytes) -> None:
    assert not json.is_object(data)
    with pytest.raises(InvalidJson) as caught:
        json.members(data)

    assert caught.value.problem.kind == "invalid_json"


@pytest.mark.parametrize(
    ("data", "is_json"), [(b"1", True), ("é", False), (b'"x"', True), (b"{} {}", False), (DEEP, False)]
)
def test_json_is_told_from_other_text(data: Any, is_json: bool) -> None:
    assert json.is_json(data) == is_json
