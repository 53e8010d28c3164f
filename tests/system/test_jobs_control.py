"""Jobs under way: hold, release, requeue, suspend, update, begin times; by the commands, on real processes."""

from __future__ import annotations

import time

import pytest
from helpers.cluster_jobs import (
    blocker,
    finish,
    how,
    is_alive,
    process_state,
    run_job,
    submit,
    wait_reason,
    wait_state,
    wait_text,
)

NULL = ("-o", "/dev/null")


def show(cluster, job, letters: str) -> str:
    """One line of hqueue about a job."""
    return cluster.run("hqueue", "-h", "-t", "all", "-j", str(job), "-o", letters).stdout.strip()


# ---- hold and release ------------------------------------------------------------------------------------------------


def test_submitted_held_and_released(cluster, workdir):
    job = submit(cluster, workdir, "true", "--hold", *NULL)
    wait_reason(cluster, job, "JobHeldUser")
    assert show(cluster, job, "%T %r %Q") == "PENDING JobHeldUser 0"
    cluster.run("hctl", "release", str(job))
    assert finish(cluster, job)["state"] == "COMPLETED"


def test_held_while_it_waits(cluster, workdir):
    job = submit(cluster, workdir, "true", "--begin=now+1hour", *NULL)
    cluster.run("hctl", "uhold", str(job))
    wait_reason(cluster, job, "JobHeldUser")
    cluster.run("hctl", "hold", str(job))
    wait_reason(cluster, job, "JobHeldAdmin")
    cluster.run("hctl", "release", str(job))
    wait_reason(cluster, job, "BeginTime")


def test_priority_zero_holds(cluster, workdir):
    job = submit(cluster, workdir, "true", "--priority=0", *NULL)
    wait_reason(cluster, job, "JobHeldAdmin")
    cluster.run("hctl", "update", f"JobId={job}", "Priority=100")
    assert finish(cluster, job)["state"] == "COMPLETED"


def test_higher_priority_starts_first(cluster, workdir):
    go = workdir / "go"
    submit(cluster, workdir, blocker(go), "-N2", "--exclusive", *NULL)
    low = submit(cluster, workdir, "echo low >> order; sleep 0.1", "-N2", "--exclusive", "--nice=1000", *NULL)
    high = submit(cluster, workdir, "echo high >> order", "-N2", "--exclusive", *NULL)
    top = submit(cluster, workdir, "echo top >> order", "-N2", "--exclusive", "--priority=TOP", *NULL)
    wait_reason(cluster, low, "Priority")
    go.touch()
    for job in (low, high, top):
        finish(cluster, job)
    assert (workdir / "order").read_text().split() == ["top", "high", "low"]


# ---- requeue ---------------------------------------------------------------------------------------------------------


def test_requeue_of_a_running_job_runs_it_again(cluster, workdir):
    body = f"echo run ${{SLURM_RESTART_COUNT:-0}} >> runs; echo $$ > pid; {blocker(workdir / 'go')}"
    job = submit(cluster, workdir, body, *NULL)
    wait_text(cluster, workdir / "runs", "run 0\n")
    pid = int(wait_text(cluster, workdir / "pid"))
    cluster.run("hctl", "requeue", str(job))
    wait_text(cluster, workdir / "runs", "run 0\nrun 1\n")
    assert not is_alive(pid), "the first attempt is over before the second begins"
    assert "Restarts=1" in cluster.run("hctl", "show", "job", str(job)).stdout
    (workdir / "go").touch()
    assert how(finish(cluster, job)) == ("COMPLETED", "0:0")


def test_requeue_of_a_finished_job(cluster, workdir):
    job = submit(cluster, workdir, "echo x >> runs", *NULL)
    finish(cluster, job)
    cluster.run("hctl", "requeue", str(job))
    wait_text(cluster, workdir / "runs", "x\nx\n")
    assert finish(cluster, job)["state"] == "COMPLETED"


def test_requeuehold_keeps_it_until_released(cluster, workdir):
    job = submit(cluster, workdir, f"echo x >> runs; {blocker(workdir / 'go')}", *NULL)
    wait_text(cluster, workdir / "runs")
    cluster.run("hctl", "requeuehold", str(job))
    wait_state(cluster, job, "REQUEUE_HOLD")
    assert show(cluster, job, "%t") == "RH"
    (workdir / "go").touch()
    cluster.run("hctl", "release", str(job))
    assert finish(cluster, job)["state"] == "COMPLETED"
    assert (workdir / "runs").read_text() == "x\nx\n"


def test_special_exit(cluster, workdir):
    job = submit(cluster, workdir, "exit 3", *NULL)
    finish(cluster, job)
    cluster.run("hctl", "requeuehold", "State=SpecialExit", str(job))
    wait_state(cluster, job, "SPECIAL_EXIT")
    assert show(cluster, job, "%t") == "SE"
    cluster.run("hcancel", str(job))
    assert finish(cluster, job)["state"] == "CANCELLED"


def test_no_requeue_is_respected(cluster, workdir):
    job = submit(cluster, workdir, blocker(workdir / "go"), "--no-requeue", *NULL)
    wait_state(cluster, job, "RUNNING")
    done = cluster.run("hctl", "requeue", str(job), check=False)
    assert done.returncode == 1
    assert "REQUEUE_DISABLED" in done.stderr
    (workdir / "go").touch()
    assert finish(cluster, job)["state"] == "COMPLETED"


# ---- suspend and resume ----------------------------------------------------------------------------------------------


def test_suspend_stops_the_processes_and_resume_lets_them_go_on(cluster, workdir):
    body = "sh -c 'echo $$ > child; i=0; while :; do i=$((i+1)); echo $i > count; done' &\necho $$ > pid\nwait"
    job = submit(cluster, workdir, body, *NULL)
    pids = [int(wait_text(cluster, workdir / name)) for name in ("pid", "child")]
    wait_text(cluster, workdir / "count")
    wait_state(cluster, job, "RUNNING")
    cluster.run("hctl", "suspend", str(job))
    assert wait_state(cluster, job, "SUSPENDED")["state"] == "SUSPENDED"
    assert show(cluster, job, "%t") == "S"

    def frozen() -> bool:
        return all(process_state(pid) == "T" or is_frozen(pid) for pid in pids)

    cluster.wait_for(frozen, "all processes of the job are stopped")
    before = (workdir / "count").read_text()
    time.sleep(0.2)  # nothing shall happen in this time
    assert (workdir / "count").read_text() == before
    cluster.run("hctl", "resume", str(job))
    cluster.wait_for(lambda: (workdir / "count").read_text() not in ("", before), "the job counts on")
    assert wait_state(cluster, job, "RUNNING")["state"] == "RUNNING"


def is_frozen(pid: int) -> bool:
    """True if the process is in a cgroup (version 2) that is frozen."""
    from pathlib import Path

    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        number, _, path = line.split(":", 2)
        if number == "0":
            for root in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
                events = Path(root + path) / "cgroup.events"
                if events.exists() and "frozen 1" in events.read_text():
                    return True
    return False


def test_a_suspended_job_keeps_its_cpus_and_can_be_cancelled(cluster, workdir):
    job = submit(cluster, workdir, "echo $$ > pid; exec sleep 600", "-w", "n1", "--exclusive", *NULL)
    pid = int(wait_text(cluster, workdir / "pid"))
    wait_state(cluster, job, "RUNNING")
    cluster.run("hctl", "suspend", str(job))
    other = submit(cluster, workdir, "true", "-w", "n1", *NULL)
    wait_reason(cluster, other, "Resources")
    cluster.run("hcancel", str(job))
    assert finish(cluster, job)["state"] == "CANCELLED"
    assert not is_alive(pid)
    assert finish(cluster, other)["state"] == "COMPLETED"


def test_suspended_stays_suspended_over_restarts(cluster, workdir):
    job = submit(cluster, workdir, "echo $$ > pid; exec sleep 600", *NULL)
    wait_text(cluster, workdir / "pid")
    node = wait_state(cluster, job, "RUNNING")["batch_host"]
    cluster.run("hctl", "suspend", str(job))
    cluster.kill9_controller()
    cluster.kill9_node(node)
    cluster.start_controller()
    cluster.start_node(node)
    assert show(cluster, job, "%T") == "SUSPENDED"
    cluster.run("hctl", "resume", str(job))
    cluster.wait_for(lambda: process_state(int((workdir / "pid").read_text())) == "S", "the job sleeps, not stopped")


@pytest.mark.parametrize(("verb", "code"), [("suspend", "JOB_NOT_RUNNING"), ("resume", "JOB_NOT_SUSPENDED")])
def test_what_does_not_run_cannot_be_suspended_or_resumed(cluster, workdir, verb, code):
    job = submit(cluster, workdir, "true", "-H", *NULL)
    done = cluster.run("hctl", verb, str(job), check=False)
    assert done.returncode == 1
    assert code in done.stderr


# ---- begin times and updates -----------------------------------------------------------------------------------------


def test_begin_is_waited_for(cluster, workdir):
    job = submit(cluster, workdir, "true", "--begin=now+2", *NULL)
    row = wait_reason(cluster, job, "BeginTime")
    assert finish(cluster, job)["state"] == "COMPLETED"
    with cluster.client() as client:
        assert client.job(job)["t_start"] >= row["t_begin"]


def test_begin_can_be_brought_forward(cluster, workdir):
    job = submit(cluster, workdir, "true", "--begin=now+1hour", *NULL)
    wait_reason(cluster, job, "BeginTime")
    cluster.run("hctl", "update", f"JobId={job}", "StartTime=now")
    assert finish(cluster, job)["state"] == "COMPLETED"


def test_update_of_a_waiting_job(cluster, workdir):
    job = submit(cluster, workdir, "echo $SLURM_JOB_NAME $SLURM_NTASKS $SLURM_JOB_NODELIST > out", "-H", *NULL)
    changes = ["JobName=changed", "NumTasks=3", "ReqNodeList=n2", "TimeLimit=1:00:00", "Comment=a remark", "Nice=5"]
    cluster.run("hctl", "update", f"JobId={job}", *changes)
    assert show(cluster, job, "%j %C %n %l %k %y") == "changed 3 n2 1:00:00 a remark 5"
    cluster.run("hctl", "release", str(job))
    assert finish(cluster, job)["state"] == "COMPLETED"
    assert (workdir / "out").read_text() == "changed 3 n2\n"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("NoSuchKey=1", "FIELD_UNKNOWN"),
        ("TimeLimit=soon", "TIME_INVALID"),
        ("NumTasks=-1", "BAD_ARGUMENT"),
        ("NumTasks=99", "NODES_NEVER"),
        ("MinMemoryNode=1T", "NODES_NEVER"),
        ("Partition=none", "PARTITION_UNKNOWN"),
        ("ReqNodeList=n9", "NODE_UNKNOWN"),
        ("Dependency=afterok:99999999", "DEPENDENCY_UNKNOWN"),
    ],
)
def test_updates_that_cannot_be_are_refused_and_change_nothing(cluster, workdir, change, code):
    job = submit(cluster, workdir, "true", "-H", *NULL)
    with cluster.client() as client:
        before = client.job(job)
        done = cluster.run("hctl", "update", f"JobId={job}", "Comment=new", change, check=False)
        assert done.returncode in (1, 2)
        assert code in done.stderr
        after = client.job(job)
    assert after == before


def test_what_a_running_job_has_got_cannot_change(cluster, workdir):
    job = submit(cluster, workdir, blocker(workdir / "go"), *NULL)
    wait_state(cluster, job, "RUNNING")
    done = cluster.run("hctl", "update", f"JobId={job}", "NumTasks=2", check=False)
    assert done.returncode == 1
    assert "JOB_ACTIVE" in done.stderr
    (workdir / "go").touch()
    finish(cluster, job)


def test_a_job_that_is_over_can_be_neither_held_nor_changed(cluster, workdir):
    job = run_job(cluster, workdir, "true", *NULL)["job_id"]
    for words in (("hold", str(job)), ("release", str(job)), ("update", f"JobId={job}", "Nice=1")):
        done = cluster.run("hctl", *words, check=False)
        assert done.returncode == 1, words
        assert "JOB_OVER" in done.stderr


def test_the_story_of_a_job_tells_who_and_why(cluster, workdir):
    job = submit(cluster, workdir, "true", "-H", *NULL)
    cluster.run("hctl", "release", str(job))
    finish(cluster, job)
    with cluster.client() as client:
        words = [entry[2] for entry in client.job(job)["story"]]
    assert [word for k, word in enumerate(words) if word not in words[:k]][-1] == "COMPLETED"
    assert words[0] == "PENDING"
    assert "COMPLETED" in cluster.run("hctl", "-d", "show", "job", str(job)).stdout
