"""Streams that break, stall, or come otherwise than their vendors write them; passed through and translated.

Promises: the handshake is held back until content; before content another account answers; after it the caller gets
exactly one error frame of its own dialect, no terminator and no second answer; what is complete ends cleanly.
"""

import json
import socket
import threading
import time

import pytest
from plain import CALLERS, CHAT, GEMINI, GEMINI_ARRAY, MESSAGES, RESPONSES, STREAMERS, VENDORS, Gateways, config, post

from cliproxy.simulator import Simulator
from cliproxy.simulator.rules import Answer, Rule

pytestmark = pytest.mark.flow

A, B = "sk-sim-a", "sk-sim-b"
SPOKEN = "echo: hello there you"
BY_VENDOR = {caller.vendor: caller for caller in CALLERS}
# Frames of the vendors' streams before the first word, and all of them.
HANDSHAKE = {"openai-chat": 1, "openai-responses": 4, "anthropic": 3, "gemini": 0}
FRAMES = {"openai-chat": 8, "openai-responses": 12, "anthropic": 10, "gemini": 4}
# Where the answer is complete, though frames are missing.
COMPLETE = {"openai-chat": 6, "openai-responses": 12, "anthropic": 9, "gemini": 4}
MESSAGES_KEEPALIVE = b": keepalive\n\n"
each_vendor = pytest.mark.parametrize("vendor", VENDORS)
each_caller = pytest.mark.parametrize("caller", STREAMERS, ids=lambda caller: caller.name)


@pytest.fixture(scope="module")
def simulator():
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def vendors(simulator):
    simulator.reset()
    return simulator


@pytest.fixture
def start():
    gateways = Gateways()
    yield gateways
    gateways.let_go()


@pytest.fixture(scope="module")
def served(simulator):
    """One gateway with one account per vendor and one that never retries."""
    gateways = Gateways()
    serving = gateways(everybody(simulator.url))
    yield serving
    gateways.let_go()


def everybody(url: str, settings: str = "request-retry: 0") -> str:
    texts = [config(url, vendor, [A]) for vendor in VENDORS]
    head, *_ = config(url, "anthropic", [A], settings=settings).partition("claude-api-key")
    return head + "".join(text.split("api-keys: [test-key]\n")[1] for text in texts)


def frames_of(vendor: str, vendors) -> list[bytes]:
    """The vendor's own stream, frame by frame."""
    caller = BY_VENDOR[vendor]
    headers = {
        "openai-chat": {"authorization": f"Bearer {A}"},
        "openai-responses": {"authorization": f"Bearer {A}"},
        "anthropic": {"x-api-key": A, "anthropic-version": "2023-06-01"},
        "gemini": {"x-goog-api-key": A},
    }[vendor]
    model = VENDORS[vendor]
    answer = post(vendors.url, caller.address(model, stream=True), caller.body(model, stream=True), headers)
    vendors.reset()
    return [frame + b"\n\n" for frame in answer.body.split(b"\n\n") if frame]


# ---- before content -------------------------------------------------------------------------------------------------


@each_vendor
@each_caller
def test_a_failure_before_content_is_answered_by_another_account(caller, vendor, vendors, start):
    serving = start(config(vendors.url, vendor, [A, B]))

    for after in range(HANDSHAKE[vendor] + 1):
        for fault in ({"error_after": after}, {"cut_after": after}, {"cut_after": after, "cut_inside": True}):
            vendors.reset()
            vendors.script(Rule(key=A, **fault))
            answer = caller.ask(serving.url, VENDORS[vendor], stream=True)
            assert answer.status == 200, (fault, answer.body)
            assert caller.text(answer, stream=True) == SPOKEN
            assert caller.is_finished(answer)
            assert not caller.errors(answer)


@each_vendor
@each_caller
def test_handshakes_are_held_back_until_content(caller, vendor, vendors, start):
    vendors.script(Rule(hang=True, cut_after=HANDSHAKE[vendor]))
    serving = start(everybody(vendors.url))

    connection = _ask(serving, caller, VENDORS[vendor])
    connection.settimeout(0.3)
    with pytest.raises(TimeoutError):
        connection.recv(1)
    connection.close()

    assert [seen.cancelled for seen in vendors.settled()] == [True]


@pytest.mark.parametrize(
    ("caller", "opening"),
    [(MESSAGES, b"message_start"), (RESPONSES, b"response.created"), (CHAT, b'"role":"assistant"')],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_handshake_is_not_held_longer_than_a_keepalive_is_due(caller, opening, vendors, start):
    vendors.script(Rule(hang=True, cut_after=HANDSHAKE[caller.vendor]))
    serving = start(everybody(vendors.url, "streaming: {keepalive-seconds: 0.2}"))

    connection = _ask(serving, caller, VENDORS[caller.vendor])
    connection.settimeout(5)
    seen = b""
    while opening not in seen:
        piece = connection.recv(65536)
        assert piece
        seen += piece
    connection.close()

    assert b" 200 " in seen.partition(b"\r\n")[0]


def test_a_released_handshake_is_never_followed_by_a_second_one(vendors, start):
    vendors.script(Rule(key=A, pace=0.4, cut_after=HANDSHAKE["anthropic"]))
    serving = start(config(vendors.url, "anthropic", [A, B], settings="streaming: {keepalive-seconds: 0.1}"))

    answer = MESSAGES.ask(serving.url, VENDORS["anthropic"], stream=True)

    assert answer.body.count(b"event: message_start") == 1
    assert len(MESSAGES.errors(answer)) == 1
    assert not MESSAGES.is_finished(answer)
    assert len(vendors.requests) == 1


@each_caller
def test_keepalives_begin_the_answer_and_later_failures_stay_inside(caller, vendors, start):
    vendors.script(Rule(delay=0.5, answer=Answer(status=500, body="{}")))
    settings = "request-retry: 0\nstreaming: {keepalive-seconds: 0.15}"
    serving = start(everybody(vendors.url, settings))

    answer = caller.ask(serving.url, "sim-chat", stream=True)

    assert answer.status == 200
    assert answer.is_complete
    assert len(caller.errors(answer)) == 1
    assert not caller.is_finished(answer)


@each_vendor
@each_caller
def test_keepalives_do_not_disturb_an_answer(caller, vendor, vendors, start):
    vendors.script(Rule(delay=0.15, pace=0.07))
    serving = start(everybody(vendors.url, "streaming: {keepalive-seconds: 0.05}"))

    answer = caller.ask(serving.url, VENDORS[vendor], stream=True)

    assert caller.text(answer, stream=True) == SPOKEN
    assert caller.is_finished(answer)


def test_another_account_may_answer_after_keepalives(vendors, start):
    vendors.script(Rule(key=A, delay=0.3, answer=Answer(status=500, body="{}")))
    text = config(vendors.url, "anthropic", [A, B], settings="streaming: {keepalive-seconds: 0.1}")
    serving = start(text)

    answer = MESSAGES.ask(serving.url, VENDORS["anthropic"], stream=True)

    assert answer.body.startswith(MESSAGES_KEEPALIVE)
    assert MESSAGES.text(answer, stream=True) == SPOKEN
    assert not MESSAGES.errors(answer)


# ---- after content --------------------------------------------------------------------------------------------------


@each_vendor
@each_caller
def test_a_stream_that_breaks_after_content_ends_in_one_error(caller, vendor, vendors, served):
    is_strict = caller is MESSAGES and vendor == "anthropic"  # its own clients need `message_stop`
    for after in range(HANDSHAKE[vendor] + 1, COMPLETE[vendor] + is_strict):
        for fault in ({"error_after": after}, {"cut_after": after}, {"cut_after": after, "cut_inside": True}):
            vendors.reset()
            vendors.script(Rule(**fault))
            answer = caller.ask(served.url, VENDORS[vendor], stream=True)
            assert answer.status == 200, (fault, answer.body)
            if answer.body:
                assert len(caller.errors(answer)) == 1, (fault, answer.body)
                assert caller.errors(answer)[0] == answer.events[-1]
                assert caller.is_finished(answer) is (b"finish_reason" in answer.body and _has_reason(caller, answer))
                assert b"[DONE]" not in answer.body
            assert SPOKEN.startswith(caller.text(answer, stream=True))
            assert answer.is_complete
            assert len(vendors.requests) == 1


def _has_reason(caller, answer) -> bool:
    return caller is CHAT and any(c.get("finish_reason") for e in answer.events for c in e.get("choices") or ())


CITY = '{"city":"' + "Llanfairpwllgwyngyll" * 4 + '"}'


def calling(caller, model: str) -> bytes:
    """A request that is answered with a call of a tool."""
    text, schema = f"call get_weather {CITY}", {"type": "object", "properties": {"city": {"type": "string"}}}
    turns = {"messages": [{"role": "user", "content": text}]}
    body: dict[str, object] = {"stream": True, "model": model}
    if caller is RESPONSES:
        body |= {
            "input": text,
            "tools": [{"type": "function", "name": "get_weather", "parameters": schema, "strict": False}],
        }
    elif caller is MESSAGES:
        body |= turns | {"max_tokens": 900, "tools": [{"name": "get_weather", "input_schema": schema}]}
    else:
        body |= turns | {"tools": [{"type": "function", "function": {"name": "get_weather", "parameters": schema}}]}
    return json.dumps(body).encode()


def arguments(caller, events) -> str:
    """What came of the call's arguments."""
    if caller is RESPONSES:
        pieces = [event["delta"] for event in events if event["type"] == "response.function_call_arguments.delta"]
    elif caller is MESSAGES:
        pieces = [event["delta"].get("partial_json", "") for event in events if event["type"] == "content_block_delta"]
    else:
        calls = [
            call for event in events for one in event.get("choices", ()) for call in one["delta"].get("tool_calls", ())
        ]
        pieces = [call["function"].get("arguments", "") for call in calls]
    return "".join(pieces).replace(" ", "")


@each_vendor
@pytest.mark.parametrize("caller", [CHAT, MESSAGES, RESPONSES], ids=lambda caller: caller.name)
def test_a_call_that_is_open_when_the_stream_breaks_is_not_closed_for_it(caller, vendor, vendors, served):
    seen = set()
    for after in range(1, 30):
        vendors.reset()
        vendors.script(Rule(cut_after=after, cut_inside=True))
        model = VENDORS[vendor]
        answer = post(served.url, caller.address(model, stream=True), calling(caller, model), caller.headers)
        if answer.status != 200:
            continue
        if not caller.errors(answer):
            break
        assert len(caller.errors(answer)) == 1, answer.body
        assert caller.errors(answer)[0] == answer.events[-1]
        assert CITY.startswith(arguments(caller, answer.events)), answer.body
        assert b"[DONE]" not in answer.body
        assert b"message_stop" not in answer.body
        assert b"response.completed" not in answer.body
        seen.add(arguments(caller, answer.events))

    assert arguments(caller, answer.events) == CITY, (after, answer.body[-600:])
    assert seen or vendor == "gemini"  # its calls come in one piece


@each_vendor
@each_caller
def test_a_cut_behind_the_end_is_a_clean_end(caller, vendor, vendors, served):
    is_strict = caller is MESSAGES and vendor == "anthropic"
    for after in range(COMPLETE[vendor] + is_strict, FRAMES[vendor] + 1):
        vendors.reset()
        vendors.script(Rule(cut_after=after))

        answer = caller.ask(served.url, VENDORS[vendor], stream=True)

        assert caller.text(answer, stream=True) == SPOKEN
        assert caller.is_finished(answer), answer.body
        assert not caller.errors(answer), answer.body


@each_vendor
@each_caller
def test_a_stream_without_its_terminal_event_is_not_finished(caller, vendor, vendors, served):
    vendors.script(Rule(sse=("no-finish", "no-done")))

    answer = caller.ask(served.url, VENDORS[vendor], stream=True)

    assert len(caller.errors(answer)) == 1
    assert not caller.is_finished(answer)


def test_nothing_follows_an_upstreams_error_frame(vendors, served):
    body = (
        'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
        'data: {"error":{"message":"Provider disconnected","code":502},"choices":[{"delta":{},"finish_reason":"error"}]}\n\n'
        "data: [DONE]\n\n"
    )
    vendors.script(Rule(answer=Answer(content_type="text/event-stream", body=body)))

    native = CHAT.ask(served.url, "sim-chat", stream=True)
    foreign = [caller.ask(served.url, "sim-chat", stream=True) for caller in (MESSAGES, RESPONSES, GEMINI)]

    assert native.body == body.removesuffix("data: [DONE]\n\n").encode()
    for caller, answer in zip((MESSAGES, RESPONSES, GEMINI), foreign, strict=True):
        assert len(caller.errors(answer)) == 1
        assert not caller.is_finished(answer)


def test_an_error_ends_the_answer_though_the_upstream_stays_silent(vendors, served):
    vendors.script(Rule(error_after=5, hang=True, cut_after=6))
    began = time.monotonic()

    answers = [caller.ask(served.url, VENDORS["anthropic"], stream=True) for caller in (MESSAGES, CHAT)]

    assert time.monotonic() - began < 5
    assert [len(caller.errors(answer)) for caller, answer in zip((MESSAGES, CHAT), answers, strict=True)] == [1, 1]
    assert all(seen.cancelled for seen in vendors.settled())


# ---- oddities -------------------------------------------------------------------------------------------------------

ODDITIES = {
    "crlf": {"sse": ("crlf",)},
    "no space": {"sse": ("no-space",)},
    "comments": {"sse": ("comments",)},
    "bom": {"sse": ("bom",)},
    "no final blank line": {"sse": ("no-final-blank",)},
    "no done": {"sse": ("no-done",)},
    "all at once": {"sse": ("crlf", "no-space", "comments", "bom", "no-final-blank")},
    "byte by byte": {"trickle": 0},
    "crlf in pieces": {"sse": ("crlf",), "trickle": 7},
    "gzip": {"gzip": True},
    "gzip in pieces": {"gzip": True, "trickle": 3},
    "another content type": {"content_type": "application/octet-stream"},
    "a shouted content type": {"content_type": "Text/Event-Stream"},
}


@pytest.mark.parametrize("oddity", ODDITIES)
@each_vendor
@each_caller
def test_odd_streams_are_understood(caller, vendor, oddity, vendors, served):
    vendors.script(Rule(**ODDITIES[oddity]))

    answer = caller.ask(served.url, VENDORS[vendor], stream=True)

    assert answer.status == 200, answer.body
    assert caller.text(answer, stream=True) == SPOKEN
    assert caller.is_finished(answer)
    assert not caller.errors(answer)
    assert caller.usage(answer)[1] > 0


LARGE = [(caller, caller.vendor) for caller in CALLERS]
LARGE += [(MESSAGES, "openai-responses"), (CHAT, "anthropic"), (GEMINI_ARRAY, "gemini"), (RESPONSES, "openai-chat")]


@pytest.mark.parametrize(("caller", "vendor"), LARGE)
def test_an_event_may_be_very_large(caller, vendor, vendors, served):
    vendors.script(Rule(huge_event_bytes=64 * 1024 * 1024))

    answer = caller.ask(served.url, VENDORS[vendor], stream=True)

    assert caller.text(answer, stream=True) == SPOKEN
    assert caller.is_finished(answer)


@each_vendor
@each_caller
def test_a_whole_answer_in_place_of_a_stream_becomes_one(caller, vendor, vendors, served):
    native = BY_VENDOR[vendor]
    whole = native.ask(served.url, VENDORS[vendor])
    vendors.script(Rule(answer=Answer(body=whole.body.decode())))

    answer = caller.ask(served.url, VENDORS[vendor], stream=True)

    assert caller.text(answer, stream=True) == SPOKEN
    assert caller.is_finished(answer)
    assert caller.usage(answer)[1] > 0


@each_vendor
@pytest.mark.parametrize("caller", CALLERS, ids=lambda caller: caller.name)
def test_a_stream_in_place_of_a_whole_answer_is_folded(caller, vendor, vendors, served):
    stream = b"".join(frames_of(vendor, vendors))
    vendors.script(Rule(answer=Answer(content_type="text/event-stream", body=stream.decode())))

    answer = caller.ask(served.url, VENDORS[vendor])

    assert answer.headers["content-type"] == "application/json"
    assert caller.text(answer, stream=False) == SPOKEN
    assert caller.model(answer.json) == VENDORS[vendor]


@each_vendor
def test_a_broken_stream_in_place_of_a_whole_answer_is_no_answer(vendor, vendors, served):
    stream = b"".join(frames_of(vendor, vendors)[: COMPLETE[vendor] - 1])
    vendors.script(Rule(answer=Answer(content_type="text/event-stream", body=stream.decode())))

    answers = [caller.ask(served.url, VENDORS[vendor]) for caller in CALLERS]

    assert {answer.status for answer in answers} == {502}


# ---- Gemini's arrays ------------------------------------------------------------------------------------------------


@each_vendor
def test_gemini_callers_without_sse_get_a_json_array(vendor, vendors, served):
    answer = GEMINI_ARRAY.ask(served.url, VENDORS[vendor], stream=True)

    assert answer.headers["content-type"].startswith("application/json")
    assert isinstance(answer.json, list)
    assert GEMINI_ARRAY.text(answer, stream=True) == SPOKEN


@each_vendor
def test_an_error_inside_a_json_array_is_its_last_element(vendor, vendors, served):
    vendors.script(Rule(error_after=HANDSHAKE[vendor] + 2))

    answer = GEMINI_ARRAY.ask(served.url, VENDORS[vendor], stream=True)

    assert answer.json[-1]["error"]["message"] == "Overloaded"
    assert GEMINI_ARRAY.text(answer, stream=True).startswith("echo:")


@each_caller
def test_an_upstream_that_ignores_alt_sse_is_understood(caller, vendors, served):
    chunks = [json.loads(frame[6:]) for frame in frames_of("gemini", vendors)]
    for body, errors in ((json.dumps(chunks), 0), (json.dumps([*chunks[:2], {"error": {"code": 503}}]), 1)):
        vendors.reset()
        vendors.script(Rule(answer=Answer(body=body), trickle=5))

        answer = caller.ask(served.url, VENDORS["gemini"], stream=True)

        assert len(caller.errors(answer)) == errors
        assert caller.is_finished(answer) is not bool(errors)
        assert SPOKEN.startswith(caller.text(answer, stream=True))


# ---- what frames say ------------------------------------------------------------------------------------------------


@each_vendor
@each_caller
def test_stated_usage_arrives(caller, vendor, vendors, served):
    answer = caller.ask(served.url, VENDORS[vendor], stream=True)

    assert caller.usage(answer) == (3, 4)


@each_vendor
@each_caller
@pytest.mark.parametrize("oddity", ["bom", "crlf", "no space", "byte by byte"])
def test_every_chunk_names_the_model_as_the_caller_did(caller, vendor, oddity, vendors, start):
    vendors.script(Rule(**ODDITIES[oddity]))
    model = f"{{name: {VENDORS[vendor]}, alias: mine}}"
    serving = start(config(vendors.url, vendor, [A], model=model))

    answer = caller.ask(serving.url, "mine", stream=True)

    named = [name for event in answer.events if (name := caller.model(event))]
    assert set(named) == {"mine"}
    assert VENDORS[vendor].encode() not in answer.body
    assert caller.text(answer, stream=True) == SPOKEN
    assert [seen.model for seen in vendors.requests] == [VENDORS[vendor]]


# ---- callers who leave ----------------------------------------------------------------------------------------------


def _ask(serving, caller, model: str) -> socket.socket:
    """A request on a socket of its own."""
    body = caller.body(model, stream=True)
    address = caller.address(model, stream=True)
    lines = f"POST {address} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer test-key\r\ncontent-length: {len(body)}\r\n"
    lines += "".join(f"{name}: {value}\r\n" for name, value in caller.headers.items())
    connection = socket.create_connection(("127.0.0.1", serving.port), timeout=5)
    connection.sendall(lines.encode() + b"\r\n" + body)
    return connection


def _until(condition) -> None:
    until = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


STATES = {
    "before the head": {"hang": True},
    "in the handshake": {"hang": True, "cut_after": 1},
    "in the content": {"hang": True, "cut_after": 5},
    "between slow frames": {"pace": 0.2},
}


@pytest.mark.parametrize("edge", ["fast", "asgi"])
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("caller", [MESSAGES, CHAT, GEMINI_ARRAY], ids=lambda caller: caller.name)
def test_a_caller_who_leaves_stops_the_upstream(caller, state, edge, vendors, start):
    vendors.script(Rule(**STATES[state]))
    serving = start(config(vendors.url, "anthropic", [A, B]), edge=edge)

    connection = _ask(serving, caller, VENDORS["anthropic"])
    _until(lambda: vendors.requests)
    time.sleep(0.05)
    connection.close()

    assert [seen.cancelled for seen in vendors.settled()] == [True]


def test_a_caller_who_leaves_in_the_pause_is_not_asked_for_again(vendors, start):
    vendors.script(Rule(answer=Answer(status=503, headers={"retry-after": "1"}, body="{}")))
    serving = start(config(vendors.url, "anthropic", [A]))

    connection = _ask(serving, MESSAGES, VENDORS["anthropic"])
    _until(lambda: vendors.requests)
    time.sleep(0.1)
    connection.close()
    time.sleep(1.2)

    assert len(vendors.requests) == 1


def test_a_caller_who_leaves_touches_no_accounts_health(vendors, start):
    vendors.script(Rule(times=3, pace=0.05))
    serving = start(config(vendors.url, "anthropic", [A]))

    for _ in range(3):
        connection = _ask(serving, MESSAGES, VENDORS["anthropic"])
        connection.recv(10)
        connection.close()
    answer = MESSAGES.ask(serving.url, VENDORS["anthropic"], stream=True)

    assert MESSAGES.text(answer, stream=True) == SPOKEN


def test_a_slow_caller_loses_nothing(vendors, start):
    chunk = {"id": "c", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "x" * 2000}}]}
    end = {
        "id": "c",
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
    }
    body = f"data: {json.dumps(chunk)}\n\n" * 4000 + f"data: {json.dumps(end)}\n\ndata: [DONE]\n\n"
    vendors.script(Rule(answer=Answer(content_type="text/event-stream", body=body)))
    serving = start(config(vendors.url, "openai-chat", [A], settings="timeouts: {idle: 1}"))

    connection = _ask(serving, CHAT, "sim-chat")
    time.sleep(1.5)
    received = bytearray()
    while not received.endswith(b"0\r\n\r\n"):
        received += connection.recv(1 << 20)
    connection.close()

    assert received.count(b"x" * 2000) >= 3990
    assert b"[DONE]" in received


def test_many_streams_at_once_stay_apart(vendors, served):
    vendors.script(Rule(pace=0.01))
    answers: dict[int, str] = {}

    def one(number: int) -> None:
        caller = CALLERS[number % 4]
        vendor = list(VENDORS)[number // 4 % 4]
        answer = caller.ask(served.url, VENDORS[vendor], stream=True, text=f"number {number} speaks")
        answers[number] = caller.text(answer, stream=True)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(48)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert answers == {number: f"echo: number {number} speaks" for number in range(48)}
