"""What is served in place of a model that is out of quota on all of its accounts."""

import json

import pytest
from plain import CALLERS, Gateways

from cliproxy.simulator import Simulator
from cliproxy.simulator.failures import failure, quota_exhausted
from cliproxy.simulator.rules import Rule

pytestmark = pytest.mark.flow

PRO, FLASH, OTHER = "gemini-2.5-pro", "gemini-2.5-flash", "sim-chat"
CONFIG = """\
port: 0
api-keys: [test-key]
request-retry: 0
gemini-api-key:
  - {{api-key: sk-sim-one, base-url: "{vendors}", models: [{{name: gemini-2.5-pro}}, {{name: gemini-2.5-flash}}]}}
  - {{api-key: sk-sim-two, base-url: "{vendors}", models: [{{name: gemini-2.5-pro}}]}}
openai-compatibility:
  - {{name: simulated, base-url: "{vendors}/v1", api-keys: [sk-sim-chat], models: [{{name: sim-chat}}]}}
models: {{fallbacks: {{gemini-2.5-pro: [gemini-2.5-flash, nobody, sim-chat]}}}}
"""
OFF = "quota-exceeded: {switch-preview-model: false}\n"
each_caller = pytest.mark.parametrize("caller", CALLERS, ids=lambda caller: caller.name)
whole_and_stream = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@pytest.fixture
def start():
    gateways = Gateways()
    yield gateways
    gateways.let_go()


def _models(vendors: Simulator) -> list[str | None]:
    return [seen.model for seen in vendors.requests]


@whole_and_stream
@each_caller
def test_the_next_model_serves_when_all_accounts_are_out_of_quota(caller, stream, vendors: Simulator, start):
    vendors.script(Rule(model=PRO, answer=quota_exhausted("gemini")))
    serving = start(CONFIG.format(vendors=vendors.url))

    answer = caller.ask(serving.url, PRO, stream=stream)

    assert answer.status == 200
    assert caller.text(answer, stream=stream).startswith("echo: ")
    assert answer.headers["x-cliproxy-model"] == FLASH
    assert _models(vendors) == [PRO, PRO, FLASH]


def test_a_model_of_another_vendor_may_be_the_next(vendors: Simulator, start):
    vendors.script(Rule(model=PRO, answer=quota_exhausted("gemini")), Rule(model=FLASH, answer=failure("gemini", 500)))
    serving = start(CONFIG.format(vendors=vendors.url))

    answer = CALLERS[0].ask(serving.url, PRO, stream=False)

    assert answer.status == 200
    assert answer.headers["x-cliproxy-model"] == OTHER


def test_what_is_told_is_about_the_model_that_was_asked_for(vendors: Simulator, start):
    vendors.script(
        Rule(model=PRO, answer=quota_exhausted("gemini")),
        Rule(model=FLASH, answer=failure("gemini", 500)),
        Rule(model=OTHER, answer=failure("openai-chat", 500)),
    )
    serving = start(CONFIG.format(vendors=vendors.url))

    answer = CALLERS[0].ask(serving.url, PRO, stream=False)

    assert answer.status == 429
    assert "x-cliproxy-model" not in answer.headers
    assert "retry-after" in answer.headers


def test_other_failures_have_no_next_model(vendors: Simulator, start):
    vendors.script(Rule(model=PRO, answer=failure("gemini", 500)))
    serving = start(CONFIG.format(vendors=vendors.url))

    assert CALLERS[0].ask(serving.url, PRO, stream=False).status >= 500
    assert FLASH not in _models(vendors)


def test_the_switch_turns_it_off(vendors: Simulator, start):
    vendors.script(Rule(model=PRO, answer=quota_exhausted("gemini")))
    serving = start(CONFIG.format(vendors=vendors.url) + OFF)

    assert CALLERS[0].ask(serving.url, PRO, stream=False).status == 429
    assert FLASH not in _models(vendors)


def test_without_a_failure_nothing_is_said(vendors: Simulator, start):
    serving = start(CONFIG.format(vendors=vendors.url))

    answer = CALLERS[0].ask(serving.url, PRO, stream=False)

    assert answer.status == 200
    assert "x-cliproxy-model" not in answer.headers
    assert json.loads(answer.body)
