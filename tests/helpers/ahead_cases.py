"""Random inputs of the planner that looks ahead."""

from __future__ import annotations

import random
from typing import NamedTuple

import numpy as np
from helpers.plan_arrays import random_case

from helix_native.ahead_arrays import (
    NEVER,
    AheadParams,
    AheadResult,
    AheadTables,
    JobArrays,
    KeptArrays,
    NeedArrays,
    PoolArrays,
    RowArrays,
    SpanArrays,
    no_kept,
)
from helix_native.arrays import NodeArrays, QueueArrays, ShapeArrays, TableArrays

I32, I64 = np.int32, np.int64


class AheadCase(NamedTuple):
    """Everything `plan_ahead` takes, in its order."""

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
    params: AheadParams


def ahead_case(seed: int, *, nodes_max: int = 6, entries_max: int = 12, huge: bool = False) -> AheadCase:
    """A small cluster with running jobs, windows, GRES, pools and every kind of request."""
    base = random_case(seed, nodes_max=nodes_max, entries_max=entries_max, huge=huge)
    rng = random.Random(seed + 1)
    nodes, shapes, tables, queue = base.nodes, base.shapes, base.tables, base.queue
    if rng.random() < 0.8 and not huge:
        _ease(rng, nodes, shapes, tables, queue)
    size, kinds, res = len(nodes.cpus), rng.choice([0, 0, 1, 2]), rng.choice([1, 1, 7, 60])
    if rng.random() < 0.5:
        shapes.contiguous[:] = False
        shapes.must_n[:] = 0
    if rng.random() < 0.5:
        shapes.exclusive[:] |= np.array([rng.random() < 0.5 for _ in shapes.exclusive], np.bool_)
    gres = np.array([[rng.choice([0, 2, 4, 4]) for _ in range(kinds)] for _ in range(size)], I32).reshape(size, kinds)
    window = rng.random() < 0.15
    rows = RowArrays(
        host=np.arange(size, dtype=I32),
        t_from=np.array([rng.choice([0, 0, 90]) if window else 0 for _ in range(size)], I64),
        t_to=np.array([rng.choice([NEVER, NEVER, 300]) if window else NEVER for _ in range(size)], I64),
        gres=gres,
        gres_free=gres.copy(),
        switch=np.array([rng.choice([-1, 0, 0, 1, 2]) for _ in range(size)], I32),
    )
    spans = _spans(rng, nodes, rows, tables)
    count = len(shapes.part)
    chunk = np.full(count, -1, I32)
    scores = rng.choice([0, 0, 1, 2])
    if rng.random() < 0.2:
        for s in range(count - 1):
            if rng.random() < 0.4:
                chunk[s] = s + 1
    needs = NeedArrays(
        gres=np.array([[rng.choice([0, 0, 0, 1, 2]) for _ in range(kinds)] for _ in range(count)], I32).reshape(
            count, kinds
        ),
        score=np.array([rng.randrange(-1, scores) for _ in range(count)], I32),
        switches=np.array([rng.choice([0, 0, 0, 0, 1, 2]) for _ in range(count)], I32),
        switch_wait_s=np.array([rng.choice([NEVER, 100]) for _ in range(count)], I64),
        chunk=chunk,
    )
    needs.switches[shapes.contiguous] = 0  # switches are chosen largest first: with fewer free, neighbours may be found
    extra = AheadTables(
        np.array([[rng.randint(-2, 2) for _ in range(size)] for _ in range(scores)], I32).reshape(scores, size)
    )
    jobs, pools = _jobs(rng, queue)
    queue.limit_s[:] = [rng.choice([0, 1, 50, 60, 120, 200, 1000]) for _ in queue.limit_s]
    fifo = rng.random() < 0.2
    params = AheadParams(
        protect=rng.choice([-1, -1, 0, 1, 2, 5]),
        backfill=not fifo,
        shortest_first=rng.random() < 0.3,
        predict=rng.random() < 0.6,
        compress=rng.random() < 0.5,
        resolution_s=res,
        window_s=rng.choice([0, 100, 1000, 5000]),
        starts_max=rng.choice([1, 3, 1000, 1000, 1000]),
        candidates_max=rng.choice([1, 2, 8]),
    )
    kept = no_kept(len(queue.starts))
    return AheadCase(nodes, shapes, tables, queue, rows, needs, extra, jobs, pools, spans, kept, params)


def _ease(rng: random.Random, nodes: NodeArrays, shapes: ShapeArrays, tables: TableArrays, queue: QueueArrays) -> None:
    """Take most hopeless requests out: more nodes that are larger, fewer conditions."""
    if rng.random() < 0.6:
        nodes.width[:] = 1
    for column in (shapes.gate, shapes.mem_floor, shapes.tmp, tables.part_gate):
        column[:] = 0
    tables.part_time[:] = 0
    if rng.random() < 0.7:
        tables.elig[:] = 255
        tables.part[:] = 255
    for n in range(len(nodes.cpus)):
        nodes.up[n] |= rng.random() < 0.8
        nodes.cpus[n] = rng.choice([4, 4, 8]) * nodes.width[n]
        nodes.mem[n] = rng.choice([100, 100, 60])
    for s in range(len(shapes.part)):
        if shapes.nodes_lo[s] > 1 and not shapes.must_n[s] and rng.random() < 0.5:
            shapes.nodes_lo[s] = shapes.nodes_hi[s] = 2
            shapes.grow[s] = False
            if shapes.tasks[s]:
                shapes.tasks[s] = max(2, int(shapes.tasks[s]))
    if rng.random() < 0.6:
        shapes.must_n[:] = 0
        shapes.contiguous[:] = False
    queue.starts[:] = np.maximum(queue.starts, 1)


def _spans(rng: random.Random, nodes: NodeArrays, rows: RowArrays, tables: TableArrays) -> SpanArrays:
    """Spans on some rows and pools; what is free now follows from them, with now and then something missing."""
    size, kinds = rows.gres.shape
    columns: dict[str, list[int]] = {name: [] for name in ("row", "pool", "t_from", "t_to", "cpus", "mem", "room")}
    gres: list[list[int]] = []
    nodes.free_cpus[:], nodes.free_mem[:], nodes.empty[:] = nodes.cpus, nodes.mem, True
    for row in range(size):
        width = int(nodes.width[row])
        for _ in range(rng.choice([0, 0, 1, 2, 3])):
            t_from = rng.choice([0, 0, 0, -5, 60, 130])
            cpus = rng.randint(0, max(0, int(nodes.cpus[row]) // width)) * width if rng.random() < 0.9 else 0
            mem = rng.randint(0, int(nodes.mem[row]))
            some = [rng.randint(0, int(g)) for g in rows.gres[row]]
            values = (row, -1, t_from, max(0, t_from) + rng.choice([1, 50, 60, 100, 500, NEVER]), cpus, mem)
            for name, value in zip(columns, values, strict=False):
                columns[name].append(value)
            columns["room"].append(rng.randrange(-1, len(tables.room_cap)))
            gres.append(some)
            if t_from <= 0:
                nodes.free_cpus[row] = max(0, int(nodes.free_cpus[row]) - cpus)
                nodes.free_mem[row] = max(0, int(nodes.free_mem[row]) - mem)
                rows.gres_free[row] = np.maximum(0, rows.gres_free[row] - np.array(some, I32))
                nodes.empty[row] = False
        if rng.random() < 0.1:
            nodes.free_cpus[row] = nodes.free_cpus[row] // 2 // width * width
            nodes.empty[row] = False
    for _ in range(rng.choice([0, 0, 2])):
        values = (-1, 0, rng.choice([0, 100]), rng.choice([150, 400, NEVER]), rng.randint(0, 2), 0)
        for name, value in zip(columns, values, strict=False):
            columns[name].append(value)
        columns["room"].append(-1)
        gres.append([0] * kinds)
    return SpanArrays(
        row=np.array(columns["row"], I32),
        pool=np.array(columns["pool"], I32),
        t_from=np.array(columns["t_from"], I64),
        t_to=np.array(columns["t_to"], I64),
        cpus=np.array(columns["cpus"], I64),
        mem=np.array(columns["mem"], I64),
        gres=np.array(gres, I32).reshape(len(gres), kinds),
        room=np.array(columns["room"], I32) if rng.random() < 0.8 else np.zeros(0, I32),
    )


def _jobs(rng: random.Random, queue: QueueArrays) -> tuple[JobArrays, PoolArrays]:
    count = len(queue.starts)
    pools = PoolArrays(total=np.array([6, 3, 0], I64), used=np.array([rng.randint(0, 2), 0, 0], I64))
    at, number, pool, amount = [], [], [], []
    for _ in range(count):
        chosen = rng.sample(range(3), rng.choice([0, 0, 0, 1, 2])) if rng.random() < 0.7 else []
        chosen = [k for k in chosen if k < 2 or rng.random() < 0.1]
        at.append(len(pool))
        number.append(len(chosen))
        pool.extend(chosen)
        amount.extend(rng.choice([1, 1, 2]) for _ in chosen)
    special = rng.random() < 0.5
    jobs = JobArrays(
        limit_min_s=np.array([rng.choice([0, 0, 30, 60]) if special else 0 for _ in range(count)], I64),
        t_deadline=np.array([rng.choice([NEVER, NEVER, 300]) if special else NEVER for _ in range(count)], I64),
        t_begin=np.array([rng.choice([0, 0, 0, 0, 80]) if special else 0 for _ in range(count)], I64),
        waited_s=np.array([rng.choice([0, 200]) for _ in range(count)], I64),
        order=np.array([rng.randint(0, 3) for _ in range(count)], I64),
        pool_at=np.array(at, I32),
        pool_n=np.array(number, I32),
        pool=np.array(pool, I32),
        amount=np.array(amount, I64),
    )
    return jobs, pools


def with_kept(case: AheadCase, result: AheadResult, elapsed_s: int) -> AheadCase:
    """The case some seconds later, with the protected reservations of a result kept, and nothing started."""
    kept = no_kept(len(case.queue.starts))
    row: list[int] = []
    cpus: list[int] = []
    mem: list[int] = []
    chunk: list[int] = []
    chosen = {int(case.queue.job[result.start_entry[i]]): i for i in range(result.starts, len(result.start_entry))}
    for job in range(len(kept.entry)):
        kept.ptr[job] = len(row)
        if job in chosen:
            i = chosen[job]
            at = slice(int(result.ptr[i]), int(result.ptr[i + 1]))
            kept.entry[job] = result.start_entry[i]
            kept.start[job], kept.limit_s[job] = int(result.t_start[i]) - elapsed_s, result.limit_s[i]
            row += result.row[at].tolist()
            cpus += result.cpus[at].tolist()
            mem += result.mem[at].tolist()
            chunk += result.chunk[at].tolist()
    kept.ptr[-1] = len(row)
    kept = kept._replace(
        row=np.array(row, I32), cpus=np.array(cpus, I32), mem=np.array(mem, I64), chunk=np.array(chunk, I32)
    )
    return case._replace(kept=kept)


def difference(one: AheadResult, other: AheadResult) -> str:
    """The first field in which two results differ, with both values; empty if none does."""
    for name, a, b in zip(one._fields, one, other, strict=True):
        if not np.array_equal(a, b):
            return f"{name}: {a} != {b}"
    return ""
