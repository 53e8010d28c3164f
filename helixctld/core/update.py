"""`hctl update`: scontrol's names and texts, as new specs and changes.

One table per entity: name -> how its text changes it.  Users may lower what they may not raise (slurm rules for
`scontrol update`); what only operators may do is marked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from helix.config.keys import PARTITION_KEYS, find_in
from helix.config.table_preempt import modes_problem
from helix.config.values import parse_value
from helix.errors import Conflict, Denied, NotFound, UsageError
from helix.hostlist import parse_hostlist
from helix.model import events as ev
from helix.model.job import JobRecord, JobSpec
from helix.model.job_state import JobState
from helix.model.node import NodeBase, NodeRecord
from helix.model.partition import PartitionRecord
from helix.sched.gres import gres_key
from helix.sched.request import is_late
from helix.sizes import parse_mem_mib
from helix.timefmt import parse_time_limit, parse_when
from helixctld.core.caller import Caller, may_manage, require_touch
from helixctld.core.deadlines import require_in_time
from helixctld.core.dependencies import require_acyclic, require_known
from helixctld.core.dependency_text import parse_dependency
from helixctld.core.hetjob import settle_components
from helixctld.core.licences import require_licences
from helixctld.core.limits import partition_for
from helixctld.core.nearest import did_you_mean
from helixctld.core.requests import Change
from helixctld.core.reservation_access import check_submit
from helixctld.core.select_jobs import Target
from helixctld.core.state import State
from helixctld.core.submit import NICE_MAX, check_spec, require_devices, require_partitions

REASON_MAX = 1024


def _int(text: str, name: str, low: int = 0, high: int = 1 << 31) -> int:
    try:
        value = int(text)
    except ValueError:
        raise UsageError(f"{name}={text[:40]}: not a whole number", code="BAD_ARGUMENT") from None
    if not low <= value <= high:
        raise UsageError(f"{name}={value}: must lie in {low}..{high}", code="BAD_ARGUMENT")
    return value


def _flag(text: str, name: str) -> bool:
    word = text.lower()
    if word in ("1", "yes", "true"):
        return True
    if word in ("0", "no", "false"):
        return False
    raise UsageError(f"{name}={text[:40]}: yes or no", code="BAD_ARGUMENT")


def _nodes(spec: JobSpec, text: str, _now: float) -> None:
    low, _, high = text.partition("-")
    spec.nodes_min = _int(low, "NumNodes", 1)
    spec.nodes_max = _int(high, "NumNodes", 1) if high else 0


def _limit(text: str, old: int | None, name: str) -> int:
    if text[:1] in "+-" and text[1:]:
        delta = parse_time_limit(text[1:])
        return max(60, (old or 0) + (delta if text[0] == "+" else -delta))
    return parse_time_limit(text)


def _mem(attribute: str) -> Callable[[JobSpec, str, float], None]:
    def change(spec: JobSpec, text: str, _now: float) -> None:
        spec.mem_per_node_mib = spec.mem_per_cpu_mib = 0
        spec.mem_all = False
        setattr(spec, attribute, parse_mem_mib(text))

    return change


def _text(attribute: str) -> Callable[[JobSpec, str, float], None]:
    def change(spec: JobSpec, text: str, _now: float) -> None:
        setattr(spec, attribute, text)

    return change


def _number(attribute: str, name: str, low: int = 0) -> Callable[[JobSpec, str, float], None]:
    def change(spec: JobSpec, text: str, _now: float) -> None:
        setattr(spec, attribute, _int(text, name, low))

    return change


def _begin(spec: JobSpec, text: str, now: float) -> None:
    spec.t_begin = parse_when(text, now)


def _deadline(spec: JobSpec, text: str, now: float) -> None:
    spec.t_deadline = parse_when(text, now)


def _dependency(spec: JobSpec, text: str, _now: float) -> None:
    spec.dependency = parse_dependency(text) if text else None


def _partition(spec: JobSpec, text: str, _now: float) -> None:
    spec.partitions = [p for p in text.split(",") if p]


def _requeue(spec: JobSpec, text: str, _now: float) -> None:
    spec.requeue = _flag(text, "Requeue")


def _oversubscribe(spec: JobSpec, text: str, _now: float) -> None:
    spec.oversubscribe = _flag(text, "OverSubscribe")


def _contiguous(spec: JobSpec, text: str, _now: float) -> None:
    spec.contiguous = _flag(text, "Contiguous")


def _mail_type(spec: JobSpec, text: str, _now: float) -> None:
    spec.mail_type = [t.strip().upper() for t in text.split(",") if t.strip()]


def _nice(spec: JobSpec, text: str, _now: float) -> None:
    spec.nice = _int(text or "100", "Nice", -(1 << 31) + 3)


def _site_factor(spec: JobSpec, text: str, _now: float) -> None:
    spec.site_factor = _int(text, "SiteFactor", -NICE_MAX, NICE_MAX)


_ANY_TIME = {
    "comment": _text("comment"),
    "name": _text("name"),
    "jobname": _text("name"),
    "requeue": _requeue,
    "wckey": _text("wckey"),
    "mailtype": _mail_type,
    "mailuser": _text("mail_user"),
    "arraytaskthrottle": _number("array_limit", "ArrayTaskThrottle"),
    "deadline": _deadline,
}
_WHILE_WAITING = {
    "account": _text("account"),
    "qos": _text("qos"),
    "partition": _partition,
    "numnodes": _nodes,
    "reqnodes": _nodes,
    "numtasks": _number("tasks", "NumTasks", 1),
    "reqprocs": _number("tasks", "NumCPUs", 1),
    "numcpus": _number("tasks", "NumCPUs", 1),
    "cpuspertask": _number("cpus_per_task", "CPUsPerTask", 1),
    "reqcpus": _number("tasks", "ReqCPUs", 1),
    "taskspernode": _number("tasks_per_node", "TasksPerNode"),
    "minmemorynode": _mem("mem_per_node_mib"),
    "minmemorycpu": _mem("mem_per_cpu_mib"),
    "mintmpdisknode": _number("tmp_mib", "MinTmpDiskNode"),
    "features": _text("constraint"),
    "prefer": _text("prefer"),
    "require": _text("require"),
    "rank": _text("rank"),
    "reqnodelist": _text("nodelist"),
    "nodelist": _text("nodelist"),
    "excnodelist": _text("exclude"),
    "starttime": _begin,
    "eligibletime": _begin,
    "dependency": _dependency,
    "timemin": lambda spec, text, _now: setattr(spec, "time_min_s", parse_time_limit(text)),
    "contiguous": _contiguous,
    "oversubscribe": _oversubscribe,
    "shared": _oversubscribe,
    "workdir": _text("work_dir"),
    "stdin": _text("stdin"),
    "stdout": _text("stdout"),
    "stderr": _text("stderr"),
    "licenses": _text("licenses"),
    "reservation": _text("reservation"),
    "reservationname": _text("reservation"),
    "gres": _text("gres"),
    "trespernode": _text("gres"),
    "mincpusnode": _number("cpus_min", "MinCPUsNode"),
    "nice": _nice,
    "sitefactor": _site_factor,
}
_SPECIAL = ("priority", "timelimit", "jobid")
JOB_KEYS = (*_ANY_TIME, *_WHILE_WAITING, *_SPECIAL)


def update_job(
    state: State, target: Target, caller: Caller, owner: Caller, changes: dict[str, str], now: float
) -> Change:
    """The events of `hctl update job`; raises before anything changes."""
    job = target.job
    require_touch(caller, job)
    if job.is_terminal:
        raise Conflict(f"job {job.display_id} is already over ({job.state})", code="JOB_OVER")
    if target.tasks is not None:
        raise Conflict(
            "single waiting tasks of an array cannot be changed yet",
            code="ARRAY_TASK_WAITING",
            hint=f"act on the whole array: {job.job_id}",
        )
    spec = replace(job.spec)
    event = ev.JobUpdated(t=now, job_id=job.job_id, spec=spec, by_uid=caller.uid)
    held = False
    for name, text in changes.items():
        key = name.lower()
        if key in _ANY_TIME:
            _ANY_TIME[key](spec, text, now)
        elif key in _WHILE_WAITING:
            if not job.is_waiting:
                raise Conflict(f"{name} of job {job.display_id} cannot change: it is {job.state}", code="JOB_ACTIVE")
            _WHILE_WAITING[key](spec, text, now)
        elif key == "priority":
            held = _priority(job, spec, event, text, caller)
        elif key == "timelimit":
            _time_limit(state, job, spec, event, text, caller)
        elif key != "jobid":
            raise UsageError(
                f"no job field '{name[:40]}' to update", code="FIELD_UNKNOWN", hint=did_you_mean(key, JOB_KEYS)
            )
    if spec.components:
        spec = event.spec = settle_components(state, spec, owner)
    _check_update(state, job, spec, caller, owner, now)
    if held and not job.held:
        return Change([event, ev.JobHeld(t=now, job_id=job.job_id, by="user", by_uid=caller.uid)])
    return Change([event])


def _check_update(state: State, job: JobRecord, spec: JobSpec, caller: Caller, owner: Caller, now: float) -> None:
    check_spec(spec)
    if not may_manage(caller, job) and spec.nice < min(0, job.spec.nice):
        raise Denied("a negative nice value needs an operator or a coordinator of the account", code="NICE_DENIED")
    if not caller.is_operator and spec.site_factor != job.spec.site_factor:
        raise Denied("a site factor needs an operator", code="PRIORITY_DENIED")
    if spec.partitions != job.spec.partitions:
        require_partitions(state, spec.partitions, owner)
    if spec.reservation != job.spec.reservation:
        check_submit(state, spec, owner, now)
    for hosts in (spec.nodelist, spec.exclude):
        for name in parse_hostlist(hosts) if hosts else ():
            if name not in state.nodes:
                raise NotFound(f"no node '{name}'", code="NODE_UNKNOWN", hint=did_you_mean(name, state.nodes))
    if spec.licenses != job.spec.licenses:
        require_licences(state, spec)
    if _shape_of(spec) != _shape_of(job.spec):
        require_devices(state, spec)
    if job.is_waiting and _times_of(spec) != _times_of(job.spec):
        names = spec.partitions or [state.default_partition]
        require_in_time(spec, [state.partitions[name] for name in names if name in state.partitions], now)
    if spec.dependency is not None and spec.dependency != job.spec.dependency:
        require_known(state, spec.dependency)
        require_acyclic(state, job.job_id, spec.dependency)


def _shape_of(spec: JobSpec) -> tuple[object, ...]:
    """What the count of devices on each node depends on."""
    return gres_key(spec), spec.nodes_min, spec.nodes_max, spec.tasks, spec.tasks_per_node, spec.sockets_per_node


def _times_of(spec: JobSpec) -> tuple[object, ...]:
    """What decides whether a job can end before its deadline."""
    return spec.t_deadline, spec.t_begin, spec.time_limit_s, spec.time_min_s, spec.partitions


def _priority(job: JobRecord, spec: JobSpec, event: ev.JobUpdated, text: str, caller: Caller) -> bool:
    """Set a priority.  True for 0 by who does not manage the job: a hold of the owner's own, no priority."""
    value = _int(text, "Priority", 0, (1 << 32) - 2)
    if not may_manage(caller, job):
        if not value:
            return True
        if value > job.priority:
            raise Denied("raising a priority needs an operator or a coordinator of the account", code="PRIORITY_DENIED")
        if job.held == "admin":  # a priority would release it
            raise Conflict(f"job {job.display_id} is held by an administrator", code="HELD_BY_ADMIN")
    spec.priority = value
    if value:
        spec.nice = 0  # as in Slurm: what is set is what it is
    event.priority = value
    return False


def _time_limit(state: State, job: JobRecord, spec: JobSpec, event: ev.JobUpdated, text: str, caller: Caller) -> None:
    old = job.time_limit_s if job.is_active else spec.time_limit_s
    value = _limit(text, old, "TimeLimit")
    if not may_manage(caller, job) and job.is_active and old is not None and (value == 0 or (old and value > old)):
        raise Denied(
            "raising the time limit of a running job needs an operator or a coordinator of the account",
            code="TIME_LIMIT_DENIED",
        )
    partition = state.partitions.get(job.partition)
    if (
        not may_manage(caller, job)
        and partition is not None
        and is_late(value, partition_for(state, spec.qos, partition))
    ):
        raise Denied(f"the time limit of partition '{partition.name}' would be passed", code="TIME_LIMIT_DENIED")
    spec.time_limit_s = value
    if job.is_active and job.state is not JobState.COMPLETING:
        event.time_limit_s = value


def update_node(node: NodeRecord, caller: Caller, changes: dict[str, str], now: float) -> ev.NodeUpdated:
    """The event of `hctl update NodeName=... State=... Reason=...`."""
    event = ev.NodeUpdated(t=now, node=node.name, by=caller.user or str(caller.uid))
    reason = ""
    for name, text in changes.items():
        key = name.lower()
        if key == "reason":
            if len(text) > REASON_MAX:
                raise UsageError(f"the reason is longer than {REASON_MAX} characters", code="FIELD_TOO_LONG")
            reason = text
            event.reason = text
        elif key == "weight":
            event.changes["weight"] = _int(text, "Weight")
        elif key in ("features", "availablefeatures", "activefeatures"):
            event.changes["features"] = [f for f in text.split(",") if f]
        elif key not in ("state", "nodename"):
            raise UsageError(
                f"no node field '{name[:40]}' to update",
                code="FIELD_UNKNOWN",
                hint="State, Reason, Weight and Features can be changed",
            )
    word = next((text for name, text in changes.items() if name.lower() == "state"), "").upper()
    if word:
        _node_state(node, event, word, reason)
    return event


def _node_state(node: NodeRecord, event: ev.NodeUpdated, word: str, reason: str) -> None:
    if word in ("DRAIN", "DOWN", "FAIL", "DRAINED", "DRAINING") and not reason:
        raise UsageError(
            f"node {node.name}: a reason is needed to set {word}", code="REASON_MISSING", hint='add Reason="why"'
        )
    if word in ("DRAIN", "DRAINED", "DRAINING"):
        event.drain = True
    elif word == "DOWN":
        event.base = NodeBase.DOWN
    elif word == "FAIL":
        event.fail = True
    elif word == "UNDRAIN":
        event.drain, event.reason = False, ""
    elif word in ("RESUME", "IDLE", "UP"):
        event.drain = event.fail = False
        event.reason = ""
        if node.base is NodeBase.DOWN:
            event.base = NodeBase.UP if node.fingerprint is not None else NodeBase.UNKNOWN
    else:
        raise UsageError(
            f"node state '{word[:40]}' cannot be set",
            code="STATE_UNKNOWN",
            hint="DRAIN, UNDRAIN, RESUME, DOWN, FAIL and IDLE can be",
        )


_PARTITION_TIMES = {"maxtime": "max_time_s", "defaulttime": "default_time_s"}
_PARTITION_INTS = {
    "minnodes": "min_nodes",
    "maxnodes": "max_nodes",
    "prioritytier": "priority_tier",
    "priorityjobfactor": "priority_job_factor",
    "maxcpuspernode": "max_cpus_per_node",
    "gracetime": "grace_time_s",  # seconds
}
_PARTITION_MEM = {
    "defmempercpu": "def_mem_per_cpu_mib",
    "defmempernode": "def_mem_per_node_mib",
    "maxmempercpu": "max_mem_per_cpu_mib",
    "maxmempernode": "max_mem_per_node_mib",
}
_PARTITION_FLAGS = {
    "default": "is_default",
    "hidden": "hidden",
    "rootonly": "root_only",
    "disablerootjobs": "disable_root_jobs",
    "exclusiveuser": "exclusive_user",
}
_PARTITION_LISTS = {
    "allowgroups": "allow_groups",
    "allowaccounts": "allow_accounts",
    "denyaccounts": "deny_accounts",
    "allowqos": "allow_qos",
    "denyqos": "deny_qos",
}
_PARTITION_STATES = ("UP", "DOWN", "DRAIN", "INACTIVE")


def update_partition(
    state: State, partition: PartitionRecord, changes: dict[str, str], now: float
) -> ev.PartitionUpdated:
    """The event of `hctl update PartitionName=...`."""
    done: dict[str, Any] = {}
    for name, text in changes.items():
        key = name.lower()
        if key == "partitionname":
            continue
        if key == "state":
            if text.upper() not in _PARTITION_STATES:
                raise UsageError(f"State={text[:40]}: one of {', '.join(_PARTITION_STATES)}", code="BAD_ARGUMENT")
            done["state"] = text.upper()
        elif key in _PARTITION_TIMES:
            done[_PARTITION_TIMES[key]] = parse_time_limit(text)
        elif key in _PARTITION_INTS:
            high_word = text.upper() in ("UNLIMITED", "INFINITE")
            done[_PARTITION_INTS[key]] = 0 if high_word else _int(text, name)
        elif key in _PARTITION_MEM:
            done[_PARTITION_MEM[key]] = parse_mem_mib(text)
        elif key in _PARTITION_FLAGS:
            done[_PARTITION_FLAGS[key]] = _flag(text, name)
        elif key in _PARTITION_LISTS:
            done[_PARTITION_LISTS[key]] = [] if text.upper() == "ALL" else [t for t in text.split(",") if t]
        elif key == "oversubscribe":
            done["oversubscribe"] = _by_key("OverSubscribe", text)
        elif key == "preemptmode":
            done["preempt_mode"] = _preempt_mode(text)
        elif key == "nodes":
            done["nodes"] = _partition_nodes(state, text)
        elif key == "qos":
            if text and text not in state.accounts.qos:
                raise NotFound(f"no QOS '{text[:80]}'", code="QOS_UNKNOWN", hint=did_you_mean(text, state.accounts.qos))
            done["qos"] = text
        else:
            words = ("state", "nodes", "oversubscribe", "preemptmode", "qos")
            known = (*words, *_PARTITION_TIMES, *_PARTITION_INTS, *_PARTITION_FLAGS, *_PARTITION_LISTS)
            raise UsageError(
                f"no partition field '{name[:40]}' to update", code="FIELD_UNKNOWN", hint=did_you_mean(key, known)
            )
    return ev.PartitionUpdated(t=now, name=partition.name, changes=done)


def _by_key(name: str, text: str) -> Any:
    """A value as a partition line of helix.conf would give it."""
    key = find_in(PARTITION_KEYS, name)
    assert key is not None
    try:
        return parse_value(key, text)
    except ValueError as exc:
        raise UsageError(f"{name}={text[:40]}: {exc}", code="BAD_ARGUMENT", hint=f"{name} is {key.form}") from exc


def _preempt_mode(text: str) -> list[str]:
    modes = list(_by_key("PreemptMode", text))
    if problem := modes_problem(modes):
        raise UsageError(f"PreemptMode={text[:40]}: {problem}", code="BAD_ARGUMENT")
    return modes


def _partition_nodes(state: State, text: str) -> list[str]:
    if text.upper() == "ALL":
        return list(state.node_names)
    names = parse_hostlist(text) if text else []
    for node in names:
        if node not in state.nodes:
            raise NotFound(f"no node '{node}'", code="NODE_UNKNOWN", hint=did_you_mean(node, state.nodes))
    return names
