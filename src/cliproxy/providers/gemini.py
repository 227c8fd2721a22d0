"""Google's Gemini API by API key.

Source: https://ai.google.dev/api, checked 2026-11-24. The key travels as `x-goog-api-key`, never in the query.
"""

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import msgspec
from msgspec import Struct, field

from cliproxy.canon.errors import BrokenAnswer
from cliproxy.config.schema import Config, GeminiKey
from cliproxy.dialects.gemini import DIALECT
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
from cliproxy.providers.openai_like import number
from cliproxy.providers.signs import COMMON, STATED, Row, Seen, Sign, Table, Wait, both, kind, limited, quoted, status
from cliproxy.routing.limits import Limit
from cliproxy.routing.verdict import Verdict
from cliproxy.wire.google_errors import Quota, read_told
from cliproxy.wire.http import Headers, HttpRequest, header
from cliproxy.wire.waits import time_of, until

_FAMILIES = ("gemini-", "gemma-", "learnlm-")
_CLIENT = frozenset({b"user-agent", b"x-goog-api-client"})
_DAY = 86_400.0
_MINUTE = 60.0
_MOST_QUOTAS = 16
_LONGEST_NAME = 120
_DAILY = re.compile("PerDay|Daily")
_NOTHING = re.compile(r"limit: 0(?![\d.,]*[1-9])")
_METHODS = {("generate", False): "generateContent", ("generate", True): "streamGenerateContent"}


class _Listed(Struct):
    name: str
    methods: list[str] = field(default_factory=list[str], name="supportedGenerationMethods")


class _Listing(Struct):
    models: list[_Listed]


_decode_listing = msgspec.json.Decoder(_Listing).decode


class Gemini:
    name = "gemini"
    owner = "google"
    limit_prefixes: tuple[bytes, ...] = ()

    def upstreams(self, config: Config, proxies: Proxies) -> Iterable[Upstream]:
        for index, entry in enumerate(config.gemini_keys):
            if not entry.disabled:
                yield self._upstream(config, proxies, entry, f"gemini-api-key[{index}]")

    def request(self, upstream: Upstream, ask: Ask) -> HttpRequest:
        method = method_of(ask)
        query = "?alt=sse" if ask.is_stream else ""
        target = f"{upstream.address.prefix}/models/{quote(ask.model, safe='')}:{method}{query}".encode()
        return HttpRequest(b"POST", upstream.address.origin, target, upstream.headed(caller_lines(ask)), ask.body)

    def judge(self, upstream: Upstream, refusal: Refusal, now_at: float) -> Verdict:
        return judged(upstream, refusal, now_at, _TABLE)

    def limits(self, headers: Headers, body: bytes, now_at: float) -> tuple[Limit, ...]:
        return limits(body, time_of(headers, now_at), until_midnight_pacific) if body else ()

    def can_count(self) -> bool:
        return True

    def listing(self, upstream: Upstream) -> HttpRequest | None:
        target = upstream.address.prefix.encode() + b"/models?pageSize=1000"
        return HttpRequest(b"GET", upstream.address.origin, target, upstream.headed(OUR_AGENT))

    def read_listing(self, body: bytes) -> tuple[str, ...]:
        try:
            rows = _decode_listing(body).models
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BrokenAnswer("The upstream's model list cannot be read.") from error
        return tuple(
            row.name.removeprefix("models/") for row in rows if not row.methods or "generateContent" in row.methods
        )

    def _upstream(self, config: Config, proxies: Proxies, entry: GeminiKey, label: str) -> Upstream:
        base = (entry.base_url or config.endpoints.gemini.base_url).rstrip("/").removesuffix("/v1beta")
        key = entry.api_key.reveal()
        account = account_of(self.name, entry, label, (key, base), _FAMILIES, entry.weight)
        address = address_of(f"{base}/v1beta", entry.proxy_url, config, proxies)
        head = head_lines({"content-type": "application/json", "x-goog-api-key": key}, entry.headers)
        return Upstream(account, self, DIALECT, DIALECT.fit, address, head, entry.api_key, own_names(entry.headers))


def method_of(ask: Ask) -> str:
    return "countTokens" if ask.operation == "count" else _METHODS[ask.operation, ask.is_stream]


def caller_lines(ask: Ask) -> Headers:
    """A genuine Gemini CLI says who it is; for all others we do."""
    is_cli = ask.is_native and b"GeminiCLI" in header(ask.headers, b"user-agent")
    return forwarded(ask.headers, _CLIENT) if is_cli else OUR_AGENT


def until_midnight_pacific(now_at: float) -> float:
    """By the law's own rule and not by a time-zone table, which slim systems lack: from the second Sunday of March to
    the first of November California is 7 hours behind, else 8."""
    now = datetime.fromtimestamp(now_at, UTC)
    local = now - _behind(now)
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    return (midnight + _behind(midnight) - now).total_seconds()


def _behind(moment: datetime) -> timedelta:
    """How far California is behind. The clock is changed hours after midnight, so midnight's own is found either way."""
    begins = _sunday(moment.year, 3, 2) + timedelta(hours=10)
    ends = _sunday(moment.year, 11, 1) + timedelta(hours=9)
    return timedelta(hours=7 if begins <= moment < ends else 8)


def _sunday(year: int, month: int, number: int) -> datetime:
    first = datetime(year, month, 1, tzinfo=UTC)
    return first + timedelta(days=(6 - first.weekday()) % 7 + 7 * (number - 1))


# ---- limits ---------------------------------------------------------------------------------------------------------


def limits(body: bytes, at: float, end_of_day: Callable[[float], float | None]) -> tuple[Limit, ...]:
    """The quotas that a refusal says are used up; Google tells of no others. `at` is the vendor's time."""
    told = read_told(body)
    return tuple(_limit(quota, end_of_day(at)) for quota in told.quotas[:_MOST_QUOTAS] if quota.quota_id)


def _limit(quota: Quota, end_of_day: float | None) -> Limit:
    name = quota.quota_id[:_LONGEST_NAME]
    total = number(str(quota.quota_value).encode("ascii", "replace"))
    if _DAILY.search(name):
        return Limit(name, "model", total, 0.0, 0.0, end_of_day, _DAY)
    is_brief = "PerMinute" in name
    return Limit(name, "model", total, 0.0, 0.0, *((_MINUTE, _MINUTE) if is_brief else (None, None)))


# ---- verdicts -------------------------------------------------------------------------------------------------------


def _quota_of(pattern: re.Pattern[str]) -> Sign:
    """A quota of such a name is used up."""

    def find(seen: Seen) -> str:
        told = read_told(seen.body)
        return next((quoted(quota.quota_id) for quota in told.quotas if pattern.search(quota.quota_id)), "")

    return find


def _not_in_plan(seen: Seen) -> str:
    """Nothing is left because nothing was ever given."""
    if _NOTHING.search(seen.problem.message):
        return "`limit: 0`"
    return next(
        (quoted(f"{quota.quota_id}: 0") for quota in read_told(seen.body).quotas if str(quota.quota_value) == "0"), ""
    )


def _stamp(seen: Seen) -> float | None:
    stamp = read_told(seen.body).metadata.get("quotaResetTimeStamp")
    return until(stamp.encode(), seen.at) if stamp else None


_WAITS = (*STATED, Wait("body", _stamp))
_daily, _minutely = _quota_of(_DAILY), _quota_of(re.compile("PerMinute"))


def table(*end_of_day: Wait) -> Table:
    """Google's quotas are counted per model. `end_of_day` is when those of a day are full again, where that is known."""
    return (
        Row(both(limited, _not_in_plan), "missing", "model", waits=()),
        Row(both(kind("quota"), _daily), "exhausted", "model", waits=(*_WAITS, *end_of_day)),
        Row(kind("quota"), "exhausted", "model", waits=_WAITS),
        Row(both(kind("rate_limit"), _minutely), "quota", "model", waits=(*_WAITS, Wait("body", lambda _: _MINUTE))),
        Row(kind("rate_limit"), "quota", "model", waits=_WAITS),
        Row(status(499), "overload", "model", kind="overloaded"),  # the vendor's own client asks again, too
        *COMMON,
    )


_TABLE = table(Wait("body", lambda seen: until_midnight_pacific(seen.at)))
"""A day's quota of a key is full again at midnight in California."""

PROVIDER = Gemini()
