"""How long jobs probably run, and what that does to expected starts (and never to promises)."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.sched_world import World
from hypothesis import given
from hypothesis import strategies as st

from helix.sched.history import RunTimes
from helix.sched.options import SchedOptions
from helix_native.ahead_arrays import NEVER
from helix_plugins.sched.backfill import Backfill

HOUR = 3600


def estimate(history: RunTimes, uid: int, name: str, limit_s: int) -> int:
    groups = np.array([history.group(uid, name)], np.int32)
    return int(history.estimates(groups, np.array([limit_s], np.int64))[0])


def test_same_name_then_same_user_then_everybody_then_the_limit() -> None:
    history = RunTimes()
    assert estimate(history, 1, "a", 1000) == 1000
    assert estimate(history, 1, "a", 0) == NEVER
    for run in (100, 110, 900):
        history.learn(1, "a", run, 1000)
    assert estimate(history, 1, "a", 1000) == 110
    assert estimate(history, 1, "a", 50) == 50, "never longer than the limit"
    assert estimate(history, 1, "a", 0) == 110
    assert estimate(history, 1, "b", 1000) == pytest.approx(370, abs=1), "the mean share of this user's last jobs"
    assert estimate(history, 2, "c", 1000) == 110, "the median share of all last jobs"
    assert estimate(history, 2, "c", 0) == NEVER


@given(st.lists(st.tuples(st.integers(1, 3), st.sampled_from("ab"), st.floats(0, 1e6), st.integers(0, 10**5))))
def test_estimates_are_within_the_limit_and_positive(jobs: list[tuple[int, str, float, int]]) -> None:
    history = RunTimes()
    for job in jobs:
        history.learn(*job)
    limits = np.array([1, 60, 10**6, 0, 1 << 39], np.int64)
    for uid, name in ((1, "a"), (3, "b"), (9, "z")):
        found = history.estimates(np.full(5, history.group(uid, name), np.int32), limits)
        assert (found >= 1).all()
        assert (found <= np.where(limits > 0, limits, NEVER)).all()


def test_a_prediction_uses_history_and_a_promise_does_not() -> None:
    w = World(1, 4, options=SchedOptions(def_mem_per_cpu_mib=10), planner=Backfill())
    for _ in range(3):  # they ask for ten hours and run for one
        job = w.submit(name="short", cpus_per_task=4, time_limit_s=10 * HOUR)
        w.run()
        w.now += HOUR
        w.end(job)
    w.submit(name="short", cpus_per_task=4, time_limit_s=10 * HOUR)
    w.run()
    first, second = (w.submit(name="short", cpus_per_task=4, time_limit_s=10 * HOUR) for _ in range(2))
    w.run()
    promised, predicted = (w.cycle.expectation(job.job_id) for job in (first, second))
    assert promised is not None
    assert predicted is not None
    assert promised.protected
    assert promised.t_expected == pytest.approx(w.now + 10 * HOUR, abs=60)
    assert promised.t_early == pytest.approx(w.now + HOUR, abs=90)
    assert not predicted.protected
    assert predicted.t_early == pytest.approx(w.now + 2 * HOUR, abs=150)
    assert predicted.t_late == pytest.approx(w.now + 20 * HOUR, abs=120)
    assert predicted.t_early <= predicted.t_expected <= predicted.t_late


def test_a_job_that_runs_for_longer_than_usual_is_given_more_time() -> None:
    w = World(1, 4, options=SchedOptions(def_mem_per_cpu_mib=10), planner=Backfill())
    job = w.submit(name="short", cpus_per_task=4, time_limit_s=10 * HOUR)
    w.run()
    w.now += HOUR
    w.end(job)
    w.submit(name="short", cpus_per_task=4, time_limit_s=10 * HOUR)
    w.run()
    w.submit(name="short", cpus_per_task=4, time_limit_s=10 * HOUR)
    waits = w.submit(name="short", cpus_per_task=4, time_limit_s=10 * HOUR)
    w.now += 4 * HOUR
    w.run()
    found = w.cycle.expectation(waits.job_id)
    assert found is not None
    assert found.t_early == pytest.approx(w.now + 3 * HOUR, abs=240)


def test_recent_is_the_mean_of_the_users_last_two_runs_whatever_their_names() -> None:
    runs = RunTimes()
    mine, other = runs.group(1, "a"), runs.group(2, "a")
    groups, limits = np.array([mine, mine, other, other], np.int32), np.array([100, 10, 50, 0], np.int64)
    assert runs.recent(groups, limits).tolist() == [100, 10, 50, NEVER]
    for name, seconds in (("a", 90.0), ("b", 20.0), ("c", 41.0)):
        runs.learn(1, name, seconds, 1000)
    assert runs.recent(groups, limits).tolist() == [31, 10, 50, NEVER]


def test_who_is_known_stays_known_when_no_more_names_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    history = RunTimes()
    history.learn(1, "known", 10, 1000)
    monkeypatch.setattr("helix.sched.history.GROUPS_MAX", 1)
    assert history.group(1, "known") == 0
    assert history.group(1, "new") == history.group(1, "newer") != 0
    assert estimate(history, 1, "known", 1000) == 10
