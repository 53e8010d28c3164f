"""Reservations as the planner sees them: clone rows for those inside, spans for everybody else.

A clone row is a share of a node seen by the jobs of one reservation; there is one for each node of each reservation
that is active or that its jobs may use at any time (FLEX).  On the node itself a span takes the share for each
occurrence.  What cannot be told so simply becomes spans, too: jobs outside that run on into the reservation
(IGNORE_JOBS), other reservations that overlap it, and jobs of the reservation that run beyond its end.

Rows and spans are in whole steps of the plan; a reservation is open to its jobs to the end of the step in which it
ends.  Cost: a change of any reservation numbers the clones anew; a freeze costs about 1 us a reserved node and
occurrence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from helix.model.job import JobRecord
from helix.model.reservation import ReservationRecord, Share
from helix.sched.options import SchedOptions
from helix_native.ahead_arrays import NEVER, SpanArrays
from helix_native.arrays import Flags, Int32, Int64, NodeArrays
from helixctld.core.reservation_index import may_use
from helixctld.core.reservation_times import occurrences, window
from helixctld.core.state import State
from helixctld.schedule.sources import Sources

BEYOND_S = (
    7 * 86400
)  #: a start in the window of a plan runs on for so long at most, as far as occurrences are looked at

OCCURRENCES_MAX = 64  #: of one reservation that a plan knows of; the commit knows all
SPANS_MAX = 200_000  #: of one reservation: one that repeats on many nodes is planned around less far ahead


class Clone(NamedTuple):
    """A row after the nodes."""

    reservation: str
    node: int
    share: Share
    place: int  # among the nodes of the reservation


class _Held(NamedTuple):
    """The nodes of one reservation and what it takes of each.  Parallel."""

    node: Int32
    cpus: Int64
    mem: Int64
    gres: Int32  # [.., G]


def is_open(r: ReservationRecord) -> bool:
    """True if its jobs may start now."""
    return r.active or r.has("FLEX")


def shares_rows(r: ReservationRecord, other: ReservationRecord) -> bool:
    """True if jobs of `r` may use what `other` holds as well (Slurm's rule: MAINT always, OVERLAP all but MAINT)."""
    return r.has("MAINT") or (r.has("OVERLAP") and not other.has("MAINT"))


class ReservationColumns:
    """What `RowColumns` and `Columns` know of reservations.  `records` are the state's own, read only."""

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self.options = SchedOptions()
        self.records: list[ReservationRecord] = []
        self.clones: list[Clone] = []
        self._place: dict[tuple[str, int], int] = {}  # reservation, node -> which clone
        self._on_node: dict[int, list[int]] = {}  # node -> which clones
        self._clone_node = np.zeros(0, np.int32)
        self._share = np.zeros((0, 2), np.int64)  # [clones, 2 + G]: CPUs, memory, GRES
        self._held: dict[str, _Held] = {}
        self._by_name: dict[str, ReservationRecord] = {}
        self._nodes = 0
        self._free_cpus = np.zeros(0, np.int32)
        self._free_mem = np.zeros(0, np.int64)
        self._empty = np.zeros(0, np.bool_)
        self._gres_free = np.zeros((0, 0), np.int32)
        self._mark: object = None

    def take(self, state: State) -> bool:
        """Take all reservations; True if the clones are others than before, or other nodes' (`reload` them)."""
        self.records = [r for r in state.reservations.values() if r.shares or r.has("ANY_NODES")]
        self._by_name = {r.name: r for r in self.records}
        mark = [(r.name, r.shares, r.has("FLEX")) for r in self.records if is_open(r)]
        changed = mark != self._mark
        self._mark = [(name, dict(shares), flex) for name, shares, flex in mark]
        kinds = self.sources.gres.kinds
        self._held = {}
        for r in self.records:
            rows = [(state.nodes[name], share) for name, share in r.shares.items() if name in state.nodes]
            if rows:
                self._held[r.name] = _Held(
                    np.array([node.index for node, _ in rows], np.int32),
                    np.array([node.cpus if share.whole else share.cpus for node, share in rows], np.int64),
                    np.array([node.real_memory_mib if s.whole else s.mem_mib for node, s in rows], np.int64),
                    np.array(
                        [
                            self.sources.gres.capacity(node) if share.whole else [share.gres.get(k, 0) for k in kinds]
                            for node, share in rows
                        ],
                        np.int32,
                    ).reshape(len(rows), len(kinds)),
                )
        return changed

    def reload(self, state: State) -> None:
        """Number the clones anew, for the nodes there are now."""
        self._nodes = len(state.nodes)
        self.clones = []
        for r in self.records:
            if is_open(r):
                known = [(state.nodes[name].index, share) for name, share in r.shares.items() if name in state.nodes]
                self.clones.extend(Clone(r.name, node, share, place) for place, (node, share) in enumerate(known))
        self._place = {(clone.reservation, clone.node): i for i, clone in enumerate(self.clones)}
        self._on_node = {}
        for i, clone in enumerate(self.clones):
            self._on_node.setdefault(clone.node, []).append(i)
        count, kinds = len(self.clones), len(self.sources.gres.kinds)
        self._clone_node = np.array([clone.node for clone in self.clones], np.int32)
        self._share = np.zeros((count, 2 + kinds), np.int64)
        for i, clone in enumerate(self.clones):
            held = self._held[clone.reservation]
            self._share[i, :2] = held.cpus[clone.place], held.mem[clone.place]
            self._share[i, 2:] = held.gres[clone.place]
        self._free_cpus, self._free_mem = np.zeros(count, np.int32), np.zeros(count, np.int64)
        self._empty = np.ones(count, np.bool_)
        self._gres_free = np.zeros((count, kinds), np.int32)
        self.update(state, list(self._on_node))

    def update(self, state: State, nodes: Iterable[int]) -> None:
        """Recount what is free of the clones on these nodes."""
        gres = self.sources.gres
        for i in (i for n in nodes for i in self._on_node.get(n, ())):
            clone = self.clones[i]
            node = state.nodes[state.node_names[clone.node]]
            cpus, mem = self._share[i, :2].tolist()
            units = self._share[i, 2:].astype(np.int32)
            used = False
            for job_id in node.jobs:
                job = state.jobs[job_id]
                if job.reservation != clone.reservation or job.alloc is None:
                    continue
                at = job.alloc.nodes.index(node.name)
                used = True
                cpus -= node.jobs[job_id]
                mem -= job.alloc.mem_mib[at]
                if gres.kinds:
                    units -= np.array(gres.held(job, job.alloc, at), np.int32)
            self._free_cpus[i], self._free_mem[i] = max(0, cpus), max(0, mem)
            self._gres_free[i] = np.maximum(units, 0)
            self._empty[i] = not used and clone.share.whole

    # ---- rows ---------------------------------------------------------------------------------------------------

    def row_of(self, reservation: str, node: int) -> int:
        """The row on which a job of the reservation is counted: the clone, or the node if there is none."""
        place = self._place.get((reservation, node))
        return node if place is None else self._nodes + place

    def inside(self, reservation: str, *, exclusive: bool) -> Flags:
        """Rows that requests for `reservation` ("" = none) may use.  [R]

        Whole nodes (`exclusive`) are not to be had of a reservation of parts of nodes."""
        flags = np.zeros(self._nodes + len(self.clones), np.bool_)
        r = self._by_name.get(reservation)
        if not reservation or (r is not None and (r.has("FLEX") or r.has("ANY_NODES"))):
            flags[: self._nodes] = True
        for i, clone in enumerate(self.clones):
            if clone.reservation == reservation and reservation:
                flags[clone.node] = False
                flags[self._nodes + i] = clone.share.whole or not exclusive
        return flags

    @property
    def hosts(self) -> Int32:
        """The nodes of the clones."""
        return self._clone_node

    def nodes_of(self, nodes: NodeArrays) -> NodeArrays:
        """Columns of nodes for the nodes and their clones."""
        free = nodes.free_cpus[self._clone_node], nodes.free_mem[self._clone_node]
        mine = NodeArrays._make(column[self._clone_node] for column in nodes)._replace(
            cpus=self._share[:, 0].astype(np.int32),
            mem=self._share[:, 1].copy(),
            free_cpus=np.minimum(self._free_cpus, free[0]),
            free_mem=np.minimum(self._free_mem, free[1]),
            empty=self._empty & nodes.empty[self._clone_node],
        )
        return NodeArrays._make(np.concatenate([getattr(t, n) for t in (nodes, mine)]) for n in NodeArrays._fields)

    def gres(self, total: Int32, free: Int32) -> tuple[Int32, Int32]:
        """GRES of nodes and clones, all and free, from those of the nodes."""
        if not self.clones:
            return total.copy(), free.copy()
        mine = self._share[:, 2:].astype(np.int32), np.minimum(self._gres_free, free[self._clone_node])
        return np.concatenate([total, mine[0]]), np.concatenate([free, mine[1]])

    def closes(self, now: float) -> dict[str, int]:
        """When each open reservation ends, in seconds from `now` on, rounded up to steps; NEVER for those without an
        end for their jobs (FLEX), or with jobs that may run on for ever."""
        found: dict[str, int] = {}
        step_s, over_run_s = self.options.bf_resolution_s, self.options.resv_over_run_s
        for r in self.records:
            if is_open(r):
                left = r.t_end - now + (over_run_s or 0)
                open_end = r.has("FLEX") or over_run_s is None
                found[r.name] = NEVER if open_end else max(1, -(-int(np.ceil(left)) // step_s)) * step_s
        return found

    def magnets(self) -> list[ReservationRecord]:
        """Active reservations that draw in jobs which may use them."""
        return [r for r in self.records if r.active and r.has("MAGNETIC")]

    def may_serve(self, name: str, job: JobRecord) -> bool:
        """True if the job, which asks for the reservation, may use it still and start now."""
        r = self._by_name.get(name)
        return r is not None and is_open(r) and may_use(r, job.user, job.uid, job.spec.account)

    # ---- spans --------------------------------------------------------------------------------------------------

    def spans(self, now: float, own: SpanArrays, capacity: SpanCapacity) -> list[SpanArrays]:
        """Spans of all reservations.  `own`: those of running jobs, on their rows; `capacity`: of the nodes."""
        if not self.records:
            return []
        table = _Table(own.gres.shape[1])
        window_s = self.options.bf_window_s
        for r in self.records:
            held = self._held.get(r.name)
            if held is None:
                continue
            most = max(2, min(OCCURRENCES_MAX, SPANS_MAX // len(held.node)))
            for t_from, t_to in occurrences(r, now, now + window_s + BEYOND_S, most):
                begin, end = max(0, int(np.floor(t_from - now))), max(1, int(np.ceil(min(t_to - now, NEVER))))
                table.add(held.node, begin, end, held.cpus, held.mem, held.gres)
        if self.clones:
            self._add_overlaps(table, now, window_s, capacity)
            self._add_outsiders(table, own, capacity)
            self._add_beyond(table, now, own, self.options.resv_over_run_s)
        return [table.freeze()]

    def licences_held(self, pool_of: Callable[[str], int]) -> list[tuple[int, int]]:
        """Pools whose totals leave out what an active reservation holds of them, and how much that is."""
        active = (item for r in self.records if r.active for item in r.licenses.items())
        return [(pool, count) for name, count in active if (pool := pool_of(name)) >= 0]

    def licence_spans(self, now: float, pool_of: Callable[[str], int], kinds: int) -> list[SpanArrays]:
        """Spans of the licences that reservations hold and will hold: see `licences_held`.
        `pool_of`: number of a licence's pool, -1 = nobody asks for it; `kinds`: of GRES."""
        if not self.records:
            return []
        table = _Table(kinds)
        for r in self.records:
            pools = [(pool, n) for name, n in r.licenses.items() if (pool := pool_of(name)) >= 0]
            if not pools:
                continue
            for t_from, t_to in occurrences(r, now, now + self.options.bf_window_s + BEYOND_S):
                begin, end = max(0, int(np.floor(t_from - now))), max(1, int(np.ceil(min(t_to - now, NEVER))))
                for pool, n in pools:
                    table.one(pool, begin, end, np.array([n, 0, *[0] * kinds], np.int64))
        spans = table.freeze()
        none = np.full(len(spans.row), -1, np.int32)
        return [spans._replace(row=none, pool=spans.row)] if len(none) else []

    def _add_overlaps(self, table: _Table, now: float, window_s: int, capacity: SpanCapacity) -> None:
        """Other reservations that meet an open one on the same nodes keep its jobs from what both hold."""
        for r in self.records:
            if not is_open(r) or r.name not in self._held:
                continue
            mine = self._held[r.name]
            for other in self.records:
                theirs = self._held.get(other.name)
                if other is r or theirs is None or shares_rows(r, other):
                    continue
                nodes, a, b = np.intersect1d(mine.node, theirs.node, return_indices=True)
                if not len(nodes):
                    continue
                rows = np.array([self.row_of(r.name, int(node)) for node in nodes], np.int32)
                cpus = np.clip(mine.cpus[a] + theirs.cpus[b] - capacity.cpus[nodes], 0, mine.cpus[a])
                mem = np.clip(mine.mem[a] + theirs.mem[b] - capacity.mem[nodes], 0, mine.mem[a])
                gres = np.clip(mine.gres[a] + theirs.gres[b] - capacity.gres[nodes], 0, mine.gres[a])
                for t_from, t_to in occurrences(other, now, now + window_s + BEYOND_S):
                    begin, end = max(0, int(np.floor(t_from - now))), max(1, int(np.ceil(min(t_to - now, NEVER))))
                    table.add(rows, begin, end, cpus, mem, gres)

    def _add_outsiders(self, table: _Table, own: SpanArrays, capacity: SpanCapacity) -> None:
        """Jobs outside that have more than the reservation leaves them take it from the clone until they end."""
        on_node = np.flatnonzero((own.row >= 0) & (own.row < self._nodes))
        if not len(on_node):
            return
        amounts_of = np.column_stack([own.cpus, own.mem, own.gres]).astype(np.int64)
        taken = np.zeros((self._nodes, amounts_of.shape[1]), np.int64)
        np.add.at(taken, own.row[on_node], amounts_of[on_node])
        full = np.column_stack([capacity.cpus, capacity.mem, capacity.gres]).astype(np.int64)
        over = (taken[self._clone_node] + self._share > full[self._clone_node]).any(axis=1)
        for i in np.flatnonzero(over).tolist():
            n, share = self._clone_node[i], self._share[i]
            at = on_node[own.row[on_node] == n]
            at = at[np.argsort(own.t_to[at], kind="stable")]
            amounts, whole = amounts_of[at], full[n]
            left = amounts.sum(axis=0)
            for j, x in enumerate(at.tolist()):  # as each ends, what it took of the share comes free
                before = np.clip(left + share - whole, 0, share)
                left = left - amounts[j]
                less = before - np.clip(left + share - whole, 0, share)
                if less.any():
                    table.one(self._nodes + i, 0, int(own.t_to[x]), less)

    def _add_beyond(self, table: _Table, now: float, own: SpanArrays, over_run_s: int | None) -> None:
        """Jobs of a reservation take their nodes outside its time as everybody does."""
        for x in np.flatnonzero(own.row >= self._nodes).tolist():
            clone = self.clones[int(own.row[x]) - self._nodes]
            r = self._by_name[clone.reservation]
            amounts = np.concatenate([[own.cpus[x], own.mem[x]], own.gres[x]]).astype(np.int64)
            t_from, t_to = window(r, now)
            ends = int(own.t_to[x])
            begin, close = int(np.ceil(t_from - now)), int(np.floor(t_to - now))
            if not r.has("FLEX") and over_run_s is not None:
                ends = min(ends, close + over_run_s)
            if begin > 0:
                table.one(clone.node, 0, min(begin, ends), amounts)
            if ends > max(0, close):
                table.one(clone.node, max(0, close), ends, amounts)


class SpanCapacity(NamedTuple):
    """What the nodes have.  [N]"""

    cpus: Int64
    mem: Int64
    gres: Int32  # [N, G]


class _Table:
    """Spans being gathered."""

    def __init__(self, kinds: int) -> None:
        self.kinds = kinds
        self._parts: list[tuple[Int32, int, int, Int64, Int64, Int32]] = []

    def add(self, rows: Int32, begin: int, end: int, cpus: Int64, mem: Int64, gres: Int32) -> None:
        """Equal times for many rows."""
        if begin < end:
            self._parts.append((rows, begin, end, cpus, mem, gres))

    def one(self, row: int, begin: int, end: int, amounts: Int64) -> None:
        """A span of one row; `amounts`: CPUs, memory, GRES."""
        gres = amounts[2:].astype(np.int32).reshape(1, self.kinds)
        self.add(np.array([row], np.int32), begin, end, amounts[:1], amounts[1:2], gres)

    def freeze(self) -> SpanArrays:
        """All of them."""
        sizes = [len(part[0]) for part in self._parts]
        total = sum(sizes)
        return SpanArrays(
            row=np.concatenate([np.zeros(0, np.int32), *(part[0] for part in self._parts)]).astype(np.int32),
            pool=np.full(total, -1, np.int32),
            t_from=np.repeat(np.array([part[1] for part in self._parts], np.int64), sizes),
            t_to=np.repeat(np.array([part[2] for part in self._parts], np.int64), sizes),
            cpus=np.concatenate([np.zeros(0, np.int64), *(part[3] for part in self._parts)]),
            mem=np.concatenate([np.zeros(0, np.int64), *(part[4] for part in self._parts)]),
            gres=np.concatenate([np.zeros((0, self.kinds), np.int32), *(part[5] for part in self._parts)]),
            room=np.full(total, -1, np.int32),
        )
