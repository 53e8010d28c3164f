"""The disk of the controller's state is full: new work is refused by name, what is known goes on, nothing is lost, and
all is well again when there is room.  A node's spool that is full fails a job's start, not the node.

The small disk is a tmpfs in a mount namespace of its own, so the scenario runs in a child process.
"""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest


def _may_mount() -> bool:
    probe = ["unshare", "--mount", "sh", "-c", "mount -t tmpfs -o size=1m none /mnt"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(
    not _may_mount(), reason="this system lets the test mount no tmpfs, not even for itself"
)

PRELUDE = """
import json, os, subprocess, sys, time
from pathlib import Path
from helix.cluster.fixture import TestCluster
from helix.errors import HelixError

root = Path(sys.argv[1])
small = root / sys.argv[2]
small.mkdir(parents=True, mode=0o700)

def mount(*options):
    subprocess.run(["mount", *options, str(small)], check=True)

mount("-t", "tmpfs", "-o", f"size={sys.argv[3]},mode=0700", "none")
cluster = TestCluster(root, nodes=1, cpus=4, conf_extra="MinJobAge=3600")
big = [f"#!/bin/sh\\n# {k}\\n: " + "x" * 60_000 + "\\n" for k in range(4000)]

def fill(client, acknowledged, **options):
    \"\"\"Submit until it is refused; the error.\"\"\"
    for script in big[len(acknowledged):]:
        try:
            acknowledged.append(client.submit(script, work_dir=root, stdout="/dev/null", env={}, **options))
        except HelixError as error:
            return error
    return None
"""


def scenario(code: str, root: Path, place: str, size: str) -> Any:
    """What the scenario prints, on a disk of `size` mounted at `root`/`place`."""
    root.parent.chmod(0o755)
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", PRELUDE + textwrap.dedent(code), str(root), place, size],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    logs = "\n".join(path.read_text()[-3000:] for path in root.glob("log/*.log"))
    assert done.returncode == 0, f"{done.stderr}\n{logs}"
    return json.loads(done.stdout.splitlines()[-1])


def test_a_full_state_directory_refuses_new_work_and_recovers(tmp_path):
    result = scenario(
        """
        with cluster, cluster.client() as client:
            go = root / "go"
            running = client.submit(wrap=f"while [ ! -e {go} ]; do sleep 0.05; done; exit 3", work_dir=root)
            cluster.wait_for(lambda: client.job(running)["state"] == "RUNNING", "it runs")
            jobs = []
            error = fill(client, jobs, hold=True)
            command = cluster.run("hsubmit", "--hold", "--wrap", "true", check=False)
            seen = len(client.queue(fields=["job_id"]))
            refused = cluster.run("hctl", "hold", str(jobs[0]), check=False).stderr
            # What runs ends, and is told at the latest when there is room.
            go.touch()
            cluster.wait_for(lambda: not Path(f"/proc/{cluster.controller}").exists() or client.ping(), "it answers")
            mount("-o", "remount,size=200m")
            def accepted():
                try:
                    jobs.append(client.submit(wrap="true", hold=True, work_dir=root))
                except HelixError:
                    return False
                return True
            cluster.wait_for(accepted, "submits are accepted again", timeout_s=20)
            end = client.wait(running, timeout_s=20)[0]
            cluster.kill9_controller()
            cluster.start_controller()
            known = {job["job_id"] for job in client.queue(fields=["job_id"], states=["all"])}
            text = cluster.cluster.layout.log_file("helixctld").read_text()
            print(json.dumps({
                "error": [error.code, error.kind, error.msg, error.hint], "count": len(jobs), "seen": seen,
                "status": command.returncode, "stderr": command.stderr, "refused": refused,
                "end": [end["state"], end["exit_code"]], "lost": sorted({*jobs, running} - known),
                "extra": sorted(known - {*jobs, running}), "log": [w in text for w in ("is full", "has room again")],
            }))
        """,
        tmp_path / "c",
        "state",
        "16m",
    )
    code, kind, message, hint = result["error"]
    assert (code, kind) == ("JOURNAL_FULL", "NotNow")
    assert "the controller's disk is full" in message
    assert "StateSaveLocation" in hint
    assert result["count"] > 10
    assert result["seen"] == result["count"], "with the running one, without the last"
    assert result["status"] == 1
    assert "JOURNAL_FULL" in result["stderr"]
    assert "JOURNAL_FULL" in result["refused"]
    assert result["end"] == ["FAILED", "3:0"]
    assert (result["lost"], result["extra"]) == ([], [])
    assert result["log"] == [True, True]


def test_a_controller_killed_on_a_full_disk_starts_on_it(tmp_path):
    result = scenario(
        """
        with cluster, cluster.client() as client:
            jobs = []
            fill(client, jobs, hold=True)
            cluster.kill9_controller()
            cluster.start_controller()
            known = {job["job_id"] for job in client.queue(fields=["job_id"])}
            try:
                client.submit(big[-1], work_dir=root, hold=True, env={})
                code = "accepted"
            except HelixError as error:
                code = error.code
            mount("-o", "remount,size=200m")
            client.cancel(users=[str(os.getuid())])
            cluster.wait_for(lambda: not client.queue(), "all are cancelled", timeout_s=20)
            print(json.dumps([sorted(set(jobs) ^ known), code]))
        """,
        tmp_path / "c",
        "state",
        "16m",
    )
    assert result == [[], "JOURNAL_FULL"]


def test_jobs_can_be_cancelled_while_the_disk_is_full(tmp_path):
    """The way out for a user must not need what is missing."""
    result = scenario(
        """
        with cluster, cluster.client() as client:
            running = client.submit(wrap="exec sleep 600", work_dir=root, stdout="/dev/null")
            cluster.wait_for(lambda: client.job(running)["state"] == "RUNNING", "it runs")
            jobs = []
            fill(client, jobs, hold=True)
            (root / "state" / "filler").write_bytes(b"")
            try:
                with open(root / "state" / "filler", "wb", buffering=0) as file:
                    while True:
                        file.write(b"x" * 4096)
            except OSError:
                pass
            cancel = subprocess.Popen(["hcancel", str(running)], env=cluster.env)
            time.sleep(0.5)  # it may wait for the disk: both are right
            (root / "state" / "filler").unlink()
            mount("-o", "remount,size=200m")
            status = cancel.wait(30)
            end = client.wait(running, timeout_s=20)[0]
            print(json.dumps([status, end["state"]]))
        """,
        tmp_path / "c",
        "state",
        "16m",
    )
    assert result == [0, "CANCELLED"]


def test_a_full_spool_of_a_node_does_not_harm_it(tmp_path):
    """The node cannot keep the script: the job waits or is put back, with the reason, until there is room."""
    result = scenario(
        """
        cluster.start()
        try:
            with cluster.client() as client:
                spool = small
                try:
                    with open(spool / "filler", "wb", buffering=0) as file:
                        while True:
                            file.write(b"x" * 4096)
                except OSError:
                    pass
                job = client.submit(big[0], work_dir=root, stdout="/dev/null", env={})
                def noticed():
                    row = client.job(job)
                    return row["attempt"] > 0 or row["state"] in ("FAILED", "CONFIGURING")
                cluster.wait_for(noticed, "the job is not lost", timeout_s=20)
                (spool / "filler").unlink()
                client.release(job)
                end = client.wait(job, timeout_s=40)[0]
                after = client.wait(client.submit(wrap="true", work_dir=root, stdout="/dev/null"), timeout_s=20)[0]
                print(json.dumps([end["state"], after["state"], cluster.cluster.pid("n1") is not None]))
        finally:
            cluster.close()
        """,
        tmp_path / "c",
        "nodes/n1",
        "2m",
    )
    assert result[1:] == ["COMPLETED", True]
    assert result[0] in ("COMPLETED", "FAILED")
