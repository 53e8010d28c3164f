"""What hwhy says: counts, nearest node, advice that holds."""

from __future__ import annotations

import pytest
from helpers.sched_world import World, node

from helix.model import events as ev
from helix.model.job_state import JobState
from helix.model.partition import PartitionRecord
from helix_plugins.sched.backfill import Backfill


def counts(answer: dict[str, object]) -> dict[str, tuple[int, int]]:
    rows = answer["counts"]
    assert isinstance(rows, list)
    return {row["reason"]: (row["nodes"], row["only"]) for row in rows}


def test_counts_say_how_many_nodes_fail_and_how_many_fail_only_that() -> None:
    world = World(
        [
            node("a", 4, 1000, features=["gpu"]),
            node("b", 4, 1000, features=["gpu"]),
            node("c", 4, 1000),
            node("d", 2, 1000, features=["gpu"]),
        ]
    )
    world.submit(cpus_per_task=2, nodelist="a", mem_per_node_mib=900)
    world.run()
    world.update_node("b", drain=True, reason="x")
    job = world.submit(cpus_per_task=4, constraint="gpu", mem_per_node_mib=500)
    world.run()
    answer = world.why(job)
    assert answer["nodes_total"] == 4
    assert counts(answer) == {
        "cpus": (1, 0),
        "memory": (1, 0),
        "down": (1, 1),
        "features": (1, 1),
        "too_few_cpus": (1, 1),
    }
    assert answer["reason"] == "Resources"
    assert answer["nearest"]["node"] in ("a", "c", "d")


def test_jobs_ahead_are_counted_and_not_named() -> None:
    world = World(nodes=1, cpus=4)
    world.submit(cpus_per_task=3, name="secret-one")
    world.submit(cpus_per_task=4, name="secret-two")
    world.submit(cpus_per_task=4, name="secret-three")
    mine = world.submit()
    world.run()
    answer = world.why(mine)
    assert (answer["reason"], answer["ahead"]) == ("Priority", 2)
    assert "would fit now on n1, but 2 jobs" in answer["text"]
    assert "secret" not in str(answer)


def fits_with(world: World, **fields: object) -> bool:
    """Whether a job with this request alone would start now."""
    trial = world.feasibility.test_only(world.state, world.submit(**fields), 0.0)
    return bool(trial["nodes"])


def test_advice_names_the_largest_numbers_that_fit() -> None:
    world = World([node("n1", 8, 1000)])
    world.submit(cpus_per_task=3, mem_per_node_mib=300)
    world.run()
    job = world.submit(cpus_per_task=6, mem_per_node_mib=100)
    world.run()
    assert world.why(job)["advice"] == ["with --cpus-per-task=5 it would fit now"]
    assert fits_with(world, cpus_per_task=5, mem_per_node_mib=100)
    assert not fits_with(world, cpus_per_task=6, mem_per_node_mib=100)
    assert world.why(job)["nearest"] == {"node": "n1", "lacks": "has 5 of 6 CPUs"}


@pytest.mark.parametrize(
    ("fields", "advice"),
    [
        ({"mem_per_node_mib": 900}, "with --mem=700M it would fit now"),
        ({"mem_all": True}, "with --mem=700M it would fit now"),
        ({"tasks": 8, "mem_per_cpu_mib": 1}, "with --ntasks=5 it would fit now"),
        ({"exclusive": True, "mem_per_cpu_mib": 1}, "without --exclusive it would fit now"),
        ({"cpus_per_task": 8, "mem_per_cpu_mib": 1}, "with --cpus-per-task=5 it would fit now"),
        ({"cpus_per_task": 8, "mem_per_cpu_mib": 1}, "with --partition=other it would start now"),
        ({"tasks_per_node": 8, "mem_per_cpu_mib": 1}, "with --ntasks-per-node=5 it would fit now"),
    ],
)
def test_advice(fields: dict[str, object], advice: str) -> None:
    main = PartitionRecord(name="main", nodes=["n1"], is_default=True)
    other = PartitionRecord(name="other", nodes=["n2"])
    secret = PartitionRecord(name="secret", nodes=["n2"], allow_groups=["staff"])
    world = World([node("n1", 8, 1000), node("n2", 8, 1000)], partitions=[main, other, secret])
    world.submit(cpus_per_task=3, mem_per_node_mib=300)
    world.run()
    job = world.submit(**fields)
    world.run()
    given = world.why(job)["advice"]
    assert advice in given
    assert not any("secret" in text for text in given)


def test_advice_on_nodes_constraint_and_lists() -> None:
    world = World([node("n1", 4, features=["x"]), node("n2", 4), node("n3", 4)])
    world.submit(cpus_per_task=4, nodelist="n1")
    world.run()
    wide = world.submit(nodes_min=3, nodes_max=3)
    world.run()
    assert world.why(wide)["advice"] == ["with --nodes=2 it would fit now (2 nodes)"]
    assert "without --constraint it would fit now" in world.why(world.submit(constraint="x"))["advice"]
    assert "without --nodelist it would fit now" in world.why(world.submit(nodelist="n1"))["advice"]
    assert "without --exclude it would fit now" in world.why(world.submit(exclude="n[2-3]"))["advice"]


def test_jobs_that_may_not_start_say_what_they_wait_for() -> None:
    world = World()
    held = world.submit(hold=True)
    later = world.submit(t_begin=2000.0)
    array = world.submit(array=9, array_limit=1)
    running = world.submit()
    world.run()
    assert world.why(held)["advice"] == [f"release it: hctl release {held.job_id}"]
    assert world.why(later)["text"].endswith(":33:20 (in 17 min)")
    assert world.why(later)["t_expected"] == 2000.0
    assert "1 task of the array run, %1 allows 1" in world.why(array)["text"]
    assert "does not wait" in world.why(running)["text"]
    world.do(ev.JobEnded(t=1.0, job_id=running.job_id, attempt=0, state=JobState.COMPLETED))
    assert world.why(running)["counts"] == []


def test_limits_and_closed_partitions() -> None:
    tiny = PartitionRecord(name="tiny", nodes=["n1"], max_time_s=60)
    main = PartitionRecord(name="main", nodes=["n1"], is_default=True)
    world = World(nodes=1, partitions=[main, tiny])
    job = world.submit(partitions=["tiny"], time_limit_s=3600)
    world.run()
    answer = world.why(job)
    assert answer["reason"] == "PartitionTimeLimit"
    assert "--time=1 (minutes)" in answer["advice"][0]
    world.do(ev.PartitionUpdated(t=1.0, name="tiny", changes={"state": "INACTIVE"}))
    assert world.why(job)["reason"] == "PartitionInactive"


def test_down_nodes_are_the_reason_and_the_advice() -> None:
    world = World([node("n1", 4, features=["x"])])
    job = world.submit(cpus_per_task=4)
    world.update_node("n1", drain=True, reason="disk")
    world.run()
    answer = world.why(job)
    assert answer["reason"].startswith("Nodes_required")
    assert answer["advice"] == ["nodes it needs are down or drained: see hinfo -R for why"]
    assert counts(answer) == {"down": (1, 1)}


def test_the_reason_is_the_one_that_listings_give_and_a_deadline_is_told() -> None:
    world = World(nodes=1, planner=Backfill())
    world.submit(exclusive=True, time_limit_s=600)
    world.run()
    first = world.submit(exclusive=True, time_limit_s=600)
    second = world.submit(exclusive=True, time_limit_s=600, t_deadline=world.now + 700)
    world.run()
    assert [world.why(job)["reason"] for job in (first, second)] == [str(first.reason), str(second.reason)]
    assert [str(first.reason), str(second.reason)] == ["Resources", "Priority"]
    assert "it must start within 100 s" in world.why(second)["text"]
    assert "must start" not in world.why(first)["text"]
