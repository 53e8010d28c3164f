"""Starting jobs that share CPUs: a waiting job of a partition with OverSubscribe starts although others have the CPUs.

As long as fewer jobs than the partition allows share each CPU, and memory is enough for all of them, those that run
there are suspended and the new one starts; from then on they take turns (`helixctld.core.gang`).
"""

from __future__ import annotations

from collections.abc import Iterator

from helix.model import events as ev
from helix.model.job import Claim, JobRecord
from helix.model.job_state import JobState
from helix.model.node import NodeRecord
from helix.sched.preempt import SUSPEND, Contender, Terms
from helixctld.core.gang import jobs_a_cpu, takes_turns
from helixctld.core.preempt import STARTING_S, How
from helixctld.core.state import State
from helixctld.core.yielding import core_mask
from helixctld.schedule.asking import Asked, AskedPart
from helixctld.schedule.preempting import Preempting
from helixctld.schedule.who_yields import Round, Willing


class Gangs(Preempting):
    """As `Preempting`, among the jobs of one partition that take turns."""

    def is_on(self, state: State) -> bool:
        """True if time slices are configured and some partition has them."""
        return self.rules.gang and any(jobs_a_cpu(p) > 1 for p in state.partitions.values())

    def _asks(self, state: State, job: JobRecord, turn: Round) -> bool:
        names = job.spec.partitions or [state.default_partition]
        return any(takes_turns(job, state.partitions.get(name)) for name in names)

    def _ways(self, state: State, job: JobRecord, now: float, turn: Round) -> Iterator[Asked]:
        for asked in super()._ways(state, job, now, turn):
            names = {part.asker.partition for part in asked.parts}
            if len(names) == 1 and takes_turns(job, state.partitions.get(asked.partition)):
                yield asked

    def _willing(self, state: State, asked: Asked, now: float, turn: Round) -> Willing:
        found = self._asking(state, asked)
        for job_id in state.active:
            job = state.jobs[job_id]
            if job.yields_cpus or not self._shares(state, asked, job):
                continue
            if job.state is JobState.RUNNING:
                found.add(job_id, How(SUSPEND, Terms()), [True] * len(asked.parts))
            elif job.state is JobState.CONFIGURING:
                found.wait_until(now + STARTING_S)
        return found

    def _shares(self, state: State, asked: Asked, job: JobRecord) -> bool:
        """True if the running job takes turns with the one that asks."""
        same = job.partition == asked.partition and job.reservation == asked.reservation
        return same and takes_turns(job, state.partitions.get(job.partition))

    def _may_ask(self, state: State, asker: Contender, job: JobRecord) -> bool:
        return job.partition == asker.partition

    def _cost(self, state: State, job: JobRecord, how: How | None, levels: list[int], now: float) -> int:
        """Where fewer wait for the CPUs already."""
        assert job.alloc is not None
        others = {j for name in job.alloc.nodes for j in state.nodes[name].jobs}
        return 1 + sum(state.jobs[j].yields_cpus for j in others)

    def _full(self, state: State, asked: Asked, node: NodeRecord) -> int:
        """Cores that as many jobs as may do share already."""
        most = jobs_a_cpu(state.partitions[asked.partition])
        counts: dict[int, int] = {}
        full = 0
        for job_id in node.jobs:
            job = state.jobs[job_id]
            if job.alloc is None:
                continue
            for core in job.alloc.cores[job.alloc.nodes.index(node.name)]:
                counts[core] = counts.get(core, 0) + 1
                if counts[core] >= most:
                    full |= 1 << core
        return full

    def _kept_by(self, state: State, asked: Asked, part: AskedPart, node: NodeRecord) -> int:
        """Cores that suspended jobs wait for which do not take turns with this one."""
        cores = 0
        for job_id in node.jobs:
            job = state.jobs[job_id]
            if not job.yields_cpus or job.alloc is None:
                continue
            if not self._shares(state, asked, job):
                cores |= core_mask(job.alloc.cores[job.alloc.nodes.index(node.name)])
        return cores

    def _goes_first(self, state: State, asked: Asked, other: JobRecord, claim: Claim) -> bool:
        return False

    def _tell(self, victim: JobRecord, how: How, asked: Asked, willing: Willing, now: float) -> ev.Event:
        return ev.JobSuspended(t=now, job_id=victim.job_id, cause="gang", yields=True)
