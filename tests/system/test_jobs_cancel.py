"""hcancel in all its forms, on jobs that wait and jobs that run."""

from __future__ import annotations

from collections import Counter

from helpers.cluster_jobs import blocker, finish, how, is_alive, submit, wait_state, wait_text

NULL = ("-o", "/dev/null")
LONG = "exec sleep 600"


def states(cluster, *jobs) -> list[str]:
    """The states of jobs, in order."""
    with cluster.client() as client:
        return [client.job(job)["state"] for job in jobs]


def test_a_waiting_job(cluster, workdir):
    job = submit(cluster, workdir, "echo ran > ran", "-H", *NULL)
    done = cluster.run("hcancel", str(job))
    assert (done.stdout, done.stderr) == ("", "")
    assert states(cluster, job) == ["CANCELLED"]
    assert how(finish(cluster, job)) == ("CANCELLED", "0:0")
    assert not (workdir / "ran").exists()


def test_a_running_job_gets_sigterm(cluster, workdir):
    job = submit(cluster, workdir, "trap 'echo bye > bye; exit 0' TERM\necho up > up\nsleep 60 & wait", *NULL)
    wait_text(cluster, workdir / "up")
    cluster.run("hcancel", str(job))
    assert how(finish(cluster, job)) == ("CANCELLED", "0:0")
    assert (workdir / "bye").exists()


def test_several_at_once_and_one_that_does_not_exist(cluster, workdir):
    jobs = [submit(cluster, workdir, LONG, "-H", *NULL) for _ in range(3)]
    done = cluster.run("hcancel", f"{jobs[0]},{jobs[1]}", "999999999", str(jobs[2]), check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "hcancel: error: Kill job error on job id 999999999: Invalid job id specified (no job 999999999)\n"
    )
    assert states(cluster, *jobs) == ["CANCELLED"] * 3


def test_a_job_that_is_over_is_left_alone(cluster, workdir):
    job = submit(cluster, workdir, "true", *NULL)
    finish(cluster, job)
    done = cluster.run("hcancel", str(job))
    assert done.stderr == "", "as scancel: what was to be is so already"
    told = cluster.run("hcancel", "--verbose", str(job))
    assert "already completing or completed" in told.stderr
    assert states(cluster, job) == ["COMPLETED"]


def test_by_name(cluster, workdir):
    one = submit(cluster, workdir, LONG, "-H", "-J", "doomed", *NULL)
    two = submit(cluster, workdir, LONG, "-J", "doomed", *NULL)
    other = submit(cluster, workdir, LONG, "-H", "-J", "other", *NULL)
    cluster.run("hcancel", "--name=doomed")
    assert [finish(cluster, job)["state"] for job in (one, two)] == ["CANCELLED"] * 2
    assert states(cluster, other) == ["PENDING"]


def test_by_state_user_and_partition(cluster, workdir):
    waiting = submit(cluster, workdir, LONG, "-H", *NULL)
    running = submit(cluster, workdir, LONG, *NULL)
    wait_state(cluster, running, "RUNNING")
    cluster.run("hcancel", "--state=PENDING", "--me")
    assert states(cluster, waiting, running) == ["CANCELLED", "RUNNING"]
    cluster.run("hcancel", "--partition=batch", "--user=no-such-user")
    wait_state(cluster, running, "RUNNING")
    cluster.run("hcancel", "--partition=batch", "--state=running")
    assert finish(cluster, running)["state"] == "CANCELLED"


def test_by_node(cluster, workdir):
    here = submit(cluster, workdir, LONG, "-w", "n1", *NULL)
    there = submit(cluster, workdir, LONG, "-w", "n2", *NULL)
    for job in (here, there):
        wait_state(cluster, job, "RUNNING")
    cluster.run("hcancel", "--nodelist=n2")
    assert finish(cluster, there)["state"] == "CANCELLED"
    wait_state(cluster, here, "RUNNING")


def test_filters_must_all_match(cluster, workdir):
    job = submit(cluster, workdir, LONG, "-H", "-J", "mine", *NULL)
    cluster.run("hcancel", "--name=mine", "--state=RUNNING")
    cluster.run("hcancel", "--name=other", str(job), check=False)
    assert states(cluster, job) == ["PENDING"]


def test_nothing_selected_cancels_nothing(cluster, workdir):
    job = submit(cluster, workdir, LONG, "-H", *NULL)
    done = cluster.run("hcancel", check=False)
    assert done.returncode == 2
    assert "nothing says which jobs" in done.stderr
    assert states(cluster, job) == ["PENDING"]


def test_interactive_asks_and_obeys(cluster, workdir):
    jobs = [submit(cluster, workdir, LONG, "-H", "-J", f"j{k}", *NULL) for k in range(3)]
    done = cluster.run("hcancel", "-i", *map(str, jobs), input="y\nn\n")
    assert done.stdout.startswith(f"Cancel job_id={jobs[0]} name=j0 partition=batch [y/n]? Cancel job_id={jobs[1]} ")
    assert states(cluster, *jobs) == ["CANCELLED", "PENDING", "PENDING"], "end of input is no for the rest"


# ---- signals ---------------------------------------------------------------------------------------------------------


def test_signal_goes_to_the_children_and_the_job_goes_on(cluster, workdir):
    body = (
        "trap 'echo x > script' USR1\n"
        "sh -c 'trap \"echo x > child\" USR1; echo up > up; while [ ! -e child ]; do sleep 0.02; done; exit 5'\n"
        f"{blocker(workdir / 'go')}\nexit 3"
    )
    job = submit(cluster, workdir, body, *NULL)
    wait_text(cluster, workdir / "up")
    cluster.run("hcancel", "--signal=USR1", str(job))
    wait_text(cluster, workdir / "child")
    assert not (workdir / "script").exists()
    wait_state(cluster, job, "RUNNING")
    (workdir / "go").touch()
    assert how(finish(cluster, job)) == ("FAILED", "3:0")


def test_signal_to_the_batch_script_alone(cluster, workdir):
    body = (
        "trap 'echo x > script' USR1\n"
        "sh -c 'trap \"echo x > child\" USR1; echo up > up; while :; do sleep 0.02; done' &\n"
        "while [ ! -e script ]; do sleep 0.02; done"
    )
    job = submit(cluster, workdir, body, *NULL)
    wait_text(cluster, workdir / "up")
    cluster.run("hcancel", "--batch", "-s", "SIGUSR1", str(job))
    assert how(finish(cluster, job)) == ("COMPLETED", "0:0")
    assert not (workdir / "child").exists()


def test_signal_to_all_with_full(cluster, workdir):
    body = (
        "trap 'echo x > script' USR1\n"
        "sh -c 'trap \"echo x > child\" USR1; echo up > up; while [ ! -e child ]; do sleep 0.02; done' &\n"
        "while [ ! -e script ] || [ ! -e child ]; do sleep 0.02; done\n"
        "exit 0"  # the loop's own status is that of a sleep which the signal may have ended
    )
    job = submit(cluster, workdir, body, *NULL)
    wait_text(cluster, workdir / "up")
    cluster.run("hcancel", "--full", "-s", "10", str(job))
    assert how(finish(cluster, job)) == ("COMPLETED", "0:0")


def test_signal_to_a_waiting_job_does_nothing(cluster, workdir):
    job = submit(cluster, workdir, "true", "-H", *NULL)
    cluster.run("hcancel", "-s", "USR1", str(job))
    assert states(cluster, job) == ["PENDING"]


def test_unknown_signal_is_refused(cluster, workdir):
    done = cluster.run("hcancel", "-s", "NOSUCH", "1", check=False)
    assert done.returncode == 2
    assert "NOSUCH" in done.stderr


# ---- arrays ----------------------------------------------------------------------------------------------------------


def test_tasks_of_an_array(cluster, workdir):
    array = submit(cluster, workdir, LONG, "--array=1-6", "-H", *NULL)
    cluster.run("hcancel", f"{array}_2", f"{array}_[4-5]")
    assert cluster.run("hqueue", "-h", "-o", "%i").stdout == f"{array}_[1,3,6]\n"
    cluster.run("hcancel", str(array))
    assert cluster.run("hqueue", "-h", "-o", "%i").stdout == ""
    assert states(cluster, array) == ["CANCELLED"]


def test_an_array_of_running_and_waiting_tasks(cluster, workdir):
    array = submit(cluster, workdir, f"echo $$ > pid-$SLURM_ARRAY_TASK_ID; {LONG}", "--array=1-5%2", *NULL)
    for task in (1, 2):
        wait_text(cluster, workdir / f"pid-{task}")
    cluster.run("hcancel", f"{array}_1")
    assert finish(cluster, f"{array}_1")["state"] == "CANCELLED"
    wait_text(cluster, workdir / "pid-3")
    cluster.run("hcancel", str(array))
    finish(cluster, array)
    with cluster.client() as client:
        rows = [row for row in client.jobs(array) if row["array_task_id"] is not None]
    assert Counter(row["state"] for row in rows) == {"CANCELLED": 3}
    pids = [int(path.read_text()) for path in workdir.glob("pid-*")]
    assert len(pids) == 3
    cluster.wait_for(lambda: not any(map(is_alive, pids)), "no process of the array is left")


def test_cancelled_as_they_start(cluster, workdir):
    """Submitted and cancelled at once, again and again: each ends cancelled, none keeps a CPU or a process."""
    with cluster.client() as client:
        wanted = {"wrap": "exec sleep 600", "work_dir": workdir, "stdout": "/dev/null"}
        jobs: list[int] = []
        for _ in range(60):
            job = client.submit(**wanted)
            client.cancel(job)
            jobs.append(job)
        assert {end["state"] for end in client.wait(jobs, timeout_s=30)} == {"CANCELLED"}
        cluster.wait_for(lambda: {node["state"] for node in client.nodes()} == {"IDLE"}, "all nodes are idle")
        assert [node["cpus_alloc"] for node in client.nodes()] == [0, 0]


def test_cancel_is_known_after_a_restart(cluster, workdir):
    job = submit(cluster, workdir, LONG, "-H", *NULL)
    cluster.run("hcancel", str(job))
    cluster.kill9_controller()
    cluster.start_controller()
    assert states(cluster, job) == ["CANCELLED"]
