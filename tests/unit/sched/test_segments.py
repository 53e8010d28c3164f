"""--segment: each so many nodes of a job in one block."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from helpers.sched_world import World
from hypothesis import given, settings
from hypothesis import strategies as st

from helix.errors import HelixError, Never
from helix.model.job import JobRecord
from helix.model.job_state import Reason
from helix.model.topology import topology_of
from helix.sched.options import SchedOptions
from helix_plugins.sched.backfill import Backfill

HOUR = 3600


def blocks(*sizes: int, kind: str = "block") -> World:
    """Blocks with so many nodes each."""
    names = iter(f"n{i + 1}" for i in range(sum(sizes)))
    lines: Any = [(f"b{i + 1}", tuple(next(names) for _ in range(size)), ()) for i, size in enumerate(sizes)]
    options = SchedOptions(def_mem_per_cpu_mib=10, has_topology=True, has_blocks=kind == "block", keep_near=True)
    w = World(sum(sizes), planner=Backfill(), options=options)
    w.state.set_topology(topology_of(kind, lines))
    return w


def nodes_by_block(w: World, job: JobRecord) -> list[int]:
    return sorted(Counter(w.state.topology.leaf_of[name] for name in w.where(job)).values())


def ask(w: World, nodes: int, segment: int, **fields: Any) -> JobRecord:
    fields = {"exclusive": True, "time_limit_s": HOUR, **fields}
    return w.submit(nodes_min=nodes, nodes_max=nodes, segment=segment, **fields)


def test_each_segment_is_in_one_block() -> None:
    w = blocks(3, 3, 3)
    job = ask(w, 6, 2)
    assert w.run() == [job]
    assert nodes_by_block(w, job) == [2, 2, 2]


def test_several_segments_may_share_a_block() -> None:
    w = blocks(4, 1)
    job = ask(w, 4, 2)
    assert w.run() == [job]
    assert nodes_by_block(w, job) == [4]


def test_tasks_are_shared_evenly_over_the_segments() -> None:
    w = blocks(2, 2)
    job = ask(w, 4, 2, tasks=8, exclusive=False)
    assert w.run() == [job]
    assert job.alloc is not None
    assert [sum(job.alloc.cpus[:2]), sum(job.alloc.cpus[2:])] == [4, 4]


def test_a_job_waits_for_segments_and_is_told_when() -> None:
    w = blocks(2, 2)
    one = w.submit(nodelist="n1", exclusive=True, time_limit_s=HOUR)
    two = w.submit(nodelist="n3", exclusive=True, time_limit_s=2 * HOUR)
    w.run()
    job = ask(w, 2, 2)
    assert w.run() == []
    assert w.reason(job) is Reason.RESOURCES
    found = w.cycle.expectation(job.job_id)
    assert found is not None
    assert found.nodes == ["n1", "n2"]
    why = w.why(job)
    assert why["text"] == "2 nodes could take part now, but at most 1 of them below 1 switch, and 2 are asked"
    assert why["advice"] == ["without --segment it would fit now"]
    w.end(one)
    assert w.run() == [job]
    w.end(two)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"nodes_min": 5, "nodes_max": 5, "segment": 2}, "--segment=2 does not divide 5 nodes"),
        ({"nodes_min": 2, "nodes_max": 4, "segment": 2}, "fixed number of nodes"),
        ({"tasks": 4, "segment": 2}, "fixed number of nodes"),
        ({"nodes_min": 2, "nodes_max": 2, "segment": 2, "switches": 1}, "--segment and --switches"),
        ({"nodes_min": 2, "nodes_max": 2, "segment": 2, "nodelist": "n1"}, "--segment and --nodelist"),
        ({"nodes_min": 2, "nodes_max": 2, "segment": 2, "contiguous": True}, "--segment and --contiguous"),
    ],
)
def test_what_does_not_go_together(fields: dict[str, Any], message: str) -> None:
    w = blocks(3, 3)
    job = w.submit(**fields)
    with pytest.raises(HelixError, match=message) as caught:
        w.feasibility.check_possible(w.state, job.spec, ["main"])
    assert caught.value.code == "SEGMENT_INVALID"
    assert caught.value.hint


def test_segments_need_blocks() -> None:
    w = blocks(3, 3, kind="tree")
    job = ask(w, 2, 2)
    with pytest.raises(HelixError, match="this cluster has no blocks"):
        w.feasibility.check_possible(w.state, job.spec, ["main"])


def test_segments_that_no_blocks_hold_are_refused() -> None:
    w = blocks(3, 3)
    job = ask(w, 6, 2)
    with pytest.raises(
        Never, match="3 segments of 2 nodes in one block asked; the blocks of partition main have room for 2"
    ):
        w.feasibility.check_possible(w.state, job.spec, ["main"])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(2, 3), st.integers(1, 4))
def test_a_job_starts_exactly_when_blocks_have_room(sizes: list[int], segment: int, count: int) -> None:
    w = blocks(*sizes)
    job = ask(w, segment * count, segment)
    room = sum(size // segment for size in sizes)
    if room < count:
        with pytest.raises(HelixError):
            w.feasibility.check_possible(w.state, job.spec, ["main"])
        assert w.run() == []
        return
    w.feasibility.check_possible(w.state, job.spec, ["main"])
    assert w.run() == [job]
    by_block = Counter(w.state.topology.leaf_of[name] for name in w.where(job))
    assert sum(found // segment for found in by_block.values()) >= count


def test_hwhy_counts_the_segments_that_free_nodes_make() -> None:
    w = blocks(2, 2, 2)
    for name in ("n1", "n3"):
        w.submit(nodelist=name, exclusive=True, time_limit_s=HOUR)
    w.run()
    job = ask(w, 4, 2)
    assert w.run() == []
    asked = "--segment: 2 segments of 2 nodes in one block asked"
    assert w.why(job)["text"] == f"{asked}; the free nodes of the blocks have room for 1"
