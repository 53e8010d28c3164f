"""hqueue, hinfo, hwait, hwhy, hdiag and hctl show against a cluster: golden columns, JSON, texts, exit statuses."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.cluster_jobs import background, blocker, finish, run_job, submit, wait_reason, wait_state, wait_text

NULL = ("-o", "/dev/null")


@pytest.fixture
def three(cluster, workdir):
    """A running, a held and an array job; ids in that order."""
    running = submit(cluster, workdir, blocker(workdir / "go"), "-w", "n1", "-J", "run", "-t10", "-c2", *NULL)
    wait_state(cluster, running, "RUNNING")
    held = submit(cluster, workdir, "true", "-H", "-J", "a-very-long-name", "-t1-0", *NULL)
    array = submit(cluster, workdir, "true", "-H", "-a4-9%2", "-J", "many", *NULL)
    for job in (held, array):
        wait_reason(cluster, job, "JobHeldUser")
    yield running, held, array
    (workdir / "go").touch()
    finish(cluster, running)


def user(cluster) -> str:
    """Whose the jobs are."""
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name


# ---- hqueue ----------------------------------------------------------------------------------------------------------


def test_hqueue_columns(cluster, three):
    running, held, array = three
    name = user(cluster)
    out = re.sub(r"\d:\d\d ", "0:00 ", cluster.run("hqueue", "-S", "i").stdout)
    assert out == (
        "             JOBID PARTITION     NAME     USER ST       TIME  NODES NODELIST(REASON)\n"
        f"{running:>18}     batch      run {name:>8.8} R       0:00      1 n1\n".replace(" R ", " R ").replace(
            f"{name:>8.8} R ", f"{name:>8.8}  R "
        )
        + f"{held:>18}     batch a-very-l {name:>8.8} PD       0:00      1 (JobHeldUser)\n"
        + f"{f'{array}_[4-9%2]':>18}     batch     many {name:>8.8} PD       0:00      1 (JobHeldUser)\n"
    )


def test_hqueue_long(cluster, three):
    lines = cluster.run("hqueue", "-l", "-S", "i").stdout.splitlines()
    assert re.fullmatch(r"\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}", lines[0])
    assert lines[1] == (
        "             JOBID PARTITION     NAME     USER    STATE       TIME TIME_LIMI  NODES NODELIST(REASON)"
    )
    assert [line.split()[4] for line in lines[2:]] == ["RUNNING", "PENDING", "PENDING"]
    assert [line.split()[6] for line in lines[2:]] == ["10:00", "1-00:00:0", "UNLIMITED"]


def test_hqueue_formats(cluster, three):
    running, held, array = three
    out = cluster.run("hqueue", "-h", "-o", "%i|%.5j|%5P|%C %c %D %l %L", "-S", "i").stdout.splitlines()
    assert re.fullmatch(rf"{running}\|  run\|batch\|2 2 1 10:00 (9:\d\d|10:00)", out[0])
    assert out[1] == f"{held}|a-ver|batch|1 1 1 1-00:00:00 1-00:00:00"
    assert out[2] == f"{array}_[4-9%2]|more"[: len(f"{array}_[4-9%2]|")] + " many|batch|1 1 1 UNLIMITED UNLIMITED"
    out = cluster.run("hqueue", "-h", "-j", str(running), "-O", "JobID:.8,Name:6,NodeList,State:.9").stdout
    assert out == f"{running:>8}run   n1                    RUNNING\n"


def test_hqueue_filters(cluster, three):
    running, held, array = three

    def ids(*options: str) -> list[str]:
        return cluster.run("hqueue", "-h", "-o", "%F", "-S", "i", *options).stdout.split()

    everyone = [str(job) for job in three]
    assert ids() == ids("--me") == ids("-u", user(cluster)) == ids("-p", "batch") == everyone
    assert ids("-t", "R") == ids("-w", "n1") == ids("-n", "run") == ids("-j", str(running)) == [str(running)]
    assert ids("-t", "pending", "-n", "many") == [str(array)]
    assert ids("-j", f"{held},{array}") == [str(held), str(array)]
    assert ids("-u", "nobody-at-all") == ids("-w", "n2") == ids("-p", "other") == []
    assert ids("-S", "-i") == everyone[::-1]
    assert ids("-r", "-n", "many") == [str(array)] * 6


def test_hqueue_of_finished_jobs(cluster, workdir):
    job = run_job(cluster, workdir, "exit 2", *NULL)["job_id"]
    assert cluster.run("hqueue", "-h").stdout == ""
    out = cluster.run("hqueue", "-h", "-t", "all", "-j", str(job), "-o", "%t %T %r %R").stdout
    assert out == "F FAILED NonZeroExitCode (NonZeroExitCode)\n"
    assert cluster.run("hqueue", "-h", "-t", "FAILED", "-j", str(job), "-o", "%i").stdout == f"{job}\n"


def test_hqueue_json(cluster, three):
    document = json.loads(cluster.run("hqueue", "--json").stdout)
    assert {job["job_id"] for job in document["jobs"]} == set(three)
    from helix.wire.methods import JOB_ROW
    from helixctld.core.views import SHOW_ONLY

    assert set(document["jobs"][0]) == set(JOB_ROW) - SHOW_ONLY
    assert document["cursor"]
    assert document["helix"] == {"format": "jobs", "version": 1}


def test_hqueue_from_the_environment(cluster, three):
    out = cluster.run("hqueue", "-h", env={"SQUEUE_FORMAT": "%j", "SQUEUE_SORT": "j", "SQUEUE_STATES": "PD"}).stdout
    assert out == "a-very-long-name\nmany\n"


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (("-t", "SLEEPING"), 2, "no job state 'SLEEPING'"),
        (("-o", "%"), 2, ""),
        (("-O", "Nmae"), 2, "did you mean 'name'?"),
        (("-j", "x"), 2, "JOB_ID_INVALID"),
        (("-j", "99999999"), 1, "JOB_UNKNOWN"),
        (("--nosuch",), 2, "--nosuch"),
        (("stray",), 2, "unexpected argument 'stray'"),
        (("-s",), 1, "not supported yet"),
    ],
)
def test_hqueue_mistakes(cluster, words, status, text):
    done = cluster.run("hqueue", *words, check=False)
    assert done.returncode in (status, 2)
    assert text in done.stderr
    assert done.stderr.startswith("hqueue: ")
    assert "Traceback" not in done.stderr


def test_hqueue_watch_shows_what_changes(cluster, workdir):
    first = submit(cluster, workdir, blocker(workdir / "go"), "-J", "first", *NULL)
    wait_state(cluster, first, "RUNNING")
    path = workdir / "watched"
    program = str(Path(sys.executable).parent / "hqueue")
    with background(cluster, path, program, "--watch", "-h", "-o", "%i %T"):
        wait_text(cluster, path, f"{first} RUNNING\n")
        second = submit(cluster, workdir, "true", "-H", *NULL)
        wait_text(cluster, path, f"{second} PENDING\n")
        cluster.kill9_controller()
        cluster.start_controller()
        cluster.wait_for(lambda: path.read_text().count(f"{first} RUNNING\n") == 2, "it has listed again")
        (workdir / "go").touch()
        wait_text(cluster, path, f"{first} RUNNING -> COMPLETED\n")
        cluster.run("hctl", "release", str(second))
        cluster.wait_for(lambda: path.read_text().count(" -> COMPLETED\n") == 2, "the second job's end shows")


# ---- hwait -----------------------------------------------------------------------------------------------------------


def test_hwait_gives_the_highest_exit_code(cluster, workdir):
    jobs = [str(submit(cluster, workdir, f"exit {code}", *NULL)) for code in (0, 4, 2)]
    done = cluster.run("hwait", *jobs, check=False)
    assert done.returncode == 4
    ends = {f"{jobs[0]} COMPLETED 0:0", f"{jobs[1]} FAILED 4:0", f"{jobs[2]} FAILED 2:0"}
    assert set(done.stdout.splitlines()) == ends
    assert cluster.run("hwait", "-q", jobs[0]).stdout == ""


def test_hwait_for_a_killed_job_is_1(cluster, workdir):
    job = str(submit(cluster, workdir, "kill -9 $$", *NULL))
    assert cluster.run("hwait", job, check=False).returncode == 1


def test_hwait_any_and_timeout(cluster, workdir):
    quick, slow = submit(cluster, workdir, "true", *NULL), submit(cluster, workdir, "true", "-H", *NULL)
    assert cluster.run("hwait", "--any", str(quick), str(slow)).stdout == f"{quick} COMPLETED 0:0\n"
    done = cluster.run("hwait", "--timeout=1s", str(slow), check=False)
    assert done.returncode == 5
    assert str(slow) in done.stderr


def test_hwait_json_and_unknown(cluster, workdir):
    job = submit(cluster, workdir, "exit 3", *NULL)
    done = cluster.run("hwait", "--json", str(job), check=False)
    end = json.loads(done.stdout)
    assert (end["job_id"], end["state"], end["exit_code"]) == (job, "FAILED", "3:0")
    assert cluster.run("hwait", "99999999", check=False).returncode == 1


def test_hwait_survives_restarts(cluster, workdir):
    job = submit(cluster, workdir, f"{blocker(workdir / 'go')}; exit 5", *NULL)
    wait_state(cluster, job, "RUNNING")
    program = str(Path(sys.executable).parent / "hwait")
    with (workdir / "out").open("wb") as out:
        waiter = subprocess.Popen([program, str(job)], stdout=out, stderr=out, env=cluster.env)
    try:
        for _ in range(3):
            cluster.kill9_controller()
            cluster.start_controller()
        (workdir / "go").touch()
        assert waiter.wait(20) == 5
    finally:
        waiter.kill()
        waiter.wait(10)
    assert (workdir / "out").read_text() == f"{job} FAILED 5:0\n"


def test_submit_and_wait_exits_as_the_job(cluster, workdir):
    done = cluster.run("hsubmit", "--wait", *NULL, "--wrap", "exit 6", cwd=workdir, check=False)
    assert done.returncode == 6
    assert re.fullmatch(r"Submitted batch job \d+\n", done.stdout)


# ---- hwhy ------------------------------------------------------------------------------------------------------------


def test_hwhy_resources(cluster, workdir, three):
    job = submit(cluster, workdir, "true", "-w", "n1", "-c3", *NULL)
    wait_reason(cluster, job, "Resources")
    out = cluster.run("hwhy", str(job)).stdout
    assert out.startswith(f"job {job}: PENDING, Resources\n  waits for 1 node with 3 CPUs in partition batch: ")
    assert "closest: n1: has 2 of 3 CPUs" in out
    assert "try: with --cpus-per-task=2 it would start now" in out


def test_hwhy_held_begin_dependency_and_running(cluster, workdir, three):
    running, held, _ = three
    later = submit(cluster, workdir, "true", "--begin=now+1hour", *NULL)
    depends = submit(cluster, workdir, "true", f"-dafterok:{held}", *NULL)
    wait_reason(cluster, later, "BeginTime")
    wait_reason(cluster, depends, "Dependency")
    assert f"hctl release {held}" in cluster.run("hwhy", str(held)).stdout
    assert "begin" in cluster.run("hwhy", str(later)).stdout.lower()
    assert f"waits for afterok:{held} (job {held} is PENDING)" in cluster.run("hwhy", str(depends)).stdout
    assert cluster.run("hwhy", str(running)).stdout.startswith(f"job {running}: RUNNING\n")


def test_hwhy_json_and_several(cluster, three):
    _, held, array = three
    document = json.loads(cluster.run("hwhy", "--json", str(held), str(array)).stdout)
    assert [job["reason"] for job in document["jobs"]] == ["JobHeldUser", "JobHeldUser"]
    assert cluster.run("hwhy", "99999999", check=False).returncode == 1


# ---- hinfo, hctl show, hdiag -----------------------------------------------------------------------------------------


def test_hinfo(cluster, three):
    assert cluster.run("hinfo").stdout == (
        "PARTITION AVAIL  TIMELIMIT  NODES  STATE NODELIST\n"
        "batch*       up   infinite      1    mix n1\n"
        "batch*       up   infinite      1   idle n2\n"
    )
    assert (
        cluster.run("hinfo", "-N", "-h", "-o", "%N %C %m %T").stdout == "n1 2/2/0/4 1024 mixed\nn2 0/4/0/4 1024 idle\n"
    )
    assert cluster.run("hinfo", "-s", "-h").stdout.split() == ["batch*", "up", "infinite", "1/1/0/2", "n[1-2]"]
    document = json.loads(cluster.run("hinfo", "--json").stdout)
    assert [node["name"] for node in document["nodes"]] == ["n1", "n2"]
    assert [part["name"] for part in document["partitions"]] == ["batch"]


def test_hctl_show_job(cluster, workdir, three):
    running, _, _ = three
    text = cluster.run("hctl", "show", "job", str(running)).stdout
    pairs = dict(word.split("=", 1) for word in text.split() if "=" in word)
    expected = {
        "JobId": str(running),
        "JobName": "run",
        "JobState": "RUNNING",
        "NumNodes": "1",
        "NumCPUs": "2",
        "NodeList": "n1",
        "BatchHost": "n1",
        "TimeLimit": "00:10:00",
        "WorkDir": str(workdir),
        "StdOut": "/dev/null",
        "Command": f"{workdir}/job.sh",
    }
    assert {key: pairs[key] for key in expected} == expected
    one = cluster.run("hctl", "-o", "show", "job", str(running)).stdout
    assert one.count("\n") == 1
    document = json.loads(cluster.run("hctl", "--json", "show", "job", str(running)).stdout)
    assert document["jobs"][0]["cores"] == {"n1": [0, 1]}


def test_hctl_write_batch_script(cluster, workdir):
    job = submit(cluster, workdir, "echo the script", "-H", *NULL)
    assert cluster.run("hctl", "write", "batch_script", str(job), "-").stdout == "#!/bin/sh\necho the script\n"
    cluster.run("hctl", "write", "batch_script", str(job), cwd=workdir)
    assert (workdir / f"slurm-{job}.sh").read_text() == "#!/bin/sh\necho the script\n"


def test_hctl_ping_and_hdiag(cluster):
    assert re.fullmatch(r"Helixctld\(primary\) at \S+ is UP\n", cluster.run("hctl", "ping").stdout)
    document = json.loads(cluster.run("hdiag", "--json").stdout)
    assert "counters" in document
    assert "jobs" in cluster.run("hdiag").stdout.lower()


def test_wait_job(cluster, workdir):
    job = submit(cluster, workdir, blocker(workdir / "go"), *NULL)
    assert cluster.run("hctl", "wait_job", str(job)).returncode == 0
    assert wait_state(cluster, job, "RUNNING")["state"] == "RUNNING"
    (workdir / "go").touch()
    finish(cluster, job)


def test_without_a_controller_commands_say_what_they_tried(cluster, tmp_path):
    env = {**cluster.env, "HELIX_SOCKET": str(tmp_path / "none.sock")}
    commands = (("hqueue",), ("hinfo",), ("hcancel", "1"), ("hctl", "show", "nodes"), ("hwhy", "1"), ("hlog", "1"))
    running = [subprocess.Popen(words, env=env, stderr=subprocess.PIPE, text=True) for words in commands]
    for process in running:
        _, err = process.communicate(timeout=20)
        assert process.returncode == 3, err
        assert f"no controller can be reached ({tmp_path}/none.sock: no such file or directory)" in err
        assert "hcluster up" in err
