"""Bad requests: each is refused with a 4xx in its caller's dialect, and harms nobody."""

import json
import random

import pytest
from callers import chunked, request
from doors import CHAT, DOORS, GEMINI, MESSAGES, RESPONSES, STREAMS, Door, is_error

pytestmark = pytest.mark.flow

TRANSLATED = {
    "openai-chat": "claude-opus-4-7",
    "openai-responses": "sim-chat",
    "anthropic": "gpt-5",
    "gemini": "sim-chat",
}


@pytest.fixture(params=DOORS, ids=lambda door: door.dialect)
def door(request) -> Door:
    return request.param


@pytest.fixture
def refuses(caller, door):
    """Sends a body to a door; the answer must be a refusal of that status, and the next request must be served."""

    def check(body: bytes, *lines: str, status: int = 400, target: str = "") -> str:
        answer = caller.ask("POST", target or door.target, *lines, body=body)
        assert answer.status == status, answer.body
        assert answer.header("content-type") == "application/json"
        assert is_error(door.dialect, answer.json, status), answer.body
        assert caller.ask("POST", door.target, body=door.body).status == 200
        return answer.body.decode()

    return check


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" \r\n",
        b"{",
        b'{"model": "sim-chat",}',
        b"nonsense",
        b"\xef\xbb\xbf{}",
        b'{"model": NaN}',
        b"{} {}",
        b"\0",
    ],
)
def test_a_body_that_is_no_json_is_refused(refuses, body):
    refuses(body)


@pytest.mark.parametrize("body", [b"[]", b'"text"', b"1", b"null", b"true"])
def test_json_that_is_no_object_is_refused(refuses, body):
    refuses(body)


@pytest.mark.parametrize("bad", [b"\xff", b"\xc3(", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80"])
def test_text_that_is_not_utf_8_is_refused(refuses, door, bad):
    refuses(json.dumps(door.body).encode().replace(b"hello", bad))


@pytest.mark.parametrize("value", [7, True, {"a": 1}, [1], [[]], [None], [{}]])
def test_a_conversation_of_the_wrong_type_is_refused(caller, door, value):
    field = _conversation(door)
    for model in ("", TRANSLATED[door.dialect]):
        one = door.with_model(model) if model else door
        answer = caller.ask("POST", one.target, body={**one.body, field: value})

        assert answer.status == 400, answer.body
        assert is_error(door.dialect, answer.json, 400)


def test_a_text_is_no_list_of_messages(caller):
    for door in (CHAT, MESSAGES):
        for model in (door.body["model"], TRANSLATED[door.dialect]):
            answer = caller.ask("POST", door.target, body={**door.body, "model": model, "messages": "hello"})

            assert answer.status == 400, answer.body
            assert is_error(door.dialect, answer.json, 400)


@pytest.mark.parametrize("value", [5, 1.5, True, None, [], {}, ["sim-chat"]])
def test_a_model_that_is_no_name_is_refused(caller, value):
    for door in (CHAT, RESPONSES, MESSAGES):
        answer = caller.ask("POST", door.target, body={**door.body, "model": value})

        assert answer.status == 400, answer.body
        assert is_error(door.dialect, answer.json, 400)


@pytest.mark.parametrize("value", ["yes", "true", 1, [], {}])
def test_stream_must_be_true_or_false(caller, value):
    for door in (CHAT, RESPONSES, MESSAGES):
        answer = caller.ask("POST", door.target, body={**door.body, "stream": value})

        assert answer.status == 400, answer.body
        assert is_error(door.dialect, answer.json, 400)


def test_a_missing_model_is_named(caller):
    for door in (CHAT, RESPONSES, MESSAGES):
        for model in ({}, {"model": ""}):
            body = {key: value for key, value in door.body.items() if key != "model"} | model

            answer = caller.ask("POST", door.target, body=body)

            assert answer.status == 400
            assert is_error(door.dialect, answer.json, 400)
            assert "`model`" in answer.body.decode()


@pytest.mark.parametrize("model", ["nobody", "nobody/has-this:free", "grüße", "x" * 5000])
def test_a_model_that_nobody_serves_is_not_found(caller, door, model):
    answer = caller.ask(
        "POST",
        door.with_model(model).target.replace("ü", "%C3%BC").replace("ß", "%C3%9F"),
        body=door.with_model(model).body,
    )

    assert answer.status == 404
    assert is_error(door.dialect, answer.json, 404)


def test_lone_surrogates_never_harm(caller, door):
    body = json.dumps(door.body).replace("hello", r"\ud800").encode()

    for model in ("", TRANSLATED[door.dialect]):
        target = door.with_model(model).target if model else door.target
        one = (
            body.replace(b"%b" % json.dumps(door.body.get("model")).encode(), b'"%b"' % model.encode())
            if model
            else body
        )
        answer = caller.ask("POST", target, body=one)

        assert answer.status in (200, 400), answer.body
        assert answer.status == 200 or is_error(door.dialect, answer.json, 400)


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":'])
def test_deep_nesting_is_refused(refuses, door, opening):
    refuses(json.dumps(door.body).encode()[:-1] + b', "deep": ' + opening * 100_000)


def test_deep_nesting_in_the_conversation_is_refused(refuses, door):
    field = _conversation(door)
    refuses(json.dumps({**door.body, field: 0}).encode().replace(b": 0", b": " + b"[" * 100_000 + b"]" * 100_000))


def test_unknown_content_parts_are_told_or_carried(caller, door):
    odd = {"type": "hologram", "hologram": {"data": "x"}}
    bodies = {
        "openai-chat": {"messages": [{"role": "user", "content": [odd]}]},
        "openai-responses": {"input": [{"type": "message", "role": "user", "content": [odd]}]},
        "anthropic": {"messages": [{"role": "user", "content": [odd]}]},
        "gemini": {"contents": [{"role": "user", "parts": [{"hologram": {"data": "x"}}]}]},
    }
    for model in ("", TRANSLATED[door.dialect]):
        one = door.with_model(model) if model else door

        answer = caller.ask("POST", one.target, body={**one.body, **bodies[door.dialect]})

        assert answer.status in (200, 400), answer.body
        assert answer.status == 200 or is_error(door.dialect, answer.json, 400)


def test_a_result_without_its_call_is_mended_on_the_way_to_another_dialect(caller):
    orphan = {"role": "tool", "tool_call_id": "call_1", "content": "42"}
    chat = {"model": "claude-opus-4-7", "messages": [{"role": "user", "content": "hi"}, orphan]}
    block = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "42"}
    messages = {"model": "gpt-5", "max_tokens": 50, "messages": [{"role": "user", "content": [block]}]}

    assert caller.ask("POST", CHAT.target, body=chat).status == 200
    assert caller.ask("POST", MESSAGES.target, body=messages).status == 200


def test_of_two_equal_keys_the_last_counts_and_the_bytes_pass_as_they_came(serving, vendors, dial):
    caller = dial(serving)
    first, last = (b'[{"role": "user", "content": "%b"}]' % text for text in (b"first", b"1.10"))
    body = b'{"model": "nobody", "messages": %b, "model":"sim-chat",\n "messages": %b }' % (first, last)

    answer = caller.ask("POST", CHAT.target, body=body)

    assert answer.json["choices"][0]["message"]["content"] == "echo: 1.10"
    assert vendors.requests[-1].body == body


# -- sizes


def test_a_body_over_the_limit_is_refused_before_it_is_sent(serving, dial):
    for door in DOORS:
        caller = dial(serving)
        head = request("POST", door.target, "content-length: 100001", body=b"")

        caller.send(head)
        answer = caller.answer()

        assert answer.status == 413
        assert is_error(door.dialect, answer.json, 413)


def test_a_body_over_the_limit_may_still_be_sent_and_the_connection_goes_on(serving, dial):
    for door in DOORS:
        caller = dial(serving)

        answer = caller.ask("POST", door.target, body=b"x" * 3_000_000)

        assert answer.status == 413
        assert caller.ask("POST", door.target, body=door.body).status == 200


def test_a_chunked_body_over_the_limit_is_refused(serving, dial):
    for door in DOORS:
        caller = dial(serving)
        body = chunked(*[b"x" * 1000] * 200)

        answer = caller.ask("POST", door.target, "transfer-encoding: chunked", body=body)

        assert answer.status == 413
        assert is_error(door.dialect, answer.json, 413)
        assert caller.ask("POST", door.target, body=door.body).status == 200


def test_a_body_just_at_the_limit_is_served(serving, dial):
    for door in DOORS:
        body = json.dumps(door.body).encode()

        assert dial(serving).ask("POST", door.target, body=body + b" " * (100_000 - len(body))).status == 200


def test_a_large_body_without_a_key_is_refused_before_it_is_sent(shared, dial, door):
    caller = dial(shared)

    caller.send(request("POST", door.target, "content-length: 9000000", body=b"", key=False))
    answer = caller.answer()

    assert answer.status == 401
    assert is_error(door.dialect, answer.json, 401)


def test_a_large_body_without_a_key_does_no_harm(shared, dial, door):
    caller = dial(shared)

    assert caller.ask("POST", door.target, body=b"x" * 3_000_000, key=False).status == 401
    assert caller.ask("POST", door.target, body=door.body).status == 200


@pytest.mark.parametrize("trickled", [False, True])
@pytest.mark.parametrize("key", [False, True])
def test_a_giant_header_is_refused_and_the_connection_closed(shared, dial, door, trickled, key):
    caller = dial(shared)
    head = request("POST", door.target, "x-bomb: " + "b" * 200_000, body=door.body, key=key)

    caller.send(head[:300])
    if trickled:
        caller.dribble(head[300:70_000], pause=0.001, pieces=20)
    caller.send(head[70_000 if trickled else 300 :])
    answer = caller.answer()

    assert answer.status in (413, 431)
    assert is_error(door.dialect, answer.json, answer.status)
    assert answer.header("connection") == "close"
    assert answer.header("x-request-id")
    assert caller.is_closed_by_server
    assert dial(shared).ask("POST", door.target, body=door.body).status == 200


@pytest.mark.parametrize("count", [5000, 100_000])
def test_a_flood_of_headers_is_refused_and_the_connection_closed(shared, dial, door, count):
    caller = dial(shared)

    answer = caller.ask("POST", door.target, *[f"x-{number}: bombs away" for number in range(count)], body=door.body)

    assert answer.status in (413, 431)
    assert is_error(door.dialect, answer.json, answer.status)
    assert caller.is_closed_by_server


@pytest.mark.parametrize("size", [70_000, 2_000_000])
def test_a_giant_address_is_refused_and_the_connection_closed(shared, dial, door, size):
    caller = dial(shared)

    answer = caller.ask("POST", door.target.partition("?")[0] + "?x=" + "u" * size, body=door.body)

    assert answer.status in (413, 414)
    assert is_error(door.dialect, answer.json, answer.status)
    assert caller.is_closed_by_server


def test_an_endless_trailer_is_refused_and_the_connection_closed(shared, dial, door):
    caller = dial(shared)
    body = b"2\r\n{}\r\n0\r\n"

    caller.send(request("POST", door.target, "transfer-encoding: chunked", body=body))
    caller.send(b"x-trailer: bombs away\r\n" * 10_000)
    answer = caller.answer()

    assert answer.status == 400
    assert is_error(door.dialect, answer.json, 400)
    assert caller.is_closed_by_server


def test_trailers_are_no_headers(shared, dial):
    caller = dial(shared)
    body = b"5\r\nhello\r\n0\r\nauthorization: Bearer test-key\r\n\r\n"

    answer = caller.ask("POST", CHAT.target, "transfer-encoding: chunked", body=body, key=False)

    assert answer.status == 401


# -- what is no HTTP


@pytest.mark.parametrize(
    "bytes_",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 200,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nhost x\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nx y: z\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
        b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999999999\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nnonsense\r\n",
        b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    ],
    ids=lambda bytes_: repr(bytes_[:60]),
)
def test_what_is_no_http_is_refused_and_the_connection_closed(shared, dial, bytes_):
    caller = dial(shared)

    caller.send(bytes_)
    answer = caller.answer()

    assert 400 <= answer.status < 500
    assert answer.header("x-request-id").startswith("req_")
    assert answer.json["error"]["message"]
    assert answer.header("connection") == "close"
    assert caller.is_closed_by_server
    assert dial(shared).ask("GET", "/healthz").status == 200


def test_noise_never_harms(shared, dial):
    chance = random.Random(4)
    good = request("POST", CHAT.target, body=CHAT.body)

    for _ in range(150):
        caller = dial(shared)
        noisy = bytearray(good)
        for _ in range(chance.randint(1, 6)):
            noisy[chance.randrange(len(noisy))] = chance.randrange(256)
        caller.send(bytes(noisy[: chance.randint(1, len(noisy))]))
        caller.close()

    assert dial(shared).ask("POST", CHAT.target, body=CHAT.body).status == 200


def test_nonsense_behind_a_request_lets_its_answer_finish(shared, dial):
    for target in (CHAT.target, "/v1/models"):
        caller = dial(shared)
        method = "POST" if target == CHAT.target else "GET"

        caller.send(request(method, target, body=CHAT.body) + b"\0nonsense\0" * 20)
        answer = caller.answer(method)

        assert answer.status == 200
        assert answer.json
        assert caller.is_closed_by_server


def test_a_refusal_inside_a_stream_does_not_cut_into_it(shared, dial):
    door = STREAMS[0]
    caller = dial(shared)

    caller.send(request("POST", door.target, body=door.body) + b"NONSENSE\r\n\r\n")
    answer = caller.answer()

    assert answer.status == 200
    assert answer.frames[-1] == "data: [DONE]"
    assert caller.is_closed_by_server


def _conversation(door: Door) -> str:
    return next(name for name in ("messages", "input", "contents") if name in door.body)


def test_gemini_bodies_need_no_model(caller):
    assert caller.ask("POST", GEMINI.target, body={**GEMINI.body, "model": "ignored"}).status == 200
