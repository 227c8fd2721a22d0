"""What one write through the Management API costs inside the gateway, from the edit to the new snapshot.

    python benchmarks/management.py                      # 1,000 client keys, 1,000 upstream keys, 10,000 auth files
    python benchmarks/management.py --keys 100 --files 0

It works on a file in a scratch folder, without sockets, and ends by itself within half a minute. `held` is the longest
time in which the event loop did nothing else: what a stream under way would notice. `cpu` is the processor's time, which
other work on the machine does not blur.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import bcrypt

from cliproxy.config.editing import Draft
from cliproxy.config.schema import Config
from cliproxy.gateway.desk import ConfigDesk, Edit, Terms, open_config
from cliproxy.gateway.runtime import Runtime
from cliproxy.providers.accounts import AccountFile
from cliproxy.providers.registry import KINDS, PROVIDERS
from cliproxy.stores.config_file import ConfigFile
from cliproxy.transport.pool import Pool


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost of a management write.")
    parser.add_argument("--keys", type=int, default=1000, help="client keys, and as many upstream keys")
    parser.add_argument("--files", type=int, default=10_000, help="credential files")
    parser.add_argument("--writes", type=int, default=20, help="writes of each kind")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_measure(Path(folder), arguments.keys, arguments.files, arguments.writes))


async def _measure(folder: Path, keys: int, files: int, writes: int) -> None:
    path = folder / "config.yaml"
    path.write_text(_text(folder, keys))
    file = ConfigFile(path)
    config = open_config(file).config
    runtime = Runtime(config, PROVIDERS, Pool(), monotonic=time.monotonic, epoch=time.time, boot="bench", kinds=KINDS)
    await runtime.adopt_files(
        {name: AccountFile(name=name, kind="claude", email=name) for name in (f"{n}.json" for n in range(files))}, set()
    )
    desk = ConfigDesk(runtime, file, config, Terms())
    accounts = len(runtime.snapshot.upstreams)
    print(f"{keys} client keys, {accounts} accounts ({files} of files), {path.stat().st_size // 1024} KiB of YAML")
    for name, edit in (("PUT /debug", _switch), ("PATCH /api-keys", _client_key), ("PATCH /claude-api-key", _claude)):
        print(f"  {name:24}", await _timed(desk, edit, writes))


async def _timed(desk: ConfigDesk, edit: Callable[[int], Edit], writes: int) -> str:
    held = _Held()
    took: list[float] = []
    worked = time.process_time()
    for number in range(writes):
        begun = time.perf_counter()
        await desk.change(edit(number))
        took.append(time.perf_counter() - begun)
    held.stop()
    figures = {
        "median": statistics.median(took),
        "longest": max(took),
        "cpu": (time.process_time() - worked) / writes,
        "held": held.longest,
    }
    return "   ".join(f"{name} {seconds * 1e3:6.1f} ms" for name, seconds in figures.items())


class _Held:
    """Asks for a turn of the event loop every millisecond; `longest` is by how much one came late."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._task = asyncio.create_task(self._watch())

    def stop(self) -> None:
        self._task.cancel()

    async def _watch(self) -> None:
        while True:
            begun = time.perf_counter()
            await asyncio.sleep(0.001)
            self.longest = max(self.longest, time.perf_counter() - begun - 0.001)


def _switch(number: int) -> Edit:
    def edit(draft: Draft, config: Config) -> None:
        draft.set(("debug",), not config.debug)

    del number
    return edit


def _client_key(number: int) -> Edit:
    def edit(draft: Draft, config: Config) -> None:
        draft.set(("api-keys", number % len(config.api_keys)), f"changed-client-key-{number}")

    return edit


def _claude(number: int) -> Edit:
    def edit(draft: Draft, config: Config) -> None:
        draft.set(("claude-api-key", number % len(config.claude_api_key), "api-key"), f"sk-ant-changed-{number}")

    return edit


def _text(folder: Path, keys: int) -> str:
    hashed = bcrypt.hashpw(b"mk", bcrypt.gensalt(4)).decode()
    head = ["port: 0", f"auth-dir: {folder}/auth", f'remote-management: {{secret-key: "{hashed}"}}', "debug: false"]
    clients = [f'  - "client-key-{number:06}" # of client {number}' for number in range(keys)]
    upstreams = [
        f'  - api-key: "sk-ant-{number:06}"\n    base-url: "https://relay.example"' for number in range(max(1, keys))
    ]
    return "\n".join([*head, "api-keys:" if clients else "api-keys: []", *clients, "claude-api-key:", *upstreams, ""])


if __name__ == "__main__":
    main()
