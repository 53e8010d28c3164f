"""Jobs that share CPUs by time slices: who may start, who runs when, and what is never shared."""

from __future__ import annotations

from helpers.room_world import RoomWorld

from helix.model import events as ev
from helix.model.job_state import JobState
from helix.sched.preempt import PreemptRules
from helixctld.core import gang


def world(share="FORCE:2", *, nodes=1, cpus=2, modes=("SUSPEND", "GANG"), **fields):
    return RoomWorld(nodes, cpus, rules=PreemptRules(modes=modes), low={"oversubscribe": share}, **fields)


def slice_over(w):
    """The end of a slice; who runs now."""
    w.now += 30
    w.do(*w.room.end_slice(w.state, w.now))
    return sorted(j for j in w.state.active if w.state.jobs[j].state is JobState.RUNNING)


def test_a_second_job_starts_and_they_take_turns():
    w = world()
    first = w.running(cpus_per_task=2)[0]
    second = w.submit(cpus_per_task=2)
    assert w.round() == [second]
    assert first.state is JobState.SUSPENDED
    w.launch(second)
    third = w.submit(cpus_per_task=2)
    assert w.round() == []  # two share each CPU already
    assert slice_over(w) == [first.job_id]
    assert slice_over(w) == [second.job_id]
    w.end(first)
    assert w.round() == [third]
    w.launch(third)
    assert [slice_over(w), slice_over(w)] == [[second.job_id], [third.job_id]]


def test_a_job_in_nobodys_way_runs_in_every_slice():
    w = world(cpus=3)
    first = w.running(cpus_per_task=2)[0]
    small = w.running(cpus_per_task=1)[0]
    second = w.submit(cpus_per_task=2)
    w.round()
    w.launch(second)
    assert slice_over(w) == [first.job_id, small.job_id]
    assert slice_over(w) == [small.job_id, second.job_id]
    assert small.suspended_s == 0


def test_memory_must_be_enough_for_all():
    w = world()
    w.running(cpus_per_task=2, mem_per_node_mib=600)
    second = w.submit(cpus_per_task=2, mem_per_node_mib=600)
    w.round()
    assert second.state is JobState.PENDING


def test_yes_needs_the_jobs_own_word():
    w = world("YES:2")
    first = w.running(cpus_per_task=2, oversubscribe=True)[0]
    shy = w.submit(cpus_per_task=2)
    w.round()
    assert (first.state, shy.state) == (JobState.RUNNING, JobState.PENDING)
    w.do(ev.JobEnded(t=w.now, job_id=shy.job_id, attempt=0, state=JobState.CANCELLED))
    bold = w.submit(cpus_per_task=2, oversubscribe=True)
    assert w.round() == [bold]


def test_nothing_is_shared_without_gang():
    w = world(modes=("SUSPEND",))
    w.running(cpus_per_task=2)
    second = w.submit(cpus_per_task=2)
    w.round()
    assert second.state is JobState.PENDING


def test_jobs_of_several_nodes_run_on_all_or_none():
    w = world(nodes=2)
    wide = w.running(nodes_min=2, cpus_per_task=2)[0]
    left = w.submit(cpus_per_task=2, nodelist="n1")
    assert w.round() == [left]
    w.launch(left)
    assert (wide.state, w.state.free_cores) == (JobState.SUSPENDED, [0, 3])
    small = w.submit(cpus_per_task=2, nodelist="n2")
    assert w.round() == [small]  # the other node is free meanwhile, but for the wide job
    w.launch(small)
    assert slice_over(w) == [wide.job_id]
    assert slice_over(w) == [left.job_id, small.job_id]


def test_others_do_not_get_what_a_gang_waits_for():
    w = world(nodes=2)
    wide = w.running(nodes_min=2, cpus_per_task=2)[0]
    left = w.submit(cpus_per_task=2, nodelist="n1")
    w.round()
    w.launch(left)
    equal = w.submit(cpus_per_task=1, partitions=["other"])
    w.round()
    assert equal.state is JobState.PENDING
    w.end(left)
    w.round()
    assert wide.state is JobState.RUNNING


def test_a_higher_partition_preempts_the_gang():
    w = world()
    first = w.running(cpus_per_task=2)[0]
    second = w.submit(cpus_per_task=2)
    w.round()
    w.launch(second)
    high = w.submit(cpus_per_task=2, partitions=["high"])
    assert w.round() == [high]
    w.launch(high)
    assert [j.state for j in (first, second)] == [JobState.SUSPENDED] * 2
    assert slice_over(w) == [high.job_id]
    w.end(high)
    w.round()
    assert first.state is JobState.RUNNING
    assert slice_over(w) == [second.job_id]


def test_a_restart_goes_on_with_the_next_row():
    w = world()
    first = w.running(cpus_per_task=2)[0]
    second = w.submit(cpus_per_task=2)
    w.round()
    w.launch(second)
    before = gang.members_of(w.state)
    w.state.rebuild(w.now)
    assert gang.members_of(w.state) == before
    assert slice_over(w) == [first.job_id]


def test_words_of_oversubscribe():
    w = world("FORCE")
    assert gang.jobs_a_cpu(w.state.partitions["low"]) == 4
    assert gang.jobs_a_cpu(w.state.partitions["high"]) == 1
