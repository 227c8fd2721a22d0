"""Cases 150 to 170 and 172 to 176: the credential files; and what the cases leave open."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

import pytest
from managed import OK, Managed, Reply, refused, soon
from msgspec import structs

from cliproxy.config.document import read
from cliproxy.gateway.snapshot import compile_snapshot
from cliproxy.providers.base import Proxies
from cliproxy.providers.registry import PROVIDERS
from cliproxy.server.management.auth_files import models_of

Part = tuple[str, str | None, bytes]
"""Field name, file name, content."""

BOUNDARY = "boundary-of-the-test"
MOST_BYTES = 10 * 1024 * 1024


@pytest.fixture(scope="module")
def managed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Managed]:
    """One gateway for all; it is the folder that each test gets anew."""
    managed = Managed(tmp_path_factory.mktemp("gateway"))
    yield managed
    managed.stop()


@pytest.fixture
def auths(managed: Managed) -> Path:
    """The folder, empty but for the state of the gateway."""
    folder = managed.auth_dir
    folder.mkdir(mode=0o700, exist_ok=True)
    for entry in folder.iterdir():
        if entry.name != ".state":
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    return folder


def form(*parts: Part) -> bytes:
    pieces: list[bytes] = []
    for field, name, content in parts:
        file = "" if name is None else f'; filename="{name}"'
        pieces.append(f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"{file}\r\n\r\n'.encode())
        pieces.append(content + b"\r\n")
    return b"".join(pieces) + f"--{BOUNDARY}--\r\n".encode()


def upload(managed: Managed, *parts: Part, query: str = "", raw: bytes | None = None, media: str = "") -> Reply:
    headers = {
        "Authorization": "Bearer mk",
        "Content-Type": media or f"multipart/form-data; boundary={BOUNDARY}",
    }
    return managed.post(f"/auth-files{query}", raw=form(*parts) if raw is None else raw, headers=headers)


def conditional(tag: str) -> dict[str, str]:
    return {"Authorization": "Bearer mk", "If-Match": tag}


def listed(managed: Managed) -> list[dict[str, object]]:
    reply = managed.get("/auth-files")
    assert reply.status == 200, reply
    files = reply.json["files"]  # type: ignore[index]
    assert isinstance(files, list)
    return files


def names(managed: Managed) -> list[object]:
    return [file["name"] for file in listed(managed)]


def left_in(folder: Path) -> list[str]:
    """Everything in the folder but the state of the gateway."""
    return sorted(entry.name for entry in folder.iterdir() if entry.name != ".state")


# -- listing ----------------------------------------------------------------------------------------------------------


def test_150_an_empty_folder_has_no_files(managed, auths):
    assert managed.get("/auth-files").told == (200, {"files": []})


def test_151_files_are_listed_by_name_whatever_the_letter_case(managed, auths):
    (auths / "b.json").write_text('{"type": "claude", "access_token": "secret"}')
    (auths / "A.JSON").write_text('{"type": "gemini"}\n')
    (auths / "n.txt").write_text("{}")
    (auths / "d.json").mkdir()

    files = listed(managed)

    assert [(file["name"], file["type"], file["size"]) for file in files] == [
        ("A.JSON", "gemini", 19),
        ("b.json", "claude", 44),
    ]
    for file in files:
        assert str(file["modtime"]).endswith("Z")
        modified = datetime.fromisoformat(str(file["modtime"])).timestamp()
        assert abs(modified - (auths / str(file["name"])).stat().st_mtime) <= 1
    assert "secret" not in managed.get("/auth-files").content.decode()
    assert str(auths) not in managed.get("/auth-files").content.decode()


def test_152_files_without_a_usable_type_are_of_unknown_type(managed, auths):
    contents = {"absent": "{}", "number": '{"type": 5}', "broken": "{", "empty": "", "deep": "[" * 100_000}
    for name, content in contents.items():
        (auths / f"{name}.json").write_text(content)

    assert {(file["name"], file["type"]) for file in listed(managed)} == {
        (f"{name}.json", "unknown") for name in contents
    }


def test_153_a_symbolic_link_is_no_credential_file(managed, auths):
    outside = auths.parent / "outside.json"
    outside.write_text('{"type": "claude"}')
    (auths / "l.json").symlink_to(outside)

    assert names(managed) == []
    assert managed.get("/auth-files/download?name=l.json").told == refused(404, "file not found")
    assert managed.delete("/auth-files?name=l.json").told == refused(404, "file not found")
    assert managed.post("/auth-files?name=l.json", {}).told == refused(400, "invalid name")
    assert managed.patch("/auth-files/status", {"name": "l.json", "disabled": True}).status == 404
    assert outside.read_text() == '{"type": "claude"}'


def test_154_a_folder_that_has_gone_is_empty(managed, auths):
    shutil.rmtree(auths)

    assert managed.get("/auth-files").told == (200, {"files": []})
    assert managed.delete("/auth-files?all=true").told == (200, {"status": "ok", "deleted": 0})
    assert managed.get("/auth-files/download?name=a.json").told == refused(404, "file not found")


def test_what_a_file_says_of_its_account_is_listed(managed, auths):
    (auths / "c.json").write_text(
        '{"type":"codex","email":"me@x.example","disabled":true,"priority":-2,"weight":3,"note":"mine","prefix":"p",'
        '"project_id":"pr","expired":"2026-11-24T10:00:00Z","last_refresh":"2026-11-24T09:00:00Z","access_token":"secret"}'
    )

    [file] = listed(managed)

    varying = ("modtime", "size", "auth_index", "success", "failed")
    assert {key: file[key] for key in file if key not in varying} == {
        "name": "c.json",
        "id": "c.json",
        "type": "codex",
        "provider": "codex",
        "source": "file",
        "label": "me@x.example",
        "email": "me@x.example",
        "project_id": "pr",
        "account_type": "oauth",
        "disabled": True,
        "status": "disabled",
        "priority": -2,
        "weight": 3,
        "note": "mine",
        "prefix": "p",
        "expired": "2026-11-24T10:00:00Z",
        "last_refresh": "2026-11-24T09:00:00Z",
    }


def test_the_list_can_be_narrowed_and_paged(managed, auths):
    for name in ("a", "b", "c"):
        (auths / f"{name}.json").write_text("{}")
    index = listed(managed)[1]["auth_index"]

    def shown(query: str) -> object:
        reply = managed.get(f"/auth-files?{query}").json
        assert isinstance(reply, dict)
        return [file["name"] for file in reply.pop("files")], reply

    assert shown("name=b.json") == (["b.json"], {})
    assert shown("name=none.json") == ([], {})
    assert shown(f"auth_index={index}") == (["b.json"], {})
    assert shown("limit=2") == (["a.json", "b.json"], {"total": 3})
    assert shown("limit=2&offset=2") == (["c.json"], {"total": 3})
    assert shown("offset=9") == ([], {"total": 3})
    assert managed.get("/auth-files?limit=-1").told == refused(400, "invalid limit")
    assert managed.get("/auth-files?offset=x").told == refused(400, "invalid offset")


# -- downloading ------------------------------------------------------------------------------------------------------


def test_155_a_file_is_downloaded_byte_for_byte(managed, auths):
    content = b'\n{"b": 1.10,  "a": "\\u0041"}\xc3\xbc not even JSON'
    (auths / "b.json").write_bytes(content)

    reply = managed.get("/auth-files/download?name=b.json")

    assert (reply.status, reply.content) == (200, content)
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["content-disposition"] == 'attachment; filename="b.json"'


def test_a_name_beyond_ascii_is_told_so_that_old_and_new_clients_understand(managed, auths):
    (auths / "ü 1.json").write_text("{}")

    reply = managed.get(f"/auth-files/download?name={quote('ü 1.json')}")

    assert reply.headers["content-disposition"] == (
        "attachment; filename=\"_ 1.json\"; filename*=UTF-8''%C3%BC%201.json"
    )


DOWNLOADS = [
    ("156", "", 400, "invalid name"),
    ("156 empty", "?name=", 400, "invalid name"),
    ("156 only spaces", "?name=%20%20", 400, "invalid name"),
    ("157", "?name=../config.yaml", 400, "invalid name"),
    ("157 encoded", "?name=..%2Fb.json", 400, "invalid name"),
    ("157 folder", "?name=d/b.json", 400, "invalid name"),
    ("158", "?name=..%5Cb.json", 400, "invalid name"),
    ("158 NUL", "?name=b.json%00.json", 400, "invalid name"),
    ("158 line end", "?name=a%0d%0a.json", 400, "invalid name"),
    ("158 line end at the end", "?name=b.json%0a", 400, "invalid name"),
    ("158 quote", "?name=a%22.json", 400, "invalid name"),
    ("158 not UTF-8", "?name=a%ff.json", 400, "invalid name"),
    ("159", "?name=n.txt", 400, "name must end with .json"),
    ("159 absent", "?name=none.json", 404, "file not found"),
    ("159 folder", "?name=d.json", 404, "file not found"),
    ("159 bare", "?name=.json", 400, "invalid name"),
    ("159 long", "?name=" + "x" * 300 + ".json", 400, "invalid name"),
]


@pytest.mark.parametrize(("query", "status", "text"), [row[1:] for row in DOWNLOADS], ids=[row[0] for row in DOWNLOADS])
def test_names_that_lead_nowhere_are_refused(managed, auths, query, status, text):
    (auths / "b.json").write_text("{}")
    (auths / "n.txt").write_text("{}")
    (auths / "d.json").mkdir()

    assert managed.get(f"/auth-files/download{query}").told == refused(status, text)


def test_spaces_around_a_name_do_not_count(managed, auths):
    (auths / "b.json").write_text("{}")

    assert managed.get("/auth-files/download?name=%20b.json%20").status == 200


# -- uploading --------------------------------------------------------------------------------------------------------


def test_160_a_form_stores_its_file(manage, edge):
    managed = manage(edge=edge)
    content = b'{ "type": "claude",\r\n "n": 1.10, "x": "--' + BOUNDARY.encode()[:-1] + b'" }\r\n\r\n'

    assert upload(managed, ("file", "u.json", content)).told == OK

    path = managed.auth_dir / "u.json"
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (content, 0o600)
    assert [(file["name"], file["type"]) for file in listed(managed)] == [("u.json", "claude")]


def test_161_a_second_upload_replaces_the_first(managed, auths):
    upload(managed, ("file", "u.json", b'{"type":"claude"}'))

    assert upload(managed, ("file", "u.json", b'{"type":"codex"}')).told == OK

    assert [(file["name"], file["type"]) for file in listed(managed)] == [("u.json", "codex")]


def test_162_a_form_stores_json_only(managed, auths):
    assert upload(managed, ("file", "x.txt", b"{}")).told == refused(400, "file must be .json")

    assert left_in(auths) == []


@pytest.mark.parametrize("name", ["../../evil.json", "/etc/evil.json", r"..\\..\\evil.json", r"C:\\evil.json"])
def test_163_only_the_last_component_of_a_file_name_counts(managed, auths, name):
    before = set(auths.parent.rglob("*.json"))

    assert upload(managed, ("file", name, b"{}")).told == OK

    assert left_in(auths) == ["evil.json"]
    assert set(auths.parent.rglob("*.json")) - before == {auths / "evil.json"}


@pytest.mark.parametrize(
    "parts",
    [[], [("other", "o.json", b"{}")], [("file", None, b"{}")], [("file", "", b"")]],
    ids=["164", "164 other part", "164 no file", "164 nothing chosen"],
)
@pytest.mark.parametrize("query", ["", "?name=o.json"])
def test_a_form_without_a_file_stores_nothing(managed, auths, parts, query):
    assert upload(managed, *parts, query=query).told == refused(400, "no files uploaded")

    assert left_in(auths) == []


def test_165_several_files_are_stored_each_for_itself(managed, auths):
    both = upload(managed, ("file", "m1.json", b"{}"), ("note", None, b"x"), ("file", "m2.json", b"{}"))
    one = upload(managed, ("file", "m3.json", b"{}"), ("file", "m4.txt", b"{}"), ("file", "m5.json", b"["))

    assert both.told == (200, {"status": "ok", "uploaded": 2, "files": ["m1.json", "m2.json"]})
    assert one.status == 207
    told = one.json
    assert isinstance(told, dict)
    assert (told["status"], told["uploaded"], told["files"]) == ("partial", 1, ["m3.json"])
    assert [(failed["name"], failed["error"].partition(":")[0]) for failed in told["failed"]] == [
        ("m4.txt", "file must be .json"),
        ("m5.json", "invalid auth file"),
    ]
    assert left_in(auths) == ["m1.json", "m2.json", "m3.json"]


def test_two_files_of_one_name_are_both_refused(managed, auths):
    reply = upload(managed, ("file", "a.json", b'{"a":1}'), ("file", "x/a.json", b'{"a":2}'), ("file", "b.json", b"{}"))

    text = "several files of this form have that name"
    assert reply.told == (
        207,
        {
            "status": "partial",
            "uploaded": 1,
            "files": ["b.json"],
            "failed": [{"name": "a.json", "error": text}, {"name": "a.json", "error": text}],
        },
    )
    assert left_in(auths) == ["b.json"]


def test_166_a_raw_body_is_stored_as_it_is(manage, edge):
    managed = manage(edge=edge)

    reply = managed.post("/auth-files?name=r.json", raw=b'{"type":"qwen"}')

    assert reply.told == OK
    assert (managed.auth_dir / "r.json").read_bytes() == b'{"type":"qwen"}'
    assert (managed.auth_dir / "r.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("query", "text"),
    [("?name=r.txt", "name must end with .json"), ("", "invalid name"), ("?name=../r.json", "invalid name")],
    ids=["167", "167 none", "167 elsewhere"],
)
def test_a_raw_body_needs_a_safe_name(managed, auths, query, text):
    assert managed.post(f"/auth-files{query}", {}).told == refused(400, text)

    assert left_in(auths) == []


BROKEN = [
    ("168", b"garbage"),
    ("168 empty", b""),
    ("168 list", b"[]"),
    ("168 null", b"null"),
    ("168 more follows", b"{} {}"),
    ("168 twice", b'{"a":1,"a":2}'),
    ("168 NaN", b'{"a":NaN}'),
    ("168 huge number", b'{"a":1e999}'),
    ("168 byte order mark", b"\xef\xbb\xbf{}"),
    ("168 not UTF-8", b'{"a":"\xff"}'),
    ("168 lone surrogate", b'{"a":"\\ud800"}'),
    ("168 deep", b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    ("168 deep and open", b'{"a":' * 100_000),
]


@pytest.mark.parametrize("content", [row[1] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_what_is_no_json_object_is_not_stored(managed, auths, content):
    (auths / "r.json").write_text('{"old":1}')

    replies = managed.post("/auth-files?name=r.json", raw=content), upload(managed, ("file", "r.json", content))

    for reply in replies:
        assert reply.status == 400
        assert re.match(r"invalid auth file: \w+", reply.json["error"])  # type: ignore[index]
    assert (left_in(auths), (auths / "r.json").read_text()) == (["r.json"], '{"old":1}')


def test_169_what_is_too_large_is_not_stored(manage, edge):
    managed = manage(edge=edge)
    managed.auth_dir.mkdir(exist_ok=True)
    large = b'{"a":"' + b"x" * (11 * 1024 * 1024) + b'"}'

    replies = [
        managed.post("/auth-files?name=r.json", raw=large),
        upload(managed, ("file", "r.json", large)),
        upload(managed, *[("file", f"{n}.json", large) for n in range(6)]),
    ]

    assert [reply.told for reply in replies] == [refused(413, "file too large")] * 3
    assert left_in(managed.auth_dir) == []


def test_one_that_is_too_large_does_not_keep_the_others_out(managed, auths):
    largest = b"{}" + b" " * (MOST_BYTES - 2)

    reply = upload(managed, ("file", "a.json", largest), ("file", "b.json", largest + b" "))

    failed = [{"name": "b.json", "error": "file too large"}]
    assert reply.told == (207, {"status": "partial", "uploaded": 1, "files": ["a.json"], "failed": failed})
    assert left_in(auths) == ["a.json"]


def own_ports() -> set[int]:
    """The ports on which this process listens."""
    inodes = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = os.readlink(entry)
        except OSError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[len("socket:[") : -1])
    ports = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                ports.add(int(fields[1].rpartition(":")[2], 16))
    return ports


@pytest.mark.skipif(not Path("/proc/self/net/tcp").exists(), reason="listeners are told by /proc only")
def test_170_a_file_without_a_type_starts_no_login(managed, auths):
    assert managed.post("/auth-files?name=e.json", raw=b"{}").told == OK

    assert managed.serving.port in own_ports()
    assert not soon(lambda: 8085 in own_ports(), 0.5)
    assert managed.post("/auth-files?name=f.json", raw=b"{}").told == OK
    assert [(file["name"], file["type"]) for file in listed(managed)] == [("e.json", "unknown"), ("f.json", "unknown")]


FORMS = [
    ("no boundary", "multipart/form-data", form(("file", "a.json", b"{}"))),
    ("empty", f"multipart/form-data; boundary={BOUNDARY}", b""),
    ("garbage", f"multipart/form-data; boundary={BOUNDARY}", b"garbage"),
    ("cut off", f"multipart/form-data; boundary={BOUNDARY}", form(("file", "a.json", b"{}"))[:-30]),
    ("cut off in the content", f"multipart/form-data; boundary={BOUNDARY}", form(("file", "a.json", b"{}"))[:-40]),
    ("other boundary", "multipart/form-data; boundary=other", form(("file", "a.json", b"{}"))),
    ("long boundary", f"multipart/form-data; boundary={'x' * 5000}", form(("file", "a.json", b"{}"))),
    (
        "many headers",
        f"Multipart/Form-Data; boundary={BOUNDARY}",
        b"--%b\r\n%b\r\n" % (BOUNDARY.encode(), b"a: b\r\n" * 99),
    ),
    (
        "many parts",
        f"multipart/form-data; boundary={BOUNDARY}",
        form(*[("file", f"{n}.json", b"{}") for n in range(1001)]),
    ),
]


@pytest.mark.parametrize(("media", "body"), [row[1:] for row in FORMS], ids=[row[0] for row in FORMS])
def test_a_broken_form_stores_nothing(managed, auths, media, body):
    reply = upload(managed, raw=body, media=media, query="?name=o.json")

    assert reply.status == 400
    assert re.match(r"invalid multipart form: \w", reply.json["error"])  # type: ignore[index]
    assert left_in(auths) == []


@pytest.mark.parametrize("name", [".json", "..", "a\x01.json", r"a\".json"])
def test_a_form_needs_safe_names_too(managed, auths, name):
    assert upload(managed, ("file", name, b"{}")).told == refused(400, "invalid name")

    assert left_in(auths) == []


def test_names_beyond_ascii_come_as_utf_8(managed, auths):
    assert upload(managed, ("file", "ü.json", b"{}")).told == OK

    assert left_in(auths) == ["ü.json"]


def test_a_name_that_a_folder_has_is_refused(managed, auths):
    (auths / "d.json").mkdir()

    assert managed.post("/auth-files?name=d.json", {}).told == refused(400, "invalid name")
    assert upload(managed, ("file", "d.json", b"{}")).told == refused(400, "invalid name")


def test_an_upload_makes_the_folder_anew(managed, auths):
    shutil.rmtree(auths)

    assert managed.post("/auth-files?name=r.json", {}).told == OK

    assert (auths.stat().st_mode & 0o777, left_in(auths)) == (0o700, ["r.json"])


def test_what_the_disk_says_is_told_without_the_path(manage):
    managed = manage()
    home = managed.auth_dir
    if home.exists():
        home.rename(home.parent / "moved")
    home.write_text("a file where the folder should be")

    replies = [
        managed.get("/auth-files"),
        managed.post("/auth-files?name=a.json", {}),
        upload(managed, ("file", "a.json", b"{}")),
        managed.delete("/auth-files?name=a.json"),
        managed.patch("/auth-files/status", {"name": "a.json", "disabled": True}),
    ]

    assert [reply.status for reply in replies] == [500] * 5
    assert [reply.json["error"].partition(":")[0] for reply in replies] == [  # type: ignore[index]
        "failed to read file",
        "failed to write file",
        "failed to save file",
        "failed to delete file",
        "failed to write file",
    ]
    assert not any(str(managed.auth_dir.parent) in reply.content.decode() for reply in replies)


# -- deleting ---------------------------------------------------------------------------------------------------------


def test_a_deleted_file_is_gone(managed, auths):
    (auths / "b.json").write_text("not JSON")

    assert managed.delete("/auth-files?name=b.json").told == OK

    assert (left_in(auths), names(managed)) == ([], [])


@pytest.mark.parametrize(
    ("query", "answer"),
    [
        ("?name=none.json", refused(404, "file not found")),
        ("?name=d.json", refused(404, "file not found")),
        ("", refused(400, "invalid name")),
        ("?name=", refused(400, "invalid name")),
        ("?name=../x.json", refused(400, "invalid name")),
        ("?name=n.txt", refused(400, "name must end with .json")),
    ],
    ids=["172", "172 folder", "172 none", "172 empty", "172 elsewhere", "173"],
)
def test_only_credential_files_of_the_folder_are_deleted(managed, auths, query, answer):
    (auths / "d.json").mkdir()
    (auths / "n.txt").write_text("stays")
    (auths.parent / "x.json").write_text("{}")

    assert managed.delete(f"/auth-files{query}").told == answer

    assert left_in(auths) == ["d.json", "n.txt"]
    assert (auths.parent / "x.json").exists()


def test_174_all_means_every_credential_file(managed, auths):
    for name in ("a.json", "b.json", "C.JSON", "n.txt"):
        (auths / name).write_text("{}")
    (auths / "d.json").mkdir()

    assert managed.delete("/auth-files?all=true&name=x").told == (200, {"status": "ok", "deleted": 3})

    assert left_in(auths) == ["d.json", "n.txt"]
    assert managed.delete("/auth-files?all=true").told == (200, {"status": "ok", "deleted": 0})


@pytest.mark.parametrize("value", ["1", "*"])
def test_175_all_has_other_spellings(managed, auths, value):
    (auths / "a.json").write_text("{}")

    assert managed.delete(f"/auth-files?all={value}").told == (200, {"status": "ok", "deleted": 1})


@pytest.mark.parametrize("value", ["false", "TRUE", "yes", ""])
def test_175_anything_else_is_not_all(managed, auths, value):
    (auths / "a.json").write_text("{}")

    assert managed.delete(f"/auth-files?all={value}").told == refused(400, "invalid name")
    assert left_in(auths) == ["a.json"]


def test_176_several_are_deleted_each_for_itself(managed, auths):
    (auths / "a.json").write_text("{}")

    reply = managed.delete("/auth-files", {"names": ["a.json", "zz.json"]})

    failed = [{"name": "zz.json", "error": "file not found"}]
    assert reply.told == (207, {"status": "partial", "deleted": 1, "files": ["a.json"], "failed": failed})
    assert left_in(auths) == []


@pytest.mark.parametrize(
    ("query", "body", "deleted"),
    [
        ("?name=a.json&name=b.json", None, ["a.json", "b.json"]),
        ("", ["b.json", "a.json"], ["b.json", "a.json"]),
        ("", {"names": ["a.json"], "name": " b.json"}, ["a.json", "b.json"]),
        ("", {"names": ["a.json"]}, None),
        ("", {"name": "a.json"}, None),
        ("", ["a.json", "a.json "], None),
    ],
)
def test_names_come_in_the_query_or_in_a_body(managed, auths, query, body, deleted):
    for name in ("a.json", "b.json"):
        (auths / name).write_text("{}")

    reply = managed.delete(f"/auth-files{query}", body)

    if deleted is None:
        assert (reply.told, left_in(auths)) == (OK, ["b.json"])
    else:
        assert reply.told == (200, {"status": "ok", "deleted": 2, "files": deleted})
        assert left_in(auths) == []


@pytest.mark.parametrize(
    "body", [b"garbage", b"5", b'["a.json", 5]', b'{"names":"a.json"}', b'["a.json"] x', b"[" * 9999]
)
def test_a_body_that_names_nothing_deletes_nothing(managed, auths, body):
    (auths / "a.json").write_text("{}")

    assert managed.delete("/auth-files", raw=body).told == refused(400, "invalid request body")
    assert left_in(auths) == ["a.json"]


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"names":[]}', b'{"name":""}', b" "])
def test_no_name_is_no_name(managed, auths, body):
    assert managed.delete("/auth-files", raw=body).told == refused(400, "invalid name")


# -- changing ---------------------------------------------------------------------------------------------------------

TEXT = '{\n  "type": "claude",\n  "n": 1.10,\n  "access_token": "at",\n  "token": {"scopes": [ "a" ], "x": 1e2}\n}\n'


@pytest.fixture
def account(auths: Path) -> Path:
    path = auths / "c.json"
    path.write_text(TEXT)
    return path


def test_an_account_is_taken_out_of_use_and_back(managed, account):
    off = managed.patch("/auth-files/status", {"name": "c.json", "disabled": True})
    assert off.told == (200, {"status": "ok", "disabled": True})
    assert account.read_text() == TEXT.replace("1e2}\n", '1e2},\n  "disabled": true\n')
    assert [(file["disabled"], file["status"]) for file in listed(managed)] == [(True, "disabled")]

    index = listed(managed)[0]["auth_index"]
    on = managed.patch("/auth-files/status", {"name": " c.json", "auth_index": index, "disabled": False})
    assert on.told == (200, {"status": "ok", "disabled": False})
    assert [(file["disabled"], file["status"]) for file in listed(managed)] == [(False, "active")]


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (b'{"disabled":true}', refused(400, "name is required")),
        (b'{"name":"","disabled":true}', refused(400, "name is required")),
        (b'{"name":null,"disabled":true}', refused(400, "name is required")),
        (b'{"name":"c.json"}', refused(400, "disabled is required")),
        (b'{"name":"c.json","disabled":null}', refused(400, "disabled is required")),
        (b'{"name":"c.json","disabled":1}', refused(400, "invalid request body")),
        (b'{"name":5,"disabled":true}', refused(400, "invalid request body")),
        (b"[]", refused(400, "invalid request body")),
        (b"", refused(400, "invalid request body")),
        (b'{"name":"none.json","disabled":true}', refused(404, "auth file not found")),
        (b'{"name":"../c.json","disabled":true}', refused(404, "auth file not found")),
        (b'{"name":"c.txt","disabled":true}', refused(404, "auth file not found")),
        (b'{"name":"c.json","auth_index":"other","disabled":true}', refused(404, "auth file not found")),
    ],
)
def test_a_status_needs_a_file_and_a_yes_or_no(managed, account, body, answer):
    assert managed.patch("/auth-files/status", raw=body).told == answer

    assert account.read_text() == TEXT


def test_fields_are_set_and_everything_else_keeps_its_bytes(managed, account):
    reply = managed.patch(
        "/auth-files/fields",
        raw=b'{"name":"c.json","note":"mine","priority":7,"token.x":1.50,"token.deep.er":{"a": [ 1 ]},"own":null}',
    )

    assert reply.told == OK
    assert account.read_text() == TEXT.replace(
        '"x": 1e2}\n',
        '"x": 1.50, "deep": {"er":{"a": [ 1 ]}}},\n  "note": "mine",\n  "priority": 7,\n  "own": null\n',
    )


def test_null_is_stored_but_takes_some_settings_away(managed, account):
    account.write_text('{"weight":3,"request_retry":1,"note":"x","priority":2,"headers":{"a":"b"}}')

    body = {"name": "c.json", "weight": None, "request_retry": None, "note": None, "priority": None, "headers": None}

    assert managed.patch("/auth-files/fields", body).told == OK
    assert account.read_text() == '{"note":null,"priority":null,"headers":null}'


def test_headers_are_merged_and_empty_ones_go(managed, account):
    def set_fields(**fields: object) -> object:
        assert managed.patch("/auth-files/fields", {"name": "c.json", **fields}).told == OK
        return json.loads(account.read_text()).get("headers", "none")

    assert set_fields(headers={"X-None": ""}) == "none"
    assert set_fields(headers={"X-One": "1", "X-Two": "2"}) == {"X-One": "1", "X-Two": "2"}
    assert set_fields(headers={"x-one": "", "X-TWO": "22", "X-Three": "3"}) == {"X-Two": "22", "X-Three": "3"}
    assert set_fields(**{"headers.x-two": None, "headers.X-Four.Five": "4"}) == {"X-Three": "3", "X-Four.Five": "4"}
    assert set_fields(headers=None) is None
    assert set_fields(**{"headers.X-One": "1"}) == {"X-One": "1"}


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "no fields to update"),
        ({"auth_index": None}, "no fields to update"),
        ({"priority": "5"}, "`priority`: must be a whole number"),
        ({"priority": 1.0}, "`priority`: must be a whole number"),
        ({"priority": True}, "`priority`: must be a whole number"),
        ({"weight": -1}, "`weight`: must be between 0 and 1000000"),
        ({"disabled": "true"}, "`disabled`: must be true or false"),
        ({"websockets": 1}, "`websockets`: must be true or false"),
        ({"note": 5}, "`note`: must be a text"),
        ({"prefix": "a/b"}, "`prefix`: must not contain"),
        ({"proxy_url": "ftp://x"}, "`proxy_url`: the scheme is not"),
        ({"expired": "soon"}, "`expired`: must be a time"),
        ({"expired": "2026-01-31T12:00:00"}, "`expired`: must be a time"),
        ({"headers": ["a"]}, "`headers`: must be an object"),
        ({"headers": {"a": 5}}, "`headers`: must be an object"),
        ({"headers": {"a b": "c"}}, "a name in `headers`: not a header name"),
        ({"headers": {"a": "b\r\nc: d"}}, "`headers.a`: contains a control character"),
        ({"headers": {f"h{n}": "x" for n in range(101)}}, "more than 100 fields"),
        ({"note.x": "y"}, "`note` has no members"),
        ({"n.x": "y"}, "`n` is no object"),
        ({"type.x.y": "z"}, "`type` is no object"),
        ({"": 1}, "the name of a field"),
        ({"a..b": 1}, "the name of a field"),
        ({".".join("x" * 11): 1}, "the name of a field"),
        ({"own": json.loads("[" * 110 + "]" * 110)}, "it is nested too deeply"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_set(managed, account, fields, text):
    reply = managed.patch("/auth-files/fields", {"name": "c.json", **fields})

    assert reply.status == 400
    assert reply.json["error"].startswith(text)  # type: ignore[index]
    assert account.read_text() == TEXT


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (b'{"note":"x"}', refused(400, "name is required")),
        (b'{"name":"none.json","note":"x"}', refused(404, "auth file not found")),
        (b'{"name":5,"note":"x"}', refused(400, "invalid request body")),
        (b'{"name":"c.json","auth_index":"zz","note":"x"}', refused(404, "auth file not found")),
        (b'{"name":"c.json","own":1e999}', refused(400, "`own`: not a value that can be stored")),
        (b'{"name":"c.json","own":"\\ud800"}', refused(400, "invalid request body")),
        (b"[]", refused(400, "invalid request body")),
        (b"[" * 100_000, refused(400, "invalid request body")),
    ],
)
def test_fields_need_a_file_and_a_body(managed, account, body, answer):
    assert managed.patch("/auth-files/fields", raw=body).told == answer

    assert account.read_text() == TEXT


def test_a_broken_file_is_not_edited(managed, account):
    account.write_text('{"a":1,"a":2}')

    for path, body in (("status", {"disabled": True}), ("fields", {"note": "x"})):
        reply = managed.patch(f"/auth-files/{path}", {"name": "c.json", **body})
        assert reply.status == 409
        assert reply.json["error"].startswith("invalid auth file: ")  # type: ignore[index]

    assert account.read_text() == '{"a":1,"a":2}'


# -- models -----------------------------------------------------------------------------------------------------------


def test_a_file_that_no_account_comes_from_serves_no_models(managed, account):
    assert managed.get("/auth-files/models?name=none.json").told == (200, {"models": []})
    assert managed.get("/auth-files/models").told == refused(400, "name is required")


def test_a_file_serves_what_its_accounts_serve():
    text = (
        "claude-api-key: [{api-key: k, models: [{name: claude-opus-4-7, alias: mine}, {name: own}]}, {api-key: other}]"
    )
    snapshot = compile_snapshot(read(text).config, PROVIDERS, Proxies(), {})
    upstreams = {
        account: structs.replace(upstream, source="c.json") if upstream.secret.reveal() == "k" else upstream
        for account, upstream in snapshot.upstreams.items()
    }
    snapshot = structs.replace(snapshot, upstreams=upstreams)

    models = models_of(snapshot, "c.json")

    assert [(model["id"], model["owned_by"]) for model in models] == [("mine", "anthropic"), ("own", "anthropic")]
    assert models_of(snapshot, "none.json") == []


# -- two writers ------------------------------------------------------------------------------------------------------

WRITES: list[Callable[[Managed, str], Reply]] = [
    lambda managed, tag: managed.post("/auth-files?name=c.json", {"new": 1}, headers=conditional(tag)),
    lambda managed, tag: managed.delete("/auth-files?name=c.json", headers=conditional(tag)),
    lambda managed, tag: managed.delete("/auth-files", {"names": ["c.json"]}, headers=conditional(tag)),
    lambda managed, tag: managed.patch(
        "/auth-files/status", {"name": "c.json", "disabled": True}, headers=conditional(tag)
    ),
    lambda managed, tag: managed.patch("/auth-files/fields", {"name": "c.json", "note": "x"}, headers=conditional(tag)),
]


@pytest.mark.parametrize("write", WRITES)
def test_a_write_can_be_made_to_depend_on_the_file_as_it_was_read(managed, account, write):
    tag = managed.get("/auth-files/download?name=c.json").headers["etag"]
    account.write_text('{"theirs":1}')

    assert write(managed, tag).status == 412
    assert account.read_text() == '{"theirs":1}'

    tag = managed.get("/auth-files/download?name=c.json").headers["etag"]
    assert write(managed, tag).status == 200
    assert not account.exists() or account.read_text() != '{"theirs":1}'


def test_a_file_that_must_be_there_is_not_made(managed, auths):
    for tag in ("*", '"x"'):
        assert managed.post("/auth-files?name=c.json", {}, headers=conditional(tag)).status == 412

    assert left_in(auths) == []


def test_a_condition_is_about_one_file(managed, account):
    for query in ("?all=true", "?name=c.json&name=d.json"):
        assert managed.delete(f"/auth-files{query}", headers=conditional('"x"')).status == 400

    assert account.exists()
