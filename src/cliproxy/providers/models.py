"""The models that we know by name: data, no logic but the look-up.

Vendors publish models faster than any table follows, so a missing row is never a refusal: unknown names pass by
family, and their capabilities are those of the longest matching prefix below.
Sources: the vendors' model pages, checked 2026-11-24.
"""

from cliproxy.canon.fit import Capability
from cliproxy.canon.models import ModelEntry

_ANTHROPIC, _GOOGLE, _OPENAI, _QWEN = "anthropic", "google", "openai", "qwen"

ROWS: tuple[ModelEntry, ...] = (
    ModelEntry("claude-opus-5", _ANTHROPIC, "Claude Opus 5", 1780272000, 1_000_000, 128_000),
    ModelEntry("claude-sonnet-5", _ANTHROPIC, "Claude Sonnet 5", 1780272000, 1_000_000, 128_000),
    ModelEntry("claude-fable-5", _ANTHROPIC, "Claude Fable 5", 1780272000, 1_000_000, 128_000),
    ModelEntry("claude-opus-4-8", _ANTHROPIC, "Claude Opus 4.8", 1777593600, 1_000_000, 128_000),
    ModelEntry("claude-opus-4-7", _ANTHROPIC, "Claude Opus 4.7", 1775001600, 1_000_000, 128_000),
    ModelEntry("claude-opus-4-6", _ANTHROPIC, "Claude Opus 4.6", 1770249600, 1_000_000, 128_000),
    ModelEntry("claude-sonnet-4-6", _ANTHROPIC, "Claude Sonnet 4.6", 1771286400, 200_000, 64_000),
    ModelEntry("claude-opus-4-5-20251101", _ANTHROPIC, "Claude Opus 4.5", 1761955200, 200_000, 64_000),
    ModelEntry("claude-haiku-4-5-20251001", _ANTHROPIC, "Claude Haiku 4.5", 1759276800, 200_000, 64_000),
    ModelEntry("claude-sonnet-4-5-20250929", _ANTHROPIC, "Claude Sonnet 4.5", 1759104000, 200_000, 64_000),
    ModelEntry("claude-opus-4-1-20250805", _ANTHROPIC, "Claude Opus 4.1", 1754352000, 200_000, 32_000),
    ModelEntry("claude-opus-4-20250514", _ANTHROPIC, "Claude Opus 4", 1747180800, 200_000, 32_000),
    ModelEntry("claude-sonnet-4-20250514", _ANTHROPIC, "Claude Sonnet 4", 1747180800, 200_000, 64_000),
    ModelEntry("claude-3-7-sonnet-20250219", _ANTHROPIC, "Claude 3.7 Sonnet", 1739923200, 200_000, 64_000),
    ModelEntry("claude-3-5-haiku-20241022", _ANTHROPIC, "Claude 3.5 Haiku", 1729555200, 200_000, 8_192),
    ModelEntry("gemini-3.7-flash", _GOOGLE, "Gemini 3.7 Flash", 1782864000, 1_048_576, 65_536),
    ModelEntry("gemini-3.6-flash", _GOOGLE, "Gemini 3.6 Flash", 1780272000, 1_048_576, 65_536),
    ModelEntry("gemini-3.5-flash", _GOOGLE, "Gemini 3.5 Flash", 1777593600, 1_048_576, 65_536),
    ModelEntry("gemini-3.5-flash-lite", _GOOGLE, "Gemini 3.5 Flash Lite", 1777593600, 1_048_576, 65_536),
    ModelEntry("gemini-3.1-pro-preview", _GOOGLE, "Gemini 3.1 Pro Preview", 1771459200, 1_048_576, 65_536),
    ModelEntry("gemini-3-pro-preview", _GOOGLE, "Gemini 3 Pro Preview", 1763424000, 1_048_576, 65_536),
    ModelEntry("gemini-3-flash-preview", _GOOGLE, "Gemini 3 Flash Preview", 1765929600, 1_048_576, 65_536),
    ModelEntry("gemini-2.5-pro", _GOOGLE, "Gemini 2.5 Pro", 1750118400, 1_048_576, 65_536),
    ModelEntry("gemini-2.5-flash", _GOOGLE, "Gemini 2.5 Flash", 1750118400, 1_048_576, 65_536),
    ModelEntry("gemini-2.5-flash-lite", _GOOGLE, "Gemini 2.5 Flash Lite", 1753142400, 1_048_576, 65_536),
    ModelEntry("gpt-5.6-sol", _OPENAI, "GPT-5.6 Sol", 1780272000, 372_000, 128_000),
    ModelEntry("gpt-5.6-terra", _OPENAI, "GPT-5.6 Terra", 1780272000, 372_000, 128_000),
    ModelEntry("gpt-5.6-luna", _OPENAI, "GPT-5.6 Luna", 1780272000, 372_000, 128_000),
    ModelEntry("gpt-5.5", _OPENAI, "GPT-5.5", 1776902400, 272_000, 128_000),
    ModelEntry("gpt-5.4", _OPENAI, "GPT-5.4", 1772668800, 1_050_000, 128_000),
    ModelEntry("gpt-5.4-mini", _OPENAI, "GPT-5.4 mini", 1772668800, 400_000, 128_000),
    ModelEntry("gpt-5", _OPENAI, "GPT-5", 1754524800, 400_000, 128_000),
    ModelEntry("codex-mini-latest", _OPENAI, "Codex mini", 1747353600, 200_000, 100_000),
    ModelEntry("coder-model", _QWEN, "Qwen Coder", 1753142400, 1_000_000, 65_536),
    ModelEntry("qwen3-coder-plus", _QWEN, "Qwen3 Coder Plus", 1753142400, 1_000_000, 65_536),
    ModelEntry("qwen3-coder-flash", _QWEN, "Qwen3 Coder Flash", 1753920000, 1_000_000, 65_536),
)

_FREE = ("gpt-5.5", "gpt-5.4-mini", "gpt-5.6-terra", "gpt-5.6-luna", "codex-auto-review")
_BUSINESS = (*_FREE, "gpt-5.4", "gpt-5.6-sol")
_PLUS = (*_BUSINESS, "gpt-5.3-codex-spark")
CODEX_PLANS: dict[str, tuple[str, ...]] = {
    "free": _FREE,
    "team": _BUSINESS,
    "business": _BUSINESS,
    "plus": _PLUS,
    "pro": _PLUS,
}
"""What Codex serves with each ChatGPT plan."""

GEMINI_CLI: tuple[str, ...] = (
    "gemini-2.5-pro",
    "gemini-2.5-flash",
    "gemini-2.5-flash-lite",
    "gemini-3-pro-preview",
    "gemini-3.1-pro-preview",
    "gemini-3-flash-preview",
    "gemini-3.1-flash-lite-preview",
)
"""What Code Assist serves."""

_ADAPTIVE = Capability(
    1_000_000,
    128_000,
    "level",
    levels=("low", "medium", "high", "xhigh", "max"),
    takes_sampling=False,
    takes_prefill=False,
)
_BUDGETED = Capability(200_000, 64_000, "budget", (1024, 128_000))
_GPT = Capability(0, 128_000, "level", levels=("low", "medium", "high", "xhigh"), takes_sampling=False)

_CAPABILITIES: dict[str, Capability] = {
    "claude-": _ADAPTIVE,
    "claude-opus-4-6": Capability(
        1_000_000, 128_000, "hybrid", (1024, 128_000), ("low", "medium", "high", "max"), takes_prefill=False
    ),
    "claude-sonnet-4-6": Capability(
        200_000, 64_000, "hybrid", (1024, 128_000), ("low", "medium", "high", "max"), takes_prefill=False
    ),
    "claude-opus-4-5": _BUDGETED,
    "claude-sonnet-4-5": _BUDGETED,
    "claude-haiku-4-5": _BUDGETED,
    "claude-opus-4-1": Capability(200_000, 32_000, "budget", (1024, 128_000)),
    "claude-opus-4-2": Capability(200_000, 32_000, "budget", (1024, 128_000)),
    "claude-opus-4-0": Capability(200_000, 32_000, "budget", (1024, 128_000)),
    "claude-sonnet-4-2": _BUDGETED,
    "claude-sonnet-4-0": _BUDGETED,
    "claude-3-7": _BUDGETED,
    "claude-3-5": Capability(200_000, 8_192, "none"),
    "claude-3-": Capability(200_000, 4_096, "none"),
    "gemini-2.5-pro": Capability(1_048_576, 65_536, "budget", (128, 32_768), can_disable=False),
    "gemini-2.5-flash": Capability(1_048_576, 65_536, "budget", (0, 24_576)),
    "gemini-3": Capability(1_048_576, 65_536, "level", levels=("minimal", "low", "medium", "high"), can_disable=False),
    "gemini-3-pro": Capability(1_048_576, 65_536, "level", levels=("low", "high"), can_disable=False),
    "gemini-3.1-pro": Capability(1_048_576, 65_536, "level", levels=("low", "medium", "high"), can_disable=False),
    "gpt-5": Capability(
        400_000,
        128_000,
        "level",
        levels=("minimal", "low", "medium", "high"),
        can_disable=False,
        takes_sampling=False,
    ),
    "gpt-5.": _GPT,
    "gpt-5.6": Capability(
        372_000, 128_000, "level", levels=("low", "medium", "high", "xhigh", "max"), takes_sampling=False
    ),
    "gpt-6": Capability(0, 128_000, "level", levels=("low", "medium", "high", "xhigh", "max"), takes_sampling=False),
    "gpt-4": Capability(thinking="none"),
}
_UNKNOWN = Capability()


def capability_of(model: str) -> Capability:
    """What the model of that name can do: the row of the longest prefix, else a model that we know nothing of."""
    for length in range(len(model), 0, -1):
        if (capability := _CAPABILITIES.get(model[:length])) is not None:
            return capability
    return _UNKNOWN


def rows_of(owner: str) -> tuple[ModelEntry, ...]:
    return tuple(row for row in ROWS if row.owner == owner)
