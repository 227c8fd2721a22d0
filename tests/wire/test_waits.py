import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cliproxy.wire.waits import LONGEST, believable, duration, reset, retry_after, time_of, until

NOW = 1_700_000_000.0  # 2023-11-14T22:13:20Z


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("1h2m3s", 3723.0),
        ("300ms", 0.3),
        ("1.5s", 1.5),
        ("2m59.56s", 179.56),
        ("1m30s200ms", 90.2),
        ("20", 20.0),
        (" 0.5 ", 0.5),
        ("0", 0.0),
        ("-3", None),
        ("3.", 3.0),
        ("", None),
        ("soon", None),
        ("in 5s", None),
        ("5s or so", None),
        ("5 s", None),
        ("1e9", None),
        ("nan", None),
        ("inf", None),
        ("infinity", None),
        ("1_000", None),
        ("٣", None),
        ("9" * 400, None),
        ("9" * 400 + "h", None),
    ],
)
def test_durations_in_the_words_of_vendors(text: str, seconds: float | None) -> None:
    assert duration(text) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "1m"}, 60.0),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after-ms": "", "retry-after": "9"}, 9.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:14:20 GMT"}, 60.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:14:20 -0000"}, 60.0),
        ({"retry-after": "Tue, 14 Nov 2023 23:14:20 +0100"}, 60.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:12:50 GMT"}, 1.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:12:19 GMT"}, None),
        ({"retry-after": "Mon, 01 Jan 0001 00:00:00 -0000"}, None),
        ({"retry-after": "Tue, 14 Nov 2023 22:14:20 GMT", "date": "Tue, 14 Nov 2023 22:14:00 GMT"}, 20.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:14:20 GMT", "date": "Tue, 14 Nov 2000 22:14:00 GMT"}, 60.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:14:20 GMT", "date": "now"}, 60.0),
        ({"retry-after": "Tue, 14 Nov 2033 22:14:20 GMT"}, 86_400.0),
        ({"retry-after": "86401"}, 86_400.0),
        ({"retry-after-ms": "86400001"}, 86_400.0),
        ({"retry-after": "Mon, 01 Jan 99999 00:00:00 GMT"}, None),
        ({"retry-after": "later"}, None),
        ({"retry-after": "\xff"}, None),
    ],
)
def test_what_headers_say_of_waiting(headers: dict[str, str], seconds: float | None) -> None:
    pairs = tuple((name.encode(), value.encode("latin-1")) for name, value in headers.items())

    assert retry_after(pairs, NOW) == seconds


@pytest.mark.parametrize(
    ("moment", "seconds"),
    [
        (b"1700000060", 60.0),
        (b"1700000000.5", 0.5),
        (b"1699999990", 1.0),
        (b"1600000000", None),
        (b"1700000060000", 60.0),
        (b"2023-11-14T22:14:20Z", 60.0),
        (b"2023-11-14T22:13:20.250000Z", 0.25),
        (b"2023-11-14T23:14:20+01:00", 60.0),
        (b"2023-11-14T22:14:20", 60.0),
        (b"0001-01-01T00:00:00", None),
        (b"", None),
        (b"tomorrow", None),
        (b"\xb2", None),
        (b"9" * 400, None),
        (b"nan", None),
    ],
)
def test_moments_become_waits(moment: bytes, seconds: float | None) -> None:
    assert until(moment, NOW) == seconds


@pytest.mark.parametrize(
    ("stated", "seconds"),
    [(b"1s", 1.0), (b"60", 60.0), (b"1700000060", 60.0), (b"1700000060000", 60.0), (b"2023-11-14T22:14:20Z", 60.0), (b"x", None)],
)  # fmt: skip
def test_a_reset_is_a_duration_or_a_moment(stated: bytes, seconds: float | None) -> None:
    assert reset(stated, NOW) == seconds


@pytest.mark.parametrize(
    ("seconds", "believed"),
    [(None, None), (math.nan, None), (math.inf, None), (-1.0, None), (0.0, None), (0.5, 0.5), (1e9, LONGEST)],
)
def test_nonsense_is_no_wait_and_nothing_lasts_for_years(seconds: float | None, believed: float | None) -> None:
    assert believable(seconds) == believed


@pytest.mark.parametrize(
    ("date", "at"),
    [
        ("Tue, 14 Nov 2023 22:13:50 GMT", NOW + 30),
        ("Tue, 14 Nov 2023 21:13:20 GMT", NOW - 3600),
        ("Tue, 14 Nov 2023 21:13:20 -0000", NOW - 3600),
        ("Tue, 14 Nov 2000 22:13:50 GMT", NOW),
        ("Thu, 01 Jan 1970 00:00:00 GMT", NOW),
        ("Mon, 01 Jan 99999 00:00:00 GMT", NOW),
        ("soon", NOW),
        ("", NOW),
    ],
)
def test_the_vendors_clock_is_the_one_that_counts(date: str, at: float) -> None:
    assert time_of(((b"date", date.encode()),), NOW) == at


@settings(deadline=None)
@given(text=st.text(st.sampled_from("0123456789.-+:TZ smhe_ni,GMTue\xff"), max_size=40))
def test_no_text_leads_to_a_wait_that_is_none(text: str) -> None:
    for wait in (
        duration(text),
        until(text.encode("latin-1"), NOW),
        retry_after(((b"retry-after", text.encode("latin-1")),), NOW),
    ):
        assert wait is None or (math.isfinite(wait) and wait >= 0)
