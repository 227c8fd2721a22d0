"""Logins with a Google account for Code Assist: authorization code with Google's own client, then a project.

Google does not rotate refresh tokens and gives one with the first answer only. Its client is one for installed
programs, which may be sent back to any port of this machine, and which has a secret that is no secret: see
`google_client.py`. After the tokens comes the question who it is, then the project: see `onboarding.py`.

Files come in two shapes: the tokens in an object `token`, or beside the other members; some have both.

Sources: https://developers.google.com/identity/protocols/oauth2/native-app and
https://github.com/google-gemini/gemini-cli, packages/core/src/code_assist, checked 2026-11-24.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal
from urllib.parse import quote, urlencode

from cliproxy.config.schema import Config, GeminiCliEndpoint
from cliproxy.oauth.answers import as_object, as_text, ask, is_success, read_object, read_refusal
from cliproxy.oauth.base import Exchange, Misconfigured, Tokens, Unavailable
from cliproxy.oauth.claims import read_claims
from cliproxy.oauth.tokens import TokenEndpoint, redeem, renew, target_of
from cliproxy.providers.accounts import AccountFile, ClientSecrets, Handshake, Members, NewFile, Trouble
from cliproxy.providers.base import USER_AGENT, Proxies, address_of
from cliproxy.providers.logins.files import (
    file_name,
    one_line,
    read_account,
    read_time,
    refresh_token_of,
    token_in,
    usable,
    written_end,
)
from cliproxy.providers.logins.google_client import GoogleClient, client_for
from cliproxy.providers.logins.onboarding import ALL, CodeAssist, authorized_head, is_enabled, onboard, wanted_projects
from cliproxy.wire.http import HttpRequest
from cliproxy.wire.secrets import Secret

KIND = "gemini"
KINDS = frozenset({KIND, "google", "gemini-cli", ""})
"""Files of the first versions have no `type` at all."""

_SCOPES = (
    "https://www.googleapis.com/auth/cloud-platform",
    "https://www.googleapis.com/auth/userinfo.email",
    "https://www.googleapis.com/auth/userinfo.profile",
)
_PROJECTS_URL = "https://cloudresourcemanager.googleapis.com"
_ALL = "all"


class GeminiLogin:
    channel: Literal["claude", "codex", "gemini"] = "gemini"
    names: tuple[str, ...] = ("gemini", "gemini-cli", "google")
    notice = (
        "An API key (`gemini-api-key`) is what Google intends for other programs. It closed this login for personal "
        "accounts in June 2026; Standard and Enterprise licences still have it. Google's terms forbid it to other "
        "programs, and an account may be suspended for it."
    )
    callback_path = "/oauth2callback"
    takes_any_port = True
    wants_client_secret = True

    def callback(self, config: Config) -> tuple[str, int]:
        return config.endpoints.gemini_cli.callback_host, config.endpoints.gemini_cli.callback_port

    def authorize_url(self, config: Config, handshake: Handshake) -> str:
        endpoint = config.endpoints.gemini_cli
        query = {
            "client_id": endpoint.client_id,
            "redirect_uri": handshake.redirect_uri,
            "response_type": "code",
            "scope": " ".join(_SCOPES),
            "access_type": "offline",
            "prompt": "consent",
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
        """One file, also for several projects."""
        wanted = wanted_projects(project)
        client = client_for(config, secrets)
        fields = {
            "grant_type": "authorization_code",
            "code": Secret(code),
            "redirect_uri": handshake.redirect_uri,
            "client_id": client.id,
            "client_secret": client.secret,
        }
        granted = yield from redeem(_endpoint(config, proxies, Secret()), fields)
        tokens = granted.tokens
        email = yield from _email(config, proxies, tokens)
        service = _service(config, proxies, tokens)
        projects = yield from onboard(service, wanted)
        checked = yield from _are_enabled(service, projects if wanted and wanted != (ALL,) else ())
        members: dict[str, object] = {
            "token": _token_object(config, client, tokens, now_at),
            "project_id": ",".join(projects),
            "email": email,
            "auto": not wanted,
            "checked": checked,
            "type": KIND,
        }
        return (NewFile(_file_name(email, projects, now_at), members),)


def refresh(
    file: AccountFile, tokens: Tokens, config: Config, proxies: Proxies, secrets: ClientSecrets = ClientSecrets()
) -> Exchange[Tokens]:
    """Raises OAuthError; Misconfigured when the client's secret is nowhere."""
    refresh_token = refresh_token_of(tokens)
    client = client_for(config, secrets, tokens)
    fields = {
        "grant_type": "refresh_token",
        "refresh_token": refresh_token,
        "client_id": client.id,
        "client_secret": client.secret,
    }
    granted = yield from renew(_endpoint(config, proxies, file.proxy_url), fields)
    return granted.tokens


def read_tokens(members: Members) -> Tokens:
    """Of two access tokens in one file that which ends later. Raises Misconfigured when there is no usable one."""
    inner = _inner(members)
    places = sorted((inner, members), key=_ends_at, reverse=True)
    access = [token for place in places if (token := token_in(place, "access_token"))]
    refreshes = [token for place in places if (token := token_in(place, "refresh_token"))]
    return usable(
        Tokens(
            access=next(iter(access), Secret()),
            refresh=next(iter(refreshes), Secret()),
            client_id=as_text(inner.get("client_id")) or as_text(members.get("client_id")),
            client_secret=Secret(as_text(inner.get("client_secret")) or as_text(members.get("client_secret"))),
        )
    )


def write_tokens(tokens: Tokens, members: Members, now_at: float) -> Mapping[str, object]:
    """In the shape that the file has: `token`, members beside it, or both."""
    given: dict[str, object] = {"access_token": tokens.access.reveal()}
    if tokens.refresh:
        given["refresh_token"] = tokens.refresh.reveal()
    ends = written_end(tokens, now_at)
    fresh: dict[str, object] = {}
    inner = _inner(members)
    if inner:
        fresh["token"] = {**inner, **given, "expiry": ends}
    if not inner or "access_token" in members:
        times = [name for name in ("expiry", "expired") if name in members] or ["expiry"]
        fresh |= given | dict.fromkeys(times, ends)
    return fresh


def read_file(name: str, members: Members) -> AccountFile | Trouble:
    if members.get("type") is None and _is_of_another(members):
        return Trouble("The file has no `type` and its members are not those of a Gemini account; add `type`.")
    expiry = (as_object(members.get("token")) or {}).get("expiry")
    return read_account(name, KIND, members, read_tokens, [expiry])


def projects_of(file: AccountFile) -> tuple[str, ...]:
    """The projects of an account, none when its file names none. Each serves as an account of its own."""
    names = (part.strip() for part in file.project_id.split(","))
    return tuple(dict.fromkeys(name for name in names if name and name.lower() != _ALL))


def _email(config: Config, proxies: Proxies, tokens: Tokens) -> Exchange[str]:
    """The account's address: as the vendor says when asked, else as the identity token says."""
    address = address_of(config.endpoints.gemini_cli.userinfo_url, Secret(), config, proxies)
    head = authorized_head(tokens.access, USER_AGENT.encode())
    failure = Unavailable("Google did not say whose account this is; log in again later.")
    try:
        answered = yield from ask(HttpRequest(b"GET", address.origin, target_of(address), head))
        if is_success(answered) and (told := read_object(answered.body)) is not None:
            return one_line(as_text(told.get("email")))
        failure.told = read_refusal(answered, [tokens.access]).told
    except Unavailable:
        pass
    known = one_line(as_text(read_claims(tokens.id_token).get("email")))
    if not known:
        raise failure
    return known


def _are_enabled(service: CodeAssist, projects: tuple[str, ...]) -> Exchange[bool]:
    """Whether all of them answer; False when nobody named one, so that there is none to ask for."""
    answers: list[bool] = []
    for project in projects:
        answers += [(yield from is_enabled(service, project))]
    return bool(answers) and all(answers)


def _token_object(config: Config, client: GoogleClient, tokens: Tokens, now_at: float) -> dict[str, object]:
    return {
        "access_token": tokens.access.reveal(),
        "token_type": "Bearer",
        "refresh_token": tokens.refresh.reveal(),
        "expiry": written_end(tokens, now_at),
        "token_uri": config.endpoints.gemini_cli.token_url,
        "client_id": client.id,
        "client_secret": client.secret.reveal(),
        "scopes": list(_SCOPES),
        "universe_domain": "googleapis.com",
    }


def _file_name(email: str, projects: tuple[str, ...], now_at: float) -> str:
    if len(projects) > 1:
        return file_name(KIND, email, now_at, _ALL)
    return file_name("" if email else KIND, email, now_at, "".join(projects))


def _inner(members: Members) -> dict[str, object]:
    """The object `token`; empty when there is none. Raises Misconfigured when something else has that name."""
    value = members.get("token")
    inner = as_object(value)
    if inner is None and value is not None:
        raise Misconfigured("The file's `token` is not an object; log in again.")
    return inner or {}


def _ends_at(place: Members) -> float:
    return max(read_time(place.get(name)) or 0.0 for name in ("expiry", "expired"))


def _is_of_another(members: Members) -> bool:
    """Whether a file without `type` is one of another vendor: its tokens must not be sent to Google."""
    foreign = ("resource_url", "account_id", "tokens", "claudeAiOauth", "OPENAI_API_KEY")
    return "token" not in members and any(name in members for name in foreign)


def _service(config: Config, proxies: Proxies, tokens: Tokens) -> CodeAssist:
    """Where the endpoint was moved, the projects are asked for there too, so that nothing goes past it."""
    base = config.endpoints.gemini_cli.base_url
    listing = _PROJECTS_URL if base == GeminiCliEndpoint().base_url else base
    return CodeAssist(
        address_of(base, Secret(), config, proxies),
        address_of(listing, Secret(), config, proxies),
        USER_AGENT.encode(),
        tokens.access,
    )


def _endpoint(config: Config, proxies: Proxies, proxy: Secret) -> TokenEndpoint:
    return TokenEndpoint(
        vendor="Google",
        setting="endpoints.gemini-cli.client-secret",
        address=address_of(config.endpoints.gemini_cli.token_url, proxy, config, proxies),
        agent=USER_AGENT.encode(),
    )


LOGIN = GeminiLogin()
