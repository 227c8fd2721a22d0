"""`serve`: the gateway, in the foreground, until a signal."""

import logging
import os
import stat
from pathlib import Path

import click
import uvloop

from cliproxy import __version__
from cliproxy.app import Gateway, Listen, StartRefused, ignored_variables, set_level
from cliproxy.cli.files import config_option, default_path, is_there, unreadable
from cliproxy.cli.first_start import write_first
from cliproxy.cli.logs import log_to_stderr
from cliproxy.config import rules
from cliproxy.config.document import Loaded
from cliproxy.config.issues import ConfigError
from cliproxy.config.schema import Config
from cliproxy.gateway.desk import open_config, tell
from cliproxy.stores.config_file import ConfigFile

_log = logging.getLogger("cliproxy")


def _host(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and (wrong := rules.listen_host(value)):
        raise click.BadParameter(wrong)
    return value


@click.command()
@config_option
@click.option("--host", callback=_host, help="Listen here, whatever the file says.")
@click.option("--port", type=click.IntRange(0, 65535), help="Likewise; 0 takes a free one.")
@click.option("--no-browser", is_flag=True, hidden=True, help="The Go program's; it matters to logins only.")
def serve(*, config: Path | None, host: str | None, port: int | None, no_browser: bool) -> None:
    """Serve (the default). Without a configuration the first start writes one.

    A first Ctrl-C or SIGTERM lets running requests end, a second one ends at once.
    """
    del no_browser
    log_to_stderr()
    path = config or default_path()
    if config is None and not is_there(path):
        _introduce(path)
    loaded, file = _loaded(path)
    set_level(loaded.config)
    tell(loaded)
    for name in ignored_variables(os.environ):
        _log.warning("`%s` has no effect: settings stand in the file; `--host` and `--port` win over it.", name)
    try:
        gateway = Gateway(loaded.config, file, os.environ, Listen(host, port), is_alone=True)
    except StartRefused as refused:
        raise click.ClickException(str(refused)) from refused
    if stat.S_IMODE(path.stat().st_mode) & stat.S_IROTH:
        _log.warning("%s holds keys and can be read by every user of this machine: chmod o-r helps.", path.name)
    uvloop.run(gateway.run(lambda: click.echo(_banner(gateway, loaded.config, path.absolute()), err=True)))


def _introduce(path: Path) -> None:
    """Write a configuration and show its keys: the only time that they are seen outside the file."""
    try:
        first = write_first(path)
    except FileExistsError:
        return  # another first start was faster, and has shown its keys
    except OSError as error:
        raise click.ClickException(f"Cannot write {path}: {error.strerror or error}.") from error
    click.echo(_INTRODUCTION.format(first=first), err=True)


_INTRODUCTION = """\
Wrote a first configuration, readable by you alone: {first.path}
  API key for your tools:  {first.api_key}
  Management key:          {first.management_key}  (for the Management API at /v0/management, from this machine)
They are not shown again. The file has the API key, and of the management key only a hash.
"""


def _loaded(path: Path) -> tuple[Loaded, ConfigFile]:
    file = ConfigFile(path)
    try:
        return open_config(file), file
    except ConfigError as error:
        raise click.ClickException(f"The configuration cannot be used.\n{error}") from error
    except OSError as error:
        raise click.ClickException(unreadable(path, error)) from error


def _banner(gateway: Gateway, config: Config, path: Path) -> str:
    """What is served, where, from what, and what to do next."""
    host, port = gateway.address
    everywhere = host in ("0.0.0.0", "::")
    shown = "127.0.0.1" if everywhere else f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{port}"
    accounts, models = gateway.stock
    lines = [
        f"CLI Proxy API {__version__} serves OpenAI Chat, OpenAI Responses, Anthropic Messages and Gemini",
        f"  at    {url}{', and at every other address of this machine' if everywhere else ''}",
        f"  from  {_count(accounts, 'account')}, {_count(models, 'model')}",
        f"  with  {path}; edits take effect within a second",
    ]
    if config.management_key or gateway.has_password:
        lines.append(f"  The Management API is at {url}/v0/management")
    if not config.api_keys:
        who = "Programs on this machine need" if rules.is_loopback(host) else "Everybody who reaches this port needs"
        lines.append(f"{who} no API key, because there are no `api-keys`.")
    lines.append(_next_step(url, config, has_accounts=accounts > 0))
    lines.append("Stop with Ctrl-C.")
    return "\n".join(lines)


def _next_step(url: str, config: Config, *, has_accounts: bool) -> str:
    if not has_accounts:
        return (
            "Next: there is no upstream account yet, but for those in credential files. Write an API key of a vendor into the\n"
            "file, or log an account in, for example\n"
            '  claude-api-key: [{api-key: "sk-ant-..."}]\n'
            "  cli-proxy-api login codex"
        )
    key = "KEY" if config.api_keys else "none"
    hint = " (KEY: one of `api-keys` in the file)" if config.api_keys else ""
    return (
        f"Next: point a tool here{hint}, for example\n"
        f"  ANTHROPIC_BASE_URL={url} ANTHROPIC_AUTH_TOKEN={key} claude\n"
        f"  curl {url}/v1/models -H 'authorization: Bearer {key}'"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
