"""Who has an account at the simulated vendors, and which of its codes and tokens are in force.

A grant is one consent: it has one refresh token at a time and gives any number of access tokens. What happens to the
former refresh token when a new one is issued is `rotation`:

    strict        it is dead at once
    overlapping   it works until an access token of the newer pair was used: an answer that was lost costs no login

Grants of Google keep their refresh token for ever; `qwen_rotates` says what Qwen does.
"""

import base64
import hashlib
import secrets
import threading
import time
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal

import msgspec
from msgspec import Struct

from cliproxy.simulator.exchange import Json, Received, write_json

Kind = Literal["claude", "codex", "gemini", "qwen"]
"""As in the `type` of a credential file."""
Rotation = Literal["strict", "overlapping"]
Death = Literal["unknown", "expired", "revoked", "reused"]

GOOGLE_CLIENT_SECRET = "simulated-installed-app-secret"
"""Google's installed applications have a secret that is none; this one is ours and opens nothing elsewhere."""
CLIENT_IDS: dict[Kind, str] = {
    "claude": "9d1c250a-e61b-44d9-88ed-5944d1962f5e",
    "codex": "app_EMoamEEZ73f0CkXaXp7hrann",
    "gemini": "681255809395-oo8ft2oprdrnp9e3aqf6av3hmdib135j.apps.googleusercontent.com",
    "qwen": "f0304373b74a44d2b584a3fb70ca9e56",
}
SCOPES: dict[Kind, tuple[str, ...]] = {
    "claude": ("org:create_api_key", "user:profile", "user:inference"),
    "codex": ("openid", "profile", "email", "offline_access"),
    "gemini": tuple(
        f"https://www.googleapis.com/auth/{name}" for name in ("cloud-platform", "userinfo.email", "userinfo.profile")
    ),
    "qwen": ("openid", "profile", "email", "model.completion"),
}
"""What an issued file was consented to."""
QWEN_RESOURCE = "/compatible-mode"
"""Where Qwen's chat is; `/v1/chat/completions` follows."""

_LIFETIMES: dict[Kind, float] = {"claude": 28_800.0, "codex": 864_000.0, "gemini": 3599.0, "qwen": 21_600.0}
_PREFIXES: dict[Kind, tuple[str, str]] = {
    "claude": ("sk-ant-oat01-", "sk-ant-ort01-"),
    "codex": ("", "rt_"),
    "gemini": ("ya29.", "1//0"),
    "qwen": ("", ""),
}
_CODE_SECONDS = 600.0
_OPENAI_CLAIM = "https://api.openai.com/auth"


class Account(Struct, frozen=True, kw_only=True):
    """A person at one vendor.

    `workspaces` (Codex) are further ChatGPT accounts that the token is good for. The rest is Google's: `tier` is what
    the person may have, `project` what Code Assist gave once it was set up ("" before), `projects` the person's own,
    and `ineligible` the `ineligibleTiers` rows; with some of those the person may have no tier at all.
    """

    kind: Kind
    email: str
    plan: str = "plus"
    workspaces: tuple[str, ...] = ()
    tier: Literal["free-tier", "legacy-tier", "standard-tier"] = "free-tier"
    project: str = ""
    projects: tuple[str, ...] = ()
    ineligible: tuple[dict[str, Json], ...] = ()

    @property
    def id(self) -> str:
        """The same in every run."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.kind}:{self.email}"))

    @property
    def companion(self) -> str:
        """The project that Code Assist makes for somebody who brings none."""
        return f"simulated-{self.id[:8]}"


class Code(Struct, frozen=True, kw_only=True):
    """What a person consented to, until the code is redeemed. `wants_refresh`: with a refresh token."""

    account: Account
    redirect_uri: str
    scope: str
    challenge: str
    state: str
    expires_at: float
    wants_refresh: bool = True


class Issued(Struct, frozen=True, kw_only=True):
    """A new pair of tokens; `refresh` is "" when none goes with it, `lifetime` is in seconds."""

    account: Account
    access: str
    refresh: str
    id_token: str
    lifetime: float
    scope: str


class Dead(Exception):
    """A token that is not, or no longer, in force."""

    def __init__(self, death: Death) -> None:
        super().__init__(death)
        self.death: Death = death


class Device:
    """A device login under way; `account` is set when somebody said yes, `is_denied` when somebody said no."""

    def __init__(self, user_code: str, challenge: str, scope: str, expires_at: float) -> None:
        self.user_code = user_code
        self.challenge = challenge
        self.scope = scope
        self.expires_at = expires_at
        self.asked_at = 0.0
        self.account: Account | None = None
        self.is_denied = False


class Operation:
    """An onboarding under way: how often it was asked for, and for whom and with which project it is."""

    def __init__(self, email: str, project: str) -> None:
        self.email = email
        self.project = project
        self.polls = 0

    def is_for(self, other: "Operation") -> bool:
        return (self.email, self.project) == (other.email, other.project)


class _Grant:
    """One consent; `newest` is the access token whose use ends the life of `former`."""

    __slots__ = ("account", "former", "is_revoked", "newest", "refresh", "scope")

    def __init__(self, account: Account, scope: str, refresh: str) -> None:
        self.account = account
        self.scope = scope
        self.refresh = refresh
        self.former = ""
        self.newest = ""
        self.is_revoked = False


class _Access(Struct, gc=False):
    grant: _Grant
    expires_at: float


class Accounts:
    """The accounts of all vendors, and the settings of their login services. Safe to use from any thread.

    Settings may be changed at any time, and hold for what is issued afterwards:

        lifetime          seconds for which access tokens are said to be good; None: each vendor's own
        early             seconds by which access tokens die before that
        skew              seconds by which the vendors' clock is ahead of ours, shown in `date`; raising it makes
                          time pass for everything that was issued before
        rotation          see above
        qwen_rotates      whether Qwen gives a new refresh token with each access token
        resource_url      what Qwen calls the place of its API; None: where it really is
        codex_ports       loopback ports to which OpenAI sends a browser back
        device_lifetime   seconds for which a device login waits for its person
        interval          seconds between polls that Qwen asks for and insists on; None: it neither tells nor minds
        slow_downs        so many of the next polls are told to slow down
        polls             how often Google's onboarding has to be asked before it is done
    """

    def __init__(self, url: str = "http://127.0.0.1") -> None:
        self._url = url
        self._lock = threading.RLock()
        self.reset()

    def reset(self) -> None:
        """Forget everything and put the settings back."""
        self.lifetime: float | None = None
        self.early = 0.0
        self.skew = 0.0
        self.rotation: Rotation = "strict"
        self.qwen_rotates = True
        self.resource_url: str | None = None
        self.codex_ports = frozenset({1455, 1457})
        self.device_lifetime = 900.0
        self.interval: float | None = None
        self.slow_downs = 0
        self.polls = 1
        with self._lock:
            self._people: dict[tuple[Kind, str], Account] = {}
            self._consented: set[str] = set()
            self._codes: dict[str, Code] = {}
            self._grants: dict[str, _Grant] = {}
            self._access: dict[str, _Access] = {}
            self.devices: dict[str, Device] = {}
            self.operations: dict[str, Operation] = {}

    def now(self) -> float:
        """The vendors' clock, in epoch seconds."""
        return time.time() + self.skew

    # --- people ---

    def add(self, account: Account) -> Account:
        """Add somebody, or put another in that place; their tokens stay."""
        with self._lock:
            self._people[account.kind, account.email] = account
        return account

    def find(self, kind: Kind, email: str) -> Account:
        """Who has this e-mail there; somebody ordinary, when nobody was added."""
        with self._lock:
            return self._people.setdefault((kind, email), Account(kind=kind, email=email))

    def issue(
        self,
        kind: Kind,
        email: str,
        *,
        lifetime: float | None = None,
        expired: bool = False,
        renewable: bool = True,
        project: str = "",
    ) -> dict[str, object]:
        """The members of a credential file, ready to be used, as the Go program writes it.

        Somebody at Google is set up with `project`, which may be several, separated by commas; else with the
        companion project. `expired`: only the refresh token is still good. Without `renewable` the file holds no
        refresh token.
        """
        account = self.find(kind, email)
        if kind == "gemini" and (project or not account.project):
            account = self.add(_set_up(account, project))
        issued = self.open_grant(account, " ".join(SCOPES[kind]), wants_refresh=renewable, lifetime=lifetime)
        if expired:
            self._access[issued.access].expires_at = 0.0
        members = self._members(issued, -60.0 if expired else issued.lifetime)
        return members | ({"project_id": project} if project else {})

    def revoke(self, email: str, kind: Kind | None = None) -> None:
        """Withdraw every grant of this person: all tokens are refused from now on."""
        for grant in self._grants_of(email, kind):
            grant.is_revoked = True

    def expire(self, email: str, kind: Kind | None = None) -> None:
        """Let the access tokens of this person die now; refresh tokens stay."""
        grants = self._grants_of(email, kind)
        with self._lock:
            for access in self._access.values():
                if access.grant in grants:
                    access.expires_at = 0.0

    def owner(self, request: Received) -> Account | None:
        """Whose access token, or in the body whose refresh token, a request carries, dead or alive."""
        with self._lock:
            access = self._access.get(request.bearer)
            if access is not None:
                return access.grant.account
            grant = self._grants.get(_refresh_token(request)) if request.path.endswith("/token") else None
        return None if grant is None else grant.account

    # --- codes ---

    def keep_code(self, code: Code) -> str:
        """The code by which this consent is redeemed."""
        name = secrets.token_urlsafe(32)
        with self._lock:
            self._codes[name] = code
        return name

    def code_expiry(self) -> float:
        return self.now() + _CODE_SECONDS

    def take_code(self, name: str) -> Code | None:
        """What was consented to; a code is good for one try, right or wrong."""
        with self._lock:
            code = self._codes.pop(name, None)
        return None if code is None or code.expires_at <= self.now() else code

    def first_consent(self, account: Account) -> bool:
        """Whether this is the first time that this person says yes."""
        with self._lock:
            is_first = account.id not in self._consented
            self._consented.add(account.id)
        return is_first

    # --- tokens ---

    def open_grant(
        self, account: Account, scope: str, *, wants_refresh: bool = True, lifetime: float | None = None
    ) -> Issued:
        with self._lock:
            grant = _Grant(account, scope, self._refresh_token_for(account.kind) if wants_refresh else "")
            if wants_refresh:
                self._grants[grant.refresh] = grant
            return self._issued(grant, lifetime)

    def renew(self, kind: Kind, refresh: str) -> Issued:
        """A new access token. Raises Dead."""
        with self._lock:
            grant = self._grants.get(refresh)
            if grant is None or grant.account.kind != kind:
                raise Dead("unknown")
            if grant.is_revoked:
                raise Dead("revoked")
            if refresh not in (grant.refresh, grant.former):
                raise Dead("reused")
            if kind != "gemini" and (kind != "qwen" or self.qwen_rotates):
                grant.refresh = self._refresh_token_for(kind)
                grant.former = refresh if self.rotation == "overlapping" else ""
                self._grants[grant.refresh] = grant
            return self._issued(grant, None)

    def check(self, kind: Kind, token: str) -> tuple[Account, str]:
        """Whose access token it is, and its scopes, separated by spaces. Raises Dead."""
        with self._lock:
            access = self._access.get(token)
            if access is None or access.grant.account.kind != kind:
                raise Dead("unknown")
            grant = access.grant
            if grant.is_revoked:
                raise Dead("revoked")
            if access.expires_at <= self.now():
                raise Dead("expired")
            if token == grant.newest:
                grant.former = ""
            return self.find(kind, grant.account.email), grant.scope

    def withdraw(self, kind: Kind, refresh: str) -> bool:
        """Revoke the one grant of this refresh token; False when there is none."""
        with self._lock:
            grant = self._grants.get(refresh)
            if grant is None or grant.account.kind != kind:
                return False
            grant.is_revoked = True
            return True

    def _issued(self, grant: _Grant, lifetime: float | None) -> Issued:
        kind = grant.account.kind
        now = self.now()
        if lifetime is None:
            lifetime = _LIFETIMES[kind] if self.lifetime is None else self.lifetime
        account = self.find(kind, grant.account.email)
        token = secrets.token_urlsafe(24)
        access = _PREFIXES[kind][0] + token
        id_token = ""
        if kind == "codex":
            access = _jwt(account, now, lifetime, {"jti": token, "scope": grant.scope})
            id_token = _jwt(account, now, 3600.0, {"email": account.email, "email_verified": True})
        elif kind == "gemini":
            id_token = _jwt(account, now, 3600.0, {"email": account.email, "email_verified": True})
        grant.newest = access
        self._access[access] = _Access(grant, now + lifetime - self.early)
        return Issued(
            account=account,
            access=access,
            refresh=grant.refresh,
            id_token=id_token,
            lifetime=lifetime,
            scope=grant.scope,
        )

    def _refresh_token_for(self, kind: Kind) -> str:
        return _PREFIXES[kind][1] + secrets.token_urlsafe(24)

    def _grants_of(self, email: str, kind: Kind | None) -> set[_Grant]:
        with self._lock:
            grants = [*self._grants.values(), *(access.grant for access in self._access.values())]
        return {grant for grant in grants if grant.account.email == email and kind in (None, grant.account.kind)}

    def _members(self, issued: Issued, left: float) -> dict[str, object]:
        """`left` is how many seconds the file says that the access token has."""
        account = issued.account
        expiry = _rfc3339(time.time() + left)
        if account.kind == "gemini":
            return _google_members(issued, self._url, expiry)
        members: dict[str, object] = {
            "access_token": issued.access,
            "refresh_token": issued.refresh,
            "last_refresh": _rfc3339(time.time() + left - issued.lifetime),
            "email": account.email,
            "type": account.kind,
            "expired": expiry,
        }
        match account.kind:
            case "claude":
                members["id_token"] = ""
            case "codex":
                members |= {"id_token": issued.id_token, "account_id": account.id}
            case "qwen":
                members["resource_url"] = self.resource_of(self._url)
        return members

    def resource_of(self, base: str) -> str:
        """What Qwen calls the place of its API, for a caller who reached us at `base`."""
        return base + QWEN_RESOURCE if self.resource_url is None else self.resource_url


def digest_of(verifier: str) -> str:
    """The S256 challenge of a PKCE verifier."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def _set_up(account: Account, project: str) -> Account:
    if not project:
        return msgspec.structs.replace(account, project=account.companion)
    names = project.split(",")
    own = dict.fromkeys((*account.projects, *names))
    return msgspec.structs.replace(account, project=names[0], projects=tuple(own))


def _google_members(issued: Issued, url: str, expiry: str) -> dict[str, object]:
    account = issued.account
    token: dict[str, object] = {
        "access_token": issued.access,
        "token_type": "Bearer",
        "refresh_token": issued.refresh,
        "expiry": expiry,
        "token_uri": f"{url}/token",
        "client_id": CLIENT_IDS["gemini"],
        "client_secret": GOOGLE_CLIENT_SECRET,
        "scopes": issued.scope.split(),
        "universe_domain": "googleapis.com",
    }
    return {
        "token": token,
        "project_id": account.project,
        "email": account.email,
        "auto": account.project == account.companion,
        "checked": True,
        "type": "gemini",
    }


def _jwt(account: Account, now: float, lifetime: float, claims: dict[str, Json]) -> str:
    """A token that reads like a vendor's, with a signature that nobody can check."""
    body: dict[str, Json] = {"sub": account.id, "iat": int(now), "exp": int(now + lifetime), **claims}
    if account.kind == "codex":
        body |= {"iss": "https://auth.openai.com", "aud": [CLIENT_IDS["codex"]], _OPENAI_CLAIM: _openai_claim(account)}
    else:
        body |= {"iss": "https://accounts.google.com", "aud": CLIENT_IDS["gemini"]}
    return ".".join(map(_base64, (b'{"alg":"none","typ":"JWT"}', write_json(body), b"simulated")))


def _openai_claim(account: Account) -> dict[str, Json]:
    ids: Iterable[str] = (account.id, *account.workspaces)
    organizations: list[Json] = [
        {"id": f"org-{name[:8]}", "is_default": name == account.id, "role": "owner", "title": "Simulated"}
        for name in ids
    ]
    return {
        "chatgpt_account_id": account.id,
        "chatgpt_plan_type": account.plan,
        "chatgpt_user_id": f"user-{account.id[:8]}",
        "organizations": organizations,
        "chatgpt_subscription_active_until": "2099-01-01T00:00:00+00:00",
    }


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _refresh_token(request: Received) -> str:
    fields = request.form() or _json_fields(request.body)
    token = fields.get("refresh_token")
    return token if isinstance(token, str) else ""


def _json_fields(body: bytes) -> dict[str, Json]:
    try:
        fields: Json = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _rfc3339(at: float) -> str:
    """With nanoseconds, as Go writes them."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
