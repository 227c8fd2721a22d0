"""`validate`: what is wrong with a configuration file, for people and for programs."""

from pathlib import Path
from typing import Literal

import click
from msgspec import Struct

from cliproxy.cli.files import config_option, default_path, unreadable
from cliproxy.config.issues import ConfigError, Issue
from cliproxy.stores.config_file import ConfigFile
from cliproxy.wire import json


class Problem(Struct, frozen=True):
    """One line of the answer. `line` and `column` count from 1; both are 0 when the file could not be read."""

    file: str
    line: int
    column: int
    path: str
    problem: str
    severity: Literal["error", "warning"]

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        mark = "warning: " if self.severity == "warning" else ""
        return f"{mark}{place}: {self.path}: {self.problem}"


@click.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list of objects.")
@click.pass_context
def validate(context: click.Context, *, config: Path | None, as_json: bool) -> None:
    """Check a configuration file.

    Prints one `file:line: path: problem` line for each problem; exits 1 when one of them is an error.
    """
    path = config or default_path()
    problems = _problems(path)
    is_good = all(problem.severity == "warning" for problem in problems)
    if as_json:
        click.echo(json.encode(problems).decode())
    else:
        for problem in problems:
            click.echo(str(problem))
        if is_good:
            click.echo(f"{path}: good")
    if not is_good:
        context.exit(1)


def _problems(path: Path) -> list[Problem]:
    """Errors when there are any, else warnings."""
    try:
        loaded = ConfigFile(path).load()
    except ConfigError as error:
        return [_problem(path, issue, "error") for issue in error.issues]
    except OSError as error:
        return [Problem(str(path), 0, 0, "$", unreadable(path, error), "error")]
    return [_problem(path, issue, "warning") for issue in loaded.warnings]


def _problem(path: Path, issue: Issue, severity: Literal["error", "warning"]) -> Problem:
    return Problem(str(path), issue.line, issue.column, issue.path, issue.message, severity)
