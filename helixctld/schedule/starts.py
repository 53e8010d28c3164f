"""Accepted starts as events: what helixctld and the simulator both commit."""

from __future__ import annotations

from helix.model import events as ev
from helixctld.core.limits import association_of
from helixctld.core.state import State
from helixctld.core.usage import bill
from helixctld.schedule.verify import AcceptedStart


def start_events(state: State, accepted: list[AcceptedStart], now: float) -> list[ev.Event]:
    """One JobStarted a start; array tasks get their index and a new id here.  `now`: epoch seconds."""
    counts: dict[int, int] = {}
    for start in accepted:
        counts[start.job_id] = counts.get(start.job_id, 0) + 1
    tasks = {
        job_id: iter(state.next_tasks(state.jobs[job_id], n))
        for job_id, n in counts.items()
        if state.jobs[job_id].is_array
    }
    next_id = state.next_job_id
    events: list[ev.Event] = []
    for start in accepted:
        job = state.jobs[start.job_id]
        bill(state, job, start.partition, start.alloc)
        event = ev.JobStarted(
            t=now,
            job_id=job.job_id,
            attempt=job.attempt,
            partition=start.partition,
            reservation=start.reservation,
            time_limit_s=start.time_limit_s,
            alloc=start.alloc,
            array_job_id=job.array_job_id,
            array_task_id=job.array_task_id,
        )
        assoc = association_of(state, job)
        if assoc != job.assoc:
            event.assoc = assoc
        if job.is_array:
            task = next(tasks[job.job_id], None)
            if task is None:
                continue
            event.job_id, event.array_task_id, event.attempt = next_id, task, 0
            next_id += 1
        events.append(event)
    return events
