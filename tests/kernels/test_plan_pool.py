"""The planner of one row of CPUs gives what the specification gives, and declines what is not so plain."""

from __future__ import annotations

import numpy as np
import pytest

from helix_native import ahead_pool, reference_ahead
from helix_native.ahead_arrays import (
    NEVER,
    AheadParams,
    AheadTables,
    KeptArrays,
    PoolArrays,
    plain_jobs,
    plain_needs,
    plain_rows,
    row_spans,
)
from helix_native.arrays import NodeArrays, QueueArrays, ShapeArrays, TableArrays, empty_shapes

I32, I64 = np.int32, np.int64


def machine(cpus: int, free: int, width: int = 1) -> NodeArrays:
    return NodeArrays(
        cpus=np.array([cpus], I32),
        width=np.array([width], I32),
        mem=np.array([1], I64),
        tmp=np.array([0], I64),
        rank=np.zeros(1, I32),
        up=np.ones(1, np.bool_),
        free_cpus=np.array([free], I32),
        free_mem=np.array([1], I64),
        empty=np.array([free == cpus], np.bool_),
    )


def requests(tasks: list[int], parts: list[int]) -> ShapeArrays:
    shapes = empty_shapes(len(tasks))
    shapes.tasks[:] = tasks
    shapes.part[:] = parts
    shapes.nodes_lo[:] = shapes.task_lo[:] = shapes.cpt[:] = 1
    shapes.task_hi[:] = tasks
    return shapes


def tables(parts: int, longest: int = 0) -> TableArrays:
    return TableArrays(
        elig=np.ones((1, 1), np.uint8),
        part=np.ones((parts, 1), np.uint8),
        part_gate=np.zeros(parts, np.int8),
        part_time=np.full(parts, longest, I64),
        part_room=np.full(parts, -1, I32),
        room=np.zeros((0, 1), I32),
        room_cap=np.zeros(0, I32),
        must=np.zeros(0, I32),
    )


class Case:
    """Random tables of one row."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.rng = rng
        self.cpus = int(rng.integers(1, 40))
        parts = int(rng.integers(1, 3))
        kinds = int(rng.integers(1, 7))
        self.shapes = requests(
            rng.integers(1, self.cpus + 3, kinds).tolist(),  # some are too large for ever
            rng.integers(0, parts, kinds).tolist(),
        )
        self.tables = tables(parts, longest=int(rng.choice([0, 0, 60])))
        entries = int(rng.integers(0, 14))
        spare = int(rng.integers(0, 3))
        slots = rng.permutation(entries + spare)[:entries].astype(I32)
        starts = np.zeros(max(1, entries + spare), I32)
        starts[slots] = 1
        self.queue = QueueArrays(
            shape=rng.integers(0, kinds, entries).astype(I32),
            job=slots,
            limit_s=rng.choice([0, 1, 5, 5, 17, 30, 59, 60, 61, 200], entries).astype(I64),
            starts=starts,
        )
        self.jobs = plain_jobs(len(starts))._replace(order=rng.integers(0, 5, len(starts)).astype(I64))
        running: list[int] = []
        while (more := int(rng.integers(1, self.cpus + 1))) + sum(running) <= self.cpus and rng.random() < 0.8:
            running.append(more)
        until = rng.choice([1, 3, 3, 8, 20, 60, 100, int(NEVER)], len(running)).astype(I64)
        count = len(running)
        self.spans = row_spans(np.zeros(count, I32), until, np.array(running, I64), np.zeros(count, I64))
        self.nodes = machine(self.cpus, self.cpus - sum(running))

    def params(self, **changes: object) -> AheadParams:
        rng = self.rng
        params = AheadParams(
            protect=int(rng.choice([-1, 0, 1, 1, 3])),
            backfill=True,
            shortest_first=bool(rng.integers(0, 2)),
            predict=bool(rng.integers(0, 2)),
            compress=bool(rng.integers(0, 2)),
            resolution_s=int(rng.choice([1, 1, 7])),
            window_s=int(rng.choice([50, 1 << 34])),
            starts_max=int(rng.choice([2, 100, 100])),
            candidates_max=8,
        )
        return params._replace(**changes)  # type: ignore[arg-type]

    def kept(self, params: AheadParams) -> KeptArrays:
        """What a pass that reserves for everybody leaves, a while later; some reservations lost."""
        jobs = len(self.queue.starts)
        entry, start, limit = np.full(jobs, -1, I32), np.zeros(jobs, I64), np.zeros(jobs, I64)
        cpus = np.zeros(jobs, I32)
        earlier = self.specified(self.none(), params._replace(protect=-1, predict=False, starts_max=100))
        for at in range(earlier.starts, len(earlier.start_entry)):
            e = int(earlier.start_entry[at])
            j = int(self.queue.job[e])
            if self.rng.random() < 0.9:
                entry[j], start[j], limit[j] = e, max(0, int(earlier.t_start[at]) - 2), earlier.limit_s[at]
                cpus[j] = earlier.cpus[at]
        held = np.flatnonzero(entry >= 0)
        counts = (entry >= 0).astype(I32)
        return KeptArrays(
            entry=entry,
            start=start,
            limit_s=limit,
            ptr=np.concatenate([[0], np.cumsum(counts)]).astype(I32),
            row=np.zeros(len(held), I32),
            cpus=cpus[held],
            mem=np.zeros(len(held), I64),
        )

    def none(self) -> KeptArrays:
        jobs = len(self.queue.starts)
        i32, i64 = np.zeros(0, I32), np.zeros(0, I64)
        return KeptArrays(
            entry=np.full(jobs, -1, I32), start=np.zeros(jobs, I64), limit_s=np.zeros(jobs, I64),
            ptr=np.zeros(jobs + 1, I32), row=i32, cpus=i32, mem=i64,
        )  # fmt: skip

    def specified(self, kept: KeptArrays, params: AheadParams) -> reference_ahead.AheadResult:
        needs, extra = plain_needs(len(self.shapes.part)), AheadTables(score=np.zeros((0, 1), I32))
        pools = PoolArrays(total=np.zeros(0, I64), used=np.zeros(0, I64))
        return reference_ahead.plan_ahead(
            self.nodes, self.shapes, self.tables, self.queue, plain_rows(1), needs, extra, self.jobs, pools,
            self.spans, kept, params,
        )  # fmt: skip

    def lean(self, kept: KeptArrays, params: AheadParams) -> reference_ahead.AheadResult | None:
        needs = plain_needs(len(self.shapes.part))
        pools = PoolArrays(total=np.zeros(0, I64), used=np.zeros(0, I64))
        return ahead_pool.plan_pool(
            self.nodes, self.shapes, self.tables, self.queue, plain_rows(1), needs, self.jobs, pools, self.spans,
            kept, params,
        )  # fmt: skip


def assert_same(lean: reference_ahead.AheadResult | None, specified: reference_ahead.AheadResult, where: str) -> None:
    assert lean is not None, where
    for name, want in specified._asdict().items():
        got = getattr(lean, name)
        if isinstance(want, np.ndarray):
            assert got.dtype == want.dtype, (where, name)
            assert got.shape == want.shape, (where, name, got, want)
            assert (got == want).all(), (where, name, got, want)
        else:
            assert got == want, (where, name)


@pytest.mark.parametrize("block", range(8))
def test_it_plans_as_the_specification_does(block: int) -> None:
    for seed in range(block * 60, block * 60 + 60):
        case = Case(seed)
        params = case.params()
        assert_same(case.lean(case.none(), params), case.specified(case.none(), params), f"seed {seed}")


@pytest.mark.parametrize("block", range(8))
def test_kept_reservations_are_gone_by_as_the_specification_does(block: int) -> None:
    for seed in range(block * 40, block * 40 + 40):
        case = Case(seed)
        params = case.params(protect=int(np.random.default_rng(seed).choice([-1, -1, -1, 2])))
        kept = case.kept(params)
        assert_same(case.lean(kept, params), case.specified(kept, params), f"seed {seed}")


def test_an_empty_queue_is_planned() -> None:
    case = Case(1)
    case.queue = QueueArrays(np.zeros(0, I32), np.zeros(0, I32), np.zeros(0, I64), np.zeros(1, I32))
    case.jobs = plain_jobs(1)
    params = case.params()
    assert_same(case.lean(case.none(), params), case.specified(case.none(), params), "empty")


def test_what_is_not_plain_is_declined() -> None:
    case = Case(3)
    while not len(case.queue.shape):
        case = Case(case.cpus + 5)
    params = case.params()
    used = int(case.queue.shape[0])
    for column, value in (("exclusive", True), ("mem_node", 1), ("mem_all", True), ("must_n", 1), ("nodes_lo", 2)):
        kept = getattr(case.shapes, column)[used].copy()
        getattr(case.shapes, column)[used] = value
        assert case.lean(case.none(), params) is None, column
        getattr(case.shapes, column)[used] = kept
    assert case.lean(case.none(), params) is not None
    assert case.lean(case.none(), params._replace(backfill=False)) is None
    taken = case.nodes._replace(free_cpus=case.nodes.free_cpus - 1)
    case.nodes = taken  # somebody takes CPUs without a span: what holds them, and how long, is not plain
    assert case.lean(case.none(), params) is None
