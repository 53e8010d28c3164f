"""What a pass must look at again although nothing came free and no job is new."""

from __future__ import annotations

import pytest
from helpers.sched_world import World, node

import helix.sched.alike
from helix.model.job_state import JobState
from helix.model.topology import topology_of
from helix.sched.options import SchedOptions
from helix_plugins.sched.backfill import Backfill


@pytest.fixture(autouse=True)
def _passes_look_at_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helix.sched.alike, "FEW", 0)


def quick(world: World) -> list[int]:
    """Who starts in a quick pass."""
    world.ticks += 1.0
    accepted, _ = world.cycle.run_inline(world.state, world.now, full=False)
    return [job.job_id for job in world.begin(accepted)]


def test_nodes_that_may_serve_more_than_they_did() -> None:
    world = World([node("n1", features=["a"]), node("n2"), node("n3")], planner=Backfill())
    world.submit(nodelist="n1", cpus_per_task=4, time_limit_s=600)
    assert quick(world) == [1]
    world.submit(nodelist="n1", cpus_per_task=4, time_limit_s=600)
    job = world.submit(constraint="a", cpus_per_task=1, time_limit_s=600)
    assert [quick(world), quick(world)] == [[], []]
    world.update_node("n3", changes={"features": ["a"]})
    assert quick(world) == [job.job_id]


def test_a_wait_for_switches_that_is_over() -> None:
    options = SchedOptions(def_mem_per_cpu_mib=10, has_topology=True, keep_near=True, max_switch_wait_s=100)
    world = World(5, planner=Backfill(), options=options)
    leaves = [("s1", ("n1", "n2"), ()), ("s2", ("n3", "n4", "n5"), ())]
    world.state.set_topology(topology_of("tree", [*leaves, ("top", (), ("s1", "s2"))]))
    for name in ("n1", "n3", "n4"):
        world.submit(nodelist=name, exclusive=True, time_limit_s=9000)
    assert quick(world) == [1, 2, 3]
    world.submit(nodelist="n1", exclusive=True, time_limit_s=600)  # is promised the next start
    job = world.submit(nodes_min=2, nodes_max=2, exclusive=True, switches=1, time_limit_s=600)
    assert [quick(world), quick(world)] == [[], []]
    world.now += 101
    assert quick(world) == [job.job_id]


def test_tasks_of_an_array_that_may_start_again() -> None:
    world = World(2, planner=Backfill())
    blocked = world.submit(cpus_per_task=4, nodelist="n1", time_limit_s=600)
    assert quick(world) == [blocked.job_id]
    world.submit(nodelist="n1", cpus_per_task=4, time_limit_s=600)
    array = world.submit(array=3, array_limit=1, cpus_per_task=1, time_limit_s=600)
    assert len(quick(world)) == 1
    task = next(job for job in world.state.jobs.values() if job.array_job_id == array.job_id and job.is_active)
    world.end(task)
    assert len(quick(world)) == 1


def test_what_is_left_of_requests_that_nobody_makes_any_more() -> None:
    world = World([node(f"n{i}", features=[f"f{i}"]) for i in range(1, 9)], planner=Backfill())
    world.state.set_licences({"x": 1})
    running = world.submit(cpus_per_task=4, nodelist="n1", time_limit_s=600)
    world.submit(cpus_per_task=4, nodelist="n1", time_limit_s=600)
    assert quick(world) == [running.job_id]
    jobs = [world.submit(constraint=f"f{i}", nodes_min=2, licenses="x", time_limit_s=600) for i in range(2, 9)]
    quick(world)
    for job in jobs:
        world.end(job, JobState.CANCELLED)
    world.update_node("n8", changes={"features": ["other"]})
    world.state.set_licences({"x": 2})
    assert quick(world) == []
    world.end(running)
    assert quick(world) == [2]


def test_what_a_full_pass_finds_while_a_quick_one_is_under_way_is_looked_at_next() -> None:
    world = World(2, planner=Backfill())
    running = world.submit(cpus_per_task=4, nodelist="n1", time_limit_s=600)
    world.submit(cpus_per_task=4, nodelist="n1", time_limit_s=600)
    assert quick(world) == [running.job_id]
    assert quick(world) == []
    cycle = world.cycle
    assert cycle._past is not None
    plan = cycle.plan(cycle.prepare(world.state, world.now, full=False))
    job = world.submit(cpus_per_task=1, time_limit_s=60)
    cycle.commit_ahead(cycle.plan(cycle.prepare_ahead(world.state, world.now)), world.state, world.now)
    cycle.commit(plan, world.state, world.now)
    assert cycle._past is None
    assert quick(world) == [job.job_id]
    assert cycle._past is not None
