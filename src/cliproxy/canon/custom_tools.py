"""Free-text tools for dialects that only know functions: a function with one string field, `input`.

The grammar of such a tool has no place in a JSON schema; it goes into the field's description, where models do honour
it. Wrapping and unwrapping happen exactly once each way.
"""

import msgspec
from msgspec import structs

from cliproxy.canon.losses import Loss
from cliproxy.canon.parts import Part, ToolCall, ToolResult, Turn
from cliproxy.canon.request import Request, Tool


class _Wrapped(msgspec.Struct):
    input: str


class _Grammar(msgspec.Struct):
    """A grammar as Responses says it, flat, or as Chat does, within `grammar`."""

    syntax: str = ""
    definition: str = ""
    grammar: "_Grammar | None" = None


_decode = msgspec.json.Decoder(_Wrapped | str).decode
_decode_format = msgspec.json.Decoder(_Grammar).decode


def wrapped(text: str) -> str:
    return msgspec.json.encode({"input": text}).decode()


def unwrapped(arguments: str, *, is_complete: bool = True) -> str:
    """The free text in a model's arguments; the arguments themselves when the model did not keep to the field.

    Of arguments that were cut short comes what they held so far.
    """
    for ending in ("",) if is_complete else ("", '"}'):
        try:
            value = _decode(arguments + ending)
        except msgspec.DecodeError:
            continue
        return value if isinstance(value, str) else value.input
    return "" if not is_complete or arguments.strip() in ("", "{}") else arguments


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
    field = {"type": "string", **({"description": told} if (told := _told(tool.format)) else {})}
    schema = {"type": "object", "properties": {"input": field}, "required": ["input"], "additionalProperties": False}
    return structs.replace(tool, kind="function", schema=msgspec.json.encode(schema).decode(), format="")


def _told(format_: str) -> str:
    """A format in words; "" for free text."""
    try:
        wire = _decode_format(format_ or "{}")
    except msgspec.DecodeError:
        return f"Must follow this format: {format_}"
    grammar = wire.grammar or wire
    return f"Must follow this {grammar.syntax} grammar:\n{grammar.definition}" if grammar.definition else ""


def _as_functions(turn: Turn) -> tuple[Part, ...]:
    parts: list[Part] = []
    for part in turn.parts:
        if isinstance(part, ToolCall) and part.is_custom:
            part = structs.replace(part, is_custom=False, arguments=wrapped(part.arguments), item_id="")
        elif isinstance(part, ToolResult) and part.is_custom:
            part = structs.replace(part, is_custom=False)
        parts.append(part)
    return tuple(parts)
