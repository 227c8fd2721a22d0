"""The first start without a configuration: one is written, with keys of its own."""

import secrets
from pathlib import Path

from msgspec import Struct

from cliproxy.stores.config_file import write_new

_TEMPLATE = """\
# CLI Proxy API. docs/configuration.md explains every key; edits take effect within a second, host and port at a restart.
host: 127.0.0.1
port: 8317

# What your tools send as their API key.
api-keys:
  - {api_key}

# The key of the Management API at /v0/management, from this machine only. The first start puts its hash here; a new key
# is written in plain text, and is hashed as soon as the file is saved.
remote-management:
  allow-remote: false
  secret-key: {management_key}

# Your upstream accounts. Take the # away and fill in what you have.
# gemini-api-key:
#   - api-key: AIza...
# claude-api-key:
#   - api-key: sk-ant-...
# codex-api-key:
#   - api-key: sk-...
# openai-compatibility:
#   - name: openrouter
#     base-url: https://openrouter.ai/api/v1
#     api-keys:
#       - sk-or-...
"""


class FirstStart(Struct, frozen=True):
    path: Path
    api_key: str
    management_key: str

    def __repr__(self) -> str:
        return f"FirstStart({self.path})"


def write_first(path: Path) -> FirstStart:
    """Write a new configuration, 0600. Raises OSError, FileExistsError among them."""
    api_key = f"cpa-{secrets.token_urlsafe(24)}"
    management_key = secrets.token_urlsafe(24)
    write_new(path, _TEMPLATE.format(api_key=api_key, management_key=management_key))
    return FirstStart(path, api_key, management_key)
