"""What vendors told last of each account's allowances.

Headers that tell of them come with every answer. They are kept as they came and read at once when the last reading is a
quarter of a second old: often enough to spare accounts that are low, and a bounded effort for those that answer
thousands of times a second. Whoever asks gets the last word in any case.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec import Struct

from cliproxy.providers.base import Upstream
from cliproxy.routing.limits import Limit
from cliproxy.routing.pool import Pool
from cliproxy.wire.http import Headers

_OFTEN_ENOUGH = 0.25
_MOST_MODELS = 64


class Told(Struct, frozen=True):
    """The limits of one account: of all of it under "", of a model under its name. `at` is epoch seconds."""

    at: float
    limits: Mapping[str, tuple[Limit, ...]]


class _Last(Struct):
    upstream: Upstream
    model: str = ""
    headers: Headers | None = None
    came: float = 0.0
    read: float = float("-inf")
    told: Told | None = None


class Allowances:
    """`monotonic` and `epoch` give seconds."""

    def __init__(self, pool: Pool, monotonic: Callable[[], float], epoch: Callable[[], float]) -> None:
        self._pool = pool
        self._monotonic = monotonic
        self._epoch = epoch
        self._last: dict[str, _Last] = {}
        self._restored: dict[str, Told] = {}
        self._changed: set[str] = set()

    def answered(self, upstream: Upstream, model: str, headers: Headers) -> None:
        """Take note of an answer that went well. `model` is the upstream's name."""
        account = upstream.account.id
        last = self._last.get(account)
        if last is None:
            last = self._last[account] = _Last(upstream, told=self._restored.pop(account, None))
        now = self._monotonic()
        last.upstream, last.model, last.headers, last.came = upstream, model, headers, now
        if now - last.read >= _OFTEN_ENOUGH:
            self._read(last)

    def refused(self, upstream: Upstream, model: str, headers: Headers, body: bytes) -> None:
        """Take note of a refusal, whose body may tell of limits, too."""
        limits = upstream.provider.limits(headers, body, self._epoch())
        if limits:
            account = upstream.account.id
            last = self._last.get(account)
            if last is None:
                last = self._last[account] = _Last(upstream, told=self._restored.pop(account, None))
            last.headers = None
            self._note(last, model, limits, self._monotonic())

    def told(self, account: str) -> Told | None:
        """What is known of an account's limits; None when its vendor has told nothing."""
        last = self._last.get(account)
        if last is None:
            return self._restored.get(account)
        if last.headers is not None:
            self._read(last)
        return last.told

    def take_changed(self) -> dict[str, Told]:
        """What is new since the last call."""
        changed, self._changed = self._changed, set()
        return {account: told for account in changed if (told := self.told(account)) is not None}

    def restore(self, account: str, told: Told) -> None:
        """Take over what an earlier process knew."""
        if account in self._last:
            return
        self._restored[account] = told
        came = self._monotonic() - max(self._epoch() - told.at, 0.0)
        for model, limits in told.limits.items():
            self._pool.mark(account, model, came, limits)

    def forget(self, account: str) -> None:
        self._last.pop(account, None)
        self._restored.pop(account, None)

    def _read(self, last: _Last) -> None:
        headers, last.headers, last.read = last.headers, None, last.came
        if headers is None:
            return
        upstream = last.upstream
        if any(name.startswith(upstream.provider.limit_prefixes) for name, _ in headers):
            limits = upstream.provider.limits(headers, b"", self._epoch())
            if limits:
                self._note(last, last.model, limits, last.came)

    def _note(self, last: _Last, model: str, limits: tuple[Limit, ...], came: float) -> None:
        account = last.upstream.account.id
        known = {} if last.told is None else dict(last.told.limits)
        for scope, key in (("account", ""), ("model", model)):
            if told := tuple(limit for limit in limits if limit.scope == scope):
                known.pop(key, None)
                known[key] = told
                if len(known) > _MOST_MODELS:
                    del known[next(iter(known))]
                self._pool.mark(account, key, came, told)
        last.told = Told(self._epoch() - (self._monotonic() - came), known)
        self._changed.add(account)
