"""Reservations as records: what is asked, what is chosen, what is in the way, what time does."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.core_builders import ALICE, BOB, ROOT, Cluster

from helix.errors import Denied, HelixError
from helix.model import events as ev
from helix.model.account import Accounts, Association
from helix.model.job import Allocation, JobSpec
from helix.model.job_state import JobState, Reason
from helix.model.node import state_word
from helix.model.reservation import ReservationRecord, Share
from helix.wire.methods import Role
from helixctld.core import reservation_due, reservations, update
from helixctld.core.caller import Caller
from helixctld.core.reservation_access import check_submit
from helixctld.core.reservation_index import may_use
from helixctld.core.reservation_views import reservation_rows
from helixctld.core.select_jobs import Target

HOUR = 3600
OPERATOR = Caller(uid=5, gid=5, user="op", role=Role.OPERATOR)


def members(group: str) -> list[str]:
    return {"staff": ["alice", "carol"]}.get(group, [])


@pytest.fixture
def c() -> Cluster:
    return Cluster(nodes=4, cpus=4, memory_mib=1000)


def make(c: Cluster, **asked: str) -> ReservationRecord:
    asked = {"Users": "alice", "StartTime": "now+1hour", "Duration": "60", **asked}
    event = reservations.create(c.state, asked, OPERATOR, c.now, members)
    c.do(event)
    return c.state.reservations[event.reservation.name]


def change(c: Cluster, name: str, **asked: str) -> ReservationRecord:
    c.do(reservations.update(c.state, name, asked, OPERATOR, c.now, members))
    return c.state.reservations[name]


def tick(c: Cluster, seconds: float, over_run_s: int | None = 0) -> None:
    c.now += seconds
    while events := reservation_due.due(c.state, c.now, over_run_s):
        c.do(*events)


def refused(c: Cluster, **asked: str) -> HelixError:
    with pytest.raises(HelixError) as error:
        make(c, **asked)
    return error.value


# ---- made -----------------------------------------------------------------------------------------------------------


def test_named_nodes(c):
    r = make(c, Nodes="n[1-2]", Comment="course")
    assert (r.name, r.nodes, r.flags) == ("alice_1", ["n1", "n2"], ["SPEC_NODES"])
    assert (r.t_start, r.t_end) == (c.now + HOUR, c.now + 2 * HOUR)
    assert r.shares["n1"] == Share(cpus=4, mem_mib=1000, whole=True)
    assert make(c, Nodes="n3").name == "alice_2"


def test_nodes_by_number_are_idle_ones(c):
    c.start(c.submit(name="busy"), node="n1")
    c.do(ev.NodeUpdated(t=c.now, node="n2", drain=True, reason="x"))
    assert make(c, NodeCnt="2").nodes == ["n3", "n4"]


def test_features_and_partition_narrow_the_choice(c):
    c.do(ev.NodeUpdated(t=c.now, node="n3", changes={"features": ["gpu", "ib"]}))
    assert make(c, NodeCnt="1", Features="gpu&!old").nodes == ["n3"]
    assert refused(c, NodeCnt="2", Features="gpu").code == "NODES_NEVER"
    assert make(c, Nodes="ALL", Features="gpu", StartTime="now+9hours").nodes == ["n3"]


@pytest.mark.parametrize(
    ("asked", "shares"),
    [
        ({"CoreCnt": "6"}, {"n1": (4, 1000), "n2": (2, 500)}),
        ({"CoreCnt": "4", "NodeCnt": "2"}, {"n1": (2, 500), "n2": (2, 500)}),
        ({"CoreCnt": "1,3", "Nodes": "n2,n4"}, {"n2": (1, 250), "n4": (3, 750)}),
        ({"CoreCnt": "2", "Nodes": "n2,n4"}, {"n2": (2, 500), "n4": (2, 500)}),
        ({"TRES": "cpu=5"}, {"n1": (4, 1000), "n2": (1, 250)}),
        ({"TRES": "cpu=2,mem=100M"}, {"n1": (2, 100)}),
        ({"TRES": "node=1"}, {"n1": (4, 1000)}),
    ],
)
def test_parts_of_nodes(c, asked, shares):
    r = make(c, **asked)
    assert {name: (share.cpus, share.mem_mib) for name, share in r.shares.items()} == shares
    assert r.is_partial is (asked != {"TRES": "node=1"})


def test_parts_beside_one_another(c):
    for _ in range(2):
        assert make(c, Nodes="n1", CoreCnt="2").shares["n1"].cpus == 2
    assert refused(c, Nodes="n1", CoreCnt="1").code == "RESERVATION_CONFLICT"


def test_core_counts_are_whole_cores():
    c = Cluster(nodes=1, cpus=4)
    node = c.state.nodes["n1"]
    node.cores_per_socket, node.threads_per_core = 2, 2
    assert make(c, Nodes="n1", CoreCnt="1").shares["n1"].cpus == 2
    assert make(c, TRES="cpu=1").shares["n1"].cpus == 2


def test_conflicts_name_what_is_in_the_way_and_when_it_would_fit(c):
    first = make(c, Nodes="n1", ReservationName="course")
    error = refused(c, Nodes="n1,n2", StartTime="now+90minutes")
    assert error.code == "RESERVATION_CONFLICT"
    assert "n1: in use by reservation 'course'" in error.msg
    assert error.data == {"reservations": ["course"], "jobs": [], "t_fits": first.t_end}
    assert make(c, Nodes="n1,n2", StartTime=f"@{first.t_end}").nodes == ["n1", "n2"]
    job = c.submit(time_limit_s=3 * HOUR)
    c.start(job, node="n4")
    job.time_limit_s = 3 * HOUR
    error = refused(c, NodeCnt="4")
    assert f"running job {job.job_id}" in error.msg
    assert error.data["t_fits"] == max(c.now + 3 * HOUR, first.t_end + HOUR)
    assert refused(c, Nodes="n4").data["jobs"] == [job.job_id]
    assert make(c, Nodes="n4", Flags="IGNORE_JOBS").nodes == ["n4"]
    assert make(c, Nodes="ALL", Flags="MAINT,IGNORE_JOBS", Users="root").nodes == ["n1", "n2", "n3", "n4"]
    assert make(c, Nodes="n1", Flags="OVERLAP").nodes == ["n1"]


def test_a_job_that_ends_before_is_not_in_the_way(c):
    job = c.start(c.submit(), node="n1")
    job.time_limit_s = HOUR
    assert make(c, Nodes="n1").nodes == ["n1"]


@pytest.mark.parametrize(
    ("asked", "code", "part"),
    [
        ({"Nodes": "n9"}, "NODE_UNKNOWN", "no node 'n9'"),
        ({"Nodes": "n1", "Users": ""}, "RESERVATION_INVALID", "who may use it"),
        ({"Nodes": "n1", "Groups": "staff"}, "RESERVATION_INVALID", "Users and Groups"),
        ({"Nodes": "n1", "Users": "alice,-bob"}, "RESERVATION_INVALID", "in front of all names"),
        ({}, "RESERVATION_INVALID", "nothing is asked for"),
        ({"Nodes": "n1", "StartTime": "@100"}, "RESERVATION_INVALID", "has passed"),
        ({"Nodes": "n1", "StartTime": "soon"}, "TIME_INVALID", "bad time 'soon'"),
        ({"Nodes": "n1", "Duration": "0:0:x"}, "TIME_INVALID", "bad time limit"),
        ({"Nodes": "n1", "Duration": "1500", "Flags": "DAILY"}, "RESERVATION_INVALID", "24 hours at most"),
        ({"Nodes": "n1", "Flags": "DAILY,WEEKLY"}, "RESERVATION_INVALID", "DAILY and WEEKLY"),
        ({"Nodes": "n1", "Flags": "DAYLY"}, "RESERVATION_INVALID", "no flag"),
        ({"Nodes": "n1", "Flags": "SPEC_NODES"}, "RESERVATION_INVALID", "no flag"),
        ({"Nodes": "n1", "Flags": "MAINT=3"}, "RESERVATION_INVALID", "takes no value"),
        ({"Nodes": "n1", "Flags": "REPLACE"}, "RESERVATION_INVALID", "named nodes"),
        ({"Nodes": "ALL", "Flags": "PART_NODES"}, "RESERVATION_INVALID", "needs PartitionName"),
        ({"Nodes": "n1", "Flags": "ANY_NODES"}, "RESERVATION_INVALID", "licences only"),
        ({"NodeCnt": "many"}, "RESERVATION_INVALID", "not a whole number"),
        ({"NodeCnt": "0"}, "RESERVATION_INVALID", "at least 1"),
        ({"NodeCnt": "5"}, "NODES_NEVER", "5 nodes are asked, 4 nodes"),
        ({"CoreCnt": "1,2", "Nodes": "n1"}, "RESERVATION_INVALID", "2 numbers for 1 nodes"),
        ({"CoreCnt": "9", "Nodes": "n1"}, "NODES_NEVER", "has 4 cores"),
        ({"TRES": "bb=1"}, "RESERVATION_INVALID", "cannot be reserved"),
        ({"NodeCnt": "1", "Features": "[a|b]"}, "RESERVATION_INVALID", "brackets"),
        ({"NodeCnt": "1", "PartitionName": "bacth"}, "PARTITION_UNKNOWN", "no partition"),
        ({"Licenses": "matlab:2", "Flags": "ANY_NODES"}, "LICENSE_UNKNOWN", "no licence 'matlab'"),
        ({"Nodes": "n1", "Color": "red"}, "FIELD_UNKNOWN", "no field 'Color'"),
        ({"Nodes": "n1", "Watts": "3"}, "NOT_SUPPORTED", "Watts"),
        ({"Nodes": "n1", "ReservationName": "a b"}, "RESERVATION_INVALID", "is not a name"),
        ({"Nodes": "n1", "Flags": "TIME_FLOAT", "StartTime": "now"}, "", ""),
    ],
)
def test_what_makes_no_sense(c, asked, code, part):
    if not code:
        assert make(c, **asked).float_s == 1.0
        return
    error = refused(c, **asked)
    assert (error.code, part in error.msg) == (code, True), error.msg


def test_the_same_name_twice(c):
    make(c, Nodes="n1", ReservationName="x")
    assert refused(c, Nodes="n2", ReservationName="x").code == "RESERVATION_EXISTS"


# ---- who ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "who"),
    [
        ({"Users": "alice"}, {"alice"}),
        ({"Users": "-alice"}, {"bob", "carol"}),
        ({"Users": "", "Groups": "staff"}, {"alice", "carol"}),
        ({"Users": "", "Accounts": "a"}, {"alice", "bob"}),
        ({"Users": "bob,carol", "Accounts": "a"}, {"bob"}),
        ({"Users": "", "Accounts": "-a"}, {"carol"}),
        ({"Users": "1003"}, {"carol"}),
    ],
)
def test_who_may_use_it(c, asked, who):
    r = make(c, Nodes="n1", **asked)
    people = (("alice", 1001, "a"), ("bob", 1002, "a"), ("carol", 1003, "b"))
    assert {name for name, uid, account in people if may_use(r, name, uid, account)} == who


def test_submit_is_checked(c):
    make(c, Nodes="n1", ReservationName="r")
    spec = JobSpec(reservation=" r,,r ")
    check_submit(c.state, spec, ALICE, c.now)
    assert spec.reservation == "r"
    for fields, code in (
        ({"reservation": "rr"}, "RESERVATION_UNKNOWN"),
        ({"reservation": ","}, "RESERVATION_INVALID"),
        ({"reservation": "r", "t_begin": c.now + 3 * HOUR}, "RESERVATION_OVER"),
        ({"reservation": "r", "t_deadline": c.now + 60}, "RESERVATION_OVER"),
        ({"reservation": "r", "nodelist": "n2"}, "NODES_NEVER"),
        ({"reservation": "r", "nodes_min": 2}, "NODES_NEVER"),
        ({"reservation": "r", "tasks": 5}, "NODES_NEVER"),
    ):
        with pytest.raises(HelixError) as error:
            check_submit(c.state, JobSpec(**fields), ALICE, c.now)
        assert error.value.code == code, fields
    with pytest.raises(Denied, match="is not for user bob"):
        check_submit(c.state, JobSpec(reservation="r"), BOB, c.now)


def test_a_job_may_be_given_a_reservation_and_lose_it(c):
    make(c, Nodes="n1", ReservationName="r")
    job = c.submit()
    for text, waits in (("r", True), ("", False)):
        c.do(*update.update_job(c.state, Target(job), ALICE, ALICE, {"Reservation": text}, c.now).events)
        assert (job.job_id in c.state.schedulable) is not waits
        assert ("r" in c.state.reservation_jobs) is waits
    with pytest.raises(Denied):
        update.update_job(c.state, Target(c.submit(caller=BOB)), BOB, BOB, {"Reservation": "r"}, c.now)


def test_accounts_of_the_association_file(c):
    lines = [
        Association(account="root"),
        Association(account="a", parent="root"),
        Association(account="a", user="alice"),
    ]
    c.state.accounts = Accounts(lines, {"alice": "a"})
    assert refused(c, Nodes="n1", Users="", Accounts="b").code == "ACCOUNT_UNKNOWN"
    make(c, Nodes="n1", Users="", Accounts="a", ReservationName="r", Flags="USER_DELETE")
    check_submit(c.state, JobSpec(reservation="r"), ALICE, c.now)
    for ask in (
        lambda: check_submit(c.state, JobSpec(reservation="r"), BOB, c.now),
        lambda: reservations.delete(c.state, "r", BOB, c.now),
    ):
        with pytest.raises(Denied):
            ask()
    c.do(reservations.delete(c.state, "r", ALICE, c.now))


# ---- changed --------------------------------------------------------------------------------------------------------


def test_update(c):
    make(c, Nodes="n1", ReservationName="r")
    r = change(c, "r", Duration="+30", Users="+bob", Flags="MAGNETIC", Comment="more")
    assert (r.t_end - r.t_start, r.users, r.flags, r.comment) == (
        5400,
        ["alice", "bob"],
        ["SPEC_NODES", "MAGNETIC"],
        "more",
    )
    r = change(c, "r", Users="-alice", Flags="-MAGNETIC", Nodes="+n2")
    assert (r.users, r.flags, r.nodes) == (["bob"], ["SPEC_NODES"], ["n1", "n2"])
    r = change(c, "r", Nodes="-n1", StartTime="now+2hours")
    assert (r.nodes, r.t_start, r.t_end - r.t_start) == (["n2"], c.now + 2 * HOUR, 5400)
    r = change(c, "r", NodeCnt="3")
    assert (r.nodes, r.flags) == (["n1", "n2", "n3"], [])
    assert change(c, "r", NodeCnt="-1").nodes in (["n1", "n2"], ["n1", "n3"], ["n2", "n3"])


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"Users": "-alice"}, "RESERVATION_INVALID"),
        ({"Users": "-zoe"}, "RESERVATION_INVALID"),
        ({"Nodes": "-n4"}, "RESERVATION_INVALID"),
        ({"Nodes": ""}, "RESERVATION_INVALID"),
        ({"Skip": "1"}, "RESERVATION_INVALID"),
        ({"Duration": "-60"}, "RESERVATION_INVALID"),
        ({"EndTime": "now"}, "RESERVATION_INVALID"),
        ({"Nodes": "n2"}, "RESERVATION_CONFLICT"),
        ({"Duration": "+600"}, "RESERVATION_CONFLICT"),
    ],
)
def test_updates_that_are_refused_change_nothing(c, asked, code):
    make(c, Nodes="n1", ReservationName="r")
    make(c, Nodes="n2", ReservationName="other")
    make(c, Nodes="n1", ReservationName="next", StartTime="now+3hours")
    before = c.state.reservations["r"]
    with pytest.raises(HelixError) as error:
        change(c, "r", **asked)
    assert error.value.code == code
    assert c.state.reservations["r"] is before


def test_one_that_others_overlap_can_be_cut_short_but_not_prolonged(c):
    make(c, Nodes="n1", ReservationName="r", Duration="120")
    make(c, Nodes="n1", ReservationName="over", Flags="OVERLAP", Duration="120")
    r = change(c, "r", Duration="-60", Flags="+MAGNETIC")
    assert (r.t_end - r.t_start, r.has("MAGNETIC")) == (HOUR, True)
    with pytest.raises(HelixError, match="'over'"):
        change(c, "r", Duration="+30")
    with pytest.raises(HelixError, match="'r'"):
        change(c, "over", Flags="-OVERLAP")


def test_what_can_never_be_made_names_the_partition_that_was_looked_at(c):
    error = refused(c, NodeCnt="9")
    assert "4 nodes with 16 CPUs are usable in partition" in error.msg
    assert "PartitionName=" in error.hint


def test_an_active_one_keeps_its_start(c):
    make(c, Nodes="n1,n2", ReservationName="r", StartTime="now")
    tick(c, 0)
    with pytest.raises(HelixError) as error:
        change(c, "r", StartTime="now+1hour")
    assert error.value.code == "RESERVATION_ACTIVE"
    assert change(c, "r", StartTime="now", Duration="90").t_end == c.now + 5400


# ---- deleted --------------------------------------------------------------------------------------------------------


def test_who_may_delete(c):
    make(c, Nodes="n1", ReservationName="r")
    with pytest.raises(Denied, match="needs an operator"):
        reservations.delete(c.state, "r", ALICE, c.now)
    make(c, Nodes="n2", ReservationName="own", Flags="USER_DELETE")
    with pytest.raises(Denied):
        reservations.delete(c.state, "own", BOB, c.now)
    make(c, Nodes="n3", ReservationName="account", Users="", Accounts="a", Flags="USER_DELETE")
    with pytest.raises(Denied):
        reservations.delete(c.state, "account", ALICE, c.now)
    c.do(reservations.delete(c.state, "account", ROOT, c.now))
    with pytest.raises(Denied):
        reservations.delete(c.state, "r", BOB, c.now, users_may=True)
    c.do(reservations.delete(c.state, "own", ALICE, c.now), reservations.delete(c.state, "r", ROOT, c.now))
    assert not c.state.reservations
    with pytest.raises(HelixError) as error:
        reservations.delete(c.state, "r", ROOT, c.now)
    assert error.value.code == "RESERVATION_UNKNOWN"


def run_inside(c: Cluster, name: str, limit_s: int = 0) -> Any:
    job = c.submit(reservation=name)
    c.do(ev.JobStarted(t=c.now, job_id=job.job_id, attempt=0, partition="batch", reservation=name, time_limit_s=limit_s,
                       alloc=Allocation(nodes=["n1"], cores=[[0]], mem_mib=[1])))  # fmt: skip
    c.launch(job)
    return job


def test_it_is_not_deleted_under_its_jobs(c):
    make(c, Nodes="n1,n2", ReservationName="r", StartTime="now")
    tick(c, 0)
    job = run_inside(c, "r")
    for ask in (lambda: reservations.delete(c.state, "r", ROOT, c.now), lambda: change(c, "r", Nodes="-n1")):
        with pytest.raises(HelixError) as error:
            ask()
        assert (error.value.code, str(job.job_id) in error.value.msg) == ("RESERVATION_BUSY", True)
    assert change(c, "r", Nodes="-n2").nodes == ["n1"]
    c.now += 10
    change(c, "r", EndTime="now")
    tick(c, 0)
    assert (job.state, job.outcome, job.reason) == (JobState.COMPLETING, JobState.TIMEOUT, Reason.TIME_LIMIT)


# ---- time -----------------------------------------------------------------------------------------------------------


def test_it_begins_and_is_over(c):
    make(c, Nodes="n1", ReservationName="r")
    make(c, Nodes="n2", ReservationName="m", Flags="MAINT")
    assert reservation_due.next_due(c.state) == c.now + HOUR
    tick(c, HOUR)
    assert [state_word(c.state.nodes[n]) for n in ("n1", "n2", "n3")] == ["RESERVED", "MAINT", "IDLE"]
    rows = reservation_rows(c.state, c.state.reservations.values(), c.now)
    assert [row[1] for row in rows] == ["ACTIVE", "ACTIVE"]
    for other in (c.replayed(), c.restarted()):
        assert state_word(other.nodes["n2"]) == "MAINT*"
        assert other.reservations == c.state.reservations
    tick(c, HOUR)
    assert not c.state.reservations
    assert state_word(c.state.nodes["n1"]) == "IDLE"


def test_one_that_was_missed_is_over_at_once(c):
    make(c, Nodes="n1")
    tick(c, 5 * HOUR)
    assert not c.state.reservations


def test_a_repeated_one_comes_again(c):
    make(c, Nodes="n1", ReservationName="r", Flags="HOURLY", Duration="30")
    first = c.now + HOUR
    tick(c, HOUR + 1800)
    r = c.state.reservations["r"]
    assert (r.active, r.t_start, r.t_end) == (False, first + HOUR, first + HOUR + 1800)
    tick(c, 10 * HOUR)
    r = c.state.reservations["r"]
    assert (r.active, r.t_start) == (False, first + 11 * HOUR)
    tick(c, 1800)
    assert c.state.reservations["r"].active
    assert change(c, "r", Skip="1").t_start == first + 12 * HOUR
    assert not c.state.reservations["r"].active


def test_purge_when_nobody_uses_it(c):
    make(c, Nodes="n1", ReservationName="r", StartTime="now", Flags="PURGE_COMP=10", Duration="600")
    tick(c, 0)
    job = run_inside(c, "r")
    assert reservation_due.next_due(c.state) == c.state.reservations["r"].t_end
    c.now += 100
    c.do(ev.JobEnded(t=c.now, job_id=job.job_id, attempt=0, state=JobState.COMPLETED))
    assert reservation_due.next_due(c.state) == c.now + 600
    tick(c, 599)
    assert "r" in c.state.reservations
    tick(c, 1)
    assert "r" not in c.state.reservations


def test_jobs_that_wait_are_held_when_it_is_over(c):
    make(c, Nodes="n1", ReservationName="r")
    job, both = c.submit(reservation="r"), c.submit(reservation="r,s")
    assert job.reason is Reason.RESERVATION
    make(c, Nodes="n2", ReservationName="s", StartTime="now+5hours")
    tick(c, 2 * HOUR)
    assert (job.held, job.reason, job.spec.reservation) == ("user", Reason.RESERVATION_DELETED, "")
    assert (both.held, both.reason, both.spec.reservation) == ("", Reason.RESERVATION, "s")
    c.do(ev.JobReleased(t=c.now, job_id=job.job_id))
    assert job.job_id in c.state.schedulable


def test_nodes_that_go_down_are_replaced(c):
    make(c, NodeCnt="2", ReservationName="r")
    make(c, NodeCnt="1", ReservationName="fixed", Flags="STATIC_ALLOC")
    fixed = c.state.reservations["fixed"].nodes
    for name in ("n1", *fixed):
        c.do(ev.NodeUpdated(t=c.now, node=name, drain=True))
    assert reservation_due.wants_replacements(c.state)
    c.do(*reservation_due.replacements(c.state, c.now))
    assert c.state.reservations["r"].nodes == ["n2", "n4"]
    assert c.state.reservations["fixed"].nodes == fixed
    assert reservation_due.replacements(c.state, c.now) == []


def test_replace_gives_idle_nodes_for_those_in_use(c):
    make(c, NodeCnt="2", ReservationName="r", Flags="REPLACE", StartTime="now")
    tick(c, 0)
    run_inside(c, "r")
    c.do(*reservation_due.replacements(c.state, c.now))
    assert c.state.reservations["r"].nodes == ["n2", "n3"]


def test_all_nodes_of_a_partition_follow_it(c):
    c.do(ev.PartitionUpdated(t=c.now, name="batch", changes={"nodes": ["n1", "n2"]}))
    make(c, Nodes="ALL", PartitionName="batch", Flags="PART_NODES", ReservationName="r")
    c.do(ev.PartitionUpdated(t=c.now, name="batch", changes={"nodes": ["n2", "n3"]}))
    c.do(*reservation_due.replacements(c.state, c.now))
    assert c.state.reservations["r"].nodes == ["n2", "n3"]
