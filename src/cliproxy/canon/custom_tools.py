"""Free-text tools for dialects that only know functions: a function with one string field, `input`.

The grammar of such a tool has no place in a JSON schema; it goes into the description, where models do honour it.
Wrapping and unwrapping happen exactly once each way.
"""

import msgspec
from msgspec import structs

from cliproxy.canon.losses import Loss
from cliproxy.canon.parts import Part, ToolCall, ToolResult, Turn
from cliproxy.canon.request import Request, Tool

_SCHEMA = '{"type":"object","properties":{"input":{"type":"string"}},"required":["input"],"additionalProperties":false}'


class _Wrapped(msgspec.Struct):
    input: str


_decode = msgspec.json.Decoder(_Wrapped).decode


def wrapped(text: str) -> str:
    return msgspec.json.encode({"input": text}).decode()


def unwrapped(arguments: str) -> str:
    """The free text in a model's arguments; the arguments themselves when the model did not keep to the field."""
    try:
        return _decode(arguments).input
    except msgspec.DecodeError:
        return "" if arguments.strip() in ("", "{}") else arguments


def emulate(request: Request) -> tuple[Request, tuple[Loss, ...]]:
    """`request` with free-text tools, their calls and results told as functions."""
    customs = tuple(tool.name for tool in request.tools if tool.kind == "custom")
    history = any(isinstance(part, ToolCall) and part.is_custom for turn in request.turns for part in turn.parts)
    if not customs and not history:
        return request, ()
    changed = structs.replace(
        request,
        tools=tuple(_as_function(tool) if tool.kind == "custom" else tool for tool in request.tools),
        turns=tuple(structs.replace(turn, parts=_as_functions(turn)) for turn in request.turns),
    )
    return changed, tuple(Loss(f"tools.{name}", "free-text tool told as a function", "emulated") for name in customs)


def _as_function(tool: Tool) -> Tool:
    description = tool.description
    if tool.format:
        description = f"{description}\n\nThe `input` field must follow this format: {tool.format}".strip()
    return structs.replace(tool, kind="function", description=description, schema=_SCHEMA, format="")


def _as_functions(turn: Turn) -> tuple[Part, ...]:
    parts: list[Part] = []
    for part in turn.parts:
        if isinstance(part, ToolCall) and part.is_custom:
            part = structs.replace(part, is_custom=False, arguments=wrapped(part.arguments), item_id="")
        elif isinstance(part, ToolResult) and part.is_custom:
            part = structs.replace(part, is_custom=False)
        parts.append(part)
    return tuple(parts)
