"""Mails that no change of state brings: each is told once, and at the right moment."""

from __future__ import annotations

from helpers.core_builders import ROOT, Cluster

from helix.model import events as ev
from helix.model.job import JobRecord
from helix.model.job_state import JobState, Reason
from helixctld.core import requests, timers, update
from helixctld.core.select_jobs import Target


def running(c: Cluster, limit_s: int = 100, words: tuple[str, ...] = ("TIME_LIMIT_50", "TIME_LIMIT_90")) -> JobRecord:
    job = c.submit(mail_type=list(words), time_limit_s=limit_s)
    c.start(job)
    job.time_limit_s = limit_s
    c.launch(job)
    return job


def told(c: Cluster, now: float) -> list[str]:
    c.now = now
    c.do(*timers.due(c.state, now, 1e9))
    words = [word for _, word in c.state.notices]
    c.state.notices.clear()
    return words


def test_each_mark_is_told_once_when_it_is_passed() -> None:
    c = Cluster()
    running(c)
    start = c.now
    assert timers.next_due(c.state, 1e9) == start + 50
    assert told(c, start + 49) == []
    assert told(c, start + 50) == ["TIME_LIMIT_50"]
    assert told(c, start + 80) == []
    assert told(c, start + 500) == ["TIME_LIMIT_90"]


def test_suspended_time_and_new_limits_move_the_marks() -> None:
    c = Cluster()
    job, start = running(c), c.now
    c.now += 10
    c.do(*requests.suspend(Target(job), ROOT, c.now).events)
    assert told(c, start + 60) == []
    c.do(*requests.resume(c.state, Target(job), ROOT, c.now).events)
    assert told(c, start + 99) == []
    assert told(c, start + 100) == ["TIME_LIMIT_50"]
    change = update.update_job(c.state, Target(job), ROOT, ROOT, {"TimeLimit": "10"}, c.now)
    c.do(*change.events)
    assert told(c, start + 300) == []
    assert told(c, start + 350) == ["TIME_LIMIT_50"]


def test_a_job_that_ended_and_a_restart_tell_nothing_late() -> None:
    c = Cluster()
    job, start = running(c), c.now
    c.now = start + 60
    state = c.restarted()
    assert [word for _, word in sorted(state.marks)] == ["TIME_LIMIT_90"]
    assert state.notices == []
    c.do(ev.JobEnded(t=c.now, job_id=job.job_id, attempt=0, state=JobState.COMPLETED))
    assert told(c, start + 200) == []


def test_a_hopeless_dependency_is_told_once() -> None:
    c = Cluster()
    first = c.start(c.submit())
    job = c.submit(dependency=f"afterok:{first.job_id}", mail_type=["INVALID_DEPEND"])
    c.do(ev.JobEnded(t=c.now, job_id=first.job_id, attempt=0, state=JobState.FAILED))
    assert job.reason is Reason.DEPENDENCY_NEVER
    assert c.state.notices == [(job, "INVALID_DEPEND")]
    c.state.look_again(job, c.now)
    assert len(c.state.notices) == 1
    assert c.restarted().notices == []
