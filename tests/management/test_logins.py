"""Logging in by the Management API: what vendors' addresses hold, what comes back by browser or by hand, and every way
to fail. Conformance cases 178 to 193, and what they leave open."""

from __future__ import annotations

import json
import logging
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from login_gateway import LoginGateway, ask_at, free_port, query_of
from managed import OK, Reply, refused, soon

from cliproxy.gateway.logins import MOST_RUNNING
from cliproxy.simulator import Simulator
from cliproxy.simulator.failures import login_failure
from cliproxy.simulator.rules import Rule

ADA, BOB = "ada@example.com", "bob@example.com"
WAIT = {"status": "wait"}
ENDED = {"status": "ok"}
UNKNOWN = {"status": "error", "error": "unknown or expired state"}
PASTED = "http://localhost:54545/callback?code=c&state=S"
PATHS = {"anthropic": "/callback", "codex": "/auth/callback", "gemini-cli": "/oauth2callback"}
TOKEN_URL = {"anthropic": "/oauth/token", "codex": "/oauth/token", "gemini-cli": "/token"}
PROVIDERS = {"anthropic": "anthropic", "codex": "openai", "gemini-cli": "google"}
KINDS = {"anthropic": "claude", "codex": "codex", "gemini-cli": "gemini"}


@pytest.fixture
def gateway(tmp_path: Path, vendors: Simulator) -> Iterator[LoginGateway]:
    started = LoginGateway(tmp_path, vendors)
    yield started
    started.stop()


@pytest.fixture
def official(tmp_path: Path) -> Iterator[LoginGateway]:
    """With the vendors' own addresses, which nobody is sent to."""
    started = LoginGateway(tmp_path, None)
    yield started
    started.stop()


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoginGateway]:
    """For questions about logins that nobody has begun."""
    started = LoginGateway(tmp_path_factory.mktemp("idle"), None)
    yield started
    started.stop()


def failed(status: int, text: str) -> tuple[int, object]:
    return status, {"status": "error", "error": text}


def begun(gateway: LoginGateway, name: str, query: str = "") -> tuple[dict[str, str], dict[str, object]]:
    """What the address of a new login holds, and the whole answer."""
    told = gateway.get(f"/{name}-auth-url{query}")
    if told.told == refused(500, "failed to start callback server"):
        pytest.skip("another program has the port that this vendor's callbacks come to")
    assert told.status == 200, told
    return query_of(told.json["url"]), told.json  # type: ignore[index, return-value]


def text_of(page: Reply) -> str:
    """A page's text; what is quoted is not."""
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    return page.content.decode()


# -- the conformance cases --------------------------------------------------------------------------------------------


def test_178_anthropics_address(official: LoginGateway) -> None:
    query, answer = begun(official, "anthropic")

    assert answer["status"] == "ok"
    assert str(answer["url"]).startswith("https://claude.ai/oauth/authorize?")
    assert query["code_challenge_method"] == "S256"
    assert query["redirect_uri"] == "http://localhost:54545/callback"
    assert re.fullmatch("[0-9a-f]{32}", query["state"])
    assert answer["state"] == query["state"]


def test_179_openais_address(official: LoginGateway) -> None:
    query, _ = begun(official, "codex")

    assert query["redirect_uri"] == "http://localhost:1455/auth/callback"
    assert query["prompt"] == "login"
    assert query["scope"] == "openid email profile offline_access"


def test_180_googles_address(official: LoginGateway) -> None:
    first, _ = begun(official, "gemini-cli", "?project_id=p1")
    second, _ = begun(official, "gemini-cli", "?project_id=p1&is_webui=true")

    assert first["access_type"] == "offline"
    assert first["prompt"] == "consent"
    assert first["redirect_uri"] == second["redirect_uri"] == "http://localhost:8085/oauth2callback"
    assert first["state"] != second["state"]


def test_181_a_device_login(gateway: LoginGateway, vendors: Simulator) -> None:
    told = gateway.get("/qwen-auth-url")
    url, state = told.json["url"], told.json["state"]  # type: ignore[index]
    (device,) = vendors.accounts.devices.values()
    assert url.startswith(f"{vendors.url}/authorize?user_code={device.user_code}")
    assert told.json == {  # type: ignore[comparison-overlap]
        "status": "ok",
        "url": url,
        "state": state,
        "flow": "device",
        "user_code": device.user_code,
        "expires_in": 900,
    }

    for asked in (1, 2):
        gateway.wait_out(5)
        assert soon(lambda asked=asked: len(polls(vendors)) == asked)
    assert gateway.status(state) == WAIT
    vendors.approve(url)
    gateway.wait_out(5)

    assert gateway.ends(state) == ENDED
    (name,) = gateway.files()
    assert re.fullmatch(r"qwen-\d+\.json", name)
    assert json.loads((gateway.auth_dir / name).read_text())["type"] == "qwen"


@pytest.mark.parametrize("name", PATHS)
def test_182_a_login_by_browser(gateway: LoginGateway, vendors: Simulator, name: str) -> None:
    url, state = gateway.begin(name)

    page = gateway.come_back(vendors.approve(url, email=ADA))

    assert (page.status, ADA in text_of(page)) == (200, True)
    (file,) = gateway.files()
    assert file.startswith(f"{KINDS[name]}-{ADA}" if name != "gemini-cli" else f"{ADA}-")
    path = gateway.auth_dir / file
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text())["type"] == KINDS[name]
    assert gateway.status(state) == ENDED
    (listed,) = gateway.get("/auth-files").json["files"]  # type: ignore[index]
    assert (listed["name"], listed["email"]) == (file, ADA)
    assert gateway.saved == [(file,)]


def test_182_the_account_serves_when_the_login_has_ended(gateway: LoginGateway, vendors: Simulator) -> None:
    url, _ = gateway.begin("codex")

    gateway.come_back(vendors.approve(url))

    (listed,) = gateway.get("/auth-files").json["files"]  # type: ignore[index]
    models = gateway.get("/v1/models", headers={"Authorization": "Bearer test-key"}).json["data"]  # type: ignore[index]
    assert listed["status"] == "active"
    assert "gpt-5.4" in {model["id"] for model in models}


@pytest.mark.parametrize("name", PATHS)
def test_183_a_wrong_state(gateway: LoginGateway, vendors: Simulator, name: str) -> None:
    url, state = gateway.begin(name)
    location = vendors.approve(url)
    seen = len(vendors.requests)

    for wrong in ("0" * 32, state[:-1], state.upper() + "A", "", "..", "ü"):
        page = gateway.come_back(f"http://x:{gateway.port}{PATHS[name]}?{urlencode({'code': 'c', 'state': wrong})}")
        assert (page.status, "Unknown or expired login" in text_of(page)) == (400, True)

    assert len(vendors.requests) == seen
    assert gateway.status(state) == WAIT
    assert gateway.come_back(location).status == 200
    assert gateway.status(state) == ENDED


@pytest.mark.parametrize("name", PATHS)
def test_184_somebody_says_no(gateway: LoginGateway, vendors: Simulator, name: str) -> None:
    url, state = gateway.begin(name)

    page = gateway.come_back(vendors.approve(url, deny=True))

    assert (page.status, "access_denied" in text_of(page)) == (400, True)
    assert gateway.status(state) == {"status": "error", "error": "Bad request", "detail": "access_denied"}
    gateway.wait_out(5)
    assert soon(lambda: not gateway.is_listening)
    assert gateway.get("/debug").status == 200


def test_185_a_callback_without_a_code(gateway: LoginGateway, vendors: Simulator) -> None:
    url, state = gateway.begin("anthropic")
    location = vendors.approve(url)

    for query in ("", "?", "?code=", f"?state={state}", "?error=", f"?code=&state={state}"):
        page = gateway.come_back(f"http://localhost:{gateway.port}/callback{query}")
        assert (page.status, "goes on waiting" in text_of(page)) == (400, True)

    assert gateway.status(state) == WAIT
    assert gateway.come_back(location).status == 200


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("taken", ["127.0.0.1", "::1"])
def test_186_another_program_has_the_port(
    gateway: LoginGateway, name: str, taken: str, caplog: pytest.LogCaptureFixture
) -> None:
    family = socket.AF_INET6 if ":" in taken else socket.AF_INET
    with socket.create_server((taken, gateway.port), family=family), caplog.at_level(logging.INFO):
        told = gateway.get(f"/{name}-auth-url")

    assert told.told == refused(500, "failed to start callback server")
    assert str(gateway.port) in caplog.text
    assert gateway.begin(name)[1]
    assert gateway.get("/debug").status == 200


@pytest.mark.parametrize("name", ["anthropic", "codex"])
def test_187_two_logins_at_once(gateway: LoginGateway, vendors: Simulator, name: str) -> None:
    first, first_state = gateway.begin(name)
    second, second_state = gateway.begin(name)
    locations = [vendors.approve(second, email=BOB), vendors.approve(first, email=ADA)]

    pages = [gateway.come_back(location) for location in locations]

    assert [page.status for page in pages] == [200, 200]
    assert query_of(first)["code_challenge"] != query_of(second)["code_challenge"]
    assert [gateway.status(state) for state in (first_state, second_state)] == [ENDED, ENDED]
    assert gateway.files() == [f"{KINDS[name]}-{ADA}.json", f"{KINDS[name]}-{BOB}.json"]


def test_188_nobody_comes_back(gateway: LoginGateway, vendors: Simulator) -> None:
    url, state = gateway.begin("anthropic")
    location = vendors.approve(url)
    assert soon(lambda: 300.0 in gateway.clock.waits())

    gateway.pass_time(299)
    assert gateway.status(state) == WAIT
    gateway.pass_time(1)

    assert gateway.ends(state) == {"status": "error", "error": "Timeout waiting for OAuth callback"}
    assert gateway.come_back(location).status == 400
    gateway.wait_out(5)
    assert soon(lambda: not gateway.is_listening)
    assert gateway.files() == []


@pytest.mark.parametrize(
    ("answer", "error"),
    [("access_denied", "Authentication failed"), ("expired_token", "OAuth flow timed out")],
)
def test_189_a_device_login_ends_badly(gateway: LoginGateway, vendors: Simulator, answer: str, error: str) -> None:
    vendors.script(Rule(path="/oauth2/token", answer=login_failure("qwen", answer)))
    _, state = gateway.begin("qwen")

    gateway.wait_out(5)

    told = gateway.ends(state)
    assert (told["status"], told["error"]) == ("error", error)  # type: ignore[index]
    assert answer in told["detail"]  # type: ignore[index]
    assert gateway.files() == []
    assert gateway.get("/debug").status == 200


def test_189_a_device_endpoint_that_cannot_be_reached(gateway: LoginGateway, vendors: Simulator) -> None:
    vendors.script(Rule(path="/device/code", cut_after=0))

    assert gateway.get("/qwen-auth-url").told == refused(502, "failed to generate authorization url")
    assert gateway.get("/debug").status == 200


@pytest.mark.parametrize("name", PATHS)
def test_190_the_token_endpoint_refuses(
    gateway: LoginGateway, vendors: Simulator, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    refusal = login_failure(KINDS[name], message="Words of the vendor.")  # type: ignore[arg-type]
    vendors.script(Rule(path=TOKEN_URL[name], answer=refusal))
    url, state = gateway.begin(name)
    location = vendors.approve(url)

    with caplog.at_level(logging.DEBUG):
        page = gateway.come_back(location)

    assert (page.status, "Words of the vendor." in text_of(page)) == (502, True)
    told = gateway.status(state)
    assert told["status"] == "error"  # type: ignore[index]
    assert told["error"] == "Failed to exchange authorization code for tokens"  # type: ignore[index]
    assert "Words of the vendor." in told["detail"]  # type: ignore[index]
    assert gateway.files() == []
    assert KINDS[name] in caplog.text
    assert not [secret for secret in (query_of(location)["code"], state) if secret in caplog.text]


def test_191_how_a_login_stands(gateway: LoginGateway) -> None:
    _, state = gateway.begin("anthropic")

    assert gateway.get("/get-auth-status").told == OK
    assert gateway.get("/get-auth-status?state=../x").told == failed(400, "invalid state")
    assert gateway.get("/get-auth-status?state=nobody").told == failed(200, "unknown or expired state")
    assert gateway.get(f"/get-auth-status?state={state}").told == (200, WAIT)


@pytest.mark.parametrize("name", PATHS)
def test_192_a_pasted_address(gateway: LoginGateway, vendors: Simulator, name: str) -> None:
    url, state = gateway.begin(name)
    body = {"provider": PROVIDERS[name], "redirect_url": vendors.approve(url, email=ADA)}

    assert gateway.post("/oauth-callback", body | {"redirect_url": _with(body, state="S")}).status == 404
    other = "codex" if name != "codex" else "anthropic"
    assert gateway.post("/oauth-callback", body | {"provider": other}).told == failed(
        400, "provider does not match state"
    )
    assert gateway.status(state) == WAIT
    assert gateway.post("/oauth-callback", body).told == OK
    assert gateway.ends(state) == ENDED
    assert gateway.post("/oauth-callback", body).told == failed(409, "oauth flow is already completed")
    assert len(gateway.files()) == 1


def test_193_a_cancelled_login(gateway: LoginGateway, vendors: Simulator) -> None:
    url, state = gateway.begin("anthropic")
    location = vendors.approve(url)

    assert gateway.delete(f"/oauth-session?state={state}").told == (200, {"status": "ok", "cancelled": True})

    page = gateway.come_back(location)
    assert (page.status, "cancelled" in text_of(page)) == (400, True)
    assert gateway.files() == []
    assert gateway.status(state) == {"status": "error", "error": "Authentication cancelled"}
    assert gateway.delete(f"/oauth-session?state={state}").json == {"status": "ok", "cancelled": False}
    body = {"provider": "claude", "redirect_url": location}
    assert gateway.post("/oauth-callback", body).told == failed(409, "oauth flow is not pending")


# -- what they leave open ---------------------------------------------------------------------------------------------


def test_193_a_login_is_cancelled_while_the_vendor_is_asked(gateway: LoginGateway, vendors: Simulator) -> None:
    vendors.script(Rule(path="/oauth/token", hang=True))
    url, state = gateway.begin("anthropic")
    body = {"provider": "claude", "redirect_url": vendors.approve(url)}
    assert gateway.post("/oauth-callback", body).told == OK
    assert soon(lambda: vendors.requests[-1].path.endswith("/oauth/token"))
    assert gateway.status(state) == WAIT | {"phase": "exchanging"}
    assert gateway.post("/oauth-callback", body).told == failed(409, "oauth flow is not pending")

    assert gateway.delete(f"/oauth-session?state={state}").json == {"status": "ok", "cancelled": True}

    assert soon(lambda: vendors.requests[-1].is_settled)
    assert gateway.files() == []


def test_a_page_is_answered_after_ten_seconds_at_the_latest(gateway: LoginGateway, vendors: Simulator) -> None:
    vendors.script(Rule(path="/oauth/token", hang=True))
    url, state = gateway.begin("anthropic")
    location = vendors.approve(url)
    pages: list[Reply] = []
    browser = threading.Thread(target=lambda: pages.append(gateway.come_back(location)))
    browser.start()

    gateway.wait_out(10)

    browser.join(10)
    assert (pages[0].status, "Still working" in text_of(pages[0])) == (202, True)
    assert gateway.status(state) == WAIT | {"phase": "exchanging"}


def test_a_browser_may_come_twice(gateway: LoginGateway, vendors: Simulator) -> None:
    url, _ = gateway.begin("anthropic")
    location = vendors.approve(url, email=ADA)

    pages = [gateway.come_back(location) for _ in range(2)]

    assert [(page.status, ADA in text_of(page)) for page in pages] == [(200, True)] * 2
    assert len([seen for seen in vendors.requests if seen.path == "/v1/oauth/token"]) == 1


def test_the_listener_goes_on_as_long_as_somebody_waits(gateway: LoginGateway, vendors: Simulator) -> None:
    first, _ = gateway.begin("anthropic")
    second, _ = gateway.begin("anthropic")
    gateway.come_back(vendors.approve(first, email=ADA))

    gateway.pass_time(20)
    assert gateway.is_listening
    assert gateway.come_back(vendors.approve(second, email=BOB)).status == 200
    assert soon(lambda: 5.0 in gateway.clock.waits())
    gateway.pass_time(4)
    third, _ = gateway.begin("anthropic")
    gateway.pass_time(4)

    assert gateway.come_back(vendors.approve(third, email=ADA)).status == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_callbacks_are_heard_on_both_loopback_addresses(gateway: LoginGateway, vendors: Simulator, host: str) -> None:
    url, _ = gateway.begin("anthropic")

    assert gateway.come_back(vendors.approve(url), host=host).status == 200


@pytest.mark.parametrize(
    ("door", "name"),
    [("/anthropic/callback", "anthropic"), ("/codex/callback", "codex"), ("/google/callback", "gemini-cli")],
)
def test_callbacks_on_the_main_port_need_no_key(
    gateway: LoginGateway, vendors: Simulator, door: str, name: str
) -> None:
    url, state = gateway.begin(name)
    query = vendors.approve(url, email=ADA).partition("?")[2]

    assert gateway.get(f"root:{door}", headers={}).status == 400
    assert gateway.post(f"root:{door}?{query}", {}, headers={}).status == 405
    page = gateway.get(f"root:{door}?{query}", headers={})

    assert (page.status, ADA in text_of(page)) == (200, True)
    assert gateway.status(state) == ENDED


def test_a_callback_at_the_door_of_another_vendor_belongs_to_nobody(gateway: LoginGateway, vendors: Simulator) -> None:
    url, state = gateway.begin("anthropic")
    query = vendors.approve(url).partition("?")[2]

    assert gateway.get(f"root:/codex/callback?{query}", headers={}).status == 400
    assert gateway.status(state) == WAIT


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("POST", "/callback?code=c&state=s", 405),
        ("HEAD", "/callback?code=c&state=s", 405),
        ("PUT", "/callback", 405),
        ("GET", "/", 404),
        ("GET", "/favicon.ico", 404),
        ("GET", "/callback/", 404),
        ("GET", "/success", 404),
        ("GET", "http://localhost/callback?code=c", 404),
    ],
)
def test_what_else_is_sent_to_a_listener(
    gateway: LoginGateway, vendors: Simulator, method: str, target: str, status: int
) -> None:
    url, state = gateway.begin("anthropic")

    answer = ask_at("127.0.0.1", gateway.port, method, target, b"x" * 100_000 if method == "POST" else None)

    assert answer.status == status
    assert answer.headers.get("allow") == ("GET" if status == 405 else None)
    assert gateway.status(state) == WAIT
    assert gateway.come_back(vendors.approve(url)).status == 200


@pytest.mark.parametrize(
    "sent", [b"\r\n\r\n", b"nonsense\r\n\r\n", b"\x16\x03\x01\r\n\r\n", b"x" * 100_000, b"GET", b""]
)
def test_a_listener_survives_what_is_no_http(gateway: LoginGateway, vendors: Simulator, sent: bytes) -> None:
    url, _ = gateway.begin("anthropic")

    with socket.create_connection(("127.0.0.1", gateway.port), 5) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        try:
            said = connection.recv(65536)
        except ConnectionResetError:
            said = b""

    assert said == b"" or said.startswith(b"HTTP/1.1 400 ")
    assert gateway.come_back(vendors.approve(url)).status == 200


def test_pages_are_safe_to_show(gateway: LoginGateway) -> None:
    _, state = gateway.begin("anthropic")
    query = urlencode({"error": "<script>alert(1)</script>", "error_description": '"><img src=x>', "state": state})

    page = gateway.come_back(f"http://localhost:{gateway.port}/callback?{query}")

    shown = text_of(page)
    assert page.status == 400
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown
    assert "<script" not in shown
    assert "<img" not in shown
    assert "src=" not in shown.replace("src=x", "")
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["referrer-policy"] == "no-referrer"
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy


def test_a_secret_that_a_vendor_repeats_is_not_shown(gateway: LoginGateway, vendors: Simulator) -> None:
    url, state = gateway.begin("anthropic")
    code = query_of(vendors.approve(url))["code"]
    vendors.script(Rule(path="/oauth/token", answer=login_failure("claude", message=f"Bad code {code}.")))
    query = urlencode({"code": code, "state": state})

    page = gateway.come_back(f"http://localhost:{gateway.port}/callback?{query}")

    assert code not in text_of(page)
    assert code not in json.dumps(gateway.status(state))


def test_a_second_login_renews_the_file_and_keeps_what_was_set_there(gateway: LoginGateway, vendors: Simulator) -> None:
    url, _ = gateway.begin("anthropic")
    gateway.come_back(vendors.approve(url, email=ADA))
    path = gateway.auth_dir / f"claude-{ADA}.json"
    before = json.loads(path.read_text())
    path.write_text(json.dumps(before | {"disabled": True, "priority": 7, "note": "mine", "odd": [1.50]}))

    url, _ = gateway.begin("anthropic")
    gateway.come_back(vendors.approve(url, email=ADA))

    after = json.loads(path.read_text())
    assert gateway.files() == [path.name]
    assert after["access_token"] != before["access_token"]
    assert {name: after[name] for name in ("disabled", "priority", "note", "odd")} == {
        "disabled": True,
        "priority": 7,
        "note": "mine",
        "odd": [1.5],
    }


def test_a_file_that_cannot_be_written_fails_the_login(gateway: LoginGateway, vendors: Simulator) -> None:
    gateway.auth_dir.rmdir()
    gateway.auth_dir.write_text("no folder")
    url, state = gateway.begin("anthropic")

    page = gateway.come_back(vendors.approve(url))

    assert page.status == 500
    told = gateway.status(state)
    assert told["error"] == "Failed to save authentication tokens"  # type: ignore[index]
    assert str(gateway.auth_dir) not in json.dumps(told) + text_of(page)


def test_googles_secret_is_missing(tmp_path: Path, vendors: Simulator) -> None:
    gateway = LoginGateway(tmp_path, vendors)
    gateway.stop()
    text = re.sub(r" *client-secret: .*", "", gateway.path.read_text())
    folder = tmp_path / "again"
    folder.mkdir()
    gateway = LoginGateway(folder, None, more=re.sub(r"(?s)^.*?(?=endpoints:)", "", text))
    try:
        url, state = gateway.begin("gemini-cli")
        gateway.come_back(vendors.approve(url))
        told = gateway.status(state)["error"]  # type: ignore[index]
    finally:
        gateway.stop()

    assert told.startswith("Authentication failed: ")
    assert "endpoints.gemini-cli.client-secret" in told
    assert "CLIPROXY_GEMINI_CLIENT_SECRET" in told


def test_google_does_not_say_whose_account_it_is_but_its_token_does(gateway: LoginGateway, vendors: Simulator) -> None:
    vendors.script(Rule(path="/userinfo", cut_after=0))
    url, state = gateway.begin("gemini-cli")

    gateway.come_back(vendors.approve(url, email=ADA))

    assert gateway.status(state) == ENDED


def test_google_offers_no_code_assist(gateway: LoginGateway, vendors: Simulator) -> None:
    vendors.script(Rule(path=":loadCodeAssist", answer=login_failure("gemini", "", 403, "Not for you.")))
    url, state = gateway.begin("gemini-cli")

    page = gateway.come_back(vendors.approve(url))

    told = gateway.status(state)
    assert told["error"].startswith("Authentication failed: ")  # type: ignore[index]
    assert "Not for you." in told["error"]  # type: ignore[index]
    assert "Not for you." in text_of(page)
    assert gateway.files() == []


def test_a_good_end_is_known_for_a_minute_and_a_bad_one_for_thirty(gateway: LoginGateway, vendors: Simulator) -> None:
    good, good_state = gateway.begin("anthropic")
    bad, bad_state = gateway.begin("anthropic")
    gateway.come_back(vendors.approve(good))
    gateway.come_back(vendors.approve(bad, deny=True))

    gateway.pass_time(59)
    assert gateway.status(good_state) == ENDED
    gateway.pass_time(1)
    assert gateway.status(good_state) == UNKNOWN
    gateway.pass_time(1739)
    assert gateway.status(bad_state)["error"] == "Bad request"  # type: ignore[index]
    gateway.pass_time(1)
    assert gateway.status(bad_state) == UNKNOWN


def test_there_is_an_end_to_how_many_may_wait(gateway: LoginGateway, vendors: Simulator) -> None:
    logins = [gateway.begin("anthropic") for _ in range(MOST_RUNNING)]

    told = gateway.get("/anthropic-auth-url")

    assert told.status == 429
    assert "logins are under way" in told.json["error"]  # type: ignore[index]
    assert gateway.come_back(vendors.approve(logins[0][0])).status == 200
    assert gateway.begin("anthropic")


def test_a_stopped_gateway_leaves_no_listener(tmp_path: Path, vendors: Simulator) -> None:
    gateway = LoginGateway(tmp_path, vendors)
    gateway.begin("anthropic")
    assert gateway.is_listening

    gateway.stop()

    assert not gateway.is_listening


def test_a_device_login_takes_no_callback(gateway: LoginGateway) -> None:
    _, state = gateway.begin("qwen")

    body = {"code": "c", "state": state}

    assert gateway.post("/oauth-callback", body | {"provider": "qwen"}).told == failed(400, "unsupported provider")
    assert gateway.post("/oauth-callback", body | {"provider": "codex"}).told == failed(
        400, "provider does not match state"
    )


@pytest.mark.parametrize("spelled", ["fields", "code with state", "error"])
def test_a_callback_in_parts(gateway: LoginGateway, vendors: Simulator, spelled: str) -> None:
    url, state = gateway.begin("anthropic")
    code = query_of(vendors.approve(url))["code"]
    bodies = {
        "fields": {"code": code, "state": state},
        "code with state": {"code": f"{code}#{state}"},
        "error": {"error": "access_denied", "state": state},
    }

    assert gateway.post("/oauth-callback", {"provider": "claude", **bodies[spelled]}).told == OK

    told = gateway.ends(state)
    assert told == (
        ENDED if spelled != "error" else {"status": "error", "error": "Bad request", "detail": "access_denied"}
    )


def test_a_failed_login_says_so_to_a_late_callback(gateway: LoginGateway, vendors: Simulator) -> None:
    url, state = gateway.begin("anthropic")
    location = vendors.approve(url)
    gateway.come_back(vendors.approve(url, deny=True))

    told = gateway.post("/oauth-callback", {"provider": "claude", "redirect_url": location})

    assert told.told == failed(409, "Bad request")
    assert gateway.status(state)["status"] == "error"  # type: ignore[index]


def test_a_redirect_through_the_api_needs_no_key(gateway: LoginGateway, vendors: Simulator) -> None:
    url, state = gateway.begin("anthropic")
    query = vendors.approve(url).partition("?")[2]

    assert gateway.get(f"/oauth-callback?provider=anthropic&{query}", headers={}).told == OK
    assert gateway.ends(state) == ENDED


def test_without_a_management_key_there_are_no_logins(tmp_path: Path) -> None:
    gateway = LoginGateway(tmp_path, None, key=False)
    try:
        statuses = [
            gateway.get(path, headers={}).status
            for path in ("/oauth-callback?provider=anthropic&code=c&state=s", "/anthropic-auth-url", "/get-auth-status")
        ]
    finally:
        gateway.stop()

    assert statuses == [404, 404, 404]


@pytest.mark.parametrize("name", ["anthropic", "codex", "gemini-cli", "qwen"])
def test_beginning_needs_the_key(idle: LoginGateway, name: str) -> None:
    assert idle.get(f"/{name}-auth-url", headers={}).told == refused(401, "missing management key")


def test_logins_use_the_proxy(tmp_path: Path, vendors: Simulator) -> None:
    """A proxy that refuses: no login service is reached past it."""
    vendors.accounts.codex_ports = frozenset()
    gateway = LoginGateway(tmp_path, None, more=f"proxy-url: http://127.0.0.1:{free_port()}\n" + _remote(vendors))
    try:
        told = gateway.get("/qwen-auth-url")
    finally:
        gateway.stop()

    assert told.status == 502
    assert vendors.requests == []


# -- of logins that nobody has begun


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
def test_the_status_of_a_login_that_nobody_knows(idle: LoginGateway, query: str, told: tuple[int, object]) -> None:
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
    idle: LoginGateway, body: dict[str, str], told: tuple[int, object]
) -> None:
    assert idle.post("/oauth-callback", body).told == told


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b'{"state":5}'])
def test_a_callback_that_is_no_object_is_refused(idle: LoginGateway, raw: bytes) -> None:
    assert idle.post("/oauth-callback", raw=raw).told == failed(400, "invalid body")


def test_a_redirected_callback_needs_no_key(idle: LoginGateway) -> None:
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
def test_cancelling_a_login_that_nobody_knows(idle: LoginGateway, query: str, told: tuple[int, object]) -> None:
    assert idle.delete(f"/oauth-session{query}").told == told


def polls(vendors: Simulator) -> list[object]:
    return [seen for seen in vendors.settled() if seen.path.endswith("/oauth2/token")]


def _with(body: dict[str, str], state: str) -> str:
    return re.sub(r"state=[^&]+", f"state={state}", body["redirect_url"])


def _remote(vendors: Simulator) -> str:
    """The vendors by a name that is no loopback address, since proxies are not asked for those."""
    return vendors.endpoints().replace("127.0.0.1", "vendors.invalid")
