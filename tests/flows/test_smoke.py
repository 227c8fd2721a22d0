"""The thinnest true path: an official client, the gateway, a simulated vendor, real sockets."""

import anthropic
import openai
import pytest

pytestmark = pytest.mark.flow


def test_chat_streams_from_a_compatible_server(shared):
    client = openai.OpenAI(base_url=f"{shared.url}/v1", api_key="test-key")

    chunks = client.chat.completions.create(
        model="sim-chat", messages=[{"role": "user", "content": "hello there"}], stream=True
    )

    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "echo: hello there"


def test_messages_stream_from_a_claude_account(shared):
    client = anthropic.Anthropic(base_url=shared.url, api_key="test-key")

    with client.messages.stream(
        model="claude-sonnet-4-5-20250929", max_tokens=100, messages=[{"role": "user", "content": "hello there"}]
    ) as stream:
        assert stream.get_final_text() == "echo: hello there"


def test_messages_translate_to_a_compatible_server(shared):
    client = anthropic.Anthropic(base_url=shared.url, api_key="test-key")

    answer = client.messages.create(
        model="sim-chat", max_tokens=100, messages=[{"role": "user", "content": "hello there"}]
    )

    assert answer.content[0].text == "echo: hello there"
    assert answer.model == "sim-chat"
