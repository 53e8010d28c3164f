"""Partitions, eligibility and distinct requests as columns.

A shape is what a job asks in one partition; jobs that ask the same share its row, so that a pass looks at nodes once
for all of them.  A request that can be served in several ways, or in several parts that start together, has a row for
each: the first is its head, which is counted; `heads` gives the first row of each way.  Eligibility (partition members
less excluded nodes, features met) is a row of bits shared by all shapes with equal terms.  Rows are counted and reused.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import lru_cache

import numpy as np

from helix.errors import UsageError
from helix.model.hetjob import partition_on, specs_of
from helix.model.job import JobSpec
from helix.model.partition import PartitionRecord, loosened
from helix.sched.chain import Chain, joined, place_required
from helix.sched.options import SchedOptions
from helix.sched.request import COUNT_MAX, Request, shape_key
from helix.sched.sockets import Seats
from helix_native.ahead_arrays import AheadTables, NeedArrays
from helix_native.arrays import (
    BAD,
    DOWN,
    INACTIVE,
    NODE_LIMIT,
    TIME_LIMIT,
    Bits,
    Flags,
    Int32,
    ShapeArrays,
    TableArrays,
    empty_shapes,
    pack_bits,
    unpack_bits,
)
from helixctld.core.state import State
from helixctld.schedule.admission import NOBODY, Admission, Who
from helixctld.schedule.need_columns import NeedColumns
from helixctld.schedule.node_attributes import NodeAttributes
from helixctld.schedule.node_columns import NodeColumns
from helixctld.schedule.owner_columns import NOBODY as NOBODYS
from helixctld.schedule.owner_columns import OwnerColumns
from helixctld.schedule.row_columns import RowColumns
from helixctld.schedule.socket_columns import SocketColumns
from helixctld.schedule.sources import Sources

MakeRequest = Callable[[JobSpec, PartitionRecord, SchedOptions], Request]
_GATES = {"DOWN": DOWN, "INACTIVE": INACTIVE}
_ELIG_SPARE = 8


class ShapeColumns:
    """`version` rises when a row or a partition changes."""

    def __init__(
        self, nodes: NodeColumns, rows: RowColumns, sources: Sources, options: SchedOptions, make_request: MakeRequest
    ) -> None:
        self.nodes = nodes
        self.rows = rows
        self.attributes = NodeAttributes(nodes)
        self.needs = NeedColumns(nodes, sources, self.attributes, self.able)
        self.admission = Admission(nodes)
        self.owners = OwnerColumns()
        self.sockets = SocketColumns(nodes)
        self.options = options
        self.overrides: dict[str, frozenset[str]] = {}  #: QOS -> which limits of partitions its jobs may pass
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
        self._ways: dict[int, list[list[int]]] = {}  # head -> rows of each way; only where there is more than the head
        self._head: dict[int, int] = {}  # any other row of those -> its head
        self._part_of: dict[int, Request] = {}  # row of a way with several rows, or of several ways -> its own request
        # head -> for each component the Admit lines that do not admit its jobs
        self._refused: dict[int, tuple[tuple[str, ...], ...]] = {}
        self.reserved: dict[int, str] = {}  #: rows of requests for a reservation -> which
        self._work = empty_shapes(0)
        self._part_bits = np.zeros((0, 0), np.uint8)
        self._room = np.zeros((0, 0), np.int32)
        self._room_parts: list[int] = []
        self._part_room: list[int] = []
        self._elig_rows: dict[Hashable, int] = {}
        self._elig: list[Bits] = []
        self._late: set[int] = set()  # heads of requests that are longer than their partition lets jobs run
        self._uid: dict[int, int] = {}  # head -> whose jobs, while nodes may be one user's
        self._elig_of: dict[int, tuple[int, str]] = {}  # row of `elig` -> only nodes that admit this user, partition
        self._seats_of: dict[int, Seats] = {}  # row of `elig` -> only nodes whose sockets serve these now
        self._owners_seen = self._sockets_seen = -1
        self._must_flat = np.zeros(0, np.int32)
        self._frozen_shapes: ShapeArrays | None = None
        self._frozen_needs: NeedArrays | None = None
        self._frozen_tables: TableArrays | None = None

    # ---- partitions ----------------------------------------------------------------------------------------------

    def reload_partitions(self, state: State) -> None:
        """Take partitions and memberships afresh; every shape is normalised again."""
        count, hosts = self.rows.count, self.rows.hosts
        self.partitions = list(state.partitions.values())
        self.names = tuple(p.name for p in self.partitions)
        self.index = {name: i for i, name in enumerate(self.names)}
        self.attributes.take_partitions(self.partitions, state.topology)
        self.admission.refresh()
        self.owners.take_partitions(self.partitions, len(self.nodes))
        self.sockets.clear()
        self._part_bits = np.zeros((len(self.partitions), (count + 7) // 8), np.uint8)
        self._room_parts = [i for i, p in enumerate(self.partitions) if p.max_cpus_per_node > 0]
        self._part_room = [-1] * len(self.partitions)
        for i, partition in enumerate(self.partitions):
            members = np.zeros(len(self.nodes), np.bool_)
            members[self.nodes.indexes(state, partition.nodes)] = True
            self._part_bits[i] = pack_bits(members[hosts])
        self._room = np.zeros((len(self._room_parts), len(self.nodes)), np.int32)
        for row, i in enumerate(self._room_parts):
            self._part_room[i] = row
        self.update_room(state, self.nodes.names)
        self.renew(state)

    def update_room(self, state: State, names: list[str]) -> None:
        """Recount what MaxCPUsPerNode leaves on the nodes that changed, whose they are, and their sockets."""
        self.owners.update(state, names)
        self.sockets.update(state, names)
        if not self._room_parts:
            return
        for name in names:
            node = state.nodes.get(name)
            if node is None:
                continue
            for row, i in enumerate(self._room_parts):
                partition = self.partitions[i]
                used = sum(n for j, n in node.jobs.items() if partition_on(state.jobs[j], name) == partition.name)
                self._room[row, node.index] = partition.max_cpus_per_node - used
        self._frozen_tables = None

    def take_partition_states(self, state: State) -> None:
        """Nothing of the partitions changed but, perhaps, their states."""
        self.partitions = list(state.partitions.values())
        self._frozen_tables = None
        if self._ways:
            self._frozen_shapes = None

    def renew(self, state: State) -> None:
        """Normalise every row again, after a change of partitions or of what nodes are."""
        self._elig_rows.clear()
        self._elig.clear()
        self._work.elig[:] = 0  # until a row is filled again, and for those nobody uses
        self._elig_of.clear()
        self._seats_of.clear()
        self.sockets.clear()
        self.needs.renew()
        for row, key in enumerate(self._keys):
            if self._refs[row] and row not in self._head and key[0] in self.index:
                self._fill(row, state)
        self._frozen_shapes = self._frozen_tables = None

    # ---- shapes --------------------------------------------------------------------------------------------------

    def acquire(
        self,
        state: State,
        partition: str,
        key: Hashable,
        spec: JobSpec,
        excluded: list[str],
        who: Who = NOBODY,
        reservation: str = "",
        uid: int = NOBODYS,
        *,
        late: bool = False,
    ) -> int:
        """The row for `spec` of a job of `who` in `partition`, made if need be; `release` it when the job has gone.
        `reservation`: whose rows it may use.  `uid`: keep off nodes that others have to themselves now.  `late`: the
        job asks for more time than the partition allows, so it does not start there."""
        refused = self.all_refused(spec, partition, who)
        uid = uid if self.owners.on else NOBODYS
        passes = self.overrides.get(spec.qos)
        more = refused or reservation or uid >= 0 or passes or late
        full = (partition, (key, refused, reservation, uid, passes, late) if more else key)
        row = self._rows.get(full)
        if row is not None:
            self._refs[row] += 1
            return row
        row = self._new_row(full, spec, excluded)
        self._rows[full] = row
        if refused:
            self._refused[row] = refused
        if reservation:
            self.reserved[row] = reservation
        if uid >= 0:
            self._uid[row] = uid
        if late:
            self._late.add(row)
        self._fill(row, state)
        self._frozen_shapes = self._frozen_tables = None
        return row

    def _new_row(self, key: tuple[str, Hashable], spec: JobSpec, excluded: list[str]) -> int:
        if self._free:
            row = self._free.pop()
            self._keys[row], self._refs[row], self._samples[row] = key, 1, (spec, list(excluded))
            self._work.elig[row] = 0  # what it was may be gone
            return row
        row = len(self._keys)
        self._keys.append(key)
        self._refs.append(1)
        self._samples.append((spec, list(excluded)))
        self.requests.append(None)
        self._must.append([])
        if row >= len(self._work.part):
            grown = empty_shapes(max(64, 2 * row))
            for name, old in self._work._asdict().items():
                getattr(grown, name)[: len(old)] = old
            self._work = grown
        return row

    def part_of(self, row: int) -> int:
        """The number of the partition of a row."""
        return int(self._work.part[row])

    def heads(self, row: int) -> list[int]:
        """The first row of each way in which the request at head `row` can be served."""
        return [way[0] for way in self._ways[row]] if row in self._ways else [row]

    def request_of(self, row: int) -> Request | None:
        """What one row asks by itself; None if it cannot be read any more.  (`requests` has the whole at a head.)"""
        return None if self.requests[row] is None else self._part_of.get(row, self.requests[row])

    def refused(self, row: int) -> tuple[str, ...]:
        """The Admit lines that do not admit the jobs of a row (of a heterogeneous job: its component)."""
        found = self._refused.get(self._head.get(row, row))
        if found is None:
            return ()
        request = self._part_of.get(row)
        return found[0 if request is None else request.component]

    def all_refused(self, spec: JobSpec, partition: str, who: Who) -> tuple[tuple[str, ...], ...]:
        """`Admission.refused` for each component; () if all lines admit all of them."""
        if not self.admission.texts:
            return ()
        found = []
        for part in specs_of(spec):
            own = partition if part is spec or not part.partitions else part.partitions[0]
            found.append(self.admission.refused(part, self.partitions[self.index.get(own, self.index[partition])], who))
        return tuple(found) if any(found) else ()

    def parts(self, row: int) -> list[int]:
        """All rows that start together with the first row of a way, itself first."""
        ways = self._ways.get(self._head.get(row, row), [])
        return next((way for way in ways if way[0] == row), [row])

    def parts_asked(self, row: int) -> list[Request]:
        """What each row of `parts` asks."""
        return [self._part_of.get(at, Request()) for at in self.parts(row)]

    def release(self, row: int) -> None:
        """One job fewer asks for this."""
        self._refs[row] -= 1
        if self._refs[row] == 0:
            del self._rows[self._keys[row]]
            self._free_row(row)
            for way in self._ways.pop(row, []):
                for other in way:
                    if self._head.pop(other, None) is not None:
                        self._refs[other] = 0
                        self._free_row(other)

    def _free_row(self, row: int) -> None:
        self._refused.pop(row, None)
        self._uid.pop(row, None)
        self._late.discard(row)
        self.reserved.pop(row, None)
        self._part_of.pop(row, None)
        self.requests[row] = None
        self._must[row] = []
        self._free.append(row)

    def row_of(
        self, state: State, spec: JobSpec, excluded: list[str], partition: str, who: Who = NOBODY, reservation: str = ""
    ) -> int:
        """A row for asking only: acquire, and leave it to the caller to release."""
        return self.acquire(state, partition, shape_key(spec, excluded), spec, excluded, who, reservation)

    def _fill(self, row: int, state: State) -> None:
        """Read the request of head `row` again, and fill all its rows."""
        partition = self.partitions[self.index[self._keys[row][0]]]
        spec, excluded = self._samples[row]
        try:
            request = self.request_for(spec, partition)
        except UsageError:  # refused at submit; only a change of the cluster since can bring it here
            for at in (row, *(other for other, head in self._head.items() if head == row)):
                self._work.part[at], self._work.gate[at] = self.index[partition.name], BAD
                self._work.elig[at] = self._elig_row(state, self._work.part[at], Request())
                self.requests[at], self._must[at] = None, []
                self.needs.fill(at, None, -1)
            return
        chains = [self._arranged(state, chain, partition) for chain in request.chains]
        if inside := self.reserved.get(row, ""):
            chains = [tuple(replace(part, reservation=inside) for part in chain) for chain in chains]
        for chain, way in zip(chains, self._rows_for(row, [len(chain) for chain in chains]), strict=True):
            for place, (part, at) in enumerate(zip(chain, way, strict=True)):
                if len(chains) > 1 or len(chain) > 1:
                    self._part_of[at] = part
                self._write(at, state, partition, part, excluded)
                self.needs.fill(at, part, way[place + 1] if place + 1 < len(way) else -1)
                if inside:
                    self.reserved[at] = inside
        self.requests[row] = request

    def request_for(self, spec: JobSpec, partition: PartitionRecord) -> Request:
        """What a job asks in `partition`, with all its components.  Raises UsageError."""
        own = self.make_request(spec, self._as_for(spec, partition), self.options)
        if not spec.components:
            return own
        requests = [own]
        for part in spec.components:
            name = part.partitions[0] if part.partitions else partition.name
            if name not in self.index:
                raise UsageError(f"no partition '{name}'", code="PARTITION_UNKNOWN")
            request = self.make_request(part, self._as_for(spec, self.partitions[self.index[name]]), self.options)
            requests.append(replace(request, partition=name))
        return joined(requests)

    def _as_for(self, spec: JobSpec, partition: PartitionRecord) -> PartitionRecord:
        flags = self.overrides.get(spec.qos)
        return loosened(partition, flags) if flags else partition

    def able(self, request: Request) -> Flags:
        """Nodes that could serve a share of `request` in `request.partition` if they were empty.  [N]"""
        nodes, size = self.nodes.freeze(), len(self.nodes)
        able = self.nodes.meeting(request.constraint)
        if request.partition in self.index:
            able &= unpack_bits(self._part_bits[self.index[request.partition]], self.rows.count)[:size]
        if request.require:
            able &= self.attributes.satisfying(request.require)
        cpus = np.maximum(request.task_lo * request.cpus_per_task, request.cpus_min)
        cpus = -(-cpus // nodes.width) * nodes.width
        memory = np.maximum(cpus * request.mem_cpu_mib, max(request.mem_node_mib, request.mem_floor_mib))
        able &= (nodes.cpus >= cpus) & (nodes.mem >= memory) & (nodes.tmp >= request.tmp_mib)
        if request.exclude:
            able &= ~np.isin(self.nodes.names, request.exclude)
        if request.must and len(request.must) >= request.nodes_lo:
            able &= np.isin(self.nodes.names, request.must)
        gres = self.needs.sources.gres
        if gres.kinds and request.gres:
            asked = np.array(gres.asked(request))
            able &= np.array([(np.array(gres.capacity(n)) >= asked).all() for n in self.nodes.records])
        return able

    def _arranged(self, state: State, chain: Chain, partition: PartitionRecord) -> Chain:
        """The chain with the parts that have least choice first; each spares nodes that later parts could use."""
        if len(chain) == 1:
            return chain
        placed = place_required(chain, lambda name: state.nodes[name].features if name in state.nodes else ())
        if placed is None:  # no way to have the required nodes: the first part asks for all, so that nothing fits
            return chain
        known = [replace(part, partition=part.partition or partition.name) for part in placed]
        choice = [int(self.able(part).sum()) - part.nodes_lo for part in known]
        order = sorted(range(len(known)), key=lambda at: (choice[at], at))
        parts = [known[at] for at in order]
        return tuple(  # those that are alike leave nothing to one another
            replace(part, spare=tuple(dict.fromkeys(other for other in parts[rank + 1 :] if other != part)))
            for rank, part in enumerate(parts)
        )

    def _rows_for(self, row: int, lengths: list[int]) -> list[list[int]]:
        """The rows of each way of the request at head `row`; they stay the same while the request does."""
        if lengths == [1]:
            return [[row]]
        ways = self._ways.get(row)
        if ways is None or [len(way) for way in ways] != lengths:
            key, (spec, excluded) = self._keys[row], self._samples[row]
            ways = [[self._new_row(key, spec, excluded) for _ in range(length)] for length in lengths[1:]]
            first = [row, *(self._new_row(key, spec, excluded) for _ in range(lengths[0] - 1))]
            ways.insert(0, first)
            self._ways[row] = ways
            self._head.update((other, row) for way in ways for other in way if other != row)
        return ways

    def _write(self, row: int, state: State, partition: PartitionRecord, request: Request, excluded: list[str]) -> None:
        work = self._work
        work.part[row] = self.index[request.partition or partition.name]
        self.requests[row] = request
        gate = {"nodes": NODE_LIMIT, "memory": BAD}.get(request.limit, 0)
        must = self.rows.places(request.reservation, self.nodes.indexes(state, request.must))
        if len(must) != len(request.must):
            gate = gate or BAD
        self._must[row] = must
        if self._head.get(row, row) in self._late:
            gate = gate or TIME_LIMIT
        if self.needs.sources.gres.lacking(request):  # no node has such devices any more
            gate = gate or BAD
        refused = self.refused(row)
        uid = self._uid.get(self._head.get(row, row), NOBODYS)
        avoid: tuple[str, ...] = ()
        # kept at once, not in a variable: the next call may number rows of eligibility anew
        work.elig[row] = self._elig_row(state, work.part[row], request, avoid, refused, uid)
        if excluded:  # where launching failed: avoided unless that leaves too few nodes
            narrower = self._elig_row(state, work.part[row], request, tuple(excluded), refused, uid)
            left = int(np.bitwise_count(self._elig[narrower]).sum())
            if left >= request.nodes_lo and not set(excluded) & set(request.must):
                work.elig[row], avoid = narrower, tuple(excluded)
        work.gate[row] = gate
        work.nodes_lo[row], work.nodes_hi[row] = request.nodes_lo, request.nodes_hi
        work.grow[row], work.spread[row] = request.grow, request.spread
        work.contiguous[row], work.least[row] = request.contiguous, request.least_loaded
        work.tasks[row], work.task_lo[row], work.task_hi[row] = request.tasks, request.task_lo, request.task_hi
        work.cpt[row], work.cpus_min[row] = request.cpus_per_task, request.cpus_min
        if request.threads_min or request.tasks_per_core or request.tasks_per_socket:
            seats = self._write_tasks(row, request, int(work.elig[row]))
            if seats is not None:
                work.elig[row] = self._elig_row(state, work.part[row], request, avoid, refused, uid, seats)
        work.mem_node[row], work.mem_cpu[row], work.mem_all[row] = (
            request.mem_node_mib,
            request.mem_cpu_mib,
            request.mem_all,
        )
        work.mem_floor[row], work.tmp[row] = request.mem_floor_mib, request.tmp_mib
        work.exclusive[row] = request.exclusive

    def _write_tasks(self, row: int, request: Request, elig: int) -> Seats | None:
        """The CPUs of a task and the most tasks, by all nodes of row `elig`: in a mixed partition the widest core and
        the fewest sockets decide, so that nothing is ever too few.  The seats wanted on nodes that others use."""
        members = unpack_bits(self._elig[elig], self.rows.count)
        widths = self.nodes.freeze().width[self.rows.hosts][members]
        self._work.cpt[row] = min(request.task_cpus.on(int(widths.max(initial=1))), COUNT_MAX)
        seats = request.seats
        if seats is None:
            return None
        hosts = np.zeros(len(self.nodes), np.bool_)
        hosts[self.rows.hosts[members]] = True
        most = max(self.sockets.most(seats, hosts), request.task_lo)
        self._work.task_hi[row] = most
        return None if request.exclusive else replace(seats, greatest=most)

    def _elig_row(
        self,
        state: State,
        part: int,
        request: Request,
        avoid: tuple[str, ...] = (),
        refused: tuple[str, ...] = (),
        uid: int = NOBODYS,
        seats: Seats | None = None,
    ) -> int:
        """`avoid`: nodes not to be used besides those excluded; `refused`: Admit lines that do not admit the job;
        `seats`: only nodes whose sockets serve these at the time."""
        counts = (request.sockets_min, request.cores_min, request.threads_min)
        on_empty = request.seats
        asked = (request.constraint, request.require, request.exclude, request.reservation, request.exclusive, on_empty)
        key = (int(part), asked, counts, avoid, refused, uid, seats)
        row = self._elig_rows.get(key)
        if row is None:
            if len(self._elig) > _ELIG_SPARE + 2 * len(self._keys):
                self._drop_unused_elig()
            allowed = self.nodes.meeting(request.constraint)
            if any(counts):
                allowed &= self.nodes.shaped(*counts)
            if on_empty is not None:
                allowed &= self.sockets.able(on_empty)
            if request.require:
                allowed &= self.attributes.satisfying(request.require)
            if refused:
                allowed &= self.admission.admitting(refused)
            allowed[self.nodes.indexes(state, (*request.exclude, *avoid))] = False
            allowed = allowed[self.rows.hosts] & self.rows.inside(request.reservation, exclusive=request.exclusive)
            row = self._elig_rows[key] = len(self._elig)
            self._elig.append(pack_bits(allowed) & self._part_bits[part])
            if uid >= 0:
                self._elig_of[row] = uid, self.names[part]
            if seats is not None:
                self._seats_of[row] = seats
                self.sockets.watch(state, seats)
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
        self._elig_of = {kept[old]: whose for old, whose in self._elig_of.items() if old in kept}
        self._seats_of = {kept[old]: seats for old, seats in self._seats_of.items() if old in kept}
        self.sockets.keep(self._seats_of.values())
        self._elig_rows = {key: kept[old] for key, old in self._elig_rows.items() if old in kept}
        for row, refs in enumerate(self._refs):
            if refs:
                self._work.elig[row] = kept[int(self._work.elig[row])]
            else:
                self._work.elig[row] = 0
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
            self._close_ways(self._frozen_shapes)
            self._frozen_needs = self.needs.freeze(count)
            self._frozen_tables = None
        if self._elig_of and self._owners_seen != self.owners.version:
            self._frozen_tables = None
        if self._seats_of and self._sockets_seen != self.sockets.version:
            self._frozen_tables = None
        if self._frozen_tables is None:
            self._owners_seen, self._sockets_seen = self.owners.version, self.sockets.version
            width = (self.rows.count + 7) // 8
            self._frozen_tables = TableArrays(
                elig=self._eligible_now() if self._elig else np.zeros((1, width), np.uint8),
                part=self._part_bits,
                part_gate=np.array([_GATES.get(p.state.upper(), 0) for p in self.partitions], np.int8),
                part_time=np.zeros(len(self.partitions), np.int64),  # a gate of the request: see `acquire`
                part_room=np.array(self._part_room, np.int32),
                room=self._room[:, self.rows.hosts],
                room_cap=np.array([self.partitions[i].max_cpus_per_node for i in self._room_parts], np.int32),
                must=self._must_flat,
            )
        return self._frozen_shapes, self._frozen_tables

    def _eligible_now(self) -> Bits:
        """Who may go where, less the nodes that other users have to themselves or whose sockets are too full."""
        table = np.stack(self._elig)
        hosts = self.rows.hosts
        for row, (uid, partition) in self._elig_of.items():
            table[row] &= pack_bits(self.owners.admitting(uid, partition)[hosts])
        for row, seats in self._seats_of.items():
            table[row] &= pack_bits(self.sockets.serving(seats)[hosts])
        return table

    def lasting(self) -> TableArrays:
        """The tables with eligibility as it is whatever jobs there are."""
        _, tables = self.freeze()
        return tables._replace(elig=np.stack(self._elig)) if self._elig_of or self._seats_of else tables

    def barred_by_sockets(self, row: int) -> Flags:
        """Nodes that row `row` may use but for how their free CPUs lie in sockets now.  [N]"""
        elig = int(self._work.elig[row])
        seats = self._seats_of.get(elig)
        if seats is None:
            return np.zeros(len(self.nodes), np.bool_)
        eligible = unpack_bits(self._elig[elig], self.rows.count)[: len(self.nodes)]
        barred: Flags = eligible & ~self.sockets.serving(seats)
        return barred

    def inside(self) -> Int32:
        """By row: a number for the reservation whose rows the request may use, -1 = none."""
        if not self.reserved:
            return _nowhere(max(1, len(self._keys)))
        found = np.full(max(1, len(self._keys)), -1, np.int32)
        names = {name: number for number, name in enumerate(dict.fromkeys(self.reserved.values()))}
        for row, name in self.reserved.items():
            found[row] = names[name]
        return found

    def _close_ways(self, shapes: ShapeArrays) -> None:
        """A way is tried only if the partitions of all its parts start jobs; tables know of the first part's."""
        for way in (way for ways in self._ways.values() for way in ways if len(way) > 1):
            closed = max(_GATES.get(self.partitions[int(shapes.part[at])].state.upper(), 0) for at in way)
            if closed and not shapes.gate[way[0]]:
                shapes.gate[way[0]] = closed

    def freeze_needs(self, hosts: Int32) -> tuple[NeedArrays, AheadTables]:
        """What goes with the shapes of `freeze`, for rows on these nodes."""
        self.freeze()
        assert self._frozen_needs is not None
        return self._frozen_needs, self.needs.freeze_scores(hosts)


@lru_cache(maxsize=16)
def _nowhere(rows: int) -> Int32:
    """No reservation for any of `rows` shapes.  Shared: nobody writes into what planners are given."""
    return np.full(rows, -1, np.int32)
