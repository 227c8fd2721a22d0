"""Claude for people who logged in: the Messages API with an account's token in place of a key.

Such a token opens Haiku models to anybody, and all others only to Claude Code. The vendor knows its own client by more
than we would imitate or copy; here a request counts as Claude Code's when its `user-agent` says so and it brings a
system prompt.

Source: https://docs.claude.com/en/docs/claude-code/iam and refusals seen in the field, checked 2026-10-20.
"""

import msgspec

from cliproxy.simulator import anthropic
from cliproxy.simulator.accounts import Account, Accounts, Dead, Death
from cliproxy.simulator.exchange import Json, Received, Refused, Reply, read_json, write_json

TOKEN_PREFIX = "sk-ant-oat"
BETA = "oauth-2025-04-20"

_DEATHS: dict[Death, str] = {
    "unknown": "Invalid bearer token",
    "reused": "Invalid bearer token",
    "expired": "OAuth token has expired. Please obtain a new token or refresh your existing token.",
    "revoked": "OAuth token has been revoked. Please obtain a new token.",
}
_WINDOWS = (("5h", 18_000.0), ("7d", 604_800.0))


class ClaudeAccounts:
    """The endpoints that take an account's token."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self.surface = msgspec.structs.replace(anthropic.SURFACE, admit=self._admit)

    def create(self, received: Received) -> Reply:
        """POST /v1/messages."""
        reply = anthropic.create(received)
        _check_identity(received)
        return self._metered(reply, received)

    def count(self, received: Received) -> Reply:
        """POST /v1/messages/count_tokens; the vendor asks for nobody's identity here."""
        return self._metered(anthropic.count(received), received)

    def models(self, received: Received) -> Reply:
        """GET /v1/models."""
        return self._metered(anthropic.models(received), received)

    def profile(self, received: Received) -> Reply:
        """GET /api/oauth/profile."""
        account = self._account(received)
        body: Json = {
            "account": {"uuid": account.id, "email": account.email, "full_name": account.email.partition("@")[0]},
            "organization": {"uuid": account.companion, "name": f"{account.email}'s Organization"},
        }
        return Reply(headers=(("request-id", received.request_id),), frames=(write_json(body),))

    def _admit(self, received: Received) -> None:
        if BETA not in (beta.strip() for beta in received.headers.get("anthropic-beta", "").split(",")):
            raise Refused("OAuth authentication is currently not supported.", status=401)
        self._account(received)
        if "anthropic-version" not in received.headers and received.path.startswith("/v1/"):
            raise Refused("anthropic-version: header is required")

    def _account(self, received: Received) -> Account:
        try:
            return self._accounts.check("claude", received.bearer)[0]
        except Dead as dead:
            raise Refused(_DEATHS[dead.death], status=401) from dead

    def _metered(self, reply: Reply, received: Received) -> Reply:
        """With the limits of a plan in place of those of a key."""
        headers = [("request-id", received.request_id), ("anthropic-ratelimit-unified-status", "allowed")]
        now = self._accounts.now()
        for name, seconds in _WINDOWS:
            headers.append((f"anthropic-ratelimit-unified-{name}-status", "allowed"))
            headers.append((f"anthropic-ratelimit-unified-{name}-reset", f"{int(now + seconds)}"))
            headers.append((f"anthropic-ratelimit-unified-{name}-utilization", "0.1"))
        headers.append(("anthropic-ratelimit-unified-reset", f"{int(now + _WINDOWS[0][1])}"))
        headers.append(("anthropic-ratelimit-unified-representative-claim", "five_hour"))
        return msgspec.structs.replace(reply, headers=tuple(headers))


def carries_token(received: Received) -> bool:
    """Whether this is a caller with an account, not with a key."""
    return received.bearer.startswith(TOKEN_PREFIX) and "x-api-key" not in received.headers


def _check_identity(received: Received) -> None:
    body = read_json(received.body)
    asked: dict[str, Json] = body if isinstance(body, dict) else {}
    if "haiku" in str(asked.get("model")):
        return
    if not received.headers.get("user-agent", "").startswith("claude-cli/") or not asked.get("system"):
        raise Refused("Error")
