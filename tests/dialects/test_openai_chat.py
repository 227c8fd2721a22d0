"""The Chat Completions dialect: golden cases, the four laws of a codec, the official SDK as reader, pitfalls."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx2
import msgspec
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from openai.lib.streaming.chat import ChatCompletionStreamState

from cliproxy.canon.answer import Answer, fold, unfold
from cliproxy.canon.carrier import seal
from cliproxy.canon.errors import BrokenAnswer, CallerFault, InvalidJson, MissingParameter, Problem, UpstreamRefused
from cliproxy.canon.events import (
    ArgsDelta,
    Event,
    Failed,
    Finish,
    MediaOut,
    PartEnd,
    PartStart,
    Ping,
    ReasoningDelta,
    Signed,
    Start,
    TextDelta,
    UsageSeen,
)
from cliproxy.canon.models import ModelEntry
from cliproxy.canon.parts import (
    Audio,
    Cache,
    Document,
    Image,
    Media,
    Opaque,
    Reasoning,
    Refusal,
    Signature,
    Text,
    ToolCall,
    ToolResult,
    Turn,
    Video,
)
from cliproxy.canon.request import Limits, Meta, OutputFormat, Request, Sampling, Thinking, Tool, ToolChoice
from cliproxy.canon.usage import Usage
from cliproxy.dialects.base import Echo
from cliproxy.dialects.openai_chat import DIALECT, NAME, OFFICIAL, _Request

GOLDEN = Path(__file__).parents[1] / "golden" / NAME
ECHO = Echo("caller-model", Request("caller-model", wants_usage=True), "0123abcd", 1_700_000_000)
PLAIN_ECHO = structs.replace(ECHO, request=Request("caller-model"))
SEEN = Usage(9, 4, None, 3, 1)
USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 3,
    "total_tokens": 12,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 1},
}


def golden(kind: str) -> list[object]:
    paths = sorted(GOLDEN.glob(f"{kind}-*.json"))
    return [pytest.param(json.loads(path.read_text()), id=path.stem) for path in paths]


def table(name: str) -> list[list[object]]:
    return json.loads((GOLDEN / f"table-{name}.json").read_text())


def sse(*frames: object) -> bytes:
    return b"".join(f"data: {frame if isinstance(frame, str) else json.dumps(frame)}\n\n".encode() for frame in frames)


def chunk(delta: object = None, finish: str | None = None, **more: object) -> dict[str, object]:
    choice = {"index": 0, "delta": {} if delta is None else delta, "finish_reason": finish}
    return {"id": "chatcmpl-1", "model": "up", "created": 1, "choices": [choice], **more}


def completion(message: object, finish: str = "stop", **more: object) -> bytes:
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return json.dumps({"id": "chatcmpl-1", "model": "up", "created": 1, "choices": [choice], **more}).encode()


def read(data: bytes) -> list[Event]:
    reader = DIALECT.reader()
    return reader.feed(data) + reader.close()


def read_in_pieces(data: bytes, size: int) -> list[Event]:
    reader, events = DIALECT.reader(), []
    for start in range(0, len(data), size):
        events += reader.feed(data[start : start + size])
    return events + reader.close()


def written(events: list[Event], echo: Echo = ECHO) -> bytes:
    return DIALECT.writer(echo).push(events)


def frames_of(data: bytes) -> list[dict[str, object]]:
    blocks = [block.removeprefix("data: ") for block in data.decode().split("\n\n") if block.startswith("data: ")]
    return [json.loads(block) for block in blocks if block != "[DONE]"]


def plain(value: object) -> object:
    """A struct as its name and the fields that differ from their defaults: what golden files hold."""
    if isinstance(value, msgspec.Struct):
        defaults = {field.name: field.default for field in structs.fields(value)}
        told = {key: item for key, item in structs.asdict(value).items() if item != defaults[key] or key == "part"}
        return {type(value).__name__: {key: plain(item) for key, item in told.items()}}
    if isinstance(value, bytes):
        return json.loads(value)
    return [plain(item) for item in value] if isinstance(value, tuple) else value


# ---- golden cases ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", golden("request"))
def test_recorded_requests_are_read_and_written_back(case: dict[str, object]) -> None:
    request = DIALECT.read_request(json.dumps(case["body"]).encode())

    assert plain(request) == case["canonical"]
    out = DIALECT.write_request(request)
    assert json.loads(out.body) == case["written"]
    assert [[loss.path, loss.action] for loss in out.losses] == case["losses"]


@pytest.mark.parametrize("case", golden("stream"))
def test_recorded_streams_tell_the_same_events_however_they_are_cut(case: dict[str, list[object]]) -> None:
    data = sse(*case["frames"])

    events = read(data)

    assert [plain(event) for event in events] == case["events"]
    assert all(read_in_pieces(data, size) == events for size in (1, 7, 64, 4096))
    framings = (
        data.replace(b"\n", b"\r\n"),
        data.replace(b"\n", b"\r"),
        data.replace(b"data: ", b"data:"),
        b"\xef\xbb\xbf: hello\n\n" + data.replace(b"\n\n", b"\n\n: ping\n\nretry: 3\n\nevent: message\n").rstrip(b"\n"),
    )
    assert all(read_in_pieces(framing, 50) == events for framing in framings)


@pytest.mark.parametrize("case", golden("stream"))
def test_recorded_streams_keep_the_grammar_of_events(case: dict[str, list[object]]) -> None:
    events = read(sse(*case["frames"]))

    assert [type(event) for event in events].count(Start) == isinstance(events[0], Start) == 1
    assert [isinstance(event, Finish | Failed) for event in events].index(True) == len(events) - 1
    starts = [event.part for event in events if isinstance(event, PartStart)]
    assert starts == list(range(len(starts)))
    opened: set[int] = set()
    for event in events:
        if isinstance(event, PartStart):
            opened.add(event.part)
            assert event.kind != "call" or (event.call_id and event.name)
        elif isinstance(event, PartEnd):
            opened.remove(event.part)
        elif hasattr(event, "part"):
            assert event.part in opened
    assert not opened or isinstance(events[-1], Failed)


def test_a_stream_and_its_whole_answer_are_the_same() -> None:
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    messages = (
        {"role": "assistant", "content": "a", "reasoning_content": "hm", "tool_calls": [call]},
        {"role": "assistant", "content": [{"type": "text", "text": "a"}, {"type": "odd"}], "reasoning": "hm"},
        {"role": "assistant", "content": None, "refusal": "no"},
        {"role": "assistant", "content": "a", "images": [{"image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}]},
        {"content": "a", "extra_content": {"google": {"thought_signature": "c2ln"}}},
        {"content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"content": None, "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}, {"function": {}}]},
    )
    for message in messages:
        for finish in ("stop", "length", "tool_calls", "content_filter", "odd"):
            whole = fold(DIALECT.read_answer(completion(message, finish, usage=USAGE)))
            assert fold(read(sse(chunk(message, finish, usage=USAGE), "[DONE]"))) == whole


# ---- law: read after write, requests --------------------------------------------------------------------------------

_texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
_names = st.text("abcXYZ_-9", min_size=1, max_size=12)
_ids = st.text("abc019_", min_size=1, max_size=12).map("call_".__add__)
_images = st.builds(
    Image,
    st.sampled_from((Media("image/png", data="iVBORw0KGgo="), Media(url="https://a.example/b"))),
    st.sampled_from(("", "low", "high")),
)
_documents = st.sampled_from(
    (Document(Media("application/pdf", data="JVBERi0="), filename="a.pdf"), Document(Media(file_id="file-1")))
)
_sounds = st.sampled_from((Audio(Media("audio/wav", data="AAAA")), Audio(Media("audio/mpeg", data="AAAA"))))
_users = st.lists(st.one_of(st.builds(Text, _texts), _images, _documents, _sounds), min_size=1, max_size=3)
_objects = st.dictionaries(_names, st.integers(), max_size=2).map(json.dumps)
_google = st.builds(Signature, st.just("c2ln"), st.just("google"))
_foreign = st.builds(Signature, _names, st.sampled_from(("anthropic", "openai")))


@st.composite
def _said(draw: st.DrawFn) -> list[object]:
    """What one message of an assistant can hold: reasoning, text, refusal and calls, one signature."""
    thoughts = draw(st.sampled_from(((), (Reasoning(("a\n\nb",)),), (Reasoning(("hm",), signature=draw(_foreign)),))))
    is_signed = not any(thought.signature for thought in thoughts) and draw(st.booleans())
    text = Text(draw(_texts), signature=draw(_google) if is_signed else None)
    parts = [*thoughts, text, *([Refusal(draw(_texts))] if draw(st.booleans()) else [])]
    for call_id in draw(st.lists(_ids, max_size=2, unique=True)):
        is_custom = draw(st.booleans())
        signature = None if is_custom else draw(st.none() | _google | _foreign)
        arguments = draw(_texts if is_custom else _objects)
        parts.append(ToolCall(call_id, draw(_names), arguments, is_custom, signature=signature))
    return parts


@st.composite
def _rounds(draw: st.DrawFn) -> list[Turn]:
    said = draw(_said())
    name = draw(st.sampled_from(("", "bob")))
    turns = [Turn("user", tuple(draw(_users)), name), Turn("assistant", tuple(said))]
    results = [ToolResult(part.id, (Text(draw(_texts)),)) for part in said if isinstance(part, ToolCall)]
    if results:
        turns.append(Turn("user", tuple(results)))
    return [*turns, Turn("system", (Text(draw(_texts)),))] if draw(st.booleans()) else turns


_schemas = st.just('{"type":"object","properties":{"a":{"type":"string"}}}')
_tools = st.one_of(
    st.builds(Tool, _names, st.just("function"), _texts, _schemas, st.sampled_from((None, False))),
    st.builds(Tool, _names, st.just("custom"), _texts, format=st.sampled_from(("", '{"type":"text"}'))),
    st.just(Tool("web_search", "opaque", dialect=NAME, data='{"type":"web_search"}')),
)
_optional_floats = st.none() | st.floats(0, 2)


@st.composite
def _requests(draw: st.DrawFn) -> Request:
    tools = draw(st.lists(_tools, max_size=3, unique_by=lambda tool: tool.name))
    own = [tool.name for tool in tools if tool.kind != "opaque"]
    modes = [ToolChoice("auto"), ToolChoice("none"), ToolChoice("required"), None]
    if own:
        modes += [ToolChoice("one", (own[0],)), ToolChoice("allowed_auto", tuple(own))]
        modes += [ToolChoice("allowed_required", (own[0],))]
    formats = (OutputFormat(), OutputFormat("json"), OutputFormat("schema", '{"type":"object"}', "n", "d", False))
    return Request(
        model=draw(_names),
        is_stream=(is_stream := draw(st.booleans())),
        turns=tuple(turn for turns in draw(st.lists(_rounds(), min_size=1, max_size=3)) for turn in turns),
        tools=tuple(tools),
        tool_choice=draw(st.sampled_from(modes)) if tools else None,
        parallel_calls=draw(st.sampled_from((None, True, False))) if tools else None,
        sampling=Sampling(
            draw(_optional_floats),
            draw(_optional_floats),
            None,
            draw(_optional_floats),
            draw(_optional_floats),
            draw(st.none() | st.integers(0, 9)),
            draw(st.sampled_from(("", '{"1":2}'))),
            draw(st.none() | st.booleans()),
            draw(st.none() | st.integers(0, 9)),
        ),
        limits=Limits(draw(st.none() | st.integers(1, 9999)), tuple(draw(st.lists(_texts, max_size=4)))),
        thinking=draw(
            st.sampled_from((Thinking(), Thinking("off"), Thinking("level", "low"), Thinking("level", "max")))
        ),
        output=draw(st.sampled_from(formats)),
        meta=Meta("user-1", "", "flex", "key-1", draw(st.sampled_from(("", "low")))),
        wants_usage=is_stream,
    )


@settings(max_examples=70, deadline=None)
@given(_requests(), st.sampled_from((DIALECT, OFFICIAL)))
def test_reading_after_writing_gives_the_request_back(request_: Request, dialect) -> None:
    out = dialect.write_request(request_)

    assert out.losses == ()
    assert dialect.read_request(out.body) == request_
    assert dialect.write_request(request_).body == out.body


def of(*parts: object, role: str = "user") -> Request:
    return Request("m", turns=(Turn(role, parts),))


LOSSES = {
    "limits.stop": Request("m", limits=Limits(stop=tuple("abcde"))),
    "sampling.top_k": Request("m", sampling=Sampling(top_k=0)),
    "meta.store": Request("m", meta=Meta(store=True)),
    "meta.service_tier": Request("m", meta=Meta(service_tier="scale")),
    "meta.metadata": Request("m", meta=Meta(metadata="{}")),
    "thinking": Request("m", thinking=Thinking("budget", budget=2000)),
    "thinking.is_shown": Request("m", thinking=Thinking(is_shown=False)),
    "thinking.summary": Request("m", thinking=Thinking(summary="detailed")),
    "safety_settings": Request("m", dropped=("safety_settings",)),
    "tools.search": Request("m", tools=(Tool("search", "opaque", dialect="gemini", data="{}"),)),
    "tools.f.is_strict": Request(
        "m", tools=(Tool("f", schema='{"type":"object","properties":{"a":{}}}', is_strict=True),)
    ),
    "output.is_strict": Request("m", output=OutputFormat("schema", '{"type":"object"}', is_strict=True)),
    "system": Request("m", system=(Text("a"), Text("b"))),
    "turns.phase": Request("m", turns=(Turn("assistant", (Text("a"),), phase="final_answer"),)),
    "turns.video": of(Video(Media(url="https://a.example"))),
    "turns.image": of(Image(Media(file_id="file-1"))),
    "turns.document": of(Document(text="a", title="t")),
    "turns.audio": of(Audio(Media(url="https://a.example"))),
    "turns.thing": of(Opaque("gemini", "thing", "{}")),
    "turns.image ": of(Image(Media(url="https://a.example")), role="assistant"),
    "turns.tool_result.media": of(ToolResult("c", (Image(Media(url="https://a.example")),))),
    "cache": of(Text("a", Cache())),
    "cache ": Request("m", tools=(Tool("f", cache=Cache()),)),
    "cache  ": Request("m", system=(Text("a", Cache()),)),
}


@pytest.mark.parametrize("path", LOSSES)
def test_what_the_dialect_cannot_say_is_declared(path: str) -> None:
    assert [loss.path for loss in DIALECT.write_request(LOSSES[path]).losses] == [path.strip()]


FIELDS = {
    "sampling": Sampling(0.5, 0.5, 3, 0.5, 0.5, 3, "{}", True, 3),
    "limits": Limits(5, ("a",), 1),
    "thinking": Thinking("level", "low", is_shown=False, summary="concise"),
    "output": OutputFormat("schema", '{"type":"object"}', "n", "d", False),
    "meta": Meta("u", "{}", "flex", "k", "low", True),
}


@pytest.mark.parametrize("name", FIELDS)
def test_every_wish_is_written_or_declared_lost(name: str) -> None:
    def told(value: object) -> tuple[object, object]:
        out = DIALECT.write_request(structs.replace(Request("m"), **{name: value}))
        return json.loads(out.body), out.losses

    whole = FIELDS[name]
    for field in structs.fields(whole):
        if field.name not in ("wants_encrypted_reasoning", "kind", "mode", "budget"):
            assert told(structs.replace(whole, **{field.name: field.default})) != told(whole), field.name


# ---- law: read after write, answers and streams ---------------------------------------------------------------------


@st.composite
def _answers(draw: st.DrawFn) -> Answer:
    """What one message of an answer can hold; the reasoning of a stream cannot be signed after the fact."""
    parts = [structs.replace(part, signature=None) if isinstance(part, Reasoning) else part for part in draw(_said())]
    parts = [part for part in parts if not (isinstance(part, ToolCall) and part.is_custom)]
    has_calls = any(isinstance(part, ToolCall) for part in parts)
    if any(isinstance(part, Refusal) for part in parts):
        parts = [structs.replace(part, signature=None) if isinstance(part, Text) else part for part in parts]
    if has_calls:
        parts = [structs.replace(part, signature=None) if isinstance(part, Text) else part for part in parts]
    finish = "tool_calls" if has_calls else draw(st.sampled_from(("stop", "length", "content_filter")))
    return Answer(
        tuple(parts), Finish(finish, finish), "chatcmpl-9", "caller-model", 7, draw(st.sampled_from((SEEN, None)))
    )


@settings(max_examples=70, deadline=None)
@given(_answers(), st.integers(1, 400))
def test_reading_after_writing_gives_the_answer_back_whole_streamed_and_cut(answer: Answer, size: int) -> None:
    stream = written(unfold(answer))

    checked(stream)
    assert fold(DIALECT.read_answer(DIALECT.write_answer(answer, ECHO))) == answer
    assert fold(read(stream)) == answer
    assert read_in_pieces(stream, size) == read(stream)


@settings(max_examples=40, deadline=None)
@given(_answers(), st.data())
def test_a_truncated_stream_never_ends_cleanly(answer: Answer, data: st.DataObject) -> None:
    stream = written(unfold(answer), PLAIN_ECHO)
    cut = data.draw(st.integers(0, stream.index(b'"finish_reason":"')))

    assert isinstance(read(stream[:cut])[-1], Failed)


ROUND = Answer((Reasoning(("hm",)), Text("é\u2028x"), ToolCall("c", "f", '{"a":1}')), Finish("tool_calls"), usage=SEEN)


def test_truncation_at_every_offset_fails_until_the_finish_is_there() -> None:
    stream = written(unfold(ROUND))
    told = stream.index(b"\n\n", stream.index(b'"finish_reason":"')) - 1

    for cut in range(len(stream)):
        events = read(stream[:cut])
        assert sum(isinstance(event, Failed | Finish) for event in events) == 1
        assert isinstance(events[-1], Finish if cut > told else Failed), cut


@pytest.mark.parametrize("case", golden("stream"))
def test_recorded_streams_that_are_cut_or_damaged_end_exactly_once(case: dict[str, list[object]]) -> None:
    data = sse(*case["frames"])

    for at in range(0, len(data), 11):
        for broken in (data[:at], data[:at] + b"\x00" + data[at + 1 :], data[:at] + data[at + 5 :]):
            assert sum(isinstance(event, Failed | Finish) for event in read(broken)) == 1


# ---- clients --------------------------------------------------------------------------------------------------------


def checked(data: bytes) -> None:
    """The rules that SDK helpers rely on."""
    frames = frames_of(data)
    assert data.endswith(b"data: [DONE]\n\n")
    assert len({(frame["id"], frame["created"], frame["model"], frame["object"]) for frame in frames}) == 1
    chosen = [frame["choices"][0] for frame in frames if frame["choices"]]
    assert all(frame["choices"] or frame is frames[-1] for frame in frames)
    assert ["role" in choice["delta"] for choice in chosen] == [True] + [False] * (len(chosen) - 1)
    assert [choice["finish_reason"] for choice in chosen[:-1]] == [None] * (len(chosen) - 1)
    assert chosen[-1]["finish_reason"]
    assert chosen[-1]["delta"] == {}
    named: dict[int, bool] = {}
    for choice in chosen:
        for call in choice["delta"].get("tool_calls", ()):
            is_new = call["index"] not in named
            assert ("id" in call) == ("name" in call["function"]) == ("type" in call) == is_new
            assert not is_new or call["index"] == len(named)
            named[call["index"]] = True


def client_for(body: bytes, kind: str = "text/event-stream; charset=utf-8") -> openai.OpenAI:
    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": kind}, content=body)

    transport = httpx2.MockTransport(answer)
    return openai.OpenAI(
        api_key="k", base_url="http://x/v1", max_retries=0, http_client=httpx2.Client(transport=transport)
    )


INTERLEAVED: list[Event] = [
    Start("up-1", "up", 1),
    PartStart(0, "call", "c1", "f"),
    ArgsDelta(0, '{"a"'),
    PartStart(1, "call", "c2", "g"),
    PartStart(2, "call", "c3", "exec", is_custom=True),
    ArgsDelta(2, 'say "'),
    ArgsDelta(0, ":1}"),
    ArgsDelta(2, 'hi"'),
    PartEnd(1),
    PartEnd(2),
    Signed(0, Signature("c2ln", "google")),
    PartEnd(0),
    Finish("tool_calls"),
]
SDK_CASES: dict[str, list[Event]] = {
    "text": unfold(Answer((Text("hello"), Text(" world 🙂\u2028")), Finish("stop"), usage=SEEN)),
    "calls": unfold(Answer((Text("x"), ToolCall("c", "f", '{"a":1}'), ToolCall("d", "f", "{}")), Finish("tool_calls"))),
    "interleaved calls": INTERLEAVED,
    "reasoning": unfold(Answer((Reasoning(("a", "b")), Text("x"), Reasoning(("c",)), Text("y")), Finish("stop"))),
    "refusal": unfold(Answer((Refusal("no"), Refusal("!")), Finish("refusal"))),
    "signed": unfold(
        Answer(
            (Text("a", signature=Signature("c2ln", "google")), Text("b", signature=Signature("c2lo", "google"))),
            Finish("stop"),
        )
    ),
    "picture": unfold(
        Answer((Image(Media("image/png", data="AAAA")), Image(Media("image/png", data="BBBB"))), Finish("stop"))
    ),
    "nothing": unfold(Answer((), Finish("stop"))),
}


@pytest.mark.parametrize("name", SDK_CASES)
def test_the_official_sdk_reads_what_is_written(name: str) -> None:
    body = written(SDK_CASES[name])

    checked(body)
    with client_for(body) as client, client.chat.completions.stream(model="m", messages=[]) as stream:
        list(stream)
        final = stream.get_final_completion()
    answer, choice = fold(SDK_CASES[name]), final.choices[0]
    assert (choice.message.content or "") == "".join(part.text for part in answer.parts if isinstance(part, Text))
    assert (choice.message.refusal or "") == "".join(part.text for part in answer.parts if isinstance(part, Refusal))
    calls = [part for part in answer.parts if isinstance(part, ToolCall)]
    told = [(call.id, call.function.name) for call in choice.message.tool_calls or ()]
    assert told == [(call.id, call.name) for call in calls]
    assert [json.loads(call.function.arguments) for call in choice.message.tool_calls or ()] == [
        {"input": call.arguments} if call.is_custom else json.loads(call.arguments) for call in calls
    ]
    thoughts = [text for part in answer.parts if isinstance(part, Reasoning) for text in part.segments]
    assert getattr(choice.message, "reasoning_content", "") == "\n\n".join(thoughts)
    assert (final.model, choice.message.role, choice.finish_reason) == (
        "caller-model",
        "assistant",
        "tool_calls" if answer.finish.reason == "tool_calls" else "stop",
    )
    assert (final.usage and final.usage.total_tokens) == (answer.usage and answer.usage.total)


@pytest.mark.parametrize("name", SDK_CASES)
def test_the_official_sdk_reads_the_whole_answer_the_same(name: str) -> None:
    answer = fold(SDK_CASES[name])
    state = ChatCompletionStreamState()
    with client_for(DIALECT.write_answer(answer, ECHO), "application/json") as client:
        whole = client.chat.completions.create(model="m", messages=[])
    with client_for(written(SDK_CASES[name])) as client:
        for part in client.chat.completions.create(model="m", messages=[], stream=True):
            state.handle_chunk(part)

    told, streamed = whole.choices[0].message, state.get_final_completion().choices[0].message
    assert (told.content or "", told.refusal) == (streamed.content or "", streamed.refusal)
    assert len(told.tool_calls or ()) == len(streamed.tool_calls or ())
    for field in ("reasoning_content", "extra_content"):
        assert getattr(told, field, None) == getattr(streamed, field, None)


@pytest.mark.parametrize("code", ["overloaded", "rate_limit"])
def test_the_official_sdk_raises_on_an_error_inside_the_stream(code: str) -> None:
    events = [Start(), PartStart(0, "text"), TextDelta(0, "a"), Failed(Problem(code, 503, "Too much."))]

    with client_for(written(events)) as client, pytest.raises(openai.APIError, match="Too much"):
        list(client.chat.completions.create(model="m", messages=[], stream=True))


def test_the_official_sdk_lives_through_keepalives_at_every_point() -> None:
    writer = DIALECT.writer(ECHO)
    body = b"".join(writer.keepalive() + writer.push([event]) for event in unfold(ROUND))

    with client_for(body) as client:
        chunks = list(client.chat.completions.create(model="m", messages=[], stream=True))

    assert chunks[-1].usage.total_tokens == 12


# ---- pitfalls: requests ---------------------------------------------------------------------------------------------


def request_of(**fields: object) -> Request:
    messages = [{"role": "user", "content": "q"}]
    return DIALECT.read_request(json.dumps({"model": "m", "messages": messages, **fields}).encode())


def message_of(**message: object) -> Turn:
    return request_of(messages=[message]).turns[0]


@pytest.mark.parametrize(("fields", "param"), table("bad-requests"))
def test_a_bad_request_names_the_field(fields: dict[str, object], param: str) -> None:
    with pytest.raises(CallerFault) as caught:
        request_of(**fields)

    assert caught.value.status == 400
    assert caught.value.problem.param == param
    assert f"`{param}`" in caught.value.problem.message


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"model":"m"}', b'{"messages":"\\ud800"}', b'{"model":"\xff"}'])
def test_a_body_that_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises((InvalidJson, MissingParameter, CallerFault)):
        DIALECT.read_request(body)


def test_null_is_absence_everywhere() -> None:
    names = set(_Request.__struct_fields__) - {"model", "messages"}

    assert request_of(**dict.fromkeys(names)) == request_of()


def test_model_and_stream_come_from_the_address_when_it_tells() -> None:
    request = DIALECT.read_request(b'{"messages":[]}', model="from-address", is_stream=True)

    assert (request.model, request.is_stream) == ("from-address", True)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"reasoning_effort": " High "}, Thinking("level", "high")),
        ({"reasoning_effort": "none"}, Thinking("off")),
        ({"reasoning_effort": "auto"}, Thinking("auto")),
        ({"reasoning_effort": ""}, Thinking()),
        ({"reasoning": {"effort": "low", "exclude": True}}, Thinking("level", "low", is_shown=False)),
        ({"reasoning": {"max_tokens": 2000}}, Thinking("budget", budget=2000)),
        ({"reasoning": {"enabled": True}}, Thinking("auto")),
        ({"reasoning": {"enabled": False}}, Thinking("off")),
        ({"reasoning": {"exclude": False}}, Thinking(is_shown=True)),
        ({"thinking": {"type": "enabled", "budget_tokens": 4096}}, Thinking("budget", budget=4096)),
        ({"thinking": {"type": "enabled"}}, Thinking("auto")),
        ({"thinking": {"type": "enabled", "effort": "max"}}, Thinking("level", "max")),
        ({"thinking": {"type": "disabled", "budget_tokens": 4096}}, Thinking("off")),
        ({"enable_thinking": True}, Thinking("auto")),
        ({"enable_thinking": False}, Thinking("off")),
        ({"chat_template_kwargs": {"enable_thinking": False}}, Thinking("off")),
        ({"include_reasoning": False}, Thinking(is_shown=False)),
        (
            {"extra_body": {"google": {"thinking_config": {"thinking_budget": -1, "include_thoughts": True}}}},
            Thinking("budget", budget=-1, is_shown=True),
        ),
        (
            {"google": {"thinking_config": {"thinkingLevel": "LOW", "includeThoughts": False}}},
            Thinking("level", "low", is_shown=False),
        ),
    ],
)
def test_every_way_to_ask_for_reasoning_is_read(fields: dict[str, object], expected: Thinking) -> None:
    request = request_of(**fields)

    assert (request.thinking, request.dropped) == (expected, ())


def test_an_effort_that_nobody_knows_is_dropped_by_name() -> None:
    request = request_of(reasoning_effort="ultra")

    assert (request.thinking, request.dropped) == (Thinking(), ("reasoning_effort",))


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("any", ToolChoice("required")),
        ({"type": "auto"}, ToolChoice("auto")),
        ({"type": "function", "function": {"name": "f"}}, ToolChoice("one", ("f",))),
        ({"type": "function", "name": "f"}, ToolChoice("one", ("f",))),
        ({"type": "custom", "custom": {"name": "c"}}, ToolChoice("one", ("c",))),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]},
            ToolChoice("allowed_required", ("f",)),
        ),
    ],
)
def test_every_form_of_tool_choice_is_read(choice: object, expected: ToolChoice) -> None:
    assert (
        request_of(tools=[{"type": "function", "function": {"name": "f"}}], tool_choice=choice).tool_choice == expected
    )


def test_choice_and_parallel_calls_need_tools() -> None:
    body = json.loads(DIALECT.write_request(Request("m", tool_choice=ToolChoice("auto"), parallel_calls=False)).body)

    assert not {"tools", "tool_choice", "parallel_tool_calls"} & body.keys()


def test_lengths_are_said_in_the_word_of_the_flavour() -> None:
    bodies = [json.loads(dialect.write_request(Request("m", limits=Limits(5))).body) for dialect in (DIALECT, OFFICIAL)]

    assert [body.keys() & {"max_tokens", "max_completion_tokens"} for body in bodies] == [
        {"max_tokens"},
        {"max_completion_tokens"},
    ]


def test_a_stream_always_asks_for_usage() -> None:
    assert json.loads(DIALECT.write_request(Request("m", is_stream=True)).body)["stream_options"] == {
        "include_usage": True
    }


def test_developers_speak_as_the_system() -> None:
    request = Request("m", turns=(Turn("developer", (Text("a"),)), Turn("user", (Text("q"),))))

    assert [message["role"] for message in json.loads(DIALECT.write_request(request).body)["messages"]] == [
        "system",
        "user",
    ]


def test_calls_without_text_have_no_text_part_and_null_content() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}

    turn = message_of(role="assistant", content=None, tool_calls=[call])

    assert turn.parts == (ToolCall("c", "f", "{}"),)
    assert json.loads(DIALECT.write_request(Request("m", turns=(turn,))).body)["messages"][0]["content"] is None


@pytest.mark.parametrize("content", [None, "", []])
def test_an_empty_result_is_an_empty_string(content: object) -> None:
    turn = message_of(role="tool", tool_call_id="c", content=content)

    assert json.loads(DIALECT.write_request(Request("m", turns=(turn,))).body)["messages"] == [
        {"role": "tool", "tool_call_id": "c", "content": ""}
    ]


def test_numbers_keep_their_spelling_and_members_their_order() -> None:
    schema = '{"type":"object","properties":{"z":{"default":1.10},"a":{"maximum":9223372036854775808}}}'
    arguments = '{"z":1.10,"a":1e400,"n":9223372036854775808}'
    body = (
        b'{"model":"m","messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function",'
        b'"function":{"name":"f","arguments":%b}}]}],"logit_bias":{"1":0.50},"tools":[{"type":"function","function":'
        b'{"name":"f","parameters":%b}}]}'
    ) % (json.dumps(arguments).encode(), schema.encode())

    out = DIALECT.write_request(DIALECT.read_request(body)).body

    assert json.dumps(arguments).encode() in out
    assert schema.encode() in out
    assert b'"logit_bias":{"1":0.50}' in out


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "thinking"])
def test_thoughts_of_history_are_read_under_each_name(field: str) -> None:
    assert message_of(role="assistant", content="a", **{field: "hm"}).parts == (Reasoning(("hm",)), Text("a"))


def test_thoughts_of_one_turn_become_one_text() -> None:
    turn = Turn("assistant", (Reasoning(("a", "b")), Text("x"), Reasoning(("c",)), Text("y")))

    message = json.loads(DIALECT.write_request(Request("m", turns=(turn,))).body)["messages"][0]

    assert message == {"role": "assistant", "content": "xy", "reasoning_content": "a\n\nb\n\nc"}


def test_a_signature_goes_out_with_the_message_and_comes_back_to_its_part() -> None:
    thought = Reasoning(("hm",), signature=Signature("sig", "anthropic"))
    blob = Reasoning(signature=Signature("blob", "anthropic", "redacted"))
    native = Text("a", signature=Signature("c2ln", "google"))

    for parts in ((thought, Text("a")), (blob, Text("a")), (native,)):
        message = json.loads(DIALECT.write_answer(Answer(parts, Finish("stop")), ECHO))["choices"][0]["message"]
        assert message_of(**message).parts == parts


def test_a_signature_without_its_reasoning_is_worthless_and_a_damaged_one_too() -> None:
    sealed = seal(Signature("sig", "anthropic"))

    def parts(value: str, **fields: object) -> tuple[object, ...]:
        extra = {"google": {"thought_signature": value}}
        return message_of(role="assistant", content="a", extra_content=extra, **fields).parts

    assert parts(sealed) == (Text("a"),)
    assert parts(sealed[:-4] + "AAAA", reasoning_content="hm")[0].signature.family == "unknown"


def test_a_signature_of_googles_without_a_text_stands_alone() -> None:
    extra = {"google": {"thought_signature": "c2ln"}}

    parts = message_of(role="assistant", content=None, extra_content=extra).parts

    assert parts == (Text("", signature=Signature("c2ln", "google")),)


def test_a_breakpoint_of_a_message_marks_its_last_part() -> None:
    mark = {"type": "ephemeral", "ttl": "1h"}
    content = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]

    assert message_of(role="user", content=content, cache_control=mark).parts == (Text("a"), Text("b", Cache("1h")))
    assert message_of(role="tool", tool_call_id="c", content="1", cache_control=mark).parts[0].cache == Cache("1h")


def test_names_and_refusals_of_an_assistant_are_kept() -> None:
    turn = message_of(role="assistant", name="bob", content=[{"type": "refusal", "refusal": "no"}])

    assert turn == Turn("assistant", (Refusal("no"),), "bob")
    assert json.loads(DIALECT.write_request(Request("m", turns=(turn,))).body)["messages"] == [
        {"role": "assistant", "content": None, "refusal": "no", "name": "bob"}
    ]


def test_tools_of_vendors_return_as_they_came_and_are_no_functions() -> None:
    tool = {"type": "builtin_function", "function": {"name": "$web_search"}}

    request = request_of(tools=[tool])

    assert request.tools[0].kind == "opaque"
    assert json.loads(DIALECT.write_request(request).body)["tools"] == [tool]


def test_adjacent_results_are_one_turn_and_words_between_part_them() -> None:
    result = {"role": "tool", "tool_call_id": "c", "content": "1"}

    turns = request_of(
        messages=[result, result, {"role": "user", "content": "and"}, result, {"role": "user", "content": []}]
    ).turns

    assert [len(turn.parts) for turn in turns] == [2, 1, 1, 0]


# ---- pitfalls: reading the upstream ---------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [1, 5, 1000])
def test_a_whole_answer_in_place_of_a_stream_is_read(cut: int) -> None:
    body = b"\n  " + completion({"role": "assistant", "content": "a\n\nb"}).replace(b", ", b",\n\n")

    assert fold(read_in_pieces(body, cut)).parts == (Text("a\n\nb"),)


@pytest.mark.parametrize(
    "body",
    [
        b'{"error":{"message":"no","code":"invalid_api_key"}}',
        b'{"detail":"no"}\n\n',
        b'[{"error":{"message":"no"}}]',
        b"<html><title>no</title>\n\n</html>",
        b"{",
        b"[]",
        b"",
        b"upstream said: no",
    ],
)
def test_an_error_in_place_of_a_stream_fails(body: bytes) -> None:
    last = read_in_pieces(body, 3)[-1]

    assert isinstance(last, Failed)
    assert body in (b"", b"{", b"[]", b"upstream said: no") or "no" in last.problem.message
    assert bool(last.problem.native) == body.startswith(b'{"')


def test_an_answer_that_is_none_is_broken() -> None:
    for body in (b"", b"<html>", b"[]", b'{"object":"response"}', b'{"choices":[]}', b'{"choices":[{"delta":{}}]}'):
        with pytest.raises(BrokenAnswer):
            DIALECT.read_answer(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"error":{"message":"x","code":"rate_limit_exceeded"}}',
        completion({"content": "a"}, "insufficient_system_resource"),
    ],
)
def test_a_failed_answer_raises_the_upstreams_problem_when_folded(body: bytes) -> None:
    with pytest.raises(UpstreamRefused) as caught:
        fold(DIALECT.read_answer(body))

    assert caught.value.problem.kind in ("rate_limit", "overloaded")


def test_a_piece_that_only_looks_like_a_repetition_is_kept() -> None:
    pieces = ("{}", "{}")
    calls = [
        chunk({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": piece}}]})
        for piece in pieces
    ]
    nested = [
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
        for piece in ('{"a":', '{"b":', "1}", "}")
    ]
    start = chunk({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f"}}]})

    assert fold(read(sse(*calls, chunk(None, "stop")))).parts == (ToolCall("c", "f", "{}"),)
    assert fold(read(sse(start, *nested, chunk(None, "stop")))).parts == (ToolCall("c", "f", '{"a":{"b":1}}'),)


def test_large_arguments_take_linear_time() -> None:
    pieces = ["x" * 9 for _ in range(10_000)]
    frames = [chunk({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"a":"'}}]})]
    frames += [chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}) for piece in (*pieces, '"}')]

    (call,) = fold(read(sse(*frames, chunk(None, "stop")))).parts

    assert len(call.arguments) == 90_008


def test_usage_is_told_once_and_right_before_the_end() -> None:
    events = read(sse(chunk({"content": "a"}, usage=USAGE), chunk(None, "stop", usage=USAGE), "[DONE]"))

    assert [type(event) for event in events[-2:]] == [UsageSeen, Finish]
    assert sum(isinstance(event, UsageSeen) for event in events) == 1


def test_usage_survives_a_failure() -> None:
    events = read(sse(chunk({"content": "a"}, usage=USAGE), {"error": {"message": "x"}}))

    assert events[-2] == UsageSeen(SEEN)


@pytest.mark.parametrize(
    ("wire", "usage"),
    [
        (USAGE, SEEN),
        ({"prompt_tokens": 5, "completion_tokens": 0}, Usage(5, None, None, 0, None)),
        ({"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 2}}, Usage(5, 0, 2)),
        ({"prompt_tokens": 5, "cached_tokens": 2}, Usage(5, 2)),
        ({"prompt_tokens": True}, None),
        ({}, None),
        (None, None),
    ],
)
def test_counts_are_read_as_they_are_told(wire: object, usage: Usage | None) -> None:
    assert fold(DIALECT.read_answer(completion({"content": "a"}, usage=wire))).usage == usage


# ---- pitfalls: writing to the caller --------------------------------------------------------------------------------


def test_a_known_zero_is_told_and_what_is_unknown_is_not() -> None:
    answer = Answer((Text("a"),), Finish("stop"), usage=Usage(5, 0, None, 1, None))

    usage = json.loads(DIALECT.write_answer(answer, ECHO))["usage"]

    assert usage["prompt_tokens_details"] == {"cached_tokens": 0}
    assert usage["completion_tokens_details"] == {}
    assert "usage" not in json.loads(DIALECT.write_answer(structs.replace(answer, usage=None), ECHO))


def test_usage_is_written_only_when_asked_for_and_known() -> None:
    with_usage, without = unfold(ROUND), unfold(structs.replace(ROUND, usage=None))

    assert [bool(frame["choices"]) for frame in frames_of(written(with_usage))][-1] is False
    assert all(frame["usage"] is None for frame in frames_of(written(with_usage))[:-1])
    assert all(frame["choices"] and "usage" not in frame for frame in frames_of(written(with_usage, PLAIN_ECHO)))
    assert all(frame["choices"] for frame in frames_of(written(without)))


def test_a_call_without_arguments_has_an_empty_object() -> None:
    events = [Start(), PartStart(0, "call", "c", "f"), PartEnd(0), Finish("tool_calls")]

    pieces = [call["function"]["arguments"] for frame in frames_of(written(events)) for call in told_calls(frame)]

    assert pieces == ["", "{}"]


def told_calls(frame: dict[str, object]) -> list[dict[str, object]]:
    return frame["choices"][0]["delta"].get("tool_calls", []) if frame["choices"] else []


def test_a_call_that_was_cut_short_gets_no_ending() -> None:
    events = [Start(), PartStart(0, "call", "c", "f"), PartEnd(0, is_complete=False), Finish("length")]

    assert [call["function"]["arguments"] for frame in frames_of(written(events)) for call in told_calls(frame)] == [""]


def test_nothing_follows_the_end() -> None:
    for last in (Finish("stop"), Failed(Problem("internal", 500, "x"))):
        writer = DIALECT.writer(ECHO)
        writer.push([Start(), last])
        assert writer.push([PartStart(0, "text"), TextDelta(0, "x"), Finish("stop"), last]) == b""


def test_an_error_is_the_last_word() -> None:
    assert written([Start(), Failed(Problem("quota", 429, "No more."))]).endswith(
        b'data: {"error":{"message":"No more.","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}\n\n'
    )


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("stop", "stop"),
        ("stop_sequence", "stop"),
        ("length", "length"),
        ("context_overflow", "length"),
        ("tool_calls", "tool_calls"),
        ("content_filter", "content_filter"),
        ("refusal", "content_filter"),
        ("recitation", "content_filter"),
        ("pause", "stop"),
    ],
)
def test_every_finish_has_a_documented_word(reason: str, word: str) -> None:
    answer = Answer((Text("a"),), Finish(reason))

    assert json.loads(DIALECT.write_answer(answer, ECHO))["choices"][0]["finish_reason"] == word
    assert frames_of(written(unfold(answer)))[-1]["choices"][0]["finish_reason"] == word


def test_a_refusal_in_words_is_a_stop() -> None:
    answer = Answer((Refusal("no"),), Finish("refusal"))

    assert json.loads(DIALECT.write_answer(answer, ECHO))["choices"][0]["finish_reason"] == "stop"
    assert frames_of(written(unfold(answer)))[-1]["choices"][0]["finish_reason"] == "stop"


def test_content_is_a_string_unless_there_is_a_call_or_a_refusal() -> None:
    def content(*parts: object) -> object:
        return json.loads(DIALECT.write_answer(Answer(parts, Finish("stop")), ECHO))["choices"][0]["message"]["content"]

    assert (content(), content(Reasoning(("a",)))) == ("", "")
    assert (content(ToolCall("c", "f", "{}")), content(Refusal("no"))) == (None, None)


def test_whole_free_text_calls_are_native() -> None:
    answer = Answer((ToolCall("c", "exec", 'say "hi"', is_custom=True),), Finish("tool_calls", "tool_calls"))

    assert fold(DIALECT.read_answer(DIALECT.write_answer(answer, ECHO))).parts == answer.parts


def test_foreign_ids_are_replaced_and_own_ones_kept() -> None:
    ids = [frames_of(written([Start(native), Finish("stop")]))[0]["id"] for native in ("chatcmpl-x", "msg_1", "")]

    assert ids == ["chatcmpl-x", "chatcmpl-0123abcd", "chatcmpl-0123abcd"]


def test_pings_say_nothing_and_keepalives_are_comments() -> None:
    assert DIALECT.writer(ECHO).keepalive() == DIALECT.keepalive == b": keepalive\n\n"
    assert written([Ping(), UsageSeen(SEEN)]) == b""


def test_line_separators_are_escaped() -> None:
    assert b"\xe2\x80\xa8" not in written(unfold(ROUND))


# ---- tap ------------------------------------------------------------------------------------------------------------


def seen(data: bytes, size: int) -> Iterator[object]:
    """What the tap knows after the whole stream; its user says by a blank line that the body ended."""
    tap = DIALECT.tap()
    for start in range(0, len(data), size):
        tap.look(data[start : start + size])
    tap.look(b"\n\n")
    yield from (tap.has_content, tap.is_over, tap.problem and tap.problem.kind, tap.usage())


ROLE = sse(chunk({"role": "assistant", "content": "", "refusal": None, "tool_calls": [], "annotations": []}))
AZURE = sse({"choices": [], "prompt_filter_results": [{"x": {"filtered": False}}]})
SPEAKING = sse(chunk({"content": "a"}))
FAKE = ' "finish_reason":"stop" "error": {"x":1} "usage":{"prompt_tokens":77} [DONE]\ndata: [DONE]\n\n "usage": {'
STREAM = written(unfold(ROUND))
TAP_CASES = {
    "whole": (STREAM, (True, True, None, SEEN)),
    "no last blank line": (STREAM.rstrip(b"\n"), (True, True, None, SEEN)),
    "crlf": (STREAM.replace(b"\n", b"\r\n"), (True, True, None, SEEN)),
    "spaced": (ROLE + SPEAKING + sse(chunk(None, "stop", usage=USAGE)), (True, True, None, SEEN)),
    "tight": (
        sse(
            *(
                json.dumps(frame, separators=(",", ":"))
                for frame in (chunk({"content": "a"}), chunk(None, "stop", usage=USAGE))
            )
        ),
        (True, True, None, SEEN),
    ),
    "role only": (ROLE, (False, False, None, None)),
    "role and prefilter": (AZURE + ROLE + AZURE, (False, False, None, None)),
    "keepalives": (b": hi\n\n" + sse({}) + ROLE, (False, False, None, None)),
    "thought": (ROLE + sse(chunk({"reasoning": "hm"})), (True, False, None, None)),
    "thought of details": (
        sse(chunk({"content": "", "reasoning_details": [{"text": "a"}]})),
        (True, False, None, None),
    ),
    "call": (sse(chunk({"tool_calls": [{"index": 0}]})), (True, False, None, None)),
    "picture": (sse(chunk({"images": [{"index": 0}]})), (True, False, None, None)),
    "cut": (STREAM[: STREAM.index(b'"finish_reason":"')], (True, False, None, None)),
    "empty finish": (sse(chunk({"content": "a"}, "")), (True, False, None, None)),
    "nulls": (
        sse(chunk({"content": "a"}, usage=None, error=None), chunk(None, "stop", usage=None, error={})),
        (True, True, None, None),
    ),
    "usage throughout": (
        sse(chunk({"content": "a"}, usage={"prompt_tokens": 1}), chunk({"content": "b"}, usage=USAGE)),
        (True, False, None, SEEN),
    ),
    "done only": (SPEAKING + b"data: [DONE]\n\n", (True, True, None, None)),
    "refused at once": (
        sse({"error": {"message": "x", "code": "rate_limit_exceeded"}}),
        (False, False, "rate_limit", None),
    ),
    "failed later": (
        SPEAKING + sse({"error": {"message": "x", "code": "insufficient_quota"}}),
        (True, False, "quota", None),
    ),
    "failed with usage": (
        SPEAKING + sse(chunk(None, "error", usage=USAGE, error={"message": "x"})),
        (True, False, "bad_gateway", None),
    ),
    "words that look like marks": (sse(chunk({"content": FAKE}), chunk({"content": FAKE})), (True, False, None, None)),
    "arguments that look like marks": (
        sse(
            chunk(
                {
                    "tool_calls": [
                        {"function": {"arguments": json.dumps({"finish_reason": "x", "error": 1, "usage": {}})}}
                    ]
                }
            ),
            chunk({"tool_calls": [{"function": {"arguments": {"finish_reason": "stop", "error": "x"}}}]}),
        ),
        (True, False, None, None),
    ),
    "a page": (b"<html><title>no</title></html>", (False, False, "bad_gateway", None)),
    "an answer given whole": (completion({"content": "a"}), (False, False, "bad_gateway", None)),
    "not json": (b"data: hello\n\n", (False, False, "bad_gateway", None)),
    "large": (SPEAKING + sse(chunk({"content": "x" * 200_000}, "stop", usage=USAGE)), (True, True, None, SEEN)),
}


@pytest.mark.parametrize("name", TAP_CASES)
def test_the_tap_sees_the_same_however_the_stream_is_cut(name: str) -> None:
    data, expected = TAP_CASES[name]

    for size in (1, 7, 100, len(data)) if len(data) < 99_999 else (1000, 4097, len(data)):
        assert tuple(seen(data, size)) == expected, size


# ---- errors and lists -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "body", "kind", "message"), table("error-bodies"))
def test_every_shape_of_error_body_is_read(status: int, body: str, kind: str, message: str) -> None:
    problem = DIALECT.read_error(status, body.encode())

    assert (problem.kind, problem.status, problem.message, problem.dialect) == (kind, status, message, NAME)


def test_an_upstreams_own_error_passes_unchanged() -> None:
    body = b'{"error" : {"message":"m","type":"t","param":null,"code":"c","extra":1}}'

    assert DIALECT.write_error(DIALECT.read_error(400, body), "req") == body


def test_a_foreign_error_is_told_in_own_words() -> None:
    foreign = Problem("context_too_long", 413, "prompt is too long", code="X", dialect="gemini", native=b"{}")

    assert json.loads(DIALECT.write_error(foreign, "req"))["error"]["code"] == "context_length_exceeded"
    assert DIALECT.status_of(foreign) == 400


def test_models_and_counts_have_their_bodies() -> None:
    entry = ModelEntry("m", "openai", "M", 1)

    assert (
        json.loads(DIALECT.write_models([entry]))["data"][0]["id"]
        == json.loads(DIALECT.write_model(entry))["id"]
        == "m"
    )
    assert json.loads(DIALECT.write_count(7)) == {"input_tokens": 7}


def test_reasoning_and_pictures_of_a_stream_are_told_in_chunks() -> None:
    events = [
        Start(),
        PartStart(0, "reasoning"),
        ReasoningDelta(0, "a", 0),
        ReasoningDelta(0, "b", 1),
        PartEnd(0),
        PartStart(1, "media"),
        MediaOut(1, Media("image/png", data="AAAA")),
        PartEnd(1),
        Finish("stop"),
    ]

    deltas = [frame["choices"][0]["delta"] for frame in frames_of(written(events, PLAIN_ECHO))]

    assert deltas[1:3] == [{"reasoning_content": "a"}, {"reasoning_content": "\n\nb"}]
    assert deltas[3]["images"][0]["image_url"] == {"url": "data:image/png;base64,AAAA"}
