"""--ntasks-per-socket and --ntasks-per-core: CPUs of a task, sockets of a node, and what waits for them."""

from __future__ import annotations

import pytest
from helpers.sched_world import World, node
from hypothesis import given
from hypothesis import strategies as st

from helix.errors import Never
from helix.model.job_state import Reason
from helix.model.node import NodeRecord
from helix.sched.options import SchedOptions
from helix.sched.sockets import Seats, TaskCpus, pick_seats, share_tasks
from helix_plugins.sched.backfill import Backfill

HOUR = 3600


def world(*nodes: NodeRecord) -> World:
    return World(list(nodes), planner=Backfill(), options=SchedOptions(def_mem_per_cpu_mib=10))


def two_sockets(name: str = "n1", cores: int = 4, threads: int = 1) -> NodeRecord:
    cpus = 2 * cores * threads
    return node(name, cpus, 100 * cpus, sockets=2, cores_per_socket=cores, threads_per_core=threads)


@pytest.mark.parametrize(
    ("task", "width", "cpus"),
    [
        (TaskCpus(1, per_core=1), 2, 2),
        (TaskCpus(3, per_core=1), 2, 4),
        (TaskCpus(1, per_core=2), 2, 1),
        (TaskCpus(1, per_core=1), 1, 1),
        (TaskCpus(1, per_core=2), 4, 2),
        (TaskCpus(1, per_core=3), 4, 2),
        (TaskCpus(1, threads=1), 2, 2),
        (TaskCpus(3, threads=1, per_core=1), 2, 6),
        (TaskCpus(1, per_socket=1), 2, 2),  # half a core would leave the other half to the next socket's task
        (TaskCpus(1, per_socket=2), 2, 1),
    ],
)
def test_cpus_of_a_task(task: TaskCpus, width: int, cpus: int) -> None:
    assert task.on(width) == cpus


def test_a_core_for_each_task() -> None:
    w = world(two_sockets(threads=2))
    job = w.submit(tasks=3, tasks_per_core=1, time_limit_s=HOUR)
    assert w.run() == [job]
    assert job.alloc is not None
    assert job.alloc.cpus == [6]


def test_tasks_go_to_several_sockets() -> None:
    w = world(two_sockets())
    job = w.submit(tasks=4, tasks_per_socket=2, nodes_min=1, nodes_max=1, time_limit_s=HOUR)
    assert w.run() == [job]
    assert job.alloc is not None
    assert job.alloc.cores == [[0, 1, 4, 5]]


def test_more_sockets_than_a_node_has_are_refused() -> None:
    w = world(two_sockets())
    job = w.submit(tasks=5, tasks_per_socket=2, nodes_min=1, nodes_max=1)
    with pytest.raises(Never, match="takes 5 tasks with at most 2 on a socket; the best, n1, takes 4"):
        w.feasibility.check_possible(w.state, job.spec, ["main"])


def test_tasks_that_do_not_fit_the_sockets_of_a_node_take_another_node() -> None:
    w = world(two_sockets("n1"), two_sockets("n2"))
    job = w.submit(tasks=6, tasks_per_socket=2, time_limit_s=HOUR)
    assert w.run() == [job]
    assert job.alloc is not None
    assert job.alloc.cpus == [4, 2]


def test_a_node_with_one_socket_is_passed_over_where_two_are_needed() -> None:
    w = world(node("n1", 8), two_sockets("n2"))
    job = w.submit(tasks=4, tasks_per_socket=2, nodes_min=1, nodes_max=1, time_limit_s=HOUR)
    assert w.run() == [job]
    assert w.where(job) == ["n2"]


def test_free_cpus_in_one_socket_are_not_enough_and_nobody_else_is_kept_out() -> None:
    w = world(two_sockets())
    full = w.submit(tasks=4, time_limit_s=HOUR)
    assert w.run() == [full]
    job = w.submit(tasks=4, tasks_per_socket=2, nodes_min=1, nodes_max=1, time_limit_s=HOUR)
    assert w.run() == []
    assert w.reason(job) is Reason.RESOURCES
    assert "sockets" in job.reason_text
    w.feasibility.check_possible(w.state, job.spec, ["main"])  # not now is not never
    why = w.why(job)
    assert "free CPUs in too few sockets" in why["text"]
    assert (why["reason"], why["text"].startswith("waits for 4 tasks")) == ("Resources", True)
    assert w.cycle.counters.conflicts == 0
    other = w.submit(tasks=2, time_limit_s=60)
    assert w.run() == [other]
    w.end(full)
    w.end(other)
    assert w.run() == [job]


def test_a_node_whose_sockets_serve_is_found_beside_one_whose_do_not() -> None:
    w = world(two_sockets("n1"), two_sockets("n2"))
    full = w.submit(tasks=4, nodelist="n1", time_limit_s=HOUR)
    w.run()
    job = w.submit(tasks=4, tasks_per_socket=2, nodes_min=1, nodes_max=1, time_limit_s=HOUR)
    assert w.run() == [job]
    assert w.where(job) == ["n2"]
    assert w.where(full) == ["n1"]


def test_whole_nodes_need_only_the_sockets() -> None:
    w = world(node("n1", 8), two_sockets("n2"))
    job = w.submit(tasks_per_node=4, tasks_per_socket=2, exclusive=True, time_limit_s=HOUR)
    assert w.run() == [job]
    assert w.where(job) == ["n2"]


@given(
    st.integers(1, 4), st.integers(1, 6), st.sampled_from([1, 2]), st.integers(0, 2**48), st.integers(1, 8),
    st.integers(1, 3), st.integers(1, 3),
)  # fmt: skip
def test_what_serves_is_picked_and_no_socket_has_too_many(
    sockets: int, cores: int, width: int, free: int, tasks: int, cpus: int, most: int
) -> None:
    record = NodeRecord(
        name="n", cpus=sockets * cores * width, sockets=sockets, cores_per_socket=cores, threads_per_core=width
    )
    free &= (1 << record.cpus) - 1
    task = TaskCpus(cpus, per_socket=most)
    each = task.on(width)
    count = -(-tasks * each // width) * width
    seats = Seats(task, tasks, tasks)
    picked = pick_seats(record, free, count, task, tasks)
    enough = sum(all(free >> c * width + t & 1 for t in range(width)) for c in range(sockets * cores)) * width >= count
    assert (picked is not None) == (seats.on_free(record, free) >= tasks)
    if enough:
        assert seats.serves(record, free) <= (picked is not None)
    if picked is not None:
        assert len(picked) == count
        assert all(free >> cpu & 1 for cpu in picked)
        own = cores * width
        for socket in range(sockets):
            there = sum(cpu // own == socket for cpu in picked)
            assert there <= -(-most * each // width) * width


def test_tasks_are_shared_as_the_planner_does() -> None:
    nodes = [two_sockets("n1", threads=2), two_sockets("n2", threads=2)]
    assert share_tasks(4, [4, 4], nodes, TaskCpus(1, per_core=1)) == [2, 2]
    assert share_tasks(5, [16, 2], nodes, TaskCpus(1, per_socket=2)) == [4, 1]
