"""`translate`: requests, answers and streams of one dialect in another, with what is lost."""

import json
import subprocess
import sys

import pytest

MESSAGES = {
    "model": "claude-sonnet-4-5-20250929",
    "max_tokens": 100,
    "top_k": 5,
    "metadata": {"user_id": "someone"},
    "messages": [{"role": "user", "content": "hello"}],
}
ANSWER = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-x",
    "content": [{"type": "text", "text": "well"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 3, "output_tokens": 1},
}
STREAM = (
    b'data: {"id":"c","model":"r","choices":[{"index":0,"delta":{"role":"assistant","content":"hi"}}]}\n\n'
    b'data: {"id":"c","model":"r","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    b"data: [DONE]\n\n"
)


@pytest.fixture
def asked(run, folder):
    def ask(source: str, target: str, content: bytes | dict, *options: str):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        (folder / "file.json").write_bytes(data)
        return run("translate", "--from", source, "--to", target, *options, "file.json")

    return ask


def test_a_request_is_translated_and_each_loss_is_a_line(asked):
    ended = asked("anthropic", "openai-chat", MESSAGES)

    body = json.loads(ended.stdout)
    assert ended.returncode == 0
    assert body["messages"] == [{"role": "user", "content": "hello"}]
    assert [line for line in ended.stderr.splitlines() if line.startswith("dropped: `sampling.top_k`: ")]


def test_programs_read_one_object(asked):
    ended = asked("anthropic", "openai-chat", MESSAGES, "--json")

    told = json.loads(ended.stdout)
    assert told["body"]["model"] == MESSAGES["model"]
    assert {"path": "sampling.top_k", "action": "dropped"}.items() <= told["losses"][0].items()
    assert ended.stderr == ""


def test_a_model_that_the_address_would_name_is_named_by_an_option(asked):
    body = {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}

    ended = asked("gemini", "anthropic", body, "--model", "claude-haiku-4-5-20251001")

    assert json.loads(ended.stdout)["model"] == "claude-haiku-4-5-20251001"


@pytest.mark.parametrize("target", ["openai-chat", "openai-responses", "gemini", "gemini-cli", "anthropic"])
def test_an_answer_is_translated(asked, target):
    ended = asked("anthropic", target, ANSWER, "--kind", "answer", "--model", "m")

    assert ended.returncode == 0
    assert '"well"' in ended.stdout
    assert json.loads(ended.stdout)


def test_a_stream_is_translated(asked):
    ended = asked("openai-chat", "anthropic", STREAM, "--kind", "stream", "--model", "m")

    assert ended.stdout.startswith("event: message_start\n")
    assert "event: message_stop" in ended.stdout


def test_it_reads_standard_input():
    command = [sys.executable, "-m", "cliproxy", "translate", "--from", "anthropic", "--to", "gemini", "-"]

    ended = subprocess.run(command, input=json.dumps(MESSAGES).encode(), capture_output=True, timeout=30, check=True)

    assert json.loads(ended.stdout)["contents"]


@pytest.mark.parametrize(
    ("content", "options", "told"),
    [
        (b"{", (), "file.json: "),
        ({"model": "m", "messages": 1}, (), "`messages"),
        ({"error": {"type": "overloaded_error", "message": "later"}, "type": "error"}, ("--kind", "answer"), "later"),
    ],
)
def test_what_cannot_be_translated_is_told_with_its_place(asked, content, options, told):
    ended = asked("anthropic", "openai-chat", content, *options)

    assert ended.returncode == 1
    assert told in ended.stderr
    assert ended.stdout == ""


def test_a_file_that_is_not_there_is_told(run):
    ended = run("translate", "--from", "anthropic", "--to", "gemini", "nowhere.json")

    assert ended.returncode == 1
    assert "nowhere.json" in ended.stderr
