"""GRES counts, licences and topology through submit, pass, commit and end."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.sched_world import World, node

from helix.errors import HelixError, UsageError
from helix.gres import format_items, indexes_of, layout_of, mask_of, own_units, parse_gres, units_of
from helix.model.codec import msgpack_decoder, to_msgpack
from helix.model.job import JobSpec
from helix.model.job_state import JobState, Reason
from helix.model.topology import topology_of
from helix.sched.gres import needs_of, pick_devices
from helix.sched.options import SchedOptions
from helix.wire.methods import JobFilter
from helix_plugins.sched.backfill import Backfill
from helixctld.core.licences import licence_rows
from helixctld.core.select_jobs import select
from helixctld.core.state import State
from helixctld.core.state_save import Persistent
from helixctld.core.submit import require_devices

HOUR = 3600


def world(gres: str | list[str], cpus: int = 8, **fields: Any) -> World:
    """A node for each text, planned by sched/backfill."""
    texts = [gres] if isinstance(gres, str) else gres
    nodes = [node(f"n{i + 1}", cpus, gres=text) for i, text in enumerate(texts)]
    return World(nodes, planner=Backfill(), **fields)


def devices(job: Any) -> list[dict[str, str]]:
    assert job.alloc is not None
    return list(job.alloc.gres)


def test_two_jobs_share_gpus_by_number_and_a_third_waits() -> None:
    w = world("gpu:4")
    one, two, three = (w.submit(gres="gpu:2", time_limit_s=HOUR) for _ in range(3))
    assert w.run() == [one, two]
    assert [devices(one), devices(two)] == [[{"gpu": "0-1"}], [{"gpu": "2-3"}]]
    assert (w.reason(three), three.reason_text) == (Reason.RESOURCES, "1 node of main wanted; too few free gpu on 1")
    w.end(one)
    assert w.run() == [three]
    assert devices(three) == [{"gpu": "0-1"}]


def test_types_count_for_the_name_too() -> None:
    w = world("gpu:a100:2,gpu:v100:2")
    typed = w.submit(gres="gpu:v100:2", time_limit_s=HOUR)
    assert w.run() == [typed]
    assert devices(typed) == [{"gpu:v100": "2-3"}]
    three = w.submit(gres="gpu:3", time_limit_s=HOUR)
    assert w.run() == []
    any_two = w.submit(gpus_per_node="2", time_limit_s=60)
    assert any_two in w.run()
    assert devices(any_two) == [{"gpu:a100": "0-1"}]
    assert w.reason(three) is Reason.RESOURCES


def test_a_job_without_gres_is_not_held_back_by_devices() -> None:
    w = world("gpu:1")
    w.submit(gres="gpu:1", time_limit_s=HOUR)
    waits = w.submit(gres="gpu:1", time_limit_s=HOUR)
    plain = w.submit(time_limit_s=60)
    assert plain in w.run()
    assert waits.state is JobState.PENDING


def test_whole_nodes_come_with_all_their_devices() -> None:
    w = world("gpu:a100:2,nvme:1")
    whole = w.submit(exclusive=True, gres="gpu:1", time_limit_s=HOUR)
    assert w.run() == [whole]
    assert devices(whole) == [{"gpu:a100": "0-1", "nvme": "0"}]


def test_devices_on_several_nodes() -> None:
    w = world(["gpu:2", "gpu:4", "gpu:4"])
    job = w.submit(nodes_min=2, nodes_max=2, gres="gpu:3", time_limit_s=HOUR)
    assert w.run() == [job]
    assert w.where(job) == ["n2", "n3"]
    assert devices(job) == [{"gpu": "0-2"}, {"gpu": "0-2"}]


def test_best_fit_leaves_large_nodes_whole() -> None:
    w = world(["gpu:4", "gpu:1"])
    job = w.submit(gres="gpu:1", time_limit_s=HOUR)
    assert w.run() == [job]
    assert w.where(job) == ["n2"]


@pytest.mark.parametrize(
    ("fields", "units", "nodes", "tasks"),
    [
        ({"gpus": "4"}, {"gpu": 4}, 1, 0),
        ({"gpus": "a100:4", "nodes_min": 2, "nodes_max": 2}, {"gpu": 2, "gpu:a100": 2}, 2, 0),
        ({"gpus_per_task": "2", "tasks_per_node": 3}, {"gpu": 6}, 0, 3),
        ({"gpus_per_task": "1", "tasks": 4, "nodes_min": 2, "nodes_max": 2}, {"gpu": 2}, 2, 2),
        ({"gpus_per_task": "2"}, {"gpu": 2}, 1, 1),
        ({"gpus_per_socket": "2", "sockets_per_node": 2}, {"gpu": 4}, 0, 0),
        ({"gres": "gpu:1,shard:8"}, {"gpu": 1, "shard": 8}, 0, 0),
        ({"gres": "none"}, {}, 0, 0),
    ],
)
def test_what_options_come_to(fields: dict[str, Any], units: dict[str, int], nodes: int, tasks: int) -> None:
    needs = needs_of(JobSpec(**fields))
    assert dict(needs.units) == units
    if units:
        assert (needs.nodes, needs.tasks_per_node) == (nodes, tasks)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"gpus": "4", "nodes_min": 2}, "--gpus: needs a fixed number of nodes"),
        ({"gpus": "3", "nodes_min": 2, "nodes_max": 2}, "not shared evenly over 2 nodes"),
        ({"gpus_per_task": "1", "tasks": 5}, "--gpus-per-task: needs to know the tasks on each node"),
        ({"gpus_per_socket": "1"}, "--gpus-per-socket: needs to know the sockets"),
        ({"gres": "gpu:a:b:2"}, "more than name, type and count"),
        ({"gres": "gpu:no_consume:2"}, "no_consume is not served"),
        ({"gres": "gpu:99999999"}, "more than the 65536"),
        ({"gpus": "x:y"}, "is not [type:]count"),
    ],
)
def test_what_cannot_be_served_is_refused_by_name(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=r".*") as caught:
        needs_of(JobSpec(**fields))
    assert words in caught.value.msg
    assert caught.value.hint


def test_a_kind_that_no_node_has_is_refused_with_the_nearest() -> None:
    w = world("gpu:a100:2")
    with pytest.raises(HelixError) as caught:
        require_devices(w.state, JobSpec(gres="gpu:a10:1"))
    assert (caught.value.code, caught.value.msg) == ("GRES_UNKNOWN", "no node has gpu:a10")
    assert "gpu:a100" in caught.value.hint


def test_more_devices_than_any_node_has_is_never() -> None:
    w = world(["gpu:2", "gpu:4"])
    w.feasibility.check_possible(w.state, JobSpec(gres="gpu:4"), ["main"])
    with pytest.raises(HelixError) as caught:
        w.feasibility.check_possible(w.state, JobSpec(gres="gpu:5"), ["main"])
    assert caught.value.code == "NODES_NEVER"
    assert "4 of 5 gpu" in caught.value.msg
    with pytest.raises(HelixError) as caught:
        w.feasibility.check_possible(w.state, JobSpec(nodes_min=2, nodes_max=2, gres="gpu:3"), ["main"])
    assert caught.value.code == "NODES_NEVER"


def test_why_counts_the_nodes_without_free_devices() -> None:
    w = world(["gpu:2", "gpu:2", ""])
    w.submit(nodes_min=2, nodes_max=2, gres="gpu:2", time_limit_s=HOUR)
    w.run()
    waits = w.submit(gres="gpu:1", time_limit_s=HOUR)
    w.run()
    told = w.why(waits)
    counts = {count["reason"]: (count["nodes"], count["text"]) for count in told["counts"]}
    assert counts["gres"] == (2, "too few free gpu")
    assert counts["too_few_gres"] == (1, "fewer gpu than asked even when empty")
    assert "has 0 of 1 gpu" in told["nearest"]["lacks"]


def test_advice_names_the_count_that_fits() -> None:
    w = world("gpu:a100:4")
    w.submit(gres="gpu:3", time_limit_s=HOUR)
    w.run()
    assert "with --gres=gpu:1 it would start now" in w.why(w.submit(gres="gpu:2"))["advice"]
    assert "with --gpus-per-node=a100:1 it would start now" in w.why(w.submit(gpus_per_node="a100:3"))["advice"]


def test_a_configuration_with_fewer_devices_takes_them_when_they_come_free() -> None:
    w = world("gpu:4")
    job = w.submit(gres="gpu:4", time_limit_s=HOUR)
    w.run()
    w.state.set_nodes([node("n1", 8, gres="gpu:2")])
    assert w.state.gres.free_units(w.state.nodes["n1"]) == {"gpu": 0}
    w.end(job)
    assert w.state.gres.free_units(w.state.nodes["n1"]) == {"gpu": 2}


def test_a_restart_finds_the_same_devices_free() -> None:
    w = world("gpu:a100:2,gpu:v100:2")
    w.submit(gres="gpu:v100:1", time_limit_s=HOUR)
    w.submit(gres="gpu:2", time_limit_s=HOUR)
    w.run()
    state = State("test")
    state.thaw(msgpack_decoder(Persistent).decode(to_msgpack(w.state.freeze())))
    state.set_nodes([node("n1", 8, gres="gpu:a100:2,gpu:v100:2")])
    assert state.gres == w.state.gres
    assert state.gres.free_units(state.nodes["n1"]) == {"gpu": 1, "gpu:a100": 0, "gpu:v100": 1}


def test_jobs_are_selected_by_licence() -> None:
    w = World(2, planner=Backfill())
    w.state.set_licences({"matlab": 3, "ansys": 1})
    one = w.submit(licenses="matlab:2")
    w.submit(licenses="ansys:1")
    w.submit()
    assert list(select(w.state, JobFilter(licenses=["matlab", "other"]))) == [one]


def test_cpus_and_memory_for_each_gpu() -> None:
    w = world("gpu:4")
    job = w.submit(gres="gpu:2", cpus_per_gpu=3, mem_per_gpu_mib=100, time_limit_s=HOUR)
    assert w.run() == [job]
    assert job.alloc is not None
    assert (job.alloc.cpus, job.alloc.mem_mib) == ([6], [200])


def test_the_site_says_how_many_cpus_and_how_much_memory_go_with_a_gpu() -> None:
    w = world("gpu:4", options=SchedOptions(def_mem_per_cpu_mib=10, def_cpu_per_gpu=2, def_mem_per_gpu_mib=70))
    plain, own = w.submit(gres="gpu:1"), w.submit(gres="gpu:2", mem_per_node_mib=5, cpus_per_gpu=1)
    none = w.submit()
    assert w.run() == [plain, own, none]
    assert [(job.alloc.cpus, job.alloc.mem_mib) for job in (plain, own, none) if job.alloc] == [
        ([2], [70]),
        ([2], [5]),
        ([1], [10]),
    ]


# ---- licences


def test_licences_keep_a_job_waiting_and_nobody_else() -> None:
    w = World(2, planner=Backfill())
    w.state.set_licences({"matlab": 3})
    one = w.submit(licenses="matlab:2", time_limit_s=HOUR)
    two = w.submit(licenses="matlab:2", time_limit_s=HOUR)
    plain = w.submit(nodes_min=1, time_limit_s=HOUR)
    assert w.run() == [one, plain]
    assert w.reason(two) is Reason.LICENSES
    assert two.reason_text == "too few licences matlab are free, of 3"
    assert licence_rows(w.state) == [{"name": "matlab", "total": 3, "used": 2, "free": 1, "reserved": 0}]
    w.end(one)
    assert w.run() == [two]


def test_fewer_licences_than_are_in_use() -> None:
    w = World(2, planner=Backfill())
    w.state.set_licences({"matlab": 2})
    one = w.submit(licenses="matlab:2", time_limit_s=HOUR)
    two = w.submit(licenses="matlab:1", time_limit_s=HOUR)
    w.run()
    w.state.set_licences({"matlab": 1})
    assert w.run() == []
    w.end(one)
    assert w.run() == [two]


# ---- topology


def topological(sizes: list[int], cpus: int = 4, **fields: Any) -> World:
    """Leaf switches with so many nodes each."""
    names = iter(f"n{i + 1}" for i in range(sum(sizes)))
    lines = [(f"s{i + 1}", tuple(next(names) for _ in range(size)), ()) for i, size in enumerate(sizes)]
    options = SchedOptions(def_mem_per_cpu_mib=10, has_topology=True, keep_near=True, **fields)
    w = World(sum(sizes), cpus, planner=Backfill(), options=options)
    top = ("top", (), tuple(name for name, _, _ in lines))
    w.state.set_topology(topology_of("tree", [*lines, top]))
    return w


def test_a_job_goes_to_the_fullest_switch_that_has_room() -> None:
    w = topological([4, 2, 3])
    job = w.submit(nodes_min=2, nodes_max=2, exclusive=True, time_limit_s=HOUR)
    assert w.run() == [job]
    assert w.where(job) == ["n5", "n6"]
    large = w.submit(nodes_min=5, nodes_max=5, exclusive=True, time_limit_s=HOUR)
    assert w.run() == [large]
    leaves = {w.state.topology.leaf_of[name] for name in w.where(large)}
    assert len(leaves) == 2


def test_switches_are_waited_for_and_then_given_up() -> None:
    w = topological([2, 2], max_switch_wait_s=100)
    for name in ("n1", "n3"):
        w.submit(nodelist=name, exclusive=True, time_limit_s=HOUR)
    w.run()
    job = w.submit(nodes_min=2, nodes_max=2, exclusive=True, switches=1, time_limit_s=HOUR)
    assert w.run() == []
    assert w.reason(job) is Reason.RESOURCES
    assert w.why(job)["text"] == "2 nodes could take part now, but at most 1 of them below 1 switch, and 2 are asked"
    w.now += 101
    assert w.run() == [job]
    assert w.where(job) == ["n2", "n4"]


@pytest.mark.parametrize("full", [True, False])
def test_a_pass_is_due_when_a_wait_for_switches_ends(full: bool) -> None:
    w = topological([2, 2], max_switch_wait_s=100)
    for name in ("n1", "n3"):
        w.submit(nodelist=name, exclusive=True, time_limit_s=HOUR)
    w.run()
    job = w.submit(nodes_min=2, nodes_max=2, exclusive=True, switches=1, switch_wait_s=20, time_limit_s=HOUR)
    assert w.run() == []
    w.now += 5
    w.cycle.run_inline(w.state, w.now, full=full)
    assert w.cycle.due_in() == pytest.approx(15)
    w.ticks += 15
    w.now += 15
    assert w.cycle.due()
    assert w.begin(w.cycle.run_inline(w.state, w.now, full=full)[0]) == [job]


def test_a_job_of_one_node_goes_to_the_best_node_of_any_switch() -> None:
    w = topological([2, 3])
    w.submit(nodelist="n4", cpus_per_task=2, time_limit_s=HOUR)
    w.run()
    fitting = w.submit(cpus_per_task=2, time_limit_s=HOUR)
    ranked = w.submit(rank="if(name == 'n3', 1, 0)", tasks=1, switches=1, time_limit_s=HOUR)
    assert w.run() == [fitting, ranked]
    assert [w.where(fitting), w.where(ranked)] == [["n4"], ["n3"]]


def test_addresses_in_the_tree() -> None:
    topology = topology_of("tree", [("s1", ("n1",), ()), ("s2", ("n2",), ()), ("top", (), ("s1", "s2"))])
    assert topology.address("n2") == ("top.s2.n2", "switch.switch.node")
    assert [(s.name, s.level, s.nodes) for s in topology.switches] == [
        ("s1", 0, ("n1",)),
        ("s2", 0, ("n2",)),
        ("top", 1, ("n1", "n2")),
    ]


# ---- counts of sockets, cores and threads


def test_nodes_with_enough_sockets_cores_and_threads() -> None:
    nodes = [
        node("n1", 8, sockets=1, cores_per_socket=8),
        node("n2", 8, sockets=2, cores_per_socket=4),
        node("n3", 8, sockets=2, cores_per_socket=2, threads_per_core=2),
    ]
    w = World(nodes, planner=Backfill())
    for fields, where in (
        ({"sockets_per_node": 2, "cores_per_socket": 4}, "n2"),
        ({"threads_per_core": 2}, "n3"),
        ({"cores_per_socket": 8}, "n1"),
    ):
        job = w.submit(time_limit_s=HOUR, **fields)
        assert w.run() == [job]
        assert w.where(job) == [where]


def test_one_thread_of_each_core() -> None:
    w = World([node("n1", 8, sockets=1, cores_per_socket=4, threads_per_core=2)], planner=Backfill())
    job = w.submit(tasks=3, threads_per_core=1, time_limit_s=HOUR)
    assert w.run() == [job]
    assert job.alloc is not None
    assert job.alloc.cpus == [6]


def test_least_cpus_on_each_node() -> None:
    w = World(2, planner=Backfill())
    job = w.submit(cpus_min=3, time_limit_s=HOUR)
    assert w.run() == [job]
    assert job.alloc is not None
    assert job.alloc.cpus == [3]


# ---- texts


def test_texts_of_gres() -> None:
    items = parse_gres("gpu:a100:2,gpu:v100(S:0-1),nvme:1K,gres/shard=8")
    assert items == [("gpu", "a100", 2), ("gpu", "v100", 1), ("nvme", "", 1024), ("shard", "", 8)]
    assert units_of(items)["gpu"] == 3
    assert own_units(units_of(items)) == {"gpu:a100": 2, "gpu:v100": 1, "nvme": 1024, "shard": 8}
    assert parse_gres(format_items(items)) == items
    assert layout_of("gpu:a100:2,gpu:v100:2").names == {"gpu": [("gpu:a100", 0, 2), ("gpu:v100", 2, 2)]}
    assert mask_of("0-1,3") == 0b1011
    assert indexes_of(0b1011) == "0-1,3"


def test_typed_devices_are_picked_before_any() -> None:
    layout = layout_of("gpu:a100:2,gpu:v100:2")
    assert pick_devices(layout, {"gpu": 0b1111}, {"gpu": 3, "gpu:a100": 2}) == {"gpu:a100": "0-1", "gpu:v100": "2"}
    assert pick_devices(layout, {"gpu": 0b1101}, {"gpu": 2, "gpu:a100": 2}) == "gpu:a100"
    assert pick_devices(layout, {"gpu": 0b1001}, {"gpu": 3}) == "gpu"
