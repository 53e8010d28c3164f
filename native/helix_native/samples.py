"""The smallest well-typed input, to make the compiler see every argument type."""

from __future__ import annotations

import numpy as np

from helix_native.arrays import NodeArrays, QueueArrays, ShapeArrays, TableArrays, empty_shapes


def smallest() -> tuple[NodeArrays, ShapeArrays, TableArrays, QueueArrays]:
    """One node of one CPU, one request for it, one partition, one job."""
    i32, i64, i8 = np.int32, np.int64, np.int8
    nodes = NodeArrays(
        cpus=np.ones(1, i32),
        width=np.ones(1, i32),
        mem=np.ones(1, i64),
        tmp=np.zeros(1, i64),
        rank=np.zeros(1, i32),
        up=np.ones(1, np.bool_),
        free_cpus=np.ones(1, i32),
        free_mem=np.ones(1, i64),
        empty=np.ones(1, np.bool_),
    )
    shapes = empty_shapes(1)
    for column in (shapes.nodes_lo, shapes.task_lo, shapes.task_hi, shapes.cpt):
        column[0] = 1
    tables = TableArrays(
        elig=np.ones((1, 1), np.uint8),
        part=np.ones((1, 1), np.uint8),
        part_gate=np.zeros(1, i8),
        part_time=np.zeros(1, i64),
        part_room=np.full(1, -1, i32),
        room=np.zeros((0, 1), i32),
        room_cap=np.zeros(0, i32),
        must=np.zeros(0, i32),
    )
    queue = QueueArrays(shape=np.zeros(1, i32), job=np.zeros(1, i32), limit_s=np.zeros(1, i64), starts=np.ones(1, i32))
    return nodes, shapes, tables, queue
