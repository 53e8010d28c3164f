"""Reservations that outlive a pass: what `sched/backfill` promised, for the next pass to go by.

Derived, never journaled: after a restart the first pass makes them anew.  A job that left the queue, or came into it
again, has none.  Times are epoch seconds; rows and shares are as the planner gave them.
"""

from __future__ import annotations

import numpy as np

from helix.sched.plan import Later
from helix_native.ahead_arrays import KeptArrays
from helix_native.arrays import Int32, Int64
from helixctld.schedule.queue_columns import Places, QueueColumns


class KeptReservations:
    """The protected reservations of the last full pass."""

    def __init__(self) -> None:
        self._t = 0.0
        self._later: Later | None = None
        self._generation: Int64 = np.zeros(0, np.int64)

    def __len__(self) -> int:
        return 0 if self._later is None else len(self._later.slot)

    def clear(self) -> None:
        """Forget all of them: what nodes there are has changed, or another mode is in use."""
        self._later = None

    def take(self, t: float, later: Later, generation: Int64) -> None:
        """Keep the promises of a plan made for the moment `t` (epoch seconds) in place of all others.

        `generation`: by slot, of the snapshot."""
        self._t, self._later = t, later.only(later.protected)
        self._generation = generation[self._later.slot]

    def next_due(self, now: float) -> float:
        """When the first reservation after `now` comes due, epoch seconds; inf if there is none."""
        if self._later is None:
            return float("inf")
        after = self._later.t_start[self._later.t_start > now - self._t]
        return self._t + float(after.min()) if len(after) else float("inf")

    def freeze(self, now: float, places: Places, queue: QueueColumns) -> KeptArrays | None:
        """By slot, with times from `now` on; None if there are none."""
        later = self._later
        if later is None or not len(later.slot):
            return None
        place_of = np.full(int(places.entry.max(initial=-1)) + 1, -1, np.int32)
        place_of[places.entry] = np.arange(len(places.entry), dtype=np.int32)
        known = later.entry_name < len(place_of)
        entry = np.full(len(later.slot), -1, np.int32)
        entry[known] = place_of[later.entry_name[known]]
        later = later.only((entry >= 0) & queue.present(later.slot, self._generation))
        if not len(later.slot):
            return None
        later = later.in_order(np.argsort(later.slot, kind="stable").astype(np.int32))
        jobs = len(places.generation)
        entries = np.full(jobs, -1, np.int32)
        entries[later.slot] = place_of[later.entry_name]
        start = np.zeros(jobs, np.int64)
        start[later.slot] = np.maximum(0, np.floor(later.t_start + (self._t - now))).astype(np.int64)
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
