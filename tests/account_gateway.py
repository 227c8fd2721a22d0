"""A gateway for accounts that come from files, without its edge: requests go in by the table of addresses, and out by the
real transport to the simulated vendors. Tokens are those of the files, and are never renewed."""

import asyncio
import itertools
import time
from collections.abc import Mapping
from typing import Any

from plain import Answer, Caller

from cliproxy.config.document import read
from cliproxy.gateway.runtime import Runtime
from cliproxy.providers.accounts import AccountFile
from cliproxy.providers.logins.registry import read_file
from cliproxy.providers.registry import KINDS, PROVIDERS
from cliproxy.server.reply import serve
from cliproxy.simulator import Simulator
from cliproxy.transport.pool import Pool
from cliproxy.wire.http import Headers
from cliproxy.wire.secrets import Secret

EMAILS = {"claude": "ada@example.com", "codex": "bob@example.com", "gemini": "cy@example.com", "qwen": "di@example.com"}


class Asked:
    """One request at the edge, and what was answered."""

    peer, recorder, id_name, is_gone = "127.0.0.1", None, b"", False

    def __init__(self, method: str, target: str, headers: Mapping[str, str], body: bytes, number: int) -> None:
        self.method = method
        self.path, _, query = target.partition("?")
        self.query = query.encode()
        self.headers: Headers = tuple((name.encode(), value.encode()) for name, value in headers.items())
        self.request_id = f"req_{number}"
        self.extra: Headers = ()
        self.is_started = False
        self.answer = Answer(0, {}, b"")
        self._body = body

    async def read(self, limit: int | None = None) -> bytes:
        return self._body

    async def reply(self, status: int, headers: Headers, body: bytes) -> None:
        await self.start(status, headers, body)

    async def start(self, status: int, headers: Headers, data: bytes = b"") -> None:
        assert not self.is_started
        self.is_started = True
        told = {name.decode(): value.decode() for name, value in (*headers, *self.extra)}
        self.answer = Answer(status, told, data)

    async def send(self, data: bytes) -> None:
        assert self.is_started
        self.answer.body += data

    def nudge(self, status: int, headers: Headers, data: bytes) -> bool:
        return False

    async def finish(self) -> None: ...


class FileTokens:
    """See `gateway.runtime.Tokens`."""

    def __init__(self, tokens: Mapping[str, Secret]) -> None:
        self._tokens = tokens

    async def token(self, name: str) -> Secret:
        return self._tokens[name]

    async def instead_of(self, name: str, refused: Secret) -> Secret | None:
        return None


class AccountGateway:
    """`kinds` are logged in at `vendors`, one file each; `more` are files besides, by name. `text` is configuration."""

    def __init__(
        self,
        vendors: Simulator,
        *kinds: str,
        text: str = "",
        retries: int = 0,
        more: Mapping[str, Mapping[str, object]] | None = None,
    ) -> None:
        self._config = read(f"{vendors.endpoints()}\napi-keys: [test-key]\nrequest-retry: {retries}\n{text}").config
        members = {f"{kind}.json": vendors.accounts.issue(kind, EMAILS[kind]) for kind in kinds} | dict(more or {})
        self.files: dict[str, AccountFile] = {}
        tokens: dict[str, Secret] = {}
        for name, values in members.items():
            file = read_file(name, values)
            assert isinstance(file, AccountFile), file
            self.files[name] = file
            tokens[name] = KINDS[file.kind].grants.read_tokens(values).access
        self._tokens = FileTokens(tokens)
        self._numbers = itertools.count(1)

    def ask(self, caller: Caller, model: str, **options: Any) -> Answer:
        """What a caller of a plain dialect gets; options as `Caller.ask` has them."""
        stream, text = options.get("stream", False), options.get("text", "hello there you")
        headers = caller.headers | options.get("headers", {})
        return self.post(caller.address(model, stream=stream), caller.body(model, text, stream=stream), headers)

    def post(self, target: str, body: bytes, headers: Mapping[str, str] | None = None, method: str = "POST") -> Answer:
        lines = {"authorization": "Bearer test-key", "content-type": "application/json"} | dict(headers or {})
        exchange = Asked(method, target, lines, body, next(self._numbers))
        asyncio.run(self._serve(exchange))
        return exchange.answer

    async def _serve(self, exchange: Asked) -> None:
        transport = Pool()
        runtime = Runtime(
            self._config, PROVIDERS, transport, monotonic=time.monotonic, epoch=time.time, boot="t", kinds=KINDS
        )
        runtime.tokens = self._tokens
        await runtime.adopt_files(self.files, set())
        try:
            await serve(runtime, exchange)
        finally:
            transport.close()
