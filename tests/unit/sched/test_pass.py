"""A pass over real state: who starts where, who waits for what."""

from __future__ import annotations

import pytest
from helpers.sched_world import World, node

from helix.model import events as ev
from helix.model.job_state import JobState, Reason
from helix.model.node import NodeBase
from helix.model.partition import PartitionRecord
from helix.sched.options import SchedOptions


def test_jobs_start_in_submit_order_and_fill_a_node_before_the_next() -> None:
    world = World(nodes=2, cpus=4)
    jobs = [world.submit(cpus_per_task=2) for _ in range(5)]
    started = world.run()
    assert [j.job_id for j in started] == [j.job_id for j in jobs[:4]]
    assert [world.where(j)[0] for j in jobs[:4]] == ["n1", "n1", "n2", "n2"]
    assert jobs[4].reason is Reason.RESOURCES
    assert "too few free CPUs on 2" in jobs[4].reason_text


def test_jobs_behind_a_waiting_job_show_priority_and_do_not_overtake() -> None:
    world = World(nodes=1, cpus=4)
    first = world.submit(cpus_per_task=3)
    big = world.submit(cpus_per_task=4)
    small = world.submit()
    assert world.run() == [first]
    assert (big.reason, small.reason) == (Reason.RESOURCES, Reason.PRIORITY)
    world.end(first)
    assert world.run() == [big]
    assert small.reason is Reason.RESOURCES


def test_array_starts_many_tasks_in_one_pass_within_its_limit() -> None:
    world = World(nodes=2, cpus=4)
    array = world.submit(array=20, array_limit=5)
    assert len(world.run()) == 5
    assert array.reason is Reason.ARRAY_TASK_LIMIT
    assert world.run() == []
    other = world.submit(array=20)
    assert [j.array_job_id for j in world.run()] == [other.job_id] * 3
    assert len(array.pending or ()) == 15


def test_array_task_that_was_requeued_starts_again_as_itself() -> None:
    world = World(nodes=1, cpus=2)
    world.submit(array=3)
    one, two = world.run()
    world.end(one, JobState.PENDING)
    assert {j.job_id for j in world.run()} == {one.job_id}
    assert one.array_task_id == 0
    assert two.state is JobState.CONFIGURING


def test_exclusive_job_takes_an_empty_node_whole() -> None:
    world = World(nodes=2, cpus=4)
    small = world.submit()
    whole = world.submit(exclusive=True)
    late = world.submit(cpus_per_task=4)
    world.run()
    assert world.where(small) == ["n1"]
    assert world.where(whole) == ["n2"]
    assert whole.alloc is not None
    assert whole.alloc.cores == [[0, 1, 2, 3]]
    assert whole.alloc.whole
    assert whole.alloc.mem_mib == [40]
    assert late.reason is Reason.RESOURCES
    world.end(small)
    assert world.run() == [late]
    blocked = world.submit()
    world.run()
    assert blocked.reason is Reason.RESOURCES
    assert world.why(blocked)["counts"][0]["reason"] == "cpus"


def test_memory_is_given_out_and_runs_out() -> None:
    world = World([node("n1", 8, 100)])
    jobs = [world.submit(mem_per_node_mib=40) for _ in range(3)]
    assert world.run() == jobs[:2]
    assert "too little free memory on 1" in jobs[2].reason_text
    world.end(jobs[0])
    assert world.run() == [jobs[2]]


def test_all_memory_of_a_node_needs_it_unused() -> None:
    world = World([node("n1", 8, 100), node("n2", 8, 100)])
    small = world.submit(mem_per_node_mib=1)
    everything = world.submit(mem_all=True)
    world.run()
    assert world.where(small) != world.where(everything)
    assert everything.alloc is not None
    assert everything.alloc.mem_mib == [100]


def test_lower_weight_first_then_best_fit() -> None:
    world = World([node("a", 8, weight=5), node("b", 8), node("c", 4)])
    job = world.submit(cpus_per_task=3)
    world.run()
    assert world.where(job) == ["c"]


def test_hyperthreads_are_given_in_whole_cores() -> None:
    world = World([node("n1", 8, sockets=1, cores_per_socket=4, threads_per_core=2)])
    one = world.submit()
    three = world.submit(tasks=3)
    world.run()
    assert one.alloc is not None
    assert three.alloc is not None
    assert one.alloc.cores == [[0, 1]]
    assert three.alloc.cores == [[2, 3, 4, 5]]
    assert one.alloc.mem_mib == [20]


def test_tasks_spread_over_several_nodes_block_by_block() -> None:
    world = World(nodes=3, cpus=4)
    job = world.submit(tasks=6, nodes_min=2, nodes_max=2)
    world.run()
    assert job.alloc is not None
    assert [len(c) for c in job.alloc.cores] == [4, 2]


def test_node_range_takes_as_many_as_there_are() -> None:
    world = World(nodes=3, cpus=4)
    world.submit(cpus_per_task=4)
    job = world.submit(nodes_min=1, nodes_max=4, cpus_per_task=4)
    world.run()
    assert world.where(job) == ["n2", "n3"]


def test_required_and_excluded_nodes() -> None:
    world = World(nodes=3, cpus=4)
    required = world.submit(nodelist="n3")
    excluded = world.submit(exclude="n[1-2]")
    world.run()
    assert world.where(required) == ["n3"]
    assert world.where(excluded) == ["n3"]


def test_a_job_that_waits_for_named_nodes_keeps_only_those() -> None:
    world = World(nodes=2, cpus=4)
    hog = world.submit(nodelist="n1", cpus_per_task=4)
    waits = world.submit(nodelist="n1", cpus_per_task=4)
    passes = world.submit(cpus_per_task=4)
    assert world.run() == [hog, passes]
    assert waits.reason is Reason.RESOURCES


def test_features_choose_nodes() -> None:
    world = World([node("n1", 4, features=["cpu"]), node("n2", 4, features=["gpu", "cpu"])])
    job = world.submit(constraint="gpu")
    world.run()
    assert world.where(job) == ["n2"]
    world.do(ev.NodeUpdated(t=1.0, node="n1", changes={"features": ["gpu", "new"]}))
    job = world.submit(constraint="gpu&new")
    world.run()
    assert world.where(job) == ["n1"]


@pytest.mark.parametrize(("named", "reason"), [(False, Reason.NODES_UNAVAILABLE), (True, Reason.REQ_NODE_NOT_AVAIL)])
def test_jobs_that_need_a_drained_node_wait_for_it_and_block_nobody(named: bool, reason: Reason) -> None:
    world = World([node("n1", 8), node("n2", 4)])
    world.update_node("n1", drain=True, reason="test")
    waits = world.submit(nodelist="n1") if named else world.submit(cpus_per_task=8)
    passes = world.submit()
    assert world.run() == [passes]
    assert waits.reason is reason
    world.update_node("n1", drain=False)
    assert world.run() == [waits]


def test_a_node_that_does_not_answer_gets_nothing_new() -> None:
    world = World(nodes=1)
    job = world.submit()
    world.state.set_responding("n1", False)
    assert world.run() == []
    world.update_node("n1", base=NodeBase.DOWN, reason="gone")
    assert world.run() == []
    assert job.reason is Reason.NODES_UNAVAILABLE


def parts(*extra: PartitionRecord, nodes: int = 2) -> list[PartitionRecord]:
    names = [f"n{i + 1}" for i in range(nodes)]
    return [PartitionRecord(name="main", nodes=names, is_default=True), *extra]


def test_partition_states_and_limits_become_reasons() -> None:
    tiny = PartitionRecord(name="tiny", nodes=["n1", "n2"], max_time_s=60, max_nodes=1)
    shut = PartitionRecord(name="shut", nodes=["n1"], state="DOWN")
    world = World(cpus=8, partitions=parts(tiny, shut))
    long = world.submit(partitions=["tiny"], time_limit_s=3600)
    wide = world.submit(partitions=["tiny"], nodes_min=2, nodes_max=2, time_limit_s=60)
    down = world.submit(partitions=["shut"])
    either = world.submit(partitions=["shut", "main"])
    assert world.run() == [either]
    assert either.partition == "main"
    assert (long.reason, wide.reason, down.reason) == (
        Reason.PARTITION_TIME_LIMIT,
        Reason.PARTITION_NODE_LIMIT,
        Reason.PARTITION_DOWN,
    )
    world.do(ev.PartitionUpdated(t=1.0, name="shut", changes={"state": "UP"}))
    assert world.run() == [down]
    world.do(ev.PartitionUpdated(t=1.0, name="tiny", changes={"max_time_s": 0, "max_nodes": 0}))
    assert world.run() == [long, wide]


def test_higher_tier_goes_first_and_its_waiting_job_keeps_shared_nodes() -> None:
    high = PartitionRecord(name="high", nodes=["n1", "n2"], priority_tier=9)
    world = World(nodes=2, cpus=4, partitions=parts(high))
    world.submit(cpus_per_task=4)
    world.run()
    low = world.submit(cpus_per_task=2)
    urgent = world.submit(partitions=["high"], nodes_min=2, nodes_max=2, cpus_per_task=4)
    assert world.run() == []
    assert urgent.reason is Reason.RESOURCES
    assert low.reason is Reason.PRIORITY


def test_partition_cpu_limit_on_a_node_counts_all_its_jobs() -> None:
    capped = PartitionRecord(name="capped", nodes=["n1"], max_cpus_per_node=3)
    world = World(nodes=1, cpus=8, partitions=parts(capped, nodes=1))
    jobs = [world.submit(partitions=["capped"], cpus_per_task=2) for _ in range(2)]
    assert world.run() == jobs[:1]
    assert "limit" in jobs[1].reason_text
    one = world.submit(cpus_per_task=5)
    assert world.run() == [one]
    world.end(jobs[0])
    assert world.run() == [jobs[1]]


def test_partition_for_whole_nodes_only() -> None:
    whole = PartitionRecord(name="main", nodes=["n1"], is_default=True, oversubscribe="EXCLUSIVE")
    world = World(nodes=1, partitions=[whole])
    first, second = world.submit(), world.submit()
    assert world.run() == [first]
    assert second.reason is Reason.RESOURCES


def test_least_loaded_nodes_first() -> None:
    spread = PartitionRecord(name="main", nodes=["n1", "n2"], is_default=True, lln=True)
    world = World(nodes=2, partitions=[spread])
    jobs = [world.submit() for _ in range(4)]
    world.run()
    assert [world.where(j)[0] for j in jobs] == ["n1", "n2", "n1", "n2"]


def test_priority_order_follows_updates() -> None:
    world = World(nodes=1, cpus=1)
    first, second, third = world.submit(), world.submit(), world.submit()
    spec = third.spec.__class__(priority=2**32 - 2)
    world.do(ev.JobUpdated(t=1.0, job_id=third.job_id, spec=spec, priority=2**32 - 2))
    assert world.run() == [third]
    world.do(ev.JobHeld(t=1.0, job_id=first.job_id))
    world.end(third)
    assert world.run() == [second]
    assert first.reason is Reason.HELD_USER


def test_nodes_where_launching_failed_are_avoided_unless_there_are_no_others() -> None:
    world = World(nodes=2, cpus=4)
    job = world.submit()
    world.run()
    world.do(
        ev.JobEnded(t=1.0, job_id=job.job_id, attempt=0, state=JobState.PENDING, exclude_node="n1", launch_failed=True)
    )
    world.run()
    assert world.where(job) == ["n2"]
    world.do(
        ev.JobEnded(t=1.0, job_id=job.job_id, attempt=1, state=JobState.PENDING, exclude_node="n2", launch_failed=True)
    )
    assert world.run() == [job]


def test_starts_of_a_pass_are_bounded_and_the_next_follows_at_once() -> None:
    world = World(nodes=1, cpus=8, options=SchedOptions(def_mem_per_cpu_mib=1, starts_max=3))
    world.submit(array=8)
    assert [len(world.run()) for _ in range(4)] == [3, 3, 2, 0]
    assert world.cycle.counters.truncated == 2


def test_new_and_removed_nodes_are_followed() -> None:
    world = World(nodes=1, cpus=2)
    first, second = world.submit(cpus_per_task=2), world.submit(cpus_per_task=2)
    world.run()
    assert second.state is JobState.PENDING
    world.state.set_nodes([node("n1", 2), node("n0", 2)])
    world.state.set_partitions([PartitionRecord(name="main", nodes=["n0", "n1"], is_default=True)])
    assert world.run() == [second]
    assert world.where(second) == ["n0"]
    assert world.where(first) == ["n1"]


def test_reasons_are_told_once() -> None:
    world = World(nodes=1, cpus=1)
    world.submit()
    blocked = [world.submit() for _ in range(3)]
    _, reasons = world.cycle.run_inline(world.state, 0.0)
    assert {r[0] for r in reasons} == {blocked[0].job_id}
    world.cycle.columns.update(world.state)
    _, again = world.cycle.run_inline(world.state, 0.0)
    assert again == []
