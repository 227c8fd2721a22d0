"""Codex by a ChatGPT plan's login: the Responses API at the ChatGPT backend, which has rules of its own.

Source: https://github.com/openai/codex (codex-rs/core) and refusals seen in the field, checked 2026-11-24.

Answers are always streamed; whoever asked for a whole one gets the stream folded. The backend lists its models only to
clients that state their version as one of Codex, which we are not: the table serves in its place.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Mapping
from itertools import chain

from msgspec import structs

from cliproxy.config.schema import Config
from cliproxy.dialects.openai_responses import DIALECT
from cliproxy.providers import codex, openai_like
from cliproxy.providers.accounts import AccountFile, Grants
from cliproxy.providers.base import Ask, Proxies, Upstream
from cliproxy.providers.codex_body import backend_body, conversation
from cliproxy.providers.file_accounts import account_of_file, bearer, served, shared_address, shared_head
from cliproxy.providers.logins import codex as login
from cliproxy.providers.models import CODEX_PLANS, rows_of
from cliproxy.routing.accounts import Served
from cliproxy.routing.verdict import Verdict
from cliproxy.wire import json
from cliproxy.wire.http import Headers, HttpRequest, header
from cliproxy.wire.waits import duration, until

_LEAD_SECONDS = 5 * 86_400.0
_LINES: Mapping[str, str] = {"content-type": "application/json", "accept": "text/event-stream"}
_SESSIONS = frozenset({b"session_id", b"session-id", b"conversation_id", b"thread-id"})
_KEYS = frozenset({b"authorization", b"x-api-key", b"x-goog-api-key"})
_WINDOWS = (b"primary", b"secondary")
_NOT_IN_PLAN = "model is not supported when using codex with a chatgpt account"
_ANY_PLAN = served(row.id for row in rows_of("openai"))
_PLANS: Mapping[str, tuple[Served, ...]] = {plan: served(names) for plan, names in CODEX_PLANS.items()}


class CodexAccounts:
    name = "codex-oauth"
    owner = "openai"
    kinds = login.KINDS
    grants: Grants = login
    lead = _LEAD_SECONDS

    def account_upstreams(self, file: AccountFile, config: Config, proxies: Proxies) -> Iterable[Upstream]:
        if file.is_disabled:
            return
        address = shared_address(config.endpoints.codex.base_url.rstrip("/"), file, config, proxies)
        head, own = shared_head(_LINES, file)
        if file.account_id and b"chatgpt-account-id" not in own:
            head += b"chatgpt-account-id: %b\r\n" % file.account_id.encode()
        account = account_of_file(self.name, file, _PLANS.get(file.plan.lower(), _ANY_PLAN), codex.FAMILIES)
        yield Upstream(account, self, DIALECT, DIALECT.fit, address, head, own=own, source=file.name)

    def request(self, upstream: Upstream, ask: Ask) -> HttpRequest:
        members = json.members(ask.body)
        lines = tuple(chain.from_iterable(codex.caller_lines(ask)))
        if not any(name in _SESSIONS for name, _ in lines):
            lines = (*lines, (b"session-id", _session(ask, conversation(members))))
        target = upstream.address.prefix.encode() + b"/responses"
        head = upstream.headed(bearer(ask), lines)
        return HttpRequest(b"POST", upstream.address.origin, target, head, backend_body(members))

    def judge(self, upstream: Upstream, status: int, headers: Headers, body: bytes, now_at: float) -> Verdict:
        """A plan that lacks a model, and a model that is at its limit, come as a 400. A window of the plan that is used
        up is the account's, and states its end."""
        verdict = openai_like.judge(upstream, status, headers, body, now_at)
        if status == 400 and _NOT_IN_PLAN in verdict.problem.message.lower():
            return Verdict("missing", structs.replace(verdict.problem, kind="model_not_found"), "model")
        if verdict.fault not in ("quota", "exhausted"):
            return verdict
        verdict = structs.replace(verdict, problem=structs.replace(verdict.problem, status=429))
        wait = _window_end(headers, now_at) if verdict.wait is None else None
        if wait is None:
            return verdict
        problem = structs.replace(verdict.problem, retry_after=wait)
        return structs.replace(verdict, problem=problem, scope="account", wait=wait)

    def can_count(self) -> bool:
        return False

    def listing(self, upstream: Upstream) -> HttpRequest | None:
        return None

    def read_listing(self, body: bytes) -> tuple[str, ...]:
        return ()


def _session(ask: Ask, told: bytes) -> bytes:
    """An id on which the vendor's prompt cache may hang: one for each conversation, callers kept apart."""
    digest = hashlib.sha256(told)
    for name, value in ask.headers:
        if name in _KEYS:
            digest.update(b"\0" + value)
    return str(uuid.UUID(bytes=digest.digest()[:16], version=5)).encode()


def _window_end(headers: Headers, now_at: float) -> float | None:
    """Seconds until all windows of the plan that are used up begin anew; None when none is, or it does not say."""
    waits: list[float] = []
    for window in _WINDOWS:
        name = b"x-codex-" + window
        used = duration(header(headers, name + b"-used-percent").decode("latin-1"))
        if used is None or used < 100:
            continue
        wait = duration(header(headers, name + b"-reset-after-seconds").decode("latin-1"))
        if wait is None:
            wait = until(header(headers, name + b"-reset-at"), now_at)
        waits += [] if wait is None else [wait]
    return max(waits, default=None)


PROVIDER = CodexAccounts()
