"""Reading what login services say: objects, and refusals in the shapes that vendors give them.

Everything here takes any bytes and never raises but for the errors of `base`. What a vendor says is shown to people, so
it is made harmless first: one line, no control characters, a bounded length, and no secret, neither one that we sent
nor one that stands in the answer.

Source: RFC 6749 5.2 for the plain shape; the nested ones are those of Google, OpenAI and Anthropic. Checked 2026-11-24.
"""

from __future__ import annotations

import math
import re
from collections.abc import Generator, Iterable, Mapping
from email.utils import parsedate_to_datetime
from urllib.parse import quote

import msgspec
from msgspec import Struct

from cliproxy.oauth.base import Answered, Unavailable
from cliproxy.wire.http import Headers, HttpRequest, header
from cliproxy.wire.json import mended
from cliproxy.wire.secrets import Secret
from cliproxy.wire.waits import retry_after

_MAX_BODY_BYTES = 1024 * 1024
_MAX_TOLD = 300
_SHORTEST_SECRET = 6
_MAX_WAIT = 86_400.0
_CENSORED = "[secret]"
_decoder = msgspec.json.Decoder(object)

_SECRET_MEMBERS = frozenset(
    {"access_token", "refresh_token", "id_token", "client_secret", "code", "code_verifier", "device_code", "api_key"}
)
# What tokens of these vendors look like, should one be told that we never sent.
_TOKEN = re.compile(
    r"(?<![A-Za-z0-9])(?:sk-|rt_|at_|ya29\.|1//|AIza|eyJ)[\w./+=~-]{8,}|(?<![\w/.:%?&=-])[\w+=~-]{40,}(?![\w/])",
    re.ASCII,
)


class Refusal(Struct, frozen=True):
    """An answer that is no success. `code` is the vendor's word for it, "" when it has none; `told` is fit to show."""

    status: int
    code: str = ""
    told: str = ""
    retry_after: float | None = None


def ask(request: HttpRequest) -> Generator[HttpRequest, Answered | None, Answered]:
    """The whole answer to one request."""
    answered = yield request
    if answered is None:
        raise Unavailable(f"`{request.origin.host}` gave no answer.")
    return answered


def is_success(answered: Answered) -> bool:
    return 200 <= answered.status < 300


def read_json(body: bytes) -> object:
    """The JSON value in `body`; None when there is none."""
    if len(body) > _MAX_BODY_BYTES:
        return None
    body = body.removeprefix(b"\xef\xbb\xbf")
    for text in (body, mended(body)):
        try:
            return _decoder.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError):
            continue
        except RecursionError:
            return None
    return None


def read_object(body: bytes) -> dict[str, object] | None:
    """The JSON object in `body`; None when there is none, or something else."""
    return as_object(read_json(body))


def as_object(value: object) -> dict[str, object] | None:
    """`value` as an object with names; None when it is something else."""
    try:
        return msgspec.convert(value, dict[str, object])
    except msgspec.ValidationError:
        return None


def as_list(value: object) -> list[object]:
    """`value` as a list; an empty one when it is something else."""
    try:
        return msgspec.convert(value, list[object])
    except msgspec.ValidationError:
        return []


def as_text(value: object) -> str:
    """`value` as a trimmed text; "" when it is something else."""
    return value.strip() if isinstance(value, str) else ""


def as_number(value: object) -> float:
    """A number, or a text of one; NaN for everything else, also for what has no end."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return math.nan
    return number if math.isfinite(number) else math.nan


def read_refusal(answered: Answered, secrets: Iterable[Secret] = ()) -> Refusal:
    """What an answer says that refuses. `secrets` are those that the request held."""
    body = read_json(answered.body)
    members = as_object(next(iter(as_list(body)), body)) or {}
    code, said = _code_and_words(members)
    told = f"{code}: {said}" if code and said else code or said
    hidden = [*secrets, *(Secret(value) for value in _values_of(members) if value != code)]
    return Refusal(answered.status, harmless(code, hidden), harmless(told, hidden), _wait(answered.headers))


def harmless(text: str, secrets: Iterable[Secret] = ()) -> str:
    """`text` fit to be shown to a person."""
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    for secret in sorted((secret.reveal() for secret in secrets), key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            for spelling in {" ".join(secret.split()), quote(secret, safe="", errors="replace")}:
                text = text.replace(spelling, _CENSORED)
    text = _TOKEN.sub(_CENSORED, text)
    return text if len(text) <= _MAX_TOLD else f"{text[: _MAX_TOLD - 1].rstrip()}…"


def _code_and_words(members: Mapping[str, object]) -> tuple[str, str]:
    error = members.get("error")
    inner = as_object(error)
    if inner is not None:
        return _first(inner, "code", "status", "type", "reason"), _first(inner, "message", "error_description")
    words = _first(members, "error_description", "message", "detail", "error_message", "msg")
    inner = as_object(members.get("detail"))
    if inner is not None and not words:
        return _first(inner, "code", "type", "error"), _first(inner, "message", "error_description")
    return as_text(error) or _first(members, "code", "error_code"), words


def _first(members: Mapping[str, object], *names: str) -> str:
    return next((text for name in names if (text := as_text(members.get(name)))), "")


def _values_of(members: Mapping[str, object]) -> Iterable[str]:
    return [text for name in _SECRET_MEMBERS if (text := as_text(members.get(name)))]


def _wait(headers: Headers) -> float | None:
    """What the vendor asks us to wait. A date is counted from the vendor's own clock: its `date` header."""
    seconds = retry_after(headers, _date(headers))
    return None if seconds is None or not math.isfinite(seconds) else min(seconds, _MAX_WAIT)


def _date(headers: Headers) -> float:
    try:
        return parsedate_to_datetime(header(headers, b"date").decode("latin-1")).timestamp()
    except (ValueError, OverflowError):
        return math.nan
