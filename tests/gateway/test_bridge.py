"""Between upstream and caller: whatever pieces a stream comes in, the same bytes go out."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cliproxy.canon.errors import BrokenAnswer, Problem
from cliproxy.canon.naming import ToolNames
from cliproxy.canon.request import Request
from cliproxy.dialects import anthropic, gemini, openai_chat, openai_responses
from cliproxy.dialects.base import Echo
from cliproxy.gateway.bridge import PassingFlow, TranslatingFlow, passed_whole

CHAT = (
    b'data: {"id":"c","object":"chat.completion.chunk","model":"real","choices":[{"index":0,"delta":{"role":"assistant"}}]}\n\n'
    b': comment\n\ndata: {"id":"c","model" : "real","choices":[{"index":0,"delta":{"content":"h\xc3\xa9 \\"model\\":\\"x\\""}}]}\n\n'
    b'data: {"id":"c","model":"real","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}\n\ndata: [DONE]\n\n'
)
MESSAGES = (
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","type":"message","role":"assistant",'
    b'"model":"real","content":[],"usage":{"input_tokens":3,"output_tokens":1}}}\n\n'
    b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}\n\n'
    b'event: ping\ndata: {"type":"ping"}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"hi"}}\n\n'
    b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":4}}\n\n'
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
)
GEMINI = (
    b'data: {"candidates":[{"content":{"role":"model","parts":[{"text":"h"}]}}],"modelVersion":"real"}\n\n'
    b'data: {"candidates":[{"content":{"role":"model","parts":[{"text":"i"}]},"finishReason":"STOP"}],'
    b'"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":4},"modelVersion":"real"}\n\n'
)
RESPONSES = (
    b'event: response.created\ndata: {"type":"response.created","response":{"id":"r","model":"real"},"sequence_number":0}\n\n'
    b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","output_index":0,"delta":"hi"}\n\n'
    b'event: response.completed\ndata: {"type":"response.completed","response":{"id":"r","model":"real",'
    b'"status":"completed","output":[],"usage":{"input_tokens":3,"output_tokens":4,"total_tokens":7}}}\n\n'
)
STREAMS = {
    "chat": (openai_chat.DIALECT, CHAT),
    "messages": (anthropic.DIALECT, MESSAGES),
    "gemini": (gemini.DIALECT, GEMINI),
    "responses": (openai_responses.DIALECT, RESPONSES),
}
each_stream = pytest.mark.parametrize("name", STREAMS)


def passed(dialect, data: bytes, cuts: list[int], model: str = "") -> tuple[bytes, PassingFlow]:
    flow = PassingFlow(dialect, model)
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    out = [flow.feed(data[start:end]) for start, end in pairwise(places) if start < end]
    return b"".join([*out, flow.close()]), flow


cut_places = st.lists(st.integers(0, 5000), max_size=12)
line_ends = st.sampled_from([b"\n", b"\r\n"])


@each_stream
@given(cuts=cut_places, line_end=line_ends)
def test_any_cut_passes_the_same_bytes(name, cuts, line_end):
    dialect, stream = STREAMS[name]
    stream = stream.replace(b"\n", line_end)

    out, flow = passed(dialect, stream, cuts)

    assert out == stream
    assert flow.problem is None
    assert flow.has_content


@each_stream
@given(cuts=cut_places, line_end=line_ends)
def test_any_cut_names_the_model_alike(name, cuts, line_end):
    dialect, stream = STREAMS[name]
    stream = stream.replace(b"\n", line_end)

    out, _ = passed(dialect, stream, cuts, "mine")

    assert out == stream.replace(b'"real"', b'"mine"')


@given(cuts=cut_places)
def test_any_cut_makes_the_same_array(cuts):
    out, _ = passed(gemini.ARRAY, GEMINI, cuts)

    frames = [frame.removeprefix(b"data: ") for frame in GEMINI.split(b"\n\n") if frame]
    assert out == b"[" + b",\n".join(frames) + b"]"


@each_stream
def test_usage_is_seen_in_passing(name):
    dialect, stream = STREAMS[name]

    _, flow = passed(dialect, stream, [])

    usage = flow.usage()
    assert usage is not None
    assert (usage.input_total, usage.output_total) == (3, 4)


@each_stream
@given(end=st.integers(0, 5000), is_broken=st.booleans())
def test_a_stream_that_stops_anywhere_never_passes_half_a_frame(name, end, is_broken):
    dialect, stream = STREAMS[name]
    data = stream[: end % len(stream)]
    flow = PassingFlow(dialect)

    out = flow.feed(data) if data else b""
    out += flow.fail(Problem("bad_gateway", 502, "broke off")) if is_broken else flow.close()

    whole = stream[: stream.rfind(b"\n\n", 0, len(data)) + 2 if b"\n\n" in data else 0]
    if flow.problem is None:
        assert stream.startswith(out.removesuffix(b"\n\n"))
    else:
        told = dialect.write_stream_error(flow.problem)
        assert out.endswith(told)
        sent = out.removesuffix(told)
        assert sent == whole or sent.removesuffix(b"\n\n") in (data, data.rstrip(b"\n"))


@each_stream
def test_handshakes_are_no_content(name):
    dialect, stream = STREAMS[name]
    flow = PassingFlow(dialect)
    first = stream[: stream.index(b"\n\n") + 2]

    flow.feed(first)

    assert flow.has_content is (name == "gemini")


ERRORS = {
    "chat": b'data: {"error":{"message":"no","code":"server_is_overloaded"}}\n\n',
    "messages": b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"no"}}\n\n',
    "gemini": b'data: {"error":{"code":503,"message":"no","status":"UNAVAILABLE"}}\n\n',
    "responses": b'event: error\ndata: {"type":"error","code":"server_is_overloaded","message":"no"}\n\n',
}


@each_stream
@given(cuts=cut_places)
def test_nothing_follows_an_error_however_it_is_cut(name, cuts):
    dialect, stream = STREAMS[name]
    frames = [frame + b"\n\n" for frame in stream.split(b"\n\n") if frame]
    start = b"".join(frames[:-1])

    out, flow = passed(dialect, start + ERRORS[name] + frames[-1], cuts)

    assert out == start + ERRORS[name]
    assert flow.problem is not None


@each_stream
@given(cuts=cut_places)
def test_an_error_without_content_leaves_room_for_another_account(name, cuts):
    dialect, stream = STREAMS[name]
    handshake = b"" if name == "gemini" else stream[: stream.index(b"\n\n") + 2]

    _, flow = passed(dialect, handshake + ERRORS[name], cuts)

    assert flow.problem is not None
    assert flow.problem.kind == "overloaded"
    assert not flow.has_content


def _translating(reader, writer) -> TranslatingFlow:
    echo = Echo("mine", Request(model="mine"), "seed", 0)
    return TranslatingFlow(reader.reader(), writer.writer(echo), ToolNames({}))


@each_stream
@pytest.mark.parametrize("client", STREAMS)
def test_a_translated_stream_that_breaks_tells_once_and_a_complete_one_ends_well(name, client):
    (upstream, stream), (dialect, _) = STREAMS[name], STREAMS[client]
    broken, complete = _translating(upstream, dialect), _translating(upstream, dialect)
    half = stream[: stream.rindex(b"\n\n", 0, stream.rindex(b"\n\n") - 60) + 2]
    half = stream[: stream.index(b"\n\n", len(stream) // 2 - 80) + 2] if name == "gemini" else half
    problem = Problem("bad_gateway", 502, "it broke off here")

    told = broken.feed(half) + broken.fail(problem)
    ended = complete.feed(stream) + complete.fail(problem)

    assert (told.count(b"it broke off here") == 1) is (broken.problem is not None)
    assert b"it broke off here" not in ended
    assert complete.problem is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"a":1',
        b"null",
        b'{"error":{"message":"no"}}',
        b"{}",
        b'{"detail":"no"}',
        b'{"message":"no"}',
    ],
)
@each_stream
def test_what_is_no_answer_does_not_pass_for_one(name, body):
    dialect, _ = STREAMS[name]

    with pytest.raises(BrokenAnswer):
        passed_whole(dialect, body, "")
