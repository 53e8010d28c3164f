"""`sched/fifo`: jobs start in priority order; the first that must wait holds back its partition.

Slurm calls it sched/builtin.  What "fits" and "waits" mean is the kernel's (`helix_native.reference`).
"""

from __future__ import annotations

import numpy as np

from helix.sched.options import SchedOptions
from helix.sched.plan import Plan, plan_of
from helix.sched.snapshot import Snapshot
from helix_native import kernels


class Fifo:
    """The planner.  Stateless."""

    def plan(self, snapshot: Snapshot, options: SchedOptions, now: float, rng: np.random.Generator) -> Plan:
        """One pass over the whole queue, at most `options.starts_max` starts."""
        result = kernels().plan_fifo(
            snapshot.nodes, snapshot.shapes, snapshot.tables, snapshot.queue, max(1, options.starts_max)
        )
        return plan_of(snapshot, result)
