"""Nodes and partitions under an administrator's hand, and nodes that are not what the configuration says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.cluster_jobs import blocker, finish, how, submit, wait_reason, wait_state, wait_text

from helix.cluster.conffile import machine_memory_mib

NULL = ("-o", "/dev/null")


@pytest.fixture(autouse=True)
def restored(cluster) -> Iterator[None]:
    """Nodes and partitions as they were, whatever the test does to them."""
    yield
    with cluster.client() as client:
        client.call("node.update", {"nodes": "ALL", "changes": {"State": "RESUME"}})
        client.call("partition.update", {"name": "batch", "changes": {"State": "UP", "MaxTime": "UNLIMITED"}})


def state_of(cluster, name: str) -> str:
    """A node's state."""
    return cluster.run("hinfo", "-h", "-N", "-n", name, "-o", "%T").stdout.strip()


# ---- drain, resume, down, fail ---------------------------------------------------------------------------------------


def test_drain_lets_jobs_finish_and_starts_no_more(cluster, workdir):
    job = submit(cluster, workdir, f"echo up > up; {blocker(workdir / 'go')}", "-w", "n1", *NULL)
    wait_text(cluster, workdir / "up")
    cluster.run("hctl", "update", "NodeName=n1", "State=DRAIN", "Reason=new fan")
    assert state_of(cluster, "n1") == "draining"
    other = submit(cluster, workdir, "true", "-w", "n1", *NULL)
    wait_reason(cluster, other, "ReqNodeNotAvail")
    assert finish(cluster, submit(cluster, workdir, "true", *NULL))["state"] == "COMPLETED", "n2 goes on"
    (workdir / "go").touch()
    assert how(finish(cluster, job)) == ("COMPLETED", "0:0")
    assert state_of(cluster, "n1") == "drained"
    cluster.run("hctl", "update", "NodeName=n1", "State=RESUME")
    assert finish(cluster, other)["state"] == "COMPLETED"
    assert state_of(cluster, "n1") == "idle"


def test_reasons_are_shown_with_who_and_when(cluster, workdir):
    cluster.run("hctl", "update", "NodeName=n2", "State=DRAIN", "Reason=bad disk, see ticket 7")
    out = cluster.run("hinfo", "-h", "-R", "-o", "%E|%u|%N").stdout
    with cluster.client() as client:
        user = client.nodes("n2")[0]["reason_by"]
    assert out == f"bad disk, see ticket 7|{user}|n2\n"
    assert "Reason=bad disk, see ticket 7 [" in cluster.run("hctl", "show", "node", "n2").stdout


@pytest.mark.parametrize("state", ["DRAIN", "DOWN", "FAIL"])
def test_a_reason_is_required(cluster, state):
    done = cluster.run("hctl", "update", "NodeName=n1", f"State={state}", check=False)
    assert done.returncode == 2
    assert "REASON_MISSING" in done.stderr
    assert state_of(cluster, "n1") == "idle"


def test_down_requeues_the_jobs_of_the_node(cluster, workdir):
    again = submit(cluster, workdir, "echo $SLURM_JOB_ID $SLURMD_NODENAME >> ran; exec sleep 600", *NULL, "-w", "n1")
    never = submit(cluster, workdir, "echo $SLURM_JOB_ID >> ran; exec sleep 600", "--no-requeue", *NULL, "-w", "n1")
    wait_text(cluster, workdir / "ran", f"{again} n1\n")
    wait_text(cluster, workdir / "ran", f"{never}\n")
    cluster.run("hctl", "update", "NodeName=n1", "State=DOWN", "Reason=on fire")
    assert state_of(cluster, "n1") == "down"
    end = finish(cluster, never)
    assert (end["state"], end["reason"]) == ("NODE_FAIL", "NodeDown")
    assert "on fire" in end["reason_text"]
    assert wait_state(cluster, again, "PENDING")["attempt"] == 1
    cluster.run("hctl", "update", f"JobId={again}", "ReqNodeList=")
    wait_text(cluster, workdir / "ran", f"{again} n2\n")


def test_fail_is_shown_and_cleared(cluster):
    cluster.run("hctl", "update", "NodeName=n2", "State=FAIL", "Reason=fan is slow")
    assert state_of(cluster, "n2") == "fail"
    cluster.run("hctl", "update", "NodeName=n2", "State=RESUME")
    assert state_of(cluster, "n2") == "idle"


def test_what_an_administrator_said_survives_restarts(cluster):
    cluster.run("hctl", "update", "NodeName=n2", "State=DRAIN", "Reason=stays")
    cluster.kill9_controller()
    cluster.kill9_node("n2")
    cluster.start_controller()
    cluster.start_node("n2")
    cluster.wait_for(lambda: state_of(cluster, "n2") == "drained", "the node is drained, and responds")
    assert "stays" in cluster.run("hinfo", "-h", "-R").stdout


def test_unknown_nodes_and_states_are_refused(cluster):
    done = cluster.run("hctl", "update", "NodeName=n7", "State=DRAIN", "Reason=x", check=False)
    assert (done.returncode, "NODE_UNKNOWN" in done.stderr) == (1, True)
    done = cluster.run("hctl", "update", "NodeName=n1", "State=ASLEEP", check=False)
    assert (done.returncode, "STATE_UNKNOWN" in done.stderr) == (2, True)
    done = cluster.run("hctl", "update", "NodeName=n[1-7]", "State=DRAIN", "Reason=x", check=False)
    assert state_of(cluster, "n1").rstrip("*") == "idle", "all or nothing"


def test_a_silent_node_is_starred_and_comes_back(helix_cluster_factory):
    cluster = helix_cluster_factory(nodes=2, cpus=1, memory_mib=128, conf_extra="HeartbeatInterval=1")
    cluster.stop_process("n1")
    cluster.wait_for(lambda: state_of(cluster, "n1") == "idle*", "the silence shows", timeout_s=15)
    waiting = submit(cluster, cluster.dir, "true", "-w", "n1", *NULL)
    wait_reason(cluster, waiting, "ReqNodeNotAvail")
    cluster.continue_process("n1")
    assert finish(cluster, waiting)["state"] == "COMPLETED"
    assert state_of(cluster, "n1") == "idle"


# ---- what the hardware is --------------------------------------------------------------------------------------------


def test_a_node_with_less_than_configured_is_drained_with_the_difference(helix_cluster_factory):
    cpus, memory = len(os.sched_getaffinity(0)), machine_memory_mib()
    cluster = helix_cluster_factory(nodes=1, cpus=1, memory_mib=64)
    conf = cluster.cluster.layout.conf
    text = conf.read_text()
    big = text.replace("HelixdParameters=config_overrides\n", "")
    big = big.replace("CPUs=1 RealMemory=64", f"CPUs={cpus + 3} RealMemory={memory + 1000}")
    conf.write_text(big)
    cluster.cluster.down()
    done = cluster.run("hcluster", "up", "--dir", str(cluster.dir), check=False)
    assert done.returncode == 3
    assert f"CPUs: configured {cpus + 3}, found {cpus}" in done.stderr
    assert f"RealMemory: configured {memory + 1000} MiB, found {memory} MiB" in done.stderr
    assert state_of(cluster, "n1") == "drained"
    reason = cluster.run("hinfo", "-h", "-R", "-o", "%E").stdout
    assert reason.startswith(f"CPUs: configured {cpus + 3}, found {cpus}; RealMemory: configured {memory + 1000} MiB")
    # A configuration that fits undoes the drain, without a restart of anything.
    conf.write_text(big.replace(f"CPUs={cpus + 3} RealMemory={memory + 1000}", "CPUs=1 RealMemory=64"))
    cluster.run("hctl", "reconfigure")
    cluster.wait_for(lambda: state_of(cluster, "n1") == "idle", "the node is usable")


def test_what_a_node_has_is_registered(cluster):
    with cluster.client() as client:
        row = client.nodes("n1")[0]
    uname = os.uname()
    assert (row["hostname"], row["kernel"], row["arch"], row["os"]) == (
        uname.nodename,
        uname.release,
        uname.machine,
        uname.sysname,
    )
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert row["boot_id"].replace("-", "") == boot_id.replace("-", "")
    assert abs(row["skew_s"]) < 1
    assert row["t_boot"] < row["t_helixd_start"] <= row["t_last_seen"]


# ---- partitions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("state", "reason"), [("DOWN", "PartitionDown"), ("INACTIVE", "PartitionInactive")])
def test_a_partition_that_starts_nothing(cluster, workdir, state, reason):
    job = submit(cluster, workdir, "true", "-H", *NULL)
    cluster.run("hctl", "update", "PartitionName=batch", f"State={state}")
    cluster.run("hctl", "release", str(job))
    wait_reason(cluster, job, reason)
    assert state in cluster.run("hwhy", str(job)).stdout
    done = cluster.run("hsubmit", "--parsable", "-o", "/dev/null", "--wrap", "true", cwd=workdir, check=False)
    assert done.returncode == (0 if state == "DOWN" else 4), "DOWN takes jobs, INACTIVE does not"
    assert ("PARTITION_CLOSED" in done.stderr) == (state == "INACTIVE")
    cluster.run("hctl", "update", "PartitionName=batch", "State=UP")
    assert finish(cluster, job)["state"] == "COMPLETED"


def test_a_draining_partition_runs_what_it_has(cluster, workdir):
    job = submit(cluster, workdir, "true", "-H", *NULL)
    cluster.run("hctl", "update", "PartitionName=batch", "State=DRAIN")
    done = cluster.run("hsubmit", "--wrap", "true", cwd=workdir, check=False)
    assert (done.returncode, "PARTITION_CLOSED" in done.stderr) == (4, True)
    assert cluster.run("hinfo", "-h", "-o", "%a").stdout == "drain\n"
    cluster.run("hctl", "release", str(job))
    assert finish(cluster, job)["state"] == "COMPLETED"


def test_partitions_with_few_nodes_and_several_to_choose_from(helix_cluster_factory):
    extra = "PartitionName=one Nodes=n1 MaxNodes=1\nPartitionName=two Nodes=n2 State=DOWN\n"
    cluster = helix_cluster_factory(nodes=2, cpus=2, memory_mib=128, conf_extra=extra)
    work = cluster.dir
    with cluster.client() as client:
        for options, where in ((("-p", "one"), "n1"), (("-p", "two,one"), "n1")):
            job = submit(cluster, work, "true", *options, *NULL)
            assert finish(cluster, job)["state"] == "COMPLETED"
            assert (client.job(job)["nodes"], client.job(job)["partition"]) == (where, "one")
    assert cluster.run("hinfo", "-h", "-o", "%P %a %D %N").stdout == "batch* up 2 n[1-2]\none up 1 n1\ntwo down 1 n2\n"
    done = cluster.run("hsubmit", "-p", "one", "-w", "n2", "--wrap", "true", cwd=work, check=False)
    assert (done.returncode, "n2 is not in partition one" in done.stderr) == (1, True)
    wide = submit(cluster, work, "true", "-p", "one", "-N2", *NULL)
    wait_reason(cluster, wide, "PartitionNodeLimit")
