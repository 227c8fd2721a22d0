"""OpenAI Responses.

Sources: https://platform.openai.com/docs/api-reference/responses and .../responses-streaming, checked 2026-11-24;
the types of the official SDK, openai 3.54.0; the Codex CLI's reader (`codex-api`, `sse/responses.rs`), read 2026-11-24.

Conversation and answer are flat lists of items here, where other dialects have turns of parts. Requests are written
stateless: `store` is false, and reasoning returns as the encrypted content that came with it. Reasoning that another
vendor signed travels to callers of this dialect in `encrypted_content` too, sealed by `canon.carrier`.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import msgspec
from msgspec import Raw, Struct, structs

from cliproxy.canon.answer import Answer, unfold
from cliproxy.canon.carrier import UNSIGNED, seal, unseal
from cliproxy.canon.errors import BrokenAnswer, InvalidJson, InvalidRequest, MissingParameter, Problem
from cliproxy.canon.events import (
    ArgsDelta,
    Event,
    Failed,
    Finish,
    FinishReason,
    MediaOut,
    OpaqueOut,
    PartEnd,
    PartKind,
    PartStart,
    Ping,
    ReasoningDelta,
    Signed,
    Start,
    TextDelta,
    UsageSeen,
)
from cliproxy.canon.fit import Fit
from cliproxy.canon.linear import Linear
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
)
from cliproxy.canon.request import Limits, Meta, OutputFormat, Request, Sampling, Thinking, Tool, ToolChoice
from cliproxy.canon.thinking import level_of
from cliproxy.canon.usage import Usage
from cliproxy.dialects.base import Echo, Opening, Written
from cliproxy.wire import json, json_schema, openai_errors, openai_models
from cliproxy.wire.media import data_url, media_at, media_of
from cliproxy.wire.sse import Frame, FrameReader, named_frame

NAME = "openai-responses"
T = TypeVar("T")

# ---- wire shapes ----------------------------------------------------------------------------------------------------
# Every member is optional and null is absence; what we do not know is skipped, never refused.

_NULL = Raw(b"null")


class _Url(Struct):
    url: str = ""


class _InputAudio(Struct):
    data: str = ""
    format: str | None = None


class _Breakpoint(Struct):
    ttl: str | None = None


class _Content(Struct):
    type: str = ""
    text: str | None = None
    refusal: str | None = None
    image_url: str | _Url | None = None
    detail: str | None = None
    file_id: str | None = None
    file_url: str | None = None
    file_data: str | None = None
    filename: str | None = None
    input_audio: _InputAudio | None = None
    prompt_cache_breakpoint: _Breakpoint | None = None


class _Head(Struct):
    """Enough of an item, a content part or a tool to know what it is."""

    type: str | None = None
    role: str | None = None
    name: str | None = None
    server_label: str | None = None


class _Item(Struct):
    """The items that we model, of requests and of answers."""

    type: str | None = None
    id: str | None = None
    status: str | None = None
    role: str = ""
    phase: str | None = None
    content: Raw = _NULL
    call_id: str | None = None
    name: str | None = None
    namespace: str | None = None
    arguments: Raw = _NULL
    input: str | None = None
    output: Raw = _NULL
    summary: list[_Content] | None = None
    encrypted_content: str | None = None
    tools: list[Raw] | None = None
    result: str | None = None
    output_format: str | None = None


class _Tool(Struct):
    name: str | None = None
    description: str | None = None
    parameters: Raw = _NULL
    strict: bool | None = None
    format: Raw = _NULL
    tools: list[Raw] | None = None


class _Choice(Struct):
    type: str = ""
    name: str | None = None
    mode: str | None = None
    server_label: str | None = None
    tools: list[_Head] | None = None


class _Format(Struct):
    type: str = "text"
    name: str | None = None
    description: str | None = None
    schema: Raw = _NULL
    strict: bool | None = None


class _TextOptions(Struct):
    format: _Format | None = None
    verbosity: str | None = None


class _ReasoningOptions(Struct):
    effort: str | None = None
    summary: str | None = None
    generate_summary: str | None = None
    context: str | None = None


class _Request(Struct):
    model: str | None = None
    input: str | list[Raw] | None = None
    instructions: str | None = None
    stream: bool | None = None
    tools: list[Raw] | None = None
    tool_choice: Raw = _NULL
    parallel_tool_calls: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: int | None = None
    max_output_tokens: int | None = None
    reasoning: _ReasoningOptions | None = None
    text: _TextOptions | None = None
    include: list[str] | None = None
    store: bool | None = None
    metadata: Raw = _NULL
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    service_tier: str | None = None


class _Said(Struct, gc=False):
    """An item as one of an opening. Those without a role are the model's, or follow from what it said."""

    role: str | None = None
    content: Raw = _NULL


class _Reference(Struct):
    id: str = ""


class _Opening(Struct):
    """Enough of a request to know its conversation."""

    input: str | list[_Said] | None = None
    instructions: Raw = _NULL
    conversation: _Reference | str | None = None
    prompt_cache_key: str | None = None


class _InputDetails(Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class _OutputDetails(Struct):
    reasoning_tokens: int | None = None


class _Usage(Struct):
    input_tokens: int | None = None
    input_tokens_details: _InputDetails | None = None
    output_tokens: int | None = None
    output_tokens_details: _OutputDetails | None = None


class _Incomplete(Struct):
    reason: str | None = None


class _Response(Struct):
    id: str | None = None
    object: str | None = None
    model: str | None = None
    created_at: float | None = None
    status: str | None = None
    output: list[Raw] | None = None
    usage: _Usage | None = None
    incomplete_details: _Incomplete | None = None
    error: Raw = _NULL


class _StreamEvent(Struct, gc=False):
    """One shape for all events, so that a frame is decoded once; members of other events cost nothing."""

    type: str = ""
    delta: str | None = None
    output_index: int | None = None
    item_id: str | None = None
    content_index: int | None = 0
    summary_index: int | None = 0
    text: str | None = None
    refusal: str | None = None
    arguments: str | None = None
    input: str | None = None
    name: str | None = None
    item: Raw = _NULL
    response: Raw = _NULL
    error: Raw = _NULL


_request = msgspec.json.Decoder(_Request)
_opening = msgspec.json.Decoder(_Opening)
_head = msgspec.json.Decoder(_Head)
_item = msgspec.json.Decoder(_Item)
_content = msgspec.json.Decoder(_Content)
_contents = msgspec.json.Decoder(list[_Content] | None)
_content_list = msgspec.json.Decoder(str | list[Raw] | None)
_tool = msgspec.json.Decoder(_Tool)
_choice = msgspec.json.Decoder(str | _Choice | None)
_response = msgspec.json.Decoder(_Response)
_counts: "msgspec.json.Decoder[_Usage | None]" = msgspec.json.Decoder(_Usage | None)
_event = msgspec.json.Decoder(_StreamEvent)
_string = msgspec.json.Decoder(str)

# ---- vocabulary -----------------------------------------------------------------------------------------------------

_ITEM_IDS = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "custom_tool_call": "ctc",
    "image_generation_call": "ig",
}
"""Prefix of item ids by item type; an id with another prefix is refused."""
_CALLS = frozenset({"function_call", "custom_tool_call"})

_CONTENT_OPAQUE = "content/"
"""Opaque parts of this type stood inside a message; all others were items of their own."""

_REFUSED_FIELDS = {
    "previous_response_id": "this gateway keeps no responses; send the whole conversation in `input`",
    "conversation": "this gateway keeps no conversations; send the whole conversation in `input`",
    "prompt": "prompt templates live at the vendor; send `instructions` and `input`",
    "background": "this gateway runs nothing in the background; send the request without it, best with `stream`",
}
_SILENT_FIELDS = frozenset({"stream_options", "client_metadata", "store", "include"})
_KNOWN_FIELDS = frozenset(_Request.__struct_fields__) | _SILENT_FIELDS
_DEFAULTS = {"truncation": Raw(b'"disabled"'), "background": Raw(b"false")}
"""Values that say nothing, besides null."""

_ROLES: dict[str, Role] = {
    "user": "user",
    "assistant": "assistant",
    "system": "system",
    "developer": "developer",
}
_CHOICES = {
    "auto": ToolChoice("auto"),
    "none": ToolChoice("none"),
    "required": ToolChoice("required"),
    "any": ToolChoice("required"),
}
_TIERS_READ = {"fast": "priority"}
_TIERS_WRITTEN = {"auto": "auto", "default": "default", "flex": "flex", "priority": "priority", "fast": "priority"}
_CACHE_TTLS = {"30m": "5m", "12h": "1h"}
_AUDIO_FORMATS = {"audio/wav": "wav", "audio/mpeg": "mp3"}
_AUDIO_MIMES = {"wav": "audio/wav", "mp3": "audio/mpeg"}
_LOGPROBS = "message.output_text.logprobs"
_ENCRYPTED = "reasoning.encrypted_content"
_MIN_OUTPUT_TOKENS = 16
_ID_LENGTH = 64

_Test = Callable[[Request], bool]
_UNSAYABLE: tuple[tuple[str, _Test], ...] = (
    ("limits.stop", lambda request: bool(request.limits.stop)),
    ("limits.n", lambda request: (request.limits.n or 1) > 1),
    ("sampling.top_k", lambda request: request.sampling.top_k is not None),
    ("sampling.presence_penalty", lambda request: bool(request.sampling.presence_penalty)),
    ("sampling.frequency_penalty", lambda request: bool(request.sampling.frequency_penalty)),
    ("sampling.seed", lambda request: request.sampling.seed is not None),
    ("sampling.logit_bias", lambda request: bool(request.sampling.logit_bias)),
    ("meta.store", lambda request: request.meta.store is True),
)

_TERMINAL = {
    "response.completed": "completed",
    "response.incomplete": "incomplete",
    "response.failed": "failed",
    "response.cancelled": "cancelled",
    "response.done": "",
}
"""Status by the event that ends a stream; `response.done` is an alias whose response tells."""

_REASONS_READ: dict[str, FinishReason] = {"max_output_tokens": "length", "content_filter": "content_filter"}
_REASONS_WRITTEN: dict[FinishReason, str] = {
    "length": "max_output_tokens",
    "context_overflow": "max_output_tokens",
    "content_filter": "content_filter",
    "recitation": "content_filter",
    "refusal": "content_filter",
}
"""`incomplete_details.reason`; reasons that are absent are told as `completed`, and so is a refusal told in words."""

_MOVING = frozenset({"prompt_cache_breakpoint"})

# ---- requests: reading ----------------------------------------------------------------------------------------------


def _decoded(decoder: "msgspec.json.Decoder[T]", data: bytes | Raw, at: str = "") -> T:
    """Typed decoding; the complaint names the field from the root of the request, `at` being where `data` stands."""
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$")
        field = (at + path.rstrip("`")).lstrip(".")
        raise InvalidRequest(f"`{field}`: {text}." if field else f"{text}.", param=field) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidJson(json.describe(error)) from error


def _required(value: str | None, at: str) -> str:
    if value is None or not value.strip():
        raise MissingParameter(f"`{at}` is required.", param=at)
    return value


def _raw_text(raw: Raw) -> str:
    """The JSON text of a carried subtree, "" for null."""
    data = bytes(raw)
    return "" if data == b"null" else data.decode()


def _words(raw: Raw) -> str:
    """What should be a string: its text; the JSON text of anything else, "" for null."""
    return _string.decode(raw) if bytes(raw).startswith(b'"') else _raw_text(raw)


def _read_request(body: bytes, model: str, is_stream: bool | None) -> Request:
    present = json.members(body)
    wire = _decoded(_request, body)
    told = [name for name, raw in present.items() if raw not in (_NULL, _DEFAULTS.get(name))]
    for name in told:
        if (advice := _REFUSED_FIELDS.get(name)) is not None:
            raise InvalidRequest(f"`{name}` is not supported: {advice}.", param=name, code="unsupported_parameter")
    if wire.input is None:
        raise MissingParameter("`input` is required.", param="input")
    conversation = _Conversation()
    if wire.instructions:
        conversation.system.append(Text(wire.instructions))
    conversation.take_tools(wire.tools or (), "tools")
    if isinstance(wire.input, str):
        conversation.take_text(wire.input)
    else:
        for index, raw in enumerate(wire.input):
            conversation.take(raw, f"input[{index}]")
    include = wire.include or ()
    dropped = [name for name in told if name not in _KNOWN_FIELDS]
    if wire.reasoning and wire.reasoning.context:
        dropped.append("reasoning.context")
    return Request(
        model=_required(model or wire.model, "model"),
        is_stream=bool(wire.stream) if is_stream is None else is_stream,
        system=tuple(conversation.system),
        turns=conversation.finish(),
        tools=tuple(conversation.tools.values()),
        tool_choice=_read_choice(wire.tool_choice),
        parallel_calls=wire.parallel_tool_calls,
        sampling=Sampling(
            temperature=wire.temperature,
            top_p=wire.top_p,
            logprobs=True if _LOGPROBS in include else None,
            top_logprobs=wire.top_logprobs,
        ),
        limits=Limits(wire.max_output_tokens),
        thinking=_read_thinking(wire.reasoning),
        output=_read_format(wire.text.format if wire.text else None),
        meta=Meta(
            end_user=wire.safety_identifier or wire.user or "",
            metadata=_raw_text(wire.metadata),
            service_tier=_TIERS_READ.get(tier := (wire.service_tier or "").lower(), tier),
            cache_key=wire.prompt_cache_key or "",
            verbosity=(wire.text.verbosity or "").lower() if wire.text else "",
            store=wire.store,
            wants_encrypted_reasoning=_ENCRYPTED in include,
        ),
        wants_usage=True,
        dropped=(*dropped, *conversation.dropped),
    )


def _read_choice(raw: Raw) -> ToolChoice | None:
    choice = _decoded(_choice, raw, "tool_choice")
    if choice is None:
        return None
    if isinstance(choice, str):
        if (known := _CHOICES.get(choice)) is None:
            raise InvalidRequest(
                f"`tool_choice` must be one of {', '.join(_CHOICES)} or an object.", param="tool_choice"
            )
        return known
    if choice.type == "allowed_tools":
        names = tuple(tool.name or tool.server_label or tool.type or "" for tool in choice.tools or ())
        return ToolChoice("allowed_required" if choice.mode == "required" else "allowed_auto", names)
    return ToolChoice("one", (choice.name or choice.server_label or _required(choice.type, "tool_choice.type"),))


def _read_thinking(options: _ReasoningOptions | None) -> Thinking:
    if options is None:
        return Thinking()
    effort = (options.effort or "").strip().lower()
    summary = (options.summary or options.generate_summary or "").strip().lower()
    mode = "off" if effort == "none" else "level" if effort else None
    is_shown = None if not summary else summary != "none"
    return Thinking(mode, effort if mode == "level" else "", is_shown=is_shown, summary=summary if is_shown else "")


def _read_format(wire: _Format | None) -> OutputFormat:
    if wire is None or wire.type == "text":
        return OutputFormat()
    if wire.type == "json_object":
        return OutputFormat("json")
    if wire.type != "json_schema":
        raise InvalidRequest("`text.format.type` must be text, json_object or json_schema.", param="text.format.type")
    if not (schema := _raw_text(wire.schema)):
        return OutputFormat("json")
    return OutputFormat("schema", schema, wire.name or "", wire.description or "", wire.strict)


class _Conversation:
    """Items becoming turns.

    Neighbouring items of the assistant are one turn, except where their `phase` changes; so are neighbouring results.
    Each message of another speaker is a turn of its own.
    """

    def __init__(self) -> None:
        self.system: list[Text] = []
        self.tools: dict[tuple[str, str], Tool] = {}
        self.dropped: list[str] = []
        self._turns: list[Turn] = []
        self._kind = ""
        self._role: Role = "user"
        self._phase: str = ""
        self._parts: list[Part] = []
        self._carried: Reasoning | None = None
        self._names: dict[str, str] = {}

    def take_text(self, text: str) -> None:
        self._open("message", "user")
        self._parts.append(Text(text))

    def take(self, raw: Raw, at: str) -> None:
        head = _decoded(_head, raw, at)
        kind = head.type or _required("message" if head.role else None, f"{at}.type")
        if kind == "item_reference":
            advice = "this gateway keeps no items; send the item itself"
            raise InvalidRequest(f"`{at}`: `item_reference` is not supported: {advice}.", param=at)
        if self._carried is not None and kind not in _CALLS:
            self._assistant(self._carried)
            self._carried = None
        if (read := _ITEMS_READ.get(kind)) is not None:
            read(self, _decoded(_item, raw, at), at)
        else:
            is_result = kind.endswith("_output")
            self._open("results" if is_result else "assistant", "user" if is_result else "assistant")
            self._parts.append(Opaque(NAME, kind, bytes(raw).decode()))

    def finish(self) -> tuple[Turn, ...]:
        if self._carried is not None:
            self._assistant(self._carried)
        self._open("", "user")
        return tuple(self._turns)

    def take_message(self, item: _Item, at: str) -> None:
        role = _ROLES.get(item.role)
        if role is None:
            raise InvalidRequest(f"`{at}.role` must be one of {', '.join(_ROLES)}.", param=f"{at}.role")
        parts, kinds = self._contents(item.content, f"{at}.content")
        if role == "user" and kinds == {"output_text"}:
            role = "assistant"
        if role in ("system", "developer") and not self._turns and not self._parts and all(map(_is_text, parts)):
            self.system += [part for part in parts if isinstance(part, Text)]
            return
        phase = item.phase or ""
        if role == "assistant":
            self._open("assistant", role, phase)
        else:
            self._open("message", role)
        self._parts += parts

    def take_reasoning(self, item: _Item, at: str) -> None:
        part = Reasoning(*_thoughts(item, at), _unsealed(item.encrypted_content), item.id or "")
        if part.signature is not None and part.signature.family == "google" and not any(part.segments):
            self._carried = part
        else:
            self._assistant(part)

    def take_call(self, item: _Item, at: str) -> None:
        is_custom = item.type == "custom_tool_call"
        call_id, name = _required(item.call_id, f"{at}.call_id"), _required(item.name, f"{at}.name")
        arguments = (item.input or "") if is_custom else _words(item.arguments)
        signature = self._carried.signature if self._carried else None
        self._carried = None
        self._names[call_id] = name
        self._assistant(ToolCall(call_id, name, arguments, is_custom, item.namespace or "", item.id or "", signature))

    def take_result(self, item: _Item, at: str) -> None:
        call_id = _required(item.call_id, f"{at}.call_id")
        parts: Iterable[Part] = ()
        if bytes(item.output).startswith(b"["):
            parts, _ = self._contents(item.output, f"{at}.output")
        elif text := _words(item.output):
            parts = (Text(text),)
        name = self._names.get(call_id, item.name or "")
        self._open("results", "user")
        self._parts.append(ToolResult(call_id, tuple(parts), name, is_custom=item.type == "custom_tool_call_output"))

    def take_additional_tools(self, item: _Item, at: str) -> None:
        self.take_tools(item.tools or (), f"{at}.tools")

    def take_tools(self, tools: Iterable[Raw], at: str, namespace: str = "") -> None:
        """Of tools with one name the first counts, as everywhere in this dialect."""
        for index, raw in enumerate(tools):
            here = f"{at}[{index}]"
            head = _decoded(_head, raw, here)
            kind = head.type or "function"
            if kind not in ("function", "custom", "namespace"):
                name = head.name or head.server_label or kind
                opaque = Tool(name, "opaque", namespace=namespace, dialect=NAME, data=bytes(raw).decode())
                self.tools.setdefault((namespace, name), opaque)
                continue
            wire = _decoded(_tool, raw, here)
            name = _required(wire.name, f"{here}.name")
            if kind == "namespace":
                if wire.description and wire.description != _space_description(name):
                    self.dropped.append(f"{here}.description")
                self.take_tools(wire.tools or (), f"{here}.tools", name)
            else:
                self.tools.setdefault((namespace, name), _read_tool(wire, name, kind, namespace))

    def _assistant(self, part: Part) -> None:
        self._open("assistant", "assistant", self._phase if self._kind == "assistant" else "")
        self._parts.append(part)

    def _open(self, kind: str, role: Role, phase: str = "") -> None:
        """See to it that the next part stands in a turn of this kind."""
        goes_on = kind == self._kind and kind != "message" and not (self._phase and phase != self._phase)
        if goes_on:
            self._phase = phase
            return
        if self._parts:
            self._turns.append(Turn(self._role, tuple(self._parts), phase=self._phase))
        self._kind, self._role, self._phase, self._parts = kind, role, phase, []

    def _contents(self, raw: Raw, at: str) -> tuple[list[Part], set[str]]:
        """The parts of a content list or string, and the types that were in it."""
        wire = _decoded(_content_list, raw, at)
        if wire is None or isinstance(wire, str):
            return [Text(wire)] if wire else [], set()
        parts: list[Part] = []
        kinds: set[str] = set()
        for index, entry in enumerate(wire):
            here = f"{at}[{index}]"
            kind = _decoded(_head, entry, here).type or "input_text"
            kinds.add(kind)
            if (read := _CONTENTS_READ.get(kind)) is None:
                parts.append(Opaque(NAME, _CONTENT_OPAQUE + kind, bytes(entry).decode()))
            elif (part := read(_decoded(_content, entry, here))) is not None:
                parts.append(part)
            else:
                self.dropped.append(here)
        return parts, kinds


_ITEMS_READ: dict[str, Callable[[_Conversation, _Item, str], None]] = {
    "message": _Conversation.take_message,
    "reasoning": _Conversation.take_reasoning,
    "function_call": _Conversation.take_call,
    "custom_tool_call": _Conversation.take_call,
    "function_call_output": _Conversation.take_result,
    "custom_tool_call_output": _Conversation.take_result,
    "additional_tools": _Conversation.take_additional_tools,
}


def _is_text(part: Part) -> bool:
    return isinstance(part, Text)


def _thoughts(item: _Item, at: str) -> tuple[tuple[str, ...], bool]:
    """Segments, and whether they are raw: raw thoughts when there are any, else the summary, never both."""
    raw = tuple(content.text for content in _decoded(_contents, item.content, f"{at}.content") or () if content.text)
    return (raw, True) if raw else (tuple(content.text or "" for content in item.summary or ()), False)


def _unsealed(encrypted: str | None) -> Signature | None:
    return (unseal(encrypted) or Signature(encrypted, "openai", "encrypted")) if encrypted else None


def _read_tool(wire: _Tool, name: str, kind: str, namespace: str) -> Tool:
    if kind == "custom":
        return Tool(name, "custom", wire.description or "", namespace=namespace, format=_raw_text(wire.format))
    schema = _raw_text(wire.parameters)
    return Tool(name, "function", wire.description or "", schema, wire.strict, namespace)


def _read_text(content: _Content) -> Part | None:
    return Text(content.text or "", _cache(content))


def _read_refusal(content: _Content) -> Part | None:
    return Refusal(content.refusal or "")


def _read_image(content: _Content) -> Part | None:
    url = content.image_url.url if isinstance(content.image_url, _Url) else content.image_url
    media = media_at(url) if url else Media(file_id=content.file_id) if content.file_id else None
    return Image(media, content.detail or "", _cache(content)) if media else None


def _read_file(content: _Content) -> Part | None:
    filename = content.filename or ""
    if content.file_data:
        is_url = content.file_data[:5].lower() == "data:"
        media = media_at(content.file_data) if is_url else media_of(content.file_data, filename=filename)
    else:
        media = Media(url=content.file_url or "", file_id=content.file_id or "")
    if media is None or not (media.data or media.url or media.file_id):
        return None
    return Document(media, filename=filename, cache=_cache(content))


def _read_audio(content: _Content) -> Part | None:
    audio = content.input_audio or _InputAudio()
    kind = (audio.format or "wav").lower()
    media = media_of(audio.data, _AUDIO_MIMES.get(kind, f"audio/{kind}"))
    return Audio(media) if media else None


def _cache(content: _Content) -> Cache | None:
    mark = content.prompt_cache_breakpoint
    return Cache(_CACHE_TTLS.get(mark.ttl or "", mark.ttl or "")) if mark else None


_CONTENTS_READ: dict[str, Callable[[_Content], Part | None]] = {
    "input_text": _read_text,
    "output_text": _read_text,
    "text": _read_text,
    "refusal": _read_refusal,
    "input_image": _read_image,
    "input_file": _read_file,
    "input_audio": _read_audio,
}


def _read_opening(body: bytes) -> Opening:
    """A conversation is one, while a cache key may be shared by several."""
    wire = json.decode_as(_opening, body)
    named = wire.conversation
    if name := named.id if isinstance(named, _Reference) else named:
        return Opening(name, "conversation")
    if wire.prompt_cache_key:
        return Opening(wire.prompt_cache_key, "prompt_cache_key")
    said = wire.input or ()
    turns = (_Said("user", Raw(json.encode(said))),) if isinstance(said, str) else said
    return Opening(instructions=wire.instructions, turns=turns, moving=_MOVING)


# ---- requests: writing ----------------------------------------------------------------------------------------------


def _write_request(request: Request) -> Written:
    losses = [Loss(path, "this dialect has no word for it") for path, is_said in _UNSAYABLE if is_said(request)]
    losses += [Loss(path, "this dialect has no place for it") for path in request.dropped]
    tools = _write_tools(request.tools, losses)
    items = _Items(losses)
    for block in request.system:
        items.note_cache(block.cache)
    for turn in request.turns:
        items.add(turn)
    sampling, meta = request.sampling, request.meta
    wishes: dict[str, object] = {
        "model": request.model,
        "instructions": _instructions(request),
        "input": items.items,
        "tools": tools,
        "tool_choice": _write_choice(request, losses) if tools else None,
        "parallel_tool_calls": request.parallel_calls if tools else None,
        "max_output_tokens": _write_limit(request.limits.max_output_tokens, losses),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_logprobs": sampling.top_logprobs,
        "reasoning": _write_thinking(request.thinking, losses),
        "text": _write_output(request.output, meta.verbosity, losses),
        "metadata": Raw(meta.metadata.encode()) if meta.metadata else None,
        "safety_identifier": _write_id("meta.end_user", meta.end_user, losses),
        "prompt_cache_key": _write_id("meta.cache_key", meta.cache_key, losses),
        "service_tier": _write_tier(meta.service_tier, losses),
    }
    body = {name: value for name, value in wishes.items() if value is not None and value not in ("", [], {})}
    body |= {
        "input": items.items,
        "include": [_ENCRYPTED, _LOGPROBS] if sampling.logprobs else [_ENCRYPTED],
        "store": False,
        "stream": request.is_stream,
    }
    return Written(json.encode(body), tuple(dict.fromkeys(losses)))


def _instructions(request: Request) -> str:
    return "\n\n".join(block.text for block in request.system if block.text)


def _write_limit(tokens: int | None, losses: list[Loss]) -> int | None:
    if tokens is None or tokens >= _MIN_OUTPUT_TOKENS:
        return tokens
    losses.append(Loss("limits.max_output_tokens", f"the least is {_MIN_OUTPUT_TOKENS}", "approximated"))
    return _MIN_OUTPUT_TOKENS


def _write_thinking(thinking: Thinking, losses: list[Loss]) -> dict[str, object]:
    out: dict[str, object] = {}
    if thinking.mode == "off":
        out["effort"] = "none"
    elif thinking.mode == "level":
        out["effort"] = thinking.level
    elif thinking.mode == "budget":
        out["effort"] = level_of(thinking.budget)
        losses.append(Loss("thinking", f"asked for as the level {out['effort']}", "approximated"))
    if thinking.is_shown:
        out["summary"] = thinking.summary or "auto"
    return out


def _write_output(output: OutputFormat, verbosity: str, losses: list[Loss]) -> dict[str, object]:
    out: dict[str, object] = {}
    if output.kind == "json" or (output.kind == "schema" and not output.schema):
        out["format"] = {"type": "json_object"}
    elif output.kind == "schema":
        is_strict = _write_strict(output.is_strict, output.schema, "output", losses)
        name = legal(output.name or "response", "A-Za-z0-9_-", 64)
        out["format"] = {"type": "json_schema", "name": name, "schema": Raw(output.schema.encode())}
        out["format"] |= {"description": output.description} if output.description else {}
        out["format"] |= {} if is_strict is None else {"strict": is_strict}
    if verbosity:
        out["verbosity"] = verbosity
    return out


def _write_strict(is_strict: bool | None, schema: str, path: str, losses: list[Loss]) -> bool | None:
    """Strictness as asked, except where the vendor would refuse the schema for it."""
    if not is_strict or json_schema.is_strict_ready(schema):
        return is_strict
    losses.append(Loss(f"{path}.is_strict", "the schema does not meet the rules of strict mode", "approximated"))
    return False


def _write_id(path: str, value: str, losses: list[Loss]) -> str:
    short = legal(value, "\\x20-\\x7e", _ID_LENGTH) if value else ""
    if short != value:
        losses.append(Loss(path, f"shortened to {_ID_LENGTH} characters", "approximated"))
    return short


def _write_tier(tier: str, losses: list[Loss]) -> str:
    if tier and tier not in _TIERS_WRITTEN:
        losses.append(Loss("meta.service_tier", "no such tier here"))
    return _TIERS_WRITTEN.get(tier, "")


def _write_tools(tools: tuple[Tool, ...], losses: list[Loss], *, is_echo: bool = False) -> list[object]:
    """Tools for a request; for the echo in an answer, schemas stay the caller's own."""
    out: list[object] = []
    spaces: dict[str, list[object]] = {}
    for tool in tools:
        if tool.kind == "opaque" and tool.dialect != NAME:
            losses.append(Loss(f"tools.{tool.name}", "this vendor's own tool exists only in its dialect"))
            continue
        home = out
        if tool.namespace:
            if tool.namespace not in spaces:
                spaces[tool.namespace] = []
                space = {"type": "namespace", "name": tool.namespace, "description": _space_description(tool.namespace)}
                out.append({**space, "tools": spaces[tool.namespace]})
            home = spaces[tool.namespace]
        home.append(_write_echo_tool(tool) if is_echo else _write_tool(tool, losses))
        if tool.cache:
            losses.append(Loss("cache", "prompt-cache breakpoints are not written"))
    return out


def _space_description(namespace: str) -> str:
    """The vendor asks for one, and the conversation has none."""
    return f"Tools of {namespace}."


def _write_tool(tool: Tool, losses: list[Loss]) -> object:
    if tool.kind != "function":
        return _write_echo_tool(tool)
    schema = json_schema.for_openai(tool.schema) if tool.schema else json_schema.NO_ARGUMENTS
    is_strict = bool(_write_strict(tool.is_strict, schema, f"tools.{tool.name}", losses))
    return _function(tool, Raw(schema.encode()), is_strict=is_strict)


def _write_echo_tool(tool: Tool) -> object:
    if tool.kind == "opaque":
        return _one_line(tool.data)
    if tool.kind == "function":
        return _function(tool, _one_line(tool.schema or json_schema.NO_ARGUMENTS), is_strict=bool(tool.is_strict))
    out: dict[str, object] = {"type": "custom", "name": tool.name}
    out |= {"description": tool.description} if tool.description else {}
    return out | {"format": _one_line(tool.format)} if tool.format else out


def _one_line(text: str | bytes) -> Raw:
    """Carried JSON; the caller may have spread it over lines, which an event's data must not be."""
    return Raw(json.compact(text).encode())


def _function(tool: Tool, schema: Raw, *, is_strict: bool) -> dict[str, object]:
    out: dict[str, object] = {"type": "function", "name": tool.name}
    if tool.description:
        out["description"] = tool.description
    return out | {"parameters": schema, "strict": is_strict}


def _write_choice(request: Request, losses: list[Loss]) -> object:
    choice = request.tool_choice
    if choice is None or choice.mode in ("auto", "none", "required"):
        return choice and choice.mode
    kinds = {tool.name: tool for tool in reversed(request.tools) if tool.kind != "opaque" or tool.dialect == NAME}
    named = [_named_choice(kinds[name]) for name in choice.names if name in kinds]
    if len(named) < len(choice.names):
        losses.append(Loss("tool_choice", "a chosen tool is not on offer", "approximated"))
    if not named:
        return "auto"
    if choice.mode == "one":
        return named[0]
    return {"type": "allowed_tools", "mode": choice.mode.removeprefix("allowed_"), "tools": named}


def _named_choice(tool: Tool) -> dict[str, object]:
    if tool.kind != "opaque":
        return {"type": tool.kind, "name": tool.name}
    wire = _head.decode(tool.data)
    told = {"type": wire.type, "name": wire.name, "server_label": wire.server_label}
    return {name: value for name, value in told.items() if value}


class _Items:
    """Turns becoming items."""

    def __init__(self, losses: list[Loss]) -> None:
        self.items: list[object] = []
        self._losses = losses
        self._message: dict[str, object] = {}
        self._contents: list[object] = []

    def add(self, turn: Turn) -> None:
        if turn.name:
            self._losses.append(Loss("turns.name", "messages carry no participant's name"))
        self._message = {"type": "message", "role": turn.role}
        if turn.phase and turn.role == "assistant":
            self._message["phase"] = turn.phase
        for part in turn.parts:
            self._add_part(part, turn.role)
        self._end_message()

    def note_cache(self, cache: Cache | None) -> None:
        if cache is not None:
            self._losses.append(Loss("cache", "prompt-cache breakpoints are not written"))

    def _add_part(self, part: Part, role: Role) -> None:
        match part:
            case Refusal(text) if role == "assistant":
                self._contents.append({"type": "refusal", "refusal": text})
            case Opaque(dialect, kind, data) if dialect == NAME and kind.startswith(_CONTENT_OPAQUE):
                self._contents.append(Raw(data.encode()))
            case Opaque(dialect, kind, data):
                if dialect == NAME:
                    self._add_item(Raw(data.encode()))
                else:
                    self._losses.append(Loss(f"turns.{kind}", "this part exists only in its dialect"))
            case ToolCall():
                self._add_item(self._call(part))
            case ToolResult():
                kind = "custom_tool_call_output" if part.is_custom else "function_call_output"
                self.note_cache(part.cache)
                self._add_item({"type": kind, "call_id": part.call_id, "output": self._output(part)})
            case Reasoning():
                if (item := self._reasoning(part)) is not None:
                    self._add_item(item)
            case _:
                if (content := self._content(part, role)) is not None:
                    self._contents.append(content)

    def _add_item(self, item: object) -> None:
        self._end_message()
        self.items.append(item)

    def _end_message(self) -> None:
        if self._contents:
            self.items.append({**self._message, "content": self._contents})
            self._contents = []

    def _content(self, part: Part, role: Role) -> dict[str, object] | None:
        """A content part, or None when nothing of `part` can be said there."""
        match part:
            case Text(text, cache):
                self.note_cache(cache)
                return {"type": "output_text" if role == "assistant" else "input_text", "text": text} if text else None
            case Refusal(text):
                return {"type": "input_text", "text": text}
            case Image(media, detail, cache) if role != "assistant":
                self.note_cache(cache)
                place = {"file_id": media.file_id} if media.file_id else {"image_url": data_url(media)}
                return {"type": "input_image", **place, **({"detail": detail} if detail else {})}
            case Document() if role != "assistant":
                return self._document(part)
            case Audio(media) if role != "assistant" and media.data:
                kind = _AUDIO_FORMATS.get(media.mime, media.mime.rpartition("/")[2] or "wav")
                return {"type": "input_audio", "input_audio": {"data": media.data, "format": kind}}
            case _:
                name = type(part).__name__.lower()
                self._losses.append(Loss(f"turns.{name}", f"a message of the {role} cannot hold it"))
                return None

    def _document(self, part: Document) -> dict[str, object]:
        self.note_cache(part.cache)
        media = part.media
        if part.text:
            self._losses.append(Loss("turns.document", "a text document was told as text", "approximated"))
            heads = (part.title or part.filename, part.context)
            return {"type": "input_text", "text": "\n\n".join(text for text in (*heads, part.text) if text)}
        if part.context or (part.title and part.filename):
            self._losses.append(Loss("turns.document", "a file carries a name and nothing else", "approximated"))
        if media.file_id:
            return {"type": "input_file", "file_id": media.file_id}
        if media.url:
            return {"type": "input_file", "file_url": media.url}
        filename = part.filename or part.title or f"document.{media.mime.rpartition('/')[2]}"
        return {"type": "input_file", "filename": filename, "file_data": data_url(media)}

    def _call(self, call: ToolCall) -> dict[str, object]:
        self.note_cache(call.cache)
        kind = "custom_tool_call" if call.is_custom else "function_call"
        text = {"input": call.arguments} if call.is_custom else {"arguments": _arguments(call.arguments)}
        space = {"namespace": call.namespace} if call.namespace else {}
        return {"type": kind, **_id_of(kind, call.item_id), "call_id": call.id, "name": call.name, **space, **text}

    def _reasoning(self, part: Reasoning) -> dict[str, object] | None:
        """Only what the vendor signed; raw thoughts are refused as plain text and travel in their encrypted form."""
        if part.signature is None or part.signature.family != "openai":
            self._losses.append(Loss("turns.reasoning", "reasoning returns only to the vendor that issued it"))
            return None
        if part.is_raw and part.segments:
            self._losses.append(Loss("turns.reasoning", "raw thoughts return only in encrypted form", "approximated"))
        segments = () if part.is_raw else part.segments
        summary = [{"type": "summary_text", "text": text} for text in segments]
        head = {"type": "reasoning", **_id_of("reasoning", part.item_id)}
        return {**head, "summary": summary, "encrypted_content": part.signature.value}

    def _output(self, result: ToolResult) -> object:
        """Text as a string, which every server takes; a list only where media need one."""
        texts = [part.text for part in result.content if isinstance(part, Text)]
        if len(texts) == len(result.content):
            return "\n".join(texts)
        contents = [self._content(part, "user") for part in result.content]
        return [content for content in contents if content is not None]


def _arguments(text: str) -> str:
    """A call without arguments still has an object of them: clients parse whatever stands there."""
    return text if text.strip() else "{}"


def _id_of(kind: str, item_id: str) -> dict[str, str]:
    """`{"id": ...}` when the vendor would take the id for an item of this kind."""
    is_own = item_id.startswith(f"{_ITEM_IDS[kind]}_") and legal(item_id, "A-Za-z0-9_-", _ID_LENGTH) == item_id
    return {"id": item_id} if is_own else {}


# ---- answers: reading -----------------------------------------------------------------------------------------------


class _Row(Struct, frozen=True):
    """What an event with text speaks of. `is_delta`: the text is a piece, not the whole."""

    item: str
    part: PartKind
    is_raw: bool = False
    is_delta: bool = False


_TEXTS_READ = {
    f"response.{stem}.{suffix}": structs.replace(row, is_delta=suffix == "delta")
    for stem, row in {
        "output_text": _Row("message", "text"),
        "refusal": _Row("message", "refusal"),
        "reasoning_summary_text": _Row("reasoning", "reasoning"),
        "reasoning_text": _Row("reasoning", "reasoning", is_raw=True),
        "function_call_arguments": _Row("function_call", "call"),
        "custom_tool_call_input": _Row("custom_tool_call", "call"),
    }.items()
    for suffix in ("delta", "done")
}
_TEXT_DELTA = _TEXTS_READ["response.output_text.delta"]
_TEXT, _REFUSAL = _Row("message", "text"), _Row("message", "refusal")
_THOUGHT, _SUMMARY = _Row("reasoning", "reasoning", is_raw=True), _Row("reasoning", "reasoning")


class _Piece:
    """Text told of one content part, summary part or call; `number` is its canonical part, -1 while unknown."""

    __slots__ = ("is_ended", "number", "texts")

    def __init__(self, number: int) -> None:
        self.number = number
        self.texts: list[str] = []
        self.is_ended = False

    def beyond(self, text: str) -> str:
        """What the whole `text` adds. One that contradicts the deltas adds nothing: they have been told."""
        told = "".join(self.texts)
        return text[len(told) :] if text.startswith(told) else ""


class _Track:
    """One item of an answer while it is being read.

    `pieces` are keyed by content index or summary index; items that are one text have the single key 0.
    """

    __slots__ = ("index", "is_done", "is_raw", "item", "kind", "number", "pieces")

    def __init__(self, kind: str, index: int | None, item: _Item) -> None:
        self.kind = kind
        self.index = index
        self.item = item
        self.number = -1
        self.is_raw = False
        self.is_done = False
        self.pieces: dict[int, _Piece] = {}


class ResponsesReader:
    """An upstream's answer becoming events, streamed or whole.

    States: before `Start`, running, over. Within an answer each item is a `_Track`, open until its
    `output_item.done` or the terminal event. The same text may come up to four times (deltas, `*.done`,
    `output_item.done`, final `output`), and each of them may be the only one: whatever comes, only what goes beyond
    the text already told becomes a delta. Part numbers are given when a part first has something to say, for a call
    when its name is known.

    Items are found by `output_index`, else by `item_id`, else as the last open one of their kind: some servers leave
    out either, and one changes the ids with every event. For that reason too the final `output` is matched by kind
    and order.
    """

    def __init__(self) -> None:
        self._frames = FrameReader()
        self._out: list[Event] = []
        self._head = bytearray()
        self._is_sse: bool | None = None
        self._is_over = False
        self._response: _Response | None = None
        self._tracks: list[_Track] = []
        self._by_key: dict[int | str, _Track] = {}
        self._next = 0
        self._seen: set[PartKind] = set()
        self._has_cut_call = False

    # -- bytes --

    def feed(self, data: bytes) -> list[Event]:
        out = self._out = []
        if not self._is_sse:
            data = self._sniffed(data)
        if data and not self._is_over:
            self._take_frames(lambda: self._frames.feed(data))
        return out

    def close(self) -> list[Event]:
        out = self._out = []
        if self._is_sse:
            self._take_frames(self._frames.close)
        elif body := bytes(self._head).strip():
            try:
                self._take_body(body)
            except BrokenAnswer:
                self._fail(structs.replace(openai_errors.read_error(502, body, NAME), native=b""))
        self._fail(Problem("bad_gateway", 502, "The upstream's stream ended before the answer was complete."))
        return out

    def whole(self, body: bytes) -> list[Event]:
        """The events of a body that came at once. Raises BrokenAnswer when it holds no answer and no error."""
        if body.lstrip().startswith((b"event:", b"data:")):
            return self.feed(body) + self.close()
        out = self._out = []
        self._take_body(body)
        return out

    def _take_body(self, body: bytes) -> None:
        response = json.decode_leniently(_response, body)
        if response.output is not None or response.status is not None:
            self._end(response, body, response.status or "completed")
        elif response.error != _NULL or "detail" in json.members(body):
            self._fail(openai_errors.read_error(0, body, NAME))
        else:
            raise BrokenAnswer("The upstream's answer is no response object.")

    def _sniffed(self, data: bytes) -> bytes:
        """What of the bytes so far is an event stream: nothing while in doubt, or when they are JSON or a web page."""
        self._head += data
        if self._is_sse is None and (start := self._head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]):
            self._is_sse = start not in b"{[<"
        if not self._is_sse:
            return b""
        data, self._head = bytes(self._head), bytearray()
        return data

    def _take_frames(self, read: Callable[[], list[Frame]]) -> None:
        try:
            for frame in read():
                if self._is_over:
                    return
                self._take(frame)
        except BrokenAnswer as error:
            self._fail(error.problem)

    # -- events --

    def _take(self, frame: Frame) -> None:
        data = frame.data
        try:
            event = _event.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            if (event := self._mended(frame)) is None:
                return
        kind = event.type or frame.name.decode("utf-8", "replace")
        if (row := _TEXTS_READ.get(kind)) is not None:
            self._take_text(event, row)
        elif (handle := _EVENTS_READ.get(kind)) is not None:
            handle(self, event)
        elif (status := _TERMINAL.get(kind)) is not None:
            response = self._response_in(event)
            self._end(response, data, status or response.status or "completed")
        elif kind == "error" or (not kind and event.error != _NULL):
            self._fail(openai_errors.read_error(0, data, NAME))

    def _mended(self, frame: Frame) -> _StreamEvent | None:
        """A frame that is not as expected: mended, passed over when it means nothing to us, else the end."""
        data = json.mended(frame.data)
        if data.strip() == b"[DONE]":
            return None
        try:
            return _event.decode(data)
        except msgspec.ValidationError as error:
            kind = _type_of(data)
            if kind in ("", "error"):
                self._fail(openai_errors.read_error(0, data, NAME))
            elif kind in _EVENTS_READ or kind in _TERMINAL or kind in _TEXTS_READ:
                raise BrokenAnswer(f"The upstream sent a `{kind}` event that cannot be read.") from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BrokenAnswer("The upstream sent an event that is not JSON.") from error
        return None

    def _take_text(self, event: _StreamEvent, row: _Row) -> None:
        index, key, delta = event.output_index, event.content_index, event.delta
        if row is _TEXT_DELTA and delta and index is not None and key is not None:
            track = self._by_key.get(index)
            piece = track.pieces.get(key) if track is not None and track.kind == "message" else None
            if piece is not None and not piece.is_ended:
                piece.texts.append(delta)
                self._out.append(TextDelta(piece.number, delta))
                return
        track = self._track(row.item, index, event.item_id)
        track.item.name = event.name or track.item.name
        text = delta or event.text or event.refusal or event.arguments or event.input
        self._tell(track, key or event.summary_index or 0, text, row)

    def on_handshake(self, event: _StreamEvent) -> None:
        self._begin(self._response_in(event))

    def on_item(self, event: _StreamEvent) -> None:
        item = self._item(event.item)
        track = self._new_track(item.type or "", event.output_index, item)
        if track.kind in _CALLS:
            self._begin_call(track)

    def on_item_done(self, event: _StreamEvent) -> None:
        item = self._item(event.item)
        track = self._track(item.type or "", event.output_index, item.id)
        if track.is_done and (item.id, item.call_id) != (track.item.id, track.item.call_id):
            track = self._new_track(track.kind, event.output_index, item)
        self._complete(track, item, event.item)

    def on_keepalive(self, _: _StreamEvent) -> None:
        if self._response is not None:
            self._out.append(Ping())

    # -- items --

    def _item(self, raw: Raw) -> _Item:
        """An item; of one that we do not model only the type."""
        kind = _type_of(raw)
        return json.decode_leniently(_item, bytes(raw)) if kind in _ITEMS_COMPLETED else _Item(type=kind)

    def _new_track(self, kind: str, index: int | None, item: _Item) -> _Track:
        self._begin(None)
        track = _Track(kind, index, item)
        self._tracks.append(track)
        for key in (index, item.id):
            if key is not None:
                self._by_key[key] = track
        return track

    def _track(self, kind: str, index: int | None, item_id: str | None) -> _Track:
        """The item that an event speaks of, made up when it was never announced."""
        for key in (index, item_id):
            if key is not None and (track := self._by_key.get(key)) is not None and track.kind == kind:
                return track
        for track in reversed(self._tracks):
            if track.kind == kind and not track.is_done and (index is None or track.index is None):
                return track
        return self._new_track(kind, index, _Item(type=kind, id=item_id))

    def _tell(self, track: _Track, key: int, text: str | None, row: _Row) -> None:
        """Tell what `text` adds to a piece. Of summary and raw thoughts only the kind that speaks first is told."""
        if not text or track.is_done:
            return
        piece = track.pieces.get(key)
        if row.part == "reasoning":
            if track.number < 0:
                track.is_raw = row.is_raw
                track.number = self._start_part("reasoning", item_id=track.item.id or "", is_raw=row.is_raw)
            elif track.is_raw != row.is_raw:
                return
        if piece is None:
            if row.item == "message":
                self._end_pieces(track)
            own = self._start_part(row.part) if row.item == "message" else track.number
            piece = track.pieces[key] = _Piece(own)
        elif piece.is_ended:
            return
        if not row.is_delta and not (text := piece.beyond(text)):
            return
        piece.texts.append(text)
        if row.part == "reasoning":
            self._out.append(ReasoningDelta(piece.number, text, key))
        elif row.part != "call":
            self._out.append(TextDelta(piece.number, text))
        elif piece.number >= 0:
            self._out.append(ArgsDelta(piece.number, text))

    def _start_part(self, kind: PartKind, *, item_id: str = "", is_raw: bool = False) -> int:
        number, self._next = self._next, self._next + 1
        self._seen.add(kind)
        self._out.append(PartStart(number, kind, item_id=item_id, is_raw=is_raw))
        return number

    def _begin_call(self, track: _Track) -> None:
        """Announce a call as soon as its name is known, with the arguments that came before it."""
        item, name = track.item, (track.item.name or "").strip()
        if track.number >= 0 or not name:
            return
        call_id = (item.call_id or "").strip() or item.id or f"call_{self._next}_{name}"
        is_custom = track.kind == "custom_tool_call"
        track.number, self._next = self._next, self._next + 1
        self._seen.add("call")
        self._out.append(
            PartStart(
                track.number, "call", call_id, name, item.namespace or "", is_custom=is_custom, item_id=item.id or ""
            )
        )
        if (piece := track.pieces.get(0)) is not None:
            piece.number = track.number
            self._out.append(ArgsDelta(track.number, "".join(piece.texts)))

    def _complete(self, track: _Track, item: _Item, raw: Raw) -> None:
        """Everything that a finished item tells and that was not told yet, then its end."""
        if track.is_done:
            return
        item.name = item.name or track.item.name
        track.item = item
        if (finish := _ITEMS_COMPLETED.get(track.kind)) is not None:
            finish(self, track, item)
        else:
            track.number = self._start_part("opaque")
            self._out.append(OpaqueOut(track.number, NAME, track.kind, bytes(raw).decode("utf-8", "replace")))
        self._end_track(track, is_complete=item.status != "incomplete")

    def complete_message(self, track: _Track, item: _Item) -> None:
        for index, content in enumerate(json.decode_leniently(_contents, bytes(item.content)) or ()):
            is_refusal = content.type == "refusal"
            self._tell(track, index, content.refusal if is_refusal else content.text, _REFUSAL if is_refusal else _TEXT)

    def complete_reasoning(self, track: _Track, item: _Item) -> None:
        for index, content in enumerate(json.decode_leniently(_contents, bytes(item.content)) or ()):
            self._tell(track, index, content.text, _THOUGHT)
        for index, content in enumerate(item.summary or ()):
            self._tell(track, index, content.text, _SUMMARY)
        if item.encrypted_content:
            if track.number < 0:
                track.number = self._start_part("reasoning", item_id=item.id or "")
            self._out.append(Signed(track.number, Signature(item.encrypted_content, "openai", "encrypted")))

    def complete_call(self, track: _Track, item: _Item) -> None:
        self._begin_call(track)
        is_custom = track.kind == "custom_tool_call"
        self._tell(track, 0, item.input if is_custom else _words(item.arguments), _Row(track.kind, "call"))

    def complete_image(self, track: _Track, item: _Item) -> None:
        if item.result and (media := media_of(item.result, f"image/{item.output_format or 'png'}")) is not None:
            track.number = self._start_part("media")
            self._out.append(MediaOut(track.number, media))

    def _end_track(self, track: _Track, *, is_complete: bool) -> None:
        track.is_done = True
        if track.kind in _CALLS and track.number >= 0 and not is_complete:
            self._has_cut_call = True
        if track.kind == "message":
            self._end_pieces(track, is_complete=is_complete)
        elif track.number >= 0:
            self._out.append(PartEnd(track.number, is_complete=is_complete))

    def _end_pieces(self, track: _Track, *, is_complete: bool = True) -> None:
        """End the content parts of a message: each is a part of its own, and one begins when the last is over."""
        for piece in track.pieces.values():
            if not piece.is_ended:
                piece.is_ended = True
                self._out.append(PartEnd(piece.number, is_complete=is_complete))

    # -- beginning and end --

    def _response_in(self, event: _StreamEvent) -> _Response:
        return json.decode_leniently(_response, bytes(event.response)) if event.response != _NULL else _Response()

    def _begin(self, response: _Response | None) -> None:
        if self._response is None:
            self._response = response = response or _Response()
            self._out.append(Start(response.id or "", response.model or "", int(response.created_at or 0)))

    def _end(self, response: _Response, data: bytes, status: str) -> None:
        self._begin(response)
        if status not in ("completed", "incomplete"):
            problem = openai_errors.read_error(0, data, NAME)
            if response.error == _NULL and status != "failed":
                problem = Problem("bad_gateway", 502, f"The upstream left the answer `{status}`.")
            self._fail(problem)
            return
        unmatched = list(self._tracks)
        for raw in response.output or ():
            item = self._item(raw)
            track = next((one for one in unmatched if one.kind == item.type), None)
            if track is None:
                track = self._new_track(item.type or "", None, item)
            else:
                unmatched.remove(track)
            self._complete(track, item, raw)
        for track in self._tracks:
            if not track.is_done:
                self._end_track(track, is_complete=status == "completed")
        if response.usage is not None:
            self._out.append(UsageSeen(_usage_of(response.usage)))
        reason = (response.incomplete_details.reason if response.incomplete_details else None) or ""
        self._out.append(Finish(self._reason(status, reason), reason or status))
        self._is_over = True

    def _reason(self, status: str, reason: str) -> FinishReason:
        """Calls outrank the vendor's word, except where one of them was cut short or the filter stepped in."""
        said: FinishReason = "stop" if status == "completed" else _REASONS_READ.get(reason, "length")
        if "call" in self._seen and said != "content_filter" and not (said == "length" and self._has_cut_call):
            return "tool_calls"
        return "refusal" if "refusal" in self._seen and said == "stop" else said

    def _fail(self, problem: Problem) -> None:
        if not self._is_over:
            self._begin(None)
            self._out.append(Failed(problem))
            self._is_over = True


_EVENTS_READ: dict[str, Callable[[ResponsesReader, _StreamEvent], None]] = {
    "response.created": ResponsesReader.on_handshake,
    "response.queued": ResponsesReader.on_handshake,
    "response.in_progress": ResponsesReader.on_handshake,
    "response.output_item.added": ResponsesReader.on_item,
    "response.output_item.done": ResponsesReader.on_item_done,
    "keepalive": ResponsesReader.on_keepalive,
}
_ITEMS_COMPLETED: dict[str, Callable[[ResponsesReader, _Track, _Item], None]] = {
    "message": ResponsesReader.complete_message,
    "reasoning": ResponsesReader.complete_reasoning,
    "function_call": ResponsesReader.complete_call,
    "custom_tool_call": ResponsesReader.complete_call,
    "image_generation_call": ResponsesReader.complete_image,
}


def _type_of(data: bytes | Raw) -> str:
    try:
        return _head.decode(data).type or ""
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""


def _usage_of(wire: _Usage) -> Usage:
    taken = wire.input_tokens_details or _InputDetails()
    given = wire.output_tokens_details or _OutputDetails()
    return Usage(
        wire.input_tokens, taken.cached_tokens, taken.cache_write_tokens, wire.output_tokens, given.reasoning_tokens
    )


def _counts_in(raw: Raw | None) -> Usage | None:
    """The counts of a `usage` member; None when it holds none that can be read."""
    try:
        wire = None if raw is None else _counts.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return None if wire is None else _usage_of(wire)


# ---- answers: writing -----------------------------------------------------------------------------------------------


class _Strand(Struct, frozen=True):
    """How one kind of text travels: the names of its events and members, and of the part that holds it, if any."""

    event: bytes
    member: str
    index: bytes = b""
    part_event: bytes = b""
    part_type: str = ""
    tail: bytes = b""

    def part(self, text: str) -> dict[str, object]:
        extra: dict[str, object] = {"annotations": [], "logprobs": []} if self.part_type == "output_text" else {}
        return {"type": self.part_type, self.member: text, **extra}


_PART, _SUMMARY_PART = b"response.content_part", b"response.reasoning_summary_part"
_STRANDS = {
    "text": _Strand(b"response.output_text", "text", b"content_index", _PART, "output_text", b',"logprobs":[]'),
    "refusal": _Strand(b"response.refusal", "refusal", b"content_index", _PART, "refusal"),
    "raw": _Strand(b"response.reasoning_text", "text", b"content_index", _PART, "reasoning_text"),
    "summary": _Strand(b"response.reasoning_summary_text", "text", b"summary_index", _SUMMARY_PART, "summary_text"),
    "function_call": _Strand(b"response.function_call_arguments", "arguments"),
    "custom_tool_call": _Strand(b"response.custom_tool_call_input", "input"),
}


class _Open:
    """The item being written. `contents` are its finished parts; `is_whole` is None until its part has ended."""

    __slots__ = ("contents", "fields", "is_whole", "kind", "place", "strand", "texts")

    def __init__(self, kind: str, fields: dict[str, object], place: bytes) -> None:
        self.kind = kind
        self.fields = fields
        self.place = place
        self.contents: list[object] = []
        self.texts: list[str] = []
        self.strand: _Strand | None = None
        self.is_whole: bool | None = None

    def rendered(self, status: str) -> dict[str, object]:
        out = dict(self.fields)
        if "status" in out:
            out["status"] = status
        if self.kind in _CALLS:
            text = "".join(self.texts)
            out[_STRANDS[self.kind].member] = text if self.kind == "custom_tool_call" else _arguments(text)
        elif self.contents:
            out["content" if "content" in out else "summary"] = self.contents
        return out

    def place_of(self, strand: _Strand) -> bytes:
        """The members by which an event names where its text stands."""
        return self.place + (b',"%b":%d' % (strand.index, len(self.contents)) if strand.index else b"")


class ResponsesWriter:
    """Events becoming the stream of one answer, and its final response object.

    States: before the handshake, between items, in an item, over. An item is announced when it first has something to
    say and finished when the next one begins or the answer ends, not before: consecutive text parts share one message,
    and a call that the length limit cut short must not be called done. Ids are fixed when minted; `output_index` and
    `sequence_number` count from 0 without gaps. The final `output` repeats every item, for SDKs trust only that.
    """

    def __init__(self, echo: Echo) -> None:
        self.response = b""
        """The final response object, once the answer is over."""
        self._echo = echo
        self._constant = _echoed(echo)
        self._linear = Linear()
        self._out: list[bytes] = []
        self._batch: list[Event] = []
        self._sequence = 0
        self._index = 0
        self._head = b""
        self._output: list[bytes] = []
        self._item: _Open | None = None
        self._wanted: PartStart | None = None
        self._segment = 0
        self._delta_head = self._delta_middle = self._delta_tail = b""
        self._usage = Usage()
        self._has_refusal = False
        self._has_cut_call = False

    def push(self, events: list[Event]) -> bytes:
        self._batch = events
        out = self._out = []
        for event in self._linear.push(events):
            if self.response:
                break
            self._take(event)
        return b"".join(out)

    def keepalive(self) -> bytes:
        return b": keepalive\n\n"

    # -- events --

    def _take(self, event: Event) -> None:
        match event:
            case TextDelta(_, text) | ArgsDelta(_, text):
                if self._wanted is not None:
                    self._open_text(self._wanted)
                self._delta(text)
            case ReasoningDelta(_, text, segment):
                self._think(text, segment)
            case PartStart(_, kind):
                self._wanted = event
                if kind == "call":
                    self._open_call(event)
            case PartEnd():
                self._end_part(event)
            case Signed(_, signature):
                self._sign(signature)
            case OpaqueOut(_, dialect, _, data):
                self._write_opaque(dialect, data)
            case MediaOut(_, media):
                self._write_media(media)
            case UsageSeen(usage):
                self._usage = self._usage.merged(usage)
            case Ping():
                self._out.append(self.keepalive())
            case Start():
                self._begin(event)
            case Finish(reason):
                self._finish(reason)
            case Failed(problem):
                self._fail(problem)

    def _think(self, text: str, segment: int) -> None:
        if self._wanted is not None:
            self._open_reasoning(self._wanted)
        if (item := self._item) is None:
            return
        if item.strand is not None and segment != self._segment:
            self._end_strand(item)
        if item.strand is None:
            self._begin_strand(item, "raw" if "content" in item.fields else "summary")
        self._segment = segment
        self._delta(text)

    def _sign(self, signature: Signature) -> None:
        """Reasoning is signed in its item. A call's signature has gone before it, a text's has no place."""
        if self._wanted is not None and self._wanted.kind == "reasoning":
            self._open_reasoning(self._wanted)
        if self._item is not None and self._item.kind == "reasoning":
            self._item.fields["encrypted_content"] = _encrypted(signature)

    def _end_part(self, event: PartEnd) -> None:
        is_silent, self._wanted = self._wanted is not None, None
        if is_silent or (item := self._item) is None:
            return
        if item.kind not in _CALLS:
            self._end_strand(item)
        item.is_whole = event.is_complete and item.is_whole is not False

    def _write_media(self, media: Media) -> None:
        """A generated picture is an item that comes whole; other media have no place."""
        self._wanted = None
        if media.data and media.mime.startswith("image/"):
            item = self._open("image_generation_call", {"status": "in_progress", "result": None})
            item.fields |= {"result": media.data, "output_format": media.mime.removeprefix("image/")}

    def _write_opaque(self, dialect: str, data: str) -> None:
        """An item that only this dialect understands comes whole; others are hidden and take no index."""
        self._wanted = None
        if dialect != NAME:
            return
        self._settle()
        item = json.encode(Raw(json.compact(data).encode()))
        rest = b',"output_index":%d,"item":%b' % (self._index, item)
        self._frame(b"response.output_item.added", rest)
        self._frame(b"response.output_item.done", rest)
        self._index += 1
        self._output.append(item)

    def _begin(self, start: Start) -> None:
        if self._head:
            return
        own = start.id if start.id.startswith("resp_") else f"resp_{self._echo.seed}"
        self._head = b'{"id":%b,"object":"response","created_at":%d,' % (
            json.encode(own),
            start.created or self._echo.now_at,
        )
        response = b',"response":' + self._rendered("in_progress")
        self._frame(b"response.created", response)
        self._frame(b"response.in_progress", response)

    def _finish(self, reason: FinishReason) -> None:
        self._begin(Start())
        said = "" if reason == "refusal" and self._has_refusal else _REASONS_WRITTEN.get(reason, "")
        self._settle(is_cut=bool(said))
        if self._has_cut_call:
            said = said or "max_output_tokens"
        usage = json.encode(_write_usage(self._usage))
        if said:
            self._end("incomplete", usage, details=json.encode({"reason": said}))
        else:
            self._end("completed", usage)

    def _fail(self, problem: Problem) -> None:
        self._begin(Start())
        if self._item is not None and self._item.is_whole:
            self._settle()
        self._end("failed", b"null", error=json.encode(_error_of(problem)))

    # -- items --

    def _open(self, kind: str, fields: dict[str, object], item_id: str = "") -> _Open:
        self._settle()
        self._wanted = None
        own = _id_of(kind, item_id).get("id") or f"{_ITEM_IDS[kind]}_{self._echo.seed}_{self._index}"
        place = b',"item_id":%b,"output_index":%d' % (json.encode(own), self._index)
        self._item = item = _Open(kind, {"id": own, "type": kind, **fields}, place)
        rest = b',"output_index":%d,"item":%b' % (self._index, json.encode(item.fields))
        self._frame(b"response.output_item.added", rest)
        self._index += 1
        return item

    def _open_text(self, start: PartStart) -> None:
        item = self._item
        if item is None or item.kind != "message":
            item = self._open("message", {"status": "in_progress", "role": "assistant", "content": []})
        self._wanted = None
        self._has_refusal = self._has_refusal or start.kind == "refusal"
        self._begin_strand(item, start.kind)

    def _open_reasoning(self, start: PartStart) -> None:
        self._open("reasoning", {"summary": [], **({"content": []} if start.is_raw else {})}, start.item_id)

    def _open_call(self, start: PartStart) -> None:
        self._carry_signature(start.part)
        kind = "custom_tool_call" if start.is_custom else "function_call"
        space = {"namespace": start.namespace} if start.namespace else {}
        names: dict[str, object] = {"call_id": start.call_id, "name": start.name, **space}
        item = self._open(kind, {"status": "in_progress", **names, _STRANDS[kind].member: ""}, start.item_id)
        self._begin_strand(item, kind)

    def _carry_signature(self, part: int) -> None:
        """A call's own signature goes before the call, in a reasoning item that says nothing else.

        Vendors that sign calls send them whole, so the signature is in the same batch as the call's start.
        """
        for event in self._batch:
            if isinstance(event, Signed) and event.part == part:
                item = self._open("reasoning", {"summary": []})
                item.fields["encrypted_content"] = _encrypted(event.signature)
                item.is_whole = True

    def _settle(self, *, is_cut: bool = False) -> None:
        """Finish the current item. `is_cut`: the answer ends here, before the model was done."""
        item, self._item = self._item, None
        if item is None:
            return
        is_call, is_whole = item.kind in _CALLS, item.is_whole is True
        if is_cut and item.kind == "function_call":
            is_whole = is_whole and json.is_json(_arguments("".join(item.texts)))
        elif is_cut and item.kind == "message":
            is_whole = False
        if item.kind == "reasoning":
            item.fields.setdefault("encrypted_content", UNSIGNED)
        if not is_call:
            self._end_strand(item)
        elif is_whole:
            self._end_call(item)
        self._has_cut_call = self._has_cut_call or (is_call and not is_whole)
        rendered = json.encode(item.rendered("completed" if is_whole else "incomplete"))
        if is_whole or not is_call:
            self._frame(b"response.output_item.done", b',"output_index":%d,"item":%b' % (self._index - 1, rendered))
        self._output.append(rendered)

    def _end_call(self, item: _Open) -> None:
        strand, fields = _STRANDS[item.kind], item.rendered("completed")
        told = {strand.member: fields[strand.member]}
        if item.kind == "function_call":
            told["name"] = fields["name"]
        self._frame(strand.event + b".done", item.place + b"," + json.encode(told)[1:-1])

    # -- texts --

    def _begin_strand(self, item: _Open, kind: str) -> None:
        item.strand = strand = _STRANDS[kind]
        item.texts = []
        place = item.place_of(strand)
        if strand.part_event:
            self._frame(strand.part_event + b".added", place + b',"part":' + json.encode(strand.part("")))
        event = strand.event + b".delta"
        self._delta_head = b"event: " + event + b'\ndata: {"type":"' + event + b'","sequence_number":'
        self._delta_middle = place + b',"delta":'
        self._delta_tail = strand.tail + b"}\n\n"

    def _delta(self, text: str) -> None:
        if self._item is not None:
            self._item.texts.append(text)
            self._out.append(
                b"%b%d%b%b%b"
                % (self._delta_head, self._sequence, self._delta_middle, json.encode(text), self._delta_tail)
            )
            self._sequence += 1

    def _end_strand(self, item: _Open) -> None:
        strand, item.strand = item.strand, None
        if strand is None:
            return
        text, place = "".join(item.texts), item.place_of(strand)
        told = json.encode({strand.member: text})[1:-1]
        part = strand.part(text)
        self._frame(strand.event + b".done", place + b"," + told + strand.tail)
        self._frame(strand.part_event + b".done", place + b',"part":' + json.encode(part))
        item.contents.append(part)

    # -- frames --

    def _frame(self, name: bytes, rest: bytes) -> None:
        self._out.append(named_frame(name, b'{"type":"%b","sequence_number":%d%b}' % (name, self._sequence, rest)))
        self._sequence += 1

    def _end(self, status: str, usage: bytes, *, details: bytes = b"null", error: bytes = b"null") -> None:
        self.response = self._rendered(status, usage, details, error)
        self._frame(b"response." + status.encode(), b',"response":' + self.response)

    def _rendered(self, status: str, usage: bytes = b"null", details: bytes = b"null", error: bytes = b"null") -> bytes:
        return b'%b"status":"%b","error":%b,"incomplete_details":%b,"output":[%b],"usage":%b,%b}' % (
            self._head,
            status.encode(),
            error,
            details,
            b",".join(self._output),
            usage,
            self._constant,
        )


def _encrypted(signature: Signature) -> str:
    return signature.value if signature.family == "openai" else seal(signature)


def _write_usage(usage: Usage) -> dict[str, object]:
    """Both detail objects always: Codex takes an answer without them for a dropped stream."""
    written = {} if usage.cache_write is None else {"cache_write_tokens": usage.cache_write}
    return {
        "input_tokens": usage.input_total or 0,
        "input_tokens_details": {"cached_tokens": usage.cache_read or 0, **written},
        "output_tokens": usage.output_total or 0,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning or 0},
        "total_tokens": usage.total,
    }


def _echoed(echo: Echo) -> bytes:
    """The members of a response object that repeat the request, without braces: rendered once per answer."""
    request, ignored = echo.request, list[Loss]()
    thinking = _write_thinking(request.thinking, ignored)
    text = {"format": {"type": "text"}, **_write_output(request.output, request.meta.verbosity, ignored)}
    fields: dict[str, object] = {
        "model": echo.model,
        "instructions": _instructions(request) or None,
        "tools": _write_tools(request.tools, ignored, is_echo=True),
        "tool_choice": _write_choice(request, ignored) or "auto",
        "parallel_tool_calls": request.parallel_calls is not False,
        "temperature": request.sampling.temperature,
        "top_p": request.sampling.top_p,
        "max_output_tokens": request.limits.max_output_tokens,
        "reasoning": {"effort": thinking.get("effort"), "summary": thinking.get("summary")},
        "text": _one_line(json.encode(text)),
        "metadata": _one_line(request.meta.metadata or "{}"),
        "service_tier": request.meta.service_tier or "default",
        "store": False,
        "truncation": "disabled",
        "background": False,
        "previous_response_id": None,
        "user": request.meta.end_user or None,
        "prompt_cache_key": request.meta.cache_key or None,
    }
    return json.encode(fields)[1:-1]


def _error_of(problem: Problem) -> dict[str, object]:
    return {"code": openai_errors.code_of(problem) or "server_error", "message": openai_errors.message_of(problem)}


# ---- tap ------------------------------------------------------------------------------------------------------------

_HANDSHAKE = frozenset(
    {
        "response.created",
        "response.queued",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.reasoning_summary_part.added",
        "keepalive",
    }
)
_FAILURES = frozenset({"error", "response.failed", "response.cancelled"})
_MARKERS = (b'"response"', b'"error"')
"""Once content flows only a frame that ends the answer holds one of these keys; in strings the quotes are escaped."""
_TAIL_BYTES = max(map(len, _MARKERS)) - 1
_SMALL_BYTES = 64 * 1024


class ResponsesTap:
    """Watches a stream that passes through.

    States: reading frames (the handshake, until the first content), skimming (content: bytes are only searched for the
    words that an ending or an error must hold), and reading frames again from the frame in which such a word stood.
    Skimming keeps the bytes of the frame that has begun, so that an ending is read from its first byte.
    """

    def __init__(self) -> None:
        self.has_content = False
        self.is_over = False
        self.problem: Problem | None = None
        self._frames: FrameReader | None = FrameReader()
        self._begun: list[bytes] = []
        self._tail = b""
        self._last = b""
        self._peeked = 0

    def look(self, data: bytes) -> None:
        if self.is_over:
            return
        if self._frames is None:
            window = self._tail + data
            if not _has_marker(window):
                self._skim(data, window)
                return
            self._frames, self._peeked, data = FrameReader(), 0, b"".join((*self._begun, data))
        self._read(self._frames, data)

    def usage(self) -> Usage | None:
        """From the terminal event only."""
        try:
            event = json.decode_leniently(_event, self._last)
            usage = json.decode_leniently(_response, bytes(event.response)).usage
        except BrokenAnswer:
            return None
        return _usage_of(usage) if usage else None

    def _skim(self, data: bytes, window: bytes) -> None:
        self._tail = window[-_TAIL_BYTES:]
        end = data.rfind(b"\n\n")
        if end < 0:
            end = data.rfind(b"\n\r\n")
        if end < 0:
            self._begun.append(data)
        else:
            self._begun = [data[end:]]

    def _read(self, reader: FrameReader, data: bytes) -> None:
        frames = reader.feed(data)
        for frame in frames:
            self._judge(frame)
            self._peeked = 0
        if data.rstrip().endswith(b"}"):
            self._peek(reader.pending)
        if frames and self.has_content and not self.is_over and not _has_marker(pending := reader.pending):
            self._frames, self._begun, self._tail = None, [pending], pending[-_TAIL_BYTES:]

    def _peek(self, pending: bytes) -> None:
        """Some streams end without the last blank line: a frame that is whole counts when it is the end.

        A large frame that grows is looked at by sixteenths, so that work stays linear; who must know for certain says
        that the stream has ended by `look(b"\\n\\n")`.
        """
        if len(pending) < self._peeked + self._peeked // 16:
            return
        self._peeked = len(pending) if len(pending) > _SMALL_BYTES else 0
        reader = FrameReader()
        reader.feed(pending)
        for frame in reader.close():
            if _kind_of(frame) in (*_TERMINAL, *_FAILURES):
                self._judge(frame)

    def _judge(self, frame: Frame) -> None:
        kind = _kind_of(frame)
        if self.is_over or kind in _HANDSHAKE or kind.startswith("codex."):
            return
        if kind in _FAILURES:
            self.problem = openai_errors.read_error(0, frame.data, NAME)
        else:
            self.has_content = True
        if kind in _TERMINAL or kind in _FAILURES:
            self._last, self.is_over = frame.data, True


def _kind_of(frame: Frame) -> str:
    """The event's type; "" for one that is broken, which ends nothing."""
    if not json.is_json(frame.data):
        return ""
    kind = _type_of(frame.data) or frame.name.decode("utf-8", "replace")
    return kind or ("error" if b'"error"' in frame.data else "")


def _has_marker(data: bytes) -> bool:
    return _MARKERS[0] in data or _MARKERS[1] in data


# ---- the dialect ----------------------------------------------------------------------------------------------------


class OpenAIResponses:
    """OpenAI Responses, both directions."""

    name = NAME
    fit = Fit(
        NAME,
        "openai",
        id_length=_ID_LENGTH,
        has_custom_tools=True,
        has_namespaces=True,
        reasoning="signed",
        media=frozenset({"image", "document", "audio"}),
    )
    stream_type = b"text/event-stream; charset=utf-8"
    keepalive = b": keepalive\n\n"
    is_framed = True
    follow_signs: tuple[bytes, ...] = (
        b'"assistant"',
        b"_call",
        b'"reasoning"',
        b'"item_reference"',
        b'"prompt_cache_key"',
        b'"conversation"',
    )
    shows_reasoning = False
    model_paths: tuple[tuple[str, ...], ...] = (("model",), ("response", "model"))

    def read_request(self, body: bytes, *, model: str = "", is_stream: bool | None = None) -> Request:
        return _read_request(body, model, is_stream)

    def opening(self, body: bytes) -> Opening:
        return _read_opening(body)

    def write_request(self, request: Request) -> Written:
        return _write_request(request)

    def read_answer(self, body: bytes) -> list[Event]:
        return ResponsesReader().whole(body)

    def read_usage(self, members: Mapping[str, Raw]) -> Usage | None:
        return _counts_in(members.get("usage"))

    def write_answer(self, answer: Answer, echo: Echo) -> bytes:
        writer = ResponsesWriter(echo)
        writer.push(unfold(answer))
        return writer.response

    def reader(self) -> ResponsesReader:
        return ResponsesReader()

    def writer(self, echo: Echo) -> ResponsesWriter:
        return ResponsesWriter(echo)

    def tap(self) -> ResponsesTap:
        return ResponsesTap()

    def read_error(self, status: int, body: bytes) -> Problem:
        return openai_errors.read_error(status, body, NAME)

    def write_error(self, problem: Problem, request_id: str) -> bytes:
        return openai_errors.write_error(problem, NAME)

    def write_stream_error(self, problem: Problem) -> bytes:
        """`response.failed`: Codex passes over an `error` event and reports a dropped stream instead."""
        response: Mapping[str, object] = {
            "id": "resp_failed",
            "object": "response",
            "created_at": 0,
            "status": "failed",
            "error": _error_of(problem),
            "incomplete_details": None,
            "model": "",
            "output": [],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": None,
        }
        return named_frame(b"response.failed", json.encode({"type": "response.failed", "response": response}))

    def status_of(self, problem: Problem) -> int:
        return openai_errors.status_of(problem)

    def write_count(self, tokens: int) -> bytes:
        return b'{"object":"response.input_tokens","input_tokens":%d}' % tokens

    def write_models(self, models: list[ModelEntry]) -> bytes:
        return openai_models.write_models(models)

    def write_model(self, model: ModelEntry) -> bytes:
        return openai_models.write_model(model)


DIALECT = OpenAIResponses()
