"""Any server that speaks OpenAI Chat Completions: a row in the YAML, no code.

An entry without keys is asked without one (local servers); one with several keys is as many accounts. What a host
wants otherwise than the rest is a row in `_FLAVOURS`.
"""

from collections.abc import Iterable

from msgspec import Struct, structs

from cliproxy.config.schema import CompatibilityKey, Config, OpenAICompatibility
from cliproxy.dialects.openai_chat import DIALECT, OFFICIAL, OpenAIChat
from cliproxy.providers import openai_like
from cliproxy.providers.base import (
    USER_AGENT,
    Ask,
    Proxies,
    Refusal,
    Upstream,
    account_of,
    address_of,
    head_lines,
    judged,
    own_names,
)
from cliproxy.routing.limits import Limit
from cliproxy.routing.verdict import Verdict
from cliproxy.wire.http import Headers, HttpRequest
from cliproxy.wire.secrets import Secret


class Flavour(Struct, frozen=True, eq=False):
    """How a host's dialect differs. `takes_reasoning`: assistant turns may, or must, carry their `reasoning_content`."""

    dialect: OpenAIChat = DIALECT
    takes_reasoning: bool = False


_PLAIN = Flavour()
_THINKING = Flavour(takes_reasoning=True)
_FLAVOURS: dict[str, Flavour] = {
    "api.openai.com": Flavour(OFFICIAL),
    "api.deepseek.com": _THINKING,
    "api.moonshot.ai": _THINKING,
    "api.moonshot.cn": _THINKING,
    "api.z.ai": _THINKING,
    "open.bigmodel.cn": _THINKING,
    "openrouter.ai": _THINKING,
}


class OpenAICompatible:
    name = "openai-compatibility"
    owner = "openai-compatibility"
    limit_prefixes: tuple[bytes, ...] = openai_like.LIMIT_PREFIXES

    def upstreams(self, config: Config, proxies: Proxies) -> Iterable[Upstream]:
        for index, entry in enumerate(config.openai_compatibility):
            if entry.disabled or not entry.base_url:
                continue
            for number, key in enumerate(entry.keys or (CompatibilityKey(api_key=Secret()),)):
                label = f"openai-compatibility[{index}] {entry.name} #{number}"
                yield self._upstream(config, proxies, entry, key, label)

    def request(self, upstream: Upstream, ask: Ask) -> HttpRequest:
        target = upstream.address.prefix.encode() + b"/chat/completions"
        return HttpRequest(b"POST", upstream.address.origin, target, upstream.head, ask.body)

    def judge(self, upstream: Upstream, refusal: Refusal, now_at: float) -> Verdict:
        return judged(upstream, refusal, now_at, openai_like.TABLE)

    def limits(self, headers: Headers, body: bytes, now_at: float) -> tuple[Limit, ...]:
        return openai_like.limits(headers, now_at)

    def can_count(self) -> bool:
        return False

    def listing(self, upstream: Upstream) -> HttpRequest | None:
        return openai_like.listing(upstream)

    def read_listing(self, body: bytes) -> tuple[str, ...]:
        return openai_like.read_listing(body)

    def _upstream(
        self, config: Config, proxies: Proxies, entry: OpenAICompatibility, key: CompatibilityKey, label: str
    ) -> Upstream:
        base, secret = entry.base_url.rstrip("/"), key.api_key.reveal()
        weight = key.weight if key.weight != 1 else entry.weight
        account = account_of(self.name, entry, label, (entry.name, secret, base), ("",), weight)
        address = address_of(base, key.proxy_url or entry.proxy_url, config, proxies)
        lines = {"content-type": "application/json", "user-agent": f"{USER_AGENT} ({_agent_word(entry.name)})"}
        if secret:
            lines["authorization"] = f"Bearer {secret}"
        flavour = _FLAVOURS.get(address.origin.host, _PLAIN)
        fit = structs.replace(flavour.dialect.fit, reasoning="text" if flavour.takes_reasoning else "none")
        head, own = head_lines(lines, entry.headers), own_names(entry.headers)
        return Upstream(account, self, flavour.dialect, fit, address, head, key.api_key, own)


def _agent_word(name: str) -> str:
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_.") else "-" for letter in name)


PROVIDER = OpenAICompatible()
