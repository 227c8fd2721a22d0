"""Our HTTP client against servers that behave, and servers that do not. Both event loops, real sockets."""

import asyncio
import gzip
import random
import re
import socket

import pytest
from wires import (
    HALF_CLOSE,
    HOLD,
    OK,
    PATIENT,
    READ,
    READ_HEAD,
    RESET,
    Flood,
    Script,
    Server,
    Sliced,
    Wait,
    answer_of,
    chunked,
    eventually,
    new_pool,
)

from cliproxy.canon.errors import BrokenAnswer, Unreachable, UpstreamTimeout
from cliproxy.transport.base import Deadlines, UpstreamAnswer
from cliproxy.transport.pool import Pool
from cliproxy.wire.http import HttpRequest, Origin

HEAD = b"HTTP/1.1 200 OK\r\n"
MB = 1024 * 1024

WHOLE = {
    "length": (answer_of(b"hello"), 200, b"hello"),
    "no body": (answer_of(b""), 200, b""),
    "chunks": (chunked(b"he", b"l", b"lo"), 200, b"hello"),
    "chunk extensions": (chunked(b"he", b"llo", extension=b';name="a;b"'), 200, b"hello"),
    "trailers": (chunked(b"hello", trailers=b"x-sum: 1\r\ncontent-type: a/b\r\n"), 200, b"hello"),
    "204": (b"HTTP/1.1 204 No Content\r\nx: y\r\n\r\n", 204, b""),
    "304 with a length": (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 10\r\n\r\n", 304, b""),
    "100 before": (b"HTTP/1.1 100 Continue\r\n\r\n" + answer_of(b"hello"), 200, b"hello"),
    "103 before": (b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\ncontent-length: 9\r\n\r\n" + OK, 200, b'{"ok":1}'),
    "many 102 before": (b"HTTP/1.1 102 Processing\r\n\r\n" * 20 + answer_of(b"hello"), 200, b"hello"),
    "no reason": (b"HTTP/1.1 429\r\ncontent-length: 2\r\n\r\nno", 429, b"no"),
    "gzip": (answer_of(gzip.compress(b"hello" * 99), b"content-encoding: gzip"), 200, b"hello" * 99),
}
ENDED_BY_CLOSE = {
    "no length": (HEAD + b"\r\nhello", 200, b"hello"),
    "http/1.0": (b"HTTP/1.0 200 OK\r\n\r\nhello", 200, b"hello"),
    "http/1.0 with a length": (b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello", 200, b"hello"),
    "identity": (HEAD + b"transfer-encoding: identity\r\n\r\nhello", 200, b"hello"),
    "connection: close": (answer_of(b"hello", b"connection: close"), 200, b"hello"),
    "close after chunks": (chunked(b"hello").replace(b"OK\r\n", b"OK\r\nconnection: close\r\n"), 200, b"hello"),
    "nothing": (HEAD + b"\r\n", 200, b""),
}
CUTS = ([10_000], [1], *([random.Random(seed).randint(1, 30) for _ in range(40)] for seed in range(2)))


async def outcome(pool: Pool, request: HttpRequest, deadlines: Deadlines = PATIENT) -> tuple[int, bytes]:
    answer = await pool.send(request, deadlines)
    try:
        return answer.status, await answer.read(64 * MB)
    finally:
        answer.close()


async def one(script: Script, deadlines: Deadlines = PATIENT) -> tuple[int, bytes]:
    """What a fresh pool makes of one connection."""
    pool = new_pool()
    async with Server(script) as server:
        try:
            return await outcome(pool, server.request(), deadlines)
        finally:
            pool.close()


def value(answer: UpstreamAnswer, name: bytes) -> bytes:
    return dict(answer.headers).get(name, b"")


# -- whole answers


@pytest.mark.parametrize("cuts", CUTS, ids=range(len(CUTS)))
@pytest.mark.parametrize("case", WHOLE)
async def test_an_answer_is_the_same_however_it_is_cut_and_the_connection_serves_again(
    case: str, cuts: list[int]
) -> None:
    wire, status, body = WHOLE[case]
    pool = new_pool()
    async with Server([READ, Sliced(wire, cuts), READ, Sliced(wire, cuts)]) as server:
        first = await outcome(pool, server.request())
        second = await outcome(pool, server.request())

        assert first == second == (status, body)
        assert len(server.peers) == 1
        pool.close()


@pytest.mark.parametrize("cuts", CUTS, ids=range(len(CUTS)))
@pytest.mark.parametrize("case", ENDED_BY_CLOSE)
async def test_an_answer_that_ends_its_connection_is_complete_and_followed_by_a_fresh_one(
    case: str, cuts: list[int]
) -> None:
    wire, status, body = ENDED_BY_CLOSE[case]
    pool = new_pool()
    async with Server([READ, Sliced(wire, cuts)], [READ, Sliced(wire, cuts)]) as server:
        first = await outcome(pool, server.request())
        second = await outcome(pool, server.request())

        assert first == second == (status, body)
        assert len(server.peers) == 2
        pool.close()


async def test_a_request_is_written_as_it_was_described() -> None:
    pool = new_pool()
    async with Server([READ, OK, READ, OK]) as server:
        await outcome(pool, server.request(b'{"a":1}', b"/v1/messages?beta=true"))
        await outcome(pool, server.request(b"x" * MB))

        small, large = server.peers[0].requests
        assert small == (
            b"POST /v1/messages?beta=true HTTP/1.1\r\nhost: 127.0.0.1:%d\r\naccept-encoding: identity\r\n"
            b'authorization: Bearer k\r\ncontent-length: 7\r\n\r\n{"a":1}' % server.port
        )
        assert large.endswith(b"x" * MB)
        pool.close()


async def test_headers_keep_their_order_and_repetitions_and_trailers_stay_out() -> None:
    pool = new_pool()
    wire = chunked(b"x", trailers=b"late: 1\r\n").replace(
        b"OK\r\n", b"OK\r\nSet-Cookie: a\r\nEmpty:\r\nset-cookie: b\r\n"
    )
    async with Server([READ, wire]) as server:
        answer = await pool.send(server.request(), PATIENT)
        await answer.read(10)

        assert answer.headers == (
            (b"set-cookie", b"a"),
            (b"empty", b""),
            (b"set-cookie", b"b"),
            (b"transfer-encoding", b"chunked"),
        )
        answer.close()
        pool.close()


async def test_interim_headers_do_not_reach_the_answer() -> None:
    pool = new_pool()
    async with Server([READ, b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n", OK]) as server:
        answer = await pool.send(server.request(), PATIENT)

        assert answer.status == 200
        assert not value(answer, b"link")
        answer.close()
        pool.close()


async def test_pieces_come_as_they_were_sent() -> None:
    pool = new_pool()
    go_on = asyncio.Event()
    script = [
        READ,
        HEAD + b"transfer-encoding: chunked\r\n\r\n",
        b"5\r\nfirst\r\n",
        Wait(event=go_on),
        b"2\r\nok\r\n0\r\n\r\n",
    ]
    async with Server(script) as server:
        answer = await pool.send(server.request(), PATIENT)
        first = await answer.piece()
        go_on.set()
        rest = await answer.read(10)

        assert (first, rest) == (b"first", b"ok")
        assert await answer.piece() == b""
        answer.close()
        pool.close()


async def test_an_early_answer_is_heard_while_the_request_is_still_being_written() -> None:
    pool = new_pool()
    refusal = answer_of(b"too large", b"connection: close", status=b"413 Payload Too Large")
    async with Server([READ_HEAD, refusal]) as server:
        assert await outcome(pool, server.request(b"x" * 16 * MB)) == (413, b"too large")
        pool.close()


async def test_a_connection_whose_request_was_not_read_to_its_end_is_not_used_again() -> None:
    pool = new_pool()
    async with Server([READ_HEAD, OK, Wait(event=asyncio.Event())], [READ, OK]) as server:
        await outcome(pool, server.request(b"x" * 16 * MB))
        await outcome(pool, server.request())

        assert len(server.peers) == 2
        pool.close()


async def test_a_server_that_sends_no_more_may_still_have_answered() -> None:
    assert await one([READ, OK, HALF_CLOSE, HOLD]) == (200, b'{"ok":1}')


async def test_an_early_answer_that_ends_with_its_connection_does_not_wait_for_our_request_to_be_read() -> None:
    script = [READ_HEAD, b"HTTP/1.0 400 Bad Request\r\n\r\nno", HALF_CLOSE, Wait(event=asyncio.Event())]
    pool = new_pool()
    async with Server(script) as server:
        assert await outcome(pool, server.request(b"x" * 16 * MB)) == (400, b"no")
        pool.close()


async def test_an_answer_beyond_the_readers_limit_is_refused() -> None:
    pool = new_pool()
    async with Server([READ, answer_of(b"x" * 1000)]) as server:
        answer = await pool.send(server.request(), PATIENT)

        with pytest.raises(BrokenAnswer, match="larger than 999 bytes"):
            await answer.read(999)
        answer.close()
        pool.close()


# -- broken answers

BROKEN: dict[str, list[bytes]] = {
    "mid-head": [b"HTTP/1.1 200 OK\r\ncontent-le"],
    "after an interim answer": [b"HTTP/1.1 100 Continue\r\n\r\n"],
    "mid-body": [HEAD + b"content-length: 9\r\n\r\nhel"],
    "before the body": [HEAD + b"content-length: 9\r\n\r\n"],
    "mid-chunk": [HEAD + b"transfer-encoding: chunked\r\n\r\n9\r\nhel"],
    "between chunks": [HEAD + b"transfer-encoding: chunked\r\n\r\n3\r\nhel\r\n"],
    "before the last line": [HEAD + b"transfer-encoding: chunked\r\n\r\n3\r\nhel\r\n0\r\n"],
    "in trailers": [HEAD + b"transfer-encoding: chunked\r\n\r\n3\r\nhel\r\n0\r\nx: y\r\n"],
}
NOT_HTTP: dict[str, bytes] = {
    "ssh": b"SSH-2.0-OpenSSH_9.7\r\n",
    "a tls alert": b"\x15\x03\x01\x00\x02\x02\x16",
    "html": b"<html>hello</html>",
    "http/2": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x80",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "two lengths": HEAD + b"content-length: 2\r\ncontent-length: 3\r\n\r\nabc",
    "length and chunks": HEAD + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    "a chunk without size": HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\nab\r\n",
    "another protocol": b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    "a folded header": HEAD + b"x: y\r\n z\r\ncontent-length: 0\r\n\r\n",
    "a space in a name": HEAD + b"x y: z\r\ncontent-length: 0\r\n\r\n",
}


@pytest.mark.parametrize("end", ["closed", "reset"])
@pytest.mark.parametrize("case", BROKEN)
async def test_an_answer_that_breaks_off_is_never_taken_for_complete(case: str, end: str) -> None:
    last = [Wait(0.02), RESET] if end == "reset" else []

    with pytest.raises(BrokenAnswer, match="broke off"):
        await one([READ, *BROKEN[case], *last])


async def test_a_body_without_length_that_ends_in_a_reset_is_broken() -> None:
    with pytest.raises(BrokenAnswer, match="broke off"):
        await one([READ, HEAD + b"\r\nhello", Wait(0.02), RESET])


@pytest.mark.parametrize("case", NOT_HTTP)
async def test_what_is_not_http_is_a_broken_answer(case: str) -> None:
    with pytest.raises(BrokenAnswer, match="does not speak HTTP"):
        await one([READ, NOT_HTTP[case], HOLD])


async def test_what_came_before_the_break_is_handed_out_first() -> None:
    pool = new_pool()
    async with Server([READ, HEAD + b"content-length: 9\r\n\r\nhel"]) as server:
        answer = await pool.send(server.request(), PATIENT)

        assert await answer.piece() == b"hel"
        for _ in range(2):
            with pytest.raises(BrokenAnswer):
                await answer.piece()
        answer.close()
        pool.close()


@pytest.mark.parametrize("last", [[], [RESET]], ids=["closed", "reset"])
async def test_a_fresh_connection_closed_without_an_answer_is_not_tried_again(last: Script) -> None:
    with pytest.raises(Unreachable, match="closed the connection without an answer"):
        await one([READ, *last])


@pytest.mark.parametrize("script", [[], [RESET]], ids=["closed", "reset"])
async def test_a_server_that_hangs_up_on_arrival_is_unreachable(script: Script) -> None:
    with pytest.raises(Unreachable, match="closed the connection without an answer"):
        await one(script)


BOMBS: dict[str, tuple[bytes, bytes]] = {
    "one endless header": (HEAD + b"x: ", b"a" * 65536),
    "endless headers": (HEAD, b"x-header: value\r\n" * 4096),
    "endless interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 4096),
    "endless trailers": (HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\n", b"x-trailer: value\r\n" * 4096),
    "one endless trailer": (HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\nx: ", b"a" * 65536),
    "an endless chunk extension": (HEAD + b"transfer-encoding: chunked\r\n\r\n1;", b"a" * 65536),
    "an endless reason": (b"HTTP/1.1 200 ", b"a" * 65536),
}


@pytest.mark.parametrize("case", BOMBS)
async def test_framing_without_end_is_cut_off(case: str) -> None:
    begin, unit = BOMBS[case]
    pool = new_pool()
    async with Server([READ, begin, Flood(unit, 10_000)]) as server:
        with pytest.raises(BrokenAnswer, match=r"too large a head|framing without a body"):
            await outcome(pool, server.request())
        await eventually(server.peers[0].gone.is_set)

        assert server.peers[0].sent_bytes < 32 * MB
        pool.close()


# -- connections that are used again


@pytest.mark.parametrize("end", [[], [RESET]], ids=["closed", "reset"])
async def test_an_idle_connection_that_the_server_closed_is_not_used(end: Script) -> None:
    pool = new_pool()
    async with Server([READ, OK, *end], [READ, OK]) as server:
        await outcome(pool, server.request())
        await asyncio.sleep(0.05)

        assert await outcome(pool, server.request()) == (200, b'{"ok":1}')
        assert len(server.peers) == 2
        pool.close()


@pytest.mark.parametrize("end", [[], [RESET]], ids=["closed", "reset"])
async def test_a_request_is_sent_once_more_when_a_used_connection_dies_before_the_answer(end: Script) -> None:
    pool = new_pool()
    async with Server([READ, OK, READ, *end], [READ, OK]) as server:
        await outcome(pool, server.request())

        assert await outcome(pool, server.request(b"again")) == (200, b'{"ok":1}')
        assert server.peers[0].requests[1] == server.peers[1].requests[0]
        pool.close()


async def test_a_request_is_not_sent_a_third_time() -> None:
    pool = new_pool()
    async with Server([READ, OK, READ], [READ]) as server:
        await outcome(pool, server.request())

        with pytest.raises(Unreachable):
            await outcome(pool, server.request())
        assert len(server.peers) == 2
        pool.close()


async def test_a_request_is_not_sent_again_once_its_answer_has_begun() -> None:
    pool = new_pool()
    async with Server([READ, OK, READ, b"H"]) as server:
        await outcome(pool, server.request())

        with pytest.raises(BrokenAnswer):
            await outcome(pool, server.request())
        pool.close()


async def test_a_request_is_not_sent_again_when_time_was_up() -> None:
    pool = new_pool()
    async with Server([READ, OK, READ, HOLD]) as server:
        await outcome(pool, server.request())

        with pytest.raises(UpstreamTimeout):
            await outcome(pool, server.request(), Deadlines(head=0.05))
        pool.close()


@pytest.mark.parametrize("after", [OK, b"HTTP/1.1 2", b"\x00garbage"], ids=["an answer", "half an answer", "garbage"])
async def test_what_follows_an_answer_is_not_the_next_one(after: bytes) -> None:
    pool = new_pool()
    first = answer_of(b"first", status=b"201 Created")
    async with Server([READ, first + after, HOLD], [READ, OK]) as server:
        assert await outcome(pool, server.request()) == (201, b"first")
        assert await outcome(pool, server.request()) == (200, b'{"ok":1}')
        assert len(server.peers) == 2
        pool.close()


async def test_what_comes_on_an_idle_connection_ends_it() -> None:
    pool = new_pool()
    async with Server([READ, OK, Wait(0.02), b"HTTP/1.1 408 Request Timeout\r\n\r\n", HOLD], [READ, OK]) as server:
        await outcome(pool, server.request())
        await eventually(server.peers[0].gone.is_set)

        assert await outcome(pool, server.request()) == (200, b'{"ok":1}')
        pool.close()


async def test_blank_lines_between_answers_do_no_harm() -> None:
    pool = new_pool()
    async with Server([READ, OK + b"\r\n", READ, OK]) as server:
        await outcome(pool, server.request())

        assert await outcome(pool, server.request()) == (200, b'{"ok":1}')
        pool.close()


async def test_an_unread_body_that_has_come_entirely_does_not_cost_the_connection() -> None:
    pool = new_pool()
    async with Server([READ, answer_of(b"unread"), READ, OK]) as server:
        answer = await pool.send(server.request(), PATIENT)
        answer.close()

        assert await outcome(pool, server.request()) == (200, b'{"ok":1}')
        pool.close()


async def test_origins_share_no_connections() -> None:
    pool = new_pool()
    async with Server([READ, OK, HOLD], [READ, OK, HOLD]) as server:
        proxy = f"http://127.0.0.1:{server.port}"
        await outcome(pool, server.request())
        await outcome(pool, HttpRequest(b"POST", server.origin(proxy), b"/", b""))

        assert len(server.peers) == 2
        pool.close()


async def test_connections_that_waited_long_are_not_trusted() -> None:
    pool = new_pool(max_idle_seconds=0.05)
    async with Server([READ, OK, HOLD], [READ, OK, HOLD]) as server:
        await outcome(pool, server.request())
        await asyncio.sleep(0.06)
        await outcome(pool, server.request())

        assert len(server.peers) == 2
        pool.close()


async def test_connections_that_nobody_asks_for_are_closed_in_the_end() -> None:
    pool = new_pool(max_idle_seconds=0.05)
    async with Server([READ, OK, HOLD]) as server:
        await outcome(pool, server.request())

        await eventually(server.peers[0].gone.is_set)


# -- closing


async def test_closing_an_old_answer_again_does_not_touch_the_connections_new_user() -> None:
    pool = new_pool()
    go_on = asyncio.Event()
    script = [READ, OK, READ, HEAD + b"content-length: 5\r\n\r\nhe", Wait(event=go_on), b"llo"]
    async with Server(script) as server:
        old = await pool.send(server.request(), PATIENT)
        old.close()
        new = await pool.send(server.request(), PATIENT)
        old.close()
        go_on.set()

        assert await new.read(10) == b"hello"
        new.close()
        new.close()
        assert len(server.peers) == 1
        pool.close()


async def test_an_old_answer_does_not_show_the_connections_new_user() -> None:
    pool = new_pool()
    async with Server([READ, answer_of(b"old", b"x: old"), READ, answer_of(b"new", b"x: new")]) as server:
        old = await pool.send(server.request(), PATIENT)
        await old.read(10)
        old.close()
        new = await pool.send(server.request(), PATIENT)

        assert value(old, b"x") == b"old"
        assert await old.piece() == b""
        assert await new.read(10) == b"new"
        new.close()
        pool.close()


async def test_who_waits_for_an_answer_that_another_closes_is_told() -> None:
    pool = new_pool()
    async with Server([READ, HEAD + b"content-length: 5\r\n\r\nhe", HOLD]) as server:
        answer = await pool.send(server.request(), PATIENT)
        await answer.piece()
        waiting = asyncio.create_task(answer.piece())
        await asyncio.sleep(0)
        answer.close()

        with pytest.raises(BrokenAnswer):
            await waiting
        pool.close()


async def test_closing_the_pool_drops_idle_connections_and_leaves_answers_under_way() -> None:
    pool = new_pool()
    go_on = asyncio.Event()
    under_way = [READ, HEAD + b"content-length: 5\r\n\r\nhe", Wait(event=go_on), b"llo", HOLD]
    async with Server(under_way, [READ, OK, HOLD]) as server:
        answer = await pool.send(server.request(), PATIENT)
        await outcome(pool, server.request())
        pool.close()
        await eventually(server.peers[1].gone.is_set)
        go_on.set()

        assert await answer.read(10) == b"hello"
        assert not server.peers[0].gone.is_set()
        answer.close()
        await eventually(server.peers[0].gone.is_set)


async def test_closing_an_answer_under_way_cuts_its_connection() -> None:
    pool = new_pool()
    async with Server([READ, HEAD + b"content-length: 5\r\n\r\nhe", HOLD]) as server:
        answer = await pool.send(server.request(), PATIENT)
        answer.close()

        await eventually(server.peers[0].gone.is_set, 2.0)


STATES: dict[str, Script] = {
    "the request is being written": [READ_HEAD, Wait(0.05), HOLD],
    "no answer has begun": [READ, HOLD],
    "half a head has come": [READ, b"HTTP/1.1 200 OK\r\nx:", HOLD],
    "an interim answer has come": [READ, b"HTTP/1.1 100 Continue\r\n\r\n", HOLD],
    "the head has come": [READ, HEAD + b"content-length: 5\r\n\r\n", HOLD],
    "half a body has come": [READ, HEAD + b"content-length: 5\r\n\r\nhe", HOLD],
    "half a chunk has come": [READ, HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\nhe", HOLD],
    "a body without length is coming": [READ, HEAD + b"\r\nhello", HOLD],
}


@pytest.mark.parametrize("state", STATES)
async def test_a_caller_who_leaves_cuts_the_connection_at_once(state: str) -> None:
    pool = new_pool()
    size = 16 * MB if state == "the request is being written" else 2
    async with Server(STATES[state]) as server:
        task = asyncio.create_task(outcome(pool, server.request(b"x" * size)))
        await eventually(lambda: server.peers and server.peers[0].requests)
        await asyncio.sleep(0.02)
        task.cancel()

        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(server.peers[0].gone.is_set, 2.0)
        pool.close()


# -- deadlines


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\nx", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_a_head_that_does_not_come_is_a_timeout(begun: bytes) -> None:
    with pytest.raises(UpstreamTimeout, match="did not answer in time"):
        await one([READ, *([begun] if begun else []), HOLD], Deadlines(head=0.05))


async def test_a_head_that_trickles_does_not_outlive_its_deadline() -> None:
    with pytest.raises(UpstreamTimeout, match="did not answer in time"):
        await one([READ, HEAD, *[b"x: y\r\n", Wait(0.02)] * 100], Deadlines(head=0.1))


@pytest.mark.parametrize(
    "head", [b"content-length: 5\r\n\r\nhe", b"transfer-encoding: chunked\r\n\r\n2\r\nhe\r\n", b"\r\nhe"]
)
async def test_a_body_that_stalls_is_a_timeout(head: bytes) -> None:
    with pytest.raises(UpstreamTimeout, match="sent nothing more in time"):
        await one([READ, HEAD + head, HOLD], Deadlines(idle=0.05))


async def test_a_stalled_body_without_length_is_a_timeout_also_for_a_reader_who_comes_late() -> None:
    pool = new_pool()
    async with Server([READ, HEAD + b"\r\nhello", HOLD]) as server:
        answer = await pool.send(server.request(), Deadlines(idle=0.05))
        await eventually(server.peers[0].gone.is_set)

        assert await answer.piece() == b"hello"
        with pytest.raises(UpstreamTimeout):
            await answer.piece()
        answer.close()
        pool.close()


async def test_a_body_may_take_longer_than_the_gap_that_is_allowed() -> None:
    trickle = [step for _ in range(10) for step in (b"1\r\nx\r\n", Wait(0.04))]
    script = [READ, HEAD + b"transfer-encoding: chunked\r\n\r\n", *trickle, b"0\r\n\r\n"]

    assert await one(script, Deadlines(idle=0.3)) == (200, b"x" * 10)


async def test_a_slow_reader_is_not_blamed_on_the_upstream() -> None:
    pool = new_pool()
    total = 4 * MB
    async with Server(
        [READ, HEAD + b"content-length: %d\r\n\r\n" % total, Flood(b"x" * 65536, total // 65536)]
    ) as server:
        answer = await pool.send(server.request(), Deadlines(idle=0.2))
        await eventually(lambda: answer.is_paused)
        await asyncio.sleep(0.45)
        read = len(await answer.piece())
        await asyncio.sleep(0.25)

        assert read + len(await answer.read(total)) == total
        answer.close()
        pool.close()


async def test_a_complete_answer_has_all_the_time_to_be_read() -> None:
    pool = new_pool()
    async with Server([READ, OK, READ, OK]) as server:
        answer = await pool.send(server.request(), Deadlines(head=0.1, idle=0.1))
        await asyncio.sleep(0.25)

        assert await answer.read(100) == b'{"ok":1}'
        answer.close()
        await outcome(pool, server.request())
        pool.close()


async def test_an_idle_connection_keeps_no_deadline_of_its_last_answer() -> None:
    pool = new_pool()
    async with Server([READ, Sliced(OK, [40]), READ, Wait(0.2), OK]) as server:
        await outcome(pool, server.request(), Deadlines(head=0.05, idle=0.05))

        assert await outcome(pool, server.request(), Deadlines(head=0, idle=0)) == (200, b'{"ok":1}')
        pool.close()


def _full_listener() -> tuple[socket.socket, list[socket.socket]]:
    """A listener whose queue is full, so that the system lets further connections wait."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    waiting: list[socket.socket] = []
    for _ in range(4):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(listener.getsockname())
        waiting.append(client)
    return listener, waiting


async def test_a_connection_that_does_not_come_about_is_a_timeout() -> None:
    listener, waiting = _full_listener()
    pool = new_pool()
    origin = Origin("http", "127.0.0.1", listener.getsockname()[1])

    with pytest.raises(UpstreamTimeout, match=re.escape("Connecting to 127.0.0.1 took longer than 0.05 s.")):
        await pool.send(HttpRequest(b"GET", origin, b"/", b""), Deadlines(connect=0.05))
    for each in (listener, *waiting):
        each.close()


async def test_a_refused_connection_is_unreachable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        origin = Origin("http", "127.0.0.1", unused.getsockname()[1])

        with pytest.raises(Unreachable, match=re.escape("Could not connect to 127.0.0.1: connection refused.")):
            await new_pool().send(HttpRequest(b"GET", origin, b"/", b""), PATIENT)


@pytest.mark.parametrize("host", ["nowhere.invalid", "a..b", "x" * 80])
async def test_a_name_that_does_not_resolve_is_unreachable(host: str) -> None:
    with pytest.raises(Unreachable, match=r"its name (does not resolve|is not a name)"):
        await new_pool().send(HttpRequest(b"GET", Origin("http", host, 80), b"/", b""), PATIENT)


# -- back-pressure, and many at once


async def test_a_slow_reader_holds_the_sender_back() -> None:
    pool = new_pool()
    total = 50 * MB
    async with Server(
        [READ, HEAD + b"content-length: %d\r\n\r\n" % total, Flood(b"x" * 65536, total // 65536)]
    ) as server:
        answer = await pool.send(server.request(), PATIENT)
        await eventually(lambda: answer.is_paused)
        await asyncio.sleep(0.2)

        assert server.peers[0].sent_bytes < 20 * MB
        assert answer.buffered_bytes < MB
        assert len(await answer.read(total)) == total
        answer.close()
        pool.close()


async def test_many_requests_at_once_do_not_mix() -> None:
    pool = new_pool()

    async def ask(server: Echo, number: int) -> None:
        for turn in range(5):
            body = b"%d/%d" % (number, turn)
            assert await outcome(pool, server.request(body * (1 + number * 50))) == (200, body * (1 + number * 50))

    async with Echo() as server:
        await asyncio.gather(*(ask(server, number) for number in range(100)))

        assert len(server.peers) <= 100
        pool.close()


class Echo(Server):
    """Answers with the request's body, in chunks for odd lengths."""

    async def __aenter__(self) -> "Echo":
        await super().__aenter__()
        return self

    async def _serve(self, peer: object, number: int) -> None:
        peer = self.peers[number]
        while True:
            body = (await peer.read_request()).partition(b"\r\n\r\n")[2]
            await peer.play([chunked(body) if len(body) % 2 else answer_of(body)])


# -- codings


@pytest.mark.parametrize(
    "line", [b"content-encoding: br", b"content-encoding: gzip, br", b"content-encoding: aes128gcm"]
)
async def test_a_coding_that_we_cannot_undo_is_refused(line: bytes) -> None:
    with pytest.raises(BrokenAnswer, match="which nobody asked for"):
        await one([READ, answer_of(b"hello", line), HOLD])


async def test_two_codings_in_two_headers_are_two_codings() -> None:
    with pytest.raises(BrokenAnswer, match="as gzip, br, which"):
        await one([READ, answer_of(b"x", b"content-encoding: gzip", b"content-encoding: br"), HOLD])


async def test_a_compressed_transfer_is_undone() -> None:
    packed = gzip.compress(b"hello")
    wire = chunked(packed[:7], packed[7:]).replace(b"chunked", b"gzip, chunked")

    assert await one([READ, wire]) == (200, b"hello")


async def test_a_compressed_body_that_breaks_off_stays_broken() -> None:
    pool = new_pool()
    async with Server([READ, answer_of(gzip.compress(b"hello")[:-4], b"content-encoding: gzip")]) as server:
        answer = await pool.send(server.request(), PATIENT)

        for _ in range(2):
            with pytest.raises(BrokenAnswer, match="compressed body broke off"):
                await answer.read(100)
        answer.close()
        pool.close()


async def test_an_empty_body_may_be_said_to_be_compressed() -> None:
    assert await one([READ, answer_of(b"", b"content-encoding: gzip", status=b"204 No Content")]) == (204, b"")


async def test_a_compressed_body_that_would_fill_the_memory_is_refused_in_time() -> None:
    pool = new_pool()
    bomb = gzip.compress(bytes(16 * MB))
    async with Server([READ, answer_of(bomb, b"content-encoding: gzip")]) as server:
        answer = await pool.send(server.request(), PATIENT)

        assert len(await answer.piece()) <= MB
        with pytest.raises(BrokenAnswer, match="larger than"):
            await answer.read(MB)
        answer.close()
        pool.close()
