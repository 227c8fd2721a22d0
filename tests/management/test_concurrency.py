"""Cases 201 and 202: many writers at once, in one process and in several."""

import http.client
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import bcrypt
import pytest
from managed import FIXTURE, OK, Managed, Reply

from cliproxy.config.document import read

WRITING = Path(__file__).with_name("writing.py")
START = ["k1", "k2", "k3"]


def _keys_in(path: Path) -> list[str]:
    return [key.reveal() for key in read(path.read_text()).config.api_keys]


def _at_once(work: list[Callable[[], None]]) -> None:
    """Run all of it in threads that begin together; what one raises is raised here."""
    ready = threading.Barrier(len(work))

    def run(one: Callable[[], None]) -> None:
        ready.wait(10)
        one()

    with ThreadPoolExecutor(len(work)) as pool:
        for running in [pool.submit(run, one) for one in work]:
            running.result(60)


def _adds(managed: Managed, *keys: str) -> Callable[[], None]:
    def add() -> None:
        for key in keys:
            assert managed.patch("/api-keys", {"old": key, "new": key}).told == OK

    return add


class Poller:
    """A client that lists models again and again, over one connection."""

    def __init__(self, managed: Managed) -> None:
        self.statuses: list[int] = []
        self._connection = http.client.HTTPConnection("127.0.0.1", managed.serving.port, timeout=20)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._poll)
        self._thread.start()

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join()
        self._connection.close()

    def _poll(self) -> None:
        while not self._is_over.is_set():
            self._connection.request("GET", "/v1/models", headers={"Authorization": "Bearer k1"})
            answer = self._connection.getresponse()
            answer.read()
            self.statuses.append(answer.status)


@pytest.mark.parametrize(("clients", "writes"), [pytest.param(6, 8, id="201"), pytest.param(64, 1, id="64-clients")])
def test_of_writes_at_once_none_is_lost(managed: Managed, clients: int, writes: int) -> None:
    before = managed.file
    poller = Poller(managed)

    _at_once([_adds(managed, *(f"n{client}-{write}" for write in range(writes))) for client in range(clients)])
    poller.stop()

    added = {f"n{client}-{write}" for client in range(clients) for write in range(writes)}
    shown = managed.get("/api-keys").json
    assert isinstance(shown, dict)
    assert shown["api-keys"] == _keys_in(managed.path)
    assert shown["api-keys"][:3] == START
    assert sorted(shown["api-keys"][3:]) == sorted(added)
    kept = [line for line in managed.file.splitlines() if not line.strip().startswith("- n")]
    assert kept == before.splitlines(), "the hash of the key, the port, and everything else"
    assert len(poller.statuses) > 10, "202"
    assert set(poller.statuses) == {200}, "202"


def test_writers_of_different_settings_do_not_undo_each_other(managed: Managed) -> None:
    def toggles() -> None:
        for value in (True, False) * 6:
            assert managed.put("/quota-exceeded/switch-project", {"value": value}).told == OK

    def counts() -> None:
        for value in range(12):
            assert managed.put("/request-retry", {"value": value}).told == OK

    _at_once([toggles, counts, _adds(managed, *(f"n{number}" for number in range(12)))])

    config = read(managed.file).config
    assert config.request_retry == 11
    assert not config.quota_exceeded.switch_project
    assert _keys_in(managed.path) == [*START, *(f"n{number}" for number in range(12))]


def test_two_processes_that_write_one_file_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    hashed = bcrypt.hashpw(b"mk", bcrypt.gensalt(4)).decode()
    text = FIXTURE.replace("AUTH_DIR", str(tmp_path / "auth")).replace('"mk"', f'"{hashed}"')
    path.write_text(text)

    writers = [subprocess.Popen([sys.executable, WRITING, "keys", path, name, "5"]) for name in ("one", "two")]
    assert [writer.wait(60) for writer in writers] == [0, 0]

    keys = _keys_in(path)
    assert keys[:3] == START
    assert [key for key in keys if key.startswith("one")] == [f"one-{number}" for number in range(5)]
    assert [key for key in keys if key.startswith("two")] == [f"two-{number}" for number in range(5)]
    assert len(keys) == 13
    assert hashed in path.read_text()
    assert list(tmp_path.glob(".config.yaml.*")) == []


def test_two_gateways_on_one_file_both_come_to_serve_what_either_wrote(managed: Managed, tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, WRITING, "keys", managed.path, "other", "5"])
    _at_once([_adds(managed, *(f"mine-{number}" for number in range(5)))])
    assert other.wait(60) == 0

    assert managed.put("/debug", {"value": True}).told == OK

    keys = _keys_in(managed.path)
    assert sorted(keys) == sorted([*START, *(f"{name}-{n}" for name in ("mine", "other") for n in range(5))])
    assert all(_models(managed, key).status == 200 for key in keys)


def _models(managed: Managed, key: str) -> Reply:
    return managed.get("/v1/models", headers={"Authorization": f"Bearer {key}"})
