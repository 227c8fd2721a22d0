"""The addresses of the four dialects, with a request that each of them answers, and gateways to send them to."""

from dataclasses import dataclass
from typing import Any

CONFIG = """\
port: 0
api-keys: [test-key]
request-retry: 0
gemini-api-key: [{{api-key: sk-sim-gemini, base-url: "{vendors}", models: [{{name: gemini-2.5-flash}}]}}]
claude-api-key: [{{api-key: sk-sim-claude, base-url: "{vendors}", models: [{{name: claude-opus-4-7}}]}}]
codex-api-key: [{{api-key: sk-sim-openai, base-url: "{vendors}/v1", models: [{{name: gpt-5}}]}}]
openai-compatibility:
  - {{name: simulated, base-url: "{vendors}/v1", api-keys: [sk-sim-chat], models: [{{name: sim-chat}}]}}
"""


@dataclass(frozen=True, eq=False)
class Door:
    """One address of a dialect. `body` is a good request; `turns` replaces its conversation."""

    dialect: str
    target: str
    body: dict[str, Any]

    def with_model(self, model: Any) -> "Door":
        if self.dialect == "gemini":
            _, _, method = self.target.rpartition(":")
            return Door(self.dialect, f"/v1beta/models/{model}:{method}", self.body)
        return Door(self.dialect, self.target, {**self.body, "model": model})


HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "hello there"}]}
CHAT = Door("openai-chat", "/v1/chat/completions", {"model": "sim-chat", **HELLO})
RESPONSES = Door("openai-responses", "/v1/responses", {"model": "gpt-5", "input": "hello there"})
MESSAGES = Door("anthropic", "/v1/messages", {"model": "claude-opus-4-7", "max_tokens": 50, **HELLO})
GEMINI = Door(
    "gemini",
    "/v1beta/models/gemini-2.5-flash:generateContent",
    {"contents": [{"role": "user", "parts": [{"text": "hello there"}]}]},
)
DOORS = (CHAT, RESPONSES, MESSAGES, GEMINI)
STREAMS = (
    Door(CHAT.dialect, CHAT.target, {**CHAT.body, "stream": True}),
    Door(RESPONSES.dialect, RESPONSES.target, {**RESPONSES.body, "stream": True}),
    Door(MESSAGES.dialect, MESSAGES.target, {**MESSAGES.body, "stream": True}),
    Door(GEMINI.dialect, "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse", GEMINI.body),
)


def is_error(dialect: str, body: Any, status: int) -> bool:
    """Whether a JSON body is an error of that dialect."""
    match dialect:
        case "anthropic":
            return body["type"] == "error" and bool(body["error"]["type"]) and bool(body["error"]["message"])
        case "gemini":
            error = body["error"]
            return error["code"] == status and bool(error["status"]) and bool(error["message"])
        case _:
            return set(body["error"]) == {"message", "type", "param", "code"} and bool(body["error"]["message"])
