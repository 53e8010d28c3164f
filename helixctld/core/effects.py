"""What a change calls for in the world: actions, imperative, derived from events and from the state.

`effects_of` names what follows from one event; `actions_for` derives the same from a record alone, so that after a
restart "everything once" is enough.  Both are idempotent: nodes answer a repeated launch with what they know.
"""

from __future__ import annotations

from msgspec import Struct

from helix.model import events as ev
from helix.model.job import JobRecord
from helix.model.job_state import JobState
from helixctld.core.state import State


class LaunchJob(Struct, frozen=True):
    """Send the script to the first node of the allocation."""

    job_id: int


class TerminateJob(Struct, frozen=True):
    """End the running attempt; `now` skips SIGTERM and KillWait.

    `t_kill`: when SIGKILL follows SIGTERM, 0 = after KillWait.  `signal`: sent first instead of SIGTERM, 0 = SIGTERM.
    """

    job_id: int
    node: str
    attempt: int
    now: bool = False
    t_kill: float = 0.0
    signal: int = 0


class SignalJob(Struct, frozen=True):
    """Send a signal to a running job."""

    job_id: int
    signal: int
    scope: str


class SuspendJob(Struct, frozen=True):
    """Stop the job's processes, or continue them."""

    job_id: int
    resume: bool


class SetTimeLimit(Struct, frozen=True):
    """Tell the node a running job's new limit."""

    job_id: int


class AckExit(Struct, frozen=True):
    """Tell the node that the end of this attempt is durable here."""

    node: str
    job_id: int
    attempt: int


Action = LaunchJob | TerminateJob | SignalJob | SuspendJob | SetTimeLimit | AckExit


def batch_host(job: JobRecord) -> str:
    """The node that runs the script; "" without an allocation."""
    return job.alloc.nodes[0] if job.alloc is not None and job.alloc.nodes else ""


def effects_of(state: State, event: ev.Event) -> list[Action]:
    """The actions that follow from an event that has just been applied."""
    if isinstance(event, ev.JobStarted):
        return [LaunchJob(event.job_id)]
    if isinstance(event, ev.JobEnding):
        job = state.jobs.get(event.job_id)
        if job is not None and job.state is JobState.COMPLETING:
            return [_terminate(job, event.signal)]
    elif isinstance(event, ev.JobSuspended | ev.JobResumed):
        job = state.jobs.get(event.job_id)
        if job is not None and job.state in (JobState.SUSPENDED, JobState.RUNNING):
            return [SuspendJob(event.job_id, resume=job.state is JobState.RUNNING)]
    elif isinstance(event, ev.JobUpdated) and event.time_limit_s is not None:
        job = state.jobs.get(event.job_id)
        if job is not None and job.is_active:
            return [SetTimeLimit(event.job_id)]
    return []


def actions_for(job: JobRecord) -> list[Action]:
    """What the record alone calls for, whatever happened before."""
    if job.state is JobState.CONFIGURING:
        return [LaunchJob(job.job_id)]
    if job.state is JobState.COMPLETING:
        return [_terminate(job)]
    if job.state is JobState.SUSPENDED:
        return [SuspendJob(job.job_id, resume=False)]
    if job.state is JobState.RUNNING and job.t_suspended:  # the order to go on may not have reached the node
        return [SuspendJob(job.job_id, resume=True)]
    return []


def _terminate(job: JobRecord, signal: int = 0) -> TerminateJob:
    return TerminateJob(job.job_id, batch_host(job), job.attempt, t_kill=job.t_kill, signal=signal)
