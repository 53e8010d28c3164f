"""What users ask of existing jobs, as events: cancel, hold, release, requeue, suspend, resume.

Each function validates and gives events and actions; it changes nothing.  Errors name the job.
"""

from __future__ import annotations

from msgspec import Struct, field

from helix.errors import Conflict
from helix.model import events as ev
from helix.model.job import JobRecord
from helix.model.job_state import JobState, Reason
from helixctld.core.caller import Caller, may_manage, require_touch
from helixctld.core.effects import Action, SignalJob, TerminateJob, batch_host
from helixctld.core.select_jobs import Target
from helixctld.core.state import State

SIGKILL, SIGSTOP, SIGCONT = 9, 19, 18


class Change(Struct):
    """Events to commit and actions that follow none of them."""

    events: list[ev.Event] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)


def cancel(state: State, target: Target, caller: Caller, now: float, *, at_once: bool = False) -> Change:
    """End a job, or the waiting tasks `target.tasks` of an array.  Terminal jobs are refused (JOB_OVER).

    `at_once`: SIGKILL without SIGTERM and KillWait before, also for a job that is being ended already.
    """
    job = target.job
    require_touch(caller, job)
    if job.is_array:
        if job.is_terminal:
            return Change()
        tasks = job.pending if target.tasks is None else target.tasks
        if not tasks:
            return Change()
        return Change([ev.ArrayTasksCancelled(t=now, job_id=job.job_id, tasks=str(tasks), by_uid=caller.uid)])
    if job.is_terminal:
        raise Conflict(f"job {job.display_id} is already over ({job.state})", code="JOB_OVER")
    if job.is_waiting:
        return Change([end_waiting(job, JobState.CANCELLED, Reason.NONE, now, by_uid=caller.uid)])
    kill: list[Action] = [TerminateJob(job.job_id, batch_host(job), job.attempt, now=True)] if at_once else []
    if job.state is JobState.COMPLETING and job.outcome is JobState.CANCELLED:
        return Change(actions=kill)
    return Change(
        [ev.JobEnding(t=now, job_id=job.job_id, attempt=job.attempt, outcome=JobState.CANCELLED, by_uid=caller.uid)],
        kill,
    )


def end_waiting(
    job: JobRecord, state: JobState, reason: Reason, now: float, *, by_uid: int | None = None
) -> ev.JobEnded:
    """A job that never started (again) is over."""
    return ev.JobEnded(t=now, job_id=job.job_id, attempt=job.attempt, state=state, reason=reason, by_uid=by_uid)


def signal(target: Target, caller: Caller, signum: int, scope: str) -> Change:
    """Send a signal to a running job; a waiting one is left alone, as scancel --signal does.

    A job whose start the node has not reported yet may run already: the node keeps the signal for its first process.
    """
    job = target.job
    require_touch(caller, job)
    if job.is_terminal:
        raise Conflict(f"job {job.display_id} is already over ({job.state})", code="JOB_OVER")
    if job.state in (JobState.CONFIGURING, JobState.RUNNING, JobState.SUSPENDED):
        return Change(actions=[SignalJob(job.job_id, signum, scope)])
    return Change()


def hold(target: Target, caller: Caller, as_user: bool, now: float) -> Change:
    """Keep a job from starting.  The hold of who manages it is not the owner's to release, unless `as_user`."""
    job = _whole(target)
    require_touch(caller, job)
    if job.is_terminal:
        raise Conflict(f"job {job.display_id} is already over ({job.state})", code="JOB_OVER")
    by = "user" if as_user or not may_manage(caller, job) else "admin"
    if job.held == by or (job.held == "admin" and by == "user"):
        return Change()
    return Change([ev.JobHeld(t=now, job_id=job.job_id, by=by, by_uid=caller.uid)])


def release(target: Target, caller: Caller, now: float) -> Change:
    """Let a held job start."""
    job = _whole(target)
    require_touch(caller, job)
    if job.is_terminal:
        raise Conflict(f"job {job.display_id} is already over ({job.state})", code="JOB_OVER")
    if job.held == "admin" and not may_manage(caller, job):
        raise Conflict(f"job {job.display_id} is held by an administrator", code="HELD_BY_ADMIN")
    if not job.held and job.state not in (JobState.REQUEUE_HOLD, JobState.SPECIAL_EXIT):
        return Change()
    return Change([ev.JobReleased(t=now, job_id=job.job_id, by_uid=caller.uid)])


def requeue(target: Target, caller: Caller, now: float, *, hold_it: bool, special: bool) -> Change:
    """Put a job back: a running attempt is ended first."""
    job = target.job
    require_touch(caller, job)
    if job.is_array:
        return Change()
    if job.spec.requeue is False:
        raise Conflict(f"job {job.display_id} was submitted with --no-requeue", code="REQUEUE_DISABLED")
    how = "special" if special else "hold" if hold_it else ""
    if job.is_active:
        if job.state is JobState.COMPLETING and job.outcome is not JobState.REQUEUED:
            raise Conflict(f"job {job.display_id} is completing", code="JOB_COMPLETING")
        return Change(
            [
                ev.JobEnding(
                    t=now,
                    job_id=job.job_id,
                    attempt=job.attempt,
                    outcome=JobState.REQUEUED,
                    by_uid=caller.uid,
                    requeue_hold=how,
                )
            ]
        )
    if job.is_waiting and not how:
        raise Conflict(f"job {job.display_id} is already pending", code="JOB_PENDING")
    by = "admin" if may_manage(caller, job) or job.held == "admin" else "user"
    held = by if how else ""
    return Change([ev.JobRequeued(t=now, job_id=job.job_id, by_uid=caller.uid, held=held, special=special)])


def suspend(target: Target, caller: Caller, now: float) -> Change:
    """Stop all processes of a running job."""
    job = target.job
    if job.is_array:
        return Change()
    if job.state is not JobState.RUNNING:
        raise Conflict(f"job {job.display_id} is {job.state}, not RUNNING", code="JOB_NOT_RUNNING")
    return Change([ev.JobSuspended(t=now, job_id=job.job_id, by_uid=caller.uid)])


def resume(state: State, target: Target, caller: Caller, now: float) -> Change:
    """Let a suspended job go on."""
    job = target.job
    if job.is_array:
        return Change()
    if job.state is not JobState.SUSPENDED:
        raise Conflict(f"job {job.display_id} is {job.state}, not SUSPENDED", code="JOB_NOT_SUSPENDED")
    if job.yields_cpus and not state.can_take_back(job):
        raise Conflict(
            f"job {job.display_id} was suspended {_for_whom(job)}; its CPUs are in use",
            code="CPUS_IN_USE",
            hint="it goes on by itself when they come free",
        )
    return Change([ev.JobResumed(t=now, job_id=job.job_id, by_uid=caller.uid)])


def _for_whom(job: JobRecord) -> str:
    return f"for job {job.preemptor}" if job.suspended_for == "preempt" else "because its time slice is over"


def _whole(target: Target) -> JobRecord:
    if target.tasks is not None:
        raise Conflict(
            f"single waiting tasks of array {target.job.job_id} cannot be held or released yet",
            code="ARRAY_TASK_WAITING",
            hint=f"act on the whole array: {target.job.job_id}",
        )
    return target.job
