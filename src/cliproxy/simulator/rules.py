"""Scripting: rules that make a simulated vendor late, limited, broken or hostile, for the requests they match.

A rule is plain data, so that the HTTP control API takes the same rules as the Python API. `stage` is pure: it turns a
reply and a rule into the bytes to write, with their pauses and their end; the application only plays them.
"""

import base64
import gzip
import random
import re
from collections.abc import Iterable
from typing import Literal

import msgspec

from cliproxy.simulator.exchange import JSON_BODY, Break, Reply, Surface, read_json, sse

End = Literal["complete", "cut", "hang"]
SseOddity = Literal["crlf", "no-space", "comments", "bom", "no-final-blank", "no-done", "no-finish", "no-output"]
BrokenBody = Literal["html", "text", "empty", "truncated"]
Headers = dict[str, str]

DONE_FRAME = b"data: [DONE]\n\n"
_FRAME = re.compile(rb".+?(?:\r?\n\r?\n|\Z)", re.DOTALL)
_HTML = b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body>upstream is away</body></html>"


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A fixed answer; `body_base64` carries bytes that are no text and wins over `body`.

    An event stream is played frame by frame, so that pace, cuts and oddities apply to it as to the vendor's own.
    """

    status: int = 200
    headers: Headers = msgspec.field(default_factory=dict[str, str])
    content_type: str = JSON_BODY
    body: str = ""
    body_base64: str | None = None

    def content(self) -> bytes:
        return self.body.encode() if self.body_base64 is None else base64.b64decode(self.body_base64)


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which requests it applies to, and what happens to them. The first rule that still applies wins.

    `path` is a substring; `key` the exact upstream key; `account` the e-mail of the logged-in account, whatever its
    token is by now, also where it renews one; `after` skips so many matches, then it applies `times` times. Seconds are
    floats. An event is one SSE frame, or the whole body of an answer that is no stream.
    """

    key: str | None = None
    account: str | None = None
    path: str | None = None
    model: str | None = None
    times: int | None = None
    after: int = 0

    answer: Answer | None = None
    """Answer this in place of everything else, before keys and bodies are checked."""
    delay: float = 0.0
    """Seconds before the head."""
    pace: float = 0.0
    """Seconds before each event but the first."""
    hang: bool = False
    """Never answer at all; with `cut_after`, fall silent there in place of closing."""
    cut_after: int | None = None
    """Close the connection after so many events; 0: before the first byte of the head."""
    cut_inside: bool = False
    """Cut in the middle of the next event in place of its end."""
    error_after: int | None = None
    """After so many events write the vendor's in-stream error and end the stream."""
    error_status: int = 529
    error_message: str = "Overloaded"
    error_code: str | None = None
    """The vendor's word in place of the one that goes with the status, as `slow_down`."""
    error_event: bool = False
    """Responses only: a bare `error` event in place of `response.failed`."""
    body: BrokenBody | None = None
    """Status 200 and a body that is not what was asked for."""
    content_type: str | None = None
    gzip: bool = False
    """Compress without being asked, and say so in `content-encoding`."""
    sse: tuple[SseOddity, ...] = ()
    huge_event_bytes: int = 0
    """Grow the second event by a comment line of this size; 0: none."""
    trickle: int | None = None
    """Cut the body into pieces of random length up to 16; the number is the seed, 0 means byte by byte."""
    headers: Headers = msgspec.field(default_factory=dict[str, str])
    """Added to the head, or put in place of headers of the same name."""


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """What to write and when. With an `end` of `cut` and no chunks not even the head is written."""

    status: int
    headers: tuple[tuple[str, str], ...]
    chunks: tuple[bytes, ...]
    delay: float = 0.0
    pace: float = 0.0
    end: End = "complete"


def fixed(rule: Rule) -> Reply | None:
    """The reply of a rule that replaces the vendor's own; None when the vendor shall answer."""
    if rule.answer is None:
        return None
    answer = rule.answer
    frames = (answer.content(),)
    if answer.content_type.startswith("text/event-stream"):
        frames = tuple(_FRAME.findall(frames[0]))
    return Reply(
        status=answer.status,
        content_type=answer.content_type,
        headers=tuple(answer.headers.items()),
        frames=frames,
    )


def stage(reply: Reply, rule: Rule | None, surface: Surface | None) -> Stage:
    """The reply as the rule has it; without a rule, as the vendor has it."""
    if rule is None:
        return Stage(status=reply.status, headers=tuple(_head(reply).items()), chunks=reply.frames)
    if rule.hang and rule.cut_after is None:
        return Stage(status=reply.status, headers=(), chunks=(), delay=rule.delay, end="hang")
    if rule.body is not None:
        reply = _spoiled(reply, rule.body)
    if rule.content_type is not None:
        reply = msgspec.structs.replace(reply, content_type=rule.content_type)
    frames = (
        _with_oddities(reply.frames, rule, surface)
        if reply.content_type.startswith("text/event-stream")
        else reply.frames
    )
    if rule.error_after is not None and surface is not None and len(reply.frames) > 1:
        fault = Break(
            status=rule.error_status, message=rule.error_message, is_event=rule.error_event, code=rule.error_code
        )
        before = reply.frames[: rule.error_after]
        frames = (*frames[: rule.error_after], surface.broken(before, fault))
    end: End = "complete"
    if rule.cut_after is not None:
        end = "hang" if rule.hang else "cut"
        frames = _cut(frames, rule.cut_after, is_inside=rule.cut_inside)
    headers = _head(reply) | {name.lower(): value for name, value in rule.headers.items()}
    if rule.gzip:
        frames, headers = (gzip.compress(b"".join(frames), mtime=0),), headers | {"content-encoding": "gzip"}
    if rule.trickle is not None:
        frames = tuple(_trickled(b"".join(frames), rule.trickle))
    return Stage(
        status=reply.status, headers=tuple(headers.items()), chunks=frames, delay=rule.delay, pace=rule.pace, end=end
    )


def _head(reply: Reply) -> Headers:
    return {"content-type": reply.content_type, **{name.lower(): value for name, value in reply.headers}}


def _spoiled(reply: Reply, body: BrokenBody) -> Reply:
    whole = b"".join(reply.frames)
    content_type, content = {
        "html": ("text/html; charset=utf-8", _HTML),
        "text": ("text/plain; charset=utf-8", b"upstream connect error or disconnect/reset before headers"),
        "empty": (reply.content_type, b""),
        "truncated": (reply.content_type, whole[: len(whole) // 2]),
    }[body]
    return msgspec.structs.replace(reply, content_type=content_type, frames=(content,))


def _with_oddities(frames: tuple[bytes, ...], rule: Rule, surface: Surface | None) -> tuple[bytes, ...]:
    """Server-sent events as other servers write them; JSON never holds a raw line end, so bytes can be replaced."""
    odd = frozenset(rule.sse)
    if "no-finish" in odd and surface is not None:
        frames = surface.unfinished(frames)
    if "no-done" in odd:
        frames = tuple(frame for frame in frames if frame != DONE_FRAME)
    if "no-output" in odd:
        frames = tuple(_without_output(frame) for frame in frames)
    if "comments" in odd:
        frames = tuple(b": keep-alive\n\n" + frame for frame in frames)
    if rule.huge_event_bytes and len(frames) > 1:
        frames = (frames[0], b": " + b"x" * rule.huge_event_bytes + b"\n" + frames[1], *frames[2:])
    if "no-space" in odd:
        frames = tuple(frame.replace(b"data: ", b"data:", 1) for frame in frames)
    if "no-final-blank" in odd and frames:
        frames = (*frames[:-1], frames[-1].rstrip(b"\n"))
    if "crlf" in odd:
        frames = tuple(frame.replace(b"\n", b"\r\n") for frame in frames)
    if "bom" in odd and frames:
        frames = (b"\xef\xbb\xbf" + frames[0], *frames[1:])
    return frames


def _without_output(frame: bytes) -> bytes:
    """Responses: the terminal event as servers write it that keep nothing, with what came before left out."""
    head, _, body = frame.partition(b"\ndata: ")
    if head not in (b"event: response.completed", b"event: response.incomplete"):
        return frame
    event = read_json(body)
    response = event.get("response") if isinstance(event, dict) else None
    if isinstance(response, dict):
        response["output"] = []
    return sse(event, head.removeprefix(b"event: ").decode())


def _cut(frames: tuple[bytes, ...], count: int, *, is_inside: bool) -> tuple[bytes, ...]:
    kept = frames[:count]
    if is_inside and count < len(frames):
        kept = (*kept, frames[count][: max(1, len(frames[count]) // 2)])
    return kept


def _trickled(body: bytes, seed: int) -> Iterable[bytes]:
    chance = random.Random(seed)
    at = 0
    while at < len(body):
        size = chance.randint(1, 16) if seed else 1
        yield body[at : at + size]
        at += size
