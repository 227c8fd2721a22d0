"""What the processes of `test_state_crash.py` do: save, as a gateway would, until they are killed."""

import itertools
from multiprocessing.connection import Connection
from pathlib import Path

from cliproxy.routing.health import Kept
from cliproxy.stores.state import Changes, KeptMark, StateStore


def save(path: str, told: Connection) -> None:
    """Go on counting where the last process was; what is saved is told."""
    store = StateStore(lambda: Path(path))
    for number in itertools.count(len(store.load().rests)):
        account = f"{number:06}"
        rest = Kept(account, "m", "exhausted", "header", 429, "a sign " * 50, 1.0, 2.0)
        store.save(Changes({(account, "m"): rest}, {}, {account: KeptMark(account, "a.json", account)}))
        if store.has_unsaved:
            raise SystemExit(f"{account} was not saved")
        told.send(number)
