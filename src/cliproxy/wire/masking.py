"""HTTP as it may be written down: headers and addresses without the secrets in them.

What is secret is told by its name. The words are deliberately broad: a value that is hidden needlessly costs a look
elsewhere, one that is shown costs a key.
"""

import re
from urllib.parse import quote, unquote_plus

from cliproxy.wire.http import Headers

_WORDS = ("key", "token", "secret", "cookie", "authorization", "password", "credential")
# An OAuth callback brings its code and state in the query; both are as good as a key until they are used.
_EXACT = frozenset({"code", "state", "sig", "signature"})
# How many tokens a vendor still grants is no secret, and half of the reason to look into a log.
_HARMLESS = "ratelimit"
_SCHEMES = frozenset({"bearer", "basic", "digest", "token", "apikey", "negotiate"})

# The shortest value of which anything is shown is one longer; the ends of a shorter one would be most of it.
_SHORT = 8
_END = 4
# A text of this length is not met by chance, so it may be looked for in bodies.
_TELLING = 8

_SAFE_IN_PATH = "/:@!$&'()*+,;=~%"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def is_secret(name: str) -> bool:
    """Whether a header or query parameter of this name carries a secret."""
    name = name.lower()
    if name in _EXACT:
        return True
    return _HARMLESS not in name and any(word in name for word in _WORDS)


def masked(value: str) -> str:
    """The first and the last four characters, when there are more than eight; else none."""
    return f"{value[:_END]}...{value[-_END:]}" if len(value) > _SHORT else "***"


def masked_header(name: str, value: str) -> str:
    """`value` as it may be shown under `name`. The scheme of an authorization stays; of Basic nothing else does, since
    the ends of its base64 are readable."""
    if not is_secret(name):
        return value
    scheme, _, rest = value.partition(" ")
    if "authorization" not in name.lower() or scheme.lower() not in _SCHEMES or not rest:
        return masked(value)
    return f"{scheme} ***" if scheme.lower() == "basic" else f"{scheme} {masked(rest.strip())}"


def masked_lines(headers: Headers) -> str:
    """One line each, `name: value`."""
    pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
    return "".join(f"{name}: {_visible(masked_header(name, value))}\n" for name, value in pairs)


def masked_target(path: str, query: str) -> str:
    """Path and raw query of an address; `path` may be decoded or not."""
    shown = quote(path, safe=_SAFE_IN_PATH)
    return f"{shown}?{masked_query(query)}" if query else shown


def masked_query(query: str) -> str:
    """A raw query; what is not secret stays as it came."""
    return _visible("&".join(_masked_parameter(part) for part in query.split("&")))


def secrets_of(headers: Headers, query: str = "") -> tuple[bytes, ...]:
    """The secrets in a head that are long enough to be looked for elsewhere, the longest first."""
    found: set[str] = set()
    for name, value in headers:
        if is_secret(name.decode("latin-1")):
            text = value.decode("latin-1").strip()
            scheme, _, rest = text.partition(" ")
            found.add(rest.strip() if scheme.lower() in _SCHEMES and rest else text)
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if is_secret(unquote_plus(name)):
            found |= {value, unquote_plus(value)}
    return tuple(sorted((text.encode() for text in found if len(text) >= _TELLING), key=len, reverse=True))


def without(data: bytes, secrets: tuple[bytes, ...]) -> bytes:
    """`data` with each of `secrets` masked."""
    for secret in secrets:
        if secret in data:
            data = data.replace(secret, masked(secret.decode("utf-8", "replace")).encode())
    return data


def _masked_parameter(part: str) -> str:
    name, equals, value = part.partition("=")
    if not equals or not is_secret(unquote_plus(name)):
        return part
    return f"{name}={masked(unquote_plus(value))}"


def _visible(text: str) -> str:
    """One line, whatever a caller put into it."""
    return _CONTROL.sub("?", text)
