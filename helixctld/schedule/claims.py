"""Starts that others make room for: claims that come free, and the last check of such a start.

A start made by preemption does not come from a plan, so `verify` does not see it; here are the same checks for one
start whose cores are known: what is free, licences and limits, devices, reservations, and whose the nodes are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from msgspec.structs import replace

from helix.gres import layout_of, mask_of
from helix.model import events as ev
from helix.model.hetjob import part_of, spec_at, specs_of
from helix.model.job import Allocation, Claim, JobRecord
from helix.model.node import NodeBase, is_schedulable
from helix.sched.gres import needs_of, pick_devices
from helixctld.core.state import State
from helixctld.core.yielding import core_mask
from helixctld.schedule.columns import Columns
from helixctld.schedule.outlook import Expectation
from helixctld.schedule.owner_columns import someone_elses
from helixctld.schedule.recheck import claim_holds
from helixctld.schedule.reservation_columns import is_open
from helixctld.schedule.reservation_guard import Guard
from helixctld.schedule.starts import start_events
from helixctld.schedule.verify import AcceptedStart


class Claims:
    """Bound to the columns of a cycle; the state is an argument everywhere."""

    def __init__(self, columns: Columns) -> None:
        self.columns = columns

    def due(self, state: State, now: float) -> Iterator[list[ev.Event]]:
        """Claims that have come free, or never will.  The caller applies each list before it takes the next."""
        self.columns.update_cluster(state)
        for job_id in sorted(state.claims):
            job = state.jobs[job_id]
            claim = job.claim
            if claim is None:
                continue
            if why := self._broken(state, job, claim):
                yield [ev.JobClaimed(t=now, job_id=job_id, why=why)]
            elif came_free(state, claim.alloc) and all(is_schedulable(state.nodes[n]) for n in claim.alloc.nodes):
                if name := claim_holds(self.columns, state, job, claim.partition, claim.reservation, claim.alloc):
                    yield [ev.JobClaimed(t=now, job_id=job_id, why=f"node {name} may not serve it any more")]
                    continue
                yield [ev.JobClaimed(t=now, job_id=job_id, why="room was made")]
                alloc = replace(claim.alloc, gres=[])
                start = AcceptedStart(job_id, claim.partition, claim.time_limit_s, alloc, claim.reservation)
                if self._may_start(state, job, start, now):
                    yield start_events(state, [start], now)

    def _broken(self, state: State, job: JobRecord, claim: Claim) -> str:
        """Why a claim can never come true; "" if it can."""
        partition = state.partitions.get(claim.partition)
        if partition is None or partition.state.upper() not in ("UP", "DRAIN"):
            return f"partition {claim.partition} does not start jobs any more"
        for name in claim.alloc.nodes:
            node = state.nodes.get(name)  # one that does not answer may be about to, after a restart
            if node is None or node.base not in (NodeBase.UP, NodeBase.UNKNOWN) or node.drain or node.fail:
                return f"node {name} is not available any more"
        if claim.reservation:
            reservation = state.reservations.get(claim.reservation)
            if reservation is None or not is_open(reservation):
                return f"reservation {claim.reservation} is over"
        if job.held or not state.tasks_startable(job):
            return "the job may not start any more"
        if all(not state.jobs[v].is_active for v in claim.victims if v in state.jobs) and not came_free(
            state, claim.alloc
        ):
            return "others have what was to come free"
        return ""

    def start(self, state: State, start: AcceptedStart, now: float) -> list[ev.Event]:
        """The start of a job for which others have been suspended (their events are applied); [] if it cannot."""
        job = state.jobs[start.job_id]
        return start_events(state, [start], now) if self._may_start(state, job, start, now) else []

    def _may_start(self, state: State, job: JobRecord, start: AcceptedStart, now: float) -> bool:
        if job.job_id not in state.schedulable or not self.allowed(state, job, start, now):
            return False
        if not came_free(state, start.alloc) or not all(is_schedulable(state.nodes[n]) for n in start.alloc.nodes):
            return False
        return not self.columns.sources.gres.give(state, job, start.alloc, {})

    def allowed(
        self, state: State, job: JobRecord, start: AcceptedStart, now: float, gone: Collection[int] = ()
    ) -> bool:
        """True unless a limit, a licence or another check forbids the start.  `gone`: jobs that will have gone."""
        if self.columns.is_behind(state):  # limits have changed, and what counts for them is not known yet
            return False
        self.columns.take_running(state)
        pools = self.columns.pools
        for pool, amount in pools.amounts_of(state, job, start.alloc):
            if amount > pools.left(pool):
                return False
        if self.columns.shapes.owners.on and someone_elses(state, job, start.partition, start.alloc.nodes, {}):
            return False
        if state.reservations:
            over_run_s = self.columns.shapes.options.resv_over_run_s
            guard = Guard(state, (), over_run_s, now, gone)
            if guard.why_not(job, start.reservation, start.time_limit_s, start.alloc):
                return False
        checks = self.columns.sources.checks
        return not any(check(state, job, start.partition, start.time_limit_s, start.alloc, now) for check in checks)


def start_with_claim(state: State, job_id: int, kill_wait_s: float) -> Expectation | None:
    """What to expect of a job that others make room for; None for any other.  `kill_wait_s`: KillWait."""
    job = state.jobs.get(job_id)
    if job is None or job.claim is None:
        return None
    claim = job.claim
    left = [other for v in claim.victims if (other := state.jobs.get(v)) is not None and other.is_active]
    late = max((other.t_kill or other.t_preempt + kill_wait_s for other in left), default=claim.t)
    late = max(late, claim.t)
    return Expectation(
        late,
        claim.t,
        late,
        True,
        claim.t,
        claim.partition,
        lambda: claim.alloc.nodes,
        lambda component: part_of(claim.alloc, component).nodes,
    )


def came_free(state: State, alloc: Allocation) -> bool:
    """True if nobody has any of this now."""
    for name, cores, mem in zip(alloc.nodes, alloc.cores, alloc.mem_mib, strict=True):
        node = state.nodes[name]
        mask = core_mask(cores)
        if state.free_cores[node.index] & mask != mask or state.free_mem_mib[node.index] < mem:
            return False
        if node.whole_job or (alloc.whole and node.cpus_alloc):
            return False
    for name, given in zip(alloc.nodes, alloc.gres, strict=False):
        free = state.gres.free(state.nodes[name])
        for kind, indexes in given.items():
            mask = mask_of(indexes)
            if free.get(kind.partition(":")[0], 0) & mask != mask:
                return False
    return True


def with_devices(state: State, job: JobRecord, alloc: Allocation, victims: list[JobRecord]) -> Allocation:
    """The allocation with the devices that are to be kept for it until all has come free."""
    if not any(needs_of(spec).units for spec in specs_of(job.spec)):
        return alloc
    given: list[dict[str, str]] = []
    for place, name in enumerate(alloc.nodes):
        units = needs_of(spec_at(job.spec, alloc, place)).units
        node = state.nodes[name]
        masks = dict(state.gres.offered(node))
        for victim in victims:
            other = victim.alloc
            if other is None or name not in other.nodes or victim.yields_cpus:
                continue
            at = other.nodes.index(name)
            for kind, indexes in (other.gres[at] if at < len(other.gres) else {}).items():
                word = kind.partition(":")[0]
                masks[word] = masks.get(word, 0) | mask_of(indexes)
        found = pick_devices(layout_of(node.gres), masks, units)
        given.append({} if isinstance(found, str) else found)
    return replace(alloc, gres=given)
