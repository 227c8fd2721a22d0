"""A local estimate of a request's tokens, for meters that want a number before the vendor tells one.

Ordinary prose and code run at about four ASCII characters a token, other scripts at about one and a half characters;
each turn and each tool costs a few tokens of framing, each image about fifteen hundred. An estimate, never a bill.
"""

from cliproxy.canon.parts import Audio, Document, Image, Part, Reasoning, Refusal, Text, ToolCall, ToolResult, Video
from cliproxy.canon.request import Request

_IMAGE_TOKENS = 1500
_TURN_TOKENS = 4
_TOOL_TOKENS = 12
_DOCUMENT_BYTES_PER_TOKEN = 20


def estimate(request: Request) -> int:
    """Tokens of the whole request, at least 1."""
    tokens = sum(_of_text(block.text) for block in request.system)
    for turn in request.turns:
        tokens += _TURN_TOKENS + sum(_of_part(part) for part in turn.parts)
    for tool in request.tools:
        tokens += _TOOL_TOKENS + _of_text(tool.name + tool.description + tool.schema + tool.format + tool.data)
    return max(tokens, 1)


def _of_text(text: str) -> int:
    if text.isascii():
        return (len(text) + 3) // 4
    wide = sum(1 for letter in text if letter > "\x7f")
    return int((len(text) - wide) / 4 + wide / 1.5) + 1


def _of_part(part: Part) -> int:
    match part:
        case Text(text) | Refusal(text):
            return _of_text(text)
        case ToolCall(name=name, arguments=arguments):
            return _TOOL_TOKENS + _of_text(name + arguments)
        case ToolResult(content=content):
            return _TOOL_TOKENS + sum(_of_part(inner) for inner in content)
        case Reasoning(segments):
            return sum(_of_text(segment) for segment in segments)
        case Document(text=text) if text:
            return _of_text(text)
        case Image():
            return _IMAGE_TOKENS
        case Audio(media) | Video(media) | Document(media):
            return len(media.data) // _DOCUMENT_BYTES_PER_TOKEN + _TURN_TOKENS
        case _:
            return len(part.data) // 4
