"""Google's generateContent.

Sources: https://ai.google.dev/api/generate-content, .../api/caching (tools), .../gemini-api/docs/thought-signatures
and https://cloud.google.com/apis/design/errors, all checked 2026-11-24; what Google's own SDKs take and refuse was
observed on google-genai 3.4 for Python and 2.32 for Node.

Google's parser takes camelCase and snake_case for every key, and its SDKs mix them. Bodies with snake_case keys are
brought to camelCase first, at the places of the vendor's own keys only; arguments, results and tool schemas belong to
the caller. The model and the wish to stream are in the address, not in the body.

Answers are chunks of one shape, each with whole parts. A part that carries a `thoughtSignature` must come back just as
it went: a signature ends its part, and two signed parts are never joined.
"""

import base64
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from itertools import chain
from typing import Literal, TypeAlias

import msgspec
from msgspec import Raw, Struct

from cliproxy.canon.answer import Answer
from cliproxy.canon.carrier import seal, unseal
from cliproxy.canon.errors import (
    BrokenAnswer,
    GatewayError,
    InvalidRequest,
    MissingParameter,
    Problem,
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
    text_of,
)
from cliproxy.canon.request import Limits, Meta, OutputFormat, Request, Sampling, Thinking, Tool, ToolChoice
from cliproxy.canon.usage import Usage
from cliproxy.dialects.base import Echo, Opening, StreamReader, StreamWriter, Tap, Written
from cliproxy.wire import google_errors, json, json_schema
from cliproxy.wire.json_array import ObjectCutter
from cliproxy.wire.media import media_of, mime_of
from cliproxy.wire.sse import FrameReader, data_frame

NAME = "gemini"

_Node: TypeAlias = dict[str, object]

# ---- wire shapes -----------------------------------------------------------------------------------------------------


class _Blob(Struct, rename="camel"):
    mime_type: str | None = None
    data: str | None = None
    display_name: str | None = None


class _File(Struct, rename="camel"):
    mime_type: str | None = None
    file_uri: str | None = None


class _Call(Struct, rename="camel"):
    id: str | None = None
    name: str | None = None
    args: Raw = Raw(b"")


class _Result(Struct, rename="camel"):
    id: str | None = None
    name: str | None = None
    response: Raw = Raw(b"")
    parts: "list[_Part] | None" = None


class _Part(Struct, rename="camel"):
    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: _Call | None = None
    function_response: _Result | None = None
    inline_data: _Blob | None = None
    file_data: _File | None = None


class _Content(Struct, rename="camel"):
    parts: list[_Part] | None = None
    role: str | None = None


class _Function(Struct, rename="camel"):
    name: str | None = None
    description: str | None = None
    parameters: Raw = Raw(b"")
    parameters_json_schema: Raw = Raw(b"")


class _FunctionTool(Struct, rename="camel"):
    function_declarations: list[_Function] | None = None


class _CallingConfig(Struct, rename="camel"):
    mode: str | None = None
    allowed_function_names: list[str] | None = None


class _ToolConfig(Struct, rename="camel"):
    function_calling_config: _CallingConfig | None = None


class _ThinkingConfig(Struct, rename="camel"):
    include_thoughts: bool | None = None
    thinking_budget: int | None = None
    thinking_level: str | None = None


class _GenerationConfig(Struct, rename="camel"):
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    candidate_count: int | None = None
    max_output_tokens: int | None = None
    stop_sequences: list[str] | str | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    response_logprobs: bool | None = None
    logprobs: int | None = None
    response_mime_type: str | None = None
    response_schema: Raw = Raw(b"")
    response_json_schema: Raw = Raw(b"")
    thinking_config: _ThinkingConfig | None = None


class _Request(Struct, rename="camel"):
    contents: list[_Content | str] | _Content | str | None = None
    model: str | None = None
    system_instruction: _Content | str | None = None
    tools: list[_FunctionTool] | None = None
    tool_config: _ToolConfig | None = None
    generation_config: _GenerationConfig | None = None
    service_tier: str | None = None


class _Beginning(Struct, gc=False, rename={"content": "parts"}):
    """A content as one of an opening."""

    role: str | None = "user"
    content: Raw = Raw(b"null")


class Begun(Struct, frozen=True):
    """Enough of a request to know its conversation, in either spelling. Only the Gemini CLI names its session."""

    contents: list[_Beginning | str] | _Beginning | str | None = None
    systemInstruction: _Beginning | str | None = None
    system_instruction: _Beginning | str | None = None
    sessionId: str | None = None
    session_id: str | None = None


class _Candidate(Struct, rename="camel"):
    content: _Content | None = None
    finish_reason: str | None = None
    finish_message: str | None = None


class _UsageMetadata(Struct, rename="camel", frozen=True):
    prompt_token_count: int | None = None
    cached_content_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None


class _Feedback(Struct, rename="camel"):
    block_reason: str | None = None
    block_reason_message: str | None = None


class _Chunk(Struct, rename="camel"):
    """One frame of a stream, or a whole answer. `response` is the envelope of Code Assist."""

    candidates: list[_Candidate] | None = None
    usage_metadata: _UsageMetadata | None = None
    prompt_feedback: _Feedback | None = None
    model_version: str | None = None
    response_id: str | None = None
    create_time: str | None = None
    error: Raw = Raw(b"")
    response: Raw = Raw(b"")


_NO_USAGE = _UsageMetadata()
_request = msgspec.json.Decoder(_Request, strict=False)
_begun = msgspec.json.Decoder(Begun)
_chunk = msgspec.json.Decoder(_Chunk, strict=False)
_list = msgspec.json.Decoder(list[Raw])
_text = msgspec.json.Decoder(str)

# ---- vocabulary ------------------------------------------------------------------------------------------------------

_FIT = Fit(
    dialect=NAME,
    family="google",
    name_charset="A-Za-z0-9_.:-",
    name_first="A-Za-z_",
    has_inline_instructions=False,
    has_result_errors=True,
    reasoning="signed",
    merges_turns=True,
    starts_with_user=True,
    takes_prefill=False,
)

_FINISH: dict[str, FinishReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
    "SAFETY": "content_filter",
    "RECITATION": "recitation",
    "LANGUAGE": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "recitation",
    "IMAGE_OTHER": "content_filter",
    "NO_IMAGE": "content_filter",
}
"""Google's words that are not here (`OTHER`, those to come) count as an ordinary stop."""

_BROKEN = frozenset(
    {
        "MALFORMED_FUNCTION_CALL",
        "UNEXPECTED_TOOL_CALL",
        "MALFORMED_RESPONSE",
        "MISSING_THOUGHT_SIGNATURE",
        "TOO_MANY_TOOL_CALLS",
    }
)
"""The model's output was unusable: worth another try, and nothing in the same chunk is to be trusted."""

_FINISH_WORDS: dict[FinishReason, str] = {
    "stop": "STOP",
    "stop_sequence": "STOP",
    "tool_calls": "STOP",
    "pause": "STOP",
    "length": "MAX_TOKENS",
    "context_overflow": "MAX_TOKENS",
    "content_filter": "SAFETY",
    "refusal": "SAFETY",
    "recitation": "RECITATION",
}

_MODES: dict[str, tuple[str, bool]] = {
    "auto": ("AUTO", False),
    "none": ("NONE", False),
    "required": ("ANY", False),
    "one": ("ANY", True),
    "allowed_auto": ("VALIDATED", True),
    "allowed_required": ("ANY", True),
}
"""The calling mode for each choice, and whether it lists names."""

_LEVELS = {"minimal": "MINIMAL", "low": "LOW", "medium": "MEDIUM", "high": "HIGH", "xhigh": "HIGH", "max": "HIGH"}

_ROLES: dict[str, Role] = {"model": "assistant", "assistant": "assistant", "system": "system", "developer": "developer"}

_MEDIA_KINDS: dict[str, tuple[type[Image | Audio | Video | Document], str]] = {
    "image": (Image, "image/png"),
    "audio": (Audio, "audio/wav"),
    "video": (Video, "video/mp4"),
    "document": (Document, "application/pdf"),
}
"""The part for each kind of media, and the type that it most likely has when nobody says."""

_FETCHED_BY_GOOGLE = re.compile(
    r"gs://|files/|https?://(?:generativelanguage\.googleapis\.com/|(?:www\.|m\.)?youtube\.com/|youtu\.be/)"
)

_BYPASS = "skip_thought_signature_validator"
"""Documented value for calls that another vendor's model made; put on the first call of every step without its own."""
_BYPASSES = frozenset(
    form
    for value in (_BYPASS, "context_engineering_is_the_way_to_go")
    for form in (
        value,
        base64.b64encode(value.encode()).decode(),
        base64.b64encode(value.encode()).decode().rstrip("="),
    )
)

_Spoken = Literal["text", "reasoning"]

_BASE64 = re.compile(r"(?:[A-Za-z0-9+/_-]{4})*(?:[A-Za-z0-9+/_-]{2,3}={0,2})?")

_ASIDE = frozenset({"thought", "thoughtSignature", "thought_signature", "videoMetadata", "mediaResolution"})
"""Keys that stand beside the content of a part."""

_MAX_STOPS = 5
_INT32 = range(-(2**31), 2**31)

_Shape: TypeAlias = "dict[str, _Shape]"
_PART: _Shape = {"functionCall": {}, "functionResponse": {}, "inlineData": {}, "fileData": {}, "videoMetadata": {}}
_PART["functionResponse"]["parts"] = _PART
_CONTENT: _Shape = {"parts": _PART}
_REQUEST: _Shape = {
    "contents": _CONTENT,
    "systemInstruction": _CONTENT,
    "tools": {"functionDeclarations": {}},
    "toolConfig": {"functionCallingConfig": {}},
    "generationConfig": {"thinkingConfig": {}},
}
_ANSWER: _Shape = {"candidates": {"content": _CONTENT}, "usageMetadata": {}, "promptFeedback": {}}
_ANSWER["response"] = _ANSWER
"""Where the vendor's own keys stand; whatever is not listed is not looked into."""

_SNAKE_KEY = re.compile(rb'_[a-z]+"\s*:')
_UNDERSCORE = re.compile(r"_([a-z])")


def _camelled(data: bytes | Raw, shape: _Shape) -> bytes:
    """`data` with the vendor's own keys in camelCase, which wins where both spellings stand side by side."""
    text = bytes(data)
    if text.lstrip()[:1] == b"[":
        return b"[" + b",".join(_camelled(entry, shape) for entry in json.decode_as(_list, text)) + b"]"
    if text.lstrip()[:1] != b"{":
        return text
    members = json.members(text)
    out: dict[str, Raw] = {}
    for key, value in members.items():
        name = _UNDERSCORE.sub(lambda match: match[1].upper(), key)
        if name == key or name not in members:
            out[name] = Raw(_camelled(value, shape[name])) if name in shape else value
    return msgspec.json.encode(out)


def _normal(data: bytes, shape: _Shape) -> bytes:
    return _camelled(data, shape) if b"_" in data and _SNAKE_KEY.search(data) else data


# ---- requests: reading -----------------------------------------------------------------------------------------------


def _read_request(body: bytes, model: str, *, is_stream: bool) -> Request:
    body = _normal(_counted(body), _REQUEST)
    wire = json.decode_as(_request, body)
    if not wire.contents:
        raise MissingParameter("`contents` is required.", param="contents")
    config = wire.generation_config or _GenerationConfig()
    return Request(
        model=(model or wire.model or "").removeprefix("models/"),
        is_stream=is_stream,
        system=_read_system(wire.system_instruction),
        turns=_Turns(body).read(wire.contents),
        tools=_read_tools(wire, body),
        tool_choice=_read_choice(wire.tool_config),
        sampling=Sampling(
            temperature=config.temperature,
            top_p=config.top_p,
            top_k=config.top_k,
            presence_penalty=config.presence_penalty,
            frequency_penalty=config.frequency_penalty,
            seed=config.seed,
            logprobs=config.response_logprobs,
            top_logprobs=config.logprobs,
        ),
        limits=Limits(config.max_output_tokens, _stops(config.stop_sequences), config.candidate_count),
        thinking=_read_thinking(config.thinking_config),
        output=_read_output(config),
        meta=Meta(service_tier=wire.service_tier or ""),
        wants_usage=True,
        dropped=_unread(body),
    )


def _counted(body: bytes) -> bytes:
    """The request itself: `countTokens` also takes one wrapped in `generateContentRequest`."""
    if b"enerate" not in body[:65536]:
        return body
    members = json.members(body)
    for name in ("generateContentRequest", "generate_content_request"):
        if name in members:
            return bytes(members[name])
    return body


def _stops(value: list[str] | str | None) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value or ())


def _read_system(content: _Content | str | None) -> tuple[Text, ...]:
    if isinstance(content, str):
        return (Text(content),) if content else ()
    return tuple(Text(part.text) for part in (content.parts or ()) if part.text) if content else ()


class _Turns:
    """Reads a conversation; knows which calls still wait for a result."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._is_list = True
        self._waiting: list[tuple[str, str]] = []

    def read(self, contents: list[_Content | str] | _Content | str) -> tuple[Turn, ...]:
        self._is_list = isinstance(contents, list)
        listed = contents if isinstance(contents, list) else [contents]
        return tuple(self._turn(number, content) for number, content in enumerate(listed))

    def _turn(self, number: int, content: _Content | str) -> Turn:
        if isinstance(content, str):
            return Turn("user", (Text(content),))
        wires = content.parts or []
        role = _ROLES.get(content.role or "", "user")
        if not content.role and any(wire.function_call for wire in wires):
            role = "assistant"
        parts = [self._part(number, place, wire) for place, wire in enumerate(wires)]
        return Turn(role, _joined_thoughts(part for part in parts if part is not None))

    def _part(self, number: int, place: int, wire: _Part) -> Part | None:
        where = f"contents[{number}].parts[{place}]"
        signature = _read_signature(wire.thought_signature)
        if wire.function_call is not None:
            return self._call(wire.function_call, f"{number}.{place}", signature, where)
        if wire.function_response is not None:
            return self._result(wire.function_response, f"{number}.{place}", where)
        if wire.inline_data is not None:
            return _read_blob(wire.inline_data, where)
        if wire.file_data is not None:
            return _read_file(wire.file_data, where)
        if wire.thought:
            return Reasoning((wire.text,) if wire.text else (), signature=signature)
        if wire.text is not None:
            return Text(wire.text, signature=signature)
        steps = ("contents", number) if self._is_list else ("contents",)
        opaque = _opaque(self._body, *steps, "parts", place)
        return opaque or (Text("", signature=signature) if signature else None)

    def _call(self, call: _Call, place: str, signature: Signature | None, where: str) -> ToolCall:
        if not call.name:
            raise MissingParameter("A function call needs a `name`.", param=f"{where}.functionCall.name")
        call_id = (call.id or "").strip() or _minted(place, call.name)
        self._waiting.append((call_id, call.name))
        return ToolCall(call_id, call.name, _arguments(call.args, f"{where}.functionCall.args"), signature=signature)

    def _result(self, result: _Result, place: str, where: str) -> ToolResult:
        """Ids win; without one, the first waiting call of the same name is meant."""
        name, call_id = result.name or "", (result.id or "").strip()
        for entry in self._waiting:
            if call_id == entry[0] or (not call_id and name in ("", entry[1])):
                self._waiting.remove(entry)
                call_id, name = entry[0], name or entry[1]
                break
        content, is_error = _read_response(result.response)
        for number, part in enumerate(result.parts or ()):
            if part.inline_data is not None:
                content.append(_read_blob(part.inline_data, f"{where}.functionResponse.parts[{number}]"))
            elif part.file_data is not None:
                content.append(_read_file(part.file_data, f"{where}.functionResponse.parts[{number}]"))
        return ToolResult(call_id or _minted(place, name), tuple(content), name, is_error)


def _joined_thoughts(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Thoughts that streamed in pieces as one; a signature ends its thought."""
    out: list[Part] = []
    for part in parts:
        last = out[-1] if out else None
        if isinstance(part, Reasoning) and isinstance(last, Reasoning) and last.signature is None:
            text = "".join((*last.segments, *part.segments))
            out[-1] = Reasoning((text,) if text else (), signature=part.signature)
        else:
            out.append(part)
    return tuple(out)


def _minted(*words: str) -> str:
    """An id for a call that has none: the same place in the same conversation always gets the same one."""
    return "call_" + hashlib.sha256("\0".join(words).encode()).hexdigest()[:24]


def _read_signature(text: str | None) -> Signature | None:
    """SDKs decode and encode the bytes anew, mostly to the URL-safe alphabet; our own envelopes are standard."""
    if not text or text in _BYPASSES:
        return None
    standard = text.replace("-", "+").replace("_", "/").rstrip("=")
    return unseal(standard + "=" * (-len(standard) % 4)) or Signature(text, "google")


def _arguments(args: Raw, where: str) -> str:
    text = bytes(args)
    if text in (b"", b"null"):
        return "{}"
    if not text.startswith(b"{"):
        raise InvalidRequest(f"Expected `object` at `{where}`", param=where)
    return json.compact(text)


def _read_blob(blob: _Blob, where: str) -> Part:
    media = media_of(blob.data or "", blob.mime_type or "")
    if media is None:
        raise InvalidRequest("Expected base64 in `data`.", param=f"{where}.inlineData.data")
    if media.mime.startswith("text/"):
        try:
            return Document(text=base64.b64decode(media.data).decode(), filename=blob.display_name or "")
        except ValueError:
            pass
    return _media_part(media, blob.display_name or "")


def _read_file(file: _File, where: str) -> Part:
    if not file.file_uri:
        raise MissingParameter("File data needs a `fileUri`.", param=f"{where}.fileData.fileUri")
    return _media_part(Media(mime_of(file.mime_type or ""), url=file.file_uri))


def _media_part(media: Media, filename: str = "") -> Part:
    match media.mime.partition("/")[0]:
        case "image":
            return Image(media)
        case "audio":
            return Audio(media)
        case "video":
            return Video(media)
        case "" if "youtu" in media.url:
            return Video(media)
        case _:
            return Document(media, filename=filename)


def _read_response(response: Raw) -> tuple[list[Part], bool]:
    """The content of a result. `output` and `error` are Google's own keys, the others are those of its SDKs."""
    text = bytes(response)
    if text in (b"", b"null", b"{}"):
        return [], False
    if not text.startswith(b"{"):
        return _text_parts(response), False
    members = json.members(text)
    if len(members) == 1:
        [(key, value)] = members.items()
        if key in ("output", "error") or (key in ("result", "content") and bytes(value).startswith(b'"')):
            return _text_parts(value), key == "error"
    return [Text(json.compact(text))], False


def _text_parts(value: Raw) -> list[Part]:
    text = _text.decode(value) if bytes(value).startswith(b'"') else json.compact(bytes(value))
    return [Text(text)] if text else []


def _opaque(data: bytes, *path: str | int) -> Opaque | None:
    """The part at `path`, which only Google understands, with everything that is in it; None when that is nothing."""
    raw = Raw(json.mended(data))
    for step in path:
        raw = json.members(raw)[step] if isinstance(step, str) else _list.decode(raw)[step]
    kinds = [key for key in json.members(raw) if key not in _ASIDE]
    return Opaque(NAME, kinds[0], json.compact(bytes(raw))) if kinds else None


def _read_tools(wire: _Request, body: bytes) -> tuple[Tool, ...]:
    if not wire.tools:
        return ()
    tools: list[Tool] = []
    for number, (tool, raw) in enumerate(zip(wire.tools, _list.decode(json.members(body)["tools"]), strict=True)):
        for place, function in enumerate(tool.function_declarations or ()):
            if not function.name:
                where = f"tools[{number}].functionDeclarations[{place}].name"
                raise MissingParameter("A function declaration needs a `name`.", param=where)
            tools.append(Tool(function.name, description=function.description or "", schema=_read_schema(function)))
        for key, value in json.members(raw).items():
            if key != "functionDeclarations" and bytes(value) != b"null":
                data = json.compact(msgspec.json.encode({key: value}))
                tools.append(Tool(key, "opaque", dialect=NAME, data=data))
    return tuple(tools)


def _read_schema(function: _Function) -> str:
    if _is_said(function.parameters_json_schema):
        return json.compact(bytes(function.parameters_json_schema))
    return json_schema.from_gemini(_string(function.parameters)) if _is_said(function.parameters) else ""


def _is_said(raw: Raw) -> bool:
    return bytes(raw) not in (b"", b"null")


def _string(raw: Raw) -> str:
    return bytes(raw).decode()


def _read_choice(config: _ToolConfig | None) -> ToolChoice | None:
    calling = config.function_calling_config if config else None
    names = tuple(calling.allowed_function_names or ()) if calling else ()
    match (calling.mode or "").upper() if calling else "":
        case "NONE":
            return ToolChoice("none")
        case "ANY" if len(names) == 1:
            return ToolChoice("one", names)
        case "ANY":
            return ToolChoice("allowed_required", names) if names else ToolChoice("required")
        case "AUTO" | "VALIDATED":
            return ToolChoice("allowed_auto", names) if names else ToolChoice("auto")
        case _:
            return None


def _read_thinking(config: _ThinkingConfig | None) -> Thinking:
    if config is None:
        return Thinking()
    level, budget, is_shown = (config.thinking_level or "").lower(), config.thinking_budget, config.include_thoughts
    if level in _LEVELS:
        return Thinking("level", level, is_shown=is_shown)
    if budget is None:
        return Thinking(is_shown=is_shown)
    if budget <= 0:
        return Thinking("auto" if budget < 0 else "off", is_shown=is_shown)
    return Thinking("budget", budget=budget, is_shown=is_shown)


def _read_output(config: _GenerationConfig) -> OutputFormat:
    if _is_said(config.response_json_schema):
        return OutputFormat("schema", json.compact(bytes(config.response_json_schema)))
    if _is_said(config.response_schema):
        return OutputFormat("schema", json_schema.from_gemini(_string(config.response_schema)))
    return OutputFormat("json" if mime_of(config.response_mime_type or "") == "application/json" else "text")


_READ: dict[str, frozenset[str]] = {
    "": frozenset({"contents", "model", "systemInstruction", "tools", "toolConfig", "generationConfig", "serviceTier"}),
    "toolConfig": frozenset({"functionCallingConfig"}),
    "generationConfig": frozenset(name for name in _GenerationConfig.__struct_encode_fields__),
}
_EMPTY = ("null", "[]", "{}", '""', '["TEXT"]')


def _unread(body: bytes) -> tuple[str, ...]:
    """Paths of the fields that have no place in canon: safety settings, cached content, speech and their like."""
    top = json.members(body)
    paths: list[str] = []
    for parent, known in _READ.items():
        members = top if not parent else json.members(top[parent]) if _is_said(top.get(parent, Raw(b""))) else {}
        unknown = [
            key for key, value in members.items() if key not in known and json.compact(bytes(value)) not in _EMPTY
        ]
        paths += [f"{parent}.{key}" if parent else key for key in unknown]
    if b'"videoMetadata"' in body:
        paths.append("contents.parts.videoMetadata")
    return tuple(paths)


def opening_of(begun: Begun) -> Opening:
    if name := begun.session_id or begun.sessionId:
        return Opening(name, "session_id")
    contents = begun.contents or []
    turns = map(_turn_of, contents if isinstance(contents, list) else [contents])
    instructions = _turn_of(begun.systemInstruction or begun.system_instruction)
    return Opening(instructions=instructions.content, turns=turns)


def _turn_of(content: _Beginning | str | None) -> _Beginning:
    return _Beginning(content=Raw(json.encode(content))) if isinstance(content, str) else content or _Beginning()


# ---- requests: writing -----------------------------------------------------------------------------------------------


def _write_request(request: Request) -> Written:
    losses = _unsaid(request)
    body: _Node = {"contents": _contents(request.turns, losses)}
    system: list[_Node] = [{"text": block.text} for block in request.system if block.text]
    functions = [_declaration(tool, request.tool_choice) for tool in request.tools if tool.kind != "opaque"]
    tools: list[object] = [{"functionDeclarations": functions}] if functions else []
    tools += [Raw(tool.data.encode()) for tool in request.tools if tool.kind == "opaque"]
    config = _generation_config(request, losses)
    if functions and request.output.kind != "text":
        losses.append(Loss("output", "JSON output beside functions is asked for in words", "emulated"))
        system.append({"text": _json_wish(request.output)})
    elif request.output.kind != "text":
        config["responseMimeType"] = "application/json"
        if request.output.schema:
            config["responseJsonSchema"] = _raw(json_schema.for_gemini_output(request.output.schema))
    if system:
        body["systemInstruction"] = {"parts": system}
    if tools:
        body["tools"] = tools
    if functions and request.tool_choice is not None:
        mode, has_names = _MODES[request.tool_choice.mode]
        names = {"allowedFunctionNames": request.tool_choice.names} if has_names else {}
        body["toolConfig"] = {"functionCallingConfig": {"mode": mode, **names}}
    if config:
        body["generationConfig"] = config
    return Written(json.encode(body), tuple(dict.fromkeys(losses)))


def _raw(text: str) -> Raw:
    return Raw(text.encode())


def _declaration(tool: Tool, choice: ToolChoice | None) -> _Node:
    """Without arguments there is no schema, except where a call is forced: there Google wants one."""
    out: _Node = {"name": tool.name, "description": tool.description}
    is_forced = choice is not None and _MODES[choice.mode][0] == "ANY"
    schema = json_schema.for_gemini(tool.schema) if tool.schema else json_schema.NO_ARGUMENTS
    if is_forced or not json_schema.takes_nothing(schema):
        out["parametersJsonSchema"] = _raw(schema)
    return out


def _json_wish(output: OutputFormat) -> str:
    if not output.schema:
        return "When you answer, answer with one JSON object and nothing else, without code fences."
    return (
        "When you answer, answer with one JSON value and nothing else, without code fences. "
        f"It must match this JSON Schema:\n{json_schema.for_gemini_output(output.schema)}"
    )


def _generation_config(request: Request, losses: list[Loss]) -> _Node:
    sampling, limits = request.sampling, request.limits
    seed = sampling.seed
    if seed is not None and seed not in _INT32:
        losses.append(Loss("sampling.seed", "a seed has 32 bits"))
        seed = None
    if len(limits.stop) > _MAX_STOPS:
        losses.append(Loss("limits.stop", f"only the first {_MAX_STOPS} stop sequences are kept", "approximated"))
    wishes: _Node = {
        "temperature": sampling.temperature,
        "topP": sampling.top_p,
        "topK": sampling.top_k,
        "maxOutputTokens": limits.max_output_tokens,
        "stopSequences": limits.stop[:_MAX_STOPS] or None,
        "candidateCount": limits.n,
        "presencePenalty": sampling.presence_penalty,
        "frequencyPenalty": sampling.frequency_penalty,
        "seed": seed,
        "responseLogprobs": sampling.logprobs,
        "logprobs": sampling.top_logprobs,
        "thinkingConfig": _thinking_config(request.thinking, losses) or None,
    }
    return {key: value for key, value in wishes.items() if value is not None}


def _thinking_config(thinking: Thinking, losses: list[Loss]) -> _Node:
    """One of level and budget, never both: Google refuses the pair."""
    out: _Node = {}
    is_shown = thinking.is_shown if thinking.is_shown is not None else True if thinking.summary else None
    if is_shown is not None:
        out["includeThoughts"] = is_shown
    match thinking.mode:
        case "level" if thinking.level in _LEVELS:
            out["thinkingLevel"] = _LEVELS[thinking.level]
            if thinking.level in ("xhigh", "max"):
                losses.append(Loss("thinking", "asked for as the level high", "approximated"))
        case "off" | "level":
            out["thinkingBudget"] = 0
        case "auto":
            out["thinkingBudget"] = -1
        case "budget":
            out["thinkingBudget"] = thinking.budget
        case None:
            pass
    return out


def _contents(turns: tuple[Turn, ...], losses: list[Loss]) -> list[_Node]:
    """Results stand alone in their content; whatever the user said besides follows in one of its own."""
    contents: list[_Node] = []
    for turn in turns:
        role = "model" if turn.role == "assistant" else "user"
        results = [part for part in turn.parts if isinstance(part, ToolResult)]
        if results:
            contents.append({"role": "user", "parts": [_result_node(result) for result in results]})
        rest = [*_result_media(results, losses), *(part for part in turn.parts if not isinstance(part, ToolResult))]
        if parts := _part_nodes(rest, losses):
            contents.append({"role": role, "parts": parts})
    return contents


def _result_node(result: ToolResult) -> _Node:
    """A text stays a text, even one that looks like JSON: files must reach the model letter by letter."""
    key = "error" if result.is_error else "output"
    node: _Node = {"id": result.call_id} if result.call_id else {}
    node |= {"name": result.name, "response": {key: text_of(result.content, "\n")}}
    return {"functionResponse": node}


def _result_media(results: list[ToolResult], losses: list[Loss]) -> list[Part]:
    moved: list[Part] = []
    for result in results:
        if media := [part for part in result.content if not isinstance(part, Text)]:
            losses.append(Loss("turns.tool_result.media", "media of results follow as user parts", "approximated"))
            moved += [Text(f"Attached to the result of {result.name}:"), *media]
    return moved


def _part_nodes(parts: list[Part], losses: list[Loss]) -> list[object]:
    nodes: list[object] = []
    is_first_call = True
    for part in parts:
        match part:
            case Text(text, signature=signature):
                if text or _own(signature):
                    nodes.append(_signed({"text": text}, _own(signature)))
            case Reasoning(segments, signature=signature):
                if own := _own(signature):
                    nodes.append(_signed({"text": "\n\n".join(segments), "thought": True}, own))
                else:
                    losses.append(Loss("turns.reasoning", "only reasoning that Google signed can return to it"))
            case ToolCall():
                if not part.is_custom and not json.is_object(part.arguments or "{}"):
                    losses.append(Loss("turns.tool_call.arguments", "they were no JSON object", "emulated"))
                nodes.append(_signed(_call_node(part), _own(part.signature) or (_BYPASS if is_first_call else "")))
                is_first_call = False
            case Refusal(text):
                nodes.append({"text": text})
            case Image() | Audio() | Video() | Document():
                nodes.append(_media_node(part, losses))
            case Opaque(dialect, _, data) if dialect == NAME:
                nodes.append(_raw(data))
            case Opaque():
                losses.append(Loss(f"turns.{part.type}", "this part exists only in its dialect"))
            case ToolResult():
                pass  # stands in a content of its own
    return nodes


def _own(signature: Signature | None) -> str:
    return signature.value if signature and signature.family == "google" else ""


def _signed(node: _Node, signature: str) -> _Node:
    return {**node, "thoughtSignature": signature} if signature else node


def _call_node(call: ToolCall) -> _Node:
    """Arguments are spliced as they are: a number that passes through a float is another number."""
    arguments: object = _raw(call.arguments) if json.is_object(call.arguments) else {"_raw": call.arguments}
    if call.is_custom:
        arguments = {"input": call.arguments}
    elif not call.arguments.strip():
        arguments = {}
    node: _Node = {"id": call.id} if call.id else {}
    return {"functionCall": {**node, "name": call.name, "args": arguments}}


def _media_node(part: Image | Audio | Video | Document, losses: list[Loss]) -> _Node:
    kind, (_, guess) = next((name, row) for name, row in _MEDIA_KINDS.items() if isinstance(part, row[0]))
    media = part.media
    if isinstance(part, Document) and part.text:
        media = Media("text/plain", base64.b64encode(part.text.encode()).decode())
    if media.data:
        return {"inlineData": {"mimeType": media.mime or guess, "data": media.data}}
    uri = media.url or media.file_id
    if _FETCHED_BY_GOOGLE.match(uri):
        return {"fileData": {"mimeType": media.mime, "fileUri": uri} if media.mime else {"fileUri": uri}}
    losses.append(Loss(f"turns.{kind}.url", "Google does not fetch from there; the model sees the address only"))
    return {"text": f"[{kind}: {uri}]"}


def _parts_of(request: Request) -> Iterator[Part]:
    for turn in request.turns:
        for part in turn.parts:
            yield part
            if isinstance(part, ToolResult):
                yield from part.content


_PLAIN_TIERS = ("", "auto", "default", "standard")

_UNSAID: tuple[tuple[str, Action, Callable[[Request], object]], ...] = (
    ("parallel_calls", "dropped", lambda request: request.parallel_calls is False),
    ("sampling.logit_bias", "dropped", lambda request: request.sampling.logit_bias),
    ("meta.end_user", "dropped", lambda request: request.meta.end_user),
    ("meta.metadata", "dropped", lambda request: request.meta.metadata),
    ("meta.service_tier", "dropped", lambda request: request.meta.service_tier not in _PLAIN_TIERS),
    ("meta.cache_key", "dropped", lambda request: request.meta.cache_key),
    ("meta.verbosity", "dropped", lambda request: request.meta.verbosity),
    ("meta.store", "dropped", lambda request: request.meta.store),
    ("thinking.summary", "approximated", lambda request: request.thinking.summary in ("concise", "detailed")),
    ("tools.strict", "dropped", lambda request: any(tool.is_strict for tool in request.tools)),
    ("output.name", "dropped", lambda request: request.output.name),
    ("output.description", "dropped", lambda request: request.output.description),
    ("turns.name", "dropped", lambda request: any(turn.name for turn in request.turns)),
    ("turns.phase", "dropped", lambda request: any(turn.phase for turn in request.turns)),
    (
        "turns.image.detail",
        "dropped",
        lambda request: any(isinstance(p, Image) and p.detail for p in _parts_of(request)),
    ),
    (
        "turns.document.title",
        "dropped",
        lambda request: any(
            isinstance(p, Document) and (p.filename or p.title or p.context) for p in _parts_of(request)
        ),
    ),
    (
        "cache",
        "dropped",
        lambda request: any(
            getattr(marked, "cache", None) for marked in (*request.system, *request.tools, *_parts_of(request))
        ),
    ),
)


def _unsaid(request: Request) -> list[Loss]:
    reason = "Gemini has no field for it"
    losses = [Loss(path, reason, action) for path, action, is_asked in _UNSAID if is_asked(request)]
    return losses + [Loss(path, reason) for path in request.dropped]


# ---- answers ---------------------------------------------------------------------------------------------------------


class _Reading:
    """Chunks of one answer to events, whether they stream or come as one.

    Between chunks at most one text or reasoning part is open. It ends when another kind comes, or with its signature;
    a signature on an empty text signs the text before it. `Finish` waits for the end of the body, since the usage may
    come in a chunk of its own after the finish reason.
    """

    __slots__ = ("_finish", "_has_begun", "_has_calls", "_id", "_next", "_open", "_usage", "is_over")

    def __init__(self) -> None:
        self.is_over = False
        self._has_begun = False
        self._id = ""
        self._next = 0
        self._open: _Spoken | Literal[""] = ""
        self._has_calls = False
        self._usage: _UsageMetadata | None = None
        self._finish: tuple[str, str, FinishReason] | None = None

    def take(self, data: bytes) -> list[Event]:
        """The events of one chunk; nothing once the answer has failed."""
        if self.is_over:
            return []
        chunk = _decoded(data)
        if chunk is None:
            is_noise = self._finish is not None or data.strip() in (b"", b"[DONE]")
            return [] if is_noise else self._failed("The upstream sent a chunk that is not JSON.")
        if chunk.error and _is_said(chunk.error):
            return self._ended(google_errors.read_problem(0, data, NAME))
        if chunk.response and chunk.candidates is None and _is_said(chunk.response):
            return self.take(bytes(chunk.response))
        events: list[Event] = []
        if not self._has_begun:
            self._has_begun = True
            self._id = chunk.response_id or ""
            events.append(Start(self._id, chunk.model_version or "", _epoch(chunk.create_time)))
        if chunk.usage_metadata is not None:
            self._count(chunk.usage_metadata, events)
        if chunk.candidates:
            return self._candidate(chunk.candidates[0], data, events)
        if (feedback := chunk.prompt_feedback) is not None and feedback.block_reason:
            self._finish = (feedback.block_reason, feedback.block_reason_message or "", "content_filter")
        return events

    def close(self) -> list[Event]:
        if self.is_over:
            return []
        if self._finish is None:
            return self._failed("The upstream's answer ended before it was complete.")
        self.is_over = True
        events: list[Event] = []
        self._end_part(events)
        if self._usage is not None:
            events.append(UsageSeen(_read_usage(self._usage)))
        native, message, meaning = self._finish
        is_called = self._has_calls and meaning in ("stop", "length")
        events.append(Finish("tool_calls" if is_called else meaning, native, detail=message))
        return events

    def fail(self, problem: Problem) -> list[Event]:
        return [] if self.is_over else self._ended(problem)

    def _candidate(self, candidate: _Candidate, data: bytes, events: list[Event]) -> list[Event]:
        reason = candidate.finish_reason
        if reason in _BROKEN:
            words = candidate.finish_message or "The model's output was unusable."
            return events + self._failed(f"{words} ({reason})", reason)
        if candidate.content is not None and candidate.content.parts:
            for place, part in enumerate(candidate.content.parts):
                if (call := part.function_call) is not None and not call.name:
                    return events + self._failed("The upstream sent a function call in pieces or without a name.")
                self._part(part, place, data, events)
        if reason:
            self._finish = (reason, candidate.finish_message or "", _FINISH.get(reason, "stop"))
        return events

    def _part(self, part: _Part, place: int, data: bytes, events: list[Event]) -> None:
        if part.function_call is not None:
            self._call(part.function_call, part.thought_signature, events)
        elif part.text is not None:
            self._say("reasoning" if part.thought else "text", part.text, part.thought_signature, events)
        elif out := _whole_part(self._next + bool(self._open), part, data, place):
            self._end_part(events)
            events += [
                PartStart(self._next, "media" if isinstance(out, MediaOut) else "opaque"),
                out,
                PartEnd(self._next),
            ]
            self._next += 1
        else:
            self._say("reasoning" if part.thought else "text", None, part.thought_signature, events)

    def _say(self, kind: _Spoken, text: str | None, sealed: str | None, events: list[Event]) -> None:
        signature = _read_signature(sealed) if sealed else None
        if not text and signature is None:
            return
        if self._open != kind:
            self._end_part(events)
            events.append(PartStart(self._next, kind))
            self._open = kind
        if text:
            events.append(ReasoningDelta(self._next, text) if kind == "reasoning" else TextDelta(self._next, text))
        if signature is not None:
            events.append(Signed(self._next, signature))
            self._end_part(events)

    def _call(self, call: _Call, sealed: str | None, events: list[Event]) -> None:
        self._end_part(events)
        number, name, arguments = self._next, call.name or "", bytes(call.args)
        text = json.compact(arguments) if arguments.startswith(b"{") else "{}"
        call_id = (call.id or "").strip() or _minted(self._id, str(number), name, text)
        events += [PartStart(number, "call", call_id, name), ArgsDelta(number, text)]
        if (signature := _read_signature(sealed)) is not None:
            events.append(Signed(number, signature))
        events.append(PartEnd(number))
        self._next += 1
        self._has_calls = True

    def _end_part(self, events: list[Event], *, is_complete: bool = True) -> None:
        if self._open:
            events.append(PartEnd(self._next, is_complete))
            self._next += 1
            self._open = ""

    def _count(self, usage: _UsageMetadata, events: list[Event]) -> None:
        """The first report passes at once, for dialects that open with it; of the others only the last matters."""
        if usage == _NO_USAGE:  # Vertex sends reports of nothing but the traffic type
            return
        if self._usage is None:
            events.append(UsageSeen(_read_usage(usage)))
        self._usage = usage

    def _failed(self, message: str, code: str = "") -> list[Event]:
        return self._ended(Problem("bad_gateway", 502, message, code=code))

    def _ended(self, problem: Problem) -> list[Event]:
        events: list[Event] = [] if self._has_begun else [Start()]
        self.is_over = True
        self._end_part(events, is_complete=False)
        if self._usage is not None:
            events.append(UsageSeen(_read_usage(self._usage)))
        events.append(Failed(problem))
        return events


def _decoded(data: bytes) -> _Chunk | None:
    try:
        return _chunk.decode(_normal(data, _ANSWER))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, GatewayError):
        pass
    try:
        return _chunk.decode(_normal(json.mended(data.decode(errors="replace").encode()), _ANSWER))
    except (msgspec.MsgspecError, RecursionError, GatewayError):
        return None


def _whole_part(number: int, part: _Part, data: bytes, place: int) -> MediaOut | OpaqueOut | None:
    """A part that never comes in pieces: generated media, or one that only Google understands.

    Drafts of images among the thoughts are none: they are not the answer.
    """
    if part.thought:
        return None
    if part.inline_data is not None and (
        media := media_of(part.inline_data.data or "", part.inline_data.mime_type or "")
    ):
        return MediaOut(number, media)
    if part.file_data is not None and part.file_data.file_uri:
        return MediaOut(number, Media(mime_of(part.file_data.mime_type or ""), url=part.file_data.file_uri))
    opaque = _opaque(data, "candidates", 0, "content", "parts", place)
    return OpaqueOut(number, opaque.dialect, opaque.type, opaque.data) if opaque else None


def _epoch(text: str | None) -> int:
    try:
        return int(datetime.fromisoformat(text).timestamp()) if text else 0
    except ValueError:
        return 0


def _read_usage(usage: _UsageMetadata) -> Usage:
    """Google counts thoughts beside the candidates and tool prompts beside the prompt; canon's totals hold them."""
    return Usage(
        input_total=_sum(usage.prompt_token_count, usage.tool_use_prompt_token_count),
        cache_read=usage.cached_content_token_count,
        output_total=_sum(usage.candidates_token_count, usage.thoughts_token_count),
        reasoning=usage.thoughts_token_count,
    )


def _sum(first: int | None, second: int | None) -> int | None:
    return None if first is None and second is None else (first or 0) + (second or 0)


def _read_answer(body: bytes) -> list[Event]:
    """Also of a body in the form of a stream, which some servers send unasked."""
    if body.lstrip().startswith(b"data:"):
        reader = _Reader()
        return reader.feed(body) + reader.close()
    if not json.is_json(json.mended(body)):
        raise BrokenAnswer("The upstream's answer is not JSON.")
    reading = _Reading()
    chunks = [bytes(raw) for raw in _list.decode(json.mended(body))] if body.lstrip().startswith(b"[") else [body]
    events = [event for chunk in chunks for event in reading.take(chunk)]
    return events + reading.close()


def _write_answer(answer: Answer, echo: Echo) -> bytes:
    parts: list[bytes] = []
    for part in answer.parts:
        match part:
            case Text(text, signature=signature) if text or signature:
                parts.append(_said(text, signature))
            case Refusal(text) if text:
                parts.append(_said(text, None))
            case Reasoning(segments, signature=signature):
                text = "\n\n".join(segments) if _shows_thoughts(echo) else ""
                if text or signature:
                    parts.append(_said(text, signature, is_thought=True))
            case ToolCall():
                parts.append(json.encode(_signed(_call_node(part), _sealed(part.signature))))
            case Image(media):
                parts.append(_media_out(media))
            case Opaque(dialect, _, data) if dialect == NAME:
                parts.append(data.encode())
            case _:
                pass
    envelope = _Envelope(answer.id or echo.seed, echo.model)
    return envelope.around(parts, answer.finish, answer.usage)


def _shows_thoughts(echo: Echo) -> bool:
    return echo.request.thinking.is_shown is not False


def _sealed(signature: Signature | None) -> str:
    """Google's own signature as it is, any other in our envelope. The field must be base64, or Python's SDK raises."""
    if signature is None:
        return ""
    is_own = signature.family == "google" and signature.kind == "signature" and _BASE64.fullmatch(signature.value)
    return signature.value if is_own else seal(signature)


def _said(text: str, signature: Signature | None, *, is_thought: bool = False) -> bytes:
    """A text part. A bare signature has no text at all: older SDKs forget a turn that has an empty one."""
    node: _Node = {"text": text} if text else {}
    if is_thought:
        node["thought"] = True
    return json.encode(_signed(node, _sealed(signature)))


def _media_out(media: Media) -> bytes:
    if media.data:
        return json.encode({"inlineData": {"mimeType": media.mime or "image/png", "data": media.data}})
    return json.encode({"fileData": {"mimeType": media.mime or "image/png", "fileUri": media.url or media.file_id}})


class _Envelope:
    """What stands around the parts of every chunk of one answer, rendered once."""

    __slots__ = ("_tail",)

    def __init__(self, answer_id: str, model: str) -> None:
        self._tail = b"," + json.encode({"modelVersion": model, "responseId": answer_id})[1:]

    def around(self, parts: list[bytes], finish: Finish | None = None, usage: Usage | None = None) -> bytes:
        """A chunk. The last one must hold finish, usage and a part together, or SDK chats forget the whole turn."""
        ending = b""
        if finish is not None:
            parts = parts or [b'{"text":""}']
            words: _Node = {"finishReason": _finish_word(finish)}
            if finish.detail:
                words["finishMessage"] = finish.detail
            ending = b"," + json.encode(words)[1:-1]
        count = b',"usageMetadata":' + json.encode(_write_usage(usage)) if usage is not None else b""
        content = b'{"candidates":[{"content":{"parts":[' + b",".join(parts) + b'],"role":"model"}'
        return b"".join((content, ending, b',"index":0}]', count, self._tail))


def _finish_word(finish: Finish) -> str:
    """The vendor's own word where it was Google's and still fits."""
    fits = finish.reason == "tool_calls" or _FINISH.get(finish.native, "stop") == finish.reason
    return finish.native if finish.native in _FINISH and fits else _FINISH_WORDS[finish.reason]


def _write_usage(usage: Usage) -> dict[str, int]:
    candidates = None if usage.output_total is None else max(0, usage.output_total - (usage.reasoning or 0))
    counts = {
        "promptTokenCount": usage.input_total,
        "cachedContentTokenCount": usage.cache_read,
        "candidatesTokenCount": candidates,
        "thoughtsTokenCount": usage.reasoning,
        "totalTokenCount": usage.total,
    }
    return {name: count for name, count in counts.items() if count is not None}


# ---- stream reader ---------------------------------------------------------------------------------------------------


class _Reader:
    """An event stream, or the JSON array that Google streams to those who do not ask for events."""

    __slots__ = ("_frames", "_objects", "_reading")

    def __init__(self) -> None:
        self._reading = _Reading()
        self._frames: FrameReader | None = None
        self._objects: ObjectCutter | None = None

    def feed(self, data: bytes) -> list[Event]:
        if self._frames is None and self._objects is None:
            self._choose(data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1])
        try:
            chunks = self._cut(data)
        except BrokenAnswer as error:
            return self._reading.fail(error.problem)
        return self._reading.take(chunks[0]) if len(chunks) == 1 else [*chain(*map(self._reading.take, chunks))]

    def close(self) -> list[Event]:
        events: list[Event] = []
        if self._frames is not None:
            for frame in self._frames.close():
                events += self._reading.take(frame.data)
        if self._objects is not None and (rest := self._objects.pending):
            events += self._reading.take(rest)
        return events + self._reading.close()

    def _choose(self, first: bytes) -> None:
        if first in (b"[", b"{"):
            self._objects = ObjectCutter(is_array=first == b"[")
        elif first:
            self._frames = FrameReader()

    def _cut(self, data: bytes) -> list[bytes]:
        if self._objects is not None:
            return self._objects.feed(data)
        return [frame.data for frame in self._frames.feed(data)] if self._frames is not None else []


# ---- stream writer ---------------------------------------------------------------------------------------------------


class Framing(Struct, frozen=True):
    """What stands before the first chunk, before each later one, after each, and at the end. `opening` and `closing`
    stand around each chunk as well, but not around an error."""

    first: bytes
    later: bytes
    after: bytes
    end: bytes
    opening: bytes = b""
    closing: bytes = b""


EVENTS = Framing(b"data: ", b"data: ", b"\n\n", b"")
"""Nothing but `data:` lines with the space: names, comments and `[DONE]` make the SDKs raise or drop frames."""
ELEMENTS = Framing(b"[", b",\n", b"", b"]")


class _Writer:
    """Events to chunks.

    Calls leave whole, and the calls of one step together. The newest parts are held until more comes, since the last
    chunk must hold finish, usage and a real part: the finish is attached to what is held.
    """

    __slots__ = (
        "_arguments",
        "_before",
        "_echo",
        "_envelope",
        "_framing",
        "_held",
        "_is_over",
        "_linear",
        "_segment",
        "_signature",
        "_speech",
        "_start",
        "_usage",
    )

    def __init__(self, echo: Echo, framing: Framing) -> None:
        self._echo = echo
        self._framing = framing
        self._before = framing.first
        self._envelope = _Envelope(echo.seed, echo.model)
        self._linear = Linear()
        self._held: list[bytes] = []
        self._speech: _Speech | None = None
        self._start = PartStart(-1, "text")
        self._segment: int | None = None
        self._arguments: list[str] = []
        self._signature: Signature | None = None
        self._usage: Usage | None = None
        self._is_over = False

    def push(self, events: list[Event]) -> bytes:
        out: list[bytes] = []
        if self._speech is not None:
            self._speech.is_fresh = False
        for event in self._linear.push(events):
            if self._is_over:
                break
            match event:
                case TextDelta(part, text):
                    self._say(part, text, out)
                case _:
                    self._take(event, out)
        return b"".join(out)

    def keepalive(self) -> bytes:
        """A bare blank line: comments and events of other names make the SDKs raise."""
        return b"\n"

    def _take(self, event: Event, out: list[bytes]) -> None:
        match event:
            case ReasoningDelta(part, text, segment) if _shows_thoughts(self._echo):
                gap = "" if self._segment in (None, segment) else "\n\n"
                self._segment = segment
                self._say(part, gap + text, out)
            case ArgsDelta(_, text):
                self._arguments.append(text)
            case PartStart():
                self._start, self._segment, self._arguments, self._signature = event, None, [], None
            case Signed(part, signature):
                self._sign(part, signature, out)
            case PartEnd(_, is_complete):
                if self._start.kind == "call" and is_complete:
                    self._end_call(out)
            case MediaOut(_, media):
                self._hold(_media_out(media), out)
            case OpaqueOut(_, dialect, _, data) if dialect == NAME:
                self._hold(data.encode(), out)
            case Start(answer_id):
                self._envelope = _Envelope(answer_id or self._echo.seed, self._echo.model)
            case UsageSeen(usage):
                self._usage = usage if self._usage is None else self._usage.merged(usage)
            case Finish():
                body = self._envelope.around(self._let_go(), event, self._usage)
                self._send(body, out)
                self._end(out)
            case Failed(problem):
                self._release(out)
                out += (self._before, google_errors.write_body(problem, NAME), self._framing.after)
                self._end(out)
            case _:
                pass

    def _say(self, part: int, text: str, out: list[bytes]) -> None:
        if self._speech is not None and self._speech.is_fresh and self._speech.part == part:
            self._speech.texts.append(text)
            return
        self._release(out)
        self._speech = _Speech(part, text, is_thought=self._start.kind == "reasoning")

    def _sign(self, part: int, signature: Signature, out: list[bytes]) -> None:
        if self._start.kind == "call":
            self._signature = signature
            return
        if self._speech is None or self._speech.part != part:
            self._release(out)
            self._speech = _Speech(part, "", is_thought=self._start.kind == "reasoning")
        self._speech.signature = signature

    def _end_call(self, out: list[bytes]) -> None:
        start = self._start
        call = ToolCall(start.call_id, start.name, "".join(self._arguments), start.is_custom)
        self._hold(json.encode(_signed(_call_node(call), _sealed(self._signature))), out)

    def _hold(self, part: bytes, out: list[bytes]) -> None:
        if self._speech is not None:
            self._release(out)
        self._held.append(part)

    def _release(self, out: list[bytes]) -> None:
        if parts := self._let_go():
            self._send(self._envelope.around(parts), out)

    def _send(self, body: bytes, out: list[bytes]) -> None:
        framing = self._framing
        out += (self._before, framing.opening, body, framing.closing, framing.after)
        self._before = framing.later

    def _end(self, out: list[bytes]) -> None:
        out.append(self._framing.end)
        self._is_over = True

    def _let_go(self) -> list[bytes]:
        parts, self._held = self._held, []
        if (speech := self._speech) is not None:
            parts.append(_said("".join(speech.texts), speech.signature, is_thought=speech.is_thought))
            self._speech = None
        return parts


def writer_of(echo: Echo, framing: Framing) -> StreamWriter:
    """For dialects that frame the same chunks in a way of their own."""
    return _Writer(echo, framing)


class _Speech:
    """The text or thought that is held; texts of one push join it while it is fresh."""

    __slots__ = ("is_fresh", "is_thought", "part", "signature", "texts")

    def __init__(self, part: int, text: str, *, is_thought: bool) -> None:
        self.part = part
        self.texts = [text]
        self.is_thought = is_thought
        self.is_fresh = True
        self.signature: Signature | None = None


class _Tap:
    """Looks for landmarks, not for meaning: a few searches a chunk, and a short tail for those cut in two.

    In text and arguments that are text the quotes are escaped, so a landmark cannot stand there by chance.
    """

    __slots__ = ("_count", "_error", "_tail", "has_content", "is_over", "problem")

    def __init__(self) -> None:
        self.has_content = False
        self.is_over = False
        self.problem: Problem | None = None
        self._tail = b"\n"
        self._count = b""
        self._error = b""

    def look(self, data: bytes) -> None:
        window = self._tail + data
        self._tail = window[-_TAIL_BYTES:]
        if not self.has_content and b'"parts"' in window:
            self.has_content = True
        if b'eason"' in window and _OVER.search(window):
            self.is_over = True
        if (at := max(window.rfind(b'"usageMetadata"'), window.rfind(b'"usage_metadata"'))) >= 0:
            self._count = window[at : at + _COUNT_BYTES]
        elif self._count and len(self._count) < _COUNT_BYTES:
            self._count += data[: _COUNT_BYTES - len(self._count)]
        if self._error or b'"error"' in window:
            self._look_for_error(window, data)

    def usage(self) -> Usage | None:
        """Of the newest report; its counts are found by name, since the frame itself is not kept."""
        return _read_counts(self._count)

    def _look_for_error(self, window: bytes, data: bytes) -> None:
        if self._error:
            self._error = (self._error + data)[:_ERROR_BYTES]
        elif (match := _ERROR.search(window)) is not None:
            self._error = window[match.start(1) :][:_ERROR_BYTES]
        else:
            return
        whole = next(iter(ObjectCutter(is_array=False).feed(self._error)), self._error)
        self.problem = google_errors.read_problem(0, whole, NAME)


def _read_counts(report: bytes) -> Usage | None:
    """The counts that stand in the text of a usage report, in either spelling; None when it has none."""
    counts: dict[str, int] = {}
    for name, count in _COUNTS.findall(report):
        counts.setdefault(_UNDERSCORE.sub(lambda match: match[1].upper(), name.decode()), int(count))
    return _read_usage(msgspec.convert(counts, _UsageMetadata)) if counts else None


_TAIL_BYTES = 32
_COUNT_BYTES = 2048
_ERROR_BYTES = 64 * 1024
_OVER = re.compile(rb'"(?:finishReason|finish_reason|blockReason|block_reason)"\s*:\s*"')
_ERROR = re.compile(rb'(?:\n\[?|data: ?|,\r?\n)\s?(\{\s*"error"\s*:)')
_COUNTS = re.compile(rb'"([a-zA-Z_]+[tT]oken_?[cC]ount)"\s*:\s*(\d{1,15})')

# ---- the dialect -----------------------------------------------------------------------------------------------------


class Gemini:
    name = NAME
    fit = _FIT
    stream_type = b"text/event-stream; charset=utf-8"
    keepalive = b"\n"
    is_framed = True
    follow_signs: tuple[bytes, ...] = (b'"model"', b'"function"', b'"session_id"', b'"sessionId"')
    shows_reasoning = False
    model_paths = (("modelVersion",),)

    def read_request(self, body: bytes, *, model: str = "", is_stream: bool | None = None) -> Request:
        return _read_request(body, model, is_stream=bool(is_stream))

    def opening(self, body: bytes) -> Opening:
        return opening_of(json.decode_as(_begun, body))

    def write_request(self, request: Request) -> Written:
        return _write_request(request)

    def read_answer(self, body: bytes) -> list[Event]:
        return _read_answer(body)

    def read_usage(self, members: Mapping[str, Raw]) -> Usage | None:
        counts = members.get("usageMetadata") or members.get("usage_metadata")
        return _read_counts(bytes(counts)) if counts else None

    def write_answer(self, answer: Answer, echo: Echo) -> bytes:
        return _write_answer(answer, echo)

    def reader(self) -> StreamReader:
        return _Reader()

    def writer(self, echo: Echo) -> StreamWriter:
        return writer_of(echo, EVENTS)

    def tap(self) -> Tap:
        return _Tap()

    def read_error(self, status: int, body: bytes) -> Problem:
        return google_errors.read_problem(status, body, self.name)

    def write_error(self, problem: Problem, request_id: str) -> bytes:
        return google_errors.write_body(problem, self.name)

    def write_stream_error(self, problem: Problem) -> bytes:
        return data_frame(google_errors.write_body(problem, self.name))

    def status_of(self, problem: Problem) -> int:
        return google_errors.status_of(problem, self.name)

    def write_count(self, tokens: int) -> bytes:
        return b'{"totalTokens":%d}' % tokens

    def write_models(self, models: list[ModelEntry]) -> bytes:
        return json.encode({"models": [_write_model(model) for model in models]})

    def write_model(self, model: ModelEntry) -> bytes:
        return json.encode(_write_model(model))


class GeminiArray(Gemini):
    """For callers that stream without `alt=sse`: one JSON array, written piecemeal."""

    stream_type = b"application/json; charset=utf-8"
    is_framed = False

    def writer(self, echo: Echo) -> StreamWriter:
        return writer_of(echo, ELEMENTS)

    def write_stream_error(self, problem: Problem) -> bytes:
        return b"[" + google_errors.write_body(problem, self.name) + b"]"


def _write_model(model: ModelEntry) -> dict[str, object]:
    wire: dict[str, object] = {
        "name": f"models/{model.id}",
        "version": "001",
        "displayName": model.display_name,
        "supportedGenerationMethods": ["generateContent", "streamGenerateContent", "countTokens"],
    }
    if model.context:
        wire["inputTokenLimit"] = model.context
    if model.max_output:
        wire["outputTokenLimit"] = model.max_output
    return wire


DIALECT = Gemini()
ARRAY = GeminiArray()
