"""What is wrong with a configuration file, and where."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct


class Issue(Struct, frozen=True):
    """One thing wrong, or worth a warning.

    `source` is the file's name as the user knows it, `path` says where in the document (`$.claude-api-key[1].base-url`),
    `line` and `column` count from 1. The message holds no value of the file, so an issue may be shown to anyone.
    """

    source: str
    path: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"{self.source}:{self.line}: {self.path}: {self.message}"


class ConfigError(Exception):
    """A configuration that cannot be used. Its text is one line an issue, in the order of the file."""

    def __init__(self, issues: Iterable[Issue]) -> None:
        self.issues: tuple[Issue, ...] = tuple(sorted(issues, key=lambda issue: (issue.line, issue.column)))
        super().__init__("\n".join(map(str, self.issues)))

    def __reduce__(self) -> tuple[type[ConfigError], tuple[tuple[Issue, ...]]]:
        return (ConfigError, (self.issues,))
