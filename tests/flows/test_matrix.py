"""All sixteen cells: each vendor's SDK as the client, each kind of upstream behind, whole and streamed.

The simulated vendors refuse what the real ones would, so a test that passes has also sent an acceptable request.
"""

import pytest
from drivers import DRIVERS, TOOL, Driver

from cliproxy.simulator.failures import failure
from cliproxy.simulator.rules import Rule
from serving import STANDARD

pytestmark = pytest.mark.flow

UPSTREAMS = {
    "openai-chat": "sim-chat",
    "openai-responses": "gpt-5",
    "anthropic": "claude-sonnet-4-5-20250929",
    "gemini": "gemini-2.5-flash",
}
FINISHED = {"openai-chat": "stop", "openai-responses": "completed", "anthropic": "end_turn", "gemini": "STOP"}
CALLED = {"openai-chat": "tool_calls", "openai-responses": "completed", "anthropic": "tool_use", "gemini": "STOP"}


@pytest.fixture(params=DRIVERS, ids=lambda driver: driver.name)
def driver(request, shared) -> Driver:
    return request.param(shared.url)


@pytest.fixture(params=UPSTREAMS, ids=lambda name: f"to-{name}")
def upstream(request) -> str:
    return request.param


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def stream(request) -> bool:
    return request.param


def test_text_is_answered(driver, upstream, stream):
    driver.say("hello there, grüße 🙂 \u2028 end")

    reply = driver.ask(UPSTREAMS[upstream], stream=stream)

    assert reply.text == "echo: hello there, grüße 🙂 \u2028 end"
    assert reply.finish == FINISHED[driver.name]
    assert reply.model == UPSTREAMS[upstream]
    assert reply.input_tokens > 0
    assert reply.output_tokens > 0


def test_a_conversation_goes_on(driver, upstream, stream):
    driver.say("first")
    driver.ask(UPSTREAMS[upstream], stream=stream)
    driver.say("second")

    reply = driver.ask(UPSTREAMS[upstream], stream=stream)

    assert reply.text == "echo: second"


def test_a_tool_round_trip_completes(driver, upstream, stream):
    driver.say(f'call {TOOL} {{"city": "Zürich"}}')
    asked = driver.ask(UPSTREAMS[upstream], stream=stream, tools=True)
    driver.answer_calls(["sunny, 25°"])

    told = driver.ask(UPSTREAMS[upstream], stream=stream, tools=True)

    assert asked.calls == [(TOOL, {"city": "Zürich"})]
    assert asked.finish == CALLED[driver.name]
    assert told.text == f"tool {TOOL} said: sunny, 25°"


def test_parallel_calls_keep_their_order(driver, upstream, stream):
    driver.say(f'call {TOOL} {{"city": "Bern"}}\ncall {TOOL} {{"city": "Rom"}}')
    asked = driver.ask(UPSTREAMS[upstream], stream=stream, tools=True)
    driver.answer_calls(["cold", "warm"])

    told = driver.ask(UPSTREAMS[upstream], stream=stream, tools=True)

    assert asked.calls == [(TOOL, {"city": "Bern"}), (TOOL, {"city": "Rom"})]
    assert told.text == f"tool {TOOL} said: cold; tool {TOOL} said: warm"


def test_an_image_arrives(driver, upstream, stream):
    driver.say("look", image=True)

    reply = driver.ask(UPSTREAMS[upstream], stream=stream)

    assert reply.text == "echo: look [image/png 70 bytes]"


def test_reasoning_is_shown_and_kept_apart(driver, upstream, stream):
    driver.say("why")

    reply = driver.ask(UPSTREAMS[upstream], stream=stream, think=True)

    assert reply.text == "echo: why"
    assert reply.reasoning == "thinking about: why"


def test_reasoning_survives_a_tool_round_trip(driver, upstream, stream):
    driver.say(f'call {TOOL} {{"city": "Bern"}}')
    asked = driver.ask(UPSTREAMS[upstream], stream=stream, tools=True, think=True)
    driver.answer_calls(["cold"])

    told = driver.ask(UPSTREAMS[upstream], stream=stream, tools=True, think=True)

    assert asked.calls == [(TOOL, {"city": "Bern"})]
    assert told.text == f"tool {TOOL} said: cold"


@pytest.mark.parametrize("later", UPSTREAMS, ids=lambda name: f"then-{name}")
def test_a_conversation_with_reasoning_moves_to_another_vendor(driver, upstream, later, stream):
    driver.say(f'call {TOOL} {{"city": "Bern"}}')
    driver.ask(UPSTREAMS[upstream], stream=stream, tools=True, think=True)
    driver.answer_calls(["cold"])
    driver.ask(UPSTREAMS[upstream], stream=stream, tools=True, think=True)
    driver.say("and now")

    reply = driver.ask(UPSTREAMS[later], stream=stream, tools=True, think=True)

    assert reply.text == "echo: and now"


def test_structured_output_follows_the_schema(driver, upstream, stream):
    driver.say("fill in")
    schema = {
        "type": "object",
        "properties": {"title": {"type": "string"}},
        "required": ["title"],
        "additionalProperties": False,
    }

    reply = driver.ask(UPSTREAMS[upstream], stream=stream, schema=schema)

    assert "".join(reply.text.split()) == '{"title":"echo:fillin"}'


@pytest.mark.parametrize("driver_type", DRIVERS, ids=lambda driver: driver.name)
def test_an_upstream_error_is_told_in_the_callers_dialect(driver_type, upstream, stream, vendors, start):
    vendors.script(Rule(answer=failure(upstream, 400, "The moon is in the wrong phase.")))
    serving = start(STANDARD.format(vendors=vendors.url))
    driver = driver_type(serving.url)
    driver.say("hello")

    with pytest.raises(driver.error, match="The moon is in the wrong phase"):
        driver.ask(UPSTREAMS[upstream], stream=stream)

    assert len(vendors.requests) == 1
