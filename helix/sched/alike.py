"""Equal entries in a quick pass: what one cannot do now, the next equal one cannot either, for room only shrinks.

Pure; numpy over the queue.
"""

from __future__ import annotations

import numpy as np

from helix.sched.candidates import place_in
from helix.sched.snapshot import Snapshot
from helix_native.ahead_arrays import NEVER, AheadResult
from helix_native.arrays import Flags, Int64

FEW = 4000  #: a queue of no more entries is planned as it is
ENOUGH = 8  #: equal entries that are looked at; if all of these start, the pass is made again with all entries


def first_alike(snapshot: Snapshot, promises: int = 0) -> tuple[Snapshot, Int64 | None]:
    """The snapshot with at most ENOUGH of the entries that are alike (more where so many jobs are promised a start),
    and the group of each entry left (-1 = all of its group are there); None = nothing was left out.

    Alike: same request, limit and pools, and nothing of their own (deadline, cut limit, wait for switches).
    """
    queue, jobs = snapshot.queue, snapshot.jobs
    if len(queue.shape) <= FEW:
        return snapshot, None
    slot = queue.job
    special = (jobs.t_deadline[slot] < NEVER) | (jobs.limit_min_s[slot] > 0) | (jobs.t_begin[slot] > 0)
    special |= snapshot.needs.switches[queue.shape] > 0
    shapes, lists = np.int64(len(snapshot.shapes.part) + 1), np.int64(len(jobs.pool) + 1)
    pools = np.where(jobs.pool_n[slot] > 0, jobs.pool_at[slot].astype(np.int64) + 1, 0)
    _, limit = np.unique(queue.limit_s, return_inverse=True)
    group = (limit.astype(np.int64) * lists + pools) * shapes + queue.shape
    place = place_in(group, np.ones(len(group), np.bool_))
    keep = special | (place < max(ENOUGH, promises))
    if keep.all():
        return snapshot, None
    thinned = np.isin(group, group[~keep]) & ~special
    return snapshot.only(keep), np.where(thinned, group, -1)[keep]


def must_see_all(result: AheadResult, groups: Int64) -> bool:
    """True if all entries of a thinned group started: those that were left out might have, too."""
    started: Flags = np.zeros(len(groups), np.bool_)
    started[result.start_entry[: result.starts]] = True
    thinned = groups >= 0
    waits = np.unique(groups[thinned & ~started])
    return bool(np.setdiff1d(groups[thinned & started], waits).size)
