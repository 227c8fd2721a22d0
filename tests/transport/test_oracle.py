"""The same scripted answers through our client and through aiohttp: where they differ, we say why."""

import gzip
import zlib

import pytest
from wires import OK, PATIENT, READ, RESET, Server, Sliced, Wait, answer_of, chunked, new_pool

from cliproxy.canon.errors import GatewayError

aiohttp = pytest.importorskip("aiohttp")

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"

ANSWERS: dict[str, bytes] = {
    "length": OK,
    "no body": answer_of(b""),
    "repeated headers": answer_of(b"x", b"Set-Cookie: a=b", b"set-cookie: c=d", b"X-Empty:", b"X-Latin: caf\xe9"),
    "chunks": chunked(b"a", b"b" * 3000, b"c"),
    "chunk extensions": chunked(b"abc", extension=b";a=b"),
    "trailers": chunked(b"abc", trailers=b"x-sum: 1\r\n"),
    "upper case sizes": CHUNKED + b"A\r\n0123456789\r\n00\r\n\r\n",
    "no length": HEAD + b"x: y\r\n\r\nuntil the end",
    "http/1.0": b"HTTP/1.0 200 OK\r\nx: y\r\n\r\nuntil the end",
    "close": answer_of(b"abc", b"connection: close"),
    "100": b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
    "103": b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK,
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "304": b"HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n",
    "429": answer_of(b'{"error":1}', b"retry-after: 3", status=b"429 Too Many Requests"),
    "no reason": b"HTTP/1.1 503 \r\ncontent-length: 0\r\n\r\n",
    "gzip": answer_of(gzip.compress(b"hello"), b"content-encoding: gzip"),
    "deflate": answer_of(zlib.compress(b"hello"), b"content-encoding: deflate"),
    "raw deflate": answer_of(zlib.compress(b"hello")[2:-4], b"content-encoding: deflate"),
    "gzip in chunks": chunked(gzip.compress(b"hello")[:9], gzip.compress(b"hello")[9:]).replace(
        b"OK\r\n", b"OK\r\ncontent-encoding: gzip\r\n"
    ),
    "nothing": b"",
    "half a head": b"HTTP/1.1 200 OK\r\ncontent-l",
    "half a body": HEAD + b"content-length: 9\r\n\r\nabc",
    "half a chunk": CHUNKED + b"9\r\nabc",
    "no last chunk": CHUNKED + b"3\r\nabc\r\n",
    "no last line": CHUNKED + b"3\r\nabc\r\n0\r\n",
    "garbage": b"SSH-2.0-OpenSSH\r\n\r\n",
    "negative length": HEAD + b"content-length: -1\r\n\r\nabc",
    "two lengths": HEAD + b"content-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
    "length and chunks": HEAD + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "corrupt gzip": answer_of(b"not gzip at all", b"content-encoding: gzip"),
}
STRICTER = {
    "half a gzip": answer_of(gzip.compress(b"hello" * 99)[:-9], b"content-encoding: gzip"),
    "space before a colon": HEAD + b"content-length : 3\r\n\r\nabc",
    "unknown coding": answer_of(b"hello", b"content-encoding: aes128gcm"),
}
"""aiohttp hands these out; we take nothing for an answer that was cut, or that we would have to guess at."""

Outcome = tuple[int, list[tuple[bytes, bytes]], bytes] | None


async def ours(server: Server) -> Outcome:
    pool = new_pool()
    try:
        answer = await pool.send(server.request(), PATIENT)
        try:
            return answer.status, list(answer.headers), await answer.read(1_000_000)
        finally:
            answer.close()
    except GatewayError:
        return None
    finally:
        pool.close()


async def theirs(server: Server) -> Outcome:
    async with aiohttp.ClientSession() as session:
        try:
            async with session.post(f"http://127.0.0.1:{server.port}/v1/x", data=b"{}") as answer:
                body = await answer.read()
                return answer.status, [(name.lower(), value) for name, value in answer.raw_headers], body
        except (TimeoutError, aiohttp.ClientError):
            return None


@pytest.mark.parametrize("cuts", [[10_000], [1]], ids=["whole", "bytes"])
@pytest.mark.parametrize("case", ANSWERS)
async def test_we_make_of_an_answer_what_aiohttp_makes_of_it(case: str, cuts: list[int]) -> None:
    script = [READ, Sliced(ANSWERS[case], cuts)]
    async with Server(script, script) as server:
        assert await ours(server) == await theirs(server)


@pytest.mark.parametrize("case", sorted(ANSWERS.keys() - {"no length", "http/1.0"}))
async def test_we_fail_where_aiohttp_fails_when_a_connection_is_reset(case: str) -> None:
    script = [READ, Sliced(ANSWERS[case][:-1], [10_000]), Wait(0.005), RESET]
    async with Server(script, script) as server:
        assert await ours(server) == await theirs(server)


@pytest.mark.parametrize("case", ["no length", "http/1.0"])
async def test_a_reset_is_no_end_of_a_body_for_us(case: str) -> None:
    script = [READ, ANSWERS[case], Wait(0.02), RESET]
    async with Server(script, script) as server:
        assert await ours(server) is None
        assert await theirs(server) is not None


@pytest.mark.parametrize("case", STRICTER)
async def test_we_refuse_what_aiohttp_lets_pass(case: str) -> None:
    script = [READ, STRICTER[case]]
    async with Server(script, script) as server:
        assert await ours(server) is None
        assert await theirs(server) is not None
