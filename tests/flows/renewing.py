"""What the processes of `test_renewal_crash.py` do: renew an account's tokens, as a gateway would."""

import asyncio
import time
from pathlib import Path

from cliproxy.config.document import read
from cliproxy.gateway.accounts import Accounts
from cliproxy.gateway.runtime import Runtime
from cliproxy.gateway.vault import Vault
from cliproxy.providers.accounts import ClientSecrets
from cliproxy.providers.logins.registry import read_file
from cliproxy.providers.registry import KINDS, PROVIDERS
from cliproxy.stores.auth_files import AuthFiles
from cliproxy.stores.token_journal import TokenJournal
from cliproxy.transport.pool import Pool


def renew(folder: str, endpoints: str, name: str) -> None:
    """Once, from what stands in the file and the journal; ends with an error when there is no new token."""
    asyncio.run(_renew(Path(folder), endpoints, name))


async def _renew(folder: Path, endpoints: str, name: str) -> None:
    transport = Pool()
    runtime = Runtime(
        read(endpoints).config,
        PROVIDERS,
        transport,
        monotonic=time.monotonic,
        epoch=time.time,
        boot="test",
        kinds=KINDS,
    )
    files = AuthFiles(lambda: folder, time.time)
    vault = Vault(runtime, files, TokenJournal(lambda: folder / ".state"), ClientSecrets(), ClientSecrets)
    await vault.recover()
    await Accounts(runtime, files, vault, read_file, time.time_ns).look()
    before = await vault.token(name)
    if await vault.instead_of(name, before) is None:
        raise SystemExit(f"{name}: no new token")
    transport.close()
