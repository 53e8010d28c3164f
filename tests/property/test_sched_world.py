"""Random clusters and queues through the whole path: columns, plan, verify, commit, apply.

`State.take` refuses anything owned twice and `invariants.check` runs after every event, so a run that ends has
never overcommitted; what is asserted here is order, completeness, determinism and that columns equal a fresh copy.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from helpers.sched_world import World, node
from hypothesis import given, settings
from hypothesis import strategies as st

from helix.model import events as ev
from helix.model.job_state import JobState, Reason
from helix.model.partition import PartitionRecord
from helix.sched.snapshot import Snapshot
from helixctld.schedule.columns import Columns

SEEDS = st.integers(0, 2**32)


def random_world(rng: random.Random) -> World:
    count = rng.randint(1, 5)
    records = []
    for i in range(count):
        cores, threads = rng.choice([1, 2, 4]), rng.choice([1, 1, 2])
        records.append(
            node(
                f"n{i}", 2 * cores * threads, rng.choice([50, 100, 1000]), sockets=2, cores_per_socket=cores,
                threads_per_core=threads, weight=rng.choice([1, 1, 2]), features=rng.choice([[], ["a"], ["a", "b"]]),
            )
        )  # fmt: skip
    names = [r.name for r in records]
    main = PartitionRecord(name="main", nodes=names, is_default=True)
    some = rng.sample(names, rng.randint(1, count))
    side = PartitionRecord(
        name="side", nodes=some, priority_tier=rng.choice([1, 3]), max_cpus_per_node=rng.choice([0, 2]),
        lln=rng.random() < 0.2, max_time_s=rng.choice([0, 100]),
    )  # fmt: skip
    return World(records, partitions=[main, side])


def random_request(rng: random.Random, names: list[str]) -> dict[str, Any]:
    fields: dict[str, Any] = {"cpus_per_task": rng.choice([1, 1, 2, 3]), "time_limit_s": rng.choice([50, 200])}
    if rng.random() < 0.4:
        fields["nodes_min"] = rng.randint(1, 3)
        fields["nodes_max"] = fields["nodes_min"] + rng.choice([0, 0, 1])
    if rng.random() < 0.4:
        fields["tasks"] = rng.randint(1, 6)
    if rng.random() < 0.3:
        fields["mem_per_node_mib"] = rng.choice([5, 60])
    if rng.random() < 0.1:
        fields["mem_all"] = True
    if rng.random() < 0.2:
        fields["exclusive"] = True
    if rng.random() < 0.2:
        fields["constraint"] = rng.choice(["a", "b", "!a", "a&b|b"])
    if rng.random() < 0.15:
        fields["nodelist"] = rng.choice(names)
    elif rng.random() < 0.15:
        fields["exclude"] = rng.choice(names)
    if rng.random() < 0.4:
        fields["partitions"] = rng.choice([["side"], ["side", "main"], ["main", "side"]])
    if rng.random() < 0.3:
        fields["array"] = rng.randint(1, 12)
        fields["array_limit"] = rng.choice([0, 0, 2])
    if rng.random() < 0.2:
        fields["nice"] = rng.randint(-3, 3)
    return fields


def same(a: Snapshot, b: Snapshot) -> None:
    """Two snapshots stand for the same cluster and queue, whatever rows they use for it."""
    for name in a.nodes._fields:
        assert np.array_equal(getattr(a.nodes, name), getattr(b.nodes, name)), name
    assert np.array_equal(a.tables.room, b.tables.room)
    assert a.partitions == b.partitions

    def queue(s: Snapshot) -> list[Any]:
        rows = []
        for shape, job, limit in zip(s.queue.shape, s.queue.job, s.queue.limit_s, strict=True):
            columns = [getattr(s.shapes, n)[shape] for n in s.shapes._fields if n not in ("elig", "must_at")]
            must = s.tables.must[s.shapes.must_at[shape] :][: s.shapes.must_n[shape]].tolist()
            elig = s.tables.elig[s.shapes.elig[shape]].tolist()
            rows.append((int(s.job_id[job]), int(s.queue.starts[job]), int(limit), *map(int, columns), must, elig))
        return rows

    assert queue(a) == queue(b)


def step(world: World, rng: random.Random) -> None:
    """One random event."""
    names = list(world.state.nodes)
    active = sorted(world.state.active)
    waiting = sorted(j.job_id for j in world.state.jobs.values() if j.is_waiting)
    match rng.randint(0, 9):
        case 0 | 1 | 2 | 3:
            world.submit(**random_request(rng, names))
        case 4 | 5 if active:
            end = rng.choice([JobState.COMPLETED, JobState.PENDING])
            world.end(world.state.jobs[rng.choice(active)], end)
        case 6 if waiting:
            world.do(ev.JobHeld(t=world.now, job_id=rng.choice(waiting)))
        case 7 if waiting:
            world.do(ev.JobReleased(t=world.now, job_id=rng.choice(waiting)))
        case 8:
            world.update_node(rng.choice(names), drain=rng.random() < 0.4, reason="x")
        case 9:
            changes = rng.choice([{"state": "DOWN"}, {"state": "UP"}, {"max_time_s": 0}, {"priority_tier": 2}])
            world.do(ev.PartitionUpdated(t=world.now, name="side", changes=changes))


@settings(max_examples=120, deadline=None)
@given(SEEDS)
def test_columns_kept_incrementally_equal_columns_made_afresh(seed: int) -> None:
    rng = random.Random(seed)
    world = random_world(rng)
    for _ in range(25):
        step(world, rng)
        if rng.random() < 0.5:
            world.run()
    world.cycle.columns.update(world.state)
    fresh = Columns(world.options)
    fresh.update(world.state)
    same(world.cycle.columns.freeze(0.0), fresh.freeze(0.0))


@settings(max_examples=80, deadline=None)
@given(SEEDS)
def test_passes_repeat_until_nothing_more_can_start(seed: int) -> None:
    rng = random.Random(seed)
    world = random_world(rng)
    for _ in range(20):
        step(world, rng)
    world.run()
    world.ticks += 1.0
    while world.cycle.due():
        world.run()
        world.ticks += 1.0
    assert world.run() == []
    assert world.cycle.counters.conflicts == 0
    for job_id in world.state.schedulable:
        assert world.state.jobs[job_id].reason is not Reason.NONE


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_equal_jobs_start_in_submit_order(seed: int) -> None:
    rng = random.Random(seed)
    world = random_world(rng)
    fields = {**random_request(rng, list(world.state.nodes)), "nice": 0, "array": 0}
    jobs = [world.submit(**fields) for _ in range(12)]
    started: list[int] = []
    for _ in range(30):
        started.extend(j.job_id for j in world.run())
        if world.state.active:
            world.end(world.state.jobs[rng.choice(sorted(world.state.active))])
    assert started == [j.job_id for j in jobs][: len(started)]


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_same_input_same_plan_and_order_of_taking_in_does_not_matter(seed: int) -> None:
    rng = random.Random(seed)
    world = random_world(rng)
    for _ in range(20):
        step(world, rng)
    plans = []
    for turn in range(3):
        columns = Columns(world.options)
        columns.update_cluster(world.state)
        ids = sorted(world.state.schedulable)
        random.Random(turn).shuffle(ids)
        columns._loaded = True
        for job_id in ids:
            columns._take_job(world.state, job_id)
        plan = world.cycle.plan(columns.freeze(0.0))
        plans.append(
            [(s.job_id, s.partition, s.node_idx.tolist(), s.cpus.tolist(), s.mem.tolist()) for s in plan.starts]
        )
    assert plans[0] == plans[1] == plans[2]
