"""After a change of accounts all jobs are read again, some at a time; no limit can be passed meanwhile."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from helpers.sched_world import World

from helix.config.assoc_file import parse_assoc
from helix.config.assoc_load import build_accounts
from helix.model import events as ev
from helix.model.job import JobRecord, JobSpec
from helix.model.job_state import Reason
from helix.sched.priority import PriorityOptions
from helix_plugins.priority.multifactor import Multifactor
from helix_plugins.sched.backfill import Backfill
from helixctld.core.usage import UsagePolicy, decay_event
from helixctld.schedule.priorities import PriorityColumns

ALL = frozenset({"associations", "limits", "qos", "safe"})


def take_accounts(w: World, physics: str = "", qos: str = "") -> None:
    text = f"QOS - 'normal'{qos}\nParent - 'root'\nAccount - 'physics'{physics}\nParent - 'physics'\nUser - 'alice'\n"
    w.state.set_accounts(build_accounts(parse_assoc(text, "f")), UsagePolicy(enforce=ALL))
    w.state.question_all()


def world(physics: str = "") -> World:
    w = World(2, cpus=64, planner=Backfill(), check=False)
    w.cycle.priorities = PriorityColumns(Multifactor(), PriorityOptions(weight_age=1000, weight_qos=100))
    take_accounts(w, physics)
    return w


def submit(w: World, count: int) -> list[JobRecord]:
    jobs = []
    for _ in range(count):
        job_id = w.state.next_job_id
        spec = JobSpec(time_limit_s=600, account="physics", qos="normal")
        w.do(
            ev.JobSubmitted(
                t=w.now, job_id=job_id, uid=7, gid=7, user="alice", spec=spec, priority=1, assoc="physics:alice"
            )
        )
        jobs.append(w.state.jobs[job_id])
    return jobs


def steps(count: int) -> Callable[[], bool]:
    """Enough after so many looks."""
    left = iter(range(count))
    return lambda: next(left, None) is None


def catch_up(w: World) -> int:
    """All of it, in the smallest slices there are; how many there were."""
    slices = 0
    while not w.cycle.catch_up(w.state, w.now, steps(1)):
        slices += 1
        w.cycle.columns.queue.freeze()
    return slices


def test_a_plan_from_before_starts_nothing_under_limits_that_are_not_counted_yet() -> None:
    w = world()
    submit(w, 3)
    assert len(w.run()) == 3
    waiting = submit(w, 2)
    w.ticks += 1
    plan = w.cycle.plan(w.cycle.prepare(w.state, w.now))
    assert len(plan.start_job) == 2
    take_accounts(w, ":GrpJobs=4")
    accepted, _ = w.cycle.commit(plan, w.state, w.now)
    assert accepted == []
    assert w.cycle.counters.conflicts == 2
    while not w.cycle.catch_up(w.state, w.now, steps(1)):
        assert w.cycle.columns.is_behind(w.state) or w.cycle.priorities.is_behind
    assert w.run() == waiting[:1]
    assert w.run() == []
    assert waiting[1].reason is Reason.ASSOC_GRP_JOBS_LIMIT


@pytest.mark.parametrize("minutes", [":GrpTRESMins=cpu=2000", ":GrpTRESRunMins=cpu=1000:GrpJobs=60", ""])
def test_slices_come_to_what_one_go_comes_to(minutes: str) -> None:
    worlds = [world(minutes), world(minutes)]
    for w in worlds:
        submit(w, 40)
        w.run()
        submit(w, 700)
        w.run()
        w.now += 60
        w.do(decay_event(w.state, w.now))
        take_accounts(w, minutes.replace("60", "80") or ":GrpTRES=cpu=100", ":Priority=5")
    assert catch_up(worlds[0]) > 5
    frozen = []
    for w in worlds:
        w.ticks += 1
        snapshot = w.cycle.prepare(w.state, w.now)
        pools = w.cycle.columns.pools
        spans = snapshot.spans
        frozen.append(
            (
                sorted((key, pools.left(at)) for at, key in enumerate(pools.keys)),
                snapshot.job_id[snapshot.queue.job].tolist(),
                [job.priority for job in w.state.jobs.values()],
                sorted(zip([pools.keys[p] if p >= 0 else () for p in spans.pool], spans.cpus.tolist(), strict=True)),
            )
        )
        w.cycle.commit(w.cycle.plan(snapshot), w.state, w.now)
    assert frozen[0] == frozen[1]


def test_minutes_that_run_are_counted_anew_after_a_decay() -> None:
    w = world(":GrpTRESMins=cpu=100")
    submit(w, 5)
    assert len(w.run()) == 5
    assert w.run() == []
    w.now += 300
    w.do(decay_event(w.state, w.now))
    while not w.cycle.catch_up(w.state, w.now, steps(1)):
        pass
    pools = w.cycle.columns.pools
    (at,) = (at for at, key in enumerate(pools.keys) if key[3] == "mins")
    pools.refresh(w.state)
    assert pools.left(at) == 100 * 60 - 5 * 600  # charged and still to come are the same as before
    spans = w.cycle.columns.freeze(w.now).spans
    assert spans.cpus[spans.pool == at].tolist() == [300] * 5
    assert np.all(spans.pool >= -1)


def test_a_changed_gate_is_seen_by_every_waiting_job() -> None:
    w = world()
    jobs = submit(w, 30)
    take_accounts(w, ":MaxWall=5")
    catch_up(w)
    assert {job.reason for job in jobs} == {Reason.ASSOC_MAX_WALL_DURATION_PER_JOB_LIMIT}
    take_accounts(w, "")
    catch_up(w)
    assert len(w.run()) == 30
