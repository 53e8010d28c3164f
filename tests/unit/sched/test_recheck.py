"""Changes of the cluster between the snapshot and the commit of a pass: starts are refused and found again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from helpers.sched_world import World, node

from helix.model import events as ev
from helix.model.hetjob import completed
from helix.model.job import JobRecord, JobSpec
from helix.model.partition import PartitionRecord
from helix_plugins.sched.backfill import Backfill
from helix_plugins.sched.fifo import Fifo


@pytest.fixture(params=[Backfill, Fifo], ids=["backfill", "fifo"])
def world(request: pytest.FixtureRequest) -> World:
    """n1 and n2 have feature a, n3 has b."""
    nodes = [node("n1", features=["a"]), node("n2", features=["a"]), node("n3", features=["b"])]
    return World(nodes, planner=request.param())


def overtaken(world: World, change: Callable[[], object]) -> list[JobRecord]:
    """A pass during whose planning something happens; who started."""
    world.ticks += 1.0
    snapshot = world.cycle.prepare(world.state, world.now)
    plan = world.cycle.plan(snapshot)
    change()
    accepted, _ = world.cycle.commit(plan, world.state, world.now)
    return world.begin(accepted)


def features(world: World, name: str, *words: str) -> Callable[[], None]:
    return lambda: world.update_node(name, changes={"features": list(words)})


def test_a_feature_that_went_away_is_noticed_and_another_node_found(world: World) -> None:
    job = world.submit(constraint="a", cpus_per_task=4)
    other = world.submit(constraint="b", cpus_per_task=4)
    assert overtaken(world, features(world, "n1", "x")) == [other]
    assert world.cycle.counters.conflicts == 1
    assert world.run() == [job]
    assert world.where(job) == ["n2"]


def test_a_change_that_does_not_matter_costs_no_start(world: World) -> None:
    jobs = [world.submit(constraint="a", cpus_per_task=4) for _ in range(2)]
    assert overtaken(world, features(world, "n1", "a", "more")) == jobs


def test_a_condition_that_no_longer_holds(world: World) -> None:
    job = world.submit(require='"b" in features', cpus_per_task=1)
    assert overtaken(world, features(world, "n3", "c")) == []
    assert world.run() == []
    features(world, "n2", "b")()
    assert world.run() == [job]
    assert world.where(job) == ["n2"]


def test_each_part_of_a_chain_is_looked_at(world: World) -> None:
    job = world.submit(constraint="[a*1&b*1]", nodes_min=2)
    assert overtaken(world, features(world, "n3", "a")) == []
    features(world, "n2", "b")()
    assert world.run() == [job]
    assert sorted(world.where(job)) in (["n1", "n2"], ["n2", "n3"])


def test_a_node_that_left_the_partition(world: World) -> None:
    job = world.submit(cpus_per_task=4)
    change = ev.PartitionUpdated(t=world.now, name="main", changes={"nodes": ["n2", "n3"]})
    assert overtaken(world, lambda: world.do(change)) == []
    assert world.run() == [job]
    assert world.where(job) == ["n2"]


def test_a_node_that_drains(world: World) -> None:
    job = world.submit(nodelist="n1")
    assert overtaken(world, lambda: world.update_node("n1", drain=True)) == []
    world.update_node("n1", drain=False)
    assert world.run() == [job]


def test_nodes_that_were_numbered_anew(world: World) -> None:
    job = world.submit(constraint="b")
    records = [world.state.nodes[name] for name in ("n3", "n2", "n1")]
    assert overtaken(world, lambda: world.state.set_nodes(records)) == []
    assert world.run() == [job]
    assert world.where(job) == ["n3"]


def test_one_of_several_partitions_changed(world: World) -> None:
    main = PartitionRecord(name="main", nodes=["n1", "n2", "n3"], is_default=True)
    world.state.set_partitions([PartitionRecord(name="small", nodes=["n1"], priority_tier=2), main])
    job = world.submit(partitions=["small", "main"])
    down = ev.PartitionUpdated(t=world.now, name="small", changes={"state": "DOWN"})
    assert overtaken(world, lambda: world.do(down)) == []
    assert world.run() == [job]
    assert job.partition == "main"


def test_requests_that_were_read_anew_while_a_pass_was_under_way() -> None:
    """Rows of requests are used again: those of the plan may stand for other requests by now."""
    nodes = [node("n1", features=["a"]), node("n2", features=["a"]), node("n3", features=["b"])]
    world = World(nodes, planner=Backfill())
    one = world.submit(constraint="a", cpus_per_task=4)
    world.submit(constraint="b", cpus_per_task=4)

    def change() -> None:
        features(world, "n1", "b")()
        world.do(ev.PartitionUpdated(t=world.now, name="main", changes={"max_time_s": 9000}))
        world.cycle.prepare_ahead(world.state, world.now)  # takes the jobs again
        world.cycle.abandon_ahead()

    assert one not in overtaken(world, change)
    assert one in world.run()
    assert world.where(one) == ["n2"]


def test_components_read_anew_while_a_pass_was_under_way() -> None:
    world = World([node("n1"), node("n2"), node("n3")], planner=Backfill())
    spec = completed(JobSpec(components=[JobSpec(cpus_per_task=4)], cpus_per_task=4))
    job = world.submit(**{name: getattr(spec, name) for name in spec.__struct_fields__})
    other = world.submit(cpus_per_task=4, nodelist="n3")

    def change() -> None:
        world.do(ev.PartitionUpdated(t=world.now, name="main", changes={"max_time_s": 9000}))
        world.cycle.prepare_ahead(world.state, world.now)
        world.cycle.abandon_ahead()

    assert overtaken(world, change) == []
    assert sorted(started.job_id for started in world.run()) == [job.job_id, other.job_id]
