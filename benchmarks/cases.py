"""What is measured: one row per test. The names of models are the language of `upstream.c`, see there."""

from dataclasses import dataclass

PATHS = {"chat": "/v1/chat/completions", "messages": "/v1/messages"}


@dataclass(frozen=True)
class Case:
    """One kind of load.

    `kind` is the dialect of the callers, `upstream_kind` the one that the upstream must have been asked in; where they
    differ the candidate translates. `model` is what the callers ask for, `upstream_model` what the upstream must see.
    `against` names the case whose nginx row this one is compared with, since nginx can only pass bytes through.
    """

    name: str
    says: str
    model: str
    against: str
    kind: str = "chat"
    upstream_kind: str = "chat"
    upstream_model: str = ""
    stream: bool = False
    callers: int = 64
    body_bytes: int = 0
    seconds: float = 3.0
    ramp: float = 0.1

    @property
    def path(self) -> str:
        return PATHS[self.kind]

    @property
    def unit(self) -> str:
        return "event" if self.stream else "request"

    @property
    def events(self) -> int:
        """Deltas that each stream must carry."""
        return int(self.sees.split("-")[1])

    @property
    def sees(self) -> str:
        """The model name that reaches the upstream."""
        return self.upstream_model or self.model

    @property
    def is_renamed(self) -> bool:
        return self.sees != self.model

    @property
    def is_passthrough(self) -> bool:
        return self.kind == self.upstream_kind and not self.is_renamed

    @property
    def is_paced(self) -> bool:
        return self.stream and self.sees.split("-")[2] != "0"


def _paced(name: str, says: str, model: str, **more: str) -> Case:
    return Case(name, says, model, "paced", stream=True, callers=100, seconds=4, ramp=1.0, **more)


CASES = (
    Case("request", "64 callers, 1 KB answers", "bench-10-0", "request"),
    Case("request-100k", "32 callers, 100 KB requests", "bench-10-0", "request-100k", callers=32, body_bytes=100_000),
    Case(
        "messages",
        "64 callers, Anthropic passed through",
        "bench-10-0-claude",
        "messages",
        kind="messages",
        upstream_kind="messages",
    ),
    Case(
        "aliased",
        "64 callers, the model's name replaced both ways",
        "swift-10-0",
        "request",
        upstream_model="bench-10-0-renamed",
    ),
    Case("translated", "64 callers, Anthropic in, Chat Completions upstream", "bench-10-0", "request", kind="messages"),
    _paced("paced", "100 streams, an event every 10 ms", "bench-200-10"),
    _paced(
        "paced-aliased", "the same, the model's name replaced", "swift-200-10", upstream_model="bench-200-10-renamed"
    ),
    _paced("paced-translated", "the same, Chat Completions to Anthropic", "bench-200-10", kind="messages"),
    Case("saturated", "64 streams as fast as they go", "bench-200-0", "saturated", stream=True, ramp=0.5),
    Case(
        "saturated-translated",
        "the same, Chat Completions to Anthropic",
        "bench-200-0",
        "saturated",
        kind="messages",
        stream=True,
        ramp=0.5,
    ),
    Case("ttft", "10 streams, an event every 10 ms", "bench-20-10", "ttft", stream=True, callers=10, ramp=0.3),
)

IDLE = Case(
    "idle",
    "1000 open streams without events",
    "bench-2-120000",
    "idle",
    stream=True,
    callers=1000,
    seconds=45,
    ramp=2.0,
)
COLD = "cold"
PROBE = CASES[0]
NAMES = (*(case.name for case in CASES), IDLE.name, COLD)
