"""Anthropic Messages: recorded cases, laws, pitfalls, and the official SDK as the judge of what we write."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import anthropic
import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from cliproxy.canon.answer import Answer, fold, unfold
from cliproxy.canon.carrier import seal
from cliproxy.canon.errors import (
    BrokenAnswer,
    CallerFault,
    ContextTooLong,
    InvalidJson,
    Kind,
    Problem,
    UpstreamRefused,
)
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
from cliproxy.canon.fit import Capability
from cliproxy.canon.models import ModelEntry
from cliproxy.canon.parts import (
    Cache,
    Document,
    Image,
    Media,
    Opaque,
    Part,
    Reasoning,
    Signature,
    Text,
    ToolCall,
    ToolResult,
    Turn,
)
from cliproxy.canon.passes import fitted
from cliproxy.canon.request import Limits, Meta, OutputFormat, Request, Sampling, Thinking, Tool, ToolChoice
from cliproxy.canon.usage import Usage
from cliproxy.dialects.anthropic import DIALECT
from cliproxy.dialects.base import Dialect, Echo

GOLDEN = Path(__file__).parents[1] / "golden" / "anthropic"
REQUESTS = sorted(path.stem for path in GOLDEN.glob("request_*.json"))
STREAMS = sorted(path.stem for path in GOLDEN.glob("stream_*.json"))
ECHO = Echo("asked", Request("asked"), "seed", 1_700_000_000, input_estimate=77)
USER = Turn("user", (Text("q"),))
SIGNED = Reasoning(("why",), signature=Signature("sig", "anthropic"))
NO_CUT = ("stream_text", "stream_thinking_tools", "stream_server_tool", "stream_refusal")


def golden(name: str) -> Any:
    return json.loads((GOLDEN / f"{name}.json").read_bytes())


def sse(frames: list[dict[str, Any]]) -> bytes:
    return b"".join(
        f"event: {frame['type']}\ndata: {json.dumps(frame, ensure_ascii=False)}\n\n".encode() for frame in frames
    )


def read_stream(data: bytes, cuts: list[int] | None = None) -> list[Event]:
    reader = DIALECT.reader()
    edges = [0, *sorted(cuts or []), len(data)]
    return [event for start, end in pairwise(edges) for event in reader.feed(data[start:end])] + reader.close()


def write_stream(*events: Event) -> bytes:
    return DIALECT.writer(ECHO).push(list(events))


def frames_of(data: bytes) -> list[dict[str, Any]]:
    blocks = [block.split(b"\n") for block in data.split(b"\n\n") if block]
    frames = [(name[7:].decode(), json.loads(line[6:])) for name, line in blocks]
    assert all(name == frame["type"] for name, frame in frames)
    return [frame for _, frame in frames]


def read(**fields: Any) -> Request:
    return DIALECT.read_request(json.dumps({"messages": [], **fields}).encode())


def write(*turns: Turn, **fields: Any) -> tuple[dict[str, Any], list[str]]:
    """The body that is written for a request of these turns, and the paths of its losses."""
    written = DIALECT.write_request(Request("m", turns=turns or (USER,), **fields))
    return json.loads(written.body), [loss.path for loss in written.losses]


@contextmanager
def sdk(answer: Callable[[httpx2.Request], httpx2.Response]) -> Iterator[anthropic.Anthropic]:
    with (
        httpx2.Client(transport=httpx2.MockTransport(answer)) as http,
        anthropic.Anthropic(api_key="k", base_url="http://up.test", http_client=http, max_retries=0) as client,
    ):
        yield client


def sdk_message(data: bytes, *, is_stream: bool) -> anthropic.types.Message:
    """What the official SDK makes of `data`."""
    kind = "text/event-stream; charset=utf-8" if is_stream else "application/json"
    wish: dict[str, Any] = {"model": "m", "max_tokens": 10, "messages": [{"role": "user", "content": "q"}]}
    with sdk(lambda _: httpx2.Response(200, headers={"content-type": kind}, content=data)) as client:
        if not is_stream:
            return client.messages.create(**wish)
        with client.messages.stream(**wish) as stream:
            return stream.get_final_message()


def test_it_is_a_dialect() -> None:
    dialect: Dialect = DIALECT

    assert dialect.name == "anthropic"


# ---- recorded cases


@pytest.mark.parametrize("name", REQUESTS)
def test_recorded_requests_are_read_bent_and_written(name: str) -> None:
    case = golden(name)

    bent = fitted(DIALECT.read_request(json.dumps(case["read"]).encode()), DIALECT.fit, Capability())
    written = DIALECT.write_request(bent.request)

    assert json.loads(written.body) == case["written"]
    assert [[loss.path, loss.action] for loss in (*bent.losses, *written.losses)] == case["losses"]
    assert DIALECT.write_request(bent.request).body == written.body


@pytest.mark.parametrize("name", STREAMS)
def test_recorded_streams_fold_into_their_answers(name: str) -> None:
    case = golden(name)

    answer = fold(read_stream(sse(case["frames"])))
    whole = fold(DIALECT.read_answer(json.dumps(case["answer"], ensure_ascii=False).encode()))

    assert json.loads(DIALECT.write_answer(answer, ECHO)) == case["answer"]
    assert [part for part in answer.parts if not isinstance(part, ToolCall)] == [
        part for part in whole.parts if not isinstance(part, ToolCall)
    ]
    assert (answer.finish.reason, answer.usage, answer.id) == (whole.finish.reason, whole.usage, whole.id)


@pytest.mark.parametrize("name", STREAMS)
def test_what_is_written_is_read_back_as_the_same_answer(name: str) -> None:
    events = read_stream(sse(golden(name)["frames"]))

    again = read_stream(write_stream(*events))

    expected = fold(events)
    assert structs.replace(fold(again), model="claude-up") == structs.replace(
        expected, finish=structs.replace(expected.finish, native=fold(again).finish.native)
    )


@pytest.mark.parametrize("name", STREAMS)
def test_the_official_sdk_makes_the_same_message_of_stream_and_whole(name: str) -> None:
    events = read_stream(sse(golden(name)["frames"]))

    streamed = sdk_message(write_stream(*events), is_stream=True)
    whole = sdk_message(DIALECT.write_answer(fold(events), ECHO), is_stream=False)

    skipped = {"content": {"__all__": {"parsed_output"}}}
    assert streamed.model_dump(exclude=skipped, exclude_none=True) == whole.model_dump(
        exclude=skipped, exclude_none=True
    )


@pytest.mark.parametrize(("status", "body", "kind", "told", "message"), golden("errors")["cases"])
def test_recorded_errors_keep_their_message(status: int, body: str, kind: str, told: int, message: str) -> None:
    problem = DIALECT.read_error(status, body.encode())

    assert (problem.kind, problem.status, problem.message) == (kind, told, message)
    assert bool(problem.native) == body.startswith(("{", "["))
    assert problem.dialect == "anthropic"


# ---- laws of the stream


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_cut_of_a_stream_gives_the_same_events(data: st.DataObject) -> None:
    stream = sse(golden(data.draw(st.sampled_from(STREAMS)))["frames"])
    if data.draw(st.booleans()):
        stream = b"\xef\xbb\xbf" + stream.replace(b"\n", b"\r\n")
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=12))

    assert read_stream(stream, cuts) == read_stream(stream)


def test_a_stream_in_single_bytes_gives_the_same_events() -> None:
    stream = sse(golden("stream_thinking_tools")["frames"])

    assert read_stream(stream, list(range(len(stream)))) == read_stream(stream)


@pytest.mark.parametrize("name", STREAMS)
def test_a_truncated_stream_is_never_a_clean_finish(name: str) -> None:
    stream = sse(golden(name)["frames"])
    clean = stream.index(b"event: message_delta")
    first_line = stream.index(b"\n", stream.index(b"data:", clean))

    for end in range(first_line):
        events = read_stream(stream[:end])

        assert isinstance(events[0], Start)
        assert isinstance(events[-1], Failed), end
        assert events[-1].problem.status == 502


def test_a_stop_reason_and_then_the_end_of_the_bytes_is_tolerated() -> None:
    frames = golden("stream_text")["frames"][:-1]

    assert isinstance(read_stream(sse(frames))[-1], Finish)


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_every_stream_of_one_byte_changed_ends_exactly_once(data: st.DataObject) -> None:
    stream = bytearray(sse(golden("stream_thinking_tools")["frames"]))
    stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))

    events = read_stream(bytes(stream))

    assert sum(isinstance(event, Start) for event in events) == 1
    assert [isinstance(event, Finish | Failed) for event in events].index(True) == len(events) - 1


_text = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
_signature = st.builds(
    Signature, _text, st.sampled_from(["anthropic", "openai", "google"]), st.sampled_from(["signature", "encrypted"])
)
_arguments = st.dictionaries(_text, st.integers() | _text, max_size=3).map(lambda tree: json.dumps(tree))
_call = st.builds(ToolCall, st.uuids().map(lambda uid: f"toolu_{uid}"), st.just("go"), _arguments)
_thought = st.builds(Reasoning, st.tuples(_text) | st.just(()), st.just(False), _signature) | st.builds(
    Reasoning, st.tuples(_text)
)
_answers = st.builds(
    Answer,
    st.lists(st.builds(Text, _text) | _call | _thought, max_size=5).map(tuple),
    st.builds(Finish, st.sampled_from(["stop", "length", "tool_calls", "refusal", "pause", "context_overflow"])),
    usage=st.none() | st.builds(Usage, st.just(900), st.none() | st.just(300), st.none() | st.just(8), st.just(5)),
)


@given(_answers, st.data())
@settings(max_examples=80, deadline=None)
def test_stream_and_whole_say_the_same_however_events_interleave(answer: Answer, data: st.DataObject) -> None:
    writer, out = DIALECT.writer(ECHO), b""
    pending = _interleaved(unfold(answer), data)
    while pending:
        count = data.draw(st.integers(1, len(pending)))
        out += writer.push(pending[:count])
        pending = pending[count:]

    streamed = fold(read_stream(out))
    whole = fold(DIALECT.read_answer(DIALECT.write_answer(answer, ECHO)))
    assert streamed.parts == tuple(_compacted(part) for part in whole.parts)
    assert (streamed.finish, streamed.id) == (whole.finish, whole.id)
    assert streamed.usage == (whole.usage if answer.usage else Usage(input_total=77, output_total=0))
    assert writer.push([TextDelta(0, "late")]) == writer.keepalive() == b""
    indices = [frame["index"] for frame in frames_of(out) if frame["type"] == "content_block_start"]
    assert indices == list(range(len(indices)))


def _interleaved(events: list[Event], data: st.DataObject) -> list[Event]:
    """The events with every other part's end moved behind the next part, as vendors with parallel calls do."""
    if not data.draw(st.booleans()):
        return events
    ends = [event for event in events if isinstance(event, PartEnd)]
    rest = [event for event in events if not isinstance(event, PartEnd)]
    return [*rest[:-1], *ends, rest[-1]]


def _compacted(part: Part) -> Part:
    """The whole answer's reader compacts arguments; the stream keeps the model's own white space."""
    return (
        structs.replace(part, arguments=json.dumps(json.loads(part.arguments))) if isinstance(part, ToolCall) else part
    )


# ---- laws of the request

_cache = st.none() | st.builds(Cache, st.sampled_from(["", "5m"]))
_words = st.text(st.characters(codec="utf-8"), max_size=12).map(lambda text: f"w{text}w")
_pictures = st.builds(
    Image,
    st.builds(Media, st.just("image/png"), st.just("iVBORw0KGgo="))
    | st.builds(Media, url=st.just("https://e.x/p.png"))
    | st.builds(Media, file_id=st.just("file_1")),
    cache=_cache,
)
_papers = st.builds(Document, text=_words, title=_words, cache=_cache) | st.builds(
    Document, st.just(Media("application/pdf", "JVBERi0=")), context=_words
)
_inner = st.one_of(st.builds(Text, _words), _pictures.map(lambda part: structs.replace(part, cache=None)))
_native_thought = st.builds(
    Reasoning, st.tuples(_words), signature=st.builds(Signature, _words, st.just("anthropic"))
) | st.builds(Reasoning, signature=st.builds(Signature, _words, st.just("anthropic"), st.just("redacted")))
_opaque = st.just(Opaque("anthropic", "container_upload", '{"type":"container_upload","file_id":"f"}'))
_user = st.lists(st.one_of(st.builds(Text, _words, _cache), _pictures, _papers, _opaque), min_size=1, max_size=3)


@st.composite
def _rounds(draw: st.DrawFn) -> tuple[Turn, ...]:
    turns = [Turn("user", tuple(draw(_user)))]
    for number in range(draw(st.integers(0, 2))):
        says = draw(st.lists(_native_thought | st.builds(Text, _words, _cache), min_size=1, max_size=3))
        calls = [
            ToolCall(
                f"toolu_{number}_{place}",
                "go",
                draw(_arguments.map(lambda text: json.dumps(json.loads(text), separators=(",", ":")))),
            )
            for place in range(draw(st.integers(0, 2)))
        ]
        results = [
            ToolResult(
                call.id, tuple(draw(st.lists(_inner, max_size=2))), is_error=draw(st.booleans()), cache=draw(_cache)
            )
            for call in calls
        ]
        turns.append(Turn("assistant", (*says, *calls)))
        turns.append(Turn("user", (*results, *draw(_user))))
    return tuple(turns)


_tools = st.lists(
    st.builds(
        Tool,
        _words,
        description=_words,
        schema=st.just('{"type":"object","properties":{"a":{"type":"number"}}}'),
        cache=_cache,
    )
    | st.just(Tool("bash", "opaque", dialect="anthropic", data='{"type":"bash_20250124","name":"bash"}')),
    max_size=2,
    unique_by=lambda tool: tool.name,
).map(tuple)
_requests = st.builds(
    Request,
    st.just("m"),
    st.booleans(),
    st.lists(st.builds(Text, _words, _cache), max_size=2).map(tuple),
    _rounds(),
    _tools,
    st.none() | st.sampled_from([ToolChoice("auto"), ToolChoice("none"), ToolChoice("required")]),
    st.none() | st.just(False),
    st.builds(
        Sampling,
        st.none() | st.floats(0, 2),
        st.none() | st.floats(0, 1),
        st.none() | st.integers(1, 99),
        seed=st.none() | st.just(7),
    ),
    st.builds(Limits, st.integers(1, 9000), st.lists(_words, max_size=2).map(tuple)),
    st.one_of(
        st.just(Thinking()),
        st.just(Thinking("off")),
        st.builds(Thinking, st.just("auto"), is_shown=st.none() | st.booleans()),
        st.builds(
            Thinking, st.just("level"), st.sampled_from(["low", "xhigh", "max"]), is_shown=st.none() | st.booleans()
        ),
        st.builds(Thinking, st.just("budget"), budget=st.integers(1024, 9000), is_shown=st.none() | st.booleans()),
    ),
    st.just(OutputFormat())
    | st.just(OutputFormat("schema", '{"type":"object","properties":{},"additionalProperties":false}')),
    st.builds(Meta, st.sampled_from(["", "user-1"]), service_tier=st.sampled_from(["", "default", "auto"])),
    st.just(True),
)

# How to leave out of a request what a loss declares.
_FORGET = {
    "sampling": lambda request: structs.replace(request, sampling=Sampling()),
    "thinking": lambda request: structs.replace(request, thinking=Thinking()),
    "cache": lambda request: _without_marks(request),
}


def _without_marks(request: Request) -> Request:
    def bare(parts: tuple[Part, ...]) -> tuple[Part, ...]:
        return tuple(structs.replace(part, cache=None) if hasattr(part, "cache") else part for part in parts)

    return structs.replace(
        request,
        system=bare(request.system),
        tools=tuple(structs.replace(tool, cache=None) for tool in request.tools),
        turns=tuple(structs.replace(turn, parts=bare(turn.parts)) for turn in request.turns),
    )


@given(_requests)
@settings(max_examples=80, deadline=None)
def test_a_written_request_is_read_back_as_it_was_minus_its_declared_losses(request: Request) -> None:
    written = DIALECT.write_request(request)

    again = DIALECT.read_request(written.body)

    if not request.tools:
        request = structs.replace(request, tool_choice=None, parallel_calls=None)
    if request.parallel_calls is False and request.tool_choice is None:
        request = structs.replace(request, tool_choice=ToolChoice("auto"))
    if request.tool_choice == ToolChoice("none"):
        request = structs.replace(request, parallel_calls=None)
    for loss in written.losses:
        forget = _FORGET[loss.path.partition(".")[0]]
        request, again = forget(request), forget(again)
    assert again == request


@given(_requests)
@settings(max_examples=60, deadline=None)
def test_a_grown_conversation_begins_with_the_bytes_of_the_shorter_one(request: Request) -> None:
    request = _without_marks(structs.replace(request, thinking=Thinking()))
    more = structs.replace(request, turns=(*request.turns, Turn("assistant", (Text("a"),)), USER))

    assert DIALECT.write_request(more).body.startswith(DIALECT.write_request(request).body[:-2])


# ---- reading requests


@pytest.mark.parametrize(("fields", "kind", "param"), golden("faults")["cases"])
def test_a_wrong_field_is_named(fields: dict[str, Any], kind: Kind, param: str) -> None:
    with pytest.raises(CallerFault) as caught:
        read(**fields)

    assert (caught.value.problem.kind, caught.value.problem.param) == (kind, param)


def test_broken_json_is_called_so() -> None:
    for body in (
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f","input":{"x":"\xff"}}]}]}',
        b'{"messages":[{"role":"user","content":"\\ud83d"}]}',
        b"[" * 100_000,
    ):
        with pytest.raises(InvalidJson):
            DIALECT.read_request(body)


def test_system_may_be_text_or_strings_or_blocks_and_keeps_its_boundaries() -> None:
    assert read(system="a").system == (Text("a"),)
    assert read(system=["a", "b"]).system == (Text("a"), Text("b"))
    assert read(system=[{"type": "text", "text": "a", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]).system == (
        Text("a", Cache("1h")),
    )


def test_numbers_in_arguments_and_schemas_keep_their_spelling() -> None:
    body = b'{"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f","input":{"n":1.10,"e":1E400}}]}],"tools":[{"name":"f","input_schema":{"type":"object","properties":{"n":{"type":"number","default":1.10}}}}]}'

    request = DIALECT.read_request(body)

    assert request.turns[0].parts == (ToolCall("a", "f", '{"n":1.10,"e":1E400}'),)
    assert b'"input":{"n":1.10,"e":1E400}' in DIALECT.write_request(request).body
    assert b'"default":1.10' in DIALECT.write_request(request).body


def test_vendor_tools_are_known_by_any_type_and_stay_opaque() -> None:
    tools = read(
        tools=[{"type": "web_search_20991231", "name": "web_search"}, {"name": "f", "input_schema": None}]
    ).tools

    assert tools[0].kind == "opaque"
    assert tools[0].dialect == "anthropic"
    assert (tools[1].kind, tools[1].schema) == ("function", "")


@pytest.mark.parametrize(
    ("fields", "thinking"),
    [
        ({}, Thinking()),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}}, Thinking("off")),
        ({"thinking": {"type": "adaptive", "display": "omitted"}}, Thinking("auto", is_shown=False)),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": " HIGH "}}, Thinking("level", level="high")),
        ({"thinking": {"type": "enabled", "budget_tokens": 31999}}, Thinking("budget", budget=31999)),
        ({"output_config": {"effort": "low"}}, Thinking("level", level="low")),
    ],
)
def test_thinking_controls_are_read(fields: dict[str, Any], thinking: Thinking) -> None:
    assert read(**fields).thinking == thinking


def test_foreign_signatures_come_back_as_what_they_were() -> None:
    google, openai = Signature("g==", "google"), Signature("gAAAA", "openai", "encrypted")
    content = [
        {"type": "thinking", "thinking": "t", "signature": seal(openai)},
        {"type": "redacted_thinking", "data": seal(google)},
        {"type": "tool_use", "id": "a", "name": "f", "input": {}},
        {"type": "thinking", "thinking": "own", "signature": "native"},
    ]

    parts = read(messages=[{"role": "assistant", "content": content}]).turns[0].parts

    assert parts == (
        Reasoning(("t",), signature=openai),
        ToolCall("a", "f", "{}", signature=google),
        Reasoning(("own",), signature=Signature("native", "anthropic")),
    )


# ---- writing requests


@pytest.mark.parametrize(
    ("fields", "body", "losses"),
    [
        ({"sampling": Sampling(temperature=1.7)}, {"temperature": 1.0}, ["sampling.temperature"]),
        ({"sampling": Sampling(temperature=0.5, top_p=0.9)}, {"temperature": 0.5}, ["sampling.top_p"]),
        (
            {"sampling": Sampling(0.5, 0.9, 4), "thinking": Thinking("auto")},
            {"thinking": {"type": "adaptive"}},
            ["sampling.temperature", "sampling.top_p", "sampling.top_k"],
        ),
        (
            {"sampling": Sampling(seed=0, presence_penalty=1.0, logit_bias="{}", logprobs=True, top_logprobs=2)},
            {},
            ["sampling.presence_penalty", "sampling.seed", "sampling.logit_bias", "sampling.logprobs", "sampling.top_logprobs"],
        ),
        ({"limits": Limits(stop=(" ", "END"), n=2)}, {"stop_sequences": ["END"]}, ["limits.n", "limits.stop"]),
        ({"meta": Meta(metadata="{}", cache_key="k", verbosity="low", store=False)}, {}, ["meta.metadata", "meta.cache_key", "meta.verbosity"]),
        ({"meta": Meta(service_tier="priority")}, {"service_tier": "auto"}, ["meta.service_tier"]),
        ({"meta": Meta(service_tier="flex")}, {}, ["meta.service_tier"]),
        ({"meta": Meta(end_user="u" * 300)}, {}, ["meta.end_user"]),
        ({"dropped": ("audio", "background")}, {}, ["audio", "background"]),
        ({"thinking": Thinking("level", level="minimal")}, {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}, ["thinking.level"]),
        ({"thinking": Thinking("level", level="xhigh", is_shown=True, summary="auto")}, {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "xhigh"}}, []),
        ({"thinking": Thinking("off", is_shown=True)}, {"thinking": {"type": "disabled"}}, ["thinking.is_shown"]),
        ({"thinking": Thinking(is_shown=True)}, {}, ["thinking.is_shown"]),
        ({"thinking": Thinking("budget", budget=9000), "limits": Limits(4000)}, {"max_tokens": 4000, "thinking": {"type": "enabled", "budget_tokens": 3999}}, ["thinking.budget"]),
        ({"thinking": Thinking("budget", budget=9000), "limits": Limits(1024)}, {"max_tokens": 1024}, ["thinking"]),
        ({"output": OutputFormat("json")}, {"system": [{"type": "text", "text": "Answer with one JSON object only: no other text before or after it, and no code fence."}]}, ["output"]),
    ],
)  # fmt: skip
def test_wishes_are_said_or_declared_lost(fields: dict[str, Any], body: dict[str, Any], losses: list[str]) -> None:
    written, lost = write(**fields)

    messages = [{"role": "user", "content": [{"type": "text", "text": "q"}]}]
    assert written == {"model": "m", "max_tokens": 32000, "messages": messages} | body
    assert lost == losses


TOOL = Tool("f", schema='{"type":"object","properties":{}}')


@pytest.mark.parametrize(
    ("choice", "parallel", "expected", "tools", "losses"),
    [
        (None, None, None, ["f", "g"], []),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}, ["f", "g"], []),
        (ToolChoice("auto"), True, {"type": "auto"}, ["f", "g"], []),
        (ToolChoice("none"), False, {"type": "none"}, ["f", "g"], []),
        (ToolChoice("required"), False, {"type": "any", "disable_parallel_tool_use": True}, ["f", "g"], []),
        (ToolChoice("one", ("g",)), None, {"type": "tool", "name": "g"}, ["f", "g"], []),
        (ToolChoice("one", ("gone",)), None, {"type": "auto"}, ["f", "g"], ["tool_choice"]),
        (ToolChoice("allowed_auto", ("g",)), None, {"type": "auto"}, ["g"], ["tool_choice"]),
        (ToolChoice("allowed_required", ("g",)), None, {"type": "any"}, ["g"], ["tool_choice"]),
    ],
)
def test_tool_choices(choice: Any, parallel: Any, expected: Any, tools: list[str], losses: list[str]) -> None:
    body, lost = write(tools=(TOOL, structs.replace(TOOL, name="g")), tool_choice=choice, parallel_calls=parallel)

    assert body.get("tool_choice") == expected
    assert [tool["name"] for tool in body["tools"]] == tools
    assert lost == losses


def test_a_tool_choice_without_tools_is_not_sent() -> None:
    body, _ = write(tool_choice=ToolChoice("required"), parallel_calls=False)

    assert "tool_choice" not in body


@pytest.mark.parametrize("thinking", [Thinking("budget", budget=2000), Thinking("auto")])
def test_a_forced_choice_turns_thinking_off(thinking: Thinking) -> None:
    body, lost = write(tools=(TOOL,), tool_choice=ToolChoice("required"), thinking=thinking, sampling=Sampling(0.5))

    assert "thinking" not in body
    assert body["temperature"] == 0.5
    assert lost == ["thinking"]


@pytest.mark.parametrize(
    ("history", "is_on"),
    [
        ((USER, Turn("assistant", (SIGNED, ToolCall("a", "f", "{}"))), Turn("user", (ToolResult("a"),))), True),
        ((USER, Turn("assistant", (ToolCall("a", "f", "{}"),)), Turn("user", (ToolResult("a"),))), False),
        ((USER, Turn("assistant", (ToolCall("a", "f", "{}"),)), Turn("user", (ToolResult("a"),)), USER), False),
        ((USER, Turn("assistant", (Text("done"),)), USER), True),
        ((USER, Turn("assistant", (Text("begun"),))), False),
    ],
)
def test_a_tool_loop_that_lost_its_thinking_goes_on_without_a_budget(history: tuple[Turn, ...], is_on: bool) -> None:
    body, lost = write(*history, thinking=Thinking("budget", budget=2000))
    adaptive, _ = write(*history, thinking=Thinking("auto"))

    assert ("thinking" in body) is is_on
    assert ("thinking" in lost) is not is_on
    assert "thinking" in adaptive


def test_thinking_without_the_vendors_signature_is_dropped_with_its_turn() -> None:
    body, lost = write(
        USER, Turn("assistant", (Reasoning(("x",)), Reasoning((), signature=Signature("g", "google")))), USER
    )

    assert [message["role"] for message in body["messages"]] == ["user", "user"]
    assert lost == ["turns.reasoning"]


def test_blank_texts_go_and_their_marks_move_to_the_neighbour() -> None:
    parts = (Text(" \n", Cache()), Text("a"), Text("", Cache("1h")))

    body, lost = write(Turn("user", parts))

    assert body["messages"][0]["content"] == [
        {"type": "text", "text": "a", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    ]
    assert lost == []


def test_at_most_four_marks_and_no_long_one_behind_a_short_one() -> None:
    turns = tuple(Turn("user", (Text(str(number), Cache("1h" if number == 3 else "")),)) for number in range(4))

    body, lost = write(*turns, system=(Text("s", Cache()),), tools=(structs.replace(TOOL, cache=Cache("24h")),))

    assert "cache_control" not in body["tools"][0]
    assert "cache_control" not in body["system"][0]
    assert [message["content"][0]["cache_control"] for message in body["messages"]] == [{"type": "ephemeral"}] * 4
    assert lost == ["cache.ttl", "cache"] or sorted(set(lost)) == ["cache", "cache.ttl"]


def test_text_behind_a_call_is_put_before_it() -> None:
    body, lost = write(
        USER, Turn("assistant", (ToolCall("a", "f", "{}"), Text("after"))), Turn("user", (ToolResult("a"),))
    )

    assert [block["type"] for block in body["messages"][1]["content"]] == ["text", "tool_use"]
    assert lost == ["turns.text"]


def test_a_begun_answer_does_not_end_in_white_space() -> None:
    body, lost = write(USER, Turn("assistant", (Text("So \n"),)))

    assert body["messages"][1]["content"] == [{"type": "text", "text": "So"}]
    assert lost == ["turns.text"]


@pytest.mark.parametrize("arguments", ["[1]", '"x"', '{"cut":', "words"])
def test_arguments_that_are_no_object_are_wrapped_and_the_call_stays(arguments: str) -> None:
    body, lost = write(Turn("assistant", (ToolCall("a", "f", arguments),)))

    assert body["messages"][0]["content"][0]["input"] == {"_raw": arguments}
    assert lost == ["turns.tool_call.arguments"]


@pytest.mark.parametrize("schema", ["", "null", "[]", "{", '{"type":["object","null"]}', '{"type":"OBJECT"}'])
def test_a_tool_schema_is_always_an_object(schema: str) -> None:
    body, _ = write(tools=(Tool("f", schema=schema),))

    assert body["tools"][0]["input_schema"] == {"type": "object", "properties": {}}


def test_a_union_at_the_root_of_a_schema_is_merged() -> None:
    schema = '{"anyOf":[{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]},{"type":"object","properties":{"type":{"type":"number"}}}]}'

    body, lost = write(tools=(Tool("f", schema=schema),))

    merged = body["tools"][0]["input_schema"]
    assert merged["type"] == "object"
    assert merged["properties"] == {"a": {"type": "string"}, "type": {"type": "number"}}
    assert "anyOf" not in merged
    assert lost == ["tools.schema"]


@pytest.mark.parametrize(
    ("part", "expected", "losses"),
    [
        (Image(Media("IMAGE/JPG; x=1", "AA==")), ("image/jpeg", "AA=="), []),
        (Image(Media("", "iVBORw0KGgo=")), ("image/png", "iVBORw0KGgo="), []),
        (Image(Media("image/tiff", "AA==")), "[image left out: image/tiff]", ["turns.image"]),
        (Image(Media(file_id="file-openai")), "[image left out]", ["turns.image"]),
        (Document(Media("text/csv", "YSxi"), filename="a.csv"), "a,b", ["turns.document.filename"]),
        (
            Document(Media("application/zip", "AA=="), filename="a.zip"),
            "[document left out: a.zip]",
            ["turns.document"],
        ),
    ],
)
def test_media_are_normalised_or_noted(part: Part, expected: Any, losses: list[str]) -> None:
    body, lost = write(Turn("user", (part,)))

    block = body["messages"][0]["content"][0]
    source = block.get("source", {})
    said = block.get("text") or (
        source["data"] if block["type"] == "document" else (source["media_type"], source["data"])
    )
    assert said == expected
    assert lost == losses


def test_strict_tools_and_foreign_tools_are_declared() -> None:
    tools = (structs.replace(TOOL, is_strict=True), Tool("search", "opaque", dialect="gemini", data="{}"))

    body, lost = write(tools=tools)

    assert [tool["name"] for tool in body["tools"]] == ["f"]
    assert lost == ["tools.strict", "tools.search"]


# ---- reading answers


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"content":', b'{"id":"msg_1","type":"message"}'])
def test_a_body_that_is_no_message_is_broken(body: bytes) -> None:
    with pytest.raises(BrokenAnswer):
        DIALECT.read_answer(body)


def test_an_error_object_instead_of_a_message_fails() -> None:
    body = b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}'

    with pytest.raises(UpstreamRefused) as caught:
        fold(DIALECT.read_answer(body))

    assert (caught.value.problem.status, caught.value.problem.native) == (529, body)


@pytest.mark.parametrize("reason", ["end_turn", "tool_use", "future_reason", None])
def test_the_finish_is_computed_from_the_calls(reason: str | None) -> None:
    call = {"type": "tool_use", "id": "a", "name": "f", "input": {}}
    answer = {"type": "message", "content": [call], "stop_reason": reason}

    with_call = fold(DIALECT.read_answer(json.dumps(answer).encode()))
    without = fold(DIALECT.read_answer(json.dumps(answer | {"content": []}).encode()))

    assert (with_call.finish.reason, without.finish.reason) == ("tool_calls", "stop")


def test_an_event_stream_in_place_of_a_whole_answer_is_read_all_the_same() -> None:
    data = sse(golden("stream_text")["frames"])

    assert DIALECT.read_answer(data) == read_stream(data)


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (b'{"type":"error","error":{"type":"rate_limit_error","message":"slow"}}', "rate_limit", "slow"),
        (b"<html>oops</html>", "bad_gateway", "The upstream answered with a web page (status 502)."),
        (b'{"odd":1}', "bad_gateway", "The upstream answered with an error without a message (status 502)."),
    ],
)
def test_a_body_in_place_of_a_stream_is_an_error(body: bytes, kind: str, message: str) -> None:
    events = read_stream(body, [1, 3])

    assert events[0] == Start()
    assert isinstance(events[-1], Failed)
    assert (events[-1].problem.kind, events[-1].problem.message) == (kind, message)


def test_a_whole_message_in_place_of_a_stream_is_read() -> None:
    case = golden("stream_text")

    assert (
        fold(read_stream(json.dumps(case["answer"]).encode(), [5])).parts
        == fold(read_stream(sse(case["frames"]))).parts
    )


def test_an_error_inside_the_stream_ends_it() -> None:
    frames = golden("stream_text")["frames"]
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}

    events = read_stream(sse([*frames[:4], error, *frames[4:]]))

    assert isinstance(events[-1], Failed)
    assert events[-1].problem.kind == "overloaded"
    assert events[-2] == PartEnd(0, is_complete=False)


def test_a_frame_that_is_no_json_fails_and_a_stray_done_does_not() -> None:
    data = sse(golden("stream_text")["frames"])

    assert isinstance(read_stream(data.replace(b'"text": "H', b'"text": H'))[-1], Failed)
    assert read_stream(b"data: [DONE]\n\n" + data) == read_stream(data)


def test_half_an_emoji_is_mended() -> None:
    data = sse(golden("stream_text")["frames"]).replace("😀".encode(), b"\\ud83d")

    assert Text("Héllo \u2028 \ufffd") in fold(read_stream(data)).parts


# ---- writing answers


def test_an_error_inside_the_stream_is_an_error_event_and_never_a_stop() -> None:
    data = write_stream(
        Start(), PartStart(0, "text"), TextDelta(0, "a"), PartEnd(0, is_complete=False), Failed(BrokenAnswer().problem)
    )

    assert [frame["type"] for frame in frames_of(data)][-1] == "error"
    assert b"message_stop" not in data
    with pytest.raises(anthropic.APIStatusError):
        sdk_message(data, is_stream=True)


def test_a_call_that_broke_off_becomes_an_error_except_at_a_length_stop() -> None:
    call = [Start(), PartStart(0, "call", "a", "f"), ArgsDelta(0, '{"x":'), PartEnd(0, is_complete=False)]

    stopped = frames_of(write_stream(*call, Finish("tool_calls")))
    followed = frames_of(write_stream(*call, PartStart(1, "text"), TextDelta(1, "x"), PartEnd(1), Finish("stop")))
    cut = frames_of(write_stream(*call, Finish("length")))

    assert [frame["type"] for frame in stopped][-2:] == ["content_block_delta", "error"]
    assert [frame["type"] for frame in followed][-2:] == ["content_block_delta", "error"]
    assert cut[-2]["delta"]["stop_reason"] == "max_tokens"


@pytest.mark.parametrize(
    ("pieces", "is_custom", "written"),
    [
        ([], False, {}),
        (["  "], False, {}),
        ([" ", '{"a"', ": 1}"], False, {"a": 1}),
        (["[1", "]"], False, {"_raw": "[1]"}),
        (["words"], False, {"_raw": "words"}),
        (["*** ", 'Begin "x"\n'], True, {"input": '*** Begin "x"\n'}),
        ([], True, {"input": ""}),
    ],
)
def test_arguments_always_arrive_as_one_object(pieces: list[str], is_custom: bool, written: dict[str, Any]) -> None:
    deltas = [ArgsDelta(0, piece) for piece in pieces]
    events = [Start(), PartStart(0, "call", "a", "f", is_custom=is_custom), *deltas, PartEnd(0), Finish("stop")]

    streamed = sdk_message(write_stream(*events), is_stream=True)
    whole = json.loads(DIALECT.write_answer(fold(events), ECHO))

    assert streamed.content[0].input == written  # pyright: ignore[reportAttributeAccessIssue]
    assert (whole["content"][0]["input"], whole["stop_reason"]) == (written, "tool_use")


def test_a_foreign_signature_of_the_first_call_stands_before_it_and_returns() -> None:
    google = Signature("g==", "google")
    calls = (ToolCall("a", "f", "{}", signature=google), ToolCall("b", "f", "{}", signature=google))
    answer = Answer((Text("t"), *calls), Finish("tool_calls"))

    streamed = frames_of(write_stream(*unfold(answer)))
    content = json.loads(DIALECT.write_answer(answer, ECHO))["content"]

    assert [frame["content_block"]["type"] for frame in streamed if "content_block" in frame] == [
        block["type"] for block in content
    ]
    assert [block["type"] for block in content] == ["text", "redacted_thinking", "tool_use", "tool_use"]
    assert read(messages=[{"role": "assistant", "content": content}]).turns[0].parts[1] == calls[0]


def test_a_late_signature_of_a_text_opens_no_thinking_block() -> None:
    data = write_stream(
        Start(),
        PartStart(0, "text"),
        TextDelta(0, "t"),
        Signed(0, Signature("g", "google")),
        PartEnd(0),
        Finish("stop"),
    )

    assert b"thinking" not in data


def test_summary_parts_share_one_block_with_a_blank_line_between() -> None:
    events = [
        Start(),
        PartStart(0, "reasoning"),
        ReasoningDelta(0, "a"),
        ReasoningDelta(0, "b", 1),
        PartEnd(0),
        Finish("stop"),
    ]

    message = sdk_message(write_stream(*events), is_stream=True)

    assert [(block.type, block.thinking) for block in message.content] == [("thinking", "a\n\nb")]  # pyright: ignore


def test_media_and_refusals_are_told_as_text() -> None:
    events = [Start(), PartStart(0, "media"), MediaOut(0, Media("image/png", "AA==")), PartEnd(0)]
    events += [PartStart(1, "refusal"), TextDelta(1, "No."), PartEnd(1), Finish("stop", detail="policy")]

    frames = frames_of(write_stream(*events))
    whole = json.loads(DIALECT.write_answer(fold(events), ECHO))

    assert [block["text"] for block in whole["content"]] == [
        "[generated image/png left out: this dialect cannot carry it]",
        "No.",
    ]
    assert frames[-2]["delta"] == {key: whole[key] for key in ("stop_reason", "stop_sequence", "stop_details")}
    assert whole["stop_reason"] == "refusal"


def test_late_usage_corrects_the_estimate_and_there_is_one_message_delta() -> None:
    writer = DIALECT.writer(ECHO)

    opening = frames_of(writer.push([Start("resp_1", "up")]))
    rest = frames_of(writer.push([UsageSeen(Usage(100, 60, 10, 9, 4)), Ping(), Finish("stop")]))

    assert opening[0]["message"]["usage"] == {"input_tokens": 77, "output_tokens": 0}
    assert (opening[0]["message"]["id"], opening[0]["message"]["model"]) == ("msg_seed", "asked")
    assert [frame["type"] for frame in rest] == ["ping", "message_delta", "message_stop"]
    assert rest[1]["usage"] == {
        "input_tokens": 30,
        "cache_creation_input_tokens": 10,
        "cache_read_input_tokens": 60,
        "output_tokens": 9,
        "output_tokens_details": {"thinking_tokens": 4},
    }


def test_keepalive_is_a_ping_only_while_the_message_runs() -> None:
    writer = DIALECT.writer(ECHO)

    before = writer.keepalive()
    writer.push([Start()])

    assert (before, writer.keepalive()) == (b"", b'event: ping\ndata: {"type":"ping"}\n\n')


# ---- the tap


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_the_tap_sees_what_the_reader_sees_whatever_the_cuts(data: st.DataObject) -> None:
    stream = sse(golden(data.draw(st.sampled_from(NO_CUT)))["frames"])
    stream = stream.replace(b"\n", b"\r\n") if data.draw(st.booleans()) else stream
    tap = DIALECT.tap()
    edges = [0, *sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20))), len(stream)]

    seen = [False]
    for start, end in pairwise(edges):
        tap.look(stream[start:end])
        seen.append(tap.has_content)

    assert tap.usage() == fold(read_stream(stream)).usage
    assert (tap.is_over, tap.has_content, tap.problem) == (True, True, None)
    assert seen == sorted(seen)


def test_the_tap_is_not_deceived_by_what_the_model_says() -> None:
    frames = golden("stream_text")["frames"][:3]
    words = 'event: error\ndata: {"type":"error","error":{"message":"x"}} "message_stop" "message_delta"'
    tap = DIALECT.tap()

    tap.look(
        sse([*frames, {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": words}}])
    )

    assert (tap.is_over, tap.problem) == (False, None)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_the_tap_reports_errors_of_the_upstream(size: int) -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    for data in (sse([golden("stream_text")["frames"][0], error]), json.dumps(error).encode()):
        tap = DIALECT.tap()

        for start in range(0, len(data), size):
            tap.look(data[start : start + size])

        assert tap.problem is not None
        assert (tap.problem.kind, tap.has_content, tap.is_over) == ("overloaded", False, False)


# ---- errors


@pytest.mark.parametrize("kind", get_args(Kind))
def test_every_kind_is_told_in_the_vendors_words_and_understood_again(kind: Kind) -> None:
    problem = Problem(kind, 418, "said")
    status = DIALECT.status_of(problem)

    body = DIALECT.write_error(problem, "req_1")
    again = DIALECT.read_error(status, body)

    assert json.loads(body).keys() == {"type", "error", "request_id"}
    assert DIALECT.status_of(again) == status
    assert problem.message in again.message
    assert frames_of(DIALECT.write_stream_error(problem))[0]["error"] == json.loads(body)["error"]


def test_the_words_that_make_claude_code_compact_survive() -> None:
    problem = Problem("context_too_long", 400, "This model's maximum context length is 8192 tokens.")

    assert b"prompt is too long: This model" in DIALECT.write_error(problem, "")
    assert DIALECT.write_error(ContextTooLong().problem, "").count(b"prompt is too long") == 1


def test_the_vendors_own_error_passes_unchanged() -> None:
    body = b'{"type":"error",  "error":{"type":"overloaded_error","message":"O"},"extra":1}'
    problem = DIALECT.read_error(529, body)

    assert DIALECT.write_error(problem, "req_1") == body
    assert DIALECT.status_of(problem) == 529
    assert frames_of(DIALECT.write_stream_error(problem))[0] == json.loads(body)


# ---- models and counts


def test_models_and_counts_are_what_the_sdk_reads() -> None:
    entries = [ModelEntry("claude-a", "anthropic", "A", 1_700_000_000), ModelEntry("b", "x", "B", 0)]
    bodies = {
        "/v1/models": DIALECT.write_models(entries),
        "/v1/models/b": DIALECT.write_model(entries[1]),
        "/v1/messages/count_tokens": DIALECT.write_count(12),
    }

    with sdk(lambda request: httpx2.Response(200, content=bodies[request.url.path])) as client:
        listed = client.models.list().data
        found = client.models.retrieve("b")
        count = client.messages.count_tokens(model="m", messages=[{"role": "user", "content": "q"}])

    assert [(model.id, model.display_name, model.created_at.year) for model in listed] == [
        ("claude-a", "A", 2023),
        ("b", "B", 1970),
    ]
    assert (found.id, count.input_tokens) == ("b", 12)
