"""Usage as panels read it, move it and take it away."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from managed import FIXTURE, Managed, refused

from cliproxy.simulator import Simulator
from serving import STANDARD

MANAGED = STANDARD + "remote-management: {{secret-key: mk}}\n"
DETAIL = {
    "timestamp": "2026-01-02T03:04:05.123456789+01:00",
    "latency_ms": 12,
    "source": "somebody",
    "auth_index": "abc",
    "tokens": {
        "input_tokens": 5,
        "output_tokens": 7,
        "reasoning_tokens": 1,
        "cached_tokens": 2,
        "total_tokens": 12,
    },
    "failed": False,
}


def ask(managed: Managed, model: str = "sim-chat") -> None:
    body = {"model": model, "messages": [{"role": "user", "content": "one two three"}]}
    managed.post("/v1/chat/completions", body, headers={"Authorization": "Bearer test-key"})


def export_of(*details: dict[str, Any], dialect: str = "old", model: str = "m") -> dict[str, Any]:
    return {"version": 1, "usage": {"apis": {dialect: {"models": {model: {"details": [*details]}}}}}}


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory, shared_vendors: Simulator) -> Iterator[Managed]:
    """A gateway that has answered twice and failed once."""
    managed = Managed(tmp_path_factory.mktemp("used"), MANAGED.format(vendors=shared_vendors.url))
    for model in ("sim-chat", "claude-opus-4-7", "nobody-has-this"):
        ask(managed, model)
    yield managed
    managed.stop()


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Managed]:
    managed = Managed(tmp_path_factory.mktemp("idle"))
    yield managed
    managed.stop()


def test_usage_has_the_shape_that_panels_know(used: Managed) -> None:
    told: Any = used.get("/usage").json
    usage = told["usage"]

    assert told["failed_requests"] == 1
    assert (usage["total_requests"], usage["success_count"], usage["failure_count"]) == (3, 2, 1)
    assert (usage["total_tokens"], usage["untold_requests"], usage["left_requests"]) == (14, 1, 0)
    assert [*usage["requests_by_day"].values()] in ([3], [1, 2], [2, 1])
    assert all(hour.isdigit() and len(hour) == 2 for hour in usage["requests_by_hour"])
    api = usage["apis"]["openai-chat"]
    assert (api["total_requests"], api["total_tokens"]) == (3, 14)
    assert {name: model["total_tokens"] for name, model in api["models"].items()} == {
        "sim-chat": 7,
        "claude-opus-4-7": 7,
        "nobody-has-this": 0,
    }
    (detail,) = api["models"]["sim-chat"]["details"]
    assert detail["source"] == "openai-compatibility[0] simulated #0"
    assert detail["auth_index"].startswith("openai-compatibility-")
    assert (detail["failed"], detail["tokens"]["total_tokens"]) == (False, 7)


def test_an_idle_gateway_has_all_members_too(idle: Managed) -> None:
    told: Any = idle.get("/usage").json

    assert told["usage"]["apis"] == told["usage"]["requests_by_day"] == {}
    assert told["usage"]["total_requests"] == told["failed_requests"] == 0


def test_an_export_can_be_imported_once(used: Managed, manage: Any) -> None:
    export: Any = used.get("/usage/export").json
    fresh = manage()

    first = fresh.post("/usage/import", export).json
    second = fresh.post("/usage/import", export).json

    assert first == {"added": 3, "skipped": 0, "total_requests": 3, "failed_requests": 1}
    assert second == {"added": 0, "skipped": 3, "total_requests": 3, "failed_requests": 1}
    assert export["exported_at"].endswith("Z")
    kept, own = fresh.get("/usage").json["usage"], export["usage"]
    for name in ("total_requests", "success_count", "total_tokens", "untold_requests", "tokens_by_day", "apis"):
        assert kept[name] == own[name]
    assert fresh.get("/usage-queue?count=9").json == []


def test_an_own_export_adds_nothing(used: Managed) -> None:
    export = used.get("/usage/export").json

    assert used.post("/usage/import", export).json == {
        "added": 0,
        "skipped": 3,
        "total_requests": 3,
        "failed_requests": 1,
    }


def test_an_export_of_an_older_version_is_understood(manage: Any) -> None:
    managed = manage()
    later = DETAIL | {"timestamp": "2026-01-02T03:04:06Z", "failed": True, "tokens": None}

    told = managed.post("/usage/import", export_of(DETAIL, later, DETAIL))

    assert told.told == (200, {"added": 2, "skipped": 1, "total_requests": 2, "failed_requests": 1})
    usage = managed.get("/usage").json["usage"]
    assert usage["requests_by_day"] == {"2026-01-02": 2}
    assert usage["tokens_by_hour"] == {"02": 12, "03": 0}
    first, _ = usage["apis"]["old"]["models"]["m"]["details"]
    assert first["timestamp"] == "2026-01-02T02:04:05.123Z"
    assert first["tokens"] == DETAIL["tokens"]


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"", "invalid json"),
        (b"[]", "invalid json"),
        (b'{"version":1', "invalid json"),
        (b"[" * 100_000, "invalid json"),
        (b'{"version":1,"usage":{"apis":5}}', "invalid json"),
        (json.dumps(export_of(DETAIL | {"timestamp": "yesterday"})).encode(), "invalid json"),
        (json.dumps(export_of(DETAIL | {"timestamp": "0001-01-01T00:00:00+10:00"})).encode(), "invalid json"),
        (json.dumps(export_of(DETAIL | {"tokens": {"total_tokens": -1}})).encode(), "invalid json"),
        (json.dumps(export_of(DETAIL | {"tokens": {"total_tokens": 10**40}})).encode(), "invalid json"),
        (json.dumps(export_of(DETAIL | {"latency_ms": 10**40})).encode(), "invalid json"),
        (b"{}", "unsupported version"),
        (b'{"version":2,"usage":{}}', "unsupported version"),
    ],
)
def test_what_is_no_export_is_refused_and_changes_nothing(idle: Managed, raw: bytes, text: str) -> None:
    assert idle.post("/usage/import", raw=raw).told == refused(400, text)
    assert idle.get("/usage").json["usage"]["total_requests"] == 0  # type: ignore[index]


def test_an_import_has_a_largest_size(idle: Managed) -> None:
    assert idle.post("/usage/import", raw=b" " * (10 * 1024 * 1024 + 1)).status == 413
    assert idle.post("/usage/import", raw=b'{"version":1}' + b" " * 9_000_000).told == (
        200,
        {"added": 0, "skipped": 0, "total_requests": 0, "failed_requests": 0},
    )


def test_many_imported_requests_are_counted_exactly_and_kept_in_part(manage: Any) -> None:
    managed = manage()
    details = [DETAIL | {"request_id": f"req_other{number}"} for number in range(3000)]

    assert managed.post("/usage/import", export_of(*details)).json["added"] == 3000
    assert managed.post("/usage/import", export_of(*details)).json["skipped"] == 3000
    model = managed.get("/usage").json["usage"]["apis"]["old"]["models"]["m"]
    assert (model["total_requests"], model["total_tokens"], len(model["details"])) == (3000, 36_000, 1000)


def test_the_queue_gives_each_request_once(manage: Any, shared_vendors: Simulator) -> None:
    managed = manage(MANAGED.format(vendors=shared_vendors.url))
    for _ in range(3):
        ask(managed)

    first, rest = managed.get("/usage-queue").json, managed.get("/usage-queue?count=10").json

    assert (len(first), len(rest)) == (1, 2)
    assert len({record["request_id"] for record in [*first, *rest]}) == 3
    assert managed.get("/usage-queue").told == (200, [])
    assert managed.get("/usage").json["usage"]["total_requests"] == 3


@pytest.mark.parametrize("count", ["0", "-1", "", "x", "1.5", "%2B1", "%C2%B2", "1" * 5000])
def test_a_count_that_is_no_positive_integer_is_refused(idle: Managed, count: str) -> None:
    assert idle.get(f"/usage-queue?count={count}").told == refused(400, "count must be a positive integer")


def test_each_upstream_key_has_its_counters(used: Managed, shared_vendors: Simulator) -> None:
    told: Any = used.get("/api-key-usage").json

    assert told.keys() == {"claude", "codex", "gemini", "openai-compatibility"}
    assert told["codex"] == {
        f"{shared_vendors.url}/v1|sk-sim-openai": {"success": 0, "failed": 0, "recent_requests": []}
    }
    (counters,) = told["openai-compatibility"].values()
    assert (counters["success"], counters["failed"]) == (1, 0)
    (slot,) = counters["recent_requests"]
    assert (slot["success"], slot["failed"]) == (1, 0)
    assert slot["time"].endswith("0:00.000Z")


def test_keys_are_named_as_the_file_names_their_entries(manage: Any, tmp_path: Path) -> None:
    text = FIXTURE.replace(
        '    base-url: "https://a.example"',
        '    base-url: "https://a.example/"\n  - api-key: "ca"\n    base-url: "https://b.example/v1"',
    )
    told = manage(text).get("/api-key-usage").json

    assert [*told["claude"]] == ["https://a.example/|ca", "https://b.example/v1|ca", "|cb"]
    assert [*told["gemini"]] == ["|gemini-key-0001"]
