"""Streams at the edge: callers who leave, callers who are slow, upstreams that are silent, gateways that stop."""

import functools
import itertools
import json
import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from callers import Answer, request
from doors import CHAT, CONFIG, DOORS, STREAMS, Door, is_error
from msgspec import structs

from cliproxy.simulator.exchange import VendorName
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
BOTH_WAYS = [*STREAMS, *(door.with_model(TRANSLATED[door.dialect]) for door in STREAMS)]
"""Streams that pass through, and streams that are translated."""

SILENCE = {
    "openai-chat": ": keepalive\n\n",
    "openai-responses": ": keepalive\n\n",
    "anthropic": ": keepalive\n\n",
    "gemini": "\n",
}


def soon(is_true, seconds: float = 1.5) -> bool:
    """Whether something becomes true within a second, and some room for a busy machine."""
    until = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


# -- callers who leave


def test_a_caller_who_leaves_while_waiting_stops_the_upstream(serving, vendors, dial):
    vendors.script(Rule(hang=True))
    callers = [dial(serving) for _ in (*DOORS, *BOTH_WAYS)]

    for caller, door in zip(callers, (*DOORS, *BOTH_WAYS), strict=True):
        caller.send(request("POST", door.target, body=door.body))
    assert soon(lambda: len(vendors.requests) == len(callers))
    for caller in callers:
        caller.close()

    assert soon(lambda: all(seen.cancelled for seen in vendors.requests))
    assert len(vendors.requests) == len(callers)


def test_a_caller_who_leaves_in_the_middle_stops_the_upstream(serving, vendors, dial):
    vendors.script(Rule(hang=True, cut_after=4))
    callers = [dial(serving) for _ in BOTH_WAYS]

    for caller, door in zip(callers, BOTH_WAYS, strict=True):
        caller.send(request("POST", door.target, body=door.body))
        assert caller.head().status == 200
        caller.chunk()
    for caller in callers:
        caller.close()

    assert soon(lambda: all(seen.cancelled for seen in vendors.requests))
    assert len(vendors.requests) == len(callers)


def test_a_caller_who_leaves_with_a_reset_stops_the_upstream(serving, vendors, dial):
    vendors.script(Rule(hang=True))
    caller = dial(serving)

    caller.send(request("POST", SAY.target, body=SAY.body))
    assert soon(lambda: vendors.requests)
    caller.reset()

    assert soon(lambda: vendors.requests[0].cancelled)


def test_a_caller_who_leaves_with_more_requests_waiting_stops_the_upstream(serving, vendors, dial):
    vendors.script(Rule(hang=True))
    caller = dial(serving)

    caller.send(request("POST", SAY.target, body=SAY.body) + request("POST", CHAT.target, body=CHAT.body) * 3)
    assert soon(lambda: vendors.requests)
    time.sleep(0.05)
    caller.close()

    assert soon(lambda: vendors.requests[0].cancelled)
    assert len(vendors.requests) == 1


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


@functools.cache
def lengthy() -> tuple[Rule, bytes]:
    """A chat stream of 24 MB, which is more than sockets hold, and its bytes."""

    def frame(text: str, finish: str | None = None) -> str:
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
        chunk = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "sim-chat", "choices": [choice]}
        return f"data: {json.dumps(chunk)}\n\n"

    frames = [frame(f"{number:08d}" + "x" * 16_000) for number in range(24 * 64)]
    body = "".join([*frames, frame("", "stop"), "data: [DONE]\n\n"])
    return Rule(answer=Fixed(content_type="text/event-stream", body=body)), body.encode()


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_a_slow_reader_slows_the_upstream_and_gets_everything(serving, vendors, dial):
    rule, body = lengthy()
    vendors.script(rule)
    caller = dial(serving, receive_bytes=64 * 1024)

    caller.send(request("POST", SAY.target, body=SAY.body))
    assert caller.head().status == 200
    before = resident_bytes()
    time.sleep(0.5)
    grown = resident_bytes() - before

    assert grown < 8 * 1024 * 1024
    pieces = itertools.takewhile(bool, (caller.chunk() for _ in itertools.count()))
    assert b"".join(pieces).replace(b": keepalive\n\n", b"") == body


def test_a_slow_reader_who_leaves_stops_the_upstream(serving, vendors, dial):
    rule, _ = lengthy()
    vendors.script(structs.replace(rule, hang=True, cut_after=10_000))
    caller = dial(serving, receive_bytes=64 * 1024)

    caller.send(request("POST", SAY.target, body=SAY.body))
    caller.head()
    time.sleep(0.3)
    caller.reset()

    assert soon(lambda: vendors.requests[0].cancelled)


# -- upstreams that are silent


def heard(serving: Any, dial: Any, doors: Iterable[Door]) -> list[tuple[Door, Answer]]:
    """The whole answers of several doors that are asked at the same time."""
    callers = [(door, dial(serving)) for door in doors]
    for door, caller in callers:
        caller.send(request("POST", door.target, body=door.body))
    return [(door, caller.answer()) for door, caller in callers]


def payloads(answer: Answer) -> list[Any]:
    lines = [line[6:] for line in answer.body.decode().splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def test_silence_before_the_head_is_filled(serving, vendors, dial):
    vendors.script(Rule(delay=1.1))

    for door, answer in heard(serving, dial, BOTH_WAYS):
        assert answer.status == 200
        assert answer.header("content-type").startswith("text/event-stream")
        assert answer.header("x-request-id")
        assert answer.body.decode().startswith(SILENCE[door.dialect] * 2)
        assert "hello" in answer.body.decode()
        assert payloads(answer)


def test_silence_between_head_and_content_and_in_the_middle_is_filled(serving, vendors, dial):
    vendors.script(Rule(pace=0.9))
    callers = [(door, dial(serving)) for door in BOTH_WAYS]
    for door, caller in callers:
        caller.send(request("POST", door.target, body=door.body))

    for door, caller in callers:
        assert caller.head().status == 200
        early = b"".join(caller.chunk() for _ in range(5)).decode()
        silences = (early.startswith("\n") + early.count("\n\n\n")) if door.dialect == "gemini" else 0
        assert silences + early.count(": keepalive\n\n") + early.count("event: ping") > 1, early


def test_no_silence_is_filled_before_its_time(shared, dial):
    for _, answer in heard(shared, dial, STREAMS):
        assert b"keepalive" not in answer.body
        assert not answer.body.startswith(b"\n")


def test_no_silence_is_filled_where_that_is_switched_off(start, edge, vendors, dial):
    serving = start(CONFIG.format(vendors=vendors.url) + "streaming: {keepalive-seconds: 0}\n", edge=edge)
    vendors.script(Rule(delay=0.6))

    [(_, answer)] = heard(serving, dial, [SAY])

    assert answer.status == 200
    assert answer.body.startswith(b"data: ")


def test_a_failure_after_a_keep_alive_is_told_inside_the_stream(serving, vendors, dial):
    paths: dict[VendorName, str] = {
        "openai-chat": "/chat/completions",
        "openai-responses": "/responses",
        "anthropic": "/messages",
        "gemini": "enerateContent",
    }
    for vendor, path in paths.items():
        vendors.script(Rule(path=path, delay=0.7, answer=failure(vendor, 400, "that was too much")))

    for door, answer in heard(serving, dial, BOTH_WAYS):
        assert answer.status == 200
        assert answer.body.decode().startswith(SILENCE[door.dialect])
        [told] = payloads(answer)
        assert "that was too much" in json.dumps(told)
        match door.dialect:
            case "openai-responses":
                assert told["type"] in ("error", "response.failed")
            case "openai-chat":
                assert told["error"]["message"]
                assert b"[DONE]" not in answer.body
            case dialect:
                assert is_error(dialect, told, 400)
                assert (b"event: error\n" in answer.body) == (dialect == "anthropic")


def test_a_failure_after_a_keep_alive_keeps_a_json_array_whole(serving, vendors, dial):
    vendors.script(Rule(delay=0.7, answer=failure("gemini", 400, "that was too much")))
    door = Door("gemini", "/v1beta/models/gemini-2.5-flash:streamGenerateContent", STREAMS[3].body)

    [(_, answer)] = heard(serving, dial, [door])

    assert answer.status == 200
    assert answer.body.startswith(b"\n")
    assert answer.json[0]["error"]["message"] == "that was too much"


def test_another_attempt_may_still_answer_after_a_keep_alive(start, edge, vendors, dial):
    config = CONFIG.format(vendors=vendors.url).replace("request-retry: 0", "request-retry: 1")
    serving = start(config + "streaming: {keepalive-seconds: 0.4}\n", edge=edge)
    vendors.script(Rule(times=1, delay=0.7, answer=failure("openai-chat", 500)))

    [(_, answer)] = heard(serving, dial, [SAY])

    assert answer.status == 200
    assert answer.body.startswith(b": keepalive\n\n")
    assert answer.body.endswith(b"data: [DONE]\n\n")
    assert len(vendors.requests) == 2


def test_whole_answers_are_not_nudged(serving, vendors, dial):
    vendors.script(Rule(delay=0.7))

    answer = dial(serving).ask("POST", CHAT.target, body=CHAT.body)

    assert answer.status == 200
    assert answer.json["choices"]


def test_old_callers_hear_keep_alives_too(serving, vendors, dial):
    vendors.script(Rule(delay=0.7))
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


def test_answers_that_do_not_end_are_told_so_when_the_time_to_stop_is_over(start, edge, vendors, dial, caplog):
    serving = start(CONFIG.format(vendors=vendors.url) + "timeouts: {drain: 1}\n", edge=edge)
    vendors.script(Rule(hang=True, cut_after=3))
    caller = dial(serving)
    caller.send(request("POST", SAY.target, body=SAY.body))
    assert caller.head().status == 200

    serving.stop()

    assert soon(lambda: vendors.requests[0].cancelled)
    text = caller.remains()
    assert b"[DONE]" not in text
    assert b"The gateway was stopped before the answer was complete." in text
    assert not any(record.exc_info for record in caplog.records)
    caplog.clear()  # of uvicorn's complaint about the time
