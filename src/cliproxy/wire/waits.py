"""How long to wait, in the many ways that vendors say it. All results are seconds from now.

Moments are told in the vendor's time, and our clock may differ: `time_of` is the one place that says what time it is
where an answer was written. What cannot be meant (a wait below zero, a moment long past) is no wait at all, and nothing
is believed for longer than `LONGEST`.

Sources: RFC 9110 10.2.3 (`retry-after`), https://platform.openai.com/docs/guides/rate-limits (`x-ratelimit-*`),
https://docs.anthropic.com/en/api/rate-limits (`anthropic-ratelimit-*`), checked 2026-11-24.
"""

import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from cliproxy.wire.http import Headers, header

_DAY = 86_400.0
LONGEST = 32 * _DAY
"""Plans begin anew each month at the latest."""
LONGEST_RETRY_AFTER = _DAY
"""`retry-after` is about the moment; who writes weeks there has mistaken a unit."""
_LARGEST_SKEW = _DAY
"""A date further from our own time than that is more likely a wrong date than a wrong clock."""
_JUST_PASSED = 60.0
_SOON = 1.0
_EARLIEST_MOMENT = 1e9
_EARLIEST_IN_MILLISECONDS = 1e11

_PIECE = re.compile(r"([0-9]+(?:\.[0-9]*)?)(ms|h|m|s)")
_DURATION = re.compile(rf"(?:{_PIECE.pattern})+")
_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]*)?")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def time_of(headers: Headers, now_at: float) -> float:
    """Epoch seconds at the vendor when it wrote the answer: by its `date`, unless that cannot be right; else ours."""
    stated = header(headers, b"date")
    at = _moment_of_date(stated.decode("latin-1")) if stated else None
    return at if at is not None and abs(at - now_at) <= _LARGEST_SKEW else now_at


def believable(seconds: float | None) -> float | None:
    """`seconds` where they are a wait at all, shortened to `LONGEST`; zero says nothing."""
    if seconds is None or not math.isfinite(seconds) or seconds <= 0:
        return None
    return min(seconds, LONGEST)


def duration(text: str) -> float | None:
    """`1s`, `6m0s`, `1h2m3s`, `300ms` or a bare number of seconds; None for anything else."""
    text = text.strip()
    if _DURATION.fullmatch(text):
        return _finite(sum(float(number) * _SECONDS[unit] for number, unit in _PIECE.findall(text)))
    return float(text) if _NUMBER.fullmatch(text) else None


def retry_after(headers: Headers, now_at: float) -> float | None:
    """What `retry-after-ms` or `retry-after` (seconds or a date) states, a day at most. `now_at` is epoch seconds."""
    milliseconds = duration(header(headers, b"retry-after-ms").decode("latin-1"))
    if milliseconds is not None:
        return min(milliseconds / 1000, LONGEST_RETRY_AFTER)
    stated = header(headers, b"retry-after").decode("latin-1")
    if not stated:
        return None
    seconds = duration(stated)
    if seconds is None and (at := _moment_of_date(stated)) is not None:
        seconds = _until(at, time_of(headers, now_at))
    return None if seconds is None else min(seconds, LONGEST_RETRY_AFTER)


def until(moment: bytes, now_at: float) -> float | None:
    """Seconds until an RFC 3339 time or a number of epoch seconds, or of milliseconds; None when it is neither, or is
    long past. `now_at` is the time where the answer was written (`time_of`)."""
    text = moment.decode("latin-1").strip()
    if _NUMBER.fullmatch(text):
        at = float(text)
        return _until(at / 1000 if at >= _EARLIEST_IN_MILLISECONDS else at, now_at)
    try:
        return _until(_epoch(datetime.fromisoformat(text)), now_at)
    except (ValueError, OverflowError):
        return None


def reset(stated: bytes, now_at: float) -> float | None:
    """Seconds until a reset, where vendors write a duration or a moment under the same name."""
    seconds = duration(stated.decode("latin-1"))
    return until(stated, now_at) if seconds is None or seconds >= _EARLIEST_MOMENT else seconds


def _moment_of_date(text: str) -> float | None:
    try:
        return _epoch(parsedate_to_datetime(text))
    except (ValueError, OverflowError):
        return None


def _epoch(moment: datetime) -> float:
    """Vendors that name no zone mean UTC, not ours."""
    return (moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment).timestamp()


def _until(at: float, now_at: float) -> float | None:
    """What has just passed is about to come true: seconds are cut off, and answers travel."""
    seconds = at - now_at
    if seconds > 0:
        return seconds
    return _SOON if seconds >= -_JUST_PASSED else None


def _finite(seconds: float) -> float | None:
    return seconds if math.isfinite(seconds) else None
