"""A model as lists show it."""

from msgspec import Struct


class ModelEntry(Struct, frozen=True):
    """One model in a list. `created` is epoch seconds; sizes are tokens, 0 when unknown."""

    id: str
    owner: str
    display_name: str
    created: int
    context: int = 0
    max_output: int = 0
