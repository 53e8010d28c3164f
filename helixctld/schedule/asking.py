"""What a waiting job asks of those that may make room for it: one `Asked` for each way in which it could start.

Ways are tried in the planner's order: reservation by reservation, partition by partition, alternative by alternative.
A way is a chain of parts on different nodes (one part for a plain request); each part may be in a partition of its own,
on which depends whom it may ask.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import inf

import numpy as np

from helix.model.job import JobRecord
from helix.model.job_state import Reason
from helix.model.node import COUNTED_CPUS
from helix.sched.preempt import Contender, Need
from helix.sched.request import ANY_SWITCHES, Request, partition_limit, shape_key, time_limit_s
from helix_native.arrays import Int64, unpack_bits
from helixctld.core.limits import partition_for
from helixctld.core.preempt import contender
from helixctld.core.reservation_times import is_met
from helixctld.core.state import State
from helixctld.schedule.admission import who_of
from helixctld.schedule.columns import Columns
from helixctld.schedule.reservation_columns import shares_rows


@dataclass(slots=True)
class AskedPart:
    """A part of the request in its partition."""

    asker: Contender
    need: Need
    able: Int64  # nodes it may run on
    component: int = 0  # of a heterogeneous job


@dataclass(slots=True)
class Asked:
    """A waiting job in one way: where, and what it needs."""

    job: JobRecord
    partition: str  # that it starts in; of a heterogeneous job: its first component
    limit_s: int
    parts: tuple[AskedPart, ...]
    reservation: str = ""  # whose nodes it may have

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for ways that are served equally."""
        return (
            self.reservation,
            self.limit_s,
            *((part.need, part.able.tobytes(), alike(part.asker)) for part in self.parts),
        )

    @property
    def kind(self) -> tuple[object, ...]:
        """The same without what changes from moment to moment."""
        return (self.reservation, *((part.need, alike(part.asker)) for part in self.parts))

    @property
    def able(self) -> set[int]:
        """Nodes of any part."""
        return {index for part in self.parts for index in part.able.tolist()}


def alike(asker: Contender) -> tuple[object, ...]:
    """All of a contender that plugins decide by, to recognise another just like it, but its priority: who may not
    preempt with a high one may not with a lower one."""
    return (asker.partition, asker.tier, asker.qos, asker.uid, asker.account)


def _is_not_for_asking(request: Request | None) -> bool:
    """True of --prefer, a wish that ends nobody's job, and of tasks by socket on parts of nodes: who would have to go
    depends on where in the node they are."""
    return request is None or request.soft or (request.tasks_per_socket > 0 and not request.exclusive)


class Asking:
    """Bound to the columns of a cycle; the state is an argument everywhere."""

    def __init__(self, columns: Columns) -> None:
        self.columns = columns

    def ways(
        self, state: State, job: JobRecord, now: float, able: dict[tuple[int, frozenset[str]], Int64] | None = None
    ) -> Iterator[Asked]:
        """The ways in which the job could run if nothing else did.  `able`: notes for calls between which no node
        changes."""
        for row in self.columns.queue.shapes_of(job.job_id):
            yield from self._ways_of(state, job, row, now, {} if able is None else able)

    def ways_of_claimer(self, state: State, job: JobRecord, now: float) -> list[Asked]:
        """The same of a job with a claim, which is not in the queue: where it has its claim."""
        shapes, claim = self.columns.shapes, job.claim
        if claim is None or claim.partition not in shapes.index:
            return []
        key, who = shape_key(job.spec, job.excluded_nodes), who_of(job)
        args = key, job.spec, job.excluded_nodes, who, claim.reservation, job.uid
        row = shapes.acquire(state, claim.partition, *args)
        try:
            return list(self._ways_of(state, job, row, now, {}))
        finally:
            shapes.release(row)

    def _ways_of(
        self, state: State, job: JobRecord, row: int, now: float, able: dict[tuple[int, frozenset[str]], Int64]
    ) -> Iterator[Asked]:
        shapes = self.columns.shapes
        whole = shapes.requests[row]
        partition = state.partitions.get(shapes.partitions[shapes.part_of(row)].name)
        if whole is None or partition is None:
            return
        if partition_limit(job.spec, whole, partition_for(state, job.spec.qos, partition))[0] is not Reason.NONE:
            return
        limit_s = time_limit_s(job.spec, partition)
        reservation = shapes.reserved.get(row, "")
        closed = self._closed(state, reservation, limit_s, now)
        for head in shapes.heads(row):
            if any(_is_not_for_asking(shapes.request_of(at)) for at in shapes.parts(head)):
                continue
            parts = [
                part for at in shapes.parts(head) if (part := self._part(state, job, at, closed, able)) is not None
            ]
            if len(parts) < len(shapes.parts(head)):
                continue
            asked = Asked(job, partition.name, limit_s, tuple(parts), reservation)
            request = shapes.request_of(head)
            assert request is not None
            yield from self._near(state, asked, request, now)

    def _part(
        self,
        state: State,
        job: JobRecord,
        row: int,
        closed: frozenset[str],
        known: dict[tuple[int, frozenset[str]], Int64],
    ) -> AskedPart | None:
        """One part; None if too few nodes may ever serve it."""
        shapes = self.columns.shapes
        request = shapes.request_of(row)
        partition = state.partitions.get(shapes.partitions[shapes.part_of(row)].name)
        if request is None or partition is None or partition.state.upper() not in ("UP", "DRAIN"):
            return None
        able = known.get((row, closed))
        if able is None:
            able = known[row, closed] = self._able(row, closed)
        if len(able) < request.nodes_lo:
            return None
        must = frozenset(state.nodes[n].index for n in request.must if n in state.nodes)
        gres = tuple(self.columns.sources.gres.asked(request))
        need = need_of(request, must, gres, int(shapes.freeze()[0].cpt[row]))
        return AskedPart(contender(state, job, partition.name), need, able, request.component)

    def _able(self, row: int, closed: frozenset[str]) -> Int64:
        """Nodes that may serve a row of requests and take jobs."""
        arrays, tables = self.columns.shapes.freeze()
        nodes, names = self.columns.nodes.freeze(), self.columns.nodes.names
        hosts = self.columns.rows.hosts
        able = np.zeros(len(names), np.bool_)
        able[hosts[unpack_bits(tables.elig[arrays.elig[row]], len(hosts))]] = True
        able &= nodes.up & (nodes.cpus <= COUNTED_CPUS)
        able &= (nodes.mem >= arrays.mem_floor[row]) & (nodes.tmp >= arrays.tmp[row])
        found = np.flatnonzero(able)
        return found[[names[i] not in closed for i in found.tolist()]] if closed else found

    def _closed(self, state: State, reservation: str, limit_s: int, now: float) -> frozenset[str]:
        """Nodes that other reservations hold of at any time while the job would run."""
        if not state.reservations:
            return frozenset()
        mine = state.reservations.get(reservation)
        t_end = now + limit_s if limit_s else inf
        if mine is not None and mine.active and not mine.has("FLEX"):
            t_end = min(t_end, max(now, mine.t_end))
        closed: set[str] = set()
        for other in state.reservations.values():
            if mine is not None and (other is mine or shares_rows(mine, other)):
                continue
            if is_met(other, now, t_end, now) is not None:
                closed.update(other.shares)
        return frozenset(closed)

    def _near(self, state: State, asked: Asked, request: Request, now: float) -> Iterable[Asked]:
        """The way on nodes of no more leaf switches than --switches allows; chains of several parts are not tried
        then."""
        job = asked.job
        waited_s = now - (job.t_eligible or job.t_submit)
        late = request.switch_wait_s and waited_s >= request.switch_wait_s
        if not 0 < request.switches < ANY_SWITCHES or late:
            return [asked]
        if len(asked.parts) > 1:
            return []
        part = asked.parts[0]
        leaf = self.columns.rows.leaves()[part.able]
        leaves, counts = np.unique(leaf, return_counts=True)
        ranked = leaves[np.lexsort((leaves, -counts))].tolist()
        groups = {tuple(sorted([one, *[x for x in ranked if x != one][: request.switches - 1]])) for one in ranked}
        found = []
        for group in sorted(groups):
            able = part.able[np.isin(leaf, group)]
            if len(able) >= part.need.nodes_lo:
                found.append(dataclasses.replace(asked, parts=(dataclasses.replace(part, able=able),)))
        return found


def need_of(request: Request, must: frozenset[int], gres: tuple[int, ...], cpus_per_task: int) -> Need:
    """What a request needs of nodes by index.  `gres`: units of each kind on each node; `cpus_per_task`: with the
    threads of a core that are left unused."""
    return Need(
        nodes_lo=request.nodes_lo,
        nodes_hi=request.nodes_hi,
        tasks=request.tasks,
        task_lo=request.task_lo,
        task_hi=request.task_hi,
        cpus_per_task=cpus_per_task,
        cpus_min=request.cpus_min,
        mem_node_mib=request.mem_node_mib,
        mem_cpu_mib=request.mem_cpu_mib,
        mem_all=request.mem_all,
        exclusive=request.exclusive,
        gres=gres,
        must=must,
        contiguous=request.contiguous,
    )
