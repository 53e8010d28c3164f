"""A random cluster in mid-life as planner tables: for benchmarks, `hsim pass` and tests of size.

Nodes of three kinds (one in ten has GPUs), running jobs drawn until the wanted number fits, and a queue of jobs that
share a limited number of distinct requests: by default two fifths ask for 1 to 200 whole nodes (log-uniform), the
rest for part of one node.  Time limits are 10 minutes to 24 hours.  Drawn by numpy's PCG64: the same arguments give
the same tables on every machine.  What these tables mean is in `helix_native.arrays` and `.ahead_arrays`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from helix_native.ahead_arrays import (
    NEVER,
    AheadTables,
    JobArrays,
    KeptArrays,
    NeedArrays,
    PoolArrays,
    RowArrays,
    SpanArrays,
)
from helix_native.arrays import (
    Flags,
    Int32,
    Int64,
    NodeArrays,
    QueueArrays,
    ShapeArrays,
    TableArrays,
    empty_shapes,
    pack_bits,
)

MIB_PER_CPU = 4096
_CPUS = (64, 64, 128)  #: kinds of nodes, in equal parts
_GPUS = 4
_LIMITS_S = (600, 1800, 3600, 7200, 14400, 28800, 43200, 86400)
_WIDEST = 200  #: nodes


@dataclass(frozen=True, slots=True)
class Mix:
    """What the queue is made of.  Fractions of the distinct requests."""

    whole: float = 0.4  # whole nodes, one or more
    several: float = 0.0  # parts of several nodes (2 to 16)
    limited: float = 0.0  # of the jobs: under a licence or a limit
    pools: int = 0
    limit_divisor: int = 1  # shortens every time limit: a window that never fills


class Tables(NamedTuple):
    """Everything `plan_ahead` takes but its parameters."""

    nodes: NodeArrays
    shapes: ShapeArrays
    tables: TableArrays
    queue: QueueArrays
    rows: RowArrays
    needs: NeedArrays
    extra: AheadTables
    jobs: JobArrays
    pools: PoolArrays
    spans: SpanArrays
    kept: KeptArrays


def random_cluster(
    nodes: int, jobs: int, running: int, *, shapes: int = 1000, seed: int = 1, mix: Mix | None = None
) -> Tables:
    """Tables of `nodes` nodes with about `running` running and exactly `jobs` pending jobs of `shapes` requests."""
    mix = mix or Mix()
    rng = np.random.default_rng(seed)
    cpus = rng.choice(np.array(_CPUS, np.int32), nodes)
    gpus = np.where(rng.random(nodes) < 0.1, _GPUS, 0).astype(np.int32)
    free = np.stack([cpus.astype(np.int64), cpus * np.int64(MIB_PER_CPU), gpus.astype(np.int64)])
    spans = _run(rng, free, cpus, running)
    node_table = NodeArrays(
        cpus=cpus,
        width=np.ones(nodes, np.int32),
        mem=cpus * np.int64(MIB_PER_CPU),
        tmp=np.zeros(nodes, np.int64),
        rank=np.zeros(nodes, np.int32),
        up=np.ones(nodes, np.bool_),
        free_cpus=free[0].astype(np.int32),
        free_mem=free[1],
        empty=(free[0] == cpus),
    )
    rows = RowArrays(
        host=np.arange(nodes, dtype=np.int32),
        t_from=np.zeros(nodes, np.int64),
        t_to=np.full(nodes, NEVER, np.int64),
        gres=gpus.reshape(-1, 1),
        gres_free=free[2].astype(np.int32).reshape(-1, 1),
        switch=np.full(nodes, -1, np.int32),
    )
    shape_table, gres = _requests(rng, shapes, nodes, mix)
    limits = np.maximum(60, rng.choice(np.array(_LIMITS_S, np.int64), shapes) // mix.limit_divisor // 60 * 60)
    wanted = rng.integers(0, shapes, jobs)
    every = np.ones(nodes, np.bool_)
    job_table, pools = _limits(rng, jobs, limits[wanted], mix)
    return Tables(
        nodes=node_table,
        shapes=shape_table,
        tables=_eligibility(every, gpus > 0),
        queue=QueueArrays(
            shape=wanted.astype(np.int32),
            job=np.arange(jobs, dtype=np.int32),
            limit_s=limits[wanted],
            starts=np.ones(jobs, np.int32),
        ),
        rows=rows,
        needs=NeedArrays(
            gres=gres,
            score=np.full(shapes, -1, np.int32),
            switches=np.zeros(shapes, np.int32),
            switch_wait_s=np.full(shapes, NEVER, np.int64),
            chunk=np.full(shapes, -1, np.int32),
        ),
        extra=AheadTables(score=np.zeros((0, nodes), np.int32)),
        jobs=job_table,
        pools=pools,
        spans=spans,
        kept=nothing_kept(jobs),
    )


def nothing_kept(jobs: int) -> KeptArrays:
    """No reservation of an earlier pass for any of `jobs` slots."""
    none = np.zeros(0, np.int32)
    return KeptArrays(
        entry=np.full(jobs, -1, np.int32),
        start=np.zeros(jobs, np.int64),
        limit_s=np.zeros(jobs, np.int64),
        ptr=np.zeros(jobs + 1, np.int32),
        row=none,
        cpus=none,
        mem=np.zeros(0, np.int64),
    )


def _eligibility(every: Flags, with_gpus: Flags) -> TableArrays:
    """One partition; row 0 allows every node, row 1 those with GPUs."""
    return TableArrays(
        elig=np.stack([pack_bits(every), pack_bits(with_gpus)]),
        part=pack_bits(every).reshape(1, -1),
        part_gate=np.zeros(1, np.int8),
        part_time=np.zeros(1, np.int64),
        part_room=np.full(1, -1, np.int32),
        room=np.zeros((0, len(every)), np.int32),
        room_cap=np.zeros(0, np.int32),
        must=np.zeros(0, np.int32),
    )


def _run(rng: np.random.Generator, free: Int64, cpus: Int32, running: int) -> SpanArrays:
    """Draw running jobs, take them from `free` [3, N] (CPUs, MiB, GPUs); gives up when too many did not fit."""
    at: list[int] = []
    taken: list[tuple[int, int, int]] = []
    ends: list[int] = []
    order = [int(n) for n in rng.permutation(len(cpus))]
    shared, idle = order[: len(order) * 4 // 5], order[len(order) * 4 // 5 :]  # parts of nodes; whole nodes
    placed = 0
    for _ in range(3 * running):
        if placed == running:
            break
        end = int(rng.integers(60, 86400))
        if rng.random() < 0.01:
            wide = min(int(np.exp(rng.uniform(0, np.log(_WIDEST)))), len(idle) // 2)
            for n in (idle.pop() for _ in range(wide)):
                at.append(n)
                taken.append((int(free[0, n]), int(free[1, n]), int(free[2, n])))
                ends.append(end)
                free[:, n] = 0
            placed += wide > 0
            continue
        if not shared:
            continue
        n = shared[int(rng.integers(0, len(shared)))]
        want = int(rng.choice((1, 2, 4, 8, 16, 32)))
        gpu = min(int(free[2, n]), 1) if rng.random() < 0.5 else 0
        if free[0, n] >= want and free[1, n] >= want * 2048:
            at.append(n)
            taken.append((want, want * 2048, gpu))
            ends.append(end)
            free[:, n] -= (want, want * 2048, gpu)
            placed += 1
    used = np.array(taken, np.int64).reshape(-1, 3)
    return SpanArrays(
        row=np.array(at, np.int32),
        pool=np.full(len(at), -1, np.int32),
        t_from=np.zeros(len(at), np.int64),
        t_to=np.array(ends, np.int64),
        cpus=used[:, 0].copy(),
        mem=used[:, 1].copy(),
        gres=used[:, 2:].astype(np.int32),
    )


def _requests(rng: np.random.Generator, count: int, nodes: int, mix: Mix) -> tuple[ShapeArrays, Int32]:
    """Distinct requests and the GPUs they ask for on each node [S, 1]."""
    shapes = empty_shapes(count)
    gres = np.zeros((count, 1), np.int32)
    for s, kind in enumerate(rng.random(count)):
        shapes.nodes_lo[s] = shapes.task_lo[s] = shapes.task_hi[s] = shapes.cpt[s] = 1
        if kind < mix.whole:
            wide = int(np.exp(rng.uniform(0, np.log(min(_WIDEST, max(1, nodes // 4)) + 0.99))))
            shapes.nodes_lo[s] = shapes.nodes_hi[s] = max(1, wide)
            shapes.exclusive[s] = shapes.mem_all[s] = True
            continue
        if kind < mix.whole + mix.several:
            several = int(rng.integers(2, min(16, max(2, nodes)) + 1))
            shapes.nodes_lo[s] = shapes.nodes_hi[s] = several
        shapes.cpt[s] = int(rng.choice((1, 1, 2, 4, 8, 16, 32)))
        shapes.mem_node[s] = int(shapes.cpt[s]) * int(rng.integers(4, 33)) * 256
        if rng.random() < 0.1:
            gres[s, 0] = int(rng.integers(1, _GPUS + 1))
            shapes.elig[s] = 1
    return shapes, gres


def _limits(rng: np.random.Generator, jobs: int, limit_s: Int64, mix: Mix) -> tuple[JobArrays, PoolArrays]:
    """What job slots have, and the pools some of them are under."""
    under = rng.random(jobs) < mix.limited if mix.pools else np.zeros(jobs, np.bool_)
    counts = under.astype(np.int32)
    at = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int32) if jobs else np.zeros(0, np.int32)
    total = int(counts.sum())
    job_table = JobArrays(
        limit_min_s=np.zeros(jobs, np.int64),
        t_deadline=np.full(jobs, NEVER, np.int64),
        t_begin=np.zeros(jobs, np.int64),
        waited_s=np.zeros(jobs, np.int64),
        order=limit_s.copy(),
        pool_at=at,
        pool_n=counts,
        pool=rng.integers(0, max(1, mix.pools), total).astype(np.int32),
        amount=np.ones(total, np.int64),
    )
    return job_table, PoolArrays(total=np.full(mix.pools, 50, np.int64), used=np.zeros(mix.pools, np.int64))
