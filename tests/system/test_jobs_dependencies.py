"""--dependency on real jobs: each kind is met by the right end and by no other."""

from __future__ import annotations

from itertools import pairwise

import pytest
from helpers.cluster_jobs import blocker, finish, how, submit, wait_reason, wait_state, wait_text

NULL = ("-o", "/dev/null")


def gate(cluster, work, code: int = 0, *options: str) -> int:
    """A job that ends with `code` once the file `go` exists."""
    return submit(cluster, work, f"{blocker(work / 'go')}\nexit {code}", *NULL, *options)


def note(cluster, work, word: str, *options: str) -> int:
    """A job that appends a word to `order`."""
    return submit(cluster, work, f"echo {word} >> order", *NULL, *options)


@pytest.mark.parametrize(
    ("kind", "code", "met"),
    [
        ("afterok", 0, True),
        ("afterok", 1, False),
        ("afternotok", 0, False),
        ("afternotok", 1, True),
        ("afterany", 0, True),
        ("afterany", 1, True),
    ],
)
def test_after_an_end(cluster, workdir, kind, code, met):
    first = gate(cluster, workdir, code)
    second = note(cluster, workdir, "second", f"--dependency={kind}:{first}")
    wait_reason(cluster, second, "Dependency")
    (workdir / "go").touch()
    if met:
        assert how(finish(cluster, second)) == ("COMPLETED", "0:0")
        assert (workdir / "order").exists()
        with cluster.client() as client:
            assert client.job(second)["t_start"] >= client.job(first)["t_end"]
    else:
        wait_reason(cluster, second, "DependencyNeverSatisfied")
        assert not (workdir / "order").exists()


def test_a_cancelled_job_is_not_ok(cluster, workdir):
    first = gate(cluster, workdir)
    never = note(cluster, workdir, "ok", f"-dafterok:{first}")
    notok = note(cluster, workdir, "notok", f"-dafternotok:{first}")
    cluster.run("hcancel", str(first))
    assert finish(cluster, notok)["state"] == "COMPLETED"
    wait_reason(cluster, never, "DependencyNeverSatisfied")


def test_kill_on_invalid_dep_removes_the_job(cluster, workdir):
    first = gate(cluster, workdir, 1)
    second = note(cluster, workdir, "second", f"-dafterok:{first}", "--kill-on-invalid-dep=yes")
    (workdir / "go").touch()
    end = finish(cluster, second)
    assert (end["state"], end["reason"]) == ("CANCELLED", "DependencyNeverSatisfied")


def test_after_begins_when_the_other_has_begun(cluster, workdir):
    first = submit(cluster, workdir, f"echo up > up\n{blocker(workdir / 'go')}", "-H", *NULL)
    second = note(cluster, workdir, "second", f"--dependency=after:{first}")
    later = note(cluster, workdir, "later", f"--dependency=after:{first}+10")
    wait_reason(cluster, second, "Dependency")
    cluster.run("hctl", "release", str(first))
    assert finish(cluster, second)["state"] == "COMPLETED"
    wait_state(cluster, first, "CONFIGURING", "RUNNING")
    wait_reason(cluster, later, "Dependency")
    assert cluster.run("hqueue", "-h", "-j", str(later), "-o", "%E").stdout == f"after:{first}+10\n"


def test_all_of_several(cluster, workdir):
    first, second = gate(cluster, workdir), gate(cluster, workdir, 0, "-H")
    third = note(cluster, workdir, "third", f"-dafterok:{first}:{second}")
    (workdir / "go").touch()
    finish(cluster, first)
    wait_reason(cluster, third, "Dependency")
    cluster.run("hctl", "release", str(second))
    assert finish(cluster, third)["state"] == "COMPLETED"


def test_any_of_several(cluster, workdir):
    first, second = gate(cluster, workdir, 1), gate(cluster, workdir, 0, "-H")
    third = note(cluster, workdir, "third", f"-dafterok:{second}?afterany:{first}")
    wait_reason(cluster, third, "Dependency")
    (workdir / "go").touch()
    assert finish(cluster, third)["state"] == "COMPLETED"


def test_singleton_runs_one_of_a_name_at_a_time(cluster, workdir):
    jobs = [note(cluster, workdir, str(k), "-J", "only", "-dsingleton") for k in range(4)]
    for job in jobs:
        assert finish(cluster, job)["state"] == "COMPLETED"
    with cluster.client() as client:
        rows = [client.job(job) for job in jobs]
    assert (workdir / "order").read_text().split() == ["0", "1", "2", "3"]
    assert all(late["t_start"] >= early["t_end"] for early, late in pairwise(rows))


def test_after_a_whole_array(cluster, workdir):
    array = submit(cluster, workdir, f"{blocker(workdir / 'go')}\n[ $SLURM_ARRAY_TASK_ID != 2 ]", "-a1-3", *NULL)
    every = note(cluster, workdir, "any", f"-dafterany:{array}")
    ok = note(cluster, workdir, "ok", f"-dafterok:{array}")
    one = note(cluster, workdir, "one", f"-dafterok:{array}_1")
    wait_reason(cluster, every, "Dependency")
    (workdir / "go").touch()
    assert finish(cluster, every)["state"] == "COMPLETED"
    assert finish(cluster, one)["state"] == "COMPLETED"
    wait_reason(cluster, ok, "DependencyNeverSatisfied")


def test_aftercorr_lets_each_task_follow_its_own(cluster, workdir):
    body = f"while [ ! -e {workdir}/go-$SLURM_ARRAY_TASK_ID ]; do sleep 0.02; done; [ $SLURM_ARRAY_TASK_ID != 3 ]"
    first = submit(cluster, workdir, body, "-a1-3", *NULL)
    second = submit(cluster, workdir, "echo $SLURM_ARRAY_TASK_ID >> order", "-a1-3", f"-daftercorr:{first}", *NULL)
    (workdir / "go-2").touch()
    assert wait_text(cluster, workdir / "order") == "2\n"
    (workdir / "go-1").touch()
    wait_text(cluster, workdir / "order", "2\n1\n")
    (workdir / "go-3").touch()
    finish(cluster, first)
    wait_reason(cluster, second, "DependencyNeverSatisfied")
    assert cluster.run("hqueue", "-h", "-j", str(second), "-o", "%i").stdout == f"{second}_[3]\n"


def test_dependency_on_a_job_that_ended_before(cluster, workdir):
    good, bad = submit(cluster, workdir, "true", *NULL), submit(cluster, workdir, "false", *NULL)
    finish(cluster, good)
    finish(cluster, bad)
    assert finish(cluster, note(cluster, workdir, "x", f"-dafterok:{good},afternotok:{bad}"))["state"] == "COMPLETED"


def test_a_new_dependency_replaces_the_old_one(cluster, workdir):
    first = gate(cluster, workdir)
    second = note(cluster, workdir, "second", f"-dafterok:{first}")
    wait_reason(cluster, second, "Dependency")
    cluster.run("hctl", "update", f"JobId={second}", "Dependency=")
    assert finish(cluster, second)["state"] == "COMPLETED"


def test_a_chain_survives_restarts(cluster, workdir):
    first = gate(cluster, workdir)
    second = note(cluster, workdir, "second", f"-dafterok:{first}")
    third = note(cluster, workdir, "third", f"-dafterok:{second}")
    cluster.kill9_controller()
    (workdir / "go").touch()
    cluster.start_controller()
    assert finish(cluster, third)["state"] == "COMPLETED"
    assert (workdir / "order").read_text().split() == ["second", "third"]


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("afterok:999999999", "DEPENDENCY_UNKNOWN", "unknown job 999999999"),
        ("afterok:", "DEPENDENCY_INVALID", "names no job"),
        ("afterok:x", "DEPENDENCY_INVALID", "'x'"),
        ("aftrok:1", "DEPENDENCY_INVALID", "afterok"),
        ("afterok:1,afterany:2?after:3", "DEPENDENCY_INVALID", "not both"),
        ("afterok:1+5", "DEPENDENCY_INVALID", "+minutes goes with after"),
        ("expand:1", "NOT_SUPPORTED", "not supported yet"),
    ],
)
def test_dependencies_that_make_no_sense_are_refused(cluster, workdir, text, code, words):
    done = cluster.run("hsubmit", f"--dependency={text}", "--wrap", "true", cwd=workdir, check=False)
    assert done.returncode in (1, 2)
    assert code in done.stderr
    assert words in done.stderr
    assert done.stdout == ""


def test_a_circle_is_refused(cluster, workdir):
    first = note(cluster, workdir, "first", "-H")
    second = note(cluster, workdir, "second", "-H", f"-dafterok:{first}")
    done = cluster.run("hctl", "update", f"JobId={first}", f"Dependency=afterok:{second}", check=False)
    assert done.returncode == 1
    assert "DEPENDENCY_CIRCULAR" in done.stderr
    assert f"job {first} would depend on itself" in done.stderr
