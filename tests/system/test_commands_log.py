"""hlog: a job's output from wherever it is asked for, whole, from the end, and as it is written, through restarts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.cluster_jobs import blocker, finish, run_job, submit, wait_reason, wait_state, wait_text


class Follower:
    """`hlog -f` in the background, its output in a file."""

    def __init__(self, cluster, work: Path, *argv: str) -> None:
        self.path = work / "followed"
        with self.path.open("wb") as out:
            self.process = subprocess.Popen(
                [str(Path(sys.executable).parent / "hlog"), "-f", *argv],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=work,
                env=cluster.env,
            )

    def end(self, timeout_s: float = 20.0) -> tuple[int, str]:
        """Exit status and what was printed."""
        try:
            return self.process.wait(timeout_s), self.path.read_text()
        finally:
            self.kill()

    def kill(self) -> None:
        """End it if it runs."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(10)


@pytest.fixture
def follow(cluster, workdir):
    """Starts followers that end with the test."""
    made: list[Follower] = []

    def start(*argv: str) -> Follower:
        made.append(Follower(cluster, workdir, *argv))
        return made[-1]

    yield start
    for follower in made:
        follower.kill()


def test_output_and_error(cluster, workdir):
    job = str(run_job(cluster, workdir, "echo out; echo err >&2", "-o", "o", "-e", "e")["job_id"])
    assert cluster.run("hlog", job).stdout == "out\n"
    assert cluster.run("hlog", "-e", job).stdout == "err\n"


def test_the_last_lines_and_bytes(cluster, workdir):
    job = str(run_job(cluster, workdir, "seq 100000")["job_id"])
    assert cluster.run("hlog", "-n", "2", job).stdout == "99999\n100000\n"
    assert cluster.run("hlog", "--tail=8c", job).stdout == "\n100000\n"
    assert cluster.run("hlog", job).stdout == "".join(f"{k}\n" for k in range(1, 100001))


def test_of_a_running_job_what_is_there_so_far(cluster, workdir):
    job = submit(cluster, workdir, f"echo so far; echo up > up; {blocker(workdir / 'go')}; echo more")
    wait_text(cluster, workdir / "up")
    wait_state(cluster, job, "RUNNING")
    assert cluster.run("hlog", str(job)).stdout == "so far\n"
    (workdir / "go").touch()
    finish(cluster, job)
    assert cluster.run("hlog", str(job)).stdout == "so far\nmore\n"


def test_follow_until_the_end(cluster, workdir, follow):
    body = f"for k in 1 2 3; do while [ ! -e {workdir}/go-$k ]; do sleep 0.02; done; echo line $k; done"
    job = submit(cluster, workdir, body)
    follower = follow(str(job))
    for k in (1, 2, 3):
        (workdir / f"go-{k}").touch()
        wait_text(cluster, follower.path, f"line {k}\n")
    assert follower.end() == (0, "line 1\nline 2\nline 3\n")


def test_follow_begins_before_the_job_does(cluster, workdir, follow):
    job = submit(cluster, workdir, "echo at last", "-H")
    follower = follow(str(job))
    cluster.run("hctl", "release", str(job))
    assert follower.end() == (0, "at last\n")


def test_follow_goes_on_over_restarts_of_both_daemons(cluster, workdir, follow):
    body = f"for k in 1 2 3; do while [ ! -e {workdir}/go-$k ]; do sleep 0.02; done; echo line $k; done"
    job = submit(cluster, workdir, body)
    node = wait_state(cluster, job, "RUNNING")["batch_host"]
    follower = follow(str(job))
    (workdir / "go-1").touch()
    wait_text(cluster, follower.path, "line 1\n")
    cluster.kill9_controller()
    (workdir / "go-2").touch()
    cluster.start_controller()
    wait_text(cluster, follower.path, "line 2\n")
    cluster.kill9_node(node)
    cluster.start_node(node)
    (workdir / "go-3").touch()
    assert follower.end() == (0, "line 1\nline 2\nline 3\n"), "nothing twice, nothing missing"


def test_through_any_nodes_socket(cluster, workdir):
    """A command on a node talks to that node's helixd, which relays; the job may have run on the other."""
    job = str(run_job(cluster, workdir, "echo from n1", "-w", "n1")["job_id"])
    for node in cluster.nodes:
        env = {"HELIX_SOCKET": str(cluster.cluster.layout.node_socket(node))}
        assert cluster.run("hlog", job, env=env).stdout == "from n1\n"
        assert (
            cluster.run("hqueue", "-h", "-t", "all", "-j", job, "-o", "%i %T", env=env).stdout == f"{job} COMPLETED\n"
        )


def test_a_node_that_cannot_be_reached(cluster, workdir, follow):
    job = str(run_job(cluster, workdir, "echo there", "-w", "n1")["job_id"])
    cluster.kill9_node("n1")
    try:
        cluster.wait_for(lambda: "*" in cluster.run("hinfo", "-h", "-N", "-n", "n1").stdout, "n1 is seen to be gone")
        done = cluster.run("hlog", job, check=False, timeout_s=5)
        assert done.returncode == 3
        assert "node n1, which has the output, does not respond (NODE_UNREACHABLE)" in done.stderr
        follower = follow(job)
    finally:
        cluster.start_node("n1")
    assert follower.end() == (0, "there\n"), "who follows waits for the node"


def test_a_job_without_output_says_why(cluster, workdir):
    job = str(submit(cluster, workdir, "true", "-H"))
    wait_reason(cluster, job, "JobHeldUser")
    done = cluster.run("hlog", job, check=False)
    assert (done.returncode, "it is PENDING" in done.stderr) == (1, True)
    cluster.run("hcancel", job)
    done = cluster.run("hlog", job, check=False)
    assert (done.returncode, "never started" in done.stderr) == (1, True)


def test_an_output_file_that_is_gone(cluster, workdir):
    job = str(run_job(cluster, workdir, "echo here", "-o", "out")["job_id"])
    (workdir / "out").unlink()
    done = cluster.run("hlog", job, check=False)
    assert done.returncode == 1
    assert str(workdir / "out") in done.stderr
    assert "OUTPUT_UNREADABLE" in done.stderr


def test_unknown_and_malformed_ids(cluster):
    done = cluster.run("hlog", "99999999", check=False)
    assert (done.returncode, "JOB_UNKNOWN" in done.stderr) == (1, True)
    done = cluster.run("hlog", "twelve", check=False)
    assert (done.returncode, "JOB_ID_INVALID" in done.stderr) == (2, True)


def test_a_reader_that_goes_away(cluster, workdir):
    job = str(run_job(cluster, workdir, "seq 200000")["job_id"])
    done = cluster.run("bash", "-c", f"set -o pipefail; hlog {job} | head -n 1", check=False)
    assert done.stdout == "1\n"
    assert done.returncode in (0, 141)
    assert done.stderr == ""


def test_an_array_task(cluster, workdir):
    array = submit(cluster, workdir, "echo task $SLURM_ARRAY_TASK_ID", "--array=1-2")
    finish(cluster, array)
    assert cluster.run("hlog", f"{array}_2").stdout == "task 2\n"


def test_output_to_a_device_or_pipe_does_not_block_the_node(cluster, workdir):
    """A FIFO nobody reads: the job waits for a reader, hlog answers, the node goes on."""
    os.mkfifo(workdir / "pipe")
    (workdir / "pipe").chmod(0o666)
    job = submit(cluster, workdir, "true", "-w", "n1", "-o", "pipe")
    other = run_job(cluster, workdir, "echo fine", "-w", "n1", "-o", "out")
    assert other["state"] == "COMPLETED"
    done = cluster.run("hlog", str(job), check=False, timeout_s=10)
    assert (done.returncode, "NO_OUTPUT" in done.stderr) == (1, True)
    cluster.run("hcancel", "-s", "KILL", str(job))
    assert finish(cluster, job)["state"] == "CANCELLED"
