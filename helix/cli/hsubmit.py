"""hsubmit: hand a batch script to the controller and print the job's id.

Options come from the script's `#HBATCH`/`#SBATCH` lines, then the environment, then the command line; of two for the
same thing the later in this order wins (sbatch(1)).  The request carries a random token, so that sending it again
after a lost answer never makes a second job; the id is printed only after the controller made the job durable.
"""

from __future__ import annotations

import os
import sys

from helix.cli import app, output, submit_env
from helix.cli.options import Command, Parser, given_in_environment
from helix.cli.submit_components import read_components, split_components
from helix.cli.submit_options import SUBMIT_OPTIONS
from helix.cli.submit_script import Script, read_header, read_script, wrap
from helix.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from helix.client import Client

ENV_PREFIXES = ("HBATCH_", "SBATCH_")
ARGS_MAX = 4096

COMMAND = Command(
    "hsubmit",
    "submit a batch script to the cluster",
    [
        "hsubmit [OPTION...] SCRIPT [ARGUMENT...]",
        "hsubmit [OPTION...] < SCRIPT",
        "hsubmit [OPTION...] --wrap COMMAND",
        "hsubmit [OPTION...] : [OPTION...] SCRIPT [ARGUMENT...]",
    ],
    SUBMIT_OPTIONS,
    operands=(
        ("SCRIPT", "the batch script; - or nothing: standard input"),
        ("ARGUMENT", "arguments of the script"),
    ),
    permute=False,
    env=(
        *app.COMMON_ENV,
        ("HBATCH_*, SBATCH_*", "defaults of options, as shown there; stronger than the script's lines"),
        ("SLURM_UMASK", "umask of the job, octal"),
    ),
    env_prefixes=ENV_PREFIXES,
    exits=(*app.EXIT_STATUSES, (0, "with --wait: the exit status of the job, 1 if a signal ended it")),
    see_also=("hqueue(1)", "hcancel(1)", "hlog(1)", "hwait(1)", "hwhy(1)", "helix-expressions(7)"),
    examples=(
        ("hsubmit job.sh", "submit a script"),
        ("hsubmit -n 4 -t 10 --wrap 'make -j4'", "submit a command line"),
        ("hsubmit -a 0-999%50 --parsable task.sh", "a thousand tasks, fifty at a time"),
    ),
)

#: Values that go into JobSpec under their own name.
SPEC_FIELDS = (
    "account",
    "qos",
    "wckey",
    "name",
    "comment",
    "partitions",
    "tasks",
    "tasks_per_node",
    "tasks_per_core",
    "tasks_per_socket",
    "cpus_per_task",
    "mem_per_cpu_mib",
    "tmp_mib",
    "constraint",
    "prefer",
    "require",
    "rank",
    "exclusive",
    "oversubscribe",
    "contiguous",
    "spread_job",
    "use_min_nodes",
    "nodelist",
    "exclude",
    "licenses",
    "gres",
    "gpus",
    "gpus_per_node",
    "gpus_per_socket",
    "gpus_per_task",
    "gres_flags",
    "cpus_per_gpu",
    "mem_per_gpu_mib",
    "cpus_min",
    "segment",
    "sockets_per_node",
    "cores_per_socket",
    "threads_per_core",
    "distribution",
    "time_limit_s",
    "time_min_s",
    "t_begin",
    "t_deadline",
    "signal",
    "dependency",
    "kill_on_invalid_dep",
    "hold",
    "nice",
    "priority",
    "requeue",
    "no_kill",
    "reservation",
    "stdin",
    "stdout",
    "stderr",
    "open_mode",
    "export",
    "mail_user",
)


class Submission:
    """A request ready to be sent, and how its answer is to be shown."""

    __slots__ = ("args", "notes", "values")

    def __init__(self, args: dict[str, Any], values: dict[str, Any], notes: list[str]) -> None:
        self.args = args
        self.values = values
        self.notes = notes


def prepare(invocation: app.Invocation) -> Submission:
    """Read script, environment and options; raises HelixError for whatever cannot work."""
    parser = Parser(invocation.prog, invocation.command.options)
    command_line, operands = split_components(invocation.words, parser)
    if len(operands) - 1 > ARGS_MAX:
        raise UsageError(f"more than {ARGS_MAX} arguments for the script")
    wrapped = [item.text for given in command_line for item in given if item.option.field == "wrap"]
    script = _script(operands, wrapped[-1] if wrapped else None)
    header = read_header(script, parser)
    environment = given_in_environment(SUBMIT_OPTIONS, ENV_PREFIXES, os.environ)
    components = read_components(header.components, environment, command_line)
    values = components[0]
    notes = []
    if header.foreign_line and not values.get("ignore_pbs"):
        notes.append(
            f"{script.name or 'standard input'}, line {header.foreign_line}: #PBS and #BSUB lines are not read "
            "(--ignore-pbs silences this)"
        )
    spec = _spec(values, script, operands, invocation)
    if len(components) > 1:
        spec["components"] = [_resources(part) for part in components[1:]]
    if "work_dir" in values and not os.path.isdir(spec["work_dir"]):
        # No refusal: the nodes may have it.
        notes.append(f"there is no directory '{spec['work_dir']}' on this host")
    exported = submit_env.export_environment(values.get("export", ""), values.get("export_file", ""), os.environ)
    if exported.get_user_env or values.get("get_user_env"):
        spec["get_user_env"] = True
    args = {"spec": spec, "script": script.text, "env": exported.lines()}
    if exported.dropped:
        notes.append(f"not UTF-8 text, left out of the environment: {' '.join(exported.dropped)[:200]}")
    for name in ("user", "group", "test_only"):
        if values.get(name):
            args[name] = values[name]
    return Submission(args, values, notes)


def _script(operands: list[str], command: str | None) -> Script:
    if command is None:
        return read_script(operands[0] if operands else "")
    if operands:
        raise UsageError(
            f"--wrap and a script ('{operands[0][:60]}') do not go together",
            hint="quote the whole command line of --wrap",
        )
    if not command.strip():
        raise UsageError("--wrap needs a command line")
    return wrap(command)


def _resources(values: dict[str, Any]) -> dict[str, Any]:
    """What is asked for, as fields of JobSpec; of a component after the first this is all."""
    spec = {name: values[name] for name in SPEC_FIELDS if name in values}
    if values.get("cpus_per_task") == 1:
        spec["cpus_per_task_given"] = True
    if "nodes" in values:
        spec["nodes_min"], spec["nodes_max"] = values["nodes"]
    if "mem" in values:
        if values["mem"]:
            spec["mem_per_node_mib"] = values["mem"]
        else:
            spec["mem_all"] = True
    if "switches" in values:
        spec["switches"], wait_s = values["switches"]
        if wait_s is not None:
            spec["switch_wait_s"] = wait_s
    if "extra_node_info" in values:
        names = ("sockets_per_node", "cores_per_socket", "threads_per_core")
        given = zip(names, values["extra_node_info"], strict=True)
        spec = {**{name: number for name, number in given if number}, **spec}
    if "ntasks_per_gpu" in values or "tres_per_task" in values:
        from helix.cli.submit_devices import add_tasks

        add_tasks(values, spec)
    _require_text(spec)
    return spec


def _spec(values: dict[str, Any], script: Script, operands: list[str], invocation: app.Invocation) -> dict[str, Any]:
    """JobSpec in JSON form, without fields that have their default."""
    spec = _resources(values)
    if "array" in values:
        spec["array"], limit = values["array"]
        if limit:
            spec["array_limit"] = limit
    if "mail_type" in values:
        spec["mail_type"] = list(dict.fromkeys(word for listed in values["mail_type"] for word in listed))
    if not spec.get("name"):
        spec["name"] = "wrap" if "wrap" in values else os.path.basename(script.name) if script.name else invocation.prog
    if script.name:
        spec["script_name"] = os.path.abspath(script.name)
    if len(operands) > 1:
        spec["args"] = operands[1:]
    spec["work_dir"] = values.get("work_dir") or submit_env.working_directory()
    if "work_dir" in values:
        spec["submit_dir"] = submit_env.submit_directory(os.environ)
    spec["umask"] = submit_env.umask(os.environ)
    spec["rlimits"] = submit_env.resource_limits(values.get("propagate", "ALL"))
    spec["submit_host"] = os.uname().nodename
    spec["submit_line"] = submit_env.submit_line([invocation.prog, *invocation.words])
    spec["token"] = os.urandom(16).hex()
    _require_text(spec)
    return spec


def _require_text(spec: dict[str, Any]) -> None:
    """Arguments that are not UTF-8 cannot be sent; say which."""
    for name, value in spec.items():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and not text.isascii():
                try:
                    text.encode()
                except UnicodeEncodeError:
                    if name == "submit_line":
                        spec[name] = text.encode("utf-8", "replace").decode()
                        continue
                    shown = text.encode("utf-8", "backslashreplace").decode()[:80]
                    raise UsageError(f"{name}: '{shown}' is not UTF-8 text") from None


def _test_only(invocation: app.Invocation, reply: dict[str, Any]) -> int:
    """What `--test-only` learned, on stderr as sbatch has it."""
    if reply.get("t_start"):
        from helix.cli.moments import stamp

        invocation.note(
            f"Job {reply.get('job_id', 0)} to start at {stamp(float(int(reply['t_start'])))} "
            f"using {reply.get('cpus', 0)} processors on nodes {reply.get('nodes', '')} "
            f"in partition {reply.get('partition', '')}"
        )
        return 0
    why = reply.get("msg") or reply.get("reason") or "not now"
    invocation.note(f"the job would wait in partition {reply.get('partition', '')}: {why}")
    return 0


def wait_status(frames: Any) -> int:
    """The exit status of `--wait`: the highest exit code of the jobs, 1 for one that a signal or the system ended."""
    status = 0
    for frame in frames:
        if not frame.get("state"):
            continue
        code, _, signal = str(frame.get("exit_code", "0:0")).partition(":")
        one = int(code) if code.isdigit() else 1
        if signal not in ("", "0") or (one == 0 and frame["state"] != "COMPLETED"):
            one = 1
        status = max(status, one)
    return status


def _submit(client: Client, invocation: app.Invocation, submission: Submission) -> int:
    values = submission.values
    reply = client.call("job.submit", submission.args)
    quiet = values.get("quiet")
    if not quiet:
        for warning in reply.get("warnings", ()):
            invocation.note(f"warning: {warning}")
    if reply.get("test"):
        return _test_only(invocation, reply)
    job_id = reply["job_id"]
    if not quiet:
        output.put(str(job_id) if values.get("parsable") else f"Submitted batch job {job_id}")
        sys.stdout.flush()
    if not values.get("wait"):
        return 0
    return wait_status(client.stream("job.wait", {"ids": [str(job_id)]}))


def _body(invocation: app.Invocation) -> int:
    submission = prepare(invocation)
    if not submission.values.get("quiet"):
        for text in submission.notes:
            invocation.note(f"warning: {text}")
    if submission.values.get("verbose"):
        shown = {name: value for name, value in submission.args["spec"].items() if name != "token"}
        invocation.note(f"{shown}, environment of {len(submission.args['env'])} variables")
    with app.connect() as client:
        return _submit(client, invocation, submission)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    return app.run(COMMAND, _body, argv)


if __name__ == "__main__":
    sys.exit(main())
