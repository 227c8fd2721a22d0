"""A whole answer, and its two-way relation to events: `fold` makes one of events, `unfold` makes events of one."""

from collections.abc import Iterable

from msgspec import Struct

from cliproxy.canon.errors import BrokenAnswer, UpstreamRefused
from cliproxy.canon.events import (
    ArgsDelta,
    Event,
    Failed,
    Finish,
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
from cliproxy.canon.parts import Image, Media, Opaque, Part, Reasoning, Refusal, Signature, Text, ToolCall
from cliproxy.canon.usage import Usage


class Answer(Struct, frozen=True):
    """`parts` holds Text, Reasoning, ToolCall, Refusal, Image and Opaque parts in the order they were started."""

    parts: tuple[Part, ...]
    finish: Finish
    id: str = ""
    model: str = ""
    created: int = 0
    usage: Usage | None = None


class _Piece:
    """One part while it is being folded."""

    __slots__ = ("media", "opaque", "segments", "signature", "start", "texts")

    def __init__(self, start: PartStart) -> None:
        self.start = start
        self.texts: list[str] = []
        self.segments: dict[int, list[str]] = {}
        self.signature: Signature | None = None
        self.media: Media | None = None
        self.opaque: OpaqueOut | None = None

    def part(self) -> Part | None:
        start, text = self.start, "".join(self.texts)
        match start.kind:
            case "text":
                return Text(text, signature=self.signature)
            case "refusal":
                return Refusal(text)
            case "reasoning":
                segments = tuple("".join(pieces) for _, pieces in sorted(self.segments.items()))
                return Reasoning(segments, start.is_raw, self.signature, start.item_id)
            case "call":
                arguments = text if start.is_custom else text or "{}"
                return ToolCall(
                    start.call_id,
                    start.name,
                    arguments,
                    start.is_custom,
                    start.namespace,
                    start.item_id,
                    self.signature,
                )
            case "media":
                return Image(self.media) if self.media else None
            case "opaque":
                return Opaque(self.opaque.dialect, self.opaque.type, self.opaque.data) if self.opaque else None


def fold(events: Iterable[Event]) -> Answer:
    """The answer that the events tell.

    Raises UpstreamRefused with the upstream's own problem when they end in `Failed`, BrokenAnswer when they just end.
    """
    start, usage, finish = Start(), None, None
    pieces: dict[int, _Piece] = {}
    for event in events:
        match event:
            case TextDelta(part, text) | ArgsDelta(part, text):
                pieces[part].texts.append(text)
            case ReasoningDelta(part, text, segment):
                pieces[part].segments.setdefault(segment, []).append(text)
            case PartStart(part):
                pieces[part] = _Piece(event)
            case Signed(part, signature):
                pieces[part].signature = signature
            case MediaOut(part, media):
                pieces[part].media = media
            case OpaqueOut(part):
                pieces[part].opaque = event
            case UsageSeen(seen):
                usage = seen if usage is None else usage.merged(seen)
            case Start():
                start = event
            case Finish():
                finish = event
            case Failed(problem):
                raise UpstreamRefused(problem=problem)
            case PartEnd() | Ping():
                pass
    if finish is None:
        raise BrokenAnswer("The upstream's answer ended before it was complete.")
    parts = tuple(whole for piece in pieces.values() if (whole := piece.part()) is not None)
    return Answer(parts, finish, start.id, start.model, start.created, usage)


def unfold(answer: Answer) -> list[Event]:
    """The events of an answer that arrived whole; `fold(unfold(a)) == a`."""
    events: list[Event] = [Start(answer.id, answer.model, answer.created)]
    for number, part in enumerate(answer.parts):
        _unfold_part(number, part, events)
    if answer.usage is not None:
        events.append(UsageSeen(answer.usage))
    events.append(answer.finish)
    return events


def _unfold_part(number: int, part: Part, events: list[Event]) -> None:
    match part:
        case Text(text, _, signature):
            events.append(PartStart(number, "text"))
            if text:
                events.append(TextDelta(number, text))
            if signature:
                events.append(Signed(number, signature))
        case Refusal(text):
            events += [PartStart(number, "refusal"), TextDelta(number, text)]
        case Reasoning(segments, is_raw, signature, item_id):
            events.append(PartStart(number, "reasoning", is_raw=is_raw, item_id=item_id))
            events += [ReasoningDelta(number, text, index) for index, text in enumerate(segments) if text]
            if signature:
                events.append(Signed(number, signature))
        case ToolCall():
            events.append(
                PartStart(
                    number,
                    "call",
                    part.id,
                    part.name,
                    part.namespace,
                    is_custom=part.is_custom,
                    item_id=part.item_id,
                )
            )
            if part.arguments:
                events.append(ArgsDelta(number, part.arguments))
            if part.signature:
                events.append(Signed(number, part.signature))
        case Image(media):
            events += [PartStart(number, "media"), MediaOut(number, media)]
        case Opaque(dialect, kind, data):
            events += [PartStart(number, "opaque"), OpaqueOut(number, dialect, kind, data)]
        case _:
            return
    events.append(PartEnd(number))
