"""What every kind of credential file has in common: the settings in it, the times, and the names.

Files were written by several versions of another program, and by hand. Which mistakes end a file's use follows from
what the member is for:

* A setting that restricts (`disabled`, `proxy_url`, `prefix`, `excluded_models`) and cannot be read: the file is not
  used, since without it the account would be used in a way that its owner ruled out.
* A token of a wrong type: the file is not used, there is nothing to use it with.
* Everything else: a warning, and the member counts as absent.

Member names have `_`, as the Go program writes them; `-` is understood where the first is absent.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from cliproxy.config import rules
from cliproxy.oauth.answers import as_list, as_number, as_object
from cliproxy.oauth.base import GrantRevoked, Misconfigured, Tokens
from cliproxy.oauth.tokens import is_token
from cliproxy.providers.accounts import AccountFile, Members, Trouble
from cliproxy.wire.secrets import Secret

UNKNOWN_TIME = "0001-01-01T00:00:00Z"
"""What the Go program writes, and can read, where it knows no time."""

_MAX_WEIGHT = 1_000_000
_MAX_PRIORITY = 2**63 - 1
_MAX_NAME_BYTES = 100
_MILLISECONDS_FROM = 1e11
_END_OF_TIME = 253_402_300_800.0
_YES = frozenset({"true", "1", "yes", "on"})
_NO = frozenset({"", "false", "0", "no", "off"})
_UNSAFE = re.compile(r'[/\\:*?"<>|]')


class _Unusable(Exception):
    """What makes a file unusable, as a sentence."""


# -- reading ----------------------------------------------------------------------------------------------------------


def read_account(
    name: str, kind: str, members: Members, read_tokens: Callable[[Members], Tokens], expires: Iterable[object] = ()
) -> AccountFile | Trouble:
    """What a file of one kind says. `expires` are further places where the end of the access token may stand."""
    reading = _Reading(members)
    try:
        tokens = read_tokens(members)
        return AccountFile(
            name=name,
            kind=kind,
            email=reading.line("email"),
            account_id=reading.header_value("account_id"),
            project_id=reading.line("project_id"),
            resource_url=reading.line("resource_url"),
            expires_at=reading.latest("expired", [*expires, members.get("expired"), members.get("expiry")]),
            refreshed_at=reading.latest("last_refresh", [members.get("last_refresh")]),
            is_renewable=bool(tokens.refresh),
            is_disabled=reading.switch("disabled"),
            priority=reading.whole("priority", 0, -_MAX_PRIORITY, _MAX_PRIORITY),
            weight=reading.whole("weight", 1, 0, _MAX_WEIGHT),
            prefix=reading.prefix(),
            proxy_url=reading.proxy_url(),
            note=reading.line("note"),
            excluded_models=reading.excluded_models(),
            aliases=reading.aliases(),
            headers=reading.headers(),
            warnings=tuple(reading.warnings),
        )
    except (_Unusable, Misconfigured) as error:
        return Trouble(str(error))


def token_in(members: Members, name: str) -> Secret:
    """The token of that name, empty when there is none. Raises Misconfigured when something else stands there."""
    value = members.get(name)
    if value is None:
        return Secret()
    text = value.strip() if isinstance(value, str) else ""
    if not isinstance(value, str) or (text and not is_token(text)):
        raise Misconfigured(f"The file's `{name}` is not a token; log in again.")
    return Secret(text)


def usable(tokens: Tokens) -> Tokens:
    """`tokens`, if something can be done with them. Raises Misconfigured."""
    if not tokens.access and not tokens.refresh:
        raise Misconfigured("The file holds no token; log in again.")
    return tokens


def refresh_token_of(tokens: Tokens) -> Secret:
    """What a renewal spends. Raises GrantRevoked when there is none, as in a file that serves until it ends."""
    if not tokens.refresh:
        raise GrantRevoked("The account cannot be renewed: its file holds no refresh token. Log in again.")
    return tokens.refresh


def read_time(value: object) -> float | None:
    """Epoch seconds of an RFC 3339 time, of any precision, or of a number; 0 for none, None for something else.

    Times before 1970 are how some programs say that they know none.
    """
    if value is None or value == "":
        return 0.0
    number = as_number(value)
    if not math.isnan(number):
        seconds = max(number / 1000 if number > _MILLISECONDS_FROM else number, 0.0)
        return seconds if seconds < _END_OF_TIME else None
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value.strip().upper())
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return max(moment.timestamp(), 0.0)
    except (ValueError, OverflowError):
        return None


class _Reading:
    """One pass over a file's members."""

    def __init__(self, members: Members) -> None:
        self._members = members
        self.warnings: list[str] = []

    def line(self, name: str) -> str:
        value = self._member(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            self._warn(name, "is not text")
            return ""
        return one_line(value)

    def header_value(self, name: str) -> str:
        text = self.line(name)
        if problem := rules.header_value(text):
            self._warn(name, problem)
            return ""
        return text

    def latest(self, name: str, values: Iterable[object]) -> float:
        times = [read_time(value) for value in values]
        if None in times:
            self._warn(name, "is not a time such as `2026-01-31T12:00:00Z`")
        return max((time for time in times if time is not None), default=0.0)

    def switch(self, name: str) -> bool:
        value = self._member(name)
        if isinstance(value, bool) or value is None:
            return bool(value)
        word = str(value).strip().lower() if isinstance(value, str | int) else "?"
        if word not in _YES | _NO:
            raise _Unusable(f"`{name}` is neither true nor false.")
        return word in _YES

    def whole(self, name: str, default: int, lowest: int, highest: int) -> int:
        value = self._member(name)
        if value is None or value == "":
            return default
        if isinstance(value, int) and not isinstance(value, bool):
            number = value
        else:
            told = as_number(value)
            if math.isnan(told) or not told.is_integer():
                self._warn(name, f"is not a whole number; {default} is used")
                return default
            number = int(told)
        if not lowest <= number <= highest:
            number = min(max(number, lowest), highest)
            self._warn(name, f"is beyond what is possible; {number} is used")
        return number

    def prefix(self) -> str:
        text = self._restriction("prefix").strip("/")
        if problem := rules.name_prefix(text):
            raise _Unusable(f"`prefix` {problem}.")
        return text

    def proxy_url(self) -> Secret:
        text = self._restriction("proxy_url")
        if problem := rules.proxy_url(text):
            raise _Unusable(f"`proxy_url` is unusable: {problem}.")
        return Secret(text)

    def excluded_models(self) -> tuple[str, ...]:
        value = self._member("excluded_models")
        if value is None:
            return ()
        names = value.split(",") if isinstance(value, str) else as_list(value)
        texts = [name.strip().lower() for name in names if isinstance(name, str)]
        if not isinstance(value, str | list) or len(texts) != len(names):
            raise _Unusable("`excluded_models` is not a list of model names.")
        return tuple(dict.fromkeys(text for text in texts if text))

    def aliases(self) -> tuple[tuple[str, str], ...]:
        """As the configuration writes them, a list of `name` and `alias`; or an object, what callers say first."""
        value = self._member("model_aliases")
        mapping = as_object(value)
        if mapping is not None:
            rows: list[tuple[object, object]] = [(name, alias) for alias, name in mapping.items()]
        else:
            entries = [as_object(entry) or {} for entry in as_list(value)]
            rows = [(entry.get("name"), entry.get("alias")) for entry in entries]
        texts = [(name, alias) for name, alias in rows if isinstance(name, str) and isinstance(alias, str)]
        pairs = [(one_line(name), one_line(alias)) for name, alias in texts if name.strip() and alias.strip()]
        if len(pairs) != len(rows) or (value is not None and mapping is None and not isinstance(value, list)):
            self._warn("model_aliases", "has entries without `name` and `alias`; these are left out")
        return tuple(dict.fromkeys(pairs))

    def headers(self) -> tuple[tuple[str, Secret], ...]:
        value = self._member("headers")
        mapping = as_object(value)
        if value is not None and mapping is None:
            self._warn("headers", "is not an object of names and values")
        lines: dict[str, tuple[str, Secret]] = {}
        for name, text in (mapping or {}).items():
            if rules.header_name(name) or not isinstance(text, str) or rules.header_value(text):
                self._warn("headers", "has an entry that cannot be sent; it is left out")
                continue
            lines[name.lower()] = (name, Secret(text))
        return tuple(lines.values())

    def _restriction(self, name: str) -> str:
        value = self._member(name)
        if value is not None and not isinstance(value, str):
            raise _Unusable(f"`{name}` is not text.")
        return value.strip() if isinstance(value, str) else ""

    def _member(self, name: str) -> object:
        return self._members.get(name, self._members.get(name.replace("_", "-")))

    def _warn(self, name: str, problem: str) -> None:
        warning = f"`{name}` {problem}."
        if warning not in self.warnings:
            self.warnings.append(warning)


def one_line(text: str) -> str:
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


# -- writing ----------------------------------------------------------------------------------------------------------


def written_time(at: float) -> str:
    """An epoch time as RFC 3339 in UTC, whole seconds."""
    return datetime.fromtimestamp(math.floor(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def written_end(tokens: Tokens, now_at: float) -> str:
    """When fresh tokens end, as files say it."""
    return written_time(now_at + tokens.lifetime) if tokens.lifetime else UNKNOWN_TIME


def fresh_members(tokens: Tokens, now_at: float) -> dict[str, object]:
    """The members that a refresh sets in files that keep their tokens flat. What was not given is not among them."""
    given = {"id_token": tokens.id_token, "refresh_token": tokens.refresh}
    return {
        **{name: token.reveal() for name, token in given.items() if token},
        "access_token": tokens.access.reveal(),
        "last_refresh": written_time(now_at),
        "expired": written_end(tokens, now_at),
        **{name: value for name, value in tokens.extra.items() if value},
    }


def file_name(prefix: str, email: str, now_at: float, suffix: str = "") -> str:
    """A name for a new file. Without an e-mail address the time stands in for it, so that no login overwrites that of
    somebody else; `prefix` may then not be empty."""
    who = safe_part(email) or str(milliseconds(now_at))
    return "-".join(part for part in (prefix, who, safe_part(suffix)) if part) + ".json"


def milliseconds(now_at: float) -> int:
    return math.floor(now_at * 1000)


def safe_part(text: str) -> str:
    """`text` as a part of a file name: no separators, nothing invisible, no dot or space at its ends, not too long.

    Letters keep their case. What had to be cut gets a digest, so that two long texts stay two names.
    """
    visible = "".join(letter if letter.isprintable() else "_" for letter in text.strip())
    part = _UNSAFE.sub("_", visible).strip(". ")
    if len(part.encode()) > _MAX_NAME_BYTES:
        cut = part.encode()[: _MAX_NAME_BYTES - 9].decode(errors="ignore")
        part = f"{cut}-{hashlib.sha256(part.encode()).hexdigest()[:8]}"
    return part if part.strip("_. -") else ""
