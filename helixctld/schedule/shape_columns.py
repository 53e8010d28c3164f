"""Partitions, eligibility and distinct requests as columns.

A shape is what a job asks in one partition; jobs that ask the same share its row, so that a pass looks at nodes once
for all of them.  Eligibility (partition members less excluded nodes, features met) is a row of bits shared by all
shapes with equal terms.  Rows are counted and reused.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import numpy as np

from helix.errors import UsageError
from helix.model.job import JobSpec
from helix.model.partition import PartitionRecord
from helix.sched.features import Constraint
from helix.sched.options import SchedOptions
from helix.sched.request import Request, shape_key
from helix_native.arrays import BAD, DOWN, INACTIVE, NODE_LIMIT, Bits, ShapeArrays, TableArrays, empty_shapes, pack_bits
from helixctld.core.state import State
from helixctld.schedule.node_columns import NodeColumns

MakeRequest = Callable[[JobSpec, PartitionRecord, SchedOptions], Request]
_GATES = {"DOWN": DOWN, "INACTIVE": INACTIVE}
_ELIG_SPARE = 8


class ShapeColumns:
    """`version` rises when a row or a partition changes."""

    def __init__(self, nodes: NodeColumns, options: SchedOptions, make_request: MakeRequest) -> None:
        self.nodes = nodes
        self.options = options
        self.make_request = make_request
        self.partitions: list[PartitionRecord] = []
        self.names: tuple[str, ...] = ()
        self.index: dict[str, int] = {}
        self.requests: list[Request | None] = []
        self._rows: dict[tuple[str, Hashable], int] = {}
        self._keys: list[tuple[str, Hashable]] = []
        self._refs: list[int] = []
        self._samples: list[tuple[JobSpec, list[str]]] = []
        self._free: list[int] = []
        self._must: list[list[int]] = []
        self._work = empty_shapes(0)
        self._part_bits = np.zeros((0, 0), np.uint8)
        self._room = np.zeros((0, 0), np.int32)
        self._room_parts: list[int] = []
        self._part_room: list[int] = []
        self._elig_rows: dict[Hashable, int] = {}
        self._elig: list[Bits] = []
        self._must_flat = np.zeros(0, np.int32)
        self._frozen_shapes: ShapeArrays | None = None
        self._frozen_tables: TableArrays | None = None

    # ---- partitions ----------------------------------------------------------------------------------------------

    def reload_partitions(self, state: State) -> None:
        """Take partitions and memberships afresh; every shape is normalised again."""
        count = len(self.nodes)
        self.partitions = list(state.partitions.values())
        self.names = tuple(p.name for p in self.partitions)
        self.index = {name: i for i, name in enumerate(self.names)}
        self._part_bits = np.zeros((len(self.partitions), (count + 7) // 8), np.uint8)
        self._room_parts = [i for i, p in enumerate(self.partitions) if p.max_cpus_per_node > 0]
        self._part_room = [-1] * len(self.partitions)
        for i, partition in enumerate(self.partitions):
            members = np.zeros(count, np.bool_)
            members[self.nodes.indexes(state, partition.nodes)] = True
            self._part_bits[i] = pack_bits(members)
        self._room = np.zeros((len(self._room_parts), count), np.int32)
        for row, i in enumerate(self._room_parts):
            self._part_room[i] = row
        self.update_room(state, self.nodes.names)
        self.renew(state)

    def update_room(self, state: State, names: list[str]) -> None:
        """Recount what MaxCPUsPerNode leaves on the nodes that changed."""
        if not self._room_parts:
            return
        for name in names:
            node = state.nodes.get(name)
            if node is None:
                continue
            for row, i in enumerate(self._room_parts):
                partition = self.partitions[i]
                used = sum(n for job_id, n in node.jobs.items() if state.jobs[job_id].partition == partition.name)
                self._room[row, node.index] = partition.max_cpus_per_node - used
        self._frozen_tables = None

    def take_partition_states(self, state: State) -> None:
        """Nothing of the partitions changed but, perhaps, their states."""
        self.partitions = list(state.partitions.values())
        self._frozen_tables = None

    def renew(self, state: State) -> None:
        """Normalise every row again, after a change of partitions or of what nodes are."""
        self._elig_rows.clear()
        self._elig.clear()
        for row, key in enumerate(self._keys):
            if self._refs[row] and key[0] in self.index:
                self._fill(row, state)
        self._frozen_shapes = self._frozen_tables = None

    # ---- shapes --------------------------------------------------------------------------------------------------

    def acquire(self, state: State, partition: str, key: Hashable, spec: JobSpec, excluded: list[str]) -> int:
        """The row for `spec` in `partition`, made if need be; `release` it when the job has gone."""
        full = (partition, key)
        row = self._rows.get(full)
        if row is not None:
            self._refs[row] += 1
            return row
        if self._free:
            row = self._free.pop()
            self._keys[row], self._refs[row], self._samples[row] = full, 1, (spec, list(excluded))
        else:
            row = len(self._keys)
            self._keys.append(full)
            self._refs.append(1)
            self._samples.append((spec, list(excluded)))
            self.requests.append(None)
            self._must.append([])
            if row >= len(self._work.part):
                grown = empty_shapes(max(64, 2 * row))
                for name, old in self._work._asdict().items():
                    getattr(grown, name)[: len(old)] = old
                self._work = grown
        self._rows[full] = row
        self._fill(row, state)
        self._frozen_shapes = self._frozen_tables = None
        return row

    def release(self, row: int) -> None:
        """One job fewer asks for this."""
        self._refs[row] -= 1
        if self._refs[row] == 0:
            del self._rows[self._keys[row]]
            self.requests[row] = None
            self._must[row] = []
            self._free.append(row)

    def row_of(self, state: State, spec: JobSpec, excluded: list[str], partition: str) -> int:
        """A row for asking only: acquire, and leave it to the caller to release."""
        return self.acquire(state, partition, shape_key(spec, excluded), spec, excluded)

    def _fill(self, row: int, state: State) -> None:
        work = self._work
        partition = self.partitions[self.index[self._keys[row][0]]]
        spec, excluded = self._samples[row]
        work.part[row] = self.index[partition.name]
        self._must[row] = []
        try:
            request = self.make_request(spec, partition, self.options)
        except UsageError:  # refused at submit; only a change of the cluster since can bring it here
            self.requests[row] = None
            work.gate[row] = BAD
            work.elig[row] = self._elig_row(state, work.part[row], (), ())
            return
        self.requests[row] = request
        gate = {"nodes": NODE_LIMIT, "memory": BAD}.get(request.limit, 0)
        must = self.nodes.indexes(state, request.must)
        if len(must) != len(request.must):
            gate = gate or BAD
        self._must[row] = must
        exclude = request.exclude
        if excluded:  # where launching failed: avoided unless that leaves too few nodes
            wider = tuple(dict.fromkeys((*exclude, *excluded)))
            elig = self._elig_row(state, work.part[row], request.constraint, wider)
            left = int(np.bitwise_count(self._elig[elig]).sum())
            if left >= request.nodes_lo and not set(excluded) & set(request.must):
                exclude = wider
        work.elig[row] = self._elig_row(state, work.part[row], request.constraint, exclude)
        work.gate[row] = gate
        work.nodes_lo[row], work.nodes_hi[row] = request.nodes_lo, request.nodes_hi
        work.grow[row], work.spread[row] = request.grow, request.spread
        work.contiguous[row], work.least[row] = request.contiguous, request.least_loaded
        work.tasks[row], work.task_lo[row], work.task_hi[row] = request.tasks, request.task_lo, request.task_hi
        work.cpt[row], work.cpus_min[row] = request.cpus_per_task, request.cpus_min
        work.mem_node[row], work.mem_cpu[row], work.mem_all[row] = (
            request.mem_node_mib,
            request.mem_cpu_mib,
            request.mem_all,
        )
        work.mem_floor[row], work.tmp[row] = request.mem_floor_mib, request.tmp_mib
        work.exclusive[row] = request.exclusive

    def _elig_row(self, state: State, part: int, constraint: Constraint, exclude: tuple[str, ...]) -> int:
        key = (int(part), constraint, exclude)
        row = self._elig_rows.get(key)
        if row is None:
            if len(self._elig) > _ELIG_SPARE + 2 * len(self._keys):
                self._drop_unused_elig()
            allowed = self.nodes.meeting(constraint)
            allowed[self.nodes.indexes(state, exclude)] = False
            row = self._elig_rows[key] = len(self._elig)
            self._elig.append(pack_bits(allowed) & self._part_bits[part])
            self._frozen_tables = None
        return row

    def _drop_unused_elig(self) -> None:
        used = {int(self._work.elig[row]) for row, refs in enumerate(self._refs) if refs}
        kept: dict[int, int] = {}
        table: list[Bits] = []
        for old in sorted(used):
            kept[old] = len(table)
            table.append(self._elig[old])
        self._elig = table
        self._elig_rows = {key: kept[old] for key, old in self._elig_rows.items() if old in kept}
        for row, refs in enumerate(self._refs):
            if refs:
                self._work.elig[row] = kept[int(self._work.elig[row])]
        self._frozen_shapes = None

    def freeze(self) -> tuple[ShapeArrays, TableArrays]:
        """Arrays that are never written again."""
        count = max(1, len(self._keys))
        if self._frozen_shapes is None:
            if len(self._work.part) < count:
                self._work = empty_shapes(count)
            flat: list[int] = []
            for row, must in enumerate(self._must):
                self._work.must_at[row], self._work.must_n[row] = len(flat), len(must)
                flat.extend(must)
            self._must_flat = np.array(flat, np.int32)
            self._frozen_shapes = ShapeArrays._make(column[:count].copy() for column in self._work)
            self._frozen_tables = None
        if self._frozen_tables is None:
            width = (len(self.nodes) + 7) // 8
            self._frozen_tables = TableArrays(
                elig=np.stack(self._elig) if self._elig else np.zeros((1, width), np.uint8),
                part=self._part_bits,
                part_gate=np.array([_GATES.get(p.state.upper(), 0) for p in self.partitions], np.int8),
                part_time=np.array([p.max_time_s for p in self.partitions], np.int64),
                part_room=np.array(self._part_room, np.int32),
                room=self._room.copy(),
                room_cap=np.array([self.partitions[i].max_cpus_per_node for i in self._room_parts], np.int32),
                must=self._must_flat,
            )
        return self._frozen_shapes, self._frozen_tables
