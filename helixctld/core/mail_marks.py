"""Mails that no change of state brings: a share of the time limit has passed, a dependency can never hold.

`State.notices` collects (job, word of --mail-type); the shell drains it.  Marks are derived: after a restart those that
still lie ahead are set again, and those that have passed count as told.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING

from helix.model.job import JobRecord
from helix.model.job_state import JobState

if TYPE_CHECKING:
    from helixctld.core.state import State

#: word of --mail-type -> share of the time limit, per cent
MARKS = {"TIME_LIMIT_50": 50, "TIME_LIMIT_80": 80, "TIME_LIMIT_90": 90}
INVALID_DEPEND = "INVALID_DEPEND"


def set_marks(state: State, job: JobRecord, now: float) -> None:
    """Note when a running job passes the marks that its owner wants to hear of; again after each change of its end."""
    if not job.time_limit_s or job.state is not JobState.RUNNING:
        return
    for word in MARKS.keys() & set(job.spec.mail_type):
        t = _moment(job, word)
        if t > now:
            state.marks[(job.job_id, word)] = t
            heappush(state.mark_queue, (t, job.job_id, word))


def next_mark(state: State) -> float:
    """When the next mark is passed; infinity if there is none."""
    return state.mark_queue[0][0] if state.mark_queue else float("inf")


def pass_marks(state: State, now: float) -> None:
    """Turn the marks that have been passed into notices."""
    while state.mark_queue and state.mark_queue[0][0] <= now:
        t, job_id, word = heappop(state.mark_queue)
        if state.marks.get((job_id, word)) != t:
            continue  # moved since
        del state.marks[(job_id, word)]
        job = state.jobs.get(job_id)
        if job is not None and job.state is JobState.RUNNING and _moment(job, word) <= now:
            state.notices.append((job, word))


def _moment(job: JobRecord, word: str) -> float:
    return job.t_start + job.suspended_s + job.time_limit_s * MARKS[word] / 100
