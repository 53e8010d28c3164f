"""Starts to come as spans of what they will take, so that a plan can be made around them.  Pure."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from helix.sched.plan import Later
from helix.sched.snapshot import Snapshot
from helix_native.ahead_arrays import NEVER, SpanArrays
from helix_native.arrays import Int64


def spans_of(snapshot: Snapshot, later: Later, begin: Int64, *, pools: bool = True) -> SpanArrays:
    """What `later` takes of rows and pools.  `snapshot`: the one it was planned for; `begin`: seconds from the moment
    that the spans are for, one a start; `pools`: the numbers of the pools are still the snapshot's."""
    counts = np.diff(later.ptr)
    end = np.where(later.limit_s > 0, begin + later.limit_s, NEVER)
    shape = np.repeat(later.shape, counts)
    chunk = snapshot.needs.chunk
    for part in range(1, int(later.chunk.max(initial=0)) + 1):  # shares of later parts belong to other shapes
        shape = np.where(later.chunk >= part, chunk[shape], shape)
    of_rows = SpanArrays(
        row=later.row,
        pool=np.full(len(later.row), -1, np.int32),
        t_from=np.repeat(begin, counts),
        t_to=np.repeat(end, counts),
        cpus=later.cpus.astype(np.int64),
        mem=later.mem,
        gres=snapshot.needs.gres[shape],
        room=snapshot.tables.part_room[snapshot.shapes.part[shape]].astype(np.int32),
    )
    if not pools or not len(snapshot.jobs.pool):
        return of_rows
    times = snapshot.jobs.pool_n[later.slot]
    first = np.cumsum(times) - times
    places = np.repeat(snapshot.jobs.pool_at[later.slot] - first, times) + np.arange(int(times.sum()))
    total = len(places)
    of_pools = SpanArrays(
        row=np.full(total, -1, np.int32),
        pool=snapshot.jobs.pool[places],
        t_from=np.repeat(begin, times),
        t_to=np.repeat(end, times),
        cpus=snapshot.jobs.amount[places],
        mem=np.zeros(total, np.int64),
        gres=np.zeros((total, of_rows.gres.shape[1]), np.int32),
        room=np.full(total, -1, np.int32),
    )
    return joined_spans((of_rows, of_pools))


def joined_spans(tables: Iterable[SpanArrays]) -> SpanArrays:
    """All spans of several tables."""
    every = list(tables)
    return SpanArrays._make(np.concatenate([getattr(t, name) for t in every]) for name in SpanArrays._fields)
