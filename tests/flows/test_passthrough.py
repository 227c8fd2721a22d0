"""Same dialect on both sides: what the caller wrote reaches the upstream byte for byte, and the other way round.

Of headers only those travel that the other side is meant to see: never a credential, never a trace of the way here.
"""

import re

import pytest
from plain import CALLERS, CHAT, GEMINI, GEMINI_ARRAY, MESSAGES, RESPONSES, VENDORS, Gateways, config, post

from cliproxy.simulator import Simulator
from cliproxy.simulator.rules import Answer, Rule

pytestmark = pytest.mark.flow

KEY = "sk-sim-upstream"
BY_VENDOR = {caller.vendor: caller for caller in CALLERS}
each_vendor = pytest.mark.parametrize("vendor", VENDORS)
whole_and_stream = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@pytest.fixture(scope="module")
def simulator():
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def vendors(simulator):
    simulator.reset()
    return simulator


@pytest.fixture(scope="module")
def start():
    gateways = Gateways()
    yield gateways
    gateways.let_go()


@pytest.fixture(scope="module")
def plain_gateways(simulator, start):
    return {vendor: start(config(simulator.url, vendor, [KEY])) for vendor in VENDORS}


@pytest.fixture(scope="module")
def aliased_gateways(simulator, start):
    return {
        vendor: start(config(simulator.url, vendor, [KEY], model=f"{{name: {model}, alias: mine}}"))
        for vendor, model in VENDORS.items()
    }


# Odd but legal: unknown fields, numbers that floats would spoil, white space, escapes, duplicate keys, model in other places.
ODD = (
    '{ "z":1.10,"big":123456789012345678901234567890, "e":1E+2 ,"dup":1,"dup":2,\n\t"nested":{"model":"not this",'
    '"a":[1.0,-0,{"model":"nor this"}]},"text":"\\u00e9 \\/ \\"model\\":\\"x\\" é \U0001f600","model" : "%s",'
    '"stream":%s , "empty":{},"null":null}  \n'
)


@whole_and_stream
@each_vendor
def test_request_bodies_pass_untouched(vendor, stream, vendors, plain_gateways):
    vendors.script(Rule(answer=Answer(status=400, body='{"error":{"message":"odd"}}')))
    body = (ODD % (VENDORS[vendor], str(stream).lower())).encode()
    caller = BY_VENDOR[vendor]

    post(plain_gateways[vendor].url, caller.address(VENDORS[vendor], stream=stream), body, caller.headers)

    assert [seen.body for seen in vendors.requests] == [body]


@whole_and_stream
@each_vendor
def test_an_alias_changes_the_models_name_and_nothing_else(vendor, stream, vendors, aliased_gateways):
    vendors.script(Rule(answer=Answer(status=400, body='{"error":{"message":"odd"}}')))
    body = (ODD % ("mine", str(stream).lower())).encode()
    caller = BY_VENDOR[vendor]

    post(aliased_gateways[vendor].url, caller.address("mine", stream=stream), body, caller.headers)

    seen = vendors.requests[0]
    assert seen.model == VENDORS[vendor]
    if vendor == "gemini":
        assert seen.body == body
    else:
        assert seen.body == (ODD % (VENDORS[vendor], str(stream).lower())).encode()


ODD_ANSWERS = {
    "openai-chat": (
        '{ "zz": 1.50, "unknown":{"model":"keep me"} ,"id":"c","object":"chat.completion","created":1,"model" : "MODEL",'
        '"choices":[{"index":0,"message":{"role":"assistant","content":"\\u00e9"},"finish_reason":"stop","x":1e5}],'
        '"usage":null}\n'
    ),
    "openai-responses": (
        '{ "zz": 1.50, "unknown":{"model":"keep me"} ,"id":"r","object":"response","status":"completed","model" :"MODEL",'
        '"output":[{"type":"message","role":"assistant","content":[{"type":"output_text","text":"\\u00e9",'
        '"annotations":[]}]}],"error":null,"usage":null}\n'
    ),
    "anthropic": (
        '{ "zz": 1.50, "unknown":{"model":"keep me"} ,"id":"m","type":"message","role":"assistant","model": "MODEL",'
        '"content":[{"type":"text","text":"\\u00e9"},{"type":"new_block","x":1.0}],"stop_reason":"end_turn",'
        '"usage":{"input_tokens":1,"output_tokens":1}}\n'
    ),
    "gemini": (
        '{ "zz": 1.50, "unknown":{"model":"keep me"} ,"candidates":[{"content":{"role":"model","parts":[{"text":'
        '"\\u00e9"}]},"finishReason":"STOP"}],"modelVersion" : "MODEL"}\n'
    ),
}


def _odd_answer(vendor: str, model: str) -> str:
    return ODD_ANSWERS[vendor].replace("MODEL", model)


@each_vendor
def test_whole_answers_pass_untouched(vendor, vendors, plain_gateways):
    body = _odd_answer(vendor, VENDORS[vendor])
    vendors.script(Rule(answer=Answer(body=body)))

    answer = BY_VENDOR[vendor].ask(plain_gateways[vendor].url, VENDORS[vendor])

    assert answer.body == body.encode()


@each_vendor
def test_whole_answers_to_an_alias_differ_in_the_name_only(vendor, vendors, aliased_gateways):
    vendors.script(Rule(answer=Answer(body=_odd_answer(vendor, VENDORS[vendor]))))

    answer = BY_VENDOR[vendor].ask(aliased_gateways[vendor].url, "mine")

    assert answer.body == _odd_answer(vendor, "mine").encode()


def _own_stream(vendor: str, vendors) -> bytes:
    """The vendor's stream as it writes it, with an unknown event in its midst."""
    caller = BY_VENDOR[vendor]
    headers = {"authorization": f"Bearer {KEY}", "x-api-key": KEY, "x-goog-api-key": KEY, **caller.headers}
    if vendor == "gemini":
        del headers["authorization"], headers["x-api-key"]
    body = caller.body(VENDORS[vendor], stream=True)
    stream = post(vendors.url, caller.address(VENDORS[vendor], stream=True), body, headers).body
    frames = stream.split(b"\n\n")
    odd = b': a comment\nid: 7\nevent: brand.new\ndata: {"type":"brand.new", "x" :1.0,"model_":"m"}'
    if vendor in ("openai-chat", "gemini"):
        odd = b': a comment\nid: 7\ndata: {"x" :1.0, "brand_new":true}'
    vendors.reset()
    return b"\n\n".join([*frames[:2], odd, *frames[2:]])


@pytest.mark.parametrize("trickle", [None, 0, 5], ids=["at once", "byte by byte", "in pieces"])
@each_vendor
def test_streams_pass_untouched(vendor, trickle, vendors, plain_gateways):
    stream = _own_stream(vendor, vendors)
    vendors.script(Rule(answer=Answer(content_type="text/event-stream", body=stream.decode()), trickle=trickle))

    answer = BY_VENDOR[vendor].ask(plain_gateways[vendor].url, VENDORS[vendor], stream=True)

    assert answer.body == stream


@pytest.mark.parametrize("oddity", ["crlf", "no-space", "comments", "bom"])
@each_vendor
def test_odd_streams_pass_untouched_too(vendor, oddity, vendors, plain_gateways):
    vendors.script(Rule(sse=(oddity,)))
    caller = BY_VENDOR[vendor]
    headers = {"x-api-key": KEY} if vendor == "anthropic" else {"authorization": f"Bearer {KEY}"}
    headers = {"x-goog-api-key": KEY, "authorization": ""} if vendor == "gemini" else headers

    direct = post(
        vendors.url,
        caller.address(VENDORS[vendor], stream=True),
        caller.body(VENDORS[vendor], stream=True),
        headers | caller.headers,
    )
    answer = caller.ask(plain_gateways[vendor].url, VENDORS[vendor], stream=True)

    assert direct.status == 200
    assert answer.body == direct.body


@each_vendor
def test_streams_to_an_alias_differ_in_the_name_only(vendor, vendors, aliased_gateways):
    stream = _own_stream(vendor, vendors)
    vendors.script(Rule(answer=Answer(content_type="text/event-stream", body=stream.decode()), trickle=3))

    answer = BY_VENDOR[vendor].ask(aliased_gateways[vendor].url, "mine", stream=True)

    named = re.sub(
        rb'"(model|modelVersion)":"%b"' % VENDORS[vendor].encode(), lambda match: b'"%b":"mine"' % match[1], stream
    )
    assert answer.body == named


def test_elements_of_an_array_keep_their_bytes(vendors, plain_gateways):
    body = _odd_answer("gemini", VENDORS["gemini"]).strip()
    stream = f"data: {body}\n\ndata: {body}\n\n"
    vendors.script(Rule(answer=Answer(content_type="text/event-stream", body=stream)))

    answer = GEMINI_ARRAY.ask(plain_gateways["gemini"].url, VENDORS["gemini"], stream=True)

    assert answer.body == f"[{body},\n{body}]".encode()


# ---- headers --------------------------------------------------------------------------------------------------------

PRIVATE = {
    "authorization": "Bearer test-key",
    "x-api-key": "test-key",
    "x-goog-api-key": "test-key",
    "cookie": "session=private",
    "proxy-authorization": "Basic private",
    "forwarded": "for=private.example",
    "x-forwarded-for": "203.0.113.7",
    "x-forwarded-host": "private.example",
    "x-forwarded-proto": "https",
    "x-real-ip": "203.0.113.7",
    "via": "1.1 private",
    "origin": "https://private.example",
    "referer": "https://private.example/",
    "x-request-id": "private",
    "traceparent": "00-private",
    "te": "trailers",
}


@pytest.mark.parametrize("agent", ["curl/8", "claude-cli/2.0 (external, cli)", "codex_cli_rs/0.5", "GeminiCLI/0.9"])
@each_vendor
def test_nothing_private_reaches_an_upstream(vendor, agent, vendors, plain_gateways):
    for caller in (*CALLERS, GEMINI_ARRAY):
        stream = caller is GEMINI_ARRAY
        caller.ask(plain_gateways[vendor].url, VENDORS[vendor], stream=stream, headers=PRIVATE | {"user-agent": agent})

    for seen in vendors.requests:
        told = " ".join(f"{name}: {value}" for name, value in seen.headers.items())
        assert "test-key" not in told
        assert "private" not in told
        assert "203.0.113.7" not in told
        assert seen.headers["host"] == vendors.url.removeprefix("http://")
        assert seen.key == KEY
        assert seen.query in ({}, {"alt": "sse"})
    assert len(vendors.requests) == 5


def test_a_key_in_the_address_does_not_travel(vendors, plain_gateways):
    address = GEMINI.address(VENDORS["gemini"], stream=True) + "&key=test-key"

    post(plain_gateways["gemini"].url, address, GEMINI.body("", stream=True), {"authorization": ""})

    assert vendors.requests[0].query == {"alt": "sse"}


@each_vendor
def test_we_say_who_we_are(vendor, vendors, plain_gateways):
    for caller in CALLERS:
        caller.ask(plain_gateways[vendor].url, VENDORS[vendor], headers={"user-agent": "python-sdk/1"})

    for seen in vendors.requests:
        assert seen.headers["user-agent"].startswith("cli-proxy-api/")
        assert not any(name.startswith("x-stainless") for name in seen.headers)


CLAUDE_CODE = {
    "user-agent": "claude-cli/2.0.1 (external, cli)",
    "x-app": "cli",
    "anthropic-beta": "claude-code-20250219,interleaved-thinking-2025-05-14",
    "anthropic-version": "2023-06-01",
    "anthropic-dangerous-direct-browser-access": "true",
    "x-stainless-lang": "js",
    "x-claude-code-session-id": "s1",
}
CODEX = {
    "user-agent": "codex_cli_rs/0.60 (Linux)",
    "originator": "codex_cli_rs",
    "version": "0.60",
    "session_id": "s1",
    "x-codex-turn-metadata": "m",
    "openai-beta": "responses=experimental",
}
GEMINI_CLI = {"user-agent": "GeminiCLI/0.9 (linux)", "x-goog-api-client": "gl-node/20"}
GENUINE = {"anthropic": (MESSAGES, CLAUDE_CODE), "openai-responses": (RESPONSES, CODEX), "gemini": (GEMINI, GEMINI_CLI)}


@pytest.mark.parametrize("vendor", GENUINE)
def test_a_vendors_own_client_keeps_its_headers_on_the_way_home(vendor, vendors, plain_gateways):
    caller, headers = GENUINE[vendor]

    caller.ask(plain_gateways[vendor].url, VENDORS[vendor], headers=headers)

    seen = vendors.requests[0].headers
    assert {name: seen.get(name) for name in headers} == headers


@pytest.mark.parametrize("vendor", GENUINE)
def test_a_vendors_own_client_stays_unknown_to_other_vendors(vendor, vendors, plain_gateways):
    caller, headers = GENUINE[vendor]
    other = "openai-chat"

    caller.ask(plain_gateways[other].url, VENDORS[other], headers=headers)

    seen = vendors.requests[0].headers
    assert not headers.keys() - {"user-agent"} & seen.keys()
    assert seen["user-agent"].startswith("cli-proxy-api/")


def test_feature_headers_of_any_native_caller_pass(vendors, plain_gateways):
    headers = {"anthropic-beta": "context-1m-2025-08-07", "anthropic-version": "2023-01-01", "user-agent": "curl/8"}

    MESSAGES.ask(plain_gateways["anthropic"].url, VENDORS["anthropic"], headers=headers)

    seen = vendors.requests[0].headers
    assert (seen["anthropic-beta"], seen["anthropic-version"]) == ("context-1m-2025-08-07", "2023-01-01")
    assert seen["user-agent"].startswith("cli-proxy-api/")


@whole_and_stream
@pytest.mark.parametrize("status", [200, 429])
def test_rate_limit_headers_come_back_to_callers_of_the_same_dialect_only(status, stream, vendors, simulator, start):
    serving = start(config(simulator.url, "anthropic", [KEY], settings="quota-exceeded: {switch-project: false}"))
    limits = {"anthropic-ratelimit-requests-remaining": "7", "request-id": "req_up", "x-should-retry": "true"}
    limits |= {"set-cookie": "a=b", "server": "vendor", "x-internal": "1", "retry-after": "3"}
    rule = Rule(headers=limits)
    if status != 200:
        body = '{"type":"error","error":{"type":"rate_limit_error","message":"slow down"}}'
        rule = Rule(answer=Answer(status=429, body=body, headers=limits))
    vendors.script(rule)

    native = MESSAGES.ask(serving.url, VENDORS["anthropic"], stream=stream)
    vendors.reset()
    serving = start(config(simulator.url, "anthropic", [KEY], settings="quota-exceeded: {switch-project: false}"))
    vendors.script(rule)
    foreign = CHAT.ask(serving.url, VENDORS["anthropic"], stream=stream)

    assert (native.status, foreign.status) == (status, status)
    assert native.headers["anthropic-ratelimit-requests-remaining"] == "7"
    assert native.headers["x-should-retry"] == "true"
    assert native.headers["retry-after"] == "3"
    for answer in (native, foreign):
        assert not {"set-cookie", "server", "x-internal"} & answer.headers.keys()
    assert not any("ratelimit" in name for name in foreign.headers)
    assert "x-should-retry" not in foreign.headers
