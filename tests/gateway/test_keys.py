"""Who may call: keys by every carrier, and the rules for callers who bring none."""

import hashlib
from dataclasses import dataclass, field

import pytest

from cliproxy.canon.errors import Forbidden, GatewayError, Unauthenticated
from cliproxy.config.document import read
from cliproxy.gateway.keys import KeyRing


@dataclass
class Asked:
    """The part of an exchange that tells who calls."""

    headers: tuple[tuple[bytes, bytes], ...] = ()
    query: bytes = b""
    peer: str = "192.0.2.7"


@dataclass
class Local(Asked):
    """A program on this machine."""

    headers: tuple[tuple[bytes, bytes], ...] = ((b"host", b"127.0.0.1:8317"),)
    peer: str = "127.0.0.1"
    more: tuple[tuple[bytes, bytes], ...] = field(default=())

    def __post_init__(self) -> None:
        self.headers = (*self.headers, *self.more)


def ring(text: str) -> KeyRing:
    return KeyRing(read(text).config)


KEYED = "api-keys: [right, 'grüße', other]\n"
TRUSTING = KEYED + "allow-localhost-unauthenticated: true\n"


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        (((b"authorization", b"Bearer right"),), b""),
        (((b"authorization", b"bearer right"),), b""),
        (((b"authorization", b"BEARER   right "),), b""),
        (((b"authorization", b"right"),), b""),
        (((b"x-api-key", b"right"),), b""),
        (((b"x-goog-api-key", b" right "),), b""),
        ((), b"key=right"),
        ((), b"alt=sse&auth_token=right"),
        ((), b"key=%72ight"),
        (((b"authorization", b"Bearer wrong"), (b"x-api-key", b"right")), b""),
        (((b"authorization", b"Bearer wrong"),), b"key=right"),
        (((b"x-api-key", "grüße".encode()),), b""),
        ((), b"key=gr%C3%BC%C3%9Fe"),
    ],
)
def test_a_key_is_taken_from_every_carrier(headers, query):
    assert ring(KEYED).admit(Asked(headers, query)) is True


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ((), b""),
        (((b"authorization", b""),), b""),
        (((b"authorization", b"Bearer"),), b""),
        (((b"authorization", b"Basic right"),), b""),
        (((b"authorization", b"Bearer wrong"),), b""),
        (((b"x-api-key", b"Bearer right"),), b""),
        (((b"x-api-key", b"RIGHT"),), b""),
        (((b"x-api-key", b"\xff\xfe"),), b""),
        (((b"x-api-key", hashlib.sha256(b"right").digest()),), b""),
        (((b"cookie", b"right"),), b""),
        ((), b"key="),
        ((), b"key=right%00"),
        ((), b"api_key=right"),
        ((), b"key=%ff&key"),
    ],
)
def test_whatever_is_no_key_is_refused(headers, query):
    with pytest.raises(Unauthenticated) as refused:
        ring(KEYED).admit(Asked(headers, query))

    assert "right" not in str(refused.value)


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("text", [TRUSTING, "", "allow-localhost-unauthenticated: true\n"])
def test_programs_on_this_machine_need_no_key_where_that_is_allowed(peer, text):
    assert ring(text).admit(Local(peer=peer)) is False


def test_a_wrong_key_does_not_matter_where_none_is_needed():
    assert ring(TRUSTING).admit(Local(more=((b"authorization", b"Bearer dummy"),))) is False
    assert ring("").admit(Local(more=((b"authorization", b"Bearer dummy"),))) is False


@pytest.mark.parametrize("peer", ["192.0.2.7", "::ffff:192.0.2.7", "fe80::1%eth0", "10.0.0.1", "", "localhost.evil"])
@pytest.mark.parametrize("text", [TRUSTING, ""])
def test_other_machines_always_need_a_key(peer, text):
    with pytest.raises(Unauthenticated):
        ring(text).admit(Local(peer=peer))


@pytest.mark.parametrize(
    "name", [b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-real-ip", b"via"]
)
@pytest.mark.parametrize("text", [TRUSTING, ""])
def test_callers_of_a_proxy_on_this_machine_need_a_key(name, text):
    with pytest.raises(Unauthenticated):
        ring(text).admit(Local(more=((name, b"127.0.0.1"),)))


def test_a_proxy_on_this_machine_may_bring_a_key():
    carried = ((b"x-forwarded-for", b"192.0.2.7"), (b"x-api-key", b"right"))

    assert ring(TRUSTING).admit(Local(more=carried)) is True


@pytest.mark.parametrize(
    "origin", [b"https://evil.example", b"null", b"file://", b"http://localhost.evil.example", b"http://127.0.0.1.evil"]
)
@pytest.mark.parametrize("text", [TRUSTING, ""])
def test_web_pages_from_elsewhere_need_a_key(origin, text):
    with pytest.raises(Forbidden):
        ring(text).admit(Local(more=((b"origin", origin),)))


@pytest.mark.parametrize("host", [b"evil.example", b"evil.example:8317", b"192.0.2.7:8317", b"127.0.0.1.evil:80"])
def test_names_that_only_lead_here_need_a_key(host):
    with pytest.raises(Forbidden):
        ring(TRUSTING).admit(Local(((b"host", host),)))


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ((b"host", b"localhost"),),
        ((b"host", b"LOCALHOST:8317"),),
        ((b"host", b"127.0.0.1"),),
        ((b"host", b"[::1]:8317"),),
        ((b"host", b"[::1]"),),
        ((b"host", b"localhost:8317"), (b"origin", b"http://localhost:5173")),
        ((b"host", b"localhost:8317"), (b"origin", b"http://[::1]:5173")),
        ((b"host", b"localhost:8317"), (b"origin", b"https://127.0.0.1")),
    ],
)
def test_local_names_and_local_pages_need_no_key(headers):
    assert ring(TRUSTING).admit(Local(headers)) is False


def test_everybody_may_call_where_the_operator_says_so():
    assert ring("allow-unauthenticated: true\n").admit(Asked()) is False
    assert ring("allow-unauthenticated: true\n").admit(Asked(((b"x-api-key", b"any"),))) is False


def test_keys_are_needed_where_there_are_keys_whatever_else_is_allowed():
    with pytest.raises(GatewayError):
        ring(KEYED + "allow-unauthenticated: true\n").admit(Asked())
