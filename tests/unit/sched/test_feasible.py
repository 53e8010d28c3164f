"""Never is said at submit, with the node that comes closest."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.sched_world import World, node

from helix.errors import HelixError, LimitExceeded, Never, NotFound, UsageError
from helix.model import events as ev
from helix.model.job import JobRecord, JobSpec
from helix.model.partition import PartitionRecord
from helix.sched.options import SchedOptions
from helixctld.schedule.columns import Columns
from helixctld.schedule.feasible import check_possible


def world() -> World:
    records = [
        node("n1", 8, 1000, features=["cpu"]),
        node("n2", 4, 4000, features=["cpu", "gpu"], tmp_disk_mib=100),
        node("n3", 4, 500),
    ]
    main = PartitionRecord(name="main", nodes=["n1", "n2"], is_default=True, max_time_s=3600)
    side = PartitionRecord(name="side", nodes=["n3"], max_nodes=1)
    empty = PartitionRecord(name="empty")
    return World(records, partitions=[main, side, empty])


def never(w: World, *partitions: str, **fields: Any) -> str:
    with pytest.raises(HelixError) as caught:
        w.feasibility.check_possible(w.state, JobSpec(**fields), list(partitions or ["main"]))
    with pytest.raises(HelixError) as again:
        w.feasibility.check_possible(w.state, JobSpec(**fields), list(partitions or ["main"]))
    assert again.value.msg == caught.value.msg
    assert isinstance(caught.value, Never)
    return caught.value.msg


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"cpus_per_task": 16}, "no node of partition main has 16 CPUs; the largest, n1, has 8"),
        ({"mem_per_node_mib": 5000}, "no node of partition main has 4.883G of memory; the largest, n2, has 3.906G"),
        ({"nodes_min": 3, "nodes_max": 3}, "partition main has 2 nodes, 3 are asked"),
        ({"tasks": 13}, "all nodes of partition main together take 12 tasks of this request, 13 are asked"),
        ({"constraint": "fast"}, "the closest, n1, lacks feature fast"),
        ({"constraint": "gpu", "cpus_per_task": 8}, "no node of partition main can serve the request; the closest"),
        ({"cpus_per_task": 8, "mem_per_node_mib": 2000}, "the closest, n1, has 1000M of 1.953G memory"),
        ({"tmp_mib": 200}, "the closest, n2, has 100M of 200M temporary disk"),
        ({"nodelist": "n3"}, "node n3 is not in partition main"),
        (
            {"nodes_min": 2, "nodes_max": 2, "exclude": "n1"},
            "partition main has 1 node left (1 node excluded), 2 are asked",
        ),
        ({"exclude": "n[1-2]"}, "--exclude leaves no node of partition main"),
        ({"nodelist": "n1", "tmp_mib": 200}, "node n1 of --nodelist cannot serve the request: it has"),
        ({"tasks": 12, "nodes_min": 1, "nodes_max": 1}, "cannot serve the request on at most 1 node"),
    ],
)
def test_impossible_requests_name_what_comes_closest(fields: dict[str, Any], said: str) -> None:
    assert said in never(world(), **fields)


def test_possible_requests_pass_even_when_nothing_is_free_or_up() -> None:
    w = world()
    w.submit(cpus_per_task=8)
    w.run()
    for name in w.state.nodes:
        w.update_node(name, drain=True, reason="x")
    w.feasibility.check_possible(w.state, JobSpec(cpus_per_task=8), ["main"])
    w.feasibility.check_possible(w.state, JobSpec(tasks=12), ["main"])


def test_one_partition_that_can_is_enough() -> None:
    w = world()
    w.feasibility.check_possible(w.state, JobSpec(cpus_per_task=8), ["side", "main"])
    assert "has no nodes" in never(w, "empty")


def test_unknown_nodes_are_named() -> None:
    w = world()
    with pytest.raises(NotFound, match="no node 'n9'"):
        w.feasibility.check_possible(w.state, JobSpec(nodelist="n9"), ["main"])
    with pytest.raises(UsageError, match="'\\]' is missing"):
        w.feasibility.check_possible(w.state, JobSpec(constraint="[a"), ["main"])


@pytest.mark.parametrize("enforce", ["NO", "ANY", "ALL"])
def test_partition_limits_are_enforced_as_configured(enforce: str) -> None:
    w = world()
    w.cycle.set_options(SchedOptions(def_mem_per_cpu_mib=10, enforce_part_limits=enforce))
    check = w.feasibility.check_possible
    if enforce == "NO":
        check(w.state, JobSpec(time_limit_s=7200), ["main"])
        check(w.state, JobSpec(time_limit_s=60, nodes_min=2, nodes_max=2), ["side"])
        return
    with pytest.raises(LimitExceeded, match="allows 60 min, 120 min asked") as caught:
        check(w.state, JobSpec(time_limit_s=7200), ["main"])
    assert caught.value.code == "PARTITION_TIME_LIMIT"
    with pytest.raises(LimitExceeded) as caught:
        check(w.state, JobSpec(time_limit_s=60, nodes_min=2, nodes_max=2), ["side"])
    assert caught.value.code == "PARTITION_NODE_LIMIT"
    if enforce == "ANY":
        check(w.state, JobSpec(time_limit_s=7200), ["main", "side"])
    else:
        with pytest.raises(LimitExceeded):
            check(w.state, JobSpec(time_limit_s=7200), ["main", "side"])


def test_verdicts_follow_the_configuration() -> None:
    w = world()
    assert "lacks feature" in never(w, constraint="new")
    w.do(ev.NodeUpdated(t=1.0, node="n1", changes={"features": ["new"]}))
    w.feasibility.check_possible(w.state, JobSpec(constraint="new"), ["main"])


def test_asking_leaves_no_rows_behind_and_drains_nothing_for_others() -> None:
    w = world()
    w.run()
    rows = sum(w.cycle.columns.shapes._refs)
    never(w, cpus_per_task=16)
    assert sum(w.cycle.columns.shapes._refs) == rows
    w.submit()
    columns = Columns(w.options)
    columns.peek(w.state)
    with pytest.raises(Never):
        check_possible(w.state, JobSpec(cpus_per_task=16), ["main"], columns)
    assert len(w.run()) == 1


def record(**fields: Any) -> JobRecord:
    return JobRecord(job_id=0, uid=1, gid=1, spec=JobSpec(**fields))


def test_test_only_tells_where_and_whether_now() -> None:
    w = world()
    now = w.feasibility.test_only(w.state, record(nodes_min=2, nodes_max=2), 0.0)
    assert (now["now"], now["nodes"], now["cpus"], now["partition"]) == (True, "n[1-2]", 2, "main")
    big = w.submit(cpus_per_task=8)
    w.run()
    later = w.feasibility.test_only(w.state, record(cpus_per_task=8), w.now)
    assert (later["now"], later["nodes"], later["reason"]) == (False, "n1", "Resources")
    assert later["t_start"] == w.now + big.time_limit_s
    w.submit(cpus_per_task=8)
    w.run()
    behind = w.feasibility.test_only(w.state, record(), 0.0)
    assert (behind["now"], behind["reason"]) == (False, "Priority")
    assert "1 job in partition main" in behind["msg"]
    w.end(big)
    assert w.feasibility.test_only(w.state, record(time_limit_s=7200), 0.0)["reason"] == "PartitionTimeLimit"
    assert len(w.state.jobs) == 2
