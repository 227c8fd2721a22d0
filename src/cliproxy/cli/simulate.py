"""`simulate`: only the simulated vendors."""

import click

from cliproxy.simulator.server import run


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), default=8318, show_default=True)
def simulate(*, port: int) -> None:
    """Only the simulated vendors, on loopback."""
    click.echo(f"Simulated vendors on http://127.0.0.1:{port}; any key that starts with sk-sim is accepted.", err=True)
    try:
        run(port)
    except OSError as error:
        raise click.ClickException(f"Cannot listen on 127.0.0.1:{port}: {error.strerror or error}.") from error
