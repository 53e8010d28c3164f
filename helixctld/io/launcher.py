"""From a job's record to the `Launch` that its first node gets."""

from __future__ import annotations

from collections.abc import Mapping

from helix.hostlist import format_hostlist
from helix.model.hetjob import component_records
from helix.model.job import JobRecord
from helix.model.node import NodeRecord
from helix.model.topology import Topology
from helix.sched.sockets import share_tasks, task_cpus
from helix.wire.messages import Launch
from helixctld.io.identity import People


def launch_of(
    job: JobRecord,
    people: People,
    kill_wait_s: int,
    nodes: Mapping[str, NodeRecord],
    topology: Topology | None = None,
) -> Launch:
    """Everything the node needs; groups come from the user database here, never from a message."""
    alloc = job.alloc
    assert alloc is not None
    spec = job.spec
    person = people.person(job.uid, job.gid)
    groups = list(person.gids) if job.gid in person.gids else [job.gid, *person.gids]
    launch = Launch(
        job_id=job.job_id,
        attempt=job.attempt,
        node=alloc.nodes[0],
        uid=job.uid,
        gid=job.gid,
        groups=groups,
        user=job.user,
        name=spec.name,
        account=spec.account,
        qos=spec.qos,
        partition=job.partition,
        script_hash=spec.script_hash,
        env_hash=spec.env_hash,
        args=spec.args,
        work_dir=spec.work_dir,
        submit_host=spec.submit_host,
        submit_dir=spec.submit_dir,
        stdin=spec.stdin,
        stdout=spec.stdout,
        stderr=spec.stderr,
        open_mode=spec.open_mode,
        umask=spec.umask,
        rlimits=spec.rlimits,
        get_user_env=spec.get_user_env,
        nodes=alloc.nodes[0] if len(alloc.nodes) == 1 else format_hostlist(alloc.nodes),
        node_count=len(alloc.nodes),
        tasks=spec.tasks or len(alloc.nodes) * max(1, spec.tasks_per_node),
        tasks_given=bool(spec.tasks or spec.tasks_per_node),
        tasks_per_node=spec.tasks_per_node,
        tasks_per_core=spec.tasks_per_core,
        tasks_per_socket=spec.tasks_per_socket,
        cpus_per_task=spec.cpus_per_task,
        cpus_per_task_given=spec.cpus_per_task_given or spec.cpus_per_task > 1,
        cpus_per_node=alloc.cpus,
        cores=alloc.cores[0],
        gres=alloc.gres[0] if alloc.gres else {},
        mem_mib=alloc.mem_mib[0],
        mem_per_cpu_mib=spec.mem_per_cpu_mib,
        time_limit_s=job.time_limit_s,
        kill_wait_s=kill_wait_s,
        signal=spec.signal,
        restart_count=job.attempt,
        t_start=job.t_start,
        requeue=spec.requeue is not False,
    )
    if topology is not None and topology.kind != "flat":
        launch.topology_addr, launch.topology_pattern = topology.address(alloc.nodes[0])
    bounded = spec.threads_per_core or spec.tasks_per_core or spec.tasks_per_socket
    if bounded and spec.tasks and not spec.tasks_per_node:
        records = [nodes[name] for name in alloc.nodes]
        launch.tasks_on_nodes = share_tasks(spec.tasks, alloc.cpus, records, task_cpus(spec))
    if spec.components:
        describe_components(launch, job, people, kill_wait_s, nodes)
    if job.array_task_id is not None and spec.array is not None:
        launch.array_job_id = job.array_job_id
        launch.array_task_id = job.array_task_id
        launch.array_task_count = len(spec.array)
        launch.array_task_min = spec.array.first
        launch.array_task_max = spec.array.last
        launch.array_task_step = spec.array.ranges[0][2]
    return launch


def describe_components(
    launch: Launch, job: JobRecord, people: People, kill_wait_s: int, nodes: Mapping[str, NodeRecord]
) -> None:
    """Narrow the launch to component 0, where the script runs, and add all components for its environment."""
    launch.components = [launch_of(part, people, kill_wait_s, nodes) for part in component_records(job)]
    own = launch.components[0]
    for name in ("nodes", "node_count", "tasks", "cpus_per_node", "tasks_on_nodes"):
        setattr(launch, name, getattr(own, name))
