"""Background work of a running gateway: asking upstreams for their lists of models."""

import asyncio
import logging

from cliproxy.canon.errors import GatewayError
from cliproxy.gateway.runtime import Runtime
from cliproxy.providers.base import Upstream
from cliproxy.transport.base import Deadlines

_log = logging.getLogger(__name__)

_REFRESH_SECONDS = 6 * 3600.0
_RETRY_SECONDS = 60.0
_DEADLINES = Deadlines(connect=10.0, head=15.0, idle=15.0)
_MAX_LISTING_BYTES = 16 * 1024 * 1024


async def keep_listings(runtime: Runtime) -> None:
    """Keep the lists of models fresh for accounts that do not name theirs. Runs until cancelled.

    New accounts are asked within a second of their appearance; a list that could not be had is asked for again after
    a minute, while our own table serves in its place.
    """
    due: dict[str, float] = {}
    while True:
        now = runtime.monotonic()
        snapshot = runtime.snapshot
        for account, upstream in list(snapshot.upstreams.items()):
            if due.get(account, 0.0) <= now and _wants_listing(upstream):
                learned = await _learn(runtime, upstream)
                due[account] = runtime.monotonic() + (_REFRESH_SECONDS if learned else _RETRY_SECONDS)
        for account in due.keys() - snapshot.upstreams.keys():
            del due[account]
        await asyncio.sleep(1.0)


def _wants_listing(upstream: Upstream) -> bool:
    return bool(upstream.account.families)


async def _learn(runtime: Runtime, upstream: Upstream) -> bool:
    request = upstream.provider.listing(upstream)
    if request is None:
        return True
    try:
        answer = await runtime.transport.send(request, _DEADLINES)
        try:
            body = await answer.read(_MAX_LISTING_BYTES)
        finally:
            answer.close()
        if answer.status != 200:
            _log.debug("%s: its list of models answered %d", upstream.account.label, answer.status)
            return False
        models = upstream.provider.read_listing(body)
    except GatewayError as error:
        _log.debug("%s: no list of models: %s", upstream.account.label, error.problem.message)
        return False
    runtime.learn(upstream.account.id, models)
    return True
