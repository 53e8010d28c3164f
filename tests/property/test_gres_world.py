"""Devices, licences and switches under random histories: nothing is given twice, what waits waits for a cause."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.sched_world import World, node
from hypothesis import given, settings
from hypothesis import strategies as st

from helix.gres import count_of, layout_of, mask_of
from helix.model.codec import to_msgpack
from helix.model.job import JobRecord
from helix.model.job_state import JobState
from helix.model.topology import topology_of
from helix.sched.gres import needs_of
from helix.sched.options import SchedOptions
from helix_plugins.sched.backfill import Backfill
from helix_plugins.sched.fifo import Fifo
from helixctld.core.licences import licences_used

DEVICES = ("", "gpu:4", "gpu:a100:2,gpu:v100:2", "gpu:1,nvme:2", "nvme:1", "gpu:a100:4,shard:8")
LICENCES = {"matlab": 3, "ansys": 1}
HOUR = 3600

requests = st.fixed_dictionaries(
    {"time_limit_s": st.sampled_from([60, HOUR, 24 * HOUR])},
    optional={
        "gres": st.sampled_from(
            ["gpu:1", "gpu:2", "gpu:3", "gpu:a100:1", "gpu:v100:2,gpu:1", "nvme:1", "gpu:1,nvme:1"]
        ),
        "licenses": st.sampled_from(["matlab:1", "matlab:2", "ansys:1", "matlab:1,ansys:1"]),
        "nodes_min": st.integers(1, 3),
        "cpus_per_task": st.integers(1, 3),
        "exclusive": st.booleans(),
        "switches": st.integers(1, 2),
        "array": st.integers(1, 3),
    },
)
moves = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), requests),
        st.tuples(st.just("run"), st.integers(1, 200)),
        st.tuples(st.just("end"), st.integers(0, 30)),
        st.tuples(st.just("licences"), st.integers(0, 4)),
        st.tuples(st.just("devices"), st.integers(0, 5)),
    ),
    max_size=30,
)


def check(world: World, started: list[JobRecord]) -> None:
    """What the invariants do not say: starts have what was asked, and no pool is exceeded by them."""
    for job in started:
        alloc = job.alloc
        assert alloc is not None
        wanted = dict(needs_of(job.spec).units)
        for place, name in enumerate(alloc.nodes):
            given = alloc.gres[place] if alloc.gres else {}
            layout = layout_of(world.state.nodes[name].gres)
            got: dict[str, int] = {}
            for kind, indexes in given.items():
                base = kind.partition(":")[0]
                assert mask_of(indexes) & ~layout.full(base) == 0, "a device that the node does not have"
                got[base] = got.get(base, 0) + count_of(indexes)
                if kind != base:
                    got[kind] = count_of(indexes)
            if alloc.whole:
                assert got == {kind: units for kind, units in layout.units.items() if units}
            else:
                assert all(got.get(kind, 0) >= units for kind, units in wanted.items()), (wanted, given)
                assert {kind for kind in got if ":" not in kind} == {kind for kind in wanted if ":" not in kind}
    used = licences_used(world.state)
    for job in started:
        for name, _ in (item.split(":") for item in job.spec.licenses.split(",") if item):
            assert used[name] <= world.state.licences[name], f"{name} overcommitted by job {job.job_id}"


@pytest.mark.parametrize("planner", [Backfill(), Fifo()], ids=["backfill", "fifo"])
@given(texts=st.lists(st.sampled_from(DEVICES), min_size=1, max_size=5), history=moves)
@settings(max_examples=60, deadline=None)
def test_nothing_is_given_twice(planner: Any, texts: list[str], history: list[tuple[str, Any]]) -> None:
    options = SchedOptions(def_mem_per_cpu_mib=10, has_topology=True, keep_near=True, max_switch_wait_s=100)
    records = [node(f"n{i + 1}", 4, gres=text) for i, text in enumerate(texts)]
    world = World(records, options=options, planner=planner)
    world.state.set_licences(dict(LICENCES))
    names = tuple(world.state.node_names)
    lines = [(f"s{i}", names[2 * i : 2 * i + 2], ()) for i in range((len(names) + 1) // 2)]
    world.state.set_topology(topology_of("tree", lines))
    running: list[JobRecord] = []
    for move, value in history:
        if move == "submit":
            fields = dict(value)
            if "nodes_min" in fields:
                fields["nodes_max"] = fields["nodes_min"]
            world.submit(**fields)
        elif move == "run":
            world.now += value
            started = world.run()
            check(world, started)
            running += started
        elif move == "end" and running:
            world.end(running.pop(value % len(running)))
        elif move == "licences":
            world.state.set_licences({"matlab": value, "ansys": 1})
        elif move == "devices":  # a reconfiguration; jobs keep what they have
            texts = [*texts[1:], DEVICES[value]]
            world.state.set_nodes([node(f"n{i + 1}", 4, gres=text) for i, text in enumerate(texts)])
    world.state.set_nodes([node(f"n{i + 1}", 4, gres=text) for i, text in enumerate(texts)])
    for job in running:
        world.end(job)
    for record in world.state.nodes.values():
        assert world.state.gres.free_units(record) == layout_of(record.gres).units
    assert licences_used(world.state) == {}


@given(history=st.lists(requests, min_size=1, max_size=12))
@settings(max_examples=30, deadline=None)
def test_the_same_requests_get_the_same_devices(history: list[dict[str, Any]]) -> None:
    def play() -> list[tuple[int, bytes]]:
        world = World([node("n1", 4, gres=DEVICES[2]), node("n2", 4, gres=DEVICES[1])], planner=Backfill())
        world.state.set_licences(dict(LICENCES))
        for fields in history:
            world.submit(**fields)
        return [(job.job_id, to_msgpack(job.alloc)) for job in world.run()]

    assert play() == play()


@given(history=st.lists(st.sampled_from(["gpu:1", "gpu:2", "nvme:1"]), min_size=1, max_size=8))
@settings(max_examples=30, deadline=None)
def test_a_job_waits_only_when_too_few_devices_are_free(history: list[str]) -> None:
    world = World([node("n1", 16, gres="gpu:4,nvme:2")], planner=Backfill())
    jobs = [world.submit(gres=text, time_limit_s=HOUR) for text in history]
    world.run()
    free = world.state.gres.free_units(world.state.nodes["n1"])
    for job in jobs:
        if job.state is JobState.PENDING:
            assert any(free[kind] < units for kind, units in needs_of(job.spec).units), (job.spec.gres, free)
