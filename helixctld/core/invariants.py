"""Every cross-reference of the state, asserted.

Runs after every event in unit and property tests, once after a replay, and always under `DebugFlags=Invariants`.
"""

from __future__ import annotations

from helix.model.job_state import ACTIVE, JobState
from helix.model.node import all_cores, is_counted
from helixctld.core.gres_use import GresUse
from helixctld.core.state import State
from helixctld.core.submit_limits import OpenJobs
from helixctld.core.yielding import core_mask, cores_of_node


def check(state: State) -> None:
    """Raises AssertionError naming the first thing that does not agree."""
    free_cores = [all_cores(n) for n in state.nodes.values()]
    free_mem = [n.real_memory_mib for n in state.nodes.values()]
    gres = GresUse()
    gres.reset(state.nodes.values())
    active = set()
    for job in state.jobs.values():
        where = f"job {job.display_id} ({job.state})"
        if job.state in ACTIVE:
            active.add(job.job_id)
            assert job.alloc is not None, f"{where} has no allocation"
            for name, cores, mem in zip(job.alloc.nodes, job.alloc.cores, job.alloc.mem_mib, strict=True):
                node = state.nodes[name]
                assert job.job_id in node.jobs, f"{where}: node {name} does not know it"
                if node.cpus == 0:
                    continue
                mask = 0 if job.yields_cpus else cores_of_node(node, cores)
                assert free_cores[node.index] & mask == mask, f"{where}: cores {cores} of {name} owned twice"
                free_cores[node.index] &= ~mask
                free_mem[node.index] -= mem
                assert free_mem[node.index] >= 0 or name in state.too_full, f"{where}: memory of {name} overcommitted"
            for name, given in zip(job.alloc.nodes, job.alloc.gres, strict=False):
                gres.take(state.nodes[name], given, job.job_id)  # asserts that nobody else has it
        assert (job.outcome is None) or job.state is JobState.COMPLETING, f"{where}: outcome {job.outcome}"
        assert not (job.job_id in state.schedulable and job.state is not JobState.PENDING), f"{where}: schedulable"
        assert not (job.job_id in state.schedulable and job.held), f"{where}: held and schedulable"
        if job.is_array:
            tasks = [j for j in state.jobs.values() if j.array_job_id == job.job_id and j is not job]
            running = sum(j.is_active for j in tasks)
            assert running == job.tasks_active, f"{where}: {running} tasks active, {job.tasks_active} counted"
            waiting = sum(not j.is_terminal for j in tasks)
            assert waiting == job.tasks_open, f"{where}: {waiting} tasks open, {job.tasks_open} counted"
            limit = job.spec.array_limit
            assert not limit or running <= limit or running <= job.tasks_active, f"{where}: limit {limit} passed"
    _check_kept(state)
    if state.accounts.is_configured:
        _check_accounts(state)
    assert active == state.active, f"active index differs by {sorted(active ^ state.active)[:5]}"
    assert free_cores == state.free_cores, "free cores differ from the allocations"
    assert free_mem == state.free_mem_mib, "free memory differs from the allocations"
    assert gres == state.gres, "free GRES differ from the allocations"
    for node in state.nodes.values():
        for job_id in node.jobs:
            assert job_id in active, f"node {node.name} holds job {job_id}, which is not active"
        assert sum(node.jobs.values()) == node.cpus_alloc, f"node {node.name}: CPUs allocated differ"
        fits = node.cpus_alloc <= node.cpus or not is_counted(node) or node.name in state.too_full
        assert fits, f"node {node.name}: more CPUs given than it has"
        completing = sum(state.jobs[j].state is JobState.COMPLETING for j in node.jobs)
        assert completing == node.completing, f"node {node.name}: completing {node.completing}, really {completing}"
    for name, jobs in state.reservation_jobs.items():
        for job_id in jobs:
            assert name in state.reserving_jobs.get(job_id, ()), f"reservation {name}: job {job_id} is in one index"
    for job_id, names in state.reserving_jobs.items():
        job = state.jobs[job_id]
        mine = {job.reservation} if job.is_active else set(job.spec.reservation.split(","))
        assert not job.is_terminal, f"job {job.display_id} is over and counted in {sorted(names)}"
        assert names == mine - {""}, f"job {job.display_id} is counted in {sorted(names)}, not {sorted(mine)}"
    for node in state.nodes.values():
        held = [r.name for r in state.reservations.values() if r.active and node.name in r.shares]
        assert node.reservations == held, f"node {node.name}: reserved by {node.reservations}, really {held}"
    for job_id in state.schedulable:
        assert job_id in state.jobs, f"schedulable job {job_id} does not exist"
    assert all(job_id < state.next_job_id for job_id in state.jobs), "a job id at or above the next one"


def _check_accounts(state: State) -> None:
    """Jobs counted for limits on submission, and charges that lie ahead of their jobs."""
    counted = OpenJobs(state.accounts, state.partition_qos)
    for job in state.jobs.values():
        counted.note(job.job_id, job)
    mine, really = ({k: n for k, n in c.count.items() if n} for c in (state.open_jobs, counted))
    assert mine == really, f"open jobs by association: {mine}, really {really}"
    for key, spent in state.usage.book.items():
        least = min(spent.raw, spent.wall_ms, *spent.tres.values(), 0)
        assert least == 0, f"usage of {key} is negative"


def _check_kept(state: State) -> None:
    """What jobs that yield their CPUs and claims wait for."""
    yielding = {j.job_id for j in state.jobs.values() if j.yields_cpus}
    assert yielding == state.yielding, f"index of yielding jobs differs by {sorted(yielding ^ state.yielding)[:5]}"
    claims = {j.job_id for j in state.jobs.values() if j.claim is not None}
    assert claims == state.claims, f"index of claims differs by {sorted(claims ^ state.claims)[:5]}"
    kept: dict[str, int] = {}
    for job_id in yielding | claims:
        job = state.jobs[job_id]
        where = f"job {job.display_id} ({job.state})"
        if job.yields_cpus:
            assert job.state in (JobState.SUSPENDED, JobState.COMPLETING), f"{where} yields its CPUs"
        if job.claim is not None:
            assert job.is_waiting, f"{where} has a claim"
        alloc = job.alloc if job.claim is None else job.claim.alloc
        assert alloc is not None, f"{where} yields nothing"
        for name, cores in zip(alloc.nodes, alloc.cores, strict=True):
            if name in state.nodes and core_mask(cores):
                kept[name] = kept.get(name, 0) | core_mask(cores)
    assert kept == {k: v for k, v in state.kept_cores.items() if v}, "cores kept differ from those waited for"
