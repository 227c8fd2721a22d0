"""Which configuration file a command works with, and why one cannot be read."""

import os.path
from pathlib import Path

import click

_HOME_CONFIG = "~/.cli-proxy-api/config.yaml"

config_option = click.option(
    "--config",
    "config",
    type=click.Path(path_type=Path),
    help="The configuration file; without it `./config.yaml`, else `~/.cli-proxy-api/config.yaml`.",
)


def default_path() -> Path:
    """Where the file is, or is to be written."""
    here = Path("config.yaml")
    return here if is_there(here) else Path(_HOME_CONFIG).expanduser()


def is_there(path: Path) -> bool:
    """Unlike `Path.exists`, also an answer where a folder on the way may not be read."""
    return os.path.exists(path)


def unreadable(path: Path, error: OSError) -> str:
    """What to say about a file that cannot be read."""
    if isinstance(error, IsADirectoryError):
        return (
            f"Cannot read {path}: it is a folder. "
            "Docker makes one where a mounted file does not exist: remove it and put a file in its place."
        )
    return f"Cannot read {path}: {error.strerror or error}."
