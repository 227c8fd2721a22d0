"""Finding Google's own program on this machine: its source holds the client secret that its tokens are bound to.

It is an npm package, so it lies in a folder `node_modules`: that of npm's global packages, or one here or above. Nothing
is run to find that out.

Source: https://docs.npmjs.com/cli/configuring-npm/folders, checked 2026-11-24.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

_MARK = b"OAUTH_CLIENT_SECRET"
_MOST_BYTES = 64 * 1024 * 1024
_USUAL = ("/usr/local/lib/node_modules", "/usr/lib/node_modules", "/opt/homebrew/lib/node_modules")
_PROGRAMS = ("gemini", "npm", "node")
# The package as it is published now, as it was when it was one file, and its core where that is a package of its own.
_PLACES = (
    "@google/gemini-cli/bundle",
    "@google/gemini-cli-core/dist/src/code_assist",
    "@google/gemini-cli/node_modules/@google/gemini-cli-core/dist/src/code_assist",
)


def gemini_cli_sources(environment: Mapping[str, str], here: Path) -> Iterator[str]:
    """The texts of the program's files that hold a client secret, wherever it is installed. Blocks."""
    for root in _roots(environment, here):
        for place in _PLACES:
            yield from _texts(root / place)


def _roots(environment: Mapping[str, str], here: Path) -> Iterable[Path]:
    """Folders `node_modules`, each once, the nearest first."""
    roots = [folder / "node_modules" for folder in (here, *here.parents)]
    prefixes = [Path(value) for name in ("NPM_CONFIG_PREFIX", "npm_config_prefix") if (value := environment.get(name))]
    for folder in environment.get("PATH", "").split(os.pathsep):
        for name in _PROGRAMS if os.path.isabs(folder) else ():
            program = Path(folder, name)
            if program.exists():
                prefixes.append(Path(folder).parent)
                prefixes += _above(program)
    roots += [prefix / "lib" / "node_modules" for prefix in prefixes]
    roots += [Path(usual) for usual in _USUAL]
    return dict.fromkeys(roots)


def _above(program: Path) -> list[Path]:
    """Where a linked program really lies: `PREFIX/lib/node_modules/...` or `PREFIX/bin/...`."""
    real = Path(os.path.realpath(program))
    inside = [folder.parent.parent for folder in real.parents if folder.name == "node_modules"]
    return [*inside, real.parent.parent]


def _texts(folder: Path) -> Iterator[str]:
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix in (".js", ".mjs", ".cjs"))
    except OSError:
        return
    for path in files:
        try:
            content = path.read_bytes() if path.stat().st_size <= _MOST_BYTES else b""
        except OSError:
            continue
        if _MARK in content:
            yield content.decode(errors="replace")
