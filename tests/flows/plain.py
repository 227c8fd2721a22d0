"""Callers without SDKs: one per dialect, raw bytes in and out, so that tests see what really travels.

`VENDORS` are the simulated upstreams, each with the model under which the gateways of these tests serve it.
"""

import http.client
import json
import re
from dataclasses import dataclass, field
from typing import Any

from serving import Serving

VENDORS = {
    "openai-chat": "sim-chat",
    "openai-responses": "gpt-5",
    "anthropic": "claude-sonnet-4-5-20250929",
    "gemini": "gemini-2.5-flash",
}
_SECTIONS = {
    "openai-chat": "openai-compatibility",
    "openai-responses": "codex-api-key",
    "anthropic": "claude-api-key",
    "gemini": "gemini-api-key",
}


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    is_complete: bool = True

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def frames(self) -> list[bytes]:
        """Data of each event, or the elements of a JSON array."""
        if self.body.lstrip().startswith(b"["):
            return [json.dumps(element).encode() for element in self.json]
        text = self.body.replace(b"\r\n", b"\n").removeprefix(b"\xef\xbb\xbf")
        datas = [re.findall(rb"^data: ?(.*)$", frame, re.MULTILINE) for frame in text.split(b"\n\n")]
        return [b"\n".join(lines) for lines in datas if lines]

    @property
    def events(self) -> list[Any]:
        return [json.loads(data) for data in self.frames if data != b"[DONE]"]


@dataclass
class Caller:
    """One client dialect. `vendor` is the upstream that speaks it too."""

    name: str
    vendor: str
    headers: dict[str, str] = field(default_factory=dict)

    def address(self, model: str, *, stream: bool) -> str:
        match self.name:
            case "openai-chat":
                return "/v1/chat/completions"
            case "openai-responses":
                return "/v1/responses"
            case "anthropic":
                return "/v1/messages"
            case _:
                method = "streamGenerateContent" if stream else "generateContent"
                query = "?alt=sse" if stream and self.name == "gemini" else ""
                return f"/v1beta/models/{model}:{method}{query}"

    def body(self, model: str, text: str = "hello there you", *, stream: bool) -> bytes:
        match self.name:
            case "openai-chat":
                body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": text}]}
                if stream:
                    body |= {"stream": True, "stream_options": {"include_usage": True}}
            case "openai-responses":
                body = {"model": model, "input": text} | ({"stream": True} if stream else {})
            case "anthropic":
                body = {"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": text}]}
                body |= {"stream": True} if stream else {}
            case _:
                body = {"contents": [{"role": "user", "parts": [{"text": text}]}]}
        return json.dumps(body).encode()

    def ask(
        self,
        url: str,
        model: str,
        *,
        stream: bool = False,
        text: str = "hello there you",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        return post(
            url,
            self.address(model, stream=stream),
            self.body(model, text, stream=stream),
            self.headers | (headers or {}),
        )

    def text(self, answer: Answer, *, stream: bool) -> str:
        """What the model said, of a whole answer or of a stream."""
        if not stream:
            return self._said(answer.json)
        return "".join(self._piece(event) for event in answer.events)

    def model(self, event: Any) -> str | None:
        """Where an answer or a frame names the model."""
        for place in (event, event.get("message"), event.get("response")):
            if isinstance(place, dict) and (name := place.get("model") or place.get("modelVersion")):
                return name
        return None

    def error(self, answer: Answer) -> dict[str, Any]:
        """The error object of an answer that is one; fails when the body is not this dialect's."""
        body = answer.json
        if isinstance(body, list):
            body = body[0]
        error = body["error"]
        if self.name == "anthropic":
            assert body["type"] == "error"
            assert {"type", "message"} <= error.keys()
        elif self.name.startswith("gemini"):
            assert {"code", "message", "status"} <= error.keys()
        else:
            assert {"message", "type", "code"} <= error.keys()
        return error

    def errors(self, answer: Answer) -> list[Any]:
        """The error frames of a stream."""
        return [event for event in answer.events if self._is_error(event)]

    def is_finished(self, answer: Answer) -> bool:
        """Whether the stream says that the answer is complete."""
        match self.name:
            case "openai-chat":
                finished = any(c.get("finish_reason") for e in answer.events for c in e.get("choices") or ())
                return finished or b"[DONE]" in answer.frames
            case "openai-responses":
                return any(e["type"] in ("response.completed", "response.incomplete") for e in answer.events)
            case "anthropic":
                return any(event["type"] == "message_stop" for event in answer.events)
            case _:
                return any(c.get("finishReason") for e in answer.events for c in e.get("candidates") or ())

    def usage(self, answer: Answer) -> tuple[int, int]:
        """Input and output tokens that a stream states."""
        seen = (0, 0)
        for event in answer.events:
            for place in (event, event.get("message"), event.get("response")):
                usage = (place.get("usage") or place.get("usageMetadata")) if isinstance(place, dict) else None
                if usage:
                    names = ("prompt_tokens", "input_tokens", "promptTokenCount")
                    read = next((usage[name] for name in names if name in usage), seen[0])
                    names = ("completion_tokens", "output_tokens", "candidatesTokenCount")
                    seen = (read, next((usage[name] for name in names if name in usage), seen[1]))
        return seen

    def _said(self, body: Any) -> str:
        match self.name:
            case "openai-chat":
                return body["choices"][0]["message"]["content"]
            case "openai-responses":
                parts = [part for item in body["output"] for part in item.get("content") or ()]
                return "".join(part.get("text", "") for part in parts)
            case "anthropic":
                return "".join(block.get("text", "") for block in body["content"])
            case _:
                return self._piece(body)

    def _piece(self, event: Any) -> str:
        match self.name:
            case "openai-chat":
                return "".join((c.get("delta") or {}).get("content") or "" for c in event.get("choices") or ())
            case "openai-responses":
                return event["delta"] if event["type"] == "response.output_text.delta" else ""
            case "anthropic":
                return event["delta"].get("text", "") if event["type"] == "content_block_delta" else ""
            case _:
                contents = [c.get("content") or {} for c in event.get("candidates") or ()]
                return "".join(part.get("text", "") for content in contents for part in content.get("parts") or ())

    def _is_error(self, event: Any) -> bool:
        match self.name:
            case "openai-responses":
                return event["type"] in ("response.failed", "error")
            case "anthropic":
                return event["type"] == "error"
            case _:
                return "error" in event


CHAT = Caller("openai-chat", "openai-chat")
RESPONSES = Caller("openai-responses", "openai-responses")
MESSAGES = Caller("anthropic", "anthropic", {"anthropic-version": "2023-06-01"})
GEMINI = Caller("gemini", "gemini")
GEMINI_ARRAY = Caller("gemini-array", "gemini")
CALLERS = (CHAT, RESPONSES, MESSAGES, GEMINI)
STREAMERS = (*CALLERS, GEMINI_ARRAY)


def post(url: str, path: str, body: bytes, headers: dict[str, str] | None = None, *, timeout: float = 20.0) -> Answer:
    """One POST on a connection of its own; a body that breaks off is returned as far as it came."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=timeout)
    lines = {"authorization": "Bearer test-key", "content-type": "application/json"} | (headers or {})
    try:
        connection.request("POST", path, body, lines)
        response = connection.getresponse()
        told = {name.lower(): value for name, value in response.getheaders()}
        try:
            return Answer(response.status, told, response.read())
        except http.client.IncompleteRead as error:
            return Answer(response.status, told, error.partial, is_complete=False)
    finally:
        connection.close()


def config(vendors: str, vendor: str, keys: list[str], *, settings: str = "", entry: str = "", model: str = "") -> str:
    """A configuration with one account of `vendor` per key, all serving the vendor's model.

    `settings` are lines of the top level; `entry` are members that each entry gets; `model` replaces its model row.
    """
    served = model or f"{{name: {VENDORS[vendor]}}}"
    extra = f", {entry}" if entry else ""
    base = vendors if vendor in ("anthropic", "gemini") else f"{vendors}/v1"
    rows: list[str] = []
    for number, key in enumerate(keys):
        if vendor == "openai-chat":
            own = f"name: sim-{number}, api-keys: [{key}]"
        else:
            own = f"api-key: {key}"
        rows.append(f'  - {{{own}, base-url: "{base}", models: [{served}]{extra}}}')
    lines = ["port: 0", "api-keys: [test-key]", settings.strip(), f"{_SECTIONS[vendor]}:", *rows]
    return "\n".join(line for line in lines if line) + "\n"


class Gateways:
    """Starts gateways; those no longer needed stop on their own, and tests do not wait for it."""

    def __init__(self) -> None:
        self._started: list[Serving] = []

    def __call__(self, text: str, **options: Any) -> Serving:
        serving = Serving(text, **options)
        self._started.append(serving)
        return serving

    def let_go(self) -> None:
        for serving in self._started:
            serving.let_go()
