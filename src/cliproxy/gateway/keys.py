"""Who may call: the gateway's own API keys, by every carrier that clients use.

Keys are compared by their digests in constant time; what is looked up is the digest of what the caller sent, so that
timing tells nothing about the keys.
"""

import hashlib
import hmac
from collections.abc import Iterator
from urllib.parse import parse_qsl

from cliproxy.canon.errors import Forbidden, Unauthenticated
from cliproxy.config.schema import Config
from cliproxy.gateway.callers import is_forwarded, is_loopback
from cliproxy.gateway.exchange import Exchange
from cliproxy.wire.http import Headers, header

_CARRIERS = frozenset({b"authorization", b"x-api-key", b"x-goog-api-key"})
_QUERY_NAMES = frozenset({"key", "auth_token"})


class KeyRing:
    """The keys of one configuration, immutable."""

    def __init__(self, config: Config) -> None:
        self._digests = {key.digest(): key.digest() for key in config.api_keys}
        self._is_open = not config.api_keys and config.allow_unauthenticated
        self._trusts_localhost = config.allow_localhost_unauthenticated or not config.api_keys

    def admit(self, exchange: Exchange) -> bool:
        """Whether the caller came by a key; False when it may go on without one.

        Raises Unauthenticated or Forbidden.
        """
        seen = False
        for value in _presented(exchange.headers, exchange.query):
            seen = True
            if self._knows(value):
                return True
        if self._is_open:
            return False
        if self._trusts_localhost and _is_from_here(exchange):
            _refuse_pages(exchange)
            return False
        if not self._digests:
            raise Unauthenticated("This gateway has no `api-keys` yet, so only programs on its own machine may call.")
        if seen:
            raise Unauthenticated("Invalid API key")
        raise Unauthenticated("Missing API key")

    def _knows(self, value: bytes) -> bool:
        digest = hashlib.sha256(value).digest()
        known = self._digests.get(digest)
        return known is not None and hmac.compare_digest(known, digest)


def _is_from_here(exchange: Exchange) -> bool:
    """Whether a program on this machine calls, and calls for itself: not a proxy for others."""
    return is_loopback(exchange.peer) and not is_forwarded(exchange.headers)


def _refuse_pages(exchange: Exchange) -> None:
    """A web page calls from this machine too, through its reader's browser; also under a name of its own that it lets
    point to us. Browsers always tell the name, and the page's origin where it matters."""
    host = header(exchange.headers, b"host").decode("latin-1")
    origin = header(exchange.headers, b"origin").decode("latin-1")
    if (host and not _is_local_name(host)) or (origin and not _is_local_name(origin.partition("://")[2])):
        raise Forbidden("Without an API key only local programs may call, not web pages.")


def _presented(headers: Headers, query: bytes) -> Iterator[bytes]:
    """Every credential that the request carries."""
    for name, value in headers:
        if name in _CARRIERS:
            scheme, _, rest = value.partition(b" ")
            yield rest.strip() if name == b"authorization" and scheme.lower() == b"bearer" else value.strip()
    if b"key=" in query or b"auth_token=" in query:
        for name, text in parse_qsl(query.decode("latin-1"), encoding="latin-1"):
            if name in _QUERY_NAMES:
                yield text.encode("latin-1")


def _is_local_name(authority: str) -> bool:
    """Of `host` or `host:port`, in which an IPv6 address stands in brackets."""
    host, colon, port = authority.lower().rpartition(":")
    name = host if colon and not port.endswith("]") else authority.lower()
    return is_loopback(name.removeprefix("[").removesuffix("]"))
