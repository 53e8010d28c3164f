"""What every plan that looks ahead keeps to, on random clusters and queues."""

from __future__ import annotations

import numpy as np
from helpers.ahead_brute import brute_plan
from helpers.ahead_cases import AheadCase, ahead_case, difference
from helpers.plan_arrays import Case, Checker
from hypothesis import given, settings
from hypothesis import strategies as st

from helix_native.ahead_arrays import NEVER, AheadResult, SpanArrays
from helix_native.ahead_kernels import plan_ahead
from helix_native.arrays import PRIORITY, RESOURCES, STARTED

SEEDS = st.integers(0, 2**32)


def shares(result: AheadResult, i: int) -> slice:
    return slice(int(result.ptr[i]), int(result.ptr[i + 1]))


def amounts(case: AheadCase, result: AheadResult, i: int, at: int) -> list[int]:
    """CPUs, MiB and GRES of a share."""
    s = int(case.queue.shape[result.start_entry[i]])
    for _ in range(int(result.chunk[at])):
        s = int(case.needs.chunk[s])
    return [int(result.cpus[at]), int(result.mem[at]), *map(int, case.needs.gres[s])]


def plain_case(seed: int) -> AheadCase:
    """A case the brute-force planner knows."""
    case = ahead_case(seed, nodes_max=5, entries_max=8)
    shapes, needs = case.shapes, case.needs
    shapes.contiguous[:] = False
    shapes.must_n[:] = 0
    shapes.tasks[:] = 0
    shapes.task_hi[:] = np.maximum(shapes.task_hi, shapes.task_lo)
    shapes.gate[:] = 0
    needs.chunk[:] = -1
    needs.switches[:] = 0
    case.tables.part_gate[:] = 0
    case.tables.part_time[:] = 0
    case.tables.part_room[:] = -1
    case.rows.t_from[:], case.rows.t_to[:] = 0, NEVER
    case.jobs.limit_min_s[:] = 0
    entries = len(case.queue.shape)
    job = np.arange(entries, dtype=np.int32)
    jobs = type(case.jobs)(*(np.resize(c, entries) for c in case.jobs[:-2]), case.jobs.pool, case.jobs.amount)
    case.queue.limit_s[:] = np.minimum(case.queue.limit_s, 200)
    queue = case.queue._replace(job=job, starts=np.ones(entries, np.int32))
    params = case.params._replace(backfill=True, starts_max=1000, window_s=min(case.params.window_s, 500))
    if params.resolution_s == 1:
        params = params._replace(resolution_s=10)
    none = case.kept._replace(
        entry=np.full(entries, -1, np.int32),
        start=np.zeros(entries, np.int64),
        limit_s=np.zeros(entries, np.int64),
        ptr=np.zeros(entries + 1, np.int32),
    )
    return case._replace(queue=queue, jobs=jobs, params=params, kept=none)


@settings(max_examples=150, deadline=None)
@given(SEEDS)
def test_small_plans_equal_a_brute_force_planner(seed: int) -> None:
    case = plain_case(seed)
    result = plan_ahead(*case)
    res = case.params.resolution_s
    mine = {
        int(e): (int(result.t_start[i]) // res, tuple(result.row[shares(result, i)].tolist()))
        for i, e in enumerate(result.start_entry)
    }
    assert mine == brute_plan(case)


@settings(max_examples=200, deadline=None)
@given(SEEDS)
def test_no_resource_is_exceeded_at_any_instant(seed: int) -> None:
    case = ahead_case(seed)
    result = plan_ahead(*case)
    spans, kinds = case.spans, 2 + case.rows.gres.shape[1]
    running: list[tuple[int, int, int, list[int]]] = []  # row, from, to, amounts
    for i in range(len(result.start_entry)):
        begin, limit = int(result.t_start[i]), int(result.limit_s[i])
        at = shares(result, i)
        for x in range(at.start, at.stop):
            running.append((int(result.row[x]), begin, begin + limit if limit else NEVER, amounts(case, result, i, x)))
    for row, begin, end, _ in running:
        assert case.nodes.up[row]
        assert case.rows.t_from[row] <= begin
        assert end <= case.rows.t_to[row]
    for row, begin, _, mine in running:
        used = [0] * kinds
        for r, a, b, other in running:
            if r == row and a <= begin < b:
                used = [u + v for u, v in zip(used, other, strict=True)]
        for x in np.flatnonzero(spans.row == row):
            if spans.t_from[x] <= begin < spans.t_to[x]:
                other = [int(spans.cpus[x]), int(spans.mem[x]), *map(int, spans.gres[x])]
                used = [u + v for u, v in zip(used, other, strict=True)]
        have = [int(case.nodes.cpus[row]), int(case.nodes.mem[row]), *map(int, case.rows.gres[row])]
        assert all(u <= h or not m for u, h, m in zip(used, have, mine, strict=True))


@settings(max_examples=200, deadline=None)
@given(SEEDS)
def test_no_pool_is_exceeded_at_any_start(seed: int) -> None:
    case = ahead_case(seed)
    result = plan_ahead(*case)
    running: list[tuple[int, int, int, int]] = []  # pool, from, to, amount
    for i, e in enumerate(result.start_entry):
        j, begin, limit = int(case.queue.job[e]), int(result.t_start[i]), int(result.limit_s[i])
        for x in range(int(case.jobs.pool_at[j]), int(case.jobs.pool_at[j] + case.jobs.pool_n[j])):
            end = begin + limit if limit else NEVER
            running.append((int(case.jobs.pool[x]), begin, end, int(case.jobs.amount[x])))
    for pool, begin, _, _ in running:
        used = sum(amount for k, a, b, amount in running if k == pool and a <= begin < b)
        for x in np.flatnonzero(case.spans.pool == pool):
            if case.spans.t_from[x] <= begin < case.spans.t_to[x]:
                used += int(case.spans.cpus[x])
        assert used <= case.pools.total[pool]


def simple_queue(seed: int, **params: object) -> AheadCase:
    """One entry and one copy a job, nothing that depends on what a job was promised before."""
    case = plain_case(seed)
    case.jobs.t_begin[:] = 0
    case.jobs.t_deadline[:] = NEVER
    case.jobs.pool_n[:] = 0
    return case._replace(params=case.params._replace(**params))


@settings(max_examples=150, deadline=None)
@given(SEEDS, st.integers(1, 4))
def test_protected_reservations_are_where_they_would_be_without_backfill(seed: int, protect: int) -> None:
    case = simple_queue(seed, protect=protect, predict=False, shortest_first=False)
    whole = plan_ahead(*case)
    entries = whole.start_entry[whole.starts :]
    if not len(entries):
        return
    fewer = case.queue.starts.copy()
    fewer[case.queue.job[int(entries.max()) + 1 :]] = 0
    alone = plan_ahead(*case._replace(queue=case.queue._replace(starts=fewer)))
    for i in range(len(entries)):
        mine, other = whole.starts + i, alone.starts + i
        assert whole.protected[mine]
        assert whole.start_entry[mine] == alone.start_entry[other]
        assert whole.t_start[mine] == alone.t_start[other]
        assert whole.row[shares(whole, mine)].tolist() == alone.row[shares(alone, other)].tolist()


@settings(max_examples=150, deadline=None)
@given(SEEDS)
def test_backfilled_starts_never_delay_the_protected_job(seed: int) -> None:
    case = simple_queue(seed, protect=1, predict=False)
    first = plan_ahead(*case)
    limits = first.limit_s[: first.starts]
    row, end, cpus, mem, gres = [], [], [], [], []
    for i in range(first.starts):
        at = shares(first, i)
        for x in range(at.start, at.stop):
            taken = amounts(case, first, i, x)
            row.append(int(first.row[x]))
            end.append(int(limits[i]) or NEVER)
            cpus.append(taken[0])
            mem.append(taken[1])
            gres.append(taken[2:])
    s, kinds = case.spans, case.rows.gres.shape[1]
    extra = SpanArrays(
        row=np.concatenate([s.row, np.array(row, np.int32)]),
        pool=np.concatenate([s.pool, np.full(len(row), -1, np.int32)]),
        t_from=np.concatenate([s.t_from, np.zeros(len(row), np.int64)]),
        t_to=np.concatenate([s.t_to, np.array(end, np.int64)]),
        cpus=np.concatenate([s.cpus, np.array(cpus, np.int64)]),
        mem=np.concatenate([s.mem, np.array(mem, np.int64)]),
        gres=np.concatenate([s.gres, np.array(gres, np.int32).reshape(len(row), kinds)]),
    )
    left = case.queue.starts.copy()
    left[case.queue.job[first.start_entry[: first.starts]]] = 0
    second = plan_ahead(*case._replace(spans=extra, queue=case.queue._replace(starts=left)))
    for i in range(first.starts, len(first.start_entry)):
        assert first.protected[i]
        assert second.expected[case.queue.job[first.start_entry[i]]] <= first.t_start[i]


@settings(max_examples=150, deadline=None)
@given(SEEDS)
def test_a_job_of_lower_priority_moves_nobody_that_has_a_reservation(seed: int) -> None:
    case = simple_queue(seed, protect=-1, predict=True)
    if len(case.queue.shape) < 2:
        return
    last = len(case.queue.shape) - 1
    fewer = case.queue.starts.copy()
    fewer[last] = 0
    without = plan_ahead(*case._replace(queue=case.queue._replace(starts=fewer)))
    with_it = plan_ahead(*case)
    assert without.expected[:last].tolist() == with_it.expected[:last].tolist()


@settings(max_examples=150, deadline=None)
@given(SEEDS, st.sampled_from([-1, 0, 1, 3]))
def test_equal_jobs_start_in_queue_order(seed: int, protect: int) -> None:
    case = simple_queue(seed, protect=protect, predict=True, shortest_first=False)
    case.queue.shape[:] = np.minimum(case.queue.shape, 1)
    case.queue.limit_s[:] = 100
    result = plan_ahead(*case)
    for shape in (0, 1):
        order = result.expected[case.queue.job[case.queue.shape == shape]].tolist()
        assert order == sorted(order)


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_same_input_same_plan_whatever_the_order_of_its_tables(seed: int) -> None:
    case = ahead_case(seed)
    one = plan_ahead(*case)
    assert not difference(one, plan_ahead(*case))
    rng = np.random.default_rng(seed)
    slot = rng.permutation(len(case.queue.starts)).astype(np.int32)  # new number of every job slot
    back = np.argsort(slot)
    span = rng.permutation(len(case.spans.row))
    spans = SpanArrays(*(c[span] if len(c) else c for c in case.spans))
    jobs = type(case.jobs)(*(c[back] for c in case.jobs[:-2]), case.jobs.pool, case.jobs.amount)
    shape = rng.permutation(len(case.shapes.part)).astype(np.int32)
    order = np.argsort(shape)
    shapes = type(case.shapes)(*(c[order] for c in case.shapes))
    needs = type(case.needs)(*(c[order] for c in case.needs))
    needs = needs._replace(chunk=np.where(needs.chunk >= 0, shape[needs.chunk], -1).astype(np.int32))
    queue = case.queue._replace(shape=shape[case.queue.shape], job=slot[case.queue.job], starts=case.queue.starts[back])
    other = plan_ahead(*case._replace(queue=queue, jobs=jobs, spans=spans, shapes=shapes, needs=needs))
    other = other._replace(code=other.code[slot], expected=other.expected[slot], pool=other.pool[slot])
    assert not difference(one, other)


@settings(max_examples=150, deadline=None)
@given(SEEDS)
def test_every_reason_agrees_with_trying_all_sets_of_nodes(seed: int) -> None:
    case = ahead_case(seed, nodes_max=5)
    case.needs.gres[:] = 0
    case.needs.switches[:] = 0
    case.needs.chunk[:] = -1
    case.jobs.t_begin[:] = 0  # what begins later is not looked at
    case.spans.mem[case.spans.cpus == 0] = 0  # memory held without CPUs counts against whole nodes for ever
    case = case._replace(params=case.params._replace(backfill=True, starts_max=1000))
    result = plan_ahead(*case)
    checker = Checker(Case(case.nodes, case.shapes, case.tables, case.queue, 1000))
    for job in range(len(case.queue.starts)):
        verdicts = {
            checker.verdict(e, int(case.queue.shape[e])) for e in np.flatnonzero(case.queue.job == job).tolist()
        }
        code = int(result.code[job])
        if code in (PRIORITY, RESOURCES, STARTED):
            assert RESOURCES in verdicts
        elif 0 < code < PRIORITY:
            assert code == max(verdicts - {RESOURCES}, default=0)
            assert RESOURCES not in verdicts or case.queue.starts[job] <= 0
        if code == PRIORITY:
            assert len(result.block_entry)
