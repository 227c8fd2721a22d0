"""Performing what OAuth exchanges describe: their requests on the network, their pauses on the clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from cliproxy.canon.errors import UpstreamFault
from cliproxy.oauth.base import Answered, Exchange, Pause, Unavailable
from cliproxy.transport.base import Deadlines, Transport
from cliproxy.wire.http import HttpRequest

DEADLINES = Deadlines(connect=10.0, head=30.0, idle=30.0)
_MAX_ANSWER_BYTES = 1024 * 1024

_T = TypeVar("_T")
Sleep = Callable[[float], Awaitable[None]]


async def perform(exchange: Exchange[_T], transport: Transport, sleep: Sleep = asyncio.sleep) -> _T:
    """What `exchange` returns. Raises OAuthError.

    A request that gets no answer is thrown into the exchange as `Unavailable`: it may know another way.
    """
    failure: Unavailable | None = None
    answered: Answered | None = None
    try:
        while True:
            try:
                step = exchange.send(answered) if failure is None else exchange.throw(failure)
            except StopIteration as stop:
                result: _T = stop.value
                return result
            failure = answered = None
            if isinstance(step, Pause):
                await sleep(step.seconds)
                continue
            try:
                answered = await _answer(step, transport)
            except UpstreamFault as error:
                failure = Unavailable(f"`{step.origin.host}` could not be asked: {error.problem.message}")
    finally:
        exchange.close()


async def _answer(request: HttpRequest, transport: Transport) -> Answered:
    answer = await transport.send(request, DEADLINES)
    try:
        return Answered(answer.status, answer.headers, await answer.read(_MAX_ANSWER_BYTES))
    finally:
        answer.close()
