"""OpenAI's legacy text completions, for callers only: a prompt goes in as one user turn, text comes out.

Source: https://platform.openai.com/docs/api-reference/completions, checked 2026-11-24.

Upstreams are never spoken to in this dialect, so it only reads requests and writes answers; everything else is Chat's.
"""

import msgspec
from msgspec import Raw, Struct, structs

from cliproxy.canon.answer import Answer
from cliproxy.canon.errors import InvalidRequest, MissingParameter
from cliproxy.canon.events import Event, Failed, Finish, FinishReason, PartStart, Start, TextDelta, UsageSeen
from cliproxy.canon.parts import Text, Turn, text_of
from cliproxy.canon.request import Limits, Meta, Request, Sampling
from cliproxy.canon.usage import Usage
from cliproxy.dialects import openai_chat
from cliproxy.dialects.base import Echo
from cliproxy.wire import json

NAME = "openai-completions"


class _StreamOptions(Struct):
    include_usage: bool | None = None


class _Request(Struct):
    model: str = ""
    prompt: Raw = Raw(b"null")
    suffix: str | None = None
    best_of: int | None = None
    n: int | None = None
    echo: bool | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    logit_bias: Raw = Raw(b"null")
    stop: str | list[str] | None = None
    user: str | None = None


_decode_request = msgspec.json.Decoder(_Request)
_KNOWN_FIELDS = frozenset(_Request.__struct_fields__)
_decode_prompt = msgspec.json.Decoder(str | list[str | int | list[int]] | None)
_FINISH: dict[FinishReason, str] = {
    "length": "length",
    "context_overflow": "length",
    "content_filter": "content_filter",
    "refusal": "content_filter",
    "recitation": "content_filter",
}


def _read_request(body: bytes) -> Request:
    wire = json.decode_as(_decode_request, body)
    if wire.suffix or wire.echo:
        name = "suffix" if wire.suffix else "echo"
        raise InvalidRequest(f"`{name}` is not supported here.", param=name)
    for name, count in (("n", wire.n), ("best_of", wire.best_of)):
        if (count or 1) > 1:
            raise InvalidRequest(f"Only one completion per request is supported: `{name}` is too large.", param=name)
    bias = bytes(wire.logit_bias)
    stop = (wire.stop,) if isinstance(wire.stop, str) else tuple(wire.stop or ())
    return Request(
        model=wire.model,
        is_stream=bool(wire.stream),
        turns=(Turn("user", (Text(_prompt(wire.prompt)),)),),
        sampling=Sampling(
            wire.temperature,
            wire.top_p,
            presence_penalty=wire.presence_penalty,
            frequency_penalty=wire.frequency_penalty,
            seed=wire.seed,
            logit_bias="" if bias == b"null" else json.compact(bias),
        ),
        meta=Meta(end_user=wire.user or ""),
        limits=Limits(wire.max_tokens, stop),
        wants_usage=bool(wire.stream_options and wire.stream_options.include_usage),
        dropped=tuple(sorted(json.members(body).keys() - _KNOWN_FIELDS)),
    )


def _prompt(raw: Raw) -> str:
    prompt = json.decode_as(_decode_prompt, raw)
    if prompt is None:
        raise MissingParameter("`prompt` is required.", param="prompt")
    if isinstance(prompt, str):
        return prompt
    if len(prompt) != 1 or not isinstance(prompt[0], str):
        raise InvalidRequest(
            "`prompt` must be one text; lists of prompts and tokens are not supported.", param="prompt"
        )
    return prompt[0]


def _object(echo: Echo, created: int, choices: list[object]) -> dict[str, object]:
    return {
        "id": f"cmpl-{echo.seed}",
        "object": "text_completion",
        "created": created or echo.now_at,
        "model": echo.model,
        "choices": choices,
    }


def _choice(text: str, finish: str | None) -> dict[str, object]:
    return {"text": text, "index": 0, "logprobs": None, "finish_reason": finish}


class CompletionsWriter:
    """Events to chunks of text; reasoning and calls have no place in them."""

    def __init__(self, echo: Echo) -> None:
        self._echo = echo
        self._created = 0
        self._refusals: set[int] = set()
        self._usage: Usage | None = None
        self._is_over = False

    def push(self, events: list[Event]) -> bytes:
        return b"".join([self._event(event) for event in events])

    def keepalive(self) -> bytes:
        return openai_chat.DIALECT.keepalive

    def _event(self, event: Event) -> bytes:
        if self._is_over:
            return b""
        match event:
            case PartStart(part, "refusal"):
                self._refusals.add(part)
                return b""
            case TextDelta(part, text) if part not in self._refusals:
                return self._chunk([_choice(text, None)])
            case Start(created=created):
                self._created = created
                return b""
            case UsageSeen(usage):
                self._usage = usage if self._usage is None else self._usage.merged(usage)
                return b""
            case Finish(reason):
                self._is_over = True
                return self._end(reason)
            case Failed(problem):
                self._is_over = True
                return openai_chat.DIALECT.write_stream_error(problem)
            case _:
                return b""

    def _end(self, reason: FinishReason) -> bytes:
        out = self._chunk([_choice("", _FINISH.get(reason, "stop"))])
        if self._echo.request.wants_usage and self._usage is not None:
            out += self._chunk([], openai_chat.write_usage(self._usage))
        return out + b"data: [DONE]\n\n"

    def _chunk(self, choices: list[object], usage: dict[str, object] | None = None) -> bytes:
        body = _object(self._echo, self._created, choices)
        if usage is not None:
            body["usage"] = usage
        return b"data: " + json.encode(body) + b"\n\n"


class OpenAICompletions(openai_chat.OpenAIChat):
    """Chat's errors and lists; its own requests and answers."""

    name = NAME

    def read_request(self, body: bytes, *, model: str = "", is_stream: bool | None = None) -> Request:
        request = _read_request(body)
        return structs.replace(
            request, model=model or request.model, is_stream=request.is_stream if is_stream is None else is_stream
        )

    def write_answer(self, answer: Answer, echo: Echo) -> bytes:
        finish = _FINISH.get(answer.finish.reason, "stop")
        body = _object(echo, answer.created, [_choice(text_of(answer.parts), finish)])
        if answer.usage is not None:
            body["usage"] = openai_chat.write_usage(answer.usage)
        return json.encode(body)

    def writer(self, echo: Echo) -> CompletionsWriter:  # pyright: ignore[reportIncompatibleMethodOverride]
        return CompletionsWriter(echo)


DIALECT = OpenAICompletions()
