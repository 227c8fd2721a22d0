"""Logins with a Claude subscription: authorization code with PKCE, tokens asked for in JSON.

Refresh tokens rotate: an answer without one leaves the old one in force. A file without a refresh token, as Claude
Code's `setup-token` makes them, serves until it ends and is never renewed.

Source: the requests of Claude Code 2.1, as `docs/decisions/logins.md` tells; the endpoint moved from
console.anthropic.com to platform.claude.com in 2026. Checked 2026-11-24.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal
from urllib.parse import quote, urlencode

from msgspec import structs

from cliproxy.config.schema import ClaudeEndpoint, Config
from cliproxy.oauth.answers import as_object, as_text
from cliproxy.oauth.base import Exchange, Tokens
from cliproxy.oauth.pkce import CHALLENGE_METHOD, challenge
from cliproxy.oauth.tokens import TokenEndpoint, redeem, renew
from cliproxy.providers.accounts import AccountFile, ClientSecrets, Handshake, Members, NewFile, Trouble
from cliproxy.providers.base import USER_AGENT, Proxies, address_of
from cliproxy.providers.logins.files import (
    file_name,
    fresh_members,
    one_line,
    read_account,
    refresh_token_of,
    token_in,
    usable,
    written_end,
    written_time,
)
from cliproxy.wire.secrets import Secret

KIND = "claude"
KINDS = frozenset({KIND})

_SCOPE = "org:create_api_key user:profile user:inference"
_FORMER_TOKEN_URL = "https://console.anthropic.com/v1/oauth/token"


class ClaudeLogin:
    channel: Literal["claude", "codex", "gemini"] = "claude"
    names: tuple[str, ...] = ("claude", "anthropic")
    notice = (
        "An API key (`claude-api-key`) is the way that Anthropic intends for other programs. It permits subscription "
        "logins in Claude Code and its own apps only: other callers are refused most models, and the account may be "
        "restricted."
    )
    callback_path = "/callback"
    takes_any_port = False
    wants_client_secret = False

    def callback(self, config: Config) -> tuple[str, int]:
        return config.endpoints.claude.callback_host, config.endpoints.claude.callback_port

    def authorize_url(self, config: Config, handshake: Handshake) -> str:
        endpoint = config.endpoints.claude
        query = {
            "code": "true",
            "client_id": endpoint.client_id,
            "response_type": "code",
            "redirect_uri": handshake.redirect_uri,
            "scope": _SCOPE,
            "code_challenge": challenge(handshake.verifier),
            "code_challenge_method": CHALLENGE_METHOD,
            "state": handshake.state,
        }
        return f"{endpoint.authorize_url}?{urlencode(query, quote_via=quote)}"

    def complete(
        self,
        config: Config,
        proxies: Proxies,
        handshake: Handshake,
        code: str,
        project: str,
        now_at: float,
        secrets: ClientSecrets = ClientSecrets(),
    ) -> Exchange[tuple[NewFile, ...]]:
        """A code that is shown for copying has its state behind `#`, and the endpoint wants that one."""
        del project, secrets
        bare, _, state = code.partition("#")
        fields = {
            "code": Secret(bare),
            "state": state or handshake.state,
            "grant_type": "authorization_code",
            "client_id": config.endpoints.claude.client_id,
            "redirect_uri": handshake.redirect_uri,
            "code_verifier": handshake.verifier,
        }
        granted = yield from redeem(_endpoint(config, proxies, Secret()), fields)
        tokens, email = granted.tokens, _email(granted.rest)
        members: dict[str, object] = {
            "id_token": tokens.id_token.reveal(),
            "access_token": tokens.access.reveal(),
            "refresh_token": tokens.refresh.reveal(),
            "last_refresh": written_time(now_at),
            "email": email,
            "type": KIND,
            "expired": written_end(tokens, now_at),
        }
        return (NewFile(file_name(KIND, email, now_at), members),)


def refresh(
    file: AccountFile, tokens: Tokens, config: Config, proxies: Proxies, secrets: ClientSecrets = ClientSecrets()
) -> Exchange[Tokens]:
    """Raises OAuthError."""
    del secrets
    fields = {
        "client_id": config.endpoints.claude.client_id,
        "grant_type": "refresh_token",
        "refresh_token": refresh_token_of(tokens),
    }
    granted = yield from renew(_endpoint(config, proxies, file.proxy_url), fields)
    email = _email(granted.rest)
    return structs.replace(granted.tokens, extra={"email": email} if email else {})


def read_tokens(members: Members) -> Tokens:
    """Raises Misconfigured when there is no usable one."""
    return usable(
        Tokens(
            access=token_in(members, "access_token"),
            refresh=token_in(members, "refresh_token"),
            id_token=token_in(members, "id_token"),
        )
    )


def write_tokens(tokens: Tokens, members: Members, now_at: float) -> Mapping[str, object]:
    del members
    return fresh_members(tokens, now_at)


def read_file(name: str, members: Members) -> AccountFile | Trouble:
    account = read_account(name, KIND, members, read_tokens)
    if isinstance(account, Trouble) or account.account_id:
        return account
    return structs.replace(account, account_id=one_line(as_text(members.get("account_uuid"))))


def _endpoint(config: Config, proxies: Proxies, proxy: Secret) -> TokenEndpoint:
    """The former address is a way back for the official one only: a moved endpoint is asked alone."""
    url = config.endpoints.claude.token_url
    is_official = url == ClaudeEndpoint().token_url
    return TokenEndpoint(
        vendor="Anthropic",
        setting="endpoints.claude",
        address=address_of(url, proxy, config, proxies),
        agent=USER_AGENT.encode(),
        encoding="json",
        elsewhere=address_of(_FORMER_TOKEN_URL, proxy, config, proxies) if is_official else None,
        dead_statuses=frozenset({401}),
    )


def _email(rest: Mapping[str, object]) -> str:
    return one_line(as_text((as_object(rest.get("account")) or {}).get("email_address")))


LOGIN = ClaudeLogin()
