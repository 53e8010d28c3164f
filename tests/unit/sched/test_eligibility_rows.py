"""Rows of eligibility keep their numbers for the requests that use them, however many are made and dropped."""

from __future__ import annotations

import random

import numpy as np
from helpers.sched_world import World, node

from helix.model.job import JobSpec
from helix.sched.request import shape_key
from helix_native.arrays import unpack_bits
from helixctld.schedule.shape_columns import ShapeColumns

NAMES = [f"n{i}" for i in range(40)]


def may_use(shapes: ShapeColumns, row: int) -> list[str]:
    arrays, tables = shapes.freeze()
    return [NAMES[i] for i in np.flatnonzero(unpack_bits(tables.elig[arrays.elig[row]], len(NAMES)))]


def test_requests_that_avoid_nodes_keep_theirs() -> None:
    world = World([node(name, 8) for name in NAMES])
    columns = world.cycle.columns
    columns.update(world.state)
    shapes = columns.shapes
    wanted: dict[int, list[str]] = {}
    rng = random.Random(1)
    for _ in range(200):
        own = sorted(rng.sample(NAMES, 3), key=NAMES.index)
        spec = JobSpec(exclude=",".join(name for name in NAMES if name not in own), nodes_min=1)
        avoided = own if rng.random() < 0.5 else []  # all there are: then none is avoided
        row = shapes.acquire(world.state, "main", shape_key(spec, avoided), spec, avoided)
        wanted[row] = own
        assert all(may_use(shapes, row) == own for row, own in wanted.items())
        if len(wanted) > 5:
            row = rng.choice(list(wanted))
            shapes.release(row)
            del wanted[row]
    shapes.renew(world.state)
    assert all(may_use(shapes, row) == own for row, own in wanted.items())
