"""Which nodes, or parts of nodes, a reservation gets, and what is in its way.

A node is free for a reservation when no other one meets it there (unless it may overlap) and no running job's limit
reaches into it (unless it ignores jobs).  Of several, idle nodes come first, then light ones (Weight), then those that
stand first in the configuration.  Cost: one look at every node; a refusal looks again at up to `MOMENTS_MAX` moments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from helix.errors import Conflict, HelixError, Never
from helix.gres import parse_gres, units_of
from helix.hostlist import format_hostlist
from helix.model.job import JobRecord
from helix.model.job_state import JobState
from helix.model.node import NodeBase, NodeRecord
from helix.model.reservation import ReservationRecord, Share
from helix.sched.features import meets, parse_constraint
from helix.sched.place import core_width
from helix.timefmt import format_timestamp
from helixctld.core.reservation_times import NEVER_S, is_met, meet, window
from helixctld.core.state import State

MOMENTS_MAX = 24  #: moments tried for "it would fit at ..."
NAMED_MAX = 5  #: jobs and nodes named in a message


def job_end(job: JobRecord, now: float) -> float:
    """When a running job's limit ends it at the latest; infinity without a limit."""
    if job.state is JobState.COMPLETING:
        return now
    if not job.time_limit_s:
        return NEVER_S
    suspended = job.suspended_s + (now - job.t_suspended if job.state is JobState.SUSPENDED else 0.0)
    return max(now, job.t_start + job.time_limit_s + suspended)


@dataclass(slots=True)
class Room:
    """What of one node is free for a reservation, and what takes the rest."""

    cpus: int
    mem_mib: int
    jobs: list[int] = field(default_factory=list)
    reservations: list[str] = field(default_factory=list)


class Need:
    """What parts of nodes are still to be found for a reservation; CPUs are cores where CoreCnt was given."""

    def __init__(self, r: ReservationRecord) -> None:
        self.by_core = r.core_count > 0
        self.cpus = r.core_count or r.tres.get("cpu", 0)
        self.mem_mib = r.tres.get("mem", 0)
        self.gres = {name.removeprefix("gres/"): n for name, n in r.tres.items() if name.startswith("gres/")}
        self._counts_cpus, self._counts_mem = self.cpus > 0, self.mem_mib > 0

    @property
    def is_met(self) -> bool:
        """Nothing is missing any more."""
        return self.cpus <= 0 and self.mem_mib <= 0 and all(n <= 0 for n in self.gres.values())

    def share(self, node: NodeRecord, room: Room, each: int, width: int) -> Share | None:
        """What `node` gives, at most what is missing; None if that is nothing, or less than `each` CPUs."""
        units = {kind: min(n, gres_of(node).get(kind, 0)) for kind, n in self.gres.items() if n > 0}
        units = {kind: n for kind, n in units.items() if n > 0}
        if (units and room.reservations) or (self.gres and not units):
            return None  # which devices a reservation has is not known before its jobs start
        if self._counts_cpus:
            cpus = _up((each or self.cpus) * (width if self.by_core else 1), width)
        elif units:
            cpus = _up(max(-(-node.cpus * n // gres_of(node)[kind]) for kind, n in units.items()), width)
        else:
            cpus = _up(-(-node.cpus * min(self.mem_mib, node.real_memory_mib) // max(1, node.real_memory_mib)), width)
        least = cpus if each else 1
        cpus = min(cpus, max(0, room.cpus) // width * width)
        mem_mib = min(self.mem_mib, room.mem_mib) if self._counts_mem else node.real_memory_mib * cpus // node.cpus
        if cpus < least or mem_mib > room.mem_mib or (self._counts_mem and mem_mib <= 0):
            return None
        return Share(cpus=cpus, mem_mib=mem_mib, gres=units)

    def take(self, share: Share, width: int) -> None:
        """Count a share as found."""
        self.cpus -= share.cpus // width if self.by_core else share.cpus
        self.mem_mib -= share.mem_mib if self._counts_mem else 0
        self.gres = {kind: n - share.gres.get(kind, 0) for kind, n in self.gres.items()}
        if not self._counts_cpus:
            self.cpus = 0


class Search:
    """Looks for room for reservation `r`, which need not exist yet; one that exists is not in its own way."""

    def __init__(self, state: State, r: ReservationRecord, now: float) -> None:
        self.state = state
        self.r = r
        self.now = now
        self.others: list[ReservationRecord] = []
        self.met()

    def met(self) -> None:
        """Find the reservations that meet `r` where it is in time now."""
        self.others = [] if self.r.may_overlap else [
            other
            for other in self.state.reservations.values()
            if other.name != self.r.name and other.shares and meet(self.r, other, self.now)
        ]  # fmt: skip

    def room(self, node: NodeRecord) -> Room:
        """What is free of a node for all of the reservation's window."""
        room = Room(node.cpus, node.real_memory_mib)
        for other in self.others:
            share = other.shares.get(node.name)
            if share is not None:
                room.cpus -= node.cpus if share.whole else share.cpus
                room.mem_mib -= node.real_memory_mib if share.whole else share.mem_mib
                room.reservations.append(other.name)
        if not self.r.has("IGNORE_JOBS"):
            t_start, _ = window(self.r, self.now)
            for job_id in node.jobs:
                job = self.state.jobs[job_id]
                if job.reservation and (job.reservation == self.r.name or job.reservation in room.reservations):
                    continue  # what it uses is reserved already
                if job_end(job, self.now) > t_start:
                    cpus, mem_mib = _used(job, node.name)
                    room.cpus -= cpus
                    room.mem_mib -= mem_mib
                    room.jobs.append(job_id)
        return room

    def is_free(self, node: NodeRecord) -> bool:
        """True if the whole node is free."""
        room = self.room(node)
        return not room.jobs and not room.reservations

    # ---- choosing -----------------------------------------------------------------------------------------------

    def candidates(self) -> list[NodeRecord]:
        """Nodes that may be chosen, the best first."""
        term = parse_constraint(self.r.features).alternatives[0].every
        kinds = [name.removeprefix("gres/") for name in self.r.tres if name.startswith("gres/")]
        found = [
            node
            for node in self._domain()
            if is_fit(node) and meets(node.features, term) and all(gres_of(node).get(kind) for kind in kinds)
        ]
        return sorted(found, key=lambda node: (bool(node.jobs), node.weight, node.index))

    def _domain(self) -> Iterable[NodeRecord]:
        partition = self.state.partitions.get(self.r.partition or self.state.default_partition)
        names = self.state.node_names if partition is None else partition.nodes
        return (self.state.nodes[name] for name in dict.fromkeys(names) if name in self.state.nodes)

    def choose(self, keep: Iterable[str] = ()) -> dict[str, Share] | None:
        """Shares for what `r` asks by count, those of `keep` first; None if there is no room."""
        wanted = set(keep)
        nodes = sorted(self.candidates(), key=lambda node: node.name not in wanted)
        if self.r.core_count or self.r.tres:
            return self._choose_parts(nodes)
        free = [node for node in nodes if self.is_free(node)]
        if len(free) < self.r.node_count:
            return None
        return _ordered({node.name: whole_share(node) for node in free[: self.r.node_count]}, self.state)

    def _choose_parts(self, nodes: list[NodeRecord]) -> dict[str, Share] | None:
        """Parts of nodes: as many cores (CoreCnt) or CPUs, evenly over NodeCnt nodes if that is given; or devices or
        memory, with CPUs in proportion.  Nodes are filled one after the other."""
        r = self.r
        left = Need(r)
        each = -(-left.cpus // r.node_count) if r.node_count else 0
        shares: dict[str, Share] = {}
        for node in nodes:
            if left.is_met or (r.node_count and len(shares) == r.node_count):
                break
            room = self.room(node)
            width = core_width(node)
            share = left.share(node, room, each, width)
            if share is not None:
                shares[node.name] = share
                left.take(share, width)
        if not left.is_met or not shares or (r.node_count and len(shares) < r.node_count):
            return None
        return _ordered(shares, self.state)

    # ---- refusing -----------------------------------------------------------------------------------------------

    def require_room(self, shares: dict[str, Share]) -> None:
        """Raises Conflict (RESERVATION_CONFLICT) that names what is in the way of these shares."""
        jobs: dict[int, None] = {}
        names: dict[str, None] = {}
        nodes: list[str] = []
        for name, share in shares.items():
            room = self.room(self.state.nodes[name])
            taken = room.jobs or room.reservations
            if taken if share.whole else (room.cpus < share.cpus or room.mem_mib < share.mem_mib):
                jobs.update(dict.fromkeys(room.jobs))
                names.update(dict.fromkeys(room.reservations))
                nodes.append(name)
        if nodes:
            raise self.conflict(list(jobs), list(names), nodes, self.first_fit(lambda: self._fits(shares)))

    def _fits(self, shares: dict[str, Share]) -> bool:
        for name, share in shares.items():
            room = self.room(self.state.nodes[name])
            if (room.jobs or room.reservations) if share.whole else (
                room.cpus < share.cpus or room.mem_mib < share.mem_mib
            ):  # fmt: skip
                return False
        return True

    def refusal(self) -> HelixError:
        """The error for a choice that found no room: never, or not then."""
        nodes = self.candidates()
        wanted = self.r.node_count
        partition = self.r.partition or self.state.default_partition
        cpus = sum(node.cpus for node in nodes)
        if len(nodes) < wanted or cpus < self.r.core_count:
            what = f"{wanted} nodes are asked" if len(nodes) < wanted else f"{self.r.core_count} CPUs are asked"
            return Never(
                f"the reservation can never be made: {what}, {len(nodes)} nodes with {cpus} CPUs are usable"
                + (f" in partition {partition}" if partition else "")
                + (f" with the features '{self.r.features}'" if self.r.features else ""),
                hint="see hinfo for the nodes that are up"
                + ("" if self.r.partition or not partition else "; PartitionName= takes others than the default one"),
            )
        jobs: dict[int, None] = {}
        names: dict[str, None] = {}
        busy: list[str] = []
        for node in nodes:
            room = self.room(node)
            if room.jobs or room.reservations:
                jobs.update(dict.fromkeys(room.jobs))
                names.update(dict.fromkeys(room.reservations))
                busy.append(node.name)
        return self.conflict(list(jobs), list(names), busy, self.first_fit(lambda: self.choose() is not None))

    def conflict(self, jobs: list[int], names: list[str], nodes: list[str], t: float) -> Conflict:
        """Says what is in the way on which nodes, and from when on it would fit (0 = not known)."""
        held = [
            f"reservation '{name}' ({_span(self.state.reservations[name], self.now)})" for name in names[:NAMED_MAX]
        ]
        if jobs:
            shown = ", ".join(map(str, jobs[:NAMED_MAX])) + (", ..." if len(jobs) > NAMED_MAX else "")
            held.append(f"running job{'s' * (len(jobs) > 1)} {shown}")
        where = format_hostlist(nodes) if nodes else "the nodes"
        fix = "IGNORE_JOBS" if jobs and not names else "OVERLAP" if names and not jobs else "OVERLAP,IGNORE_JOBS"
        hint = f"it would fit from StartTime={format_timestamp(t)} on" if t else "choose other nodes or another time"
        return Conflict(
            f"{where}: in use by {' and '.join(held) or 'others'}",
            code="RESERVATION_CONFLICT",
            hint=f"{hint}; Flags={fix} makes it all the same",
            data={"reservations": names, "jobs": jobs[:1000], "t_fits": t},
        )

    def first_fit(self, fits: Callable[[], bool]) -> float:
        """The first moment after the start at which `fits()` holds with the same duration, 0 if none was found."""
        r = self.r
        start, end = r.t_start, r.t_end
        try:
            for t in self._moments():
                r.t_start, r.t_end = t, t + (end - start)
                self.met()
                if fits():
                    return t
            return 0.0
        finally:
            r.t_start, r.t_end = start, end
            self.met()

    def _moments(self) -> list[float]:
        """When something ends that is in the way, soonest first."""
        t, found = self.r.t_start, set[float]()
        for other in self.state.reservations.values():
            met = is_met(other, t, NEVER_S, self.now)
            if met is not None:
                found.add(met[1])
        for job_id in self.state.active:
            end = job_end(self.state.jobs[job_id], self.now)
            if t < end < NEVER_S:
                found.add(float(-int(-end // 1)))
        return sorted(moment for moment in found if moment > t)[:MOMENTS_MAX]


def all_nodes(state: State, r: ReservationRecord) -> list[str]:
    """The nodes that PART_NODES or Nodes=ALL stand for now."""
    names = state.partitions[r.partition].nodes if r.has("PART_NODES") else state.node_names
    term = parse_constraint(r.features).alternatives[0].every
    return [name for name in names if name in state.nodes and meets(state.nodes[name].features, term)]


def is_fit(node: NodeRecord) -> bool:
    """True if a reservation that chooses for itself may take the node."""
    return node.base is NodeBase.UP and not node.drain and not node.fail


def gres_of(node: NodeRecord) -> dict[str, int]:
    """Units of each kind of GRES the node is configured with."""
    return units_of(parse_gres(node.gres))


def whole_share(node: NodeRecord) -> Share:
    """All of a node."""
    return Share(cpus=node.cpus, mem_mib=node.real_memory_mib, gres=gres_of(node), whole=True)


def shares_of(state: State, names: Iterable[str], cores: list[int]) -> dict[str, Share]:
    """Shares of nodes by name: whole, or with `cores` (one number a node) CPUs and their part of the memory."""
    found: dict[str, Share] = {}
    for place, name in enumerate(names):
        node = state.nodes[name]
        if not cores:
            found[name] = whole_share(node)
            continue
        cpus = cores[place if len(cores) > 1 else 0] * core_width(node)
        if cpus > node.cpus:
            raise Never(f"CoreCnt: node {name} has {node.cpus // core_width(node)} cores")
        found[name] = Share(cpus=cpus, mem_mib=node.real_memory_mib * cpus // node.cpus)
    return _ordered(found, state)


def _ordered(shares: dict[str, Share], state: State) -> dict[str, Share]:
    return dict(sorted(shares.items(), key=lambda item: state.nodes[item[0]].index))


def _up(count: int, width: int) -> int:
    return -(-count // width) * width


def _used(job: JobRecord, name: str) -> tuple[int, int]:
    if job.alloc is None or name not in job.alloc.nodes:
        return 0, 0
    at = job.alloc.nodes.index(name)
    return job.alloc.cpus[at], job.alloc.mem_mib[at]


def _span(r: ReservationRecord, now: float) -> str:
    t_start, t_end = window(r, now)
    again = f", {r.repeats}" if r.repeats else ""
    return f"{format_timestamp(t_start)} to {format_timestamp(t_end)}{again}"


def touching(state: State, name: str, t_from: float, t_to: float, now: float) -> Iterator[ReservationRecord]:
    """Reservations with a share of node `name` that meet [t_from, t_to)."""
    for r in state.reservations.values():
        if name in r.shares and is_met(r, t_from, t_to, now) is not None:
            yield r
