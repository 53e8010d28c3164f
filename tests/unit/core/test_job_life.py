"""The life of a job, event by event."""

from __future__ import annotations

import pytest
from helpers.core_builders import ALICE, BOB, ROOT, Cluster

from helix.errors import Conflict, Denied, NotFound, UsageError
from helix.model import events as ev
from helix.model.job import ExitInfo, JobSpec
from helix.model.job_state import JobState, LaunchFailure, Reason
from helix.model.node import Fingerprint, state_word
from helix.wire.messages import StepEnded, StepKnown, StepStarted
from helixctld.core import reports, requests, timers, update
from helixctld.core.deadlines import require_in_time
from helixctld.core.effects import AckExit, LaunchJob, TerminateJob, actions_for, effects_of
from helixctld.core.select_jobs import Target, resolve

RULES = reports.RegisterRules(may_claim_more=False, return_to_service=1, requeue_default=True)


def ended(c: Cluster, job, **fields) -> None:
    report = StepEnded(job_id=job.job_id, attempt=job.attempt, node=job.alloc.nodes[0], **fields)
    change = reports.step_ended(c.state, report, c.now, requeue_default=True)
    c.do(*change.events)
    assert AckExit(report.node, report.job_id, report.attempt) in change.actions


def running(c: Cluster, **fields):
    job = c.start(c.submit(**fields))
    c.launch(job)
    return job


def test_job_runs_and_completes():
    c = Cluster()
    job = c.submit(name="a")
    assert job.state is JobState.PENDING
    assert job.job_id in c.state.schedulable
    c.start(job)
    assert job.state is JobState.CONFIGURING
    assert c.state.nodes["n1"].cpus_alloc == 1
    c.launch(job)
    assert job.state is JobState.RUNNING
    ended(c, job)
    assert job.state is JobState.COMPLETED
    assert c.state.nodes["n1"].cpus_alloc == 0
    assert [e.new for e in job.story] == ["PENDING", "CONFIGURING", "RUNNING", "COMPLETED"]


@pytest.mark.parametrize(
    ("report", "state", "reason"),
    [
        ({"exit": ExitInfo(code=3)}, JobState.FAILED, Reason.NON_ZERO_EXIT),
        ({"exit": ExitInfo(signal=11)}, JobState.FAILED, Reason.RAISED_SIGNAL),
        ({"exit": ExitInfo(signal=15), "timed_out": True}, JobState.TIMEOUT, Reason.TIME_LIMIT),
        ({"exit": ExitInfo(signal=9), "oom": True}, JobState.OUT_OF_MEMORY, Reason.OUT_OF_MEMORY),
        ({"failure": LaunchFailure.STDIO}, JobState.FAILED, Reason.OUTPUT_UNWRITABLE),
        ({"failure": LaunchFailure.WORK_DIR}, JobState.FAILED, Reason.INVALID_WORK_DIR),
        ({"failure": LaunchFailure.SHEPHERD_LOST}, JobState.FAILED, Reason.SYSTEM_FAILURE),
    ],
)
def test_exit_record_decides_the_outcome(report, state, reason):
    c = Cluster()
    job = running(c)
    ended(c, job, **report)
    assert (job.state, job.reason) == (state, reason)
    assert (job.exit.code, job.exit.signal) != (0, 0) or "failure" in report


def test_cancel_of_running_job_waits_for_the_node():
    c = Cluster()
    job = running(c)
    change = requests.cancel(c.state, Target(job), ALICE, c.now)
    c.do(*change.events)
    assert (job.state, job.outcome) == (JobState.COMPLETING, JobState.CANCELLED)
    assert effects_of(c.state, change.events[0]) == [TerminateJob(job.job_id, "n1", 0)]
    assert state_word(c.state.nodes["n1"]) == "COMPLETING"
    ended(c, job, exit=ExitInfo(signal=15))
    assert (job.state, job.killed_by, job.exit.signal) == (JobState.CANCELLED, 1001, 15)


def test_another_users_job_is_not_touched():
    c = Cluster()
    job = c.submit()
    for ask in (
        lambda: requests.cancel(c.state, Target(job), BOB, c.now),
        lambda: requests.hold(Target(job), BOB, False, c.now),
        lambda: requests.release(Target(job), BOB, c.now),
        lambda: requests.signal(Target(job), BOB, 10, "all"),
        lambda: requests.requeue(Target(job), BOB, c.now, hold_it=False, special=False),
        lambda: update.update_job(c.state, Target(job), BOB, BOB, {"Name": "x"}, c.now),
    ):
        with pytest.raises(Denied) as caught:
            ask()
        assert caught.value.code == "JOB_NOT_YOURS"
    assert requests.cancel(c.state, Target(job), ROOT, c.now).events


def test_report_of_an_older_attempt_is_acknowledged_and_ignored():
    c = Cluster()
    job = running(c)
    c.do(*requests.requeue(Target(job), ALICE, c.now, hold_it=False, special=False).events)
    stale = StepEnded(job_id=job.job_id, attempt=0, node="n1", exit=ExitInfo(signal=15))
    c.do(*reports.step_ended(c.state, stale, c.now, requeue_default=True).events)
    assert (job.state, job.attempt) == (JobState.PENDING, 1)
    c.now += 10
    timers.due(c.state, c.now, 300)
    c.start(job)
    change = reports.step_ended(c.state, stale, c.now, requeue_default=True)
    assert change.events == []
    assert change.actions == [AckExit("n1", job.job_id, 0)]
    assert job.state is JobState.CONFIGURING


def test_start_report_of_an_unwanted_attempt_is_ended():
    c = Cluster()
    change = reports.step_started(c.state, StepStarted(job_id=99, attempt=0, node="n1"), c.now)
    assert change.actions == [TerminateJob(99, "n1", 0, now=True)]


def test_requeued_job_does_not_start_before_its_delay():
    c = Cluster()
    job = running(c)
    c.do(*requests.requeue(Target(job), ALICE, c.now, hold_it=False, special=False).events)
    ended(c, job, exit=ExitInfo(signal=15))
    assert job.state is JobState.PENDING
    assert job.job_id not in c.state.schedulable
    c.now += 5
    assert timers.due(c.state, c.now, 300) == []
    assert job.job_id in c.state.schedulable


@pytest.mark.parametrize(("special", "state"), [(False, JobState.REQUEUE_HOLD), (True, JobState.SPECIAL_EXIT)])
def test_requeue_hold_waits_for_release(special, state):
    c = Cluster()
    job = running(c)
    c.do(*requests.requeue(Target(job), ALICE, c.now, hold_it=True, special=special).events)
    ended(c, job, exit=ExitInfo(signal=15))
    assert job.state is state
    c.do(*requests.release(Target(job), ALICE, c.now).events)
    assert job.state is JobState.PENDING


def test_launch_failures_requeue_then_hold():
    c = Cluster()
    job = c.submit()
    for attempt in range(reports.LAUNCH_FAILURES_MAX):
        c.start(job)
        ended(c, job, failure=LaunchFailure.SPAWN, failure_text="no processes")
        assert job.attempt == attempt + 1
        c.now += 10
        timers.due(c.state, c.now, 300)
    assert (job.held, job.reason) == ("admin", Reason.LAUNCH_FAILED_REQUEUED_HELD)
    assert job.excluded_nodes == ["n1"]
    assert job.job_id not in c.state.schedulable


def test_launch_that_never_happened_is_tried_again_even_without_requeue():
    c = Cluster()
    job = c.start(c.submit(requeue=False))
    ended(c, job, failure=LaunchFailure.NOT_STARTED, failure_text="helixd was restarted before the script ran")
    assert (job.state, job.attempt, job.held, job.excluded_nodes) == (JobState.PENDING, 1, "", [])


def test_suspended_time_does_not_count():
    c = Cluster()
    job = running(c)
    c.now += 10
    c.do(*requests.suspend(Target(job), ROOT, c.now).events)
    c.now += 100
    c.do(*requests.resume(c.state, Target(job), ROOT, c.now).events)
    assert (job.state, job.suspended_s) == (JobState.RUNNING, 100.0)


def test_held_job_is_not_schedulable_and_admin_hold_needs_an_operator():
    c = Cluster()
    job = c.submit()
    c.do(*requests.hold(Target(job), ROOT, False, c.now).events)
    assert job.job_id not in c.state.schedulable
    assert job.reason is Reason.HELD_ADMIN
    with pytest.raises(Conflict):
        requests.release(Target(job), ALICE, c.now)
    c.do(*requests.release(Target(job), ROOT, c.now).events)
    assert job.job_id in c.state.schedulable


def test_node_death_requeues_or_fails_as_the_job_says():
    c = Cluster()
    again, never = running(c), c.start(c.submit(requeue=False), cores=(1,))
    change = reports.node_lost(c.state, "n1", "died", c.now, requeue_default=True)
    c.do(*change.events)
    assert (again.state, again.attempt) == (JobState.PENDING, 1)
    assert (never.state, never.reason) == (JobState.NODE_FAIL, Reason.NODE_DOWN)
    assert c.state.nodes["n1"].cpus_alloc == 0


def test_registration_makes_both_sides_agree():
    c = Cluster()
    gone, here, unsent = running(c), c.start(c.submit(), cores=(1,)), c.start(c.submit(), cores=(2,))
    steps = [
        StepKnown(job_id=here.job_id, attempt=0, node="n1"),
        StepKnown(job_id=77, attempt=0, node="n1"),
        StepKnown(job_id=78, attempt=0, node="n1", running=False),
    ]
    found = Fingerprint(cpus=4, real_memory_mib=1000, boot_id="b1")
    change = reports.node_registered(c.state, "n1", found, steps, c.now, RULES)
    assert TerminateJob(77, "n1", 0, now=True) in change.actions
    assert AckExit("n1", 78, 0) in change.actions
    assert LaunchJob(unsent.job_id) in change.actions
    c.do(*change.events)
    assert here.state is JobState.RUNNING
    assert gone.state is JobState.PENDING
    assert unsent.state is JobState.CONFIGURING


def test_reboot_loses_the_jobs_that_were_there():
    c = Cluster()
    job = c.start(c.submit(requeue=False))
    found = Fingerprint(cpus=4, real_memory_mib=1000, boot_id="b2")
    c.do(*reports.node_registered(c.state, "n1", found, [], c.now, RULES).events)
    assert job.state is JobState.NODE_FAIL
    assert "restarted" in job.reason_text


def test_mismatch_drains_with_the_difference_and_undoes_only_itself():
    c = Cluster()
    small = Fingerprint(cpus=2, real_memory_mib=1000, boot_id="b1")
    c.do(*reports.node_registered(c.state, "n1", small, [], c.now, RULES).events)
    node = c.state.nodes["n1"]
    assert state_word(node) == "DRAINED"
    assert node.reason == "CPUs: configured 4, found 2"
    good = Fingerprint(cpus=4, real_memory_mib=1000, boot_id="b1")
    c.do(*reports.node_registered(c.state, "n1", good, [], c.now, RULES).events)
    assert state_word(node) == "IDLE"
    c.do(update.update_node(node, ROOT, {"State": "DRAIN", "Reason": "disk"}, c.now))
    c.do(*reports.node_registered(c.state, "n1", good, [], c.now, RULES).events)
    assert (state_word(node), node.reason) == ("DRAINED", "disk")


def test_trouble_told_by_a_heartbeat_drains_until_it_is_over():
    c = Cluster()
    node = c.state.nodes["n1"]
    c.do(*reports.health_told(node, "process 7 cannot be killed", c.now))
    assert (state_word(node), node.reason, node.reason_by) == ("DRAINED", "process 7 cannot be killed", "helix")
    assert reports.health_told(node, "process 7 cannot be killed", c.now) == []
    c.do(*reports.health_told(node, "", c.now))
    assert (state_word(node), node.reason) == ("IDLE", "")
    c.do(update.update_node(node, ROOT, {"State": "DRAIN", "Reason": "disk"}, c.now))
    c.do(*reports.health_told(node, "", c.now))
    assert (state_word(node), node.reason) == ("DRAINED", "disk")


def test_drained_node_keeps_its_running_job():
    c = Cluster()
    job = running(c)
    c.do(update.update_node(c.state.nodes["n1"], ROOT, {"State": "DRAIN", "Reason": "disk"}, c.now))
    assert (job.state, state_word(c.state.nodes["n1"])) == (JobState.RUNNING, "DRAINING")


def test_drain_needs_a_reason():
    c = Cluster()
    with pytest.raises(UsageError, match="reason"):
        update.update_node(c.state.nodes["n1"], ROOT, {"State": "DRAIN"}, c.now)


def test_deadline_and_begin_time():
    c = Cluster()
    late = c.submit(t_begin=c.now + 50)
    doomed = c.submit(t_deadline=c.now + 20, hold=True)
    assert (late.reason, late.job_id in c.state.schedulable) == (Reason.BEGIN_TIME, False)
    c.now += 30
    c.do(*timers.due(c.state, c.now, 300))
    assert (doomed.state, doomed.reason) == (JobState.DEADLINE, Reason.DEADLINE)
    assert late.job_id not in c.state.schedulable
    c.now += 30
    timers.due(c.state, c.now, 300)
    assert late.job_id in c.state.schedulable


def test_a_job_is_removed_when_it_can_no_longer_end_before_its_deadline():
    c = Cluster()
    job = c.submit(t_deadline=c.now + 100, time_limit_s=60, hold=True)
    short = c.submit(t_deadline=c.now + 100, time_limit_s=60, time_min_s=20, hold=True)
    assert timers.next_due(c.state, 300) == c.now + 40
    c.now += 39
    assert timers.due(c.state, c.now, 300) == []
    c.now += 1
    c.do(*timers.due(c.state, c.now, 300))
    assert (job.state, short.state) == (JobState.DEADLINE, JobState.PENDING)
    c.now += 40
    c.do(*timers.due(c.state, c.now, 300))
    assert short.state is JobState.DEADLINE


def test_a_change_that_misses_the_deadline_is_refused():
    c = Cluster()
    job = c.submit(t_deadline=c.now + 7200, time_limit_s=3600, work_dir="/", hold=True)
    for changes in ({"TimeLimit": "180"}, {"StartTime": "now+2hours"}, {"Deadline": "now"}):
        with pytest.raises(UsageError) as refused:
            update.update_job(c.state, Target(job), ALICE, ALICE, changes, c.now)
        assert refused.value.code == "DEADLINE_PASSED"
    assert update.update_job(c.state, Target(job), ALICE, ALICE, {"TimeLimit": "90"}, c.now).events


def test_a_requeued_job_still_has_its_deadline():
    c = Cluster()
    job = running(c, t_deadline=c.now + 100, time_limit_s=60)
    c.now += 50
    assert timers.due(c.state, c.now, 300) == []
    c.do(ev.JobEnded(t=c.now, job_id=job.job_id, attempt=job.attempt, state=JobState.PENDING))
    c.do(*timers.due(c.state, c.now, 300))
    assert job.state is JobState.DEADLINE


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"t_deadline": -1.0}, "the deadline has passed"),
        ({"t_deadline": 100.0, "t_begin": 100.0}, "--begin lies after --deadline"),
        ({"t_deadline": 100.0}, "a job of 5 min cannot end in time: it is 100 s to the deadline"),
        ({"t_deadline": 400.0, "t_begin": 200.0}, "it is 4 min from --begin to the deadline"),
        ({"t_deadline": 400.0}, ""),
        ({"t_deadline": 200.0, "time_min_s": 60}, ""),
    ],
)
def test_a_deadline_that_cannot_be_met_is_refused(asked, words):
    c = Cluster()
    asked = {key: value if key == "time_min_s" else c.now + value for key, value in asked.items()}
    spec = JobSpec(time_limit_s=300, **asked)
    partitions = list(c.state.partitions.values())
    if not words:
        require_in_time(spec, partitions, c.now)
        return
    with pytest.raises(UsageError, match=words):
        require_in_time(spec, partitions, c.now)


def test_finished_jobs_are_forgotten_after_min_job_age():
    c = Cluster()
    job = running(c)
    ended(c, job)
    c.now += 299
    assert timers.due(c.state, c.now, 300) == []
    c.now += 2
    c.do(*timers.due(c.state, c.now, 300))
    assert job.job_id not in c.state.jobs
    assert c.state.history[job.job_id].state is JobState.COMPLETED
    with pytest.raises(NotFound) as caught:
        resolve(c.state, str(job.job_id))
    assert caught.value.code == "JOB_FORGOTTEN"


def test_effects_can_be_derived_again_from_the_records():
    c = Cluster()
    job = c.start(c.submit())
    assert actions_for(job) == [LaunchJob(job.job_id)]
    c.launch(job)
    assert actions_for(job) == []
    c.do(*requests.cancel(c.state, Target(job), ALICE, c.now).events)
    assert actions_for(job) == [TerminateJob(job.job_id, "n1", 0)]


def test_illegal_transition_prints_the_story():
    c = Cluster()
    job = c.submit()
    with pytest.raises(AssertionError, match="submitted"):
        c.state.set_job_state(job, JobState.RUNNING, c.now, "by mistake")


def test_time_limit_of_running_job_may_be_lowered_by_the_user_only():
    c = Cluster()
    job = c.submit(time_limit_s=600)
    c.do(
        ev.JobStarted(t=c.now, job_id=job.job_id, attempt=0, partition="batch", time_limit_s=600,
                      alloc=ev.Allocation(nodes=["n1"], cores=[[0]], mem_mib=[1]))
    )  # fmt: skip
    with pytest.raises(Denied):
        update.update_job(c.state, Target(job), ALICE, ALICE, {"TimeLimit": "20"}, c.now)
    c.do(*update.update_job(c.state, Target(job), ALICE, ALICE, {"TimeLimit": "5"}, c.now).events)
    assert job.time_limit_s == 300
    c.do(*update.update_job(c.state, Target(job), ROOT, ALICE, {"TimeLimit": "+10"}, c.now).events)
    assert job.time_limit_s == 900
