"""Random queues on a cluster with preemption and time slices: nothing is owned twice, nobody is forgotten."""

from __future__ import annotations

from helpers.room_world import RoomWorld
from helpers.sched_world import node
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace

from helix.model import events as ev
from helix.model.hetjob import completed
from helix.model.job import JobSpec
from helix.model.job_state import JobState
from helix.model.partition import PartitionRecord
from helix.sched.preempt import PreemptRules
from helix.wire.messages import StepEnded
from helixctld.core import gang
from helixctld.core.effects import batch_host
from helixctld.core.reports import ended_event


class RoomMachine(RuleBasedStateMachine):
    """Two nodes of four CPUs; `World.do` checks every invariant after every event."""

    @initialize(
        mode=st.sampled_from([("SUSPEND", "GANG"), ("CANCEL", "GANG"), ("REQUEUE",), ("SUSPEND", "WITHIN")]),
        share=st.sampled_from(["NO", "FORCE:2", "FORCE:3"]),
        exempt_s=st.sampled_from([0, 0, 5]),
        fill=st.lists(st.tuples(st.integers(1, 2), st.integers(2, 4)), min_size=2, max_size=5),
    )
    def begin(self, mode, share, exempt_s, fill):
        nodes = [node("n1", 4, features=["a"]), node("n2", 4, features=["b"])]
        top = PartitionRecord(name="top", nodes=["n1", "n2"], priority_tier=20)
        rules = PreemptRules(modes=mode, exempt_s=exempt_s)
        self.w = RoomWorld(nodes, rules=rules, low={"oversubscribe": share}, more=[top])
        self.fill(*fill)

    def fill(self, *sizes):
        """Jobs of the low partition that run."""
        for nodes, cpus in sizes:
            self.w.submit(cpus_per_task=cpus, nodes_min=nodes, mem_per_node_mib=10)
        self.a_pass(True)

    def pick(self, k, keep):
        jobs = [job for job in self.w.state.jobs.values() if keep(job)]
        return jobs[k % len(jobs)] if jobs else None

    @rule(
        partition=st.sampled_from(["high", "high", "low", "top"]),
        constraint=st.sampled_from(["", "", "", "[a|b]", "[a*1&b*1]"]),
        cpus=st.integers(1, 4),
        nodes=st.integers(1, 2),
        tasks=st.sampled_from([0, 0, 3]),
        array=st.sampled_from([0, 0, 0, 2]),
        exclusive=st.booleans(),
        priority=st.integers(1, 3),
        mem=st.sampled_from([10, 10, 400]),
    )
    def submit(self, partition, constraint, cpus, nodes, tasks, array, exclusive, priority, mem):
        fields = {"cpus_per_task": min(cpus, 2) if tasks else cpus, "nodes_min": nodes, "tasks": tasks}
        fields |= {"exclusive": exclusive and cpus == 4, "priority": priority, "mem_per_node_mib": mem}
        if constraint:
            fields |= {"constraint": constraint, "nodes_min": 1 + ("&" in constraint), "tasks": 0}
        self.w.submit(array=array, partitions=[partition], **fields)
        self.a_pass(True)

    @rule(cpus=st.tuples(st.integers(1, 4), st.integers(1, 4)), order=st.permutations(["low", "high", "top"]))
    def submit_heterogeneous(self, cpus, order):
        parts = [
            JobSpec(partitions=[name], cpus_per_task=n, mem_per_node_mib=10)
            for name, n in zip(order[:2], cpus, strict=True)
        ]
        spec = completed(replace(parts[0], components=parts[1:]))
        self.w.submit(**{name: getattr(spec, name) for name in spec.__struct_fields__})
        self.a_pass(True)

    @rule(name=st.sampled_from(["n1", "n2"]), answers=st.booleans())
    def silent(self, name, answers):
        self.w.state.set_responding(name, answers)

    @rule(told=st.booleans())
    def a_pass(self, told):
        started = self.w.round()
        if told:
            self.w.launch(*started)

    @rule(k=st.integers(0, 20))
    def node_says_started(self, k):
        job = self.pick(k, lambda j: j.state is JobState.CONFIGURING)
        if job is not None:
            self.w.launch(job)

    @rule(k=st.integers(0, 20))
    def ends(self, k):
        job = self.pick(k, lambda j: j.state in (JobState.CONFIGURING, JobState.RUNNING, JobState.COMPLETING))
        if job is not None:
            report = StepEnded(job_id=job.job_id, attempt=job.attempt, node=batch_host(job))
            self.w.do(ended_event(job, report, self.w.now, requeue_default=True))

    @rule(k=st.integers(0, 20))
    def cancelled(self, k):
        job = self.pick(k, lambda j: not j.is_terminal and not j.is_array)
        if job is None:
            return
        if job.is_waiting:
            self.w.do(ev.JobEnded(t=self.w.now, job_id=job.job_id, attempt=job.attempt, state=JobState.CANCELLED))
        else:
            outcome = JobState.CANCELLED
            self.w.do(ev.JobEnding(t=self.w.now, job_id=job.job_id, attempt=job.attempt, outcome=outcome))

    @rule()
    def slice_over(self):
        self.w.now += 30
        self.w.do(*self.w.room.end_slice(self.w.state, self.w.now))

    @rule(name=st.sampled_from(["n1", "n2"]), drain=st.sampled_from([False, False, True]))
    def drain(self, name, drain):
        self.w.update_node(name, drain=drain)

    @invariant()
    def no_more_share_a_cpu_than_may(self):
        if not hasattr(self, "w"):
            return
        state = self.w.state
        most = gang.jobs_a_cpu(state.partitions["low"])
        for name in state.nodes:
            for core in range(4):
                there = [
                    job
                    for job in map(state.jobs.get, state.nodes[name].jobs)
                    if job.partition == "low" and core in job.alloc.cores[job.alloc.nodes.index(name)]
                ]
                preempted = sum(job.suspended_for == "preempt" for job in there)
                assert len(there) - preempted <= most

    def teardown(self):
        """Everything that runs ends: then everything that waits runs in its turn, and nothing is kept any more."""
        if not hasattr(self, "w"):
            return
        w, state = self.w, self.w.state
        for name in state.nodes:
            w.update_node(name, drain=False)
            state.set_responding(name, True)
        for _ in range(400):
            w.now += 10
            for job in list(state.jobs.values()):
                if job.is_waiting:
                    state.look_again(job, w.now)
            w.round()
            w.do(*w.room.end_slice(state, w.now))
            for job in [state.jobs[j] for j in state.active if state.jobs[j].state is not JobState.SUSPENDED]:
                report = StepEnded(job_id=job.job_id, attempt=job.attempt, node=batch_host(job))
                w.do(ended_event(job, report, w.now, requeue_default=True))
            if not state.active and not state.schedulable and not state.claims:
                break
        left = [f"{job.display_id} {job.state} {job.reason}" for job in state.jobs.values() if not job.is_terminal]
        assert not left
        assert (state.kept_cores, state.kept_mem_mib, state.yielding, state.claims) == ({}, {}, set(), set())


TestRoomMachine = RoomMachine.TestCase
TestRoomMachine.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
