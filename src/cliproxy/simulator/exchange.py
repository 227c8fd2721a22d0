"""What travels between the edge of the simulator and its vendor surfaces: a received request, a reply, a refusal."""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from urllib.parse import parse_qsl

import msgspec

if TYPE_CHECKING:
    Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
else:
    Json = Any  # msgspec decodes any JSON into `Any`, but does not take a recursive alias (0.22)
VendorName = Literal["openai-chat", "openai-responses", "anthropic", "gemini", "codex", "code-assist", "qwen"]
"""The last three are surfaces that only logged-in accounts may use."""

EVENT_STREAM = "text/event-stream; charset=utf-8"
JSON_BODY = "application/json"
HTML_BODY = "text/html; charset=utf-8"
FORM_BODY = "application/x-www-form-urlencoded"

_MISFIT = re.compile(r"^(?P<says>.*?)(?: - at `(?P<key>key in )?\$(?P<path>[^`]*)`)?$", re.DOTALL)
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")
_FIELD = re.compile(r"(unknown|missing required) field `([^`]*)`")
_SEAL_KEY = b"cliproxy simulator: proves origin, protects nothing"
_SEAL_BYTES = 16


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """One request as it arrived; header names are lower case, `serial` counts requests from 1."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    serial: int

    @property
    def seed(self) -> str:
        """64 hex digits that depend on the body alone: the source of every id in the answer."""
        return hashlib.sha256(self.body).hexdigest()

    @property
    def request_id(self) -> str:
        return f"req_{self.serial:06d}{self.seed[:18]}"

    @property
    def bearer(self) -> str:
        scheme, _, key = self.headers.get("authorization", "").partition(" ")
        return key.strip() if scheme.lower() == "bearer" else ""

    @property
    def base(self) -> str:
        """Where the caller found us, without a trailing slash; addresses in answers begin with it."""
        return f"http://{self.headers.get('host', '127.0.0.1')}"

    @property
    def media_type(self) -> str:
        """The body's media type without parameters, in lower case."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def form(self) -> dict[str, str]:
        """The fields of a form; the last of a repeated one wins. Empty when the body is no form."""
        if self.media_type != FORM_BODY:
            return {}
        return dict(parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True))


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """An answer before scripting: `frames` are written one by one, a plain body is a single frame."""

    frames: tuple[bytes, ...]
    status: int = 200
    content_type: str = JSON_BODY
    headers: tuple[tuple[str, str], ...] = ()


class Refused(Exception):
    """The vendor would refuse this request.

    `param` is the place in the vendor's own notation; `kind` is the vendor's word where the status alone does not say it.
    """

    def __init__(self, message: str, *, status: int = 400, param: str | None = None, kind: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.param = param
        self.kind = kind


class Break(msgspec.Struct, frozen=True, kw_only=True):
    """How a stream breaks; `is_event` chooses a bare error event where the vendor has two forms.

    `code` replaces the word that goes with the status, where the vendor tells one.
    """

    status: int
    message: str
    is_event: bool = False
    code: str | None = None


class Surface(msgspec.Struct, frozen=True, kw_only=True):
    """What all endpoints of one vendor share: who is let in, how it refuses, how its streams break."""

    vendor: VendorName
    admit: Callable[[Received], None]
    refuse: Callable[[Refused, str], Reply]
    broken: Callable[[tuple[bytes, ...], Break], bytes]
    """The frame that says so, given the frames before it."""
    unfinished: Callable[[tuple[bytes, ...]], tuple[bytes, ...]]
    """The frames without whatever says that the answer is complete."""


def no_stream(
    vendor: VendorName, admit: Callable[[Received], None], refuse: Callable[[Refused, str], Reply]
) -> Surface:
    """A surface whose answers are never streams."""
    return Surface(
        vendor=vendor, admit=admit, refuse=refuse, broken=lambda _, __: b"", unfinished=lambda frames: frames
    )


def everyone(received: Received) -> None:
    """Admission where nobody needs a credential."""


class Misfit(msgspec.Struct, frozen=True):
    """A fault found by typed decoding, taken apart so that each vendor can say it in its own words."""

    kind: Literal["unknown", "missing", "wrong"]
    path: tuple[str | int, ...]
    says: str


def bracketed(path: tuple[str | int, ...]) -> str:
    """A place as OpenAI and Google write it: `input[2].content[0].text`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")


def read_misfit(error: msgspec.ValidationError, root: tuple[str | int, ...] = ()) -> Misfit:
    """Take msgspec's sentence apart; `root` is where the decoded value stands in the whole body."""
    match = _MISFIT.match(str(error))
    assert match is not None  # the pattern accepts any text
    says = match["says"]
    steps: list[str | int] = list(root)
    for name, index in _STEP.findall(match["path"] or ""):
        steps.append(name or (int(index) if index != "..." else index))
    field = _FIELD.search(says)
    if field is None:
        return Misfit("wrong", tuple(steps), says)
    return Misfit("unknown" if field[1] == "unknown" else "missing", (*steps, field[2]), says)


def read_json(body: bytes) -> Json:
    """Any JSON text as plain values; raises `msgspec.DecodeError`."""
    value: Json = msgspec.json.decode(body)
    return value


def write_json(value: object) -> bytes:
    return msgspec.json.encode(value)


def whole(number: float) -> float:
    """The same number, which JSON shows without a fraction when it has none."""
    return int(number) if number == int(number) else number


def sse(value: object, event: str | None = None) -> bytes:
    """One server-sent event frame, with an `event:` line where the vendor writes one."""
    head = f"event: {event}\n".encode() if event else b""
    return head + b"data: " + write_json(value) + b"\n\n"


def seal(purpose: str, text: str, prefix: bytes) -> bytes:
    """An opaque value that `is_sealed` recognises later, also in another process; it starts with `prefix`."""
    bound = hashlib.sha256(text.encode()).digest()[:_SEAL_BYTES]
    return prefix + bound + _mac(purpose, bound)


def is_sealed(purpose: str, blob: bytes, prefix: bytes, text: str | None = None) -> bool:
    """Whether this simulator issued `blob` for `purpose`; with `text`, whether it belongs to exactly that text."""
    bound, mac = blob[len(prefix) : -_SEAL_BYTES], blob[-_SEAL_BYTES:]
    if not blob.startswith(prefix) or not hmac.compare_digest(mac, _mac(purpose, bound)):
        return False
    return text is None or bound == hashlib.sha256(text.encode()).digest()[:_SEAL_BYTES]


def decode_base64(text: str) -> bytes | None:
    """The bytes of standard or URL-safe base64, padding optional; None when it is neither."""
    padded = text.replace("-", "+").replace("_", "/").rstrip("=")
    padded += "=" * (-len(padded) % 4)
    try:
        return base64.b64decode(padded, validate=True)
    except (binascii.Error, ValueError):
        return None


def _mac(purpose: str, bound: bytes) -> bytes:
    return hmac.new(_SEAL_KEY, purpose.encode() + b"\0" + bound, hashlib.sha256).digest()[:_SEAL_BYTES]
