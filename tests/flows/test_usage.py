"""Usage as it is counted: through real sockets, on both edges, with every caller and every vendor."""

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from plain import CALLERS, CHAT, GEMINI_ARRAY, MESSAGES, STREAMERS, VENDORS, Caller, Gateways

from cliproxy.simulator import Simulator
from cliproxy.simulator.failures import failure
from cliproxy.simulator.rules import Rule
from serving import STANDARD, Serving

MANAGED = STANDARD + "remote-management: {{secret-key: mk}}\n"
TOLD = {"input_tokens": 3, "output_tokens": 4, "reasoning_tokens": 0, "cached_tokens": 0, "total_tokens": 7}
"""What the simulated vendors say of `one two three`, which they echo; Gemini says nothing of thoughts it had none of."""
UNTOLD = dict.fromkeys(TOLD)

each_upstream = pytest.mark.parametrize("upstream", VENDORS)
whole_and_streamed = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


class Counting:
    """A gateway whose counters are read by its Management API."""

    def __init__(self, serving: Serving) -> None:
        self.url = serving.url

    def get(self, path: str) -> Any:
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=20)
        try:
            connection.request("GET", f"/v0/management{path}", headers={"Authorization": "Bearer mk"})
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def drained(self, count: int = 1) -> list[dict[str, Any]]:
        """`count` records, as soon as they are there: an answer may arrive before it is counted."""
        records: list[dict[str, Any]] = []
        end = time.monotonic() + 5
        while len(records) < count and time.monotonic() < end:
            records += self.get(f"/usage-queue?count={count}")
        return records

    @property
    def usage(self) -> dict[str, Any]:
        return self.get("/usage")["usage"]


Count = Callable[..., Counting]


@pytest.fixture(scope="module")
def counting(request, shared_vendors, tmp_path_factory) -> Iterator[Counting]:
    serving = Serving(MANAGED.format(vendors=shared_vendors.url), folder=tmp_path_factory.mktemp("usage"))
    yield Counting(serving)
    serving.stop()


@pytest.fixture
def count(tmp_path, vendors: Simulator) -> Iterator[Count]:
    """Starts gateways before the vendors of this test."""
    gateways = Gateways()

    def begin(**options: Any) -> Counting:
        return Counting(gateways(MANAGED.format(vendors=vendors.url), folder=tmp_path, **options))

    yield begin
    gateways.let_go()


@each_upstream
@pytest.mark.parametrize("caller", CALLERS, ids=lambda caller: caller.name)
@whole_and_streamed
def test_each_answer_is_counted_exactly(counting, caller, upstream, stream):
    answer = caller.ask(counting.url, VENDORS[upstream], stream=stream, text="one two three")
    (record,) = counting.drained()

    thoughts = {"reasoning_tokens": None} if upstream == "gemini" else {}
    assert record["tokens"] == TOLD | thoughts
    assert record["request_id"] == answer.headers["x-request-id"]
    assert (record["endpoint"], record["model"], record["alias"]) == (caller.name, VENDORS[upstream], VENDORS[upstream])
    assert (record["status"], record["failed"], record["attempts"]) == (200, False, 1)


@pytest.mark.parametrize("edge", ["asgi"])
@pytest.mark.parametrize("caller", [CHAT, GEMINI_ARRAY], ids=lambda caller: caller.name)
def test_both_edges_count_alike(count, caller, edge):
    counting = count(edge=edge)

    for upstream in ("openai-chat", "gemini"):
        for stream in (False, True):
            if stream or caller is CHAT:
                caller.ask(counting.url, VENDORS[upstream], stream=stream, text="one two three")
    records = counting.drained(4 if caller is CHAT else 2)

    assert {record["tokens"]["total_tokens"] for record in records} == {7}


@pytest.mark.parametrize("caller", STREAMERS, ids=lambda caller: caller.name)
def test_what_the_caller_was_told_is_what_is_counted(counting, caller):
    answer = caller.ask(counting.url, VENDORS["anthropic"], stream=True, text="a b c d e f")
    (record,) = counting.drained()

    assert (record["tokens"]["input_tokens"], record["tokens"]["output_tokens"]) == caller.usage(answer)


def test_an_alias_is_counted_under_the_upstreams_name(counting):
    CHAT.ask(counting.url, "my-chat")
    (record,) = counting.drained()

    assert (record["alias"], record["model"]) == ("my-chat", "sim-large")


def test_tokens_that_nobody_told_are_unknown(counting):
    before = counting.usage["untold_requests"]
    body = {"model": "sim-chat", "stream": True, "messages": [{"role": "user", "content": "x"}]}

    answer = post_chat(counting.url, body)
    (record,) = counting.drained()

    assert answer.status == 200
    assert record["tokens"] == UNTOLD
    assert counting.usage["untold_requests"] == before + 1


def post_chat(url: str, body: dict[str, Any]) -> Any:
    caller = Caller("openai-chat", "openai-chat")
    caller.body = lambda *_, **__: json.dumps(body).encode()  # type: ignore[method-assign]
    return caller.ask(url, body["model"])


@each_upstream
@whole_and_streamed
def test_a_refusal_is_counted_as_a_failure(count, vendors, upstream, stream):
    vendors.script(Rule(answer=failure(upstream, 400)))
    counting = count()

    MESSAGES.ask(counting.url, VENDORS[upstream], stream=stream)
    (record,) = counting.drained()

    assert (record["status"], record["failed"], record["tokens"]) == (400, True, UNTOLD)
    assert counting.get("/usage")["failed_requests"] == 1


@each_upstream
def test_a_stream_that_breaks_off_is_counted_as_a_failure(count, vendors, upstream):
    vendors.script(Rule(error_after=6))
    counting = count()

    for caller in CALLERS:
        caller.ask(counting.url, VENDORS[upstream], stream=True, text="many words to be said one by one by one")
    records = counting.drained(4)

    assert [record["failed"] for record in records] == [True] * 4
    assert {record["status"] for record in records} & {200, 499, 500} == set()


def test_a_model_that_nobody_serves_is_counted_as_a_failure(counting):
    CHAT.ask(counting.url, "nobody-has-this")
    (record,) = counting.drained()

    assert (record["status"], record["attempts"], record["auth_index"], record["provider"]) == (404, 0, "", "")


def test_a_request_that_moves_on_is_one_with_several_attempts(count, vendors):
    vendors.script(Rule(answer=failure("openai-chat", 503), times=1))
    counting = count()

    CHAT.ask(counting.url, "sim-chat")
    (record,) = counting.drained()

    assert (record["status"], record["attempts"]) == (200, 2)
    (counters,) = counting.get("/api-key-usage")["openai-compatibility"].values()
    assert (counters["success"], counters["failed"]) == (1, 1)


def test_a_fault_of_the_caller_is_none_of_the_key(count, vendors):
    vendors.script(Rule(answer=failure("openai-chat", 400)))
    counting = count()

    CHAT.ask(counting.url, "sim-chat")
    counting.drained()

    (counters,) = counting.get("/api-key-usage")["openai-compatibility"].values()
    assert (counters["success"], counters["failed"]) == (0, 0)


@pytest.mark.parametrize("upstream", ["anthropic", "openai-chat"])
def test_a_caller_who_leaves_is_counted_as_such(count, vendors, upstream, edge):
    vendors.script(Rule(hang=True, cut_after=4))
    counting = count(edge=edge)
    connection = http.client.HTTPConnection(counting.url.removeprefix("http://"), timeout=20)
    body = MESSAGES.body(VENDORS[upstream], "some words to be said", stream=True)
    headers = MESSAGES.headers | {"authorization": "Bearer test-key", "content-type": "application/json"}
    connection.request("POST", "/v1/messages", body, headers)
    connection.getresponse().read(1)

    connection.close()
    (record,) = counting.drained()

    assert (record["status"], record["failed"]) == (499, True)
    assert (counting.usage["left_requests"], counting.usage["failure_count"]) == (1, 1)
    assert record["tokens"]["input_tokens"] == (5 if upstream == "anthropic" else None)


def test_sums_are_consistent_under_many_callers(count):
    counting = count()
    asked = [(caller, upstream, stream) for caller in CALLERS for upstream in VENDORS for stream in (False, True)]
    work = [case for case in asked for _ in range(8)]
    lock = threading.Lock()

    def ask() -> None:
        while True:
            with lock:
                if not work:
                    return
                caller, upstream, stream = work.pop()
            caller.ask(counting.url, VENDORS[upstream], stream=stream, text="one two three")

    threads = [threading.Thread(target=ask) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    records = counting.drained(256)
    usage = counting.usage

    assert len({record["request_id"] for record in records}) == 256
    assert (usage["total_requests"], usage["success_count"], usage["total_tokens"]) == (256, 256, 256 * 7)
    assert sum(usage["requests_by_day"].values()) == sum(usage["requests_by_hour"].values()) == 256
    assert sum(usage["tokens_by_day"].values()) == sum(usage["tokens_by_hour"].values()) == 256 * 7
    assert {name: api["total_requests"] for name, api in usage["apis"].items()} == {one.name: 64 for one in CALLERS}
    models = [model for api in usage["apis"].values() for model in api["models"].values()]
    assert [(model["total_requests"], len(model["details"])) for model in models] == [(16, 16)] * 16


def test_no_key_is_in_what_is_counted(counting):
    CHAT.ask(counting.url, "sim-chat")
    told = json.dumps([counting.drained(), counting.get("/usage"), counting.get("/usage/export")])

    assert "sk-sim" not in told
    assert "test-key" not in told
