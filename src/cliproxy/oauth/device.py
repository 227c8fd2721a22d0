"""A login on another device: a code is shown here, typed or opened there, and asked for until somebody has answered.

    begin --> offered --(wait)--> asked --> pending    --(wait)--> asked ...
                                    |-----> slow down  --(wait longer)--> asked ...
                                    |-----> unreachable or overloaded: as slow down, it may pass
                                    |-----> granted, denied, expired: the end
    the time that was waited reaches the lifetime of the code: expired

The first question comes after the first wait: nobody answers in no time. The waits bound the questions, and so the
whole flow, whatever the vendor says.

Source: RFC 8628 3.2 to 3.5, checked 2026-11-24. Vendors differ: `slow_down` also comes as a 429, `expired_token` as a
401, and the interval or the lifetime may be missing or a text.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from msgspec import Struct

from cliproxy.oauth.answers import Refusal, as_number, as_text, ask, read_object
from cliproxy.oauth.base import Answered, Exchange, Expired, Pause, Unavailable
from cliproxy.oauth.tokens import (
    Fields,
    Granted,
    TokenEndpoint,
    is_refused,
    read_granted,
    redemption_error,
    refusal_of,
    request_to,
)
from cliproxy.wire.secrets import Secret

_INTERVAL = 5.0
_SLOWEST = 10.0
_SLOWER = 1.5
_LONGEST_INTERVAL = 60.0
_LIFETIME = 300.0
_LONGEST = 1800.0
_MAX_STATED = 86_400.0
_WAITING = frozenset({"authorization_pending", "slow_down"})


class DeviceOffer(Struct, frozen=True):
    """What the vendor offers. `url` leads to where `user_code` is asked for, or already filled in. Seconds."""

    url: str
    user_code: str
    device_code: Secret
    lifetime: float
    interval: float


def begin(endpoint: TokenEndpoint, fields: Fields) -> Exchange[DeviceOffer]:
    """A code for a new login. `endpoint` is the one for devices. Raises OAuthError."""
    answered = yield from ask(request_to(endpoint, fields))
    if is_refused(answered):
        raise redemption_error(endpoint, refusal_of(answered, fields))
    return _read_offer(endpoint.vendor, answered)


def wait_for(endpoint: TokenEndpoint, fields: Fields, offer: DeviceOffer) -> Exchange[Granted]:
    """The tokens, when somebody has said yes. Raises OAuthError; Expired when nobody did in time."""
    left = min(offer.lifetime, _LONGEST)
    interval = min(offer.interval, left)
    while (left := left - interval) >= 0:
        yield Pause(interval)
        answered = yield from _asked(endpoint, fields)
        if answered is not None and not is_refused(answered):
            return read_granted(endpoint.vendor, answered)
        refusal = Refusal(0, "slow_down") if answered is None else refusal_of(answered, fields)
        if not _is_waiting(refusal):
            raise redemption_error(endpoint, refusal)
        if refusal.code != "authorization_pending":
            interval = max(interval, min(interval * _SLOWER, _SLOWEST), refusal.retry_after or 0.0)
    raise Expired


def _asked(endpoint: TokenEndpoint, fields: Fields) -> Exchange[Answered | None]:
    """One question; None when it could not be asked."""
    try:
        return (yield from ask(request_to(endpoint, fields)))
    except Unavailable:
        return None


def _is_waiting(refusal: Refusal) -> bool:
    return refusal.code in _WAITING or refusal.status in (0, 408, 429) or refusal.status >= 500


def _read_offer(vendor: str, answered: Answered) -> DeviceOffer:
    members = read_object(answered.body) or {}
    device_code = as_text(members.get("device_code"))
    user_code = as_text(members.get("user_code"))
    url = as_text(members.get("verification_uri_complete")) or as_text(members.get("verification_uri"))
    lifetime = _seconds(members, "expires_in", _LIFETIME)
    interval = _seconds(members, "interval", _INTERVAL)
    if not device_code or not user_code.isprintable() or not _is_address(url) or not 0 < lifetime <= _MAX_STATED:
        raise Unavailable(f"{vendor}'s login service gave no code for a device.")
    if not 0 <= interval <= _MAX_STATED:
        interval = _INTERVAL
    return DeviceOffer(url, user_code, Secret(device_code), lifetime, min(max(interval, 1.0), _LONGEST_INTERVAL))


def _seconds(members: Mapping[str, object], name: str, default: float) -> float:
    """A number, or a text of one; the default when it is not told, NaN when it is something else."""
    value = members.get(name)
    return default if value is None or value == "" else as_number(value)


def _is_address(text: str) -> bool:
    """Whether a browser may be sent there."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and text.isprintable() and " " not in text
