"""The device flow: what is offered, how often it is asked, and how it ends."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cliproxy.oauth.base import Denied, Expired, Misconfigured, OAuthError, Unavailable
from cliproxy.oauth.device import DeviceOffer, begin, wait_for
from cliproxy.oauth.tokens import TokenEndpoint
from cliproxy.wire.http import Address
from cliproxy.wire.secrets import Secret
from exchanges import UNREACHABLE, answer, play, said

ENDPOINT = TokenEndpoint(vendor="Vendor", setting="s", address=Address.of("https://v.example/token"), agent=b"us/1")
FIELDS = {"device_code": Secret("device-code")}
OFFER = DeviceOffer("https://v.example/go", "AB-CD", Secret("device-code"), 300.0, 5.0)
OFFERED = {
    "device_code": "device-code",
    "user_code": "AB-CD",
    "verification_uri": "https://v.example",
    "verification_uri_complete": "https://v.example/go",
    "expires_in": 300,
    "interval": 5,
}
PENDING = answer({"error": "authorization_pending"}, 400)
SLOW_DOWN = answer({"error": "slow_down"}, 400)
SLOW_DOWN_429 = answer({"error": "slow_down"}, 429)
GRANTED = answer({"access_token": "a"})


def test_an_offer_is_read():
    assert play(begin(ENDPOINT, FIELDS), answer(OFFERED)).result == OFFER


@pytest.mark.parametrize(
    ("change", "offer"),
    [
        ({"interval": None}, OFFER),
        ({"interval": "2"}, DeviceOffer(OFFER.url, "AB-CD", OFFER.device_code, 300.0, 2.0)),
        ({"interval": 0}, DeviceOffer(OFFER.url, "AB-CD", OFFER.device_code, 300.0, 1.0)),
        ({"interval": 1e9}, OFFER),
        ({"interval": "often"}, OFFER),
        ({"interval": 600}, DeviceOffer(OFFER.url, "AB-CD", OFFER.device_code, 300.0, 60.0)),
        ({"expires_in": "900"}, DeviceOffer(OFFER.url, "AB-CD", OFFER.device_code, 900.0, 5.0)),
        ({"expires_in": None}, OFFER),
        (
            {"verification_uri_complete": None},
            DeviceOffer("https://v.example", "AB-CD", OFFER.device_code, 300.0, 5.0),
        ),
    ],
)
def test_offers_vary(change, offer):
    assert play(begin(ENDPOINT, FIELDS), answer(OFFERED | change)).result == offer


@pytest.mark.parametrize(
    "change",
    [
        {"device_code": ""},
        {"device_code": 7},
        {"verification_uri_complete": "javascript:alert(1)"},
        {"verification_uri_complete": "file:///etc/passwd"},
        {"verification_uri_complete": "https://v.example/a b"},
        {"verification_uri_complete": "https://[v"},
        {"verification_uri_complete": "", "verification_uri": ""},
        {"expires_in": 0},
        {"expires_in": -5},
        {"expires_in": 1e12},
        {"expires_in": "never"},
    ],
)
def test_an_offer_that_nobody_can_follow_is_refused(change):
    error = play(begin(ENDPOINT, FIELDS), answer(OFFERED | change)).error

    assert isinstance(error, Unavailable)
    assert "device-code" not in said(error)


def test_an_offer_that_is_refused_says_so():
    assert isinstance(play(begin(ENDPOINT, FIELDS), answer({"error": "invalid_client"}, 401)).error, Misconfigured)
    assert isinstance(play(begin(ENDPOINT, FIELDS), answer(b"", 503)).error, Unavailable)
    assert play(begin(ENDPOINT, FIELDS), UNREACHABLE).error is UNREACHABLE


def test_it_waits_before_each_question():
    played = play(wait_for(ENDPOINT, FIELDS, OFFER), PENDING, PENDING, GRANTED)

    assert [step if isinstance(step, float) else "asked" for step in played.steps] == [
        5.0, "asked", 5.0, "asked", 5.0, "asked",
    ]  # fmt: skip
    assert played.result.tokens.access == Secret("a")


@pytest.mark.parametrize("slow", [SLOW_DOWN, SLOW_DOWN_429, answer(b"", 429), answer(b"x", 502), UNREACHABLE])
def test_it_slows_down_by_half_up_to_ten_seconds(slow):
    played = play(wait_for(ENDPOINT, FIELDS, OFFER), slow, slow, slow, PENDING, GRANTED)

    assert played.pauses == [5.0, 7.5, 10.0, 10.0, 10.0]


def test_it_slows_down_as_long_as_the_vendor_asks():
    slow = answer({"error": "slow_down"}, 429, retry_after="25")

    assert play(wait_for(ENDPOINT, FIELDS, OFFER), slow, GRANTED).pauses == [5.0, 25.0]


def test_slowing_down_never_makes_it_faster():
    slow_offer = DeviceOffer(OFFER.url, OFFER.user_code, OFFER.device_code, 300.0, 30.0)

    assert play(wait_for(ENDPOINT, FIELDS, slow_offer), SLOW_DOWN, GRANTED).pauses == [30.0, 30.0]


@pytest.mark.parametrize(
    ("ending", "error"),
    [
        (answer({"error": "access_denied"}, 400), Denied),
        (answer({"error": "expired_token"}, 400), Expired),
        (answer({"error": "expired_token"}, 401), Expired),
        (answer({"error": "invalid_grant"}, 400), Denied),
        (answer({"error": "invalid_client"}, 401), Misconfigured),
        (answer(b"<html>", 200), Unavailable),
        (answer(b"", 404), Unavailable),
    ],
)
def test_it_ends_when_the_answer_is_final(ending, error):
    assert type(play(wait_for(ENDPOINT, FIELDS, OFFER), PENDING, ending).error) is error


def test_it_ends_when_the_code_has_expired():
    played = play(wait_for(ENDPOINT, FIELDS, OFFER), *[PENDING] * 60)

    assert isinstance(played.error, Expired)
    assert sum(played.pauses) == 300.0


def test_a_code_that_lives_for_a_day_is_not_asked_for_for_a_day():
    day = DeviceOffer(OFFER.url, OFFER.user_code, OFFER.device_code, 86_400.0, 60.0)

    played = play(wait_for(ENDPOINT, FIELDS, day), *[PENDING] * 30)

    assert isinstance(played.error, Expired)
    assert sum(played.pauses) == 1800.0


def test_a_code_that_lives_shorter_than_the_interval_is_asked_for_once():
    brief = DeviceOffer(OFFER.url, OFFER.user_code, OFFER.device_code, 3.0, 5.0)

    assert play(wait_for(ENDPOINT, FIELDS, brief), GRANTED).pauses == [3.0]


answers = st.sampled_from([PENDING, SLOW_DOWN, SLOW_DOWN_429, UNREACHABLE, answer(b"", 500), answer({}, 200)])


@settings(deadline=None)
@given(st.lists(answers, max_size=20), st.floats(1, 86_400), st.floats(5, 60))
def test_whatever_the_vendor_says_it_ends(script, lifetime, interval):
    offer = DeviceOffer(OFFER.url, OFFER.user_code, OFFER.device_code, lifetime, interval)

    played = play(wait_for(ENDPOINT, FIELDS, offer), *script, then=PENDING)

    assert isinstance(played.error, OAuthError)
    assert sum(played.pauses) <= min(lifetime, 1800.0)
