"""The single commit point: a plan made on a snapshot is checked against the state as it is now, and may be accepted
in part.

By capacity, not by revision (architecture.md, algorithms.md 7): a start is good if the job may still start, with the
spec it was planned for, its partition starts jobs, and every node still has whole cores and memory for it.  Starts
of one plan see each other.  Never overcommits, whatever the planner returned.  Cost: about 5 us a start.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from helix.model.job import Allocation, JobSpec
from helix.model.node import NodeRecord, is_counted, is_schedulable
from helix.sched.place import core_width, pick_cpus, socket_cpus
from helix.sched.plan import Plan
from helix.sched.request import time_limit_s
from helixctld.core.state import State, core_mask

PickCpus = Callable[[NodeRecord, int, int], list[int] | None]
SpecOf = Callable[[int], JobSpec | None]


@dataclass(frozen=True, slots=True)
class AcceptedStart:
    """What JobStarted needs.  For an array, `job_id` is the array's and there is one of these for each task."""

    job_id: int
    partition: str
    time_limit_s: int
    alloc: Allocation


@dataclass(frozen=True, slots=True)
class Conflict:
    """A planned start that the state no longer allows."""

    job_id: int
    why: str


@dataclass(slots=True)
class Verified:
    """The accepted starts in the plan's order, and the rest."""

    accepted: list[AcceptedStart] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)


def pick_whole_cores(node: NodeRecord, free: int, count: int) -> list[int] | None:
    """The default choice of CPUs; see `helix.sched.place`."""
    return pick_cpus(free, count, width=core_width(node), per_socket=socket_cpus(node), cpus=node.cpus)


class _Commit:
    """Working copies of one commit: what the starts accepted so far have taken."""

    def __init__(self, state: State, pick: PickCpus) -> None:
        self.state = state
        self.pick = pick
        self.free: dict[int, int] = {}  # mask of free CPUs, or their number where CPUs are counted
        self.mem: dict[int, int] = {}
        self.used: dict[int, bool] = {}  # node index -> all of it (a whole-node start of this commit)
        self.part_cpus: dict[tuple[str, int], int] = {}  # what MaxCPUsPerNode leaves
        self.ready: dict[int, NodeRecord | None] = {}

    def node(self, index: int) -> NodeRecord | None:
        """The node, if it may take new work."""
        if index not in self.ready:
            names = self.state.node_names
            node = self.state.nodes.get(names[index]) if 0 <= index < len(names) else None
            good = node is not None and is_schedulable(node) and not node.whole_job
            self.ready[index] = node if good else None
        return self.ready[index]

    def place(self, indexes: list[int], cpus: list[int], mem: list[int], whole: bool, room: tuple[str, int]) -> (
        Allocation | str
    ):  # fmt: skip
        """Take the resources of one start; what is missing, in words, if they are not there (nothing is taken)."""
        nodes: list[str] = []
        cores: list[list[int]] = []
        lefts: list[int] = []
        counted = False
        if len(set(indexes)) != len(indexes):
            return "a node is named twice"
        for index, count, mib in zip(indexes, cpus, mem, strict=True):
            node = self.node(index)
            if node is None:
                return "a node is not available any more"
            free = self._free(node)
            if whole and (not self.state.is_empty(node) or index in self.used):
                return f"{node.name} is not empty any more"
            if self.used.get(index) or count <= 0 or mib < 0:
                return f"{node.name} is taken"
            if room[1] and count > self._room(room, node):
                return f"{node.name} has no CPUs left for partition {room[0]}"
            if mib > self.mem.get(index, self.state.offered_mem_mib(node)):
                return f"{node.name} has too little free memory"
            if is_counted(node):
                counted = True
                if count > free:
                    return f"{node.name} has too few free CPUs"
                picked, left = [], free - count
            else:
                found = self.pick(node, free, count)
                if found is None:
                    return f"{node.name} has too few free CPUs"
                picked, mask = found, core_mask(found)
                if len(picked) != count or mask & ~free or mask.bit_count() != count:
                    return f"{node.name}: the CPUs picked are not free"
                left = free & ~mask
            nodes.append(node.name)
            cores.append(picked)
            lefts.append(left)
        for index, left, mib, count in zip(indexes, lefts, mem, cpus, strict=True):
            self.free[index] = left
            if index not in self.mem:
                self.mem[index] = self.state.offered_mem_mib(self.state.nodes[self.state.node_names[index]])
            self.mem[index] -= mib
            self.used[index] = whole
            if room[1]:
                key = (room[0], index)
                self.part_cpus[key] -= count
        return Allocation(
            nodes=nodes, cores=cores, mem_mib=list(mem), whole=whole, counts=list(cpus) if counted else []
        )

    def _free(self, node: NodeRecord) -> int:
        free = self.free.get(node.index)
        if free is None:
            free = node.cpus - node.cpus_alloc if is_counted(node) else self.state.offered_cores(node)
        return free

    def _room(self, room: tuple[str, int], node: NodeRecord) -> int:
        key = (room[0], node.index)
        if key not in self.part_cpus:
            jobs = self.state.jobs
            used = sum(n for job_id, n in node.jobs.items() if jobs[job_id].partition == room[0])
            self.part_cpus[key] = room[1] - used
        return self.part_cpus[key]


def verify(plan: Plan, state: State, *, pick: PickCpus = pick_whole_cores, spec_of: SpecOf | None = None) -> Verified:
    """Check every start of `plan` against `state`, in order; changes nothing.

    `spec_of`: the spec each job was planned with; a job whose spec is another object by now is a conflict.
    """
    verified = Verified()
    commit = _Commit(state, pick)
    left: dict[int, int] = {}
    ptr = plan.ptr.tolist()
    nodes, cpus, mem = plan.node.tolist(), plan.cpus.tolist(), plan.mem.tolist()
    for i, (job_id, part) in enumerate(zip(plan.start_job.tolist(), plan.start_part.tolist(), strict=True)):
        job = state.jobs.get(job_id)
        name = plan.partitions[part]
        partition = state.partitions.get(name)
        why = ""
        if job is None or job_id not in state.schedulable:
            why = "the job may not start any more"
        elif spec_of is not None and spec_of(job_id) is not job.spec:
            why = "the job was changed"
        elif partition is None or partition.state.upper() not in ("UP", "DRAIN"):
            why = f"partition {name} does not start jobs any more"
        if why or job is None or partition is None:
            verified.conflicts.append(Conflict(job_id, why))
            continue
        if job_id not in left:
            left[job_id] = state.tasks_startable(job)
        if left[job_id] <= 0:
            verified.conflicts.append(Conflict(job_id, "no more tasks may start"))
            continue
        at = slice(ptr[i], ptr[i + 1])
        whole = job.spec.exclusive or partition.oversubscribe.upper().startswith("EXCLUSIVE")
        room = (name, 0 if whole else partition.max_cpus_per_node)
        placed = commit.place(nodes[at], cpus[at], mem[at], whole, room)
        if isinstance(placed, str) or not placed.nodes:
            verified.conflicts.append(Conflict(job_id, placed if isinstance(placed, str) else "no nodes"))
            continue
        left[job_id] -= 1
        verified.accepted.append(AcceptedStart(job_id, name, time_limit_s(job.spec, partition), placed))
    return verified
