"""Gemini generateContent: recorded cases, laws, pitfalls, and Google's own SDK as the judge of what we write."""

import json
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from google import genai
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw, Struct, structs

from cliproxy.canon.answer import Answer, fold, unfold
from cliproxy.canon.carrier import seal
from cliproxy.canon.errors import (
    BrokenAnswer,
    GatewayError,
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
    ReasoningDelta,
    Signed,
    Start,
    TextDelta,
    UsageSeen,
)
from cliproxy.canon.fit import Capability
from cliproxy.canon.parts import (
    Cache,
    Document,
    Image,
    Media,
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
from cliproxy.dialects.base import Dialect, Echo
from cliproxy.dialects.gemini import DIALECT

GOLDEN = Path(__file__).parents[1] / "golden" / "gemini"
REQUESTS = sorted(path.stem for path in GOLDEN.glob("request_*.json"))
STREAMS = sorted(path.stem for path in GOLDEN.glob("stream_*.json"))
ECHO = Echo("asked", Request("asked"), "seed", 1_700_000_000)
USER = Turn("user", (Text("q"),))
SIGNED = Signature("QUJD", "google")
FOREIGN = Signature("sig+/=", "anthropic")
BYPASS = "skip_thought_signature_validator"


def golden(name: str) -> dict[str, Raw]:
    return msgspec.json.decode((GOLDEN / f"{name}.json").read_bytes(), type=dict[str, Raw])


def plain(value: Any) -> Any:
    """Canonical values as JSON, defaults left out."""
    if isinstance(value, tuple | list):
        return [plain(entry) for entry in value]
    if not isinstance(value, Struct):
        return value
    out: dict[str, Any] = {"is": type(value).__name__}
    for field in structs.fields(value):
        entry = getattr(value, field.name)
        if field.required or entry != field.default:
            out[field.name] = plain(entry)
    return out


def chunks_of(name: str) -> list[bytes]:
    return [bytes(raw) for raw in msgspec.json.decode(golden(name)["chunks"], type=list[Raw])]


def sse(chunks: list[bytes], end: bytes = b"\r\n\r\n") -> bytes:
    return b"".join(b"data: " + b"".join(chunk.splitlines()) + end for chunk in chunks)


def read(*pieces: bytes) -> list[Event]:
    reader = DIALECT.reader()
    return [event for piece in pieces for event in reader.feed(piece)] + reader.close()


def chunk(*parts: dict[str, Any], finish: str = "", **more: Any) -> bytes:
    candidate = {"content": {"parts": parts, "role": "model"}} | ({"finishReason": finish} if finish else {})
    return json.dumps({"candidates": [candidate]} | more).encode()


def written(request: Request) -> dict[str, Any]:
    return json.loads(DIALECT.write_request(request).body)


def losses(request: Request) -> set[str]:
    return {loss.path for loss in DIALECT.write_request(request).losses}


def wire(*contents: dict[str, Any], **more: Any) -> Request:
    return DIALECT.read_request(json.dumps({"contents": contents, **more}).encode(), model="m")


def without_pings(events: list[Event]) -> list[Event]:
    """Deltas joined, so that only the meaning is left."""
    return unfold(fold(events))


# ---- recorded cases --------------------------------------------------------------------------------------------------


def test_it_is_a_dialect() -> None:
    dialect: Dialect = DIALECT

    assert dialect.name == dialect.fit.dialect == "gemini"


@pytest.mark.parametrize("name", REQUESTS)
def test_recorded_request(name: str) -> None:
    case = golden(name)

    request = DIALECT.read_request(bytes(case["body"]), model="m", is_stream=True)

    assert plain(request) == json.loads(bytes(case["request"]))


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("end", [b"\r\n\r\n", b"\n\n"])
def test_recorded_stream(name: str, end: bytes) -> None:
    expected = json.loads(bytes(golden(name)["answer"]))

    assert plain(fold(read(sse(chunks_of(name), end)))) == expected


@pytest.mark.parametrize("name", STREAMS)
def test_the_array_form_means_the_same(name: str) -> None:
    chunks = chunks_of(name)
    array = b"[" + b"\n,\r\n".join(chunks) + b"]"
    events = read(sse(chunks))

    assert read(array) == events
    assert read(*(array[at : at + 1] for at in range(len(array)))) == events
    assert DIALECT.read_answer(array) == events


@pytest.mark.parametrize("name", STREAMS)
def test_any_cut_gives_the_same_events(name: str) -> None:
    body = sse(chunks_of(name))
    events = read(body)

    assert read(*(body[at : at + 1] for at in range(len(body)))) == events
    for cut in range(1, len(body), 7):
        assert read(body[:cut], body[cut:]) == events


@pytest.mark.parametrize("form", ["events", "array"])
@pytest.mark.parametrize("name", ["stream_text", "stream_parallel_calls", "stream_thoughts_then_text"])
def test_truncation_is_never_a_clean_finish(name: str, form: str) -> None:
    chunks = chunks_of(name)
    body = sse(chunks) if form == "events" else b"[" + b",".join(chunks) + b"]"
    whole = body.rstrip(b"\r\n]")

    for cut in range(len(whole)):
        *_, last = read(body[:cut])
        assert isinstance(last, Failed), body[:cut]
        assert last.problem.kind == "bad_gateway"


# ---- laws ------------------------------------------------------------------------------------------------------------

_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
_ARGUMENTS = st.sampled_from(["{}", '{"n":1.10}', '{"big":12345678901234567890123,"s":"ü\\u2028"}'])
_SIGNATURES = st.sampled_from([None, SIGNED])
_USER_PARTS = st.one_of(
    _TEXTS.map(Text),
    st.just(Image(Media("image/png", "iVBORw0KGgo="))),
    st.just(Document(Media("application/pdf", url="gs://b/a.pdf"))),
    _TEXTS.map(lambda text: Document(text=text)),
)
_CALLS = st.builds(
    ToolCall, st.sampled_from(["a", "b", "c"]), st.sampled_from(["f", "g.h"]), _ARGUMENTS, signature=_SIGNATURES
)
_MODEL_PARTS = st.one_of(
    st.builds(Text, _TEXTS, signature=_SIGNATURES),
    _TEXTS.map(lambda text: Reasoning((text,), signature=SIGNED)),
)


@st.composite
def _requests(draw: st.DrawFn) -> Request:
    turns = [Turn("user", tuple(draw(st.lists(_USER_PARTS, min_size=1, max_size=3))))]
    for _ in range(draw(st.integers(0, 2))):
        calls = draw(st.lists(_CALLS, min_size=1, max_size=3, unique_by=lambda call: call.id))
        turns.append(Turn("assistant", (*draw(st.lists(_MODEL_PARTS, max_size=2)), *calls)))
        results = [ToolResult(call.id, (Text(draw(_TEXTS)),), call.name, draw(st.booleans())) for call in calls]
        turns.append(Turn("user", tuple(results)))
    return Request(
        "m",
        system=tuple(draw(st.lists(_TEXTS.map(Text), max_size=2))),
        turns=tuple(turns),
        tools=(
            Tool("f", description="d", schema='{"type":"object","properties":{"a":{"type":"string"}}}'),
            Tool("g.h"),
        ),
        tool_choice=draw(
            st.sampled_from([None, ToolChoice("auto"), ToolChoice("none"), ToolChoice("allowed_auto", ("f", "g.h"))])
        ),
        sampling=Sampling(
            temperature=draw(st.sampled_from([None, 0.5])), top_k=draw(st.sampled_from([None, 4])), seed=7
        ),
        limits=Limits(draw(st.sampled_from([None, 100])), draw(st.sampled_from([(), ("X",)]))),
        thinking=draw(
            st.sampled_from(
                [Thinking(), Thinking("off"), Thinking("auto", is_shown=True), Thinking("level", "low", is_shown=False)]
            )
        ),
        wants_usage=True,
    )


def _unbypassed(request: Request) -> Request:
    """Neighbouring thoughts read as one; nothing else may change."""
    return request


@settings(max_examples=80, deadline=None)
@given(request=_requests())
def test_a_written_request_reads_the_same(request: Request) -> None:
    written = DIALECT.write_request(request)

    assert not written.losses
    assert DIALECT.read_request(written.body, model="m") == _unbypassed(request)
    assert DIALECT.write_request(request).body == written.body


_ANSWER_PARTS = st.one_of(
    st.builds(Text, _TEXTS, signature=st.just(SIGNED)),
    st.builds(
        lambda text, signature: Reasoning((text,), signature=signature), _TEXTS, st.sampled_from([SIGNED, FOREIGN])
    ),
    st.builds(Reasoning, signature=st.just(FOREIGN)),
    st.builds(
        ToolCall, st.sampled_from(["a", "b"]), st.just("f"), _ARGUMENTS, signature=st.sampled_from([None, SIGNED])
    ),
    st.just(Image(Media("image/png", "iVBORw0KGgo="))),
)


@st.composite
def _answers(draw: st.DrawFn) -> Answer:
    parts: tuple[Part, ...] = tuple(draw(st.lists(_ANSWER_PARTS, max_size=4)))
    has_calls = any(isinstance(part, ToolCall) for part in parts)
    finish = Finish("tool_calls" if has_calls else "stop", "STOP")
    usage = draw(st.sampled_from([None, Usage(10, 4, None, 9, 3), Usage(10, None, None, 5, None)]))
    return Answer(parts, finish, "r1", "asked", 0, usage)


@settings(max_examples=80, deadline=None)
@given(answer=_answers(), piece=st.integers(1, 5))
def test_a_written_answer_reads_the_same_whole_and_streamed(answer: Answer, piece: int) -> None:
    events = unfold(answer)
    pushes = [events[at : at + piece] for at in range(0, len(events), piece)]

    assert fold(DIALECT.read_answer(DIALECT.write_answer(answer, ECHO))) == answer
    for writer in (DIALECT.writer(ECHO), DIALECT.array_writer(ECHO)):
        body = b"".join(writer.push(push) for push in pushes)
        assert fold(read(body)) == answer
        assert writer.push([TextDelta(0, "late")]) == b""


@pytest.mark.parametrize("name", STREAMS)
def test_stream_and_whole_answer_agree(name: str) -> None:
    answer = structs.replace(fold(read(sse(chunks_of(name)))), model="asked")

    assert fold(DIALECT.read_answer(DIALECT.write_answer(answer, ECHO))) == answer
    assert fold(read(DIALECT.writer(ECHO).push(unfold(answer)))) == answer


def test_every_wish_is_written_or_declared_lost() -> None:
    request = Request(
        "m",
        turns=(
            Turn("user", (Image(Media("image/png", "iVBORw0KGgo="), detail="high"),), name="bob"),
            Turn("assistant", (Text("a", cache=Cache()),), phase="final_answer"),
            Turn("user", (Document(Media("application/pdf", "JVBERi0="), title="t"),)),
        ),
        tools=(Tool("f", is_strict=True),),
        parallel_calls=False,
        sampling=Sampling(logit_bias='{"1":2}', seed=2**40),
        limits=Limits(stop=tuple("abcdef")),
        thinking=Thinking("level", "max", summary="detailed"),
        output=OutputFormat("schema", "{}", "name", "description"),
        meta=Meta("user", '{"a":1}', "priority", "key", "low", store=True),
        dropped=("safetySettings",),
    )

    assert losses(request) == {
        *("parallel_calls", "sampling.logit_bias", "sampling.seed", "limits.stop", "thinking", "thinking.summary"),
        *("meta.end_user", "meta.metadata", "meta.service_tier", "meta.cache_key", "meta.verbosity", "meta.store"),
        *("turns.name", "turns.phase", "turns.image.detail", "turns.document.title", "cache", "tools.strict"),
        *("output", "output.name", "output.description", "safetySettings"),
    }


# ---- requests: pitfalls ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "error", "param"),
    [
        (b"{}", MissingParameter, "contents"),
        (b'{"contents":[]}', MissingParameter, "contents"),
        (b"[", InvalidJson, ""),
        (b'{"contents":[{"parts":[{"text":5}]}]}', InvalidRequest, "contents[0].parts[0].text"),
        (b'{"contents":[{"parts":[{"functionCall":{}}]}]}', MissingParameter, "contents[0].parts[0].functionCall.name"),
        (
            b'{"contents":[{"parts":[{"functionCall":{"name":"f","args":[1]}}]}]}',
            InvalidRequest,
            "contents[0].parts[0].functionCall.args",
        ),
        (
            b'{"contents":[{"parts":[{"text":"a"},{"inlineData":{"mimeType":"image/png","data":"!"}}]}]}',
            InvalidRequest,
            "contents[0].parts[1].inlineData.data",
        ),
        (b'{"contents":[{"parts":[{"fileData":{}}]}]}', MissingParameter, "contents[0].parts[0].fileData.fileUri"),
        (
            b'{"contents":"x","tools":[{"functionDeclarations":[{}]}]}',
            MissingParameter,
            "tools[0].functionDeclarations[0].name",
        ),
        (b'{"contents":"x","generationConfig":{"topK":"many"}}', InvalidRequest, "generationConfig.topK"),
        (b'{"contents":"x","generation_config":{"top_k":"many"}}', InvalidRequest, "generationConfig.topK"),
    ],
)
def test_a_faulty_request_names_the_field(body: bytes, error: type[GatewayError], param: str) -> None:
    with pytest.raises(error) as caught:
        DIALECT.read_request(body, model="m")

    assert caught.value.problem.param == param


def test_camel_case_wins_over_snake_case() -> None:
    request = wire({"parts": [{"text": "q"}]}, systemInstruction="camel", system_instruction="snake")

    assert request.system == (Text("camel"),)


def test_role_missing_is_the_user_unless_it_calls() -> None:
    request = wire({"parts": [{"text": "q"}]}, {"parts": [{"functionCall": {"name": "f"}}]})

    assert [turn.role for turn in request.turns] == ["user", "assistant"]


def test_ids_of_parallel_calls_differ_and_stay_the_same_next_time() -> None:
    contents = [{"role": "model", "parts": [{"functionCall": {"name": "f"}}, {"functionCall": {"name": "f"}}]}]
    first, again = wire(*contents), wire(*contents)

    ids = [part.id for part in first.turns[0].parts if isinstance(part, ToolCall)]
    assert len(set(ids)) == 2
    assert first == again


@pytest.mark.parametrize(
    "value", [BYPASS, "context_engineering_is_the_way_to_go", "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="]
)
def test_bypass_values_are_no_signatures(value: str) -> None:
    request = wire({"role": "model", "parts": [{"functionCall": {"name": "f"}, "thoughtSignature": value}]})

    assert request.turns[0].parts[0].signature is None  # type: ignore[union-attr]


def test_an_envelope_survives_the_url_safe_alphabet_of_sdks() -> None:
    sealed = seal(Signature("?>?>~~~ÿÿ", "anthropic"))
    safe = sealed.replace("+", "-").replace("/", "_").rstrip("=")

    request = wire({"role": "model", "parts": [{"text": "t", "thought": True, "thoughtSignature": safe}]})

    assert request.turns[0].parts == (Reasoning(("t",), signature=Signature("?>?>~~~ÿÿ", "anthropic")),)


def test_signed_visible_text_is_no_thought() -> None:
    request = wire({"role": "model", "parts": [{"text": "a", "thoughtSignature": "QUJD"}]})

    assert request.turns[0].parts == (Text("a", signature=SIGNED),)


def test_the_first_call_of_every_step_is_signed_or_bypassed_and_no_other() -> None:
    step = (ToolCall("1", "f", "{}"), ToolCall("2", "f", "{}"))
    own = (ToolCall("3", "f", "{}", signature=SIGNED), ToolCall("4", "f", "{}", signature=FOREIGN))
    body = written(Request("m", turns=(USER, Turn("assistant", step), USER, Turn("assistant", own), USER)))

    signatures = [part.get("thoughtSignature") for content in body["contents"] for part in content["parts"]]
    assert signatures == [None, BYPASS, None, None, "QUJD", None, None]


def test_results_stand_alone_and_the_users_words_follow() -> None:
    results = ToolResult("1", (Text("a"), Image(Media("image/png", "iVBORw0KGgo="))), "f")
    request = Request(
        "m", turns=(USER, Turn("assistant", (ToolCall("1", "f", "{}"),)), Turn("user", (results, Text("go on"))))
    )

    *_, response, rest = written(request)["contents"]

    assert response["parts"] == [{"functionResponse": {"id": "1", "name": "f", "response": {"output": "a"}}}]
    assert [next(iter(part)) for part in rest["parts"]] == ["text", "inlineData", "text"]
    assert losses(request) == {"turns.tool_result.media"}


@pytest.mark.parametrize("text", ['{"error":"x"}', "1.10", "[1]", "", '{\n  "a": 1\n}'])
def test_a_result_that_looks_like_json_stays_a_text(text: str) -> None:
    result = Turn("user", (ToolResult("1", (Text(text),), "f"),))
    request = Request("m", turns=(USER, Turn("assistant", (ToolCall("1", "f", "{}"),)), result))

    assert written(request)["contents"][-1]["parts"][0]["functionResponse"]["response"] == {"output": text}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [("", b'"args":{}'), (" ", b'"args":{}'), ('{"n":1.10}', b'"args":{"n":1.10}'), ("[1]", b'"args":{"_raw":"[1]"}')],
)
def test_arguments_are_always_an_object_and_keep_their_numbers(arguments: str, expected: bytes) -> None:
    body = DIALECT.write_request(Request("m", turns=(Turn("assistant", (ToolCall("1", "f", arguments),)),))).body

    assert expected in body


def test_a_tool_without_arguments_has_no_schema_unless_a_call_is_forced() -> None:
    request = Request("m", turns=(USER,), tools=(Tool("f", schema='{"type":"object","properties":{}}'), Tool("g")))
    forced = structs.replace(request, tool_choice=ToolChoice("required"))

    assert written(request)["tools"] == [
        {"functionDeclarations": [{"name": "f", "description": ""}, {"name": "g", "description": ""}]}
    ]
    for function in written(forced)["tools"][0]["functionDeclarations"]:
        assert function["parametersJsonSchema"] == {"type": "object", "properties": {}}


def test_json_output_beside_tools_is_asked_for_in_words() -> None:
    request = Request("m", turns=(USER,), tools=(Tool("f"),), output=OutputFormat("schema", '{"type":"string"}'))

    body = written(request)

    assert "generationConfig" not in body
    assert '{"type":"string"}' in body["systemInstruction"]["parts"][0]["text"]


def test_json_output_may_be_an_array() -> None:
    request = Request("m", turns=(USER,), output=OutputFormat("schema", '{"type":"array","items":{"type":"STRING"}}'))

    assert written(request)["generationConfig"] == {
        "responseMimeType": "application/json",
        "responseJsonSchema": {"type": "array", "items": {"type": "string"}},
    }


@pytest.mark.parametrize(
    ("thinking", "expected"),
    [
        (Thinking("off"), {"thinkingBudget": 0}),
        (Thinking("auto", is_shown=True), {"includeThoughts": True, "thinkingBudget": -1}),
        (Thinking("budget", budget=9), {"thinkingBudget": 9}),
        (Thinking("level", "xhigh", budget=9), {"thinkingLevel": "HIGH"}),
        (Thinking(summary="auto"), {"includeThoughts": True}),
    ],
)
def test_level_or_budget_but_never_both(thinking: Thinking, expected: dict[str, Any]) -> None:
    body = written(Request("m", turns=(USER,), thinking=thinking))

    assert body["generationConfig"]["thinkingConfig"] == expected


@pytest.mark.parametrize(
    ("url", "is_fetched"),
    [("gs://b/x.png", True), ("https://www.youtube.com/watch?v=1", True), ("https://example.com/x.png", False)],
)
def test_addresses_that_google_does_not_fetch_become_a_note(url: str, *, is_fetched: bool) -> None:
    request = Request("m", turns=(Turn("user", (Image(Media(url=url)),)),))

    part = written(request)["contents"][0]["parts"][0]

    assert part == ({"fileData": {"fileUri": url}} if is_fetched else {"text": f"[image: {url}]"})
    assert losses(request) == (set() if is_fetched else {"turns.image.url"})


def test_tool_choice_modes() -> None:
    request = Request("m", turns=(USER,), tools=(Tool("f"), Tool("g")))
    modes = {
        choice.mode: written(structs.replace(request, tool_choice=choice))["toolConfig"]["functionCallingConfig"]
        for choice in (
            *(ToolChoice("auto"), ToolChoice("none"), ToolChoice("required"), ToolChoice("one", ("f",))),
            *(ToolChoice("allowed_auto", ("f", "g")), ToolChoice("allowed_required", ("f", "g"))),
        )
    }

    assert modes == {
        "auto": {"mode": "AUTO"},
        "none": {"mode": "NONE"},
        "required": {"mode": "ANY"},
        "one": {"mode": "ANY", "allowedFunctionNames": ["f"]},
        "allowed_auto": {"mode": "VALIDATED", "allowedFunctionNames": ["f", "g"]},
        "allowed_required": {"mode": "ANY", "allowedFunctionNames": ["f", "g"]},
    }


def test_a_foreign_conversation_is_bent_to_what_google_takes() -> None:
    request = Request(
        "m",
        turns=(
            Turn("assistant", (Text("hello"), Reasoning(("hm",), signature=FOREIGN))),
            Turn("system", (Text("be nice"),)),
            Turn("user", (Text("q"),)),
            Turn("assistant", (ToolCall("x y", "mcp/tool", "{}"),)),
            Turn("user", (Text("wait"),)),
        ),
    )

    body = written(fitted(request, DIALECT.fit, Capability()).request)

    roles = [content["role"] for content in body["contents"]]
    call, response = (
        body["contents"][3]["parts"][0]["functionCall"],
        body["contents"][4]["parts"][0]["functionResponse"],
    )
    assert roles == ["user", "model", "user", "model", "user", "user"]
    assert call["id"] == response["id"]
    assert call["name"] == response["name"]
    assert "hm" not in json.dumps(body)


# ---- answers: pitfalls -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "MISSING_THOUGHT_SIGNATURE"])
def test_a_malformed_call_is_a_failure_and_its_chunk_is_not_trusted(reason: str) -> None:
    events = read(sse([chunk({"functionCall": {"name": "f", "args": {}}}, finish=reason)]))

    assert [type(event) for event in events] == [Start, Failed]
    with pytest.raises(UpstreamRefused) as caught:
        fold(events)
    assert caught.value.problem.kind == "bad_gateway"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Bad gateway</html>",
        b"data: <html>\n\n",
        b'data: {"candidates"\n\n',
        b"{}",
        b"[]",
        b"[" * 5000,
        sse([chunk({"functionCall": {"args": {}}}, finish="STOP")]),
    ],
)
def test_a_body_that_is_no_stream_fails(body: bytes) -> None:
    *_, last = read(body)

    assert isinstance(last, Failed)
    assert last.problem.status == 502


@pytest.mark.parametrize("body", [b"", b"<html>", b"{", b"nope"])
def test_a_body_that_is_no_answer_is_broken(body: bytes) -> None:
    with pytest.raises(BrokenAnswer):
        DIALECT.read_answer(body)


def test_a_stray_end_marker_and_lone_surrogates_do_no_harm() -> None:
    body = sse([b'{"candidates":[{"content":{"parts":[{"text":"a\\ud800"}]},"finishReason":"STOP"}]}', b"[DONE]"])

    assert fold(read(body)).parts == (Text("a\ufffd"),)


def test_an_error_in_the_stream_ends_it() -> None:
    error = b'{"error":{"code":429,"message":"slow down","status":"RESOURCE_EXHAUSTED"}}'

    events = read(sse([chunk({"text": "a"}), error, chunk({"text": "b"}, finish="STOP")]))

    assert events[-2] == PartEnd(0, is_complete=False)
    assert events[-1] == Failed(
        Problem("rate_limit", 429, "slow down", "RESOURCE_EXHAUSTED", dialect="gemini", native=error)
    )


def test_an_unasked_stream_is_read_as_the_answer() -> None:
    assert fold(DIALECT.read_answer(sse([chunk({"text": "a"}, finish="STOP")]))).parts == (Text("a"),)


def test_usage_comes_early_and_again_at_the_end() -> None:
    first, last = {"promptTokenCount": 3}, {"promptTokenCount": 3, "candidatesTokenCount": 2}
    events = read(
        sse([chunk({"text": "a"}, usageMetadata=first), chunk({"text": "b"}, finish="STOP", usageMetadata=last)])
    )

    assert [event.usage.output_total for event in events if isinstance(event, UsageSeen)] == [None, 2]
    assert isinstance(events[1], UsageSeen)


# ---- stream writer: pitfalls -----------------------------------------------------------------------------------------


def frames(body: bytes) -> list[dict[str, Any]]:
    lines = body.split(b"\n\n")
    assert lines.pop() == b""
    assert all(line.startswith(b"data: {") and b"\n" not in line for line in lines)
    return [json.loads(line[6:]) for line in lines]


def test_only_the_last_chunk_finishes_and_it_has_a_part() -> None:
    writer = DIALECT.writer(ECHO)
    body = writer.push([Start("r", "up"), PartStart(0, "text"), TextDelta(0, "a")])
    assert body == b""
    body += writer.push([TextDelta(0, "b")]) + writer.push(
        [PartEnd(0), UsageSeen(Usage(1, None, None, 2)), Finish("stop")]
    )

    first, last = frames(body)

    assert "finishReason" not in first["candidates"][0]
    assert last["candidates"][0] == {
        "content": {"parts": [{"text": "b"}], "role": "model"},
        "finishReason": "STOP",
        "index": 0,
    }
    assert last["usageMetadata"] == {"promptTokenCount": 1, "candidatesTokenCount": 2, "totalTokenCount": 3}
    assert last["modelVersion"] == "asked"


def test_an_empty_answer_has_a_filler_part() -> None:
    [only] = frames(DIALECT.writer(ECHO).push([Start(), Finish("length")]))

    assert only["candidates"][0]["content"]["parts"] == [{"text": ""}]
    assert only["responseId"] == "seed"


def test_interleaved_calls_leave_whole_together_and_in_order() -> None:
    events: list[Event] = [
        *(Start(), PartStart(0, "call", "1", "f"), PartStart(1, "call", "2", "g"), ArgsDelta(0, '{"a"')),
        *(ArgsDelta(1, "{}"), ArgsDelta(0, ":1}"), PartEnd(1), PartEnd(0), Finish("tool_calls")),
    ]
    writer = DIALECT.writer(ECHO)

    [only] = frames(b"".join(writer.push([event]) for event in events))

    assert [part["functionCall"] for part in only["candidates"][0]["content"]["parts"]] == [
        {"id": "1", "name": "f", "args": {"a": 1}},
        {"id": "2", "name": "g", "args": {}},
    ]


def test_a_call_that_was_cut_is_not_written() -> None:
    events: list[Event] = [Start(), PartStart(0, "call", "1", "f"), ArgsDelta(0, '{"a":'), Finish("length")]

    [only] = frames(DIALECT.writer(ECHO).push(events))

    assert only["candidates"][0]["content"]["parts"] == [{"text": ""}]
    assert only["candidates"][0]["finishReason"] == "MAX_TOKENS"


def test_summary_parts_are_set_apart_and_hidden_thoughts_keep_their_signature() -> None:
    events: list[Event] = [
        *(Start(), PartStart(0, "reasoning"), ReasoningDelta(0, "a"), ReasoningDelta(0, "b", 1), Signed(0, FOREIGN)),
        *(PartEnd(0), Finish("stop")),
    ]
    hidden = structs.replace(ECHO, request=Request("asked", thinking=Thinking(is_shown=False)))

    [shown] = frames(DIALECT.writer(ECHO).push(events))
    [bare] = frames(DIALECT.writer(hidden).push(events))

    expected = {"text": "a\n\nb", "thought": True, "thoughtSignature": seal(FOREIGN)}
    assert shown["candidates"][0]["content"]["parts"] == [expected]
    assert bare["candidates"][0]["content"]["parts"] == [{"thought": True, "thoughtSignature": seal(FOREIGN)}]


def test_line_separators_are_escaped() -> None:
    body = DIALECT.writer(ECHO).push([Start(), PartStart(0, "text"), TextDelta(0, "a\u2028b\x85"), Finish("stop")])

    assert b"a\\u2028b\\u0085" in body


@pytest.mark.parametrize("start", [[], [Start(), PartStart(0, "text"), TextDelta(0, "a")]])
def test_failures_are_frames_of_their_form(start: list[Event]) -> None:
    failed = Failed(Problem("overloaded", 503, "busy", retry_after=2.5))

    events, array = DIALECT.writer(ECHO), DIALECT.array_writer(ECHO)
    last = frames(events.push(start) + events.keepalive() * 0 + events.push([failed]))[-1]
    body = array.keepalive() + array.push(start) + array.keepalive() + array.push([failed])

    assert last == json.loads(body)[-1]
    assert last["error"]["status"] == "UNAVAILABLE"
    assert last["error"]["details"][0]["retryDelay"] == "2.5s"
    assert DIALECT.write_stream_error(failed.problem) == b"data: " + DIALECT.write_error(failed.problem, "id") + b"\n\n"


# ---- Google's SDK ----------------------------------------------------------------------------------------------------


class _Upstream:
    """Answers every call with the next body and keeps what was asked."""

    def __init__(self, *bodies: bytes) -> None:
        self.bodies = list(bodies)
        self.asked: list[bytes] = []

    def client(self) -> genai.Client:
        transport = httpx2.MockTransport(self._answer)
        options = genai.types.HttpOptions(base_url="http://test", httpx_client=httpx2.Client(transport=transport))
        return genai.Client(api_key="k", vertexai=False, http_options=options)

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request.content)
        content_type = DIALECT.stream_type.decode() if "stream" in request.url.path else "application/json"
        return httpx2.Response(200, content=self.bodies.pop(0), headers={"content-type": content_type})


def _told(answer: Answer) -> bytes:
    writer = DIALECT.writer(ECHO)
    body = b""
    for event in unfold(answer):
        body += writer.push([event]) + writer.keepalive()
    return body


_CALLING = Answer(
    (Reasoning(("hm",), signature=FOREIGN), Text("Looking."), ToolCall("c1", "f", '{"a":1}', signature=SIGNED)),
    Finish("tool_calls", "STOP"),
    usage=Usage(10, None, None, 9, 3),
)


def test_the_sdk_reads_whole_answers() -> None:
    upstream = _Upstream(DIALECT.write_answer(_CALLING, ECHO))

    response = upstream.client().models.generate_content(model="m", contents="q")

    assert response.function_calls is not None
    assert response.function_calls[0].args == {"a": 1}
    assert response.usage_metadata is not None
    assert response.usage_metadata.thoughts_token_count == 3
    assert response.model_version == "asked"


@pytest.mark.parametrize("filler", [(), (Text("ok"),)])
def test_the_sdk_keeps_the_chat_and_returns_what_we_gave_it(filler: tuple[Part, ...]) -> None:
    last = Answer(filler, Finish("stop", "STOP"), usage=Usage(1, None, None, 1))
    upstream = _Upstream(_told(_CALLING), _told(last))
    client = upstream.client()
    chat = client.chats.create(model="m")

    seen = [part for response in chat.send_message_stream("q") for part in response.parts or []]
    reply = genai.types.Part(
        function_response=genai.types.FunctionResponse(id="c1", name="f", response={"output": "done"})
    )
    list(chat.send_message_stream([reply]))

    assert [part.thought for part in seen] == [True, None, None]
    assert len(chat.get_history(curated=True)) >= 4
    request = DIALECT.read_request(upstream.asked[1], model="m")
    assert [turn.role for turn in request.turns][-1] == "user"
    replayed = [part for turn in request.turns for part in turn.parts]
    assert Reasoning(("hm",), signature=FOREIGN) in replayed
    assert ToolCall("c1", "f", '{"a":1}', signature=SIGNED) in replayed
    assert ToolResult("c1", (Text("done"),), "f") in replayed


def test_the_sdk_raises_our_errors_in_the_stream() -> None:
    upstream = _Upstream(DIALECT.write_stream_error(Problem("overloaded", 503, "busy")))
    client = upstream.client()

    with pytest.raises(genai.errors.APIError, match="busy"):
        list(client.models.generate_content_stream(model="m", contents="q"))


def test_the_sdk_sends_tools_and_schemas_in_mixed_casing() -> None:
    upstream = _Upstream(DIALECT.write_answer(_CALLING, ECHO))
    client = upstream.client()
    function = genai.types.FunctionDeclaration(
        name="f", parameters_json_schema={"type": "object", "properties": {"a_b": {"type": "string"}}}
    )
    config = genai.types.GenerateContentConfig(
        tools=[genai.types.Tool(function_declarations=[function])],
        response_json_schema={"type": "object", "properties": {"x_y": {"type": "string"}}},
        thinking_config=genai.types.ThinkingConfig(include_thoughts=True, thinking_budget=5),
        system_instruction="S",
        stop_sequences=["X"],
    )

    client.models.generate_content(model="m", contents="q", config=config)
    request = DIALECT.read_request(upstream.asked[0], model="m")

    assert request.tools[0].schema == '{"type":"object","properties":{"a_b":{"type":"string"}}}'
    assert request.output.schema == '{"type":"object","properties":{"x_y":{"type":"string"}}}'
    assert request.thinking == Thinking("budget", budget=5, is_shown=True)
    assert request.system == (Text("S"),)


# ---- tap -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 50, 10_000])
def test_the_tap_sees_content_end_and_usage_through_any_cut(size: int) -> None:
    body = sse(chunks_of("stream_usage_only_trailer"))
    tap = DIALECT.tap()
    assert not tap.has_content

    for at in range(0, len(body), size):
        tap.look(body[at : at + size])

    assert tap.has_content
    assert tap.is_over
    assert tap.problem is None
    assert tap.usage() == Usage(13, 4, None, 12, 7)


@pytest.mark.parametrize("size", [1, 5, 10_000])
@pytest.mark.parametrize(
    "body",
    [
        b'data: {"error":{"code":429,"message":"slow","status":"RESOURCE_EXHAUSTED"}}\n\n',
        b'[{\n  "error": {\n    "code": 429, "message": "slow", "status": "RESOURCE_EXHAUSTED"}}]',
        b'[{"candidates":[]}\n,\r\n{"error":{"code":429,"message":"slow","status":"RESOURCE_EXHAUSTED"}}]',
    ],
)
def test_the_tap_sees_errors_through_any_cut(body: bytes, size: int) -> None:
    tap = DIALECT.tap()

    for at in range(0, len(body), size):
        tap.look(body[at : at + size])

    assert tap.problem is not None
    assert (tap.problem.kind, tap.problem.status, tap.problem.message) == ("rate_limit", 429, "slow")
    assert not tap.is_over


def test_the_tap_is_not_deceived_by_what_the_model_says() -> None:
    tap = DIALECT.tap()

    tap.look(
        sse([chunk({"text": '"finishReason":"STOP" {"error":{"code":1}} "usageMetadata":{"promptTokenCount":5}'})])
    )
    tap.look(sse([chunk({"functionCall": {"name": "f", "args": {"list": [{"error": {"a": 1}}]}}})]))

    assert not tap.is_over
    assert tap.problem is None
    assert tap.usage() is None


# ---- errors ----------------------------------------------------------------------------------------------------------


def _error(code: int, message: str, status: str, *details: dict[str, Any]) -> bytes:
    return json.dumps({"error": {"code": code, "message": message, "status": status, "details": details}}).encode()


@pytest.mark.parametrize(
    ("status", "body", "kind", "retry_after"),
    [
        (429, _error(429, "m", "RESOURCE_EXHAUSTED", {"retryDelay": "34.07s"}), "rate_limit", 34.07),
        (429, b"[" + _error(429, "Please retry in 300ms.", "RESOURCE_EXHAUSTED") + b"]", "rate_limit", 0.3),
        (429, _error(429, "reset after 1h2m3s", "X", {"violations": [{"quotaId": "RequestsPerDay"}]}), "quota", 3723.0),
        (429, _error(429, "quota exceeded, limit: 0", "X"), "quota", None),
        (429, _error(429, "m", "X", {"reason": "Q", "metadata": {"quotaResetDelay": "1m0.5s"}}), "rate_limit", 60.5),
        (
            400,
            _error(400, "API key not valid.", "INVALID_ARGUMENT", {"reason": "API_KEY_INVALID"}),
            "unauthenticated",
            None,
        ),
        (403, _error(403, "m", "PERMISSION_DENIED", {"reason": "SERVICE_DISABLED"}), "permission", None),
        (503, _error(503, "m", "UNAVAILABLE", {"reason": "MODEL_CAPACITY_EXHAUSTED"}), "overloaded", None),
        (404, _error(404, "m", "NOT_FOUND"), "not_found", None),
        (
            400,
            _error(400, "The input token count (9) exceeds the maximum number of tokens allowed (8).", "X"),
            "context_too_long",
            None,
        ),
        (
            502,
            b"<html><head><style>x</style><title>502</title></head><body>Bad &amp; gone</body></html>",
            "bad_gateway",
            None,
        ),
        (500, b"", "internal", None),
        (500, b"\xff\xfe", "internal", None),
        (500, b"[]", "internal", None),
        (429, b'{"error":"plain words"}', "rate_limit", None),
        (400, b'{"message":"loose"}', "invalid_request", None),
    ],
)
def test_errors_of_any_shape(status: int, body: bytes, kind: str, retry_after: float | None) -> None:
    problem = DIALECT.read_error(status, body)

    assert (problem.kind, problem.status) == (kind, status)
    assert problem.retry_after == pytest.approx(retry_after)
    assert problem.message
    assert "<" not in problem.message


def test_a_key_in_a_message_is_not_repeated() -> None:
    problem = DIALECT.read_error(
        403, _error(403, "Consumer api_key:AIzaSyA1234567890123456789012345678 suspended", "X")
    )

    assert "AIza" not in problem.message


def test_googles_own_error_goes_back_unchanged_and_others_are_told_in_its_words() -> None:
    own = _error(429, "m", "RESOURCE_EXHAUSTED", {"@type": "x", "retryDelay": "3s"})
    problem = DIALECT.read_error(429, own)
    html = DIALECT.read_error(502, b"<html>x</html>")

    assert DIALECT.write_error(problem, "id") == own
    assert DIALECT.status_of(problem) == 429
    assert json.loads(DIALECT.write_error(html, "id"))["error"]["status"] == "UNAVAILABLE"
    assert json.loads(DIALECT.write_error(Problem("missing_parameter", 400, "m"), "id")) == {
        "error": {"code": 400, "message": "m", "status": "INVALID_ARGUMENT", "details": []}
    }
    assert DIALECT.status_of(Problem("overloaded", 529, "m")) == 503
