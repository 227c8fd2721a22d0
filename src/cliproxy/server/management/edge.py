"""Serving the Management API on an exchange: access, the row, headers, and failures in its own words."""

from __future__ import annotations

from math import ceil

from cliproxy import __version__
from cliproxy.canon.errors import NotFound, Problem
from cliproxy.config.schema import Config
from cliproxy.gateway.exchange import Exchange
from cliproxy.gateway.plane import Plane
from cliproxy.server.management.base import Answer, Asked, told
from cliproxy.server.management.table import BASE, find, operation_of
from cliproxy.wire.http import Headers, header

# Browsers do not let `*` stand for `Authorization`, and some not for anything.
_ALLOWED_HEADERS = (
    b"Authorization, Content-Type, If-Match, If-None-Match, X-Management-Key, X-Api-Key, X-Goog-Api-Key, *"
)
_TO_PAGES: Headers = (
    (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
    (
        b"access-control-expose-headers",
        b"X-CPA-VERSION, X-CPA-COMMIT, X-CPA-BUILD-DATE, X-CPA-SUPPORT-PLUGIN, X-Request-Id, ETag, Retry-After, "
        b"Content-Disposition, *",
    ),
)

VERSION: Headers = (
    (b"x-cpa-version", __version__.encode()),
    (b"x-cpa-commit", b"none"),
    (b"x-cpa-build-date", b"unknown"),
    (b"x-cpa-support-plugin", b"false"),
)
_TAGGED_BYTES = 4 * 1024 * 1024
"""Longer answers, which only logs are, get no tag: making one would hold up everybody else."""
_PRIVATE: Headers = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))


def is_management(path: str) -> bool:
    return path.startswith(BASE) and (len(path) == len(BASE) or path[len(BASE)] == "/")


def cors(exchange: Exchange, config: Config) -> Headers:
    """What lets web pages use this API: pages of any origin, or of those that the configuration names."""
    wanted = header(exchange.headers, b"access-control-request-headers")
    to_pages: Headers = ((b"access-control-allow-headers", wanted or _ALLOWED_HEADERS), *_TO_PAGES)
    if "*" in config.cors_origins:
        return ((b"access-control-allow-origin", b"*"), *to_pages)
    origin = header(exchange.headers, b"origin")
    if origin.decode("latin-1") in config.cors_origins:
        return ((b"access-control-allow-origin", origin), (b"vary", b"origin"), *to_pages)
    return ((b"vary", b"origin"),)


async def serve(plane: Plane | None, exchange: Exchange) -> None:
    """Answer a request below `BASE`. Raises GatewayError; `tell` is how to put it."""
    if plane is None or not plane.gate.exists(plane.desk.config):
        raise NotFound
    row, segment = find(exchange.path[len(BASE) :])
    exchange.extra += VERSION + _PRIVATE
    operation = row.operations.get(exchange.method)
    if operation is None or not operation.is_open:
        await plane.gate.admit(plane.desk.config, exchange)
        operation = operation_of(row, exchange.method)
    answer = await operation.handle(plane, Asked(exchange, segment))
    headers = answer.headers
    if exchange.method == "GET" and len(answer.content) <= _TAGGED_BYTES:
        headers += ((b"etag", answer.etag.encode()),)
    await exchange.reply(answer.status, headers, answer.content)


def tell(problem: Problem, path: str) -> Answer:
    """A failure as this API words it; `path` is where it happened."""
    answer = told({"error": problem.message}, problem.status)
    headers = list(answer.headers)
    if problem.retry_after is not None:
        headers.append((b"retry-after", str(max(1, ceil(problem.retry_after))).encode()))
    if problem.kind == "method_not_allowed":
        row, _ = find(path[len(BASE) :])
        headers.append((b"allow", ", ".join((*row.operations, "OPTIONS")).encode()))
    return Answer(answer.status, answer.content, tuple(headers))
