"""Google's Gemini API by API key.

Source: https://ai.google.dev/api, checked 2026-11-24. The key travels as `x-goog-api-key`, never in the query.
"""

from collections.abc import Iterable
from urllib.parse import quote

import msgspec
from msgspec import Struct, field

from cliproxy.canon.errors import BrokenAnswer
from cliproxy.config.schema import Config, GeminiKey
from cliproxy.dialects.gemini import DIALECT
from cliproxy.providers.base import (
    USER_AGENT,
    Ask,
    Proxies,
    Upstream,
    account_of,
    address_of,
    forwarded,
    head_lines,
    verdict_of,
)
from cliproxy.routing.verdict import Verdict
from cliproxy.wire.http import Headers, HttpRequest, header

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
        method = "countTokens" if ask.operation == "count" else _METHODS[ask.operation, ask.is_stream]
        query = "?alt=sse" if ask.is_stream else ""
        target = f"{upstream.address.prefix}/models/{quote(ask.model, safe='')}:{method}{query}".encode()
        is_cli = ask.is_native and b"GeminiCLI" in header(ask.headers, b"user-agent")
        lines = forwarded(ask.headers, _CLIENT) if is_cli else b"user-agent: " + USER_AGENT.encode() + b"\r\n"
        return HttpRequest(b"POST", upstream.address.origin, target, upstream.head + lines, ask.body)

    def judge(self, upstream: Upstream, status: int, headers: Headers, body: bytes, now_at: float) -> Verdict:
        return verdict_of(upstream.dialect.read_error(status, body), headers, now_at)

    def can_count(self) -> bool:
        return True

    def listing(self, upstream: Upstream) -> HttpRequest | None:
        target = upstream.address.prefix.encode() + b"/models?pageSize=1000"
        head = upstream.head + b"user-agent: " + USER_AGENT.encode() + b"\r\n"
        return HttpRequest(b"GET", upstream.address.origin, target, head)

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
        account = account_of(self.name, entry, label, (key, base), ("gemini-", "gemma-", "learnlm-"), entry.weight)
        address = address_of(f"{base}/v1beta", entry.proxy_url, config, proxies)
        head = head_lines({"content-type": "application/json", "x-goog-api-key": key}, entry.headers)
        return Upstream(account, self, DIALECT, DIALECT.fit, address, head)


PROVIDER = Gemini()
