"""Asking a token endpoint, and what it answers.

Vendors vary in what they add and leave out, and that is taken as it comes. What would do harm is not: a token that
cannot stand in a header line, a lifetime that nobody means, a token of a kind that we could not use.

Source: RFC 6749 4.1.3, 5 and 6, checked 2026-11-24.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlencode

from msgspec import Struct, structs

from cliproxy.oauth.answers import Refusal, as_number, as_text, ask, is_success, read_object, read_refusal
from cliproxy.oauth.base import (
    Answered,
    Denied,
    Exchange,
    Expired,
    GrantRevoked,
    Misconfigured,
    OAuthError,
    Tokens,
    Unavailable,
)
from cliproxy.wire.http import Address, HttpRequest
from cliproxy.wire.json import encode
from cliproxy.wire.secrets import Secret

Fields = Mapping[str, str | Secret]
"""What is sent, in that order."""

_TOKEN = re.compile(r"[\x21-\x7e]{1,16384}")
_MAX_LIFETIME = 10 * 366 * 86_400.0
_TYPES: dict[str, str] = {
    "form": "application/x-www-form-urlencoded",
    "json": "application/json",
}
_NOT_THERE = frozenset({404, 405})
_CLIENT_REFUSED = frozenset({"invalid_client", "unauthorized_client", "redirect_uri_mismatch", "invalid_scope"})


class TokenEndpoint(Struct, frozen=True, kw_only=True):
    """One vendor's endpoint. `setting` is the section of the configuration that names its client.

    `dead` are error codes, and `dead_statuses` statuses, that end a grant beyond `invalid_grant`. `elsewhere` is asked
    when the address says that there is no such endpoint, as after a move.
    """

    vendor: str
    setting: str
    address: Address
    agent: bytes
    elsewhere: Address | None = None
    encoding: Literal["form", "json"] = "form"
    dead: frozenset[str] = frozenset()
    dead_statuses: frozenset[int] = frozenset()


class Granted(Struct, frozen=True):
    """`rest` are the members of the answer that are no tokens."""

    tokens: Tokens
    rest: dict[str, object]


def redeem(endpoint: TokenEndpoint, fields: Fields) -> Exchange[Granted]:
    """Tokens for a code. Raises OAuthError; a code works once, so nothing is tried again."""
    answered = yield from _asked(endpoint, fields)
    if is_refused(answered):
        raise redemption_error(endpoint, refusal_of(answered, fields))
    return read_granted(endpoint.vendor, answered)


def renew(endpoint: TokenEndpoint, fields: Fields) -> Exchange[Granted]:
    """Tokens for a refresh token. Raises OAuthError."""
    answered = yield from _asked(endpoint, fields)
    if is_refused(answered):
        raise renewal_error(endpoint, refusal_of(answered, fields))
    return read_granted(endpoint.vendor, answered)


def request_to(endpoint: TokenEndpoint, fields: Fields) -> HttpRequest:
    plain = {name: value.reveal() if isinstance(value, Secret) else value for name, value in fields.items()}
    body = encode(plain) if endpoint.encoding == "json" else urlencode(plain, errors="replace").encode()
    head = (
        b"content-type: %b\r\naccept: application/json\r\nuser-agent: %b\r\n"
        % (_TYPES[endpoint.encoding].encode(), endpoint.agent)
    )  # fmt: skip
    return HttpRequest(b"POST", endpoint.address.origin, target_of(endpoint.address), head, body)


def target_of(address: Address) -> bytes:
    return address.prefix.encode() or b"/"


def is_refused(answered: Answered) -> bool:
    """Whether it is an error: by its status, or by its words in spite of it."""
    return not is_success(answered) or bool((read_object(answered.body) or {}).get("error"))


def refusal_of(answered: Answered, fields: Fields) -> Refusal:
    return read_refusal(answered, [value for value in fields.values() if isinstance(value, Secret)])


def redemption_error(endpoint: TokenEndpoint, refusal: Refusal) -> OAuthError:
    """Why a login failed."""
    common = _common_error(endpoint, refusal)
    if common is not None:
        return common
    if refusal.code == "expired_token":
        return Expired(told=refusal.told)
    return Denied(f"{endpoint.vendor} did not accept the login; start it again.", told=refusal.told)


def renewal_error(endpoint: TokenEndpoint, refusal: Refusal) -> OAuthError:
    """Why a refresh failed. Only what is known to be final ends the grant: all else may pass."""
    client = refusal.code in _CLIENT_REFUSED
    dead = refusal.code == "invalid_grant" or refusal.code in endpoint.dead
    if dead or (refusal.status in endpoint.dead_statuses and not client):
        return GrantRevoked(told=refusal.told)
    return _common_error(endpoint, refusal) or _unavailable(endpoint, refusal)


def read_granted(vendor: str, answered: Answered) -> Granted:
    """The tokens in an answer. Raises Unavailable, saying nothing of what stood there."""
    members = read_object(answered.body)
    if members is None:
        raise Unavailable(f"{vendor}'s login service gave an answer that cannot be read.")
    kind = members.get("token_type")
    if kind is not None and as_text(kind).lower() not in ("", "bearer"):
        raise Unavailable(f"{vendor}'s login service gave a token of a kind that cannot be used.")
    access = _token(vendor, members, "access_token")
    if not access:
        raise Unavailable(f"{vendor}'s login service answered without an access token.")
    tokens = Tokens(
        access=access,
        refresh=_token(vendor, members, "refresh_token"),
        id_token=_token(vendor, members, "id_token"),
        lifetime=_lifetime(vendor, members.get("expires_in")),
    )
    rest = {name: value for name, value in members.items() if not name.endswith("_token")}
    return Granted(tokens, rest)


def is_token(text: str) -> bool:
    """Whether `text` may stand in a header line."""
    return bool(_TOKEN.fullmatch(text))


def _asked(endpoint: TokenEndpoint, fields: Fields) -> Exchange[Answered]:
    answered = yield from ask(request_to(endpoint, fields))
    if answered.status in _NOT_THERE and endpoint.elsewhere is not None:
        moved = structs.replace(endpoint, address=endpoint.elsewhere)
        answered = yield from ask(request_to(moved, fields))
    return answered


def _token(vendor: str, members: Mapping[str, object], name: str) -> Secret:
    value = members.get(name)
    if value is None or value == "":
        return Secret()
    if not isinstance(value, str) or not is_token(value):
        raise Unavailable(f"{vendor}'s login service gave something else than text for `{name}`.")
    return Secret(value)


def _lifetime(vendor: str, value: object) -> float:
    """Seconds, as a number or as a text of one; 0 when it is not told."""
    seconds = 0.0 if value is None or value == "" else as_number(value)
    if not 0 <= seconds <= _MAX_LIFETIME:
        raise Unavailable(f"{vendor}'s login service gave a lifetime that cannot be meant.")
    return seconds


def _common_error(endpoint: TokenEndpoint, refusal: Refusal) -> OAuthError | None:
    if refusal.code in _CLIENT_REFUSED:
        return Misconfigured(
            f"{endpoint.vendor} refused the client that asks; check `{endpoint.setting}` in the configuration.",
            told=refusal.told,
        )
    if refusal.code == "access_denied":
        return Denied(told=refusal.told)
    is_no_answer = refusal.status < 400 and not refusal.code
    if is_no_answer or refusal.status >= 500 or refusal.status in (404, 405, 408, 425, 429):
        return _unavailable(endpoint, refusal)
    return None


def _unavailable(endpoint: TokenEndpoint, refusal: Refusal) -> Unavailable:
    return Unavailable(
        f"{endpoint.vendor}'s login service answered with HTTP {refusal.status}.",
        told=refusal.told,
        retry_after=refusal.retry_after,
    )
