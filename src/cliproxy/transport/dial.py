"""Getting a connection to an origin: directly, through an HTTP proxy, or through SOCKS.

Through HTTP proxies https origins are reached by CONNECT (RFC 9110, 9.3.6), http origins by the absolute form of the
request target (RFC 9112, 3.2.2). SOCKS is dialled by python-socks; names are resolved at the proxy. A proxy is given as
the environment gives it, too: without a scheme it is an HTTP proxy.
"""

import asyncio
import base64
import os
import socket
import ssl
from collections.abc import Callable
from typing import TypeVar, cast
from urllib.parse import unquote, urlsplit

from msgspec import Struct
from python_socks import ProxyError, ProxyType
from python_socks.async_.asyncio import Proxy

from cliproxy.canon.errors import GatewayError, Unreachable, UpstreamTimeout
from cliproxy.wire.http import Origin

P = TypeVar("P", bound=asyncio.Protocol)

_MAX_CONNECT_HEAD_BYTES = 16 * 1024
_HTTP = b"HTTP/1."
_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}

# python-socks waits 60 s unless told otherwise; our own deadline covers everything.
_FOREVER = 10 * 365 * 86400.0


class _ProxyAddress(Struct, frozen=True):
    """A proxy's URL taken apart. Holds credentials: never shown."""

    scheme: str
    host: str
    port: int
    user: str | None
    password: str

    def __repr__(self) -> str:
        return "_ProxyAddress()"

    @property
    def is_http(self) -> bool:
        return self.scheme in ("http", "https")

    @property
    def authorization(self) -> bytes:
        """A header line, b"" without credentials."""
        if self.user is None:
            return b""
        return b"proxy-authorization: Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()) + b"\r\n"


class Dialer:
    """`tls` verifies upstreams (and https proxies); tests give one that trusts their own authority."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._tls = tls

    async def dial(self, origin: Origin, protocol: Callable[[], P], timeout: float) -> P:
        """A connected protocol. `timeout` in seconds covers everything, 0 = none.

        Raises Unreachable (with the cause in plain words) or UpstreamTimeout.
        """
        whom = f"{origin.host} through its proxy" if origin.proxy else origin.host
        try:
            async with asyncio.timeout(timeout or None):
                return await self._dial(origin, protocol)
        except TimeoutError as error:
            limit = f"longer than {timeout:g} s" if timeout else "too long"
            raise UpstreamTimeout(f"Connecting to {whom} took {limit}.") from error
        except GatewayError:
            raise
        except (OSError, ProxyError, UnicodeError) as error:
            raise Unreachable(f"Could not connect to {whom}: {_cause(error)}.") from error

    async def _dial(self, origin: Origin, protocol: Callable[[], P]) -> P:
        proxy = _proxy_of(origin)
        if proxy is None:
            return await self._direct(origin, protocol)
        if not proxy.is_http:
            return await self._through_socks(origin, proxy, protocol)
        if origin.scheme == "http":
            return await self._to_proxy(proxy, protocol)
        return await self._through_connect(origin, proxy, protocol)

    async def _direct(self, origin: Origin, protocol: Callable[[], P]) -> P:
        loop = asyncio.get_running_loop()
        tls = self._tls if origin.scheme == "https" else None
        _, connection = await loop.create_connection(protocol, origin.host, origin.port, ssl=tls)
        return connection

    async def _to_proxy(self, proxy: _ProxyAddress, protocol: Callable[[], P]) -> P:
        loop = asyncio.get_running_loop()
        tls = self._tls if proxy.scheme == "https" else None
        _, connection = await loop.create_connection(protocol, proxy.host, proxy.port, ssl=tls)
        return connection

    async def _through_connect(self, origin: Origin, proxy: _ProxyAddress, protocol: Callable[[], P]) -> P:
        loop = asyncio.get_running_loop()
        tunnel = await self._to_proxy(proxy, lambda: _Tunnel(loop))
        try:
            await tunnel.open(origin, proxy.authorization)
            connection = protocol()
            transport = await loop.start_tls(tunnel.transport, connection, self._tls, server_hostname=origin.host)
        except BaseException:
            tunnel.transport.abort()
            raise
        if transport is None:
            raise Unreachable(f"Could not connect to {origin.host}: the proxy closed the tunnel.")
        connection.connection_made(transport)
        return connection

    async def _through_socks(self, origin: Origin, proxy: _ProxyAddress, protocol: Callable[[], P]) -> P:
        loop = asyncio.get_running_loop()
        dialled = Proxy(ProxyType.SOCKS5, proxy.host, proxy.port, proxy.user, proxy.password, rdns=True)
        try:
            sock: socket.socket = await dialled.connect(origin.host, origin.port, timeout=_FOREVER)
        except ValueError as error:  # its errors repeat what they were given
            raise Unreachable("The proxy's credentials or the upstream's name do not fit into SOCKS5.") from error
        tls = self._tls if origin.scheme == "https" else None
        name = origin.host if tls else None
        try:
            _, connection = await loop.create_connection(protocol, sock=sock, ssl=tls, server_hostname=name)
        except BaseException:
            sock.close()
            raise
        return connection


def absolute_form(origin: Origin) -> tuple[bytes, bytes]:
    """What goes before a request's target, and the header line for the proxy: both b"" unless a proxy reads requests."""
    if origin.scheme != "http" or (proxy := _proxy_of(origin)) is None or not proxy.is_http:
        return b"", b""
    return b"http://" + origin.authority.encode(), proxy.authorization


def _proxy_of(origin: Origin) -> _ProxyAddress | None:
    """Raises Unreachable when the origin's proxy is no address that we know how to use."""
    if not origin.proxy:
        return None
    url = origin.proxy if "://" in origin.proxy else f"http://{origin.proxy}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise Unreachable("The proxy's address is not a URL.") from error
    scheme = parts.scheme
    if scheme not in _PORTS or not parts.hostname:
        raise Unreachable(f"The proxy's address is not a URL that begins with {', '.join(_PORTS)}.")
    user = None if parts.username is None else unquote(parts.username)
    return _ProxyAddress(scheme, parts.hostname, port or _PORTS[scheme], user, unquote(parts.password or ""))


def _cause(error: Exception) -> str:
    """The reason in words that hold no credentials; proxies' URLs never appear in these exceptions' texts."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message.rstrip('.')})"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason or 'connection closed'})"
    if isinstance(error, socket.gaierror):
        return "its name does not resolve"
    if isinstance(error, UnicodeError):
        return "its name is not a name"
    if isinstance(error, ProxyError):
        return f"the proxy failed ({error})"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    if isinstance(error, ConnectionError):
        return "the connection was closed"
    return "none of its addresses takes connections"


class _Tunnel(asyncio.Protocol):
    """Speaks just enough HTTP to open a CONNECT tunnel, then leaves the transport to others."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.transport: asyncio.Transport
        self._head = b""
        self._answered: asyncio.Future[bytes] = loop.create_future()

    async def open(self, origin: Origin, credentials: bytes) -> None:
        host = f"[{origin.host}]" if ":" in origin.host else origin.host
        target = f"{host}:{origin.port}".encode()
        self.transport.write(b"CONNECT %b HTTP/1.1\r\nhost: %b\r\n%b\r\n" % (target, target, credentials))
        head = await self._answered
        code = head[9:12].decode("latin-1")
        if not code.startswith("2"):
            reason = "it wants other credentials" if code == "407" else f"it answered {code}"
            raise Unreachable(f"The proxy refused to connect to {origin.host}: {reason}.")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._answered.done():
            return
        self._head += data
        begun = self._head[: len(_HTTP)]
        if begun != _HTTP[: len(begun)]:
            self._answered.set_exception(Unreachable("The proxy does not speak HTTP."))
        elif b"\r\n\r\n" in self._head:
            self._answered.set_result(self._head)
        elif len(self._head) > _MAX_CONNECT_HEAD_BYTES:
            self._answered.set_exception(Unreachable("The proxy's answer is too long."))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._answered.done():
            self._answered.set_exception(Unreachable("The proxy closed the connection."))
