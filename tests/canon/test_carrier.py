"""Envelopes for foreign signatures: what goes in comes out, and nothing else does."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cliproxy.canon.carrier import DAMAGED, seal, unseal
from cliproxy.canon.parts import Signature

SIGNATURES = st.builds(
    Signature,
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    st.sampled_from(("anthropic", "openai", "google", "unknown")),
    st.sampled_from(("signature", "encrypted", "redacted")),
)
ONE = Signature("EqQBCkYIBxgCKk", "anthropic")


@settings(max_examples=100, deadline=None)
@given(SIGNATURES)
def test_what_is_sealed_is_unsealed_and_is_base64_as_a_whole(signature) -> None:
    envelope = seal(signature)

    assert unseal(envelope) == signature
    assert base64.b64encode(base64.b64decode(envelope, validate=True)).decode() == envelope


@pytest.mark.parametrize(
    "text", ["", "C2Ns", "EqQBCkYIBxgCKkD", "gAAAAABo", "skip_thought_signature_validator", "\u2028"]
)
def test_what_is_not_ours_is_not_touched(text: str) -> None:
    assert unseal(text) is None


def test_a_damaged_envelope_is_known_as_one_and_belongs_to_nobody() -> None:
    envelope = seal(ONE)
    cut = [envelope[:length] for length in range(12, len(envelope))]
    changed = [
        f"{envelope[:at]}{'A' if envelope[at] != 'A' else 'B'}{envelope[at + 1 :]}" for at in range(12, len(envelope))
    ]

    assert {unseal(text) for text in (*cut, *changed, envelope + envelope, envelope + "!")} == {DAMAGED}
    assert DAMAGED.family == "unknown"


def test_an_envelope_in_an_envelope_is_refused() -> None:
    assert unseal(seal(Signature(seal(ONE), "anthropic"))) == DAMAGED
