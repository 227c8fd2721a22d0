"""Anthropic's API by API key.

Sources: https://docs.anthropic.com/en/api/messages, .../rate-limits, checked 2026-11-24.

The key's carrier: `x-api-key` at api.anthropic.com; a bearer at any other base-url, as relays expect it; `auth-style`
overrides. Feature headers of the caller (`anthropic-beta`, `anthropic-version`) travel on in native traffic, and those
of a genuine Claude Code as a whole; we add none of our own.
"""

from collections.abc import Iterable

import msgspec
from msgspec import Struct, structs

from cliproxy.canon.errors import BrokenAnswer
from cliproxy.config.schema import ClaudeKey, Config
from cliproxy.dialects.anthropic import DIALECT
from cliproxy.providers.base import (
    OUR_AGENT,
    Ask,
    Proxies,
    Upstream,
    account_of,
    address_of,
    forwarded,
    head_lines,
    own_names,
    verdict_of,
)
from cliproxy.routing.verdict import Verdict
from cliproxy.wire.http import Headers, HttpRequest, header
from cliproxy.wire.waits import until

_OFFICIAL_HOST = "api.anthropic.com"
FAMILIES = ("claude-",)
_VERSION: Headers = ((b"anthropic-version", b"2023-06-01"),)
_FEATURES = frozenset({b"anthropic-beta", b"anthropic-version"})
_CLIENT = _FEATURES | {b"user-agent", b"x-app", b"anthropic-dangerous-direct-browser-access"}
_CLIENT_PREFIXES = (b"x-stainless-", b"x-claude-code-")
_FAMILIES = ("requests", "tokens", "input-tokens", "output-tokens")
_WINDOWS = (b"", b"-5h", b"-7d")
_EMPTY_PURSE = "credit balance is too low"


class _Listed(Struct):
    id: str


class _Listing(Struct):
    data: list[_Listed]


_decode_listing = msgspec.json.Decoder(_Listing).decode


class Claude:
    name = "claude"
    owner = "anthropic"

    def upstreams(self, config: Config, proxies: Proxies) -> Iterable[Upstream]:
        for index, entry in enumerate(config.claude_api_key):
            if not entry.disabled:
                yield self._upstream(config, proxies, entry, f"claude-api-key[{index}]")

    def request(self, upstream: Upstream, ask: Ask) -> HttpRequest:
        return describe(upstream, ask, *caller_lines(ask))

    def judge(self, upstream: Upstream, status: int, headers: Headers, body: bytes, now_at: float) -> Verdict:
        return judge(upstream, status, headers, body, now_at)

    def can_count(self) -> bool:
        return True

    def listing(self, upstream: Upstream) -> HttpRequest | None:
        target = upstream.address.prefix.encode() + b"/models?limit=1000"
        return HttpRequest(b"GET", upstream.address.origin, target, upstream.headed(_VERSION, OUR_AGENT))

    def read_listing(self, body: bytes) -> tuple[str, ...]:
        try:
            return tuple(row.id for row in _decode_listing(body).data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BrokenAnswer("The upstream's model list cannot be read.") from error

    def _upstream(self, config: Config, proxies: Proxies, entry: ClaudeKey, label: str) -> Upstream:
        base = (entry.base_url or config.endpoints.claude.base_url).rstrip("/").removesuffix("/v1")
        key = entry.api_key.reveal()
        account = account_of(self.name, entry, label, (key, base), FAMILIES, entry.weight)
        address = address_of(f"{base}/v1", entry.proxy_url, config, proxies)
        lines = {"content-type": "application/json", **_credential(key, address.origin.host, entry.auth_style)}
        head, own = head_lines(lines, entry.headers), own_names(entry.headers)
        return Upstream(account, self, DIALECT, DIALECT.fit, address, head, entry.api_key, own)


def describe(upstream: Upstream, ask: Ask, *lines: Headers) -> HttpRequest:
    """A call with `lines` beside the account's own."""
    path = b"/messages/count_tokens" if ask.operation == "count" else b"/messages"
    target = upstream.address.prefix.encode() + path
    return HttpRequest(b"POST", upstream.address.origin, target, upstream.headed(*lines), ask.body)


def judge(upstream: Upstream, status: int, headers: Headers, body: bytes, now_at: float) -> Verdict:
    """An allowance that the headers name belongs to the whole account. A purse that is empty comes as a plain 400."""
    problem = upstream.dialect.read_error(status, body)
    if problem.kind == "invalid_request" and _EMPTY_PURSE in problem.message.lower():
        problem = structs.replace(problem, kind="billing")
    stated = _stated_reset(headers, now_at)
    verdict = verdict_of(problem, headers, now_at, stated)
    if verdict.fault == "quota" and stated is not None:
        return structs.replace(verdict, scope="account")
    return verdict


def _credential(key: str, host: str, style: str | None) -> dict[str, str]:
    style = style or ("x-api-key" if host == _OFFICIAL_HOST else "bearer")
    carriers = {"x-api-key": key, "authorization": f"Bearer {key}"}
    if style == "x-api-key":
        del carriers["authorization"]
    elif style == "bearer":
        del carriers["x-api-key"]
    return carriers


def caller_lines(ask: Ask) -> tuple[Headers, ...]:
    """The caller's own lines in native traffic, and who we are where no genuine client says who it is."""
    if not ask.is_native:
        return _VERSION, OUR_AGENT
    version = () if header(ask.headers, b"anthropic-version") else _VERSION
    if header(ask.headers, b"user-agent").startswith(b"claude-cli/"):
        return forwarded(ask.headers, _CLIENT, _CLIENT_PREFIXES), version
    return forwarded(ask.headers, _FEATURES), version, OUR_AGENT


def _stated_reset(headers: Headers, now_at: float) -> float | None:
    """When the exhausted allowance is full again; subscriptions say it in one header, keys in one per allowance."""
    unified = [
        until(header(headers, b"anthropic-ratelimit-unified" + window + b"-reset"), now_at)
        for window in _WINDOWS
        if header(headers, b"anthropic-ratelimit-unified" + window + b"-status") == b"rejected"
    ]
    waits = [wait for wait in unified if wait is not None]
    if waits:
        return max(waits)
    for family in _FAMILIES:
        name = f"anthropic-ratelimit-{family}".encode()
        if header(headers, name + b"-remaining") == b"0":
            wait = until(header(headers, name + b"-reset"), now_at)
            waits += [] if wait is None else [wait]
    return max(waits, default=None)


PROVIDER = Claude()
