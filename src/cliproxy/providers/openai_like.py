"""What OpenAI's own API and those compatible with it have in common: rate-limit headers and the list of models.

Source: https://platform.openai.com/docs/guides/rate-limits and /docs/api-reference/models, checked 2026-11-24.
"""

import re

import msgspec
from msgspec import Struct, field

from cliproxy.canon.errors import BrokenAnswer
from cliproxy.providers.base import Upstream, verdict_of
from cliproxy.routing.verdict import Verdict
from cliproxy.wire.http import Headers, HttpRequest, header
from cliproxy.wire.waits import duration, until


class _Listed(Struct):
    id: str


class _Listing(Struct):
    data: list[_Listed] = field(default_factory=list[_Listed])


_RESETS_AT = re.compile(rb'"resets_at"\s*:\s*(\d{9,12})')
"""Of a plan's limit; epoch seconds."""

_decode_listing = msgspec.json.Decoder(_Listing).decode


def judge(upstream: Upstream, status: int, headers: Headers, body: bytes, now_at: float) -> Verdict:
    problem = upstream.dialect.read_error(status, body)
    stated = None
    if status == 429:
        stated = _stated_reset(headers)
        if problem.retry_after is None and (match := _RESETS_AT.search(body)) is not None:
            stated = until(match[1], now_at)
    return verdict_of(problem, headers, now_at, stated)


def listing(upstream: Upstream, lines: Headers = ()) -> HttpRequest:
    target = upstream.address.prefix.encode() + b"/models"
    return HttpRequest(b"GET", upstream.address.origin, target, upstream.headed(lines))


def read_listing(body: bytes) -> tuple[str, ...]:
    try:
        return tuple(row.id for row in _decode_listing(body).data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BrokenAnswer("The upstream's model list cannot be read.") from error


def _stated_reset(headers: Headers) -> float | None:
    """When the exhausted allowance is full again: of requests or of tokens, whichever is at zero, the later."""
    waits: list[float] = []
    for family in (b"requests", b"tokens"):
        if header(headers, b"x-ratelimit-remaining-" + family) == b"0":
            wait = duration(header(headers, b"x-ratelimit-reset-" + family).decode("latin-1"))
            waits += [] if wait is None else [wait]
    return max(waits, default=None)
