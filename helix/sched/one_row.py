"""Quick passes over one row of plain CPUs, as a simulated machine is: which entries have to be looked at.

Pure; numpy over the queue.  An entry that asks for more CPUs than are free cannot start now; the first of these stay,
for promises go to them.  Of entries that are alike, what one cannot do the next cannot either.  The result is that of
a pass over all entries.  Cost: about 50 us for 1,000 entries, where looking at each takes up to a microsecond.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from helix.sched.snapshot import Snapshot
from helix_native.ahead_arrays import NEVER
from helix_native.arrays import Flags, Int64

FEW = 16  #: a queue of no more entries is planned as it is
ENOUGH = 4  #: entries alike that are looked at; if all of these start, the pass is made again with all of them
_LIMIT_BITS = 41  #: time limits are shorter than 2**41 s
_LIMIT_MAX = (1 << _LIMIT_BITS) - 1


def is_plain(snapshot: Snapshot) -> bool:
    """True if there is one row, and only CPUs and time limits tell what may start: see `helix_native.ahead_pool`."""
    shapes, tables, jobs = snapshot.shapes, snapshot.tables, snapshot.jobs
    if len(snapshot.rows.host) != 1 or snapshot.no_reserve is not None or len(snapshot.pools.total):
        return False
    if tables.part_gate.any() or tables.part_time.any() or shapes.gate.any() or len(tables.room_cap):
        return False  # who may not start at all is told so, and promised nothing
    if shapes.mem_node.any() or shapes.mem_cpu.any() or shapes.mem_all.any() or shapes.exclusive.any():
        return False
    return not (jobs.limit_min_s.any() or jobs.t_begin.any() or jobs.t_deadline.min() < NEVER or shapes.must_n.any())


def that_may_start(snapshot: Snapshot, promises: int) -> Snapshot:
    """A plain snapshot with the entries for which enough CPUs are free, and the first `promises` of the others."""
    queue, shapes = snapshot.queue, snapshot.shapes
    tasks = np.where(shapes.tasks > 0, shapes.tasks, shapes.task_lo).astype(np.int64)
    asked = (tasks * shapes.cpt)[queue.shape]
    keep = asked <= snapshot.nodes.free_cpus[0]
    large = np.flatnonzero(~keep)
    if len(large) <= promises:
        return snapshot
    if promises:
        keep[large[asked[large] <= snapshot.nodes.cpus[0]][:promises]] = True
    return _only(snapshot, keep)


def first_alike(snapshot: Snapshot, promises: int, order: Int64 | None) -> tuple[Snapshot, list[Int64]]:
    """The snapshot with few of the entries that are alike, and their groups (-1 = all of its group are there), once
    for each order in which they may start; [] = nothing was left out.

    `order`: by slot, lower overtakes first; None = those that are alike overtake in queue order.
    """
    queue = snapshot.queue
    enough = max(ENOUGH, promises)
    if len(queue.shape) <= FEW:
        return snapshot, []
    key = (queue.shape.astype(np.int64) << _LIMIT_BITS) | np.minimum(queue.limit_s, _LIMIT_MAX)
    ways = [np.argsort(key, kind="stable")]
    ordered = key[ways[0]]
    begins = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    sizes = np.diff(begins, append=len(key))
    if sizes.max() <= enough:
        return snapshot, []
    if order is not None:
        ways.append(np.lexsort((order[queue.job], key)))
    first = np.arange(len(key)) - np.repeat(begins, sizes) < enough
    group = np.where(np.repeat(sizes, sizes) > enough, np.repeat(begins, sizes), -1)
    kept = [way[first] for way in ways]
    keep: Flags = np.zeros(len(key), np.bool_)
    groups = []
    for chosen in kept:
        keep[chosen] = True
        whose = np.full(len(key), -1, np.int64)
        whose[chosen] = group[first]
        groups.append(whose)
    return _only(snapshot, keep), [whose[keep] for whose in groups]


def _only(snapshot: Snapshot, keep: Flags) -> Snapshot:
    queue = snapshot.queue
    left = queue._replace(shape=queue.shape[keep], job=queue.job[keep], limit_s=queue.limit_s[keep])
    return replace(snapshot, queue=left, entry_name=snapshot.entry_name[keep])
