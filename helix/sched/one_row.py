"""Quick passes over one row of plain CPUs, as a simulated machine is: which entries have to be looked at.

Pure; numpy over the queue.  An entry that asks for more CPUs than are free cannot start now; the first of these stay,
for promises go to them.  Of entries that are alike, what one cannot do the next cannot either.  The result is that of
a pass over all entries.  Cost: about 50 us for 1,000 entries, where looking at each takes up to a microsecond.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from helix.sched.snapshot import Snapshot
from helix_native.ahead_arrays import NEVER
from helix_native.arrays import Flags, Int64, ShapeArrays, TableArrays

FEW = 16  #: a queue of no more entries is planned as it is
ENOUGH = 4  #: entries alike that are looked at; if all of these start, the pass is made again with all of them
_LIMIT_BITS = 41  #: time limits are shorter than 2**41 s
_LIMIT_MAX = (1 << _LIMIT_BITS) - 1


def is_plain(snapshot: Snapshot) -> bool:
    """True if there is one row, and only CPUs and time limits tell what may start: see `helix_native.ahead_pool`."""
    jobs = snapshot.jobs
    if len(snapshot.rows.host) != 1 or snapshot.no_reserve is not None or len(snapshot.pools.total):
        return False
    if not _plain_requests(_Same(snapshot.shapes), _Same(snapshot.tables)):
        return False
    return not (jobs.limit_min_s.any() or jobs.t_begin.any() or jobs.t_deadline.min() < NEVER)


class _Same:
    """Compares by identity: frozen tables are shared by the snapshots of many passes."""

    __slots__ = ("of",)

    def __init__(self, of: object) -> None:
        self.of = of

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.of is other.of

    def __hash__(self) -> int:
        return id(self.of)


@lru_cache(maxsize=1)
def _plain_requests(shapes: _Same, tables: _Same) -> bool:
    """No request has more than CPUs, and no partition keeps any back: who may not start at all is told so, and promised
    nothing."""
    s, t = shapes.of, tables.of
    assert isinstance(s, ShapeArrays)
    assert isinstance(t, TableArrays)
    if t.part_gate.any() or t.part_time.any() or s.gate.any() or len(t.room_cap):
        return False
    return not (s.mem_node.any() or s.mem_cpu.any() or s.mem_all.any() or s.exclusive.any() or s.must_n.any())


def that_may_start(snapshot: Snapshot, promises: int) -> Flags:
    """Entries of a plain snapshot for which enough CPUs are free, and the first `promises` of the others.  [E]"""
    queue, shapes = snapshot.queue, snapshot.shapes
    tasks = np.where(shapes.tasks > 0, shapes.tasks, shapes.task_lo).astype(np.int64)
    asked = (tasks * shapes.cpt)[queue.shape]
    keep: Flags = asked <= snapshot.nodes.free_cpus[0]
    if promises:
        keep[np.flatnonzero(~keep & (asked <= snapshot.nodes.cpus[0]))[:promises]] = True
    return keep


def first_alike(snapshot: Snapshot, among: Flags, promises: int, order: Int64 | None) -> tuple[Flags, list[Int64]]:
    """Of the entries `among`, few of those that are alike [E]; and the groups of those (-1 = all of its group are
    there), once for each order in which they may start; [] = nothing was left out.

    `order`: by slot, lower overtakes first; None = those that are alike overtake in queue order.
    """
    queue, entries = snapshot.queue, np.flatnonzero(among)
    count, enough = len(entries), max(ENOUGH, promises)
    if count <= FEW:
        return among, []
    limit = np.minimum(queue.limit_s[entries], _LIMIT_MAX)
    key = (queue.shape[entries].astype(np.int64) << _LIMIT_BITS) | limit
    ways = [np.argsort(key, kind="stable")]
    ordered = key[ways[0]]
    new: Flags = np.ones(count, np.bool_)
    new[1:] = ordered[1:] != ordered[:-1]
    begins = np.flatnonzero(new)
    sizes = np.append(begins[1:], count) - begins
    if sizes.max() <= enough:
        return among, []
    if order is not None:
        ways.append(np.lexsort((order[queue.job[entries]], key)))
    begin = np.repeat(begins, sizes)
    first = np.arange(count) - begin < enough
    group = np.where(np.repeat(sizes, sizes) > enough, begin, -1)[first]
    kept = [entries[way[first]] for way in ways]
    keep: Flags = np.zeros(len(among), np.bool_)
    groups = []
    for chosen in kept:
        keep[chosen] = True
        whose = np.full(len(among), -1, np.int64)
        whose[chosen] = group
        groups.append(whose)
    return keep, [whose[keep] for whose in groups]
