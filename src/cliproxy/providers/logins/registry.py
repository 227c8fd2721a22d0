"""The logins that there are, and the kinds of files that come of them."""

from __future__ import annotations

from collections.abc import Callable

from cliproxy.providers.accounts import AccountFile, Login, Members, Trouble
from cliproxy.providers.logins import claude, codex, gemini, qwen

LOGINS: tuple[Login, ...] = (claude.LOGIN, codex.LOGIN, gemini.LOGIN, qwen.LOGIN)

_READERS: dict[str, Callable[[str, Members], AccountFile | Trouble]] = {
    kind: module.read_file for module in (claude, codex, gemini, qwen) for kind in module.KINDS
}
_MAX_SHOWN = 40


def login_named(name: str) -> Login | None:
    """The login that a path or a command calls so; case does not matter."""
    wanted = name.strip().lower()
    return next((login for login in LOGINS if wanted in login.names), None)


def read_file(name: str, members: Members) -> AccountFile | Trouble:
    """What a credential file of any kind says. A `type` that is not ours is nothing wrong: other programs keep their
    files in the same folder."""
    kind = members.get("type")
    kind = "" if kind is None else kind
    reader = _READERS.get(kind.strip().lower()) if isinstance(kind, str) else None
    if reader is None:
        shown = "".join(letter for letter in str(kind) if letter.isprintable() and letter != "`")[:_MAX_SHOWN]
        called = f" `{shown}`" if isinstance(kind, str) else ""
        return Trouble(f"ignored: unknown type{called}", is_foreign=True)
    return reader(name, members)
