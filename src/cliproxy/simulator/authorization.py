"""Where a person says yes or no: the authorization endpoints of Claude, Codex and Google.

The page posts its answer to its own address, query and all, so nothing has to be remembered between question and
answer. What is wrong with the address is shown to the person; only the answer itself goes back to the program.

Sources: RFC 6749 section 4.1, RFC 7636, RFC 8252 section 7.3, checked 2026-10-20.
"""

import re
from collections.abc import Callable
from urllib.parse import urlencode, urlsplit

from msgspec import Struct

from cliproxy.simulator import pages
from cliproxy.simulator.accounts import CLIENT_IDS, Account, Accounts, Code, Kind
from cliproxy.simulator.exchange import Received, Refused, Reply

_CHALLENGE = re.compile(r"^[A-Za-z0-9_-]{43}$")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_CLAUDE_PAGES = frozenset(
    {"https://console.anthropic.com/oauth/code/callback", "https://platform.claude.com/oauth/code/callback"}
)
_GOOGLE_PAGE = "https://codeassist.google.com/authcode"
_GOOGLE = "https://www.googleapis.com/auth/"


class Registration(Struct, frozen=True, kw_only=True):
    """What a vendor knows of the program that asks. `takes` says whether a browser may be sent there; the set is
    `Accounts.codex_ports`. `needs_pkce` None: only for redirects to the vendor's own page."""

    kind: Kind
    title: str
    scopes: frozenset[str]
    takes: Callable[[str, frozenset[int]], bool]
    needs_pkce: bool
    returns_scope: bool
    fixed: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Parameters that need not be there, and the values that they may have."""


class Authorization:
    """One vendor's authorization endpoint."""

    def __init__(self, accounts: Accounts, registration: Registration) -> None:
        self._accounts = accounts
        self._of = registration

    def page(self, received: Received) -> Reply:
        """GET: the question."""
        self._check(received.query)
        return pages.consent(self._of.title, f"A program wants to act for you: {received.query['scope']}.")

    def decide(self, received: Received) -> Reply:
        """POST: the answer; sends the browser back to the program."""
        query = received.query
        self._check(query)
        form = received.form()
        match form.get("answer"):
            case "approve":
                account = self._accounts.find(self._of.kind, form.get("email") or pages.ANYBODY)
                told = {"code": self._code(query, account), "state": query["state"]}
                if self._of.returns_scope:
                    told["scope"] = query["scope"]
            case "deny":
                told = {"error": "access_denied", "state": query["state"]}
            case _:
                raise Refused("answer is neither approve nor deny")
        target = _landing(query["redirect_uri"], received.base)
        location = target + ("&" if urlsplit(target).query else "?") + urlencode(told)
        return Reply(status=303, headers=(("location", location), ("cache-control", "no-store")), frames=(b"",))

    def landing(self, received: Received) -> Reply:
        """GET: the vendor's own page, for programs without a listener: it shows what to paste."""
        query = received.query
        if "code" not in query:
            return pages.message(self._of.title, query.get("error", "There is no code."))
        code = query["code"] + (f"#{query.get('state', '')}" if self._of.kind == "claude" else "")
        return pages.message(self._of.title, code)

    def _code(self, query: dict[str, str], account: Account) -> str:
        return self._accounts.keep_code(
            Code(
                account=account,
                redirect_uri=query["redirect_uri"],
                scope=query["scope"],
                challenge=query.get("code_challenge", ""),
                state=query["state"],
                expires_at=self._accounts.code_expiry(),
                wants_refresh=self._wants_refresh(query, account),
            )
        )

    def _wants_refresh(self, query: dict[str, str], account: Account) -> bool:
        """Google gives a refresh token to programs that ask for offline access, and again only on renewed consent."""
        match self._of.kind:
            case "gemini":
                is_first = self._accounts.first_consent(account)
                is_asked = "consent" in query.get("prompt", "").split()
                return query.get("access_type") == "offline" and (is_first or is_asked)
            case "codex":
                return "offline_access" in query["scope"].split()
            case _:
                return True

    def _check(self, query: dict[str, str]) -> None:
        for name in ("client_id", "redirect_uri", "response_type", "scope", "state"):
            if not query.get(name):
                raise Refused(f"Missing required parameter: {name}", kind="invalid_request")
        if query["client_id"] != CLIENT_IDS[self._of.kind]:
            raise Refused("The OAuth client was not found.", status=401, kind="invalid_client")
        if not self._takes(query["redirect_uri"]):
            raise Refused("The redirect URI is not registered for this client.", kind="redirect_uri_mismatch")
        if query["response_type"] != "code":
            raise Refused("response_type must be code", kind="unsupported_response_type")
        strange = [scope for scope in query["scope"].split() if scope not in self._of.scopes]
        if strange:
            raise Refused(f"Unknown scope: {strange[0]}", kind="invalid_scope")
        for name, values in self._of.fixed:
            wrong = [value for value in query.get(name, "").split() if value not in values]
            if wrong:
                raise Refused(f"{name} cannot be {wrong[0]}", kind="invalid_request")
        self._check_pkce(query)

    def _takes(self, uri: str) -> bool:
        try:
            return self._of.takes(uri, self._accounts.codex_ports)
        except ValueError:  # from taking the address apart
            return False

    def _check_pkce(self, query: dict[str, str]) -> None:
        challenge = query.get("code_challenge")
        if challenge is None:
            if self._of.needs_pkce or query["redirect_uri"] == _GOOGLE_PAGE:
                raise Refused("Missing required parameter: code_challenge", kind="invalid_request")
            return
        if query.get("code_challenge_method") != "S256":
            raise Refused("code_challenge_method must be S256", kind="invalid_request")
        if not _CHALLENGE.fullmatch(challenge):
            raise Refused("code_challenge is not a base64url SHA-256 digest", kind="invalid_request")


def _landing(uri: str, base: str) -> str:
    """Where the browser goes: to the real vendors never, their own pages are here too."""
    return base + urlsplit(uri).path if uri in _CLAUDE_PAGES or uri == _GOOGLE_PAGE else uri


def _claude_takes(uri: str, _: frozenset[int]) -> bool:
    """Any port of localhost, as its command line tool listens on any; or the page that shows the code."""
    parts = urlsplit(uri)
    is_local = parts.scheme == "http" and parts.hostname == "localhost" and parts.path == "/callback"
    return uri in _CLAUDE_PAGES or (is_local and not parts.query and not parts.fragment)


def _codex_takes(uri: str, ports: frozenset[int]) -> bool:
    return uri in {f"http://localhost:{port}/auth/callback" for port in ports}


def _google_takes(uri: str, _: frozenset[int]) -> bool:
    """Any port and path of the loopback: installed applications need not register them."""
    parts = urlsplit(uri)
    return uri == _GOOGLE_PAGE or (parts.scheme == "http" and parts.hostname in _LOOPBACK and not parts.fragment)


CLAUDE = Registration(
    kind="claude",
    title="Claude",
    scopes=frozenset(
        {"org:create_api_key", "user:profile", "user:inference", "user:sessions:claude_code"}
        | {"user:mcp_servers", "user:file_upload"}
    ),
    takes=_claude_takes,
    needs_pkce=True,
    returns_scope=False,
    fixed=(("code", ("true",)),),
)
CODEX = Registration(
    kind="codex",
    title="ChatGPT",
    scopes=frozenset({"openid", "profile", "email", "offline_access", "api.connectors.read", "api.connectors.invoke"}),
    takes=_codex_takes,
    needs_pkce=True,
    returns_scope=True,
    fixed=(
        ("prompt", ("login", "none", "consent")),
        ("id_token_add_organizations", ("true", "false")),
        ("codex_cli_simplified_flow", ("true", "false")),
    ),
)
GOOGLE = Registration(
    kind="gemini",
    title="Google",
    scopes=frozenset(
        {"openid", "email", "profile", _GOOGLE + "cloud-platform"}
        | {_GOOGLE + "userinfo.email", _GOOGLE + "userinfo.profile"}
    ),
    takes=_google_takes,
    needs_pkce=False,
    returns_scope=True,
    fixed=(("access_type", ("offline", "online")), ("prompt", ("none", "consent", "select_account", "login"))),
)
