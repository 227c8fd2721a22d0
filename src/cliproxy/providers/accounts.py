"""Accounts that somebody logged in with: what their files hold, and what a provider of such accounts brings.

One JSON object per file, as the Go program writes it and as we do: tokens, who it is, and settings of the account. The
members that are settings have the same names and meaning in every kind of file. Members that nobody here knows stay
in the file. Tokens are not kept in an `AccountFile`: they are read when they are needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, Protocol, runtime_checkable

from msgspec import Struct

from cliproxy.config.schema import Config
from cliproxy.oauth.base import Exchange, Tokens
from cliproxy.oauth.pkce import RandomBytes, new_state, new_verifier
from cliproxy.providers.base import Provider, Proxies, Upstream
from cliproxy.wire.secrets import Secret

Members = Mapping[str, object]
"""A credential file's JSON object."""


class AccountFile(Struct, frozen=True, kw_only=True, gc=False):
    """What routing and people need to know of one credential file.

    `name` is the file's name, which is its identity; it is never derived from what stands in it. `kind` is its `type`,
    under its own name where there are several. `email`, `account_id`, `project_id`, `resource_url` and `plan` are ""
    where the file has none. `expires_at` and `refreshed_at` are epoch seconds, 0 when unknown. `is_renewable`: it holds
    a refresh token. Settings: `weight` 1 and `priority` 0 are the defaults, weight 0 takes no share; `aliases` are
    pairs of upstream name and public name. `warnings` are sentences about members that could not be read and count
    as absent.
    """

    name: str
    kind: str
    email: str = ""
    account_id: str = ""
    project_id: str = ""
    resource_url: str = ""
    expires_at: float = 0.0
    refreshed_at: float = 0.0
    is_renewable: bool = False
    is_disabled: bool = False
    priority: int = 0
    weight: int = 1
    prefix: str = ""
    proxy_url: Secret = Secret()
    note: str = ""
    excluded_models: tuple[str, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()
    headers: tuple[tuple[str, Secret], ...] = ()
    plan: str = ""
    warnings: tuple[str, ...] = ()


class Trouble(Struct, frozen=True):
    """Why a file is no account, as a sentence. `is_foreign`: it is none of ours, which is no mistake."""

    problem: str
    is_foreign: bool = False


class ClientSecrets(Struct, frozen=True):
    """Client secrets that were found outside of the configuration, for the vendor that wants one (Google).

    `environment` is what the operator says there; `files` are those of credential files, by client id; `installed` is
    what the vendor's own program on this machine holds.
    """

    environment: Secret = Secret()
    files: dict[str, Secret] = {}
    installed: Secret = Secret()


class Handshake(Struct, frozen=True):
    """What one code login sends out and must get back. All three are fresh for each login.

    `redirect_uri` is where the vendor sends the browser; `verifier` the PKCE secret behind the challenge.
    """

    state: str
    verifier: Secret
    redirect_uri: str


def new_handshake(login: CodeLogin, port: int, random_bytes: RandomBytes) -> Handshake:
    """A handshake for one login. `port` is where the vendor's redirect will be listened for."""
    redirect_uri = f"http://localhost:{port}{login.callback_path}"
    return Handshake(new_state(random_bytes), new_verifier(random_bytes), redirect_uri)


class NewFile(Struct, frozen=True):
    """A credential file to be written: its name, and what stands in it."""

    name: str
    members: dict[str, object]


class DevicePrompt(Struct, frozen=True):
    """What a person must do elsewhere to finish a device login: open `url`, where `user_code` is asked for or shown.
    `expires_in` is in seconds."""

    url: str
    user_code: str
    expires_in: float
    device: object
    """What `complete` needs to go on; of the provider's own type."""


class CodeLogin(Protocol):
    """A login by authorization code. `channel` is what `cli-proxy-api login` and the paths call it; `notice` what the
    vendor says about such logins, "" for nothing. `names` are all that a path may call it, `channel` among them.
    `callback_path` is the path of the redirect URI; `takes_any_port` says that the vendor accepts it with any port.
    `wants_client_secret`: `complete` fails without one, before its first request."""

    channel: Literal["claude", "codex", "gemini"]
    names: tuple[str, ...]
    notice: str
    callback_path: str
    takes_any_port: bool
    wants_client_secret: bool

    def callback(self, config: Config) -> tuple[str, int]:
        """Host and port on which the vendor's redirect arrives."""
        ...

    def authorize_url(self, config: Config, handshake: Handshake) -> str:
        """Where the person says yes."""
        ...

    def complete(
        self,
        config: Config,
        proxies: Proxies,
        handshake: Handshake,
        code: str,
        project: str,
        now_at: float,
        secrets: ClientSecrets = ...,
    ) -> Exchange[tuple[NewFile, ...]]:
        """From the code to the files. `project` is what the person asked for (Gemini): an id, several with commas
        between them, or `ALL`; else "". That the state is the right one must have been checked. Raises OAuthError."""
        ...


@runtime_checkable
class DeviceLogin(Protocol):
    """A login on another device."""

    channel: Literal["qwen"]
    names: tuple[str, ...]
    notice: str

    def begin(self, config: Config, proxies: Proxies, random_bytes: RandomBytes) -> Exchange[DevicePrompt]:
        """Raises OAuthError."""
        ...

    def complete(
        self, config: Config, proxies: Proxies, prompt: DevicePrompt, now_at: float
    ) -> Exchange[tuple[NewFile, ...]]:
        """Ask until the person has answered, or time is up. Raises OAuthError."""
        ...


Login = CodeLogin | DeviceLogin


class Grants(Protocol):
    """How one vendor's tokens stand in its files, and how they are renewed."""

    def read_file(self, name: str, members: Members) -> AccountFile | Trouble:
        """What a file says besides its tokens."""
        ...

    def read_tokens(self, members: Members) -> Tokens:
        """The tokens in a file. Raises Misconfigured when there is no usable one."""
        ...

    def write_tokens(self, tokens: Tokens, members: Members, now_at: float) -> Mapping[str, object]:
        """The members that a file gets by a refresh, with the values they get; all others stay as they are."""
        ...

    def refresh(
        self, file: AccountFile, tokens: Tokens, config: Config, proxies: Proxies, secrets: ClientSecrets = ...
    ) -> Exchange[Tokens]:
        """Raises OAuthError; GrantRevoked when only a new login helps, and Misconfigured, before the first request, when
        a client secret is missing."""
        ...


class AccountProvider(Provider, Protocol):
    """A provider whose accounts are files. `kinds` are the `type`s of its files, `grants` is how to deal with what is
    in them; `lead` is how many seconds before its end a token is renewed."""

    kinds: frozenset[str]
    grants: Grants
    lead: float

    def account_upstreams(self, file: AccountFile, config: Config, proxies: Proxies) -> Iterable[Upstream]:
        """The accounts of one file: none when it is disabled, one, or one for each project. Each has `source` set to the
        file's name, and no credential in its head: `Ask.token` brings it."""
        ...
