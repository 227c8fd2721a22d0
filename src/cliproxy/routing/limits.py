"""What vendors tell of an account's allowances: how much there is, how much is left, and when it is full again."""

from typing import Literal

from msgspec import Struct


class Limit(Struct, frozen=True, gc=False):
    """One allowance, as one answer told it.

    `name` is the vendor's: `requests`, `input-tokens`, `5h`, `7d`, `primary`, a quota's id. `total` and `remaining` are
    in its own unit (requests, tokens), None when untold. `left` is the share that remains, 0 to 1, None when untold and
    not to be reckoned. `resets_in` is seconds from the answer on, `window` its length in seconds, each None when untold.
    """

    name: str
    scope: Literal["model", "account"] = "account"
    total: float | None = None
    remaining: float | None = None
    left: float | None = None
    resets_in: float | None = None
    window: float | None = None
