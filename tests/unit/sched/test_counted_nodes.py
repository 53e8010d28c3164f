"""A node too large to number its CPUs: they are counted, everything else is as on other nodes."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.sched_world import World, node

from helix.model import events as ev
from helix.model.codec import msgpack_decoder, to_msgpack
from helix.model.job import Allocation
from helix.model.node import COUNTED_CPUS, is_counted
from helix.sched.plan import PlannedStart, plan_from_starts
from helixctld.core import invariants, views
from helixctld.core.state import State
from helixctld.core.state_save import Persistent
from helixctld.schedule.verify import verify

BIG = 80_640


def world() -> World:
    return World(nodes=[node("pool", BIG, BIG * 10), node("n1", 4, 1000)])


def test_the_bound_is_beyond_real_nodes() -> None:
    assert not is_counted(node("n", COUNTED_CPUS))
    assert is_counted(node("n", COUNTED_CPUS + 1))


def test_jobs_fill_a_counted_node_to_the_last_cpu_and_give_back_what_they_took() -> None:
    w = world()
    w.update_node("n1", drain=True, reason="only the pool")
    first, second, third = (w.submit(tasks=n, nodes_min=1, nodes_max=1) for n in (BIG - 2, 1, 2))
    assert w.run() == [first, second]
    assert first.alloc is not None
    assert (first.alloc.cores, first.alloc.cpus) == ([[]], [BIG - 2])
    assert views.cpus_of(first) == BIG - 2
    assert w.state.nodes["pool"].cpus_alloc == BIG - 1
    w.end(second)
    assert w.run() == [third]
    w.end(first)
    w.end(third)
    assert w.state.nodes["pool"].cpus_alloc == 0


def test_an_allocation_over_both_kinds_of_nodes_names_cpus_only_where_they_have_numbers() -> None:
    w = world()
    job = w.submit(tasks=BIG + 3)
    assert w.run() == [job]
    assert job.alloc is not None
    at = job.alloc.nodes.index("n1")
    assert job.alloc.cpus[at] == len(job.alloc.cores[at])
    assert sum(job.alloc.cpus) == BIG + 3


def test_whole_node_requests_see_a_counted_node_that_is_in_use() -> None:
    w = world()
    w.update_node("n1", drain=True, reason="only the pool")
    one, whole = w.submit(), w.submit(exclusive=True)
    assert w.run() == [one]
    w.end(one)
    assert w.run() == [whole]
    assert w.state.nodes["pool"].cpus_alloc == BIG


def test_the_commit_point_refuses_more_than_is_left() -> None:
    w = world()
    jobs = [w.submit() for _ in range(3)]
    w.cycle.columns.update(w.state)
    snapshot = w.cycle.columns.freeze(w.now)
    counts = (BIG - 1, 2, 1)
    plan = plan_from_starts(
        snapshot,
        [
            PlannedStart(j.job_id, "main", np.zeros(1, np.int32), np.array([c], np.int32), np.ones(1, np.int64))
            for j, c in zip(jobs, counts, strict=True)
        ],
    )
    verified = verify(plan, w.state)
    assert [start.job_id for start in verified.accepted] == [jobs[0].job_id, jobs[2].job_id]
    assert [conflict.why for conflict in verified.conflicts] == ["pool has too few free CPUs"]


def test_giving_a_cpu_twice_is_a_fault() -> None:
    w = world()
    job, other = w.submit(tasks=BIG, nodes_max=1), w.submit()
    assert w.run() == [job, other]
    waiting = w.submit()
    alloc = Allocation(nodes=["pool"], cores=[[]], mem_mib=[1], counts=[1])
    started = ev.JobStarted(t=w.now, job_id=waiting.job_id, attempt=0, partition="main", time_limit_s=0, alloc=alloc)
    with pytest.raises(AssertionError, match="are not free"):
        w.do(started)


def test_a_restart_counts_again() -> None:
    w = world()
    job = w.submit(tasks=70_000, nodes_max=1)
    assert w.run() == [job]
    kept = msgpack_decoder(Persistent).decode(to_msgpack(w.state.freeze()))
    state = State("test")
    state.thaw(kept)
    state.set_nodes([node("pool", BIG, BIG * 10), node("n1", 4, 1000)])
    invariants.check(state)
    assert state.nodes["pool"].cpus_alloc == 70_000
