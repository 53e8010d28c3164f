"""Who makes room for whom, what it is given, and that nobody else slips in."""

from __future__ import annotations

import pytest
from helpers.room_world import RoomWorld

from helix.model import events as ev
from helix.model.account import Accounts, Qos
from helix.model.job import SignalSpec
from helix.model.job_state import JobState, Reason
from helix.sched.preempt import PreemptRules
from helix.wire.messages import StepEnded
from helix_plugins.preempt.qos import QosPreemption
from helix_plugins.sched.backfill import Backfill
from helixctld.core.effects import SuspendJob, TerminateJob, actions_for, effects_of
from helixctld.core.reports import ended_event
from helixctld.core.usage import UsagePolicy


def rules(*modes, **fields):
    return PreemptRules(modes=modes, **fields)


def ended(world, job):
    """The node says that the job is over."""
    report = StepEnded(job_id=job.job_id, attempt=job.attempt, node=world.where(job)[0])
    world.do(ended_event(job, report, world.now, requeue_default=True))


def test_suspend_gives_the_cpus_at_once_and_takes_them_back():
    w = RoomWorld(cpus=4)
    low = w.running(cpus_per_task=3)[0]
    high = w.submit(partitions=["high"], cpus_per_task=2)
    assert w.round() == [high]
    assert (low.state, low.yields_cpus, low.preemptor) == (JobState.SUSPENDED, True, high.job_id)
    assert high.state is JobState.CONFIGURING
    assert w.why(low)["text"].startswith(f"suspended to make room for job {high.job_id};")
    w.launch(high)
    small = w.submit(cpus_per_task=2)  # of the low partition: may not take what the suspended job waits for
    w.round()
    assert small.state is JobState.PENDING
    w.now += 100
    w.end(high)
    w.round()
    assert low.state is JobState.RUNNING
    assert low.suspended_s == pytest.approx(105, abs=5)
    w.end(low)
    assert w.round() == [small]


def test_memory_of_a_suspended_job_stays_its_own():
    w = RoomWorld(cpus=4)
    low = w.running(cpus_per_task=4, mem_per_node_mib=900)[0]
    w.submit(partitions=["high"], mem_per_node_mib=200)
    assert w.round() == []
    assert low.state is JobState.RUNNING


def test_free_cpus_are_taken_first():
    w = RoomWorld(nodes=2, cpus=4)
    low = w.running(cpus_per_task=4)[0]
    high = w.submit(partitions=["high"], cpus_per_task=4)
    assert w.round() == [high]
    assert low.state is JobState.RUNNING


def test_the_least_work_is_lost():
    w = RoomWorld(nodes=2, cpus=4, rules=rules("CANCEL"))
    old = w.running(cpus_per_task=4)[0]
    w.now += 500
    young = w.running(cpus_per_task=4)[0]
    w.now += 10
    w.submit(partitions=["high"], cpus_per_task=4)
    w.round()
    assert (old.state, young.state, young.outcome) == (JobState.RUNNING, JobState.COMPLETING, JobState.PREEMPTED)


def test_cancel_keeps_what_comes_free():
    w = RoomWorld(cpus=4, rules=rules("CANCEL"), low={"grace_time_s": 30})
    low = w.running(cpus_per_task=4)[0]
    high = w.submit(partitions=["high"], cpus_per_task=4)
    w.round()
    assert (low.state, low.reason, low.t_kill) == (JobState.COMPLETING, Reason.PREEMPTED, w.now + 30)
    assert low.reason_text == f"preempted by job {high.job_id} (user 1000, partition high)"
    assert high.claim is not None
    assert high.claim.victims == [low.job_id]
    assert "make room" not in high.reason_text
    assert high.reason is Reason.RESOURCES
    other = w.submit(partitions=["high"], cpus_per_task=1, priority=4294967000)
    w.round()
    ended(w, low)
    assert low.state is JobState.PREEMPTED
    assert w.round() == [high]
    assert other.state is JobState.PENDING


def test_requeue_runs_again():
    w = RoomWorld(cpus=4, rules=rules("REQUEUE"))
    low = w.running(cpus_per_task=4)[0]
    high = w.submit(partitions=["high"], cpus_per_task=4)
    w.round()
    assert low.outcome is JobState.REQUEUED
    ended(w, low)
    assert low.state is JobState.PENDING
    assert w.round() == [high]
    w.launch(high)
    w.end(high)
    w.now += 5
    w.state.look_again(low, w.now)
    assert w.round() == [low]
    assert (low.attempt, low.preemptions) == (1, 1)


def test_what_may_not_run_twice_is_ended_instead():
    w = RoomWorld(cpus=1, rules=rules("REQUEUE"))
    low = w.running(requeue=False)[0]
    w.submit(partitions=["high"])
    w.round()
    assert low.outcome is JobState.PREEMPTED


def test_modes_of_the_partition_win_and_off_protects():
    w = RoomWorld(cpus=1, rules=rules("CANCEL"), low={"preempt_mode": ["OFF"]})
    low = w.running()[0]
    w.submit(partitions=["high"])
    w.round()
    assert low.state is JobState.RUNNING
    w = RoomWorld(cpus=1, rules=rules("OFF"), low={"preempt_mode": ["REQUEUE"]})
    low = w.running()[0]
    w.submit(partitions=["high"])
    w.round()
    assert low.outcome is JobState.REQUEUED


def test_exempt_time_is_waited_for():
    w = RoomWorld(cpus=1, rules=rules("SUSPEND", exempt_s=60))
    low = w.running()[0]
    high = w.submit(partitions=["high"])
    w.now += 1
    w.run()
    assert list(w.room.after_pass(w.state, w.now)) == []
    assert w.room.t_again == low.t_start + 60
    w.now = w.room.t_again
    assert w.round() == [high]


def test_priorities_may_exempt():
    w = RoomWorld(cpus=1, rules=rules("SUSPEND", min_exempt_priority=1000))
    low = w.running(priority=1000)[0]
    w.submit(partitions=["high"])
    w.round()
    assert low.state is JobState.RUNNING


def test_within_a_partition_by_priority():
    w = RoomWorld(cpus=1, rules=rules("SUSPEND", "WITHIN"))
    low = w.running(priority=5)[0]
    equal = w.submit(priority=5)
    w.round()
    assert (low.state, equal.state) == (JobState.RUNNING, JobState.PENDING)
    w.submit(priority=6)
    w.round()
    assert low.state is JobState.SUSPENDED


def test_a_higher_job_takes_the_place_of_suspended_ones_without_waking_them():
    w = RoomWorld(cpus=1)
    low = w.running()[0]
    first, second = w.submit(partitions=["high"]), w.submit(partitions=["high"])
    assert w.round() == [first]
    w.launch(first)
    w.end(first)
    assert w.round() == [second]
    assert low.state is JobState.SUSPENDED
    assert len([e for e in low.story if e.new == "SUSPENDED"]) == 1


def test_several_nodes_or_nothing():
    w = RoomWorld(nodes=2, cpus=2, rules=rules("SUSPEND", "GANG"), low={"preempt_mode": ["SUSPEND"]})
    low = w.running(count=2, cpus_per_task=2)
    protected = w.submit(partitions=["high"], nodes_min=3, cpus_per_task=2)
    w.round()
    assert [job.state for job in low] == [JobState.RUNNING] * 2
    assert protected.state is JobState.PENDING
    wide = w.submit(partitions=["high"], nodes_min=2, cpus_per_task=2)
    assert w.round() == [wide]
    assert [job.state for job in low] == [JobState.SUSPENDED] * 2
    w.launch(wide)
    w.end(wide)
    w.round()
    assert [job.state for job in low] == [JobState.RUNNING] * 2


def test_whole_nodes():
    w = RoomWorld(nodes=1, cpus=4)
    low = w.running(count=2, mem_per_node_mib=10)
    whole = w.submit(partitions=["high"], exclusive=True, mem_per_node_mib=10)
    assert w.round() == [whole]
    assert [job.state for job in low] == [JobState.SUSPENDED] * 2
    w.launch(whole)
    w.end(whole)
    w.round()
    assert [job.state for job in low] == [JobState.RUNNING] * 2


def test_array_tasks_preempt_and_are_preempted():
    w = RoomWorld(cpus=2)
    w.submit(array=2)
    tasks = w.round()
    w.launch(*tasks)
    assert len(tasks) == 2
    high = w.submit(array=1, partitions=["high"], cpus_per_task=2)
    started = w.round()
    assert [job.array_job_id for job in started] == [high.job_id]
    assert [job.state for job in tasks] == [JobState.SUSPENDED] * 2


def test_a_claim_goes_when_the_job_is_cancelled_or_a_node_drains():
    w = RoomWorld(cpus=1, rules=rules("CANCEL"))
    w.running()
    high = w.submit(partitions=["high"])
    w.round()
    assert high.claim is not None
    w.do(ev.JobEnded(t=w.now, job_id=high.job_id, attempt=0, state=JobState.CANCELLED))
    assert (high.claim, w.state.claims) == (None, set())
    w = RoomWorld(cpus=1, rules=rules("CANCEL"))
    w.running()
    high = w.submit(partitions=["high"])
    w.round()
    w.update_node("n1", drain=True)
    w.round()
    assert (high.claim, w.state.kept_cores) == (None, {})
    assert high.job_id in w.state.schedulable


def test_qos_lists_whom_its_jobs_may_preempt():
    w = RoomWorld(cpus=1, rules=rules("CANCEL"), plugin=QosPreemption())
    w.state.set_accounts(
        Accounts(
            qos=[
                Qos(name="urgent", priority=10, preempt=("spare",)),
                Qos(name="spare", preempt_mode=("REQUEUE",), grace_time_s=7),
            ]
        ),
        UsagePolicy(),
    )
    low = w.running(qos="spare")[0]
    w.submit(partitions=["high"])
    w.round()
    assert low.state is JobState.RUNNING
    high = w.submit(qos="urgent")
    w.round()
    assert (low.outcome, low.t_kill) == (JobState.REQUEUED, w.now + 7)
    assert low.reason_text == f"preempted by job {high.job_id} (user 1000, qos urgent)"


def test_the_users_own_signal_may_come_first():
    w = RoomWorld(cpus=1, rules=rules("CANCEL", send_user_signal=True))
    low = w.running(signal=SignalSpec(signal=10, before_s=60))[0]
    w.submit(partitions=["high"])
    w.now += 1
    w.run()
    events = next(w.room.after_pass(w.state, w.now))
    w.do(*events)
    assert effects_of(w.state, events[0]) == [TerminateJob(low.job_id, "n1", 0, t_kill=0.0, signal=10)]


def test_a_node_that_comes_back_is_told_again():
    w = RoomWorld(cpus=1)
    low = w.running()[0]
    high = w.submit(partitions=["high"])
    w.round()
    assert actions_for(low) == [SuspendJob(low.job_id, resume=False)]
    w.launch(high)
    w.end(high)
    w.round()
    assert actions_for(low) == [SuspendJob(low.job_id, resume=True)]


def test_what_is_promised_to_jobs_before_it_is_left_alone():
    w = RoomWorld(nodes=2, cpus=1, planner=Backfill(), high={"preempt_mode": ["OFF"]})
    low = w.running(nodelist="n1", time_limit_s=7200)[0]
    other = w.running(partitions=["high"], nodelist="n2", time_limit_s=600)[0]
    wide = w.submit(partitions=["high"], nodes_min=2, time_limit_s=600, priority=9)
    w.round()
    assert (other.state, wide.state) == (JobState.RUNNING, JobState.PENDING)
    start = w.cycle.expectation(wide.job_id).t_expected
    assert start > w.now + 5000  # when `low` ends: it cannot be preempted on both nodes
    long = w.submit(partitions=["high"], time_limit_s=20000, priority=5)
    w.round()
    assert (low.state, long.state) == (JobState.RUNNING, JobState.PENDING)
    short = w.submit(partitions=["high"], time_limit_s=60, priority=4)
    assert w.round() == [short]
    assert low.state is JobState.SUSPENDED
