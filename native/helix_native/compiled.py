"""The compiled kernels under one name: what `helix_native.kernels()` gives once they are warm."""

from __future__ import annotations

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
    if len(rows.host) == 1:
        found = plan_pool(nodes, shapes, tables, queue, rows, needs, jobs, pools, spans, kept, params)
        if found is not None:
            return found
    return plan_rows(nodes, shapes, tables, queue, rows, needs, extra, jobs, pools, spans, kept, params)
