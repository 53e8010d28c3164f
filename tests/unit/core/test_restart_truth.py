"""What a restart comes to: the same as without it, also after the configuration has changed meanwhile."""

from __future__ import annotations

from helpers.core_builders import Cluster

from helix.config.assoc_file import parse_assoc
from helix.config.assoc_load import build_accounts
from helix.model import events as ev
from helix.model.job_state import JobState
from helixctld.core import invariants
from helixctld.core.apply import apply
from helixctld.core.usage import UsagePolicy


def test_eligible_since_its_begin_time() -> None:
    c = Cluster()
    job = c.submit(t_begin=c.now + 100)
    c.now += 5000
    assert c.replayed().jobs[job.job_id].t_eligible == 1100.0


def test_a_node_that_is_smaller_than_its_jobs() -> None:
    c = Cluster(nodes=1, cpus=4, memory_mib=1000)
    c.start(c.submit(), cores=(0, 3), mem_mib=600)
    c.start(c.submit(), cores=(1,), mem_mib=300)
    c.shape = (1, 2, 500)
    for state in (c.replayed(), c.restarted()):
        invariants.check(state)
        for job_id in sorted(state.active):
            apply(state, ev.JobEnded(t=c.now, job_id=job_id, attempt=0, state=JobState.COMPLETED))
            invariants.check(state)
        assert (state.free_cores, state.free_mem_mib) == ([0b11], [500])


def test_a_job_that_yields_cpus_that_are_gone_goes_on() -> None:
    c = Cluster(nodes=1, cpus=4, memory_mib=1000)
    job = c.start(c.submit(), cores=(0, 3))
    c.launch(job)
    c.do(ev.JobSuspended(t=c.now, job_id=job.job_id, cause="gang", yields=True))
    c.shape = (1, 2, 1000)
    for state in (c.replayed(), c.restarted()):
        invariants.check(state)
        apply(state, ev.JobResumed(t=c.now, job_id=job.job_id, cause="gang"))
        assert state.jobs[job.job_id].state is JobState.RUNNING
        invariants.check(state)


def test_a_job_that_a_limit_keeps_waiting_is_as_old_as_before() -> None:
    c = Cluster()
    text = "QOS - 'normal'\nParent - 'root'\nAccount - 'physics':MaxWall=1\nParent - 'physics'\nUser - 'alice'\n"
    c.state.set_accounts(build_accounts(parse_assoc(text, "f")), UsagePolicy(enforce=frozenset({"limits"})))
    job = c.submit(assoc="physics:alice", account="physics", time_limit_s=7200)
    assert job.job_id not in c.state.schedulable
    before = job.t_eligible
    c.now += 5000
    assert c.replayed().jobs[job.job_id].t_eligible == before == 1000.0
