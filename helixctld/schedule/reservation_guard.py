"""The last look at a start where reservations are: made at its commit, against the state as it is.

A start outside every reservation must not reach into one on its nodes; a start inside must find its reservation open,
and its share of each node not yet used up.  Starts of one commit see each other.  Cost: nothing without reservations,
else one look at those on the nodes of the start.
"""

from __future__ import annotations

from collections.abc import Collection

from helix.model.job import Allocation, JobRecord
from helix.model.node import NodeRecord
from helix.model.reservation import ReservationRecord, Share
from helixctld.core.reservation_access import is_asked_by
from helixctld.core.reservation_nodes import job_end, touching
from helixctld.core.reservation_times import NEVER_S, is_met
from helixctld.core.state import State
from helixctld.schedule.reservation_columns import is_open, shares_rows


class Guard:
    """One commit.  `clones`: of the plan, by row after the nodes; `gone`: jobs that will have gone by then."""

    def __init__(
        self,
        state: State,
        clones: tuple[str, ...],
        over_run_s: int | None,
        now: float,
        gone: Collection[int] = (),
    ) -> None:
        self.state = state
        self.gone = gone
        self.clones = clones
        self.over_run_s = over_run_s
        self.now = now
        self._starts: dict[str, list[tuple[str, float, int, int]]] = {}  # node -> reservation, end, CPUs, MiB

    def reservation_of(self, job: JobRecord, rows: list[int], nodes: int) -> str:
        """The reservation a planned start is for, "" = none.  `rows`: its rows; the first `nodes` of all are nodes."""
        for row in rows:
            if nodes <= row < nodes + len(self.clones):
                return self.clones[row - nodes]
        for name in job.spec.reservation.split(",") if job.spec.reservation else ():
            r = self.state.reservations.get(name)
            if r is not None and is_open(r) and (r.has("FLEX") or r.has("ANY_NODES")):
                return name
        return ""

    def why_not(self, job: JobRecord, reservation: str, limit_s: int, alloc: Allocation) -> str:
        """Why the start may not be, "" if it may."""
        if not self.state.reservations:
            return "its reservation is gone" if reservation or job.spec.reservation else ""
        mine = self.state.reservations.get(reservation)
        if reservation:
            if mine is None or not is_open(mine) or not is_asked_by(job, mine):
                return f"reservation {reservation} is not open to it any more"
        elif job.spec.reservation:
            return "it asks for a reservation that is not open"
        end = self._end(mine, limit_s)
        for name, cpus, mem in zip(alloc.nodes, alloc.cpus, alloc.mem_mib, strict=True):
            node = self.state.nodes[name]
            if mine is not None and (why := self._in_share(mine, node, cpus, mem)):
                return why
            for other in touching(self.state, name, self.now, end, self.now):
                if mine is not None and (other is mine or shares_rows(mine, other)):
                    continue
                if why := self._beside(other, node, cpus, mem, end):
                    return why
        return ""

    def take(self, reservation: str, limit_s: int, alloc: Allocation) -> None:
        """Note an accepted start."""
        end = self._end(self.state.reservations.get(reservation), limit_s)
        for name, cpus, mem in zip(alloc.nodes, alloc.cpus, alloc.mem_mib, strict=True):
            self._starts.setdefault(name, []).append((reservation, end, cpus, mem))

    def _end(self, mine: ReservationRecord | None, limit_s: int) -> float:
        """When the start has ended: at its limit, or with its reservation."""
        end = self.now + limit_s if limit_s else NEVER_S
        if mine is not None and mine.active and not mine.has("FLEX") and self.over_run_s is not None:
            end = min(end, max(self.now, mine.t_end + self.over_run_s))
        return end

    def _in_share(self, mine: ReservationRecord, node: NodeRecord, cpus: int, mem: int) -> str:
        share = mine.shares.get(node.name)
        if share is None:
            return "" if mine.has("FLEX") or mine.has("ANY_NODES") else f"{node.name} left reservation {mine.name}"
        if share.whole:
            return ""
        used, used_mem = self._used(node, mine.name, 0.0)
        if used + cpus > share.cpus or used_mem + mem > share.mem_mib:
            return f"the share of reservation {mine.name} of {node.name} is used up"
        return ""

    def _beside(self, other: ReservationRecord, node: NodeRecord, cpus: int, mem: int, end: float) -> str:
        """Whether there is room for a start beside the share of a reservation that it meets."""
        share = other.shares[node.name]
        met = is_met(other, self.now, end, self.now)
        begin = self.now if met is None else max(self.now, met[0])
        held, held_mem = _amounts(share, node)
        if not share.whole:
            used, used_mem = self._used(node, other.name, begin, others=True)
            if used + cpus + held <= node.cpus and used_mem + mem + held_mem <= node.real_memory_mib:
                return ""
        return f"{node.name} is reserved by {other.name}"

    def _used(self, node: NodeRecord, reservation: str, t: float, *, others: bool = False) -> tuple[int, int]:
        """CPUs and memory that jobs of the reservation (`others`: all but those) will still have at `t`."""
        cpus = mem = 0
        for job_id, count in node.jobs.items():
            job = self.state.jobs[job_id]
            if job_id in self.gone:
                continue
            if (job.reservation == reservation) == others or job.alloc is None or job_end(job, self.now) <= t:
                continue
            cpus += count
            mem += job.alloc.mem_mib[job.alloc.nodes.index(node.name)]
        for name, end, count, mib in self._starts.get(node.name, ()):
            if (name == reservation) != others and end > t:
                cpus += count
                mem += mib
        return cpus, mem


def _amounts(share: Share, node: NodeRecord) -> tuple[int, int]:
    return (node.cpus, node.real_memory_mib) if share.whole else (share.cpus, share.mem_mib)
