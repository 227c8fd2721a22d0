"""What panels ask besides the configuration."""

from collections.abc import Iterator

import pytest
from managed import Managed, refused

from cliproxy import __version__
from cliproxy.simulator import Simulator
from cliproxy.simulator.failures import failure
from cliproxy.simulator.rules import Rule
from serving import STANDARD


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Managed]:
    managed = Managed(tmp_path_factory.mktemp("panel"))
    yield managed
    managed.stop()


def test_the_latest_version_is_the_one_that_runs(idle: Managed) -> None:
    assert idle.get("/latest-version").told == (200, {"latest-version": f"v{__version__}"})


@pytest.mark.parametrize(
    ("channel", "model"),
    [
        ("claude", "claude-opus-4-7"),
        ("Claude", "claude-opus-4-7"),
        ("gemini", "gemini-2.5-pro"),
        ("gemini-cli", "gemini-2.5-pro"),
        ("vertex", "gemini-2.5-pro"),
        ("codex", "gpt-5"),
        ("openai", "gpt-5"),
    ],
)
def test_a_channel_has_its_models(idle: Managed, channel: str, model: str) -> None:
    told = idle.get(f"/model-definitions/{channel}")

    assert told.status == 200
    assert told.json["channel"] == channel.lower()  # type: ignore[index]
    assert model in {row["id"] for row in told.json["models"]}  # type: ignore[index]


def test_rows_of_the_file_are_among_the_definitions(manage) -> None:
    catalog = (
        "models: {catalog: [{id: qwen9, family: qwen, context: 5, output: 6}]}\nremote-management: {secret-key: mk}\n"
    )

    told = manage(f"port: 0\n{catalog}").get("/model-definitions/qwen")

    (row,) = (row for row in told.json["models"] if row["id"] == "qwen9")
    assert (row["id"], row["context_length"], row["max_completion_tokens"]) == ("qwen9", 5, 6)


@pytest.mark.parametrize("channel", ["nobody", "%20", "claude-opus-4-7"])
def test_an_unknown_channel_is_told(idle: Managed, channel: str) -> None:
    assert idle.get(f"/model-definitions/{channel}").told == refused(400, "unknown channel")


# -- rests


def test_an_account_that_rests_can_be_woken(manage, vendors: Simulator) -> None:
    vendors.script(Rule(answer=failure("openai-chat", 401), times=1))
    managed = manage(STANDARD.format(vendors=vendors.url) + "remote-management: {secret-key: mk}\n")
    body = {"model": "sim-chat", "messages": [{"role": "user", "content": "x"}]}

    def ask() -> int:
        return managed.post("/v1/chat/completions", body, headers={"Authorization": "Bearer test-key"}).status

    assert [ask(), ask()] == [502, 503]
    account = managed.get("/usage-queue").json[0]["auth_index"]

    woken = managed.post("/reset-quota", {"auth_index": account})

    models = ["sim-chat", "sim-large"]
    assert woken.told == (200, {"status": "ok", "auth_index": account, "models": models, "ended": 1})
    assert ask() == 200
    assert managed.post("/reset-quota", {"auth_index": account}).json["models"] == []


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"auth_index": "nobody"}, refused(404, "auth not found")),
        ({"auth_index": " "}, refused(400, "auth_index is required")),
        ({}, refused(400, "invalid body")),
        ({"auth_index": 5}, refused(400, "invalid body")),
        ([], refused(400, "invalid body")),
    ],
)
def test_nobody_else_is_woken(idle: Managed, body: object, told: tuple[int, object]) -> None:
    assert idle.post("/reset-quota", body).told == told
