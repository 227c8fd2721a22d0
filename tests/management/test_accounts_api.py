"""`/accounts`: who there is, how it stands with each, and the operator's switch."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from managed import Managed, refused, soon

from cliproxy.server.management import accounts
from cliproxy.simulator import Simulator
from cliproxy.simulator.failures import failure, quota_exhausted, rate_limited
from cliproxy.simulator.rules import Rule

SONNET = "claude-sonnet-4-5-20250929"
TEXT = """\
port: 0
auth-dir: "AUTH_DIR"
api-keys: [test-key]
request-retry: 0
max-retry-interval: 0
remote-management: {{secret-key: mk}}
generative-language-api-key: [sk-sim-plain]
gemini-api-key:
  - {{api-key: sk-sim-gemini, base-url: "{url}", disabled: true, models: [{{name: gemini-2.5-flash}}]}}
claude-api-key: # ours
  - {{api-key: sk-sim-a, base-url: "{url}", priority: 5, prefix: team, models: [{{name: claude-sonnet-4-5-20250929, alias: sonnet}}, {{name: claude-opus-4-7, alias: opus}}]}} # the first
  - {{api-key: sk-sim-b, base-url: "{url}", models: [{{name: claude-sonnet-4-5-20250929, alias: sonnet}}]}}
openai-compatibility:
  - {{name: several, base-url: "{url}/v1", api-keys: [sk-sim-1, sk-sim-2], models: [{{name: sim-chat}}]}}
  - {{name: one, base-url: "{url}/v1", api-keys: [sk-sim-3], models: [{{name: sim-large}}]}}
"""
CALLER = {"Authorization": "Bearer test-key"}
Entry = dict[str, Any]


class Scene:
    """A gateway with keys of all kinds and a folder of credential files, before the simulated vendors."""

    def __init__(self, managed: Managed, vendors: Simulator) -> None:
        self.managed = managed
        self.vendors = vendors

    def ask(self, model: str = "sonnet") -> int:
        body = {"model": model, "max_tokens": 20, "messages": [{"role": "user", "content": "hi"}]}
        return self.managed.post("/v1/messages", body, headers=CALLER).status

    def page(self, query: str = "") -> tuple[list[Entry], int, str | None]:
        told: Any = self.managed.get(f"/accounts{query}").json
        return told["accounts"], told["total"], told["next"]

    def all(self, query: str = "") -> dict[str, Entry]:
        return {entry["label"]: entry for entry in self.page(query)[0]}

    def of(self, label: str) -> Entry:
        return self.all()[label]

    def switch(self, label: str, *, disabled: bool) -> Any:
        return self.managed.patch("/accounts", {"id": self.of(label)["id"], "disabled": disabled})

    def file(self, name: str, members: object) -> None:
        self.managed.post(f"/auth-files?name={name}", members)


@pytest.fixture
def scene(manage: Any, vendors: Simulator) -> Scene:
    return Scene(manage(TEXT.format(url=vendors.url) + vendors.endpoints()), vendors)


# -- who there is


def test_all_keys_are_there_the_disabled_ones_too(scene: Scene) -> None:
    found = scene.all()

    assert {(label, entry["source"], entry["state"]) for label, entry in found.items()} == {
        ("gemini-api-key[0]", "gemini-api-key", "disabled"),
        ("gemini-api-key[1]", "generative-language-api-key", "ready"),
        ("claude-api-key[0]", "claude-api-key", "ready"),
        ("claude-api-key[1]", "claude-api-key", "ready"),
        ("openai-compatibility[0] several #0", "openai-compatibility", "ready"),
        ("openai-compatibility[0] several #1", "openai-compatibility", "ready"),
        ("openai-compatibility[1] one #0", "openai-compatibility", "ready"),
    }
    first = found["claude-api-key[0]"]
    assert (first["priority"], first["prefix"], first["models"], first["provider"]) == (5, "team", 2, "claude")
    assert (found["gemini-api-key[0]"]["disabled"], found["gemini-api-key[0]"]["disabled_by"]) == (True, "operator")
    assert (first["disabled"], first["disabled_by"]) == (False, None)


def test_no_key_is_shown(scene: Scene) -> None:
    assert b"sk-sim" not in scene.managed.get("/accounts").content


def test_files_are_there_whatever_is_in_them(scene: Scene) -> None:
    issued = scene.vendors.accounts.issue("claude", "ada@example.com")
    scene.file("good.json", issued | {"note": "Ada's own", "priority": 7})
    scene.file("off.json", issued | {"disabled": True})
    scene.file("strange.json", {"type": "else"})

    assert soon(lambda: "strange.json" in scene.all())
    found = scene.all()

    good, off, strange = found["good.json"], found["off.json"], found["strange.json"]
    assert (good["state"], good["email"], good["note"], good["priority"]) == (
        "ready",
        "ada@example.com",
        "Ada's own",
        7,
    )
    assert good["next_refresh"].endswith("Z")
    assert (off["state"], off["disabled_by"], off["source"]) == ("disabled", "operator", "off.json")
    assert off["models"] == good["models"] > 1
    assert (strange["state"], strange["models"]) == ("error", 0)
    assert "unknown type" in strange["state_text"]


def test_pages_follow_each_other(scene: Scene) -> None:
    seen: list[str] = []
    after: str | None = ""
    while after is not None:
        entries, total, after = scene.page(f"?limit=3&after={after}")
        assert total == 7
        assert len(entries) <= 3
        seen += [entry["id"] for entry in entries]

    assert seen == sorted(entry["id"] for entry in scene.page()[0])
    assert scene.page("?limit=7")[2] is None
    assert scene.page("?after=zzz")[0] == []


@pytest.mark.parametrize(
    ("query", "labels"),
    [
        ("?state=disabled", {"gemini-api-key[0]"}),
        ("?state=resting", set()),
        ("?provider=claude", {"claude-api-key[0]", "claude-api-key[1]"}),
        ("?text=TEAM", {"claude-api-key[0]"}),
        ("?text=generative", {"gemini-api-key[1]"}),
        ("?text=one%20%23&state=ready", {"openai-compatibility[1] one #0"}),
        ("?provider=claude&text=several", set()),
    ],
)
def test_filters(scene: Scene, query: str, labels: set[str]) -> None:
    assert set(scene.all(query)) == labels


def test_the_e_mail_and_the_note_of_a_file_are_looked_into(scene: Scene) -> None:
    scene.file("x.json", scene.vendors.accounts.issue("claude", "ada@example.com") | {"note": "Loan of Bob"})

    assert set(scene.all("?text=ADA@")) == set(scene.all("?text=of%20bob")) == {"x.json"}


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("?limit=0", "invalid limit: must be a positive integer"),
        ("?limit=x", "invalid limit: must be a positive integer"),
        (
            "?state=tired",
            "invalid state: it is none of ready, low, shaky, partly-resting, resting, suspended, disabled, error",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(scene: Scene, query: str, text: str) -> None:
    assert scene.managed.get(f"/accounts{query}").told == refused(400, text)


# -- how it stands with them


def test_a_stated_limit_is_shown_in_the_vendors_words_until_a_reset(scene: Scene) -> None:
    assert scene.ask() == 200
    scene.vendors.script(Rule(key="sk-sim-a", answer=rate_limited("anthropic", 300), times=1))
    assert scene.ask() == 200  # of the second

    first = scene.of("claude-api-key[0]")
    (cooldown,) = first["cooldowns"]

    assert (first["state"], cooldown["model"], cooldown["cause"], cooldown["status"]) == ("resting", None, "quota", 429)
    assert (cooldown["source"], cooldown["count"], cooldown["probes"]) == ("header", 1, 0)
    assert 290 < cooldown["resets_in"] <= 302
    assert first["until"] == cooldown["until"]
    assert abs(datetime.fromisoformat(cooldown["until"]).timestamp() - datetime.now(UTC).timestamp() - 300) < 15
    assert "out of quota" in first["state_text"]
    assert "its vendor said so in the headers" in first["state_text"]
    assert "anthropic-ratelimit-requests-remaining: 0" in cooldown["evidence"]
    limit = next(limit for limit in first["limits"] if limit["name"] == "requests")
    assert (limit["total"], limit["remaining"], limit["left_percent"]) == (50, 0, 0)
    assert (first["success"], first["failed"]) == (1, 1)
    assert (first["low"], first["low_until"] is None) == (True, False)
    assert set(scene.all("?state=resting")) == {"claude-api-key[0]"}

    for row, path in zip(accounts.ROWS, ("/accounts", f"/accounts/{first['id']}"), strict=True):
        Draft202012Validator(row.operations["GET"].answers[200]).validate(scene.managed.get(path).json)

    reset = scene.managed.post("/reset-quota", {"id": first["id"]})

    assert reset.told == (
        200,
        {"status": "ok", "id": first["id"], "models": [SONNET, "claude-opus-4-7"], "ended": 2},
    )
    after = scene.of("claude-api-key[0]")
    assert (after["state"], after["cooldowns"], after["low"]) == ("ready", [], False)
    assert scene.ask("opus") == 200


def test_one_account_tells_of_each_of_its_models(scene: Scene) -> None:
    scene.vendors.script(Rule(key="sk-sim-a", answer=failure("anthropic", 404), times=1))
    assert scene.ask() == 200
    first = scene.of("claude-api-key[0]")

    whole: Any = scene.managed.get(f"/accounts/{first['id']}").json

    standing = {one["model"]: one for one in whole["serves"]}
    assert first["state"] == whole["state"] == "partly-resting"
    assert set(scene.all("?state=partly-resting")) == {"claude-api-key[0]"}
    assert set(standing) == {"sonnet", "opus"}
    assert (standing["sonnet"]["served_model"], standing["sonnet"]["state"]) == (SONNET, "resting")
    assert "it does not have this model" in standing["sonnet"]["text"]
    assert standing["opus"]["state"] == "ready"
    assert scene.managed.get("/accounts/nobody").told == refused(404, "account not found")


def test_a_refused_key_rests_as_a_whole(scene: Scene) -> None:
    scene.vendors.script(Rule(key="sk-sim-a", answer=failure("anthropic", 401)))
    scene.ask()

    first = scene.of("claude-api-key[0]")

    assert (first["state"], first["cooldowns"][0]["model"], first["cooldowns"][0]["source"]) == (
        "resting",
        None,
        "guess",
    )
    assert first["state_text"].startswith("The whole account rests until")


def test_a_login_that_is_used_up_rests_for_as_long_as_its_vendor_says(scene: Scene) -> None:
    scene.file("ada.json", scene.vendors.accounts.issue("claude", "ada@example.com") | {"priority": 9})
    scene.vendors.script(Rule(account="ada@example.com", answer=quota_exhausted("anthropic", 7_200)))
    scene.ask(SONNET)

    account = scene.of("ada.json")

    assert account["cooldowns"][0]["cause"] == "exhausted"
    assert 7_100 < account["cooldowns"][0]["resets_in"] < 7_400
    by_index = scene.managed.get("/auth-files").json["files"][0]["auth_index"]  # type: ignore[index]
    reset = scene.managed.post("/reset-quota", {"auth_index": by_index}).json
    assert reset["auth_index"] == by_index  # type: ignore[index]
    assert reset["ended"] >= 1  # type: ignore[index]
    assert scene.of("ada.json")["cooldowns"] == []


def test_all_are_reset_at_once(scene: Scene) -> None:
    scene.vendors.script(Rule(path="/messages", answer=failure("anthropic", 401)))
    scene.ask()
    assert set(scene.all("?state=resting")) == {"claude-api-key[0]", "claude-api-key[1]"}

    assert scene.managed.post("/reset-quota", {"all": True}).told == (200, {"status": "ok", "accounts": 2, "ended": 2})

    assert scene.all("?state=resting") == {}
    assert scene.managed.post("/reset-quota", {"all": True}).told == (200, {"status": "ok", "accounts": 0, "ended": 0})


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"id": "nobody"}, refused(404, "account not found")),
        ({"all": False}, refused(400, "invalid body")),
        ({"all": True, "id": "x"}, refused(400, "invalid body")),
        ({"auth_index": "x", "id": "x"}, refused(400, "invalid body")),
    ],
)
def test_a_reset_says_of_whom(scene: Scene, body: object, told: tuple[int, object]) -> None:
    assert scene.managed.post("/reset-quota", body).told == told


# -- the switch


@pytest.mark.parametrize("label", ["claude-api-key[1]", "openai-compatibility[1] one #0"])
def test_a_key_is_switched_in_its_entry(scene: Scene, label: str) -> None:
    off = scene.switch(label, disabled=True)

    assert (off.status, off.json["account"]["state"]) == (200, "disabled")
    assert scene.managed.file.count("disabled: true") == 2
    assert "# the first" in scene.managed.file
    assert "# ours" in scene.managed.file

    on = scene.switch(label, disabled=False)

    assert (on.status, on.json["account"]["state"], on.json["account"]["label"]) == (200, "ready", label)
    assert scene.managed.file.count("disabled: true") == 1


def test_a_disabled_key_is_asked_by_nobody(scene: Scene) -> None:
    assert scene.ask("opus") == 200
    scene.switch("claude-api-key[0]", disabled=True)
    assert scene.ask("opus") == 404
    assert scene.ask("sonnet") == 200

    scene.switch("claude-api-key[0]", disabled=False)

    assert scene.ask("opus") == 200


def test_an_entry_that_was_disabled_from_the_start_is_enabled(scene: Scene) -> None:
    assert scene.switch("gemini-api-key[0]", disabled=False).json["account"]["state"] == "ready"
    assert "disabled: true" not in scene.managed.file


def test_a_file_is_switched_in_the_file(scene: Scene) -> None:
    scene.file("ada.json", scene.vendors.accounts.issue("claude", "ada@example.com") | {"mine": 1})

    assert scene.switch("ada.json", disabled=True).json["account"]["state"] == "disabled"
    members = json.loads((scene.managed.auth_dir / "ada.json").read_text())
    assert (members["disabled"], members["mine"]) == (True, 1)
    assert scene.switch("ada.json", disabled=False).json["account"]["state"] == "ready"


def test_what_has_no_switch_of_its_own_is_told(scene: Scene) -> None:
    before = scene.managed.file
    several = scene.switch("openai-compatibility[0] several #1", disabled=True)
    plain = scene.switch("gemini-api-key[1]", disabled=True)

    assert (several.status, plain.status) == (409, 409)
    assert "`openai-compatibility[0]` holds 2 keys with one switch" in several.json["error"]
    assert '{"index": 1, "value": {"disabled": true}}' in plain.json["error"]
    assert scene.managed.file == before


def test_the_way_that_a_refusal_tells_is_one(scene: Scene) -> None:
    assert scene.managed.patch("/gemini-api-key", {"index": 1, "value": {"disabled": True}}).status == 200

    assert scene.of("gemini-api-key[1]")["state"] == "disabled"


def test_projects_of_one_file_have_one_switch(scene: Scene) -> None:
    scene.file("cy.json", scene.vendors.accounts.issue("gemini", "cy@example.com", project="one-1,two-2"))
    labels = [label for label in scene.all() if label.startswith("cy.json")]
    assert len(labels) == 2

    told = scene.switch(labels[0], disabled=True)

    assert told.told == refused(409, "`cy.json` holds 2 accounts with one switch: use `PATCH /auth-files/status`")


def test_doubles_are_told_apart_also_when_one_is_disabled(manage: Any, vendors: Simulator) -> None:
    double = (
        f'  - {{api-key: sk-sim-a, base-url: "{vendors.url}", disabled: true, models: [{{name: claude-opus-4-7}}]}}\n'
    )
    text = TEXT.format(url=vendors.url)
    scene = Scene(manage(text.replace("claude-api-key: # ours\n", f"claude-api-key: # ours\n{double}")), vendors)

    found = scene.all("?provider=claude")
    told = scene.switch("claude-api-key[0]", disabled=False)

    assert {label: entry["state"] for label, entry in found.items()} == {
        "claude-api-key[0]": "disabled",
        "claude-api-key[1]": "ready",
        "claude-api-key[2]": "ready",
    }
    assert found["claude-api-key[0]"]["id"] == found["claude-api-key[1]"]["id"] + "-2"
    assert (told.status, told.json["account"]["label"]) == (200, "claude-api-key[0]")
    assert {entry["state"] for entry in scene.all("?provider=claude").values()} == {"ready"}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"id": "nobody", "disabled": True}, refused(404, "account not found")),
        ({"id": "nobody"}, refused(400, "invalid body")),
        ({"id": 5, "disabled": True}, refused(400, "invalid body")),
        ([], refused(400, "invalid body")),
    ],
)
def test_nobody_else_is_switched(scene: Scene, body: object, told: tuple[int, object]) -> None:
    assert scene.managed.patch("/accounts", body).told == told


def test_a_condition_is_refused_and_not_ignored(scene: Scene) -> None:
    headers = {"Authorization": "Bearer mk", "If-Match": '"x"'}

    assert scene.managed.patch("/accounts", {"id": "x", "disabled": True}, headers=headers).status == 400


def test_a_file_that_holds_no_account_has_no_switch(scene: Scene) -> None:
    scene.file("strange.json", {"type": "else"})
    assert soon(lambda: "strange.json" in scene.all())

    told = scene.switch("strange.json", disabled=True)

    assert told.status == 409
    assert "`strange.json` holds no account" in told.json["error"]
