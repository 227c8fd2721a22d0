"""Refusals in the shapes that vendors give them, and that nothing secret is ever told."""

import json

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cliproxy.oauth.answers import as_number, harmless, read_object, read_refusal
from cliproxy.oauth.claims import claims_within, read_claims
from cliproxy.wire.secrets import Secret
from exchanges import answer, jwt

SHAPES = [
    ({"error": "invalid_grant"}, "invalid_grant", "invalid_grant"),
    ({"error": "invalid_grant", "error_description": "It is\n gone."}, "invalid_grant", "invalid_grant: It is gone."),
    ({"error": {"code": "token_expired", "message": "Too late."}}, "token_expired", "token_expired: Too late."),
    ({"type": "error", "error": {"type": "invalid_grant", "message": "No."}}, "invalid_grant", "invalid_grant: No."),
    ({"error": {"code": 403, "status": "DENIED", "message": "No."}}, "DENIED", "DENIED: No."),
    ([{"error": {"code": 403, "status": "DENIED", "message": "No."}}], "DENIED", "DENIED: No."),
    ({"error": {"message": "Only words."}}, "", "Only words."),
    ({"code": "slow_down", "message": "Slowly."}, "slow_down", "slow_down: Slowly."),
    ({"detail": "Just this."}, "", "Just this."),
    ({"detail": {"code": "c", "message": "m"}}, "c", "c: m"),
    ({"error": 7, "message": ["x"]}, "", ""),
    ({"error": None}, "", ""),
    ([], "", ""),
    ("text", "", ""),
    (b"<html><body>502 Bad Gateway</body></html>", "", ""),
    (b"", "", ""),
    (b"\xff\xfe\x00", "", ""),
    (b"\xef\xbb\xbf" + b'{"error":"x"}', "x", "x"),
    (rb'{"error":"x","error_description":"lone \ud800"}', "x", "x: lone \ufffd"),
    (b"[" * 100_000, "", ""),
]


@pytest.mark.parametrize(("body", "code", "told"), SHAPES, ids=range(len(SHAPES)))
def test_a_refusal_of_every_shape_is_read(body, code, told):
    refusal = read_refusal(answer(body, 400))

    assert (refusal.status, refusal.code, refusal.told, refusal.retry_after) == (400, code, told, None)


def test_a_long_text_is_cut():
    told = read_refusal(answer({"error": "x", "error_description": "word " * 500}, 400)).told

    assert len(told) <= 300
    assert told.endswith("…")


def test_a_body_beyond_a_mebibyte_is_not_read():
    assert read_refusal(answer({"error": "x", "padding": "y" * 1024 * 1024}, 400)).code == ""


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "12"}, 12.0),
        ({"retry_after_ms": "1500", "retry_after": "9"}, 1.5),
        ({"retry_after": "Tue, 24 Nov 2026 12:01:00 GMT", "date": "Tue, 24 Nov 2026 12:00:00 GMT"}, 60.0),
        ({"retry_after": "Tue, 24 Nov 2026 12:01:00 GMT"}, None),
        ({"retry_after": "999999999"}, 86_400.0),
        ({"retry_after": "soon", "date": "never"}, None),
        ({}, None),
    ],
)
def test_a_stated_wait_is_read_by_the_vendors_own_clock(headers, seconds):
    assert read_refusal(answer({"error": "x"}, 429, **headers)).retry_after == seconds


@pytest.mark.parametrize(
    "text",
    ["sk-ant-oat01-abcdefgh", "ya29.a0AfH6SMBx", "1//0gabcdefghij", "eyJhbGciOiJub25lIn0.eyJ9.x", "A" * 64, "rt_abcdefgh"],
)  # fmt: skip
def test_what_looks_like_a_token_is_never_told(text):
    assert text not in harmless(f"The token {text} is bad.")


@pytest.mark.parametrize(
    "text",
    [
        "Open https://accounts.example.com/signin/continue/very-long-path-of-an-address-that-people-must-open?plt=1",
        "The start_something_longer task-sk-iing is refused.",
        "refresh_token_invalidated",
    ],
)
def test_ordinary_words_and_addresses_stay(text):
    assert harmless(text) == text


def test_control_characters_and_turned_text_are_taken_out():
    assert harmless("a\x00b\u202ec\x1b[31m\r\nd") == "a b c [31m d"


secret_texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Z"]), min_size=8, max_size=60)


@settings(deadline=None)
@given(secret_texts, st.text(max_size=20), st.sampled_from(["error_description", "error", "message", "detail"]))
def test_a_secret_that_was_sent_is_never_told_back(secret, words, member):
    assume(secret not in "[secret]" and secret not in words)
    body = {member: f"{words} {secret} {words}", "code": secret}

    refusal = read_refusal(answer(body, 400), [Secret(secret)])

    assert secret not in repr(refusal)


@settings(deadline=None)
@given(secret_texts)
def test_a_secret_of_the_answer_itself_is_never_told(secret):
    assume(secret not in "[secret]: x the is used")
    body = {"error": "x", "message": f"the {secret} is used", "access_token": secret}

    assert secret not in repr(read_refusal(answer(body, 400)))


@settings(deadline=None)
@given(st.binary() | st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.lists(inner) | (
    st.dictionaries(st.sampled_from(["error", "message", "code", "detail", "type"]) | st.text(), inner)
)).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_any_body_is_a_refusal(body):
    refusal = read_refusal(answer(body, 500))

    assert refusal.status == 500
    assert refusal.told.isprintable()


@pytest.mark.parametrize("value", [True, None, "x", "", [], {}, "nan", "inf", 10**400, float("inf"), "1e999"])
def test_what_is_no_number_is_none(value):
    assert as_number(value) != as_number(value)


@pytest.mark.parametrize(("value", "number"), [(3, 3.0), ("3", 3.0), (2.5, 2.5), (" 7 ", 7.0), (-1, -1.0)])
def test_numbers_may_be_texts(value, number):
    assert as_number(value) == number


def test_only_an_object_is_an_object():
    assert read_object(b'{"a": [1]}') == {"a": [1]}
    assert read_object(b"[1]") is None
    assert read_object(b"null") is None


# -- claims


def test_claims_are_read_without_the_signature():
    token = Secret(jwt(email="a@b.example", scope={"name": "x"}))

    claims = read_claims(token)

    assert claims["email"] == "a@b.example"
    assert claims_within(claims, "scope") == {"name": "x"}
    assert claims_within(claims, "email") == {}


@pytest.mark.parametrize(
    "text",
    ["", "x", "a.b", "a.b.c.d", "a.!!.c", "a.W10.c", "a.ä.c", f"a.{'A' * 70_000}.c", f"a.{'W1tb' * 10_000}.c"],
)
def test_what_is_no_token_has_no_claims(text):
    assert read_claims(Secret(text)) == {}


@settings(deadline=None)
@given(st.text() | st.builds("{}.{}.{}".format, st.text(), st.text(), st.text()))
def test_any_text_has_claims_or_none(text):
    assert isinstance(read_claims(Secret(text)), dict)
