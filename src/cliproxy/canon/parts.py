"""What a turn is made of: text, media, calls, results, reasoning.

A turn is an ordered tuple of parts. Parts hold meaning, never a vendor's wording; JSON that only the vendor or the
caller understands (tool arguments, schemas) stays the text that it was.
"""

from typing import Literal

from msgspec import Struct

Family = Literal["anthropic", "openai", "google", "unknown"]
"""Whose models issued a signature: a signature is valid only with the family that issued it."""


class Signature(Struct, frozen=True, gc=False):
    """An opaque proof or blob that a model attached to a part, to be returned to its own family unchanged."""

    value: str
    family: Family
    kind: Literal["signature", "encrypted", "redacted"] = "signature"


class Media(Struct, frozen=True, gc=False):
    """Bytes by value or by reference; exactly one of `data`, `url`, `file_id` is set.

    `mime` is lower-case without parameters ("" when unknown); `data` is standard base64 with padding.
    """

    mime: str = ""
    data: str = ""
    url: str = ""
    file_id: str = ""


class Cache(Struct, frozen=True, gc=False):
    """A prompt-cache breakpoint after the part that carries it; `ttl` is the vendor's word ("5m", "1h") or ""."""

    ttl: str = ""


class Text(Struct, frozen=True):
    text: str
    cache: Cache | None = None
    signature: Signature | None = None


class Image(Struct, frozen=True):
    media: Media
    detail: str = ""
    cache: Cache | None = None


class Audio(Struct, frozen=True):
    media: Media


class Video(Struct, frozen=True):
    media: Media


class Document(Struct, frozen=True):
    """A file for reading. Plain-text documents hold `text`; all others `media`."""

    media: Media = Media()
    text: str = ""
    filename: str = ""
    title: str = ""
    context: str = ""
    cache: Cache | None = None


class ToolCall(Struct, frozen=True):
    """A call that the model made. `arguments` is JSON text, or free text when `is_custom`."""

    id: str
    name: str
    arguments: str
    is_custom: bool = False
    namespace: str = ""
    item_id: str = ""
    signature: Signature | None = None
    cache: Cache | None = None


class ToolResult(Struct, frozen=True):
    """What the caller's tool answered. `content` holds Text, Image, Audio, Video and Document parts."""

    call_id: str
    content: "tuple[Part, ...]" = ()
    name: str = ""
    is_error: bool = False
    is_custom: bool = False
    cache: Cache | None = None


class Reasoning(Struct, frozen=True):
    """One reasoning item: ordered segments (summary parts, or raw thoughts when `is_raw`) and its signature."""

    segments: tuple[str, ...] = ()
    is_raw: bool = False
    signature: Signature | None = None
    item_id: str = ""


class Refusal(Struct, frozen=True):
    text: str


class Opaque(Struct, frozen=True):
    """A part that we do not model: raw JSON that only `dialect` can write back."""

    dialect: str
    type: str
    data: str


Part = Text | Image | Audio | Video | Document | ToolCall | ToolResult | Reasoning | Refusal | Opaque

Role = Literal["user", "assistant", "system", "developer"]


class Turn(Struct, frozen=True):
    """Consecutive parts of one speaker. `system` and `developer` turns are instructions in mid-conversation."""

    role: Role
    parts: tuple[Part, ...]
    name: str = ""
    phase: str = ""


def text_of(parts: tuple[Part, ...], separator: str = "") -> str:
    """The visible text of `parts`, joined."""
    return separator.join(part.text for part in parts if isinstance(part, Text))
