"""What an upstream's answer says about the account that gave it, and what follows from that."""

from typing import Literal

from msgspec import Struct

from cliproxy.canon.errors import Problem

Fault = Literal[
    "caller",
    "auth",
    "forbidden",
    "challenge",
    "suspended",
    "billing",
    "quota",
    "exhausted",
    "missing",
    "identity",
    "overload",
    "network",
    "broken",
]
"""Whose fault and what kind:

* caller: the request itself; never touches health, never retried
* auth: the account's credential is refused; forbidden: it is known, but this is not allowed to it
* challenge: the network in front of the vendor turned us away, not the vendor
* suspended: the vendor has closed the account, or its login; nothing changes that but the person whose it is
* billing: the account's purse is empty
* quota: out of allowance for a moment; exhausted: for hours, the plan or the day is used up
* missing: the account does not have this model
* identity: accounts of this kind do not serve callers of this kind; nothing is wrong with the account
* overload, network, broken: the vendor, or the way to it
"""

Scope = Literal["none", "model", "account"]
"""What must rest: nothing (the request alone is concerned), the model on this account, or the whole account."""

Source = Literal["header", "body", "guess"]
"""Who says how long: the vendor's headers, its body, or nobody."""

FOREVER = float("inf")
"""A wait with no end of its own: until somebody changes the account's file, or resets it."""


class Verdict(Struct, frozen=True):
    """`wait` is the upstream's own word in seconds, None when we have to guess; `source` says where it stood.
    `evidence` is the sign that led here, in the vendor's words and without secrets, such as
    `anthropic-ratelimit-unified-5h-status: rejected`."""

    fault: Fault
    problem: Problem
    scope: Scope = "none"
    wait: float | None = None
    source: Source = "guess"
    evidence: str = ""


class Policy(Struct, frozen=True):
    """What a fault means: `moves_on` to another account, and whether that spends a retry. Rests without a stated time
    are `first_rest` seconds and double with each further fault in a row up to `longest_rest`.

    `is_soft`: the fault says little about the account. The first in a row rests nothing, the account may be used while
    it rests when nobody else is left, and a stated time is believed up to `longest_rest`.
    `speaks_for_all`: every account of the same provider would say the same of this request.
    `ends_with_new_file`: a new login, or a change of the account's file, may have mended it.
    """

    moves_on: bool = True
    spends_retry: bool = False
    first_rest: float = 0.0
    longest_rest: float = 0.0
    is_soft: bool = False
    speaks_for_all: bool = False
    ends_with_new_file: bool = False


_HOUR = 3600.0

POLICIES: dict[Fault, Policy] = {
    "caller": Policy(moves_on=False),
    "auth": Policy(first_rest=60, longest_rest=_HOUR, ends_with_new_file=True),
    "forbidden": Policy(first_rest=1800, longest_rest=_HOUR, ends_with_new_file=True),
    "challenge": Policy(first_rest=10, longest_rest=_HOUR),
    "suspended": Policy(first_rest=FOREVER, longest_rest=FOREVER, ends_with_new_file=True),
    "billing": Policy(first_rest=1800, longest_rest=_HOUR),
    "quota": Policy(first_rest=1, longest_rest=1800),
    "exhausted": Policy(first_rest=600, longest_rest=_HOUR),
    "missing": Policy(first_rest=600, longest_rest=_HOUR),
    "identity": Policy(speaks_for_all=True),
    "overload": Policy(spends_retry=True, first_rest=5, longest_rest=60, is_soft=True),
    "network": Policy(spends_retry=True, first_rest=5, longest_rest=60, is_soft=True),
    "broken": Policy(spends_retry=True, first_rest=5, longest_rest=60, is_soft=True),
}
"""A guess never lasts longer than an hour, and one request tries before the others may."""
