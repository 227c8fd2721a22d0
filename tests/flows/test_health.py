"""How long accounts rest, who tries whether a rest is over, and which conversation goes where, over real sockets."""

import collections
import itertools
import json
import time
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from plain import CALLERS, CHAT, MESSAGES, VENDORS, Gateways, config, post

from cliproxy.simulator import Simulator
from cliproxy.simulator.failures import inside_stream, limits_told, quota_exhausted, rate_limited, window_rejected
from cliproxy.simulator.rules import Rule

pytestmark = pytest.mark.flow

A, B, C = "sk-sim-secret-a", "sk-sim-secret-b", "sk-sim-secret-c"
BY_NAME = {caller.vendor: caller for caller in CALLERS}
MODEL = VENDORS["anthropic"]
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


def asked(vendors) -> list[str]:
    return [seen.key for seen in vendors.requests]


def together(count: int, ask):
    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(ask, range(count)))


# ---- ends of rests --------------------------------------------------------------------------------------------------


def test_callers_who_find_all_resting_wait_for_one_who_tries_and_are_all_served(vendors, start):
    vendors.script(Rule(key=A, times=1, answer=rate_limited("anthropic", 1)), Rule(key=A, times=1, delay=1.0))
    serving = start(config(vendors.url, "anthropic", [A], settings="max-retry-interval: 10"))

    with ThreadPoolExecutor(12) as threads:
        asking = [threads.submit(MESSAGES.ask, serving.url, MODEL)]
        while not vendors.requests:
            time.sleep(0.01)
        time.sleep(0.3)
        asking += [threads.submit(MESSAGES.ask, serving.url, MODEL) for _ in range(11)]
        while len(vendors.requests) < 2:
            time.sleep(0.01)
        time.sleep(0.5)
        assert len(vendors.requests) == 2, "nobody else is sent while one request tries"
        answers = [answer.result() for answer in asking]

    assert {answer.status for answer in answers} == {200}
    assert len(vendors.requests) == 13


def test_when_the_one_who_tries_is_limited_again_the_others_hear_of_it(vendors, start):
    vendors.script(
        Rule(key=A, times=1, answer=rate_limited("anthropic", 1)), Rule(key=A, answer=rate_limited("anthropic", 300))
    )
    serving = start(config(vendors.url, "anthropic", [A], settings="max-retry-interval: 10"))
    MESSAGES.ask(serving.url, MODEL)
    began = time.monotonic()

    answers = together(8, lambda _: MESSAGES.ask(serving.url, MODEL))

    assert {answer.status for answer in answers} == {429}
    assert {int(answer.headers["retry-after"]) // 10 for answer in answers} <= {29, 30}
    assert time.monotonic() - began < 5
    assert asked(vendors) == [A, A]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_limit_inside_a_stream_counts_like_one_with_a_status(stream, vendors, start):
    limit = inside_stream("openai-responses", quota_exhausted("openai-responses", 500))
    vendors.script(Rule(key=A, answer=limit))
    serving = start(config(vendors.url, "openai-responses", [A, B]))
    caller = BY_NAME["openai-responses"]

    first = caller.ask(serving.url, VENDORS["openai-responses"], stream=stream)
    later = [caller.ask(serving.url, VENDORS["openai-responses"], stream=stream) for _ in range(3)]

    assert {answer.status for answer in (first, *later)} == {200}
    assert asked(vendors) == [A, B, B, B, B]


# ---- from one process to the next -----------------------------------------------------------------------------------


def test_a_rest_outlives_the_process(vendors, start, tmp_path):
    vendors.script(Rule(key=A, answer=window_rejected("5h", 400)))
    settings = f'auth-dir: "{tmp_path}/auths"'
    text = config(vendors.url, "anthropic", [A], settings=settings)
    before = start(text, folder=tmp_path)
    assert MESSAGES.ask(before.url, MODEL).status == 429
    before.stop()

    after = start(text, folder=tmp_path)
    told = MESSAGES.ask(after.url, MODEL)

    assert told.status == 429
    assert 380 <= int(told.headers["retry-after"]) <= 402
    assert asked(vendors) == [A]


# ---- conversations --------------------------------------------------------------------------------------------------


def talking(serving, session: str):
    body = {
        "model": MODEL,
        "max_tokens": 64,
        "messages": [{"role": "user", "content": "hello there you"}],
        "metadata": {"user_id": f"user_1_account__session_{session}"},
    }
    address = MESSAGES.address(MODEL, stream=False)
    return post(serving.url, address, json.dumps(body).encode(), MESSAGES.headers)


def test_conversations_stay_with_their_accounts_and_new_ones_take_turns(vendors, start):
    serving = start(config(vendors.url, "anthropic", [A, B, C]))
    sessions = [f"0000000{number}-0000-4000-8000-000000000000" for number in range(6)]

    for _ in range(3):
        for session in sessions:
            assert talking(serving, session).status == 200

    keys = asked(vendors)
    assert keys[:6] == keys[6:12] == keys[12:]
    assert collections.Counter(keys) == {A: 6, B: 6, C: 6}


def test_a_conversation_moves_on_with_its_accounts_limit(vendors, start):
    serving = start(config(vendors.url, "anthropic", [A, B]))
    session = "00000001-0000-4000-8000-000000000000"
    talking(serving, session)
    vendors.script(Rule(key=A, answer=rate_limited("anthropic", 300)))

    answers = [talking(serving, session) for _ in range(2)]

    assert [answer.status for answer in answers] == [200, 200]
    assert asked(vendors) == [A, A, B, B]


@pytest.mark.parametrize("vendor", ["anthropic", "openai-chat", "openai-responses", "gemini"])
def test_a_conversation_without_a_name_is_known_by_how_it_began(vendor, vendors, start):
    serving = start(config(vendors.url, vendor, [A, B, C]))
    with openai.OpenAI(base_url=f"{serving.url}/v1", api_key="test-key", max_retries=0) as client:

        def say(*texts: str) -> None:
            roles = itertools.cycle(("user", "assistant"))
            client.chat.completions.create(
                model=VENDORS[vendor],
                messages=[{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)],
            )

        for name in ("one", "two", "three"):
            say(name)
        for name in ("three", "one", "two"):
            say(name, f"echo: {name}", "go on")

    keys = asked(vendors)
    assert keys == [A, B, C, C, A, B]


def test_without_affinity_everybody_takes_turns(vendors, start):
    serving = start(config(vendors.url, "anthropic", [A, B], settings="routing: {session-affinity: false}"))

    for _ in range(4):
        talking(serving, "00000001-0000-4000-8000-000000000000")

    assert asked(vendors) == [A, B, A, B]


# ---- allowances -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vendor", ["anthropic", "openai-responses", "openai-chat"])
def test_an_account_with_little_left_is_used_last(vendor, vendors, start):
    vendors.script(Rule(key=A, headers=limits_told(vendor, 0.02)), Rule(key=B, headers=limits_told(vendor, 0.8)))
    serving = start(config(vendors.url, vendor, [A, B]))
    caller = BY_NAME[vendor]

    for _ in range(4):
        assert caller.ask(serving.url, VENDORS[vendor]).status == 200
    assert asked(vendors) == [A, B, B, B]
    vendors.reset()
    vendors.script(Rule(key=B, answer=rate_limited(vendor, 300)))
    last = caller.ask(serving.url, VENDORS[vendor])

    assert last.status == 200
    assert asked(vendors) == [B, A]


def test_the_watermark_can_be_taken_away(vendors, start):
    vendors.script(Rule(headers=limits_told("anthropic", 0.001)))
    serving = start(config(vendors.url, "anthropic", [A, B], settings="routing: {quota-watermark: 0}"))

    for _ in range(4):
        MESSAGES.ask(serving.url, MODEL)

    assert asked(vendors) == [A, B, A, B]


# ---- timings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@each_vendor
def test_answers_say_where_their_time_went(vendor, stream, vendors, start):
    vendors.script(Rule(key=A, times=1, delay=0.1, answer=rate_limited(vendor, 60)), Rule(key=B, delay=0.2))
    serving = start(config(vendors.url, vendor, [A, B]))

    answer = CHAT.ask(serving.url, VENDORS[vendor], stream=stream)

    parts = dict(part.strip().split(";dur=") for part in answer.headers["server-timing"].split(","))
    times = {name: float(text) for name, text in parts.items()}
    assert times.keys() == {"gateway", "upstream", "retries"}
    assert 200 <= times["upstream"] < 1000
    assert 100 <= times["retries"] < 1000
    assert 0 <= times["gateway"] < 100


def test_a_refusal_says_it_too(vendors, start):
    vendors.script(Rule(answer=rate_limited("anthropic", 60)))
    serving = start(config(vendors.url, "anthropic", [A]))

    answer = CHAT.ask(serving.url, MODEL)

    assert answer.status == 429
    assert "upstream;dur=" in answer.headers["server-timing"]


def test_many_threads_and_few_accounts_leave_nothing_behind(vendors, start):
    """Whatever fails in between: when all is over nobody counts as busy, and everybody is asked again."""
    vendors.script(
        Rule(key=A, times=5, answer=rate_limited("anthropic", 0.2)),
        Rule(key=B, times=5, cut_after=0),
        Rule(key=C, times=5, error_after=0),
    )
    serving = start(config(vendors.url, "anthropic", [A, B, C]))
    answers = together(40, lambda number: CHAT.ask(serving.url, MODEL, stream=bool(number % 2)))
    vendors.reset()
    deadline = time.monotonic() + 10
    while set(asked(vendors)) != {A, B, C} and time.monotonic() < deadline:
        CHAT.ask(serving.url, MODEL)
        time.sleep(0.05)

    assert {answer.status for answer in answers} == {200}
    assert set(asked(vendors)) == {A, B, C}
