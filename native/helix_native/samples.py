"""The smallest well-typed input, to make the compiler see every argument type."""

from __future__ import annotations

import numpy as np

from helix_native.ahead_arrays import (
    AheadParams,
    AheadTables,
    JobArrays,
    KeptArrays,
    NeedArrays,
    PoolArrays,
    RowArrays,
    SpanArrays,
    plain_jobs,
    plain_needs,
    plain_rows,
    row_spans,
)
from helix_native.arrays import NodeArrays, QueueArrays, ShapeArrays, TableArrays, empty_shapes


def smallest() -> tuple[NodeArrays, ShapeArrays, TableArrays, QueueArrays]:
    """One node of one CPU, one request for it, one partition, one job."""
    i32, i64, i8 = np.int32, np.int64, np.int8
    nodes = NodeArrays(
        cpus=np.ones(1, i32),
        width=np.ones(1, i32),
        mem=np.ones(1, i64),
        tmp=np.zeros(1, i64),
        rank=np.zeros(1, i32),
        up=np.ones(1, np.bool_),
        free_cpus=np.ones(1, i32),
        free_mem=np.ones(1, i64),
        empty=np.ones(1, np.bool_),
    )
    shapes = empty_shapes(1)
    for column in (shapes.nodes_lo, shapes.task_lo, shapes.task_hi, shapes.cpt):
        column[0] = 1
    tables = TableArrays(
        elig=np.ones((1, 1), np.uint8),
        part=np.ones((1, 1), np.uint8),
        part_gate=np.zeros(1, i8),
        part_time=np.zeros(1, i64),
        part_room=np.full(1, -1, i32),
        room=np.zeros((0, 1), i32),
        room_cap=np.zeros(0, i32),
        must=np.zeros(0, i32),
    )
    queue = QueueArrays(shape=np.zeros(1, i32), job=np.zeros(1, i32), limit_s=np.zeros(1, i64), starts=np.ones(1, i32))
    return nodes, shapes, tables, queue


def smallest_ahead() -> tuple[
    NodeArrays, ShapeArrays, TableArrays, QueueArrays, RowArrays, NeedArrays, AheadTables, JobArrays, PoolArrays,
    SpanArrays, KeptArrays, AheadParams,
]:  # fmt: skip
    """The same for a planner that looks ahead: nothing runs, nothing is kept."""
    i32, i64 = np.zeros(0, np.int32), np.zeros(0, np.int64)
    kept = KeptArrays(
        entry=np.full(1, -1, np.int32),
        start=np.zeros(1, np.int64),
        limit_s=np.zeros(1, np.int64),
        ptr=np.zeros(2, np.int32),
        row=i32,
        cpus=i32,
        mem=i64,
    )
    params = AheadParams(
        protect=1,
        backfill=True,
        shortest_first=True,
        predict=True,
        compress=False,
        resolution_s=60,
        window_s=3600,
        starts_max=1,
        candidates_max=1,
    )
    return (
        *smallest(),
        plain_rows(1),
        plain_needs(1),
        AheadTables(score=np.zeros((0, 1), np.int32)),
        plain_jobs(1),
        PoolArrays(total=i64, used=i64),
        row_spans(i32, i64, i64, i64),
        kept,
        params,
    )
