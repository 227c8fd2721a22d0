"""Cases 85, 214 and 215, and what else is promised of logs: complete, bounded, masked, and seen through the API."""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import logging
import re
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from managed import OK, Managed, Reply, refused, soon

from cliproxy.simulator import Simulator
from cliproxy.simulator.rules import Answer, Rule
from cliproxy.stores.log_folder import append
from cliproxy.stores.request_logs import RequestLogs

Manage = Callable[..., Managed]

CALLER = {"Authorization": "Bearer test-key-0001"}
MESSAGE = {"model": "claude-x", "max_tokens": 50, "messages": [{"role": "user", "content": "hello there"}]}
TITLES = re.compile(r"^=== (.*) ===$", re.MULTILINE)


def _folder(managed: Managed) -> Path:
    return managed.path.parent / "logs"


def _records(managed: Managed, pattern: str = "*-req_*.log") -> list[Path]:
    return sorted(path for path in _folder(managed).glob(pattern) if path.name[0] != ".")


def _record_of(managed: Managed, reply: Reply) -> str:
    """The record of one request, once it is whole."""
    found: list[Path] = []

    def is_there() -> bool:
        found[:] = _records(managed, f"*{reply.headers['x-request-id']}.log")
        return len(found) == 1 and "=== RESPONSE ===" in found[0].read_text()

    assert soon(is_there), found
    return found[0].read_text()


def _section(text: str, title: str) -> str:
    """What stands below a title, up to the next one."""
    return TITLES.split(text)[1:][TITLES.split(text)[1:].index(title) + 1].removeprefix("\n").removesuffix("\n\n")


# -- the request log: cases 85, 214, 215


def test_085_the_next_request_leaves_one_file(manage: Manage, edge: str) -> None:
    managed = manage(edge=edge)

    assert managed.put("/request-log", {"value": True}).told == OK
    assert managed.get("/request-log").json == {"request-log": True}
    reply = managed.get("/v1/models", headers={"Authorization": "Bearer k1"})

    assert reply.status == 200
    _record_of(managed, reply)
    (path,) = _folder(managed).iterdir()
    assert path.name.startswith("v1-models-")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_214_a_record_has_its_sections_and_no_key(manage: Manage, edge: str) -> None:
    managed = manage(edge=edge)
    managed.put("/request-log", {"value": True})

    models = managed.get("/v1/models?key=k1&alt=json", headers={})
    root = managed.get("root:/", headers={})

    text = _record_of(managed, models)
    assert TITLES.findall(text) == ["REQUEST INFO", "HEADERS", "REQUEST BODY", "RESPONSE"]
    assert "URL: /v1/models?key=***&alt=json\nMethod: GET\nTimestamp: 20" in text
    assert _section(text, "RESPONSE").startswith("Status: 200\n")
    assert models.content.decode() in text
    assert "k1" not in text
    _record_of(managed, root)
    assert [re.sub(r"-20.*", "", path.name) for path in _records(managed)] == ["root", "v1-models"]


def test_215_management_leaves_no_file_and_switching_off_works_at_once(manage: Manage, edge: str) -> None:
    managed = manage(edge=edge)
    managed.put("/request-log", {"value": True})

    managed.get("/debug")
    managed.get("/nothing-here")
    managed.ask("OPTIONS", "/debug", headers={})
    _record_of(managed, managed.get("root:/", headers={}))
    assert len(_records(managed)) == 1

    managed.put("/request-log", {"value": False})
    managed.get("root:/", headers={})
    managed.get("/v1/models", headers={"Authorization": "Bearer k1"})
    managed.put("/request-log", {"value": True})
    _record_of(managed, managed.get("root:/", headers={}))
    assert len(_records(managed)) == 2


def test_what_is_not_there_and_who_may_not_enter_leave_records_too(manage: Manage, edge: str) -> None:
    managed = manage(edge=edge)
    managed.put("/request-log", {"value": True})

    lost = managed.get("root:/no/such/thing", headers={})
    stranger = managed.post("/v1/messages", MESSAGE, headers={"x-api-key": "a-wrong-key-of-somebody"})

    assert "Status: 404" in _record_of(managed, lost)
    text = _record_of(managed, stranger)
    assert _section(text, "RESPONSE").startswith("Status: 401\n")
    assert "x-api-key: a-wr...body\n" in text
    assert [path.name[:12] for path in _records(managed)] == ["no-such-thin", "v1-messages-"]


# -- what goes upstream


def _configuration(vendors: str, *, more: str = "", is_on: bool = True) -> str:
    return f"""\
port: 0
remote-management: {{secret-key: mk}}
auth-dir: AUTH_DIR
request-log: {str(is_on).lower()}
request-retry: 0
api-keys: [test-key-0001]
claude-api-key:
  - {{api-key: sk-sim-claude-000001, base-url: "{vendors}", models: [{{name: claude-sonnet-4-5-20250929, alias: claude-x}}]}}
{more}"""


@pytest.fixture
def recording(manage: Manage, vendors: Simulator, edge: str) -> Managed:
    return manage(_configuration(vendors.url), edge=edge)


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions"], ids=["passed", "translated"])
def test_a_stream_is_recorded_on_both_sides_as_it_came(recording: Managed, path: str) -> None:
    reply = recording.post(path, MESSAGE | {"stream": True}, headers=CALLER)

    text = _record_of(recording, reply)
    assert TITLES.findall(text) == [
        "REQUEST INFO", "HEADERS", "REQUEST BODY", "API REQUEST", "API RESPONSE", "RESPONSE",
    ]  # fmt: skip
    assert json.loads(_section(text, "REQUEST BODY")) == MESSAGE | {"stream": True}
    asked = _section(text, "API REQUEST")
    assert asked.startswith("Attempt: 1\nURL: http://127.0.0.1:")
    assert "/v1/messages\nMethod: POST\n" in asked
    assert json.loads(asked.partition("\n\n")[2])["model"] == "claude-sonnet-4-5-20250929"
    upstream = _section(text, "API RESPONSE")
    assert upstream.startswith("Status: 200\n")
    assert "event: message_start" in upstream
    assert "event: message_stop" in upstream
    head, _, body = _section(text, "RESPONSE").partition("\n\n")
    assert f"x-request-id: {reply.headers['x-request-id']}" in head
    assert body.strip() == reply.content.decode().strip()


def test_a_whole_answer_is_recorded_too(recording: Managed) -> None:
    reply = recording.post("/v1/messages", MESSAGE, headers=CALLER)

    text = _record_of(recording, reply)
    assert json.loads(_section(text, "API RESPONSE").partition("\n\n")[2])["type"] == "message"
    assert json.loads(_section(text, "RESPONSE").partition("\n\n")[2]) == reply.json


def test_counting_is_recorded_with_what_the_upstream_was_asked(recording: Managed) -> None:
    body = {name: value for name, value in MESSAGE.items() if name != "max_tokens"}

    text = _record_of(recording, recording.post("/v1/messages/count_tokens", body, headers=CALLER))

    assert "/v1/messages/count_tokens\nMethod: POST" in _section(text, "API REQUEST")
    assert "input_tokens" in _section(text, "API RESPONSE")


def test_a_compressed_body_is_recorded_as_it_is_understood(recording: Managed) -> None:
    headers = CALLER | {"Content-Encoding": "gzip"}

    reply = recording.post("/v1/messages", headers=headers, raw=gzip.compress(json.dumps(MESSAGE).encode()))

    assert reply.status == 200
    assert json.loads(_section(_record_of(recording, reply), "REQUEST BODY")) == MESSAGE


def test_each_attempt_is_recorded(manage: Manage, vendors: Simulator, edge: str) -> None:
    more = (
        f'  - {{api-key: sk-sim-claude-000002, base-url: "{vendors.url}", models: [{{name: claude-sonnet-4-5-20250929,'
        " alias: claude-x}]}\n"
        '  - {api-key: sk-sim-claude-000003, base-url: "http://127.0.0.1:1", models: [{name: claude-x}]}\n'
    )
    managed = manage(_configuration(vendors.url, more=more), edge=edge)
    vendors.script(
        Rule(answer=Answer(status=429, body='{"type":"error","error":{"type":"rate_limit_error","message":"no"}}'))
    )

    text = _record_of(managed, managed.post("/v1/messages", MESSAGE, headers=CALLER))

    assert re.findall(r"^Attempt: (\d)$", text, re.MULTILINE) == ["1", "2", "3"]
    assert text.count("=== API ERROR RESPONSE ===\nHTTP Status: 429\n") == 2
    assert text.count("=== API ERROR RESPONSE ===\nFailed: Could not connect to 127.0.0.1") == 1
    assert "=== API RESPONSE ===" not in text


def test_a_caller_who_leaves_is_noted(recording: Managed, vendors: Simulator) -> None:
    vendors.script(Rule(cut_after=4, hang=True))
    body = json.dumps(MESSAGE | {"stream": True}).encode()
    with socket.create_connection(("127.0.0.1", recording.serving.port), timeout=10) as caller:
        caller.sendall(
            b"POST /v1/messages HTTP/1.1\r\nhost: x\r\nauthorization: Bearer test-key-0001\r\n"
            b"content-length: %d\r\n\r\n%b" % (len(body), body)
        )
        assert caller.recv(4096).startswith(b"HTTP/1.1 200")

    assert soon(lambda: any("... not complete: " in path.read_text() for path in _records(recording)))


# -- bounds


class _Upstream(ThreadingHTTPServer):
    """Streams `megabytes` of chat chunks, or repeats the head of the request in a refusal."""

    daemon_threads = True

    def __init__(self, megabytes: int = 0) -> None:
        self.megabytes = megabytes
        super().__init__(("127.0.0.1", 0), _Answering)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> _Upstream:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Answering(BaseHTTPRequestHandler):
    server: _Upstream

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        if self.server.megabytes:
            self._stream()
        else:
            self._refuse()

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        delta = {"index": 0, "delta": {"role": "assistant", "content": "x" * 16_000}}
        chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "big"}
        frame = b"data: %b\n\n" % json.dumps(chunk | {"choices": [delta]}).encode()
        for _ in range(self.server.megabytes * 1_000_000 // len(frame)):
            self.wfile.write(frame)
        stop = {"index": 0, "delta": {}, "finish_reason": "stop"}
        self.wfile.write(b"data: %b\n\ndata: [DONE]\n\n" % json.dumps(chunk | {"choices": [stop]}).encode())

    def _refuse(self) -> None:
        said = f"Refused: {self.path} {dict(self.headers)}"
        body = json.dumps({"error": {"type": "authentication_error", "message": said}}).encode()
        self.send_response(401)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


def _resident_bytes() -> int:
    (found,) = re.findall(r"^VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found) * 1024


def _stream_through(port: int) -> tuple[int, int]:
    """Bytes of one streamed answer, and the largest memory of this process meanwhile; nothing is kept."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    body = {"model": "big", "stream": True, "messages": [{"role": "user", "content": "much"}]}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), CALLER)
    answer = connection.getresponse()
    assert answer.status == 200
    total = peak = 0
    while piece := answer.read(256 * 1024):
        total += len(piece)
        peak = max(peak, _resident_bytes())
    connection.close()
    return total, peak


def test_a_stream_of_fifty_megabytes_is_not_held_in_memory(manage: Manage, edge: str) -> None:
    with _Upstream(megabytes=2) as upstream:
        more = f'openai-compatibility: [{{name: big, base-url: "{upstream.url}/v1", api-keys: [k], models: [{{name: big}}]}}]\n'
        managed = manage(_configuration(upstream.url, more=more), edge=edge)
        _stream_through(managed.serving.port)
        upstream.megabytes = 50
        before = _resident_bytes()

        total, peak = _stream_through(managed.serving.port)

        assert total > 49_000_000
        assert peak - before < 30_000_000
        assert soon(lambda: len([path for path in _records(managed) if _is_whole(path)]) == 2, 20)
        newest = max(_records(managed), key=lambda path: path.stat().st_size)
        notes = re.findall(r"^\.\.\. (\d+) bytes not recorded: the (section|disk)", newest.read_text(), re.MULTILINE)
        left_out = sum(int(count) for count, why in notes if why == "disk")
        assert 32_000_000 < newest.stat().st_size + left_out < 35_000_000
        assert len(notes) >= 2
        assert sum(int(count) for count, _ in notes) + newest.stat().st_size == pytest.approx(2 * total, abs=200_000)


def test_a_disk_that_hangs_slows_no_stream_and_the_gap_is_noted(manage: Manage, edge: str) -> None:
    disk = threading.Event()

    def add(path: Path, data: bytes) -> int:
        assert disk.wait(60)
        return append(path, data)

    with _Upstream(megabytes=20) as upstream:
        more = f'openai-compatibility: [{{name: big, base-url: "{upstream.url}/v1", api-keys: [k], models: [{{name: big}}]}}]\n'
        managed = manage(_configuration(upstream.url, more=more, is_on=False), edge=edge)
        took = []
        for is_on in (False, True):
            if is_on:
                managed.serving._gateway._runtime.request_logs = RequestLogs(_folder(managed), add=add)
                managed.put("/request-log", {"value": True})
            before = time.monotonic()
            total, _ = _stream_through(managed.serving.port)
            took.append(time.monotonic() - before)
            assert total > 19_000_000

        assert _records(managed) == []
        assert took[1] < 5 * took[0] + 1
        disk.set()
        assert soon(lambda: len([path for path in _records(managed) if _is_whole(path)]) == 1, 20)
        text = _records(managed)[0].read_text()
        notes = re.findall(r"^\.\.\. (\d+) bytes not recorded: the (?:section|disk)", text, re.MULTILINE)
        assert "bytes not recorded: the disk was too slow" in text
        assert sum(map(int, notes)) + len(text) == pytest.approx(2 * total, abs=100_000)


def _is_whole(path: Path) -> bool:
    return "=== RESPONSE ===" in path.read_text() and not path.with_name(f".{path.name}.part").exists()


# -- secrets

SECRETS = {
    "management": "management-secret-01",
    "client": "client-secret-number-1",
    "other": "client-secret-number-2",
    "wrong": "a-secret-of-another-place",
    "claude": "upstream-secret-claude",
    "gemini": "upstream-secret-gemini",
    "chat": "upstream-secret-chat",
    "header": "upstream-secret-header",
    "proxy": "proxy-secret-1",
    "user": "proxy-user-1",
    "cookie": "session=cookie-secret-01",
    "basic": base64.b64encode(b"proxy-user-1:proxy-secret-1").decode(),
}


@pytest.fixture
def refusing() -> Iterator[_Upstream]:
    """An upstream that repeats every key that it is given."""
    with _Upstream() as upstream:
        yield upstream


def test_no_secret_is_in_any_log(
    manage: Manage, edge: str, refusing: _Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    text = f"""\
port: 0
remote-management: {{secret-key: "{SECRETS["management"]}"}}
auth-dir: AUTH_DIR
debug: true
request-log: true
logging-to-file: true
request-retry: 0
api-keys: ["{SECRETS["client"]}", "{SECRETS["other"]}"]
claude-api-key:
  - api-key: "{SECRETS["claude"]}"
    base-url: "{refusing.url}"
    headers: {{x-extra-token: "{SECRETS["header"]}"}}
    models: [{{name: claude-x}}]
gemini-api-key:
  - {{api-key: "{SECRETS["gemini"]}", base-url: "{refusing.url}", models: [{{name: gemini-x}}]}}
openai-compatibility:
  - name: far
    base-url: "http://far.example/v1"
    proxy-url: "http://{SECRETS["user"]}:{SECRETS["proxy"]}@127.0.0.1:1"
    api-keys: ["{SECRETS["chat"]}"]
    models: [{{name: far-x}}]
"""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "cliproxy")
    managed = manage(text, edge=edge)
    key, other, wrong = SECRETS["client"], SECRETS["other"], SECRETS["wrong"]
    carriers: list[dict[str, str]] = [
        {"Authorization": f"Bearer {key}"},
        {"Authorization": key},
        {"x-api-key": key, "cookie": SECRETS["cookie"]},
        {"x-goog-api-key": other, "authorization": f"Bearer {wrong}"},
        {"x-api-key": wrong},
        {"authorization": f"Bearer {key}", "proxy-authorization": f"Basic {SECRETS['basic']}"},
        {"authorization": f"Bearer {SECRETS['management']}"},
    ]
    for headers in carriers:
        for is_stream in (False, True):
            managed.post("/v1/messages", MESSAGE | {"stream": is_stream}, headers=headers)
            managed.post("/v1/chat/completions", MESSAGE | {"model": "far-x", "stream": is_stream}, headers=headers)
        managed.get("/v1/models", headers=headers)
    for shown, query in ((key, f"key={key}"), (other, f"key={other}&alt=sse"), (wrong, f"key={wrong}")):
        body = {"contents": [{"role": "user", "parts": [{"text": f"my key is {shown}"}]}]}
        managed.post(f"/v1beta/models/gemini-x:streamGenerateContent?{query}", body, headers={})
        managed.post(f"/v1beta/models/gemini-x:generateContent?{query.replace('-', '%2D')}", body, headers={})
    managed.get("/config", headers={"X-Management-Key": SECRETS["management"]})
    managed.get("/config", headers={"X-Management-Key": wrong})
    managed.put("/request-log", {"value": False}, headers={"X-Management-Key": SECRETS["management"]})
    managed.post("/v1/messages", MESSAGE, headers={"x-api-key": key})
    assert soon(lambda: bool(_records(managed, "error-*.log")))
    managed.stop()

    contents = {path.name: path.read_text() for path in _folder(managed).iterdir()}
    assert len(contents) == 7 * 5 + 3 * 2 + 2
    assert "upst...aude" in "".join(contents.values())
    assert "Proxy: http://***@127.0.0.1:1\n" in "".join(contents.values())
    assert "main.log" in contents
    logged = "\n".join((*contents.values(), *contents, caplog.text))
    assert [name for name, secret in SECRETS.items() if secret in logged] == []


# -- records of failures


def test_a_request_that_fails_leaves_a_record_without_being_asked(
    manage: Manage, vendors: Simulator, edge: str
) -> None:
    managed = manage(_configuration(vendors.url, is_on=False), edge=edge)
    vendors.script(Rule(answer=Answer(status=500, body='{"type":"error","error":{"type":"api_error","message":"no"}}')))
    managed.post("/v1/messages", MESSAGE | {"stream": True}, headers=CALLER)
    reply = managed.post("/v1/messages", MESSAGE | {"model": "unknown"}, headers=CALLER)
    good = managed.get("/v1/models", headers=CALLER)
    stranger = managed.post("/v1/messages", MESSAGE, headers={"x-api-key": "nobody"})
    assert (good.status, stranger.status) == (200, 401)

    assert soon(lambda: len(_records(managed)) == 2)
    files = managed.get("/request-error-logs").json["files"]

    assert [sorted(file) for file in files] == [["modified", "name", "size"]] * 2
    assert all(file["name"].startswith("error-v1-messages-") for file in files)
    assert all(abs(file["modified"] - time.time()) < 60 for file in files)
    assert {file["name"]: file["size"] for file in files} == {
        path.name: path.stat().st_size for path in _records(managed)
    }
    name = next(file["name"] for file in files if reply.headers["x-request-id"] in file["name"])
    shown = managed.get(f"/request-error-logs/{name}")
    assert shown.headers["content-disposition"] == f'attachment; filename="{name}"'
    text = shown.content.decode()
    assert TITLES.findall(text) == ["REQUEST INFO", "HEADERS", "REQUEST BODY", "RESPONSE"]
    assert json.loads(_section(text, "REQUEST BODY")) == MESSAGE | {"model": "unknown"}
    assert reply.content.decode() in text
    assert managed.get(f"/request-log-by-id/{reply.headers['x-request-id']}").content == shown.content


def test_a_stream_that_breaks_off_leaves_a_record(manage: Manage, vendors: Simulator, edge: str) -> None:
    managed = manage(_configuration(vendors.url, is_on=False), edge=edge)
    vendors.script(Rule(error_after=4, error_message="no more of this"))

    reply = managed.post("/v1/messages", MESSAGE | {"stream": True}, headers=CALLER)

    assert reply.status == 200
    text = _record_of(managed, reply)
    assert json.loads(_section(text, "REQUEST BODY"))["stream"] is True
    assert "... the upstream broke off (HTTP 529, overloaded): no more of this ..." in _section(text, "RESPONSE")
    assert len(managed.get("/request-error-logs").json["files"]) == 1


def test_failures_are_not_listed_while_every_request_is_recorded(recording: Managed) -> None:
    _record_of(recording, recording.post("/v1/messages", MESSAGE | {"model": "unknown"}, headers=CALLER))

    assert recording.get("/request-error-logs").told == (200, {"files": []})
    assert _records(recording, "error-*") == []


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("error-nothing-2026-11-24T100000-req_1.log", 404),
        ("main.log", 404),
        ("config.yaml", 404),
        ("error-..%5Cconfig.yaml", 400),
        ("error-%252Fx.log", 404),
        ("%2E%2E", 400),
        ("..%2Fconfig.yaml", 404),
    ],
)
def test_only_records_of_failures_can_be_had(recording: Managed, name: str, status: int) -> None:
    assert recording.get(f"/request-error-logs/{name}").status == status


def test_a_record_can_be_had_by_the_id_of_its_request(recording: Managed) -> None:
    reply = recording.post("/v1/messages", MESSAGE, headers=CALLER)
    text = _record_of(recording, reply)
    request_id = reply.headers["x-request-id"]

    shown = recording.get(f"/request-log-by-id/{request_id}")

    assert shown.content.decode() == text
    assert re.fullmatch(
        rf'attachment; filename="v1-messages-.*-{request_id}\.log"', shown.headers["content-disposition"]
    )
    assert recording.get("/request-log-by-id/req_0000000000000000").status == 404
    assert recording.get("/request-log-by-id/a.b").told == refused(400, "invalid request ID")


# -- the program's own log


def test_lines_are_shown_only_while_they_go_to_files(managed: Managed) -> None:
    assert managed.get("/logs").told == refused(400, "logging to file disabled")
    assert managed.delete("/logs").told == refused(400, "logging to file disabled")


def test_lines_go_to_files_and_back_while_it_runs(manage: Manage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "cliproxy")
    managed = manage(_configuration("http://127.0.0.1:1", is_on=False))
    managed.put("/logging-to-file", {"value": True})
    path = _folder(managed) / "main.log"

    def fail() -> None:
        managed.post("/v1/messages", MESSAGE, headers=CALLER)

    fail()
    assert soon(lambda: path.exists() and "] claude-x: " in path.read_text())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    managed.put("/logging-to-file", {"value": False})
    before = path.read_text()
    fail()
    managed.put("/logging-to-file", {"value": True})
    fail()
    assert soon(lambda: len(path.read_text()) > len(before))


@pytest.fixture
def talking(managed: Managed) -> Managed:
    """One whose lines go to a file, in which ten stand."""
    managed.put("/logging-to-file", {"value": True})
    _folder(managed).mkdir(mode=0o700, exist_ok=True)
    with (_folder(managed) / "main.log").open("a") as file:
        file.writelines(f"[2026-11-24 10:00:0{number}] [--------] [info] [x:1] line {number}\n" for number in range(10))
    return managed


def _lines(reply: Reply) -> list[str]:
    return [line.rpartition("] ")[2] for line in reply.json["lines"] if "[x:1] line " in line]


def test_lines_are_shown_with_what_is_needed_to_go_on(talking: Managed) -> None:
    told = talking.get("/logs?limit=3").json
    at = int(time.mktime((2026, 11, 24, 10, 0, 9, 0, 0, -1)))

    assert sorted(told) == ["latest-timestamp", "line-count", "lines", "next-cursor"]
    assert told["line-count"] == len(told["lines"]) == 3
    assert told["latest-timestamp"] >= at
    assert _lines(talking.get(f"/logs?after={at - 2}")) == ["line 8", "line 9"]
    assert _lines(talking.get("/logs?after=")) == [f"line {number}" for number in range(10)]


def test_a_cursor_leads_to_later_lines_and_is_reset_when_the_log_is_cleared(talking: Managed) -> None:
    cursor = talking.get("/logs").json["next-cursor"]
    with (_folder(talking) / "main.log").open("a") as file:
        file.write("[2026-11-24 10:00:10] [--------] [info] [x:1] line 10\n")

    later = talking.get(f"/logs?cursor={cursor}")
    cleared = talking.delete("/logs")
    after = talking.get(f"/logs?cursor={cursor}").json

    assert _lines(later) == ["line 10"]
    assert "cursor-reset" not in later.json
    assert cleared.told == (200, {"success": True, "message": "Logs cleared successfully", "removed": 0})
    assert after["cursor-reset"] is True
    assert (_folder(talking) / "main.log").exists()


@pytest.mark.parametrize("limit", ["0", "-1", "x", "1.5", "%C2%B2"])
def test_a_limit_must_be_a_number(talking: Managed, limit: str) -> None:
    assert talking.get(f"/logs?limit={limit}").told == refused(400, "invalid limit: must be a positive integer")


def test_a_huge_limit_is_as_good_as_none(talking: Managed) -> None:
    assert len(_lines(talking.get("/logs?limit=" + "9" * 30))) == 10
