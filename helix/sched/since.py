"""What changed since an earlier pass: in a quick pass, entries that could not start then need not be looked at again
unless they are new, something came free on nodes they may use, a promise moved, or a wait for switches ended.

Pure; numpy over rows and queue.  A slip costs time only: the next full pass looks at everything.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from helix.sched.plan import NOTHING_LATER, Plan
from helix.sched.snapshot import Past, Snapshot
from helix.sched.switch_waits import ended_since
from helix_native.arrays import Flags, pack_bits


def past_of(snapshot: Snapshot, plan: Plan) -> Past | None:
    """What to remember of a pass that looked at everything it had to; None if it stopped short or does not look
    ahead."""
    later = plan.later
    if plan.truncated or later is None or later is NOTHING_LATER:
        return None
    promised = later.only(later.protected)
    return Past(
        snapshot=_after(replace(snapshot, past=None), plan),  # else each pass would hold on to all before it
        slots=promised.slot,
        starts=(snapshot.t + promised.t_start).astype(np.float64),
        rows=promised.row,
    )


def _after(snapshot: Snapshot, plan: Plan) -> Snapshot:
    """The snapshot with at most as much free as the plan's starts leave: what is more later came free."""
    if not len(plan.node):
        return snapshot
    rows = plan.node if plan.row is None else plan.row
    nodes, table, tables = snapshot.nodes, snapshot.rows, snapshot.tables
    cpus, mem, empty = nodes.free_cpus.copy(), nodes.free_mem.copy(), nodes.empty.copy()
    np.subtract.at(cpus, rows, plan.cpus)
    np.subtract.at(mem, rows, plan.mem)
    empty[rows] = False
    gres, room, used = table.gres_free.copy(), tables.room.copy(), snapshot.pools.used.copy()
    gres[rows], room[:, rows] = -1, -1
    used[:] = np.maximum(used, snapshot.pools.total + 1)
    return replace(
        snapshot,
        nodes=nodes._replace(free_cpus=cpus, free_mem=mem, empty=empty),
        rows=table._replace(gres_free=gres),
        tables=tables._replace(room=room),
        pools=snapshot.pools._replace(used=used),
    )


def to_look_at(snapshot: Snapshot, able: Flags | None = None) -> Flags | None:
    """Entries to look at; None = all of them.  [E]  `able`: requests that could start now at all.  [S]"""
    past = snapshot.past
    if past is None:
        return None
    old, queue = past.snapshot, snapshot.queue
    if (
        old.node_names is not snapshot.node_names
        or len(old.rows.host) != len(snapshot.rows.host)
        or old.partitions != snapshot.partitions
        or old.pools_epoch != snapshot.pools_epoch
        or old.tables.part_gate.tolist() != snapshot.tables.part_gate.tolist()
        or old.tables.room.shape != snapshot.tables.room.shape
        or old.reserved
        or snapshot.reserved
    ):
        return None
    count = min(len(old.generation), len(snapshot.generation))
    fresh = np.ones(len(snapshot.generation), np.bool_)
    fresh[:count] = old.generation[:count] != snapshot.generation[:count]
    fresh[:count] |= queue.starts[:count] > old.queue.starts[:count]
    if (past.slots >= len(fresh)).any() or fresh[past.slots].any():  # who was promised a start is gone
        return None
    fresh[past.slots] = True
    left, before = snapshot.pools.total - snapshot.pools.used, old.pools.total - old.pools.used
    if (left[: len(before)] > before).any():
        return None
    freed = _freed(snapshot, old)
    shapes = _served_by_more(snapshot, old)
    if freed.any():
        touched = np.bitwise_or.reduce(snapshot.tables.elig & pack_bits(freed), axis=1) > 0
        shapes |= touched[snapshot.shapes.elig]
    if shapes.any():
        chunk = snapshot.needs.chunk
        for head in np.flatnonzero(chunk >= 0).tolist():
            part = int(chunk[head])
            while part >= 0:
                shapes[head] |= shapes[part]
                part = int(chunk[part])
    if able is not None:
        shapes &= able
    look = fresh[queue.job] | shapes[queue.shape]
    ended = ended_since(snapshot, old)
    return look if ended is None else look | ended


def _freed(snapshot: Snapshot, old: Snapshot) -> Flags:
    """Rows on which there is more than there was.  [R]"""
    new, was = snapshot.nodes, old.nodes
    freed: Flags = (new.free_cpus > was.free_cpus) | (new.free_mem > was.free_mem) | (new.up & ~was.up)
    freed |= (new.empty & ~was.empty) | (new.cpus > was.cpus) | (new.mem > was.mem)
    if snapshot.rows.gres_free.shape == old.rows.gres_free.shape:
        freed |= (snapshot.rows.gres_free > old.rows.gres_free).any(axis=1)
    if len(snapshot.tables.room):
        freed |= (snapshot.tables.room > old.tables.room).any(axis=0)
    return freed


def _served_by_more(snapshot: Snapshot, old: Snapshot) -> Flags:
    """Requests that may use a row which they might not use before: features changed, or users left.  [S]"""
    elig, before = snapshot.shapes.elig.astype(np.int64), old.shapes.elig.astype(np.int64)
    more: Flags = np.ones(len(elig), np.bool_)
    count, table, was = min(len(elig), len(before)), snapshot.tables.elig, old.tables.elig
    if table is was and snapshot.shapes.elig is old.shapes.elig:
        return ~more
    pairs, which = np.unique(elig[:count] * len(was) + before[:count], return_inverse=True)  # shapes share rows
    now, then = np.divmod(pairs, len(was))
    gained = np.asarray((table[now] & ~was[then]).any(axis=1), np.bool_)
    more[:count] = gained[which]
    return more


def promises_stand(plan: Plan, past: Past, step_s: int) -> bool:
    """True if what was promised is what the plan promises: the same jobs on the same rows, no later."""
    if plan.later is None:
        return False
    now = plan.later.only(plan.later.protected)
    return (
        np.array_equal(now.slot, past.slots)
        and np.array_equal(now.row, past.rows)
        and bool((plan.t + now.t_start < past.starts + step_s).all())
    )
