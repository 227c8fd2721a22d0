"""The commands.

Exit codes: 0 done, 1 the configuration or the start is at fault (said on stderr), 2 wrong usage, 130 interrupted.
The flags of the Go program are accepted in both spellings, `-config` and `--config`.
"""

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import uvloop

from cliproxy import __version__
from cliproxy.app import Gateway, StartRefused, load, set_level
from cliproxy.cli import demo
from cliproxy.cli.first_start import write_first
from cliproxy.config.document import Loaded
from cliproxy.config.issues import ConfigError
from cliproxy.simulator.server import run as run_simulator
from cliproxy.stores.config_file import ConfigFile

_COMMANDS = ("serve", "demo", "validate", "simulate")
_HOME_CONFIG = "~/.cli-proxy-api/config.yaml"
_CONFIG_OPTION = click.option("--config", "config", type=click.Path(dir_okay=False, path_type=Path), help="The file.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="cli-proxy-api")
def cli() -> None:
    """One gateway for coding CLIs: OpenAI, Responses, Anthropic and Gemini dialects over your own accounts."""


@cli.command()
@_CONFIG_OPTION
def serve(config: Path | None) -> None:
    """Serve (the default). Without a configuration the first start writes one."""
    _log_to_stderr()
    path = config or _default_path()
    if config is None and not path.exists():
        _introduce(path)
    loaded, file = _loaded(path)
    set_level(loaded.config)
    try:
        gateway = Gateway(loaded.config, file, os.environ)
    except StartRefused as refused:
        raise click.ClickException(str(refused)) from refused
    host, port = gateway.address
    shown = f"[{host}]" if ":" in host else host

    def on_ready() -> None:
        click.echo(f"Serving on http://{shown}:{port} with {path}. Stop with Ctrl-C.", err=True)
        if not _has_accounts(loaded):
            click.echo("There are no upstream accounts yet: add API keys to the file.", err=True)

    uvloop.run(gateway.run(on_ready))


@cli.command()
@_CONFIG_OPTION
def validate(config: Path | None) -> None:
    """Check a configuration file: prints `path: problem` lines, exits 1 when there is one."""
    path = config or _default_path()
    loaded, _ = _loaded(path)
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}")
    click.echo(f"{path}: good")


@cli.command(name="demo")
@click.option("--once", is_flag=True, help="Show the answers and end.")
@click.option("--port", default=8317, show_default=True, help="Of the gateway; the next free one if taken.")
def demo_command(*, once: bool, port: int) -> None:
    """Gateway and simulated vendors on loopback, one request per dialect shown, then keeps serving."""
    _log_to_stderr()
    logging.getLogger("cliproxy").setLevel(logging.WARNING)
    uvloop.run(demo.run(port, once=once))


@cli.command()
@click.option("--port", default=8318, show_default=True)
def simulate(port: int) -> None:
    """Only the simulated vendors, on loopback."""
    click.echo(f"Simulated vendors on http://127.0.0.1:{port}; any key that starts with sk-sim is accepted.", err=True)
    run_simulator(port)


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point. One of the three places that catch everything, by way of click."""
    asked = _go_style(list(sys.argv[1:] if arguments is None else arguments))
    cli.main(args=asked, prog_name="cli-proxy-api")


def _go_style(arguments: list[str]) -> list[str]:
    """`-config x` and `-config=x` as `--config`, and `serve` where no command was named."""
    known = ("-config", "-help", "-version")
    spelled = [f"-{one}" if one.split("=")[0] in known else one for one in arguments]
    if not spelled or (spelled[0].startswith("-") and spelled[0] not in ("-h", "--help", "--version")):
        return ["serve", *spelled]
    return spelled


def _default_path() -> Path:
    here = Path("config.yaml")
    return here if here.exists() else Path(_HOME_CONFIG).expanduser()


def _introduce(path: Path) -> None:
    try:
        first = write_first(path)
    except OSError as error:
        raise click.ClickException(f"Cannot write {path}: {error.strerror or error}.") from error
    click.echo(f"Wrote a new configuration: {first.path}", err=True)
    click.echo(f"  API key for your tools:  {first.api_key}", err=True)
    click.echo(f"  Management key:          {first.management_key}", err=True)


def _loaded(path: Path) -> tuple[Loaded, ConfigFile]:
    try:
        loaded, file = load(path)
    except ConfigError as error:
        click.echo(str(error), err=True)
        raise SystemExit(1) from error
    except OSError as error:
        raise click.ClickException(f"Cannot read {path}: {error.strerror or error}.") from error
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}", err=True)
    return loaded, file


def _has_accounts(loaded: Loaded) -> bool:
    config = loaded.config
    return bool(config.gemini_keys or config.claude_api_key or config.codex_api_key or config.openai_compatibility)


def _log_to_stderr() -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("asyncio").setLevel(logging.ERROR)


if __name__ == "__main__":
    main()
