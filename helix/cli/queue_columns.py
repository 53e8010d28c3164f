"""What hqueue can show of a job: squeue(1)'s letters and long names over the columns of JOB_ROW."""

from __future__ import annotations

from helix.cli.fields import Field
from helix.cli.moments import elapsed, limit, stamp
from helix.words import STATE_CODES, WAITING_STATES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEFAULT_FORMAT = "%.18i %.9P %.8j %.8u %.2t %.10M %.6D %R"
LONG_FORMAT = "%.18i %.9P %.8j %.8u %.8T %.10M %.9l %.6D %R"
START_FORMAT = "%.18i %.9P %.8j %.8u %.2t %.19S %.6D %20Y %R"
DEFAULT_SORT = "P,t,-p"
START_SORT = "P,S,-p"

_PRIORITY_FULL = 4294967295.0  #: squeue's %p is a share of this
_ORDER = {name: place for place, name in enumerate(STATE_CODES)}
_SHOWS_REASON = WAITING_STATES | {
    "FAILED",
    "TIMEOUT",
    "CANCELLED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "DEADLINE",
    "PREEMPTED",
    "BOOT_FAIL",
}


def code(state: str) -> str:
    """The compact form of a state."""
    return STATE_CODES.get(state, state)


def or_null(text: str) -> str:
    """How Slurm shows an absent text."""
    return text or "(null)"


def memory(mib: int) -> str:
    """`2G`, `1500M`, `0`."""
    from helix.sizes import format_mem_mib

    return format_mem_mib(mib) if mib else "0"


def _start(t_start: float, t_expected: float) -> str:
    return stamp(t_start or float(int(t_expected)))


def reason_words(reason: str, text: str) -> str:
    """A reason, with the words that squeue shows beside it."""
    return f"{reason}, {text}" if text == "Reserved for maintenance" else reason


def _reason_or_nodes(state: str, reason: str, nodes: str, text: str) -> str:
    return f"({reason_words(reason, text)})" if state in _SHOWS_REASON else nodes


def _left_s(state: str, limit_s: int, used_s: float, t_start: float, t_end: float, suspended_s: float) -> float:
    """Infinity without a limit; a reservation that ends before the limit does cuts what is left."""
    left = limit_s - used_s if limit_s else float("inf")
    return min(left, t_end - t_start - suspended_s - used_s) if state in ("RUNNING", "SUSPENDED") and t_end else left


def _time_left(*values: Any) -> str:
    left = _left_s(*values)
    if left == float("inf"):
        return "UNLIMITED"
    return elapsed(left) if left >= 0 else "INVALID"


def _minimum_memory(per_node: int, per_cpu: int) -> str:
    return memory(per_cpu or per_node)


def _sharing(exclusive: bool, oversubscribe: bool) -> str:
    return "NO" if exclusive else "YES" if oversubscribe else "OK"


def _array_index(task: int | None, pending: str, array_limit: int) -> str:
    if task is not None:
        return str(task)
    if not pending:
        return "N/A"
    return f"{pending}%{array_limit}" if array_limit else pending


def _id_key(display: str, job: int, array: int, task: int | None) -> tuple[int, int]:
    return (array or job, -1 if task is None else task)


def _absent(*_: Any) -> str:
    return "N/A"


def _or_any(count: int) -> str:
    return str(count or "*")


def _pending_time(t_submit: float, t_start: float) -> int:
    from time import time

    return max(0, int((t_start or time()) - t_submit))


#: Fields by squeue's letters; those without a letter have only long names.
QUEUE_FIELDS: tuple[Field, ...] = (
    Field("a", "Account", "ACCOUNT", "account", or_null, help="account"),
    Field("A", "JobID", "JOBID", "job_id", help="job id, of an array task its own"),
    Field(
        "b",
        "tres-per-node gres",
        "TRES_PER_NODE",
        "gres_per_node",
        lambda text: text or "N/A",
        help="generic resources asked on each node",
    ),
    Field("B", "BatchHost", "EXEC_HOST", "batch_host", lambda host: host or "n/a", help="node that runs the script"),
    Field("c", "MinCpus", "MIN_CPUS", "cpus_per_task", help="least CPUs a node"),
    Field("C", "NumCPUs", "CPUS", "cpus", help="CPUs allocated or requested"),
    Field("d", "MinTmpDisk", "MIN_TMP_DISK", "tmp_mib", memory, help="least temporary disk space"),
    Field("D", "NumNodes", "NODES", "node_count", help="nodes allocated, or the least requested"),
    Field(
        "e", "EndTime", "END_TIME", "t_end", stamp, help="end, or the latest end by the time limit and the reservation"
    ),
    Field("E", "Dependency", "DEPENDENCY", "dependency", or_null, help="dependencies not yet satisfied"),
    Field("f", "Feature", "FEATURES", "constraint", or_null, help="node features required"),
    Field(
        "F",
        "ArrayJobID",
        "ARRAY_JOB_ID",
        "array_job_id job_id",
        lambda array, job: array or job,
        key=lambda array, job: array or job,
        help="job id of the array, or of the job",
    ),
    Field("g", "GroupName", "GROUP", "group", help="group name"),
    Field("G", "GroupID", "GROUP", "gid", help="group id"),
    Field("h", "OverSubscribe shared", "OVER_SUBSCRIBE", "exclusive oversubscribe", _sharing, help="OK, YES or NO"),
    Field("H", "Sockets", "SOCKETS_PER_NODE", "sockets_per_node", _or_any, help="sockets a node that are asked"),
    Field(
        "i",
        "JobArrayID",
        "JOBID",
        "display_id job_id array_job_id array_task_id",
        lambda i, *_: i,
        key=_id_key,
        help="job id as users write it: 12, 12_3, 12_[4-9]",
    ),
    Field("I", "Cores", "CORES_PER_SOCKET", "cores_per_socket", _or_any, help="cores a socket that are asked"),
    Field("j", "Name", "NAME", "name", help="job name"),
    Field("J", "Threads", "THREADS_PER_CORE", "threads_per_core", _or_any, help="threads a core that are asked"),
    Field("k", "Comment", "COMMENT", "comment", or_null, help="comment"),
    Field(
        "K",
        "ArrayTaskID",
        "ARRAY_TASK_ID",
        "array_task_id array_pending array_limit",
        _array_index,
        key=lambda task, *_: -1 if task is None else task,
        help="array index, or the indexes that wait",
    ),
    Field("l", "TimeLimit", "TIME_LIMIT", "time_limit_s", limit, help="time limit"),
    Field(
        "L",
        "TimeLeft",
        "TIME_LEFT",
        "state time_limit_s elapsed_s t_start t_end suspended_s",
        _time_left,
        key=_left_s,
        help="time left by the limit, or until its reservation ends",
    ),
    Field(
        "m",
        "MinMemory",
        "MIN_MEMORY",
        "mem_per_node_mib mem_per_cpu_mib",
        _minimum_memory,
        key=lambda node, cpu: cpu or node,
        help="least memory a node or CPU",
    ),
    Field("M", "TimeUsed", "TIME", "elapsed_s", elapsed, help="run time so far"),
    Field("n", "ReqNodes", "REQ_NODES", "nodelist", help="nodes requested by name"),
    Field("N", "NodeList", "NODELIST", "nodes", help="nodes allocated"),
    Field("o", "Command", "COMMAND", "command", or_null, help="script and its arguments"),
    Field("O", "Contiguous", "CONTIGUOUS", "contiguous", int, help="1: neighbouring nodes required"),
    Field(
        "p",
        "Priority",
        "PRIORITY",
        "priority",
        lambda p: f"{p / _PRIORITY_FULL:.14f}",
        help="priority as a share of the greatest",
    ),
    Field("P", "Partition", "PARTITION", "partition", help="partition"),
    Field("q", "QOS", "QOS", "qos", or_null, help="quality of service"),
    Field("Q", "PriorityLong", "PRIORITY", "priority", help="priority, a number"),
    Field("r", "Reason", "REASON", "reason reason_text", reason_words, help="why it waits, or ended as it did"),
    Field(
        "R",
        "ReasonList",
        "NODELIST(REASON)",
        "state reason nodes reason_text",
        _reason_or_nodes,
        key=lambda _, reason, nodes, _text: (nodes, reason),
        help="nodes, or the reason in parentheses",
    ),
    Field("s", "SelectJobInfo", "SELECT_JOBINFO", "", lambda: "", help="nothing here"),
    Field(
        "S",
        "StartTime",
        "START_TIME",
        "t_start t_expected",
        _start,
        key=lambda start, expected: start or expected or float("inf"),
        help="start, actual or expected",
    ),
    Field("t", "StateCompact", "ST", "state", code, key=lambda state: _ORDER.get(state, 99), help="state, two letters"),
    Field("T", "State", "STATE", "state", key=lambda state: _ORDER.get(state, 99), help="state"),
    Field("u", "UserName", "USER", "user", help="user name"),
    Field("U", "UserID", "USER", "uid", help="user id"),
    Field("v", "Reservation", "RESERVATION", "reservation", or_null, help="reservation it runs in, or asks for"),
    Field("V", "SubmitTime", "SUBMIT_TIME", "t_submit", stamp, help="when it was submitted"),
    Field("w", "WCKey", "WCKEY", "wckey", or_null, help="workload characterization key"),
    Field("W", "Licenses", "LICENSES", "licenses", or_null, help="licences requested"),
    Field("x", "ExcNodes", "EXC_NODES", "exclude", help="nodes excluded"),
    Field("X", "CoreSpec", "CORE_SPEC", "", _absent, help="specialized cores (not supported yet)"),
    Field("y", "Nice", "NICE", "nice", help="adjustment of the priority by the user"),
    Field("Y", "SchedNodes", "SCHEDNODES", "sched_nodes", or_null, help="nodes it is expected to start on"),
    Field(
        "z",
        "SCT",
        "S:C:T",
        "sockets_per_node cores_per_socket threads_per_core",
        lambda *counts: ":".join(map(_or_any, counts)),
        help="sockets, cores, threads that are asked",
    ),
    Field("Z", "WorkDir", "WORK_DIR", "work_dir", help="working directory"),
    Field("", "AllocNodes SubmitHost", "ALLOC_NODES", "submit_host", help="host it was submitted from"),
    Field("", "BatchFlag", "BATCH_FLAG", "", lambda: "1", help="1: a batch job"),
    Field("", "cpus-per-task CpusPerTask", "CPUS_PER_TASK", "cpus_per_task", help="CPUs a task"),
    Field("", "DeadLine", "DEADLINE", "t_deadline", stamp, help="latest end asked for"),
    Field("", "DerivedEC", "DERIVED_EC", "derived_exit_code", help="highest exit code of the steps"),
    Field("", "PreemptTime", "PREEMPT_TIME", "t_preempt", stamp, help="when it was last told to make room"),
    Field("", "EligibleTime", "ELIGIBLE_TIME", "t_eligible", stamp, help="when it could first start"),
    Field("", "exit_code ExitCode", "EXIT_CODE", "exit_code", help="exit code and signal"),
    Field("", "MaxNodes", "MAX_NODES", "nodes_max", help="most nodes"),
    Field("", "MinTime", "MIN_TIME", "time_min_s", limit, help="least time limit"),
    Field("", "NTPerNode", "NTASKS_PER_NODE", "tasks_per_node", help="tasks a node"),
    Field("", "NTPerCore", "NTASKS_PER_CORE", "tasks_per_core", _or_any, help="most tasks a core"),
    Field("", "NTPerSocket", "NTASKS_PER_SOCKET", "tasks_per_socket", _or_any, help="most tasks a socket"),
    Field("", "Prefer", "PREFER", "prefer", or_null, help="features preferred"),
    Field("", "NumTasks", "TASKS", "tasks", help="tasks"),
    Field(
        "",
        "PendingTime",
        "PENDING_TIME",
        "t_submit t_start",
        _pending_time,
        help="seconds between submission and start",
    ),
    Field("", "ReasonText", "REASON", "reason_text", help="the reason in words"),
    Field("", "Requeue", "REQUEUE", "requeue", int, help="1: may be put back into the queue"),
    Field("", "RestartCnt", "RESTARTS", "attempt", help="times it was put back into the queue"),
    Field("", "STDERR", "STDERR", "stderr", help="file of standard error"),
    Field("", "STDIN", "STDIN", "stdin", help="file of standard input"),
    Field("", "STDOUT", "STDOUT", "stdout", help="file of standard output"),
    Field(
        "",
        "tres-alloc",
        "TRES_ALLOC",
        "cpus mem_mib node_count gres_tres",
        lambda cpus, mem, nodes, gres: f"cpu={cpus},mem={memory(mem)},node={nodes}" + (f",{gres}" if gres else ""),
        help="resources",
    ),
    Field(
        "", "tres-per-job", "TRES_PER_JOB", "gres_per_job", lambda text: text or "N/A", help="GPUs asked for the job"
    ),
    Field("", "tres-per-task", "TRES_PER_TASK", "gres_per_task", lambda text: text or "N/A", help="GPUs asked a task"),
    Field("", "SubmitLine", "SUBMIT_LINE", "submit_line", help="the command that submitted it"),
)
