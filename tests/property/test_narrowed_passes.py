"""Random histories with passes that leave out what cannot start: at the end nobody waits who could start.

What passes leave out by is active at any queue here: what changed since the last (`since.py`), requests that do not fit
(`fitting.py`) and entries that are alike (`alike.py`).  The pass at the end looks at everything, from fresh columns.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from helpers.sched_world import World, node
from hypothesis import given, settings
from hypothesis import strategies as st

from helix.model import events as ev
from helix.model.job_state import JobState
from helix.model.node import NodeRecord
from helix.model.partition import PartitionRecord
from helix.model.reservation import ReservationRecord, Share
from helix.model.topology import topology_of
from helix.sched import alike, fitting, one_row
from helix.sched.options import SchedOptions
from helix_plugins.sched.backfill import Backfill

FEATURES = [[], ["a"], ["b"], ["a", "b"]]
NEVER_LONG = 10**9


def _world(rng: random.Random) -> World:
    nodes: list[NodeRecord] = []
    for i in range(rng.randint(2, 6)):
        gres = rng.choice(["", "gpu:2"])
        nodes.append(node(f"n{i + 1}", 8, 400, sockets=2, cores_per_socket=4, features=rng.choice(FEATURES), gres=gres))
    names = [record.name for record in nodes]
    side = rng.sample(names, rng.randint(1, len(names)))
    parts = [
        PartitionRecord(name="main", nodes=names, is_default=True),
        PartitionRecord(
            name="side", nodes=side, priority_tier=rng.choice([1, 3]), max_cpus_per_node=rng.choice([0, 4])
        ),
    ]
    with_switches = rng.random() < 0.3
    options = SchedOptions(
        def_mem_per_cpu_mib=10,
        bf_mode=rng.choice(["default", "easy", "easy-sjbf"]),
        bf_protected=rng.choice([0, 1, 1, 3]),
        has_topology=with_switches,
        keep_near=with_switches,
        max_switch_wait_s=300,
    )
    world = World(nodes, partitions=parts, options=options, planner=Backfill())
    if with_switches:
        half = len(names) // 2
        leaves = [("s1", tuple(names[:half]), ()), ("s2", tuple(names[half:]), ())]
        world.state.set_topology(topology_of("tree", [*leaves, ("top", (), ("s1", "s2"))]))
    world.state.set_licences({"x": 2})
    return world


def _request(rng: random.Random, names: list[str]) -> dict[str, Any]:
    lo = rng.choice([1, 1, 1, 2, 3])
    found: dict[str, Any] = {
        "cpus_per_task": rng.choice([1, 1, 2, 3, 8]),
        "nodes_min": lo,
        "nodes_max": lo,
        "time_limit_s": rng.choice([100, 600, 600, 7200]),
        "partitions": rng.choice([["main"], ["main"], ["side"], ["side", "main"]]),
    }
    match rng.randint(0, 14):
        case 0 | 1:
            found["constraint"] = rng.choice(["a", "b", "a&b", "[a|b]", "!a"])
        case 2:
            found["nodelist"] = rng.choice(names)
        case 3:
            found["exclusive"] = True
        case 4 | 5:
            found["licenses"] = "x"
        case 6:
            found["gres"] = "gpu:1"
        case 7:
            found["array"], found["array_limit"] = rng.randint(2, 6), rng.choice([0, 2])
        case 8:
            found["time_min_s"] = 60
        case 9:
            found["switches"] = 1
        case 10:
            found["tasks"], found["tasks_per_socket"] = 2, 1
        case 11:
            found["prefer"] = rng.choice(["a", "b"])
        case 12:
            found["mem_per_node_mib"] = 300
    return found


def _step(world: World, rng: random.Random) -> None:
    """One thing that happens."""
    state = world.state
    names, active = list(state.nodes), sorted(state.active)
    waiting = sorted(job.job_id for job in state.jobs.values() if job.is_waiting)
    match rng.randint(0, 17):
        case 0 | 1 | 2 | 3 | 4:
            world.submit(**_request(rng, names))
        case 5 | 6 | 7 if active:
            world.end(state.jobs[rng.choice(active)], rng.choice([JobState.COMPLETED, JobState.PENDING]))
        case 8 if waiting:
            job = state.jobs[rng.choice(waiting)]
            if not job.is_array:
                world.end(job, JobState.CANCELLED)
        case 9 if waiting:
            world.do(ev.JobHeld(t=world.now, job_id=rng.choice(waiting)))
        case 10 | 11 if waiting:
            world.do(ev.JobReleased(t=world.now, job_id=rng.choice(waiting)))
        case 12:
            world.update_node(rng.choice(names), drain=rng.random() < 0.4, reason="x")
        case 13:
            world.update_node(rng.choice(names), changes={"features": rng.choice(FEATURES)})
        case 14:
            changes = rng.choice([{"state": "DOWN"}, {"state": "UP"}, {"max_cpus_per_node": 0}, {"priority_tier": 2}])
            world.do(ev.PartitionUpdated(t=world.now, name="side", changes=changes))
        case 15:
            world.state.set_licences({"x": rng.randint(0, 3)})
        case 16:
            world.now += rng.choice([1, 50, 400])
        case 17 if world.state.reservations:
            world.do(ev.ReservationDeleted(t=world.now, name="r"))
        case 17 if rng.random() < 0.3:
            start = world.now + rng.choice([0, 500])
            r = ReservationRecord(
                name="r", t_start=start, t_end=start + 300, shares={rng.choice(names): Share()}, users=["root"]
            )
            world.do(ev.ReservationCreated(t=world.now, reservation=r))


def _quick(world: World) -> int:
    """A quick pass; how many started."""
    world.ticks += 1.0
    accepted, reasons = world.cycle.run_inline(world.state, world.now, full=False)
    world.begin(accepted)
    for job_id, reason, text in reasons:
        world.state.jobs[job_id].reason, world.state.jobs[job_id].reason_text = reason, text
    return len(accepted)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32))
def test_nobody_waits_who_could_start(seed: int) -> None:
    rng = random.Random(seed)
    with pytest.MonkeyPatch.context() as patch:
        for module in (alike, fitting, one_row):
            patch.setattr(module, "FEW", 0)
        for module in (alike, one_row):
            patch.setattr(module, "ENOUGH", rng.choice([1, 2]))
        patch.setattr(fitting, "HEADS", rng.choice([0, 1]))
        patch.setattr(fitting, "EACH", 1)
        world = _world(rng)
        for _ in range(12):
            world.submit(**_request(rng, list(world.state.nodes)))
        for _ in range(40):
            _step(world, rng)
            if rng.random() < 0.6:
                _quick(world)
        for _ in range(200):
            if not _quick(world):
                break
        for module in (alike, fitting, one_row):
            patch.setattr(module, "FEW", NEVER_LONG)
        world.cycle._past = None
        world.ticks += 1.0
        snapshot = world.cycle.prepare(world.state, world.now, full=False)
        plan = world.cycle.plan(snapshot)
        accepted, _ = world.cycle.commit(plan, world.state, world.now)
        assert [start.job_id for start in accepted] == []
