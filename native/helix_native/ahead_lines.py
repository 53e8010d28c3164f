"""Every request and every row as one line of numbers, so that few arrays need to be handed around.  Compiled.

Columns of requests (X_) are those of `ShapeArrays` and `NeedArrays`, the row of `TableArrays.room` that holds for its
partition, and whether it is a later part of a chain.  Columns of rows are R_.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from helix_native.compiling import compiled

X_PART, X_ELIG, X_GATE, X_NODES_LO, X_NODES_HI, X_GROW, X_SPREAD, X_CONTIGUOUS, X_LEAST = range(9)
X_TASKS, X_TASK_LO, X_TASK_HI, X_CPT, X_CPUS_MIN, X_MEM_NODE, X_MEM_CPU, X_MEM_ALL, X_MEM_FLOOR = range(9, 18)
X_TMP, X_EXCLUSIVE, X_MUST_AT, X_MUST_N, X_SCORE, X_SWITCHES, X_SWITCH_WAIT_S, X_CHUNK, X_ROOM, X_TAIL = range(18, 28)
X_COUNT = 28

R_WIDTH, R_TMP, R_UP, R_EMPTY, R_KIND, R_RANK, R_SWITCH, R_COUNT = range(8)


@compiled
def request_table(shapes: Any, needs: Any, tables: Any) -> Any:
    """One line a shape.  [S, X_COUNT]"""
    x = np.zeros((len(shapes.part), X_COUNT), np.int64)
    x[:, X_PART] = shapes.part
    x[:, X_ELIG] = shapes.elig
    x[:, X_GATE] = shapes.gate
    x[:, X_NODES_LO] = shapes.nodes_lo
    x[:, X_NODES_HI] = shapes.nodes_hi
    x[:, X_GROW] = shapes.grow
    x[:, X_SPREAD] = shapes.spread
    x[:, X_CONTIGUOUS] = shapes.contiguous
    x[:, X_LEAST] = shapes.least
    x[:, X_TASKS] = shapes.tasks
    x[:, X_TASK_LO] = shapes.task_lo
    x[:, X_TASK_HI] = shapes.task_hi
    x[:, X_CPT] = shapes.cpt
    x[:, X_CPUS_MIN] = shapes.cpus_min
    x[:, X_MEM_NODE] = shapes.mem_node
    x[:, X_MEM_CPU] = shapes.mem_cpu
    x[:, X_MEM_ALL] = shapes.mem_all
    x[:, X_MEM_FLOOR] = shapes.mem_floor
    x[:, X_TMP] = shapes.tmp
    x[:, X_EXCLUSIVE] = shapes.exclusive
    x[:, X_MUST_AT] = shapes.must_at
    x[:, X_MUST_N] = shapes.must_n
    x[:, X_SCORE] = needs.score
    x[:, X_SWITCHES] = needs.switches
    x[:, X_SWITCH_WAIT_S] = needs.switch_wait_s
    x[:, X_CHUNK] = needs.chunk
    for s in range(len(x)):
        x[s, X_ROOM] = tables.part_room[shapes.part[s]]
        if needs.chunk[s] >= 0:
            x[needs.chunk[s], X_TAIL] = 1
    return x
