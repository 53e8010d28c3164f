"""Whether nodes may still serve a request that was planned, or promised them, before the cluster changed.

What decides that (partition, features, --require, Admit=, excluded and required nodes, reservation) is a row of
eligibility for each shape, so a start is looked at again only where the cluster's version rose since the snapshot: a
few bits for each node of the start.  A change that numbers partitions or reservations anew takes jobs out of the queue,
and nodes that were numbered anew end the pass: those starts are refused as a whole.
"""

from __future__ import annotations

from helix.model.job import Allocation, JobRecord
from helix.sched.plan import Plan
from helix.sched.request import shape_key
from helix_native.arrays import Flags, unpack_bits
from helixctld.core.state import State
from helixctld.schedule.admission import who_of
from helixctld.schedule.columns import Columns

Version = tuple[tuple[int, int], tuple[str, ...]]  #: of the cluster: see `version_of`


def version_of(columns: Columns) -> Version:
    """Differs from an earlier one whenever a request may be served by other nodes."""
    return columns.cluster_version, columns.nodes.frozen_names


class Recheck:
    """One commit.  The columns know the cluster as it is (`Columns.update_cluster`)."""

    def __init__(self, columns: Columns, before: Version) -> None:
        """`before`: the version the plan was made for."""
        self.columns = columns
        self.renumbered = before[1] != columns.nodes.frozen_names
        self._flags: dict[int, Flags] = {}

    def why_not(self, plan: Plan, start: int, job: JobRecord) -> str:
        """Why start number `start` of the plan is not to be any more, "" if its nodes may serve it as before."""
        if self.renumbered:
            return "the nodes of the cluster are others now"
        shapes = self.columns.shapes
        if plan.start_shape is None:
            heads = [head for row in self.columns.queue.shapes_of(job.job_id) for head in shapes.heads(row)]
        else:
            heads = [int(plan.start_shape[start])]
        ways = [shapes.parts(head) for head in heads]
        for at in range(int(plan.ptr[start]), int(plan.ptr[start + 1])):
            row = self._row(plan, at)
            part = 0 if plan.chunk is None else int(plan.chunk[at])
            if not any(part < len(way) and self._serves(way[part], row) for way in ways):
                name = self.columns.nodes.names[int(plan.node[at])]
                return f"{name} may not serve it any more"
        return ""

    def _row(self, plan: Plan, at: int) -> int:
        """The row as it is numbered now."""
        node = int(plan.node[at])
        clone = node if plan.row is None else int(plan.row[at])
        count = len(self.columns.nodes)
        if clone < count:
            return node
        return self.columns.rows.reservations.row_of(plan.clones[clone - count], node)

    def _serves(self, shape: int, row: int) -> bool:
        flags = self._flags.get(shape)
        if flags is None:
            arrays, tables = self.columns.shapes.freeze()
            count = self.columns.rows.count
            flags = unpack_bits(tables.elig[arrays.elig[shape]], count)
            self._flags[shape] = flags & (not arrays.gate[shape])
        return bool(self._flags[shape][row])


def claim_holds(
    columns: Columns, state: State, job: JobRecord, partition: str, reservation: str, alloc: Allocation
) -> str:
    """The first node of an allocation kept for a waiting job that may not serve it any more; "" if all may."""
    shapes = columns.shapes
    if partition not in shapes.index:
        return alloc.nodes[0]
    key = shape_key(job.spec, job.excluded_nodes)
    head = shapes.acquire(state, partition, key, job.spec, job.excluded_nodes, who_of(job), reservation, job.uid)
    try:
        arrays, tables = shapes.freeze()
        flags = [
            unpack_bits(tables.elig[arrays.elig[row]], columns.rows.count)
            for way in shapes.heads(head)
            for row in shapes.parts(way)
            if not arrays.gate[row]
        ]
        for name in alloc.nodes:
            row = columns.rows.reservations.row_of(reservation, state.nodes[name].index)
            if not any(mine[row] for mine in flags):
                return name
        return ""
    finally:
        shapes.release(head)
