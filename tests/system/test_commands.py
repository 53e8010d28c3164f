"""The commands on a real cluster: what a person types, and what they see."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helix.cluster.fixture import TestCluster


def _script(workdir: Path, body: str) -> str:
    path = workdir / "job.sh"
    path.write_text("#!/bin/sh\n" + body)
    return str(path)


def test_submit_waits_and_exits_as_the_job(cluster: TestCluster, workdir: Path) -> None:
    done = cluster.run("hsubmit", "-W", "--wrap", "echo hello; exit 3", check=False, cwd=workdir)
    assert done.returncode == 3
    first, job = done.stdout.rsplit(" ", 1)
    assert first == "Submitted batch job"
    assert (workdir / f"slurm-{job.strip()}.out").read_text() == "hello\n"


def test_script_lines_and_standard_input(cluster: TestCluster, workdir: Path) -> None:
    script = "#!/bin/sh\n#SBATCH -J 'from stdin' -o out.%x\necho $SLURM_JOB_NAME\n"
    cluster.run("hsubmit", "-W", input=script, cwd=workdir)
    assert (workdir / "out.from stdin").read_text() == "from stdin\n"


def test_array_ends_with_the_highest_exit_code(cluster: TestCluster, workdir: Path) -> None:
    script = _script(workdir, "#SBATCH --array=0-3%2 -o out.%a\nexit $SLURM_ARRAY_TASK_ID\n")
    assert cluster.run("hsubmit", "--wait", script, check=False, cwd=workdir).returncode == 3
    assert len(list(workdir.glob("out.*"))) == 4


def test_queue_shows_runs_and_cancel_ends(cluster: TestCluster, workdir: Path) -> None:
    job = cluster.run("hsubmit", "--parsable", "-J", "sleeper", "--wrap", "sleep 300", cwd=workdir).stdout.strip()
    cluster.run("hctl", "wait_job", job)
    line = cluster.run("hqueue", "-h", "-j", job, "-o", "%i|%j|%T|%t|%D|%C").stdout
    assert line == f"{job}|sleeper|RUNNING|R|1|1\n"
    shown = json.loads(cluster.run("hqueue", "--json", "-j", job).stdout)
    assert shown["jobs"][0]["state"] == "RUNNING"
    assert f"JobId={job} JobName=sleeper\n" in cluster.run("hctl", "show", "job", job).stdout
    cluster.run("hctl", "suspend", job)
    cluster.wait_for(lambda: cluster.run("hqueue", "-h", "-j", job, "-o", "%t").stdout == "S\n", "the job is suspended")
    cluster.run("hctl", "resume", job)
    cluster.run("hcancel", "--name=sleeper", "--me")
    done = cluster.run("hwait", job, check=False)
    assert (done.returncode, done.stdout.split()[1]) == (1, "CANCELLED")
    assert cluster.run("hcancel", job).stderr == ""


def test_hold_update_release(cluster: TestCluster, workdir: Path) -> None:
    job = cluster.run("hsubmit", "--parsable", "-H", "--wrap", "true", cwd=workdir).stdout.strip()
    assert cluster.run("hqueue", "-h", "-j", job, "-o", "%R").stdout == "(JobHeldUser)\n"
    assert "JobHeldUser" in cluster.run("hwhy", job).stdout
    cluster.run("hctl", "update", f"JobId={job}", "TimeLimit=7", "Name=renamed")
    assert cluster.run("hqueue", "-h", "-j", job, "-o", "%j %l").stdout == "renamed 7:00\n"
    cluster.run("hctl", "release", job)
    cluster.run("hwait", job)


def test_log_follows_until_the_end(cluster: TestCluster, workdir: Path) -> None:
    go = workdir / "go"
    body = f"echo first; while [ ! -e {go} ]; do sleep 0.05; done; echo last"
    job = cluster.run("hsubmit", "--parsable", "--wrap", body, cwd=workdir).stdout.strip()
    with subprocess.Popen(
        ["hlog", "-f", job], stdout=subprocess.PIPE, env=cluster.env, stdin=subprocess.DEVNULL, text=True
    ) as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == "first\n"
        go.touch()
        assert follower.stdout.read() == "last\n"
        assert follower.wait(timeout=30) == 0
    assert cluster.run("hlog", "-n", "1", job).stdout == "last\n"


def test_watch_shows_changes_as_they_happen(cluster: TestCluster, workdir: Path) -> None:
    job = cluster.run("hsubmit", "--parsable", "-H", "--wrap", "true", cwd=workdir).stdout.strip()
    with subprocess.Popen(
        ["hqueue", "--watch", "-h", "-o", "%i %T"],
        stdout=subprocess.PIPE,
        env=cluster.env,
        stdin=subprocess.DEVNULL,
        text=True,
    ) as watcher:
        try:
            assert watcher.stdout is not None
            assert watcher.stdout.readline() == f"{job} PENDING\n"
            cluster.run("hctl", "release", job)
            seen = ""
            while "COMPLETED" not in seen:
                line = watcher.stdout.readline()
                assert line, seen
                seen += line
            assert job in seen
        finally:
            watcher.terminate()


def test_drained_node_is_shown_and_used_no_more(cluster: TestCluster) -> None:
    node = cluster.nodes[0]
    try:
        cluster.run("hctl", "update", f"NodeName={node}", "State=DRAIN", "Reason=new disk")
        assert cluster.run("hinfo", "-h", "-n", node, "-o", "%T %E").stdout == "drained new disk\n"
        assert "new disk" in cluster.run("hinfo", "-R").stdout
        assert "State=IDLE+DRAIN" in cluster.run("hctl", "show", "node", node).stdout
    finally:
        cluster.run("hctl", "update", f"NodeName={node}", "State=RESUME")
    assert cluster.run("hinfo", "-h", "-n", node, "-o", "%T").stdout == "idle\n"


@pytest.mark.parametrize(
    ("words", "status", "part"),
    [
        (["hsubmit", "-p", "nope", "--wrap", "true"], 1, "no partition 'nope' (PARTITION_UNKNOWN)"),
        (["hsubmit", "-N", "999", "--wrap", "true"], 1, "(NODES_NEVER)"),
        (["hsubmit", "-d", "afterok:987654", "--wrap", "true"], 1, "987654"),
        (["hsubmit", "-w", "nosuch", "--wrap", "true"], 1, "no node 'nosuch' (NODE_UNKNOWN)"),
        (["hqueue", "-j", "987654"], 1, "no job 987654"),
        (["hcancel", "987654"], 1, "Kill job error on job id 987654: Invalid job id specified"),
        (["hctl", "show", "node", "nosuch"], 1, "no node 'nosuch'"),
        (["hctl", "update", "NodeName=n1", "State=DRAIN"], 1, "a reason is needed"),
        (["hwhy", "987654"], 1, "no job 987654"),
        (["hlog", "987654"], 1, "no job 987654"),
        (["hwait", "987654"], 1, "no job 987654"),
    ],
)
def test_refusals_name_the_thing(cluster: TestCluster, words: list[str], status: int, part: str) -> None:
    done = cluster.run(*words, check=False)
    assert part in done.stderr
    assert done.returncode in (status, 2)


def test_commands_start_quickly(cluster: TestCluster) -> None:
    """Not a benchmark: a guard against an import that costs a multiple of everything else."""

    def best(*words: str) -> float:
        times = []
        for _ in range(7):
            begun = time.perf_counter()
            cluster.run(*words)
            times.append(time.perf_counter() - begun)
        return min(times)

    base = best(sys.executable, "-I", "-c", "import argparse, json, socket")
    assert best("hqueue") < 4 * base
