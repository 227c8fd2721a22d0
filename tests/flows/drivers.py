"""The vendors' own Python SDKs behind one small face, so that one test can speak through each of them.

A driver holds a conversation as its SDK wants it: it appends what the SDK itself returned, so that the next request is
what real programs send.
"""

import base64
import json
from dataclasses import dataclass, field
from typing import Any

import anthropic
import openai
from google import genai
from google.genai import types
from openai.lib.streaming.chat import ChatCompletionStreamState

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = "get_weather"


@dataclass
class Reply:
    text: str = ""
    reasoning: str = ""
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    finish: str = ""
    model: str = ""
    input_tokens: int = 0
    output_tokens: int = 0


class ChatDriver:
    name = "openai-chat"
    error = openai.BadRequestError

    def __init__(self, url: str, key: str = "test-key") -> None:
        self.client = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)
        self.messages: list[Any] = []
        self.ids: list[str] = []

    def say(self, text: str, *, image: bool = False) -> None:
        content: Any = text
        if image:
            url = {"url": f"data:image/png;base64,{PIXEL}"}
            content = [{"type": "text", "text": text}, {"type": "image_url", "image_url": url}]
        self.messages.append({"role": "user", "content": content})

    def answer_calls(self, results: list[str]) -> None:
        for call_id, result in zip(self.ids, results, strict=True):
            self.messages.append({"role": "tool", "tool_call_id": call_id, "content": result})

    def ask(
        self,
        model: str,
        *,
        stream: bool,
        tools: bool = False,
        think: bool = False,
        schema: dict[str, Any] | None = None,
    ) -> Reply:
        options: dict[str, Any] = {"model": model, "messages": self.messages}
        if tools:
            function = {"name": TOOL, "description": "The weather", "parameters": SCHEMA}
            options["tools"] = [{"type": "function", "function": function}]
        if think:
            options["reasoning_effort"] = "low"
        if schema is not None:
            options["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": schema, "strict": True},
            }
        if stream:
            state = ChatCompletionStreamState()
            reasoning = ""
            options["stream_options"] = {"include_usage": True}
            for chunk in self.client.chat.completions.create(stream=True, **options):
                state.handle_chunk(chunk)
                for choice in chunk.choices:
                    reasoning += getattr(choice.delta, "reasoning_content", None) or ""
            answer = state.get_final_completion()
        else:
            answer = self.client.chat.completions.create(**options)
            reasoning = getattr(answer.choices[0].message, "reasoning_content", None) or ""
        choice = answer.choices[0]
        message = choice.message
        calls = message.tool_calls or []
        said = message.model_dump(exclude_none=True, exclude={"parsed", "tool_calls"})
        if calls:
            said["tool_calls"] = [call.model_dump(exclude_none=True, exclude={"index"}) for call in calls]
        self.messages.append(said)
        self.ids = [call.id for call in calls]
        return Reply(
            message.content or "",
            reasoning,
            [(call.function.name, json.loads(call.function.arguments)) for call in calls],
            choice.finish_reason or "",
            answer.model,
            answer.usage.prompt_tokens if answer.usage else 0,
            answer.usage.completion_tokens if answer.usage else 0,
        )


class ResponsesDriver:
    name = "openai-responses"
    error = openai.BadRequestError

    def __init__(self, url: str, key: str = "test-key") -> None:
        self.client = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)
        self.items: list[Any] = []
        self.ids: list[str] = []

    def say(self, text: str, *, image: bool = False) -> None:
        content: list[Any] = [{"type": "input_text", "text": text}]
        if image:
            content.append({"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "auto"})
        self.items.append({"role": "user", "content": content})

    def answer_calls(self, results: list[str]) -> None:
        for call_id, result in zip(self.ids, results, strict=True):
            self.items.append({"type": "function_call_output", "call_id": call_id, "output": result})

    def ask(
        self,
        model: str,
        *,
        stream: bool,
        tools: bool = False,
        think: bool = False,
        schema: dict[str, Any] | None = None,
    ) -> Reply:
        options: dict[str, Any] = {"model": model, "input": self.items, "store": False}
        if tools:
            options["tools"] = [
                {"type": "function", "name": TOOL, "description": "The weather", "parameters": SCHEMA, "strict": False}
            ]
        if think:
            options["reasoning"] = {"effort": "low", "summary": "auto"}
            options["include"] = ["reasoning.encrypted_content"]
        if schema is not None:
            options["text"] = {"format": {"type": "json_schema", "name": "answer", "schema": schema, "strict": True}}
        if stream:
            with self.client.responses.stream(**options) as events:
                for _ in events:
                    pass
                answer = events.get_final_response()
        else:
            answer = self.client.responses.create(**options)
        reply = Reply(answer.output_text, model=answer.model, finish=answer.status or "")
        self.ids = []
        for item in answer.output:
            self.items.append(item.model_dump(exclude_none=True, exclude={"status", "parsed_arguments"}))
            if item.type == "function_call":
                reply.calls.append((item.name, json.loads(item.arguments)))
                self.ids.append(item.call_id)
            elif item.type == "reasoning":
                reply.reasoning += "".join(part.text for part in item.summary)
        if answer.usage is not None:
            reply.input_tokens, reply.output_tokens = answer.usage.input_tokens, answer.usage.output_tokens
        return reply


class MessagesDriver:
    name = "anthropic"
    error = anthropic.BadRequestError

    def __init__(self, url: str, key: str = "test-key") -> None:
        self.client = anthropic.Anthropic(base_url=url, api_key=key, max_retries=0)
        self.messages: list[Any] = []
        self.ids: list[str] = []

    def say(self, text: str, *, image: bool = False) -> None:
        content: list[Any] = [{"type": "text", "text": text}]
        if image:
            source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
            content.append({"type": "image", "source": source})
        self.messages.append({"role": "user", "content": content})

    def answer_calls(self, results: list[str]) -> None:
        content = [
            {"type": "tool_result", "tool_use_id": call_id, "content": result}
            for call_id, result in zip(self.ids, results, strict=True)
        ]
        self.messages.append({"role": "user", "content": content})

    def ask(
        self,
        model: str,
        *,
        stream: bool,
        tools: bool = False,
        think: bool = False,
        schema: dict[str, Any] | None = None,
    ) -> Reply:
        options: dict[str, Any] = {"model": model, "messages": self.messages, "max_tokens": 4000}
        if tools:
            options["tools"] = [{"name": TOOL, "description": "The weather", "input_schema": SCHEMA}]
        if think:
            options["thinking"] = {"type": "enabled", "budget_tokens": 2000}
        if schema is not None:
            options["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
        if stream:
            with self.client.messages.stream(**options) as events:
                for _ in events:
                    pass
                answer = events.get_final_message()
        else:
            answer = self.client.messages.create(**options)
        reply = Reply(model=answer.model, finish=answer.stop_reason or "")
        self.ids = []
        for block in answer.content:
            if block.type == "text":
                reply.text += block.text
            elif block.type == "thinking":
                reply.reasoning += block.thinking
            elif block.type == "tool_use":
                reply.calls.append((block.name, dict(block.input)))
                self.ids.append(block.id)
        self.messages.append({"role": "assistant", "content": answer.content})
        reply.input_tokens, reply.output_tokens = answer.usage.input_tokens, answer.usage.output_tokens
        return reply


class GeminiDriver:
    name = "gemini"
    error = genai.errors.ClientError

    def __init__(self, url: str, key: str = "test-key") -> None:
        self.client = genai.Client(api_key=key, http_options=types.HttpOptions(base_url=url))
        self.contents: list[types.Content] = []
        self.pending: list[types.FunctionCall] = []

    def say(self, text: str, *, image: bool = False) -> None:
        parts = [types.Part(text=text)]
        if image:
            parts.append(types.Part.from_bytes(data=base64.b64decode(PIXEL), mime_type="image/png"))
        self.contents.append(types.Content(role="user", parts=parts))

    def answer_calls(self, results: list[str]) -> None:
        parts = [
            types.Part(
                function_response=types.FunctionResponse(id=call.id, name=call.name, response={"output": result})
            )
            for call, result in zip(self.pending, results, strict=True)
        ]
        self.contents.append(types.Content(role="user", parts=parts))

    def ask(
        self,
        model: str,
        *,
        stream: bool,
        tools: bool = False,
        think: bool = False,
        schema: dict[str, Any] | None = None,
    ) -> Reply:
        config = types.GenerateContentConfig()
        if tools:
            declaration = types.FunctionDeclaration(name=TOOL, description="The weather", parameters_json_schema=SCHEMA)
            config.tools = [types.Tool(function_declarations=[declaration])]
            config.automatic_function_calling = types.AutomaticFunctionCallingConfig(disable=True)
        if think:
            config.thinking_config = types.ThinkingConfig(include_thoughts=True, thinking_budget=1024)
        if schema is not None:
            config.response_mime_type = "application/json"
            config.response_json_schema = schema
        if stream:
            chunks = list(
                self.client.models.generate_content_stream(model=model, contents=self.contents, config=config)
            )
        else:
            chunks = [self.client.models.generate_content(model=model, contents=self.contents, config=config)]
        reply = Reply(model=chunks[-1].model_version or "")
        parts: list[types.Part] = []
        for chunk in chunks:
            for candidate in chunk.candidates or ():
                parts += (candidate.content.parts if candidate.content else None) or []
                reply.finish = candidate.finish_reason.value if candidate.finish_reason else reply.finish
            if chunk.usage_metadata is not None:
                reply.input_tokens = chunk.usage_metadata.prompt_token_count or 0
                reply.output_tokens = chunk.usage_metadata.candidates_token_count or 0
        self.pending = [part.function_call for part in parts if part.function_call]
        for part in parts:
            if part.text and part.thought:
                reply.reasoning += part.text
            elif part.text:
                reply.text += part.text
        reply.calls = [(call.name or "", dict(call.args or {})) for call in self.pending]
        self.contents.append(types.Content(role="model", parts=parts))
        return reply


Driver = ChatDriver | ResponsesDriver | MessagesDriver | GeminiDriver
DRIVERS: tuple[type[Driver], ...] = (ChatDriver, ResponsesDriver, MessagesDriver, GeminiDriver)
