"""What an upstream's answer says about the account that gave it."""

from typing import Literal

from msgspec import Struct

from cliproxy.canon.errors import Problem

Fault = Literal[
    "caller", "auth", "billing", "quota", "exhausted", "missing", "identity", "overload", "network", "broken"
]
"""Whose fault and what kind:

* caller: the request itself; never touches health, never retried
* auth, billing: the account's key or its purse
* quota: out of allowance for a moment; exhausted: for hours, the plan or the day is used up
* missing: the account does not have this model
* identity: accounts of this kind do not serve callers of this kind; nothing is wrong with the account
* overload, network, broken: the vendor, or the way to it
"""


class Verdict(Struct, frozen=True):
    """`scope` is what must rest. `wait` is the upstream's own word in seconds, None when we have to guess."""

    fault: Fault
    problem: Problem
    scope: Literal["none", "model", "account"] = "none"
    wait: float | None = None


class Policy(Struct, frozen=True):
    """What a fault means: `moves_on` to another account without spending a retry; `first_rest` seconds, doubled with
    each further fault in a row up to `longest_rest`, when the upstream states no time of its own.

    `speaks_for_all`: every account of the same provider would say the same of this request.
    """

    moves_on: bool
    spends_retry: bool
    first_rest: float
    longest_rest: float
    speaks_for_all: bool = False


POLICIES: dict[Fault, Policy] = {
    "caller": Policy(moves_on=False, spends_retry=False, first_rest=0, longest_rest=0),
    "auth": Policy(moves_on=True, spends_retry=False, first_rest=60, longest_rest=3600),
    "billing": Policy(moves_on=True, spends_retry=False, first_rest=600, longest_rest=3600),
    "quota": Policy(moves_on=True, spends_retry=False, first_rest=1, longest_rest=1800),
    "exhausted": Policy(moves_on=True, spends_retry=False, first_rest=600, longest_rest=3600),
    "missing": Policy(moves_on=True, spends_retry=False, first_rest=600, longest_rest=3600),
    "identity": Policy(moves_on=True, spends_retry=False, first_rest=0, longest_rest=0, speaks_for_all=True),
    "overload": Policy(moves_on=True, spends_retry=True, first_rest=0, longest_rest=0),
    "network": Policy(moves_on=True, spends_retry=True, first_rest=0, longest_rest=0),
    "broken": Policy(moves_on=True, spends_retry=True, first_rest=0, longest_rest=0),
}
"""First form: overload and network faults do not rest an account, so that a single 5xx never empties the pool."""
