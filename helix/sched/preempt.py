"""Which running jobs make room for a waiting one: rules that plugins answer by, and what one node would take.  Pure.

Who of them goes is chosen by `helix.sched.victims`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from helix.sched.place import free_cpus

PENALTY = 600  #: what the loss of one more job counts, in CPU seconds

OFF, CANCEL, REQUEUE, SUSPEND = "OFF", "CANCEL", "REQUEUE", "SUSPEND"


@dataclass(frozen=True, slots=True, kw_only=True)
class PreemptRules:
    """What the configuration says of preemption and time slicing."""

    modes: tuple[str, ...] = (OFF,)  # words of PreemptMode
    exempt_s: int = 0  # a job makes room after it has run for so long
    min_exempt_priority: int = 0  # from this priority on none makes room; 0 = no such limit
    youngest_first: bool = False
    strict_order: bool = False
    send_user_signal: bool = False
    time_slice_s: int = 30
    requeue_default: bool = True  # JobRequeue

    @property
    def gang(self) -> bool:
        """True if jobs that share CPUs take turns."""
        return "GANG" in self.modes


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """What a plugin sees of a job, waiting or running."""

    job_id: int
    uid: int = 0
    account: str = ""
    priority: int = 0
    partition: str = ""
    tier: int = 1  # PriorityTier of the partition
    partition_modes: tuple[str, ...] = ()  # words of its PreemptMode, () = the cluster's
    partition_grace_s: int = 0
    qos: str = ""
    qos_priority: int = 0
    qos_preempts: tuple[str, ...] = ()  # QOS whose jobs it may take the place of
    qos_modes: tuple[str, ...] = ()
    qos_grace_s: int = 0
    qos_exempt_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """On what terms a job makes room."""

    modes: tuple[str, ...] = ()  # words of PreemptMode, () = the cluster's
    grace_s: int = 0  # between the warning and SIGKILL, 0 = KillWait
    exempt_s: int | None = None  # None = the cluster's
    level: int = 0  # jobs of a lower level make room first


@dataclass(frozen=True, slots=True)
class Share:
    """What comes free on a node when a job makes room: cores as a mask, MiB, units of each kind of GRES."""

    cores: int
    mem_mib: int = 0
    gres: tuple[int, ...] = ()
    rooms: Mapping[str, int] = field(default_factory=dict)  # CPUs that count against the limits in `Place.rooms`


@dataclass(frozen=True, slots=True)
class Victim:
    """A job that may make room.  `cost` >= 1."""

    job_id: int
    cost: int
    shares: Mapping[int, Share]  # by node index


@dataclass(slots=True)
class Place:
    """A node as it is for the waiting job before anybody makes room."""

    index: int
    cpus: int  # configured
    width: int  # CPUs in a core
    mem_mib: int  # configured
    free_cores: int  # mask
    free_mem_mib: int
    taken: int = 0  # cores of jobs, whoever they are; `exclusive` needs none of them left
    free_gres: tuple[int, ...] = ()
    rooms: Mapping[str, int] = field(default_factory=dict)  # what limits of CPUs (a partition's, a reservation's) leave
    weight: int = 0  # lower is taken first


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What the waiting job needs; names as in `helix.sched.request.Request`."""

    nodes_lo: int = 1
    nodes_hi: int = 0  # 0 = no bound
    tasks: int = 0  # 0 = task_lo on each node
    task_lo: int = 1
    task_hi: int = 1
    cpus_per_task: int = 1
    cpus_min: int = 0
    mem_node_mib: int = 0
    mem_cpu_mib: int = 0
    mem_all: bool = False
    exclusive: bool = False
    gres: tuple[int, ...] = ()  # on each node
    must: frozenset[int] = frozenset()  # nodes it names
    contiguous: bool = False

    def cost(self, tasks: int, width: int) -> int:
        """CPUs that `tasks` tasks take, in whole cores."""
        cpus = max(tasks * self.cpus_per_task, self.cpus_min)
        return -(-cpus // width) * width


@dataclass(slots=True)
class Choice:
    """Who makes room (job ids, ascending) and what the job gets: nodes by index, ascending, with their tasks.

    Of a chain: the nodes of one part after those of another."""

    victims: list[int]
    nodes: list[int]
    tasks: list[int]
    cost: int = 0
    part: list[int] = field(default_factory=list)  # of each node; [] = all are for the first


def tasks_on(need: Need, place: Place, shares: Iterable[Share]) -> int:
    """Tasks the node takes when these shares come free; 0 if it cannot be part."""
    cores, mem, taken, rooms = place.free_cores, place.free_mem_mib, place.taken, dict(place.rooms)
    gres = list(place.free_gres)
    for share in shares:
        cores |= share.cores
        taken &= ~share.cores
        mem += share.mem_mib
        for name in rooms:
            rooms[name] += share.rooms.get(name, 0)
        for kind, units in enumerate(share.gres):
            gres[kind] += units
    if need.exclusive and taken:
        return 0
    cpus = free_cpus(cores, place.width, place.cpus)
    if rooms and not need.exclusive:
        cpus = max(0, min(cpus, *rooms.values())) // place.width * place.width
    if need.exclusive and cpus < place.cpus // place.width * place.width:
        return 0
    least = need.cost(need.task_lo, place.width)
    if cpus < least or any(has < want for has, want in zip(gres, need.gres, strict=False)):
        return 0
    tasks = cpus // need.cpus_per_task
    if need.mem_all:
        if mem < place.mem_mib:
            return 0
    elif need.mem_node_mib:
        if mem < need.mem_node_mib:
            return 0
    elif need.mem_cpu_mib:
        by_mem = mem // need.mem_cpu_mib // place.width * place.width
        if by_mem < least:
            return 0
        tasks = min(tasks, by_mem // need.cpus_per_task)
    tasks = min(tasks, need.task_hi)
    return tasks if tasks >= need.task_lo else 0


def enough(need: Need, fit: Mapping[int, int]) -> list[int] | None:
    """Nodes on which the job can start given the tasks each takes (0 or no entry: none), in the order of `fit`."""
    able = [index for index, tasks in fit.items() if tasks > 0]
    if not need.must <= set(able):
        return None
    lo = max(need.nodes_lo, len(need.must))
    hi = need.nodes_hi or len(able)
    if need.tasks:
        hi = min(hi, need.tasks)
    if lo > min(hi, len(able)):
        return None
    if need.contiguous:
        return _neighbours(need, fit, lo, hi)
    order = [i for i in able if i in need.must] + [i for i in able if i not in need.must]
    if not need.tasks:
        return order[:lo]
    for ranked in (order, sorted(order, key=lambda i: (i not in need.must, -fit[i]))):
        total = 0
        for count, index in enumerate(ranked[:hi], 1):
            total += fit[index]
            if total >= need.tasks and count >= lo:
                return ranked[:count]
    return None


def _neighbours(need: Need, fit: Mapping[int, int], lo: int, hi: int) -> list[int] | None:
    for first in sorted(i for i, tasks in fit.items() if tasks > 0):
        run: list[int] = []
        total = 0
        index = first
        while fit.get(index, 0) > 0 and len(run) < hi:
            run.append(index)
            total += fit[index]
            index += 1
            if len(run) >= lo and total >= need.tasks and need.must <= set(run):
                return run
    return None


def work_cost(cpus: int, ran_s: float, level: int, *, loses: bool, rules: PreemptRules) -> int:
    """What it costs that a job makes room: the CPU seconds it loses (CPUs alone where it is only stopped), more for
    jobs of a higher level, and a penalty for each job.  With youngest_first, the seconds it has run.  `level`: dense,
    from 0."""
    if rules.youngest_first:
        base = int(max(0.0, ran_s)) + 1
    else:
        base = PENALTY + (int(cpus * max(0.0, ran_s)) if loses else cpus)
    if rules.strict_order:
        return base << (48 * level) if level < 16 else base << (48 * 16)
    return base * (1 + level)
