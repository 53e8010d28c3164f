"""Deadlines: until when a waiting job can still start and end in time.

A job that cannot any more is removed, as Slurm does it, and not only when the deadline itself has passed.  Pure.
"""

from __future__ import annotations

from heapq import heappush
from typing import TYPE_CHECKING

from helix.errors import UsageError
from helix.model.job import JobRecord, JobSpec
from helix.model.partition import PartitionRecord
from helix.sched.explain import duration_words
from helix.sched.request import time_limit_s

if TYPE_CHECKING:
    from collections.abc import Iterable

    from helixctld.core.state import State


def least_time_s(spec: JobSpec, partitions: Iterable[PartitionRecord]) -> int:
    """The shortest time limit the job may get, seconds; 0 where it has none, or where a reservation may cut it."""
    if spec.reservation:
        return 0
    limits = [time_limit_s(spec, partition) for partition in partitions]
    least = min((limit for limit in limits if limit), default=0) if 0 not in limits else 0
    return min(spec.time_min_s, least or spec.time_min_s) if spec.time_min_s else least


def last_start(state: State, job: JobRecord) -> float:
    """The last moment at which a job with a deadline can start.  Epoch seconds."""
    names = job.spec.partitions or [state.default_partition]
    found = (state.partitions[name] for name in names if name in state.partitions)
    return job.spec.t_deadline - least_time_s(job.spec, found)


def watch_deadline(state: State, job: JobRecord) -> None:
    """See to it that `timers.due` looks at the job in time."""
    if job.spec.t_deadline:
        heappush(state.timers, (last_start(state, job), job.job_id))


def require_in_time(spec: JobSpec, partitions: Iterable[PartitionRecord], now: float) -> None:
    """Raises UsageError for a job that cannot end before its deadline, whenever it starts."""
    if not spec.t_deadline:
        return
    if spec.t_deadline <= now:
        raise UsageError("the deadline has passed", code="DEADLINE_PASSED")
    if spec.t_begin >= spec.t_deadline:
        raise UsageError("--begin lies after --deadline", code="DEADLINE_PASSED")
    least, left = least_time_s(spec, partitions), spec.t_deadline - max(now, spec.t_begin)
    if least > left:
        since = "from --begin to" if spec.t_begin > now else "to"
        raise UsageError(
            f"a job of {duration_words(least)} cannot end in time: it is {duration_words(left)} {since} the deadline",
            code="DEADLINE_PASSED",
            hint="ask for less --time, or say with --time-min what would do",
        )
