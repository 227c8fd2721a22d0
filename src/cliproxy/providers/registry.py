"""The providers that there are, in the order in which their accounts stand in line."""

from cliproxy.providers import (
    claude,
    claude_accounts,
    codex,
    codex_accounts,
    gemini,
    gemini_cli,
    openai_compat,
    qwen,
)
from cliproxy.providers.accounts import AccountProvider
from cliproxy.providers.base import KeyProvider

PROVIDERS: tuple[KeyProvider, ...] = (gemini.PROVIDER, claude.PROVIDER, codex.PROVIDER, openai_compat.PROVIDER)
ACCOUNT_PROVIDERS: tuple[AccountProvider, ...] = (
    gemini_cli.PROVIDER,
    claude_accounts.PROVIDER,
    codex_accounts.PROVIDER,
    qwen.PROVIDER,
)
KINDS: dict[str, AccountProvider] = {kind: provider for provider in ACCOUNT_PROVIDERS for kind in provider.kinds}
"""Who serves the accounts of each kind of credential file."""
