"""The client that Google's token endpoint wants to be asked by: an id, and a secret that is in no file of this
repository.

A refresh token works only together with the client that it was given to. So the secret is looked for by client, in this
order: the configuration and the environment for the configured client; the credential file itself; another credential
file of the same client; the vendor's own program on this machine.

Source: https://github.com/google-gemini/gemini-cli, packages/core/src/code_assist/oauth2.ts, checked 2026-11-24.
"""

from __future__ import annotations

import re

from msgspec import Struct

from cliproxy.config.schema import Config
from cliproxy.oauth.base import Misconfigured, Tokens
from cliproxy.providers.accounts import ClientSecrets
from cliproxy.wire.secrets import Secret

ENVIRONMENT_VARIABLE = "CLIPROXY_GEMINI_CLIENT_SECRET"

_MISSING = (
    "Google wants a client secret with this login, and none was found. Set "
    "`endpoints.gemini-cli.client-secret` in the configuration or `CLIPROXY_GEMINI_CLIENT_SECRET` in the environment; "
    "or install `@google/gemini-cli` on this machine, or add a credential file that has it as `token.client_secret`: "
    "it is found there."
)
_MISSING_FOREIGN = (
    "This account was given to another client (`token.client_id`) than the configured one, and the secret of that "
    "client was not found. Put it into the file as `token.client_secret`, or log in again."
)
_CONSTANT = re.compile(r"""\bOAUTH_CLIENT_(ID|SECRET)\w*\s*[=:]\s*(["'`])([\x21-\x7e]{4,200}?)\2""")


class GoogleClient(Struct, frozen=True):
    id: str
    secret: Secret


def client_for(config: Config, found: ClientSecrets, tokens: Tokens | None = None) -> GoogleClient:
    """The client to ask with: the one that `tokens` were given to, for a new login the configured one.

    Raises Misconfigured when its secret is nowhere; whoever has not searched for an installed program yet can do so
    then and begin again, since nothing was sent.
    """
    configured = config.endpoints.gemini_cli
    client_id = (tokens.client_id if tokens else "") or configured.client_id
    is_configured = client_id == configured.client_id
    places = (
        configured.client_secret if is_configured else Secret(),
        found.environment if is_configured else Secret(),
        tokens.client_secret if tokens else Secret(),
        found.files.get(client_id, Secret()),
        found.installed if is_configured else Secret(),
    )
    secret = next((secret for secret in places if secret), None)
    if secret is None:
        raise Misconfigured(_MISSING if is_configured else _MISSING_FOREIGN)
    return GoogleClient(client_id, secret)


def secret_in_javascript(text: str, client_id: str) -> Secret:
    """The secret that a text of the vendor's program pairs with `client_id`; empty when there is none.

    Both are constants, the id first; bundlers may add digits to their names. A secret beside another id is of no use.
    """
    current = ""
    early = Secret()
    for match in _CONSTANT.finditer(text):
        which, value = match[1], match[3]
        if which == "ID":
            if value == client_id and early:
                return early
            current, early = value, Secret()
        elif current == client_id:
            return Secret(value)
        elif not current:
            early = Secret(value)
    return Secret()
