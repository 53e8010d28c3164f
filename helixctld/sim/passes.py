"""One full planning pass on a random cluster: what a pass of a site's size costs on this machine."""

from __future__ import annotations

import resource
import time
from typing import Any

import numpy as np

from helix.errors import UsageError
from helix.sched.options import SchedOptions
from helix_native import kernels
from helix_native.ahead_arrays import AheadParams
from helix_native.arrays import BAD, INACTIVE, NODE_LIMIT, TIME_LIMIT, UNAVAILABLE
from helix_native.synthetic import random_cluster

NEVER_CODES = (TIME_LIMIT, NODE_LIMIT, INACTIVE, BAD, UNAVAILABLE)


def time_pass(nodes: int, jobs: int, running: int, seed: int) -> dict[str, Any]:
    """Plan every waiting job of a random cluster once, from scratch.

    `planned` jobs got a start, now or later; `rejected` ones can never start there; the others would start beyond the
    window.  `peak_mib` is of the whole process.  Raises UsageError for sizes that do not go together.
    """
    if running > 256 * nodes:
        raise UsageError(
            f"{running} running jobs do not fit on {nodes} nodes", hint=f"ask for at most {64 * nodes} of them"
        )
    tables = random_cluster(nodes, jobs, running, seed=seed, shapes=max(1, min(1000, jobs)))
    options = SchedOptions()
    params = AheadParams(
        protect=options.bf_protected,
        backfill=True,
        shortest_first=True,
        predict=True,
        compress=False,
        resolution_s=options.bf_resolution_s,
        window_s=options.bf_window_s,
        starts_max=max(1, jobs),
        candidates_max=options.bf_candidates,
    )
    kernels().plan_ahead(*random_cluster(2, 2, 0, shapes=1), params)  # so that nothing is compiled while it is timed
    began = time.perf_counter()
    result = kernels().plan_ahead(*tables, params)
    pass_s = time.perf_counter() - began
    jobs_planned = np.unique(tables.queue.job[result.start_entry])
    return {
        "nodes": nodes,
        "jobs": jobs,
        "running": running,
        "seed": seed,
        "pass_s": pass_s,
        "planned": len(jobs_planned),
        "started": int(result.starts),
        "rejected": int(np.isin(result.code, NEVER_CODES).sum()),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }
