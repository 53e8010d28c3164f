"""Time limits on real nodes: SIGTERM, KillWait, SIGKILL; a warning signal before; limits that change while a job
runs; and the limits of partitions.  KillWait is a second here, limits are two: Helix keeps the seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.cluster_jobs import blocker, finish, how, is_alive, submit, wait_state, wait_text

from helix.cluster.fixture import TestCluster

CONF = """
KillWait=1
PartitionName=short Nodes=ALL MaxTime=5 DefaultTime=0:02
PartitionName=enforced Nodes=ALL MaxTime=5
"""
NULL = ("-o", "/dev/null")


@pytest.fixture(scope="module")
def timed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestCluster]:
    """A cluster with a short KillWait and partitions with limits."""
    with TestCluster(tmp_path_factory.mktemp("timed") / "c", nodes=1, cpus=32, memory_mib=4096, conf_extra=CONF) as it:
        yield it


@pytest.fixture
def work(timed: TestCluster, request: pytest.FixtureRequest) -> Path:
    """An empty directory."""
    path = timed.dir / "work" / request.node.name
    path.mkdir(parents=True)
    return path


def seconds(row) -> float:
    """Run time of an ended job."""
    return float(row["t_end"] - row["t_start"])


#: Jobs that only have to wait for their limits; they do so side by side.
LIMITED = {
    "obeys": ("trap 'echo term > term; exit 0' TERM\nsleep 60 & wait", "-t0:02"),
    "children": ("sh -c 'trap \"echo x > child; exit 0\" TERM; sleep 60 & wait' & wait", "-t0:01"),
    "deaf": ("trap '' TERM\necho $$ > pid\nwhile :; do sleep 0.2; done", "-t0:01"),
    "quick": ("exit 0", "-t0:01"),
    "warned": (
        "trap 'echo $(date +%s.%N) > told' USR1\nsh -c 'trap \"echo x > child\" USR1; sleep 60 & wait' &\nwait; wait",
        "-t0:02",
        "--signal=B:USR1@1",
    ),
    "children_warned": (
        "trap 'echo x > script' USR2\nsh -c 'trap \"echo x > child; exit 0\" USR2; sleep 60 & wait' &\nwait\nexit 7",
        "-t0:02",
        "--signal=USR2@1",
    ),
    "default": ("exec sleep 60", "-p", "short"),
}


@pytest.fixture(scope="module")
def limited(timed: TestCluster) -> dict[str, tuple[int, Path]]:
    """Job and directory of each of LIMITED."""
    jobs = {}
    for name, (body, *options) in LIMITED.items():
        place = timed.dir / "limited" / name
        place.mkdir(parents=True)
        jobs[name] = submit(timed, place, body, *options, *NULL), place
    return jobs


def test_at_the_limit_the_job_gets_sigterm_and_is_timeout(timed, limited):
    job, place = limited["obeys"]
    end = finish(timed, job)
    assert how(end) == ("TIMEOUT", "0:0")
    assert end["reason"] == "TimeLimit"
    assert (place / "term").exists()
    with timed.client() as client:
        assert 1.9 <= seconds(client.job(job)) < 3.0


def test_all_processes_get_sigterm(timed, limited):
    job, place = limited["children"]
    assert finish(timed, job)["state"] == "TIMEOUT"
    assert (place / "child").exists()


def test_a_job_deaf_to_sigterm_is_killed_after_killwait(timed, limited):
    job, place = limited["deaf"]
    assert how(finish(timed, job)) == ("TIMEOUT", "0:9")
    assert not is_alive(int((place / "pid").read_text()))
    with timed.client() as client:
        assert 1.9 <= seconds(client.job(job)) < 4.0


def test_a_job_that_ends_within_its_limit_is_no_timeout(timed, limited):
    assert how(finish(timed, limited["quick"][0])) == ("COMPLETED", "0:0")


def test_signal_b_goes_to_the_script_alone_before_the_limit(timed, limited):
    job, place = limited["warned"]
    assert finish(timed, job)["state"] == "TIMEOUT"
    with timed.client() as client:
        told = float((place / "told").read_text()) - client.job(job)["t_start"]
    assert 0.9 < told < 1.9
    assert not (place / "child").exists()


def test_signal_without_b_goes_to_the_children(timed, limited):
    job, place = limited["children_warned"]
    assert how(finish(timed, job)) == ("FAILED", "7:0")
    assert (place / "child").exists()
    assert not (place / "script").exists()


def test_a_partitions_default_time_is_the_limit(timed, limited):
    assert finish(timed, limited["default"][0])["state"] == "TIMEOUT"


def test_a_shorter_limit_takes_effect_on_the_node(timed, work):
    job = submit(timed, work, "exec sleep 60", "-t10", *NULL)
    wait_state(timed, job, "RUNNING")
    timed.run("hctl", "update", f"JobId={job}", "TimeLimit=0:01")
    assert finish(timed, job)["state"] == "TIMEOUT"


def test_a_longer_limit_takes_effect_on_the_node(timed, work):
    job = submit(timed, work, "sleep 2.5; exit 0", "-t0:02", *NULL)
    wait_state(timed, job, "RUNNING")
    timed.run("hctl", "update", f"JobId={job}", "TimeLimit=1:00")
    assert how(finish(timed, job)) == ("COMPLETED", "0:0")
    assert timed.run("hqueue", "-h", "-t", "all", "-j", str(job), "-o", "%l").stdout == "1:00\n"


def test_time_suspended_does_not_count(timed, work):
    job = submit(timed, work, "sleep 1.2; exit 0", "-t0:02", *NULL)
    wait_state(timed, job, "RUNNING")
    timed.run("hctl", "suspend", str(job))
    time.sleep(2.2)  # longer than the limit: that is the point
    timed.run("hctl", "resume", str(job))
    assert how(finish(timed, job)) == ("COMPLETED", "0:0")
    with timed.client() as client:
        assert client.job(job)["suspended_s"] >= 2.0


def test_the_limit_holds_while_no_daemon_runs(timed, work):
    """The shepherd keeps the limit itself; controller and node are told afterwards."""
    job = submit(timed, work, "echo $$ > pid; exec sleep 60", "-t0:01", *NULL)
    wait_state(timed, job, "RUNNING")
    pid = int(wait_text(timed, work / "pid"))
    timed.kill9_controller()
    timed.kill9_node("n1")
    timed.wait_for(lambda: not is_alive(pid), "the job is ended without the daemons", timeout_s=5)
    timed.start_controller()
    timed.start_node("n1")
    assert how(finish(timed, job)) == ("TIMEOUT", "0:15")


def test_a_job_above_the_partitions_limit_waits_and_says_so(timed, work):
    job = submit(timed, work, "true", "-p", "short", "-t10", *NULL)
    timed.wait_for(
        lambda: timed.run("hqueue", "-h", "-j", str(job), "-o", "%r").stdout == "PartitionTimeLimit\n",
        "the reason shows",
    )
    assert "--time=5" in timed.run("hwhy", str(job)).stdout
    timed.run("hctl", "update", f"JobId={job}", "TimeLimit=5")
    assert finish(timed, job)["state"] == "COMPLETED"


def test_hcancel_of_a_deaf_job_waits_killwait(timed, work):
    job = submit(timed, work, "trap '' TERM\necho $$ > pid\nwhile :; do sleep 0.2; done", *NULL)
    wait_text(timed, work / "pid")
    timed.run("hcancel", str(job))
    assert wait_state(timed, job, "COMPLETING", "CANCELLED")["state"] == "COMPLETING"
    assert how(finish(timed, job)) == ("CANCELLED", "0:9")


@pytest.fixture
def long_kill_wait(timed: TestCluster) -> Iterator[None]:
    """KillWait is an hour, so that nothing ends by waiting for it."""
    conf = timed.cluster.layout.conf
    text = conf.read_text()
    conf.write_text(text + "KillWait=3600\n")
    timed.run("hctl", "reconfigure")
    yield
    conf.write_text(text)
    timed.run("hctl", "reconfigure")


def test_hcancel_with_sigkill_does_not_wait(timed, work, long_kill_wait):
    deaf = "trap '' TERM\necho $$ > pid\nwhile :; do sleep 0.2; done"
    job = submit(timed, work, deaf, *NULL)
    wait_text(timed, work / "pid")
    timed.run("hcancel", "--signal=KILL", str(job))
    assert how(finish(timed, job)) == ("CANCELLED", "0:9")


def test_sigkill_ends_a_job_that_is_being_ended(timed, work, long_kill_wait):
    job = submit(timed, work, "trap 'echo x > told' TERM\necho $$ > pid\nwhile :; do sleep 0.2; done", *NULL)
    wait_text(timed, work / "pid")
    timed.run("hcancel", str(job))
    wait_text(timed, work / "told")
    assert wait_state(timed, job, "COMPLETING", "CANCELLED")["state"] == "COMPLETING"
    timed.run("hcancel", "-s", "KILL", str(job))
    assert how(finish(timed, job)) == ("CANCELLED", "0:9")


def test_a_deadline_ends_a_job_that_cannot_start(timed, work):
    job = submit(timed, work, "true", "-H", "--deadline=now+60", *NULL)
    timed.run("hctl", "update", f"JobId={job}", "Deadline=now+1")
    end = finish(timed, job)
    assert (end["state"], end["reason"]) == ("DEADLINE", "DeadLine")


def test_the_deadline_of_an_array_leaves_started_tasks_alone(timed, work):
    array = submit(timed, work, f"echo x >> up; {blocker(work / 'go')}", "-a1-2", "--deadline=now+1", *NULL)
    wait_text(timed, work / "up", "x\nx\n")
    with timed.client() as client:
        due = client.job(array)["t_deadline"]
    timed.wait_for(lambda: time.time() > due + 0.1, "the deadline has passed")
    timed.kill9_controller()
    timed.start_controller()  # what it wrote at the deadline can be read again
    (work / "go").touch()
    assert finish(timed, array)["state"] == "COMPLETED"
