"""What this gateway serves, in the shape that each vendor's clients expect."""

from msgspec import structs

from cliproxy import __version__
from cliproxy.canon.errors import ModelNotFound
from cliproxy.canon.models import ModelEntry
from cliproxy.dialects.base import Dialect
from cliproxy.gateway.exchange import Exchange
from cliproxy.gateway.runtime import Runtime
from cliproxy.gateway.snapshot import Snapshot
from cliproxy.routing.catalog import Route
from cliproxy.wire import json
from cliproxy.wire.http import Headers

JSON: Headers = ((b"content-type", b"application/json"),)
_CREATED = 1735689600  # a constant, where we know no date: lists must not change from call to call
_ENDPOINTS = (
    "POST /v1/chat/completions",
    "POST /v1/completions",
    "POST /v1/responses",
    "POST /v1/messages",
    "POST /v1/messages/count_tokens",
    "POST /v1beta/models/{model}:generateContent",
    "POST /v1beta/models/{model}:streamGenerateContent",
    "POST /v1beta/models/{model}:countTokens",
    "GET /v1/models",
    "GET /v1beta/models",
)


async def answer_list(runtime: Runtime, exchange: Exchange, dialect: Dialect) -> None:
    await exchange.reply(200, JSON, dialect.write_models(entries(runtime.snapshot)))


async def answer_one(runtime: Runtime, exchange: Exchange, dialect: Dialect, name: str) -> None:
    """Raises ModelNotFound. A name that only its family serves is shown too: requests for it would go out."""
    snapshot = runtime.snapshot
    wanted = name.removeprefix("models/")
    target = snapshot.resolve(wanted)
    if target is None:
        raise ModelNotFound(f"No account serves the model `{wanted}`.", param="model")
    await exchange.reply(200, JSON, dialect.write_model(_entry(snapshot, wanted, target.route)))


async def answer_root(exchange: Exchange) -> None:
    body = {"message": "CLI Proxy API", "version": __version__, "endpoints": _ENDPOINTS}
    await exchange.reply(200, JSON, json.encode(body))


def entries(snapshot: Snapshot) -> list[ModelEntry]:
    """Every listed model, in a stable order: by owner, then by name."""
    found = [_entry(snapshot, public, route) for public, route in snapshot.catalog.routes.items()]
    return sorted(found, key=lambda entry: (entry.owner, entry.id))


def _entry(snapshot: Snapshot, public: str, route: Route) -> ModelEntry:
    candidate = next(iter(route.candidates))
    upstream = snapshot.upstreams[candidate.account.id]
    row = snapshot.rows.get(candidate.model) or ModelEntry(public, upstream.provider.owner, public, _CREATED)
    return structs.replace(row, id=public, created=row.created or _CREATED)
