"""What comes back from the browser, by itself or pasted by a person who could only copy an address.

People paste what they see: the whole address, from `?` on, the code with its state behind `#` as some vendors show it,
or the code alone. An address may have lost its scheme, and anything may have white space around it.
"""

from __future__ import annotations

from urllib.parse import parse_qsl

from msgspec import Struct

from cliproxy.wire.secrets import Secret

_MAX_LENGTH = 8192
_MAX_FIELDS = 50
_OUR_FIELDS = ("code=", "state=", "error=")


class Callback(Struct, frozen=True):
    """`state` is "" when none came along: only a bare code may lack it. `error` is the vendor's word for a refusal,
    `description` its sentence; both are unchecked text from outside."""

    code: Secret = Secret()
    state: str = ""
    error: str = ""
    description: str = ""


def read_callback(text: str) -> Callback:
    """The parts of a pasted address, query or code. Raises ValueError with a sentence that repeats nothing of it."""
    text = text.strip()
    if len(text) > _MAX_LENGTH:
        raise ValueError("That is too long to be the address of a login.")
    query = _query_of(text)
    if query is not None:
        return read_query(query)
    code, _, state = text.partition("#")
    if not code or not code.isprintable() or any(letter in code for letter in " ?&<>\"'"):
        raise ValueError("That holds no code; paste the whole address that the browser ended at.")
    return Callback(code=Secret(code), state=state)


def read_query(query: str) -> Callback:
    """The parts of a callback's query. Raises ValueError when there is neither a code nor an error in it."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError as error:
        raise ValueError("That is not the address of a login: it has too many parts.") from error
    fields: dict[str, str] = {}
    for name, value in pairs:
        fields.setdefault(name, value)
    code, _, behind = fields.get("code", "").strip().partition("#")
    state = fields.get("state", "").strip() or behind
    callback = Callback(
        Secret(code), state, fields.get("error", "").strip(), fields.get("error_description", "").strip()
    )
    if not callback.code and not callback.error:
        raise ValueError("The address holds neither a code nor an error; paste the one that the login ended at.")
    return callback


def _query_of(text: str) -> str | None:
    """The query in an address, or None when `text` is no address. Behind `#` the fragment may be one too."""
    before, mark, query = text.partition("?")
    if mark and (not before or "/" in before or ":" in before):
        address, _, fragment = query.partition("#")
        return f"{address}&{fragment}" if fragment.startswith(_OUR_FIELDS) else address
    if text.startswith(_OUR_FIELDS):
        return text.partition("#")[0]
    if "://" in text:
        return text.partition("#")[2]
    return None
