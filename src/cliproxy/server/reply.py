"""The outermost layer around every request: who may call, what is served, and how failures are told.

One of the three places that catch everything: a bug costs one request a 500 in its caller's dialect, and the log has
the traceback under the request's id.
"""

import asyncio
import logging
from math import ceil

from cliproxy.canon.errors import GatewayError, Internal, Problem
from cliproxy.config.schema import Config
from cliproxy.gateway.exchange import OpenExchange
from cliproxy.gateway.plane import Plane
from cliproxy.gateway.runtime import Runtime
from cliproxy.server import routes
from cliproxy.server.management import edge as management
from cliproxy.server.recorded import recorded, recorded_failure
from cliproxy.wire.http import Headers, header

_log = logging.getLogger(__name__)

_PREFLIGHT_AGE: Headers = ((b"access-control-max-age", b"600"),)
_ALLOWED: Headers = (
    (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
    *_PREFLIGHT_AGE,
)

_STOPPED = Problem("overloaded", 503, "The gateway was stopped before the answer was complete.")


async def serve(runtime: Runtime, exchange: OpenExchange, plane: Plane | None = None) -> None:
    """Answer `exchange`, whatever happens. `plane` None: there is no Management API."""
    config = runtime.snapshot.config
    is_management = management.is_management(exchange.path)
    if config.request_log and not is_management:
        exchange = recorded(runtime, exchange)
    exchange.extra = _extra(exchange, config, is_management=is_management)
    try:
        if exchange.method == "OPTIONS":
            await _preflight(exchange, is_management=is_management)
            return
        if is_management:
            await management.serve(plane, exchange)
            return
        door = routes.find(exchange)
        exchange.id_name = routes.ID_NAMES.get(door.dialect.name, b"")
        if door.needs_key and not runtime.snapshot.keys.admit(exchange):
            exchange.extra = exchange.extra[:1]
        await door.handler(runtime, exchange, door)
    except GatewayError as error:
        if error.brought is not None and exchange.recorder is None:
            exchange = recorded_failure(runtime, exchange, error.brought)
        await _tell(exchange, error.problem)
    except asyncio.CancelledError:
        if runtime.is_draining and not exchange.is_gone:
            await _tell(exchange, _STOPPED)
        raise
    except Exception:  # noqa: BLE001 - the outermost layer: a bug costs one request
        _log.exception("%s failed", exchange.request_id)
        await _tell(exchange, Internal().problem)
    finally:
        if exchange.recorder is not None:
            exchange.recorder.end()


async def refuse(runtime: Runtime, exchange: OpenExchange, error: GatewayError) -> None:
    """Answer what came without being a whole request."""
    is_management = management.is_management(exchange.path)
    exchange.extra = _extra(exchange, runtime.snapshot.config, is_management=is_management)
    await _tell(exchange, error.problem)


def may_enter(runtime: Runtime, exchange: OpenExchange) -> bool:
    """Whether `serve` would come to read the body of `exchange`, as far as its head tells."""
    try:
        door = routes.find(exchange)
        if door.needs_key:
            runtime.snapshot.keys.admit(exchange)
    except GatewayError:
        return False
    return True


def head_lines(exchange: OpenExchange, headers: Headers) -> Headers:
    """The headers of an answer with those that every answer has. An upstream's own request id goes before ours."""
    lines = (*headers, *exchange.extra)
    name = exchange.id_name
    if name and not header(lines, name):
        return (*lines, (name, exchange.request_id.encode()))
    return lines


def _extra(exchange: OpenExchange, config: Config, *, is_management: bool) -> Headers:
    cors = management.cors if is_management else _cors
    return ((b"x-request-id", exchange.request_id.encode()), *cors(exchange, config))


async def _tell(exchange: OpenExchange, problem: Problem) -> None:
    """The failure in the caller's dialect: as a status, or inside the stream when that has begun."""
    dialect = routes.dialect_of(exchange)
    if exchange.is_started:
        await exchange.send(dialect.write_stream_error(problem))
        await exchange.finish()
        return
    if management.is_management(exchange.path):
        answer = management.tell(problem, exchange.path)
        await exchange.reply(answer.status, answer.headers, answer.content)
        return
    exchange.id_name = routes.ID_NAMES.get(dialect.name, b"")
    headers: list[tuple[bytes, bytes]] = [(b"content-type", b"application/json")]
    if problem.retry_after is not None:
        headers.append((b"retry-after", str(max(1, ceil(problem.retry_after))).encode()))
    if problem.kind == "unauthenticated":
        headers.append((b"www-authenticate", b"Bearer"))
    if problem.kind == "upgrade_required":
        headers += [(b"upgrade", b"HTTP/1.1"), (b"connection", b"close")]
    if problem.kind == "method_not_allowed":
        headers.append((b"allow", routes.methods_at(exchange).encode()))
    body = dialect.write_error(problem, exchange.request_id)
    await exchange.reply(dialect.status_of(problem), tuple(headers), body)


def _cors(exchange: OpenExchange, config: Config) -> Headers:
    """What lets a web page read the answer, when it asked from an origin that may."""
    origin = header(exchange.headers, b"origin")
    if not origin:
        return ()
    allowed = config.cors_origins
    if "*" in allowed:
        return ((b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", b"*"))
    if origin.decode("latin-1") in allowed:
        return (
            (b"access-control-allow-origin", origin),
            (b"vary", b"origin"),
            (b"access-control-expose-headers", b"*"),
        )
    return ()


async def _preflight(exchange: OpenExchange, *, is_management: bool) -> None:
    if is_management:  # every answer of that API says what pages may do
        await exchange.reply(204, _PREFLIGHT_AGE, b"")
        return
    wanted = header(exchange.headers, b"access-control-request-headers") or b"*"
    await exchange.reply(204, (*_ALLOWED, (b"access-control-allow-headers", wanted)), b"")
