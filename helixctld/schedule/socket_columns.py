"""Nodes whose free CPUs lie in too few sockets for `--ntasks-per-socket`, as columns.

The planner counts the free CPUs of a node, not of its sockets.  A node where that would promise more tasks than the
sockets take is left out for as long as it is so; one with too few free CPUs is not, so that it can be planned for
later.  Cost: about 2 us a node for each set of seats in use, when the node changes; nothing while there is none.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from helix.model.node import is_counted
from helix.sched.sockets import Seats
from helix_native.arrays import Flags
from helixctld.core.state import State
from helixctld.schedule.node_columns import NodeColumns


class SocketColumns:
    """`version` rises when the answer for any seats may have changed."""

    def __init__(self, nodes: NodeColumns) -> None:
        self.nodes = nodes
        self.version = 0
        self._served: dict[Seats, Flags] = {}

    @property
    def on(self) -> bool:
        """True while a request in use says --ntasks-per-socket."""
        return bool(self._served)

    def clear(self) -> None:
        """Nodes are others now."""
        self._served.clear()
        self.version += 1

    def update(self, state: State, names: Iterable[str]) -> None:
        """Take the nodes that changed."""
        if not self._served:
            return
        for name in names:
            node = state.nodes.get(name)
            if node is not None:
                for seats, served in self._served.items():
                    served[node.index] = is_counted(node) or seats.serves(node, state.offered_cores(node))
        self.version += 1

    def watch(self, state: State, seats: Seats) -> None:
        """Be able to answer for `seats`, from now on."""
        if seats not in self._served:
            records = self.nodes.records
            found = [is_counted(node) or seats.serves(node, state.offered_cores(node)) for node in records]
            self._served[seats] = np.array(found, np.bool_)

    def keep(self, in_use: Iterable[Seats]) -> None:
        """Forget all others."""
        self._served = {seats: self._served[seats] for seats in in_use}

    def serving(self, seats: Seats) -> Flags:
        """Nodes where sockets are no reason to take fewer tasks now than free CPUs say.  [N], not to be written."""
        return self._served[seats]

    def able(self, seats: Seats) -> Flags:
        """Nodes that take the least number of tasks when they are empty.  [N]"""
        return np.array([seats.on_empty(node) >= seats.least for node in self.nodes.records], np.bool_)

    def most(self, seats: Seats, members: Flags) -> int:
        """Tasks that each of these nodes takes when empty, at most `seats.greatest`."""
        found = [seats.on_empty(self.nodes.records[i]) for i in np.flatnonzero(members).tolist()]
        return min([seats.greatest, *found])
