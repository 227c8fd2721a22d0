"""Keeping what a login gave: the file of an account that is new, or that logged in again.

The same name is the same account, and its file is replaced: credentials and what the vendor says about the account are
the new ones. What an operator has set there stays, and so does what nobody here knows. Should the file be somebody
else's all the same, because two addresses come to one name, the new one gets a name of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial

import msgspec

from cliproxy.oauth.answers import as_object
from cliproxy.providers.accounts import NewFile
from cliproxy.providers.logins.registry import login_named
from cliproxy.stores.auth_files import AuthFiles
from cliproxy.wire import json
from cliproxy.wire.json_edits import BadJson

# What a login tells anew, in every shape that a file may have. Something that it left out has ended with the old login.
_RENEWED = frozenset(
    {"access_token", "account_id", "account_uuid", "auto", "checked", "client_id", "client_secret", "email", "expired"}
    | {"expires_at", "expiry", "id_token", "last_refresh", "organization_name", "organization_uuid", "project_id"}
    | {"refresh_token", "resource_url", "scopes", "token", "token_type", "token_uri", "type", "universe_domain"}
)
_RAW = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ATTEMPTS = 5


class _SomebodyElses(Exception):
    """The file is of another account."""


class _Appeared(Exception):
    """There is a file where there was none a moment ago."""


def keep(files: AuthFiles, new: NewFile) -> str:
    """Write the file; the name that it has got. Blocks. Raises OSError or ValueError."""
    for name in _names(new):
        try:
            _put(files, name, new)
        except _SomebodyElses:
            continue
        return name
    raise FileExistsError(None, "the files of that name are other accounts")


def _put(files: AuthFiles, name: str, new: NewFile) -> None:
    content = json.encode(new.members) + b"\n"
    for _ in range(_ATTEMPTS):
        try:
            files.rewrite(name, partial(_merged, new))
        except FileNotFoundError:
            try:
                files.save(name, content, _expect_nothing)
            except _Appeared:
                continue
        except BadJson:  # nobody can use what stands there
            files.save(name, content)
        return
    raise BlockingIOError(None, "another program keeps changing it")


def _names(new: NewFile) -> Iterator[str]:
    yield new.name
    who = hashlib.sha256(str(new.members.get("email") or "").encode()).hexdigest()[:8]
    yield f"{new.name.removesuffix('.json')}-{who}.json"


def _expect_nothing(before: bytes | None) -> None:
    if before is not None:
        raise _Appeared


def _merged(new: NewFile, before: bytes) -> bytes:
    old = _RAW.decode(before)
    known = as_object(msgspec.json.decode(before)) or {}
    if not _is_same(known, new):
        raise _SomebodyElses
    kept = {name: value for name, value in old.items() if name not in _RENEWED and name not in new.members}
    return json.encode({**new.members, **kept}) + b"\n"


def _is_same(known: dict[str, object], new: NewFile) -> bool:
    """Whether both are of one account. A file that does not say whose it is has its name from it."""
    kind, email = str(known.get("type") or ""), str(known.get("email") or "")
    wanted = str(new.members.get("email") or "")
    is_same_kind = not kind or login_named(kind) is login_named(str(new.members.get("type") or ""))
    return is_same_kind and (not email or email.strip().casefold() == wanted.casefold())
