"""What every provider brings: it describes requests to its upstream and judges the answers. It never performs HTTP."""

import hashlib
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Literal, Protocol

from msgspec import Struct, structs

from cliproxy import __version__
from cliproxy.canon.errors import Problem
from cliproxy.canon.fit import Fit
from cliproxy.config.schema import Config, Model, UpstreamEntry
from cliproxy.dialects.base import Dialect
from cliproxy.providers import signs
from cliproxy.providers.signs import COMMON, Seen, Table
from cliproxy.routing.accounts import Account, Served
from cliproxy.routing.limits import Limit
from cliproxy.routing.verdict import Verdict
from cliproxy.wire.http import Address, Headers, HttpRequest
from cliproxy.wire.secrets import Secret
from cliproxy.wire.waits import time_of

USER_AGENT = f"cli-proxy-api/{__version__}"
OUR_AGENT: Headers = ((b"user-agent", USER_AGENT.encode()),)

# Header lines that the transport writes itself. A second one would break the request's framing, or its relay.
_TRANSPORTS = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "keep-alive", "upgrade", "te", "accept-encoding"}
)

Operation = Literal["generate", "count"]


class Proxies(Struct, frozen=True):
    """The proxies that the environment names, for origins without a configured one. `no_proxy` are host suffixes."""

    http: str = ""
    https: str = ""
    no_proxy: tuple[str, ...] = ()


class Upstream(Struct, frozen=True, eq=False):
    """An account, ready to be asked. `head` are its constant header lines and hold its credential, `secret`.

    `own` are the names of headers that its configuration sets; nothing that is added per request may repeat them.
    `source` is the name of the credential file that the account comes from. Such an account's credential changes as
    time goes by: it is not in `head`, and each request brings it (`Ask.token`). `project` is what the vendor bills such
    an account's requests to, where it wants to be told.
    """

    account: Account
    provider: "Provider"
    dialect: Dialect
    fit: Fit
    address: Address
    head: bytes
    secret: Secret = Secret()
    own: frozenset[bytes] = frozenset()
    source: str = ""
    project: str = ""

    def __repr__(self) -> str:
        return f"Upstream({self.account.label})"

    def headed(self, *lines: Headers) -> bytes:
        """`head` and more lines, those left out that the configuration sets itself."""
        own = self.own
        return self.head + b"".join(
            [b"%b: %b\r\n" % line for pairs in lines for line in pairs if not own or line[0] not in own]
        )


class Ask(Struct, frozen=True):
    """One request to be described: `body` is in the upstream's dialect and names `model` as the upstream does.

    `headers` are the caller's. `is_native` says that the caller speaks the upstream's dialect, so that headers of the
    vendor's own client may travel on. `token` is the credential of an account that comes from a file.
    """

    model: str
    body: bytes
    headers: Headers
    operation: Operation = "generate"
    is_stream: bool = False
    is_native: bool = False
    token: Secret = Secret()


class Refusal(Struct, frozen=True):
    """An answer that is no success: one with an HTTP status that says so, or an error inside of a stream that began
    well. `problem` is what the dialect reads in it, `body` the vendor's own bytes: the whole body, or the event's data."""

    problem: Problem
    headers: Headers = ()
    body: bytes = b""


class Provider(Protocol):
    """`owner` is its name in model lists. `limit_prefixes` are how the names of headers begin that tell of limits;
    none when the vendor sends no such headers."""

    name: str
    owner: str
    limit_prefixes: tuple[bytes, ...]

    def request(self, upstream: Upstream, ask: Ask) -> HttpRequest: ...

    def judge(self, upstream: Upstream, refusal: Refusal, now_at: float) -> Verdict:
        """What a refusal says. `now_at` is epoch seconds."""
        ...

    def limits(self, headers: Headers, body: bytes, now_at: float) -> tuple[Limit, ...]:
        """What any answer tells of the account's allowances. `body` is that of a refusal, else empty."""
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


class KeyProvider(Provider, Protocol):
    """A provider whose accounts are keys in the configuration."""

    def upstreams(self, config: Config, proxies: Proxies) -> Iterable[Upstream]:
        """The accounts that the configuration names, in its order, the disabled left out."""
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
    merged |= {name: value.reveal() for name, value in own.items() if name not in _TRANSPORTS}
    return b"".join(f"{name}: {value}\r\n".encode() for name, value in merged.items())


def own_names(extra: Mapping[str, Secret]) -> frozenset[bytes]:
    return frozenset(name.lower().encode() for name in extra)


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


def forwarded(headers: Headers, names: frozenset[bytes], prefixes: tuple[bytes, ...] = ()) -> Headers:
    """The caller's headers of those names. Parsers have refused control characters in them."""
    return tuple(pair for pair in headers if pair[0] in names or pair[0].startswith(prefixes))


# ---- judging --------------------------------------------------------------------------------------------------------


def judged(upstream: Upstream, refusal: Refusal, now_at: float, table: Table) -> Verdict:
    """The verdict of `table` on a refusal by `upstream`."""
    headers = refusal.headers
    at = time_of(headers, now_at)
    seen = Seen(refusal.problem, headers, refusal.body, at, now_at, is_login=bool(upstream.source))
    return signs.judged(table, seen, upstream.secret.reveal())


def verdict_of(problem: Problem, headers: Headers, now_at: float, stated: float | None = None) -> Verdict:
    """The verdict that a problem leads to by itself, whoever the vendor is; problems of our own too. `stated` is the
    vendor's own reset, where its headers tell one."""
    return signs.judged(COMMON, Seen(problem, headers, b"", time_of(headers, now_at), now_at, stated=stated))


def told_without(verdict: Verdict, secret: Secret) -> Verdict:
    """`verdict` without a credential that was brought to one request only, and so is not the upstream's own."""
    evidence = signs.presentable(verdict.evidence, secret.reveal())
    return structs.replace(verdict, problem=without_secret(verdict.problem, secret), evidence=evidence)


def without_secret(problem: Problem, secret: Secret) -> Problem:
    """`problem` without the account's credential, which some upstreams repeat in what they say of it."""
    text = secret.reveal()
    if len(text) < 8 or (text not in problem.message and text.encode() not in problem.native):
        return problem
    native = problem.native.replace(text.encode(), b"[key]")
    return structs.replace(problem, message=problem.message.replace(text, "[key]"), native=native)
