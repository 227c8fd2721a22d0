"""The table of addresses: what is served where, in which dialect, and with which methods.

A look-up is one dictionary access; Gemini's addresses, which hold the model's name, are taken apart by the rightmost
colon, since names may hold slashes and colons.
"""

from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs

from msgspec import Struct

from cliproxy.canon.errors import GatewayError, MethodNotAllowed, NotFound, Unsupported, UpgradeRequired
from cliproxy.dialects import anthropic, gemini, gemini_cli, openai_chat, openai_completions, openai_responses
from cliproxy.dialects.base import Dialect
from cliproxy.gateway import counting, listing
from cliproxy.gateway.calls import Call
from cliproxy.gateway.exchange import Exchange
from cliproxy.gateway.relay import relay
from cliproxy.gateway.runtime import Runtime
from cliproxy.server import callbacks, code_assist
from cliproxy.wire.http import header

Handler = Callable[[Runtime, Exchange, "Door"], Awaitable[None]]


class Door(Struct, frozen=True, eq=False):
    """Where a request came in. `model` and `is_stream` are set where the address tells them."""

    handler: Handler
    dialect: Dialect
    methods: tuple[str, ...] = ("POST",)
    needs_key: bool = True
    model: str = ""
    is_stream: bool | None = None


async def _generate(runtime: Runtime, exchange: Exchange, door: Door) -> None:
    snapshot = runtime.snapshot
    body = await exchange.read()
    try:
        call = Call(
            door.dialect,
            body,
            exchange.headers,
            exchange.request_id,
            model=door.model,
            is_stream=door.is_stream,
        )
        call.recorder = exchange.recorder
        await relay(runtime, snapshot, call, exchange)
    except GatewayError as error:
        error.brought = body
        raise


async def _count(runtime: Runtime, exchange: Exchange, door: Door) -> None:
    await _counted(runtime, exchange, door, await exchange.read(), door.model)


async def _count_enveloped(runtime: Runtime, exchange: Exchange, door: Door) -> None:
    body = await exchange.read()
    await _counted(runtime, exchange, door, body, gemini_cli.counted_model(body))


async def _counted(runtime: Runtime, exchange: Exchange, door: Door, body: bytes, model: str) -> None:
    call = Call(
        door.dialect,
        body,
        exchange.headers,
        exchange.request_id,
        model=model,
        is_stream=False,
        operation="count",
    )
    call.recorder = exchange.recorder
    await counting.count(runtime, runtime.snapshot, call, exchange)


async def _list(runtime: Runtime, exchange: Exchange, door: Door) -> None:
    await listing.answer_list(runtime, exchange, door.dialect)


async def _show(runtime: Runtime, exchange: Exchange, door: Door) -> None:
    await listing.answer_one(runtime, exchange, door.dialect, door.model)


async def _root(runtime: Runtime, exchange: Exchange, _: Door) -> None:
    await listing.answer_root(exchange)


async def _alive(_: Runtime, exchange: Exchange, __: Door) -> None:
    await exchange.reply(200, listing.JSON, b'{"status":"ok"}')


async def _ready(runtime: Runtime, exchange: Exchange, _: Door) -> None:
    if runtime.is_draining:
        await exchange.reply(503, listing.JSON, b'{"status":"draining"}')
    else:
        await exchange.reply(200, listing.JSON, b'{"status":"ready"}')


async def _return(runtime: Runtime, exchange: Exchange, _: Door) -> None:
    page = await callbacks.answer(runtime.logins, callbacks.DOORS[exchange.path], exchange.query.decode("latin-1"))
    await exchange.reply(page.status, page.headers, page.body)


_CHAT, _RESPONSES = openai_chat.DIALECT, openai_responses.DIALECT
_MESSAGES, _GEMINI, _GEMINI_ARRAY = anthropic.DIALECT, gemini.DIALECT, gemini.ARRAY
_CODE_ASSIST, _CODE_ASSIST_ARRAY = gemini_cli.DIALECT, gemini_cli.ARRAY
_READ = ("GET", "HEAD")

DOORS: dict[str, Door] = {
    "/v1/chat/completions": Door(_generate, _CHAT),
    "/v1/completions": Door(_generate, openai_completions.DIALECT),
    "/v1/responses": Door(_generate, _RESPONSES),
    "/v1/messages": Door(_generate, _MESSAGES),
    "/v1/messages/count_tokens": Door(_count, _MESSAGES),
    "/": Door(_root, _CHAT, _READ, needs_key=False),
    "/healthz": Door(_alive, _CHAT, _READ, needs_key=False),
    "/readyz": Door(_ready, _CHAT, _READ, needs_key=False),
    **{path: Door(_return, _CHAT, ("GET",), needs_key=False) for path in callbacks.DOORS},
}
ID_NAMES: dict[str, bytes] = {anthropic.NAME: b"request-id"}
"""Where a dialect's SDKs look for the request's id, besides `x-request-id`."""

_GEMINI_ROOTS = ("/v1beta/models", "/v1/models", "/v1beta1/models")
_METHODS: dict[str, tuple[Handler, bool]] = {
    "generateContent": (_generate, False),
    "streamGenerateContent": (_generate, True),
    "countTokens": (_count, False),
}
_ENVELOPED = {f"{code_assist.ROOT}:{name}": row for name, row in _METHODS.items()} | {
    f"{code_assist.ROOT}:countTokens": (_count_enveloped, False)
}
_KNOWN_ELSEWHERE = frozenset({"batchGenerateContent", "embedContent", "batchEmbedContents", "predict"})


def find(exchange: Exchange) -> Door:
    """The door for an exchange. Raises NotFound, MethodNotAllowed, Unsupported or UpgradeRequired."""
    path = exchange.path
    door = DOORS.get(path) or _model_door(exchange)
    if exchange.method not in door.methods:
        if path == "/v1/responses" and header(exchange.headers, b"upgrade").lower() == b"websocket":
            raise UpgradeRequired
        raise MethodNotAllowed(f"`{path}` takes {' or '.join(door.methods)}, not {exchange.method}.")
    return door


def methods_at(exchange: Exchange) -> str:
    """The methods that an address takes, as the `allow` header has them. Raises what `find` does but for the method."""
    door = DOORS.get(exchange.path) or _model_door(exchange)
    return ", ".join((*door.methods, "OPTIONS"))


def dialect_of(exchange: Exchange) -> Dialect:
    """Which dialect a caller speaks, also where nothing is served."""
    path = exchange.path
    if path.startswith(code_assist.ROOT):
        return _enveloped(exchange)
    if path.endswith(":streamGenerateContent") and not _asks_events(exchange.query):
        return _GEMINI_ARRAY
    if (door := DOORS.get(path)) is not None:
        return door.dialect
    if path.startswith("/v1beta"):
        return _GEMINI
    if path.startswith("/v1/models"):
        return _GEMINI if ":" in path and exchange.method not in _READ else _shape(exchange)
    if path.startswith("/v1/messages"):
        return _MESSAGES
    return _RESPONSES if path.startswith("/v1/responses") else _CHAT


def _code_assist_door(exchange: Exchange) -> Door:
    path, dialect = exchange.path, _enveloped(exchange)
    if (row := _ENVELOPED.get(path)) is not None:
        handler, is_stream = row
        return Door(handler, dialect, is_stream=is_stream)
    code_assist.check(path)
    return Door(code_assist.answer, dialect, code_assist.METHODS)


def _enveloped(exchange: Exchange) -> Dialect:
    is_array = exchange.path.endswith(":streamGenerateContent") and not _asks_events(exchange.query)
    return _CODE_ASSIST_ARRAY if is_array else _CODE_ASSIST


def _model_door(exchange: Exchange) -> Door:
    path = exchange.path
    if path.startswith(code_assist.ROOT):
        return _code_assist_door(exchange)
    for root in _GEMINI_ROOTS:
        if path == root or path == f"{root}/":
            return Door(_list, _shape(exchange), _READ)
        if path.startswith(f"{root}/"):
            return _named_model_door(exchange, path[len(root) + 1 :])
    raise NotFound(f"There is nothing at `{path}`.")


def _named_model_door(exchange: Exchange, name: str) -> Door:
    model, _, method = name.rpartition(":")
    if model and method in _METHODS:
        handler, is_stream = _METHODS[method]
        dialect = _GEMINI_ARRAY if is_stream and not _asks_events(exchange.query) else _GEMINI
        return Door(handler, dialect, model=model.removeprefix("models/"), is_stream=is_stream)
    if exchange.method in _READ or not model:
        return Door(_show, _shape(exchange), _READ, model=name)
    if method in _KNOWN_ELSEWHERE:
        raise Unsupported(f"`{method}` is not supported by this gateway.")
    raise NotFound(f"There is no method `{method}` on models.")


def _asks_events(query: bytes) -> bool:
    asked = parse_qs(query.decode("latin-1"))
    return "sse" in (*asked.get("alt", ()), *asked.get("$alt", ()))


def _shape(exchange: Exchange) -> Dialect:
    """In which dialect a caller expects lists of models: the same address serves three vendors' clients."""
    headers = exchange.headers
    agent = header(headers, b"user-agent")
    if exchange.path.startswith("/v1beta") or header(headers, b"x-goog-api-key") or b"google-genai-sdk" in agent:
        return _GEMINI
    if header(headers, b"anthropic-version") or agent.startswith(b"claude-cli"):
        return _MESSAGES
    if header(headers, b"x-api-key") and not header(headers, b"authorization"):
        return _MESSAGES
    return _CHAT
