"""What OpenAI's own API and those compatible with it have in common: rate-limit headers and the list of models.

Source: https://platform.openai.com/docs/guides/rate-limits and /docs/api-reference/models, checked 2026-11-24.
"""

import re

import msgspec
from msgspec import Struct, field

from cliproxy.canon.errors import BrokenAnswer
from cliproxy.providers.base import Upstream
from cliproxy.providers.signs import (
    COMMON,
    IN_BODY,
    RETRY_AFTER,
    Row,
    Seen,
    Table,
    Wait,
    both,
    kind,
    said,
    used_up,
)
from cliproxy.routing.limits import Limit
from cliproxy.wire.http import Headers, HttpRequest
from cliproxy.wire.waits import believable, reset, time_of, until


class _Listed(Struct):
    id: str


class _Listing(Struct):
    data: list[_Listed] = field(default_factory=list[_Listed])


_PREFIX = b"x-ratelimit-"
LIMIT_PREFIXES = (_PREFIX,)
_MOST_DIGITS = 15
_FAMILY = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_RESETS_AT = re.compile(rb'"resets_at"\s*:\s*(\d{9,14})(?!\d)')
"""Of a plan's limit; epoch seconds."""

_decode_listing = msgspec.json.Decoder(_Listing).decode


# ---- limits ---------------------------------------------------------------------------------------------------------


def limits(headers: Headers, now_at: float) -> tuple[Limit, ...]:
    """Allowances of requests, tokens and whatever else a server counts, each for a model."""
    found: dict[bytes, dict[bytes, bytes]] = {}
    for name, value in headers:
        if name.startswith(_PREFIX):
            what, _, family = name[len(_PREFIX) :].partition(b"-")
            found.setdefault(family, {})[what] = value
    at = time_of(headers, now_at) if found else now_at
    told = (_limit(family.decode("latin-1") or "requests", allowance, at) for family, allowance in found.items())
    return tuple(limit for limit in told if limit is not None)


def _limit(family: str, allowance: dict[bytes, bytes], at: float) -> Limit | None:
    total, remaining = number(allowance.get(b"limit", b"")), number(allowance.get(b"remaining", b""))
    if not _FAMILY.fullmatch(family) or (total is None and remaining is None):
        return None
    return Limit(
        family,
        "model",
        total,
        remaining,
        share(remaining, total),
        resets_in=believable(reset(allowance.get(b"reset", b""), at)),
    )


def number(text: bytes) -> float | None:
    """A count of zero or more; None for anything else."""
    return float(text) if len(text) <= _MOST_DIGITS and text.isdigit() else None


def share(remaining: float | None, total: float | None) -> float | None:
    """How much of an allowance remains, 0 to 1."""
    return min(remaining / total, 1.0) if total and remaining is not None else None


# ---- verdicts -------------------------------------------------------------------------------------------------------


def _resets_at(seen: Seen) -> float | None:
    match = _RESETS_AT.search(seen.body)
    return None if match is None else until(match[1], seen.at)


_IS_USED_UP, _RESET = used_up(limits, "x-ratelimit-remaining-{}: 0")
PLAN_RESET = (IN_BODY, Wait("body", _resets_at))
TABLE: Table = (
    Row(said("usage_limit_reached"), "exhausted", "account", waits=(*PLAN_RESET, RETRY_AFTER)),
    Row(both(kind("rate_limit"), _IS_USED_UP), "quota", "model", waits=(RETRY_AFTER, _RESET)),
    Row(kind("rate_limit"), "quota", "model", waits=(RETRY_AFTER, *PLAN_RESET)),
    *COMMON,
)


# ---- lists of models ------------------------------------------------------------------------------------------------


def listing(upstream: Upstream, lines: Headers = ()) -> HttpRequest:
    target = upstream.address.prefix.encode() + b"/models"
    return HttpRequest(b"GET", upstream.address.origin, target, upstream.headed(lines))


def read_listing(body: bytes) -> tuple[str, ...]:
    try:
        return tuple(row.id for row in _decode_listing(body).data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BrokenAnswer("The upstream's model list cannot be read.") from error
