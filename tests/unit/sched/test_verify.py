"""The commit point accepts what still holds and refuses the rest, whatever the planner says."""

from __future__ import annotations

import numpy as np
from helpers.sched_world import World, node

from helix.model import events as ev
from helix.model.partition import PartitionRecord
from helix.sched.plan import Plan, PlannedStart, plan_from_starts
from helixctld.schedule.verify import verify


def planned(world: World, *starts: tuple[int, list[int], list[int], list[int]]) -> Plan:
    world.cycle.columns.update(world.state)
    snapshot = world.cycle.columns.freeze(world.now)
    objects = [
        PlannedStart(job_id, "main", np.array(n, np.int32), np.array(c, np.int32), np.array(m, np.int64))
        for job_id, n, c, m in starts
    ]
    plan = plan_from_starts(snapshot, objects)
    assert [s.job_id for s in plan.starts] == [s.job_id for s in objects]
    return plan


def outcome(world: World, plan: Plan) -> tuple[list[int], list[str]]:
    verified = verify(plan, world.state, spec_of=world.cycle.columns.queue.spec_of)
    return [a.job_id for a in verified.accepted], [c.why for c in verified.conflicts]


def test_starts_of_one_plan_see_each_other() -> None:
    world = World(nodes=1, cpus=4)
    a, b, c = (world.submit() for _ in range(3))
    plan = planned(world, *((j.job_id, [0], [2], [10]) for j in (a, b, c)))
    verified = verify(plan, world.state)
    assert [s.alloc.cores for s in verified.accepted] == [[[0, 1]], [[2, 3]]]
    assert [x.why for x in verified.conflicts] == ["n1 has too few free CPUs"]
    assert world.state.free_cores == [0b1111]


def test_jobs_that_changed_since_the_snapshot_are_conflicts() -> None:
    world = World(nodes=1, cpus=8)
    held, changed, gone, good = (world.submit() for _ in range(4))
    plan = planned(world, *((j.job_id, [0], [1], [1]) for j in (held, changed, gone, good)))
    world.do(ev.JobHeld(t=1.0, job_id=held.job_id))
    world.do(ev.JobUpdated(t=1.0, job_id=changed.job_id, spec=changed.spec.__class__(cpus_per_task=2)))
    world.do(ev.JobEnded(t=1.0, job_id=gone.job_id, attempt=0, state=ev.JobState.CANCELLED))
    accepted, why = outcome(world, plan)
    assert accepted == [good.job_id]
    assert why == ["the job may not start any more", "the job was changed", "the job may not start any more"]


def test_nodes_that_changed_since_the_snapshot_are_conflicts() -> None:
    world = World(nodes=2, cpus=4)
    jobs = [world.submit() for _ in range(3)]
    plan = planned(world, (jobs[0].job_id, [0], [1], [1]), (jobs[1].job_id, [0, 1], [1, 1], [1, 1]))
    world.update_node("n1", drain=True, reason="x")
    assert outcome(world, plan) == ([], ["a node is not available any more"] * 2)


def test_partial_acceptance_of_an_array_and_all_or_nothing_for_a_job() -> None:
    world = World(nodes=2, cpus=2)
    array = world.submit(array=9, array_limit=3)
    wide = world.submit(nodes_min=2, nodes_max=2, cpus_per_task=2)
    starts = [(array.job_id, [0], [1], [1])] * 3 + [(array.job_id, [1], [1], [1])] * 2
    plan = planned(world, *starts, (wide.job_id, [0, 1], [2, 2], [1, 1]))
    accepted, why = outcome(world, plan)
    assert accepted == [array.job_id] * 3
    assert why == ["n1 has too few free CPUs", "no more tasks may start", "n1 has too few free CPUs"]


def test_nonsense_from_a_planner_is_refused() -> None:
    world = World(nodes=1, cpus=4)
    job = world.submit()
    for nodes, cpus, mem in [([7], [1], [1]), ([-1], [1], [1]), ([0, 0], [1, 1], [1, 1]), ([0], [0], [1])]:
        assert outcome(world, planned(world, (job.job_id, nodes, cpus, mem)))[0] == []
    for nodes, cpus, mem in [([0], [-4], [1]), ([0], [1], [-1]), ([0], [1], [10**9]), ([], [], [])]:
        assert outcome(world, planned(world, (job.job_id, nodes, cpus, mem)))[0] == []
    assert outcome(world, planned(world, (999, [0], [1], [1])))[0] == []


def test_whole_node_needs_an_empty_node_and_shares_it_with_nobody() -> None:
    world = World(nodes=1, cpus=4)
    small, whole = world.submit(), world.submit(exclusive=True)
    plan = planned(world, (small.job_id, [0], [1], [1]), (whole.job_id, [0], [3], [1]))
    assert outcome(world, plan) == ([small.job_id], ["n1 is not empty any more"])
    plan = planned(world, (whole.job_id, [0], [3], [1]), (small.job_id, [0], [1], [1]))
    assert outcome(world, plan) == ([whole.job_id], ["n1 is taken"])


def test_partition_cpu_limit_holds_at_commit() -> None:
    main = PartitionRecord(name="main", nodes=["n1"], is_default=True, max_cpus_per_node=3)
    world = World([node("n1", 8)], partitions=[main])
    jobs = [world.submit() for _ in range(2)]
    plan = planned(world, *((j.job_id, [0], [2], [1]) for j in jobs))
    assert outcome(world, plan) == ([jobs[0].job_id], ["n1 has no CPUs left for partition main"])


def test_partition_that_was_closed_starts_nothing() -> None:
    world = World(nodes=1)
    job = world.submit()
    plan = planned(world, (job.job_id, [0], [1], [1]))
    world.do(ev.PartitionUpdated(t=1.0, name="main", changes={"state": "DOWN"}))
    assert outcome(world, plan)[0] == []


def test_a_pass_under_way_meets_changes_and_the_next_comes_soon() -> None:
    world = World(nodes=1, cpus=1)
    job = world.submit()
    plan = world.cycle.plan(world.cycle.prepare(world.state, 0.0))
    world.do(ev.JobHeld(t=1.0, job_id=job.job_id))
    assert world.cycle.commit(plan, world.state, 1.0) == ([], [])
    assert world.cycle.counters.conflicts == 1
    assert not world.cycle.due()
    assert world.cycle.due_in() == 0.01
    world.do(ev.JobReleased(t=1.0, job_id=job.job_id))
    assert world.run() == [job]
