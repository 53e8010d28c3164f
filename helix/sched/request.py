"""What a job asks of nodes, normalised: a `JobSpec` and the partition it is tried in become a `Request`.

Owns the defaults (sbatch(1), slurm.conf(5)): nodes derived from tasks, memory defaults and limits, whole nodes.
Two requests that are equal are served equally, so the planner keeps one row for all jobs that ask the same.  Pure.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import lru_cache

from msgspec import structs

from helix.errors import UsageError
from helix.hostlist import parse_hostlist
from helix.model.job import JobSpec
from helix.model.job_state import Reason
from helix.model.partition import PartitionRecord
from helix.sched.chain import Chain, chains_of, segmented
from helix.sched.features import EVERY, AnyOf, Constraint, Term, parse_constraint, parse_preference
from helix.sched.gres import Units, gres_key, needs_of
from helix.sched.options import SchedOptions
from helix.sched.sockets import Seats, TaskCpus

COUNT_MAX = (1 << 31) - 1  #: tasks and CPUs; larger numbers are clamped, no node comes near
MEM_MAX_MIB = 1 << 50
ANY_SWITCHES = 1 << 20  #: as few leaf switches as possible, but any number will do


@dataclass(frozen=True, slots=True)
class Request:
    """Each of `nodes_lo` to `nodes_hi` nodes takes `task_lo` to `task_hi` tasks, `tasks` in all (0: task_lo each)."""

    nodes_lo: int = 1
    nodes_hi: int = 0  # 0 = as many as it takes
    grow: bool = False  # take up to nodes_hi when there are so many
    tasks: int = 0
    task_lo: int = 1
    task_hi: int = 1
    cpus_per_task: int = 1
    cpus_min: int = 0  # least CPUs on each node
    mem_node_mib: int = 0
    mem_cpu_mib: int = 0
    mem_all: bool = False
    mem_floor_mib: int = 0  # least configured memory (when memory is not consumable)
    tmp_mib: int = 0
    exclusive: bool = False
    spread: bool = False
    contiguous: bool = False
    least_loaded: bool = False
    constraint: Term = EVERY  # of each node; with alternatives: of a node that may be part of any
    require: str = ""  # condition over each node's attributes
    must: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    limit: str = ""  # the partition's limit it is outside of: "", "nodes", "memory"
    limit_text: str = ""
    gres: tuple[tuple[str, int], ...] = ()  # (kind, units) on each node
    switches: int = 0  # most leaf switches it may span, 0 = any number, ANY_SWITCHES = as few as possible
    switch_wait_s: int = 0  # after so long in the queue any number will do, 0 = never
    sockets_min: int = 0  # least sockets, cores in a socket, threads of a core that a node has
    cores_min: int = 0
    threads_min: int = 0  # and so many threads of each core are used, 0 = all: see `task_cpus`
    rank: str = ""  # expression that orders nodes: more of it is preferred
    spare: tuple[Request, ...] = ()  # of a chain's part: nodes that could serve few of these are preferred
    component: int = 0  # of a heterogeneous job
    partition: str = ""  # whose nodes serve it; "" = of the entry it belongs to
    reservation: str = ""  # whose rows it may use
    tasks_per_core: int = 0  # at most so many, 0 = any number: see `task_cpus`
    tasks_per_socket: int = 0  # at most so many, 0 = any number: see `seats`
    soft: bool = False  # of a chain's part: a way that --prefer adds
    #: other ways to serve it, each a chain of parts that start together on different nodes; () = just this request
    alternatives: tuple[tuple[Request, ...], ...] = ()

    @property
    def tasks_total(self) -> int:
        """Tasks the smallest allocation runs."""
        return self.tasks or self.nodes_lo * self.task_lo

    @property
    def chains(self) -> tuple[tuple[Request, ...], ...]:
        """The ways to serve it, best first; each a chain of parts that start together on different nodes."""
        return self.alternatives or ((self,),)

    @property
    def task_cpus(self) -> TaskCpus:
        """What decides how many CPUs a task takes."""
        return TaskCpus(self.cpus_per_task, self.threads_min, self.tasks_per_core, self.tasks_per_socket)

    @property
    def seats(self) -> Seats | None:
        """What `tasks_per_socket` asks of a node; None if nothing."""
        if not self.tasks_per_socket:
            return None
        if not self.tasks:
            return Seats(self.task_cpus, self.task_lo, self.task_lo)
        return Seats(self.task_cpus, self.tasks if self.nodes_hi == 1 else self.task_lo, self.task_hi)

    @property
    def cpus_total(self) -> int:
        """CPUs the smallest allocation needs, before rounding to cores."""
        return max(self.tasks_total * self.cpus_per_task, self.nodes_lo * self.cpus_min)


def shape_key(spec: JobSpec, excluded: list[str]) -> Hashable:
    """Everything of a spec that `normalise` reads; jobs with equal keys (and partitions) share a row."""
    return (
        spec.nodes_min,
        spec.nodes_max,
        spec.use_min_nodes,
        spec.spread_job,
        spec.tasks,
        spec.tasks_per_node,
        spec.tasks_per_core,
        spec.tasks_per_socket,
        spec.cpus_per_task,
        spec.mem_per_node_mib,
        spec.mem_per_cpu_mib,
        spec.mem_all,
        spec.tmp_mib,
        spec.exclusive,
        spec.contiguous,
        *((tuple(part.partitions), shape_key(part, [])) for part in spec.components),
        spec.constraint,
        spec.prefer,
        spec.require,
        spec.rank,
        spec.nodelist,
        spec.exclude,
        gres_key(spec),
        spec.cpus_per_gpu,
        spec.mem_per_gpu_mib,
        spec.switches,
        spec.switch_wait_s,
        spec.segment,
        spec.sockets_per_node,
        spec.cores_per_socket,
        spec.threads_per_core,
        spec.cpus_min,
        tuple(excluded) if excluded else (),
    )


def normalise(spec: JobSpec, partition: PartitionRecord, options: SchedOptions) -> Request:
    """The request of `spec` in `partition`.

    Raises UsageError: NODE_COUNT_INVALID for counts that contradict each other, and what the host list and the
    constraint raise.
    """
    spec, units = _with_gres(spec, options)
    must = host_names(spec.nodelist)
    exclude = host_names(spec.exclude)
    if both := set(must) & set(exclude):
        raise UsageError(
            f"node {min(both)} is both required and excluded",
            code="NODE_COUNT_INVALID",
            hint="see --nodelist and --exclude",
        )
    constraint = parse_constraint(spec.constraint)
    counted = min(alternative.nodes for alternative in constraint.alternatives)
    lo, hi, tasks, per_node = _node_counts(spec, len(must), counted)
    limit, limit_text = "", ""
    if partition.max_nodes:
        if lo > partition.max_nodes:
            limit = "nodes"
            limit_text = f"{lo} nodes are more than MaxNodes={partition.max_nodes} of partition {partition.name}"
        hi = min(hi or partition.max_nodes, partition.max_nodes)
    if partition.min_nodes > lo:
        if 0 < hi < partition.min_nodes or (tasks and partition.min_nodes > tasks):
            limit = "nodes"
            limit_text = f"{hi or lo} nodes are fewer than MinNodes={partition.min_nodes} of partition {partition.name}"
        else:
            lo = partition.min_nodes
    if tasks and hi:
        hi = max(lo, min(hi, tasks))
    ranged = 0 < spec.nodes_min < spec.nodes_max and not spec.use_min_nodes
    grow = ranged or (spec.spread_job and tasks > 0)

    cpt = min(max(1, spec.cpus_per_task), COUNT_MAX)
    mem_cpu, mem_node, mem_all = _memory(spec, partition, options)
    cpus_min = min(spec.cpus_min, COUNT_MAX)
    max_cpu = partition.max_mem_per_cpu_mib or options.max_mem_per_cpu_mib
    max_node = partition.max_mem_per_node_mib or options.max_mem_per_node_mib
    if max_cpu and mem_cpu > max_cpu:  # slurm.conf(5), MaxMemPerCPU: more CPUs instead of more memory for each
        ratio = -(-mem_cpu // max_cpu)
        cpt, mem_cpu = min(cpt * ratio, COUNT_MAX), -(-mem_cpu // ratio)
    elif max_cpu and mem_node:
        cpus_min = min(max(cpus_min, -(-mem_node // max_cpu)), COUNT_MAX)
    wanted = mem_node or mem_cpu * cpt * max(1, per_node)
    if max_node and wanted > max_node and not limit:
        limit = "memory"
        limit_text = f"{wanted} MiB a node are more than MaxMemPerNode={max_node} of partition {partition.name}"
    mem_floor = 0
    if not options.memory_consumable:
        mem_floor, mem_node, mem_cpu, mem_all = wanted, 0, 0, False
    most = min(tasks, hi or tasks) if tasks else hi if grow else lo
    switches, switch_wait_s = _near(spec, most, options)
    request = Request(
        nodes_lo=lo,
        nodes_hi=hi,
        grow=grow,
        tasks=tasks,
        task_lo=1 if tasks else per_node,
        task_hi=(per_node or tasks) if tasks else per_node,
        cpus_per_task=cpt,
        cpus_min=cpus_min,
        mem_node_mib=mem_node,
        mem_cpu_mib=mem_cpu,
        mem_all=mem_all,
        mem_floor_mib=mem_floor,
        tmp_mib=min(spec.tmp_mib, MEM_MAX_MIB),
        exclusive=spec.exclusive or partition.oversubscribe.upper().startswith("EXCLUSIVE"),
        spread=spec.spread_job,
        contiguous=spec.contiguous,
        least_loaded=partition.lln or options.least_loaded,
        constraint=constraint.alternatives[0].every,
        require=spec.require.strip(),
        rank=spec.rank.strip(),
        must=must,
        exclude=exclude,
        limit=limit,
        limit_text=limit_text,
        gres=units,
        switches=switches,
        switch_wait_s=switch_wait_s,
        sockets_min=spec.sockets_per_node,
        cores_min=spec.cores_per_socket,
        threads_min=spec.threads_per_core,
        tasks_per_core=spec.tasks_per_core,
        tasks_per_socket=spec.tasks_per_socket,
    )
    preferred = parse_preference(spec.prefer)
    if constraint.is_plain and preferred is None and spec.segment <= 1:
        return request
    chains = () if limit else _chains(request, constraint, preferred, spec, options)
    if len(chains) == 1 and len(chains[0]) == 1:
        return chains[0][0]
    terms = tuple(dict.fromkeys(part.constraint for chain in chains for part in chain))
    return replace(request, constraint=AnyOf(terms) if terms else EVERY, alternatives=chains)


def _chains(
    request: Request, constraint: Constraint, preferred: Constraint | None, spec: JobSpec, options: SchedOptions
) -> tuple[Chain, ...]:
    """The ways to serve a request: first those that --prefer adds, which take the place of --constraint."""
    chains = chains_of(request, constraint)
    if preferred is not None:
        soft = tuple(tuple(replace(part, soft=True) for part in chain) for chain in chains_of(request, preferred))
        chains = soft + chains
    if spec.segment > 1:
        _check_segments(spec, options)
        chains = tuple(segmented(chain, spec.segment) for chain in chains)
    return chains


def _check_segments(spec: JobSpec, options: SchedOptions) -> None:
    """Raises UsageError for what does not go together with --segment."""
    if not options.has_blocks:
        raise UsageError(
            "--segment: this cluster has no blocks",
            code="SEGMENT_INVALID",
            hint="leave it out; it needs TopologyPlugin=topology/block",
        )
    for option, given in (
        ("--switches", spec.switches),
        ("--nodelist", spec.nodelist),
        ("--contiguous", spec.contiguous),
        ("a node count in --constraint", any(c.nodes for c in parse_constraint(spec.constraint).alternatives)),
    ):
        if given:
            raise UsageError(
                f"--segment and {option} do not go together", code="SEGMENT_INVALID", hint="leave one of them out"
            )


def _with_gres(spec: JobSpec, options: SchedOptions) -> tuple[JobSpec, Units]:
    """The spec with what its GRES options say about nodes, tasks, CPUs and memory; and the units on each node."""
    needs = needs_of(spec)
    changes: dict[str, int] = {}
    if needs.nodes:
        changes |= {"nodes_min": needs.nodes, "nodes_max": needs.nodes}
    if needs.tasks_per_node:
        changes |= {"tasks_per_node": needs.tasks_per_node, "tasks": 0}
    gpus = dict(needs.units).get("gpu", 0)
    if gpus and (each := spec.cpus_per_gpu or options.def_cpu_per_gpu):
        changes["cpus_min"] = min(max(spec.cpus_min, each * gpus), COUNT_MAX)
    asked = spec.mem_per_node_mib or spec.mem_per_cpu_mib or spec.mem_all
    if gpus and (each := spec.mem_per_gpu_mib or (0 if asked else options.def_mem_per_gpu_mib)):
        changes |= {"mem_per_node_mib": min(each * gpus, MEM_MAX_MIB), "mem_per_cpu_mib": 0}
    return (structs.replace(spec, **changes) if changes else spec), needs.units


def _near(spec: JobSpec, nodes_most: int, options: SchedOptions) -> tuple[int, int]:
    """`switches` and `switch_wait_s`: what --switches says, or as few as possible where there is a topology.  Nothing
    for a job of one node: --rank, weight and the best fit choose it."""
    if nodes_most == 1:
        return 0, 0
    if spec.switches and options.has_topology:
        longest = options.max_switch_wait_s
        wait_s = longest if spec.switch_wait_s is None else min(spec.switch_wait_s, longest)
        return (spec.switches, wait_s) if wait_s else (ANY_SWITCHES, 0)
    return (ANY_SWITCHES, 0) if options.keep_near else (0, 0)


def _node_counts(spec: JobSpec, must: int, counted: int) -> tuple[int, int, int, int]:
    """Least and most nodes, tasks in all (0 = per node), tasks a node (0 = not given).

    `must`: how many nodes are named.  `counted`: the least that node counts of the constraint stand for.
    """
    lo, hi = max(1, spec.nodes_min), spec.nodes_max
    tasks = min(max(0, spec.tasks), COUNT_MAX)
    per_node = min(max(0, spec.tasks_per_node), COUNT_MAX)
    if hi and hi < lo:
        raise UsageError(f"--nodes: at most {hi} is less than at least {lo}", code="NODE_COUNT_INVALID")
    if hi and must > hi:
        raise UsageError(
            f"--nodelist names {must} nodes, --nodes allows {hi}",
            code="NODE_COUNT_INVALID",
            hint="name fewer nodes or allow more",
        )
    if hi and counted > hi:
        raise UsageError(
            f"--constraint counts {counted} nodes, --nodes allows {hi}",
            code="NODE_COUNT_INVALID",
            hint="count fewer nodes or allow more",
        )
    floor = max(must, counted)
    lo = max(lo, floor)
    if not tasks:
        return lo, max(lo, hi) if hi else 0, 0, max(1, per_node)
    if lo > tasks:  # as sbatch: no more nodes than tasks, but every node that is named or counted
        lo = max(tasks, floor)
        hi = max(lo, min(hi, tasks)) if hi else 0
        tasks = max(tasks, lo)
    if per_node:
        needed = -(-tasks // per_node)
        if hi and needed > hi:
            raise UsageError(
                f"{tasks} tasks at {per_node} a node need {needed} nodes, --nodes allows {hi}",
                code="NODE_COUNT_INVALID",
                hint="ask for more nodes or more tasks a node",
            )
        lo = max(lo, needed)
    return lo, hi, tasks, per_node


def _memory(spec: JobSpec, partition: PartitionRecord, options: SchedOptions) -> tuple[int, int, bool]:
    """MiB per CPU, MiB per node, whole memory: the request's, else the partition's, else the cluster's default."""
    if spec.mem_all:
        return 0, 0, True
    if spec.mem_per_cpu_mib:
        return min(spec.mem_per_cpu_mib, MEM_MAX_MIB), 0, False
    if spec.mem_per_node_mib:
        return 0, min(spec.mem_per_node_mib, MEM_MAX_MIB), False
    for source in (partition, options):
        if source.def_mem_per_cpu_mib:
            return min(source.def_mem_per_cpu_mib, MEM_MAX_MIB), 0, False
        if source.def_mem_per_node_mib:
            return 0, min(source.def_mem_per_node_mib, MEM_MAX_MIB), False
    return 0, 0, True  # slurm.conf(5), DefMemPerNode: unlimited, that is, all of the node's


def time_limit_s(spec: JobSpec, partition: PartitionRecord) -> int:
    """The limit the job would run with in `partition`, seconds, 0 = unlimited."""
    if spec.time_limit_s is not None:
        return spec.time_limit_s
    return partition.max_time_s if partition.default_time_s is None else partition.default_time_s


def is_late(limit_s: int, partition: PartitionRecord) -> bool:
    """True if a job with this limit (0 = none) asks for more time than the partition allows."""
    return partition.max_time_s > 0 and (limit_s == 0 or limit_s > partition.max_time_s)


def partition_limit(spec: JobSpec, request: Request, partition: PartitionRecord) -> tuple[Reason, str]:
    """The limit of `partition` that keeps the job out, and the words for it; (NONE, "") if there is none."""
    if request.limit == "nodes":
        return Reason.PARTITION_NODE_LIMIT, request.limit_text
    if request.limit == "memory":
        return Reason.BAD_CONSTRAINTS, request.limit_text
    limit = time_limit_s(spec, partition)
    if is_late(limit, partition):
        asked = f"{_minutes(limit)} asked" if limit else "no limit asked"
        return (
            Reason.PARTITION_TIME_LIMIT,
            f"partition {partition.name} allows {_minutes(partition.max_time_s)}, {asked}",
        )
    return Reason.NONE, ""


def _minutes(seconds: int) -> str:
    return f"{seconds // 60} min" if seconds % 60 == 0 else f"{seconds} s"


@lru_cache(maxsize=256)
def host_names(text: str) -> tuple[str, ...]:
    """The distinct names of a host list, in the order written."""
    return tuple(dict.fromkeys(parse_hostlist(text))) if text else ()
