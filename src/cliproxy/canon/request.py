"""A caller's request, free of dialect: the conversation, the tools and the wishes about the answer.

Every scalar is `None` when the caller did not say; a default belongs to whoever serves the request, never to a codec.
"""

from typing import Literal

from msgspec import Struct

from cliproxy.canon.parts import Cache, Text, Turn


class Tool(Struct, frozen=True):
    """A tool on offer.

    `function` tools have `schema`, JSON Schema as raw JSON text ("" = takes no arguments). `custom` tools take free
    text; `format` is their grammar as raw JSON text. `opaque` tools run at the vendor: raw JSON in `data`, portable
    only within `dialect`.
    """

    name: str
    kind: Literal["function", "custom", "opaque"] = "function"
    description: str = ""
    schema: str = ""
    is_strict: bool | None = None
    namespace: str = ""
    format: str = ""
    dialect: str = ""
    data: str = ""
    cache: Cache | None = None


class ToolChoice(Struct, frozen=True):
    """`allowed_*` restrict the choice to `names`; `one` has exactly one name."""

    mode: Literal["auto", "none", "required", "one", "allowed_auto", "allowed_required"]
    names: tuple[str, ...] = ()


class Sampling(Struct, frozen=True):
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    logit_bias: str = ""
    logprobs: bool | None = None
    top_logprobs: int | None = None


class Limits(Struct, frozen=True):
    max_output_tokens: int | None = None
    stop: tuple[str, ...] = ()
    n: int | None = None


class Thinking(Struct, frozen=True):
    """How much to reason, and what of it to show.

    `mode` None: the caller did not say. `level` is one of none, minimal, low, medium, high, xhigh, max; `budget` is
    in tokens. `is_shown` None: not said; `summary` is the wished detail (auto, concise, detailed) or "".
    """

    mode: Literal["off", "auto", "level", "budget"] | None = None
    level: str = ""
    budget: int = 0
    is_shown: bool | None = None
    summary: str = ""


class OutputFormat(Struct, frozen=True):
    """`schema` is raw JSON text; `name` and `description` may be ""."""

    kind: Literal["text", "json", "schema"] = "text"
    schema: str = ""
    name: str = ""
    description: str = ""
    is_strict: bool | None = None


class Meta(Struct, frozen=True):
    """Bookkeeping wishes. `metadata` is a raw JSON object or ""."""

    end_user: str = ""
    metadata: str = ""
    service_tier: str = ""
    cache_key: str = ""
    verbosity: str = ""
    store: bool | None = None
    wants_encrypted_reasoning: bool = False


class Request(Struct, frozen=True):
    """The whole request.

    `system` are the leading instruction blocks in order. `dropped` are JSON paths of fields that the dialect's reader
    understood as present but has no place for; writers of other dialects declare each of them as a loss.
    `wants_usage` is about streams only.
    """

    model: str
    is_stream: bool = False
    system: tuple[Text, ...] = ()
    turns: tuple[Turn, ...] = ()
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_calls: bool | None = None
    sampling: Sampling = Sampling()
    limits: Limits = Limits()
    thinking: Thinking = Thinking()
    output: OutputFormat = OutputFormat()
    meta: Meta = Meta()
    wants_usage: bool = False
    dropped: tuple[str, ...] = ()
