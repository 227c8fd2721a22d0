"""Logins with a Qwen account: device flow with PKCE. The vendor tells no e-mail address; the time stands in for it.

An answer to a refresh may lack the refresh token and the resource URL; then the old ones stay.

Source: https://github.com/QwenLM/qwen-code, packages/core/src/qwen, checked 2026-11-24.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct, structs

from cliproxy.config.schema import Config
from cliproxy.oauth.answers import as_text
from cliproxy.oauth.base import Exchange, Tokens
from cliproxy.oauth.device import DeviceOffer, begin, wait_for
from cliproxy.oauth.pkce import CHALLENGE_METHOD, RandomBytes, challenge, new_verifier
from cliproxy.oauth.tokens import TokenEndpoint, renew
from cliproxy.providers.accounts import AccountFile, ClientSecrets, DevicePrompt, Members, NewFile, Trouble
from cliproxy.providers.base import USER_AGENT, Proxies, address_of
from cliproxy.providers.logins.files import (
    fresh_members,
    milliseconds,
    one_line,
    read_account,
    refresh_token_of,
    token_in,
    usable,
    written_end,
    written_time,
)
from cliproxy.wire.secrets import Secret

KIND = "qwen"
KINDS = frozenset({KIND})

_SCOPE = "openid profile email model.completion"
_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_VERIFIER_BYTES = 32


class QwenDevice(Struct, frozen=True):
    """A login that has begun."""

    offer: DeviceOffer
    verifier: Secret


class QwenLogin:
    channel: Literal["qwen"] = "qwen"
    names: tuple[str, ...] = ("qwen",)
    notice = (
        "Qwen ended the free service behind this login in April 2026, and requests are likely to be refused. An API "
        "key of DashScope, as an entry under `openai-compatibility`, serves the same models."
    )

    def begin(self, config: Config, proxies: Proxies, random_bytes: RandomBytes) -> Exchange[DevicePrompt]:
        verifier = new_verifier(random_bytes, _VERIFIER_BYTES)
        fields = {
            "client_id": config.endpoints.qwen.client_id,
            "scope": _SCOPE,
            "code_challenge": challenge(verifier),
            "code_challenge_method": CHALLENGE_METHOD,
        }
        url = config.endpoints.qwen.device_url
        offer = yield from begin(_endpoint(url, config, proxies, Secret()), fields)
        return DevicePrompt(offer.url, offer.user_code, offer.lifetime, QwenDevice(offer, verifier))

    def complete(
        self, config: Config, proxies: Proxies, prompt: DevicePrompt, now_at: float
    ) -> Exchange[tuple[NewFile, ...]]:
        """`now_at` is when the waiting begins, so the end that the file states may be some minutes too early."""
        if not isinstance(prompt.device, QwenDevice):
            raise TypeError("this prompt is of another login")
        offer = prompt.device.offer
        fields = {
            "grant_type": _GRANT,
            "client_id": config.endpoints.qwen.client_id,
            "device_code": offer.device_code,
            "code_verifier": prompt.device.verifier,
        }
        url = config.endpoints.qwen.token_url
        granted = yield from wait_for(_endpoint(url, config, proxies, Secret()), fields, offer)
        tokens = granted.tokens
        name = f"{KIND}-{milliseconds(now_at)}"
        members: dict[str, object] = {
            "access_token": tokens.access.reveal(),
            "refresh_token": tokens.refresh.reveal(),
            "last_refresh": written_time(now_at),
            "resource_url": _resource_url(granted.rest),
            "email": name,
            "type": KIND,
            "expired": written_end(tokens, now_at),
        }
        return (NewFile(f"{name}.json", members),)


def refresh(
    file: AccountFile, tokens: Tokens, config: Config, proxies: Proxies, secrets: ClientSecrets = ClientSecrets()
) -> Exchange[Tokens]:
    """Raises OAuthError."""
    del secrets
    fields = {
        "grant_type": "refresh_token",
        "refresh_token": refresh_token_of(tokens),
        "client_id": config.endpoints.qwen.client_id,
    }
    url = config.endpoints.qwen.token_url
    granted = yield from renew(_endpoint(url, config, proxies, file.proxy_url), fields)
    resource_url = _resource_url(granted.rest)
    return structs.replace(granted.tokens, extra={"resource_url": resource_url} if resource_url else {})


def read_tokens(members: Members) -> Tokens:
    """Raises Misconfigured when there is no usable one."""
    return usable(Tokens(access=token_in(members, "access_token"), refresh=token_in(members, "refresh_token")))


def write_tokens(tokens: Tokens, members: Members, now_at: float) -> Mapping[str, object]:
    del members
    return fresh_members(structs.replace(tokens, id_token=Secret()), now_at)


def read_file(name: str, members: Members) -> AccountFile | Trouble:
    return read_account(name, KIND, members, read_tokens)


def _endpoint(url: str, config: Config, proxies: Proxies, proxy: Secret) -> TokenEndpoint:
    return TokenEndpoint(
        vendor="Qwen",
        setting="endpoints.qwen",
        address=address_of(url, proxy, config, proxies),
        agent=USER_AGENT.encode(),
        dead_statuses=frozenset({400, 401}),
    )


def _resource_url(rest: Mapping[str, object]) -> str:
    return one_line(as_text(rest.get("resource_url")))


LOGIN = QwenLogin()
