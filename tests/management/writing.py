"""A program for `test_crash.py` and `test_concurrency.py`: changes a configuration file through a desk of its own.

`count PATH FIRST`: sets `request-retry` to FIRST, FIRST + 1, ..., and prints each number once it is written.
`keys PATH NAME COUNT`: adds the API keys NAME-0, NAME-1, ..., each by a change of its own.
"""

import asyncio
import itertools
import sys
from pathlib import Path

from cliproxy.config.editing import Draft
from cliproxy.config.schema import Config
from cliproxy.gateway.desk import ConfigDesk, Terms, open_config
from cliproxy.gateway.runtime import Runtime
from cliproxy.providers.registry import PROVIDERS
from cliproxy.stores.config_file import ConfigFile
from cliproxy.transport.pool import Pool


def desk_on(path: Path) -> ConfigDesk:
    file = ConfigFile(path)
    config = open_config(file).config
    runtime = Runtime(config, PROVIDERS, Pool(), monotonic=lambda: 0.0, epoch=lambda: 0.0, boot="test")
    return ConfigDesk(runtime, file, config, Terms())


async def count(desk: ConfigDesk, first: int) -> None:
    for number in itertools.count(first):
        await desk.change(lambda draft, _, number=number: draft.set(("request-retry",), number))
        print(number, flush=True)


async def add(desk: ConfigDesk, key: str) -> None:
    def edit(draft: Draft, config: Config) -> None:
        draft.set(("api-keys",), [*(one.reveal() for one in config.api_keys), key])

    await desk.change(edit)


async def add_keys(desk: ConfigDesk, name: str, number: int) -> None:
    for key in range(number):
        await add(desk, f"{name}-{key}")
        await asyncio.sleep(0.015)  # long enough for another process to get the lock


if __name__ == "__main__":
    task, path, *rest = sys.argv[1:]
    if task == "count":
        asyncio.run(count(desk_on(Path(path)), int(rest[0])))
    else:
        asyncio.run(add_keys(desk_on(Path(path)), rest[0], int(rest[1])))
