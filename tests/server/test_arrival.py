"""How requests may arrive: slowly, in halves, compressed, in old HTTP, several at a time. Every way that is HTTP works."""

import gzip
import json
import time
import zlib

import pytest
import zstandard
from callers import chunked, request
from doors import CHAT, DOORS, GEMINI, MESSAGES, STREAMS, Door, is_error

from cliproxy.server.fast import FastProtocol

pytestmark = pytest.mark.flow


@pytest.fixture(params=DOORS, ids=lambda door: door.dialect)
def door(request) -> Door:
    return request.param


@pytest.fixture
def hurried(monkeypatch):
    """Gateways that wait a third of a second for the rest of a request."""
    for name in ("head_seconds", "body_gap_seconds", "linger_seconds"):
        monkeypatch.setattr(FastProtocol, name, 0.3)


# -- slow and half


def test_a_slow_request_is_served(caller, door):
    caller.dribble(request("POST", door.target, body=door.body), pause=0.002, pieces=30)

    assert caller.answer().status == 200


def test_a_request_byte_by_byte_is_served(caller):
    caller.dribble(request("POST", CHAT.target, body=CHAT.body), pause=0, pieces=10_000)

    assert caller.answer().status == 200


def test_a_sender_slower_than_the_deadline_is_served_while_bytes_keep_coming(caller, hurried, monkeypatch):
    monkeypatch.setattr(FastProtocol, "body_gap_seconds", 1.0)
    body = json.dumps(CHAT.body).encode()

    caller.send(request("POST", CHAT.target, f"content-length: {len(body)}", body=b""))
    caller.dribble(body, pause=0.3, pieces=4)

    assert caller.answer().status == 200


@pytest.mark.usefixtures("hurried")
def test_half_requests_are_refused_when_their_time_is_over(shared, dial):
    whole = {door.dialect: request("POST", door.target, body=door.body) for door in DOORS}
    bodies = {door: dial(shared) for door in DOORS}
    heads = {door: dial(shared) for door in DOORS}
    for door in DOORS:
        bodies[door].send(whole[door.dialect][:-5])
        heads[door].send(whole[door.dialect].partition(b"\r\n\r\n")[0])

    for door, caller in (*bodies.items(), *heads.items()):
        answer = caller.answer()
        assert answer.status == 408
        assert is_error(door.dialect, answer.json, 408)
        assert answer.header("x-request-id")
        assert caller.is_closed_by_server


@pytest.mark.usefixtures("hurried")
def test_half_a_chunk_is_refused_when_its_time_is_over(caller):
    caller.send(request("POST", MESSAGES.target, "transfer-encoding: chunked", body=b"ff\r\n{}"))

    answer = caller.answer()

    assert answer.status == 408
    assert is_error("anthropic", answer.json, 408)


@pytest.mark.usefixtures("hurried")
def test_a_connection_that_says_nothing_is_closed_without_a_word(caller):
    started = time.monotonic()

    assert caller.rest() == b""
    assert time.monotonic() - started < 4


@pytest.mark.usefixtures("hurried")
def test_a_body_that_is_never_finished_after_its_early_refusal_closes_the_connection(caller):
    caller.send(request("POST", CHAT.target, "content-length: 999999", body=b"half", key=False))

    assert caller.answer().status == 401
    assert caller.rest() == b""


@pytest.mark.usefixtures("hurried")
def test_half_a_request_behind_a_slow_answer_does_not_cut_into_it(serving, dial, slowly):
    caller = dial(serving)
    slowly(seconds=1.0)

    caller.send(
        request("POST", STREAMS[0].target, body=STREAMS[0].body) + request("POST", CHAT.target, body=b"x")[:-20]
    )
    answer = caller.answer()

    assert answer.frames[-1] == "data: [DONE]"
    assert caller.answer().status == 408


@pytest.mark.usefixtures("hurried")
def test_a_waiting_caller_is_not_hurried(serving, dial, slowly):
    slowly(seconds=1.0)
    callers = [(dial(serving), door) for door in (CHAT, STREAMS[0])]

    for caller, door in callers:
        caller.send(request("POST", door.target, body=door.body))

    assert [caller.answer().status for caller, _ in callers] == [200, 200]


# -- compressed


def deflated(data: bytes) -> bytes:
    raw = zlib.compressobj(wbits=-15)
    return raw.compress(data) + raw.flush()


PACKERS = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "GZIP": gzip.compress,
    "deflate": zlib.compress,
    "deflate ": deflated,
    "zstd": zstandard.compress,
    "identity": bytes,
}


@pytest.mark.parametrize("coding", PACKERS)
def test_compressed_bodies_are_read(caller, door, coding):
    body = json.dumps(door.body).encode()

    answer = caller.ask("POST", door.target, f"content-encoding: {coding}", body=PACKERS[coding](body))

    assert answer.status == 200, answer.body


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
@pytest.mark.parametrize("spoil", ["nonsense", "half", "empty", "more"])
def test_compressed_bodies_that_are_broken_are_refused(caller, door, coding, spoil):
    packed = PACKERS[coding](json.dumps(door.body).encode())
    spoilt = {"nonsense": b"nonsense!", "half": packed[: len(packed) // 2], "empty": b"", "more": packed + b"more"}

    answer = caller.ask("POST", door.target, f"content-encoding: {coding}", body=spoilt[spoil])

    assert answer.status == 400
    assert is_error(door.dialect, answer.json, 400)
    assert caller.ask("POST", door.target, body=door.body).status == 200


def test_compressed_bombs_are_refused(serving, dial):
    caller = dial(serving)
    for coding in ("gzip", "deflate", "zstd"):
        bomb = PACKERS[coding](bytes(20 * 1024 * 1024))
        for door in DOORS:
            answer = caller.ask("POST", door.target, f"content-encoding: {coding}", body=bomb)

            assert answer.status == 413
            assert is_error(door.dialect, answer.json, 413)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
def test_large_compressed_bodies_are_read(caller, coding):
    body = json.dumps(CHAT.body).encode() + b" " * 5_000_000

    answer = caller.ask("POST", CHAT.target, f"content-encoding: {coding}", body=PACKERS[coding](body))

    assert answer.status == 200


@pytest.mark.parametrize("coding", ["br", "gzip, gzip", "compress", "\xff", "x" * 500])
def test_unknown_codings_are_refused_by_name(caller, door, coding):
    answer = caller.ask("POST", door.target, f"content-encoding: {coding}", body=door.body)

    assert answer.status == 400
    assert is_error(door.dialect, answer.json, 400)
    assert "content-encoding" in answer.body.decode()


def test_a_compressed_body_may_come_in_chunks(caller, door):
    packed = gzip.compress(json.dumps(door.body).encode())
    body = chunked(packed[:10], packed[10:11], packed[11:])

    answer = caller.ask("POST", door.target, "content-encoding: gzip", "transfer-encoding: chunked", body=body)

    assert answer.status == 200


# -- expect: 100-continue


def test_a_cautious_caller_is_encouraged(caller, door):
    body = json.dumps(door.body).encode()

    caller.send(request("POST", door.target, "expect: 100-continue", f"content-length: {len(body)}", body=b""))
    assert caller.head().status == 100
    caller.send(body)

    assert caller.answer().status == 200


def test_a_cautious_caller_who_does_not_wait_is_served(caller, door):
    assert caller.ask("POST", door.target, "expect: 100-continue", body=door.body).status == 200


def test_a_cautious_caller_without_a_key_is_spared_the_body(caller, door):
    caller.send(request("POST", door.target, "expect: 100-continue", "content-length: 50", body=b"", key=False))

    assert caller.head().status == 401


def test_a_cautious_caller_with_too_large_a_body_is_spared_it(caller, door):
    caller.send(request("POST", door.target, "expect: 100-continue", "content-length: 999999999", body=b""))

    assert caller.head().status == 413


# -- HTTP/1.0


def test_http_1_0_callers_are_answered_and_the_connection_closed(caller, door):
    caller.send(request("POST", door.target, body=door.body, version="1.0"))
    answer = caller.answer()

    assert answer.status == 200
    assert answer.header("transfer-encoding") == ""
    assert answer.json
    assert caller.is_closed_by_server


@pytest.mark.parametrize("door", STREAMS, ids=lambda door: door.dialect)
def test_http_1_0_callers_get_streams_without_chunks(caller, door):
    caller.send(request("POST", door.target, body=door.body, version="1.0"))
    answer = caller.answer()

    assert answer.status == 200
    assert answer.header("transfer-encoding") == ""
    assert len(answer.frames) > 1
    assert all(line.startswith(("data:", "event:")) for line in answer.body.decode().splitlines() if line)
    assert caller.is_closed_by_server


def test_http_1_0_callers_are_refused_properly(caller, door):
    caller.send(request("POST", door.target, body=b"{", version="1.0"))
    answer = caller.answer()

    assert answer.status == 400
    assert is_error(door.dialect, answer.json, 400)


# -- several on one connection


def test_connections_are_used_again(caller):
    for _ in range(3):
        for door in (*DOORS, *STREAMS):
            assert caller.ask("POST", door.target, body=door.body).status == 200
        assert caller.ask("GET", "/v1/models").status == 200


def test_a_caller_may_ask_for_the_end_of_the_connection(shared, dial):
    for door in (*DOORS, *STREAMS):
        caller = dial(shared)

        answer = caller.ask("POST", door.target, "connection: close", body=door.body)

        assert answer.status == 200
        assert answer.header("connection") == "close"
        assert caller.is_closed_by_server


def test_pipelined_requests_are_answered_in_order(caller):
    asked = [("POST", f"{door.dialect} {number}", door) for number in range(5) for door in (CHAT, MESSAGES)]
    sent = b"".join(
        request(method, door.target, body={**door.body, "messages": [{"role": "user", "content": text}]})
        for method, text, door in asked
    )

    caller.send(sent)

    for _, text, _ in asked:
        assert f"echo: {text}" in caller.answer().body.decode()


def test_pipelined_requests_may_be_of_any_kind(caller):
    sent = [
        ("POST", STREAMS[0].target, STREAMS[0].body, 200),
        ("GET", "/v1/models", None, 200),
        ("POST", CHAT.target, b"{", 400),
        ("HEAD", "/healthz", None, 200),
        ("POST", GEMINI.target, GEMINI.body, 200),
        ("GET", "/nothing", None, 404),
        ("POST", STREAMS[2].target, STREAMS[2].body, 200),
        ("OPTIONS", "/v1/messages", None, 204),
    ]
    caller.send(b"".join(request(method, target, body=body) for method, target, body, _ in sent))

    assert [caller.answer(method).status for method, *_ in sent] == [status for *_, status in sent]


def test_pipelined_requests_may_be_cut_anywhere(shared, dial):
    both = request("POST", CHAT.target, body=CHAT.body) + request("POST", MESSAGES.target, body=MESSAGES.body)
    for cut in range(0, len(both), 29):
        caller = dial(shared)

        caller.send(both[:cut])
        time.sleep(0.001)
        caller.send(both[cut:])

        assert caller.answer().status == 200
        assert caller.answer().json["type"] == "message"


def test_a_request_behind_one_that_ends_the_connection_is_not_served(caller):
    caller.send(
        request("POST", CHAT.target, "connection: close", body=CHAT.body)
        + request("POST", MESSAGES.target, body=MESSAGES.body)
    )

    assert caller.answer().status == 200
    assert caller.is_closed_by_server


def test_the_rest_of_a_body_refused_early_is_no_request(caller):
    smuggled = request("GET", "/v1/models")
    caller.send(request("POST", CHAT.target, f"content-length: {len(smuggled) + 400_000}", body=b"", key=False))
    assert caller.answer().status == 401

    caller.send(smuggled + b" " * 400_000)

    assert caller.ask("GET", "/healthz").json == {"status": "ok"}


# -- upgrades


def test_offers_of_http_2_are_not_taken_and_do_no_harm(caller, door):
    offer = ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABkAARAAAAAAAIAAAAA")

    for _ in range(3):
        assert caller.ask("POST", door.target, *offer, body=door.body).status == 200
        assert (
            caller.ask("POST", door.target, *offer, "transfer-encoding: chunked", body=chunked(b"{", b"}")).status
            >= 400
        )
        assert caller.ask("GET", "/healthz", *offer).status == 200


def test_a_flood_of_offers_is_declined(caller):
    offer = request("GET", "/healthz", "connection: upgrade", "upgrade: x", key=False)

    caller.send(offer * 2000)

    assert {caller.answer("GET").status for _ in range(2000)} == {200}


def test_an_offer_of_http_2_may_come_in_pieces(caller):
    offer = ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABkAARAAAAAAAIAAAAA")
    both = request("POST", CHAT.target, *offer, body=CHAT.body) * 2

    caller.dribble(both, pause=0, pieces=300)

    assert caller.answer().status == 200
    assert caller.answer().status == 200


def test_websockets_are_sent_to_http_post(shared, dial):
    lines = ("connection: Upgrade", "upgrade: websocket", "sec-websocket-key: eA==", "sec-websocket-version: 13")
    for key in (True, False):
        answer = dial(shared).ask("GET", "/v1/responses", *lines, key=key)

        assert answer.status == 426
        assert answer.header("upgrade")
        assert is_error("openai-responses", answer.json, 426)
