"""The entry point: which command was meant, and how it ends.

Exit codes: 0 done, or stopped by a first signal; 1 the configuration, the start, a demo, a login or what was to be
translated is at fault (stderr says why); 2 wrong usage; 130 interrupted (128 + signal for a second signal while `serve` is stopping, 143 for a login that
is terminated).

Commands are loaded when they are asked for, the one exception to "no imports inside functions": serving must not pay,
in start time and memory, for the simulator and the demo. The flags of the Go program are accepted in both spellings,
`-config` and `--config`.
"""

import sys
from collections.abc import Sequence
from importlib import import_module

import click

from cliproxy import __version__

# Where each command lives.
_COMMANDS = {
    "serve": "cliproxy.cli.serve:serve",
    "demo": "cliproxy.cli.demo:demo",
    "login": "cliproxy.cli.login:login",
    "validate": "cliproxy.cli.validate:validate",
    "simulate": "cliproxy.cli.simulate:simulate",
    "translate": "cliproxy.cli.translate:translate",
}

# The Go program's logins, each a flag of its own.
_GO_LOGINS = {"--login": "gemini", "--codex-login": "codex", "--claude-login": "claude", "--qwen-login": "qwen"}
_ONE_DASH = frozenset(
    {"config", "help", "host", "no-browser", "port", "project_id", "version"} | {name[2:] for name in _GO_LOGINS}
)

_INTERRUPTED = 130


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(":")
        command: object = getattr(import_module(module), name)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="cli-proxy-api")
def cli() -> None:
    """One gateway for coding CLIs: OpenAI, Responses, Anthropic and Gemini dialects over your own accounts.

    Without a command, `serve`.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit with its code."""
    asked = _meant(list(sys.argv[1:] if arguments is None else arguments))
    try:
        code: object = cli.main(args=asked, prog_name="cli-proxy-api", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(_INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _meant(arguments: list[str]) -> list[str]:
    """The Go program's spelling as ours, and `serve` where no command was named."""
    spelled = [f"-{one}" if one.startswith("-") and one[1:].split("=")[0] in _ONE_DASH else one for one in arguments]
    if spelled and (not spelled[0].startswith("-") or spelled[0] in ("-h", "--help", "--version")):
        return spelled
    for flag, vendor in _GO_LOGINS.items():
        if flag in spelled:
            return ["login", vendor, *(one for one in spelled if one != flag)]
    return ["serve", *spelled]


if __name__ == "__main__":
    main()
