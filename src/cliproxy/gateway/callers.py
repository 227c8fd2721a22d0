"""Where a request comes from: this machine, another one, or a proxy that speaks for somebody.

Source: https://www.rfc-editor.org/rfc/rfc7239 (Forwarded), https://developer.mozilla.org/docs/Web/HTTP/Headers/X-Forwarded-For,
checked 2026-03-01.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from msgspec import Struct

from cliproxy.gateway.exchange import Exchange
from cliproxy.wire.http import Headers

_FORWARDING = (b"forwarded", b"x-forwarded-", b"x-real-ip", b"x-client-ip", b"cf-connecting-ip", b"via")
"""Names, or how names begin, by which proxies show themselves."""
_LONGEST_NAME = 64


class Caller(Struct, frozen=True):
    """`name` is the same for all requests of one caller: an address, of IPv6 the network of one subscriber (/64).
    `is_local`: a program on this machine that calls for itself."""

    name: str
    is_local: bool


def caller_of(exchange: Exchange, trusted: Sequence[str]) -> Caller:
    """Who calls. Headers count only if the peer is in one of the `trusted` networks; then the caller is the rightmost
    address in `X-Forwarded-For` that is not. Whoever comes through a proxy that we do not know is not local."""
    address = _address(exchange.peer)
    if address is None:
        return Caller(exchange.peer, is_local=False)
    chain = _forwarded_for(exchange.headers)
    if not (chain and _is_in(address, trusted)):
        return Caller(_name(address), is_local=address.is_loopback and not is_forwarded(exchange.headers))
    for text in reversed(chain):
        address = _address(text)
        if address is None:
            return Caller(text[:_LONGEST_NAME], is_local=False)
        if not _is_in(address, trusted):
            break
    return Caller(_name(address), is_local=address.is_loopback)


def is_forwarded(headers: Headers) -> bool:
    """Whether a proxy has passed this on, as far as it says so."""
    return any(name.startswith(_FORWARDING) for name, _ in headers)


def is_loopback(address: str) -> bool:
    """127.0.0.0/8, `::1`, the same written as IPv6, or `localhost`."""
    ip = _address(address)
    return address == "localhost" if ip is None else ip.is_loopback


def _forwarded_for(headers: Headers) -> list[str]:
    lines = [value.decode("latin-1") for name, value in headers if name == b"x-forwarded-for"]
    return [entry.strip() for line in lines for entry in line.split(",") if entry.strip()]


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Of `1.2.3.4`, `1.2.3.4:80`, `::1` or `[::1]:80`; None for everything else. IPv4 in IPv6 is IPv4."""
    text = text.partition("]")[0][1:] if text.startswith("[") else text
    text = text.partition(":")[0] if text.count(":") == 1 else text
    try:
        ip = ip_address(text)
    except ValueError:
        return None
    return getattr(ip, "ipv4_mapped", None) or ip


def _is_in(address: IPv4Address | IPv6Address, networks: Sequence[str]) -> bool:
    return any(address in ip_network(network) for network in networks)


def _name(address: IPv4Address | IPv6Address) -> str:
    if address.version == 4 or address.is_loopback:
        return str(address)
    return str(ip_network((int(address), 64), strict=False))
