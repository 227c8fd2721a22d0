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
_LOOK_SECONDS = 0.5
_AT_ONCE = 16
_DEADLINES = Deadlines(connect=10.0, head=15.0, idle=15.0)
_MAX_LISTING_BYTES = 16 * 1024 * 1024


async def keep_listings(runtime: Runtime) -> None:
    """Keep the lists of models fresh for accounts that do not name theirs. Runs until cancelled.

    New accounts are asked within a second of their appearance, several at a time, so that one that hangs does not keep
    the others waiting; what they said is published once a second. A list that could not be had is asked for again
    after a minute, while our own table serves in its place.
    """
    due: dict[str, float] = {}
    asking: dict[str, asyncio.Task[tuple[str, ...] | None]] = {}
    try:
        while True:
            _collect(runtime, asking, due)
            now = runtime.monotonic()
            upstreams = runtime.snapshot.upstreams
            for account, upstream in upstreams.items():
                if len(asking) >= _AT_ONCE:
                    break
                if account not in asking and due.get(account, 0.0) <= now and _may_list(upstream):
                    asking[account] = asyncio.create_task(_list(runtime, upstream))
            for account in due.keys() - upstreams.keys():
                del due[account]
            await asyncio.sleep(_LOOK_SECONDS)
    finally:
        for task in asking.values():
            task.cancel()


def _may_list(upstream: Upstream) -> bool:
    """Accounts that name their models need no list; those from files have our table, since thousands may come at once."""
    return bool(upstream.account.families) and not upstream.source


def _collect(
    runtime: Runtime, asking: "dict[str, asyncio.Task[tuple[str, ...] | None]]", due: dict[str, float]
) -> None:
    """Publish the lists that have come, and note when to ask again."""
    learned: dict[str, tuple[str, ...]] = {}
    for account in [account for account, task in asking.items() if task.done()]:
        models = asking.pop(account).result()
        due[account] = runtime.monotonic() + (_RETRY_SECONDS if models is None else _REFRESH_SECONDS)
        if models is not None:
            learned[account] = models
    if learned:
        runtime.learn(learned)


async def _list(runtime: Runtime, upstream: Upstream) -> tuple[str, ...] | None:
    """The models that the upstream lists, () when it keeps no list, None when the list could not be had."""
    request = upstream.provider.listing(upstream)
    if request is None:
        return ()
    try:
        answer = await runtime.transport.send(request, _DEADLINES)
        try:
            body = await answer.read(_MAX_LISTING_BYTES)
        finally:
            answer.close()
        if answer.status != 200:
            _log.debug("%s: its list of models answered %d", upstream.account.label, answer.status)
            return None
        return upstream.provider.read_listing(body)
    except GatewayError as error:
        _log.debug("%s: no list of models: %s", upstream.account.label, error.problem.message)
        return None
