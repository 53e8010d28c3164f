"""The planner's view of the state, kept incrementally: `update` takes what changed, `freeze` gives a snapshot.

Owns the draining of `State.dirty_*` (one Columns a state).  Invariant: after `update` the queue holds exactly the
jobs of `state.schedulable` that have a partition, each with the spec, priority and count it has now.
"""

from __future__ import annotations

from msgspec.structs import astuple

from helix.model.job import JobRecord
from helix.model.partition import PartitionRecord
from helix.sched.options import SchedOptions
from helix.sched.request import normalise, shape_key, time_limit_s
from helix.sched.snapshot import CODES, Snapshot
from helixctld.core.state import State
from helixctld.schedule.node_columns import NodeColumns
from helixctld.schedule.queue_columns import Entry, QueueColumns
from helixctld.schedule.shape_columns import MakeRequest, ShapeColumns


class Columns:
    """Nodes, shapes and queue."""

    def __init__(self, options: SchedOptions | None = None, make_request: MakeRequest = normalise) -> None:
        self.nodes = NodeColumns()
        self.shapes = ShapeColumns(self.nodes, options or SchedOptions(), make_request)
        self.queue = QueueColumns()
        self.revision = 0
        self.peeking = False
        self._loaded = False
        self._static_seen = -1
        self._partition_marks: list[tuple[object, ...]] = []
        self._reloads = 0

    @property
    def cluster_version(self) -> tuple[int, int]:
        """Changes whenever what a request could ever get may have changed."""
        return self.nodes.static_version, self._reloads

    def set_options(self, options: SchedOptions) -> None:
        """Take a changed configuration; the next update normalises every request again."""
        self.shapes.options = options
        self._partition_marks = []

    def update(self, state: State) -> None:
        """Take everything that changed since the last call."""
        self.update_cluster(state)
        if not self._loaded:
            self._loaded = True
            changed = set(state.schedulable)
        else:
            changed = state.dirty_jobs
        for job_id in changed:
            self._take_job(state, job_id)
        state.dirty_jobs.clear()

    def peek(self, state: State) -> None:
        """Take nodes and partitions without draining anything: for columns that only answer questions, once."""
        self.peeking = True
        self.nodes.reload(state)
        self.shapes.reload_partitions(state)

    def freeze(self, now: float) -> Snapshot:
        """The snapshot of this moment."""
        self.revision += 1
        queue, ids, told = self.queue.freeze()
        shapes, tables = self.shapes.freeze()
        return Snapshot(
            t=now,
            revision=self.revision,
            nodes=self.nodes.freeze(),
            shapes=shapes,
            tables=tables,
            queue=queue,
            partitions=self.shapes.names,
            job_id=ids,
            told=told,
        )

    def update_cluster(self, state: State) -> None:
        """Take changes of nodes and partitions; may be called at any time, also while a pass is under way."""
        if self.peeking:
            return
        stale = self.nodes.is_stale(state)
        if stale:
            self.nodes.reload(state)
        elif state.dirty_nodes:
            names = list(state.dirty_nodes)
            self.nodes.update(state, names)
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
        if moved and self.queue.slot_of:  # entries refer to partitions by number and hold their tier and limits
            for job_id in list(self.queue.slot_of):
                self._remove(job_id)
            state.dirty_jobs.update(state.schedulable)
        if moved or stale:
            self._reloads += 1
            self.shapes.reload_partitions(state)
        elif self.nodes.static_version != self._static_seen:
            self.shapes.renew(state)
        self._static_seen = self.nodes.static_version

    def jobs_ahead(self, state: State, job_id: int, partition: str) -> int:
        """How many waiting jobs come before `job_id` in a partition; all of them if it is not in the queue yet."""
        gone = [other for other in state.dirty_jobs if other not in state.schedulable]
        shapes, _ = self.shapes.freeze()
        return self.queue.ahead_of(job_id, shapes.part, self.shapes.index[partition], gone)

    def _take_job(self, state: State, job_id: int) -> None:
        job = state.jobs.get(job_id)
        if job is None or job_id not in state.schedulable:
            if job_id in self.queue.slot_of:
                self._remove(job_id)
            return
        count = 1 if job.pending is None else state.tasks_startable(job)
        if self.queue.same(job_id, job.spec, job.priority, len(job.excluded_nodes)):
            self.queue.set_count(job_id, count, CODES.get(job.reason, 0))
            return
        if job_id in self.queue.slot_of:
            self._remove(job_id)
        self._add(state, job, count)

    def _add(self, state: State, job: JobRecord, count: int) -> None:
        spec = job.spec
        key = shape_key(spec, job.excluded_nodes)
        entries = []
        for position, name in enumerate(spec.partitions or [state.default_partition]):
            index = self.shapes.index.get(name)
            if index is None:
                continue
            partition = self.shapes.partitions[index]
            row = self.shapes.acquire(state, name, key, spec, job.excluded_nodes)
            entries.append(Entry(partition.priority_tier, position, row, time_limit_s(spec, partition)))
        self.queue.add(job, count, CODES.get(job.reason, 0), entries)

    def _remove(self, job_id: int) -> None:
        for row in self.queue.remove(job_id):
            self.shapes.release(row)


def _mark(partition: PartitionRecord) -> tuple[object, ...]:
    """Everything of a partition but its state, to tell whether requests in it must be read again."""
    fields = zip(partition.__struct_fields__, astuple(partition), strict=True)
    return tuple(tuple(value) if isinstance(value, list) else value for name, value in fields if name != "state")
