"""The passes that bend a request to what a dialect and a model can carry.

`fitted` runs them in their one order; each takes a request and gives a request and the losses it caused. They are
pure, and the same request always comes out the same, prefix for prefix: vendors' prompt caches depend on that.
"""

from collections.abc import Callable

from msgspec import Struct, structs

from cliproxy.canon import custom_tools
from cliproxy.canon.errors import InvalidRequest
from cliproxy.canon.fit import Capability, Fit
from cliproxy.canon.losses import Loss
from cliproxy.canon.naming import ToolNames, name_tools
from cliproxy.canon.pairing import pair
from cliproxy.canon.parts import (
    Audio,
    Document,
    Image,
    Media,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
    Turn,
    Video,
)
from cliproxy.canon.request import Request, Sampling, ToolChoice
from cliproxy.canon.thinking import resolved

_FALLBACK_MAX_TOKENS = 32_000
_CONTINUE = "Continue."
_BEGIN = "."

_Losses = tuple[Loss, ...]


class Fitted(Struct, frozen=True):
    """A request that `fit` can carry, what bending it lost, and what its tool names stand for."""

    request: Request
    losses: _Losses
    names: ToolNames


def fitted(request: Request, fit: Fit, capability: Capability) -> Fitted:
    """Raises InvalidRequest for wishes that no translation can honour."""
    if (request.limits.n or 1) > 1:
        raise InvalidRequest("Only one answer per request can be translated; send n requests.", param="n")
    losses: list[Loss] = []
    request, names = name_tools(request, fit)
    for apply in _ORDER:
        request, lost = apply(request, fit, capability)
        losses += lost
    return Fitted(request, tuple(dict.fromkeys(losses)), names)


def _opaque(request: Request, fit: Fit, _: Capability) -> tuple[Request, _Losses]:
    """Leave out what only another dialect understands."""
    tools = tuple(tool for tool in request.tools if tool.kind != "opaque" or tool.dialect == fit.dialect)
    losses = [
        Loss(f"tools.{tool.name}", "this vendor's own tool exists only in its dialect")
        for tool in request.tools
        if tool.kind == "opaque" and tool.dialect != fit.dialect
    ]

    def own(parts: tuple[Part, ...]) -> tuple[Part, ...]:
        out: list[Part] = []
        for part in parts:
            if isinstance(part, Opaque) and part.dialect != fit.dialect:
                losses.append(Loss(f"turns.{part.type}", "this part exists only in its dialect"))
                continue
            out.append(structs.replace(part, content=own(part.content)) if isinstance(part, ToolResult) else part)
        return tuple(out)

    turns = tuple(structs.replace(turn, parts=own(turn.parts)) for turn in request.turns)
    return structs.replace(request, tools=tools, turns=turns), tuple(losses)


def _custom(request: Request, fit: Fit, _: Capability) -> tuple[Request, _Losses]:
    return (request, ()) if fit.has_custom_tools else custom_tools.emulate(request)


def _pairs(request: Request, fit: Fit, _: Capability) -> tuple[Request, _Losses]:
    turns, losses = pair(request.turns, fit)
    return structs.replace(request, turns=turns), losses


def _choice(request: Request, _fit: Fit, _: Capability) -> tuple[Request, _Losses]:
    """A choice without tools means nothing; of chosen tools only those on offer count, and without one it is auto."""
    choice, offered = request.tool_choice, {tool.name for tool in request.tools}
    if choice is None or not request.tools:
        return structs.replace(request, tool_choice=None), ()
    names = tuple(name for name in choice.names if name in offered)
    if names == choice.names:
        return request, ()
    loss = Loss("tool_choice", "a chosen tool is not on offer", "approximated")
    choice = structs.replace(choice, names=names) if names else ToolChoice("auto")
    return structs.replace(request, tool_choice=choice), (loss,)


def _reasoning(request: Request, fit: Fit, _: Capability) -> tuple[Request, _Losses]:
    """Keep reasoning that its own family will see again; drop the rest."""
    lost = False
    turns: list[Turn] = []
    for turn in request.turns:
        parts: list[Part] = []
        for part in turn.parts:
            kept = _own_reasoning(part, fit)
            lost = lost or (kept is None and not _is_empty(part))
            if kept is not None:
                parts.append(kept)
        turns.append(structs.replace(turn, parts=tuple(parts)))
    losses = (Loss("turns.reasoning", "reasoning returns only to the vendor that issued it"),) if lost else ()
    return structs.replace(request, turns=tuple(turns)), losses


def _own_reasoning(part: Part, fit: Fit) -> Part | None:
    match part:
        case Reasoning(segments, signature=signature):
            if fit.reasoning == "text" and segments:
                return structs.replace(part, signature=None, item_id="")
            return part if fit.reasoning == "signed" and signature and signature.family == fit.family else None
        case Text(signature=signature) | ToolCall(signature=signature) if signature:
            own = fit.reasoning == "signed" and signature.family == fit.family
            return part if own else structs.replace(part, signature=None)
        case _:
            return part


def _thinking(request: Request, _: Fit, capability: Capability) -> tuple[Request, _Losses]:
    thinking, losses = resolved(request.thinking, capability)
    return structs.replace(request, thinking=thinking), losses


def _hoisted(request: Request, _fit: Fit, _: Capability) -> tuple[Request, _Losses]:
    """Leading system and developer turns become `system` blocks, boundaries kept."""
    count = 0
    for turn in request.turns:
        if turn.role not in ("system", "developer") and not all(_is_empty(part) for part in turn.parts):
            break
        count += 1
    parts = [part for turn in request.turns[:count] for part in turn.parts if not _is_empty(part)]
    blocks = tuple(part for part in parts if isinstance(part, Text))
    losses = () if len(blocks) == len(parts) else (Loss("system", "instructions hold text only"),)
    return structs.replace(request, system=request.system + blocks, turns=request.turns[count:]), losses


def _instructions(request: Request, fit: Fit, _: Capability) -> tuple[Request, _Losses]:
    """Instructions in mid-conversation keep their place: as user text in a wrapper where no role exists for them."""
    if fit.has_inline_instructions or all(turn.role in ("user", "assistant") for turn in request.turns):
        return request, ()
    turns = tuple(_wrapped(turn) if turn.role in ("system", "developer") else turn for turn in request.turns)
    loss = Loss("turns.system", "instructions in mid-conversation became marked user text", "emulated")
    return structs.replace(request, turns=turns), (loss,)


def _wrapped(turn: Turn) -> Turn:
    """Text alone: the other parts that a role for instructions could hold are told as they are behind it."""
    texts = [part for part in turn.parts if isinstance(part, Text) and part.text.strip()]
    others = tuple(part for part in turn.parts if not isinstance(part, Text))
    if not texts:
        return Turn("user", others)
    words = "\n\n".join(part.text for part in texts)
    cache = next((part.cache for part in reversed(texts) if part.cache is not None), None)
    return Turn("user", (Text(f"<system-reminder>\n{words}\n</system-reminder>", cache), *others))


_MEDIA_NAMES: tuple[tuple[type[Part], str], ...] = (
    (Image, "image"),
    (Audio, "audio"),
    (Video, "video"),
    (Document, "document"),
)


def _media(request: Request, fit: Fit, _: Capability) -> tuple[Request, _Losses]:
    """Replace media that the dialect cannot carry by a note, so that the model knows that something was there."""
    losses: list[Loss] = []

    def carried(parts: tuple[Part, ...]) -> tuple[Part, ...]:
        out: list[Part] = []
        for part in parts:
            if isinstance(part, ToolResult):
                part = structs.replace(part, content=carried(part.content))
            elif (reason := _unfit_media(part, fit)) is not None:
                losses.append(reason)
                part = Text(f"[{reason.path.rpartition('.')[2]} left out]")
            out.append(part)
        return tuple(out)

    turns = tuple(structs.replace(turn, parts=carried(turn.parts)) for turn in request.turns)
    return structs.replace(request, turns=turns), tuple(losses)


def _unfit_media(part: Part, fit: Fit) -> Loss | None:
    name = next((name for kind, name in _MEDIA_NAMES if isinstance(part, kind)), None)
    if name is None:
        return None
    if name not in fit.media and not (isinstance(part, Document) and part.text):
        return Loss(f"turns.{name}", "the dialect has no place for it")
    media = part.media if isinstance(part, Image | Audio | Video | Document) else Media()
    if not (media.data or media.url or media.file_id or (isinstance(part, Document) and part.text)):
        return Loss(f"turns.{name}", "it has no usable content")
    return None


def _results(request: Request, fit: Fit, _: Capability) -> tuple[Request, _Losses]:
    """Media in results follow as user parts, and failures are said in words, where results cannot hold them."""
    losses: list[Loss] = []
    turns: list[Turn] = []
    for turn in request.turns:
        parts, moved = list[Part](), list[Part]()
        for part in turn.parts:
            if isinstance(part, ToolResult):
                part = _told_error(part, fit)
                if not fit.has_result_media:
                    part, media = _split_result(part)
                    moved += media
            parts.append(part)
        if moved:
            losses.append(Loss("turns.tool_result.media", "media of results follow as user parts", "emulated"))
            last = max(index for index, part in enumerate(parts) if isinstance(part, ToolResult))
            parts[last + 1 : last + 1] = moved
        turns.append(structs.replace(turn, parts=tuple(parts)))
    return structs.replace(request, turns=tuple(turns)), tuple(losses)


def _told_error(result: ToolResult, fit: Fit) -> ToolResult:
    if fit.has_result_errors or not result.is_error:
        return result
    return structs.replace(result, is_error=False, content=(Text("Error:"), *result.content))


def _split_result(result: ToolResult) -> tuple[ToolResult, list[Part]]:
    """The texts of `result`, plain documents among them, and its media, told whose they are."""
    texts = tuple(
        part for part in result.content if isinstance(part, Text) or (isinstance(part, Document) and part.text)
    )
    media = [part for part in result.content if part not in texts]
    if not media:
        return result, []
    note = Text(f"[{len(media)} attachment(s) of this result follow below]")
    return structs.replace(result, content=(*texts, note)), [Text(f"Attached to the result of {result.name}:"), *media]


def _turns(request: Request, fit: Fit, capability: Capability) -> tuple[Request, _Losses]:
    """Drop what is empty, merge what must be one, and see to the first and the last turn."""
    losses: list[Loss] = []
    turns = [kept for turn in request.turns if (kept := _without_empty(turn)) is not None]
    if fit.merges_turns:
        turns = _merged(turns)
    system = tuple(_without_blank(request.system))
    if not turns and system:
        losses.append(Loss("system", "a request of instructions only was sent as the user's words", "emulated"))
        turns, system = [Turn("user", system)], ()
    if not turns:
        raise InvalidRequest("The request holds nothing to send: no text, no media, no tool results.")
    if fit.starts_with_user and turns and turns[0].role == "assistant":
        losses.append(Loss("turns", "a minimal user turn was put before the first answer", "emulated"))
        turns.insert(0, Turn("user", (Text(_BEGIN),)))
    if turns and turns[-1].role == "assistant" and not (fit.takes_prefill and capability.takes_prefill):
        losses.append(Loss("turns", "the begun answer is followed by a request to continue it", "emulated"))
        turns.append(Turn("user", (Text(_CONTINUE),)))
    return structs.replace(request, turns=tuple(turns), system=system), tuple(losses)


def _without_blank(blocks: tuple[Text, ...]) -> list[Text]:
    """`blocks` without those of white space only; a cache breakpoint moves to the block before."""
    kept: list[Text] = []
    for block in blocks:
        if block.text.strip():
            kept.append(block)
        elif block.cache is not None and kept:
            kept[-1] = structs.replace(kept[-1], cache=block.cache)
    return kept


def _without_empty(turn: Turn) -> Turn | None:
    parts: list[Part] = []
    for part in turn.parts:
        if not _is_empty(part):
            parts.append(part)
        elif isinstance(part, Text) and part.cache and parts and isinstance(last := parts[-1], _Marked):
            parts[-1] = structs.replace(last, cache=part.cache)
    return structs.replace(turn, parts=tuple(parts)) if parts else None


_Marked = Text | Image | Document | ToolCall | ToolResult


def _is_empty(part: Part) -> bool:
    match part:
        case Text(text, signature=signature):
            return not text and signature is None
        case Refusal(text):
            return not text
        case Reasoning(segments, signature=signature):
            return signature is None and not any(segments)
        case _:
            return False


def _merged(turns: list[Turn]) -> list[Turn]:
    out: list[Turn] = []
    for turn in turns:
        if out and out[-1].role == turn.role:
            out[-1] = structs.replace(out[-1], parts=out[-1].parts + turn.parts)
        else:
            out.append(turn)
    return out


def _limits(request: Request, fit: Fit, capability: Capability) -> tuple[Request, _Losses]:
    """State a length where one is demanded, and never more than the model gives."""
    wanted, most = request.limits.max_output_tokens, capability.max_output
    if wanted is None:
        if not fit.needs_max_tokens:
            return request, ()
        limits = structs.replace(request.limits, max_output_tokens=most or _FALLBACK_MAX_TOKENS)
        return structs.replace(request, limits=limits), ()
    if not most or wanted <= most:
        return request, ()
    loss = Loss("limits.max_output_tokens", f"the model gives at most {most}", "approximated")
    return structs.replace(request, limits=structs.replace(request.limits, max_output_tokens=most)), (loss,)


def _sampling(request: Request, _: Fit, capability: Capability) -> tuple[Request, _Losses]:
    sampling = request.sampling
    if capability.takes_sampling:
        return request, ()
    named = ("temperature", "top_p", "top_k")
    losses = tuple(
        Loss(f"sampling.{name}", "the model does not take it") for name in named if getattr(sampling, name) is not None
    )
    changed: Sampling = structs.replace(sampling, temperature=None, top_p=None, top_k=None)
    return structs.replace(request, sampling=changed), losses


_Pass = Callable[[Request, Fit, Capability], tuple[Request, _Losses]]
_ORDER: tuple[_Pass, ...] = (
    _opaque,
    _custom,
    _pairs,
    _choice,
    _reasoning,
    _thinking,
    _hoisted,
    _instructions,
    _media,
    _results,
    _turns,
    _limits,
    _sampling,
)
