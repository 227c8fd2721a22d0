"""Getting a connection to an origin: directly, through an HTTP proxy, or through SOCKS.

Through HTTP proxies https origins are reached by CONNECT (RFC 9110, 9.3.6), http origins by the absolute form of the
request target (RFC 9112, 3.2.2). SOCKS is dialled by python-socks; names are resolved at the proxy.
"""

import asyncio
import base64
import socket
import ssl
from collections.abc import Callable
from typing import TypeVar, cast
from urllib.parse import SplitResult, unquote, urlsplit

from python_socks import ProxyConnectionError, ProxyError, ProxyTimeoutError
from python_socks.async_.asyncio import Proxy

from cliproxy.canon.errors import GatewayError, Unreachable, UpstreamTimeout
from cliproxy.wire.http import Origin

P = TypeVar("P", bound=asyncio.Protocol)

_MAX_CONNECT_HEAD_BYTES = 16 * 1024


class Dialer:
    """`tls` verifies upstreams (and https proxies); tests give one that trusts their own authority."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._tls = tls

    async def dial(self, origin: Origin, protocol: Callable[[], P], timeout: float) -> P:
        """A connected protocol. `timeout` in seconds covers everything, 0 = none.

        Raises Unreachable (with the cause in plain words) or UpstreamTimeout.
        """
        try:
            async with asyncio.timeout(timeout or None):
                return await self._dial(origin, protocol)
        except (TimeoutError, ProxyTimeoutError) as error:
            raise UpstreamTimeout(f"Connecting to {origin.host} took longer than {timeout:g} s.") from error
        except GatewayError:
            raise
        except (OSError, ProxyError, ProxyConnectionError, ssl.SSLError) as error:
            raise Unreachable(f"Could not connect to {origin.host}: {_cause(error)}.") from error

    async def _dial(self, origin: Origin, protocol: Callable[[], P]) -> P:
        if not origin.proxy:
            return await self._direct(origin, protocol)
        proxy = urlsplit(origin.proxy)
        if proxy.scheme.startswith("socks"):
            return await self._through_socks(origin, protocol)
        if origin.scheme == "http":
            return await self._to_proxy(proxy, protocol)
        return await self._through_connect(origin, proxy, protocol)

    async def _direct(self, origin: Origin, protocol: Callable[[], P]) -> P:
        loop = asyncio.get_running_loop()
        tls = self._tls if origin.scheme == "https" else None
        _, connection = await loop.create_connection(protocol, origin.host, origin.port, ssl=tls)
        return connection

    async def _to_proxy(self, proxy: SplitResult, protocol: Callable[[], P]) -> P:
        loop = asyncio.get_running_loop()
        tls = self._tls if proxy.scheme == "https" else None
        _, connection = await loop.create_connection(protocol, proxy.hostname or "", _port(proxy), ssl=tls)
        return connection

    async def _through_connect(self, origin: Origin, proxy: SplitResult, protocol: Callable[[], P]) -> P:
        loop = asyncio.get_running_loop()
        tunnel = await self._to_proxy(proxy, lambda: _Tunnel(loop))
        try:
            await tunnel.open(origin, authorization(proxy))
            connection = protocol()
            transport = await loop.start_tls(tunnel.transport, connection, self._tls, server_hostname=origin.host)
        except BaseException:
            tunnel.transport.abort()
            raise
        if transport is None:
            raise Unreachable(f"Could not connect to {origin.host}: the proxy closed the tunnel.")
        connection.connection_made(transport)
        return connection

    async def _through_socks(self, origin: Origin, protocol: Callable[[], P]) -> P:
        loop = asyncio.get_running_loop()
        url = origin.proxy.replace("socks5h://", "socks5://", 1)
        sock: socket.socket = await Proxy.from_url(url, rdns=True).connect(origin.host, origin.port)
        tls = self._tls if origin.scheme == "https" else None
        name = origin.host if tls else None
        try:
            _, connection = await loop.create_connection(protocol, sock=sock, ssl=tls, server_hostname=name)
        except BaseException:
            sock.close()
            raise
        return connection


def authorization(proxy: SplitResult) -> bytes:
    """The Proxy-Authorization line for the credentials in a proxy's URL, b"" without any."""
    if proxy.username is None:
        return b""
    userinfo = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return b"proxy-authorization: Basic " + base64.b64encode(userinfo.encode()) + b"\r\n"


def _port(proxy: SplitResult) -> int:
    return proxy.port or (443 if proxy.scheme == "https" else 80)


def _cause(error: Exception) -> str:
    """The reason in words that hold no credentials; proxies' URLs never appear in these exceptions' texts."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason or 'connection closed'})"
    if isinstance(error, socket.gaierror):
        return "its name does not resolve"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__


class _Tunnel(asyncio.Protocol):
    """Speaks just enough HTTP to open a CONNECT tunnel, then leaves the transport to others."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.transport: asyncio.Transport
        self._head = b""
        self._answered: asyncio.Future[bytes] = loop.create_future()

    async def open(self, origin: Origin, credentials: bytes) -> None:
        authority = f"{origin.authority}" if ":" in origin.authority else f"{origin.authority}:{origin.port}"
        target = authority.encode()
        self.transport.write(b"CONNECT %b HTTP/1.1\r\nhost: %b\r\n%b\r\n" % (target, target, credentials))
        head = await self._answered
        status = head.split(b" ", 2)[1:2]
        if status != [b"200"]:
            code = status[0].decode("latin-1")[:3] if status else "nothing sensible"
            reason = "it wants other credentials" if code == "407" else f"it answered {code}"
            raise Unreachable(f"The proxy refused to connect to {origin.host}: {reason}.")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._head += data
        if self._answered.done():
            return
        if b"\r\n\r\n" in self._head:
            self._answered.set_result(self._head)
        elif len(self._head) > _MAX_CONNECT_HEAD_BYTES:
            self._answered.set_exception(Unreachable("The proxy's answer is too long."))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._answered.done():
            self._answered.set_exception(Unreachable("The proxy closed the connection."))
