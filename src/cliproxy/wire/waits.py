"""How long to wait, in the many ways that vendors say it. All results are seconds from now.

Sources: RFC 9110 10.2.3 (`retry-after`), https://platform.openai.com/docs/guides/rate-limits (`x-ratelimit-*`),
https://docs.anthropic.com/en/api/rate-limits (`anthropic-ratelimit-*`), checked 2026-11-24.
"""

import re
from datetime import datetime
from email.utils import parsedate_to_datetime

from cliproxy.wire.http import Headers, header

_PIECE = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def duration(text: str) -> float | None:
    """`1s`, `6m0s`, `1h2m3s`, `300ms` or a bare number of seconds; None for anything else."""
    text = text.strip()
    if pieces := _PIECE.findall(text):
        return sum(float(number) * _SECONDS[unit] for number, unit in pieces)
    try:
        return max(float(text), 0.0)
    except ValueError:
        return None


def retry_after(headers: Headers, now_at: float) -> float | None:
    """What `retry-after-ms` or `retry-after` (seconds or a date) states. `now_at` is epoch seconds."""
    if milliseconds := header(headers, b"retry-after-ms"):
        seconds = duration(milliseconds.decode("latin-1"))
        return None if seconds is None else seconds / 1000
    stated = header(headers, b"retry-after").decode("latin-1")
    if not stated:
        return None
    if (seconds := duration(stated)) is not None:
        return seconds
    try:
        return max(parsedate_to_datetime(stated).timestamp() - now_at, 0.0)
    except ValueError:
        return None


def until(moment: bytes, now_at: float) -> float | None:
    """Seconds until an RFC 3339 time or a number of epoch seconds; None when it is neither."""
    text = moment.decode("latin-1").strip()
    try:
        at = float(text) if text.replace(".", "", 1).isdigit() else datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None
    return max(at - now_at, 0.0)
