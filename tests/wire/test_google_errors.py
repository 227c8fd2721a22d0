"""Errors of Google's APIs and of the proxies before them, and our own in Google's words."""

import json
from typing import Any

import pytest

from cliproxy.canon.errors import Problem
from cliproxy.wire import google_errors


def _read(status: int, body: bytes) -> Problem:
    return google_errors.read_problem(status, body, "gemini")


def _error(code: int, message: str, status: str, *details: dict[str, Any]) -> bytes:
    return json.dumps({"error": {"code": code, "message": message, "status": status, "details": details}}).encode()


@pytest.mark.parametrize(
    ("status", "body", "kind", "retry_after"),
    [
        (429, _error(429, "m", "RESOURCE_EXHAUSTED", {"retryDelay": "34.07s"}), "rate_limit", 34.07),
        (429, b"[" + _error(429, "Please retry in 300ms.", "RESOURCE_EXHAUSTED") + b"]", "rate_limit", 0.3),
        (429, _error(429, "reset after 1h2m3s", "X", {"violations": [{"quotaId": "RequestsPerDay"}]}), "quota", 3723.0),
        (429, _error(429, "quota exceeded, limit: 0", "X"), "quota", None),
        (429, _error(429, "m", "X", {"reason": "Q", "metadata": {"quotaResetDelay": "1m0.5s"}}), "rate_limit", 60.5),
        (
            400,
            _error(400, "API key not valid.", "INVALID_ARGUMENT", {"reason": "API_KEY_INVALID"}),
            "unauthenticated",
            None,
        ),
        (403, _error(403, "m", "PERMISSION_DENIED", {"reason": "SERVICE_DISABLED"}), "permission", None),
        (503, _error(503, "m", "UNAVAILABLE", {"reason": "MODEL_CAPACITY_EXHAUSTED"}), "overloaded", None),
        (404, _error(404, "m", "NOT_FOUND"), "not_found", None),
        (
            400,
            _error(400, "The input token count (9) exceeds the maximum number of tokens allowed (8).", "X"),
            "context_too_long",
            None,
        ),
        (
            502,
            b"<html><head><style>x</style><title>502</title></head><body>Bad &amp; gone</body></html>",
            "bad_gateway",
            None,
        ),
        (500, b"", "internal", None),
        (500, b"\xff\xfe", "internal", None),
        (500, b"[]", "internal", None),
        (429, b'{"error":"plain words"}', "rate_limit", None),
        (400, b'{"message":"loose"}', "invalid_request", None),
    ],
)
def test_errors_of_any_shape(status: int, body: bytes, kind: str, retry_after: float | None) -> None:
    problem = _read(status, body)

    assert (problem.kind, problem.status) == (kind, status)
    assert problem.retry_after == pytest.approx(retry_after)
    assert problem.message
    assert "<" not in problem.message


def test_a_key_in_a_message_is_not_repeated() -> None:
    problem = _read(403, _error(403, "Consumer api_key:AIzaSyA1234567890123456789012345678 suspended", "X"))

    assert "AIza" not in problem.message


def test_googles_own_error_goes_back_unchanged_and_others_are_told_in_its_words() -> None:
    own = _error(429, "m", "RESOURCE_EXHAUSTED", {"@type": "x", "retryDelay": "3s"})
    problem = _read(429, own)
    html = _read(502, b"<html>x</html>")

    assert google_errors.write_body(problem, "gemini") == own
    assert google_errors.status_of(problem, "gemini") == 429
    assert json.loads(google_errors.write_body(html, "gemini"))["error"]["status"] == "UNAVAILABLE"
    assert json.loads(google_errors.write_body(Problem("missing_parameter", 400, "m"), "gemini")) == {
        "error": {"code": 400, "message": "m", "status": "INVALID_ARGUMENT", "details": []}
    }
    assert google_errors.status_of(Problem("overloaded", 529, "m"), "gemini") == 503
