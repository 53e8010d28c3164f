"""Random histories of a small cluster: after every event all invariants hold, and a restart changes nothing."""

from __future__ import annotations

from helpers.core_builders import ALICE, BOB, ROOT, Cluster, picture
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from helix.errors import HelixError
from helix.model import events as ev
from helix.model.account import Accounts, Association
from helix.model.job import Claim, ExitInfo
from helix.model.job_state import JobState, LaunchFailure, Reason
from helix.wire.messages import StepEnded, StepStarted
from helixctld.core import invariants, reports, requests, timers, usage
from helixctld.core.effects import batch_host
from helixctld.core.select_jobs import Target
from helixctld.core.usage import UsagePolicy


class ClusterMachine(RuleBasedStateMachine):
    """What users, nodes and time may do, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.c = Cluster(nodes=2, cpus=3, memory_mib=100)
        accounts = [Association(account="physics", parent="root"), *(
            Association(account="physics", user=user, parent="physics") for user in ("alice", "bob"))]  # fmt: skip
        self.c.state.set_accounts(Accounts(accounts), UsagePolicy(half_life_s=100))

    def pick(self, k, keep=lambda job: True):
        jobs = [j for j in self.c.state.jobs.values() if keep(j)]
        return jobs[k % len(jobs)] if jobs else None

    def ask(self, make) -> None:
        """A request: refused as a whole, or its events happen."""
        try:
            change = make()
        except HelixError:
            return
        self.c.do(*change.events)

    @rule(
        array=st.sampled_from(["", "", "1-4", "0-9:3%2"]),
        dep=st.sampled_from(["", "", "afterok", "afterany", "afternotok", "after", "aftercorr"]),
        k=st.integers(0, 50),
        hold=st.booleans(),
        requeue=st.sampled_from([None, False]),
        begin=st.integers(-50, 50),
        kill=st.booleans(),
    )
    def submit(self, array, dep, k, hold, requeue, begin, kill):
        target = self.pick(k)
        dependency = f"{dep}:{target.array_job_id or target.job_id}" if dep and target is not None else ""
        self.c.submit(
            array=array,
            dependency=dependency,
            hold=hold and k % 3 == 0,
            requeue=requeue,
            t_begin=max(0.0, self.c.now + begin) if begin > 20 else 0.0,
            kill_on_invalid_dep=kill,
            name=f"j{k % 3}",
            assoc=("physics:alice", "physics:bob", "")[k % 3],
        )

    @rule(reset=st.booleans())
    def decay(self, reset):
        self.c.do(usage.decay_event(self.c.state, self.c.now, reset=reset and self.c.now % 7 < 1))

    @rule(k=st.integers(0, 50), node=st.sampled_from(["n1", "n2"]), mem=st.integers(1, 40))
    def start(self, k, node, mem):
        state = self.c.state
        ids = sorted(state.schedulable)
        index = state.nodes[node].index
        free = [i for i in range(3) if state.free_cores[index] >> i & 1]
        if not ids or not free or state.free_mem_mib[index] < mem:
            return
        self.c.start(state.jobs[ids[k % len(ids)]], node, (free[0],), mem)

    @rule(k=st.integers(0, 50))
    def node_says_started(self, k):
        job = self.pick(k, lambda j: j.is_active)
        if job is not None:
            report = StepStarted(job_id=job.job_id, attempt=job.attempt, node=batch_host(job), t_start=self.c.now)
            self.c.do(*reports.step_started(self.c.state, report, self.c.now).events)

    @rule(
        k=st.integers(0, 50),
        code=st.integers(0, 1),
        failure=st.sampled_from([LaunchFailure.NONE, LaunchFailure.NONE, LaunchFailure.SPAWN, LaunchFailure.STDIO]),
        stale=st.booleans(),
        unknown=st.booleans(),
    )
    def node_says_ended(self, k, code, failure, stale, unknown):
        job = self.pick(k, lambda j: j.is_active)
        if job is None:
            return
        report = StepEnded(
            job_id=job.job_id,
            attempt=job.attempt - (stale and job.attempt > 0),
            node=batch_host(job),
            exit=ExitInfo(code=code),
            failure=failure,
            unknown=unknown and k % 5 == 0,
        )
        self.c.do(*reports.step_ended(self.c.state, report, self.c.now, requeue_default=True).events)

    @rule(k=st.integers(0, 50), who=st.sampled_from([ALICE, BOB, ROOT]))
    def cancel(self, k, who):
        job = self.pick(k)
        if job is not None:
            self.ask(lambda: requests.cancel(self.c.state, Target(job), who, self.c.now))

    @rule(k=st.integers(0, 50), who=st.sampled_from([ALICE, ROOT]), hold=st.booleans(), special=st.booleans())
    def requeue(self, k, who, hold, special):
        job = self.pick(k)
        if job is not None:
            self.ask(lambda: requests.requeue(Target(job), who, self.c.now, hold_it=hold, special=special))

    @rule(k=st.integers(0, 50), who=st.sampled_from([ALICE, ROOT]), up=st.booleans())
    def hold_or_release(self, k, who, up):
        job = self.pick(k)
        if job is not None:
            self.ask(
                lambda: (
                    requests.release(Target(job), who, self.c.now)
                    if up
                    else requests.hold(Target(job), who, False, self.c.now)
                )
            )

    @rule(k=st.integers(0, 50), up=st.booleans())
    def suspend_or_resume(self, k, up):
        job = self.pick(k, lambda j: not j.is_array)
        if job is not None:
            state, now = self.c.state, self.c.now
            self.ask(
                lambda: (
                    requests.resume(state, Target(job), ROOT, now) if up else requests.suspend(Target(job), ROOT, now)
                )
            )

    @rule(k=st.integers(0, 50), up=st.booleans())
    def make_room(self, k, up):
        """A job is suspended so that others get its CPUs, or goes on."""
        job = self.pick(k, lambda j: j.state is (JobState.SUSPENDED if up else JobState.RUNNING))
        if job is None:
            return
        if not up:
            self.c.do(ev.JobSuspended(t=self.c.now, job_id=job.job_id, cause="preempt", yields=True, preemptor=1))
        elif not job.yields_cpus or self.c.state.can_take_back(job):
            self.c.do(ev.JobResumed(t=self.c.now, job_id=job.job_id, cause="preempt"))

    @rule(k=st.integers(0, 50), n=st.integers(0, 50))
    def claim(self, k, n):
        """A running job is ended for a waiting one, which is to have its place."""
        job = self.pick(k, lambda j: j.job_id in self.c.state.schedulable)
        victim = self.pick(n, lambda j: j.is_active and not j.yields_cpus)
        if job is None or victim is None:
            return
        claim = Claim(alloc=victim.alloc, partition="batch", victims=[victim.job_id])
        self.c.do(
            ev.JobEnding(
                t=self.c.now,
                job_id=victim.job_id,
                attempt=victim.attempt,
                outcome=JobState.PREEMPTED,
                reason=Reason.PREEMPTED,
                preemptor=job.job_id,
                kill_wait_s=3,
            ),
            ev.JobClaimed(t=self.c.now, job_id=job.job_id, claim=claim),
        )

    @rule(node=st.sampled_from(["n1", "n2"]))
    def node_lost(self, node):
        change = reports.node_lost(self.c.state, node, "died", self.c.now, requeue_default=True)
        self.c.do(*change.events)
        assert not self.c.state.nodes[node].jobs

    @rule(seconds=st.floats(0.1, 400))
    def time_passes(self, seconds):
        self.c.now += seconds
        self.c.do(*timers.due(self.c.state, self.c.now, 300.0))

    @precondition(lambda self: len(self.c.journal) > 5)
    @rule()
    def restart(self):
        # look at time first: a replay sees the present at once, the running state when its timer is due
        self.c.do(*timers.due(self.c.state, self.c.now, 300.0))
        for other in (self.c.replayed(), self.c.restarted()):
            invariants.check(other)
            assert {j: r.state for j, r in other.jobs.items()} == {j: r.state for j, r in self.c.state.jobs.items()}
            mine, theirs = picture(self.c.state), picture(other)
            for key in ("free", "kept", "schedulable", "active", "next", "history", "counts"):
                assert mine[key] == theirs[key], key

    @invariant()
    def nothing_strands(self):
        for job in self.c.state.jobs.values():
            if job.is_terminal:
                assert all(job.job_id not in n.jobs for n in self.c.state.nodes.values())
            elif job.state is JobState.COMPLETING:
                assert job.outcome is not None
            elif job.state is JobState.PENDING and not job.held and job.job_id not in self.c.state.schedulable:
                assert job.is_array or job.reason.value != "None", f"{job.display_id} waits for nothing"


TestClusterMachine = ClusterMachine.TestCase
TestClusterMachine.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
