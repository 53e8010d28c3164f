"""kill -9 and SIGSTOP of node daemons and shepherds: jobs go on, exit codes arrive, nothing is left or run twice."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def wait_running(cluster, client, job):
    cluster.wait_for(lambda: client.job(job)["state"] == "RUNNING", f"job {job} runs")
    return client.job(job)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    return state != "Z"


def test_job_outlives_helixd_and_its_exit_code_arrives(cluster, workdir):
    client = cluster.client()
    go = workdir / "go"
    script = write(workdir / "job.sh", f"#!/bin/sh\necho x >> ran\nwhile [ ! -e {go} ]; do sleep 0.05; done\nexit 7\n")
    job = client.submit(script, work_dir=workdir)
    node = wait_running(cluster, client, job)["batch_host"]
    cluster.wait_for((workdir / "ran").exists, "the script began")
    cluster.kill9_node(node)
    go.touch()
    cluster.start_node(node)
    end = client.wait(job, timeout_s=30)[0]
    assert (end["state"], end["exit_code"]) == ("FAILED", "7:0")
    assert (workdir / "ran").read_text() == "x\n"


def test_job_that_ends_while_helixd_is_down_is_reported_after_its_restart(cluster, workdir):
    client = cluster.client()
    go, done = workdir / "go", workdir / "done"
    script = write(workdir / "job.sh", f"#!/bin/sh\nwhile [ ! -e {go} ]; do sleep 0.05; done\ntouch {done}\nexit 5\n")
    job = client.submit(script, work_dir=workdir)
    node = wait_running(cluster, client, job)["batch_host"]
    cluster.kill9_node(node)
    go.touch()
    cluster.wait_for(done.exists, "the script ended")
    cluster.start_node(node)
    assert client.wait(job, timeout_s=30)[0]["exit_code"] == "5:0"


def test_helixd_killed_again_and_again_runs_every_job_once(cluster, workdir):
    client = cluster.client()
    script = write(workdir / "job.sh", '#!/bin/sh\necho "$HELIX_JOB_ID" >> ran\nsleep 0.2\n')
    ids = client.submit_many([{"script": script, "work_dir": workdir, "stdout": "/dev/null"}] * 60)
    for k in range(8):
        node = cluster.nodes[k % len(cluster.nodes)]
        time.sleep(0.1 * (k % 4))  # different moments; nothing is waited for
        cluster.kill9_node(node)
        cluster.start_node(node)
    ends = client.wait(ids, timeout_s=90)
    assert Counter(e["state"] for e in ends) == {"COMPLETED": 60}
    assert Counter((workdir / "ran").read_text().split()) == Counter(map(str, ids))


def shepherd_of(pid: int) -> int:
    """The parent of the script's process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def test_killed_shepherd_fails_the_job_and_leaves_nothing(cluster, workdir):
    client = cluster.client()
    script = write(
        workdir / "job.sh",
        "#!/bin/sh\nsetsid sh -c 'echo $$ > daemon; exec sleep 600' &\n"
        "sleep 600 &\necho $! > child\necho $$ > main\nwait\n",
    )
    job = client.submit(script, work_dir=workdir)
    wait_running(cluster, client, job)
    names = ("daemon", "child", "main")
    cluster.wait_for(lambda: all((workdir / n).exists() and (workdir / n).read_text() for n in names), "all began")
    pids = [int((workdir / n).read_text()) for n in names]
    os.kill(shepherd_of(pids[2]), signal.SIGKILL)
    end = client.wait(job, timeout_s=30)[0]
    assert (end["state"], end["reason"]) == ("FAILED", "SystemFailure")
    cluster.wait_for(lambda: not any(map(alive, pids)), "no process of the job is left")


def test_silent_network_loses_nothing_and_starts_nothing_twice(cluster, workdir):
    """Both daemons stopped for a while in turn: what happened meanwhile is told afterwards."""
    client = cluster.client()
    go = workdir / "go"
    script = write(
        workdir / "job.sh",
        f'#!/bin/sh\necho "$HELIX_JOB_ID" >> ran\nwhile [ ! -e {go} ]; do sleep 0.05; done\nexit 2\n',
    )
    jobs = [client.submit(script, work_dir=workdir, stdout="/dev/null") for _ in range(3)]
    for job in jobs:
        wait_running(cluster, client, job)
    ran = workdir / "ran"
    cluster.wait_for(lambda: ran.exists() and len(ran.read_text().split()) == 3, "all scripts began")
    for daemon in (*cluster.nodes, "helixctld"):
        cluster.stop_process(daemon)
    go.touch()
    time.sleep(1.0)  # the silence itself
    for daemon in (*cluster.nodes, "helixctld"):
        cluster.continue_process(daemon)
    ends = client.wait(jobs, timeout_s=60)
    assert {e["exit_code"] for e in ends} == {"2:0"}
    assert Counter(ran.read_text().split()) == Counter(map(str, jobs))


def test_dead_node_gives_its_jobs_back_and_rejoins(helix_cluster_factory):
    cluster = helix_cluster_factory(nodes=2, cpus=2, conf_extra="HelixdTimeout=3\nHeartbeatInterval=1\n")
    work = cluster.dir / "work"
    work.mkdir(mode=0o777)
    client = cluster.client()
    script = write(work / "job.sh", "#!/bin/sh\nexec sleep 600\n")
    again = client.submit(script, work_dir=work, nodelist="n1", stdout="/dev/null")
    never = client.submit(script, work_dir=work, nodelist="n1", requeue=False, stdout="/dev/null")
    for job in (again, never):
        wait_running(cluster, client, job)
    cluster.stop_process("n1")
    end = client.wait(never, timeout_s=30)[0]
    assert (end["state"], end["reason"]) == ("NODE_FAIL", "NodeDown")
    assert client.job(again)["state"] == "PENDING"
    node = next(n for n in client.nodes() if n["name"] == "n1")
    assert node["state"] == "DOWN*"
    assert "did not respond" in node["reason"]
    cluster.continue_process("n1")
    cluster.wait_nodes(["n1"])
    cluster.wait_for(lambda: client.job(again)["state"] == "RUNNING", "the requeued job runs again")
    assert client.job(again)["attempt"] == 1
    client.cancel([again])
    client.wait(again, timeout_s=60)
