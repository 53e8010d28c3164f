"""How jobs end: exit codes and signals as hqueue shows them, and what a job leaves behind: no process, whatever it
did to keep one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.cluster_jobs import (
    finish,
    how,
    is_alive,
    processes_of,
    run_job,
    submit,
    wait_state,
    wait_text,
)

NULL = ("-o", "/dev/null")


@pytest.mark.parametrize("code", [0, 1, 3, 127, 255])
def test_exit_code(cluster, workdir, code):
    end = run_job(cluster, workdir, f"exit {code}", *NULL)
    assert how(end) == ("COMPLETED" if code == 0 else "FAILED", f"{code}:0")
    assert end["reason"] == ("None" if code == 0 else "NonZeroExitCode")


@pytest.mark.parametrize(("name", "number"), [("KILL", 9), ("TERM", 15), ("SEGV", 11), ("USR1", 10)])
def test_script_killed_by_a_signal(cluster, workdir, name, number):
    end = run_job(cluster, workdir, f"kill -{name} $$", *NULL)
    assert how(end) == ("FAILED", f"0:{number}")
    assert end["reason"] == "RaisedSignal"


def test_hqueue_shows_exit_code_and_reason(cluster, workdir):
    job = run_job(cluster, workdir, "exit 3", *NULL)["job_id"]
    out = cluster.run("hqueue", "-h", "-t", "all", "-j", str(job), "-O", "State:.10,exit_code:.6,Reason:.20").stdout
    assert out == "    FAILED   3:0     NonZeroExitCode\n"


def test_a_child_killed_is_the_scripts_business(cluster, workdir):
    end = run_job(cluster, workdir, "sh -c 'kill -9 $$'; echo $? > code; exit 0", *NULL)
    assert how(end) == ("COMPLETED", "0:0")
    assert (workdir / "code").read_text() == "137\n"


def test_times_and_usage_are_recorded(cluster, workdir):
    code = "#!/usr/bin/env python3\ndata = b'x' * (64 << 20)\nfor _ in range(2_000_000): data[0]\n"
    job = run_job(cluster, workdir, code, *NULL)["job_id"]
    with cluster.client() as client:
        row = client.job(job)
    assert 0 < row["t_submit"] <= row["t_start"] <= row["t_end"]
    assert row["user_s"] > 0.02
    assert 60 < row["max_rss_mib"] < 512


# ---- nothing is left behind ------------------------------------------------------------------------------------------


def survivors(cluster, job: int, work: Path, *names: str) -> list[int]:
    """Wait until all processes of an ended job are gone; those that the files name are looked at by number."""
    numbers = [int((work / name).read_text()) for name in names]
    cluster.wait_for(lambda: not processes_of(cluster, job), "no process of the job is left", timeout_s=10)
    return [pid for pid in numbers if is_alive(pid)]


def test_children_in_the_background_end_with_the_script(cluster, workdir):
    end = run_job(cluster, workdir, "sleep 600 & echo $! > a\nsleep 600 & echo $! > b\nexit 4", *NULL)
    assert how(end) == ("FAILED", "4:0")
    assert survivors(cluster, end["job_id"], workdir, "a", "b") == []


def test_a_daemon_with_its_own_session_ends_with_the_script(cluster, workdir):
    body = "setsid sh -c 'echo $$ > pid; exec sleep 600' &\nwhile [ ! -s pid ]; do sleep 0.01; done"
    end = run_job(cluster, workdir, body, *NULL)
    assert how(end) == ("COMPLETED", "0:0")
    assert survivors(cluster, end["job_id"], workdir, "pid") == []


DAEMON = """#!/usr/bin/env python3
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for descriptor in range(100):
            try:
                os.close(descriptor)
            except OSError:
                pass
        os.execve('/bin/sh', ['/bin/sh', '-c', 'trap "" TERM HUP INT; echo $$ > pid; while :; do sleep 1; done'], {})
    os._exit(0)
os.wait()
while not (os.path.exists('pid') and os.path.getsize('pid')):
    time.sleep(0.01)
"""


def test_a_true_daemon_ends_with_the_script(cluster, workdir):
    """Two forks, a session of its own, no descriptors, no environment, deaf to SIGTERM."""
    end = run_job(cluster, workdir, DAEMON, *NULL)
    assert how(end) == ("COMPLETED", "0:0")
    cluster.wait_for(lambda: not is_alive(int((workdir / "pid").read_text())), "the daemon is gone", timeout_s=10)


def test_a_job_that_closes_its_descriptors_ends_normally(cluster, workdir):
    end = run_job(cluster, workdir, "exec <&- >&- 2>&-\nexit 6", "-o", "out")
    assert how(end) == ("FAILED", "6:0")


def test_processes_that_multiply_are_ended(cluster, workdir):
    """Each process starts the next and goes; there is always one, never for long."""
    chain = "#!/bin/sh\necho $$ >> chain\n[ $(wc -l < chain) -lt 2000 ] && exec setsid -f $0\n"
    (workdir / "chain.sh").write_text(chain)
    (workdir / "chain.sh").chmod(0o755)
    end = run_job(cluster, workdir, "./chain.sh\nwhile [ $(wc -l < chain) -lt 20 ]; do :; done", *NULL)
    assert how(end) == ("COMPLETED", "0:0")
    cluster.wait_for(lambda: not processes_of(cluster, end["job_id"]), "no process is left", timeout_s=10)
    count = (workdir / "chain").read_text().count("\n")
    assert 20 <= count < 2000


def test_cancelled_job_leaves_no_process(cluster, workdir):
    body = "setsid sh -c 'echo $$ > a; exec sleep 600' &\nsleep 600 & echo $! > b\nwait"
    job = submit(cluster, workdir, body, *NULL)
    wait_text(cluster, workdir / "a")
    wait_text(cluster, workdir / "b")
    cluster.run("hcancel", str(job))
    assert how(finish(cluster, job)) == ("CANCELLED", "0:15")
    assert survivors(cluster, job, workdir, "a", "b") == []


def test_cgroup_of_an_ended_job_is_gone(cluster, workdir):
    job = run_job(cluster, workdir, "cat /proc/self/cgroup > cgroup; sleep 60 & exit 0", *NULL)["job_id"]
    paths = [line.split(":", 2)[2] for line in (workdir / "cgroup").read_text().splitlines()]
    own = [path for path in paths if f"job_{job}_" in path]
    roots = [Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified")]
    left = [root / path.lstrip("/") for root in roots for path in own if (root / path.lstrip("/")).exists()]
    assert left == []


def test_200_megabytes_printed_quickly_all_arrive(cluster, workdir):
    end = run_job(cluster, workdir, "yes 0123456789abcde | head -c 200000000", "-o", "out")
    assert how(end) == ("COMPLETED", "0:0")
    assert (workdir / "out").stat().st_size == 200_000_000
    tail = cluster.run("hlog", "-n", "2", str(end["job_id"])).stdout
    assert tail == "0123456789abcde\n" * 2
    (workdir / "out").unlink()


# ---- output disk -----------------------------------------------------------------------------------------------------

#: A daemon's whole file system view is its own, so a small disk is mounted where only it can see it.
_FILLER = """
import subprocess, sys
from pathlib import Path
from helix.cluster.fixture import TestCluster
root, small = Path(sys.argv[1]), Path(sys.argv[2])
small.mkdir()
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=0777", "none", str(small)], check=True)
with TestCluster(root, nodes=1, cpus=2) as cluster, cluster.client() as client:
    script = "#!/bin/sh\\necho begin\\nhead -c 5000000 /dev/zero\\necho $? > /dev/stderr\\nexit 9\\n"
    job = client.submit(script, work_dir=small, stdout="out", stderr=f"{root}/err")
    end = client.wait(job, timeout_s=30)[0]
    (small / "out").unlink()
    after = client.wait(client.submit(wrap="echo fine", work_dir=small, stdout="out2"), timeout_s=30)[0]
    print(end["state"], end["exit_code"], after["state"], (small / "out2").read_text().strip())
"""


def _may_mount() -> bool:
    probe = ["unshare", "--mount", "sh", "-c", "mount -t tmpfs -o size=1m none /mnt"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not _may_mount(), reason="this system lets the test mount no tmpfs, not even for itself")
def test_a_job_that_fills_its_output_disk_ends_by_itself(tmp_path):
    """The disk with the output is full: the job sees the error and ends as it likes; the node goes on."""
    tmp_path.chmod(0o755)
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", _FILLER, tmp_path / "cluster", tmp_path / "small"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ,
    )
    assert done.stdout == "FAILED 9:0 COMPLETED fine\n", done.stderr
    assert (tmp_path / "cluster" / "err").read_text().endswith("1\n")


def test_job_is_running_while_it_runs_and_over_when_it_is_over(cluster, workdir):
    go = workdir / "go"
    job = submit(cluster, workdir, f"echo up > up; while [ ! -e {go} ]; do sleep 0.02; done", *NULL)
    wait_text(cluster, workdir / "up")
    row = wait_state(cluster, job, "RUNNING")
    assert row["nodes"] in ("n1", "n2")
    assert row["t_end"] == 0
    with cluster.client() as client:
        (node,) = client.nodes(row["nodes"])
        assert node["state"] == "MIXED"
        assert node["jobs"] == [job]
        go.touch()
        assert how(finish(cluster, job)) == ("COMPLETED", "0:0")
        (node,) = client.nodes(row["nodes"])
        assert (node["state"], node["cpus_alloc"], node["mem_alloc_mib"], node["jobs"]) == ("IDLE", 0, 0, [])
