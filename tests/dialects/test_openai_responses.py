"""The Responses dialect: golden cases, the four laws of a codec, the official SDK and Codex as readers, pitfalls."""

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

from cliproxy.canon.answer import Answer, fold, unfold
from cliproxy.canon.carrier import seal
from cliproxy.canon.errors import (
    BrokenAnswer,
    CallerFault,
    InvalidJson,
    InvalidRequest,
    MissingParameter,
    Problem,
    UpstreamRefused,
)
from cliproxy.canon.events import (
    ArgsDelta,
    Event,
    Failed,
    Finish,
    PartEnd,
    PartStart,
    Ping,
    ReasoningDelta,
    Signed,
    Start,
    TextDelta,
    UsageSeen,
)
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
)
from cliproxy.canon.request import Limits, Meta, OutputFormat, Request, Sampling, Thinking, Tool, ToolChoice
from cliproxy.canon.usage import Usage
from cliproxy.dialects.base import Echo
from cliproxy.dialects.openai_responses import DIALECT, NAME

GOLDEN = Path(__file__).parents[1] / "golden" / NAME
ECHO = Echo("caller-model", Request("caller-model"), "0123abcd", 1_700_000_000)
CREATED = {"type": "response.created", "response": {"id": "resp_1", "model": "up", "created_at": 1_700_000_000}}
USAGE = {
    "input_tokens": 9,
    "input_tokens_details": {"cached_tokens": 4},
    "output_tokens": 3,
    "output_tokens_details": {"reasoning_tokens": 1},
    "total_tokens": 12,
}


def golden(kind: str) -> list[object]:
    paths = sorted(GOLDEN.glob(f"{kind}-*.json"))
    return [pytest.param(json.loads(path.read_text()), id=path.stem) for path in paths]


def table(name: str) -> list[list[object]]:
    return json.loads((GOLDEN / f"table-{name}.json").read_text())


def sse(*frames: object) -> bytes:
    return b"".join(f"data: {frame if isinstance(frame, str) else json.dumps(frame)}\n\n".encode() for frame in frames)


def completed(*output: object, **more: object) -> dict[str, object]:
    response = {"id": "resp_1", "status": "completed", "output": list(output), "usage": USAGE, **more}
    return {"type": "response.completed", "response": response}


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
    frames = []
    for block in data.decode().split("\n\n"):
        if block.startswith("event: "):
            name, _, text = block.partition("\n")
            frames.append(json.loads(text.removeprefix("data: ")))
            assert frames[-1]["type"] == name.removeprefix("event: ")
    return frames


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

    assert [plain(event) for event in read(data)] == case["events"]
    assert all(read_in_pieces(data, size) == read(data) for size in (1, 2, 3, 7, 64, 4096))


def test_a_stream_and_its_whole_answer_are_the_same() -> None:
    cases = [json.loads(path.read_text()) for path in GOLDEN.glob("stream-*.json")]
    finals = [(case["frames"], case["frames"][-1].get("response", {})) for case in cases]
    pairs = [(frames, final) for frames, final in finals if final.get("output")]

    assert len(pairs) >= 5
    for frames, final in pairs:
        whole = fold(DIALECT.read_answer(json.dumps(final).encode()))
        assert _without_ids(fold(read(sse(*frames)))).parts == _without_ids(whole).parts


# ---- law: read after write, requests --------------------------------------------------------------------------------

_texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
_names = st.text("abcXYZ_-9", min_size=1, max_size=12)
_ids = st.text("abc019_", min_size=1, max_size=12).map("call_".__add__)
_signatures = st.builds(Signature, _names, st.just("openai"), st.just("encrypted"))
_images = st.builds(
    Image,
    st.sampled_from((Media("image/png", data="iVBORw0KGgo="), Media(url="https://a.example/b"), Media(file_id="f"))),
    st.sampled_from(("", "low", "high")),
)
_documents = st.sampled_from(
    (
        Document(Media("application/pdf", data="JVBERi0="), filename="a.pdf"),
        Document(Media(url="https://a.example/b.pdf")),
        Document(Media(file_id="file-1")),
    )
)
_users = st.lists(st.one_of(st.builds(Text, _texts), _images, _documents), min_size=1, max_size=3)
_reasonings = st.builds(
    Reasoning,
    st.lists(_texts, max_size=2).map(tuple),
    st.just(False),
    _signatures,
    st.sampled_from(("", "rs_1")),
)
_says = st.one_of(st.builds(Text, _texts), st.builds(Refusal, _texts), _reasonings)
_objects = st.dictionaries(_names, st.integers(), max_size=2).map(json.dumps)
_schemas = st.just('{"type":"object","properties":{"a":{"type":"string"}}}')


@st.composite
def _rounds(draw: st.DrawFn) -> list[Turn]:
    """The user speaks, the assistant answers, perhaps with calls, and then its calls are answered."""
    said = draw(st.lists(_says, min_size=1, max_size=3))
    calls = []
    for call_id in draw(st.lists(_ids, max_size=2, unique=True)):
        is_custom = draw(st.booleans())
        arguments = draw(_texts if is_custom else _objects)
        namespace, item_id = (
            draw(st.sampled_from(("", "space"))),
            draw(st.sampled_from(("", "ctc_1" if is_custom else "fc_1"))),
        )
        calls.append(ToolCall(call_id, draw(_names), arguments, is_custom, namespace, item_id))
    phase = draw(st.sampled_from(("", "final_answer"))) if any(isinstance(part, Text) for part in said) else ""
    turns = [Turn("user", tuple(draw(_users))), Turn("assistant", (*said, *calls), phase=phase)]
    if calls:
        content = st.one_of(
            st.just(()), st.builds(Text, _texts).map(lambda part: (part,)), st.tuples(st.builds(Text, _texts), _images)
        )
        results = [ToolResult(call.id, draw(content), call.name, is_custom=call.is_custom) for call in calls]
        turns.append(Turn("user", tuple(results)))
    return turns


_tools = st.one_of(
    st.builds(Tool, _names, st.just("function"), _texts, _schemas, st.booleans(), st.sampled_from(("", "space"))),
    st.builds(
        Tool,
        _names,
        st.just("custom"),
        _texts,
        namespace=st.sampled_from(("", "space")),
        format=st.just('{"type":"text"}'),
    ),
    st.just(Tool("web_search", "opaque", dialect=NAME, data='{"type":"web_search"}')),
)
_optional_floats = st.none() | st.floats(0, 2)


@st.composite
def _requests(draw: st.DrawFn) -> Request:
    tools = draw(st.lists(_tools, max_size=3, unique_by=lambda tool: tool.name))
    own = [tool.name for tool in tools if tool.kind != "opaque"]
    modes = [ToolChoice("auto"), ToolChoice("none"), ToolChoice("required"), None]
    if own:
        modes += [
            ToolChoice("one", (own[0],)),
            ToolChoice("allowed_auto", tuple(own)),
            ToolChoice("allowed_required", (own[0],)),
        ]
    shown = draw(st.sampled_from((None, "auto", "detailed")))
    return Request(
        model=draw(_names),
        is_stream=draw(st.booleans()),
        system=tuple(draw(st.lists(st.builds(Text, _texts), max_size=1))),
        turns=tuple(turn for turns in draw(st.lists(_rounds(), min_size=1, max_size=3)) for turn in turns),
        tools=tuple(sorted(tools, key=lambda tool: tool.namespace)),
        tool_choice=draw(st.sampled_from(modes)) if tools else None,
        parallel_calls=draw(st.sampled_from((None, True, False))) if tools else None,
        sampling=Sampling(draw(_optional_floats), draw(_optional_floats), logprobs=draw(st.sampled_from((None, True)))),
        limits=Limits(draw(st.none() | st.integers(16, 9999))),
        thinking=Thinking(draw(st.sampled_from((None, "off"))), is_shown=shown and True, summary=shown or ""),
        output=draw(
            st.sampled_from(
                (OutputFormat(), OutputFormat("json"), OutputFormat("schema", '{"type":"object"}', "n", "d", False))
            )
        ),
        meta=Meta("user-1", '{"k":"v"}', "flex", "key-1", draw(st.sampled_from(("", "low"))), False, True),
        wants_usage=True,
    )


def _comparable(request: Request) -> Request:
    """Neighbouring turns of one speaker joined: items have no turns, and that is no loss."""
    turns: list[Turn] = []
    for turn in request.turns:
        if turns and turns[-1].role == turn.role == "user":
            turns[-1] = structs.replace(turns[-1], parts=turns[-1].parts + turn.parts)
        else:
            turns.append(turn)
    return structs.replace(request, turns=tuple(turns))


@settings(max_examples=70, deadline=None)
@given(_requests())
def test_reading_after_writing_gives_the_request_back(request: Request) -> None:
    out = DIALECT.write_request(request)

    assert not [loss for loss in out.losses if not loss.path.endswith(".is_strict")]
    again = DIALECT.read_request(out.body)
    strict = {tool.name: tool for tool in request.tools}
    tools = tuple(structs.replace(tool, is_strict=strict[tool.name].is_strict) for tool in again.tools)
    assert _comparable(structs.replace(again, tools=tools)) == _comparable(request)
    assert DIALECT.write_request(request).body == out.body


LOSSES = {
    "limits.stop": Request("m", limits=Limits(stop=("x",))),
    "limits.n": Request("m", limits=Limits(n=2)),
    "limits.max_output_tokens": Request("m", limits=Limits(1)),
    "sampling.top_k": Request("m", sampling=Sampling(top_k=0)),
    "sampling.presence_penalty": Request("m", sampling=Sampling(presence_penalty=0.5)),
    "sampling.frequency_penalty": Request("m", sampling=Sampling(frequency_penalty=0.5)),
    "sampling.seed": Request("m", sampling=Sampling(seed=0)),
    "sampling.logit_bias": Request("m", sampling=Sampling(logit_bias='{"1":2}')),
    "meta.store": Request("m", meta=Meta(store=True)),
    "meta.service_tier": Request("m", meta=Meta(service_tier="scale")),
    "meta.end_user": Request("m", meta=Meta(end_user="x" * 65)),
    "meta.cache_key": Request("m", meta=Meta(cache_key="x" * 65)),
    "thinking": Request("m", thinking=Thinking("budget", budget=2000)),
    "safety_settings": Request("m", dropped=("safety_settings",)),
    "tools.search": Request("m", tools=(Tool("search", "opaque", dialect="gemini", data="{}"),)),
    "tools.f.is_strict": Request(
        "m", tools=(Tool("f", schema='{"type":"object","properties":{"a":{}}}', is_strict=True),)
    ),
    "tool_choice": Request("m", tools=(Tool("f"),), tool_choice=ToolChoice("one", ("gone",))),
    "turns.name": Request("m", turns=(Turn("user", (Text("a"),), name="bob"),)),
    "turns.reasoning": Request(
        "m", turns=(Turn("assistant", (Reasoning(("a",), signature=Signature("s", "anthropic")),)),)
    ),
    "turns.image": Request("m", turns=(Turn("assistant", (Image(Media(url="https://a.example")),)),)),
    "turns.document": Request("m", turns=(Turn("user", (Document(text="a", title="t"),)),)),
    "turns.thing": Request("m", turns=(Turn("user", (Opaque("gemini", "thing", "{}"),)),)),
    "cache": Request("m", system=(Text("a", Cache()),)),
}


@pytest.mark.parametrize("path", LOSSES)
def test_what_the_dialect_cannot_say_is_declared(path: str) -> None:
    out = DIALECT.write_request(LOSSES[path])

    assert [loss.path for loss in out.losses] == [path]


# ---- law: read after write, answers and streams ---------------------------------------------------------------------


@st.composite
def _answers(draw: st.DrawFn) -> Answer:
    anonymous = _reasonings.map(lambda part: structs.replace(part, item_id=""))
    parts = draw(st.lists(st.one_of(st.builds(Text, _texts), anonymous), max_size=4))
    for call_id in draw(st.lists(_ids, max_size=2, unique=True)):
        is_custom = draw(st.booleans())
        parts.append(
            ToolCall(
                call_id,
                draw(_names),
                draw(_texts if is_custom else _objects),
                is_custom,
                draw(st.sampled_from(("", "space"))),
            )
        )
    has_calls = any(isinstance(part, ToolCall) for part in parts)
    finish = "tool_calls" if has_calls else draw(st.sampled_from(("stop", "length", "content_filter")))
    native = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(finish, "completed")
    return Answer(tuple(parts), Finish(finish, native), "resp_9", "caller-model", 7, Usage(9, 4, None, 3, 1))


def _without_ids(answer: Answer) -> Answer:
    parts = [
        structs.replace(part, item_id="") if isinstance(part, ToolCall | Reasoning) else part for part in answer.parts
    ]
    return structs.replace(answer, parts=tuple(parts))


@settings(max_examples=70, deadline=None)
@given(_answers(), st.integers(1, 400))
def test_reading_after_writing_gives_the_answer_back_whole_streamed_and_cut(answer: Answer, size: int) -> None:
    stream = written(unfold(answer))

    checked(stream)
    whole = fold(DIALECT.read_answer(DIALECT.write_answer(answer, ECHO)))
    assert _without_ids(whole) == _without_ids(answer)
    assert fold(read(stream)) == whole
    assert read_in_pieces(stream, size) == read(stream)


@settings(max_examples=40, deadline=None)
@given(_answers(), st.data())
def test_a_truncated_stream_never_ends_cleanly(answer: Answer, data: st.DataObject) -> None:
    stream = written(unfold(answer)).rstrip(b"\n")
    cut = data.draw(st.integers(0, len(stream) - 1))

    assert isinstance(read(stream[:cut])[-1], Failed)


def test_truncation_all_along_one_stream_fails() -> None:
    answer = Answer((Text("é\u2028x"), ToolCall("c", "f", '{"a":1}')), Finish("tool_calls"))
    stream = written(unfold(answer)).rstrip(b"\n")

    for cut in range(0, len(stream), 3):
        assert sum(isinstance(event, Failed | Finish) for event in read(stream[:cut])) == 1
        assert isinstance(read(stream[:cut])[-1], Failed)


# ---- clients --------------------------------------------------------------------------------------------------------


def checked(data: bytes) -> list[dict[str, object]]:
    """The rules of the life cycle that SDK helpers and Codex rely on. Returns the finished items."""
    frames = frames_of(data)
    assert [frame["type"] for frame in frames[:2]] == ["response.created", "response.in_progress"]
    assert frames[0]["response"]["output"] == []
    assert [frame["sequence_number"] for frame in frames] == list(range(len(frames)))
    assert len({frame["response"]["id"] for frame in frames if "response" in frame}) == 1
    added, parts, done = {}, {}, []
    for frame in frames[2:-1]:
        index, kind = frame["output_index"], frame["type"]
        if kind == "response.output_item.added":
            assert index == len(added)
            added[index] = frame["item"]
            continue
        if kind == "response.output_item.done":
            same = ("id", "type", "call_id", "name")
            assert [frame["item"].get(key) for key in same] == [added[index].get(key) for key in same]
            done.append(frame["item"])
            continue
        assert frame["item_id"] == added[index]["id"]
        position = frame.get("content_index", frame.get("summary_index"))
        if kind.endswith("_part.added"):
            assert position == parts.get(index, 0)
            parts[index] = position + 1
        elif position is not None:
            assert position < parts[index]
    last = frames[-1]["response"]
    assert frames[-1]["type"] == f"response.{last['status']}"
    if last["status"] != "failed":
        assert len(last["output"]) == len(added)
        assert last["usage"]["input_tokens_details"]["cached_tokens"] >= 0
        assert last["usage"]["output_tokens_details"]["reasoning_tokens"] >= 0
    assert [item for item in last["output"] if item in done] == done
    assert len({item["id"] for item in last["output"]}) == len(last["output"])
    return done


def client_for(body: bytes) -> openai.OpenAI:
    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream; charset=utf-8"}, content=body)

    return openai.OpenAI(
        api_key="k",
        base_url="http://x/v1",
        max_retries=0,
        http_client=httpx2.Client(transport=httpx2.MockTransport(answer)),
    )


def sdk_reads(body: bytes) -> tuple[list[object], object]:
    with client_for(body) as client, client.responses.stream(model="m", input="q") as stream:
        events = list(stream)
        return events, events[-1].response


INTERLEAVED: list[Event] = [
    Start("resp_1", "up", 1),
    PartStart(0, "call", "c1", "f"),
    ArgsDelta(0, '{"a"'),
    PartStart(1, "call", "c2", "g", "space", is_custom=True),
    ArgsDelta(1, "free "),
    ArgsDelta(0, ":1}"),
    ArgsDelta(1, "text"),
    PartEnd(1),
    PartEnd(0),
    Finish("tool_calls"),
]
SDK_CASES: dict[str, list[Event]] = {
    "text": unfold(Answer((Text("hello"), Text(" world")), Finish("stop"), usage=Usage(1, 0, None, 2, 0))),
    "calls": unfold(Answer((Text("x"), ToolCall("c", "f", '{"a":1}')), Finish("tool_calls"))),
    "interleaved calls": INTERLEAVED,
    "reasoning": unfold(
        Answer((Reasoning(("a", "b"), signature=Signature("s", "openai", "encrypted")), Text("x")), Finish("stop"))
    ),
    "raw reasoning": unfold(Answer((Reasoning(("a", "b"), is_raw=True), Text("x")), Finish("stop"))),
    "refusal": unfold(Answer((Refusal("no"),), Finish("refusal"))),
    "nothing": unfold(Answer((), Finish("stop"))),
}


@pytest.mark.parametrize("name", SDK_CASES)
def test_the_official_sdk_reads_what_is_written(name: str) -> None:
    body = written(SDK_CASES[name])

    checked(body)
    with client_for(body) as client, client.responses.stream(model="m", input="q") as stream:
        final = stream.get_final_response()
    answer = fold(SDK_CASES[name])
    assert final.output_text == "".join(part.text for part in answer.parts if isinstance(part, Text))
    calls = [part for part in answer.parts if isinstance(part, ToolCall)]
    items = [item for item in final.output if item.type in ("function_call", "custom_tool_call")]
    assert [(item.call_id, item.name) for item in items] == [(call.id, call.name) for call in calls]
    assert [getattr(item, "arguments", None) or item.input for item in items] == [call.arguments for call in calls]


def test_the_official_sdk_reads_an_incomplete_answer() -> None:
    events, final = sdk_reads(written(unfold(Answer((Text("hel"),), Finish("length")))))

    assert events[-1].type == "response.incomplete"
    assert final.incomplete_details.reason == "max_output_tokens"
    assert [item.status for item in final.output] == ["incomplete"]


def test_the_official_sdk_reads_a_failed_answer() -> None:
    problem = Problem("rate_limit", 429, "Slow down.", retry_after=1.5)

    events, final = sdk_reads(written([Start(), PartStart(0, "text"), TextDelta(0, "a"), Failed(problem)]))

    assert events[-1].type == "response.failed"
    assert (final.error.code, final.error.message) == ("rate_limit_exceeded", "Slow down. Please try again in 1.5s.")


# ---- pitfalls: requests ---------------------------------------------------------------------------------------------

INPUT = [{"role": "user", "content": "q"}]


def request_of(**fields: object) -> Request:
    return DIALECT.read_request(json.dumps({"model": "m", "input": INPUT, **fields}).encode())


@pytest.mark.parametrize(("fields", "param", "code"), table("bad-requests"))
def test_a_bad_request_names_the_field(fields: dict[str, object], param: str, code: str) -> None:
    with pytest.raises(InvalidRequest if code else CallerFault) as caught:
        request_of(**fields)

    assert caught.value.status == 400
    assert (caught.value.problem.param, caught.value.problem.code) == (param, code)
    assert f"`{param}`" in caught.value.problem.message


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"model":"m","input":"\\ud800"}', b'{"model":"\xff"}'])
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises((InvalidJson, MissingParameter)):
        DIALECT.read_request(body)


def test_null_is_absence_everywhere() -> None:
    names = (
        "instructions",
        "tools",
        "tool_choice",
        "reasoning",
        "text",
        "include",
        "metadata",
        "previous_response_id",
        "background",
    )

    assert request_of(**dict.fromkeys(names)) == request_of()


def test_model_and_stream_come_from_the_address_when_it_tells() -> None:
    request = DIALECT.read_request(b'{"input":"q"}', model="from-address", is_stream=True)

    assert (request.model, request.is_stream) == ("from-address", True)


def test_what_has_no_place_is_dropped_by_name_and_defaults_are_not() -> None:
    fields = {
        "truncation": "auto",
        "max_tool_calls": 3,
        "context_management": [],
        "x_vendor": 1,
        "store": False,
        "client_metadata": {},
    }

    assert set(request_of(**fields).dropped) == {"truncation", "max_tool_calls", "context_management", "x_vendor"}
    assert request_of(truncation="disabled", background=False).dropped == ()


def test_assistant_history_told_by_the_user_is_the_assistants() -> None:
    turns = request_of(input=[{"role": "user", "content": [{"type": "output_text", "text": "a"}]}]).turns

    assert turns == (Turn("assistant", (Text("a"),)),)


def test_phases_are_kept_and_part_turns() -> None:
    items = [{"role": "assistant", "content": phase, "phase": phase} for phase in ("commentary", "final_answer")]

    assert [turn.phase for turn in request_of(input=items).turns] == ["commentary", "final_answer"]


def test_of_tools_with_one_name_the_first_counts() -> None:
    again = {
        "type": "additional_tools",
        "role": "developer",
        "tools": [{"type": "custom", "name": "f"}, {"type": "custom", "name": "g"}],
    }

    tools = request_of(tools=[{"type": "function", "name": "f"}], input=[again]).tools

    assert [(tool.name, tool.kind) for tool in tools] == [("f", "function"), ("g", "custom")]


def test_a_sealed_foreign_signature_comes_back_as_what_it_was() -> None:
    original = Signature("sig", "anthropic")
    item = {
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": "t"}],
        "encrypted_content": seal(original),
    }

    assert request_of(input=[item]).turns[0].parts == (Reasoning(("t",), signature=original),)


@pytest.mark.parametrize("is_custom", [False, True])
def test_a_calls_own_signature_goes_before_the_call_and_comes_back_to_it(*, is_custom: bool) -> None:
    call = ToolCall("c", "f", "{}", is_custom, signature=Signature("thought", "google"))
    other = ToolCall("d", "f", "{}", is_custom)

    output = json.loads(DIALECT.write_answer(Answer((call, other), Finish("tool_calls")), ECHO))["output"]
    parts = request_of(input=output).turns[0].parts

    kind = "custom_tool_call" if is_custom else "function_call"
    assert [item["type"] for item in output] == ["reasoning", kind, kind]
    assert [structs.replace(part, item_id="") for part in parts] == [call, other]


def test_unknown_items_and_contents_return_as_they_came() -> None:
    items = [
        {"type": "web_search_call", "id": "ws_1", "action": {"type": "search", "n": 1.10}},
        {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "hologram", "text": 3}]},
        {"type": "shell_call_output", "call_id": "c", "output": [{"stdout": "x"}]},
    ]

    request = request_of(input=items)

    assert [turn.role for turn in request.turns] == ["assistant", "user", "user"]
    out = json.loads(DIALECT.write_request(request).body)["input"]
    assert out == [items[0], {"type": "message", **items[1]}, items[2]]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("any", ToolChoice("required")),
        ({"type": "function", "name": "f"}, ToolChoice("one", ("f",))),
        ({"type": "custom", "name": "c"}, ToolChoice("one", ("c",))),
        ({"type": "web_search"}, ToolChoice("one", ("web_search",))),
        ({"type": "mcp", "server_label": "s"}, ToolChoice("one", ("s",))),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]},
            ToolChoice("allowed_required", ("f",)),
        ),
    ],
)
def test_every_form_of_tool_choice_is_read_and_written(choice: object, expected: ToolChoice) -> None:
    tools = [
        {"type": "function", "name": "f"},
        {"type": "custom", "name": "c"},
        {"type": "web_search"},
        {"type": "mcp", "server_label": "s"},
    ]

    request = request_of(tools=tools, tool_choice=choice)

    assert request.tool_choice == expected
    assert json.loads(DIALECT.write_request(request).body)["tool_choice"] == ("required" if choice == "any" else choice)


def test_choice_and_parallel_calls_need_tools() -> None:
    body = json.loads(DIALECT.write_request(Request("m", tool_choice=ToolChoice("auto"), parallel_calls=False)).body)

    assert not {"tools", "tool_choice", "parallel_tool_calls"} & body.keys()


def test_reasoning_ids_go_only_with_encrypted_content_and_call_ids_only_with_their_prefix() -> None:
    signed = Reasoning(("raw",), is_raw=True, signature=Signature("e", "openai", "encrypted"), item_id="rs_1")
    calls = (ToolCall("c", "f", " ", item_id="call_1"), ToolCall("d", "f", "{}", item_id="fc_1"))

    items = json.loads(DIALECT.write_request(Request("m", turns=(Turn("assistant", (signed, *calls)),))).body)["input"]

    assert items[0] == {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "e"}
    assert [(item.get("id"), item["arguments"]) for item in items[1:]] == [(None, "{}"), ("fc_1", "{}")]


def test_media_in_results_make_the_output_a_list() -> None:
    content = (Text("a"), Image(Media("image/png", data="iVBORw0KGgo=")), Audio(Media("audio/mpeg", data="AAAA")))
    turns = (Turn("user", (ToolResult("c", content), ToolResult("d", (Text("a"), Text("b"))))),)

    items = json.loads(DIALECT.write_request(Request("m", turns=turns)).body)["input"]

    assert [part["type"] for part in items[0]["output"]] == ["input_text", "input_image", "input_audio"]
    assert items[1]["output"] == "a\nb"


# ---- pitfalls: reading the upstream ---------------------------------------------------------------------------------


def test_raw_thoughts_and_summary_are_never_both_told() -> None:
    item = {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"text": "s"}],
        "content": [{"type": "reasoning_text", "text": "r"}],
    }

    assert fold(DIALECT.read_answer(json.dumps(completed(item)["response"]).encode())).parts == (
        Reasoning(("r",), is_raw=True, item_id="rs_1"),
    )


def test_a_final_text_that_contradicts_the_deltas_adds_nothing() -> None:
    delta = {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": '{"a":1}'}
    added = {
        "type": "response.output_item.added",
        "output_index": 0,
        "item": {"type": "function_call", "call_id": "c", "name": "f"},
    }
    done = {"type": "response.function_call_arguments.done", "output_index": 0, "arguments": '{"a": 1}'}

    assert fold(read(sse(CREATED, added, delta, done, completed()))).parts == (ToolCall("c", "f", '{"a":1}'),)


def test_an_incomplete_answer_with_a_cut_call_is_of_length_and_with_whole_calls_is_of_calls() -> None:
    def finish(status: str) -> str:
        call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"a"', "status": status}
        response = {
            **completed(call)["response"],
            "status": "incomplete",
            "incomplete_details": {"reason": "max_output_tokens"},
        }
        return fold(DIALECT.read_answer(json.dumps(response).encode())).finish.reason

    assert (finish("incomplete"), finish("completed")) == ("length", "tool_calls")


@pytest.mark.parametrize(("frame", "kind", "status", "retry_after"), table("failures"))
def test_every_failure_inside_a_stream_ends_in_failed(
    frame: object, kind: str, status: int, retry_after: float | None
) -> None:
    last = read(sse(CREATED, frame, completed()))[-1]

    assert isinstance(last, Failed)
    assert (last.problem.kind, last.problem.status, last.problem.retry_after) == (kind, status, retry_after)
    if native := last.problem.native:  # whoever is given it as an answer of its own reads the same
        again = DIALECT.read_error(status, native)
        assert (again.kind, again.retry_after) == (kind, retry_after)
    else:
        assert kind == "bad_gateway"


def test_lone_surrogates_are_mended() -> None:
    delta = '{"type":"response.output_text.delta","output_index":0,"delta":"a\\ud83d"}'

    assert fold(read(sse(CREATED, delta, completed()))).parts == (Text("a\ufffd"),)


def test_noise_between_events_is_passed_over() -> None:
    noise = ("[DONE]", {"type": "codex.rate_limits", "delta": {"x": 1}}, {"type": "keepalive"}, {})

    events = read(sse(CREATED) + b": comment\n\nretry: 3\n\n" + sse(*noise, completed()))

    assert [type(event) for event in events] == [Start, Ping, UsageSeen, Finish]


@pytest.mark.parametrize(
    "body", [json.dumps(completed({"type": "message", "content": [{"type": "output_text", "text": "a"}]})["response"])]
)
def test_a_whole_answer_in_place_of_a_stream_is_read(body: str) -> None:
    assert fold(read_in_pieces(f"\n {body}".encode(), 5)).parts == (Text("a"),)


@pytest.mark.parametrize(
    "body",
    [b'{"error":{"message":"no","code":"invalid_api_key"}}', b'{"detail":"no"}', b"<html><title>no</title>", b"{", b""],
)
def test_an_error_in_place_of_a_stream_fails(body: bytes) -> None:
    last = read_in_pieces(body, 3)[-1]

    assert isinstance(last, Failed)
    assert body in (b"", b"{") or "no" in last.problem.message


def test_an_answer_that_is_none_is_broken() -> None:
    for body in (b"", b"<html>", b"[]", b'{"object":"chat.completion"}'):
        with pytest.raises(BrokenAnswer):
            DIALECT.read_answer(body)


def test_an_event_stream_in_place_of_a_whole_answer_is_read() -> None:
    assert fold(
        DIALECT.read_answer(
            sse(CREATED, completed({"type": "message", "content": [{"type": "output_text", "text": "a"}]}))
        )
    ).parts == (Text("a"),)


def test_a_failed_answer_raises_the_upstreams_problem_when_folded() -> None:
    body = {"id": "r", "status": "failed", "output": [], "error": {"code": "rate_limit_exceeded", "message": "x"}}

    with pytest.raises(UpstreamRefused) as caught:
        fold(DIALECT.read_answer(json.dumps(body).encode()))

    assert caught.value.problem.kind == "rate_limit"


# ---- pitfalls: writing to the caller --------------------------------------------------------------------------------


def test_a_call_that_was_cut_short_is_never_called_done() -> None:
    cut = [Start(), PartStart(0, "call", "c", "f"), ArgsDelta(0, '{"a'), PartEnd(0), Finish("length")]
    never_ended = [*cut[:3], Finish("stop")]

    for events in (cut, never_ended):
        frames = frames_of(written(events))
        assert not any(str(frame["type"]).endswith(".done") for frame in frames)
        assert frames[-1]["type"] == "response.incomplete"
        assert [item["status"] for item in frames[-1]["response"]["output"]] == ["incomplete"]


def test_failure_keeps_what_was_finished_and_nothing_half_done() -> None:
    events: list[Event] = [
        *unfold(Answer((Text("whole"),), Finish("stop")))[:-1],
        PartStart(1, "call", "c", "f"),
        ArgsDelta(1, "{"),
        Failed(Problem("overloaded", 503, "busy")),
    ]

    frames = frames_of(written(events))

    assert [item["type"] for item in frames[-1]["response"]["output"]] == ["message"]
    assert frames[-1]["response"]["error"] == {"code": "server_is_overloaded", "message": "busy"}


def test_failure_before_the_start_still_begins_with_the_handshake() -> None:
    assert [frame["type"] for frame in frames_of(written([Failed(Problem("internal", 500, "x"))]))] == [
        "response.created",
        "response.in_progress",
        "response.failed",
    ]


def test_nothing_follows_the_end() -> None:
    writer = DIALECT.writer(ECHO)
    writer.push([Start(), Finish("stop")])

    assert writer.push([PartStart(0, "text"), TextDelta(0, "x"), Finish("stop")]) == b""


def test_silent_parts_and_foreign_opaque_parts_take_no_index() -> None:
    parts = (
        Reasoning(()),
        Opaque("gemini", "x", "{}"),
        Text(""),
        Text("a"),
        Opaque(NAME, "web_search_call", '{"id":"ws_1",\n"type":"web_search_call"}'),
    )

    assert [item["type"] for item in checked(written(unfold(Answer(parts, Finish("stop")))))] == [
        "message",
        "web_search_call",
    ]


def test_pictures_are_image_generation_calls_both_ways() -> None:
    answer = Answer((Image(Media("image/webp", data="AAAA")),), Finish("stop", "completed"))

    assert fold(read(written(unfold(answer)))).parts == answer.parts


def test_the_echo_is_the_callers_own_and_keeps_to_one_line() -> None:
    request = request_of(
        instructions="be brief",
        tools=[{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}],
        tool_choice="required",
        parallel_tool_calls=False,
        temperature=0.5,
        text={"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}, "verbosity": "low"},
        reasoning={"effort": "HIGH", "summary": "auto"},
        metadata={"k": "v"},
    )
    spread = structs.replace(request, tools=(structs.replace(request.tools[0], schema='{\n"type":\n\n"object"}'),))

    echoed = frames_of(written(unfold(Answer((), Finish("stop"))), Echo("mine", spread, "s", 5)))[0]["response"]

    assert echoed["tools"] == [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}]
    assert (echoed["model"], echoed["instructions"], echoed["tool_choice"], echoed["created_at"]) == (
        "mine",
        "be brief",
        "required",
        5,
    )
    assert (echoed["parallel_tool_calls"], echoed["temperature"], echoed["metadata"]) == (False, 0.5, {"k": "v"})
    assert echoed["reasoning"] == {"effort": "high", "summary": "auto"}
    assert echoed["text"]["verbosity"] == "low"
    assert "output_text" not in echoed


def test_pings_and_keepalives_are_comments() -> None:
    assert DIALECT.writer(ECHO).keepalive() == b": keepalive\n\n"
    assert written([Start(), Ping()]).endswith(b": keepalive\n\n")


def test_line_separators_are_escaped() -> None:
    assert b"\xe2\x80\xa8" not in written(unfold(Answer((Text("a\u2028"),), Finish("stop"))))


# ---- tap ------------------------------------------------------------------------------------------------------------


def seen(data: bytes, size: int) -> Iterator[object]:
    tap = DIALECT.tap()
    for start in range(0, len(data), size):
        tap.look(data[start : start + size])
    if len(data) > 99_999:
        tap.look(b"\n\n")
    yield from (tap.has_content, tap.is_over, tap.problem and tap.problem.kind, tap.usage())


STREAM = written(
    unfold(
        Answer(
            (Text('say "response" and "error"'), ToolCall("c", "f", '{"error":1}')),
            Finish("tool_calls"),
            usage=Usage(9, 4, None, 3, 1),
        )
    )
)
FAILED_EARLY = sse(CREATED, {"type": "codex.rate_limits"}, {"type": "error", "code": "slow_down", "message": "x"})
TAP_CASES = {
    "whole": (STREAM, (True, True, None, Usage(9, 4, None, 3, 1))),
    "no last blank line": (STREAM.rstrip(b"\n"), (True, True, None, Usage(9, 4, None, 3, 1))),
    "crlf": (STREAM.replace(b"\n", b"\r\n"), (True, True, None, Usage(9, 4, None, 3, 1))),
    "cut in the last frame": (STREAM[:-30], (True, False, None, None)),
    "handshake only": (STREAM[: STREAM.index(b"event: response.output_item.added")], (False, False, None, None)),
    "refused at once": (FAILED_EARLY, (False, True, "overloaded", None)),
    "failed later": (
        STREAM[: STREAM.index(b"event: response.completed")] + DIALECT.write_stream_error(Problem("quota", 429, "x")),
        (True, True, "quota", None),
    ),
    "cut in the last frame, told so": (STREAM[:-30] + b"\n\n", (True, False, None, None)),
    "large": (
        STREAM[: STREAM.index(b"event: response.completed")] + sse(completed("}x" * 200_000)).rstrip(b"\n"),
        (True, True, None, Usage(9, 4, None, 3, 1)),
    ),
    "alias": (sse(CREATED, {**completed(), "type": "response.done"}), (True, True, None, Usage(9, 4, None, 3, 1))),
}


@pytest.mark.parametrize("name", TAP_CASES)
def test_the_tap_sees_the_same_however_the_stream_is_cut(name: str) -> None:
    data, expected = TAP_CASES[name]

    for size in (1, 7, 20, 100, len(data)) if len(data) < 99_999 else (1000, 4097, len(data)):
        assert tuple(seen(data, size)) == expected, size


# ---- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "body", "kind", "message"), table("error-bodies"))
def test_every_shape_of_error_body_is_read(status: int, body: str, kind: str, message: str) -> None:
    problem = DIALECT.read_error(status, body.encode())

    assert (problem.kind, problem.status, problem.message, problem.dialect) == (kind, status, message, NAME)


def test_an_upstreams_own_error_passes_unchanged() -> None:
    body = b'{"error" : {"message":"m","type":"t","param":null,"code":"c","extra":1}}'

    assert DIALECT.write_error(DIALECT.read_error(400, body), "req") == body


def test_errors_are_written_with_the_codes_that_clients_act_upon() -> None:
    foreign = Problem(
        "context_too_long", 413, "prompt is too long", code="INVALID_ARGUMENT", dialect="gemini", native=b"{}"
    )

    error = json.loads(DIALECT.write_error(foreign, "req"))["error"]

    assert error == {
        "message": "prompt is too long",
        "type": "invalid_request_error",
        "param": None,
        "code": "context_length_exceeded",
    }
    assert DIALECT.status_of(foreign) == 400
    assert DIALECT.status_of(Problem("overloaded", 529, "busy")) == 503


def test_the_error_of_a_running_stream_is_response_failed() -> None:
    frame = frames_of(DIALECT.write_stream_error(Problem("rate_limit", 429, "m.", retry_after=12)))[0]

    assert frame["type"] == "response.failed"
    assert frame["response"]["error"] == {"code": "rate_limit_exceeded", "message": "m. Please try again in 12s."}


def test_signatures_of_reasoning_are_sealed_for_foreign_families_only() -> None:
    events = [
        Start(),
        PartStart(0, "reasoning"),
        ReasoningDelta(0, "a"),
        Signed(0, Signature("s", "anthropic")),
        PartEnd(0),
    ]
    own = [Start(), PartStart(0, "reasoning"), Signed(0, Signature("s", "openai", "encrypted")), PartEnd(0)]

    sealed = [checked(written([*case, Finish("stop")]))[0]["encrypted_content"] for case in (events, own)]

    assert sealed == [seal(Signature("s", "anthropic")), "s"]
