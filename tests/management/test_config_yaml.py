"""The configuration file itself, read and replaced as a whole."""

import os

import pytest
from managed import KEY, OK, Managed, Reply

DONE = (200, {"ok": True, "changed": ["config"]})


def _put(managed: Managed, text: str | bytes, if_match: str | None = None) -> Reply:
    raw = text.encode() if isinstance(text, str) else text
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/yaml"}
    return managed.put("/config.yaml", raw=raw, headers=headers | ({"If-Match": if_match} if if_match else {}))


def _refused(managed: Managed, text: str | bytes, status: int, kind: str) -> str:
    """The message of a refusal that changed nothing."""
    before, config = managed.path.read_bytes(), managed.get("/config").json

    reply = _put(managed, text)

    assert reply.status == status, reply
    assert isinstance(reply.json, dict)
    assert set(reply.json) == {"error", "message"}
    assert reply.json["error"] == kind
    assert managed.path.read_bytes() == before
    assert managed.get("/config").json == config
    return str(reply.json["message"])


def test_the_file_is_shown_byte_for_byte(managed: Managed) -> None:
    reply = managed.get("/config.yaml")

    assert reply.status == 200
    assert reply.content == managed.path.read_bytes()
    assert reply.headers["content-type"] == "application/yaml; charset=utf-8"
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["x-content-type-options"] == "nosniff"


def test_what_was_read_can_be_written_back(managed: Managed) -> None:
    before = managed.path.read_bytes()

    assert _put(managed, managed.get("/config.yaml").content).told == DONE

    assert managed.path.read_bytes() == before


def test_a_new_document_is_in_force_when_it_is_answered(managed: Managed) -> None:
    text = managed.file.replace('- "k1" # first', '- "fresh" # new').replace("debug: false", "debug: true")

    assert _put(managed, text).told == DONE

    assert managed.file == text
    assert managed.get("/debug").json == {"debug": True}
    assert managed.get("/v1/models", headers={"Authorization": "Bearer fresh"}).status == 200
    assert managed.get("/v1/models", headers={"Authorization": "Bearer k1"}).status == 401


def test_comments_blank_lines_and_unknown_keys_arrive_as_they_were_sent(managed: Managed) -> None:
    text = managed.file + "\n\n# a note: é 😀\nmine: {a: [1, 2]}   # kept\n"

    assert _put(managed, text).told == DONE

    assert managed.file == text


def test_a_byte_order_mark_stays(managed: Managed) -> None:
    text = "\ufeff" + managed.file

    assert _put(managed, text).told == DONE

    assert managed.path.read_bytes() == text.encode() == managed.get("/config.yaml").content


@pytest.mark.parametrize(
    "text", ["a: [1, 2", "a: b: c\n", "\tdebug: true\n", "debug: true\ndebug: false\n", b"\xff\xfe"]
)
def test_what_is_no_yaml_is_refused(managed: Managed, text: str | bytes) -> None:
    assert _refused(managed, text, 400, "invalid_yaml")


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("request-retry: 3", "request-retry: many", "$.request-retry"),
        ('proxy-url: ""', "proxy-url: ftp://x", "$.proxy-url"),
        ('- api-key: "cb"', "- base-url: http://x.example", "$.claude-api-key[1]"),
    ],
)
def test_what_is_no_configuration_is_refused_and_told_where(managed: Managed, old: str, new: str, path: str) -> None:
    assert path in _refused(managed, managed.file.replace(old, new), 422, "invalid_config")


@pytest.mark.parametrize("text", ["", "# nothing\n", "- a\n", "text"])
def test_a_document_without_a_management_key_is_refused(managed: Managed, text: str) -> None:
    before = managed.path.read_bytes()

    assert _put(managed, text).status in (400, 422)

    assert managed.path.read_bytes() == before
    assert managed.get("/debug").status == 200


def test_the_management_key_cannot_be_changed_by_the_way(managed: Managed) -> None:
    line = next(line for line in managed.file.splitlines() if "secret-key" in line)

    for other in ('  secret-key: "another"', '  secret-key: ""', "  # none"):
        _refused(managed, managed.file.replace(line, other), 422, "invalid_config")


def test_a_missing_file_is_told_and_not_created(managed: Managed) -> None:
    managed.path.unlink()

    reply = managed.get("/config.yaml")

    assert reply.status == 404
    assert reply.json == {"error": "not_found", "message": "the configuration file is missing"}
    assert _put(managed, "debug: true\n").status in (422, 500)
    assert not managed.path.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_told(managed: Managed) -> None:
    managed.path.chmod(0)

    reply = managed.get("/config.yaml")

    assert reply.status == 500
    assert reply.json["error"] == "read_failed"  # type: ignore[index]


def test_a_folder_in_the_place_of_the_file_is_told(managed: Managed) -> None:
    text = managed.file
    managed.path.unlink()
    managed.path.mkdir()

    reply = managed.get("/config.yaml")

    assert (reply.status, reply.json["error"]) == (500, "read_failed")  # type: ignore[index]
    assert str(managed.path) not in reply.content.decode()
    written = _put(managed, text)
    assert (written.status, written.json["error"]) == (500, "write_failed")  # type: ignore[index]
    assert str(managed.path) not in written.content.decode()


def test_of_two_who_read_the_same_file_the_second_writer_is_told(managed: Managed) -> None:
    reply = managed.get("/config.yaml")
    tag, text = reply.headers["etag"], reply.content.decode()

    assert _put(managed, text.replace("debug: false", "debug: true"), tag).told == DONE
    after = managed.path.read_bytes()
    refused = _put(managed, text.replace("request-retry: 3", "request-retry: 4"), tag)

    assert refused.status == 412
    assert managed.path.read_bytes() == after
    assert _put(managed, text, managed.get("/config.yaml").headers["etag"]).told == DONE


def test_any_write_changes_the_tag_of_the_file(managed: Managed) -> None:
    tag = managed.get("/config.yaml").headers["etag"]

    assert managed.put("/debug", {"value": True}).told == OK

    assert managed.get("/config.yaml").headers["etag"] != tag
    assert _put(managed, managed.file, tag).status == 412


def test_a_document_of_more_than_ten_mebibytes_is_refused(managed: Managed) -> None:
    before = managed.path.read_bytes()

    reply = _put(managed, b"#" * (10 * 1024 * 1024 + 1))

    assert reply.told == (413, {"error": "request body too large"})
    assert managed.path.read_bytes() == before
