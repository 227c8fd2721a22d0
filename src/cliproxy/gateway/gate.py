"""Who may manage: the management key, from where it may come, and how guessing is slowed down."""

from __future__ import annotations

from cliproxy.canon.errors import Forbidden, NotFound, Unauthenticated
from cliproxy.config.schema import Config
from cliproxy.gateway.exchange import Exchange
from cliproxy.wire.http import header


class Gate:
    async def admit(self, config: Config, exchange: Exchange) -> None:
        """Raises NotFound when there is no management key, Forbidden, or Unauthenticated."""
        if not config.management_key:
            raise NotFound
        presented = header(exchange.headers, b"x-management-key").decode()
        presented = presented or header(exchange.headers, b"authorization").decode().removeprefix("Bearer ")
        if not presented:
            raise Unauthenticated("missing management key")
        if presented != config.management_key.reveal():
            raise Unauthenticated("invalid management key")
        if exchange.peer not in ("127.0.0.1", "::1"):
            raise Forbidden("remote management disabled")
