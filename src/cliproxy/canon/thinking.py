"""Reasoning controls: levels, budgets and the way between them.

The table is the one that users of such gateways know; it keeps a level's meaning when it must become a budget.
"""

from msgspec import structs

from cliproxy.canon.fit import Capability
from cliproxy.canon.losses import Loss
from cliproxy.canon.request import Thinking

LEVELS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_BUDGETS = {"none": 0, "minimal": 512, "low": 1024, "medium": 8192, "high": 24576, "xhigh": 32768, "max": 128000}


def budget_of(level: str) -> int:
    """Tokens for a level; an unknown level counts as medium."""
    return _BUDGETS.get(level, _BUDGETS["medium"])


def level_of(budget: int) -> str:
    """The level whose range holds `budget`; -1 (dynamic) has none and counts as medium."""
    if budget < 0:
        return "medium"
    for level in ("none", "minimal", "low", "medium", "high"):
        if budget <= _BUDGETS[level]:
            return level
    return "xhigh"


def nearest_level(level: str, levels: tuple[str, ...]) -> str:
    """`level` itself when listed, else the nearest listed one, the lower of two equally near."""
    if not levels or level in levels or level not in LEVELS:
        return level
    wanted = LEVELS.index(level)
    return min(
        (known for known in levels if known in LEVELS),
        key=lambda known: (abs(LEVELS.index(known) - wanted), LEVELS.index(known)),
        default=level,
    )


def split_suffix(model: str) -> tuple[str, Thinking | None]:
    """`name(value)` taken apart: the bare name and the control in it, or `model` whole and None.

    `value` is a level, `none`, `auto`, -1 or a number of tokens; anything else leaves the name as it is.
    """
    if not model.endswith(")") or (opening := model.rfind("(")) <= 0:
        return model, None
    value = model[opening + 1 : -1].strip().lower()
    if (thinking := _control_of(value)) is None:
        return model, None
    return model[:opening].rstrip(), thinking


def split_effort(model: str) -> tuple[str, Thinking | None]:
    """`name-level` taken apart, for names whose tail is a level. Only for names that are no models themselves."""
    base, dash, level = model.rpartition("-")
    if dash and base and level in LEVELS:
        return base, _control_of(level)
    return model, None


def _control_of(value: str) -> Thinking | None:
    if value in ("auto", "-1"):
        return Thinking("auto")
    if value in ("none", "0"):
        return Thinking("off")
    if value in LEVELS:
        return Thinking("level", level=value)
    if value.isascii() and value.isdigit() and len(value) < 10:
        return Thinking("budget", budget=int(value))
    return None


def resolved(thinking: Thinking, capability: Capability) -> tuple[Thinking, tuple[Loss, ...]]:
    """`thinking` in the words that the model understands, clamped to its range."""
    thinking = _plain(thinking)
    if thinking.mode is None or capability.thinking == "unknown":
        return thinking, ()
    if capability.thinking == "none":
        return _without(thinking)
    if thinking.mode == "off":
        return _off(thinking, capability)
    if thinking.mode == "auto":
        return thinking, ()
    if capability.thinking == "budget" or (capability.thinking == "hybrid" and thinking.mode == "budget"):
        return _as_budget(thinking, capability)
    return _as_level(thinking, capability)


def _plain(thinking: Thinking) -> Thinking:
    """`thinking` with one way to say each thing: no tokens and the level none are off, a negative budget is auto."""
    if (thinking.mode == "budget" and thinking.budget == 0) or (thinking.mode == "level" and thinking.level == "none"):
        return structs.replace(thinking, mode="off")
    if thinking.mode == "budget" and thinking.budget < 0:
        return structs.replace(thinking, mode="auto", budget=0)
    return thinking


def _without(thinking: Thinking) -> tuple[Thinking, tuple[Loss, ...]]:
    losses = () if thinking.mode == "off" else (Loss("thinking", "the model does not reason"),)
    return Thinking(is_shown=None), losses


def _off(thinking: Thinking, capability: Capability) -> tuple[Thinking, tuple[Loss, ...]]:
    if capability.can_disable:
        return structs.replace(thinking, level="none", budget=0), ()
    least = _as_level if capability.levels else _as_budget
    lowest = structs.replace(thinking, mode="level", level=capability.levels[0] if capability.levels else "minimal")
    changed, _ = least(lowest, capability)
    return changed, (Loss("thinking", "the model cannot stop reasoning; its least is asked for", "approximated"),)


def _as_budget(thinking: Thinking, capability: Capability) -> tuple[Thinking, tuple[Loss, ...]]:
    wanted = thinking.budget if thinking.mode == "budget" else budget_of(thinking.level)
    low, high = capability.budgets
    budget = max(wanted, low)
    budget = min(budget, high) if high else budget
    exact = thinking.mode == "budget" and budget == wanted
    losses = () if exact else (Loss("thinking", f"asked for as a budget of {budget} tokens", "approximated"),)
    return structs.replace(thinking, mode="budget", budget=budget, level=""), losses


def _as_level(thinking: Thinking, capability: Capability) -> tuple[Thinking, tuple[Loss, ...]]:
    wanted = thinking.level if thinking.mode == "level" else level_of(thinking.budget)
    level = nearest_level(wanted, capability.levels)
    exact = thinking.mode == "level" and level == thinking.level
    losses = () if exact else (Loss("thinking", f"asked for as the level {level}", "approximated"),)
    return structs.replace(thinking, mode="level", level=level, budget=0), losses
