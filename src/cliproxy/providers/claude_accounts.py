"""Claude by a subscription's login: the Messages API with a token in place of a key.

Sources: https://docs.anthropic.com/en/api/messages; refusals seen in the field, as providers of such accounts report
them, checked 2026-11-24.

The vendor serves such accounts to its own programs. What a genuine Claude Code sends passes on; of all other callers we
say who we are, and the vendor refuses most of its models to them. That refusal is about the caller and the kind of
account: accounts of this kind all say the same, those with an API key do not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain

from msgspec import structs

from cliproxy.config.schema import Config
from cliproxy.dialects.anthropic import DIALECT
from cliproxy.providers import claude
from cliproxy.providers.accounts import AccountFile, Grants
from cliproxy.providers.base import Ask, Proxies, Refusal, Upstream, judged
from cliproxy.providers.file_accounts import account_of_file, bearer, served, shared_address, shared_head
from cliproxy.providers.logins import claude as login
from cliproxy.providers.models import rows_of
from cliproxy.providers.signs import Row, Seen, Table, both, either, phrase, status
from cliproxy.routing.limits import Limit
from cliproxy.routing.verdict import Verdict
from cliproxy.wire.http import Headers, HttpRequest
from cliproxy.wire.secrets import Secret

_BETA_HEADER = b"anthropic-beta"
_BETA = b"oauth-2025-04-20"
"""Without it the vendor takes no token at all."""
_LEAD_SECONDS = 4 * 3600.0
_LINES: Mapping[str, str] = {"content-type": "application/json"}
_MODELS = served(row.id for row in rows_of("anthropic"))
_EXPLAINED = (
    "Anthropic serves this model with a Claude subscription to Claude Code only, and refused this request. Use Claude "
    "Code, a Haiku model, or an account with an API key (`claude-api-key`)."
)


class ClaudeAccounts:
    name = "claude-oauth"
    owner = "anthropic"
    limit_prefixes: tuple[bytes, ...] = claude.LIMIT_PREFIXES
    kinds = login.KINDS
    grants: Grants = login
    lead = _LEAD_SECONDS

    def account_upstreams(self, file: AccountFile, config: Config, proxies: Proxies) -> Iterable[Upstream]:
        if file.is_disabled:
            return
        base = config.endpoints.claude.base_url.rstrip("/").removesuffix("/v1")
        address = shared_address(f"{base}/v1", file, config, proxies)
        head, own = shared_head(_LINES, _with_beta_kept(file))
        account = account_of_file(self.name, file, _MODELS, claude.FAMILIES)
        yield Upstream(account, self, DIALECT, DIALECT.fit, address, head, own=own, source=file.name)

    def request(self, upstream: Upstream, ask: Ask) -> HttpRequest:
        lines = tuple(chain.from_iterable(claude.caller_lines(ask)))
        return claude.describe(upstream, ask, bearer(ask), _with_beta(lines))

    def judge(self, upstream: Upstream, refusal: Refusal, now_at: float) -> Verdict:
        verdict = judged(upstream, refusal, now_at, _TABLE)
        if verdict.fault == "identity":
            return structs.replace(verdict, problem=verdict.problem.seen_as(400, "invalid_request", _EXPLAINED))
        return verdict

    def limits(self, headers: Headers, body: bytes, now_at: float) -> tuple[Limit, ...]:
        return claude.limits(headers, now_at)

    def can_count(self) -> bool:
        return True

    def listing(self, upstream: Upstream) -> HttpRequest | None:
        return None

    def read_listing(self, body: bytes) -> tuple[str, ...]:
        return ()


def _with_beta(lines: Headers) -> Headers:
    """`lines` with one list of betas: the caller's in its order, each once, and the one that tokens need."""
    asked = [beta.strip() for name, value in lines if name == _BETA_HEADER for beta in value.split(b",")]
    betas = dict.fromkeys(beta for beta in (*asked, _BETA) if beta)
    return (*(line for line in lines if line[0] != _BETA_HEADER), (_BETA_HEADER, b",".join(betas)))


def _with_beta_kept(file: AccountFile) -> AccountFile:
    """A file that sets the header itself, which wins over what requests bring, still needs the one that tokens need."""
    return structs.replace(
        file,
        headers=tuple(
            (name, Secret(_with_beta(((_BETA_HEADER, value.reveal().encode()),))[0][1].decode()))
            if name.lower().encode() == _BETA_HEADER
            else (name, value)
            for name, value in file.headers
        ),
    )


def _bare(seen: Seen) -> str:
    return "`Error`" if seen.problem.message.strip() == "Error" else ""


_TABLE: Table = (
    Row(both(status(400), either(_bare, phrase("only authorized for use with claude code"))), "identity", waits=()),
    *claude.TABLE,
)
"""In 2026 the vendor first said why it refuses other programs, then nothing but `Error`."""
PROVIDER = ClaudeAccounts()
