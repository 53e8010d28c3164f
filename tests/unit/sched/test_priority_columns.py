"""The columns of priorities: what makes a job's priority anew, and what leaves it alone."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.sched_world import World

from helix.config.assoc_file import parse_assoc
from helix.config.assoc_load import build_accounts
from helix.errors import Conflict
from helix.indexset import IndexSet
from helix.model import events as ev
from helix.model.job import JobRecord, JobSpec
from helix.model.partition import PartitionRecord
from helix.sched.priority import TERMS, PriorityOptions
from helix_plugins.priority.multifactor import Multifactor
from helixctld.core.top import move_to_top, waiting_of
from helixctld.core.usage import Spent, UsagePolicy
from helixctld.schedule.priorities import PriorityColumns

ACCOUNTS = """\
QOS - 'normal'
QOS - 'high':Priority=10
Parent - 'root'
User - 'a':Fairshare=1
User - 'b':Fairshare=1:Priority=4
"""


def world(**options: Any) -> World:
    """One node with one CPU, so that all but one job wait; a minute between beats."""
    w = World(nodes=1, cpus=1)
    w.state.set_accounts(build_accounts(parse_assoc(ACCOUNTS, "f")), UsagePolicy())
    chosen = PriorityOptions(**{"calc_period_s": 60, "max_age_s": 1000, **options})
    w.cycle.priorities = PriorityColumns(Multifactor(), chosen)
    return w


def submit(w: World, user: str = "a", **fields: Any) -> JobRecord:
    job_id = w.state.next_job_id
    spec = JobSpec(account="root", **{"qos": "normal", **fields})
    priority = Multifactor().initial_priority(job_id, spec)
    w.do(
        ev.JobSubmitted(
            t=w.now, job_id=job_id, uid=ord(user), gid=1, user=user, spec=spec, priority=priority, assoc=f"root:{user}"
        )
    )
    return w.state.jobs[job_id]


def terms(w: World, job: JobRecord) -> dict[str, int]:
    assert w.cycle.priorities is not None
    known, found = w.cycle.priorities.factors([job.job_id])
    assert known == [job.job_id]
    assert found.priority[0] == job.priority
    return dict(zip(TERMS, found.terms[0].tolist(), strict=True))


def test_the_order_of_starts_follows_the_factors() -> None:
    w = world(weight_qos=100, weight_assoc=10)
    jobs = [submit(w), submit(w, "b"), submit(w, qos="high"), submit(w, nice=-500)]
    order = []
    for _ in jobs:
        started = w.run()
        order += started
        w.end(started[0])
    assert order == [jobs[3], jobs[2], jobs[1], jobs[0]]


def test_age_counts_eligible_time_only() -> None:
    w = world(weight_age=1000)
    blocker = submit(w)
    assert w.run() == [blocker]
    w.now = 2000.0
    job = submit(w)
    later = submit(w, t_begin=2300.0)
    w.run()
    w.now += 100
    w.run()
    assert terms(w, job)["age"] == 100
    w.do(ev.JobHeld(t=w.now, job_id=job.job_id))
    w.now += 500
    w.do(ev.JobReleased(t=w.now, job_id=job.job_id))
    w.run()
    assert terms(w, job)["age"] == 100
    w.state.look_again(later, w.now)
    w.run()
    w.now += 70
    w.run()
    assert terms(w, job)["age"] == 170
    assert terms(w, later)["age"] == 70
    always = world(weight_age=1000, flags=frozenset({"ACCRUE_ALWAYS"}))
    job = submit(always, hold=True)
    always.now += 300
    always.run()
    assert terms(always, job)["age"] == 300


def test_priorities_rise_with_the_beat_and_the_queue_follows() -> None:
    w = world(weight_age=1000, weight_qos=50)
    first = submit(w)
    assert w.run() == [first]
    old = submit(w)
    w.run()
    assert old.priority == 1
    w.now += 59
    w.run()
    assert old.priority == 1
    w.now += 1
    new = submit(w, qos="high")
    w.run()
    assert (old.priority, new.priority) == (60, 50)
    assert w.cycle.priorities is not None
    assert w.cycle.priorities.recalculated == 2
    w.end(first)
    assert w.run() == [old]


def test_what_was_used_counts_after_the_decay() -> None:
    w = world(weight_fairshare=1000)
    blocker = submit(w, "b")
    w.run()
    mine, yours = submit(w, "a"), submit(w, "b")
    w.run()
    assert terms(w, mine)["fairshare"] == terms(w, yours)["fairshare"] == 1000
    w.state.usage.book["root:a"] = Spent(raw=10**6)
    w.do(ev.UsageDecayed(t=w.now, factor=1 << 32))
    w.run()
    assert terms(w, yours)["fairshare"] > terms(w, mine)["fairshare"]
    assert yours.priority > mine.priority
    w.end(blocker)
    assert w.run() == [yours]


def test_set_priorities_stay_and_release_gives_them_back() -> None:
    w = world(weight_qos=100)
    submit(w)
    w.run()
    job = submit(w, qos="high", priority=7)
    w.run()
    assert job.priority == 7
    assert w.cycle.priorities is not None
    assert w.cycle.priorities.factors([job.job_id])[0] == []
    w.do(ev.JobHeld(t=w.now, job_id=job.job_id))
    w.do(ev.JobReleased(t=w.now, job_id=job.job_id, priority=1))
    w.run()
    assert job.priority == 100


def test_only_upwards_with_incr_only() -> None:
    w = world(weight_fairshare=1000, flags=frozenset({"INCR_ONLY"}))
    submit(w, "b")
    job = submit(w)
    w.run()
    assert job.priority == 1000
    w.state.usage.book["root:a"] = Spent(raw=10**6)
    w.do(ev.UsageDecayed(t=w.now, factor=1 << 32))
    w.run()
    assert job.priority == 1000
    assert terms(w, job)["fairshare"] == 500


def test_partitions_and_options_change_live() -> None:
    w = world(weight_partition=100)
    submit(w)
    job = submit(w)
    w.run()
    assert job.priority == 100
    main = w.state.partitions["main"]
    w.state.set_partitions([main, PartitionRecord(name="other", nodes=[], priority_job_factor=4)])
    w.run()
    assert job.priority == 25
    assert w.cycle.priorities is not None
    w.cycle.priorities.set_options(PriorityOptions(weight_partition=1000))
    w.run()
    assert job.priority == 250


def test_hctl_top_takes_from_the_users_own_jobs() -> None:
    w = world(weight_qos=100, weight_partition=1000)
    blocker = submit(w)
    w.run()
    jobs = [submit(w) for _ in range(3)]
    other = submit(w, "b", qos="high")
    w.run()
    w.do(*move_to_top(w.state, [jobs[2], jobs[1]], 0, w.now))
    w.run()
    assert sum(job.spec.nice for job in jobs) == 0
    assert jobs[2].priority > jobs[1].priority > jobs[0].priority
    assert other.spec.nice == 0
    assert move_to_top(w.state, [other], 0, w.now) == []
    with pytest.raises(Conflict, match="does not wait"):
        move_to_top(w.state, [blocker], 0, w.now)


def test_hctl_top_takes_what_waits_of_an_array() -> None:
    w = world(weight_qos=100)
    array = submit(w, array=IndexSet.of(range(1, 9)))
    w.run()
    started = w.state.tasks_of(array.job_id)
    assert started
    assert waiting_of(w.state, str(array.job_id)) == [array]
    assert waiting_of(w.state, started[0].display_id) == [started[0]]
    with pytest.raises(Conflict, match="single waiting tasks"):
        waiting_of(w.state, f"{array.job_id}_8")
    assert array.pending is not None
    w.do(ev.ArrayTasksCancelled(t=w.now, job_id=array.job_id, tasks=str(array.pending)))
    with pytest.raises(Conflict, match="have started"):
        waiting_of(w.state, str(array.job_id))
