"""The result of planning: which jobs start where, when the others will, and why they wait.

Owns `Plan`, which a planner returns and the commit point re-checks.  Starts are flat arrays, in the order decided;
`Later` holds the starts to come; reasons are given only for jobs whose reason changed, so that 100,000 jobs behind one
cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from helix.gres import own_units
from helix.model.job_state import Reason
from helix.sched.explain import describe_wait
from helix.sched.snapshot import REASONS, Snapshot
from helix_native.ahead_arrays import LIMITED, NEVER, AheadResult
from helix_native.arrays import (
    PRIORITY,
    RESOURCES,
    STARTED,
    UNTESTED,
    Flags,
    Int8,
    Int32,
    Int64,
    PlanArrays,
    unpack_bits,
)

_PLAIN: dict[int, tuple[Reason, str]] = {code: (reason, "") for code, reason in REASONS.items()}


@dataclass(frozen=True, slots=True)
class PlannedStart:
    """One job, or one task of an array, on these nodes.  The arrays are parallel."""

    job_id: int
    partition: str
    node_idx: Int32
    cpus: Int32
    mem: Int64


@dataclass(frozen=True, slots=True)
class Later:
    """Starts to come.  One is slot `slot[i]` on rows `row[ptr[i]:ptr[i + 1]]`; times are seconds after the snapshot."""

    slot: Int32
    entry_name: Int32
    shape: Int32  # row of the snapshot's shapes
    t_start: Int64
    limit_s: Int64
    protected: Flags  # promised; the others are predicted
    ptr: Int32
    row: Int32
    cpus: Int32
    mem: Int64
    chunk: Int32

    def only(self, keep: Flags) -> Later:
        """Those with the flag."""
        return self if bool(keep.all()) else self.in_order(np.flatnonzero(keep).astype(np.int32))

    def in_order(self, at: Int32) -> Later:
        """Those at these places, in this order."""
        counts = np.diff(self.ptr)[at]
        ptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        shares = np.repeat(self.ptr[:-1][at] - ptr[:-1], counts) + np.arange(int(ptr[-1]))
        return Later(
            slot=self.slot[at],
            entry_name=self.entry_name[at],
            shape=self.shape[at],
            t_start=self.t_start[at],
            limit_s=self.limit_s[at],
            protected=self.protected[at],
            ptr=ptr,
            row=self.row[shares],
            cpus=self.cpus[shares],
            mem=self.mem[shares],
            chunk=self.chunk[shares],
        )


_INT32, _INT64 = np.zeros(0, np.int32), np.zeros(0, np.int64)
NOTHING_LATER = Later(
    _INT32, _INT32, _INT32, _INT64, _INT64, np.zeros(0, np.bool_), np.zeros(1, np.int32), _INT32, _INT32, _INT64, _INT32
)


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
    start_shape: Int32 | None = None  # shape of each start's first part
    start_limit: Int64 | None = None  # limit of each start, seconds (0 = unlimited); None = the job's own
    row: Int32 | None = None  # parallel with `node`: the row, where that may be a reservation's clone of the node
    chunk: Int32 | None = None  # parallel with `node`: for which part of the request, 0 = the first
    backfilled: Flags | None = None  # starts that overtook a job that waits
    later: Later | None = None  # None: the planner does not look ahead
    expected: Int64 | None = None  # by slot: seconds until the start, NEVER = beyond the window
    limited: dict[int, int] = field(default_factory=dict)  # job id -> the pool that keeps it waiting, where news
    early: Int64 | None = None  # by slot: the same if jobs run as long as they usually do; None = as `expected`
    pools_epoch: int = 0
    full: bool = True  # every job was given an expected start
    clones: tuple[str, ...] = ()  # whose rows those after the nodes are; see Snapshot

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
    news = (result.code != snapshot.told) & (result.code != UNTESTED) & (result.code != STARTED)
    changed = np.flatnonzero(news).astype(np.int32)
    return Plan(
        t=snapshot.t,
        revision=snapshot.revision,
        partitions=snapshot.partitions,
        start_job=snapshot.job_id[snapshot.queue.job[entry]],
        start_part=snapshot.shapes.part[snapshot.queue.shape[entry]],
        ptr=result.ptr,
        node=result.node,
        cpus=result.cpus,
        mem=result.mem,
        code=result.code,
        changed=changed,
        reasons=_reasons(snapshot, result, changed),
        truncated=result.truncated,
        counters={
            "depth": snapshot.depth,
            "tested": result.tested,
            "planned": len(entry),
            "blockers": len(result.block_entry),
        },
    )


def plan_of_ahead(snapshot: Snapshot, result: AheadResult, *, full: bool, keep: bool = True) -> Plan:
    """A `Plan` from what a kernel that looks ahead returned.  `full`: it predicted every job's start; `keep`: what
    starts later is wanted (it comes anew with the next pass)."""
    starts = result.starts
    entry, shares = result.start_entry[:starts], int(result.ptr[starts])
    queue, rows = snapshot.queue, result.row[:shares]
    changed, pools = _news(snapshot, result)
    return Plan(
        t=snapshot.t,
        revision=snapshot.revision,
        partitions=snapshot.partitions,
        start_job=snapshot.job_id[queue.job[entry]],
        start_part=snapshot.shapes.part[queue.shape[entry]],
        ptr=result.ptr[: starts + 1],
        node=snapshot.rows.host[rows],
        cpus=result.cpus[:shares],
        mem=result.mem[:shares],
        code=result.code,
        changed=changed,
        reasons=_reasons(snapshot, result, changed),
        truncated=result.truncated,
        counters=_counters(snapshot, result, full=full),
        start_shape=queue.shape[entry],
        start_limit=result.limit_s[:starts],
        row=rows,
        chunk=result.chunk[:shares],
        backfilled=result.backfilled[:starts],
        later=later_of(snapshot, result, shares) if keep else NOTHING_LATER,
        expected=result.expected,
        limited=pools,
        pools_epoch=snapshot.pools_epoch,
        full=full,
        clones=snapshot.clones,
    )


def later_of(snapshot: Snapshot, result: AheadResult, shares: int) -> Later:
    """The starts to come; `shares`: of those now."""
    starts, queue = result.starts, snapshot.queue
    after = result.start_entry[starts:]
    return Later(
        slot=queue.job[after],
        entry_name=snapshot.entry_name[after],
        shape=queue.shape[after],
        t_start=result.t_start[starts:],
        limit_s=result.limit_s[starts:],
        protected=result.protected[starts:],
        ptr=result.ptr[starts:] - shares,
        row=result.row[shares:],
        cpus=result.cpus[shares:],
        mem=result.mem[shares:],
        chunk=result.chunk[shares:],
    )


def _news(snapshot: Snapshot, result: AheadResult) -> tuple[Int32, dict[int, int]]:
    """Slots whose code is news, and of those that a pool keeps waiting: job id -> pool."""
    code = result.code
    news = (code != snapshot.told) & (code != UNTESTED) & (code != STARTED)
    if not len(snapshot.pools.total):
        return np.flatnonzero(news).astype(np.int32), {}
    limited = (code == LIMITED) & (result.pool != snapshot.told_pool)
    changed = np.flatnonzero(news | limited).astype(np.int32)
    at = changed[code[changed] == LIMITED].tolist()
    return changed, {int(snapshot.job_id[j]): int(result.pool[j]) for j in at}


def _counters(snapshot: Snapshot, result: AheadResult, *, full: bool) -> dict[str, int]:
    """What hdiag shows of a pass.  Quick passes count only what costs nothing."""
    starts = result.starts
    protected = int(np.count_nonzero(result.protected[starts:]))
    counters = {
        "depth": snapshot.depth,
        "tested": result.tested,
        "planned": starts,
        "blockers": len(result.block_entry),
        "backfilled": int(np.count_nonzero(result.backfilled[:starts])) if starts else 0,
        "protected": protected,
        "predicted": len(result.start_entry) - starts - protected,
    }
    if full:
        waits = (result.code == RESOURCES) | (result.code == PRIORITY)
        counters["limited"] = int(np.count_nonzero(result.code == LIMITED))
        counters["beyond_window"] = int(np.count_nonzero(waits & (result.expected >= NEVER)))
    if result.truncated:
        counters["not_reached"] = int(np.count_nonzero(result.code[snapshot.queue.job] == UNTESTED))
    return counters


def _reasons(snapshot: Snapshot, result: PlanArrays | AheadResult, changed: Int32) -> dict[int, tuple[Reason, str]]:
    """Reason and words of the slots in `changed`, by job id; the words of a LIMITED job are its pool's."""
    queue, shapes = snapshot.queue, snapshot.shapes
    if not len(changed):
        return {}
    ids = snapshot.job_id[changed].tolist()
    codes = result.code[changed].tolist()
    reasons = {job_id: _PLAIN[code] for job_id, code in zip(ids, codes, strict=True)}
    free = _free_after(snapshot, result)
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
                _lacking(snapshot, shape, free),
            )
            reasons[job_id] = (reasons[job_id][0], words)
    return reasons


def _free_after(snapshot: Snapshot, result: PlanArrays | AheadResult) -> Int32:
    """Units of GRES that are free once the plan's starts have theirs.  [R, G]"""
    free = snapshot.rows.gres_free
    if not snapshot.gres_kinds or isinstance(result, PlanArrays):
        return free
    free = free.copy()
    shares = result.row[: int(result.ptr[result.starts])]
    entry = np.repeat(result.start_entry[: result.starts], np.diff(result.ptr[: result.starts + 1]))
    np.subtract.at(free, shares, snapshot.needs.gres[snapshot.queue.shape[entry]])
    return free


def _lacking(snapshot: Snapshot, shape: int, free: Int32) -> list[str]:
    """For each kind of GRES that the shape wants, on how many nodes too few are free: `too few free gpu on 3`."""
    if not snapshot.gres_kinds:
        return []
    wanted = snapshot.needs.gres[shape]
    able = unpack_bits(snapshot.tables.elig[snapshot.shapes.elig[shape]], len(snapshot.rows.host))
    short = able[:, None] & (free < wanted) & (snapshot.rows.gres >= wanted)
    counts = dict(zip(snapshot.gres_kinds, zip(wanted.tolist(), short.sum(axis=0).tolist(), strict=True), strict=True))
    own = own_units({kind: units for kind, (units, _) in counts.items() if units})
    return [f"too few free {kind} on {counts[kind][1]}" for kind in own if counts[kind][1]]


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
