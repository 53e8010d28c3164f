"""Heterogeneous jobs: components start together, on nodes of their own, in their own partitions, or not at all."""

from __future__ import annotations

import pytest
from helpers.sched_world import World, node

from helix.errors import HelixError, Never, UsageError
from helix.indexset import IndexSet
from helix.model import events as ev
from helix.model.codec import msgpack_decoder, to_msgpack
from helix.model.hetjob import OWN_FIELDS, completed, component_records
from helix.model.job import JobRecord, JobSpec
from helix.model.job_state import JobState, Reason
from helix.model.partition import PartitionRecord
from helix_plugins.sched.backfill import Backfill
from helix_plugins.sched.fifo import Fifo
from helixctld.core.asked import asked_tres
from helixctld.core.caller import Caller
from helixctld.core.hetjob import settle_components
from helixctld.core.select_jobs import resolve
from helixctld.core.views import job_getters

ALICE = Caller(uid=1000, gid=1000, user="alice")


@pytest.fixture(params=[Backfill, Fifo])
def world(request: pytest.FixtureRequest) -> World:
    """Two nodes of 4 CPUs in main; two of 8, one with a feature, in gpu."""
    nodes = [node("n1"), node("n2"), node("g1", 8, features=["a100"]), node("g2", 8)]
    partitions = [
        PartitionRecord(name="main", nodes=["n1", "n2"], is_default=True),
        PartitionRecord(name="gpu", nodes=["g1", "g2"]),
    ]
    return World(nodes, partitions=partitions, planner=request.param())


def submit(world: World, *components: JobSpec, **fields: object) -> JobRecord:
    spec = completed(JobSpec(components=list(components), **fields))  # type: ignore[arg-type]
    return world.submit(**{name: getattr(spec, name) for name in spec.__struct_fields__})


def where(job: JobRecord) -> list[list[str]]:
    return [[] if part.alloc is None else part.alloc.nodes for part in component_records(job)]


GPU = JobSpec(partitions=["gpu"], constraint="a100", tasks=2, cpus_per_task=3)


def test_components_start_together_each_in_its_partition(world: World) -> None:
    job = submit(world, GPU, JobSpec(nodes_min=1), cpus_per_task=2)
    assert world.run() == [job]
    assert job.partition == "main"
    assert where(job) == [["n1"], ["g1"], ["n2"]]
    assert job.alloc is not None
    assert job.alloc.cpus == [2, 6, 1]
    assert asked_tres(job, world.state)["node"] == 3


def test_all_wait_while_one_cannot_start(world: World) -> None:
    blocker = world.submit(partitions=["gpu"], nodelist="g1", cpus_per_task=4)
    world.run()
    job = submit(world, GPU, cpus_per_task=2)
    assert world.run() == []
    assert (job.state, job.reason) == (JobState.PENDING, Reason.RESOURCES)
    assert where(job) == [[], []]
    assert world.state.nodes["n1"].cpus_alloc == 0, "nothing is kept for a component that waits"
    world.end(blocker)
    assert world.run() == [job]
    world.end(job)
    assert not any(n.cpus_alloc for n in world.state.nodes.values())


def test_the_component_with_least_choice_is_placed_first(world: World) -> None:
    job = submit(world, JobSpec(partitions=["gpu"], nodelist="g2"), partitions=["gpu"], cpus_per_task=8)
    assert world.run() == [job]
    assert where(job) == [["g1"], ["g2"]]
    one = submit(world, JobSpec(cpus_per_task=1, nodelist="n1"), cpus_per_task=4)
    world.run()
    assert where(one) == [["n2"], ["n1"]]


def test_alternatives_and_counts_inside_components(world: World) -> None:
    job = submit(world, JobSpec(partitions=["gpu"], constraint="a100*1&(!a100)*1"), constraint="[x|!x]", nodes_min=2)
    assert world.run() == [job]
    assert where(job) == [["n1", "n2"], ["g1", "g2"]]


def test_whole_nodes_are_for_all_components(world: World) -> None:
    job = submit(world, JobSpec(exclusive=True), cpus_per_task=1)
    world.run()
    assert job.alloc is not None
    assert job.alloc.whole
    assert job.alloc.cpus == [4, 4]


def test_ids_of_components_are_kept_for_them(world: World) -> None:
    job = submit(world, JobSpec(), JobSpec())
    other = world.submit()
    assert other.job_id == job.job_id + 3
    assert [part.display_id for part in component_records(job)] == [f"{job.job_id}+{k}" for k in range(3)]
    for text in (f"{job.job_id}", f"{job.job_id}+2", f"{job.job_id + 1}"):
        assert [target.job for target in resolve(world.state, text)] == [job]


@pytest.mark.parametrize(
    ("components", "fields", "said"),
    [
        ([JobSpec()], {"array": IndexSet.span(0, 3)}, "cannot be an array"),
        ([JobSpec(partitions=["gpu", "main"])], {}, "component 1: several partitions"),
        ([JobSpec(), JobSpec(partitions=["x"])], {}, "component 2: no partition 'x'"),
        ([JobSpec(nodelist="n9")], {}, "component 1: no node 'n9'"),
        ([JobSpec(components=[JobSpec()])], {}, "component 1: components inside a component"),
        ([JobSpec()] * 128, {}, "more than 128"),
    ],
)
def test_what_components_cannot_be(
    world: World, components: list[JobSpec], fields: dict[str, object], said: str
) -> None:
    with pytest.raises(HelixError, match=said):
        settle_components(world.state, JobSpec(components=components, **fields), ALICE)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("components", "said"),
    [
        ([JobSpec(partitions=["gpu"], constraint="a200")], "component 1: no node of partition gpu has feature 'a200'"),
        ([JobSpec(partitions=["main"], cpus_per_task=8)], "component 1: no node of partition main has 8 CPUs"),
        ([JobSpec(partitions=["main"])] * 2, "its components ask for 3 nodes, each for nodes of its own"),
    ],
)
def test_what_can_never_start_is_refused(world: World, components: list[JobSpec], said: str) -> None:
    spec = settle_components(world.state, JobSpec(components=components), ALICE)
    with pytest.raises(Never, match=said):
        world.feasibility.check_possible(world.state, spec, ["main"])


def test_why_names_the_component_that_waits(world: World) -> None:
    world.submit(partitions=["gpu"], nodelist="g1", cpus_per_task=4)
    world.run()
    job = submit(world, GPU)
    world.run()
    assert "'a100'" in world.why(job)["text"]


def test_expressions_are_read_for_each_component(world: World) -> None:
    spec = settle_components(world.state, JobSpec(components=[JobSpec(require="cpus >")]), ALICE)
    with pytest.raises(UsageError, match="component 1: --require"):
        world.feasibility.check_possible(world.state, spec, ["main"])


def test_fields_of_components_are_fields_of_a_spec() -> None:
    assert set(OWN_FIELDS) <= set(JobSpec.__struct_fields__)


def test_a_closed_partition_of_any_component_keeps_the_job_waiting(world: World) -> None:
    job = submit(world, GPU)
    world.do(ev.PartitionUpdated(t=world.now, name="gpu", changes={"state": "DOWN"}))
    assert world.run() == []
    assert job.reason is Reason.PARTITION_DOWN
    assert world.cycle.counters.conflicts == 0
    world.do(ev.PartitionUpdated(t=world.now, name="gpu", changes={"state": "UP"}))
    assert world.run() == [job]


def test_the_cpu_limit_of_a_components_partition_counts_it() -> None:
    partitions = [
        PartitionRecord(name="main", nodes=["n1"], is_default=True),
        PartitionRecord(name="gpu", nodes=["g1"], max_cpus_per_node=4),
    ]
    w = World([node("n1"), node("g1", 8)], partitions=partitions, planner=Backfill())
    job = submit(w, JobSpec(partitions=["gpu"], cpus_per_task=3))
    assert w.run() == [job]
    small, large = w.submit(partitions=["gpu"]), w.submit(partitions=["gpu"], cpus_per_task=4)
    assert w.run() == [small]
    w.end(job)
    w.end(small)
    assert w.run() == [large]


def test_a_running_job_survives_a_restart(world: World) -> None:
    job = submit(world, GPU, cpus_per_task=2)
    world.run()
    back = msgpack_decoder(JobRecord).decode(to_msgpack(job))
    assert where(back) == where(job) == [["n1"], ["g1"]]
    assert back.spec == job.spec
    assert [part.partition for part in component_records(back)] == ["main", "gpu"]
    assert "het" not in str(to_msgpack(job)), "what is derived for display is not stored"


def test_hwhy_tells_of_the_component_that_does_not_fit() -> None:
    w = World([node("n1", features=["a"]), node("n2", features=["b"])], planner=Backfill())
    w.submit(nodelist="n2", exclusive=True, time_limit_s=600)
    w.run()
    first, second = (
        submit(w, JobSpec(constraint="b"), constraint="a", exclusive=True, time_limit_s=3600) for _ in range(2)
    )
    assert w.run() == []
    for job in (first, second):
        assert w.why(job)["text"].startswith("component 1, 1 node with 'b': waits for 1 node")


def test_each_component_is_expected_on_nodes_of_its_own() -> None:
    nodes = [node("n1"), node("n2"), node("g1", 8, features=["a100"])]
    partitions = [
        PartitionRecord(name="main", nodes=["n1", "n2"], is_default=True),
        PartitionRecord(name="gpu", nodes=["g1"]),
    ]
    w = World(nodes, partitions=partitions, planner=Backfill())
    w.submit(partitions=["gpu"], cpus_per_task=8, time_limit_s=600)
    w.run()
    job = submit(w, GPU, JobSpec(nodes_min=1), exclusive=True, time_limit_s=600)
    assert w.run() == []
    (shown,) = job_getters(["sched_nodes"], w.cycle.expectation)
    first, second, third = (shown(part, w.now) for part in component_records(job))
    assert (sorted((first, third)), second) == (["n1", "n2"], "g1")
