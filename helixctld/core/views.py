"""Records as rows: the raw fields of `JOB_ROW`, `NODE_ROW` and `PARTITION_ROW`.  Commands format them.

Cost: one function call a field; 100,000 rows of nine fields take about a quarter of a second, so callers give the
loop a turn between slices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf
from typing import Any, Protocol

from helix.errors import UsageError
from helix.hostlist import format_hostlist
from helix.model.job import JobRecord
from helix.model.job_state import JobState
from helix.model.node import NodeRecord, state_word
from helix.model.partition import PartitionRecord
from helix.wire.methods import JOB_ROW, NODE_ROW, PARTITION_ROW
from helixctld.core.dependencies import format_dependency
from helixctld.core.effects import batch_host
from helixctld.core.gres_views import (
    as_tres,
    given_units,
    node_units,
    node_used,
    per_job,
    per_node,
    per_task,
    with_indexes,
)
from helixctld.core.state import State

JobGetter = Callable[[JobRecord, float], Any]


def cpus_of(job: JobRecord) -> int:
    """CPUs allocated, or the least requested."""
    if job.alloc is not None:
        return sum(job.alloc.cpus)
    return max(tasks_of(job) * job.spec.cpus_per_task, job.spec.nodes_min)


def tasks_of(job: JobRecord) -> int:
    """Tasks asked for, derived as Slurm does when not given."""
    spec = job.spec
    if spec.tasks:
        return spec.tasks
    return max(1, spec.nodes_min) * max(1, spec.tasks_per_node)


def end_time(job: JobRecord) -> float:
    """When it ended, or will by its limit or when its grace time is over; 0 = unknown."""
    if job.is_terminal:
        return job.t_end
    if job.state is JobState.COMPLETING and job.t_kill:
        return job.t_kill
    if job.is_active and job.time_limit_s and job.t_start:
        return job.t_start + job.time_limit_s + job.suspended_s
    return 0.0


def elapsed(job: JobRecord, now: float) -> float:
    """Run time of the present attempt, without suspensions."""
    if job.is_waiting or not job.t_start or job.alloc is None:
        return 0.0
    end = job.t_end if job.is_terminal else job.t_suspended if job.state == "SUSPENDED" else now
    return max(0.0, end - job.t_start - job.suspended_s)


def _nodes(job: JobRecord) -> str:
    return format_hostlist(job.alloc.nodes) if job.alloc is not None else ""


def _command(job: JobRecord) -> str:
    return " ".join([job.spec.script_name or "(wrap)", *job.spec.args])


def _gres_given(job: JobRecord) -> dict[str, str]:
    alloc = job.alloc
    if alloc is None or not alloc.gres:
        return {}
    return {name: with_indexes(given) for name, given in zip(alloc.nodes, alloc.gres, strict=True) if given}


def _time_limit(job: JobRecord) -> int:
    if job.is_active or job.is_terminal:
        return job.time_limit_s
    return job.spec.time_limit_s if job.spec.time_limit_s is not None else job.time_limit_s


_JOB: dict[str, JobGetter] = {
    "job_id": lambda j, _: j.job_id,
    "display_id": lambda j, _: j.display_id,
    "array_job_id": lambda j, _: j.array_job_id,
    "array_task_id": lambda j, _: j.array_task_id,
    "array_pending": lambda j, _: str(j.pending) if j.pending is not None else "",
    "array_limit": lambda j, _: j.spec.array_limit,
    "het_job_id": lambda j, _: j.het_job_id,
    "het_offset": lambda j, _: j.het_offset,
    "het_size": lambda j, _: j.het_size,
    "name": lambda j, _: j.spec.name,
    "user": lambda j, _: j.user or str(j.uid),
    "uid": lambda j, _: j.uid,
    "group": lambda j, _: j.group or str(j.gid),
    "gid": lambda j, _: j.gid,
    "account": lambda j, _: j.spec.account,
    "qos": lambda j, _: j.spec.qos,
    "wckey": lambda j, _: j.spec.wckey,
    "comment": lambda j, _: j.spec.comment,
    "partition": lambda j, _: (
        ",".join(j.spec.partitions) if j.is_waiting and len(j.spec.partitions) > 1 else j.partition
    ),
    "state": lambda j, _: j.state,
    "outcome": lambda j, _: j.outcome or "",
    "reason": lambda j, _: j.reason,
    "reason_text": lambda j, _: j.reason_text,
    "held": lambda j, _: j.held,
    "priority": lambda j, _: 0 if j.held else j.priority,
    "nice": lambda j, _: j.spec.nice,
    "attempt": lambda j, _: j.attempt,
    "requeue": lambda j, _: j.spec.requeue is not False,
    "t_submit": lambda j, _: j.t_submit,
    "t_eligible": lambda j, _: j.t_eligible,
    "t_begin": lambda j, _: j.spec.t_begin,
    "t_deadline": lambda j, _: j.spec.t_deadline,
    "t_start": lambda j, _: 0.0 if j.is_waiting else j.t_start,
    "t_expected": lambda j, _: 0.0,
    "expected_range": lambda j, _: [],
    "protected": lambda j, _: False,
    "sched_nodes": lambda j, _: "",
    "t_end": lambda j, _: end_time(j),
    "suspended_s": lambda j, _: j.suspended_s,
    "t_suspended": lambda j, _: j.t_suspended if j.state == "SUSPENDED" else 0.0,
    "suspended_for": lambda j, _: j.suspended_for,
    "t_preempt": lambda j, _: j.t_preempt,
    "t_preemptable": lambda j, _: j.t_start + j.suspended_s if j.is_active else 0.0,
    "preemptor": lambda j, _: j.preemptor,
    "preemptions": lambda j, _: j.preemptions,
    "time_limit_s": lambda j, _: _time_limit(j),
    "time_min_s": lambda j, _: j.spec.time_min_s,
    "elapsed_s": elapsed,
    "nodes_min": lambda j, _: j.spec.nodes_min,
    "nodes_max": lambda j, _: j.spec.nodes_max,
    "node_count": lambda j, _: len(j.alloc.nodes) if j.alloc is not None else max(1, j.spec.nodes_min),
    "cpus": lambda j, _: cpus_of(j),
    "tasks": lambda j, _: tasks_of(j),
    "tasks_per_node": lambda j, _: j.spec.tasks_per_node,
    "tasks_per_core": lambda j, _: j.spec.tasks_per_core,
    "tasks_per_socket": lambda j, _: j.spec.tasks_per_socket,
    "cpus_per_task": lambda j, _: j.spec.cpus_per_task,
    "mem_per_node_mib": lambda j, _: j.spec.mem_per_node_mib,
    "mem_per_cpu_mib": lambda j, _: j.spec.mem_per_cpu_mib,
    "mem_mib": lambda j, _: sum(j.alloc.mem_mib) if j.alloc is not None else 0,
    "tmp_mib": lambda j, _: j.spec.tmp_mib,
    "constraint": lambda j, _: j.spec.constraint,
    "prefer": lambda j, _: j.spec.prefer,
    "require": lambda j, _: j.spec.require,
    "rank": lambda j, _: j.spec.rank,
    "exclusive": lambda j, _: j.spec.exclusive,
    "oversubscribe": lambda j, _: j.spec.oversubscribe,
    "contiguous": lambda j, _: j.spec.contiguous,
    "nodes": lambda j, _: _nodes(j),
    "batch_host": lambda j, _: batch_host(j),
    "cores": lambda j, _: dict(zip(j.alloc.nodes, j.alloc.cores, strict=True)) if j.alloc is not None else {},
    "nodelist": lambda j, _: j.spec.nodelist,
    "exclude": lambda j, _: j.spec.exclude,
    "licenses": lambda j, _: j.spec.licenses,
    "gres_per_node": lambda j, _: per_node(j.spec),
    "gres_per_job": lambda j, _: per_job(j.spec),
    "gres_per_task": lambda j, _: per_task(j.spec),
    "gres_tres": lambda j, _: as_tres(given_units(j)),
    "gres_given": lambda j, _: _gres_given(j),
    "gres_flags": lambda j, _: j.spec.gres_flags,
    "switches": lambda j, _: j.spec.switches,
    "switch_wait_s": lambda j, _: j.spec.switch_wait_s,
    "segment": lambda j, _: j.spec.segment,
    "cpus_min": lambda j, _: j.spec.cpus_min,
    "sockets_per_node": lambda j, _: j.spec.sockets_per_node,
    "cores_per_socket": lambda j, _: j.spec.cores_per_socket,
    "threads_per_core": lambda j, _: j.spec.threads_per_core,
    "reservation": lambda j, _: j.spec.reservation if j.is_waiting else j.reservation,
    "dependency": lambda j, _: "" if j.dependency_met else format_dependency(j.spec.dependency),
    "exit_code": lambda j, _: str(j.exit),
    "derived_exit_code": lambda j, _: str(j.derived_exit),
    "work_dir": lambda j, _: j.spec.work_dir,
    "command": lambda j, _: _command(j),
    "stdin": lambda j, _: j.spec.stdin,
    "stdout": lambda j, _: j.stdout_path or j.spec.stdout,
    "stderr": lambda j, _: j.stderr_path or j.spec.stderr,
    "submit_host": lambda j, _: j.spec.submit_host,
    "submit_line": lambda j, _: j.spec.submit_line,
    "user_s": lambda j, _: j.usage.get("user_s", 0.0),
    "system_s": lambda j, _: j.usage.get("system_s", 0.0),
    "max_rss_mib": lambda j, _: j.usage.get("max_rss_mib", 0.0),
    "story": lambda j, _: j.story,
}
assert tuple(_JOB) == JOB_ROW

#: Fields that are only in job.show: large, and nobody lists them.
SHOW_ONLY = frozenset({"cores", "gres_given", "story"})


class Foreseen(Protocol):
    """What the planner expects of a waiting job (`helixctld.schedule.outlook.Expectation`)."""

    @property
    def t_expected(self) -> float:
        """Epoch seconds."""

    @property
    def t_early(self) -> float:
        """Likewise."""

    @property
    def t_late(self) -> float:
        """Likewise."""

    @property
    def protected(self) -> bool:
        """A promise."""

    @property
    def nodes(self) -> list[str]:
        """Where."""

    def nodes_of(self, component: int) -> list[str]:
        """Where a component of it."""


Lookup = Callable[[int], Foreseen | None]  #: by job id
Cut = Callable[[JobRecord], float]  #: when a job is ended although its limit allows more, epoch seconds; infinity = not

_FORESEEN: dict[str, tuple[Callable[[Foreseen, JobRecord], Any], Any]] = {
    "t_expected": (lambda f, _: f.t_expected, 0.0),
    "expected_range": (lambda f, _: [f.t_early, f.t_late], ()),
    "protected": (lambda f, _: f.protected, False),
    "sched_nodes": (lambda f, j: format_hostlist(f.nodes_of(j.het_offset) if j.het_job_id else f.nodes), ""),
}


def _foreseen(name: str, lookup: Lookup) -> JobGetter:
    read, absent = _FORESEEN[name]

    def getter(job: JobRecord, _: float) -> Any:
        found = lookup(job.het_job_id or job.job_id) if job.is_waiting else None
        return absent if found is None else read(found, job)

    return getter


def _end_before(cut: Cut) -> JobGetter:
    def getter(job: JobRecord, _: float) -> float:
        own = end_time(job)
        until = cut(job) if job.is_active and job.reservation and job.state is not JobState.COMPLETING else inf
        return until if until < inf and (until < own or not own) else own

    return getter


def job_getters(fields: Iterable[str], lookup: Lookup | None = None, cut: Cut | None = None) -> list[JobGetter]:
    """The functions for `fields`; raises UsageError (FIELD_UNKNOWN).  `lookup`: what is expected of waiting jobs;
    `cut`: when something besides its limit ends a running job."""
    getters = []
    for name in fields:
        getter = _JOB.get(name)
        if getter is None:
            raise UsageError(f"no job field '{name[:40]}'", code="FIELD_UNKNOWN", hint=f"fields: {', '.join(_JOB)}")
        if lookup is not None and name in _FORESEEN:
            getter = _foreseen(name, lookup)
        elif cut is not None and name == "t_end":
            getter = _end_before(cut)
        getters.append(getter)
    return getters


def job_dict(job: JobRecord, now: float, lookup: Lookup | None = None, cut: Cut | None = None) -> dict[str, Any]:
    """All of `JOB_ROW`."""
    return {name: getter(job, now) for name, getter in zip(_JOB, job_getters(_JOB, lookup, cut), strict=True)}


def node_rows(state: State, nodes: Iterable[NodeRecord], load: dict[str, tuple[float, int]]) -> list[list[Any]]:
    """Rows of `NODE_ROW`; `load` is name -> (load average, free MiB), as last heard."""
    partitions: dict[str, list[str]] = {}
    for partition in state.partitions.values():
        for name in partition.nodes:
            partitions.setdefault(name, []).append(partition.name)
    rows = []
    for n in nodes:
        f = n.fingerprint
        units = node_units(state, n)
        cpu_load, free_mem = load.get(n.name, (0.0, 0))
        row = {
            "name": n.name,
            "addr": n.addr,
            "hostname": f.hostname if f else "",
            "state": state_word(n),
            "reason": n.reason,
            "reason_by": n.reason_by,
            "t_reason": n.t_reason,
            "reservations": n.reservations,
            "maintenance": n.maintenance,
            "cpus": n.cpus,
            "cpus_alloc": n.cpus_alloc,
            "cpu_load": cpu_load,
            "boards": f.boards if f else 1,
            "sockets": n.sockets,
            "cores_per_socket": n.cores_per_socket,
            "threads_per_core": n.threads_per_core,
            "memory_mib": n.real_memory_mib,
            "mem_alloc_mib": n.mem_alloc_mib,
            "free_mem_mib": free_mem,
            "tmp_mib": n.tmp_disk_mib,
            "weight": n.weight,
            "features": n.features,
            "gres": n.gres,
            "gres_used": node_used(state, n),
            "gres_tres": as_tres(units[0]),
            "gres_tres_alloc": as_tres(units[1]),
            "attrs": n.attrs,
            "admit": n.admit,
            "partitions": partitions.get(n.name, []),
            "arch": f.arch if f else "",
            "os": f.os if f else "",
            "kernel": f.kernel if f else "",
            "version": f.version if f else "",
            "boot_id": f.boot_id if f else "",
            "t_boot": f.t_boot if f else 0.0,
            "t_helixd_start": f.t_helixd_start if f else 0.0,
            "t_last_seen": n.t_last_seen,
            "skew_s": n.skew_s,
            "jobs": list(n.jobs),
        }
        rows.append([row[name] for name in NODE_ROW])
    return rows


def partition_rows(state: State, partitions: Iterable[PartitionRecord]) -> list[list[Any]]:
    """Rows of `PARTITION_ROW`."""
    rows = []
    for p in partitions:
        members = [state.nodes[name] for name in p.nodes if name in state.nodes]
        row: dict[str, Any] = {name: getattr(p, name) for name in PARTITION_ROW if hasattr(p, name)}
        row["nodes"] = format_hostlist(p.nodes)
        row["preempt_mode"] = ",".join(p.preempt_mode or state.preempt_rules.modes)
        row["total_nodes"] = len(members)
        row["total_cpus"] = sum(n.cpus for n in members)
        row["total_memory_mib"] = sum(n.real_memory_mib for n in members)
        rows.append([row[name] for name in PARTITION_ROW])
    return rows
