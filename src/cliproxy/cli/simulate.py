"""`simulate`: only the simulated vendors."""

import click

from cliproxy.simulator.server import endpoints, run


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), default=8318, show_default=True)
def simulate(*, port: int) -> None:
    """Only the simulated vendors, on loopback."""
    url = f"http://127.0.0.1:{port}"
    click.echo(f"Simulated vendors on {url}; any key that starts with sk-sim is accepted.", err=True)
    click.echo(f"To log in to them and use accounts, put this into the configuration:\n\n{endpoints(url)}", err=True)
    try:
        run(port)
    except OSError as error:
        raise click.ClickException(f"Cannot listen on 127.0.0.1:{port}: {error.strerror or error}.") from error
