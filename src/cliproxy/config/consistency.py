"""What must hold between the values of a configuration, one function a rule.

A rule sees a Config whose values may not all be valid yet: what could not be read stands there as its default, so that
one pass reports everything. Rules yield paths; `document.read` knows their lines.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator

from msgspec import Struct

from cliproxy.config import rules
from cliproxy.config.schema import Config
from cliproxy.wire.secrets import Secret

# From the Go program's example file; people copy it and forget to change them.
PUBLISHED_KEYS = frozenset(Secret(f"your-api-key-{number}") for number in (1, 2, 3))


class Finding(Struct, frozen=True):
    path: str
    message: str
    is_error: bool = True


def listener_is_guarded(config: Config) -> Iterator[Finding]:
    if not (rules.is_loopback(config.host) or config.api_keys or config.allow_unauthenticated):
        yield Finding(
            "$.host",
            "other machines can reach this host and there are no `api-keys`; "
            "add one, listen on `127.0.0.1`, or set `allow-unauthenticated: true`",
        )


def client_keys_are_private(config: Config) -> Iterator[Finding]:
    for index, key in enumerate(config.api_keys):
        if key in PUBLISHED_KEYS:
            message = "stands in a published example, so everyone knows it; write a random key"
            yield Finding(f"$.api-keys[{index}]", message, is_error=False)


def provider_names_are_unique(config: Config) -> Iterator[Finding]:
    names = (entry.name.lower() for entry in config.openai_compatibility)
    for index, first in _repeated(names):
        if config.openai_compatibility[index].name:
            message = f"the name is taken by entry {first}; names are unique, case ignored: choose another"
            yield Finding(f"$.openai-compatibility[{index}].name", message)


def catalog_ids_are_unique(config: Config) -> Iterator[Finding]:
    for index, first in _repeated(row.id for row in config.models.catalog):
        if config.models.catalog[index].id:
            yield Finding(f"$.models.catalog[{index}].id", f"row {first} describes this model already; remove one")


def providers_have_addresses(config: Config) -> Iterator[Finding]:
    for index, entry in enumerate(config.openai_compatibility):
        if not entry.base_url:
            message = "`base-url` is missing; the entry stays inactive until it has one"
            yield Finding(f"$.openai-compatibility[{index}]", message, is_error=False)


def management_key_has_one_value(config: Config) -> Iterator[Finding]:
    flat, nested = config.remote_management_key, config.remote_management.secret_key
    if flat is not None and nested and flat != nested:
        message = "differs from `remote-management.secret-key`; this one is used, remove the other"
        yield Finding("$.remote-management-key", message, is_error=False)


def remote_access_has_one_value(config: Config) -> Iterator[Finding]:
    flat, nested = config.allow_remote_management, config.remote_management.allow_remote
    if flat is False and nested:
        message = "differs from `remote-management.allow-remote`; this one is used, remove the other"
        yield Finding("$.allow-remote-management", message, is_error=False)


def management_hash_is_whole(config: Config) -> Iterator[Finding]:
    if rules.is_broken_bcrypt(config.management_key.reveal()):
        flat = config.remote_management_key is not None
        message = "looks like a bcrypt hash but is not one; no key will match, write the plain key to have it hashed"
        yield Finding("$.remote-management-key" if flat else "$.remote-management.secret-key", message, is_error=False)


def keys_stand_once(config: Config) -> Iterator[Finding]:
    entry_lists = {
        "gemini-api-key": config.gemini_api_key,
        "claude-api-key": config.claude_api_key,
        "codex-api-key": config.codex_api_key,
    }
    for name, entries in entry_lists.items():
        for index, first in _repeated((entry.api_key, entry.base_url) for entry in entries):
            if entries[index].api_key:
                message = f"entry {first} has the same key and address; this one is ignored"
                yield Finding(f"$.{name}[{index}].api-key", message, is_error=False)


RULES: tuple[Callable[[Config], Iterator[Finding]], ...] = (
    listener_is_guarded,
    client_keys_are_private,
    provider_names_are_unique,
    catalog_ids_are_unique,
    providers_have_addresses,
    management_key_has_one_value,
    remote_access_has_one_value,
    management_hash_is_whole,
    keys_stand_once,
)


def _repeated(values: Iterable[Hashable]) -> Iterator[tuple[int, int]]:
    """(index, index of the first equal one) of each value that came before."""
    first: dict[Hashable, int] = {}
    for index, value in enumerate(values):
        if first.setdefault(value, index) != index:
            yield index, first[value]
