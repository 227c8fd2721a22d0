"""`login`: recognised, so that scripts and habits from the Go program meet a plain word in place of a usage error."""

import click

VENDORS = ("claude", "codex", "gemini", "qwen")

# What serves the same models by API key, today.
_BY_KEY = {
    "claude": "`claude-api-key`",
    "codex": "`codex-api-key`",
    "gemini": "`gemini-api-key`",
    "qwen": "`openai-compatibility` with Qwen's address",
}


@click.command(context_settings={"ignore_unknown_options": False})
@click.argument("vendor", type=click.Choice(VENDORS))
@click.option("--config", hidden=True)
@click.option("--no-browser", is_flag=True, help="Show the address to open in place of opening it.")
@click.option("--project-id", "--project_id", help="Gemini: the Google Cloud project.")
def login(*, vendor: str, config: str | None, no_browser: bool, project_id: str | None) -> None:
    """Log in to a vendor with a subscription: comes with a later release."""
    del config, no_browser, project_id
    raise click.ClickException(
        f"Logging in to {vendor} comes with a later release. Until then use an API key: {_BY_KEY[vendor]} in the file."
    )
