"""The plugin families, one small Protocol each.  A plugin implements one of them and names itself `family/name`.

`API_VERSION` rises when a method changes; a plugin may check it.  Plugins of the scheduling families are pure: they
return data, the daemon acts.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np

from helix.model.job import JobSpec
from helix.model.node import NodeRecord
from helix.model.partition import PartitionRecord
from helix.sched.options import SchedOptions
from helix.sched.plan import Plan
from helix.sched.preempt import Contender, PreemptRules, Terms
from helix.sched.priority import Priorities, PriorityOptions, PriorityScale, PriorityTable
from helix.sched.request import Request
from helix.sched.snapshot import Snapshot

API_VERSION = 1


@runtime_checkable
class SchedPlanner(Protocol):
    """`sched/…` (SchedulerType): decides who starts where."""

    def plan(self, snapshot: Snapshot, options: SchedOptions, now: float, rng: np.random.Generator) -> Plan:
        """A plan for `snapshot`.  Runs outside the loop's thread: reads its arguments only, keeps nothing of them.
        The same arguments give the same plan."""


@runtime_checkable
class PriorityPlugin(Protocol):
    """`priority/…` (PriorityType): orders the queue.  Larger is earlier; 0 means held."""

    def initial_priority(self, job_id: int, spec: JobSpec, *, held: bool = False) -> int:
        """The priority of a job at its submit, at its release, and after a change of nice or priority."""


@runtime_checkable
class PriorityRecalculator(PriorityPlugin, Protocol):
    """What a priority plugin offers besides if priorities change while jobs wait."""

    def prioritise(self, table: PriorityTable, scale: PriorityScale, options: PriorityOptions) -> Priorities:
        """Priorities and their terms.  Row i of the result depends on row i of the table only."""


@runtime_checkable
class SelectPlugin(Protocol):
    """`select/…` (SelectType): what a request means and which CPUs of a node it gets."""

    def request(self, spec: JobSpec, partition: PartitionRecord, options: SchedOptions) -> Request:
        """The normalised request; raises UsageError for one that contradicts itself."""

    def pick_cpus(self, node: NodeRecord, free: int, count: int) -> list[int] | None:
        """`count` CPUs out of the bit mask `free`, or None if the node cannot give them."""


@runtime_checkable
class PreemptPlugin(Protocol):
    """`preempt/…` (PreemptType): which running jobs may make room for which waiting ones, how, and in which order."""

    enabled: bool  #: False if nobody ever makes room, so that nobody asks

    def may_preempt(self, preemptor: Contender, victim: Contender, rules: PreemptRules) -> bool:
        """True if `victim` may make room for `preemptor`.  Priorities that exempt, exempt times and modes that are OFF
        are the caller's business."""

    def terms(self, job: Contender) -> Terms:
        """On what terms a running job makes room; jobs of a lower level do so first."""


#: family -> what a plugin of it must offer
FAMILIES: dict[str, type] = {
    "sched": SchedPlanner,
    "priority": PriorityPlugin,
    "select": SelectPlugin,
    "preempt": PreemptPlugin,
}
