"""Which command is meant, and the exit codes of commands that only say something."""

import pytest
from msgspec import Struct

from cliproxy import __version__
from cliproxy.cli.main import main


class Ended(Struct):
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run(capsys):
    """Runs a command to its end within this process: what is here serves nothing and writes nothing."""

    def go(*arguments: str) -> Ended:
        with pytest.raises(SystemExit) as ending:
            main(arguments)
        said = capsys.readouterr()
        return Ended(int(ending.value.code or 0), said.out, said.err)

    return go


@pytest.mark.parametrize("flag", ["--version", "-version"])
def test_the_version_is_told(run, flag):
    ended = run(flag)

    assert ended.returncode == 0
    assert __version__ in ended.stdout


@pytest.mark.parametrize("flag", ["--help", "-h", "-help"])
def test_help_lists_the_commands(run, flag):
    ended = run(flag)

    assert ended.returncode == 0
    for command in ("serve", "demo", "login", "validate", "simulate"):
        assert f"\n  {command} " in ended.stdout


@pytest.mark.parametrize(
    ("arguments", "vendor"),
    [
        (["--login", "--project_id", "some-project"], "gemini"),
        (["-login", "-project_id=some-project"], "gemini"),
        (["--codex-login", "--no-browser"], "codex"),
        (["-codex-login"], "codex"),
        (["--claude-login"], "claude"),
        (["-config", "some.yaml", "-qwen-login", "-no-browser"], "qwen"),
        (["login", "claude", "--no-browser"], "claude"),
        (["login", "gemini", "--project-id", "some-project"], "gemini"),
    ],
)
def test_logins_are_recognised_and_said_to_come_later(run, arguments, vendor):
    ended = run(*arguments)

    assert ended.returncode == 1
    assert f"Logging in to {vendor} comes with a later release" in ended.stderr
    assert "API key" in ended.stderr


@pytest.mark.parametrize(
    "arguments", [["unknown"], ["--unknown"], ["serve", "--port", "high"], ["serve", "--host", "http://here"]]
)
def test_wrong_usage_exits_with_2(run, arguments):
    ended = run(*arguments)

    assert ended.returncode == 2
    assert "Usage:" in ended.stderr
    assert "Traceback" not in ended.stderr
