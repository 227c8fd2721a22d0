"""Who may manage: the management key, from where it may come, and how guessing is slowed down.

The order of the checks decides what a stranger learns. Without a key in the configuration there is no Management API
at all; who is locked out, or calls from another machine where that is off, learns nothing about keys; a missing key is
told from a wrong one.

bcrypt is slow on purpose. So a key that was right once is remembered, as a digest under a secret of this process, until
another hash is stored; and keys to be checked wait in line for the one thread that checks them, however many callers
present however many keys. Whoever waits there is looked at again when its turn comes: of a hundred guesses that one
address sends at once, five are checked.

Programs on this machine are never locked out: one with an old key would lock its owner out, and so could a stranger
through a proxy that we do not know of. Their failures are answered late instead.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from msgspec import Struct

from cliproxy.canon.errors import Forbidden, NotFound, Unauthenticated
from cliproxy.config.schema import Config
from cliproxy.gateway.callers import Caller, caller_of
from cliproxy.gateway.exchange import Exchange
from cliproxy.gateway.management_key import matches
from cliproxy.wire.http import Headers
from cliproxy.wire.secrets import Secret

MOST_FAILURES = 5
BAN_SECONDS = 30 * 60.0
FORGET_SECONDS = 2 * 3600.0
MOST_CALLERS = 10_000
LOCAL_DELAY_SECONDS = 0.2

_MOST_PRESENTED = 4
"""How many different keys of one request are looked at: real ones have one, or two."""


class Gate:
    """`password` is a second key, from outside of the file: it opens the gate also from other machines, and also where
    the file has no key. `monotonic` gives seconds; `pause` waits for some."""

    def __init__(
        self,
        password: Secret,
        monotonic: Callable[[], float],
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._secret = secrets.token_bytes(32)
        self._password = self._digest(password.reveal().encode("utf-8", "surrogatepass")) if password else b""
        self._strangers = _Strangers(monotonic)
        self._pause = pause
        self._known = ("", b"")
        self._turn = asyncio.Semaphore(1)
        self._checking: asyncio.Task[bool] | None = None

    def exists(self, config: Config) -> bool:
        """Whether there is a Management API."""
        return bool(self._password or config.management_key)

    async def admit(self, config: Config, exchange: Exchange) -> None:
        """Raises NotFound when there is no Management API, Forbidden, or Unauthenticated."""
        if not self.exists(config):
            raise NotFound
        caller = caller_of(exchange, config.trusted_proxies)
        self._strangers.refuse_banned(caller)
        if not (caller.is_local or config.management_allows_remote or self._password):
            raise Forbidden("remote management disabled")
        presented = _presented(exchange.headers)
        if not presented:
            self._strangers.count_failure(caller)
            raise await self._refusal(caller, "missing management key")
        if not await self._is_key(presented, config.management_key.reveal(), caller):
            raise await self._refusal(caller, "invalid management key")
        self._strangers.forgive(caller)

    async def _is_key(self, presented: list[bytes], stored: str, caller: Caller) -> bool:
        if self._is_known(presented, stored):
            return True
        await self._turn.acquire()
        self._checking = asyncio.create_task(self._check(presented, stored, caller))
        return await asyncio.shield(self._checking)

    async def _check(self, presented: list[bytes], stored: str, caller: Caller) -> bool:
        """To be started in turn. Goes on to its end when the caller leaves: a thread cannot be stopped, and the guess
        counts. Raises Forbidden when the caller was locked out while it waited."""
        try:
            self._strangers.refuse_banned(caller)
            if self._is_known(presented, stored):
                return True
            match = await asyncio.to_thread(_match, presented, stored)
            if match is None:
                self._strangers.count_failure(caller)
            else:
                self._known = (stored, self._digest(match))
            return match is not None
        finally:
            self._turn.release()

    def _is_known(self, presented: list[bytes], stored: str) -> bool:
        """Whether one is the password, or the key that was right before. All are compared, in constant time."""
        remembered = self._known[1] if stored and self._known[0] == stored else b""
        digests = [self._digest(key) for key in presented]
        found = [hmac.compare_digest(digest, good) for digest in digests for good in (self._password, remembered)]
        return any(found)

    async def _refusal(self, caller: Caller, message: str) -> Unauthenticated:
        if caller.is_local:
            await self._pause(LOCAL_DELAY_SECONDS)
        return Unauthenticated(message)

    def _digest(self, key: bytes) -> bytes:
        return hashlib.blake2b(key, key=self._secret).digest()


class _Record(Struct):
    failures: int
    seen: float
    banned_until: float = 0.0


class _Strangers:
    """Failures of callers from elsewhere, the least recent first."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._records: OrderedDict[str, _Record] = OrderedDict()

    def refuse_banned(self, caller: Caller) -> None:
        record = self._records.get(caller.name)
        if caller.is_local or record is None:
            return
        left = record.banned_until - self._monotonic()
        if left > 0:
            minutes, seconds = divmod(max(1, round(left)), 60)
            raise Forbidden(
                f"IP banned due to too many failed attempts. Try again in {minutes}m{seconds}s", retry_after=left
            )

    def count_failure(self, caller: Caller) -> None:
        """The last one that is tolerated begins the ban; the count starts anew after it."""
        if caller.is_local:
            return
        now = self._monotonic()
        record = self._records.setdefault(caller.name, _Record(0, now))
        self._records.move_to_end(caller.name)
        record.seen = now
        record.failures += 1
        if record.failures >= MOST_FAILURES:
            record.failures, record.banned_until = 0, now + BAN_SECONDS
        self._forget_old(now)

    def forgive(self, caller: Caller) -> None:
        self._records.pop(caller.name, None)

    def _forget_old(self, now: float) -> None:
        while self._records:
            oldest = next(iter(self._records.values()))
            if len(self._records) <= MOST_CALLERS and now - oldest.seen < FORGET_SECONDS:
                return
            self._records.popitem(last=False)


def _presented(headers: Headers) -> list[bytes]:
    """Every key that the request carries, each once, as bytes."""
    keys: dict[bytes, None] = {}
    for name, value in headers:
        key = b""
        if name == b"x-management-key":
            key = value.strip()
        elif name == b"authorization":
            scheme, _, token = value.strip().partition(b" ")
            key = token.strip() if scheme.lower() == b"bearer" else value.strip()
        if key:
            keys[key] = None
    return list(keys)[:_MOST_PRESENTED]


def _match(presented: list[bytes], stored: str) -> bytes | None:
    return next((key for key in presented if matches(key, stored)), None)
