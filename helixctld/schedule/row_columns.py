"""The rows of a plan: the nodes, then the clones that reservations hold, with GRES and topology.

A clone row is a node seen through a reservation: `clones` says which node, whose reservation, and from when to when.
Requests without a reservation see node rows only.  Cost: a freeze copies what changed since the last.
"""

from __future__ import annotations

import numpy as np

from helix.model.job import JobRecord
from helix_native.ahead_arrays import NEVER, RowArrays, SpanArrays
from helix_native.arrays import Flags, Int32, NodeArrays
from helixctld.core.state import State
from helixctld.schedule.node_columns import NodeColumns
from helixctld.schedule.reservation_columns import ReservationColumns, SpanCapacity
from helixctld.schedule.sources import Sources


class RowColumns:
    """What rows have besides what `NodeColumns` knows."""

    def __init__(self, nodes: NodeColumns, sources: Sources) -> None:
        self.nodes = nodes
        self.sources = sources
        self.reservations = ReservationColumns(sources)
        self.hosts: Int32 = np.zeros(0, np.int32)  #: the node of each row; replaced, never written.  [R]
        self._gres = np.zeros((0, 0), np.int32)
        self._gres_free = np.zeros((0, 0), np.int32)
        self._switch = np.zeros(0, np.int32)
        self._frozen: RowArrays | None = None

    @property
    def count(self) -> int:
        """Rows in all."""
        return len(self.hosts)

    def inside(self, reservation: str, *, exclusive: bool = False) -> Flags:
        """Rows that requests (`exclusive`: for whole nodes) for `reservation` ("" = none) may use.  [R]"""
        return self.reservations.inside(reservation, exclusive=exclusive)

    def places(self, reservation: str, nodes: list[int]) -> list[int]:
        """The rows of these nodes for requests for `reservation`; nodes it does not have are left out."""
        usable = self.inside(reservation)
        rows = [self.reservations.row_of(reservation, node) for node in nodes]
        return [row for row in rows if usable[row]]

    def row_of(self, job: JobRecord, node: int) -> int:
        """The row on which a running job is counted: its node, or its reservation's clone of it."""
        return self.reservations.row_of(job.reservation, node) if job.reservation else node

    @property
    def capacity(self) -> SpanCapacity:
        """What the nodes have."""
        nodes = self.nodes.freeze()
        return SpanCapacity(nodes.cpus.astype(np.int64), nodes.mem, self._gres)

    def reload(self, state: State) -> None:
        """Take all nodes afresh."""
        kinds = len(self.sources.gres.kinds)
        self.reservations.take(state)
        self.reservations.reload(state)
        self.hosts = np.concatenate([np.arange(len(self.nodes), dtype=np.int32), self.reservations.hosts])
        self._gres = np.zeros((len(self.nodes), kinds), np.int32)
        self._gres_free = np.zeros((len(self.nodes), kinds), np.int32)
        self._switch = np.full(len(self.nodes), -1, np.int32)
        self._frozen = None
        self.update(state, self.nodes.names)

    def leaves(self) -> Int32:
        """The leaf switch of each node, -1 = none.  [N], not to be written."""
        return self._switch[: len(self.nodes)]

    def devices(self) -> tuple[Int32, Int32]:
        """Units of each kind of GRES that nodes have, and that are free.  [N, G] each, not to be written."""
        return self._gres[: len(self.nodes)], self._gres_free[: len(self.nodes)]

    def update(self, state: State, names: list[str]) -> None:
        """Take the nodes that changed."""
        gres, switch_of = self.sources.gres, self.sources.switch_of
        changed = bool(gres.kinds or self.reservations.clones)
        for name in names:
            node = state.nodes.get(name)
            if node is None:
                continue
            switch = switch_of(node)
            if self._switch[node.index] != switch:
                self._switch[node.index] = switch
                changed = True
            if gres.kinds:
                self._gres[node.index] = gres.capacity(node)
                self._gres_free[node.index] = gres.free(state, node)
        if self.reservations.clones:
            self.reservations.update(state, [state.nodes[name].index for name in names if name in state.nodes])
        if changed:
            self._frozen = None

    def reservation_spans(self, now: float, own: SpanArrays) -> list[SpanArrays]:
        """What reservations take.  `own`: the spans of running jobs; `now`: epoch seconds."""
        return self.reservations.spans(now, own, self.capacity) if self.reservations.records else []

    def freeze(self, nodes: NodeArrays, now: float) -> tuple[NodeArrays, RowArrays]:
        """Node columns for all rows, and what rows have besides; never written again.  `now`: epoch seconds."""
        clones = self.reservations.clones
        if self._frozen is None:
            count = self.count
            gres, gres_free = self.reservations.gres(self._gres, self._gres_free)
            self._frozen = RowArrays(
                host=self.hosts,
                t_from=np.zeros(count, np.int64),
                t_to=np.full(count, NEVER, np.int64),
                gres=gres,
                gres_free=gres_free,
                switch=self._switch[self.hosts],
            )
        if not clones:
            return nodes, self._frozen
        closes = self.reservations.closes(now)
        t_to = self._frozen.t_to.copy()
        t_to[len(self.nodes) :] = [closes[clone.reservation] for clone in clones]
        return self.reservations.nodes_of(nodes), self._frozen._replace(t_to=t_to)
