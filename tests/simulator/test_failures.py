"""Ready-made refusals and limits arrive as they were scripted."""

import pytest

from cliproxy.simulator import Simulator, failures
from cliproxy.simulator.rules import Rule

CHAT = {"model": "gpt-5", "messages": [{"role": "user", "content": "a"}]}
MESSAGE = {"model": "claude-x", "max_tokens": 9, "messages": [{"role": "user", "content": "a"}]}
ANTHROPIC = {"x-api-key": "sk-sim-anthropic", "anthropic-version": "2023-06-01"}


@pytest.mark.parametrize(("window", "claim"), [("5h", "five_hour"), ("7d", "seven_day"), ("7d_opus", "seven_day_opus")])
def test_a_window_of_a_plan_is_used_up(sim: Simulator, call, window: str, claim: str):
    sim.script(Rule(answer=failures.window_rejected(window, 60, 1_900_000_000)))

    answered = call("POST", "/v1/messages", MESSAGE, headers=ANTHROPIC)

    prefix = "anthropic-ratelimit-unified"
    assert answered.status == 429
    assert answered.json["error"]["type"] == "rate_limit_error"
    assert answered.headers[f"{prefix}-{window}-status"] == "rejected"
    assert answered.headers[f"{prefix}-{window}-reset"] == "1900000060"
    assert answered.headers[f"{prefix}-representative-claim"] == claim


def test_an_answer_that_goes_well_tells_of_limits_that_are_scripted(sim: Simulator, call):
    sim.script(Rule(headers=failures.limits_told("openai-chat", 0.05, 60)))

    answered = call("POST", "/v1/chat/completions", CHAT, token="sk-sim")

    assert answered.status == 200
    assert answered.headers["x-ratelimit-remaining-requests"] == "50"
    assert answered.headers["x-ratelimit-reset-requests"] == "60s"


def test_a_claude_plan_that_is_nearly_used_up_warns(sim: Simulator, call):
    sim.script(Rule(headers=failures.limits_told("anthropic", 0.05, 60, 1_900_000_000)))

    answered = call("POST", "/v1/messages", MESSAGE, headers=ANTHROPIC)

    assert answered.status == 200
    assert answered.headers["anthropic-ratelimit-unified-5h-status"] == "allowed_warning"
    assert answered.headers["anthropic-ratelimit-unified-5h-utilization"] == "0.95"
    assert answered.headers["anthropic-ratelimit-requests-remaining"] == "50"


def test_a_codex_plan_tells_what_is_used():
    headers = failures.limits_told("codex", 0.25, 60, 1_900_000_000)

    assert headers["x-codex-primary-used-percent"] == "75"
    assert headers["x-codex-primary-reset-at"] == "1900000060"


@pytest.mark.parametrize(
    ("vendor", "status"),
    [("gemini", 429), ("code-assist", 429), ("codex", 400), ("anthropic", 404), ("openai-chat", 404), ("qwen", 404)],
)
def test_a_plan_without_a_model_says_so_in_the_vendors_way(sim: Simulator, call, vendor, status: int):
    sim.script(Rule(answer=failures.model_not_in_plan(vendor, "gpt-x")))

    assert call("POST", "/v1/chat/completions", CHAT, token="sk-sim").status == status


@pytest.mark.parametrize(("vendor", "status"), [("anthropic", 400), ("openai-chat", 429), ("openai-responses", 429)])
def test_an_empty_purse_comes_with_the_vendors_status(sim: Simulator, call, vendor, status: int):
    sim.script(Rule(answer=failures.purse_empty(vendor)))

    assert call("POST", "/v1/chat/completions", CHAT, token="sk-sim").status == status


def test_a_closed_organization_looks_like_a_bad_request(sim: Simulator, call):
    sim.script(Rule(answer=failures.organization_disabled()))

    answered = call("POST", "/v1/messages", MESSAGE, headers=ANTHROPIC)

    assert (answered.status, answered.json["error"]["message"]) == (400, "This organization has been disabled.")


@pytest.mark.parametrize(
    ("vendor", "path"),
    [
        ("anthropic", ("error", "type")),
        ("codex", ("response", "error", "type")),
        ("openai-responses", ("response", "error", "type")),
        ("openai-chat", ("error", "type")),
        ("gemini", ("error", "status")),
        ("code-assist", ("error", "status")),
    ],
)
def test_a_refusal_comes_inside_of_a_stream_too(sim: Simulator, call, vendor, path: tuple[str, ...]):
    whole = failures.quota_exhausted(vendor)
    sim.script(Rule(answer=failures.inside_stream(vendor, whole)))

    answered = call("POST", "/v1/chat/completions", CHAT, token="sk-sim")

    assert answered.status == 200
    assert answered.headers["content-type"].startswith("text/event-stream")
    assert "retry-after" not in answered.headers
    (event,) = answered.events
    for name in path:
        event = event[name]
    assert f'"{event}"' in whole.body.replace(": ", ":")
