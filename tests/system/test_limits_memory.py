"""Memory and cores where the node may confine jobs (TaskPlugin=task/cgroup): a job that takes more memory than it was
given ends OUT_OF_MEMORY, its neighbours go on, and it runs on no cores but its own."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.cluster_jobs import blocker, finish, how, run_job, submit, wait_state, wait_text

from helix.cluster.fixture import TestCluster


def _may_confine() -> bool:
    """True if this process may make memory groups of either version."""
    if os.getuid():
        return False
    controllers = Path("/sys/fs/cgroup/cgroup.controllers")
    unified = controllers.exists() and "memory" in controllers.read_text().split()
    return unified or os.access("/sys/fs/cgroup/memory", os.W_OK)


pytestmark = pytest.mark.skipif(not _may_confine(), reason="this system lets the test make no memory control groups")

HOG = "#!/usr/bin/env python3\nimport os\nx = bytearray({} << 20)\nprint(len(x), len(os.sched_getaffinity(0)))\n"


@pytest.fixture(scope="module")
def confined() -> Iterator[TestCluster]:
    """A cluster of one node that confines its jobs."""
    with tempfile.TemporaryDirectory(prefix="helix-") as name:
        extra = "TaskPlugin=task/cgroup\nKillWait=1\n"
        with TestCluster(Path(name) / "c", nodes=1, cpus=4, memory_mib=1024, conf_extra=extra) as cluster:
            wait_text(cluster, cluster.cluster.layout.log_file("n1"), "memory=/")
            yield cluster


def test_more_memory_than_asked_for_ends_the_job(confined, tmp_path):
    end = run_job(confined, tmp_path, HOG.format(400), "--mem=100", "-o", "out")
    assert (how(end), end["reason"]) == (("OUT_OF_MEMORY", "0:9"), "OutOfMemory")
    assert (tmp_path / "out").read_text() == ""
    shown = confined.run("hqueue", "-h", "-t", "all", "-j", str(end["job_id"]), "-o", "%t").stdout
    assert shown == "OOM\n"


def test_less_memory_is_no_trouble(confined, tmp_path):
    end = run_job(confined, tmp_path, HOG.format(60), "--mem=100", "-o", "out")
    assert how(end) == ("COMPLETED", "0:0")
    with confined.client() as client:
        assert 60 < client.job(end["job_id"])["max_rss_mib"] < 100


def test_a_neighbour_goes_on(confined, tmp_path):
    body = f"echo up > up; {blocker(tmp_path / 'go')}; exit 5"
    neighbour = submit(confined, tmp_path, body, "--mem=100", "-o", "/dev/null")
    wait_text(confined, tmp_path / "up")
    assert run_job(confined, tmp_path, HOG.format(400), "--mem=100", "-o", "out")["state"] == "OUT_OF_MEMORY"
    assert wait_state(confined, neighbour, "RUNNING")["state"] == "RUNNING"
    (tmp_path / "go").touch()
    assert how(finish(confined, neighbour)) == ("FAILED", "5:0")


def test_a_child_that_takes_too_much(confined, tmp_path):
    """The script itself lives on and may end as it likes: the job is out of memory all the same."""
    hog = tmp_path / "hog"
    hog.write_text(HOG.format(400))
    hog.chmod(0o755)
    end = run_job(confined, tmp_path, "./hog; exit 0", "--mem=100", "-o", "out")
    assert end["state"] == "OUT_OF_MEMORY"


def test_a_job_runs_on_its_cores_only(confined, tmp_path):
    cores = min(2, len(os.sched_getaffinity(0)))
    for count in range(1, cores + 1):
        end = run_job(confined, tmp_path, HOG.format(1), f"-c{count}", "--mem=50", "-o", "out")
        assert how(end) == ("COMPLETED", "0:0")
        assert (tmp_path / "out").read_text().split()[1] == str(count)


def test_no_group_is_left(confined, tmp_path):
    job = run_job(confined, tmp_path, "cat /proc/self/cgroup; sleep 60 & exit 0", "--mem=50", "-o", "out")["job_id"]
    own = {line.split(":", 2)[2] for line in (tmp_path / "out").read_text().splitlines() if f"job_{job}_" in line}
    assert own
    left = [
        path
        for root in Path("/sys/fs/cgroup").iterdir()
        for path in (root / group.lstrip("/") for group in own)
        if path.exists()
    ]
    assert left == []
