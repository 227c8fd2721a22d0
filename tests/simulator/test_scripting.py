"""Rules, recording and the control routes: how a test makes a vendor fail."""

import gzip
import http.client
import json
import socket
import time
import urllib.error
import urllib.request

import anthropic
import openai
import pytest

from cliproxy.simulator import Simulator
from cliproxy.simulator.failures import failure, quota_exhausted, rate_limited
from cliproxy.simulator.rules import Answer, Rule

CHAT = {"model": "gpt-5", "messages": [{"role": "user", "content": "a b c"}]}
BODY = json.dumps({**CHAT, "stream": True}).encode()


def open_chat(sim: Simulator, body: bytes = BODY, key: str = "sk-sim-1") -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", sim.port, timeout=5)
    head = {"authorization": f"Bearer {key}", "content-type": "application/json", "connection": "close"}
    connection.request("POST", "/v1/chat/completions", body, head)
    return connection.getresponse()


def read_chat(sim: Simulator, body: bytes = BODY, key: str = "sk-sim-1") -> tuple[int, bytes]:
    with open_chat(sim, body, key) as response:
        return response.status, response.read()


def control(sim: Simulator, method: str, path: str, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(sim.url + path, data=data, method=method)
    with urllib.request.urlopen(request, timeout=5) as response:
        return json.load(response)


def test_a_request_is_recorded_with_its_fate(sim: Simulator):
    read_chat(sim)

    (seen,) = sim.settled()
    assert (seen.method, seen.path, seen.key, seen.model) == ("POST", "/v1/chat/completions", "sk-sim-1", "gpt-5")
    assert seen.headers["content-type"] == "application/json"
    assert seen.json["messages"] == CHAT["messages"]
    assert (seen.status, seen.completed, seen.cancelled) == (200, True, False)


def test_a_rule_applies_a_number_of_times_and_not_at_first(sim: Simulator):
    sim.script(Rule(path="/chat/", after=1, times=2, answer=failure("openai-chat", 500)))

    assert [read_chat(sim)[0] for _ in range(4)] == [200, 500, 500, 200]


def test_a_rule_is_bound_to_a_key_or_a_model(sim: Simulator):
    sim.script(
        Rule(key="sk-sim-bad", answer=failure("openai-chat", 401)), Rule(model="other", answer=Answer(status=404))
    )

    assert [read_chat(sim, key=key)[0] for key in ("sk-sim-good", "sk-sim-bad")] == [200, 401]
    assert read_chat(sim, BODY.replace(b"gpt-5", b"other"))[0] == 404


def test_limits_carry_the_vendors_headers(sim: Simulator, openai_client, anthropic_client):
    sim.script(
        Rule(path="/chat/", answer=rate_limited("openai-chat", 3)),
        Rule(path="/messages", answer=rate_limited("anthropic", 3, now=0)),
        Rule(path="/responses", answer=quota_exhausted("openai-responses", 60, now=0)),
    )

    with pytest.raises(openai.RateLimitError) as chat:
        openai_client.chat.completions.create(**CHAT)
    with pytest.raises(openai.RateLimitError) as responses:
        openai_client.responses.create(model="gpt-5", input="x")
    with pytest.raises(anthropic.RateLimitError) as messages:
        anthropic_client.messages.create(model="claude-haiku-4-5", max_tokens=5, messages=CHAT["messages"])

    assert chat.value.response.headers["x-ratelimit-reset-requests"] == "3s"
    assert chat.value.code == "rate_limit_exceeded"
    assert responses.value.body["resets_at"] == 60
    assert messages.value.response.headers["anthropic-ratelimit-requests-reset"] == "1970-01-01T00:00:03Z"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503, 529])
@pytest.mark.parametrize("vendor", ["openai-chat", "openai-responses", "anthropic", "gemini"])
def test_every_vendor_has_a_body_for_every_failure(vendor, status):
    answer = failure(vendor, status, "because")

    assert answer.status == status
    assert json.loads(answer.body)["error"]["message"] == "because"


def test_google_limits_say_when_to_come_back():
    details = json.loads(rate_limited("gemini", 34.5).body)["error"]["details"]

    assert details[1]["retryDelay"] == "34.5s"
    assert "PerMinute" in details[0]["violations"][0]["quotaId"]
    assert "PerDay" in quota_exhausted("gemini").body


def test_a_cut_before_the_head_leaves_nothing(sim: Simulator):
    sim.script(Rule(cut_after=0))

    with pytest.raises(http.client.RemoteDisconnected):
        open_chat(sim)

    assert sim.settled()[0].cut


@pytest.mark.parametrize("inside", [False, True], ids=["between events", "inside an event"])
def test_a_cut_leaves_the_events_before_it(sim: Simulator, inside):
    sim.script(Rule(cut_after=2, cut_inside=inside))

    with open_chat(sim) as response, pytest.raises(http.client.IncompleteRead) as caught:
        response.read()

    whole, rest = caught.value.partial.rsplit(b"\n\n", 1)
    assert whole.count(b"data: ") == 2
    assert bool(rest) is inside


def test_a_whole_body_can_be_cut_as_well(sim: Simulator):
    sim.script(Rule(cut_after=0, cut_inside=True))

    with open_chat(sim, json.dumps(CHAT).encode()) as response, pytest.raises(http.client.IncompleteRead):
        response.read()


def test_an_error_comes_inside_the_stream(sim: Simulator, openai_client, anthropic_client):
    sim.script(Rule(error_after=2, error_message="no more"))

    with pytest.raises(openai.APIError, match="no more"):
        list(openai_client.chat.completions.create(**CHAT, stream=True))
    with pytest.raises(anthropic.APIStatusError) as caught:
        list(
            anthropic_client.messages.create(
                model="claude-haiku-4-5", max_tokens=5, messages=CHAT["messages"], stream=True
            )
        )

    assert caught.value.body["error"] == {"type": "overloaded_error", "message": "no more"}


@pytest.mark.parametrize(("bare", "expected"), [(False, "response.failed"), (True, "error")])
def test_responses_fail_in_two_forms(sim: Simulator, openai_client, bare, expected):
    sim.script(Rule(error_after=3, error_status=429, error_event=bare))

    request = {"model": "gpt-5", "input": "a b c", "stream": True}
    events = list(openai_client.responses.create(**request))

    assert (events[-1].type, events[-1].sequence_number) == (expected, 3)
    assert (events[-1] if bare else events[-1].response.error).code == "rate_limit_exceeded"


def test_a_delay_and_a_pace_take_their_time(sim: Simulator):
    sim.script(Rule(delay=0.1, pace=0.02))

    start = time.monotonic()
    read_chat(sim)

    assert time.monotonic() - start > 0.2


def test_a_caller_who_leaves_is_noticed(sim: Simulator):
    sim.script(Rule(hang=True, times=1), Rule(pace=5))

    for _ in range(2):
        with socket.create_connection(("127.0.0.1", sim.port)) as caller:
            head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(BODY)}\r\n"
            caller.sendall(head.encode() + b"authorization: Bearer sk-sim-1\r\n\r\n" + BODY)
            time.sleep(0.05)

    assert [(seen.cancelled, seen.completed) for seen in sim.settled()] == [(True, False)] * 2


def test_a_stream_can_fall_silent(sim: Simulator):
    sim.script(Rule(cut_after=1, hang=True))

    with open_chat(sim) as response:
        assert response.readline().startswith(b"data: ")
        response.close()

    assert sim.settled()[0].cancelled


@pytest.mark.parametrize(("body", "start"), [("html", b"<!DOCTYPE"), ("text", b"upstream"), ("empty", b"")])
def test_a_body_can_be_something_else(sim: Simulator, body, start):
    sim.script(Rule(body=body))

    status, content = read_chat(sim)

    assert status == 200
    assert content.startswith(start)
    assert b"echo" not in content


def test_a_json_body_can_be_truncated_without_a_word(sim: Simulator):
    sim.script(Rule(body="truncated"))

    status, content = read_chat(sim, json.dumps(CHAT).encode())

    assert status == 200
    with pytest.raises(json.JSONDecodeError):
        json.loads(content)


def test_compression_comes_unasked(sim: Simulator):
    sim.script(Rule(gzip=True))

    with open_chat(sim) as response:
        assert response.headers["content-encoding"] == "gzip"
        assert gzip.decompress(response.read()).endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("seed", [0, 7])
def test_a_trickle_changes_no_byte(sim: Simulator, seed):
    _, whole = read_chat(sim)
    sim.script(Rule(trickle=seed))

    assert read_chat(sim)[1] == whole


def test_events_can_be_written_oddly(sim: Simulator):
    _, plain = read_chat(sim)
    seen = {}
    for oddity in ("crlf", "no-space", "comments", "bom", "no-final-blank", "no-done", "no-finish"):
        sim.reset()
        sim.script(Rule(sse=(oddity,)))
        seen[oddity] = read_chat(sim)[1]

    assert seen["crlf"] == plain.replace(b"\n", b"\r\n")
    assert seen["no-space"] == plain.replace(b"data: ", b"data:")
    assert seen["comments"].count(b": keep-alive\n\n") == plain.count(b"data: ")
    assert seen["bom"] == b"\xef\xbb\xbf" + plain
    assert seen["no-final-blank"] == plain.rstrip(b"\n")
    assert seen["no-done"] == plain.removesuffix(b"data: [DONE]\n\n")
    assert b'"finish_reason":"stop"' in plain
    assert b'"finish_reason":"stop"' not in seen["no-finish"]


def test_an_event_can_be_huge(sim: Simulator):
    sim.script(Rule(huge_event_bytes=300_000))

    assert len(read_chat(sim)[1]) > 300_000


def test_raw_bytes_are_played_back(sim: Simulator):
    sim.script(Rule(answer=Answer(content_type="text/event-stream", body="data: {}\n\n", headers={"x-odd": "1"})))

    with open_chat(sim) as response:
        assert (response.read(), response.headers["x-odd"]) == (b"data: {}\n\n", "1")


def test_a_played_stream_can_be_cut_like_any_other(sim: Simulator):
    sim.script(Rule(answer=Answer(content_type="text/event-stream", body="data: 1\n\ndata: 2\n\n"), cut_after=1))

    with open_chat(sim) as response, pytest.raises(http.client.IncompleteRead) as caught:
        response.read()

    assert caught.value.partial == b"data: 1\n\n"


def test_the_control_routes_do_the_same(sim: Simulator):
    control(sim, "POST", "/_sim/rules", [{"path": "/chat/", "answer": {"status": 418, "body": "tea"}}])

    assert read_chat(sim) == (418, b"tea")
    control(sim, "DELETE", "/_sim/rules")
    assert read_chat(sim)[0] == 200
    assert [seen["status"] for seen in control(sim, "GET", "/_sim/requests")] == [418, 200]


def test_a_misspelt_rule_is_refused(sim: Simulator):
    with pytest.raises(urllib.error.HTTPError) as caught:
        control(sim, "POST", "/_sim/rules", [{"pathh": "/chat/"}])

    with caught.value as answer:
        assert "pathh" in answer.read().decode()


def test_it_stops_at_once_with_open_streams():
    with Simulator(scripts=[Rule(cut_after=1, hang=True)]) as sim:
        response = open_chat(sim)
        response.readline()
        start = time.monotonic()

    assert time.monotonic() - start < 0.5
    response.close()


def test_an_unknown_address_is_not_found(sim: Simulator):
    with pytest.raises(urllib.error.HTTPError) as caught:
        control(sim, "GET", "/v2/nothing")

    with caught.value as answer:
        assert answer.code == 404
