"""Who the accounts are: keys of the configuration and credential files, those out of use too, each under one id.

What serves stands in the snapshot. The disabled are nowhere, so they are compiled here, alone: providers leave them out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TypeVar

from msgspec import Struct, structs

from cliproxy.config.schema import Config, UpstreamEntry
from cliproxy.gateway.accounts import Accounts
from cliproxy.gateway.plane import Plane
from cliproxy.gateway.runtime import Runtime
from cliproxy.gateway.snapshot import Snapshot
from cliproxy.providers.accounts import AccountFile
from cliproxy.providers.base import KeyProvider, Proxies, account_id
from cliproxy.routing.accounts import Account

_PLACE = re.compile(r"(?P<section>[a-z-]+)\[(?P<index>[0-9]+)\](?: .* #(?P<number>[0-9]+))?", re.DOTALL)
"""How the labels of keys begin: where in the file they stand."""
_UNKNOWN = "unknown"

_E = TypeVar("_E", bound=UpstreamEntry)


class Place(Struct, frozen=True, gc=False):
    """Where a key stands: in the section of that name, as its entry number `index` from 0. Gemini's plain keys are
    counted after the entries of `gemini-api-key`."""

    section: str
    index: int


class Member(Struct, frozen=True, gc=False):
    """One account. `source` is the credential file or the section of the configuration. `account` None: the file holds
    none, and `problem` says why. `file` None: it is a key, or no account."""

    id: str
    provider: str
    label: str
    source: str
    account: Account | None
    file: AccountFile | None = None
    is_file: bool = False
    is_disabled: bool = False
    problem: str = ""

    @property
    def haystack(self) -> str:
        """What a text is looked for in, in lower case."""
        file, account = self.file, self.account
        parts = [self.id, self.label, self.source, "" if account is None else account.prefix]
        if file is not None:
            parts += [file.email, file.note]
        return "\n".join(parts).lower()


def members(plane: Plane) -> dict[str, Member]:
    """All accounts by id. Thousands of them take a while: not for the event loop."""
    runtime, snapshot = plane.runtime, plane.runtime.snapshot
    plain_from = len(snapshot.config.gemini_api_key)
    found = {
        name: Member(
            name,
            upstream.account.provider,
            upstream.account.label,
            upstream.source or _section(upstream.account.label, plain_from),
            upstream.account,
            snapshot.files.get(upstream.source) if upstream.source else None,
            bool(upstream.source),
        )
        for name, upstream in snapshot.upstreams.items()
    }
    for account in _disabled_keys(snapshot.config, runtime.providers, runtime.proxies, found.keys()):
        source = _section(account.label, plain_from)
        found[account.id] = Member(account.id, account.provider, account.label, source, account, is_disabled=True)
    for member in (*_idle_files(runtime, snapshot), *_strange_files(plane, snapshot)):
        found[member.id] = member
    return found


def place_of(label: str) -> Place | None:
    """None for the label of a file."""
    match = _PLACE.fullmatch(label)
    return None if match is None else Place(match["section"], int(match["index"]))


def key_of(config: Config, runtime: Runtime, wanted: str) -> Place | None:
    """Where the key of that id stands in `config`; None when it is not there."""
    taken: set[str] = set()
    for provider in runtime.providers:
        for upstream in provider.upstreams(config, runtime.proxies):
            name = _distinct(upstream.account.id, taken)
            if name == wanted:
                return place_of(upstream.account.label)
            taken.add(name)
    for account in _disabled_keys(config, runtime.providers, runtime.proxies, taken):
        if account.id == wanted:
            return place_of(account.label)
    return None


def problem_of(accounts: Accounts, member: Member) -> tuple[str, bool]:
    """What is wrong with a file or its login, and whether it cannot serve because of that."""
    if member.problem or not member.is_file:
        return member.problem, bool(member.problem)
    renewals = accounts.vault.renewals(member.source)
    return renewals.problem, renewals.is_dead


def _section(label: str, plain_from: int) -> str:
    place = place_of(label)
    if place is None:
        return ""
    is_plain = place.section == "gemini-api-key" and place.index >= plain_from
    return "generative-language-api-key" if is_plain else place.section


# -- keys -------------------------------------------------------------------------------------------------------------


def _disabled_keys(
    config: Config, providers: Iterable[KeyProvider], proxies: Proxies, taken: Iterable[str]
) -> Iterator[Account]:
    """The accounts of disabled entries. One that is another's double gets an id beside those `taken`."""
    entries = (config.gemini_api_key, config.claude_api_key, config.codex_api_key, config.openai_compatibility)
    if not any(entry.disabled for section in entries for entry in section):
        return
    turned = structs.replace(
        config,
        generative_language_api_key=(),
        gemini_api_key=_turned(config.gemini_api_key),
        claude_api_key=_turned(config.claude_api_key),
        codex_api_key=_turned(config.codex_api_key),
        openai_compatibility=_turned(config.openai_compatibility),
    )
    known = set(taken)
    for provider in providers:
        for upstream in provider.upstreams(turned, proxies):
            account = structs.replace(upstream.account, id=_distinct(upstream.account.id, known))
            known.add(account.id)
            yield account


def _turned(entries: tuple[_E, ...]) -> tuple[_E, ...]:
    """The disabled entries in use and the others not, each at its index."""
    if not any(entry.disabled for entry in entries):
        return ()
    off = structs.replace(entries[0], disabled=True)
    return tuple(structs.replace(entry, disabled=False) if entry.disabled else off for entry in entries)


def _distinct(name: str, taken: Iterable[str]) -> str:
    """As the snapshot tells doubles apart."""
    number, distinct = 1, name
    while distinct in taken:
        number += 1
        distinct = f"{name}-{number}"
    return distinct


# -- files ------------------------------------------------------------------------------------------------------------


def _idle_files(runtime: Runtime, snapshot: Snapshot) -> Iterator[Member]:
    """Files that are accounts, but serve nothing."""
    for name, file in snapshot.files.items():
        if not snapshot.of_files.get(name):
            accounts = _accounts_of(runtime, snapshot, file)
            for account in accounts:
                yield Member(
                    account.id, account.provider, account.label, name, account, file, is_file=True, is_disabled=True
                )
            if not accounts:
                problem = "" if file.is_disabled else f"Nothing here serves accounts of the type `{file.kind}`."
                yield _accountless(name, file.kind, problem, file)


def _accounts_of(runtime: Runtime, snapshot: Snapshot, file: AccountFile) -> list[Account]:
    """The accounts that a disabled file would have."""
    provider = runtime.kinds.get(file.kind)
    if provider is None or not file.is_disabled:
        return []
    enabled = structs.replace(file, is_disabled=False)
    try:
        return [one.account for one in provider.account_upstreams(enabled, snapshot.config, runtime.proxies)]
    except ValueError:  # an address in it that is none
        return []


def _strange_files(plane: Plane, snapshot: Snapshot) -> Iterator[Member]:
    """Files in the folder that are no accounts."""
    for name, trouble in plane.accounts.problems.items():
        if name not in snapshot.files:
            yield _accountless(name, _UNKNOWN, trouble.problem)


def _accountless(name: str, kind: str, problem: str, file: AccountFile | None = None) -> Member:
    is_disabled = file is not None and file.is_disabled
    return Member(account_id("file", name), kind, name, name, None, file, True, is_disabled, problem)
