"""`select/cons_tres`: cores and memory are given out, several jobs a node; whole nodes with --exclusive."""

from __future__ import annotations

from helix.model.job import JobSpec
from helix.model.node import NodeRecord
from helix.model.partition import PartitionRecord
from helix.sched.options import SchedOptions
from helix.sched.place import core_width, pick_cpus, socket_cpus
from helix.sched.request import Request, normalise


class ConsTres:
    """The plugin.  Stateless."""

    def request(self, spec: JobSpec, partition: PartitionRecord, options: SchedOptions) -> Request:
        """See `helix.sched.request.normalise`."""
        return normalise(spec, partition, options)

    def pick_cpus(self, node: NodeRecord, free: int, count: int) -> list[int] | None:
        """Whole cores, lowest first, in one socket where one has room."""
        return pick_cpus(free, count, width=core_width(node), per_socket=socket_cpus(node), cpus=node.cpus)
