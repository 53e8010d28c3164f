"""Arrays as one record, and the edges between jobs."""

from __future__ import annotations

import pytest
from helpers.core_builders import ALICE, Cluster
from msgspec.structs import replace

from helix.errors import Conflict, NotFound, UsageError
from helix.model import events as ev
from helix.model.job import ExitInfo
from helix.model.job_state import JobState, Reason
from helixctld.core import requests, timers
from helixctld.core.dependencies import format_dependency, require_acyclic, require_known
from helixctld.core.dependency_text import parse_dependency
from helixctld.core.select_jobs import Target, resolve


def finish(c: Cluster, job, code: int = 0) -> None:
    state = JobState.COMPLETED if code == 0 else JobState.FAILED
    c.do(ev.JobEnded(t=c.now, job_id=job.job_id, attempt=job.attempt, state=state, exit=ExitInfo(code=code)))


def run(c: Cluster, job, code: int = 0, core: int = 0):
    task = c.start(job, cores=(core,))
    c.launch(task)
    finish(c, task, code)
    return task


def test_million_tasks_are_one_record():
    c = Cluster()
    array = c.submit(array="0-999999%3")
    assert len(c.state.jobs) == 1
    assert array.display_id == "1_[0-999999%3]"
    assert c.state.tasks_startable(array) == 3


def test_task_limit_holds_back_the_rest():
    c = Cluster()
    array = c.submit(array="1-5%2")
    first, _second = c.start(array, cores=(0,)), c.start(array, cores=(1,))
    assert array.job_id not in c.state.schedulable
    assert array.reason is Reason.ARRAY_TASK_LIMIT
    finish(c, first)
    assert c.state.tasks_startable(array) == 1
    assert array.job_id in c.state.schedulable
    assert array.display_id == "1_[3-5%2]"


def test_array_ends_with_its_last_task():
    c = Cluster()
    array = c.submit(array="1-2")
    run(c, array)
    assert not array.is_terminal
    run(c, array, code=3)
    assert (array.state, array.tasks_failed, str(array.derived_exit)) == (JobState.FAILED, 1, "3:0")


def test_cancel_of_some_tasks():
    c = Cluster()
    array = c.submit(array="1-10")
    c.do(*requests.cancel(c.state, resolve(c.state, "1_[2-4,9]")[0], ALICE, c.now).events)
    assert str(array.pending) == "1,5-8,10"
    c.do(*requests.cancel(c.state, Target(array), ALICE, c.now).events)
    assert array.state is JobState.CANCELLED


def test_task_ids_name_started_and_waiting_tasks():
    c = Cluster()
    array = c.submit(array="1-4")
    task = c.start(array)
    assert task.display_id == "1_1"
    assert [t.job for t in resolve(c.state, "1_1")] == [task]
    both = resolve(c.state, "1_[1-2]")
    assert both[0].job is task
    assert str(both[1].tasks) == "2"
    with pytest.raises(NotFound):
        resolve(c.state, "1_9")


def test_requeued_task_keeps_the_array_open():
    c = Cluster()
    array = c.submit(array="1-1")
    task = c.start(array)
    c.do(*requests.requeue(Target(task), ALICE, c.now, hold_it=False, special=False).events)
    c.do(ev.JobEnded(t=c.now, job_id=task.job_id, attempt=0, state=JobState.PENDING))
    assert (task.state, array.tasks_active, array.tasks_open) == (JobState.PENDING, 0, 1)
    c.start(task)
    finish(c, task)
    assert array.state is JobState.COMPLETED


@pytest.mark.parametrize(
    ("kind", "code", "reason"),
    [
        ("afterok", 0, None),
        ("afterok", 1, Reason.DEPENDENCY_NEVER),
        ("afternotok", 0, Reason.DEPENDENCY_NEVER),
        ("afternotok", 1, None),
        ("afterany", 0, None),
        ("afterany", 1, None),
    ],
)
def test_edge_is_decided_by_the_outcome(kind, code, reason):
    c = Cluster()
    first = c.submit()
    second = c.submit(dependency=f"{kind}:{first.job_id}")
    assert second.reason is Reason.DEPENDENCY
    run(c, first, code)
    if reason is None:
        assert second.job_id in c.state.schedulable
    else:
        assert second.reason is reason


def test_edge_to_a_forgotten_job_is_decided_by_history():
    c = Cluster()
    first = c.submit()
    run(c, first, code=1)
    c.now += 1000
    c.do(*timers.due(c.state, c.now, 300))
    assert first.job_id not in c.state.jobs
    bad = c.submit(dependency=f"afterok:{first.job_id}")
    good = c.submit(dependency=f"afterany:{first.job_id}")
    assert bad.reason is Reason.DEPENDENCY_NEVER
    assert good.job_id in c.state.schedulable


def test_dependency_once_met_stays_met():
    c = Cluster()
    first = c.submit()
    run(c, first)
    second = c.submit(dependency=f"afterok:{first.job_id}")
    c.do(*requests.requeue(Target(first), ALICE, c.now, hold_it=False, special=False).events)
    assert first.state is JobState.PENDING
    for state in (c.state, c.replayed(), c.restarted()):
        assert second.job_id in state.schedulable


def test_kill_on_invalid_dep_cancels():
    c = Cluster()
    first = c.submit()
    second = c.submit(dependency=f"afterok:{first.job_id}", kill_on_invalid_dep=True)
    run(c, first, code=1)
    c.do(*timers.due(c.state, c.now, 300))
    assert (second.state, second.reason) == (JobState.CANCELLED, Reason.DEPENDENCY_NEVER)


def test_after_waits_for_the_start_and_the_minutes():
    c = Cluster()
    first = c.submit()
    second = c.submit(dependency=f"after:{first.job_id}+2")
    c.start(first)
    assert second.job_id not in c.state.schedulable
    c.now += 121
    timers.due(c.state, c.now, 300)
    assert second.job_id in c.state.schedulable


def test_any_of_and_all_of():
    c = Cluster()
    a, b = c.submit(), c.submit()
    either = c.submit(dependency=f"afterok:{a.job_id}?afterok:{b.job_id}")
    both = c.submit(dependency=f"afterok:{a.job_id},afterok:{b.job_id}")
    run(c, a, code=1)
    assert either.job_id not in c.state.schedulable
    assert both.reason is Reason.DEPENDENCY_NEVER
    run(c, b)
    assert either.job_id in c.state.schedulable


def test_singleton_waits_for_earlier_jobs_of_the_name():
    c = Cluster()
    first = c.submit(name="x")
    second = c.submit(name="x", dependency="singleton")
    other = c.submit(name="y", dependency="singleton")
    assert other.job_id in c.state.schedulable
    assert second.reason is Reason.DEPENDENCY
    run(c, first)
    assert second.job_id in c.state.schedulable


def test_of_many_singletons_only_the_first_is_looked_at_when_one_ends():
    c = Cluster()
    jobs = [c.submit(name="x", dependency="singleton") for _ in range(4)]
    plain = c.submit(name="x")
    late = c.submit(name="x", dependency="singleton")
    c.state.dirty_jobs.clear()
    run(c, jobs[0])
    assert [job.job_id in c.state.schedulable for job in jobs[1:]] == [True, False, False]
    assert c.state.dirty_jobs == {jobs[0].job_id, jobs[1].job_id}
    for job in jobs[1:]:
        run(c, job)
    assert late.reason is Reason.DEPENDENCY  # of a plain job
    run(c, plain)
    assert late.job_id in c.state.schedulable
    run(c, late)
    assert not c.state.singletons
    assert not c.state.awaiting_name


def test_singleton_goes_on_when_the_earlier_job_gets_another_name():
    c = Cluster()
    first = c.submit(name="x")
    second = c.submit(name="x", dependency="singleton")
    spec = replace(first.spec, name="z")
    c.do(ev.JobUpdated(t=c.now, job_id=first.job_id, spec=spec, by_uid=0))
    assert second.job_id in c.state.schedulable
    assert c.state.singletons.keys() == {(first.uid, "x"), (first.uid, "z")}


def test_aftercorr_lets_tasks_go_one_by_one():
    c = Cluster()
    first = c.submit(array="1-3")
    second = c.submit(array="1-3", dependency=f"aftercorr:{first.job_id}")
    assert second.job_id not in c.state.schedulable
    t1, t2 = c.start(first, cores=(0,)), c.start(first, cores=(1,))
    finish(c, t2)
    assert c.state.next_tasks(second, 9) == [2]
    finish(c, t1)
    assert c.state.next_tasks(second, 9) == [1, 2]


def test_tasks_that_left_the_table_still_decide():
    c = Cluster()
    first = c.submit(array="1-4")
    t1, t2 = c.start(first, cores=(0,)), c.start(first, cores=(1,))
    finish(c, t1)
    finish(c, t2, code=1)
    c.now += 1000
    c.do(*timers.due(c.state, c.now, 300))
    assert t1.job_id not in c.state.jobs
    corr = c.submit(array="1-4", dependency=f"aftercorr:{first.job_id}")
    assert c.state.next_tasks(corr, 9) == [1]
    assert c.submit(dependency=f"afterok:{first.job_id}_1").job_id in c.state.schedulable
    assert c.submit(dependency=f"afterok:{first.job_id}_2").reason is Reason.DEPENDENCY_NEVER
    assert c.submit(dependency=f"afterok:{first.job_id}_3").reason is Reason.DEPENDENCY


def test_unknown_and_circular_edges_are_refused():
    c = Cluster()
    a = c.submit()
    b = c.submit(dependency=f"afterok:{a.job_id}")
    with pytest.raises(NotFound, match="unknown job 99"):
        require_known(c.state, parse_dependency("afterok:99"))
    with pytest.raises(Conflict, match="itself"):
        require_acyclic(c.state, a.job_id, parse_dependency(f"afterok:{b.job_id}"))
    with pytest.raises(Conflict):
        require_acyclic(c.state, a.job_id, parse_dependency(f"afterok:{a.job_id}"))


@pytest.mark.parametrize(
    "text",
    ["", "afterok", "afterok:", "afterok:x", "sometime:3", "afterok:1,afterok:2?afterok:3", "afterok:1+5", "afterok:0"],
)
def test_malformed_dependencies(text):
    with pytest.raises(UsageError):
        parse_dependency(text)


@pytest.mark.parametrize("text", ["afterok:12:13,afterany:14_3", "after:5+10", "singleton", "afterok:1?afternotok:2"])
def test_dependencies_print_as_they_read(text):
    printed = format_dependency(parse_dependency(text))
    assert parse_dependency(printed) == parse_dependency(text)


def test_an_array_whose_failed_task_succeeds_at_last_has_not_failed():
    c = Cluster()
    array = c.submit(array="1-2")
    first, second = c.start(array), c.start(array, cores=(1,))
    c.do(ev.JobEnded(t=c.now, job_id=first.job_id, attempt=0, state=JobState.FAILED))
    c.do(ev.JobRequeued(t=c.now, job_id=first.job_id))
    c.start(first)
    for task in (first, second):
        c.do(ev.JobEnded(t=c.now, job_id=task.job_id, attempt=task.attempt, state=JobState.COMPLETED))
    assert (array.state, array.tasks_failed) == (JobState.COMPLETED, 0)
