"""Spoiled requests: whatever arrives, a surface answers or refuses, and never stumbles."""

import json
import random
import urllib.error
import urllib.request

import pytest

from cliproxy.simulator import Simulator

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


def status_of(url: str, body) -> int:
    request = urllib.request.Request(url, data=json.dumps(body).encode(), headers=HEADERS)
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
