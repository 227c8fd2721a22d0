"""Verifiers, challenges and states."""

import os

import pytest

from cliproxy.oauth.pkce import challenge, is_state, new_state, new_verifier, same
from cliproxy.wire.secrets import Secret
from exchanges import counting_bytes


def test_the_challenge_is_that_of_rfc_7636_appendix_b():
    verifier = Secret("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")

    assert challenge(verifier) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_a_verifier_of_96_bytes_has_128_characters_that_need_no_escaping():
    text = new_verifier(os.urandom).reveal()

    assert len(text) == 128
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def test_a_verifier_of_32_bytes_has_43_characters():
    assert len(new_verifier(os.urandom, 32).reveal()) == 43


def test_a_state_is_16_bytes_in_hexadecimal_and_a_valid_one():
    state = new_state(counting_bytes)

    assert state == "000102030405060708090a0b0c0d0e0f"
    assert is_state(state)


@pytest.mark.parametrize("text", ["a", "A-b_c.9", "x" * 128])
def test_states_of_other_programs_are_accepted(text):
    assert is_state(text)


@pytest.mark.parametrize("text", ["", "../x", "a..b", "a/b", "a b", "x" * 129, "ä", "a\n", "a%2f"])
def test_what_could_do_harm_is_no_state(text):
    assert not is_state(text)


def test_comparing_tells_equal_from_different():
    assert same("abc", "abc")
    assert not same("abc", "abd")
    assert not same("abc", "abcd")
    assert not same("é", "e")
