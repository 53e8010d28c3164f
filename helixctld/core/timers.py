"""What is due: begin times, delayed dependencies, deadlines, jobs to forget, dependencies that can never hold."""

from __future__ import annotations

from heapq import heappop

from helix.model import events as ev
from helix.model.job_state import JobState, Reason
from helixctld.core import usage
from helixctld.core.deadlines import last_start, watch_deadline
from helixctld.core.mail_marks import next_mark, pass_marks
from helixctld.core.requests import end_waiting
from helixctld.core.state import State

FORGET_BATCH = 10_000  #: jobs forgotten by one event


def next_due(state: State, min_job_age_s: float) -> float:
    """When `due` should be called next; infinity if nothing waits for time."""
    t = float("inf")
    if state.timers:
        t = state.timers[0][0]
    if state.finished:
        t = min(t, state.finished[0][0] + min_job_age_s)
    if state.doomed:
        t = 0.0
    return min(t, usage.next_due(state), next_mark(state))


def due(state: State, now: float, min_job_age_s: float) -> list[ev.Event]:
    """Events that time alone calls for.  Begin times only touch derived indexes, so they need none."""
    events: list[ev.Event] = [*usage.due(state, now)]
    pass_marks(state, now)
    looked: set[int] = set()
    while state.timers and state.timers[0][0] <= now:
        _, job_id = heappop(state.timers)
        job = state.jobs.get(job_id)
        if job is None or not job.is_waiting or job_id in looked:
            continue
        looked.add(job_id)
        if job.spec.t_deadline and last_start(state, job) <= now:
            if not job.is_array:
                events.append(end_waiting(job, JobState.DEADLINE, Reason.DEADLINE, now))
            elif job.pending:  # tasks that have started are not touched
                events.append(ev.ArrayTasksCancelled(t=now, job_id=job_id, tasks=str(job.pending)))
        else:
            watch_deadline(state, job)
            met = job.dependency_met
            state.look_again(job, now)
            if job.dependency_met != met:
                events.append(ev.DependencyMet(t=now, job_id=job_id))
    for job_id in list(state.doomed):
        job = state.jobs.get(job_id)
        state.doomed.discard(job_id)
        if job is None or not job.is_waiting or job.reason is not Reason.DEPENDENCY_NEVER:
            continue
        if not job.is_array:
            events.append(end_waiting(job, JobState.CANCELLED, Reason.DEPENDENCY_NEVER, now))
        elif job.pending:
            events.append(ev.ArrayTasksCancelled(t=now, job_id=job_id, tasks=str(job.pending)))
    old = _to_forget(state, now - min_job_age_s)
    if old:
        events.append(ev.JobsForgotten(t=now, job_ids=old))
    return events


def _to_forget(state: State, before: float) -> list[int]:
    """Finished jobs older than `before`; an array's own record stays as long as any of its tasks does."""
    old: list[int] = []
    while state.finished and len(old) < FORGET_BATCH and state.finished[0][0] <= before:
        _, job_id = state.finished.popleft()
        job = state.jobs.get(job_id)
        if job is not None and job.is_terminal and job.t_end <= before:
            old.append(job_id)
    return old
