"""Qwen's login on another device: the code, the page where a person says yes or no, and the answer to each poll.

Source: RFC 8628 and https://github.com/QwenLM/qwen-code (qwenOAuth2), checked 2026-10-20. Unlike the RFC the vendor
answers `slow_down` with 429, and wants PKCE.
"""

import re
import secrets
from urllib.parse import quote

from cliproxy.simulator import pages
from cliproxy.simulator.accounts import CLIENT_IDS, SCOPES, Accounts, Device, Issued, digest_of
from cliproxy.simulator.exchange import FORM_BODY, Received, Refused, Reply, whole, write_json

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"

_CHALLENGE = re.compile(r"^[A-Za-z0-9_-]{43}$")
_ALPHABET = "BCDFGHJKLMNPQRSTVWXZ"


class DeviceLogin:
    """The device flow; what is under way stands in `accounts.devices`, by device code."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    def begin(self, received: Received) -> Reply:
        """POST /api/v1/oauth2/device/code."""
        if received.media_type != FORM_BODY:
            raise Refused("The body must be a form.", kind="invalid_request")
        fields = received.form()
        if fields.get("client_id") != CLIENT_IDS["qwen"]:
            raise Refused("The OAuth client was not found.", kind="invalid_client")
        scope = fields.get("scope", "")
        if not scope or not set(scope.split()) <= set(SCOPES["qwen"]):
            raise Refused("The requested scope is invalid.", kind="invalid_scope")
        challenge = fields.get("code_challenge", "")
        if fields.get("code_challenge_method") != "S256" or not _CHALLENGE.fullmatch(challenge):
            raise Refused("code_challenge must be a base64url SHA-256 digest, method S256", kind="invalid_request")
        user_code = "-".join("".join(secrets.choice(_ALPHABET) for _ in range(4)) for _ in range(2))
        device_code = secrets.token_urlsafe(32)
        lasts = self._accounts.device_lifetime
        self._accounts.devices[device_code] = Device(user_code, challenge, scope, self._accounts.now() + lasts)
        page = f"{received.base}/authorize"
        answer: dict[str, object] = {
            "device_code": device_code,
            "user_code": user_code,
            "verification_uri": page,
            "verification_uri_complete": f"{page}?user_code={quote(user_code)}&client=qwen-code",
            "expires_in": whole(lasts),
        }
        if self._accounts.interval is not None:
            answer["interval"] = whole(self._accounts.interval)
        return Reply(headers=(("cache-control", "no-store"),), frames=(write_json(answer),))

    def page(self, received: Received) -> Reply:
        """GET /authorize: the question."""
        device = self._asked(received)
        return pages.consent("Qwen", f"A program with the code {device.user_code} wants to act for you.")

    def decide(self, received: Received) -> Reply:
        """POST /authorize: the answer."""
        device = self._asked(received)
        form = received.form()
        match form.get("answer"):
            case "approve":
                device.account = self._accounts.find("qwen", form.get("email") or pages.ANYBODY)
                return pages.message("Approved", "You may close this page.")
            case "deny":
                device.is_denied = True
                return pages.message("Denied", "The program gets no access.")
            case _:
                raise Refused("answer is neither approve nor deny")

    def redeem(self, device_code: str, verifier: str) -> Issued:
        """One poll. Raises Refused until somebody said yes, and for ever when somebody said no or time is up."""
        device = self._accounts.devices.get(device_code)
        if device is None or device.expires_at <= self._accounts.now():
            raise Refused("The device code has expired.", kind="expired_token")
        if digest_of(verifier) != device.challenge:
            raise Refused("Invalid code verifier.", kind="invalid_grant")
        self._check_pace(device)
        if device.is_denied:
            raise Refused("The user denied the request.", kind="access_denied")
        if device.account is None:
            raise Refused("The authorization request is still pending.", kind="authorization_pending")
        del self._accounts.devices[device_code]
        return self._accounts.open_grant(device.account, device.scope)

    def _check_pace(self, device: Device) -> None:
        now, interval = self._accounts.now(), self._accounts.interval
        since, device.asked_at = now - device.asked_at, now
        if self._accounts.slow_downs > 0:
            self._accounts.slow_downs -= 1
        elif interval is None or since >= interval:
            return
        raise Refused("The client is polling too quickly.", status=429, kind="slow_down")

    def _asked(self, received: Received) -> Device:
        user_code = received.query.get("user_code")
        for device in list(self._accounts.devices.values()):
            if device.user_code == user_code and device.expires_at > self._accounts.now():
                return device
        raise Refused("There is no login with this code, or it is too late.", kind="expired_token")
