"""What a planner sees: the cluster and the queue at one moment, as arrays nobody writes any more.

Owns the bundle and the names behind its indexes.  The arrays are `helix_native.arrays`' tables; kernels take them as
they are.  A snapshot costs one copy of what changed since the last one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from helix.model.job_state import Reason
from helix_native.ahead_arrays import (
    LIMITED,
    AheadTables,
    JobArrays,
    KeptArrays,
    NeedArrays,
    PoolArrays,
    RowArrays,
    SpanArrays,
)
from helix_native.arrays import (
    BAD,
    DOWN,
    INACTIVE,
    NODE_LIMIT,
    PRIORITY,
    REQUIRED_DOWN,
    RESOURCES,
    STARTED,
    TIME_LIMIT,
    UNAVAILABLE,
    UNTESTED,
    Flags,
    Int8,
    Int32,
    Int64,
    NodeArrays,
    QueueArrays,
    ShapeArrays,
    TableArrays,
)

#: a kernel's code -> the reason a job shows
REASONS: dict[int, Reason] = {
    UNTESTED: Reason.NONE,
    TIME_LIMIT: Reason.PARTITION_TIME_LIMIT,
    NODE_LIMIT: Reason.PARTITION_NODE_LIMIT,
    INACTIVE: Reason.PARTITION_INACTIVE,
    DOWN: Reason.PARTITION_DOWN,
    BAD: Reason.BAD_CONSTRAINTS,
    UNAVAILABLE: Reason.NODES_UNAVAILABLE,
    REQUIRED_DOWN: Reason.REQ_NODE_NOT_AVAIL,
    PRIORITY: Reason.PRIORITY,
    RESOURCES: Reason.RESOURCES,
    STARTED: Reason.NONE,
    LIMITED: Reason.NONE,  # the pool has the words
}
#: the other way, for what a record shows when it enters the queue
CODES: dict[Reason, int] = {reason: code for code, reason in REASONS.items() if reason is not Reason.NONE}


@dataclass(frozen=True, slots=True)
class Past:
    """An earlier pass that looked at everything: what it saw and what it promised (slots, epoch seconds, rows)."""

    snapshot: Snapshot
    slots: Int32
    starts: NDArray[np.float64]
    rows: Int32


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Indexes: nodes by `NodeRecord.index`, partitions by `partitions`, jobs by slot.  Names of entries and generations
    of slots tell, at a later time, whether an entry or a slot is still the same job's."""

    t: float  # when it was taken, epoch seconds
    revision: int  # counts snapshots
    nodes: NodeArrays
    shapes: ShapeArrays
    tables: TableArrays
    queue: QueueArrays
    partitions: tuple[str, ...]
    job_id: Int64  # by slot; 0 = slot not in use
    told: Int8  # by slot: the code last reported
    told_pool: Int32  # by slot: the pool, where that code was LIMITED
    rows: RowArrays
    needs: NeedArrays
    extra: AheadTables
    jobs: JobArrays
    pools: PoolArrays
    spans: SpanArrays
    kept: KeptArrays | None  # what the next plan must go by
    estimate_s: Int64  # by slot: how long the job will probably run, NEVER = unknown
    recent_s: Int64  # by slot: how long the last jobs of the user ran, at most the limit
    likely: Int64  # by span: when it will probably end, at most its `t_to`
    generation: Int64  # by slot
    entry_name: Int32  # by entry
    user: Int64  # by slot: uid
    node_names: tuple[str, ...]
    pools_epoch: int  # of the numbers of the pools
    past: Past | None = None  # since which little may have changed
    full: bool = True  # every job is to be given an expected start; otherwise only what can start now matters
    compress: bool = False  # a job ended: kept reservations may move earlier
    gres_kinds: tuple[str, ...] = ()  # columns of GRES
    clones: tuple[str, ...] = ()  # whose rows those after the nodes are, by name of the reservation
    inside: Int32 = field(default_factory=lambda: np.zeros(0, np.int32))  # by shape: number of a reservation, -1 = none
    no_reserve: Flags | None = None  # by slot: jobs that are never promised a start; None = no such job waits
    reserved: bool = False  # there are reservations: what is free now is not free for any length of time

    @property
    def depth(self) -> int:
        """Queue entries (a job in two partitions counts twice)."""
        return len(self.queue.shape)

    def only(self, keep: Flags | Int64) -> Snapshot:
        """The snapshot with these entries, by flags or by places.  Reservations kept for entries are not looked at."""
        queue = self.queue
        left = queue._replace(shape=queue.shape[keep], job=queue.job[keep], limit_s=queue.limit_s[keep])
        return replace(self, queue=left, entry_name=self.entry_name[keep])


@lru_cache(maxsize=16)
def no_kept(jobs: int) -> KeptArrays:
    """No reservation kept for any of `jobs` slots.  Shared: nobody writes into what planners are given."""
    i32, i64 = np.int32, np.int64
    return KeptArrays(
        entry=np.full(jobs, -1, i32),
        start=np.zeros(jobs, i64),
        limit_s=np.zeros(jobs, i64),
        ptr=np.zeros(jobs + 1, i32),
        row=np.zeros(0, i32),
        cpus=np.zeros(0, i32),
        mem=np.zeros(0, i64),
        chunk=np.zeros(0, i32),
    )
