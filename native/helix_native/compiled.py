"""The compiled kernels under one name: what `helix_native.kernels()` gives once they are warm."""

from __future__ import annotations

from typing import Any

import numpy as np

from helix_native import ahead_kernels, ahead_pool, samples
from helix_native.ahead_arrays import (
    AheadParams,
    AheadResult,
    AheadTables,
    JobArrays,
    KeptArrays,
    NeedArrays,
    PoolArrays,
    RowArrays,
    SpanArrays,
)
from helix_native.ahead_kernels import plan_ahead as plan_rows
from helix_native.ahead_pool import plan_pool
from helix_native.arrays import NodeArrays, QueueArrays, ShapeArrays, TableArrays
from helix_native.numba_kernels import plan_fifo

__all__ = ["plan_ahead", "plan_fifo", "plan_pool", "plan_rows"]


def warm_up() -> None:
    """Compile every kernel, or load it from the cache.

    From then on the planner that looks ahead is compiled for no other types: a column of another one would cost a
    minute in the middle of a pass.  It is converted instead (`_as_compiled`).
    """
    nodes, shapes, tables, queue = samples.smallest()
    plan_fifo(nodes, shapes, tables, queue, 1)
    plan_ahead(*samples.smallest_ahead())
    plan_rows(*samples.smallest_ahead())
    for kernel in (*ahead_kernels.ENTRIES, *ahead_pool.ENTRIES):
        kernel.disable_compile()


def _as_compiled(*tables: Any) -> list[Any]:
    """The tables with columns of the types, layout and access that the kernels were compiled for."""
    return [
        found._make(
            np.require(column, like.dtype, ["C", "W"]) if isinstance(like, np.ndarray) else type(like)(column)
            for column, like in zip(found, sample, strict=True)
        )
        for found, sample in zip(tables, samples.smallest_ahead(), strict=True)
    ]


def plan_ahead(
    nodes: NodeArrays,
    shapes: ShapeArrays,
    tables: TableArrays,
    queue: QueueArrays,
    rows: RowArrays,
    needs: NeedArrays,
    extra: AheadTables,
    jobs: JobArrays,
    pools: PoolArrays,
    spans: SpanArrays,
    kept: KeptArrays,
    params: AheadParams,
) -> AheadResult:
    """See `reference_ahead`; one row of CPUs has a way of its own."""
    asked = (nodes, shapes, tables, queue, rows, needs, extra, jobs, pools, spans, kept, params)
    try:
        return _plan_ahead(*asked)
    except TypeError:  # a column is not what the kernels were compiled for
        return _plan_ahead(*_as_compiled(*asked))


def _plan_ahead(
    nodes: NodeArrays,
    shapes: ShapeArrays,
    tables: TableArrays,
    queue: QueueArrays,
    rows: RowArrays,
    needs: NeedArrays,
    extra: AheadTables,
    jobs: JobArrays,
    pools: PoolArrays,
    spans: SpanArrays,
    kept: KeptArrays,
    params: AheadParams,
) -> AheadResult:
    if len(rows.host) == 1:
        found = plan_pool(nodes, shapes, tables, queue, rows, needs, jobs, pools, spans, kept, params)
        if found is not None:
            return found
    return plan_rows(nodes, shapes, tables, queue, rows, needs, extra, jobs, pools, spans, kept, params)
