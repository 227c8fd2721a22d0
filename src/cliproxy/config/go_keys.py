"""Keys that the Go program knows and this one does not use.

They get a softer warning than a misspelt key: the file of someone who comes from there is not wrong, a few of its lines
just have no effect here. Rows are paths without list positions; `*` stands for every kind of upstream entry.

Source: reference/gateway.md 19 (Go program v7.2.140), checked 2026-03-01.
"""

from __future__ import annotations

GO_KEYS = frozenset(
    {
        "tls",
        "pprof",
        "ws-auth",
        "plugins",
        "home",
        "commercial-mode",
        "usage-statistics-enabled",
        "redis-usage-queue-retention-seconds",
        "logs-max-total-size-mb",
        "error-logs-max-files",
        "auth-auto-refresh-workers",
        "credential-concurrency",
        "credential-in-flight",
        "disable-cooling",
        "transient-error-cooldown-seconds",
        "save-cooldown-status",
        "nonstream-keepalive-interval",
        "passthrough-headers",
        "force-model-prefix",
        "oauth-model-alias",
        "oauth-model-mappings",
        "oauth-excluded-models",
        "oauth-request-scoped-errors",
        "payload",
        "request-scoped-errors",
        "disable-claude-cloak-mode",
        "claude-header-defaults",
        "claude-code",
        "codex",
        "codex-header-defaults",
        "interactions-api-key",
        "vertex-api-key",
        "xai-api-key",
        "ampcode",
        "disable-image-generation",
        "gpt-image-2-base-model",
        "video-result-auth-cache-ttl",
        "antigravity-signature-cache-enabled",
        "antigravity-signature-bypass-strict",
        "force-gpt-5-codex",
        "prioritize-model-mappings",
        "force-model-mappings",
        "remote-management.disable-control-panel",
        "remote-management.disable-auto-update-panel",
        "remote-management.panel-github-repository",
        "quota-exceeded.antigravity-credits",
        "streaming.bootstrap-retries",
        "*.request-retry",
        "*.request-scoped-errors",
        "*.disable-cooling",
        "*.websockets",
        "*.cloak",
        "*.fingerprint-profile",
        "*.note",
        "*.support-prompt-cache-key",
        "*.models.force-mapping",
        "*.models.is-compat",
        "*.models.thinking",
        "*.models.image",
        "*.models.fork",
        "*.models.input-modalities",
        "*.models.output-modalities",
    }
)
ENTRY_LISTS = frozenset({"gemini-api-key", "claude-api-key", "codex-api-key", "openai-compatibility"})


def is_go_key(path: str) -> bool:
    """Whether a path without `$` and list positions, such as `claude-api-key.cloak`, is one of theirs."""
    head, dot, rest = path.partition(".")
    return (f"*.{rest}" if dot and head in ENTRY_LISTS else path) in GO_KEYS
