"""OpenAI Chat Completions.

Sources: https://platform.openai.com/docs/api-reference/chat and .../chat-streaming, checked 2026-11-24; the
`reasoning_content`, `reasoning` and `cache_control` fields are those of DeepSeek, OpenRouter and their kin;
`extra_content.google.thought_signature` is that of Google's compatible endpoint.

The dialect is the weak one of the family: an assistant message holds one text, one reasoning text and one list of
calls, so their order is lost on writing and taken as reasoning, text, calls on reading.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Literal, cast

import msgspec
from msgspec import Raw, Struct, field

from cliproxy.canon import custom_tools
from cliproxy.canon.answer import Answer, unfold
from cliproxy.canon.carrier import seal, unseal
from cliproxy.canon.errors import BrokenAnswer, InvalidRequest, MissingParameter, Problem
from cliproxy.canon.events import (
    ArgsDelta,
    Event,
    Failed,
    Finish,
    FinishReason,
    MediaOut,
    PartEnd,
    PartKind,
    PartStart,
    ReasoningDelta,
    Signed,
    Start,
    TextDelta,
    UsageSeen,
)
from cliproxy.canon.fit import Fit
from cliproxy.canon.losses import Loss
from cliproxy.canon.models import ModelEntry
from cliproxy.canon.parts import (
    Audio,
    Cache,
    Document,
    Image,
    Media,
    Part,
    Reasoning,
    Refusal,
    Role,
    Signature,
    Text,
    ToolCall,
    ToolResult,
    Turn,
    Video,
)
from cliproxy.canon.request import (
    Limits,
    Meta,
    OutputFormat,
    Request,
    Sampling,
    Thinking,
    Tool,
    ToolChoice,
)
from cliproxy.canon.thinking import LEVELS, level_of
from cliproxy.canon.usage import Usage
from cliproxy.dialects.base import Echo, Written
from cliproxy.wire import json, json_schema, openai_errors, openai_models
from cliproxy.wire.media import data_url, media_at, media_of, mime_of
from cliproxy.wire.sse import Frame, FrameReader, data_frame

NAME = "openai-chat"

# ---- wire shapes ----------------------------------------------------------------------------------------------------


class _Function(Struct):
    name: str | None = None
    arguments: Raw = Raw(b'""')
    input: str | None = None


class _Google(Struct):
    thought_signature: str = ""


class _Extra(Struct):
    google: _Google = field(default_factory=_Google)


class _Call(Struct):
    id: str | None = None
    type: str | None = None
    index: int | None = None
    function: _Function | None = None
    custom: _Function | None = None
    extra_content: _Extra | None = None


class _CacheControl(Struct):
    type: str = ""
    ttl: str = ""


class _Message(Struct):
    role: str = ""
    content: "str | list[_ContentPart] | None" = None
    name: str | None = None
    tool_calls: list[_Call] | None = None
    tool_call_id: str | None = None
    function_call: _Function | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: Raw = Raw(b"null")
    extra_content: _Extra | None = None
    cache_control: _CacheControl | None = None


class _Url(Struct):
    url: str
    detail: str | None = None


class _InputAudio(Struct):
    data: str
    format: str = "wav"


class _File(Struct):
    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class _ContentPart(Struct):
    type: str = ""
    text: str | None = None
    refusal: str | None = None
    image_url: _Url | str | None = None
    video_url: _Url | str | None = None
    input_audio: _InputAudio | None = None
    file: _File | None = None
    cache_control: _CacheControl | None = None


class _FunctionTool(Struct):
    name: str
    description: str | None = None
    parameters: Raw = Raw(b"null")
    strict: bool | None = None
    format: Raw = Raw(b"null")


class _Tool(Struct):
    type: str = "function"
    function: _FunctionTool | None = None
    custom: _FunctionTool | None = None
    cache_control: _CacheControl | None = None


class _StreamOptions(Struct):
    include_usage: bool | None = None


class _JsonSchema(Struct):
    name: str | None = None
    description: str | None = None
    schema: Raw = Raw(b"null")
    strict: bool | None = None


class _ResponseFormat(Struct):
    type: str = "text"
    json_schema: _JsonSchema | None = None


class _VendorThinking(Struct):
    type: str | None = None
    budget_tokens: int | None = None
    effort: str | None = None
    max_tokens: int | None = None
    exclude: bool | None = None
    enabled: bool | None = None


class _Request(Struct):
    model: str = ""
    messages: list[_Message] | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    tools: list[_Tool] | None = None
    functions: list[_FunctionTool] | None = None
    tool_choice: Raw = Raw(b"null")
    function_call: Raw = Raw(b"null")
    parallel_tool_calls: bool | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: str | list[str] | None = None
    n: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    logit_bias: Raw = Raw(b"null")
    logprobs: bool | None = None
    top_logprobs: int | None = None
    reasoning_effort: str | None = None
    reasoning: _VendorThinking | None = None
    thinking: _VendorThinking | None = None
    enable_thinking: bool | None = None
    response_format: _ResponseFormat | None = None
    verbosity: str | None = None
    user: str | None = None
    safety_identifier: str | None = None
    metadata: Raw = Raw(b"null")
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    store: bool | None = None


class _Choice(Struct):
    index: int | None = None
    delta: "_Delta | None" = None
    message: "_Delta | None" = None
    finish_reason: str | None = None


class _Delta(Struct):
    content: str | list[_ContentPart] | None = None
    reasoning_content: str | None = None
    reasoning: Raw = Raw(b"null")
    extra_content: _Extra | None = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = None
    function_call: _Function | None = None


class _PromptDetails(Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class _CompletionDetails(Struct):
    reasoning_tokens: int | None = None


class _Usage(Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None


class _Chunk(Struct):
    id: str | None = None
    model: str | None = None
    created: float | None = None
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Raw = Raw(b"null")


_decode_request = msgspec.json.Decoder(_Request)
_decode_chunk = msgspec.json.Decoder(_Chunk)
_decode_strings = msgspec.json.Decoder(str)
_KNOWN_FIELDS = frozenset(_Request.__struct_fields__)
_SILENT_FIELDS = frozenset({"stream_options", "include_reasoning", "reasoning", "extra_body"})

# ---- vocabulary -----------------------------------------------------------------------------------------------------

_FINISH_READ: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}
_FINISH_WRITTEN: dict[FinishReason, str] = {
    "stop": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "context_overflow": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "refusal": "content_filter",
    "recitation": "content_filter",
    "pause": "stop",
}
_ROLES: dict[str, Role] = {
    "user": "user",
    "assistant": "assistant",
    "system": "system",
    "developer": "developer",
    "tool": "user",
    "function": "user",
}
_CHOICES: dict[str, ToolChoice] = {
    "auto": ToolChoice("auto"),
    "none": ToolChoice("none"),
    "required": ToolChoice("required"),
    "any": ToolChoice("required"),
}
_AUDIO_FORMATS = {"audio/wav": "wav", "audio/mpeg": "mp3"}
_TIERS = frozenset({"auto", "default", "flex", "priority"})

# ---- requests -------------------------------------------------------------------------------------------------------


def _read_request(body: bytes) -> Request:
    wire = json.decode_as(_decode_request, body)
    if wire.messages is None:
        raise MissingParameter("`messages` is required.", param="messages")
    unknown = sorted(json.members(body).keys() - _KNOWN_FIELDS - _SILENT_FIELDS)
    turns: list[Turn] = []
    for index, message in enumerate(wire.messages):
        turn = _read_message(message, f"messages[{index}]")
        if turns and _is_result(turn) and _is_result(turns[-1]):
            turns[-1] = Turn("user", turns[-1].parts + turn.parts)
        else:
            turns.append(turn)
    return Request(
        model=wire.model,
        is_stream=bool(wire.stream),
        turns=tuple(turns),
        tools=_read_tools(wire),
        tool_choice=_read_choice(wire),
        parallel_calls=wire.parallel_tool_calls,
        sampling=Sampling(
            wire.temperature,
            wire.top_p,
            wire.top_k,
            wire.presence_penalty,
            wire.frequency_penalty,
            wire.seed,
            _text_of(wire.logit_bias),
            wire.logprobs,
            wire.top_logprobs,
        ),
        limits=Limits(
            wire.max_tokens if wire.max_completion_tokens is None else wire.max_completion_tokens,
            _stops(wire.stop),
            wire.n,
        ),
        thinking=_read_thinking(wire),
        output=_read_output(wire.response_format),
        meta=Meta(
            end_user=wire.safety_identifier or wire.user or "",
            metadata=_text_of(wire.metadata),
            service_tier=wire.service_tier or "",
            cache_key=wire.prompt_cache_key or "",
            verbosity=wire.verbosity or "",
            store=wire.store,
        ),
        wants_usage=bool(wire.stream_options and wire.stream_options.include_usage),
        dropped=tuple(unknown),
    )


def _is_result(turn: Turn) -> bool:
    return all(isinstance(part, ToolResult) for part in turn.parts)


def _stops(stop: str | list[str] | None) -> tuple[str, ...]:
    if stop is None:
        return ()
    return (stop,) if isinstance(stop, str) else tuple(stop)


def _text_of(raw: Raw) -> str:
    """The JSON text of a carried subtree, "" for null."""
    data = bytes(raw)
    return "" if data == b"null" else json.compact(data)


def _read_message(message: _Message, path: str) -> Turn:
    role = _ROLES.get(message.role)
    if role is None:
        raise InvalidRequest(f"`{path}.role` must be one of {', '.join(_ROLES)}.", param=f"{path}.role")
    content = _read_content(message.content, path)
    if message.role in ("tool", "function"):
        call_id = (message.tool_call_id or "").strip()
        return Turn("user", (ToolResult(call_id, content, message.name or "", cache=_cache(message.cache_control)),))
    parts: list[Part] = []
    if role == "assistant":
        parts += _read_reasoning(message.reasoning_content, message.reasoning)
    parts += content
    if message.refusal:
        parts.append(Refusal(message.refusal))
    parts += [_read_call(call, f"{path}.tool_calls[{i}]") for i, call in enumerate(message.tool_calls or ())]
    if message.function_call is not None and message.function_call.name:
        parts.append(ToolCall("", message.function_call.name, _arguments(message.function_call.arguments)))
    return Turn(role, tuple(_marked(parts, _cache(message.cache_control))), name=message.name or "")


def _read_reasoning(content: str | None, vendor: Raw) -> list[Part]:
    text = content or _string(vendor)
    return [Reasoning((text,))] if text else []


def _string(raw: Raw) -> str:
    """A JSON string's text; "" for any other value."""
    return _decode_strings.decode(raw) if bytes(raw)[:1] == b'"' else ""


def _marked(parts: list[Part], cache: Cache | None) -> list[Part]:
    """`parts` with a message's own breakpoint on the last part that can carry one."""
    if cache is not None and parts and isinstance(parts[-1], Text | Image | Document | ToolCall):
        parts[-1] = msgspec.structs.replace(parts[-1], cache=cache)
    return parts


def _cache(wire: _CacheControl | None) -> Cache | None:
    return None if wire is None else Cache(wire.ttl)


def _read_content(content: str | list[_ContentPart] | None, path: str) -> tuple[Part, ...]:
    if content is None:
        return ()
    if isinstance(content, str):
        return (Text(content),)
    return tuple(_read_part(part, f"{path}.content[{index}]") for index, part in enumerate(content))


def _read_part(part: _ContentPart, path: str) -> Part:
    cache = _cache(part.cache_control)
    match part.type:
        case "text" | "input_text" | "output_text" if part.text is not None:
            return Text(part.text, cache)
        case "refusal":
            return Refusal(part.refusal or "")
        case "image_url" if part.image_url is not None:
            return Image(_located(part.image_url, path), _detail(part.image_url), cache)
        case "video_url" if part.video_url is not None:
            return Video(_located(part.video_url, path))
        case "input_audio" if part.input_audio is not None:
            return Audio(_held(part.input_audio.data, f"audio/{part.input_audio.format}", path))
        case "file" if part.file is not None:
            return _read_file(part.file, path, cache)
        case _:
            raise InvalidRequest(f"`{path}` is not a content part that this gateway knows.", param=path)


def _located(value: _Url | str, path: str) -> Media:
    media = media_at(value if isinstance(value, str) else value.url)
    if media is None:
        raise InvalidRequest(f"`{path}` holds no usable URL.", param=path)
    return media


def _detail(value: _Url | str) -> str:
    return "" if isinstance(value, str) else value.detail or ""


def _held(data: str, mime: str, path: str, filename: str = "") -> Media:
    media = media_at(data) if data.startswith("data:") else media_of(data, mime_of(mime), filename)
    if media is None:
        raise InvalidRequest(f"`{path}` holds no valid base64.", param=path)
    return media


def _read_file(file: _File, path: str, cache: Cache | None) -> Part:
    filename = file.filename or ""
    if file.file_data is None:
        return Document(Media(file_id=file.file_id or ""), filename=filename, cache=cache)
    media = _held(file.file_data, "", path, filename)
    return Image(media, cache=cache) if media.mime.startswith("image/") else Document(media, "", filename, cache=cache)


def _read_call(call: _Call, path: str) -> ToolCall:
    call_id = (call.id or "").strip()
    if call.custom is not None and call.custom.name:
        return ToolCall(call_id, call.custom.name, call.custom.input or "", is_custom=True)
    if call.function is None or not call.function.name:
        raise InvalidRequest(f"`{path}` names no function.", param=path)
    return ToolCall(
        call_id, call.function.name, _arguments(call.function.arguments), signature=_signature(call.extra_content)
    )


def _arguments(raw: Raw) -> str:
    """Arguments as text: the string's content, or the JSON itself where a server sends an object."""
    data = bytes(raw)
    if data[:1] == b'"':
        return _decode_strings.decode(data)
    return "" if data == b"null" else data.decode()


def _signature(extra: _Extra | None) -> Signature | None:
    if extra is None or not extra.google.thought_signature:
        return None
    value = extra.google.thought_signature
    return unseal(value) or Signature(value, "google")


def _read_tools(wire: _Request) -> tuple[Tool, ...]:
    tools: dict[str, Tool] = {}
    for index, tool in enumerate(wire.tools or ()):
        function = tool.custom if tool.type == "custom" else tool.function
        if function is None:
            read = Tool(tool.type, "opaque", dialect=NAME)
        elif tool.type == "custom":
            read = Tool(function.name, "custom", function.description or "", format=_text_of(function.format))
        else:
            read = _read_function(function, _cache(tool.cache_control))
        if not read.name:
            raise InvalidRequest(f"`tools[{index}]` has no name.", param=f"tools[{index}]")
        tools.setdefault(read.name, read)
    for function in wire.functions or ():
        tools.setdefault(function.name, _read_function(function, None))
    return tuple(tools.values())


def _read_function(function: _FunctionTool, cache: Cache | None) -> Tool:
    schema = bytes(function.parameters)
    return Tool(
        function.name,
        description=function.description or "",
        schema="" if schema == b"null" else schema.decode(),
        is_strict=function.strict,
        cache=cache,
    )


def _read_choice(wire: _Request) -> ToolChoice | None:
    raw = wire.tool_choice if bytes(wire.tool_choice) != b"null" else wire.function_call
    value = cast("object", msgspec.json.decode(raw))
    if value is None:
        return None
    if isinstance(value, str):
        if value not in _CHOICES:
            raise InvalidRequest(f"`tool_choice` must be one of {', '.join(_CHOICES)}.", param="tool_choice")
        return _CHOICES[value]
    names = tuple(_names_in(value))
    if isinstance(value, Mapping):
        allowed = cast("Mapping[str, object]", value).get("allowed_tools")
        if isinstance(allowed, Mapping):
            mode = cast("Mapping[str, object]", allowed).get("mode")
            return ToolChoice("allowed_required" if mode == "required" else "allowed_auto", names)
    if not names:
        raise InvalidRequest("`tool_choice` names no tool.", param="tool_choice")
    return ToolChoice("one", names[:1])


def _names_in(value: object) -> Iterable[str]:
    """Every `name` inside a tool choice, whichever of its nested forms was used."""
    if isinstance(value, Mapping):
        for key, member in cast("Mapping[str, object]", value).items():
            if key == "name" and isinstance(member, str):
                yield member
            else:
                yield from _names_in(member)
    elif isinstance(value, list):
        for member in cast("list[object]", value):
            yield from _names_in(member)


def _read_thinking(wire: _Request) -> Thinking:
    vendor = wire.reasoning or wire.thinking
    is_shown = None if vendor is None or vendor.exclude is None else not vendor.exclude
    effort = (wire.reasoning_effort or (vendor.effort if vendor else None) or "").strip().lower()
    if effort in LEVELS:
        return Thinking("off" if effort == "none" else "level", "" if effort == "none" else effort, 0, is_shown)
    if wire.enable_thinking is False or (vendor and (vendor.type == "disabled" or vendor.enabled is False)):
        return Thinking("off", is_shown=is_shown)
    budget = (vendor.budget_tokens or vendor.max_tokens) if vendor else None
    if budget:
        return Thinking("budget", budget=budget, is_shown=is_shown)
    if wire.enable_thinking or (vendor and (vendor.type in ("enabled", "adaptive") or vendor.enabled)):
        return Thinking("auto", is_shown=is_shown)
    return Thinking(is_shown=is_shown)


def _read_output(wire: _ResponseFormat | None) -> OutputFormat:
    if wire is None or wire.type == "text":
        return OutputFormat()
    inner = wire.json_schema
    if wire.type == "json_schema" and inner is not None and bytes(inner.schema) != b"null":
        schema = bytes(inner.schema).decode()
        return OutputFormat("schema", schema, inner.name or "", inner.description or "", inner.strict)
    return OutputFormat("json")


def _write_request(request: Request, length_field: str) -> Written:
    losses: list[Loss] = [Loss(path, "Chat Completions has no such field") for path in request.dropped]
    body: dict[str, object] = {"model": request.model, "messages": _write_messages(request)}
    if request.is_stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    tools = [_write_tool(tool) for tool in request.tools if tool.kind != "opaque"]
    if tools:
        body["tools"] = tools
        if request.tool_choice is not None:
            body["tool_choice"] = _write_choice(request.tool_choice, request.tools)
        if request.parallel_calls is not None:
            body["parallel_tool_calls"] = request.parallel_calls
    if request.limits.max_output_tokens is not None:
        body[length_field] = request.limits.max_output_tokens
    if request.limits.stop:
        body["stop"] = list(request.limits.stop[:4])
        if len(request.limits.stop) > 4:
            losses.append(Loss("limits.stop", "at most four stop sequences are allowed", "approximated"))
    _write_sampling(request.sampling, body, losses)
    _write_thinking(request.thinking, body)
    _write_output(request.output, body)
    _write_meta(request.meta, body, losses)
    return Written(json.encode(body), tuple(losses))


def _write_messages(request: Request) -> list[object]:
    messages: list[object] = []
    if request.system:
        messages.append({"role": "system", "content": "\n\n".join(block.text for block in request.system)})
    for turn in request.turns:
        if turn.role == "assistant":
            messages.append(_write_assistant(turn))
            continue
        messages += [_write_result(part) for part in turn.parts if isinstance(part, ToolResult)]
        rest: list[Part] = [part for part in turn.parts if not isinstance(part, ToolResult)]
        if rest:
            named = {"name": turn.name} if turn.name else {}
            messages.append({"role": turn.role, "content": _write_content(rest), **named})
    return messages


def _write_content(parts: list[Part]) -> object:
    if len(parts) == 1 and isinstance(parts[0], Text):
        return parts[0].text
    return [written for part in parts if (written := _write_part(part)) is not None]


def _write_part(part: Part) -> dict[str, object] | None:
    match part:
        case Text(text) | Refusal(text):
            return {"type": "text", "text": text}
        case Image(media, detail):
            return {
                "type": "image_url",
                "image_url": {"url": data_url(media), **({"detail": detail} if detail else {})},
            }
        case Audio(media):
            sound = {"data": media.data, "format": _AUDIO_FORMATS.get(media.mime, media.mime.rpartition("/")[2])}
            return {"type": "input_audio", "input_audio": sound}
        case Document(text=text) if text:
            return {"type": "text", "text": _document_text(part)}
        case Document(media):
            file: dict[str, object] = {"filename": part.filename or part.title or "document.pdf"}
            file.update({"file_data": data_url(media)} if media.data else {"file_id": media.file_id or media.url})
            return {"type": "file", "file": file}
        case _:
            return None


def _document_text(document: Document) -> str:
    heading = document.title or document.filename
    return "\n".join(text for text in (f"# {heading}" if heading else "", document.context, document.text) if text)


def _write_assistant(turn: Turn) -> dict[str, object]:
    message: dict[str, object] = {"role": "assistant"}
    texts = [part.text for part in turn.parts if isinstance(part, Text)]
    calls = [_write_call(part) for part in turn.parts if isinstance(part, ToolCall)]
    refusals = [part.text for part in turn.parts if isinstance(part, Refusal)]
    thoughts = [text for part in turn.parts if isinstance(part, Reasoning) for text in part.segments if text]
    message["content"] = "".join(texts) if texts else None if calls or refusals else ""
    if thoughts:
        message["reasoning_content"] = "\n\n".join(thoughts)
    if refusals:
        message["refusal"] = "".join(refusals)
    if calls:
        message["tool_calls"] = calls
    if turn.name:
        message["name"] = turn.name
    return message


def _write_call(call: ToolCall) -> dict[str, object]:
    if call.is_custom:
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    function = {"name": call.name, "arguments": call.arguments.strip() or "{}"}
    return {"id": call.id, "type": "function", "function": function, **_extra_of(call.signature)}


def _extra_of(signature: Signature | None) -> dict[str, object]:
    if signature is None:
        return {}
    value = signature.value if signature.family == "google" else seal(signature)
    return {"extra_content": {"google": {"thought_signature": value}}}


def _write_result(result: ToolResult) -> dict[str, object]:
    text = "\n".join(
        part.text if isinstance(part, Text) else _document_text(part)
        for part in result.content
        if isinstance(part, Text | Document)
    )
    return {"role": "tool", "tool_call_id": result.call_id, "content": text}


def _write_tool(tool: Tool) -> dict[str, object]:
    named: dict[str, object] = {"name": tool.name}
    if tool.description:
        named["description"] = tool.description
    if tool.kind == "custom":
        return {"type": "custom", "custom": {**named, **({"format": Raw(tool.format.encode())} if tool.format else {})}}
    if tool.schema:
        named["parameters"] = Raw(json_schema.for_openai(tool.schema).encode())
    if tool.is_strict is not None:
        named["strict"] = tool.is_strict
    return {"type": "function", "function": named}


def _write_choice(choice: ToolChoice, tools: tuple[Tool, ...]) -> object:
    if choice.mode in ("auto", "none", "required"):
        return choice.mode
    kinds = {tool.name: tool.kind for tool in tools}
    named: list[dict[str, object]] = []
    for name in choice.names:
        kind = kinds.get(name, "function")
        named.append({"type": kind, kind: {"name": name}})
    if choice.mode == "one":
        return named[0]
    mode = "required" if choice.mode == "allowed_required" else "auto"
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": named}}


def _write_sampling(sampling: Sampling, body: dict[str, object], losses: list[Loss]) -> None:
    for name in ("temperature", "top_p", "presence_penalty", "frequency_penalty", "seed", "logprobs", "top_logprobs"):
        value = cast("object", getattr(sampling, name))
        if value is not None:
            body[name] = value
    if sampling.logit_bias:
        body["logit_bias"] = Raw(sampling.logit_bias.encode())
    if sampling.top_k is not None:
        losses.append(Loss("sampling.top_k", "Chat Completions has no top_k"))


def _write_thinking(thinking: Thinking, body: dict[str, object]) -> None:
    match thinking.mode:
        case "level":
            body["reasoning_effort"] = thinking.level
        case "budget":
            body["reasoning_effort"] = level_of(thinking.budget)
        case "off":
            body["reasoning_effort"] = "none"
        case _:
            pass


def _write_output(output: OutputFormat, body: dict[str, object]) -> None:
    if output.kind == "json":
        body["response_format"] = {"type": "json_object"}
    elif output.kind == "schema":
        schema: dict[str, object] = {"name": output.name or "answer", "schema": Raw(output.schema.encode())}
        if output.description:
            schema["description"] = output.description
        if output.is_strict is not None:
            schema["strict"] = output.is_strict
        body["response_format"] = {"type": "json_schema", "json_schema": schema}


def _write_meta(meta: Meta, body: dict[str, object], losses: list[Loss]) -> None:
    if meta.end_user:
        body["user"] = meta.end_user
    if meta.cache_key:
        body["prompt_cache_key"] = meta.cache_key
    if meta.verbosity:
        body["verbosity"] = meta.verbosity
    if meta.service_tier in _TIERS:
        body["service_tier"] = meta.service_tier
    elif meta.service_tier:
        losses.append(Loss("meta.service_tier", "Chat Completions does not know this tier"))
    if meta.metadata:
        losses.append(Loss("meta.metadata", "kept by the gateway: hosts refuse it without storage"))


# ---- answers --------------------------------------------------------------------------------------------------------


def _read_usage(usage: _Usage | None) -> Usage | None:
    if usage is None:
        return None
    prompt, completion = usage.prompt_tokens_details, usage.completion_tokens_details
    return Usage(
        usage.prompt_tokens,
        prompt.cached_tokens if prompt else None,
        prompt.cache_write_tokens if prompt else None,
        usage.completion_tokens,
        completion.reasoning_tokens if completion else None,
    )


def write_usage(usage: Usage) -> dict[str, object]:
    prompt: dict[str, object] = {"cached_tokens": usage.cache_read or 0}
    if usage.cache_write is not None:
        prompt["cache_write_tokens"] = usage.cache_write
    return {
        "prompt_tokens": usage.input_total or 0,
        "completion_tokens": usage.output_total or 0,
        "total_tokens": usage.total,
        "prompt_tokens_details": prompt,
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning or 0},
    }


def _read_answer(body: bytes) -> list[Event]:
    wire = json.decode_leniently(_decode_chunk, body)
    if bytes(wire.error) != b"null":
        return [Failed(openai_errors.read_error(0, body, NAME))]
    choice = wire.choices[0] if wire.choices else None
    if choice is None or choice.message is None:
        raise BrokenAnswer("The upstream's chat completion holds no message.")
    parts = _parts_of(choice.message, wire.id or "")
    answer = Answer(
        tuple(parts),
        Finish(_finish_of(choice.finish_reason, parts), choice.finish_reason or ""),
        wire.id or "",
        wire.model or "",
        int(wire.created or 0),
        _read_usage(wire.usage),
    )
    return unfold(answer)


def _parts_of(message: _Delta, answer_id: str) -> list[Part]:
    parts = _read_reasoning(message.reasoning_content, message.reasoning)
    parts += [part for part in _read_content(message.content, "content") if not isinstance(part, Text) or part.text]
    if message.refusal:
        parts.append(Refusal(message.refusal))
    for index, call in enumerate(message.tool_calls or ()):
        read = _read_call(call, f"tool_calls[{index}]")
        parts.append(read if read.id else msgspec.structs.replace(read, id=_minted(answer_id, index)))
    if message.function_call is not None and message.function_call.name:
        arguments = _arguments(message.function_call.arguments)
        parts.append(ToolCall(_minted(answer_id, 0), message.function_call.name, arguments))
    return parts


def _minted(answer_id: str, index: int) -> str:
    return "call_" + hashlib.sha256(f"{answer_id}/{index}".encode()).hexdigest()[:24]


def _finish_of(native: str | None, parts: list[Part]) -> FinishReason:
    reason = _FINISH_READ.get(native or "", "stop")
    calls = [part for part in parts if isinstance(part, ToolCall)]
    if not calls:
        return "stop" if reason == "tool_calls" else reason
    if reason in ("stop", "tool_calls"):
        return "tool_calls"
    return "tool_calls" if reason == "length" and all(_is_whole(call.arguments) for call in calls) else reason


def _is_whole(arguments: str) -> bool:
    return not arguments.strip() or json.is_json(arguments)


def _write_answer(answer: Answer, echo: Echo) -> bytes:
    message: dict[str, object] = {"role": "assistant", "content": None, "refusal": None}
    texts = [part.text for part in answer.parts if isinstance(part, Text)]
    refusals = [part.text for part in answer.parts if isinstance(part, Refusal)]
    thoughts = [text for part in answer.parts if isinstance(part, Reasoning) for text in part.segments if text]
    calls = [_write_call(part) for part in answer.parts if isinstance(part, ToolCall)]
    images = [part for part in answer.parts if isinstance(part, Image)]
    if texts or not (calls or refusals):
        message["content"] = "".join(texts)
    if refusals:
        message["refusal"] = "".join(refusals)
    if thoughts:
        message["reasoning_content"] = "\n\n".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    if images:
        message["images"] = [_write_image(index, part.media) for index, part in enumerate(images)]
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": _FINISH_WRITTEN[answer.finish.reason],
    }
    body: dict[str, object] = {
        "id": _answer_id(answer.id, echo),
        "object": "chat.completion",
        "created": answer.created or echo.now_at,
        "model": echo.model,
        "choices": [choice],
    }
    if answer.usage is not None:
        body["usage"] = write_usage(answer.usage)
    return json.encode(body)


def _answer_id(native: str, echo: Echo) -> str:
    return native if native.startswith("chatcmpl-") else f"chatcmpl-{echo.seed}"


def _write_image(index: int, media: Media) -> dict[str, object]:
    return {"index": index, "type": "image_url", "image_url": {"url": data_url(media)}}


# ---- stream reader --------------------------------------------------------------------------------------------------


class _OpenCall:
    """A call while its pieces arrive. `part` is set once id and name are known and the call was announced."""

    __slots__ = ("id", "is_custom", "name", "part", "pieces", "signature")

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.is_custom = False
        self.part: int | None = None
        self.pieces: list[str] = []
        self.signature: Signature | None = None

    @property
    def text(self) -> str:
        return "".join(self.pieces)


class ChatReader:
    """One stream of chunks to events.

    State: at most one open text, reasoning or refusal part (they cannot interleave), any number of open calls. The
    finish waits for the usage chunk that follows it, for `[DONE]`, or for the end of the body.
    """

    def __init__(self) -> None:
        self._frames = FrameReader()
        self._out: list[Event] = []
        self._next = 0
        self._started = False
        self._prose: tuple[PartKind, int] | None = None
        self._calls: dict[int, _OpenCall] = {}
        self._finished_calls: list[_OpenCall] = []
        self._native: str | None = None
        self._id = ""
        self._has_text = False
        self._over = False
        self._head = b""

    def feed(self, data: bytes) -> list[Event]:
        if not self._started and len(self._head) < 1024:
            self._head += data[:1024]
        for frame in self._frames.feed(data):
            self._frame(frame)
        return self._taken()

    def close(self) -> list[Event]:
        pending = self._frames.pending
        if not self._started and self._head.lstrip()[:1] in (b"{", b"["):
            return self._whole(pending)
        for frame in self._frames.close():
            self._frame(frame)
        if not self._over:
            if self._native is not None:
                self._finish()
            else:
                self._fail("The upstream's stream ended before the answer was complete.")
        return self._taken()

    def _taken(self) -> list[Event]:
        out, self._out = self._out, []
        return out

    def _whole(self, body: bytes) -> list[Event]:
        """A JSON body where a stream was asked for: an error, or an answer given whole."""
        try:
            events = _read_answer(body)
        except (BrokenAnswer, InvalidRequest):
            events = list[Event](
                (Failed(Problem("bad_gateway", 502, "The upstream's answer is neither a stream nor JSON.")),)
            )
        self._over = True
        return events

    def _frame(self, frame: Frame) -> None:
        if self._over:
            return
        data = frame.data
        if data.strip() == b"[DONE]":
            self._done()
            return
        try:
            chunk = json.decode_leniently(_decode_chunk, data)
        except BrokenAnswer:
            self._fail("The upstream sent an event that is not a chat completion chunk.")
            return
        if bytes(chunk.error) != b"null":
            self._over = True
            self._out.append(Failed(openai_errors.read_error(0, data, NAME)))
            return
        self._chunk(chunk)

    def _chunk(self, chunk: _Chunk) -> None:
        if not self._started:
            self._started = True
            self._id = chunk.id or ""
            self._out.append(Start(self._id, chunk.model or "", int(chunk.created or 0)))
        for choice in chunk.choices or ():
            if choice.index:
                continue
            delta = choice.delta or choice.message
            if delta is not None and self._native is None:
                self._delta(delta)
            if choice.finish_reason:
                self._native = choice.finish_reason
        if (usage := _read_usage(chunk.usage)) is not None:
            self._out.append(UsageSeen(usage))

    def _delta(self, delta: _Delta) -> None:
        if delta.content:
            if isinstance(delta.content, str):
                self._text("text", delta.content)
            else:
                for part in delta.content:
                    if part.text:
                        self._text("text", part.text)
        thought = delta.reasoning_content or _string(delta.reasoning)
        if thought:
            self._text("reasoning", thought)
        if delta.refusal:
            self._text("refusal", delta.refusal)
        for call in delta.tool_calls or ():
            self._call(call)
        if delta.function_call is not None:
            self._call(_Call(index=0, function=delta.function_call, id=_minted(self._id, 0)))

    def _text(self, kind: Literal["text", "reasoning", "refusal"], text: str) -> None:
        if self._prose is None or self._prose[0] != kind:
            self._end_prose()
            self._prose = (kind, self._next)
            self._next += 1
            self._out.append(PartStart(self._prose[1], kind))
        part = self._prose[1]
        self._has_text = self._has_text or kind != "reasoning"
        self._out.append(ReasoningDelta(part, text) if kind == "reasoning" else TextDelta(part, text))

    def _end_prose(self) -> None:
        if self._prose is not None:
            self._out.append(PartEnd(self._prose[1]))
            self._prose = None

    def _call(self, wire: _Call) -> None:
        call = self._slot(wire)
        function = wire.function or wire.custom or _Function()
        call.is_custom = call.is_custom or wire.custom is not None
        call.id = call.id or (wire.id or "").strip()
        call.name = call.name or (function.name or "")
        call.signature = call.signature or _signature(wire.extra_content)
        piece = function.input or "" if wire.custom is not None else _arguments(function.arguments)
        if piece and piece == call.text and json.is_object(piece):
            piece = ""
        if piece:
            call.pieces.append(piece)
        if call.part is not None:
            if piece:
                self._out.append(ArgsDelta(call.part, piece))
        elif call.id and call.name:
            self._announce(call)

    def _slot(self, wire: _Call) -> _OpenCall:
        """The call that a piece belongs to: by index; by id where the server forgets the index or uses one for all."""
        index = wire.index if wire.index is not None else self._index_of(wire)
        call = self._calls.get(index)
        wire_id = (wire.id or "").strip()
        if call is not None and wire_id and call.id and wire_id != call.id:
            self._finished_calls.append(call)
            call = None
        if call is None:
            call = self._calls[index] = _OpenCall()
        return call

    def _index_of(self, wire: _Call) -> int:
        for index, call in self._calls.items():
            if wire.id and call.id == wire.id:
                return index
        last = max(self._calls, default=-1)
        return last + 1 if wire.id or last < 0 else last

    def _announce(self, call: _OpenCall) -> None:
        self._end_prose()
        call.part, self._next = self._next, self._next + 1
        self._out.append(PartStart(call.part, "call", call.id, call.name, is_custom=call.is_custom))
        if call.pieces:
            self._out.append(ArgsDelta(call.part, call.text))

    def _done(self) -> None:
        calls = [*self._finished_calls, *self._calls.values()]
        if self._native is None and (not self._has_text or any(not _is_whole(call.text) for call in calls)):
            self._fail("The upstream's stream ended without a finish reason.")
        else:
            self._finish()

    def _finish(self) -> None:
        calls = [*self._finished_calls, *self._calls.values()]
        usage = [event for event in self._out if isinstance(event, UsageSeen)]
        self._out = [event for event in self._out if not isinstance(event, UsageSeen)]
        self._end_prose()
        for index, call in enumerate(calls):
            if call.part is None and call.name:
                call.id = call.id or _minted(self._id, index)
                self._announce(call)
        announced = [call for call in calls if call.part is not None]
        whole = all(call.is_custom or _is_whole(call.text) for call in announced)
        reason = _FINISH_READ.get(self._native or "", "stop")
        if not whole and reason in ("stop", "tool_calls"):
            self._fail("The upstream's stream ended inside a tool call's arguments.")
            return
        for call in announced:
            if call.signature is not None and call.part is not None:
                self._out.append(Signed(call.part, call.signature))
            self._out.append(PartEnd(call.part or 0, is_complete=call.is_custom or _is_whole(call.text)))
        if announced and (reason in ("stop", "tool_calls") or (reason == "length" and whole)):
            reason = "tool_calls"
        elif reason == "tool_calls":
            reason = "stop"
        self._over = True
        self._out += [*usage, Finish(reason, self._native or "")]

    def _fail(self, message: str) -> None:
        self._over = True
        self._out.append(Failed(Problem("bad_gateway", 502, message)))


# ---- stream writer --------------------------------------------------------------------------------------------------


class ChatWriter:
    """Events to chunks: role chunk, deltas, finish chunk, usage chunk if asked for, `[DONE]`."""

    def __init__(self, echo: Echo) -> None:
        self._echo = echo
        self._prefix = b""
        self._suffix = b',"usage":null}' if echo.request.wants_usage else b"}"
        self._calls: dict[int, int] = {}
        self._customs: dict[int, list[str]] = {}
        self._reasoning: dict[int, int] = {}
        self._refusals: set[int] = set()
        self._images = 0
        self._usage: Usage | None = None

    def push(self, events: list[Event]) -> bytes:
        return b"".join([self._event(event) for event in events])

    def keepalive(self) -> bytes:
        return b": keepalive\n\n"

    def _event(self, event: Event) -> bytes:
        match event:
            case TextDelta(part, text):
                name = b"refusal" if part in self._refusals else b"content"
                return self._delta(b'{"%b":%b}' % (name, json.encode(text)))
            case ArgsDelta(part, text):
                if part in self._customs:
                    self._customs[part].append(text)
                    return b""
                return self._arguments(self._calls[part], text)
            case ReasoningDelta(part, text, segment):
                if self._reasoning.setdefault(part, segment) != segment:
                    self._reasoning[part] = segment
                    text = "\n\n" + text
                return self._delta(b'{"reasoning_content":%b}' % json.encode(text))
            case PartStart():
                return self._part(event)
            case PartEnd(part) if part in self._customs:
                return self._arguments(self._calls[part], custom_tools.wrapped("".join(self._customs.pop(part))))
            case Signed(part, signature) if part in self._calls:
                call = {"index": self._calls[part], "function": {"arguments": ""}, **_extra_of(signature)}
                return self._delta(json.encode({"tool_calls": [call]}))
            case MediaOut(_, media):
                self._images += 1
                return self._delta(json.encode({"images": [_write_image(self._images - 1, media)]}))
            case UsageSeen(usage):
                self._usage = usage if self._usage is None else self._usage.merged(usage)
                return b""
            case Start():
                return self._start(event)
            case Finish(reason):
                return self._finish(reason)
            case Failed(problem):
                return _write_stream_error(problem)
            case _:
                return b""

    def _start(self, start: Start) -> bytes:
        head = json.encode(
            {
                "id": _answer_id(start.id, self._echo),
                "object": "chat.completion.chunk",
                "created": start.created or self._echo.now_at,
                "model": self._echo.model,
            }
        )
        self._prefix = b"data: " + head[:-1]
        return self._delta(b'{"role":"assistant","content":""}')

    def _delta(self, delta: bytes) -> bytes:
        return b'%b,"choices":[{"index":0,"delta":%b,"logprobs":null,"finish_reason":null}]%b\n\n' % (
            self._prefix,
            delta,
            self._suffix,
        )

    def _part(self, start: PartStart) -> bytes:
        if start.kind == "refusal":
            self._refusals.add(start.part)
        if start.kind != "call":
            return b""
        index = self._calls[start.part] = len(self._calls)
        if start.is_custom:
            self._customs[start.part] = []
        function = {"name": start.name, "arguments": ""}
        call = {"index": index, "id": start.call_id, "type": "function", "function": function}
        return self._delta(json.encode({"tool_calls": [call]}))

    def _arguments(self, index: int, text: str) -> bytes:
        return self._delta(b'{"tool_calls":[{"index":%d,"function":{"arguments":%b}}]}' % (index, json.encode(text)))

    def _finish(self, reason: FinishReason) -> bytes:
        word = _FINISH_WRITTEN[reason].encode()
        out = b'%b,"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"%b"}]%b\n\n' % (
            self._prefix,
            word,
            self._suffix,
        )
        if self._echo.request.wants_usage:
            out += b'%b,"choices":[],"usage":%b}\n\n' % (
                self._prefix,
                json.encode(write_usage(self._usage or Usage())),
            )
        return out + b"data: [DONE]\n\n"


# ---- pass-through ---------------------------------------------------------------------------------------------------


class ChatTap:
    """Knows of a passing stream whether it has begun, ended or failed, at the price of a few searches per read."""

    def __init__(self) -> None:
        self.has_content = False
        self.is_over = False
        self.problem: Problem | None = None
        self._tail = b""
        self._usage_frame = b""

    def look(self, data: bytes) -> None:
        probe = self._tail + data
        if not self.has_content:
            self._begin(probe)
        if b'"finish_reason":"' in probe or b'"finish_reason": "' in probe or b"[DONE]" in probe:
            self.is_over = True
        if b'"usage":{' in probe or b'"usage": {' in probe:
            self._usage_frame = probe[-8192:]
        elif b'"error":' in probe and self.problem is None:
            self._error(probe)
        self._tail = probe[-512:] if not probe.endswith(b"\n\n") else b""

    def usage(self) -> Usage | None:
        found: Usage | None = None
        for frame in FrameReader().feed(self._usage_frame + b"\n\n"):
            try:
                found = _read_usage(_decode_chunk.decode(frame.data).usage) or found
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
        return found

    def _begin(self, probe: bytes) -> None:
        for frame in FrameReader().feed(probe):
            if frame.data == b"[DONE]":
                continue
            try:
                chunk = _decode_chunk.decode(frame.data)
            except (msgspec.DecodeError, UnicodeDecodeError):
                self.problem = Problem("bad_gateway", 502, "The upstream's stream is not one of chat chunks.")
                return
            if bytes(chunk.error) != b"null":
                self.problem = openai_errors.read_error(0, frame.data, NAME)
                return
            if any(_says_something(choice) for choice in chunk.choices or ()):
                self.has_content = True

    def _error(self, probe: bytes) -> None:
        for frame in FrameReader().feed(probe):
            try:
                chunk = _decode_chunk.decode(frame.data)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
            if bytes(chunk.error) != b"null":
                self.problem = openai_errors.read_error(0, frame.data, NAME)


def _says_something(choice: _Choice) -> bool:
    delta = choice.delta or choice.message or _Delta()
    texts = (delta.content, delta.reasoning_content, delta.refusal, delta.tool_calls, choice.finish_reason)
    return any(texts) or bytes(delta.reasoning) not in (b"null", b'""')


# ---- errors ---------------------------------------------------------------------------------------------------------


def _write_stream_error(problem: Problem) -> bytes:
    return data_frame(json.encode({"error": openai_errors.error_object(problem)}))


# ---- the dialect ----------------------------------------------------------------------------------------------------


class OpenAIChat:
    """`length_field` is the name under which this flavour of the dialect wants the answer's maximum length."""

    name = NAME
    stream_type = b"text/event-stream; charset=utf-8"
    model_paths: tuple[tuple[str, ...], ...] = (("model",),)
    keepalive = b": keepalive\n\n"
    is_framed = True
    shows_reasoning = True
    fit = Fit(NAME, "openai", has_result_media=False, media=frozenset({"image", "audio", "document"}))

    def __init__(self, length_field: str = "max_tokens") -> None:
        self._length_field = length_field

    def read_request(self, body: bytes, *, model: str = "", is_stream: bool | None = None) -> Request:
        request = _read_request(body)
        return msgspec.structs.replace(
            request, model=model or request.model, is_stream=request.is_stream if is_stream is None else is_stream
        )

    def write_request(self, request: Request) -> Written:
        return _write_request(request, self._length_field)

    def read_answer(self, body: bytes) -> list[Event]:
        return _read_answer(body)

    def write_answer(self, answer: Answer, echo: Echo) -> bytes:
        return _write_answer(answer, echo)

    def reader(self) -> ChatReader:
        return ChatReader()

    def writer(self, echo: Echo) -> ChatWriter:
        return ChatWriter(echo)

    def tap(self) -> ChatTap:
        return ChatTap()

    def read_error(self, status: int, body: bytes) -> Problem:
        return openai_errors.read_error(status, body, NAME)

    def write_error(self, problem: Problem, request_id: str) -> bytes:
        return openai_errors.write_error(problem, NAME)

    def write_stream_error(self, problem: Problem) -> bytes:
        return _write_stream_error(problem)

    def status_of(self, problem: Problem) -> int:
        return openai_errors.status_of(problem)

    def write_count(self, tokens: int) -> bytes:
        return json.encode({"input_tokens": tokens})

    def write_models(self, models: list[ModelEntry]) -> bytes:
        return openai_models.write_models(models)

    def write_model(self, model: ModelEntry) -> bytes:
        return openai_models.write_model(model)


DIALECT = OpenAIChat()
OFFICIAL = OpenAIChat("max_completion_tokens")
