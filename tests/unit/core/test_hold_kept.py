"""A hold by who manages a job is not the owner's to undo, whichever way is tried."""

from __future__ import annotations

import pytest
from helpers.core_builders import ALICE, ROOT, Cluster

from helix.errors import Conflict
from helix.model.job import JobRecord
from helix.model.job_state import JobState
from helix.wire.messages import StepEnded
from helixctld.core import reports, requests
from helixctld.core.select_jobs import Target
from helixctld.core.update import update_job


def held() -> tuple[Cluster, JobRecord]:
    c = Cluster()
    job = c.submit()
    c.do(*requests.hold(Target(job), ROOT, False, c.now).events)
    assert job.held == "admin"
    return c, job


def test_a_lower_priority_is_no_release() -> None:
    c, job = held()
    with pytest.raises(Conflict, match="held by an administrator"):
        update_job(c.state, Target(job), ALICE, ALICE, {"Priority": "1"}, c.now)
    c.do(*update_job(c.state, Target(job), ROOT, ALICE, {"Priority": "1"}, c.now).events)
    assert job.held == ""


def test_a_requeue_hold_of_the_owner_keeps_it() -> None:
    c, job = held()
    c.do(*requests.requeue(Target(job), ALICE, c.now, hold_it=True, special=False).events)
    assert (job.state, job.held) == (JobState.REQUEUE_HOLD, "admin")


def test_it_outlives_a_requeue_hold_of_a_running_job() -> None:
    c = Cluster()
    job = c.start(c.submit())
    c.launch(job)
    c.do(*requests.hold(Target(job), ROOT, False, c.now).events)
    c.do(*requests.requeue(Target(job), ALICE, c.now, hold_it=True, special=False).events)
    ended = StepEnded(job_id=job.job_id, attempt=0, node="n1")
    c.do(*reports.step_ended(c.state, ended, c.now, requeue_default=True).events)
    assert (job.state, job.held) == (JobState.REQUEUE_HOLD, "admin")


def test_a_priority_of_zero_is_the_owners_own_hold() -> None:
    c = Cluster()
    job = c.submit()
    c.do(*update_job(c.state, Target(job), ALICE, ALICE, {"Priority": "0"}, c.now).events)
    assert job.held == "user"
    c.do(*requests.release(Target(job), ALICE, c.now).events)
    assert job.held == ""
    assert job.job_id in c.state.schedulable
