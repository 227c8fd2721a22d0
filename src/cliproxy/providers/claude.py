"""Anthropic's API by API key.

Sources: https://docs.anthropic.com/en/api/messages, .../rate-limits, checked 2026-11-24.

The key's carrier: `x-api-key` at api.anthropic.com; a bearer at any other base-url, as relays expect it; `auth-style`
overrides. Feature headers of the caller (`anthropic-beta`, `anthropic-version`) travel on in native traffic, and those
of a genuine Claude Code as a whole; we add none of our own.
"""

import re
from collections.abc import Iterable

import msgspec
from msgspec import Struct

from cliproxy.canon.errors import BrokenAnswer
from cliproxy.config.schema import ClaudeKey, Config
from cliproxy.dialects.anthropic import DIALECT
from cliproxy.providers.base import (
    OUR_AGENT,
    Ask,
    Proxies,
    Refusal,
    Upstream,
    account_of,
    address_of,
    forwarded,
    head_lines,
    judged,
    own_names,
)
from cliproxy.providers.openai_like import number, share
from cliproxy.providers.signs import (
    COMMON,
    RETRY_AFTER,
    Row,
    Seen,
    Sign,
    Table,
    Wait,
    both,
    limited,
    login,
    opening,
    quoted,
    status,
    used_up,
)
from cliproxy.routing.limits import Limit
from cliproxy.routing.verdict import Scope, Verdict
from cliproxy.wire.http import Headers, HttpRequest, header
from cliproxy.wire.waits import believable, duration, time_of, until

_OFFICIAL_HOST = "api.anthropic.com"
FAMILIES = ("claude-",)
_VERSION: Headers = ((b"anthropic-version", b"2023-06-01"),)
_FEATURES = frozenset({b"anthropic-beta", b"anthropic-version"})
_CLIENT = _FEATURES | {b"user-agent", b"x-app", b"anthropic-dangerous-direct-browser-access"}
_CLIENT_PREFIXES = (b"x-stainless-", b"x-claude-code-")
_PREFIX = b"anthropic-ratelimit-"
LIMIT_PREFIXES = (_PREFIX,)
_UNIFIED = "anthropic-ratelimit-unified"
_FAMILIES = frozenset({b"requests", b"tokens", b"input-tokens", b"output-tokens"})
_WINDOW = re.compile(rb"unified-((\d{1,3})([mhd])(_[a-z0-9_]{1,12})?)")
_UNIT_SECONDS = {b"m": 60.0, b"h": 3600.0, b"d": 86_400.0}
_REJECTED = b"rejected"
_CLAIM_OF_MODEL = re.compile(rb"[a-z]+_(?:hour|day)_[a-z0-9_]+")


class _Listed(Struct):
    id: str


class _Listing(Struct):
    data: list[_Listed]


_decode_listing = msgspec.json.Decoder(_Listing).decode


class Claude:
    name = "claude"
    owner = "anthropic"
    limit_prefixes: tuple[bytes, ...] = LIMIT_PREFIXES

    def upstreams(self, config: Config, proxies: Proxies) -> Iterable[Upstream]:
        for index, entry in enumerate(config.claude_api_key):
            if not entry.disabled:
                yield self._upstream(config, proxies, entry, f"claude-api-key[{index}]")

    def request(self, upstream: Upstream, ask: Ask) -> HttpRequest:
        return describe(upstream, ask, *caller_lines(ask))

    def judge(self, upstream: Upstream, refusal: Refusal, now_at: float) -> Verdict:
        return judged(upstream, refusal, now_at, TABLE)

    def limits(self, headers: Headers, body: bytes, now_at: float) -> tuple[Limit, ...]:
        return limits(headers, now_at)

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


# ---- limits ---------------------------------------------------------------------------------------------------------


_Allowance = dict[bytes, bytes]
"""What the headers say of one allowance of a key, or one window of a plan: fields by name."""


def limits(headers: Headers, now_at: float) -> tuple[Limit, ...]:
    """The allowances of a key, or the windows of a subscription: `5h`, `7d`, and weeks of some models as `7d_...`."""
    found = _allowances(headers)
    at = time_of(headers, now_at) if found else now_at
    told = (_limit(name, allowance, at) for name, allowance in found.items())
    return tuple(limit for limit in told if limit is not None)


def _allowances(headers: Headers) -> dict[bytes, _Allowance]:
    found: dict[bytes, _Allowance] = {}
    for name, value in headers:
        if name.startswith(_PREFIX):
            which, _, what = name[len(_PREFIX) :].rpartition(b"-")
            found.setdefault(which, {})[what] = value
    return found


def _limit(which: bytes, allowance: _Allowance, at: float) -> Limit | None:
    resets_in = believable(until(allowance.get(b"reset", b""), at))
    if (window := _WINDOW.fullmatch(which)) is not None:
        seconds = int(window[2]) * _UNIT_SECONDS[window[3]]
        return Limit(
            window[1].decode(),
            "model" if window[4] else "account",
            left=_left(allowance),
            resets_in=resets_in,
            window=seconds,
        )
    total, remaining = number(allowance.get(b"limit", b"")), number(allowance.get(b"remaining", b""))
    if which not in _FAMILIES or (total is None and remaining is None):
        return None
    return Limit(which.decode(), "account", total, remaining, share(remaining, total), resets_in)


def _left(allowance: _Allowance) -> float | None:
    if allowance.get(b"status") == _REJECTED:
        return 0.0
    used = duration(allowance.get(b"utilization", b"").decode("latin-1"))
    return None if used is None else max(1.0 - used, 0.0)


# ---- verdicts -------------------------------------------------------------------------------------------------------


class _Full(Struct, frozen=True):
    """What is used up, and when it is full again."""

    evidence: str
    scope: Scope
    resets_in: float | None


def _rejected(seen: Seen) -> _Full | None:
    """The window of a plan that is used up, of several the last to begin anew. All of the account weighs more than some
    of its models. Where no window is named, the plan as a whole says it, and a claim names the window in words."""
    found = _allowances(seen.headers)
    full = [
        _Full(
            f"{_UNIFIED}-{window[1].decode()}-status: rejected",
            "model" if window[4] else "account",
            believable(until(allowance.get(b"reset", b""), seen.at)),
        )
        for which, allowance in found.items()
        if allowance.get(b"status") == _REJECTED and (window := _WINDOW.fullmatch(which)) is not None
    ]
    if full:
        return max(full, key=lambda one: (one.scope == "account", one.resets_in or 0.0))
    whole = found.get(b"unified")
    if whole is None or whole.get(b"status") != _REJECTED:
        return None
    is_of_model = _CLAIM_OF_MODEL.fullmatch(found.get(b"unified-representative", {}).get(b"claim", b""))
    reset = believable(until(whole.get(b"reset", b""), seen.at))
    return _Full(f"{_UNIFIED}-status: rejected", "model" if is_of_model else "account", reset)


def _plan_is_used_up(scope: Scope) -> Sign:
    def find(seen: Seen) -> str:
        full = _rejected(seen)
        return quoted(full.evidence) if full is not None and full.scope == scope else ""

    return find


def _plan_reset(seen: Seen) -> float | None:
    full = _rejected(seen)
    return None if full is None else full.resets_in


_IS_USED_UP, _RESET = used_up(limits, "anthropic-ratelimit-{}-remaining: 0")
_PLAN_WAITS = (Wait("header", _plan_reset), RETRY_AFTER)
_CLOSED = opening("this organization has been disabled", "this account has been disabled")
TABLE: Table = (
    Row(opening("your credit balance is too low"), "billing", "account", kind="billing"),
    Row(both(login, both(status(400, 401, 403), _CLOSED)), "suspended", "account", waits=()),
    Row(both(status(400, 401, 403), _CLOSED), "forbidden", "account", kind="permission"),
    Row(both(status(403), opening("oauth token has been revoked")), "auth", "account", kind="unauthenticated"),
    Row(both(limited, _plan_is_used_up("account")), "exhausted", "account", waits=_PLAN_WAITS),
    Row(both(limited, _plan_is_used_up("model")), "exhausted", "model", waits=_PLAN_WAITS),
    Row(both(limited, _IS_USED_UP), "quota", "account", waits=(RETRY_AFTER, _RESET)),
    *COMMON,
)
"""A purse that is empty, and an organization that is closed, come as a plain 400."""


PROVIDER = Claude()
