"""What the ChatGPT backend wants of a Responses request: it only streams, keeps nothing and refuses many parameters.

What is fine stays as it came. Fields that only tune an answer are left out, since every caller sends some of them and
the backend takes none. What changes the meaning (`previous_response_id`: a conversation that the backend does not have)
stays, and is refused by the backend in its own words.

Source: https://github.com/openai/codex (codex-rs/core) and refusals seen in the field, checked 2026-11-24.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Raw, Struct

from cliproxy.canon.errors import GatewayError
from cliproxy.wire import json

_UNTAKEN = frozenset(
    {
        "context_management",
        "generate",
        "max_completion_tokens",
        "max_output_tokens",
        "metadata",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "stream_options",
        "temperature",
        "top_p",
        "truncation",
        "user",
    }
)
_NULL = b"null"
_PRIORITY = b'"priority"'
_ENCRYPTED = "reasoning.encrypted_content"
_BREAKPOINT = "prompt_cache_breakpoint"
_UNSTORED = frozenset(
    {
        "message",
        "reasoning",
        "function_call",
        "function_call_output",
        "custom_tool_call",
        "custom_tool_call_output",
    }
)
"""Types of items whose id only means something where items are kept."""
_MARKS = (b'"system"', b'"id"', b'"prompt_cache_breakpoint"', b"\\u")
"""Without any of these nothing in the input needs a change."""


class _Head(Struct):
    type: str | None = None
    role: str | None = None
    id: Raw = Raw(_NULL)
    encrypted_content: Raw = Raw(_NULL)


_head = msgspec.json.Decoder(_Head)
_items = msgspec.json.Decoder(list[Raw])
_texts = msgspec.json.Decoder(list[str])


def backend_body(members: Mapping[str, Raw]) -> bytes:
    """The body to send for a request with these members."""
    body = {name: value for name, value in members.items() if name not in _UNTAKEN and bytes(value) != _NULL}
    if bytes(body.get("service_tier", _PRIORITY)) != _PRIORITY:
        del body["service_tier"]
    if "input" in body:
        body["input"] = _input(body["input"])
    body.setdefault("instructions", Raw(b'""'))
    body["include"] = _included(body.get("include"))
    body["store"] = Raw(b"false")
    body["stream"] = Raw(b"true")
    return json.encode(body)


def conversation(members: Mapping[str, Raw]) -> bytes:
    """What is the same in all requests of one conversation, and rarely in two: the caller's own key for its cache, else
    how the conversation begins."""
    key = bytes(members.get("prompt_cache_key", b""))
    if key not in (b"", _NULL, b'""'):
        return key
    opening = [bytes(members.get("instructions", b"")), bytes(members.get("input", b""))]
    if opening[1].startswith(b"["):
        opening[1:] = _opening(opening[1])
    return b"\0".join(opening)


def _opening(items: bytes) -> list[bytes]:
    """The items up to the first of the user's."""
    found: list[bytes] = []
    for raw in _items.decode(items):
        found.append(bytes(raw))
        head = _head_of(raw)
        if head is not None and head.role == "user":
            break
    return found


def _included(raw: Raw | None) -> Raw:
    """The encrypted reasoning, without which it could not come back, and what the caller asks for besides."""
    try:
        names = _texts.decode(raw) if raw is not None else []
    except msgspec.DecodeError:
        return raw or Raw(b"[]")
    return Raw(json.encode(list(dict.fromkeys((*names, _ENCRYPTED)))))


def _input(raw: Raw) -> Raw:
    text = bytes(raw)
    if text.startswith(b'"'):
        content = [{"type": "input_text", "text": raw}]
        return Raw(json.encode([{"type": "message", "role": "user", "content": content}]))
    if not text.startswith(b"[") or not any(mark in text for mark in _MARKS):
        return raw
    return Raw(json.encode([_item(item) for item in _items.decode(text)]))


def _item(raw: Raw) -> object:
    """An item as the backend takes it; one that cannot be read is left to the backend."""
    head = _head_of(raw)
    if head is None:
        return raw
    kind = head.type or "message"
    is_system = head.role == "system"
    has_stale_id = kind in _UNSTORED and bytes(head.id) != _NULL and bytes(head.encrypted_content) in (_NULL, b'""')
    has_breakpoint = _BREAKPOINT.encode() in bytes(raw)
    if not (is_system or has_stale_id or has_breakpoint):
        return raw
    members: dict[str, object] = dict(json.members(raw))
    if is_system:
        members["role"] = "developer"
    if has_stale_id:
        del members["id"]
    if has_breakpoint and isinstance(content := members.get("content"), Raw):
        members["content"] = _without_breakpoints(content)
    return members


def _without_breakpoints(content: Raw) -> object:
    if not bytes(content).startswith(b"["):
        return content
    parts: list[object] = []
    for raw in _items.decode(content):
        is_object = bytes(raw).startswith(b"{")
        parts.append(
            {name: value for name, value in json.members(raw).items() if name != _BREAKPOINT} if is_object else raw
        )
    return parts


def _head_of(raw: Raw) -> _Head | None:
    try:
        return json.decode_as(_head, raw)
    except GatewayError:
        return None
