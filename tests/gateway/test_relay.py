"""The loop over accounts with a scripted network: leases, answers and timers are settled on every path.

The states in which a caller may leave are places where the script blocks; each test cancels there.
"""

import asyncio
import itertools

import pytest

from cliproxy.canon.errors import GatewayError, Unreachable
from cliproxy.config.schema import ClaudeKey, Config, Model, Streaming, Timeouts
from cliproxy.dialects import anthropic, openai_chat
from cliproxy.gateway.calls import Call
from cliproxy.gateway.relay import relay
from cliproxy.gateway.runtime import Runtime
from cliproxy.providers.registry import PROVIDERS
from cliproxy.routing.pool import Pool
from cliproxy.wire.secrets import Secret

FRAMES = [
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","type":"message","role":"assistant",'
    b'"model":"claude-x","content":[],"usage":{"input_tokens":3,"output_tokens":1}}}\n\n',
    b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}\n\n',
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"hi"}}\n\n',
    b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n',
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":4}}\n\n',
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
]
ERROR = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"no"}}\n\n'
WHOLE = (
    b'{"id":"m","type":"message","role":"assistant","model":"claude-x","content":[{"type":"text","text":"hi"}],'
    b'"stop_reason":"end_turn","usage":{"input_tokens":3,"output_tokens":4}}'
)
BLOCK = object()


class FakeAnswer:
    """Pieces are bytes, an error to raise, or BLOCK."""

    def __init__(self, pieces, status=200, kind=b"text/event-stream") -> None:
        self.status = status
        self.headers = ((b"content-type", kind),)
        self.closings = 0
        self._pieces = iter((*pieces, b""))

    async def piece(self) -> bytes:
        return await _play(next(self._pieces))

    async def read(self, limit: int) -> bytes:
        data = b""
        while piece := await self.piece():
            data += piece
        return data

    def close(self) -> None:
        self.closings += 1


async def _play(step):
    await asyncio.sleep(0)
    if step is BLOCK:
        await asyncio.Event().wait()
    if isinstance(step, Exception):
        raise step
    return step


class FakeTransport:
    def __init__(self, *script) -> None:
        self.answers: list[FakeAnswer] = []
        self._script = itertools.chain(script, itertools.repeat(Unreachable("the script is over")))

    async def send(self, request, deadlines):
        step = await _play(next(self._script))
        self.answers.append(step)
        return step

    def close(self) -> None: ...


class FakeExchange:
    method, path, query, headers, peer, request_id = "POST", "/", b"", (), "", "req_1"

    def __init__(self, blocks_at: int = 10**6) -> None:
        self.is_started = False
        self.is_full = False
        self.extra = ()
        self.out: list[bytes] = []
        self.ends = 0
        self._blocks_at = blocks_at

    async def _write(self, data: bytes) -> None:
        self.out.append(data)
        if len(self.out) >= self._blocks_at:
            await asyncio.Event().wait()

    async def reply(self, status, headers, body) -> None:
        assert not self.is_started
        self.is_started = True
        self.ends += 1
        await self._write(body)

    async def start(self, status, headers, data=b"") -> None:
        assert not self.is_started
        self.is_started = True
        await self._write(data)

    async def send(self, data) -> None:
        assert self.is_started
        await self._write(data)

    def nudge(self, status, headers, data) -> bool:
        if self.is_full:
            return False
        self.is_started = True
        self.out.append(data)
        return True

    async def finish(self) -> None:
        self.ends += 1


class CountingPool(Pool):
    """How each lease was settled, and that it was ended."""

    def __init__(self) -> None:
        super().__init__()
        self.leases: dict[int, list[str]] = {}
        self.ends: dict[int, int] = {}
        self._kept = []

    def acquire(self, *arguments, **named):
        lease = super().acquire(*arguments, **named)
        if lease is not None:
            self._kept.append(lease)
            self.leases[id(lease)] = []
            self.ends[id(lease)] = 0
        return lease

    def settle(self, lease, now, verdict=None) -> None:
        self.leases[id(lease)].append("success" if verdict is None else verdict.fault)
        super().settle(lease, now, verdict)

    def release(self, lease, now) -> None:
        self.ends[id(lease)] += 1
        super().release(lease, now)

    @property
    def settled(self) -> list[str]:
        assert all(len(said) <= 1 for said in self.leases.values()), "a lease is settled once at most"
        assert all(count == 1 for count in self.ends.values()), "a lease is ended exactly once"
        assert not self._loads
        return [said[0] if said else "unused" for said in self.leases.values()]


class Scene:
    """One request against two accounts; `until` cancels it when the scene has blocked."""

    def __init__(self, *script, dialect=anthropic.DIALECT, stream=True, blocks_at=10**6, body=b"", **settings) -> None:
        keys = tuple(
            ClaudeKey(api_key=Secret(name), models=(Model(name="claude-x"),))
            for name in ("key-aaaaaaaa", "key-bbbbbbbb")
        )
        config = Config(claude_api_key=keys, **settings)
        self.transport = FakeTransport(*script)
        clock = itertools.count()
        self.runtime = Runtime(
            config, PROVIDERS, self.transport, monotonic=lambda: next(clock) / 1000, epoch=lambda: 0.0, boot="x"
        )
        self.pool = self.runtime.pool = CountingPool()
        self.exchange = FakeExchange(blocks_at)
        text = b'{"model":"claude-x","max_tokens":9,"stream":%b,"messages":[{"role":"user","content":"x"}]}'
        self.call = Call(dialect, body or text % (b"true" if stream else b"false"), (), "req_1")
        self.timers = 0
        self.error: BaseException | None = None

    def play(self, *, leaves: bool = False) -> "Scene":
        asyncio.run(self._play(leaves=leaves))
        assert all(answer.closings == 1 for answer in self.transport.answers), "each answer is closed exactly once"
        assert self.timers == 0, "no timer outlives its request"
        return self

    @property
    def sent(self) -> bytes:
        return b"".join(self.exchange.out)

    async def _play(self, *, leaves: bool) -> None:
        task = asyncio.create_task(relay(self.runtime, self.runtime.snapshot, self.call, self.exchange))
        if leaves:
            await asyncio.sleep(0.01)
            assert not task.done()
            task.cancel()
        try:
            await asyncio.wait_for(task, 3)
        except (GatewayError, asyncio.CancelledError) as error:
            self.error = error
        loop = asyncio.get_running_loop()
        self.timers = sum(not timer.cancelled() for timer in loop._scheduled)  # type: ignore[attr-defined]


def whole(body: bytes = WHOLE, status: int = 200) -> FakeAnswer:
    return FakeAnswer([body], status, b"application/json")


each_dialect = pytest.mark.parametrize("dialect", [anthropic.DIALECT, openai_chat.DIALECT], ids=lambda one: one.name)


@each_dialect
def test_a_stream_settles_its_lease_as_a_success(dialect):
    scene = Scene(FakeAnswer(FRAMES), dialect=dialect).play()

    assert scene.pool.settled == ["success"]
    assert scene.exchange.ends == 1


@each_dialect
def test_a_whole_answer_settles_its_lease_as_a_success(dialect):
    scene = Scene(whole(), dialect=dialect, stream=False).play()

    assert scene.pool.settled == ["success"]
    assert b"hi" in scene.sent


@each_dialect
@pytest.mark.parametrize("stream", [True, False])
def test_each_failed_attempt_settles_its_own(dialect, stream):
    refusal = whole(b"{}", 429)
    last = FakeAnswer(FRAMES) if stream else whole()
    scene = Scene(refusal, last, dialect=dialect, stream=stream).play()

    assert scene.pool.settled == ["quota", "success"]


def test_what_breaks_after_content_was_a_success_and_ends_once():
    scene = Scene(FakeAnswer([*FRAMES[:3], Unreachable("gone")])).play()

    assert scene.pool.settled == ["success"]
    assert scene.exchange.ends == 1
    assert scene.sent.count(b"event: error") == 1


def test_an_error_frame_after_content_ends_the_answer():
    scene = Scene(FakeAnswer([*FRAMES[:3], ERROR, BLOCK])).play()

    assert scene.sent.endswith(ERROR)
    assert scene.exchange.ends == 1


def test_when_everybody_fails_all_are_settled():
    scene = Scene(request_retry=0).play()

    assert scene.pool.settled == ["network"]
    assert isinstance(scene.error, GatewayError)
    assert not scene.exchange.is_started


def test_a_request_that_cannot_be_translated_gives_its_lease_back():
    body = b'{"model":"claude-x","messages":[{"role":"nobody","content":3}]}'
    scene = Scene(dialect=openai_chat.DIALECT, body=body).play()

    assert scene.pool.settled == ["unused"]
    assert isinstance(scene.error, GatewayError)
    assert scene.error.problem.status == 400


LEAVING = {
    "while connecting": (lambda: [BLOCK], {}, ["unused"]),
    "in the handshake": (lambda: [FakeAnswer([FRAMES[0], BLOCK])], {}, ["unused"]),
    "in the content": (lambda: [FakeAnswer([*FRAMES[:3], BLOCK])], {}, ["success"]),
    "in an error's body": (lambda: [FakeAnswer([BLOCK], 500)], {}, ["unused"]),
    "in a whole answer": (lambda: [FakeAnswer([b"{", BLOCK])], {"stream": False}, ["unused"]),
    "while writing the first bytes": (lambda: [FakeAnswer(FRAMES)], {"blocks_at": 1}, ["success"]),
    "while writing": (lambda: [FakeAnswer(FRAMES)], {"blocks_at": 2}, ["success"]),
    "while writing a whole answer": (lambda: [whole()], {"stream": False, "blocks_at": 1}, ["success"]),
    "in the second attempt": (lambda: [whole(b"{}", 500), BLOCK], {}, ["overload", "unused"]),
    "in the pause": (lambda: [whole(b"{}", 500), whole(b"{}", 500)], {}, ["overload", "overload"]),
}


@pytest.mark.parametrize("state", LEAVING)
def test_a_caller_may_leave_in_every_state(state):
    script, options, settled = LEAVING[state]

    scene = Scene(*script(), **options).play(leaves=True)

    assert scene.pool.settled == settled
    assert isinstance(scene.error, asyncio.CancelledError)
    assert scene.exchange.ends == (1 if state == "while writing a whole answer" else 0)
    assert [(record.status, record.is_failed) for record in scene.runtime.usage.drain(9)] == [(499, True)]


def test_silence_before_the_answer_is_filled_and_its_end_is_told_inside():
    settings = {
        "streaming": Streaming(keepalive_seconds=0.02),
        "timeouts": Timeouts(first_event=0.1),
        "request_retry": 0,
    }
    scene = Scene(FakeAnswer([BLOCK]), **settings).play()

    assert scene.exchange.is_started
    assert scene.sent.startswith(anthropic.DIALECT.keepalive)
    assert isinstance(scene.error, GatewayError)
    assert scene.error.problem.status == 504
    assert scene.pool.settled == ["network"]


def test_silence_after_a_released_handshake_ends_the_one_answer():
    settings = {
        "streaming": Streaming(keepalive_seconds=0.02),
        "timeouts": Timeouts(first_event=0.1),
        "request_retry": 3,
    }
    scene = Scene(FakeAnswer([FRAMES[0], BLOCK]), **settings).play()

    assert scene.sent.startswith(FRAMES[0])
    assert scene.sent.count(b"message_start") == FRAMES[0].count(b"message_start")
    assert scene.sent.count(b"event: error") == 1
    assert scene.pool.settled == ["success"]


def test_a_handshake_stays_held_while_the_caller_cannot_take_it():
    settings = {
        "streaming": Streaming(keepalive_seconds=0.02),
        "timeouts": Timeouts(first_event=0.1),
        "request_retry": 0,
    }
    scene = Scene(FakeAnswer([FRAMES[0], BLOCK]), **settings)
    scene.exchange.is_full = True

    scene.play()

    assert scene.sent == b""
    assert scene.error.problem.status == 504


def test_a_stream_that_only_says_hello_is_not_held_forever():
    hello = b": " + b"x" * 100_000 + b"\n\n"
    scene = Scene(FakeAnswer([*[hello] * 20, *FRAMES])).play()

    assert len(scene.exchange.out) > 2
    assert scene.sent.endswith(FRAMES[-1])


COUNTED = {
    "a stream": (lambda: [FakeAnswer(FRAMES)], {}, (200, 1, 7)),
    "a whole answer": (lambda: [whole()], {"stream": False}, (200, 1, 7)),
    "after a refusal": (lambda: [whole(b"{}", 429), FakeAnswer(FRAMES)], {}, (200, 2, 7)),
    "after a handshake that broke off": (lambda: [FakeAnswer([FRAMES[0]]), whole(b"{}", 400)], {}, (400, 2, None)),
    "broken off": (lambda: [FakeAnswer([*FRAMES[:3], Unreachable("gone")])], {}, (502, 1, 4)),
    "an error inside": (lambda: [FakeAnswer([*FRAMES[:3], ERROR])], {}, (529, 1, 4)),
    "nobody there": (list, {"request_retry": 0}, (502, 1, None)),
}


@each_dialect
@pytest.mark.parametrize("case", COUNTED)
def test_each_request_is_counted_once_by_how_it_ended(case, dialect):
    script, options, counted = COUNTED[case]

    scene = Scene(*script(), dialect=dialect, **options).play()

    (record,) = scene.runtime.usage.drain(9)
    assert (record.status, record.attempts, record.tokens.total_tokens) == counted
    assert record.is_failed == (counted[0] != 200)
    assert (record.provider, record.asked, record.dialect) == ("claude", "claude-x", dialect.name)


def test_no_words_of_exceptions_reach_the_caller():
    scene = Scene(FakeAnswer([*FRAMES[:3], Unreachable("the upstream is away")])).play()

    assert b"Traceback" not in scene.sent
    assert b"key-aaaaaaaa" not in scene.sent
