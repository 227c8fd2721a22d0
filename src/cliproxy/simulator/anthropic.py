"""The simulated Anthropic Messages API: create, count tokens, models.

Sources: https://docs.claude.com/en/api/messages, https://docs.claude.com/en/docs/build-with-claude/extended-thinking,
https://docs.claude.com/en/api/errors, https://docs.claude.com/en/api/rate-limits, checked 2026-10-20.
"""

import base64
import re
from collections.abc import Iterator
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct

from cliproxy.simulator.answer import Ask, Call, Offer, Plan, input_words, pieces, plan
from cliproxy.simulator.exchange import (
    EVENT_STREAM,
    Break,
    Json,
    Misfit,
    Received,
    Refused,
    Reply,
    Surface,
    decode_base64,
    is_sealed,
    read_misfit,
    seal,
    sse,
    write_json,
)
from cliproxy.simulator.schemas import anthropic_output_fault

Id = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]+$")]
Node = dict[str, Json]
Decoded = TypeVar("Decoded")

# status: error.type
ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_LIMIT_HEADERS = (
    ("anthropic-organization-id", "00000000-0000-4000-8000-000000000000"),
    ("anthropic-ratelimit-requests-limit", "4000"),
    ("anthropic-ratelimit-requests-remaining", "3999"),
    ("anthropic-ratelimit-requests-reset", "2026-01-01T00:00:00Z"),
    ("anthropic-ratelimit-tokens-limit", "480000"),
    ("anthropic-ratelimit-tokens-remaining", "480000"),
    ("anthropic-ratelimit-tokens-reset", "2026-01-01T00:00:00Z"),
)
_MODELS = (
    ("claude-opus-4-5-20251101", "Claude Opus 4.5"),
    ("claude-sonnet-4-5-20250929", "Claude Sonnet 4.5"),
    ("claude-haiku-4-5-20251001", "Claude Haiku 4.5"),
)
_SIGNATURE = ("anthropic-thinking", b"\x12\xa0\x01")
_REDACTED = ("anthropic-redacted", b"\x12\xa1\x01")
_MAX_MARKS = 4
_FINISH = {"stop": "end_turn", "stop_sequence": "stop_sequence", "length": "max_tokens", "calls": "tool_use"}
_SERVER_TOOL = re.compile(r"^[a-z_]+_\d{8}$")
_TOOL_NAME = re.compile(r"^[a-zA-Z0-9_-]{1,128}$")
# Rows of model behaviour: names up to 4.5 know neither adaptive thinking nor system turns; later ones may refuse budgets.
_OLD_MODEL = re.compile(r"^claude-(3|[a-z]+-4-(20|0|1|5))")
_ADAPTIVE_ONLY = re.compile(r"^claude-[a-z]+-(4-[78]|[5-9])")
_BETA_FIELDS = ("context_management", "mcp_servers", "output_format")


class _Wire(Struct, frozen=True, forbid_unknown_fields=True):
    pass


class _Block(_Wire, frozen=True, tag_field="type"):
    pass


class CacheControl(_Wire, frozen=True):
    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class TextBlock(_Block, frozen=True, tag="text"):
    text: str
    cache_control: CacheControl | None = None
    citations: Json = None


class Base64Image(_Block, frozen=True, tag="base64"):
    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"]
    data: str


class UrlSource(_Block, frozen=True, tag="url"):
    url: Annotated[str, Meta(pattern="^https?://")]


class FileSource(_Block, frozen=True, tag="file"):
    file_id: str


class ImageBlock(_Block, frozen=True, tag="image"):
    source: Base64Image | UrlSource | FileSource
    cache_control: CacheControl | None = None
    transformations: Json = None


class Base64Pdf(_Block, frozen=True, tag="base64"):
    media_type: Literal["application/pdf"]
    data: str


class PlainSource(_Block, frozen=True, tag="text"):
    media_type: Literal["text/plain"]
    data: str


class ContentSource(_Block, frozen=True, tag="content"):
    content: str | list[TextBlock | ImageBlock]


class DocumentBlock(_Block, frozen=True, tag="document"):
    source: Base64Pdf | UrlSource | FileSource | PlainSource | ContentSource
    title: str | None = None
    context: str | None = None
    citations: Json = None
    cache_control: CacheControl | None = None


class SearchResultBlock(_Block, frozen=True, tag="search_result"):
    source: str
    title: str
    content: list[TextBlock]
    citations: Json = None
    cache_control: CacheControl | None = None


class ThinkingBlock(_Block, frozen=True, tag="thinking"):
    thinking: str
    signature: str


class RedactedThinkingBlock(_Block, frozen=True, tag="redacted_thinking"):
    data: str


class ToolUseBlock(_Block, frozen=True, tag="tool_use"):
    id: Id
    name: Annotated[str, Meta(min_length=1, max_length=200)]
    input: dict[str, Json]
    cache_control: CacheControl | None = None
    caller: Json = None
    toolset_name: str | None = None


class ToolResultBlock(_Block, frozen=True, tag="tool_result"):
    tool_use_id: Id
    content: str | list[TextBlock | ImageBlock | DocumentBlock | SearchResultBlock] | None = None
    is_error: bool | None = None
    toolset_name: str | None = None
    cache_control: CacheControl | None = None


class ServerToolUseBlock(_Block, frozen=True, tag="server_tool_use"):
    id: Annotated[str, Meta(pattern=r"^srvtoolu_[a-zA-Z0-9_]+$")]
    name: str
    input: dict[str, Json]
    cache_control: CacheControl | None = None
    caller: Json = None


class WebSearchResultBlock(_Block, frozen=True, tag="web_search_tool_result"):
    tool_use_id: Annotated[str, Meta(pattern=r"^srvtoolu_[a-zA-Z0-9_]+$")]
    content: Json
    cache_control: CacheControl | None = None
    caller: Json = None


Block = (
    TextBlock
    | ImageBlock
    | DocumentBlock
    | SearchResultBlock
    | ThinkingBlock
    | RedactedThinkingBlock
    | ToolUseBlock
    | ToolResultBlock
    | ServerToolUseBlock
    | WebSearchResultBlock
)


class Message(_Wire, frozen=True):
    role: Literal["user", "assistant", "system"]
    content: str | list[Block]

    @property
    def blocks(self) -> list[Block]:
        return [TextBlock(self.content)] if isinstance(self.content, str) else self.content


class Tool(_Wire, frozen=True, kw_only=True):
    """A tool the caller runs itself; the vendor's own tools are rows of another kind and are only carried."""

    name: str
    input_schema: Node
    description: str | None = None
    type: Literal["custom"] | None = None
    strict: bool | None = None
    cache_control: CacheControl | None = None
    defer_loading: bool | None = None
    eager_input_streaming: bool | None = None
    input_examples: Json = None
    allowed_callers: Json = None


class _Choice(_Block, frozen=True):
    disable_parallel_tool_use: bool | None = None


class ChoiceAuto(_Choice, frozen=True, tag="auto"):
    pass


class ChoiceAny(_Choice, frozen=True, tag="any"):
    pass


class ChoiceTool(_Choice, frozen=True, kw_only=True, tag="tool"):
    name: str


class ChoiceNone(_Block, frozen=True, tag="none"):
    pass


class ThinkingEnabled(_Block, frozen=True, tag="enabled"):
    budget_tokens: Annotated[int, Meta(ge=1024)]
    display: Literal["summarized", "omitted"] | None = None


class ThinkingAdaptive(_Block, frozen=True, tag="adaptive"):
    display: Literal["summarized", "omitted"] | None = None


class ThinkingDisabled(_Block, frozen=True, tag="disabled"):
    pass


class OutputFormat(_Block, frozen=True, tag="json_schema"):
    schema: Node


class OutputConfig(_Wire, frozen=True):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: OutputFormat | None = None


class Metadata(_Wire, frozen=True):
    user_id: Annotated[str, Meta(max_length=256)] | None = None


class Counted(_Wire, frozen=True, kw_only=True):
    """The body of `count_tokens`, and the part of a create request that counts as input."""

    model: Annotated[str, Meta(min_length=1)]
    messages: Annotated[list[Message], Meta(min_length=1)]
    system: str | list[TextBlock] | None = None
    tools: list[Node] | None = None
    tool_choice: ChoiceAuto | ChoiceAny | ChoiceTool | ChoiceNone | None = None
    thinking: ThinkingEnabled | ThinkingAdaptive | ThinkingDisabled | None = None
    output_config: OutputConfig | None = None
    cache_control: CacheControl | None = None
    speed: Literal["standard", "fast"] | None = None
    context_management: Json = None
    mcp_servers: Json = None
    output_format: OutputFormat | None = None
    user_profile_id: str | None = None
    workspace_id: str | None = None


class Request(Counted, frozen=True, kw_only=True):
    max_tokens: Annotated[int, Meta(ge=1)]
    stream: bool | None = None
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
    stop_sequences: list[str] | None = None
    metadata: Metadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    container: Json = None
    diagnostics: Json = None
    inference_geo: str | None = None


_REQUEST = msgspec.json.Decoder(Request)
_COUNTED = msgspec.json.Decoder(Counted)


def create(received: Received) -> Reply:
    """POST /v1/messages."""
    request = _decode(received, _REQUEST)
    _check_fields(received, request)
    _check_sampling(request)
    tools = _check_input(request)
    answer = plan(_ask(request, tools, request.max_tokens, tuple(request.stop_sequences or ())))
    if request.stream:
        return Reply(
            content_type=EVENT_STREAM, headers=_headers(received), frames=tuple(_stream(request, answer, received))
        )
    message = _message(request, received) | {
        "content": _content(request, answer, received),
        "stop_reason": _FINISH[answer.finish],
        "stop_sequence": answer.stop,
        "usage": _usage(answer),
    }
    return Reply(headers=_headers(received), frames=(write_json(message),))


def count(received: Received) -> Reply:
    """POST /v1/messages/count_tokens."""
    request = _decode(received, _COUNTED)
    _check_fields(received, request)
    tools = _check_input(request)
    body = {"input_tokens": input_words(_ask(request, tools, None, ()))}
    return Reply(headers=_headers(received), frames=(write_json(body),))


def models(received: Received) -> Reply:
    """GET /v1/models, asked with an `anthropic-version` header."""
    rows: list[Json] = [
        {"type": "model", "id": name, "display_name": title, "created_at": "2026-01-01T00:00:00Z"}
        for name, title in _MODELS
    ]
    body = {"data": rows, "has_more": False, "first_id": _MODELS[0][0], "last_id": _MODELS[-1][0]}
    return Reply(headers=_headers(received), frames=(write_json(body),))


def error_body(status: int, message: str, request_id: str) -> Node:
    error: Node = {"type": ERRORS.get(status, "api_error"), "message": message}
    return {"type": "error", "error": error, "request_id": request_id}


def _admit(received: Received) -> None:
    key = received.headers.get("x-api-key") or received.bearer
    if not key:
        raise Refused("x-api-key header is required", status=401)
    if not key.startswith("sk-sim"):
        raise Refused("invalid x-api-key" if "x-api-key" in received.headers else "Invalid bearer token", status=401)
    if "anthropic-version" not in received.headers:
        raise Refused("anthropic-version: header is required")


def _refuse(refused: Refused, request_id: str) -> Reply:
    body = error_body(refused.status, refused.message, request_id)
    return Reply(status=refused.status, headers=(("request-id", request_id),), frames=(write_json(body),))


def _broken(before: tuple[bytes, ...], fault: Break) -> bytes:
    error: Node = {"type": fault.code or ERRORS.get(fault.status, "api_error"), "message": fault.message}
    return sse({"type": "error", "error": error}, "error")


def _unfinished(frames: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return tuple(frame for frame in frames if not frame.startswith((b"event: message_delta", b"event: message_stop")))


SURFACE = Surface(vendor="anthropic", admit=_admit, refuse=_refuse, broken=_broken, unfinished=_unfinished)


# --- what the vendor refuses ---


def _decode(received: Received, decoder: msgspec.json.Decoder[Decoded]) -> Decoded:
    try:
        return decoder.decode(received.body)
    except msgspec.ValidationError as error:
        raise _misfit(read_misfit(error)) from error
    except msgspec.DecodeError as error:
        raise Refused("The request body is not valid JSON: " + str(error)) from error


def _misfit(fault: Misfit) -> Refused:
    says = {"unknown": "Extra inputs are not permitted", "missing": "Field required", "wrong": fault.says}[fault.kind]
    place = ".".join(str(step) for step in fault.path)
    return Refused(f"{place}: {says}" if place else says)


def _check_fields(received: Received, request: Counted) -> None:
    for field in _BETA_FIELDS:
        if getattr(request, field) is not None and "anthropic-beta" not in received.headers:
            raise Refused(f"{field}: Extra inputs are not permitted")
    if _count_marks(received) > _MAX_MARKS:
        raise Refused(
            f"A maximum of {_MAX_MARKS} blocks with cache_control may be provided. Found {_count_marks(received)}."
        )


def _check_sampling(request: Request) -> None:
    """How thinking binds the sampling parameters, the budget and the tool choice."""
    for index, stop in enumerate(request.stop_sequences or ()):
        if not stop.strip():
            raise Refused(f"stop_sequences.{index}: each stop sequence must contain non-whitespace")
    if isinstance(request.thinking, ThinkingEnabled) and request.thinking.budget_tokens >= request.max_tokens:
        raise Refused(
            "`max_tokens` must be greater than `thinking.budget_tokens`. Please consult our documentation at "
            "https://docs.claude.com/en/docs/build-with-claude/extended-thinking#max-tokens-and-context-window-size"
        )
    if not _thinks(request):
        return
    if request.temperature not in (None, 1):
        raise Refused("`temperature` may only be set to 1 when thinking is enabled or in adaptive mode.")
    if request.top_k is not None:
        raise Refused("`top_k` must be unset when thinking is enabled or in adaptive mode.")
    if request.top_p is not None and request.top_p < 0.95:
        raise Refused(
            "`top_p` must be greater than or equal to 0.95 or unset when thinking is enabled or in adaptive mode."
        )


def _check_input(request: Counted) -> tuple[Tool, ...]:
    """Everything that create and count refuse alike; the caller's own tools, decoded."""
    tools = _check_tools(request)
    _check_thinking_mode(request)
    _check_texts(request)
    _check_roles(request)
    _check_pairing(_merged(request.messages))
    _check_thinking_blocks(request)
    output = request.output_config.format if request.output_config else None
    fault = anthropic_output_fault(output.schema) if output else None
    if fault:
        raise Refused(f"output_config.format.schema: {fault.message}")
    return tools


def _check_tools(request: Counted) -> tuple[Tool, ...]:
    tools: list[Tool] = []
    names: list[str] = []
    for index, row in enumerate(request.tools or ()):
        kind = row.get("type")
        if isinstance(kind, str) and _SERVER_TOOL.match(kind):
            names.append(str(row.get("name")))
            continue
        place = ("tools", index, "custom")
        try:
            tool = msgspec.convert(row, Tool)
        except msgspec.ValidationError as error:
            raise _misfit(read_misfit(error, place)) from error
        _check_tool(tool, f"tools.{index}.custom")
        tools.append(tool)
        names.append(tool.name)
    if len(set(names)) < len(names):
        raise Refused("tools: Tool names must be unique.")
    if request.tool_choice is not None and not request.tools:
        raise Refused("tool_choice: tool_choice may only be specified while providing tools")
    if isinstance(request.tool_choice, ChoiceTool) and request.tool_choice.name not in names:
        raise Refused(f"tool_choice.name: Tool '{request.tool_choice.name}' not found in provided tools")
    return tuple(tools)


def _check_tool(tool: Tool, place: str) -> None:
    if not _TOOL_NAME.match(tool.name):
        raise Refused(f"{place}.name: String should match pattern '{_TOOL_NAME.pattern}'")
    schema = tool.input_schema
    if "type" not in schema:
        raise Refused(f"{place}.input_schema.type: Field required")
    if schema["type"] != "object":
        raise Refused(f"{place}.input_schema.type: Input should be 'object'")
    if schema.keys() & {"oneOf", "anyOf", "allOf"}:
        raise Refused(f"{place}.input_schema: input_schema does not support oneOf, allOf, or anyOf at the top level")
    fault = anthropic_output_fault(schema) if tool.strict else None
    if fault:
        raise Refused(f"{place}: {fault.message}")


def _check_thinking_mode(request: Counted) -> None:
    thinking = request.thinking
    if isinstance(thinking, ThinkingEnabled) and _ADAPTIVE_ONLY.match(request.model):
        raise Refused(
            '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive" and '
            '"output_config.effort" to control thinking behavior.'
        )
    if isinstance(thinking, ThinkingAdaptive) and _OLD_MODEL.match(request.model):
        raise Refused("adaptive thinking is not supported on this model")
    if _thinks(request) and isinstance(request.tool_choice, ChoiceAny | ChoiceTool):
        raise Refused("Thinking may not be enabled when tool_choice forces tool use.")


def _check_texts(request: Counted) -> None:
    system = request.system if isinstance(request.system, list) else []
    for index, block in enumerate(system):
        _check_text(block.text, f"system.{index}")
    last = len(request.messages) - 1
    for index, message in enumerate(request.messages):
        if not message.content and not (index == last and message.role == "assistant"):
            raise Refused(
                f"messages.{index}: all messages must have non-empty content except for the optional final assistant message"
            )
        for at, block in enumerate(message.blocks if message.content else ()):
            _check_block(block, f"messages.{index}.content.{at}")
    final = request.messages[last].blocks[-1:]
    for block in final if request.messages[last].role == "assistant" else ():
        if isinstance(block, TextBlock) and block.text != block.text.rstrip():
            raise Refused("messages: final assistant content cannot end with trailing whitespace")


def _check_block(block: Block | TextBlock, place: str) -> None:
    match block:
        case TextBlock():
            _check_text(block.text, place)
        case ImageBlock(source=Base64Image(data=data)) | DocumentBlock(source=Base64Pdf(data=data)):
            if not decode_base64(data):
                raise Refused(f"{place}.source.base64: The data provided is not valid base64")
        case ToolResultBlock(content=list(inner)):
            for at, part in enumerate(inner):
                _check_block(part, f"{place}.content.{at}")
        case _:
            pass


def _check_text(text: str, place: str) -> None:
    if not text:
        raise Refused(f"{place.split('.')[0]}: text content blocks must be non-empty")
    if not text.strip():
        raise Refused(f"{place.split('.')[0]}: text content blocks must contain non-whitespace text")


def _check_roles(request: Counted) -> None:
    allowed = {
        "user": ("text", "image", "document", "search_result", "tool_result"),
        "assistant": ("text", "thinking", "redacted_thinking", "tool_use", "server_tool_use", "web_search_tool_result"),
        "system": ("text",),
    }
    for index, message in enumerate(request.messages):
        if message.role == "system" and _OLD_MODEL.match(request.model):
            raise Refused(
                f'messages.{index}.role: Input should be "user" or "assistant". The Messages API accepts a top-level '
                '`system` parameter, not "system" as an input message role.'
            )
        for at, block in enumerate(message.blocks):
            kind = _tag(block)
            if kind not in allowed[message.role]:
                raise Refused(
                    f"messages.{index}.content.{at}: `{kind}` blocks are not permitted in `{message.role}` messages"
                )
    if next((message.role for message in request.messages if message.role != "system"), "user") != "user":
        raise Refused('messages: first message must use the "user" role')


def _merged(messages: list[Message]) -> list[tuple[str, list[Block]]]:
    """Turns as the vendor sees them: neighbours of one role are one turn, system messages are transparent."""
    turns: list[tuple[str, list[Block]]] = []
    for message in messages:
        if message.role == "system":
            continue
        if turns and turns[-1][0] == message.role:
            turns[-1][1].extend(message.blocks)
        else:
            turns.append((message.role, list(message.blocks)))
    return turns


def _check_pairing(turns: list[tuple[str, list[Block]]]) -> None:
    """Every call is answered in the next user turn, results first, each once; no result without its call."""
    seen: set[str] = set()
    open_ids: list[str] = []
    for index, (role, blocks) in enumerate(turns):
        if role == "user":
            _check_results(index, blocks, open_ids)
            open_ids = []
            continue
        open_ids = [block.id for block in blocks if isinstance(block, ToolUseBlock)]
        if len(set(open_ids)) < len(open_ids) or seen & set(open_ids):
            raise Refused(f"messages.{index}.content: `tool_use` ids must be unique")
        seen |= set(open_ids)
    if open_ids:
        raise _unanswered(len(turns) - 1, open_ids)


def _check_results(index: int, blocks: list[Block], open_ids: list[str]) -> None:
    leading: list[str] = []
    for block in blocks:
        if not isinstance(block, ToolResultBlock):
            break
        leading.append(block.tool_use_id)
    missing = [call_id for call_id in open_ids if call_id not in leading]
    if missing:
        raise _unanswered(index - 1, missing)
    for at, block in enumerate(blocks):
        if isinstance(block, ToolResultBlock) and block.tool_use_id not in open_ids:
            raise Refused(
                f"messages.{index}.content.{at}: unexpected `tool_use_id` found in `tool_result` blocks: {block.tool_use_id}. "
                "Each `tool_result` block must have a corresponding `tool_use` block in the previous message."
            )
    results = [block.tool_use_id for block in blocks if isinstance(block, ToolResultBlock)]
    repeated = next((call_id for call_id in results if results.count(call_id) > 1), None)
    if repeated:
        raise Refused(
            f"messages.{index}.content: each tool_use must have a single result. "
            f"Found multiple `tool_result` blocks with id: {repeated}"
        )


def _unanswered(index: int, ids: list[str]) -> Refused:
    return Refused(
        f"messages.{index}: `tool_use` ids were found without `tool_result` blocks immediately after: {', '.join(ids)}. "
        "Each `tool_use` block must have a corresponding `tool_result` block in the next message."
    )


def _check_thinking_blocks(request: Counted) -> None:
    for index, message in enumerate(request.messages):
        for at, block in enumerate(message.blocks):
            match block:
                case ThinkingBlock(thinking=text, signature=signature):
                    is_ours = is_sealed(_SIGNATURE[0], decode_base64(signature) or b"", _SIGNATURE[1], text or None)
                    fault = "Invalid `signature` in `thinking` block"
                case RedactedThinkingBlock(data=data):
                    is_ours = is_sealed(_REDACTED[0], decode_base64(data) or b"", _REDACTED[1])
                    fault = "Invalid `data` in `redacted_thinking` block"
                case _:
                    continue
            if not is_ours:
                raise Refused(f"messages.{index}.content.{at}: {fault}")
    if isinstance(request.thinking, ThinkingEnabled):
        _check_tool_loop(_merged(request.messages))


def _check_tool_loop(turns: list[tuple[str, list[Block]]]) -> None:
    """With thinking on, the last assistant turn of an open tool loop starts with its thinking."""
    index = max((at for at, (role, _) in enumerate(turns) if role == "assistant"), default=None)
    if index is None:
        return
    is_loop = index + 1 < len(turns) and any(isinstance(block, ToolResultBlock) for block in turns[index + 1][1])
    first = turns[index][1][0] if turns[index][1] else None
    if (is_loop or index == len(turns) - 1) and first and not isinstance(first, ThinkingBlock | RedactedThinkingBlock):
        raise Refused(
            f"messages.{index}.content.0.type: Expected `thinking` or `redacted_thinking`, but found `{_tag(first)}`. "
            "When `thinking` is enabled, a final `assistant` message must start with a thinking block (preceeding the "
            "lastmost set of `tool_use` and `tool_result` blocks). We recommend you include thinking blocks from previous "
            "turns. To avoid this requirement, disable `thinking`. Please consult our documentation at "
            "https://docs.claude.com/en/docs/build-with-claude/extended-thinking"
        )


def _count_marks(received: Received) -> int:
    """`cache_control` marks anywhere but inside tool inputs and schemas, where the word is only a key."""
    body: Json = msgspec.json.decode(received.body)
    return _marks_in(body)


def _marks_in(value: Json) -> int:
    if isinstance(value, list):
        return sum(_marks_in(item) for item in value)
    if not isinstance(value, dict):
        return 0
    inner = (item for key, item in value.items() if key not in ("input", "input_schema", "schema", "cache_control"))
    return (value.get("cache_control") is not None) + sum(_marks_in(item) for item in inner)


def _tag(block: Block) -> str:
    return str(block.__struct_config__.tag)


def _thinks(request: Counted) -> bool:
    return isinstance(request.thinking, ThinkingEnabled | ThinkingAdaptive)


# --- what the request asks ---


def _ask(request: Counted, tools: tuple[Tool, ...], limit: int | None, stops: tuple[str, ...]) -> Ask:
    text: str | None = None
    topic = ""
    said: list[tuple[str, str]] = []
    media: tuple[str, ...] = ()
    names: dict[str, str] = {}
    for role, blocks in _merged(request.messages):
        if role == "assistant":
            names |= {block.id: block.name for block in blocks if isinstance(block, ToolUseBlock)}
            text, said, media = None, [], ()
            continue
        for block in blocks:
            match block:
                case TextBlock():
                    text = topic = block.text
                case ToolResultBlock():
                    said.append((names[block.tool_use_id], _result_text(block)))
                    media += tuple(
                        _medium(part)
                        for part in block.content or ()
                        if not isinstance(part, str | TextBlock | SearchResultBlock)
                    )
                case ImageBlock() | DocumentBlock():
                    media += (_medium(block),)
                case _:
                    pass
    choice = request.tool_choice
    output = request.output_format or (request.output_config.format if request.output_config else None)
    return Ask(
        text=text,
        topic=topic,
        said=tuple(said),
        media=media,
        system=tuple(_system(request)),
        offers=() if isinstance(choice, ChoiceNone) else tuple(Offer(tool.name, tool.input_schema) for tool in tools),
        forced=choice.name if isinstance(choice, ChoiceTool) else "*" if isinstance(choice, ChoiceAny) else None,
        is_parallel=not (isinstance(choice, _Choice) and choice.disable_parallel_tool_use),
        thinks=_thinks(request),
        schema=output.schema if output else None,
        limit=limit,
        stops=stops,
        prompt=tuple(_prompt(request, tools)),
    )


def _system(request: Counted) -> Iterator[str]:
    if isinstance(request.system, str) and request.system:
        yield request.system
    for block in request.system if isinstance(request.system, list) else ():
        yield block.text
    for message in request.messages:
        if message.role == "system":
            yield "".join(block.text for block in message.blocks if isinstance(block, TextBlock))


def _prompt(request: Counted, tools: tuple[Tool, ...]) -> Iterator[str]:
    yield from _system(request)
    for _, blocks in _merged(request.messages):
        for block in blocks:
            match block:
                case TextBlock():
                    yield block.text
                case ToolResultBlock():
                    yield _result_text(block)
                case ToolUseBlock():
                    yield block.name + " " + write_json(block.input).decode()
                case _:
                    pass
    for tool in tools:
        yield f"{tool.name} {tool.description or ''}"


def _result_text(block: ToolResultBlock) -> str:
    if not isinstance(block.content, list):
        return block.content or ""
    return "".join(part.text for part in block.content if isinstance(part, TextBlock))


def _medium(block: ImageBlock | DocumentBlock) -> str:
    noun = _tag(block)
    match block.source:
        case Base64Image(media_type=media_type, data=data) | Base64Pdf(media_type=media_type, data=data):
            return f"{media_type} {len(decode_base64(data) or b'')} bytes"
        case PlainSource(data=data):
            return f"text/plain {len(data.encode())} bytes"
        case UrlSource():
            return f"{noun} URL"
        case FileSource():
            return f"{noun} file"
        case ContentSource():
            return f"{noun} content"


# --- how the answer is written ---


def _headers(received: Received) -> tuple[tuple[str, str], ...]:
    return (("request-id", received.request_id), *_LIMIT_HEADERS)


def _message(request: Request, received: Received) -> dict[str, object]:
    return {
        "id": f"msg_01{received.seed[:22]}",
        "type": "message",
        "role": "assistant",
        "model": request.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def _content(request: Request, answer: Plan, received: Received) -> list[dict[str, object]]:
    content: list[dict[str, object]] = []
    if answer.thought:
        shown = "" if _is_omitted(request) else answer.thought
        content.append({"type": "thinking", "thinking": shown, "signature": _signature(answer)})
    if answer.text:
        content.append({"type": "text", "text": answer.text})
    for index, call in enumerate(answer.calls):
        content.append(_tool_use(call, index, received) | {"input": Raw(call.arguments.encode())})
    return content


def _stream(request: Request, answer: Plan, received: Received) -> Iterator[bytes]:
    started = _usage(answer) | {"output_tokens": 1}
    yield _event({"type": "message_start", "message": _message(request, received) | {"usage": started}})
    for index, (block, deltas) in enumerate(_blocks(request, answer, received)):
        yield _event({"type": "content_block_start", "index": index, "content_block": block})
        if index == 0:
            yield _event({"type": "ping"})
        for delta in deltas:
            yield _event({"type": "content_block_delta", "index": index, "delta": delta})
        yield _event({"type": "content_block_stop", "index": index})
    delta = {"stop_reason": _FINISH[answer.finish], "stop_sequence": answer.stop}
    yield _event({"type": "message_delta", "delta": delta, "usage": _usage(answer)})
    yield _event({"type": "message_stop"})


def _blocks(
    request: Request, answer: Plan, received: Received
) -> Iterator[tuple[dict[str, object], list[dict[str, str]]]]:
    """Each block as it starts, and the deltas that fill it."""
    if answer.thought:
        words = [] if _is_omitted(request) else pieces(answer.thought)
        deltas = [{"type": "thinking_delta", "thinking": word} for word in words]
        deltas.append({"type": "signature_delta", "signature": _signature(answer)})
        yield {"type": "thinking", "thinking": "", "signature": ""}, deltas
    if answer.text:
        yield {"type": "text", "text": ""}, [{"type": "text_delta", "text": word} for word in pieces(answer.text)]
    for index, call in enumerate(answer.calls):
        parts = ["", *call.fragments()]
        yield _tool_use(call, index, received), [{"type": "input_json_delta", "partial_json": part} for part in parts]


def _tool_use(call: Call, index: int, received: Received) -> dict[str, object]:
    return {"type": "tool_use", "id": f"toolu_01{received.seed[:18]}{index:04d}", "name": call.name, "input": {}}


def _event(event: dict[str, object]) -> bytes:
    return sse(event, str(event["type"]))


def _is_omitted(request: Request) -> bool:
    thinking = request.thinking
    return isinstance(thinking, ThinkingEnabled | ThinkingAdaptive) and thinking.display == "omitted"


def _signature(answer: Plan) -> str:
    return base64.b64encode(seal(_SIGNATURE[0], answer.thought, _SIGNATURE[1])).decode()


def _usage(answer: Plan) -> dict[str, object]:
    return {
        "input_tokens": answer.input_words,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": answer.output_words,
        "output_tokens_details": {"thinking_tokens": answer.thought_words},
        "service_tier": "standard",
    }
