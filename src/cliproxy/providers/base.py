"""What every provider brings: it describes requests to its upstream and judges the answers. It never performs HTTP."""

import hashlib
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Literal, Protocol

from msgspec import Struct, structs

from cliproxy import __version__
from cliproxy.canon.errors import Kind, Problem
from cliproxy.canon.fit import Fit
from cliproxy.config.schema import Config, Model, UpstreamEntry
from cliproxy.config.secrets import Secret
from cliproxy.dialects.base import Dialect
from cliproxy.routing.accounts import Account, Served
from cliproxy.routing.verdict import Fault, Verdict
from cliproxy.wire.http import Address, Headers, HttpRequest
from cliproxy.wire.waits import retry_after

USER_AGENT = f"cli-proxy-api/{__version__}"

Operation = Literal["generate", "count"]


class Proxies(Struct, frozen=True):
    """The proxies that the environment names, for origins without a configured one. `no_proxy` are host suffixes."""

    http: str = ""
    https: str = ""
    no_proxy: tuple[str, ...] = ()


class Upstream(Struct, frozen=True, eq=False):
    """An account, ready to be asked. `head` are its constant header lines and hold its credential."""

    account: Account
    provider: "Provider"
    dialect: Dialect
    fit: Fit
    address: Address
    head: bytes

    def __repr__(self) -> str:
        return f"Upstream({self.account.label})"


class Ask(Struct, frozen=True):
    """One request to be described: `body` is in the upstream's dialect and names `model` as the upstream does.

    `headers` are the caller's. `is_native` says that the caller speaks the upstream's dialect, so that headers of the
    vendor's own client may travel on.
    """

    model: str
    body: bytes
    headers: Headers
    operation: Operation = "generate"
    is_stream: bool = False
    is_native: bool = False


class Provider(Protocol):
    """`section` is its key in the configuration file; `owner` its name in model lists."""

    name: str
    owner: str

    def upstreams(self, config: Config, proxies: Proxies) -> Iterable[Upstream]:
        """The accounts that the configuration names, in its order, the disabled left out."""
        ...

    def request(self, upstream: Upstream, ask: Ask) -> HttpRequest: ...

    def judge(self, upstream: Upstream, status: int, headers: Headers, body: bytes, now_at: float) -> Verdict:
        """What an answer that is no success says. `now_at` is epoch seconds."""
        ...

    def can_count(self) -> bool:
        """Whether the upstream counts tokens."""
        ...

    def listing(self, upstream: Upstream) -> HttpRequest | None:
        """The request for the upstream's own list of models, None when it has none or must not be asked."""
        ...

    def read_listing(self, body: bytes) -> tuple[str, ...]:
        """Model names in an answer to `listing`. Raises BrokenAnswer."""
        ...


# ---- describing -----------------------------------------------------------------------------------------------------


def account_id(provider: str, *identity: str) -> str:
    """Stable over restarts, telling nothing of the credential."""
    return f"{provider}-{hashlib.sha256(chr(0).join(identity).encode()).hexdigest()[:12]}"


def address_of(url: str, entry_proxy: Secret, config: Config, proxies: Proxies) -> Address:
    """`url` taken apart, with the proxy that leads to it: the entry's, else the file's, else the environment's."""
    plain = Address.of(url)
    host, scheme = plain.origin.host, plain.origin.scheme
    chosen = entry_proxy.reveal().strip()
    if not chosen and not _is_local(host) and not _is_exempt(host, config.no_proxy):
        chosen = config.proxy_url.reveal().strip()
        if not chosen and not _is_exempt(host, proxies.no_proxy):
            chosen = proxies.https if scheme == "https" else proxies.http
    proxy = "" if chosen in ("direct", "none") else chosen
    return structs.replace(plain, origin=structs.replace(plain.origin, proxy=proxy))


def _is_local(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_exempt(host: str, suffixes: Iterable[str]) -> bool:
    for suffix in suffixes:
        bare = suffix.strip().lstrip("*").lstrip(".").lower()
        if suffix.strip() == "*" or (bare and (host == bare or host.endswith(f".{bare}"))):
            return True
    return False


def head_lines(lines: Mapping[str, str], extra: Mapping[str, Secret]) -> bytes:
    """Header lines, those of the configuration winning over ours. Values were checked when the file was read."""
    own = {name.lower(): value for name, value in extra.items()}
    merged = {name: value for name, value in lines.items() if name not in own}
    merged |= {name: value.reveal() for name, value in own.items()}
    return b"".join(f"{name}: {value}\r\n".encode() for name, value in merged.items())


def served_models(models: Iterable[Model]) -> tuple[Served, ...]:
    return tuple(Served(model.public_name, model.name) for model in models)


def account_of(
    provider: str, entry: UpstreamEntry, label: str, identity: tuple[str, ...], families: tuple[str, ...], weight: int
) -> Account:
    """The account of one entry. An entry that lists models serves those only; else all names of `families`."""
    return Account(
        id=account_id(provider, *identity),
        provider=provider,
        label=label,
        priority=entry.priority,
        weight=weight,
        prefix=entry.prefix.strip("/"),
        serves=served_models(entry.models),
        families=() if entry.models else families,
        excluded=entry.excluded_models,
    )


def forwarded(headers: Headers, names: frozenset[bytes], prefixes: tuple[bytes, ...] = ()) -> bytes:
    """The caller's headers of those names, as lines. Parsers have refused control characters in them."""
    return b"".join(
        b"%b: %b\r\n" % (name, value) for name, value in headers if name in names or name.startswith(prefixes)
    )


# ---- judging --------------------------------------------------------------------------------------------------------

_FAULTS: dict[Kind, tuple[Fault, Literal["none", "model", "account"]]] = {
    "unauthenticated": ("auth", "account"),
    "permission": ("auth", "account"),
    "billing": ("billing", "account"),
    "quota": ("quota", "account"),
    "rate_limit": ("quota", "model"),
    "not_found": ("missing", "model"),
    "model_not_found": ("missing", "model"),
    "request_timeout": ("overload", "none"),
    "conflict": ("overload", "none"),
    "internal": ("overload", "none"),
    "overloaded": ("overload", "none"),
    "bad_gateway": ("broken", "none"),
    "unreachable": ("network", "none"),
    "gateway_timeout": ("network", "none"),
}


def verdict_of(problem: Problem, headers: Headers, now_at: float, stated: float | None = None) -> Verdict:
    """The verdict that a problem's kind leads to. `stated` is the vendor's own reset, where its headers tell one."""
    fault, scope = _FAULTS.get(problem.kind, ("caller", "none"))
    wait = retry_after(headers, now_at)
    for other in (stated, problem.retry_after):
        wait = other if wait is None else wait
    if wait is not None and problem.retry_after is None:
        problem = structs.replace(problem, retry_after=wait)
    return Verdict(fault, problem, scope, wait if scope != "none" else None)
