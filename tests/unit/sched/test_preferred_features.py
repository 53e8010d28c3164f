"""--prefer: nodes with the features if the job can start there now, others if not."""

from __future__ import annotations

import pytest
from helpers.sched_world import World, node

from helix.errors import HelixError
from helix.sched.features import parse_preference
from helix.sched.options import MODES, SchedOptions
from helix_plugins.sched.backfill import Backfill

HOUR = 3600


def world(mode: str = "default") -> World:
    nodes = [node("n1"), node("n2", features=["fast"]), node("n3", features=["fast", "ib"])]
    return World(nodes, options=SchedOptions(def_mem_per_cpu_mib=10, bf_mode=mode), planner=Backfill())


@pytest.mark.parametrize("mode", MODES)
def test_preferred_nodes_first_then_others_at_once(mode: str) -> None:
    w = world(mode)
    jobs = [w.submit(cpus_per_task=4, prefer="fast", time_limit_s=HOUR) for _ in range(3)]
    assert w.run() == jobs
    assert [w.where(job) for job in jobs] == [["n2"], ["n3"], ["n1"]]


def test_the_preference_takes_the_place_of_the_constraint() -> None:
    w = world()
    job = w.submit(prefer="ib", constraint="!ib", time_limit_s=HOUR)
    assert w.run() == [job]
    assert w.where(job) == ["n3"]
    other = w.submit(cpus_per_task=4, prefer="ib", constraint="fast", time_limit_s=HOUR)
    assert w.run() == [other]
    assert w.where(other) == ["n2"]


@pytest.mark.parametrize("mode", MODES)
def test_a_job_that_waits_is_promised_the_first_node_that_comes_free(mode: str) -> None:
    w = world(mode)
    for name, hours in (("n1", 1), ("n2", 3), ("n3", 2)):
        w.submit(cpus_per_task=4, nodelist=name, time_limit_s=hours * HOUR)
    w.run()
    job = w.submit(cpus_per_task=4, prefer="fast", time_limit_s=HOUR)
    assert w.run() == []
    found = w.cycle.expectation(job.job_id)
    assert found is not None
    assert found.nodes == ["n1"]
    assert "fast" not in w.why(job)["text"]
    w.submit(cpus_per_task=4, time_limit_s=10 * HOUR)
    w.run()
    for running in [job for job in w.state.jobs.values() if job.is_active and w.where(job) == ["n2"]]:
        w.end(running)
    assert job in w.run()
    assert w.where(job) == ["n2"]


def test_several_preferences_are_tried_in_their_order() -> None:
    w = world()
    job = w.submit(prefer="[ib|fast]", time_limit_s=HOUR)
    assert w.run() == [job]
    assert w.where(job) == ["n3"]


def test_a_preference_that_no_node_can_meet_is_refused_with_the_nearest_name() -> None:
    w = world()
    job = w.submit(prefer="fats")
    with pytest.raises(HelixError, match=r"--prefer: no node of the cluster has feature 'fats'") as caught:
        w.feasibility.check_possible(w.state, job.spec, ["main"])
    assert caught.value.code == "PREFER_NEVER"
    assert "fast" in caught.value.hint


def test_a_constraint_that_cannot_be_met_is_blamed_and_not_the_preference() -> None:
    w = world()
    job = w.submit(prefer="fast", constraint="ib", nodes_min=4, nodes_max=4)
    with pytest.raises(HelixError, match="'ib', 4 asked") as caught:
        w.feasibility.check_possible(w.state, job.spec, ["main"])
    assert "alternatives" not in caught.value.msg


def test_node_counts_have_no_place_in_a_preference() -> None:
    with pytest.raises(HelixError, match="node counts") as caught:
        parse_preference("fast*2")
    assert caught.value.code == "CONSTRAINT_UNSUPPORTED"
    assert parse_preference("  ") is None
    with pytest.raises(HelixError, match=r"^--prefer: 'a&&b': a feature name is missing"):
        parse_preference("a&&b")
