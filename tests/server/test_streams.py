"""Streams at the edge: callers who leave, callers who are slow, upstreams that are silent, gateways that stop."""

import itertools
import json
import resource
import threading
import time
from typing import Any

import pytest
from callers import Answer, Caller, request
from doors import CHAT, CONFIG, DOORS, STREAMS, Door, is_error

from cliproxy.simulator.failures import failure
from cliproxy.simulator.rules import Answer as Fixed
from cliproxy.simulator.rules import Rule

pytestmark = pytest.mark.flow

SAY = Door(CHAT.dialect, CHAT.target, {**CHAT.body, "stream": True})
TRANSLATED = {
    "openai-chat": "claude-opus-4-7",
    "openai-responses": "sim-chat",
    "anthropic": "sim-chat",
    "gemini": "sim-chat",
}
NATIVE = {"openai-chat": "sim-chat", "openai-responses": "gpt-5", "anthropic": "claude-opus-4-7"}
SILENCE = {
    "openai-chat": ": keepalive\n\n",
    "openai-responses": ": keepalive\n\n",
    "anthropic": ": keepalive\n\n",
    "gemini": "\n",
}


@pytest.fixture
def serving(start, edge, vendors):
    return start(CONFIG.format(vendors=vendors.url) + "streaming: {keepalive-seconds: 1}\n", edge=edge)


@pytest.fixture(params=STREAMS, ids=lambda door: door.dialect)
def stream(request) -> Door:
    return request.param


def soon(is_true, seconds: float = 1.5) -> bool:
    """Whether something becomes true within a second, and some room for a busy machine."""
    until = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


# -- callers who leave


@pytest.mark.parametrize("door", [*DOORS, *STREAMS], ids=lambda door: f"{door.dialect}-{door.target[-7:]}")
def test_a_caller_who_leaves_while_waiting_stops_the_upstream(serving, vendors, dial, door):
    vendors.script(Rule(hang=True))
    caller = dial(serving)

    caller.send(request("POST", door.target, body=door.body))
    assert soon(lambda: vendors.requests)
    caller.close()

    assert soon(lambda: vendors.requests[0].cancelled)
    assert len(vendors.requests) == 1


def test_a_caller_who_leaves_in_the_middle_stops_the_upstream(serving, vendors, dial, stream):
    for model in ("", TRANSLATED[stream.dialect]):
        vendors.reset()
        vendors.script(Rule(hang=True, cut_after=4))
        door = stream.with_model(model) if model else stream
        caller = dial(serving)

        caller.send(request("POST", door.target, body=door.body))
        assert caller.head().status == 200
        caller.chunk()
        caller.close()

        assert soon(lambda: vendors.requests[0].cancelled)


def test_a_caller_who_leaves_with_a_reset_stops_the_upstream(serving, vendors, dial):
    vendors.script(Rule(hang=True))
    caller = dial(serving)

    caller.send(request("POST", SAY.target, body=SAY.body))
    assert soon(lambda: vendors.requests)
    caller.reset()

    assert soon(lambda: vendors.requests[0].cancelled)


def test_a_caller_who_leaves_before_its_body_is_whole_asks_nobody(serving, vendors, dial):
    for door in DOORS:
        caller = dial(serving)
        caller.send(request("POST", door.target, body=door.body)[:-5])
        caller.close()

    assert dial(serving).ask("POST", CHAT.target, body=CHAT.body).status == 200
    assert len(vendors.requests) == 1


def test_a_caller_who_leaves_does_not_harm_the_next_one(serving, vendors, dial):
    vendors.script(Rule(hang=True, cut_after=3, times=20))
    for _ in range(20):
        caller = dial(serving)
        caller.send(request("POST", SAY.target, body=SAY.body))
        caller.head()
        caller.close()

    assert dial(serving).ask("POST", SAY.target, body=SAY.body).frames[-1] == "data: [DONE]"


# -- callers who are slow


def lengthy(megabytes: int) -> tuple[Rule, bytes]:
    """A chat stream of that length, and the bytes that the caller should get."""

    def frame(text: str, finish: str | None = None) -> str:
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
        chunk = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "sim-chat", "choices": [choice]}
        return f"data: {json.dumps(chunk)}\n\n"

    frames = [frame(f"{number:08d}" + "x" * 16_000) for number in range(megabytes * 64)]
    body = "".join([*frames, frame("", "stop"), "data: [DONE]\n\n"])
    return Rule(answer=Fixed(content_type="text/event-stream", body=body)), body.encode()


def test_a_slow_reader_slows_the_upstream_and_gets_everything(serving, vendors, dial):
    rule, body = lengthy(48)
    vendors.script(rule)
    caller = dial(serving, receive_bytes=64 * 1024)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    caller.send(request("POST", SAY.target, body=SAY.body))
    assert caller.head().status == 200
    caller.chunk()
    time.sleep(0.7)

    assert not vendors.requests[0].completed
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < 24 * 1024 * 1024

    pieces = itertools.takewhile(bool, (caller.chunk() for _ in itertools.count()))
    assert len(b"".join(pieces)) > len(body) - 100_000
    assert vendors.settled()[0].completed


def test_a_slow_reader_who_leaves_stops_the_upstream(serving, vendors, dial):
    rule, _ = lengthy(48)
    vendors.script(rule)
    caller = dial(serving, receive_bytes=64 * 1024)

    caller.send(request("POST", SAY.target, body=SAY.body))
    caller.head()
    time.sleep(0.3)
    caller.reset()

    assert soon(lambda: vendors.requests[0].cancelled)


def test_keep_alives_do_not_pile_up_before_a_slow_reader(serving, vendors, dial):
    rule, _ = lengthy(48)
    vendors.script(rule)
    caller = dial(serving, receive_bytes=64 * 1024)

    caller.send(request("POST", SAY.target, body=SAY.body))
    caller.head()
    time.sleep(2.3)
    text = b"".join(itertools.takewhile(bool, (caller.chunk() for _ in itertools.count())))

    assert text.count(b": keepalive") <= 1
    assert text.endswith(b"data: [DONE]\n\n")


# -- upstreams that are silent


def heard(caller: Caller, door: Door) -> tuple[Answer, str]:
    caller.send(request("POST", door.target, body=door.body))
    answer = caller.head()
    text = b"".join(itertools.takewhile(bool, (caller.chunk() for _ in itertools.count())))
    return answer, text.decode()


def without(text: str, silence: str) -> str:
    return text.replace(silence, "") if silence.strip() else text.lstrip("\n")


def payloads(text: str) -> list[Any]:
    lines = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def test_silence_before_the_head_is_filled(serving, vendors, dial, stream):
    vendors.script(Rule(delay=2.4))

    answer, text = heard(dial(serving), stream)

    silence = SILENCE[stream.dialect]
    assert answer.status == 200
    assert answer.header("content-type").startswith("text/event-stream")
    assert answer.header("x-request-id")
    assert text.startswith(silence * 2)
    assert "echo: hello" in text
    assert payloads(text)


def test_silence_before_the_head_is_filled_when_translating(serving, vendors, dial, stream):
    vendors.script(Rule(delay=1.4))

    answer, text = heard(dial(serving), stream.with_model(TRANSLATED[stream.dialect]))

    assert answer.status == 200
    assert text.startswith(SILENCE[stream.dialect])
    assert "echo: hello" in text


def test_silence_between_head_and_content_and_in_the_middle_is_filled(serving, vendors, dial, stream):
    for model in ("", TRANSLATED[stream.dialect]):
        vendors.reset()
        vendors.script(Rule(pace=1.3))
        door = stream.with_model(model) if model else stream
        caller = dial(serving)

        caller.send(request("POST", door.target, body=door.body))
        assert caller.head().status == 200
        early = b"".join(caller.chunk() for _ in range(4)).decode()
        caller.close()

        told = early.count(": keepalive\n\n") + early.count("event: ping") + early.count("\n\n\n")
        assert told or early.startswith("\n")


def test_no_silence_is_filled_before_its_time(serving, dial, stream):
    _, text = heard(dial(serving), stream)

    assert "keepalive" not in text
    assert not text.startswith("\n")


def test_no_silence_is_filled_where_that_is_switched_off(start, edge, vendors, dial):
    serving = start(CONFIG.format(vendors=vendors.url) + "streaming: {keepalive-seconds: 0}\n", edge=edge)
    vendors.script(Rule(delay=1.3))

    answer, text = heard(dial(serving), SAY)

    assert answer.status == 200
    assert text.startswith("data: ")


def test_a_failure_after_a_keep_alive_is_told_inside_the_stream(serving, vendors, dial, stream):
    vendors.script(Rule(delay=1.4, answer=failure("anthropic", 400, "that was too much")))

    answer, text = heard(dial(serving), stream)

    assert answer.status == 200
    told = payloads(without(text, SILENCE[stream.dialect]))
    assert len(told) == 1
    match stream.dialect:
        case "anthropic":
            assert is_error("anthropic", told[0], 400)
            assert "event: error\n" in text
        case "gemini":
            assert told[0]["error"]["message"]
        case "openai-responses":
            assert told[0]["type"] in ("error", "response.failed")
        case _:
            assert told[0]["error"]["message"]
            assert "[DONE]" not in text
    assert "that was too much" in text


def test_a_failure_after_a_keep_alive_keeps_a_json_array_whole(serving, vendors, dial):
    vendors.script(Rule(delay=1.4, answer=failure("gemini", 400, "that was too much")))
    door = Door("gemini", "/v1beta/models/gemini-2.5-flash:streamGenerateContent", STREAMS[3].body)

    answer, text = heard(dial(serving), door)

    assert answer.status == 200
    assert text.startswith("\n")
    assert json.loads(text)[0]["error"]["message"] == "that was too much"


def test_another_account_may_still_answer_after_a_keep_alive(start, edge, vendors, dial):
    config = CONFIG.format(vendors=vendors.url).replace("request-retry: 0", "request-retry: 1")
    serving = start(config + "streaming: {keepalive-seconds: 1}\n", edge=edge)
    vendors.script(Rule(times=1, delay=1.4, answer=failure("openai-chat", 500)))

    answer, text = heard(dial(serving), SAY)

    assert answer.status == 200
    assert text.startswith(": keepalive\n\n")
    assert text.endswith("data: [DONE]\n\n")
    assert len(vendors.requests) == 2


def test_whole_answers_are_not_nudged(serving, vendors, dial):
    vendors.script(Rule(delay=1.4))

    answer = dial(serving).ask("POST", CHAT.target, body=CHAT.body)

    assert answer.status == 200
    assert answer.json["choices"]


def test_old_callers_hear_keep_alives_too(serving, vendors, dial):
    vendors.script(Rule(delay=1.4))
    caller = dial(serving)

    caller.send(request("POST", SAY.target, body=SAY.body, version="1.0"))
    answer = caller.answer()

    assert answer.body.startswith(b": keepalive\n\ndata: ")
    assert answer.body.endswith(b"data: [DONE]\n\n")


# -- gateways that stop


def test_open_answers_finish_while_the_gateway_stops(start, edge, vendors, dial):
    serving = start(CONFIG.format(vendors=vendors.url), edge=edge)
    vendors.script(Rule(pace=0.25))
    streaming, waiting, idle = dial(serving), dial(serving), dial(serving)
    assert idle.ask("GET", "/readyz").json == {"status": "ready"}
    streaming.send(request("POST", SAY.target, body=SAY.body))
    assert streaming.head().status == 200
    vendors.reset()
    vendors.script(Rule(delay=0.8))
    waiting.send(request("POST", CHAT.target, body=CHAT.body))
    assert soon(lambda: vendors.requests)

    stopping = threading.Thread(target=serving.stop)
    stopping.start()
    text = b"".join(itertools.takewhile(bool, (streaming.chunk() for _ in itertools.count())))

    assert text.endswith(b"data: [DONE]\n\n")
    assert waiting.answer().status == 200
    assert idle.is_closed_by_server
    assert streaming.is_closed_by_server
    stopping.join()
    with pytest.raises(ConnectionRefusedError):
        dial(serving)


def test_a_gateway_that_stops_is_not_ready(start, edge, vendors, dial):
    serving = start(CONFIG.format(vendors=vendors.url), edge=edge)
    vendors.script(Rule(delay=0.8))
    caller = dial(serving)
    caller.send(request("POST", CHAT.target, body=CHAT.body) + request("GET", "/readyz"))
    assert soon(lambda: vendors.requests)

    stopping = threading.Thread(target=serving.stop)
    stopping.start()
    first, ready = caller.answer(), caller.answer("GET")

    assert first.status == 200
    assert ready.status == 503
    assert ready.json == {"status": "draining"}
    assert caller.is_closed_by_server
    stopping.join()


def test_answers_that_do_not_end_are_cut_when_the_time_to_stop_is_over(start, edge, vendors, dial):
    serving = start(CONFIG.format(vendors=vendors.url) + "timeouts: {drain: 1}\n", edge=edge)
    vendors.script(Rule(hang=True, cut_after=3))
    caller = dial(serving)
    caller.send(request("POST", SAY.target, body=SAY.body))
    assert caller.head().status == 200

    serving.stop()

    assert soon(lambda: vendors.requests[0].cancelled)
    text = caller.remains()
    assert b"[DONE]" not in text
    assert not text.endswith(b"0\r\n\r\n")
