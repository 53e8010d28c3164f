"""Where a job's output goes: file name patterns, defaults, standard error, append and truncate, standard input."""

from __future__ import annotations

import os

import pytest
from helpers.cluster_jobs import finish, how, run_job, submit, write


def test_default_name_is_slurm_j_out_in_the_working_directory(cluster, workdir):
    end = run_job(cluster, workdir, "echo out; echo err >&2")
    assert how(end) == ("COMPLETED", "0:0")
    assert (workdir / f"slurm-{end['job_id']}.out").read_text() == "out\nerr\n"


def test_default_name_of_an_array_task_has_array_and_index(cluster, workdir):
    job = submit(cluster, workdir, "echo $SLURM_ARRAY_TASK_ID", "--array=3,11")
    assert finish(cluster, job)["state"] == "COMPLETED"
    assert (workdir / f"slurm-{job}_3.out").read_text() == "3\n"
    assert (workdir / f"slurm-{job}_11.out").read_text() == "11\n"


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("%j", "{job}"),
        ("%8j", "{job:08d}"),
        ("%J", "{job}"),
        ("%A", "{job}"),
        ("%4a", "4294967294"),
        ("%x-%u", "name-{user}"),
        ("%N", "{node}"),
        ("%n.%t.%3t.%s", "0.0.000.batch"),
        ("100%%", "100%"),
        ("%%j", "%j"),
        ("%99j", "{job:010d}"),  # ten digits at most
        ("%q%", "%q%"),  # no letters of Slurm: as written
        ("a\\%j", "a%j"),  # a backslash turns the letters off
    ],
)
def test_pattern(cluster, workdir, pattern, expected):
    end = run_job(cluster, workdir, "echo here", "--job-name=name", f"--output={pattern}")
    with cluster.client() as client:
        job = client.job(end["job_id"])
    name = expected.format(job=job["job_id"], node=job["batch_host"], user=job["user"])
    written = [p.name for p in workdir.iterdir() if p.name != "job.sh"]
    assert written == [name], how(end)
    assert (workdir / name).read_text() == "here\n"
    assert job["stdout"] == str(workdir / name), "hqueue shows the file that was opened"


def test_patterns_of_array_tasks_are_padded(cluster, workdir):
    job = submit(cluster, workdir, "echo $SLURM_JOB_ID", "--array=7", "--output=%A-%4a-%j")
    assert finish(cluster, f"{job}_7")["state"] == "COMPLETED"
    with cluster.client() as client:
        own = client.job(f"{job}_7")["job_id"]
    assert (workdir / f"{job}-0007-{own}").read_text() == f"{own}\n"


def test_a_slash_in_the_job_name_chooses_no_directory(cluster, workdir):
    end = run_job(cluster, workdir, "echo here", "--job-name=../../up", "--output=%x")
    assert how(end) == ("COMPLETED", "0:0")
    assert (workdir / ".._.._up").read_text() == "here\n"


def test_relative_and_absolute_paths(cluster, workdir):
    (workdir / "sub").mkdir()
    assert run_job(cluster, workdir, "echo relative", "-o", "sub/%j.o")["state"] == "COMPLETED"
    assert run_job(cluster, workdir, "echo absolute", "-o", str(workdir / "abs"), "-D", "/")["state"] == "COMPLETED"
    assert [p.read_text() for p in (workdir / "sub").iterdir()] == ["relative\n"]
    assert (workdir / "abs").read_text() == "absolute\n"


def test_standard_error_apart(cluster, workdir):
    run_job(cluster, workdir, "echo out; echo err >&2", "-o", "out-%j", "-e", "err-%j")
    (out,) = workdir.glob("out-*")
    (err,) = workdir.glob("err-*")
    assert (out.read_text(), err.read_text()) == ("out\n", "err\n")


def test_standard_output_and_error_in_one_file_keep_their_order(cluster, workdir):
    run_job(cluster, workdir, "echo 1; echo 2 >&2; echo 3", "-o", "both", "-e", "both")
    assert (workdir / "both").read_text() == "1\n2\n3\n"


def test_output_none_is_dev_null(cluster, workdir):
    assert run_job(cluster, workdir, "echo gone", "--output=none")["state"] == "COMPLETED"
    assert [p.name for p in workdir.iterdir()] == ["job.sh"]


def test_open_mode_truncate_is_the_default_and_append_appends(cluster, workdir):
    (workdir / "out").write_text("a longer text that was there before\n")
    run_job(cluster, workdir, "echo 1", "-o", "out")
    assert (workdir / "out").read_text() == "1\n"
    run_job(cluster, workdir, "echo 2", "-o", "out", "--open-mode=append")
    assert (workdir / "out").read_text() == "1\n2\n"
    run_job(cluster, workdir, "echo 3", "-o", "out", "--open-mode=truncate")
    assert (workdir / "out").read_text() == "3\n"


def test_standard_input_is_dev_null_or_the_file(cluster, workdir):
    run_job(cluster, workdir, "cat; echo end", "-o", "empty")
    assert (workdir / "empty").read_text() == "end\n"
    (workdir / "in-name").write_text("from the file\n")
    run_job(cluster, workdir, "cat", "-J", "name", "-i", "in-%x", "-o", "copied")
    assert (workdir / "copied").read_text() == "from the file\n"


def test_new_files_have_the_modes_of_the_users_umask(cluster, workdir):
    for mask, mode in ((0o077, 0o600), (0o022, 0o644)):
        old = os.umask(mask)
        try:
            run_job(cluster, workdir, "umask; touch made", "-o", "out")
        finally:
            os.umask(old)
        assert (workdir / "out").read_text().strip() == f"{mask:04o}"
        assert [(workdir / name).stat().st_mode & 0o777 for name in ("out", "made")] == [mode, mode]
        (workdir / "out").unlink()
        (workdir / "made").unlink()


def test_a_job_without_output_leaves_an_empty_file(cluster, workdir):
    run_job(cluster, workdir, "true", "-o", "out")
    assert (workdir / "out").read_bytes() == b""


def test_bytes_come_through_unchanged(cluster, workdir):
    raw = bytes(range(256)) * 64
    (workdir / "raw").write_bytes(raw)
    end = run_job(cluster, workdir, "cat raw", "-o", "out")
    assert (workdir / "out").read_bytes() == raw
    done = cluster.run("sh", "-c", f"hlog {end['job_id']} > copy", cwd=workdir)
    assert done.returncode == 0
    assert (workdir / "copy").read_bytes() == raw


def test_the_script_runs_from_a_copy_made_at_submission(cluster, workdir):
    job = submit(cluster, workdir, "echo first", "--hold", "-o", "out")
    write(workdir / "job.sh", "echo second")
    cluster.run("hctl", "release", str(job))
    assert finish(cluster, job)["state"] == "COMPLETED"
    assert (workdir / "out").read_text() == "first\n"
