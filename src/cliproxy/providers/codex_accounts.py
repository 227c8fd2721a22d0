"""Codex by a ChatGPT plan's login: the Responses API at the ChatGPT backend, which has rules of its own.

Source: https://github.com/openai/codex (codex-rs/core) and refusals seen in the field, checked 2026-11-24.

Answers are always streamed; whoever asked for a whole one gets the stream folded. The backend lists its models only to
clients that state their version as one of Codex, which we are not: the table serves in its place.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Iterable, Mapping
from itertools import chain

from cliproxy.config.schema import Config
from cliproxy.dialects.openai_responses import DIALECT
from cliproxy.providers import codex, openai_like
from cliproxy.providers.accounts import AccountFile, Grants
from cliproxy.providers.base import Ask, Proxies, Refusal, Upstream, judged
from cliproxy.providers.codex_body import backend_body, conversation
from cliproxy.providers.file_accounts import account_of_file, bearer, served, shared_address, shared_head
from cliproxy.providers.logins import codex as login
from cliproxy.providers.models import CODEX_PLANS, rows_of
from cliproxy.providers.signs import (
    EMPTY_PURSE,
    RETRY_AFTER,
    Row,
    Seen,
    Table,
    both,
    kind,
    limited,
    quoted,
    said,
    status,
    used_up,
)
from cliproxy.routing.accounts import Served
from cliproxy.routing.limits import Limit
from cliproxy.routing.verdict import Verdict
from cliproxy.wire import json
from cliproxy.wire.http import Headers, HttpRequest
from cliproxy.wire.waits import believable, duration, retry_after, time_of, until

_LEAD_SECONDS = 5 * 86_400.0
_LINES: Mapping[str, str] = {"content-type": "application/json", "accept": "text/event-stream"}
_SESSIONS = frozenset({b"session_id", b"session-id", b"conversation_id", b"thread-id"})
_KEYS = frozenset({b"authorization", b"x-api-key", b"x-goog-api-key"})
_PREFIX = b"x-codex-"
_WINDOWS = (b"primary", b"secondary")
_NOT_IN_PLAN = "model is not supported when using Codex with a ChatGPT account"
_LACKS_MODEL = re.compile(rf"The '[^' ]+' {_NOT_IN_PLAN}", re.IGNORECASE)
_ANY_PLAN = served(row.id for row in rows_of("openai"))
_PLANS: Mapping[str, tuple[Served, ...]] = {plan: served(names) for plan, names in CODEX_PLANS.items()}


class CodexAccounts:
    name = "codex-oauth"
    owner = "openai"
    limit_prefixes: tuple[bytes, ...] = (_PREFIX,)
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

    def judge(self, upstream: Upstream, refusal: Refusal, now_at: float) -> Verdict:
        return judged(upstream, refusal, now_at, _TABLE)

    def limits(self, headers: Headers, body: bytes, now_at: float) -> tuple[Limit, ...]:
        return _limits(headers, now_at)

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


# ---- limits ---------------------------------------------------------------------------------------------------------


def _limits(headers: Headers, now_at: float) -> tuple[Limit, ...]:
    """The plan's windows, and what was bought beside it. Limits of other names belong to models that the headers do not
    name."""
    found: dict[bytes, dict[bytes, bytes]] = {}
    for name, value in headers:
        if name.startswith(_PREFIX):
            which, _, what = name[len(_PREFIX) :].partition(b"-")
            found.setdefault(which, {})[what] = value
    at = time_of(headers, now_at) if found else now_at
    told = [_limit(which, found[which], at) for which in _WINDOWS if b"used-percent" in found.get(which, {})]
    if (balance := _number(found.get(b"credits", {}), b"balance")) is not None:
        told.append(Limit("credits", remaining=balance))
    return tuple(told)


def _limit(which: bytes, window: dict[bytes, bytes], at: float) -> Limit:
    used, minutes = _number(window, b"used-percent"), _number(window, b"window-minutes")
    wait = _number(window, b"reset-after-seconds")
    return Limit(
        which.decode(),
        left=None if used is None else max(1.0 - used / 100, 0.0),
        resets_in=believable(until(window.get(b"reset-at", b""), at) if wait is None else wait),
        window=minutes * 60 if minutes else None,
    )


def _number(fields: dict[bytes, bytes], name: bytes) -> float | None:
    return duration(fields.get(name, b"").decode("latin-1"))


# ---- verdicts -------------------------------------------------------------------------------------------------------


def _not_in_plan(seen: Seen) -> str:
    return quoted(_NOT_IN_PLAN) if _LACKS_MODEL.match(seen.problem.message) else ""


def _is_short(seen: Seen) -> str:
    """The vendor names a wait of its own beside the limit."""
    stated = retry_after(seen.headers, seen.now_at) or seen.problem.retry_after
    return "a wait" if stated else ""


_IS_FULL, _WINDOW_END = used_up(_limits, "x-codex-{}-used-percent: 100")
_TABLE: Table = (
    Row(
        both(status(400), _not_in_plan),
        "missing",
        "model",
        waits=(),
        kind="model_not_found",
    ),
    Row(
        said("usage_limit_reached"),
        "exhausted",
        "account",
        waits=(*openai_like.PLAN_RESET, _WINDOW_END, RETRY_AFTER),
        status=429,
    ),
    Row(said(*EMPTY_PURSE), "billing", "account", status=429),
    Row(both(_is_short, kind("rate_limit")), "quota", "model", status=429),
    Row(both(limited, _IS_FULL), "exhausted", "account", waits=(_WINDOW_END,), status=429),
    Row(kind("rate_limit"), "quota", "model", status=429),  # a model that is at its limit comes as a 400
    *openai_like.TABLE,
)


PROVIDER = CodexAccounts()
