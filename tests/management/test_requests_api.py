"""`/requests`: what became of the newest requests, and why."""

from typing import Any

import pytest
from jsonschema import Draft202012Validator
from managed import Managed, Reply, refused

from cliproxy.server.management import requests
from cliproxy.simulator import Simulator
from cliproxy.simulator.failures import failure, rate_limited
from cliproxy.simulator.rules import Rule

SONNET = "claude-sonnet-4-5-20250929"
TEXT = """\
port: 0
auth-dir: "AUTH_DIR"
api-keys: [test-key]
request-retry: 0
max-retry-interval: 0
remote-management: {{secret-key: mk}}
claude-api-key:
  - {{api-key: sk-sim-a, base-url: "{url}", priority: 5, models: [{{name: claude-sonnet-4-5-20250929, alias: sonnet}}]}}
  - {{api-key: sk-sim-b, base-url: "{url}", models: [{{name: claude-sonnet-4-5-20250929, alias: sonnet}}]}}
openai-compatibility:
  - {{name: one, base-url: "{url}/v1", api-keys: [sk-sim-3], models: [{{name: sim-large}}]}}
"""
CALLER = {"Authorization": "Bearer test-key"}
GONE = "there is no such request: only the newest 2,000 since the start are kept"
PROMPT = "a prompt that nobody else may read"


class Scene:
    def __init__(self, managed: Managed, vendors: Simulator) -> None:
        self.managed = managed
        self.vendors = vendors

    def ask(self, model: str = "sonnet", **more: object) -> Reply:
        body = {"model": model, "max_tokens": 20, "messages": [{"role": "user", "content": PROMPT}], **more}
        return self.managed.post("/v1/messages", body, headers=CALLER)

    def lines(self, query: str = "") -> list[dict[str, Any]]:
        told: Any = self.managed.get(f"/requests{query}").json
        return told["requests"]

    def story(self, reply: Reply) -> dict[str, Any]:
        told: Any = self.managed.get(f"/requests/{reply.headers['x-request-id']}").json
        return told


@pytest.fixture
def scene(manage: Any, vendors: Simulator) -> Scene:
    return Scene(manage(TEXT.format(url=vendors.url)), vendors)


def test_a_request_that_moved_on_is_explained_by_its_id(scene: Scene) -> None:
    scene.vendors.script(Rule(key="sk-sim-a", answer=rate_limited("anthropic", 300), times=1))

    story = scene.story(scene.ask())

    first, second = story["attempts"]
    assert (story["status"], story["outcome"], story["dialect"], story["model"]) == (
        200,
        "served",
        "anthropic",
        "sonnet",
    )
    assert story["served_model"] == SONNET
    assert story["candidates"]["tiers"] == [{"priority": 5, "count": 1}, {"priority": 0, "count": 1}]
    assert (first["label"], first["status"], first["fault"], first["scope"]) == (
        "claude-api-key[0]",
        429,
        "quota",
        "account",
    )
    assert (first["source"], first["wait"], first["why"]) == ("header", 300, "turn")
    assert (second["label"], second["outcome"], second["status"]) == ("claude-api-key[1]", "answered", 200)
    assert "`claude-api-key[0]` was asked in its turn and refused with 429" in story["summary"]
    assert "out of quota for 5 min (its vendor said so in the headers" in story["summary"]
    assert "`claude-api-key[1]` was asked next and answered" in story["summary"]
    assert story["timings"]["total_ms"] == story["duration_ms"]
    for row, told in zip(requests.ROWS, (scene.managed.get("/requests").json, story), strict=True):
        Draft202012Validator(row.operations["GET"].answers[200]).validate(told)


def test_who_rests_is_passed_over_with_the_reason(scene: Scene) -> None:
    scene.vendors.script(Rule(key="sk-sim-a", answer=rate_limited("anthropic", 300), times=1))
    scene.ask()

    story = scene.story(scene.ask())

    (passed,) = story["passed_over"]
    assert (passed["label"], passed["cause"], passed["scope"]) == ("claude-api-key[0]", "quota", "account")
    assert passed["until"].endswith("Z")
    assert "`claude-api-key[0]` was passed over: out of quota, resting until" in story["summary"]


def test_all_rest_and_the_caller_is_told_so(scene: Scene) -> None:
    scene.vendors.script(Rule(path="/messages", answer=rate_limited("anthropic", 300)))
    scene.ask()

    story = scene.story(scene.ask())

    assert (story["status"], story["outcome"], story["attempts"]) == (429, "refused", [])
    assert len(story["passed_over"]) == 2
    described = requests.ROWS[1].operations["GET"].answers[200]
    Draft202012Validator(described).validate(story)
    assert story["summary"].split(". ")[-1].startswith("The caller was told, after ")
    assert "ms: out of quota for now (429), and to come back in " in story["summary"]
    assert story["problem"]["retry_after"] > 290


def test_a_model_that_nobody_serves(scene: Scene) -> None:
    story = scene.story(scene.ask("nothing"))

    assert (story["status"], story["candidates"], story["attempts"]) == (404, None, [])
    assert story["summary"].startswith("`nothing` was asked for by an Anthropic client. The caller was told")


def test_a_stream_that_breaks_off(scene: Scene) -> None:
    scene.vendors.script(Rule(error_after=4))

    story = scene.story(scene.ask(stream=True))

    assert (story["outcome"], story["stream"], story["attempts"][-1]["outcome"]) == ("broke-off", True, "answered")
    assert "The answer broke off after it had begun" in story["summary"]


def test_what_translation_could_not_carry_is_told(scene: Scene) -> None:
    story = scene.story(scene.ask("sim-large", top_k=5))

    assert [loss["path"] for loss in story["attempts"][0]["losses"]] == ["sampling.top_k"]


def test_sentences_alone(scene: Scene) -> None:
    reply = scene.ask()
    address = f"/requests/{reply.headers['x-request-id']}"
    headers = {"Authorization": "Bearer mk", "Accept": "text/plain"}

    by_header, by_query = scene.managed.get(address, headers=headers), scene.managed.get(f"{address}?format=text")

    assert by_header.headers["content-type"] == "text/plain; charset=utf-8"
    assert by_header.content == by_query.content
    assert by_query.content.decode().splitlines() == [
        "`sonnet` was asked for by an Anthropic client.",
        "2 accounts serve it, in 2 tiers of priority.",
        by_query.content.decode().splitlines()[2],
    ]
    assert (
        by_query.content.decode().splitlines()[2].startswith("`claude-api-key[0]` was asked in its turn and answered")
    )


def test_nothing_of_prompts_keys_or_answers_is_shown(scene: Scene) -> None:
    scene.vendors.script(Rule(answer=failure("anthropic", 400, f"invalid: {PROMPT} sk-sim-a")))
    reply = scene.ask()
    assert PROMPT.encode() in reply.content

    for path in ("/requests", f"/requests/{reply.headers['x-request-id']}"):
        content = scene.managed.get(path).content
        assert PROMPT.encode() not in content
        assert b"sk-sim" not in content


def test_the_newest_come_first_and_pages_go_back(scene: Scene) -> None:
    ids = [scene.ask().headers["x-request-id"] for _ in range(5)]

    first: Any = scene.managed.get("/requests?limit=2").json
    second: Any = scene.managed.get(f"/requests?limit=2&after={first['next']}").json
    by_id: Any = scene.managed.get(f"/requests?limit=2&after={ids[3]}").json
    last: Any = scene.managed.get(f"/requests?limit=2&after={second['next']}").json

    assert [line["id"] for line in first["requests"]] == [ids[4], ids[3]]
    assert [line["id"] for line in second["requests"]] == [ids[2], ids[1]]
    assert by_id == second
    assert ([line["id"] for line in last["requests"]], last["next"]) == ([ids[0]], None)
    assert [line["number"] for line in scene.lines()] == [5, 4, 3, 2, 1]


def test_filters(scene: Scene) -> None:
    scene.vendors.script(Rule(key="sk-sim-a", answer=failure("anthropic", 400), times=1))
    refused_, served = scene.ask(), scene.ask()
    other, unknown = scene.ask("sim-large"), scene.ask("nothing")
    names = {reply.headers["x-request-id"]: number for number, reply in enumerate((refused_, served, other, unknown))}

    def found(query: str) -> list[int]:
        return [names[line["id"]] for line in scene.lines(query)]

    account = scene.lines()[-1]["account"]
    assert found("") == [3, 2, 1, 0]
    assert found(f"?account={account}") == found("?account=claude-api-key%5B0%5D") == [1, 0]
    assert found("?model=sonnet") == found(f"?model={SONNET}") == [1, 0]
    assert found("?status=404") == [3]
    assert found("?failed=true") == [3, 0]
    assert found("?text=ONE%20%23") == [2]
    assert found(f"?text={refused_.headers['x-request-id'].upper()}") == [0]
    assert found("?failed=true&model=sonnet") == [0]


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/requests?limit=0", refused(400, "invalid limit: must be a positive integer")),
        ("/requests?status=x", refused(400, "invalid status: must be a number of three digits")),
        ("/requests?after=req_none", refused(404, GONE)),
        ("/requests/req_none", refused(404, GONE)),
    ],
)
def test_what_is_not_there_is_told(scene: Scene, path: str, told: tuple[int, object]) -> None:
    assert scene.managed.get(path).told == told


def test_a_line_says_how_it_went(scene: Scene) -> None:
    scene.vendors.script(Rule(key="sk-sim-a", answer=rate_limited("anthropic", 300), times=1))
    scene.ask()

    (line,) = scene.lines()

    assert (line["label"], line["attempts"], line["status"], line["served_model"]) == (
        "claude-api-key[1]",
        2,
        200,
        SONNET,
    )
    assert line["sentence"].startswith("`claude-api-key[1]` answered after")
    assert line["sentence"].endswith("; before that 1 attempt failed (out of quota).")
