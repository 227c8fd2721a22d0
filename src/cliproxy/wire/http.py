"""HTTP messages as values: what providers describe and the transport performs."""

from typing import Literal
from urllib.parse import urlsplit

from msgspec import Struct

Headers = tuple[tuple[bytes, bytes], ...]
"""Names in lower case, in the order of the wire."""


class Origin(Struct, frozen=True, cache_hash=True):
    """Whom to connect to, and through which proxy.

    `proxy` is a URL (http, https, socks5, socks5h; may hold credentials, hence never shown), "" for a direct
    connection. Two requests share idle connections if and only if their origins are equal.
    """

    scheme: Literal["http", "https"]
    host: str
    port: int
    proxy: str = ""

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.scheme == "https" else 80
        return host if self.port == default else f"{host}:{self.port}"

    def __repr__(self) -> str:
        return f"Origin({self.scheme}://{self.authority}{', via proxy' if self.proxy else ''})"


class Address(Struct, frozen=True):
    """A base URL taken apart once, when configuration is compiled. `prefix` has no trailing slash."""

    origin: Origin
    prefix: str

    @classmethod
    def of(cls, url: str, proxy: str = "") -> "Address":
        """Raises ValueError when `url` is no http(s) URL with a host."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("not a URL: http:// or https:// and a host are needed")
        scheme: Literal["http", "https"] = "https" if parts.scheme == "https" else "http"
        port = parts.port or (443 if scheme == "https" else 80)
        return cls(Origin(scheme, parts.hostname, port, proxy), parts.path.rstrip("/"))


class HttpRequest(Struct, frozen=True):
    """One request to an upstream. `target` is path and query; `head` are complete header lines, each with CRLF.

    `head` leaves out `host`, `content-length` and `connection`, which the transport writes. It holds credentials and
    is therefore never shown.
    """

    method: bytes
    origin: Origin
    target: bytes
    head: bytes
    body: bytes = b""

    def __repr__(self) -> str:
        return f"HttpRequest({self.method.decode()} {self.origin!r})"


def header(headers: Headers, name: bytes) -> bytes:
    """The first value of `name` (lower case), b"" when absent."""
    for key, value in headers:
        if key == name:
            return value
    return b""
