"""What panels ask besides the configuration, and logins of a gateway that offers none."""

from collections.abc import Iterator

import pytest
from managed import OK, Managed, refused

from cliproxy import __version__
from cliproxy.simulator import Simulator
from cliproxy.simulator.failures import failure
from cliproxy.simulator.rules import Rule
from serving import STANDARD

UNKNOWN = {"status": "error", "error": "unknown or expired state"}
PASTED = "http://localhost:54545/callback?code=c&state=S"


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Managed]:
    managed = Managed(tmp_path_factory.mktemp("panel"))
    yield managed
    managed.stop()


def failed(status: int, text: str) -> tuple[int, object]:
    return status, {"status": "error", "error": text}


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
    assert woken.told == (200, {"status": "ok", "auth_index": account, "models": models})
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


# -- logins


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("", OK),
        ("?state=", OK),
        ("?state=../x", failed(400, "invalid state")),
        ("?state=a..b", failed(400, "invalid state")),
        ("?state=a%0A", failed(200, "unknown or expired state")),
        ("?state=a%20b", failed(400, "invalid state")),
        (f"?state={'a' * 129}", failed(400, "invalid state")),
        (f"?state={'a' * 128}", failed(200, "unknown or expired state")),
        ("?state=A-b_1.c", failed(200, "unknown or expired state")),
    ],
)
def test_the_status_of_a_login_that_nobody_knows(idle: Managed, query: str, told: tuple[int, object]) -> None:
    assert idle.get(f"/get-auth-status{query}").told == told


CALLBACKS = [
    ({"provider": "anthropic", "redirect_url": PASTED}, failed(404, "unknown or expired state")),
    ({"provider": "openai", "code": "c", "state": "S"}, failed(404, "unknown or expired state")),
    ({"provider": "google", "error": "denied", "state": "S", "code": None}, failed(404, "unknown or expired state")),
    ({"provider": "anthropic", "redirect_url": "::"}, failed(400, "invalid redirect_url")),
    ({"provider": "anthropic", "redirect_url": "http://[x"}, failed(400, "invalid redirect_url")),
    ({"provider": "anthropic", "redirect_url": "http://localhost/callback?code=c"}, failed(400, "state is required")),
    ({"provider": "anthropic", "code": "c"}, failed(400, "state is required")),
    ({}, failed(400, "state is required")),
    ({"provider": "anthropic", "code": "c", "state": "../x"}, failed(400, "invalid state")),
    ({"provider": "anthropic", "state": "S"}, failed(400, "code or error is required")),
    ({"provider": "nobody", "code": "c", "state": "S"}, failed(400, "unsupported provider")),
    ({"code": "c", "state": "S"}, failed(400, "unsupported provider")),
]


@pytest.mark.parametrize(("body", "told"), CALLBACKS)
def test_a_callback_for_a_login_that_nobody_knows(
    idle: Managed, body: dict[str, str], told: tuple[int, object]
) -> None:
    assert idle.post("/oauth-callback", body).told == told


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b'{"state":5}'])
def test_a_callback_that_is_no_object_is_refused(idle: Managed, raw: bytes) -> None:
    assert idle.post("/oauth-callback", raw=raw).told == failed(400, "invalid body")


def test_a_redirected_callback_needs_no_key(idle: Managed) -> None:
    query = "?provider=anthropic&code=c&state=S"

    assert idle.get(f"/oauth-callback{query}", headers={}).told == failed(404, "unknown or expired state")
    assert idle.post("/oauth-callback", {}, headers={}).status == 401


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("", refused(400, "missing state")),
        ("?state=../x", refused(400, "invalid state")),
        ("?state=S", (200, {"status": "ok", "cancelled": False})),
    ],
)
def test_cancelling_a_login_that_nobody_knows(idle: Managed, query: str, told: tuple[int, object]) -> None:
    assert idle.delete(f"/oauth-session{query}").told == told


@pytest.mark.parametrize("name", ["anthropic", "codex", "gemini-cli", "qwen"])
def test_a_login_cannot_begin_yet_and_says_what_to_do(idle: Managed, name: str) -> None:
    told = idle.get(f"/{name}-auth-url?is_webui=true")

    assert told.status == 501
    assert "API key" in told.json["error"]  # type: ignore[index]
