"""preempt/qos with real daemons: each QOS makes room in its own way, and the jobs see it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.cluster_jobs import blocker, finish, how, submit, wait_state, wait_text

from helix.cluster.fixture import TestCluster

ASSOC = """
Cluster - 'c':QOS='normal'
QOS - 'normal'
QOS - 'urgent':Priority=100:Preempt='warned,again,stopped,young'
QOS - 'warned':PreemptMode=cancel:GraceTime=60
QOS - 'again':PreemptMode=requeue
QOS - 'stopped':PreemptMode=suspend
QOS - 'young':PreemptMode=cancel:PreemptExemptTime=00:00:03
QOS - 'peers':PreemptMode=cancel,within
"""
CONF = """
KillWait=1
DefMemPerCPU=10
PreemptType=preempt/qos
PreemptMode=CANCEL
PreemptParameters=suspend_grace_time=0
AssocFile={file}
"""
#: notes signals in the file `told` until somebody makes the file `stop`
WARNED = """trap 'echo CONT >> {work}/told' CONT
trap 'echo TERM >> {work}/told' TERM
echo up > {work}/up
while [ ! -e {work}/stop ]; do sleep 0.02; done
exit 3"""


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestCluster]:
    """Two nodes of two CPUs."""
    top = tmp_path_factory.mktemp("qos")
    (top / "assoc").write_text(ASSOC)
    conf = CONF.format(file=top / "assoc")
    with TestCluster(top / "c", nodes=2, cpus=2, memory_mib=1024, conf_extra=conf) as cluster:
        yield cluster


@pytest.fixture
def work(room: TestCluster, request: pytest.FixtureRequest) -> Iterator[Path]:
    """An empty directory; at the end no job is left."""
    path = room.dir / "work" / request.node.name
    path.mkdir(parents=True)
    yield path
    (path / "stop").touch()
    with room.client() as client:
        ids = [job["display_id"] for job in client.queue(fields=["display_id"])]
        if ids:
            client.cancel(ids)
            room.wait_for(lambda: not client.queue(fields=["display_id"]), "the queue is empty")


def shown(room: TestCluster, job: int) -> str:
    return room.run("hctl", "show", "job", str(job)).stdout


def test_each_qos_makes_room_in_its_own_way(room: TestCluster, work: Path) -> None:
    warned = submit(room, work, WARNED.format(work=work), "--qos=warned", "-w", "n1", "-o", "/dev/null")
    again = submit(room, work, f"echo run >> {work}/runs\n" + blocker(work / "go"), "--qos=again", "-w", "n1")
    stopped = submit(room, work, blocker(work / "go"), "--qos=stopped", "-w", "n2", "-c2")
    for job in (warned, again, stopped):
        wait_state(room, job, "RUNNING")
    wait_text(room, work / "up", "up")
    wait_text(room, work / "runs", "run")
    normal = submit(room, work, blocker(work / "high"), "--qos=normal", "-N2", "-c2", "-o", "/dev/null")
    urgent = submit(room, work, blocker(work / "high"), "--qos=urgent", "-N2", "-c2", "-o", "/dev/null")
    wait_text(room, work / "told", "TERM")
    assert (work / "told").read_text().split() == ["TERM", "CONT"]  # a shell runs the trap of the lower number last
    row = wait_state(room, warned, "COMPLETING")
    assert row["reason_text"] == f"preempted by job {urgent} (user {row['user']}, qos urgent)"
    assert "Reason=Preempted" in shown(room, warned)
    wait_state(room, stopped, "SUSPENDED")
    assert f"suspended to make room for job {urgent};" in room.run("hwhy", str(stopped)).stdout
    assert "when job" in room.run("hwhy", str(urgent)).stdout
    assert "starts on n[1-2] when job" in shown(room, urgent)
    start = room.run("hqueue", "--noheader", "-o", "%S %r", "-j", str(urgent)).stdout
    assert not start.startswith("N/A")
    (work / "stop").touch()
    wait_state(room, urgent, "RUNNING")
    assert how(finish(room, warned)) == ("PREEMPTED", "3:0")
    assert wait_state(room, again, "PENDING")["state"] == "PENDING"
    assert wait_state(room, stopped, "SUSPENDED")["state"] == "SUSPENDED"
    room.run("hcancel", str(normal))
    (work / "high").touch()
    assert how(finish(room, urgent)) == ("COMPLETED", "0:0")
    wait_state(room, stopped, "RUNNING")
    room.wait_for(lambda: (work / "runs").read_text().count("run") == 2, "the requeued job runs again")
    (work / "go").touch()
    assert how(finish(room, stopped)) == how(finish(room, again)) == ("COMPLETED", "0:0")


def test_within_a_qos_the_higher_priority_wins(room: TestCluster, work: Path) -> None:
    low = submit(room, work, blocker(work / "go"), "--qos=peers", "-N2", "-c2", "--priority=10", "-o", "/dev/null")
    wait_state(room, low, "RUNNING")
    equal = submit(room, work, "true", "--qos=peers", "-N2", "-c2", "--priority=10", "-o", "/dev/null")
    high = submit(room, work, "true", "--qos=peers", "-N2", "-c2", "--priority=11", "-o", "/dev/null")
    assert how(finish(room, high)) == ("COMPLETED", "0:0")
    assert finish(room, low)["state"] == "PREEMPTED"
    assert f"preempted by job {high} " in shown(room, low)
    assert how(finish(room, equal)) == ("COMPLETED", "0:0")


def test_young_jobs_are_exempt_for_a_while(room: TestCluster, work: Path) -> None:
    young = submit(room, work, blocker(work / "go"), "--qos=young", "-N2", "-c2", "-o", "/dev/null")
    wait_state(room, young, "RUNNING")
    urgent = submit(room, work, "true", "--qos=urgent", "-N2", "-c2", "-o", "/dev/null")
    assert finish(room, young)["state"] == "PREEMPTED"
    with room.client() as client:
        record = client.job(young)
    assert record["t_preempt"] - record["t_start"] >= 3
    assert how(finish(room, urgent)) == ("COMPLETED", "0:0")


def test_a_controller_that_is_killed_in_the_grace_time_goes_on_with_it(room: TestCluster, work: Path) -> None:
    warned = submit(room, work, WARNED.format(work=work), "--qos=warned", "-N2", "-c2", "-o", "/dev/null")
    wait_text(room, work / "up", "up")
    urgent = submit(room, work, "true", "--qos=urgent", "-c2", "-o", "/dev/null")
    wait_text(room, work / "told", "TERM")
    room.kill9_controller()
    room.start_controller()
    assert wait_state(room, warned, "COMPLETING")["state"] == "COMPLETING"
    assert f"when job {warned} has made room" in shown(room, urgent)
    (work / "stop").touch()
    assert how(finish(room, warned)) == ("PREEMPTED", "3:0")
    assert how(finish(room, urgent)) == ("COMPLETED", "0:0")
