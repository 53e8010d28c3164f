"""The planner's view of the state, kept incrementally: `update` takes what changed, `freeze` gives a snapshot.

Owns the draining of `State.dirty_*` (one Columns a state).  Invariants after `update`: the queue holds exactly the
jobs of `state.schedulable` that have a partition, each with the spec, priority and count it has now; the spans and
the pools hold exactly the jobs of `state.active`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from itertools import product

import numpy as np
from msgspec.structs import astuple

from helix.model.job import JobRecord
from helix.model.job_state import JobState
from helix.model.partition import PartitionRecord
from helix.sched.history import RunTimes
from helix.sched.options import SchedOptions
from helix.sched.request import is_late, normalise, shape_key, time_limit_s
from helix.sched.snapshot import CODES, Snapshot
from helix_native.ahead_arrays import NEVER, PoolArrays, SpanArrays
from helix_native.arrays import UNTESTED, QueueArrays
from helixctld.core.limits import closed_partitions, partition_for
from helixctld.core.reservation_index import asked, may_use
from helixctld.core.state import State
from helixctld.schedule.admission import who_of
from helixctld.schedule.kept import KeptReservations
from helixctld.schedule.node_columns import NodeColumns
from helixctld.schedule.pool_columns import PoolColumns
from helixctld.schedule.queue_columns import Entry, QueueColumns
from helixctld.schedule.row_columns import RowColumns
from helixctld.schedule.shape_columns import MakeRequest, ShapeColumns
from helixctld.schedule.sources import Sources
from helixctld.schedule.span_columns import SpanColumns

#: states after which a run time says something about the next
_TELLING = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.TIMEOUT, JobState.OUT_OF_MEMORY})
SPARE_SHAPES = 64  #: shapes that are kept although no job asks for them now
_SLICE = 16  #: jobs taken between two looks at the time
_NONE = np.zeros(0, np.int64)


class Columns:
    """Nodes and rows, shapes, queue, pools, and what running jobs take."""

    def __init__(
        self,
        options: SchedOptions | None = None,
        make_request: MakeRequest = normalise,
        sources: Sources | None = None,
    ) -> None:
        self.sources = sources or Sources()
        self.nodes = NodeColumns()
        self.rows = RowColumns(self.nodes, self.sources)
        self.shapes = ShapeColumns(self.nodes, self.rows, self.sources, options or SchedOptions(), make_request)
        self.rows.reservations.options = self.shapes.options
        self.queue = QueueColumns()
        self.pools = PoolColumns(self.sources)
        self.history = RunTimes()
        self.spans = SpanColumns(self.rows, self.sources)
        self.revision = 0
        self._spare: deque[int] = deque()  # shapes no job needs now, oldest first
        self.peeking = False
        self._loaded = False
        self._magnets: list[tuple[object, ...]] = []
        self._static_seen = -1
        self._accounts_seen = -1
        self._pools_of: list[int] = []  # jobs that are still to be asked what they take of pools
        self._partition_marks: list[tuple[object, ...]] = []
        self._reloads = 0
        self._kinds: tuple[str, ...] = ()

    @property
    def cluster_version(self) -> tuple[int, int]:
        """Changes whenever what a request could ever get may have changed."""
        return self.nodes.static_version, self._reloads

    def set_options(self, options: SchedOptions) -> None:
        """Take a changed configuration; the next update normalises every request again."""
        self.shapes.options = self.rows.reservations.options = options
        self._partition_marks = []

    def update(self, state: State) -> None:
        """Take everything that changed since the last call."""
        self.update_cluster(state)
        if not self._loaded:
            self._loaded = True
            for _, job_id in state.finished:
                if (ended := state.jobs.get(job_id)) is not None and not ended.is_array:
                    self._learn(ended)
            state.dirty_active.update(state.active)
            state.dirty_jobs.update(state.schedulable)
        self.catch_up_pools(state)
        self._take_running(state)
        self.take_jobs(state, state.dirty_jobs)
        state.dirty_jobs.clear()

    def catch_up_pools(self, state: State, enough: Callable[[], bool] | None = None) -> bool:
        """Ask again what jobs take of the pools, where that may have changed; until `enough` says so.  True if all is
        done."""
        if self.pools.is_stale() or self.pools.is_sparse(len(self.queue)):
            self.pools.reload(state)
            self._pools_of = [*self.queue.slot_of, *state.active]
            state.dirty_minutes.clear()
        left = self._pools_of
        while left or state.dirty_minutes or not self.pools.let_go(_SLICE):
            for _ in range(min(_SLICE, len(left))):
                self._take_pools(state, left.pop())
            for _ in range(min(_SLICE, len(state.dirty_minutes))):
                self._take_pools(state, state.dirty_minutes.pop())
            if enough is not None and enough():
                return False
        return True

    def _take_pools(self, state: State, job_id: int) -> None:
        """What a job takes of pools, nothing else of it having changed."""
        job = state.jobs.get(job_id)
        if job is None or job_id in state.dirty_active or job_id in state.dirty_jobs:
            return  # all of it will be taken
        if job.is_active:
            if not self.spans.set_pools(job_id, self.pools.take_running(state, job)):
                self._take_active(state, job_id)
        elif job_id in self.queue.slot_of:
            self._set_pools(state, job)

    def is_behind(self, state: State) -> bool:
        """True while the accounts have changed and not all jobs have been looked at since: nothing may start."""
        return bool(self._pools_of or state.to_look_at) or self.pools.is_stale()

    def take_running(self, state: State) -> None:
        """Take what changed of running jobs only, so that the pools are the state's; the queue stays as it is."""
        if not self.is_behind(state) and not self.nodes.is_stale(state):
            self._take_running(state)

    def peek(self, state: State) -> None:
        """Take nodes and partitions without draining anything: for columns that only answer questions, once."""
        self.peeking = True
        self.nodes.reload(state)
        self.rows.reload(state)
        self.shapes.reload_partitions(state)

    def freeze(
        self, now: float, kept: KeptReservations | None = None, *, full: bool = True, compress: bool = False
    ) -> Snapshot:
        """The snapshot of this moment.  `now`: epoch seconds; `kept`: reservations of an earlier pass to go by;
        `full`, `compress`: see `Snapshot`."""
        self.revision += 1
        queue, ids, told = self.queue.freeze()
        count = len(ids)
        shapes, tables = self.shapes.freeze()
        reservations = self.rows.reservations
        queue = self._within(queue, reservations.closes(now))
        nodes, rows = self.rows.freeze(self.nodes.freeze(), now)
        needs, extra = self.shapes.freeze_needs(rows.host)
        pools, pool, amount = self.pools.freeze()
        jobs, places = self.queue.freeze_ahead(now, pool, amount)
        pools, spans = self.with_licences(now, pools, self.spans.freeze(now, tables.part_room))
        return Snapshot(
            t=now,
            revision=self.revision,
            nodes=nodes,
            shapes=shapes,
            tables=tables,
            queue=queue,
            partitions=self.shapes.names,
            job_id=ids,
            told=told,
            told_pool=self.queue.told_pool[:count].copy(),
            rows=rows,
            needs=needs,
            extra=extra,
            jobs=jobs,
            pools=pools,
            gres_kinds=self.sources.gres.kinds,
            spans=spans,
            kept=None if kept is None else kept.freeze(now, places, self.queue, self.shapes.options.bf_resolution_s),
            estimate_s=self.queue.estimates(self.history) if full else _NONE,
            recent_s=self.queue.recent(self.history) if self.shapes.options.bf_mode == "default" else _NONE,
            likely=self.spans.likely(now, self.history, spans) if full else spans.t_to,
            generation=places.generation,
            no_reserve=self.queue.no_reserve(),
            entry_name=places.entry,
            user=self.queue.users(),
            node_names=self.nodes.frozen_names,
            pools_epoch=self.pools.epoch,
            full=full,
            compress=compress,
            clones=tuple(clone.reservation for clone in reservations.clones),
            inside=self.shapes.inside(),
            reserved=bool(reservations.records),
        )

    def _within(self, queue: QueueArrays, closes: Mapping[str, int]) -> QueueArrays:
        """The queue with the limits of jobs in reservations cut to what is left of those: they end with them."""
        shapes = self.shapes.reserved
        if not shapes:
            return queue
        most = np.full(1 + max(int(queue.shape.max(initial=0)), *shapes), NEVER)
        for row, name in shapes.items():
            most[row] = closes.get(name, NEVER)
        limit = np.minimum(np.where(queue.limit_s > 0, queue.limit_s, NEVER), most[queue.shape])
        return queue._replace(limit_s=np.where(limit >= NEVER, queue.limit_s, limit))

    def with_licences(self, now: float, pools: PoolArrays, spans: SpanArrays) -> tuple[PoolArrays, SpanArrays]:
        """Pools and spans with what reservations hold of licences, now and later: as spans, out of all there are."""
        reservations, pool_of = self.rows.reservations, self.pools.number_of_licence
        for pool, count in reservations.licences_held(pool_of):
            total = pools.total.copy()
            total[pool] += count
            pools = pools._replace(total=total)
        for more in reservations.licence_spans(now, pool_of, spans.gres.shape[1]):
            both = (spans, more)
            spans = SpanArrays._make(np.concatenate([getattr(t, n) for t in both]) for n in SpanArrays._fields)
        return pools, spans

    def waits_for_sockets(self, job_id: int) -> bool:
        """True if there are nodes that could serve the job but for how their free CPUs lie in sockets now."""
        shapes = self.shapes
        if not shapes.sockets.on:
            return False
        heads = [head for row in self.queue.shapes_of(job_id) for head in shapes.heads(row)]
        return any(shapes.barred_by_sockets(at).any() for head in heads for at in shapes.parts(head))

    def update_cluster(self, state: State) -> None:
        """Take changes of nodes and partitions; may be called at any time, also while a pass is under way."""
        if self.peeking:
            return
        renumbered = self._take_reservations(state)
        stale = self.nodes.is_stale(state) or self._kinds != self.sources.gres.kinds
        if renumbered and not stale:
            self.rows.reload(state)
            self.spans.reload()
            state.dirty_active.update(state.active)
        if stale:
            self._kinds = self.sources.gres.kinds
            self.nodes.reload(state)
            self.rows.reload(state)
            self.spans.reload()
            state.dirty_active.update(state.active)
        elif state.dirty_nodes:
            names = list(state.dirty_nodes)
            self.nodes.update(state, names)
            self.rows.update(state, names)
            self.shapes.update_room(state, names)
        state.dirty_nodes.clear()
        moved = False
        if state.dirty_partitions or not self._partition_marks:
            marks = [_mark(partition) for partition in state.partitions.values()]
            moved = marks != self._partition_marks
            self._partition_marks = marks
            state.dirty_partitions = False
            if not moved:
                self.shapes.take_partition_states(state)
        if self._accounts_seen != state.accounts_version:
            self._accounts_seen = state.accounts_version
            moved |= self._take_accounts(state)
        if self.shapes.admission.refresh():  # whom nodes take decides which jobs share a row
            moved = True
        if moved and self.queue.slot_of:  # entries refer to partitions by number and hold their tier and limits
            for job_id in list(self.queue.slot_of):
                self._remove(job_id)
            self._release(0)
            state.dirty_jobs.update(state.schedulable)
        if moved:
            state.dirty_active.update(state.active)
        if moved or stale or renumbered:
            self._reloads += 1
            self.shapes.reload_partitions(state)
        elif self.nodes.static_version != self._static_seen:
            self.shapes.renew(state)
        self._static_seen = self.nodes.static_version

    def _take_accounts(self, state: State) -> bool:
        """Take what QOS say about partitions; True if every request is to be read again."""
        moved = self.shapes.overrides != state.limit_book.overrides
        self.shapes.overrides = state.limit_book.overrides
        if not moved and state.partition_qos:  # whether they may start in each of several partitions is asked again
            several = [job_id for job_id in self.queue.slot_of if self.queue.has_several_partitions(job_id)]
            for job_id in several:
                self._remove(job_id)
            state.dirty_jobs.update(several)
        return moved

    def _take_reservations(self, state: State) -> bool:
        """Take changed reservations; True if rows are others now."""
        if not state.dirty_reservations:
            return False
        state.dirty_reservations = False
        renumbered = self.rows.reservations.take(state)
        magnets: list[tuple[object, ...]] = [
            (r.name, r.shares.keys(), r.users, r.group_users, r.accounts, r.users_denied, r.accounts_denied)
            for r in self.rows.reservations.magnets()
        ]
        gone = set(self.queue.slot_of) if magnets != self._magnets else self.queue.slot_of.keys() & state.reserving_jobs
        self._magnets = magnets
        for job_id in gone:  # their entries are for other reservations now
            self._remove(job_id)
        state.dirty_jobs.update(gone)
        self.queue.told[:] = UNTESTED  # why jobs wait may be another
        return renumbered

    def _wishes(self, job: JobRecord) -> list[str]:
        """The reservations a job may start in now, in the order in which they are tried; "" = none."""
        reservations = self.rows.reservations
        if job.spec.reservation:
            return [name for name in asked(job) if reservations.may_serve(name, job)]
        return [r.name for r in reservations.magnets() if may_use(r, job.user, job.uid, job.spec.account)] + [""]

    def jobs_ahead(self, state: State, job_id: int, partition: str) -> int:
        """How many waiting jobs come before `job_id` in a partition; all of them if it is not in the queue yet."""
        gone = [other for other in state.dirty_jobs if other not in state.schedulable]
        shapes, _ = self.shapes.freeze()
        return self.queue.ahead_of(job_id, shapes.part, self.shapes.index[partition], gone)

    def _take_running(self, state: State) -> None:
        several = len(state.dirty_active) > 1  # what ended jobs teach is learnt in the order of their ends
        for job_id in sorted(state.dirty_active, key=lambda n: _end(state, n)) if several else state.dirty_active:
            self._take_active(state, job_id)
        state.dirty_active.clear()
        self.pools.refresh(state)

    def _take_active(self, state: State, job_id: int) -> None:
        job = state.jobs.get(job_id)
        if job is not None and job.is_active:
            part = self.shapes.index.get(job.partition, -1)
            self.spans.take(state, job, part, self.pools.take_running(state, job))
            self.spans.set_group(job_id, self.history.group(job.uid, job.spec.name))
        else:
            self.pools.drop_running(job_id)
            self.spans.drop(job_id)
            if job is not None:
                self._learn(job)

    def _learn(self, job: JobRecord) -> None:
        """How long a job ran that ended by itself or at its limit."""
        if job.state in _TELLING and job.t_start:
            run_s = job.t_end - job.t_start - job.suspended_s
            self.history.learn(job.uid, job.spec.name, run_s, job.time_limit_s)

    def take_jobs(self, state: State, job_ids: Iterable[int]) -> None:
        """Take what changed of these jobs."""
        for job_id in job_ids:
            self._take_job(state, job_id)

    def _set_pools(self, state: State, job: JobRecord) -> None:
        self.queue.set_no_reserve(job.job_id, job.spec.qos in state.limit_book.no_reserve)
        if self.sources.pools:
            self.queue.set_pools(job.job_id, *self.pools.wanted(state, job))

    def _take_job(self, state: State, job_id: int) -> None:
        job = state.jobs.get(job_id)
        if job is None or job_id not in state.schedulable:
            if job_id in self.queue.slot_of:
                self._remove(job_id)
            return
        count = 1 if job.pending is None else state.tasks_startable(job)
        if self.queue.same(job_id, job.spec, job.priority, len(job.excluded_nodes)):
            self.queue.recount(job, count, CODES.get(job.reason, 0))
            self._set_pools(state, job)
            return
        if job_id in self.queue.slot_of:
            self._remove(job_id)
        self._add(state, job, count)

    def _add(self, state: State, job: JobRecord, count: int) -> None:
        spec = job.spec
        key, who = shape_key(spec, job.excluded_nodes), who_of(job)
        entries: list[Entry] = []
        shapes: list[int] = []
        wishes = self._wishes(job) if self.rows.reservations.records else [""]
        closed = closed_partitions(state, job)
        for reservation, name in product(wishes, spec.partitions or [state.default_partition]):
            index = self.shapes.index.get(name)
            if index is None:
                continue
            if name in closed:
                continue
            partition = self.shapes.partitions[index]
            limit_s = time_limit_s(spec, partition)
            late = is_late(limit_s, partition_for(state, spec.qos, partition))
            row = self.shapes.acquire(state, name, key, spec, job.excluded_nodes, who, reservation, job.uid, late=late)
            shapes.append(row)
            for head in self.shapes.heads(row):
                entries.append(Entry(partition.priority_tier, len(entries), head, limit_s))
        self.queue.add(job, count, CODES.get(job.reason, 0), entries, shapes)
        self.queue.set_group(job.job_id, self.history.group(job.uid, spec.name))
        self._set_pools(state, job)

    def _remove(self, job_id: int) -> None:
        self._spare.extend(self.queue.remove(job_id))
        self._release(SPARE_SHAPES)

    def _release(self, most: int) -> None:
        """Let go of all but the last `most` shapes that jobs gave back: the next job often asks for one of them."""
        while len(self._spare) > most:
            self.shapes.release(self._spare.popleft())


def _mark(partition: PartitionRecord) -> tuple[object, ...]:
    """Everything of a partition but its state, to tell whether requests in it must be read again."""
    fields = zip(partition.__struct_fields__, astuple(partition), strict=True)
    return tuple(tuple(value) if isinstance(value, list) else value for name, value in fields if name != "state")


def _end(state: State, job_id: int) -> tuple[float, int]:
    job = state.jobs.get(job_id)
    return (0.0 if job is None else job.t_end), job_id
