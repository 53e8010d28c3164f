"""Heterogeneous jobs: one record whose spec has further components, which start together on nodes of their own.

The record is the leader's, with component 0; component k is shown as `ID+k`, and the ids after the leader's are kept
for the components, so that `ID + k` names no other job.  The script runs on the first node of component 0; when it
ends the whole job ends.  Source: Slurm's heterogeneous job guide.
"""

from __future__ import annotations

from msgspec.structs import replace

from helix.model.job import Allocation, JobRecord, JobSpec

COMPONENTS_MAX = 128

#: What a component asks for by itself; everything else of it is the leader's.
OWN_FIELDS = (
    "partitions",
    "nodes_min",
    "nodes_max",
    "use_min_nodes",
    "spread_job",
    "tasks",
    "tasks_per_node",
    "cpus_per_task",
    "tasks_per_core",
    "tasks_per_socket",
    "cpus_per_task_given",
    "mem_per_node_mib",
    "mem_per_cpu_mib",
    "mem_all",
    "tmp_mib",
    "exclusive",
    "oversubscribe",
    "contiguous",
    "constraint",
    "prefer",
    "require",
    "rank",
    "nodelist",
    "exclude",
    "gres",
    "gpus",
    "gpus_per_node",
    "gpus_per_task",
    "gpus_per_socket",
    "gres_flags",
    "cpus_per_gpu",
    "mem_per_gpu_mib",
    "switches",
    "switch_wait_s",
    "segment",
    "sockets_per_node",
    "cores_per_socket",
    "threads_per_core",
    "cpus_min",
    "distribution",
)


def completed(leader: JobSpec) -> JobSpec:
    """The spec with each component filled in from the leader; whole nodes are for all components or for none."""
    if not leader.components:
        return leader
    exclusive = leader.exclusive or any(part.exclusive for part in leader.components)
    base = replace(leader, components=[], args=[], rlimits={}, token="", submit_line="", dependency=None)
    parts = [
        replace(base, **{name: getattr(part, name) for name in OWN_FIELDS} | {"exclusive": exclusive})
        for part in leader.components
    ]
    return replace(leader, components=parts, exclusive=exclusive)


def specs_of(spec: JobSpec) -> list[JobSpec]:
    """All components, the leader's own first."""
    return [spec, *spec.components]


def component_of(alloc: Allocation, place: int) -> int:
    """The component that node number `place` of the allocation is for."""
    return alloc.component[place] if alloc.component else 0


def spec_at(spec: JobSpec, alloc: Allocation, place: int) -> JobSpec:
    """What is asked of node number `place` of the allocation."""
    at = component_of(alloc, place)
    return spec.components[at - 1] if 0 < at <= len(spec.components) else spec


def partition_on(job: JobRecord, node: str) -> str:
    """The partition in which a running job has a node."""
    if not job.spec.components or job.alloc is None:
        return job.partition
    at = component_of(job.alloc, job.alloc.nodes.index(node))
    own = job.spec.components[at - 1].partitions if at else []
    return own[0] if own else job.partition


def part_of(alloc: Allocation, component: int) -> Allocation:
    """The nodes of one component."""
    at = [place for place in range(len(alloc.nodes)) if component_of(alloc, place) == component]
    return Allocation(
        nodes=[alloc.nodes[place] for place in at],
        cores=[alloc.cores[place] for place in at],
        mem_mib=[alloc.mem_mib[place] for place in at],
        whole=alloc.whole,
        counts=[alloc.counts[place] for place in at] if alloc.counts else [],
        gres=[alloc.gres[place] for place in at] if alloc.gres else [],
    )


def component_records(job: JobRecord) -> list[JobRecord]:
    """A record for each component, to be shown or launched; [job] for a plain job."""
    if not job.spec.components:
        return [job]
    records = []
    for at, spec in enumerate(specs_of(job.spec)):
        alloc = None if job.alloc is None else part_of(job.alloc, at)
        partition = job.partition if at == 0 or not spec.partitions else spec.partitions[0]
        own = replace(spec, name=job.spec.name, components=[])
        records.append(
            replace(
                job,
                job_id=job.job_id + at,
                spec=own,
                alloc=alloc,
                partition=partition,
                het_job_id=job.job_id,
                het_offset=at,
                het_size=len(job.spec.components) + 1,
            )
        )
    return records
