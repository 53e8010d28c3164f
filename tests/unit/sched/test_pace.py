"""When passes come."""

from __future__ import annotations

from helix.sched.options import SchedOptions
from helixctld.schedule.pace import GAP_MAX_S, SPACING, Pace


def finished(pace: Pace, now: float, cost: float, *, again_s: float | None = None, waiting: bool = False) -> None:
    pace.finished(now, cost, again_s=again_s, waiting=waiting)


def test_an_idle_controller_plans_at_once_when_woken_and_never_otherwise() -> None:
    pace = Pace(SchedOptions())
    assert pace.next_at() is None
    pace.wake(5.0)
    assert pace.due(5.0)


def test_changes_during_a_pass_lead_to_one_more() -> None:
    pace = Pace(SchedOptions())
    pace.wake(0.0)
    pace.started(0.0)
    assert not pace.due(9.0)
    pace.wake(0.5)
    pace.wake(0.6)
    assert pace.next_at() is None
    finished(pace, 1.0, 0.01)
    assert pace.next_at() == 1.0 + SPACING * 0.01
    pace.started(1.1)
    finished(pace, 1.2, 0.01)
    assert pace.next_at() is None


def test_the_gap_grows_with_the_cost_and_is_bounded() -> None:
    pace = Pace(SchedOptions())
    pace.started(0.0)
    finished(pace, 1.0, 5.0)
    pace.wake(1.0)
    assert pace.next_at() == 1.0 + GAP_MAX_S


def test_configured_minimum_interval_wins() -> None:
    pace = Pace(SchedOptions(min_interval_s=2.0))
    pace.started(0.0)
    finished(pace, 1.0, 0.001)
    pace.wake(1.0)
    assert pace.next_at() == 3.0


def test_waiting_jobs_are_looked_at_again_after_the_interval() -> None:
    pace = Pace(SchedOptions(interval_s=60.0))
    pace.started(0.0)
    finished(pace, 1.0, 0.0, waiting=True)
    assert pace.next_at() == 61.0
    pace.wake(2.0)
    assert pace.next_at() == 2.0


def test_defer_gathers_submits_but_not_freed_resources() -> None:
    pace = Pace(SchedOptions(defer=True, batch_delay_s=3.0))
    pace.wake(10.0, submit=True)
    assert pace.next_at() == 13.0
    pace.wake(11.0, submit=True)
    assert pace.next_at() == 13.0
    pace.wake(11.5)
    assert pace.next_at() == 11.5


def test_a_pass_that_stopped_short_is_repeated() -> None:
    pace = Pace(SchedOptions())
    pace.started(0.0)
    finished(pace, 1.0, 0.0, again_s=0.0)
    assert pace.due(1.1)
    pace.started(1.1)
    finished(pace, 2.0, 0.0, again_s=0.5)
    assert pace.next_at() == 2.5
