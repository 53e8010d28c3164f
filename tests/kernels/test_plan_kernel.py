"""The compiled planner equals its numpy specification, and both keep every rule a brute-force checker knows."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from helpers.plan_arrays import Case, Checker, random_case, same_plan
from hypothesis import given, settings
from hypothesis import strategies as st

import helix_native
from helix_native import numba_kernels, reference, samples
from helix_native.arrays import MEM_MAX, STARTED, NodeArrays, QueueArrays, pack_bits

SEEDS = st.integers(0, 2**32)


@settings(max_examples=400, deadline=None)
@given(SEEDS)
def test_compiled_planner_equals_reference(seed: int) -> None:
    case = random_case(seed)
    assert same_plan(numba_kernels.plan_fifo(*case.args), reference.plan_fifo(*case.args))


@settings(max_examples=200, deadline=None)
@given(SEEDS)
def test_compiled_planner_equals_reference_at_the_limits_of_numbers(seed: int) -> None:
    case = random_case(seed, huge=True)
    with np.errstate(over="raise"):
        expected = reference.plan_fifo(*case.args)
    assert same_plan(numba_kernels.plan_fifo(*case.args), expected)


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_compiled_planner_equals_reference_on_many_nodes(seed: int) -> None:
    case = random_case(seed, nodes_max=60, entries_max=60)
    assert same_plan(numba_kernels.plan_fifo(*case.args), reference.plan_fifo(*case.args))


@settings(max_examples=300, deadline=None)
@given(SEEDS)
def test_no_plan_exceeds_anything_and_every_reason_holds(seed: int) -> None:
    case = random_case(seed)
    Checker(case).check(numba_kernels.plan_fifo(*case.args))


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_inputs_are_not_written(seed: int) -> None:
    case, twin = random_case(seed), random_case(seed)
    for plan in (numba_kernels.plan_fifo, reference.plan_fifo):
        plan(*case.args)
        for mine, other in zip(case.args[:4], twin.args[:4], strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(mine, other, strict=True))


def no_nodes(case: Case) -> Case:
    nodes = NodeArrays._make(column[:0].copy() for column in case.nodes)
    tables = case.tables._replace(
        elig=np.zeros((1, 0), np.uint8), part=np.zeros((1, 0), np.uint8), room=np.zeros((0, 0), np.int32)
    )
    return Case(nodes, case.shapes, tables, case.queue, case.starts_max)


@pytest.mark.parametrize("plan", [numba_kernels.plan_fifo, reference.plan_fifo])
def test_no_nodes_and_no_jobs(plan: object) -> None:
    smallest = Case(*samples.smallest(), 10)
    assert callable(plan)
    result = plan(*no_nodes(smallest).args)
    assert len(result.start_entry) == 0
    assert result.code.tolist() == [5]
    none = QueueArrays(*(column[:0].copy() for column in smallest.queue[:3]), starts=np.zeros(0, np.int32))
    result = plan(*Case(smallest.nodes, smallest.shapes, smallest.tables, none, 10).args)
    assert len(result.start_entry) == len(result.code) == 0


def test_array_fills_the_fullest_node_first_then_the_next() -> None:
    case = many_nodes(3, cpus=4)
    case.nodes.free_cpus[:] = [4, 2, 3]
    case.queue.starts[0] = 7
    for plan in (numba_kernels.plan_fifo, reference.plan_fifo):
        assert plan(*case.args).node.tolist() == [1, 1, 2, 2, 2, 0, 0]


def many_nodes(count: int, cpus: int) -> Case:
    """`count` equal nodes and one job of one CPU."""
    nodes, shapes, tables, queue = samples.smallest()
    nodes = NodeArrays._make(np.repeat(column, count) for column in nodes)
    nodes.cpus[:], nodes.free_cpus[:] = cpus, cpus
    nodes.mem[:], nodes.free_mem[:] = MEM_MAX, MEM_MAX
    row = pack_bits(np.ones(count, np.bool_)).reshape(1, -1)
    tables = tables._replace(elig=row, part=row, room=np.zeros((0, count), np.int32))
    return Case(nodes, shapes, tables, queue, 1000)


def test_weight_comes_before_best_fit() -> None:
    case = many_nodes(3, cpus=4)
    case.nodes.rank[:] = [1, 0, 1]
    case.nodes.free_cpus[:] = [1, 4, 4]
    assert numba_kernels.plan_fifo(*case.args).node.tolist() == [1]


def test_tasks_fill_block_by_block_and_spread_evenly() -> None:
    case = many_nodes(4, cpus=8)
    case.shapes.nodes_lo[0] = case.shapes.nodes_hi[0] = 3
    case.shapes.tasks[0] = case.shapes.task_hi[0] = 10
    assert numba_kernels.plan_fifo(*case.args).cpus.tolist() == [8, 1, 1]
    case.shapes.spread[0] = True
    assert sorted(numba_kernels.plan_fifo(*case.args).cpus.tolist()) == [3, 3, 4]


def test_warm_up_compiles_once_and_switches() -> None:
    helix_native.warm_up()
    assert helix_native.is_warm()
    before = len(numba_kernels._plan.signatures)  # type: ignore[attr-defined]
    case = many_nodes(5, cpus=2)
    assert helix_native.kernels().plan_fifo(*case.args).code.tolist() == [STARTED]
    assert len(numba_kernels._plan.signatures) == before == 1  # type: ignore[attr-defined]


def test_other_threads_run_while_a_pass_is_planned() -> None:
    helix_native.warm_up()
    case = many_nodes(10_000, cpus=1)
    count = 2_000
    queue = case.queue._replace(
        shape=np.zeros(count, np.int32),
        job=np.arange(count, dtype=np.int32),
        limit_s=np.zeros(count, np.int64),
        starts=np.ones(count, np.int32),
    )
    done = threading.Event()

    def plan() -> None:
        numba_kernels.plan_fifo(case.nodes, case.shapes, case.tables, queue, 5_000)
        done.set()

    thread = threading.Thread(target=plan)
    thread.start()
    turns = 0
    while not done.is_set():
        turns += 1
    thread.join()
    assert turns > 100, "the interpreter stood still while a pass of some 20 ms was planned"
