"""Columns of types that the kernels were not compiled for are converted, not compiled for."""

from __future__ import annotations

import numpy as np

from helix_native import ahead_kernels, compiled, synthetic
from helix_native.ahead_arrays import AheadParams

PARAMS = AheadParams(
    protect=1,
    backfill=True,
    shortest_first=False,
    predict=True,
    compress=False,
    resolution_s=60,
    window_s=86400,
    starts_max=100,
    candidates_max=8,
)


def versions() -> list[int]:
    return [len(kernel.signatures) for kernel in ahead_kernels.ENTRIES]


def test_other_types_give_the_same_plan_and_no_other_version() -> None:
    compiled.warm_up()
    tables = synthetic.random_cluster(20, 60, 30)
    before = versions()
    wanted = compiled.plan_ahead(*tables, PARAMS)
    cpus = tables.nodes.cpus.copy()
    cpus.flags.writeable = False
    odd = tables._replace(
        nodes=tables.nodes._replace(cpus=cpus, mem=tables.nodes.mem.astype(np.int32)),
        queue=tables.queue._replace(limit_s=tables.queue.limit_s.astype(np.float64)),
        rows=tables.rows._replace(gres=np.asfortranarray(tables.rows.gres)),
    )
    found = compiled.plan_ahead(*odd, PARAMS)
    assert versions() == before
    assert len(wanted.start_entry) > 5
    for name in wanted._fields:
        assert np.array_equal(getattr(wanted, name), getattr(found, name)), name
