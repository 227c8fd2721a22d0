"""What translation lost, in a header of the answer for those who want to know."""

import json

import pytest
from plain import CHAT, MESSAGES, VENDORS, Gateways, config, post

from cliproxy.simulator import Simulator

pytestmark = pytest.mark.flow

whole_and_stream = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@pytest.fixture(scope="module")
def vendors():
    with Simulator() as simulator:
        yield simulator


@pytest.fixture(scope="module")
def start():
    gateways = Gateways()
    yield gateways
    gateways.let_go()


def ask(serving, vendor: str, *, stream: bool, **more: object):
    """What an Anthropic client gets that asks for more than others know."""
    turns = [{"role": "user", "content": "hello"}]
    body = {"model": VENDORS[vendor], "max_tokens": 100, "messages": turns, "stream": stream} | more
    address = MESSAGES.address(VENDORS[vendor], stream=stream)
    return post(serving.url, address, json.dumps(body).encode(), MESSAGES.headers)


@whole_and_stream
def test_it_is_told_to_those_who_want_to_know(stream, vendors, start):
    serving = start(config(vendors.url, "openai-chat", ["sk-sim-a"], settings="show-losses: true"))

    answer = ask(serving, "openai-chat", stream=stream, top_k=5)

    assert answer.status == 200
    assert "sampling.top_k=dropped" in answer.headers["x-cliproxy-losses"].split(", ")


@whole_and_stream
def test_nothing_is_told_where_nothing_was_lost(stream, vendors, start):
    serving = start(config(vendors.url, "anthropic", ["sk-sim-a"], settings="show-losses: true"))

    answer = ask(serving, "anthropic", stream=stream, top_k=5)

    assert answer.status == 200
    assert "x-cliproxy-losses" not in answer.headers


def test_it_is_not_told_unasked(vendors, start):
    serving = start(config(vendors.url, "openai-chat", ["sk-sim-a"]))

    answer = ask(serving, "openai-chat", stream=False, top_k=5)

    assert answer.status == 200
    assert "x-cliproxy-losses" not in answer.headers


def test_names_that_callers_choose_make_no_lines_of_their_own(vendors, start):
    serving = start(config(vendors.url, "openai-chat", ["sk-sim-a"], settings="show-losses: true"))
    odd = {f"x\r\nset-cookie: a=b\u00e9{number}": 1 for number in range(200)}

    answer = ask(serving, "openai-chat", stream=False, **odd)

    assert answer.status == 200
    assert "set-cookie" not in answer.headers
    assert len(answer.headers.get("x-cliproxy-losses", "")) <= 2048


def test_chat_callers_hear_it_too(vendors, start):
    serving = start(config(vendors.url, "anthropic", ["sk-sim-a"], settings="show-losses: true"))
    body = {"model": VENDORS["anthropic"], "messages": [{"role": "user", "content": "hello"}], "seed": 7}

    answer = post(serving.url, CHAT.address(body["model"], stream=False), json.dumps(body).encode(), CHAT.headers)

    assert answer.status == 200
    assert "sampling.seed=dropped" in answer.headers["x-cliproxy-losses"]
