"""What translation could not carry, as values: a loss that is not declared is a bug."""

from typing import Literal

from msgspec import Struct

Action = Literal["dropped", "emulated", "approximated"]


class Loss(Struct, frozen=True, order=True):
    """`path` names the canonical field (`tools.web_search`, `sampling.seed`); `reason` is a short sentence."""

    path: str
    reason: str
    action: Action = "dropped"
