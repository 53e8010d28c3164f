"""The rows of a plan: the nodes, then the clones that reservations hold, with GRES and topology.

A clone row is a node seen through a reservation: `clones` says which node, whose reservation, and from when to when.
Requests without a reservation see node rows only.  Cost: a freeze copies what changed since the last.
"""

from __future__ import annotations

import numpy as np

from helix_native.ahead_arrays import NEVER, RowArrays
from helix_native.arrays import Flags, Int32, NodeArrays
from helixctld.core.state import State
from helixctld.schedule.node_columns import NodeColumns
from helixctld.schedule.sources import Sources


class RowColumns:
    """What rows have besides what `NodeColumns` knows."""

    def __init__(self, nodes: NodeColumns, sources: Sources) -> None:
        self.nodes = nodes
        self.sources = sources
        self.hosts: Int32 = np.zeros(0, np.int32)  #: the node of each row; replaced, never written.  [R]
        self._gres = np.zeros((0, 0), np.int32)
        self._gres_free = np.zeros((0, 0), np.int32)
        self._switch = np.zeros(0, np.int32)
        self._frozen: RowArrays | None = None

    @property
    def count(self) -> int:
        """Rows in all."""
        return len(self.hosts)

    def inside(self, reservation: str) -> Flags:
        """Rows that requests for `reservation` ("" = none) may use.  [R]"""
        return np.ones(self.count, np.bool_) if not reservation else np.zeros(self.count, np.bool_)

    def reload(self, state: State) -> None:
        """Take all nodes afresh."""
        kinds = len(self.sources.gres.kinds)
        self.hosts = np.arange(len(self.nodes), dtype=np.int32)
        self._gres = np.zeros((len(self.nodes), kinds), np.int32)
        self._gres_free = np.zeros((len(self.nodes), kinds), np.int32)
        self._switch = np.full(len(self.nodes), -1, np.int32)
        self.update(state, self.nodes.names)

    def update(self, state: State, names: list[str]) -> None:
        """Take the nodes that changed."""
        gres, switch_of = self.sources.gres, self.sources.switch_of
        for name in names:
            node = state.nodes.get(name)
            if node is None:
                continue
            self._switch[node.index] = switch_of(node)
            if gres.kinds:
                self._gres[node.index] = gres.capacity(node)
                self._gres_free[node.index] = gres.free(state, node)
        self._frozen = None

    def freeze(self, nodes: NodeArrays, now: float) -> tuple[NodeArrays, RowArrays]:
        """Node columns for all rows, and what rows have besides; never written again.  `now`: epoch seconds."""
        if self._frozen is None:
            count = self.count
            self._frozen = RowArrays(
                host=self.hosts,
                t_from=np.zeros(count, np.int64),
                t_to=np.full(count, NEVER, np.int64),
                gres=self._gres.copy(),
                gres_free=self._gres_free.copy(),
                switch=self._switch.copy(),
            )
        return nodes, self._frozen
