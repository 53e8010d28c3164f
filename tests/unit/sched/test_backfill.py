"""sched/backfill on real state: what is promised, who overtakes, what is kept."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.sched_world import World, node

from helix.model import events as ev
from helix.model.job import JobRecord, JobSpec
from helix.model.job_state import Reason
from helix.model.partition import PartitionRecord
from helix.sched.options import MODES, SchedOptions
from helix_plugins.sched.backfill import Backfill
from helixctld.schedule.outlook import Expectation

HOUR = 3600


def world(mode: str = "default", nodes: Any = 2, cpus: int = 4, **options: Any) -> World:
    fields = {"def_mem_per_cpu_mib": 10, "bf_mode": mode, **options}
    return World(nodes, cpus, options=SchedOptions(**fields), planner=Backfill())


def foreseen(w: World, job: JobRecord) -> Expectation:
    found = w.cycle.expectation(job.job_id)
    assert found is not None
    return found


@pytest.mark.parametrize("mode", MODES)
def test_a_short_job_overtakes_and_the_promise_holds(mode: str) -> None:
    w = world(mode)
    long = w.submit(cpus_per_task=4, time_limit_s=10 * HOUR)
    short = w.submit(cpus_per_task=4, time_limit_s=HOUR)
    assert w.run() == [long, short]
    big = w.submit(nodes_min=2, nodes_max=2, cpus_per_task=4, time_limit_s=HOUR)
    assert w.run() == []
    promised = foreseen(w, big)
    assert promised.protected
    assert promised.t_expected == pytest.approx(w.now + 10 * HOUR, abs=120)
    assert promised.nodes == ["n1", "n2"]
    w.end(short)
    fits = w.submit(cpus_per_task=4, time_limit_s=2 * HOUR)
    too_long = w.submit(cpus_per_task=1, time_limit_s=11 * HOUR)
    assert w.run() == [fits]
    assert w.cycle.counters.backfilled == 1
    assert big.reason is Reason.RESOURCES
    assert too_long.reason is Reason.PRIORITY
    assert foreseen(w, big).t_expected <= promised.t_expected
    assert foreseen(w, too_long).t_late >= promised.t_expected + HOUR - 120
    w.end(long)
    w.end(fits)
    assert w.run()[0] is big


def test_limits_of_running_jobs_that_change_move_the_plan() -> None:
    w = world()
    running = w.submit(nodes_min=2, nodes_max=2, cpus_per_task=4, time_limit_s=HOUR)
    w.run()
    waits = w.submit(nodes_min=2, nodes_max=2, cpus_per_task=4, time_limit_s=HOUR)
    w.run()
    assert foreseen(w, waits).t_expected == pytest.approx(w.now + HOUR, abs=60)
    w.do(ev.JobUpdated(t=w.now, job_id=running.job_id, spec=running.spec, time_limit_s=3 * HOUR))
    w.run()
    assert foreseen(w, waits).t_expected == pytest.approx(w.now + 3 * HOUR, abs=60)
    w.now += 4 * HOUR  # past its limit: it ends in the next step
    w.run()
    assert foreseen(w, waits).t_expected == pytest.approx(w.now + 60, abs=1)


def test_a_suspended_job_ends_later() -> None:
    w = world(nodes=1)
    running = w.submit(cpus_per_task=4, time_limit_s=HOUR)
    w.run()
    w.do(ev.JobLaunched(t=w.now, job_id=running.job_id, attempt=0, t_start=w.now))
    w.do(ev.JobSuspended(t=w.now, job_id=running.job_id))
    waits = w.submit(cpus_per_task=4, time_limit_s=HOUR)
    w.now += 2 * HOUR
    w.run()
    assert foreseen(w, waits).t_expected == pytest.approx(w.now + HOUR, abs=60)
    w.do(ev.JobResumed(t=w.now, job_id=running.job_id))
    w.run()
    assert foreseen(w, waits).t_expected == pytest.approx(w.now + HOUR, abs=60)


def test_conservative_reservations_are_kept_and_only_move_earlier() -> None:
    w = world("conservative")
    running = [w.submit(cpus_per_task=4, time_limit_s=h * HOUR) for h in (4, 6)]
    w.run()
    waiting = [w.submit(nodes_min=n, nodes_max=n, cpus_per_task=4, time_limit_s=HOUR) for n in (2, 1, 1)]
    w.run()
    before = [foreseen(w, job).t_expected for job in waiting]
    assert all(foreseen(w, job).protected for job in waiting)
    for priority in (10, 2**32 - 2):  # whoever comes later, and however important, moves nobody
        extra = w.submit(nodes_min=2, nodes_max=2, cpus_per_task=4, time_limit_s=5 * HOUR, priority=priority)
        w.run()
        assert foreseen(w, extra).protected
    now = [foreseen(w, job).t_expected for job in waiting]
    assert all(after <= promised for after, promised in zip(now, before, strict=True))
    w.end(running[1])
    w.run()
    promised = dict(zip((job.job_id for job in waiting), now, strict=True))
    sooner = {job.job_id: foreseen(w, job).t_expected for job in waiting if job.alloc is None}
    assert len(sooner) < len(waiting)
    assert all(after <= promised[job_id] for job_id, after in sooner.items())


def test_new_priorities_keep_reservations() -> None:
    w = world("conservative", nodes=1)
    w.submit(cpus_per_task=4, time_limit_s=HOUR)
    w.run()
    first, second = (w.submit(cpus_per_task=4, time_limit_s=HOUR) for _ in range(2))
    w.run()
    first.priority, second.priority = second.priority, first.priority
    w.cycle.columns.queue.set_priorities({job.job_id: job.priority for job in (first, second)})
    w.run()
    assert foreseen(w, first).t_expected < foreseen(w, second).t_expected
    replanned = world("easy", nodes=1)
    replanned.submit(cpus_per_task=4, time_limit_s=HOUR)
    replanned.run()
    first, second = (replanned.submit(cpus_per_task=4, time_limit_s=HOUR) for _ in range(2))
    replanned.run()
    first.priority, second.priority = second.priority, first.priority
    replanned.cycle.columns.queue.set_priorities({job.job_id: job.priority for job in (first, second)})
    replanned.run()
    assert foreseen(replanned, second).protected
    assert not foreseen(replanned, first).protected


def test_the_shortest_overtake_first_but_not_for_ever() -> None:
    w = world("easy-sjbf", nodes=[node("n1", 4), node("n2", 4)])
    w.submit(cpus_per_task=4, time_limit_s=20 * HOUR)
    w.run()
    w.submit(nodes_min=2, nodes_max=2, cpus_per_task=4, time_limit_s=HOUR)
    long = w.submit(cpus_per_task=4, time_limit_s=2 * HOUR)
    short = w.submit(cpus_per_task=4, time_limit_s=HOUR)
    assert w.run() == [short]
    guarded = world("default", nodes=[node("n1", 4), node("n2", 4)])
    guarded.submit(cpus_per_task=4, time_limit_s=300 * HOUR)
    hog = guarded.submit(cpus_per_task=4, time_limit_s=300 * HOUR)
    guarded.run()
    guarded.submit(nodes_min=2, nodes_max=2, cpus_per_task=4, time_limit_s=HOUR)
    long = guarded.submit(cpus_per_task=4, time_limit_s=2 * HOUR)
    guarded.now += 5.5 * 24 * HOUR
    guarded.submit(cpus_per_task=4, time_limit_s=HOUR)
    guarded.end(hog)
    assert guarded.run() == [long]


def test_jobs_of_a_user_beyond_the_limit_are_not_considered() -> None:
    w = world(bf_max_job_user=2)
    jobs = [w.submit() for _ in range(5)]
    assert w.run() == jobs[:2]
    assert w.cycle.counters.not_considered_last == 3


def test_time_min_cuts_the_limit_to_start_now() -> None:
    w = world(nodes=1)
    hog = w.submit(cpus_per_task=3, time_limit_s=HOUR)
    w.run()
    w.submit(cpus_per_task=4, time_limit_s=HOUR)
    flexible = w.submit(cpus_per_task=1, time_limit_s=5 * HOUR, time_min_s=600)
    assert w.run() == [flexible]
    assert 600 <= flexible.time_limit_s <= HOUR
    assert hog.time_limit_s == HOUR


def test_a_job_in_two_partitions_starts_where_it_can() -> None:
    parts = [
        PartitionRecord(name="main", nodes=["n1"], is_default=True),
        PartitionRecord(name="other", nodes=["n2"]),
    ]
    w = World(2, 4, partitions=parts, options=SchedOptions(def_mem_per_cpu_mib=10), planner=Backfill())
    w.submit(cpus_per_task=4, time_limit_s=HOUR)
    w.run()
    w.submit(cpus_per_task=4, time_limit_s=HOUR)
    either = w.submit(partitions=["main", "other"], cpus_per_task=2, time_limit_s=3 * HOUR)
    assert w.run() == [either]
    assert either.partition == "other"


def test_quick_passes_start_and_full_ones_foresee() -> None:
    w = world()
    hog = w.submit(nodes_min=2, nodes_max=2, cpus_per_task=4, time_limit_s=HOUR)
    w.begin(w.cycle.run_inline(w.state, w.now, full=False)[0])
    assert hog.alloc is not None
    waits = w.submit(cpus_per_task=4, time_limit_s=HOUR)
    w.begin(w.cycle.run_inline(w.state, w.now, full=False)[0])
    assert w.cycle.expectation(waits.job_id) is None
    snapshot = w.cycle.prepare_ahead(w.state, w.now)
    later = w.submit(cpus_per_task=4, time_limit_s=HOUR)
    quick = w.cycle.prepare(w.state, w.now, full=False)
    assert w.cycle.commit(w.cycle.plan(quick), w.state, w.now)[0] == []
    w.cycle.commit_ahead(w.cycle.plan(snapshot), w.state, w.now)
    assert foreseen(w, waits).protected
    assert w.cycle.expectation(later.job_id) is None
    assert w.cycle.counters.full == 1


def test_licences_keep_a_job_waiting_and_hold_nobody_back() -> None:
    w = world()
    w.state.set_licences({"matlab": 1})
    one, two = (w.submit(licenses="matlab", time_limit_s=HOUR) for _ in range(2))
    other = w.submit()
    assert w.run() == [one, other]
    assert two.reason is Reason.LICENSES
    assert foreseen(w, two).t_expected == pytest.approx(w.now + HOUR, abs=60)
    w.end(one)
    assert w.run() == [two]


def test_test_only_gives_the_start_the_job_then_gets() -> None:
    w = world()
    w.submit(cpus_per_task=4, time_limit_s=10 * HOUR)
    w.submit(cpus_per_task=4, time_limit_s=HOUR)
    w.run()
    big = w.submit(nodes_min=2, nodes_max=2, cpus_per_task=4, time_limit_s=HOUR)
    w.run()
    trials = [{"cpus_per_task": 4, "time_limit_s": h * HOUR} for h in (1, 8, 9, 20)]
    for fields in trials:
        record = JobRecord(job_id=0, uid=1, gid=1, spec=JobSpec(**fields))
        answer = w.feasibility.test_only(w.state, record, w.now)
        job = w.submit(**fields)
        w.run()
        found = foreseen(w, job)
        assert answer["t_start"] == pytest.approx(found.t_expected, abs=60)
        assert answer["nodes"] == ",".join(found.nodes)
        assert (answer["now"], answer["cpus"]) == (False, 4)
    assert foreseen(w, big).protected


@pytest.mark.parametrize(("took_s", "gap_s"), [(0.02, 0.4), (1.0, 20.0), (5.0, 30.0)])
def test_full_passes_come_as_soon_as_they_can_be_afforded(took_s: float, gap_s: float) -> None:
    w = world()
    w.cycle.prepare_ahead(w.state, w.now)
    plan = w.cycle.plan(w.cycle.prepare(w.state, w.now, full=True))
    w.cycle.abandon()
    w.ticks += took_s
    w.cycle.commit_ahead(plan, w.state, w.now)
    w.submit()
    w.cycle.wake(submit=True)
    assert w.cycle.ahead_due_in() == pytest.approx(gap_s)


@pytest.mark.parametrize("interval_s", [0.0, 30.0])
def test_without_an_interval_full_passes_follow_each_other_while_jobs_wait(interval_s: float) -> None:
    w = world(bf_interval_s=interval_s)
    job = w.submit(cpus_per_task=4, hold=False)
    for waiting in (True, False):
        snapshot = w.cycle.prepare_ahead(w.state, w.now)
        plan = w.cycle.plan(snapshot)
        w.ticks += 1.0
        w.cycle.commit_ahead(plan, w.state, w.now)
        assert w.cycle.ahead_due_in() == (0.0 if waiting and not interval_s else None)
        if waiting:
            assert w.begin(w.cycle.run_inline(w.state, w.now, full=False)[0]) == [job]


@pytest.mark.parametrize("mode", MODES)
def test_the_promise_goes_to_the_soonest_of_several_partitions(mode: str) -> None:
    parts = [
        PartitionRecord(name="slow", nodes=["n1"], is_default=True),
        PartitionRecord(name="soon", nodes=["n2"]),
    ]
    nodes = [node("n1"), node("n2")]
    options = SchedOptions(def_mem_per_cpu_mib=10, bf_mode=mode)
    w = World(nodes, partitions=parts, options=options, planner=Backfill())
    w.submit(cpus_per_task=4, time_limit_s=3 * HOUR)
    w.submit(partitions=["soon"], cpus_per_task=4, time_limit_s=HOUR)
    assert len(w.run()) == 2
    either = w.submit(partitions=["slow", "soon"], cpus_per_task=4, time_limit_s=HOUR)
    behind = w.submit(partitions=["soon"], cpus_per_task=4, time_limit_s=HOUR)
    assert w.run() == []
    promised = foreseen(w, either)
    assert promised.protected
    assert promised.nodes == ["n2"]
    assert promised.t_expected == pytest.approx(w.now + HOUR, abs=120)
    assert foreseen(w, behind).t_late >= promised.t_expected + HOUR - 120
