"""Code Assist, what the Gemini CLI speaks after a Google login: Gemini's requests and answers, each in an envelope.

    request   {"model", "project", "user_prompt_id", "request": {what Gemini takes}}
    answer    {"response": {what Gemini answers}, "traceId"}

Errors stand in no envelope. The model is in the body; the wish to stream is in the address. A request to count has its
model inside, and neither envelope member beside it.

Source: https://github.com/google-gemini/gemini-cli (packages/core/src/code_assist), checked 2026-11-24.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Raw, Struct, structs

from cliproxy.canon.answer import Answer
from cliproxy.canon.errors import GatewayError, MissingParameter, Problem
from cliproxy.canon.request import Request
from cliproxy.canon.usage import Usage
from cliproxy.dialects import gemini
from cliproxy.dialects.base import Echo, Opening, StreamWriter, Written
from cliproxy.wire import json

NAME = "gemini-cli"


class _Envelope(Struct):
    model: str | None = None
    request: Raw = Raw(b"null")


class _Named(Struct):
    model: str | None = None


class _Begun(Struct):
    request: gemini.Begun = gemini.Begun()


_envelope = msgspec.json.Decoder(_Envelope)
_named = msgspec.json.Decoder(_Named)
_begun = msgspec.json.Decoder(_Begun)
_list = msgspec.json.Decoder(list[Raw])

_OPENING, _CLOSING = b'{"response":', b"}"
_EVENTS = structs.replace(gemini.EVENTS, opening=_OPENING, closing=_CLOSING)
_ELEMENTS = structs.replace(gemini.ELEMENTS, opening=_OPENING, closing=_CLOSING)


def counted_model(body: bytes) -> str:
    """The model of a request to count; "" when it names none. Raises InvalidJson, InvalidRequest or MissingParameter."""
    envelope = json.decode_as(_envelope, body)
    return envelope.model or json.decode_as(_named, _inner(envelope)).model or ""


def _inner(envelope: _Envelope) -> bytes:
    request = bytes(envelope.request)
    if request == b"null":
        raise MissingParameter("`request` is required.", param="request")
    return request


def _first(body: bytes) -> bytes:
    """The error itself of one that came in an array, as on streams."""
    if not body.lstrip().startswith(b"["):
        return body
    try:
        return bytes(_list.decode(body)[0])
    except (msgspec.DecodeError, RecursionError, IndexError):
        return body


class GeminiCli(gemini.Gemini):
    """Parts and tools that only Google understands are Gemini's own: they pass between the two as they are."""

    name = NAME
    model_paths = (("response", "modelVersion"),)

    def read_request(self, body: bytes, *, model: str = "", is_stream: bool | None = None) -> Request:
        envelope = json.decode_as(_envelope, body)
        return super().read_request(_inner(envelope), model=model or envelope.model or "", is_stream=is_stream)

    def opening(self, body: bytes) -> Opening:
        return gemini.opening_of(json.decode_as(_begun, body).request)

    def write_request(self, request: Request) -> Written:
        """Without the project, which is the account's."""
        inner = super().write_request(request)
        return Written(json.encode({"model": request.model, "request": Raw(inner.body)}), inner.losses)

    def read_usage(self, members: Mapping[str, Raw]) -> Usage | None:
        try:
            return super().read_usage(json.members(members.get("response", Raw(b"{}"))))
        except GatewayError:
            return None

    def write_answer(self, answer: Answer, echo: Echo) -> bytes:
        return _OPENING + super().write_answer(answer, echo) + _CLOSING

    def writer(self, echo: Echo) -> StreamWriter:
        return gemini.writer_of(echo, _EVENTS)

    def read_error(self, status: int, body: bytes) -> Problem:
        return super().read_error(status, _first(body))


class GeminiCliArray(GeminiCli):
    """For callers that stream without `alt=sse`: one JSON array, written piecemeal."""

    stream_type = gemini.GeminiArray.stream_type
    is_framed = False

    def writer(self, echo: Echo) -> StreamWriter:
        return gemini.writer_of(echo, _ELEMENTS)

    def write_stream_error(self, problem: Problem) -> bytes:
        return b"[" + self.write_error(problem, "") + b"]"


DIALECT = GeminiCli()
ARRAY = GeminiCliArray()
