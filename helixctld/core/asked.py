"""What a waiting job asks for, as TRES: for priorities and for limits, before anything is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helix.model.hetjob import specs_of
from helix.model.job import JobRecord, JobSpec
from helix.model.partition import PartitionRecord
from helix.sched.gres import needs_of
from helixctld.core.usage import tres_of

if TYPE_CHECKING:
    from helixctld.core.state import State


def asked_tres(job: JobRecord, state: State) -> dict[str, int]:
    """TRES of the least allocation the request can mean: cpu, mem (MiB), node and GRES; without billing.

    What the job is given may be more (whole cores, whole nodes): limits are checked again with that.
    """
    if job.alloc is not None:
        return tres_of(job.alloc)
    counts: dict[str, int] = {}
    for spec in specs_of(job.spec):
        for name, count in _asked(spec, job, state).items():
            counts[name] = counts.get(name, 0) + count
    return counts


def _asked(spec: JobSpec, job: JobRecord, state: State) -> dict[str, int]:
    """Of one component."""
    nodes = max(1, spec.nodes_min)
    tasks = spec.tasks or nodes * max(1, spec.tasks_per_node)
    cpus = max(tasks * spec.cpus_per_task, nodes)
    mem = spec.mem_per_node_mib * nodes or spec.mem_per_cpu_mib * cpus
    if not mem and (partition := state.partitions.get(job.partition)) is not None:
        mem = partition.def_mem_per_node_mib * nodes or partition.def_mem_per_cpu_mib * cpus
    counts = {"cpu": cpus, "mem": mem, "node": nodes}
    for kind, units in needs_of(spec).units:
        counts[f"gres/{kind}"] = units * nodes
    return counts


def limit_of(job: JobRecord, state: State) -> int:
    """The time limit in seconds the job would run with; 0 = none."""
    if job.alloc is not None and job.is_active:
        return job.time_limit_s
    if job.spec.time_limit_s is not None:
        return job.spec.time_limit_s
    partition = state.partitions.get(job.partition)
    return default_limit(partition)


def default_limit(partition: PartitionRecord | None) -> int:
    """The time limit of a job in the partition that names none, seconds; 0 = none."""
    if partition is None:
        return 0
    return partition.default_time_s if partition.default_time_s is not None else partition.max_time_s
