"""The simulated Chat Completions endpoint, of OpenAI itself and of the providers that copy it (`reasoning_content`).

Sources: https://platform.openai.com/docs/api-reference/chat, https://api-docs.deepseek.com/guides/reasoning_model,
checked 2026-10-20.
"""

import re
from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from cliproxy.simulator import openai_edge as edge
from cliproxy.simulator.answer import Ask, Call, Offer, Plan, pieces, plan
from cliproxy.simulator.exchange import (
    EVENT_STREAM,
    Break,
    Json,
    Received,
    Refused,
    Reply,
    Surface,
    read_misfit,
    sse,
    write_json,
)
from cliproxy.simulator.rules import DONE_FRAME
from cliproxy.simulator.schemas import openai_strict_fault

CallId = Annotated[str, Meta(min_length=1, max_length=64)]
Name = Annotated[str, Meta(pattern=edge.NAME)]
Schema = dict[str, Json]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]

_REFUSES_MAX_TOKENS = re.compile(r"^(o\d|gpt-[5-9])")
_FINISH = {"stop": "stop", "stop_sequence": "stop", "length": "length", "calls": "tool_calls"}


class _Wire(Struct, frozen=True, forbid_unknown_fields=True):
    pass


class _Part(_Wire, frozen=True, tag_field="type"):
    pass


class TextPart(_Part, frozen=True, tag="text"):
    text: str
    prompt_cache_breakpoint: Json = None


class RefusalPart(_Part, frozen=True, tag="refusal"):
    refusal: str


class ImageUrl(_Wire, frozen=True):
    url: str
    detail: Literal["auto", "low", "high", "original"] | None = None


class ImagePart(_Part, frozen=True, tag="image_url"):
    image_url: ImageUrl
    prompt_cache_breakpoint: Json = None


class Audio(_Wire, frozen=True):
    data: str
    format: Literal["wav", "mp3"]


class AudioPart(_Part, frozen=True, tag="input_audio"):
    input_audio: Audio


class File(_Wire, frozen=True):
    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class FilePart(_Part, frozen=True, tag="file"):
    file: File


UserPart = TextPart | ImagePart | AudioPart | FilePart
Texts = str | Annotated[list[TextPart], Meta(min_length=1)]


class FunctionCall(_Wire, frozen=True):
    name: Name
    arguments: str


class CustomCall(_Wire, frozen=True):
    name: Name
    input: str


class ToolCall(_Wire, frozen=True, tag_field="type", tag="function"):
    id: CallId
    function: FunctionCall


class CustomToolCall(_Wire, frozen=True, tag_field="type", tag="custom"):
    id: CallId
    custom: CustomCall


class _Message(_Wire, frozen=True, tag_field="role"):
    pass


class SystemMessage(_Message, frozen=True, tag="system"):
    content: Texts
    name: str | None = None


class DeveloperMessage(_Message, frozen=True, tag="developer"):
    content: Texts
    name: str | None = None


class UserMessage(_Message, frozen=True, tag="user"):
    content: str | Annotated[list[UserPart], Meta(min_length=1)]
    name: str | None = None


class AssistantMessage(_Message, frozen=True, tag="assistant"):
    content: str | list[TextPart | RefusalPart] | None = None
    tool_calls: Annotated[list[ToolCall | CustomToolCall], Meta(min_length=1)] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    name: str | None = None
    audio: Json = None
    annotations: Json = None
    function_call: None = None


class ToolMessage(_Message, frozen=True, tag="tool"):
    content: Texts
    tool_call_id: CallId


AnyMessage = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage


class Function(_Wire, frozen=True):
    name: Name
    description: str | None = None
    parameters: Schema | None = None
    strict: bool | None = None


class FunctionTool(_Wire, frozen=True, tag_field="type", tag="function"):
    function: Function


class Custom(_Wire, frozen=True):
    name: Name
    description: str | None = None
    format: Json = None


class CustomTool(_Wire, frozen=True, tag_field="type", tag="custom"):
    custom: Custom


class ChoiceName(_Wire, frozen=True):
    name: str


class ChoiceFunction(_Wire, frozen=True, tag_field="type", tag="function"):
    function: ChoiceName


class ChoiceCustom(_Wire, frozen=True, tag_field="type", tag="custom"):
    custom: ChoiceName


class Allowed(_Wire, frozen=True):
    mode: Literal["auto", "required"]
    tools: list[ChoiceFunction | ChoiceCustom]


class ChoiceAllowed(_Wire, frozen=True, tag_field="type", tag="allowed_tools"):
    allowed_tools: Allowed


class JsonSchema(_Wire, frozen=True):
    name: Name
    schema: Schema | None = None
    description: str | None = None
    strict: bool | None = None


class FormatText(_Part, frozen=True, tag="text"):
    pass


class FormatJson(_Part, frozen=True, tag="json_object"):
    pass


class FormatSchema(_Part, frozen=True, tag="json_schema"):
    json_schema: JsonSchema


class StreamOptions(_Wire, frozen=True):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Request(_Wire, frozen=True, kw_only=True):
    """The body, as far as the vendor documents it; parameters without an effect here are `Json`."""

    model: str
    messages: Annotated[list[AnyMessage], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    tools: Annotated[list[FunctionTool | CustomTool], Meta(min_length=1)] | None = None
    tool_choice: str | ChoiceFunction | ChoiceCustom | ChoiceAllowed | None = None
    parallel_tool_calls: bool | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1)] | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    stop: str | Annotated[list[str], Meta(max_length=4)] | None = None
    reasoning_effort: Effort | None = None
    response_format: FormatText | FormatJson | FormatSchema | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    seed: int | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    logit_bias: dict[str, float] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: Annotated[str, Meta(min_length=1)] | None = None
    store: bool | None = None
    metadata: dict[str, str] | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    modalities: list[str] | None = None
    audio: Json = None
    prediction: Json = None
    web_search_options: Json = None
    moderation: Json = None
    prompt_cache_options: Json = None
    prompt_cache_retention: str | None = None


_REQUEST = msgspec.json.Decoder(Request)


def complete(received: Received) -> Reply:
    """POST /v1/chat/completions."""
    request = _read(received)
    _check(request)
    answer = plan(_ask(request))
    if request.stream:
        frames = tuple(_stream(request, answer, received))
        return Reply(content_type=EVENT_STREAM, headers=edge.headers(received), frames=frames)
    return Reply(headers=edge.headers(received), frames=(write_json(_completion(request, answer, received)),))


def _broken(before: tuple[bytes, ...], fault: Break) -> bytes:
    return sse(edge.error_body(fault.status, fault.message, kind=fault.code))


def _unfinished(frames: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return tuple(frame for frame in frames if b'"finish_reason":"' not in frame)


SURFACE = Surface(vendor="openai-chat", admit=edge.admit, refuse=edge.refuse, broken=_broken, unfinished=_unfinished)


# --- what the vendor refuses ---


def _read(received: Received) -> Request:
    try:
        return _REQUEST.decode(received.body)
    except msgspec.ValidationError as error:
        raise edge.misfit(read_misfit(error)) from error
    except msgspec.DecodeError as error:
        raise edge.unparsable() from error


def _check(request: Request) -> None:
    _check_options(request)
    _check_tools(request)
    _check_pairing(request.messages)
    for index, message in enumerate(request.messages):
        if isinstance(message, AssistantMessage):
            empty = not (message.content or message.tool_calls or message.refusal or message.audio)
            if empty and message.content is None:
                raise _wrong(f"messages[{index}].content", "expected a string, got null", "invalid_type")
        elif isinstance(message, UserMessage) and not isinstance(message.content, str):
            _media(message.content, f"messages[{index}].content")


def _check_options(request: Request) -> None:
    if request.stream_options is not None and not request.stream:
        raise _wrong(
            "stream_options",
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
            "invalid_value",
        )
    if request.max_tokens is not None and request.max_completion_tokens is not None:
        raise _wrong(
            "max_tokens",
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
            "invalid_parameter_combination",
        )
    if request.max_tokens is not None and _REFUSES_MAX_TOKENS.match(request.model):
        raise _wrong(
            "max_tokens",
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
            "unsupported_parameter",
        )
    match request.response_format:
        case FormatSchema(json_schema=JsonSchema(schema=None)):
            raise _wrong(
                "response_format.json_schema.schema",
                "Missing required parameter: 'response_format.json_schema.schema'.",
                "missing_required_parameter",
            )
        case FormatSchema(json_schema=JsonSchema(name=name, schema=schema, strict=True)):
            fault = openai_strict_fault(schema)
            if fault:
                raise edge.strict_fault(
                    "response_format", f"response_format '{name}'", fault.message, "invalid_json_schema"
                )
        case FormatJson() if "json" not in " ".join(_prompt(request)).lower():
            raise _wrong(
                "messages",
                "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
                None,
            )
        case _:
            pass


def _check_tools(request: Request) -> None:
    if not request.tools:
        for name, value in (
            ("tool_choice", request.tool_choice),
            ("parallel_tool_calls", request.parallel_tool_calls),
        ):
            if value is not None and value != "none":
                raise _wrong(name, f"'{name}' is only allowed when 'tools' are specified.", None)
        return
    names: list[str] = []
    for index, tool in enumerate(request.tools):
        match tool:
            case FunctionTool(function=function):
                names.append(function.name)
                _check_function(function, f"tools[{index}].function.parameters")
            case CustomTool(custom=custom):
                names.append(custom.name)
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated:
        raise _wrong("tools", f"Tools must have unique names. Found a duplicate: '{repeated}'.", "invalid_value")
    for chosen in _chosen(request):
        if chosen not in names:
            raise _wrong("tool_choice", f"Tool choice '{chosen}' not found in 'tools' parameter.", None)


def _check_function(function: Function, place: str) -> None:
    schema = function.parameters
    if schema is None:
        return
    label = f"function '{function.name}'"
    if schema.get("type", "object" if not schema else None) != "object":
        message = f"schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{schema.get('type')}\"'."
        raise edge.strict_fault(place, label, message, "invalid_function_parameters")
    fault = openai_strict_fault(schema) if function.strict else None
    if fault:
        raise edge.strict_fault(place, label, fault.message, "invalid_function_parameters")


def _check_pairing(messages: list[AnyMessage]) -> None:
    """Tool messages stand directly behind the calls they answer, one for each id."""
    open_ids: list[str] = []
    place = ""
    for index, message in enumerate(messages):
        if isinstance(message, ToolMessage):
            if message.tool_call_id not in open_ids:
                raise _wrong(
                    f"messages.[{index}].role",
                    "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with 'tool_calls'.",
                    None,
                )
            open_ids.remove(message.tool_call_id)
            continue
        _check_answered(open_ids, place)
        if isinstance(message, AssistantMessage) and message.tool_calls:
            open_ids = [call.id for call in message.tool_calls]
            place = f"messages.[{index + 1}].role"
            if len(set(open_ids)) < len(open_ids):
                raise _wrong(f"messages[{index}].tool_calls", "Duplicate value for 'tool_call_id'.", "invalid_value")
    _check_answered(open_ids, place)


def _check_answered(open_ids: list[str], place: str) -> None:
    if open_ids:
        raise _wrong(
            place,
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. "
            f"The following tool_call_ids did not have response messages: {', '.join(open_ids)}",
            None,
        )


def _wrong(place: str, message: str, kind: str | None) -> Refused:
    return Refused(message, param=place, kind=kind)


# --- what the request asks ---


def _ask(request: Request) -> Ask:
    text: str | None = None
    topic = ""
    said: list[tuple[str, str]] = []
    media: tuple[str, ...] = ()
    names: dict[str, str] = {}
    for message in request.messages:
        match message:
            case AssistantMessage():
                names |= {call.id: _called(call)[0] for call in message.tool_calls or ()}
                text, said, media = None, [], ()
            case UserMessage(content=str(content)):
                text = topic = content
            case UserMessage(content=list(parts)):
                text = next((part.text for part in reversed(parts) if isinstance(part, TextPart)), text)
                topic = text or topic
                media += _media(parts, "")
            case ToolMessage():
                said.append((names[message.tool_call_id], _text(message.content)))
            case _:
                pass
    return Ask(
        text=text,
        topic=topic,
        said=tuple(said),
        media=media,
        system=tuple(_text(m.content) for m in request.messages if isinstance(m, SystemMessage | DeveloperMessage)),
        offers=() if request.tool_choice == "none" else _offers(request),
        forced=_forced(request),
        is_parallel=request.parallel_tool_calls is not False,
        thinks=request.reasoning_effort not in (None, "none"),
        schema=_schema(request),
        limit=request.max_completion_tokens or request.max_tokens,
        stops=(request.stop,) if isinstance(request.stop, str) else tuple(request.stop or ()),
        prompt=tuple(_prompt(request)),
    )


def _prompt(request: Request) -> Iterator[str]:
    for message in request.messages:
        content = message.content
        if isinstance(content, str):
            yield content
        for part in content if isinstance(content, list) else ():
            if isinstance(part, TextPart):
                yield part.text
        if isinstance(message, AssistantMessage):
            for call in message.tool_calls or ():
                yield " ".join(_called(call))
    for tool in request.tools or ():
        declared = tool.function if isinstance(tool, FunctionTool) else tool.custom
        yield f"{declared.name} {declared.description or ''}"


def _text(content: Texts) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)


def _called(call: ToolCall | CustomToolCall) -> tuple[str, str]:
    match call:
        case ToolCall(function=function):
            return function.name, function.arguments
        case CustomToolCall(custom=custom):
            return custom.name, custom.input


def _offers(request: Request) -> tuple[Offer, ...]:
    offers = tuple(
        Offer(tool.function.name, tool.function.parameters)
        if isinstance(tool, FunctionTool)
        else Offer(tool.custom.name, is_custom=True)
        for tool in request.tools or ()
    )
    allowed = _chosen(request) if isinstance(request.tool_choice, ChoiceAllowed) else ()
    return tuple(offer for offer in offers if offer.name in allowed) if allowed else offers


def _chosen(request: Request) -> tuple[str, ...]:
    match request.tool_choice:
        case ChoiceFunction(function=named) | ChoiceCustom(custom=named):
            return (named.name,)
        case ChoiceAllowed(allowed_tools=allowed):
            return tuple((t.function if isinstance(t, ChoiceFunction) else t.custom).name for t in allowed.tools)
        case None | "auto" | "none" | "required":
            return ()
        case str(word):
            raise _wrong(
                "tool_choice",
                f"Invalid value: '{word}'. Supported values are: 'none', 'auto', and 'required'.",
                "invalid_value",
            )


def _forced(request: Request) -> str | None:
    match request.tool_choice:
        case ChoiceFunction(function=named) | ChoiceCustom(custom=named):
            return named.name
        case "required" | ChoiceAllowed(allowed_tools=Allowed(mode="required")):
            return "*"
        case _:
            return None


def _schema(request: Request) -> Json:
    match request.response_format:
        case FormatSchema(json_schema=wanted):
            return wanted.schema
        case FormatJson():
            return {}
        case _:
            return None


def _media(parts: list[UserPart], place: str) -> tuple[str, ...]:
    found: list[str] = []
    for index, part in enumerate(parts):
        match part:
            case ImagePart(image_url=image):
                found.append(edge.medium(image.url, "image", f"{place}[{index}].image_url.url"))
            case AudioPart(input_audio=audio):
                url = f"data:audio/{audio.format};base64,{audio.data}"
                found.append(edge.medium(url, "audio", f"{place}[{index}].input_audio.data"))
            case FilePart(file=File(file_data=str(data))):
                found.append(edge.medium(data, "file", f"{place}[{index}].file.file_data"))
            case FilePart(file=file):
                if file.file_id is None:
                    raise _wrong(f"{place}[{index}].file", "Missing required parameter: 'file_id'.", None)
                found.append("file ID")
            case TextPart():
                pass
    return tuple(found)


# --- how the answer is written ---


def _completion(request: Request, answer: Plan, received: Received) -> dict[str, object]:
    calls = [_written(call, _call_id(received, index)) for index, call in enumerate(answer.calls)]
    message: dict[str, object] = {
        "role": "assistant",
        "content": answer.text if answer.text or not calls else None,
        "refusal": None,
        "annotations": [],
    }
    if answer.thought:
        message["reasoning_content"] = answer.thought
    if calls:
        message["tool_calls"] = calls
    choices = [
        {"index": index, "message": message, "logprobs": None, "finish_reason": _FINISH[answer.finish]}
        for index in range(request.n or 1)
    ]
    return {**_envelope(request, received, "chat.completion"), "choices": choices, "usage": _usage(answer)}


def _stream(request: Request, answer: Plan, received: Received) -> Iterator[bytes]:
    """Role, reasoning, text, calls, finish for each choice; then usage when asked; then `[DONE]`."""
    wants_usage = request.stream_options is not None and bool(request.stream_options.include_usage)
    envelope = _envelope(request, received, "chat.completion.chunk")
    tail = {"usage": None} if wants_usage else {}
    for index in range(request.n or 1):
        for delta in _deltas(answer, received):
            choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
            yield sse({**envelope, "choices": [choice], **tail})
        finish: dict[str, object] = {
            "index": index,
            "delta": {},
            "logprobs": None,
            "finish_reason": _FINISH[answer.finish],
        }
        yield sse({**envelope, "choices": [finish], **tail})
    if wants_usage:
        yield sse({**envelope, "choices": [], "usage": _usage(answer)})
    yield DONE_FRAME


def _deltas(answer: Plan, received: Received) -> Iterator[dict[str, object]]:
    yield {"role": "assistant", "content": "", "refusal": None}
    for piece in pieces(answer.thought):
        yield {"reasoning_content": piece}
    for piece in pieces(answer.text):
        yield {"content": piece}
    for index, call in enumerate(answer.calls):
        kind, field = ("custom", "input") if call.is_custom else ("function", "arguments")
        start = {"index": index, "id": _call_id(received, index), "type": kind, kind: {"name": call.name, field: ""}}
        yield {"tool_calls": [start]}
        for fragment in call.fragments():
            yield {"tool_calls": [{"index": index, kind: {field: fragment}}]}


def _envelope(request: Request, received: Received, kind: str) -> dict[str, object]:
    return {
        "id": f"chatcmpl-{received.seed[:29]}",
        "object": kind,
        "created": edge.CREATED,
        "model": request.model,
        "service_tier": "default",
        "system_fingerprint": "fp_simulated",
    }


def _written(call: Call, call_id: str) -> dict[str, object]:
    if call.is_custom:
        return {"id": call_id, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    return {"id": call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _call_id(received: Received, index: int) -> str:
    return f"call_{received.seed[:20]}{index:04d}"


def _usage(answer: Plan) -> dict[str, object]:
    return {
        "prompt_tokens": answer.input_words,
        "completion_tokens": answer.output_words,
        "total_tokens": answer.input_words + answer.output_words,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": answer.thought_words,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
