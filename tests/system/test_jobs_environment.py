"""What a job finds when it starts: options by their precedence, environment, working directory, umask, limits."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

import pytest
from helpers.cluster_jobs import finish, how, run_job, submit, write


def variables(text: str) -> dict[str, str]:
    """What `env -0` printed."""
    return dict(entry.split("=", 1) for entry in text.split("\0") if "=" in entry)


def environment(cluster, work: Path, *options: str, **more) -> dict[str, str]:
    """The environment of a job submitted with these options."""
    end = run_job(cluster, work, "env -0", "-o", "env", *options, **more)
    assert how(end) == ("COMPLETED", "0:0"), end
    return variables((work / "env").read_text())


def both(env: dict[str, str], name: str) -> str | None:
    """The value of SLURM_NAME, which HELIX_NAME must share."""
    assert env.get(f"SLURM_{name}") == env.get(f"HELIX_{name}"), name
    return env.get(f"SLURM_{name}")


# ---- options ---------------------------------------------------------------------------------------------------------


def test_lines_in_the_script_are_options(cluster, workdir):
    body = "#!/bin/sh\n#SBATCH --job-name=first -o out\n# a remark\n\n#HBATCH --comment='two words' # why\necho ran\n"
    job = submit(cluster, workdir, body + "#SBATCH --job-name=too-late\n")
    assert finish(cluster, job)["state"] == "COMPLETED"
    with cluster.client() as client:
        row = client.job(job)
    assert (row["name"], row["comment"]) == ("first", "two words")
    assert (workdir / "out").read_text() == "ran\n"


def test_command_line_beats_environment_beats_script(cluster, workdir):
    body = "#!/bin/sh\n#SBATCH -J script --comment=script --wckey=script -H -o /dev/null\n"
    job = submit(cluster, workdir, body, "--job-name=line", env={"SBATCH_JOB_NAME": "env", "SBATCH_WCKEY": "env"})
    with cluster.client() as client:
        row = client.job(job)
    assert (row["name"], row["wckey"], row["comment"]) == ("line", "env", "script")


def test_hbatch_environment_beats_sbatch_environment(cluster, workdir):
    job = submit(cluster, workdir, "true", "-H", env={"SBATCH_JOB_NAME": "slurm", "HBATCH_JOB_NAME": "helix"})
    with cluster.client() as client:
        assert client.job(job)["name"] == "helix"


def test_the_name_is_the_scripts_and_wrap_is_wrap(cluster, workdir):
    named = submit(cluster, workdir, "true", "-H")
    wrapped = int(cluster.run("hsubmit", "--parsable", "-H", "--wrap", "true", cwd=workdir).stdout)
    piped = int(cluster.run("hsubmit", "--parsable", "-H", cwd=workdir, input="#!/bin/sh\n").stdout)
    with cluster.client() as client:
        assert [client.job(job)["name"] for job in (named, wrapped, piped)] == ["job.sh", "wrap", "hsubmit"]


def test_arguments_of_the_script_arrive_as_they_were_typed(cluster, workdir):
    script = write(workdir / "args.sh", 'for word; do printf "<%s>" "$word"; done')
    words = ["plain", "two words", "", "--hold", "*", "$HOME", "quote'\"s", "naïve\n"]
    cluster.run("hsubmit", "--wait", "-o", "out", str(script), *words, cwd=workdir)
    assert (workdir / "out").read_text() == "".join(f"<{word}>" for word in words)


def test_a_script_from_standard_input_may_have_any_interpreter(cluster, workdir):
    text = "#!/usr/bin/env python3\nimport sys\nprint(sys.version_info[0], len(sys.argv))\n"
    cluster.run("hsubmit", "--wait", "-o", "out", cwd=workdir, input=text)
    assert (workdir / "out").read_text() == "3 1\n"


# ---- environment -----------------------------------------------------------------------------------------------------


def test_the_environment_of_sbatch_is_there(cluster, workdir):
    before = int(time.time())
    options = ("-n2", "-c2", "--mem=100", "-t10", "-J", "a name", "-p", "batch", "-w", "n1", "-A", "physics")
    env = environment(cluster, workdir, *options)
    job = both(env, "JOB_ID")
    expected = {
        "JOBID": job,
        "JOB_NAME": "a name",
        "JOB_NODELIST": "n1",
        "NODELIST": "n1",
        "JOB_NUM_NODES": "1",
        "NNODES": "1",
        "NTASKS": "2",
        "NPROCS": "2",
        "CPUS_PER_TASK": "2",
        "CPUS_ON_NODE": "4",
        "JOB_CPUS_PER_NODE": "4",
        "TASKS_PER_NODE": "2",
        "MEM_PER_NODE": "100",
        "JOB_PARTITION": "batch",
        "JOB_ACCOUNT": "physics",
        "JOB_USER": env["USER"],
        "JOB_UID": str(os.getuid()),
        "JOB_GID": str(os.getgid()),
        "CLUSTER_NAME": cluster.client().ping()["cluster"],
        "SUBMIT_DIR": str(workdir),
        "SUBMIT_HOST": os.uname().nodename,
        "NODEID": "0",
        "PROCID": "0",
        "LOCALID": "0",
        "GTIDS": "0",
    }
    assert {name: both(env, name) for name in expected} == expected
    assert env["SLURMD_NODENAME"] == env["HELIXD_NODENAME"] == "n1"
    assert env["ENVIRONMENT"] == "BATCH"
    assert int(both(env, "TASK_PID") or 0) > 1
    start, end = int(both(env, "JOB_START_TIME") or 0), int(both(env, "JOB_END_TIME") or 0)
    assert before <= start <= time.time()
    assert end == start + 600
    for absent in ("ARRAY_JOB_ID", "ARRAY_TASK_ID", "MEM_PER_CPU", "RESTART_COUNT"):
        assert both(env, absent) is None


def test_what_was_not_asked_for_is_not_said(cluster, workdir):
    env = environment(cluster, workdir)
    assert both(env, "CPUS_PER_TASK") is None
    assert both(env, "NTASKS_PER_NODE") is None
    assert both(env, "JOB_END_TIME") is None, "the job has no time limit"
    assert "" not in [value for name, value in env.items() if name.startswith(("SLURM_", "HELIX_"))]


def test_one_cpu_for_each_task_is_said_if_it_was_asked_for(cluster, workdir):
    assert both(environment(cluster, workdir, "-c1"), "CPUS_PER_TASK") == "1"


def test_memory_per_cpu(cluster, workdir):
    env = environment(cluster, workdir, "-n2", "--mem-per-cpu=50")
    assert (both(env, "MEM_PER_CPU"), both(env, "MEM_PER_NODE")) == ("50", None)


def test_two_nodes(cluster, workdir):
    env = environment(cluster, workdir, "-N2", "--ntasks-per-node=3")
    expected = {
        "JOB_NODELIST": "n[1-2]",
        "JOB_NUM_NODES": "2",
        "NTASKS": "6",
        "NTASKS_PER_NODE": "3",
        "TASKS_PER_NODE": "3(x2)",
        "JOB_CPUS_PER_NODE": "3(x2)",
        "CPUS_ON_NODE": "3",
    }
    assert {name: both(env, name) for name in expected} == expected


def test_an_array_task_knows_its_array(cluster, workdir):
    job = submit(cluster, workdir, "env -0", "--array=2-8:3", "-o", "env-%a")
    finish(cluster, job)
    env = variables((workdir / "env-5").read_text())
    expected = {
        "ARRAY_JOB_ID": str(job),
        "ARRAY_TASK_ID": "5",
        "ARRAY_TASK_COUNT": "3",
        "ARRAY_TASK_MIN": "2",
        "ARRAY_TASK_MAX": "8",
        "ARRAY_TASK_STEP": "3",
    }
    assert {name: both(env, name) for name in expected} == expected


def test_everything_is_exported_by_default(cluster, workdir):
    odd = "line\nbreak = 'quotes' äöü"
    env = environment(cluster, workdir, env={"MY_VARIABLE": "mine", "ODD": odd, "EMPTY": ""})
    assert (env["MY_VARIABLE"], env["ODD"], env["EMPTY"]) == ("mine", odd, "")
    assert "HELIX_CLUSTER_COOKIE" not in env or env["HELIX_CLUSTER_COOKIE"], "nothing of the daemons is in it"


def test_export_none_leaves_only_the_login_environment(cluster, workdir):
    env = environment(cluster, workdir, "--export=NONE", env={"MY_VARIABLE": "mine", "SLURM_MINE": "kept"})
    assert "MY_VARIABLE" not in env
    assert env["SLURM_MINE"] == "kept"
    assert {"HOME", "PATH", "USER", "SHELL"} <= set(env)


def test_export_of_a_list(cluster, workdir):
    options = '--export=MINE,SET=to this,LIST="a,b",MISSING'
    env = environment(cluster, workdir, options, env={"MINE": "mine", "OTHER": "other"})
    assert (env["MINE"], env["SET"], env["LIST"]) == ("mine", "to this", "a,b")
    assert "OTHER" not in env
    assert "MISSING" not in env


def test_export_of_all_and_more(cluster, workdir):
    env = environment(cluster, workdir, "--export=ALL,SET=more", env={"OTHER": "other", "SET": "less"})
    assert (env["OTHER"], env["SET"]) == ("other", "more")


def test_export_file(cluster, workdir):
    (workdir / "vars").write_bytes(b"FROM_FILE=a\nb\0SECOND=2\0")
    env = environment(cluster, workdir, "--export=NIL", "--export-file=vars")
    assert (env["FROM_FILE"], env["SECOND"]) == ("a\nb", "2")


def test_what_only_the_scheduler_sets_cannot_be_forged(cluster, workdir):
    forged = {"SLURM_JOB_ID": "1", "HELIX_ARRAY_TASK_ID": "9", "SLURM_ARRAY_TASK_ID": "9", "HELIXD_NODENAME": "x"}
    env = environment(cluster, workdir, env=forged)
    assert both(env, "JOB_ID") != "1"
    assert both(env, "ARRAY_TASK_ID") is None
    assert env["HELIXD_NODENAME"] in ("n1", "n2")


def test_a_job_can_submit_a_job(cluster, workdir):
    """The job finds its own node's agent socket, which relays to the controller."""
    inner = write(workdir / "inner.sh", "echo inner of $SLURM_JOB_NAME")
    outer = run_job(cluster, workdir, f"hsubmit --wait -J second -o inner {inner}", "-J", "first", "-n1", "--mem=1")
    assert how(outer) == ("COMPLETED", "0:0")
    assert (workdir / "inner").read_text() == "inner of second\n"


# ---- surroundings ----------------------------------------------------------------------------------------------------


def test_working_directory(cluster, workdir):
    (workdir / "else where").mkdir()
    run_job(cluster, workdir, "pwd", "-o", "out")
    assert (workdir / "out").read_text() == f"{workdir}\n"
    run_job(cluster, workdir, "pwd; echo $SLURM_SUBMIT_DIR", "-D", "else where", "-o", "out")
    assert (workdir / "else where" / "out").read_text() == f"{workdir}/else where\n{workdir}\n"


def test_the_script_itself_is_found_by_its_name(cluster, workdir):
    """$0 is a readable file with the script's text, as tools that read themselves need it."""
    run_job(cluster, workdir, 'tail -n 1 "$0"', "-o", "out")
    assert (workdir / "out").read_text() == 'tail -n 1 "$0"\n'


@pytest.mark.parametrize("how_much", ["ALL", "NONE", "NOFILE"])
def test_resource_limits_travel_with_the_job(cluster, workdir, how_much):
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 7
    done = cluster.run(
        "sh",
        "-c",
        f"ulimit -S -n {soft}; ulimit -S -c 0; exec hsubmit --wait --propagate={how_much} -o out --wrap 'ulimit -S -n'",
        cwd=workdir,
    )
    assert done.returncode == 0
    assert ((workdir / "out").read_text().strip() == str(soft)) == (how_much != "NONE")


def test_the_job_has_no_descriptors_but_its_three(cluster, workdir):
    run_job(
        cluster, workdir, "#!/usr/bin/env python3\nimport os\nprint(sorted(os.listdir('/proc/self/fd')))\n", "-o", "out"
    )
    assert (workdir / "out").read_text() == "['0', '1', '2', '3']\n"


def test_signals_are_neither_blocked_nor_ignored(cluster, workdir):
    run_job(cluster, workdir, "#!/bin/cat /proc/self/status\n", "-o", "out")
    lines = dict(line.split(":\t") for line in (workdir / "out").read_text().splitlines() if line.startswith("Sig"))
    # 32 and 33 belong to the C library, whose posix_spawn ignores them in the new process.
    assert {int(lines[name], 16) & ~(3 << 31) for name in ("SigBlk", "SigIgn")} == {0}
