"""What the last pass over the whole queue foresees: an expected start for each waiting job, and what was promised.

Derived, never journaled: after a restart the first full pass makes it anew.  A promise is a protected reservation and
uses limits only; a prediction has a range, whose late end is the plan's start by limits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from helix.sched.plan import Later, Plan
from helix.sched.snapshot import Snapshot
from helix_native.ahead_arrays import NEVER
from helix_native.arrays import Int64
from helixctld.schedule.kept import Float64, steady

#: where between the early and the late start a predicted one is: measured on traces (docs/internals/measurements.md)
LATENESS = 0.2


@dataclass(frozen=True, slots=True)
class Expectation:
    """Of one job (of an array: of its next task).  Epoch seconds."""

    t_expected: float
    t_early: float  # if jobs run as long as they usually do
    t_late: float  # by limits
    protected: bool  # a promise: it starts no later, unless nodes fail or limits change
    t_made: float  # of the state it was made for
    partition: str
    _nodes: Callable[[], list[str]]
    _own: Callable[[int], list[str]] | None = None

    @property
    def nodes(self) -> list[str]:
        """Where it is planned; [] = not planned on nodes."""
        return self._nodes()

    def nodes_of(self, component: int) -> list[str]:
        """Where a component of a heterogeneous job is planned."""
        return self._nodes() if self._own is None else self._own(component)


class Outlook:
    """Lookups by slot; replaced by each full pass."""

    def __init__(self, components: Callable[[int], list[int]] = lambda _shape: []) -> None:
        """`components`: by shape, the component that each part of a request is for, in the order of the parts."""
        self._components = components
        self.t = 0.0
        self.version = 0  # rises when a start moved
        self.later: Later | None = None
        self.snapshot: Snapshot | None = None
        self._start: Float64 = np.zeros(0, np.float64)  # by slot, epoch seconds; inf = not foreseen
        self._early: Float64 = np.zeros(0, np.float64)
        self._generation: Int64 = np.zeros(0, np.int64)
        self._place: Int64 = np.zeros(0, np.int64)

    def take(self, plan: Plan, snapshot: Snapshot, step_s: int) -> None:
        """Take a full plan and the snapshot it was made for.  `step_s`: resolution of the plan."""
        if plan.later is None or plan.expected is None:
            return
        before = self._start
        start = np.where(plan.expected >= NEVER, np.inf, plan.t + plan.expected)
        early = start if plan.early is None else np.minimum(start, plan.t + plan.early)
        self._start = steady(start, snapshot.generation, self._start, self._generation, step_s)
        self._early = np.minimum(early, self._start)
        self._generation = snapshot.generation
        self.version += not np.array_equal(before, self._start)
        self.t, self.later, self.snapshot = plan.t, plan.later, snapshot
        self._place = np.full(len(plan.expected), -1, np.int64)
        self._place[plan.later.slot] = np.arange(len(plan.later.slot))

    def promises(self, count: int) -> list[tuple[int, float, list[str]]]:
        """Job id, start (epoch seconds) and nodes of the first `count` protected reservations, as they were decided."""
        snapshot, later = self.snapshot, self.later
        if snapshot is None or later is None:
            return []
        found = []
        for at in np.flatnonzero(later.protected)[:count].tolist():
            slot = int(later.slot[at])
            rows = later.row[later.ptr[at] : later.ptr[at + 1]]
            names = [snapshot.node_names[i] for i in np.unique(snapshot.rows.host[rows]).tolist()]
            found.append((int(snapshot.job_id[slot]), float(self._start[slot]), names))
        return found

    def of(self, slot: int | None, generation: int) -> Expectation | None:
        """What is foreseen for the job of a slot; None if nothing is (it came after the pass, or is beyond the
        window)."""
        snapshot, later = self.snapshot, self.later
        if slot is None or snapshot is None or later is None or slot >= len(self._start):
            return None
        late, early = float(self._start[slot]), float(self._early[slot])
        if int(self._generation[slot]) != generation or late == float("inf"):
            return None
        at = int(self._place[slot])
        if at < 0:
            return Expectation(early + LATENESS * (late - early), early, late, False, self.t, "", list)

        def nodes() -> list[str]:
            rows = later.row[later.ptr[at] : later.ptr[at + 1]]
            return [snapshot.node_names[i] for i in np.unique(snapshot.rows.host[rows]).tolist()]

        def own(component: int) -> list[str]:
            of = self._components(int(later.shape[at]))
            chunks = np.array([part for part, whose in enumerate(of) if whose == component], np.int32)
            shares = slice(int(later.ptr[at]), int(later.ptr[at + 1]))
            rows = later.row[shares][np.isin(later.chunk[shares], chunks)]
            return [snapshot.node_names[i] for i in np.unique(snapshot.rows.host[rows]).tolist()]

        protected = bool(later.protected[at])
        partition = snapshot.partitions[int(snapshot.shapes.part[later.shape[at]])]
        expected = late if protected else early + LATENESS * (late - early)
        return Expectation(expected, early, late, protected, self.t, partition, nodes, own)
