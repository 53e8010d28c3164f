"""Nodes as columns: one row a node, at `NodeRecord.index`, kept up to date from the names that changed.

Cost: about 4 us a changed node; a freeze copies what changed since the last (10,000 nodes: about 0.1 ms).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from helix.model.node import NodeRecord, is_counted, is_schedulable
from helix.sched.features import EVERY, AllOf, AnyOf, Has, Not, Term
from helix.sched.place import core_width, free_cpus
from helix_native.arrays import CPUS_MAX, MEM_MAX, Flags, NodeArrays
from helixctld.core.state import State


class NodeColumns:
    """`static_version` rises when capacity, weight, features or the set of nodes change; `version` at any change."""

    def __init__(self) -> None:
        self.static_version = 0
        self.version = 0
        self.names: list[str] = []
        self.frozen_names: tuple[str, ...] = ()
        self.records: list[NodeRecord] = []
        self._features: list[tuple[str, ...]] = []
        self._facts: list[tuple[object, ...] | None] = []
        self._by_feature: dict[str, Flags] | None = None
        self._weights = np.zeros(0, np.int64)
        self._work = _empty(0)
        self._frozen: NodeArrays | None = None
        self._frozen_static: NodeArrays | None = None  # its columns that rarely change are shared by all
        self._seen: list[str] | None = None  # the state's own list, to notice that it was replaced

    def __len__(self) -> int:
        return len(self.names)

    def is_stale(self, state: State) -> bool:
        """True if the set of nodes is not the one these rows were made for."""
        return self._seen is not state.node_names or len(self.names) != len(state.node_names)

    def reload(self, state: State) -> None:
        """Take all nodes afresh."""
        self._seen = state.node_names
        self.names = list(state.node_names)
        self.frozen_names = tuple(self.names)
        count = len(self.names)
        self.records = [state.nodes[name] for name in self.names]
        self._features = [()] * count
        self._facts = [None] * count
        self._weights = np.zeros(count, np.int64)
        self._work = _empty(count)
        self._set_static()
        self.update(state, self.names)

    def update(self, state: State, names: Iterable[str]) -> None:
        """Take the nodes that changed; names that are no longer there are passed over."""
        work = self._work
        for name in names:
            node = state.nodes.get(name)
            if node is None:
                continue
            i = node.index
            width = core_width(node)
            mem = min(node.real_memory_mib, MEM_MAX)
            if (
                work.cpus[i] != node.cpus
                or work.width[i] != width
                or work.mem[i] != mem
                or work.tmp[i] != node.tmp_disk_mib
                or self._weights[i] != node.weight
            ):
                work.cpus[i], work.width[i], work.mem[i] = min(node.cpus, CPUS_MAX), width, mem
                work.tmp[i], self._weights[i] = min(node.tmp_disk_mib, MEM_MAX), node.weight
                self._set_static()
            if (features := tuple(node.features)) != self._features[i]:
                self._features[i] = features
                self._set_static()
            if (facts := _facts(node)) != self._facts[i]:
                self._facts[i] = facts
                self._set_static()
            work.up[i] = is_schedulable(node)
            work.free_cpus[i] = 0 if node.whole_job else _free_cpus(node, state.offered_cores(node), width)
            work.free_mem[i] = min(state.offered_mem_mib(node), MEM_MAX)
            work.empty[i] = state.is_empty(node)
            self._frozen = None
        self.version += 1

    def _set_static(self) -> None:
        self.static_version += 1
        self._by_feature = None
        self._frozen = self._frozen_static = None

    def freeze(self) -> NodeArrays:
        """Arrays that are never written again."""
        if self._frozen is None:
            if self._frozen_static is None:
                _, rank = np.unique(self._weights, return_inverse=True)
                self._work = self._work._replace(rank=rank.astype(np.int32))
                self._frozen_static = NodeArrays._make(column.copy() for column in self._work)
            work = self._work
            self._frozen = self._frozen_static._replace(
                up=work.up.copy(),
                free_cpus=work.free_cpus.copy(),
                free_mem=work.free_mem.copy(),
                empty=work.empty.copy(),
            )
        return self._frozen

    def meeting(self, term: Term) -> Flags:
        """Nodes whose features meet the term.  [N]"""
        if term == EVERY:
            return np.ones(len(self), np.bool_)
        return _meeting(term, self.by_feature(), len(self))

    def by_feature(self) -> dict[str, Flags]:
        """The nodes that have each feature; not to be written.  [N] each"""
        if self._by_feature is None:
            self._by_feature = {}
            for i, features in enumerate(self._features):
                for name in features:
                    self._by_feature.setdefault(name, np.zeros(len(self), np.bool_))[i] = True
        return self._by_feature

    def shaped(self, sockets: int, cores: int, threads: int) -> Flags:
        """Nodes with at least so many sockets, cores in each and threads of each core.  [N]"""
        return np.array(
            [
                node.sockets >= sockets and node.cores_per_socket >= cores and node.threads_per_core >= threads
                for node in self.records
            ],
            np.bool_,
        )

    def indexes(self, state: State, names: Iterable[str]) -> list[int]:
        """Rows of the names that exist."""
        return [node.index for name in names if (node := state.nodes.get(name)) is not None]


def _facts(node: NodeRecord) -> tuple[object, ...]:
    """What expressions may name besides numbers and features."""
    found = node.fingerprint
    system = ("", "", "") if found is None else (found.arch, found.os, found.kernel)
    shape = (node.sockets, node.cores_per_socket, node.threads_per_core)
    return (*shape, node.gres, node.admit, tuple(node.attrs.items()), *system)


def _free_cpus(node: NodeRecord, mask: int, width: int) -> int:
    """CPUs in wholly free cores."""
    if is_counted(node):
        return (node.cpus - node.cpus_alloc) // width * width
    return free_cpus(mask, width, node.cpus)


def _meeting(term: Term, by_feature: dict[str, Flags], count: int) -> Flags:
    match term:
        case Has(name):
            has = by_feature.get(name)
            return np.zeros(count, np.bool_) if has is None else has.copy()
        case Not(inner):
            return ~_meeting(inner, by_feature, count)
        case AllOf(terms):
            met = np.ones(count, np.bool_)
            for inner in terms:
                met &= _meeting(inner, by_feature, count)
            return met
        case AnyOf(terms):
            met = np.zeros(count, np.bool_)
            for inner in terms:
                met |= _meeting(inner, by_feature, count)
            return met


def _empty(count: int) -> NodeArrays:
    i32, i64 = np.int32, np.int64
    return NodeArrays(
        cpus=np.zeros(count, i32),
        width=np.ones(count, i32),
        mem=np.zeros(count, i64),
        tmp=np.zeros(count, i64),
        rank=np.zeros(count, i32),
        up=np.zeros(count, np.bool_),
        free_cpus=np.zeros(count, i32),
        free_mem=np.zeros(count, i64),
        empty=np.ones(count, np.bool_),
    )
