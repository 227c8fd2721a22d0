"""Logins with a ChatGPT plan: authorization code with PKCE; who it is stands in the identity token.

A refresh may leave out any member; what is left out stays as it was. The refresh token rotates and works once. The
vendor has two redirect addresses on its list, so another port than 1455 or 1457 is refused.

Source: https://github.com/openai/codex, codex-rs/login, checked 2026-11-24.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal
from urllib.parse import quote, urlencode

from msgspec import Struct, structs

from cliproxy.config import rules
from cliproxy.config.schema import Config
from cliproxy.oauth.answers import as_number, as_text
from cliproxy.oauth.base import Exchange, Tokens
from cliproxy.oauth.claims import claims_within, read_claims
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

KIND = "codex"
KINDS = frozenset({KIND})

_LOGIN_SCOPE = "openid email profile offline_access"
_REFRESH_SCOPE = "openid profile email"
_NAMESPACE = "https://api.openai.com/auth"
_LONGEST_LIFETIME = 366 * 86_400.0
_DEAD = frozenset({"refresh_token_expired", "refresh_token_reused", "refresh_token_invalidated"})


class Identity(Struct, frozen=True):
    """Who a token was given to; "" where it does not say."""

    email: str = ""
    account_id: str = ""
    plan: str = ""


class CodexLogin:
    channel: Literal["claude", "codex", "gemini"] = "codex"
    names: tuple[str, ...] = ("codex", "openai")
    notice = (
        "An API key (`codex-api-key`) is the plain way. OpenAI tolerates logins with a ChatGPT plan in other "
        "programs: the plan's limits and OpenAI's terms apply, and it may end that at any time."
    )
    callback_path = "/auth/callback"
    takes_any_port = False
    wants_client_secret = False

    def callback(self, config: Config) -> tuple[str, int]:
        return config.endpoints.codex.callback_host, config.endpoints.codex.callback_port

    def authorize_url(self, config: Config, handshake: Handshake) -> str:
        endpoint = config.endpoints.codex
        query = {
            "client_id": endpoint.client_id,
            "response_type": "code",
            "redirect_uri": handshake.redirect_uri,
            "scope": _LOGIN_SCOPE,
            "state": handshake.state,
            "code_challenge": challenge(handshake.verifier),
            "code_challenge_method": CHALLENGE_METHOD,
            "prompt": "login",
            "id_token_add_organizations": "true",
            "codex_cli_simplified_flow": "true",
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
        del project, secrets
        fields = {
            "grant_type": "authorization_code",
            "client_id": config.endpoints.codex.client_id,
            "code": Secret(code),
            "redirect_uri": handshake.redirect_uri,
            "code_verifier": handshake.verifier,
        }
        granted = yield from redeem(_endpoint(config, proxies, Secret()), fields)
        tokens = _with_lifetime(granted.tokens)
        identity = identity_of(tokens)
        members: dict[str, object] = {
            "id_token": tokens.id_token.reveal(),
            "access_token": tokens.access.reveal(),
            "refresh_token": tokens.refresh.reveal(),
            "account_id": identity.account_id,
            "last_refresh": written_time(now_at),
            "email": identity.email,
            "type": KIND,
            "expired": written_end(tokens, now_at),
        }
        return (NewFile(file_name(KIND, identity.email, now_at), members),)


def refresh(
    file: AccountFile, tokens: Tokens, config: Config, proxies: Proxies, secrets: ClientSecrets = ClientSecrets()
) -> Exchange[Tokens]:
    """Raises OAuthError."""
    del secrets
    fields = {
        "client_id": config.endpoints.codex.client_id,
        "grant_type": "refresh_token",
        "refresh_token": refresh_token_of(tokens),
        "scope": _REFRESH_SCOPE,
    }
    granted = yield from renew(_endpoint(config, proxies, file.proxy_url), fields)
    given = _with_lifetime(granted.tokens)
    identity = identity_of(given) if given.id_token else Identity()
    extra = {"account_id": identity.account_id, "email": identity.email}
    return structs.replace(given, extra={name: value for name, value in extra.items() if value})


def identity_of(tokens: Tokens) -> Identity:
    """What the identity token says, and the access token where that is silent: both are from the same issuer."""
    known = Identity()
    for token in (tokens.access, tokens.id_token):
        claims = read_claims(token)
        account = claims_within(claims, _NAMESPACE)
        account_id = one_line(as_text(account.get("chatgpt_account_id")))
        known = Identity(
            one_line(as_text(claims.get("email"))) or known.email,
            known.account_id if rules.header_value(account_id) else account_id or known.account_id,
            one_line(as_text(account.get("chatgpt_plan_type"))) or known.plan,
        )
    return known


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
    """Files of an earlier program may have lost the account's id in a refresh; the identity token still has it."""
    account = read_account(name, KIND, members, read_tokens)
    if isinstance(account, Trouble):
        return account
    identity = identity_of(read_tokens(members))
    return structs.replace(
        account,
        email=account.email or identity.email,
        account_id=account.account_id or identity.account_id,
        plan=identity.plan,
    )


def _with_lifetime(tokens: Tokens) -> Tokens:
    """The access token says itself how long it lives, where the answer does not."""
    claims = read_claims(tokens.access)
    lifetime = as_number(claims.get("exp")) - as_number(claims.get("iat"))
    if tokens.lifetime or not 0 < lifetime < _LONGEST_LIFETIME:
        return tokens
    return structs.replace(tokens, lifetime=lifetime)


def _endpoint(config: Config, proxies: Proxies, proxy: Secret) -> TokenEndpoint:
    return TokenEndpoint(
        vendor="OpenAI",
        setting="endpoints.codex",
        address=address_of(config.endpoints.codex.token_url, proxy, config, proxies),
        agent=USER_AGENT.encode(),
        dead=_DEAD,
        dead_statuses=frozenset({401}),
    )


LOGIN = CodexLogin()
