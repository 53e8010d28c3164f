"""hcluster from a shell's point of view: up, down, up again, two side by side, and what it says when it fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helix.cluster.fixture import TestCluster
from helix.cluster.lifecycle import Cluster
from helix.cluster.processes import is_alive, wait_gone

_BIN = Path(sys.executable).parent


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory for clusters; whatever still runs below it is killed at the end."""
    root = tmp_path_factory.mktemp("up")
    yield root
    for cookie in root.glob("*/cookie"):
        Cluster.at(cookie.parent).sweep()


def hcluster(*argv: str, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
    """Run hcluster as a user does."""
    done = subprocess.run(
        [str(_BIN / "hcluster"), *argv],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **env},
    )
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done


def shell(script: str, root: Path) -> str:
    """Run a script in a shell that did `eval "$(hcluster env)"`."""
    done = subprocess.run(
        ["/bin/bash", "-euc", f'eval "$({_BIN}/hcluster env --shell bash --dir {root})"\n{script}'],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=root,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_up_run_down_and_up_again_keeps_everything(place: Path) -> None:
    root = place / "one"
    up = hcluster("up", "--nodes", "2", "--cpus", "4", "--memory", "512M", "--dir", str(root))
    assert "2 nodes, 2 idle" in up.stdout
    assert shell("hsubmit --parsable --wait --output=out.txt --wrap 'echo hello $SLURM_JOB_NODELIST'", root) == "1\n"
    assert (root / "out.txt").read_text().startswith("hello n")
    shell("hsubmit --hold --wrap true", root)
    conf = (root / "helix.conf").read_bytes()

    status = hcluster("status", "--dir", str(root))
    assert "1 PENDING" in status.stdout
    hcluster("up", "--dir", str(root))  # everything runs: nothing to do

    hcluster("down", "--dir", str(root))
    assert Cluster.at(root).members() == []
    down = hcluster("status", "--dir", str(root), check=False)
    assert down.returncode == 1
    assert down.stdout.count("down") == 3

    hcluster("up", "--dir", str(root))
    assert (root / "helix.conf").read_bytes() == conf
    assert shell("hqueue -h -o '%i %T'", root) == "2 PENDING\n"
    # Ids go on where they were.
    assert shell("hsubmit --parsable --hold --wrap true", root) == "3\n"
    hcluster("down", "--dir", str(root))


def test_up_starts_only_what_is_down(place: Path) -> None:
    root = place / "part"
    hcluster("up", "--nodes", "2", "--cpus", "2", "--memory", "512M", "--dir", str(root))
    before = json.loads(hcluster("status", "--json", "--dir", str(root)).stdout)["daemons"]
    os.kill(before["n1"], signal.SIGKILL)
    assert wait_gone([before["n1"]], 10) == []
    hcluster("up", "--dir", str(root))
    after = json.loads(hcluster("status", "--json", "--dir", str(root)).stdout)["daemons"]
    assert after["helixctld"] == before["helixctld"]
    assert after["n2"] == before["n2"]
    assert after["n1"] != before["n1"]
    assert is_alive(after["n1"])


def test_two_ups_at_once_make_one_cluster(place: Path) -> None:
    root = place / "twice"
    argv = [str(_BIN / "hcluster"), "up", "--nodes", "2", "--cpus", "1", "--memory", "256M", "--dir", str(root)]
    both = [subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for _ in range(2)]
    for done in both:
        out, _ = done.communicate(timeout=110)
        assert done.returncode == 0, out.decode()
    # helixctld, two helixd, and their two servers of shepherds.
    assert len(Cluster.at(root).members()) == 5


def test_two_clusters_side_by_side_know_nothing_of_each_other(place: Path) -> None:
    for name in ("a", "b"):
        hcluster("up", "--nodes", "1", "--cpus", "1", "--memory", "256M", "--dir", str(place / name))
    shell("hsubmit --hold --job-name only-a --wrap true", place / "a")
    assert shell("hqueue -h -o %j", place / "a") == "only-a\n"
    assert shell("hqueue -h -o %j", place / "b") == ""
    hcluster("down", "--dir", str(place / "a"))
    assert shell("hinfo -h -o %D", place / "b").strip() == "1"


def test_down_ends_running_jobs_and_keeps_waiting_ones(place: Path) -> None:
    root = place / "busy"
    hcluster("up", "--nodes", "1", "--cpus", "1", "--memory", "256M", "--dir", str(root))
    shell("hsubmit --wrap 'echo $$ > pid; exec sleep 600'; hsubmit --wrap 'echo ran > second'", root)
    cluster = Cluster.at(root)
    test = TestCluster(root)
    test.wait_for(lambda: (root / "pid").exists() and (root / "pid").read_text().strip() != "", "the job runs")
    pid = int((root / "pid").read_text())
    hcluster("down", "--dir", str(root))
    assert not is_alive(pid)
    assert not (root / "second").exists()
    assert cluster.members() == []
    hcluster("up", "--dir", str(root))
    test.wait_for(lambda: (root / "second").exists(), "the waiting job runs after the next up")


def test_down_kills_what_does_not_end(place: Path) -> None:
    root = place / "stubborn"
    hcluster("up", "--nodes", "1", "--cpus", "1", "--memory", "256M", "--dir", str(root))
    shell("""hsubmit --wrap 'trap "" TERM; sleep 600 & echo $! > pid; sleep 600; sleep 600'""", root)
    test = TestCluster(root)
    test.wait_for(lambda: (root / "pid").exists() and (root / "pid").read_text().strip() != "", "the job runs")
    done = hcluster("down", "--timeout", "1", "--dir", str(root))
    assert "was killed" in done.stderr
    assert not is_alive(int((root / "pid").read_text()))
    assert test.leftovers() == []


def test_keep_jobs_leaves_them_running_and_finds_them_again(place: Path) -> None:
    root = place / "kept"
    hcluster("up", "--nodes", "1", "--cpus", "1", "--memory", "256M", "--dir", str(root))
    shell("hsubmit --wrap 'echo $$ > pid; while [ ! -e go ]; do sleep 0.05; done; exit 3'", root)
    test = TestCluster(root)
    test.wait_for(lambda: (root / "pid").exists() and (root / "pid").read_text().strip() != "", "the job runs")
    hcluster("down", "--keep-jobs", "--dir", str(root))
    pid = int((root / "pid").read_text())
    assert is_alive(pid)
    (root / "go").touch()
    assert wait_gone([pid], 10) == []
    hcluster("up", "--dir", str(root))
    with test.client() as client:
        client.wait(1, timeout_s=60)
        job = client.job(1)
    assert (job.state, job.exit_code) == ("FAILED", "3:0")


def test_a_daemon_that_does_not_start_is_explained_with_its_log(place: Path) -> None:
    root = place / "bad"
    cluster = Cluster.at(root)
    cluster.create()
    with (root / "helix.conf").open("a") as conf:
        conf.write("KillWait=soon\n")
    done = hcluster("up", "--dir", str(root), check=False)
    assert done.returncode in (1, 3)
    assert "KillWait" in done.stderr
    assert cluster.members() == []


def test_misuse_is_refused_with_a_remedy(place: Path) -> None:
    nowhere = str(place / "nowhere")
    for argv, status, words in (
        (["status", "--dir", nowhere], 1, "hcluster up"),
        (["env", "--dir", nowhere], 1, "hcluster up"),
        (["upp"], 2, "up down status"),
        ([], 2, "up down status"),
        (["down", "--nodes", "3", "--dir", nowhere], 2, "--nodes means nothing to down"),
        (["up", "--nodes", "0", "--dir", nowhere], 2, "--nodes"),
        (["up", "extra", "--dir", nowhere], 2, "extra"),
        (["keygen"], 2, "FILE"),
    ):
        done = hcluster(*argv, check=False)
        assert done.returncode == status, (argv, done.stderr)
        assert words in done.stderr, (argv, done.stderr)


def test_keygen_makes_a_pair_once(place: Path) -> None:
    path = place / "curve.key"
    first = hcluster("keygen", str(path)).stdout.strip()
    assert len(first) == 40
    assert path.stat().st_mode & 0o777 == 0o600
    assert hcluster("keygen", str(path)).stdout.strip() == first
