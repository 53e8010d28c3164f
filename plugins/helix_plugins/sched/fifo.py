"""`sched/fifo`: jobs start in priority order; the first that must wait holds back its partition.

Slurm calls it sched/builtin.  What "fits" and "waits" mean is the kernel's (`helix_native.reference`).  A queue in
which more counts than nodes, CPUs and memory is left to the kernel that looks ahead, told to let nobody overtake.
"""

from __future__ import annotations

import numpy as np

from helix.sched.options import SchedOptions
from helix.sched.plan import Plan, plan_of, plan_of_ahead
from helix.sched.snapshot import Snapshot, no_kept
from helix_native import kernels
from helix_native.ahead_arrays import NEVER, AheadParams


class Fifo:
    """The planner.  Stateless."""

    def plan(self, snapshot: Snapshot, options: SchedOptions, now: float, rng: np.random.Generator) -> Plan:
        """One pass over the whole queue, at most `options.starts_max` starts."""
        if is_plain(snapshot):
            few = kernels().plan_fifo(
                snapshot.nodes, snapshot.shapes, snapshot.tables, snapshot.queue, max(1, options.starts_max)
            )
            return plan_of(snapshot, few)
        result = kernels().plan_ahead(
            snapshot.nodes,
            snapshot.shapes,
            snapshot.tables,
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
        return plan_of_ahead(snapshot, result, full=snapshot.full)


def is_plain(snapshot: Snapshot) -> bool:
    """True if nothing is asked that only the kernel that looks ahead knows: GRES, pools, ranks, switches, parts,
    reservations, times."""
    needs, jobs, asked = snapshot.needs, snapshot.jobs, snapshot.queue.shape
    special = (needs.chunk >= 0) | (needs.score >= 0) | (needs.switches != 0) | (needs.gres > 0).any(axis=1)
    return not (
        (snapshot.rows.host != np.arange(len(snapshot.rows.host))).any()
        or special[asked].any()
        or jobs.pool_n.any()
        or jobs.limit_min_s.any()
        or jobs.t_begin.any()
        or (jobs.t_deadline < NEVER).any()
    )
