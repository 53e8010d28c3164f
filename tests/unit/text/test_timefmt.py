"""`helix.timefmt`: limits, moments, and how times are shown."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from helix.errors import UsageError
from helix.timefmt import format_elapsed, format_time_limit, format_timestamp, parse_time_limit, parse_when

DAY = 86400


@pytest.fixture(autouse=True)
def _berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A zone whose clocks change, written out so that no zone files are needed."""
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def at(text: str) -> float:
    """Epoch seconds of a local time."""
    return time.mktime(time.strptime(text, "%Y-%m-%d %H:%M:%S"))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 1800), ("0", 0), ("5:30", 330), ("1:02:03", 3723), ("2-3", 2 * DAY + 3 * 3600), ("2-3:04", 2 * DAY + 11040),
     ("2-03:04:05", 2 * DAY + 11045), ("UNLIMITED", 0), ("infinite", 0), ("-1", 0), (" 10 ", 600), ("90:00:00", 324000),
     ("0:90:00", 5400), ("0:01", 1)],
)  # fmt: skip
def test_time_limits(text: str, seconds: int) -> None:
    assert parse_time_limit(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "x", "1:", ":1", "1:2:3:4", "1-", "-2", "1-2-3", "1.5", "1h", "1_0", "١", "9" * 9, "1-:3", "99999999-0"],
)
def test_refuses_what_is_not_a_time_limit(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_time_limit(text)
    assert caught.value.code == "TIME_INVALID"


NOW = "2026-11-21 14:30:00"  # a Saturday


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("now", NOW),
        ("now+60", "2026-11-21 14:31:00"),
        ("now+1hour", "2026-11-21 15:30:00"),
        ("now + 2 days", "2026-11-23 14:30:00"),
        ("now+3min", "2026-11-21 14:33:00"),
        ("now+1week", "2026-11-28 14:30:00"),
        ("now-1day", "2026-11-20 14:30:00"),
        ("16:00", "2026-11-21 16:00:00"),
        ("10:00", "2026-11-22 10:00:00"),
        ("10:00:30", "2026-11-22 10:00:30"),
        ("4:00 PM", "2026-11-21 16:00:00"),
        ("4:00pm", "2026-11-21 16:00:00"),
        ("12:00am", "2026-11-22 00:00:00"),
        ("12:30 pm", "2026-11-22 12:30:00"),
        ("midnight", "2026-11-22 00:00:00"),
        ("noon", "2026-11-22 12:00:00"),
        ("teatime", "2026-11-21 16:00:00"),
        ("fika", "2026-11-21 15:00:00"),
        ("today", "2026-11-21 00:00:00"),
        ("today 18:00", "2026-11-21 18:00:00"),
        ("tomorrow", "2026-11-22 00:00:00"),
        ("noon tomorrow", "2026-11-22 12:00:00"),
        ("2027-01-02", "2027-01-02 00:00:00"),
        ("2027-01-02T03:04", "2027-01-02 03:04:00"),
        ("2027-01-02T03:04:05", "2027-01-02 03:04:05"),
        ("2027-01-02 03:04", "2027-01-02 03:04:00"),
        ("1225", "2026-12-25 00:00:00"),
        ("0101", "2027-01-01 00:00:00"),
        ("1121", "2026-11-21 00:00:00"),
        ("122527", "2027-12-25 00:00:00"),
        ("12/25", "2026-12-25 00:00:00"),
        ("12/25/27", "2027-12-25 00:00:00"),
        ("12/25/27-10:30", "2027-12-25 10:30:00"),
        ("12.25.2027", "2027-12-25 00:00:00"),
        ("11/21 10:00", "2027-11-21 10:00:00"),
        ("2/29", "2028-02-29 00:00:00"),
        ("2020-01-01", "2020-01-01 00:00:00"),
    ],
)
def test_moments(text: str, moment: str) -> None:
    assert parse_when(text, at(NOW)) == at(moment)


@pytest.mark.parametrize(
    "text",
    ["", "soon", "now+", "now+x", "now+1lightyear", "25:00", "10:60", "13:00 pm", "0:30am", "2026-13-01", "2026-02-30",
     "1332", "99/99", "2/30", "10:00 11:00", "today tomorrow", "2026-11-21T", "2026-11-21T10", "now+99999999999",
     "1600-01-01", "9999-01-01", "x" * 1000, "12/25.27", "am", "10:00 am pm", "١٠:٠٠"],
)  # fmt: skip
def test_refuses_what_is_not_a_moment(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_when(text, at(NOW))
    assert caught.value.code == "TIME_INVALID"
    assert "\n" not in caught.value.msg


def test_tomorrow_is_the_next_day_also_when_the_clocks_change() -> None:
    assert parse_when("tomorrow", at("2026-10-25 00:10:00")) == at("2026-10-26 00:00:00")
    assert parse_when("tomorrow 10:00", at("2026-03-28 23:50:00")) == at("2026-03-29 10:00:00")


@pytest.mark.parametrize(
    ("seconds", "short", "padded"),
    [(0, "0:00", "00:00:00"), (7, "0:07", "00:00:07"), (3723, "1:02:03", "01:02:03"), (-5, "0:00", "00:00:00"),
     (2 * DAY + 1, "2-00:00:01", "2-00:00:01"), (59.9, "0:59", "00:00:59"), (36000, "10:00:00", "10:00:00")],
)  # fmt: skip
def test_elapsed(seconds: float, short: str, padded: str) -> None:
    assert format_elapsed(seconds) == short
    assert format_elapsed(seconds, padded=True) == padded


def test_limits_print_as_they_are_read() -> None:
    assert format_time_limit(0) == "UNLIMITED"
    for seconds in (1, 60, 3599, 3600, DAY, 5 * DAY + 61):
        assert parse_time_limit(format_time_limit(seconds)) == seconds


def test_time_stamps() -> None:
    assert format_timestamp(at(NOW)) == "2026-11-21T14:30:00"
    assert format_timestamp(0) == "N/A"
    assert format_timestamp(0, missing="Unknown") == "Unknown"
    assert format_timestamp(at(NOW), style="%H.%M") == "14.30"
    assert format_timestamp(1e30) == "N/A"


@pytest.mark.parametrize(
    ("moment", "shown"),
    [(NOW, "14:30:00"), ("2026-11-20 09:05:00", "Ystday 09:05"), ("2026-11-22 09:05:00", "Tomorr 09:05"),
     ("2026-11-25 09:05:00", "Wed 09:05"), ("2026-12-24 09:05:00", "24 Dec 09:05"),
     ("2027-12-24 09:05:00", "24 Dec 2027")],
)  # fmt: skip
def test_relative_time_stamps(moment: str, shown: str) -> None:
    assert format_timestamp(at(moment), style="relative", now=at(NOW)) == shown
