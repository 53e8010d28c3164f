"""Scripts and files that cannot work: refused at submission if that can be known, else FAILED with the reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers.cluster_jobs import NOBODY, as_root, command_as, finish, run_job, submit, wait_state, write

NULL = ("-o", "/dev/null")

ELF = b"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x03\x00"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty!"),
        (b"\n  \n", "contains only whitespace!"),
        (ELF, "NUL byte on line 1"),
        (b"echo no interpreter\n", "does not start with #!"),
        (b"\n#!/bin/sh\necho late\n", "does not start with #!"),
        (b"#!\necho\n", "names no interpreter"),
        (b"#!/bin/sh\r\necho dos\r\n", "DOS line breaks"),
        (b"#!/bin/sh\necho \xff\xfe\n", "is not UTF-8 text: byte 0xff on line 2"),
        (b"#!/bin/sh\n" + b"x" * (4 << 20), "larger than 4 MiB"),
        (b"#!/bin/sh\n#SBATCH --nosuch=1\n", "line 2: "),
        (b"#!/bin/sh\n\n#HBATCH -t soon\n", "line 3: "),
        (b'#!/bin/sh\n#SBATCH --comment="open\n', "is not closed"),
        (b"#!/bin/sh\n#SBATCH -n 1 stray\n", "'stray' belongs to no option"),
        (b"#!/bin/sh\n#SBATCH --network=ib\n", "not supported yet"),
    ],
)
def test_a_script_that_cannot_work_is_refused_with_its_reason(cluster, workdir, content, words):
    (workdir / "bad.sh").write_bytes(content)
    done = cluster.run("hsubmit", "bad.sh", cwd=workdir, check=False)
    assert done.returncode in (1, 2)
    assert done.stdout == ""
    assert words in done.stderr
    assert "bad.sh" in done.stderr
    assert "Traceback" not in done.stderr
    assert cluster.run("hqueue", "-h").stdout == ""


def test_a_script_that_is_not_there(cluster, workdir):
    write(workdir / "simulate.sh", "true")
    done = cluster.run("hsubmit", "simulat.sh", cwd=workdir, check=False)
    assert done.returncode == 1
    assert "no batch script 'simulat.sh'" in done.stderr
    assert "did you mean 'simulate.sh'?" in done.stderr
    done = cluster.run("hsubmit", ".", cwd=workdir, check=False)
    assert "is a directory" in done.stderr


def test_an_empty_standard_input(cluster, workdir):
    done = cluster.run("hsubmit", cwd=workdir, check=False)
    assert (done.returncode, "standard input is empty!" in done.stderr) == (1, True)


@as_root
def test_a_script_one_may_not_read(cluster, workdir):
    write(workdir / "mine.sh", "true").chmod(0o700)
    done = command_as(cluster, "hsubmit", "mine.sh", cwd=workdir)
    assert (done.status, "permission denied" in done.err) == (1, True)


# ---- found on the node -----------------------------------------------------------------------------------------------


def failed(cluster, job: int) -> tuple[str, str]:
    """Reason and words of a job that never started, as hqueue and hlog tell them too."""
    end = finish(cluster, job)
    assert end["state"] == "FAILED"
    assert end["exit_code"] == "1:0", "not 0: a pipeline of jobs must notice"
    shown = cluster.run("hqueue", "-h", "-t", "all", "-j", str(job), "-o", "%T %r", "-S", "i").stdout
    assert shown == f"FAILED {end['reason']}\n"
    long = cluster.run("hqueue", "-h", "-t", "all", "-j", str(job), "-O", "ReasonText:400").stdout.strip()
    assert long == end["reason_text"]
    log = cluster.run("hlog", str(job), check=False)
    assert log.returncode == 1
    assert end["reason_text"] in log.stderr, "hlog says why there is no output"
    assert end["reason_text"] in cluster.run("hctl", "-d", "show", "job", str(job)).stdout
    return end["reason"], end["reason_text"]


def test_an_interpreter_that_does_not_exist(cluster, workdir):
    reason, text = failed(cluster, submit(cluster, workdir, "#!/no/such/shell\necho\n", *NULL))
    assert reason == "JobLaunchFailure"
    assert "the script's interpreter '/no/such/shell' does not exist" in text


def test_an_interpreter_that_may_not_be_executed(cluster, workdir):
    reason, text = failed(cluster, submit(cluster, workdir, "#!/etc/passwd\necho\n", *NULL))
    assert reason == "JobLaunchFailure"
    assert "'/etc/passwd' may not be executed: Permission denied" in text


def test_an_output_directory_that_does_not_exist(cluster, workdir):
    reason, text = failed(cluster, submit(cluster, workdir, "echo", "-o", "no/such/%j"))
    assert reason == "OutputFileUnwritable"
    assert f"cannot open the output file {workdir}/no/such/" in text
    assert text.endswith("No such file or directory")


def test_an_output_that_is_a_directory(cluster, workdir):
    (workdir / "dir").mkdir()
    assert "Is a directory" in failed(cluster, submit(cluster, workdir, "echo", "-o", "dir"))[1]


def test_an_error_file_that_cannot_be_opened(cluster, workdir):
    _, text = failed(cluster, submit(cluster, workdir, "echo", "-o", "fine", "-e", "no/err"))
    assert "cannot open the error file" in text


def test_an_input_that_does_not_exist(cluster, workdir):
    _, text = failed(cluster, submit(cluster, workdir, "cat", "-i", "no-input", *NULL))
    assert "cannot open the input file" in text
    assert "no-input" in text


def test_a_working_directory_that_does_not_exist(cluster, workdir):
    reason, text = failed(cluster, submit(cluster, workdir, "echo", "-D", str(workdir / "gone"), *NULL))
    assert reason == "InvalidWorkDir"
    assert f"cannot enter the working directory {workdir}/gone: No such file or directory" in text


@as_root
def test_a_working_directory_one_may_not_enter(cluster, workdir):
    (workdir / "closed").mkdir(mode=0o700)
    done = command_as(cluster, "hsubmit", "--parsable", "-D", f"{workdir}/closed", *NULL, "--wrap", "true", cwd=workdir)
    end = finish(cluster, int(done.out))
    assert (end["state"], end["reason"]) == ("FAILED", "InvalidWorkDir")
    assert "Permission denied" in end["reason_text"]


@as_root
def test_an_output_one_may_not_write(cluster, workdir):
    (workdir / "theirs").write_text("kept\n")
    (workdir / "theirs").chmod(0o644)
    done = command_as(cluster, "hsubmit", "--parsable", "-o", "theirs", "--wrap", "echo", cwd=workdir)
    end = finish(cluster, int(done.out))
    assert (end["state"], end["reason"]) == ("FAILED", "OutputFileUnwritable")
    assert (workdir / "theirs").read_text() == "kept\n"
    assert (workdir / "theirs").stat().st_uid != NOBODY


def test_an_output_name_that_becomes_too_long(cluster, workdir):
    name = "x" * 300
    end = finish(cluster, submit(cluster, workdir, "echo", "-J", name, "-o", "%x"))
    assert (end["state"], end["reason"]) == ("FAILED", "OutputFileUnwritable")
    assert "File name too long" in end["reason_text"]


def test_arguments_longer_than_the_machine_allows(cluster, workdir):
    """Within the controller's limit, beyond the kernel's."""
    count = os.sysconf("SC_ARG_MAX") // 100_000 + 2
    with cluster.client() as client:
        job = client.submit("#!/bin/sh\n", args=["x" * 100_000] * count, work_dir=workdir, stdout="/dev/null", env={})
        end = client.wait(job, timeout_s=30)[0]
    assert (end["state"], end["reason"]) == ("FAILED", "JobLaunchFailure")
    assert "longer than this machine allows" in end["reason_text"]


def test_a_job_that_cannot_start_does_not_harm_its_node(cluster, workdir):
    for _ in range(5):
        finish(cluster, submit(cluster, workdir, "#!/no/such/shell\n", "-w", "n1", *NULL))
    with cluster.client() as client:
        assert client.nodes("n1")[0]["state"] == "IDLE"
    assert run_job(cluster, workdir, "true", "-w", "n1", *NULL)["state"] == "COMPLETED"


def test_a_directory_that_vanishes_while_the_job_waits(cluster, workdir):
    place = Path(workdir / "short-lived")
    place.mkdir()
    job = int(cluster.run("hsubmit", "--parsable", "-H", "--wrap", "true", cwd=place).stdout)
    place.rmdir()
    cluster.run("hctl", "release", str(job))
    wait_state(cluster, job, "FAILED")
    assert finish(cluster, job)["reason"] == "InvalidWorkDir"
