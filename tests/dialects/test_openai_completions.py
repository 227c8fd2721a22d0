"""The legacy completions dialect: a prompt in, text out, whole and streamed; the official SDK as reader."""

import json

import httpx2
import openai
import pytest

from cliproxy.canon.answer import Answer, unfold
from cliproxy.canon.errors import CallerFault, InvalidRequest, MissingParameter, Problem
from cliproxy.canon.events import Failed, Finish, PartStart, Start, TextDelta
from cliproxy.canon.parts import Reasoning, Refusal, Text, ToolCall, Turn
from cliproxy.canon.request import Limits, Meta, Request, Sampling
from cliproxy.canon.usage import Usage
from cliproxy.dialects.base import Echo
from cliproxy.dialects.openai_completions import DIALECT

ECHO = Echo("caller-model", Request("caller-model", wants_usage=True), "0123abcd", 1_700_000_000)
PLAIN_ECHO = Echo("caller-model", Request("caller-model"), "0123abcd", 1_700_000_000)
ANSWER = Answer(
    (Reasoning(("hm",)), Text("Hel"), ToolCall("c", "f", "{}"), Text("lo")),
    Finish("stop"),
    usage=Usage(9, 4, None, 3, 1),
)


def request_of(**fields: object) -> Request:
    return DIALECT.read_request(json.dumps({"model": "m", "prompt": "q", **fields}).encode())


def frames_of(data: bytes) -> list[dict[str, object]]:
    blocks = [block.removeprefix("data: ") for block in data.decode().split("\n\n") if block]
    return [json.loads(block) for block in blocks if block != "[DONE]"]


def client_for(body: bytes, kind: str) -> openai.OpenAI:
    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": kind}, content=body)

    transport = httpx2.MockTransport(answer)
    return openai.OpenAI(
        api_key="k", base_url="http://x/v1", max_retries=0, http_client=httpx2.Client(transport=transport)
    )


# ---- requests -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", ["once upon", ["once upon"]])
def test_a_prompt_is_one_turn_of_the_user(prompt: object) -> None:
    assert request_of(prompt=prompt).turns == (Turn("user", (Text("once upon"),)),)


@pytest.mark.parametrize("prompt", [["a", "b"], [], [1, 2], [[1, 2]], [[1], [2]]])
def test_lists_of_prompts_and_tokens_are_refused_by_name(prompt: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        request_of(prompt=prompt)

    assert caught.value.problem.param == "prompt"


def test_a_prompt_is_required() -> None:
    for body in (b'{"model":"m"}', b'{"model":"m","prompt":null}'):
        with pytest.raises(MissingParameter):
            DIALECT.read_request(body)


@pytest.mark.parametrize("fields", [{"suffix": "x"}, {"echo": True}, {"best_of": 2}, {"n": 2}])
def test_what_no_conversation_can_do_is_refused_by_name(fields: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        request_of(**fields)

    assert caught.value.problem.param == next(iter(fields))


def test_defaults_said_aloud_change_nothing() -> None:
    assert request_of(suffix="", echo=False, best_of=1, n=1, stop=None, logit_bias=None) == request_of()


@pytest.mark.parametrize(
    ("fields", "param"), [({"prompt": 7}, ""), ({"temperature": "x"}, "temperature"), ({"stop": 3}, "stop")]
)
def test_a_wrong_type_is_the_callers_fault(fields: dict[str, object], param: str) -> None:
    with pytest.raises(CallerFault) as caught:
        request_of(**fields)

    assert caught.value.problem.param == param


def test_every_wish_is_read_and_the_rest_is_dropped_by_name() -> None:
    request = request_of(
        stream=True,
        stream_options={"include_usage": True},
        max_tokens=5,
        temperature=0.5,
        top_p=0.9,
        presence_penalty=0.1,
        frequency_penalty=0.2,
        seed=3,
        logit_bias={"1": 2},
        stop=["a", "b"],
        user="u",
        logprobs=5,
    )

    assert request == Request(
        "m",
        is_stream=True,
        turns=(Turn("user", (Text("q"),)),),
        sampling=Sampling(0.5, 0.9, None, 0.1, 0.2, 3, '{"1":2}'),
        limits=Limits(5, ("a", "b")),
        meta=Meta("u"),
        wants_usage=True,
        dropped=("logprobs",),
    )


# ---- answers --------------------------------------------------------------------------------------------------------


def test_the_official_sdk_reads_a_whole_answer() -> None:
    with client_for(DIALECT.write_answer(ANSWER, ECHO), "application/json") as client:
        answer = client.completions.create(model="m", prompt="q")

    assert (answer.choices[0].text, answer.choices[0].finish_reason, answer.model) == ("Hello", "stop", "caller-model")
    assert answer.usage.total_tokens == 12


def test_the_official_sdk_reads_a_stream_with_its_usage() -> None:
    body = DIALECT.writer(ECHO).push(unfold(ANSWER))

    with client_for(body, "text/event-stream") as client:
        chunks = list(client.completions.create(model="m", prompt="q", stream=True))

    assert body.endswith(b"data: [DONE]\n\n")
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == "Hello"
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices] == [None, None, "stop"]
    assert chunks[-1].usage.total_tokens == 12
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1


def test_usage_is_written_only_when_asked_for_and_known() -> None:
    silent = DIALECT.writer(PLAIN_ECHO).push(unfold(ANSWER))
    unknown = DIALECT.writer(ECHO).push([Start(), Finish("stop")])

    assert all(frame["choices"] and "usage" not in frame for frame in frames_of(silent) + frames_of(unknown))
    assert "usage" not in json.loads(DIALECT.write_answer(Answer((), Finish("stop")), ECHO))


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("stop", "stop"),
        ("tool_calls", "stop"),
        ("length", "length"),
        ("context_overflow", "length"),
        ("refusal", "content_filter"),
    ],
)
def test_a_finish_has_one_of_three_words(reason: str, word: str) -> None:
    answer = Answer((Text("a"),), Finish(reason))

    assert json.loads(DIALECT.write_answer(answer, ECHO))["choices"][0]["finish_reason"] == word
    assert frames_of(DIALECT.writer(ECHO).push(unfold(answer)))[-1]["choices"][0]["finish_reason"] == word


def test_the_words_of_a_refusal_are_no_completion() -> None:
    answer = Answer((Refusal("no"), Text("a")), Finish("refusal"))

    streamed = frames_of(DIALECT.writer(ECHO).push(unfold(answer)))

    assert "".join(frame["choices"][0]["text"] for frame in streamed) == "a"
    assert json.loads(DIALECT.write_answer(answer, ECHO))["choices"][0]["text"] == "a"


def test_an_error_inside_the_stream_reaches_the_sdk_and_ends_it() -> None:
    writer = DIALECT.writer(ECHO)
    events = [Start(), PartStart(0, "text"), TextDelta(0, "a"), Failed(Problem("overloaded", 503, "Too much."))]
    body = writer.push(events)

    assert writer.push([TextDelta(0, "b"), Finish("stop")]) == b""
    with client_for(body, "text/event-stream") as client, pytest.raises(openai.APIError, match="Too much"):
        list(client.completions.create(model="m", prompt="q", stream=True))


def test_keepalives_are_comments() -> None:
    assert DIALECT.writer(ECHO).keepalive() == b": keepalive\n\n"


def test_errors_are_those_of_chat() -> None:
    error = json.loads(DIALECT.write_error(Problem("model_not_found", 404, "No such model.", param="model"), "req"))

    assert error["error"]["code"] == "model_not_found"
