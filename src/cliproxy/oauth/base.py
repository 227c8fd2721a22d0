"""What every OAuth exchange speaks: requests out, answers in, tokens or a reason at the end.

An exchange is a generator. It yields an `HttpRequest` and is sent an `Answered`, or yields a `Pause` and is sent None.
A request that got no answer is thrown into it as `Unavailable`, since it may know another way, or may try again. It
returns what it was for, or raises one of the errors below. It performs nothing, so it is tested with `next` and `send`,
and whoever drives it decides about proxies, deadlines and cancelling.

    OAuthError
    |-- Denied          the person or the vendor said no; starting again is up to the person
    |-- Expired         nobody answered in time
    |-- GrantRevoked    the refresh token is dead: only a new login helps
    |-- Misconfigured   something on our side is missing or wrong; the text says what to do
    `-- Unavailable     the vendor cannot answer now, or answers nonsense; trying later may help

Texts are for people and hold no token, code or verifier; `told` is the vendor's own wording, when there is one.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

from msgspec import Struct

from cliproxy.wire.http import Headers, HttpRequest
from cliproxy.wire.secrets import Secret


class Answered(Struct, frozen=True):
    """A vendor's whole answer."""

    status: int
    headers: Headers
    body: bytes


class Pause(Struct, frozen=True):
    """Wait before going on."""

    seconds: float


_T = TypeVar("_T")

Exchange = Generator[HttpRequest | Pause, Answered | None, _T]


class Tokens(Struct, frozen=True, kw_only=True):
    """What a token endpoint gave. `lifetime` is in seconds, 0 when it was not told.

    An empty `refresh` means that none was given: the old one, if any, stays in force. `extra` are the other members
    of the answer that an account file keeps, by their names there (`resource_url`, `email`, `account_id`...); what
    is not in it stays as it was. `client_id` and `client_secret` are those of the program that the tokens were given
    to, where a file says so: a refresh token is good for that program only.
    """

    access: Secret
    refresh: Secret = Secret()
    id_token: Secret = Secret()
    lifetime: float = 0.0
    extra: dict[str, str] = {}
    client_id: str = ""
    client_secret: Secret = Secret()


class OAuthError(Exception):
    """The exchange failed."""

    def __init__(self, message: str = "", *, told: str = "", retry_after: float | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())
        self.told = told
        self.retry_after = retry_after


class Denied(OAuthError):
    """The login was refused."""


class Expired(OAuthError):
    """The login was not completed in time."""


class GrantRevoked(OAuthError):
    """The account's refresh token is no longer valid; log in again."""


class Misconfigured(OAuthError):
    """A setting that this login needs is missing or wrong."""


class Unavailable(OAuthError):
    """The vendor's login service did not give a usable answer."""
