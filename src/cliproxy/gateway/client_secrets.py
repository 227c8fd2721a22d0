"""Client secrets from outside of the configuration: the environment, other credential files, an installed program.

Only Google wants one. Looking for it reads files, so it happens in a thread, and only when somebody needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cliproxy.config.schema import Config
from cliproxy.oauth.answers import as_object, as_text
from cliproxy.providers.accounts import ClientSecrets
from cliproxy.providers.logins.google_client import secret_in_javascript
from cliproxy.providers.logins.registry import login_named
from cliproxy.stores.auth_files import AuthFiles
from cliproxy.wire.secrets import Secret

Sources = Callable[[], Iterable[str]]
"""The texts of installed programs that may hold a client secret."""


class SecretSearch:
    """Call it for what can be found now. `environment` is what the operator says there; `told` is that alone, which needs
    no search."""

    def __init__(self, environment: Secret, files: AuthFiles, sources: Sources, config: Callable[[], Config]) -> None:
        self.told = ClientSecrets(environment)
        self._environment = environment
        self._files = files
        self._sources = sources
        self._config = config
        self._installed: dict[str, Secret] = {}

    def __call__(self) -> ClientSecrets:
        """Blocks. An installed program is looked at when nothing else has the secret, and remembered once found."""
        client = self._config().endpoints.gemini_cli
        found = self._in_files()
        if client.client_secret or self._environment or client.client_id in found:
            return ClientSecrets(self._environment, found)
        return ClientSecrets(self._environment, found, self._installed_for(client.client_id))

    def _in_files(self) -> dict[str, Secret]:
        found: dict[str, Secret] = {}
        for file in self._files.listed():
            if file.type != "unknown" and login_named(file.type) is not login_named("gemini"):
                continue
            try:
                members = self._files.load(file.name)
            except (OSError, ValueError):
                continue
            for place in (as_object(members.get("token")) or {}, members):
                client, secret = as_text(place.get("client_id")), as_text(place.get("client_secret"))
                if client and secret:
                    found.setdefault(client, Secret(secret))
        return found

    def _installed_for(self, client_id: str) -> Secret:
        known = self._installed.get(client_id)
        if known is None:
            secrets = (secret_in_javascript(text, client_id) for text in self._sources())
            known = next((secret for secret in secrets if secret), Secret())
            if known:
                self._installed[client_id] = known
        return known
