"""Gemini generateContent: recorded cases, laws, pitfalls, and Google's own SDK as the judge of what we write."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
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
    Event,
    Failed,
    Finish,
    PartEnd,
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
from cliproxy.dialects.gemini import ARRAY, DIALECT

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


@settings(max_examples=80, deadline=None)
@given(request=_requests())
def test_a_written_request_reads_the_same(request: Request) -> None:
    written = DIALECT.write_request(request)

    assert not written.losses
    assert DIALECT.read_request(written.body, model="m") == request
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
    for writer in (DIALECT.writer(ECHO), ARRAY.writer(ECHO)):
        body = b"".join(writer.push(push) for push in pushes)
        assert fold(read(body)) == answer
        assert writer.push([TextDelta(0, "late")]) == b""


@pytest.mark.parametrize("name", STREAMS)
def test_stream_and_whole_answer_agree(name: str) -> None:
    answer = structs.replace(fold(read(sse(chunks_of(name)))), model="asked")
    if answer.finish.native == "SOMETHING_NEW":
        answer = structs.replace(answer, finish=Finish("stop", "STOP"))

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
        (b'{"contents":', InvalidJson, ""),
        (b"[]", InvalidRequest, ""),
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


def test_null_is_no_error() -> None:
    assert fold(read(sse([chunk({"text": "a"}, finish="STOP", error=None, response=None)]))).parts == (Text("a"),)


def test_thoughts_that_are_images_are_drafts_and_no_answer() -> None:
    draft = {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}, "thought": True}

    assert fold(read(sse([chunk(draft, {"text": "a"}, finish="STOP")]))).parts == (Text("a"),)


def test_ordinary_tiers_are_no_loss() -> None:
    assert losses(Request("m", turns=(USER,), meta=Meta(service_tier="auto"))) == set()


def test_a_request_to_count_may_wrap_the_request():
    wrapped = b'{"generateContentRequest":{"model":"models/x","contents":[{"role":"user","parts":[{"text":"hi"}]}]}}'

    request = DIALECT.read_request(wrapped, model="x")

    assert request.turns[0].parts == (Text("hi"),)
