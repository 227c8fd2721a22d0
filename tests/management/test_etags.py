"""Every setting and list can be written on condition that nothing has changed since it was read."""

from collections.abc import Iterator

import pytest
from managed import KEY, OK, Managed

from cliproxy.server.management import entry_lists, lists, settings

ROWS = (*settings.ROWS, *lists.ROWS, *entry_lists.ROWS)
WRITES: dict[str, tuple[object, object]] = {
    "/debug": ({"value": True}, {"value": False}),
    "/request-log": ({"value": True}, {"value": False}),
    "/logging-to-file": ({"value": True}, {"value": False}),
    "/allow-localhost-unauthenticated": ({"value": True}, {"value": False}),
    "/proxy-url": ({"value": "http://127.0.0.1:1"}, {"value": "http://127.0.0.1:2"}),
    "/request-retry": ({"value": 4}, {"value": 5}),
    "/max-retry-credentials": ({"value": 4}, {"value": 5}),
    "/max-retry-interval": ({"value": 4}, {"value": 5}),
    "/quota-exceeded/switch-project": ({"value": False}, {"value": True}),
    "/quota-exceeded/switch-preview-model": ({"value": False}, {"value": True}),
    "/routing/strategy": ({"value": "weighted"}, {"value": "fill-first"}),
    "/routing/session-affinity": ({"value": False}, {"value": True}),
    "/api-keys": (["a"], ["b"]),
    "/generative-language-api-key": (["a"], ["b"]),
    "/gemini-api-key": ([{"api-key": "a"}], [{"api-key": "b"}]),
    "/claude-api-key": ([{"api-key": "a"}], [{"api-key": "b"}]),
    "/codex-api-key": ([{"api-key": "a"}], [{"api-key": "b"}]),
    "/openai-compatibility": ([{"name": "a"}], [{"name": "b"}]),
}
"""Two different contents for each row."""
STALE = '"0123"'


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Managed]:
    """One gateway for all: each test has a row of its own."""
    managed = Managed(tmp_path_factory.mktemp("etags"))
    yield managed
    managed.stop()


def _on(tag: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEY}", "If-Match": tag}


def test_every_row_is_tried() -> None:
    assert {row.path for row in ROWS} == set(WRITES)


@pytest.mark.parametrize("path", WRITES)
def test_of_two_who_read_the_same_the_second_writer_is_told(shared: Managed, path: str) -> None:
    first, second = WRITES[path]
    tag = shared.get(path).headers["etag"]

    assert shared.put(path, first, headers=_on(tag)).told == OK
    after = shared.file
    refused = shared.put(path, second, headers=_on(tag))

    assert refused.status == 412
    assert refused.json == {"error": "It was changed since it was read: read it again, and decide anew."}
    assert shared.file == after
    assert shared.put(path, second, headers=_on(shared.get(path).headers["etag"])).told == OK


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "/debug", {"value": True}),
        ("DELETE", "/proxy-url", None),
        ("PATCH", "/api-keys", {"index": 0, "value": "x"}),
        ("PATCH", "/api-keys", {"index": 99, "value": "x"}),
        ("DELETE", "/api-keys?index=0", None),
        ("PATCH", "/claude-api-key", {"index": 0, "value": {"prefix": "p"}}),
        ("DELETE", "/claude-api-key?index=0", None),
        ("DELETE", "/openai-compatibility?name=none", None),
    ],
)
def test_every_kind_of_write_honours_the_condition(
    shared: Managed, method: str, path: str, body: dict[str, object] | None
) -> None:
    before = shared.file

    assert shared.ask(method, path, body, headers=_on(STALE)).status == 412

    assert shared.file == before


def test_a_condition_is_on_its_own_path_alone(managed: Managed) -> None:
    tag = managed.get("/api-keys").headers["etag"]
    managed.put("/debug", {"value": True})

    assert managed.put("/api-keys", ["a"], headers=_on(tag)).told == OK


def test_a_star_a_weak_tag_and_a_list_of_tags_are_understood(managed: Managed) -> None:
    assert managed.put("/debug", {"value": True}, headers=_on("*")).told == OK
    tag = managed.get("/debug").headers["etag"]
    assert managed.put("/debug", {"value": True}, headers=_on(f"W/{tag}")).told == OK
    assert managed.put("/debug", {"value": True}, headers=_on(f"{STALE}, {tag}")).told == OK


def test_a_condition_is_judged_by_the_file_as_it_is(managed: Managed) -> None:
    """A hand edit that the gateway has not noticed yet counts, too."""
    tag = managed.get("/request-retry").headers["etag"]
    managed.path.write_text(managed.file.replace("request-retry: 3", "request-retry: 4"))

    assert managed.put("/request-retry", {"value": 5}, headers=_on(tag)).status == 412

    assert "request-retry: 4" in managed.file


def test_without_a_condition_the_last_writer_wins(managed: Managed) -> None:
    assert managed.put("/api-keys", ["a"]).told == OK
    assert managed.put("/api-keys", ["b"]).told == OK

    assert managed.get("/api-keys").json == {"api-keys": ["b"]}
