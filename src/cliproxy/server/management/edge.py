"""Serving the Management API on an exchange: access, the row, headers, and failures in its own words."""

from __future__ import annotations

from math import ceil
from urllib.parse import unquote

from cliproxy import __version__
from cliproxy.canon.errors import NotFound, Problem
from cliproxy.gateway.exchange import Exchange
from cliproxy.gateway.plane import Plane
from cliproxy.server.management.base import Answer, Asked, told
from cliproxy.server.management.table import BASE, find, operation_of
from cliproxy.wire.http import Headers

ALLOWED_HEADERS = b"Authorization, Content-Type, If-Match, X-Management-Key, X-Api-Key, X-Goog-Api-Key, *"

VERSION: Headers = (
    (b"x-cpa-version", __version__.encode()),
    (b"x-cpa-commit", b"none"),
    (b"x-cpa-build-date", b"unknown"),
    (b"x-cpa-support-plugin", b"false"),
)
_PRIVATE: Headers = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))


def is_management(path: str) -> bool:
    return path.startswith(BASE) and (len(path) == len(BASE) or path[len(BASE)] == "/")


async def serve(plane: Plane | None, exchange: Exchange) -> None:
    """Answer a request below `BASE`. Raises GatewayError; `tell` is how to put it."""
    if plane is None:
        raise NotFound
    row, segment = find(exchange.path[len(BASE) :])
    exchange.extra += VERSION + _PRIVATE
    await plane.gate.admit(plane.desk.config, exchange)
    operation = operation_of(row, exchange.method)
    answer = await operation.handle(plane, Asked(plane.runtime, exchange, unquote(segment)))
    headers = answer.headers
    if exchange.method == "GET":
        headers += ((b"etag", answer.etag.encode()),)
    await exchange.reply(answer.status, headers, answer.content)


def tell(problem: Problem) -> Answer:
    """A failure as this API words it."""
    answer = told({"error": problem.message}, problem.status)
    if problem.retry_after is None:
        return answer
    return Answer(
        answer.status,
        answer.content,
        (*answer.headers, (b"retry-after", str(max(1, ceil(problem.retry_after))).encode())),
    )
