"""The seam to logins under way. A gateway that offers none knows no state."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from cliproxy.canon.errors import NotFound


class LoginStatus(Struct, frozen=True):
    """`problem` says why a login failed; "" while it is pending, and when it ended well."""

    is_pending: bool
    problem: str = ""


class Callback(Struct, frozen=True):
    """What a vendor sent its user back with. `provider` is our name of it; one of `code` and `error` is there."""

    provider: str
    state: str
    code: str = ""
    error: str = ""


class Logins(Protocol):
    """Every method takes a state of permitted form, known or not."""

    def status(self, state: str) -> LoginStatus | None:
        """None for a state that is unknown or expired."""
        ...

    async def finish(self, callback: Callback) -> None:
        """Go on with the login that waits for `callback`. Raises NotFound, InvalidRequest or Conflict."""
        ...

    def cancel(self, state: str) -> bool:
        """Whether there was a login to cancel; it saves nothing any more."""
        ...


class NoLogins:
    """Logins of a gateway that offers none."""

    def status(self, state: str) -> LoginStatus | None:
        return None

    async def finish(self, callback: Callback) -> None:
        raise NotFound("unknown or expired state")

    def cancel(self, state: str) -> bool:
        return False
