"""Advance reservations on a real cluster: made with hctl, kept by the controller, used with hsubmit."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from typing import Any

import pytest
from helpers.cluster_jobs import NOBODY, as_root, blocker, finish, how, submit, wait_reason, wait_state

from helix.cluster.fixture import TestCluster

NULL = ("-o", "/dev/null")
ME = getpass.getuser()


@pytest.fixture(autouse=True)
def without_reservations(cluster: TestCluster) -> Iterator[None]:
    """None left from this test, whatever becomes of it."""
    yield
    with cluster.client() as client:
        ids = [job["display_id"].split("_")[0] for job in client.queue(fields=["display_id"])]
        if ids:
            client.cancel(sorted(set(ids)))
            cluster.wait_for(lambda: not client.queue(fields=["display_id"]), "the queue is empty")
        for r in listed(cluster):
            client.call("reservation.delete", {"name": r["name"]})


def create(cluster: TestCluster, name: str, *words: str) -> None:
    """For this user, but for other `Users=` among the words."""
    users = () if any(word.startswith(("Users=", "Accounts=")) for word in words) else (f"Users={ME}",)
    done = cluster.run("hctl", "create", "reservation", f"ReservationName={name}", *users, *words)
    assert done.stdout == f"Reservation created: {name}\n"


def listed(cluster: TestCluster) -> list[dict[str, Any]]:
    with cluster.client() as client:
        return list(client.reservations())


def node_state(cluster: TestCluster, name: str) -> str:
    return cluster.run("hinfo", "-h", "-N", "-n", name, "-o", "%T").stdout.strip()


def test_a_long_job_waits_and_a_short_one_goes_first(cluster, workdir):
    create(
        cluster,
        "soon",
        "StartTime=now+30minutes",
        "Duration=60",
        "Nodes=ALL",
        "Users=root" if ME != "root" else "Users=nobody",
    )
    long = submit(cluster, workdir, "true", "-t", "60", *NULL)
    short = submit(cluster, workdir, "true", "-t", "10", *NULL)
    assert how(finish(cluster, short)) == ("COMPLETED", "0:0")
    wait_reason(cluster, long, "Resources")
    assert "reserved: n[1-2] by soon" in cluster.run("hwhy", str(long)).stdout
    cluster.run("hctl", "delete", "reservation=soon")
    assert how(finish(cluster, long)) == ("COMPLETED", "0:0")


def test_a_job_waits_for_its_reservation_and_runs_there(cluster, workdir):
    create(cluster, "course", "StartTime=now+3seconds", "Duration=30", "Nodes=n2")
    job = submit(cluster, workdir, f"hostname > node; {blocker(workdir / 'go')}", "--reservation=course", *NULL)
    wait_reason(cluster, job, "Reservation")
    wait_state(cluster, job, "RUNNING")
    assert cluster.run("hqueue", "-h", "-j", str(job), "-o", "%N %v").stdout == "n2 course\n"
    assert "Reservation=course" in cluster.run("hctl", "show", "job", str(job)).stdout
    assert cluster.run("hqueue", "-h", "-R", "course", "-o", "%i").stdout == f"{job}\n"
    refused = cluster.run("hctl", "delete", "reservation=course", check=False)
    assert (refused.returncode, f"in use by job {job} (RESERVATION_BUSY)" in refused.stderr) == (1, True)
    (workdir / "go").touch()
    assert how(finish(cluster, job)) == ("COMPLETED", "0:0")


def test_jobs_end_with_their_reservation(cluster, workdir):
    create(cluster, "brief", "StartTime=now", "Duration=30", "Nodes=n1")
    job = submit(cluster, workdir, "sleep 300", "--reservation=brief", "-t", "60", *NULL)
    wait_state(cluster, job, "RUNNING")
    cluster.run("hctl", "update", "reservation=brief", "EndTime=now+2seconds")
    end = finish(cluster, job)
    assert end["state"] == "TIMEOUT"
    assert "reservation brief is over" in cluster.run("hctl", "show", "job", str(job)).stdout
    assert cluster.run("hctl", "show", "reservation").stdout == "No reservations in the system\n"


@as_root
def test_only_those_it_is_for_may_use_it(cluster, workdir):
    create(cluster, "theirs", "StartTime=now", "Duration=30", "Nodes=n1", "Users=nobody")
    refused = cluster.run("hsubmit", "--reservation=theirs", "--wrap=true", check=False, cwd=workdir)
    assert (refused.returncode, refused.stdout) == (4, "")
    assert "reservation 'theirs' is not for user root (RESERVATION_DENIED)\nit is for users nobody" in refused.stderr
    mine = submit(cluster, workdir, "hostname", "-w", "n1", "-t", "5", *NULL)
    wait_reason(cluster, mine, "Resources")
    theirs = submit(cluster, workdir, "true", "--reservation=theirs", f"--uid={NOBODY}", *NULL)
    assert how(finish(cluster, theirs)) == ("COMPLETED", "0:0")


@as_root
def test_users_see_and_do_not_touch(cluster, workdir):
    create(cluster, "seen", "StartTime=now+1hour", "Duration=30", "Nodes=n1", "Users=nobody")

    def as_nobody(*words: str) -> Any:
        return cluster.run("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *words, check=False)

    assert "ReservationName=seen" in as_nobody("hctl", "show", "reservation").stdout
    for words in (
        ("create", "reservation", "Nodes=n2", "Users=nobody"),
        ("update", "reservation=seen", "Duration+=10"),
        ("delete", "reservation=seen"),
    ):
        refused = as_nobody("hctl", *words)
        assert (refused.returncode, "needs" in refused.stderr) == (4, True), refused.stderr
    cluster.run("hctl", "update", "reservation=seen", "Flags=USER_DELETE")
    assert as_nobody("hctl", "delete", "reservation=seen").returncode == 0


def test_deleting_holds_the_jobs_that_wait(cluster, workdir):
    create(cluster, "gone", "StartTime=now+1hour", "Duration=30", "Nodes=n1")
    job = submit(cluster, workdir, "true", "--reservation=gone", *NULL)
    wait_reason(cluster, job, "Reservation")
    begins = cluster.run("hctl", "show", "reservation", "gone").stdout.split("StartTime=")[1].split()[0]
    assert cluster.run("hqueue", "-h", "--start", "-j", str(job), "-o", "%S %Y").stdout == f"{begins} n1\n"
    cluster.run("hctl", "delete", "ReservationName=gone")
    wait_reason(cluster, job, "ReservationDeleted")
    assert f"hctl release {job}" in cluster.run("hwhy", str(job)).stdout
    cluster.run("hctl", "release", str(job))
    assert how(finish(cluster, job)) == ("COMPLETED", "0:0")


def test_maintenance_shows_and_kills_nobody(cluster, workdir):
    running = submit(cluster, workdir, f"touch up; {blocker(workdir / 'go')}", "-w", "n1", *NULL)
    cluster.wait_for((workdir / "up").exists, "the job runs")
    create(cluster, "fans", "StartTime=now", "Duration=60", "Nodes=ALL", "Flags=MAINT,IGNORE_JOBS", "Users=nobody")
    cluster.wait_for(lambda: node_state(cluster, "n2") == "maint", "n2 is in maintenance")
    assert "State=MIXED+MAINTENANCE" in cluster.run("hctl", "show", "node", "n1").stdout
    other = submit(cluster, workdir, "true", *NULL)
    wait_reason(cluster, other, "ReqNodeNotAvail")
    shown = cluster.run("hqueue", "-h", "-j", str(other), "-o", "%R").stdout
    assert shown == "(ReqNodeNotAvail, Reserved for maintenance)\n"
    assert cluster.run("hinfo", "-h", "-N", "-n", "n2", "-o", "%i").stdout == "fans\n"
    lines = cluster.run("hinfo", "-T").stdout.splitlines()
    assert lines[0].split() == ["RESV_NAME", "STATE", "START_TIME", "END_TIME", "DURATION", "NODELIST"]
    assert (lines[1].split()[0], lines[1].split()[1], lines[1].split()[-1]) == ("fans", "ACTIVE", "n[1-2]")
    (workdir / "go").touch()
    assert how(finish(cluster, running)) == ("COMPLETED", "0:0")
    cluster.run("hctl", "delete", "reservation=fans")
    assert how(finish(cluster, other)) == ("COMPLETED", "0:0")


def test_conflicts_are_named(cluster, workdir):
    create(cluster, "first", "StartTime=now+1hour", "Duration=60", "Nodes=n1")
    refused = cluster.run(
        "hctl",
        "create",
        "reservation",
        "StartTime=now+90minutes",
        "Duration=10",
        "Nodes=n1",
        f"Users={ME}",
        check=False,
    )
    assert refused.returncode == 1
    assert "n1: in use by reservation 'first'" in refused.stderr
    assert "(RESERVATION_CONFLICT)\nit would fit from StartTime=" in refused.stderr
    job = submit(cluster, workdir, blocker(workdir / "go"), "-w", "n2", *NULL)
    wait_state(cluster, job, "RUNNING")
    refused = cluster.run("hctl", "create", "reservation", "Duration=10", "Nodes=n2", f"Users={ME}", check=False)
    assert f"n2: in use by running job {job} (RESERVATION_CONFLICT)" in refused.stderr
    (workdir / "go").touch()


def test_a_restart_keeps_them(cluster, workdir):
    create(cluster, "kept", "StartTime=now", "Duration=60", "CoreCnt=2", "Nodes=n1")
    create(cluster, "nightly", "StartTime=23:00", "Duration=60", "NodeCnt=1", "Flags=DAILY,PURGE_COMP=30")
    create(cluster, "missed", "StartTime=now", "Duration=0:00:02", "Nodes=n2")
    cluster.wait_for(lambda: listed(cluster)[0]["state"] == "ACTIVE", "the first is active")
    job = submit(cluster, workdir, f"touch up; {blocker(workdir / 'go')}", "-c", "2", "--reservation=kept", *NULL)
    cluster.wait_for((workdir / "up").exists, "the job runs")
    before = {r["name"]: r for r in listed(cluster)}
    cluster.kill9_controller()
    cluster.start_controller()
    cluster.wait_nodes()
    after = {r["name"]: r for r in listed(cluster)}
    assert after["kept"] == before["kept"]
    assert after["nightly"] == before["nightly"]
    cluster.wait_for(lambda: "missed" not in {r["name"] for r in listed(cluster)}, "the one that is over is gone")
    more = submit(cluster, workdir, "true", "--reservation=kept", *NULL)
    cluster.wait_for(
        lambda: "waits for room in reservation kept" in cluster.run("hwhy", str(more)).stdout, "it waits inside"
    )
    (workdir / "go").touch()
    assert how(finish(cluster, job)) == ("COMPLETED", "0:0")
    assert how(finish(cluster, more)) == ("COMPLETED", "0:0")


def test_magnetic_and_update(cluster, workdir):
    create(cluster, "pull", "StartTime=now", "Duration=30", "Nodes=n2", "Flags=MAGNETIC")
    job = submit(cluster, workdir, blocker(workdir / "go"), *NULL)
    wait_state(cluster, job, "RUNNING")
    assert cluster.run("hqueue", "-h", "-j", str(job), "-o", "%N %v").stdout == "n2 pull\n"
    out = cluster.run("hctl", "update", "reservation=pull", "Flags-=MAGNETIC", "Duration+=15", "Comment=a b").stdout
    assert out == "Reservation updated.\n"
    text = cluster.run("hctl", "show", "reservation", "pull").stdout
    assert "Duration=00:45:00\n" in text
    assert "Nodes=n2 NodeCnt=1 CoreCnt=4 Features=(null) PartitionName=(null) Flags=SPEC_NODES\n" in text
    assert text.endswith("Comment=a b\n")
    (workdir / "go").touch()
    finish(cluster, job)


@pytest.mark.parametrize(
    ("words", "status", "part"),
    [
        (("create", "reservation", "Nodes=n1"), 2, "who may use it is not said (RESERVATION_INVALID)"),
        (("create", "reservation", "Nodes=n9", f"Users={ME}"), 1, "no node 'n9' (NODE_UNKNOWN)"),
        (("create", "reservation", "Nodes=n1", "Users=no-such-user"), 1, "no user 'no-such-user' (USER_UNKNOWN)"),
        (("create", "reservation", "Nodes=n1", "Groups=no-such-group"), 1, "no group 'no-such-group' (GROUP_UNKNOWN)"),
        (("create", "reservation", "Nodes=n1", f"Users={ME}", "Duration=soon"), 2, "bad time limit 'soon'"),
        (("create", "reservation", "Nodes=n1", f"Users={ME}", "Flags=DAYLY"), 2, "did you mean 'DAILY'?"),
        (("create", "reservation", "NodeCnt=9", f"Users={ME}"), 1, "9 nodes are asked, 2 nodes with 8 CPUs are usable"),
        (("update", "reservation=nightly", "Duration=10"), 1, "no reservation 'nightly' (RESERVATION_UNKNOWN)"),
        (("delete", "reservation=nightly"), 1, "no reservation 'nightly' (RESERVATION_UNKNOWN)"),
        (("show", "reservation", "nightly"), 1, "no reservation 'nightly' (RESERVATION_UNKNOWN)"),
    ],
)
def test_bad_input(cluster, words, status, part):
    done = cluster.run("hctl", *words, check=False)
    assert (done.returncode, done.stdout) == (status, "")
    assert part in done.stderr
    assert done.stderr.count("\n") <= 2
    assert listed(cluster) == []


def test_environment_names_the_reservation(cluster, workdir):
    refused = cluster.run("hsubmit", "--wrap=true", check=False, cwd=workdir, env={"SBATCH_RESERVATION": "nightly"})
    assert (refused.returncode, "no reservation 'nightly'" in refused.stderr) == (1, True)
    assert os.listdir(workdir) == []
