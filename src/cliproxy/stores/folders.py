"""The folders that the configuration names: where they are, and how they come to be."""

from __future__ import annotations

from pathlib import Path

from cliproxy.config.schema import Config

_DEFAULT = Config().auth_dir


def auth_folder(config: Config) -> Path:
    """Where credential files lie, `~` expanded; a home that nobody knows stays as it is written."""
    return _expanded(config.auth_dir or _DEFAULT)


def state_folder(config: Config) -> Path:
    """Where the gateway keeps what it must remember. Whoever needs it makes it, by `make_private`."""
    return _expanded(config.state_dir) if config.state_dir else auth_folder(config) / ".state"


def names_auth_folder(config: Config) -> bool:
    """Whether the file names a folder of its own choice; such a one is made at the start, the default when needed."""
    return config.auth_dir not in ("", _DEFAULT)


def make_private(folder: Path) -> None:
    """Make a folder, and those above it, for their owner alone. What is there stays as it is. Raises OSError.

    Like `mkdir(parents=True)`, which would give the mode to the last folder only.
    """
    if not folder.is_dir():
        make_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def _expanded(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)
