"""The ASGI adapter on a fake server: keep-alives and answers meet in any order, and a bug costs one request."""

import asyncio
import json
from typing import Any

import pytest
from doors import DOORS, is_error

from cliproxy.config.document import read
from cliproxy.gateway.runtime import Runtime
from cliproxy.providers.registry import PROVIDERS
from cliproxy.server.asgi import AsgiApp, AsgiExchange
from cliproxy.transport.pool import Pool

HEADERS = ((b"content-type", b"text/event-stream"),)


class Server:
    """What an ASGI server is to an application: `receive` gives the body and then waits, `sent` is what came out."""

    def __init__(self, body: bytes = b"{}", *, is_broken: bool = False) -> None:
        self.sent: list[dict[str, Any]] = []
        self._messages = [{"type": "http.request", "body": body, "more_body": False}]
        self._is_broken = is_broken

    async def receive(self) -> Any:
        if self._is_broken:
            raise RuntimeError("a bug")
        if self._messages:
            return self._messages.pop()
        return await asyncio.Event().wait()

    async def send(self, message: Any) -> None:
        await asyncio.sleep(0)
        self.sent.append(message)

    @property
    def kinds(self) -> list[str]:
        return [message["type"].removeprefix("http.response.") for message in self.sent]

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


def runtime() -> Runtime:
    config = read("api-keys: [test-key]\n").config
    return Runtime(config, PROVIDERS, Pool(), monotonic=lambda: 0.0, epoch=lambda: 0.0, boot="test")


def scope(target: str = "/v1/messages", version: str = "1.1") -> dict[str, Any]:
    return {
        "type": "http",
        "method": "POST",
        "path": target.partition("?")[0],
        "query_string": target.partition("?")[2].encode(),
        "headers": [(b"host", b"127.0.0.1"), (b"x-api-key", b"test-key")],
        "client": ("127.0.0.1", 5),
        "http_version": version,
    }


def exchange(server: Server, **options: Any) -> AsgiExchange:
    return AsgiExchange(scope(**options), server.receive, server.send, runtime())


def run(work: Any) -> None:
    asyncio.run(work)


def test_a_keep_alive_that_is_overtaken_does_not_spoil_the_head():
    async def work() -> None:
        one = exchange(server)
        one.nudge(200, HEADERS, b"\n")
        await one.start(200, HEADERS, b"first")
        await one.finish()
        await asyncio.sleep(0)

    server = Server()
    run(work())

    assert server.kinds[0] == "start"
    assert server.kinds.count("start") == 1
    assert not server.sent[-1]["more_body"]
    assert b"first" in server.body


def test_a_failure_right_after_a_keep_alive_is_told_inside_the_stream():
    async def work() -> None:
        one = exchange(server)
        one.nudge(200, HEADERS, b"\n")
        assert one.is_started
        await one.send(b"the error")
        await one.finish()

    server = Server()
    run(work())

    assert server.kinds[0] == "start"
    assert server.kinds.count("start") == 1
    assert server.body.strip() == b"the error"


def test_a_keep_alive_after_the_end_is_not_written():
    async def work() -> None:
        one = exchange(server)
        await one.start(200, HEADERS, b"all")
        await one.finish()
        one.nudge(200, HEADERS, b"\n")
        await asyncio.sleep(0.01)

    server = Server()
    run(work())

    assert server.body == b"all"


@pytest.mark.parametrize("data", [b"", b"\n"])
def test_a_keep_alive_never_ends_an_answer(data):
    async def work() -> None:
        one = exchange(server)
        await one.start(200, HEADERS, b"all")
        one.nudge(200, HEADERS, data)
        await asyncio.sleep(0.01)

    server = Server()
    run(work())

    assert all(message["more_body"] for message in server.sent[1:])
    assert server.body == b"all" + data


def test_callers_of_http_1_0_get_streams_as_one_answer():
    async def work() -> None:
        one = exchange(server, version="1.0")
        one.nudge(200, HEADERS, b"\n")
        await asyncio.sleep(0.01)
        await one.start(200, HEADERS, b"a")
        await one.send(b"b")
        await one.finish()

    server = Server()
    run(work())

    assert server.kinds == ["start", "body"]
    assert server.body == b"\nab"
    assert (b"content-length", b"3") in server.sent[0]["headers"]


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.dialect)
def test_a_bug_costs_one_request_and_the_log_has_it(door, caplog):
    server = Server(is_broken=True)

    asyncio.run(AsgiApp(runtime())(scope(door.target), server.receive, server.send))

    assert server.sent[0]["status"] == 500
    assert is_error(door.dialect, json.loads(server.body), 500)
    assert "a bug" not in server.body.decode()
    request_id = dict(server.sent[0]["headers"])[b"x-request-id"].decode()
    assert [record.getMessage() for record in caplog.records if record.exc_info] == [f"{request_id} failed"]
    caplog.clear()
