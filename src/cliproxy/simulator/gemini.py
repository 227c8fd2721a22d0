"""The simulated Gemini API: generate, stream (SSE or a JSON array), count tokens, models. Both spellings of every field.

Sources: https://ai.google.dev/api/generate-content, https://ai.google.dev/api/caching#FunctionDeclaration,
https://ai.google.dev/gemini-api/docs/thought-signatures, https://ai.google.dev/gemini-api/docs/troubleshooting, checked 2026-10-20.
"""

import base64
import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal, TypeVar
from urllib.parse import unquote

import msgspec
from msgspec import Meta, Raw, Struct

from cliproxy.simulator.answer import Ask, Offer, Plan, input_words, pieces, plan
from cliproxy.simulator.exchange import (
    EVENT_STREAM,
    Break,
    Json,
    Misfit,
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
from cliproxy.simulator.schemas import SchemaFault, gemini_schema_fault

Shape = TypeVar("Shape")

Node = dict[str, Json]
Written = dict[str, object]

# status: error.status
ERRORS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
    529: "UNAVAILABLE",
}
BYPASS_SIGNATURES = frozenset({"skip_thought_signature_validator", "context_engineering_is_the_way_to_go"})

HEADERS = (("server", "scaffolding on HTTPServer2"), ("vary", "Origin, X-Origin, Referer"))

_TYPE = "type.googleapis.com/google.rpc."
_MODELS = ("gemini-3-pro-preview", "gemini-2.5-pro", "gemini-2.5-flash", "gemini-2.5-flash-lite")
_SIGNATURE = ("gemini-thought", b"\x0a\x24")
_FINISH = {"stop": "STOP", "stop_sequence": "STOP", "length": "MAX_TOKENS", "calls": "STOP"}
_FUNCTION_NAME = re.compile(r"^[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}$")
_MODEL_IN_PATH = re.compile(r"/models/(?P<model>[^:]+)(?::\w+)?$")
_FINISH_REASON = re.compile(rb'"finishReason":"\w+",?')
# Values that are data of the caller or schemas of another kind: their keys are never field names of the vendor.
_OPAQUE = frozenset(
    {"args", "response", "parametersJsonSchema", "responseJsonSchema", "labels", "example", "default", "partMetadata"}
)
_NAMED = frozenset({"properties", "defs"})


class _Wire(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    pass


class Blob(_Wire, frozen=True):
    mime_type: str
    data: str
    display_name: str | None = None


class FileUri(_Wire, frozen=True):
    file_uri: str
    mime_type: str | None = None
    display_name: str | None = None


class FunctionCall(_Wire, frozen=True):
    name: str
    args: Node | None = None
    id: str | None = None


class FunctionResponse(_Wire, frozen=True):
    name: str
    response: Node
    id: str | None = None
    parts: Json = None
    scheduling: str | None = None
    will_continue: bool | None = None


class Part(_Wire, frozen=True):
    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: FunctionCall | None = None
    function_response: FunctionResponse | None = None
    inline_data: Blob | None = None
    file_data: FileUri | None = None
    executable_code: Json = None
    code_execution_result: Json = None
    video_metadata: Json = None
    media_resolution: Json = None
    part_metadata: Json = None


class Content(_Wire, frozen=True):
    parts: list[Part] = msgspec.field(default_factory=list[Part])
    role: str | None = None


class FunctionDeclaration(_Wire, frozen=True):
    name: str
    description: str | None = None
    parameters: Node | None = None
    parameters_json_schema: Node | None = None
    response: Json = None
    response_json_schema: Json = None
    behavior: str | None = None


class Tool(_Wire, frozen=True):
    function_declarations: list[FunctionDeclaration] | None = None
    google_search: Node | None = None
    google_search_retrieval: Node | None = None
    code_execution: Node | None = None
    url_context: Node | None = None
    file_search: Node | None = None
    google_maps: Node | None = None
    computer_use: Node | None = None
    mcp_servers: Json = None


class FunctionCalling(_Wire, frozen=True):
    mode: Literal["MODE_UNSPECIFIED", "AUTO", "ANY", "NONE", "VALIDATED"] | None = None
    allowed_function_names: list[str] | None = None


class ToolConfig(_Wire, frozen=True):
    function_calling_config: FunctionCalling | None = None
    retrieval_config: Json = None
    include_server_side_tool_invocations: bool | None = None


class ThinkingConfig(_Wire, frozen=True):
    include_thoughts: bool | None = None
    thinking_budget: Annotated[int, Meta(ge=-1, le=32768)] | None = None
    thinking_level: Literal["MINIMAL", "LOW", "MEDIUM", "HIGH", "minimal", "low", "medium", "high"] | None = None


class GenerationConfig(_Wire, frozen=True):
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: float | None = None
    candidate_count: Annotated[int, Meta(ge=1, le=8)] | None = None
    max_output_tokens: Annotated[int, Meta(ge=1)] | None = None
    stop_sequences: Annotated[list[str], Meta(max_length=5)] | None = None
    seed: Annotated[int, Meta(ge=-(2**31), lt=2**31)] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    response_logprobs: bool | None = None
    logprobs: int | None = None
    response_mime_type: str | None = None
    response_schema: Node | None = None
    response_json_schema: Node | None = None
    response_modalities: list[Literal["TEXT", "IMAGE", "AUDIO"]] | None = None
    thinking_config: ThinkingConfig | None = None
    media_resolution: str | None = None
    speech_config: Json = None
    image_config: Json = None


class Request(_Wire, frozen=True):
    contents: Annotated[list[Content], Meta(min_length=1)]
    system_instruction: Content | None = None
    tools: list[Tool] | None = None
    tool_config: ToolConfig | None = None
    generation_config: GenerationConfig | None = None
    safety_settings: list[Node] | None = None
    cached_content: str | None = None
    service_tier: str | None = None
    store: bool | None = None
    labels: dict[str, str] | None = None
    model: str | None = None

    @property
    def config(self) -> GenerationConfig:
        return self.generation_config or GenerationConfig()

    @property
    def declarations(self) -> list[FunctionDeclaration]:
        return [declared for tool in self.tools or () for declared in tool.function_declarations or ()]


def generate(received: Received) -> Reply:
    """POST /v1beta/models/{model}:generateContent."""
    request, model = _read(received)
    return Reply(headers=HEADERS, frames=(write_json(written(request, model, received)),))


def stream(received: Received) -> Reply:
    """POST /v1beta/models/{model}:streamGenerateContent?alt=sse."""
    request, model = _read(received)
    frames = tuple(sse(chunk) for chunk in written_chunks(request, model, received))
    return Reply(content_type=EVENT_STREAM, headers=HEADERS, frames=frames)


def stream_array(received: Received) -> Reply:
    """The same without `alt=sse`: one JSON array, written piecemeal."""
    request, model = _read(received)
    return Reply(headers=HEADERS, frames=in_array(written_chunks(request, model, received)))


def count(received: Received) -> Reply:
    """POST /v1beta/models/{model}:countTokens, with `contents` or a whole `generateContentRequest`."""
    model = _model(received)
    body = read_body(received)
    inner = body.get("generateContentRequest") if isinstance(body, dict) else None
    words = counted(checked(body if inner is None else inner, model), model)
    details = [{"modality": "TEXT", "tokenCount": words}]
    return Reply(headers=HEADERS, frames=(write_json({"totalTokens": words, "promptTokensDetails": details}),))


def models(received: Received) -> Reply:
    """GET /v1beta/models; one page always."""
    return Reply(headers=HEADERS, frames=(write_json({"models": [_described(name) for name in _MODELS]}),))


def model(received: Received) -> Reply:
    """GET /v1beta/models/{model}."""
    name = _model(received)
    if not name.startswith("gemini"):
        raise Refused(f"Model is not found: models/{name} for api version v1beta", status=404)
    return Reply(headers=HEADERS, frames=(write_json(_described(name)),))


def checked(body: Json, name: str, root: tuple[str | int, ...] = ()) -> Request:
    """The request in `body`, which `read_body` gave; raises Refused. `root` is where it stands in the whole body."""
    request = _converted(body, root)
    _check(request, name)
    return request


def written(request: Request, name: str, received: Received) -> Written:
    """The whole answer."""
    return _response(_plan(request, name), name, received)


def written_chunks(request: Request, name: str, received: Received) -> Iterator[Written]:
    """The answer as it is streamed."""
    return _chunks(_plan(request, name), name, received)


def counted(request: Request, name: str) -> int:
    return input_words(_ask(request, name))


def in_array(chunks: Iterable[Written]) -> tuple[bytes, ...]:
    """Frames of a stream without `alt=sse`: one JSON array, written piecemeal."""
    encoded = [write_json(chunk) for chunk in chunks]
    return (b"[" + encoded[0], *(b",\r\n" + chunk for chunk in encoded[1:]), b"]")


def error_body(status: int, message: str, details: list[Json] | None = None) -> Node:
    error: Node = {"code": status, "message": message, "status": ERRORS.get(status, "UNKNOWN")}
    if details:
        error["details"] = details
    return {"error": error}


def _admit(received: Received) -> None:
    key = received.headers.get("x-goog-api-key") or received.query.get("key")
    if not key:
        raise Refused(
            "Method doesn't allow unregistered callers (callers without established identity). Please use API Key or other "
            "form of API consumer identity to call this API.",
            status=403,
        )
    if not key.startswith("sk-sim"):
        raise Refused("API key not valid. Please pass a valid API key.", kind="API_KEY_INVALID")


def refusal(refused: Refused, service_name: str = "generativelanguage.googleapis.com") -> Node:
    """`kind` is an ErrorInfo reason, `param` the field of a BadRequest violation."""
    details: list[Json] = []
    if refused.kind is not None:
        service: Json = {"service": service_name}
        reason: Json = {"reason": refused.kind, "domain": "googleapis.com", "metadata": service}
        details.append({"@type": _TYPE + "ErrorInfo", **reason})
    if refused.param is not None:
        violation: Node = {"field": refused.param, "description": refused.message}
        details.append({"@type": _TYPE + "BadRequest", "fieldViolations": [violation]})
    return error_body(refused.status, refused.message, details)


def _refuse(refused: Refused, request_id: str) -> Reply:
    return Reply(status=refused.status, frames=(write_json(refusal(refused)),))


def _refuse_in_array(refused: Refused, request_id: str) -> Reply:
    return Reply(status=refused.status, frames=(write_json([refusal(refused)]),))


def _broken(before: tuple[bytes, ...], fault: Break) -> bytes:
    return sse(error_body(fault.status, fault.message))


def broken_in_array(before: tuple[bytes, ...], fault: Break) -> bytes:
    return (b",\r\n" if before else b"[") + write_json(error_body(fault.status, fault.message)) + b"]"


def _unfinished(frames: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return tuple(_FINISH_REASON.sub(b"", frame) for frame in frames)


SURFACE = Surface(vendor="gemini", admit=_admit, refuse=_refuse, broken=_broken, unfinished=_unfinished)
ARRAY_SURFACE = msgspec.structs.replace(SURFACE, refuse=_refuse_in_array, broken=broken_in_array)


# --- what the vendor refuses ---


def _read(received: Received) -> tuple[Request, str]:
    name = _model(received)
    return checked(read_body(received), name), name


def _model(received: Received) -> str:
    match = _MODEL_IN_PATH.search(received.path)
    return unquote(match["model"]).removeprefix("models/") if match else ""


def read_body(received: Received) -> Json:
    """The body with its field names in camelCase; raises Refused when it is no JSON."""
    try:
        return _camel(read_json(received.body))
    except msgspec.DecodeError as error:
        raise Refused(f"Invalid JSON payload received. {error}") from error


def _camel(value: Json) -> Json:
    """Field names in camelCase, as Google's own parser takes both; names and data of the caller stay as they are."""
    if isinstance(value, list):
        return [_camel(item) for item in value]
    if not isinstance(value, dict):
        return value
    fields: Node = {}
    for name, inner in value.items():
        field = re.sub(r"(?<=[a-z0-9])_([a-z])", lambda match: match[1].upper(), name)
        if field in _OPAQUE:
            fields[field] = inner
        elif field in _NAMED and isinstance(inner, dict):
            fields[field] = {key: _camel(child) for key, child in inner.items()}
        else:
            fields[field] = _camel(inner)
    return fields


def _converted(body: Json, root: tuple[str | int, ...]) -> Request:
    try:
        return msgspec.convert(body, Request)
    except msgspec.ValidationError as error:
        raise misfit(read_misfit(error, root)) from error


def misfit(fault: Misfit) -> Refused:
    """The fault in Google's words."""
    if fault.kind == "unknown":
        return unknown_field(str(fault.path[-1]), fault.path[:-1])
    place = _place(fault.path)
    if fault.path[-1:] == ("contents",):
        return Refused("* GenerateContentRequest.contents: contents is not specified\n")
    says = "required field is missing" if fault.kind == "missing" else fault.says
    return Refused(f"Invalid value at '{place}': {says}", param=place)


def unknown_field(name: str, path: tuple[str | int, ...]) -> Refused:
    place = f" at '{_place(path)}'" if path else ""
    return Refused(
        f'Invalid JSON payload received. Unknown name "{name}"{place}: Cannot find field.', param=_place(path)
    )


def _place(path: tuple[str | int, ...]) -> str:
    """Google names places in snake_case, whatever the caller wrote."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", lambda match: "_" + match[1].lower(), bracketed(path))


def _check(request: Request, name: str) -> None:
    for index, content in enumerate(request.contents):
        if content.role not in (None, "user", "model"):
            raise Refused("Please use a valid role: user, model.")
        if not content.parts:
            raise Refused(f"* GenerateContentRequest.contents[{index}].parts: contents.parts must not be empty.\n")
        for at, part in enumerate(content.parts):
            _check_part(part, ("contents", index, "parts", at))
    _check_turns(request.contents)
    if name.startswith("gemini-3"):
        _check_signatures(request.contents)
    _check_tools(request)
    _check_output(request, name)
    _check_thinking(request.config.thinking_config or ThinkingConfig(), name)


def _check_part(part: Part, path: tuple[str | int, ...]) -> None:
    filled = [
        value
        for value in (part.text, part.function_call, part.function_response, part.inline_data, part.file_data)
        if value is not None
    ] + [value for value in (part.executable_code, part.code_execution_result) if value is not None]
    if not filled:
        raise Refused(f"{_place(path)}.data: required oneof field 'data' must have one initialized field")
    if len(filled) > 1:
        raise Refused(
            f"Invalid value at '{_place(path)}' (oneof), oneof field 'data' is already set.", param=_place(path)
        )
    if part.inline_data is not None and not decode_base64(part.inline_data.data):
        raise _not_base64((*path, "inlineData", "data"))
    signature = part.thought_signature
    if signature is None or signature in BYPASS_SIGNATURES:
        return
    if decode_base64(signature) is None:
        raise _not_base64((*path, "thoughtSignature"))
    if not is_sealed(_SIGNATURE[0], decode_base64(signature) or b"", _SIGNATURE[1]):
        raise Refused("Corrupted thought signature.")


def _not_base64(path: tuple[str | int, ...]) -> Refused:
    place = _place(path)
    return Refused(f"Invalid value at '{place}' (TYPE_BYTES), Base64 decoding failed", param=place)


def _check_turns(contents: list[Content]) -> None:
    """A call turn follows a user turn; the next turn answers all its calls and holds nothing else."""
    if contents[0].role == "model":
        raise Refused(
            "Please ensure that multiturn requests start with a user turn and alternate between user and model."
        )
    calls: list[FunctionCall] = []
    for index, content in enumerate(contents):
        responses = [part.function_response for part in content.parts if part.function_response is not None]
        if len(responses) != len(calls):
            raise Refused(
                "Please ensure that the number of function response parts is equal to the number of function call parts of "
                "the function call turn."
            )
        if responses and len(responses) < len(content.parts):
            raise Refused("Please ensure that a function response turn contains only function response parts.")
        known = {call.id for call in calls} | {None}
        strange = next((response.id for response in responses if response.id not in known), None)
        if strange is not None:
            raise Refused(f"Function response id '{strange}' does not match any function call id of the previous turn.")
        calls = [part.function_call for part in content.parts if part.function_call is not None]
        if calls and content.role != "model":
            raise Refused("Please ensure that function call parts are in a turn with role 'model'.")
        if calls and contents[index - 1].role == "model":
            raise Refused(
                "Please ensure that function call turn comes immediately after a user turn or after a function response turn."
            )
    if calls:
        raise Refused("Please ensure that function call turn is followed by a function response turn.")


def _check_signatures(contents: list[Content]) -> None:
    """Each step since the last real user turn carries a signature on its first call."""
    starts = (
        at for at, c in enumerate(contents) if c.role != "model" and any(not p.function_response for p in c.parts)
    )
    for index in range(max(starts, default=0), len(contents)):
        calls = [part for part in contents[index].parts if part.function_call is not None]
        if calls and not calls[0].thought_signature:
            name = calls[0].function_call.name if calls[0].function_call else ""
            raise Refused(
                "Function call is missing a thought_signature in functionCall parts. This is required for tools to work "
                "correctly, and missing thought_signature may lead to degraded model performance. Additional data, function "
                f"call `default_api:{name}` , position {index + 1}. Please refer to "
                "https://ai.google.dev/gemini-api/docs/thought-signatures for more details."
            )


def _check_tools(request: Request) -> None:
    for index, tool in enumerate(request.tools or ()):
        kinds = [field for field in tool.__struct_fields__ if getattr(tool, field) is not None]
        if len(kinds) > 1:
            raise Refused(
                f"Invalid value at 'tools[{index}]': tool_type one_of '{kinds[0]}' conflicts with '{kinds[1]}'. "
                "Please use one tool object for each tool type.",
                param=f"tools[{index}]",
            )
        for at, declared in enumerate(tool.function_declarations or ()):
            _check_declaration(declared, ("tools", index, "functionDeclarations", at))
    names = [declared.name for declared in request.declarations]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated:
        raise Refused(f"Duplicate function declaration found: {repeated}")
    calling = (request.tool_config or ToolConfig()).function_calling_config or FunctionCalling()
    if calling.mode in ("ANY", "VALIDATED") and not names:
        raise Refused("Function calling config is set without function_declarations.")
    if calling.allowed_function_names and calling.mode not in ("ANY", "VALIDATED"):
        raise Refused("Allowed function names should only be set when function calling mode is ANY or VALIDATED.")
    for allowed in calling.allowed_function_names or ():
        if allowed not in names:
            raise Refused(f"allowed_function_names contains '{allowed}', which is not a declared function.")


def _check_declaration(declared: FunctionDeclaration, path: tuple[str | int, ...]) -> None:
    if not _FUNCTION_NAME.match(declared.name):
        raise Refused(
            f"* GenerateContentRequest.{_place((*path, 'name'))}: Invalid function name. Must start with a letter or an "
            "underscore. Must be alphameric (a-z, A-Z, 0-9), underscores (_), dots (.), colons (:), or dashes (-), with a "
            "maximum length of 64.\n"
        )
    if declared.parameters is not None and declared.parameters_json_schema is not None:
        raise Refused(
            f"Invalid value at '{_place(path)}': only one of parameters and parameters_json_schema may be set."
        )
    if declared.parameters is None:
        return
    place = (*path, "parameters")
    fault = gemini_schema_fault(declared.parameters)
    if fault:
        raise _schema_fault(fault, place)
    if str(declared.parameters.get("type", "OBJECT")).upper() != "OBJECT":
        raise Refused(f"* GenerateContentRequest.{_place(place)}: parameters schema should be of type OBJECT.\n")


def _schema_fault(fault: SchemaFault, place: tuple[str | int, ...]) -> Refused:
    path = (*place, *(int(step) if step.isdigit() else step for step in fault.path))
    if fault.keyword is not None:
        return unknown_field(fault.keyword, path)
    return Refused(f"* GenerateContentRequest.{_place(path)}.{fault.message}\n", param=_place(path))


def _check_output(request: Request, name: str) -> None:
    config = request.config
    schemas = [schema for schema in (config.response_schema, config.response_json_schema) if schema is not None]
    if len(schemas) > 1:
        raise Refused("Only one of response_schema and response_json_schema may be set.")
    if schemas and config.response_mime_type not in ("application/json", "text/x.enum"):
        raise Refused("Response schema is only supported when response_mime_type is 'application/json'.")
    if config.response_mime_type not in (None, "text/plain", "application/json", "text/x.enum"):
        raise Refused(
            "* GenerateContentRequest.generation_config.response_mime_type: allowed mimetypes are `text/plain`, "
            "`application/json`, `application/xml`, `application/yaml` and `text/x.enum`.\n"
        )
    if config.response_mime_type == "application/json" and request.declarations and not name.startswith("gemini-3"):
        raise Refused("Function calling with a response mime type: 'application/json' is unsupported")
    fault = gemini_schema_fault(config.response_schema)
    if fault:
        raise _schema_fault(fault, ("generationConfig", "responseSchema"))


def _check_thinking(thinking: ThinkingConfig, name: str) -> None:
    if thinking.thinking_level is not None and thinking.thinking_budget is not None:
        raise Refused("You can only set only one of thinking budget and thinking level.")
    if thinking.thinking_level is not None and not name.startswith("gemini-3"):
        raise Refused("Thinking level is not supported for this model.")
    if thinking.thinking_budget == 0 and name.startswith(("gemini-2.5-pro", "gemini-3-pro")):
        raise Refused("Budget 0 is invalid. This model only works in thinking mode.")


# --- what the request asks ---


def _plan(request: Request, name: str) -> Plan:
    return plan(_ask(request, name))


def _ask(request: Request, name: str) -> Ask:
    text: str | None = None
    topic = ""
    said: list[tuple[str, str]] = []
    media: tuple[str, ...] = ()
    for content in request.contents:
        if content.role == "model":
            text, said, media = None, [], ()
            continue
        for part in content.parts:
            if part.text is not None:
                text = topic = part.text
            elif part.function_response is not None:
                said.append((part.function_response.name, _result_text(part.function_response.response)))
            elif part.inline_data is not None:
                size = len(decode_base64(part.inline_data.data) or b"")
                media += (f"{part.inline_data.mime_type} {size} bytes",)
            elif part.file_data is not None:
                media += (f"{(part.file_data.mime_type or 'file').split('/')[0]} URL",)
    config = request.config
    return Ask(
        text=text,
        topic=topic,
        said=tuple(said),
        media=media,
        system=tuple(part.text for part in _system_parts(request) if part.text),
        offers=_offers(request),
        forced=_forced(request),
        thinks=bool(config.thinking_config and config.thinking_config.include_thoughts),
        schema=_schema(config),
        limit=config.max_output_tokens,
        stops=tuple(config.stop_sequences or ()),
        prompt=tuple(_prompt(request)),
    )


def _system_parts(request: Request) -> list[Part]:
    return request.system_instruction.parts if request.system_instruction else []


def _prompt(request: Request) -> Iterator[str]:
    for part in [*_system_parts(request), *(part for content in request.contents for part in content.parts)]:
        if part.text is not None and not part.thought:
            yield part.text
        if part.function_call is not None:
            yield part.function_call.name + " " + write_json(part.function_call.args or {}).decode()
        if part.function_response is not None:
            yield _result_text(part.function_response.response)
    for declared in request.declarations:
        yield f"{declared.name} {declared.description or ''}"


def _result_text(response: Node) -> str:
    """A single `output`, `result` or `error` that is text speaks for itself; anything else is shown as JSON."""
    value = next(iter(response.values())) if response.keys() & {"output", "result", "error"} else None
    if len(response) == 1 and isinstance(value, str):
        return value
    return write_json(value if len(response) == 1 and value is not None else response).decode()


def _offers(request: Request) -> tuple[Offer, ...]:
    calling = (request.tool_config or ToolConfig()).function_calling_config or FunctionCalling()
    if calling.mode == "NONE":
        return ()
    allowed = calling.allowed_function_names
    return tuple(
        Offer(declared.name, declared.parameters_json_schema or declared.parameters)
        for declared in request.declarations
        if not allowed or declared.name in allowed
    )


def _forced(request: Request) -> str | None:
    calling = (request.tool_config or ToolConfig()).function_calling_config
    return "*" if calling is not None and calling.mode == "ANY" else None


def _schema(config: GenerationConfig) -> Json:
    if config.response_mime_type != "application/json":
        return None
    schema = config.response_json_schema if config.response_schema is None else config.response_schema
    return {} if schema is None else schema


# --- how the answer is written ---


def _response(answer: Plan, name: str, received: Received) -> Written:
    parts: list[Written] = [{"text": answer.thought, "thought": True}] if answer.thought else []
    if answer.text or not answer.calls:
        parts.append({"text": answer.text} | ({} if answer.calls else _signed(answer, name)))
    parts.extend(_call_parts(answer, name, received))
    return _chunk(parts, answer, name, received, is_last=True)


def _chunks(answer: Plan, name: str, received: Received) -> Iterator[Written]:
    """Text in pieces, all calls whole and together; the last chunk carries finish, usage and a part."""
    for word in pieces(answer.thought):
        yield _chunk([{"text": word, "thought": True}], answer, name, received)
    words = pieces(answer.text)
    signature = _signed(answer, name)
    for at, word in enumerate(words):
        is_last = at == len(words) - 1 and not answer.calls and not signature
        yield _chunk([{"text": word}], answer, name, received, is_last=is_last)
    if answer.calls:
        yield _chunk(_call_parts(answer, name, received), answer, name, received, is_last=True)
    elif signature or not words:
        yield _chunk([{"text": ""} | signature], answer, name, received, is_last=True)


def _chunk(parts: list[Written], answer: Plan, name: str, received: Received, *, is_last: bool = False) -> Written:
    candidate: Written = {"content": {"parts": parts, "role": "model"}}
    if is_last:
        candidate["finishReason"] = _FINISH[answer.finish]
    return {
        "candidates": [candidate | {"index": 0}],
        "usageMetadata": _usage(answer),
        "modelVersion": name,
        "responseId": received.seed[:22],
    }


def _call_parts(answer: Plan, name: str, received: Received) -> list[Written]:
    """The calls of one step; only the first is signed, and only Gemini 3 gives them ids."""
    parts: list[Written] = []
    for index, call in enumerate(answer.calls):
        written: Written = {"name": call.name, "args": Raw(call.arguments.encode())}
        if name.startswith("gemini-3"):
            written["id"] = _call_id(received, index)
        parts.append({"functionCall": written} | ({} if index else _signed(answer, name)))
    return parts


def _call_id(received: Received, index: int) -> str:
    return f"{received.seed[:6]}{index:02d}"


def _signed(answer: Plan, name: str) -> Written:
    if not answer.thought and not name.startswith("gemini-3"):
        return {}
    bound = answer.thought + answer.text + "".join(call.name for call in answer.calls)
    return {"thoughtSignature": base64.b64encode(seal(_SIGNATURE[0], bound, _SIGNATURE[1])).decode()}


def _usage(answer: Plan) -> Written:
    thoughts: Written = {"thoughtsTokenCount": answer.thought_words} if answer.thought else {}
    return {
        "promptTokenCount": answer.input_words,
        "candidatesTokenCount": answer.output_words - answer.thought_words,
        "totalTokenCount": answer.input_words + answer.output_words,
        "cachedContentTokenCount": 0,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": answer.input_words}],
    } | thoughts


def _described(name: str) -> Written:
    return {
        "name": f"models/{name}",
        "version": "001",
        "displayName": name,
        "description": "A simulated model",
        "inputTokenLimit": 1_048_576,
        "outputTokenLimit": 65_536,
        "supportedGenerationMethods": ["generateContent", "countTokens"],
        "temperature": 1,
        "topP": 0.95,
        "topK": 64,
        "maxTemperature": 2,
        "thinking": True,
    }
