"""Kernels on arrays.  `kernels()` gives the compiled ones once `warm_up()` has run, the numpy reference before.

numba is imported by `warm_up()` only (about 0.5 s and 100 MB), so that a process that never plans never pays.  The
caller sets NUMBA_CACHE_DIR before, so that a compile (about 20 s) happens once in the life of a state directory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # numpy takes 15 MB; helixd, which needs only `ckernels`, goes without
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
    from helix_native.arrays import NodeArrays, PlanArrays, QueueArrays, ShapeArrays, TableArrays


class Kernels(Protocol):
    """What both implementations offer."""

    def plan_fifo(
        self, nodes: NodeArrays, shapes: ShapeArrays, tables: TableArrays, queue: QueueArrays, starts_max: int
    ) -> PlanArrays:
        """One pass over the queue, at most `starts_max` starts."""

    def plan_ahead(
        self,
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
        """One pass that looks ahead: starts now, protected reservations, predictions."""


_compiled: Kernels | None = None


def kernels() -> Kernels:
    """The fastest implementation that is ready; never blocks."""
    if _compiled is not None:
        return _compiled
    from helix_native import plain

    return plain


def is_warm() -> bool:
    """True once the compiled kernels are in use."""
    return _compiled is not None


def warm_up() -> None:
    """Import numba and compile, or load from the cache, every kernel.  Blocks for 0.5 s to 30 s; run it off the loop.

    Safe to call from any thread and more than once: the switch is one assignment.
    """
    global _compiled
    from helix_native import compiled

    compiled.warm_up()
    _compiled = compiled


def use_compiled() -> None:
    """The compiled kernels from now on, each compiled or loaded when it is first called: for programs that need one or
    two of them and may wait for these."""
    global _compiled
    from helix_native import compiled

    _compiled = compiled
