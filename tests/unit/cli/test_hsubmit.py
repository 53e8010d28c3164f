"""hsubmit: what is sent for what was asked, which of several wins, and what is refused."""

from __future__ import annotations

import os
import resource
import stat
from pathlib import Path
from typing import Any

import pytest

from helix.cli import hsubmit
from helix.cli.submit_options import SUBMIT_OPTIONS
from helix.cli.submit_values import DEPENDENCY_KINDS
from helix.errors import NotFound
from helix.model.codec import convert
from helix.model.job import JobSpec
from helix.wire.methods import SubmitArgs

SCRIPT = "#!/bin/sh\n"


@pytest.fixture
def submit(peer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run hsubmit; gives (exit status, what was sent as SubmitArgs or None, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    peer.answers["job.submit"] = {"job_id": 42, "warnings": []}

    def run(*words: str, script: str | bytes | None = None) -> tuple[int, SubmitArgs | None, str, str]:
        peer.calls.clear()
        extra = []
        if script is not None:
            path = tmp_path / "job.sh"
            path.write_bytes(script if isinstance(script, bytes) else script.encode())
            extra = ["job.sh"]
        status = hsubmit.main([*words, *extra])
        out, err = capsys.readouterr()
        # Decoding strictly is the contract: an unknown or badly typed field fails here as it would on the server.
        sent = [convert(args, SubmitArgs, "sent") for name, args in peer.calls if name == "job.submit"]
        return status, sent[0] if sent else None, out, err

    return run


def spec_of(result: tuple[int, SubmitArgs | None, str, str]) -> JobSpec:
    assert result[1] is not None, result[3]
    return result[1].spec


def test_prints_exactly_what_clients_match(submit: Any) -> None:
    assert submit("--wrap", "true")[2] == "Submitted batch job 42\n"
    assert submit("--parsable", "--wrap", "true")[2] == "42\n"
    assert submit("-Q", "--wrap", "true")[2] == ""


def test_defaults_of_a_wrapped_command(submit: Any, tmp_path: Path) -> None:
    status, args, _, _ = submit("--wrap", "echo hi")
    assert status == 0
    assert args.script == "#!/bin/sh\n# This script was created by hsubmit --wrap.\n\necho hi\n"
    spec = args.spec
    assert spec.name == "wrap"
    assert spec.work_dir == str(tmp_path)
    assert spec.submit_host == os.uname().nodename
    assert spec.submit_line == "hsubmit --wrap 'echo hi'"
    assert len(spec.token) == 32
    assert spec.rlimits["NOFILE"][0] == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert f"PATH={os.environ['PATH']}" in args.env


def test_two_submissions_have_two_tokens(submit: Any) -> None:
    assert spec_of(submit("--wrap", "true")).token != spec_of(submit("--wrap", "true")).token


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        (["-N2"], "nodes_max", 2),
        (["-N2-4"], "nodes_max", 4),
        (["-N", "2"], "nodes_min", 2),
        (["-n", "8"], "tasks", 8),
        (["-c", "3"], "cpus_per_task", 3),
        (["--ntasks-per-node=2"], "tasks_per_node", 2),
        (["-t", "90"], "time_limit_s", 5400),
        (["-t", "1-2"], "time_limit_s", 93600),
        (["-t", "0"], "time_limit_s", 0),
        (["--mem=4G"], "mem_per_node_mib", 4096),
        (["--mem=0"], "mem_all", True),
        (["--mem-per-cpu=500"], "mem_per_cpu_mib", 500),
        (["-p", "a,b"], "partitions", ["a", "b"]),
        (["-J", "x y"], "name", "x y"),
        (["-H"], "hold", True),
        (["--nice"], "nice", 100),
        (["--nice=-5"], "nice", -5),
        (["--no-requeue"], "requeue", False),
        (["--requeue"], "requeue", True),
        (["--exclusive"], "exclusive", True),
        (["-w", "n[1-3]"], "nodelist", "n[1-3]"),
        (["-x", "n1"], "exclude", "n1"),
        (["-o", "out.%j"], "stdout", "out.%j"),
        (["-e", "none"], "stderr", "/dev/null"),
        (["--open-mode=a"], "open_mode", "append"),
        (["-a", "1-9:2%3"], "array_limit", 3),
        (["-L", "matlab:2"], "licenses", "matlab:2"),
        (["--gres=gpu:a100:2,nvme"], "gres", "gpu:a100:2,nvme:1"),
        (["--gres=none"], "gres", ""),
        (["-G", "a100:4"], "gpus", "a100:4"),
        (["--gpus-per-task=2"], "gpus_per_task", "2"),
        (["--mem-per-gpu=2G"], "mem_per_gpu_mib", 2048),
        (["--switches=2@10"], "switch_wait_s", 600),
        (["--switches=2"], "switches", 2),
        (["-B", "2:*:1"], "sockets_per_node", 2),
        (["-B", "2:8"], "cores_per_socket", 8),
        (["--hint=nomultithread"], "threads_per_core", 1),
        (["--mincpus=3"], "cpus_min", 3),
        (["--gpus-per-node=2", "--ntasks-per-gpu=3"], "tasks_per_node", 6),
        (["--gres=gpu:1,gpu:a100:1", "--ntasks-per-gpu=2"], "tasks_per_node", 4),
        (["-G4", "--ntasks-per-gpu=2"], "tasks", 8),
        (["--tres-per-task=cpu=4,gres/gpu:a100=1"], "gpus_per_task", "a100:1"),
        (["--tres-per-task=cpu:4"], "cpus_per_task", 4),
        (["-m", "block:cyclic"], "distribution", "block:cyclic"),
        (["--mail-type=end,FAIL", "--mail-type=BEGIN"], "mail_type", ["END", "FAIL", "BEGIN"]),
        (["--kill-on-invalid-dep=yes"], "kill_on_invalid_dep", True),
        (["-k"], "no_kill", True),
        (["--no-kill=off"], "no_kill", False),
        (["--priority=7"], "priority", 7),
        (["--tmp=1G"], "tmp_mib", 1024),
        (["--get-user-env"], "get_user_env", True),
        (["--propagate=NONE"], "rlimits", {}),
    ],
)
def test_option_reaches_its_field(submit: Any, words: list[str], field: str, value: object) -> None:
    assert getattr(spec_of(submit(*words, "--wrap", "true")), field) == value


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--ntasks-per-gpu=2"], "needs the GPUs"),
        (["--gpus=2", "--ntasks-per-gpu=2", "-n4"], "derives the tasks from the GPUs"),
        (["--tres-per-task=license/x=1"], "--tres-per-task=license/x=1 is not supported yet"),
        (["--tres-per-task=cpu=2", "-c2"], "say the same thing twice"),
        (["--gres=gpu:2:2:2"], "more than name, type and count"),
        (["--switches=x"], "is not N or N@TIME"),
        (["-B", "0"], "is not a number of sockets"),
        (["--hint=memory_bound"], "--hint=memory_bound is not supported yet"),
        (["-L", "a|b"], "alternatives"),
    ],
)
def test_requests_for_devices_that_contradict_themselves(submit: Any, words: list[str], message: str) -> None:
    status, args, _, err = submit(*words, "--wrap", "true")
    assert (status, args) == (2, None)
    assert message in err


def test_array_becomes_an_index_set(submit: Any) -> None:
    spec = spec_of(submit("-a", "0-999999", "--wrap", "true"))
    assert len(spec.array) == 1_000_000


def test_signal(submit: Any) -> None:
    signal = spec_of(submit("--signal=B:USR1@300", "--wrap", "true")).signal
    assert (signal.signal, signal.before_s, signal.batch_only) == (10, 300, True)
    assert spec_of(submit("--signal=15", "--wrap", "true")).signal.before_s == 60


def test_dependency(submit: Any) -> None:
    expr = spec_of(submit("-d", "afterok:1:2_3,after:4+10,singleton", "--wrap", "true")).dependency
    assert [(e.kind, e.job_id, e.task_id, e.delay_s) for e in expr.edges] == [
        ("afterok", 1, None, 0),
        ("afterok", 2, 3, 0),
        ("after", 4, None, 600),
        ("singleton", 0, None, 0),
    ]
    assert not expr.any
    assert spec_of(submit("-d", "afterok:1?afterany:2", "--wrap", "true")).dependency.any


def test_dependency_kinds_are_the_controllers() -> None:
    from helixctld.core.dependency_text import KINDS

    assert frozenset(KINDS) == DEPENDENCY_KINDS


def test_command_line_beats_environment_beats_script(submit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    script = SCRIPT + "#SBATCH -n 1 -c 1 -p script\n"
    monkeypatch.setenv("SBATCH_PARTITION", "environ")
    assert spec_of(submit(script=script)).partitions == ["environ"]
    assert spec_of(submit("-p", "line", script=script)).partitions == ["line"]
    monkeypatch.setenv("HBATCH_PARTITION", "helix")
    assert spec_of(submit(script=script)).partitions == ["helix"]
    monkeypatch.delenv("HBATCH_PARTITION")
    monkeypatch.delenv("SBATCH_PARTITION")
    assert spec_of(submit(script=script)).partitions == ["script"]


def test_memory_options_replace_one_another(submit: Any) -> None:
    spec = spec_of(submit("--mem-per-cpu=100", script=SCRIPT + "#SBATCH --mem=5G\n"))
    assert (spec.mem_per_node_mib, spec.mem_per_cpu_mib) == (0, 100)
    spec = spec_of(submit("--mem=5G", script=SCRIPT + "#SBATCH --mem-per-cpu=100\n"))
    assert (spec.mem_per_node_mib, spec.mem_per_cpu_mib) == (5120, 0)


def test_script_lines_both_spellings_and_where_they_end(submit: Any) -> None:
    script = (
        "#!/bin/bash\n\n# a remark\n#HBATCH -J 'two words' # trailing remark\n  # indented\n"
        '#SBATCH --comment="say \\"hi\\"" -n4\necho start\n#SBATCH -n 9\n'
    )
    spec = spec_of(submit(script=script))
    assert (spec.name, spec.comment, spec.tasks) == ("two words", 'say "hi"', 4)


def test_script_arguments_and_name(submit: Any, tmp_path: Path) -> None:
    (tmp_path / "job.sh").write_text(SCRIPT)
    _, args, _, _ = submit("-n1", "job.sh", "-n", "9", "--flag")
    assert args.spec.args == ["-n", "9", "--flag"]
    assert args.spec.tasks == 1
    assert args.spec.name == "job.sh"
    assert args.spec.script_name == str(tmp_path / "job.sh")


def test_standard_input(submit: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_text(SCRIPT + "#SBATCH -n3\n")
    with path.open() as file:
        monkeypatch.setattr("sys.stdin", file)
        _, args, _, _ = submit()
    assert args.spec.tasks == 3
    assert args.spec.name == "hsubmit"


@pytest.mark.parametrize(
    ("script", "code", "part"),
    [
        ("", "SCRIPT_INVALID", "is empty"),
        (" \n\n", "SCRIPT_INVALID", "only whitespace"),
        (b"#!/bin/sh\n\0\n", "SCRIPT_INVALID", "NUL byte on line 2"),
        (b"\x7fELF\0", "SCRIPT_INVALID", "NUL byte on line 1"),
        ("#!/bin/sh\r\necho\r\n", "SCRIPT_INVALID", "Batch script contains DOS line breaks"),
        ("echo hi\n", "SCRIPT_INVALID", "This does not look like a batch script"),
        ("#!\necho\n", "SCRIPT_INVALID", "names no interpreter"),
        (b"#!/bin/sh\n# caf\xe9\n", "SCRIPT_INVALID", "byte 0xe9 on line 2"),
        ("#!/bin/sh\n" + "#" * (4 << 20), "SCRIPT_TOO_LARGE", "larger than 4 MiB"),
    ],
)
def test_scripts_that_cannot_work(submit: Any, script: str | bytes, code: str, part: str) -> None:
    status, args, _, err = submit(script=script)
    assert (status, args) == (1, None)
    assert part in err
    assert f"({code})" in err


def test_missing_script_hints_at_a_near_name(submit: Any, tmp_path: Path) -> None:
    (tmp_path / "train.sh").write_text(SCRIPT)
    status, _, _, err = submit("trian.sh")
    assert status == 1
    assert err == "hsubmit: no batch script 'trian.sh' (SCRIPT_UNKNOWN)\ndid you mean 'train.sh'?\n"


def test_unreadable_script_and_directory(submit: Any, tmp_path: Path) -> None:
    assert "is a directory" in submit(str(tmp_path))[3]
    path = tmp_path / "closed.sh"
    path.write_text(SCRIPT)
    path.chmod(0)
    if os.access(path, os.R_OK):  # root reads everything
        assert stat.S_IMODE(path.stat().st_mode) == 0
    else:
        assert "permission denied" in submit("closed.sh")[3]


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("#SBATCH --tme=5", "job.sh, line 3: no option --tme (OPTION_INVALID)\ndid you mean '--time'?"),
        ("#SBATCH --gpu-bind=none", "job.sh, line 3: --gpu-bind is not supported yet (NOT_SUPPORTED)"),
        ("#SBATCH -t soon", "job.sh, line 3: --time: bad time limit 'soon' (TIME_INVALID)"),
        ("#SBATCH -n 4 tasks", "job.sh, line 3: 'tasks' belongs to no option"),
        ("#SBATCH hetjob -n2", "job.sh, line 3: '-n2' beside hetjob, which stands alone"),
        ("#SBATCH -J 'open", "job.sh, line 3: a ' is not closed"),
        ("#SBATCH --wrap=x", "job.sh, line 3: --wrap has no place in a script"),
    ],
)
def test_bad_script_lines_are_named(submit: Any, line: str, part: str) -> None:
    status, args, _, err = submit(script=f"{SCRIPT}# first\n{line}\n")
    assert (status, args) == (2, None)
    assert part in err


@pytest.mark.parametrize("option", [o.name for o in SUBMIT_OPTIONS if o.status == "later"])
def test_options_of_later_parts_are_refused_everywhere(
    submit: Any, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = next(o for o in SUBMIT_OPTIONS if o.name == option)
    word = f"{option}=1" if row.metavar else option
    status, args, _, err = submit(word, "--wrap", "true")
    assert (status, args) == (2, None)
    assert f"{option} is not supported yet (NOT_SUPPORTED)" in err
    assert "line 2" in submit(script=f"{SCRIPT}#SBATCH {word}\n")[3]
    if row.env:
        monkeypatch.setenv(f"SBATCH_{row.env}", "1")
        status, args, _, err = submit("--wrap", "true")
        assert (status, args) == (2, None)
        assert f"SBATCH_{row.env} is not supported yet" in err


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["-d", "afterok:1,afterany:2?after:3"], "not both"),
        (["-d", "aftreok:1"], "did you mean 'afterok'?"),
        (["-d", "afterok:x"], "is not a job id"),
        (["-d", "afterok:0"], "is not a job id"),
        (["-d", "afterok"], "names no job"),
        (["-d", "afterok:5+10"], "+minutes goes with after"),
        (["-d", "expand:5"], "--dependency=expand is not supported yet"),
        (["-a", "9-1"], "runs backwards"),
        (["-t", "1:2:3:4"], "bad time limit"),
        (["--mem", "-5"], "bad size"),
        (["--mem-per-cpu=0"], "0 is not a memory size for a CPU"),
        (["-N4-2"], "the least is above the most"),
        (["-n", "0"], "not between 1"),
        (["--begin=someday"], "bad time"),
        (["--signal=R:USR1"], "--signal=R: is not supported yet"),
        (["--signal=NOPE"], "there is no signal"),
        (["--exclusive=user"], "--exclusive=user is not supported yet"),
        (["-w", "n[1-"], "host list"),
        (["--propagate=FOO"], "there is no limit 'FOO'"),
        (["--mail-type=SOMETIMES"], "is not one of"),
        (["-m", "random"], "is not block"),
        (["--export="], "a list is missing"),
        (["-J", "a\nb"], "cannot be printed"),
        (["-n1", ":", "-n2", "-t", "5"], "component 1: --time is for the whole job"),
        (["-n1", ":", "-a", "1-3"], "component 1: --array is for the whole job"),
    ],
)
def test_bad_values_are_usage_errors(submit: Any, words: list[str], part: str) -> None:
    status, args, _, err = submit("--wrap=true", *words)
    assert (status, args) == (2, None)
    assert part in err


def test_wrap_and_script_exclude_each_other(submit: Any) -> None:
    status, _, _, err = submit("--wrap", "true", script=SCRIPT)
    assert status == 2
    assert "do not go together" in err


def test_export_chooses_the_environment(submit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", "1")
    monkeypatch.setenv("SLURM_THING", "s")

    def env(*words: str) -> tuple[dict[str, str], bool]:
        _, args, _, err = submit(*words, "--wrap", "true")
        assert args is not None, err
        return dict(item.split("=", 1) for item in args.env), args.spec.get_user_env

    everything, login = env()
    assert everything["MINE"] == "1"
    assert not login
    assert env("--export=ALL,X=a")[0] == {**everything, "X": "a"}
    for words in (["--export=NONE"], ["--export=NIL"]):
        found, login = env(*words)
        assert "MINE" not in found
        assert found["SLURM_THING"] == "s"
        assert login is (words == ["--export=NONE"])
    found, login = env("--export=MINE,X='a,b',GONE")
    assert (found["MINE"], found["X"], login) == ("1", "a,b", True)
    assert "PATH" not in found
    assert "GONE" not in found


def test_export_file(submit: Any, tmp_path: Path) -> None:
    (tmp_path / "vars").write_bytes(b"A=1\nline two\0B=2\0")
    _, args, _, _ = submit("--export=NIL", "--export-file=vars", "--wrap", "true")
    assert {"A=1\nline two", "B=2"} <= set(args.env)
    (tmp_path / "vars").write_bytes(b"nonsense\0")
    assert "is not NAME=value" in submit("--export-file=vars", "--wrap", "true")[3]


def test_variables_that_are_not_text_are_left_out_with_a_warning(submit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ODD", b"caf\xe9".decode("utf-8", "surrogateescape"))
    status, args, _, err = submit("--wrap", "true")
    assert status == 0
    assert not any(item.startswith("ODD=") for item in args.env)
    assert "not UTF-8 text, left out of the environment: ODD" in err


def test_environment_too_large_names_the_variable(submit: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "vars").write_bytes(b"HUGE=" + b"x" * (4 << 20))
    status, args, _, err = submit("--export-file=vars", "--wrap", "true")
    assert (status, args) == (1, None)
    assert "larger than" in err or "HUGE" in err


def test_umask(submit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    old = os.umask(0o027)
    try:
        assert spec_of(submit("--wrap", "true")).umask == 0o027
        monkeypatch.setenv("SLURM_UMASK", "0077")
        assert spec_of(submit("--wrap", "true")).umask == 0o077
    finally:
        os.umask(old)


def test_relative_chdir_starts_here(submit: Any, tmp_path: Path) -> None:
    result = submit("-D", "sub", "--wrap", "true")
    assert spec_of(result).work_dir == str(tmp_path / "sub")
    assert "there is no directory" in result[3]
    (tmp_path / "sub").mkdir()
    assert submit("-D", "sub", "--wrap", "true")[3] == ""


def test_vanished_working_directory_is_refused(submit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> str:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr("os.getcwd", gone)
    status, args, _, err = submit("--wrap", "true")
    assert (status, args) == (1, None)
    assert "WORK_DIR_INVALID" in err
    assert submit("-D", str(tmp_path), "--wrap", "true")[0] == 0


def test_foreign_directives_are_not_dropped_silently(submit: Any) -> None:
    script = SCRIPT + "#PBS -l nodes=1\n"
    assert "line 2: #PBS and #BSUB lines are not read" in submit(script=script)[3]
    assert submit("--ignore-pbs", script=script)[3] == ""


def test_refusal_of_the_controller_is_shown(submit: Any, peer: Any) -> None:
    peer.answers["job.submit"] = NotFound("no partition 'gpuu'", code="PARTITION_UNKNOWN", hint="did you mean 'gpu'?")
    status, _, out, err = submit("-p", "gpuu", "--wrap", "true")
    assert (status, out) == (1, "")
    assert err == "hsubmit: no partition 'gpuu' (PARTITION_UNKNOWN)\ndid you mean 'gpu'?\n"


@pytest.mark.parametrize(
    ("ends", "status"),
    [
        ([("COMPLETED", "0:0")], 0),
        ([("FAILED", "7:0")], 7),
        ([("FAILED", "0:9")], 1),
        ([("CANCELLED", "0:0")], 1),
        ([("COMPLETED", "0:0"), ("FAILED", "3:0"), ("FAILED", "2:0")], 3),
    ],
)
def test_wait_exits_as_the_job(submit: Any, peer: Any, ends: list[tuple[str, str]], status: int) -> None:
    peer.answers["job.wait"] = [
        {"job_id": 42, "display_id": "42", "state": state, "exit_code": code} for state, code in ends
    ]
    assert submit("-W", "--wrap", "true")[0] == status


def test_test_only_submits_nothing_and_says_where(submit: Any, peer: Any) -> None:
    peer.answers["job.submit"] = {
        "test": True,
        "job_id": 43,
        "t_start": 1_800_000_000.5,
        "now": True,
        "cpus": 4,
        "nodes": "n[1-2]",
        "partition": "debug",
    }
    status, args, out, err = submit("--test-only", "-N2", "--wrap", "true")
    assert (status, out, args.test_only) == (0, "", True)
    assert err.startswith("hsubmit: Job 43 to start at 2027-01-")
    assert err.endswith(" using 4 processors on nodes n[1-2] in partition debug\n")
    peer.answers["job.submit"] = {"test": True, "partition": "debug", "msg": "no start is in sight within 7 days"}
    assert "would wait in partition debug: no start is in sight" in submit("--test-only", "--wrap", "true")[3]


def test_no_controller_names_the_socket_and_the_remedy(submit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELIX_SOCKET", "/nonexistent/socket")
    monkeypatch.setattr("helix.client.CONNECT_S", 0.0)
    from helix import client

    monkeypatch.setattr(
        client.Client.__init__, "__kwdefaults__", {**client.Client.__init__.__kwdefaults__, "connect_s": 0.0}
    )
    status, _, _, err = submit("--wrap", "true")
    assert status == 3
    assert "/nonexistent/socket" in err
    assert "hcluster up" in err


def test_every_stored_or_honoured_option_is_used() -> None:
    """An option that is parsed but read nowhere would be dropped silently."""
    source = Path(hsubmit.__file__).read_text()
    used = set(hsubmit.SPEC_FIELDS)
    for option in SUBMIT_OPTIONS:
        if option.status in ("honoured", "stored"):
            assert option.field in used or f'"{option.field}"' in source, option.name
    assert used - {"name"} <= set(JobSpec.__struct_fields__)


def test_components_of_the_command_line(submit: Any) -> None:
    spec = spec_of(
        submit(
            "-J",
            "h",
            "-n4",
            "--mem=2G",
            "-x",
            "n9",
            ":",
            "-p",
            "gpu",
            "-N2",
            "-C",
            "a*1",
            ":",
            "--mem=1G",
            script=SCRIPT,
        )
    )
    assert (spec.tasks, spec.mem_per_node_mib, spec.exclude) == (4, 2048, "n9")
    one, two = spec.components
    assert (one.partitions, one.nodes_min, one.constraint, one.tasks) == (["gpu"], 2, "a*1", 0)
    assert (one.mem_per_node_mib, one.exclude) == (2048, "n9"), "--mem and --exclude go on to the next component"
    assert (two.mem_per_node_mib, two.exclude, two.nodes_min) == (1024, "n9", 1)


def test_components_of_a_script_and_arguments_with_a_colon(submit: Any) -> None:
    script = "#!/bin/sh\n#SBATCH -n1 -J h\n#SBATCH hetjob\n#SBATCH -n3 -p gpu\n#HBATCH packjob\n#HBATCH -N2\ntrue\n"
    spec = spec_of(submit(script=script))
    assert spec.tasks == 1
    assert [(part.tasks, part.partitions, part.nodes_min) for part in spec.components] == [(3, ["gpu"], 1), (0, [], 2)]
    spec = spec_of(submit("-n2", ":", "-n5", script=script))
    assert [spec.tasks, *(part.tasks for part in spec.components)] == [2, 5, 0], "the command line wins"
    assert spec_of(submit("--wrap", "x", ":", "-n2", ":")).components[1:] == [JobSpec()]


def test_a_colon_after_the_script_is_an_argument(submit: Any, tmp_path: Path) -> None:
    (tmp_path / "a.sh").write_text(SCRIPT)
    spec = spec_of(submit("-n2", "a.sh", ":", "-n3"))
    assert (spec.args, spec.components) == ([":", "-n3"], [])
