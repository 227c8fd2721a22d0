"""Token endpoints: what is asked, what is taken for an answer, and what each failure becomes."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cliproxy.oauth.base import Denied, Expired, GrantRevoked, Misconfigured, OAuthError, Tokens, Unavailable
from cliproxy.oauth.tokens import Granted, TokenEndpoint, read_granted, redeem, renew
from cliproxy.wire.http import Address
from cliproxy.wire.secrets import Secret
from exchanges import UNREACHABLE, Sent, answer, play, said

URL = "https://vendor.example/oauth/token"
FORM = TokenEndpoint(
    vendor="Vendor",
    setting="endpoints.vendor",
    address=Address.of(URL),
    agent=b"us/1",
    dead=frozenset({"token_reused"}),
    dead_statuses=frozenset({401}),
)
FIELDS = {"grant_type": "refresh_token", "refresh_token": Secret("r&f=h é"), "client_id": "id"}
HEADERS = {"accept": "application/json", "user-agent": "us/1"}


def test_a_form_is_escaped_and_keeps_its_order():
    played = play(renew(FORM, FIELDS), answer({"access_token": "a"}))

    form = HEADERS | {"content-type": "application/x-www-form-urlencoded"}
    body = b"grant_type=refresh_token&refresh_token=r%26f%3Dh+%C3%A9&client_id=id"
    assert played.steps == [Sent("POST", URL, form, body)]


def test_json_keeps_its_order():
    endpoint = TokenEndpoint(vendor="V", setting="s", address=Address.of("http://h:1"), agent=b"us/1", encoding="json")

    played = play(redeem(endpoint, FIELDS), answer({"access_token": "a"}))

    body = '{"grant_type":"refresh_token","refresh_token":"r&f=h é","client_id":"id"}'.encode()
    assert played.steps == [Sent("POST", "http://h:1/", HEADERS | {"content-type": "application/json"}, body)]


def test_a_whole_answer_is_read():
    body = {
        "access_token": "a",
        "refresh_token": "r",
        "id_token": "i",
        "token_type": "bearer",
        "expires_in": 3600,
        "scope": "x y",
    }

    granted = read_granted("Vendor", answer(body))

    tokens = Tokens(access=Secret("a"), refresh=Secret("r"), id_token=Secret("i"), lifetime=3600.0)
    assert granted == Granted(tokens, {"token_type": "bearer", "expires_in": 3600, "scope": "x y"})


@pytest.mark.parametrize(
    ("more", "lifetime"),
    [
        ({}, 0.0),
        ({"expires_in": None}, 0.0),
        ({"expires_in": ""}, 0.0),
        ({"expires_in": "3600"}, 3600.0),
        ({"expires_in": 3599.5}, 3599.5),
        ({"expires_in": 31_536_000}, 31_536_000.0),
        ({"refresh_token": None, "id_token": "", "token_type": "Bearer"}, 0.0),
    ],
)
def test_what_vendors_leave_out_or_vary_is_taken(more, lifetime):
    tokens = read_granted("Vendor", answer({"access_token": "a", **more})).tokens

    assert tokens == Tokens(access=Secret("a"), lifetime=lifetime)


GARBAGE = [
    b"",
    b"{",
    b"null",
    b"[]",
    b"<!doctype html><title>Sign in</title>",
    {},
    {"access_token": ""},
    {"access_token": None},
    {"access_token": 7},
    {"access_token": ["s3cr3t-token"]},
    {"access_token": "s3cr3t-token\r\nx-evil: 1"},
    {"access_token": "s3cr3t-tokén"},
    {"access_token": "s3cr3t token"},
    {"access_token": "s3cr3t-token" * 2000},
    {"access_token": "s3cr3t-token", "refresh_token": {"a": 1}},
    {"access_token": "s3cr3t-token", "id_token": "s3cr3t\n"},
    {"access_token": "s3cr3t-token", "token_type": "mac"},
    {"access_token": "s3cr3t-token", "token_type": "DPoP"},
    {"access_token": "s3cr3t-token", "expires_in": -1},
    {"access_token": "s3cr3t-token", "expires_in": 10**10},
    {"access_token": "s3cr3t-token", "expires_in": True},
    {"access_token": "s3cr3t-token", "expires_in": "soon"},
    {"access_token": "s3cr3t-token", "expires_in": [1]},
]


@pytest.mark.parametrize("body", GARBAGE, ids=range(len(GARBAGE)))
@pytest.mark.parametrize("ask", [redeem, renew])
def test_garbage_is_an_answer_that_the_vendor_could_not_give(ask, body):
    played = play(ask(FORM, FIELDS), answer(body))

    assert isinstance(played.error, Unavailable)
    assert "Vendor" in str(played.error)
    assert "s3cr3t" not in said(played.error)


FAILURES = [
    ({"error": "invalid_grant"}, 400, Denied, GrantRevoked),
    ({"error": {"type": "invalid_grant", "message": "m"}}, 400, Denied, GrantRevoked),
    ({"error": "invalid_grant"}, 200, Denied, GrantRevoked),
    ({"error": {"code": "token_reused"}}, 400, Denied, GrantRevoked),
    ({"message": "no"}, 401, Denied, GrantRevoked),
    ({"error": "invalid_client"}, 401, Misconfigured, Misconfigured),
    ({"error": "unauthorized_client"}, 400, Misconfigured, Misconfigured),
    ({"error": "redirect_uri_mismatch"}, 400, Misconfigured, Misconfigured),
    ({"error": "access_denied"}, 403, Denied, Denied),
    ({"error": "expired_token"}, 400, Expired, Unavailable),
    ({"error": "invalid_request"}, 400, Denied, Unavailable),
    (b"<html>challenge</html>", 403, Denied, Unavailable),
    ({}, 404, Unavailable, Unavailable),
    ({}, 405, Unavailable, Unavailable),
    ({"error": "rate_limited"}, 429, Unavailable, Unavailable),
    (b"oops", 500, Unavailable, Unavailable),
    ({"error": "temporarily_unavailable"}, 503, Unavailable, Unavailable),
    (b"", 302, Unavailable, Unavailable),
]


@pytest.mark.parametrize(("body", "status", "at_login", "at_refresh"), FAILURES, ids=range(len(FAILURES)))
def test_each_failure_has_its_meaning_at_login_and_at_refresh(body, status, at_login, at_refresh):
    login = play(redeem(FORM, FIELDS), answer(body, status)).error
    refresh = play(renew(FORM, FIELDS), answer(body, status)).error

    assert (type(login), type(refresh)) == (at_login, at_refresh)


def test_the_vendors_words_and_wait_are_told():
    body = {"error": "rate_limited", "error_description": "Too many."}

    error = play(renew(FORM, FIELDS), answer(body, 429, retry_after="30")).error

    assert (error.told, error.retry_after) == ("rate_limited: Too many.", 30.0)
    assert str(error) == "Vendor's login service answered with HTTP 429."


def test_a_refused_client_names_the_setting():
    error = play(renew(FORM, FIELDS), answer({"error": "invalid_client"}, 401)).error

    assert "`endpoints.vendor`" in str(error)


@pytest.mark.parametrize("status", [404, 405])
def test_an_endpoint_that_has_moved_is_asked_elsewhere_with_the_same_words(status):
    moved = TokenEndpoint(
        vendor="V",
        setting="s",
        address=FORM.address,
        agent=b"us/1",
        elsewhere=Address.of("https://old.example/token"),
    )

    played = play(renew(moved, FIELDS), answer(b"gone", status), answer({"access_token": "a"}))

    first, second = played.requests
    assert [first.url, second.url] == [URL, "https://old.example/token"]
    assert (first.body, first.headers) == (second.body, second.headers)
    assert played.result.tokens.access == Secret("a")


@pytest.mark.parametrize("status", [400, 401, 403, 429, 500])
def test_other_failures_do_not_lead_elsewhere(status):
    moved = TokenEndpoint(
        vendor="V", setting="s", address=FORM.address, agent=b"us/1", elsewhere=Address.of("https://old.example/token")
    )

    assert len(play(renew(moved, FIELDS), answer({}, status)).requests) == 1


def test_a_request_without_an_answer_ends_the_exchange_with_its_reason():
    assert play(renew(FORM, FIELDS), UNREACHABLE).error is UNREACHABLE


def test_a_driver_that_sends_nothing_for_a_request_gets_an_error_that_says_so():
    exchange = renew(FORM, FIELDS)
    next(exchange)

    with pytest.raises(Unavailable, match=r"`vendor\.example` gave no answer"):
        exchange.send(None)


SECRET = "s3cr3t-0123456789"
json_values = st.recursive(
    st.sampled_from([SECRET, f"x {SECRET} y", None, True, 1.5, -3, "invalid_grant", "Bearer", 10**30, "access_denied"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["code", "message", "type"]), inner),
    max_leaves=6,
)
members = st.sampled_from(
    ["access_token", "refresh_token", "id_token", "token_type", "expires_in", "error", "error_description", "message"]
)


@settings(deadline=None)
@given(st.dictionaries(members, json_values), st.sampled_from([200, 302, 400, 401, 403, 429, 500]))
@pytest.mark.parametrize("ask", [redeem, renew])
def test_any_answer_gives_tokens_or_an_error_that_tells_no_secret(ask, body, status):
    fields = {"code": Secret(SECRET)}

    played = play(ask(FORM, fields), answer(body, status))

    if isinstance(played.result, Granted):
        assert played.result.tokens.access
        assert SECRET not in repr(played.result.tokens)
    else:
        assert isinstance(played.error, OAuthError)
        assert SECRET not in said(played.error)


@settings(deadline=None)
@given(st.binary() | st.text().map(lambda text: json.dumps({"access_token": text}).encode()))
def test_an_access_token_is_always_fit_for_a_header(body):
    try:
        tokens = read_granted("Vendor", answer(body)).tokens
    except Unavailable:
        return

    assert all("!" <= letter <= "~" for letter in tokens.access.reveal())
