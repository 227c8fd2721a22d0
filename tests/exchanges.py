"""Driving an OAuth exchange by hand: a script of answers in, a transcript of requests and pauses out."""

import json
from base64 import urlsafe_b64encode
from urllib.parse import parse_qsl

from msgspec import Struct

from cliproxy.oauth.base import Answered, Exchange, OAuthError, Pause, Unavailable
from cliproxy.wire.http import HttpRequest

UNREACHABLE = Unavailable("unreachable")


class Sent(Struct, frozen=True):
    """A request as tests compare it. `fields` are those of a form or of a JSON object, in order."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes

    @property
    def fields(self) -> dict[str, object]:
        if self.headers.get("content-type") == "application/json":
            return json.loads(self.body)
        return dict(parse_qsl(self.body.decode(), strict_parsing=True))


class Played(Struct, frozen=True):
    """How an exchange went. `steps` are what was sent and how many seconds were waited, in order."""

    steps: list[Sent | float]
    result: object = None
    error: OAuthError | None = None

    @property
    def requests(self) -> list[Sent]:
        return [step for step in self.steps if isinstance(step, Sent)]

    @property
    def pauses(self) -> list[float]:
        return [step for step in self.steps if isinstance(step, float)]


def play(exchange: Exchange, *script: Answered | OAuthError, then: Answered | None = None) -> Played:
    """Answer each request with the next of `script`; an error in it is thrown. All of it must be used, unless `then`
    answers all that is asked after it."""
    left = list(script)
    steps: list[Sent | float] = []
    reply = None
    try:
        while True:
            step = exchange.throw(reply) if isinstance(reply, OAuthError) else exchange.send(reply)
            reply = None
            if isinstance(step, Pause):
                steps.append(step.seconds)
                continue
            steps.append(sent(step))
            assert left or then, f"one request too many: {steps[-1]}"
            reply = left.pop(0) if left else then
    except StopIteration as stop:
        assert then or not left, f"{len(left)} answers were not asked for"
        return Played(steps, result=stop.value)
    except OAuthError as error:
        assert then or not left, f"{len(left)} answers were not asked for"
        return Played(steps, error=error)


def sent(request: HttpRequest) -> Sent:
    lines = [line.split(": ", 1) for line in request.head.decode().split("\r\n") if line]
    assert request.head == "".join(f"{name}: {value}\r\n" for name, value in lines).encode()
    assert len(lines) == len(dict(lines)), "a header twice"
    url = f"{request.origin.scheme}://{request.origin.authority}{request.target.decode()}"
    return Sent(request.method.decode(), url, dict(lines), request.body)


def answer(body: object = b"", status: int = 200, **headers: str) -> Answered:
    """An answer; what is no bytes becomes JSON. Header names have `_` for `-`."""
    lines = tuple((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items())
    return Answered(status, lines, body if isinstance(body, bytes) else json.dumps(body).encode())


def jwt(**claims: object) -> str:
    parts = [{"alg": "RS256"}, claims]
    encoded = [urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*encoded, "c2lnbmF0dXJl"])


def counting_bytes(size: int) -> bytes:
    """Randomness that is none."""
    return bytes(range(size))


def said(error: OAuthError | None) -> str:
    """All that an error shows of itself."""
    assert error is not None
    return f"{error} {error!r} {error.told} {error.args} {error.__cause__}"
