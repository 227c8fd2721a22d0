"""The simulated Responses endpoint of OpenAI: stateless, so nothing can be continued by id.

Sources: https://platform.openai.com/docs/api-reference/responses, .../responses-streaming,
https://platform.openai.com/docs/guides/reasoning, checked 2026-10-20.
"""

import base64
import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from cliproxy.simulator import openai_edge as edge
from cliproxy.simulator.answer import Ask, Call, Offer, Plan, fragments, pieces, plan
from cliproxy.simulator.exchange import (
    EVENT_STREAM,
    Break,
    Json,
    Received,
    Refused,
    Reply,
    Surface,
    bracketed,
    decode_base64,
    is_sealed,
    read_json,
    read_misfit,
    seal,
    sse,
    write_json,
)
from cliproxy.simulator.schemas import openai_strict_fault

CallId = Annotated[str, Meta(min_length=1, max_length=64)]
Name = Annotated[str, Meta(pattern=edge.NAME)]
Node = dict[str, Json]
Written = dict[str, object]

_ITEM_ID = re.compile(r"^[a-zA-Z0-9_-]{1,64}$")
_SEAL = ("openai-reasoning", b"\x80" + bytes(8) + b"simulated reasoning, not secret.")
_HOSTED = frozenset(
    {"web_search", "web_search_preview", "web_search_preview_2025_03_11", "web_search_2025_08_26", "file_search"}
    | {"code_interpreter", "image_generation", "mcp", "local_shell", "shell", "apply_patch", "computer", "tool_search"}
)
_INCLUDES = frozenset(
    {"reasoning.encrypted_content", "message.output_text.logprobs", "message.input_image.image_url"}
    | {"web_search_call.action.sources", "web_search_call.results", "file_search_call.results"}
    | {"code_interpreter_call.outputs", "computer_call_output.output.image_url"}
)
# Which parts a role may hold, and how the vendor lists them.
_PARTS_OF_ROLE = {
    "assistant": (("output_text", "refusal"), "'output_text' and 'refusal'"),
    "user": (
        ("input_text", "input_image", "input_file", "input_audio"),
        "'input_text', 'input_image', and 'input_file'",
    ),
}


class _Wire(Struct, frozen=True, forbid_unknown_fields=True):
    pass


class _Part(_Wire, frozen=True, tag_field="type"):
    pass


class InputText(_Part, frozen=True, tag="input_text"):
    text: str
    prompt_cache_breakpoint: Json = None


class OutputText(_Part, frozen=True, tag="output_text"):
    text: str
    annotations: list[Json] | None = None
    logprobs: list[Json] | None = None


class RefusalPart(_Part, frozen=True, tag="refusal"):
    refusal: str


class InputImage(_Part, frozen=True, tag="input_image"):
    image_url: str | None = None
    file_id: str | None = None
    detail: Literal["auto", "low", "high", "original"] | None = None
    prompt_cache_breakpoint: Json = None


class InputFile(_Part, frozen=True, tag="input_file"):
    file_data: str | None = None
    file_id: str | None = None
    file_url: str | None = None
    filename: str | None = None
    detail: str | None = None
    prompt_cache_breakpoint: Json = None


class AudioInput(_Wire, frozen=True):
    data: str
    format: Literal["wav", "mp3"]


class InputAudio(_Part, frozen=True, tag="input_audio"):
    input_audio: AudioInput


class SummaryText(_Part, frozen=True, tag="summary_text"):
    text: str


Part = InputText | OutputText | RefusalPart | InputImage | InputFile | InputAudio


class _Item(_Wire, frozen=True, kw_only=True, tag_field="type"):
    id: str | None = None


class MessageItem(_Item, frozen=True, kw_only=True, tag="message"):
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[Part]
    status: Literal["in_progress", "completed", "incomplete"] | None = None
    phase: Literal["commentary", "final_answer"] | None = None


class FunctionCallItem(_Item, frozen=True, kw_only=True, tag="function_call"):
    call_id: CallId
    name: Name
    arguments: str
    namespace: str | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None
    caller: Json = None


class FunctionOutputItem(_Item, frozen=True, kw_only=True, tag="function_call_output"):
    call_id: CallId
    output: str | list[InputText | InputImage | InputFile]
    name: str | None = None
    namespace: str | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None
    caller: Json = None


class CustomCallItem(_Item, frozen=True, kw_only=True, tag="custom_tool_call"):
    call_id: CallId
    name: Name
    input: str
    namespace: str | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None
    caller: Json = None


class CustomOutputItem(_Item, frozen=True, kw_only=True, tag="custom_tool_call_output"):
    call_id: CallId
    output: str | list[InputText | InputImage | InputFile]
    caller: Json = None


class ReasoningItem(_Item, frozen=True, kw_only=True, tag="reasoning"):
    summary: list[SummaryText]
    encrypted_content: str | None = None
    content: Annotated[list[Json], Meta(max_length=0)] | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None


class ReferenceItem(_Item, frozen=True, kw_only=True, tag="item_reference"):
    pass


class AdditionalToolsItem(_Item, frozen=True, kw_only=True, tag="additional_tools"):
    tools: list[Node]
    role: Literal["developer", "system"] | None = None


class WebSearchItem(_Item, frozen=True, kw_only=True, tag="web_search_call"):
    status: str | None = None
    action: Json = None


Item = (
    MessageItem
    | FunctionCallItem
    | FunctionOutputItem
    | CustomCallItem
    | CustomOutputItem
    | ReasoningItem
    | ReferenceItem
    | AdditionalToolsItem
    | WebSearchItem
)
_ID_PREFIX: dict[type[Item], str] = {
    MessageItem: "msg",
    FunctionCallItem: "fc",
    FunctionOutputItem: "fc",
    CustomCallItem: "ctc",
    CustomOutputItem: "ctco",
    ReasoningItem: "rs",
    WebSearchItem: "ws",
}


class FunctionTool(_Wire, frozen=True, kw_only=True):
    """`strict` absent means strict, unlike in Chat Completions; `parameters` must be present but may be null."""

    type: Literal["function"]
    name: Name
    parameters: Node | None
    strict: bool | None = None
    description: str | None = None
    defer_loading: bool | None = None
    output_schema: Json = None
    allowed_callers: Json = None


class CustomTool(_Wire, frozen=True, kw_only=True):
    type: Literal["custom"]
    name: Name
    description: str | None = None
    format: Json = None
    defer_loading: bool | None = None
    allowed_callers: Json = None


class NamespaceTool(_Wire, frozen=True, kw_only=True):
    type: Literal["namespace"]
    name: Name
    description: str | None = None
    tools: list[Node]


class Reasoning(_Wire, frozen=True):
    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
    context: Literal["auto", "current_turn", "all_turns"] | None = None


class FormatText(_Part, frozen=True, tag="text"):
    pass


class FormatJson(_Part, frozen=True, tag="json_object"):
    pass


class FormatSchema(_Part, frozen=True, tag="json_schema"):
    name: Name
    schema: Node
    description: str | None = None
    strict: bool | None = None


class Text(_Wire, frozen=True):
    format: FormatText | FormatJson | FormatSchema | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class NamedChoice(_Wire, frozen=True):
    type: Literal["function", "custom"]
    name: str


class AllowedChoice(_Wire, frozen=True):
    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: list[NamedChoice]


class Request(_Wire, frozen=True, kw_only=True):
    """The body, as far as the vendor documents it; parameters without an effect here are `Json`."""

    model: str
    input: str | list[Item]
    instructions: str | None = None
    stream: bool | None = None
    stream_options: Json = None
    tools: list[Node] | None = None
    tool_choice: str | Node | None = None
    parallel_tool_calls: bool | None = None
    max_output_tokens: Annotated[int, Meta(ge=16)] | None = None
    max_tool_calls: int | None = None
    reasoning: Reasoning | None = None
    text: Text | None = None
    include: list[str] | None = None
    store: bool | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    metadata: dict[str, str] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: Annotated[str, Meta(min_length=1)] | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: Json = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"] | None = None
    previous_response_id: str | None = None
    conversation: Json = None
    background: bool | None = None
    prompt: Json = None
    context_management: Json = None
    moderation: Json = None
    client_metadata: Json = None
    access_programs: Json = None
    background_options: Json = None
    image: Json = None

    @property
    def items(self) -> list[Item]:
        return [MessageItem(role="user", content=self.input)] if isinstance(self.input, str) else self.input


def create(received: Received) -> Reply:
    """POST /v1/responses."""
    request = _read(received)
    offers = _check(request)
    answer = plan(_ask(request, offers))
    if request.stream:
        return Reply(
            content_type=EVENT_STREAM, headers=edge.headers(received), frames=tuple(_stream(request, answer, received))
        )
    return Reply(headers=edge.headers(received), frames=(write_json(_final(request, answer, received)),))


def _broken(before: tuple[bytes, ...], fault: Break) -> bytes:
    """`response.failed` with the response begun so far, or a bare `error` event."""
    code = fault.code or edge.ERRORS.get(fault.status, edge.ERRORS[500])[1]
    error: Written = {"code": code or "server_error", "message": fault.message}
    number = len(before)
    if fault.is_event or not before:
        return sse({"type": "error", **error, "param": None, "sequence_number": number}, "error")
    created = read_json(before[0].partition(b"data: ")[2])
    begun = created.get("response") if isinstance(created, dict) else None
    response: Written = {**(begun if isinstance(begun, dict) else {}), "status": "failed", "error": error}
    return sse({"type": "response.failed", "response": response, "sequence_number": number}, "response.failed")


def _unfinished(frames: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return tuple(
        frame for frame in frames if not frame.startswith((b"event: response.completed", b"event: response.inc"))
    )


SURFACE = Surface(
    vendor="openai-responses", admit=edge.admit, refuse=edge.refuse, broken=_broken, unfinished=_unfinished
)


# --- what the vendor refuses ---


def _read(received: Received) -> Request:
    try:
        body = read_json(received.body)
    except msgspec.DecodeError as error:
        raise edge.unparsable() from error
    items = body.get("input") if isinstance(body, dict) else None
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict) and "role" in item:
            item.setdefault("type", "message")
    return _converted(body, Request, ())


def _converted(value: Json, shape: type[edge.Shape], place: tuple[str | int, ...]) -> edge.Shape:
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        raise edge.misfit(read_misfit(error, place)) from error


def _check(request: Request) -> tuple[Offer, ...]:
    """Refuse what the vendor refuses; the tools that can be called otherwise."""
    _check_options(request)
    for index, item in enumerate(request.items):
        _check_item(request, item, f"input[{index}]")
    _check_pairing(request.items)
    offers = tuple(_offers(request.tools or [], ("tools",)))
    for index, item in enumerate(request.items):
        if isinstance(item, AdditionalToolsItem):
            offers += tuple(_offers(item.tools, ("input", index, "tools")))
    keys = [(offer.namespace, offer.name) for offer in offers]
    repeated = next((name for space, name in keys if keys.count((space, name)) > 1), None)
    if repeated:
        raise Refused(f"Duplicate tool name: '{repeated}'.", param="tools", kind="invalid_value")
    _check_choice(request, offers)
    return offers


def _check_options(request: Request) -> None:
    if request.previous_response_id is not None:
        raise Refused(
            f"Previous response with id '{request.previous_response_id}' not found.",
            param="previous_response_id",
            kind="previous_response_not_found",
        )
    if request.stream_options is not None and not request.stream:
        raise Refused(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
            param="stream_options",
            kind="invalid_value",
        )
    for index, included in enumerate(request.include or ()):
        if included not in _INCLUDES:
            raise _unsupported(included, ", ".join(f"'{name}'" for name in sorted(_INCLUDES)), f"include[{index}]")
    match request.text:
        case Text(format=FormatSchema(name=name, schema=schema, strict=True)):
            fault = openai_strict_fault(schema)
            if fault:
                raise edge.strict_fault(
                    "text.format.schema", f"response_format '{name}'", fault.message, "invalid_json_schema"
                )
        case Text(format=FormatJson()) if "json" not in " ".join(_prompt(request)).lower():
            raise Refused(
                "Response input messages must contain the word 'json' in some form to use 'text.format' of type 'json_object'.",
                param="input",
            )
        case _:
            pass


def _check_item(request: Request, item: Item, place: str) -> None:
    prefix = _ID_PREFIX.get(type(item))
    if item.id is not None and prefix is not None:
        if not _ITEM_ID.match(item.id):
            raise Refused(
                f"Invalid '{place}.id': '{item.id[:64]}'. Expected an ID that contains letters, numbers, underscores, or "
                "dashes, with a maximum length of 64.",
                param=f"{place}.id",
                kind="invalid_value",
            )
        if not item.id.startswith(prefix):
            raise Refused(
                f"Invalid '{place}.id': '{item.id}'. Expected an ID that begins with '{prefix}'.",
                param=f"{place}.id",
                kind="invalid_value",
            )
    match item:
        case MessageItem(content=list(parts)):
            _check_parts(item.role, parts, place)
        case ReasoningItem():
            _check_reasoning(request, item)
        case ReferenceItem():
            raise Refused(f"Item with id '{item.id}' not found.", status=404, param="input", kind="")
        case _:
            pass


def _check_parts(role: str, parts: list[Part], place: str) -> None:
    kinds, listed = _PARTS_OF_ROLE["assistant" if role == "assistant" else "user"]
    for at, part in enumerate(parts):
        kind = str(part.__struct_config__.tag)
        if kind not in kinds:
            raise _unsupported(kind, listed, f"{place}.content[{at}]")
    _media(parts, f"{place}.content")


def _check_reasoning(request: Request, item: ReasoningItem) -> None:
    if item.encrypted_content is None:
        if request.store is False or item.id is None:
            raise Refused(
                f"Item with id '{item.id}' not found. Items are not persisted when `store` is set to false. Try again with "
                "`store` set to true, or remove this item from your input.",
                status=404,
                param="input",
                kind="",
            )
        return
    if not is_sealed(_SEAL[0], decode_base64(item.encrypted_content) or b"", _SEAL[1]):
        raise Refused(
            f"The encrypted content for item {item.id} could not be verified. Reason: Encrypted content could not be "
            "decrypted or parsed.",
            kind="invalid_encrypted_content",
        )


def _check_pairing(items: list[Item]) -> None:
    """Calls and outputs stand in pairs, and reasoning is followed by what it led to."""
    calls = [item.call_id for item in items if isinstance(item, FunctionCallItem | CustomCallItem)]
    repeated = next((call_id for call_id in calls if calls.count(call_id) > 1), None)
    if repeated:
        raise Refused(f"Duplicate function call with call_id {repeated}.", param="input")
    seen: dict[str, str] = {}
    for index, item in enumerate(items):
        match item:
            case FunctionCallItem():
                seen[item.call_id] = "function call"
            case CustomCallItem():
                seen[item.call_id] = "custom tool call"
            case FunctionOutputItem() | CustomOutputItem():
                noun = "function call" if isinstance(item, FunctionOutputItem) else "custom tool call"
                if seen.pop(item.call_id, None) != noun:
                    raise Refused(f"No tool call found for {noun} output with call_id {item.call_id}.", param="input")
            case ReasoningItem(id=str(item_id)) if not _is_led_to(items[index + 1 :]):
                raise Refused(
                    f"Item '{item_id}' of type 'reasoning' was provided without its required following item.",
                    param="input",
                )
            case _:
                pass
    for call_id, noun in seen.items():
        raise Refused(f"No tool output found for {noun} {call_id}.", param="input")


def _is_led_to(rest: list[Item]) -> bool:
    following = next((item for item in rest if not isinstance(item, ReasoningItem)), None)
    return isinstance(following, FunctionCallItem | CustomCallItem | WebSearchItem) or (
        isinstance(following, MessageItem) and following.role == "assistant"
    )


def _offers(tools: list[Node], place: tuple[str | int, ...], namespace: str | None = None) -> Iterator[Offer]:
    for index, row in enumerate(tools):
        at = (*place, index)
        match row.get("type"):
            case "function":
                tool = _converted(row, FunctionTool, at)
                _check_function(tool, bracketed((*at, "parameters")))
                yield Offer(tool.name, tool.parameters, namespace=namespace)
            case "custom":
                yield Offer(_converted(row, CustomTool, at).name, is_custom=True, namespace=namespace)
            case "namespace" if namespace is None:
                inner = _converted(row, NamespaceTool, at)
                yield from _offers(inner.tools, (*at, "tools"), inner.name)
            case None:
                param = bracketed((*at, "type"))
                raise Refused(f"Missing required parameter: '{param}'.", param=param, kind="missing_required_parameter")
            case kind if not _is_hosted(row):
                raise _unsupported(str(kind), "'function', 'custom', and the hosted tools", bracketed(at))
            case _:
                pass


def _check_function(tool: FunctionTool, place: str) -> None:
    schema = tool.parameters
    if schema is None:
        return
    label = f"function '{tool.name}'"
    if tool.strict is not False:
        fault = openai_strict_fault(schema)
        if fault:
            raise edge.strict_fault(place, label, fault.message, "invalid_function_parameters")
    elif schema.get("type") != "object":
        message = f"schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{schema.get('type')}\"'."
        raise edge.strict_fault(place, label, message, "invalid_function_parameters")


def _check_choice(request: Request, offers: tuple[Offer, ...]) -> None:
    choice = request.tool_choice
    if choice is None or choice in ("auto", "none"):
        return
    if choice == "required":
        if not request.tools and not offers:
            raise Refused("Tool choice 'required' must be specified with 'tools' parameter.", param="tool_choice")
        return
    if isinstance(choice, str):
        raise _unsupported(choice, "'none', 'auto', and 'required'", "tool_choice")
    if _is_hosted(choice):
        return
    names = {offer.name for offer in offers}
    for name in _chosen(choice):
        if name not in names:
            raise Refused(f"Tool choice '{name}' not found in 'tools' parameter.", param="tool_choice")


def _chosen(choice: str | Node | None) -> tuple[str, ...]:
    if not isinstance(choice, dict) or _is_hosted(choice):
        return ()
    if choice.get("type") == "allowed_tools":
        return tuple(named.name for named in _converted(choice, AllowedChoice, ("tool_choice",)).tools)
    return (_converted(choice, NamedChoice, ("tool_choice",)).name,)


def _is_hosted(row: Node) -> bool:
    kind = row.get("type")
    return isinstance(kind, str) and kind in _HOSTED


def _unsupported(value: str, listed: str, place: str) -> Refused:
    return Refused(f"Invalid value: '{value}'. Supported values are: {listed}.", param=place, kind="invalid_value")


# --- what the request asks ---


def _ask(request: Request, offers: tuple[Offer, ...]) -> Ask:
    text: str | None = None
    topic = ""
    said: list[tuple[str, str]] = []
    media: tuple[str, ...] = ()
    names: dict[str, str] = {}
    for item in request.items:
        match item:
            case MessageItem(role="user", content=content):
                parts = [InputText(content)] if isinstance(content, str) else content
                text = next((part.text for part in reversed(parts) if isinstance(part, InputText)), text)
                topic = text or topic
                media += _media(parts, "input")
            case FunctionCallItem() | CustomCallItem():
                names[item.call_id] = item.name
                text, said, media = None, [], ()
            case FunctionOutputItem() | CustomOutputItem():
                said.append((names[item.call_id], _output_text(item.output)))
                media += () if isinstance(item.output, str) else _media(item.output, "output")
            case MessageItem(role="assistant") | ReasoningItem() | WebSearchItem():
                text, said, media = None, [], ()
            case _:
                pass
    choice = request.tool_choice
    reasoning = request.reasoning or Reasoning()
    return Ask(
        text=text,
        topic=topic,
        said=tuple(said),
        media=media,
        system=tuple(_system(request)),
        offers=_allowed(choice, offers),
        forced=_forced(choice),
        is_parallel=request.parallel_tool_calls is not False,
        thinks=reasoning.effort != "none" and bool(reasoning.effort or reasoning.summary or reasoning.generate_summary),
        schema=_schema(request),
        limit=request.max_output_tokens,
        prompt=tuple(_prompt(request)) + tuple(offer.name for offer in offers),
    )


def _system(request: Request) -> Iterator[str]:
    if request.instructions:
        yield request.instructions
    for item in request.items:
        if isinstance(item, MessageItem) and item.role in ("system", "developer"):
            yield _output_text(item.content)


def _prompt(request: Request) -> Iterator[str]:
    yield request.instructions or ""
    for item in request.items:
        match item:
            case MessageItem(content=content):
                yield _output_text(content)
            case FunctionCallItem(name=name, arguments=arguments) | CustomCallItem(name=name, input=arguments):
                yield f"{name} {arguments}"
            case FunctionOutputItem(output=output) | CustomOutputItem(output=output):
                yield _output_text(output)
            case _:
                pass


def _output_text(content: str | list[Part] | list[InputText | InputImage | InputFile]) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.text for part in content if isinstance(part, InputText | OutputText))


def _allowed(choice: str | Node | None, offers: tuple[Offer, ...]) -> tuple[Offer, ...]:
    if choice == "none":
        return ()
    names = _chosen(choice)
    return tuple(offer for offer in offers if not names or offer.name in names)


def _forced(choice: str | Node | None) -> str | None:
    if choice == "required":
        return "*"
    if not isinstance(choice, dict) or _is_hosted(choice):
        return None
    if choice.get("type") == "allowed_tools":
        return "*" if choice.get("mode") == "required" else None
    return str(choice.get("name"))


def _schema(request: Request) -> Json:
    match request.text:
        case Text(format=FormatSchema(schema=schema)):
            return schema
        case Text(format=FormatJson()):
            return {}
        case _:
            return None


def _media(parts: Sequence[Part], place: str) -> tuple[str, ...]:
    found: list[str] = []
    for index, part in enumerate(parts):
        at = f"{place}[{index}]"
        match part:
            case InputImage(image_url=str(url)):
                found.append(edge.medium(url, "image", f"{at}.image_url"))
            case InputFile(file_data=str(data)):
                found.append(edge.medium(data, "file", f"{at}.file_data"))
            case InputFile(file_url=str(url)):
                found.append(edge.medium(url, "file", f"{at}.file_url"))
            case InputImage(file_id=str()) | InputFile(file_id=str()):
                found.append("file ID")
            case InputImage() | InputFile():
                raise Refused(
                    f"Missing required parameter: '{at}.file_id'.", param=at, kind="missing_required_parameter"
                )
            case InputAudio(input_audio=audio):
                found.append(edge.medium(f"data:audio/{audio.format};base64,{audio.data}", "audio", at))
            case _:
                pass
    return tuple(found)


# --- how the answer is written ---


def _final(request: Request, answer: Plan, received: Received) -> Written:
    is_cut = answer.finish == "length"
    return _response(request, received) | {
        "status": "incomplete" if is_cut else "completed",
        "completed_at": None if is_cut else edge.CREATED,
        "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
        "output": [*_items(request, answer, received)],
        "usage": {
            "input_tokens": answer.input_words,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": answer.output_words,
            "output_tokens_details": {"reasoning_tokens": answer.thought_words},
            "total_tokens": answer.input_words + answer.output_words,
        },
    }


def _response(request: Request, received: Received) -> Written:
    """The response object as it stands before any output, with the caller's own settings echoed."""
    body = read_json(received.body)
    asked: Node = body if isinstance(body, dict) else {}
    defaults: Written = {
        "instructions": None,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": None,
        "service_tier": "default",
        "store": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": 1.0,
        "truncation": "disabled",
        "user": None,
    }
    echoed = {key: asked[key] if asked.get(key) is not None else value for key, value in defaults.items()}
    return {
        "id": f"resp_{received.seed[:50]}",
        "object": "response",
        "created_at": edge.CREATED,
        "status": "in_progress",
        "background": False,
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "model": request.model,
        "output": [],
        "usage": None,
        **echoed,
    }


def _items(request: Request, answer: Plan, received: Received) -> Iterator[Written]:
    """The finished output items, in order."""
    if answer.thought:
        summary = [{"type": "summary_text", "text": answer.thought}]
        yield {"id": f"rs_{received.seed[:48]}", "type": "reasoning", "summary": summary} | _encrypted(request, answer)
    if answer.text or not answer.calls:
        yield {
            "id": f"msg_{received.seed[:48]}",
            "type": "message",
            "status": "incomplete" if answer.finish == "length" else "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": answer.text, "annotations": [], "logprobs": []}],
        }
    for index, call in enumerate(answer.calls):
        yield _call_item(call, f"{received.seed[:44]}{index:04d}")


def _call_item(call: Call, tail: str) -> Written:
    prefix, kind, field = (
        ("ctc", "custom_tool_call", "input") if call.is_custom else ("fc", "function_call", "arguments")
    )
    item: Written = {
        "id": f"{prefix}_{tail}",
        "type": kind,
        "status": "completed",
        "call_id": f"call_{tail[-24:]}",
        "name": call.name,
        field: call.arguments,
    }
    if call.namespace:
        item["namespace"] = call.namespace
    return item


def _encrypted(request: Request, answer: Plan) -> Written:
    if "reasoning.encrypted_content" not in (request.include or ()):
        return {}
    return {"encrypted_content": base64.urlsafe_b64encode(seal(_SEAL[0], answer.thought, _SEAL[1])).decode()}


def _stream(request: Request, answer: Plan, received: Received) -> Iterator[bytes]:
    for number, event in enumerate(_events(request, answer, received)):
        yield sse({**event, "sequence_number": number}, str(event["type"]))


def _events(request: Request, answer: Plan, received: Received) -> Iterator[Written]:
    started, final = _response(request, received), _final(request, answer, received)
    yield {"type": "response.created", "response": started}
    yield {"type": "response.in_progress", "response": started}
    for index, item in enumerate(_items(request, answer, received)):
        place: Written = {"item_id": item["id"], "output_index": index}
        match item["type"]:
            case "reasoning":
                opened: Written = {"summary": []}
                inside = _reasoning_events(place, answer.thought)
            case "message":
                opened = {"content": [], "status": "in_progress"}
                inside = _text_events(place, answer.text)
            case kind:
                field = "input" if kind == "custom_tool_call" else "arguments"
                opened = {field: "", "status": "in_progress"}
                inside = _call_events(place, item, str(kind), field)
        yield {"type": "response.output_item.added", "output_index": index, "item": item | opened}
        yield from inside
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    yield {"type": f"response.{final['status']}", "response": final}


def _reasoning_events(place: Written, thought: str) -> Iterator[Written]:
    at = place | {"summary_index": 0}
    yield at | {"type": "response.reasoning_summary_part.added", "part": {"type": "summary_text", "text": ""}}
    for word in pieces(thought):
        yield at | {"type": "response.reasoning_summary_text.delta", "delta": word}
    yield at | {"type": "response.reasoning_summary_text.done", "text": thought}
    yield at | {"type": "response.reasoning_summary_part.done", "part": {"type": "summary_text", "text": thought}}


def _text_events(place: Written, text: str) -> Iterator[Written]:
    at = place | {"content_index": 0}
    part: Written = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    yield at | {"type": "response.content_part.added", "part": part}
    for word in pieces(text):
        yield at | {"type": "response.output_text.delta", "delta": word, "logprobs": []}
    yield at | {"type": "response.output_text.done", "text": text, "logprobs": []}
    yield at | {"type": "response.content_part.done", "part": part | {"text": text}}


def _call_events(place: Written, item: Written, kind: str, field: str) -> Iterator[Written]:
    family = "response.custom_tool_call_input" if kind == "custom_tool_call" else "response.function_call_arguments"
    whole = str(item[field])
    for fragment in fragments(whole):
        yield place | {"type": f"{family}.delta", "delta": fragment}
    named: Written = {} if kind == "custom_tool_call" else {"name": item["name"]}
    yield place | named | {"type": f"{family}.done", field: whole}
