"""What running jobs take until their limits, as columns: one span a (job, node) and a (job, pool).

A running job ends at its start plus its limit plus the time it was suspended; one that is past that, or being ended,
counts as ending in the next step of the plan.  While a job is suspended its end moves with the clock.  Cost: about
3 us a (job, node) that changed, and at a freeze a pass of numpy over all spans (26,000: about 0.2 ms).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from helix.model.job import JobRecord
from helix.model.job_state import JobState
from helix.sched.history import RunTimes
from helix_native.ahead_arrays import NEVER, SpanArrays
from helix_native.arrays import Int32, Int64
from helixctld.core.state import State
from helixctld.schedule.pool_columns import Amounts
from helixctld.schedule.row_columns import RowColumns
from helixctld.schedule.sources import Sources

_GROW = 256
_FAR = float(NEVER)
_OVERDUE_S = 60  #: least time a job that has run for longer than was likely is given

_COLUMNS = ("_row", "_pool", "_part", "_group", "_start", "_end", "_stopped", "_cpus", "_mem", "_gres")


class SpanColumns:
    """Spans of the jobs it was told of.  `t_end` is epoch seconds; of a suspended job, the seconds it has left."""

    def __init__(self, rows: RowColumns, sources: Sources) -> None:
        self.rows = rows
        self.sources = sources
        self.extended = False  # a job is to end later than it was
        self.released = False  # a job left since the last freeze, early or at its limit
        self._row = np.zeros(0, np.int32)
        self._pool = np.zeros(0, np.int32)
        self._end = np.zeros(0, np.float64)
        self._stopped = np.zeros(0, np.bool_)
        self._cpus = np.zeros(0, np.int64)
        self._mem = np.zeros(0, np.int64)
        self._start = np.zeros(0, np.float64)  # of the job, suspensions left out
        self._group = np.zeros(0, np.int32)  # of the job, in `RunTimes`
        self._part = np.zeros(0, np.int32)  # partition of the job
        self._gres = np.zeros((0, 0), np.int32)
        self.reload()

    def __len__(self) -> int:
        return self._size

    @property
    def jobs(self) -> int:
        """Running jobs known."""
        return len(self._of)

    def reload(self) -> None:
        """Forget everything; the caller takes all jobs again."""
        self._of: dict[int, list[int]] = {}
        self._owner: list[int] = []  # job of each span
        self._size = 0
        self._own: SpanArrays | None = None  # frozen, for as long as no job changes
        self._gres = np.zeros((len(self._row), len(self.sources.gres.kinds)), np.int32)

    def take(self, state: State, job: JobRecord, part: int, pools: Amounts) -> None:
        """Note what an active job takes, in place of what was noted of it before.  `part`: number of its partition,
        -1 if that is gone."""
        before = self._of.get(job.job_id)
        before_end = float(self._end[before[0]]) if before else _FAR
        self._forget(job.job_id)
        self._own = None
        alloc = job.alloc
        if alloc is None:
            return
        end, stopped = end_of(job)
        self.extended |= end > before_end + 1
        spans: list[int] = []
        kinds = len(self.sources.gres.kinds)
        for place, (name, count, mem) in enumerate(zip(alloc.nodes, alloc.cpus, alloc.mem_mib, strict=True)):
            node = state.nodes.get(name)
            if node is None:
                continue
            cpus = 0 if job.yields_cpus else node.cpus if alloc.whole else count
            gres = self.sources.gres.held(job, alloc, place) if kinds else ()
            spans.append(self._put(self.rows.row_of(job, node.index), -1, part, end, stopped, cpus, mem, gres))
        spans.extend(self._put(-1, pool, -1, end, stopped, amount, 0, ()) for pool, amount in pools)
        self._owner.extend([job.job_id] * len(spans))
        self._of[job.job_id] = spans
        self._start[spans] = job.t_start + job.suspended_s

    def set_pools(self, job_id: int, pools: Amounts) -> bool:
        """Take other amounts of the pools that an active job takes from; False if they are other pools."""
        amounts = dict(pools)
        own = [at for at in self._of.get(job_id, ()) if self._pool[at] >= 0]
        if not amounts.keys() <= {int(self._pool[at]) for at in own}:
            return False
        for at in own:
            self._cpus[at] = amounts.get(int(self._pool[at]), 0)
        self._own = None
        return True

    def set_group(self, job_id: int, group: int) -> None:
        """The job's group in `RunTimes`."""
        self._group[self._of.get(job_id, [])] = group

    def likely(self, now: float, history: RunTimes, spans: SpanArrays) -> Int64:
        """When the `spans` of `freeze` will probably end.  A job that has run for longer than was likely gets half as
        long again.  What is known of none (reservations) ends as planned."""
        size = self._size
        run = np.maximum(0.0, now - self._start[:size])
        limit = np.minimum(run + spans.t_to[:size], float(NEVER)).astype(np.int64)
        left = history.estimates(self._group[:size], limit) - run
        left = np.where(left > 0, left, _OVERDUE_S + run / 2)
        found = spans.t_to.copy()
        found[:size] = np.minimum(found[:size], np.ceil(left).astype(np.int64))
        return np.maximum(found, np.minimum(spans.t_to, spans.t_from + 1))

    def drop(self, job_id: int) -> None:
        """The job takes nothing any more."""
        self.released = True
        self._forget(job_id)

    def _forget(self, job_id: int) -> None:
        spans = self._of.pop(job_id, None)
        if spans is None:  # it came and went between two passes
            return
        self._own = None
        for at in sorted(spans, reverse=True):  # the last span takes the place of each
            self._size -= 1
            last, owner = self._size, self._owner.pop()
            if at != last:
                for name in _COLUMNS:
                    column = getattr(self, name)
                    column[at] = column[last]
                self._owner[at] = owner
                own = self._of[owner]
                own[own.index(last)] = at

    def freeze(self, now: float, part_room: Int32) -> SpanArrays:
        """All spans, those of reservations last, with times from `now` (epoch seconds) on.  `part_room`: as in
        `TableArrays`."""
        self.released = False
        size = self._size
        end, stopped = self._end[:size], self._stopped[:size]
        left = np.ceil(np.where(stopped, end, end - now))
        if self._own is None:
            self._own = SpanArrays(
                row=self._row[:size].copy(),
                pool=self._pool[:size].copy(),
                t_from=np.zeros(size, np.int64),
                t_to=np.zeros(size, np.int64),
                cpus=self._cpus[:size].copy(),
                mem=self._mem[:size].copy(),
                gres=self._gres[:size].copy(),
                room=np.full(size, -1, np.int32),
            )
        own = self._own._replace(t_to=np.minimum(np.maximum(left, 1), _FAR).astype(np.int64))
        if (part_room >= 0).any():
            own = own._replace(room=self._rooms(part_room))
        tables = [own, *self.rows.reservation_spans(now, own)]
        if len(tables) == 1:
            return own
        return SpanArrays._make(np.concatenate([getattr(t, name) for t in tables]) for name in SpanArrays._fields)

    def _rooms(self, part_room: Int32) -> Int32:
        return np.append(part_room, -1).astype(np.int32)[self._part[: self._size]]

    def _put(
        self, row: int, pool: int, part: int, end: float, stopped: bool, cpus: int, mem: int, gres: Sequence[int]
    ) -> int:
        at = self._size
        self._size += 1
        if at >= len(self._row):
            self._grow()
        self._row[at], self._pool[at], self._part[at] = row, pool, part
        self._end[at], self._stopped[at] = end, stopped
        self._cpus[at], self._mem[at] = cpus, mem
        if self._gres.shape[1]:
            self._gres[at] = gres if gres else 0
        return at

    def _grow(self) -> None:
        size = max(_GROW, 2 * len(self._row))
        for name in _COLUMNS[:-1]:
            old = getattr(self, name)
            new = np.zeros(size, old.dtype)
            new[: len(old)] = old
            setattr(self, name, new)
        gres = np.zeros((size, len(self.sources.gres.kinds)), np.int32)
        gres[: len(self._gres), : self._gres.shape[1]] = self._gres
        self._gres = gres


def end_of(job: JobRecord) -> tuple[float, bool]:
    """When an active job will have ended, epoch seconds, and False; while it is suspended, the seconds it has left
    and True."""
    if job.state is JobState.COMPLETING:
        return 0.0, False
    if not job.time_limit_s:
        return _FAR, True
    if job.state is JobState.SUSPENDED:
        run_s = job.t_suspended - job.t_start - job.suspended_s
        return max(0.0, job.time_limit_s - run_s), True
    return job.t_start + job.time_limit_s + job.suspended_s, False
