"""Tables of a snapshot have the very types the kernels were compiled for: another layout means another compile."""

from __future__ import annotations

from typing import Any

import numpy as np
from helpers.sched_world import World, node

from helix.sched.snapshot import Snapshot, no_kept
from helix_native import samples


def kinds(table: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """Type, dimensions and layout of each column."""
    return [
        (c.dtype, c.ndim, c.flags.c_contiguous, c.flags.writeable) if isinstance(c, np.ndarray) else (type(c),)
        for c in table
    ]


def tables_of(snapshot: Snapshot) -> list[Any]:
    s = snapshot
    kept = s.kept or no_kept(len(s.job_id))
    return [s.nodes, s.shapes, s.tables, s.queue, s.rows, s.needs, s.extra, s.jobs, s.pools, s.spans, kept]


def test_every_table_is_as_the_kernels_were_compiled_for() -> None:
    world = World([node(f"n{i}", 4, features=["a" if i % 2 else "b"]) for i in range(5)])
    world.submit(cpus_per_task=2, time_limit_s=60)
    world.run()
    world.submit(constraint="[a*1&b*2]", nodes_min=3, nodes_max=3)
    world.submit(rank="cpus", constraint="a|b", t_deadline=5000.0, time_limit_s=60, time_min_s=30)
    world.submit(array=3, exclusive=True)
    snapshot = world.cycle.prepare(world.state, world.now)
    for found, wanted in zip(tables_of(snapshot), samples.smallest_ahead(), strict=False):
        assert type(found) is type(wanted)
        for name, one, other in zip(found._fields, kinds(found), kinds(wanted), strict=True):
            assert one == other, f"{type(found).__name__}.{name}"
