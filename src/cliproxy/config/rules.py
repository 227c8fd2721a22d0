"""What a value in the configuration must look like, one function a rule.

A rule takes the text (or number) of one value and returns what is wrong with it, or an empty text. The sentences end
up behind `config.yaml:14: $.proxy-url: `, say what to do, and never repeat the value: it may be a key in the wrong
place.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")
NO_PROXY_WORDS = ("direct", "none")
BCRYPT_LIMIT_BYTES = 72
MAX_NUMBER_CHARACTERS = 40

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u0085\u2028\u2029]")
_SPACE = re.compile(r"\s")
_BCRYPT_PREFIXES = ("$2a$", "$2b$", "$2y$")
_BCRYPT = re.compile(r"\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}")
_GO_DURATION_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def plain_text(text: str) -> str:
    return "contains a control character; write it on one line" if _CONTROL.search(text) else ""


def not_empty(text: str) -> str:
    return plain_text(text) if text else "is empty; write a value or remove the entry"


def upstream_key(text: str) -> str:
    """Keys travel in a header, where only visible ASCII is safe."""
    if text and (not text.isascii() or _SPACE.search(text)):
        return "contains spaces or characters that are not ASCII and cannot be sent in a header; copy the key again"
    return not_empty(text)


def base_url(text: str) -> str:
    """An absolute http or https address to which a path can be added, or empty for the default."""
    if not text:
        return ""
    parts = _split(text)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        return "not a URL; write `https://host` or `http://host:port`, with an optional path"
    if "@" in parts.netloc:
        return "must not carry a user name or password; send them with `headers`"
    if "?" in text or "#" in text:
        return "must not carry `?` or `#`; the path of each call is added at its end"
    return ""


def proxy_url(text: str) -> str:
    """An http, https, socks5 or socks5h address, `direct` or `none` for no proxy, empty for the environment's."""
    if not text or text in NO_PROXY_WORDS:
        return ""
    parts = _split(text)
    if parts is None or not parts.hostname:
        return "not a proxy URL; write `socks5://user:password@host:port`, `http://host:port`, `direct` or nothing"
    if parts.scheme not in PROXY_SCHEMES:
        return f"the scheme is not one of {', '.join(PROXY_SCHEMES)}"
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        return "a proxy URL ends after the port; remove the path"
    return ""


def listen_host(text: str) -> str:
    if "://" in text or "/" in text or _SPACE.search(text):
        return "not a host; write an address such as `127.0.0.1`, `::1` or `0.0.0.0`, the port has its own key"
    return plain_text(text)


def network(text: str) -> str:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return "not a network; write `10.0.0.0/8`, `fd00::/8` or a single address (no host bits behind the prefix)"
    return ""


def cors_origin(text: str) -> str:
    if text == "*":
        return ""
    parts = _split(text)
    if parts is None or not parts.scheme or not parts.netloc or parts.path or parts.query or parts.fragment:
        return "not an origin; write `*` or `https://host[:port]` without a path"
    return plain_text(text)


def header_name(text: str) -> str:
    return "" if _HEADER_NAME.fullmatch(text) else "not a header name; use letters, digits and `-`"


def header_value(text: str) -> str:
    if not text.isascii():
        return "contains characters that are not ASCII and cannot be sent in a header"
    return plain_text(text)


def name_prefix(text: str) -> str:
    """A model prefix is written before `/`, so it has none itself."""
    if "/" in text or _SPACE.search(text):
        return "must not contain `/` or spaces; the `/` between prefix and model is added"
    return plain_text(text)


def management_key(text: str) -> str:
    if not is_bcrypt(text) and len(text.encode("utf-8", "surrogatepass")) > BCRYPT_LIMIT_BYTES:
        return f"is longer than {BCRYPT_LIMIT_BYTES} bytes, the limit of bcrypt; choose a shorter key"
    return plain_text(text)


def is_bcrypt(text: str) -> bool:
    """Whether the text is taken as a hash: by its prefix alone, as users of the Go program know it."""
    return len(text) > 4 and text.startswith(_BCRYPT_PREFIXES)


def is_broken_bcrypt(text: str) -> bool:
    return is_bcrypt(text) and not _BCRYPT.fullmatch(text)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a listener on that host. An empty host means every interface."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def whole_number(text: str) -> int | None:
    """Decimal, `0x`, `0o` or `0b`, underscores allowed. Long texts are refused before Python's quadratic parsing."""
    if len(text) > MAX_NUMBER_CHARACTERS:
        return None
    for base in (10, 0):
        try:
            return int(text, base)
        except ValueError:
            continue
    return None


def go_duration(text: str) -> float | None:
    """Seconds of a text such as `1h30m`, `90s` or `500ms`; None when it is not one."""
    total, end = 0.0, 0
    for part in _GO_DURATION_PART.finditer(text):
        if part.start() != end:
            return None
        total, end = total + float(part[1]) * _SECONDS[part[2]], part.end()
    return total if text and end == len(text) else None


def _split(text: str) -> SplitResult | None:
    """The parts of an address; None when it has spaces, control characters, a bad host or a bad port."""
    if _SPACE.search(text) or _CONTROL.search(text):
        return None
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return None
    return parts
