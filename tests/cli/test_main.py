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
    "arguments",
    [
        ["login", "claude", "--no-browser"],
        ["login", "gemini", "--project-id", "some-project"],
        ["--login", "--project_id", "some-project"],
        ["-login", "-project_id=some-project"],
        ["--codex-login", "--no-browser"],
        ["-claude-login"],
        ["-qwen-login", "-no-browser"],
    ],
)
def test_a_login_wants_a_file_that_can_be_read(run, arguments):
    ended = run(*arguments, "-config", "not-there.yaml")

    assert ended.returncode == 1
    assert "Cannot read not-there.yaml" in ended.stderr


@pytest.mark.parametrize("flag", ["-claude-login", "--codex-login", "-qwen-login"])
def test_each_flag_of_the_go_program_means_its_vendor(run, flag):
    ended = run(flag, "-project_id", "p")

    assert ended.returncode == 2
    assert f"a login to {flag.strip('-').removesuffix('-login')} has no project" in ended.stderr


@pytest.mark.parametrize(
    "arguments", [["unknown"], ["--unknown"], ["serve", "--port", "high"], ["serve", "--host", "http://here"]]
)
def test_wrong_usage_exits_with_2(run, arguments):
    ended = run(*arguments)

    assert ended.returncode == 2
    assert "Usage:" in ended.stderr
    assert "Traceback" not in ended.stderr
