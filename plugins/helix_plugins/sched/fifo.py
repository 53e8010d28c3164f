"""`sched/fifo`: jobs start in priority order; the first that must wait holds back its partition.

Slurm calls it sched/builtin.  What "fits" and "waits" mean is the kernel's (`helix_native.reference`).  A queue in
which more counts than nodes, CPUs and memory is left to the kernel that looks ahead, told to let nobody overtake.

Of a job with alternatives (`[a|b]`) the first that waits would hold back the alternatives after it.  So, when a job
holds back its partition, its other alternatives are put first, one after the other, and the pass is done again.
"""

from __future__ import annotations

import numpy as np

from helix.sched.options import SchedOptions
from helix.sched.plan import Plan, plan_of, plan_of_ahead
from helix.sched.snapshot import Snapshot, no_kept
from helix_native import kernels
from helix_native.ahead_arrays import NEVER, AheadParams
from helix_native.arrays import Int32, ShapeArrays, TableArrays, pack_bits

TRIES_MAX = 16  #: passes that are done again in one pass


class Fifo:
    """The planner.  Stateless."""

    def plan(self, snapshot: Snapshot, options: SchedOptions, now: float, rng: np.random.Generator) -> Plan:
        """One pass over the whole queue, at most `options.starts_max` starts."""
        plan, blockers = _pass(snapshot, options)
        tries = TRIES_MAX
        at = 0
        while at < len(blockers):
            entry = int(blockers[at])
            job_id = snapshot.job_id[snapshot.queue.job[entry]]
            at += 1
            for other in alternatives(snapshot, entry)[:tries]:
                tries -= 1
                turned = swapped(snapshot, entry, other)
                again, left = _pass(turned, options)
                if (again.start_job == job_id).sum() > (plan.start_job == job_id).sum():
                    plan, blockers, snapshot, at = again, left, turned, 0
                    break
        return plan


def _pass(snapshot: Snapshot, options: SchedOptions) -> tuple[Plan, Int32]:
    """The plan, and the entries that hold back their partitions."""
    if is_plain(snapshot):
        few = kernels().plan_fifo(
            snapshot.nodes, snapshot.shapes, snapshot.tables, snapshot.queue, max(1, options.starts_max)
        )
        return plan_of(snapshot, few), few.block_entry
    return _pass_ahead(snapshot, options)


def _pass_ahead(snapshot: Snapshot, options: SchedOptions) -> tuple[Plan, Int32]:
    shapes, tables = apart(snapshot) if snapshot.clones else (snapshot.shapes, snapshot.tables)
    result = kernels().plan_ahead(
        snapshot.nodes,
        shapes,
        tables,
        snapshot.queue,
        snapshot.rows,
        snapshot.needs,
        snapshot.extra,
        snapshot.jobs,
        snapshot.pools,
        snapshot.spans,
        no_kept(len(snapshot.job_id)),
        AheadParams(
            protect=0,
            backfill=False,
            shortest_first=False,
            predict=snapshot.full,
            compress=False,
            resolution_s=options.bf_resolution_s,
            window_s=options.bf_window_s,
            starts_max=max(1, options.starts_max),
            candidates_max=options.bf_candidates,
        ),
    )
    return plan_of_ahead(snapshot, result, full=snapshot.full), result.block_entry


def alternatives(snapshot: Snapshot, entry: int) -> list[int]:
    """The entries of the same job, in the same partition, after this one."""
    queue, part = snapshot.queue, snapshot.shapes.part[snapshot.queue.shape]
    same = (queue.job[entry + 1 :] == queue.job[entry]) & (part[entry + 1 :] == part[entry])
    return [entry + 1 + int(place) for place in np.flatnonzero(same)]


def swapped(snapshot: Snapshot, one: int, other: int) -> Snapshot:
    """The snapshot with two entries of a job in each other's place."""
    order = np.arange(len(snapshot.queue.shape))
    order[[one, other]] = other, one
    return snapshot.only(order)


def apart(snapshot: Snapshot) -> tuple[ShapeArrays, TableArrays]:
    """Shapes and tables in which each reservation is a partition of its own (another one in each partition), so that
    who waits inside holds back those inside only, and those outside nobody inside."""
    shapes, tables, count = snapshot.shapes, snapshot.tables, len(snapshot.rows.host)
    clone = pack_bits(np.arange(count) >= count - len(snapshot.clones))
    part, rows, of = shapes.part.copy(), [row & ~clone for row in tables.part], list(range(len(tables.part)))
    for real, number in sorted(set(zip(part.tolist(), snapshot.inside.tolist(), strict=True))):
        if number >= 0:
            mine = (snapshot.shapes.part == real) & (snapshot.inside == number)
            part[mine] = len(rows)
            rows.append(np.bitwise_or.reduce(tables.elig[shapes.elig[mine]], axis=0))
            of.append(real)
    return shapes._replace(part=part), tables._replace(
        part=np.stack(rows),
        part_gate=tables.part_gate[of],
        part_time=tables.part_time[of],
        part_room=tables.part_room[of],
    )


def is_plain(snapshot: Snapshot) -> bool:
    """True if nothing is asked that only the kernel that looks ahead knows: GRES, pools, ranks, switches, parts,
    reservations, times."""
    needs, jobs, asked = snapshot.needs, snapshot.jobs, snapshot.queue.shape
    special = (needs.chunk >= 0) | (needs.score >= 0) | (needs.switches != 0) | (needs.gres > 0).any(axis=1)
    return not (
        snapshot.reserved
        or special[asked].any()
        or jobs.pool_n.any()
        or jobs.limit_min_s.any()
        or jobs.t_begin.any()
        or (jobs.t_deadline < NEVER).any()
    )
