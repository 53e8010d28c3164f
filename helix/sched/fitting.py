"""Which entries of a long queue a quick pass can leave out, because they cannot start now whatever else happens.

Pure; numpy over rows, shapes and queue.  A request for which too few rows have what its least share needs cannot start,
nor can a job that was told to wait for a pool that still has too little.  That is found by request, not by job, so that
the start of a job that fits costs the same behind 100,000 that do not.  The first entries stay, for promises go to
them; `promised_rightly` tells whether that was enough.  What an entry that is left out shows as its reason stays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from helix.sched.plan import Plan
from helix.sched.snapshot import Snapshot
from helix_native.ahead_arrays import LIMITED
from helix_native.arrays import DOWN, TIME_LIMIT, Flags, Int64, unpack_bits

FEW = 256  #: a queue of no more entries is planned as it is
HEADS = 16  #: of the first entries, which promises go to, this many stay
EACH = 4  #: and so many more for each promise


@dataclass(frozen=True, slots=True)
class Narrowed:
    """What a pass may leave out.  [E]"""

    keep: Flags
    hopeless: Flags  # it can neither start now nor be promised a start now


def able_shapes(snapshot: Snapshot) -> Flags:
    """Requests in the queue for which enough rows have what the least share needs free now.  [S]"""
    nodes, shapes, needs = snapshot.nodes, snapshot.shapes, snapshot.needs
    count = len(shapes.part)
    able: Flags = np.zeros(count, np.bool_)
    rows = np.flatnonzero(nodes.up & (nodes.free_cpus > 0))
    used = np.zeros(count, np.bool_)
    used[snapshot.queue.shape] = True
    if not len(rows):
        return able
    gres_free = snapshot.rows.gres_free
    columns = [nodes.free_cpus[rows], nodes.free_mem[rows], nodes.empty[rows], *gres_free[rows].T]
    first, kind = _alike([np.asarray(column, np.int64) for column in columns])
    cpus, mem, empty, gres = columns[0][first], columns[1][first], columns[2][first], gres_free[rows[first]]
    kinds = len(first)
    least = np.maximum(shapes.task_lo.astype(np.int64) * shapes.cpt, shapes.cpus_min)
    by_cpu = np.where(shapes.mem_cpu > 0, shapes.mem_cpu * least, 0)
    least_mem = np.where(shapes.mem_all, 0, np.where(shapes.mem_node > 0, shapes.mem_node, by_cpu))
    nodes_lo = np.maximum(1, np.maximum(shapes.nodes_lo, shapes.must_n))
    for row in np.unique(shapes.elig[used]).tolist():
        inside = unpack_bits(snapshot.tables.elig[row], len(nodes.up))[rows]
        if not inside.any():
            continue
        members = np.bincount(kind[inside], minlength=kinds)
        for s in np.array_split(mine := np.flatnonzero(used & (shapes.elig == row)), 1 + len(mine) * kinds // _AT_ONCE):
            fits = (cpus >= least[s, None]) & (mem >= least_mem[s, None]) & (empty | ~shapes.exclusive[s, None])
            for column in range(gres.shape[1]):
                fits &= gres[:, column] >= needs.gres[s, column, None]
            able[s] = fits @ members >= nodes_lo[s]
    return able


_AT_ONCE = 1 << 20  #: requests times kinds of rows that are compared in one step


def narrowed(snapshot: Snapshot, able: Flags, promises: int, heads: int = HEADS) -> Narrowed:
    """What a pass that promises the first `promises` jobs a start must look at.  `able`: of `able_shapes`."""
    queue, shapes, told = snapshot.queue, snapshot.shapes, snapshot.told[snapshot.queue.job]
    gated = ((snapshot.tables.part_gate[shapes.part] > 0) | (shapes.gate > 0))[queue.shape]
    was_gated = (told >= TIME_LIMIT) & (told <= DOWN)
    hopeless = (gated & was_gated) | (_lacking(snapshot)[queue.job] & (told == LIMITED))
    if snapshot.no_reserve is not None:
        hopeless |= snapshot.no_reserve[queue.job] & ~able[queue.shape]
    keep = (able[queue.shape] | (gated != was_gated)) & ~hopeless
    first = np.flatnonzero(~hopeless)[: heads + EACH * promises]
    keep[first] = True
    return Narrowed(keep, hopeless)


def promised_rightly(snapshot: Snapshot, plan: Plan, what: Narrowed, promises: int) -> bool:
    """True if the jobs that `plan` promises a start are those that a pass over all entries of `snapshot` would."""
    if plan.later is None:
        return False
    promised = plan.later.entry_name[plan.later.protected]
    if len(promised) < promises:
        return bool((what.keep | what.hopeless).all())
    if not promises:
        return True
    job = snapshot.queue.job
    end = int(np.flatnonzero(np.isin(snapshot.entry_name, promised))[-1]) + 1
    while end < len(job) and job[end] == job[end - 1]:  # another way of the last may be sooner
        end += 1
    return bool((what.keep | what.hopeless)[:end].all())


def _lacking(snapshot: Snapshot) -> Flags:
    """Jobs for which a pool has too little left now.  [J]"""
    jobs, pools = snapshot.jobs, snapshot.pools
    short = jobs.amount > (pools.total - pools.used)[jobs.pool]
    before = np.concatenate([[0], np.cumsum(short)])
    begin = np.minimum(jobs.pool_at.astype(np.int64), len(short))  # of a slot not in use it may point anywhere
    return np.asarray(before[np.minimum(begin + jobs.pool_n, len(short))] > before[begin])


def _alike(columns: list[Int64]) -> tuple[Int64, Int64]:
    """Places at which something new comes, and for each place which of those it is like."""
    code = np.zeros(len(columns[0]), np.int64)
    first = np.zeros(1, np.int64)
    for column in columns:
        _, inverse = np.unique(column, return_inverse=True)
        _, first, code = np.unique(code * (1 + int(inverse.max())) + inverse, return_index=True, return_inverse=True)
    return first, code
