"""`translate`: what the gateway would make of a request, or of an answer, and what is lost on the way."""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import click
from msgspec import Raw, Struct

from cliproxy.canon.answer import fold
from cliproxy.canon.errors import GatewayError
from cliproxy.canon.estimate import estimate
from cliproxy.canon.losses import Loss
from cliproxy.canon.passes import fitted
from cliproxy.canon.request import Request
from cliproxy.cli.files import unreadable
from cliproxy.dialects import anthropic, gemini, gemini_cli, openai_chat, openai_responses
from cliproxy.dialects.base import Dialect, Echo
from cliproxy.providers.models import capability_of
from cliproxy.wire import json

Kind = Literal["request", "answer", "stream"]

DIALECTS: Mapping[str, Dialect] = {
    one.name: one
    for one in (
        anthropic.DIALECT,
        gemini.DIALECT,
        gemini_cli.DIALECT,
        openai_chat.DIALECT,
        openai_responses.DIALECT,
    )
}
_NAMES = click.Choice(list(DIALECTS))


class Translated(Struct, frozen=True):
    """`body` is JSON; of a stream it is the frames as one text."""

    body: Raw | str
    losses: tuple[Loss, ...] = ()

    @property
    def text(self) -> str:
        return self.body if isinstance(self.body, str) else bytes(self.body).decode()


@click.command()
@click.option("--from", "source", type=_NAMES, required=True, help="The dialect that FILE is in.")
@click.option("--to", "target", type=_NAMES, required=True, help="The dialect that is wanted.")
@click.option(
    "--kind",
    type=click.Choice(["request", "answer", "stream"]),
    default="request",
    show_default=True,
    help="What FILE holds: a request, a whole answer, or the events of a streamed one.",
)
@click.option("--model", default="", help="The model's name, where FILE does not say it, or another is wanted.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with `body` and `losses`.")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
def translate(*, source: str, target: str, kind: Kind, model: str, as_json: bool, file: Path) -> None:
    """Translate FILE (`-` for standard input) as the gateway does between a client and an upstream.

    What is lost, or said in another way, goes to standard error, a line each. Nothing is sent anywhere.
    """
    body = _content(file)
    one, other = DIALECTS[source], DIALECTS[target]
    try:
        translated = _request(one, other, body, model) if kind == "request" else _answer(one, other, body, model, kind)
    except GatewayError as error:
        problem = error.problem
        place = f"`{problem.param}`: " if problem.param else ""
        raise click.ClickException(f"{file}: {place}{problem.message}") from error
    if as_json:
        click.echo(json.encode(translated).decode())
        return
    click.echo(translated.text)
    for loss in translated.losses:
        click.echo(f"{loss.action}: `{loss.path}`: {loss.reason}", err=True)


def _content(file: Path) -> bytes:
    try:
        return sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise click.ClickException(unreadable(file, error)) from error


def _request(source: Dialect, target: Dialect, body: bytes, model: str) -> Translated:
    """Raises CallerFault."""
    request = source.read_request(body, model=model)
    fit = fitted(request, target.fit, capability_of(request.model))
    written = target.write_request(fit.request)
    return Translated(Raw(written.body), fit.losses + written.losses)


def _answer(source: Dialect, target: Dialect, body: bytes, model: str, kind: Kind) -> Translated:
    """Raises BrokenAnswer."""
    request = Request(model)
    echo = Echo(model, request, "translated", int(time.time()), estimate(request))
    if kind == "answer":
        return Translated(Raw(target.write_answer(fold(source.read_answer(body)), echo)))
    reader = source.reader()
    events = [*reader.feed(body), *reader.close()]
    return Translated(target.writer(echo).push(events).decode())
