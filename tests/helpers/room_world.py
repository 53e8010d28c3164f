"""A `World` with preemption: two partitions on the same nodes, and the steps the daemon takes around a pass."""

from __future__ import annotations

from typing import Any

from helpers.sched_world import World

from helix.model import events as ev
from helix.model.job import JobRecord
from helix.model.node import NodeRecord
from helix.model.partition import PartitionRecord
from helix.sched.options import SchedOptions
from helix.sched.preempt import PreemptRules
from helix_plugins.preempt.partition_prio import PartitionPrio
from helix_plugins.select.cons_tres import ConsTres
from helixctld.schedule.room import Room


class RoomWorld(World):
    """Partitions `low` (the default) and `high`, tiers 1 and 10."""

    def __init__(
        self,
        nodes: int | list[NodeRecord] = 1,
        cpus: int = 4,
        *,
        rules: PreemptRules | None = None,
        plugin: Any = None,
        planner: Any = None,
        low: dict[str, Any] | None = None,
        high: dict[str, Any] | None = None,
        more: list[PartitionRecord] | None = None,
        options: SchedOptions | None = None,
    ) -> None:
        """`more`: partitions besides the two."""
        names = [f"n{i + 1}" for i in range(nodes)] if isinstance(nodes, int) else [node.name for node in nodes]
        parts = [
            PartitionRecord(name="low", nodes=names, is_default=True, **(low or {})),
            PartitionRecord(name="high", **{"nodes": names, "priority_tier": 10, **(high or {})}),
            *(more or []),
        ]
        super().__init__(nodes, cpus, parts, options, planner=planner)
        rules = rules or PreemptRules(modes=("SUSPEND", "GANG"))
        self.room = Room(self.cycle.columns, plugin or PartitionPrio(), rules, ConsTres().pick_cpus, self.cycle.outlook)

    def round(self) -> list[JobRecord]:
        """Everything the daemon does in one pass; the jobs that started."""
        self.now += 1
        before = set(self.state.active)
        for events in self.room.before_pass(self.state, self.now):
            self.do(*events)
        self.run()
        for events in self.room.after_pass(self.state, self.now):
            self.do(*events)
        return [self.state.jobs[j] for j in sorted(self.state.active - before)]

    def launch(self, *jobs: JobRecord) -> None:
        for job in jobs:
            self.do(ev.JobLaunched(t=self.now, job_id=job.job_id, attempt=job.attempt, t_start=self.now))

    def running(self, count: int = 1, **fields: Any) -> list[JobRecord]:
        """`count` jobs that run."""
        jobs = [self.submit(**fields) for _ in range(count)]
        self.round()
        assert all(job.is_active for job in jobs)
        self.launch(*jobs)
        return jobs
