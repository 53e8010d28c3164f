"""The single commit point: a plan made on a snapshot is checked against the state as it is now, and may be accepted
in part.

By capacity, not by revision (architecture.md, algorithms.md 7): a start is good if the job may still start, with the
spec it was planned for, its partition starts jobs, every node may still serve it (`recheck.py`) and has whole cores,
memory and GRES for it, no
licence and no limit would be exceeded, and nothing else that must be checked speaks against it (`Sources.checks`).
Starts of one plan see each other.  Never overcommits, whatever the planner returned.  Cost: about 5 us a start.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from helix.model.hetjob import partition_on, specs_of
from helix.model.job import Allocation, JobRecord, JobSpec
from helix.model.node import NodeRecord, is_counted, is_schedulable
from helix.sched.place import core_width, pick_cpus, socket_cpus
from helix.sched.plan import Plan
from helix.sched.request import time_limit_s
from helix.sched.sockets import pick_seats, task_cpus
from helixctld.core.state import State
from helixctld.core.yielding import core_mask
from helixctld.schedule.components import Group, PartsOf, groups_of
from helixctld.schedule.owner_columns import someone_elses
from helixctld.schedule.pool_columns import PoolColumns
from helixctld.schedule.recheck import Recheck
from helixctld.schedule.reservation_guard import Guard

PickCpus = Callable[[NodeRecord, int, int], list[int] | None]
SpecOf = Callable[[int], JobSpec | None]


@dataclass(frozen=True, slots=True)
class AcceptedStart:
    """What JobStarted needs.  For an array, `job_id` is the array's and there is one of these for each task."""

    job_id: int
    partition: str
    time_limit_s: int
    alloc: Allocation
    reservation: str = ""  # whose nodes they are


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


@dataclass(frozen=True, slots=True)
class _Placed:
    """A start that would fit, and what would be left: masks of free CPUs, or their numbers where CPUs are counted."""

    alloc: Allocation
    indexes: list[int]
    cpus: list[int]
    lefts: list[int]
    room: tuple[str, int]
    parts: tuple[_Placed, ...] = ()  # of a heterogeneous job: its components


class _Commit:
    """Working copies of one commit: what the starts accepted so far have taken."""

    def __init__(self, state: State, pick: PickCpus, pools: PoolColumns | None, now: float) -> None:
        self.state = state
        self.pick = pick
        self.pools = pools
        self.now = now
        self.pool_taken: dict[int, int] = {}
        self.gres_taken: dict[str, object] = {}
        self.free: dict[int, int] = {}  # mask of free CPUs, or their number where CPUs are counted
        self.mem: dict[int, int] = {}
        self.used: dict[int, bool] = {}  # node index -> all of it (a whole-node start of this commit)
        self.part_cpus: dict[tuple[str, int], int] = {}  # what MaxCPUsPerNode leaves
        self.ready: dict[int, NodeRecord | None] = {}
        self.has_owners = any(p.exclusive_user for p in state.partitions.values())
        self.users: dict[str, list[tuple[int, bool]]] = {}  # node -> uid, exclusively?, of starts of this commit

    def node(self, index: int) -> NodeRecord | None:
        """The node, if it may take new work."""
        if index not in self.ready:
            names = self.state.node_names
            node = self.state.nodes.get(names[index]) if 0 <= index < len(names) else None
            good = node is not None and is_schedulable(node) and not node.whole_job
            self.ready[index] = node if good else None
        return self.ready[index]

    def place(
        self, indexes: list[int], cpus: list[int], mem: list[int], whole: bool, room: tuple[str, int], spec: JobSpec
    ) -> _Placed | str:
        """The allocation of one start; what is missing, in words, if it is not there.  Takes nothing.  `spec`: of the
        job, or of its component."""
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
                if spec.tasks_per_socket and not whole:
                    found = pick_seats(node, free, count, task_cpus(spec), spec.tasks or max(1, spec.tasks_per_node))
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
        if not nodes:
            return "no nodes"
        counts = list(cpus) if counted else []
        alloc = Allocation(nodes=nodes, cores=cores, mem_mib=list(mem), whole=whole, counts=counts)
        return _Placed(alloc, indexes, cpus, lefts, room)

    def place_components(
        self,
        groups: list[Group],
        nodes: list[int],
        cpus: list[int],
        mem: list[int],
        whole: bool,
        job_spec: JobSpec,
    ) -> _Placed | str:
        """`place` for each component of a heterogeneous job: all of them, or none."""
        parts = []
        for group in groups:
            partition = self.state.partitions.get(group.partition)
            if partition is None or partition.state.upper() not in ("UP", "DRAIN"):
                return f"partition {group.partition} does not start jobs any more"
            room = (group.partition, 0 if whole else partition.max_cpus_per_node)
            at = group.places
            spec = specs_of(job_spec)[group.component]
            placed = self.place([nodes[k] for k in at], [cpus[k] for k in at], [mem[k] for k in at], whole, room, spec)
            if isinstance(placed, str):
                return placed
            parts.append(placed)
        indexes = [index for part in parts for index in part.indexes]
        if len(set(indexes)) != len(indexes):
            return "a node is named twice"
        given = [count for part in parts for count in part.cpus]
        alloc = Allocation(
            nodes=[name for part in parts for name in part.alloc.nodes],
            cores=[cores for part in parts for cores in part.alloc.cores],
            mem_mib=[mib for part in parts for mib in part.alloc.mem_mib],
            whole=whole,
            counts=given if any(part.alloc.counts for part in parts) else [],
            component=[group.component for group in groups for _ in group.places],
        )
        return _Placed(alloc, indexes, given, [left for part in parts for left in part.lefts], ("", 0), tuple(parts))

    def allow(self, job: JobRecord, partition: str, limit_s: int, placed: _Placed) -> str:
        """Take one start, unless a limit, a licence, GRES or a check forbids it: then why, and nothing is taken."""
        pools, alloc = self.pools, placed.alloc
        held = () if pools is None else pools.amounts_of(self.state, job, alloc)
        for pool, amount in held:
            assert pools is not None
            if amount > pools.left(pool) - self.pool_taken.get(pool, 0):
                reason, words = pools.words(self.state, pool)
                return f"{reason}: {words}" if words else str(reason)
        if self.has_owners and (taken := someone_elses(self.state, job, partition, alloc.nodes, self.users)):
            return f"{taken} is another user's"
        if pools is not None:
            for check in pools.sources.checks:
                if why := check(self.state, job, partition, limit_s, alloc, self.now):
                    return why
            if why := pools.sources.gres.give(self.state, job, alloc, self.gres_taken):
                return why
        for pool, amount in () if pools is None else pools.taken_by(self.state, job, alloc):
            self.pool_taken[pool] = self.pool_taken.get(pool, 0) + amount
        self._take(placed)
        if self.has_owners:
            use = job.uid, self.state.partitions[partition].exclusive_user
            for name in alloc.nodes:
                self.users.setdefault(name, []).append(use)
        return ""

    def _take(self, placed: _Placed) -> None:
        if placed.parts:
            for part in placed.parts:
                self._take(part)
            return
        room = placed.room
        for index, left, mib, count in zip(
            placed.indexes, placed.lefts, placed.alloc.mem_mib, placed.cpus, strict=True
        ):
            self.free[index] = left
            if index not in self.mem:
                self.mem[index] = self.state.offered_mem_mib(self.state.nodes[self.state.node_names[index]])
            self.mem[index] -= mib
            self.used[index] = placed.alloc.whole
            if room[1]:
                self.part_cpus[room[0], index] -= count

    def _free(self, node: NodeRecord) -> int:
        free = self.free.get(node.index)
        if free is None:
            free = node.cpus - node.cpus_alloc if is_counted(node) else self.state.offered_cores(node)
        return free

    def _room(self, room: tuple[str, int], node: NodeRecord) -> int:
        key = (room[0], node.index)
        if key not in self.part_cpus:
            jobs = self.state.jobs
            used = sum(n for job_id, n in node.jobs.items() if partition_on(jobs[job_id], node.name) == room[0])
            self.part_cpus[key] = room[1] - used
        return self.part_cpus[key]


def verify(
    plan: Plan,
    state: State,
    *,
    pick: PickCpus = pick_whole_cores,
    spec_of: SpecOf | None = None,
    pools: PoolColumns | None = None,
    now: float = 0.0,
    over_run_s: int | None = 0,
    parts_of: PartsOf | None = None,
    recheck: Recheck | None = None,
) -> Verified:
    """Check every start of `plan` against `state`, in order; changes nothing.

    `spec_of`: the spec each job was planned with; a job whose spec is another object by now is a conflict.  `pools`:
    those of the columns, told of every running job (`Columns.take_running`); with them goes what else is checked.
    `now`: epoch seconds; `over_run_s`: ResvOverRun, None = no limit.  `parts_of`: for heterogeneous jobs.
    `recheck`: given where the cluster changed since the plan was made.
    """
    verified = Verified()
    if not len(plan.start_job):
        return verified
    guard = Guard(state, plan.clones, over_run_s, now)
    rows = plan.node.tolist() if plan.row is None else plan.row.tolist()
    commit = _Commit(state, pick, pools, now)
    left: dict[int, int] = {}
    ptr = plan.ptr.tolist()
    nodes, cpus, mem = plan.node.tolist(), plan.cpus.tolist(), plan.mem.tolist()
    limits = None if plan.start_limit is None else plan.start_limit.tolist()
    for i, (job_id, part) in enumerate(zip(plan.start_job.tolist(), plan.start_part.tolist(), strict=True)):
        job = state.jobs.get(job_id)
        changed = job is not None and spec_of is not None and spec_of(job_id) is not job.spec
        # the rows of a request that has changed may be another's by now
        groups = [] if job is None or changed else groups_of(plan, i, job, parts_of)
        name = groups[0].partition if groups else plan.partitions[part]
        why = _may_start(state, job, job_id, name, changed=changed)
        if recheck is not None and job is not None and not why:
            why = recheck.why_not(plan, i, job)
        if why or job is None:
            verified.conflicts.append(Conflict(job_id, why))
            continue
        if job_id not in left:
            left[job_id] = state.tasks_startable(job)
        if left[job_id] <= 0:
            verified.conflicts.append(Conflict(job_id, "no more tasks may start"))
            continue
        partition = state.partitions[name]
        at = slice(ptr[i], ptr[i + 1])
        whole = job.spec.exclusive or partition.oversubscribe.upper().startswith("EXCLUSIVE")
        room = (name, 0 if whole else partition.max_cpus_per_node)
        limit_s = time_limit_s(job.spec, partition)
        if job.spec.time_min_s and limits is not None:
            limit_s = _cut(limit_s, job.spec.time_min_s, limits[i])
        if groups:
            placed = commit.place_components(groups, nodes, cpus, mem, whole, job.spec)
        else:
            placed = commit.place(nodes[at], cpus[at], mem[at], whole, room, job.spec)
        reservation = guard.reservation_of(job, rows[at], len(state.node_names)) if state.reservations else ""
        why = placed if isinstance(placed, str) else guard.why_not(job, reservation, limit_s, placed.alloc)
        if not why and not isinstance(placed, str):
            why = commit.allow(job, name, limit_s, placed)
        if why or isinstance(placed, str):
            verified.conflicts.append(Conflict(job_id, why))
            continue
        left[job_id] -= 1
        if state.reservations:
            guard.take(reservation, limit_s, placed.alloc)
        verified.accepted.append(AcceptedStart(job_id, name, limit_s, placed.alloc, reservation))
    return verified


def _may_start(state: State, job: JobRecord | None, job_id: int, partition: str, *, changed: bool) -> str:
    """Why a job may not start in a partition, whatever is free; "" if it may.  `changed`: since it was planned."""
    if job is None or job_id not in state.schedulable:
        return "the job may not start any more"
    if changed:
        return "the job was changed"
    record = state.partitions.get(partition)
    if record is None or record.state.upper() not in ("UP", "DRAIN"):
        return f"partition {partition} does not start jobs any more"
    return ""


def _cut(limit_s: int, least_s: int, planned_s: int) -> int:
    """The limit a job with `--time-min` gets: what was planned, within what it asked for.  0 = unlimited."""
    if planned_s <= 0:
        return limit_s
    return min(max(planned_s, least_s), limit_s or planned_s)
