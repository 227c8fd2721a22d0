"""Spoiled requests: whatever arrives, a surface answers or refuses, and never stumbles."""

import json
import random
import urllib.error
import urllib.request

import pytest

from cliproxy.simulator import Simulator
from cliproxy.simulator.accounts import CLIENT_IDS

SCHEMA = {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "string"}}}}
HEADERS = {
    "authorization": "Bearer sk-sim-1",
    "x-goog-api-key": "sk-sim-1",
    "anthropic-version": "2023-06-01",
    "content-type": "application/json",
}
VALID = {
    "/v1/chat/completions": {
        "model": "gpt-5",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "call f {}"}]}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}},
    },
    "/v1/responses": {
        "model": "gpt-5",
        "input": [
            {"role": "user", "content": "x"},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "y"},
        ],
        "tools": [{"type": "function", "name": "f", "parameters": SCHEMA, "strict": False}],
        "tool_choice": {"type": "function", "name": "f"},
        "reasoning": {"effort": "low"},
    },
    "/v1/messages": {
        "model": "claude-haiku-4-5",
        "max_tokens": 64,
        "system": [{"type": "text", "text": "x"}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "call f {}"}]}],
        "tools": [{"name": "f", "input_schema": SCHEMA}],
        "tool_choice": {"type": "auto"},
    },
    "/v1beta/models/gemini-2.5-flash:generateContent": {
        "contents": [
            {"role": "user", "parts": [{"text": "x"}]},
            {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]},
            {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"output": "y"}}}]},
        ],
        "tools": [{"functionDeclarations": [{"name": "f", "parameters": SCHEMA}]}],
        "toolConfig": {"functionCallingConfig": {"mode": "AUTO"}},
    },
}
# For callers who have logged in: whose account, and a body.
ACCOUNTS = {
    "/backend-api/codex/responses": (
        "codex",
        {**VALID["/v1/responses"], "instructions": "", "stream": True, "store": False},
    ),
    "/v1internal:generateContent": (
        "gemini",
        {
            "model": "gemini-2.5-flash",
            "project": "mine",
            "user_prompt_id": "p",
            "request": {**VALID["/v1beta/models/gemini-2.5-flash:generateContent"], "session_id": "s"},
        },
    ),
    "/v1internal:countTokens": (
        "gemini",
        {"request": {"model": "models/gemini-2.5-flash", "contents": [{"role": "user", "parts": [{"text": "x"}]}]}},
    ),
    "/v1internal:loadCodeAssist": (
        "gemini",
        {"metadata": {"ideType": "IDE_UNSPECIFIED", "pluginType": "GEMINI"}, "cloudaicompanionProject": "mine"},
    ),
    "/v1internal:onboardUser": ("gemini", {"tierId": "free-tier", "metadata": {"platform": "LINUX_AMD64"}}),
    "/compatible-mode/v1/chat/completions": (
        "qwen",
        {"model": "coder-model", "messages": [{"role": "user", "content": "x"}], "stream": True},
    ),
}
STRANGE = [None, True, -1, 1.5, "", "x", [], {}, [[]], [{}], {"type": []}, {"type": "x"}, 10**30]


def places(value, at=()):
    yield at
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from places(child, (*at, key))


def spoiled(body, chance: random.Random):
    at = chance.choice(list(places(body)))
    if not at:
        return chance.choice(STRANGE)
    body = json.loads(json.dumps(body))
    parent = body
    for step in at[:-1]:
        parent = parent[step]
    if chance.random() < 0.2:
        del parent[at[-1]]
    else:
        parent[at[-1]] = chance.choice(STRANGE)
    return body


def status_of(url: str, body, headers=HEADERS) -> int:
    request = urllib.request.Request(url, data=json.dumps(body).encode(), headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return response.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@pytest.mark.parametrize("path", VALID)
def test_a_spoiled_body_is_answered_or_refused(sim: Simulator, path):
    chance = random.Random(path)

    assert status_of(sim.url + path, VALID[path]) == 200
    for _ in range(250):
        body = spoiled(VALID[path], chance)

        assert status_of(sim.url + path, body) in (200, 400, 404), body


@pytest.mark.parametrize("path", ACCOUNTS)
def test_so_is_one_of_a_caller_who_has_logged_in(sim: Simulator, token_of, path):
    kind, valid = ACCOUNTS[path]
    options = {"project": "mine"} if kind == "gemini" else {}
    headers = HEADERS | {"authorization": f"Bearer {token_of(kind, **options)}"}
    chance = random.Random(path)

    assert status_of(sim.url + path, valid, headers) == 200
    for _ in range(100):
        body = spoiled(valid, chance)

        assert status_of(sim.url + path, body, headers) in (200, 400, 403, 404), body


def test_so_is_a_token_request(sim: Simulator):
    fields = {"grant_type": "refresh_token", "client_id": CLIENT_IDS["claude"], "refresh_token": "x", "scope": "y"}
    chance = random.Random(7)

    for _ in range(50):
        body = spoiled(fields, chance)

        assert status_of(sim.url + "/v1/oauth/token", body) in (400, 401), body
