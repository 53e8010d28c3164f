"""`hctl top`: jobs before the others of their user, by nice values whose sum stays what it is."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from helix.errors import Conflict
from helix.indexset import IndexSet
from helix.model import events as ev
from helix.model.job import JobRecord
from helixctld.core.select_jobs import resolve
from helixctld.core.state import State
from helixctld.core.submit import NICE_MAX


def waiting_of(state: State, text: str) -> list[JobRecord]:
    """What an id names, of an array what of it waits.  Raises NotFound, UsageError, or Conflict for single tasks."""
    found = resolve(state, text)
    if any(target.tasks is not None for target in found):
        raise Conflict(
            f"single waiting tasks of array {found[0].job.array_job_id} cannot be moved",
            code="ARRAY_TASK_WAITING",
            hint=f"move the whole array: {found[0].job.array_job_id}",
        )
    if len(found) == 1:
        return [found[0].job]
    waiting = [target.job for target in found if target.job.is_waiting and target.job.pending != IndexSet()]
    if not waiting:
        raise Conflict(f"all tasks of array {found[0].job.job_id} have started", code="JOB_NOT_PENDING")
    return waiting


def move_to_top(state: State, jobs: Sequence[JobRecord], by_uid: int, now: float) -> list[ev.Event]:
    """The updates that put `jobs`, in this order, before all waiting jobs of the same user, partition, account and QOS.

    What the first gain is taken from the others in equal parts, so that the sum stays.  Raises Conflict for a job that
    does not wait or whose priority is set.
    """
    events: list[ev.Event] = []
    groups: dict[tuple[int, str, str, str], list[JobRecord]] = {}
    for job in jobs:
        if not job.is_waiting or job.held:
            raise Conflict(f"job {job.display_id} does not wait for resources", code="JOB_NOT_PENDING")
        if job.spec.priority is not None:
            raise Conflict(
                f"the priority of job {job.display_id} is set", code="PRIORITY_SET", hint="hold and release it first"
            )
        groups.setdefault(_group(job), []).append(job)
    for key, first in groups.items():
        wanted = {job.job_id for job in first}
        others = [
            job
            for job in state.jobs.values()
            if job.is_waiting
            and not job.held
            and job.spec.priority is None
            and job.job_id not in wanted
            and job.uid == key[0]
            and _group(job) == key
        ]
        if not others and len(first) < 2:
            continue
        target = max((job.priority for job in (*first, *others)), default=0) + len(first)
        gained = 0
        for place, job in enumerate(first):
            gain = max(0, target - place - job.priority)
            gained += gain
            events.append(_niced(job, -gain, by_uid, now))
        for place, job in enumerate(others):
            share = gained // len(others) + (place < gained % len(others))
            events.append(_niced(job, share, by_uid, now))
    return [event for event in events if event.spec != state.jobs[event.job_id].spec]  # type: ignore[union-attr]


def _group(job: JobRecord) -> tuple[int, str, str, str]:
    return job.uid, job.partition, job.spec.account, job.spec.qos


def _niced(job: JobRecord, change: int, by_uid: int, now: float) -> ev.JobUpdated:
    nice = max(-NICE_MAX, min(NICE_MAX, job.spec.nice + change))
    spec = replace(job.spec, nice=nice)
    return ev.JobUpdated(t=now, job_id=job.job_id, spec=spec, priority=max(1, job.priority - change), by_uid=by_uid)
