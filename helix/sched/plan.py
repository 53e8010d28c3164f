"""The result of planning: which jobs start where, and why the others wait.

Owns `Plan`, which a planner returns and the commit point re-checks.  Starts are flat arrays, in the order decided;
reasons are given only for jobs whose reason changed, so that 100,000 jobs behind one cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from helix.model.job_state import Reason
from helix.sched.explain import describe_wait
from helix.sched.snapshot import REASONS, Snapshot
from helix_native.arrays import PRIORITY, RESOURCES, STARTED, UNTESTED, Int8, Int32, Int64, PlanArrays


@dataclass(frozen=True, slots=True)
class PlannedStart:
    """One job, or one task of an array, on these nodes.  The arrays are parallel."""

    job_id: int
    partition: str
    node_idx: Int32
    cpus: Int32
    mem: Int64


@dataclass(slots=True)
class Plan:
    """Start i is job `start_job[i]` on `node[ptr[i]:ptr[i + 1]]`; an array's id appears once for each task."""

    t: float
    revision: int
    partitions: tuple[str, ...]
    start_job: Int64
    start_part: Int32  # index in `partitions`
    ptr: Int32
    node: Int32
    cpus: Int32
    mem: Int64
    code: Int8  # by slot of the snapshot; see helix_native.arrays
    changed: Int32 = field(default_factory=lambda: np.zeros(0, np.int32))  # slots whose code is news
    reasons: dict[int, tuple[Reason, str]] = field(default_factory=dict)  # for exactly those: job id -> reason, text
    truncated: bool = False  # more may start: plan again at once
    counters: dict[str, int] = field(default_factory=dict)

    @property
    def starts(self) -> Iterator[PlannedStart]:
        """The starts as objects; for tests and for reading, not for speed."""
        for i in range(len(self.start_job)):
            at = slice(int(self.ptr[i]), int(self.ptr[i + 1]))
            yield PlannedStart(
                int(self.start_job[i]),
                self.partitions[int(self.start_part[i])],
                self.node[at],
                self.cpus[at],
                self.mem[at],
            )


def plan_of(snapshot: Snapshot, result: PlanArrays) -> Plan:
    """A `Plan` from what a kernel returned for `snapshot`."""
    entry = result.start_entry
    queue, shapes = snapshot.queue, snapshot.shapes
    news = (result.code != snapshot.told) & (result.code != UNTESTED) & (result.code != STARTED)
    changed = np.flatnonzero(news).astype(np.int32)
    ids = snapshot.job_id[changed].tolist()
    codes = result.code[changed].tolist()
    plain = {code: (reason, "") for code, reason in REASONS.items()}
    reasons = {job_id: plain[code] for job_id, code in zip(ids, codes, strict=True)}
    for place, blocker in enumerate(result.block_entry.tolist()):
        slot = int(queue.job[blocker])
        job_id = int(snapshot.job_id[slot])
        if job_id in reasons and int(result.code[slot]) in (RESOURCES, PRIORITY):
            shape = int(queue.shape[blocker])
            words = describe_wait(
                snapshot.partitions[int(shapes.part[shape])],
                int(shapes.nodes_lo[shape]),
                result.block_fails[place].tolist(),
                result.block_only[place].tolist(),
            )
            reasons[job_id] = (reasons[job_id][0], words)
    return Plan(
        t=snapshot.t,
        revision=snapshot.revision,
        partitions=snapshot.partitions,
        start_job=snapshot.job_id[queue.job[entry]],
        start_part=shapes.part[queue.shape[entry]],
        ptr=result.ptr,
        node=result.node,
        cpus=result.cpus,
        mem=result.mem,
        code=result.code,
        changed=changed,
        reasons=reasons,
        truncated=result.truncated,
        counters={
            "depth": snapshot.depth,
            "tested": result.tested,
            "planned": len(entry),
            "blockers": len(result.block_entry),
        },
    )


def plan_from_starts(snapshot: Snapshot, starts: Sequence[PlannedStart]) -> Plan:
    """A plan of just these starts, for planners that do not work in arrays."""
    names = {name: i for i, name in enumerate(snapshot.partitions)}
    i32 = np.int32
    return Plan(
        t=snapshot.t,
        revision=snapshot.revision,
        partitions=snapshot.partitions,
        start_job=np.array([s.job_id for s in starts], np.int64),
        start_part=np.array([names[s.partition] for s in starts], i32),
        ptr=np.cumsum([0, *(len(s.node_idx) for s in starts)]).astype(i32),
        node=np.concatenate([np.zeros(0, i32), *(s.node_idx for s in starts)]).astype(i32),
        cpus=np.concatenate([np.zeros(0, i32), *(s.cpus for s in starts)]).astype(i32),
        mem=np.concatenate([np.zeros(0, np.int64), *(s.mem for s in starts)]).astype(np.int64),
        code=np.zeros(len(snapshot.job_id), np.int8),
    )
