"""Hundreds of emulated nodes in one process: scheduling at a size no test machine has, and a network that fails for all
of them together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.cluster_jobs import finish, submit, wait_reason, wait_state

from helix.cluster.conffile import Shape
from helix.cluster.fixture import TestCluster
from helix.cluster.processes import COOKIE_VARIABLE
from helix.errors import LimitExceeded, Never

NODES = 300
CPUS = 8
NULL = ("-o", "/dev/null")


class Emulated:
    """A controller, and one helixd that stands for its nodes."""

    def __init__(self, root: Path) -> None:
        self.cluster = TestCluster(root, nodes=1, cpus=CPUS, memory_mib=8000)
        self.cluster.cluster.create(
            Shape(1, CPUS, 8000), conf_extra="HeartbeatInterval=1\nHelixdTimeout=3\nKillWait=1\n"
        )
        conf = self.cluster.cluster.layout.conf
        text = conf.read_text().replace("NodeName=n1 ", f"NodeName=e[0-{NODES - 1}] ")
        text += f"NodeName=big[0-1] CPUs={4 * CPUS} RealMemory=64000 Feature=big Weight=10\n"
        conf.write_text(text + "PartitionName=big Nodes=big[0-1]\n")
        self.process: subprocess.Popen[bytes] | None = None
        self.cluster.start_controller()

    def start(self) -> None:
        """Start helixd --emulate and wait until all nodes are idle."""
        layout = self.cluster.cluster.layout
        token = layout.root / "token"
        token.unlink(missing_ok=True)
        token.write_text(self.cluster.run("hctl", "token", "create").stdout)
        token.chmod(0o600)
        argv = ["--name", f"e[0-{NODES - 1}],big[0-1]", "--emulate", str(NODES + 2)]
        argv += ["--controller", f"tcp://127.0.0.1:{self.cluster.cluster.facts().port}"]
        argv += ["--controller-key", str(layout.controller_key), "--join-token-file", str(token)]
        argv += ["--spool", str(layout.root / "emulated"), "--socket", str(layout.run / "e.sock")]
        argv += ["--log-file", str(layout.log / "emulated.log")]
        env = {**os.environ, COOKIE_VARIABLE: self.cluster.cluster.cookie()}
        self.process = subprocess.Popen([sys.executable, "-m", "helixd.main", *argv], env=env)
        self.cluster.wait_for(lambda: self.states() == {"IDLE": NODES + 2}, "all emulated nodes are idle")

    def states(self) -> Counter[str]:
        """How many nodes are in which state."""
        with self.cluster.client() as client:
            return Counter(node["state"] for node in client.nodes())

    def close(self) -> None:
        """End all of it."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            self.process.wait(10)
        self.cluster.close()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulated]:
    """302 nodes."""
    emulated = Emulated(tmp_path_factory.mktemp("many") / "c")
    try:
        emulated.start()
        yield emulated
    finally:
        emulated.close()


def script(seconds: float) -> str:
    """A script that says how long it would run."""
    return f"#!/bin/sh\nHELIX_EMULATE_RUNTIME={seconds}\n"


def test_nothing_is_run_and_the_declared_time_passes(many, tmp_path):
    job = submit(many.cluster, tmp_path, script(0.7) + f"touch {tmp_path}/ran\n", *NULL)
    assert finish(many.cluster, job)["state"] == "COMPLETED"
    assert not (tmp_path / "ran").exists()
    with many.cluster.client() as client:
        row = client.job(job)
    assert 0.6 < row["t_end"] - row["t_start"] < 2.5


def test_a_full_machine_is_full_and_no_more(many, tmp_path):
    """More one-CPU jobs than there are CPUs: all CPUs are used, the rest waits, and all of them end."""
    with many.cluster.client() as client:
        array = client.submit(
            script(1.5), array=f"0-{NODES * CPUS + 99}", mem=500, work_dir=tmp_path, stdout="/dev/null",
            partition="batch", exclude="big[0-1]",
        )  # fmt: skip
        many.cluster.wait_for(
            lambda: sum(node["cpus_alloc"] for node in client.nodes(f"e[0-{NODES - 1}]")) == NODES * CPUS,
            "every CPU is given",
        )
        for node in client.nodes():
            assert node["cpus_alloc"] <= node["cpus"]
            assert node["mem_alloc_mib"] <= node["memory_mib"]
        wait_reason(many.cluster, array, "Resources")
        end = client.wait(array, timeout_s=60)[0]
        assert end["state"] == "COMPLETED"
        counts = Counter(row["state"] for row in client.queue(array, fields=["state"], states=["all"]))
    assert counts["COMPLETED"] >= NODES * CPUS + 100
    many.cluster.wait_for(lambda: many.states() == {"IDLE": NODES + 2}, "all nodes are idle again")


def test_a_job_over_many_nodes(many, tmp_path):
    job = submit(many.cluster, tmp_path, script(0.1), "-N", "250", "--exclusive", *NULL)
    assert finish(many.cluster, job)["state"] == "COMPLETED"
    with many.cluster.client() as client:
        row = client.job(job)
    assert row["node_count"] == 250
    assert row["cpus"] == 250 * CPUS
    assert row["nodes"] == "e[0-249]"


def test_features_and_partitions(many, tmp_path):
    for options in (("-C", "big"), ("-p", "big"), ("-c", "20")):
        job = submit(many.cluster, tmp_path, script(0.1), *options, *NULL)
        assert finish(many.cluster, job)["state"] == "COMPLETED"
        with many.cluster.client() as client:
            assert client.job(job)["nodes"] in ("big0", "big1")


def test_never_among_many(many, tmp_path):
    with many.cluster.client() as client:
        with pytest.raises(Never, match="has 32"):
            client.submit(script(1), cpus_per_task=33, work_dir=tmp_path)
        with pytest.raises((Never, LimitExceeded)):
            client.submit(script(1), nodes=NODES + 3, work_dir=tmp_path)


def test_cancel_suspend_and_limits_are_emulated_too(many, tmp_path):
    long = submit(many.cluster, tmp_path, script(600), *NULL)
    wait_state(many.cluster, long, "RUNNING")
    many.cluster.run("hctl", "suspend", str(long))
    wait_state(many.cluster, long, "SUSPENDED")
    many.cluster.run("hctl", "resume", str(long))
    many.cluster.run("hcancel", str(long))
    assert finish(many.cluster, long)["state"] == "CANCELLED"
    limited = submit(many.cluster, tmp_path, script(600), "-t0:01", *NULL)
    assert finish(many.cluster, limited)["state"] == "TIMEOUT"


def test_listings_of_many_nodes_are_short(many):
    out = many.cluster.run("hinfo", "-h", "-p", "batch", "-o", "%D %N").stdout
    assert out == f"302 big[0-1],e[0-{NODES - 1}]\n"
    assert len(many.cluster.run("hinfo", "-h", "-N", "-p", "batch").stdout.splitlines()) == NODES + 2


def test_all_nodes_silent_together_is_taken_for_the_network(many, tmp_path):
    """Nothing is ended or requeued, however long it lasts; all goes on when the network is back."""
    assert many.process is not None
    jobs = [submit(many.cluster, tmp_path, script(4), *NULL) for _ in range(3)]
    for job in jobs:
        wait_state(many.cluster, job, "RUNNING")
    os.kill(many.process.pid, signal.SIGSTOP)
    try:
        log = many.cluster.cluster.layout.log_file("helixctld")
        many.cluster.wait_for(lambda: "taken for a network fault" in log.read_text(), "the fault is seen", timeout_s=20)
        assert not [state for state in many.states() if state.startswith("DOWN")]
        with many.cluster.client() as client:
            assert {client.job(job)["state"] for job in jobs} == {"RUNNING"}
    finally:
        os.kill(many.process.pid, signal.SIGCONT)
    with many.cluster.client() as client:
        assert {end["state"] for end in client.wait(jobs, timeout_s=30)} == {"COMPLETED"}
        assert {client.job(job)["attempt"] for job in jobs} == {0}
    many.cluster.wait_for(lambda: many.states() == {"IDLE": NODES + 2}, "all nodes are idle again")


def test_a_restart_of_the_controller_finds_everything_again(many, tmp_path):
    with many.cluster.client() as client:
        more = {"work_dir": tmp_path, "stdout": "/dev/null", "mem": 100}
        jobs = client.submit_many([{"script": script(2 + k % 2), **more} for k in range(200)])
        many.cluster.kill9_controller()
        many.cluster.start_controller()
        ends = client.wait(jobs, timeout_s=60)
        assert Counter(end["state"] for end in ends) == {"COMPLETED": 200}
        assert {row["attempt"] for row in client.jobs(jobs)} == {0}
