"""What may happen while others make room: victims end by themselves, preemptors go, nodes are lost, more jobs come."""

from __future__ import annotations

from typing import Any

from helpers.room_world import RoomWorld

from helix.model import events as ev
from helix.model.job import JobRecord, SignalSpec
from helix.model.job_state import JobState
from helix.model.node import NodeBase
from helix.model.partition import PartitionRecord
from helix.model.topology import topology_of
from helix.sched.options import SchedOptions
from helix.sched.preempt import PreemptRules
from helix.wire.messages import StepEnded
from helixctld.core.reports import ended_event, node_lost
from helixctld.schedule.claims import start_with_claim


def world(*modes: str, nodes: int = 1, cpus: int = 2, **fields: Any) -> RoomWorld:
    """With a third partition, `top`, of a still higher tier."""
    names = [f"n{i + 1}" for i in range(nodes)]
    top = PartitionRecord(name="top", nodes=names, priority_tier=20)
    low = fields.pop("low", {"grace_time_s": 30})
    return RoomWorld(nodes, cpus, rules=PreemptRules(modes=modes), more=[top], low=low, **fields)


def ended(w: RoomWorld, *jobs: JobRecord, code: int = 0) -> None:
    """The node says that the jobs are over."""
    for job in jobs:
        report = StepEnded(job_id=job.job_id, attempt=job.attempt, node=w.where(job)[0])
        w.do(ended_event(job, report, w.now, requeue_default=True))


def cancel(w: RoomWorld, job: JobRecord) -> None:
    w.do(ev.JobEnded(t=w.now, job_id=job.job_id, attempt=job.attempt, state=JobState.CANCELLED))


def test_a_victim_that_ends_by_itself_makes_room_at_once() -> None:
    w = world("CANCEL")
    low = w.running(cpus_per_task=2)[0]
    high = w.submit(partitions=["high"], cpus_per_task=2)
    w.round()
    foreseen = start_with_claim(w.state, high.job_id, 5)
    assert foreseen is not None
    assert (foreseen.t_expected, foreseen.nodes) == (low.t_kill, ["n1"])
    w.now += 1
    ended(w, low)
    assert low.state is JobState.PREEMPTED
    assert w.round() == [high]


def test_a_victim_goes_although_the_preemptor_is_cancelled() -> None:
    w = world("REQUEUE")
    low = w.running(cpus_per_task=2)[0]
    high = w.submit(partitions=["high"], cpus_per_task=2)
    w.round()
    cancel(w, high)
    assert (w.state.claims, low.state) == (set(), JobState.COMPLETING)
    ended(w, low)
    w.state.look_again(low, w.now + 2)
    assert w.round() == [low]


def test_a_suspended_victim_goes_on_when_the_preemptor_is_cancelled() -> None:
    w = world("SUSPEND")
    low = w.running(cpus_per_task=2)[0]
    high = w.submit(partitions=["high"], cpus_per_task=2)
    assert w.round() == [high]
    cancel(w, high)
    w.round()
    assert low.state is JobState.RUNNING


def test_a_preemptor_whose_node_is_lost_asks_elsewhere() -> None:
    w = world("CANCEL", nodes=2)
    low = w.running(2, cpus_per_task=2)
    high = w.submit(partitions=["high"], cpus_per_task=2)
    w.round()
    assert high.claim is not None
    (name,) = high.claim.alloc.nodes
    victim, other = sorted(low, key=lambda job: w.where(job) != [name])
    w.update_node(name, base=NodeBase.DOWN)
    w.do(*node_lost(w.state, name, "is lost", w.now, requeue_default=True).events)
    assert victim.state is JobState.PREEMPTED
    w.round()
    assert high.claim is not None
    assert (high.claim.victims, other.state) == ([other.job_id], JobState.COMPLETING)
    ended(w, other)
    assert w.round() == [high]


def test_a_node_that_does_not_answer_yet_keeps_its_claims() -> None:
    w = world("CANCEL")
    low = w.running(cpus_per_task=2)[0]
    high = w.submit(partitions=["high"], cpus_per_task=2)
    w.round()
    w.state.set_responding("n1", False)
    w.round()
    assert high.claim is not None
    ended(w, low)
    assert w.round() == []
    assert high.claim is not None
    w.state.set_responding("n1", True)
    assert w.round() == [high]


def test_two_preemptors_share_one_victim() -> None:
    w = world("CANCEL", nodes=2)
    low = w.running(2, cpus_per_task=2)
    highs = [w.submit(partitions=["high"], cpus_per_task=1) for _ in range(2)]
    w.round()
    going = [job for job in low if job.state is JobState.COMPLETING]
    assert len(going) == 1
    w.round()
    assert [job.state for job in low].count(JobState.COMPLETING) == 1
    ended(w, *going)
    assert w.round() == highs


def test_two_preemptors_share_a_suspended_victim() -> None:
    w = world("SUSPEND", nodes=2)
    low = w.running(2, cpus_per_task=2)
    highs = [w.submit(partitions=["high"], cpus_per_task=1) for _ in range(2)]
    assert w.round() == highs
    assert [job.state for job in low].count(JobState.SUSPENDED) == 1
    w.launch(*highs)
    w.end(highs[0])
    w.round()
    assert [job.state for job in low].count(JobState.SUSPENDED) == 1
    w.end(highs[1])
    w.round()
    assert [job.state for job in low] == [JobState.RUNNING] * 2


def test_a_job_of_a_still_higher_tier_takes_the_claim_over() -> None:
    w = world("CANCEL")
    low = w.running(cpus_per_task=2)[0]
    high = w.submit(partitions=["high"], cpus_per_task=2)
    w.round()
    assert high.claim is not None
    top = w.submit(partitions=["top"], cpus_per_task=2)
    w.round()
    assert (high.claim, low.preemptor) == (None, high.job_id)
    assert top.claim is not None
    assert top.claim.victims == [low.job_id]
    assert f"job {top.job_id} goes first" in [entry.cause for entry in high.story]
    ended(w, low)
    assert w.round() == [top]
    assert high.state is JobState.PENDING


def test_what_is_left_of_a_victim_is_not_claimed_twice() -> None:
    w = world("CANCEL", cpus=4)
    low = w.running(cpus_per_task=4)[0]
    one = w.submit(partitions=["high"], cpus_per_task=3)
    w.round()
    top = w.submit(partitions=["top"], cpus_per_task=1, mem_per_node_mib=10)
    w.round()
    assert one.claim is not None
    assert top.claim is not None  # the rest is enough for it, and comes free anyway
    assert not set(one.claim.alloc.cores[0]) & set(top.claim.alloc.cores[0])
    ended(w, low)
    assert sorted(job.job_id for job in w.round()) == [one.job_id, top.job_id]


def test_a_preemptor_is_preempted_itself_and_all_go_on_in_turn() -> None:
    w = world("SUSPEND")
    low = w.running(cpus_per_task=2)[0]
    jobs = [low]
    for partition in ("high", "top"):
        job = w.submit(partitions=[partition], cpus_per_task=2)
        assert w.round() == [job]
        w.launch(job)
        jobs.append(job)
    assert [job.state for job in jobs] == [JobState.SUSPENDED, JobState.SUSPENDED, JobState.RUNNING]
    w.end(jobs[2])
    w.round()
    assert [job.state for job in jobs[:2]] == [JobState.SUSPENDED, JobState.RUNNING]
    w.end(jobs[1])
    w.round()
    assert low.state is JobState.RUNNING


def test_a_job_with_a_claim_starts_where_nodes_come_free_before() -> None:
    w = world("CANCEL", nodes=2, high={"preempt_mode": ["OFF"]})
    other = w.running(partitions=["high"], nodelist="n2", cpus_per_task=2)[0]
    low = w.running(nodelist="n1", cpus_per_task=2)[0]
    high = w.submit(partitions=["high"], cpus_per_task=2)
    w.round()
    assert (low.state, high.claim is None) == (JobState.COMPLETING, False)
    w.end(other)
    assert w.round() == [high]
    assert (w.where(high), high.claim, w.state.claims) == (["n2"], None, set())
    small = w.submit(cpus_per_task=1)
    ended(w, low)
    assert w.round() == [small]


def test_devices_of_a_claimed_victim_are_given_once() -> None:
    w = world("CANCEL", cpus=4)
    w.state.nodes["n1"].gres = "gpu:2"
    w.state.set_nodes(list(w.state.nodes.values()))
    low = w.running(cpus_per_task=4, gres="gpu:2")[0]
    one, two = (w.submit(partitions=["high"], cpus_per_task=1, gres="gpu:1") for _ in range(2))
    w.round()
    assert one.claim is not None
    ended(w, low)
    w.round()
    w.round()
    assert (one.is_active, two.is_active) == (True, True)
    assert one.alloc is not None
    assert two.alloc is not None
    assert one.alloc.gres != two.alloc.gres


def test_tasks_of_a_requeued_array_wait_again() -> None:
    w = world("REQUEUE")
    w.submit(array=2)
    tasks = w.round()
    w.launch(*tasks)
    high = w.submit(partitions=["high"], cpus_per_task=2)
    w.round()
    assert [task.state for task in tasks] == [JobState.COMPLETING] * 2
    ended(w, *tasks)
    assert w.round() == [high]
    assert [task.state for task in tasks] == [JobState.PENDING] * 2
    w.launch(high)
    w.end(high)
    w.now += 5
    for task in tasks:
        w.state.look_again(task, w.now)
    assert sorted(job.job_id for job in w.round()) == sorted(task.job_id for task in tasks)


def test_a_job_that_an_administrator_stopped_can_be_ended() -> None:
    w = world("CANCEL")
    low = w.running(cpus_per_task=2, signal=SignalSpec(signal=10))[0]
    w.do(ev.JobSuspended(t=w.now, job_id=low.job_id, by_uid=0))
    high = w.submit(partitions=["high"], cpus_per_task=2)
    w.round()
    assert (low.state, low.outcome) == (JobState.COMPLETING, JobState.PREEMPTED)
    ended(w, low)
    assert w.round() == [high]


def test_changing_or_holding_the_preemptor_gives_its_claim_up() -> None:
    w = world("CANCEL")
    w.running(cpus_per_task=2)
    high = w.submit(partitions=["high"], cpus_per_task=2)
    w.round()
    assert high.claim is not None
    w.do(ev.JobHeld(t=w.now, job_id=high.job_id, by="user", by_uid=1000))
    assert (high.claim, w.state.kept_cores) == (None, {})


def test_what_takes_too_long_goes_on_after_the_next_pass() -> None:
    w = world("CANCEL", nodes=4, high={"preempt_mode": ["OFF"]})
    low = w.running(2, cpus_per_task=2)
    w.running(2, partitions=["high"], cpus_per_task=2)
    ticks = iter(range(10_000))
    w.room._timer = lambda: next(ticks) * 0.1  # each look at the clock takes longer than all of it may
    vain = [w.submit(partitions=["high"], nodes_min=3, cpus_per_task=cpus, priority=9) for cpus in (1, 2)]
    high = w.submit(partitions=["high"], cpus_per_task=2, priority=5)
    tries = []
    for _ in range(40):
        w.round()
        tries.append(w.room.counters["preempt_tried"])
        if high.claim is not None:
            break
        assert w.room.t_again > 0
    assert high.claim is not None
    assert tries[0] == 1
    assert max(b - a for a, b in zip([0, *tries], tries, strict=False)) == 1
    assert [job.state for job in low].count(JobState.COMPLETING) == 1
    assert all(job.claim is None for job in vain)


def test_switches_are_kept_to_and_not_asking_for_them_is_no_hindrance() -> None:
    options = SchedOptions(def_mem_per_cpu_mib=10, has_topology=True, keep_near=True, max_switch_wait_s=300)
    w = world("SUSPEND", nodes=4, options=options)
    leaves = [("s1", ("n1", "n2"), ()), ("s2", ("n3", "n4"), ())]
    w.state.set_topology(topology_of("tree", [*leaves, ("top", (), ("s1", "s2"))]))
    low = w.running(4, cpus_per_task=2)
    far = w.submit(partitions=["high"], nodes_min=3, cpus_per_task=2, switches=1)
    near = w.submit(partitions=["high"], nodes_min=2, cpus_per_task=2, switches=1)
    assert w.round() == [near]
    assert w.where(near) in (["n1", "n2"], ["n3", "n4"])
    w.launch(near)
    w.end(near)
    w.round()
    assert [job.state for job in low] == [JobState.RUNNING] * 4
    w.now += 300  # it has waited long enough for one switch
    assert w.round() == [far]
    w.launch(far)
    w.end(far)
    anywhere = w.submit(partitions=["high"], nodes_min=3, cpus_per_task=2)
    assert w.round() == [anywhere]
