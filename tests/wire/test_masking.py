"""What of a request may be written down, and what may not."""

import pytest

from cliproxy.wire.masking import (
    is_secret,
    masked,
    masked_header,
    masked_lines,
    masked_target,
    secrets_of,
    without,
)


@pytest.mark.parametrize(
    ("value", "shown"),
    [("", "***"), ("k1", "***"), ("12345678", "***"), ("123456789", "1234...6789"), ("sk-ant-abcdefgh", "sk-a...efgh")],
)
def test_the_ends_of_a_value_are_shown_only_when_it_is_longer_than_eight(value, shown):
    assert masked(value) == shown


@pytest.mark.parametrize(
    "name",
    ["Authorization", "X-Api-Key", "x-goog-api-key", "X-Management-Key", "Cookie", "Set-Cookie", "my-token", "ApiKey",
     "client_secret", "key", "proxy-authorization", "access_token", "code", "state"],
)  # fmt: skip
def test_names_of_secrets_are_known(name):
    assert is_secret(name)


@pytest.mark.parametrize("name", ["content-type", "user-agent", "alt", "keep-alive", "x-ratelimit-remaining-tokens"])
def test_other_names_hide_nothing(name):
    assert masked_header(name, "a value of some length") == "a value of some length"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("Bearer sk-abcdefghijkl", "Bearer sk-a...ijkl"),
        ("bearer  sk-abcdefghijkl", "bearer sk-a...ijkl"),
        ("Bearer k1", "Bearer ***"),
        ("Basic dXNlcjpwYXNzd29yZA==", "Basic ***"),
        ("sk-abcdefghijkl", "sk-a...ijkl"),
        ("hunter2 is-my-password", "hunt...word"),
        ("Bearer", "***"),
    ],
)
def test_an_authorization_keeps_its_scheme_and_nothing_else(value, shown):
    assert masked_header("Authorization", value) == shown


def test_header_lines_stay_lines_whatever_is_in_them():
    assert masked_lines(((b"a", b"1\r\nb: 2"), (b"x-api-key", b"short"))) == "a: 1??b: 2\nx-api-key: ***\n"


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("key=k1", "key=***"),
        ("alt=sse&key=gemini-key-0001&x", "alt=sse&key=gemi...0001&x"),
        ("%6Bey=gemini-key-0001", "%6Bey=gemi...0001"),
        ("a=%20b&token=gemini%2Dkey%2D0001", "a=%20b&token=gemi...0001"),
        ("key=", "key=***"),
    ],
)
def test_secrets_in_a_query_are_masked_and_the_rest_stays(query, shown):
    assert masked_target("/v1/models", query) == f"/v1/models?{shown}"


def test_a_path_cannot_begin_a_new_line():
    assert masked_target("/a\n=== RESPONSE ===", "") == "/a%0A===%20RESPONSE%20==="


def test_long_secrets_of_a_head_are_found_and_short_ones_are_not_looked_for():
    headers = ((b"authorization", b"Bearer sk-abcdefghijkl"), (b"x-api-key", b"k1"), (b"accept", b"application/json"))

    assert secrets_of(headers, "key=a%2Dlong%2Dsecret&alt=sse") == (
        b"a%2Dlong%2Dsecret",
        b"sk-abcdefghijkl",
        b"a-long-secret",
    )


def test_secrets_are_masked_wherever_they_are_repeated():
    said = b'{"error":"Incorrect API key: sk-abcdefghijkl, sk-abcdefghijkl"}'

    assert without(said, (b"sk-abcdefghijkl",)) == b'{"error":"Incorrect API key: sk-a...ijkl, sk-a...ijkl"}'
