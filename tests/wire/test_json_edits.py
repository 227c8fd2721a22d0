"""Objects edited as text: what is not meant keeps its bytes, and what programs could read differently is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cliproxy.wire.json_edits import BadJson, check, remove, replace

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from(["a", "b", "c", "ü", 'q"', "\\", "", "a.b"]) | st.text(max_size=3), VALUES)
NAMES = st.sampled_from(["a", "b", "c", "ü", 'q"', "\\", "", "new"])
LAYOUTS = st.sampled_from(
    [
        {},
        {"separators": (",", ":")},
        {"indent": 2},
        {"indent": "\t", "ensure_ascii": False},
        {"separators": (" ,\n", " :\t")},
    ]
)


@given(OBJECTS, LAYOUTS, NAMES, VALUES)
def test_replace_gives_what_a_dictionary_would(members, layout, name, value):
    data = json.dumps(members, **layout).encode()

    edited = replace(data, (name,), value)

    check(edited)
    assert list(json.loads(edited).items()) == list({**members, name: value}.items())


@given(OBJECTS, LAYOUTS, NAMES)
def test_remove_gives_what_a_dictionary_would(members, layout, name):
    data = json.dumps(members, **layout).encode()

    edited = remove(data, (name,))

    check(edited)
    assert list(json.loads(edited).items()) == [(key, value) for key, value in members.items() if key != name]
    assert name in members or edited is data


@given(OBJECTS, LAYOUTS, st.lists(NAMES, min_size=2, max_size=3), VALUES)
def test_a_path_leads_into_objects_and_makes_those_that_miss(members, layout, path, value):
    data = json.dumps(members, **layout).encode()
    wanted = json.loads(data)
    inner = wanted
    for name in path[:-1]:
        inner = inner.setdefault(name, {})
        if not isinstance(inner, dict):
            with pytest.raises(BadJson):
                replace(data, tuple(path), value)
            assert remove(data, tuple(path)) is data
            return
    inner[path[-1]] = value

    edited = replace(data, tuple(path), value)

    assert json.loads(edited) == wanted
    del inner[path[-1]]
    assert json.loads(remove(edited, tuple(path))) == wanted


def test_only_what_changes_is_touched():
    data = b'{\n  "n" : 1.10,\n  "token" : {"expiry": 1e2, "x":"\\u0041"},\n\n  "b" :[ ]\n}\n'

    assert replace(data, ("token", "expiry"), 5) == data.replace(b"1e2", b"5")
    assert replace(data, ("b",), None) == data.replace(b"[ ]", b"null")
    assert remove(data, ("n",)) == data.replace(b'"n" : 1.10,\n  ', b"")
    assert remove(data, ("b",)) == data.replace(b',\n\n  "b" :[ ]', b"")


@pytest.mark.parametrize(
    ("data", "edited"),
    [
        (b"{}", b'{"z":1}'),
        (b'{"a":0}\n', b'{"a":0,"z":1}\n'),
        (b'{"a": 0, "b": 0}', b'{"a": 0, "b": 0, "z": 1}'),
        (b'{\n  "a": 0\n}\n', b'{\n  "a": 0,\n  "z": 1\n}\n'),
    ],
)
def test_a_new_member_is_laid_out_like_those_before_it(data, edited):
    assert replace(data, ("z",), 1) == edited


def test_names_are_compared_as_what_they_mean():
    assert replace(b'{"\\u0061":1}', ("a",), 2) == b'{"\\u0061":2}'


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"garbage", "malformed"),
        (b"{} {}", "trailing"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b'{"a":"\xff"}', "not UTF-8"),
        (b'{"a":"\xed\xa0\x80"}', "not UTF-8"),
        (b'{"a":"\\ud800"}', "surrogate"),
        (b'{"a":"\\udc00\\ud800"}', "surrogate"),
        (b'{"a":NaN}', "malformed"),
        (b'{"a":-Infinity}', "malformed"),
        (b'{"a":1e999}', "out of range"),
        (b'{"a":[{"b":' + b"9" * 5000 + b"}]}", "out of range"),
        (b'{"a":1,"a":1}', "stands twice"),
        (b'{"a":1,"\\u0061":1}', "stands twice"),
        (b'{"x":[{"a":1,"b":{},"a":1}]}', "stands twice"),
        (b'{"a":' * 101 + b"1" + b"}" * 101, "nested too deeply"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"a":' + b"[" * 100_000, "nested too deeply"),
    ],
)
def test_what_programs_could_read_differently_is_refused(data, reason):
    with pytest.raises(BadJson, match=reason):
        check(data)


@pytest.mark.parametrize(
    "data",
    [
        b"{}",
        b' {"a":1}\n',
        b'{"a":{"a":1},"b":[{"a":1},{"a":1}]}',
        b'{"a":"\\ud83d\\ude00 \\\\ud800 : {\\"a\\":1}"}',
        b'{"a":123456789012345678901234567890,"b":-1.5E-400}',
        b'{"a":' * 100 + b"1" + b"}" * 100,
        b'{"":"' + b"x" * 5_000_000 + b'"}',
        b"{" + b" " * 5_000_000 + b'"a"' + b"\n" * 5_000_000 + b":" + b" " * 5_000_000 + b"{ }}",
    ],
)
def test_what_all_programs_read_alike_is_taken(data):
    check(data)

    assert remove(replace(data, ("z",), 1), ("z",)) == data
