"""Where log lines go: to stderr, with time and level."""

import logging
import sys


def log_to_stderr(level: int = logging.INFO) -> None:
    """Lines of ours from `level` on, of libraries from warnings on."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.WARNING,
        format="%(asctime)s %(levelname)-7s %(message)s",
        datefmt="%Y-%m-%d %H:%M:%S",
    )
    logging.getLogger("cliproxy").setLevel(level)
    logging.getLogger("asyncio").setLevel(logging.ERROR)
