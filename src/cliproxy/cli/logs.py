"""Where log lines go at first: to stderr, with time and level. `logging-to-file` takes them from there."""

import logging
import sys

from cliproxy.stores.app_log import TERMINAL


def log_to_stderr(level: int = logging.INFO) -> None:
    """Lines of ours from `level` on, of libraries from warnings on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.set_name(TERMINAL)
    logging.basicConfig(
        handlers=[handler],
        level=logging.WARNING,
        format="%(asctime)s %(levelname)-7s %(message)s",
        datefmt="%Y-%m-%d %H:%M:%S",
    )
    logging.getLogger("cliproxy").setLevel(level)
    logging.getLogger("asyncio").setLevel(logging.ERROR)
