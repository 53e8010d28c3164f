"""Nodes that one user has to himself (ExclusiveUser of a partition), as columns.

A node with a job of such a partition takes jobs of that user only, whatever their partition; and a job of such a
partition starts only where no job of anybody else is.  Suspended jobs count.  Cost: about 1 us a job on a node that
changed, and nothing while no partition is exclusive.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from helix.model.job import JobRecord
from helix.model.partition import PartitionRecord
from helix_native.arrays import Flags
from helixctld.core.state import State

NOBODY, SEVERAL = -1, -2  #: in place of a uid

Use = Mapping[str, list[tuple[int, bool]]]  #: node -> uid, and whether exclusively, of starts not in the state yet


class OwnerColumns:
    """Whose the nodes are.  `version` rises with each change."""

    def __init__(self) -> None:
        self.on = False
        self.version = 0
        self._exclusive: frozenset[str] = frozenset()
        self._owner = np.zeros(0, np.int64)  # who has the node exclusively
        self._sole = np.zeros(0, np.int64)  # whose jobs alone are there

    def take_partitions(self, partitions: Iterable[PartitionRecord], count: int) -> None:
        """Take partitions afresh, and `count` nodes nobody has; `update` comes after."""
        self._exclusive = frozenset(p.name for p in partitions if p.exclusive_user)
        self.on = bool(self._exclusive)
        self._owner = np.full(count, NOBODY, np.int64)
        self._sole = np.full(count, NOBODY, np.int64)
        self.version += 1

    def update(self, state: State, names: Iterable[str]) -> None:
        """Take the nodes that changed."""
        if not self.on:
            return
        for name in names:
            node = state.nodes.get(name)
            if node is None:
                continue
            owner = sole = NOBODY
            for job_id in node.jobs:
                job = state.jobs[job_id]
                sole = job.uid if sole in (NOBODY, job.uid) else SEVERAL
                if job.partition in self._exclusive:
                    owner = job.uid
            self._owner[node.index], self._sole[node.index] = owner, sole
        self.version += 1

    def is_exclusive(self, partition: str) -> bool:
        """True if nodes with a job of the partition take that user's jobs only."""
        return partition in self._exclusive

    def admitting(self, uid: int, partition: str) -> Flags:
        """Nodes where a job of this user may start now, as far as others' jobs are concerned.  [N]"""
        whose = self._sole if partition in self._exclusive else self._owner
        admits: Flags = (whose == NOBODY) | (whose == uid)
        return admits


def someone_elses(state: State, job: JobRecord, partition: str, nodes: Iterable[str], others: Use) -> str:
    """The first of these nodes where the job may not start because of jobs of other users; "" if there is none.

    `others`: starts of the same commit.
    """
    own = state.partitions[partition].exclusive_user
    for name in nodes:
        there = [(state.jobs[j].uid, _is_exclusive(state, state.jobs[j])) for j in state.nodes[name].jobs]
        for uid, exclusive in (*there, *others.get(name, ())):
            if uid != job.uid and (own or exclusive):
                return name
    return ""


def _is_exclusive(state: State, job: JobRecord) -> bool:
    partition = state.partitions.get(job.partition)
    return partition is not None and partition.exclusive_user
