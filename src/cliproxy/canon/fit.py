"""What a dialect and a model can carry, as rows for the passes to bend a request by."""

from typing import Literal

from msgspec import Struct

from cliproxy.canon.parts import Family


class Fit(Struct, frozen=True):
    """The shape that a dialect demands of a conversation. Single fields (sampling and the like) are the writer's own.

    * `family`: whose signatures the dialect can return to their origin.
    * `name_charset`, `id_charset`: allowed characters, as the inside of a regex class; lengths are maxima.
    * `name_first`: allowed first characters of a tool name, "" for any of the charset.
    * `has_custom_tools`: free-text tools are native; otherwise they are emulated by functions with one `input`.
    * `has_namespaces`: tool namespaces are native; otherwise flattened to `namespace__name`.
    * `has_inline_instructions`: system turns may stand in mid-conversation; otherwise they become wrapped user text.
    * `has_result_media`: tool results may hold images and files; otherwise these follow as user parts.
    * `has_result_errors`: results have a flag for failure; otherwise the text says so.
    * `reasoning`: `signed` carries only items signed by `family`; `text` carries plain thoughts; `none` carries none.
    * `merges_turns`: adjacent turns of one speaker become one. `starts_with_user`: a minimal user turn is put first.
    * `takes_prefill`: the last turn may be the assistant's.
    * `needs_max_tokens`: the answer's length must be stated.
    """

    dialect: str
    family: Family
    name_charset: str = "A-Za-z0-9_-"
    name_first: str = ""
    name_length: int = 64
    id_charset: str = "\\x21-\\x7e"
    id_length: int = 64
    has_custom_tools: bool = False
    has_namespaces: bool = False
    has_inline_instructions: bool = True
    has_result_media: bool = True
    has_result_errors: bool = False
    reasoning: Literal["signed", "text", "none"] = "none"
    media: frozenset[str] = frozenset({"image", "audio", "video", "document"})
    merges_turns: bool = False
    starts_with_user: bool = False
    takes_prefill: bool = True
    needs_max_tokens: bool = False


class Capability(Struct, frozen=True):
    """What a model can do; the default describes a model that we know nothing of.

    `context` and `max_output` are in tokens, 0 when unknown. `thinking` says which control the model understands;
    `budgets` is the allowed range of the budget; `levels` are in rising order. `can_disable`: thinking can be off.
    `takes_sampling`: temperature, top_p and top_k are accepted.
    """

    context: int = 0
    max_output: int = 0
    thinking: Literal["unknown", "none", "budget", "level", "hybrid"] = "unknown"
    budgets: tuple[int, int] = (0, 0)
    levels: tuple[str, ...] = ()
    can_disable: bool = True
    takes_sampling: bool = True
    takes_prefill: bool = True
