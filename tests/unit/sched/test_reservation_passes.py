"""Reservations in planning: who may start where and when, through whole passes on a small cluster."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.sched_world import World, node

from helix.errors import Conflict
from helix.model import events as ev
from helix.model.job import JobRecord, JobSpec
from helix.model.job_state import Reason
from helix.model.reservation import ReservationRecord
from helix.sched.options import SchedOptions
from helix.wire.methods import Role
from helix_plugins.sched.backfill import Backfill
from helix_plugins.sched.fifo import Fifo
from helixctld.core import reservation_due, reservations
from helixctld.core.caller import Caller
from helixctld.core.reserved_ends import end_by_reservation
from helixctld.core.views import job_getters

ADMIN = Caller(uid=0, gid=0, user="root", role=Role.ADMIN)
HOUR = 3600


@pytest.fixture(params=[Backfill, Fifo], ids=["backfill", "fifo"])
def world(request: pytest.FixtureRequest) -> World:
    return made(request.param())


def made(planner: Any, nodes: int = 3, cpus: int = 4, **options: Any) -> World:
    w = World(nodes, cpus, options=SchedOptions(def_mem_per_cpu_mib=10, **options))
    w.cycle.planner = planner
    return w


def reserve(w: World, **asked: str) -> ReservationRecord:
    """A reservation for user 1000, whose jobs World submits."""
    asked = {"Users": "1000", "StartTime": "now", "Duration": "60", **asked}
    event = reservations.create(w.state, asked, ADMIN, w.now, lambda _group: ())
    w.do(event)
    tick(w)
    return w.state.reservations[event.reservation.name]


def tick(w: World, seconds: float = 0.0) -> None:
    """Time goes by, and does to reservations what it does."""
    w.now += seconds
    while events := reservation_due.due(w.state, w.now, w.options.resv_over_run_s):
        w.do(*events)


def submit(w: World, minutes: int = 30, user: str = "", **fields: Any) -> JobRecord:
    job = w.submit(time_limit_s=60 * minutes, **fields)
    job.user = user
    return job


def started(w: World) -> set[int]:
    return {job.job_id for job in w.run()}


def test_a_job_that_would_reach_into_it_waits_and_a_shorter_one_starts(world: World) -> None:
    reserve(world, StartTime="now+1hour", Nodes="ALL", Users="alice")
    short = submit(world, 50)
    assert started(world) == {short.job_id}
    world.end(short)
    long = submit(world, 70)
    assert started(world) == set()
    assert long.reason is Reason.RESOURCES
    tick(world, HOUR)
    assert started(world) == set()
    tick(world, HOUR)
    assert started(world) == {long.job_id}


def test_nodes_that_are_not_reserved_are_used(world: World) -> None:
    reserve(world, StartTime="now+10minutes", Nodes="n1,n3", Users="alice")
    jobs = [submit(world, 30, cpus_per_task=4) for _ in range(2)]
    assert started(world) == {jobs[0].job_id}
    assert world.where(jobs[0]) == ["n2"]


def test_only_jobs_that_ask_for_it_start_inside_and_only_there(world: World) -> None:
    r = reserve(world, Nodes="n2")
    outside, inside = submit(world, cpus_per_task=4), submit(world, cpus_per_task=4, reservation=r.name)
    assert started(world) == {outside.job_id, inside.job_id}
    assert (world.where(inside), inside.reservation) == (["n2"], r.name)
    assert (world.where(outside), outside.reservation) == (["n1"], "")
    more = submit(world, cpus_per_task=4, reservation=r.name)
    assert started(world) == set()
    world.end(inside)
    assert started(world) == {more.job_id}
    assert world.where(more) == ["n2"]


def test_a_job_waits_for_its_reservation_to_begin(world: World) -> None:
    r = reserve(world, StartTime="now+1hour", Nodes="n1")
    job = submit(world, reservation=r.name)
    assert started(world) == set()
    assert job.reason is Reason.RESERVATION
    tick(world, HOUR)
    assert started(world) == {job.job_id}


def test_a_job_may_start_to_the_end_and_ends_with_it(world: World) -> None:
    r = reserve(world, Nodes="n1")
    tick(world, HOUR - 90)
    job = submit(world, 600, reservation=r.name)
    assert started(world) == {job.job_id}
    world.do(ev.JobLaunched(t=world.now, job_id=job.job_id, attempt=0, t_start=world.now))
    tick(world, 90)
    assert (job.state, job.outcome, job.reason_text) == ("COMPLETING", "TIMEOUT", f"reservation {r.name} is over")
    assert r.name not in world.state.reservations


def shown_end(w: World, job: JobRecord) -> float:
    def cut(record: JobRecord) -> float:
        return end_by_reservation(w.state, record, w.options.resv_over_run_s)

    (getter,) = job_getters(["t_end"], None, cut)
    return float(getter(job, w.now))


def test_the_earlier_of_limit_and_reservation_is_shown_as_the_end(world: World) -> None:
    r = reserve(world, Nodes="n1")
    free = reserve(world, Nodes="n2", Flags="FLEX")
    jobs = [submit(world, minutes, reservation=name) for name in (r.name, free.name) for minutes in (0, 20, 600)]
    assert started(world) == {job.job_id for job in jobs}
    for job in jobs:
        world.do(ev.JobLaunched(t=world.now, job_id=job.job_id, attempt=0, t_start=world.now))
    own = [0.0, world.now + 20 * 60, world.now + 600 * 60]
    assert [shown_end(world, job) for job in jobs] == [r.t_end, own[1], r.t_end, *own]


def test_res_over_run_lets_it_go_on() -> None:
    w = made(Backfill(), resv_over_run_s=600)
    r = reserve(w, Nodes="n1")
    job = submit(w, 600, reservation=r.name)
    assert started(w) == {job.job_id}
    w.do(ev.JobLaunched(t=w.now, job_id=job.job_id, attempt=0, t_start=w.now))
    assert shown_end(w, job) == r.t_end + 600
    tick(w, HOUR)
    assert job.outcome is None
    assert shown_end(w, job) == w.now + 600
    tick(w, 599)
    assert job.outcome is None
    tick(w, 1)
    assert job.outcome == "TIMEOUT"


def test_parts_of_nodes(world: World) -> None:
    r = reserve(world, CoreCnt="2", Nodes="n1")
    inside = [submit(world, cpus_per_task=1, reservation=r.name) for _ in range(3)]
    outside = [submit(world, cpus_per_task=1, nodelist="n1") for _ in range(3)]
    ids = started(world) | started(world)
    assert ids == {job.job_id for job in (*inside[:2], *outside[:2])}
    assert world.state.nodes["n1"].cpus_alloc == 4
    world.end(inside[0])
    assert started(world) == {inside[2].job_id}
    assert started(world) == set()


def test_whole_nodes_are_not_to_be_had_of_parts(world: World) -> None:
    r = reserve(world, CoreCnt="2", Nodes="n1")
    job = submit(world, reservation=r.name, exclusive=True)
    assert started(world) == set()
    world.end(job)


def test_running_jobs_stay_when_they_are_ignored(world: World) -> None:
    old = submit(world, 120, cpus_per_task=3, nodelist="n1")
    assert started(world) == {old.job_id}
    r = reserve(world, Nodes="n1", Flags="IGNORE_JOBS", Duration="180")
    inside = [submit(world, cpus_per_task=1, reservation=r.name) for _ in range(2)]
    assert started(world) == {inside[0].job_id}
    assert started(world) == set()
    world.end(old)
    assert started(world) == {inside[1].job_id}


def test_flex_jobs_start_before_it_and_elsewhere(world: World) -> None:
    r = reserve(world, Nodes="n1", StartTime="now+10minutes", Flags="FLEX")
    jobs = [submit(world, 240, cpus_per_task=4, reservation=r.name) for _ in range(4)]
    assert started(world) == {job.job_id for job in jobs[:3]}
    outside = submit(world, 5, cpus_per_task=4)
    assert started(world) == set(), "all nodes are taken"
    tick(world, 2 * HOUR)
    assert all(job.outcome is None for job in jobs[:3]), "its end does not end them"
    world.end(jobs[0])
    assert outside.job_id in started(world) | started(world)


def test_magnetic_draws_in_jobs_that_may_use_it(world: World) -> None:
    reserve(world, Nodes="n3", Flags="MAGNETIC", ReservationName="magnet", Users="alice")
    mine = submit(world, user="alice", cpus_per_task=4)
    world.do(ev.JobUpdated(t=world.now, job_id=mine.job_id, spec=mine.spec))
    other = submit(world, user="bob", cpus_per_task=4)
    assert started(world) == {mine.job_id, other.job_id}
    assert (world.where(mine), mine.reservation) == (["n3"], "magnet")
    assert (world.where(other), other.reservation) == (["n1"], "")


def test_maintenance_keeps_out_the_jobs_of_other_reservations(world: World) -> None:
    r = reserve(world, Nodes="n1,n2", Duration="240")
    reserve(world, Nodes="n2", StartTime="now+60minutes", Flags="MAINT", Users="root")
    jobs = [submit(world, 120, cpus_per_task=4, reservation=r.name) for _ in range(2)]
    assert started(world) == {jobs[0].job_id}
    assert world.where(jobs[0]) == ["n1"]
    assert world.state.nodes["n2"].reservations == [r.name]


def test_the_second_of_two_reservations_takes_the_job(world: World) -> None:
    reserve(world, Nodes="n1", StartTime="now+1hour", ReservationName="later")
    reserve(world, Nodes="n2", ReservationName="now")
    job = submit(world, reservation="later,now")
    assert started(world) == {job.job_id}
    assert (world.where(job), job.reservation) == (["n2"], "now")


def test_deleting_holds_what_waits_and_frees_the_nodes(world: World) -> None:
    r = reserve(world, Nodes="ALL", StartTime="now+30minutes")
    waiting, outside = submit(world, reservation=r.name), submit(world, 60)
    assert started(world) == set()
    world.do(reservations.delete(world.state, r.name, ADMIN, world.now))
    assert started(world) == {outside.job_id}
    assert (waiting.held, waiting.reason) == ("user", Reason.RESERVATION_DELETED)
    world.do(ev.JobReleased(t=world.now, job_id=waiting.job_id))
    assert started(world) == {waiting.job_id}


def test_no_hold_jobs_after(world: World) -> None:
    r = reserve(world, Nodes="n1", StartTime="now+30minutes", Flags="NO_HOLD_JOBS_AFTER")
    waiting = submit(world, reservation=r.name)
    world.do(reservations.delete(world.state, r.name, ADMIN, world.now))
    assert started(world) == {waiting.job_id}


def test_named_nodes_inside(world: World) -> None:
    r = reserve(world, Nodes="n1,n3")
    job = submit(world, reservation=r.name, nodelist="n3")
    assert started(world) == {job.job_id}
    assert world.where(job) == ["n3"]


def test_a_daily_reservation_keeps_its_nodes_each_day(world: World) -> None:
    r = reserve(world, Nodes="ALL", Flags="DAILY", Users="alice")
    short, job = submit(world, 22 * 60), submit(world, 24 * 60)
    assert started(world) == set()
    tick(world, HOUR)
    assert not world.state.reservations[r.name].active
    assert started(world) == {short.job_id}
    tick(world, 23 * HOUR)
    assert world.state.reservations[r.name].active
    assert job.is_waiting


def test_maintenance_is_the_reason_shown(world: World) -> None:
    job = submit(world, 120)
    world.do(reservations.create(world.state, {"StartTime": "now+1hour", "Duration": "60", "Nodes": "ALL",
                                               "Users": "root", "Flags": "MAINT", "ReservationName": "fans"},
                                 ADMIN, world.now, lambda _group: ()))  # fmt: skip
    assert started(world) == set()
    assert (job.reason, job.reason_text) == (Reason.REQ_NODE_NOT_AVAIL, "Reserved for maintenance")
    why = world.why(job)
    assert "reserved: n[1-3] by fans" in why["text"]
    assert "fit now" not in why["text"]
    assert why["reason"] == "ReqNodeNotAvail"


def test_why_tells_of_the_reservation(world: World) -> None:
    r = reserve(world, Nodes="n1", StartTime="now+1hour")
    inside = submit(world, 600, reservation=r.name, cpus_per_task=4)
    assert world.why(inside)["text"].startswith(f"reservation {r.name} begins ")
    tick(world, HOUR)
    assert started(world) == {inside.job_id}
    second = submit(world, 600, reservation=r.name)
    assert started(world) == set()
    assert f"room in reservation {r.name}: jobs of it are on 1 of its 1 node" in world.why(second)["text"]
    world.do(reservations.update(world.state, r.name, {"EndTime": "now+1minute"}, ADMIN, world.now, lambda _g: ()))
    tick(world, 60)
    assert world.why(second)["advice"] == [f"let it run anywhere: hctl release {second.job_id}"]


def test_licences_are_kept_for_those_inside() -> None:
    w = made(Backfill(), nodes=2)
    w.state.set_licences({"matlab": 3})
    r = reserve(w, Licenses="matlab:2", StartTime="now+1hour")
    assert r.has("ANY_NODES")
    short, long = submit(w, 30, licenses="matlab:3"), submit(w, 120, licenses="matlab:2")
    assert started(w) == {short.job_id}
    w.end(short)
    assert started(w) == set(), "it would have two of three when two are kept"
    inside = submit(w, 30, licenses="matlab:2", reservation=r.name)
    tick(w, HOUR)
    assert started(w) == {inside.job_id}
    tick(w, HOUR)
    assert started(w) == set()
    w.end(inside)
    assert started(w) == {long.job_id}
    with pytest.raises(Conflict, match=f"running job {long.job_id} has 2"):
        reserve(w, Licenses="matlab:2")


def test_a_start_is_foreseen_for_when_a_reservation_gives_its_licences_back() -> None:
    w = made(Backfill(), nodes=2)
    w.state.set_licences({"matlab": 3})
    r = reserve(w, Licenses="matlab:2", StartTime="now")
    tick(w, 1)
    job = submit(w, 30, licenses="matlab:2")
    assert started(w) == set()
    found = w.cycle.expectation(job.job_id)
    assert found is not None
    assert r.t_end <= found.t_late <= r.t_end + 60
    text = f"too few licences matlab are free, of 3, 2 of them kept by reservation {r.name}"
    assert (job.reason, job.reason_text) == (Reason.LICENSES, text)
    spec = JobSpec(licenses="matlab:2", time_limit_s=1800)
    answer = w.feasibility.test_only(w.state, JobRecord(job_id=0, uid=1000, gid=1000, spec=spec), w.now)
    assert r.t_end <= answer["t_start"] <= r.t_end + 60 + 1800


def test_test_only_looks_inside() -> None:
    w = made(Backfill())
    r = reserve(w, Nodes="n2", StartTime="now+1hour")

    def answer(**fields: Any) -> dict[str, Any]:
        spec = JobSpec(**{"time_limit_s": 600 * 60, **fields})
        return w.feasibility.test_only(w.state, JobRecord(job_id=0, uid=1000, gid=1000, spec=spec), w.now)

    later = answer(reservation=r.name)
    assert (later["now"], later["t_start"], later["reason"], later["nodes"]) == (False, r.t_start, "Reservation", "n2")
    tick(w, HOUR)
    assert (answer(reservation=r.name)["now"], answer(reservation=r.name)["nodes"]) == (True, "n2")
    assert answer()["nodes"] == "n1"
    assert answer(nodelist="n2", time_limit_s=60)["t_start"] == r.t_end


def test_devices_are_reserved(world: World) -> None:
    records = [node(f"n{i}", 4, gres="gpu:4") for i in (1, 2)]
    w = World(records, options=SchedOptions(def_mem_per_cpu_mib=10))
    w.cycle.planner = world.cycle.planner
    r = reserve(w, TRES="gres/gpu=2")
    assert (r.nodes, r.shares["n1"].gres, r.shares["n1"].cpus) == (["n1"], {"gpu": 2}, 2)
    inside = [submit(w, gres="gpu:1", reservation=r.name) for _ in range(3)]
    outside = [submit(w, gres="gpu:2", nodelist="n1") for _ in range(2)]
    assert started(w) | started(w) == {inside[0].job_id, inside[1].job_id, outside[0].job_id}
    w.end(outside[0])
    assert started(w) == {outside[1].job_id}
    w.end(inside[1])
    assert started(w) == {inside[2].job_id}


def test_a_floating_start_keeps_long_jobs_out_for_ever(world: World) -> None:
    reserve(world, Nodes="ALL", StartTime="now+30minutes", Flags="TIME_FLOAT", Users="root")
    tick(world, 5 * HOUR)
    short = submit(world, 29)
    assert started(world) == {short.job_id}
    world.end(short)
    submit(world, 45)
    assert started(world) == set()


def test_nodes_that_leave_the_cluster_are_passed_over(world: World) -> None:
    r = reserve(world, Nodes="n1,n3")
    world.state.set_nodes([n for n in world.state.nodes.values() if n.name != "n3"])
    inside, outside = submit(world, reservation=r.name), submit(world)
    assert started(world) == {inside.job_id, outside.job_id}
    assert (world.where(inside), world.where(outside)) == (["n1"], ["n2"])
    world.do(reservations.update(world.state, r.name, {"Nodes": "+n2", "Flags": "IGNORE_JOBS"}, ADMIN, world.now, list))
    assert world.state.reservations[r.name].nodes == ["n1", "n2"]


def test_who_may_use_it_no_longer_does_not_start_in_it(world: World) -> None:
    r = reserve(world, Nodes="n1", StartTime="now+1hour", Users="1000,alice")
    other = reserve(world, Nodes="n2", StartTime="now+1hour")
    job, both = submit(world, reservation=r.name), submit(world, reservation=f"{r.name},{other.name}")
    change = reservations.update(world.state, r.name, {"Users": "-1000"}, ADMIN, world.now, lambda _group: ())
    world.do(change)
    tick(world, HOUR)
    assert started(world) == {both.job_id}
    assert both.reservation == other.name
    assert (job.reason, "is not for" in job.reason_text) == (Reason.RESERVATION, True)
    world.do(reservations.update(world.state, r.name, {"Users": "+1000"}, ADMIN, world.now, lambda _group: ()))
    assert started(world) == {job.job_id}


def test_a_magnet_for_others_draws_in_others(world: World) -> None:
    r = reserve(world, Nodes="ALL", Flags="MAGNETIC", Users="alice")
    job = submit(world)
    assert started(world) == set()
    to_group = {"Users": "", "Groups": "g"}
    world.do(reservations.update(world.state, r.name, to_group, ADMIN, world.now, lambda _group: ("alice",)))
    assert started(world) == set()
    world.do(reservations.update(world.state, r.name, {"Groups": "h"}, ADMIN, world.now, lambda _group: ("1000",)))
    assert started(world) == {job.job_id}
