"""One caller's request on its way: what came, and what it becomes for each upstream that is tried."""

import msgspec
from msgspec import Struct, structs

from cliproxy.canon import carrier
from cliproxy.canon.errors import InvalidJson, MissingParameter
from cliproxy.canon.estimate import estimate
from cliproxy.canon.losses import Loss
from cliproxy.canon.naming import ToolNames
from cliproxy.canon.passes import fitted
from cliproxy.canon.request import Request, Thinking
from cliproxy.dialects.base import Dialect, Echo
from cliproxy.gateway.affinity import session_of
from cliproxy.gateway.recording import Recorder
from cliproxy.gateway.snapshot import Snapshot
from cliproxy.gateway.tally import Tally
from cliproxy.providers.base import Operation, Upstream
from cliproxy.routing.session import Session
from cliproxy.wire import json
from cliproxy.wire.http import Headers


class Head(Struct):
    """What routing needs of a body; the rest stays bytes."""

    model: str = ""
    stream: bool | None = None


_decode_head = msgspec.json.Decoder(Head)


class Prepared(Struct, frozen=True):
    """A body for one upstream. `is_native`: the caller speaks the upstream's dialect, and the answer may pass as it is.

    A native body is the caller's own bytes, but for the model's name where that differs; it is written anew only when
    the model's name held a wish about thinking, or the history holds another vendor's signatures.
    """

    body: bytes
    is_native: bool
    names: ToolNames
    losses: tuple[Loss, ...] = ()


_NO_NAMES = ToolNames({})
_UNKNOWN = Session(b"")


class Call:
    """`model` is the name that the caller used; `thinking` is what stood in it as a suffix. `tally` counts what serving
    the call takes."""

    __slots__ = (
        "_prepared",
        "_request",
        "_session",
        "body",
        "dialect",
        "headers",
        "is_stream",
        "model",
        "model_in_address",
        "operation",
        "recorder",
        "request_id",
        "tally",
        "thinking",
    )

    def __init__(
        self,
        dialect: Dialect,
        body: bytes,
        headers: Headers,
        request_id: str,
        *,
        model: str = "",
        is_stream: bool | None = None,
        operation: Operation = "generate",
    ) -> None:
        """`model` and `is_stream` as the address gave them; else the body must tell.

        Raises InvalidJson, InvalidRequest or MissingParameter.
        """
        self.dialect = dialect
        self.body = body
        self.headers = headers
        self.request_id = request_id
        self.recorder: Recorder | None = None
        self.operation: Operation = operation
        self.model_in_address = bool(model)
        self.thinking: Thinking | None = None
        head = _read_head(body)
        self.model = model or head.model
        self.is_stream = bool(head.stream) if is_stream is None else is_stream
        if not self.model:
            raise MissingParameter("`model` is required.", param="model")
        self.tally = Tally(dialect.name, self.model, self.is_stream)
        self._request: Request | None = None
        self._session: Session | None = _UNKNOWN
        self._prepared: dict[tuple[int, str, str], Prepared] = {}

    @property
    def request(self) -> Request:
        """The request in canon, read once. Raises CallerFault."""
        if self._request is None:
            request = self.dialect.read_request(self.body, model=self.model, is_stream=self.is_stream)
            self._request = structs.replace(request, thinking=self._thinking(request))
        return self._request

    @property
    def session(self) -> Session | None:
        """The conversation that the call belongs to, looked for once."""
        if self._session is _UNKNOWN:
            self._session = session_of(self.dialect, self.headers, self.body)
        return self._session

    def prepare(self, upstream: Upstream, model: str, snapshot: Snapshot) -> Prepared:
        """The body for `upstream`, which knows the model as `model`. The same upstream always gets the same bytes."""
        key = (id(upstream.dialect), upstream.fit.reasoning, model)
        prepared = self._prepared.get(key)
        if prepared is None:
            prepared = self._prepared[key] = self._prepare(upstream, model, snapshot)
        return prepared

    def echo(self, seed: str, now_at: float) -> Echo:
        request = self.request
        return Echo(self.model, request, seed, int(now_at), estimate(request))

    def _thinking(self, request: Request) -> Thinking:
        """What the name of the model says wins over the body; what to see of it, the caller's dialect decides."""
        thinking = self.thinking or request.thinking
        is_shown = request.thinking.is_shown
        if is_shown is None and self.dialect.shows_reasoning and thinking.mode not in (None, "off"):
            is_shown = True
        return structs.replace(thinking, is_shown=is_shown)

    def _prepare(self, upstream: Upstream, model: str, snapshot: Snapshot) -> Prepared:
        is_native = self.dialect.name == upstream.dialect.name
        is_foreign = carrier.travels_in(self.body)
        if is_native and self.thinking is None and not is_foreign:
            if self.model_in_address or model == self.model:
                return Prepared(self.body, is_native=True, names=_NO_NAMES)
            return Prepared(json.replaced(self.body, ("model",), json.encode(model)), is_native=True, names=_NO_NAMES)
        fit = fitted(structs.replace(self.request, model=model), upstream.fit, snapshot.capability(model))
        written = upstream.dialect.write_request(fit.request)
        return Prepared(written.body, is_native and not fit.names, fit.names, fit.losses + written.losses)


def _read_head(body: bytes) -> Head:
    if not body.strip():
        raise InvalidJson("The body is empty; a JSON object is expected.")
    head = json.decode_as(_decode_head, body)
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError as error:
            raise InvalidJson(json.describe(error)) from error
    return head
