"""Everything that can go wrong, as values and as exceptions.

    GatewayError
    |-- CallerFault             never touches an account's health, never retried
    |   |-- InvalidRequest        400  invalid_request
    |   |-- ContextTooLong        400  context_too_long
    |   |-- Unauthenticated       401  unauthenticated
    |   |-- Forbidden             403  permission
    |   |-- NotFound              404  not_found
    |   |-- ModelNotFound         404  model_not_found
    |   |-- MethodNotAllowed      405  method_not_allowed
    |   |-- SlowRequest           408  request_timeout
    |   |-- Conflict              409  conflict
    |   |-- Gone                  410  gone
    |   |-- PreconditionFailed    412  precondition
    |   |-- TooLarge              413  too_large
    |   |-- UpgradeRequired       426  upgrade_required
    |   `-- Unsupported           501  unsupported
    |-- UpstreamFault           the vendor, or the way to it
    |   |-- UpstreamRefused       any  as the vendor said
    |   |-- RateLimited           429  rate_limit
    |   |-- BrokenAnswer          502  bad_gateway
    |   |-- Unreachable           502  unreachable
    |   |-- Overloaded            503  overloaded
    |   `-- UpstreamTimeout       504  gateway_timeout
    `-- GatewayFault            ours
        |-- NoAccount             503  no_account
        |-- SaveFailed          500  internal
        `-- Internal            500  internal

A class docstring is the default message. The value behind each exception is a `Problem`, which dialects write.
"""

from typing import ClassVar, Literal

from msgspec import Struct, structs

Kind = Literal[
    "invalid_request",
    "invalid_json",
    "missing_parameter",
    "context_too_long",
    "unauthenticated",
    "billing",
    "permission",
    "not_found",
    "model_not_found",
    "method_not_allowed",
    "request_timeout",
    "conflict",
    "gone",
    "precondition",
    "too_large",
    "upgrade_required",
    "rate_limit",
    "quota",
    "internal",
    "unsupported",
    "bad_gateway",
    "unreachable",
    "overloaded",
    "gateway_timeout",
    "no_account",
]


class Problem(Struct, frozen=True):
    """An error as a value.

    `message` is for people and never holds a secret. `code` and `param` are the vendor's or the field's own words.
    `retry_after` is in seconds. `native` is the vendor's body and `dialect` its dialect: callers of the same dialect
    get it unchanged.
    """

    kind: Kind
    status: int
    message: str
    code: str = ""
    param: str = ""
    retry_after: float | None = None
    dialect: str = ""
    native: bytes = b""

    def seen_as(self, status: int, kind: Kind, message: str) -> "Problem":
        """The same event told otherwise; the vendor's own body no longer fits and is left out."""
        return structs.replace(self, status=status, kind=kind, message=message, native=b"", dialect="")


class GatewayError(Exception):
    """Something went wrong."""

    status: ClassVar[int] = 500
    kind: ClassVar[Kind] = "internal"

    brought: bytes | None = None
    """The body of the request that failed, for its record; None when it was not read or is not worth one."""

    def __init__(
        self,
        message: str = "",
        *,
        param: str = "",
        code: str = "",
        retry_after: float | None = None,
        problem: Problem | None = None,
    ) -> None:
        if problem is None:
            text = message or (type(self).__doc__ or "").strip()
            problem = Problem(self.kind, self.status, text, code=code, param=param, retry_after=retry_after)
        self.problem = problem
        super().__init__(problem.message)


class CallerFault(GatewayError):
    """The request cannot be served as it is."""

    status, kind = 400, "invalid_request"


class InvalidRequest(CallerFault):
    """The request is invalid."""


class InvalidJson(CallerFault):
    """The body is not valid JSON."""

    kind = "invalid_json"


class MissingParameter(CallerFault):
    """A required field is missing."""

    kind = "missing_parameter"


class ContextTooLong(CallerFault):
    """The conversation is longer than the model's context window: prompt is too long."""

    kind = "context_too_long"


class Unauthenticated(CallerFault):
    """The API key is missing or wrong."""

    status, kind = 401, "unauthenticated"


class Forbidden(CallerFault):
    """This is not allowed from here."""

    status, kind = 403, "permission"


class NotFound(CallerFault):
    """There is nothing at this address."""

    status, kind = 404, "not_found"


class ModelNotFound(CallerFault):
    """No account serves this model."""

    status, kind = 404, "model_not_found"


class MethodNotAllowed(CallerFault):
    """This address does not take that method."""

    status, kind = 405, "method_not_allowed"


class SlowRequest(CallerFault):
    """The request did not arrive in time."""

    status, kind = 408, "request_timeout"


class Conflict(CallerFault):
    """This does not fit the state of what it is about."""

    status, kind = 409, "conflict"


class Gone(CallerFault):
    """This is not offered."""

    status, kind = 410, "gone"


class PreconditionFailed(CallerFault):
    """It was changed since it was read: read it again, and decide anew."""

    status, kind = 412, "precondition"


class TooLarge(CallerFault):
    """The request is larger than this gateway accepts."""

    status, kind = 413, "too_large"


class UpgradeRequired(CallerFault):
    """WebSocket is not served here; send the request by HTTP POST."""

    status, kind = 426, "upgrade_required"


class Unsupported(CallerFault):
    """This is not supported."""

    status, kind = 501, "unsupported"


class UpstreamFault(GatewayError):
    """The upstream failed."""

    status, kind = 502, "bad_gateway"


class UpstreamRefused(UpstreamFault):
    """The upstream refused the request."""


class RateLimited(UpstreamFault):
    """All accounts for this model are out of quota for now."""

    status, kind = 429, "rate_limit"


class BrokenAnswer(UpstreamFault):
    """The upstream's answer was broken or incomplete."""


class Unreachable(UpstreamFault):
    """The upstream could not be reached."""

    kind = "unreachable"


class Overloaded(UpstreamFault):
    """The upstream is overloaded."""

    status, kind = 503, "overloaded"


class UpstreamTimeout(UpstreamFault):
    """The upstream did not answer in time."""

    status, kind = 504, "gateway_timeout"


class GatewayFault(GatewayError):
    """The gateway cannot serve this now."""


class NoAccount(GatewayFault):
    """No usable account is configured for this model."""

    status, kind = 503, "no_account"


class SaveFailed(GatewayFault):
    """A file could not be written."""


class Internal(GatewayFault):
    """The gateway failed to handle this request. The log has the details under this request id."""


STATUS_KINDS: dict[int, Kind] = {
    400: "invalid_request",
    401: "unauthenticated",
    402: "billing",
    403: "permission",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    409: "conflict",
    413: "too_large",
    422: "invalid_request",
    429: "rate_limit",
    500: "internal",
    501: "unsupported",
    502: "bad_gateway",
    503: "overloaded",
    504: "gateway_timeout",
    529: "overloaded",
}


def kind_of_status(status: int) -> Kind:
    """The kind that an HTTP status speaks of when nothing better is known."""
    if (kind := STATUS_KINDS.get(status)) is not None:
        return kind
    return "invalid_request" if status < 500 else "bad_gateway"
