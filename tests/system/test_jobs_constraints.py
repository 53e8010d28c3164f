"""Which nodes serve a job: matching OR, node counts, conditions, ranks, and what nodes themselves admit."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.cluster_jobs import blocker, finish, run_job, submit, wait_reason, wait_state

from helix.cluster.fixture import TestCluster

NULL = ("-o", "/dev/null")
LINES = (
    "NodeName=n1 CPUs=2 RealMemory=512 Feature=rack1,gpu Attr=row=1,cooling=air",
    "NodeName=n2 CPUs=2 RealMemory=1024 Feature=rack1 Attr=row=2 Admit=\"name =~ 'small*' or time_limit <= 1h\"",
    "NodeName=n3 CPUs=4 RealMemory=512 Feature=rack2 Attr=row=3 Weight=5",
)


@pytest.fixture(scope="module")
def own() -> Iterator[TestCluster]:
    """Three nodes, told apart by features, attributes and whom they admit."""
    with (
        tempfile.TemporaryDirectory(prefix="helix-") as name,
        TestCluster(Path(name) / "c", nodes=3, cpus=2, memory_mib=512) as cluster,
    ):
        conf = cluster.cluster.layout.conf
        lines = conf.read_text().splitlines()
        at = next(i for i, line in enumerate(lines) if line.startswith("NodeName="))
        conf.write_text("\n".join([*lines[:at], *LINES, *lines[at + 1 :]]) + "\n")
        cluster.run("hctl", "reconfigure")
        yield cluster


@pytest.fixture
def nodes_of(own: TestCluster, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Runs a job with some options and says where it ran."""

    def run(*options: str, **more: object) -> str:
        job = run_job(own, tmp_path, "true", "-t", "5", *options, *NULL, **more)["job_id"]
        with own.client() as client:
            return client.job(job)["nodes"]

    yield run
    own.wait_for(lambda: not own.client().queue(), "no job is left")


@pytest.mark.parametrize(
    ("options", "where"),
    [
        (("-N2", "-C", "[rack2|rack1]"), "n[1-2]"),
        (("-C", "gpu*1&rack2*1"), "n[1,3]"),
        (("-N3", "-C", "[(gpu&rack1)*1&rack2*1]"), "n[1-3]"),
        (("--require", "memory >= 1G"), "n2"),
        (("--require", "attr.row in (1, 3) and not features has gpu"), "n3"),
        (("--require", "'nowhere' in partitions or defined(attr.cooling)", "-N1"), "n1"),
        (("--rank", "cpus"), "n3"),
        (("--rank", "if(name == 'n2', 1, 0)"), "n2"),
        (("--rank", "-attr.row", "-N2"), "n[1-2]"),
    ],
)
def test_where_a_job_runs(nodes_of, options, where):
    assert nodes_of(*options) == where


def test_a_condition_may_come_from_the_environment_and_from_the_script(own, nodes_of, tmp_path, monkeypatch):
    monkeypatch.setenv("HBATCH_REQUIRE", "name == 'n3'")
    assert nodes_of() == "n3"
    monkeypatch.delenv("HBATCH_REQUIRE")
    job = finish(own, submit(own, tmp_path, "#!/bin/sh\n#HBATCH --require=\"name == 'n2'\" -t 5\ntrue", *NULL))[
        "job_id"
    ]
    with own.client() as client:
        assert client.job(job)["nodes"] == "n2"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("-C", "gpuu"), "no node of partition batch has feature 'gpuu'"),
        (("-C", "[gpu|rack2]", "-N2"), "none of the 2 alternatives can be met: 'gpu': at most 1 node"),
        (("-C", "gpu&(rack1"), "')' is missing (column 10)"),
        (("--require", "memory >= 1T"), "the nearest, n2, has memory 1024"),
        (("--require", "memory >= 'x'"), "a number compared with a text (column 8)"),
        (("--rank", "cpu"), "no attribute 'cpu' (column 1)"),
        (("-N3", "-t", "2:00:00"), "too few nodes of partition batch admit this job"),
    ],
)
def test_what_can_never_be_is_refused(own, tmp_path, options, said):
    done = own.run("hsubmit", *options, "--wrap", "true", cwd=tmp_path, check=False)
    assert done.returncode != 0
    assert said in done.stderr
    with own.client() as client:
        assert not client.queue()


def test_parts_wait_for_one_another_and_start_together(own, tmp_path):
    own.run("hctl", "update", "NodeName=n1", "State=DRAIN", "Reason=test")
    try:
        job = submit(own, tmp_path, "true", "-t", "5", "-C", "gpu*1&rack2*1", *NULL)
        assert wait_state(own, job, "PENDING")["nodes"] == ""
        why = own.run("hwhy", str(job)).stdout
        assert "1 node with 'gpu'" in why
    finally:
        own.run("hctl", "update", "NodeName=n1", "State=RESUME")
    finish(own, job)
    with own.client() as client:
        assert client.job(job)["nodes"] == "n[1,3]"


def test_nodes_admit_whom_they_say(own, nodes_of):
    assert nodes_of("-w", "n2", "-J", "small-one", "-t", "2:00:00") == "n2"
    assert nodes_of("--rank", "name == 'n2'", "-t", "2:00:00", "-J", "big") != "n2"
    assert "Admit=name =~ 'small*' or time_limit <= 1h" in own.run("hctl", "show", "node", "n2").stdout


def test_a_waiting_jobs_condition_can_be_changed(own, tmp_path):
    go = tmp_path / "go"
    hold = submit(own, tmp_path, blocker(go), "-t", "5", "--exclusive", "-w", "n1", *NULL)
    wait_state(own, hold, "RUNNING")
    job = submit(own, tmp_path, "true", "-t", "5", "--require", "features has gpu", *NULL)
    wait_reason(own, job, "Resources")
    assert "Require=features has gpu" in own.run("hctl", "show", "job", str(job)).stdout
    done = own.run("hctl", "update", f"JobId={job}", "Require=cpus >", check=False)
    assert "column" in done.stderr
    own.run("hctl", "update", f"JobId={job}", "Require=cpus > 2")
    finish(own, job)
    with own.client() as client:
        assert client.job(job)["nodes"] == "n3"
    go.touch()
    finish(own, hold)


def test_a_line_that_cannot_be_read_is_refused(own, tmp_path):
    conf = tmp_path / "helix.conf"
    conf.write_text(own.cluster.layout.conf.read_text().replace("time_limit <= 1h", "time <= 1h"))
    done = own.run("hctl", "config", "check", str(conf), check=False)
    assert done.returncode != 0
    assert "no attribute 'time' (column 21)" in done.stdout + done.stderr


HET = ("-t", "5", "-w", "n3", "-c", "2", ":", "-C", "gpu", "-n", "2")


def test_components_start_together_and_the_script_is_told_of_all(own, tmp_path):
    out = tmp_path / "env"
    job = finish(own, submit(own, tmp_path, f"env > {out}", *NULL, *HET))["job_id"]
    env = dict(line.split("=", 1) for line in out.read_text().splitlines() if "=" in line)
    assert env["SLURM_HET_SIZE"] == "2"
    assert (env["SLURM_JOB_ID"], env["SLURM_JOB_NODELIST"], env["SLURMD_NODENAME"]) == (str(job), "n3", "n3")
    assert env["SLURM_JOB_ID_HET_GROUP_0"] == str(job)
    assert env["SLURM_JOB_ID_HET_GROUP_1"] == str(job + 1)
    assert env["SLURM_JOB_NODELIST_HET_GROUP_0"] == "n3"
    assert env["SLURM_JOB_NODELIST_HET_GROUP_1"] == "n1"
    assert env["SLURM_NTASKS_HET_GROUP_1"] == "2"
    assert env["HELIX_CPUS_PER_TASK_HET_GROUP_0"] == "2"
    assert submit(own, tmp_path, "true", *NULL, "-t", "5") > job + 1, "the component's id names no other job"


def test_no_component_starts_before_all_can(own, tmp_path):
    go = tmp_path / "go"
    hold = submit(own, tmp_path, blocker(go), "-t", "5", "--exclusive", "-w", "n1", *NULL)
    wait_state(own, hold, "RUNNING")
    job = submit(own, tmp_path, f"#!/bin/sh\n#SBATCH -w n3 -t 5\n#SBATCH hetjob\n#SBATCH -C gpu\n{blocker(go)}", *NULL)
    wait_reason(own, job, "Resources")
    shown = own.run("hqueue", "-h", "-o", "%i %N|", "-j", str(job)).stdout.split("\n")
    assert [line.strip() for line in shown if line.strip()] == [f"{job}+0 |", f"{job}+1 |"]
    assert (
        f"HetJobId={job} HetJobOffset=1 HetJobIdSet={job}-{job + 1}" in own.run("hctl", "show", "job", str(job)).stdout
    )
    go.touch()
    finish(own, hold)
    finish(own, job)


def test_cancelling_any_component_ends_all(own, tmp_path):
    job = submit(own, tmp_path, blocker(tmp_path / "never"), *NULL, *HET)
    wait_state(own, job, "RUNNING")
    with own.client() as client:
        rows = client.queue(fields=["display_id", "nodes", "cpus"])
        assert [(row["display_id"], row["nodes"], row["cpus"]) for row in rows] == [
            (f"{job}+0", "n3", 2),
            (f"{job}+1", "n1", 2),
        ]
    own.run("hcancel", f"{job}+1")
    own.wait_for(lambda: not own.client().queue(), "no job is left")
    with own.client() as client:
        assert {node["name"]: node["cpus_alloc"] for node in client.nodes()} == {"n1": 0, "n2": 0, "n3": 0}


def test_a_component_that_can_never_start_is_refused(own, tmp_path):
    done = own.run("hsubmit", "-n1", ":", "-C", "nothing", "--wrap", "true", cwd=tmp_path, check=False)
    assert done.returncode != 0
    assert "component 1: no node of partition batch has feature 'nothing'" in done.stderr
