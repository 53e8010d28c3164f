"""ExclusiveUser of partitions: a node is one user's at a time."""

from __future__ import annotations

from helpers.room_world import RoomWorld

from helix.model import events as ev
from helix.model.job import JobRecord, JobSpec
from helix.model.job_state import JobState, Reason
from helix.sched.preempt import PreemptRules


class Users(RoomWorld):
    """`low` gives each node to one user at a time, `high` does not."""

    def __init__(self, nodes: int = 1) -> None:
        super().__init__(nodes, 4, rules=PreemptRules(), low={"exclusive_user": True})

    def of(self, uid: int, **fields) -> JobRecord:
        job_id = self.state.next_job_id
        self.do(ev.JobSubmitted(t=self.now, job_id=job_id, uid=uid, gid=1, spec=JobSpec(**fields), priority=1000))
        return self.state.jobs[job_id]


def test_one_user_a_node():
    w = Users()
    mine, theirs, more = w.of(1), w.of(2), w.of(1)
    assert w.round() == [mine, more]
    w.round()
    assert theirs.reason is Reason.RESOURCES
    w.end(mine)
    w.round()
    assert theirs.state is JobState.PENDING
    w.end(more)
    assert w.round() == [theirs]


def test_users_spread_over_nodes():
    w = Users(nodes=2)
    jobs = [w.of(uid) for uid in (1, 2, 1, 2)]
    started = [job for _ in range(4) for job in w.round()]
    assert sorted(j.job_id for j in started) == [j.job_id for j in jobs]
    assert w.where(jobs[0]) == w.where(jobs[2]) != w.where(jobs[1]) == w.where(jobs[3])


def test_other_partitions_respect_whose_the_node_is():
    w = Users()
    mine = w.of(1)
    w.round()
    other, own = w.of(2, partitions=["high"]), w.of(1, partitions=["high"])
    assert w.round() == [own]
    assert other.state is JobState.PENDING
    w.end(mine)
    assert w.round() == [other]  # nobody has the node to himself any more
    late = w.of(3)
    w.round()
    assert late.state is JobState.PENDING  # a node with others' jobs will not do


def test_a_request_is_not_impossible_because_others_are_there():
    w = Users()
    w.of(1)
    w.round()
    w.feasibility.check_possible(w.state, JobSpec(cpus_per_task=4), ["low"])
