"""How upstreams are reached: addresses, credentials, proxies, their lists of models, and counting tokens."""

import http.client
import json
import socket
import socketserver
import threading
import time

import pytest
from plain import CALLERS, CHAT, GEMINI, MESSAGES, RESPONSES, VENDORS, Gateways, config, post

from cliproxy.simulator import Simulator
from cliproxy.simulator.rules import Answer, Rule

pytestmark = pytest.mark.flow

KEY = "sk-sim-upstream"
BY_VENDOR = {caller.vendor: caller for caller in CALLERS}
each_vendor = pytest.mark.parametrize("vendor", VENDORS)


@pytest.fixture(scope="module")
def simulator():
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def vendors(simulator):
    simulator.reset()
    return simulator


@pytest.fixture
def start():
    gateways = Gateways()
    yield gateways
    gateways.let_go()


# ---- addresses and credentials --------------------------------------------------------------------------------------

BASES = [
    ("gemini", "", "/v1beta/models/gemini-2.5-flash:generateContent"),
    ("gemini", "/", "/v1beta/models/gemini-2.5-flash:generateContent"),
    ("gemini", "/v1beta", "/v1beta/models/gemini-2.5-flash:generateContent"),
    ("gemini", "/relay/v1beta/", "/relay/v1beta/models/gemini-2.5-flash:generateContent"),
    ("anthropic", "", "/v1/messages"),
    ("anthropic", "/v1", "/v1/messages"),
    ("anthropic", "/relay/", "/relay/v1/messages"),
    ("openai-responses", "/v1", "/v1/responses"),
    ("openai-responses", "/codex/", "/codex/responses"),
    ("openai-chat", "", "/chat/completions"),
    ("openai-chat", "/v1/", "/v1/chat/completions"),
    ("openai-chat", "/api/paas/v4", "/api/paas/v4/chat/completions"),
]


@pytest.mark.parametrize(("vendor", "base", "path"), BASES)
def test_a_base_url_is_composed(vendor, base, path, vendors, start):
    vendors.script(Rule(answer=Answer(status=400, body="{}")))
    text = config(vendors.url, vendor, [KEY])
    old = vendors.url if vendor in ("anthropic", "gemini") else f"{vendors.url}/v1"
    serving = start(text.replace(f'"{old}"', f'"{vendors.url}{base}"'))

    BY_VENDOR[vendor].ask(serving.url, VENDORS[vendor])

    assert [seen.path for seen in vendors.requests] == [path]


@pytest.mark.parametrize(
    ("style", "carriers"),
    [
        ("", {"authorization"}),
        ("auth-style: x-api-key", {"x-api-key"}),
        ("auth-style: bearer", {"authorization"}),
        ("auth-style: both", {"authorization", "x-api-key"}),
    ],
)
def test_a_claude_key_travels_as_its_entry_says(style, carriers, vendors, start):
    serving = start(config(vendors.url, "anthropic", [KEY], entry=style))

    answer = MESSAGES.ask(serving.url, VENDORS["anthropic"])

    assert answer.status == 200
    seen = vendors.requests[0].headers
    assert {name for name in ("authorization", "x-api-key") if name in seen} == carriers


@each_vendor
def test_an_entrys_own_headers_win(vendor, vendors, start):
    own = 'headers: {X-Team: blue, User-Agent: mine/1, Host: elsewhere, Content-Length: "3", Anthropic-Version: "2023-09-09"}'
    serving = start(config(vendors.url, vendor, [KEY], entry=own))

    answers = [caller.ask(serving.url, VENDORS[vendor]) for caller in CALLERS]

    assert {answer.status for answer in answers} == {200}
    for seen in vendors.requests:
        assert seen.headers["x-team"] == "blue"
        assert seen.headers["user-agent"] == "mine/1"
        assert seen.headers["host"] == vendors.url.removeprefix("http://")
        assert seen.headers["anthropic-version"] == "2023-09-09"


def test_a_server_without_keys_is_asked_without_one(vendors, start):
    vendors.script(Rule(answer=Answer(body='{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}')))
    text = config(vendors.url, "openai-chat", [KEY]).replace(f"api-keys: [{KEY}], ", "")
    serving = start(text)

    answer = CHAT.ask(serving.url, "sim-chat")

    assert answer.status == 200
    assert not {"authorization", "x-api-key"} & vendors.requests[0].headers.keys()


# ---- proxies --------------------------------------------------------------------------------------------------------


class Proxy(socketserver.ThreadingTCPServer):
    """A tiny HTTP proxy: whatever host is asked for, the answer is the simulator's. It notes what it was asked."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), _ProxyHandler)
        self.target = target.removeprefix("http://")
        self.lines: list[str] = []
        self.credentials: list[str] = []
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://user:pass@127.0.0.1:{self.server_address[1]}"


class _ProxyHandler(socketserver.StreamRequestHandler):
    server: Proxy

    def handle(self) -> None:
        line = self.rfile.readline().decode()
        headers = dict(http.client.parse_headers(self.rfile).items())
        self.server.lines.append(line.strip())
        self.server.credentials.append(headers.pop("proxy-authorization", ""))
        method, target, _ = line.split()
        body = self.rfile.read(int(headers.get("content-length", "0")))
        connection = http.client.HTTPConnection(self.server.target, timeout=5)
        path = "/" + target.split("://", 1)[1].partition("/")[2]
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        self.wfile.write(b"HTTP/1.1 %d OK\r\nconnection: close\r\ncontent-length: %d\r\n" % (answer.status, len(data)))
        self.wfile.write(b"content-type: %b\r\n\r\n" % answer.headers["content-type"].encode() + data)


@pytest.fixture
def proxy(vendors):
    with Proxy(vendors.url) as proxy:
        yield proxy
        proxy.shutdown()


def _far(text: str, vendors) -> str:
    """The same configuration for a host that only a proxy can find."""
    return text.replace(vendors.url, "http://vendors.example:8080")


def test_the_files_proxy_leads_to_upstreams(proxy, vendors, start):
    text = config(vendors.url, "anthropic", [KEY], settings=f'proxy-url: "{proxy.url}"')
    serving = start(_far(text, vendors))

    answers = [caller.ask(serving.url, VENDORS["anthropic"], stream=True) for caller in (MESSAGES, CHAT)]

    assert [answer.status for answer in answers] == [200, 200]
    assert set(proxy.lines) == {"POST http://vendors.example:8080/v1/messages HTTP/1.1"}
    assert set(proxy.credentials) == {"Basic dXNlcjpwYXNz"}
    assert not any("proxy-authorization" in seen.headers for seen in vendors.requests)


def test_an_entrys_proxy_wins_and_reaches_loopback_too(proxy, vendors, start):
    closed = socket.create_server(("127.0.0.1", 0))
    text = config(
        vendors.url,
        "anthropic",
        [KEY],
        settings=f'proxy-url: "http://127.0.0.1:{closed.getsockname()[1]}"',
        entry=f'proxy-url: "{proxy.url}"',
    )
    serving = start(text)

    answer = MESSAGES.ask(serving.url, VENDORS["anthropic"])
    closed.close()

    assert answer.status == 200
    assert len(proxy.lines) == 1


def test_loopback_is_never_reached_through_the_files_proxy(proxy, vendors, start):
    for host in ("127.0.0.1", "localhost"):
        url = vendors.url.replace("127.0.0.1", host)
        serving = start(config(url, "anthropic", [KEY], settings=f'proxy-url: "{proxy.url}"'))

        assert MESSAGES.ask(serving.url, VENDORS["anthropic"]).status == 200

    assert not proxy.lines


def test_direct_leads_past_the_files_proxy(proxy, vendors, start):
    settings = f'proxy-url: "{proxy.url}"\nrequest-retry: 0\ntimeouts: {{connect: 2}}'
    text = config(vendors.url, "anthropic", [KEY], settings=settings, entry="proxy-url: direct")
    serving = start(_far(text, vendors))

    answer = MESSAGES.ask(serving.url, VENDORS["anthropic"])

    assert answer.status in (502, 504)
    assert not proxy.lines


def test_a_proxys_password_is_told_to_nobody(vendors, start, caplog):
    text = config(
        vendors.url, "anthropic", [KEY], settings='request-retry: 0\nproxy-url: "http://joe:hidden-word@127.0.0.1:9"'
    )
    serving = start(_far(text, vendors))

    answers = [caller.ask(serving.url, VENDORS["anthropic"], stream=True) for caller in CALLERS]

    assert {answer.status for answer in answers} == {502}
    assert "hidden-word" not in str(answers) + caplog.text
    assert "joe" not in str(answers) + caplog.text


# ---- names of models ------------------------------------------------------------------------------------------------


def _listed(serving) -> set[str]:
    connection = http.client.HTTPConnection("127.0.0.1", serving.port, timeout=5)
    connection.request("GET", "/v1/models", headers={"authorization": "Bearer test-key"})
    names = {row["id"] for row in json.loads(connection.getresponse().read())["data"]}
    connection.close()
    return names


def _until(condition) -> None:
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize("vendor", ["gemini", "anthropic", "openai-responses", "openai-chat"])
def test_an_upstreams_own_list_is_served(vendor, vendors, start):
    listings = {
        "gemini": '{"models":[{"name":"models/gemini-9-new","supportedGenerationMethods":["generateContent"]}]}',
        "anthropic": '{"data":[{"type":"model","id":"claude-new-9","display_name":"New"}],"has_more":false}',
        "openai-responses": '{"object":"list","data":[{"id":"gpt-9-new"},{"id":"whisper-1"}]}',
        "openai-chat": '{"object":"list","data":[{"id":"local-new"}]}',
    }
    name = {"gemini": "gemini-9-new", "anthropic": "claude-new-9", "openai-responses": "gpt-9-new"}.get(
        vendor, "local-new"
    )
    vendors.script(Rule(path="models", answer=Answer(body=listings[vendor]), times=1))
    text = config(vendors.url, vendor, [KEY])
    serving = start(text.replace(f", models: [{{name: {VENDORS[vendor]}}}]", ""))

    _until(lambda: _listed(serving) == {name})
    answer = CHAT.ask(serving.url, name)

    assert answer.status == 200
    assert vendors.requests[-1].model == name


def test_an_upstream_that_hangs_does_not_keep_others_from_being_listed(vendors, start):
    listing = '{"data":[{"type":"model","id":"claude-new-9"}]}'
    vendors.script(Rule(key="sk-sim-hangs", hang=True), Rule(path="models", answer=Answer(body=listing), times=1))
    text = config(vendors.url, "anthropic", ["sk-sim-hangs", KEY])
    serving = start(text.replace(f", models: [{{name: {VENDORS['anthropic']}}}]", ""))

    _until(lambda: "claude-new-9" in _listed(serving))


@pytest.mark.parametrize("vendor", ["gemini", "anthropic", "openai-responses"])
def test_without_a_list_our_own_table_serves(vendor, vendors, start):
    vendors.script(Rule(path="/models", times=1, answer=Answer(status=500, body="{}")))
    text = config(vendors.url, vendor, [KEY])
    serving = start(text.replace(f", models: [{{name: {VENDORS[vendor]}}}]", ""))
    _until(lambda: vendors.requests)
    time.sleep(0.1)

    assert len(_listed(serving)) > 3


@each_vendor
def test_unheard_of_names_pass_by_their_family(vendor, vendors, start):
    name = {"gemini": "gemini-77-x", "anthropic": "claude-77", "openai-responses": "gpt-77"}.get(vendor, "anything-77")
    text = config(vendors.url, vendor, [KEY])
    serving = start(text.replace(f", models: [{{name: {VENDORS[vendor]}}}]", ""))

    answer = BY_VENDOR[vendor].ask(serving.url, name)

    assert answer.status == 200
    assert [seen.model for seen in vendors.requests if seen.method == "POST"] == [name]


def test_an_entry_with_models_serves_no_others(vendors, start):
    serving = start(config(vendors.url, "anthropic", [KEY]))

    answer = MESSAGES.ask(serving.url, "claude-77")

    assert answer.status == 404
    assert not vendors.requests


THINKING = [
    ("gpt-5(high)", "openai-responses", lambda body: body["reasoning"]["effort"] == "high"),
    ("gpt-5-high", "openai-responses", lambda body: body["reasoning"]["effort"] == "high"),
    ("gpt-5-minimal", "openai-responses", lambda body: body["reasoning"]["effort"] == "minimal"),
    ("claude-sonnet-4-5-20250929(8192)", "anthropic", lambda body: body["thinking"]["budget_tokens"] == 8192),
    ("claude-sonnet-4-5-20250929(none)", "anthropic", lambda body: body.get("thinking", {}).get("type") != "enabled"),
    (
        "gemini-2.5-flash(8192)",
        "gemini",
        lambda body: body["generationConfig"]["thinkingConfig"]["thinkingBudget"] == 8192,
    ),
    ("sim-chat(low)", "openai-chat", lambda body: body["reasoning_effort"] == "low"),
]


@pytest.mark.parametrize(("name", "vendor", "holds"), THINKING, ids=[name for name, *_ in THINKING])
def test_a_suffix_asks_for_thinking(name, vendor, holds, vendors, start):
    vendors.script(Rule(answer=Answer(status=400, body='{"error":{"message":"looked at"}}')))
    serving = start(config(vendors.url, vendor, [KEY]))

    for caller in CALLERS:
        body = caller.body(name, stream=False).replace(b'"max_tokens": 100', b'"max_tokens": 9000')
        post(serving.url, caller.address(name, stream=False), body, caller.headers)

    assert len(vendors.requests) == 4
    for seen in vendors.requests:
        assert seen.model == VENDORS[vendor]
        assert holds(seen.json), seen.body


def test_an_effort_is_cut_off_known_names_even_when_they_are_not_listed(vendors, start):
    listing = '{"object":"list","data":[{"id":"gpt-5.4"}]}'
    vendors.script(Rule(path="models", answer=Answer(body=listing), times=1))
    text = config(vendors.url, "openai-responses", [KEY])
    serving = start(text.replace(", models: [{name: gpt-5}]", ""))
    _until(lambda: _listed(serving) == {"gpt-5.4"})

    RESPONSES.ask(serving.url, "gpt-5-high")

    assert vendors.requests[-1].model == "gpt-5"


# ---- counting -------------------------------------------------------------------------------------------------------


def _count(caller, serving, model: str):
    if caller is MESSAGES:
        body = MESSAGES.body(model, stream=False).replace(b'"max_tokens": 100, ', b"")
        return post(serving.url, "/v1/messages/count_tokens", body, MESSAGES.headers)
    return post(serving.url, f"/v1beta/models/{model}:countTokens", GEMINI.body(model, stream=False))


def _tokens(answer) -> int:
    return answer.json.get("input_tokens", answer.json.get("totalTokens"))


@pytest.mark.parametrize("caller", [MESSAGES, GEMINI], ids=lambda caller: caller.name)
@each_vendor
def test_tokens_are_counted_by_the_upstream_or_estimated(caller, vendor, vendors, start):
    serving = start(config(vendors.url, vendor, [KEY]))

    answer = _count(caller, serving, VENDORS[vendor])

    assert answer.status == 200
    assert _tokens(answer) > 0
    if caller.vendor == vendor:
        assert "x-cliproxy-estimated" not in answer.headers
        assert "count" in vendors.requests[0].path.lower()
    else:
        assert answer.headers["x-cliproxy-estimated"] == "true"
        assert not vendors.requests


@pytest.mark.parametrize("fault", [{"answer": Answer(status=404)}, {"answer": Answer(status=500)}, {"cut_after": 0}])
@pytest.mark.parametrize("caller", [MESSAGES, GEMINI], ids=lambda caller: caller.name)
def test_what_the_upstream_will_not_count_is_estimated(caller, fault, vendors, start):
    vendors.script(Rule(path="ount", **fault))
    serving = start(config(vendors.url, caller.vendor, [KEY]))

    counted = _count(caller, serving, VENDORS[caller.vendor])
    asked = caller.ask(serving.url, VENDORS[caller.vendor])

    assert counted.status == 200
    assert counted.headers["x-cliproxy-estimated"] == "true"
    assert _tokens(counted) > 0
    assert asked.status == 200


def test_an_account_that_rests_is_not_asked_to_count(vendors, start):
    vendors.script(Rule(key="sk-sim-dead", answer=Answer(status=401, body='{"error":{"message":"no"}}')))
    serving = start(config(vendors.url, "anthropic", ["sk-sim-dead", KEY]))
    MESSAGES.ask(serving.url, VENDORS["anthropic"])

    answer = _count(MESSAGES, serving, VENDORS["anthropic"])

    assert "x-cliproxy-estimated" not in answer.headers
