"""ChatGPT's Codex backend: the Responses API for people who logged in, with rules of its own.

It only streams, keeps nothing, and refuses many parameters that the public API takes. What it lets through is answered
by the public surface.

Source: https://github.com/openai/codex (core, login) and refusals seen in the field, checked 2026-10-20.
"""

from collections.abc import Iterator

import msgspec

from cliproxy.simulator import openai_edge as edge
from cliproxy.simulator import openai_responses
from cliproxy.simulator.accounts import Account, Accounts, Dead, Death
from cliproxy.simulator.exchange import Json, Received, Refused, Reply, read_json, write_json

Node = dict[str, Json]

_FREE = ("gpt-5", "gpt-5-codex", "gpt-5-codex-mini", "gpt-5.4-mini", "gpt-5.5", "gpt-5.6-terra", "gpt-5.6-luna")
_PAID = ("gpt-5.4", "gpt-5.6-sol", "gpt-5.3-codex-spark", "gpt-5.1-codex", "gpt-5.1-codex-max")
_BOTH = ("codex-mini-latest", "codex-auto-review")
_UNSUPPORTED = (
    "max_output_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "truncation",
    "user",
    "metadata",
    "context_management",
    "previous_response_id",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "stream_options",
    "generate",
)
_DEATHS: dict[Death, tuple[str, str]] = {
    "expired": ("token_expired", "Provided authentication token is expired. Please try signing in again."),
    "revoked": ("token_revoked", "Your authentication token has been invalidated. Please try signing in again."),
    "unknown": ("token_invalidated", "Your authentication token has been invalidated. Please try signing in again."),
    "reused": ("token_invalidated", "Your authentication token has been invalidated. Please try signing in again."),
}
_WINDOWS = (("primary", 300, 12), ("secondary", 10_080, 30))  # name, minutes, percent used
_ETAG = '"simulated-1"'


class CodexBackend:
    """The endpoints under `/backend-api`."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self.surface = msgspec.structs.replace(
            openai_responses.SURFACE, vendor="codex", admit=self._admit, refuse=_refuse
        )

    def respond(self, received: Received) -> Reply:
        """POST /backend-api/codex/responses."""
        account = self._account(received)
        _check(_read(received), account)
        try:
            reply = openai_responses.create(received)
        except Refused as refused:
            raise _PublicRefusal(
                refused.message, status=refused.status, param=refused.param, kind=refused.kind
            ) from refused
        return msgspec.structs.replace(
            reply, headers=(("x-request-id", received.request_id), *limit_headers(account.plan, self._accounts.now()))
        )

    def models(self, received: Received) -> Reply:
        """GET /backend-api/codex/models?client_version=x.y.z."""
        account = self._account(received)
        if not received.query.get("client_version"):
            raise Refused("client_version is required")
        rows: list[Json] = [_described(name, place) for place, name in enumerate(_models(account))]
        return Reply(headers=(("x-models-etag", _ETAG),), frames=(write_json({"models": rows}),))

    def usage(self, received: Received) -> Reply:
        """GET /backend-api/wham/usage."""
        account = self._account(received)
        now = self._accounts.now()
        windows: Node = {
            f"{name}_window": {
                "used_percent": percent,
                "limit_window_seconds": minutes * 60,
                "reset_after_seconds": minutes * 60,
                "reset_at": int(now) + minutes * 60,
            }
            for name, minutes, percent in _WINDOWS
        }
        limit: Node = {"allowed": True, "limit_reached": False, **windows}
        return Reply(frames=(write_json({"plan_type": account.plan, "rate_limit": limit, "credits": None}),))

    def _admit(self, received: Received) -> None:
        account = self._account(received)
        named = received.headers.get("chatgpt-account-id")
        if named is None and account.workspaces:
            raise Refused("chatgpt-account-id is required: this token is good for several workspaces")
        if named is not None and named not in (account.id, *account.workspaces):
            raise Refused("This token is not good for that workspace", status=403)

    def _account(self, received: Received) -> Account:
        if not received.bearer:
            raise Refused("Unauthorized", status=401)
        try:
            return self._accounts.check("codex", received.bearer)[0]
        except Dead as dead:
            code, says = _DEATHS[dead.death]
            raise Refused(says, status=401, kind=code) from dead


def limit_headers(plan: str, now: float, primary_percent: int | None = None) -> tuple[tuple[str, str], ...]:
    """What every answer says about the plan; `now` is epoch seconds."""
    headers = [("x-codex-plan-type", plan), ("x-codex-active-limit", "codex")]
    for name, minutes, percent in _WINDOWS:
        used = primary_percent if name == "primary" and primary_percent is not None else percent
        headers.append((f"x-codex-{name}-used-percent", f"{used}"))
        headers.append((f"x-codex-{name}-window-minutes", f"{minutes}"))
        headers.append((f"x-codex-{name}-reset-after-seconds", f"{minutes * 60}"))
        headers.append((f"x-codex-{name}-reset-at", f"{int(now) + minutes * 60}"))
    headers += [("x-codex-credits-has-credits", "False"), ("x-codex-credits-unlimited", "False")]
    return tuple(headers)


def detail_body(message: str) -> Node:
    """How the gateway before the model refuses."""
    return {"detail": message}


def token_body(code: str, message: str, status: int) -> Node:
    """How it refuses a token."""
    return {"error": {"message": message, "type": None, "code": code, "param": None}, "status": status}


class _PublicRefusal(Refused):
    """A refusal by the model's own service, which speaks as the public API does."""


def _refuse(refused: Refused, request_id: str) -> Reply:
    if isinstance(refused, _PublicRefusal):
        return edge.refuse(refused, request_id)
    body = (
        detail_body(refused.message)
        if refused.kind is None
        else token_body(refused.kind, refused.message, refused.status)
    )
    return Reply(status=refused.status, headers=(("x-request-id", request_id),), frames=(write_json(body),))


def _read(received: Received) -> Node:
    try:
        body = read_json(received.body)
    except msgspec.DecodeError as error:
        raise Refused("The request body is not valid JSON") from error
    if not isinstance(body, dict):
        raise Refused("The request body is not a JSON object")
    return body


def _check(body: Node, account: Account) -> None:
    unsupported = [name for name in _UNSUPPORTED if body.get(name) is not None]
    if unsupported:
        raise Refused(f"Unsupported parameter: {unsupported[0]}")
    if body.get("service_tier") not in (None, "priority"):
        raise Refused(f"Unsupported service_tier: {body['service_tier']}")
    if body.get("store") is not False:
        raise Refused("Store must be set to false")
    if body.get("stream") is not True:
        raise Refused("Stream must be set to true")
    if not isinstance(body.get("instructions"), str):
        raise Refused("Instructions are required")
    if not isinstance(body.get("input"), list):
        raise Refused("Input must be a list")
    for item in _items(body):
        if item.get("role") == "system":
            raise Refused("System messages are not allowed")
        if any("prompt_cache_breakpoint" in part for part in _parts(item)):
            raise Refused("Unsupported parameter: prompt_cache_breakpoint")
    if body.get("model") not in _models(account):
        raise Refused(f"The '{body.get('model')}' model is not supported when using Codex with a ChatGPT account.")


def _items(body: Node) -> Iterator[Node]:
    items = body.get("input")
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict):
            yield item


def _parts(item: Node) -> Iterator[Node]:
    content = item.get("content")
    for part in content if isinstance(content, list) else ():
        if isinstance(part, dict):
            yield part


def _models(account: Account) -> tuple[str, ...]:
    return _FREE + _BOTH if account.plan == "free" else _FREE + _PAID + _BOTH


def _described(name: str, place: int) -> Node:
    levels: list[Json] = [{"effort": effort, "description": effort} for effort in ("low", "medium", "high")]
    return {
        "slug": name,
        "display_name": name,
        "description": "A simulated model",
        "default_reasoning_level": "medium",
        "supported_reasoning_levels": levels,
        "visibility": "list",
        "supported_in_api": True,
        "priority": place,
        "context_window": 272_000,
    }
