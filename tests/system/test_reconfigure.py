"""hctl reconfigure: what changes live changes live, everywhere; what needs a restart is named; a mistake changes
nothing.  And SIGHUP, which opens the logs again."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.cluster_jobs import as_root, blocker, command_as, finish, submit, wait_reason, wait_state, wait_text

from helix.cluster.fixture import TestCluster

NULL = ("-o", "/dev/null")
Edit = Callable[..., str]


@pytest.fixture(scope="module")
def own() -> Iterator[TestCluster]:
    """A cluster whose configuration may be changed at will, in a directory that others may enter."""
    with tempfile.TemporaryDirectory(prefix="helix-") as name:
        Path(name).chmod(0o755)
        with TestCluster(Path(name) / "c", nodes=2, cpus=4, memory_mib=1024) as cluster:
            yield cluster


@pytest.fixture
def edit(own: TestCluster) -> Iterator[Edit]:
    """`edit(lines, old=new)` changes helix.conf and reconfigures; undone after the test."""
    conf = own.cluster.layout.conf
    before = conf.read_text()

    def change(*lines: str, replace: tuple[str, str] = ("", ""), check: bool = True) -> str:
        text = conf.read_text().replace(*replace) if replace[0] else conf.read_text()
        conf.write_text(text + "".join(f"{line}\n" for line in lines))
        done = own.run("hctl", "reconfigure", check=check)
        return done.stdout if check else done.stderr

    yield change
    conf.write_text(before)
    own.run("hctl", "reconfigure")
    own.wait_for(lambda: not own.client().queue(), "no job is left")


def shown(cluster: TestCluster, key: str) -> str:
    """A setting in force."""
    document = json.loads(cluster.run("hctl", "--json", "show", "config").stdout)
    return str(document["pairs"][key])


def test_nothing_changed(own, edit):
    assert edit() == "nothing has changed\n"


def test_a_setting_that_changes_live(own, edit, tmp_path):
    assert edit("KillWait=1") == "applied: KillWait: 30 -> 1\n"
    assert shown(own, "KillWait") == "1"
    job = submit(own, tmp_path, "trap '' TERM; echo x > up; while :; do sleep 0.1; done", *NULL)
    wait_text(own, tmp_path / "up")
    own.run("hcancel", str(job))
    assert finish(own, job, timeout_s=10)["exit_code"] == "0:9"


def test_a_setting_that_needs_a_restart_is_named_and_not_taken(own, edit):
    port = shown(own, "HelixctldPort")
    out = edit(replace=(f"HelixctldPort={port}", "HelixctldPort=1"))
    assert out == f"needs a restart: HelixctldPort: {port} -> 1\n"
    assert shown(own, "HelixctldPort") == port
    document = json.loads(own.run("hctl", "--json", "reconfigure").stdout)
    assert [item["key"] for item in document["needs_restart"]] == ["HelixctldPort"], "it is still so the next time"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("KillWait=soon", "KillWait"),
        ("KilWait=3", "KillWait"),
        ("NodeName=n[1-", "bad host list 'n[1-'"),
        ("PartitionName=p Nodes=n9", "n9"),
        ("SchedulerType=sched/none", "no plugin 'sched/none'"),
    ],
)
def test_a_mistake_is_named_by_file_and_line_and_changes_nothing(own, edit, line, words):
    before = own.run("hctl", "show", "config").stdout.splitlines()[1:]
    count = own.cluster.layout.conf.read_text().count("\n") + 1
    text = edit(line, check=False)
    assert words in text
    if "Scheduler" not in line:
        assert f"helix.conf:{count}" in text
    assert own.run("hctl", "show", "config").stdout.splitlines()[1:] == before
    with own.client() as client:
        assert client.ping()["pid"] == own.controller


def test_a_configuration_that_is_gone(own, edit):
    conf = own.cluster.layout.conf
    text = conf.read_text()
    conf.unlink()
    done = own.run("hctl", "reconfigure", check=False)
    conf.write_text(text)
    assert (done.returncode, "CONFIG_MISSING" in done.stderr) == (1, True)


def test_a_new_partition_takes_jobs_and_a_removed_one_does_not(own, edit, tmp_path):
    edit("PartitionName=extra Nodes=n2 MaxTime=10")
    job = submit(own, tmp_path, "true", "-p", "extra", *NULL)
    assert finish(own, job)["state"] == "COMPLETED"
    with own.client() as client:
        assert client.job(job)["nodes"] == "n2"
    waiting = submit(own, tmp_path, "true", "-p", "extra", "-H", *NULL)
    edit(replace=("PartitionName=extra Nodes=n2 MaxTime=10\n", ""))
    done = own.run("hsubmit", "-p", "extra", "--wrap", "true", check=False, cwd=tmp_path)
    assert (done.returncode, "PARTITION_UNKNOWN" in done.stderr) == (1, True)
    own.run("hctl", "release", str(waiting))
    assert "none of its partitions exists any more" in own.run("hwhy", str(waiting)).stdout
    own.run("hcancel", str(waiting))


def test_a_job_that_waited_for_a_limit_starts_when_it_is_lifted(own, edit, tmp_path):
    edit("PartitionName=short Nodes=ALL MaxTime=5")
    job = submit(own, tmp_path, "true", "-p", "short", "-t10", *NULL)
    wait_reason(own, job, "PartitionTimeLimit")
    edit(replace=("PartitionName=short Nodes=ALL MaxTime=5", "PartitionName=short Nodes=ALL MaxTime=20"))
    assert finish(own, job)["state"] == "COMPLETED"


def test_a_node_can_be_added_and_taken_away(own, edit, tmp_path):
    out = edit("NodeName=n3 CPUs=2 RealMemory=512")
    assert "NodeName" in out
    assert own.run("hinfo", "-h", "-N", "-n", "n3", "-o", "%T").stdout.startswith("unknown")
    job = submit(own, tmp_path, "true", "-w", "n3", *NULL)
    wait_reason(own, job, "ReqNodeNotAvail")
    own.run("hcancel", str(job))
    edit(replace=("NodeName=n3 CPUs=2 RealMemory=512\n", ""))
    assert own.run("hinfo", "-h", "-N", "-o", "%N").stdout.split() == ["n1", "n2"]


def test_a_node_that_is_taken_away_and_put_back_joins_by_itself(own, edit, tmp_path):
    conf = own.cluster.layout.conf
    text = conf.read_text()
    edit(replace=("NodeName=n[1-2]", "NodeName=n1"))
    assert own.run("hinfo", "-h", "-N", "-o", "%N").stdout.split() == ["n1"]
    conf.write_text(text)
    own.run("hctl", "reconfigure")
    own.wait_nodes(["n1", "n2"])
    assert finish(own, submit(own, tmp_path, "true", "-w", "n2", *NULL))["state"] == "COMPLETED"


def test_a_node_with_a_job_that_leaves_the_configuration(own, edit, tmp_path):
    job = submit(own, tmp_path, f"echo x > up; {blocker(tmp_path / 'go')}", "-w", "n2", *NULL)
    wait_text(own, tmp_path / "up")
    line = next(text for text in own.cluster.layout.conf.read_text().splitlines() if text.startswith("NodeName="))
    conf = own.cluster.layout.conf
    conf.write_text(conf.read_text().replace(line, line.replace("n[1-2]", "n1")))
    done = own.run("hctl", "reconfigure")
    assert "node n2 left the configuration but has jobs" in done.stderr
    conf.write_text(conf.read_text().replace(line.replace("n[1-2]", "n1"), line))
    own.run("hctl", "reconfigure")
    (tmp_path / "go").touch()
    assert finish(own, job)["state"] == "COMPLETED"
    own.wait_nodes(["n2"])


def test_more_cpus_let_waiting_jobs_start(own, edit, tmp_path):
    jobs = [submit(own, tmp_path, blocker(tmp_path / "go"), "-w", "n1", "-c4", "--mem=10", *NULL) for _ in range(2)]
    wait_state(own, jobs[0], "RUNNING")
    wait_reason(own, jobs[1], "Resources")
    line = next(text for text in own.cluster.layout.conf.read_text().splitlines() if text.startswith("NodeName="))
    edit(replace=(line, line.replace("CPUs=4", "CPUs=8")))
    wait_state(own, jobs[1], "RUNNING")
    (tmp_path / "go").touch()
    for job in jobs:
        finish(own, job)


@as_root
def test_nodes_get_the_configuration_without_a_restart(own, edit, tmp_path):
    """The node, not the controller, refuses jobs of root under this setting."""
    assert finish(own, submit(own, tmp_path, "true", *NULL))["state"] == "COMPLETED"
    edit("HelixdParameters=config_overrides,disable_root_jobs")
    end = finish(own, submit(own, tmp_path, "true", "--no-requeue", *NULL))
    assert (end["state"], end["reason"]) == ("FAILED", "JobLaunchFailure")
    assert "cannot become the user" in end["reason_text"]


@as_root
def test_operators_are_taken_from_the_configuration(own, edit, tmp_path):
    job = submit(own, tmp_path, "true", "-H", *NULL)
    work = own.dir / "work"
    work.mkdir()
    work.chmod(0o777)
    assert command_as(own, "hctl", "hold", str(job), cwd=work).status == 4
    edit("Operators=nobody")
    assert command_as(own, "hctl", "hold", str(job), cwd=work).status == 0
    assert command_as(own, "hctl", "reconfigure", cwd=work).status == 4, "an operator is no administrator"
    own.run("hcancel", str(job))


def test_debug_flags_and_level(own):
    assert own.run("hctl", "debug", "+Invariants", "debug").stdout == "level debug, flags Invariants\n"
    own.run("hsubmit", "--wait", "-o", "/dev/null", "--wrap", "true")
    assert own.run("hctl", "debug", "-Invariants", "info").stdout == "level info, flags none\n"
    assert own.run("hctl", "debug", "+Nonsense", check=False).returncode == 2


@pytest.mark.parametrize("daemon", ["helixctld", "n1"])
def test_sighup_opens_the_log_again(own, daemon, tmp_path):
    log: Path = own.cluster.layout.log_file(daemon)
    moved = log.with_suffix(".1")
    log.rename(moved)
    os.kill(own.cluster.pid(daemon) or 0, signal.SIGHUP)
    own.wait_for(log.exists, "there is a new log")
    own.run("hsubmit", "--wait", "-w", "n1", "-o", "/dev/null", "--wrap", "true")
    assert own.cluster.pid(daemon) is not None
    moved.unlink()


def test_shutdown_by_hctl_and_start_again(own, tmp_path):
    job = submit(own, tmp_path, f"echo x > up; {blocker(tmp_path / 'go')}; exit 4", *NULL)
    wait_text(own, tmp_path / "up")
    pid = own.controller
    own.run("hctl", "shutdown")
    own.wait_for(lambda: own.cluster.pid("helixctld") is None, "it has stopped")
    (tmp_path / "go").touch()
    own.start_controller()
    assert own.controller != pid
    assert finish(own, job)["exit_code"] == "4:0"
