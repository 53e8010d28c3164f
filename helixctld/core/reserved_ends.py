"""When the reservation that a job runs in ends it, which may be before its own limit does.  Pure."""

from __future__ import annotations

from helix.model.job import JobRecord
from helixctld.core.reservation_times import NEVER_S
from helixctld.core.state import State


def end_by_reservation(state: State, job: JobRecord, over_run_s: int | None) -> float:
    """Epoch seconds; infinity where no reservation ends it.  `over_run_s`: ResvOverRun, None = no limit."""
    if not job.is_active or not job.reservation:
        return NEVER_S
    if job.t_over_run:  # it is over already
        return job.t_over_run
    mine = state.reservations.get(job.reservation)
    if mine is None or not mine.active or mine.has("FLEX") or over_run_s is None:
        return NEVER_S
    return mine.t_end + over_run_s
