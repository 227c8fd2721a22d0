"""An answer as it happens.

Grammar of one answer::

    Start (PartStart (TextDelta | ReasoningDelta | ArgsDelta | Signed)* PartEnd | UsageSeen | Ping)* (Finish | Failed)

Invariants, kept by every reader and relied upon by every writer:

* `Start` comes once and first; exactly one of `Finish` and `Failed` comes last. An answer that simply stops is
  `Failed`: a broken upstream is never reported as a clean finish.
* Part numbers are unique within an answer and rise in order of `PartStart`. Several parts may be open at once;
  `linear` turns that into one at a time for dialects that need it.
* `PartStart` of a call knows its id and name; readers buffer until both are known.
* Deltas are never empty. `Signed` comes at most once per part, before its `PartEnd`.
* `PartEnd.is_complete` is False when the upstream stopped inside the part.
"""

from typing import Literal

from msgspec import Struct

from cliproxy.canon.errors import Problem
from cliproxy.canon.parts import Media, Signature
from cliproxy.canon.usage import Usage

FinishReason = Literal[
    "stop",
    "stop_sequence",
    "length",
    "context_overflow",
    "tool_calls",
    "content_filter",
    "refusal",
    "recitation",
    "pause",
]
PartKind = Literal["text", "reasoning", "call", "refusal", "media", "opaque"]


class Start(Struct, frozen=True, gc=False):
    """`created` is epoch seconds, 0 when the upstream does not tell. `model` is the upstream's name."""

    id: str = ""
    model: str = ""
    created: int = 0


class PartStart(Struct, frozen=True, gc=False):
    part: int
    kind: PartKind
    call_id: str = ""
    name: str = ""
    namespace: str = ""
    is_custom: bool = False
    is_raw: bool = False
    item_id: str = ""


class TextDelta(Struct, frozen=True, gc=False):
    """Also the text of a refusal part."""

    part: int
    text: str


class ReasoningDelta(Struct, frozen=True, gc=False):
    """A new `segment` number starts a new summary part within the same reasoning part."""

    part: int
    text: str
    segment: int = 0


class ArgsDelta(Struct, frozen=True, gc=False):
    """A piece of a call's JSON text, or of its free text when the call is custom."""

    part: int
    text: str


class Signed(Struct, frozen=True, gc=False):
    part: int
    signature: Signature


class MediaOut(Struct, frozen=True):
    """A whole generated image or sound."""

    part: int
    media: Media


class OpaqueOut(Struct, frozen=True):
    """A whole output part that only `dialect` understands; raw JSON text."""

    part: int
    dialect: str
    type: str
    data: str


class PartEnd(Struct, frozen=True, gc=False):
    part: int
    is_complete: bool = True


class UsageSeen(Struct, frozen=True):
    usage: Usage


class Finish(Struct, frozen=True, gc=False):
    """`native` is the vendor's word. `stop_sequence` is the text that matched, if the vendor tells."""

    reason: FinishReason
    native: str = ""
    stop_sequence: str = ""
    detail: str = ""


class Failed(Struct, frozen=True):
    problem: Problem


class Ping(Struct, frozen=True, gc=False):
    """The upstream is alive; carries nothing."""


Event = (
    Start
    | PartStart
    | TextDelta
    | ReasoningDelta
    | ArgsDelta
    | Signed
    | MediaOut
    | OpaqueOut
    | PartEnd
    | UsageSeen
    | Finish
    | Failed
    | Ping
)
