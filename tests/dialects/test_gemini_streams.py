"""Gemini generateContent: what the stream writer and the tap promise, and Google's own SDK as their judge."""

import json
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from google import genai
from msgspec import Raw, Struct, structs

from cliproxy.canon.answer import Answer, unfold
from cliproxy.canon.carrier import seal
from cliproxy.canon.errors import (
    Problem,
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
from cliproxy.canon.parts import (
    Part,
    Reasoning,
    Signature,
    Text,
    ToolCall,
    ToolResult,
    Turn,
)
from cliproxy.canon.request import Request, Thinking
from cliproxy.canon.usage import Usage
from cliproxy.dialects.base import Echo
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

    events, array = DIALECT.writer(ECHO), ARRAY.writer(ECHO)
    last = frames(events.push(start) + events.push([failed]))[-1]
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
