"""The fixtures as another project meets them: pytest run on a test file outside this tree."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from helix.cluster.processes import find_by_cookie

_TESTS = """
import pytest
from pathlib import Path

COOKIES = Path(__file__).with_name("cookies")


def remember(cluster):
    with COOKIES.open("a") as out:
        out.write(cluster.cluster.cookie() + "\\n")


def test_a_job_runs_and_its_output_is_there(helix_cluster, tmp_path):
    remember(helix_cluster)
    helix_cluster.run("hsubmit", "--wait", "--output=out.txt", "--wrap", "echo hello", cwd=tmp_path)
    assert (tmp_path / "out.txt").read_text() == "hello\\n"


def test_the_cluster_is_shared_by_the_session(helix_cluster):
    with helix_cluster.client() as client:
        assert client.submit(wrap="true", work_dir="/tmp") == 2


def test_a_private_cluster_can_be_harmed(helix_cluster_factory):
    cluster = helix_cluster_factory(nodes=1, cpus=2, conf_extra="KillWait=1")
    remember(cluster)
    assert "KillWait" in cluster.run("hctl", "show", "config").stdout
    with cluster.client() as client:
        job = client.submit(wrap="sleep 600", work_dir="/tmp")
        cluster.wait_for(lambda: client.job(job).state == "RUNNING", "the job runs")
        before = cluster.controller
        cluster.kill9_controller()
        cluster.start_controller()
        assert cluster.controller != before
        cluster.kill9_node("n1")
        cluster.start_node("n1")
        with cluster.stopped("n1"):
            assert client.job(job).state == "RUNNING"


def test_that_fails(helix_cluster_factory):
    cluster = helix_cluster_factory(nodes=1)
    remember(cluster)
    cluster.run("hsubmit", "--no-such-option")
"""


def test_fixtures_work_elsewhere_and_leave_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(_TESTS)
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", "-q", str(tmp_path)],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert re.search(r"1 failed, 3 passed", done.stdout), done.stdout + done.stderr
    # The report of the failure shows what the command said, and the daemons' last lines.
    assert "--no-such-option" in done.stdout
    assert "helix cluster /" in done.stdout
    assert "helixctld: ready" in done.stdout
    cookies = (tmp_path / "cookies").read_text().split()
    assert len(cookies) == 3
    for cookie in cookies:
        assert find_by_cookie(cookie) == []
