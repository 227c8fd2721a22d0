"""How long to wait, in the many ways that vendors say it. All results are seconds from now.

Sources: RFC 9110 10.2.3 (`retry-after`), https://platform.openai.com/docs/guides/rate-limits (`x-ratelimit-*`),
https://docs.anthropic.com/en/api/rate-limits (`anthropic-ratelimit-*`), checked 2026-11-24.
"""

import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from cliproxy.wire.http import Headers, header

_PIECE = re.compile(r"([0-9]+(?:\.[0-9]*)?)(ms|h|m|s)")
_DURATION = re.compile(rf"(?:{_PIECE.pattern})+")
_NUMBER = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]*)?")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def duration(text: str) -> float | None:
    """`1s`, `6m0s`, `1h2m3s`, `300ms` or a bare number of seconds; None for anything else."""
    text = text.strip()
    if _DURATION.fullmatch(text):
        return _finite(sum(float(number) * _SECONDS[unit] for number, unit in _PIECE.findall(text)))
    return max(float(text), 0.0) if _NUMBER.fullmatch(text) else None


def retry_after(headers: Headers, now_at: float) -> float | None:
    """What `retry-after-ms` or `retry-after` (seconds or a date) states. `now_at` is epoch seconds."""
    milliseconds = duration(header(headers, b"retry-after-ms").decode("latin-1"))
    if milliseconds is not None:
        return milliseconds / 1000
    stated = header(headers, b"retry-after").decode("latin-1")
    if not stated:
        return None
    if (seconds := duration(stated)) is not None:
        return seconds
    try:
        return _until(parsedate_to_datetime(stated), now_at)
    except ValueError:
        return None


def until(moment: bytes, now_at: float) -> float | None:
    """Seconds until an RFC 3339 time or a number of epoch seconds; None when it is neither."""
    text = moment.decode("latin-1").strip()
    if _NUMBER.fullmatch(text):
        return max(float(text) - now_at, 0.0)
    try:
        return _until(datetime.fromisoformat(text), now_at)
    except ValueError:
        return None


def _until(moment: datetime, now_at: float) -> float:
    """Vendors that name no zone mean UTC, not ours."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(moment.timestamp() - now_at, 0.0)


def _finite(seconds: float) -> float | None:
    return seconds if math.isfinite(seconds) else None
