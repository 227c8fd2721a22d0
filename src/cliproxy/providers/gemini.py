"""Google's Gemini API by API key.

Source: https://ai.google.dev/api, checked 2026-11-24. The key travels as `x-goog-api-key`, never in the query.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import msgspec
from msgspec import Struct, field, structs

from cliproxy.canon.errors import BrokenAnswer
from cliproxy.config.schema import Config, GeminiKey
from cliproxy.dialects.gemini import DIALECT
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

_FAMILIES = ("gemini-", "gemma-", "learnlm-")
_CLIENT = frozenset({b"user-agent", b"x-goog-api-client"})
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

    def upstreams(self, config: Config, proxies: Proxies) -> Iterable[Upstream]:
        for index, entry in enumerate(config.gemini_keys):
            if not entry.disabled:
                yield self._upstream(config, proxies, entry, f"gemini-api-key[{index}]")

    def request(self, upstream: Upstream, ask: Ask) -> HttpRequest:
        method = method_of(ask)
        query = "?alt=sse" if ask.is_stream else ""
        target = f"{upstream.address.prefix}/models/{quote(ask.model, safe='')}:{method}{query}".encode()
        return HttpRequest(b"POST", upstream.address.origin, target, upstream.headed(caller_lines(ask)), ask.body)

    def judge(self, upstream: Upstream, status: int, headers: Headers, body: bytes, now_at: float) -> Verdict:
        """Google's quotas are counted per model. A day's quota is full again at midnight in California."""
        problem = upstream.dialect.read_error(status, body)
        stated = None
        if problem.kind == "quota" and problem.retry_after is None and b"PerDay" in body:
            stated = _until_midnight_pacific(now_at)
        verdict = verdict_of(problem, headers, now_at, stated)
        return structs.replace(verdict, scope="model") if verdict.fault == "exhausted" else verdict

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


def _until_midnight_pacific(now_at: float) -> float:
    """By the law's own rule and not by a time-zone table, which slim systems lack: from the second Sunday of March to
    the first of November California is 7 hours behind, else 8."""
    now = datetime.fromtimestamp(now_at, UTC)
    begins = _sunday(now.year, 3, 2) + timedelta(hours=10)
    ends = _sunday(now.year, 11, 1) + timedelta(hours=9)
    offset = timedelta(hours=7 if begins <= now < ends else 8)
    local = now - offset
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    return (midnight - local).total_seconds()


def _sunday(year: int, month: int, number: int) -> datetime:
    first = datetime(year, month, 1, tzinfo=UTC)
    return first + timedelta(days=(6 - first.weekday()) % 7 + 7 * (number - 1))


PROVIDER = Gemini()
