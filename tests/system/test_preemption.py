"""Preemption and time slices with real daemons: every mode, seen from inside the jobs, and both daemons killed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.cluster_jobs import blocker, finish, how, submit, wait_state, wait_text

from helix.cluster.fixture import TestCluster

CONF = """
KillWait=1
DefMemPerCPU=10
PreemptType=preempt/partition_prio
PreemptMode=SUSPEND,GANG
PreemptParameters=suspend_grace_time=0
SchedulerTimeSlice=1
PartitionName=low Nodes=ALL PriorityTier=1
PartitionName=cancel Nodes=ALL PriorityTier=1 PreemptMode=CANCEL GraceTime=20
PartitionName=requeue Nodes=ALL PriorityTier=1 PreemptMode=REQUEUE
PartitionName=high Nodes=ALL PriorityTier=10
PartitionName=gang Nodes=ALL PriorityTier=1 OverSubscribe=FORCE:2
"""


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestCluster]:
    """Two nodes of two CPUs, with partitions of every mode."""
    with TestCluster(tmp_path_factory.mktemp("room") / "c", nodes=2, cpus=2, memory_mib=1024, conf_extra=CONF) as it:
        yield it


@pytest.fixture
def work(room: TestCluster, request: pytest.FixtureRequest) -> Iterator[Path]:
    """An empty directory; at the end no job is left."""
    path = room.dir / "work" / request.node.name
    path.mkdir(parents=True)
    yield path
    with room.client() as client:
        ids = [job["display_id"] for job in client.queue(fields=["display_id"])]
        if ids:
            client.cancel(ids)
            room.wait_for(lambda: not client.queue(fields=["display_id"]), "the queue is empty")


def number(path: Path) -> int:
    """The last line a counting job wrote."""
    with contextlib.suppress(FileNotFoundError, ValueError, IndexError):
        return int(path.read_text().split()[-1])
    return 0


COUNTER = "i=0; while :; do i=$((i+1)); echo $i >> {file}; sleep 0.01; done"
ALL = ("-N2", "-c2", "-o", "/dev/null")


def counting(room: TestCluster, work: Path, name: str, *options: str) -> tuple[int, Path]:
    """A job that counts in a file, once it does."""
    (work / name).mkdir()
    file = work / name / "count"
    job = submit(room, work / name, COUNTER.format(file=file), *options)
    room.wait_for(lambda: number(file) > 3, f"job {job} counts")
    wait_state(room, job, "RUNNING")
    return job, file


def test_suspended_while_the_other_runs(room: TestCluster, work: Path) -> None:
    low, file = counting(room, work, "low", "-p", "low", *ALL)
    high = submit(room, work, blocker(work / "go"), "-p", "high", *ALL)
    wait_state(room, high, "RUNNING")
    row = wait_state(room, low, "SUSPENDED")
    assert row["state"] == "SUSPENDED"
    stood = number(file)
    time.sleep(0.3)
    assert number(file) <= stood + 1  # one count may have been on its way
    shown = room.run("hctl", "show", "job", str(low)).stdout
    assert "JobState=SUSPENDED" in shown
    (work / "go").touch()
    assert how(finish(room, high)) == ("COMPLETED", "0:0")
    wait_state(room, low, "RUNNING")
    room.wait_for(lambda: number(file) > stood + 3, "the suspended job counts on")


def test_a_suspended_job_can_be_cancelled_and_leaves_the_other_alone(room: TestCluster, work: Path) -> None:
    low, _ = counting(room, work, "low", "-p", "low", *ALL)
    high = submit(room, work, blocker(work / "go"), "-p", "high", *ALL)
    wait_state(room, low, "SUSPENDED")
    wait_state(room, high, "RUNNING")
    refused = room.run("hctl", "resume", str(low), check=False)
    assert refused.returncode != 0
    assert "CPUS_IN_USE" in refused.stderr
    room.run("hcancel", str(low))
    assert finish(room, low)["state"] == "CANCELLED"
    assert wait_state(room, high, "RUNNING")["state"] == "RUNNING"
    (work / "go").touch()
    assert how(finish(room, high)) == ("COMPLETED", "0:0")


def test_cancelled_after_a_warning(room: TestCluster, work: Path) -> None:
    body = f"trap 'echo warned >> {work}/told; exit 3' TERM\necho up > {work}/up\nwhile :; do sleep 0.02; done"
    low = submit(room, work, body, "-p", "cancel", *ALL)
    wait_text(room, work / "up", "up")
    high = submit(room, work, "true", "-p", "high", *ALL)
    assert finish(room, low)["state"] == "PREEMPTED"
    assert (work / "told").read_text() == "warned\n"
    assert finish(room, high)["state"] == "COMPLETED"
    shown = room.run("hctl", "show", "job", str(low)).stdout
    assert f"preempted by job {high}" in shown
    assert "Reason=Preempted" in shown


def test_killed_when_the_grace_time_is_over(room: TestCluster, work: Path) -> None:
    room.run("hctl", "update", "PartitionName=cancel", "GraceTime=1")
    try:
        body = f"trap 'echo warned >> {work}/told' TERM\necho up > {work}/up\nwhile :; do sleep 0.02; done"
        low = submit(room, work, body, "-p", "cancel", *ALL)
        wait_text(room, work / "up", "up")
        high = submit(room, work, "true", "-p", "high", *ALL)
        end = finish(room, low)
        assert (end["state"], end["exit_code"]) == ("PREEMPTED", "0:9")
        assert (work / "told").read_text() == "warned\n"
        assert finish(room, high)["state"] == "COMPLETED"
    finally:
        room.run("hctl", "update", "PartitionName=cancel", "GraceTime=20")


def test_requeued_and_run_again(room: TestCluster, work: Path) -> None:
    body = f"echo run >> {work}/runs\n" + blocker(work / "go")
    low = submit(room, work, body, "-p", "requeue", *ALL)
    wait_text(room, work / "runs", "run")
    high = submit(room, work, blocker(work / "high"), "-p", "high", *ALL)
    wait_state(room, high, "RUNNING")
    assert wait_state(room, low, "PENDING")["state"] == "PENDING"
    (work / "high").touch()
    finish(room, high)
    room.wait_for(lambda: (work / "runs").read_text().count("run") == 2, "it runs again")
    (work / "go").touch()
    assert how(finish(room, low)) == ("COMPLETED", "0:0")
    assert "Restarts=1" in room.run("hctl", "show", "job", str(low)).stdout


def test_nothing_is_lost_when_daemons_are_killed(room: TestCluster, work: Path) -> None:
    low, file = counting(room, work, "low", "-p", "low", *ALL)
    high = submit(room, work, blocker(work / "go"), "-p", "high", *ALL)
    wait_state(room, high, "RUNNING")
    stood = number(file)
    room.kill9_controller()
    room.kill9_node("n1")
    room.start_controller()
    room.start_node("n1")
    assert wait_state(room, low, "SUSPENDED")["state"] == "SUSPENDED"
    assert wait_state(room, high, "RUNNING")["state"] == "RUNNING"
    assert number(file) <= stood + 1
    room.kill9_node("n1")  # it goes on while its node is away, and is told when it is back
    (work / "go").touch()
    room.start_node("n1")
    assert how(finish(room, high)) == ("COMPLETED", "0:0")
    room.wait_for(lambda: number(file) > stood + 3, "the suspended job counts on")


def test_jobs_that_share_cpus_take_turns(room: TestCluster, work: Path) -> None:
    one, file_one = counting(room, work, "one", "-p", "gang", *ALL)
    two, file_two = counting(room, work, "two", "-p", "gang", *ALL)
    three = submit(room, work, "true", "-p", "gang", *ALL)  # two share each CPU already
    turns: list[int] = []
    marks = {one: number(file_one), two: number(file_two)}

    def watch() -> bool:
        with room.client() as client:
            states = {job["job_id"]: job["state"] for job in client.queue(fields=["job_id", "state"])}
        assert states[three] == "PENDING"
        running = [job for job in (one, two) if states[job] == "RUNNING"]
        assert len(running) <= 1
        if running and turns[-1:] != running:
            turns.extend(running)
        return len(turns) >= 4

    room.wait_for(watch, "four slices have passed")
    assert turns in ([one, two, one, two], [two, one, two, one])
    assert number(file_one) > marks[one] + 10
    assert number(file_two) > marks[two] + 10
    room.run("hcancel", str(one))
    finish(room, one)
    assert how(finish(room, three)) == ("COMPLETED", "0:0")
