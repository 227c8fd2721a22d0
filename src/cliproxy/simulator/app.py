"""The simulated vendors as one ASGI application: routes, recording, scripting, and the control routes under `/_sim`."""

import asyncio
import re
import threading
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import NotRequired, TypeAlias, TypedDict
from urllib.parse import parse_qsl

import msgspec

from cliproxy.simulator import anthropic, gemini, openai_chat, openai_edge, openai_responses, pages, tokens
from cliproxy.simulator.accounts import Accounts, Kind
from cliproxy.simulator.authorization import CLAUDE, CODEX, GOOGLE, Authorization
from cliproxy.simulator.claude_accounts import ClaudeAccounts, carries_token
from cliproxy.simulator.code_assist import CodeAssist
from cliproxy.simulator.codex_backend import CodexBackend
from cliproxy.simulator.device import DeviceLogin
from cliproxy.simulator.exchange import (
    Json,
    Received,
    Refused,
    Reply,
    Surface,
    VendorName,
    everyone,
    no_stream,
    read_json,
    write_json,
)
from cliproxy.simulator.qwen import QwenChat
from cliproxy.simulator.rules import Rule, Stage, fixed, stage
from cliproxy.simulator.tokens import Tokens

Message: TypeAlias = dict[str, object]
Receive: TypeAlias = "Callable[[], Awaitable[Incoming]]"
Send: TypeAlias = Callable[[Message], Awaitable[None]]

_MODEL_IN_PATH = re.compile(r"/models/([^:/]+)")
_RULES = msgspec.json.Decoder(tuple[Rule, ...])


class WantedFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `POST /_sim/accounts` takes: the arguments of `Accounts.issue`."""

    kind: Kind
    email: str
    lifetime: float | None = None
    expired: bool = False
    renewable: bool = True
    project: str = ""


_WANTED = msgspec.json.Decoder(WantedFile)


class Incoming(TypedDict):
    """What an ASGI server hands to `receive`."""

    type: str
    body: NotRequired[bytes]
    more_body: NotRequired[bool]


class State(TypedDict):
    """What `server.py` adds to the scope: `cut` closes the connection without ending the answer."""

    cut: Callable[[], None]


class Scope(TypedDict):
    """The part of an ASGI HTTP scope that is read here."""

    type: str
    method: str
    path: str
    query_string: bytes
    headers: list[tuple[bytes, bytes]]
    state: State


class Recorded:
    """A request and what became of it. `account` is the e-mail of whose token it carries, dead or alive."""

    def __init__(self, request: Received, account: str | None = None) -> None:
        self.account = account
        self.method = request.method
        self.path = request.path
        self.query = request.query
        self.headers = request.headers
        self.body = request.body
        self.status: int | None = None
        self.completed = False
        self.cancelled = False
        self.cut = False

    @property
    def json(self) -> Json:
        """The body as JSON; raises `msgspec.DecodeError` when it is none."""
        return read_json(self.body)

    @property
    def model(self) -> str | None:
        match = _MODEL_IN_PATH.search(self.path)
        if match:
            return match[1]
        try:
            body = read_json(self.body)
        except msgspec.DecodeError:
            return None
        if not isinstance(body, dict):
            return None
        inner = body.get("request")
        model = body.get("model") or (inner.get("model") if isinstance(inner, dict) else None)
        return model.removeprefix("models/") if isinstance(model, str) else None

    @property
    def key(self) -> str | None:
        """The upstream key, wherever this vendor carries it."""
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        bearer = token if scheme.lower() == "bearer" else None
        return self.headers.get("x-api-key") or self.headers.get("x-goog-api-key") or bearer or self.query.get("key")

    @property
    def is_settled(self) -> bool:
        return self.completed or self.cancelled or self.cut


class Script:
    """The rules in force and the requests seen; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: list[Rule] = []
        self._matches: list[int] = []
        self._requests: list[Recorded] = []
        self._serial = 0

    def add(self, *rules: Rule) -> None:
        with self._lock:
            self._rules.extend(rules)
            self._matches.extend(0 for _ in rules)

    def clear_rules(self) -> None:
        with self._lock:
            self._rules.clear()
            self._matches.clear()

    def clear(self) -> None:
        with self._lock:
            self._rules.clear()
            self._matches.clear()
            self._requests.clear()

    def requests(self) -> list[Recorded]:
        with self._lock:
            return list(self._requests)

    def next_serial(self) -> int:
        with self._lock:
            self._serial += 1
            return self._serial

    def record(self, seen: Recorded) -> None:
        with self._lock:
            self._requests.append(seen)

    def rule_for(self, seen: Recorded) -> Rule | None:
        """The first rule that matches and is not used up; counts the match."""
        with self._lock:
            for index, rule in enumerate(self._rules):
                if not _matches(rule, seen):
                    continue
                nth = self._matches[index]
                self._matches[index] += 1
                if nth >= rule.after and (rule.times is None or nth < rule.after + rule.times):
                    return rule
        return None


class Endpoint(msgspec.Struct, frozen=True):
    """One route: `pattern` matches the whole path; `selects` tells vendors apart that share a path."""

    method: str
    pattern: re.Pattern[str]
    surface: Surface
    respond: Callable[[Received], Reply]
    selects: Callable[[Received], bool] | None = None


class Simulation:
    """The ASGI application. All state is in its `script` and its `accounts`."""

    def __init__(self, script: Script, accounts: Accounts) -> None:
        self.script = script
        self.accounts = accounts
        claude = _claude_endpoints(ClaudeAccounts(accounts))  # first: they share paths with callers who have keys
        self._endpoints = claude + _KEY_ENDPOINTS + _account_endpoints(accounts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Received(
            method=scope["method"],
            path=scope["path"],
            query=dict(parse_qsl(scope["query_string"].decode(), keep_blank_values=True)),
            headers={name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]},
            body=await _read_body(receive),
            serial=self.script.next_serial(),
        )
        if request.path.startswith("/_sim/"):
            reply = _control(self.script, self.accounts, request)
            await _play(Recorded(request), stage(reply, None, None), scope["state"]["cut"], receive, send)
            return
        account = self.accounts.owner(request)
        seen = Recorded(request, account.email if account else None)
        self.script.record(seen)
        rule = self.script.rule_for(seen)
        endpoint = _find(self._endpoints, request)
        reply = (fixed(rule) if rule else None) or _answer(endpoint, request)
        if self.accounts.skew:
            date = formatdate(self.accounts.now(), usegmt=True)
            reply = msgspec.structs.replace(reply, headers=(*reply.headers, ("date", date)))
        show = stage(reply, rule, endpoint.surface if endpoint else None)
        await _play(seen, show, scope["state"]["cut"], receive, send)


async def _read_body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return bytes(body)


def _answer(endpoint: Endpoint | None, request: Received) -> Reply:
    if endpoint is None:
        body = {
            "error": {
                "message": f"Unknown request URL: {request.method} {request.path}.",
                "type": "invalid_request_error",
                "param": None,
                "code": "unknown_url",
            }
        }
        return Reply(status=404, frames=(write_json(body),))
    try:
        endpoint.surface.admit(request)
        return endpoint.respond(request)
    except Refused as refused:
        return endpoint.surface.refuse(refused, request.request_id)


async def _play(seen: Recorded, show: Stage, cut: Callable[[], None], receive: Receive, send: Send) -> None:
    """Write the stage. Leaves early when the caller does; `cut` ends the connection in mid-answer."""
    gone = asyncio.ensure_future(_departure(receive))
    try:
        if await _waited(gone, show.delay):
            await _write(seen, show, gone, cut, send)
        seen.cancelled = not (seen.completed or seen.cut)
    finally:
        gone.cancel()


async def _write(seen: Recorded, show: Stage, gone: asyncio.Future[None], cut: Callable[[], None], send: Send) -> None:
    if show.chunks or show.end == "complete":
        seen.status = show.status
        headers = [(name.encode(), value.encode("latin-1")) for name, value in show.headers]
        if len(show.chunks) == 1 and show.end == "complete":
            headers.append((b"content-length", str(len(show.chunks[0])).encode()))
        await send({"type": "http.response.start", "status": show.status, "headers": headers})
    for index, chunk in enumerate(show.chunks):
        if index and not await _waited(gone, show.pace):
            return
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    match show.end:
        case "complete":
            seen.completed = not gone.done()
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        case "cut":
            seen.cut = True
            cut()
            await gone
        case "hang":
            await gone


async def _waited(gone: asyncio.Future[None], seconds: float) -> bool:
    """Whether the caller is still there after that time; a pause of 0 still lets others run."""
    if seconds > 0:
        await asyncio.wait({gone}, timeout=seconds)
    else:
        await asyncio.sleep(0)
    return not gone.done()


async def _departure(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _matches(rule: Rule, seen: Recorded) -> bool:
    return (
        (rule.key is None or rule.key == seen.key)
        and (rule.account is None or rule.account == seen.account)
        and (rule.path is None or rule.path in seen.path)
        and (rule.model is None or rule.model == seen.model)
    )


def _control(script: Script, accounts: Accounts, request: Received) -> Reply:
    match request.method, request.path:
        case "POST", "/_sim/accounts":
            try:
                wanted = _WANTED.decode(request.body)
            except msgspec.DecodeError as error:
                return Reply(status=400, frames=(write_json({"error": str(error)}),))
            members = accounts.issue(
                wanted.kind,
                wanted.email,
                lifetime=wanted.lifetime,
                expired=wanted.expired,
                renewable=wanted.renewable,
                project=wanted.project,
            )
            return Reply(frames=(write_json(members),))
        case "POST", "/_sim/rules":
            try:
                script.add(*_RULES.decode(request.body))
            except msgspec.DecodeError as error:
                return Reply(status=400, frames=(write_json({"error": str(error)}),))
        case "DELETE", "/_sim/rules":
            script.clear_rules()
        case "GET", "/_sim/requests":
            return Reply(frames=(write_json([_told(seen) for seen in script.requests()]),))
        case _:
            return Reply(status=404, frames=(write_json({"error": "no such control route"}),))
    return Reply(frames=(write_json({"status": "ok"}),))


def _told(seen: Recorded) -> dict[str, Json]:
    return {
        "method": seen.method,
        "path": seen.path,
        "query": {**seen.query},
        "headers": {**seen.headers},
        "body": seen.body.decode("utf-8", "replace"),
        "model": seen.model,
        "account": seen.account,
        "status": seen.status,
        "completed": seen.completed,
        "cancelled": seen.cancelled,
        "cut": seen.cut,
    }


def _find(endpoints: tuple[Endpoint, ...], request: Received) -> Endpoint | None:
    for endpoint in endpoints:
        if endpoint.method != request.method or not endpoint.pattern.fullmatch(request.path):
            continue
        if endpoint.selects is None or endpoint.selects(request):
            return endpoint
    return None


def _speaks_anthropic(request: Received) -> bool:
    return "anthropic-version" in request.headers


def _speaks_gemini(request: Received) -> bool:
    return "x-goog-api-key" in request.headers


def _wants_events(request: Received) -> bool:
    return request.query.get("alt", request.query.get("$alt")) == "sse"


def _route(
    method: str,
    pattern: str,
    surface: Surface,
    respond: Callable[[Received], Reply],
    selects: Callable[[Received], bool] | None = None,
) -> Endpoint:
    return Endpoint(method, re.compile(pattern), surface, respond, selects)


def _account_endpoints(accounts: Accounts) -> tuple[Endpoint, ...]:
    """What people with accounts use. Paths are the vendors' own; where two vendors have the same one on hosts of their
    own, one of them gets another that it has: Claude logs in at `/cai/oauth/authorize`."""
    devices = DeviceLogin(accounts)
    return (
        *_login_endpoints(accounts, devices),
        *_token_endpoints(Tokens(accounts, devices), devices),
        *_codex_endpoints(CodexBackend(accounts)),
        *_google_endpoints(CodeAssist(accounts)),
        *_qwen_endpoints(QwenChat(accounts)),
    )


def _login_endpoints(accounts: Accounts, devices: DeviceLogin) -> tuple[Endpoint, ...]:
    claude, codex, google = (Authorization(accounts, registration) for registration in (CLAUDE, CODEX, GOOGLE))
    return (
        *_page("anthropic", r"/cai/oauth/authorize", claude.page, claude.decide),
        *_page("codex", r"/oauth/authorize", codex.page, codex.decide),
        *_page("code-assist", r"/o/oauth2(/v2)?/auth", google.page, google.decide),
        *_page("qwen", r"/authorize", devices.page, devices.decide),
        _route("GET", r"/oauth/code/callback", no_stream("anthropic", everyone, pages.refusal), claude.landing),
        _route("GET", r"/authcode", no_stream("code-assist", everyone, pages.refusal), google.landing),
    )


def _page(
    vendor: VendorName, pattern: str, show: Callable[[Received], Reply], decide: Callable[[Received], Reply]
) -> tuple[Endpoint, Endpoint]:
    surface = no_stream(vendor, everyone, pages.refusal)
    return _route("GET", pattern, surface, show), _route("POST", pattern, surface, decide)


def _token_endpoints(service: Tokens, devices: DeviceLogin) -> tuple[Endpoint, ...]:
    claude = no_stream("anthropic", everyone, tokens.refuse)
    codex = no_stream("codex", everyone, tokens.refuse_as_openai)
    google = no_stream("code-assist", everyone, tokens.refuse)
    qwen = no_stream("qwen", everyone, tokens.refuse)
    return (
        _route("POST", r"/v1/oauth/token", claude, service.claude),
        _route("POST", r"/oauth/token", codex, service.codex),
        _route("POST", r"/oauth/revoke", codex, service.codex_revoke),
        _route("POST", r"/token", google, service.google),
        _route("POST", r"/api/v1/oauth2/device/code", qwen, devices.begin),
        _route("POST", r"/api/v1/oauth2/token", qwen, service.qwen),
    )


def _claude_endpoints(claude: ClaudeAccounts) -> tuple[Endpoint, ...]:
    return (
        _route("POST", r"/v1/messages", claude.surface, claude.create, carries_token),
        _route("POST", r"/v1/messages/count_tokens", claude.surface, claude.count, carries_token),
        _route("GET", r"/v1/models", claude.surface, claude.models, carries_token),
        _route("GET", r"/api/oauth/profile", claude.surface, claude.profile),
    )


def _codex_endpoints(codex: CodexBackend) -> tuple[Endpoint, ...]:
    return (
        _route("POST", r"/backend-api/codex/responses", codex.surface, codex.respond),
        _route("GET", r"/backend-api/codex/models", codex.surface, codex.models),
        _route("GET", r"/backend-api/wham/usage", codex.surface, codex.usage),
    )


def _google_endpoints(google: CodeAssist) -> tuple[Endpoint, ...]:
    stream = r"/v1internal:streamGenerateContent"
    telemetry = (
        r"/v1internal:(setCodeAssistGlobalUserSetting|listExperiments|fetchAdminControls|recordCodeAssistMetrics)"
    )
    return (
        _route("POST", r"/v1internal:generateContent", google.surface, google.generate),
        _route("POST", stream, google.stream_surface, google.stream, _wants_events),
        _route("POST", stream, google.array_surface, google.stream_array),
        _route("POST", r"/v1internal:countTokens", google.surface, google.count),
        _route("POST", r"/v1internal:loadCodeAssist", google.surface, google.load),
        _route("POST", r"/v1internal:onboardUser", google.surface, google.onboard),
        _route("GET", r"/v1internal/operations/[\w.-]+", google.surface, google.operation),
        _route("POST", r"/v1internal:retrieveUserQuota", google.surface, google.quota),
        _route("POST", telemetry, google.surface, google.nothing),
        _route("GET", r"/v1internal:getCodeAssistGlobalUserSetting", google.surface, google.nothing),
        _route("GET", r"/oauth2/v[12]/userinfo", google.person_surface, google.userinfo),
        _route("GET", r"/v1/projects", google.surface, google.projects),
    )


def _qwen_endpoints(qwen: QwenChat) -> tuple[Endpoint, ...]:
    return (_route("POST", r"/compatible-mode/v1/chat/completions", qwen.surface, qwen.complete),)


# Newer Google SDKs call `/v1` where older ones call `/v1beta`.
_GEMINI_MODEL = r"/v1(beta)?/models/[^:]+"
_KEY_ENDPOINTS = (
    _route("POST", r"(/v1)?/chat/completions", openai_chat.SURFACE, openai_chat.complete),
    _route("POST", r"(/v1)?/responses", openai_responses.SURFACE, openai_responses.create),
    _route("POST", r"/v1/messages", anthropic.SURFACE, anthropic.create),
    _route("POST", r"/v1/messages/count_tokens", anthropic.SURFACE, anthropic.count),
    _route("POST", _GEMINI_MODEL + ":generateContent", gemini.SURFACE, gemini.generate),
    _route("POST", _GEMINI_MODEL + ":streamGenerateContent", gemini.SURFACE, gemini.stream, _wants_events),
    _route("POST", _GEMINI_MODEL + ":streamGenerateContent", gemini.ARRAY_SURFACE, gemini.stream_array),
    _route("POST", _GEMINI_MODEL + ":countTokens", gemini.SURFACE, gemini.count),
    _route("GET", r"/v1/models", anthropic.SURFACE, anthropic.models, _speaks_anthropic),
    _route("GET", r"/v1/models", gemini.SURFACE, gemini.models, _speaks_gemini),
    _route("GET", r"/v1beta/models", gemini.SURFACE, gemini.models),
    _route("GET", _GEMINI_MODEL, gemini.SURFACE, gemini.model),
    _route("GET", r"(/v1)?/models", openai_chat.SURFACE, openai_edge.models),
)
