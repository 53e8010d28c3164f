"""The compiled planner that looks ahead equals its plain specification, field by field."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.ahead_cases import AheadCase, ahead_case, difference, with_kept
from hypothesis import given, settings
from hypothesis import strategies as st

from helix_native import ahead_kernels, reference_ahead, samples
from helix_native.ahead_arrays import NEVER, no_kept, plain_jobs
from helix_native.arrays import BAD, STARTED, QueueArrays

SEEDS = st.integers(0, 2**32)


@settings(max_examples=300, deadline=None)
@given(SEEDS)
def test_compiled_planner_equals_specification(seed: int) -> None:
    case = ahead_case(seed)
    assert not difference(ahead_kernels.plan_ahead(*case), reference_ahead.plan_ahead(*case))


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_equal_at_the_limits_of_numbers(seed: int) -> None:
    case = ahead_case(seed, huge=True)
    assert not difference(ahead_kernels.plan_ahead(*case), reference_ahead.plan_ahead(*case))


@settings(max_examples=15, deadline=None)
@given(SEEDS)
def test_equal_on_many_nodes(seed: int) -> None:
    case = ahead_case(seed, nodes_max=70, entries_max=40)
    assert not difference(ahead_kernels.plan_ahead(*case), reference_ahead.plan_ahead(*case))


@settings(max_examples=150, deadline=None)
@given(SEEDS, st.integers(0, 200))
def test_equal_with_kept_reservations(seed: int, elapsed_s: int) -> None:
    case = ahead_case(seed)
    case = case._replace(params=case.params._replace(backfill=True, predict=True))
    case = with_kept(case, reference_ahead.plan_ahead(*case), elapsed_s)
    assert not difference(ahead_kernels.plan_ahead(*case), reference_ahead.plan_ahead(*case))


@settings(max_examples=50, deadline=None)
@given(SEEDS)
def test_inputs_are_not_written(seed: int) -> None:
    case, twin = ahead_case(seed), ahead_case(seed)
    for plan in (ahead_kernels.plan_ahead, reference_ahead.plan_ahead):
        plan(*case)
        for mine, other in zip(case[:-1], twin[:-1], strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(mine, other, strict=True))


def smallest() -> AheadCase:
    """One node of one CPU, one job for an hour."""
    case = AheadCase(*samples.smallest_ahead())
    case.queue.limit_s[:] = 3600
    return case._replace(params=case.params._replace(starts_max=100, window_s=10**6))


@pytest.mark.parametrize("plan", [ahead_kernels.plan_ahead, reference_ahead.plan_ahead])
def test_no_jobs(plan: object) -> None:
    case = smallest()
    none = QueueArrays(*(column[:0].copy() for column in case.queue))
    assert callable(plan)
    result = plan(*case._replace(queue=none, jobs=plain_jobs(0), kept=no_kept(0)))
    assert len(result.start_entry) == len(result.code) == len(result.expected) == 0


@pytest.mark.parametrize("plan", [ahead_kernels.plan_ahead, reference_ahead.plan_ahead])
def test_one_node_one_job_then_its_copies(plan: object) -> None:
    case = smallest()
    assert callable(plan)
    case.queue.starts[:] = 3
    result = plan(*case)
    assert result.starts == 1
    assert result.t_start.tolist() == [0, 3600]
    assert result.expected.tolist() == [0]
    case.queue.limit_s[:] = 0  # unlimited: the second copy has no start
    result = plan(*case)
    assert result.t_start.tolist() == [0]
    assert result.code.tolist() != [STARTED]


@pytest.mark.parametrize("plan", [ahead_kernels.plan_ahead, reference_ahead.plan_ahead])
def test_what_can_never_start_is_bad_and_has_no_start(plan: object) -> None:
    case = smallest()
    assert callable(plan)
    case.shapes.cpt[:] = 2
    result = plan(*case)
    assert result.code.tolist() == [BAD]
    assert result.expected.tolist() == [NEVER]
