"""Anthropic Messages.

Sources: https://platform.claude.com/docs/en/api/messages, .../build-with-claude/streaming, .../thinking and
.../structured-outputs, checked 2026-11-24; the official Python SDK 2.x (types and stream accumulator), read
2026-11-24. The shapes are permissive: an unknown field is never an error, a block type that we do not know is carried
as `Opaque`.

Signatures of other vendors travel through callers of this dialect as sealed `signature` or `data` text, see
`canon.carrier`. A signature on a call, for which the dialect has no field, stands in a `redacted_thinking` block right
before the first call and is put back onto the call when it returns.
"""

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal, TypeVar

import msgspec
from msgspec import Raw, Struct, structs

from cliproxy.canon.answer import Answer, unfold
from cliproxy.canon.carrier import UNSIGNED, seal, unseal
from cliproxy.canon.custom_tools import wrapped
from cliproxy.canon.errors import (
    BrokenAnswer,
    InvalidJson,
    InvalidRequest,
    Kind,
    MissingParameter,
    Problem,
    kind_of_status,
)
from cliproxy.canon.events import (
    ArgsDelta,
    Event,
    Failed,
    Finish,
    FinishReason,
    MediaOut,
    OpaqueOut,
    PartEnd,
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
from cliproxy.canon.losses import Action, Loss
from cliproxy.canon.models import ModelEntry
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
from cliproxy.canon.request import Limits, Meta, OutputFormat, Request, Sampling, Thinking, Tool, ToolChoice
from cliproxy.canon.usage import Usage
from cliproxy.dialects.base import Echo, Opening, Written
from cliproxy.wire.json import compact, decode_leniently, describe, encode, is_object, members, mended, replaced
from cliproxy.wire.json_schema import for_anthropic, for_anthropic_output
from cliproxy.wire.media import media_at, media_of, mime_of
from cliproxy.wire.sse import Frame, FrameReader, named_frame

NAME = "anthropic"

_Shape = TypeVar("_Shape")

# ---- wire shapes ----------------------------------------------------------------------------------------------------


class _CacheControl(Struct):
    ttl: str | None = None


class _Source(Struct):
    """`mime_type` and `base64` are spellings seen from clients that were written for other vendors."""

    type: str | None = None
    media_type: str | None = None
    mime_type: str | None = None
    data: str | None = None
    base64: str | None = None
    url: str | None = None
    file_id: str | None = None
    content: Raw = Raw()


class _Tag(Struct):
    type: str = ""


class _Block(Struct):
    """Every block that we model. A search result's `source` is a string, that of an image or document an object."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: Raw = Raw()
    tool_use_id: str | None = None
    is_error: bool | None = None
    content: Raw = Raw()
    source: _Source | str | None = None
    title: str | None = None
    context: str | None = None
    citations: Raw = Raw()
    cache_control: _CacheControl | None = None


class _Message(Struct):
    role: str
    content: Raw = Raw()


class _Choice(Struct):
    type: str
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class _ThinkingConfig(Struct):
    type: str
    budget_tokens: int | None = None
    display: str | None = None


class _Format(Struct):
    type: str | None = None
    schema: Raw = Raw()


class _OutputConfig(Struct):
    effort: str | None = None
    format: _Format | None = None


class _Metadata(Struct):
    user_id: str | None = None


class _Tool(Struct):
    name: str | None = None
    type: str | None = None
    description: str | None = None
    input_schema: Raw = Raw()
    strict: bool | None = None
    cache_control: _CacheControl | None = None


class _Request(Struct):
    model: str | None = None
    messages: list[_Message] | None = None
    system: Raw = Raw()
    max_tokens: int | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] | str | None = None
    tools: list[Raw] | None = None
    tool_choice: _Choice | None = None
    thinking: _ThinkingConfig | None = None
    output_config: _OutputConfig | None = None
    output_format: _Format | None = None
    metadata: _Metadata | None = None
    service_tier: str | None = None
    speed: str | None = None


class _Said(Struct, gc=False):
    """A message as one of an opening."""

    role: str | None = None
    content: Raw = Raw(b"null")


class _Opening(Struct):
    """Enough of a request to know its conversation."""

    messages: list[_Said] | None = None
    system: Raw = Raw(b"null")
    metadata: _Metadata | None = None


class _ClientSession(Struct):
    session_id: str = ""


class _OutputDetails(Struct, gc=False):
    thinking_tokens: int | None = None


class _Usage(Struct, gc=False):
    input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    output_tokens: int | None = None
    output_tokens_details: _OutputDetails | None = None


class _StopDetails(Struct, gc=False):
    explanation: str | None = None


class _Answer(Struct):
    type: str | None = None
    id: str | None = None
    model: str | None = None
    content: list[Raw] | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: _StopDetails | None = None
    usage: _Usage | None = None
    error: Raw = Raw()


class _Delta(Struct, gc=False):
    """All deltas of blocks and the one of the message in one shape: the fields do not overlap."""

    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    signature: str | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: _StopDetails | None = None


class _Frame(Struct):
    """All frames of a stream in one shape: decoding it is faster than a tagged union and forgives unknown types."""

    type: str = ""
    index: int = 0
    delta: _Delta | None = None
    content_block: Raw = Raw()
    message: _Answer | None = None
    usage: _Usage | None = None
    error: Raw = Raw()


_REQUEST = msgspec.json.Decoder(_Request)
_OPENING = msgspec.json.Decoder(_Opening)
_CLIENT_SESSION = msgspec.json.Decoder(_ClientSession)
_TOOL = msgspec.json.Decoder(_Tool)
_CONTENT: "msgspec.json.Decoder[str | list[Raw] | None]" = msgspec.json.Decoder(str | list[Raw] | None)
_TAG = msgspec.json.Decoder(_Tag)
_TAGGED = msgspec.json.Decoder(str | _Tag)
_BLOCK = msgspec.json.Decoder(_Block)
_ANSWER = msgspec.json.Decoder(_Answer)
_FRAME = msgspec.json.Decoder(_Frame)
_COUNTS: "msgspec.json.Decoder[_Usage | None]" = msgspec.json.Decoder(_Usage | None)
_MEMBERS: "msgspec.json.Decoder[dict[str, Raw] | list[dict[str, Raw]]]" = msgspec.json.Decoder(
    dict[str, Raw] | list[dict[str, Raw]]
)
_STRING = msgspec.json.Decoder(str)

# ---- vocabulary -----------------------------------------------------------------------------------------------------

_ROLES: dict[str, Role] = {"user": "user", "assistant": "assistant", "system": "system", "developer": "developer"}
_CHOICES = {
    "auto": "auto",
    "none": "none",
    "required": "any",
    "one": "tool",
    "allowed_auto": "auto",
    "allowed_required": "any",
}
_READ_CHOICES: dict[str, ToolChoice] = {
    "auto": ToolChoice("auto"),
    "none": ToolChoice("none"),
    "any": ToolChoice("required"),
}
_FORCED = ("required", "one", "allowed_required")

_STOPS: dict[FinishReason, str] = {
    "stop": "end_turn",
    "stop_sequence": "stop_sequence",
    "length": "max_tokens",
    "context_overflow": "model_context_window_exceeded",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    "refusal": "refusal",
    "recitation": "refusal",
    "pause": "pause_turn",
}
_FINISHES: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop_sequence",
    "max_tokens": "length",
    "model_context_window_exceeded": "context_overflow",
    "tool_use": "tool_calls",
    "pause_turn": "pause",
    "refusal": "refusal",
    "sensitive": "refusal",
}
_OVERRULED_BY_CALLS = ("stop", "stop_sequence", "tool_calls")
_CUT_SHORT = ("length", "context_overflow")
_ENDS_WHOLE = (*_OVERRULED_BY_CALLS, "pause")

_SHOWN = {"summarized": True, "omitted": False}
_EFFORTS = {"minimal": "low"}
_LEAST_BUDGET = 1024
_DEFAULT_MAX_TOKENS = 32_000

_READ_TIERS = {"standard_only": "default", "auto": "auto"}
_TIERS: dict[str, tuple[str, Action | None]] = {
    "default": ("standard_only", None),
    "auto": ("auto", None),
    "priority": ("auto", "approximated"),
    "fast": ("auto", "approximated"),
}

_USER_ID_LENGTH = 256
_MARKS = 4
_TTLS = {"5m": "5m", "30m": "5m", "1h": "1h", "12h": "1h", "24h": "1h"}
_UNMARKABLE = ("thinking", "redacted_thinking")

_IMAGES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_PDF = "application/pdf"

# What a request may wish for and the dialect has no word for.
_UNSAID: tuple[tuple[str, str], ...] = (
    ("sampling", "presence_penalty"),
    ("sampling", "frequency_penalty"),
    ("sampling", "seed"),
    ("sampling", "logit_bias"),
    ("sampling", "logprobs"),
    ("sampling", "top_logprobs"),
    ("meta", "metadata"),
    ("meta", "cache_key"),
    ("meta", "verbosity"),
    ("meta", "store"),
)

_JSON_NOTE = "Answer with one JSON object only: no other text before or after it, and no code fence."
_BEGIN = "."

_FIT = Fit(
    dialect=NAME,
    family="anthropic",
    name_length=64,
    id_charset="A-Za-z0-9_-",
    id_length=64,
    has_inline_instructions=False,
    has_result_errors=True,
    reasoning="signed",
    media=frozenset({"image", "document"}),
    starts_with_user=True,
    needs_max_tokens=True,
)

_MOVING = frozenset({"cache_control"})

# ---- requests: reading ----------------------------------------------------------------------------------------------


def _read_request(body: bytes, model: str, is_stream: bool | None) -> Request:
    try:
        body.decode()  # the parser does not look into the subtrees that it leaves raw
    except UnicodeDecodeError as error:
        raise InvalidJson(describe(error)) from error
    names = members(body)
    wire = _decoded(_REQUEST, body, "")
    if wire.messages is None:
        raise MissingParameter("`messages` is missing.", param="messages")
    dropped = [name for name, raw in names.items() if name not in _Request.__struct_fields__ and bytes(raw) != b"null"]
    stop = wire.stop_sequences or []
    return Request(
        model=model or wire.model or "",
        is_stream=bool(wire.stream) if is_stream is None else is_stream,
        system=_texts(_read_content(wire.system, "system", dropped)),
        turns=tuple(_read_turn(message, f"messages[{index}]", dropped) for index, message in enumerate(wire.messages)),
        tools=tuple(_read_tool(raw, f"tools[{index}]", dropped) for index, raw in enumerate(wire.tools or [])),
        tool_choice=_read_choice(wire.tool_choice),
        parallel_calls=_read_parallel(wire.tool_choice),
        sampling=Sampling(temperature=wire.temperature, top_p=wire.top_p, top_k=wire.top_k),
        limits=Limits(max_output_tokens=wire.max_tokens, stop=(stop,) if isinstance(stop, str) else tuple(stop)),
        thinking=_read_thinking(wire.thinking, wire.output_config, dropped),
        output=_read_format((wire.output_config and wire.output_config.format) or wire.output_format),
        meta=Meta(end_user=(wire.metadata and wire.metadata.user_id) or "", service_tier=_read_tier(wire)),
        wants_usage=True,
        dropped=tuple(dict.fromkeys(dropped)),
    )


def _decoded(decoder: "msgspec.json.Decoder[_Shape]", raw: bytes | Raw, where: str) -> _Shape:
    """Typed decoding of the subtree at `where`. Raises CallerFault that names the field in the whole request."""
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$")
        param = (where + path.rstrip("`")).lstrip(".")
        raise InvalidRequest(f"`{param}`: {text}." if param else f"{text}.", param=param) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidJson(describe(error), param=where) from error


def _required(value: str | None, where: str) -> str:
    if value is None:
        raise MissingParameter(f"`{where}` is missing.", param=where)
    return value


def _read_turn(message: _Message, where: str, dropped: list[str]) -> Turn:
    role = _ROLES.get(message.role)
    if role is None:
        raise InvalidRequest(f"`{where}.role` must be user, assistant or system.", param=f"{where}.role")
    parts = _read_content(message.content, f"{where}.content", dropped)
    return Turn(role, _with_signed_calls(parts) if role == "assistant" else parts)


def _read_content(raw: Raw, where: str, dropped: list[str]) -> tuple[Part, ...]:
    """Parts of a string, of a list of blocks or strings, or of nothing."""
    content = _decoded(_CONTENT, raw, where) if raw else None
    if isinstance(content, list):
        blocks = enumerate(content)
        return tuple(part for index, block in blocks for part in _read_block(block, f"{where}[{index}]", dropped))
    return (Text(content),) if content else ()


def _read_block(raw: Raw, where: str, dropped: list[str]) -> tuple[Part, ...]:
    tagged = _decoded(_TAGGED, raw, where)
    if isinstance(tagged, str):
        return (Text(tagged),)
    if not tagged.type:
        raise MissingParameter(f"`{where}.type` is missing.", param=f"{where}.type")
    read = _BLOCKS.get(tagged.type)
    if read is None:
        return (Opaque(NAME, tagged.type, _text(raw)),)
    block = _decoded(_BLOCK, raw, where)
    if _is_given(block.citations):
        dropped.append("messages[].content[].citations")
    return read(block, where, dropped)


def _read_text(block: _Block, where: str, _: list[str]) -> tuple[Part, ...]:
    return (Text(_required(block.text, f"{where}.text"), _cache_of(block)),)


def _read_image(block: _Block, where: str, _: list[str]) -> tuple[Part, ...]:
    return (Image(_media_of(_source_of(block, where)), cache=_cache_of(block)),)


def _read_document(block: _Block, where: str, dropped: list[str]) -> tuple[Part, ...]:
    """A document of blocks becomes its text, followed by its images."""
    source = _source_of(block, where)
    media, text, others = Media(), "", tuple[Part, ...]()
    if source.type == "text":
        text = source.data or ""
    elif source.type == "content":
        parts = _read_content(source.content, f"{where}.source.content", dropped)
        text = "\n".join(part.text for part in _texts(parts))
        others = tuple(part for part in parts if not isinstance(part, Text))
    else:
        media = _media_of(source)
        media = structs.replace(media, mime=media.mime or (_PDF if media.url else ""))
    document = Document(media, text, title=block.title or "", context=block.context or "", cache=_cache_of(block))
    return (document, *others)


def _read_search_result(block: _Block, where: str, dropped: list[str]) -> tuple[Part, ...]:
    """Told as a text document; its address is the context."""
    text = "\n".join(part.text for part in _texts(_read_content(block.content, f"{where}.content", dropped)))
    source = block.source if isinstance(block.source, str) else ""
    return (Document(text=text, title=block.title or "", context=source, cache=_cache_of(block)),)


def _read_thinking_block(block: _Block, _where: str, _: list[str]) -> tuple[Part, ...]:
    signature = _signature_of(block.signature or "", "signature")
    return (Reasoning((block.thinking,) if block.thinking else (), signature=signature),)


def _read_redacted(block: _Block, where: str, _: list[str]) -> tuple[Part, ...]:
    return (Reasoning(signature=_signature_of(_required(block.data, f"{where}.data"), "redacted")),)


def _read_call(block: _Block, where: str, _: list[str]) -> tuple[Part, ...]:
    call_id, name = _required(block.id, f"{where}.id"), _required(block.name, f"{where}.name")
    return (ToolCall(call_id, name, _arguments_of(block.input), cache=_cache_of(block)),)


def _read_result(block: _Block, where: str, dropped: list[str]) -> tuple[Part, ...]:
    parts = _read_content(block.content, f"{where}.content", dropped)
    marks = (part.cache for part in parts if isinstance(part, Text | Image | Document) and part.cache)
    cache = _cache_of(block) or next(marks, None)
    call_id = _required(block.tool_use_id, f"{where}.tool_use_id")
    content = tuple(_result_part(part) for part in parts)
    return (ToolResult(call_id, content, is_error=bool(block.is_error), cache=cache),)


def _result_part(part: Part) -> Part:
    """Marks inside a result count for the whole of it; a block that we do not model is kept as its JSON text."""
    match part:
        case Text() | Image() | Document():
            return structs.replace(part, cache=None)
        case Opaque(_, _, data):
            return Text(data)
        case _:
            return part


_BLOCKS: dict[str, Callable[[_Block, str, list[str]], tuple[Part, ...]]] = {
    "text": _read_text,
    "image": _read_image,
    "document": _read_document,
    "search_result": _read_search_result,
    "thinking": _read_thinking_block,
    "redacted_thinking": _read_redacted,
    "tool_use": _read_call,
    "tool_result": _read_result,
}


def _source_of(block: _Block, where: str) -> _Source:
    if not isinstance(block.source, _Source):
        raise MissingParameter(f"`{where}.source` must be an object.", param=f"{where}.source")
    return block.source


def _media_of(source: _Source) -> Media:
    """What cannot be used comes out as media without content, which the passes replace by a note."""
    mime = mime_of(source.media_type or source.mime_type or "")
    if source.file_id:
        return Media(mime, file_id=source.file_id)
    if source.url:
        return media_at(source.url) or Media(mime)
    return media_of(source.data or source.base64 or "", mime) or Media(mime)


def _cache_of(block: "_Block | _Tool") -> Cache | None:
    return Cache(block.cache_control.ttl or "") if block.cache_control else None


def _signature_of(text: str, kind: Literal["signature", "redacted"]) -> Signature | None:
    return (unseal(text) or Signature(text, "anthropic", kind)) if text else None


def _with_signed_calls(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """`parts` with each bare signature of Google's that stands before a call put onto that call."""
    out: list[Part] = []
    for part in parts:
        before = out[-1] if out else None
        signature = before.signature if isinstance(before, Reasoning) and not before.segments else None
        if isinstance(part, ToolCall) and signature is not None and signature.family == "google":
            out[-1] = structs.replace(part, signature=signature)
        else:
            out.append(part)
    return tuple(out)


def _arguments_of(raw: Raw) -> str:
    return compact(bytes(raw)) if _is_given(raw) else "{}"


def _read_tool(raw: Raw, where: str, dropped: list[str]) -> Tool:
    """A tool of ours, or one that runs at the vendor: those are known by any `type` but "custom"."""
    tool = _decoded(_TOOL, raw, where)
    if tool.type not in (None, "custom", "function"):
        return Tool(tool.name or tool.type, "opaque", dialect=NAME, data=_text(raw), cache=_cache_of(tool))
    extra = [name for name in members(raw) if name not in _Tool.__struct_fields__]
    dropped += [f"tools[].{name}" for name in extra]
    return Tool(
        _required(tool.name, f"{where}.name"),
        description=tool.description or "",
        schema=_text(tool.input_schema) if _is_given(tool.input_schema) else "",
        is_strict=tool.strict,
        cache=_cache_of(tool),
    )


def _read_choice(choice: _Choice | None) -> ToolChoice | None:
    if choice is None:
        return None
    if choice.type == "tool":
        return ToolChoice("one", (_required(choice.name, "tool_choice.name"),))
    if (known := _READ_CHOICES.get(choice.type)) is None:
        raise InvalidRequest("`tool_choice.type` must be auto, any, tool or none.", param="tool_choice.type")
    return known


def _read_parallel(choice: _Choice | None) -> bool | None:
    disabled = choice.disable_parallel_tool_use if choice else None
    return None if disabled is None else not disabled


def _read_thinking(config: _ThinkingConfig | None, output: _OutputConfig | None, dropped: list[str]) -> Thinking:
    effort = ((output and output.effort) or "").strip().lower()
    if config is None:
        return Thinking("level", level=effort) if effort else Thinking()
    shown = _SHOWN.get(config.display or "")
    if config.type == "adaptive":
        return Thinking("level", level=effort, is_shown=shown) if effort else Thinking("auto", is_shown=shown)
    if effort:
        dropped.append("output_config.effort")
    if config.type == "disabled":
        return Thinking("off")
    if config.type != "enabled":
        raise InvalidRequest("`thinking.type` must be enabled, adaptive or disabled.", param="thinking.type")
    if config.budget_tokens is None:
        raise MissingParameter("`thinking.budget_tokens` is missing.", param="thinking.budget_tokens")
    return Thinking("budget", budget=config.budget_tokens, is_shown=shown)


def _read_format(wish: _Format | None) -> OutputFormat:
    return OutputFormat("schema", _text(wish.schema)) if wish and _is_given(wish.schema) else OutputFormat()


def _read_tier(wire: _Request) -> str:
    if wire.speed == "fast":
        return "priority"
    return _READ_TIERS.get(wire.service_tier or "", wire.service_tier or "")


def _texts(parts: Iterable[Part]) -> tuple[Text, ...]:
    return tuple(part for part in parts if isinstance(part, Text))


def _text(raw: Raw) -> str:
    return bytes(raw).decode()


def _is_given(raw: Raw) -> bool:
    return bytes(raw) not in (b"", b"null")


def _opening(body: bytes) -> Opening:
    wire = _decoded(_OPENING, body, "")
    if wire.metadata is not None and wire.metadata.user_id:
        return Opening(_session_in(wire.metadata.user_id), "metadata.user_id")
    return Opening(instructions=wire.system, turns=wire.messages or (), moving=_MOVING)


def _session_in(user: str) -> str:
    """The session where Claude Code puts it: in a JSON object, in older versions after `_session_`; else all of `user`,
    since other clients have forms of their own."""
    if user.startswith("{"):
        try:
            return _CLIENT_SESSION.decode(user).session_id or user
        except (msgspec.DecodeError, RecursionError):
            return user
    return user.rpartition("_session_")[2] or user


# ---- requests: writing ----------------------------------------------------------------------------------------------


class _Draft:
    """What one request lost so far, and its blocks with cache marks in the order of the prompt."""

    __slots__ = ("losses", "marks")

    def __init__(self, request: Request) -> None:
        self.losses = [Loss(path, "the dialect has no such field") for path in request.dropped]
        self.marks: list[dict[str, object]] = []

    def lose(self, path: str, reason: str, action: Action = "dropped") -> None:
        self.losses.append(Loss(path, reason, action))

    def mark(self, block: dict[str, object], cache: Cache) -> None:
        if block.get("type") in _UNMARKABLE:
            self.lose("cache", "thinking cannot be marked for caching")
            return
        control = {"type": "ephemeral"}
        if cache.ttl:
            control["ttl"] = _TTLS.get(cache.ttl, "5m")
            if control["ttl"] != cache.ttl:
                self.lose("cache.ttl", f"{cache.ttl} was asked for as {control['ttl']}", "approximated")
        block["cache_control"] = control
        self.marks.append(block)

    def settle_marks(self) -> None:
        """Keep the last four marks, and no long one behind a short one: the vendor refuses both."""
        for block in self.marks[:-_MARKS]:
            del block["cache_control"]
            self.lose("cache", f"at most {_MARKS} marks are allowed; the last ones were kept")
        is_short = False
        for block in self.marks[-_MARKS:]:
            is_long = block["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
            if is_long and is_short:
                block["cache_control"] = {"type": "ephemeral"}
                self.lose("cache.ttl", "a long-lived mark may not follow a short-lived one", "approximated")
            is_short = is_short or not is_long


def _write_request(request: Request) -> Written:
    draft = _Draft(request)
    _declare_unsaid(request, draft)
    tools = _write_tools(request, draft)
    thinking = _write_thinking(request, draft)
    config = _write_effort(request, thinking, draft) | _write_format(request.output, draft)
    body: dict[str, object] = {
        "model": request.model,
        "max_tokens": _max_tokens(request),
        "stream": request.is_stream or None,
        "thinking": thinking,
        "output_config": config or None,
        **_write_sampling(request, thinking, draft),
        "stop_sequences": _write_stop(request, draft),
        "service_tier": _write_tier(request, draft),
        "metadata": _write_metadata(request, draft),
        "tool_choice": _write_choice(request, draft) if tools else None,
        "tools": tools or None,
        "system": _write_system(request, draft) or None,
        "messages": _write_messages(request, draft),
    }
    draft.settle_marks()
    losses = tuple(dict.fromkeys(draft.losses))
    return Written(encode({name: value for name, value in body.items() if value is not None}), losses)


def _declare_unsaid(request: Request, draft: _Draft) -> None:
    for group, name in _UNSAID:
        value = getattr(getattr(request, group), name)
        if value is not None and value is not False and value != "":
            draft.lose(f"{group}.{name}", "the dialect has no word for it")
    if (request.limits.n or 1) > 1:
        draft.lose("limits.n", "the dialect gives one answer")


def _max_tokens(request: Request) -> int:
    wanted = request.limits.max_output_tokens
    return _DEFAULT_MAX_TOKENS if wanted is None else wanted


def _write_thinking(request: Request, draft: _Draft) -> dict[str, object] | None:
    config = _thinking_config(request, draft)
    wish = request.thinking
    if config is None or config["type"] == "disabled":
        if wish.is_shown is not None:
            draft.lose("thinking.is_shown", "there is no thinking to show")
        return config
    if wish.summary not in ("", "auto"):
        draft.lose("thinking.summary", "summaries have no grades", "approximated")
    if wish.is_shown is not None:
        config["display"] = "summarized" if wish.is_shown else "omitted"
    return config


def _thinking_config(request: Request, draft: _Draft) -> dict[str, object] | None:
    """The control itself. Turned off means left out: models that always think refuse `disabled`."""
    thinking = request.thinking
    if thinking.mode is None:
        return None
    if thinking.mode == "off" or (thinking.mode == "level" and thinking.level == "none"):
        return {"type": "disabled"}
    if request.tools and request.tool_choice and request.tool_choice.mode in _FORCED:
        draft.lose("thinking", "a forced tool choice excludes thinking; it was turned off")
        return None
    if thinking.mode != "budget" or thinking.budget < 0:
        return {"type": "adaptive"}
    budget = min(max(thinking.budget, _LEAST_BUDGET), _max_tokens(request) - 1)
    if budget < _LEAST_BUDGET:
        draft.lose("thinking", "the answer is too short for thinking; it was turned off")
        return None
    if _lacks_thinking(request.turns):
        draft.lose("thinking", "a call of the running tool loop has lost its thinking; it was turned off")
        return None
    if budget != thinking.budget:
        draft.lose("thinking.budget", f"asked for as {budget} tokens", "approximated")
    return {"type": "enabled", "budget_tokens": budget}


def _lacks_thinking(turns: tuple[Turn, ...]) -> bool:
    """Whether a begun answer, or an answer with calls in the running tool loop, starts without signed thinking.

    The vendor refuses that together with a budget; adaptive thinking does not know the rule. It takes neighbours of
    one role as one turn, so words behind the results do not end the loop.
    """
    has_user = has_results = False
    for turn in reversed(turns):
        if turn.role != "assistant":
            has_user = True
            has_results = has_results or any(isinstance(part, ToolResult) for part in turn.parts)
            continue
        if has_user and not has_results:
            return False
        first = turn.parts[0] if turn.parts else None
        is_signed = isinstance(first, Reasoning) and first.signature is not None
        if not is_signed and (not has_user or any(isinstance(part, ToolCall) for part in turn.parts)):
            return True
        has_user = has_results = False
    return False


def _write_effort(request: Request, thinking: dict[str, object] | None, draft: _Draft) -> dict[str, object]:
    level = request.thinking.level
    if thinking is None or thinking["type"] != "adaptive" or request.thinking.mode != "level":
        return {}
    effort = _EFFORTS.get(level, level)
    if effort != level:
        draft.lose("thinking.level", f"{level} was asked for as {effort}", "approximated")
    return {"effort": effort}


def _write_sampling(request: Request, thinking: dict[str, object] | None, draft: _Draft) -> dict[str, object]:
    sampling = request.sampling
    temperature, top_p, top_k = sampling.temperature, sampling.top_p, sampling.top_k
    wishes = {"temperature": temperature, "top_p": top_p, "top_k": top_k}
    given: dict[str, object] = {name: value for name, value in wishes.items() if value is not None}
    if thinking is not None and thinking["type"] != "disabled":
        for name in given:
            draft.lose(f"sampling.{name}", "thinking excludes it")
        return {}
    if temperature is not None and not 0 <= temperature <= 1:
        given["temperature"] = min(max(temperature, 0.0), 1.0)
        draft.lose("sampling.temperature", f"asked for as {given['temperature']:g}", "approximated")
    if temperature is not None and top_p is not None:
        # Claude 4.5 and later refuse the pair; older models take it but their vendor advises against it.
        del given["top_p"]
        draft.lose("sampling.top_p", "temperature and top_p exclude each other")
    return given


def _write_stop(request: Request, draft: _Draft) -> list[str] | None:
    stop = [text for text in request.limits.stop if text.strip()]
    if len(stop) < len(request.limits.stop):
        draft.lose("limits.stop", "a stop text of white space only is refused")
    return stop or None


def _write_tier(request: Request, draft: _Draft) -> str | None:
    wish = request.meta.service_tier
    if not wish:
        return None
    tier, action = _TIERS.get(wish, (None, "dropped"))
    if action is not None:
        draft.lose("meta.service_tier", f"there is no tier {wish}", action)
    return tier


def _write_metadata(request: Request, draft: _Draft) -> dict[str, object] | None:
    user = request.meta.end_user
    if len(user) > _USER_ID_LENGTH:
        draft.lose("meta.end_user", f"longer than {_USER_ID_LENGTH} characters")
        return None
    return {"user_id": user} if user else None


def _write_format(output: OutputFormat, draft: _Draft) -> dict[str, object]:
    if output.kind == "json":
        draft.lose("output", "JSON without a schema is asked for in words", "emulated")
    if output.kind != "schema":
        return {}
    for name in ("name", "description", "is_strict"):
        if getattr(output, name):
            draft.lose(f"output.{name}", "an output schema has only itself", "approximated")
    return {"format": {"type": "json_schema", "schema": _output_schema(output.schema, draft)}}


def _write_system(request: Request, draft: _Draft) -> list[dict[str, object]]:
    blocks = _write_parts(request.system, draft)
    if request.output.kind == "json":
        blocks.append({"type": "text", "text": _JSON_NOTE})
    return blocks


def _write_tools(request: Request, draft: _Draft) -> list[dict[str, object]]:
    choice = request.tool_choice
    tools = request.tools
    if choice is not None and choice.mode.startswith("allowed") and choice.names:
        tools = tuple(tool for tool in tools if tool.name in choice.names) or tools
        draft.lose("tool_choice", "only the allowed tools are on offer", "emulated")
    blocks: list[dict[str, object]] = []
    for tool in tools:
        block = _write_tool(tool, draft)
        if block is None:
            draft.lose(f"tools.{tool.name}", "this vendor's own tool exists only in its dialect")
            continue
        blocks.append(block)
        if tool.cache is not None and tool.kind != "opaque":
            draft.mark(block, tool.cache)
    return blocks


def _write_tool(tool: Tool, draft: _Draft) -> dict[str, object] | None:
    if tool.kind == "opaque":
        return _write_opaque(tool.data, draft) if tool.dialect == NAME else None
    if tool.is_strict:
        # Strict tools compile into one grammar, and sets that other vendors take are refused as too large.
        draft.lose("tools.strict", "tools are offered without strict decoding", "approximated")
    block: dict[str, object] = {"name": tool.name}
    if tool.description:
        block["description"] = tool.description
    block["input_schema"] = _input_schema(tool, draft)
    return block


def _write_choice(request: Request, draft: _Draft) -> dict[str, object] | None:
    """The choice among tools that are there: one that is not on offer would be refused and becomes auto."""
    choice, names = request.tool_choice, {tool.name for tool in request.tools}
    is_serial = request.parallel_calls is False
    if choice is None:
        return {"type": "auto", "disable_parallel_tool_use": True} if is_serial else None
    if choice.names and not names.intersection(choice.names):
        draft.lose("tool_choice", "the chosen tool is not on offer", "approximated")
        choice = ToolChoice("auto")
    out: dict[str, object] = {"type": _CHOICES[choice.mode]}
    if choice.mode == "one":
        out["name"] = choice.names[0]
    if is_serial and choice.mode != "none":
        out["disable_parallel_tool_use"] = True
    return out


def _write_messages(request: Request, draft: _Draft) -> list[dict[str, object]]:
    messages: list[dict[str, object]] = []
    for turn in request.turns:
        for name in ("name", "phase"):
            if getattr(turn, name):
                draft.lose(f"turns.{name}", "a message has no such field")
        if blocks := _write_parts(_calls_last(turn.parts, draft), draft):
            messages.append({"role": "assistant" if turn.role == "assistant" else "user", "content": blocks})
            if turn is request.turns[-1] and turn.role == "assistant":
                _trim_prefill(blocks[-1], draft)
    if not messages:
        draft.lose("turns", "a minimal user turn stands in for an empty conversation", "emulated")
        messages.append({"role": "user", "content": [{"type": "text", "text": _BEGIN}]})
    return messages


def _calls_last(parts: tuple[Part, ...], draft: _Draft) -> tuple[Part, ...]:
    """`parts` with nothing behind the first call but calls, as the vendor demands."""
    calls = tuple(part for part in parts if isinstance(part, ToolCall))
    if not calls or calls == parts[-len(calls) :]:
        return parts
    draft.lose("turns.text", "what stood behind a call was put before it", "approximated")
    return (*(part for part in parts if not isinstance(part, ToolCall)), *calls)


def _trim_prefill(block: dict[str, object], draft: _Draft) -> None:
    text = block.get("text")
    if isinstance(text, str) and text != text.rstrip():
        block["text"] = text.rstrip()
        draft.lose("turns.text", "a begun answer may not end in white space", "approximated")


def _write_parts(parts: Iterable[Part], draft: _Draft) -> list[dict[str, object]]:
    """Blocks of those parts that can be said. The mark of a part that cannot moves to its neighbour."""
    blocks: list[dict[str, object]] = []
    held: Cache | None = None
    for part in parts:
        cache = _mark_of(part) or held
        held = None
        block = _write_part(part, draft)
        if block is not None:
            blocks.append(block)
        if cache is None:
            continue
        if blocks:
            draft.mark(blocks[-1], cache)
        else:
            held = cache
    if held is not None:
        draft.lose("cache", "the marked part is empty and has no neighbour")
    return blocks


def _mark_of(part: Part) -> Cache | None:
    return part.cache if isinstance(part, Text | Image | Document | ToolCall | ToolResult) else None


def _write_part(part: Part, draft: _Draft) -> dict[str, object] | None:
    match part:
        case Text(text):
            return _text_block(text) if text.strip() else None
        case Image(media, detail):
            if detail not in ("", "auto"):
                draft.lose("turns.image.detail", "images have no grade of detail")
            return _write_image(media, draft)
        case Document():
            return _write_document(part, draft)
        case ToolCall(call_id, name):
            return {"type": "tool_use", "id": call_id, "name": name, "input": _input_of(part, draft)}
        case ToolResult():
            return _write_result(part, draft)
        case Reasoning(segments, _, signature):
            if signature is None or signature.family != "anthropic":
                draft.lose("turns.reasoning", "thinking without the vendor's own signature is refused")
                return None
            return _thinking_block("\n\n".join(segments), signature.value, is_redacted=signature.kind == "redacted")
        case Refusal(text):
            draft.lose("turns.refusal", "a refusal is told as text", "emulated")
            return _text_block(text) if text.strip() else None
        case Opaque(dialect, kind, data):
            if dialect == NAME:
                return _write_opaque(data, draft)
            draft.lose(f"turns.{kind}", "this part exists only in its dialect")
            return None
        case Audio() | Video():
            kind = "audio" if isinstance(part, Audio) else "video"
            draft.lose(f"turns.{kind}", "the dialect has no place for it")
            return _text_block(f"[{kind} left out]")


def _write_opaque(data: str, draft: _Draft) -> dict[str, object]:
    """A block of the vendor's own, as it was; its mark counts among the others."""
    block: dict[str, object] = {**members(data.encode())}
    if "cache_control" in block:
        draft.marks.append(block)
    return block


def _text_block(text: str) -> dict[str, object]:
    return {"type": "text", "text": text}


def _thinking_block(text: str, signature: str, *, is_redacted: bool) -> dict[str, object]:
    if is_redacted:
        return {"type": "redacted_thinking", "data": signature}
    return {"type": "thinking", "thinking": text, "signature": signature}


def _input_of(call: ToolCall, draft: _Draft | None = None) -> Raw:
    """A call's arguments as the object that the dialect insists on."""
    text = wrapped(call.arguments) if call.is_custom else call.arguments
    if is_object(text):
        return Raw(text.encode())
    if text.strip() and draft is not None:
        draft.lose("turns.tool_call.arguments", "arguments that are no JSON object were wrapped", "approximated")
    return Raw(_as_object(text))


def _as_object(text: str) -> bytes:
    return encode({"_raw": text}) if text.strip() else b"{}"


def _write_result(result: ToolResult, draft: _Draft) -> dict[str, object]:
    """Results in one plain text are said as a string, which may be empty where a block may not."""
    block: dict[str, object] = {"type": "tool_result", "tool_use_id": result.call_id}
    match result.content:
        case (Text(text),):
            block["content"] = text if text.strip() else ""
        case content:
            block["content"] = _write_parts(content, draft) or ""
    if result.is_error:
        block["is_error"] = True
    return block


def _write_image(media: Media, draft: _Draft) -> dict[str, object]:
    mime = mime_of(media.mime)
    if media.data and mime not in _IMAGES and (seen := media_of(media.data)) is not None:
        mime = seen.mime if seen.mime in _IMAGES else mime
    if media.data and mime in _IMAGES:
        return {"type": "image", "source": {"type": "base64", "media_type": mime, "data": media.data}}
    return _referred("image", media) or _left_out("image", mime, draft)


def _write_document(document: Document, draft: _Draft) -> dict[str, object]:
    media, mime = document.media, mime_of(document.media.mime)
    text = document.text or (_plain_text(media.data) if mime.startswith("text/") else "")
    block: dict[str, object] | None
    if text:
        block = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": text}}
    elif media.data and mime == _PDF:
        block = {"type": "document", "source": {"type": "base64", "media_type": _PDF, "data": media.data}}
    else:
        block = _referred("document", media)
    if block is None:
        return _left_out("document", document.filename or mime, draft)
    if document.filename:
        draft.lose("turns.document.filename", "a document has only a title", "approximated")
    if title := document.title or document.filename:
        block["title"] = title
    if document.context:
        block["context"] = document.context
    return block


def _referred(kind: str, media: Media) -> dict[str, object] | None:
    """Media by address or by the vendor's own file id; ids of other vendors mean nothing here."""
    if media.url:
        return {"type": kind, "source": {"type": "url", "url": media.url}}
    if media.file_id.startswith("file_"):
        return {"type": kind, "source": {"type": "file", "file_id": media.file_id}}
    return None


def _left_out(kind: str, name: str, draft: _Draft) -> dict[str, object]:
    """A note in the place of what cannot be said, so that the model knows that something was there."""
    draft.lose(f"turns.{kind}", "its type or source is not accepted")
    return _text_block(f"[{kind} left out: {name}]" if name else f"[{kind} left out]")


def _plain_text(data: str) -> str:
    try:
        return base64.b64decode(data).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return ""


def _input_schema(tool: Tool, draft: _Draft) -> Raw:
    schema, is_same = _object_schema(tool.schema)
    if tool.schema and not is_same:
        draft.lose("tools.schema", "a schema was brought into the shape that the vendor takes", "approximated")
    return Raw(schema)


def _output_schema(schema: str, draft: _Draft) -> Raw:
    fitting = for_anthropic_output(schema)
    if fitting != _compact_or_empty(schema):
        draft.lose("output.schema", "what the vendor does not check is told in descriptions", "approximated")
    return Raw(fitting.encode())


@lru_cache(512)
def _object_schema(schema: str) -> tuple[bytes, bool]:
    """The schema as the vendor takes it, and whether it is the same. A conversation brings its tools every turn."""
    fitting = for_anthropic(schema)
    return fitting.encode(), fitting == _compact_or_empty(schema)


def _compact_or_empty(schema: str) -> str:
    return compact(schema) if is_object(schema) else ""


# ---- responses ------------------------------------------------------------------------------------------------------


def _read_answer(body: bytes) -> list[Event]:
    text = body.lstrip(_BLANK)
    if text.startswith((b"event:", b"data:")):
        reader = _Reader()
        return [*reader.feed(text), *reader.close()]
    text = _valid(text)
    answer = decode_leniently(_ANSWER, text)
    if _is_given(answer.error):
        return [Start(answer.id or "", answer.model or ""), Failed(_read_error(0, text))]
    if answer.content is None:
        raise BrokenAnswer("The upstream's answer is no message: it has no `content`.")
    parts = tuple(part for raw in answer.content if (part := _answer_part(raw)) is not None)
    finish = _finish_of(answer, has_calls=any(isinstance(part, ToolCall) for part in parts))
    usage = _usage_of(answer.usage) if answer.usage else None
    return unfold(Answer(parts, finish, answer.id or "", answer.model or "", usage=usage))


def _valid(data: bytes) -> bytes:
    """`data` with replacement characters for what is not UTF-8: the parser does not look into raw subtrees."""
    return data.decode("utf-8", "replace").encode()


def _answer_part(raw: Raw) -> Part | None:
    """Empty texts and thoughts say nothing and are no parts, as in streams."""
    kind = _kind_of_block(raw)
    if kind == "opaque":
        return Opaque(NAME, decode_leniently(_TAG, bytes(raw)).type, compact(bytes(raw)))
    block = decode_leniently(_BLOCK, bytes(raw))
    match kind:
        case "text":
            return Text(block.text) if block.text else None
        case "call":
            return ToolCall(block.id or "", block.name or "", _arguments_of(block.input))
        case _:
            signature = _own_signature(block)
            segments = (block.thinking,) if block.thinking else ()
            return Reasoning(segments, signature=signature) if segments or signature else None


_BLOCK_KINDS: dict[str, Literal["text", "reasoning", "call"]] = {
    "text": "text",
    "thinking": "reasoning",
    "redacted_thinking": "reasoning",
    "tool_use": "call",
}


def _kind_of_block(raw: Raw) -> Literal["text", "reasoning", "call", "opaque"]:
    return _BLOCK_KINDS.get(decode_leniently(_TAG, bytes(raw)).type, "opaque")


def _own_signature(block: _Block) -> Signature | None:
    """As the vendor gave it. An envelope of ours in an upstream's answer is that upstream's, and stays closed."""
    if block.data:
        return Signature(block.data, "anthropic", "redacted")
    return Signature(block.signature, "anthropic") if block.signature else None


def _finish_of(answer: _Answer | _Delta, *, has_calls: bool) -> Finish:
    """Computed, not copied: vendors report calls with `end_turn`, and `tool_use` for their own tools."""
    native = answer.stop_reason or ""
    reason = _FINISHES.get(native, "stop")
    if reason in _OVERRULED_BY_CALLS and (has_calls or reason == "tool_calls"):
        reason = "tool_calls" if has_calls else "stop"
    detail = (answer.stop_details and answer.stop_details.explanation) or ""
    return Finish(reason, native, answer.stop_sequence or "", detail)


def _usage_of(wire: _Usage) -> Usage:
    """Inclusive counts of the vendor's exclusive ones."""
    cached, written = wire.cache_read_input_tokens, wire.cache_creation_input_tokens
    details = wire.output_tokens_details
    return Usage(
        input_total=None if wire.input_tokens is None else wire.input_tokens + (cached or 0) + (written or 0),
        cache_read=cached,
        cache_write=written,
        output_total=wire.output_tokens,
        reasoning=details.thinking_tokens if details else None,
    )


def _counts_in(raw: Raw | None) -> Usage | None:
    """The counts of a `usage` member; None when it holds none that can be read."""
    try:
        wire = None if raw is None else _COUNTS.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return None if wire is None else _usage_of(wire)


def _newest(known: _Usage, later: _Usage | None) -> _Usage:
    """Counts of a stream are totals so far: a later one replaces, but a later zero is a placeholder."""
    if later is None:
        return known
    fresh = {name: value for name in _Usage.__struct_fields__ if (value := getattr(later, name))}
    absent = {name: getattr(later, name) for name in _Usage.__struct_fields__ if getattr(known, name) is None}
    return structs.replace(known, **absent | fresh)


def _write_answer(answer: Answer, echo: Echo) -> bytes:
    content = [block for part in _signed_apart(answer.parts) if (block := _answer_block(part, echo)) is not None]
    calls = [part for part in answer.parts if isinstance(part, ToolCall)]
    stop = _stop_of(
        answer.finish,
        has_calls=bool(calls),
        is_whole=not any(_is_cut(call) for call in calls),
        has_refusal=any(isinstance(part, Refusal) for part in answer.parts),
    )
    return encode(
        {
            "id": _message_id(answer.id, echo),
            "type": "message",
            "role": "assistant",
            "model": echo.model,
            "content": content,
            **_stop_fields(stop, answer.finish),
            "usage": _usage_fields(answer.usage or Usage(), echo.input_estimate),
        }
    )


def _is_cut(call: ToolCall) -> bool:
    return not call.is_custom and call.arguments.lstrip().startswith("{") and not is_object(call.arguments)


def _signed_apart(parts: tuple[Part, ...]) -> Iterable[Part]:
    """`parts` with the first call's signature as a part of its own before it; later ones have no safe place."""
    is_first = True
    for part in parts:
        if isinstance(part, ToolCall):
            if is_first and part.signature is not None:
                yield Reasoning(signature=part.signature)
            is_first = False
        yield part


def _answer_block(part: Part, echo: Echo) -> dict[str, object] | None:
    match part:
        case Text(text) | Refusal(text):
            return _text_block(text) if text else None
        case Reasoning(segments, _, signature):
            text = "\n\n".join(segments)
            return _carried_thinking(text, signature) if text or signature else None
        case ToolCall(call_id, name):
            return {"type": "tool_use", "id": call_id or _call_id(echo, name), "name": name, "input": _input_of(part)}
        case Image(media):
            return _text_block(_media_note(media))
        case Opaque(dialect, _, data) if dialect == NAME:
            return {**members(data.encode())}
        case _:
            return None


def _carried_thinking(text: str, signature: Signature | None) -> dict[str, object]:
    """A thinking block for the caller."""
    if signature is None:
        return _thinking_block(text, UNSIGNED, is_redacted=False)
    value, is_redacted = _carried(signature, has_text=bool(text))
    return _thinking_block(text, value, is_redacted=is_redacted)


def _carried(signature: Signature, *, has_text: bool) -> tuple[str, bool]:
    """A signature in a caller's hands, and whether it is redacted thinking: a bare one of another vendor is."""
    if signature.family == "anthropic":
        return signature.value, signature.kind == "redacted"
    return seal(signature), not has_text


def _media_note(media: Media) -> str:
    return f"[generated {media.mime or 'media'} left out: this dialect cannot carry it]"


def _message_id(upstream: str, echo: Echo) -> str:
    return upstream if upstream.startswith("msg_") else f"msg_{echo.seed}"


def _call_id(echo: Echo, name: str) -> str:
    return f"toolu_{echo.seed}_{name}"[:64]


def _stop_of(finish: Finish, *, has_calls: bool, is_whole: bool, has_refusal: bool) -> str:
    """The stop reason. Calls overrule a plain end, and a cut one only when their arguments are whole."""
    reason = finish.reason
    if has_calls and (reason in _OVERRULED_BY_CALLS or (reason in _CUT_SHORT and is_whole)):
        return "tool_use"
    if reason == "tool_calls":
        reason = "stop"
    return "refusal" if has_refusal and reason == "stop" else _STOPS[reason]


def _stop_fields(stop: str, finish: Finish) -> dict[str, object]:
    fields: dict[str, object] = {
        "stop_reason": stop,
        "stop_sequence": finish.stop_sequence or None if stop == "stop_sequence" else None,
    }
    if stop == "refusal" and finish.detail:
        fields["stop_details"] = {"type": "refusal", "category": None, "explanation": finish.detail}
    return fields


def _usage_fields(usage: Usage, estimate: int) -> dict[str, object]:
    """Exclusive counts of our inclusive ones; the two that clients cannot do without are always there."""
    cached, written = usage.cache_read, usage.cache_write
    total = usage.input_total
    fields: dict[str, object] = {
        "input_tokens": estimate if total is None else max(0, total - (cached or 0) - (written or 0))
    }
    if written is not None:
        fields["cache_creation_input_tokens"] = written
    if cached is not None:
        fields["cache_read_input_tokens"] = cached
    fields["output_tokens"] = usage.output_total or 0
    if usage.reasoning is not None:
        fields["output_tokens_details"] = {"thinking_tokens": usage.reasoning}
    return fields


# ---- stream reader --------------------------------------------------------------------------------------------------
#
# States: fresh (not a byte that counts), body (the upstream sent JSON or a web page instead of a stream), running,
# over. The vendor keeps one block open at a time; its imitators forget stops, starts and indices, so blocks live in a
# table by index:
#
#   * a block that starts ends all others; a delta for an index that is not there begins the block it speaks of;
#   * texts and thoughts become parts with their first character: empty ones never appear;
#   * a signature is told at the end of its block, since only the last one counts;
#   * `message_stop`, or the end of the bytes after a stop reason, is the clean end. Everything else is `Failed`.

_BLANK = b"\xef\xbb\xbf \t\r\n"
_EVENTS = frozenset(
    {
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "error",
    }
)


class _Open:
    """A block that has begun. `part` is -1 until the part has been announced."""

    __slots__ = ("args", "given", "kind", "part", "signature")

    def __init__(self, kind: str, given: Raw) -> None:
        self.kind = kind
        self.given = given
        self.part = -1
        self.args: list[str] = []
        self.signature: Signature | None = None


class _Reader:
    __slots__ = (
        "_blocks",
        "_body",
        "_frames",
        "_has_calls",
        "_is_fresh",
        "_last",
        "_over",
        "_parts",
        "_started",
        "_usage",
    )

    def __init__(self) -> None:
        self._frames = FrameReader()
        self._body: list[bytes] | None = None
        self._blocks: dict[int, _Open] = {}
        self._usage: _Usage | None = None
        self._last = _Delta()
        self._parts = 0
        self._is_fresh = True
        self._started = False
        self._has_calls = False
        self._over = False

    def feed(self, data: bytes) -> list[Event]:
        if self._over:
            return []
        if self._is_fresh and (head := data.lstrip(_BLANK)):
            self._is_fresh = False
            self._body = [] if head[:1] in (b"{", b"[", b"<") else None
        if self._body is not None:
            self._body.append(data)
            return []
        events: list[Event] = []
        try:
            for frame in self._frames.feed(data):
                self._take(frame, events)
        except BrokenAnswer as error:
            self._fail(error.problem, events)
        return events

    def close(self) -> list[Event]:
        if self._over:
            return []
        if self._body is not None:
            return self._close_body(b"".join(self._body))
        events: list[Event] = []
        try:
            for frame in self._frames.close():
                self._take(frame, events)
        except BrokenAnswer as error:
            self._fail(error.problem, events)
        if not self._over and self._last.stop_reason:
            self._finish(events)
        elif not self._over:
            self._fail(BrokenAnswer("The upstream's stream ended before the answer was complete.").problem, events)
        return events

    def _close_body(self, body: bytes) -> list[Event]:
        self._over = True
        try:
            return _read_answer(body)
        except BrokenAnswer:
            problem = _read_error(502, body)
            return [Start(), Failed(problem.seen_as(502, "bad_gateway", problem.message))]

    def _take(self, frame: Frame, events: list[Event]) -> None:
        if self._over:
            return
        try:
            wire = _FRAME.decode(frame.data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            if (wire := _second_look(frame.data)) is None:
                return
        kind = wire.type
        if kind == "content_block_delta":
            if wire.delta is not None:
                self._delta(wire.index, wire.delta, events)
        elif kind == "content_block_start":
            self._block_start(wire.index, wire.content_block, events)
        elif kind == "content_block_stop":
            if (block := self._blocks.pop(wire.index, None)) is not None:
                self._end(block, events)
        elif kind == "message_start":
            self._start(wire.message or _Answer(), events)
        elif kind == "message_delta":
            self._message_delta(wire)
        elif kind == "message_stop":
            self._finish(events)
        elif kind == "error" or _is_given(wire.error):
            self._fail(_read_error(0, frame.data), events)
        elif kind == "ping" and self._started:
            events.append(Ping())

    def _start(self, message: _Answer, events: list[Event]) -> None:
        if self._started:
            return
        self._started = True
        events.append(Start(message.id or "", message.model or ""))
        if message.usage is not None:
            self._usage = _newest(_Usage(), message.usage)
            events.append(UsageSeen(_usage_of(self._usage)))

    def _block_start(self, index: int, raw: Raw, events: list[Event]) -> None:
        self._end_all(events)
        raw = Raw(_valid(bytes(raw)))
        kind = _kind_of_block(raw)
        block = self._blocks[index] = _Open(kind, raw)
        if kind == "opaque":
            self._announce(block, PartStart(self._parts, "opaque"), events)
            return
        given = decode_leniently(_BLOCK, bytes(raw))
        block.given = given.input
        block.signature = _own_signature(given)
        if kind == "call":
            self._has_calls = True
            self._announce(block, PartStart(self._parts, "call", given.id or "", given.name or ""), events)
        elif given.text or given.thinking:
            self._words(block, given.text or given.thinking or "", events)

    def _delta(self, index: int, delta: _Delta, events: list[Event]) -> None:
        block = self._blocks.get(index)
        if delta.text:
            self._words(block or self._implied(index, "text", events), delta.text, events)
        elif delta.partial_json:
            if block is None:
                raise BrokenAnswer("The upstream sent a call's arguments without the call.")
            block.args.append(delta.partial_json)
            if block.kind == "call":
                events.append(ArgsDelta(block.part, delta.partial_json))
        elif delta.thinking:
            self._words(block or self._implied(index, "reasoning", events), delta.thinking, events)
        elif delta.signature:
            block = block or self._implied(index, "reasoning", events)
            block.signature = Signature(delta.signature, "anthropic")

    def _words(self, block: _Open, text: str, events: list[Event]) -> None:
        """Text of a text or reasoning block; in any other block there is no place for it, as in the vendor's SDKs."""
        if block.kind == "text":
            if block.part < 0:
                self._announce(block, PartStart(self._parts, "text"), events)
            events.append(TextDelta(block.part, text))
        elif block.kind == "reasoning":
            if block.part < 0:
                self._announce(block, PartStart(self._parts, "reasoning"), events)
            events.append(ReasoningDelta(block.part, text))

    def _implied(self, index: int, kind: str, events: list[Event]) -> _Open:
        self._end_all(events)
        block = self._blocks[index] = _Open(kind, Raw())
        return block

    def _announce(self, block: _Open, start: PartStart, events: list[Event]) -> None:
        if not self._started:
            self._start(_Answer(), events)
        block.part = self._parts
        self._parts += 1
        events.append(start)

    def _end_all(self, events: list[Event]) -> None:
        for block in self._blocks.values():
            self._end(block, events)
        self._blocks.clear()

    def _end(self, block: _Open, events: list[Event]) -> None:
        args = "".join(block.args)
        if block.kind == "opaque":
            data = bytes(block.given)
            data = replaced(data, ("input",), args.encode()) if is_object(args) else data
            kind = decode_leniently(_TAG, data).type
            events += [OpaqueOut(block.part, NAME, kind, compact(data)), PartEnd(block.part)]
        elif block.kind == "call":
            if not args and (args := _arguments_of(block.given)) != "{}":
                events.append(ArgsDelta(block.part, args))
            events.append(PartEnd(block.part, is_complete=is_object(args)))
        elif block.part >= 0 or block.signature is not None:
            if block.part < 0:
                self._announce(block, PartStart(self._parts, "reasoning"), events)
            if block.signature is not None:
                events.append(Signed(block.part, block.signature))
            events.append(PartEnd(block.part))

    def _message_delta(self, wire: _Frame) -> None:
        self._usage = _newest(self._usage or _Usage(), wire.usage) if wire.usage else self._usage
        if wire.delta is not None and wire.delta.stop_reason:
            self._last = wire.delta

    def _finish(self, events: list[Event]) -> None:
        self._over = True
        if not self._started:
            self._start(_Answer(), events)
        self._end_all(events)
        if self._usage is not None:
            events.append(UsageSeen(_usage_of(self._usage)))
        events.append(_finish_of(self._last, has_calls=self._has_calls))

    def _fail(self, problem: Problem, events: list[Event]) -> None:
        self._over = True
        if not self._started:
            self._start(_Answer(), events)
        events += [PartEnd(block.part, is_complete=False) for block in self._blocks.values() if block.part >= 0]
        events.append(Failed(problem))


def _second_look(data: bytes) -> _Frame | None:
    """A frame that is not as it should be: mended, or None when it is of no concern. Raises BrokenAnswer otherwise."""
    if data.strip() == b"[DONE]":
        return None
    try:
        return decode_leniently(_FRAME, data)
    except BrokenAnswer:
        if decode_leniently(_TAG, data).type in _EVENTS:
            raise
        return None


# ---- stream writer --------------------------------------------------------------------------------------------------
#
# message_start (block_start block_delta* block_stop)* message_delta message_stop, blocks numbered from 0 without gaps,
# one open at a time (`Linear` sees to that). Every frame has its `event:` line: SDKs drop frames without one.
#
#   * `message_start` waits for the end of the push that brought `Start`, so that usage seen with it is told in it;
#   * a block opens with its first content: texts and thoughts that stay empty never appear;
#   * arguments pass as they come once they look like an object; anything else waits for its end and is wrapped;
#   * a call whose arguments broke off is never closed before an end that would run it: that becomes an error. A length
#     stop or a refusal closes it, as the vendor itself does;
#   * `message_delta` is written once, at `Finish`: a second one would erase the stop reason.

_PING = named_frame(b"ping", b'{"type":"ping"}')
_MESSAGE_STOP = named_frame(b"message_stop", b'{"type":"message_stop"}')
_BLOCK_START = b'event: content_block_start\ndata: {"type":"content_block_start","index":%d,"content_block":%b}\n\n'
_BLOCK_STOP = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n'
_BLOCK_DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":"%b","%b":'
_DELTA_END = b"}}\n\n"
_EMPTY_TEXT = b'{"type":"text","text":""}'
_EMPTY_THINKING = b'{"type":"thinking","thinking":"","signature":""}'
_TEXT_DELTA, _THINKING_DELTA = (b"text_delta", b"text"), (b"thinking_delta", b"thinking")
_JSON_DELTA, _SIGNATURE_DELTA = (b"input_json_delta", b"partial_json"), (b"signature_delta", b"signature")


class _Writer:
    __slots__ = (
        "_args",
        "_batch",
        "_broken",
        "_echo",
        "_finish",
        "_head",
        "_index",
        "_is_open",
        "_linear",
        "_over",
        "_part",
        "_refused",
        "_seen_calls",
        "_segment",
        "_signature",
        "_start",
        "_started",
        "_streams",
        "_usage",
    )

    def __init__(self, echo: Echo) -> None:
        self._echo = echo
        self._linear = Linear()
        self._batch: list[Event] = []
        self._start = Start()
        self._usage = Usage()
        self._started = self._over = self._broken = self._refused = self._seen_calls = False
        self._index = 0
        self._part = PartStart(-1, "text")
        self._is_open = False
        self._head = b""
        self._args: list[str] = []
        self._streams = False
        self._segment = 0
        self._signature: Signature | None = None

    def push(self, events: list[Event]) -> bytes:
        out: list[bytes] = []
        self._batch = self._linear.push(events)
        for event in self._batch:
            if self._over:
                break
            _WRITES[type(event)](self, event, out)
        if not self._started and not self._over and any(type(event) is Start for event in self._batch):
            self._begin(out)
        return b"".join(out)

    def keepalive(self) -> bytes:
        return _PING if self._started and not self._over else b""

    def on_start(self, event: Start, _: list[bytes]) -> None:
        self._start = event

    def on_usage(self, event: UsageSeen, _: list[bytes]) -> None:
        self._usage = self._usage.merged(event.usage)

    def on_ping(self, _: Ping, out: list[bytes]) -> None:
        out.append(self.keepalive())

    def _begin(self, out: list[bytes]) -> None:
        self._started = True
        message: dict[str, object] = {
            "id": _message_id(self._start.id, self._echo),
            "type": "message",
            "role": "assistant",
            "model": self._echo.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": _usage_fields(self._usage, self._echo.input_estimate),
        }
        out.append(named_frame(b"message_start", encode({"type": "message_start", "message": message})))

    def on_part(self, event: PartStart, out: list[bytes]) -> None:
        if not self._started:
            self._begin(out)
        if self._broken:
            self._fail_broken(out)
            return
        self._part, self._segment, self._signature, self._streams = event, -1, None, False
        self._args.clear()
        self._refused = self._refused or event.kind == "refusal"
        if event.kind == "call":
            self._call_start(event, out)

    def _call_start(self, event: PartStart, out: list[bytes]) -> None:
        if not self._seen_calls:
            signed = (later for later in self._batch if isinstance(later, Signed) and later.part == event.part)
            if (first := next(signed, None)) is not None:
                self._whole(encode(_carried_thinking("", first.signature)), out)
        self._seen_calls = True
        call_id = event.call_id or _call_id(self._echo, f"{event.name}_{self._index}")
        self._open(encode({"type": "tool_use", "id": call_id, "name": event.name, "input": {}}), _JSON_DELTA, out)

    def on_text(self, event: TextDelta, out: list[bytes]) -> None:
        if not self._is_open:
            self._open(_EMPTY_TEXT, _TEXT_DELTA, out)
        out.append(self._head + encode(event.text) + _DELTA_END)

    def on_reasoning(self, event: ReasoningDelta, out: list[bytes]) -> None:
        text = event.text
        if not self._is_open:
            self._open(_EMPTY_THINKING, _THINKING_DELTA, out)
        elif event.segment != self._segment:
            text = f"\n\n{text}"
        self._segment = event.segment
        out.append(self._head + encode(text) + _DELTA_END)

    def on_arguments(self, event: ArgsDelta, out: list[bytes]) -> None:
        text = event.text
        if self._part.is_custom:
            escaped = encode(text)[1:-1].decode()
            text = escaped if self._streams else f'{{"input":"{escaped}'
            self._streams = True
        else:
            self._args.append(text)
            if not self._streams:
                text = "".join(self._args)
                self._streams = text.lstrip().startswith("{")
        if self._streams:
            out.append(self._head + encode(text) + _DELTA_END)

    def on_signed(self, event: Signed, _: list[bytes]) -> None:
        self._signature = event.signature

    def on_media(self, event: MediaOut, out: list[bytes]) -> None:
        self.on_text(TextDelta(event.part, _media_note(event.media)), out)

    def on_opaque(self, event: OpaqueOut, out: list[bytes]) -> None:
        if event.dialect == NAME:
            self._whole(event.data.encode(), out)

    def on_part_end(self, event: PartEnd, out: list[bytes]) -> None:
        if self._part.kind == "call":
            self._call_end(out, is_complete=event.is_complete)
        elif self._part.kind == "reasoning" and self._signature is not None:
            self._sign(self._signature, out)
        elif self._part.kind == "reasoning" and self._is_open:
            out.append(self._delta(_SIGNATURE_DELTA) + encode(UNSIGNED) + _DELTA_END)
        if self._is_open and not self._broken:
            self._close(out)

    def _sign(self, signature: Signature, out: list[bytes]) -> None:
        value, is_redacted = _carried(signature, has_text=self._is_open)
        if is_redacted and not self._is_open:
            self._whole(encode(_thinking_block("", value, is_redacted=True)), out)
            return
        if not self._is_open:
            self._open(_EMPTY_THINKING, _THINKING_DELTA, out)
        out.append(self._delta(_SIGNATURE_DELTA) + encode(value) + _DELTA_END)

    def _call_end(self, out: list[bytes], *, is_complete: bool) -> None:
        text = "".join(self._args)
        if self._part.is_custom:
            self._broken = not is_complete
            rest = '"}' if self._streams else '{"input":""}'
        else:
            self._broken = not is_object(text) if self._streams else not is_complete and bool(text.strip())
            rest = "" if self._streams else _as_object(text).decode()
        if rest and not self._broken:
            out.append(self._head + encode(rest) + _DELTA_END)

    def on_finish(self, event: Finish, out: list[bytes]) -> None:
        if self._broken and event.reason in _ENDS_WHOLE:
            self._fail_broken(out)
            return
        self._over = True
        if not self._started:
            self._begin(out)
        if self._is_open:
            self._close(out)
        stop = _stop_of(event, has_calls=self._seen_calls, is_whole=not self._broken, has_refusal=self._refused)
        usage = _usage_fields(self._usage, self._echo.input_estimate)
        frame = {"type": "message_delta", "delta": _stop_fields(stop, event), "usage": usage}
        out += [named_frame(b"message_delta", encode(frame)), _MESSAGE_STOP]

    def on_failed(self, event: Failed, out: list[bytes]) -> None:
        self._over = True
        out.append(_write_stream_error(event.problem))

    def _fail_broken(self, out: list[bytes]) -> None:
        problem = BrokenAnswer("The upstream's call broke off before its arguments were complete.").problem
        self.on_failed(Failed(problem), out)

    def _open(self, block: bytes, delta: tuple[bytes, bytes], out: list[bytes]) -> None:
        out.append(_BLOCK_START % (self._index, block))
        self._head = self._delta(delta)
        self._is_open = True

    def _delta(self, delta: tuple[bytes, bytes]) -> bytes:
        return _BLOCK_DELTA % (self._index, *delta)

    def _close(self, out: list[bytes]) -> None:
        out.append(_BLOCK_STOP % self._index)
        self._index += 1
        self._is_open = False

    def _whole(self, block: bytes, out: list[bytes]) -> None:
        """A block that has no deltas."""
        out.append(_BLOCK_START % (self._index, block))
        self._close(out)


_WRITES: dict[type[Event], Callable[..., None]] = {
    TextDelta: _Writer.on_text,
    ReasoningDelta: _Writer.on_reasoning,
    ArgsDelta: _Writer.on_arguments,
    PartStart: _Writer.on_part,
    PartEnd: _Writer.on_part_end,
    Signed: _Writer.on_signed,
    MediaOut: _Writer.on_media,
    OpaqueOut: _Writer.on_opaque,
    UsageSeen: _Writer.on_usage,
    Ping: _Writer.on_ping,
    Start: _Writer.on_start,
    Finish: _Writer.on_finish,
    Failed: _Writer.on_failed,
}


# ---- tap ------------------------------------------------------------------------------------------------------------

# Quoted names are safe to look for: inside the strings of a frame their quotes are escaped.
# A block that has begun is no content yet; one that came whole in its start is seen when it stops.
_CONTENT_MARKS, _END_MARK, _ERROR_MARK = (
    (b'"content_block_delta"', b'"content_block_stop"'),
    b'"message_stop"',
    b'"error"',
)
_USAGE_MARKS = (b'"message_start"', b'"message_delta"')
_REST_LIMIT = 65_536
_MOST_KEPT = 8


class _Tap:
    """Looks at whole frames only: what follows the last blank line waits for the next bytes, within a limit."""

    __slots__ = ("_kept", "_rest", "has_content", "is_over", "problem")

    def __init__(self) -> None:
        self.has_content = False
        self.is_over = False
        self.problem: Problem | None = None
        self._rest = b""
        self._kept: list[bytes] = []

    def look(self, data: bytes) -> None:
        window = self._rest + data
        end = max(window.rfind(b"\n\n") + 2, window.rfind(b"\n\r\n") + 3, 2)
        self._rest = window[end if end > 2 else 0 :][-_REST_LIMIT:]
        self.has_content = self.has_content or any(mark in window for mark in _CONTENT_MARKS)
        self.is_over = self.is_over or _END_MARK in window
        if any(mark in window for mark in _USAGE_MARKS) and end > 2:
            self._kept.append(window[:end])
            if len(self._kept) > _MOST_KEPT:
                del self._kept[1]  # the first tells the input, and totals replace each other
        if self.problem is None and _ERROR_MARK in window:
            self.problem = _problem_in(window)

    def usage(self) -> Usage | None:
        seen: _Usage | None = None
        for frame in FrameReader().feed(b"".join(self._kept)):
            wire = _tapped(frame.data)
            found = (wire.message.usage if wire.message else None) or wire.usage
            seen = _newest(seen or _Usage(), found) if found else seen
        return _usage_of(seen) if seen else None


def _problem_in(data: bytes) -> Problem | None:
    """The error that the frames in `data` report, or the body that came instead of a stream."""
    if data.lstrip(_BLANK).startswith(b"{"):
        return _read_error(0, data) if _is_given(_tapped(data).error) else None
    reader = FrameReader()
    for frame in (*reader.feed(data), *reader.close()):
        wire = _tapped(frame.data)
        if wire.type == "error" or (not wire.type and _is_given(wire.error)):
            return _read_error(0, frame.data)
    return None


def _tapped(data: bytes) -> _Frame:
    try:
        return decode_leniently(_FRAME, data)
    except BrokenAnswer:
        return _Frame()


# ---- errors ---------------------------------------------------------------------------------------------------------

_ERRORS: dict[Kind, tuple[int, str]] = {
    "invalid_request": (400, "invalid_request_error"),
    "invalid_json": (400, "invalid_request_error"),
    "missing_parameter": (400, "invalid_request_error"),
    "context_too_long": (400, "invalid_request_error"),
    "unauthenticated": (401, "authentication_error"),
    "billing": (402, "billing_error"),
    "permission": (403, "permission_error"),
    "not_found": (404, "not_found_error"),
    "model_not_found": (404, "not_found_error"),
    "method_not_allowed": (405, "invalid_request_error"),
    "request_timeout": (408, "timeout_error"),
    "conflict": (409, "invalid_request_error"),
    "gone": (410, "invalid_request_error"),
    "precondition": (412, "invalid_request_error"),
    "too_large": (413, "request_too_large"),
    "upgrade_required": (426, "invalid_request_error"),
    "rate_limit": (429, "rate_limit_error"),
    "quota": (429, "rate_limit_error"),
    "internal": (500, "api_error"),
    "unsupported": (501, "api_error"),
    "bad_gateway": (502, "api_error"),
    "unreachable": (502, "api_error"),
    "overloaded": (529, "overloaded_error"),
    "gateway_timeout": (504, "timeout_error"),
    "no_account": (503, "api_error"),
}
_KINDS: dict[str, Kind] = {
    "invalid_request_error": "invalid_request",
    "authentication_error": "unauthenticated",
    "billing_error": "billing",
    "permission_error": "permission",
    "not_found_error": "not_found",
    "conflict_error": "conflict",
    "request_too_large": "too_large",
    "rate_limit_error": "rate_limit",
    "api_error": "internal",
    "timeout_error": "gateway_timeout",
    "gateway_timeout_error": "gateway_timeout",
    "overloaded_error": "overloaded",
}
_TOO_LONG = "prompt is too long"
# What the vendor says under `invalid_request_error` and `not_found_error` that is a kind of its own.
_PHRASES: dict[str, Kind] = {
    _TOO_LONG: "context_too_long",
    "exceed context limit": "context_too_long",
}
_EMPTY_PURSE = "your credit balance is too low"
"""How a message begins: messages repeat what callers have sent, and this one puts an account to rest."""
_REFINED: tuple[Kind, ...] = ("invalid_request", "too_large")
_MESSAGE_LIMIT = 4000


def _read_error(status: int, body: bytes) -> Problem:
    """`status` is 0 for an error inside a stream, where only the body tells."""
    error = _error_in(body)
    word, message = _word(error, "type"), _word(error, "message")
    kind: Kind = _KINDS.get(word, kind_of_status(status or 502))
    if kind in _REFINED:
        kind = _refined(kind, message)
    if kind == "not_found" and message.startswith("model:"):
        kind = "model_not_found"
    return Problem(
        kind,
        status or _ERRORS[kind][0],
        message or _described(status, body, is_json=bool(error)),
        code=word,
        dialect=NAME,
        native=body if error else b"",
    )


def _refined(kind: Kind, message: str) -> Kind:
    lowered = message.lower()
    if lowered.startswith(_EMPTY_PURSE):
        return "billing"
    for phrase, refined in _PHRASES.items():
        if phrase in lowered:
            return refined
    return kind


def _error_in(body: bytes | Raw) -> dict[str, Raw]:
    """The members wherever a body keeps them: `{"error": {...}}`, `{"error": "text"}`, bare, in a list; {} if none."""
    try:
        found = _MEMBERS.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    fields = found if isinstance(found, dict) else next(iter(found), dict[str, Raw]())
    inner = next((fields[name] for name in ("error", "detail") if name in fields), Raw())
    if _said(inner):
        return {"message": inner}
    return _error_in(inner) or fields if inner else fields


def _word(error: dict[str, Raw], name: str) -> str:
    return _said(error.get(name, Raw()))


def _said(raw: Raw) -> str:
    """The text of a JSON string, "" for anything else."""
    try:
        return _STRING.decode(mended(bytes(raw)))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""


def _described(status: int, body: bytes, *, is_json: bool) -> str:
    """Words for a body without a message: its text, unless it is a web page or JSON of an unknown shape."""
    text = body[:_MESSAGE_LIMIT].decode("utf-8", "replace").strip()
    if not text or is_json or text.startswith("<"):
        what = "a web page" if text.startswith("<") else "an error without a message" if text else "an empty error"
        return f"The upstream answered with {what}{f' (status {status})' if status else ''}."
    return text


def _write_error(problem: Problem, request_id: str) -> bytes:
    if problem.dialect == NAME and problem.native:
        return problem.native
    fields: dict[str, object] = {"type": "error", "error": _error_object(problem)}
    if request_id:
        fields["request_id"] = request_id
    return encode(fields)


def _error_object(problem: Problem) -> dict[str, object]:
    """Claude Code compacts the conversation when it reads the phrase, so it must be there."""
    message = problem.message
    if problem.kind == "context_too_long" and _refined("invalid_request", message) != problem.kind:
        message = f"{_TOO_LONG}: {message}"
    return {"type": _ERRORS[problem.kind][1], "message": message}


def _write_stream_error(problem: Problem) -> bytes:
    if problem.dialect == NAME and problem.native and _is_given(_tapped(problem.native).error):
        return named_frame(b"error", encode(Raw(compact(_valid(problem.native)).encode())))
    return named_frame(b"error", encode({"type": "error", "error": _error_object(problem)}))


# ---- models ---------------------------------------------------------------------------------------------------------


def _write_models(models: list[ModelEntry]) -> bytes:
    page = {
        "data": [_write_model(model) for model in models],
        "has_more": False,
        "first_id": models[0].id if models else None,
        "last_id": models[-1].id if models else None,
    }
    return encode(page)


def _write_model(model: ModelEntry) -> dict[str, object]:
    created = datetime.fromtimestamp(model.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"type": "model", "id": model.id, "display_name": model.display_name, "created_at": created}


# ---- the dialect ----------------------------------------------------------------------------------------------------


class Anthropic:
    """Anthropic Messages, both directions."""

    name = NAME
    fit = _FIT
    stream_type = b"text/event-stream; charset=utf-8"
    keepalive = b": keepalive\n\n"
    is_framed = True
    follow_signs: tuple[bytes, ...] = (b'"assistant"', b'"user_id"')
    shows_reasoning = True
    model_paths: tuple[tuple[str, ...], ...] = (("model",), ("message", "model"))

    def read_request(self, body: bytes, *, model: str = "", is_stream: bool | None = None) -> Request:
        return _read_request(body, model, is_stream)

    def opening(self, body: bytes) -> Opening:
        return _opening(body)

    def write_request(self, request: Request) -> Written:
        return _write_request(request)

    def read_answer(self, body: bytes) -> list[Event]:
        return _read_answer(body)

    def read_usage(self, members: Mapping[str, Raw]) -> Usage | None:
        return _counts_in(members.get("usage"))

    def write_answer(self, answer: Answer, echo: Echo) -> bytes:
        return _write_answer(answer, echo)

    def reader(self) -> _Reader:
        return _Reader()

    def writer(self, echo: Echo) -> _Writer:
        return _Writer(echo)

    def tap(self) -> _Tap:
        return _Tap()

    def read_error(self, status: int, body: bytes) -> Problem:
        return _read_error(status, body)

    def write_error(self, problem: Problem, request_id: str) -> bytes:
        return _write_error(problem, request_id)

    def write_stream_error(self, problem: Problem) -> bytes:
        return _write_stream_error(problem)

    def status_of(self, problem: Problem) -> int:
        if problem.dialect == NAME and 400 <= problem.status < 600:
            return problem.status
        return _ERRORS[problem.kind][0]

    def write_count(self, tokens: int) -> bytes:
        return b'{"input_tokens":%d}' % tokens

    def write_models(self, models: list[ModelEntry]) -> bytes:
        return _write_models(models)

    def write_model(self, model: ModelEntry) -> bytes:
        return encode(_write_model(model))


DIALECT = Anthropic()
