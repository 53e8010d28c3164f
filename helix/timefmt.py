"""Times as users write and read them: time limits, moments, elapsed times, time stamps.

Owns Slurm's grammars (sbatch(1): --time, --begin, --deadline) and the way back.  Time limits are whole seconds with
0 for "no limit"; moments are epoch seconds.  Local time is the process's (TZ); the present is always an argument.
Slurm rounds limits up to minutes; Helix keeps the seconds.

Standard library only and cheap to import: the commands use it.
"""

from __future__ import annotations

import re
import time

from helix.errors import UsageError
from helix.quoting import one_line

UNLIMITED_S = 0  #: a time limit of 0 is none
MAX_LIMIT_S = 100 * 366 * 86400  #: longest time limit taken: a century
MIN_YEAR, MAX_YEAR = 1970, 2199  #: years a moment may lie in

_NO_LIMIT = frozenset({"unlimited", "infinite", "-1"})
_LIMIT = re.compile(
    r"(?:(?P<days>[0-9]{1,9})-)?(?P<a>[0-9]{1,10})(?::(?P<b>[0-9]{1,10}))?(?::(?P<c>[0-9]{1,10}))?", re.ASCII
)
_LIMIT_FORM = "the forms are minutes, mm:ss, hh:mm:ss, d-hh, d-hh:mm, d-hh:mm:ss and UNLIMITED"

_NOW = re.compile(r"now(?:\s*([+-])\s*([0-9]{1,10})\s*([a-z]*))?", re.ASCII)
_UNITS = (("seconds", 1), ("minutes", 60), ("hours", 3600), ("days", 86400), ("weeks", 7 * 86400))
_DAY_TIMES = {"midnight": 0, "elevenses": 11, "noon": 12, "fika": 15, "teatime": 16}
_CLOCK = re.compile(r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(?:\.[0-9]{1,9})?)?\s*(am|pm)?", re.ASCII)
_ISO_DATE = re.compile(r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})", re.ASCII)
_US_DATE = re.compile(r"([0-9]{1,2})([/.])([0-9]{1,2})(?:\2([0-9]{4}|[0-9]{2}))?", re.ASCII)
_DIGIT_DATE = re.compile(r"([0-9]{2})([0-9]{2})([0-9]{2})?", re.ASCII)
_WHEN_FORM = (
    "the forms are now+1hour, HH:MM[:SS] [AM|PM], YYYY-MM-DD[THH:MM[:SS]], MMDD[YY], MM/DD[/YY], noon, tomorrow"
)
MAX_TEXT_CHARS = 64  #: no moment or limit is longer

_Date = tuple[int, int, int]


def parse_time_limit(text: str) -> int:
    """A time limit in seconds, 0 for UNLIMITED (also `INFINITE`, `-1` and `0`).  Raises UsageError (TIME_INVALID)."""
    shown = text.strip()
    if shown.lower() in _NO_LIMIT:
        return UNLIMITED_S
    match = _LIMIT.fullmatch(shown)
    if not match:
        raise UsageError(f"bad time limit '{one_line(shown)}'", code="TIME_INVALID", hint=_LIMIT_FORM)
    days, b, c = match["days"], match["b"], match["c"]
    a = int(match["a"])
    if days is not None:
        seconds = int(days) * 86400 + a * 3600 + int(b or 0) * 60 + int(c or 0)
    elif b is None:
        seconds = a * 60
    elif c is None:
        seconds = a * 60 + int(b)
    else:
        seconds = a * 3600 + int(b) * 60 + int(c)
    if seconds > MAX_LIMIT_S:
        raise UsageError(
            f"time limit '{one_line(shown)}' is longer than a century",
            code="TIME_INVALID",
            hint="UNLIMITED means no limit",
        )
    return seconds


def parse_when(text: str, now: float) -> float:
    """The moment `text` names, in epoch seconds; a time of day that is past today is tomorrow's.

    A date without a year is its next occurrence.  Raises UsageError (TIME_INVALID).
    """
    shown = text.strip()
    low = shown.lower()
    if len(low) > MAX_TEXT_CHARS or not low:
        raise _bad_when(shown, "it is empty" if not low else "it is too long")
    match = _NOW.fullmatch(low)
    if match:
        return _from_now(match, shown, now)
    date, clock = _split_moment(low, shown)
    today = time.localtime(now)
    if date is None:
        assert clock is not None
        moment = _moment((today.tm_year, today.tm_mon, today.tm_mday), clock, shown)
        if moment < now:
            moment = _moment(_next_day(today), clock, shown)
        return moment
    if date == "today":
        return _moment((today.tm_year, today.tm_mon, today.tm_mday), clock or (0, 0, 0), shown)
    if date == "tomorrow":
        return _moment(_next_day(today), clock or (0, 0, 0), shown)
    year, month, day = _parse_date(date, shown)
    if year is not None:
        return _moment((year, month, day), clock or (0, 0, 0), shown)
    # 29 February can be eight years away (2096 to 2104).
    for candidate in range(today.tm_year, today.tm_year + 9):
        if _is_date(candidate, month, day):
            moment = _moment((candidate, month, day), clock or (0, 0, 0), shown)
            # A bare date means the whole day: today's is not past.
            last = moment if clock else moment + 86399
            if last >= now:
                return moment
    raise _bad_when(shown, "there is no such day")


def add_days(t: float, days: int, clock_s: int = -1) -> float:
    """The same time of day so many days later, in local time: 23 or 25 hours where the clocks change between.

    `clock_s`: the time of day in place of that of `t`, seconds from midnight by the clock on the wall.
    """
    there = time.localtime(t)
    clock_s = clock_of(t) if clock_s < 0 else clock_s
    day = (there.tm_year, there.tm_mon, there.tm_mday + days)
    return time.mktime((*day, clock_s // 3600, clock_s // 60 % 60, clock_s % 60, 0, 0, -1)) + t % 1.0


def clock_of(t: float) -> int:
    """The time of day, seconds from midnight by the clock on the wall."""
    there = time.localtime(t)
    return there.tm_hour * 3600 + there.tm_min * 60 + there.tm_sec


def next_period(t: float, period: str) -> float:
    """When the period that `t` lies in is over, in local time: DAILY, WEEKLY (Sunday), MONTHLY, QUARTERLY, YEARLY."""
    there = time.localtime(t)
    year, month, day = there.tm_year, there.tm_mon, there.tm_mday
    if period == "DAILY":
        day += 1
    elif period == "WEEKLY":
        day += 7 - (there.tm_wday + 1) % 7
    elif period == "MONTHLY":
        month, day = month + 1, 1
    elif period == "QUARTERLY":
        month, day = month - (month - 1) % 3 + 3, 1
    else:
        year, month, day = year + 1, 1, 1
    return time.mktime((year, month, day, 0, 0, 0, 0, 0, -1))


def weekday(t: float) -> int:
    """The day of the week in local time: 0 = Monday."""
    return time.localtime(t).tm_wday


def format_time_limit(seconds: int) -> str:
    """A time limit as squeue prints it: `5:00`, `1:00:00`, `2-00:00:00`, `UNLIMITED` for 0."""
    return "UNLIMITED" if seconds == UNLIMITED_S else format_elapsed(seconds)


def format_elapsed(seconds: float, *, padded: bool = False) -> str:
    """A length of time, whole seconds, cut: `0:07`, `1:02:03`, `4-05:06:07`; `padded` always shows `HH:MM:SS`.

    squeue prints the short form, scontrol and sacct the padded one.  Negative lengths (a clock that was set back)
    count as 0.
    """
    total = max(0, int(seconds))
    minutes, secs = divmod(total, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}-{hours:02d}:{minutes:02d}:{secs:02d}"
    if padded:
        return f"{hours:02d}:{minutes:02d}:{secs:02d}"
    if hours:
        return f"{hours}:{minutes:02d}:{secs:02d}"
    return f"{minutes}:{secs:02d}"


def format_timestamp(t: float, *, style: str = "standard", now: float = 0.0, missing: str = "N/A") -> str:
    """A moment in local time: `2026-11-21T01:48:00`; `missing` for 0.

    `style` is the value of SLURM_TIME_FORMAT: `standard`, `relative` (short, needs `now`), or a strftime(3) format.
    """
    if t <= 0:
        return missing
    try:
        there = time.localtime(t)
    except (OverflowError, ValueError, OSError):
        return missing
    if style == "relative":
        return _relative(there, time.localtime(now))
    return time.strftime("%Y-%m-%dT%H:%M:%S" if style in ("", "standard") else style, there)


def _from_now(match: re.Match[str], shown: str, now: float) -> float:
    sign, count, word = match[1], match[2], match[3]
    if sign is None:
        return now
    scale = 1
    if word:
        scale = next((size for name, size in _UNITS if name.startswith(word) or name[:-1] == word), 0)
        # `min` and `sec` and `hr` are how people write them.
        scale = scale or {"mins": 60, "secs": 1, "hr": 3600, "hrs": 3600}.get(word, 0)
        if not scale:
            raise _bad_when(shown, f"'{one_line(word)}' is not seconds, minutes, hours, days or weeks")
    delta = int(count) * scale
    if delta > MAX_LIMIT_S:
        raise _bad_when(shown, "it is more than a century away")
    return now - delta if sign == "-" else now + delta


def _split_moment(low: str, shown: str) -> tuple[str | None, tuple[int, int, int] | None]:
    """The date word or text, and the time of day, in either order; at least one is there."""
    joined = re.fullmatch(r"([0-9][0-9./-]*)[t-]([0-9]{1,2}:.*)", low)  # 2026-11-21t10:00, 11/21/26-10:00
    words = [joined[1], *joined[2].split()] if joined else low.split()
    dates: list[str] = []
    clocks: list[str] = []
    for word in words:
        if word in ("am", "pm") and clocks:
            clocks[-1] += word
        elif word in _DAY_TIMES or ":" in word:
            clocks.append(word)
        else:
            dates.append(word)
    if len(dates) > 1 or len(clocks) > 1:
        raise _bad_when(shown, "it is not a moment")
    return (dates[0] if dates else None), (_parse_clock(clocks[0], shown) if clocks else None)


def _parse_clock(word: str, shown: str) -> tuple[int, int, int]:
    if word in _DAY_TIMES:
        return _DAY_TIMES[word], 0, 0
    match = _CLOCK.fullmatch(word)
    if not match:
        raise _bad_when(shown, f"'{one_line(word)}' is not a time of day")
    hour, minute, second = int(match[1]), int(match[2]), int(match[3] or 0)
    if match[4]:
        if not 1 <= hour <= 12:
            raise _bad_when(shown, f"hour {hour} does not go with {match[4].upper()}")
        hour = hour % 12 + (12 if match[4] == "pm" else 0)
    if hour > 23 or minute > 59 or second > 59:
        raise _bad_when(shown, f"'{one_line(word)}' is not a time of day")
    return hour, minute, second


def _parse_date(word: str, shown: str) -> tuple[int | None, int, int]:
    """Year (None when not given), month, day."""
    year: int | None = None
    if match := _ISO_DATE.fullmatch(word):
        year, month, day = int(match[1]), int(match[2]), int(match[3])
    elif match := _US_DATE.fullmatch(word):
        month, day = int(match[1]), int(match[3])
        if match[4]:
            year = int(match[4]) + (2000 if len(match[4]) == 2 else 0)
    elif match := _DIGIT_DATE.fullmatch(word):
        month, day = int(match[1]), int(match[2])
        if match[3]:
            year = 2000 + int(match[3])
    else:
        raise _bad_when(shown, f"'{one_line(word)}' is not a date")
    if year is not None and not (MIN_YEAR <= year <= MAX_YEAR and _is_date(year, month, day)):
        raise _bad_when(shown, "there is no such day")
    return year, month, day


def _is_date(year: int, month: int, day: int) -> bool:
    if not 1 <= month <= 12 or day < 1:
        return False
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return day <= (31, 29 if leap else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)[month - 1]


def _next_day(day: time.struct_time) -> _Date:
    # Noon plus 24 h is always the next day, also where the clocks change.
    noon = time.mktime((day.tm_year, day.tm_mon, day.tm_mday, 12, 0, 0, 0, 0, -1))
    after = time.localtime(noon + 86400)
    return after.tm_year, after.tm_mon, after.tm_mday


def _moment(date: _Date, clock: tuple[int, int, int], shown: str) -> float:
    try:
        return time.mktime((*date, *clock, 0, 0, -1))
    except (OverflowError, ValueError) as error:
        raise _bad_when(shown, "it is out of range") from error


def _relative(there: time.struct_time, now: time.struct_time) -> str:
    """The clock if it is today, a word for the days beside it, the weekday within a week, else the date."""
    a = time.mktime((there.tm_year, there.tm_mon, there.tm_mday, 12, 0, 0, 0, 0, -1))
    b = time.mktime((now.tm_year, now.tm_mon, now.tm_mday, 12, 0, 0, 0, 0, -1))
    days = round((a - b) / 86400)
    if days == 0:
        return time.strftime("%H:%M:%S", there)
    if days in (-1, 1):
        return ("Ystday " if days < 0 else "Tomorr ") + time.strftime("%H:%M", there)
    if -6 <= days <= 6:
        return time.strftime("%a %H:%M", there)
    return time.strftime("%-d %b %H:%M", there) if there.tm_year == now.tm_year else time.strftime("%-d %b %Y", there)


def _bad_when(shown: str, why: str) -> UsageError:
    return UsageError(f"bad time '{one_line(shown)}': {why}", code="TIME_INVALID", hint=_WHEN_FORM)
