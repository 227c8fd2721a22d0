"""Qwen by login: Chat Completions at the place that the token came with.

The vendor ended the free service in April 2026. Accounts that there are are still asked when a request wants them, and
rest when they are refused.

Source: https://github.com/QwenLM/qwen-code (packages/core/src/qwen), checked 2026-11-24.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cliproxy.config import rules
from cliproxy.config.schema import Config
from cliproxy.dialects.openai_chat import DIALECT
from cliproxy.providers import openai_like
from cliproxy.providers.accounts import AccountFile, Grants
from cliproxy.providers.base import OUR_AGENT, Ask, Proxies, Refusal, Upstream, forwarded, judged
from cliproxy.providers.file_accounts import account_of_file, bearer, served, shared_address, shared_head
from cliproxy.providers.logins import qwen as login
from cliproxy.providers.models import rows_of
from cliproxy.providers.signs import Row, Table, both, either, phrase, said, status
from cliproxy.routing.limits import Limit
from cliproxy.routing.verdict import Verdict
from cliproxy.wire.http import Headers, HttpRequest, header

_LEAD_SECONDS = 20 * 60.0
_DEFAULT_BASE = "https://dashscope.aliyuncs.com/compatible-mode/v1"
_LINES: Mapping[str, str] = {"content-type": "application/json"}
_MODELS = served(row.id for row in rows_of("qwen"))
_FAMILIES = ("qwen", "coder-model", "vision-model")
_AGENT = frozenset({b"user-agent"})
_CLIENT_PREFIXES = (b"x-dashscope-",)
_TABLE: Table = (
    Row(
        both(status(403, 429), either(said("insufficient_quota", "quota_exceeded"), phrase("free allocated quota"))),
        "exhausted",
        "account",
        kind="quota",
    ),
    *openai_like.TABLE,
)
"""A day's quota that is used up comes as a 403, too."""


class Qwen:
    name = "qwen"
    owner = "qwen"
    limit_prefixes: tuple[bytes, ...] = openai_like.LIMIT_PREFIXES
    kinds = login.KINDS
    grants: Grants = login
    lead = _LEAD_SECONDS

    def account_upstreams(self, file: AccountFile, config: Config, proxies: Proxies) -> Iterable[Upstream]:
        if file.is_disabled:
            return
        address = shared_address(base_of(file, config), file, config, proxies)
        head, own = shared_head(_LINES, file)
        account = account_of_file(self.name, file, _MODELS, _FAMILIES)
        yield Upstream(account, self, DIALECT, DIALECT.fit, address, head, own=own, source=file.name)

    def request(self, upstream: Upstream, ask: Ask) -> HttpRequest:
        target = upstream.address.prefix.encode() + b"/chat/completions"
        head = upstream.headed(bearer(ask), _caller_lines(ask))
        return HttpRequest(b"POST", upstream.address.origin, target, head, ask.body)

    def judge(self, upstream: Upstream, refusal: Refusal, now_at: float) -> Verdict:
        return judged(upstream, refusal, now_at, _TABLE)

    def limits(self, headers: Headers, body: bytes, now_at: float) -> tuple[Limit, ...]:
        return openai_like.limits(headers, now_at)

    def can_count(self) -> bool:
        return False

    def listing(self, upstream: Upstream) -> HttpRequest | None:
        return None

    def read_listing(self, body: bytes) -> tuple[str, ...]:
        return ()


def base_of(file: AccountFile, config: Config) -> str:
    """Where the account is asked: where the configuration says, else where its token says, else the vendor's own.

    Tokens name a host, or an address with or without its version. What is no address at all must not take the
    configuration down; the token then goes to its vendor.
    """
    if moved := config.endpoints.qwen.base_url:
        return moved.rstrip("/")
    told = file.resource_url.strip().rstrip("/")
    base = told if "://" in told or not told else f"https://{told}"
    if not base or rules.base_url(base):
        return _DEFAULT_BASE
    return base if base.endswith("/v1") else f"{base}/v1"


def _caller_lines(ask: Ask) -> Headers:
    """A genuine Qwen Code says who it is; for all others we do."""
    if ask.is_native and header(ask.headers, b"user-agent").startswith(b"QwenCode/"):
        return forwarded(ask.headers, _AGENT, _CLIENT_PREFIXES)
    return OUR_AGENT


PROVIDER = Qwen()
