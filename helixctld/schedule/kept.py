"""Reservations that outlive a pass: what `sched/backfill` promised, for the next pass to go by.

Derived, never journaled: after a restart the first pass makes them anew.  A job that left the queue, or came into it
again, has none.  Times are epoch seconds; rows and shares are as the planner gave them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from helix.sched.plan import Later
from helix_native.ahead_arrays import KeptArrays
from helix_native.arrays import Int32, Int64
from helixctld.schedule.queue_columns import Places, QueueColumns

Float64 = NDArray[np.float64]


def steady(start: Float64, generation: Int64, old_start: Float64, old_generation: Int64, step_s: float) -> Float64:
    """Starts by slot, epoch seconds; one that is less than a step of the plan later than the same job's old one is the
    old one: the steps are counted from the moment of each pass, and a promise must not creep with them."""
    count = min(len(start), len(old_start))
    old, new = old_start[:count], start[:count]
    same = generation[:count] == old_generation[:count]
    found = start.copy()
    found[:count] = np.where(same & (new > old) & (new < old + step_s), old, new)
    return found


class KeptReservations:
    """The protected reservations of the last pass."""

    def __init__(self) -> None:
        self._later: Later | None = None
        self._start: Float64 = np.zeros(0, np.float64)  # by slot, epoch seconds; inf = none
        self._generation: Int64 = np.zeros(0, np.int64)  # by slot

    def __len__(self) -> int:
        return 0 if self._later is None else len(self._later.slot)

    def clear(self) -> None:
        """Forget all of them: what nodes there are has changed, or another mode is in use."""
        self._later = None
        self._start, self._generation = np.zeros(0, np.float64), np.zeros(0, np.int64)

    def take(self, t: float, later: Later, generation: Int64, step_s: int) -> None:
        """Keep the promises of a plan made for the moment `t` (epoch seconds) in place of all others.

        `generation`: by slot, of the snapshot; `step_s`: resolution of the plan."""
        self._later = later = later.only(later.protected)
        start = np.full(len(generation), np.inf)
        start[later.slot] = t + later.t_start
        self._start = steady(start, generation, self._start, self._generation, step_s)
        self._generation = generation

    def next_due(self, now: float) -> float:
        """When the first reservation after `now` comes due, epoch seconds; inf if there is none."""
        return float(self._start[self._start > now].min(initial=np.inf))

    def freeze(self, now: float, places: Places, queue: QueueColumns, step_s: int) -> KeptArrays | None:
        """By slot, with times from `now` on, in whole steps; None if there are none."""
        later = self._later
        if later is None or not len(later.slot):
            return None
        place_of = np.full(int(places.entry.max(initial=-1)) + 1, -1, np.int32)
        place_of[places.entry] = np.arange(len(places.entry), dtype=np.int32)
        known = later.entry_name < len(place_of)
        entry = np.full(len(later.slot), -1, np.int32)
        entry[known] = place_of[later.entry_name[known]]
        later = later.only((entry >= 0) & queue.present(later.slot, self._generation[later.slot]))
        if not len(later.slot):
            return None
        later = later.in_order(np.argsort(later.slot, kind="stable").astype(np.int32))
        jobs = len(places.generation)
        entries = np.full(jobs, -1, np.int32)
        entries[later.slot] = place_of[later.entry_name]
        start = np.zeros(jobs, np.int64)
        steps = np.ceil((self._start[later.slot] - now) / step_s)
        start[later.slot] = np.maximum(0, steps).astype(np.int64) * step_s
        limit = np.zeros(jobs, np.int64)
        limit[later.slot] = later.limit_s
        counts: Int32 = np.zeros(jobs, np.int32)
        counts[later.slot] = np.diff(later.ptr)
        return KeptArrays(
            entry=entries,
            start=start,
            limit_s=limit,
            ptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
            row=later.row,
            cpus=later.cpus,
            mem=later.mem,
            chunk=later.chunk,
        )
