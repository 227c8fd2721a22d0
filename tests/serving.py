"""Gateways for tests: a whole one in a thread with its own event loop, through the same composition root as the
program."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import uvloop

from cliproxy.app import Gateway
from cliproxy.config.document import read
from cliproxy.gateway.desk import open_config
from cliproxy.stores.config_file import ConfigFile

KEY = "test-key"
EDGES = ("fast", "asgi")

STANDARD = """\
port: 0
api-keys: [test-key]
gemini-api-key:
  - {{api-key: sk-sim-gemini, base-url: "{vendors}", models: [{{name: gemini-2.5-flash}}, {{name: gemini-3-flash-preview}}, {{name: gemini-2.5-pro, alias: my-gemini}}]}}
claude-api-key:
  - {{api-key: sk-sim-claude, base-url: "{vendors}", models: [{{name: claude-sonnet-4-5-20250929}}, {{name: claude-opus-4-7}}, {{name: claude-haiku-4-5-20251001, alias: my-claude}}]}}
codex-api-key:
  - {{api-key: sk-sim-openai, base-url: "{vendors}/v1", models: [{{name: gpt-5}}, {{name: gpt-5.4, alias: my-gpt}}]}}
openai-compatibility:
  - {{name: simulated, base-url: "{vendors}/v1", api-keys: [sk-sim-chat], models: [{{name: sim-chat}}, {{name: sim-large, alias: my-chat}}]}}
"""


NOWHERE = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
"""No test reaches out: whatever is not on this machine is behind a proxy that nobody runs."""

_leaving: list[threading.Thread] = []


def all_ended() -> None:
    """Wait for the gateways that were let go."""
    for thread in _leaving:
        thread.join(10)


class Serving:
    """A gateway in a thread. `text` is its configuration; with `folder` it is a file there that may be edited.
    `environment` is that of its process, `mode` that of the file when it starts; `path_type` lets its path behave
    otherwise."""

    def __init__(
        self,
        text: str,
        *,
        edge: str = "fast",
        folder: Path | None = None,
        environment: Mapping[str, str] = MappingProxyType({}),
        mode: int = 0o600,
        path_type: type[Path] = Path,
    ) -> None:
        self.path = None if folder is None else folder / "config.yaml"
        file = None
        if self.path is not None and folder is not None:
            if "base-url:" in text and "auth-dir:" not in text and "state-dir:" not in text:
                text = f'{text}state-dir: "{folder}/state"\n'  # no test shares what another's accounts have learned
            self.path.write_text(text)
            self.path.chmod(mode)
            file = ConfigFile(path_type(self.path))
            config = open_config(file).config
        else:
            config = read(text).config
        chosen = {} if edge == "fast" else {"CLIPROXY_EDGE": edge}
        self._gateway = Gateway(config, file, NOWHERE | chosen | dict(environment))
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._work, name="gateway", daemon=True)
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError("the gateway did not start")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._gateway.address[1]}"

    @property
    def port(self) -> int:
        return self._gateway.address[1]

    @property
    def accounts(self) -> int:
        """How many serve."""
        return self._gateway.stock[0]

    def stop(self) -> None:
        """Returns when it has ended."""
        self._gateway.stop()
        self._thread.join(10)

    def let_go(self) -> None:
        """It ends within moments, by itself; `all_ended` waits for those that do. That saves most of a test's time."""
        self._gateway.stop()
        _leaving[:] = [thread for thread in _leaving if thread.is_alive()]
        _leaving.append(self._thread)

    def _work(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._gateway.run(self._ready.set))


Start = Callable[..., Serving]
