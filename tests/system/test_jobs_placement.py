"""Where jobs run: nodes asked for and excluded, features, whole nodes, and never more CPUs or memory than there is."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from helpers.cluster_jobs import blocker, finish, run_job, submit, wait_reason, wait_state, wait_text

NULL = ("-o", "/dev/null")


def nodes_of(cluster, job) -> str:
    """Where a job ran."""
    with cluster.client() as client:
        return client.job(job)["nodes"]


@pytest.fixture
def features(cluster):
    """n1 has fast,local; n2 has fast."""
    cluster.run("hctl", "update", "NodeName=n1", "Features=fast,local")
    cluster.run("hctl", "update", "NodeName=n2", "Features=fast")
    yield
    cluster.run("hctl", "update", "NodeName=n[1-2]", "Features=")


@pytest.mark.parametrize(
    ("options", "where"),
    [
        (("-w", "n2"), "n2"),
        (("-x", "n1"), "n2"),
        (("-x", "n2"), "n1"),
        (("-N2",), "n[1-2]"),
        (("-w", "n[1-2]"), "n[1-2]"),
        (("-n8", "-N2"), "n[1-2]"),
    ],
)
def test_nodes_asked_for(cluster, workdir, options, where):
    assert nodes_of(cluster, run_job(cluster, workdir, "true", *options, *NULL)["job_id"]) == where


def test_a_range_of_node_counts_around_a_node_that_is_asked_for(cluster, workdir):
    where = nodes_of(cluster, run_job(cluster, workdir, "true", "-N1-2", "-w", "n2", *NULL)["job_id"])
    assert where in ("n2", "n[1-2]")


def test_a_file_that_names_nodes(cluster, workdir):
    (workdir / "hosts").write_text("n2\n")
    assert nodes_of(cluster, run_job(cluster, workdir, "true", "-F", "hosts", *NULL)["job_id"]) == "n2"


@pytest.mark.parametrize(
    ("constraint", "where"), [("local", "n1"), ("fast&local", "n1"), ("slow|local", "n1"), ("fast&!local", "n2")]
)
def test_constraint(cluster, workdir, features, constraint, where):
    assert nodes_of(cluster, run_job(cluster, workdir, "true", "-C", constraint, *NULL)["job_id"]) == where


def test_lighter_nodes_are_taken_first(cluster, workdir):
    cluster.run("hctl", "update", "NodeName=n1", "Weight=10")
    try:
        assert nodes_of(cluster, run_job(cluster, workdir, "true", *NULL)["job_id"]) == "n2"
    finally:
        cluster.run("hctl", "update", "NodeName=n1", "Weight=1")


def test_exclusive_shares_its_node_with_nobody(cluster, workdir):
    small = submit(cluster, workdir, f"echo up > up; {blocker(workdir / 'go')}", "-w", "n1", *NULL)
    wait_text(cluster, workdir / "up")
    whole = submit(cluster, workdir, f"echo $SLURM_CPUS_ON_NODE > whole; {blocker(workdir / 'go2')}",
                   "--exclusive", "-w", "n1", *NULL)  # fmt: skip
    wait_reason(cluster, whole, "Resources")
    (workdir / "go").touch()
    finish(cluster, small)
    assert wait_text(cluster, workdir / "whole") == "4\n", "it has all CPUs of the node"
    late = submit(cluster, workdir, "true", "-w", "n1", *NULL)
    wait_reason(cluster, late, "Resources")
    assert cluster.run("hinfo", "-h", "-n", "n1", "-o", "%T").stdout == "allocated\n"
    (workdir / "go2").touch()
    assert finish(cluster, late)["state"] == "COMPLETED"


def test_memory_is_given_once(cluster, workdir):
    """1,024 MiB a node: two jobs of 600 do not fit on one, whatever CPUs are free."""
    go = workdir / "go"
    first = submit(cluster, workdir, blocker(go), "-w", "n1", "--mem=600", *NULL)
    wait_state(cluster, first, "RUNNING")
    second = submit(cluster, workdir, "true", "-w", "n1", "--mem=600", *NULL)
    wait_reason(cluster, second, "Resources")
    small = submit(cluster, workdir, "true", "-w", "n1", "--mem=400", "--priority=TOP", *NULL)
    assert finish(cluster, small)["state"] == "COMPLETED"
    with cluster.client() as client:
        (node,) = client.nodes("n1")
    assert node["mem_alloc_mib"] == 600
    go.touch()
    assert finish(cluster, second)["state"] == "COMPLETED"


def test_all_memory_of_a_node(cluster, workdir):
    job = submit(cluster, workdir, blocker(workdir / "go"), "-w", "n1", "--mem=0", *NULL)
    row = wait_state(cluster, job, "RUNNING")
    assert row["mem_mib"] == 1024
    (workdir / "go").touch()
    finish(cluster, job)


def test_never_more_cpus_than_a_node_has(cluster, workdir):
    """Jobs of random widths note when they begin and end; the widths that overlap never exceed the node."""
    rng = random.Random(4)
    note = f'echo "$(date +%s%N) $1 $2 $SLURMD_NODENAME" >> {workdir}/log'
    tool = workdir / "note"
    tool.write_text(f"#!/bin/sh\n{note}\n")
    tool.chmod(0o755)
    with cluster.client() as client:
        specs = []
        for _ in range(60):
            width = rng.choice((1, 1, 2, 3, 4))
            wrap = f"{tool} + {width}; sleep 0.0{rng.randint(1, 9)}; {tool} - {width}"
            more = {"mem_per_cpu": 200, "work_dir": workdir, "stdout": "/dev/null"}
            specs.append({"wrap": wrap, "cpus_per_task": width, **more})
        jobs = client.submit_many(specs)
        ends = client.wait(jobs, timeout_s=60)
    assert {end["state"] for end in ends} == {"COMPLETED"}
    lines = sorted((line.split() for line in (workdir / "log").read_text().splitlines()), key=lambda w: int(w[0]))
    assert len(lines) == 120
    busy = {"n1": 0, "n2": 0}
    most = 0
    for _, sign, width, node in lines:
        busy[node] += int(width) if sign == "+" else -int(width)
        most = max(most, *busy.values())
    assert most == 4, "never more than the node has, and at times all of it"
    assert busy == {"n1": 0, "n2": 0}


def test_cores_of_jobs_side_by_side_are_different(cluster, workdir):
    jobs = [submit(cluster, workdir, blocker(workdir / "go"), "-w", "n1", "-c2", "--mem=100", *NULL) for _ in range(2)]
    cores = [wait_state(cluster, job, "RUNNING")["cores"]["n1"] for job in jobs]
    assert sorted(cores[0] + cores[1]) == [0, 1, 2, 3]
    (workdir / "go").touch()
    for job in jobs:
        finish(cluster, job)


def test_a_job_of_two_nodes_runs_its_script_on_the_first(cluster, workdir):
    end = run_job(cluster, workdir, "echo $SLURMD_NODENAME $SLURM_JOB_NODELIST >> where", "-N2", *NULL)
    assert end["state"] == "COMPLETED"
    assert (workdir / "where").read_text() == "n1 n[1-2]\n"


def test_test_only_says_where_and_submits_nothing(cluster, workdir):
    script = Path(workdir / "job.sh")
    script.write_text("#!/bin/sh\n")
    done = cluster.run("hsubmit", "--test-only", "-n3", str(script), cwd=workdir)
    assert done.stdout == ""
    assert "using 3 processors on nodes n" in done.stderr
    assert cluster.run("hqueue", "-h").stdout == ""
    never = cluster.run("hsubmit", "--test-only", "-n99", str(script), cwd=workdir, check=False)
    assert never.returncode == 1
    assert "NODES_NEVER" in never.stderr
