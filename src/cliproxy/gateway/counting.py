"""Counting tokens: by the upstream where it can, else by our own estimate, which says so in a header.

Clients ask often and only for their meters, so counting neither fails over nor touches an account's health; whatever
goes wrong, the estimate answers.
"""

from cliproxy.canon.errors import GatewayError, ModelNotFound
from cliproxy.canon.estimate import estimate
from cliproxy.gateway.calls import Call
from cliproxy.gateway.exchange import Exchange
from cliproxy.gateway.runtime import Runtime
from cliproxy.gateway.snapshot import Snapshot, Target
from cliproxy.providers.base import Ask
from cliproxy.routing.catalog import Candidate
from cliproxy.transport.base import Deadlines
from cliproxy.wire import json
from cliproxy.wire.http import Headers

_DEADLINES = Deadlines(connect=3.0, head=5.0, idle=5.0)
_MAX_ANSWER_BYTES = 1024 * 1024
_JSON: Headers = ((b"content-type", b"application/json"),)
_ESTIMATED: Headers = (*_JSON, (b"x-cliproxy-estimated", b"true"))


async def count(runtime: Runtime, snapshot: Snapshot, call: Call, exchange: Exchange) -> None:
    """Answer how many tokens `call` has. Raises CallerFault for requests that cannot be read."""
    target = snapshot.resolve(call.model)
    if target is None:
        raise ModelNotFound(f"No account serves the model `{call.model}`.", param="model")
    answer = await _counted(runtime, snapshot, call, target)
    if answer is not None:
        await exchange.reply(200, _JSON, answer)
    else:
        await exchange.reply(200, _ESTIMATED, call.dialect.write_count(estimate(call.request)))


async def _counted(runtime: Runtime, snapshot: Snapshot, call: Call, target: Target) -> bytes | None:
    """The upstream's own count, None when there is none to be had."""
    candidate = _counter(runtime, snapshot, call, target)
    if candidate is None:
        return None
    upstream = snapshot.upstreams[candidate.account.id]
    prepared = call.prepare(upstream, candidate.model, snapshot)
    transport = runtime.transport if call.recorder is None else call.recorder.over(runtime.transport)
    token = upstream.secret
    try:
        if upstream.source and runtime.tokens is not None:
            token = await runtime.tokens.token(upstream.source)
        ask = Ask(candidate.model, prepared.body, call.headers, "count", is_native=prepared.is_native, token=token)
        answer = await transport.send(upstream.provider.request(upstream, ask), _DEADLINES)
    except GatewayError:
        return None
    try:
        body = await answer.read(_MAX_ANSWER_BYTES)
    except GatewayError:
        return None
    finally:
        answer.close()
    return body if answer.status == 200 and json.is_object(body) else None


def _counter(runtime: Runtime, snapshot: Snapshot, call: Call, target: Target) -> Candidate | None:
    """The first account that counts in the caller's dialect, rather one that does not rest."""
    now = runtime.monotonic()
    resting: Candidate | None = None
    for candidate in target.route.candidates:
        upstream = snapshot.upstreams[candidate.account.id]
        if upstream.provider.can_count() and upstream.dialect.name == call.dialect.name:
            if not runtime.pool.is_resting(candidate, now):
                return candidate
            resting = resting or candidate
    return resting
