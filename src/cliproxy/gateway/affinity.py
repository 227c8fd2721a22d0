"""Which conversation a request belongs to, so that it can stay with the account whose prompt cache is warm.

The first sign that is there counts: a header, a field of the body, what the conversation began with. What names a
conversation is only compared, never kept: keys are digests. Two callers who use the same name share an account, and
nothing else.
"""

import hashlib
from collections.abc import Callable, Iterator

import msgspec
from msgspec import Raw

from cliproxy.canon.errors import CallerFault
from cliproxy.dialects.base import Dialect, Opening
from cliproxy.routing.pool import Lease, Pool
from cliproxy.routing.session import Session
from cliproxy.wire.http import Headers

_HEADERS = (
    b"x-claude-code-session-id",
    b"x-session-id",
    b"session-id",
    b"session_id",
    b"x-session-affinity",
    b"conversation_id",
    b"thread-id",
)
"""Best first. Not among them: `x-client-request-id`, which for most clients names one request (where Codex puts its
thread there, `session-id` stands beside it), and `x-codex-*`, which speak of windows and turns."""
_NAMING = frozenset(_HEADERS)
_INSTRUCTING = frozenset({"system", "developer"})
_EDGE_BYTES = 1024
_TURNS = 16
_PIECES = 16
"""Openings whose last pieces agree in length, head and tail are taken for one: a key costs the same however much was
said. The last ones, since what a user said stands behind the instructions."""

_AT_ONCE = 64
_LONG_BYTES = 16 * 1024

_parts = msgspec.json.Decoder(list[dict[str, Raw] | str])


class Bindings:
    """Conversations that begin: which account answered the first message. Telling them apart takes longer than serving a
    small request, so a few dozen are told at once, and before anybody looks for one."""

    def __init__(self, pool: Pool, monotonic: Callable[[], float]) -> None:
        self._pool = pool
        self._monotonic = monotonic
        self._waiting: list[tuple[Dialect, bytes, Lease, str]] = []

    def begin(self, dialect: Dialect, body: bytes, lease: Lease, model: str) -> None:
        """`model` is its public name."""
        self._waiting.append((dialect, body, lease, model))
        if len(self._waiting) >= _AT_ONCE or len(body) > _LONG_BYTES:
            self.settle()

    def settle(self) -> None:
        """Afterwards every conversation that has begun can be followed."""
        waiting, self._waiting = self._waiting, []
        for dialect, body, lease, model in waiting:
            if (session := session_of(dialect, (), body)) is not None:
                self._pool.bind((session.key, model), lease.candidate.account.id, self._monotonic())


def may_follow(dialect: Dialect, headers: Headers, body: bytes) -> bool:
    """Whether anything says that there was an earlier request of the same conversation, or may have been one."""
    if any(sign in body for sign in dialect.follow_signs):
        return True
    return any(name in _NAMING for name, _ in headers)


def session_of(dialect: Dialect, headers: Headers, body: bytes) -> Session | None:
    """None when nothing tells the conversation, as in a body that is no request. Never raises."""
    given = {name: value for name, value in headers if name in _NAMING and value}
    if given:
        name = next(name for name in _HEADERS if name in given)
        return Session(_key(b"header " + name, given[name]))
    try:
        opening = dialect.opening(body)
    except CallerFault:
        return None
    if opening.name:
        return Session(_key(b"field " + opening.named_in.encode(), opening.name.encode()))
    return _begun(opening)


def _begun(opening: Opening) -> Session | None:
    """By what stands before the model's answer to the first turn of a user: that stays the same from turn to turn.

    All of it counts, since some clients begin with a turn about the machine they run on, alike in each conversation;
    and some begin with the model's greeting.
    """
    said = [opening.instructions]
    is_asked = is_answered = False
    for turn in opening.turns:
        if turn.role == "user":
            is_asked = True
        elif is_asked and turn.role not in _INSTRUCTING:
            is_answered = True
            break
        if len(said) <= _TURNS:
            said.append(turn.content)
    if not is_asked:
        return None
    pieces = list(_pieces(said, opening.moving))
    return Session(_key(b"opening", *pieces[-_PIECES:]), is_new=not is_answered)


def _pieces(said: list[Raw], moving: frozenset[str]) -> Iterator[Raw | bytes]:
    """What was said, as JSON: of a part its text, or else all of its members but the moving ones. So a text is the same
    whether it stands alone or in a list, which changes in some clients with a cache mark."""
    for content in said:
        kind = bytes(memoryview(content)[:1])
        if kind == b"[":
            yield from _pieces_of_parts(content, moving)
        elif kind != b"n":
            yield content


def _pieces_of_parts(content: Raw, moving: frozenset[str]) -> Iterator[Raw | bytes]:
    try:
        parts = _parts.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        yield content
        return
    for part in parts:
        if isinstance(part, str):
            yield part.encode()
        elif "text" in part:
            yield part["text"]
        else:
            yield from (value for name, value in part.items() if name not in moving)


def _key(kind: bytes, *pieces: Raw | bytes) -> bytes:
    """`kind` keeps signs apart that happen to have the same value."""
    mixed: list[bytes | memoryview] = [kind]
    for piece in pieces:
        view = memoryview(piece)
        mixed.append(b"\0%d\0" % len(view))
        mixed += (view,) if len(view) <= 2 * _EDGE_BYTES else (view[:_EDGE_BYTES], view[-_EDGE_BYTES:])
    return hashlib.blake2b(b"".join(mixed), digest_size=16).digest()
