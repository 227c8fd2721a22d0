"""Tool names and call ids: bent to what a dialect allows, reversibly and deterministically.

A name that fits stays. One that does not gets its bad characters replaced and a short hash of the original, so that
two names never meet and a name never depends on which other tools stand beside it (prompt caches hang on that). Only
when a caller's own name is the very form that another got does that other one get a second hash.

Models sometimes say a name nearly right; `NameRestorer` takes it for the one declared tool that it can only mean.
"""

import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache

from msgspec import Struct, structs

from cliproxy.canon.custom_tools import unwrapped
from cliproxy.canon.events import ArgsDelta, Event, Failed, Finish, PartEnd, PartStart
from cliproxy.canon.fit import Fit
from cliproxy.canon.parts import Part, ToolCall, ToolResult, Turn
from cliproxy.canon.request import Request, Tool, ToolChoice

_HASH_LENGTH = 8
_STRAY_PREFIXES = ("default_api:", "default_api.")
"""What Gemini's models put before the names of functions at times."""


class ToolRef(Struct, frozen=True, gc=False):
    """The caller's own way to say a tool."""

    name: str
    namespace: str = ""
    is_custom: bool = False


class ToolNames(Struct, frozen=True):
    """What the names in an answer stand for: `refs` holds only tools whose wire form differs from the caller's,
    `declared` the wire forms of all that are on offer."""

    refs: dict[str, ToolRef]
    declared: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.refs or self.declared)


def legal(text: str, charset: str, length: int, first: str = "") -> str:
    """`text` within the rules; unchanged when it already is. Different texts stay different."""
    pattern = _pattern(charset, length, first)
    return text if pattern.fullmatch(text) else _hashed(text, text, charset, length, first)


def _hashed(text: str, origin: str, charset: str, length: int, first: str = "") -> str:
    """`text` within the rules and with the hash of `origin` at its end."""
    clean = re.sub(f"[^{charset}]", "_", text)
    if first and not re.match(f"[{first}]", clean):
        clean = f"_{clean}"
    digest = hashlib.sha256(origin.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_LENGTH]
    return f"{_shortened(clean, length - _HASH_LENGTH - 1)}_{digest}"


@lru_cache(64)
def _pattern(charset: str, length: int, first: str) -> re.Pattern[str]:
    head = f"[{first}]" if first else f"[{charset}]"
    return re.compile(f"{head}[{charset}]{{0,{length - 1}}}")


def _shortened(name: str, length: int) -> str:
    """`mcp__server__tool` keeps its telling ends; anything else its beginning."""
    if len(name) > length and name.startswith("mcp__") and (tail := name.rpartition("__")[2]):
        name = f"mcp__{tail}"
    return name[:length]


def qualified(namespace: str, name: str) -> str:
    return name if not namespace or name.startswith(f"{namespace}__") else f"{namespace}__{name}"


def wire_name(ref: ToolRef, fit: Fit) -> str:
    name = ref.name if fit.has_namespaces else qualified(ref.namespace, ref.name)
    return legal(name, fit.name_charset, fit.name_length, fit.name_first)


def name_tools(request: Request, fit: Fit) -> tuple[Request, ToolNames]:
    """`request` with every tool name, declared or only mentioned in history, in its wire form."""
    mentioned = {(ref.namespace, ref.name): ref for ref in reversed(tuple(_mentioned(request)))}
    table = _wire_names(mentioned, fit)
    refs: dict[str, ToolRef] = {}
    for key, ref in mentioned.items():
        emulated = ref.is_custom and not fit.has_custom_tools
        if emulated or _is_changed(ref, table[key], fit):
            refs[table[key]] = ToolRef(ref.name, ref.namespace, emulated)
    declared = tuple(table[tool.namespace, tool.name] for tool in request.tools if tool.kind != "opaque")
    names = ToolNames(refs, declared)
    if not any(_is_changed(ref, table[key], fit) for key, ref in mentioned.items()):
        return request, names
    by_name = {name: wire for (_, name), wire in table.items()}
    return (
        structs.replace(
            request,
            tools=tuple(_renamed_tool(tool, table, fit) for tool in request.tools),
            tool_choice=_renamed_choice(request.tool_choice, by_name),
            turns=tuple(_renamed_turn(turn, table, by_name, fit) for turn in request.turns),
        ),
        names,
    )


def _is_changed(ref: ToolRef, wire: str, fit: Fit) -> bool:
    return wire != ref.name or bool(ref.namespace and not fit.has_namespaces)


def _wire_names(mentioned: dict[tuple[str, str], ToolRef], fit: Fit) -> dict[tuple[str, str], str]:
    """The wire form of each tool. Names that stay as they are go first; then the order does not depend on the caller's."""
    table = {key: wire_name(ref, fit) for key, ref in mentioned.items()}
    changed = {key for key, ref in mentioned.items() if _is_changed(ref, table[key], fit)}
    taken = {wire for key, wire in table.items() if key not in changed}
    for key in sorted(changed):
        wire, attempt = table[key], 0
        while wire in taken:
            attempt += 1
            wire = _hashed(wire, f"{key}{attempt}", fit.name_charset, fit.name_length, fit.name_first)
        taken.add(wire)
        table[key] = wire
    return table


def _mentioned(request: Request) -> Iterable[ToolRef]:
    for tool in request.tools:
        if tool.kind != "opaque":
            yield ToolRef(tool.name, tool.namespace, tool.kind == "custom")
    for turn in request.turns:
        for part in turn.parts:
            if isinstance(part, ToolCall):
                yield ToolRef(part.name, part.namespace, part.is_custom)


def _renamed_tool(tool: Tool, table: dict[tuple[str, str], str], fit: Fit) -> Tool:
    if tool.kind == "opaque":
        return tool
    namespace = tool.namespace if fit.has_namespaces else ""
    return structs.replace(tool, name=table[tool.namespace, tool.name], namespace=namespace)


def _renamed_choice(choice: ToolChoice | None, by_name: dict[str, str]) -> ToolChoice | None:
    if choice is None or not choice.names:
        return choice
    return structs.replace(choice, names=tuple(by_name.get(name, name) for name in choice.names))


def _renamed_turn(turn: Turn, table: dict[tuple[str, str], str], by_name: dict[str, str], fit: Fit) -> Turn:
    parts: list[Part] = []
    for part in turn.parts:
        if isinstance(part, ToolCall):
            namespace = part.namespace if fit.has_namespaces else ""
            part = structs.replace(part, name=table[part.namespace, part.name], namespace=namespace)
        elif isinstance(part, ToolResult) and part.name:
            part = structs.replace(part, name=by_name.get(part.name, part.name))
        parts.append(part)
    return structs.replace(turn, parts=tuple(parts))


class NameRestorer:
    """Gives an answer's calls back under the caller's names.

    Emulated free-text tools are unwrapped: their JSON is gathered and leaves as one piece of text, since an escaped
    string cannot be unescaped across arbitrary cuts without a parser that the rare case does not deserve.
    """

    __slots__ = ("_gathered", "_names")

    def __init__(self, names: ToolNames) -> None:
        self._names = names
        self._gathered: dict[int, list[str]] = {}

    def push(self, events: list[Event]) -> list[Event]:
        if not self._gathered and not any(isinstance(event, PartStart) for event in events):
            return events
        out: list[Event] = []
        for event in events:
            match event:
                case PartStart(kind="call"):
                    out.append(self._restored(event))
                case ArgsDelta(part, text) if part in self._gathered:
                    self._gathered[part].append(text)
                case PartEnd(part, is_complete) if part in self._gathered:
                    if text := unwrapped("".join(self._gathered.pop(part)), is_complete=is_complete):
                        out.append(ArgsDelta(part, text))
                    out.append(event)
                case Finish() | Failed():
                    self._gathered.clear()
                    out.append(event)
                case _:
                    out.append(event)
        return out

    def _restored(self, start: PartStart) -> PartStart:
        name = _meant(start.name, self._names)
        ref = self._names.refs.get(name)
        if ref is None:
            return start if name == start.name else structs.replace(start, name=name)
        if ref.is_custom:
            self._gathered[start.part] = []
        namespace, is_custom = start.namespace or ref.namespace, start.is_custom or ref.is_custom
        return structs.replace(start, name=ref.name, namespace=namespace, is_custom=is_custom)


def _meant(name: str, names: ToolNames) -> str:
    """The wire name that a model means: `name` itself, the only declared one that differs in case, the declared one
    behind a stray prefix; `name` as it is when nothing of this holds."""
    if name in names.refs or name in names.declared:
        return name
    alike = {known for known in names.declared if known.lower() == name.lower()}
    if len(alike) == 1:
        return alike.pop()
    for prefix in _STRAY_PREFIXES:
        if name.startswith(prefix) and name.removeprefix(prefix) in names.declared:
            return name.removeprefix(prefix)
    return name
