"""File names, environments, failures, options, hardware: the pure parts with texts in and out."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from helix.errors import UsageError
from helix.model.job_state import LaunchFailure
from helix.wire.messages import Launch
from helixd import probe
from helixd.core import steplog
from helixd.core.emulation import RUNTIME_DEFAULT_S, declared_runtime_s
from helixd.core.environment import (
    Home,
    Place,
    base_environment,
    compress_counts,
    step_environment,
    tasks_on_nodes,
)
from helixd.core.failures import describe_failure
from helixd.core.filenames import Names, expand_pattern, letters_of, stdio_paths
from helixd.core.reports import exit_of
from helixd.io.options import parse_options

NAMES = Names(12, "my job", "ann", "n1.example", 10, 3)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("%A_%a-%j-%J", "10_3-12-12"),
        ("%5a|%012j|%99j", "00003|0000000012|0000000012"),  # at most ten digits
        ("%x %u %N %n %t %s", "my job ann n1 0 0 batch"),
        ("100%%_%j", "100%_12"),
        ("%%j", "%j"),
        ("%q%", "%q%"),
        (r"a\%j", "a%j"),
        ("%4x", "my job"),
        ("%", "%"),
    ],
)
def test_patterns(pattern: str, expected: str) -> None:
    assert expand_pattern(pattern, letters_of(NAMES)) == expected


def test_job_name_cannot_choose_a_directory() -> None:
    assert expand_pattern("%x.out", letters_of(Names(1, "../../etc/passwd"))) == ".._.._etc_passwd.out"


def test_default_paths() -> None:
    assert stdio_paths("", "", "", "/w/", Names(5)) == ("/dev/null", "/w/slurm-5.out", "/w/slurm-5.out")
    assert stdio_paths("", "", "", "/w", NAMES)[1] == "/w/slurm-10_3.out"
    assert stdio_paths("in", "/a/o", "e%j", "/w", Names(5)) == ("/w/in", "/a/o", "/w/e5")


def test_path_outside_an_array_and_too_long() -> None:
    assert expand_pattern("%a", letters_of(Names(1))) == "4294967294"
    with pytest.raises(UsageError):
        expand_pattern("x" * 4096, letters_of(Names(1)))
    with pytest.raises(UsageError):
        stdio_paths("", "x" * 100, "", "/" + "w" * 4000, Names(1))


def variables(launch: Launch, blob: bytes = b"", **home: str) -> dict[str, str]:
    data, count = step_environment(
        launch, base_environment(blob), Home(**home), Place("clu", "/s.sock", "/scratch", "id")
    )
    assert data.count(b"\0") == count
    assert data.endswith(b"\0")
    entries = data.decode().split("\0")[:-1]
    names = [entry.partition("=")[0] for entry in entries]
    assert len(names) == len(set(names))
    assert names[-2:] == ["SLURM_TASK_PID", "HELIX_TASK_PID"]
    return {entry.partition("=")[0]: entry.partition("=")[2] for entry in entries}


def test_environment_of_a_plain_job() -> None:
    env = variables(Launch(job_id=7, attempt=0, node="n1", uid=1, gid=1, name="j", t_start=100.5, time_limit_s=60))
    for prefix in ("SLURM", "HELIX"):
        assert env[f"{prefix}_JOB_ID"] == env[f"{prefix}_JOBID"] == "7"
        assert env[f"{prefix}_JOB_NODELIST"] == "n1"
        assert env[f"{prefix}_JOB_START_TIME"] == "100"
        assert env[f"{prefix}_JOB_END_TIME"] == "160"
    assert env["HELIX_SOCKET"] == "/s.sock"
    assert env["SLURMD_NODENAME"] == "n1"
    assert env["ENVIRONMENT"] == "BATCH"
    assert env["TMPDIR"] == "/scratch"
    assert env["HELIX_STEP_COOKIE"] == "7.0.id"
    assert "SLURM_ARRAY_TASK_ID" not in env
    assert "SLURM_CPUS_PER_TASK" not in env
    assert "SLURM_RESTART_COUNT" not in env


def test_users_values_stay_and_the_schedulers_do_not_leak_in() -> None:
    blob = b"HOME=/h\0PATH=/p\0A=1\0A=2\0SLURM_ARRAY_TASK_ID=9\0SLURM_JOB_ID=1\0SLURM_MINE=x\0junk\0=y\0EMPTY="
    env = variables(Launch(job_id=7, attempt=0, node="n1", uid=1, gid=1), blob, directory="/other", name="ann")
    assert (env["HOME"], env["PATH"], env["A"], env["EMPTY"], env["USER"]) == ("/h", "/p", "2", "", "ann")
    assert env["SLURM_JOB_ID"] == "7"
    assert env["SLURM_MINE"] == "x"
    assert "SLURM_ARRAY_TASK_ID" not in env


def test_environment_of_an_array_task_on_several_nodes() -> None:
    env = variables(
        Launch(
            job_id=7, attempt=2, node="n1", uid=1, gid=1, nodes="n[1-3]", node_count=3, tasks=6, cpus_per_task=2,
            cpus_per_task_given=True, cpus_per_node=[4, 4, 4], mem_mib=100, restart_count=2, array_job_id=5,
            array_task_id=3, array_task_count=9, array_task_min=1, array_task_max=9, array_task_step=1,
        )
    )  # fmt: skip
    assert env["SLURM_JOB_CPUS_PER_NODE"] == "4(x3)"
    assert env["SLURM_TASKS_PER_NODE"] == "2(x3)"
    assert env["SLURM_CPUS_PER_TASK"] == "2"
    assert env["SLURM_MEM_PER_NODE"] == "100"
    assert env["SLURM_RESTART_COUNT"] == "2"
    assert (env["SLURM_ARRAY_JOB_ID"], env["SLURM_ARRAY_TASK_ID"], env["SLURM_ARRAY_TASK_COUNT"]) == ("5", "3", "9")


@pytest.mark.parametrize(
    ("counts", "text"), [([4], "4"), ([4, 4, 2], "4(x2),2"), ([], ""), ([1, 2, 2, 2], "1,2(x3)"), ([1, 2], "1,2")]
)
def test_compressed_counts(counts: list[int], text: str) -> None:
    assert compress_counts(counts) == text


@pytest.mark.parametrize(
    ("tasks", "per_node", "cpus", "expected"),
    [
        (4, 2, [4, 4], [2, 2]),
        (5, 0, [4, 4], [4, 1]),
        (2, 0, [4, 4], [1, 1]),
        (12, 0, [4, 4], [6, 6]),
        (3, 0, [], [2, 1]),
    ],
)
def test_tasks_on_nodes(tasks: int, per_node: int, cpus: list[int], expected: list[int]) -> None:
    launch = Launch(
        job_id=1, attempt=0, node="n", uid=1, gid=1, tasks=tasks, tasks_per_node=per_node, cpus_per_node=cpus,
        node_count=2,
    )  # fmt: skip
    assert tasks_on_nodes(launch) == expected


@pytest.mark.parametrize(
    ("stage", "error", "head", "failure", "words"),
    [
        (steplog.Stage.WORK_DIR, errno.EACCES, b"", LaunchFailure.WORK_DIR, "directory /x: Permission denied"),
        (steplog.Stage.STDERR, errno.ENOENT, b"", LaunchFailure.STDIO, "error file /x"),
        (steplog.Stage.IDENTITY, errno.EPERM, b"", LaunchFailure.IDENTITY, "become the user"),
        (steplog.Stage.EXEC, errno.ENOENT, b"#! /bin/bsh -e\n", LaunchFailure.EXEC, "'/bin/bsh' does not exist"),
        (steplog.Stage.EXEC, errno.ENOENT, b"#!/bin/sh\r\n", LaunchFailure.EXEC, "dos2unix"),
        (steplog.Stage.EXEC, errno.ENOEXEC, b"\x7fELF", LaunchFailure.EXEC, "#!/bin/sh"),
        (steplog.Stage.EXEC, errno.E2BIG, b"#!/bin/sh\n", LaunchFailure.EXEC, "longer than"),
        (99, errno.EIO, b"", LaunchFailure.SPAWN, "cannot start"),
    ],
)
def test_failures_are_described(stage: int, error: int, head: bytes, failure: LaunchFailure, words: str) -> None:
    end = steplog.Ended(0, stage, error, 0, 0.0, 1.0, 0, 0, 0, "/x")
    kind, text = describe_failure(end, head, os.strerror)
    assert kind is failure
    assert words in text
    assert "\n" not in text


def test_wait_statuses() -> None:
    assert str(exit_of(3 << 8)) == "3:0"
    assert str(exit_of(9)) == "0:9"
    assert str(exit_of(0x80 | 11)) == "0:11"


@pytest.mark.parametrize(
    ("script", "seconds"),
    [
        (b"#!/bin/sh\nHELIX_EMULATE_RUNTIME=12\n", 12.0),
        (b"# HELIX_EMULATE_RUNTIME='0.25'", 0.25),
        (b"HELIX_EMULATE_RUNTIME=abc", RUNTIME_DEFAULT_S),
        (b"", RUNTIME_DEFAULT_S),
    ],
)
def test_declared_runtime(script: bytes, seconds: float) -> None:
    assert declared_runtime_s(script) == seconds


BASIC = ["--name", "n1", "--controller", "tcp://h:1", "--controller-key", "-key", "--spool", "/s"]


def test_options_take_a_key_that_begins_with_a_dash() -> None:
    options = parse_options(BASIC)
    assert (options.controller_key, options.name, options.spool) == ("-key", "n1", "/s")


@pytest.mark.parametrize(
    "more", [["--name", "n[1-2]"], ["--controller", "h:1"], ["--emulate", "3", "--name", "n[1-2]"], ["--name", "n["]]
)
def test_bad_options_are_refused(more: list[str]) -> None:
    with pytest.raises(UsageError):
        parse_options([*BASIC, *more])


def test_emulated_names() -> None:
    assert parse_options([*BASIC, "--emulate", "3", "--name", "e[0-2]"]).name == "e[0-2]"
    assert parse_options([*BASIC, "--emulate", "3", "--name", "e"]).name == "e[0-2]"


def machine(root: Path, packages: dict[int, tuple[int, int]], online: str) -> str:
    for cpu, (package, core) in packages.items():
        folder = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
        folder.mkdir(parents=True)
        (folder / "physical_package_id").write_text(f"{package}\n")
        (folder / "core_id").write_text(f"{core}\n")
    (root / "sys/devices/system/cpu/online").write_text(online)
    return str(root)


def test_topology_of_two_sockets_with_threads(tmp_path: Path) -> None:
    cpus = {k: (k % 2, k // 2 % 2) for k in range(8)}
    assert probe.topology(machine(tmp_path, cpus, "0-7\n")) == (8, 2, 2, 2)


def test_topology_of_an_uneven_machine_is_one_socket(tmp_path: Path) -> None:
    assert probe.topology(machine(tmp_path, {0: (0, 0), 1: (0, 1), 2: (1, 0)}, "0-2")) == (3, 1, 3, 1)


@pytest.mark.parametrize(("text", "cpus"), [("0-3,8", [0, 1, 2, 3, 8]), ("5", [5]), ("", []), ("x", []), ("3-", [])])
def test_cpu_lists(text: str, cpus: list[int]) -> None:
    assert probe.parse_cpu_list(text) == cpus


def test_this_machine_has_something() -> None:
    found = probe.probe()
    assert found.cpus == found.sockets * found.cores_per_socket * found.threads_per_core
    assert found.real_memory_mib > 0
    assert found.boot_id
