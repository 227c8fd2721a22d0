"""Code Assist's envelope around Gemini: recorded cases, and what differs from Gemini itself."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Raw, Struct, structs

from cliproxy.canon.answer import fold
from cliproxy.canon.errors import GatewayError, InvalidJson, InvalidRequest, MissingParameter, Problem
from cliproxy.canon.events import Event, Failed, Finish, OpaqueOut, PartEnd, PartStart, Start, TextDelta
from cliproxy.canon.fit import Capability
from cliproxy.canon.parts import Text, Turn
from cliproxy.canon.passes import fitted
from cliproxy.canon.request import Request
from cliproxy.canon.usage import Usage
from cliproxy.dialects import gemini
from cliproxy.dialects.base import Dialect, Echo
from cliproxy.dialects.gemini_cli import ARRAY, DIALECT, counted_model
from cliproxy.gateway.bridge import PassingFlow, passed_whole

GOLDEN = Path(__file__).parents[1] / "golden" / "gemini-cli"
REQUESTS = sorted(path.stem for path in GOLDEN.glob("request_*.json"))
STREAMS = sorted(path.stem for path in GOLDEN.glob("stream_*.json"))
ECHO = Echo("asked", Request("asked"), "seed", 1_700_000_000)
HELLO: list[Event] = [Start("r1"), PartStart(0, "text"), TextDelta(0, "Hi"), PartEnd(0), Finish("stop")]
LOST = Problem("bad_gateway", 502, "gone")


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


def stream_of(name: str) -> bytes:
    chunks = msgspec.json.decode(golden(name)["chunks"], type=list[Raw])
    return b"".join(b"data: " + b"".join(bytes(chunk).splitlines()) + b"\n\n" for chunk in chunks)


def read(*pieces: bytes) -> list[Event]:
    reader = DIALECT.reader()
    return [event for piece in pieces for event in reader.feed(piece)] + reader.close()


def written(*events: Event, dialect: Dialect = DIALECT) -> bytes:
    return dialect.writer(ECHO).push(list(events))


# ---- recorded cases -------------------------------------------------------------------------------------------------


def test_it_is_a_dialect() -> None:
    dialect: Dialect = DIALECT

    assert dialect.name == ARRAY.name == "gemini-cli"


@pytest.mark.parametrize("name", REQUESTS)
def test_recorded_request(name: str) -> None:
    case = golden(name)

    request = DIALECT.read_request(bytes(case["body"]), is_stream=True)

    assert plain(request) == json.loads(bytes(case["request"]))
    assert json.loads(DIALECT.write_request(request).body) == json.loads(bytes(case["written"]))


@pytest.mark.parametrize("name", STREAMS)
def test_recorded_stream(name: str) -> None:
    assert plain(fold(read(stream_of(name)))) == json.loads(bytes(golden(name)["answer"]))


@pytest.mark.parametrize("name", STREAMS)
def test_any_cut_gives_the_same_events(name: str) -> None:
    body = stream_of(name)
    events = read(body)

    assert read(*(body[at : at + 1] for at in range(len(body)))) == events
    for cut in range(1, len(body), 11):
        assert read(body[:cut], body[cut:]) == events


@pytest.mark.parametrize("name", STREAMS)
def test_a_truncated_stream_is_never_a_clean_finish(name: str) -> None:
    body = stream_of(name)

    for cut in range(0, body.index(b"Reason"), 5):
        *_, last = read(body[:cut])
        assert isinstance(last, Failed), body[:cut]


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_passes_is_not_touched_and_is_seen_to_end(name: str) -> None:
    body = stream_of(name)
    flow = PassingFlow(DIALECT)

    out = b"".join(flow.feed(body[at : at + 37]) for at in range(0, len(body), 37)) + flow.close()

    assert out == body
    assert flow.problem is None
    assert flow.usage() is not None


# ---- requests -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"{", InvalidJson),
        (b"[]", InvalidRequest),
        (b'{"model":"m"}', MissingParameter),
        (b'{"model":"m","request":null}', MissingParameter),
        (b'{"model":"m","request":{}}', MissingParameter),
        (b'{"model":"m","request":[1]}', GatewayError),
        (b'{"model":"m","request":"text"}', GatewayError),
        (b'{"model":7,"request":{}}', InvalidRequest),
    ],
)
def test_what_is_no_request_is_refused(body: bytes, error: type[GatewayError]) -> None:
    with pytest.raises(error) as caught:
        DIALECT.read_request(body)

    assert caught.value.problem.status == 400


def test_the_address_may_name_the_model_instead() -> None:
    body = b'{"request":{"contents":[{"parts":[{"text":"x"}]}]}}'

    assert DIALECT.read_request(body, model="m").model == "m"


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (b'{"request":{"model":"models/gemini-2.5-pro","contents":[]}}', "models/gemini-2.5-pro"),
        (b'{"model":"outer","request":{"model":"inner"}}', "outer"),
        (b'{"request":{"contents":[]}}', ""),
    ],
)
def test_a_request_to_count_names_its_model_inside(body: bytes, model: str) -> None:
    assert counted_model(body) == model


def test_what_only_google_understands_passes_between_its_two_dialects() -> None:
    body = b'{"contents":[{"parts":[{"text":"x"}]}],"tools":[{"googleSearch":{}}]}'
    request = gemini.DIALECT.read_request(body, model="m")

    told = DIALECT.write_request(fitted(request, DIALECT.fit, Capability()).request)

    assert json.loads(told.body)["request"]["tools"] == [{"googleSearch": {}}]


def test_reading_what_was_written_gives_the_same() -> None:
    request = Request("m", system=(Text("s"),), turns=(Turn("user", (Text("q"),)),), wants_usage=True)

    assert DIALECT.read_request(DIALECT.write_request(request).body) == request


# ---- answers --------------------------------------------------------------------------------------------------------


def test_a_whole_answer_stands_in_the_envelope() -> None:
    body = DIALECT.write_answer(fold(HELLO), ECHO)

    answer = json.loads(body)
    assert answer.keys() == {"response"}
    assert answer["response"]["candidates"][0]["content"]["parts"] == [{"text": "Hi"}]
    assert fold(DIALECT.read_answer(body)).parts == fold(HELLO).parts


def test_every_chunk_stands_in_the_envelope() -> None:
    frames = written(*HELLO).split(b"\n\n")[:-1]

    assert all(frame.startswith(b'data: {"response":{"candidates":') for frame in frames)
    assert fold(read(written(*HELLO))).parts == fold(HELLO).parts


def test_the_array_form_is_one_array_of_envelopes() -> None:
    elements = json.loads(written(*HELLO, dialect=ARRAY))

    assert elements
    assert all(element.keys() == {"response"} for element in elements)


def test_parts_that_only_google_understands_survive() -> None:
    part = {"executableCode": {"language": "PYTHON", "code": "1"}}
    body = {"response": {"candidates": [{"content": {"parts": [part]}, "finishReason": "STOP"}]}}

    (opaque,) = [event for event in DIALECT.read_answer(json.dumps(body).encode()) if isinstance(event, OpaqueOut)]

    assert json.loads(opaque.data) == part


def test_a_passing_answer_gets_the_callers_name_of_the_model_and_keeps_the_rest() -> None:
    body = (
        b'{"response": {"candidates":[{"content":{"parts":[{"text":"x"}]},"finishReason":"STOP"}], '
        b'"modelVersion":"theirs", "usageMetadata":{"promptTokenCount":3}}, "traceId":"t"}'
    )

    passed, counted = passed_whole(DIALECT, body, "mine")
    usage = counted.usage()

    assert passed == body.replace(b"theirs", b"mine")
    assert usage is not None
    assert usage.input_total == 3


def test_a_passing_stream_gets_the_callers_name_of_the_model() -> None:
    flow = PassingFlow(DIALECT, "mine")

    out = flow.feed(stream_of("stream_text")) + flow.close()

    assert out == stream_of("stream_text").replace(b"gemini-2.5-pro", b"mine")


@pytest.mark.parametrize("response", [b"7", b"null", b"[]", b'{"usageMetadata":7}'])
def test_counts_that_cannot_be_read_are_none(response: bytes) -> None:
    assert DIALECT.read_usage({"response": Raw(response)}) is None
    assert DIALECT.read_usage({}) is None


def test_counts_are_read_in_the_envelope() -> None:
    counted = Raw(b'{"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":2}}')

    assert DIALECT.read_usage({"response": counted}) == Usage(input_total=3, output_total=2)


# ---- errors ---------------------------------------------------------------------------------------------------------


def test_errors_stand_in_no_envelope() -> None:
    frame = written(*HELLO[:3], Failed(LOST)).split(b"\n\n")[-2]

    assert json.loads(frame.removeprefix(b"data: "))["error"]["message"] == "gone"
    assert json.loads(DIALECT.write_error(LOST, ""))["error"]["code"] == 502
    assert DIALECT.write_stream_error(LOST) == b"data: " + DIALECT.write_error(LOST, "") + b"\n\n"


def test_in_the_array_form_an_error_is_its_last_element() -> None:
    *_, last = json.loads(written(*HELLO[:3], Failed(LOST), dialect=ARRAY))

    assert last["error"]["message"] == "gone"
    assert json.loads(ARRAY.write_stream_error(LOST))[0]["error"]["message"] == "gone"


def test_an_error_in_an_array_is_told_as_an_object() -> None:
    error = b'{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED","details":[]}}'

    problem = DIALECT.read_error(429, b"[" + error + b"]")

    assert problem.message == "m"
    assert DIALECT.write_error(problem, "") == error
    assert DIALECT.status_of(problem) == 429


@pytest.mark.parametrize("body", [b"[]", b"[", b"[7]", b"<html>", b"\xff", b""])
def test_any_body_becomes_a_problem(body: bytes) -> None:
    problem = DIALECT.read_error(500, body)

    assert problem.status == 500
    assert json.loads(DIALECT.write_error(problem, ""))["error"]["message"]


def test_an_error_inside_a_stream_is_seen() -> None:
    flow = PassingFlow(DIALECT)

    flow.feed(b'data: {"error":{"code":503,"message":"m","status":"UNAVAILABLE"}}\n\n')

    assert flow.problem is not None
    assert flow.problem.status == 503
