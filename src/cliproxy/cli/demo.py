"""The demo: a gateway before simulated vendors on loopback, and one request in each dialect, shown as it streams."""

import asyncio
import logging
import secrets
import socket
from collections.abc import AsyncIterator

import click
import uvloop
from msgspec import Struct

from cliproxy.app import Gateway, StartRefused
from cliproxy.canon.errors import GatewayError
from cliproxy.canon.events import ReasoningDelta, TextDelta
from cliproxy.cli.logs import log_to_stderr
from cliproxy.config.document import read
from cliproxy.dialects import anthropic, gemini, openai_chat, openai_responses
from cliproxy.dialects.base import Dialect
from cliproxy.simulator import Simulator
from cliproxy.transport.base import Deadlines
from cliproxy.transport.pool import Pool
from cliproxy.wire import json
from cliproxy.wire.http import Address, HttpRequest

_CONFIG = """\
port: {port}
api-keys: [{key}]
gemini-api-key: [{{api-key: sk-sim-gemini, base-url: "{vendors}"}}]
claude-api-key: [{{api-key: sk-sim-claude, base-url: "{vendors}"}}]
codex-api-key: [{{api-key: sk-sim-openai, base-url: "{vendors}/v1"}}]
openai-compatibility:
  - {{name: simulated, base-url: "{vendors}/v1", api-keys: [sk-sim-chat], models: [{{name: sim-chat}}]}}
"""
_DEADLINES = Deadlines(head=10.0, idle=10.0)


class Scene(Struct, frozen=True, eq=False):
    """One request of the demo: who asks, in which dialect, and whose model answers."""

    title: str
    dialect: Dialect
    path: str
    body: dict[str, object]


def _scenes() -> tuple[Scene, ...]:
    text = "Hello from {}"
    return (
        Scene(
            "OpenAI Chat in, a Claude model answers",
            openai_chat.DIALECT,
            "/v1/chat/completions",
            {
                "model": "claude-sonnet-4-5-20250929",
                "stream": True,
                "messages": [{"role": "user", "content": text.format("Chat Completions")}],
            },
        ),
        Scene(
            "OpenAI Responses in, a Gemini model answers",
            openai_responses.DIALECT,
            "/v1/responses",
            {"model": "gemini-2.5-flash", "stream": True, "input": text.format("Responses")},
        ),
        Scene(
            "Anthropic Messages in, a GPT model answers",
            anthropic.DIALECT,
            "/v1/messages",
            {
                "model": "gpt-5",
                "stream": True,
                "max_tokens": 1000,
                "messages": [{"role": "user", "content": text.format("Messages")}],
            },
        ),
        Scene(
            "Gemini in, an OpenAI-compatible server answers",
            gemini.DIALECT,
            "/v1beta/models/sim-chat:streamGenerateContent?alt=sse",
            {"contents": [{"role": "user", "parts": [{"text": text.format("generateContent")}]}]},
        ),
    )


@click.command()
@click.option("--once", is_flag=True, help="Show the answers and end.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8317, show_default=True, help="Of the gateway; if taken, any free."
)
def demo(*, once: bool, port: int) -> None:
    """Gateway and simulated vendors on loopback, one request per dialect shown, then keeps serving.

    Nothing leaves this machine and no file is written.
    """
    log_to_stderr(logging.WARNING)
    try:
        uvloop.run(run(port, once=once))
    except (GatewayError, NoAnswer, StartRefused) as error:
        raise click.ClickException(str(error)) from error


class NoAnswer(Exception):
    """A scene of the demo did not come out as it should."""


async def run(port: int, *, once: bool) -> None:
    """Show one answer per dialect, then serve until interrupted (`once`: end). Raises NoAnswer or GatewayError."""
    with Simulator() as vendors:
        key = f"demo-{secrets.token_hex(8)}"
        text = _CONFIG.format(port=_free_port(port), key=key, vendors=vendors.url) + vendors.endpoints()
        config = read(text).config
        ready = asyncio.Event()
        gateway = Gateway(config, None, {})
        serving = asyncio.create_task(gateway.run(ready.set))
        await ready.wait()
        await _play(vendors.url, f"http://127.0.0.1:{gateway.address[1]}", key, once=once)
        if once:
            gateway.stop()
        await serving


async def _play(vendors: str, base: str, key: str, *, once: bool) -> None:
    click.echo(f"Simulated vendors on {vendors}\nGateway on {base}, API key {key}\n")
    transport = Pool()
    for scene in _scenes():
        await _show(scene, base, key, transport)
    transport.close()
    if not once:
        click.echo(_WHAT_NEXT.format(base=base, key=key))


_WHAT_NEXT = """\
Still serving. Try it from another terminal:

  curl {base}/v1/chat/completions -H 'authorization: Bearer {key}' -H 'content-type: application/json' \\
    -d '{{"model":"sim-chat","messages":[{{"role":"user","content":"hi"}}]}}'

or with a tool of yours, such as Claude Code:

  ANTHROPIC_BASE_URL={base} ANTHROPIC_AUTH_TOKEN={key} ANTHROPIC_MODEL=sim-chat claude -p hi

Stop with Ctrl-C."""


async def _show(scene: Scene, base: str, key: str, transport: Pool) -> None:
    click.secho(f"{scene.title}", bold=True)
    click.echo(f"  POST {scene.path}  model {scene.body.get('model', 'sim-chat')}")
    click.echo("  ", nl=False)
    said = False
    async for text in _texts(scene, base, key, transport):
        said = True
        click.echo(text, nl=False)
    click.echo("\n")
    if not said:
        raise NoAnswer(f"No answer to: {scene.title}")


async def _texts(scene: Scene, base: str, key: str, transport: Pool) -> AsyncIterator[str]:
    head = f"authorization: Bearer {key}\r\ncontent-type: application/json\r\n".encode()
    body = json.encode(scene.body)
    request = HttpRequest(b"POST", Address.of(base).origin, scene.path.encode(), head, body)
    answer = await transport.send(request, _DEADLINES)
    try:
        if answer.status != 200:
            raise NoAnswer(f"HTTP {answer.status}: {(await answer.read(65536)).decode(errors='replace')}")
        reader = scene.dialect.reader()
        while piece := await answer.piece():
            for event in reader.feed(piece):
                if isinstance(event, TextDelta | ReasoningDelta):
                    yield event.text
        reader.close()
    finally:
        answer.close()


def _free_port(wanted: int) -> int:
    """`wanted`, or 0 (any free one) when it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            return 0
    return wanted
