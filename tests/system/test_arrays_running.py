"""Job arrays on real nodes: limits that are never passed, tasks by index, arrays of a million."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from helpers.cluster_jobs import blocker, finish, submit, wait_reason, wait_state, wait_text

NULL = ("-o", "/dev/null")


def most_at_once(lines: list[str]) -> int:
    """The greatest number of `+` lines that no `-` line has taken back."""
    running = most = 0
    for line in lines:
        running += 1 if line.startswith("+") else -1
        most = max(most, running)
    return most


def tasks(cluster, array: int) -> list[dict]:
    """The tasks of an array that have started."""
    with cluster.client() as client:
        return [row for row in client.jobs(array) if row["array_task_id"] is not None]


def test_every_task_runs_once_with_its_index(cluster, workdir):
    array = submit(cluster, workdir, "echo $SLURM_ARRAY_TASK_ID >> ran", "--array=0-9,20-30:5", *NULL)
    assert finish(cluster, array)["state"] == "COMPLETED"
    expected = [*range(10), 20, 25, 30]
    assert sorted(map(int, (workdir / "ran").read_text().split())) == expected
    assert sorted(row["array_task_id"] for row in tasks(cluster, array)) == expected


@pytest.mark.parametrize("limit", [1, 3])
def test_no_more_tasks_run_than_the_limit_says(cluster, workdir, limit):
    body = "echo + >> log; sleep 0.05; echo - >> log"
    array = submit(cluster, workdir, body, f"--array=1-12%{limit}", *NULL)
    assert finish(cluster, array)["state"] == "COMPLETED"
    lines = (workdir / "log").read_text().split()
    assert Counter(lines) == {"+": 12, "-": 12}
    assert most_at_once(lines) == limit


def test_the_rest_waits_for_the_limit_and_says_so(cluster, workdir):
    array = submit(cluster, workdir, blocker(workdir / "go"), "--array=1-4%2", *NULL)
    wait_reason(cluster, array, "JobArrayTaskLimit")
    out = cluster.run("hqueue", "-h", "-o", "%i %t %r", "-S", "i").stdout.splitlines()
    assert out[0] == f"{array}_[3-4%2] PD JobArrayTaskLimit"
    assert [line.split()[0] for line in out[1:]] == [f"{array}_1", f"{array}_2"]
    (workdir / "go").touch()
    finish(cluster, array)


def test_the_limit_can_be_changed_while_it_runs(cluster, workdir):
    array = submit(cluster, workdir, f"echo x >> up; {blocker(workdir / 'go')}", "--array=1-4%1", *NULL)
    wait_reason(cluster, array, "JobArrayTaskLimit")
    cluster.run("hctl", "update", f"JobId={array}", "ArrayTaskThrottle=3")
    wait_text(cluster, workdir / "up", "x\nx\nx\n")
    wait_reason(cluster, array, "JobArrayTaskLimit")
    (workdir / "go").touch()
    finish(cluster, array)


def test_an_array_fails_if_one_task_does(cluster, workdir):
    array = submit(cluster, workdir, "exit $SLURM_ARRAY_TASK_ID", "--array=0,5,2", *NULL)
    end = finish(cluster, array)
    assert (end["state"], end["exit_code"]) == ("FAILED", "5:0")
    ended = {row["array_task_id"]: (row["state"], row["exit_code"]) for row in tasks(cluster, array)}
    assert ended == {0: ("COMPLETED", "0:0"), 2: ("FAILED", "2:0"), 5: ("FAILED", "5:0")}


def test_tasks_have_ids_of_their_own_and_names_with_their_index(cluster, workdir):
    array = submit(cluster, workdir, "echo $SLURM_JOB_ID $SLURM_ARRAY_JOB_ID >> ids", "--array=1-3", *NULL)
    finish(cluster, array)
    pairs = [line.split() for line in (workdir / "ids").read_text().splitlines()]
    assert {pair[1] for pair in pairs} == {str(array)}
    assert len({pair[0] for pair in pairs}) == 3
    shown = cluster.run("hqueue", "-h", "-t", "all", "-j", str(array), "-o", "%i %A %F %K", "-S", "i").stdout
    rows = [line.split() for line in shown.splitlines()]
    assert sorted(row[0] for row in rows if row[3] != "N/A") == [f"{array}_{k}" for k in (1, 2, 3)]
    assert {row[2] for row in rows} == {str(array)}
    assert {row[1] for row in rows} >= {pair[0] for pair in pairs}


def test_one_task_can_be_looked_at_and_waited_for(cluster, workdir):
    array = submit(
        cluster, workdir, f"[ $SLURM_ARRAY_TASK_ID = 1 ] || {{ {blocker(workdir / 'go')}; }}", "-a1-2", *NULL
    )
    assert cluster.run("hwait", f"{array}_1").stdout == f"{array}_1 COMPLETED 0:0\n"
    assert cluster.run("hqueue", "-h", "-j", f"{array}_2", "-o", "%i").stdout == f"{array}_2\n"
    assert "ArrayTaskId=2" in cluster.run("hctl", "show", "job", f"{array}_2").stdout
    (workdir / "go").touch()
    assert cluster.run("hwait", str(array)).stdout == f"{array} COMPLETED 0:0\n"


def test_hold_and_release_of_an_array(cluster, workdir):
    array = submit(cluster, workdir, "echo x >> ran", "--array=1-3", "-H", *NULL)
    wait_reason(cluster, array, "JobHeldUser")
    cluster.run("hctl", "release", str(array))
    assert finish(cluster, array)["state"] == "COMPLETED"
    assert (workdir / "ran").read_text() == "x\n" * 3


def test_a_requeued_task_runs_again_and_the_array_waits_for_it(cluster, workdir):
    body = f"echo $SLURM_ARRAY_TASK_ID-$SLURM_RESTART_COUNT >> ran; {blocker(workdir / 'go')}"
    array = submit(cluster, workdir, body, "--array=1-2", *NULL)
    wait_text(cluster, workdir / "ran", "1-\n")
    cluster.run("hctl", "requeue", f"{array}_1")
    wait_text(cluster, workdir / "ran", "1-1\n")
    (workdir / "go").touch()
    assert finish(cluster, array)["state"] == "COMPLETED"
    assert sorted((workdir / "ran").read_text().split()) == ["1-", "1-1", "2-"]


def test_a_million_tasks_are_one_record(cluster, workdir):
    last = 999_999
    started = time.monotonic()
    array = submit(cluster, workdir, "true", f"--array=0-{last}", "-H", *NULL)
    assert cluster.run("hqueue", "-h", "-o", "%i").stdout == f"{array}_[0-{last}]\n"
    cluster.run("hcancel", f"{array}_[5-{last - 5}]")
    assert cluster.run("hqueue", "-h", "-o", "%i").stdout == f"{array}_[0-4,{last - 4}-{last}]\n"
    assert len(cluster.run("hqueue", "-h", "-r", "-o", "%i").stdout.splitlines()) == 10
    assert time.monotonic() - started < 10, "it costs what one job costs"
    with cluster.client() as client:
        size = int(dict(client.call("config.show")["pairs"])["MaxArraySize"])
    too_many = cluster.run("hsubmit", f"--array=0-{size}", "--wrap", "true", cwd=workdir, check=False)
    assert too_many.returncode == 1
    assert "ARRAY_TOO_LARGE" in too_many.stderr


def test_an_array_survives_restarts_of_both_daemons(cluster, workdir):
    body = 'echo "$SLURM_ARRAY_TASK_ID" >> ran; sleep 0.05'
    array = submit(cluster, workdir, body, "--array=1-40%4", *NULL)
    wait_text(cluster, workdir / "ran")
    cluster.kill9_controller()
    cluster.kill9_node("n1")
    cluster.start_controller()
    cluster.start_node("n1")
    assert finish(cluster, array)["state"] == "COMPLETED"
    assert sorted(map(int, (workdir / "ran").read_text().split())) == list(range(1, 41))


@pytest.mark.parametrize("text", ["", "x", "5-1", "1-", "1,,2", "1-10:0", "-3", "1-3%x"])
def test_indexes_that_make_no_sense_are_refused(cluster, workdir, text):
    done = cluster.run("hsubmit", f"--array={text}", "--wrap", "true", cwd=workdir, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("hsubmit: --array: ")
    assert done.stdout == ""


def test_a_waiting_task_of_an_array_shows_why(cluster, workdir):
    array = submit(cluster, workdir, "true", "--array=1-2", "--begin=now+1hour", *NULL)
    wait_reason(cluster, array, "BeginTime")
    wait_state(cluster, array, "PENDING")
    assert "begin" in cluster.run("hwhy", f"{array}_1").stdout.lower()
