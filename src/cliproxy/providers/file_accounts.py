"""How a credential file becomes an account: what all four kinds of such accounts have in common.

There may be ten thousand of them, so what is equal among them is one object: the address, the header lines, the models.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from cliproxy.config.schema import Config
from cliproxy.providers.accounts import AccountFile
from cliproxy.providers.base import Ask, Proxies, account_id, address_of, head_lines
from cliproxy.routing.accounts import Account, Served
from cliproxy.wire.http import Address, Headers

_NO_NAMES: frozenset[bytes] = frozenset()


def account_of_file(
    provider: str, file: AccountFile, models: tuple[Served, ...], families: tuple[str, ...], project: str = ""
) -> Account:
    """The account of a file, or of one of its projects: its id hangs on the file's name, never on what stands in it.

    A model that the file gives another name to is known by that name only, as in the configuration.
    """
    taken = {alias for _, alias in file.aliases}
    renamed = tuple(name for name, _ in file.aliases if name not in taken)
    return Account(
        id=account_id(provider, file.name, project) if project else account_id(provider, file.name),
        provider=provider,
        label=f"{file.name} ({project})" if project else file.name,
        priority=file.priority,
        weight=file.weight,
        prefix=file.prefix.strip("/"),
        serves=_renamed(file, models) if file.aliases else models,
        families=families,
        excluded=file.excluded_models + renamed,
    )


def served(names: Iterable[str]) -> tuple[Served, ...]:
    return tuple(Served(name, name) for name in names)


def shared_address(url: str, file: AccountFile, config: Config, proxies: Proxies) -> Address:
    """`url` with the proxy that leads there for this file. Raises ValueError when it is no address."""
    return _one_address(address_of(url, file.proxy_url, config, proxies))


def shared_head(lines: Mapping[str, str], file: AccountFile) -> tuple[bytes, frozenset[bytes]]:
    """The constant header lines of a file's account, and the names that the file itself sets."""
    if not file.headers:
        return _one_head(head_lines(lines, {})), _NO_NAMES
    extra = dict(file.headers)
    return head_lines(lines, extra), frozenset(name.lower().encode() for name in extra)


def bearer(ask: Ask) -> Headers:
    return ((b"authorization", b"Bearer " + ask.token.reveal().encode()),)


def _renamed(file: AccountFile, models: tuple[Served, ...]) -> tuple[Served, ...]:
    renamed = {name for name, _ in file.aliases}
    own = tuple(Served(alias, name) for name, alias in file.aliases)
    taken = {model.public for model in own}
    return own + tuple(model for model in models if model.name not in renamed and model.public not in taken)


@lru_cache(maxsize=1024)
def _one_address(address: Address) -> Address:
    """The first of all equal addresses."""
    return address


@lru_cache(maxsize=1024)
def _one_head(head: bytes) -> bytes:
    """The first of all equal heads. Only those without a file's own headers come here, so none holds a secret."""
    return head
