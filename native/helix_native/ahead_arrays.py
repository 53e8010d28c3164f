"""The tables of a planner that looks ahead: what is taken over time, pools, kept reservations, and the result.

Goes with `helix_native.arrays` (nodes, shapes, tables, queue), whose conventions hold here; with clones `NodeArrays`,
`TableArrays.room` and the bit rows of `TableArrays.elig` and `.part` have R places, not N.  All times are whole
seconds relative to the snapshot's moment: 0 = now; NEVER = beyond any plan.  R rows, G kinds of GRES, K pools, X
spans, J job slots.  Fields with a default may be left out: an empty array then means what the comment says.

A row is a node, or the part of a node that a reservation holds: a clone with the node's properties whose window is
the reservation's.  Rows 0 to N-1 are the nodes; a clone's `host` is its node.  What a clone offers is taken from its
node by a span, so a planner needs to know nothing of reservations.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from helix_native.arrays import Flags, Int8, Int32, Int64

_NONE = np.zeros(0, np.int32)

NEVER = 1 << 40  #: seconds; later than any time in a plan

# Besides the codes of `helix_native.arrays`: a pool keeps the job waiting; the pool is in AheadResult.pool.
LIMITED = 11


class RowArrays(NamedTuple):
    """What rows have besides `NodeArrays` (which has R rows too).  [R]"""

    host: Int32  # the node; own index for a node itself
    t_from: Int64  # usable from here ...
    t_to: Int64  # ... until here; NEVER = for ever
    gres: Int32  # [R, G] units of each kind
    gres_free: Int32  # [R, G] now
    switch: Int32  # leaf switch (or block) of the node, -1 = no topology


class NeedArrays(NamedTuple):
    """What shapes ask besides `ShapeArrays`.  [S]"""

    gres: Int32  # [S, G] units on each node
    score: Int32  # row of `AheadTables.score`, -1 = none
    switches: Int32  # most leaf switches it may span, 0 = any number
    switch_wait_s: Int64  # after so long in the queue any number will do; NEVER = never
    chunk: Int32  # row of the next part of the same request, which starts with it on other nodes; -1 = the last


class AheadTables(NamedTuple):
    """What those refer to."""

    score: Int32  # [rows, R] lower is taken first, before weight (`--rank`)


class JobArrays(NamedTuple):
    """What job slots have besides `QueueArrays`; pools of slot j: `pool_n[j]` places of the lists at `pool_at[j]`."""

    limit_min_s: Int64  # [J] `--time-min`: the limit may be cut down to this to start sooner, 0 = no
    t_deadline: Int64  # must have ended by then; NEVER = none
    t_begin: Int64  # not before; 0 = now
    waited_s: Int64  # since it became eligible
    order: Int64  # backfill candidates are tried in order of this when `shortest_first` (easy-sjbf: the limit)
    pool_at: Int32
    pool_n: Int32
    pool: Int32  # [P] which pool
    amount: Int64  # [P] what one start takes of it, for as long as it runs


class PoolArrays(NamedTuple):
    """Cluster-wide counts: licences, and limits of associations and QOS.  [K]"""

    total: Int64
    used: Int64  # now


class SpanArrays(NamedTuple):
    """What is taken for a time: running jobs until their limits, reservations.  One each job and row or pool.  [X]"""

    row: Int32  # -1 = a span of a pool
    pool: Int32  # -1 = a span of a row
    t_from: Int64  # 0 = from now on
    t_to: Int64  # > t_from
    cpus: Int64  # of a row; of a pool: the amount
    mem: Int64
    gres: Int32  # [X, G]
    room: Int32 = _NONE  # [X] row of `TableArrays.room` whose CPUs it uses, -1 = none; empty = all -1


class KeptArrays(NamedTuple):
    """Reservations of an earlier pass, by job slot: nodes of slot j are `ptr[j]:ptr[j + 1]`."""

    entry: Int32  # [J] queue entry it was made for, -1 = none kept
    start: Int64  # [J]
    limit_s: Int64  # [J]
    ptr: Int32  # [J + 1]
    row: Int32
    cpus: Int32
    mem: Int64
    chunk: Int32 = _NONE  # as AheadResult.chunk; empty = all 0


class AheadParams(NamedTuple):
    """How to plan.  Scalars."""

    protect: int  # how many waiting jobs get a protected reservation; -1 = all
    backfill: bool  # False: nothing overtakes the first that waits in its partition (fifo)
    shortest_first: bool  # try backfill candidates in order of `JobArrays.order` (ties: the queue's), not of the queue
    predict: bool  # find an expected start for every job, not only the protected
    compress: bool  # take each kept reservation out and put it back at its earliest (something ended)
    resolution_s: int  # starts later than now are multiples of this from now on; ends are rounded up to it
    window_s: int  # no start is looked for beyond
    starts_max: int
    candidates_max: int  # nodes compared for one later start; starts now compare all that fit


class AheadResult(NamedTuple):
    """Starts now first (as in `PlanArrays`), then the later ones, in the order decided."""

    start_entry: Int32  # [starts + later]
    t_start: Int64  # 0 = starts now
    limit_s: Int64  # the limit it gets (see limit_min_s)
    protected: Flags  # a promise; otherwise a prediction
    backfilled: Flags  # overtook a job that waits
    ptr: Int32
    row: Int32
    cpus: Int32
    mem: Int64
    starts: int  # how many of them start now
    code: Int8  # [J]
    expected: Int64  # [J] start of the slot's first copy, NEVER = beyond the window
    pool: Int32  # [J] the pool that keeps it waiting, -1 = none
    block_entry: Int32  # as in PlanArrays
    block_fails: Int32
    block_only: Int32
    tested: int
    truncated: bool
    chunk: Int32  # parallel with row: which part of the chain of shapes the share is for, 0 = the entry's own


def no_gres(rows: int) -> Int32:
    """A GRES table without kinds."""
    return np.zeros((rows, 0), np.int32)


def plain_rows(rows: int, kinds: int = 0) -> RowArrays:
    """Rows that are nodes: no clones, no GRES, no topology."""
    return RowArrays(
        host=np.arange(rows, dtype=np.int32),
        t_from=np.zeros(rows, np.int64),
        t_to=np.full(rows, NEVER, np.int64),
        gres=np.zeros((rows, kinds), np.int32),
        gres_free=np.zeros((rows, kinds), np.int32),
        switch=np.full(rows, -1, np.int32),
    )


def plain_needs(shapes: int, kinds: int = 0) -> NeedArrays:
    """Shapes that ask for nothing special."""
    return NeedArrays(
        gres=np.zeros((shapes, kinds), np.int32),
        score=np.full(shapes, -1, np.int32),
        switches=np.zeros(shapes, np.int32),
        switch_wait_s=np.full(shapes, NEVER, np.int64),
        chunk=np.full(shapes, -1, np.int32),
    )


def plain_jobs(jobs: int) -> JobArrays:
    """Job slots without begin, deadline, least limit or pools."""
    return JobArrays(
        limit_min_s=np.zeros(jobs, np.int64),
        t_deadline=np.full(jobs, NEVER, np.int64),
        t_begin=np.zeros(jobs, np.int64),
        waited_s=np.zeros(jobs, np.int64),
        order=np.zeros(jobs, np.int64),
        pool_at=np.zeros(jobs, np.int32),
        pool_n=np.zeros(jobs, np.int32),
        pool=np.zeros(0, np.int32),
        amount=np.zeros(0, np.int64),
    )


def row_spans(row: Int32, t_to: Int64, cpus: Int64, mem: Int64, kinds: int = 0) -> SpanArrays:
    """Running jobs on rows until their ends, without GRES."""
    count = len(row)
    return SpanArrays(
        row=row,
        pool=np.full(count, -1, np.int32),
        t_from=np.zeros(count, np.int64),
        t_to=t_to,
        cpus=cpus,
        mem=mem,
        gres=np.zeros((count, kinds), np.int32),
    )


def no_pools() -> PoolArrays:
    """No pool."""
    return PoolArrays(total=np.zeros(0, np.int64), used=np.zeros(0, np.int64))


def no_kept(jobs: int) -> KeptArrays:
    """Nothing kept of an earlier pass."""
    return KeptArrays(
        entry=np.full(jobs, -1, np.int32),
        start=np.zeros(jobs, np.int64),
        limit_s=np.zeros(jobs, np.int64),
        ptr=np.zeros(jobs + 1, np.int32),
        row=np.zeros(0, np.int32),
        cpus=np.zeros(0, np.int32),
        mem=np.zeros(0, np.int64),
        chunk=np.zeros(0, np.int32),
    )


def no_extra(rows: int) -> AheadTables:
    """No `--rank`."""
    return AheadTables(score=np.zeros((0, rows), np.int32))
