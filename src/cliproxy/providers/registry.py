"""The providers that there are, in the order in which their accounts stand in line."""

from cliproxy.providers import claude, codex, gemini, openai_compat
from cliproxy.providers.base import Provider

PROVIDERS: tuple[Provider, ...] = (gemini.PROVIDER, claude.PROVIDER, codex.PROVIDER, openai_compat.PROVIDER)
