"""The queue as columns: an entry for each (job, partition), kept in the order in which they are to be tried.

Order: partition tier (high first), priority (high first), submit time, job id (an array's, with tasks that were
requeued before those not yet started), place of the partition in the job's list.  A few changes are merged into the
sorted order; many are sorted anew.  Cost: about 5 us a changed job, and at a freeze one pass of numpy over the queue
if it changed (100,000 entries: about 2 ms).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from helix.model.job import JobRecord, JobSpec
from helix.sched.history import RunTimes
from helix_native.ahead_arrays import NEVER, JobArrays
from helix_native.arrays import Int8, Int32, Int64, QueueArrays

_LAST_TASK = 1 << 40  #: an array's own record comes after its tasks
_SLOTS_LEAST = 64  #: a table of no more slots is never cut
_TIER_SHIFT = 34  #: priorities are below 2**32 (clamped to 2**33), tiers below 2**16


@dataclass(slots=True)
class Entry:
    """A job in one partition, in one of the ways in which it can be served."""

    tier: int
    position: int  # order among the job's own
    shape: int
    limit_s: int


class Places(NamedTuple):
    """What is behind the indexes of a frozen queue; names stay the same from pass to pass while a job waits."""

    entry: Int32  # [E] name of each entry
    generation: Int64  # [J] counts the jobs that had the slot


@dataclass(slots=True)
class _Slot:
    spec: JobSpec
    priority: int
    excluded: int  # how many nodes it avoids; they are only ever added
    entries: list[int]
    shapes: list[int]


#: columns by slot that a planner that looks ahead needs; times in epoch seconds, 0 = none
_AHEAD = (
    "told_pool",
    "_user",
    "_generation",
    "_group",
    "_limit",
    "_limit_min",
    "_deadline",
    "_begin",
    "_eligible",
    "_pool_at",
    "_pool_n",
    "_no_reserve",
)


class QueueColumns:
    """Slots are jobs, entries are (job, partition)."""

    def __init__(self) -> None:
        self.slot_of: dict[int, int] = {}
        self._slots: list[_Slot | None] = []
        self._free_slots: list[int] = []  # heap: low ones first, so that a table that was long once can be cut again
        self._job_id = np.zeros(64, np.int64)
        self._count = np.zeros(64, np.int32)
        self.told = np.zeros(64, np.int8)
        self.told_pool = np.full(64, -1, np.int32)
        self._user = np.zeros(64, np.int64)
        self._generation = np.zeros(64, np.int64)
        self._group = np.zeros(64, np.int32)
        self._limit = np.zeros(64, np.int64)
        self._limit_min = np.zeros(64, np.int64)
        self._deadline = np.zeros(64, np.float64)
        self._begin = np.zeros(64, np.float64)
        self._eligible = np.zeros(64, np.float64)
        self._pool_at = np.zeros(64, np.int32)
        self._pool_n = np.zeros(64, np.int32)
        self._no_reserve = np.zeros(64, np.bool_)
        self._unreserving = 0  # how many have that flag
        self._entries = 0
        self._free_entries: list[int] = []
        self._e_key = np.zeros(64, np.int64)
        self._e_time = np.zeros(64, np.float64)
        self._e_id = np.zeros(64, np.int64)
        self._e_task = np.zeros(64, np.int64)
        self._e_job = np.zeros(64, np.int32)
        self._e_pos = np.zeros(64, np.int32)
        self._e_shape = np.zeros(64, np.int32)
        self._e_limit = np.zeros(64, np.int64)
        self._alive = np.zeros(64, np.bool_)
        self._order = np.zeros(0, np.int32)
        self._order_key = np.zeros(0, np.int64)
        self._new: list[int] = []
        self._moved: set[int] = set()  # in `_order`, or in `_new`, with another key than they had there
        self._dead: list[int] = []
        self._dead_slots: list[int] = []
        self._frozen: QueueArrays | None = None
        self._ids: Int64 | None = None
        #: by slot: what waiting does not change; generations; users
        self._fixed: tuple[JobArrays, Int64, Int64] | None = None

    def __len__(self) -> int:
        return len(self.slot_of)

    def spec_of(self, job_id: int) -> JobSpec | None:
        """The spec the columns hold for a job; None if it is not in the queue."""
        slot = self.slot_of.get(job_id)
        held = self._slots[slot] if slot is not None else None
        return held.spec if held is not None else None

    def spec_since(self, job_id: int, generation: Int64) -> JobSpec | None:
        """The same; None also for a job that came into the queue, or into it again, after `generation` was frozen: its
        request may have another row by now."""
        slot = self.slot_of.get(job_id, len(generation))
        known = slot < len(generation) and self._generation[slot] == generation[slot]
        return self.spec_of(job_id) if known else None

    def has_several_partitions(self, job_id: int) -> bool:
        """True if the job, which is in the queue, may start in more than one partition."""
        spec = self.spec_of(job_id)
        return spec is not None and len(spec.partitions) > 1

    def shapes_of(self, job_id: int) -> list[int]:
        """The head rows of its request, one a partition; [] if it is not in the queue."""
        slot = self.slot_of.get(job_id)
        held = self._slots[slot] if slot is not None else None
        return held.shapes if held is not None else []

    def same(self, job_id: int, spec: JobSpec, priority: int, excluded: int) -> bool:
        """True if the job is in the queue just so, or needs no more than `recount`."""
        slot = self.slot_of.get(job_id)
        if slot is None:
            return False
        held = self._slots[slot]
        return held is not None and held.spec is spec and held.priority == priority and held.excluded == excluded

    def recount(self, job: JobRecord, count: int, told: int) -> None:
        """How many starts the job allows now, the code of the reason it shows, and since when it has waited: it may
        have run between two looks."""
        slot = self.slot_of[job.job_id]
        self.told[slot] = told
        self._eligible[slot] = _eligible_since(job)
        if self._count[slot] != count:
            self._count[slot] = count
            self._frozen = None if self._frozen is None else self._frozen._replace(starts=self._count_copy())

    def add(self, job: JobRecord, count: int, told: int, entries: list[Entry], shapes: list[int]) -> None:
        """Put a job into the queue; it must not be there.  `shapes`: what `remove` gives back."""
        job_id, priority = job.job_id, job.priority
        slot = heappop(self._free_slots) if self._free_slots else self._grow_slots()
        self.slot_of[job_id] = slot
        self._job_id[slot], self._count[slot], self.told[slot] = job_id, count, told
        task = _LAST_TASK if job.array_task_id is None else job.array_task_id
        ids = []
        for entry in entries:
            e = self._free_entries.pop() if self._free_entries else self._grow_entries()
            self._e_key[e] = -(entry.tier << _TIER_SHIFT) - min(priority, 1 << 33)
            self._e_time[e], self._e_job[e], self._e_pos[e] = job.t_submit, slot, entry.position
            self._e_id[e], self._e_task[e] = job.array_job_id or job_id, task
            self._e_shape[e], self._e_limit[e] = entry.shape, entry.limit_s
            self._alive[e] = True
            ids.append(e)
        self._new.extend(ids)
        self._generation[slot] += 1
        self._user[slot] = job.uid
        spec = job.spec
        self._limit_min[slot], self._deadline[slot], self._begin[slot] = spec.time_min_s, spec.t_deadline, spec.t_begin
        self._eligible[slot] = _eligible_since(job)
        self._pool_at[slot] = self._pool_n[slot] = self._group[slot] = 0
        self._limit[slot] = min((entry.limit_s or NEVER for entry in entries), default=NEVER)
        self.told_pool[slot] = -1
        self._slots[slot] = _Slot(spec, priority, len(job.excluded_nodes), ids, shapes)
        self._frozen = self._ids = self._fixed = None

    def set_pools(self, job_id: int, at: int, count: int) -> None:
        """Where the list of pools of a job is (`PoolColumns.wanted`)."""
        slot = self.slot_of[job_id]
        self._pool_at[slot], self._pool_n[slot] = at, count
        self._fixed = None

    def set_no_reserve(self, job_id: int, flag: bool) -> None:
        """Whether the job is never promised a start."""
        slot = self.slot_of[job_id]
        self._unreserving += int(flag) - int(self._no_reserve[slot])
        self._no_reserve[slot] = flag

    def no_reserve(self) -> NDArray[np.bool_] | None:
        """Jobs that are never promised a start; None if there are none.  [J]"""
        return self._no_reserve[: max(1, len(self._slots))].copy() if self._unreserving else None

    def set_group(self, job_id: int, group: int) -> None:
        """The job's group in `RunTimes`."""
        self._group[self.slot_of[job_id]] = group

    def estimates(self, history: RunTimes) -> Int64:
        """How long each job will probably run, seconds.  [J]"""
        count = max(1, len(self._slots))
        return history.estimates(self._group[:count], self._limit[:count])

    def recent(self, history: RunTimes) -> Int64:
        """How long the last jobs of each job's user ran, at most its limit, seconds.  [J]"""
        count = max(1, len(self._slots))
        return history.recent(self._group[:count], self._limit[:count])

    def generation_of(self, slot: int) -> int:
        """Counts the jobs that had the slot."""
        return int(self._generation[slot])

    def eligible(self) -> NDArray[np.float64]:
        """When jobs became eligible, epoch seconds; not to be kept.  [J]"""
        return self._eligible[: max(1, len(self._slots))]

    def users(self) -> Int64:
        """Uid by slot.  [J]"""
        return self._user[: max(1, len(self._slots))].copy() if self._fixed is None else self._fixed[2]

    def set_priorities(self, priorities: Mapping[int, int]) -> None:
        """Take new priorities (by job id) of jobs in the queue; they find their places at the next freeze."""
        for job_id, priority in priorities.items():
            slot = self.slot_of.get(job_id)
            held = self._slots[slot] if slot is not None else None
            if held is None or held.priority == priority:
                continue
            for e in held.entries:
                self._e_key[e] += min(held.priority, 1 << 33) - min(priority, 1 << 33)
                self._moved.add(e)
            held.priority = priority
            self._frozen = None

    def remove(self, job_id: int) -> list[int]:
        """Take a job out; the shapes it no longer needs ([] if it was not there)."""
        slot = self.slot_of.get(job_id)
        if slot is None:
            return []
        self.set_no_reserve(job_id, False)
        del self.slot_of[job_id]
        held = self._slots[slot]
        assert held is not None
        self._slots[slot] = None
        self._job_id[slot], self._count[slot] = 0, 0
        self._alive[held.entries] = False
        self._dead.extend(held.entries)
        self._dead_slots.append(slot)
        self._frozen = self._ids = None
        return held.shapes

    def freeze(self) -> tuple[QueueArrays, Int64, Int8]:
        """The queue in order, job ids by slot, and what was told by slot; never written again."""
        if self._frozen is None:
            self._settle()
            self._frozen = QueueArrays(
                shape=self._e_shape[self._order],
                job=self._e_job[self._order],
                limit_s=self._e_limit[self._order],
                starts=self._count_copy(),
            )
        if self._ids is None:
            self._ids = self._job_id[: max(1, len(self._slots))].copy()
        return self._frozen, self._ids, self.told[: max(1, len(self._slots))].copy()

    def in_order(self) -> Int64:
        """Job ids in the order in which they are tried, once for each entry."""
        queue, ids, _ = self.freeze()
        return ids[queue.job]

    def freeze_ahead(self, now: float, pool: Int32, amount: Int64) -> tuple[JobArrays, Places]:
        """What goes with the queue of `freeze`, with times from `now` (epoch seconds) on.  `pool`, `amount`: the lists
        that `set_pools` points into."""
        count = max(1, len(self._slots))
        if self._fixed is None:
            self._fixed = (
                JobArrays(
                    limit_min_s=self._limit_min[:count].copy(),
                    t_deadline=np.full(count, NEVER, np.int64),
                    t_begin=np.zeros(count, np.int64),
                    waited_s=np.zeros(count, np.int64),
                    order=self._limit[:count].copy(),
                    pool_at=self._pool_at[:count].copy(),
                    pool_n=self._pool_n[:count].copy(),
                    pool=pool,
                    amount=amount,
                ),
                self._generation[:count].copy(),
                self._user[:count].copy(),
            )
        jobs, generation, _ = self._fixed
        jobs = jobs._replace(
            waited_s=np.maximum(now - self._eligible[:count], 0).astype(np.int64), pool=pool, amount=amount
        )
        deadline, begin = self._deadline[:count], self._begin[:count]
        if deadline.any():  # a job without a limit may start as long as its deadline has not passed
            due = (deadline > 0) & (self._limit[:count] < NEVER)
            jobs = jobs._replace(t_deadline=np.where(due, np.floor(deadline - now), NEVER).astype(np.int64))
        if begin.any():
            jobs = jobs._replace(t_begin=np.ceil(np.maximum(begin - now, 0)).astype(np.int64))
        return jobs, Places(self._order, generation)

    def present(self, slots: Int32, generations: Int64) -> NDArray[np.bool_]:
        """Which of these jobs are still the ones that had the slots."""
        inside = slots < len(self._slots)
        good = np.zeros(len(slots), np.bool_)
        at = slots[inside]
        good[inside] = (self._generation[at] == generations[inside]) & (self._job_id[at] > 0)
        return good

    def ahead_of(self, job_id: int, shapes_part: Int32, part: int, gone: Collection[int]) -> int:
        """How many jobs come before this one in partition `part` (a shape's partition is `shapes_part[shape]`).

        `gone`: jobs that have left the queue since the last update.  A job not yet in the queue comes last.
        """
        self._settle()
        jobs = self._e_job[self._order]
        inside = shapes_part[self._e_shape[self._order]] == part
        slot = self.slot_of.get(job_id, -1)
        mine = np.flatnonzero(inside & (jobs == slot))
        end = int(mine[0]) if len(mine) else len(jobs)
        before = np.zeros(max(1, len(self._slots)), np.bool_)
        before[jobs[:end][inside[:end]]] = True
        before[[self.slot_of[other] for other in gone if other in self.slot_of]] = False
        return int(before.sum())

    def ahead_slots(self, job: JobRecord) -> NDArray[np.bool_]:
        """Slots of the jobs that are tried before this one; a job that is not in the queue comes after those of equal
        priority.  Partition tiers count as in the order of the queue.  [J]"""
        self._settle()
        found = np.zeros(max(1, len(self._slots)), np.bool_)
        slot = self.slot_of.get(job.job_id)
        held = self._slots[slot] if slot is not None else None
        if held is not None and held.entries:
            first = int((self._e_job[self._order] == slot).argmax())
            found[self._e_job[self._order[:first]]] = True
            found[slot] = False
            return found
        priority = -self._e_key[self._order] & ((1 << _TIER_SHIFT) - 1)
        found[self._e_job[self._order[priority >= min(job.priority, 1 << 33)]]] = True
        return found

    def _count_copy(self) -> Int32:
        return self._count[: max(1, len(self._slots))].copy()

    def _settle(self) -> None:
        """Bring `_order` up to date."""
        if self._moved:  # out of their places, and in again as if they were new
            gone = np.zeros(max(1, self._entries), np.bool_)
            gone[list(self._moved)] = True
            self._order = self._order[~gone[self._order]]
            self._order_key = self._e_key[self._order]
            self._new = [*(e for e in self._new if e not in self._moved), *self._moved]
            self._moved = set()
        if self._dead:
            keep = self._alive[self._order]
            self._order, self._order_key = self._order[keep], self._order_key[keep]
            self._new = [e for e in self._new if self._alive[e]]
            self._free_entries.extend(self._dead)
            self._dead = []
        for slot in self._dead_slots:
            heappush(self._free_slots, slot)
        self._dead_slots = []
        if len(self._slots) > max(_SLOTS_LEAST, 4 * len(self.slot_of)) and self._slots[-1] is None:
            self._cut_slots()
        if not self._new:
            return
        new = self._sorted(np.array(self._new, np.int32))
        if len(new) > 64 + len(self._order) // 16:
            self._order = self._sorted(np.concatenate([self._order, new]))
        else:
            self._order = np.insert(self._order, [self._place(int(e)) for e in new], new)
        self._order_key = self._e_key[self._order]
        self._new = []

    def _sorted(self, entries: Int32) -> Int32:
        columns = (self._e_pos, self._e_task, self._e_id, self._e_time, self._e_key)
        return entries[np.lexsort([column[entries] for column in columns])]

    def _place(self, e: int) -> int:
        """Where entry `e` goes in the present order."""
        lo = int(np.searchsorted(self._order_key, self._e_key[e], "left"))
        hi = int(np.searchsorted(self._order_key, self._e_key[e], "right"))
        if lo == hi:
            return lo
        return bisect_right(range(hi), self._tie(e), lo, hi, key=lambda at: self._tie(int(self._order[at])))

    def _tie(self, e: int) -> tuple[float, int, int, int]:
        return float(self._e_time[e]), int(self._e_id[e]), int(self._e_task[e]), int(self._e_pos[e])

    def _cut_slots(self) -> None:
        """Drop the free slots at the end: every pass copies what is by slot.  Generations stay in their column."""
        while len(self._slots) > _SLOTS_LEAST and self._slots[-1] is None:
            self._slots.pop()
        self._free_slots = [slot for slot in self._free_slots if slot < len(self._slots)]
        heapify(self._free_slots)
        self._frozen = self._ids = self._fixed = None

    def _grow_slots(self) -> int:
        slot = len(self._slots)
        self._slots.append(None)
        if slot >= len(self._job_id):
            for name in ("_job_id", "_count", "told", *_AHEAD):
                column = getattr(self, name)
                setattr(self, name, np.concatenate([column, np.zeros_like(column)]))
        return slot

    def _grow_entries(self) -> int:
        e = self._entries
        self._entries += 1
        if e >= len(self._e_key):
            for name in ("_e_key", "_e_time", "_e_id", "_e_task", "_e_job", "_e_pos", "_e_shape", "_e_limit", "_alive"):
                column = getattr(self, name)
                setattr(self, name, np.concatenate([column, np.zeros_like(column)]))
        return e


def _eligible_since(job: JobRecord) -> float:
    return job.t_eligible or job.t_submit
