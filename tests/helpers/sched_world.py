"""A cluster as pure state with a scheduling cycle: submit, pass, end."""

from __future__ import annotations

from typing import Any

from helix.indexset import IndexSet
from helix.model import events as ev
from helix.model.job import JobRecord, JobSpec
from helix.model.job_state import JobState, Reason
from helix.model.node import NodeBase, NodeRecord
from helix.model.partition import PartitionRecord
from helix.plugin.families import SchedPlanner
from helix.sched.options import SchedOptions
from helix_plugins.priority.basic import Basic
from helix_plugins.sched.fifo import Fifo
from helix_plugins.select.cons_tres import ConsTres
from helixctld.core import invariants
from helixctld.core.apply import apply
from helixctld.core.state import State
from helixctld.schedule.cycle import Cycle
from helixctld.schedule.feasible import Feasibility
from helixctld.schedule.verify import AcceptedStart
from helixctld.schedule.why import why
from helixctld.schedule.wiring import sources_of


def node(name: str, cpus: int = 4, mem: int = 1000, **fields: Any) -> NodeRecord:
    """A node that is up."""
    fields = {"sockets": 1, "cores_per_socket": cpus, **fields}
    return NodeRecord(name=name, cpus=cpus, real_memory_mib=mem, base=NodeBase.UP, responding=True, **fields)


class World:
    """`nodes` nodes of `cpus` CPUs in the default partition `main`, with 10 MiB a CPU as the default memory."""

    def __init__(
        self,
        nodes: int | list[NodeRecord] = 2,
        cpus: int = 4,
        partitions: list[PartitionRecord] | None = None,
        options: SchedOptions | None = None,
        check: bool = True,
        planner: SchedPlanner | None = None,
    ) -> None:
        self.state = State("test")
        records = [node(f"n{i + 1}", cpus) for i in range(nodes)] if isinstance(nodes, int) else nodes
        self.state.set_nodes(records)
        main = PartitionRecord(name="main", nodes=[r.name for r in records], is_default=True)
        self.state.set_partitions(partitions or [main])
        self.options = options or SchedOptions(def_mem_per_cpu_mib=10)
        self.ticks = 0.0
        self.now = 1000.0
        self.check = check
        self.priority = Basic()
        self.cycle = Cycle(planner or Fifo(), ConsTres(), self.options, self.timer, sources=sources_of(self.state))
        self.feasibility = Feasibility(self.cycle.columns, self.cycle.outlook)

    def timer(self) -> float:
        return self.ticks

    def do(self, *events: Any) -> None:
        for event in events:
            apply(self.state, event)
        if self.check:
            invariants.check(self.state)

    def submit(self, *, array: str | int = 0, **fields: Any) -> JobRecord:
        if array:
            fields["array"] = IndexSet.span(0, array - 1) if isinstance(array, int) else array
        spec = JobSpec(**fields)
        job_id = self.state.next_job_id
        priority = self.priority.initial_priority(job_id, spec)
        self.do(ev.JobSubmitted(t=self.now, job_id=job_id, uid=1000, gid=1000, spec=spec, priority=priority))
        return self.state.jobs[job_id]

    def begin(self, accepted: list[AcceptedStart]) -> list[JobRecord]:
        """Apply the starts of a commit; the records that run."""
        events = []
        next_id = self.state.next_job_id
        taken: dict[int, list[int]] = {}
        for start in accepted:
            job = self.state.jobs[start.job_id]
            event = ev.JobStarted(
                t=self.now,
                job_id=job.job_id,
                attempt=job.attempt,
                partition=start.partition,
                reservation=start.reservation,
                time_limit_s=start.time_limit_s,
                alloc=start.alloc,
                array_job_id=job.array_job_id,
                array_task_id=job.array_task_id,
            )
            if job.is_array:
                if job.job_id not in taken:
                    count = sum(other.job_id == job.job_id for other in accepted)
                    taken[job.job_id] = self.state.next_tasks(job, count)
                event.array_task_id = taken[job.job_id].pop(0)
                event.job_id = next_id
                next_id += 1
            events.append(event)
        self.do(*events)
        return [self.state.jobs[event.job_id] for event in events]

    def run(self) -> list[JobRecord]:
        """One pass: plan, commit, start, show reasons.  The records that started.  A second goes by."""
        self.ticks += 1.0
        accepted, reasons = self.cycle.run_inline(self.state, self.now)
        started = self.begin(accepted)
        for job_id, reason, text in reasons:
            job = self.state.jobs[job_id]
            job.reason, job.reason_text = reason, text
        return started

    def end(self, job: JobRecord, state: JobState = JobState.COMPLETED) -> None:
        self.now += 1
        self.do(ev.JobEnded(t=self.now, job_id=job.job_id, attempt=job.attempt, state=state))

    def update_node(self, name: str, **fields: Any) -> None:
        self.do(ev.NodeUpdated(t=self.now, node=name, **fields))

    def why(self, job: JobRecord) -> dict[str, Any]:
        return why(self.state, job, self.cycle.columns, self.now, self.cycle.outlook)

    def where(self, job: JobRecord) -> list[str]:
        assert job.alloc is not None
        return job.alloc.nodes

    def reason(self, job: JobRecord) -> Reason:
        return job.reason
