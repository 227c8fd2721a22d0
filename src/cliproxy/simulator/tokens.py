"""Where codes and refresh tokens become access tokens: the token endpoints of Claude, Codex, Google and Qwen.

Claude takes JSON, the others forms; Codex takes JSON too, but only to refresh. Each refuses in its own words.

Sources: RFC 6749 section 5, https://developers.google.com/identity/protocols/oauth2/native-app,
https://github.com/openai/codex (login), https://github.com/QwenLM/qwen-code (qwenOAuth2), checked 2026-10-20.
"""

import hmac
from collections.abc import Callable, Mapping

import msgspec

from cliproxy.simulator.accounts import (
    CLIENT_IDS,
    GOOGLE_CLIENT_SECRET,
    Accounts,
    Code,
    Dead,
    Death,
    Issued,
    Kind,
    digest_of,
)
from cliproxy.simulator.device import DEVICE_GRANT, DeviceLogin
from cliproxy.simulator.exchange import (
    FORM_BODY,
    JSON_BODY,
    Json,
    Received,
    Refused,
    Reply,
    read_json,
    whole,
    write_json,
)

Fields = Mapping[str, str]

_UNCACHED = (("cache-control", "no-store"),)
_CLAUDE_FIELDS = frozenset(
    {"grant_type", "client_id", "code", "state", "redirect_uri", "code_verifier", "refresh_token", "scope"}
    | {"expires_in"}
)
# How OpenAI calls the death of a refresh token, and what it says.
_OPENAI_DEATHS: dict[Death, tuple[str, str]] = {
    "unknown": ("refresh_token_invalidated", "Your session has ended. Please log in again."),
    "revoked": ("refresh_token_invalidated", "Your session has ended. Please log in again."),
    "expired": ("refresh_token_expired", "Your refresh token has expired. Please try signing in again."),
    "reused": (
        "refresh_token_reused",
        "Your refresh token has already been used to generate a new access token. Please try signing in again.",
    ),
}


class Tokens:
    """The token endpoints of all vendors."""

    def __init__(self, accounts: Accounts, devices: DeviceLogin) -> None:
        self._accounts = accounts
        self._devices = devices

    def claude(self, received: Received) -> Reply:
        """POST /v1/oauth/token."""
        fields = _json_fields(received)
        strange = fields.keys() - _CLAUDE_FIELDS
        if strange:
            raise Refused(f"Unknown field: {min(strange)}", kind="invalid_request")
        _check_client(fields, "claude", status=401)
        match fields.get("grant_type"):
            case "authorization_code":
                code = self._redeemed(fields, "claude")
                if not hmac.compare_digest(code.state.encode(), _wanted(fields, "state").encode()):
                    raise _bad_code()
                issued = self._opened(code)
            case "refresh_token":
                issued = self._renewed(fields, "claude", _plain_death)
            case grant:
                raise _unsupported(grant)
        account = issued.account
        answer = _answer(issued, has_refresh=True) | {
            "organization": {"uuid": account.companion, "name": f"{account.email}'s Organization"},
            "account": {"uuid": account.id, "email_address": account.email},
        }
        return _written(answer)

    def codex(self, received: Received) -> Reply:
        """POST /oauth/token."""
        fields = _json_fields(received) if received.media_type == JSON_BODY else _form_fields(received)
        _check_client(fields, "codex", status=401)
        match fields.get("grant_type"):
            case "authorization_code" if received.media_type == FORM_BODY:
                issued = self._opened(self._redeemed(fields, "codex"))
            case "refresh_token":
                issued = self._renewed(fields, "codex", _openai_death)
            case grant:
                raise _unsupported(grant)
        return _written(_answer(issued, has_refresh=True) | _id_token(issued))

    def codex_revoke(self, received: Received) -> Reply:
        """POST /oauth/revoke; unknown tokens are as good as revoked."""
        fields = _json_fields(received) if received.media_type == JSON_BODY else _form_fields(received)
        self._accounts.withdraw("codex", _wanted(fields, "token"))
        return _written({})

    def google(self, received: Received) -> Reply:
        """POST /token."""
        fields = _form_fields(received)
        _check_client(fields, "gemini", status=401)
        if "client_secret" not in fields:
            raise Refused("client_secret is missing.", kind="invalid_request")
        if not hmac.compare_digest(fields["client_secret"].encode(), GOOGLE_CLIENT_SECRET.encode()):
            raise Refused("The provided client secret is invalid.", status=401, kind="invalid_client")
        match fields.get("grant_type"):
            case "authorization_code":
                issued = self._opened(self._redeemed(fields, "gemini"))
                answer = _answer(issued, has_refresh=bool(issued.refresh))
            case "refresh_token":
                issued = self._renewed(fields, "gemini", _google_death)
                answer = _answer(issued, has_refresh=False)
            case grant:
                raise _unsupported(grant)
        return _written(answer | _id_token(issued))

    def qwen(self, received: Received) -> Reply:
        """POST /api/v1/oauth2/token."""
        fields = _form_fields(received)
        _check_client(fields, "qwen", status=400)
        has_refresh = True
        match fields.get("grant_type"):
            case grant if grant == DEVICE_GRANT:
                code, verifier = _wanted(fields, "device_code"), _wanted(fields, "code_verifier")
                issued = self._devices.redeem(code, verifier)
            case "refresh_token":
                issued = self._renewed(fields, "qwen", _plain_death)
                has_refresh = self._accounts.qwen_rotates
            case grant:
                raise _unsupported(grant)
        resource = self._accounts.resource_of(received.base)
        return _written(_answer(issued, has_refresh=has_refresh) | ({"resource_url": resource} if resource else {}))

    def _redeemed(self, fields: Fields, kind: Kind) -> Code:
        """The code's consent, with everything it is bound to proved."""
        name, redirect_uri = _wanted(fields, "code"), _wanted(fields, "redirect_uri")
        code = self._accounts.take_code(name)
        if code is None or code.account.kind != kind:
            raise _bad_code()
        if redirect_uri != code.redirect_uri:
            raise Refused("The redirect_uri is not the one that the code was given for.", kind="redirect_uri_mismatch")
        if code.challenge and digest_of(_wanted(fields, "code_verifier")) != code.challenge:
            raise Refused("Invalid code verifier.", kind="invalid_grant")
        return code

    def _opened(self, code: Code) -> Issued:
        return self._accounts.open_grant(code.account, code.scope, wants_refresh=code.wants_refresh)

    def _renewed(self, fields: Fields, kind: Kind, refused: Callable[[Death], Refused]) -> Issued:
        try:
            return self._accounts.renew(kind, _wanted(fields, "refresh_token"))
        except Dead as dead:
            raise refused(dead.death) from dead


def refuse(refused: Refused, request_id: str) -> Reply:
    """As RFC 6749 has it; `kind` is the error's name."""
    body: Json = {"error": refused.kind or "invalid_request", "error_description": refused.message}
    return Reply(status=refused.status, headers=_UNCACHED, frames=(write_json(body),))


def refuse_as_openai(refused: Refused, request_id: str) -> Reply:
    error: Json = {
        "message": refused.message,
        "type": "invalid_request_error",
        "param": None,
        "code": refused.kind or "invalid_request",
    }
    return Reply(status=refused.status, headers=_UNCACHED, frames=(write_json({"error": error}),))


def _written(answer: Mapping[str, object]) -> Reply:
    return Reply(headers=_UNCACHED, frames=(write_json(answer),))


def _answer(issued: Issued, *, has_refresh: bool) -> dict[str, object]:
    answer: dict[str, object] = {
        "access_token": issued.access,
        "token_type": "Bearer",
        "expires_in": whole(issued.lifetime),
        "scope": issued.scope,
    }
    return answer | ({"refresh_token": issued.refresh} if has_refresh and issued.refresh else {})


def _id_token(issued: Issued) -> dict[str, str]:
    return {"id_token": issued.id_token} if "openid" in issued.scope or "userinfo" in issued.scope else {}


def _json_fields(received: Received) -> Fields:
    if received.media_type != JSON_BODY:
        raise Refused("The body must be JSON.", status=415, kind="invalid_request")
    try:
        fields = read_json(received.body)
    except msgspec.DecodeError as error:
        raise Refused("The body is not valid JSON.", kind="invalid_request") from error
    if not isinstance(fields, dict):
        raise Refused("The body is no JSON object.", kind="invalid_request")
    texts = {name: value for name, value in fields.items() if isinstance(value, str)}
    strange = [name for name in fields if name not in texts and name != "expires_in"]
    if strange:
        raise Refused(f"{strange[0]} must be a string", kind="invalid_request")
    return texts


def _form_fields(received: Received) -> Fields:
    if received.media_type != FORM_BODY:
        raise Refused("The body must be a form.", kind="invalid_request")
    return received.form()


def _wanted(fields: Fields, name: str) -> str:
    value = fields.get(name)
    if not value:
        raise Refused(f"Missing required parameter: {name}", kind="invalid_request")
    return value


def _check_client(fields: Fields, kind: Kind, *, status: int) -> None:
    if _wanted(fields, "client_id") != CLIENT_IDS[kind]:
        raise Refused("The OAuth client was not found.", status=status, kind="invalid_client")


def _bad_code() -> Refused:
    return Refused("Invalid 'code' in request.", kind="invalid_grant")


def _unsupported(grant: str | None) -> Refused:
    if not grant:
        return Refused("Missing required parameter: grant_type", kind="invalid_request")
    return Refused(f"Unsupported grant type: {grant}", kind="unsupported_grant_type")


def _plain_death(death: Death) -> Refused:
    return Refused("Refresh token not found or invalid", kind="invalid_grant")


def _google_death(death: Death) -> Refused:
    says = "Bad Request" if death == "unknown" else "Token has been expired or revoked."
    return Refused(says, kind="invalid_grant")


def _openai_death(death: Death) -> Refused:
    code, says = _OPENAI_DEATHS[death]
    return Refused(says, status=401, kind=code)
