"""A secret shows itself to nobody but the caller of `reveal`."""

from __future__ import annotations

import copy
import hashlib
import pickle

import msgspec
import pytest

from cliproxy.wire.secrets import Secret, dec_hook, mask_hook, mask_userinfo, reveal_hook

TEXT = "sk-ant-abc123"


@pytest.mark.parametrize(
    "shown", [repr, str, lambda s: f"{s}", lambda s: f"{s:>40}", lambda s: f"{[s]!r}", "%s".__mod__]
)
def test_a_secret_is_masked_however_it_is_shown(shown):
    assert "***" in shown(Secret(TEXT))
    assert TEXT not in shown(Secret(TEXT))


def test_reveal_and_digest_give_the_text_and_its_sha256():
    assert Secret(TEXT).reveal() == TEXT
    assert Secret(TEXT).digest() == hashlib.sha256(TEXT.encode()).digest()


def test_equal_texts_are_equal_and_hash_alike():
    assert Secret(TEXT) == Secret(TEXT)
    assert len({Secret(TEXT), Secret(TEXT), Secret("other")}) == 2
    assert Secret(TEXT) != TEXT


def test_an_empty_secret_is_false():
    assert not Secret()
    assert Secret("x")


def test_a_secret_cannot_be_changed():
    secret = Secret(TEXT)

    with pytest.raises(AttributeError):
        secret.other = 1
    with pytest.raises(AttributeError):
        secret._text = "x"
    with pytest.raises(AttributeError):
        del secret._text


def test_a_secret_survives_copy_and_pickle():
    assert copy.deepcopy(Secret(TEXT)) == Secret(TEXT)
    assert pickle.loads(pickle.dumps(Secret(TEXT))) == Secret(TEXT)


def test_msgspec_reads_a_secret_and_writes_it_only_when_told_how():
    secret = msgspec.convert(TEXT, Secret, dec_hook=dec_hook)

    assert secret == Secret(TEXT)
    assert msgspec.json.encode([secret], enc_hook=reveal_hook) == b'["sk-ant-abc123"]'
    assert msgspec.json.encode([secret, Secret()], enc_hook=mask_hook) == b'["***",""]'
    with pytest.raises(TypeError):
        msgspec.json.encode(secret)


@pytest.mark.parametrize("value", [5, None, ["a"]])
def test_msgspec_refuses_a_secret_that_is_not_text(value):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(value, Secret, dec_hook=dec_hook)


@pytest.mark.parametrize(
    ("address", "masked"),
    [
        ("socks5://me:pw@host:1080", "socks5://***@host:1080"),
        ("http://me@host/a@b", "http://***@host/a@b"),
        ("http://host/a@b", "http://host/a@b"),
        ("me:pw@host:3128", "***@host:3128"),
        ("direct", "direct"),
    ],
)
def test_userinfo_is_masked_and_the_rest_stays(address, masked):
    assert mask_userinfo(address) == masked
