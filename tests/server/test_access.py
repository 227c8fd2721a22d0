"""Keys over real connections: every address asks for one, in its dialect, and follows the file while it runs."""

import os
import time
from pathlib import Path

import pytest
from callers import Caller
from doors import CHAT, CONFIG, DOORS, GEMINI, MESSAGES, STREAMS, Door, is_error

pytestmark = pytest.mark.flow

ADDRESSES = (
    *DOORS,
    *STREAMS,
    Door("openai-chat", "/v1/completions", {"model": "sim-chat", "prompt": "hello"}),
    Door("anthropic", "/v1/messages/count_tokens", MESSAGES.body),
    Door("gemini", "/v1beta/models/gemini-2.5-flash:countTokens", GEMINI.body),
    Door("gemini", "/v1/models/gemini-2.5-flash:generateContent", GEMINI.body),
    Door("gemini", "/v1beta/models/gemini-2.5-flash:streamGenerateContent", GEMINI.body),
)
CARRIERS = {
    "bearer": "authorization: Bearer {}",
    "lower case": "authorization: bearer {}",
    "capitals": "Authorization: BEARER {}",
    "raw": "authorization: {}",
    "x-api-key": "x-api-key: {}",
    "x-goog-api-key": "x-goog-api-key: {}",
    "key": "?key={}",
    "auth_token": "?auth_token={}",
}


def carrying(target: str, carrier: str, key: str) -> tuple[str, tuple[str, ...]]:
    """The address and the header lines that bring `key`."""
    filled = CARRIERS[carrier].format(key)
    if not filled.startswith("?"):
        return target, (filled,)
    return f"{target}{'&' if '?' in target else '?'}{filled[1:]}", ()


@pytest.fixture(params=ADDRESSES, ids=lambda door: door.target)
def address(request) -> Door:
    return request.param


def is_refusal(caller: Caller, address: Door, target: str, *lines: str) -> bool:
    answer = caller.ask("POST", target, *lines, body=address.body, key=False)
    assert answer.header("www-authenticate") == "Bearer"
    body = answer.json
    if ":streamGenerateContent" in target and "alt=sse" not in target and isinstance(body, list):
        body = body[0]
    return answer.status == 401 and is_error(address.dialect, body, 401)


def test_without_a_key_nobody_is_served(caller, address):
    assert is_refusal(caller, address, address.target)


def test_a_key_may_come_in_any_carrier(caller, address):
    for carrier in CARRIERS:
        target, lines = carrying(address.target, carrier, "test-key")

        assert caller.ask("POST", target, *lines, body=address.body, key=False).status == 200, carrier


def test_a_wrong_key_is_refused_in_any_carrier(caller, address):
    for carrier in CARRIERS:
        target, lines = carrying(address.target, carrier, "test-key2")

        assert is_refusal(caller, address, target, *lines), carrier


@pytest.mark.parametrize("target", ["/v1/models", "/v1/models/sim-chat", "/v1beta/models", "/v1beta/models/sim-chat"])
def test_lists_of_models_need_a_key(caller, target):
    answer = caller.ask("GET", target, key=False)

    assert answer.status == 401
    assert is_error("gemini" if "beta" in target else "openai-chat", answer.json, 401)
    assert caller.ask("GET", target).status == 200


@pytest.mark.parametrize(
    ("line", "dialect"),
    [
        ("anthropic-version: 2023-06-01", "anthropic"),
        ("x-goog-api-key: wrong", "gemini"),
        ("authorization: wrong", "openai-chat"),
    ],
)
def test_lists_of_models_are_refused_in_the_dialect_of_the_caller(caller, line, dialect):
    for target in ("/v1/models", "/v1/models/sim-chat"):
        answer = caller.ask("GET", target, line, key=False)

        assert answer.status == 401
        assert is_error(dialect, answer.json, 401)


def test_the_key_of_the_gateway_never_goes_on_to_the_vendors(serving, vendors, dial):
    caller = dial(serving)
    for address in (*DOORS, *STREAMS):
        for carrier in CARRIERS:
            target, lines = carrying(address.target, carrier, "test-key")
            assert caller.ask("POST", target, *lines, body=address.body, key=False).status == 200

    for seen in vendors.requests:
        assert "test-key" not in f"{seen.path} {seen.query} {seen.headers}"


# -- without keys


def test_local_programs_need_no_key_where_the_file_says_so(start, edge, shared_vendors, dial):
    config = CONFIG.format(vendors=shared_vendors.url) + "allow-localhost-unauthenticated: true\n"
    caller = dial(start(config, edge=edge))
    for door in (*DOORS, *STREAMS):

        def status(*lines: str, door: Door = door) -> int:
            return caller.ask("POST", door.target, *lines, body=door.body, key=False).status

        assert status() == 200
        assert status("x-api-key: dummy") == 200
        assert status("origin: http://localhost:5173") == 200
        assert status("x-forwarded-for: 127.0.0.1") == 401
        assert status("origin: https://evil.example") == 403
        assert status("host: evil.example") == 403
        assert status("origin: https://evil.example", "x-api-key: test-key") == 200


# -- keys that change


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    fresh = path.with_suffix(".new")
    fresh.write_text(text.replace(old, new))
    os.replace(fresh, path)


def test_keys_that_change_in_the_file_count_within_a_second(start, edge, shared_vendors, dial, tmp_path):
    serving = start(CONFIG.format(vendors=shared_vendors.url), edge=edge, folder=tmp_path)
    caller = dial(serving)

    def status(key: str) -> int:
        return caller.ask("POST", CHAT.target, f"x-api-key: {key}", body=CHAT.body, key=False).status

    assert (status("test-key"), status("fresh-key")) == (200, 401)

    replace(serving.path, "[test-key]", "[fresh-key]")
    until = time.monotonic() + 1.5
    while status("fresh-key") != 200:
        assert time.monotonic() < until
        time.sleep(0.02)

    assert status("test-key") == 401
