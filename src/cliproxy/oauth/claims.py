"""What an identity token says about its owner.

The signature is not checked: the token came over TLS from the one who issued it, and nothing is permitted on the
strength of it. Source: RFC 7519 3, OpenID Connect Core 3.1.3.7 (6.), checked 2026-11-24.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode
from collections.abc import Mapping

from cliproxy.oauth.answers import as_object, read_object
from cliproxy.wire.secrets import Secret

_MAX_LENGTH = 64 * 1024


def read_claims(token: Secret) -> dict[str, object]:
    """The claims in a JSON Web Token; none when it is something else."""
    text = token.reveal()
    parts = text.split(".", 3)
    if len(text) > _MAX_LENGTH or len(parts) != 3:
        return {}
    try:
        payload = urlsafe_b64decode(parts[1].encode("ascii") + b"=" * (-len(parts[1]) % 4))
    except (UnicodeEncodeError, binascii.Error):
        return {}
    return read_object(payload) or {}


def claims_within(claims: Mapping[str, object], name: str) -> dict[str, object]:
    """The claims of one namespace; none when it is not there or no object."""
    return as_object(claims.get(name)) or {}
