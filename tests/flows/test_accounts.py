"""Accounts that somebody logged in with: from a file in the folder to answers, for as long as the refresh token lives."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from managed import Managed, Reply, soon

from cliproxy.simulator import Simulator

MODELS = {
    "claude": "claude-haiku-4-5-20251001",
    "codex": "gpt-5.4-mini",
    "gemini": "gemini-2.5-flash",
    "qwen": "coder-model",
}
ASKED = {"messages": [{"role": "user", "content": "hi"}]}
CALLER = {"Authorization": "Bearer k1"}


class Scene:
    """A gateway whose folder of accounts is empty, before the simulated vendors."""

    def __init__(self, folder: Path, vendors: Simulator) -> None:
        self.vendors = vendors
        text = 'port: 0\nauth-dir: "AUTH_DIR"\napi-keys: [k1]\nremote-management: {secret-key: mk}\nrequest-retry: 0\n'
        self.managed = Managed(folder, text + vendors.endpoints())
        self.folder = self.managed.auth_dir

    def drop(self, kind: str, email: str = "ada@x.org", **more: object) -> Path:
        """A file as the Go program writes it, put there by hand."""
        path = self.folder / f"{kind}-{email}.json"
        beside = path.with_suffix(".new")
        beside.write_text(json.dumps(self.vendors.accounts.issue(kind, email, **more)) + "\n")  # type: ignore[arg-type]
        beside.rename(path)
        return path

    def ask(self, kind: str) -> Reply:
        return self.managed.ask("POST", "/v1/chat/completions", {"model": MODELS[kind], **ASKED}, headers=CALLER)

    def serves(self, kind: str) -> bool:
        reply = self.ask(kind)
        return reply.status == 200 and "echo: hi" in reply.content.decode()

    def renewals(self) -> int:
        return sum(1 for request in self.vendors.requests if request.path.endswith("/token"))

    def listed(self, path: Path) -> dict[str, object]:
        (file,) = self.managed.get(f"/auth-files?name={path.name}").json["files"]  # type: ignore[index]
        return file


@pytest.fixture
def scene(tmp_path: Path, vendors: Simulator) -> Iterator[Scene]:
    scene = Scene(tmp_path, vendors)
    yield scene
    scene.managed.let_go()


@pytest.mark.parametrize("kind", list(MODELS))
def test_a_file_that_is_dropped_into_the_folder_serves_within_a_second(scene: Scene, kind: str) -> None:
    assert scene.ask(kind).status in (404, 503)

    scene.drop(kind)

    assert soon(lambda: scene.serves(kind), 2.0)


@pytest.mark.parametrize("kind", list(MODELS))
def test_an_uploaded_file_serves_when_the_upload_is_answered(scene: Scene, kind: str) -> None:
    members = scene.vendors.accounts.issue(kind, "ada@x.org")  # type: ignore[arg-type]

    assert scene.managed.post(f"/auth-files?name={kind}.json", members).status == 200

    assert scene.serves(kind)


def test_171_a_deleted_file_no_longer_serves(scene: Scene) -> None:
    path = scene.drop("claude")
    assert soon(lambda: scene.serves("claude"))

    assert scene.managed.delete(f"/auth-files?name={path.name}").status == 200

    assert not path.exists()
    assert not scene.serves("claude")
    models = scene.managed.ask("GET", "/v1/models", headers=CALLER)
    assert MODELS["claude"] not in models.content.decode()


def test_177_files_come_change_break_and_move(scene: Scene) -> None:
    path = scene.drop("claude")
    other = scene.drop("codex")
    assert soon(lambda: scene.serves("claude") and scene.serves("codex"))

    whole = path.read_text()
    path.write_text(whole)
    time.sleep(0.6)
    assert scene.serves("claude")

    path.write_text(whole[:50])
    assert soon(lambda: not scene.serves("claude"))
    assert scene.serves("codex")
    assert scene.listed(path)["status"] == "error"

    path.write_text(whole)
    assert soon(lambda: scene.serves("claude"))

    path.rename(path.with_name("moved.json"))
    assert soon(lambda: scene.managed.get("/auth-files").content.decode().count('"claude"') == 2)
    assert scene.serves("claude")
    (moved,) = [file for file in scene.managed.get("/auth-files").json["files"] if file["type"] == "claude"]  # type: ignore[index]
    assert moved["name"] == "moved.json"
    assert other.exists()


@pytest.mark.parametrize("kind", list(MODELS))
def test_an_expired_token_is_renewed_before_it_is_used(scene: Scene, kind: str) -> None:
    path = scene.drop(kind, expired=True)
    before = json.loads(path.read_text())

    assert soon(lambda: scene.serves(kind))

    assert scene.renewals() == 1
    after = json.loads(path.read_text())
    assert after != before
    assert after.keys() >= before.keys()
    refused = [request for request in scene.vendors.requests if request.status == 401]
    assert refused == []


@pytest.mark.parametrize("kind", ["claude", "codex", "qwen"])
def test_a_token_that_is_refused_is_renewed_and_the_request_answered(scene: Scene, kind: str) -> None:
    scene.drop(kind)
    assert soon(lambda: scene.serves(kind))
    scene.vendors.accounts.expire("ada@x.org")

    assert scene.serves(kind)

    assert scene.renewals() == 1
    assert len([request for request in scene.vendors.requests if request.status == 401]) == 1


@pytest.mark.parametrize("kind", list(MODELS))
def test_twenty_requests_on_an_expired_token_cause_one_renewal(scene: Scene, kind: str) -> None:
    scene.drop(kind)
    assert soon(lambda: scene.serves(kind))
    scene.vendors.accounts.expire("ada@x.org")

    with ThreadPoolExecutor(20) as callers:
        answers = list(callers.map(lambda _: scene.ask(kind).status, range(20)))

    assert answers == [200] * 20
    assert scene.renewals() == 1


def test_a_revoked_account_says_so_and_a_new_login_mends_it(scene: Scene) -> None:
    path = scene.drop("claude")
    assert soon(lambda: scene.serves("claude"))
    scene.vendors.accounts.revoke("ada@x.org")

    for _ in range(5):
        assert not scene.serves("claude")

    assert scene.renewals() == 1
    listed = scene.listed(path)
    assert listed["status"] == "error"
    assert listed["unavailable"] is True
    assert "log in again" in str(listed["status_message"])

    scene.drop("claude")
    assert soon(lambda: scene.serves("claude"))


def test_another_account_serves_while_one_is_revoked(scene: Scene) -> None:
    scene.drop("claude", "ada@x.org")
    scene.drop("claude", "eve@x.org")
    assert soon(lambda: scene.managed.serving.accounts == 2)
    assert scene.serves("claude")
    scene.vendors.accounts.revoke("ada@x.org")

    assert all(scene.serves("claude") for _ in range(6))


def test_settings_of_a_file_are_honoured(scene: Scene) -> None:
    path = scene.drop("claude")
    assert soon(lambda: scene.serves("claude"))

    assert scene.managed.patch("/auth-files/status", {"name": path.name, "disabled": True}).status == 200
    assert not scene.serves("claude")

    assert scene.managed.patch("/auth-files/status", {"name": path.name, "disabled": False}).status == 200
    assert scene.serves("claude")

    fields = {"name": path.name, "prefix": "work"}
    assert scene.managed.patch("/auth-files/fields", fields).status == 200
    model = f"work/{MODELS['claude']}"
    reply = scene.managed.ask("POST", "/v1/chat/completions", {"model": model, **ASKED}, headers=CALLER)
    assert reply.status == 200


def test_unknown_members_survive_a_renewal(scene: Scene) -> None:
    path = scene.folder / "mine.json"
    members = scene.vendors.accounts.issue("codex", "ada@x.org", expired=True)
    members |= {"my_note": {"keep": [1, 2.50]}, "zahl": 12345678901234567890}
    path.write_text(json.dumps(members, indent=3))

    assert soon(lambda: scene.serves("codex"))

    text = path.read_text()
    assert '"my_note": {\n      "keep": [\n         1,\n         2.5\n      ]\n   }' in text
    assert '"zahl": 12345678901234567890' in text
    assert path.stat().st_mode & 0o777 in (0o600, 0o644)


def test_ten_thousand_files_serve_within_ten_seconds(tmp_path: Path, vendors: Simulator) -> None:
    folder = tmp_path / "cpa-auth"
    folder.mkdir()
    for number in range(10_000):
        members = vendors.accounts.issue("claude", f"{number}@x.org", lifetime=30 * 24 * 3600)
        (folder / f"claude-{number:05}.json").write_text(json.dumps(members))
    started = time.monotonic()

    scene = Scene(tmp_path, vendors)
    try:
        listening = time.monotonic() - started
        assert soon(lambda: scene.managed.serving.accounts == 10_000, 20)
        all_there = time.monotonic() - started
        assert scene.serves("claude")
    finally:
        scene.managed.stop()

    assert listening < 2
    assert all_there < 10
