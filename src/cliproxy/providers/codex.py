"""OpenAI's Responses API by API key: the official one, or the given base-url.

Sources: https://platform.openai.com/docs/api-reference/responses, https://github.com/openai/codex, checked 2026-11-24.
A genuine Codex keeps its own headers in native traffic; its session headers are what prompt caches hang on.
"""

from collections.abc import Iterable

from cliproxy.config.schema import CodexKey, Config
from cliproxy.dialects.openai_responses import DIALECT
from cliproxy.providers import openai_like
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
from cliproxy.routing.limits import Limit
from cliproxy.routing.verdict import Verdict
from cliproxy.wire.http import Headers, HttpRequest, header

FAMILIES = ("gpt-", "codex-", "chatgpt-", "o1", "o3", "o4")
_SESSION = frozenset({b"session_id", b"session-id", b"conversation_id", b"thread-id", b"x-client-request-id"})
_CLIENT = _SESSION | {b"user-agent", b"originator", b"version", b"openai-beta"}
_CLIENT_AGENTS = (b"codex_cli_rs", b"codex-tui", b"codex_exec", b"codex_vscode")


class Codex:
    name = "codex"
    owner = "openai"
    limit_prefixes: tuple[bytes, ...] = openai_like.LIMIT_PREFIXES

    def upstreams(self, config: Config, proxies: Proxies) -> Iterable[Upstream]:
        for index, entry in enumerate(config.codex_api_key):
            if not entry.disabled:
                yield self._upstream(config, proxies, entry, f"codex-api-key[{index}]")

    def request(self, upstream: Upstream, ask: Ask) -> HttpRequest:
        target = upstream.address.prefix.encode() + b"/responses"
        return HttpRequest(b"POST", upstream.address.origin, target, upstream.headed(*caller_lines(ask)), ask.body)

    def judge(self, upstream: Upstream, refusal: Refusal, now_at: float) -> Verdict:
        return judged(upstream, refusal, now_at, openai_like.TABLE)

    def limits(self, headers: Headers, body: bytes, now_at: float) -> tuple[Limit, ...]:
        return openai_like.limits(headers, now_at)

    def can_count(self) -> bool:
        return False

    def listing(self, upstream: Upstream) -> HttpRequest | None:
        return openai_like.listing(upstream, OUR_AGENT)

    def read_listing(self, body: bytes) -> tuple[str, ...]:
        names = openai_like.read_listing(body)
        return tuple(name for name in names if name.startswith(FAMILIES)) or names

    def _upstream(self, config: Config, proxies: Proxies, entry: CodexKey, label: str) -> Upstream:
        base = (entry.base_url or config.endpoints.codex.api_base_url).rstrip("/")
        key = entry.api_key.reveal()
        account = account_of(self.name, entry, label, (key, base), FAMILIES, entry.weight)
        address = address_of(base, entry.proxy_url, config, proxies)
        head = head_lines({"content-type": "application/json", "authorization": f"Bearer {key}"}, entry.headers)
        return Upstream(account, self, DIALECT, DIALECT.fit, address, head, entry.api_key, own_names(entry.headers))


def caller_lines(ask: Ask) -> tuple[Headers, ...]:
    """What travels on of the caller's own headers in native traffic, and who we are where it does not say that."""
    if not ask.is_native:
        return (OUR_AGENT,)
    agent = header(ask.headers, b"originator") + b" " + header(ask.headers, b"user-agent")
    if any(name in agent for name in _CLIENT_AGENTS):
        lines = forwarded(ask.headers, _CLIENT, (b"x-codex-",))
        return (lines,) if header(ask.headers, b"user-agent") else (lines, OUR_AGENT)
    return forwarded(ask.headers, _SESSION), OUR_AGENT


PROVIDER = Codex()
