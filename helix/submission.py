"""From sbatch's words to the arguments of job.submit: the pure part of submitting from Python.

Standard library only; the parsers of times, sizes and arrays are imported when an option needs them.
"""

from __future__ import annotations

import os

from helix.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any, TypedDict

    class SubmitOptions(TypedDict, total=False):
        """Options of `submit`; the names are sbatch's, its aliases in brackets.  All may be left out."""

        wrap: str  # a command line to run instead of a script
        args: Sequence[str]  # of the script
        name: str  # [job_name]
        job_name: str
        partition: str | Sequence[str]
        account: str
        qos: str
        wckey: str
        comment: str
        nodes: int | str  # 2, or "2-4"
        tasks: int  # [ntasks]
        ntasks: int
        tasks_per_node: int  # [ntasks_per_node]
        ntasks_per_node: int
        tasks_per_core: int  # [ntasks_per_core] at most
        ntasks_per_core: int
        tasks_per_socket: int  # [ntasks_per_socket] at most
        ntasks_per_socket: int
        cpus_per_task: int
        mem: int | str  # of each node; "4G"; a number is MiB; 0 = all
        mem_per_cpu: int | str
        tmp: int | str
        exclusive: bool
        oversubscribe: bool
        contiguous: bool
        spread_job: bool
        use_min_nodes: bool
        constraint: str
        components: Sequence[Mapping[str, Any]]  # of a heterogeneous job, after the first: what each asks for
        require: str
        rank: str
        nodelist: str | Sequence[str]
        exclude: str | Sequence[str]
        licenses: str  # "matlab:2,ansys"
        reservation: str  # one of these, comma-separated
        gres: str  # on each node: "gpu:a100:2,nvme"
        gpus: int | str  # of the whole job: 4, "a100:4"
        gpus_per_node: int | str
        gpus_per_socket: int | str
        gpus_per_task: int | str
        cpus_per_gpu: int
        mem_per_gpu: int | str
        switches: int | str  # "1@0:30:00"
        mincpus: int  # least CPUs on each node
        segment: int  # each so many nodes in one block
        sockets_per_node: int
        cores_per_socket: int
        threads_per_core: int
        time_limit: int | str | Any  # [time] "1:30:00"; a number is minutes, as in sbatch; or a timedelta
        time: int | str | Any
        time_min: int | str | Any
        begin: float | str | Any  # "now+1hour"; a number is epoch seconds; or a datetime
        deadline: float | str | Any
        signal: str  # "[B:]USR1[@120]"
        dependency: str  # "afterok:12:13,singleton"
        kill_on_invalid_dep: bool
        hold: bool
        nice: int
        priority: int
        requeue: bool
        no_kill: bool
        array: str | Iterable[int]  # "1-10:2%4"
        array_limit: int
        work_dir: str | os.PathLike[str]  # [chdir] default: the current directory
        chdir: str | os.PathLike[str]
        stdin: str  # [input]
        stdout: str  # [output]
        stderr: str  # [error]
        input: str
        output: str
        error: str
        open_mode: str
        umask: int
        rlimits: Mapping[str, tuple[int, int]]
        get_user_env: bool
        env: Mapping[str, str] | None  # default: a copy of this process's
        mail_type: str | Sequence[str]
        mail_user: str
        script_name: str
        submit_line: str
        token: str
        user: str  # [uid] on behalf of: root only
        uid: int | str
        group: str  # [gid]
        gid: int | str
        test_only: bool
        spec: Mapping[str, Any]  # fields of JobSpec that have no word here


_ALIASES = {
    "job_name": "name",
    "ntasks": "tasks",
    "ntasks_per_node": "tasks_per_node",
    "ntasks_per_core": "tasks_per_core",
    "ntasks_per_socket": "tasks_per_socket",
    "time": "time_limit",
    "mincpus": "cpus_min",
    "chdir": "work_dir",
    "input": "stdin",
    "output": "stdout",
    "error": "stderr",
    "uid": "user",
    "gid": "group",
}
_SAME = frozenset(
    {
        "name",
        "account",
        "qos",
        "wckey",
        "comment",
        "tasks",
        "tasks_per_node",
        "tasks_per_core",
        "tasks_per_socket",
        "cpus_per_task",
        "exclusive",
        "oversubscribe",
        "contiguous",
        "spread_job",
        "use_min_nodes",
        "constraint",
        "prefer",
        "require",
        "rank",
        "licenses",
        "reservation",
        "gres",
        "cpus_per_gpu",
        "cpus_min",
        "segment",
        "sockets_per_node",
        "cores_per_socket",
        "threads_per_core",
        "kill_on_invalid_dep",
        "hold",
        "nice",
        "priority",
        "requeue",
        "no_kill",
        "array_limit",
        "stdin",
        "stdout",
        "stderr",
        "open_mode",
        "get_user_env",
        "mail_user",
        "script_name",
        "submit_line",
        "token",
    }
)
_OTHER = frozenset(
    {
        "wrap",
        "args",
        "partition",
        "nodes",
        "mem",
        "mem_per_cpu",
        "mem_per_gpu",
        "gpus",
        "gpus_per_node",
        "gpus_per_socket",
        "gpus_per_task",
        "switches",
        "tmp",
        "nodelist",
        "exclude",
        "time_limit",
        "time_min",
        "begin",
        "deadline",
        "signal",
        "dependency",
        "array",
        "work_dir",
        "umask",
        "rlimits",
        "env",
        "mail_type",
        "user",
        "group",
        "test_only",
        "components",
        "spec",
    }
)
_DEPENDENCIES = frozenset({"after", "afterok", "afterany", "afternotok", "aftercorr"})
_DEPENDENCY_FORM = "the form is afterok:12:13,afterany:14_3,singleton or, for any one of them, afterok:12?afterok:13"
DEPENDENCY_CHARS_MAX = 64 << 10


def new_token() -> str:
    """A 128-bit key, hex: submits with the same one make one job."""
    return os.urandom(16).hex()


def submit_args(script: str | os.PathLike[str] | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of job.submit; what is not given is not there.

    `script` is the text of a script if it is a str that starts with `#!` or has a line break, otherwise the path of
    a file.  Directives in the script (`#HELIX`, `#SBATCH`) are comments here: options come from `options` alone.
    Raises UsageError for anything malformed, TypeError for an unknown option.
    """
    given = _words_of(options)
    text, script_name = _script(script, given.pop("wrap", None))
    args: dict[str, Any] = {"script": text}
    env = given.pop("env", None)
    args["env"] = env_list(os.environ if env is None else env)
    for name in ("user", "group"):
        if name in given:
            args[name] = str(given.pop(name))
    if given.pop("test_only", False):
        args["test_only"] = True
    extra = given.pop("spec", {})
    components = given.pop("components", ())
    spec: dict[str, Any] = {"script_name": script_name, **_fields(given)}
    if components:
        spec["components"] = [_fields(_words_of(part)) for part in components]
    if not spec.get("name"):
        spec["name"] = os.path.basename(spec["script_name"])
    if "work_dir" in spec:
        spec["submit_dir"] = _present_directory()
    else:
        spec["work_dir"] = os.getcwd()
    spec.setdefault("submit_host", os.uname().nodename)
    spec.setdefault("token", new_token())
    spec.update(extra)
    args["spec"] = {name: value for name, value in spec.items() if value is not None and value != ""}
    return args


def _words_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options under their own names; raises TypeError for an unknown one, UsageError for one given twice."""
    given: dict[str, Any] = {}
    for word, value in options.items():
        name = _ALIASES.get(word, word)
        if name not in _SAME and name not in _OTHER:
            raise TypeError(f"submit() has no option '{word}'")
        if name in given:
            raise UsageError(f"'{word}' and '{name}' say the same thing twice", code="USAGE")
        if value is not None or name == "env":
            given[name] = value
    return given


def _fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options as fields of a JobSpec."""
    spec: dict[str, Any] = {}
    for name, value in given.items():
        if name in _SAME:
            spec[name] = value
            if name == "cpus_per_task" and value == 1:
                spec["cpus_per_task_given"] = True
        else:
            _translate(name, value, spec)
    return spec


def _present_directory() -> str:
    """Where this process stands; "" when that directory is gone."""
    try:
        return os.getcwd()
    except OSError:
        return ""


def env_list(env: Mapping[str, str]) -> list[str]:
    """`NAME=value` for every variable that is text; bytes that are not UTF-8 cannot travel and are left out."""
    entries = []
    for name, value in env.items():
        entry = f"{name}={value}"
        try:
            entry.encode()
        except UnicodeEncodeError:
            continue
        if name and "=" not in name and "\0" not in entry:
            entries.append(entry)
    return entries


def _script(script: str | os.PathLike[str] | None, wrap: str | None) -> tuple[str, str]:
    if (script is None) == (wrap is None):
        raise UsageError("give a script or wrap=, one of the two", code="USAGE")
    if wrap is not None:
        return f"#!/bin/sh\n# made by Helix from a wrapped command\n{wrap}\n", "wrap"
    if isinstance(script, str) and (script.startswith("#!") or "\n" in script):
        return script, "script"
    assert script is not None
    path = os.fspath(script)
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return file.read(), path
    except OSError as exc:
        raise UsageError(f"{path}: {exc.strerror}", code="SCRIPT_UNREADABLE") from exc
    except UnicodeDecodeError as exc:
        raise UsageError(f"{path}: not a script: not UTF-8 text", code="SCRIPT_INVALID") from exc


def _translate(name: str, value: Any, spec: dict[str, Any]) -> None:
    """One option that is written in another way in a JobSpec."""
    if name == "partition":
        spec["partitions"] = _words(value)
    elif name == "mail_type":
        spec["mail_type"] = [word.upper() for word in _words(value)]
    elif name in ("nodelist", "exclude"):
        spec[name] = value if isinstance(value, str) else ",".join(value)
    elif name == "args":
        spec["args"] = [str(arg) for arg in value]
    elif name == "nodes":
        spec["nodes_min"], spec["nodes_max"] = _node_range(value)
    elif name == "mem":
        mib = _mib(value)
        spec.update({"mem_per_node_mib": mib} if mib else {"mem_all": True})
    elif name == "mem_per_cpu":
        spec["mem_per_cpu_mib"] = _mib(value)
    elif name == "mem_per_gpu":
        spec["mem_per_gpu_mib"] = _mib(value)
    elif name in ("gpus", "gpus_per_node", "gpus_per_socket", "gpus_per_task"):
        spec[name] = str(value)
    elif name == "switches":
        count, _, wait = str(value).partition("@")
        spec["switches"] = int(count) if count.isdecimal() else -1
        spec["switch_wait_s"] = _seconds(wait) if wait else None
    elif name == "tmp":
        spec["tmp_mib"] = _mib(value)
    elif name in ("time_limit", "time_min"):
        spec[f"{name}_s"] = _seconds(value)
    elif name in ("begin", "deadline"):
        spec[f"t_{name}"] = _moment(value)
    elif name == "signal":
        spec["signal"] = parse_signal_spec(value)
    elif name == "dependency":
        spec["dependency"] = parse_dependency(value)
    elif name == "array":
        _array(value, spec)
    elif name == "work_dir":
        spec["work_dir"] = os.path.abspath(os.fspath(value))
    elif name == "umask":
        spec["umask"] = int(value)
    elif name == "rlimits":
        spec["rlimits"] = {limit: list(pair) for limit, pair in value.items()}


def _words(value: str | Sequence[str]) -> list[str]:
    return [word for word in value.split(",") if word] if isinstance(value, str) else list(value)


def _node_range(value: int | str) -> tuple[int, int | None]:
    low, dash, high = str(value).partition("-")
    if not low.isdecimal() or (dash and not high.isdecimal()):
        raise UsageError(f"'{value}' is not a number of nodes", code="USAGE", hint="the form is 2 or 2-4")
    return int(low), int(high) if dash else int(low)


def _mib(value: int | str) -> int:
    if isinstance(value, int):
        return value
    from helix.sizes import parse_mem_mib

    return parse_mem_mib(value)


def _seconds(value: Any) -> int:
    if isinstance(value, str):
        from helix.timefmt import parse_time_limit

        return parse_time_limit(value)
    if hasattr(value, "total_seconds"):
        return int(value.total_seconds())
    return int(value * 60)


def _moment(value: Any) -> float:
    if isinstance(value, str):
        import time

        from helix.timefmt import parse_when

        return parse_when(value, time.time())
    return float(value.timestamp() if hasattr(value, "timestamp") else value)


def _array(value: str | Iterable[int], spec: dict[str, Any]) -> None:
    from helix.indexset import IndexSet, parse_array_spec

    if isinstance(value, str):
        indexes, limit = parse_array_spec(value)
        if limit:
            spec.setdefault("array_limit", limit)
    else:
        indexes = IndexSet.of(value)
        if not indexes:
            raise UsageError("an array without tasks", code="ARRAY_INVALID")
    spec["array"] = str(indexes)


def parse_signal_spec(text: str) -> dict[str, Any]:
    """`[B:]sig[@seconds]` (sbatch(1) --signal) as the fields of a SignalSpec.  Raises UsageError (SIGNAL_INVALID)."""
    flags, colon, rest = text.partition(":")
    if not colon:
        flags, rest = "", text
    word, at, seconds = rest.partition("@")
    number = signal_number(word)
    if number is None or flags.upper() not in ("", "B") or (at and not (seconds.isdecimal() and int(seconds) < 65536)):
        raise UsageError(f"bad signal '{text[:60]}'", code="SIGNAL_INVALID", hint="the form is [B:]USR1[@seconds]")
    fields: dict[str, Any] = {"signal": number}
    if at:
        fields["before_s"] = int(seconds)
    if flags:
        fields["batch_only"] = True
    return fields


def signal_number(word: str) -> int | None:
    """The number of `USR1`, `SIGUSR1` or `10`; None for anything else."""
    if word.isdecimal():
        return int(word) if 1 <= int(word) <= 64 else None
    import signal

    name = word.upper()
    found = getattr(signal, name if name.startswith("SIG") else f"SIG{name}", None)
    return int(found) if isinstance(found, signal.Signals) else None


def parse_dependency(text: str) -> dict[str, Any]:
    """`--dependency` (sbatch(1)) as the fields of a DependencyExpr.  Raises UsageError (DEPENDENCY_INVALID)."""
    if len(text) > DEPENDENCY_CHARS_MAX:
        raise UsageError(f"the dependency is longer than {DEPENDENCY_CHARS_MAX} characters", code="DEPENDENCY_INVALID")
    if "?" in text and "," in text:
        raise UsageError("a dependency uses ',' or '?', not both", code="DEPENDENCY_INVALID", hint=_DEPENDENCY_FORM)
    is_any = "?" in text
    edges: list[dict[str, Any]] = []
    for part in text.split("?" if is_any else ","):
        kind, _, rest = part.strip().partition(":")
        kind = kind.lower()
        if kind == "singleton" and not rest:
            edges.append({"kind": kind})
        elif kind in _DEPENDENCIES and rest:
            edges.extend(_edge(kind, item) for item in rest.split(":"))
        else:
            raise UsageError(
                f"'{part.strip()[:60]}' is not a dependency", code="DEPENDENCY_INVALID", hint=_DEPENDENCY_FORM
            )
    return {"edges": edges, "any": True} if is_any else {"edges": edges}


def _edge(kind: str, item: str) -> dict[str, Any]:
    ids, plus, minutes = item.partition("+")
    job, under, task = ids.partition("_")
    good = _is_number(job, 18) and int(job) > 0 and (not under or task == "*" or _is_number(task, 9))
    if not good or (plus and not (kind == "after" and _is_number(minutes, 7))):
        raise UsageError(f"'{kind}:{item[:60]}' names no job", code="DEPENDENCY_INVALID", hint=_DEPENDENCY_FORM)
    edge: dict[str, Any] = {"kind": kind, "job_id": int(job)}
    if under and task != "*":
        edge["task_id"] = int(task)
    if plus:
        edge["delay_s"] = int(minutes) * 60
    return edge


def _is_number(text: str, digits: int) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= digits
