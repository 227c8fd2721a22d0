"""OpenAI Chat Completions.

Sources: https://platform.openai.com/docs/api-reference/chat and .../chat-streaming, checked 2026-11-24; the
`reasoning_content`, `reasoning` and `cache_control` fields are those of DeepSeek, OpenRouter and their kin;
`extra_content.google.thought_signature` is that of Google's compatible endpoint.

The dialect is the weak one of the family: an assistant message holds one text, one reasoning text and one list of
calls, so their order is lost on writing and taken as reasoning, text, calls on reading. It has one place for a
signature beside those of calls; the last one of a message stands there, sealed when it is not Google's.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Literal, TypeVar

import msgspec
from msgspec import Raw, Struct, field, structs

from cliproxy.canon import custom_tools
from cliproxy.canon.answer import Answer, unfold
from cliproxy.canon.carrier import seal, unseal
from cliproxy.canon.errors import BrokenAnswer, InvalidRequest, Kind, MissingParameter, Problem
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
from cliproxy.canon.naming import legal
from cliproxy.canon.parts import (
    Audio,
    Cache,
    Document,
    Image,
    Media,
    Opaque,
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
from cliproxy.dialects.base import Echo, Opening, Written
from cliproxy.wire import json, json_schema, openai_errors, openai_models
from cliproxy.wire.media import data_url, media_at, media_of, mime_of
from cliproxy.wire.sse import FrameReader, WholeFrames, data_frame

NAME = "openai-chat"

T = TypeVar("T")

# ---- wire shapes ----------------------------------------------------------------------------------------------------

_NULL = Raw(b"null")


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
    ttl: str | None = None


class _Message(Struct):
    """`reasoning` and `thinking` are OpenRouter's and others' names of `reasoning_content`, or objects of their own."""

    role: str = ""
    content: "str | list[_ContentPart] | None" = None
    name: str | None = None
    tool_calls: list[_Call] | None = None
    tool_call_id: str | None = None
    function_call: _Function | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: object = None
    thinking: object = None
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
    prompt_cache_breakpoint: _CacheControl | None = None


class _Grammar(Struct):
    definition: str = ""
    syntax: str = ""


class _Format(Struct):
    type: str = "text"
    grammar: _Grammar | None = None


class _FunctionTool(Struct):
    name: str
    description: str | None = None
    parameters: Raw = _NULL
    strict: bool | None = None
    format: _Format | None = None


class _Tool(Struct):
    type: str = "function"
    function: _FunctionTool | None = None
    custom: _FunctionTool | None = None
    cache_control: _CacheControl | None = None


class _Choose(Struct):
    """A tool choice, and an entry of its `allowed_tools`, nested as documented or flat as in Responses."""

    type: str = ""
    name: str = ""
    function: "_Choose | None" = None
    custom: "_Choose | None" = None
    allowed_tools: "_Choose | None" = None
    mode: str = ""
    tools: "list[_Choose]" = []

    @property
    def named(self) -> str:
        return (self.function or self.custom or self).name


class _StreamOptions(Struct):
    include_usage: bool | None = None


class _JsonSchema(Struct):
    name: str | None = None
    description: str | None = None
    schema: Raw = _NULL
    strict: bool | None = None


class _ResponseFormat(Struct):
    type: str = "text"
    json_schema: _JsonSchema | None = None


class _VendorThinking(Struct):
    """The controls of OpenRouter (`reasoning`), DeepSeek, Kimi and GLM (`thinking`) and Google (`thinking_config`)."""

    type: str | None = None
    effort: str | None = None
    budget_tokens: int | None = None
    max_tokens: int | None = None
    exclude: bool | None = None
    enabled: bool | None = None


class _GoogleThinking(Struct):
    """In either spelling."""

    thinking_level: str | None = None
    thinkingLevel: str | None = None
    thinking_budget: int | None = None
    thinkingBudget: int | None = None
    include_thoughts: bool | None = None
    includeThoughts: bool | None = None


class _GoogleOptions(Struct):
    thinking_config: _GoogleThinking | None = None


class _ExtraBody(Struct):
    google: _GoogleOptions | None = None


class _Template(Struct):
    enable_thinking: bool | None = None


class _Request(Struct):
    model: str = ""
    messages: list[_Message] | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    tools: list[_Tool] | None = None
    functions: list[_FunctionTool] | None = None
    tool_choice: _Choose | str | None = None
    function_call: _Choose | str | None = None
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
    logit_bias: Raw = _NULL
    logprobs: bool | None = None
    top_logprobs: int | None = None
    reasoning_effort: str | None = None
    reasoning: _VendorThinking | None = None
    thinking: _VendorThinking | None = None
    enable_thinking: bool | None = None
    include_reasoning: bool | None = None
    chat_template_kwargs: _Template | None = None
    extra_body: _ExtraBody | None = None
    google: _GoogleOptions | None = None
    response_format: _ResponseFormat | None = None
    verbosity: str | None = None
    user: str | None = None
    safety_identifier: str | None = None
    metadata: Raw = _NULL
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    store: bool | None = None


class _Said(Struct, gc=False):
    """A message as one of an opening."""

    role: str | None = None
    content: Raw = _NULL


class _Opening(Struct):
    """Enough of a request to know its conversation."""

    messages: list[_Said] | None = None
    prompt_cache_key: str | None = None


class _Detail(Struct):
    """An entry of OpenRouter's `reasoning_details`."""

    text: str | None = None
    summary: str | None = None


class _Picture(Struct):
    image_url: _Url | None = None


class _Delta(Struct):
    """What a chunk adds, or the message of a whole answer."""

    content: str | list[_ContentPart] | None = None
    reasoning_content: str | None = None
    reasoning: object = None
    thinking: object = None
    reasoning_details: list[_Detail] | None = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = None
    function_call: _Function | None = None
    images: list[_Picture] | None = None
    extra_content: _Extra | None = None


class _Choice(Struct):
    index: int | None = None
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: str | None = None


class _Chunk(Struct):
    """A chunk or a whole answer. `usage` is read apart, so that an odd count does not cost the answer."""

    id: str | int | None = None
    model: str | None = None
    created: int | float | None = None
    choices: list[_Choice] | None = None
    usage: object = None
    error: object = None


class _PromptDetails(Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class _CompletionDetails(Struct):
    reasoning_tokens: int | None = None


class _Usage(Struct):
    """`prompt_cache_hit_tokens` is DeepSeek's word, `cached_tokens` Kimi's."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    prompt_cache_hit_tokens: int | None = None
    cached_tokens: int | None = None


class _SeenChoice(Struct):
    """What a passing stream is watched for; a delta is whatever it holds."""

    delta: dict[str, Raw] | None = None
    message: dict[str, Raw] | None = None
    finish_reason: str | None = None


class _Seen(Struct):
    choices: list[_SeenChoice] | None = None
    usage: object = None
    error: object = None


_decode_request = msgspec.json.Decoder(_Request)
_decode_opening = msgspec.json.Decoder(_Opening)
_decode_chunk = msgspec.json.Decoder(_Chunk)
_decode_seen = msgspec.json.Decoder(_Seen)
_decode_text = msgspec.json.Decoder(str)
_decode_any = msgspec.json.Decoder()
_decode_list = msgspec.json.Decoder(list[Raw])
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_KNOWN_FIELDS = frozenset(_Request.__struct_fields__)

# ---- vocabulary -----------------------------------------------------------------------------------------------------

_FINISH_READ: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "max_tokens": "length",
    "model_length": "length",
    "sensitive": "content_filter",
    "safety": "content_filter",
    "recitation": "recitation",
}
"""The documented words, and those of Mistral, GLM and Google's compatible endpoint. Others count as stop."""
_FINISH_FAILED: dict[str, Kind] = {
    "error": "bad_gateway",
    "malformed_function_call": "bad_gateway",
    "function_call_filter": "bad_gateway",
    "network_error": "bad_gateway",
    "insufficient_system_resource": "overloaded",
}
"""Words that say that the answer was given up, of OpenRouter, Google, GLM and DeepSeek."""
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
_ROLES_WRITTEN: dict[Role, str] = {"user": "user", "system": "system", "developer": "system"}
"""`developer` is OpenAI's own word, and OpenAI takes `system` for it."""
_CHOICES: dict[str, ToolChoice] = {
    "auto": ToolChoice("auto"),
    "none": ToolChoice("none"),
    "required": ToolChoice("required"),
    "any": ToolChoice("required"),
}
_IS_ENABLED = {"enabled": True, "adaptive": True, "disabled": False}
_CACHE_TTLS = {"30m": "5m", "12h": "1h"}
_AUDIO_FORMATS = {"audio/wav": "wav", "audio/mpeg": "mp3"}
_TIERS = frozenset({"auto", "default", "flex", "priority"})
_SAMPLING = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "seed", "logprobs", "top_logprobs")

_MOVING = frozenset({"cache_control", "prompt_cache_breakpoint"})

# ---- requests: reading ----------------------------------------------------------------------------------------------


def _read_request(body: bytes) -> Request:
    wire = json.decode_as(_decode_request, body)
    if wire.messages is None:
        raise MissingParameter("`messages` is required.", param="messages")
    members = json.members(body)
    dropped = sorted(members.keys() - _KNOWN_FIELDS)
    if _effort_of(wire) not in ("", "auto", *LEVELS):
        dropped.append("reasoning_effort")
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
        tools=_read_tools(wire, members),
        tool_choice=_read_choice(wire),
        parallel_calls=wire.parallel_tool_calls,
        sampling=Sampling(
            wire.temperature,
            wire.top_p,
            wire.top_k,
            wire.presence_penalty,
            wire.frequency_penalty,
            wire.seed,
            _json_text(wire.logit_bias),
            wire.logprobs,
            wire.top_logprobs,
        ),
        limits=Limits(
            wire.max_tokens if wire.max_completion_tokens is None else wire.max_completion_tokens,
            (wire.stop,) if isinstance(wire.stop, str) else tuple(wire.stop or ()),
            wire.n,
        ),
        thinking=_read_thinking(wire),
        output=_read_output(wire.response_format),
        meta=Meta(
            end_user=wire.safety_identifier or wire.user or "",
            metadata=_json_text(wire.metadata),
            service_tier=wire.service_tier or "",
            cache_key=wire.prompt_cache_key or "",
            verbosity=wire.verbosity or "",
            store=wire.store,
        ),
        wants_usage=bool(wire.stream_options and wire.stream_options.include_usage),
        dropped=tuple(dropped),
    )


def _is_result(turn: Turn) -> bool:
    return bool(turn.parts) and all(isinstance(part, ToolResult) for part in turn.parts)


def _json_text(raw: Raw) -> str:
    """The JSON text of a carried subtree, "" for null."""
    data = bytes(raw)
    return "" if data == b"null" else json.compact(data)


def _read_message(message: _Message, path: str) -> Turn:
    role = _ROLES.get(message.role)
    if role is None:
        raise InvalidRequest(f"`{path}.role` must be one of {', '.join(_ROLES)}.", param=f"{path}.role")
    content, cache = _read_content(message.content, path), _cache(message.cache_control)
    if message.role in ("tool", "function"):
        return Turn(
            "user", (ToolResult((message.tool_call_id or "").strip(), content, message.name or "", cache=cache),)
        )
    parts = list(content)
    if message.refusal:
        parts.append(Refusal(message.refusal))
    if role == "assistant":
        thought = message.reasoning_content or _first_text(message.reasoning, message.thinking)
        parts = _signed([*([Reasoning((thought,))] if thought else ()), *parts], _signature(message.extra_content))
    for index, call in enumerate(message.tool_calls or ()):
        if (read := _read_call(call)) is None:
            raise InvalidRequest(
                f"`{path}.tool_calls[{index}]` names no function.", param=f"{path}.tool_calls[{index}]"
            )
        parts.append(read)
    if message.function_call is not None and message.function_call.name:
        parts.append(ToolCall("", message.function_call.name, _arguments(message.function_call.arguments)))
    return Turn(role, tuple(_marked(parts, cache)), name=message.name or "")


def _first_text(*values: object) -> str:
    return next((value for value in values if isinstance(value, str) and value), "")


def _signed(parts: list[Part], signature: Signature | None) -> list[Part]:
    """`parts` with a message's own signature where it belongs: Google signs texts, the others reasoning.

    One without its reasoning is worthless, but for those that hold the reasoning themselves.
    """
    if signature is None:
        return parts
    wanted = Text if signature.family == "google" else Reasoning
    for index in reversed(range(len(parts))):
        part = parts[index]
        if isinstance(part, wanted):
            return [*parts[:index], structs.replace(part, signature=signature), *parts[index + 1 :]]
    if signature.family == "google":
        return [*parts, Text("", signature=signature)]
    return parts if signature.kind == "signature" else [Reasoning(signature=signature), *parts]


def _marked(parts: list[Part], cache: Cache | None) -> list[Part]:
    """`parts` with a message's own breakpoint on the last part that can carry one."""
    if cache is not None and parts and isinstance(parts[-1], Text | Image | Document | ToolCall):
        parts[-1] = structs.replace(parts[-1], cache=cache)
    return parts


def _cache(*marks: _CacheControl | None) -> Cache | None:
    return next((Cache(_CACHE_TTLS.get(mark.ttl or "", mark.ttl or "")) for mark in marks if mark is not None), None)


def _read_content(content: str | list[_ContentPart] | None, path: str) -> tuple[Part, ...]:
    if content is None:
        return ()
    if isinstance(content, str):
        return (Text(content),)
    return tuple(_read_part(part, f"{path}.content[{index}]") for index, part in enumerate(content))


def _read_part(part: _ContentPart, path: str) -> Part:
    cache = _cache(part.cache_control, part.prompt_cache_breakpoint)
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


def _read_call(call: _Call) -> ToolCall | None:
    call_id = (call.id or "").strip()
    if call.custom is not None and call.custom.name:
        return ToolCall(call_id, call.custom.name, call.custom.input or "", is_custom=True)
    if call.function is None or not call.function.name:
        return None
    arguments, signature = _arguments(call.function.arguments), _signature(call.extra_content)
    return ToolCall(call_id, call.function.name, arguments, signature=signature)


def _arguments(raw: Raw) -> str:
    """Arguments as text: the string's content, or the JSON itself where a server sends an object."""
    try:
        return _decode_text.decode(raw)
    except msgspec.ValidationError:
        return "" if bytes(raw) == b"null" else bytes(raw).decode()


def _signature(extra: _Extra | None) -> Signature | None:
    if extra is None or not extra.google.thought_signature:
        return None
    value = extra.google.thought_signature
    return unseal(value) or Signature(value, "google")


def _read_tools(wire: _Request, members: Mapping[str, Raw]) -> tuple[Tool, ...]:
    """The tools on offer; of those with one name the first counts. Vendors' own stay as they came."""
    tools: dict[str, Tool] = {}
    for index, tool in enumerate(wire.tools or ()):
        cache, path = _cache(tool.cache_control), f"tools[{index}]"
        if tool.type not in ("function", "custom"):
            data = json.compact(bytes(_decode_list.decode(members["tools"])[index]))
            read = Tool(tool.type, "opaque", dialect=NAME, data=data)
        elif (function := tool.custom if tool.type == "custom" else tool.function) is None or not function.name:
            raise InvalidRequest(f"`{path}` has no name.", param=path)
        elif tool.type == "custom":
            format_ = _read_format(function.format)
            read = Tool(function.name, "custom", function.description or "", format=format_, cache=cache)
        else:
            read = _read_function(function, cache)
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


def _read_format(wire: _Format | None) -> str:
    """A free-text tool's format as canon has it, flat as in Responses."""
    if wire is None:
        return ""
    grammar = {} if wire.grammar is None else structs.asdict(wire.grammar)
    return json.encode({"type": wire.type, **grammar}).decode()


def _read_choice(wire: _Request) -> ToolChoice | None:
    name, choice = ("tool_choice", wire.tool_choice) if wire.tool_choice else ("function_call", wire.function_call)
    if choice is None:
        return None
    word = choice if isinstance(choice, str) else choice.type
    if isinstance(choice, _Choose):
        allowed = choice.allowed_tools or (choice if word == "allowed_tools" else None)
        if allowed is not None:
            names = tuple(tool.named for tool in allowed.tools if tool.named)
            return ToolChoice("allowed_required" if allowed.mode == "required" else "allowed_auto", names)
        if choice.named:
            return ToolChoice("one", (choice.named,))
    if word not in _CHOICES:
        raise InvalidRequest(f"`{name}` must name a tool or be one of {', '.join(_CHOICES)}.", param=name)
    return _CHOICES[word]


def _effort_of(wire: _Request) -> str:
    vendor, google = wire.reasoning or wire.thinking or _VendorThinking(), _google_thinking(wire)
    efforts = (wire.reasoning_effort, vendor.effort, google.thinking_level, google.thinkingLevel)
    return next((effort for effort in efforts if effort), "").strip().lower()


def _google_thinking(wire: _Request) -> _GoogleThinking:
    options = wire.google or (wire.extra_body and wire.extra_body.google)
    return (options and options.thinking_config) or _GoogleThinking()


def _read_thinking(wire: _Request) -> Thinking:
    """The control that says most: an effort, then off, then a budget, then on."""
    vendor, google = wire.reasoning or wire.thinking or _VendorThinking(), _google_thinking(wire)
    template = wire.chat_template_kwargs or _Template()
    told = None if vendor.exclude is None else not vendor.exclude
    is_shown = _first_known(told, wire.include_reasoning, google.include_thoughts, google.includeThoughts)
    is_on = _first_known(
        wire.enable_thinking, template.enable_thinking, vendor.enabled, _IS_ENABLED.get(vendor.type or "")
    )
    budget = _first_known(vendor.budget_tokens, vendor.max_tokens, google.thinking_budget, google.thinkingBudget)
    effort = _effort_of(wire)
    if effort in LEVELS and effort != "none":
        return Thinking("level", effort, is_shown=is_shown)
    if effort == "none" or is_on is False:
        return Thinking("off", is_shown=is_shown)
    if budget is not None:
        return Thinking("budget", budget=budget, is_shown=is_shown)
    return Thinking("auto" if is_on or effort == "auto" else None, is_shown=is_shown)


def _first_known(*values: T | None) -> T | None:
    return next((value for value in values if value is not None), None)


def _read_output(wire: _ResponseFormat | None) -> OutputFormat:
    if wire is None or wire.type == "text":
        return OutputFormat()
    inner = wire.json_schema
    if wire.type == "json_schema" and inner is not None and bytes(inner.schema) != b"null":
        schema = bytes(inner.schema).decode()
        return OutputFormat("schema", schema, inner.name or "", inner.description or "", inner.strict)
    return OutputFormat("json")


def _opening(body: bytes) -> Opening:
    """`user` names nothing here: it is a person, or an application with all of its conversations."""
    wire = json.decode_as(_decode_opening, body)
    if wire.prompt_cache_key:
        return Opening(wire.prompt_cache_key, "prompt_cache_key")
    return Opening(turns=wire.messages or (), moving=_MOVING)


# ---- requests: writing ----------------------------------------------------------------------------------------------


def _write_request(request: Request, length_field: str) -> Written:
    losses = [Loss(path, "Chat Completions has no such field") for path in request.dropped]
    body: dict[str, object] = {"model": request.model, "messages": _write_messages(request, losses)}
    if request.is_stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    tools = [_write_tool(tool, losses) for tool in request.tools if _has_place(tool, losses)]
    if tools:
        body["tools"] = tools
        if request.tool_choice is not None:
            body["tool_choice"] = _write_choice(request.tool_choice, request.tools)
        if request.parallel_calls is not None:
            body["parallel_tool_calls"] = request.parallel_calls
    _write_limits(request.limits, length_field, body, losses)
    _write_sampling(request.sampling, body, losses)
    _write_thinking(request.thinking, body, losses)
    _write_output(request.output, body, losses)
    _write_meta(request.meta, body, losses)
    if _has_cache(request):
        losses.append(Loss("cache", "prompt-cache breakpoints are not written"))
    return Written(json.encode(body), tuple(dict.fromkeys(losses)))


def _has_cache(request: Request) -> bool:
    parts = (part for turn in request.turns for part in turn.parts)
    marked: Iterable[Part | Tool] = (*request.system, *request.tools, *parts)
    return any(not isinstance(one, Audio | Video) and getattr(one, "cache", None) is not None for one in marked)


def _write_messages(request: Request, losses: list[Loss]) -> list[object]:
    messages: list[object] = []
    if request.system:
        messages.append({"role": "system", "content": "\n\n".join(block.text for block in request.system)})
    if len(request.system) > 1:
        losses.append(Loss("system", "several blocks of instructions became one", "approximated"))
    for turn in request.turns:
        if turn.phase:
            losses.append(Loss("turns.phase", "Chat Completions has no phases"))
        if turn.role == "assistant":
            messages.append(_write_assistant(turn, losses))
            continue
        messages += [_write_result(part, losses) for part in turn.parts if isinstance(part, ToolResult)]
        rest: list[Part] = [part for part in turn.parts if not isinstance(part, ToolResult)]
        if rest:
            named = {"name": turn.name} if turn.name else {}
            messages.append({"role": _ROLES_WRITTEN[turn.role], "content": _write_content(rest, losses), **named})
    return messages


def _write_content(parts: list[Part], losses: list[Loss]) -> object:
    if len(parts) == 1 and isinstance(parts[0], Text):
        return parts[0].text
    return [_write_part(part, losses) for part in parts]


def _write_part(part: Part, losses: list[Loss]) -> dict[str, object]:
    """One part of a user's message; a note in place of what the dialect cannot hold."""
    match part:
        case Text(text) | Refusal(text):
            return {"type": "text", "text": text}
        case Image(media, detail) if media.data or media.url:
            return {
                "type": "image_url",
                "image_url": {"url": data_url(media), **({"detail": detail} if detail else {})},
            }
        case Audio(media) if media.data:
            sound = {"data": media.data, "format": _AUDIO_FORMATS.get(media.mime, media.mime.rpartition("/")[2])}
            return {"type": "input_audio", "input_audio": sound}
        case Document(text=text) if text:
            if part.title or part.context or part.filename:
                losses.append(Loss("turns.document", "a plain document became text under a heading", "emulated"))
            return {"type": "text", "text": _document_text(part)}
        case Document(media) if media.data:
            filename = part.filename or part.title or "document.pdf"
            return {"type": "file", "file": {"filename": filename, "file_data": data_url(media)}}
        case Document(media) if media.file_id:
            return {"type": "file", "file": {"file_id": media.file_id}}
        case _:
            kind = part.type if isinstance(part, Opaque) else type(part).__name__.lower()
            losses.append(Loss(f"turns.{kind}", "Chat Completions has no place for it there"))
            return {"type": "text", "text": f"[{kind} left out]"}


def _document_text(document: Document) -> str:
    heading = document.title or document.filename
    return "\n".join(text for text in (f"# {heading}" if heading else "", document.context, document.text) if text)


def _write_assistant(turn: Turn, losses: list[Loss]) -> dict[str, object]:
    untold = [part for part in turn.parts if not isinstance(part, Text | Refusal | Reasoning | ToolCall)]
    losses += [Loss(f"turns.{type(part).__name__.lower()}", "an assistant's message holds none") for part in untold]
    message = {"role": "assistant", **_write_message(turn.parts)}
    if turn.name:
        message["name"] = turn.name
    return message


def _write_message(parts: tuple[Part, ...]) -> dict[str, object]:
    """What the assistant said, in a request's history or an answer. `content` is null only beside calls or a refusal,
    since clients rely on it."""
    texts = [part.text for part in parts if isinstance(part, Text)]
    refusals = [part.text for part in parts if isinstance(part, Refusal)]
    thoughts = [text for part in parts if isinstance(part, Reasoning) for text in part.segments if text]
    calls = [_write_call(part) for part in parts if isinstance(part, ToolCall)]
    signatures = [part.signature for part in parts if isinstance(part, Text | Reasoning) and part.signature is not None]
    message: dict[str, object] = {"content": "".join(texts) if texts or not (calls or refusals) else None}
    if refusals:
        message["refusal"] = "".join(refusals)
    if thoughts:
        message["reasoning_content"] = "\n\n".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    return message | (_extra_of(signatures[-1]) if signatures else {})


def _write_call(call: ToolCall) -> dict[str, object]:
    if call.is_custom:
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    function = {"name": call.name, "arguments": call.arguments.strip() or "{}"}
    return {"id": call.id, "type": "function", "function": function, **_extra_of(call.signature)}


def _extra_of(signature: Signature | None) -> dict[str, object]:
    """A signature on its way back to the vendor."""
    if signature is None:
        return {}
    value = signature.value if signature.family == "google" else seal(signature)
    return {"extra_content": {"google": {"thought_signature": value}}}


def _sealed(signature: Signature) -> Signature:
    """A signature for a caller's hands: in an envelope always, since no vendor of this dialect issued it."""
    return Signature(seal(signature), "google")


def _with_sealed(part: Part) -> Part:
    if isinstance(part, Text | ToolCall | Reasoning) and part.signature is not None:
        return msgspec.structs.replace(part, signature=_sealed(part.signature))
    return part


def _write_result(result: ToolResult, losses: list[Loss]) -> dict[str, object]:
    """One string: several hosts refuse a list of parts here."""
    pieces = [_write_part(part, losses) for part in result.content if isinstance(part, Text | Document)]
    if len(pieces) < len(result.content):
        losses.append(Loss("turns.tool_result.media", "a tool message holds text only"))
    text = "\n".join(str(piece["text"]) for piece in pieces if "text" in piece)
    return {"role": "tool", "tool_call_id": result.call_id, "content": text}


def _has_place(tool: Tool, losses: list[Loss]) -> bool:
    if tool.kind == "opaque" and tool.dialect != NAME:
        losses.append(Loss(f"tools.{tool.name}", "this vendor's own tool exists only in its dialect"))
        return False
    return True


def _write_tool(tool: Tool, losses: list[Loss]) -> object:
    if tool.kind == "opaque":
        return Raw(tool.data.encode())
    named: dict[str, object] = {"name": tool.name}
    if tool.description:
        named["description"] = tool.description
    if tool.kind == "custom":
        return {"type": "custom", "custom": named | _write_format(tool.format)}
    schema = json_schema.for_openai(tool.schema) if tool.schema else ""
    if schema:
        named["parameters"] = Raw(schema.encode())
    if tool.is_strict is not None:
        named["strict"] = _write_strict(tool.is_strict, schema, f"tools.{tool.name}", losses)
    return {"type": "function", "function": named}


def _write_format(format_: str) -> dict[str, object]:
    if not format_:
        return {}
    flat = msgspec.json.decode(format_, type=dict[str, Raw])
    kind = flat.pop("type", Raw(b'"text"'))
    return {"format": {"type": kind, **({"grammar": flat} if flat else {})}}


def _write_strict(is_strict: bool, schema: str, path: str, losses: list[Loss]) -> bool:
    """Strictness as asked, except where the vendor would refuse the schema for it."""
    if not is_strict or json_schema.is_strict_ready(schema or json_schema.NO_ARGUMENTS):
        return is_strict
    losses.append(Loss(f"{path}.is_strict", "the schema does not meet the rules of strict mode", "approximated"))
    return False


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


def _write_limits(limits: Limits, length_field: str, body: dict[str, object], losses: list[Loss]) -> None:
    if limits.max_output_tokens is not None:
        body[length_field] = limits.max_output_tokens
    if limits.stop:
        body["stop"] = list(limits.stop[:4])
    if len(limits.stop) > 4:
        losses.append(Loss("limits.stop", "at most four stop sequences are allowed", "approximated"))
    if limits.n is not None:
        body["n"] = limits.n


def _write_sampling(sampling: Sampling, body: dict[str, object], losses: list[Loss]) -> None:
    told = structs.asdict(sampling)
    body |= {name: told[name] for name in _SAMPLING if told[name] is not None}
    if sampling.logit_bias:
        body["logit_bias"] = Raw(sampling.logit_bias.encode())
    if sampling.top_k is not None:
        losses.append(Loss("sampling.top_k", "Chat Completions has no top_k"))


def _write_thinking(thinking: Thinking, body: dict[str, object], losses: list[Loss]) -> None:
    """An effort; that the caller wants reasoning hidden, or told at length, has no field."""
    match thinking.mode:
        case "level":
            body["reasoning_effort"] = thinking.level
        case "budget":
            body["reasoning_effort"] = level_of(thinking.budget)
            losses.append(Loss("thinking", "a budget became an effort", "approximated"))
        case "off":
            body["reasoning_effort"] = "none"
        case "auto" | None:
            pass
    if thinking.is_shown is False:
        losses.append(Loss("thinking.is_shown", "Chat Completions cannot hide reasoning"))
    if thinking.summary not in ("", "auto"):
        losses.append(Loss("thinking.summary", "Chat Completions has no detail of summaries"))


def _write_output(output: OutputFormat, body: dict[str, object], losses: list[Loss]) -> None:
    if output.kind == "json" or (output.kind == "schema" and not output.schema):
        body["response_format"] = {"type": "json_object"}
    elif output.kind == "schema":
        schema: dict[str, object] = {"name": legal(output.name or "answer", "A-Za-z0-9_-", 64)}
        if output.description:
            schema["description"] = output.description
        schema["schema"] = Raw(output.schema.encode())
        if output.is_strict is not None:
            schema["strict"] = _write_strict(output.is_strict, output.schema, "output", losses)
        body["response_format"] = {"type": "json_schema", "json_schema": schema}


def _write_meta(meta: Meta, body: dict[str, object], losses: list[Loss]) -> None:
    told = {"user": meta.end_user, "prompt_cache_key": meta.cache_key, "verbosity": meta.verbosity}
    body |= {name: value for name, value in told.items() if value}
    if meta.service_tier in _TIERS:
        body["service_tier"] = meta.service_tier
    elif meta.service_tier:
        losses.append(Loss("meta.service_tier", "Chat Completions does not know this tier"))
    if meta.metadata:
        losses.append(Loss("meta.metadata", "kept by the gateway: hosts refuse it without storage"))
    if meta.store:
        losses.append(Loss("meta.store", "nothing is stored: hosts do not agree on it"))


# ---- answers --------------------------------------------------------------------------------------------------------


def _read_usage(wire: object) -> Usage | None:
    """The counts of a `usage` member; None when it holds none that can be read."""
    if not isinstance(wire, dict) or not wire:
        return None
    try:
        usage = msgspec.convert(wire, _Usage, strict=False)
    except msgspec.ValidationError:
        return None
    prompt, completion = usage.prompt_tokens_details or _PromptDetails(), usage.completion_tokens_details
    cached = (prompt.cached_tokens, usage.prompt_cache_hit_tokens, usage.cached_tokens)
    return Usage(
        usage.prompt_tokens,
        _first_known(*cached),
        prompt.cache_write_tokens,
        usage.completion_tokens,
        completion.reasoning_tokens if completion else None,
    )


def _counts_in(raw: Raw | None) -> Usage | None:
    """The counts of a `usage` member that is still JSON; None when it holds none that can be read."""
    try:
        return None if raw is None else _read_usage(_decode_any.decode(raw))
    except _UNREADABLE:
        return None


def write_usage(usage: Usage) -> dict[str, object]:
    """Counts that are not known are left out of the details; a known zero is told."""
    prompt = {"cached_tokens": usage.cache_read, "cache_write_tokens": usage.cache_write}
    completion = {"reasoning_tokens": usage.reasoning}
    return {
        "prompt_tokens": usage.input_total or 0,
        "completion_tokens": usage.output_total or 0,
        "total_tokens": usage.total,
        "prompt_tokens_details": {name: count for name, count in prompt.items() if count is not None},
        "completion_tokens_details": {name: count for name, count in completion.items() if count is not None},
    }


def _read_answer(body: bytes) -> list[Event]:
    wire = json.decode_leniently(_decode_chunk, body)
    if wire.error:
        return [Failed(openai_errors.read_error(0, body, NAME))]
    choice = wire.choices[0] if wire.choices else None
    if choice is None or choice.message is None:
        raise BrokenAnswer("The upstream's chat completion holds no message.")
    if (problem := _given_up(choice.finish_reason)) is not None:
        return [Failed(problem)]
    answer_id = str(wire.id or "")
    parts = _parts_of(choice.message, answer_id)
    finish = Finish(_finish_of(choice.finish_reason, parts), choice.finish_reason or "")
    usage = _read_usage(wire.usage)
    return unfold(Answer(tuple(parts), finish, answer_id, wire.model or "", int(wire.created or 0), usage))


def _parts_of(message: _Delta, answer_id: str) -> list[Part]:
    """Lenient: what an upstream says oddly is passed over, never the caller's fault."""
    thought, text = _thought_of(message), "".join(_texts_of(message.content))
    parts: list[Part] = [Reasoning((thought,))] if thought else []
    if text:
        parts.append(Text(text))
    if message.refusal:
        parts.append(Refusal(message.refusal))
    parts = _signed(parts, _signature(message.extra_content))
    parts += [Image(media) for media in _pictures_of(message)]
    legacy = () if message.function_call is None else (_Call(function=message.function_call),)
    for index, call in enumerate((*(message.tool_calls or ()), *legacy)):
        if (read := _read_call(call)) is not None:
            parts.append(read if read.id else structs.replace(read, id=_minted(answer_id, index)))
    return parts


def _texts_of(content: str | list[_ContentPart] | None) -> Iterable[str]:
    return (content,) if isinstance(content, str) else (part.text for part in content or () if part.text)


def _thought_of(delta: _Delta) -> str:
    """Hosts say the same thought under several names at once; the first that says anything counts."""
    thought = delta.reasoning_content or _first_text(delta.reasoning, delta.thinking)
    return thought or "".join(detail.text or detail.summary or "" for detail in delta.reasoning_details or ())


def _pictures_of(delta: _Delta) -> Iterable[Media]:
    for picture in delta.images or ():
        if picture.image_url is not None and (media := media_at(picture.image_url.url)) is not None:
            yield media


def _minted(answer_id: str, index: int) -> str:
    return "call_" + hashlib.sha256(f"{answer_id}/{index}".encode()).hexdigest()[:24]


def _reason_of(native: str | None) -> FinishReason:
    word = (native or "").lower()
    return _FINISH_READ.get(word) or _FINISH_READ.get(word.partition(":")[0], "stop")


def _given_up(native: str | None) -> Problem | None:
    """The problem in a finish reason that says that the upstream could not go on."""
    kind = _FINISH_FAILED.get((native or "").lower().partition(":")[0])
    if kind is None:
        return None
    return Problem(kind, 503 if kind == "overloaded" else 502, f"The upstream gave its answer up: `{native}`.")


def _finish_of(native: str | None, parts: list[Part]) -> FinishReason:
    reason = _reason_of(native)
    calls = [part for part in parts if isinstance(part, ToolCall)]
    if not calls:
        return "stop" if reason == "tool_calls" else reason
    if reason in ("stop", "tool_calls"):
        return "tool_calls"
    is_whole = all(call.is_custom or _is_whole(call.arguments) for call in calls)
    return "tool_calls" if reason == "length" and is_whole else reason


def _is_whole(arguments: str) -> bool:
    return not arguments.strip() or json.is_json(arguments)


def _write_answer(answer: Answer, echo: Echo) -> bytes:
    message = {
        "role": "assistant",
        "content": None,
        "refusal": None,
        **_write_message(tuple(_with_sealed(part) for part in answer.parts)),
    }
    images = [part for part in answer.parts if isinstance(part, Image)]
    if images:
        message["images"] = [_write_image(index, part.media) for index, part in enumerate(images)]
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": _word_for(answer.finish.reason, is_refused=bool(message["refusal"])),
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


def _word_for(reason: FinishReason, *, is_refused: bool) -> str:
    """A refusal in words is a stop, as the vendor does it: SDK helpers keep the words of a filtered answer back."""
    return "stop" if is_refused and reason == "refusal" else _FINISH_WRITTEN[reason]


def _answer_id(native: str, echo: Echo) -> str:
    return native if native.startswith("chatcmpl-") else f"chatcmpl-{echo.seed}"


def _write_image(index: int, media: Media) -> dict[str, object]:
    return {"index": index, "type": "image_url", "image_url": {"url": data_url(media)}}


# ---- stream reader --------------------------------------------------------------------------------------------------


class _OpenCall:
    """A call while its pieces arrive. `part` is set once id and name are known and the call was announced."""

    __slots__ = ("id", "is_custom", "length", "name", "part", "pieces", "signature")

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.is_custom = False
        self.part: int | None = None
        self.pieces: list[str] = []
        self.length = 0
        self.signature: Signature | None = None

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def is_whole(self) -> bool:
        return self.is_custom or _is_whole(self.text)

    def repeats(self, piece: str) -> bool:
        """Whether `piece` tells all arguments once more, as some servers do when a call is done."""
        return len(piece) == self.length and piece == self.text and json.is_object(piece)

    def differs(self, call_id: str, name: str) -> bool:
        """Whether a piece with this id and name begins another call, though it claims this one's place.

        Some servers give all calls the index 0, others each piece of one call an id of its own: an id alone begins a
        call only when this one is complete.
        """
        if call_id and self.id:
            return call_id != self.id and (bool(name) or (self.length > 0 and self.is_whole))
        return bool(name and self.name) and (name != self.name or (self.length > 0 and json.is_object(self.text)))


class ChatReader:
    """One stream of chunks to events.

    State: at most one open text, reasoning or refusal part (they cannot interleave), any number of open calls. The
    finish waits for the usage chunk that follows it, for `[DONE]`, or for the end of the body; usage is told right
    before it. A body that is no event stream is gathered and read as a whole.
    """

    def __init__(self) -> None:
        self._frames = FrameReader()
        self._body: list[bytes] | None = None
        self._out: list[Event] = []
        self._next = 0
        self._start = Start()
        self._is_begun = False
        self._is_started = False
        self._is_over = False
        self._prose: tuple[PartKind, int] | None = None
        self._signature: Signature | None = None
        self._calls: dict[int, _OpenCall] = {}
        self._all_calls: list[_OpenCall] = []
        self._native: str | None = None
        self._usage: Usage | None = None
        self._has_text = False
        self._half = b""

    def feed(self, data: bytes) -> list[Event]:
        if not self._is_begun:
            self._begin(data)
        if self._body is not None:
            self._body.append(data)
            return []
        for frame in self._frames.feed(data):
            self._frame(frame.data)
        out, self._out = self._out, []
        return out

    def close(self) -> list[Event]:
        if self._body is not None:
            return _read_stray(b"".join(self._body))
        for frame in self._frames.close():
            self._frame(frame.data)
        if self._native is not None:
            self._finish()
        else:
            self._fail("The upstream's stream ended before the answer was complete.")
        out, self._out = self._out, []
        return out

    def _begin(self, data: bytes) -> None:
        """Tell by the first byte that is no white space whether this is an event stream."""
        first = data.lstrip()[:1]
        self._is_begun = bool(first)
        if first and first in b"{[<":
            self._body = []

    def _frame(self, data: bytes) -> None:
        if self._is_over:
            return
        try:
            chunk = _decode_chunk.decode(data)
        except _UNREADABLE:
            if data.strip() == b"[DONE]":
                self._done()
                return
            try:
                chunk = json.decode_leniently(_decode_chunk, self._joined(data))
            except BrokenAnswer:
                if self._native is None:
                    self._fail("The upstream sent an event that is not a chat completion chunk.")
                return
        if chunk.error:
            self._end(Failed(openai_errors.read_error(0, data, NAME)))
        else:
            self._chunk(chunk)

    def _joined(self, data: bytes) -> bytes:
        """`data` with the half of a surrogate pair that the chunk before ended in, and without one that it ends in."""
        data = _LOW_HALF.sub(lambda match: match[1] + self._half + match[2], data, 1) if self._half else data
        match = _HIGH_HALF.search(data)
        self._half = match[1] if match else b""
        return data if match is None else data[: match.start()] + data[match.end() :]

    def _chunk(self, chunk: _Chunk) -> None:
        if not self._is_started and not self._has_started(chunk):
            return
        for choice in chunk.choices or ():
            if choice.index:
                continue
            delta = choice.delta or choice.message
            if delta is not None and self._native is None:
                self._delta(delta)
            if choice.finish_reason and self._native is None:
                self._native = choice.finish_reason
                if (problem := _given_up(self._native)) is not None:
                    self._end(Failed(problem))
                    return
        if chunk.usage is not None and (usage := _read_usage(chunk.usage)) is not None:
            self._usage = usage if self._usage is None else self._usage.merged(usage)

    def _has_started(self, chunk: _Chunk) -> bool:
        """Azure's first chunk has neither choices nor names, and some keep-alives are empty objects."""
        known = self._start
        self._start = Start(
            known.id or str(chunk.id or ""), known.model or chunk.model or "", known.created or int(chunk.created or 0)
        )
        self._is_started = bool(chunk.choices or chunk.usage)
        if self._is_started:
            self._out.append(self._start)
        return self._is_started

    def _delta(self, delta: _Delta) -> None:
        thought = delta.reasoning_content
        if thought is None and (delta.reasoning or delta.thinking or delta.reasoning_details):
            thought = _thought_of(delta)
        if thought:
            self._text("reasoning", thought)
        content = delta.content
        if content:
            self._text("text", content if isinstance(content, str) else "".join(_texts_of(content)))
        if delta.refusal:
            self._text("refusal", delta.refusal)
        if delta.images:
            self._pictures(delta)
        if delta.extra_content is not None:
            self._sign(_signature(delta.extra_content))
        if delta.tool_calls:
            for place, call in enumerate(delta.tool_calls):
                self._call(call, place)
        if delta.function_call is not None:
            self._call(_Call(index=0, function=delta.function_call, id=_minted(self._start.id, 0)), 0)

    def _text(self, kind: Literal["text", "reasoning", "refusal"], text: str) -> None:
        if not text:
            return
        prose = self._prose
        if prose is None or prose[0] != kind:
            prose = self._open_prose(kind)
        self._out.append(ReasoningDelta(prose[1], text) if kind == "reasoning" else TextDelta(prose[1], text))

    def _open_prose(self, kind: PartKind) -> tuple[PartKind, int]:
        self._end_prose()
        self._has_text = self._has_text or kind != "reasoning"
        prose = self._prose = (kind, self._next)
        self._next += 1
        self._out.append(PartStart(prose[1], kind))
        return prose

    def _end_prose(self) -> None:
        if self._prose is not None:
            part = self._prose[1]
            self._out += [PartEnd(part)] if self._signature is None else [Signed(part, self._signature), PartEnd(part)]
            self._prose = self._signature = None

    def _sign(self, signature: Signature | None) -> None:
        """A signature of what was said last; where nothing is open, it stands in a part of its own."""
        if signature is not None and self._prose is None:
            self._open_prose("text" if signature.family == "google" else "reasoning")
        self._signature = signature or self._signature

    def _pictures(self, delta: _Delta) -> None:
        for media in _pictures_of(delta):
            self._end_prose()
            self._out += [PartStart(self._next, "media"), MediaOut(self._next, media), PartEnd(self._next)]
            self._next += 1

    def _call(self, wire: _Call, place: int) -> None:
        function = wire.function or wire.custom or _Function()
        call = None if wire.id or function.name or wire.index is None else self._calls.get(wire.index)
        if call is None:
            call = self._slot(wire, (wire.id or "").strip(), function.name or "", place)
        if wire.custom is not None:
            call.is_custom, piece = True, function.input or ""
        else:
            piece = _arguments(function.arguments)
        if wire.extra_content is not None:
            call.signature = call.signature or _signature(wire.extra_content)
        if piece and not call.repeats(piece):
            call.pieces.append(piece)
            call.length += len(piece)
            if call.part is not None:
                self._out.append(ArgsDelta(call.part, piece))
        if call.part is None and call.id and call.name:
            self._announce(call)

    def _slot(self, wire: _Call, call_id: str, name: str, place: int) -> _OpenCall:
        """The call that a piece belongs to, by its index, else by its id, else by its place among its neighbours."""
        index = self._index_of(call_id, place) if wire.index is None else wire.index
        call = self._calls.get(index)
        if call is None or call.differs(call_id, name):
            call = self._calls[index] = _OpenCall()
            self._all_calls.append(call)
        call.id = call.id or call_id
        call.name = call.name or name
        return call

    def _index_of(self, call_id: str, place: int) -> int:
        if call_id:
            known = (index for index, call in self._calls.items() if call.id == call_id)
            return next(known, max(self._calls, default=-1) + 1)
        return place or max(self._calls, default=0)

    def _announce(self, call: _OpenCall) -> None:
        self._end_prose()
        call.part, self._next = self._next, self._next + 1
        self._out.append(PartStart(call.part, "call", call.id, call.name, is_custom=call.is_custom))
        if call.pieces:
            self._out.append(ArgsDelta(call.part, call.text))

    def _done(self) -> None:
        is_complete = self._has_text and all(call.is_whole for call in self._all_calls)
        if self._native is not None or is_complete:
            self._finish()
        else:
            self._fail("The upstream's stream ended without a finish reason.")

    def _finish(self) -> None:
        if self._is_over:
            return
        self._end_prose()
        for index, call in enumerate(self._all_calls):
            if call.part is None and call.name:
                call.id = call.id or _minted(self._start.id, index)
                self._announce(call)
        calls = [(call, call.part, call.is_whole) for call in self._all_calls if call.part is not None]
        reason, is_whole = _reason_of(self._native), all(is_whole for _, _, is_whole in calls)
        if not is_whole and reason in ("stop", "tool_calls"):
            self._fail("The upstream's stream ended inside a tool call's arguments.")
            return
        for call, part, is_complete in calls:
            if call.signature is not None:
                self._out.append(Signed(part, call.signature))
            self._out.append(PartEnd(part, is_complete=is_complete))
        if calls and (reason in ("stop", "tool_calls") or (reason == "length" and is_whole)):
            reason = "tool_calls"
        elif reason == "tool_calls":
            reason = "stop"
        self._end(Finish(reason, self._native or ""))

    def _fail(self, message: str) -> None:
        self._end(Failed(Problem("bad_gateway", 502, message)))

    def _end(self, last: Finish | Failed) -> None:
        if not self._is_over:
            self._is_over = True
            if self._usage is not None:
                self._out.append(UsageSeen(self._usage))
            self._out.append(last)


_HIGH_HALF = re.compile(rb'(?<!\\)(?:\\\\)*(\\u[dD][89abAB][0-9a-fA-F]{2})(?=")')
_LOW_HALF = re.compile(rb'(")(\\u[dD][c-fC-F][0-9a-fA-F]{2})')


def _read_stray(body: bytes) -> list[Event]:
    """A body that came in place of a stream: an error, or an answer given whole."""
    try:
        return _read_answer(body)
    except BrokenAnswer:
        is_page = body.lstrip()[:1] == b"<"
        problem = openai_errors.read_error(200 if is_page else 0, body, NAME)
        if is_page or json.is_object(body):
            return [Failed(problem)]
        return [Failed(Problem("bad_gateway", 502, "The upstream's answer is neither a stream nor JSON."))]


# ---- stream writer --------------------------------------------------------------------------------------------------


class ChatWriter:
    """Events to chunks: role chunk, deltas, finish chunk, usage chunk if asked for, `[DONE]`.

    SDKs add up what they get: names, ids and roles are told once, calls are numbered from 0 in order of their start,
    and a signature, which must not be added up, is told once, at the end. Free-text calls, which crash the helpers of
    SDKs in a stream, are told as functions.
    """

    def __init__(self, echo: Echo) -> None:
        self._echo = echo
        self._prefix = b""
        self._suffix = b',"usage":null}' if echo.request.wants_usage else b"}"
        self._calls: dict[int, int] = {}
        self._silent: set[int] = set()
        self._customs: dict[int, list[str]] = {}
        self._thought: tuple[int, int] | None = None
        self._refusals: set[int] = set()
        self._images = 0
        self._signature: Signature | None = None
        self._usage: Usage | None = None
        self._is_over = False

    def push(self, events: list[Event]) -> bytes:
        if len(events) == 1:
            return self._event(events[0])
        return b"".join([self._event(event) for event in events])

    def keepalive(self) -> bytes:
        return b": keepalive\n\n"

    def _event(self, event: Event) -> bytes:
        if self._is_over:
            return b""
        match event:
            case TextDelta(part, text):
                name = b"refusal" if part in self._refusals else b"content"
                return self._delta(b'{"%b":%b}' % (name, json.encode(text)))
            case ArgsDelta(part, text):
                if part in self._customs:
                    self._customs[part].append(text)
                    return b""
                self._silent.discard(part)
                return self._arguments(part, text)
            case ReasoningDelta(part, text, segment):
                place, self._thought = self._thought, (part, segment)
                if place is not None and place != self._thought:
                    text = "\n\n" + text
                return self._delta(b'{"reasoning_content":%b}' % json.encode(text))
            case PartStart():
                return self._part(event)
            case PartEnd(part) if part in self._customs:
                return self._arguments(part, custom_tools.wrapped("".join(self._customs.pop(part))))
            case PartEnd(part, is_complete) if part in self._silent and is_complete:
                return self._arguments(part, "{}")
            case Signed(part, signature) if part in self._calls:
                call = {"index": self._calls[part], "function": {"arguments": ""}, **_extra_of(_sealed(signature))}
                return self._delta(json.encode({"tool_calls": [call]}))
            case Signed(_, signature):
                self._signature = signature
                return b""
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
                self._is_over = True
                return _write_stream_error(problem)
            case _:
                return b""

    def _start(self, start: Start) -> bytes:
        head = {
            "id": _answer_id(start.id, self._echo),
            "object": "chat.completion.chunk",
            "created": start.created or self._echo.now_at,
            "model": self._echo.model,
        }
        self._prefix = b"data: " + json.encode(head)[:-1]
        return self._delta(b'{"role":"assistant","content":""}')

    def _delta(self, delta: bytes, finish: bytes = b"null") -> bytes:
        return b'%b,"choices":[{"index":0,"delta":%b,"logprobs":null,"finish_reason":%b}]%b\n\n' % (
            self._prefix,
            delta,
            finish,
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
        else:
            self._silent.add(start.part)
        function = {"name": start.name, "arguments": ""}
        call = {"index": index, "id": start.call_id, "type": "function", "function": function}
        return self._delta(json.encode({"tool_calls": [call]}))

    def _arguments(self, part: int, text: str) -> bytes:
        index = self._calls[part]
        return self._delta(b'{"tool_calls":[{"index":%d,"function":{"arguments":%b}}]}' % (index, json.encode(text)))

    def _finish(self, reason: FinishReason) -> bytes:
        self._is_over = True
        out = b"" if self._signature is None else self._delta(json.encode(_extra_of(_sealed(self._signature))))
        out += self._delta(b"{}", b'"%b"' % _word_for(reason, is_refused=bool(self._refusals)).encode())
        if self._echo.request.wants_usage and self._usage is not None:
            out += b'%b,"choices":[],"usage":%b}\n\n' % (self._prefix, json.encode(write_usage(self._usage)))
        return out + b"data: [DONE]\n\n"


# ---- pass-through ---------------------------------------------------------------------------------------------------


class ChatTap:
    """Knows of a passing stream whether it has begun, ended or failed.

    After the first content a frame is read only when it holds one of a few marks. A model that writes such a mark
    does so with its quotes escaped; what else looks like one costs a reading, never a wrong answer.
    """

    def __init__(self) -> None:
        self.has_content = False
        self.is_over = False
        self.problem: Problem | None = None
        self._frames = WholeFrames()
        self._usage: Usage | None = None

    def look(self, data: bytes) -> None:
        frames = self._frames.feed(data)
        if (
            not self.has_content
            or b'"finish_reason":"' in frames
            or b'"usage":{' in frames
            or b'"error":' in frames
            or b"[DONE]" in frames
            or b'": ' in frames
        ):
            self._read(frames)

    def usage(self) -> Usage | None:
        return self._usage

    def _read(self, frames: bytes) -> None:
        if not self.has_content and frames.lstrip()[:1] in (b"{", b"[", b"<"):
            self.problem = openai_errors.read_error(200, frames.strip(), NAME).seen_as(
                502, "bad_gateway", "The upstream's answer is not an event stream."
            )
            return
        for frame in FrameReader().feed(frames):
            self._frame(frame.data)

    def _frame(self, data: bytes) -> None:
        try:
            seen = _decode_seen.decode(data)
        except _UNREADABLE:
            if data.strip() == b"[DONE]":
                self.is_over = True
            elif not self.has_content:
                self.problem = Problem("bad_gateway", 502, "The upstream's stream is not one of chat chunks.")
            return
        if seen.error:
            self.problem = openai_errors.read_error(0, data, NAME)
            return
        for choice in seen.choices or ():
            self.is_over = self.is_over or bool(choice.finish_reason)
            self.has_content = self.has_content or self.is_over or _says_something(choice)
        if (usage := _read_usage(seen.usage)) is not None:
            self._usage = usage if self._usage is None else self._usage.merged(usage)


def _says_something(choice: _SeenChoice) -> bool:
    delta = choice.delta or choice.message or {}
    return any(name != "role" and bytes(value) not in _SILENCE for name, value in delta.items())


_SILENCE = frozenset({b"null", b'""', b"[]", b"{}"})


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
    follow_signs: tuple[bytes, ...] = (b'"assistant"', b'"tool"', b'"function"', b'"prompt_cache_key"')
    shows_reasoning = True
    fit = Fit(NAME, "openai", has_result_media=False, media=frozenset({"image", "audio", "document"}))

    def __init__(self, length_field: str = "max_tokens") -> None:
        self._length_field = length_field

    def read_request(self, body: bytes, *, model: str = "", is_stream: bool | None = None) -> Request:
        request = _read_request(body)
        return structs.replace(
            request, model=model or request.model, is_stream=request.is_stream if is_stream is None else is_stream
        )

    def opening(self, body: bytes) -> Opening:
        return _opening(body)

    def write_request(self, request: Request) -> Written:
        return _write_request(request, self._length_field)

    def read_answer(self, body: bytes) -> list[Event]:
        return _read_answer(body)

    def read_usage(self, members: Mapping[str, Raw]) -> Usage | None:
        return _counts_in(members.get("usage"))

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
