"""Requests of several ways and parts, heterogeneous jobs and jobs in reservations, that preempt and are preempted."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.room_world import RoomWorld
from helpers.sched_world import node

from helix.model.hetjob import completed, component_records
from helix.model.job import JobRecord, JobSpec
from helix.model.job_state import JobState
from helix.model.partition import PartitionRecord
from helix.model.reservation import ReservationRecord
from helix.sched.preempt import PreemptRules
from helix.wire.messages import StepEnded
from helix.wire.methods import Role
from helixctld.core import reservation_due, reservations
from helixctld.core.caller import Caller
from helixctld.core.reports import ended_event

ADMIN = Caller(uid=0, gid=0, user="root", role=Role.ADMIN)


def rules(*modes: str, **fields: Any) -> PreemptRules:
    return PreemptRules(modes=modes, **fields)


def featured(*features: str, cpus: int = 2) -> list[Any]:
    """Nodes n1, n2, ..., each with the features in its word, separated by commas."""
    return [node(f"n{i + 1}", cpus, features=word.split(",") if word else []) for i, word in enumerate(features)]


def het(world: RoomWorld, *components: JobSpec, **fields: Any) -> JobRecord:
    spec = completed(JobSpec(components=list(components), **fields))
    return world.submit(**{name: getattr(spec, name) for name in spec.__struct_fields__})


def where(job: JobRecord) -> list[list[str]]:
    return [[] if part.alloc is None else part.alloc.nodes for part in component_records(job)]


def ended(world: RoomWorld, job: JobRecord) -> None:
    """The node says that the job is over."""
    report = StepEnded(job_id=job.job_id, attempt=job.attempt, node=world.where(job)[0])
    world.do(ended_event(job, report, world.now, requeue_default=True))


def reserve(world: RoomWorld, **asked: str) -> ReservationRecord:
    """A reservation that has begun, for user 1000, whose jobs `World` submits."""
    asked = {"Users": "1000", "StartTime": "now", "Duration": "60", **asked}
    event = reservations.create(world.state, asked, ADMIN, world.now, lambda _group: ())
    world.do(event)
    tick(world)
    return world.state.reservations[event.reservation.name]


def tick(world: RoomWorld, seconds: float = 0.0) -> None:
    world.now += seconds
    while events := reservation_due.due(world.state, world.now, world.options.resv_over_run_s):
        world.do(*events)


# ---- several partitions and alternatives -----------------------------------------------------------------------------


def test_the_partition_in_which_somebody_may_be_preempted_is_found() -> None:
    more = [PartitionRecord(name="peer", nodes=["n1"]), PartitionRecord(name="urgent", nodes=["n2"], priority_tier=20)]
    w = RoomWorld(nodes=2, cpus=2, more=more, high={"nodes": ["n1"]})
    w.running(2, cpus_per_task=2)
    job = w.submit(partitions=["peer", "urgent"], cpus_per_task=2)
    assert w.round() == [job]
    assert (job.partition, w.where(job)) == ("urgent", ["n2"])


def test_the_first_alternative_that_has_room_is_taken() -> None:
    w = RoomWorld(featured("a", "a", "b", "b"), high={"preempt_mode": ["OFF"]})
    kept = w.running(partitions=["high"], nodelist="n1", cpus_per_task=2)[0]
    low = w.running(3, cpus_per_task=2)
    job = w.submit(partitions=["high"], constraint="[a|b]", nodes_min=2, cpus_per_task=2)
    assert w.round() == [job]
    assert w.where(job) == ["n3", "n4"]
    assert kept.state is JobState.RUNNING
    assert {w.where(j)[0]: j.state for j in low} == {
        "n2": JobState.RUNNING,
        "n3": JobState.SUSPENDED,
        "n4": JobState.SUSPENDED,
    }


def test_a_wish_for_features_ends_nobodys_job_but_the_need_for_nodes_does() -> None:
    w = RoomWorld(featured("a", "b"))
    low = w.running(2, cpus_per_task=2)
    job = w.submit(partitions=["high"], prefer="b", constraint="a", cpus_per_task=2)
    assert w.round() == [job]
    assert w.where(job) == ["n1"]
    assert [other.state for other in low if w.where(other) == ["n2"]] == [JobState.RUNNING]


def test_tasks_by_socket_are_made_room_for_on_whole_nodes_only() -> None:
    w = RoomWorld(nodes=1, cpus=2)
    low = w.running(1, cpus_per_task=2)[0]
    w.submit(partitions=["high"], tasks=1, tasks_per_socket=1)
    assert w.round() == []
    assert low.state is JobState.RUNNING
    whole = w.submit(partitions=["high"], tasks=1, tasks_per_socket=1, exclusive=True)
    assert w.round() == [whole]
    assert low.state is JobState.SUSPENDED


def test_counted_parts_are_made_room_for_together_or_not_at_all() -> None:
    w = RoomWorld(featured("a", "a", "b", "b"), rules=rules("CANCEL"), high={"preempt_mode": ["OFF"]})
    w.running(partitions=["high"], nodelist="n3", cpus_per_task=2)
    low = w.running(3, cpus_per_task=2)
    never = w.submit(partitions=["high"], constraint="[a*1&b*2]", nodes_min=3, cpus_per_task=2)
    w.round()
    assert [job.state for job in low] == [JobState.RUNNING] * 3
    assert never.claim is None
    w.update_node("n1", drain=True)
    job = w.submit(partitions=["high"], constraint="[a*1&b*1]", nodes_min=2, cpus_per_task=2)
    w.round()
    assert job.claim is not None
    assert job.claim.alloc.nodes == ["n2", "n4"]
    assert sorted(job.claim.victims) == sorted(j.job_id for j in low if w.where(j)[0] in ("n2", "n4"))
    for victim in job.claim.victims:
        ended(w, w.state.jobs[victim])
    assert w.round() == [job]


def test_a_part_leaves_the_only_nodes_of_another_to_it() -> None:
    w = RoomWorld(featured("a,b", "a"))
    low = w.running(2, cpus_per_task=2)
    w.now += 100
    job = w.submit(partitions=["high"], constraint="[a*1&b*1]", nodes_min=2, cpus_per_task=2)
    assert w.round() == [job]
    assert [j.state for j in low] == [JobState.SUSPENDED] * 2


def test_threads_of_a_core_that_are_left_unused_count() -> None:
    w = RoomWorld([node("n1", 4, sockets=1, cores_per_socket=2, threads_per_core=2)])
    low = w.running(2, cpus_per_task=2)
    job = w.submit(partitions=["high"], cpus_per_task=2, threads_per_core=1)
    assert w.round() == [job]
    assert job.alloc is not None
    assert job.alloc.cpus == [4]
    assert [j.state for j in low] == [JobState.SUSPENDED] * 2


# ---- heterogeneous jobs ----------------------------------------------------------------------------------------------


def two_partitions(*modes: str, **tiers: int) -> RoomWorld:
    """n1 and n2 are of `low`, `high` and `cpu`, g1 of `gpu`."""
    nodes = [node("n1", 2), node("n2", 2), node("g1", 4)]
    more = [PartitionRecord(name="gpu", nodes=["g1"], priority_tier=tiers.get("gpu", 5))]
    slow = [PartitionRecord(name="slow", nodes=["g1"])]
    return RoomWorld(nodes, rules=rules(*modes), high={"nodes": ["n1", "n2"]}, more=more + slow)


GPU = JobSpec(partitions=["gpu"], cpus_per_task=4)


@pytest.mark.parametrize("mode", ["SUSPEND", "CANCEL"])
def test_components_preempt_each_in_its_partition(mode: str) -> None:
    w = two_partitions(mode)
    low = w.running(2, nodelist="n1", cpus_per_task=1) + w.running(partitions=["slow"], cpus_per_task=4)
    free = w.running(1, nodelist="n2", cpus_per_task=2)
    job = het(w, GPU, partitions=["high"], cpus_per_task=1)
    started = w.round()
    if mode == "CANCEL":
        assert job.claim is not None
        for victim in job.claim.victims:
            ended(w, w.state.jobs[victim])
        started = w.round()
    assert started == [job]
    assert where(job)[1] == ["g1"]
    assert sum(j.state is JobState.RUNNING for j in [*low, *free]) == 2
    assert job.alloc is not None
    assert job.alloc.component == [0, 1]


def test_nobody_makes_room_unless_all_components_can_start() -> None:
    w = two_partitions("SUSPEND", gpu=1)  # jobs of gpu are of no higher tier than those of slow
    low = w.running(2, cpus_per_task=2) + w.running(partitions=["slow"], cpus_per_task=4)
    job = het(w, GPU, partitions=["high"], cpus_per_task=1)
    w.round()
    assert [j.state for j in low] == [JobState.RUNNING] * 3
    assert job.state is JobState.PENDING


def test_a_heterogeneous_job_makes_room_as_a_whole() -> None:
    w = two_partitions("SUSPEND")
    low = het(w, JobSpec(partitions=["slow"], cpus_per_task=4), partitions=["low"], cpus_per_task=2)
    w.round()
    w.launch(low)
    job = w.submit(partitions=["gpu"], cpus_per_task=1)
    assert w.round() == [job]
    assert low.state is JobState.SUSPENDED
    other = w.submit(partitions=["high"], cpus_per_task=2, nodelist=w.where(low)[0])
    assert w.round() == [other]
    w.launch(job, other)
    w.end(job)
    w.round()
    assert low.state is JobState.SUSPENDED
    w.end(other)
    w.round()
    assert low.state is JobState.RUNNING


def test_any_protected_component_protects_a_heterogeneous_job() -> None:
    w = two_partitions("SUSPEND")
    w.state.partitions["slow"].preempt_mode = ["OFF"]
    low = het(w, JobSpec(partitions=["slow"], cpus_per_task=4), partitions=["low"], cpus_per_task=2)
    w.round()
    w.launch(low)
    w.submit(partitions=["high"], cpus_per_task=2, nodes_min=2)
    w.round()
    assert low.state is JobState.RUNNING


# ---- reservations ----------------------------------------------------------------------------------------------------


def test_a_job_in_a_reservation_preempts_there_and_only_there() -> None:
    w = RoomWorld(nodes=2, cpus=2)
    r = reserve(w, Nodes="n1")
    outside = w.running(cpus_per_task=2)[0]
    inside = w.running(cpus_per_task=2, reservation=r.name)[0]
    assert (w.where(outside), w.where(inside)) == (["n2"], ["n1"])
    job = w.submit(partitions=["high"], cpus_per_task=2, reservation=r.name)
    assert w.round() == [job]
    assert (job.reservation, w.where(job)) == (r.name, ["n1"])
    assert (outside.state, inside.state) == (JobState.RUNNING, JobState.SUSPENDED)
    w.launch(job)
    w.end(job)
    w.round()
    assert inside.state is JobState.RUNNING


def test_nobody_outside_preempts_a_job_in_a_reservation() -> None:
    w = RoomWorld(nodes=1, cpus=2)
    r = reserve(w, Nodes="n1", Flags="FLEX")
    inside = w.running(cpus_per_task=2, reservation=r.name)[0]
    w.submit(partitions=["high"], time_limit_s=60)
    w.round()
    assert inside.state is JobState.RUNNING


def test_a_claim_keeps_reserved_nodes_and_goes_with_the_reservation() -> None:
    w = RoomWorld(nodes=1, cpus=2, rules=rules("CANCEL"))
    r = reserve(w, Nodes="n1")
    inside = w.running(cpus_per_task=2, reservation=r.name)[0]
    job = w.submit(partitions=["high"], cpus_per_task=2, reservation=r.name)
    w.round()
    assert job.claim is not None
    assert job.claim.reservation == r.name
    ended(w, inside)
    assert w.round() == [job]
    assert job.reservation == r.name

    w = RoomWorld(nodes=1, cpus=2, rules=rules("CANCEL"))
    r = reserve(w, Nodes="n1")
    w.running(cpus_per_task=2, reservation=r.name)
    job = w.submit(partitions=["high"], cpus_per_task=2, reservation=r.name)
    w.round()
    assert job.claim is not None
    tick(w, 3700)
    w.round()
    assert (job.claim, w.state.claims) == (None, set())


def test_a_share_of_a_node_is_not_exceeded() -> None:
    w = RoomWorld(nodes=1, cpus=4)
    r = reserve(w, CoreCnt="2", Nodes="n1")
    outside = w.running(cpus_per_task=2, time_limit_s=60)[0]
    inside = w.running(2, reservation=r.name, time_limit_s=60)
    wide = w.submit(partitions=["high"], cpus_per_task=3, reservation=r.name, time_limit_s=60)
    w.round()
    assert (wide.state, outside.state) == (JobState.PENDING, JobState.RUNNING)
    job = w.submit(partitions=["high"], cpus_per_task=2, reservation=r.name, time_limit_s=60)
    assert w.round() == [job]
    assert outside.state is JobState.RUNNING
    assert [j.state for j in inside] == [JobState.SUSPENDED] * 2


def test_nodes_that_are_reserved_later_serve_jobs_that_end_before() -> None:
    w = RoomWorld(nodes=1, cpus=2)
    reserve(w, Nodes="n1", StartTime="now+2hours")
    low = w.running(cpus_per_task=2, time_limit_s=3600)[0]
    long = w.submit(partitions=["high"], cpus_per_task=2, time_limit_s=9000)
    w.round()
    assert (low.state, long.state) == (JobState.RUNNING, JobState.PENDING)
    short = w.submit(partitions=["high"], cpus_per_task=2, time_limit_s=600)
    assert w.round() == [short]
    assert low.state is JobState.SUSPENDED


def test_a_claim_goes_when_its_node_may_not_serve_the_job_any_more() -> None:
    w = RoomWorld(featured("a", "a"), rules=rules("CANCEL"))
    low = w.running(2, cpus_per_task=2)
    job = w.submit(partitions=["high"], constraint="a", cpus_per_task=2)
    w.round()
    assert job.claim is not None
    victim = w.state.jobs[job.claim.victims[0]]
    name = w.where(victim)[0]
    w.update_node(name, changes={"features": []})
    ended(w, victim)
    w.round()
    assert job.claim is not None
    assert job.claim.alloc.nodes != [name]
    other = next(j for j in low if j is not victim)
    ended(w, other)
    assert w.round() == [job]
