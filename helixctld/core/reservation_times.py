"""The calendar of reservations: when they are, when they come again, and whether two of them meet.

Repetition is by local time, as Slurm's: a daily reservation begins at the same time of day also where the clocks
change, and keeps its length.  The time zone is the controller's; what the calendar decides is written into events, so
a replay does not depend on it.  All times are epoch seconds.
"""

from __future__ import annotations

from collections.abc import Iterator

from helix.model.reservation import ReservationRecord
from helix.timefmt import add_days, weekday

HOUR_S = 3600.0
DAY_S = 86400.0
NEVER_S = float("inf")
#: flag -> the longest time one occurrence may last
PERIOD_S: dict[str, float] = {
    "HOURLY": HOUR_S,
    "DAILY": DAY_S,
    "WEEKDAY": DAY_S,
    "WEEKEND": DAY_S,
    "WEEKLY": 7 * DAY_S,
}
_STEP_DAYS = {"DAILY": 1, "WEEKDAY": 1, "WEEKEND": 1, "WEEKLY": 7}
_SATURDAY = 5

Window = tuple[float, float]  #: from, to


def window(r: ReservationRecord, now: float) -> Window:
    """The present occurrence, or the next one."""
    if r.has("TIME_FLOAT"):
        return now + r.float_s, now + r.float_s + (r.t_end - r.t_start)
    return r.t_start, r.t_end


def first_start(repeats: str, t: float, clock_s: int = -1) -> float:
    """The first start at or after `t` on a day that the repetition allows, at the time of day `clock_s`, or of `t`."""
    while not _right_day(repeats, t):
        t = add_days(t, 1, clock_s)
    return t


def next_start(r: ReservationRecord, t: float) -> float:
    """The start after the one at `t`.  One that the change of the clocks moves is back at its time the day after."""
    if r.repeats == "HOURLY":
        return t + HOUR_S
    return first_start(r.repeats, add_days(t, _STEP_DAYS[r.repeats], r.clock_s), r.clock_s)


def _right_day(repeats: str, t: float) -> bool:
    if repeats == "WEEKDAY":
        return weekday(t) < _SATURDAY
    return repeats != "WEEKEND" or weekday(t) >= _SATURDAY


def occurrence_after(r: ReservationRecord, t: float) -> Window | None:
    """The first occurrence, from the one in the record on, that ends after `t`; None when the last has."""
    length = r.t_end - r.t_start
    if r.t_end > t:
        return r.t_start, r.t_end
    repeats = r.repeats
    if not repeats:
        return None
    start = r.t_start
    if repeats == "HOURLY":
        start += max(0.0, (t - r.t_end) // HOUR_S) * HOUR_S
    else:  # near it, but never past it: 25-hour days make the calendar slower than 24-hour steps by an hour at most
        step = _STEP_DAYS[repeats]
        whole = int((t - r.t_end) // (step * DAY_S)) - 1
        if whole > 0:
            start = first_start(repeats, add_days(r.t_start, whole * step, r.clock_s), r.clock_s)
    while start + length <= t:
        start = next_start(r, start)
    return start, start + length


def occurrences(r: ReservationRecord, now: float, until: float, most: int = 64) -> Iterator[Window]:
    """The occurrences that end after `now` and begin before `until`, in order; at most `most`."""
    if r.has("TIME_FLOAT"):
        at = window(r, now)
        if at[0] < until:
            yield at
        return
    found = occurrence_after(r, now)
    while found is not None and found[0] < until and most > 0:
        yield found
        most -= 1
        found = occurrence_after(r, found[1])


def is_met(r: ReservationRecord, t_from: float, t_to: float, now: float) -> Window | None:
    """The first occurrence that has a moment in common with [t_from, t_to)."""
    if r.has("TIME_FLOAT"):
        found: Window | None = window(r, now)
    else:
        found = occurrence_after(r, t_from)
    return found if found is not None and found[0] < t_to and found[1] > t_from else None


def meet(a: ReservationRecord, b: ReservationRecord, now: float) -> Window | None:
    """The first occurrence of `b` that meets one of `a`; both are looked at for a week and a day if both repeat."""
    if not a.repeats:
        t_from, t_to = window(a, now)
        return is_met(b, t_from, t_to, now)
    if not b.repeats:
        t_from, t_to = window(b, now)
        return (t_from, t_to) if is_met(a, t_from, t_to, now) else None
    begin = max(a.t_start, b.t_start)
    for t_from, t_to in occurrences(a, begin - 1.0, begin + 8 * DAY_S, most=200):
        if (found := is_met(b, t_from, t_to, now)) is not None:
            return found
    return None


def advanced(r: ReservationRecord, now: float) -> Window | None:
    """The next occurrence of a reservation whose present one is over at `now`; None if there is none."""
    return occurrence_after(r, now) if r.repeats else None
